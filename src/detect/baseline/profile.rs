//! The long memory of a series: the p99 of each hour for four weeks, and of each day for one.
//!
//! What was normal at this hour on other days, at this hour of the week in other weeks, and what a usual day is. Pure;
//! the detector's thread; bounded. It never interpolates: an hour that was not seen is missing.

/// Hours kept: four weeks back from an hour, and the hours on both sides of it.
pub(super) const HOURS: usize = 4 * 168 + 2;

/// Days kept, and days the same hour and the usual day are medians of.
pub(super) const DAYS: u64 = 7;

/// The period of a day, in hours.
const DAY: Period = Period {
    hours: 24,
    back: DAYS,
    needed: 3,
};

/// The period of a week, in hours.
const WEEK: Period = Period {
    hours: 168,
    back: 4,
    needed: 2,
};

/// Daily values without which no usual day is known; as many as the same hour of other days needs.
const DAYS_NEEDED: usize = DAY.needed;

/// What repeats, how often it is looked back at, and how many of those times must have been seen.
struct Period {
    hours: u64,
    back: u64,
    needed: usize,
}

/// The p99 of one span that was seen; `label` is its number since the epoch, in hours or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Which hour or day since the epoch.
    pub(super) label: u64,
    /// The p99 of its quiet seconds.
    pub(super) p99: u64,
}

/// The long memory of one series. Empty, and without memory of its own, until the first hour is put in.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    hours: Vec<Option<Summary>>,
    days: Vec<Summary>,
}

impl Profile {
    /// Remembers an hour, and forgets those that lie too far back from it to be looked at again.
    pub(super) fn put_hour(&mut self, hour: Summary) {
        if self.hours.is_empty() {
            self.hours = vec![None; HOURS];
        }
        let is_old = |old: &mut Summary| old.label.saturating_add(HOURS as u64) <= hour.label;
        for old in &mut self.hours {
            old.take_if(is_old);
        }
        if let Some(place) = place(hour.label).and_then(|place| self.hours.get_mut(place)) {
            *place = Some(hour);
        }
    }

    /// Remembers a day; days come in order.
    pub(super) fn put_day(&mut self, day: Summary) {
        self.days
            .retain(|old| old.label < day.label && old.label.saturating_add(DAYS) > day.label);
        self.days.push(day);
    }

    /// The clock was set back: hours after `hour` and days after `day` have not been yet.
    pub(super) fn forget_after(&mut self, hour: u64, day: u64) {
        for old in &mut self.hours {
            old.take_if(|old| old.label > hour);
        }
        self.days.retain(|old| old.label <= day);
    }

    /// Of this UTC hour and both its neighbours, the largest of their medians over the last 7 days; an hour seen on
    /// fewer than 3 of them has none.
    pub(super) fn same_hour(&self, hour: u64) -> Option<u64> {
        self.around(hour, &DAY)
    }

    /// Of this hour of the week and both its neighbours, the largest of their medians over the last 4 weeks; an hour
    /// seen in fewer than 2 of them has none.
    pub(super) fn same_hour_of_week(&self, hour: u64) -> Option<u64> {
        self.around(hour, &WEEK)
    }

    /// The median of the daily values of the 7 days before `today`; `None` with fewer than 3.
    pub(super) fn usual_day(&self, today: u64) -> Option<u64> {
        let days = self
            .days
            .iter()
            .filter(|day| day.label.saturating_add(DAYS) >= today);
        median(days.map(|day| day.p99), DAYS_NEEDED)
    }

    /// The hours in memory, oldest first.
    pub(super) fn hours(&self) -> Vec<Summary> {
        let mut hours: Vec<Summary> = self.hours.iter().flatten().copied().collect();
        hours.sort_by_key(|hour| hour.label);
        hours
    }

    /// The days in memory, oldest first.
    pub(super) fn days(&self) -> &[Summary] {
        &self.days
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.hours.capacity() * size_of::<Option<Summary>>()
            + self.days.capacity() * size_of::<Summary>()
    }

    fn around(&self, hour: u64, period: &Period) -> Option<u64> {
        if self.hours.is_empty() {
            return None;
        }
        let neighbours = [hour.checked_sub(1), Some(hour), hour.checked_add(1)];
        neighbours
            .into_iter()
            .flatten()
            .filter_map(|hour| self.typical(hour, period))
            .max()
    }

    fn typical(&self, hour: u64, period: &Period) -> Option<u64> {
        let earlier = (1..=period.back)
            .filter_map(|times| self.p99_of(hour.checked_sub(times * period.hours)?));
        median(earlier, period.needed)
    }

    fn p99_of(&self, hour: u64) -> Option<u64> {
        let summary = self.hours.get(place(hour)?)?.as_ref()?;
        (summary.label == hour).then_some(summary.p99)
    }
}

fn place(hour: u64) -> Option<usize> {
    usize::try_from(hour % HOURS as u64).ok()
}

/// The upper median, so that of two weeks the one with the weekly job counts; `None` with fewer than `needed` values.
fn median(values: impl Iterator<Item = u64>, needed: usize) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    if values.len() < needed {
        return None;
    }
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12:00 UTC of some day far from the epoch.
    const NOON: u64 = 20_000 * 24 + 12;

    fn profile(hours: &[(u64, u64)]) -> Profile {
        let mut profile = Profile::default();
        for &(label, p99) in hours {
            profile.put_hour(Summary { label, p99 });
        }
        profile
    }

    #[test]
    fn the_same_hour_is_the_median_over_seven_days_and_needs_three() {
        let two = profile(&[(NOON - 24, 10), (NOON - 48, 30)]);
        assert_eq!(two.same_hour(NOON), None);
        let three = profile(&[(NOON - 24, 10), (NOON - 48, 30), (NOON - 72, 20)]);
        assert_eq!(three.same_hour(NOON), Some(20));
        let an_eighth_day = profile(&[(NOON - 24, 10), (NOON - 48, 30), (NOON - 8 * 24, 20)]);
        assert_eq!(an_eighth_day.same_hour(NOON), None);
    }

    #[test]
    fn the_larger_of_both_neighbour_hours_counts() {
        let mut hours = Vec::new();
        for day in 1..=7 {
            hours.extend([
                (NOON - day * 24 - 1, 100),
                (NOON - day * 24, 10),
                (NOON - day * 24 + 1, 50),
            ]);
        }
        let profile = profile(&hours);
        assert_eq!(profile.same_hour(NOON), Some(100));
        assert_eq!(profile.same_hour(NOON + 1), Some(50));
        assert_eq!(profile.same_hour(NOON + 2), Some(50));
        assert_eq!(profile.same_hour(NOON + 3), None);
    }

    #[test]
    fn the_same_hour_of_the_week_looks_back_four_weeks_and_needs_two() {
        assert_eq!(profile(&[(NOON - 168, 90)]).same_hour_of_week(NOON), None);
        let two = profile(&[(NOON - 168, 90), (NOON - 2 * 168, 10)]);
        assert_eq!(two.same_hour_of_week(NOON), Some(90));
        let last_and_fifth = profile(&[(NOON - 168, 90), (NOON - 5 * 168, 10)]);
        assert_eq!(last_and_fifth.same_hour_of_week(NOON), None);
        let first_and_fourth = profile(&[(NOON - 4 * 168 - 1, 70), (NOON - 3 * 168 - 1, 60)]);
        assert_eq!(
            first_and_fourth.same_hour_of_week(NOON),
            Some(70),
            "the earlier neighbour, four weeks back"
        );
    }

    #[test]
    fn four_weeks_of_hours_and_both_neighbours_fit() {
        let hours: Vec<(u64, u64)> = (0..2_000).map(|hour| (NOON - 2_000 + hour, hour)).collect();
        let profile = profile(&hours);
        assert_eq!(profile.hours().len(), HOURS);
        assert_eq!(
            profile.p99_of(NOON - HOURS as u64),
            Some(2_000 - HOURS as u64)
        );
        assert_eq!(profile.p99_of(NOON - HOURS as u64 - 1), None);
    }

    #[test]
    fn the_usual_day_is_the_median_of_the_last_seven() {
        let mut profile = Profile::default();
        for (day, p99) in [(100, 1), (101, 2), (102, 9)] {
            profile.put_day(Summary { label: day, p99 });
        }
        assert_eq!(profile.usual_day(103), Some(2));
        assert_eq!(profile.usual_day(107), Some(2));
        assert_eq!(profile.usual_day(108), None, "two are left");
        (103..120).for_each(|day| {
            profile.put_day(Summary {
                label: day,
                p99: day,
            })
        });
        assert_eq!(profile.days().len(), 7);
        assert_eq!(profile.usual_day(120), Some(116));
    }

    #[test]
    fn the_epoch_itself_has_no_earlier_days() {
        let profile = profile(&[(0, 5), (1, 6)]);
        assert_eq!(profile.same_hour(0), None);
        assert_eq!(profile.same_hour_of_week(u64::MAX), None);
    }
}
