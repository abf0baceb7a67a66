//! A platform to try the agent against: both wire contracts on a loopback port, strict, and faulty on request.
//!
//! It checks every header and every field and says what is wrong with them, keeps a record of all it was sent, and
//! knows its nodes and incidents well enough to notice what does not fit together. It can be told to fail in each way a
//! network and a server fail. For tests and for `ftagent demo`; it never listens anywhere but on 127.0.0.1.
//!
//! [`Platform`] is the handle, for any thread. The server runs on `ft-platform`, a thread of its own.

mod book;
mod check;
mod examine;
mod faults;
mod node_config;
mod records;
mod server;
mod shapes;
mod wire;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

pub use faults::{Fault, FaultBody, RetryAfter};
pub use node_config::{Command, NodeConfig, Pattern};
pub use records::{
    Ack, Call, Deploy, Endpoint, Heartbeat, Incident, KnownIncident, Metrics, Oddity, Received,
};
use server::Desk;

/// Which contracts are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The seed contract; paths that only the resource contract has are answered with 404.
    Seed,
    /// The resource contract; paths that only the seed contract has are answered with 404.
    Resource,
    /// All paths. Heartbeats and metrics may hold the fields of both.
    Both,
}

/// How to start.
#[derive(Clone)]
pub struct Settings {
    /// The port; 0 for a free one.
    pub port: u16,
    /// Which contracts are served.
    pub serves: Serves,
    /// The node that is let in.
    pub node_uuid: String,
    /// Its key.
    pub key: String,
    /// What a new node is registered with.
    pub deploy_token: String,
    /// What the node is told when it asks for its configuration.
    pub config: NodeConfig,
    /// After so long without a word an incident of the seed contract is over.
    pub incident_idle: Duration,
    /// Requests kept; more are only counted.
    pub most_records: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            serves: Serves::Both,
            node_uuid: "5e0d1c2b-0000-4000-8000-0000000000a1".to_owned(),
            key: "0123456789abcdef".repeat(4),
            deploy_token: "fedcba9876543210".repeat(2),
            config: NodeConfig::default(),
            // Two and a half times the longest pause between two reports of one incident.
            incident_idle: Duration::from_secs(150),
            // A day of seconds and a night of attacks; about 150 MB when it is full.
            most_records: 100_000,
        }
    }
}

impl fmt::Debug for Settings {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("port", &self.port)
            .field("serves", &self.serves)
            .field("node_uuid", &self.node_uuid)
            .finish_non_exhaustive()
    }
}

/// Why the platform could not start.
#[derive(Debug, thiserror::Error)]
#[error("the platform to try things with cannot start: {action}: {source}")]
pub struct PlatformError {
    /// What was being done.
    action: &'static str,
    /// What the system says.
    source: io::Error,
}

/// How long the server may take to let go of its connections.
const STOPPING: Duration = Duration::from_millis(200);

/// A running platform. It stops when this value goes.
pub struct Platform {
    base: String,
    desk: Arc<Desk>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Platform({})", self.base)
    }
}

impl Platform {
    /// Listens, and serves on a thread of its own from now on.
    ///
    /// # Errors
    ///
    /// When the port is taken, or the system gives no socket or thread.
    pub fn start(settings: Settings) -> Result<Self, PlatformError> {
        let failed = |action| move |source| PlatformError { action, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port))
            .map_err(failed("listening on 127.0.0.1"))?;
        let address = listener
            .local_addr()
            .map_err(failed("listening on 127.0.0.1"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("starting its runtime"))?;
        let desk = Arc::new(Desk::new(settings));
        let door = {
            let _inside = runtime.enter();
            wire::Door::new(listener, desk.reachable()).map_err(failed("listening on 127.0.0.1"))?
        };
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&desk);
        let thread = thread::Builder::new()
            .name("ft-platform".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = server::serve(door, served) => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_timeout(STOPPING);
            })
            .map_err(failed("starting its thread"))?;
        Ok(Self {
            base: format!("http://{address}/api/v1"),
            desk,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where its API begins: `http://127.0.0.1:PORT/api/v1`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Everything it was sent, in the order of arrival.
    #[must_use]
    pub fn recorded(&self) -> Vec<Received> {
        self.recorded_since(0)
    }

    /// What it was sent from this number on.
    #[must_use]
    pub fn recorded_since(&self, number: u64) -> Vec<Received> {
        let first = usize::try_from(number).unwrap_or(usize::MAX);
        self.desk
            .with_records(|records| records.get(first..).unwrap_or_default().to_vec())
    }

    /// Requests that came when no more were kept.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        self.desk.unrecorded()
    }

    /// Waits until what it was sent fulfils `condition`; false when `limit` passes first.
    pub fn wait_for(&self, limit: Duration, condition: impl FnMut(&[Received]) -> bool) -> bool {
        self.desk.wait_for(limit, condition)
    }

    /// The incidents it knows of, the oldest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<KnownIncident> {
        self.desk.with_book(|book| book.incidents())
    }

    /// All incidents are over: what comes next opens another one. The seed contract has no other way to say so.
    pub fn end_incidents(&self) {
        self.desk.with_book(book::Book::end_incidents);
    }

    /// Lets a node in by this key, and from now on by no other.
    pub fn admit(&self, node_uuid: &str, key: &str) {
        self.desk.with_book(|book| book.admit(node_uuid, key));
    }

    /// Which contracts are served from now on.
    pub fn set_serves(&self, serves: Serves) {
        self.desk.with_rules(|rules| rules.serves = serves);
    }

    /// What nodes are told from now on.
    pub fn set_config(&self, config: NodeConfig) {
        self.desk
            .with_rules(|rules| rules.config = server::ConfigAnswer::Ours(config));
    }

    /// What nodes are told from now on, word for word.
    pub fn set_config_json(&self, answer: Value) {
        self.desk
            .with_rules(|rules| rules.config = server::ConfigAnswer::Theirs(answer));
    }

    /// Makes requests of this endpoint fail. It comes before a fault of all endpoints.
    pub fn set_fault(&self, endpoint: Endpoint, fault: Fault) {
        self.desk.with_rules(|rules| {
            rules.faults.insert(endpoint, fault);
        });
    }

    /// Makes every request fail.
    pub fn set_fault_everywhere(&self, fault: Fault) {
        self.desk
            .with_rules(|rules| rules.fault_everywhere = Some(fault));
    }

    /// Nothing fails any more. What hangs already goes on hanging.
    pub fn clear_faults(&self) {
        self.desk.with_rules(|rules| {
            rules.faults.clear();
            rules.fault_everywhere = None;
        });
    }

    /// Whether there is a server at all. While there is none, connecting is refused, and connections that are open are
    /// reset when they are used. Takes a moment; what it knows remains.
    pub fn set_reachable(&self, reachable: bool) {
        self.desk.set_reachable(reachable);
    }

    /// Stops it: connections are closed, whatever was going on.
    pub fn stop(self) {}
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A server that is gone has stopped.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings::default();
        let shown = format!("{settings:?}");
        assert!(!shown.contains(&settings.key) && !shown.contains(&settings.deploy_token));
    }
}
