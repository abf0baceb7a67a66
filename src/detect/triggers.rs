//! What opens an incident.
//!
//! Each trigger compares one value of the last second with one limit. A limit that somebody set is a promise and opens
//! at once; a learned one needs three of the last four windows to carry their part, so that a burst of up to 50 ms
//! never opens it.

use super::baseline::Unit;
use super::limits::{InForce, Limit, Limits};
use super::span::LastSecond;
use crate::count::WINDOWS_PER_SECOND;

/// The triggers, by the names of the detection rules (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TriggerId {
    /// V1: packets a second over a limit that somebody set.
    SetPackets,
    /// V2: bits a second over a limit that somebody set.
    SetBits,
    /// V3: packets a second over the learned limit.
    LearnedPackets,
    /// V4: bits a second over the learned limit.
    LearnedBits,
}

impl TriggerId {
    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SetPackets => "V1",
            Self::SetBits => "V2",
            Self::LearnedPackets => "V3",
            Self::LearnedBits => "V4",
        }
    }

    /// The unit of its value and limit.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::SetPackets | Self::LearnedPackets => Unit::Packets,
            Self::SetBits | Self::LearnedBits => Unit::Bits,
        }
    }

    /// Whether its limit was set by somebody.
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::SetPackets | Self::SetBits)
    }
}

/// One trigger, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Which.
    pub id: TriggerId,
    /// Its value over the last second.
    pub value: u64,
    /// What its newest window alone carries.
    pub newest: u64,
    /// The limit it is compared with.
    pub limit: Limit,
    /// Whether it opens an incident: crossed, and confirmed where that is asked for.
    pub fires: bool,
    /// When the limit was set below what is normal here: the one that would be learned, which would fit.
    pub fitting: Option<u64>,
    /// Whether it fires on more than what is normal here: always, unless the limit was set below that.
    pub hostile: bool,
}

/// Suspicion begins, and an open incident clears, at this part of the limit, in percent.
pub const SUSPECTED_PERCENT: u64 = 80;

/// Windows, the newest included, of which [`CARRIED`] must carry their part of a learned limit.
const CONFIRMED_OVER: usize = 4;
const CARRIED: usize = 3;

impl Trigger {
    /// What hostile traffic has to cross: the limit, or the one that would fit where it was set below normal.
    #[must_use]
    pub fn hostile_limit(&self) -> u64 {
        self.fitting.unwrap_or(self.limit.value)
    }

    /// Whether its value is near `limit` or over it.
    #[must_use]
    pub const fn is_near(&self, limit: u64) -> bool {
        self.value.saturating_mul(100) >= limit.saturating_mul(SUSPECTED_PERCENT)
    }

    /// Whether the newest window alone, kept up for a second, would be near `limit` or over it.
    #[must_use]
    pub const fn newest_is_near(&self, limit: u64) -> bool {
        self.newest.saturating_mul(WINDOWS_PER_SECOND * 100)
            >= limit.saturating_mul(SUSPECTED_PERCENT)
    }
}

/// Every trigger that has a limit, in the order of their names.
#[must_use]
pub(super) fn evaluate(last: &LastSecond, limits: &Limits) -> Vec<Trigger> {
    let pps = trigger(Unit::Packets, &limits.pps, last);
    let bps = trigger(Unit::Bits, &limits.bps, last);
    pps.into_iter().chain(bps).collect()
}

/// The trigger of one unit, if a limit is in force for it.
fn trigger(unit: Unit, in_force: &InForce, last: &LastSecond) -> Option<Trigger> {
    let limit = in_force.limit?;
    let id = match (unit, limit.origin.is_set()) {
        (Unit::Packets, true) => TriggerId::SetPackets,
        (Unit::Bits, true) => TriggerId::SetBits,
        (Unit::Packets, false) => TriggerId::LearnedPackets,
        (Unit::Bits, false) => TriggerId::LearnedBits,
    };
    let value = unit.of(last.sum().judged);
    let newest = last
        .newest_first()
        .next()
        .map_or(0, |(_, _, judged)| unit.of(judged.count));
    let learned_is_crossed = |learned: u64| value >= learned && confirmed(unit, learned, last);
    let fires = if id.is_set() {
        value >= limit.value
    } else {
        learned_is_crossed(limit.value)
    };
    let fitting = in_force
        .learned
        .filter(|_| in_force.below_normal)
        .map(|learned| learned.value);
    Some(Trigger {
        id,
        value,
        newest,
        limit,
        fires,
        fitting,
        hostile: fires && fitting.is_none_or(learned_is_crossed),
    })
}

/// Whether the newest window and two of the three before carry at least their part of the limit.
fn confirmed(unit: Unit, limit: u64, last: &LastSecond) -> bool {
    let carries: Vec<bool> = last
        .newest_first()
        .take(CONFIRMED_OVER)
        .map(|(_, _, judged)| unit.of(judged.count).saturating_mul(WINDOWS_PER_SECOND) >= limit)
        .collect();
    carries.first() == Some(&true) && carries.iter().filter(|carries| **carries).count() >= CARRIED
}
