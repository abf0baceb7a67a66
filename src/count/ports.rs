//! Port histograms.

/// Packets by port, exact for all 65,536 of them.
#[derive(Clone, Debug)]
pub struct PortHistogram;

impl PortHistogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Counts packets of a port.
    pub fn add(&mut self, _port: u16, _packets: u32) {}

    /// Packets of a port.
    #[must_use]
    pub fn of(&self, _port: u16) -> u64 {
        0
    }

    /// All packets.
    #[must_use]
    pub fn total(&self) -> u64 {
        0
    }

    /// How many ports have packets.
    #[must_use]
    pub fn distinct(&self) -> u32 {
        0
    }

    /// The `n` ports with most packets: most first, then lower port.
    #[must_use]
    pub fn largest(&self, _n: usize) -> Vec<(u16, u64)> {
        Vec::new()
    }

    /// Empties it.
    pub fn clear(&mut self) {}

    /// Adds another one.
    pub fn merge(&mut self, _other: &Self) {}
}
