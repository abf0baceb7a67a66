//! One steady time for all threads.
//!
//! Windows follow wall-clock time, because their seconds are labelled with it, but wall clocks step. A timeline starts
//! with the wall clock and goes on with the monotonic one, and moves what the kernel stamped with the wall clock onto
//! itself.

use std::time::{Duration, Instant};

use crate::clock::{self, Timestamp};

/// Steady time, the same for every thread that has a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    origin: Instant,
    origin_at: Timestamp,
}

impl Timeline {
    /// A timeline that begins now.
    pub(super) fn new() -> Self {
        Self {
            origin: clock::monotonic(),
            origin_at: clock::now(),
        }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.origin_at.plus_nanos(self.elapsed_nanos())
    }

    /// Nanoseconds since it began.
    pub(super) fn elapsed_nanos(&self) -> u64 {
        let elapsed = clock::monotonic().saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds since it began, of a time on it.
    pub(super) const fn nanos_of(&self, at: Timestamp) -> u64 {
        at.nanos_since(self.origin_at)
    }

    /// How long it is until `at`; nothing when that is over.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_nanos(at.nanos_since(self.now()))
    }
}

/// A stamp this far ahead of the timeline was made by another clock than the one it began with.
const AHEAD_NANOS: u64 = 500_000_000;

/// A stamp this far behind it, too: frames wait in the ring for a second or two at most.
const BEHIND_NANOS: u64 = 10_000_000_000;

/// Moves kernel stamps onto the timeline: by nothing until the wall clock steps, from then on by the step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    timeline: Timeline,
    ahead_nanos: u64,
    behind_nanos: u64,
}

impl Steady {
    pub(super) const fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            ahead_nanos: 0,
            behind_nanos: 0,
        }
    }

    /// The stamp on the timeline, as far as we know.
    pub(super) const fn at(&self, stamp: Timestamp) -> Timestamp {
        let moved = stamp
            .as_nanos()
            .saturating_sub(self.ahead_nanos)
            .saturating_add(self.behind_nanos);
        Timestamp::from_nanos(moved)
    }

    /// Looks whether a stamp that does not fit the open window was made by a clock that has stepped, and says the time
    /// it stands for. Asks for the time, so it is for stamps that begin a window or seem old, not for every packet.
    pub(super) fn check(&mut self, stamp: Timestamp) -> Timestamp {
        let at = self.at(stamp);
        let now = self.timeline.now();
        if at.nanos_since(now) < AHEAD_NANOS && now.nanos_since(at) < BEHIND_NANOS {
            return at;
        }
        self.ahead_nanos = stamp.nanos_since(now);
        self.behind_nanos = now.nanos_since(stamp);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_stay_as_they_are_while_the_clock_is_steady() {
        let timeline = Timeline::new();
        let mut steady = Steady::new(timeline);
        let stamp = timeline.now();
        assert_eq!(steady.check(stamp), stamp);
        assert_eq!(steady.at(stamp), stamp);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_stamps_and_not_time() {
        let timeline = Timeline::new();
        for step in [-3_600_i64, 3_600] {
            let mut steady = Steady::new(timeline);
            let now = timeline.now();
            let stepped = Timestamp::from_seconds(now.as_seconds().saturating_add_signed(step));
            let at = steady.check(stepped);
            assert!(
                at.nanos_since(now) < AHEAD_NANOS && at >= now,
                "{step}: {at} against {now}"
            );
            let later = steady.at(stepped.plus_nanos(1_000));
            assert_eq!(later.nanos_since(at), 1_000, "{step}");
        }
    }
}
