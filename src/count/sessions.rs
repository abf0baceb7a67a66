//! TCP sessions by port.

/// What one port's sessions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSessions;

/// Sessions of one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTally;

impl SessionTally {
    /// Adds another tally.
    pub fn merge(&mut self, _other: &Self) {}
}
