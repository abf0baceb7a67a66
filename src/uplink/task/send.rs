//! Sending: what is due in each lane becomes an errand.
//!
//! What waits is asked of the ledger when it may be sent, not before, so that it is told as it is then. Never waits itself;
//! on the thread `ft-uplink`.

use std::time::{Duration, Instant};

use super::super::errand::{self, Errand};
use super::super::once::health_check;
use super::super::schedule::Lane;
use super::super::wire::{self, Pulse, Spoken};
use super::{SECONDS_MAX, Task};
use crate::ledger::{Outgoing, Sample, Step};

impl Task {
    /// Sends every errand whose time has come.
    pub(super) fn start(&mut self, now: Instant) {
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
                    self.asking.outgoing = Some(Default::default());
                    self.wanted.outgoing = false;
                    self.errands.spawn(errand::outgoing(ledger));
                }
                Lane::Live => {
                    self.asking.newest = Some(Default::default());
                    self.wanted.newest = false;
                    self.look_again = None;
                    self.errands
                        .spawn(errand::seconds(ledger, true, SECONDS_MAX));
                }
                Lane::Backlog => {
                    self.asking.oldest = Some(Default::default());
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

    /// Sends steps of incidents, as many as may be on their way.
    pub(super) fn tell(&mut self, mut steps: Vec<Outgoing>, now: Instant) {
        // Each incident is its own there: what goes on now comes first.
        if self.spoken == Spoken::Resource
            && let Some(now) = steps.iter().rposition(|step| step.goes_on)
            && let Some(before) = steps.get_mut(..=now)
        {
            before.rotate_right(1);
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

    /// Whether it is one second, and began at most `limit` ago. What seems to be from the future is new: the clock stepped.
    fn is_newer(&self, sample: &Sample, limit: Duration) -> bool {
        let age = Duration::from_nanos((self.wall)().nanos_since(sample.start));
        sample.span_seconds <= 1 && age <= limit
    }

    /// Whether a second is new enough to be sent before others.
    fn is_live(&self, sample: &Sample) -> bool {
        self.is_newer(sample, self.settings.cadence.live)
    }

    pub(super) fn send_live(&mut self, newest: &[Sample], now: Instant) {
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

    pub(super) fn send_old(&mut self, oldest: &[Sample], now: Instant) {
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

    pub(super) fn send_aggregate(&mut self, newest: Vec<Sample>, now: Instant) {
        // The oldest second of a report is as old as the report is long, and the report may be late as much again.
        let cadence = &self.settings.cadence;
        let limit = cadence.live.max(cadence.aggregate * 2);
        let live: Vec<Sample> = newest
            .into_iter()
            .filter(|sample| self.is_newer(sample, limit))
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
}
