//! The last quiet seconds: where each second waits before it is learned, and what was normal when an attack began.
//!
//! Pure; the detector's thread; a ring of fixed size. It never forgets a second because an incident opened: such seconds
//! are no longer learned, but they are what the excess is measured against.

use std::collections::VecDeque;

use super::series::{PerSeries, SecondValues, Series};

/// Seconds a quiet second waits before it is learned, and seconds the normal at onset is the mean of (detection.md,
/// section 4: both are 60, so one ring serves both).
pub(super) const WAIT_SECONDS: u64 = 60;

/// The same, as a length.
pub(super) const CAPACITY: usize = 60;

/// A quiet second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    /// Which UTC second.
    pub(super) second: u64,
    /// What was counted in it.
    pub(super) values: SecondValues,
}

/// The ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    seconds: VecDeque<Quiet>,
    sums: PerSeries<u64>,
    /// How many of the newest are still to be learned.
    waiting: usize,
}

impl Recent {
    /// Adds a second that waits to be learned.
    pub(super) fn push(&mut self, quiet: Quiet) {
        let sums = self.sums.as_mut_slice();
        if self.seconds.len() >= CAPACITY
            && let Some(oldest) = self.seconds.pop_front()
        {
            for (sum, value) in sums.iter_mut().zip(oldest.values.as_slice()) {
                *sum = sum.saturating_sub(*value);
            }
        }
        for (sum, value) in sums.iter_mut().zip(quiet.values.as_slice()) {
            *sum = sum.saturating_add(*value);
        }
        self.seconds.push_back(quiet);
        self.waiting = (self.waiting + 1).min(CAPACITY);
    }

    /// The oldest second that has waited long enough at `now` and was not taken before.
    pub(super) fn take_ripe(&mut self, now: u64) -> Option<Quiet> {
        let next = self.seconds.len().checked_sub(self.waiting)?;
        let ripe = |quiet: &&Quiet| quiet.second.saturating_add(WAIT_SECONDS) <= now;
        let quiet = self.seconds.get(next).filter(ripe)?.clone();
        self.waiting -= 1;
        Some(quiet)
    }

    /// An incident opened: what still waits will not be learned.
    pub(super) const fn forget_waiting(&mut self) {
        self.waiting = 0;
    }

    /// Time was lost: nothing here says what is normal now.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// UTC was set by so many seconds.
    pub(super) fn move_by(&mut self, seconds: i64) {
        for quiet in &mut self.seconds {
            quiet.second = quiet.second.saturating_add_signed(seconds);
        }
    }

    /// How many seconds there are, at most [`CAPACITY`].
    pub(super) fn len(&self) -> usize {
        self.seconds.len()
    }

    /// How many of the newest are still to be learned.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The mean, rounded down; `None` when there is no second.
    pub(super) fn mean(&self, series: Series) -> Option<u64> {
        self.sums.of(series).checked_div(self.seconds.len() as u64)
    }

    /// The seconds, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Quiet> {
        self.seconds.iter()
    }

    /// A ring of `seconds`, of which the newest `waiting` are still to be learned.
    pub(super) fn restore(seconds: impl Iterator<Item = Quiet>, waiting: usize) -> Self {
        let mut recent = Self::default();
        seconds.for_each(|quiet| recent.push(quiet));
        recent.waiting = waiting.min(recent.len());
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(second: u64, pps: u64) -> Quiet {
        let mut values = SecondValues::new();
        values.set(Series::Pps, pps);
        Quiet { second, values }
    }

    #[test]
    fn a_second_is_ripe_after_a_minute_and_taken_once() {
        let mut recent = Recent::default();
        recent.push(quiet(100, 7));
        recent.push(quiet(101, 8));
        assert_eq!(recent.take_ripe(159), None);
        assert_eq!(recent.take_ripe(160).map(|quiet| quiet.second), Some(100));
        assert_eq!(recent.take_ripe(160), None);
        assert_eq!(recent.take_ripe(500).map(|quiet| quiet.second), Some(101));
        assert_eq!(recent.take_ripe(500), None);
    }

    #[test]
    fn forgotten_seconds_are_not_learned_but_still_say_what_was_normal() {
        let mut recent = Recent::default();
        recent.push(quiet(100, 10));
        recent.push(quiet(101, 20));
        recent.forget_waiting();
        assert_eq!(recent.take_ripe(1_000), None);
        assert_eq!(recent.mean(Series::Pps), Some(15));
    }

    #[test]
    fn the_mean_is_that_of_the_last_sixty() {
        let mut recent = Recent::default();
        (0..200).for_each(|second| recent.push(quiet(second, second)));
        assert_eq!(recent.len(), CAPACITY);
        assert_eq!(recent.mean(Series::Pps), Some((140..200).sum::<u64>() / 60));
        assert_eq!(recent.mean(Series::Bps), Some(0));
    }
}
