//! `ftagent demo` as a person and a script see it: played twenty times as fast, it shows the whole life of an incident,
//! and ends when it is told to.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking, and one that is skipped says so"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::process::{Lines, Running, finish, until};
use ftagent::clock;
use rustix::process::Signal;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ftagent");

/// Far longer than 47 seconds take at twenty times their speed.
const LIMIT: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("demo").args(arguments);
    command
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {line}"))
}

#[test]
fn it_shows_an_incident_from_both_ends_of_the_wire() {
    let done = finish(&mut demo(&["--json", "--speed", "20"]), LIMIT);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stderr, "");
    let lines: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut events: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for line in &lines {
        assert_eq!(line["schema"], 1, "{line}");
        events.entry(text(line, "event")).or_default().push(line);
    }
    let of = |event: &str| events.get(event).cloned().unwrap_or_default();

    // What the agent says.
    assert_eq!(text(&lines[0], "event"), "demo_ready");
    let configured = of("demo_configured");
    assert_eq!(configured[0]["pps_threshold"], 80);
    assert_eq!(configured[0]["played_ms"], 0, "before the first packet");
    let [opened] = of("incident_opened")[..] else {
        panic!("one incident: {:?}", of("incident_opened"));
    };
    assert!(of("incident_updated").len() >= 3);
    let [resolved] = of("incident_resolved")[..] else {
        panic!("one end: {:?}", of("incident_resolved"));
    };
    assert_eq!(opened["incident"]["id"], resolved["incident"]["id"]);
    let incident = &resolved["incident"];
    assert_eq!(incident["attack_subtype"], "syn_flood");
    assert_eq!(incident["severity"], "high");
    assert_eq!(incident["threshold_pps"], 80);
    assert!((45..=50).contains(&of("second").len()));

    // What the platform heard.
    let heard = of("demo_received");
    let by_endpoint = |endpoint: &str| -> Vec<&Value> {
        let is_it = |line: &&&Value| line["endpoint"] == endpoint;
        heard.iter().filter(is_it).copied().collect()
    };
    assert!(heard.iter().all(|line| line["status"] == 200), "{heard:?}");
    let incidents = by_endpoint("incident");
    assert!(incidents.len() >= 3, "{incidents:?}");
    let last = &incidents.last().unwrap()["body"];
    assert_eq!(last["attack_family"], "syn_flood");
    assert_eq!(last["peak_pps"], incident["peak_pps"]);
    assert!(incidents[0]["told_after_ms"].is_u64());
    let mut told: Vec<&str> = by_endpoint("metrics")
        .iter()
        .map(|line| text(&line["body"], "recorded_at"))
        .collect();
    told.sort_unstable();
    let found: Vec<String> = of("second")
        .iter()
        .map(|line| text(line, "recorded_at").replace(".000Z", "Z"))
        .collect();
    assert_eq!(told, found, "each second once");
    assert!(!by_endpoint("heartbeat").is_empty() && !by_endpoint("config").is_empty());

    let summary = lines.last().unwrap();
    assert_eq!(text(summary, "event"), "demo_summary");
    assert_eq!(
        (&summary["whole"], &summary["refused"]),
        (&true.into(), &0.into())
    );
    assert_eq!(summary["incidents"], 1);
    assert_eq!(summary["received_incident_calls"], incidents.len());
}

#[test]
fn a_person_reads_sentences() {
    let done = finish(&mut demo(&["--speed", "20"]), LIMIT);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for sentence in [
        "No packet is sent.",
        "platform: wants an incident from 80 packets/s on",
        "platform: the node is online",
        "traffic: ",
        "attack opened: syn_flood/syn_flood",
        "platform: the incident is opened, ",
        "attack resolved: syn_flood/syn_flood high",
        "reached the limit of 80 packets/s, set on the platform",
        "platform: the incident is updated a last time",
        "Incidents: 1, told to the platform ",
        "found nothing wrong with any of it.",
    ] {
        assert!(
            done.stdout.contains(sentence),
            "{sentence}: {}",
            done.stdout
        );
    }
    let key = ftagent::demo::platform::Settings::default().key;
    assert!(!done.stdout.contains(&key));
}

#[test]
fn ctrl_c_ends_it_cleanly() {
    let mut running = Running::start(demo(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let out = Lines::follow(running.child.stdout.take().unwrap(), |_| {});
    let errors = Lines::follow(running.child.stderr.take().unwrap(), |_| {});
    assert!(
        until(LIMIT, || out.contain("traffic: ")),
        "{}",
        errors.text()
    );
    let start = clock::monotonic();
    let status = running.stop(Signal::INT, LIMIT);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(status.code(), Some(0));
    assert!(
        until(LIMIT, || out.contain(", then ended. Incidents: 0")),
        "{}",
        out.text()
    );
    assert_eq!(errors.text(), "");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let mut running = Running::start(demo(&["--json"]).stdout(Stdio::piped()));
    let mut first = String::new();
    let mut out = BufReader::new(running.child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert!(first.contains("demo_ready"), "{first}");
    drop(out);
    assert_eq!(running.wait(LIMIT).code(), Some(0));
}

#[test]
fn a_speed_that_makes_no_sense_is_refused() {
    for speed in ["0", "21", "-1", "fast"] {
        let done = finish(&mut demo(&[&format!("--speed={speed}")]), LIMIT);
        assert_eq!(done.code, Some(2), "{speed}");
        assert!(done.stderr.contains("--speed"), "{}", done.stderr);
    }
}
