//! Which flows are new.

/// The inbound flows of one window, as a bitmap of their hashes.
#[derive(Clone, Debug)]
pub struct FlowBitmap;

impl FlowBitmap {
    /// An empty bitmap.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Marks the flow with this hash.
    pub fn insert(&mut self, _flow_hash: u64) {}

    /// Forgets every flow.
    pub fn clear(&mut self) {}

    /// Adds the flows another worker saw.
    pub fn merge(&mut self, _other: &Self) {}
}

/// The flows of the last half minute.
#[derive(Clone, Debug)]
pub struct FlowHistory;

impl FlowHistory {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Learns a window's flows and says how many were new.
    pub fn admit(&mut self, _second: u64, _flows: &FlowBitmap) -> u64 {
        0
    }
}
