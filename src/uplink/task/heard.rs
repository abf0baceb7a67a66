//! Hearing: what errands brought back, and what follows from it.
//!
//! The only place where an answer changes anything: schedule, standing, values, contract. Never waits; on the thread
//! `ft-uplink`.

use std::time::Instant;

use super::super::answer::{Action, Denial, Judged, Trouble, TroubleKind};
use super::super::errand::{self, Brought, Errand};
use super::super::platform::{self, PendingCommand};
use super::super::schedule::Lane;
use super::super::wire::{Answer, Spoken};
use super::{ACKED, LOOK_AGAIN, Task, now, say};
use crate::ledger;

impl Task {
    /// Looks at what an errand brought.
    pub(super) fn brought(&mut self, brought: Brought) {
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

    /// Looks at an answer of the platform's.
    fn answered(&mut self, errand: Errand, judged: Judged, now: Instant) {
        let lane = errand.lane();
        if lane == Lane::Health {
            let is_up = matches!(judged.action, Action::Accept(_));
            // Whatever it said, the next one keeps its distance.
            self.schedule.finished(lane, &Action::Refuse, now);
            self.standing.health(is_up, now, (self.wall)());
            return;
        }
        self.schedule.finished(lane, &judged.action, now);
        let is_suspended = lane == Lane::Config
            && matches!(&judged.action, Action::Accept(answer) if platform::is_suspended(answer));
        // A platform that takes our questions and nothing else is not fine again each time it is asked.
        if !is_suspended {
            self.note(lane, &judged, now);
        }
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
        let wall = (self.wall)();
        // What is caught up on fails as what is live does.
        let lane = match lane {
            Lane::Backlog => Lane::Live,
            other => other,
        };
        if judged.bad_body {
            self.standing.bad_body();
        }
        if let (Action::Adopt(_), Some(conflict)) = (&judged.action, &judged.trouble) {
            say(self.standing.conflicted(lane, &conflict.sentence, now));
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
                .failed(Lane::Config, suspended(), now, (self.wall)());
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
    fn commands_asked(&mut self, commands: &[PendingCommand]) {
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
