//! The same packets give the same words: replayed twice, shifted in time, or in any order that chance made.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use common::agent::PROGRAM;
use common::manifest::{Listed, published, recorded};
use common::packets::Packets;
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
