//! The baseline as it is stored: plain values with a version, written by [`Baseline::state`](super::Baseline::state)
//! and checked before [`Baseline::restore`](super::Baseline::restore) believes a word of it.
//!
//! The file may be damaged, from another version, or written by somebody else: it is refused with a reason and never
//! leads to a panic or to more memory than a baseline has. Pure; whoever stores it decides where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::profile::{DAYS, HOURS, Profile, Summary};
use super::recent::{CAPACITY, Quiet, Recent};
use super::reference::Tracked;
use super::series::{PerSeries, SecondValues, Series};

/// How far a state may lie ahead of the clock, in seconds: a stepped clock, not another year.
pub(super) const AHEAD_SECONDS: u64 = 3_600;

/// Why a stored baseline is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another version of the format.
    #[error(
        "baseline state has version {found}, expected {}",
        BaselineState::VERSION
    )]
    Version {
        /// The version it has.
        found: u32,
    },
    /// It was written later than now.
    #[error(
        "baseline state ends at second {last_second}, expected at most an hour after {now_second}: \
         check the system clock"
    )]
    FromTheFuture {
        /// The last second it knows, since the epoch.
        last_second: u64,
        /// Now, in seconds since the epoch.
        now_second: u64,
    },
    /// It contradicts itself.
    #[error("baseline state is damaged: {problem}")]
    Damaged {
        /// What does not fit.
        problem: String,
    },
}

/// A baseline's memory, ready to be stored. Only [`Baseline`](super::Baseline) makes sense of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineState {
    pub(super) version: u32,
    /// The last second that was seen, since the epoch; without it nothing was.
    pub(super) last_second: Option<u64>,
    pub(super) clock: ClockState,
    pub(super) references: BTreeMap<Series, Tracked>,
    pub(super) recent: Vec<QuietState>,
    pub(super) waiting: usize,
    pub(super) ten_minutes: Vec<SlotState>,
    pub(super) hours: Vec<SlotState>,
    pub(super) profiles: BTreeMap<Series, ProfileState>,
}

/// What was seen and when, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockState {
    /// Seconds seen since the clock was started.
    pub(super) observed: u64,
    /// Where the slots stand, since the epoch: behind the last second by as long as a second waits.
    pub(super) learned_to: u64,
    /// When references last moved, since the epoch.
    pub(super) moved_at: Option<u64>,
    /// First second that is far enough behind a hostile incident.
    pub(super) quiet_from: u64,
    /// First second that is far enough behind a boot or a link coming up.
    pub(super) settled_from: u64,
    /// Suspected seconds in a row.
    pub(super) suspected: u64,
    /// The next second seen is the first after a boot or a link coming up.
    pub(super) link_came_up: bool,
}

/// A quiet second; values that are zero are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuietState {
    pub(super) second: u64,
    pub(super) values: BTreeMap<Series, u64>,
}

/// A slot; series that were zero throughout are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlotState {
    pub(super) label: u64,
    pub(super) seconds: u64,
    pub(super) series: BTreeMap<Series, TallyState>,
}

/// The values of one series in one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TallyState {
    pub(super) sum: u64,
    /// Values, rising, and how often each was counted.
    pub(super) counts: Vec<(u64, u32)>,
}

/// The long memory of one series: labels since the epoch and p99, both rising in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileState {
    pub(super) hours: Vec<(u64, u64)>,
    pub(super) days: Vec<(u64, u64)>,
}

impl BaselineState {
    /// Version of the format. It changes when the meaning of a field changes; a new series needs no new version, for a
    /// series that is missing from a state is one that nothing is known of.
    pub const VERSION: u32 = 1;

    /// Bytes that a state written as JSON never exceeds: every slot full of distinct values comes to about 12 MB.
    pub const JSON_BYTES_MAX: u64 = 16 << 20;

    /// The last second it knows, in seconds since the epoch; `None` when it knows nothing.
    #[must_use]
    pub const fn last_second(&self) -> Option<u64> {
        self.last_second
    }

    /// Whether the version is ours and time can go on from it at `now_second`.
    pub(super) fn check(&self, now_second: u64) -> Result<(), StateError> {
        if self.version != Self::VERSION {
            return Err(StateError::Version {
                found: self.version,
            });
        }
        let last_second = self.last_second.unwrap_or_default();
        if last_second > now_second.saturating_add(AHEAD_SECONDS) {
            return Err(StateError::FromTheFuture {
                last_second,
                now_second,
            });
        }
        let clock = &self.clock;
        let latest = [
            clock.learned_to,
            clock.moved_at.unwrap_or_default(),
            clock.quiet_from,
            clock.settled_from,
        ];
        ensure(
            latest
                .into_iter()
                .all(|second| second <= self.latest_second()),
            || format!("its clock runs ahead of its last second, {last_second}"),
        )
    }

    /// No time in a state lies later: waits are an hour long at most, and the clock may have been set back by another.
    fn latest_second(&self) -> u64 {
        self.last_second
            .unwrap_or_default()
            .saturating_add(2 * AHEAD_SECONDS)
    }

    pub(super) fn references(&self) -> Result<PerSeries<Tracked>, StateError> {
        let mut references = PerSeries::default();
        for (&series, tracked) in &self.references {
            let parts = &tracked.parts;
            let known = [
                parts.hour,
                parts.day,
                parts.same_hour,
                parts.same_hour_of_week,
            ];
            let accepted = tracked.accepted.map_or(0, |accepted| accepted.value);
            let largest = known
                .into_iter()
                .flatten()
                .fold(tracked.value.max(tracked.wanted).max(accepted), u64::max);
            ensure(largest <= series.unit().max(), || {
                format!("the reference of {series} is {largest}")
            })?;
            *references.of_mut(series) = *tracked;
        }
        Ok(references)
    }

    pub(super) fn recent(&self) -> Result<Recent, StateError> {
        ensure(self.recent.len() <= CAPACITY, || {
            format!("{} recent seconds, expected {CAPACITY}", self.recent.len())
        })?;
        ensure(self.waiting <= self.recent.len(), || {
            format!("{} seconds wait of {}", self.waiting, self.recent.len())
        })?;
        let mut next = 0;
        for quiet in &self.recent {
            let second = quiet.second;
            let in_order = second >= next && self.last_second.is_some_and(|last| second <= last);
            ensure(in_order, || {
                format!("recent second {second} is out of order")
            })?;
            next = second.saturating_add(1);
            for (series, &value) in &quiet.values {
                ensure((1..=series.unit().max()).contains(&value), || {
                    format!("{series} was {value} in second {second}")
                })?;
            }
        }
        Ok(Recent::restore(
            self.recent.iter().map(QuietState::quiet),
            self.waiting,
        ))
    }

    pub(super) fn profiles(&self) -> Result<PerSeries<Profile>, StateError> {
        let latest = self.latest_second();
        let mut profiles = PerSeries::<Profile>::default();
        for (&series, state) in &self.profiles {
            let profile = profiles.of_mut(series);
            let hours = summaries(series, &state.hours, HOURS as u64, latest / 3_600)?;
            hours.for_each(|hour| profile.put_hour(hour));
            let days = summaries(series, &state.days, DAYS, latest / 86_400)?;
            days.for_each(|day| profile.put_day(day));
        }
        Ok(profiles)
    }
}

impl QuietState {
    pub(super) fn of(quiet: &Quiet) -> Self {
        let values = quiet.values.iter().filter(|(_, value)| *value > 0);
        Self {
            second: quiet.second,
            values: values.collect(),
        }
    }

    fn quiet(&self) -> Quiet {
        let mut values = SecondValues::new();
        for (&series, &value) in &self.values {
            values.set(series, value);
        }
        Quiet {
            second: self.second,
            values,
        }
    }
}

impl ProfileState {
    /// `None` when the profile is empty.
    pub(super) fn of(profile: &Profile) -> Option<Self> {
        let pairs = |summaries: &[Summary]| {
            summaries
                .iter()
                .map(|summary| (summary.label, summary.p99))
                .collect()
        };
        let state = Self {
            hours: pairs(&profile.hours()),
            days: pairs(profile.days()),
        };
        (!state.hours.is_empty() || !state.days.is_empty()).then_some(state)
    }
}

/// The summaries, after making sure that they rise, end by `newest` and span no more than `span` labels.
fn summaries(
    series: Series,
    pairs: &[(u64, u64)],
    span: u64,
    newest: u64,
) -> Result<impl Iterator<Item = Summary>, StateError> {
    let mut next = pairs
        .last()
        .map_or(0, |&(last, _)| last.saturating_sub(span - 1));
    for &(label, p99) in pairs {
        let fits = label >= next && label <= newest && p99 <= series.unit().max();
        ensure(fits, || {
            format!("the profile of {series} has p99 {p99} at {label}")
        })?;
        next = label.saturating_add(1);
    }
    Ok(pairs.iter().map(|&(label, p99)| Summary { label, p99 }))
}

fn ensure(fits: bool, problem: impl FnOnce() -> String) -> Result<(), StateError> {
    if fits {
        Ok(())
    } else {
        Err(StateError::Damaged { problem: problem() })
    }
}
