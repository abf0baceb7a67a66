//! What may be sent when: lanes, budgets, waits, and the hold under which nothing is sent.
//!
//! Each kind of call has a lane of its own, so that a platform that chokes on metrics still gets incidents. Pure: every
//! call takes `now`, chance comes from a seed, nothing is sent from here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::answer::{Action, Denial};
use super::retry::{Backoff, Bucket, about, part};
use super::wire::Spoken;
use super::{Budgets, Cadence};
use crate::clock::Timestamp;

/// A kind of call with its own waits, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Lane {
    /// Steps of incidents.
    Incident,
    /// The newest seconds of traffic.
    Live,
    /// We are alive.
    Heartbeat,
    /// What shall we do?
    Config,
    /// Older seconds of traffic.
    Backlog,
    /// What became of commands.
    Ack,
    /// Is the platform there at all?
    Health,
}

impl Lane {
    pub(super) const ALL: [Self; 7] = [
        Self::Incident,
        Self::Live,
        Self::Heartbeat,
        Self::Config,
        Self::Backlog,
        Self::Ack,
        Self::Health,
    ];

    /// Requests on their way at once. Seconds come each second whatever a request takes: four let the platform take three
    /// seconds for each before any is late. The seed contract has one open incident a node, so its steps must not
    /// overtake each other; in the resource contract each incident is its own.
    const fn width(self, spoken: Spoken) -> u32 {
        match (self, spoken) {
            (Self::Incident, Spoken::Resource) | (Self::Live, Spoken::Seed) => 4,
            _ => 1,
        }
    }
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    in_flight: u32,
    backoff: Backoff,
    /// Not before then: the cadence, or the platform, says so.
    due: Option<Instant>,
    asked_to_wait: Option<Instant>,
    bucket: Bucket,
}

/// What may be sent when.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    cadence: Cadence,
    lanes: BTreeMap<Lane, Traffic>,
    spoken: Spoken,
    hold: Option<(Denial, Instant)>,
    /// Until then incidents are tried at short intervals.
    urgent_until: Option<Instant>,
    /// Whether a heartbeat was sent: the second one sets this node's phase.
    has_beaten: bool,
    chance: Chance,
}

/// What is kept of the budgets over a restart: requests left in each lane's, and when.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    at: Timestamp,
    left: BTreeMap<Lane, u64>,
}

/// A sequence of numbers that look random: Steele's and Vigna's SplitMix64.
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Schedule {
    /// A schedule on which everything is due. `seed` should differ from agent to agent.
    pub(super) fn new(
        cadence: Cadence,
        budgets: &Budgets,
        spoken: Spoken,
        seed: u64,
        now: Instant,
    ) -> Self {
        let lane = |lane| {
            let traffic = Traffic {
                in_flight: 0,
                backoff: Backoff::new(cadence.backoff_first, cadence.backoff_longest),
                due: None,
                asked_to_wait: None,
                bucket: Bucket::new(budgets.of(lane), now),
            };
            (lane, traffic)
        };
        Self {
            lanes: Lane::ALL.map(lane).into(),
            cadence,
            spoken,
            hold: None,
            urgent_until: None,
            has_beaten: false,
            chance: Chance(seed),
        }
    }

    /// When a request may start in `lane`, if nothing more happens; in the past for at once. `None`: not before one that
    /// is on its way has ended, or not while the platform takes nothing.
    pub(super) fn ready_at(&self, lane: Lane, now: Instant) -> Option<Instant> {
        let traffic = self.lanes.get(&lane)?;
        if traffic.in_flight >= lane.width(self.spoken) {
            return None;
        }
        let held = match self.hold {
            // Who is refused looks again with one call, the one that also tells whether the node is suspended.
            Some((_, until)) if lane == Lane::Config => Some(until),
            Some(_) if lane != Lane::Health => return None,
            _ => None,
        };
        let waits = [
            held,
            traffic.due.filter(|_| held.is_none()),
            traffic.asked_to_wait,
            traffic.backoff.until(),
            traffic.bucket.ready_at(now),
            // What is caught up on must leave the live seconds theirs.
            (lane == Lane::Backlog)
                .then(|| self.lanes.get(&Lane::Live)?.bucket.ready_at(now))
                .flatten(),
        ];
        Some(waits.into_iter().flatten().max().unwrap_or(now))
    }

    /// Takes note of a request that starts now, if it may.
    pub(super) fn start(&mut self, lane: Lane, now: Instant) -> bool {
        if self.ready_at(lane, now).is_none_or(|at| at > now) {
            return false;
        }
        if lane == Lane::Backlog {
            self.traffic(Lane::Live, |live| live.bucket.take(now));
        }
        let due = self.due_after(lane, now);
        self.traffic(lane, |traffic| {
            traffic.in_flight += 1;
            traffic.due = due;
            traffic.bucket.take(now)
        })
    }

    /// When the cadence wants the next one of `lane` after one at `now`.
    fn due_after(&mut self, lane: Lane, now: Instant) -> Option<Instant> {
        let period = match lane {
            Lane::Heartbeat if self.has_beaten => self.cadence.heartbeat,
            // Agents that started together must not go on beating together.
            Lane::Heartbeat => {
                self.has_beaten = true;
                let half = self.cadence.heartbeat / 2;
                half + part(half, self.chance.next())
            }
            Lane::Config => about(self.cadence.config, self.chance.next()),
            Lane::Live if self.spoken == Spoken::Resource => self.cadence.aggregate,
            Lane::Health => self.cadence.health,
            Lane::Live | Lane::Incident | Lane::Backlog | Lane::Ack => return None,
        };
        now.checked_add(period)
    }

    /// A request of `lane` ended, and `action` is what its answer meant.
    pub(super) fn finished(&mut self, lane: Lane, action: &Action, now: Instant) {
        let random = self.chance.next();
        let is_urgent =
            lane == Lane::Incident && self.urgent_until.is_some_and(|until| now < until);
        let cap = is_urgent.then_some(self.cadence.incident_retry);
        let no_such_path = about(self.cadence.denied_probe, random);
        self.traffic(lane, |traffic| {
            traffic.in_flight = traffic.in_flight.saturating_sub(1);
            match action {
                Action::Later(Some(wait)) => {
                    traffic.asked_to_wait = now.checked_add(*wait);
                    traffic.due = None;
                }
                Action::Later(None) => {
                    traffic.backoff.failed(now, cap, random);
                    traffic.due = None;
                }
                Action::NoSuchPath => {
                    traffic.asked_to_wait = now.checked_add(no_such_path);
                    traffic.due = None;
                }
                Action::Accept(_) | Action::Adopt(_) | Action::Refuse => {
                    traffic.backoff.answered();
                    traffic.asked_to_wait = None;
                }
                Action::Brief | Action::Switch | Action::Hold(_) => {}
            }
        });
        match action {
            Action::Hold(denial) => self.hold(*denial, now),
            Action::Accept(_) if lane != Lane::Health => {
                if lane == Lane::Config {
                    self.hold = None;
                }
                self.hurry_others(lane, now);
            }
            _ => {}
        }
    }

    /// One lane was answered: those that wait out a back-off need not wait to its end, but must not come back together.
    fn hurry_others(&mut self, answered: Lane, now: Instant) {
        for lane in Lane::ALL.into_iter().filter(|lane| *lane != answered) {
            let (spread, random) = (self.cadence.recovery, self.chance.next());
            self.traffic(lane, |traffic| traffic.backoff.hurry(now, spread, random));
        }
    }

    /// The platform takes nothing: look again rarely.
    pub(super) fn hold(&mut self, denial: Denial, now: Instant) {
        let probe = match denial {
            Denial::Credentials => self.cadence.denied_probe,
            Denial::Billing | Denial::Suspended => self.cadence.lapsed_probe,
        };
        let until = now + about(probe, self.chance.next());
        self.hold = Some((denial, until));
    }

    /// Whether nothing is sent, and why.
    pub(super) fn held(&self) -> Option<Denial> {
        self.hold.map(|(denial, _)| denial)
    }

    /// A new incident, or the end of one, waits to be told: for a while it is tried often, and first of all now.
    pub(super) fn incident_news(&mut self, now: Instant) {
        self.urgent_until = now.checked_add(self.cadence.incident_urgent);
        let spread = self.cadence.backoff_first;
        let random = self.chance.next();
        self.traffic(Lane::Incident, |traffic| {
            traffic.backoff.hurry(now, spread, random);
        });
    }

    /// Whether an incident is open: then the platform is asked more often what it wants, and first of all now.
    pub(super) fn incident_open(&mut self, has_begun: bool, is_open: bool, now: Instant) {
        let in_incident = now.checked_add(self.cadence.config_in_incident);
        self.traffic(Lane::Config, |traffic| {
            if has_begun {
                traffic.due = None;
            } else if is_open {
                traffic.due = traffic.due.min(in_incident);
            }
        });
    }

    /// The next aggregate need not wait for its time.
    pub(super) fn aggregate_now(&mut self) {
        self.traffic(Lane::Live, |traffic| traffic.due = None);
    }

    /// The platform speaks the other contract.
    pub(super) const fn speak(&mut self, spoken: Spoken) {
        self.spoken = spoken;
    }

    /// The end is near: what waits for nothing but a back-off is tried once more at once.
    pub(super) fn drain(&mut self) {
        for lane in Lane::ALL {
            self.traffic(lane, |traffic| traffic.backoff.answered());
        }
    }

    /// In the words of the resource contract: `open` while some calls wait after a failure, `half-open` while heartbeats
    /// do, `closed` else.
    pub(super) fn breaker(&self) -> &'static str {
        let fails = |lane: &Lane| {
            self.lanes
                .get(lane)
                .is_some_and(|traffic| traffic.backoff.is_failing())
        };
        if fails(&Lane::Heartbeat) {
            "half-open"
        } else if Lane::ALL.iter().any(fails) {
            "open"
        } else {
            "closed"
        }
    }

    /// The budgets, to be kept over a restart: who restarts in a loop must not ask in a loop.
    pub(super) fn saved(&self, now: Instant, wall: Timestamp) -> Saved {
        let left = self
            .lanes
            .iter()
            .map(|(lane, traffic)| (*lane, traffic.bucket.held(now)));
        Saved {
            at: wall,
            left: left.collect(),
        }
    }

    /// The budgets as they were. What was saved in the future is not believed.
    pub(super) fn restore(
        &mut self,
        saved: &Saved,
        budgets: &Budgets,
        now: Instant,
        wall: Timestamp,
    ) {
        if saved.at > wall {
            return;
        }
        let ago = Duration::from_nanos(wall.nanos_since(saved.at));
        for (lane, left) in &saved.left {
            let bucket = Bucket::restored(budgets.of(*lane), *left, ago, now);
            self.traffic(*lane, |traffic| traffic.bucket = bucket);
        }
    }

    fn traffic<T: Default>(&mut self, lane: Lane, change: impl FnOnce(&mut Traffic) -> T) -> T {
        // Every lane is there from the start on.
        self.lanes.get_mut(&lane).map(change).unwrap_or_default()
    }
}
