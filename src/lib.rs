//! `ftagent`: an on-host DDoS detection agent.
//!
//! Packets enter on the left, incidents leave on the right; everything in between is a pure function of what was seen.
//! The rooms below stand in the order in which packets, then incidents, pass through them; `ARCHITECTURE.md` is the
//! long form of this page.
//!
//! | room | question | gives |
//! |---|---|---|
//! | [`capture`] | where do frames come from? | [`Frame`](capture::Frame), [`NicReading`](capture::counter::NicReading) |
//! | [`classify`] | what is one packet? | [`Sample`](classify::Sample) |
//! | [`count`] | how much of it was there? | [`Window`](count::Window), [`TrafficSecond`](count::TrafficSecond) |
//! | [`detect`] | is it abnormal, and what is it? | [`Verdict`](detect::Verdict) |
//! | [`incident`] | what is the story over many windows? | [`Event`](incident::Event) |
//! | [`engine`] | the pure part as one value | [`Outcome`](engine::Outcome) |
//! | [`ledger`] | what must survive a crash? | files in a state directory |
//! | [`uplink`] | what does the platform hear, and what does it want? | requests, [`PlatformValues`](uplink::PlatformValues) |
//! | [`demo`] | what can it be tried with? | [`Platform`](demo::platform::Platform) |
//! | [`config`] | what does the operator want? | [`Config`](config::Config) |
//! | [`agent`] | who runs what, on which thread? | [`replay`](agent::replay()), [`Live`](agent::Live) |
//! | [`cli`] | what do people and scripts see? | lines and exit codes |
//!
//! [`clock`] is left of them all: it alone asks what time it is.
//!
//! What always holds, and is tested:
//!
//! - The same windows give the same outcomes; the same file gives the same bytes.
//! - Everything behind a [`PacketSource`](capture::PacketSource) is the same for an interface and for a file.
//! - A room imports only rooms to its left. `classify`, `count`, `detect`, `incident` and `engine` know no clock, file,
//!   socket, thread, log or randomness.
//! - Nothing is allocated for a packet once capture has begun, and every table is bounded.
//! - No input makes it panic: what cannot be taken apart is counted by reason.
//! - Every opening, and every reopening, is followed by one resolution.
//! - Seconds of an attack are never learned as normal.

// In flow order, not in the alphabet's: the empty lines keep rustfmt from sorting.
pub mod clock;
mod words;

pub mod capture;

pub mod classify;

pub mod count;

pub mod detect;

pub mod incident;

pub mod engine;

pub mod ledger;

pub mod uplink;

pub mod demo;

pub mod config;

pub mod agent;

pub mod cli;
