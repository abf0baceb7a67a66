//! What the ledger's own tests share: a directory that goes with the test, reports, seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Sample, Settings};
use crate::clock::Timestamp;
use crate::incident::Report;

/// A directory of its own for each test, removed at its end.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ftagent-ledger-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The place itself.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The state directory in it, which is not there yet.
    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Settings that keep everything in it, and try a failing disk again at once.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            dir: Some(self.state()),
            retry: Duration::from_millis(10),
            ..Settings::default()
        }
    }

    /// What lies in the state directory, without what SQLite keeps while it works.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with("db-wal") && !name.ends_with("db-shm"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The report of a recorded attack, as if it were of the incident `id`, at its `telling`-th.
pub(super) fn report(id: &str, telling: u64) -> Report {
    let line = include_str!("../../tests/golden/syn_flood.jsonl");
    let event: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let mut report: Report = serde_json::from_value(event["incident"].clone()).unwrap();
    id.clone_into(&mut report.id);
    report.packets = telling;
    report
}

/// A second with `pps` packets, all TCP.
pub(super) fn sample(second: u64, pps: u64) -> Sample {
    Sample {
        start: Timestamp::from_seconds(second),
        span_seconds: 1,
        pps,
        pps_max: pps,
        bps: pps * 800,
        bps_max: pps * 800,
        tcp_permille: 1_000,
        udp_permille: 0,
        icmp_permille: 0,
        connections: 7,
        threshold_pps: Some(10_000),
    }
}
