//! Is this abnormal, and what is it.
//!
//! The [`Detector`] remembers traffic, never incidents. For each closed window it gives a [`Verdict`] with its numbers;
//! what is above normal and what that is called it says when asked. Pure integer arithmetic, on the detector's thread.

pub mod baseline;
pub mod limits;
mod name;
mod span;
mod triggers;
mod vector;

use crate::capture::counter::NicReading;
use crate::clock::Timestamp;
use crate::count::{Count, Recall, WINDOWS_PER_SECOND, Window, WindowIndex};
use baseline::{Baseline, Judgement, SecondValues, Series};
use limits::{Limits, LocalLimits, PlatformLimits};
use span::LastSecond;

pub use baseline::Unit;
pub use name::{Confidence, Context, FamilyShare, Name, Share};
pub use span::{Judged, Span};
pub use triggers::{SUSPECTED_PERCENT, Trigger, TriggerId};
pub use vector::{
    Excess, Family, MULTI_PACKETS, MULTI_PERMILLE, NAMED_PERMILLE, Vector, percent, permille,
};

/// How to detect.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits somebody set, and how learned ones are made.
    pub limits: limits::Settings,
    /// How normal is learned.
    pub baseline: baseline::Settings,
    /// Keys the source tables' hashes, see [`crate::count::Settings::seed`].
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: limits::Settings::default(),
            baseline: baseline::Settings::default(),
            seed: crate::count::Settings::default().seed,
        }
    }
}

/// What was normal when a verdict was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normal {
    /// Mean of quiet seconds in packets a second; `None` before there is one.
    pub mean_pps: Option<u64>,
    /// Mean of quiet seconds in bits a second.
    pub mean_bps: Option<u64>,
    /// 99th percentile of quiet seconds in packets a second.
    pub p99_pps: Option<u64>,
    /// 99th percentile of quiet seconds in bits a second.
    pub p99_bps: Option<u64>,
    /// The mean that the platform calls normal, in packets a second, where it calls anything so.
    pub platform_mean_pps: Option<u64>,
}

/// When what fired began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onset {
    /// Its first window.
    pub window: WindowIndex,
    /// Its first packet, as far as capture saw it; else the window's beginning.
    pub at: Timestamp,
}

/// The judgement of one window: the second that ends with it, in numbers.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The newest window.
    pub window: WindowIndex,
    /// When it was judged.
    pub at: Timestamp,
    /// Packets and bits of the last second.
    pub last_second: Count,
    /// How many windows that second had so far: 20, fewer after a start or a gap.
    pub windows: u64,
    /// The newest window alone.
    pub newest: Judged,
    /// Every trigger that has a limit.
    pub triggers: Vec<Trigger>,
    /// Since when, if a trigger fires.
    pub onset: Option<Onset>,
}

impl Verdict {
    /// Whether some trigger opens an incident.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        self.triggers.iter().any(|trigger| trigger.fires)
    }

    /// Whether some trigger is near what hostile traffic has to cross.
    #[must_use]
    pub fn is_suspected(&self) -> bool {
        let near = |trigger: &Trigger| trigger.is_near(trigger.hostile_limit());
        self.triggers.iter().any(near)
    }

    /// Whether some trigger fires on more than what is normal here.
    #[must_use]
    pub fn is_hostile(&self) -> bool {
        self.triggers.iter().any(|trigger| trigger.hostile)
    }

    /// When everything that fires does so on normal traffic, because of limits set below it: a limit that would fit, in
    /// the unit of the first.
    #[must_use]
    pub fn fitting_limit(&self) -> Option<u64> {
        let first = self.triggers.iter().find(|trigger| trigger.fires)?;
        first.fitting.filter(|_| !self.is_hostile())
    }
}

/// Remembers traffic and judges it.
#[derive(Debug)]
pub struct Detector {
    settings: Settings,
    baseline: Baseline,
    limits: Limits,
    last: LastSecond,
    recall: Recall,
}

/// How many windows may pass between two that carry the attack before the earlier one counts as something else.
const ONSET_GAP_WINDOWS: u64 = 3;

impl Detector {
    /// A detector that knows nothing yet, or what `baseline` remembers.
    #[must_use]
    pub fn new(settings: Settings, baseline: Option<Baseline>) -> Self {
        let baseline = baseline.unwrap_or_else(|| Baseline::new(settings.baseline.clone()));
        let limits = Limits::in_force(&settings.limits, &baseline);
        let recall = Recall::new(settings.seed);
        Self {
            settings,
            baseline,
            limits,
            last: LastSecond::new(),
            recall,
        }
    }

    /// Judges the second that ends with `window`. `nic` is what the interfaces counted in the window; `at` is when the
    /// judgement is made.
    pub fn judge(&mut self, window: &Window, nic: Option<NicReading>, at: Timestamp) -> Verdict {
        let newest = Judged::of(window, nic);
        self.last.push(window, newest);
        self.recall.add(window);
        let triggers = triggers::evaluate(&self.last, &self.limits);
        let onset = triggers
            .iter()
            .filter(|trigger| trigger.fires)
            .filter_map(|trigger| self.onset(trigger))
            .min_by_key(|onset| onset.at);
        let sum = self.last.sum();
        Verdict {
            window: window.index,
            at,
            last_second: sum.judged,
            windows: sum.windows,
            newest,
            triggers,
            onset,
        }
    }

    /// The last second.
    #[must_use]
    pub fn last_second(&self) -> Span {
        self.last.span()
    }

    /// What each window of the last second amounted to, from `first` on, oldest first.
    #[must_use]
    pub fn windows_since(&self, first: WindowIndex) -> Vec<(WindowIndex, Judged)> {
        let mut windows: Vec<_> = self
            .last
            .newest_first()
            .take_while(|(window, _, _)| *window >= first)
            .map(|(window, _, judged)| (window, judged))
            .collect();
        windows.reverse();
        windows
    }

    /// Sources and ports of the last one to two seconds.
    #[must_use]
    pub const fn recall(&self) -> &Recall {
        &self.recall
    }

    /// What a span has above normal.
    #[must_use]
    pub fn excess(&self, span: &Span) -> Excess {
        let limit_pps = self.limits.pps.limit.map(|limit| limit.value);
        Excess::of(span, &self.baseline, limit_pps)
    }

    /// What naming needs beside the excess, for a trigger's unit.
    #[must_use]
    pub fn context(&self, unit: Unit) -> Context {
        let floors = &self.settings.limits;
        Context {
            unit,
            limit_pps: self
                .limits
                .pps
                .limit
                .map_or(floors.floor_pps, |limit| limit.value),
            limit_bps: self
                .limits
                .bps
                .limit
                .map_or(floors.floor_bps, |limit| limit.value),
        }
    }

    /// Learns the second that ended at `second` since the epoch, as far as it is trusted, and brings the limits up to
    /// date.
    pub fn learn(&mut self, second: u64, values: &SecondValues, judgement: Judgement) {
        let caps = limits::learning_caps(&self.settings.limits, &self.baseline);
        self.baseline.second(second, values, judgement, &caps);
        self.limits = Limits::in_force(&self.settings.limits, &self.baseline);
    }

    /// The host has booted or a link came up: what is seen in the next seconds is not usual.
    pub const fn link_came_up(&mut self) {
        self.baseline.link_came_up();
    }

    /// UTC was set by so many seconds.
    pub fn clock_set(&mut self, by_seconds: i64) {
        self.baseline.clock_set(by_seconds);
    }

    /// What is normal now.
    #[must_use]
    pub fn normal(&self) -> Normal {
        Normal {
            mean_pps: self.baseline.mean(Series::Pps),
            mean_bps: self.baseline.mean(Series::Bps),
            p99_pps: self.baseline.p99(Series::Pps),
            p99_bps: self.baseline.p99(Series::Bps),
            platform_mean_pps: self
                .baseline
                .platform()
                .map(|platform| platform.mean_pps)
                .filter(|mean_pps| *mean_pps > 0),
        }
    }

    /// Puts the operator's limits in the place of those set before, from the next window on. What was learned and the
    /// last second stay.
    pub fn set_limits(&mut self, limits: LocalLimits) {
        self.settings.limits.set_local(limits);
        self.limits = Limits::in_force(&self.settings.limits, &self.baseline);
    }

    /// Takes over what the platform says, from the next window on. A limit that the operator set stays in force.
    pub fn set_platform(&mut self, limits: PlatformLimits) {
        self.settings.limits.set_platform(limits);
        self.baseline.set_platform(limits.baseline());
        self.limits = Limits::in_force(&self.settings.limits, &self.baseline);
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What has been learned.
    #[must_use]
    pub const fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Where what made `trigger` fire began: the earliest window, going back from the newest, that still carries a
    /// quarter of what lies between normal and the limit, with gaps of at most [`ONSET_GAP_WINDOWS`].
    fn onset(&self, trigger: &Trigger) -> Option<Onset> {
        let unit = trigger.id.unit();
        let series = match unit {
            Unit::Packets => Series::Pps,
            Unit::Bits => Series::Bps,
        };
        let limit = if trigger.hostile {
            trigger.hostile_limit()
        } else {
            trigger.limit.value
        };
        let normal = self.baseline.normal_at_onset(series).unwrap_or(0);
        let normal = normal.min(limit);
        let elevated_per_second = normal + (limit - normal) / 4;
        let mut found = None;
        let mut gap = 0;
        for (window, first_inbound_at, judged) in self.last.newest_first() {
            let per_second = unit.of(judged.count).saturating_mul(WINDOWS_PER_SECOND);
            if per_second > 0 && per_second >= elevated_per_second {
                found = Some(Onset {
                    window,
                    at: first_inbound_at.unwrap_or(window.start()),
                });
                gap = 0;
            } else {
                gap += 1;
                if gap > ONSET_GAP_WINDOWS && found.is_some() {
                    break;
                }
            }
        }
        found
    }
}
