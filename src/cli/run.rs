//! `ftagent run`: watches interfaces until it is told to stop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Exit, Failure, logging, outlet, parse_threshold};
use crate::agent::{LiveError, Service, ServiceError, Signals};
use crate::capture::nic::Interface;
use crate::config::{Config, Options, Sources};
use crate::detect::limits::Limits;

/// Arguments of `ftagent run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArguments {
    /// Read this configuration file instead of /etc/ftagent/ftagent.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Interface to watch, more than once for several; without it, the one with the default route
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,

    /// Work without a platform, whatever credentials there are
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
        let config = Config::load(self.sources())?;
        log::set_max_level(config.log_level());
        for notice in config.notices() {
            log::warn!("{notice}");
        }
        let is_local = config.is_local();
        let (sink, outlet) = outlet::open(self.events.as_deref(), self.seconds)?;
        let service = Service::start(config, random_seed()?, sink).map_err(failure)?;
        for notice in service.notices() {
            log::warn!("{notice}");
        }
        if is_local && !self.local {
            log::info!("no platform is configured: working in local mode");
        }
        log::info!("{}", greeting(service.watched(), service.limits()));
        service.run(&signals);
        // The detector has ended and let go of the queues.
        outlet.close();
        log::info!("stopped");
        Ok(())
    }

    /// Where the configuration comes from, these arguments included.
    fn sources(&self) -> Sources {
        Sources {
            file: self.config.clone(),
            options: Options {
                interfaces: self.interfaces.clone(),
                pps_threshold: self.threshold_pps,
                bps_threshold: self.threshold_bps,
                state_dir: self.state_dir.clone(),
                local: self.local,
            },
            ..Sources::of_this_host()
        }
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

fn failure(error: ServiceError) -> Failure {
    match error {
        ServiceError::Live(LiveError::Capture(error)) => error.into(),
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
    format!("watching {}; {limits}", names.join(", "))
}
