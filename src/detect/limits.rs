//! Which limits are in force and where they come from.
//!
//! One limit for packets and one for bits: the one that somebody set, else the learned one, never both. A set limit is a
//! promise; a learned one is a multiple of the baseline's reference, with a floor. Pure; the detector's thread, once a
//! second. It decides nothing about traffic.

use std::fmt;

use super::baseline::{Baseline, LearningCaps, Phase, PlatformBaseline, Reference, Series, Unit};
use crate::words::{Bits, Percent, Thousands, Times};

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetBy {
    /// The operator of this host, on the command line.
    Local,
    /// The operator of this host, in a file or in the environment.
    Configuration,
    /// The platform.
    Platform,
}

/// A limit that somebody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLimit {
    /// Packets/s or bits/s.
    pub value: u64,
    /// Who set it; the operator's wins over the platform's before it comes here.
    pub by: SetBy,
}

/// The limits that the operator of this host set; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalLimits {
    /// In packets/s.
    pub pps: Option<SetLimit>,
    /// In bits/s.
    pub bps: Option<SetLimit>,
}

/// What the platform says of this host, in packets/s. It says 0, too, where it has nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlatformLimits {
    /// Its limit.
    pub pps_threshold: Option<u64>,
    /// The mean it calls normal.
    pub mean_pps: Option<u64>,
    /// The 99th percentile it calls normal.
    pub p99_pps: Option<u64>,
}

/// The numbers limits are made of. They are those of detection.md, section 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Set limit in packets/s. Default: none.
    pub set_pps: Option<SetLimit>,
    /// Set limit in bits/s. Default: none.
    pub set_bps: Option<SetLimit>,
    /// The platform's limit in packets/s, in force where nothing is set in `set_pps`. Default: none.
    pub platform_pps: Option<u64>,
    /// A learned limit is at least this many packets/s. Default 10,000, the published agent's.
    pub floor_pps: u64,
    /// A learned limit is at least this many bits/s. Default 100 Mbit/s: a tenth of a common link.
    pub floor_bps: u64,
    /// Speed of the watched links together, in bits/s, where it is known. Default: unknown.
    pub link_bps: Option<u64>,
    /// A learned limit in bits is at most this part of the link, in permille. Default 900: a multiple of normal can lie
    /// above what the link carries, and such a limit would never be crossed.
    pub link_permille: u64,
    /// A learned limit in bits is at least this part of the reference, in permille, whatever the link. Default 1,250: a
    /// link that is usually full is not under attack.
    pub headroom_permille: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            set_pps: None,
            set_bps: None,
            platform_pps: None,
            floor_pps: 10_000,
            floor_bps: 100_000_000,
            link_bps: None,
            link_permille: 900,
            headroom_permille: 1_250,
        }
    }
}

impl Settings {
    /// Puts the operator's limits in the place of those set before.
    pub(super) fn set_local(&mut self, limits: LocalLimits) {
        let set = |limit: Option<SetLimit>| limit.filter(|limit| limit.value > 0);
        self.set_pps = set(limits.pps);
        self.set_bps = set(limits.bps);
    }

    /// Puts the platform's limit in the place of the one it gave before.
    pub(super) fn set_platform(&mut self, limits: PlatformLimits) {
        self.platform_pps = given(limits.pps_threshold);
    }

    /// What is set in packets/s: the operator's word counts more than the platform's.
    fn set_pps_in_force(&self) -> Option<SetLimit> {
        let by = SetBy::Platform;
        let platform = self.platform_pps.map(|value| SetLimit { value, by });
        self.set_pps.or(platform)
    }
}

/// A figure that says something: a limit of 0 would open an incident on silence.
fn given(value: Option<u64>) -> Option<u64> {
    value.filter(|value| *value > 0)
}

impl PlatformLimits {
    /// What it says is normal, if it says anything.
    pub(super) fn baseline(&self) -> Option<PlatformBaseline> {
        let baseline = PlatformBaseline {
            p99_pps: self.p99_pps.unwrap_or(0),
            mean_pps: self.mean_pps.unwrap_or(0),
        };
        (baseline != PlatformBaseline::default()).then_some(baseline)
    }
}

/// Where a limit comes from; its `Display` is a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody set it.
    Set {
        /// Who.
        by: SetBy,
        /// What it limits.
        unit: Unit,
    },
    /// A multiple of the learned reference.
    Learned {
        /// The reference, in `unit` per second.
        reference: u64,
        /// How many times it, in permille.
        multiplier_permille: u64,
        /// How far learning has come.
        phase: Phase,
        /// What it limits.
        unit: Unit,
    },
    /// A multiple of the learned reference would be lower than learned limits may be.
    Floor {
        /// How many times the floor counts: more than once while learning starts.
        factor: u64,
    },
    /// A multiple of the learned reference would be higher than the link lets through.
    Link {
        /// Speed of the link in bits/s.
        link_bps: u64,
        /// The part of it that the limit is, in permille.
        permille: u64,
    },
    /// Traffic normally comes so close to the link's speed that the limit had to go above it.
    Headroom {
        /// The reference, in bits/s.
        reference: u64,
        /// The part of it that the limit is, in permille.
        permille: u64,
    },
}

impl Origin {
    /// Whether somebody set it: crossing it opens at once and needs no confirmation.
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::Set { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Set {
                by: SetBy::Local,
                unit: Unit::Packets,
            } => f.write_str("set with --threshold-pps"),
            Self::Set {
                by: SetBy::Local,
                unit: Unit::Bits,
            } => f.write_str("set with --threshold-bps"),
            Self::Set {
                by: SetBy::Configuration,
                unit: Unit::Packets,
            } => f.write_str("set as detection.pps_threshold"),
            Self::Set {
                by: SetBy::Configuration,
                unit: Unit::Bits,
            } => f.write_str("set as detection.bps_threshold"),
            Self::Set {
                by: SetBy::Platform,
                ..
            } => f.write_str("set on the platform"),
            Self::Learned {
                reference,
                multiplier_permille,
                phase,
                unit,
            } => {
                let reference = Thousands(reference);
                let multiplier = Times(multiplier_permille);
                match phase {
                    Phase::FirstSeconds | Phase::Starting => {
                        write!(
                            f,
                            "{multiplier} x the busiest second so far of {reference} {unit}"
                        )
                    }
                    Phase::WarmingUp => {
                        write!(
                            f,
                            "{multiplier} x the reference of {reference} {unit} learned in less than an hour"
                        )
                    }
                    Phase::Learned => write!(
                        f,
                        "{multiplier} x the learned reference of {reference} {unit}"
                    ),
                }
            }
            Self::Floor { factor: 1 } => f.write_str("the floor for learned limits"),
            Self::Floor { factor } => write!(
                f,
                "{factor} x the floor for learned limits, while learning starts"
            ),
            Self::Link { link_bps, permille } => {
                write!(
                    f,
                    "{} of the link's {} bits/s",
                    Percent(permille),
                    Thousands(link_bps)
                )
            }
            Self::Headroom {
                reference,
                permille,
            } => {
                let reference = Thousands(reference);
                write!(
                    f,
                    "{} of the learned reference of {reference} bits/s, close to the link's speed",
                    Percent(permille)
                )
            }
        }
    }
}

/// A limit in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Packets/s or bits/s; this much or more crosses it.
    pub value: u64,
    /// Where it comes from.
    pub origin: Origin,
}

impl Limit {
    /// Whether the platform set it.
    #[must_use]
    pub const fn is_platform(&self) -> bool {
        matches!(
            self.origin,
            Origin::Set {
                by: SetBy::Platform,
                ..
            }
        )
    }
}

/// What is in force for one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The limit: set, else learned; `None` while nothing is set and the first seconds are not over.
    pub limit: Option<Limit>,
    /// What traffic is compared with, whether or not the limit comes from it.
    pub reference: Reference,
    /// Whether the limit was set below what is normal here: it will be crossed without an attack.
    pub below_normal: bool,
    /// The limit that would be learned, whether or not a set one is in force.
    pub learned: Option<Limit>,
    /// What a learned limit is at least, now or as soon as there is one: that of a host without traffic.
    pub least: Limit,
}

/// What is in force for both units; its `Display` says at which limits traffic is judged and where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In packets/s.
    pub pps: InForce,
    /// In bits/s.
    pub bps: InForce,
}

/// What a limit rests on. A change of it is worth a line; that a learned limit follows its reference is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Nothing yet.
    Nothing,
    /// Somebody's word.
    Set(Limit),
    /// What was learned, and how far learning has come.
    Learned(Phase),
}

impl Limits {
    /// The limits that `settings` and what `baseline` has learned come to.
    #[must_use]
    pub fn in_force(settings: &Settings, baseline: &Baseline) -> Self {
        Self {
            pps: in_force(
                settings.set_pps_in_force(),
                baseline.reference(Series::Pps),
                |reference| limit_pps(settings, reference),
                Unit::Packets,
            ),
            bps: in_force(
                settings.set_bps,
                baseline.reference(Series::Bps),
                |reference| limit_bps(settings, reference),
                Unit::Bits,
            ),
        }
    }

    /// What both rest on, packets first.
    #[must_use]
    pub fn grounds(&self) -> [Ground; 2] {
        [self.pps.ground(), self.bps.ground()]
    }
}

impl InForce {
    fn ground(&self) -> Ground {
        match self.limit {
            None => Ground::Nothing,
            Some(limit) if limit.origin.is_set() => Ground::Set(limit),
            Some(_) => Ground::Learned(self.reference.phase),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, unit: Unit) -> fmt::Result {
        let rate = |value| match unit {
            Unit::Packets => format!("{} packets/s", Thousands(value)),
            Unit::Bits => format!("{}/s", Bits(value)),
        };
        if let Some(Limit { value, origin }) = self.limit {
            return write!(f, "limit {} ({origin})", rate(value));
        }
        let Reference {
            limit_in_seconds,
            multiplier_permille,
            ..
        } = self.reference;
        let multiplier = Times(multiplier_permille);
        let Limit { value, origin } = self.least;
        write!(
            f,
            "no limit for {limit_in_seconds} s, then {multiplier} x the busiest second so far, at least {} ({origin})",
            rate(value)
        )
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("packets: ")?;
        self.pps.write(f, Unit::Packets)?;
        f.write_str("; bits: ")?;
        self.bps.write(f, Unit::Bits)
    }
}

/// What the next second may be learned as: half the learned limits, whether or not others are in force. A limit set
/// below normal must not keep the baseline from learning what normal is.
#[must_use]
pub fn learning_caps(settings: &Settings, baseline: &Baseline) -> LearningCaps {
    let half = |in_force: &InForce| in_force.learned.map(|limit| limit.value / 2);
    let Limits { pps, bps } = Limits::in_force(settings, baseline);
    LearningCaps {
        pps: half(&pps),
        bps: half(&bps),
    }
}

fn in_force(
    set: Option<SetLimit>,
    reference: Reference,
    limit: impl Fn(&Reference) -> Limit,
    unit: Unit,
) -> InForce {
    let learned = (reference.phase > Phase::FirstSeconds).then(|| limit(&reference));
    let least = limit(&Reference {
        value: 0,
        ..reference
    });
    let set = set.map(|set| Limit {
        value: set.value,
        origin: Origin::Set { by: set.by, unit },
    });
    // The largest second of the first minutes is not yet what is normal.
    let knows_normal = reference.phase >= Phase::WarmingUp;
    InForce {
        limit: set.or(learned),
        reference,
        below_normal: knows_normal && set.is_some_and(|limit| limit.value < reference.value),
        learned,
        least,
    }
}

/// V3: the multiple of the reference, but not below the floor.
fn limit_pps(settings: &Settings, reference: &Reference) -> Limit {
    multiple(reference, settings.floor_pps, Unit::Packets)
}

/// V4: the same, but not above what the link lets through, and above what is normal in any case.
fn limit_bps(settings: &Settings, reference: &Reference) -> Limit {
    let mut limit = multiple(reference, settings.floor_bps, Unit::Bits);
    if let Some(link_bps) = settings.link_bps.filter(|speed| *speed > 0) {
        let permille = settings.link_permille;
        let most = permille_of(link_bps, permille);
        if limit.value > most {
            limit = Limit {
                value: most,
                origin: Origin::Link { link_bps, permille },
            };
        }
    }
    let permille = settings.headroom_permille;
    let least = permille_of(reference.value, permille);
    if limit.value < least {
        limit = Limit {
            value: least,
            origin: Origin::Headroom {
                reference: reference.value,
                permille,
            },
        };
    }
    limit
}

fn multiple(reference: &Reference, floor: u64, unit: Unit) -> Limit {
    let Reference {
        value,
        phase,
        multiplier_permille,
        floor_factor: factor,
        ..
    } = *reference;
    let learned = permille_of(value, multiplier_permille);
    let floor = floor.saturating_mul(factor);
    if learned > floor {
        let origin = Origin::Learned {
            reference: value,
            multiplier_permille,
            phase,
            unit,
        };
        Limit {
            value: learned,
            origin,
        }
    } else {
        Limit {
            value: floor,
            origin: Origin::Floor { factor },
        }
    }
}

fn permille_of(value: u64, permille: u64) -> u64 {
    // In this order: exact for whole thousands, and free of overflow for any speed a link has.
    let whole = (value / 1_000).saturating_mul(permille);
    whole.saturating_add((value % 1_000).saturating_mul(permille) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::super::baseline::{self, Judgement, SecondValues};
    use super::*;

    /// A baseline that has seen `seconds` of `pps` packets and `bps` bits.
    fn used_to(pps: u64, bps: u64, seconds: u64) -> Baseline {
        let mut baseline = Baseline::new(baseline::Settings::default());
        let mut values = SecondValues::new();
        values.set(Series::Pps, pps);
        values.set(Series::Bps, bps);
        for second in 0..seconds {
            baseline.second(
                1_772_409_600 + second,
                &values,
                Judgement::Quiet,
                &LearningCaps::default(),
            );
        }
        baseline
    }

    fn sentence(in_force: &InForce) -> String {
        in_force
            .limit
            .map_or_else(|| "none".to_owned(), |limit| limit.origin.to_string())
    }

    fn value(in_force: &InForce) -> Option<u64> {
        in_force.limit.map(|limit| limit.value)
    }

    fn set(value: u64, by: SetBy) -> Option<SetLimit> {
        Some(SetLimit { value, by })
    }

    #[test]
    fn v1_and_v2_a_set_limit_is_in_force_from_the_first_second() {
        let settings = Settings {
            set_pps: set(500, SetBy::Local),
            set_bps: set(9_000, SetBy::Platform),
            ..Settings::default()
        };
        let limits = Limits::in_force(&settings, &used_to(0, 0, 0));
        assert_eq!(
            (value(&limits.pps), value(&limits.bps)),
            (Some(500), Some(9_000))
        );
        assert_eq!(sentence(&limits.pps), "set with --threshold-pps");
        assert_eq!(sentence(&limits.bps), "set on the platform");
        assert!(limits.pps.limit.is_some_and(|limit| limit.origin.is_set()));
    }

    #[test]
    fn v3_and_v4_apply_only_where_their_unit_has_no_set_limit() {
        let settings = Settings {
            set_bps: set(9_000, SetBy::Local),
            ..Settings::default()
        };
        let limits = Limits::in_force(&settings, &used_to(12_000, 1_000, 7_200));
        assert_eq!(sentence(&limits.bps), "set with --threshold-bps");
        assert_eq!(value(&limits.pps), Some(4 * limits.pps.reference.value));
        assert!(limits.pps.limit.is_some_and(|limit| !limit.origin.is_set()));
    }

    #[test]
    fn in_the_first_ten_seconds_there_is_no_learned_limit() {
        let limits = Limits::in_force(&Settings::default(), &used_to(40_000, 1, 9));
        assert_eq!((value(&limits.pps), value(&limits.bps)), (None, None));
        let limits = Limits::in_force(&Settings::default(), &used_to(40_000, 1, 10));
        assert_eq!(
            (value(&limits.pps), value(&limits.bps)),
            (Some(240_000), Some(200_000_000))
        );
        assert_eq!(
            sentence(&limits.pps),
            "6 x the busiest second so far of 40,000 packets/s"
        );
        assert_eq!(
            sentence(&limits.bps),
            "2 x the floor for learned limits, while learning starts"
        );
    }

    #[test]
    fn the_multiplier_is_six_until_an_hour_was_seen_and_then_four() {
        let limits = Limits::in_force(&Settings::default(), &used_to(12_000, 1, 3_599));
        let reference = limits.pps.reference.value;
        assert_eq!(value(&limits.pps), Some(6 * reference));
        assert!(
            sentence(&limits.pps).starts_with("6 x the reference of 12,0"),
            "{}",
            sentence(&limits.pps)
        );
        let limits = Limits::in_force(&Settings::default(), &used_to(12_000, 1, 3_600));
        assert_eq!(value(&limits.pps), Some(4 * reference));
        assert!(
            sentence(&limits.pps).starts_with("4 x the learned reference of 12,0"),
            "{}",
            sentence(&limits.pps)
        );
        assert!(
            sentence(&limits.pps).ends_with(" packets/s"),
            "{}",
            sentence(&limits.pps)
        );
    }

    #[test]
    fn a_multiplier_need_not_be_whole() {
        let mut baseline = Baseline::new(baseline::Settings {
            warm_up_multiplier_permille: 2_500,
            ..baseline::Settings::default()
        });
        let mut values = SecondValues::new();
        values.set(Series::Pps, 40_003);
        for second in 0..20 {
            let second = 1_772_409_600 + second;
            baseline.second(second, &values, Judgement::Quiet, &LearningCaps::default());
        }
        let limits = Limits::in_force(&Settings::default(), &baseline);
        assert_eq!(value(&limits.pps), Some(100_007));
        assert_eq!(
            sentence(&limits.pps),
            "2.5 x the busiest second so far of 40,003 packets/s"
        );
    }

    #[test]
    fn a_learned_limit_is_not_below_its_floor() {
        let limits = Limits::in_force(&Settings::default(), &used_to(3, 900, 4_000));
        assert_eq!(
            (value(&limits.pps), value(&limits.bps)),
            (Some(10_000), Some(100_000_000))
        );
        assert_eq!(sentence(&limits.pps), "the floor for learned limits");
    }

    #[test]
    fn v4_is_not_above_nine_tenths_of_the_link() {
        let settings = Settings {
            link_bps: Some(1_000_000_000),
            ..Settings::default()
        };
        let limits = Limits::in_force(&settings, &used_to(3, 400_000_000, 4_000));
        assert_eq!(value(&limits.bps), Some(900_000_000));
        assert_eq!(
            sentence(&limits.bps),
            "90 % of the link's 1,000,000,000 bits/s"
        );
        let slow = Settings {
            link_bps: Some(10_000_000),
            ..Settings::default()
        };
        let limits = Limits::in_force(&slow, &used_to(3, 1_000, 4_000));
        assert_eq!(
            value(&limits.bps),
            Some(9_000_000),
            "the floor too is not above the link"
        );
        let unknown = Settings {
            link_bps: Some(0),
            ..Settings::default()
        };
        assert_eq!(
            value(&Limits::in_force(&unknown, &used_to(3, 1_000, 4_000)).bps),
            Some(100_000_000)
        );
    }

    #[test]
    fn v4_is_not_below_five_quarters_of_normal() {
        let settings = Settings {
            link_bps: Some(1_000_000_000),
            ..Settings::default()
        };
        let limits = Limits::in_force(&settings, &used_to(3, 940_000_000, 4_000));
        let reference = limits.bps.reference.value;
        assert_eq!(value(&limits.bps), Some(permille_of(reference, 1_250)));
        assert!(value(&limits.bps) >= Some(1_175_000_000));
        assert!(
            sentence(&limits.bps).starts_with("125 % of the learned reference of 94"),
            "{}",
            sentence(&limits.bps)
        );
    }

    #[test]
    fn a_platform_baseline_gives_a_learned_limit_at_once() {
        let mut baseline = used_to(0, 0, 0);
        baseline.set_platform(Some(PlatformBaseline {
            p99_pps: 30_000,
            mean_pps: 9_000,
        }));
        let limits = Limits::in_force(&Settings::default(), &baseline);
        assert_eq!(
            (value(&limits.pps), value(&limits.bps)),
            (Some(120_000), None)
        );
        assert_eq!(
            sentence(&limits.pps),
            "4 x the learned reference of 30,000 packets/s"
        );
    }

    #[test]
    fn a_limit_set_below_normal_is_said_and_normal_is_learned_all_the_same() {
        let settings = Settings {
            set_pps: set(20_000, SetBy::Platform),
            ..Settings::default()
        };
        let normal = used_to(40_000, 1, 7_200);
        let limits = Limits::in_force(&settings, &normal);
        assert!(limits.pps.below_normal);
        assert_eq!(value(&limits.pps), Some(20_000));
        assert_eq!(
            learning_caps(&settings, &normal).pps,
            Some(2 * limits.pps.reference.value)
        );
        assert!(!limits.bps.below_normal);
        let starting = Limits::in_force(&settings, &used_to(40_000, 1, 100));
        assert!(
            !starting.pps.below_normal,
            "the busiest second of the first minutes is not yet normal"
        );
        let above = Settings {
            set_pps: set(50_000, SetBy::Platform),
            ..Settings::default()
        };
        assert!(!Limits::in_force(&above, &normal).pps.below_normal);
    }

    #[test]
    fn what_is_in_force_and_what_will_be_is_said_with_its_origin() {
        let said = |settings: &Settings, seconds| {
            Limits::in_force(settings, &used_to(3_000, 3, seconds)).to_string()
        };
        let learned = Settings::default();
        assert_eq!(
            said(&learned, 0),
            "packets: no limit for 10 s, then 6 x the busiest second so far, at least 20,000 packets/s (2 x the floor for \
             learned limits, while learning starts); bits: no limit for 10 s, then 6 x the busiest second so far, at \
             least 200.0 Mbit/s (2 x the floor for learned limits, while learning starts)"
        );
        assert!(said(&learned, 7).starts_with("packets: no limit for 3 s, then"));
        assert_eq!(
            said(&learned, 3_000),
            "packets: limit 18,042 packets/s (6 x the reference of 3,007 packets/s learned in less than an hour); bits: \
             limit 100.0 Mbit/s (the floor for learned limits)"
        );
        let half_set = Settings {
            set_pps: set(500, SetBy::Local),
            link_bps: Some(100_000_000),
            ..Settings::default()
        };
        assert_eq!(
            said(&half_set, 0),
            "packets: limit 500 packets/s (set with --threshold-pps); bits: no limit for 10 s, then 6 x the busiest \
             second so far, at least 90.0 Mbit/s (90 % of the link's 100,000,000 bits/s)"
        );
    }

    #[test]
    fn limits_rest_on_a_word_or_on_a_stage_of_learning() {
        let grounds = |settings: &Settings, seconds| {
            Limits::in_force(settings, &used_to(3_000, 3, seconds)).grounds()
        };
        let learned = Settings::default();
        for (seconds, ground) in [
            (9, Ground::Nothing),
            (10, Ground::Learned(Phase::Starting)),
            (299, Ground::Learned(Phase::Starting)),
            (300, Ground::Learned(Phase::WarmingUp)),
            (3_600, Ground::Learned(Phase::Learned)),
        ] {
            assert_eq!(grounds(&learned, seconds), [ground, ground], "{seconds} s");
        }
        let platform = Settings {
            platform_pps: Some(500),
            ..Settings::default()
        };
        let [packets, bits] = grounds(&platform, 20);
        assert!(matches!(packets, Ground::Set(limit) if limit.is_platform() && limit.value == 500));
        assert_eq!(bits, Ground::Learned(Phase::Starting));
    }

    #[test]
    fn seconds_are_learned_as_half_the_learned_limit() {
        let first = learning_caps(&Settings::default(), &used_to(40_000, 1, 5));
        assert_eq!(first, LearningCaps::default());
        let idle = learning_caps(&Settings::default(), &used_to(3, 3, 4_000));
        assert_eq!((idle.pps, idle.bps), (Some(5_000), Some(50_000_000)));
    }

    #[test]
    fn nothing_overflows() {
        let settings = Settings {
            floor_pps: u64::MAX,
            floor_bps: u64::MAX,
            link_bps: Some(u64::MAX),
            link_permille: u64::MAX,
            headroom_permille: u64::MAX,
            ..Settings::default()
        };
        let limits = Limits::in_force(&settings, &used_to(u64::MAX, u64::MAX, 4_000));
        assert_eq!(
            (value(&limits.pps), value(&limits.bps)),
            (Some(u64::MAX), Some(u64::MAX))
        );
    }
}
