//! Replays the captures that `scripts/record.sh` recorded from real generators, and compares what the agent says with
//! what each one is.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::event::Incident;
use common::process::succeed;
use common::replay::replay;
use common::tell;

/// No limit is set below this: a handful of packets a second is no flood on any host.
const LEAST_LIMIT_PPS: u64 = 20;
/// The recorder's promises about sizes: one file, and all of them.
const MOST_BYTES: u64 = 120_000;
const MOST_BYTES_TOGETHER: u64 = 1_200_000;

/// One line of the manifest.
#[derive(Debug)]
struct Capture {
    file: String,
    victim: String,
    families: Vec<String>,
    subtypes: Vec<String>,
    peak_pps: u64,
}

impl Capture {
    fn parse(line: &str) -> Self {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut next = || {
            columns
                .next()
                .unwrap_or_else(|| panic!("a column is missing: {line}"))
        };
        let answers = |column: String| column.split('|').map(str::to_owned).collect();
        Self {
            file: next(),
            victim: next(),
            families: answers(next()),
            subtypes: answers(next()),
            peak_pps: next().parse().expect("peak_pps is a number"),
        }
    }

    fn is_attack(&self) -> bool {
        self.families != ["-"]
    }

    fn path(&self) -> PathBuf {
        data().join(&self.file)
    }

    /// What the agent gets wrong about it, if anything.
    fn problem(&self, incidents: &[&Incident]) -> Option<String> {
        match incidents {
            [] if self.is_attack() => Some("no incident".to_owned()),
            [incident] if self.is_attack() => {
                let right = self.families.contains(&incident.attack_family)
                    && self.subtypes.contains(&incident.attack_subtype);
                (!right).then(|| {
                    format!(
                        "expected {}/{}",
                        self.families.join("|"),
                        self.subtypes.join("|")
                    )
                })
            }
            more if self.is_attack() => Some(format!("{} incidents for one attack", more.len())),
            any => any
                .iter()
                .find(|incident| incident.severity != "low")
                .map(|_| "an incident above low".to_owned()),
        }
    }
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn manifest() -> Vec<Capture> {
    let text = fs::read_to_string(data().join("manifest.tsv")).expect("the manifest is there");
    text.lines().skip(1).map(Capture::parse).collect()
}

/// Judges every capture that `wanted` picks with the limit it gets from `limit_pps`, and prints the verdicts.
fn judge(wanted: impl Fn(&Capture) -> bool, limit_pps: impl Fn(&Capture) -> u64) {
    let mut problems = Vec::new();
    tell!("{:32} {:>6} {:>6}  verdict", "file", "peak", "limit");
    for capture in manifest().iter().filter(|capture| wanted(capture)) {
        let limit = limit_pps(capture).max(LEAST_LIMIT_PPS);
        let replayed = replay(&capture.path(), &capture.victim, limit);
        let incidents = replayed.incidents();
        let verdicts: Vec<String> = incidents
            .iter()
            .map(|of| {
                format!(
                    "{}/{} {} {} %",
                    of.attack_family, of.attack_subtype, of.severity, of.confidence
                )
            })
            .collect();
        let verdict = if verdicts.is_empty() {
            "silent".to_owned()
        } else {
            verdicts.join(", ")
        };
        tell!(
            "{:32} {:>6} {limit:>6}  {verdict}",
            capture.file,
            capture.peak_pps
        );
        if let Some(problem) = capture.problem(&incidents) {
            problems.push(format!("{}: {problem}, found {verdict}", capture.file));
        }
    }
    assert!(
        problems.is_empty(),
        "{} wrong:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn every_recorded_attack_gets_its_name() {
    judge(Capture::is_attack, |capture| capture.peak_pps / 3);
}

#[test]
fn ordinary_use_below_the_limit_stays_silent() {
    judge(
        |capture| !capture.is_attack(),
        |capture| capture.peak_pps * 2,
    );
}

#[test]
fn the_manifest_lists_every_capture_and_nothing_else() {
    let listed: BTreeSet<String> = manifest().into_iter().map(|capture| capture.file).collect();
    let mut together = 0;
    let mut present = BTreeSet::new();
    for entry in fs::read_dir(data()).expect("the captures are there") {
        let entry = entry.expect("the directory can be read");
        let name = entry.file_name().into_string().expect("names are plain");
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "pcap")
        {
            let bytes = entry.metadata().expect("its size can be read").len();
            assert!(bytes <= MOST_BYTES, "{name} has {bytes} bytes");
            together += bytes;
            present.insert(name);
        }
    }
    assert_eq!(listed, present);
    assert!(together <= MOST_BYTES_TOGETHER, "{together} bytes together");
}

/// The table above is worth nothing where nobody sees it.
#[test]
fn what_tests_tell_is_seen_when_they_pass() {
    let this = std::env::current_exe().expect("a test knows where it is");
    let mut passing = Command::new(this);
    passing.args(["--exact", "ordinary_use_below_the_limit_stays_silent"]);
    let said = succeed(&mut passing, Duration::from_secs(120));
    assert!(said.contains("test result: ok. 1 passed"), "{said}");
    let row = said
        .lines()
        .find(|line| line.starts_with("benign_tls_session.pcap"));
    assert!(row.is_some_and(|row| row.ends_with("silent")), "{said}");
}
