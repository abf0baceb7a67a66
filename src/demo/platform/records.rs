//! What the platform was sent, as its readers see it.
//!
//! Plain values; whoever plays against the platform reads them on a thread of its own.

use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;

use crate::clock::Timestamp;

/// What a request is for. Paths are relative to the address that [`Platform::base`](super::Platform::base) gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `GET ../health`.
    Health,
    /// `POST ../deploy`.
    Deploy,
    /// `POST /agent/heartbeat`, both contracts.
    Heartbeat,
    /// `POST /agent/metrics`, both contracts.
    Metrics,
    /// `GET /agent/config`, both contracts.
    Config,
    /// `POST /agent/incident`, seed contract: opens and updates.
    Incident,
    /// `POST /agent/incidents`, resource contract.
    Open,
    /// `POST /agent/incidents/{uuid}`, resource contract.
    Update,
    /// `POST /agent/incidents/{uuid}/resolve`, resource contract.
    Resolve,
    /// `POST /agent/commands/ack`, resource contract.
    Ack,
    /// `POST /agent/pcap` and `POST /agent/incidents/{uuid}/pcap`.
    Pcap,
    /// Anything else.
    Unknown,
}

impl Endpoint {
    /// Its name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Deploy => "deploy",
            Self::Heartbeat => "heartbeat",
            Self::Metrics => "metrics",
            Self::Config => "config",
            Self::Incident => "incident",
            Self::Open => "open",
            Self::Update => "update",
            Self::Resolve => "resolve",
            Self::Ack => "ack",
            Self::Pcap => "pcap",
            Self::Unknown => "unknown",
        }
    }
}

/// One request as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// How many came before it.
    pub number: u64,
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// When its head had arrived, on the clock that never steps.
    pub at: Instant,
    /// The same on the wall clock.
    pub wall: Timestamp,
    /// What it is for.
    pub endpoint: Endpoint,
    /// Its method.
    pub method: String,
    /// Its path, with the query if there is one.
    pub path: String,
    /// What it says in `X-Node-UUID`.
    pub node: Option<String>,
    /// What it says in `User-Agent`.
    pub user_agent: Option<String>,
    /// Its body as JSON; null when there is none or it is none.
    pub body: Value,
    /// What it holds; [`Call::Refused`] when something is wrong with it.
    pub call: Call,
    /// What is wrong with it: each a sentence that begins with the header or field. The answer names them too.
    pub violations: Vec<String>,
    /// What is right in itself and odd after what came before.
    pub oddities: Vec<Oddity>,
    /// Whether the platform acted on it. A fault may keep it from that, or keep only the answer from arriving.
    pub taken: bool,
    /// The status it was answered with, or would have been if the fault had let it through; 0 for no answer.
    pub status: u16,
}

/// What a right request holds.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "named after the endpoints")]
pub enum Call {
    Health,
    Deploy(Deploy),
    Heartbeat(Heartbeat),
    Metrics(Metrics),
    Config,
    Incident(Incident),
    Open(Incident),
    Update {
        uuid: String,
        incident: Incident,
    },
    Resolve {
        uuid: String,
        incident: Incident,
    },
    Ack(Ack),
    /// Something was wrong with it, or there is nothing at that address.
    Refused,
}

/// A node to be registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// Its name.
    pub name: String,
    /// Its public address.
    pub ip: String,
    /// Its system.
    pub os: Option<String>,
    /// The interface to watch.
    pub interface: Option<String>,
    /// Where it stands.
    pub location: Option<String>,
}

/// A sign of life. The whole of it is in [`Received::body`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// The agent's version by the seed contract.
    pub agent_version: Option<String>,
    /// Seconds since the agent started.
    pub uptime: Option<u64>,
    /// The host's system.
    pub os: Option<String>,
    /// The agent's version by the resource contract.
    pub version: Option<String>,
    /// Whether enough was learned.
    pub baseline_ready: Option<bool>,
}

/// One second (seed contract) or a few (resource contract) of traffic.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Packets a second.
    pub pps: f64,
    /// Bits a second.
    pub bps: f64,
    /// Percent of the packets.
    pub tcp_pct: f64,
    /// Percent of the packets.
    pub udp_pct: f64,
    /// Percent of the packets.
    pub icmp_pct: f64,
    /// Established TCP connections.
    pub conn_count: u64,
    /// The second, in the seed contract.
    pub recorded_at: Option<Timestamp>,
    /// The limit in force, in the resource contract.
    pub threshold: Option<f64>,
    /// Mean of the seconds, in the resource contract.
    pub avg_pps: Option<f64>,
    /// How many seconds, in the resource contract.
    pub samples: Option<u64>,
}

/// What is said about an incident, in either contract. The whole of it is in [`Received::body`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Incident {
    /// Its family.
    pub attack_family: String,
    /// Its subtype, in the resource contract.
    pub attack_subtype: Option<String>,
    /// How bad it is, in the seed contract.
    pub severity: Option<String>,
    /// Highest packets a second.
    pub peak_pps: f64,
    /// Highest bits a second.
    pub peak_bps: f64,
    /// Different sources.
    pub source_ip_count: u64,
    /// When it began, in the resource contract's opening.
    pub started_at: Option<String>,
    /// How long it lasted, in the resource contract's resolution.
    pub duration_seconds: Option<f64>,
    /// Packets in all, in the resource contract.
    pub total_packets: Option<u64>,
}

/// What became of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ack {
    /// Which.
    pub command_id: u64,
    /// `applied` or `failed`.
    pub status: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// Something that no single request shows: it does not fit what came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// An incident was opened while another one of the node was open.
    SecondOpen {
        /// The one that was.
        open: String,
    },
    /// An incident with this beginning had been opened already.
    OpenedAgain {
        /// The first of them.
        first: String,
    },
    /// An update or resolution of an incident that is over.
    AfterResolve {
        /// Which.
        uuid: String,
    },
    /// An update or resolution of an incident that nobody opened.
    NeverOpened {
        /// Which.
        uuid: String,
    },
    /// The highest rate so far became lower: a first estimate that was too high, another attack told as this one, or
    /// reports out of order.
    PeakFell,
    /// There was a sample for this second already.
    SecondAgain {
        /// The second.
        recorded_at: Timestamp,
    },
    /// A sample is older than one before it.
    OutOfOrder {
        /// Its second.
        recorded_at: Timestamp,
        /// The newest before it.
        after: Timestamp,
    },
}

/// An incident as the platform knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownIncident {
    /// Its number, as the seed contract's answer gives it.
    pub id: i64,
    /// Its name, as the resource contract's answer gives it.
    pub uuid: String,
    /// Whose it is.
    pub node: String,
    /// When it was opened here.
    pub opened_at: Instant,
    /// When something was said about it last.
    pub told_at: Instant,
    /// How often it was told after the opening.
    pub updates: u32,
    /// Whether it was resolved. The seed contract has no way to say that.
    pub resolved: bool,
    /// What was said last.
    pub newest: Incident,
}
