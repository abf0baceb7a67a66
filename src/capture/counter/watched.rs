//! Several interfaces watched together: one reading a window, their sum.
//!
//! An interface without a reading of its own takes nothing away from the others: what capture saw of it stands in, and
//! is set off against the reading once that comes. One that is gone counts nothing. Pure.

use super::{CounterReading, NicQuality, NicReading, Pushed, WindowCounter};

/// What capture saw of one interface in one window, inbound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Packets of the window itself (with sampling: scaled). They tell a link without traffic from a counter that
    /// stands still.
    pub on_time: u64,
    /// Packets judged with the window: those, and what came too late for earlier ones.
    pub packets: u64,
    /// Bytes of `packets` at layer 2.
    pub bytes: u64,
}

/// Adds up the interfaces, numbered in the order they are watched in, from 0.
///
/// For each window: [`push`](Self::push) every interface's reading taken after its end, then take
/// [`window`](Self::window).
#[derive(Clone, Debug)]
pub struct WatchedCounter {
    links: Vec<Link>,
}

#[derive(Clone, Debug)]
struct Link {
    counter: WindowCounter,
    /// Whether it was said to be gone, and no reading came since.
    gone: bool,
    /// Packets of windows that were judged by capture and for which a reading can still come.
    owed: u64,
    /// Readings that came too late for their windows and are not handed out yet.
    late: Gained,
}

/// Packets and bytes of some windows.
#[derive(Clone, Copy, Debug, Default)]
struct Gained {
    packets: u64,
    bytes: u64,
    missed: u64,
}

/// What an interface adds to the sum.
enum Part {
    Nothing,
    /// Its own reading.
    Measured(Gained, NicQuality),
    /// What capture saw, for want of a reading.
    StoodIn(Gained),
    /// What capture saw, because the counter is refreshed too seldom.
    Stepping(Gained),
}

impl WatchedCounter {
    /// Counters for `links` interfaces.
    #[must_use]
    pub fn new(links: usize, window_nanos: u64) -> Self {
        let link = Link {
            counter: WindowCounter::new(window_nanos),
            gone: false,
            owed: 0,
            late: Gained::default(),
        };
        Self {
            links: vec![link; links],
        }
    }

    /// Adds one interface's reading; `None` says that the interface is gone.
    pub fn push(&mut self, link: usize, reading: Option<CounterReading>) -> Pushed {
        let Some(link) = self.links.get_mut(link) else {
            return Pushed::Discarded;
        };
        link.gone = reading.is_none();
        match reading {
            Some(reading) => link.counter.push(reading),
            None => {
                link.forget();
                Pushed::Restarted
            }
        }
    }

    /// Begins an interface's count anew with its next reading: another one bears its name now.
    pub fn restart(&mut self, link: usize) {
        if let Some(link) = self.links.get_mut(link) {
            link.forget();
        }
    }

    /// The sum of the interfaces in the window that ends at `end_nanos`; `None` when none of them has a reading, so that
    /// the window is judged as captured. `captured` is by interface; one that is missing saw nothing.
    ///
    /// What came too late for an earlier window is in it, less what stood in for it then: totals stay exact.
    pub fn window(&mut self, end_nanos: u64, captured: &[Captured]) -> Option<NicReading> {
        let captured = captured
            .iter()
            .copied()
            .chain(std::iter::repeat(Captured::default()));
        let mut sum = Gained::default();
        let (mut measured, mut stepping, mut others) = (None, false, false);
        // Every interface must close the window, so no short-cut at the first that has no reading.
        for (link, captured) in self.links.iter_mut().zip(captured) {
            match link.window(end_nanos, captured) {
                Part::Nothing => {}
                Part::Measured(gained, quality) => {
                    sum.add(gained);
                    measured = measured.max(Some(quality));
                }
                Part::StoodIn(gained) => {
                    sum.add(gained);
                    others = true;
                }
                Part::Stepping(gained) => {
                    sum.add(gained);
                    stepping = true;
                }
            }
        }
        let quality = match measured {
            Some(quality) if !stepping && !others => quality,
            Some(_) => NicQuality::Partial,
            None if stepping => NicQuality::Stepping,
            None => return None,
        };
        Some(NicReading {
            packets: sum.packets,
            bytes: sum.bytes,
            missed: sum.missed,
            quality,
        })
    }

    /// Leaves out everything before `until_nanos`, so that it does not fall into the next window, and says how many
    /// packets that was, as far as there are readings.
    pub fn pass_over(&mut self, until_nanos: u64) -> u64 {
        let mut passed = 0u64;
        for link in &mut self.links {
            link.owed = 0;
            if let Part::Measured(gained, _) = link.window(until_nanos, Captured::default()) {
                passed = passed.saturating_add(gained.packets);
            }
            link.owed = 0;
            link.late = Gained::default();
        }
        passed
    }

    /// Whether an interface's driver refreshes its counters only now and then.
    #[must_use]
    pub fn is_stepping(&self, link: usize) -> bool {
        self.links
            .get(link)
            .is_some_and(|link| link.counter.is_stepping())
    }
}

impl Link {
    fn forget(&mut self) {
        self.counter.restart();
        self.owed = 0;
        self.late = Gained::default();
    }

    fn window(&mut self, end_nanos: u64, captured: Captured) -> Part {
        let reading = self.counter.window(end_nanos, captured.on_time);
        if let Some(late) = self.counter.take_late() {
            self.late.add(Gained::from(&late.reading));
        }
        let seen = Gained {
            packets: captured.packets,
            bytes: captured.bytes,
            missed: 0,
        };
        match reading {
            Some(reading) if reading.quality == NicQuality::Stepping => {
                self.owed = 0;
                self.late = Gained::default();
                Part::Stepping(Gained {
                    missed: reading.missed,
                    ..seen
                })
            }
            Some(reading) => {
                let mut gained = Gained::from(&reading);
                let late = std::mem::take(&mut self.late);
                if late.packets == 0 {
                    return Part::Measured(gained, reading.quality);
                }
                gained.add(late.less(std::mem::take(&mut self.owed)));
                Part::Measured(gained, reading.quality.max(NicQuality::Spread))
            }
            None if self.gone && captured.packets == 0 => Part::Nothing,
            None => {
                self.owed = self.owed.saturating_add(captured.packets);
                Part::StoodIn(seen)
            }
        }
    }
}

impl Gained {
    fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.missed = self.missed.saturating_add(other.missed);
    }

    /// What is left when so many packets of it were counted already.
    fn less(self, packets: u64) -> Self {
        let left = self.packets.saturating_sub(packets);
        let bytes = u128::from(self.bytes) * u128::from(left) / u128::from(self.packets.max(1));
        Self {
            packets: left,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            missed: self.missed,
        }
    }
}

impl From<&NicReading> for Gained {
    fn from(reading: &NicReading) -> Self {
        Self {
            packets: reading.packets,
            bytes: reading.bytes,
            missed: reading.missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 50_000_000;

    fn reading(at_nanos: u64, packets: u64) -> Option<CounterReading> {
        Some(CounterReading {
            taken_before_nanos: at_nanos,
            taken_after_nanos: at_nanos,
            packets,
            bytes: packets * 60,
            missed: 0,
        })
    }

    fn seen(packets: u64) -> Captured {
        Captured {
            on_time: packets,
            packets,
            bytes: packets * 60,
        }
    }

    /// Two interfaces that have counted from 0 on, 100 and 7 packets a window, and two windows taken.
    fn two() -> WatchedCounter {
        let mut watched = WatchedCounter::new(2, WINDOW);
        for boundary in 0..3 {
            watched.push(0, reading(boundary * WINDOW, boundary * 100));
            watched.push(1, reading(boundary * WINDOW, boundary * 7));
            let sum = watched.window(boundary * WINDOW, &[]);
            assert_eq!(sum.map(|sum| sum.packets), (boundary > 0).then_some(107));
        }
        watched
    }

    fn told(reading: Option<NicReading>) -> (u64, NicQuality) {
        let reading = reading.expect("a reading");
        assert_eq!(reading.bytes, reading.packets * 60);
        (reading.packets, reading.quality)
    }

    #[test]
    fn what_capture_saw_stands_in_for_a_reading_and_is_set_off_against_it() {
        let mut watched = two();
        watched.push(0, reading(3 * WINDOW, 300));
        let sum = watched.window(3 * WINDOW, &[seen(99), seen(5)]);
        assert_eq!(told(sum), (105, NicQuality::Partial));
        // The reading comes with the next window: 7 packets each, of which 5 were counted.
        watched.push(0, reading(4 * WINDOW, 400));
        watched.push(1, reading(4 * WINDOW, 28));
        let sum = watched.window(4 * WINDOW, &[seen(100), seen(7)]);
        assert_eq!(told(sum), (100 + 7 + 2, NicQuality::Spread));
    }

    #[test]
    fn capture_that_saw_more_than_was_counted_late_is_not_taken_back() {
        let mut watched = two();
        watched.push(0, reading(3 * WINDOW, 300));
        watched.window(3 * WINDOW, &[seen(100), seen(9)]);
        watched.push(0, reading(4 * WINDOW, 400));
        watched.push(1, reading(4 * WINDOW, 28));
        let sum = watched.window(4 * WINDOW, &[]);
        assert_eq!(told(sum), (107, NicQuality::Spread));
    }

    #[test]
    fn an_interface_that_is_gone_takes_nothing_from_the_others() {
        let mut watched = two();
        watched.push(0, reading(3 * WINDOW, 300));
        assert_eq!(watched.push(1, None), Pushed::Restarted);
        // The last frames of its ring.
        let sum = watched.window(3 * WINDOW, &[seen(100), seen(3)]);
        assert_eq!(told(sum), (103, NicQuality::Partial));
        watched.push(0, reading(4 * WINDOW, 400));
        watched.push(1, None);
        let sum = watched.window(4 * WINDOW, &[seen(100)]);
        assert_eq!(told(sum), (100, NicQuality::Measured));
        assert_eq!(watched.push(2, None), Pushed::Discarded);
    }

    #[test]
    fn an_interface_that_comes_back_begins_at_its_first_reading() {
        let mut watched = two();
        watched.push(0, reading(3 * WINDOW, 300));
        watched.push(1, None);
        watched.window(3 * WINDOW, &[]);
        watched.restart(1);
        watched.push(0, reading(4 * WINDOW, 400));
        // Half a million packets since it was made: not this window's.
        assert_eq!(
            watched.push(1, reading(4 * WINDOW, 500_000)),
            Pushed::Restarted
        );
        let sum = watched.window(4 * WINDOW, &[seen(100), seen(4)]);
        assert_eq!(told(sum), (104, NicQuality::Partial));
        watched.push(0, reading(5 * WINDOW, 500));
        watched.push(1, reading(5 * WINDOW, 500_007));
        assert_eq!(
            told(watched.window(5 * WINDOW, &[])),
            (107, NicQuality::Measured)
        );
    }

    #[test]
    fn without_any_reading_the_window_is_judged_as_captured() {
        let mut watched = two();
        assert_eq!(watched.window(3 * WINDOW, &[seen(90), seen(7)]), None);
        watched.push(0, reading(4 * WINDOW, 400));
        watched.push(1, reading(4 * WINDOW, 28));
        let sum = watched.window(4 * WINDOW, &[]);
        assert_eq!(told(sum), (107 + 10, NicQuality::Spread));
        for link in 0..2 {
            watched.push(link, None);
        }
        assert_eq!(watched.window(5 * WINDOW, &[]), None);
        assert_eq!(WatchedCounter::new(0, WINDOW).window(WINDOW, &[]), None);
    }

    #[test]
    fn a_late_reading_that_comes_before_the_next_window_has_one_waits_for_it() {
        let mut watched = WatchedCounter::new(1, WINDOW);
        watched.push(0, reading(0, 0));
        assert_eq!(watched.window(WINDOW, &[]), None);
        // After the end of the first window, before that of the second.
        watched.push(0, reading(WINDOW + 1, 100));
        assert_eq!(watched.window(2 * WINDOW, &[]), None);
        watched.push(0, reading(3 * WINDOW, 300));
        let mut sum = watched.window(3 * WINDOW, &[]).expect("a reading").packets;
        watched.push(0, reading(4 * WINDOW, 300));
        sum += watched.window(4 * WINDOW, &[]).expect("a reading").packets;
        assert_eq!(sum, 300);
    }

    #[test]
    fn a_counter_that_steps_is_replaced_by_capture_and_the_others_are_not() {
        let mut watched = WatchedCounter::new(2, WINDOW);
        let mut last = None;
        for boundary in 0..5 {
            watched.push(0, reading(boundary * WINDOW, boundary * 10));
            watched.push(1, reading(boundary * WINDOW, 0));
            last = watched.window(boundary * WINDOW, &[seen(9), seen(100)]);
        }
        assert!(watched.is_stepping(1) && !watched.is_stepping(0));
        assert_eq!(told(last), (110, NicQuality::Partial));
        // With no other beside it, it says so itself.
        watched.push(0, None);
        watched.push(1, reading(5 * WINDOW, 0));
        let alone = watched.window(5 * WINDOW, &[Captured::default(), seen(100)]);
        assert_eq!(told(alone), (100, NicQuality::Stepping));
    }

    #[test]
    fn what_is_passed_over_is_told_and_does_not_come_again() {
        let mut watched = two();
        watched.window(3 * WINDOW, &[seen(1), seen(1)]);
        watched.push(0, reading(403 * WINDOW, 40_300));
        watched.push(1, reading(403 * WINDOW, 403 * 7));
        assert_eq!(watched.pass_over(402 * WINDOW), 400 * 107);
        watched.push(0, reading(404 * WINDOW, 40_400));
        watched.push(1, reading(404 * WINDOW, 404 * 7));
        assert_eq!(told(watched.window(403 * WINDOW, &[])).0, 107);
    }
}
