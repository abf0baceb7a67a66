//! `ftagent run`: watches interfaces until it is told to stop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Exit, Failure, logging, outlet, parse_threshold};
use crate::agent::{Live, LiveError, LiveSettings, NotifySettings, Signals};
use crate::capture::nic::Interface;
use crate::count;
use crate::detect::limits::{Limit, Limits, SetBy, SetLimit};
use crate::engine;
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

impl RunArguments {
    pub(super) fn execute(self) -> Result<(), Failure> {
        logging::start();
        let signals = listen()
            .map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")))?;
        let (sink, outlet) = outlet::open(self.events.as_deref(), self.seconds)?;
        let live = Live::start(self.settings()?, sink).map_err(failure)?;
        for notice in live.notices() {
            log::warn!("{notice}");
        }
        if !self.local {
            log::info!("no platform is configured: working in local mode");
        }
        log::info!("{}", greeting(live.watched(), live.limits()));
        live.wait(&signals, || {
            log::info!("nothing to read again: all settings are on the command line");
        });
        // The detector has ended and let go of the queues.
        outlet.close();
        log::info!("stopped");
        Ok(())
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
            notify: NotifySettings::from_environment(),
        })
    }
}

/// Listens for signals: SIGTERM and SIGINT end the agent, the second of them at once; SIGHUP has it read its
/// configuration again.
fn listen() -> io::Result<Signals> {
    let signals = Signals::default();
    for signal in [SIGTERM, SIGINT] {
        // Before the flag is set by the same signal, so that the first one finds it unset.
        flag::register_conditional_shutdown(
            signal,
            Exit::Failed as i32,
            Arc::clone(&signals.stop),
        )?;
        flag::register(signal, Arc::clone(&signals.stop))?;
    }
    flag::register(SIGHUP, Arc::clone(&signals.reload))?;
    Ok(signals)
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
