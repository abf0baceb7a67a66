//! The agent on a live link: real generators in network namespaces made here, real clients, and what it says of them.
//!
//! Every flood goes through the same steps: tcpdump and the agent watch the host's end of a veth pair, a generator that
//! nobody here wrote sends from the other end, and exactly one incident of the right name must open and resolve. The
//! time from the first attack packet to the event is measured twice: by the agent, and by tcpdump's time stamp against
//! the arrival of the line. The recording is then replayed, and must say the same.
//!
//! Each flood adds a line to the table of delays.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod counters;
mod floods;
mod links;
mod quiet;
mod service;
mod story;
