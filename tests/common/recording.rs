//! What tcpdump saw on the host's link: the witness beside the agent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ftagent::clock::Timestamp;
use rustix::process::Signal;

use super::netns::{HOST_LINK, Lab};
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
    /// Starts recording both directions of the host's link.
    pub(crate) fn start(lab: &Lab) -> Self {
        let file = lab.scratch.path().join("recorded.pcap");
        let mut command = lab.host("tcpdump");
        command
            .args([
                "-n",
                "-i",
                HOST_LINK,
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
        let mut command = Command::new("tcpdump");
        command
            .args(["-nn", "-tt", "-c", "1", "-r"])
            .arg(&self.file)
            .arg(filter);
        let said = finish(&mut command, PATIENCE).stdout;
        let (seconds, micros) = said
            .split_whitespace()
            .next()
            .and_then(|stamp| stamp.split_once('.'))
            .unwrap_or_else(|| panic!("no packet matches {filter:?} in {}", self.file.display()));
        let seconds: u64 = seconds.parse().expect("tcpdump -tt prints seconds");
        let micros: u64 = micros
            .parse()
            .expect("tcpdump -tt prints six digits of microseconds");
        Timestamp::from_seconds(seconds).plus_nanos(micros * 1_000)
    }
}
