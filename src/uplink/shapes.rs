//! For tests: what goes out has the shape that the contracts describe.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::server::{report, sample};
use super::wire::{self, Call, Detail, Pulse, Request, Spoken};
use super::{InterfaceVitals, NewNode, PlatformValues, Vitals, platform, seed};
use crate::clock::Timestamp;
use crate::detect::Family;
use crate::incident::{ForensicFacts, LengthBucket, RatePoint, Report, TtlCount};
use crate::ledger::{Ledger, Outgoing, PlatformIds, Settings, Settled, Step};

/// Maps whose keys are names of things; of them only the values' type is compared.
const MAPS: [&str; 3] = [
    "tcp_flag_breakdown",
    "ttl_distribution",
    "pkt_length_histogram",
];

/// Each path in a value with its JSON type; of a list, those of its entries.
fn shape(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    let name = path.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let key = if MAPS.contains(&name) { "*" } else { key };
                shape(member, &format!("{path}.{key}"), into);
            }
        }
        Value::Array(entries) => {
            into.insert(format!("{path}: list"));
            for entry in entries {
                shape(entry, &format!("{path}[]"), into);
            }
        }
        Value::Number(number) if number.is_f64() => {
            into.insert(format!("{path}: float"));
        }
        Value::Number(_) => {
            into.insert(format!("{path}: integer"));
        }
        Value::String(_) => {
            into.insert(format!("{path}: text"));
        }
        Value::Bool(_) => {
            into.insert(format!("{path}: bool"));
        }
        Value::Null => {
            into.insert(format!("{path}: null"));
        }
    }
}

fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    shape(value, "", &mut found);
    found
}

fn body(request: &Request) -> Value {
    let body = request.body.as_ref().expect("it has a body");
    serde_json::from_slice(body).expect("it is JSON")
}

/// A report with everything judged and everything known.
fn judged() -> Report {
    let bucket = |up_to_bytes, count| LengthBucket { up_to_bytes, count };
    Report {
        spoofing_detected: Some(false),
        forensics: Some(ForensicFacts {
            other_pct: 0.1,
            avg_packet_bytes: Some(468.0),
            fragment_count: 7,
            fragment_pct: 0.2,
            frame_lengths: vec![
                bucket(Some(64), 1),
                bucket(Some(100), 2),
                bucket(Some(128), 3),
                bucket(Some(1_280), 4),
                bucket(Some(1_518), 5),
                bucket(Some(9_018), 6),
                bucket(None, 7),
            ],
            ttl_distribution: vec![TtlCount { ttl: 54, count: 9 }],
            velocity_curve: vec![
                RatePoint { t_ms: 0, pps: 5 },
                RatePoint {
                    t_ms: 1_950,
                    pps: 61_200,
                },
            ],
            velocity_step_seconds: 1,
            src_ip_entropy: Some(6.91),
            ..ForensicFacts::default()
        }),
        ..report("a")
    }
}

/// A step as the ledger hands it out after the incident was opened and named.
fn step(step: Step, named: PlatformIds) -> Outgoing {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ledger, _) = Ledger::open(Settings::default()).unwrap();
        ledger.event(Step::Open, judged());
        if step != Step::Open {
            let open = ledger.outgoing().await.remove(0);
            ledger.settle(open.ticket, Settled::Delivered(named)).await;
            ledger.event(step, judged());
        }
        ledger.outgoing().await.remove(0)
    })
}

fn named() -> PlatformIds {
    PlatformIds {
        id: Some(5),
        uuid: Some("7b1f-b2".to_owned()),
    }
}

fn vitals() -> Vitals {
    Vitals {
        uptime_seconds: 5_430,
        interfaces: vec![
            InterfaceVitals {
                name: "ens19".to_owned(),
                ..InterfaceVitals::default()
            },
            InterfaceVitals {
                name: "ens18".to_owned(),
                rx_bytes: 900,
                tx_bytes: 400,
                watched: true,
            },
        ],
        baseline_ready: true,
        baseline_seconds: 2_950,
        baseline_mean_pps: 2_710,
        baseline_p99_pps: 9_050,
        baseline_hour_p99_pps: Some(8_800),
        ..Vitals::default()
    }
}

fn heartbeat(spoken: Spoken, vitals: &Vitals) -> Request {
    spoken.heartbeat(&Pulse {
        os: "Debian 12",
        vitals,
        waiting: 3,
        breaker: "closed",
    })
}

fn new_node() -> NewNode {
    NewNode {
        name: "edge-7".to_owned(),
        ip: "192.0.2.17".parse().unwrap(),
        location: Some("tor-1".to_owned()),
        os: Some("Debian 12".to_owned()),
        interface: Some("ens18".to_owned()),
    }
}

#[test]
fn seed_requests_say_what_the_contract_documents_and_nothing_else() {
    let beat = heartbeat(Spoken::Seed, &vitals());
    assert_eq!(beat.path, "/agent/heartbeat");
    assert_eq!(
        body(&beat),
        json!({"agent_version": env!("CARGO_PKG_VERSION"), "uptime": 5_430, "os": "Debian 12"})
    );
    let second = wire::metrics(&sample(Timestamp::from_seconds(1_773_567_858)));
    assert_eq!(second.path, "/agent/metrics");
    assert_eq!(
        body(&second),
        json!({
            "pps": 8_100, "bps": 61_000_000, "tcp_pct": 71.4, "udp_pct": 27.9, "icmp_pct": 0.7,
            "conn_count": 412, "recorded_at": "2026-03-15T09:44:18Z",
        })
    );
    let config = wire::config();
    assert_eq!((config.path.as_str(), config.body), ("/agent/config", None));
    let told = Spoken::Seed
        .incident(&step(Step::Open, named()), Detail::Full)
        .unwrap();
    assert_eq!(
        (told.call, told.path.as_str()),
        (Call::Incident, "/agent/incident")
    );
    assert_eq!(
        body(&told),
        json!({
            "attack_family": "udp_flood", "severity": "high", "peak_pps": 61_200,
            "peak_bps": 230_000_000,
            "protocol_breakdown": {"tcp": 1.1, "udp": 98.7, "icmp": 0.1},
            "tcp_flag_breakdown": {"SYN": 3, "ACK": 600, "RST": 0, "FIN": 0, "PSH": 0, "URG": 0},
            "source_ip_count": 212,
            "top_src_ips": [{"ip": "192.0.2.9", "count": 300}],
            "top_dst_ports": [{"port": 40_112, "count": 60_000}],
            "spoofing_detected": false, "botnet_detected": true,
        })
    );
    assert_eq!(
        body(&seed::deploy(&new_node())),
        json!({
            "name": "edge-7", "ip": "192.0.2.17", "location": "tor-1", "os": "Debian 12",
            "interface": "ens18",
        })
    );
}

#[test]
fn what_the_seed_contract_requires_is_there_whatever_was_measured() {
    let empty = Report {
        peak_pps: 0,
        peak_bps: 0,
        spoofing_detected: None,
        botnet_detected: None,
        top_src_ips: Vec::new(),
        top_dst_ports: Vec::new(),
        protocol_breakdown: crate::incident::Protocols {
            tcp: 100.000_1,
            udp: f64::NAN,
            icmp: -0.1,
        },
        ..report("a")
    };
    let told = body(&seed::incident(&empty, Detail::Full));
    assert_eq!(
        (&told["peak_pps"], &told["peak_bps"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        told["protocol_breakdown"],
        json!({"tcp": 100.0, "udp": 0.0, "icmp": 0.0})
    );
    assert_eq!(told["spoofing_detected"], json!(false));
    assert_eq!(told["botnet_detected"], json!(false));
    assert_eq!(told["top_src_ips"], json!([]));
}

#[test]
fn ten_families_become_the_seeds_seven() {
    for (family, subtype, told) in [
        (Family::UdpFlood, "ntp_amplification", "udp_flood"),
        (Family::DnsFlood, "dns_query_flood", "dns_flood"),
        (Family::SynFlood, "syn_flood", "syn_flood"),
        (Family::TcpFlood, "syn_ack_flood", "syn_flood"),
        (Family::TcpFlood, "connect_flood", "syn_flood"),
        (Family::TcpFlood, "ack_flood", "unknown"),
        (Family::IcmpFlood, "ping_flood", "icmp_flood"),
        (Family::HttpFlood, "slow_http", "http_flood"),
        (Family::FragmentFlood, "ip_fragment_flood", "unknown"),
        (Family::ProtocolFlood, "gre_flood", "unknown"),
        (Family::MultiVector, "syn_flood+volumetric", "multi_vector"),
        (Family::Unknown, "unclassified", "unknown"),
    ] {
        let report = Report {
            attack_family: family,
            attack_subtype: subtype.to_owned(),
            ..report("a")
        };
        let body = body(&seed::incident(&report, Detail::Full));
        assert_eq!(body["attack_family"], told, "{subtype}");
    }
}

#[test]
fn resource_requests_have_the_published_agents_paths_and_floats() {
    let tell = |kind| {
        Spoken::Resource
            .incident(&step(kind, named()), Detail::Full)
            .unwrap()
    };
    let open = tell(Step::Open);
    assert_eq!(open.path, "/agent/incidents");
    let open = body(&open);
    assert_eq!(open["started_at"], "2026-03-15T09:44:18.050000+00:00");
    assert_eq!(open["peak_pps"], json!(61_200.0));
    assert_eq!(open["baseline_pps"], json!(2_700.0));
    assert_eq!(open.get("severity"), None);
    assert_eq!(tell(Step::Update).path, "/agent/incidents/7b1f-b2");
    let resolve = tell(Step::Resolve);
    assert_eq!(resolve.path, "/agent/incidents/7b1f-b2/resolve");
    let resolve = body(&resolve);
    assert_eq!(resolve["duration_seconds"], json!(42.1));
    assert_eq!(resolve["confidence"], json!(91));
    assert_eq!(
        resolve["protocol_breakdown"],
        json!({"tcp": 1.1, "udp": 98.7, "icmp": 0.1, "other": 0.1, "fragments": 0.2})
    );
    assert_eq!(
        resolve["pkt_length_histogram"],
        json!({
            "0-64": 1, "65-128": 5, "129-256": 0, "257-512": 0, "513-1024": 0, "1025-1500": 9,
            "1500+": 13,
        })
    );
    assert_eq!(resolve["ttl_distribution"], json!({"54": 9}));
    assert_eq!(
        resolve["velocity_curve"],
        json!([{"t": 0.0, "pps": 5.0}, {"t": 1.95, "pps": 61_200.0}])
    );
    assert_eq!(
        (&resolve["fragment_count"], &resolve["src_ip_entropy"]),
        (&json!(7), &json!(6.91))
    );
    let ack = wire::not_executed(7, "not executed");
    assert_eq!(ack.path, "/agent/commands/ack");
    assert_eq!(
        body(&ack),
        json!({"command_id": 7, "status": "failed", "error": "not executed"})
    );
}

#[test]
fn a_number_names_an_incident_where_there_is_no_uuid_and_without_either_it_cannot_be_named() {
    let by_number = step(
        Step::Update,
        PlatformIds {
            id: Some(5),
            uuid: None,
        },
    );
    let request = Spoken::Resource.incident(&by_number, Detail::Full).unwrap();
    assert_eq!(request.path, "/agent/incidents/5");
    let unnamed = step(Step::Update, PlatformIds::default());
    assert!(Spoken::Resource.incident(&unnamed, Detail::Full).is_err());
}

#[test]
fn an_aggregate_has_the_highest_second_and_the_mean_of_all() {
    let at = |second: u64| {
        let start = Timestamp::from_seconds(1_773_567_850 + second);
        let mut sample = sample(start);
        sample.pps = 100 + second;
        sample.pps_max = sample.pps;
        sample.bps_max = 1_000 - second;
        sample.connections = u32::try_from(second).unwrap();
        sample
    };
    // In any order.
    let samples = [at(3), at(1), at(5), at(2), at(4)];
    let told = body(&wire::aggregate(&samples).unwrap());
    assert_eq!(
        told,
        json!({
            "pps": 105.0, "bps": 999.0, "tcp_pct": 71.4, "udp_pct": 27.9, "icmp_pct": 0.7,
            "conn_count": 5, "threshold": 36_000.0, "avg_pps": 103.0, "samples": 5,
        })
    );
    assert_eq!(wire::aggregate(&[]), None);
}

#[test]
fn a_heartbeat_in_the_resource_contract_tells_how_the_agent_is() {
    let told = body(&heartbeat(Spoken::Resource, &vitals()));
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["baseline_quality"], "medium");
    assert_eq!(told["interface"], "ens18");
    assert_eq!(told["available_interfaces"][0]["name"], "ens18");
    assert_eq!(told["available_interfaces"][1]["has_traffic"], false);
    assert_eq!(told["retry_queue_size"], 3);
    let silent = Vitals {
        silent_seconds: 300,
        ..Vitals::default()
    };
    let told = body(&heartbeat(Spoken::Resource, &silent));
    assert_eq!(told["zero_traffic_warning"], true);
    assert_eq!(told.get("interface"), None, "none is watched");
    assert_eq!(told["baseline_quality"], "learning");
    assert_eq!(told["baseline_hourly_ready"], false);
}

#[test]
fn in_brief_the_lists_are_left_out() {
    for spoken in [Spoken::Seed, Spoken::Resource] {
        for kind in [Step::Open, Step::Update, Step::Resolve] {
            let told = body(
                &spoken
                    .incident(&step(kind, named()), Detail::Brief)
                    .unwrap(),
            );
            assert_eq!(told["top_src_ips"], json!([]));
            assert_eq!(told["top_dst_ports"], json!([]));
            assert_eq!(told["source_ip_count"], json!(212));
        }
    }
}

/// Where the contract's examples are, when they are; says so when they are not. Who names a place must have them there.
fn fixtures() -> Option<PathBuf> {
    let named = std::env::var_os("FTAGENT_SHARED").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = |shared: &PathBuf| shared.join("contract/fixtures");
    let found = match named {
        Some(shared) => Some(folder(&shared)),
        None => Some(folder(&beside)).filter(|folder| folder.is_dir()),
    };
    if found.is_none() {
        // Not println!, which is shown for tests that fail only.
        let line = "skipped: neither FTAGENT_SHARED nor ../shared has the contract's examples\n";
        let _ = io::stdout().write_all(line.as_bytes());
    }
    found
}

#[test]
fn what_goes_out_has_the_shape_of_the_contracts_examples() {
    let Some(folder) = fixtures() else {
        return;
    };
    let seed = |kind| {
        Spoken::Seed
            .incident(&step(kind, named()), Detail::Full)
            .unwrap()
    };
    let resource = |kind| {
        Spoken::Resource
            .incident(&step(kind, named()), Detail::Full)
            .unwrap()
    };
    // What is told only once something looks for it, and what describes what this agent has not.
    const LATER: [&str; 5] = [
        ".ioc_matches",
        ".geo_breakdown",
        ".ioc_hits",
        ".attack_tool",
        ".dns_query_stats",
    ];
    for (file, request) in [
        ("seed-heartbeat", heartbeat(Spoken::Seed, &vitals())),
        ("seed-metrics", wire::metrics(&sample(Timestamp::default()))),
        ("seed-incident-open", seed(Step::Open)),
        ("seed-incident-update", seed(Step::Update)),
        ("seed-incident-http", seed(Step::Update)),
        ("seed-incident-ntp", seed(Step::Resolve)),
        ("seed-deploy", seed::deploy(&new_node())),
        ("resource-heartbeat", heartbeat(Spoken::Resource, &vitals())),
        (
            "resource-metrics",
            wire::aggregate(&[sample(Timestamp::default())]).unwrap(),
        ),
        ("resource-incident-open", resource(Step::Open)),
        ("resource-incident-update", resource(Step::Update)),
        ("resource-incident-resolve", resource(Step::Resolve)),
        (
            "resource-commands-ack-failed",
            wire::not_executed(602, "no"),
        ),
    ] {
        let path = folder.join(format!("{file}.request.json"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let example: Value = serde_json::from_str(&text).unwrap();
        let mut expected = shape_of(&example);
        expected.retain(|path| !LATER.iter().any(|later| path.starts_with(later)));
        // A curve may begin at a whole second, a subtype may be unknown.
        expected.remove(".velocity_curve[].t: integer");
        expected.remove(".attack_subtype: null");
        let mut found = shape_of(&body(&request));
        found.remove(".attack_subtype: text");
        expected.remove(".attack_subtype: text");
        // Items of the update may say more about each source.
        expected.retain(|path| {
            !path.starts_with(".top_src_ips[].")
                || path.contains("].ip:")
                || path.contains("].count:")
        });
        assert_eq!(found, expected, "{file}");
    }
}

#[test]
fn the_contracts_examples_of_answers_are_read() {
    let Some(folder) = fixtures() else {
        return;
    };
    let read = |file: &str| {
        let path = folder.join(format!("{file}.response.json"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let answer = |file: &str| platform::read(&read(file)).unwrap();
    let values = |file: &str| PlatformValues::default().updated(&answer(file));

    let (seed, notices) = values("seed-config");
    assert_eq!(
        (seed.node_id, seed.pps_threshold),
        (Some(311), Some(36_000))
    );
    assert_eq!((seed.mean_pps, seed.p99_pps), (Some(2_710), Some(9_050)));
    assert_eq!((seed.patterns.len(), seed.commands.len()), (3, 1));
    assert_eq!(notices, [""; 0]);
    let (empty, notices) = values("seed-config-empty");
    assert_eq!((empty.pps_threshold, empty.mean_pps), (None, None));
    assert_eq!(notices, [""; 0]);
    let (minimal, _) = values("resource-config-minimal");
    assert_eq!(minimal.pps_threshold, Some(36_000));
    let (full, notices) = values("resource-config-full");
    assert_eq!((full.patterns.len(), full.commands.len()), (1, 2));
    assert_eq!(notices, [""; 0]);
    let (odd, _) = values("resource-config-odd");
    assert_eq!((odd.pps_threshold, odd.commands.len()), (Some(25_000), 1));
    assert!(values("resource-config-suspended").0.suspended);

    let uuid = Some("7b1f0c44-0000-4000-8000-0000000000b2".to_owned());
    for (file, id) in [
        ("seed-incident", Some(4_711)),
        ("seed-incident-alt", Some(4_711)),
        ("resource-incident-open", None),
        ("resource-incident-open-plain", None),
    ] {
        let expected = PlatformIds {
            id,
            uuid: uuid.clone(),
        };
        assert_eq!(platform::ids(&answer(file)), expected, "{file}");
    }
    assert_eq!(
        platform::commands(&answer("resource-incident-open")).len(),
        1
    );
    for (file, said) in [
        ("seed-error-400", "Node name is required"),
        ("seed-error-401-agent", "Invalid or missing API key"),
        ("seed-error-402", "Payment failed"),
        ("seed-error-409", "Duplicate name"),
        ("seed-error-500", "Unexpected error"),
    ] {
        assert_eq!(platform::complaint(&read(file)).as_deref(), Some(said));
    }
}
