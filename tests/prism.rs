//! Everything that the agent sends in an attack's life is what the contract describes, by a judge that nobody here
//! wrote: Prism, a validating proxy that reads the contract's OpenAPI document, in front of the platform to try things
//! with. It refuses what the document does not allow, in requests and in answers.
//!
//! Skipped with a line that says why where the document or the proxy is not at hand (`scripts/setup.sh test` installs
//! the proxy).

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking, and one that is skipped says so"
)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use common::judge::Judge;
use common::manifest::{Listed, recorded};
use common::process::{Lines, finish};
use ftagent::agent::{ReplaySettings, replay};
use ftagent::capture::replay::CaptureReader;
use ftagent::classify::{self, Vantage};
use ftagent::count;
use ftagent::demo::platform::{Call, Endpoint, NodeConfig, Platform, Received, Serves, Settings};
use ftagent::detect::limits::{SetBy, SetLimit};
use ftagent::detect::permille;
use ftagent::engine::{self, Engine};
use ftagent::incident::{Event, Report};
use ftagent::ledger::{self, Ledger, Sample, Step};
use ftagent::uplink::{
    self, ApiBase, ApiKey, Budgets, Cadence, Contract, NewNode, Rate, Uplink, Vitals,
};
use serde_json::json;

/// Longer than everything here takes to be told.
const TELLING: Duration = Duration::from_secs(120);

/// What was found in a recorded capture: what is told about it.
struct Story {
    steps: Vec<(Step, Report)>,
    seconds: Vec<Sample>,
}

impl Story {
    /// Replays a capture with a limit that its attack crosses.
    fn of(capture: &Listed) -> Self {
        let host = capture.host.as_deref().expect("our captures name a host");
        let host: std::net::IpAddr = host.parse().unwrap();
        let settings = ReplaySettings {
            classify: classify::Settings {
                vantage: Vantage::Hosts(vec![host.into()]),
                tunnel_peers: Vec::new(),
            },
            count: count::Settings::default(),
            warmup_seconds: 0,
        };
        let mut rules = engine::Settings::default();
        rules.detect.limits.set_pps = Some(SetLimit {
            value: capture.crossed_limit_pps(),
            by: SetBy::Local,
        });
        let mut story = Self {
            steps: Vec::new(),
            seconds: Vec::new(),
        };
        let mut source = CaptureReader::open(&capture.path).unwrap();
        let (_, ended) = replay(
            &mut source,
            &settings,
            &mut Engine::new(rules, None),
            &mut |outcome| {
                for event in &outcome.events {
                    let step = match event {
                        Event::Opened(_) => Step::Open,
                        Event::Updated(..) => Step::Update,
                        Event::Resolved(_) => Step::Resolve,
                    };
                    story.steps.push((step, Report::of(event.incident())));
                }
                let second = outcome.second.map(|second| {
                    let all = second.inbound.wire().packets;
                    let part = |protocol| {
                        let packets = second.inbound.protocols.of(protocol);
                        u32::try_from(permille(packets, all)).unwrap()
                    };
                    Sample {
                        start: second.start,
                        span_seconds: 1,
                        pps: second.pps,
                        pps_max: second.pps,
                        bps: second.bps,
                        bps_max: second.bps,
                        tcp_permille: part(6),
                        udp_permille: part(17),
                        icmp_permille: part(1),
                        connections: 7,
                        threshold_pps: Some(capture.crossed_limit_pps()),
                    }
                });
                story.seconds.extend(second);
            },
        );
        ended.unwrap();
        story
    }
}

/// An uplink to `base` in a hurry, as the agent has it.
fn uplink(base: &str, ledger: &Ledger) -> (Uplink, tokio::sync::watch::Sender<Vitals>) {
    let node = Settings::default();
    let key = ApiKey::new(&node.key).unwrap();
    let plenty = Rate {
        per_minute: 60_000,
        burst: 100,
    };
    let settings = uplink::Settings {
        contract: Contract::Seed,
        os: "Debian 12".to_owned(),
        cadence: Cadence {
            heartbeat: Duration::from_millis(500),
            config: Duration::from_millis(500),
            ..Cadence::default()
        },
        budgets: Budgets {
            heartbeat: plenty,
            config: plenty,
            metrics: plenty,
            backlog: plenty,
            incident: plenty,
            ack: plenty,
        },
        ..uplink::Settings::new(base, key, node.node_uuid)
    };
    let (tell, vitals) = tokio::sync::watch::channel(Vitals {
        uptime_seconds: 5_430,
        ..Vitals::default()
    });
    let (uplink, _) = Uplink::start(settings, ledger.clone(), vitals).unwrap();
    (uplink, tell)
}

/// How often the proxy was asked for this.
fn asked(log: &Lines, method: &str, path: &str) -> usize {
    let asked = format!("{method} {path} ");
    let is_it = |line: &&str| line.contains("Request received") && line.contains(&asked);
    log.text().lines().filter(is_it).count()
}

fn told(records: &[Received], endpoint: Endpoint) -> usize {
    records
        .iter()
        .filter(|received| received.endpoint == endpoint)
        .count()
}

fn platform() -> Platform {
    let settings = Settings {
        serves: Serves::Seed,
        config: NodeConfig {
            mean_pps: 2_710,
            p99_pps: 9_050,
            ..NodeConfig::threshold(50_000)
        },
        ..Settings::default()
    };
    Platform::start(settings).unwrap()
}

#[test]
fn whatever_attack_it_is_each_request_is_what_the_contract_describes() {
    let platform = platform();
    let Some(judge) = Judge::before(&platform) else {
        return;
    };
    let stories: Vec<Story> = recorded()
        .iter()
        .filter(|capture| capture.is_attack())
        .map(Story::of)
        .collect();
    assert!(stories.len() >= 20, "only {} attacks", stories.len());
    let (ledger, _) = Ledger::open(ledger::Settings::default()).unwrap();
    let (uplink, _vitals) = uplink(&judge.base, &ledger);
    let mut begun = BTreeSet::new();
    let mut steps = 0;
    for story in &stories {
        let [(Step::Open, _), .., (Step::Resolve, last)] = story.steps.as_slice() else {
            panic!("opened and resolved: {:?}", story.steps);
        };
        for (step, report) in &story.steps {
            ledger.event(*step, report.clone());
        }
        for sample in &story.seconds {
            // One capture may begin in the second in which the one before ended.
            if begun.insert(sample.start) {
                ledger.second(*sample);
            }
        }
        steps += story.steps.len();
        let seconds = begun.len();
        // One after the other: the contract knows one incident at a time.
        let is_told = |records: &[Received]| {
            let mut bodies = records.iter().rev().filter_map(|one| match one.endpoint {
                Endpoint::Incident => Some(&one.body),
                _ => None,
            });
            let newest = bodies.next();
            told(records, Endpoint::Metrics) >= seconds
                && newest.is_some_and(|body| body["source_ip_count"] == last.source_ip_count)
        };
        assert!(
            platform.wait_for(TELLING, is_told),
            "{} of {seconds} seconds, {} of {steps} steps\n{}",
            told(&platform.recorded(), Endpoint::Metrics),
            told(&platform.recorded(), Endpoint::Incident),
            judge.log.text()
        );
    }
    assert!(platform.wait_for(TELLING, |records| {
        told(records, Endpoint::Heartbeat) > 1 && told(records, Endpoint::Config) > 1
    }));
    uplink.stop(Duration::from_secs(3));

    let records = platform.recorded();
    for received in &records {
        assert_eq!(received.violations, [""; 0], "{received:?}");
        assert_eq!(received.status, 200, "{received:?}");
    }
    for (endpoint, method, path) in [
        (Endpoint::Heartbeat, "post", "/api/v1/agent/heartbeat"),
        (Endpoint::Metrics, "post", "/api/v1/agent/metrics"),
        (Endpoint::Incident, "post", "/api/v1/agent/incident"),
        (Endpoint::Config, "get", "/api/v1/agent/config"),
    ] {
        // What the proxy refuses it does not hand on.
        assert_eq!(
            told(&records, endpoint),
            asked(&judge.log, method, path),
            "{path}"
        );
    }
    assert_eq!(told(&records, Endpoint::Metrics), begun.len());
    let incidents = told(&records, Endpoint::Incident);
    // Each attack is opened and ended; what lies between may have become one.
    assert!(
        (2 * stories.len()..=steps).contains(&incidents),
        "{incidents} of {steps}"
    );
    let mut families: Vec<String> = records
        .iter()
        .filter_map(|received| match &received.call {
            Call::Incident(incident) => Some(incident.attack_family.clone()),
            _ => None,
        })
        .collect();
    families.sort();
    families.dedup();
    assert!(families.len() >= 6, "only {families:?}");
}

#[test]
fn asking_once_and_registering_are_what_the_contract_describes() {
    let platform = platform();
    let Some(judge) = Judge::before(&platform) else {
        return;
    };
    let base = ApiBase::parse(&judge.base, false).unwrap();
    uplink::health(&base).unwrap();
    let token = ApiKey::new(Settings::default().deploy_token).unwrap();
    let node = NewNode {
        name: "edge-tor-07".to_owned(),
        ip: "2001:db8:17::8".parse().unwrap(),
        location: Some("tor-1".to_owned()),
        os: Some("Debian 12".to_owned()),
        interface: Some("ens18".to_owned()),
    };
    let deployed = uplink::deploy(&base, &token, &node).unwrap();
    let settings = uplink::Settings::new(&judge.base, deployed.api_key, deployed.node_uuid);
    let values = uplink::look(&settings).unwrap();
    assert_eq!(values.pps_threshold, Some(50_000));
    assert!(
        uplink::deploy(&base, &token, &node).is_err(),
        "the name is taken"
    );
    let records = platform.recorded();
    assert!(
        records
            .iter()
            .all(|received| received.violations.is_empty())
    );
    assert_eq!(told(&records, Endpoint::Deploy), 2);
}

#[test]
fn the_judge_refuses_what_is_wrong() {
    let platform = platform();
    let Some(judge) = Judge::before(&platform) else {
        return;
    };
    let node = Settings::default();
    let tell = |body: serde_json::Value| {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "60",
        ])
        .args(["-H", &format!("Authorization: Bearer {}", node.key)])
        .args(["-H", &format!("X-Node-UUID: {}", node.node_uuid)])
        .args(["-H", "User-Agent: ftagent/0.1.0"])
        .args(["-H", "Content-Type: application/json"])
        .args(["--data", &body.to_string()])
        .arg(format!("{}/agent/metrics", judge.base));
        finish(&mut curl, TELLING).stdout
    };
    let right = json!({"pps": 8123, "bps": 61_234_000, "tcp_pct": 71.4, "udp_pct": 27.9,
        "icmp_pct": 0.7, "conn_count": 412, "recorded_at": "2026-10-04T07:15:33Z"});
    assert_eq!(tell(right.clone()), "200");
    for (field, value) in [
        ("pps", json!(8123.5)),
        ("pps", json!(-1)),
        ("udp_pct", json!(100.1)),
        ("recorded_at", json!("2026-10-04T07:15:33+00:00")),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        assert_eq!(tell(wrong), "422", "{field}");
    }
    assert_eq!(platform.recorded().len(), 1, "nothing wrong came through");
}
