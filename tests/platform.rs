//! The platform that everything else is tried against is tried itself: each rule that it is strict about, each way in
//! which it can fail, and that no bytes make it panic. Requests are written by hand, so that nothing corrects them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking, and one that is skipped says so"
)]

#[path = "common/needs.rs"]
mod needs;
#[path = "common/tell.rs"]
mod tell;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ftagent::clock::{self, Timestamp};
use ftagent::demo::platform::{
    Call, Endpoint, Fault, FaultBody, NodeConfig, Oddity, Platform, Received, RetryAfter, Serves,
    Settings,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tell::tell;

/// Far more than any answer on the loopback interface needs.
const LIMIT: Duration = Duration::from_secs(10);

/// A platform that serves these contracts.
fn serving(serves: Serves) -> Platform {
    Platform::start(Settings {
        serves,
        config: NodeConfig::threshold(50_000),
        ..Settings::default()
    })
    .expect("a platform can be started")
}

/// One request, right unless a test makes it wrong.
#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    fn get(path: &str) -> Self {
        let settings = Settings::default();
        let headers = [
            ("Host", "127.0.0.1".to_owned()),
            ("Connection", "close".to_owned()),
            ("Authorization", format!("Bearer {}", settings.key)),
            ("X-Node-UUID", settings.node_uuid),
            ("User-Agent", "ftagent/0.1.0".to_owned()),
        ];
        Self {
            method: "GET",
            path: path.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body: Vec::new(),
        }
    }

    fn post(path: &str, body: &Value) -> Self {
        let mut ask = Self::get(path).header("Content-Type", "application/json");
        ask.method = "POST";
        ask.body = body.to_string().into_bytes();
        ask
    }

    /// With this header instead of the one there is.
    fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if self.method == "POST" {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        [text.as_bytes(), &self.body].concat()
    }

    /// Sends it on a connection of its own and reads to the end of the answer.
    fn send(&self, platform: &Platform) -> Answer {
        let mut stream = connect(platform).expect("the platform is there");
        stream.write_all(&self.bytes()).expect("requests are small");
        Answer::read(stream)
    }
}

fn address(platform: &Platform) -> SocketAddr {
    let base = platform.base().strip_prefix("http://").unwrap();
    base.strip_suffix("/api/v1").unwrap().parse().unwrap()
}

fn connect(platform: &Platform) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address(platform), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// How the connection ended, if it did not end well.
    broken: Option<ErrorKind>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let broken = stream
            .read_to_end(&mut bytes)
            .err()
            .map(|error| error.kind());
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.map_or(bytes.len(), |end| end + 4));
        let head = String::from_utf8_lossy(head).into_owned();
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_default(),
            body: body.to_vec(),
            head,
            broken,
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn metrics() -> Value {
    metrics_at("2026-10-04T07:15:33Z")
}

fn metrics_at(recorded_at: &str) -> Value {
    json!({"pps": 8123, "bps": 61_234_000, "tcp_pct": 71.4, "udp_pct": 27.9, "icmp_pct": 0.7,
        "conn_count": 412, "recorded_at": recorded_at})
}

fn heartbeat() -> Value {
    json!({"agent_version": "0.1.0", "uptime": 5430, "os": "Debian 12"})
}

fn incident() -> Value {
    json!({"attack_family": "syn_flood", "severity": "critical", "peak_pps": 268_400,
        "peak_bps": 139_568_000, "protocol_breakdown": {"tcp": 97.8, "udp": 2.0, "icmp": 0.2},
        "tcp_flag_breakdown": {"SYN": 262_100, "ACK": 5110}, "source_ip_count": 51_877,
        "top_src_ips": [{"ip": "203.0.113.77", "count": 912}],
        "top_dst_ports": [{"port": 443, "count": 201_733}],
        "spoofing_detected": true, "botnet_detected": true})
}

fn opening() -> Value {
    json!({"peak_pps": 268_400.2, "peak_bps": 139_568_000.0,
        "started_at": "2026-10-04T07:20:01.004512+00:00", "attack_family": "tcp_flood",
        "attack_subtype": "ack_flood", "baseline_pps": 2710.4, "duration": 0,
        "gre_dedup_active": false, "top_src_ips": [{"ip": "203.0.113.77", "count": 912, "pct": 0.1}],
        "top_dst_ports": {"/login": 12}, "source_ip_count": 51_877})
}

fn update() -> Value {
    json!({"peak_pps": 391_050.0, "peak_bps": 1_904_000_000.0, "attack_family": "multi_vector",
        "attack_subtype": null, "protocol_breakdown":
        {"tcp": 52.1, "udp": 47.5, "icmp": 0.4, "other": 0.0, "fragments": 0.1},
        "source_ip_count": 80_412, "total_packets": 3_900_121,
        "top_src_ips": [], "top_dst_ports": []})
}

fn resolution() -> Value {
    json!({"duration_seconds": 184.6, "peak_pps": 391_050.0, "peak_bps": 1_904_000_000.0,
        "attack_family": "syn_flood", "attack_subtype": "syn_flood", "confidence": 92,
        "protocol_breakdown": {"tcp": 97.8, "udp": 2.0, "icmp": 0.2},
        "tcp_flag_breakdown": {"SYN": 1}, "pkt_length_histogram": {"0-64": 4},
        "ttl_distribution": {"54": 4}, "velocity_curve": [{"t": 0, "pps": 268_400.2}],
        "avg_pkt_length": 60.2, "total_packets": 41_200_331,
        "source_ip_count": 80_412, "top_src_ips": [], "top_dst_ports": []})
}

const METRICS: &str = "/api/v1/agent/metrics";
const HEARTBEAT: &str = "/api/v1/agent/heartbeat";
const CONFIG: &str = "/api/v1/agent/config";
const INCIDENT: &str = "/api/v1/agent/incident";
const INCIDENTS: &str = "/api/v1/agent/incidents";

fn violations(platform: &Platform) -> Vec<String> {
    platform
        .recorded()
        .last()
        .map(|received| received.violations.clone())
        .expect("a request was recorded")
}

#[test]
fn every_call_of_the_seed_contract_is_answered() {
    let platform = serving(Serves::Seed);
    let health = Ask::get("/api/health")
        .without("Authorization")
        .without("X-Node-UUID");
    assert_eq!(health.send(&platform).json(), json!({"status": "ok"}));
    let answer = Ask::post(HEARTBEAT, &heartbeat()).send(&platform);
    assert_eq!((answer.status, &answer.json()["ok"]), (200, &json!(true)));
    let answer = Ask::post(METRICS, &metrics()).send(&platform);
    assert_eq!((answer.status, &answer.json()["ok"]), (200, &json!(true)));
    for _ in 0..2 {
        let answer = Ask::post(INCIDENT, &incident()).send(&platform);
        assert_eq!(answer.json()["incident_id"], 1);
    }
    let config = Ask::get(CONFIG).send(&platform).json();
    assert_eq!(config["pps_threshold"], 50_000);

    let recorded = platform.recorded();
    let endpoints: Vec<Endpoint> = recorded.iter().map(|received| received.endpoint).collect();
    assert_eq!(
        endpoints,
        [
            Endpoint::Health,
            Endpoint::Heartbeat,
            Endpoint::Metrics,
            Endpoint::Incident,
            Endpoint::Incident,
            Endpoint::Config
        ]
    );
    assert!(recorded.iter().all(|received| {
        received.violations.is_empty() && received.oddities.is_empty() && received.taken
    }));
    let numbers: Vec<u64> = recorded.iter().map(|received| received.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    assert!(recorded.is_sorted_by_key(|received| received.at));
    let Call::Metrics(metrics) = &recorded[2].call else {
        panic!("{:?}", recorded[2]);
    };
    assert_eq!((metrics.pps, metrics.conn_count), (8123.0, 412));
    let second = Timestamp::from_seconds(1_791_098_133);
    assert_eq!(metrics.recorded_at, Some(second));
    assert_eq!(platform.incidents()[0].updates, 1);
}

#[test]
fn every_call_of_the_resource_contract_is_answered() {
    let platform = serving(Serves::Resource);
    let opened = Ask::post(INCIDENTS, &opening()).send(&platform).json();
    let uuid = opened["uuid"].as_str().expect("an incident has a name");
    assert_eq!(opened["pending_commands"], json!([]));
    let path = format!("{INCIDENTS}/{uuid}");
    assert_eq!(Ask::post(&path, &update()).send(&platform).status, 200);
    let path = format!("{INCIDENTS}/{uuid}/resolve");
    assert_eq!(Ask::post(&path, &resolution()).send(&platform).status, 200);
    let ack = json!({"command_id": 601, "status": "applied", "error": null});
    let path = "/api/v1/agent/commands/ack";
    assert_eq!(Ask::post(path, &ack).send(&platform).status, 200);
    let aggregate = json!({"pps": 8123.4, "bps": 61_234_000.8, "tcp_pct": 71.4, "udp_pct": 27.9,
        "icmp_pct": 0.7, "conn_count": 412, "threshold": 36_200.0, "avg_pps": 7904.2, "samples": 5});
    assert_eq!(Ask::post(METRICS, &aggregate).send(&platform).status, 200);
    let life = json!({"version": "0.1.0", "baseline_ready": true, "baseline_total_samples": 2950,
        "baseline_avg_pps": 2710.4, "baseline_p99_pps": 9050.0, "mirror_mode": false});
    assert_eq!(Ask::post(HEARTBEAT, &life).send(&platform).status, 200);
    let config = Ask::get(CONFIG).send(&platform).json();
    assert_eq!(config["suspended"], false);
    assert!(platform.incidents()[0].resolved);
    let recorded = platform.recorded();
    assert!(recorded.iter().all(|received| received.status == 200));
    assert!(matches!(&recorded[2].call, Call::Resolve { uuid: told, .. } if told == uuid));
}

#[test]
fn a_node_is_registered_with_the_deploy_token_and_then_let_in() {
    let platform = serving(Serves::Seed);
    let token = format!("Bearer {}", Settings::default().deploy_token);
    let deploy = |name: &str, token: &str| {
        let node = json!({"name": name, "ip": "2001:db8:17::8", "os": "Debian 12"});
        Ask::post("/api/deploy", &node)
            .without("X-Node-UUID")
            .header("Authorization", token)
            .send(&platform)
    };
    let registered = deploy("edge-tor-08", &token);
    assert_eq!(registered.status, 200);
    let node = registered.json();
    let again = deploy("edge-tor-08", &token);
    assert_eq!(again.status, 409);
    let key = format!("Bearer {}", Settings::default().key);
    assert_eq!(deploy("edge-tor-09", &key).status, 401);
    assert_eq!(deploy("", &token).status, 400);
    assert!(violations(&platform)[0].starts_with("name: expected a text"));

    let config = Ask::get(CONFIG)
        .header("X-Node-UUID", node["node_uuid"].as_str().unwrap())
        .header(
            "Authorization",
            &format!("Bearer {}", node["api_key"].as_str().unwrap()),
        );
    assert_eq!(config.send(&platform).status, 200);
}

#[test]
fn each_header_is_required_and_checked() {
    let platform = serving(Serves::Seed);
    let right = Ask::post(METRICS, &metrics());
    let mut twice = right.clone();
    twice
        .headers
        .push(("User-Agent".to_owned(), "ftagent/0.1.0".to_owned()));
    for (wrong, status, problem) in [
        (
            right.clone().without("Authorization"),
            401,
            "authorization: required",
        ),
        (
            right.clone().header("Authorization", "Bearer nonsense"),
            401,
            "authorization: this is not the node's key",
        ),
        (
            right.clone().header("Authorization", "Basic bm9uc2Vuc2U="),
            401,
            "authorization: expected `Bearer`",
        ),
        (
            right
                .clone()
                .header("Authorization", &Settings::default().key),
            401,
            "authorization: expected `Bearer`",
        ),
        (
            right.clone().without("X-Node-UUID"),
            401,
            "x-node-uuid: required",
        ),
        (
            right.clone().header("X-Node-UUID", "node-7"),
            401,
            "x-node-uuid: expected a UUID",
        ),
        (
            right
                .clone()
                .header("X-Node-UUID", "5e0d1c2b-0000-4000-8000-0000000000a2"),
            401,
            "x-node-uuid: there is no node",
        ),
        (
            right.clone().without("User-Agent"),
            400,
            "user-agent: required",
        ),
        (
            right.clone().header("User-Agent", "curl/8.5.0"),
            400,
            "user-agent: expected ftagent/",
        ),
        (
            right.clone().header("User-Agent", "ftagent/x"),
            400,
            "user-agent: expected ftagent/",
        ),
        (twice, 400, "user-agent: there more than once"),
        (
            right.clone().without("Content-Type"),
            400,
            "content-type: required",
        ),
        (
            right.clone().header("Content-Type", "text/plain"),
            400,
            "content-type: expected application/json",
        ),
    ] {
        let answer = wrong.send(&platform);
        assert_eq!(answer.status, status, "{wrong:?}");
        let said = answer.json();
        assert_eq!(said["ok"], false);
        let said = said["error"].as_str().unwrap();
        assert!(said.starts_with(problem), "{problem}: {said}");
        assert_eq!(violations(&platform), [said]);
        let received = platform.recorded().pop().unwrap();
        assert_eq!((received.status, received.taken), (status, false));
        assert_eq!(received.call, Call::Refused);
        assert!(!said.contains(&Settings::default().key));
    }
    let with_charset = right.header("Content-Type", "application/json; charset=utf-8");
    assert_eq!(with_charset.send(&platform).status, 200);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let platform = serving(Serves::Seed);
    let mut body = metrics();
    body["pps"] = json!(-1);
    body.as_object_mut().unwrap().remove("bps");
    let answer = Ask::post(METRICS, &body)
        .header("User-Agent", "agent")
        .header("Authorization", "Bearer x")
        .send(&platform);
    assert_eq!(answer.status, 401);
    let found = violations(&platform);
    let names: Vec<&str> = found
        .iter()
        .map(|problem| problem.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["authorization", "user-agent", "pps", "bps"]);
}

#[test]
fn a_body_that_is_none_is_refused_with_the_reason() {
    let platform = serving(Serves::Seed);
    let mut ask = Ask::post(METRICS, &Value::Null);
    for (body, problem) in [
        (b"".to_vec(), "body: not JSON: EOF"),
        (b"{\"pps\": 1".to_vec(), "body: not JSON: EOF"),
        (b"\xff\xfe".to_vec(), "body: not JSON"),
        (b"[1]".to_vec(), "body: expected an object, found [1]"),
        (
            "[".repeat(100_000).into_bytes(),
            "body: not JSON: recursion limit",
        ),
        (
            vec![b' '; 300_000],
            "body: cut short, or longer than 262144 bytes",
        ),
    ] {
        ask.body = body;
        assert_eq!(ask.send(&platform).status, 400, "{problem}");
        let found = violations(&platform);
        assert!(
            found.len() == 1 && found[0].starts_with(problem),
            "{found:?}"
        );
    }
    let mut config = Ask::get(CONFIG);
    config
        .headers
        .push(("Content-Length".to_owned(), "2".to_owned()));
    config.body = b"{}".to_vec();
    assert_eq!(config.send(&platform).status, 400);
    assert_eq!(
        violations(&platform),
        ["body: expected none, found 2 bytes"]
    );
}

#[test]
fn only_documented_paths_methods_and_no_queries() {
    let platform = serving(Serves::Both);
    for (ask, status, problem) in [
        (Ask::get("/"), 404, "path: nothing is served at /"),
        (
            Ask::get("/api/v1/agent/"),
            404,
            "path: nothing is served at /api/v1/agent/",
        ),
        (Ask::get("/api/v1//agent/config"), 404, "path: nothing"),
        (
            Ask::post("/api/v1/agent/incidents/x/y/z", &update()),
            404,
            "path: nothing",
        ),
        (
            Ask::get(METRICS),
            405,
            "method: GET is not served at this path",
        ),
        (Ask::post(CONFIG, &json!({})), 405, "method: POST"),
        (
            Ask::get("/api/v1/agent/config?node=1"),
            400,
            "query: no endpoint takes one",
        ),
    ] {
        let answer = ask.send(&platform);
        assert_eq!(answer.status, status, "{ask:?}");
        assert!(violations(&platform)[0].starts_with(problem), "{problem}");
    }
}

#[test]
fn a_contract_that_is_not_served_is_not_found() {
    let incident = Ask::post(INCIDENT, &incident());
    let opening = Ask::post(INCIDENTS, &opening());
    let platform = serving(Serves::Seed);
    let tell = |platform: &Platform| [&incident, &opening].map(|ask| ask.send(platform).status);
    assert_eq!(tell(&platform), [200, 404]);
    platform.set_serves(Serves::Resource);
    assert_eq!(tell(&platform), [404, 200]);
    platform.end_incidents();
    platform.set_serves(Serves::Both);
    assert_eq!(tell(&platform), [200, 200]);
}

#[test]
fn the_seed_contract_takes_no_field_that_is_not_its_own() {
    let platform = serving(Serves::Seed);
    let mut union = heartbeat();
    union["version"] = json!("0.1.0");
    assert_eq!(Ask::post(HEARTBEAT, &union).send(&platform).status, 400);
    assert_eq!(
        violations(&platform),
        ["version: no field of this contract"]
    );
    let mut deep = incident();
    deep["top_src_ips"][0]["pct"] = json!(0.1);
    assert_eq!(Ask::post(INCIDENT, &deep).send(&platform).status, 400);
    assert_eq!(
        violations(&platform),
        ["top_src_ips[0].pct: no field of this contract"]
    );
    platform.set_serves(Serves::Both);
    assert_eq!(Ask::post(HEARTBEAT, &union).send(&platform).status, 200);
}

#[test]
fn every_required_field_of_every_call_is_missed() {
    let platform = serving(Serves::Both);
    let uuid = Ask::post(INCIDENTS, &opening()).send(&platform).json()["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let calls = [
        (INCIDENT.to_owned(), incident()),
        (INCIDENTS.to_owned(), opening()),
        (format!("{INCIDENTS}/{uuid}"), update()),
        (format!("{INCIDENTS}/{uuid}/resolve"), resolution()),
        (METRICS.to_owned(), metrics()),
        (HEARTBEAT.to_owned(), heartbeat()),
    ];
    for (path, body) in calls {
        for field in body.as_object().unwrap().keys() {
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(field);
            let answer = Ask::post(&path, &without).send(&platform);
            assert_eq!(answer.status, 400, "{path} without {field}");
            let expected = format!("{field}: required, and not there");
            assert!(
                violations(&platform).contains(&expected),
                "{path} without {field}: {:?}",
                violations(&platform)
            );
        }
    }
    let known = platform.incidents();
    assert!(known.len() == 1 && known[0].updates == 0, "none was taken");
}

/// The published examples of requests, where they are at hand: name, contract, path, body.
fn examples() -> Vec<(String, String, String, Value)> {
    let Some(folder) = needs::shared("contract/fixtures") else {
        return Vec::new();
    };
    let index = std::fs::read(folder.join("index.json")).expect("the examples have an index");
    let index: Value = serde_json::from_slice(&index).unwrap();
    let files = index.get("files").and_then(Value::as_array).unwrap();
    let requests = files
        .iter()
        .filter(|file| file.get("kind") == Some(&json!("request")));
    requests
        .map(|file| {
            let field = |name: &str| file.get(name).and_then(Value::as_str).unwrap().to_owned();
            let body = std::fs::read(folder.join(field("file"))).unwrap();
            let path = field("path").replace("/api/v1", "");
            let body = serde_json::from_slice(&body).unwrap();
            (field("file"), field("contract"), path, body)
        })
        .collect()
}

#[test]
fn the_published_examples_are_right_where_they_are_whole() {
    /// What this platform does not serve: parts of the resource contract that no issue of ours needs.
    const NOT_SERVED: [&str; 5] = ["l7/", "gre-tunnels", "vm-stats", "mirror-metrics", "sp/"];
    /// Examples with fewer fields than what our agent tells in full: minimal ones, those of modes that it does not have
    /// (another machine's traffic, service ports, HTTP logs), and those of a collection for trying things out.
    const NOT_WHOLE: [&str; 8] = [
        "seed-metrics-minimal.request.json",
        "seed-incident-minimal.request.json",
        "resource-incident-open-sp.request.json",
        "resource-incident-open-mirror.request.json",
        "resource-incident-open-l7.request.json",
        "resource-incident-update-l7.request.json",
        "resource-incident-resolve-postman.request.json",
        "resource-incident-resolve-l7.request.json",
    ];
    let token = format!("Bearer {}", Settings::default().deploy_token);
    let mut refused = Vec::new();
    let examples = examples();
    for (file, contract, path, body) in &examples {
        if NOT_SERVED.iter().any(|part| path.contains(part)) {
            continue;
        }
        let platform = serving(match contract.as_str() {
            "seed" => Serves::Seed,
            _ => Serves::Resource,
        });
        let opened = Ask::post(INCIDENTS, &opening()).send(&platform);
        let uuid = if contract == "seed" {
            Value::Null
        } else {
            opened.json()["uuid"].clone()
        };
        let path = path.replace("{uuid}", uuid.as_str().unwrap_or_default());
        let ask = if path.ends_with("/deploy") {
            Ask::post(&path, body).header("Authorization", &token)
        } else {
            Ask::post(&format!("/api/v1{path}"), body)
        };
        if ask.send(&platform).status != 200 {
            refused.push((file.as_str(), violations(&platform)));
        }
    }
    let names: Vec<&str> = refused.iter().map(|(file, _)| *file).collect();
    assert!(examples.is_empty() || names == NOT_WHOLE, "{refused:#?}");
}

#[test]
fn evidence_is_honestly_not_taken() {
    let platform = serving(Serves::Both);
    for path in ["/api/v1/agent/pcap", "/api/v1/agent/incidents/7/pcap"] {
        let upload = Ask::post(path, &json!({})).header("Content-Type", "multipart/form-data");
        let answer = upload.send(&platform);
        assert_eq!(answer.status, 501);
        assert_eq!(
            answer.json()["error"],
            "pcap: this platform takes no captures yet"
        );
    }
}

#[test]
fn what_does_not_fit_what_came_before_is_noticed() {
    let platform = serving(Serves::Both);
    let oddities = |platform: &Platform| platform.recorded().pop().unwrap().oddities;
    for (at, odd) in [
        ("2026-10-04T07:15:33Z", false),
        ("2026-10-04T07:15:34Z", false),
        ("2026-10-04T07:15:34Z", true),
        ("2026-10-04T07:15:32Z", true),
    ] {
        Ask::post(METRICS, &metrics_at(at)).send(&platform);
        assert_eq!(!oddities(&platform).is_empty(), odd, "{at}");
    }
    let first = Ask::post(INCIDENTS, &opening()).send(&platform).json();
    Ask::post(INCIDENTS, &opening()).send(&platform);
    let first = first["uuid"].as_str().unwrap();
    let open = first.to_owned();
    assert!(oddities(&platform).contains(&Oddity::SecondOpen { open }));
    let resolve = Ask::post(&format!("{INCIDENTS}/{first}/resolve"), &resolution());
    assert_eq!(resolve.send(&platform).status, 200);
    assert_eq!(resolve.send(&platform).status, 409);
    let uuid = first.to_owned();
    assert_eq!(oddities(&platform), [Oddity::AfterResolve { uuid }]);
    let nobody = Ask::post(&format!("{INCIDENTS}/nobody"), &update());
    assert_eq!(nobody.send(&platform).status, 404);
    let uuid = "nobody".to_owned();
    assert_eq!(oddities(&platform), [Oddity::NeverOpened { uuid }]);
}

#[test]
fn another_key_can_be_required() {
    let platform = serving(Serves::Seed);
    let settings = Settings::default();
    let old = Ask::get(CONFIG);
    assert_eq!(old.send(&platform).status, 200);
    platform.admit(&settings.node_uuid, "ft_live_another");
    assert_eq!(old.send(&platform).status, 401);
    let new = old.header("Authorization", "Bearer ft_live_another");
    assert_eq!(new.send(&platform).status, 200);
}

#[test]
fn the_configuration_can_be_changed_and_be_anything() {
    let platform = serving(Serves::Seed);
    platform.set_config(NodeConfig::threshold(7));
    assert_eq!(Ask::get(CONFIG).send(&platform).json()["pps_threshold"], 7);
    platform.set_config_json(json!(["no", {"object": null}]));
    assert_eq!(
        Ask::get(CONFIG).send(&platform).json(),
        json!(["no", {"object": null}])
    );
}

/// A platform whose configuration is asked for with this fault.
fn faulty(fault: Fault) -> (Platform, Answer, Duration) {
    let platform = serving(Serves::Seed);
    platform.set_fault(Endpoint::Config, fault);
    let start = clock::monotonic();
    let answer = Ask::get(CONFIG).send(&platform);
    (platform, answer, start.elapsed())
}

#[test]
fn a_status_comes_with_its_body_and_when_to_come_again() {
    let (platform, answer, _) = faulty(Fault::status(503).retry_after(RetryAfter::Seconds(7)));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("7"))
    );
    assert_eq!(answer.body, b"");
    let received = platform.recorded().pop().unwrap();
    assert_eq!((received.status, received.taken), (503, false));
    // Other endpoints are as they were, and so is this one afterwards.
    assert_eq!(Ask::post(METRICS, &metrics()).send(&platform).status, 200);
    platform.clear_faults();
    assert_eq!(Ask::get(CONFIG).send(&platform).status, 200);

    let date = RetryAfter::Date(Timestamp::from_seconds(1_773_567_858));
    let (_, answer, _) = faulty(Fault::status(429).retry_after(date));
    assert_eq!(
        answer.header("retry-after"),
        Some("Sun, 15 Mar 2026 09:44:18 GMT")
    );
    let (_, answer, _) = faulty(Fault::status(200).with(FaultBody::Html));
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(answer.body.starts_with(b"<!DOCTYPE html>"));
    let (_, answer, _) = faulty(Fault::status(200).with(FaultBody::Nested));
    assert_eq!(answer.body.len(), 200_000);
    assert!(answer.body.starts_with(b"[[[[") && answer.body.ends_with(b"]]]]"));
    let text = FaultBody::Text("null".to_owned());
    let (_, answer, _) = faulty(Fault::status(402).with(text));
    assert_eq!((answer.status, answer.json()), (402, Value::Null));
}

#[test]
fn a_huge_body_is_as_long_as_it_says() {
    let platform = serving(Serves::Seed);
    platform.set_fault(Endpoint::Config, Fault::status(200).with(FaultBody::Huge));
    let mut stream = connect(&platform).unwrap();
    stream.write_all(&Ask::get(CONFIG).bytes()).unwrap();
    let copied = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    assert!((100_000_000..100_001_000).contains(&copied), "{copied}");
    // And a reader that has had enough may go.
    let mut stream = connect(&platform).unwrap();
    stream.write_all(&Ask::get(CONFIG).bytes()).unwrap();
    let mut some = [0; 65_536];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    platform.clear_faults();
    assert_eq!(Ask::get(CONFIG).send(&platform).status, 200);
}

#[test]
fn a_redirection_names_where_to_go() {
    let (_, answer, _) = faulty(Fault::redirect("http://other.example/api"));
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location"), Some("http://other.example/api"));
}

#[test]
fn faults_are_counted_down_and_the_one_of_the_endpoint_comes_first() {
    let platform = serving(Serves::Seed);
    platform.set_fault_everywhere(Fault::status(500).times(2));
    platform.set_fault(Endpoint::Config, Fault::status(503).times(1));
    let ask = || Ask::get(CONFIG).send(&platform).status;
    assert_eq!([ask(), ask(), ask(), ask()], [503, 500, 500, 200]);
}

#[test]
fn whether_a_request_that_fails_is_taken_can_be_said() {
    let platform = serving(Serves::Seed);
    let open = Ask::post(INCIDENT, &incident());
    platform.set_fault_everywhere(Fault::status(500).times(1));
    open.send(&platform);
    assert_eq!(platform.incidents(), []);
    platform.set_fault_everywhere(Fault::status(500).taken(true).times(1));
    assert_eq!(open.send(&platform).status, 500);
    assert_eq!(platform.incidents().len(), 1);
    platform.set_fault_everywhere(Fault::cut().taken(false).times(1));
    open.send(&platform);
    assert_eq!(platform.incidents()[0].updates, 0);
    let taken: Vec<bool> = platform.recorded().iter().map(|one| one.taken).collect();
    assert_eq!(taken, [false, true, false]);
}

#[test]
fn a_late_answer_is_right_and_late() {
    let (_, answer, took) = faulty(Fault::late(Duration::from_millis(300)));
    assert_eq!(answer.json()["pps_threshold"], 50_000);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    let late = Fault::status(503).after(Duration::from_millis(200));
    let (_, answer, took) = faulty(late);
    assert_eq!(answer.status, 503);
    assert!(took >= Duration::from_millis(200), "{took:?}");
}

#[test]
fn a_slow_answer_comes_at_its_rate() {
    let (_, answer, took) = faulty(Fault::slow(500));
    assert_eq!(answer.json()["pps_threshold"], 50_000);
    let bytes = answer.head.len() + answer.body.len();
    let expected = Duration::from_secs_f64(bytes as f64 / 500.0);
    assert!(
        took > expected / 2 && took < expected + LIMIT,
        "{bytes} bytes in {took:?}"
    );
}

#[test]
fn one_byte_a_second_is_one_byte_a_second_and_holds_up_nobody_else() {
    let platform = serving(Serves::Seed);
    platform.set_fault(Endpoint::Config, Fault::slow(1).times(1));
    let mut stream = connect(&platform).unwrap();
    stream.write_all(&Ask::get(CONFIG).bytes()).unwrap();
    let mut byte = [0];
    let mut arrivals: Vec<Instant> = Vec::new();
    let mut begin = Vec::new();
    for _ in 0..3 {
        stream.read_exact(&mut byte).unwrap();
        begin.push(byte[0]);
        arrivals.push(clock::monotonic());
    }
    assert_eq!(begin, b"HTT");
    let took = arrivals[2] - arrivals[0];
    assert!((1_800..9_000).contains(&took.as_millis()), "{took:?}");
    let start = clock::monotonic();
    assert_eq!(Ask::get(CONFIG).send(&platform).status, 200);
    assert!(start.elapsed() < LIMIT / 2);
}

#[test]
fn a_refusal_can_have_a_body_that_is_slow_or_breaks_off() {
    let body = FaultBody::Text("{\"error\": \"0123456789\"}".to_owned());
    let refusal = Fault::status(401).with(body);
    let (_, answer, _) = faulty(refusal.clone().with_reset());
    assert_eq!(answer.status, 401);
    assert_eq!(answer.broken, Some(ErrorKind::ConnectionReset));
    assert_eq!(answer.body, b"{\"error\": \"");

    let (_, answer, took) = faulty(refusal.with_slow_body(20));
    assert_eq!((answer.status, answer.body.len()), (401, 23));
    // 23 bytes at 20 a second, the head before them at once.
    let expected = Duration::from_millis(1_100);
    assert!(took > expected / 2 && took < expected + LIMIT, "{took:?}");
}

#[test]
fn a_silent_platform_has_heard_all_the_same() {
    let platform = serving(Serves::Seed);
    platform.set_fault(Endpoint::Incident, Fault::silent());
    let mut stream = connect(&platform).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    stream
        .write_all(&Ask::post(INCIDENT, &incident()).bytes())
        .unwrap();
    let kind = stream.read(&mut [0]).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::WouldBlock);
    let received = platform.recorded().pop().unwrap();
    assert_eq!((received.status, received.taken), (0, true));
    assert_eq!(platform.incidents().len(), 1);
    // It does not hold up the end.
    let start = clock::monotonic();
    platform.stop();
    assert!(start.elapsed() < LIMIT / 2);
}

#[test]
fn a_connection_breaks_in_the_middle_of_the_body() {
    for (fault, expected) in [
        (Fault::reset(), Some(ErrorKind::ConnectionReset)),
        (Fault::cut(), None),
    ] {
        let (platform, answer, _) = faulty(fault.times(1));
        assert_eq!(answer.broken, expected);
        assert_eq!(answer.status, 200);
        let promised: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(answer.body.len(), promised / 2);
        assert!(platform.recorded()[0].taken);
        assert_eq!(Ask::get(CONFIG).send(&platform).status, 200);
    }
}

#[test]
fn a_platform_that_is_gone_refuses_and_comes_back_with_all_it_knew() {
    let platform = serving(Serves::Seed);
    let mut kept = connect(&platform).unwrap();
    let open = Ask::get(CONFIG).without("Connection");
    kept.write_all(&open.bytes()).unwrap();
    kept.read_exact(&mut [0; 12]).unwrap();
    Ask::post(INCIDENT, &incident()).send(&platform);

    platform.set_reachable(false);
    let start = clock::monotonic();
    while connect(&platform).is_ok() {
        assert!(start.elapsed() < LIMIT, "connecting is still possible");
    }
    let kind = connect(&platform).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    kept.write_all(&open.bytes()).unwrap();
    let kind = std::io::copy(&mut kept, &mut std::io::sink())
        .unwrap_err()
        .kind();
    assert_eq!(kind, ErrorKind::ConnectionReset);
    assert_eq!(platform.recorded().len(), 2);

    platform.set_reachable(true);
    let start = clock::monotonic();
    while connect(&platform).is_err() {
        assert!(start.elapsed() < LIMIT, "connecting is not possible again");
    }
    Ask::post(INCIDENT, &incident()).send(&platform);
    assert_eq!(platform.incidents()[0].updates, 1);
}

#[test]
fn connections_that_are_kept_are_told_apart() {
    let platform = serving(Serves::Seed);
    let open = Ask::get(CONFIG).without("Connection");
    let mut kept = connect(&platform).unwrap();
    kept.write_all(&open.bytes()).unwrap();
    assert!(platform.wait_for(LIMIT, |records| records.len() == 1));
    kept.write_all(&open.bytes()).unwrap();
    assert!(platform.wait_for(LIMIT, |records| records.len() == 2));
    open.header("Connection", "close").send(&platform);
    let connections: Vec<u64> = platform
        .recorded()
        .iter()
        .map(|received| received.connection)
        .collect();
    assert_eq!(connections, [1, 1, 2]);
}

#[test]
fn waiting_ends_with_what_was_waited_for_or_with_the_limit() {
    let platform = serving(Serves::Seed);
    let heard = |records: &[Received]| !records.is_empty();
    assert!(!platform.wait_for(Duration::from_millis(50), heard));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| platform.wait_for(LIMIT, heard));
        Ask::get(CONFIG).send(&platform);
        assert!(waiting.join().unwrap());
    });
    assert_eq!(platform.recorded_since(1).len(), 0);
    assert_eq!(platform.recorded_since(0).len(), 1);
}

#[test]
fn records_are_bounded_and_what_is_not_kept_is_counted() {
    let platform = Platform::start(Settings {
        most_records: 2,
        ..Settings::default()
    })
    .unwrap();
    for _ in 0..5 {
        Ask::get(CONFIG).send(&platform);
    }
    assert_eq!((platform.recorded().len(), platform.unrecorded()), (2, 3));
}

#[test]
fn a_port_that_is_taken_is_said() {
    let platform = serving(Serves::Seed);
    let settings = Settings {
        port: address(&platform).port(),
        ..Settings::default()
    };
    let said = Platform::start(settings).unwrap_err().to_string();
    assert!(
        said.starts_with("the platform to try things with cannot start: listening on 127.0.0.1: Address already in use"),
        "{said}"
    );
}

/// JSON as nobody would write it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("1969-12-31T23:59:59Z")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Counts panics on platforms' threads: the server catches them, so that nobody else would see one.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            if thread::current().name() == Some("ft-platform") {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(information);
        }));
    });
}

static PANICS: AtomicU32 = AtomicU32::new(0);

/// Whether it is still there, answers as it should, and never panicked.
fn is_well(platform: &Platform) -> bool {
    Ask::get(CONFIG).send(platform).status == 200 && PANICS.load(Ordering::Relaxed) == 0
}

#[test]
fn no_bytes_make_it_panic() {
    watch_for_panics();
    let platform = serving(Serves::Both);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let right = Ask::post(METRICS, &metrics()).bytes();
    let garbage = prop::collection::vec(any::<u8>(), 0..600);
    let damaged = (
        Just(right.clone()),
        any::<prop::sample::Index>(),
        any::<u8>(),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut bytes, at, byte, end)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(end.index(bytes.len()) + 1);
            bytes
        });
    let bytes = prop_oneof![garbage, damaged];
    runner
        .run(&bytes, |bytes| {
            let mut stream = connect(&platform).unwrap();
            // It may have hung up already.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            Ok(())
        })
        .unwrap();
    assert!(is_well(&platform));
}

#[test]
fn no_body_makes_it_panic_and_each_is_answered() {
    watch_for_panics();
    let platform = serving(Serves::Both);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let calls = prop::sample::select(vec![
        (METRICS, metrics()),
        (HEARTBEAT, heartbeat()),
        (INCIDENT, incident()),
        (INCIDENTS, opening()),
        ("/api/v1/agent/incidents/7", update()),
        ("/api/v1/agent/incidents/7/resolve", resolution()),
        (
            "/api/v1/agent/commands/ack",
            json!({"command_id": 1, "status": "applied", "error": null}),
        ),
    ]);
    let body = (
        calls,
        any::<prop::sample::Index>(),
        any_json(),
        any::<bool>(),
    );
    runner
        .run(&body, |((path, mut body), at, value, whole)| {
            let names: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
            if whole {
                body = value;
            } else {
                body[&names[at.index(names.len())]] = value;
            }
            let answer = Ask::post(path, &body).send(&platform);
            prop_assert!(matches!(answer.status, 200 | 400 | 404), "{:?}", answer);
            Ok(())
        })
        .unwrap();
    assert!(is_well(&platform));
}
