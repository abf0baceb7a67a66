//! The whole engine path, put together as the agent does it: classify, count, close the window, judge it.

use std::hint::black_box;

use ftagent::classify::Classifier;
use ftagent::count::{self, Meter, WINDOWS_PER_SECOND, Window, WindowIndex};
use ftagent::detect::limits::{SetBy, SetLimit};
use ftagent::engine::{self, Engine};

use super::traffic::{self, BEGINNING, Traffic};

/// Packets a second from which an incident opens: above what the busy server here sees in a second, below any flood.
const LIMIT_PPS: u64 = 5_000_000;

/// An engine's settings with a limit that every flood here crosses, so that an incident is open while it is measured.
pub(crate) fn settings_with_limit() -> engine::Settings {
    settings_with(LIMIT_PPS)
}

/// An engine's settings with a limit in packets a second.
pub(crate) fn settings_with(limit_pps: u64) -> engine::Settings {
    let mut settings = engine::Settings::default();
    settings.detect.limits.set_pps = Some(SetLimit {
        value: limit_pps,
        by: SetBy::Local,
    });
    settings
}

/// One worker and the engine behind it.
#[derive(Debug)]
pub(crate) struct Pipeline {
    classifier: Classifier,
    meter: Meter,
    engine: Engine,
    spare: Option<Box<Window>>,
}

impl Pipeline {
    /// A pipeline that begins with the traffic.
    pub(crate) fn new() -> Self {
        let settings = count::Settings::default();
        let first = WindowIndex::of(BEGINNING);
        Self {
            classifier: Classifier::new(traffic::host()),
            spare: Some(Box::new(Window::new(first, settings.seed))),
            meter: Meter::new(settings, first),
            engine: Engine::new(settings_with_limit(), None),
        }
    }

    /// The window that is open.
    pub(crate) const fn open(&self) -> WindowIndex {
        self.meter.open()
    }

    /// Takes so much of a flood that an incident is open, or more.
    ///
    /// # Panics
    ///
    /// When a second of it opens none: then it is no flood, and what is measured is not what it is called.
    pub(crate) fn be_attacked(&mut self, flood: &mut Traffic) {
        for _ in 0..WINDOWS_PER_SECOND {
            flood.renew_sources();
            self.count(flood);
            self.close();
        }
        self.assert_attacked();
    }

    /// An incident is open.
    pub(crate) fn assert_attacked(&self) {
        assert!(
            self.engine.open_incident().is_some(),
            "no incident is open: this measures less than an attack costs"
        );
    }

    /// Counts a window's traffic. Each frame's time is compared with the open window's, as capture does it.
    #[inline]
    pub(crate) fn count(&mut self, traffic: &Traffic) {
        for frame in traffic.frames(self.meter.open()) {
            if frame.at < self.meter.open().start() || frame.at >= self.meter.closes_at() {
                self.close();
            }
            match &self.classifier.classify(&frame) {
                Ok(sample) => self.meter.count(sample),
                Err(reason) => self.meter.refuse(frame.at, *reason),
            }
        }
    }

    /// Closes the open window, has it judged and keeps it for the next but one.
    pub(crate) fn close(&mut self) {
        let next = self.meter.open().next();
        let Some(spare) = self.spare.take() else {
            return;
        };
        let window = self.meter.close(next, spare);
        black_box(self.engine.step(&window, None, window.index.end()));
        self.spare = Some(window);
    }

    /// The open window as it is now, taken out.
    pub(crate) fn take(mut self) -> Box<Window> {
        let next = self.meter.open().next();
        let spare = Box::new(Window::new(next, count::Settings::default().seed));
        self.meter.close(next, spare)
    }
}
