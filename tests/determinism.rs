//! The same packets give the same words: replayed twice, shifted in time, or in any order that chance made.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test panics when it cannot go on, and says what it could not check"
)]

mod common;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use ftagent::clock::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use common::agent::PROGRAM;
use common::manifest::{Listed, published, recorded};
use common::packets::{Packet, Packets};
use common::process::{Scratch, succeed};

/// Longer than any replay here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A second; more than a minute; the hour, the day and the year turn. The last one crosses leap days and moves the hour
/// of the week.
const SHIFTS_SECONDS: [u64; 5] = [1, 61, 3_600, 86_399, 10 * 365 * 86_400];

/// Everything the program can say about `file`.
fn everything(file: &Path, listed: &Listed) -> String {
    let mut command = Command::new(PROGRAM);
    command
        .arg("replay")
        .arg(file)
        .args(["--json", "--seconds", "--explain", "--threshold-pps"])
        .arg(listed.crossed_limit_pps().to_string());
    if let Some(host) = &listed.host {
        command.args(["--host", host]);
    }
    succeed(&mut command, PATIENCE)
}

/// The captures that are cheap enough to replay often: all of ours, and every attack of others.
fn captures() -> Vec<Listed> {
    let others = published().into_iter().filter(Listed::is_attack);
    recorded().into_iter().chain(others).collect()
}

/// What `told` would be if everything had happened `seconds` later.
fn later(told: &str, seconds: u64) -> String {
    let mut shifted = String::with_capacity(told.len());
    // A time or an id stands between quotes, blanks, brackets or commas.
    for part in told.split_inclusive(['"', ' ', '(', ')', ',', '\n']) {
        let word = part.trim_end_matches(['"', ' ', '(', ')', ',', '\n', '.']);
        let rest = part.get(word.len()..).unwrap_or_default();
        match later_time(word, seconds).or_else(|| later_id(word, seconds)) {
            Some(later) => shifted.push_str(&later),
            None => shifted.push_str(word),
        }
        shifted.push_str(rest);
    }
    shifted
}

/// A time as the program writes it: `2026-03-15T09:44:18.050Z`.
fn later_time(word: &str, seconds: u64) -> Option<String> {
    if !word.ends_with('Z') {
        return None;
    }
    let at = humantime::parse_rfc3339(word).ok()?;
    let since_epoch = at.duration_since(UNIX_EPOCH).ok()?;
    let later = UNIX_EPOCH + since_epoch + Duration::from_secs(seconds);
    Some(humantime::format_rfc3339_millis(later).to_string())
}

/// An incident's id: thirteen digits of milliseconds, and a sequence number.
fn later_id(word: &str, seconds: u64) -> Option<String> {
    let (millis, sequence) = word.split_once('-')?;
    if millis.len() != 13 {
        return None;
    }
    let millis: u64 = millis.parse().ok()?;
    let sequence: u32 = sequence.parse().ok()?;
    Some(format!("{}-{sequence}", millis + seconds * 1_000))
}

/// Fails with the first line that differs.
fn assert_same(what: &str, expected: &str, found: &str) {
    let pairs = expected.lines().zip(found.lines());
    let different = pairs
        .enumerate()
        .find(|(_, (expected, found))| expected != found);
    if let Some((line, (expected, found))) = different {
        assert_eq!(expected, found, "{what}, line {}", line + 1);
    }
    assert_eq!(expected, found, "{what}");
}

#[test]
fn replaying_twice_gives_the_same_bytes() {
    for capture in captures() {
        let first = everything(&capture.path, &capture);
        let second = everything(&capture.path, &capture);
        assert_same(&capture.file, &first, &second);
    }
}

#[test]
fn the_same_packets_at_another_time_are_the_same_incidents_at_that_time() {
    let scratch = Scratch::new();
    let file = scratch.path().join("shifted.pcap");
    for capture in captures() {
        let packets = Packets::read(&capture.path);
        packets.write_pcap(&file, 0);
        let original = everything(&file, &capture);
        for seconds in SHIFTS_SECONDS {
            packets.write_pcap(&file, seconds);
            let shifted = everything(&file, &capture);
            let what = format!("{} {seconds} s later", capture.file);
            assert_same(&what, &later(&original, seconds), &shifted);
        }
    }
}

#[test]
fn pcap_and_pcapng_of_the_same_packets_tell_the_same() {
    let scratch = Scratch::new();
    let (pcap, pcapng) = (
        scratch.path().join("packets.pcap"),
        scratch.path().join("packets.pcapng"),
    );
    for capture in recorded() {
        let packets = Packets::read(&capture.path);
        packets.write_pcap(&pcap, 0);
        packets.write_pcapng(&pcapng);
        let told = everything(&capture.path, &capture);
        assert_same(&capture.file, &told, &everything(&pcap, &capture));
        assert_same(&capture.file, &told, &everything(&pcapng, &capture));
    }
}

#[test]
fn times_and_ids_are_found_and_moved() {
    let told = r#"{"id":"1795344887350-0","at":"2026-11-22T23:59:59.006Z","said":["Since 2026-11-22T10:54:47.006Z. It"]}"#;
    let moved = r#"{"id":"1795344888350-0","at":"2026-11-23T00:00:00.006Z","said":["Since 2026-11-22T10:54:48.006Z. It"]}"#;
    assert_eq!(later(told, 1), moved);
    assert_eq!(
        later("10.0.0.1-2, 12 packets/s (1-2)", 1),
        "10.0.0.1-2, 12 packets/s (1-2)"
    );
}

/// The host in made-up traffic.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// What a burst is made of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Syn,
    Udp,
    /// The host's own datagrams.
    Outbound,
    /// Between two others.
    Foreign,
    /// Cut inside the link-layer header.
    Cut,
}

/// Packets at a steady pace.
#[derive(Clone, Debug)]
struct Burst {
    kind: Kind,
    start_millis: u64,
    packets: u64,
    pause_micros: u64,
    sources: u64,
}

impl Burst {
    fn packets(&self) -> impl Iterator<Item = Packet> + '_ {
        // 2026-03-15T09:44:18Z, in the middle of a second.
        let start = Timestamp::from_nanos(1_773_567_858_300_000_000)
            .plus_nanos(self.start_millis * 1_000_000);
        (0..self.packets).map(move |number| {
            let at = start.plus_nanos(number * self.pause_micros * 1_000);
            let other = u32::from(Ipv4Addr::new(198, 18, 0, 1))
                + u32::try_from(number % self.sources).expect("few sources");
            let other = Ipv4Addr::from(other);
            match self.kind {
                Kind::Syn => Packet::syn(at, other, HOST),
                Kind::Udp => Packet::udp(at, other, HOST),
                Kind::Outbound => Packet::udp(at, HOST, other),
                Kind::Foreign => Packet::udp(at, other, Ipv4Addr::new(192, 0, 2, 99)),
                Kind::Cut => Packet::cut(at),
            }
        })
    }
}

/// Bursts within half a minute; one in eight is late by up to a quarter of an hour, so that silence, gaps in the
/// recording and incidents that come back occur.
fn bursts() -> impl Strategy<Value = Vec<Burst>> {
    let kind = prop_oneof![
        4 => Just(Kind::Syn),
        4 => Just(Kind::Udp),
        1 => Just(Kind::Outbound),
        1 => Just(Kind::Foreign),
        1 => Just(Kind::Cut),
    ];
    let start = prop_oneof![7 => 0_u64..30_000, 1 => 30_000_u64..900_000];
    let burst = (kind, start, 1_u64..1_500, 200_u64..20_000, 1_u64..300).prop_map(
        |(kind, start_millis, packets, pause_micros, sources)| Burst {
            kind,
            start_millis,
            packets,
            pause_micros,
            sources,
        },
    );
    proptest::collection::vec(burst, 1..8)
}

fn number(value: &Value, name: &str) -> u64 {
    value
        .get(name)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{name} is no number in {value}"))
}

/// The sum of all numbers in an object.
fn sum(value: &Value, name: &str) -> u64 {
    let object = value.get(name).and_then(Value::as_object);
    let numbers = object.into_iter().flat_map(|object| object.values());
    numbers.filter_map(Value::as_u64).sum()
}

/// What the summary and the seconds count is what was in the file.
fn check_tallies(lines: &[Value], packets: usize) {
    let (summary, events) = lines.split_last().expect("there is a summary");
    assert_eq!(summary["event"], "summary");
    assert_eq!(number(summary, "packets"), packets as u64);
    let told = number(summary, "inbound")
        + number(summary, "outbound")
        + number(summary, "foreign")
        + sum(summary, "undecodable");
    assert_eq!(
        told, packets as u64,
        "every packet is in one tally: {summary}"
    );
    let seconds = || events.iter().filter(|line| line["event"] == "second");
    let by_second = |name: &str| seconds().map(|second| number(second, name)).sum::<u64>();
    assert_eq!(by_second("pps"), number(summary, "inbound"));
    assert_eq!(by_second("outbound_pps"), number(summary, "outbound"));
    assert_eq!(by_second("foreign"), number(summary, "foreign"));
    assert_eq!(by_second("late"), number(summary, "late"));
    for second in seconds() {
        assert_eq!(sum(second, "classes"), number(second, "pps"), "{second}");
    }
}

/// Every opening, and every coming back, has one end; peaks are over the limit that was crossed.
fn check_incidents(lines: &[Value], limit_pps: u64) {
    let mut open: BTreeMap<String, bool> = BTreeMap::new();
    let mut opened = 0;
    for line in lines {
        let event = line["event"].as_str().unwrap_or_default();
        let Some(incident) = line.get("incident") else {
            continue;
        };
        let id = incident["id"].as_str().expect("an id is text").to_owned();
        let before = open.get(&id).copied();
        match (event, line["change"].as_str()) {
            ("incident_opened", None) => {
                assert_eq!(before, None, "opened once: {line}");
                opened += 1;
            }
            ("incident_updated", Some("reopened")) => {
                assert_eq!(before, Some(false), "only what ended comes back: {line}");
            }
            ("incident_updated", Some(_)) | ("incident_resolved", None) => {
                assert_eq!(before, Some(true), "only what is open goes on: {line}");
            }
            other => panic!("{other:?}: {line}"),
        }
        open.insert(id, event != "incident_resolved");
        assert!(number(incident, "peak_pps") >= limit_pps, "{line}");
        assert_eq!(number(incident, "threshold_pps"), limit_pps);
    }
    assert!(open.values().all(|open| !open), "all have ended: {open:?}");
    let summary = lines.last().expect("there is a summary");
    assert_eq!(number(summary, "incidents"), opened);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_traffic_is_counted_once_and_every_incident_ends(
        bursts in bursts(),
        limit_pps in 20_u64..2_000,
        sorted in prop::bool::weighted(0.8),
    ) {
        let mut packets: Vec<Packet> = bursts.iter().flat_map(Burst::packets).collect();
        if sorted {
            packets.sort_by_key(|packet| packet.at);
        }
        let packets = Packets::ethernet(packets);
        let scratch = Scratch::new();
        let file = scratch.path().join("any.pcap");
        packets.write_pcap(&file, 0);
        let mut command = Command::new(PROGRAM);
        command.arg("replay").arg(&file).args(["--json", "--seconds", "--explain", "--host"]);
        command.args([&HOST.to_string(), "--threshold-pps", &limit_pps.to_string()]);
        let told = succeed(&mut command, PATIENCE);
        let lines: Vec<Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).expect("every line is JSON"))
            .collect();
        check_tallies(&lines, packets.len());
        check_incidents(&lines, limit_pps);
    }
}
