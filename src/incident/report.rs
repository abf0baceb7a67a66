//! An incident as it is told: what is printed, stored and sent.
//!
//! The seed contract's fields under the seed's names, and ours beside them. What `replay` and `--events` print, what the
//! ledger keeps, and what both wire contracts are encoded from is this one value, so that they cannot disagree. Reading
//! one back tolerates what an older version did not write, and what a newer one does. Pure.

use serde::{Deserialize, Serialize};

use super::{Fired, Forensics, Incident, Kept, Severity, VectorPart};
use crate::clock::Timestamp;
use crate::count::LENGTH_BOUNDS;
use crate::detect::{Family, Unit, percent};

/// Everything that is told about an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name, see [`IncidentId`](super::IncidentId).
    pub id: String,
    /// What it is.
    pub attack_family: Family,
    /// What it is in detail.
    pub attack_subtype: String,
    /// How bad.
    pub severity: Severity,
    /// How sure the name is, in percent.
    pub confidence: u64,
    /// Its first packet, as far as it could be seen.
    pub started_at: Timestamp,
    /// When it was recognised.
    pub opened_at: Timestamp,
    /// When it ended, once it is resolved.
    pub ended_at: Option<Timestamp>,
    /// Whether it ended while nobody looked, between a stop of the agent and the next start: `ended_at` is then when it
    /// was last seen above its limit.
    #[serde(default)]
    pub ended_unseen: bool,
    /// How often the agent stopped and started while it went on. Totals, peaks and the forensic sums go on; sources, ports
    /// and vectors are those since the last start.
    #[serde(default)]
    pub interruptions: u32,
    /// From its first packet to its recognition.
    pub detected_after_ms: u64,
    /// Highest packets in a second.
    pub peak_pps: u64,
    /// Highest bits in a second.
    pub peak_bps: u64,
    /// Whether the peak is still an estimate from less than a second.
    pub peak_is_provisional: bool,
    /// The limit in packets a second it crossed, if it crossed one.
    pub threshold_pps: Option<u64>,
    /// The limit in bits a second it crossed, if it crossed one.
    pub threshold_bps: Option<u64>,
    /// What was normal: mean packets a second, once enough is known.
    pub baseline_pps: Option<u64>,
    /// What was normal: mean bits a second, once enough is known.
    pub baseline_bps: Option<u64>,
    /// Protocols of all packets.
    pub protocol_breakdown: Protocols,
    /// TCP packets by flag.
    pub tcp_flag_breakdown: Flags,
    /// Different sources of the traffic it is named after.
    pub source_ip_count: u64,
    /// Whether that number is exact; otherwise it is estimated.
    pub source_ip_count_exact: bool,
    /// The largest of them, largest first; at most 20.
    pub top_src_ips: Vec<Source>,
    /// The ports they sent to, most packets first; at most 20.
    pub top_dst_ports: Vec<Port>,
    /// Whether sources look forged. Absent: not judged, which is not the same as no.
    pub spoofing_detected: Option<bool>,
    /// Whether sources look like bots. Absent: not judged.
    pub botnet_detected: Option<bool>,
    /// What fired, in the order it did.
    pub triggers: Vec<FiredTrigger>,
    /// Every vector's part of the excess, largest first.
    pub vectors: Vec<VectorShare>,
    /// Packets since the first second, normal traffic included.
    pub packets: u64,
    /// Bits of these.
    pub bits: u64,
    /// How often it came back after a pause.
    pub pulses: u32,
    /// The series of attacks it belongs to.
    pub campaign: u32,
    /// Whether peak and totals are the interface's.
    pub from_interface: bool,
    /// Whether capture shows too little of it to say what it is.
    pub capture_blind: bool,
    /// Packets the kernel dropped because the ring was full.
    pub lost_ring: u64,
    /// Packets the interface dropped.
    pub lost_interface: u64,
    /// Packets counted into a later window than theirs.
    pub delayed: u64,
    /// What its packets were like. Always stored; printed once it is resolved, so that updates stay small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forensics: Option<ForensicFacts>,
    /// What going on with it after a restart, and explaining it, needs beside the rest. Stored, never printed or sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// Percent of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Protocols {
    /// TCP.
    pub tcp: f64,
    /// UDP.
    pub udp: f64,
    /// ICMP and ICMPv6.
    pub icmp: f64,
}

/// TCP packets by flag; a packet with two flags counts under both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", default)]
#[expect(missing_docs, reason = "the flags' own names say it")]
pub struct Flags {
    pub fin: u64,
    pub syn: u64,
    pub rst: u64,
    pub psh: u64,
    pub ack: u64,
    pub urg: u64,
    pub ece: u64,
    pub cwr: u64,
}

/// What the packets of an incident were like, as captured, normal traffic included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForensicFacts {
    /// Packets as they were on the wire.
    pub captured_packets: u64,
    /// Bits of these.
    pub captured_bits: u64,
    /// These packets by protocol.
    pub protocol_counts: ProtocolCounts,
    /// Percent of them that are neither TCP, UDP nor ICMP.
    pub other_pct: f64,
    /// Mean length of a packet on the wire in bytes; absent when none was captured.
    pub avg_packet_bytes: Option<f64>,
    /// Fragments, first ones and later ones.
    pub fragment_count: u64,
    /// Percent of the packets that they are.
    pub fragment_pct: f64,
    /// Frames by length, shortest first; a frame merged by receive offload counts once.
    pub frame_lengths: Vec<LengthBucket>,
    /// IP packets by TTL or hop limit: the 15 with most, most first, then lower TTL.
    pub ttl_distribution: Vec<TtlCount>,
    /// How the rate went, oldest first; at most 2,000 points. Seconds in which it was not open have none.
    pub velocity_curve: Vec<RatePoint>,
    /// Each point of the curve is the highest of so many seconds.
    pub velocity_step_seconds: u64,
    /// Shannon entropy in bits of the sources of the traffic it is named after, by their packets. Absent while it is open,
    /// and when not all sources were counted exactly.
    pub src_ip_entropy: Option<f64>,
}

/// Packets by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProtocolCounts {
    /// TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP and ICMPv6.
    pub icmp: u64,
    /// Everything else.
    pub other: u64,
}

/// Frames of some lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthBucket {
    /// The longest length in it, in bytes without FCS; absent for whatever is longer than all others.
    pub up_to_bytes: Option<u32>,
    /// Frames longer than those of the bucket before, up to this length.
    pub count: u64,
}

/// Packets with one TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlCount {
    /// The TTL or hop limit they came with.
    pub ttl: u8,
    /// Packets.
    pub count: u64,
}

/// The rate at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatePoint {
    /// Milliseconds from `started_at` to the beginning of the second.
    pub t_ms: u64,
    /// Packets in that second.
    pub pps: u64,
}

/// One source and its packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its address.
    pub ip: String,
    /// Packets that are certainly its own.
    pub count: u64,
    /// By how much the true count may be higher.
    pub error: u64,
}

/// One destination port and its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The port.
    pub port: u16,
    /// Packets.
    pub count: u64,
}

/// A trigger with the numbers it first fired on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiredTrigger {
    /// Which.
    pub id: String,
    /// `pps` or `bps`.
    pub unit: String,
    /// What was measured.
    pub value: u64,
    /// What it crossed.
    pub limit: u64,
    /// Where that limit came from.
    pub origin: String,
    /// When.
    pub at: Timestamp,
}

/// One vector's part of the excess.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorShare {
    /// The family it belongs to.
    pub family: Family,
    /// Its name.
    pub subtype: String,
    /// Packets above normal.
    pub packets: u64,
    /// Bits above normal.
    pub bits: u64,
    /// Percent of all packets above normal.
    pub packets_pct: f64,
    /// Percent of all bits above normal.
    pub bits_pct: f64,
}

impl Report {
    /// The report of an incident as it is now. Times are told to the millisecond.
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        let threshold = |unit: Unit| {
            let mut fired = incident.fired.iter();
            fired
                .find(|fired| fired.id.unit() == unit)
                .map(|fired| fired.limit)
        };
        let [fin, syn, rst, psh, ack, urg, ece, cwr] = incident.tcp_flags;
        Self {
            id: incident.id.to_string(),
            attack_family: incident.family,
            attack_subtype: incident.subtype.clone(),
            severity: incident.severity,
            confidence: incident.confidence.percent,
            started_at: in_millis(incident.started_at),
            opened_at: in_millis(incident.opened_at),
            ended_at: incident.ended_at.map(in_millis),
            ended_unseen: incident.ended_unseen,
            interruptions: incident.interruptions,
            detected_after_ms: incident.detected_after_millis,
            peak_pps: incident.peak_pps,
            peak_bps: incident.peak_bps,
            peak_is_provisional: incident.peak_is_provisional,
            threshold_pps: threshold(Unit::Packets),
            threshold_bps: threshold(Unit::Bits),
            baseline_pps: incident.normal.mean_pps,
            baseline_bps: incident.normal.mean_bps,
            protocol_breakdown: Protocols {
                tcp: percent(incident.protocols.tcp),
                udp: percent(incident.protocols.udp),
                icmp: percent(incident.protocols.icmp),
            },
            tcp_flag_breakdown: Flags {
                fin,
                syn,
                rst,
                psh,
                ack,
                urg,
                ece,
                cwr,
            },
            source_ip_count: incident.sources.count,
            source_ip_count_exact: incident.sources.exact,
            top_src_ips: incident
                .top_sources
                .iter()
                .map(|source| Source {
                    ip: source.address.to_string(),
                    count: source.packets,
                    error: source.error,
                })
                .collect(),
            top_dst_ports: incident
                .top_ports
                .iter()
                .map(|(port, count)| Port {
                    port: *port,
                    count: *count,
                })
                .collect(),
            spoofing_detected: None,
            botnet_detected: None,
            triggers: incident.fired.iter().map(FiredTrigger::of).collect(),
            vectors: incident.vectors.iter().map(VectorShare::of).collect(),
            packets: incident.total.packets,
            bits: incident.total.bits,
            pulses: incident.pulses,
            campaign: incident.campaign,
            from_interface: incident.from_interface,
            capture_blind: incident.capture_blind,
            lost_ring: incident.loss.ring,
            lost_interface: incident.loss.interface,
            delayed: incident.loss.delayed,
            forensics: Some(ForensicFacts::of(&incident.forensics)),
            kept: Some(Kept::of(incident)),
        }
    }
}

/// A time as it is written: what was told and what is read back are the same.
pub(super) const fn in_millis(at: Timestamp) -> Timestamp {
    let nanos = at.as_nanos();
    Timestamp::from_nanos(nanos - nanos % 1_000_000)
}

/// Thousandths as a decimal fraction.
pub(super) fn thousandths(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX)) / 1_000.0
}

impl FiredTrigger {
    fn of(fired: &Fired) -> Self {
        Self {
            id: fired.id.name().to_owned(),
            unit: fired.id.unit().short().to_owned(),
            value: fired.value,
            limit: fired.limit,
            origin: fired.origin.clone(),
            at: in_millis(fired.at),
        }
    }
}

impl VectorShare {
    fn of(part: &VectorPart) -> Self {
        Self {
            family: part.family,
            subtype: part.subtype.clone(),
            packets: part.excess.packets,
            bits: part.excess.bits,
            packets_pct: percent(part.packets_permille),
            bits_pct: percent(part.bits_permille),
        }
    }
}

impl ForensicFacts {
    fn of(forensics: &Forensics) -> Self {
        let other = forensics.other();
        // A mean in tenths and a permille are written the same way.
        let tenths = percent;
        let bounds = LENGTH_BOUNDS.into_iter().map(Some).chain([None]);
        Self {
            captured_packets: forensics.captured.packets,
            captured_bits: forensics.captured.bits,
            protocol_counts: ProtocolCounts {
                tcp: forensics.tcp,
                udp: forensics.udp,
                icmp: forensics.icmp,
                other,
            },
            other_pct: percent(forensics.permille(other)),
            avg_packet_bytes: forensics.mean_length_tenths().map(tenths),
            fragment_count: forensics.fragments,
            fragment_pct: percent(forensics.permille(forensics.fragments)),
            frame_lengths: bounds
                .zip(forensics.lengths)
                .map(|(up_to_bytes, count)| LengthBucket { up_to_bytes, count })
                .collect(),
            ttl_distribution: forensics
                .ttls
                .iter()
                .map(|&(ttl, count)| TtlCount { ttl, count })
                .collect(),
            velocity_curve: forensics
                .curve
                .iter()
                .map(|point| RatePoint {
                    t_ms: point.after_millis,
                    pps: point.pps,
                })
                .collect(),
            velocity_step_seconds: forensics.curve_step_seconds,
            src_ip_entropy: forensics.entropy_millibits.map(thousandths),
        }
    }
}
