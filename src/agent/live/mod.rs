//! Interfaces through the engine: capture threads, the detector's thread, the housekeeping thread.

mod capture;
mod counters;
mod detect;
mod host;
mod links;
mod notice;
mod place;
mod pulse;
mod relabel;
mod timeline;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::notify::{Notifier, NotifySettings};
use crate::capture::live::LiveSource;
use crate::capture::nic::{self, Changes, CounterSource, Interface};
use crate::capture::{CaptureError, NetlinkError, live};
use crate::clock::{self, Timestamp};
use crate::count::{self, Window, WindowIndex};
use crate::detect::baseline::{Baseline, BaselineState};
use crate::detect::limits::{Limits, LocalLimits, PlatformLimits};
use crate::engine::{self, Engine, Outcome};
use crate::incident::Report;
use crate::ledger::Ledger;
use capture::CaptureThread;
use counters::Counters;
use detect::{DetectThread, Judge, Telling};
use host::HostThread;
use links::{LinkState, Links};
use notice::News;
use place::Place;
use pulse::Pulse;
use timeline::{Labels, Timeline};

pub use links::LinkVitals;
pub use notice::Notice;
pub use pulse::Gauges;

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// The interfaces by name; none stands for the one with the default route.
    pub interfaces: Vec<String>,
    /// How to count; the interface's own MTU replaces the one in here.
    pub count: count::Settings,
    /// How to detect.
    pub engine: engine::Settings,
    /// What was learned before, and the incidents of then.
    pub earlier: Earlier,
    /// Whether somebody goes on with an incident that is open when the agent ends.
    pub is_resumed: bool,
    /// Who is told how the agent is.
    pub notify: NotifySettings,
}

/// What an earlier run left to this one.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// What was learned.
    pub baseline: Option<BaselineState>,
    /// The newest incidents that were over, oldest first.
    pub over: Vec<Report>,
    /// What was open.
    pub open: Option<Report>,
    /// What the platform said last.
    pub platform: PlatformLimits,
}

/// What changes while the agent runs, from the next window on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The operator's limits.
    Limits(LocalLimits),
    /// What the platform says.
    Platform(PlatformLimits),
}

/// Takes what the engine found. Called on the detector's thread: it must not wait.
pub trait Sink: Send {
    /// One window's outcome, and when it was judged. All times are UTC, by the clock as it is set now.
    fn outcome(&mut self, outcome: Outcome, at: Timestamp);

    /// Something happened to the agent itself.
    fn notice(&mut self, notice: Notice);
}

/// What the main thread waits for; others set it.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// The agent is to end.
    pub stop: Arc<AtomicBool>,
    /// The configuration is to be read again.
    pub reload: Arc<AtomicBool>,
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// An interface cannot be watched.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The kernel does not tell about its interfaces.
    #[error(transparent)]
    Nic(#[from] NetlinkError),
    /// The system gives us no thread.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// The thread.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Windows each interface has beside the one it fills: one being judged, one on its way, and two in hand, which let
/// the detector be 100 ms late before windows stretch.
const SPARE_WINDOWS: usize = 4;

/// Orders that may wait for a window: a reload and a look at the platform come minutes apart.
const ORDERS: usize = 8;

/// How long the threads are given to end. They look at every window, so only a disk that does not answer takes longer,
/// and SIGTERM to exit is 3 s with what comes after them.
const ENDING: Duration = Duration::from_secs(1);

/// So long after the host has booted everything still connects (detection.md, section 4, learning).
const BOOT: Duration = Duration::from_secs(60);

/// A running agent.
#[derive(Debug)]
pub struct Live {
    watched: Vec<Interface>,
    limits: Limits,
    notices: Vec<String>,
    gauges: Gauges,
    notifier: Arc<Notifier>,
    orders: SyncSender<Order>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Live {
    /// Opens the interfaces and starts all threads.
    ///
    /// # Errors
    ///
    /// When an interface cannot be watched or the system refuses a thread.
    pub fn start(
        settings: LiveSettings,
        ledger: Ledger,
        sink: Box<dyn Sink>,
    ) -> Result<Self, LiveError> {
        // Before the interfaces are looked up, so that no change is missed.
        let mut notices = Vec::new();
        let changes = or_notice(Changes::open(), &mut notices, |error| {
            format!("{error}; they are looked at once a second instead")
        });
        let notifier = or_notice(Notifier::new(&settings.notify), &mut notices, |error| {
            error.to_string()
        });
        let notifier = Arc::new(notifier.unwrap_or(Notifier::nobody()));
        let sources = open_sources(&settings.interfaces)?;
        let watched: Vec<Interface> = sources
            .iter()
            .map(|source| source.interface().clone())
            .collect();
        let stored = settings.earlier.baseline;
        let timeline = Timeline::new(stored.as_ref().and_then(next_second));
        let baseline =
            stored.and_then(|stored| remembered(&stored, &settings.engine, timeline, &mut notices));
        let mut engine = Engine::new(with_link_speed(settings.engine, &watched), baseline);
        engine.set_platform(settings.earlier.platform);
        // One is open at a time, so it began after all others had ended.
        for report in settings.earlier.over.iter().chain(&settings.earlier.open) {
            if !engine.resume(report) {
                notices.push(format!(
                    "incident {}: not one of this program's; it stays as it is stored",
                    report.id
                ));
            }
        }
        if clock::since_boot() < BOOT {
            engine.link_came_up();
        }
        let limits = *engine.detector().limits();
        let links = Arc::new(links_of(&settings.interfaces, &watched));
        let indices: Vec<u32> = watched.iter().map(|interface| interface.index).collect();
        let counters = or_notice(CounterSource::open(&indices), &mut notices, |error| {
            format!("{error}; figures are those of the packets captured")
        });

        let pulse = Arc::new(Pulse::new());
        // What was learned before is known before the first second is over: nobody is to be told that it is not.
        pulse.note(&Outcome::default(), engine.open_incident(), engine.vitals());
        let place = Arc::new(ArcSwap::from_pointee(Place::read(&links)?));
        let (news, said) = News::new();
        let stop = Arc::new(AtomicBool::new(false));
        let (deliver, deliveries) = sync_channel(sources.len() * (SPARE_WINDOWS + 1));
        let mut threads = Vec::new();
        let mut spares = Vec::new();
        for (link, (source, name)) in sources.into_iter().zip(links.names()).enumerate() {
            let (give_back, spare) = sync_channel(SPARE_WINDOWS + 1);
            for _ in 0..SPARE_WINDOWS {
                let window = Box::new(Window::new(WindowIndex::default(), settings.count.seed));
                // There is room for one more than we make.
                let _ = give_back.try_send(window);
            }
            spares.push(give_back);
            let capture = CaptureThread {
                link,
                name: name.to_owned(),
                source,
                place: Arc::clone(&place),
                links: Arc::clone(&links),
                news: news.clone(),
                count: settings.count.clone(),
                timeline,
                deliveries: deliver.clone(),
                spares: spare,
                stop: Arc::clone(&stop),
            };
            threads.push(spawn(format!("ft-capture-{link}"), move || capture.run())?);
        }
        drop(deliver);
        let (orders, ordered) = sync_channel(ORDERS);
        let detect = DetectThread {
            judge: Judge::new(
                engine,
                Counters::new(counters, Arc::clone(&links)),
                Labels::new(&timeline),
                Telling {
                    ledger,
                    pulse: Arc::clone(&pulse),
                    sink,
                },
                links.len(),
                settings.count.seed,
            ),
            timeline,
            deliveries,
            spares,
            said,
            ordered,
            is_resumed: settings.is_resumed,
            stop: Arc::clone(&stop),
        };
        threads.push(spawn("ft-detect".to_owned(), move || detect.run())?);
        let host = HostThread {
            links: Arc::clone(&links),
            place,
            pulse: Arc::clone(&pulse),
            news,
            changes,
            notifier: Arc::clone(&notifier),
            patience: settings.notify.watchdog,
            stop: Arc::clone(&stop),
        };
        threads.push(spawn("ft-host".to_owned(), move || host.run())?);
        Ok(Self {
            watched,
            limits,
            notices,
            gauges: Gauges { pulse, links },
            notifier,
            orders,
            stop,
            threads,
        })
    }

    /// The interfaces that are watched, as they were at the start.
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

    /// How the agent is.
    #[must_use]
    pub const fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Who tells the service manager.
    #[must_use]
    pub(super) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Has something changed from the next window on. Says whether it was taken: not while others wait.
    #[must_use]
    pub fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// Stops everything from left to right: sources, then the detector, which hands on what is left.
    pub fn stop(self) {
        let _ = self.notifier.stopping();
        self.stop.store(true, Ordering::Relaxed);
        let deadline = clock::monotonic() + ENDING;
        for thread in self.threads {
            while !thread.is_finished() && clock::monotonic() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // A thread that panicked has already ended the program: panics abort.
                let _ = thread.join();
            }
        }
    }
}

/// What there is, or a notice why there is not.
fn or_notice<T, E>(
    found: Result<T, E>,
    notices: &mut Vec<String>,
    say: impl FnOnce(E) -> String,
) -> Option<T> {
    found.map_err(|error| notices.push(say(error))).ok()
}

/// The links under the names they were given, or their own where none were.
fn links_of(names: &[String], watched: &[Interface]) -> Links {
    let links = if names.is_empty() {
        Links::new(watched.iter().map(|interface| interface.name.clone()))
    } else {
        Links::new(names.iter().cloned())
    };
    for (link, interface) in watched.iter().enumerate() {
        let state = LinkState {
            index: Some(interface.index),
            is_watched: interface.carrier,
            captures: 1,
        };
        links.set(link, state);
    }
    links
}

/// The settings with the speed of the watched links together, unless somebody set it or one of them does not say.
fn with_link_speed(mut settings: engine::Settings, watched: &[Interface]) -> engine::Settings {
    let limits = &mut settings.detect.limits;
    if limits.link_bps.is_none() {
        limits.link_bps = watched.iter().map(nic::link_bps).sum();
    }
    settings
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

/// The second after the last one that was learned.
fn next_second(stored: &BaselineState) -> Option<Timestamp> {
    let last = stored.last_second()?;
    Some(Timestamp::from_seconds(last.saturating_add(1)))
}

/// What was learned before, if it can be used. What cannot is said.
fn remembered(
    stored: &BaselineState,
    settings: &engine::Settings,
    timeline: Timeline,
    notices: &mut Vec<String>,
) -> Option<Baseline> {
    let now = timeline.now().as_seconds();
    Baseline::restore(settings.detect.baseline.clone(), stored, now)
        .map_err(|error| notices.push(format!("{error}; learning starts again")))
        .ok()
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LiveError> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(run)
        .map_err(|source| LiveError::Thread { name, source })
}
