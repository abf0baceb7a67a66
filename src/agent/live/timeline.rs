//! One steady time for all threads, and what it is called.
//!
//! Wall clocks step: by hand, by a time daemon, from 1970 to today on a host whose battery is empty. Rates, durations and
//! the engine must not notice, people must read the time that their other clocks show. So there are two times:
//!
//! - The **timeline** begins with the wall clock and goes on steadily. Windows, counters and the engine live on it alone;
//!   nothing on it is ever moved, so no window repeats, is late, or becomes a gap because somebody set the clock.
//! - **Labels** are what the timeline's times are called in UTC: the same plus how far the wall clock lies ahead now.
//!   They are put on at the edge, when an outcome is handed out, all of them by the same distance: an incident that began
//!   before the clock was set is told with the corrected beginning and its true length. The distance is looked at once a
//!   window, so labels change at a window's boundary. After a step backwards an hour is labelled twice, as it was lived.
//!
//! The kernel stamps frames with the wall clock. [`Stamps`] moves them onto the timeline, each capture thread for itself.
//!
//! The steady clock is the one since boot, not the monotonic one: it goes on while the host is suspended. So a suspended
//! host, a stopped process and a virtual machine that was held are the same thing here, a gap that the detector drops;
//! with the monotonic clock a suspended hour would instead look like a step of the wall clock in the middle of traffic
//! that never happened. Both are slewed like the wall clock, so the distance to it changes by steps alone.

use std::time::Duration;

use crate::clock::{self, Timestamp};

/// From this distance on a difference is a step. Time daemons step from 128 ms on and slew what is less, which moves both
/// clocks alike; reading the two takes less than [`PAIR_NANOS`]. A fifth of a window, so what is not noticed moves no
/// packet further than into the window beside its own.
const STEP_NANOS: u64 = 10_000_000;

/// Two clocks read further apart than this say nothing about their distance: the thread was held up in between.
const PAIR_NANOS: u64 = 1_000_000;

/// How often the pair is read anew before the last known distance has to do.
const PAIR_ATTEMPTS: u32 = 3;

/// Before 2025-01-01, which is before there was this program, the clock was not set yet.
const EARLIEST: Timestamp = Timestamp::from_seconds(1_735_689_600);

/// A frame waits in the ring for a second or two at most. One that is older came before a pause of this process or host.
const OLDEST_NANOS: u64 = 10_000_000_000;

/// Where time comes from.
pub(super) trait Clock {
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// Nanoseconds of the steady clock.
    fn steady_nanos(&self) -> u64;
}

/// The kernel's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel;

impl Clock for Kernel {
    fn wall(&self) -> Timestamp {
        clock::now()
    }

    fn steady_nanos(&self) -> u64 {
        u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Steady time, the same for every thread that has a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline<C = Kernel> {
    clock: C,
    origin_nanos: u64,
    origin_at: Timestamp,
}

impl Timeline {
    /// A timeline that begins now, and not before `remembered` if the clock was not set yet: what was learned until then
    /// goes on from there, instead of being called the future.
    pub(super) fn new(remembered: Option<Timestamp>) -> Self {
        Self::with(Kernel, remembered)
    }
}

impl<C: Clock> Timeline<C> {
    fn with(clock: C, remembered: Option<Timestamp>) -> Self {
        let wall = clock.wall();
        let origin_at = if wall < EARLIEST {
            wall.max(remembered.unwrap_or_default())
        } else {
            wall
        };
        Self {
            origin_nanos: clock.steady_nanos(),
            clock,
            origin_at,
        }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.origin_at.plus_nanos(self.elapsed_nanos())
    }

    /// Nanoseconds since it began.
    pub(super) fn elapsed_nanos(&self) -> u64 {
        self.clock.steady_nanos().saturating_sub(self.origin_nanos)
    }

    /// Nanoseconds since it began, of a time on it.
    pub(super) const fn nanos_of(&self, at: Timestamp) -> u64 {
        at.nanos_since(self.origin_at)
    }

    /// How long it is until `at`; nothing when that is over.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_nanos(at.nanos_since(self.now()))
    }

    /// How far the wall clock lies ahead; `None` when this thread was held up between reading the one and the other.
    fn wall_ahead_nanos(&self) -> Option<i64> {
        for _ in 0..PAIR_ATTEMPTS {
            let before = self.elapsed_nanos();
            let wall = self.clock.wall();
            let apart = self.elapsed_nanos().saturating_sub(before);
            if apart <= PAIR_NANOS {
                let at = self.origin_at.plus_nanos(before + apart / 2);
                return Some(wall.nanos_ahead_of(at));
            }
        }
        None
    }
}

/// How far the wall clock lies ahead of the timeline, as far as somebody has looked.
#[derive(Clone, Copy, Debug)]
struct Distance {
    ahead_nanos: i64,
}

impl Distance {
    fn of<C: Clock>(timeline: &Timeline<C>) -> Self {
        Self {
            ahead_nanos: timeline.wall_ahead_nanos().unwrap_or(0),
        }
    }

    /// Looks again. When the wall clock was set since: the distance before.
    fn look<C: Clock>(&mut self, timeline: &Timeline<C>) -> Option<i64> {
        let ahead_nanos = timeline.wall_ahead_nanos()?;
        (ahead_nanos.abs_diff(self.ahead_nanos) >= STEP_NANOS)
            .then(|| std::mem::replace(&mut self.ahead_nanos, ahead_nanos))
    }
}

/// The names of the timeline's times in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels {
    distance: Distance,
    /// How far UTC seconds lie ahead of the timeline's seconds, as long as the clock was set.
    utc_ahead_seconds: i64,
}

/// The wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// By so many nanoseconds.
    pub(super) by_nanos: i64,
    /// What is learned by the hour of the day moves by so many seconds: nothing while the clock shows a time before there
    /// was this program, everything at once when it is set at last.
    pub(super) learned_by_seconds: i64,
}

impl Labels {
    pub(super) fn new<C: Clock>(timeline: &Timeline<C>) -> Self {
        Self {
            distance: Distance::of(timeline),
            utc_ahead_seconds: 0,
        }
    }

    /// Labels of a clock that was set by so much.
    #[cfg(test)]
    pub(super) const fn ahead(ahead_nanos: i64) -> Self {
        Self {
            distance: Distance { ahead_nanos },
            utc_ahead_seconds: 0,
        }
    }

    /// Looks whether the wall clock was set.
    pub(super) fn look<C: Clock>(&mut self, timeline: &Timeline<C>) -> Option<Step> {
        let before = self.distance.look(timeline)?;
        let was_set = self.at(timeline.now()) >= EARLIEST;
        let learned_before = self.utc_ahead_seconds;
        if was_set {
            self.utc_ahead_seconds = self.whole_seconds();
        }
        Some(Step {
            by_nanos: self.distance.ahead_nanos.saturating_sub(before),
            learned_by_seconds: self.utc_ahead_seconds - learned_before,
        })
    }

    /// What a time on the timeline is called.
    pub(super) const fn at(&self, at: Timestamp) -> Timestamp {
        at.moved_by(self.distance.ahead_nanos)
    }

    /// What a second of the timeline is called: a whole second too, the nearest.
    pub(super) const fn second(&self, start: Timestamp) -> Timestamp {
        let seconds = start.as_seconds();
        Timestamp::from_seconds(seconds.saturating_add_signed(self.whole_seconds()))
    }

    const fn whole_seconds(&self) -> i64 {
        const SECOND: i64 = 1_000_000_000;
        self.distance
            .ahead_nanos
            .saturating_add(SECOND / 2)
            .div_euclid(SECOND)
    }
}

/// Moves the kernel's stamps onto the timeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps<C = Kernel> {
    timeline: Timeline<C>,
    distance: Distance,
    /// The distance before the last step: frames stamped before it are still in the ring.
    before_nanos: i64,
}

impl<C: Clock> Stamps<C> {
    pub(super) fn new(timeline: Timeline<C>) -> Self {
        let distance = Distance::of(&timeline);
        Self {
            timeline,
            distance,
            before_nanos: distance.ahead_nanos,
        }
    }

    /// The stamp on the timeline, as far as we know.
    #[inline]
    pub(super) const fn at(&self, stamp: Timestamp) -> Timestamp {
        stamp.moved_by(self.distance.ahead_nanos.saturating_neg())
    }

    /// The time that a stamp stands for which does not fit the open window; `None` when that is before a pause. Asks for
    /// the time, so it is for stamps that begin a window or seem old, not for every packet.
    pub(super) fn check(&mut self, stamp: Timestamp) -> Option<Timestamp> {
        if let Some(before) = self.distance.look(&self.timeline) {
            self.before_nanos = before;
        }
        let now = self.timeline.now();
        let mut is_from_the_future = false;
        for ahead_nanos in [self.distance.ahead_nanos, self.before_nanos] {
            let at = stamp.moved_by(ahead_nanos.saturating_neg());
            // Steps too small to be noticed bring a frame here before its time.
            let is_ahead = at.nanos_since(now) > STEP_NANOS;
            if !is_ahead && now.nanos_since(at) <= OLDEST_NANOS {
                return Some(at.min(now));
            }
            is_from_the_future |= is_ahead;
        }
        // Stamped between two steps: nobody knows when, but it was not long ago.
        is_from_the_future.then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const SECOND: u64 = Timestamp::NANOS_PER_SECOND;
    const HOUR: i64 = 3_600;
    /// 2026-03-15T09:44:18.050Z.
    const TODAY: Timestamp = Timestamp::from_nanos(1_773_567_858_050_000_000);

    /// Clocks that a test moves. Reading them takes no time, unless it is told to.
    #[derive(Clone, Debug)]
    struct Fake {
        wall: Rc<Cell<Timestamp>>,
        steady: Rc<Cell<u64>>,
        delay: Rc<Cell<u64>>,
    }

    impl Fake {
        fn at(wall: Timestamp) -> Self {
            Self {
                wall: Rc::new(Cell::new(wall)),
                steady: Rc::new(Cell::new(77 * SECOND)),
                delay: Rc::new(Cell::new(0)),
            }
        }

        fn pass(&self, nanos: u64) {
            self.wall.set(self.wall.get().plus_nanos(nanos));
            self.steady.set(self.steady.get() + nanos);
        }

        fn set_by_seconds(&self, seconds: i64) {
            self.wall
                .set(self.wall.get().moved_by(seconds * 1_000_000_000));
        }
    }

    impl Clock for Fake {
        fn wall(&self) -> Timestamp {
            self.pass(self.delay.get());
            self.wall.get()
        }

        fn steady_nanos(&self) -> u64 {
            self.steady.get()
        }
    }

    fn clocks(wall: Timestamp) -> (Fake, Timeline<Fake>) {
        let clock = Fake::at(wall);
        let timeline = Timeline::with(clock.clone(), None);
        (clock, timeline)
    }

    #[test]
    fn a_step_moves_labels_and_not_time() {
        for hours in [-1, 1, -24, 24 * 365] {
            let (clock, timeline) = clocks(TODAY);
            let mut labels = Labels::new(&timeline);
            let began = timeline.now();
            clock.pass(5 * SECOND);
            assert_eq!(labels.look(&timeline), None);
            clock.set_by_seconds(hours * HOUR);
            let step = labels.look(&timeline).expect("it was set");
            assert_eq!(step.by_nanos, hours * HOUR * 1_000_000_000);
            assert_eq!(step.learned_by_seconds, hours * HOUR);
            assert_eq!(labels.look(&timeline), None, "it is told once");
            assert_eq!(timeline.now().nanos_since(began), 5 * SECOND);
            assert_eq!(labels.at(timeline.now()), clock.wall.get());
            // What began before is labelled by the clock that is right now.
            let began_at = clock.wall.get().moved_by(-5_000_000_000);
            assert_eq!(labels.at(began), began_at);
        }
    }

    #[test]
    fn seconds_keep_whole_labels_that_follow_each_other_whatever_the_step() {
        for step_millis in [-3_600_400, -1_499, -501, -499, 12, 499, 501, 3_600_750] {
            let (clock, timeline) = clocks(TODAY);
            let mut labels = Labels::new(&timeline);
            clock
                .wall
                .set(clock.wall.get().moved_by(step_millis * 1_000_000));
            assert!(labels.look(&timeline).is_some(), "{step_millis}");
            let first = Timestamp::from_seconds(TODAY.as_seconds());
            let told: Vec<u64> = (0..3)
                .map(|n| labels.second(first.plus_nanos(n * SECOND)))
                .map(|label| {
                    assert_eq!(label.as_nanos() % SECOND, 0, "{label}");
                    label.as_seconds()
                })
                .collect();
            assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1));
            let exact = labels.at(first);
            let apart = exact.nanos_ahead_of(labels.second(first)).unsigned_abs();
            assert!(apart <= SECOND / 2, "{step_millis}: {apart}");
        }
    }

    #[test]
    fn what_is_slewed_or_read_with_a_break_is_no_step() {
        let (clock, timeline) = clocks(TODAY);
        let mut labels = Labels::new(&timeline);
        clock.wall.set(TODAY.moved_by(9_999_999));
        assert_eq!(labels.look(&timeline), None);
        clock.delay.set(50_000_000);
        clock.set_by_seconds(HOUR);
        assert_eq!(labels.look(&timeline), None, "held up while reading");
        clock.delay.set(0);
        assert!(labels.look(&timeline).is_some());
    }

    #[test]
    fn small_steps_are_noticed_once_they_add_up() {
        let (clock, timeline) = clocks(TODAY);
        let mut labels = Labels::new(&timeline);
        let mut noticed = 0;
        for _ in 0..10 {
            clock.wall.set(clock.wall.get().moved_by(3_000_000));
            noticed += u32::from(labels.look(&timeline).is_some());
        }
        assert_eq!(noticed, 2);
    }

    #[test]
    fn a_clock_that_was_never_set_goes_on_from_what_is_remembered_until_it_is() {
        let clock = Fake::at(Timestamp::from_seconds(12));
        let timeline = Timeline::with(clock.clone(), Some(TODAY));
        let mut labels = Labels::new(&timeline);
        assert_eq!(timeline.now(), TODAY);
        assert_eq!(labels.at(TODAY), Timestamp::from_seconds(12));
        clock.pass(30 * SECOND);
        // Two days after what is remembered.
        let now = TODAY.plus_nanos(2 * 86_400 * SECOND);
        clock.wall.set(now);
        let step = labels.look(&timeline).expect("it was set");
        assert_eq!(step.learned_by_seconds, 2 * 86_400 - 30);
        assert_eq!(labels.at(timeline.now()), now);
    }

    #[test]
    fn a_clock_that_stays_unset_moves_nothing_that_is_learned() {
        let clock = Fake::at(Timestamp::from_seconds(12));
        let timeline = Timeline::with(clock.clone(), Some(TODAY));
        let mut labels = Labels::new(&timeline);
        clock.set_by_seconds(500);
        let step = labels.look(&timeline).expect("it was set");
        assert_eq!(step.learned_by_seconds, 0);
        let (_, nothing_remembered) = clocks(Timestamp::from_seconds(12));
        assert_eq!(nothing_remembered.now(), Timestamp::from_seconds(12));
    }

    #[test]
    fn a_clock_that_is_set_is_believed_whatever_is_remembered() {
        let clock = Fake::at(TODAY);
        let future = TODAY.plus_nanos(86_400 * SECOND);
        assert_eq!(Timeline::with(clock, Some(future)).now(), TODAY);
    }

    #[test]
    fn stamps_stay_where_they_are_while_the_clock_is_steady() {
        let (clock, timeline) = clocks(TODAY);
        let mut stamps = Stamps::new(timeline.clone());
        clock.pass(SECOND);
        let stamp = clock.wall.get();
        assert_eq!(stamps.at(stamp), timeline.now());
        assert_eq!(stamps.check(stamp), Some(timeline.now()));
    }

    #[test]
    fn frames_stamped_before_and_after_a_step_keep_their_order_and_their_time() {
        for seconds in [-HOUR, -5, -1, 1, 5, HOUR] {
            let (clock, timeline) = clocks(TODAY);
            let mut stamps = Stamps::new(timeline.clone());
            clock.pass(SECOND);
            let (before, before_at) = (clock.wall.get(), timeline.now());
            clock.pass(20_000_000);
            clock.set_by_seconds(seconds);
            let (after, after_at) = (clock.wall.get(), timeline.now());
            clock.pass(20_000_000);
            assert_eq!(stamps.check(after), Some(after_at), "{seconds}");
            assert_eq!(stamps.at(after), after_at, "{seconds}");
            let late = stamps.check(before).expect("it is in the ring");
            // Five seconds back may also be a frame that has waited so long; it is counted either way.
            assert!(late == before_at || late < after_at, "{seconds}: {late}");
            assert!(late <= timeline.now(), "{seconds}");
        }
    }

    #[test]
    fn a_frame_from_before_a_pause_is_told_from_one_that_waited() {
        let (clock, timeline) = clocks(TODAY);
        let mut stamps = Stamps::new(timeline.clone());
        let stamp = clock.wall.get();
        let at = timeline.now();
        clock.pass(9 * SECOND);
        assert_eq!(stamps.check(stamp), Some(at));
        clock.pass(600 * SECOND);
        assert_eq!(stamps.check(stamp), None);
    }

    #[test]
    fn no_frame_comes_from_the_future() {
        let (clock, timeline) = clocks(TODAY);
        let mut stamps = Stamps::new(timeline.clone());
        let slightly = clock.wall.get().plus_nanos(9_000_000);
        assert_eq!(stamps.check(slightly), Some(timeline.now()));
        let far = clock.wall.get().plus_nanos(86_400 * SECOND);
        assert_eq!(stamps.check(far), Some(timeline.now()));
    }

    #[test]
    fn the_kernels_clocks_agree_with_each_other() {
        let timeline = Timeline::new(None);
        let mut labels = Labels::new(&timeline);
        assert_eq!(labels.look(&timeline), None);
        let told = labels.at(timeline.now());
        assert!(told.nanos_ahead_of(clock::now()).unsigned_abs() < SECOND);
    }
}
