//! The resource contract: what the vendor's published agent speaks, for platforms that do not know the seed's paths.
//!
//! Rates are floats, an incident has a UUID of the platform's and three calls, metrics are aggregates without a time, and
//! severity is not sent: the platform derives it from `baseline_pps`. Parts of the contract that describe what this agent
//! does not have (mirror mode, hypervisor mode, flow collectors, access logs) are told as off or left out. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::wire::{Call, Detail, Pulse, Request, VERSION, bounded, float, micros, percent, post};
use crate::incident::{ForensicFacts, LengthBucket, Port, Report, Source};
use crate::ledger::{Outgoing, Sample, Step};

/// Seconds of traffic after which the contract calls a baseline ready, and from which on its quality is medium, and high.
const READY_SECONDS: u64 = 300;
const MEDIUM_SECONDS: u64 = 1_800;
const HIGH_SECONDS: u64 = 3_600;

/// Sources and ports listed at most, as documented.
const LISTED: usize = 20;

/// Points of a curve at most, as documented.
const CURVE_POINTS: usize = 2_000;

/// The contract's length buckets, by the longest length of ours that belongs there: it means packets, we count frames, so
/// a full Ethernet frame with its VLAN tag is a packet of 1,500 bytes.
const LENGTHS: [(u32, &str); 7] = [
    (64, "0-64"),
    (128, "65-128"),
    (256, "129-256"),
    (512, "257-512"),
    (1_024, "513-1024"),
    (1_518, "1025-1500"),
    (u32::MAX, "1500+"),
];

/// How this agent is doing.
#[derive(Serialize)]
struct Heartbeat<'a> {
    version: &'a str,
    baseline_ready: bool,
    baseline_quality: &'static str,
    baseline_warmup_active: bool,
    baseline_total_samples: u64,
    baseline_avg_pps: f64,
    baseline_p99_pps: f64,
    baseline_hourly_ready: bool,
    baseline_current_hour_p99: f64,
    circuit_breaker: &'static str,
    retry_queue_size: u64,
    gre_dedup_enabled: bool,
    hypervisor_mode: bool,
    pcap_active: bool,
    flow_active: bool,
    /// Left out while none is watched: an empty name is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    interface: &'a str,
    available_interfaces: Vec<Interface<'a>>,
    zero_traffic_warning: bool,
    src_ip_overflow: bool,
    src_ip_count: u64,
    pkt_samples_count: u64,
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    rx_bytes: u64,
    tx_bytes: u64,
    has_traffic: bool,
}

/// Some seconds of traffic as one.
#[derive(Serialize)]
struct Metrics {
    /// The highest second.
    pps: f64,
    /// The highest second, in bits.
    bps: f64,
    tcp_pct: f64,
    udp_pct: f64,
    icmp_pct: f64,
    conn_count: u32,
    /// 0 while there is none.
    threshold: f64,
    avg_pps: f64,
    /// Seconds.
    samples: u64,
}

/// An incident begins.
#[derive(Serialize)]
struct Open<'a> {
    peak_pps: f64,
    peak_bps: f64,
    started_at: String,
    attack_family: &'static str,
    attack_subtype: &'a str,
    /// The mean; 0 while nothing is known of it.
    baseline_pps: f64,
    /// 0: the contract has the duration of an incident that begins.
    duration: u64,
    gre_dedup_active: bool,
    top_src_ips: Vec<ListedSource<'a>>,
    top_dst_ports: Vec<ListedPort>,
    source_ip_count: u64,
}

/// An incident goes on.
#[derive(Serialize)]
struct Update<'a> {
    peak_pps: f64,
    peak_bps: f64,
    attack_family: &'static str,
    attack_subtype: &'a str,
    protocol_breakdown: Breakdown,
    source_ip_count: u64,
    total_packets: u64,
    top_src_ips: Vec<ListedSource<'a>>,
    top_dst_ports: Vec<ListedPort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spoofing_detected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    botnet_detected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragment_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragment_pct: Option<f64>,
}

/// An incident is over. `dns_query_stats` is left out: names asked for are not kept.
#[derive(Serialize)]
struct Resolve<'a> {
    duration_seconds: f64,
    confidence: u64,
    tcp_flag_breakdown: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    last: Update<'a>,
    #[serde(flatten)]
    forensics: Option<Forensics>,
}

/// What the packets of an incident were like.
#[derive(Serialize)]
struct Forensics {
    #[serde(skip_serializing_if = "Option::is_none")]
    src_ip_entropy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_pkt_length: Option<f64>,
    pkt_length_histogram: BTreeMap<&'static str, u64>,
    ttl_distribution: BTreeMap<String, u64>,
    velocity_curve: Vec<RateAt>,
}

#[derive(Serialize)]
struct RateAt {
    /// Seconds since the incident began.
    t: f64,
    pps: f64,
}

/// Percent of the packets.
#[derive(Serialize)]
struct Breakdown {
    tcp: f64,
    udp: f64,
    icmp: f64,
    other: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragments: Option<f64>,
}

#[derive(Serialize)]
struct ListedSource<'a> {
    ip: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct ListedPort {
    port: u16,
    count: u64,
}

/// What became of a command.
#[derive(Serialize)]
struct Ack<'a> {
    command_id: i64,
    status: &'static str,
    error: &'a str,
}

pub(super) fn heartbeat(pulse: &Pulse<'_>) -> Request {
    let vitals = pulse.vitals;
    let mut interfaces: Vec<&_> = vitals.interfaces.iter().collect();
    // Busiest first; of equals, by name.
    interfaces.sort_by(|a, b| {
        let bytes = |i: &super::InterfaceVitals| i.rx_bytes.saturating_add(i.tx_bytes);
        bytes(b).cmp(&bytes(a)).then_with(|| a.name.cmp(&b.name))
    });
    let watched: Vec<&str> = vitals
        .interfaces
        .iter()
        .filter(|interface| interface.watched)
        .map(|interface| interface.name.as_str())
        .collect();
    let body = Heartbeat {
        version: VERSION,
        baseline_ready: vitals.baseline_ready,
        baseline_quality: match vitals.baseline_seconds {
            0..READY_SECONDS => "learning",
            READY_SECONDS..MEDIUM_SECONDS => "low",
            MEDIUM_SECONDS..HIGH_SECONDS => "medium",
            HIGH_SECONDS.. => "high",
        },
        baseline_warmup_active: vitals.warming_up,
        baseline_total_samples: vitals.baseline_seconds,
        baseline_avg_pps: float(vitals.baseline_mean_pps),
        baseline_p99_pps: float(vitals.baseline_p99_pps),
        baseline_hourly_ready: vitals.baseline_hour_p99_pps.is_some(),
        baseline_current_hour_p99: float(vitals.baseline_hour_p99_pps.unwrap_or(0)),
        circuit_breaker: pulse.breaker,
        retry_queue_size: pulse.waiting,
        gre_dedup_enabled: false,
        hypervisor_mode: false,
        pcap_active: false,
        flow_active: false,
        interface: &watched.join(","),
        available_interfaces: interfaces
            .into_iter()
            .map(|interface| Interface {
                name: &interface.name,
                rx_bytes: interface.rx_bytes,
                tx_bytes: interface.tx_bytes,
                has_traffic: interface.rx_bytes > 0,
            })
            .collect(),
        // As documented: 300 seconds without a packet, and nothing learned before.
        zero_traffic_warning: vitals.silent_seconds >= READY_SECONDS && !vitals.baseline_ready,
        src_ip_overflow: vitals.source_overflow,
        src_ip_count: vitals.sources,
        // Lengths are counted in a histogram; no packet's is kept.
        pkt_samples_count: 0,
    };
    post(Call::Heartbeat, "/agent/heartbeat", &body)
}

/// Some seconds as one; `None` of no seconds.
pub(super) fn metrics(samples: &[Sample]) -> Option<Request> {
    let last = samples.iter().max_by_key(|sample| sample.start)?;
    let seconds: u64 = samples.iter().map(span).sum();
    let packets = samples.iter().fold(0_u64, |sum, s| {
        sum.saturating_add(s.pps.saturating_mul(span(s)))
    });
    let highest = |rate: fn(&Sample) -> u64| float(samples.iter().map(rate).max().unwrap_or(0));
    let body = Metrics {
        pps: highest(|sample| sample.pps_max),
        bps: highest(|sample| sample.bps_max),
        tcp_pct: percent(last.tcp_permille),
        udp_pct: percent(last.udp_permille),
        icmp_pct: percent(last.icmp_permille),
        conn_count: last.connections,
        threshold: float(last.threshold_pps.unwrap_or(0)),
        avg_pps: tenths(float(packets) / float(seconds)),
        samples: seconds,
    };
    Some(post(Call::Metrics, "/agent/metrics", &body))
}

fn span(sample: &Sample) -> u64 {
    u64::from(sample.span_seconds.max(1))
}

/// A step of an incident, or why it cannot be told.
pub(super) fn incident(outgoing: &Outgoing, detail: Detail) -> Result<Request, String> {
    let report = &outgoing.report;
    if outgoing.step == Step::Open {
        return Ok(post(
            Call::Incident,
            "/agent/incidents",
            &open(report, detail),
        ));
    }
    let name = outgoing.ids.uuid.clone();
    // A platform that answers with a number alone surely takes it back.
    let name = name.or_else(|| outgoing.ids.id.map(|id| id.to_string()));
    let Some(name) = name else {
        return Err(
            "the platform gave this incident no uuid when it was opened: it cannot be named"
                .to_owned(),
        );
    };
    let path = format!("/agent/incidents/{name}");
    Ok(match outgoing.step {
        Step::Open | Step::Update => post(Call::Incident, path, &update(report, detail)),
        Step::Resolve => post(
            Call::Incident,
            format!("{path}/resolve"),
            &resolve(report, detail),
        ),
    })
}

fn open(report: &Report, detail: Detail) -> Open<'_> {
    Open {
        peak_pps: float(report.peak_pps),
        peak_bps: float(report.peak_bps),
        started_at: micros(report.started_at),
        attack_family: report.attack_family.name(),
        attack_subtype: &report.attack_subtype,
        baseline_pps: float(report.baseline_pps.unwrap_or(0)),
        duration: 0,
        gre_dedup_active: false,
        top_src_ips: sources(&report.top_src_ips, detail),
        top_dst_ports: ports(&report.top_dst_ports, detail),
        source_ip_count: report.source_ip_count,
    }
}

fn update(report: &Report, detail: Detail) -> Update<'_> {
    let forensics = report.forensics.as_ref();
    Update {
        peak_pps: float(report.peak_pps),
        peak_bps: float(report.peak_bps),
        attack_family: report.attack_family.name(),
        attack_subtype: &report.attack_subtype,
        protocol_breakdown: breakdown(report),
        source_ip_count: report.source_ip_count,
        total_packets: report.packets,
        top_src_ips: sources(&report.top_src_ips, detail),
        top_dst_ports: ports(&report.top_dst_ports, detail),
        spoofing_detected: report.spoofing_detected,
        botnet_detected: report.botnet_detected,
        fragment_count: forensics.map(|facts| facts.fragment_count),
        fragment_pct: forensics.map(|facts| bounded(facts.fragment_pct)),
    }
}

fn resolve(report: &Report, detail: Detail) -> Resolve<'_> {
    let ended_at = report.ended_at.unwrap_or(report.opened_at);
    let flags = report.tcp_flag_breakdown;
    Resolve {
        duration_seconds: float(ended_at.millis_since(report.started_at)) / 1_000.0,
        confidence: report.confidence.min(100),
        tcp_flag_breakdown: [
            ("SYN", flags.syn),
            ("ACK", flags.ack),
            ("RST", flags.rst),
            ("FIN", flags.fin),
            ("PSH", flags.psh),
            ("URG", flags.urg),
        ]
        .into(),
        last: update(report, detail),
        forensics: report
            .forensics
            .as_ref()
            .filter(|_| detail == Detail::Full)
            .map(forensics),
    }
}

fn forensics(facts: &ForensicFacts) -> Forensics {
    let mut lengths: BTreeMap<&'static str, u64> = LENGTHS.map(|(_, name)| (name, 0)).into();
    for bucket in &facts.frame_lengths {
        let frames = lengths.entry(length(bucket)).or_default();
        *frames = frames.saturating_add(bucket.count);
    }
    Forensics {
        src_ip_entropy: facts.src_ip_entropy,
        avg_pkt_length: facts.avg_packet_bytes,
        pkt_length_histogram: lengths,
        ttl_distribution: facts
            .ttl_distribution
            .iter()
            .map(|ttl| (ttl.ttl.to_string(), ttl.count))
            .collect(),
        velocity_curve: facts
            .velocity_curve
            .iter()
            .take(CURVE_POINTS)
            .map(|point| RateAt {
                t: float(point.t_ms) / 1_000.0,
                pps: float(point.pps),
            })
            .collect(),
    }
}

/// The contract's name for the lengths of a bucket of ours.
fn length(bucket: &LengthBucket) -> &'static str {
    let fits = |(longest, _): &&(u32, &str)| bucket.up_to_bytes.is_some_and(|up| up <= *longest);
    LENGTHS.iter().find(fits).map_or("1500+", |(_, name)| name)
}

fn breakdown(report: &Report) -> Breakdown {
    let protocols = &report.protocol_breakdown;
    let forensics = report.forensics.as_ref();
    let (tcp, udp, icmp) = (
        bounded(protocols.tcp),
        bounded(protocols.udp),
        bounded(protocols.icmp),
    );
    Breakdown {
        tcp,
        udp,
        icmp,
        other: match forensics {
            Some(facts) => bounded(facts.other_pct),
            None => tenths(bounded(100.0 - tcp - udp - icmp)),
        },
        fragments: forensics.map(|facts| bounded(facts.fragment_pct)),
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn listed(detail: Detail) -> usize {
    match detail {
        Detail::Full => LISTED,
        Detail::Brief => 0,
    }
}

fn sources(all: &[Source], detail: Detail) -> Vec<ListedSource<'_>> {
    all.iter()
        .filter(|source| source.count > 0)
        .map(|source| ListedSource {
            ip: &source.ip,
            count: source.count,
        })
        .take(listed(detail))
        .collect()
}

fn ports(all: &[Port], detail: Detail) -> Vec<ListedPort> {
    all.iter()
        .filter(|port| port.count > 0)
        .map(|port| ListedPort {
            port: port.port,
            count: port.count,
        })
        .take(listed(detail))
        .collect()
}

/// A command was not executed.
pub(super) fn not_executed(id: i64, reason: &str) -> Request {
    let body = Ack {
        command_id: id,
        status: "failed",
        error: reason,
    };
    post(Call::Ack, "/agent/commands/ack", &body)
}
