//! Three days without a platform, in seconds: the real task, the real ledger on disk, requests over real sockets to the
//! platform to try things with, and a clock that stands still until it is moved.
//!
//! The runtime's clock is paused and moved by hand, one second at a time, each time once nothing is on its way any more;
//! the wall clock follows it. So an answer takes no time, and everything between two answers takes as long as it would.
//! Nothing here depends on how fast the machine is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::ready;
use std::path::PathBuf;
use std::sync::mpsc;

use super::*;
use crate::demo::platform::{self, Call, Endpoint, Fault, Platform, Received, Serves};
use crate::incident::Report;
use crate::ledger::{Sample, Step};
use crate::uplink::server::sample;
use crate::uplink::{ApiBase, ApiKey, Budgets, InterfaceVitals, Rate};

/// When the agent starts; a whole minute, in 2027.
const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Seconds from the start on at which the platform goes away, and is there again. Whole minutes.
const AWAY: u64 = 60;
const BACK: u64 = AWAY + 72 * 3_600;

/// Every 45 minutes five attacks follow each other: 480 in three days. One is open when the platform goes, one when it
/// comes back.
const BUNCH: u64 = 2_700;
const ATTACKS: u64 = 5;
const FIRST_OPENS: u64 = 38;
const APART: u64 = 20;
const UPDATES: [u64; 2] = [4, 8];
const LASTS: u64 = 15;
/// After so long a bunch is over.
const QUIET: u64 = 150;

/// The attack that is open when the platform goes, the one that is when it comes back, and the last of that bunch.
const FIRST_UNTOLD: u64 = 1;
const NEWEST_UNTOLD: u64 = 481;
const LAST_OF_ITS_BUNCH: u64 = 484;

/// Seconds that are handed over together while there is no platform: half a minute, which changes nothing for an uplink
/// that waits longer from one attempt to the next. And how far the ledger's thread may be behind then: half of its queue.
const TOGETHER: u64 = 30;
const SYNCHRONISED: u64 = 300;

/// Catching up on seconds takes about five hours; one more is too long. Each second of them is lived in a fraction of one
/// of ours, so an ordinary run sees the first.
const CAUGHT_UP_WITHIN: u64 = 6 * 3_600;
const CAUGHT_UP_ON: u64 = 3_600;

/// When no more than a few wait, the last of the old ones are told within two minutes, among the new ones.
const LAST_OLD_ONES: u64 = 120;

/// Seconds that may be too old to be kept before the first minute of the outage is told.
const TOO_OLD_MAX: u64 = 180;

thread_local! {
    /// When the runtime's clock showed [`START`].
    static BEGAN: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
}

/// The wall clock, which goes as the runtime's does.
fn wall() -> Timestamp {
    let began = BEGAN.get().expect("the stage sets it first");
    let passed = u64::try_from(began.elapsed().as_nanos()).unwrap();
    START.plus_nanos(passed)
}

/// A request as the platform took it in, or did not.
struct Heard {
    /// Seconds since the start.
    second: u64,
    request: Received,
}

/// The agent's half and the platform's, and the time between them.
struct Stage {
    task: Task,
    stop: oneshot::Receiver<Duration>,
    vitals: watch::Sender<Vitals>,
    waiting: watch::Receiver<Waiting>,
    ledger: Ledger,
    platform: Platform,
    directory: PathBuf,
    /// Seconds since the start.
    second: u64,
    /// When the ledger's thread had taken in all that was handed to it.
    synchronised: u64,
    heard: Vec<Heard>,
    // Whoever drops these ends the task, or lets the clock run by itself.
    _stop: oneshot::Sender<Duration>,
    _hold: mpsc::Sender<()>,
}

impl Stage {
    async fn new(serves: Serves, contract: Contract) -> Self {
        let (hold, held) = mpsc::channel::<()>();
        // As long as a blocking task is at work, a paused clock does not run ahead to the next timer while answers are
        // on their way.
        tokio::task::spawn_blocking(move || held.recv());
        BEGAN.set(Some(tokio::time::Instant::now()));
        let platform = platform::Settings {
            serves,
            ..platform::Settings::default()
        };
        let (key, node) = (
            ApiKey::new(&platform.key).unwrap(),
            platform.node_uuid.clone(),
        );
        let platform = Platform::start(platform).unwrap();
        let settings = Settings {
            contract,
            ..Settings::new(platform.base(), key, node)
        };
        let name = format!("ftagent-outage-{}-{contract:?}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let (ledger, _) = Ledger::open(ledger::Settings {
            dir: Some(directory.clone()),
            // What is too old is removed as often in the outage's time as it can be in ours.
            retry: Duration::from_secs(1),
            ..ledger::Settings::default()
        })
        .unwrap();
        let base = ApiBase::parse(&settings.api_base, false).unwrap();
        let client = Client::new(
            base,
            Some(&settings.key),
            Some(&settings.node_uuid),
            &settings.cadence,
        )
        .unwrap();
        let (vitals, read) = watch::channel(vitals(0));
        let (publish, _) = watch::channel(None);
        let (stopper, stop) = oneshot::channel();
        let mut task = Task::new(wall, settings, client, ledger.clone(), read, publish);
        task.begin().await;
        Self {
            task,
            stop,
            vitals,
            waiting: ledger.waiting(),
            ledger,
            platform,
            directory,
            second: 0,
            synchronised: 0,
            heard: Vec::new(),
            _stop: stopper,
            _hold: hold,
        }
    }

    /// Lets the agent live until `second`.
    async fn live_until(&mut self, second: u64) {
        while self.second < second {
            let is_away = (AWAY..BACK).contains(&self.second);
            let longest = if is_away { TOGETHER } else { 1 };
            let longest = longest.min(second - self.second);
            let seconds = (1..longest).find(|seconds| step_at(self.second + seconds).is_some());
            self.live(seconds.unwrap_or(longest), is_away).await;
        }
    }

    /// Lets some seconds pass, with everything that becomes due in them, and hands over what they have brought.
    async fn live(&mut self, seconds: u64, is_away: bool) {
        self.second += seconds;
        let end = BEGAN.get().expect("set at the start") + Duration::from_secs(self.second);
        loop {
            let now = tokio::time::Instant::now();
            let due = tokio::time::Instant::from_std(self.task.wakes_at(now.into_std()));
            // What is due and not done waits for something else.
            let to = due.max(now + Duration::from_millis(1)).min(end);
            tokio::time::advance(to - now).await;
            self.settle().await;
            if to == end {
                break;
            }
        }
        for second in self.second - seconds..self.second {
            self.ledger.second(second_of(second));
        }
        if let Some((attack, telling)) = step_at(self.second) {
            let step = match telling {
                0 => Step::Open,
                3 => Step::Resolve,
                _ => Step::Update,
            };
            self.ledger.event(step, report_of(attack, telling));
        }
        self.vitals.send_replace(vitals(self.second));
        // The ledger's thread lives in our time: what was handed to it is there before anything else happens. While there
        // is nobody to hear of it, it may be a few minutes behind.
        if !is_away || self.second - self.synchronised >= SYNCHRONISED {
            self.ledger.recall("nothing").await;
            self.synchronised = self.second;
        }
        self.settle().await;
        self.note();
    }

    /// Gives the task its turns until it waits for nothing but time.
    async fn settle(&mut self) {
        loop {
            let has_turned = tokio::select! {
                biased;
                goes_on = self.task.turn(&mut self.stop) => { assert!(goes_on); true }
                () = ready(()) => false,
            };
            if has_turned {
                continue;
            }
            if self.task.errands.is_empty() {
                return;
            }
            assert!(self.task.turn(&mut self.stop).await);
        }
    }

    /// Takes note of what the platform was asked since it was looked last.
    fn note(&mut self) {
        let new = self.platform.recorded_since(self.heard.len() as u64);
        let second = self.second;
        self.heard
            .extend(new.into_iter().map(|request| Heard { second, request }));
    }

    /// Three days in which the platform is refused, unwell, and refused again.
    async fn outage(&mut self) {
        let third = (BACK - AWAY) / 3;
        self.live_until(AWAY).await;
        self.reach(false);
        self.live_until(AWAY + third).await;
        self.reach(true);
        self.platform.set_fault_everywhere(Fault::status(503));
        self.live_until(AWAY + 2 * third).await;
        self.reach(false);
        self.live_until(BACK).await;
        self.platform.clear_faults();
        self.reach(true);
    }

    /// There is a platform from now on, or none.
    fn reach(&self, is_reachable: bool) {
        self.platform.set_reachable(is_reachable);
        // It has a thread of its own, which needs a moment.
        std::thread::sleep(Duration::from_millis(100));
    }

    /// What the platform took, and was asked in vain.
    fn taken(&self) -> impl Iterator<Item = &Heard> {
        self.heard.iter().filter(|heard| heard.request.taken)
    }

    /// Nothing waits, and no step was lost.
    fn assert_nothing_is_owed(&self) {
        let waiting = self.waiting.borrow();
        assert_eq!((waiting.incidents, waiting.dropped_events), (0, 0));
        for heard in &self.heard {
            let violations = &heard.request.violations;
            assert!(violations.is_empty(), "{violations:?}");
        }
    }

    /// The busiest sixty seconds of each kind of call, none beyond its budget, and of all together.
    fn assert_within_budgets(&self) -> Busiest {
        let budgets = Budgets::default();
        let is_old = |heard: &Heard| match &heard.request.call {
            Call::Metrics(metrics) => metrics
                .recorded_at
                .is_some_and(|at| START.as_seconds() + heard.second > at.as_seconds() + 2 + 10),
            _ => false,
        };
        let at = |endpoints: &'static [Endpoint]| {
            move |heard: &Heard| endpoints.contains(&heard.request.endpoint)
        };
        let within = |rate: Rate, calls: u32| {
            assert!(calls <= rate.per_minute + rate.burst, "{calls} of {rate:?}");
            calls
        };
        const STEPS: &[Endpoint] = &[
            Endpoint::Incident,
            Endpoint::Open,
            Endpoint::Update,
            Endpoint::Resolve,
        ];
        within(budgets.heartbeat, self.busiest(at(&[Endpoint::Heartbeat])));
        within(budgets.config, self.busiest(at(&[Endpoint::Config])));
        within(budgets.config, self.busiest(at(&[Endpoint::Health])));
        let busiest = Busiest {
            steps: within(budgets.incident, self.busiest(at(STEPS))),
            seconds: within(budgets.metrics, self.busiest(at(&[Endpoint::Metrics]))),
            old_seconds: within(budgets.backlog, self.busiest(is_old)),
            all: self.busiest(|_| true),
        };
        // Half of what the platform allows.
        assert!(busiest.all <= 500, "{}", busiest.all);
        busiest
    }

    /// The most requests that are `wanted` in any sixty seconds.
    fn busiest(&self, wanted: impl Fn(&Heard) -> bool) -> u32 {
        let mut seconds: Vec<u64> = Vec::new();
        let wanted = self.heard.iter().filter(|heard| wanted(heard));
        seconds.extend(wanted.map(|heard| heard.second));
        let (mut most, mut first) = (0, 0);
        for (place, second) in seconds.iter().enumerate() {
            while seconds[first] + 60 <= *second {
                first += 1;
            }
            most = most.max(place + 1 - first);
        }
        u32::try_from(most).unwrap()
    }

    /// Requests a minute while the platform answered each with 503.
    fn attempts_a_minute(&self) -> f64 {
        let asked = self
            .heard
            .iter()
            .filter(|heard| heard.request.status == 503);
        let third = (BACK - AWAY) / 3;
        f64::from(u32::try_from(asked.count()).unwrap()) * 60.0
            / f64::from(u32::try_from(third).unwrap())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The most requests in any sixty seconds.
struct Busiest {
    steps: u32,
    seconds: u32,
    old_seconds: u32,
    all: u32,
}

/// What the agent says of itself.
fn vitals(second: u64) -> Vitals {
    Vitals {
        uptime_seconds: second,
        incident_open: attack_at(second).is_some_and(|(_, lasted)| lasted < LASTS),
        interfaces: vec![InterfaceVitals {
            name: "eth0".to_owned(),
            watched: true,
            ..InterfaceVitals::default()
        }],
        ..Vitals::default()
    }
}

/// The last attack of the bunch, and for how long it has been there.
fn attack_at(second: u64) -> Option<(u64, u64)> {
    let since = (second % BUNCH).checked_sub(FIRST_OPENS)?;
    let attack = second / BUNCH * ATTACKS + since / APART;
    (since / APART < ATTACKS).then_some((attack, since % APART))
}

/// What is told at a second, if something is: an opening (0), two updates, the end (3).
fn step_at(second: u64) -> Option<(u64, u64)> {
    let (attack, lasted) = attack_at(second)?;
    let tellings = [0, UPDATES[0], UPDATES[1], LASTS];
    let telling = tellings.iter().position(|at| *at == lasted)?;
    Some((attack, telling as u64))
}

/// What came in in a second: no two neighbours are alike.
fn second_of(second: u64) -> Sample {
    Sample {
        pps: pps(second),
        ..sample(START.plus_nanos(second * Timestamp::NANOS_PER_SECOND))
    }
}

const fn pps(second: u64) -> u64 {
    10_000 + second * 7_919 % 1_000
}

/// An attack at one of its four tellings, which its peak names: as recorded ones were told when they opened, and when they
/// were over.
fn report_of(attack: u64, telling: u64) -> Report {
    let recorded = include_str!("../../../tests/golden/syn_flood.jsonl");
    let line = recorded
        .lines()
        .nth(if telling == 3 { 2 } else { 0 })
        .unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let report: Report = serde_json::from_value(event["incident"].clone()).unwrap();
    let opened = attack / ATTACKS * BUNCH + FIRST_OPENS + attack % ATTACKS * APART;
    let opened_at = START.plus_nanos(opened * Timestamp::NANOS_PER_SECOND);
    Report {
        id: format!("{}-{attack}", opened_at.as_seconds()),
        peak_pps: peak(attack, telling),
        started_at: opened_at,
        opened_at,
        ended_at: (telling == 3).then(wall),
        ..report
    }
}

/// Never 0, which no attack has.
const fn peak(attack: u64, telling: u64) -> u64 {
    (attack + 1) * 1_000 + telling
}

/// The attack and the telling that a peak names.
const fn told_by(peak: u64) -> (u64, u64) {
    (peak / 1_000 - 1, peak % 1_000)
}

/// The tellings of an attack that the platform hears: each as it comes, or the opening and the end of one that it hears of
/// when it is over. The end takes the place of the updates that waited.
const fn tellings(attack: u64) -> &'static [u64] {
    if attack < FIRST_UNTOLD || attack > LAST_OF_ITS_BUNCH {
        &[0, 1, 2, 3]
    } else {
        &[0, 3]
    }
}

/// Runs a story on a clock that stands still.
fn on_a_held_clock<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(story)
}

/// Prints a row for `make measure`.
fn measured(quantity: &str, figure: &str, budget: &str) {
    println!("measured\t{quantity}\t{figure}\t{budget}\tkept");
}

#[test]
fn three_days_without_the_platform_are_told_in_the_seed_contract_once_and_in_order() {
    on_a_held_clock(async {
        let mut stage = Stage::new(Serves::Seed, Contract::Seed).await;
        stage.outage().await;
        assert!(stage.waiting.borrow().incidents > 479);
        let mut all_steps_told = None;
        let is_long = std::env::var_os("FTAGENT_LONG").is_some();
        let is_over = |stage: &Stage| match is_long {
            true => stage.waiting.borrow().samples <= 16,
            false => stage.second >= BACK + CAUGHT_UP_ON,
        };
        let mut is_over_since = None;
        let goes_on = |second, since: Option<u64>| {
            since.is_none_or(|since| second < since + LAST_OLD_ONES) || second % BUNCH < QUIET
        };
        while goes_on(stage.second, is_over_since) {
            assert!(stage.second < BACK + CAUGHT_UP_WITHIN);
            stage.live_until(stage.second + 1).await;
            if is_over(&stage) {
                is_over_since.get_or_insert(stage.second);
            }
            if stage.waiting.borrow().incidents == 0 {
                all_steps_told.get_or_insert(stage.second - BACK);
            }
        }
        let caught_up = stage.second - BACK;
        stage.assert_nothing_is_owed();

        let attacks = (stage.second / BUNCH + 1) * ATTACKS;
        let expected: Vec<u64> = (0..attacks)
            .flat_map(|attack| {
                tellings(attack)
                    .iter()
                    .map(move |telling| peak(attack, *telling))
            })
            .collect();
        let told: Vec<u64> = stage
            .taken()
            .filter(|heard| heard.request.endpoint == Endpoint::Incident)
            .map(|heard| heard.request.body["peak_pps"].as_u64().unwrap())
            .collect();
        assert_eq!(told, expected);
        let spans = assert_all_seconds_are_told(&stage, is_long);
        let busiest = stage.assert_within_budgets();
        let attempts = stage.attempts_a_minute();
        assert!(attempts < 6.0, "{attempts} a minute");
        let all_steps_told = all_steps_told.expect("all were told");
        // 30 at once and 935 at 200 a minute.
        assert!(all_steps_told <= 300, "{all_steps_told} s");
        measured(
            "72 h without a platform, seed: steps of incidents told once and in order",
            &format!(
                "{} of {}, after {all_steps_told} s",
                told.len(),
                expected.len()
            ),
            "all",
        );
        measured(
            "  requests in the busiest minute: incidents, seconds, of these older ones, all",
            &format!(
                "{}, {}, {}, {}",
                busiest.steps, busiest.seconds, busiest.old_seconds, busiest.all
            ),
            "230, 130, 28, 500",
        );
        measured(
            "  requests a minute while the platform answers 503",
            &format!("{attempts:.1}"),
            "6",
        );
        let told = |length| spans.get(&length).copied().unwrap_or(0);
        let is_caught_up = if is_long { "all" } else { "those of the first" };
        measured(
            "  seconds told: as minutes, as tens, as they are",
            &format!(
                "{}, {}, {}: {is_caught_up} {:.1} h",
                told(60),
                told(10),
                told(1),
                f64::from(u32::try_from(caught_up).unwrap()) / 3_600.0
            ),
            "6 h",
        );
    });
}

/// Every second that was kept is in exactly one sample, and each sample tells the mean of its seconds. Gives how many
/// samples stand for so many seconds.
fn assert_all_seconds_are_told(stage: &Stage, is_complete: bool) -> BTreeMap<u64, u64> {
    let mut samples = BTreeMap::new();
    for heard in stage.taken() {
        if let Call::Metrics(metrics) = &heard.request.call {
            let at = metrics.recorded_at.expect("the contract requires it");
            let start = at.as_seconds() - START.as_seconds();
            let pps = heard.request.body["pps"].as_u64().unwrap();
            assert_eq!(
                samples.insert(start, pps),
                None,
                "second {start} is told once"
            );
        }
    }
    let starts: Vec<u64> = samples.keys().copied().collect();
    let mut spans = BTreeMap::new();
    let mut oldest_kept = None;
    for pair in starts.windows(2) {
        let [start, next] = *pair else { continue };
        // The seconds just before the platform went may not have been told in time: they are told with what is left of their
        // minute. What became three days old before it could be told is gone: the first of the outage.
        if start < AWAY && start + 3 >= AWAY {
            assert!(next <= AWAY + TOO_OLD_MAX, "nothing before {next}");
            oldest_kept = Some(next);
            continue;
        }
        // As far as it has come; the newest seconds were told first.
        if !is_complete && start < BACK - 10 && next >= BACK - 10 {
            continue;
        }
        let length = next - start;
        // The minute in which that ends is told with what is left of it.
        let is_rest_of_minute = oldest_kept == Some(start) && next == start.next_multiple_of(60);
        // So is what came just before the newest seconds, which were told first.
        let is_before_newest = start.is_multiple_of(10) && (BACK - 10..=BACK).contains(&next);
        assert!(
            [1, 10, 60].contains(&length) || is_rest_of_minute || is_before_newest,
            "{length} s from {start} on"
        );
        let sum: u64 = (start..next).map(pps).sum();
        assert_eq!(
            samples[&start],
            (sum + length / 2) / length,
            "{length} s from {start} on"
        );
        *spans.entry(length).or_insert(0) += 1;
    }
    let lost = stage.waiting.borrow().dropped_samples;
    assert!(lost <= TOO_OLD_MAX, "{lost} seconds were lost");
    spans
}

#[test]
fn three_days_without_the_platform_are_told_in_the_resource_contract_once_and_in_order() {
    on_a_held_clock(async {
        let mut stage = Stage::new(Serves::Resource, Contract::Resource).await;
        stage.outage().await;
        stage.live_until(BACK + BUNCH / 2).await;
        stage.assert_nothing_is_owed();

        // The attack of each name that the platform gave, in the order in which they were opened.
        let known = stage.platform.incidents();
        let attack_of: BTreeMap<&str, u64> = known
            .iter()
            .map(|incident| {
                (
                    incident.uuid.as_str(),
                    told_by(whole(incident.newest.peak_pps)).0,
                )
            })
            .collect();
        let mut told: BTreeMap<u64, Vec<(Endpoint, u64)>> = BTreeMap::new();
        let mut opened = Vec::new();
        for heard in stage.taken() {
            let (of, peak_pps) = match &heard.request.call {
                Call::Open(incident) => (None, incident.peak_pps),
                Call::Update { uuid, incident } | Call::Resolve { uuid, incident } => {
                    (Some(uuid.as_str()), incident.peak_pps)
                }
                _ => continue,
            };
            let (attack, telling) = told_by(whole(peak_pps));
            match of {
                Some(uuid) => assert_eq!(attack_of[uuid], attack),
                None => opened.push(attack),
            }
            let step = (heard.request.endpoint, telling);
            told.entry(attack).or_default().push(step);
        }
        let attacks = (stage.second / BUNCH + 1) * ATTACKS;
        assert_eq!(told.len() as u64, attacks);
        for attack in 0..attacks {
            let told = &told[&attack];
            assert_eq!(told.first(), Some(&(Endpoint::Open, 0)), "attack {attack}");
            assert_eq!(
                told.last(),
                Some(&(Endpoint::Resolve, 3)),
                "attack {attack}"
            );
            let between = &told[1..told.len() - 1];
            let is_update = |step: &(Endpoint, u64)| step.0 == Endpoint::Update;
            assert!(between.iter().all(is_update), "attack {attack}: {told:?}");
            assert!(
                told.is_sorted_by_key(|step| step.1),
                "attack {attack}: {told:?}"
            );
            if (FIRST_UNTOLD + 1..NEWEST_UNTOLD).contains(&attack) {
                assert_eq!(told.len(), 2, "attack {attack}");
            }
        }
        // Each incident is its own in this contract: what goes on now comes first, then the oldest, four at a time.
        let backlog: Vec<u64> = opened
            .iter()
            .copied()
            .filter(|attack| (FIRST_UNTOLD + 1..NEWEST_UNTOLD).contains(attack))
            .collect();
        for (place, attack) in (FIRST_UNTOLD + 1..).zip(&backlog) {
            assert!(
                attack.abs_diff(place) < 4,
                "attack {attack} was opened as number {place}"
            );
        }
        let place = opened.iter().position(|attack| *attack == NEWEST_UNTOLD);
        assert!(place.is_some_and(|place| place < 6), "{opened:?}");
        let busiest = stage.assert_within_budgets();
        measured(
            "72 h without a platform, resource: steps of incidents told once and in order",
            &format!("{}", told.values().map(Vec::len).sum::<usize>()),
            "all",
        );
        measured(
            "  requests in the busiest minute: incidents, all",
            &format!("{}, {}", busiest.steps, busiest.all),
            "230, 500",
        );
    });
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the contract has floats; ours are small and whole"
)]
const fn whole(rate: f64) -> u64 {
    rate as u64
}
