//! What the program says about two dozen captures, to the byte.
//!
//! `UPDATE_GOLDEN=1` writes the files in `tests/golden` anew instead of comparing; `tests/golden/README.md` says more.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test panics when it cannot go on, and says what it wrote"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::agent::PROGRAM;
use common::manifest::{Listed, published, recorded};
use common::process::succeed;
use common::tell;

/// One of each kind of verdict: by flags, by payload, by fragments, two at once, IPv6, and none.
const RECORDED: [&str; 8] = [
    "syn_flood.pcap",
    "dns_amplification.pcap",
    "http_get_flood.pcap",
    "icmp_flood_v6.pcap",
    "ping_of_death.pcap",
    "udp_fragment_flood.pcap",
    "multi_vector.pcap",
    "benign_http_clients.pcap",
];

/// Captures that nobody here made: every attack, and harmless ones of three link types.
const PUBLISHED: [&str; 15] = [
    "attacks/dns_amp_ddostheinter_net.pcap",
    "attacks/frag_tiny_tcp_garbage.pcap",
    "attacks/http_hulk_get.pcap",
    "attacks/http_slowloris_150.pcap",
    "attacks/icmp6_rsmurf.pcap",
    "attacks/syn_cic2019_random_ports.pcap",
    "attacks/syn_hping3_closed_port.pcapng",
    "attacks/syn_spoofed_burst_8080.pcap",
    "attacks/tcp_connect_flood_ndsec1.pcap",
    "attacks/tcp_synack_reflection_lowrate.pcap",
    "attacks/udp_amp_isakmp_4500.pcap",
    "attacks/udp_amp_ssdp_onhost_lowrate.pcap",
    "benign/kakaotalk_sll.pcap",
    "benign/rdp_null_linktype.pcap",
    "benign/web_mixed_1304pps.pcap",
];

/// Captures whose explanation is compared as people read it.
const EXPLAINED: [&str; 3] = [
    "syn_flood.pcap",
    "dns_amplification.pcap",
    "multi_vector.pcap",
];

/// Longer than any replay here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// `ftagent replay` on a capture, told by its name so that no line depends on where it lies.
fn replay(capture: &Listed, options: &[&str]) -> String {
    let folder = capture.path.parent().expect("a capture is in a folder");
    let name = capture.path.file_name().expect("a capture has a name");
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(folder)
        .arg("replay")
        .arg(name)
        .args(options);
    if capture.is_attack() {
        let limit = capture.crossed_limit_pps().to_string();
        command.args(["--threshold-pps", &limit]);
    }
    if let Some(host) = &capture.host {
        command.args(["--host", host]);
    }
    succeed(&mut command, PATIENCE)
}

fn events(capture: &Listed) -> String {
    if capture.is_attack() {
        replay(capture, &["--json"])
    } else {
        replay(capture, &["--json", "--seconds"])
    }
}

/// The golden file of a capture.
fn golden(capture: &Listed, extension: &str) -> PathBuf {
    let name = Path::new(&capture.file)
        .file_stem()
        .expect("a capture has a name");
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension(extension)
}

/// Compares what was `told` with the golden file, or writes it. Gives the first line that differs, both ways.
fn difference(told: &str, file: &Path) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(file, told).expect("a golden file can be written");
        tell!("wrote {}", file.display());
        return None;
    }
    let Ok(golden) = fs::read_to_string(file) else {
        return Some(format!(
            "{}: not there; UPDATE_GOLDEN=1 writes it",
            file.display()
        ));
    };
    if golden == told {
        return None;
    }
    let (mut expected, mut found) = (golden.lines(), told.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), found.next()) {
            (None, None) => return Some(format!("{}: line ends differ", file.display())),
            (left, right) if left == right => {}
            (left, right) => {
                return Some(format!(
                    "{} line {number} (UPDATE_GOLDEN=1 accepts it)\nexpected: {}\nfound:    {}",
                    file.display(),
                    left.unwrap_or("(the end)"),
                    right.unwrap_or("(the end)")
                ));
            }
        }
    }
}

/// The captures named, from a list that may be empty but not incomplete.
fn pick(list: Vec<Listed>, names: &[&str]) -> Vec<Listed> {
    if list.is_empty() {
        return list;
    }
    let find = |name: &&str| {
        list.iter()
            .find(|capture| capture.file == *name)
            .unwrap_or_else(|| panic!("{name} is not in its manifest"))
            .clone()
    };
    names.iter().map(find).collect()
}

fn expect_golden(captures: &[Listed], extension: &str, tell: impl Fn(&Listed) -> String) {
    let differences: Vec<String> = captures
        .iter()
        .filter_map(|capture| difference(&tell(capture), &golden(capture, extension)))
        .collect();
    assert!(differences.is_empty(), "\n{}", differences.join("\n\n"));
}

#[test]
fn events_of_recorded_captures_are_as_they_were() {
    expect_golden(&pick(recorded(), &RECORDED), "jsonl", events);
}

#[test]
fn events_of_published_captures_are_as_they_were() {
    let published = published();
    let attacks = published.iter().filter(|capture| capture.is_attack());
    let left_out = attacks.filter(|capture| !PUBLISHED.contains(&capture.file.as_str()));
    let left_out: Vec<_> = left_out.map(|capture| &capture.file).collect();
    assert!(left_out.is_empty(), "not compared: {left_out:?}");
    expect_golden(&pick(published, &PUBLISHED), "jsonl", events);
}

#[test]
fn explanations_read_as_they_did() {
    expect_golden(&pick(recorded(), &EXPLAINED), "txt", |capture| {
        replay(capture, &["--explain"])
    });
}
