//! What tcpdump saw on the host's link: the witness beside the agent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ftagent::clock::Timestamp;
use rustix::process::Signal;

use super::netns::{FIRST, Lab, Link};
use super::process::{Lines, Running, finish, until};

/// Bytes kept of each packet: every header and the first payload bytes that name a service.
const SNAPLEN: &str = "256";
/// KiB of ring: 32 MiB hold 0.7 s of 300,000 packets a second, and no test here sends a tenth of that.
const BUFFER: &str = "32768";
/// Packets after which a recording ends by itself.
const MOST_PACKETS: &str = "2000000";
const PATIENCE: Duration = Duration::from_secs(10);

/// A recording in progress.
#[derive(Debug)]
pub(crate) struct Recording {
    running: Running,
    log: Lines,
    file: PathBuf,
}

impl Recording {
    /// Starts recording both directions of the host's first link.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::start_on(lab, &FIRST)
    }

    /// Starts recording both directions of the host's end of `link`.
    pub(crate) fn start_on(lab: &Lab, link: &Link) -> Self {
        let file = lab.scratch.path().join(format!("{}.pcap", link.host));
        let mut command = lab.host("tcpdump");
        command
            .args([
                "-n",
                "-i",
                link.host,
                "-s",
                SNAPLEN,
                "-B",
                BUFFER,
                "-c",
                MOST_PACKETS,
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file);
        let mut running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let log = Lines::follow(
            running
                .child
                .stderr
                .take()
                .expect("standard error is piped"),
            |_| {},
        );
        assert!(
            until(PATIENCE, || log.contain("listening on")),
            "tcpdump does not listen: {}",
            log.text()
        );
        Self { running, log, file }
    }

    /// Ends it. Panics if tcpdump lost packets: then it is no witness.
    pub(crate) fn stop(mut self) -> Recorded {
        self.running.stop(Signal::INT, PATIENCE);
        let told = until(PATIENCE, || self.log.contain("dropped by kernel"));
        assert!(
            told && self.log.contain("0 packets dropped by kernel"),
            "tcpdump lost packets: {}",
            self.log.text()
        );
        Recorded {
            file: self.file.clone(),
        }
    }
}

/// A finished recording.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    file: PathBuf,
}

impl Recorded {
    /// The capture file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// When the first packet that `filter` matches was seen.
    pub(crate) fn first(&self, filter: &str) -> Timestamp {
        self.times(filter, &["-c", "1"])
            .first()
            .copied()
            .unwrap_or_else(|| panic!("no packet matches {filter:?} in {}", self.file.display()))
    }

    /// When each packet that `filter` matches was seen.
    pub(crate) fn all(&self, filter: &str) -> Vec<Timestamp> {
        self.times(filter, &[])
    }

    fn times(&self, filter: &str, options: &[&str]) -> Vec<Timestamp> {
        let mut command = Command::new("tcpdump");
        // -q: one line a packet, whatever is in it.
        command.args(["-nn", "-q", "-tt"]).args(options);
        command.arg("-r").arg(&self.file).arg(filter);
        let said = finish(&mut command, PATIENCE).stdout;
        said.lines().filter_map(stamp).collect()
    }
}

/// The most packets, seen at `times`, in any span of one second.
pub(crate) fn peak_pps(mut times: Vec<Timestamp>) -> u64 {
    times.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, at) in times.iter().enumerate() {
        while times
            .get(first)
            .is_some_and(|began| at.millis_since(*began) >= 1_000)
        {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    u64::try_from(most).expect("a recording is bounded")
}

/// The time that a line of `tcpdump -tt` begins with; a line that goes on about a packet begins with none.
fn stamp(line: &str) -> Option<Timestamp> {
    let (seconds, micros) = line.split_whitespace().next()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let micros: u64 = micros.parse().ok()?;
    Some(Timestamp::from_seconds(seconds).plus_nanos(micros * 1_000))
}
