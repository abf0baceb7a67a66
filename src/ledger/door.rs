//! What passes through the ledger's door: seconds, steps that wait to be told, and what became of them.
//!
//! Plain values, made here, carried by the detector's thread and by the uplink. Nothing here touches a file.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::detect::baseline::BaselineState;
use crate::incident::Report;

/// What one telling of an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// It was recognised.
    Open,
    /// It goes on, is known better, or has come back.
    Update,
    /// It is over.
    Resolve,
}

/// Seconds of traffic as they are kept and told. As recorded, one second; as told after a long silence, several:
/// then rates are means over the seconds that were recorded, with the highest beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it begins: whole seconds, UTC.
    pub start: Timestamp,
    /// What it stands for, from `start`: 1, 10 or 60 seconds.
    pub span_seconds: u32,
    /// Packets a second inbound.
    pub pps: u64,
    /// The highest second's.
    pub pps_max: u64,
    /// Bits a second inbound.
    pub bps: u64,
    /// The highest second's.
    pub bps_max: u64,
    /// TCP's part of the packets.
    pub tcp_permille: u32,
    /// UDP's part of the packets.
    pub udp_permille: u32,
    /// ICMP's and ICMPv6's part of the packets.
    pub icmp_permille: u32,
    /// Established TCP connections.
    pub connections: u32,
    /// The limit in packets a second in force at its end, if there was one.
    pub threshold_pps: Option<u64>,
}

/// What the platform calls an incident: both where both came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformIds {
    /// Its number.
    pub id: Option<i64>,
    /// Its UUID, as the platform wrote it.
    pub uuid: Option<String>,
}

/// Which step of which incident, and in which state it was handed out. A step that has changed since is not settled
/// by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) step: i64,
    pub(super) revision: i64,
}

/// A step that waits to be told, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// To be handed back with what became of it.
    pub ticket: Ticket,
    /// What it is.
    pub step: Step,
    /// What there is to tell.
    pub report: Report,
    /// Whether the incident goes on now, whatever was to be told of it first.
    pub goes_on: bool,
    /// What the platform has called the incident so far.
    pub ids: PlatformIds,
    /// How often telling it has failed.
    pub attempts: u32,
    /// Since when the platform is owed it; a label, from the wall clock.
    pub waiting_since: Timestamp,
}

/// What became of a step that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The platform has it, and calls the incident so.
    Delivered(PlatformIds),
    /// The platform will never take it, for this reason, which must hold no secret. It is kept among the dead letters.
    Refused(String),
    /// It may be told again: counts an attempt, stays.
    Failed,
}

/// Where the ledger writes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// To the state directory.
    Disk,
    /// To memory, because no state directory was asked for.
    Memory,
    /// To memory, because the disk fails; it is tried again.
    Fallback {
        /// Since when.
        since: Timestamp,
        /// What is wrong and what to do, for people.
        reason: String,
    },
}

/// What waits, and what was lost. Every change of the outbox is a change of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Incidents of which something waits to be told.
    pub incidents: u64,
    /// Seconds of traffic that are not told.
    pub samples: u64,
    /// Steps of incidents that were lost, ever: the outbox or the queue had no room.
    pub dropped_events: u64,
    /// Seconds that were lost untold, ever.
    pub dropped_samples: u64,
    /// Where it waits.
    pub storage: Storage,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Found {
    /// What the baseline had learned. It still has to pass
    /// [`Baseline::restore`](crate::detect::baseline::Baseline::restore).
    pub baseline: Option<BaselineState>,
    /// The incident that was open when the agent ended, as last reported.
    pub open: Option<Report>,
    /// The newest incidents that had ended before, oldest first: what comes back soon is the last of them, and what they
    /// were names campaigns.
    pub over: Vec<Report>,
    /// What the operator should know.
    pub notices: Vec<String>,
    /// What was last stored under [`PLATFORM`](super::PLATFORM).
    pub platform: Option<String>,
}

/// A step that the platform will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The incident's name.
    pub incident: String,
    /// What it was to tell.
    pub step: Step,
    /// Why it was refused.
    pub reason: String,
    /// When; a label, from the wall clock.
    pub at: Timestamp,
}
