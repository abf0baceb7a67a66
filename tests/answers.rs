//! What the uplink makes of everything the platform can answer: each refusal with each body there is no reason to send
//! with it, and each success that proves nothing.
//!
//! The uplink that is shipped, as it talks to the platform that `ftagent demo` has, with short waits. Nothing leaves the
//! loopback interface.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use common::kept::{block_on, report};
use common::process::until;
use common::tell;
use ftagent::clock::{self, Timestamp};
use ftagent::demo::platform::{
    self, Endpoint, Fault, FaultBody, NodeConfig, Platform, Received, RetryAfter, Serves,
};
use ftagent::incident::Report;
use ftagent::ledger::{self, Ledger, Step};
use ftagent::uplink::{
    ApiKey, Budgets, Cadence, Contract, Rate, Settings, State, TroubleKind, Uplink, Vitals,
};
use tokio::sync::watch;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// As many requests as there are reasons for.
const FREELY: Rate = Rate {
    per_minute: 60_000,
    burst: 1_000,
};

/// An uplink and its platform.
struct Stage {
    platform: Platform,
    ledger: Ledger,
    uplink: Uplink,
    /// Its other end is the uplink's.
    _vitals: watch::Sender<Vitals>,
}

impl Stage {
    fn new(contract: Contract, fault: impl FnOnce(&Platform)) -> Self {
        Self::with(contract, Duration::from_secs(20), fault)
    }

    /// One that gives a call up after `request`.
    fn with(contract: Contract, request: Duration, fault: impl FnOnce(&Platform)) -> Self {
        let theirs = platform::Settings {
            serves: if contract == Contract::Resource {
                Serves::Resource
            } else {
                Serves::Seed
            },
            config: NodeConfig::threshold(50_000),
            ..platform::Settings::default()
        };
        let key = ApiKey::new(&theirs.key).expect("a key");
        let node_uuid = theirs.node_uuid.clone();
        let platform = Platform::start(theirs).expect("a platform");
        fault(&platform);
        let millis = Duration::from_millis;
        let ours = Settings {
            contract,
            cadence: Cadence {
                heartbeat: millis(300),
                config: millis(300),
                request,
                backoff_first: millis(20),
                backoff_longest: millis(200),
                incident_retry: millis(50),
                recovery: millis(20),
                health: millis(200),
                grace: millis(20),
                ..Cadence::default()
            },
            budgets: Budgets {
                heartbeat: FREELY,
                config: FREELY,
                metrics: FREELY,
                backlog: FREELY,
                incident: FREELY,
                ack: FREELY,
            },
            ..Settings::new(platform.base(), key, node_uuid)
        };
        let (ledger, _) = Ledger::open(ledger::Settings::default()).expect("a ledger");
        let (vitals, heard) = watch::channel(Vitals::default());
        let (uplink, _) = Uplink::start(ours, ledger.clone(), heard).expect("an uplink");
        Self {
            platform,
            ledger,
            uplink,
            _vitals: vitals,
        }
    }

    /// A step of an incident, recognisable by its peak.
    fn tell(&self, step: Step, incident: &str, peak_pps: u64) {
        let report = Report {
            peak_pps,
            ..report(incident, peak_pps)
        };
        self.ledger.event(step, report);
        // Whoever is answered has everything written that came before.
        block_on(self.ledger.samples(true, 1));
    }

    /// How it stands, if that was ever said.
    fn state(&self) -> Option<State> {
        let stored = block_on(self.ledger.recall(ledger::UPLINK))?;
        Some(serde_json::from_str(&stored).expect("a state is JSON"))
    }

    /// Waits until the state is as `wanted`.
    #[track_caller]
    fn stands(&self, what: &str, wanted: impl Fn(&State) -> bool) -> State {
        let mut last = None;
        let came = until(PATIENCE, || {
            last = self.state();
            last.as_ref().is_some_and(&wanted)
        });
        match last {
            Some(state) if came => state,
            last => panic!("{what}: {last:?}"),
        }
    }

    /// The calls about incidents, as the platform received them.
    fn calls(&self) -> Vec<Received> {
        let mut all = self.platform.recorded();
        all.retain(|each| each.endpoint == Endpoint::Incident || each.endpoint == Endpoint::Open);
        all
    }

    /// Waits until nothing waits to be told.
    #[track_caller]
    fn tells_all(&self, what: &str) {
        let waiting = self.ledger.waiting();
        let told = until(PATIENCE, || waiting.borrow().incidents == 0);
        assert!(told, "{what}: {:?} {:?}", waiting.borrow(), self.calls());
    }

    fn end(self) {
        self.uplink.stop(Duration::ZERO);
        self.ledger.close(PATIENCE);
    }
}

/// The bodies that a refusal has no reason to have, by what is said of them when a test fails.
fn bodies(status: u16) -> Vec<(String, Fault)> {
    let fault = || Fault::status(status);
    let faults = [
        ("huge", fault().with(FaultBody::Huge)),
        ("nested", fault().with(FaultBody::Nested)),
        ("html", fault().with(FaultBody::Html)),
        ("reset midway", fault().with(FaultBody::Html).with_reset()),
        (
            "huge and reset midway",
            fault().with(FaultBody::Huge).with_reset(),
        ),
        (
            "a byte a second",
            fault().with(FaultBody::Html).with_slow_body(1),
        ),
    ];
    faults
        .into_iter()
        .map(|(name, fault)| (format!("{status}, {name}"), fault))
        .collect()
}

/// Tries each beside the others: most of the time goes by with waiting.
fn each(faults: Vec<(String, Fault)>, test: impl Fn(&str, Fault) + Sync) {
    thread::scope(|scope| {
        for (name, fault) in faults {
            let test = &test;
            scope.spawn(move || test(&name, fault));
        }
    });
}

/// What all tests of this process logged.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("ftagent")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{}: {}", record.level(), record.args());
            LINES.lock().expect("no writer panics").push(line);
        }
    }

    fn flush(&self) {}
}

#[test]
fn what_the_platform_says_against_a_message_reaches_the_log_and_the_state() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Log).expect("no other test logs");
        log::set_max_level(log::LevelFilter::Info);
    });
    for (status, level, words) in [
        (
            400,
            "WARN",
            "refuses what was sent to /agent/incident as wrong",
        ),
        (401, "ERROR", "the API key looks wrong or expired"),
        (
            402,
            "ERROR",
            "the subscription may have lapsed; check billing",
        ),
        (
            409,
            "WARN",
            "a node of that name already exists in the workspace",
        ),
        (500, "WARN", "server error (HTTP 500"),
        (503, "WARN", "https://flowtriq.com/status"),
    ] {
        // Nobody else's lines have this.
        let mark = format!("mark-{status}");
        let body = FaultBody::Text(format!("{{\"error\": \"{mark}\"}}"));
        let stage = Stage::new(Contract::Seed, |platform| {
            let fault = Fault::status(status).with(body);
            platform.set_fault(Endpoint::Incident, fault);
        });
        stage.tell(Step::Open, "a", 1);
        let said = until(PATIENCE, || {
            let lines = LINES.lock().expect("no writer panics");
            let mut own = lines.iter().filter(|line| line.contains(&mark));
            own.any(|line| line.starts_with(level) && line.contains(words))
        });
        assert!(said, "{status}: {:?}", LINES.lock());
        stage.stands(words, |state| {
            let notes = [&state.last_refusal, &state.last_conflict];
            let noted = notes.into_iter().flatten().map(|note| &note.sentence);
            let mut all = noted.chain([&state.sentence]);
            all.any(|sentence| sentence.contains(&mark) && sentence.contains(words))
        });
        stage.end();
    }
}

#[test]
fn a_key_or_a_subscription_that_is_refused_stops_all_sending_whatever_the_refusals_body() {
    for (status, trouble) in [
        (401, TroubleKind::KeyRejected),
        (402, TroubleKind::Lapsed),
        (403, TroubleKind::KeyRejected),
    ] {
        each(bodies(status), |what, fault| {
            let stage = Stage::new(Contract::Seed, |platform| {
                platform.set_fault_everywhere(fault);
            });
            stage.tell(Step::Open, "a", 1);
            let state = stage.stands(what, |state| state.trouble == Some(trouble));
            let words = format!("HTTP {status}");
            assert!(state.sentence.contains(&words), "{what}: {state:?}");
            // Three heartbeats are due meanwhile, and the incident waits.
            thread::sleep(Duration::from_secs(1));
            let all = stage.platform.recorded();
            for endpoint in [Endpoint::Heartbeat, Endpoint::Config, Endpoint::Incident] {
                let asked = all.iter().filter(|each| each.endpoint == endpoint).count();
                assert!(asked <= 1, "{what}: {asked} times to {endpoint:?}");
            }
            assert_eq!(stage.ledger.waiting().borrow().incidents, 1, "{what}");
            stage.end();
        });
    }
}

#[test]
fn what_is_refused_as_wrong_is_set_aside_and_the_next_incident_told_whatever_the_refusals_body() {
    for contract in [Contract::Seed, Contract::Resource] {
        for status in [400, 422] {
            each(bodies(status), |what, fault| {
                let stage = Stage::new(contract, |platform| {
                    for endpoint in [Endpoint::Incident, Endpoint::Open] {
                        platform.set_fault(endpoint, fault.clone().times(1));
                    }
                });
                stage.tell(Step::Open, "a", 1);
                stage.tell(Step::Open, "b", 2);
                stage.tells_all(what);
                // In the resource contract the newest incident is told first.
                let mut calls: Vec<_> = stage
                    .calls()
                    .iter()
                    .map(|call| (call.taken, call.body["peak_pps"].as_f64()))
                    .collect();
                calls.sort_by_key(|(taken, _)| *taken);
                let taken: Vec<bool> = calls.iter().map(|(taken, _)| *taken).collect();
                assert_eq!(taken, [false, true], "{what}: each once: {calls:?}");
                assert_ne!(calls.first(), calls.last(), "{what}");
                let state = stage.stands(what, |state| state.refused == 1);
                let last = state.last_refusal.expect("it was refused").sentence;
                let words = format!("HTTP {status}");
                assert!(last.contains(&words), "{what}: {last}");
                assert_eq!(state.trouble, None, "{what}");
                stage.end();
            });
        }
    }
}

/// Between the first call about an incident and the next one.
fn pause_between_calls(what: &str, fault: Fault) -> Duration {
    let stage = Stage::new(Contract::Seed, |platform| {
        platform.set_fault(Endpoint::Incident, fault.times(1));
    });
    stage.tell(Step::Open, "a", 1);
    stage.tells_all(what);
    let calls = stage.calls();
    let at: Vec<Instant> = calls.iter().map(|call| call.at).collect();
    let [first, second] = at.as_slice() else {
        panic!("{what}: two calls, not {calls:?}");
    };
    let pause = second.duration_since(*first);
    stage.end();
    pause
}

#[test]
fn a_wait_that_is_asked_for_is_kept_whatever_the_refusals_body() {
    // Without it the next try comes within 0.2 s, of which the body that comes by the byte is waited for 2 s.
    let wait = Duration::from_secs(4);
    let faults = [429, 503].into_iter().flat_map(bodies);
    each(faults.collect(), |what, fault| {
        let pause = pause_between_calls(what, fault.retry_after(RetryAfter::Seconds(4)));
        tell!("{what}: asked again after {pause:?}");
        assert!((wait..wait * 3).contains(&pause), "{what}: {pause:?}");
    });
    let none = pause_between_calls("no wait asked for", Fault::status(503));
    assert!(none < wait / 2, "{none:?}");
    // A time has whole seconds: of five ahead at least four are left.
    let at = Timestamp::from_seconds(clock::now().as_seconds() + 5);
    let dated = Fault::status(503).retry_after(RetryAfter::Date(at));
    let pause = pause_between_calls("a date", dated);
    let least = Duration::from_millis(3_500);
    assert!((least..wait * 3).contains(&pause), "{pause:?}");
}

#[test]
fn a_success_that_proves_nothing_is_said_and_what_it_was_for_is_told_again() {
    let proves_nothing = |body: FaultBody| Fault::status(200).with(body).taken(true);
    let text = |text: &str| FaultBody::Text(text.to_owned());
    let cases = [
        (
            "huge",
            proves_nothing(FaultBody::Huge),
            "more than 1048576 bytes",
        ),
        (
            "nested",
            proves_nothing(FaultBody::Nested),
            "deeper than 32",
        ),
        ("html", proves_nothing(FaultBody::Html), "no JSON"),
        ("a list", proves_nothing(text("[]")), "but no object"),
        (
            "not ok",
            proves_nothing(text("{\"ok\": false}")),
            "ok: false",
        ),
    ];
    for (name, fault, words) in cases {
        let state = told_again(name, fault, words);
        assert!(state.bad_bodies > 0, "{name}: {state:?}");
        assert_eq!(state.trouble, Some(TroubleKind::ServerError), "{name}");
    }
}

#[test]
fn an_answer_that_does_not_come_to_its_end_is_said_and_what_it_was_for_is_told_again() {
    let late = "did not answer in time";
    let cases = [
        ("reset midway", Fault::reset(), "broke"),
        ("cut midway", Fault::cut(), "broke"),
        ("a byte a second", Fault::slow(1), late),
        (
            "a body of a byte a second",
            Fault::status(200).with(FaultBody::Html).with_slow_body(1),
            late,
        ),
        ("silent", Fault::silent(), late),
    ];
    for (name, fault, words) in cases {
        let state = told_again(name, fault, words);
        assert_eq!(state.trouble, Some(TroubleKind::Unreachable), "{name}");
    }
}

#[test]
fn a_redirect_is_said_and_not_followed() {
    let elsewhere = Platform::start(platform::Settings::default()).expect("a platform");
    let to = format!("{}/agent/incident", elsewhere.base());
    let words = format!("redirects to {to}");
    let state = told_again("redirect", Fault::redirect(to), &words);
    assert_eq!(state.trouble, Some(TroubleKind::ServerError));
    assert_eq!(elsewhere.recorded().len(), 0, "no credentials went there");
}

/// Two incidents with a fault in the way of the first call: what is said meanwhile. Afterwards all is told, in order.
fn told_again(name: &str, fault: Fault, words: &str) -> State {
    let stage = Stage::with(Contract::Seed, Duration::from_secs(1), |platform| {
        platform.set_fault(Endpoint::Incident, fault);
    });
    stage.tell(Step::Open, "a", 1);
    stage.tell(Step::Resolve, "a", 2);
    stage.tell(Step::Open, "b", 3);
    let state = stage.stands(name, |state| state.sentence.contains(words));
    assert_eq!(stage.ledger.waiting().borrow().incidents, 2, "{name}");
    stage.platform.clear_faults();
    stage.tells_all(name);
    let mut peaks: Vec<_> = stage
        .calls()
        .iter()
        .map(|call| call.body["peak_pps"].as_u64())
        .collect();
    assert!(peaks.len() > 3, "{name}: the first was told again");
    peaks.dedup();
    assert_eq!(peaks, [Some(1), Some(2), Some(3)], "{name}: in order");
    stage.stands(name, |state| state.trouble.is_none());
    stage.end();
    state
}
