//! From counter readings at odd times to packets and bytes per window. Pure.

/// Exact inbound packets and bytes of all watched interfaces in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicReading {
    /// Packets received plus packets missed (dropped in the NIC before the host).
    pub packets: u64,
    /// Bytes at layer 2, missed packets at the mean size of the others.
    pub bytes: u64,
    /// Of `packets`, those missed.
    pub missed: u64,
    /// How the figures came about.
    pub quality: NicQuality,
}

/// How a [`NicReading`] came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NicQuality {
    /// Read at the window's boundaries and interpolated to them.
    Measured,
    /// A reading was missed: the change was spread evenly over the windows in between.
    Spread,
    /// The driver refreshes its counters only every second or two; trigger on capture, take totals of whole steps.
    Stepping,
}
