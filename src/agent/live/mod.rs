//! Interfaces through the engine: capture threads, the detector's thread, and who stores what it learned.

mod capture;
mod detect;
mod timeline;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::capture::live::LiveSource;
use crate::capture::nic::{self, CounterSource, Interface, NicError};
use crate::capture::{CaptureError, live};
use crate::classify::{self, Vantage};
use crate::clock::Timestamp;
use crate::count::{self, Window, WindowIndex};
use crate::detect::baseline::Baseline;
use crate::detect::limits::Limits;
use crate::engine::{self, Engine, Outcome};
use crate::ledger::{self, Ledger, LedgerError};
use capture::CaptureThread;
use detect::DetectThread;
use timeline::Timeline;

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// The interfaces by name; none stands for the one with the default route.
    pub interfaces: Vec<String>,
    /// How to count; the interface's own MTU replaces the one in here.
    pub count: count::Settings,
    /// How to detect.
    pub engine: engine::Settings,
    /// Where what was learned is kept; nowhere when absent.
    pub state_dir: Option<PathBuf>,
}

/// Takes what the engine found. Called on the detector's thread: it must not wait.
pub trait Sink: Send {
    /// One window's outcome, and when it was judged.
    fn outcome(&mut self, outcome: Outcome, at: Timestamp);
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// An interface cannot be watched.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The kernel does not tell about its interfaces.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system gives us no thread.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// The thread.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Why a running agent ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// An interface cannot be watched any more.
    Capture(CaptureError),
}

/// Windows each interface has beside the one it fills: one being judged, one on its way, and two in hand, which let
/// the detector be 100 ms late before windows stretch.
const SPARE_WINDOWS: usize = 4;

/// How often those who wait look whether they shall stop.
const ATTENTION: Duration = Duration::from_millis(50);

/// How long the ledger may take to write the rest; SIGTERM to exit is 3 s.
const CLOSING: Duration = Duration::from_secs(2);

/// A running agent.
#[derive(Debug)]
pub struct Live {
    watched: Vec<Interface>,
    limits: Limits,
    notices: Vec<String>,
    ledger: Option<Ledger>,
    stop: Arc<AtomicBool>,
    failures: Receiver<CaptureError>,
    threads: Vec<JoinHandle<()>>,
}

impl Live {
    /// Opens the interfaces and starts all threads.
    ///
    /// # Errors
    ///
    /// When an interface cannot be watched, the state directory cannot be used, or the system refuses a thread.
    pub fn start(settings: LiveSettings, sink: Box<dyn Sink>) -> Result<Self, LiveError> {
        let sources = open_sources(&settings.interfaces)?;
        let watched: Vec<Interface> = sources
            .iter()
            .map(|source| source.interface().clone())
            .collect();
        let mut notices = Vec::new();
        let (ledger, found) = match settings.state_dir {
            Some(dir) => {
                let (ledger, found) = Ledger::open(ledger::Settings {
                    dir: Some(dir),
                    has_uplink: false,
                    ..ledger::Settings::default()
                })?;
                (Some(ledger), found)
            }
            None => (None, ledger::Found::default()),
        };
        notices.extend(found.notices.iter().cloned());
        let baseline = remembered(&found, &settings.engine, &mut notices);
        let engine = Engine::new(settings.engine, baseline);
        let limits = *engine.detector().limits();
        let indices: Vec<u32> = watched.iter().map(|interface| interface.index).collect();
        let counters = match CounterSource::open(&indices) {
            Ok(counters) => Some(counters),
            Err(error) => {
                notices.push(format!(
                    "{error}; figures are those of the packets captured"
                ));
                None
            }
        };

        let stop = Arc::new(AtomicBool::new(false));
        let timeline = Timeline::new();
        let (deliver, deliveries) = sync_channel(sources.len() * (SPARE_WINDOWS + 1));
        let (fail, failures) = sync_channel(sources.len());
        let mut threads = Vec::new();
        let mut spares = Vec::new();
        let peers = nic::interfaces()?
            .into_iter()
            .filter_map(|interface| interface.tunnel_peer)
            .collect();
        let addresses: Vec<IpAddr> = nic::addresses()?
            .into_iter()
            .map(|local| local.address)
            .collect();
        let place = Place {
            addresses,
            peers,
            count: settings.count.clone(),
        };
        for (link, source) in sources.into_iter().enumerate() {
            let (give_back, spare) = sync_channel(SPARE_WINDOWS + 1);
            for _ in 0..SPARE_WINDOWS {
                let window = Box::new(Window::new(WindowIndex::default(), settings.count.seed));
                // There is room for one more than we make.
                let _ = give_back.try_send(window);
            }
            spares.push(give_back);
            let capture = place.capture_thread(
                link,
                source,
                timeline,
                deliver.clone(),
                spare,
                Arc::clone(&stop),
            );
            let fail = fail.clone();
            threads.push(spawn(format!("ft-capture-{link}"), move || {
                if let Err(error) = capture.run() {
                    // Whoever waits for it has gone when there is no room.
                    let _ = fail.try_send(error);
                }
            })?);
        }
        drop(deliver);
        let detect = DetectThread {
            engine,
            timeline,
            deliveries,
            spares,
            counters,
            seed: settings.count.seed,
            sink,
            ledger: ledger.clone(),
            stop: Arc::clone(&stop),
        };
        threads.push(spawn("ft-detect".to_owned(), move || detect.run())?);
        Ok(Self {
            watched,
            limits,
            notices,
            ledger,
            stop,
            failures,
            threads,
        })
    }

    /// The interfaces that are watched.
    #[must_use]
    pub fn watched(&self) -> &[Interface] {
        &self.watched
    }

    /// The limits in force at the start.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the operator should know about the start.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Waits until `interrupted` says so or an interface is lost, then stops everything from left to right: sources,
    /// detector, ledger.
    pub fn wait(self, interrupted: &AtomicBool) -> Ended {
        let ended = loop {
            match self.failures.recv_timeout(ATTENTION) {
                Ok(error) => break Ended::Capture(error),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if interrupted.load(Ordering::Relaxed) {
                        break Ended::Stopped;
                    }
                }
            }
        };
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A thread that panicked has already ended the program: panics abort.
            let _ = thread.join();
        }
        if let Some(ledger) = self.ledger {
            ledger.close(CLOSING);
        }
        ended
    }
}

/// What all capture threads have in common.
struct Place {
    addresses: Vec<IpAddr>,
    peers: Vec<IpAddr>,
    count: count::Settings,
}

impl Place {
    fn capture_thread(
        &self,
        link: usize,
        source: LiveSource,
        timeline: Timeline,
        deliveries: SyncSender<capture::Delivery>,
        spares: Receiver<Box<Window>>,
        stop: Arc<AtomicBool>,
    ) -> CaptureThread {
        let interface = source.interface();
        CaptureThread {
            link,
            classify: classify::Settings {
                vantage: Vantage::Interface {
                    mac: interface.mac,
                    addresses: self.addresses.clone(),
                },
                tunnel_peers: self.peers.clone(),
            },
            count: count::Settings {
                mtu_bytes: interface.mtu_bytes,
                ..self.count.clone()
            },
            source,
            timeline,
            deliveries,
            spares,
            stop,
        }
    }
}

/// Opens the interfaces named, or the one with the default route.
fn open_sources(names: &[String]) -> Result<Vec<LiveSource>, LiveError> {
    let names = if names.is_empty() {
        vec![default_interface()?]
    } else {
        names.to_vec()
    };
    let mut sources = Vec::with_capacity(names.len());
    for name in names {
        sources.push(LiveSource::open(&live::Settings::new(name))?);
    }
    let watched: Vec<&Interface> = sources.iter().map(LiveSource::interface).collect();
    nic::check_watchable(&watched, &nic::interfaces()?)?;
    Ok(sources)
}

fn default_interface() -> Result<String, LiveError> {
    if let Some(interface) = nic::default_route_interface()? {
        return Ok(interface.name);
    }
    let mut available: Vec<String> = nic::interfaces()?
        .into_iter()
        .map(|interface| interface.name)
        .collect();
    available.sort_unstable();
    Err(CaptureError::NoDefaultRoute { available }.into())
}

/// What was learned before, if it can be used. What cannot is said.
fn remembered(
    found: &ledger::Found,
    settings: &engine::Settings,
    notices: &mut Vec<String>,
) -> Option<Baseline> {
    let stored = found.baseline.as_ref()?;
    let now = crate::clock::now().as_seconds();
    match Baseline::restore(settings.detect.baseline.clone(), stored, now) {
        Ok(baseline) => Some(baseline),
        Err(error) => {
            notices.push(format!("{error}; learning starts again"));
            None
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LiveError> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(run)
        .map_err(|source| LiveError::Thread { name, source })
}
