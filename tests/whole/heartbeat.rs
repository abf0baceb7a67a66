//! What the agent says about itself: heartbeats in both contracts, and how many connections the host has.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ftagent::demo::platform::{Endpoint, Received, Serves};
use serde_json::{Value, json};

use crate::common::kept::{LEARNED_PPS, learned, leave};
use crate::common::netns::HOST_LINK;
use crate::common::process::Scratch;
use crate::node::Node;

/// Connections that a test opens over each of IPv4 and IPv6. The kernel counts both ends of them.
const CONNECTIONS: u64 = 15;

/// The agent's own: to the platform, and the platform's end of them. One each is usual.
const OWN_MOST: u64 = 8;

/// Longer than the 30 s between two heartbeats, and half as much for the second one's phase.
const TWO_HEARTBEATS: Duration = Duration::from_secs(60);

/// Connections inside the host, IPv4 and IPv6, and what accepts them.
fn connect(node: &Node) -> Vec<TcpStream> {
    node.lab.in_host(|| {
        let mut ends = Vec::new();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a free port");
            let at = listener.local_addr().expect("it has an address");
            for _ in 0..CONNECTIONS {
                ends.push(TcpStream::connect(at).expect("somebody listens"));
                ends.push(listener.accept().expect("somebody comes").0);
            }
        }
        ends
    })
}

/// Waits until traffic is told with a number of connections between these.
fn wait_for_connections(node: &Node, least: u64, most: u64) {
    node.wait(&format!("{least} to {most} connections"), |received| {
        let last = of(received, Endpoint::Metrics).last();
        let connections = last.and_then(|last| last.body.get("conn_count")?.as_u64());
        connections.is_some_and(|connections| (least..=most).contains(&connections))
    });
}

fn of(received: &[Received], endpoint: Endpoint) -> impl Iterator<Item = &Received> {
    let of_it = move |each: &&Received| each.endpoint == endpoint && each.taken;
    received.iter().filter(of_it)
}

/// The first heartbeat.
fn heartbeat(node: &Node) -> Value {
    node.wait("heartbeat", |received| {
        of(received, Endpoint::Heartbeat).next().is_some()
    });
    let received = node.platform.recorded();
    let first = of(&received, Endpoint::Heartbeat).next();
    first.expect("it was waited for").body.clone()
}

#[test]
fn heartbeats_of_the_seed_contract_tell_version_uptime_and_system_and_samples_the_connections() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let agent = node.start(&[]);
    let first = heartbeat(&node);
    let release = fs::read_to_string("/etc/os-release").expect("this host says what it is");
    let os = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .expect("it has a name for people");
    let expected = json!({
        "agent_version": env!("CARGO_PKG_VERSION"),
        "uptime": first["uptime"],
        "os": os.trim_matches('"'),
    });
    assert_eq!(first, expected);
    assert!(
        first["uptime"].as_u64().is_some_and(|uptime| uptime <= 3),
        "{first}"
    );

    wait_for_connections(&node, 0, OWN_MOST);
    let ends = connect(&node);
    let open = 4 * CONNECTIONS;
    wait_for_connections(&node, open, open + OWN_MOST);
    drop(ends);
    wait_for_connections(&node, 0, OWN_MOST);

    let came = node.platform.wait_for(TWO_HEARTBEATS, |received| {
        of(received, Endpoint::Heartbeat).count() >= 2
    });
    assert!(came, "{}", node.heard());
    let received = node.platform.recorded();
    let beats: Vec<_> = of(&received, Endpoint::Heartbeat).take(2).collect();
    let [first, second] = beats[..] else {
        panic!("they were waited for")
    };
    let between = (second.at - first.at).as_secs();
    let uptime = |beat: &Received| beat.body["uptime"].as_u64().expect("it is told");
    let told = uptime(second) - uptime(first);
    assert!(told.abs_diff(between) <= 2, "{told} s in {between} s");
    agent.stop();
    node.assert_all_right();
}

#[test]
fn heartbeats_of_the_resource_contract_tell_what_is_learned_from_the_first_one_on() {
    let Some(mut node) = Node::new(Serves::Resource, "resource") else {
        return;
    };
    let agent = node.start(&[]);
    let told = heartbeat(&node);
    let baseline = [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("baseline_ready", json!(false)),
        ("baseline_quality", json!("learning")),
        ("baseline_warmup_active", json!(false)),
        ("baseline_avg_pps", json!(0.0)),
        ("baseline_p99_pps", json!(0.0)),
        ("baseline_hourly_ready", json!(false)),
        ("baseline_current_hour_p99", json!(0.0)),
    ];
    for (name, expected) in baseline {
        assert_eq!(told[name], expected, "{name}: {told}");
    }
    let seconds = told["baseline_total_samples"].as_u64();
    assert!(seconds <= Some(3), "{told}");
    let connections = connect(&node);
    let open = 4 * CONNECTIONS;
    wait_for_connections(&node, open, open + OWN_MOST);
    drop(connections);
    agent.stop();
    node.assert_all_right();

    let learned = learned();
    let seen = serde_json::to_value(&learned).expect("a state is JSON");
    let seen = seen.pointer("/clock/observed").and_then(Value::as_u64);
    let seen = seen.expect("it counts seconds");
    node = Node::in_lab(node.lab, Serves::Resource, "resource", "");
    node.state = Scratch::new();
    leave(node.state.path(), learned);
    let agent = node.start(&[]);
    let told = heartbeat(&node);
    let pps = json!(LEARNED_PPS as f64);
    let baseline = [
        ("baseline_ready", json!(true)),
        ("baseline_quality", json!("high")),
        ("baseline_warmup_active", json!(false)),
        ("baseline_avg_pps", pps.clone()),
        ("baseline_p99_pps", pps.clone()),
        ("baseline_hourly_ready", json!(true)),
        ("baseline_current_hour_p99", pps),
        ("zero_traffic_warning", json!(false)),
        ("interface", json!(HOST_LINK)),
    ];
    for (name, expected) in baseline {
        assert_eq!(told[name], expected, "{name}: {told}");
    }
    let seconds = told["baseline_total_samples"].as_u64().expect("a number");
    assert!((seen..=seen + 3).contains(&seconds), "{seen}: {told}");
    let interface = &told["available_interfaces"][0];
    assert_eq!(interface["name"], HOST_LINK, "{told}");
    agent.stop();
    node.assert_all_right();
}
