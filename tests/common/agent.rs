//! The agent itself, running in the host's namespace of a lab.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ftagent::clock::{self, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

use super::event::{Event, Second, Seen, told};
use super::netns::{HOST_LINK, Lab};
use super::process::{Lines, Running, Scratch, until};

/// The binary under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ftagent");
/// What the agent logs once packets reach it.
const WATCHING: &str = "watching";
/// Start to watching takes at most a second (the product's budget); a busy machine gets ten.
const START: Duration = Duration::from_secs(10);
/// SIGTERM to exit, the product's budget.
const STOP: Duration = Duration::from_secs(3);

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// The most that there ever was.
    pub(crate) most_kib: u64,
    /// Of it, pages of the program's own file, as they are now: hardly any of these are ever given back.
    pub(crate) program_kib: u64,
}

/// `ftagent run --local --events -` at work.
#[derive(Debug)]
pub(crate) struct Agent {
    running: Running,
    lines: Receiver<(Timestamp, String)>,
    seen: Vec<Seen>,
    log: Lines,
    /// Its state directory, removed with it, unless the test keeps that.
    own_state: Option<Scratch>,
}

impl Agent {
    /// Starts it on the host's link, with nothing learned, and waits until it watches.
    pub(crate) fn start(lab: &Lab, options: &[&str]) -> Self {
        let state = Scratch::new();
        let mut agent = Self::start_in(lab, &[HOST_LINK], state.path(), options);
        agent.own_state = Some(state);
        agent
    }

    /// Starts it on `links` of the host, with what it learned before in `state`, and waits until it watches.
    pub(crate) fn start_in(lab: &Lab, links: &[&str], state: &Path, options: &[&str]) -> Self {
        Self::start_as(
            lab.host(PROGRAM),
            links,
            state,
            &[&["--local"], options].concat(),
        )
    }

    /// Starts it under the service manager that listens at `socket` and restarts it when it does not hear of it for
    /// `patience`, on the host's link, and waits until it watches.
    pub(crate) fn start_service(
        lab: &Lab,
        socket: &Path,
        patience: Duration,
        options: &[&str],
    ) -> Self {
        let state = Scratch::new();
        // The manager names the process it waits for.
        let mut command = lab.host("sh");
        command
            .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\"", PROGRAM])
            .env("NOTIFY_SOCKET", socket)
            .env("WATCHDOG_USEC", patience.as_micros().to_string());
        let options = [&["--local"], options].concat();
        let mut agent = Self::start_as(command, &[HOST_LINK], state.path(), &options);
        agent.own_state = Some(state);
        agent
    }

    /// The same as `command` starts it, which leads to [`PROGRAM`].
    pub(crate) fn start_as(
        mut command: Command,
        links: &[&str],
        state: &Path,
        options: &[&str],
    ) -> Self {
        command.args(["run", "--events", "-", "--state-dir"]);
        command.arg(state);
        for link in links {
            command.args(["--interface", link]);
        }
        command
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let (sender, lines) = channel();
        let stdout = running
            .child
            .stdout
            .take()
            .expect("standard output is piped");
        Lines::follow(stdout, move |line| {
            let _ = sender.send((clock::now(), line.to_owned()));
        });
        let stderr = running
            .child
            .stderr
            .take()
            .expect("standard error is piped");
        let log = Lines::follow(stderr, |_| {});
        let mut agent = Self {
            running,
            lines,
            seen: Vec::new(),
            log,
            own_state: None,
        };
        let watching = until(START, || {
            agent.log.contain(WATCHING) || agent.running.ended().is_some()
        });
        assert!(
            watching && agent.log.contain(WATCHING),
            "the agent does not watch; it said:\n{}",
            agent.log.text()
        );
        agent
    }

    /// The first event, of those so far or to come within `limit`, that is `wanted`.
    pub(crate) fn wait_for(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Option<Seen> {
        let mut looked_at = 0;
        let mut found = None;
        until(limit, || {
            self.read();
            found = self
                .seen
                .iter()
                .skip(looked_at)
                .find(|seen| wanted(&seen.event))
                .cloned();
            looked_at = self.seen.len();
            found.is_some()
        });
        found
    }

    /// The first event from now on, within `limit`, that is `wanted`.
    pub(crate) fn next(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Option<Seen> {
        let from = self.seen.len();
        let mut found = None;
        until(limit, || {
            self.read();
            let mut new = self.seen.iter().skip(from);
            found = new.find(|seen| wanted(&seen.event)).cloned();
            found.is_some()
        });
        found
    }

    /// Stops every thread of it for `pause`, as a host without a moment to spare does.
    pub(crate) fn freeze(&self, pause: Duration) {
        self.signal(Signal::STOP);
        std::thread::sleep(pause);
        self.signal(Signal::CONT);
    }

    /// Whether it logs a line with `text` within `limit`.
    pub(crate) fn says(&self, text: &str, limit: Duration) -> bool {
        until(limit, || self.log.contain(text))
    }

    /// Every second it has told so far.
    pub(crate) fn seconds(&mut self) -> Vec<Second> {
        self.read();
        let events = self.seen.iter().map(|seen| &seen.event);
        events
            .filter_map(|event| match event {
                Event::Second(second) => Some(second.clone()),
                _ => None,
            })
            .collect()
    }

    /// Whether it has ended by itself within `limit`.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        until(limit, || self.running.ended().is_some());
        self.running.ended()
    }

    /// The memory that it ever had resident at most.
    pub(crate) fn resident(&self) -> Resident {
        let read = |file| {
            let path = format!("/proc/{}/{file}", self.running.child.id());
            std::fs::read_to_string(path).expect("the agent is running")
        };
        let kib = |line: &str| -> Option<u64> {
            let (_, value) = line.split_once(':')?;
            value.trim().strip_suffix(" kB")?.parse().ok()
        };
        let status = read("status");
        let most = status.lines().find(|line| line.starts_with("VmHWM:"));
        let mut program_kib = 0;
        let mut is_program = false;
        for line in read("smaps").lines() {
            // A mapping begins with its addresses and ends with the path of its file.
            if line
                .split_whitespace()
                .next()
                .is_some_and(|word| word.contains('-'))
            {
                is_program = line.ends_with(PROGRAM);
            } else if is_program && line.starts_with("Rss:") {
                program_kib += kib(line).unwrap_or_default();
            }
        }
        assert!(program_kib > 0, "{PROGRAM} is not what runs");
        Resident {
            most_kib: most.and_then(kib).expect("the kernel tells it"),
            program_kib,
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// What it has told and logged so far, for a failing test.
    pub(crate) fn told(&mut self) -> String {
        self.read();
        format!("{}\nlog:\n{}", told(&self.seen), self.log.text())
    }

    /// Ends it as systemd would, and gives every event it told. Panics unless it ends well and in time.
    pub(crate) fn stop(mut self) -> Vec<Seen> {
        let status = self.running.stop(Signal::TERM, STOP);
        assert_eq!(
            status.code(),
            Some(0),
            "SIGTERM ends the agent well; it said:\n{}",
            self.log.text()
        );
        // The channel closes with the pipe, so this reads to the last line.
        self.seen.extend(self.lines.iter().map(parsed));
        self.seen
    }

    /// Sends it `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.running.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a child has a positive id");
        kill_process(pid, signal).expect("a signal can be sent to the agent");
    }

    fn read(&mut self) {
        self.seen.extend(self.lines.try_iter().map(parsed));
    }
}

fn parsed((at, line): (Timestamp, String)) -> Seen {
    Seen {
        at,
        event: Event::parse(&line),
    }
}
