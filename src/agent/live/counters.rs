//! The interfaces' counters as the detector's thread reads them: which to ask for, when, and what they come to.

use std::sync::Arc;

use super::links::{LinkState, Links};
use crate::capture::counter::{Captured, CounterReading, NicReading, Pushed, WatchedCounter};
use crate::capture::nic::CounterSource;
use crate::count::WINDOW_NANOS;

/// The counters of all interfaces that are watched.
pub(super) struct Counters {
    /// None where the kernel grants no counters: figures are then those of the packets captured.
    source: Option<CounterSource>,
    sum: WatchedCounter,
    links: Arc<Links>,
    seen: Vec<LinkState>,
    /// When the newest reading was taken, on the timeline.
    read_nanos: Option<u64>,
}

/// What has become of the interfaces since the last window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attendance {
    /// All of them were watched, then and now.
    pub(super) complete: bool,
    /// One came back.
    pub(super) came_up: bool,
}

impl Counters {
    /// Counters of `links`, read from `source`, which was opened for them in the same order.
    pub(super) fn new(source: Option<CounterSource>, links: Arc<Links>) -> Self {
        Self {
            source,
            sum: WatchedCounter::new(links.len(), WINDOW_NANOS),
            seen: (0..links.len()).map(|link| links.state(link)).collect(),
            links,
            read_nanos: None,
        }
    }

    /// Looks after the interfaces: one that is captured anew is asked for by its new number, and its count begins with
    /// its next reading, for it may have counted for a while, or start from zero.
    pub(super) fn follow_links(&mut self) -> Attendance {
        let mut attendance = Attendance {
            complete: true,
            came_up: false,
        };
        for (link, seen) in self.seen.iter_mut().enumerate() {
            let now = self.links.state(link);
            attendance.complete &= now.is_watched && seen.is_watched;
            attendance.came_up |= now.is_watched && !seen.is_watched;
            if (now.index, now.captures) != (seen.index, seen.captures) {
                // A capture that began between two looks was not complete, whatever it is now.
                attendance.complete = false;
                attendance.came_up |= now.is_watched;
                self.sum.restart(link);
                if let Some(source) = &mut self.source {
                    source.replace(link, now.index);
                }
            }
            *seen = now;
        }
        attendance
    }

    /// Reads them all; `elapsed_nanos` is the time on the timeline. A reading that fails is made good by the next.
    pub(super) fn read(&mut self, elapsed_nanos: impl Fn() -> u64) {
        let Some(source) = &mut self.source else {
            return;
        };
        let before = elapsed_nanos();
        let Ok(counters) = source.read() else { return };
        let after = elapsed_nanos();
        self.links.note_counters(counters);
        for (link, counters) in counters.iter().enumerate() {
            let reading = counters.map(|counters| counters.reading(before, after));
            let pushed = self.sum.push(link, reading);
            note_time(&mut self.read_nanos, reading, pushed);
        }
    }

    /// Whether a reading tells of this time already. When this thread was held up, the first one after it does for all
    /// windows in between: more of them, microseconds apart, would look like counters that stand still under traffic.
    pub(super) fn are_read_after(&self, end_nanos: u64) -> bool {
        self.read_nanos.is_some_and(|read| read >= end_nanos)
    }

    /// The interfaces' figures for the window that ends at `end_nanos`; see [`WatchedCounter::window`].
    pub(super) fn window(&mut self, end_nanos: u64, captured: &[Captured]) -> Option<NicReading> {
        self.sum.window(end_nanos, captured)
    }

    /// Leaves out everything before this time, so that it does not fall into the next window, and says how many packets
    /// that was; `None` where none were ever read.
    pub(super) fn pass_over(&mut self, until_nanos: u64) -> Option<u64> {
        let passed = self.sum.pass_over(until_nanos);
        self.read_nanos.map(|_| passed)
    }

    /// A reading that a test makes up.
    #[cfg(test)]
    pub(super) fn push(&mut self, link: usize, reading: Option<CounterReading>) {
        let pushed = self.sum.push(link, reading);
        note_time(&mut self.read_nanos, reading, pushed);
    }
}

fn note_time(read_nanos: &mut Option<u64>, reading: Option<CounterReading>, pushed: Pushed) {
    if let Some(reading) = reading.filter(|_| pushed != Pushed::Discarded) {
        *read_nanos = Some(reading.taken_before_nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::counter::NicQuality;

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
        let mut counters = Counters::new(None, Arc::new(Links::new(["eth0".to_owned()])));
        counters.push(0, reading(0));
        counters
    }

    fn captured(packets: u64) -> [Captured; 1] {
        [Captured {
            on_time: packets,
            packets,
            bytes: packets * 100,
        }]
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
            let nic = counters.window(end_nanos, &captured(1_000));
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
        assert_eq!(packets(counters.window(WINDOW_NANOS, &[])), 1_000);
        // Twenty seconds later.
        counters.push(0, reading(20_003 * MILLI));
        assert_eq!(counters.pass_over(400 * WINDOW_NANOS), Some(399 * 1_000));
        counters.push(0, reading(20_053 * MILLI));
        assert_eq!(packets(counters.window(401 * WINDOW_NANOS, &[])), 1_000);
        let links = Arc::new(Links::new(["eth0".to_owned()]));
        assert_eq!(Counters::new(None, links).pass_over(WINDOW_NANOS), None);
    }

    #[test]
    fn an_interface_that_is_captured_anew_begins_a_new_count() {
        let links = Arc::new(Links::new(["eth0".to_owned()]));
        let state = |index, is_watched, captures| LinkState {
            index,
            is_watched,
            captures,
        };
        links.set(0, state(Some(3), true, 1));
        let mut counters = Counters::new(None, Arc::clone(&links));
        let steady = Attendance {
            complete: true,
            came_up: false,
        };
        assert_eq!(counters.follow_links(), steady);
        counters.push(0, reading(0));
        counters.push(0, reading(WINDOW_NANOS));
        assert_eq!(packets(counters.window(WINDOW_NANOS, &[])), 1_000);

        links.set(0, state(None, false, 1));
        assert!(!counters.follow_links().complete);
        counters.push(0, None);
        assert_eq!(counters.window(2 * WINDOW_NANOS, &[]), None);

        // Its counter stands at a million when it is read first.
        links.set(0, state(Some(8), true, 2));
        let back = counters.follow_links();
        assert!(back.came_up && !back.complete);
        let anew = |at: u64| {
            reading(at).map(|reading| CounterReading {
                packets: reading.packets + 1_000_000,
                bytes: reading.bytes + 60_000_000,
                ..reading
            })
        };
        counters.push(0, anew(3 * WINDOW_NANOS));
        assert_eq!(counters.window(3 * WINDOW_NANOS, &captured(7)), None);
        counters.push(0, anew(4 * WINDOW_NANOS));
        assert_eq!(packets(counters.window(4 * WINDOW_NANOS, &[])), 1_000);
        assert_eq!(counters.follow_links(), steady);
    }

    #[test]
    fn an_interface_that_was_away_between_two_looks_is_noticed() {
        let links = Arc::new(Links::new(["eth0".to_owned()]));
        let captured = |captures| LinkState {
            index: Some(3),
            is_watched: true,
            captures,
        };
        links.set(0, captured(1));
        let mut counters = Counters::new(None, Arc::clone(&links));
        links.set(0, captured(2));
        let attendance = counters.follow_links();
        assert!(attendance.came_up && !attendance.complete);
    }

    fn packets(nic: Option<NicReading>) -> u64 {
        nic.expect("a reading").packets
    }
}
