//! What a body of each endpoint must hold: the contracts' field tables as data.
//!
//! The seed contract's required fields are those of its API description; the resource contract's are those that every
//! version of the published agent sends.

/// The fields of an object.
pub(super) type Shape = &'static [Field];

/// One field of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) needed: bool,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    /// A string of at least one and at most so many characters.
    Text(usize),
    OneOf(&'static [&'static str]),
    Address,
    /// RFC 3339 that ends in `Z`.
    Utc,
    /// RFC 3339 with any offset.
    Time,
    /// A whole number from so many on.
    Whole(u64),
    Port,
    /// A number of 0 or more.
    Number,
    /// A number from 0 to 100.
    Percent,
    Object(Shape),
    /// An object of percentages that are parts of one whole.
    Shares(Shape),
    /// Whole numbers of 0 or more by name.
    Counts,
    /// The same by country code.
    Countries,
    Texts,
    /// Objects, at most so many.
    List(Shape, usize),
    /// Pairs of a name and a count.
    Pairs,
    OrNull(&'static Kind),
    /// What a list must be, or what anything else must be.
    ListOr(&'static Kind, &'static Kind),
}

const fn need(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        needed: true,
    }
}

const fn may(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        needed: false,
    }
}

/// Longest text that is no name of a node: far more than any version, system or label.
const TEXT: Kind = Kind::Text(1_000);
const COUNT: Kind = Kind::Whole(0);

/// The seed contract's families.
const SEED_FAMILIES: Kind = Kind::OneOf(&[
    "udp_flood",
    "syn_flood",
    "http_flood",
    "icmp_flood",
    "dns_flood",
    "multi_vector",
    "unknown",
]);

/// The resource contract's families.
const FAMILIES: Kind = Kind::OneOf(&[
    "udp_flood",
    "syn_flood",
    "tcp_flood",
    "dns_flood",
    "icmp_flood",
    "multi_vector",
    "protocol_flood",
    "fragment_flood",
    "http_flood",
    "unknown",
]);

const SEVERITIES: Kind = Kind::OneOf(&["low", "medium", "high", "critical"]);

/// Both contracts show so many sources and ports.
const TOP: usize = 20;
const SOURCES: Kind = Kind::List(
    &[need("ip", Kind::Address), need("count", Kind::Whole(1))],
    TOP,
);
const PORTS: Kind = Kind::List(
    &[need("port", Kind::Port), need("count", Kind::Whole(1))],
    TOP,
);
/// In an HTTP flood the resource contract counts paths instead.
const PORTS_OR_PATHS: Kind = Kind::ListOr(&PORTS, &Kind::Counts);

const PROTOCOLS: Kind = Kind::Shares(&[
    need("tcp", Kind::Percent),
    need("udp", Kind::Percent),
    need("icmp", Kind::Percent),
]);
const PROTOCOLS_AND_OTHERS: Kind = Kind::Shares(&[
    need("tcp", Kind::Percent),
    need("udp", Kind::Percent),
    need("icmp", Kind::Percent),
    may("other", Kind::Percent),
]);

/// `POST /api/deploy`. The name's length is from the vendor's page about nodes.
pub(super) const DEPLOY: Shape = &[
    need("name", Kind::Text(100)),
    need("ip", Kind::Address),
    may("location", TEXT),
    may("os", TEXT),
    may("interface", TEXT),
];

/// `POST /agent/heartbeat`, seed contract.
pub(super) const SEED_HEARTBEAT: Shape = &[
    need("agent_version", TEXT),
    need("uptime", COUNT),
    need("os", TEXT),
];

/// `POST /agent/metrics`, seed contract.
pub(super) const SEED_METRICS: Shape = &[
    need("pps", COUNT),
    need("bps", COUNT),
    need("tcp_pct", Kind::Percent),
    need("udp_pct", Kind::Percent),
    need("icmp_pct", Kind::Percent),
    need("conn_count", COUNT),
    need("recorded_at", Kind::Utc),
];

/// `POST /agent/incident`.
pub(super) const SEED_INCIDENT: Shape = &[
    need("attack_family", SEED_FAMILIES),
    need("severity", SEVERITIES),
    need("peak_pps", Kind::Whole(1)),
    need("peak_bps", Kind::Whole(1)),
    need("protocol_breakdown", PROTOCOLS),
    need("tcp_flag_breakdown", Kind::Counts),
    may("geo_breakdown", Kind::Countries),
    need("source_ip_count", COUNT),
    need("top_src_ips", SOURCES),
    need("top_dst_ports", PORTS),
    may("ioc_matches", Kind::Texts),
    need("spoofing_detected", Kind::Bool),
    need("botnet_detected", Kind::Bool),
];

/// `POST /agent/heartbeat`, resource contract.
pub(super) const HEARTBEAT: Shape = &[
    need("version", TEXT),
    need("baseline_ready", Kind::Bool),
    may(
        "baseline_quality",
        Kind::OneOf(&["learning", "low", "medium", "high"]),
    ),
    may("baseline_warmup_active", Kind::Bool),
    need("baseline_total_samples", COUNT),
    need("baseline_avg_pps", Kind::Number),
    need("baseline_p99_pps", Kind::Number),
    may("baseline_hourly_ready", Kind::Bool),
    may("baseline_current_hour_p99", Kind::Number),
    may(
        "circuit_breaker",
        Kind::OneOf(&["closed", "open", "half-open"]),
    ),
    may("retry_queue_size", COUNT),
    may("gre_dedup_enabled", Kind::Bool),
    may("hypervisor_mode", Kind::Bool),
    may("pcap_active", Kind::Bool),
    may("flow_active", Kind::Bool),
    may("interface", TEXT),
    may(
        "available_interfaces",
        Kind::List(
            &[
                need("name", TEXT),
                need("rx_bytes", COUNT),
                need("tx_bytes", COUNT),
                need("has_traffic", Kind::Bool),
            ],
            // Far more than a host has.
            10_000,
        ),
    ),
    may("zero_traffic_warning", Kind::Bool),
    may("src_ip_overflow", Kind::Bool),
    may("src_ip_count", COUNT),
    may("pkt_samples_count", COUNT),
];

/// `POST /agent/metrics`, resource contract.
pub(super) const METRICS: Shape = &[
    need("pps", Kind::Number),
    need("bps", Kind::Number),
    need("tcp_pct", Kind::Percent),
    need("udp_pct", Kind::Percent),
    need("icmp_pct", Kind::Percent),
    need("conn_count", COUNT),
    may("threshold", Kind::OrNull(&Kind::Number)),
    need("avg_pps", Kind::Number),
    need("samples", Kind::Whole(1)),
];

/// `POST /agent/incidents`.
pub(super) const OPEN: Shape = &[
    need("peak_pps", Kind::Number),
    need("peak_bps", Kind::Number),
    need("started_at", Kind::Time),
    need("attack_family", FAMILIES),
    need("attack_subtype", Kind::OrNull(&TEXT)),
    may("attack_tool", TEXT),
    need("baseline_pps", Kind::Number),
    need("duration", COUNT),
    need("gre_dedup_active", Kind::Bool),
    need("top_src_ips", SOURCES),
    need("top_dst_ports", PORTS_OR_PATHS),
    need("source_ip_count", COUNT),
    may("protocol_breakdown", PROTOCOLS_AND_OTHERS),
    may("total_packets", COUNT),
    may("ioc_hits", Kind::Texts),
    may("spoofing_detected", Kind::Bool),
    may("botnet_detected", Kind::Bool),
];

/// `POST /agent/incidents/{uuid}`.
pub(super) const UPDATE: Shape = &[
    need("peak_pps", Kind::Number),
    need("peak_bps", Kind::Number),
    need("attack_family", FAMILIES),
    need("attack_subtype", Kind::OrNull(&TEXT)),
    may("attack_tool", TEXT),
    need("protocol_breakdown", PROTOCOLS_AND_OTHERS),
    need("source_ip_count", COUNT),
    need("total_packets", COUNT),
    need("top_src_ips", SOURCES),
    need("top_dst_ports", PORTS_OR_PATHS),
    may("tcp_flag_breakdown", Kind::Counts),
    may("ioc_hits", Kind::Texts),
    may("spoofing_detected", Kind::Bool),
    may("botnet_detected", Kind::Bool),
    may("fragment_count", COUNT),
    may("fragment_pct", Kind::Percent),
];

/// `POST /agent/incidents/{uuid}/resolve`.
pub(super) const RESOLVE: Shape = &[
    need("duration_seconds", Kind::Number),
    need("peak_pps", Kind::Number),
    need("peak_bps", Kind::Number),
    need("attack_family", FAMILIES),
    need("attack_subtype", Kind::OrNull(&TEXT)),
    may("attack_tool", TEXT),
    may("severity", SEVERITIES),
    need("confidence", Kind::Percent),
    need("protocol_breakdown", PROTOCOLS_AND_OTHERS),
    need("tcp_flag_breakdown", Kind::Counts),
    may("dns_query_stats", Kind::OrNull(&Kind::Object(DNS_QUERIES))),
    need("pkt_length_histogram", Kind::Counts),
    need("ttl_distribution", Kind::Counts),
    need(
        "velocity_curve",
        // The contract's own bound.
        Kind::List(&[need("t", Kind::Number), need("pps", Kind::Number)], 2_000),
    ),
    // Nobody can say it of sources that were estimated.
    may("src_ip_entropy", Kind::Number),
    need("avg_pkt_length", Kind::Number),
    need("total_packets", COUNT),
    need("source_ip_count", COUNT),
    need("top_src_ips", SOURCES),
    need("top_dst_ports", PORTS_OR_PATHS),
    may("ioc_hits", Kind::Texts),
    may("spoofing_detected", Kind::Bool),
    may("botnet_detected", Kind::Bool),
    may("fragment_count", COUNT),
    may("fragment_pct", Kind::Percent),
];

const DNS_QUERIES: Shape = &[
    need("total", COUNT),
    need("unique", COUNT),
    need("top", Kind::Pairs),
];

/// `POST /agent/commands/ack`.
pub(super) const ACK: Shape = &[
    need("command_id", COUNT),
    need("status", Kind::OneOf(&["applied", "failed"])),
    need("error", Kind::OrNull(&TEXT)),
];
