//! An agent that is killed (SIGKILL) at any moment of an attack: what stood on its disk then, and what the platform hears
//! of the attack in all.
//!
//! Contracts alternate, and every round has a state directory of its own in which an earlier run has learned what is
//! normal; every fourth of the seed contract's has the attack come back and be killed again. Moments and ways come from a
//! seeded generator. A few rounds in every run, more than 200 with `FTAGENT_LONG`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ftagent::demo::platform::{Call, Endpoint, Fault, Oddity, Received, Serves};
use ftagent::incident::Report;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::agent::Agent;
use crate::common::event::Event;
use crate::common::kept::{Dice, LEARNED_PPS, learned, leave};
use crate::common::process::{Running, until};
use crate::node::{Node, QUICK, rows, stored};

/// As long as [`QUICK`] holds.
const HOLD: Duration = Duration::from_secs(2);

/// The longest from the beginning of the flood to the kill: it is recognised within the first second, and reported each
/// second after.
const LONGEST_MICROS: u64 = 2_500_000;

/// How long a flood lasts that has ended before the kill, and how long one goes on after the restart.
const FLOOD: Duration = Duration::from_millis(1_500);

/// A platform that answers so late is killed before it has.
const LATE: Duration = Duration::from_millis(600);

/// Longer than the agent needs for anything here, on a machine that tests share.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the agent is killed.
fn rounds() -> u64 {
    if std::env::var_os("FTAGENT_LONG").is_some() {
        204
    } else {
        8
    }
}

/// When the attack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// After the restart.
    Later,
    /// While the agent is down.
    Meanwhile,
    /// Before the kill, and not long ago.
    Before,
}

/// When the agent is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So many microseconds after the flood was started, or after it has ended.
    After(u64),
    /// So many microseconds after the log tells of the attack.
    Recognised(u64),
}

/// One attack and one kill.
#[derive(Clone, Copy, Debug)]
struct Plan {
    serves: Serves,
    end: End,
    moment: Moment,
    /// Whether the platform's answers about incidents come late.
    is_late: bool,
}

impl Plan {
    fn new(serves: Serves, dice: &mut Dice) -> Self {
        let end = match dice.roll(5) {
            0 | 1 => End::Later,
            2 | 3 => End::Meanwhile,
            _ => End::Before,
        };
        let is_recognised = end != End::Before && dice.roll(4) == 0;
        let moment = if is_recognised {
            // Writing to the disk, sending, the answer: all of it happens in these.
            Moment::Recognised(dice.roll(15_000))
        } else if end == End::Before {
            // It is resolved in these, after the hold.
            Moment::After(dice.roll(2 * LONGEST_MICROS))
        } else {
            // More of them early, where more happens.
            let part = dice.roll(1_001);
            Moment::After(LONGEST_MICROS * part * part / 1_000_000)
        };
        Self {
            serves,
            end,
            moment,
            is_late: dice.roll(3) == 0,
        }
    }
}

/// What the database held when nobody worked with it.
#[derive(Debug)]
struct Stood {
    incident: Option<StoodIncident>,
    /// What of it waited to be told, in order.
    waiting: Vec<String>,
    /// Seconds the baseline has seen.
    observed: u64,
    /// The newest second of traffic.
    newest: u64,
    /// Seconds whose telling was acknowledged.
    told: BTreeSet<u64>,
}

#[derive(Debug)]
struct StoodIncident {
    name: String,
    is_open: bool,
    peak_pps: u64,
    /// Whether its traffic was already below the limit when it was stored.
    is_clear: bool,
}

impl Stood {
    fn of(node: &Node) -> Self {
        let db = stored(node.state.path());
        let mut incidents: Vec<StoodIncident> = rows(
            &db,
            "SELECT name, is_open, report FROM incident ORDER BY id",
            |row| {
                let report: String = row.get(2)?;
                let report: Report = serde_json::from_str(&report).expect("a report of ours");
                Ok(StoodIncident {
                    name: row.get(0)?,
                    is_open: row.get(1)?,
                    peak_pps: report.peak_pps,
                    is_clear: report.kept.is_some_and(|kept| kept.clear_since.is_some()),
                })
            },
        );
        assert!(incidents.len() <= 1, "one attack: {incidents:?}");
        let state: Vec<String> = rows(&db, "SELECT state FROM baseline", |row| row.get(0));
        let state: Value = state
            .first()
            .map(|state| serde_json::from_str(state).expect("a state of ours"))
            .unwrap_or_default();
        let seconds: Vec<(u64, bool)> = rows(&db, "SELECT start, told FROM sample", |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?))
        });
        Self {
            incident: incidents.pop(),
            waiting: rows(&db, "SELECT kind FROM step ORDER BY id", |row| row.get(0)),
            observed: state.pointer("/clock/observed").map_or(0, number),
            newest: seconds.iter().map(|(start, _)| *start).max().unwrap_or(0),
            told: seconds
                .into_iter()
                .filter_map(|(start, told)| told.then_some(start))
                .collect(),
        }
    }

    fn is_open(&self) -> bool {
        self.incident.as_ref().is_some_and(|known| known.is_open)
    }

    fn waits(&self, kind: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting == kind)
    }

    /// Where the incident stood, for the count at the end.
    fn stage(&self) -> Stage {
        match &self.incident {
            None => Stage::Unwritten,
            Some(_) if self.waits("open") => Stage::Unanswered,
            Some(known) if known.is_open => Stage::Acknowledged,
            Some(_) => Stage::Over,
        }
    }
}

/// How far an incident had come on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing of it was there.
    Unwritten,
    /// Its opening waited for an answer.
    Unanswered,
    /// Its opening was answered.
    Acknowledged,
    /// It was over.
    Over,
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// What an agent said at its start about the limit in force that it had learned.
fn learned_limit(agent: &Agent) -> String {
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("watching"));
    let (_, limit) = line
        .and_then(|line| line.split_once("bits: "))
        .expect("it tells its limits");
    limit.to_owned()
}

fn is_step(received: &Received) -> bool {
    matches!(
        received.endpoint,
        Endpoint::Incident | Endpoint::Open | Endpoint::Update | Endpoint::Resolve
    )
}

/// How many of these requests are of this kind.
fn count(received: &[Received], endpoint: Endpoint) -> usize {
    let of_it = received.iter().filter(|each| each.endpoint == endpoint);
    of_it.count()
}

/// What all of it amounted to, for people and for the long run.
#[derive(Debug, Default)]
struct Tally {
    stages: BTreeMap<(Stage, End), u64>,
    /// The log told of the attack, and nothing was on the disk.
    recognised_unwritten: u64,
    came_back: u64,
}

impl Tally {
    fn of(&self, stage: Stage) -> u64 {
        let of_it = self.stages.iter().filter(|((of, _), _)| *of == stage);
        of_it.map(|(_, times)| times).sum()
    }
}

#[test]
fn an_agent_killed_at_any_moment_of_an_attack_tells_of_one_attack() {
    let Some(mut node) = Node::with(Serves::Seed, "seed", QUICK) else {
        return;
    };
    let mut dice = Dice(20_261_123);
    let mut tally = Tally::default();
    let learned = learned();
    for round in 0..rounds() {
        let is_seed = round % 2 == 0;
        let (serves, contract) = if is_seed {
            (Serves::Seed, "seed")
        } else {
            (Serves::Resource, "resource")
        };
        node = Node::in_lab(node.lab, serves, contract, QUICK);
        leave(node.state.path(), learned.clone());
        kill(
            &node,
            Plan::new(serves, &mut dice),
            &format!("round {round}"),
            &mut tally,
        );
        // In the seed contract, where it stays one incident.
        if round % 8 == 0 && Stood::of(&node).incident.is_some() {
            let round = format!("round {round}, again");
            kill(&node, Plan::new(serves, &mut dice), &round, &mut tally);
            tally.came_back += 1;
        }
    }
    println!(
        "killed {} times: {tally:?}",
        tally.stages.values().sum::<u64>()
    );
    if std::env::var_os("FTAGENT_LONG").is_some() {
        let stages = [
            Stage::Unwritten,
            Stage::Unanswered,
            Stage::Acknowledged,
            Stage::Over,
        ];
        for stage in stages {
            assert!(tally.of(stage) > 0, "the moments miss {stage:?}: {tally:?}");
        }
    }
}

/// One attack, a kill in it, a restart: everything that has to be true of it.
fn kill(node: &Node, plan: Plan, round: &str, tally: &mut Tally) {
    let before = Stood::of(node);
    let first = node.platform.recorded().len();
    let mut agent = node.start(&[]);
    node.wait_for_limit_since(first as u64);
    let limit = learned_limit(&agent);
    assert!(!limit.contains("while learning starts"), "{limit}");
    if plan.is_late {
        for endpoint in [
            Endpoint::Incident,
            Endpoint::Open,
            Endpoint::Update,
            Endpoint::Resolve,
        ] {
            node.platform.set_fault(endpoint, Fault::late(LATE));
        }
    }
    let mut flood = Some(node.flood(100_000));
    if plan.end == End::Before {
        std::thread::sleep(FLOOD);
        end(flood.take());
    }
    let micros = match plan.moment {
        Moment::After(micros) => micros,
        Moment::Recognised(micros) => {
            let recognised =
                || agent.log().contains("attack opened") || agent.log().contains("reopened");
            assert!(
                until(PATIENCE, recognised),
                "{round}: no incident\n{}",
                agent.log()
            );
            micros
        }
    };
    std::thread::sleep(Duration::from_micros(micros));
    agent.signal(Signal::KILL);
    assert!(agent.ends_within(PATIENCE).is_some(), "{round}");
    let log = agent.log();
    let is_recognised = log.contains("attack opened") || log.contains("reopened");
    drop(agent);
    // What it had sent arrives.
    std::thread::sleep(Duration::from_millis(100));
    node.platform.clear_faults();
    let killed = node.platform.recorded().len();
    let stood = Stood::of(node);
    let stage = stood.stage();
    *tally.stages.entry((stage, plan.end)).or_default() += 1;
    tally.recognised_unwritten += u64::from(is_recognised && stage == Stage::Unwritten);
    let round = format!("{round}: {plan:?}, {stood:?}");

    if plan.end == End::Meanwhile {
        end(flood.take());
    }
    let mut agent = node.start(&[]);
    assert_eq!(
        learned_limit(&agent),
        limit,
        "{round}: nothing is learned anew"
    );
    if flood.is_some() {
        std::thread::sleep(FLOOD);
    }
    end(flood);
    let ends = stood.is_open() || plan.end == End::Later;
    if ends {
        let resolved = agent.wait_for(PATIENCE, Event::resolves);
        let resolved = resolved.unwrap_or_else(|| panic!("{round}: no end\n{}", agent.told()));
        let incident = resolved.event.incident().expect("it tells of one").clone();
        if let Some(known) = &stood.incident {
            assert_eq!(incident.id, known.name, "{round}: the same incident");
        }
        let unseen = match plan.end {
            End::Later => false,
            End::Meanwhile => true,
            // It was seen if that was told before the kill.
            End::Before => stood.incident.as_ref().is_some_and(|known| !known.is_clear),
        };
        assert_eq!(incident.ended_unseen, unseen, "{round}\n{}", agent.told());
    } else {
        std::thread::sleep(HOLD + FLOOD);
    }
    let all_is_told = || node.status().get("waiting_incidents").map(number) == Some(0);
    assert!(until(PATIENCE, all_is_told), "{round}: {}", node.status());
    let status = node.status();
    let normal = status.pointer("/baseline/p99_pps").map(number);
    assert_eq!(normal, Some(LEARNED_PPS), "{round}: {status}");
    let told: Vec<Event> = agent.stop().into_iter().map(|seen| seen.event).collect();
    let round = format!("{round}\n{told:?}\n{}", node.heard());
    let told = Told::of(&told);
    assert_eq!(told.ends, usize::from(ends), "{round}");
    assert_eq!(
        told.openings,
        usize::from(ends && stood.incident.is_none()),
        "{round}"
    );
    assert!(told.names.len() <= 1, "{round}");

    let received = node.platform.recorded();
    let (earlier, later) = received.split_at(killed);
    let earlier = earlier.get(first..).unwrap_or_default();
    heard(plan, &stood, earlier, later, &told, &round);
    let heard_of = node.platform.incidents();
    if stood.incident.is_some() || ends {
        let last = heard_of
            .last()
            .unwrap_or_else(|| panic!("nothing is heard of it: {round}"));
        let peak = Stood::of(node).incident.expect("it is kept").peak_pps;
        assert!(last.newest.peak_pps == peak as f64, "{peak}: {round}");
    }
    // One, unless the resource contract was told of an opening twice.
    let openings = match plan.serves {
        Serves::Seed => usize::from(stood.incident.is_some() || ends),
        _ => count(&received, Endpoint::Open),
    };
    assert_eq!(heard_of.len(), openings, "{round}");
    if let [twice, _] = &heard_of[..] {
        let is_left = twice.updates == 0 && !twice.resolved;
        assert!(is_left, "it stays as it was opened: {round}");
    }

    let after = Stood::of(node);
    assert_eq!(after.waiting, [""; 0], "{round}");
    assert!(!after.is_open(), "{round}");
    assert_eq!(
        after.incident.is_some(),
        stood.incident.is_some() || ends,
        "{round}"
    );
    // It goes on counting where it was stored.
    assert!(
        before.observed > 0 && stood.observed >= before.observed,
        "{round}"
    );
    assert!(
        after.observed > stood.observed,
        "{} {round}",
        after.observed
    );
}

/// Ends a flood. The generator has a process that sends, which does not go when the other one is killed.
fn end(flood: Option<Running>) {
    if let Some(mut flood) = flood {
        flood.stop(Signal::TERM, PATIENCE);
    }
}

/// The events of the agent that was started again.
struct Told {
    all: usize,
    openings: usize,
    ends: usize,
    names: BTreeSet<String>,
}

impl Told {
    fn of(events: &[Event]) -> Self {
        let incidents = || events.iter().filter_map(Event::incident);
        Self {
            all: incidents().count(),
            openings: events.iter().filter(|event| event.opens()).count(),
            ends: events.iter().filter(|event| event.resolves()).count(),
            names: incidents()
                .map(|incident| incident.id.to_string())
                .collect(),
        }
    }
}

/// What the platform may have heard before the kill, and what after it.
fn heard(
    plan: Plan,
    stood: &Stood,
    earlier: &[Received],
    later: &[Received],
    told: &Told,
    round: &str,
) {
    for each in earlier.iter().chain(later) {
        assert!(each.violations.is_empty(), "{:?} {round}", each.violations);
        let is_explained = |oddity: &Oddity| match oddity {
            Oddity::PeakFell | Oddity::OutOfOrder { .. } | Oddity::SecondAgain { .. } => true,
            Oddity::SecondOpen { .. } | Oddity::OpenedAgain { .. } => stood.waits("open"),
            Oddity::AfterResolve { .. } => stood.waits("resolve"),
            Oddity::NeverOpened { .. } => false,
        };
        assert!(
            each.oddities.iter().all(is_explained),
            "{:?} {round}",
            each.oddities
        );
    }
    if stood.incident.is_none() {
        assert!(
            !earlier.iter().any(is_step),
            "sent before it was on disk: {round}"
        );
    }
    // What was acknowledged is not sent again: what waited is, and what happened since.
    let calls = later.iter().filter(|each| is_step(each)).count();
    assert!(
        calls <= stood.waiting.len() + told.all,
        "{calls} calls: {round}"
    );
    // The second in which the agent starts again is told by both, each its part of it.
    let started = later.first().map(|each| each.wall.as_seconds());
    let kept_seconds = later
        .iter()
        .filter_map(|each| match &each.call {
            Call::Metrics(metrics) => metrics.recorded_at,
            _ => None,
        })
        .filter(|second| Some(second.as_seconds()) != started);
    for second in kept_seconds {
        assert!(
            !stood.told.contains(&second.as_seconds()),
            "{second} again: {round}"
        );
    }
    for beat in later
        .iter()
        .filter(|each| each.body.get("baseline_ready").is_some())
    {
        let told = |name: &str| beat.body.get(name).cloned().unwrap_or_default();
        assert_eq!(
            told("baseline_warmup_active"),
            Value::from(false),
            "{round}"
        );
        assert_eq!(told("baseline_quality"), Value::from("high"), "{round}");
        assert!(
            number(&told("baseline_total_samples")) >= stood.observed,
            "{round}"
        );
    }
    // The seed contract does not say which is which.
    if plan.serves == Serves::Seed {
        return;
    }
    let is_over = stood.incident.is_some() && !stood.is_open();
    once_or_unanswered(
        [count(earlier, Endpoint::Open), count(later, Endpoint::Open)],
        stood.waits("open"),
        stood.incident.is_some(),
        told.openings,
        round,
    );
    once_or_unanswered(
        [
            count(earlier, Endpoint::Resolve),
            count(later, Endpoint::Resolve),
        ],
        stood.waits("resolve"),
        is_over,
        told.ends,
        round,
    );
}

/// A step that happens once was sent once: before the kill if its acknowledgement was on disk, after it if it happened
/// then, and twice at most if it waited for its answer.
fn once_or_unanswered(
    [earlier, later]: [usize; 2],
    waits: bool,
    has_happened: bool,
    happens: usize,
    round: &str,
) {
    let expected = match (has_happened, waits) {
        (true, true) => earlier <= 1 && later == 1,
        (true, false) => earlier == 1 && later == 0,
        (false, _) => earlier == 0 && later == happens,
    };
    assert!(expected, "{earlier} before and {later} after: {round}");
}

#[test]
fn a_kill_costs_at_most_a_minute_of_learning_and_three_seconds_of_figures() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    // What is learned is stored at every minute of the clock, so that it was stored by then, at any time before.
    const LIFE: Duration = Duration::from_secs(65);
    let begun = ftagent::clock::monotonic();
    let mut agent = node.start(&["--seconds"]);
    std::thread::sleep(LIFE.saturating_sub(begun.elapsed()));
    let seconds = agent.seconds();
    agent.signal(Signal::KILL);
    assert!(agent.ends_within(PATIENCE).is_some());
    let stood = Stood::of(&node);
    let last = seconds.last().expect("seconds were told").recorded_at;
    let missing = last.as_seconds().saturating_sub(stood.newest);
    let unlearned = (seconds.len() as u64).saturating_sub(stood.observed);
    println!("{missing} s of figures and {unlearned} s of learning were lost");
    assert!(missing <= 2, "{last}: {stood:?}");
    assert!(
        stood.observed > 0 && unlearned <= 61,
        "{} of {}",
        stood.observed,
        seconds.len()
    );

    let mut agent = node.start(&["--seconds"]);
    let limit = learned_limit(&agent);
    assert!(!limit.contains("no limit"), "{limit}");
    let is_second = |event: &Event| matches!(event, Event::Second(_));
    for _ in 0..4 {
        assert!(
            agent.next(PATIENCE, is_second).is_some(),
            "{}",
            agent.told()
        );
    }
    agent.stop();
    let after = Stood::of(&node);
    assert!(
        after.observed >= stood.observed + 3,
        "{} {}",
        after.observed,
        stood.observed
    );
}
