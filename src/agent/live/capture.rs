//! The capture thread: source, classifier, meter; one for each interface.
//!
//! Per packet it does nothing but these three. It never waits for anything but frames: when the detector holds all
//! spare windows, it goes on counting in the open one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use super::timeline::{Steady, Timeline};
use crate::capture::live::{LiveSource, Loss};
use crate::capture::{Capture, CaptureError, Frame, PacketSource};
use crate::classify::{self, Classifier};
use crate::clock::Timestamp;
use crate::count::{self, Meter, Window, WindowIndex};

/// A closed window on its way to the detector, from the interface of this number.
pub(super) type Delivery = (usize, Box<Window>);

/// What a capture thread works with.
pub(super) struct CaptureThread {
    pub(super) link: usize,
    pub(super) source: LiveSource,
    pub(super) classify: classify::Settings,
    pub(super) count: count::Settings,
    pub(super) timeline: Timeline,
    pub(super) deliveries: SyncSender<Delivery>,
    pub(super) spares: Receiver<Box<Window>>,
    pub(super) stop: Arc<AtomicBool>,
}

impl CaptureThread {
    /// Captures until it is told to stop or cannot go on. The window that is open then is delivered too.
    pub(super) fn run(self) -> Result<(), CaptureError> {
        let lag_nanos = u64::from(self.source.lag_millis()) * 1_000_000;
        let mut worker = Worker {
            classifier: Classifier::new(self.classify),
            meter: Meter::new(self.count, WindowIndex::of(self.timeline.now())),
            steady: Steady::new(self.timeline),
            link: self.link,
            deliveries: self.deliveries,
            spares: self.spares,
            loss: Loss::default(),
        };
        let mut source = self.source;
        let ended = loop {
            match source.next() {
                Ok(Capture::Frame(frame)) => {
                    if worker.must_look_at_time(frame.at) {
                        let at = worker.steady.check(frame.at);
                        let loss = worker.close_until(at);
                        worker.frame(&frame);
                        if loss {
                            worker.note_loss(source.loss()?);
                        }
                    } else {
                        worker.frame(&frame);
                    }
                }
                Ok(Capture::Idle) => {
                    let now = self.timeline.now();
                    // Whatever came before this has been handed out.
                    let settled = Timestamp::from_nanos(now.as_nanos().saturating_sub(lag_nanos));
                    if worker.close_until(settled) {
                        worker.note_loss(source.loss()?);
                    }
                    source.wait_at_most(
                        worker
                            .meter
                            .closes_at()
                            .plus_nanos(lag_nanos)
                            .millis_until(now),
                    );
                    if self.stop.load(Ordering::Relaxed) {
                        break Ok(());
                    }
                }
                Ok(Capture::End) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        worker.finish();
        ended
    }
}

struct Worker {
    classifier: Classifier,
    meter: Meter,
    steady: Steady,
    link: usize,
    deliveries: SyncSender<Delivery>,
    spares: Receiver<Box<Window>>,
    loss: Loss,
}

impl Worker {
    /// Whether a frame begins a later window or seems older than the open one.
    #[inline]
    fn must_look_at_time(&self, stamp: Timestamp) -> bool {
        let at = self.steady.at(stamp);
        at >= self.meter.closes_at() || at < self.meter.open().start()
    }

    #[inline]
    fn frame(&mut self, frame: &Frame<'_>) {
        let at = self.steady.at(frame.at);
        // By reference: moving a sample out of its result would copy it.
        match &self.classifier.classify(&Frame { at, ..*frame }) {
            Ok(sample) => self.meter.count(sample),
            Err(reason) => self.meter.refuse(at, *reason),
        }
    }

    /// Closes windows until the one that `at` falls into is open. Says whether it closed any.
    fn close_until(&mut self, at: Timestamp) -> bool {
        let target = WindowIndex::of(at);
        if target <= self.meter.open() {
            return false;
        }
        // Windows nobody saw anything in need not be sent: the detector knows silence when it sees no window.
        match self.spares.try_recv() {
            Ok(spare) => {
                let closed = self.meter.close(target, spare);
                self.deliver(closed);
            }
            Err(_) => self.meter.stretch(target),
        }
        true
    }

    fn deliver(&mut self, window: Box<Window>) {
        match self.deliveries.try_send((self.link, window)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // There is room for every window there is, so this cannot be; should it, the counters still have it all.
            Err(TrySendError::Full(_)) => debug_assert!(false, "more windows than were made"),
        }
    }

    /// Books what was lost since the last time into the open window.
    fn note_loss(&mut self, now: Loss) {
        let window = self.meter.window_mut();
        window.loss.ring += now.ring_drops.saturating_sub(self.loss.ring_drops);
        window.loss.interface += now
            .interface_drops
            .saturating_sub(self.loss.interface_drops);
        self.loss = now;
    }

    fn finish(&mut self) {
        let next = self.meter.open().next();
        if let Ok(spare) = self.spares.try_recv() {
            let closed = self.meter.close(next, spare);
            self.deliver(closed);
        }
    }
}
