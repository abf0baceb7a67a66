//! From counter readings at odd times to packets and bytes per window. Pure.
//!
//! The detector's thread reads the interface counters 2 to 5 ms after the end of each window, never exactly at it. A
//! [`WindowCounter`] draws a straight line between two readings and asks how high the cumulative count stood at the
//! window's end. Because it floors the *cumulative* count, not the difference, a packet that timer jitter moves out of
//! one window always reappears in its neighbour: totals stay exact. [`WatchedCounter`] adds up several interfaces.
//!
//! Times are monotonic nanoseconds from an origin that the caller chooses; the wall clock never enters here, so a clock
//! step cannot distort a rate. This file must never ask for the time, read a counter, or guess what it was not told.

use std::collections::VecDeque;

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
            .is_some_and(|reading| reading.at_nanos <= boundary_nanos)
        {
            self.base = self.pending.pop_front();
        }
        let Some(base) = self.base else {
            return Count::Never;
        };
        if base.at_nanos == boundary_nanos {
            return Count::Known(base.counts, NicQuality::Measured);
        }
        if base.at_nanos > boundary_nanos {
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

/// Several interfaces watched together: one [`NicReading`] a window, their sum.
///
/// The interfaces are numbered in the order they are watched in, from 0.
#[derive(Clone, Debug)]
pub struct WatchedCounter {
    links: Vec<WindowCounter>,
}

impl WatchedCounter {
    /// Counters for `links` interfaces.
    #[must_use]
    pub fn new(links: usize, window_nanos: u64) -> Self {
        Self {
            links: vec![WindowCounter::new(window_nanos); links],
        }
    }

    /// Adds one interface's reading; `None` says that the interface is gone.
    pub fn push(&mut self, link: usize, reading: Option<CounterReading>) -> Pushed {
        let Some(counter) = self.links.get_mut(link) else {
            return Pushed::Discarded;
        };
        match reading {
            Some(reading) => counter.push(reading),
            None => {
                counter.restart();
                Pushed::Restarted
            }
        }
    }

    /// The sum of the interfaces' readings of the window that ends at `end_nanos`, with the worst of their
    /// qualities; `None` as soon as one of them has none. `captured_packets` is by interface; a missing one is 0.
    pub fn window(&mut self, end_nanos: u64, captured_packets: &[u64]) -> Option<NicReading> {
        let captured = captured_packets.iter().copied().chain(std::iter::repeat(0));
        let readings = self
            .links
            .iter_mut()
            .zip(captured)
            .map(|(link, seen)| link.window(end_nanos, seen));
        // Every interface must close the window, so no short-cut at the first that has no reading.
        readings
            .reduce(|sum, reading| Some(sum?.plus(&reading?)))
            .flatten()
    }

    /// The sum of what came late, over the interfaces for which something did; see [`WindowCounter::take_late`].
    pub fn take_late(&mut self) -> Option<LateReading> {
        let late = self.links.iter_mut().filter_map(WindowCounter::take_late);
        late.reduce(|sum, link| LateReading {
            windows: sum.windows.max(link.windows),
            reading: sum.reading.plus(&link.reading),
        })
    }

    /// Whether an interface's driver refreshes its counters only now and then.
    #[must_use]
    pub fn is_stepping(&self, link: usize) -> bool {
        self.links.get(link).is_some_and(WindowCounter::is_stepping)
    }
}

impl NicReading {
    fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
            missed: self.missed.saturating_add(other.missed),
            quality: self.quality.max(other.quality),
        }
    }
}

/// What is known about the count at a boundary.
enum Count {
    Known(Counts, NicQuality),
    /// A reading after the boundary is still missing.
    NotYet,
    /// The count begins after the boundary.
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
