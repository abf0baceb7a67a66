//! `ftagent status` as a person and a script meet it, over state directories that a ledger and an uplink really wrote.
//!
//! The test's own process works in the directory, as an agent would: its ledger holds the lock, its uplink talks to the
//! demo platform. Of this host's configuration nothing is read.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test panics when it cannot go on, and says what it could not check"
)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::agent::PROGRAM;
use common::needs::skip;
use common::process::{Finished, Scratch, finish, until};
use common::tell;
use ftagent::clock::{self, Timestamp};
use ftagent::demo::platform::{self, Endpoint, Fault, FaultBody, NodeConfig, Platform, Serves};
use ftagent::detect::baseline::{
    Baseline, Judgement, LearningCaps, SecondValues, Series, Settings as BaselineSettings,
};
use ftagent::incident::Report;
use ftagent::ledger::{self, Ledger, Sample, Step};
use ftagent::uplink::{
    ApiKey, PendingCommand, PlatformValues, Refusal, Settings, State, TroubleKind, Uplink, Vitals,
};
use serde_json::Value as Json;
use tokio::sync::watch;

/// Longer than any command here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A made-up key in which every part is recognised.
const KEY: &str = "ft_live_ZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7X";
const PART_OF_KEY: &str = "ZQ7X";
const UUID: &str = "5e0d1c2b-0000-4000-8000-0000000000a1";

/// A host with a state directory and a configuration that has credentials.
struct Host {
    scratch: Scratch,
    config: PathBuf,
}

impl Host {
    fn new() -> Self {
        Self::with("")
    }

    /// With more lines in the section `[api]`, and whatever sections follow.
    fn with(more: &str) -> Self {
        let api = format!("[api]\nkey = \"{KEY}\"\nnode_uuid = \"{UUID}\"\n{more}");
        Self::configured(&api)
    }

    fn configured(text: &str) -> Self {
        let scratch = Scratch::new();
        let config = scratch.write("ftagent.toml", text);
        fs::set_permissions(&config, Permissions::from_mode(0o600)).expect("it is ours");
        Self { scratch, config }
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    fn ledger(&self) -> Ledger {
        let settings = ledger::Settings {
            dir: Some(self.state()),
            ..ledger::Settings::default()
        };
        Ledger::open(settings).expect("a ledger").0
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().arg("status").args(arguments);
        command.arg("--state-dir").arg(self.state());
        command.arg("--config").arg(&self.config);
        command
    }

    /// The lines for people, and the exit code of `--exit-code`.
    #[track_caller]
    fn told(&self) -> (String, i32) {
        let done = finish(&mut self.command(&["--exit-code"]), PATIENCE);
        assert_clean(&done);
        assert_eq!(done.stderr, "");
        let plain = finish(&mut self.command(&[]), PATIENCE);
        assert_eq!(plain.code, Some(0), "without the option it only tells");
        assert!(done.stdout.lines().count() <= 12, "{}", done.stdout);
        (done.stdout, done.code.expect("it ends by itself"))
    }

    /// The object for scripts.
    #[track_caller]
    fn json(&self) -> Json {
        let done = finish(&mut self.command(&["--json"]), PATIENCE);
        assert_clean(&done);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
        serde_json::from_str(&done.stdout).expect("one object")
    }
}

/// Nothing of the key was said.
#[track_caller]
fn assert_clean(done: &Finished) {
    let all = format!("{}{}", done.stdout, done.stderr);
    assert!(!all.contains(PART_OF_KEY), "{all}");
}

#[track_caller]
fn assert_has(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
}

fn sample(at: Timestamp) -> Sample {
    Sample {
        start: Timestamp::from_seconds(at.as_seconds()),
        span_seconds: 1,
        pps: 12_400,
        pps_max: 12_400,
        bps: 430_000_000,
        bps_max: 430_000_000,
        tcp_permille: 623,
        udp_permille: 351,
        icmp_permille: 26,
        connections: 1_840,
        threshold_pps: Some(50_000),
    }
}

/// How an uplink says that all is well.
fn fine(now: Timestamp) -> State {
    State {
        at: now,
        since: now,
        trouble: None,
        sentence: "the platform takes what this node sends".to_owned(),
        api_base: "https://flowtriq.com/api/v1".to_owned(),
        contract: "seed".to_owned(),
        exposed: false,
        health: Some(true),
        heartbeat_at: Some(now),
        accepted_at: Some(now),
        refused: 0,
        last_refusal: None,
        last_conflict: None,
        bad_bodies: 0,
    }
}

fn wanted() -> PlatformValues {
    let patterns = (0..24).map(|id| ftagent::uplink::Pattern {
        id: Some(id),
        name: format!("pattern {id}"),
        ..ftagent::uplink::Pattern::default()
    });
    PlatformValues {
        node_id: Some(311),
        pps_threshold: Some(50_000),
        mean_pps: Some(9_000),
        p99_pps: Some(18_000),
        patterns: patterns.collect(),
        ..PlatformValues::default()
    }
}

fn report() -> Report {
    let line = include_str!("golden/syn_flood.jsonl");
    let event: Json = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    let mut report: Report = serde_json::from_value(event["incident"].clone()).expect("a report");
    report.peak_pps = 47_821;
    report.peak_bps = 1_700_000_000;
    report.peak_is_provisional = false;
    report.source_ip_count = 3_241;
    report.source_ip_count_exact = true;
    report.started_at = clock::now();
    report
}

/// Tells `ledger` all this and waits until it is on disk.
fn keep(ledger: &Ledger, sample: Sample, state: Option<&State>, values: Option<&PlatformValues>) {
    if let Some(state) = state {
        let stored = serde_json::to_string(state).expect("a state is JSON");
        ledger.remember(ledger::UPLINK, stored);
    }
    if let Some(values) = values {
        let stored = serde_json::to_string(values).expect("values are JSON");
        ledger.remember(ledger::PLATFORM, stored);
    }
    ledger.second(sample);
    written(ledger);
}

/// Whoever asks the ledger something has everything written that came before.
fn written(ledger: &Ledger) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let waiting = runtime
        .expect("a runtime")
        .block_on(ledger.samples(true, 1));
    assert!(waiting.len() <= 1);
}

#[test]
fn all_clear_says_what_is_normal_and_what_is_watched_for() {
    let host = Host::new();
    let ledger = host.ledger();
    let now = clock::now();
    keep(&ledger, sample(now), Some(&fine(now)), Some(&wanted()));
    let (text, exit) = host.told();
    assert_eq!(exit, 0, "{text}");
    assert!(text.starts_with("all clear: node "), "{text}");
    assert_has(
        &text,
        &[
            UUID,
            "is online, no active incident",
            "now 12,400 packets/s, 430.0 Mbps, 1,840 TCP connections",
            "threshold 50,000 packets/s (from the platform)",
            "baseline p99 18,000 packets/s, mean 9,000 packets/s (the platform's)",
            "24 IOC patterns loaded",
            "platform: the platform takes what this node sends, since ",
        ],
    );
    let json = host.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["situation"], "all_clear");
    assert_eq!(json["exit_code"], 0);
    assert_eq!(json["agent_running"], true);
    assert_eq!(json["node_uuid"], UUID);
    assert_eq!(json["last_second"]["pps"], 12_400);
    assert_eq!(json["last_second"]["tcp_pct"], 62.3);
    assert_eq!(json["pps_threshold"]["pps"], 50_000);
    assert_eq!(json["platform_baseline"]["p99_pps"], 18_000);
    assert_eq!(json["baseline"]["p99_pps"], Json::Null);
    assert_eq!(json["ioc_patterns"], 24);
    assert_eq!(json["incident"], Json::Null);
    assert_eq!(json["platform"]["health"], true);
    assert_eq!(json["waiting_seconds"], 1);
    ledger.close(PATIENCE);
}

#[test]
fn what_was_learned_here_and_the_limit_of_a_file_are_said_with_their_origin() {
    let host = Host::configured("[detection]\npps_threshold = 50000\n");
    let ledger = host.ledger();
    let mut baseline = Baseline::new(BaselineSettings::default());
    let now = clock::now();
    let mut values = SecondValues::default();
    values.set(Series::Pps, 700);
    for second in 0..300 {
        let second = now.as_seconds() - 300 + second;
        baseline.second(second, &values, Judgement::Quiet, &LearningCaps::default());
    }
    ledger.baseline(baseline.state());
    keep(&ledger, sample(now), None, None);
    let (text, exit) = host.told();
    assert_eq!(exit, 0, "{text}");
    assert_has(
        &text,
        &[
            "threshold 50,000 packets/s (in ",
            "ftagent.toml, line 2)",
            // The histogram's bucket of 700 ends at 703.
            "baseline p99 703 packets/s, mean 700 packets/s",
            "local mode",
        ],
    );
    assert!(!text.contains("IOC"), "nobody has given any: {text}");
    assert_eq!(host.json()["baseline"]["p99_pps"], 703);
    assert_eq!(host.json()["local"], true);
    ledger.close(PATIENCE);
}

#[test]
fn an_attack_is_told_with_everything_that_matters_about_it() {
    let host = Host::new();
    let ledger = host.ledger();
    let now = clock::now();
    let mut open = report();
    open.spoofing_detected = Some(true);
    open.kept = None;
    ledger.event(Step::Open, open);
    keep(&ledger, sample(now), Some(&fine(now)), Some(&wanted()));
    let (text, exit) = host.told();
    assert_eq!(exit, 5, "{text}");
    assert!(
        text.starts_with("under attack: SYN Flood (syn_flood) on node "),
        "{text}"
    );
    assert_has(
        &text,
        &[
            "severity ",
            "peaked at 47,821 packets per second and 1.7 Gbps, from 3,241 sources",
            "warning: they look spoofed",
            "most to port ",
            "dashboard",
            "1 incidents wait to be told",
        ],
    );
    let json = host.json();
    assert_eq!(json["situation"], "under_attack");
    assert_eq!(json["exit_code"], 5);
    assert_eq!(json["incident"]["peak_pps"], 47_821);
    assert_eq!(json["incident"]["attack_family"], "syn_flood");
    for name in ["kept", "forensics"] {
        assert!(
            json["incident"].get(name).is_none(),
            "{name} is not for printing"
        );
    }
    ledger.close(PATIENCE);
    let (text, exit) = host.told();
    assert_eq!(
        exit, 3,
        "an attack that nobody watches is not known to go on"
    );
    assert_has(&text, &["while an incident was open"]);
}

#[test]
fn an_agent_that_has_ended_was_never_there_or_hangs_is_told_apart() {
    let host = Host::new();
    let (text, exit) = host.told();
    assert_eq!(exit, 3);
    assert_has(
        &text,
        &[
            "not running on node ",
            "no agent has worked in ",
            "sudo systemctl status ftagent",
        ],
    );
    let ledger = host.ledger();
    let past = Timestamp::from_seconds(clock::now().as_seconds() - 500);
    keep(&ledger, sample(past), Some(&fine(clock::now())), None);
    let (text, exit) = host.told();
    assert_eq!(exit, 4, "{text}");
    assert_has(
        &text,
        &[
            "degraded: ",
            "the last second it kept is 8 min ",
            "journalctl -u ftagent",
        ],
    );
    assert!(!text.contains("now 12,400"), "that was then: {text}");
    assert_eq!(host.json()["situation"], "degraded");

    ledger.close(PATIENCE);
    let (text, exit) = host.told();
    assert_eq!(exit, 3, "{text}");
    assert_has(
        &text,
        &[
            "is down: it kept its last second 8 min ",
            "last heard of this node ",
        ],
    );
    assert_eq!(host.json()["agent_running"], false);
}

#[test]
fn a_platform_that_hears_nothing_of_a_running_agent_is_a_reason() {
    let host = Host::new();
    let ledger = host.ledger();
    keep(&ledger, sample(clock::now()), None, None);
    let (text, exit) = host.told();
    assert_eq!(exit, 4, "{text}");
    assert_has(&text, &["has not begun to talk to the platform"]);
    let mut silent = fine(Timestamp::from_seconds(clock::now().as_seconds() - 600));
    keep(&ledger, sample(clock::now()), Some(&silent), None);
    let (text, exit) = host.told();
    assert_eq!(exit, 4, "{text}");
    assert_has(&text, &["heard no heartbeat of this node for 10 min "]);
    // Where heartbeats are to be rare, three of them take longer.
    let rare = Host::with("heartbeat_seconds = 300\n");
    let rares = rare.ledger();
    keep(&rares, sample(clock::now()), Some(&silent), None);
    let (text, exit) = rare.told();
    assert_eq!(exit, 0, "{text}");
    rares.close(PATIENCE);
    silent.heartbeat_at = Some(clock::now());
    let suspended = PlatformValues {
        suspended: true,
        ..wanted()
    };
    keep(
        &ledger,
        sample(clock::now()),
        Some(&silent),
        Some(&suspended),
    );
    let (text, exit) = host.told();
    assert_eq!(exit, 4, "{text}");
    assert_has(&text, &["workspace is suspended", "check billing"]);
    ledger.close(PATIENCE);
}

#[test]
fn with_everything_wrong_at_once_it_is_still_twelve_lines_and_commands_are_shown_as_text() {
    let host = Host::with("base = \"http://192.0.2.7/api/v1\"\nallow_http = true\n");
    let ledger = host.ledger();
    let now = clock::now();
    let witness = host.scratch.path().join("witness");
    let mut values = wanted();
    values.suspended = true;
    values.commands = (0..40)
        .map(|id| PendingCommand {
            id: Some(id),
            kind: "shell".to_owned(),
            text: format!(
                "touch {}\nrm -rf /nothing {}",
                witness.display(),
                "x".repeat(500)
            ),
            title: "Block".to_owned(),
        })
        .collect();
    let mut bad = fine(now);
    bad.trouble = Some(TroubleKind::ServerError);
    bad.sentence = "Flowtriq returned a server error".to_owned();
    bad.last_refusal = Some(Refusal {
        at: now,
        sentence: "the platform refuses what was sent".to_owned(),
    });
    bad.last_conflict = bad.last_refusal.clone();
    bad.exposed = true;
    let mut open = report();
    open.spoofing_detected = Some(true);
    open.botnet_detected = Some(true);
    ledger.event(Step::Open, open);
    let old = Timestamp::from_seconds(now.as_seconds() - 3_600);
    keep(&ledger, sample(old), Some(&bad), Some(&values));
    let (text, exit) = host.told();
    assert_eq!(exit, 5, "{text}");
    assert_has(
        &text,
        &[
            "also: the agent runs, but",
            "also: Flowtriq returned a server error",
            "(and 1 more, see --json)",
            "api.allow_http is on: the API key may cross the network unencrypted",
            "warning: they look like a botnet",
            "not run: touch ",
            "⏎rm -rf",
            "none is run: 3",
        ],
    );
    let json = host.json();
    assert_eq!(json["pending_commands"].as_array().map(Vec::len), Some(40));
    assert_eq!(json["reasons"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["allow_http"], true);
    assert!(!witness.exists(), "what the platform sends is never run");
    ledger.close(PATIENCE);
    let (text, _) = host.told();
    assert_has(&text, &["api.allow_http is on"]);
}

/// An agent's ledger and uplink against a platform on this host.
struct Online {
    host: Host,
    platform: Platform,
    ledger: Ledger,
    uplink: Uplink,
}

impl Online {
    fn start(fault: impl FnOnce(&Platform)) -> Self {
        let platform = Platform::start(platform::Settings {
            serves: Serves::Seed,
            key: KEY.to_owned(),
            node_uuid: UUID.to_owned(),
            config: NodeConfig::threshold(50_000),
            ..platform::Settings::default()
        })
        .expect("a platform");
        fault(&platform);
        let host = Host::with(&format!("base = \"{}\"\n", platform.base()));
        let ledger = host.ledger();
        let key = ApiKey::new(KEY).expect("a key");
        let settings = Settings::new(platform.base(), key, UUID);
        let (_, vitals) = watch::channel(Vitals::default());
        let (uplink, _) = Uplink::start(settings, ledger.clone(), vitals).expect("an uplink");
        Self {
            host,
            platform,
            ledger,
            uplink,
        }
    }

    /// Waits until status says `words`, a second being recorded each time.
    #[track_caller]
    fn says(&self, words: &[&str], exit: i32) {
        let mut last = (String::new(), -1);
        let said = until(PATIENCE, || {
            self.ledger.second(sample(clock::now()));
            written(&self.ledger);
            last = self.host.told();
            last.1 == exit && words.iter().all(|words| last.0.contains(words))
        });
        assert!(said, "no {words:?} with exit code {exit} in:\n{}", last.0);
    }

    fn end(self) {
        self.uplink.stop(Duration::ZERO);
        self.ledger.close(PATIENCE);
        drop(self.platform);
    }
}

#[test]
fn every_refusal_of_the_platform_is_said_with_what_to_do_about_it() {
    for (status, words) in [
        (
            401,
            &[
                "HTTP 401",
                "API key looks wrong or expired",
                "rotate the key in the Flowtriq dashboard",
            ][..],
        ),
        (
            402,
            &["HTTP 402", "subscription may have lapsed", "check billing"],
        ),
        (
            500,
            &["HTTP 500", "server error", "https://flowtriq.com/status"],
        ),
        (
            503,
            &["HTTP 503", "server error", "https://flowtriq.com/status"],
        ),
    ] {
        let online = Online::start(|platform| platform.set_fault_everywhere(Fault::status(status)));
        online.says(words, 4);
        online.platform.clear_faults();
        online.end();
    }
}

#[test]
fn a_message_that_the_platform_calls_wrong_is_named_with_what_it_says_is_missing() {
    let missing = FaultBody::Text("{\"error\": \"recorded_at is missing\"}".to_owned());
    let online = Online::start(|platform| {
        platform.set_fault(Endpoint::Metrics, Fault::status(400).with(missing));
    });
    online.says(
        &["HTTP 400", "\"recorded_at is missing\"", "/agent/metrics"],
        4,
    );
    online.end();
}

#[test]
fn a_conflict_means_that_the_platform_has_it_already_and_is_said_but_no_trouble() {
    let online = Online::start(|platform| {
        let taken = FaultBody::Text("{\"error\": \"name taken\"}".to_owned());
        let conflict = Fault::status(409).with(taken);
        platform.set_fault(Endpoint::Metrics, conflict.clone());
        platform.set_fault(Endpoint::Heartbeat, conflict);
    });
    online.says(
        &[
            "all clear",
            "threshold 50,000 packets/s (from the platform)",
            "(HTTP 409, \"name taken\")",
            "a node of that name already exists in the workspace",
        ],
        0,
    );
    let conflict = online.host.json()["platform"]["last_conflict"].clone();
    let sentence = conflict["sentence"].as_str().unwrap_or_default();
    assert!(sentence.contains("HTTP 409"), "{conflict}");
    online.end();
}

#[test]
fn a_mistake_in_the_usual_configuration_does_not_hide_an_attack() {
    let host = Host::configured("[api]\nkye = \"x\"\n");
    let ledger = host.ledger();
    ledger.event(Step::Open, report());
    keep(&ledger, sample(clock::now()), None, None);
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("FTAGENT_CONFIG", &host.config)
        .args(["status", "--exit-code", "--state-dir"])
        .arg(host.state());
    let done = finish(&mut command, PATIENCE);
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    assert_has(
        &done.stdout,
        &[
            "under attack: ",
            "also: the configuration cannot be used: ",
            "kye",
            "`ftagent check`",
        ],
    );
    // Somebody who names a file wants that one.
    let done = finish(&mut host.command(&[]), PATIENCE);
    assert_eq!(done.code, Some(78), "{}", done.stderr);
    assert_has(&done.stderr, &["kye"]);
    ledger.close(PATIENCE);
}

#[test]
fn without_a_state_directory_it_says_so_and_what_to_do() {
    if Path::new("/var/lib/ftagent").is_dir() {
        tell!("skipped: this host has an agent's state where it is looked for");
        return;
    }
    let host = Host::new();
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .args(["status", "--config"])
        .arg(&host.config);
    let done = finish(&mut command, PATIENCE);
    assert_eq!(done.code, Some(78), "{}", done.stdout);
    assert_has(
        &done.stderr,
        &["nothing is kept here", "--state-dir", "[state] dir = "],
    );
    assert_clean(&done);
}

#[test]
fn a_user_who_may_not_look_is_told_so() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        skip("only root can become another user");
        return;
    }
    let host = Host::new();
    let ledger = host.ledger();
    keep(&ledger, sample(clock::now()), None, None);
    // That user may not be able to reach the build's own folder.
    let program = host.scratch.path().join("ftagent");
    fs::copy(PROGRAM, &program).expect("the program can be copied");
    chown(&host.config, Some(NOBODY), None).expect("root gives files away");
    let mut command = Command::new(&program);
    command
        .env_clear()
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .args(["status", "--exit-code", "--config"])
        .arg(&host.config)
        .arg("--state-dir")
        .arg(host.state());
    let done = finish(&mut command, PATIENCE);
    assert_eq!(done.code, Some(77), "{}{}", done.stdout, done.stderr);
    assert_has(
        &done.stderr,
        &["may not look into the state directory", "run it as root"],
    );
    ledger.close(PATIENCE);
}
