//! `ftagent run`: watches interfaces until it is told to stop.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use super::output::{JsonLines, sentence};
use super::{Exit, Failure, logging, parse_threshold};
use crate::agent::{Ended, Live, LiveError, LiveSettings, Sink};
use crate::capture::nic::Interface;
use crate::clock::Timestamp;
use crate::count;
use crate::detect::limits::{Limit, Limits, SetBy, SetLimit};
use crate::engine::{self, Outcome};
use crate::incident::{Change, Event};
use crate::words::{Bits, Thousands};

/// Arguments of `ftagent run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// Interface to watch, more than once for several; without it, the one with the default route
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,

    /// Work without a platform: the only way there is so far
    #[arg(long)]
    local: bool,

    /// Open an incident from so many inbound packets a second on; without any threshold the learned rules apply
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_threshold)]
    threshold_pps: Option<u64>,

    /// Open an incident from so many inbound bits a second on
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_threshold)]
    threshold_bps: Option<u64>,

    /// Keep what was learned in this directory, so that a restart does not begin anew
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Write events as JSON lines to this file; '-' is standard output
    #[arg(long, value_name = "PATH")]
    events: Option<PathBuf>,

    /// Write every second's figures too
    #[arg(long, requires = "events")]
    seconds: bool,
}

/// Outcomes that may wait to be written: a minute of seconds. A reader that is slower loses events, never packets.
const WAITING_OUTCOMES: usize = 64;

impl RunArguments {
    pub(super) fn execute(self) -> Result<(), Failure> {
        logging::start();
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")))?;
        }
        let writer = self
            .events
            .as_ref()
            .map(|path| Writer::open(path, self.seconds))
            .transpose()?;
        let (sink, writer) = match writer {
            Some((queue, thread)) => (
                Outlet {
                    queue: Some(queue),
                    lost: Arc::default(),
                },
                Some(thread),
            ),
            None => (
                Outlet {
                    queue: None,
                    lost: Arc::default(),
                },
                None,
            ),
        };
        let live = Live::start(self.settings()?, Box::new(sink)).map_err(failure)?;
        for notice in live.notices() {
            log::warn!("{notice}");
        }
        if !self.local {
            log::info!("no platform is configured: working in local mode");
        }
        log::info!("{}", greeting(live.watched(), live.limits()));
        let ended = live.wait(&interrupted);
        if let Some(writer) = writer {
            // The detector has ended and let go of the queue, so the writer ends when it is empty.
            let _ = writer.join();
        }
        match ended {
            Ended::Stopped => {
                log::info!("stopped");
                Ok(())
            }
            Ended::Capture(error) => Err(error.into()),
        }
    }

    fn settings(&self) -> Result<LiveSettings, Failure> {
        let set = |value: Option<u64>| {
            value.map(|value| SetLimit {
                value,
                by: SetBy::Local,
            })
        };
        let seed = random_seed()?;
        let mut engine = engine::Settings::default();
        engine.detect.limits.set_pps = set(self.threshold_pps);
        engine.detect.limits.set_bps = set(self.threshold_bps);
        engine.detect.seed = seed;
        engine.incident.seed = seed;
        Ok(LiveSettings {
            interfaces: self.interfaces.clone(),
            count: count::Settings {
                seed,
                ..count::Settings::default()
            },
            engine,
            state_dir: self.state_dir.clone(),
        })
    }
}

/// Keys the hash tables with something nobody outside can know.
fn random_seed() -> Result<u64, Failure> {
    let mut seed = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| io::Read::read_exact(&mut source, &mut seed))
        .map_err(|error| Failure::failed(format!("/dev/urandom: {error}")))?;
    Ok(u64::from_ne_bytes(seed))
}

fn failure(error: LiveError) -> Failure {
    match error {
        LiveError::Capture(error) => error.into(),
        other => Failure {
            message: other.to_string(),
            exit: Exit::Failed,
        },
    }
}

/// What is watched, at which limits, and where those come from.
fn greeting(watched: &[Interface], limits: &Limits) -> String {
    let names: Vec<String> = watched
        .iter()
        .map(|interface| match &interface.kind {
            Some(kind) => format!("{} ({kind}, MTU {})", interface.name, interface.mtu_bytes),
            None => format!("{} (MTU {})", interface.name, interface.mtu_bytes),
        })
        .collect();
    let limit = |limit: Option<Limit>, write: fn(u64) -> String| match limit {
        Some(limit) => format!("{} ({})", write(limit.value), limit.origin),
        None => "learned limit from 10 s on".to_owned(),
    };
    format!(
        "watching {}; packets: {}; bits: {}",
        names.join(", "),
        limit(limits.pps.limit, |value| format!(
            "limit {} packets/s",
            Thousands(value)
        )),
        limit(limits.bps.limit, |value| format!("limit {}/s", Bits(value))),
    )
}

/// Where the detector's outcomes go: the log at once, the event file through a queue.
struct Outlet {
    queue: Option<SyncSender<Outcome>>,
    lost: Arc<AtomicU64>,
}

impl Sink for Outlet {
    fn outcome(&mut self, outcome: Outcome, _at: Timestamp) {
        for event in &outcome.events {
            match event {
                Event::Opened(_) | Event::Resolved(_) => log::info!("{}", sentence(event)),
                Event::Updated(_, Change::Renamed | Change::Severity | Change::Reopened) => {
                    log::info!("{}", sentence(event));
                }
                Event::Updated(..) => {}
            }
        }
        let Some(queue) = &self.queue else { return };
        if outcome.second.is_none() && outcome.events.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_)) = queue.try_send(outcome) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // Said at 1, 2, 4, 8 ...: a reader that has stopped must not fill the log.
            if lost.is_power_of_two() {
                log::error!("the reader of --events is too slow: {lost} outcomes were not written");
            }
        }
    }
}

/// Writes outcomes as they come.
struct Writer;

impl Writer {
    fn open(
        path: &PathBuf,
        seconds: bool,
    ) -> Result<(SyncSender<Outcome>, JoinHandle<()>), Failure> {
        let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
            Box::new(file)
        };
        let (queue, outcomes) = sync_channel(WAITING_OUTCOMES);
        let lines = JsonLines::new(BufWriter::new(out), seconds, false);
        let thread = thread::Builder::new()
            .name("ft-events".to_owned())
            .spawn(move || write(lines, &outcomes))
            .map_err(|error| {
                Failure::failed(format!("cannot start the thread ft-events: {error}"))
            })?;
        Ok((queue, thread))
    }
}

fn write<W: Write>(mut lines: JsonLines<W>, outcomes: &Receiver<Outcome>) {
    while let Ok(outcome) = outcomes.recv() {
        if let Err(error) = lines.write(outcome) {
            log::error!("--events: {error}; no more events are written");
            return;
        }
    }
}
