//! Cuts time into windows and fills them.

/// How to measure.
#[derive(Clone, Debug, Default)]
pub struct Settings;

/// Fills windows.
#[derive(Debug)]
pub struct Meter;
