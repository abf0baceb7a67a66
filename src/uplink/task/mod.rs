//! The uplink's one task: looks at what waits, sends errands, looks at what they bring.
//!
//! Everything is decided here, one event after the other, so nothing needs a lock; everything that takes time runs as an
//! errand beside it. Asks the ledger, never holds it up. Runs on the thread `ft-uplink` until it is stopped.

mod heard;
#[cfg(test)]
mod outage;
mod send;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::client::Client;
use super::commands::Commands;
use super::errand::Brought;
use super::platform::PlatformValues;
use super::schedule::{Lane, Saved, Schedule};
use super::state::{Line, Standing, Urgency};
use super::wire::Spoken;
use super::{Contract, Settings, Vitals};
use crate::clock::{self, Timestamp};
use crate::ledger::{self, Ledger, Waiting};

/// Seconds looked at in one go: twice as many as the longest report of traffic in the resource contract spans, and more
/// than are live at a time in the seed's.
const SECONDS_MAX: usize = 64;

/// How long the ledger may take to say what an earlier run left, before the start goes on without.
const RECALL_PATIENCE: Duration = Duration::from_secs(1);

/// After telling a second, look for more when there was no word of any: later than the next one is due.
const LOOK_AGAIN: Duration = Duration::from_millis(1_500);

/// With nothing to wait for, look around so often.
const IDLE: Duration = Duration::from_secs(60);

/// Under which names the ledger keeps what outlives a restart.
const ACKED: &str = "uplink_acked";
const BUDGETS: &str = "uplink_budgets";
const ADDRESSES: &str = "uplink_addresses";

/// The runtime's clock: the monotonic one, which tests can hold still.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What might be there and has not been looked for.
#[derive(Debug, Default)]
struct Wanted {
    outgoing: bool,
    newest: bool,
    oldest: bool,
    health: bool,
}

/// Questions to the ledger that are on their way: one of each kind at a time. Each with what was settled since it was
/// asked: the answer may still have it.
#[derive(Debug, Default)]
struct Asking {
    outgoing: Option<BTreeSet<String>>,
    newest: Option<BTreeSet<Timestamp>>,
    oldest: Option<BTreeSet<Timestamp>>,
}

/// The task.
pub(super) struct Task {
    /// The wall clock, by which seconds are labelled.
    wall: fn() -> Timestamp,
    settings: Settings,
    client: Client,
    ledger: Ledger,
    waiting: watch::Receiver<Waiting>,
    vitals: watch::Receiver<Vitals>,
    publish: watch::Sender<Option<PlatformValues>>,
    schedule: Schedule,
    standing: Standing,
    spoken: Spoken,
    may_switch: bool,
    values: PlatformValues,
    /// What of the configuration could not be used, as said last.
    notices: Vec<String>,
    commands: Commands,
    errands: JoinSet<Brought>,
    wanted: Wanted,
    asking: Asking,
    /// Incidents of which a step is on its way.
    telling: BTreeSet<String>,
    /// Seconds on their way, by their start.
    sending: BTreeSet<Timestamp>,
    /// Incidents that waited when it was last looked.
    waited: u64,
    /// When to look for seconds again although no bell was rung: one told and one new leave as many as before.
    look_again: Option<Instant>,
    /// Whether there is still somebody who rings for what waits, and for vitals.
    hears_ledger: bool,
    hears_vitals: bool,
    stopping: Option<Stopping>,
}

/// The end is near.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    deadline: Instant,
    /// Whether the ledger has been asked since for what is still to be told.
    has_looked: bool,
}

/// What the task woke up for.
enum Woke {
    Stop(Duration),
    Errand(Brought),
    Ledger(bool),
    Vitals(bool),
    Time,
}

impl Task {
    pub(super) fn new(
        wall: fn() -> Timestamp,
        settings: Settings,
        client: Client,
        ledger: Ledger,
        vitals: watch::Receiver<Vitals>,
        publish: watch::Sender<Option<PlatformValues>>,
    ) -> Self {
        let spoken = Spoken::first(settings.contract);
        // Differs from process to process: what spreads a fleet's requests must not be the same on each host.
        let seed = RandomState::new().hash_one(0);
        let start = clock::monotonic();
        let schedule = Schedule::new(settings.cadence, &settings.budgets, spoken, seed, start);
        let standing = Standing::new(
            &settings.cadence,
            client.base().to_string(),
            client.base().is_exposed(),
            spoken,
            wall(),
        );
        Self {
            wall,
            may_switch: settings.contract == Contract::Auto,
            waiting: ledger.waiting(),
            settings,
            client,
            ledger,
            vitals,
            publish,
            schedule,
            standing,
            spoken,
            values: PlatformValues::default(),
            notices: Vec::new(),
            commands: Commands::default(),
            errands: JoinSet::new(),
            wanted: Wanted {
                outgoing: true,
                newest: true,
                oldest: true,
                health: true,
            },
            asking: Asking::default(),
            telling: BTreeSet::new(),
            sending: BTreeSet::new(),
            waited: 0,
            look_again: None,
            hears_ledger: true,
            hears_vitals: true,
            stopping: None,
        }
    }

    /// Tells what there is to tell until `stop` says for how much longer.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<Duration>) {
        self.begin().await;
        while self.turn(&mut stop).await {}
        self.remember();
    }

    async fn begin(&mut self) {
        self.recall().await;
        if self.client.base().is_exposed() {
            log::warn!(
                "api.allow_http is set: the API key and everything told cross the network to {} unencrypted",
                self.client.base()
            );
        }
    }

    /// Does what is due, waits until something happens, and looks at that. False when there is nothing more to do.
    async fn turn(&mut self, stop: &mut oneshot::Receiver<Duration>) -> bool {
        let now = now();
        self.tidy(now);
        self.start(now);
        self.speak(now);
        if self.is_over(now) {
            return false;
        }
        let wake = tokio::time::Instant::from_std(self.wakes_at(now));
        let woke = tokio::select! {
            biased;
            patience = stop, if self.stopping.is_none() => {
                Woke::Stop(patience.unwrap_or_default())
            }
            Some(Ok(brought)) = self.errands.join_next() => Woke::Errand(brought),
            changed = self.waiting.changed(), if self.hears_ledger => Woke::Ledger(changed.is_ok()),
            changed = self.vitals.changed(), if self.hears_vitals => Woke::Vitals(changed.is_ok()),
            () = tokio::time::sleep_until(wake) => Woke::Time,
        };
        match woke {
            Woke::Stop(patience) => self.stop(patience),
            Woke::Errand(brought) => self.brought(brought),
            Woke::Ledger(is_there) => {
                self.hears_ledger = is_there;
                self.ledger_changed();
            }
            Woke::Vitals(is_there) => self.hears_vitals = is_there,
            Woke::Time => {}
        }
        true
    }

    /// Takes over what an earlier run left.
    async fn recall(&mut self) {
        let ledger = self.ledger.clone();
        let recall = async {
            (
                ledger.recall(ledger::PLATFORM).await,
                ledger.recall(ACKED).await,
                ledger.recall(BUDGETS).await,
                ledger.recall(ADDRESSES).await,
            )
        };
        // A disk that hangs must not keep this node from being seen.
        let recalled = tokio::time::timeout(RECALL_PATIENCE, recall).await;
        let Ok((values, acked, budgets, addresses)) = recalled else {
            return;
        };
        if let Some(values) = values.and_then(|stored| PlatformValues::remembered(&stored)) {
            self.values = values.clone();
            self.publish.send_replace(Some(values));
        }
        self.commands.restore(&acked.unwrap_or_default());
        let wall = (self.wall)();
        if let Some(saved) = budgets.and_then(|stored| serde_json::from_str::<Saved>(&stored).ok())
        {
            self.schedule
                .restore(&saved, &self.settings.budgets, now(), wall);
        }
        self.client
            .resolver()
            .restore(&addresses.unwrap_or_default(), wall);
    }

    /// Hands the ledger what is to outlive a restart.
    fn remember(&mut self) {
        let wall = (self.wall)();
        let saved = serde_json::to_string(&self.schedule.saved(now(), wall));
        self.ledger.remember(BUDGETS, saved.unwrap_or_default());
        self.ledger
            .remember(ADDRESSES, self.client.resolver().saved(wall));
        self.write_state(wall);
    }

    fn write_state(&mut self, wall: Timestamp) {
        if let Some(state) = self.standing.changed(wall) {
            let state = serde_json::to_string(state).unwrap_or_default();
            self.ledger.remember(ledger::UPLINK, state);
        }
    }

    /// Says what is to be said, and keeps it for `status`.
    fn speak(&mut self, now: Instant) {
        let waiting = self.waiting.borrow().clone();
        say(self.standing.say(now, &waiting));
        self.write_state((self.wall)());
    }

    fn stop(&mut self, patience: Duration) {
        let now = now();
        self.schedule.drain();
        self.wanted = Wanted {
            outgoing: true,
            newest: true,
            ..Wanted::default()
        };
        self.stopping = Some(Stopping {
            deadline: now + patience,
            has_looked: false,
        });
    }

    /// Whether there is nothing more to do, or no more time for it.
    fn is_over(&self, now: Instant) -> bool {
        self.stopping.is_some_and(|stopping| {
            let is_done = stopping.has_looked
                && self.asking.outgoing.is_none()
                && self.asking.newest.is_none()
                && self.telling.is_empty()
                && self.sending.is_empty()
                && !self.wanted.outgoing;
            now >= stopping.deadline || is_done || self.schedule.held().is_some()
        })
    }

    fn ledger_changed(&mut self) {
        let (incidents, samples) = {
            let waiting = self.waiting.borrow_and_update();
            (waiting.incidents, waiting.samples)
        };
        self.wanted.outgoing |= incidents > 0;
        self.wanted.newest |= samples > 0;
        if incidents > self.waited {
            self.schedule.incident_news(now());
        }
        self.waited = incidents;
    }

    /// Trouble with what no longer waits is none.
    fn tidy(&mut self, now: Instant) {
        let (incidents, samples) = {
            let waiting = self.waiting.borrow();
            (waiting.incidents, waiting.samples)
        };
        let wall = (self.wall)();
        if incidents == 0 && self.telling.is_empty() {
            self.standing.cleared(Lane::Incident, now, wall);
        }
        // In the resource contract no second waits for another try, so that none waits says nothing.
        if self.spoken == Spoken::Seed && samples == 0 && self.sending.is_empty() {
            self.standing.cleared(Lane::Live, now, wall);
        }
        if self.commands.next().is_none() {
            self.standing.cleared(Lane::Ack, now, wall);
        }
        let is_open = self.vitals.borrow().incident_open;
        self.schedule.incident_open(false, is_open, now);
    }

    /// What there is to do in each lane, if its time has come.
    fn has_work(&self, lane: Lane) -> bool {
        let is_stopping = self.stopping.is_some();
        match lane {
            Lane::Incident => self.wanted.outgoing && self.asking.outgoing.is_none(),
            Lane::Live => self.wanted.newest && self.asking.newest.is_none(),
            Lane::Backlog => {
                let is_for_us = self.spoken == Spoken::Seed && !is_stopping;
                self.wanted.oldest && self.asking.oldest.is_none() && is_for_us
            }
            Lane::Heartbeat | Lane::Config => !is_stopping,
            Lane::Ack => self.commands.next().is_some() && !is_stopping,
            Lane::Health => self.wanted.health && !is_stopping,
        }
    }

    /// When something is due, if nothing else happens.
    fn wakes_at(&self, now: Instant) -> Instant {
        let lanes = Lane::ALL.into_iter().filter(|lane| self.has_work(*lane));
        lanes
            .filter_map(|lane| self.schedule.ready_at(lane, now))
            .chain(self.standing.says_at())
            .chain(self.look_again)
            .chain(self.stopping.map(|stopping| stopping.deadline))
            .min()
            .unwrap_or(now + IDLE)
    }
}

/// Puts a line into the log.
fn say(line: Option<Line>) {
    if let Some(Line { urgency, text }) = line {
        match urgency {
            Urgency::Info => log::info!("{text}"),
            Urgency::Warning => log::warn!("{text}"),
            Urgency::Error => log::error!("{text}"),
        }
    }
}
