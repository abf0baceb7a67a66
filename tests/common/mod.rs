//! What the tests that run the binary share: namespaces, generators, the agent, recordings.
//!
//! Nothing here sends a packet outside a network namespace that it made, and nothing outlives the test that started
//! it. Each test binary takes what it needs.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod agent;
pub(crate) mod event;
pub(crate) mod generate;
pub(crate) mod judge;
pub(crate) mod kept;
pub(crate) mod manifest;
pub(crate) mod needs;
pub(crate) mod netns;
pub(crate) mod packets;
pub(crate) mod process;
pub(crate) mod recording;
pub(crate) mod replay;
pub(crate) mod resident;
mod tell;

#[allow(unused_imports, reason = "each test binary uses its own part")]
pub(crate) use tell::tell;
