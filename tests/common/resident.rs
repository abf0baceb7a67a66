//! The whole agent inside the test's own process, on the host of a lab: its detector's own word on each window and event,
//! at the moment at which they are handed out.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use ftagent::agent::{Notice, Service, Signals, Sink};
use ftagent::clock::{self, Timestamp};
use ftagent::config::{Config, Environment, Options, Sources};
use ftagent::count::WINDOW_NANOS;
use ftagent::engine::Outcome;

use super::netns::{HOST_LINK, Lab};

/// An agent that watches the host's link until this value goes.
#[derive(Debug)]
pub(crate) struct Resident {
    heard: Hearing,
    signals: Signals,
    thread: Option<JoinHandle<()>>,
}

/// What its detector has handed out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// When each window was judged, one after the other; a label on the wall clock.
    pub(crate) judged: Vec<Timestamp>,
    /// When something was told of an incident, on the steady clock.
    pub(crate) events: Vec<Instant>,
    /// What happened to the agent itself.
    pub(crate) notices: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Hearing(Arc<Mutex<Heard>>);

impl Resident {
    /// Starts it with a configuration file, and state in `state`.
    pub(crate) fn start(lab: &Lab, config: &Path, state: &Path) -> Self {
        let sources = Sources {
            file: Some(config.to_owned()),
            folder: lab.scratch.path().to_owned(),
            environment: Environment::default(),
            options: Options {
                interfaces: vec![HOST_LINK.to_owned()],
                state_dir: Some(state.to_owned()),
                ..Options::default()
            },
            platform_pps_threshold: None,
        };
        let config = Config::load(sources).expect("the configuration is fine");
        let (heard, signals) = (Hearing::default(), Signals::default());
        let (sink, told) = (Box::new(heard.clone()), signals.clone());
        // Threads that are started in a namespace stay there.
        let thread = lab.in_host(|| {
            std::thread::spawn(move || {
                let service = Service::start(config, 1, sink).expect("the agent starts");
                service.run(&told);
            })
        });
        Self {
            heard,
            signals,
            thread: Some(thread),
        }
    }

    /// What it has handed out so far.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.locked().clone()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Heard {
    /// The end of each window and how long after it, in microseconds, the window was judged.
    ///
    /// Windows are judged one after the other, and their ends lie on a grid of 50 ms. Where on it the first one's lies
    /// follows from the one that was judged soonest after its end, which is certainly less than a window.
    pub(crate) fn lateness(&self) -> Vec<(Timestamp, u64)> {
        let since_first = |place: usize| place as u64 * WINDOW_NANOS;
        let soonest = self
            .judged
            .iter()
            .enumerate()
            .map(|(place, at)| at.as_nanos() - since_first(place))
            .min()
            .unwrap_or_default();
        let first_end = soonest - soonest % WINDOW_NANOS;
        self.judged
            .iter()
            .enumerate()
            .map(|(place, at)| {
                let end = first_end + since_first(place);
                (Timestamp::from_nanos(end), (at.as_nanos() - end) / 1_000)
            })
            .collect()
    }
}

impl Hearing {
    fn locked(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Hearing {
    fn outcome(&mut self, outcome: Outcome, at: Timestamp) {
        let now = clock::monotonic();
        let mut heard = self.locked();
        heard.judged.push(at);
        heard.events.extend(outcome.events.iter().map(|_| now));
    }

    fn notice(&mut self, notice: Notice) {
        self.locked().notices.push(notice.to_string());
    }
}
