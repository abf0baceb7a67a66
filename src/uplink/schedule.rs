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
        // Who looked and was not turned away may send again: the others are tried, and turned away if need be.
        let is_let_in = !matches!(action, Action::Hold(_) | Action::Later(_));
        if lane == Lane::Config && is_let_in {
            self.hold = None;
        }
        match action {
            Action::Hold(denial) => self.hold(*denial, now),
            Action::Accept(_) if lane != Lane::Health => self.hurry_others(lane, now),
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
        self.aggregate_now();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::uplink::wire::Answer;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(seed: u64) -> (Schedule, Instant) {
        let now = clock::monotonic();
        let schedule = Schedule::new(
            Cadence::default(),
            &Budgets::default(),
            Spoken::Seed,
            seed,
            now,
        );
        (schedule, now)
    }

    fn accepted() -> Action {
        Action::Accept(Answer::new())
    }

    /// Starts a request that takes no time.
    fn call(schedule: &mut Schedule, lane: Lane, action: &Action, now: Instant) -> bool {
        let starts = schedule.start(lane, now);
        if starts {
            schedule.finished(lane, action, now);
        }
        starts
    }

    #[test]
    fn heartbeats_come_at_once_and_then_every_thirty_seconds_in_a_phase_of_their_own() {
        let mut phases = Vec::new();
        for seed in 0..200 {
            let (mut schedule, start) = schedule(seed);
            let (mut times, mut now) = (Vec::new(), start);
            while now < start + 200 * SECOND {
                assert!(call(&mut schedule, Lane::Heartbeat, &accepted(), now));
                times.push(now - start);
                now = schedule.ready_at(Lane::Heartbeat, now).unwrap();
            }
            assert_eq!(times[0], Duration::ZERO);
            assert!((15 * SECOND..=31 * SECOND).contains(&times[1]), "{times:?}");
            for pair in times[1..].windows(2) {
                assert_eq!(pair[1] - pair[0], 30 * SECOND);
            }
            phases.push(times[1]);
        }
        // No tenth of a second has more than a few of two hundred agents.
        phases.sort_unstable();
        let crowd = phases.windows(12).filter(|w| w[11] - w[0] < SECOND / 10);
        assert_eq!(crowd.count(), 0, "{phases:?}");
    }

    #[test]
    fn the_configuration_is_asked_for_more_often_during_an_incident() {
        let (mut schedule, start) = schedule(1);
        let asked = |schedule: &mut Schedule, from: u64, to: u64, is_open: bool| {
            let mut asked = Vec::new();
            for second in from..to {
                let now = start + Duration::from_secs(second);
                if call(schedule, Lane::Config, &accepted(), now) {
                    asked.push(second);
                }
                schedule.incident_open(false, is_open, now);
            }
            asked
        };
        let quiet = asked(&mut schedule, 0, 1_000, false);
        assert!((4..=5).contains(&quiet.len()), "{quiet:?}");
        assert_eq!(quiet[0], 0);
        schedule.incident_open(true, true, start + 1_000 * SECOND);
        let busy = asked(&mut schedule, 1_000, 1_100, true);
        assert_eq!(busy, (1_000..1_100).step_by(10).collect::<Vec<_>>());
        assert!(asked(&mut schedule, 1_100, 1_350, false).len() <= 2);
    }

    #[test]
    fn one_step_is_on_its_way_in_the_seed_contract_and_four_incidents_in_the_other() {
        for (spoken, width) in [(Spoken::Seed, 1), (Spoken::Resource, 4)] {
            let (mut schedule, now) = schedule(1);
            schedule.speak(spoken);
            let started = (0..10)
                .filter(|_| schedule.start(Lane::Incident, now))
                .count();
            assert_eq!(started, width);
            assert_eq!(schedule.ready_at(Lane::Incident, now), None);
            schedule.finished(Lane::Incident, &accepted(), now);
            assert!(schedule.start(Lane::Incident, now));
        }
    }

    #[test]
    fn a_refused_key_stops_everything_but_a_look_every_five_minutes() {
        for (denial, probe) in [
            (Denial::Credentials, 300),
            (Denial::Billing, 3_600),
            (Denial::Suspended, 3_600),
        ] {
            let (mut schedule, start) = schedule(7);
            assert!(call(
                &mut schedule,
                Lane::Live,
                &Action::Hold(denial),
                start
            ));
            let mut looks = Vec::new();
            for second in 1..4 * probe {
                let now = start + Duration::from_secs(second);
                schedule.incident_news(now);
                for lane in Lane::ALL.into_iter().filter(|lane| *lane != Lane::Health) {
                    if call(&mut schedule, lane, &Action::Hold(denial), now) {
                        assert_eq!(lane, Lane::Config);
                        looks.push(second);
                    }
                }
            }
            assert!((3..=4).contains(&looks.len()), "{looks:?}");
            assert_eq!(schedule.held(), Some(denial));
            let later = start + Duration::from_secs(6 * probe);
            assert!(call(&mut schedule, Lane::Config, &accepted(), later));
            assert_eq!(schedule.held(), None);
            assert!(call(&mut schedule, Lane::Incident, &accepted(), later));
            // A platform without a configuration to ask for lets us in with that.
            schedule.hold(denial, later);
            let later = later + Duration::from_secs(2 * probe);
            assert!(call(
                &mut schedule,
                Lane::Config,
                &Action::NoSuchPath,
                later
            ));
            assert_eq!(schedule.held(), None);
        }
    }

    #[test]
    fn incidents_are_tried_every_ten_seconds_for_two_minutes_and_then_ever_more_rarely() {
        let (mut schedule, start) = schedule(3);
        schedule.incident_news(start);
        let mut tries = Vec::new();
        for tenth in 0..36_000 {
            let now = start + tenth * SECOND / 10;
            if call(&mut schedule, Lane::Incident, &Action::Later(None), now) {
                tries.push(now - start);
            }
        }
        let early = tries.iter().take_while(|at| **at < 120 * SECOND);
        let early: Vec<_> = early.collect();
        assert!((12..=60).contains(&early.len()), "{tries:?}");
        for pair in early.windows(2) {
            assert!(*pair[1] - *pair[0] <= 10 * SECOND + SECOND / 5, "{tries:?}");
        }
        let late = tries.len() - early.len();
        assert!((10..=80).contains(&late), "{late}: {tries:?}");
        // News is tried within the first back-off, whatever the lane had come to.
        let news = start + 3_600 * SECOND;
        schedule.incident_news(news);
        let ready = schedule.ready_at(Lane::Incident, news).unwrap();
        assert!(ready <= news + SECOND);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_by_its_lane_alone() {
        let (mut schedule, start) = schedule(1);
        let wait = Action::Later(Some(40 * SECOND));
        assert!(call(&mut schedule, Lane::Live, &wait, start));
        schedule.incident_news(start);
        for second in 0..40 {
            let now = start + Duration::from_secs(second);
            assert!(!call(&mut schedule, Lane::Live, &accepted(), now));
            call(&mut schedule, Lane::Heartbeat, &accepted(), now);
        }
        assert!(call(
            &mut schedule,
            Lane::Live,
            &accepted(),
            start + 40 * SECOND
        ));
        assert!(call(&mut schedule, Lane::Incident, &accepted(), start));
    }

    #[test]
    fn an_answer_in_one_lane_brings_the_others_back_within_ten_seconds_but_not_together() {
        let mut delays = Vec::new();
        for seed in 0..300 {
            let (mut schedule, start) = schedule(seed);
            let mut now = start;
            for _ in 0..20 {
                now = schedule.ready_at(Lane::Live, now).unwrap().max(now);
                assert!(call(&mut schedule, Lane::Live, &Action::Later(None), now));
            }
            assert_eq!(schedule.breaker(), "open");
            assert!(call(&mut schedule, Lane::Heartbeat, &accepted(), now));
            let ready = schedule.ready_at(Lane::Live, now).unwrap();
            let delay = ready.saturating_duration_since(now);
            assert!(delay <= 10 * SECOND, "{delay:?}");
            delays.push(delay);
        }
        let early = delays.iter().filter(|delay| **delay < 5 * SECOND).count();
        assert!((100..=200).contains(&early), "{early} of 300");
    }

    #[test]
    fn what_is_caught_up_on_takes_a_fifth_of_the_budget_and_leaves_the_live_seconds_theirs() {
        let (mut schedule, start) = schedule(1);
        let (mut live, mut old) = (0, 0);
        for tenth in 0..6_000_u32 {
            let now = start + tenth * SECOND / 10;
            if tenth % 10 == 0 {
                assert!(call(&mut schedule, Lane::Live, &accepted(), now));
                live += 1;
            }
            old += u32::from(call(&mut schedule, Lane::Backlog, &accepted(), now));
        }
        assert_eq!(live, 600);
        assert!((239..=245).contains(&old), "{old} in ten minutes");
    }

    #[test]
    fn budgets_outlive_a_restart_and_are_not_believed_from_the_future() {
        let budgets = Budgets::default();
        let wall = Timestamp::from_seconds(1_773_567_858);
        let (mut before, now) = schedule(1);
        while call(&mut before, Lane::Incident, &accepted(), now) {}
        let saved = serde_json::to_string(&before.saved(now, wall)).unwrap();
        let saved: Saved = serde_json::from_str(&saved).unwrap();
        let restored = |wall| {
            let (mut after, now) = schedule(2);
            after.restore(&saved, &budgets, now, wall);
            (0..100)
                .filter(|_| call(&mut after, Lane::Incident, &accepted(), now))
                .count()
        };
        assert_eq!(restored(wall), 0);
        assert_eq!(restored(wall.plus_nanos(3_000_000_000)), 10);
        assert_eq!(restored(Timestamp::from_seconds(1)), 30, "a full budget");
    }
}
