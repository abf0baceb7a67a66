//! `ftagent`: an on-host DDoS detection agent.
//!
//! Packets enter on the left, incidents leave on the right; everything in between is a pure function of what was seen.

pub mod agent;
pub mod capture;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod count;
pub mod detect;
pub mod engine;
pub mod incident;
pub mod ledger;
mod words;
