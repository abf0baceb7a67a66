//! Memory does not grow with the attack: ten million forged sources go through the binary, and the most it ever had
//! resident stays within the bound.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails loudly and says what it measured"
)]

#[path = "common/tell.rs"]
mod tell;
#[allow(dead_code, reason = "shared with the benches, which use more of it")]
#[path = "../benches/common/traffic.rs"]
mod traffic;

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::process::{Command, Stdio};

use ftagent::count::WINDOWS_PER_SECOND;
use tell::tell;
use traffic::{HOST_V4, HOST_V6, LINE_RATE_WINDOW, Senders, Traffic};

/// The bound that the product promises, in KiB.
const MOST_RESIDENT_KIB: u64 = 64 * 1_024;

/// Far below the flood and far above what follows it.
const LIMIT_PPS: &str = "100000";

/// Forged sources.
const SOURCES: usize = 10_000_000;

/// How far the number of sources reported may be off, in percent.
const MOST_ERROR_PERCENT: u64 = 2;

/// After the flood: long enough for the incident to be over, with enough bytes (a hundred seconds of 80 KB) that whoever
/// took them in has dealt with everything before.
const QUIET_SECONDS: u64 = 100;

#[test]
fn ten_million_forged_sources_stay_within_64_mib() {
    for mut flood in [
        Traffic::syn_flood(LINE_RATE_WINDOW, Senders::Random),
        Traffic::syn_flood_v6(LINE_RATE_WINDOW),
    ] {
        let (resident_kib, said) = replayed(&mut flood);
        tell!("ten million forged sources: {resident_kib} KiB resident at most");
        assert!(
            resident_kib <= MOST_RESIDENT_KIB,
            "{resident_kib} KiB resident"
        );
        let sources = sources_of_the_incident(&said);
        assert!(
            sources.abs_diff(SOURCES as u64) <= SOURCES as u64 / 100 * MOST_ERROR_PERCENT,
            "{sources} sources reported of {SOURCES}"
        );
    }
}

/// Replays `flood` through a pipe; the most that was resident, in KiB, and what was printed.
fn replayed(flood: &mut Traffic) -> (u64, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ftagent"))
        .args(["replay", "-", "--json", "--threshold-pps", LIMIT_PPS])
        .args([
            "--host",
            &HOST_V4.to_string(),
            "--host",
            &HOST_V6.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdout = child.stdout.take().expect("standard output is piped");
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).map(|_| said)
    });
    let stdin = child.stdin.take().expect("standard input is piped");
    let mut file = BufWriter::with_capacity(1 << 16, stdin);
    let mut window = flood
        .write_pcap(SOURCES, &mut file)
        .expect("the flood can be written");
    let quiet = Traffic::mixed(20);
    for _ in 0..QUIET_SECONDS * WINDOWS_PER_SECOND {
        quiet
            .write_records(window, quiet.len(), &mut file)
            .expect("what follows can be written");
        window = window.next();
    }
    file.flush().expect("the rest can be written");
    let resident_kib = most_resident_kib(child.id());
    drop(file);
    assert!(child.wait().expect("it ends").success());
    let said = reader.join().expect("reading does not panic");
    (resident_kib, said.expect("what it prints is text"))
}

/// The most memory a process ever had resident.
fn most_resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it is running");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_else(|| panic!("no VmHWM in {status}"));
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse().expect("VmHWM is a number")
}

/// The number of sources in the one incident's last event.
fn sources_of_the_incident(said: &str) -> u64 {
    let resolved: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| {
            line.get("event")
                .is_some_and(|event| event == "incident_resolved")
        })
        .collect();
    let [only] = resolved.as_slice() else {
        panic!("one incident was expected: {said}");
    };
    only.pointer("/incident/source_ip_count")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_else(|| panic!("no number of sources: {only}"))
}
