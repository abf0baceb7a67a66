//! What the benches share.

#![allow(dead_code, reason = "each bench uses its own part")]

pub(crate) mod cpu;
pub(crate) mod pipeline;
pub(crate) mod traffic;
