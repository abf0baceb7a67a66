//! The story over many windows.
//!
//! Verdicts go in, [`Event`]s come out: an attack is one [`Incident`], opened, updated and resolved once, whatever it
//! does in between. Pure; on the detector's thread.

mod account;
mod explain;
mod forensics;
mod lifecycle;
mod naming;
mod peak;
mod recall;
mod report;
mod severity;
mod story;

use std::fmt;

use crate::clock::Timestamp;
use crate::count::{Count, Distinct, Loss, SourceCount};
use crate::detect::{Confidence, Family, FamilyShare, Normal, Share, TriggerId};

pub use explain::Explanation;
pub use forensics::{CurvePoint, Forensics};
pub use lifecycle::{Lifecycle, Settings};
pub use recall::{FamilyExcess, Kept};
pub use report::{
    FiredTrigger, Flags, ForensicFacts, LengthBucket, Port, ProtocolCounts, Protocols, RatePoint,
    Report, Source, TtlCount, VectorShare,
};
pub use severity::{Scale, Severity};

/// An incident's name: derived from when it opened and how many opened before it, never random. The same file gives
/// the same ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId {
    /// When it opened.
    pub opened_at: Timestamp,
    /// How many incidents this engine had opened before.
    pub sequence: u32,
}

impl fmt::Display for IncidentId {
    /// `1773567858050-0`: milliseconds since the epoch, and the sequence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}",
            self.opened_at.as_nanos() / 1_000_000,
            self.sequence
        )
    }
}

impl IncidentId {
    /// The id that was written as `text`, to the millisecond; `None` when it was not written by us.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, sequence) = text.split_once('-')?;
        let millis: u64 = millis.parse().ok()?;
        let id = Self {
            opened_at: Timestamp::from_nanos(millis.checked_mul(1_000_000)?),
            sequence: sequence.parse().ok()?,
        };
        (id.to_string() == text).then_some(id)
    }
}

/// A trigger that fired in an incident, with the numbers it first fired on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Which.
    pub id: TriggerId,
    /// What was measured over the last second, in the unit of the trigger.
    pub value: u64,
    /// The limit it crossed, in the same unit per second.
    pub limit: u64,
    /// Where that limit came from, in words.
    pub origin: String,
    /// Whether the platform set it.
    pub by_platform: bool,
    /// When it fired.
    pub at: Timestamp,
}

/// One vector's part of an incident's excess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorPart {
    /// The family it belongs to.
    pub family: Family,
    /// What it is called.
    pub subtype: String,
    /// Packets and bits above normal.
    pub excess: Count,
    /// Part of all packets above normal, in permille.
    pub packets_permille: u64,
    /// Part of all bits above normal, in permille.
    pub bits_permille: u64,
}

impl From<Share> for VectorPart {
    fn from(share: Share) -> Self {
        Self {
            family: share.family,
            subtype: share.subtype.to_owned(),
            excess: share.excess,
            packets_permille: share.packets_permille,
            bits_permille: share.bits_permille,
        }
    }
}

/// Where an incident stands in its life when it is told: what going on with it after a restart rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The end of the newest window that was looked at.
    pub seen_until: Timestamp,
    /// Since when everything that fired is below its limit, if it is.
    pub clear_since: Option<Timestamp>,
    /// For how long everything has to stay below before it is resolved.
    pub hold_millis: u64,
    /// When that hold last grew because an attack came back.
    pub hold_grown_at: Option<Timestamp>,
    /// When it was resolved, if it is: the hold after it ended, or what came back would have counted as another attack.
    pub resolved_at: Option<Timestamp>,
}

/// Protocols of everything that came in during an incident, in permille of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProtocolShares {
    /// TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP and ICMPv6.
    pub icmp: u64,
}

/// One attack: everything an event says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// What it is.
    pub family: Family,
    /// What it is in detail.
    pub subtype: String,
    /// How bad.
    pub severity: Severity,
    /// What the severity was measured with.
    pub scale: Scale,
    /// How sure the name is.
    pub confidence: Confidence,
    /// Every vector's part of the excess over the whole incident, or since the last restart in it; largest first.
    pub vectors: Vec<VectorPart>,
    /// Every family's part, largest first.
    pub families: Vec<FamilyShare>,
    /// Packets and bits above normal, over the same time.
    pub excess: Count,
    /// Its first packet, as far as it could be seen.
    pub started_at: Timestamp,
    /// When it was recognised.
    pub opened_at: Timestamp,
    /// From its first packet to its recognition.
    pub detected_after_millis: u64,
    /// When its last window above the limit ended; while it is open, so far.
    pub last_above_at: Timestamp,
    /// When it ended, once it is resolved.
    pub ended_at: Option<Timestamp>,
    /// Whether it ended while nobody looked: between a stop of the agent and the next start.
    pub ended_unseen: bool,
    /// How often the agent stopped and started while it went on. What came in between was not seen, and sources, ports
    /// and vectors are those since the last start.
    pub interruptions: u32,
    /// Highest packets in a second.
    pub peak_pps: u64,
    /// Highest bits in a second.
    pub peak_bps: u64,
    /// Whether the peak is still an estimate from less than a second.
    pub peak_is_provisional: bool,
    /// Packets and bits since the first second, normal traffic included.
    pub total: Count,
    /// Protocols of all packets since the first second.
    pub protocols: ProtocolShares,
    /// TCP packets by flag, a packet with two flags under both: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    pub tcp_flags: [u64; 8],
    /// What its packets were like.
    pub forensics: Forensics,
    /// Different sources of the traffic it is named after.
    pub sources: Distinct,
    /// The largest of them.
    pub top_sources: Vec<SourceCount>,
    /// The ports they sent to.
    pub top_ports: Vec<(u16, u64)>,
    /// What fired, in the order it did.
    pub fired: Vec<Fired>,
    /// What was normal when it opened.
    pub normal: Normal,
    /// How often it came back after a pause of at least the hold.
    pub pulses: u32,
    /// The series of attacks it belongs to: the sequence number of the first one.
    pub campaign: u32,
    /// When the limit it crossed lies below normal traffic: a limit in packets or bits a second that would fit.
    pub fitting_limit: Option<u64>,
    /// What we know we did not see.
    pub loss: Loss,
    /// Whether peak and totals are the interface's.
    pub from_interface: bool,
    /// Whether capture shows too little of it to say what it is.
    pub capture_blind: bool,
    /// Where it stands in its life.
    pub standing: Standing,
}

/// Why an incident is reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is time to.
    Periodic,
    /// It has another name.
    Renamed,
    /// It is worse than it was, or its first estimate was corrected.
    Severity,
    /// Another vector joined or left.
    Vectors,
    /// Its peak grew by a quarter, or the first estimate was replaced.
    Peak,
    /// It came back after it was resolved.
    Reopened,
    /// The agent has started again, and it still goes on.
    Resumed,
    /// The agent stops, and it still goes on.
    Suspended,
}

impl Change {
    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Renamed => "renamed",
            Self::Severity => "severity",
            Self::Vectors => "vectors",
            Self::Peak => "peak",
            Self::Reopened => "reopened",
            Self::Resumed => "resumed",
            Self::Suspended => "suspended",
        }
    }
}

/// What happened to an incident, each time with all of it. Every opening, and every update that says it came back,
/// is followed by one `Resolved`, if need be after the next start of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An attack was recognised.
    Opened(Box<Incident>),
    /// Something about it changed, or it is time to report again.
    Updated(Box<Incident>, Change),
    /// It has been quiet for long enough.
    Resolved(Box<Incident>),
}

impl Event {
    /// The incident it is about.
    #[must_use]
    pub const fn incident(&self) -> &Incident {
        match self {
            Self::Opened(incident) | Self::Updated(incident, _) | Self::Resolved(incident) => {
                incident
            }
        }
    }
}
