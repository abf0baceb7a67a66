//! How bad it is: the peak as a multiple of normal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::count::Count;
use crate::detect::{Normal, Unit};

/// The seed contract's four levels, by the ratio of peak to baseline.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Below twice the baseline.
    #[default]
    Low,
    /// From 2 to below 5 times.
    Medium,
    /// From 5 to below 20 times.
    High,
    /// 20 times and more.
    Critical,
}

impl Severity {
    /// The lowest ratio of each level above low.
    pub const BANDS: [(u64, Self); 3] = [(2, Self::Medium), (5, Self::High), (20, Self::Critical)];

    /// The level of `peak` against `base`.
    #[must_use]
    pub fn of(peak: u64, base: u64) -> Self {
        let reached = |ratio: u64| peak >= base.saturating_mul(ratio);
        Self::BANDS
            .iter()
            .rev()
            .find(|(ratio, _)| reached(*ratio))
            .map_or(Self::Low, |(_, level)| *level)
    }

    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The least base in packets a second: an idle host crosses a limit of 10,000 as high, not as critical.
const LEAST_BASE_PPS: u64 = 1_000;

/// The least base in bits a second.
const LEAST_BASE_BPS: u64 = 10_000_000;

/// What a severity was measured with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// In which unit.
    pub unit: Unit,
    /// The baseline used: the mean, but at least a tenth of the limit up to a floor.
    pub base: u64,
    /// The mean it came from, if there was one.
    pub mean: Option<u64>,
}

impl Scale {
    /// The scale for a limit that was crossed. A limit of the platform is measured with the platform's mean when it
    /// gave one; any other with our own.
    #[must_use]
    pub fn new(unit: Unit, limit: u64, by_platform: bool, normal: &Normal) -> Self {
        let (own, least) = match unit {
            Unit::Packets => (normal.mean_pps, LEAST_BASE_PPS),
            Unit::Bits => (normal.mean_bps, LEAST_BASE_BPS),
        };
        let platform = normal.platform_mean_pps;
        let mean = platform
            .filter(|_| unit == Unit::Packets && by_platform)
            .or(own);
        let floor = (limit / 10).min(least);
        Self {
            unit,
            base: mean.unwrap_or(0).max(floor).max(1),
            mean,
        }
    }

    /// The one of two figures that is in this scale's unit.
    #[must_use]
    pub const fn of(&self, packets: u64, bits: u64) -> u64 {
        self.unit.of(Count { packets, bits })
    }

    /// The level of a peak in this scale's unit.
    #[must_use]
    pub fn severity(&self, peak: u64) -> Severity {
        Severity::of(peak, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_half_open_as_the_seed_has_them() {
        let at = |peak| Severity::of(peak, 1_000);
        assert_eq!(at(1_999), Severity::Low);
        assert_eq!(at(2_000), Severity::Medium);
        assert_eq!(at(4_999), Severity::Medium);
        assert_eq!(at(5_000), Severity::High);
        assert_eq!(at(19_999), Severity::High);
        assert_eq!(at(20_000), Severity::Critical);
    }

    fn scale(unit: Unit, limit: u64, mean: Option<u64>) -> Scale {
        let normal = Normal {
            mean_pps: mean,
            mean_bps: mean,
            ..Normal::default()
        };
        Scale::new(unit, limit, false, &normal)
    }

    #[test]
    fn the_base_is_the_mean_but_at_least_a_tenth_of_the_limit_up_to_a_thousand() {
        assert_eq!(scale(Unit::Packets, 10_000, Some(3)).base, 1_000);
        assert_eq!(scale(Unit::Packets, 50_000, None).base, 1_000);
        assert_eq!(scale(Unit::Packets, 2_000, Some(3)).base, 200);
        assert_eq!(scale(Unit::Packets, 10_000, Some(4_000)).base, 4_000);
        assert_eq!(scale(Unit::Packets, 0, None).base, 1);
        assert_eq!(scale(Unit::Bits, 1_000_000_000, Some(5)).base, 10_000_000);
        assert_eq!(scale(Unit::Bits, 20_000_000, None).base, 2_000_000);
    }

    #[test]
    fn an_idle_host_crosses_ten_thousand_as_high_and_twenty_thousand_as_critical() {
        let scale = scale(Unit::Packets, 10_000, Some(3));
        assert_eq!(scale.severity(10_000), Severity::High);
        assert_eq!(scale.severity(20_000), Severity::Critical);
    }
}
