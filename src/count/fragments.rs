//! Which datagram a fragment belongs to.

/// Fragments of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragmentTally;

impl FragmentTally {
    /// Adds another tally.
    pub fn merge(&mut self, _other: &Self) {}
}
