//! Time in slots: the values of a span of quiet seconds, and a rolling row of such slots with their total.
//!
//! A slot carries the label of its UTC span (seconds since the epoch divided by the slot's length), so a gap or a
//! restart leaves slots missing and never fills them with zeros. Pure; the detector's thread. Histograms are allocated
//! when a series is first seen in a slot and then kept, so memory is bounded and an idle host pays for nothing.

use hdrhistogram::Histogram;

use super::series::{PerSeries, SecondValues, Series};
use super::state::{SlotState, TallyState};

/// The values of one series in a span of seconds. Zeros are not recorded: whoever asks knows how many seconds there
/// were, and what is missing from the histogram was zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    sum: u64,
    histogram: Option<Histogram<u32>>,
}

impl Tally {
    fn record(&mut self, series: Series, value: u64, times: u32) {
        if value == 0 || times == 0 {
            return;
        }
        let value = value.min(series.unit().max());
        self.sum = self
            .sum
            .saturating_add(value.saturating_mul(u64::from(times)));
        if self.histogram.is_none() {
            self.histogram = empty_histogram(series);
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record_n(value, times);
        }
    }

    /// The smallest value that at most `above` seconds exceed, rounded up to the histogram's digits.
    fn exceeded_by_at_most(&self, above: u64) -> u64 {
        let Some(histogram) = &self.histogram else {
            return 0;
        };
        if histogram.len() <= above {
            return 0;
        }
        // From the top: a high quantile is a few buckets below the largest value, however much lies further down.
        let mut value = histogram.max();
        let mut passed = 0u64;
        loop {
            passed = passed.saturating_add(u64::from(histogram.count_at(value)));
            if passed > above {
                return histogram.highest_equivalent(value);
            }
            match histogram.lowest_equivalent(value).checked_sub(1) {
                Some(below) => value = below,
                None => return 0,
            }
        }
    }

    fn subtract(&mut self, other: &Self) {
        self.sum = self.sum.saturating_sub(other.sum);
        if let (Some(mine), Some(theirs)) = (&mut self.histogram, &other.histogram)
            && mine.subtract(theirs).is_err()
        {
            // Only a total that never contained the slot could get here; forgetting is the safe answer.
            mine.reset();
        }
    }

    fn clear(&mut self) {
        self.sum = 0;
        if let Some(histogram) = &mut self.histogram {
            histogram.reset();
        }
    }

    fn state(&self) -> Option<TallyState> {
        let histogram = self
            .histogram
            .as_ref()
            .filter(|histogram| !histogram.is_empty())?;
        let counts = histogram
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect();
        Some(TallyState {
            sum: self.sum,
            counts,
        })
    }

    /// Takes over a state that [`Slot::restore`]'s caller has found to be in range; `Err` says what does not fit.
    fn restore(&mut self, series: Series, state: &TallyState, seconds: u64) -> Result<(), String> {
        let (mut least_sum, mut largest_sum, mut previous) = (0u64, 0u64, None);
        for &(value, times) in &state.counts {
            if value == 0
                || value > series.unit().max()
                || previous.is_some_and(|previous| value <= previous)
            {
                return Err(format!(
                    "{series} holds the value {value} out of order or range"
                ));
            }
            if times == 0 {
                return Err(format!("{series} holds the value {value} zero times"));
            }
            previous = Some(value);
            self.record(series, value, times);
            if let Some(histogram) = &self.histogram {
                let times = u64::from(times);
                least_sum = least_sum
                    .saturating_add(histogram.lowest_equivalent(value).saturating_mul(times));
                largest_sum = largest_sum
                    .saturating_add(histogram.highest_equivalent(value).saturating_mul(times));
            }
        }
        let recorded = self.histogram.as_ref().map_or(0, Histogram::len);
        if recorded > seconds {
            return Err(format!(
                "{series} has {recorded} values in {seconds} seconds"
            ));
        }
        if !(least_sum..=largest_sum).contains(&state.sum) {
            let sum = state.sum;
            return Err(format!(
                "{series} has the sum {sum}, expected {least_sum} to {largest_sum}"
            ));
        }
        self.sum = state.sum;
        Ok(())
    }

    fn add(&mut self, series: Series, other: &Self) {
        let Some(theirs) = &other.histogram else {
            return;
        };
        for step in theirs.iter_recorded() {
            self.record(series, step.value_iterated_to(), step.count_at_value());
        }
    }

    fn memory_bytes(&self) -> usize {
        self.histogram.as_ref().map_or(0, |histogram| {
            histogram.distinct_values() * size_of::<u32>()
        })
    }
}

/// Two significant digits for the totals, whose limits are compared with the contract's 5 %; one for the classes, which
/// are forty and only have to tell normal from excess.
fn empty_histogram(series: Series) -> Option<Histogram<u32>> {
    let digits = if series.is_total() { 2 } else { 1 };
    // Never fails: the bounds are constants that the histogram accepts. Without one, nothing would be learned.
    Histogram::new_with_bounds(1, series.unit().max(), digits).ok()
}

/// A span of seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    label: Option<u64>,
    seconds: u64,
    tallies: PerSeries<Tally>,
}

impl Slot {
    /// Quiet seconds in it.
    pub(super) const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// The value that `permille` of its seconds do not exceed, rounded up to the histogram's digits; `None` when it has
    /// no seconds.
    pub(super) fn quantile(&self, series: Series, permille: u64) -> Option<u64> {
        (self.seconds > 0).then(|| {
            let above = self
                .seconds
                .saturating_mul(1_000u64.saturating_sub(permille))
                / 1_000;
            self.tallies.of(series).exceeded_by_at_most(above)
        })
    }

    /// The exact mean, rounded down; `None` when it has no seconds.
    pub(super) fn mean(&self, series: Series) -> Option<u64> {
        self.tallies.of(series).sum.checked_div(self.seconds)
    }

    fn record(&mut self, values: &SecondValues) {
        self.seconds = self.seconds.saturating_add(1);
        let tallies = self.tallies.as_mut_slice().iter_mut();
        for ((tally, value), series) in tallies.zip(values.as_slice()).zip(&Series::ALL) {
            if *value > 0 {
                tally.record(*series, *value, 1);
            }
        }
    }

    fn subtract(&mut self, other: &Self) {
        self.seconds = self.seconds.saturating_sub(other.seconds);
        for ((_, mine), (_, theirs)) in self.tallies.iter_mut().zip(other.tallies.iter()) {
            mine.subtract(theirs);
        }
    }

    fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.saturating_add(other.seconds);
        for ((series, mine), (_, theirs)) in self.tallies.iter_mut().zip(other.tallies.iter()) {
            // The histogram knows values to its digits only; the sum is exact and is carried over as it is.
            let sum = mine.sum.saturating_add(theirs.sum);
            mine.add(series, theirs);
            mine.sum = sum;
        }
    }

    fn clear(&mut self) {
        self.label = None;
        self.seconds = 0;
        for (_, tally) in self.tallies.iter_mut() {
            tally.clear();
        }
    }

    fn state(&self) -> Option<SlotState> {
        let series = self
            .tallies
            .iter()
            .filter_map(|(series, tally)| Some((series, tally.state()?)));
        Some(SlotState {
            label: self.label?,
            seconds: self.seconds,
            series: series.collect(),
        })
    }

    fn restore(state: &SlotState, slot_seconds: u64) -> Result<Self, String> {
        if state.seconds == 0 || state.seconds > slot_seconds {
            return Err(format!(
                "it has {} seconds, expected 1 to {slot_seconds}",
                state.seconds
            ));
        }
        let mut slot = Self {
            label: Some(state.label),
            seconds: state.seconds,
            ..Self::default()
        };
        for (&series, tally) in &state.series {
            slot.tallies
                .of_mut(series)
                .restore(series, tally, state.seconds)?;
        }
        Ok(slot)
    }

    fn memory_bytes(&self) -> usize {
        self.tallies
            .iter()
            .map(|(_, tally)| tally.memory_bytes())
            .sum::<usize>()
            + size_of::<Self>()
    }
}

/// A row of slots that moves with time, and their total.
#[derive(Clone, Debug)]
pub(super) struct Rolling {
    slot_seconds: u64,
    slots: Vec<Slot>,
    newest: u64,
    total: Slot,
}

impl Rolling {
    /// A row of `slots` empty slots of `slot_seconds` each, both at least 1.
    pub(super) fn new(slot_seconds: u64, slots: usize) -> Self {
        Self {
            slot_seconds: slot_seconds.max(1),
            slots: vec![Slot::default(); slots.max(1)],
            newest: 0,
            total: Slot::default(),
        }
    }

    /// Everything the row still holds, as one span.
    pub(super) const fn total(&self) -> &Slot {
        &self.total
    }

    /// The slot that is being filled, once it has a second.
    pub(super) fn open(&self) -> Option<&Slot> {
        self.slots
            .iter()
            .find(|slot| slot.label == Some(self.newest))
    }

    /// Label of the slot that `second` belongs to.
    pub(super) const fn label_of(&self, second: u64) -> u64 {
        second / self.slot_seconds
    }

    /// The newest label time has come to.
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    /// Moves the row on to `second`; what it has left behind is taken out of the total. Never moves back.
    pub(super) fn advance(&mut self, second: u64) {
        let label = self.label_of(second);
        if label <= self.newest {
            return;
        }
        self.newest = label;
        let length = self.slots.len() as u64;
        for slot in &mut self.slots {
            if slot
                .label
                .is_some_and(|old| old.saturating_add(length) <= label)
            {
                self.total.subtract(slot);
                slot.clear();
            }
        }
    }

    /// The clock was set back to `second`: the newest slot is that of `second` from now on, and the others keep their
    /// distance from it.
    pub(super) fn step_back_to(&mut self, second: u64) {
        let label = self.label_of(second);
        let back = self.newest.saturating_sub(label);
        if back == 0 {
            return;
        }
        self.newest = label;
        for slot in &mut self.slots {
            let Some(old) = slot.label else { continue };
            match old.checked_sub(back) {
                Some(moved) => slot.label = Some(moved),
                // It would lie before 1970.
                None => {
                    self.total.subtract(slot);
                    slot.clear();
                }
            }
        }
        // A slot's place follows from its label.
        let length = self.slots.len() as u64;
        let places = back.checked_rem(length).unwrap_or(0);
        self.slots.rotate_left(usize::try_from(places).unwrap_or(0));
    }

    /// Adds a second to the open slot and the total. [`Rolling::advance`] comes first. A slot that is full, because the
    /// clock was set back in it, takes no more: time that is lived twice counts once.
    pub(super) fn record(&mut self, values: &SecondValues) {
        let newest = self.newest;
        let slot_seconds = self.slot_seconds;
        let Some(slot) = open_slot(&mut self.slots, newest)
            .filter(|slot| slot.label != Some(newest) || slot.seconds < slot_seconds)
        else {
            return;
        };
        slot.label = Some(newest);
        slot.record(values);
        self.total.record(values);
    }

    /// The slots in use, oldest first.
    pub(super) fn state(&self) -> Vec<SlotState> {
        let mut states: Vec<SlotState> = self.slots.iter().filter_map(Slot::state).collect();
        states.sort_by_key(|slot| slot.label);
        states
    }

    /// Fills an empty row with slots, oldest first, and moves it on to `second`; `Err` says what is wrong with them.
    pub(super) fn restore(&mut self, states: &[SlotState], second: u64) -> Result<(), String> {
        let newest = self.label_of(second);
        let oldest = newest.saturating_sub(self.slots.len() as u64 - 1);
        let mut previous = None;
        for state in states {
            let label = state.label;
            let ordered = previous.is_none_or(|previous| previous < label);
            if !ordered || !(oldest..=newest).contains(&label) {
                return Err(format!(
                    "slot {label} of {} s is out of order or outside {oldest} to {newest}",
                    self.slot_seconds
                ));
            }
            previous = Some(label);
            let slot = Slot::restore(state, self.slot_seconds)
                .map_err(|problem| format!("slot {label} of {} s: {problem}", self.slot_seconds))?;
            self.total.add(&slot);
            if let Some(place) = open_slot(&mut self.slots, label) {
                *place = slot;
            }
        }
        self.newest = newest;
        Ok(())
    }

    /// Bytes held by the slots and their histograms.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.iter().map(Slot::memory_bytes).sum::<usize>() + self.total.memory_bytes()
    }
}

fn open_slot(slots: &mut [Slot], label: u64) -> Option<&mut Slot> {
    let place = label.checked_rem(slots.len() as u64)?;
    slots.get_mut(usize::try_from(place).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::series::Unit;
    use super::*;
    use crate::classify::TrafficClass;

    const SYN: Series = Series::ClassPackets(TrafficClass::Syn);

    fn values(pps: u64, syn: u64) -> SecondValues {
        let mut values = SecondValues::new();
        values.set(Series::Pps, pps);
        values.set(SYN, syn);
        values
    }

    fn filled(row: &mut Rolling, seconds: std::ops::Range<u64>, pps: u64) {
        for second in seconds {
            row.advance(second);
            row.record(&values(pps, pps / 10));
        }
    }

    #[test]
    fn a_quantile_counts_the_zeros_that_are_not_recorded() {
        let mut row = Rolling::new(600, 6);
        filled(&mut row, 0..95, 0);
        filled(&mut row, 95..100, 7);
        assert_eq!(row.total().quantile(Series::Pps, 990), Some(7));
        assert_eq!(row.total().quantile(Series::Pps, 951), Some(7));
        assert_eq!(row.total().quantile(Series::Pps, 950), Some(0));
        assert_eq!(row.total().quantile(Series::Bps, 990), Some(0));
        assert_eq!(
            row.total().mean(Series::Pps),
            Some(0),
            "35 in 100 seconds, rounded down"
        );
    }

    #[test]
    fn a_row_set_back_keeps_what_it_holds_and_goes_on_as_if_nothing_had_happened() {
        for back in [1, 5, 6, 7, 1_000] {
            let mut row = Rolling::new(600, 6);
            filled(&mut row, 2_000 * 600..2_004 * 600, 50);
            let mut still = row.clone();
            row.step_back_to((2_003 - back) * 600);
            assert_eq!(row.total().seconds(), 4 * 600, "{back}");
            // The oldest slots leave at the same time on both sides.
            filled(&mut row, (2_004 - back) * 600..(2_008 - back) * 600, 9);
            filled(&mut still, 2_004 * 600..2_008 * 600, 9);
            let seconds = |row: &Rolling| row.total().seconds();
            assert_eq!(seconds(&row), seconds(&still), "{back}");
            assert_eq!(
                row.total().mean(Series::Pps),
                still.total().mean(Series::Pps),
                "{back}"
            );
            let labels: Vec<u64> = row.state().iter().map(|slot| slot.label).collect();
            let moved = still
                .state()
                .iter()
                .map(|slot| slot.label - back)
                .collect::<Vec<_>>();
            assert_eq!(labels, moved, "{back}");
        }
    }

    #[test]
    fn a_row_set_back_to_1970_forgets_what_would_lie_before() {
        let mut row = Rolling::new(600, 6);
        filled(&mut row, 2_000 * 600..2_004 * 600, 50);
        row.step_back_to(700);
        assert_eq!(row.total().seconds(), 2 * 600);
        filled(&mut row, 701..1_200, 50);
        assert_eq!(row.total().mean(Series::Pps), Some(50));
        assert_eq!(row.state().len(), 2);
    }

    #[test]
    fn nothing_seen_is_not_zero() {
        let row = Rolling::new(600, 6);
        assert_eq!(row.total().quantile(Series::Pps, 990), None);
        assert_eq!(row.total().mean(Series::Pps), None);
        assert!(row.open().is_none());
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values_within_the_digits() {
        let mut row = Rolling::new(600, 6);
        let mut sorted = Vec::new();
        for second in 0..600 {
            let pps = second * second * 37 % 50_021;
            sorted.push(pps);
            row.advance(second);
            row.record(&values(pps, pps));
        }
        sorted.sort_unstable();
        for permille in [0, 1, 500, 900, 950, 990, 999, 1_000] {
            let above = sorted.len() as u64 * (1_000 - permille) / 1_000;
            let exact = sorted[(sorted.len() - 1).saturating_sub(above as usize)];
            let total = row.total().quantile(Series::Pps, permille).unwrap();
            assert!(
                (exact..=exact + exact / 100).contains(&total),
                "{permille}: {total} for {exact}"
            );
            let class = row.total().quantile(SYN, permille).unwrap();
            assert!(
                (exact..=exact + exact / 15).contains(&class),
                "{permille}: {class} for {exact}"
            );
        }
    }

    #[test]
    fn what_time_has_left_behind_is_taken_out() {
        let mut row = Rolling::new(600, 6);
        filled(&mut row, 0..600, 1_000);
        filled(&mut row, 600..1_200, 10);
        assert_eq!(
            row.total().quantile(Series::Pps, 990),
            row.slots[0].quantile(Series::Pps, 990)
        );
        row.advance(3_599);
        assert_eq!(row.total().seconds(), 1_200);
        row.advance(3_600);
        assert_eq!(row.total().seconds(), 600);
        assert_eq!(row.total().quantile(Series::Pps, 1_000), Some(10));
        assert_eq!(row.total().mean(Series::Pps), Some(10));
        row.advance(1_000_000_000);
        assert_eq!(row.total().seconds(), 0);
        assert_eq!(row.total().quantile(Series::Pps, 990), None);
    }

    #[test]
    fn time_never_moves_back() {
        let mut row = Rolling::new(600, 6);
        filled(&mut row, 6_000..6_010, 5);
        row.advance(0);
        row.record(&values(5, 5));
        assert_eq!(row.newest(), 10);
        assert_eq!(row.open().map(Slot::seconds), Some(11));
    }

    #[test]
    fn a_value_beyond_everything_is_learned_as_the_largest_there_is() {
        let mut row = Rolling::new(600, 6);
        row.record(&values(u64::MAX, u64::MAX));
        let top = row.total().quantile(Series::Pps, 990).unwrap();
        assert_eq!(top, Unit::Packets.max());
        assert_eq!(row.total().mean(Series::Pps), Some(Unit::Packets.max()));
    }

    #[test]
    fn a_row_comes_back_from_its_state_and_goes_on_alike() {
        let mut row = Rolling::new(600, 6);
        for second in 500..5_000 {
            row.advance(second);
            row.record(&values(second * 7_919 % 30_011, second % 5));
        }
        let mut again = Rolling::new(600, 6);
        again.restore(&row.state(), 4_999).unwrap();
        for second in [5_000, 7_000, 9_000] {
            assert_eq!(again.state(), row.state());
            for series in [Series::Pps, SYN] {
                assert_eq!(again.total().mean(series), row.total().mean(series));
                for permille in [500, 950, 990, 1_000] {
                    assert_eq!(
                        again.total().quantile(series, permille),
                        row.total().quantile(series, permille)
                    );
                }
            }
            filled(&mut row, second..second + 10, 9);
            filled(&mut again, second..second + 10, 9);
        }
    }
}
