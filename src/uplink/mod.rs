//! Telling the platform.
//!
//! One thread, `ft-uplink`, with one small runtime: heartbeats, a sample each second, incidents as soon as they are on
//! disk, and what the platform wants of this node. It takes from the [`Ledger`] and gives back what became of it, so that
//! nothing is lost while the platform is away and nothing is told twice once it answered. It never holds up detection:
//! nobody waits for this room but the end of the program, and that with a deadline.
//!
//! What may be sent when (`schedule`, `retry`), what an answer means (`answer`, `platform`) and how things are told in
//! either contract (`seed`, `resource`) are pure; only `client`, `resolve` and `task` meet the world.

mod answer;
mod base;
mod client;
mod commands;
mod errand;
mod key;
mod once;
mod platform;
mod resolve;
mod resource;
mod retry;
mod schedule;
mod seed;
#[cfg(test)]
mod server;
#[cfg(test)]
mod shapes;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod wire;

use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use answer::TroubleKind;
pub use base::{ApiBase, BaseError};
pub use key::{ApiKey, KeyError};
pub use once::{Deployed, NewNode, OnceError, deploy, health, look};
pub use platform::{Pattern, PendingCommand, PlatformValues};
pub use retry::Rate;
pub use state::{Refusal, State};

use crate::clock;
use crate::ledger::Ledger;
use client::Client;
use schedule::Lane;

/// Which of the platform's two contracts is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contract {
    /// The documented one, until the platform does not know its incident path.
    #[default]
    Auto,
    /// The documented one.
    Seed,
    /// The published agent's.
    Resource,
}

/// Who we are to the platform, and how we deal with it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's address, such as `https://flowtriq.com/api/v1`.
    pub api_base: String,
    /// Whether `http://` may lead to other hosts.
    pub allow_http: bool,
    /// This node's key.
    pub key: ApiKey,
    /// This node's name for the platform.
    pub node_uuid: String,
    /// The contract.
    pub contract: Contract,
    /// The operating system, for people: `Debian 12`.
    pub os: String,
    /// How often, and how long.
    pub cadence: Cadence,
    /// How many requests.
    pub budgets: Budgets,
}

impl Settings {
    /// The usual ones for a node.
    #[must_use]
    pub fn new(api_base: impl Into<String>, key: ApiKey, node_uuid: impl Into<String>) -> Self {
        Self {
            api_base: api_base.into(),
            allow_http: false,
            key,
            node_uuid: node_uuid.into(),
            contract: Contract::Auto,
            os: "Linux".to_owned(),
            cadence: Cadence::default(),
            budgets: Budgets::default(),
        }
    }
}

/// How often, and how long to wait. The contracts' own numbers where they have them.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// Between heartbeats. 30 s in both contracts.
    pub heartbeat: Duration,
    /// Between looks at the configuration. 300 s, as the published agent.
    pub config: Duration,
    /// The same while an incident is open. 10 s, as the published agent.
    pub config_in_incident: Duration,
    /// What a metrics aggregate of the resource contract spans. 5 s, as the published agent.
    pub aggregate: Duration,
    /// Seconds younger than this are live, older ones are caught up on. 10 s: longer than a lost request is noticed.
    pub live: Duration,
    /// Until there is a connection, name and TLS included. 5 s.
    pub connect: Duration,
    /// Until the last byte of an answer. 15 s.
    pub request: Duration,
    /// Until the resolver is taken for silent and remembered addresses are used. 2 s of the 5 for a connection.
    pub resolve: Duration,
    /// How long addresses are remembered: 24 h, for when the resolver is what is attacked.
    pub addresses_kept: Duration,
    /// The bound of the first back-off. 1 s.
    pub backoff_first: Duration,
    /// The longest bound of a back-off. 5 min.
    pub backoff_longest: Duration,
    /// How long incidents are tried often: 2 min from each piece of news on.
    pub incident_urgent: Duration,
    /// The longest bound of a back-off then. 10 s.
    pub incident_retry: Duration,
    /// Over which time waiting calls spread once the platform answers again. 10 s.
    pub recovery: Duration,
    /// Between looks whether refused credentials are accepted, and whether an unknown path is known. 5 min.
    pub denied_probe: Duration,
    /// Between looks whether a lapsed or suspended subscription is good again. 1 h.
    pub lapsed_probe: Duration,
    /// The longest wait the platform may ask for. 1 h.
    pub longest_wait: Duration,
    /// Between health checks, which are made when something is wrong. 1 min.
    pub health: Duration,
    /// How long trouble that may pass by itself lasts before it is said. 3 s.
    pub grace: Duration,
    /// Between repetitions of what still is so. 1 h.
    pub repeat: Duration,
}

impl Default for Cadence {
    fn default() -> Self {
        const fn seconds(seconds: u64) -> Duration {
            Duration::from_secs(seconds)
        }
        Self {
            heartbeat: seconds(30),
            config: seconds(300),
            config_in_incident: seconds(10),
            aggregate: seconds(5),
            live: seconds(10),
            connect: seconds(5),
            request: seconds(15),
            resolve: seconds(2),
            addresses_kept: seconds(24 * 3_600),
            backoff_first: seconds(1),
            backoff_longest: seconds(300),
            incident_urgent: seconds(120),
            incident_retry: seconds(10),
            recovery: seconds(10),
            denied_probe: seconds(300),
            lapsed_probe: seconds(3_600),
            longest_wait: seconds(3_600),
            health: seconds(60),
            grace: seconds(3),
            repeat: seconds(3_600),
        }
    }
}

/// How many requests may be made. Together below half of the 1,000 a minute that the platform documents for a token.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Heartbeats: twice as many as the cadence needs, and one to spare.
    pub heartbeat: Rate,
    /// Looks at the configuration: twice as many as an incident needs.
    pub config: Rate,
    /// Seconds of traffic: twice as many as there are.
    pub metrics: Rate,
    /// Those of them that are caught up on: a fifth.
    pub backlog: Rate,
    /// Steps of incidents: a fifth of what the platform allows.
    pub incident: Rate,
    /// Answers to commands.
    pub ack: Rate,
}

impl Default for Budgets {
    fn default() -> Self {
        const fn rate(per_minute: u32, burst: u32) -> Rate {
            Rate { per_minute, burst }
        }
        Self {
            heartbeat: rate(5, 2),
            config: rate(12, 4),
            metrics: rate(120, 10),
            backlog: rate(24, 4),
            incident: rate(200, 30),
            ack: rate(60, 10),
        }
    }
}

impl Budgets {
    const fn of(&self, lane: Lane) -> Rate {
        match lane {
            Lane::Incident => self.incident,
            Lane::Live => self.metrics,
            Lane::Backlog => self.backlog,
            Lane::Heartbeat => self.heartbeat,
            // Health checks have no credentials and their own cadence.
            Lane::Config | Lane::Health => self.config,
            Lane::Ack => self.ack,
        }
    }
}

/// What the agent says about itself; the agent writes it about once a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The host's interfaces.
    pub interfaces: Vec<InterfaceVitals>,
    /// Whether an incident is open.
    pub incident_open: bool,
    /// Whether the baseline knows enough to judge by.
    pub baseline_ready: bool,
    /// Seconds it has learned from, ever.
    pub baseline_seconds: u64,
    /// Its mean, in packets a second.
    pub baseline_mean_pps: u64,
    /// Its 99th percentile, in packets a second.
    pub baseline_p99_pps: u64,
    /// The 99th percentile of this hour of the day, once that is known.
    pub baseline_hour_p99_pps: Option<u64>,
    /// Whether limits are still cautious because little is known.
    pub warming_up: bool,
    /// Sources of the last second.
    pub sources: u64,
    /// Whether they were more than are counted one by one.
    pub source_overflow: bool,
    /// Seconds since the last packet.
    pub silent_seconds: u64,
}

/// One interface of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceVitals {
    /// Its name.
    pub name: String,
    /// Bytes received since it exists.
    pub rx_bytes: u64,
    /// Bytes sent since it exists.
    pub tx_bytes: u64,
    /// Whether it is watched.
    pub watched: bool,
}

/// Why the uplink could not start.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The API's address is not usable.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The node's UUID cannot be sent.
    #[error(
        "api.node_uuid: {found:?} cannot be a node UUID; expected one such as 5e0d1c2b-0000-4000-8000-0000000000a1 from the node's page in the Flowtriq dashboard"
    )]
    NodeUuid {
        /// What was given.
        found: String,
    },
    /// There is nothing to check certificates by, or TLS cannot be set up.
    #[error(
        "TLS cannot be set up: {reason}; install the system's CA certificates (package ca-certificates)"
    )]
    Tls {
        /// What is wrong.
        reason: String,
    },
    /// The system gives us no thread, or no way to wait for sockets.
    #[error("cannot start the thread ft-uplink: {source}")]
    Thread {
        /// What the system says.
        source: std::io::Error,
    },
}

/// The running uplink.
#[derive(Debug)]
pub struct Uplink {
    stop: Option<oneshot::Sender<Duration>>,
    thread: JoinHandle<()>,
    ended: std::sync::mpsc::Receiver<()>,
}

/// What the thread needs beyond `patience` to end what it is doing.
const GOODBYE: Duration = Duration::from_millis(200);

impl Uplink {
    /// Starts telling. The second value is what the platform wants of this node: what it wanted last, as soon as the
    /// ledger says so, then what it answers.
    ///
    /// # Errors
    ///
    /// When address, node UUID or TLS are not usable, or the system refuses a thread.
    pub fn start(
        settings: Settings,
        ledger: Ledger,
        vitals: watch::Receiver<Vitals>,
    ) -> Result<(Self, watch::Receiver<Option<PlatformValues>>), UplinkError> {
        let base = ApiBase::parse(&settings.api_base, settings.allow_http)?;
        let client = Client::new(
            base,
            Some(&settings.key),
            Some(&settings.node_uuid),
            &settings.cadence,
        )?;
        let thread_error = |source| UplinkError::Thread { source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Only the resolver blocks; one that hangs must not be asked by ever more threads.
            .max_blocking_threads(2)
            .thread_name("ft-resolver")
            .build()
            .map_err(thread_error)?;
        let (publish, values) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = std::sync::mpsc::sync_channel(1);
        let task = task::Task::new(clock::now, settings, client, ledger, vitals, publish);
        let thread = thread::Builder::new()
            .name("ft-uplink".to_owned())
            .spawn(move || {
                runtime.block_on(task.run(stopped));
                // A resolver that hangs is left behind.
                runtime.shutdown_background();
                let _ = end.send(());
            })
            .map_err(thread_error)?;
        let uplink = Self {
            stop: Some(stop),
            thread,
            ended,
        };
        Ok((uplink, values))
    }

    /// Tells what waits, for at most `patience`, and ends.
    pub fn stop(mut self, patience: Duration) {
        if let Some(stop) = self.stop.take() {
            // A task that has gone needs no telling.
            let _ = stop.send(patience);
        }
        if self.ended.recv_timeout(patience + GOODBYE).is_ok() {
            // A thread that panicked has already ended the program: panics abort.
            let _ = self.thread.join();
        }
    }
}
