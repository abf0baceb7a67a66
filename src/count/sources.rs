//! Bounded source accounting.

use std::net::IpAddr;

use crate::classify::TrafficClass;

/// How many different sources there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distinct {
    /// The number.
    pub count: u64,
    /// Whether it is exact; otherwise it is estimated.
    pub exact: bool,
}

/// One source and its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// Who.
    pub address: IpAddr,
    /// Packets guaranteed to be theirs.
    pub packets: u64,
    /// By how much the true count may be higher.
    pub error: u64,
}

/// The sources of one window, by class.
#[derive(Clone, Debug)]
pub struct SourceTally;

impl SourceTally {
    /// An empty tally.
    #[must_use]
    pub fn new(_seed: u64) -> Self {
        Self
    }

    /// Counts packets.
    pub fn add(&mut self, _class: TrafficClass, _source: IpAddr, _packets: u32) {}

    /// Empties it.
    pub fn clear(&mut self) {}

    /// Adds another worker's tally of the same window.
    pub fn merge(&mut self, _other: &Self) {}

    /// Different sources over all classes.
    #[must_use]
    pub fn distinct(&self) -> Distinct {
        Distinct::default()
    }
}

/// The sources of many windows: an incident's, or a second's.
#[derive(Clone, Debug)]
pub struct SourceSummary;

impl SourceSummary {
    /// An empty summary.
    #[must_use]
    pub fn new(_seed: u64) -> Self {
        Self
    }

    /// Adds a window's sources, of those classes that are `wanted`.
    pub fn absorb(&mut self, _window: &SourceTally, _wanted: impl Fn(TrafficClass) -> bool) {}

    /// Different sources.
    #[must_use]
    pub fn distinct(&self) -> Distinct {
        Distinct::default()
    }

    /// Packets absorbed.
    #[must_use]
    pub fn packets(&self) -> u64 {
        0
    }

    /// The largest sources.
    #[must_use]
    pub fn largest(&self, _n: usize) -> Vec<SourceCount> {
        Vec::new()
    }

    /// Empties it.
    pub fn clear(&mut self) {}
}
