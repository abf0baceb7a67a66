//! What is normal here.
//!
//! Seconds go in, one after the other, each with the detector's opinion of it; out come, for every series, the reference
//! that learned limits are multiples of, the mean that severity is measured against, and what was normal when an attack
//! began. Hostile seconds are never learned. Memory is bounded: 6 slots of ten minutes, 24 of an hour, four weeks of
//! hourly summaries.
//!
//! Pure, and integers throughout. Called by the detector's thread, once a second and for the limits of each window.
//! It must never look at a clock: a second's UTC label comes with its values, and how long learning has gone on is
//! counted in seconds seen. A history shorter than 50 minutes gives the same references whatever UTC second it began at.

mod profile;
mod recent;
mod reference;
mod series;
mod slots;
mod state;
#[cfg(test)]
mod tests;

use profile::{DAYS, Profile, Summary};
use recent::{Quiet, Recent, WAIT_SECONDS};
use reference::{Growth, Tracked};
use series::PerSeries;
use slots::Rolling;
use state::{ClockState, ProfileState, QuietState};

pub use reference::{Parts, Phase, Reference};
pub use series::{SecondValues, Series, Unit};
pub use state::{BaselineState, StateError};

/// The last hour: ten minutes a slot, so that it is 50 to 60 minutes long (detection.md, section 4).
const TEN_MINUTES: u64 = 600;
const TEN_MINUTES_SLOTS: usize = 6;

/// The last day: an hour a slot, so that it is 23 to 24 hours long (detection.md, section 4).
const HOUR: u64 = 3_600;
const HOUR_SLOTS: usize = 24;

const DAY: u64 = 86_400;
const HOURS_A_DAY: u64 = DAY / HOUR;

/// References move once in this many seconds seen: their growth is stated per minute.
const MINUTE: u64 = 60;

/// Quiet seconds that an hour must have before it stands for that hour in the profile: a sixth of it, so that its p99
/// leaves out several seconds.
const HOUR_NEEDS_SECONDS: u64 = 600;

/// A longer gap, in seconds, ends the memory of what was normal just before.
const RECENT_GAP: u64 = 60;

/// After a longer gap, in seconds, learning starts again: the hours and days that a reference is made of are gone.
const FORGETTING_GAP: u64 = DAYS * DAY;

/// The quantiles used, in permille.
const P99: u64 = 990;
const P95: u64 = 950;

/// What the platform says is normal, in packets/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlatformBaseline {
    /// The p99; 0 when the platform has none.
    pub p99_pps: u64,
    /// The mean; 0 when the platform has none.
    pub mean_pps: u64,
}

/// How the baseline learns. The numbers are those of detection.md, section 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the platform says is normal. Default: nothing.
    pub platform: Option<PlatformBaseline>,
    /// Seconds before the first learned limit. Default 10: one burst must not be taken for the usual.
    pub first_seconds: u64,
    /// Seconds during which the reference is the largest second so far. Default 300, the published agent's.
    pub starting_seconds: u64,
    /// Seconds after which limits get their usual multiplier. Default 3,600: a whole hour was seen.
    pub warm_up_seconds: u64,
    /// Multiplier until then, in permille. Default 6,000.
    pub warm_up_multiplier_permille: u64,
    /// Multiplier from then on, in permille. Default 4,000, the published agent's.
    pub multiplier_permille: u64,
    /// What floors are multiplied by while starting. Default 2.
    pub starting_floor_factor: u64,
    /// Seconds after a hostile incident that are not learned, at most 3,600. Default 120: stragglers and retries.
    pub after_hostile_seconds: u64,
    /// Seconds of suspicion that are not learned. Default 60: lasting just below a limit must not stop learning.
    pub suspicion_seconds: u64,
    /// Seconds after boot or link up that are not learned, at most 3,600. Default 60: everything reconnects.
    pub settle_seconds: u64,
    /// Growth of a reference in a minute, in permille. Default 20: 3.3 times in an hour.
    pub growth_permille: u64,
    /// A reference above this many times the usual day waits for a person. Default 4.
    pub hold_factor: u64,
    /// Quiet seconds that the last day must have to count. Default 3,600.
    pub day_needs_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            platform: None,
            first_seconds: 10,
            starting_seconds: 300,
            warm_up_seconds: 3_600,
            warm_up_multiplier_permille: 6_000,
            multiplier_permille: 4_000,
            starting_floor_factor: 2,
            after_hostile_seconds: 120,
            suspicion_seconds: 60,
            settle_seconds: 60,
            growth_permille: 20,
            hold_factor: 4,
            day_needs_seconds: 3_600,
        }
    }
}

impl Settings {
    /// Treats what was seen after `seconds` as learned: somebody vouches for that much of the traffic.
    pub const fn warmed_up_after(&mut self, seconds: u64) {
        self.first_seconds = seconds;
        self.starting_seconds = seconds;
        self.warm_up_seconds = seconds;
    }
}

/// What the detector thinks of a second, from most to least trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judgement {
    /// No incident, or only incidents by benign traffic or by limits set below normal: it is learned.
    Quiet,
    /// A trigger is at 80 % of its limit or above: not learned, for a while.
    Suspected,
    /// An incident by hostile traffic is open: never learned.
    Hostile,
}

/// What a second is learned as at most: half the learned limit of its unit, `None` while there is none. No value is
/// locked out by it, and none drags the p99 up fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearningCaps {
    /// Packets/s.
    pub pps: Option<u64>,
    /// Bits/s.
    pub bps: Option<u64>,
}

/// What is normal here.
#[derive(Clone, Debug)]
pub struct Baseline {
    settings: Settings,
    last_second: Option<u64>,
    clock: ClockState,
    references: PerSeries<Tracked>,
    recent: Recent,
    hour: Rolling,
    day: Rolling,
    profiles: PerSeries<Profile>,
}

impl Baseline {
    /// A baseline that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            last_second: None,
            clock: ClockState::default(),
            references: PerSeries::default(),
            recent: Recent::default(),
            hour: Rolling::new(TEN_MINUTES, TEN_MINUTES_SLOTS),
            day: Rolling::new(HOUR, HOUR_SLOTS),
            profiles: PerSeries::default(),
        }
    }

    /// One UTC second has ended: `second` since the epoch, with what was counted in it, what the detector thinks of it,
    /// and what it may be learned as.
    ///
    /// Seconds come in order. What is left out between two of them is missing, not zero; a second that is not later
    /// than the last one is ignored.
    pub fn second(
        &mut self,
        second: u64,
        values: &SecondValues,
        judgement: Judgement,
        caps: &LearningCaps,
    ) {
        if self.last_second.is_some_and(|last| second <= last) {
            return;
        }
        self.notice_gap(second);
        self.last_second = Some(second);
        self.clock.observed = self.clock.observed.saturating_add(1);
        if std::mem::take(&mut self.clock.link_came_up) {
            self.clock.settled_from = second.saturating_add(self.settings.settle_seconds.min(HOUR));
        }
        let trusted = self.judge(second, judgement);
        self.learn_ripe(second);
        if trusted {
            self.take(second, capped(values, caps));
        }
        if self.clock.observed.is_multiple_of(MINUTE) {
            self.move_references(second);
        }
    }

    /// The host has booted or the link came up: what is seen in the next seconds is not usual.
    pub const fn link_came_up(&mut self) {
        self.clock.link_came_up = true;
    }

    /// UTC was set by so many seconds while time went on as before. The next second bears a label moved by as much, and so
    /// does everything that waits for one or is a distance from one. What was learned keeps the labels it was learned
    /// under, but nothing stays in the future.
    pub fn clock_set(&mut self, by_seconds: i64) {
        let moved = |second: u64| second.saturating_add_signed(by_seconds);
        self.last_second = self.last_second.map(moved);
        self.recent.move_by(by_seconds);
        let clock = &mut self.clock;
        clock.moved_at = clock.moved_at.map(moved);
        clock.quiet_from = moved(clock.quiet_from);
        clock.settled_from = moved(clock.settled_from);
        if by_seconds < 0 {
            self.step_slots_back_to(moved(self.clock.learned_to));
        }
    }

    /// Takes over what the platform says is normal, or that it no longer says anything.
    pub const fn set_platform(&mut self, platform: Option<PlatformBaseline>) {
        self.settings.platform = platform;
    }

    /// What the platform says is normal.
    #[must_use]
    pub const fn platform(&self) -> Option<PlatformBaseline> {
        self.settings.platform
    }

    /// What `series` is compared with.
    #[must_use]
    pub fn reference(&self, series: Series) -> Reference {
        let tracked = self.references.of(series);
        let platform = self.platform_p99(series);
        let phase = if platform.is_some() {
            Phase::Learned
        } else {
            self.phase()
        };
        let (multiplier_permille, floor_factor) = match phase {
            Phase::FirstSeconds | Phase::Starting => (
                self.settings.warm_up_multiplier_permille,
                self.settings.starting_floor_factor,
            ),
            Phase::WarmingUp => (self.settings.warm_up_multiplier_permille, 1),
            Phase::Learned => (self.settings.multiplier_permille, 1),
        };
        Reference {
            value: tracked.value.max(platform.unwrap_or_default()),
            parts: Parts {
                platform,
                ..tracked.parts
            },
            phase,
            multiplier_permille,
            floor_factor,
            held: tracked.held,
            limit_in_seconds: if phase == Phase::FirstSeconds {
                self.settings
                    .first_seconds
                    .saturating_sub(self.clock.observed)
            } else {
                0
            },
        }
    }

    /// How far learning has come on this host, whatever the platform says.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        let observed = self.clock.observed;
        if observed < self.settings.first_seconds {
            Phase::FirstSeconds
        } else if observed < self.settings.starting_seconds {
            Phase::Starting
        } else if observed < self.settings.warm_up_seconds {
            Phase::WarmingUp
        } else {
            Phase::Learned
        }
    }

    /// Seconds seen since learning began, quiet or not.
    #[must_use]
    pub const fn seconds_seen(&self) -> u64 {
        self.clock.observed
    }

    /// The mean of the quiet seconds of the last day, or of the time since the start while that is shorter; rounded
    /// down, in the unit of `series` per second. `None` before the first quiet second.
    #[must_use]
    pub fn mean(&self, series: Series) -> Option<u64> {
        let learned = self.day.total().mean(series);
        learned.or_else(|| {
            (self.recent.waiting() > 0)
                .then(|| self.recent.mean(series))
                .flatten()
        })
    }

    /// The p99 of the same seconds; `None` before the first was learned, a minute after it was seen.
    #[must_use]
    pub fn p99(&self, series: Series) -> Option<u64> {
        self.day.total().quantile(series, P99)
    }

    /// The p95 of the last hour's quiet seconds; `None` when it has none.
    #[must_use]
    pub fn hour_p95(&self, series: Series) -> Option<u64> {
        self.hour.total().quantile(series, P95)
    }

    /// What was normal when an attack began: the mean of the last 60 quiet seconds, but not above the hour's p95, which
    /// a slow start of the attack does not reach. `None` while fewer than 10 quiet seconds are known.
    #[must_use]
    pub fn normal_at_onset(&self, series: Series) -> Option<u64> {
        if (self.recent.len() as u64) < self.settings.first_seconds {
            return None;
        }
        let mean = self.recent.mean(series)?;
        Some(self.hour_p95(series).map_or(mean, |p95| mean.min(p95)))
    }

    /// A person calls the held references normal: they go where they want to be, at once.
    pub fn accept(&mut self) {
        let today = self.last_second.unwrap_or_default() / DAY;
        for (_, tracked) in self.references.iter_mut() {
            tracked.accept(today);
        }
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let profiles: usize = self
            .profiles
            .iter()
            .map(|(_, profile)| profile.memory_bytes())
            .sum();
        let recent = self.recent.len() * size_of::<Quiet>();
        size_of::<Self>() + self.hour.memory_bytes() + self.day.memory_bytes() + profiles + recent
    }

    /// Everything it knows, to be stored.
    #[must_use]
    pub fn state(&self) -> BaselineState {
        let references = self
            .references
            .iter()
            .filter(|(_, tracked)| **tracked != Tracked::default());
        let profiles = self.profiles.iter();
        BaselineState {
            version: BaselineState::VERSION,
            last_second: self.last_second,
            clock: self.clock,
            references: references
                .map(|(series, tracked)| (series, *tracked))
                .collect(),
            recent: self.recent.iter().map(QuietState::of).collect(),
            waiting: self.recent.waiting(),
            ten_minutes: self.hour.state(),
            hours: self.day.state(),
            profiles: profiles
                .filter_map(|(series, profile)| Some((series, ProfileState::of(profile)?)))
                .collect(),
        }
    }

    /// The baseline that `state` was taken from, at `now_second` since the epoch. Slots are found by their UTC label;
    /// the time between is missing, not zero.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state has another version, ends more than an hour after `now_second`, or contradicts
    /// itself.
    pub fn restore(
        settings: Settings,
        state: &BaselineState,
        now_second: u64,
    ) -> Result<Self, StateError> {
        state.check(now_second)?;
        let mut baseline = Self {
            last_second: state.last_second,
            clock: state.clock,
            references: state.references()?,
            recent: state.recent()?,
            profiles: state.profiles()?,
            ..Self::new(settings)
        };
        let learned_to = state.clock.learned_to;
        let damaged = |problem| StateError::Damaged { problem };
        baseline
            .hour
            .restore(&state.ten_minutes, learned_to)
            .map_err(damaged)?;
        baseline
            .day
            .restore(&state.hours, learned_to)
            .map_err(damaged)?;
        baseline.step_back_to(now_second);
        Ok(baseline)
    }

    /// The clock was set back since the state was taken: time goes on from `now`.
    fn step_back_to(&mut self, now: u64) {
        if self.last_second.is_none_or(|last| last <= now) {
            return;
        }
        self.last_second = Some(now);
        self.recent.clear();
        self.clock.moved_at = self.clock.moved_at.map(|moved| moved.min(now));
        for wait in [&mut self.clock.quiet_from, &mut self.clock.settled_from] {
            *wait = (*wait).min(now.saturating_add(HOUR));
        }
        self.step_slots_back_to(self.clock.learned_to.min(now));
    }

    /// What was learned ends at `second` now, and profiles know nothing of the time after the last second.
    fn step_slots_back_to(&mut self, second: u64) {
        self.clock.learned_to = second;
        self.hour.step_back_to(second);
        self.day.step_back_to(second);
        let now = self.last_second.unwrap_or_default();
        for (_, profile) in self.profiles.iter_mut() {
            profile.forget_after(now / HOUR, now / DAY);
        }
    }

    fn notice_gap(&mut self, second: u64) {
        let Some(last) = self.last_second else {
            return;
        };
        let missing = second - last - 1;
        if missing > RECENT_GAP {
            self.recent.clear();
        }
        if missing > FORGETTING_GAP {
            self.clock = ClockState {
                learned_to: self.clock.learned_to,
                link_came_up: self.clock.link_came_up,
                ..ClockState::default()
            };
            self.references = PerSeries::default();
        }
    }

    /// Whether the second may be learned, as far as the detector's opinion goes.
    fn judge(&mut self, second: u64, judgement: Judgement) -> bool {
        self.clock.suspected = match judgement {
            Judgement::Suspected => self.clock.suspected.saturating_add(1),
            Judgement::Quiet | Judgement::Hostile => 0,
        };
        if judgement == Judgement::Hostile {
            let wait = self.settings.after_hostile_seconds.min(HOUR - 1);
            self.clock.quiet_from = second.saturating_add(1).saturating_add(wait);
            self.recent.forget_waiting();
        }
        let suspected = (1..=self.settings.suspicion_seconds).contains(&self.clock.suspected);
        !suspected && second >= self.clock.quiet_from
    }

    fn take(&mut self, second: u64, values: SecondValues) {
        // Not after `starting_seconds`: from then on references only follow what was learned.
        if self.phase() < Phase::WarmingUp {
            for ((_, tracked), (_, value)) in self.references.iter_mut().zip(values.iter()) {
                tracked.raise_to(value);
            }
        }
        if second >= self.clock.settled_from {
            self.recent.push(Quiet { second, values });
        }
    }

    fn learn_ripe(&mut self, now: u64) {
        while let Some(quiet) = self.recent.take_ripe(now) {
            self.advance(quiet.second);
            self.hour.record(&quiet.values);
            self.day.record(&quiet.values);
        }
    }

    /// Moves the slots on to `second`, and what ends with that into the profiles.
    fn advance(&mut self, second: u64) {
        close_hours(&mut self.profiles, &self.day, second, &self.settings);
        self.hour.advance(second);
        self.day.advance(second);
        self.clock.learned_to = self.clock.learned_to.max(second);
    }

    fn move_references(&mut self, now: u64) {
        let minutes = self
            .clock
            .moved_at
            .map_or(1, |moved| now.saturating_sub(moved) / MINUTE);
        self.clock.moved_at = Some(now);
        if now < self.clock.quiet_from || self.phase() < Phase::WarmingUp {
            return;
        }
        self.advance(now.saturating_sub(WAIT_SECONDS));
        let day_counts = self.day.total().seconds() >= self.settings.day_needs_seconds;
        let (hour, today) = (now / HOUR, now / DAY);
        for (series, tracked) in self.references.iter_mut() {
            let profile = self.profiles.of(series);
            let day = self
                .day
                .total()
                .quantile(series, P99)
                .filter(|_| day_counts);
            let parts = Parts {
                hour: self.hour.total().quantile(series, P99),
                day: day.or(tracked.parts.day),
                same_hour: profile.same_hour(hour),
                same_hour_of_week: profile.same_hour_of_week(hour),
                platform: None,
            };
            let usual = profile
                .usual_day(today)
                .map(|usual| usual.saturating_mul(self.settings.hold_factor));
            tracked.accepted = tracked.accepted.filter(|accepted| {
                usual.is_none_or(|usual| accepted.value > usual)
                    && accepted.day.saturating_add(DAYS) >= today
            });
            let growth = Growth {
                permille: self.settings.growth_permille,
                minutes,
                ceiling: usual
                    .map(|usual| usual.max(tracked.accepted.map_or(0, |accepted| accepted.value))),
                unit: series.unit(),
            };
            tracked.follow(parts, &growth);
        }
    }

    fn platform_p99(&self, series: Series) -> Option<u64> {
        let p99 = self.settings.platform?.p99_pps;
        (series == Series::Pps && p99 > 0).then_some(p99)
    }
}

/// Puts the hour that `day` stands at, and its day, into the profiles if learning goes on in a later one at `second`.
fn close_hours(profiles: &mut PerSeries<Profile>, day: &Rolling, second: u64, settings: &Settings) {
    let (ended, next) = (day.newest(), day.label_of(second));
    if ended >= next {
        return;
    }
    let hour = day
        .open()
        .filter(|open| open.seconds() >= HOUR_NEEDS_SECONDS);
    let (ended_day, next_day) = (ended / HOURS_A_DAY, next / HOURS_A_DAY);
    let day_counts = ended_day < next_day && day.total().seconds() >= settings.day_needs_seconds;
    for (series, profile) in profiles.iter_mut().filter(|(series, _)| series.is_total()) {
        if let Some(p99) = hour.and_then(|hour| hour.quantile(series, P99)) {
            profile.put_hour(Summary { label: ended, p99 });
        }
        if let Some(p99) = day.total().quantile(series, P99).filter(|_| day_counts) {
            profile.put_day(Summary {
                label: ended_day,
                p99,
            });
        }
    }
}

/// The values as they may be learned: within what is kept apart at all, and not above the caps.
fn capped(values: &SecondValues, caps: &LearningCaps) -> SecondValues {
    let mut values = values.clone();
    values.clamp();
    values.lower(Series::Pps, caps.pps.unwrap_or(u64::MAX));
    values.lower(Series::Bps, caps.bps.unwrap_or(u64::MAX));
    values
}
