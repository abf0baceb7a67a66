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
use crate::capture::counter::{CounterReading, NicQuality, NicReading, Pushed, WatchedCounter};
use crate::capture::nic::CounterSource;
use crate::clock::Timestamp;
use crate::count::{WINDOW_NANOS, WINDOWS_PER_SECOND, Window, WindowIndex};
use crate::engine::Engine;
use crate::ledger::Ledger;
use crate::words::{Duration, Thousands};

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
    pub(super) ledger: Option<Ledger>,
    pub(super) stop: Arc<AtomicBool>,
}

/// The interfaces' counters as this thread reads them.
struct Counters {
    watched: WatchedCounter,
    /// When the newest reading was taken, on the timeline.
    read_nanos: Option<u64>,
    /// Packets of windows that were judged without a reading.
    owed: u64,
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
        let mut counters = Counters {
            watched: WatchedCounter::new(links, WINDOW_NANOS),
            read_nanos: None,
            owed: 0,
        };
        let mut merged = Window::new(WindowIndex::default(), self.seed);
        let mut on_time = vec![0; links];
        let mut index = WindowIndex::of(self.timeline.now());
        self.read_counters(&mut counters);
        loop {
            let end = index.end();
            self.collect(&mut waiting, end.plus_nanos(COUNTERS_AFTER_NANOS), None);
            let end_nanos = self.timeline.nanos_of(end);
            if !counters.are_read_after(end_nanos) {
                self.read_counters(&mut counters);
            }
            self.collect(
                &mut waiting,
                end.plus_nanos(JUDGED_AFTER_NANOS),
                Some(index),
            );
            merged.reset(index);
            on_time.fill(0);
            waiting.merge(&mut merged, &mut on_time, |link, window| {
                if let Some(spares) = self.spares.get(link) {
                    // The thread that ended needs no window back.
                    let _ = spares.try_send(window);
                }
            });
            let nic = counters.window(end_nanos, &on_time, merged.inbound.frames.packets);
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
            let behind = current.since(index);
            if behind > BEHIND_WINDOWS {
                // One that is later than the time to go on from.
                self.read_counters(&mut counters);
                let passed = counters.pass_over(self.timeline.nanos_of(current.start()));
                log::warn!(
                    "held up for {}: {} packets came in a time that is not judged",
                    Duration(behind * WINDOW_NANOS / 1_000_000),
                    Thousands(passed),
                );
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

    fn read_counters(&mut self, counters: &mut Counters) {
        let Some(source) = &mut self.counters else {
            return;
        };
        let before = self.timeline.elapsed_nanos();
        let Ok(links) = source.read() else { return };
        let after = self.timeline.elapsed_nanos();
        for (link, read) in links.iter().enumerate() {
            counters.push(link, read.map(|read| read.reading(before, after)));
        }
    }

    /// Hands out what was learned.
    fn snapshot(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.baseline(self.engine.detector().baseline().state());
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

    /// Merges what belongs to the window and before, adds what came in time to `on_time`, and gives the windows back.
    fn merge(
        &mut self,
        merged: &mut Window,
        on_time: &mut [u64],
        mut give_back: impl FnMut(usize, Box<Window>),
    ) {
        let index = merged.index;
        let mut later = Vec::with_capacity(self.windows.len());
        for (link, window) in self.windows.drain(..) {
            if window.index > index {
                later.push((link, window));
                continue;
            }
            merged.merge(&window);
            // A window that was stretched has booked what it held until then.
            let rest = window
                .inbound
                .frames
                .packets
                .saturating_sub(window.loss.delayed);
            if window.index < index {
                merged.loss.delayed += rest;
            } else if let Some(packets) = on_time.get_mut(link) {
                *packets += rest;
            }
            give_back(link, window);
        }
        self.windows = later;
    }

    fn have_passed(&self, index: WindowIndex) -> bool {
        self.passed.iter().all(|passed| *passed >= Some(index))
    }
}

impl Counters {
    fn push(&mut self, link: usize, reading: Option<CounterReading>) {
        let pushed = self.watched.push(link, reading);
        if let Some(reading) = reading.filter(|_| pushed != Pushed::Discarded) {
            self.read_nanos = Some(reading.taken_before_nanos);
        }
    }

    /// Whether a reading tells of this time already. When this thread was held up, the first one after it does for all
    /// windows in between: more of them, microseconds apart, would look like counters that stand still under traffic.
    fn are_read_after(&self, end_nanos: u64) -> bool {
        self.read_nanos.is_some_and(|read| read >= end_nanos)
    }

    /// The interfaces' figures for the window, and what is owed from windows that were judged without any: totals stay
    /// exact, only a little later. `on_time` is what capture saw in the window itself, `judged` what stands in for the
    /// figures when there are none.
    fn window(&mut self, end_nanos: u64, on_time: &[u64], judged: u64) -> Option<NicReading> {
        let nic = self.watched.window(end_nanos, on_time);
        let late = self.watched.take_late();
        let Some(mut reading) = nic else {
            self.owed += judged;
            return None;
        };
        if let Some(late) = late {
            let judged_by_capture = std::mem::take(&mut self.owed);
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

    /// Leaves out everything before this time, so that it does not fall into the next window, and says how many packets
    /// that was.
    fn pass_over(&mut self, until_nanos: u64) -> u64 {
        let passed = self.watched.window(until_nanos, &[]);
        let late = self.watched.take_late();
        self.owed = 0;
        let late = late.map_or(0, |late| late.reading.packets);
        passed.map_or(0, |passed| passed.packets) + late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// A thousand packets of 100 bytes every 50 ms.
    fn reading(at_nanos: u64) -> Option<CounterReading> {
        let packets = at_nanos / MILLI * 20;
        Some(CounterReading {
            taken_before_nanos: at_nanos,
            taken_after_nanos: at_nanos,
            packets,
            bytes: packets * 100,
            missed: 0,
        })
    }

    fn counters() -> Counters {
        let mut counters = Counters {
            watched: WatchedCounter::new(1, WINDOW_NANOS),
            read_nanos: None,
            owed: 0,
        };
        counters.push(0, reading(0));
        counters
    }

    fn window(index: WindowIndex, packets: u64, delayed: u64) -> Box<Window> {
        let mut window = Window::new(index, 1);
        window.inbound.frames.packets = packets;
        window.loss.delayed = delayed;
        Box::new(window)
    }

    #[test]
    fn what_comes_after_its_window_is_merged_and_called_delayed_once() {
        let first = WindowIndex::of(Timestamp::from_seconds(1_000));
        let (second, third) = (first.next(), first.next().next());
        let mut waiting = Waiting {
            windows: Vec::new(),
            passed: vec![None; 2],
        };
        // One that was late, one that was late and had been stretched, one in time, one stretched, and one of later.
        for delivery in [
            (0, window(first, 10, 0)),
            (0, window(first, 20, 15)),
            (0, window(second, 100, 0)),
            (1, window(second, 200, 60)),
            (1, window(third, 1_000, 0)),
        ] {
            waiting.add(delivery);
        }
        let mut merged = Window::new(second, 1);
        let mut on_time = [0; 2];
        let mut given_back = Vec::new();
        waiting.merge(&mut merged, &mut on_time, |link, _| given_back.push(link));
        assert_eq!(merged.inbound.frames.packets, 330);
        assert_eq!(merged.loss.delayed, 10 + 20 + 60);
        assert_eq!(on_time, [100, 140]);
        assert_eq!(given_back, [0, 0, 0, 1]);
        assert_eq!(waiting.windows.len(), 1);
    }

    #[test]
    fn one_reading_does_for_all_windows_that_this_thread_was_held_up_for() {
        let mut counters = counters();
        let mut packets = 0;
        for index in 1..=60 {
            let end_nanos = index * WINDOW_NANOS;
            // At work for a second, held up for a second and a half, at work again. While it catches up, each window
            // takes ten microseconds.
            let now_nanos = match index {
                20..50 => 50 * WINDOW_NANOS + 3 * MILLI + index * 10_000,
                index => index * WINDOW_NANOS + 3 * MILLI,
            };
            if !counters.are_read_after(end_nanos) {
                counters.push(0, reading(now_nanos));
            }
            let nic = counters.window(end_nanos, &[1_000], 1_000);
            let nic = nic.expect("there is always a reading");
            assert_ne!(nic.quality, NicQuality::Stepping, "{index}");
            packets += nic.packets;
        }
        assert_eq!(packets, 60 * 1_000);
    }

    #[test]
    fn a_time_that_is_not_judged_does_not_fall_into_the_window_after_it() {
        let mut counters = counters();
        counters.push(0, reading(53 * MILLI));
        assert_eq!(packets(counters.window(WINDOW_NANOS, &[0], 0)), 1_000);
        // Twenty seconds later.
        counters.push(0, reading(20_003 * MILLI));
        assert_eq!(counters.pass_over(400 * WINDOW_NANOS), 399 * 1_000);
        counters.push(0, reading(20_053 * MILLI));
        assert_eq!(packets(counters.window(401 * WINDOW_NANOS, &[0], 0)), 1_000);
    }

    fn packets(nic: Option<NicReading>) -> u64 {
        nic.expect("a reading").packets
    }
}
