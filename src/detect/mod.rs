//! Is this abnormal, and what is it.

pub mod baseline;
pub mod limits;
