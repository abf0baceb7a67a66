//! The whole engine path, put together as the agent does it: classify, count, close the window, judge it.

use ftagent::classify::Classifier;
use ftagent::count::{self, Meter, Window, WindowIndex};
use ftagent::detect::limits::{SetBy, SetLimit};
use ftagent::engine::{self, Engine};

use super::traffic::{self, BEGINNING, Traffic};

/// Packets a second from which an incident opens: above what the busy server here sees in a second, below any flood.
const LIMIT_PPS: u64 = 5_000_000;

/// An engine's settings with a limit that every flood here crosses, so that an incident is open while it is measured.
pub(crate) fn settings_with_limit() -> engine::Settings {
    let mut settings = engine::Settings::default();
    settings.detect.limits.set_pps = Some(SetLimit {
        value: LIMIT_PPS,
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
    events: usize,
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
            events: 0,
        }
    }

    /// The window that is open.
    pub(crate) const fn open(&self) -> WindowIndex {
        self.meter.open()
    }

    /// How many events there were so far.
    pub(crate) const fn events(&self) -> usize {
        self.events
    }

    /// Counts a window's traffic.
    #[inline]
    pub(crate) fn count(&mut self, traffic: &Traffic) {
        for frame in traffic.frames(self.meter.open()) {
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
        let outcome = self.engine.step(&window, None, window.index.end());
        self.events += outcome.events.len();
        self.spare = Some(window);
    }

    /// The open window as it is now, taken out.
    pub(crate) fn take(mut self) -> Box<Window> {
        let next = self.meter.open().next();
        let spare = Box::new(Window::new(next, count::Settings::default().seed));
        self.meter.close(next, spare)
    }
}
