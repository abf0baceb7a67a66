//! Something to try the agent with: a platform inside the process, and packets played in real time.
//!
//! For tests and for `ftagent demo`. Nothing here reaches beyond the loopback interface.

pub mod platform;
