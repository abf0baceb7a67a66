//! A first ledger that keeps everything in memory, so that its door can be coded against.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{
    Found, LedgerError, Outgoing, PlatformIds, Sample, Settled, StateDir, Step, Storage, Ticket,
    Waiting,
};
use crate::clock::{self, Timestamp};
use crate::detect::baseline::BaselineState;
use crate::incident::Report;

/// Steps given out at a time.
const OUTGOING_MAX: usize = 16;

/// Where and how much is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state directory; memory alone without one.
    pub dir: Option<PathBuf>,
    /// Bytes of the database file.
    pub quota_bytes: u64,
    /// How long seconds are kept.
    pub keep_seconds: u64,
    /// Whether somebody tells what waits. Without an uplink nothing waits: incidents and seconds are history at once.
    pub has_uplink: bool,
    /// How long a disk that failed is left alone.
    pub retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: None,
            quota_bytes: 64 << 20,
            keep_seconds: 72 * 3_600,
            has_uplink: true,
            retry: Duration::from_secs(30),
        }
    }
}

/// A handle on the ledger; clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Ledger {
    state: Arc<Mutex<State>>,
    waiting: watch::Sender<Waiting>,
}

#[derive(Debug, Default)]
struct State {
    dir: Option<StateDir>,
    next: i64,
    incidents: Vec<Story>,
    samples: BTreeMap<u64, Sample>,
    notes: BTreeMap<&'static str, String>,
    has_uplink: bool,
}

#[derive(Debug)]
struct Story {
    name: String,
    ids: PlatformIds,
    steps: Vec<Outgoing>,
}

impl Ledger {
    /// Opens the ledger.
    ///
    /// # Errors
    ///
    /// When the state directory cannot be used.
    pub fn open(settings: Settings) -> Result<(Self, Found), LedgerError> {
        let dir = settings.dir.map(StateDir::open).transpose()?;
        let mut found = Found::default();
        if let Some(dir) = &dir {
            match dir.load_baseline() {
                Ok(baseline) => found.baseline = baseline,
                Err(error) => found.notices.push(error.to_string()),
            }
        }
        let (waiting, _) = watch::channel(Waiting {
            incidents: 0,
            samples: 0,
            dropped_events: 0,
            dropped_samples: 0,
            storage: Storage::Memory,
        });
        let state = State {
            dir,
            has_uplink: settings.has_uplink,
            ..State::default()
        };
        let ledger = Self {
            state: Arc::new(Mutex::new(state)),
            waiting,
        };
        Ok((ledger, found))
    }

    /// Something happened to an incident. Never waits.
    pub fn event(&self, step: Step, report: Report) {
        {
            let mut state = self.lock();
            if state.has_uplink {
                state.event(step, report);
            }
        }
        self.tell();
    }

    /// A second is over. Never waits.
    pub fn second(&self, sample: Sample) {
        {
            let mut state = self.lock();
            if state.has_uplink {
                state.samples.insert(sample.start.as_seconds(), sample);
            }
        }
        self.tell();
    }

    /// What the baseline has learned so far. Never waits.
    pub fn baseline(&self, state: BaselineState) {
        if let Some(dir) = &self.lock().dir {
            if let Err(error) = dir.save_baseline(&state) {
                log::warn!("{error}");
            }
        }
    }

    /// The oldest waiting step of each incident, oldest incident first, at most 16.
    pub async fn outgoing(&self) -> Vec<Outgoing> {
        let state = self.lock();
        let firsts = state.incidents.iter().filter_map(|story| {
            let mut step = story.steps.first()?.clone();
            step.ids = story.ids.clone();
            Some(step)
        });
        firsts.take(OUTGOING_MAX).collect()
    }

    /// Says what became of a step; returns when that is on disk.
    pub async fn settle(&self, ticket: Ticket, settled: Settled) {
        self.lock().settle(ticket, settled);
        self.tell();
    }

    /// Seconds that are not told, from the newest or the oldest on.
    pub async fn samples(&self, newest: bool, limit: usize) -> Vec<Sample> {
        let state = self.lock();
        let samples = state.samples.values().copied();
        if newest {
            samples.rev().take(limit).collect()
        } else {
            samples.take(limit).collect()
        }
    }

    /// These were told.
    pub async fn told_samples(&self, told: Vec<Sample>) {
        for sample in told {
            self.lock().samples.remove(&sample.start.as_seconds());
        }
        self.tell();
    }

    /// None of those that wait will be told.
    pub async fn skip_samples(&self) {
        self.lock().samples.clear();
        self.tell();
    }

    /// Keeps a value under a name. Never waits.
    pub fn remember(&self, key: &'static str, value: String) {
        self.lock().notes.insert(key, value);
    }

    /// The value kept under a name.
    pub async fn recall(&self, key: &'static str) -> Option<String> {
        self.lock().notes.get(key).cloned()
    }

    /// What waits, and when that changes.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<Waiting> {
        self.waiting.subscribe()
    }

    /// Writes what is to be written and ends, or gives up after `patience`.
    pub fn close(self, _patience: Duration) {}

    fn tell(&self) {
        let state = self.lock();
        self.waiting.send_modify(|waiting| {
            let waits = |story: &&Story| !story.steps.is_empty();
            waiting.incidents = state.incidents.iter().filter(waits).count() as u64;
            waiting.samples = state.samples.len() as u64;
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn event(&mut self, step: Step, report: Report) {
        let place = self
            .incidents
            .iter()
            .position(|story| story.name == report.id);
        let place = place.unwrap_or_else(|| {
            self.incidents.push(Story {
                name: report.id.clone(),
                ids: PlatformIds::default(),
                steps: Vec::new(),
            });
            self.incidents.len() - 1
        });
        let Some(story) = self.incidents.get_mut(place) else {
            return;
        };
        let merges = |last: Step| match step {
            Step::Open => false,
            Step::Update => last == Step::Update,
            Step::Resolve => last != Step::Open,
        };
        match story.steps.last_mut() {
            Some(last) if merges(last.step) => {
                last.step = step;
                last.report = report;
                last.ticket.revision += 1;
            }
            _ => {
                self.next += 1;
                story.steps.push(Outgoing {
                    ticket: Ticket {
                        step: self.next,
                        revision: 0,
                    },
                    step,
                    report,
                    ids: PlatformIds::default(),
                    attempts: 0,
                    waiting_since: now(),
                });
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, settled: Settled) {
        for story in &mut self.incidents {
            let Some(first) = story.steps.first_mut() else {
                continue;
            };
            if first.ticket.step != ticket.step {
                continue;
            }
            let unchanged = first.ticket == ticket;
            match settled {
                Settled::Delivered(ids) => {
                    story.ids.id = ids.id.or(story.ids.id);
                    story.ids.uuid = ids.uuid.or_else(|| story.ids.uuid.take());
                    if unchanged {
                        story.steps.remove(0);
                    }
                }
                Settled::Refused(_) if unchanged => {
                    story.steps.remove(0);
                }
                Settled::Refused(_) | Settled::Failed => first.attempts += 1,
            }
            return;
        }
    }
}

fn now() -> Timestamp {
    clock::now()
}
