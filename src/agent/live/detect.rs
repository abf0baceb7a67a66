//! The detector's thread: merges the interfaces' windows, reads their counters, steps the engine.
//!
//! A window is judged when its counters are in and capture has passed its end, at latest [`JUDGED_AFTER`] after that.
//! This thread never touches the network or the disk: outcomes and snapshots go to others through bounded queues, and
//! what does not fit is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

use super::Sink;
use super::capture::Delivery;
use super::timeline::Timeline;
use crate::capture::counter::{NicQuality, NicReading, WatchedCounter};
use crate::capture::nic::CounterSource;
use crate::clock::Timestamp;
use crate::count::{WINDOW_NANOS, WINDOWS_PER_SECOND, Window, WindowIndex};
use crate::detect::baseline::BaselineState;
use crate::engine::Engine;

/// Counters are read so long after a window's end: late enough for the timer to be past it, early enough for the line
/// between two readings to be straight.
const COUNTERS_AFTER_NANOS: u64 = 3_000_000;

/// A window that capture has not closed by then is judged without it; what it brings later is counted later.
const JUDGED_AFTER_NANOS: u64 = 30_000_000;

/// When the detector is this far behind, it stops catching up window by window and takes the rest as a gap.
const BEHIND_WINDOWS: u64 = 10 * WINDOWS_PER_SECOND;

/// How often the baseline is handed out to be stored, in windows: the open slot every 60 s.
const SNAPSHOT_WINDOWS: u64 = 60 * WINDOWS_PER_SECOND;

/// What the detector's thread works with.
pub(super) struct DetectThread {
    pub(super) engine: Engine,
    pub(super) timeline: Timeline,
    pub(super) deliveries: Receiver<Delivery>,
    pub(super) spares: Vec<SyncSender<Box<Window>>>,
    pub(super) counters: Option<CounterSource>,
    pub(super) seed: u64,
    pub(super) sink: Box<dyn Sink>,
    pub(super) snapshots: Option<SyncSender<BaselineState>>,
    pub(super) stop: Arc<AtomicBool>,
}

/// Windows that came and are not judged yet.
#[derive(Default)]
struct Waiting {
    windows: Vec<Delivery>,
    /// For each interface, the latest window it has closed.
    passed: Vec<Option<WindowIndex>>,
}

impl DetectThread {
    /// Judges windows until it is told to stop, then resolves what is open.
    pub(super) fn run(mut self) {
        let links = self.spares.len();
        let mut waiting = Waiting {
            windows: Vec::new(),
            passed: vec![None; links],
        };
        let mut counter = WatchedCounter::new(links, WINDOW_NANOS);
        let mut merged = Window::new(WindowIndex::default(), self.seed);
        let mut captured = vec![0; links];
        let mut owed = 0;
        let mut index = WindowIndex::of(self.timeline.now());
        self.read_counters(&mut counter);
        loop {
            let end = index.end();
            self.collect(&mut waiting, end.plus_nanos(COUNTERS_AFTER_NANOS), None);
            self.read_counters(&mut counter);
            self.collect(
                &mut waiting,
                end.plus_nanos(JUDGED_AFTER_NANOS),
                Some(index),
            );
            merged.reset(index);
            captured.fill(0);
            self.merge(&mut waiting, &mut merged, &mut captured);
            let nic = reading(
                &mut counter,
                self.timeline.nanos_of(end),
                &captured,
                &mut owed,
            );
            if let Some(nic) = nic {
                merged.loss.interface += nic.missed;
            }
            let now = self.timeline.now();
            let outcome = self.engine.step(&merged, nic, now);
            self.sink.outcome(outcome, now);
            if index
                .since(WindowIndex::default())
                .is_multiple_of(SNAPSHOT_WINDOWS)
            {
                self.snapshot();
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            index = index.next();
            let current = WindowIndex::of(now);
            if current.since(index) > BEHIND_WINDOWS {
                index = current;
            }
        }
        let last = self.engine.finish();
        self.sink.outcome(last, self.timeline.now());
        self.snapshot();
    }

    /// Takes deliveries until `deadline`, or until every interface has passed `complete`.
    fn collect(&self, waiting: &mut Waiting, deadline: Timestamp, complete: Option<WindowIndex>) {
        loop {
            if complete.is_some_and(|index| waiting.have_passed(index)) {
                return;
            }
            let patience = self.timeline.until(deadline);
            if patience.is_zero() {
                while let Ok(delivery) = self.deliveries.try_recv() {
                    waiting.add(delivery);
                }
                return;
            }
            match self.deliveries.recv_timeout(patience) {
                Ok(delivery) => waiting.add(delivery),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(self.timeline.until(deadline));
                    return;
                }
            }
        }
    }

    /// Merges what belongs to the window and before, and gives the windows back.
    fn merge(&self, waiting: &mut Waiting, merged: &mut Window, captured: &mut [u64]) {
        let index = merged.index;
        let mut later = Vec::with_capacity(waiting.windows.len());
        for (link, window) in waiting.windows.drain(..) {
            if window.index > index {
                later.push((link, window));
                continue;
            }
            merged.merge(&window);
            if window.index < index {
                merged.loss.delayed += window.inbound.frames.packets;
            }
            if let Some(packets) = captured.get_mut(link) {
                *packets += window.inbound.frames.packets;
            }
            if let Some(spares) = self.spares.get(link) {
                // The thread that ended needs no window back.
                let _ = spares.try_send(window);
            }
        }
        waiting.windows = later;
    }

    fn read_counters(&mut self, counter: &mut WatchedCounter) {
        let Some(source) = &mut self.counters else {
            return;
        };
        let before = self.timeline.elapsed_nanos();
        let Ok(links) = source.read() else { return };
        let after = self.timeline.elapsed_nanos();
        for (link, counters) in links.iter().enumerate() {
            counter.push(
                link,
                counters.map(|counters| counters.reading(before, after)),
            );
        }
    }

    /// Hands out what was learned; when the last snapshot is not stored yet, this one is left out.
    fn snapshot(&self) {
        if let Some(snapshots) = &self.snapshots {
            let _ = snapshots.try_send(self.engine.detector().baseline().state());
        }
    }
}

impl Waiting {
    fn add(&mut self, (link, window): Delivery) {
        if let Some(passed) = self.passed.get_mut(link) {
            *passed = (*passed).max(Some(window.index));
        }
        self.windows.push((link, window));
    }

    fn have_passed(&self, index: WindowIndex) -> bool {
        self.passed.iter().all(|passed| *passed >= Some(index))
    }
}

/// The interfaces' figures for the window, and what is owed from windows that were judged without any: totals stay
/// exact, only a little later.
fn reading(
    counter: &mut WatchedCounter,
    end_nanos: u64,
    captured: &[u64],
    owed: &mut u64,
) -> Option<NicReading> {
    let nic = counter.window(end_nanos, captured);
    let late = counter.take_late();
    let Some(mut reading) = nic else {
        *owed += captured.iter().sum::<u64>();
        return None;
    };
    if let Some(late) = late {
        let judged_by_capture = std::mem::take(owed);
        let missing = late.reading.packets.saturating_sub(judged_by_capture);
        if let Some(bytes) = late
            .reading
            .bytes
            .saturating_mul(missing)
            .checked_div(late.reading.packets)
        {
            reading.bytes += bytes;
        }
        reading.packets += missing;
        reading.missed += late.reading.missed;
        reading.quality = reading.quality.max(NicQuality::Spread);
    }
    Some(reading)
}
