//! From counter readings at odd times to packets and bytes per window. Pure.
//!
//! The detector's thread reads the interface counters 2 to 5 ms after the end of each window, never exactly at it. A
//! [`WindowCounter`] draws a straight line between two readings and asks how high the cumulative count stood at the
//! window's end. Because it floors the *cumulative* count, not the difference, a packet that timer jitter moves out of
//! one window always reappears in its neighbour: totals stay exact. [`WatchedCounter`] adds up several interfaces, of
//! which some may be without a reading, or gone.
//!
//! Times are monotonic nanoseconds from an origin that the caller chooses; the wall clock never enters here, so a clock
//! step cannot distort a rate. This file must never ask for the time, read a counter, or guess what it was not told.

mod watched;

use std::collections::VecDeque;

pub use watched::{Captured, WatchedCounter};

/// How long taking a reading may last. Beyond it nobody knows at which moment of the span the counter stood so high;
/// at 50 ms windows 10 ms of doubt is already a fifth of a window.
pub const MAX_READING_NANOS: u64 = 10_000_000;

/// In how many windows a counter must stand still while capture sees packets before it is called stepping. One may be
/// a race between the counter and the frame; drivers that step do so every 1 to 2 s, which is 20 to 40 windows.
const STILL_WINDOWS_TO_STEP: u32 = 2;

/// How many packets capture must have seen meanwhile. Fewer could be frames that the driver counts late.
const STILL_PACKETS_TO_STEP: u64 = 50;

/// In how many windows in a row with traffic the counter must have moved before it is trusted again: one second. A
/// counter that is refreshed every second or two moves in one window of them at most.
const MOVING_WINDOWS_TO_TRUST: u32 = 20;

/// How many readings may wait for a boundary to pass them. The detector takes a window for every reading, so one is
/// the rule; a few more come after a thread was held up and reads again.
const PENDING_READINGS: usize = 4;

/// Inbound packets and bytes of all watched interfaces in one window, exact in sum.
///
/// A packet is what the interface counts as one. On veth, tap and virtio that is a frame after the sender's or the
/// host's segmentation offload, so several segments merged into one frame count once, here as in the kernel's own
/// statistics. A byte is what the driver counts: from the Ethernet header on and without FCS with nearly all of
/// them (veth with a native XDP program leaves the header's 14 bytes out).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicReading {
    /// Packets received plus packets missed (dropped in the NIC before the host).
    pub packets: u64,
    /// Bytes at layer 2, missed packets at the mean size of the others.
    pub bytes: u64,
    /// Of `packets`, those missed.
    pub missed: u64,
    /// How the figures came about.
    pub quality: NicQuality,
}

/// How a [`NicReading`] came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NicQuality {
    /// Read at the window's boundaries and interpolated to them.
    Measured,
    /// A reading was missed: the change was spread evenly over the windows in between.
    Spread,
    /// Some interfaces had no reading of their own: what capture saw of them stands in.
    Partial,
    /// The driver refreshes its counters only every second or two; trigger on capture, take totals of whole steps.
    Stepping,
}

/// The cumulative counters of one interface as they were read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// Monotonic nanoseconds just before the counters were asked for.
    pub taken_before_nanos: u64,
    /// Monotonic nanoseconds just after the answer was there.
    pub taken_after_nanos: u64,
    /// Packets received since the interface exists.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Packets missed since the interface exists; not among `packets`.
    pub missed: u64,
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is used.
    Taken,
    /// Taking it lasted longer than [`MAX_READING_NANOS`], or it is not newer than the last one. Read again.
    Discarded,
    /// It begins a new count: the first one, or lower than the last one (the driver or the link was reset).
    Restarted,
}

/// The sum of windows that had to be judged before a reading for them was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateReading {
    /// How many windows, ending with the one before the window taken last.
    pub windows: u32,
    /// Their sum; evenly spread over them.
    pub reading: NicReading,
}

/// Turns the readings of one interface into a [`NicReading`] per window.
///
/// For each window: [`push`](Self::push) a reading taken after its end, then take [`window`](Self::window). The
/// readings it hands out, late ones included, add up exactly to the counter at the last boundary minus the first
/// counter read; the rest of the last reading belongs to the next window. The window in which the first reading fell
/// begins for this purpose with that reading.
#[derive(Clone, Debug)]
pub struct WindowCounter {
    window_nanos: u64,
    /// The newest known point of the count at or before the last boundary. `None` until the first reading.
    base: Option<Point>,
    /// Readings after `base`, oldest first.
    pending: VecDeque<Point>,
    /// The count up to which readings were handed out.
    delivered: Counts,
    /// End of the window taken last.
    last_end_nanos: u64,
    /// Windows taken without a reading since `delivered`, for which one can still come.
    owed_windows: u32,
    late: Option<LateReading>,
    sizes: MeanSize,
    steps: StepWatch,
}

impl WindowCounter {
    /// A counter for windows of `window_nanos`.
    #[must_use]
    pub fn new(window_nanos: u64) -> Self {
        Self {
            window_nanos,
            base: None,
            pending: VecDeque::with_capacity(PENDING_READINGS),
            delivered: Counts::default(),
            last_end_nanos: 0,
            owed_windows: 0,
            late: None,
            sizes: MeanSize::default(),
            steps: StepWatch::default(),
        }
    }

    /// Adds a reading.
    pub fn push(&mut self, reading: CounterReading) -> Pushed {
        let Some(duration) = reading
            .taken_after_nanos
            .checked_sub(reading.taken_before_nanos)
        else {
            return Pushed::Discarded;
        };
        if duration > MAX_READING_NANOS {
            return Pushed::Discarded;
        }
        let at_nanos = reading.taken_before_nanos + duration / 2;
        let counts = Counts {
            packets: reading.packets,
            bytes: reading.bytes,
            missed: reading.missed,
        };
        let point = Point {
            at_nanos,
            counts,
            read_at_nanos: at_nanos,
        };
        let Some(newest) = self.pending.back().or(self.base.as_ref()).copied() else {
            return self.restart_at(point);
        };
        if at_nanos <= newest.at_nanos {
            return Pushed::Discarded;
        }
        // What was read, not what was interpolated: `base` moves along the line between two readings.
        let last_read = self.steps.last_read;
        if counts.is_below(&last_read) {
            return self.restart_at(point);
        }
        self.steps.read(counts);
        if self.pending.len() == PENDING_READINGS {
            // A coarser line through the same end point: nothing is lost.
            self.pending.pop_back();
        }
        self.pending.push_back(point);
        Pushed::Taken
    }

    /// Forgets what was read: the interface is gone or was created anew. Windows not yet taken get no reading until
    /// a new one was pushed.
    pub fn restart(&mut self) {
        self.base = None;
        self.pending.clear();
        self.owed_windows = 0;
        self.steps = StepWatch::default();
    }

    /// The reading of the window that ends at `end_nanos`, or `None` when there is none: no reading was taken after
    /// its end, the counter was reset in it, or the interface is gone. Capture counts instead.
    ///
    /// Windows are taken in order, each once. `captured_packets` is how many inbound packets capture saw in it (with
    /// sampling: scaled); it tells a link without traffic from a counter that stands still.
    pub fn window(&mut self, end_nanos: u64, captured_packets: u64) -> Option<NicReading> {
        self.steps.close_window(captured_packets);
        let start_nanos = self.last_end_nanos;
        self.last_end_nanos = end_nanos;
        self.settle_owed(start_nanos);
        match self.count_at(end_nanos) {
            Count::Known(counts, quality) => Some(self.deliver(counts, quality)),
            Count::NotYet => {
                self.owed_windows = self.owed_windows.saturating_add(1);
                None
            }
            Count::Never => None,
        }
    }

    /// The sum of the windows for which [`window`](Self::window) had to answer `None` because the reading came late.
    /// Each is handed out once, in the window after; whoever keeps totals adds it to them.
    pub fn take_late(&mut self) -> Option<LateReading> {
        self.late.take()
    }

    /// Whether the driver refreshes its counters only now and then.
    #[must_use]
    pub fn is_stepping(&self) -> bool {
        self.steps.stepping
    }

    fn restart_at(&mut self, point: Point) -> Pushed {
        self.restart();
        self.base = Some(point);
        self.delivered = point.counts;
        self.steps.last_read = point.counts;
        Pushed::Restarted
    }

    /// Hands the windows that are owed a reading to `take_late`, if a reading now reaches their end.
    fn settle_owed(&mut self, owed_end_nanos: u64) {
        if self.owed_windows == 0 {
            return;
        }
        if let Count::Known(counts, _) = self.count_at(owed_end_nanos) {
            let windows = std::mem::take(&mut self.owed_windows);
            let reading = self.deliver(counts, NicQuality::Spread);
            self.late = Some(LateReading { windows, reading });
        }
    }

    fn deliver(&mut self, counts: Counts, quality: NicQuality) -> NicReading {
        let gained = counts.since(&self.delivered);
        self.delivered = counts;
        let quality = if self.steps.stepping {
            NicQuality::Stepping
        } else {
            quality
        };
        NicReading {
            packets: gained.packets.saturating_add(gained.missed),
            bytes: gained.bytes.saturating_add(self.sizes.estimate(&gained)),
            missed: gained.missed,
            quality,
        }
    }

    /// How high the counters stood at a boundary. Moves `base` there.
    fn count_at(&mut self, boundary_nanos: u64) -> Count {
        while self
            .pending
            .front()
            .is_some_and(|reading| reading.at_nanos < boundary_nanos)
        {
            self.base = self.pending.pop_front();
        }
        let Some(base) = self.base else {
            return Count::Never;
        };
        if base.at_nanos >= boundary_nanos {
            return Count::Never;
        }
        let Some(next) = self.pending.front() else {
            return Count::NotYet;
        };
        let counts = base.counts.towards(
            &next.counts,
            boundary_nanos - base.at_nanos,
            next.at_nanos.saturating_sub(base.at_nanos),
        );
        // One reading a window puts a window's length between two of them, plus or minus the timer's jitter.
        let line_nanos = next.at_nanos.saturating_sub(base.read_at_nanos);
        let quality = if line_nanos > self.window_nanos + self.window_nanos / 2 {
            NicQuality::Spread
        } else {
            NicQuality::Measured
        };
        self.base = Some(Point {
            at_nanos: boundary_nanos,
            counts,
            read_at_nanos: base.read_at_nanos,
        });
        Count::Known(counts, quality)
    }
}

/// What is known about the count at a boundary.
enum Count {
    Known(Counts, NicQuality),
    /// A reading after the boundary is still missing.
    NotYet,
    /// The count begins at the boundary or after it.
    Never,
}

/// Cumulative counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    bytes: u64,
    missed: u64,
}

impl Counts {
    fn is_below(&self, earlier: &Self) -> bool {
        self.packets < earlier.packets || self.bytes < earlier.bytes || self.missed < earlier.missed
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            missed: self.missed.saturating_sub(earlier.missed),
        }
    }

    /// The counts after `passed_nanos` of the `line_nanos` that lie between these and `next`.
    fn towards(&self, next: &Self, passed_nanos: u64, line_nanos: u64) -> Self {
        let part = |from: u64, to: u64| {
            let gained = u128::from(to.saturating_sub(from)) * u128::from(passed_nanos)
                / u128::from(line_nanos.max(1));
            from.saturating_add(u64::try_from(gained).unwrap_or(u64::MAX))
        };
        Self {
            packets: part(self.packets, next.packets),
            bytes: part(self.bytes, next.bytes),
            missed: part(self.missed, next.missed),
        }
    }
}

/// A point on the line through the readings.
#[derive(Clone, Copy, Debug)]
struct Point {
    at_nanos: u64,
    counts: Counts,
    /// When the reading was taken from which the line through this point begins.
    read_at_nanos: u64,
}

/// Mean size of received packets, for those that the NIC missed and did not measure.
#[derive(Clone, Copy, Debug, Default)]
struct MeanSize {
    packets: u64,
    bytes: u64,
}

/// What a missed packet is taken for before any was received: the shortest Ethernet frame without its FCS.
const SHORTEST_FRAME_BYTES: u64 = 60;

impl MeanSize {
    /// Bytes of the missed ones of `gained`, at the mean size of the received ones (of the last that were received,
    /// when all were missed).
    fn estimate(&mut self, gained: &Counts) -> u64 {
        if gained.packets > 0 {
            *self = Self {
                packets: gained.packets,
                bytes: gained.bytes,
            };
        }
        if self.packets == 0 {
            return gained.missed.saturating_mul(SHORTEST_FRAME_BYTES);
        }
        let bytes = u128::from(gained.missed) * u128::from(self.bytes) / u128::from(self.packets);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Tells counters that the driver refreshes every second or two from counters that are live.
#[derive(Clone, Copy, Debug, Default)]
struct StepWatch {
    stepping: bool,
    last_read: Counts,
    /// Readings since the last window, and whether one of them differed from the one before it.
    readings: u32,
    moved: bool,
    still_windows: u32,
    still_packets: u64,
    moving_windows: u32,
}

impl StepWatch {
    fn read(&mut self, counts: Counts) {
        self.moved |= counts != self.last_read;
        self.last_read = counts;
        self.readings = self.readings.saturating_add(1);
    }

    fn close_window(&mut self, captured_packets: u64) {
        let readings = std::mem::take(&mut self.readings);
        let moved = std::mem::take(&mut self.moved);
        // Without a reading, or without traffic, a window says nothing about the driver.
        if readings == 0 || (captured_packets == 0 && !moved) {
            return;
        }
        if moved {
            self.still_windows = 0;
            self.still_packets = 0;
            self.moving_windows = self.moving_windows.saturating_add(1);
            self.stepping &= self.moving_windows < MOVING_WINDOWS_TO_TRUST;
        } else {
            self.moving_windows = 0;
            self.still_windows = self.still_windows.saturating_add(1);
            self.still_packets = self.still_packets.saturating_add(captured_packets);
            self.stepping |= self.still_windows >= STILL_WINDOWS_TO_STEP
                && self.still_packets >= STILL_PACKETS_TO_STEP;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLIS: u64 = 1_000_000;
    const WINDOW: u64 = 50 * MILLIS;

    fn reading(at_nanos: u64, packets: u64) -> CounterReading {
        CounterReading {
            taken_before_nanos: at_nanos,
            taken_after_nanos: at_nanos,
            packets,
            bytes: packets * 60,
            missed: 0,
        }
    }

    /// A counter that has read `packets` 3 ms after each of the first boundaries, and the readings of those windows.
    fn after(readings: &[u64], captured_packets: u64) -> (WindowCounter, Vec<Option<NicReading>>) {
        let mut counter = WindowCounter::new(WINDOW);
        let mut windows = Vec::new();
        for (boundary, &packets) in (1..).zip(readings) {
            counter.push(reading(boundary * WINDOW + 3 * MILLIS, packets));
            windows.push(counter.window(boundary * WINDOW, captured_packets));
        }
        (counter, windows)
    }

    fn packets(window: Option<NicReading>) -> u64 {
        window.expect("a reading").packets
    }

    #[test]
    fn a_count_is_interpolated_to_the_boundary() {
        let (_, windows) = after(&[1_000, 1_500, 2_500], 0);
        // From the first reading at 53 ms to 100 ms are 47 of 50 ms.
        assert_eq!(windows[0], None);
        assert_eq!(packets(windows[1]), 470);
        // The 30 that were left of the first 500, and 47 of 50 ms at 1,000.
        assert_eq!(packets(windows[2]), 30 + 940);
        assert_eq!(windows[2].unwrap().bytes, 970 * 60);
        assert_eq!(windows[2].unwrap().quality, NicQuality::Measured);
    }

    #[test]
    fn fractions_of_a_packet_are_never_lost() {
        let readings: Vec<u64> = (0..400).map(|n| n / 7).collect();
        let (mut counter, windows) = after(&readings, 0);
        let before: u64 = windows.iter().flatten().map(|window| window.packets).sum();
        counter.push(reading(402 * WINDOW, readings[399]));
        assert_eq!(
            before + packets(counter.window(401 * WINDOW, 0)),
            readings[399]
        );
    }

    #[test]
    fn the_time_of_a_reading_is_the_middle_of_asking_and_answer() {
        let mut counter = WindowCounter::new(WINDOW);
        counter.push(reading(0, 0));
        let slow = CounterReading {
            taken_before_nanos: 96 * MILLIS,
            taken_after_nanos: 104 * MILLIS,
            ..reading(0, 1_000)
        };
        assert_eq!(counter.push(slow), Pushed::Taken);
        assert_eq!(packets(counter.window(WINDOW, 0)), 500);
    }

    #[test]
    fn a_reading_that_took_too_long_is_discarded() {
        let mut counter = WindowCounter::new(WINDOW);
        counter.push(reading(3 * MILLIS, 0));
        let slow = CounterReading {
            taken_before_nanos: 53 * MILLIS,
            taken_after_nanos: 53 * MILLIS + MAX_READING_NANOS + 1,
            ..reading(0, 1_000)
        };
        assert_eq!(counter.push(slow), Pushed::Discarded);
        assert_eq!(counter.window(WINDOW, 0), None);
        let backwards = CounterReading {
            taken_before_nanos: 60 * MILLIS,
            taken_after_nanos: 59 * MILLIS,
            ..slow
        };
        assert_eq!(counter.push(backwards), Pushed::Discarded);
        assert_eq!(counter.push(reading(2 * MILLIS, 5)), Pushed::Discarded);
    }

    #[test]
    fn a_window_judged_before_its_reading_came_is_made_good_in_the_next() {
        let mut counter = WindowCounter::new(WINDOW);
        counter.push(reading(0, 0));
        counter.push(reading(WINDOW, 100));
        assert_eq!(packets(counter.window(WINDOW, 0)), 100);
        assert_eq!(counter.window(2 * WINDOW, 0), None);
        assert_eq!(counter.window(3 * WINDOW, 0), None);
        assert_eq!(counter.take_late(), None);
        counter.push(reading(4 * WINDOW, 1_000));
        let newest = counter.window(4 * WINDOW, 0).expect("a reading");
        let late = counter.take_late().expect("the two before");
        assert_eq!(
            (late.windows, late.reading.packets, late.reading.quality),
            (2, 600, NicQuality::Spread)
        );
        assert_eq!(newest.packets, 300);
        assert_eq!(counter.take_late(), None);
    }

    #[test]
    fn one_reading_for_several_windows_is_spread_evenly_and_says_so() {
        let mut counter = WindowCounter::new(WINDOW);
        counter.push(reading(0, 0));
        counter.push(reading(3 * WINDOW + 25 * MILLIS, 700));
        for boundary in 1..=3 {
            let window = counter.window(boundary * WINDOW, 0).expect("a reading");
            assert_eq!((window.packets, window.quality), (200, NicQuality::Spread));
        }
        counter.push(reading(4 * WINDOW, 750));
        let window = counter.window(4 * WINDOW, 0).expect("a reading");
        assert_eq!(
            (window.packets, window.quality),
            (150, NicQuality::Measured)
        );
    }

    #[test]
    fn a_lower_counter_gives_no_reading_for_its_window_and_counts_on_from_there() {
        let (mut counter, _) = after(&[1_000, 2_000], 0);
        assert_eq!(
            counter.push(reading(3 * WINDOW + 3 * MILLIS, 10)),
            Pushed::Restarted
        );
        assert_eq!(counter.window(3 * WINDOW, 0), None);
        assert_eq!(counter.take_late(), None);
        counter.push(reading(4 * WINDOW + 3 * MILLIS, 510));
        assert_eq!(packets(counter.window(4 * WINDOW, 0)), 470);
    }

    #[test]
    fn a_lower_byte_or_missed_counter_is_a_reset_too() {
        for field in 0..2 {
            let (mut counter, _) = after(&[1_000, 2_000], 0);
            let mut lower = reading(3 * WINDOW, 3_000);
            if field == 0 {
                lower.bytes = 1;
            }
            let higher_missed = CounterReading { missed: 9, ..lower };
            assert_eq!(counter.push(higher_missed) == Pushed::Restarted, field == 0);
            if field == 1 {
                assert_eq!(counter.push(reading(4 * WINDOW, 4_000)), Pushed::Restarted);
            }
        }
    }

    #[test]
    fn a_link_that_is_gone_has_no_readings_until_it_is_back() {
        let (mut counter, _) = after(&[1_000, 2_000], 0);
        counter.restart();
        assert_eq!(counter.window(3 * WINDOW, 0), None);
        assert_eq!(
            counter.push(reading(4 * WINDOW + 3 * MILLIS, 70)),
            Pushed::Restarted
        );
        assert_eq!(counter.window(4 * WINDOW, 0), None);
        counter.push(reading(5 * WINDOW, 117));
        assert_eq!(packets(counter.window(5 * WINDOW, 0)), 47);
        assert_eq!(counter.take_late(), None);
    }

    #[test]
    fn missed_packets_count_as_packets_at_the_mean_size() {
        let mut counter = WindowCounter::new(WINDOW);
        let at = |boundary: u64, packets, bytes, missed| CounterReading {
            packets,
            bytes,
            missed,
            ..reading(boundary * WINDOW, 0)
        };
        counter.push(at(0, 0, 0, 0));
        counter.push(at(1, 0, 0, 10));
        let shortest = counter.window(WINDOW, 0).expect("a reading");
        assert_eq!(
            (shortest.packets, shortest.bytes, shortest.missed),
            (10, 600, 10)
        );
        counter.push(at(2, 100, 50_000, 20));
        let mean = counter.window(2 * WINDOW, 0).expect("a reading");
        assert_eq!((mean.packets, mean.bytes, mean.missed), (110, 55_000, 10));
        counter.push(at(3, 100, 50_000, 30));
        let last_mean = counter.window(3 * WINDOW, 0).expect("a reading");
        assert_eq!(
            (last_mean.packets, last_mean.bytes, last_mean.missed),
            (10, 5_000, 10)
        );
    }

    #[test]
    fn a_counter_that_stands_still_under_traffic_is_stepping_until_it_moves_for_a_second() {
        let (mut counter, _) = after(&[1_000, 1_000, 1_000], 25);
        assert!(counter.is_stepping());
        let mut total = 0;
        let mut window = 4;
        // Steps of 20 windows each.
        for step in 1..=3 {
            for _ in 0..20 {
                counter.push(reading(window * WINDOW + 3 * MILLIS, 1_000 + step * 600));
                let stepped = counter.window(window * WINDOW, 25).expect("a reading");
                assert_eq!(stepped.quality, NicQuality::Stepping);
                total += stepped.packets;
                window += 1;
            }
        }
        assert_eq!(total, 3 * 600, "totals are those of whole steps");
        for moved in 1..=20 {
            assert!(counter.is_stepping(), "after {moved} windows");
            counter.push(reading(window * WINDOW + 3 * MILLIS, 3_000 + moved));
            counter.window(window * WINDOW, 25);
            window += 1;
        }
        assert!(!counter.is_stepping());
    }

    #[test]
    fn a_silent_link_is_not_stepping() {
        let (counter, windows) = after(&[1_000; 100], 0);
        assert!(!counter.is_stepping());
        assert_eq!(
            windows[50].unwrap(),
            NicReading {
                packets: 0,
                bytes: 0,
                missed: 0,
                quality: NicQuality::Measured
            }
        );
        let (counter, _) = after(&[1_000; 20], 2);
        assert!(!counter.is_stepping(), "40 packets may be late frames");
    }

    #[test]
    fn windows_without_a_reading_say_nothing_about_stepping() {
        let mut counter = WindowCounter::new(WINDOW);
        counter.push(reading(0, 0));
        for boundary in 1..10 {
            counter.window(boundary * WINDOW, 1_000);
        }
        assert!(!counter.is_stepping());
    }

    #[test]
    fn the_largest_counters_there_are_do_not_overflow() {
        let mut counter = WindowCounter::new(WINDOW);
        let highest = |at, value| CounterReading {
            packets: value,
            bytes: value,
            missed: value,
            ..reading(at, 0)
        };
        counter.push(highest(0, 0));
        counter.push(highest(WINDOW, u64::MAX));
        let window = counter.window(WINDOW, 0).expect("a reading");
        assert_eq!((window.packets, window.missed), (u64::MAX, u64::MAX));
    }

    /// What happens between two windows: how much comes in, when the counter is read after the boundary (or not at
    /// all), and how long that takes.
    #[derive(Clone, Debug)]
    struct Round {
        packets: u64,
        missed: u64,
        reads_at: Vec<(u64, u64)>,
    }

    fn round() -> impl Strategy<Value = Round> {
        let read = (0..120 * MILLIS, 0..14 * MILLIS);
        (0..100_000u64, 0..50u64, prop::collection::vec(read, 0..3)).prop_map(
            |(packets, missed, reads_at)| Round {
                packets,
                missed,
                reads_at,
            },
        )
    }

    proptest! {
        #[test]
        fn readings_add_up_to_the_counter_whatever_the_jitter(rounds in prop::collection::vec(round(), 1..80)) {
            let mut counter = WindowCounter::new(WINDOW);
            let (mut count, mut missed) = (1_000_000, 7);
            let first = CounterReading { missed, ..reading(0, count) };
            counter.push(first);
            let (mut total, mut total_missed) = (0, 0);
            let mut boundary = 0;
            for round in rounds {
                boundary += 1;
                count += round.packets;
                missed += round.missed;
                for (delay, took) in round.reads_at {
                    let at = boundary * WINDOW + delay;
                    let pushed = counter.push(CounterReading { taken_after_nanos: at + took, missed, ..reading(at, count) });
                    prop_assert_ne!(pushed, Pushed::Restarted);
                }
                let window = counter.window(boundary * WINDOW, 1);
                for reading in counter.take_late().map(|late| late.reading).into_iter().chain(window) {
                    prop_assert!(reading.missed <= reading.packets);
                    total += reading.packets;
                    total_missed += reading.missed;
                }
                prop_assert!(total <= count + missed - first.packets - first.missed);
            }
            // A last reading long after, and windows up to it: everything must have come out.
            counter.push(CounterReading { missed, ..reading((boundary + 10) * WINDOW, count) });
            for last in boundary + 1..=boundary + 10 {
                let window = counter.window(last * WINDOW, 1);
                for reading in counter.take_late().map(|late| late.reading).into_iter().chain(window) {
                    total += reading.packets;
                    total_missed += reading.missed;
                }
            }
            prop_assert_eq!(total_missed, missed - first.missed);
            prop_assert_eq!(total, count + missed - first.packets - first.missed);
        }

        #[test]
        fn a_steady_rate_stays_steady_under_timer_jitter(delays in prop::collection::vec(2 * MILLIS..5 * MILLIS, 3..60)) {
            let mut counter = WindowCounter::new(WINDOW);
            let per_milli = 300;
            for (boundary, delay) in (1..).zip(delays) {
                let at = boundary * WINDOW + delay;
                counter.push(reading(at, at * per_milli / MILLIS));
                if let Some(window) = counter.window(boundary * WINDOW, 1).filter(|_| boundary > 2) {
                    prop_assert!(window.packets.abs_diff(50 * per_milli) <= 1, "{} packets", window.packets);
                    prop_assert_eq!(window.quality, NicQuality::Measured);
                }
            }
        }
    }
}
