//! The whole agent against a platform: a real flood on a link made here, and what the platform hears of it.
//!
//! The platform is the project's own stand-in, on the host's loopback; it is strict about headers and fields, so that a
//! request that breaks the contract fails the test that caused it.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod crash;
mod disk;
mod heartbeat;
mod lifecycle;
mod node;
mod operator;
mod outage;
mod reload;
