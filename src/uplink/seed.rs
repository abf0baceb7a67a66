//! The seed contract: what the platform's documents describe, and nothing beside it.
//!
//! Only documented fields, with the documented types; every field that the contract requires is filled with what was
//! measured. One call opens and updates an incident, and carries its end too: the contract has no other. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::NewNode;
use super::wire::{Call, Detail, Pulse, Request, VERSION, bounded, percent, post, seconds};
use crate::detect::Family;
use crate::incident::{Report, Severity};
use crate::ledger::Sample;

/// We are alive.
#[derive(Serialize)]
struct Heartbeat<'a> {
    agent_version: &'a str,
    /// Seconds since the agent started.
    uptime: u64,
    os: &'a str,
}

/// One second of traffic.
#[derive(Serialize)]
struct Metrics {
    pps: u64,
    /// Bits.
    bps: u64,
    tcp_pct: f64,
    udp_pct: f64,
    icmp_pct: f64,
    conn_count: u32,
    recorded_at: String,
}

/// An incident as it is now. `ioc_matches` and `geo_breakdown` are documented too; they are left out until there is
/// something that matches indicators and knows countries: empty they would claim that somebody looked.
#[derive(Serialize)]
struct Incident<'a> {
    attack_family: &'static str,
    severity: Severity,
    peak_pps: u64,
    peak_bps: u64,
    protocol_breakdown: Protocols,
    tcp_flag_breakdown: BTreeMap<&'static str, u64>,
    source_ip_count: u64,
    top_src_ips: Vec<Source<'a>>,
    top_dst_ports: Vec<Port>,
    spoofing_detected: bool,
    botnet_detected: bool,
}

/// Percent of the packets.
#[derive(Serialize)]
struct Protocols {
    tcp: f64,
    udp: f64,
    icmp: f64,
}

#[derive(Serialize)]
struct Source<'a> {
    ip: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct Port {
    port: u16,
    count: u64,
}

pub(super) fn heartbeat(pulse: &Pulse<'_>) -> Request {
    let body = Heartbeat {
        agent_version: VERSION,
        uptime: pulse.vitals.uptime_seconds,
        os: pulse.os,
    };
    post(Call::Heartbeat, "/agent/heartbeat", &body)
}

/// A thinned sample is told by its means: the contract has one figure for each, and a mean is true of the whole span.
pub(super) fn metrics(sample: &Sample) -> Request {
    let body = Metrics {
        pps: sample.pps,
        bps: sample.bps,
        tcp_pct: percent(sample.tcp_permille),
        udp_pct: percent(sample.udp_permille),
        icmp_pct: percent(sample.icmp_permille),
        conn_count: sample.connections,
        recorded_at: seconds(sample.start),
    };
    post(Call::Metrics, "/agent/metrics", &body)
}

pub(super) fn incident(report: &Report, detail: Detail) -> Request {
    let listed = match detail {
        Detail::Full => usize::MAX,
        Detail::Brief => 0,
    };
    let flags = report.tcp_flag_breakdown;
    let body = Incident {
        attack_family: family(report.attack_family, &report.attack_subtype),
        severity: report.severity,
        // The contract requires 1 at least. An attack recognised by bits alone can have had no packet counted yet.
        peak_pps: report.peak_pps.max(1),
        peak_bps: report.peak_bps.max(1),
        protocol_breakdown: Protocols {
            tcp: bounded(report.protocol_breakdown.tcp),
            udp: bounded(report.protocol_breakdown.udp),
            icmp: bounded(report.protocol_breakdown.icmp),
        },
        // The six that the contract's examples show.
        tcp_flag_breakdown: [
            ("SYN", flags.syn),
            ("ACK", flags.ack),
            ("RST", flags.rst),
            ("FIN", flags.fin),
            ("PSH", flags.psh),
            ("URG", flags.urg),
        ]
        .into(),
        source_ip_count: report.source_ip_count,
        // Where no packet is certainly its own, it is no source to accuse.
        top_src_ips: report
            .top_src_ips
            .iter()
            .filter(|source| source.count > 0)
            .map(|source| Source {
                ip: &source.ip,
                count: source.count,
            })
            .take(listed)
            .collect(),
        top_dst_ports: report
            .top_dst_ports
            .iter()
            .filter(|port| port.count > 0)
            .map(|port| Port {
                port: port.port,
                count: port.count,
            })
            .take(listed)
            .collect(),
        // Required booleans: "not judged" can only be told as "not detected".
        spoofing_detected: report.spoofing_detected.unwrap_or(false),
        botnet_detected: report.botnet_detected.unwrap_or(false),
    };
    post(Call::Incident, "/agent/incident", &body)
}

/// Ten families into the contract's seven. TCP floods that are no SYN flood, fragments and other protocols have no value
/// of their own; the flag and protocol breakdowns carry the evidence.
fn family(family: Family, subtype: &str) -> &'static str {
    match family {
        Family::TcpFlood if matches!(subtype, "syn_ack_flood" | "connect_flood") => {
            Family::SynFlood.name()
        }
        Family::TcpFlood | Family::FragmentFlood | Family::ProtocolFlood => Family::Unknown.name(),
        Family::UdpFlood
        | Family::SynFlood
        | Family::HttpFlood
        | Family::IcmpFlood
        | Family::DnsFlood
        | Family::MultiVector
        | Family::Unknown => family.name(),
    }
}

/// A node to be made known.
#[derive(Serialize)]
struct Deploy<'a> {
    name: &'a str,
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a str>,
}

pub(super) fn deploy(node: &NewNode) -> Request {
    let body = Deploy {
        name: &node.name,
        ip: node.ip.to_string(),
        location: node.location.as_deref(),
        os: node.os.as_deref(),
        interface: node.interface.as_deref(),
    };
    post(Call::Deploy, "/deploy", &body)
}
