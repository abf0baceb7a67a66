//! One errand each: ask the ledger or the platform something, and bring back what came of it.
//!
//! Errands run beside each other on the uplink's runtime; what they bring is looked at in one place, `task`. What the
//! platform took is settled with the ledger here, before the errand counts as done.

use crate::ledger::{Ledger, Outgoing, PlatformIds, Sample, Settled};

use super::answer::{Action, Judged, Trouble, TroubleKind};
use super::client::Client;
use super::platform;
use super::schedule::Lane;
use super::wire::{self, Detail, Request, Spoken};

/// What an errand was about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Errand {
    /// A step of the incident of this name.
    Incident(String),
    /// Seconds of traffic.
    Seconds(Lane, Vec<Sample>),
    /// An answer to a command.
    Ack(i64),
    /// A heartbeat, the configuration, or a health check.
    Plain(Lane),
}

impl Errand {
    pub(super) const fn lane(&self) -> Lane {
        match self {
            Self::Incident(_) => Lane::Incident,
            Self::Ack(_) => Lane::Ack,
            Self::Seconds(lane, _) | Self::Plain(lane) => *lane,
        }
    }
}

/// What an errand brought back.
#[derive(Debug)]
pub(super) enum Brought {
    /// The ledger's steps that wait.
    Outgoing(Vec<Outgoing>),
    /// The ledger's newest seconds that wait.
    Newest(Vec<Sample>),
    /// Its oldest.
    Oldest(Vec<Sample>),
    /// What the platform's answer means.
    Answer(Errand, Judged),
}

/// Asks the ledger for the steps that wait.
pub(super) async fn outgoing(ledger: Ledger) -> Brought {
    Brought::Outgoing(ledger.outgoing().await)
}

/// Asks the ledger for seconds that wait.
pub(super) async fn seconds(ledger: Ledger, newest: bool, limit: usize) -> Brought {
    let samples = ledger.samples(newest, limit).await;
    if newest {
        Brought::Newest(samples)
    } else {
        Brought::Oldest(samples)
    }
}

/// Makes a call that leaves nothing to settle.
pub(super) async fn plain(client: Client, errand: Errand, request: Request) -> Brought {
    let judged = client.ask(&request, false).await;
    Brought::Answer(errand, judged)
}

/// Tells a step of an incident.
pub(super) async fn incident(
    client: Client,
    ledger: Ledger,
    step: Outgoing,
    spoken: Spoken,
    may_switch: bool,
) -> Brought {
    let judged = tell(&client, &step, spoken, may_switch).await;
    let settled = match &judged.action {
        Action::Accept(answer) | Action::Adopt(answer) => {
            let found = platform::ids(answer);
            // The first name seen stays: a repeated open may have been given another.
            Some(Settled::Delivered(PlatformIds {
                id: step.ids.id.or(found.id),
                uuid: step.ids.uuid.clone().or(found.uuid),
            }))
        }
        Action::Refuse | Action::Brief => {
            let reason = judged
                .trouble
                .as_ref()
                .map(|trouble| trouble.sentence.clone());
            Some(Settled::Refused(reason.unwrap_or_default()))
        }
        Action::Later(_) | Action::NoSuchPath | Action::Hold(_) => Some(Settled::Failed),
        // Nothing is wrong with the step: it is told at once in the other contract.
        Action::Switch => None,
    };
    if let Some(settled) = settled {
        ledger.settle(step.ticket, settled).await;
    }
    Brought::Answer(Errand::Incident(step.report.id), judged)
}

/// Tells a step; in brief, when the platform finds it too large.
async fn tell(client: &Client, step: &Outgoing, spoken: Spoken, may_switch: bool) -> Judged {
    let mut judged = None;
    for detail in [Detail::Full, Detail::Brief] {
        let answer = match spoken.incident(step, detail) {
            Ok(request) => client.ask(&request, may_switch).await,
            Err(sentence) => Judged {
                action: Action::Refuse,
                trouble: Some(Trouble {
                    kind: TroubleKind::Refused,
                    sentence: format!("incident {}: {sentence}", step.report.id),
                }),
                bad_body: false,
            },
        };
        let is_too_large = answer.action == Action::Brief;
        judged = Some(answer);
        if !is_too_large {
            break;
        }
    }
    // The loop runs at least once; without an answer the step would stay, which is what this says.
    judged.unwrap_or(Judged {
        action: Action::Later(None),
        trouble: None,
        bad_body: false,
    })
}

/// Tells one second of traffic, or one thinned one, in the seed contract.
pub(super) async fn second(client: Client, ledger: Ledger, lane: Lane, sample: Sample) -> Brought {
    let judged = client.ask(&wire::metrics(&sample), false).await;
    if is_settled(&judged.action) {
        ledger.told_samples(vec![sample]).await;
    }
    Brought::Answer(Errand::Seconds(lane, vec![sample]), judged)
}

/// Tells some seconds as one, in the resource contract. Whatever becomes of it, nothing older is told: the contract has no
/// time in it, so an old second would be taken for a new one.
pub(super) async fn aggregate(
    client: Client,
    ledger: Ledger,
    samples: Vec<Sample>,
    request: Request,
) -> Brought {
    // By name as well as by time: after the clock was set back, what was told is not "up to the newest".
    ledger.told_samples(samples.clone()).await;
    ledger.skip_samples().await;
    let judged = client.ask(&request, false).await;
    Brought::Answer(Errand::Seconds(Lane::Live, samples), judged)
}

/// Whether a call need not be made again.
pub(super) const fn is_settled(action: &Action) -> bool {
    matches!(
        action,
        Action::Accept(_) | Action::Adopt(_) | Action::Refuse | Action::Brief
    )
}
