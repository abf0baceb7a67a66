//! One request as it goes out, whichever contract it is in.
//!
//! The agent has one model of what it tells; [`Spoken`] says in which of the two contracts it is told. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Contract, Vitals, resource, seed};
use crate::clock::Timestamp;
use crate::ledger::{Outgoing, Sample};

/// What the agent calls itself.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The contract in use. With `auto` it begins as [`Seed`](Self::Seed) and may change once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// The documented one.
    Seed,
    /// The published agent's.
    Resource,
}

/// What is asked of the platform, as far as its answer's meaning depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// We are alive.
    Heartbeat,
    /// What shall we do?
    Config,
    /// Seconds of traffic.
    Metrics,
    /// A step of an incident.
    Incident,
    /// What became of a command.
    Ack,
    /// Is the platform there at all? Without credentials.
    Health,
    /// A new node. With a deploy token.
    Deploy,
}

/// A request: a `GET` without a body, a `POST` with one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) call: Call,
    /// Below the API's address, with a slash at its beginning.
    pub(super) path: String,
    pub(super) body: Option<Vec<u8>>,
}

/// How much of an incident is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// Without its lists: the platform found it too large.
    Brief,
}

/// What a heartbeat tells beside [`Vitals`].
#[derive(Clone, Debug)]
pub(super) struct Pulse<'a> {
    pub(super) os: &'a str,
    pub(super) vitals: &'a Vitals,
    /// What waits to be told.
    pub(super) waiting: u64,
    /// `closed`, `open` or `half-open`, in the words of the resource contract.
    pub(super) breaker: &'static str,
}

impl Spoken {
    /// What is tried first.
    pub(super) const fn first(contract: Contract) -> Self {
        match contract {
            Contract::Auto | Contract::Seed => Self::Seed,
            Contract::Resource => Self::Resource,
        }
    }

    /// The name used in output.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Resource => "resource",
        }
    }

    /// The heartbeat.
    pub(super) fn heartbeat(self, pulse: &Pulse<'_>) -> Request {
        match self {
            Self::Seed => seed::heartbeat(pulse),
            Self::Resource => resource::heartbeat(pulse),
        }
    }

    /// A step of an incident, or why this contract cannot tell it.
    pub(super) fn incident(self, step: &Outgoing, detail: Detail) -> Result<Request, String> {
        match self {
            Self::Seed => Ok(seed::incident(&step.report, detail)),
            Self::Resource => resource::incident(step, detail),
        }
    }
}

/// Asks for this node's configuration; the same in both contracts.
pub(super) fn config() -> Request {
    Request {
        call: Call::Config,
        path: "/agent/config".to_owned(),
        body: None,
    }
}

/// One second of traffic, or one thinned one, in the seed contract.
pub(super) fn metrics(sample: &Sample) -> Request {
    seed::metrics(sample)
}

/// Some seconds of traffic as one, in the resource contract; `None` of no seconds.
pub(super) fn aggregate(samples: &[Sample]) -> Option<Request> {
    resource::metrics(samples)
}

/// Tells the platform that a command was not executed; in the resource contract.
pub(super) fn not_executed(id: i64, reason: &str) -> Request {
    resource::not_executed(id, reason)
}

/// A `POST` of `body`.
pub(super) fn post(call: Call, path: impl Into<String>, body: &impl Serialize) -> Request {
    Request {
        call,
        path: path.into(),
        // Our own structs always are JSON; without a body the platform would say 400, which is then reported.
        body: Some(serde_json::to_vec(body).unwrap_or_default()),
    }
}

/// Permille as percent, for JSON; never above 100, whatever was counted.
pub(super) fn percent(permille: u32) -> f64 {
    f64::from(permille.min(1_000)) / 10.0
}

/// A percentage that certainly is one.
pub(super) fn bounded(percent: f64) -> f64 {
    if percent.is_finite() {
        percent.clamp(0.0, 100.0)
    } else {
        0.0
    }
}

/// A count for JSON fields that hold floats.
#[expect(
    clippy::cast_precision_loss,
    reason = "rates and packet counts stay far below 2^53"
)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// `2026-03-15T09:44:18Z`: whole seconds, as in the seed contract.
pub(super) fn seconds(at: Timestamp) -> String {
    humantime::format_rfc3339_seconds(since_epoch(at)).to_string()
}

/// `2026-03-15T09:44:18.004512+00:00`: microseconds and an offset, as in the resource contract.
pub(super) fn micros(at: Timestamp) -> String {
    let zulu = humantime::format_rfc3339_micros(since_epoch(at)).to_string();
    format!("{}+00:00", zulu.trim_end_matches('Z'))
}

fn since_epoch(at: Timestamp) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_nanos(at.as_nanos())
}

/// The answer to a call of which nothing is read.
pub(super) type Answer = Map<String, Value>;
