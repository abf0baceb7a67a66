//! The uplink's one task: looks at what waits, sends errands, looks at what they bring.
//!
//! Everything is decided here, one event after the other, so nothing needs a lock; everything that takes time runs as an
//! errand beside it. Asks the ledger, never holds it up. Runs on the thread `ft-uplink` until it is stopped.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::answer::{Action, Denial, Judged, Trouble, TroubleKind};
use super::client::Client;
use super::commands::Commands;
use super::errand::{self, Brought, Errand};
use super::once::health_check;
use super::platform::{self, PlatformValues};
use super::schedule::{Lane, Saved, Schedule};
use super::state::{Line, Standing, Urgency};
use super::wire::{self, Answer, Pulse, Spoken};
use super::{Contract, Settings, Vitals};
use crate::clock::{self, Timestamp};
use crate::ledger::{self, Ledger, Outgoing, Sample, Step, Waiting};

/// Seconds looked at in one go; more than are live at a time.
const SECONDS_MAX: usize = 16;

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
            clock::now(),
        );
        Self {
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
            stopping: None,
        }
    }

    /// Tells what there is to tell until `stop` says for how much longer.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<Duration>) {
        self.recall().await;
        let (mut hears_ledger, mut hears_vitals) = (true, true);
        loop {
            let now = now();
            self.tidy(now);
            self.start(now);
            self.speak(now);
            if self.is_over(now) {
                break;
            }
            let wake = tokio::time::Instant::from_std(self.wakes_at(now));
            let woke = tokio::select! {
                biased;
                patience = &mut stop, if self.stopping.is_none() => {
                    Woke::Stop(patience.unwrap_or_default())
                }
                Some(Ok(brought)) = self.errands.join_next() => Woke::Errand(brought),
                changed = self.waiting.changed(), if hears_ledger => Woke::Ledger(changed.is_ok()),
                changed = self.vitals.changed(), if hears_vitals => Woke::Vitals(changed.is_ok()),
                () = tokio::time::sleep_until(wake) => Woke::Time,
            };
            match woke {
                Woke::Stop(patience) => self.stop(patience),
                Woke::Errand(brought) => self.brought(brought),
                Woke::Ledger(is_there) => {
                    hears_ledger = is_there;
                    self.ledger_changed();
                }
                Woke::Vitals(is_there) => hears_vitals = is_there,
                Woke::Time => {}
            }
        }
        self.remember();
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
        let wall = clock::now();
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
        let wall = clock::now();
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
        self.write_state(clock::now());
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
        let wall = clock::now();
        if incidents == 0 && self.telling.is_empty() {
            self.standing.cleared(Lane::Incident, now, wall);
        }
        if samples == 0 && self.sending.is_empty() {
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

    /// Sends every errand whose time has come.
    fn start(&mut self, now: Instant) {
        if self.look_again.take_if(|at| *at <= now).is_some() {
            self.wanted.newest = true;
        }
        for lane in Lane::ALL {
            let is_ready = self
                .schedule
                .ready_at(lane, now)
                .is_some_and(|at| at <= now);
            if !is_ready || !self.has_work(lane) {
                continue;
            }
            let ledger = self.ledger.clone();
            match lane {
                // What waits is asked for first; what the ledger brings is then sent.
                Lane::Incident => {
                    self.asking.outgoing = Some(BTreeSet::new());
                    self.wanted.outgoing = false;
                    self.errands.spawn(errand::outgoing(ledger));
                }
                Lane::Live => {
                    self.asking.newest = Some(BTreeSet::new());
                    self.wanted.newest = false;
                    self.look_again = None;
                    self.errands
                        .spawn(errand::seconds(ledger, true, SECONDS_MAX));
                }
                Lane::Backlog => {
                    self.asking.oldest = Some(BTreeSet::new());
                    self.wanted.oldest = false;
                    self.errands
                        .spawn(errand::seconds(ledger, false, SECONDS_MAX));
                }
                Lane::Heartbeat => self.call(lane, now, Self::heartbeat),
                Lane::Config => self.call(lane, now, |_| wire::config()),
                Lane::Health => {
                    self.wanted.health = false;
                    self.call(lane, now, |_| health_check());
                }
                Lane::Ack => self.acknowledge(now),
            }
        }
    }

    fn call(&mut self, lane: Lane, now: Instant, request: impl FnOnce(&Self) -> wire::Request) {
        let request = request(self);
        if self.schedule.start(lane, now) {
            let call = errand::plain(self.client.clone(), Errand::Plain(lane), request);
            self.errands.spawn(call);
        }
    }

    fn heartbeat(&self) -> wire::Request {
        let waiting = self.waiting.borrow();
        self.spoken.heartbeat(&Pulse {
            os: &self.settings.os,
            vitals: &self.vitals.borrow(),
            waiting: waiting.incidents.saturating_add(waiting.samples),
            breaker: self.schedule.breaker(),
        })
    }

    fn acknowledge(&mut self, now: Instant) {
        if let Some((id, reason)) = self.commands.next()
            && self.schedule.start(Lane::Ack, now)
        {
            let request = wire::not_executed(id, reason);
            let call = errand::plain(self.client.clone(), Errand::Ack(id), request);
            self.errands.spawn(call);
        }
    }

    /// Looks at what an errand brought.
    fn brought(&mut self, brought: Brought) {
        let now = now();
        match brought {
            Brought::Outgoing(mut steps) => {
                let settled = self.asking.outgoing.take().unwrap_or_default();
                steps.retain(|step| !settled.contains(&step.report.id));
                if let Some(stopping) = &mut self.stopping {
                    stopping.has_looked = true;
                }
                self.tell(steps, now);
            }
            Brought::Newest(mut samples) => {
                let settled = self.asking.newest.take().unwrap_or_default();
                samples.retain(|sample| !settled.contains(&sample.start));
                match self.spoken {
                    Spoken::Seed => self.send_live(&samples, now),
                    Spoken::Resource => self.send_aggregate(samples, now),
                }
            }
            Brought::Oldest(mut samples) => {
                let settled = self.asking.oldest.take().unwrap_or_default();
                samples.retain(|sample| !settled.contains(&sample.start));
                self.send_old(&samples, now);
            }
            Brought::Answer(errand, judged) => self.answered(errand, judged, now),
        }
    }

    /// Sends steps of incidents, as many as may be on their way.
    fn tell(&mut self, mut steps: Vec<Outgoing>, now: Instant) {
        if self.spoken == Spoken::Resource && !steps.is_empty() {
            // The last is the newest incident's, and each incident is its own there: what goes on now comes first.
            steps.rotate_right(1);
        }
        for step in steps {
            let name = &step.report.id;
            if self.telling.contains(name) {
                continue;
            }
            if !self.schedule.start(Lane::Incident, now) {
                // Asked for again when one may be sent, so that it is told as it is then.
                self.wanted.outgoing = true;
                break;
            }
            self.telling.insert(name.clone());
            if step.step != Step::Update {
                // Both contracts' platforms may have news for a node under attack, and begin and end are what a curve
                // must not miss.
                self.schedule
                    .incident_open(step.step == Step::Open, true, now);
                self.schedule.aggregate_now();
                self.wanted.newest = true;
            }
            self.errands.spawn(errand::incident(
                self.client.clone(),
                self.ledger.clone(),
                step,
                self.spoken,
                self.may_switch,
            ));
        }
    }

    /// Whether a second is new enough to be sent before others. What seems to be from the future is new: the clock stepped.
    fn is_live(&self, sample: &Sample) -> bool {
        let age = Duration::from_nanos(clock::now().nanos_since(sample.start));
        sample.span_seconds <= 1 && age <= self.settings.cadence.live
    }

    fn send_live(&mut self, newest: &[Sample], now: Instant) {
        let (live, old): (Vec<&Sample>, Vec<&Sample>) =
            newest.iter().partition(|sample| self.is_live(sample));
        let waiting = self.waiting.borrow().samples;
        self.wanted.oldest |= !old.is_empty() || waiting > newest.len() as u64;
        for sample in live {
            if self.sending.contains(&sample.start) {
                continue;
            }
            if !self.send(Lane::Live, *sample, now) {
                self.wanted.newest = true;
                break;
            }
        }
    }

    fn send_old(&mut self, oldest: &[Sample], now: Instant) {
        let next = oldest
            .iter()
            .find(|sample| !self.is_live(sample) && !self.sending.contains(&sample.start));
        if let Some(sample) = next {
            self.wanted.oldest = !self.send(Lane::Backlog, *sample, now);
        }
    }

    fn send(&mut self, lane: Lane, sample: Sample, now: Instant) -> bool {
        let starts = self.schedule.start(lane, now);
        if starts {
            self.sending.insert(sample.start);
            let (client, ledger) = (self.client.clone(), self.ledger.clone());
            self.errands
                .spawn(errand::second(client, ledger, lane, sample));
        }
        starts
    }

    fn send_aggregate(&mut self, newest: Vec<Sample>, now: Instant) {
        let live: Vec<Sample> = newest
            .into_iter()
            .filter(|sample| self.is_live(sample))
            .collect();
        let Some(request) = wire::aggregate(&live) else {
            return;
        };
        if self.schedule.start(Lane::Live, now) {
            self.sending.extend(live.iter().map(|sample| sample.start));
            let (client, ledger) = (self.client.clone(), self.ledger.clone());
            self.errands
                .spawn(errand::aggregate(client, ledger, live, request));
        } else {
            self.wanted.newest = true;
        }
    }

    /// Looks at an answer of the platform's.
    fn answered(&mut self, errand: Errand, judged: Judged, now: Instant) {
        let lane = errand.lane();
        if lane == Lane::Health {
            let is_up = matches!(judged.action, Action::Accept(_));
            // Whatever it said, the next one keeps its distance.
            self.schedule.finished(lane, &Action::Refuse, now);
            self.standing.health(is_up, now, clock::now());
            return;
        }
        self.schedule.finished(lane, &judged.action, now);
        self.note(lane, &judged, now);
        let is_settled = errand::is_settled(&judged.action);
        match errand {
            Errand::Incident(name) => {
                self.telling.remove(&name);
                if let Some(settled) = &mut self.asking.outgoing {
                    settled.insert(name.clone());
                }
                // While it was on its way its next step may have come.
                self.wanted.outgoing = true;
                if let Action::Accept(answer) | Action::Adopt(answer) = &judged.action {
                    log::debug!("incident {name}: the platform has it");
                    self.commands_asked(&platform::commands(answer));
                }
            }
            Errand::Seconds(_, samples) => {
                for start in samples.iter().map(|sample| sample.start) {
                    self.sending.remove(&start);
                    let questions = [&mut self.asking.newest, &mut self.asking.oldest];
                    for settled in questions.into_iter().flatten() {
                        settled.insert(start);
                    }
                }
                self.wanted.newest |= !is_settled;
                self.look_again = now.checked_add(LOOK_AGAIN);
                self.wanted.oldest |= lane == Lane::Backlog;
            }
            Errand::Ack(id) => {
                if is_settled {
                    self.commands.answered(id);
                    self.ledger.remember(ACKED, self.commands.saved());
                }
            }
            Errand::Plain(Lane::Config) => {
                if let Action::Accept(answer) = &judged.action {
                    self.configured(answer, now);
                }
            }
            Errand::Plain(_) => {
                if is_settled {
                    self.remember();
                }
            }
        }
    }

    /// Keeps how it stands, and says what is to be said at once.
    fn note(&mut self, lane: Lane, judged: &Judged, now: Instant) {
        let wall = clock::now();
        // What is caught up on fails as what is live does.
        let lane = match lane {
            Lane::Backlog => Lane::Live,
            other => other,
        };
        if judged.bad_body {
            self.standing.bad_body();
        }
        match (&judged.action, &judged.trouble) {
            (Action::Accept(_) | Action::Adopt(_), _) => {
                say(self.standing.accepted(lane, now, wall));
            }
            (Action::Refuse | Action::Brief, trouble) => {
                let sentence = trouble.as_ref().map_or("", |trouble| &trouble.sentence);
                say(self.standing.refused(lane, sentence, now));
                self.standing.cleared(lane, now, wall);
            }
            (Action::Switch, _) => self.switch(),
            (_, Some(trouble)) => {
                self.standing.failed(lane, trouble.clone(), now, wall);
                self.wanted.health = true;
            }
            (_, None) => {}
        }
    }

    /// The platform does not know the seed contract's incident path.
    fn switch(&mut self) {
        if !self.may_switch {
            return;
        }
        self.may_switch = false;
        self.spoken = Spoken::Resource;
        self.schedule.speak(Spoken::Resource);
        self.standing.speaks(Spoken::Resource);
        log::info!(
            "the platform at {} does not know the seed contract's incident path: it is told in the resource contract \
             from now on (api.contract = \"resource\" does so from the start)",
            self.client.base()
        );
    }

    /// The platform says what it wants of this node.
    fn configured(&mut self, answer: &Answer, now: Instant) {
        let (values, notices) = self.values.updated(answer);
        for notice in notices
            .iter()
            .filter(|notice| !self.notices.contains(notice))
        {
            log::warn!("the platform's configuration of this node: {notice}");
        }
        self.notices = notices;
        if values.suspended {
            self.schedule.hold(Denial::Suspended, now);
            self.standing
                .failed(Lane::Config, suspended(), now, clock::now());
        }
        let new = values.commands.iter();
        let new: Vec<_> = new
            .filter(|new| !self.values.commands.contains(new))
            .collect();
        if let Some(first) = new.first() {
            log::warn!(
                "the platform asks for {} commands to be run here, the first of kind {:?}: {:?}; none is executed",
                new.len(),
                first.kind,
                platform::plain(&first.text, 200)
            );
        }
        self.commands_asked(&values.commands);
        if values != self.values || self.publish.borrow().is_none() {
            if let Ok(stored) = serde_json::to_string(&values) {
                self.ledger.remember(ledger::PLATFORM, stored);
            }
            self.values = values.clone();
            self.publish.send_replace(Some(values));
        }
    }

    /// Only the resource contract has an answer to commands.
    fn commands_asked(&mut self, commands: &[platform::PendingCommand]) {
        if self.spoken == Spoken::Resource {
            self.commands.asked(commands);
        }
    }
}

fn suspended() -> Trouble {
    Trouble {
        kind: TroubleKind::Suspended,
        sentence: "the platform says this workspace is suspended and takes nothing more: check billing in the Flowtriq \
                   dashboard"
            .to_owned(),
    }
}

fn say(line: Option<Line>) {
    if let Some(Line { urgency, text }) = line {
        match urgency {
            Urgency::Info => log::info!("{text}"),
            Urgency::Warning => log::warn!("{text}"),
            Urgency::Error => log::error!("{text}"),
        }
    }
}
