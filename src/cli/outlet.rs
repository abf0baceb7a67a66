//! Where a running agent's outcomes go: to the log, and to whoever reads `--events`.
//!
//! Each has a thread and a bounded queue of its own, so that neither a stuck journal nor a reader that has stopped can
//! hold up detection, or each other.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Failure;
use super::output::{JsonLines, sentence};
use crate::agent::{Notice, Sink};
use crate::clock::{self, Timestamp};
use crate::engine::Outcome;
use crate::incident::{Change, Event};

/// Outcomes that may wait to be written: a minute of seconds. A reader that is slower loses events, never packets.
const WAITING_OUTCOMES: usize = 64;

/// Lines that may wait to be logged: an incident makes at most one a second.
const WAITING_LINES: usize = 64;

/// How long the queues are given to empty when the agent stops; SIGTERM to exit is 3 s.
const CLOSING: Duration = Duration::from_secs(2);

/// What there is to log.
enum Line {
    /// Something happened to an incident.
    Event(Event),
    /// Something happened to the agent.
    Notice(Notice),
    /// So many outcomes were not written because the reader of `--events` is too slow.
    NotWritten(u64),
}

/// The threads that log and write.
pub(super) struct Outlet(Vec<JoinHandle<()>>);

/// The detector's end of the queues.
struct Queues {
    lines: SyncSender<Line>,
    events: Option<SyncSender<Outcome>>,
    not_written: u64,
}

/// Starts the threads. Events go to the file `events`, or to standard output when that is `-`.
pub(super) fn open(
    events: Option<&Path>,
    seconds: bool,
) -> Result<(Box<dyn Sink>, Outlet), Failure> {
    let mut threads = Vec::new();
    let (lines, waiting) = sync_channel(WAITING_LINES);
    threads.push(spawn("ft-log", move || log_lines(&waiting))?);
    let events = match events {
        Some(path) => {
            let json = JsonLines::new(BufWriter::new(open_events(path)?), seconds, false);
            let (queue, outcomes) = sync_channel(WAITING_OUTCOMES);
            threads.push(spawn("ft-events", move || write_events(json, &outcomes))?);
            Some(queue)
        }
        None => None,
    };
    let queues = Queues {
        lines,
        events,
        not_written: 0,
    };
    Ok((Box::new(queues), Outlet(threads)))
}

impl Outlet {
    /// Waits until everything is logged and written, for a while: somebody who does not read cannot keep us.
    pub(super) fn close(self) {
        let deadline = clock::monotonic() + CLOSING;
        while !self.0.iter().all(JoinHandle::is_finished) && clock::monotonic() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Sink for Queues {
    fn outcome(&mut self, outcome: Outcome, _at: Timestamp) {
        for event in outcome.events.iter().filter(|event| is_worth_a_line(event)) {
            // Whoever reads the log has lost more by now than this line.
            let _ = self.lines.try_send(Line::Event(event.clone()));
        }
        let Some(events) = &self.events else { return };
        if outcome.second.is_none() && outcome.events.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_)) = events.try_send(outcome) {
            self.not_written += 1;
            // Said at 1, 2, 4, 8 ...: a reader that has stopped must not fill the log.
            if self.not_written.is_power_of_two() {
                let _ = self.lines.try_send(Line::NotWritten(self.not_written));
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let _ = self.lines.try_send(Line::Notice(notice));
    }
}

/// Whether the log is to say it: not that an incident goes on as it was.
const fn is_worth_a_line(event: &Event) -> bool {
    match event {
        Event::Opened(_) | Event::Resolved(_) => true,
        Event::Updated(_, change) => {
            matches!(
                change,
                Change::Renamed
                    | Change::Severity
                    | Change::Reopened
                    | Change::Resumed
                    | Change::Suspended
            )
        }
    }
}

fn log_lines(lines: &Receiver<Line>) {
    while let Ok(line) = lines.recv() {
        match line {
            Line::Event(event) => log::info!("{}", sentence(&event)),
            Line::Notice(notice) => log::log!(notice.level(), "{notice}"),
            Line::NotWritten(outcomes) => log::error!(
                "the reader of --events is too slow: {outcomes} outcomes were not written"
            ),
        }
    }
}

fn open_events(path: &Path) -> Result<Box<dyn Write + Send>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Ok(Box::new(file))
}

fn write_events<W: Write>(mut lines: JsonLines<W>, outcomes: &Receiver<Outcome>) {
    while let Ok(outcome) = outcomes.recv() {
        if let Err(error) = lines.write(outcome) {
            log::error!("--events: {error}; no more events are written");
            return;
        }
    }
}

fn spawn(
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Failure> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Failure::failed(format!("cannot start the thread {name}: {error}")))
}
