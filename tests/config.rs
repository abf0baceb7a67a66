//! The configuration as operators meet it: every layer, every message word for word, every file of the published agent,
//! and no secret in anything that is said.
//!
//! Files are made-up ones in directories of their own; of this host's configuration nothing is read.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test panics when it cannot go on, and says what it could not check"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::agent::PROGRAM;
use common::needs::{shared, skip};
use common::process::{Finished, Scratch, finish};
use ftagent::config::{Config, Environment, Key, Options, Origin, Sources, Takes, Value};
use ftagent::demo::platform::{
    Endpoint, Fault, FaultBody, NodeConfig, Platform, Settings as PlatformSettings,
};
use ftagent::detect::limits::{SetBy, SetLimit};
use ftagent::uplink::{Contract, PlatformValues};
use ftagent::{clock, engine, ledger};
use log::LevelFilter;
use proptest::prelude::*;
use serde_json::Value as Json;

/// Longer than any command here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A made-up key in which every part is recognised.
const KEY: &str = "ft_live_ZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7X";
const PART_OF_KEY: &str = "ZQ7XZQ7X";
const MASKED: &str = "ft_live_…ZQ7X";
const UUID: &str = "5e0d1c2b-0000-4000-8000-0000000000a1";

/// A folder like `/etc/ftagent`.
struct Host {
    scratch: Scratch,
    environment: Vec<(OsString, OsString)>,
    options: Options,
    platform: Option<u64>,
}

impl Host {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            environment: Vec::new(),
            options: Options::default(),
            platform: None,
        }
    }

    /// With `text` as `ftagent.toml`.
    fn with(text: &str) -> Self {
        let host = Self::new();
        host.write("ftagent.toml", text);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A file for its owner alone.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
        fs::write(&path, text).expect("a scratch file can be written");
        self.allow(name, 0o600);
        path
    }

    fn allow(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.path(name), mode).expect("our own file's mode can be changed");
    }

    fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value.as_ref().to_owned();
        self.environment.push((name.into(), value));
    }

    fn sources(&self) -> Sources {
        Sources {
            file: None,
            folder: self.scratch.path().to_owned(),
            environment: self.environment.iter().cloned().collect(),
            options: self.options.clone(),
            platform_pps_threshold: self.platform,
        }
    }

    #[track_caller]
    fn config(&self) -> Config {
        match Config::load(self.sources()) {
            Ok(config) => config,
            Err(errors) => panic!("{errors}"),
        }
    }

    /// What is wrong, with the folder's name left out.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        let errors = Config::load(self.sources()).expect_err("something is wrong");
        assert!(!errors.problems().is_empty());
        let problems = errors.to_string();
        self.without_folder(&problems)
    }

    fn without_folder(&self, text: &str) -> Vec<String> {
        let folder = format!("{}/", self.scratch.path().display());
        let lines = text.lines();
        lines.map(|line| line.replace(&folder, "")).collect()
    }

    fn notices(&self) -> Vec<String> {
        self.without_folder(&self.config().notices().join("\n"))
    }
}

/// A setting's value and origin as `config show` writes them.
fn shown(config: &Config, key: Key) -> String {
    config.setting(key).map_or_else(
        || key.unset().to_owned(),
        |setting| format!("{} {}", setting.value, setting.origin),
    )
}

#[track_caller]
fn expect_problems(text: &str, problems: &[&str]) {
    assert_eq!(Host::with(text).problems(), problems, "{text}");
}

fn credentials() -> String {
    format!("[api]\nkey = \"{KEY}\"\nnode_uuid = \"{UUID}\"\n")
}

// ---- what holds without and with layers

#[test]
fn without_anything_the_rooms_own_defaults_hold_and_nobody_is_told() {
    let config = Host::new().config();
    assert!(config.is_local());
    assert!(config.uplink().is_none());
    assert!(config.files().is_empty());
    assert!(config.notices().is_empty());
    assert!(config.interfaces().is_empty());
    assert_eq!(config.state_dir(), None);
    assert_eq!(config.log_level(), LevelFilter::Info);
    assert_eq!(
        format!("{:?}", config.engine(7)),
        format!("{:?}", {
            let mut engine = engine::Settings::default();
            engine.detect.seed = 7;
            engine.incident.seed = 7;
            engine
        })
    );
    let ledger = config.ledger();
    let default = ledger::Settings::default();
    assert_eq!(ledger.quota_bytes, default.quota_bytes);
    assert_eq!(ledger.keep_seconds, default.keep_seconds);
    assert!(!ledger.has_uplink, "in local mode nothing waits to be told");
    for key in Key::ALL {
        if let Some(setting) = config.setting(key) {
            assert_eq!(setting.origin, Origin::Default, "{key}");
        } else {
            assert!(!key.unset().is_empty(), "{key} says nothing about itself");
        }
    }
}

#[test]
fn every_layer_covers_those_below_it() {
    let key = Key::PpsThreshold;
    let mut host = Host::new();
    assert_eq!(shown(&host.config(), key), "learned");
    host.platform = Some(10);
    assert_eq!(shown(&host.config(), key), "10 from the platform");
    host.write("ftagent.toml", "[detection]\npps_threshold = 20");
    host.write("conf.d/ignored.conf", "this is no TOML");
    host.write("conf.d/.hidden.toml", "nor is this");
    let origin = |host: &Host, name: &str, line: usize| {
        let path = host.path(name);
        format!("in {}, line {line}", path.display())
    };
    let expected = format!("20 {}", origin(&host, "ftagent.toml", 2));
    assert_eq!(shown(&host.config(), key), expected);
    host.write("conf.d/20-b.toml", "\n\n[detection]\npps_threshold = 40");
    host.write("conf.d/10-a.toml", "detection.pps_threshold = 30");
    let expected = format!("40 {}", origin(&host, "conf.d/20-b.toml", 4));
    assert_eq!(shown(&host.config(), key), expected);
    host.set("FTAGENT_DETECTION_PPS_THRESHOLD", "50_000");
    let expected = "50,000 in the environment variable FTAGENT_DETECTION_PPS_THRESHOLD";
    assert_eq!(shown(&host.config(), key), expected);
    host.options.pps_threshold = Some(60);
    let config = host.config();
    assert_eq!(shown(&config, key), "60 with --threshold-pps");
    let names: Vec<PathBuf> = ["ftagent.toml", "conf.d/10-a.toml", "conf.d/20-b.toml"]
        .map(|name| host.path(name))
        .into();
    assert_eq!(config.files(), names);
}

#[test]
fn a_key_comes_from_files_credentials_and_variables_in_that_order() {
    let key = |host: &Host| {
        let config = host.config();
        let uplink = config.uplink().expect("there are credentials");
        assert_eq!(uplink.node_uuid, UUID);
        shown(&config, Key::ApiKey)
    };
    let mut host = Host::with(&credentials());
    assert_eq!(
        key(&host),
        format!(
            "{MASKED} in {}, line 2",
            host.path("ftagent.toml").display()
        )
    );
    let credential = host.write("credentials/api_key", "0123456789abcdef-credential\n");
    host.set("CREDENTIALS_DIRECTORY", host.path("credentials"));
    let expected = format!("…tial in the credential {}", credential.display());
    assert_eq!(key(&host), expected);
    host.set("FLOWTRIQ_API_KEY", "0123456789abcdef-flowtriq");
    let expected = "…triq in the environment variable FLOWTRIQ_API_KEY";
    assert_eq!(key(&host), expected);
    host.set("FTAGENT_API_KEY", "0123456789abcdef-ftagent");
    let expected = "…gent in the environment variable FTAGENT_API_KEY";
    assert_eq!(key(&host), expected);
    assert_eq!(
        host.notices(),
        ["FTAGENT_API_KEY and FLOWTRIQ_API_KEY differ: FTAGENT_API_KEY counts"]
    );
}

#[test]
fn every_setting_has_a_variable_that_sets_it() {
    for key in Key::ALL {
        let value = example(key);
        for name in key.variables() {
            let mut host = Host::new();
            host.set("FLOWTRIQ_API_KEY", KEY);
            host.set("FLOWTRIQ_NODE_UUID", UUID);
            host.environment.retain(|(known, _)| *known != *name);
            host.set(&name, value);
            let config = host.config();
            let setting = config.setting(key).expect("it was set");
            assert_eq!(setting.origin, Origin::Variable { name: name.clone() });
            if !matches!(setting.value, Value::Secret(_)) {
                assert_eq!(setting.value.to_string().replace(',', ""), value, "{key}");
            }
        }
    }
}

/// A value that is not the default.
fn example(key: Key) -> &'static str {
    match key {
        Key::ApiKey | Key::DeployToken => KEY,
        Key::NodeUuid => UUID,
        Key::ApiBase => "https://platform.example/api/v1",
        Key::Contract => "resource",
        Key::AllowHttp => "true",
        Key::Interfaces => "eth7",
        Key::StateDir => "/somewhere/else",
        Key::LogLevel => "debug",
        Key::LongestHoldSeconds => "700",
        Key::MetricsSeconds => "17",
        _ => "77",
    }
}

#[test]
fn every_setting_reaches_the_room_it_is_for() {
    let mut host = Host::with(&credentials());
    for key in Key::ALL {
        if !matches!(key, Key::ApiKey | Key::NodeUuid | Key::DeployToken) {
            host.set(&key.variables()[0], example(key));
        }
    }
    host.set("FLOWTRIQ_DEPLOY_TOKEN", "deploy-token-0123456789");
    let config = host.config();
    let engine = config.engine(1);
    let (limits, baseline) = (&engine.detect.limits, &engine.detect.baseline);
    let set = Some(SetLimit {
        value: 77,
        by: SetBy::Configuration,
    });
    assert_eq!((limits.set_pps, limits.set_bps), (set, set));
    assert_eq!((limits.floor_pps, limits.floor_bps), (77, 77));
    assert_eq!(limits.link_bps, Some(77));
    assert_eq!(
        (
            baseline.multiplier_permille,
            baseline.warm_up_multiplier_permille
        ),
        (77_000, 77_000)
    );
    let incident = &engine.incident;
    assert_eq!(incident.hold_millis, 77_000);
    assert_eq!(incident.longest_hold_millis, 700_000);
    assert_eq!(
        (incident.reopen_millis, incident.update_millis),
        (77_000, 77_000)
    );
    assert_eq!(config.interfaces(), ["eth7"]);
    assert_eq!(config.log_level(), LevelFilter::Debug);
    let ledger = config.ledger();
    assert_eq!(ledger.dir.as_deref(), Some(Path::new("/somewhere/else")));
    assert_eq!(ledger.quota_bytes, 77 << 20);
    assert!(ledger.has_uplink);
    let uplink = config.uplink().expect("there are credentials");
    assert_eq!(uplink.api_base, "https://platform.example/api/v1");
    assert_eq!(uplink.contract, Contract::Resource);
    assert!(uplink.allow_http);
    assert_eq!(uplink.cadence.heartbeat, Duration::from_secs(77));
    assert_eq!(uplink.cadence.aggregate, Duration::from_secs(17));
    assert_eq!(uplink.node_uuid, UUID);
    let token = config.deploy_token().expect("it was set");
    assert_eq!(token.masked(), "…6789");
    host.set("FTAGENT_API_CONTRACT", "seed");
    host.environment.reverse();
    let uplink = host.config().uplink().expect("there are credentials");
    assert_eq!(uplink.contract, Contract::Seed);
}

#[test]
fn a_limit_says_who_set_it() {
    let mut host = Host::with("[detection]\nbps_threshold = 7");
    host.platform = Some(10);
    host.options.pps_threshold = Some(5);
    let limits = host.config().local_limits();
    let pps = limits.pps.expect("it is set");
    assert_eq!((pps.value, pps.by), (5, SetBy::Local));
    let bps = limits.bps.expect("it is set");
    assert_eq!((bps.value, bps.by), (7, SetBy::Configuration));
    host.options.pps_threshold = None;
    assert_eq!(
        host.config().local_limits().pps,
        None,
        "the platform's limit comes and goes while the agent runs"
    );
}

#[test]
fn the_service_managers_state_directory_is_used_unless_another_is_named() {
    let mut host = Host::new();
    host.set("STATE_DIRECTORY", "/var/lib/ftagent:/var/lib/other");
    let dir = |host: &Host| host.config().state_dir().map(Path::to_path_buf);
    assert_eq!(dir(&host), Some(PathBuf::from("/var/lib/ftagent")));
    host.write("ftagent.toml", "[state]\ndir = \"/srv/state\"");
    assert_eq!(dir(&host), Some(PathBuf::from("/srv/state")));
    host.options.state_dir = Some(PathBuf::from("relative"));
    assert_eq!(dir(&host), Some(PathBuf::from("relative")));
}

#[test]
fn an_empty_value_counts_as_not_set_and_auto_as_set() {
    let mut host = Host::with(
        "[api]\nkey = \"\"\nnode_uuid = \" \"\n[capture]\ninterfaces = [\"eth0\"]\n[state]\ndir = \"\"",
    );
    host.set("FTAGENT_API_KEY", "");
    host.set("FTAGENT_INTERFACE", "");
    host.set("FTAGENT_DETECTION_PPS_THRESHOLD", "");
    let config = host.config();
    assert!(config.is_local());
    assert_eq!(config.interfaces(), ["eth0"]);
    host.environment.clear();
    host.set("FTAGENT_INTERFACE", "auto");
    let config = host.config();
    assert!(
        config.interfaces().is_empty(),
        "the variable covers the file"
    );
    assert_eq!(
        shown(&config, Key::Interfaces),
        "auto in the environment variable FTAGENT_INTERFACE"
    );
}

// ---- what is wrong

#[test]
fn every_mistake_in_a_file_has_its_message() {
    for (text, problems) in [
        (
            "[detection]\npps_threshold = 0",
            &["detection.pps_threshold: expected 1 or more, found 0 (in ftagent.toml, line 2)"][..],
        ),
        (
            "[detection]\nmultiplier = 1",
            &["detection.multiplier: expected 2 to 100, found 1 (in ftagent.toml, line 2)"],
        ),
        (
            "[detection]\npps_threshold = \"50000\"",
            &[
                "detection.pps_threshold: expected a whole number of 1 or more, found a text (in ftagent.toml, line 2)",
            ],
        ),
        (
            "[detection]\nbps_threshold = 1e9",
            &[
                "detection.bps_threshold: expected a whole number of 1 or more, found a number with a fraction (in \
                 ftagent.toml, line 2)",
            ],
        ),
        (
            "[detection]\npps_treshold = 1",
            &[
                "detection.pps_treshold: no such setting; did you mean detection.pps_threshold? (in ftagent.toml, \
                 line 2)",
            ],
        ),
        (
            "[detection]\ncolour = 1",
            &["detection.colour: no such setting (in ftagent.toml, line 2)"],
        ),
        (
            "[detect]\npps_threshold = 1",
            &["detect: no such section; did you mean detection? (in ftagent.toml, line 1)"],
        ),
        (
            "[colours]\nred = 1",
            &["colours: no such section (in ftagent.toml, line 1)"],
        ),
        (
            "pps_threshold = 1",
            &[
                "pps_threshold: no such setting; did you mean detection.pps_threshold? (in ftagent.toml, line 1)",
            ],
        ),
        (
            "api_key = 1\nnode_uuid = 2\ninterface = 3\n[api]\nlog_level = 4",
            &[
                "api_key: no such setting; did you mean api.key? (in ftagent.toml, line 1)",
                "node_uuid: no such setting; did you mean api.node_uuid? (in ftagent.toml, line 2)",
                "interface: no such setting; did you mean capture.interfaces? (in ftagent.toml, line 3)",
                "api.log_level: no such setting; did you mean log.level? (in ftagent.toml, line 5)",
            ],
        ),
        (
            "api = 5",
            &[
                "api: expected a section, which begins with a line [api], found 5 (in ftagent.toml, line 1)",
            ],
        ),
        (
            "[[api]]\nkey = 1",
            &[
                "api: expected a section, which begins with a line [api], found a list (in ftagent.toml, line 1)",
            ],
        ),
        (
            "[capture]\ninterface = \"eth0\"\ninterfaces = [\"eth1\"]",
            &[
                "capture.interfaces: expected one of interface and interfaces, found both (in ftagent.toml, line 3)",
            ],
        ),
        (
            "[api]\ndeploy_token = \"0123456789\"",
            &[
                "api.deploy_token: is not read from files; remove it and set FLOWTRIQ_DEPLOY_TOKEN where nodes are \
                 registered (in ftagent.toml, line 2)",
            ],
        ),
        (
            "[api]\ncontract = \"both\"",
            &[
                "api.contract: expected auto, seed or resource, found \"both\" (in ftagent.toml, line 2)",
            ],
        ),
        (
            "[api]\nbase = \"flowtriq.com\"",
            &[
                "api.base: expected a URL such as https://flowtriq.com/api/v1, found one that will not do: relative \
                 URL without a base (in ftagent.toml, line 2)",
            ],
        ),
        (
            "[api]\nbase = \"http://flowtriq.com/api/v1/\"",
            &[
                "api.base: expected https://, found http://flowtriq.com/api/v1, which would send the API key \
                 unencrypted; use https://, or set api.allow_http = true (in ftagent.toml, line 2)",
            ],
        ),
        (
            "[detection]\nhold_seconds = 400",
            &[
                "detection.longest_hold_seconds: expected at least detection.hold_seconds of 400, found 300 (in \
                 ftagent.toml, line 2)",
            ],
        ),
        (
            "[detection]\nlongest_hold_seconds = 5",
            &[
                "detection.longest_hold_seconds: expected at least detection.hold_seconds of 10, found 5 (in \
                 ftagent.toml, line 2)",
            ],
        ),
        (
            "[log]\nlevel = 3",
            &["log.level: expected a text in quotes, found 3 (in ftagent.toml, line 2)"],
        ),
        (
            "[log]\nlevel.of = 3",
            &["log.level: expected a text in quotes, found a table (in ftagent.toml, line 2)"],
        ),
        (
            "[api]\nallow_http = 1979-05-27",
            &[
                "api.allow_http: expected true or false, found a date or time (in ftagent.toml, line 2)",
            ],
        ),
        (
            "\u{1b}[2J = 1",
            &["cannot be read as TOML: key with no value, expected `=` (in ftagent.toml, line 1)"],
        ),
        (
            "\"\\u001B[2J\" = 1",
            &["\"\\u{1b}[2J\": no such setting (in ftagent.toml, line 1)"],
        ),
    ] {
        expect_problems(text, problems);
    }
}

#[test]
fn every_missing_credential_is_named_with_where_to_find_it() {
    expect_problems(
        &format!("[api]\nkey = \"{KEY}\""),
        &[
            "api.node_uuid: is missing, and api.key is set (in ftagent.toml, line 2); the dashboard shows it on the \
             node's settings page; put it into the file or into FLOWTRIQ_NODE_UUID, or work without a platform with \
             --local",
        ],
    );
    expect_problems(
        &format!("[api]\nnode_uuid = \"{UUID}\""),
        &[
            "api.key: is missing, and api.node_uuid is set (in ftagent.toml, line 2); the dashboard shows it in its \
             settings, under API keys; put it into the file or into FLOWTRIQ_API_KEY, or work without a platform with \
             --local",
        ],
    );
    // One that does not fit is wrong, not missing; the other one is missing all the same.
    expect_problems(
        &format!("[api]\nkey = \"short\"\nnode_uuid = \"{UUID}\""),
        &["api.key: expected 8 to 256 visible ASCII characters, found 5 (in ftagent.toml, line 2)"],
    );
    assert_eq!(
        Host::with("[api]\nkey = \"short\"").problems().len(),
        2,
        "too short, and alone"
    );
    let mut local = Host::with(&format!("[api]\nkey = \"{KEY}\""));
    local.options.local = true;
    let config = local.config();
    assert!(config.is_local());
    assert!(config.uplink().is_none());
}

#[test]
fn a_uuid_and_a_key_that_changed_places_are_recognised() {
    expect_problems(
        &format!("[api]\nkey = \"{UUID}\"\nnode_uuid = \"{KEY}\""),
        &[
            "api.node_uuid: expected the node's UUID, at most 40 visible ASCII characters, found 48 characters; an API \
             key belongs into api.key (in ftagent.toml, line 3)",
        ],
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_layers_and_lines() {
    let mut host = Host::with(
        "[detection]\nmultiplier = 1\npps_threshold = 0\nhold_seconds = 900\n[log]\nlevel = \"loud\"\n[api]\nkey = \"x\"",
    );
    host.write("conf.d/b.toml", "[detection]\nfloor_pps = 0");
    host.write("conf.d/a.toml", "colour = 1");
    host.set("FTAGENT_DETECTION_FLOOR_BPS", "none");
    host.set("FTAGENT_API_BASE", "http://platform.example");
    let problems = host.problems();
    assert_eq!(
        problems,
        [
            "detection.multiplier: expected 2 to 100, found 1 (in ftagent.toml, line 2)",
            "detection.pps_threshold: expected 1 or more, found 0 (in ftagent.toml, line 3)",
            "log.level: expected error, warning, info or debug, found \"loud\" (in ftagent.toml, line 6)",
            "api.key: expected 8 to 256 visible ASCII characters, found 1 (in ftagent.toml, line 8)",
            "colour: no such setting (in conf.d/a.toml, line 1)",
            "detection.floor_pps: expected 1 or more, found 0 (in conf.d/b.toml, line 2)",
            "detection.floor_bps: expected a whole number of 1 or more, found \"none\" (in the environment variable \
             FTAGENT_DETECTION_FLOOR_BPS)",
            "api.node_uuid: is missing, and api.key is set (in ftagent.toml, line 8); the dashboard shows it on the \
             node's settings page; put it into the file or into FLOWTRIQ_NODE_UUID, or work without a platform with \
             --local",
            "api.base: expected https://, found http://platform.example, which would send the API key unencrypted; use \
             https://, or set api.allow_http = true (in the environment variable FTAGENT_API_BASE)",
            "detection.longest_hold_seconds: expected at least detection.hold_seconds of 900, found 300 (in \
             ftagent.toml, line 4)",
        ]
    );
    for _ in 0..5 {
        assert_eq!(host.problems(), problems, "always in that order");
    }
}

#[test]
fn a_wrong_value_is_told_even_where_a_higher_layer_covers_it() {
    let mut host = Host::with("[detection]\npps_threshold = 0");
    host.set("FTAGENT_DETECTION_PPS_THRESHOLD", "5");
    host.options.pps_threshold = Some(7);
    assert_eq!(
        host.problems(),
        ["detection.pps_threshold: expected 1 or more, found 0 (in ftagent.toml, line 2)"]
    );
}

#[test]
fn each_line_that_is_no_toml_is_told_once_and_nothing_is_concluded_from_it() {
    expect_problems(
        "[api]\nkey = ft_live_unquoted\nallow_http = True\nnode_uuid =\ncontract = auto\n[detection]\nfloor_pps = 0\n\
         floor_bps = 1x\n= 4\n[log\nlevel = 5\n[state]\ncolour = 1",
        &[
            "cannot be read as TOML: a text must stand in quotes (in ftagent.toml, line 2)",
            "cannot be read as TOML: true and false are written in small letters (in ftagent.toml, line 3)",
            "cannot be read as TOML: there is no value behind = (in ftagent.toml, line 4)",
            "cannot be read as TOML: a text must stand in quotes (in ftagent.toml, line 5)",
            "detection.floor_pps: expected 1 or more, found 0 (in ftagent.toml, line 7)",
            "cannot be read as TOML: string values must be quoted, expected literal string (in ftagent.toml, line 8)",
            "cannot be read as TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_` (in \
             ftagent.toml, line 9)",
            "cannot be read as TOML: unclosed table, expected `]` (in ftagent.toml, line 10)",
            "state.colour: no such setting (in ftagent.toml, line 13)",
        ],
    );
    expect_problems(
        "[log]\nlevel = \"info\"\nlevel = \"debug\"",
        &["cannot be read as TOML: duplicate key (in ftagent.toml, line 3)"],
    );
}

#[test]
fn a_file_of_another_kind_is_told_in_forty_lines_and_the_rest_counted() {
    let text: String = (0..1_000).map(|n| format!("setting{n} = 1\n")).collect();
    let problems = Host::with(&text).problems();
    assert_eq!(problems.len(), 41);
    assert_eq!(
        problems[40],
        "ftagent.toml: has 960 more mistakes; these are the first"
    );
    assert_eq!(
        problems[39],
        "setting39: no such setting (in ftagent.toml, line 40)"
    );
}

// ---- files

#[test]
fn what_is_no_plain_file_is_refused_with_the_reason() {
    let host = Host::new();
    fs::create_dir(host.path("ftagent.toml")).unwrap();
    assert_eq!(
        host.problems(),
        ["ftagent.toml: expected a file, found a directory"]
    );

    let host = Host::new();
    host.write("elsewhere.toml", "[log]\nlevel = \"debug\"");
    symlink(host.path("elsewhere.toml"), host.path("ftagent.toml")).unwrap();
    assert_eq!(
        host.problems(),
        [
            "ftagent.toml: expected a file, found a symbolic link to elsewhere.toml; put the file itself there"
        ]
    );

    let host = Host::new();
    let made = Command::new("mkfifo")
        .arg(host.path("ftagent.toml"))
        .status();
    assert!(made.expect("mkfifo is there").success());
    assert_eq!(
        host.problems(),
        ["ftagent.toml: expected a file, found a device, pipe or socket"],
        "and nothing waits for somebody to write"
    );

    let host = Host::new();
    host.write("ftagent.toml", "# ".to_owned() + &"x".repeat(1_048_574));
    host.config();
    host.write("ftagent.toml", "# ".to_owned() + &"x".repeat(1_048_575));
    assert_eq!(
        host.problems(),
        ["ftagent.toml: expected at most 1,048,576 bytes, found more; this is no configuration"]
    );
    let sparse = fs::File::create(host.path("ftagent.toml")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    assert_eq!(
        host.problems(),
        ["ftagent.toml: expected at most 1,048,576 bytes, found more; this is no configuration"]
    );

    let host = Host::new();
    host.write("ftagent.toml", b"[log]\nlevel = \"\xff\"");
    assert_eq!(
        host.problems(),
        ["ftagent.toml: expected text in UTF-8, found something else at byte 15"]
    );

    let host = Host::new();
    let deep = "[".repeat(100_000);
    host.write("ftagent.toml", format!("log = {deep}"));
    assert_eq!(
        host.problems(),
        [
            "cannot be read as TOML: cannot recurse further; max recursion depth met (in ftagent.toml, line 1)"
        ]
    );
    host.write("ftagent.toml", format!("{}a = 1", "a.".repeat(100_000)));
    assert_eq!(
        host.problems(),
        ["cannot be read as TOML: recursion limit (in ftagent.toml, line 1)"]
    );
    let closed = "]".repeat(100_000);
    host.write("ftagent.toml", format!("{{\"log_file\": {deep}{closed}}}"));
    assert_eq!(
        host.problems(),
        ["cannot be read as JSON: recursion limit exceeded (in ftagent.toml, line 1)"]
    );
}

#[test]
fn conf_d_is_a_folder_of_files_and_not_of_too_many() {
    let host = Host::new();
    host.write("conf.d", "a file");
    assert_eq!(
        host.problems(),
        ["conf.d: cannot be read: Not a directory (os error 20)"]
    );

    let host = Host::new();
    for n in 0..64 {
        host.write(&format!("conf.d/{n}.toml"), "");
    }
    assert_eq!(host.config().files().len(), 64);
    host.write("conf.d/64.toml", "");
    assert_eq!(
        host.problems(),
        ["conf.d: expected at most 64 files that end in .toml, and 1,024 of any kind; found more"]
    );
}

#[test]
fn a_file_with_a_key_in_it_is_for_the_agent_alone() {
    let host = Host::with(&credentials());
    for (mode, wrong) in [
        (0o600, false),
        (0o640, false),
        (0o400, false),
        (0o644, true),
        (0o604, true),
        (0o602, true),
        (0o666, true),
    ] {
        host.allow("ftagent.toml", mode);
        if wrong {
            assert_eq!(
                host.problems(),
                [format!(
                    "ftagent.toml: holds a key and can be read or changed by everyone on this host (mode {mode:04o}); \
                     run: chmod o-rwx ftagent.toml"
                )]
            );
        } else {
            host.config();
        }
    }

    let host = Host::with("[log]\nlevel = \"debug\"");
    host.allow("ftagent.toml", 0o644);
    host.config();

    let host = Host::new();
    host.write("conf.d/key.toml", credentials());
    host.allow("conf.d/key.toml", 0o644);
    assert_eq!(host.problems().len(), 1, "wherever it stands");

    let host = Host::new();
    host.write(
        "config.json",
        format!("{{\"api_key\": \"{KEY}\", \"node_uuid\": \"{UUID}\"}}"),
    );
    host.allow("config.json", 0o644);
    assert_eq!(host.problems().len(), 1, "whoever wrote it");

    let mut host = Host::new();
    host.set("FTAGENT_NODE_UUID", UUID);
    host.write("api_key", KEY);
    host.set("CREDENTIALS_DIRECTORY", host.path(""));
    host.allow("api_key", 0o444);
    assert_eq!(
        host.problems(),
        [
            "api_key: holds a key and can be read or changed by everyone on this host (mode 0444); run: chmod o-rwx \
             api_key"
        ]
    );
}

#[test]
fn a_credential_that_is_none_is_told_and_a_missing_one_is_none() {
    let mut host = Host::new();
    host.set("CREDENTIALS_DIRECTORY", host.path(""));
    assert!(host.config().is_local());
    host.write("api_key", "two words");
    assert_eq!(
        host.problems()[0],
        "api.key: expected 8 to 256 visible ASCII characters, found others among them (in the credential api_key)"
    );
    host.write("api_key", "x".repeat(300));
    assert_eq!(
        host.problems()[0],
        "api.key: expected 8 to 256 visible ASCII characters, found 300 (in the credential api_key)"
    );
}

#[test]
fn a_file_that_is_named_is_read_and_must_be_there() {
    let host = Host::new();
    let mine = host.write("mine/agent.conf", "[log]\nlevel = \"error\"");
    host.write("mine/conf.d/more.toml", "[state]\ndir = \"/more\"");
    host.write("ftagent.toml", "[log]\nlevel = \"debug\"");
    let mut sources = Sources {
        file: Some(mine.clone()),
        ..host.sources()
    };
    let config = Config::load(sources.clone()).unwrap();
    assert_eq!(config.log_level(), LevelFilter::Error);
    assert_eq!(config.state_dir(), Some(Path::new("/more")));

    sources.file = None;
    sources.environment = Environment::from_iter([("FTAGENT_CONFIG", &mine)]);
    assert_eq!(
        Config::load(sources.clone()).unwrap().log_level(),
        LevelFilter::Error
    );
    sources.file = Some(host.path("nothing.toml"));
    let errors = Config::load(sources).unwrap_err().to_string();
    assert_eq!(
        host.without_folder(&errors),
        ["nothing.toml: no such file; name one that is there with --config"]
    );
}

// ---- the published agent's file

/// The four shapes of files that installations have, made up.
const THEIRS: [(&str, &str); 4] = [
    (
        "minimal",
        r#"{"api_key": "KEY", "node_uuid": "5e0d1c2b-0000-4000-8000-0000000000a1"}"#,
    ),
    (
        "from its container image",
        r#"{
  "api_key": "KEY",
  "node_uuid": "5e0d1c2b-0000-4000-8000-0000000000a1",
  "interface": "eth3",
  "api_url": "https://api.platform.example"
}"#,
    ),
    (
        "from its early example",
        r#"{
  "api_key": "KEY",
  "node_uuid": "5e0d1c2b-0000-4000-8000-0000000000a1",
  "api_base": "https://platform.example/api/v1/",
  "interface": "auto",
  "log_level": "debug",
  "log_file": "/var/log/ftagent.log",
  "pcap_max_packets": 10000,
  "dynamic_threshold": true,
  "threshold_multiplier": 2.5,
  "heartbeat_interval": 60,
  "metrics_interval": 10
}"#,
    ),
    (
        "with everything",
        r#"{
  "api_key": "KEY",
  "node_uuid": "5e0d1c2b-0000-4000-8000-0000000000a1",
  "api_base": "https://platform.example/api/v1",
  "interface": "ens18",
  "pcap_enabled": true,
  "pcap_retention_days": 7,
  "log_level": "WARNING",
  "health_port": 9100,
  "flow_source_ips": ["198.51.100.1"],
  "vm_labels": {"198.51.100.40": "web"},
  "mirror_ip_labels": ["a list has been seen"],
  "ioc_patterns": [{"pattern": "x", "attack_name": "y"}],
  "_dashboard": {"flow_protocol": "sflow"},
  "colour": "red",
  "KEY": 1
}"#,
    ),
];

fn theirs(name: &str) -> Host {
    let (_, text) = THEIRS.iter().find(|(known, _)| *known == name).unwrap();
    let host = Host::new();
    host.write("config.json", text.replace("KEY", KEY));
    host
}

#[test]
fn files_of_the_published_agent_are_read_as_they_are() {
    let host = theirs("minimal");
    let config = host.config();
    let uplink = config.uplink().expect("it has credentials");
    assert_eq!(uplink.api_base, "https://flowtriq.com/api/v1");
    assert_eq!(uplink.node_uuid, UUID);
    assert!(config.interfaces().is_empty());
    assert!(config.notices().is_empty());
    assert_eq!(
        shown(&config, Key::ApiKey),
        format!("{MASKED} in {}, line 1", host.path("config.json").display())
    );

    let host = theirs("from its container image");
    let config = host.config();
    assert_eq!(config.interfaces(), ["eth3"]);
    assert_eq!(
        config.uplink().unwrap().api_base,
        "https://flowtriq.com/api/v1"
    );
    assert_eq!(
        host.notices(),
        [
            "api_url: is not used, neither here nor by the published agent; what counts is api_base, else \
             https://flowtriq.com/api/v1 (in config.json, line 5)"
        ]
    );

    let host = theirs("from its early example");
    let config = host.config();
    assert_eq!(
        config.uplink().unwrap().api_base,
        "https://platform.example/api/v1"
    );
    assert!(config.interfaces().is_empty());
    assert_eq!(config.log_level(), LevelFilter::Debug);
    assert_eq!(config.engine(0).detect.baseline.multiplier_permille, 2_500);
    assert_eq!(
        shown(&config, Key::Multiplier),
        format!("2.5 in {}, line 10", host.path("config.json").display())
    );
    let cadence = config.uplink().unwrap().cadence;
    assert_eq!(cadence.heartbeat, Duration::from_secs(60));
    assert_eq!(cadence.aggregate, Duration::from_secs(10));
    assert_eq!(
        host.notices(),
        [
            "config.json: read, but not used yet: pcap_max_packets",
            "config.json: without meaning for this agent: dynamic_threshold, log_file",
        ]
    );

    let host = theirs("with everything");
    let config = host.config();
    assert_eq!(config.interfaces(), ["ens18"]);
    assert_eq!(config.log_level(), LevelFilter::Warn);
    assert_eq!(
        host.notices(),
        [
            "config.json: read, but not used yet: health_port, ioc_patterns, pcap_enabled, pcap_retention_days",
            "config.json: without meaning for this agent: _dashboard, flow_source_ips, mirror_ip_labels, vm_labels",
            "config.json: unknown and ignored: (a name of 48 characters), colour",
        ]
    );
}

#[test]
fn what_cannot_be_honoured_in_their_file_is_no_reason_not_to_start() {
    let notices = |member: &str| {
        let host = Host::new();
        host.write("config.json", format!("{{\n{member}\n}}"));
        let config = host.config();
        assert_eq!(config.engine(0).detect.baseline.multiplier_permille, 4_000);
        assert_eq!(config.log_level(), LevelFilter::Info);
        let held = |key| config.setting(key).map(|setting| setting.value.clone());
        assert_eq!(held(Key::HeartbeatSeconds), Some(Value::Number(30)));
        assert_eq!(held(Key::MetricsSeconds), Some(Value::Number(5)));
        host.notices()
    };
    for (member, notice) in [
        (
            "\"threshold_multiplier\": 1.5",
            "threshold_multiplier: expected 2 to 100, found 1.5; detection.multiplier stays as it is (in config.json, \
             line 2)",
        ),
        (
            "\"threshold_multiplier\": 1",
            "threshold_multiplier: expected 2 to 100, found 1; detection.multiplier stays as it is (in config.json, \
             line 2)",
        ),
        (
            "\"threshold_multiplier\": 1e300",
            "threshold_multiplier: expected a number of 2 to 100, found a number of more than 38 digits; \
             detection.multiplier stays as it is (in config.json, line 2)",
        ),
        (
            "\"threshold_multiplier\": \"3\"",
            "threshold_multiplier: expected a number of 2 to 100, found a text; detection.multiplier stays as it is (in \
             config.json, line 2)",
        ),
        (
            "\"heartbeat_interval\": 5",
            "heartbeat_interval: expected 15 to 300, found 5; api.heartbeat_seconds stays as it is (in config.json, \
             line 2)",
        ),
        (
            "\"metrics_interval\": 60.0",
            "metrics_interval: expected 1 to 30, found 60; api.metrics_seconds stays as it is (in config.json, line 2)",
        ),
        (
            "\"metrics_interval\": 0.5",
            "metrics_interval: expected a whole number of 1 to 30, found a number with a fraction; api.metrics_seconds \
             stays as it is (in config.json, line 2)",
        ),
        (
            "\"log_level\": \"CRITICAL\"",
            "log_level: expected error, warning, info or debug, found \"CRITICAL\"; log.level stays as it is (in \
             config.json, line 2)",
        ),
    ] {
        assert_eq!(notices(member), [notice]);
    }
    assert!(
        notices("\"threshold_multiplier\": 4.0, \"api_key\": null, \"metrics_interval\": null")
            .is_empty()
    );
}

#[test]
fn what_is_wrong_in_their_file_is_told_with_its_line() {
    for (text, problem) in [
        (
            "{\n\n  \"api_key\": 5, \"node_uuid\": \"x\"\n}",
            "api.key: expected a text in quotes, found 5 (in config.json, line 3)",
        ),
        (
            "{\n  \"interface\":\n    {\"name\": \"eth0\"}}",
            "capture.interfaces: expected names of interfaces, found a table (in config.json, line 3)",
        ),
        (
            "{\n\"api_base\": \"ftp://platform.example\"}",
            "api.base: expected a URL such as https://flowtriq.com/api/v1, found one that will not do: it begins with \
             neither https:// nor http:// (in config.json, line 2)",
        ),
        (
            "",
            "cannot be read as JSON: EOF while parsing a value (in config.json, line 1)",
        ),
        (
            "{\n  \"interface\": \"eth0\",\n}",
            "cannot be read as JSON: trailing comma (in config.json, line 3)",
        ),
        (
            "[\"ft_live_in_a_list\"]",
            "cannot be read as JSON: it is not one object (in config.json, line 1)",
        ),
        (
            "\"ft_live_alone\"",
            "cannot be read as JSON: it is not one object (in config.json, line 1)",
        ),
        (
            "{} {}",
            "cannot be read as JSON: trailing characters (in config.json, line 1)",
        ),
    ] {
        let host = Host::new();
        host.write("config.json", text);
        assert_eq!(host.problems(), [problem], "{text}");
    }
}

#[test]
fn the_last_of_two_members_of_one_name_counts_as_it_did_there() {
    let host = Host::new();
    host.write(
        "config.json",
        "{\"interface\": \"eth0\",\n\"interface\": \"eth1\"}",
    );
    assert_eq!(host.config().interfaces(), ["eth1"]);
}

#[test]
fn our_file_counts_before_theirs_and_more_files_count_over_both() {
    let host = theirs("from its container image");
    host.write(
        "conf.d/limits.toml",
        "[detection]\npps_threshold = 9\n[capture]\ninterface = \"eth4\"",
    );
    let config = host.config();
    assert_eq!(config.interfaces(), ["eth4"]);
    assert_eq!(config.local_limits().pps.map(|limit| limit.value), Some(9));
    assert!(!config.is_local());

    host.write("ftagent.toml", "[log]\nlevel = \"error\"");
    let config = host.config();
    assert!(config.is_local(), "their file is not read");
    assert_eq!(
        host.notices(),
        ["config.json: is not read, because ftagent.toml is there"]
    );
    let named = Sources {
        file: Some(host.path("config.json")),
        ..host.sources()
    };
    assert!(
        !Config::load(named).unwrap().is_local(),
        "unless it is named"
    );
}

/// What a member of their file comes to.
enum Becomes {
    /// This setting, shown so.
    Setting(Key, String),
    /// A name in this notice.
    Named(&'static str),
    /// A notice of its own.
    Noticed,
}

/// What each member that the shared files have comes to here.
fn becomes(name: &str, value: &Json) -> Becomes {
    let text = value.as_str().unwrap_or_default();
    let number = value.to_string();
    match name {
        "api_key" => Becomes::Setting(Key::ApiKey, format!("…{}", &text[text.len() - 4..])),
        "node_uuid" => Becomes::Setting(Key::NodeUuid, text.to_owned()),
        "api_base" => Becomes::Setting(Key::ApiBase, text.trim_end_matches('/').to_owned()),
        "interface" => Becomes::Setting(Key::Interfaces, text.to_owned()),
        "log_level" => Becomes::Setting(Key::LogLevel, text.to_ascii_lowercase()),
        "threshold_multiplier" => Becomes::Setting(Key::Multiplier, number),
        "heartbeat_interval" => Becomes::Setting(Key::HeartbeatSeconds, number),
        "metrics_interval" => Becomes::Setting(Key::MetricsSeconds, number),
        "pcap_enabled"
        | "pcap_mode"
        | "pcap_dir"
        | "pcap_snaplen"
        | "pcap_retention_days"
        | "pcap_max_disk_mb"
        | "pcap_max_packets"
        | "pcap_max_seconds"
        | "pcap_lazy"
        | "ioc_patterns"
        | "ip_blocklist"
        | "health_port"
        | "preferred_firewall" => Becomes::Named("read, but not used yet"),
        "log_file"
        | "baseline_window"
        | "baseline_window_minutes"
        | "dynamic_threshold"
        | "auto_update"
        | "velocity_detection"
        | "flow_enabled"
        | "flow_protocol"
        | "flow_port"
        | "flow_bind"
        | "flow_sample_rate"
        | "flow_source_ips"
        | "gre_mode"
        | "gre_max_depth"
        | "hypervisor_mode"
        | "vm_labels"
        | "mirror_mode"
        | "mirror_interface"
        | "mirror_subnets"
        | "mirror_ip_labels"
        | "mirror_capture_mode"
        | "agones_sidecar"
        | "agones_sidecar_port"
        | "_dashboard" => Becomes::Named("without meaning for this agent"),
        "api_url" => Becomes::Noticed,
        other => panic!("{other} is new in the shared files"),
    }
}

#[test]
fn every_member_of_the_shared_files_of_the_published_agent_becomes_what_it_means_here() {
    let Some(fixtures) = shared("contract/fixtures") else {
        return;
    };
    let mut members = 0;
    for name in ["minimal", "legacy", "container", "full"] {
        let text = fs::read_to_string(fixtures.join(format!("config-file-{name}.json")));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        let host = Host::new();
        let path = host.write("config.json", &text);
        let config = host.config();
        let mut named: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut notices = 0;
        let file: BTreeMap<String, Json> = serde_json::from_str(&text).unwrap();
        for (member, value) in &file {
            members += 1;
            match becomes(member, value) {
                Becomes::Setting(key, value) => {
                    let quoted = format!("\"{member}\":");
                    let line = text
                        .lines()
                        .position(|line| line.contains(&quoted))
                        .unwrap()
                        + 1;
                    assert_eq!(
                        shown(&config, key),
                        format!("{value} in {}, line {line}", path.display()),
                        "{name}: {member}"
                    );
                }
                Becomes::Named(notice) => named.entry(notice).or_default().push(member.clone()),
                Becomes::Noticed => {
                    let told = host.notices();
                    let said = told
                        .iter()
                        .any(|notice| notice.starts_with(member.as_str()));
                    assert!(said, "{name}: {member}: {told:?}");
                    notices += 1;
                }
            }
        }
        for (what, members) in &named {
            let notice = format!("config.json: {what}: {}", members.join(", "));
            assert!(host.notices().contains(&notice), "{name}: no {notice:?}");
        }
        assert_eq!(
            host.notices().len(),
            named.len() + notices,
            "{name}: and nothing else is said: {:?}",
            host.notices()
        );
        // And the rooms get it.
        let uplink = config.uplink().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(uplink.api_base, "https://flowtriq.com/api/v1", "{name}");
        let engine = config.engine(0);
        let multiplier = engine.detect.baseline.multiplier_permille;
        let cadence = (uplink.cadence.heartbeat, uplink.cadence.aggregate);
        let seconds = Duration::from_secs;
        if name == "legacy" {
            assert_eq!(multiplier, 2_500);
            assert_eq!(cadence, (seconds(30), seconds(10)));
        } else {
            assert_eq!(multiplier, 4_000);
            assert_eq!(cadence, (seconds(30), seconds(5)));
        }
    }
    assert_eq!(members, 2 + 16 + 4 + 38, "members of all four");
}

// ---- environment

#[test]
fn variables_that_look_like_ours_are_told_and_others_left_alone() {
    let mut host = Host::new();
    for name in [
        "FTAGENT_DETECTION_PPS_TRESHOLD",
        "FTAGENT_APIKEY",
        "FLOWTRIQ_APIKEY",
        "FTAGENT_API_URL",
        // Our tests', a container scheduler's, and somebody else's.
        "FTAGENT_SHARED",
        "FTAGENT_REQUIRE_LIVE",
        "FTAGENT_SERVICE_HOST",
        "FTAGENT_PORT_9100_TCP_ADDR",
        "PATH",
    ] {
        host.set(name, "something");
    }
    assert_eq!(
        host.notices(),
        [
            "FLOWTRIQ_APIKEY: no such setting; did you mean FLOWTRIQ_API_KEY?",
            "FTAGENT_APIKEY: no such setting; did you mean FTAGENT_API_KEY?",
            "FTAGENT_API_URL: is not used; the platform's address is FTAGENT_API_BASE",
            "FTAGENT_DETECTION_PPS_TRESHOLD: no such setting; did you mean FTAGENT_DETECTION_PPS_THRESHOLD?",
        ]
    );
}

#[test]
fn a_variable_that_is_no_text_is_told() {
    let mut host = Host::new();
    host.set("FTAGENT_LOG_LEVEL", OsStr::from_bytes(b"\xff"));
    assert_eq!(
        host.problems(),
        [
            "log.level: expected a text in quotes, found bytes that are not UTF-8 (in the environment variable \
             FTAGENT_LOG_LEVEL)"
        ]
    );
}

#[test]
fn unencrypted_is_for_loopback_or_said_at_every_start() {
    let mut host = Host::with(&credentials());
    for base in [
        "http://127.0.0.1:8080/api/v1",
        "http://localhost/",
        "http://[::1]:1/api/v1",
        "https://platform.example",
    ] {
        host.environment.clear();
        host.set("FTAGENT_API_BASE", base);
        assert!(host.notices().is_empty(), "{base}");
    }
    host.environment.clear();
    host.set("FTAGENT_API_BASE", "http://platform.example/api/v1");
    assert_eq!(host.problems().len(), 1);
    host.set("FTAGENT_API_ALLOW_HTTP", "yes");
    assert_eq!(
        host.notices(),
        [
            "api.allow_http: the API key travels unencrypted to http://platform.example/api/v1 (allowed in the \
             environment variable FTAGENT_API_ALLOW_HTTP)"
        ]
    );
}

// ---- reload

#[test]
fn a_reload_takes_over_what_can_be_and_says_the_rest_until_it_is_done() {
    let host = Host::with("[detection]\npps_threshold = 1_000\n[capture]\ninterface = \"eth0\"");
    let config = host.config();
    let reload = config.reload().unwrap();
    assert!(reload.changes.is_empty());

    host.write(
        "ftagent.toml",
        credentials() + "[capture]\ninterface = \"eth1\"\n[detection]\nbps_threshold = 7\n[log]\nlevel = \"debug\"",
    );
    let file = host.path("ftagent.toml");
    let at = |line: usize| format!("(in {}, line {line})", file.display());
    let reload = config.reload().unwrap();
    let said: Vec<String> = reload.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            format!("api.key: now {MASKED} instead of none {}", at(2)),
            format!("api.node_uuid: now {UUID} instead of none {}", at(3)),
            format!(
                "capture.interfaces: stays eth0 until the agent is started again, then eth1 {}",
                at(5)
            ),
            "detection.pps_threshold: now learned instead of 1,000".to_owned(),
            format!(
                "detection.bps_threshold: now 7 instead of learned {}",
                at(7)
            ),
            format!("log.level: now debug instead of info {}", at(9)),
        ]
    );
    let config = reload.config;
    assert_eq!(config.interfaces(), ["eth0"], "what is in force");
    assert!(config.uplink().is_some());
    assert_eq!(config.log_level(), LevelFilter::Debug);
    assert_eq!(config.local_limits().pps, None);
    let again = config.reload().unwrap();
    let said: Vec<Key> = again.changes.iter().map(|change| change.key).collect();
    assert_eq!(said, [Key::Interfaces], "still to be done");

    host.write(
        "ftagent.toml",
        "[capture]\ninterface = \"eth1\"\n[log]\nlevel = 1",
    );
    assert_eq!(
        host.without_folder(&config.reload().unwrap_err().to_string()),
        ["log.level: expected a text in quotes, found 1 (in ftagent.toml, line 4)"]
    );
}

#[test]
fn a_value_that_only_moved_is_no_change() {
    let host = Host::with("[log]\nlevel = \"debug\"");
    let config = host.config();
    host.write("ftagent.toml", "");
    host.write("conf.d/log.toml", "# moved\nlog.level = \"debug\"");
    let reload = config.reload().unwrap();
    assert!(reload.changes.is_empty());
    let expected = format!(
        "debug in {}, line 2",
        host.path("conf.d/log.toml").display()
    );
    assert_eq!(
        shown(&reload.config, Key::LogLevel),
        expected,
        "it is known from where now"
    );
}

#[test]
fn options_and_variables_of_the_start_hold_through_reloads() {
    let mut host = Host::with("[detection]\npps_threshold = 1");
    host.set("FTAGENT_DETECTION_BPS_THRESHOLD", "2");
    host.options.pps_threshold = Some(3);
    let config = host.config();
    host.write(
        "ftagent.toml",
        "[detection]\npps_threshold = 4\nbps_threshold = 5",
    );
    assert!(config.reload().unwrap().changes.is_empty());
}

// ---- the default file

const DEFAULT_FILE: &str = include_str!("../packaging/ftagent.toml");

#[test]
fn the_default_file_sets_nothing() {
    let host = Host::with(DEFAULT_FILE);
    let (config, plain) = (host.config(), Host::new().config());
    for key in Key::ALL {
        assert_eq!(config.setting(key), plain.setting(key), "{key}");
    }
    host.allow("ftagent.toml", 0o644);
    host.config();
}

/// The lines that show settings, by key, each with the text behind the mark of a comment.
fn default_lines() -> Vec<(Key, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in DEFAULT_FILE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        }
        let Some(setting) = line.strip_prefix('#').filter(|line| !line.starts_with(' ')) else {
            continue;
        };
        let Some((name, _)) = setting.split_once(" = ") else {
            continue;
        };
        let key = Key::ALL
            .into_iter()
            .find(|key| (key.section(), key.name()) == (&section, name));
        let key = key.unwrap_or_else(|| panic!("{section}.{name} is no setting"));
        found.push((key, format!("[{section}]\n{setting}")));
    }
    found
}

#[test]
fn the_default_file_shows_every_setting_once_with_its_default() {
    let lines = default_lines();
    let shown_keys: BTreeSet<Key> = lines.iter().map(|(key, _)| *key).collect();
    assert_eq!(shown_keys.len(), lines.len(), "each once");
    let all: BTreeSet<Key> = Key::ALL.into_iter().filter(|key| key.in_files()).collect();
    assert_eq!(shown_keys, all);
    let plain = Host::new().config();
    for (key, line) in lines {
        if matches!(key, Key::ApiKey | Key::NodeUuid) {
            continue;
        }
        let config = Host::with(&line).config();
        let value = config.setting(key).map(|setting| setting.value.clone());
        assert!(value.is_some(), "{line}");
        if let Some(default) = plain.setting(key) {
            assert_eq!(value.as_ref(), Some(&default.value), "{line}");
        }
    }
    for key in Key::ALL.into_iter().filter(|key| !key.in_files()) {
        assert!(
            DEFAULT_FILE.contains(&key.to_string()),
            "{key} is not explained"
        );
        for variable in key.variables() {
            assert!(DEFAULT_FILE.contains(&variable), "{variable}");
        }
    }
}

#[test]
fn the_default_file_marks_what_takes_a_start() {
    // A comment of one or more lines stands above the settings it explains.
    let mut comment = String::new();
    let mut above_is_setting = false;
    let mut checked = 0;
    for line in DEFAULT_FILE.lines() {
        let is_setting = line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
        if is_setting {
            let name = line.trim_start_matches('#').split(" = ").next().unwrap();
            let (key, _) = default_lines()
                .into_iter()
                .find(|(key, _)| key.name() == name)
                .expect("it is a setting");
            let marked = comment.contains("(start)");
            assert_eq!(marked, key.takes() == Takes::AtStart, "{line}");
            checked += 1;
        } else if above_is_setting || line.is_empty() {
            comment.clear();
        }
        if !is_setting {
            comment.push_str(line);
        }
        above_is_setting = is_setting;
    }
    assert_eq!(checked, default_lines().len());
}

// ---- nothing that is said holds a secret, and nothing panics

/// Everything that can be said about a configuration.
fn everything(config: &Result<Config, ftagent::config::ConfigErrors>) -> String {
    let mut said = format!("{config:?} {config:#?}");
    match config {
        Ok(config) => {
            for key in Key::ALL {
                said += &shown(config, key);
            }
            said += &config.notices().join("\n");
            said += &format!("{:?} {:?}", config.uplink(), config.deploy_token());
        }
        Err(errors) => {
            said += &errors.to_string();
            for problem in errors.problems() {
                said += &format!("{problem:?} {problem}");
            }
        }
    }
    said
}

/// Changes to a text, each at a place and of a kind.
fn damaged(text: &str, edits: &[(prop::sample::Index, u8, char)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (place, kind, character) in edits {
        if characters.is_empty() {
            break;
        }
        let at = place.index(characters.len());
        match kind % 3 {
            0 => characters.insert(at, *character),
            1 => characters[at] = *character,
            _ => {
                characters.remove(at);
            }
        }
    }
    characters.into_iter().collect()
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, char)>> {
    let character = prop::sample::select(vec![
        '"', '\'', '=', '\n', '[', ']', '{', '}', '#', '\\', ',', '.', ' ', 'x', '5', '\u{0}', 'ü',
    ]);
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), character), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_damage_to_a_file_makes_it_say_the_key(edits in edits(), json in any::<bool>()) {
        let (name, text) = if json {
            ("config.json", format!("{{\n\"api_key\": \"{KEY}\",\n\"node_uuid\": \"{UUID}\",\n\"interface\": \"eth0\"\n}}\n"))
        } else {
            ("ftagent.toml", credentials() + "contract = \"auto\"\n[detection]\npps_threshold = 5\n")
        };
        let config = Config::of_text(Path::new(name), &damaged(&text, &edits));
        let said = everything(&config);
        prop_assert!(!said.contains(PART_OF_KEY), "{said}");
    }

    #[test]
    fn a_key_in_any_place_of_a_file_is_not_repeated(place in 0..Key::ALL.len(), name in "[a-z_]{1,12}") {
        let key = Key::ALL[place];
        for text in [
            format!("[{}]\n{} = \"{KEY}\"", key.section(), key.name()),
            format!("[{}]\n{name} = \"{KEY}\"", key.section()),
            format!("[{}]\n{} = [\"{KEY}\"]", key.section(), key.name()),
            format!("{name} = \"{KEY}\""),
            format!("[api]\n{KEY} = 1"),
            format!("[{KEY}]\n{name} = 1"),
        ] {
            // The name of an interface and a folder are no secrets, and are said once they fit.
            let said = everything(&Config::of_text(Path::new("ftagent.toml"), &text));
            let is_free = matches!(key, Key::Interfaces | Key::StateDir);
            prop_assert!(is_free || !said.contains(PART_OF_KEY), "{text}: {said}");
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), json in any::<bool>()) {
        let name = if json { "config.json" } else { "ftagent.toml" };
        let _ = Config::of_text(Path::new(name), &text);
    }

    #[test]
    fn no_toml_makes_it_panic(lines in prop::collection::vec(
        "(\\[{0,2}(api|capture|detection|state|log|[a-z]{1,3})\\]{0,2}|(key|node_uuid|base|interfaces?|pps_threshold|level|dir|[a-z.]{1,5}) ?=? ?(-?[0-9_]{1,25}|[0-9.e+-]{1,9}|true|\"[^\"]{0,9}\"|\\[.{0,9}\\]|\\{.{0,9}\\}|.{0,9}))",
        0..12,
    )) {
        let _ = Config::of_text(Path::new("ftagent.toml"), &lines.join("\n"));
    }
}

#[test]
fn nothing_that_is_said_of_sources_or_changes_holds_a_secret() {
    let mut host = Host::with(&credentials());
    host.set("FTAGENT_API_KEY", KEY);
    host.set("SOMEBODY_ELSES_PASSWORD", KEY);
    host.set("FLOWTRIQ_DEPLOY_TOKEN", KEY);
    let config = host.config();
    let sources = format!("{:?} {config:?}", host.sources());
    assert!(sources.contains("SOMEBODY_ELSES_PASSWORD"));
    assert!(!sources.contains(PART_OF_KEY), "{sources}");
    let other = Host::new().config();
    for reload in [other.changed_to(config.clone()), config.changed_to(other)] {
        let said: String = reload.changes.iter().map(ToString::to_string).collect();
        let said = format!("{said} {reload:?}");
        assert!(said.contains("api.key"));
        assert!(!said.contains(PART_OF_KEY), "{said}");
    }
}

#[test]
fn hostile_files_take_bounded_time() {
    let size = 100_000;
    for text in [
        "a.".repeat(size / 2) + "a = 1",
        format!("a = {}", "[".repeat(size)),
        "{a=".repeat(size / 3),
        "=\n".repeat(size / 2),
        "\"\n".repeat(size / 2),
        "a=1\n".repeat(size / 4),
        (0..size / 8).map(|n| format!("[a{n}]\n")).collect(),
        "[api]\n".to_owned()
            + &(0..size / 12)
                .map(|n| format!("k{n}=1\n"))
                .collect::<String>(),
    ] {
        let start = clock::monotonic();
        for name in ["ftagent.toml", "config.json"] {
            let errors = Config::of_text(Path::new(name), &text).unwrap_err();
            assert!(errors.problems().len() <= 41);
        }
        let took = start.elapsed();
        let beginning: String = text.chars().take(12).collect();
        assert!(took < PATIENCE, "{beginning:?} took {took:?}");
    }
}

// ---- the commands

fn run(host: &Host, arguments: &[&str]) -> Finished {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    for (name, value) in &host.environment {
        command.env(name, value);
    }
    finish(&mut command, PATIENCE)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths here are plain")
}

#[test]
fn every_command_refuses_a_wrong_configuration_in_the_same_words() {
    let host = Host::new();
    let file = host.write(
        "wrong.toml",
        "[detection]\npps_threshold = 0\npps_treshold = 1",
    );
    let name = text(&file);
    for arguments in [
        &["check", "--config", name][..],
        &["config", "show", "--config", name],
        &["config", "show", "--json", "--config", name],
        &["run", "--config", name],
        &["run", "--local", "--config", name],
    ] {
        let done = run(&host, arguments);
        assert_eq!(
            done.stderr,
            format!(
                "ftagent: detection.pps_threshold: expected 1 or more, found 0 (in {name}, line 2)\n\
                 ftagent: detection.pps_treshold: no such setting; did you mean detection.pps_threshold? (in {name}, \
                 line 3)\n"
            ),
            "{arguments:?}"
        );
        assert_eq!(done.stdout, "", "{arguments:?}");
        assert_eq!(done.code, Some(78), "{arguments:?}");
    }
    let missing = host.path("missing.toml");
    let done = run(&host, &["check", "--config", text(&missing)]);
    assert_eq!(
        done.stderr,
        format!(
            "ftagent: {}: no such file; name one that is there with --config\n",
            missing.display()
        )
    );
    assert_eq!(done.code, Some(78));
}

#[test]
fn check_says_what_the_configuration_comes_to() {
    let host = Host::new();
    let file = host.write(
        "fine.toml",
        credentials() + "base = \"http://127.0.0.1:9\"\n[detection]\npps_threshold = 50_000\n[capture]\ninterface = \"lo\"",
    );
    let name = text(&file);
    let done = run(&host, &["check", "--config", name]);
    assert_eq!(done.stderr, "");
    assert_eq!(
        done.stdout,
        format!(
            "configuration is fine\n\
             \x20 files       {name}\n\
             \x20 mode        platform at http://127.0.0.1:9, as node {UUID}, contract auto\n\
             \x20 interfaces  lo (in {name}, line 8)\n\
             \x20 packets     50,000 packets/s (in {name}, line 6)\n\
             \x20 bits        learned\n\
             \x20 state       nothing is kept\n"
        )
    );
    assert_eq!(done.code, Some(0));
}

#[test]
fn check_says_what_does_not_fit_this_host() {
    let host = Host::new();
    let state = host.write("state", "a file");
    let file = host.write(
        "agent.toml",
        format!(
            "[capture]\ninterfaces = [\"nope0\", \"lo\"]\n[state]\ndir = \"{}\"",
            state.display()
        ),
    );
    let done = run(&host, &["check", "--config", text(&file)]);
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(
        lines[0].starts_with("ftagent: interface nope0: no such interface; this host has: "),
        "{}",
        done.stderr
    );
    assert_eq!(
        lines[1..],
        [format!(
            "ftagent: state.dir: expected a directory, found something else at {} (in {}, line 4)",
            state.display(),
            file.display()
        )]
    );
    assert_eq!(done.stdout, "");
    assert_eq!(done.code, Some(78));
}

#[test]
fn config_show_prints_every_setting_with_its_origin_and_no_secret() {
    let mut host = Host::new();
    host.set("FTAGENT_DETECTION_BPS_THRESHOLD", "7000");
    host.set("FLOWTRIQ_DEPLOY_TOKEN", KEY);
    let file = host.write(
        "agent.toml",
        credentials() + "[capture]\ninterfaces = [\"eth0\", \"eth1\"]",
    );
    let name = text(&file);
    let done = run(&host, &["config", "show", "--config", name]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(!done.stdout.contains(PART_OF_KEY), "{}", done.stdout);
    let lines: Vec<Vec<&str>> = done
        .stdout
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let names: Vec<&str> = lines.iter().map(|cells| cells[0]).collect();
    let all: Vec<String> = Key::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names, all);
    let cells = |key: Key| {
        &lines[all
            .iter()
            .position(|name| *name == key.to_string())
            .unwrap()][1..]
    };
    assert_eq!(cells(Key::ApiKey), [MASKED, &format!("in {name}, line 2")]);
    assert_eq!(
        cells(Key::Interfaces),
        ["eth0, eth1", &format!("in {name}, line 5")]
    );
    assert_eq!(cells(Key::PpsThreshold), ["learned"]);
    assert_eq!(
        cells(Key::BpsThreshold),
        [
            "7,000",
            "in the environment variable FTAGENT_DETECTION_BPS_THRESHOLD"
        ]
    );
    assert_eq!(cells(Key::FloorPps), ["10,000", "default"]);
    let token = "in the environment variable FLOWTRIQ_DEPLOY_TOKEN";
    assert_eq!(cells(Key::DeployToken), [MASKED, token]);

    let done = run(&host, &["config", "show", "--json", "--config", name]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(!done.stdout.contains(PART_OF_KEY), "{}", done.stdout);
    let json: Json = serde_json::from_str(&done.stdout).expect("it is JSON");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["local"], false);
    assert_eq!(json["files"], serde_json::json!([name]));
    let settings = json["settings"].as_array().expect("it is a list");
    let setting = |key: Key| {
        settings
            .iter()
            .find(|setting| setting["key"] == key.to_string())
            .unwrap()
    };
    assert_eq!(settings.len(), Key::ALL.len());
    assert_eq!(
        setting(Key::ApiKey),
        &serde_json::json!({"key": "api.key", "value": MASKED, "origin": "file", "file": name, "line": 2})
    );
    assert_eq!(
        setting(Key::Interfaces)["value"],
        serde_json::json!(["eth0", "eth1"])
    );
    assert_eq!(
        setting(Key::BpsThreshold),
        &serde_json::json!({
            "key": "detection.bps_threshold",
            "value": 7_000,
            "origin": "variable",
            "name": "FTAGENT_DETECTION_BPS_THRESHOLD",
        })
    );
    assert_eq!(
        setting(Key::PpsThreshold),
        &serde_json::json!({"key": "detection.pps_threshold", "value": null, "origin": "unset"})
    );
}

/// A platform on this host and an agent's file that leads to it.
fn with_platform(config: NodeConfig) -> (Platform, Host, PathBuf) {
    let platform = Platform::start(PlatformSettings {
        key: KEY.to_owned(),
        node_uuid: UUID.to_owned(),
        config,
        ..PlatformSettings::default()
    });
    let platform = platform.expect("a platform can be started");
    let host = Host::new();
    let file = credentials()
        + &format!(
            "base = \"{}\"\n[capture]\ninterface = \"lo\"",
            platform.base()
        );
    let file = host.write("agent.toml", file);
    (platform, host, file)
}

/// The last line, with the platform's address left out.
fn verdict(platform: &Platform, said: &str) -> String {
    let last = said.lines().last().unwrap_or_default();
    last.replace(platform.base(), "BASE")
}

#[test]
fn check_online_asks_whether_the_platform_is_there_and_accepts_this_node() {
    let (platform, host, file) = with_platform(NodeConfig::threshold(50_000));
    let ask = || run(&host, &["check", "--online", "--config", text(&file)]);
    let done = ask();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout.starts_with("configuration is fine\n"));
    assert_eq!(
        verdict(&platform, &done.stdout),
        "  platform    accepts this node and sets a limit of 50,000 packets/s"
    );
    let asked: Vec<Endpoint> = platform
        .recorded()
        .iter()
        .map(|received| received.endpoint)
        .collect();
    assert_eq!(
        asked,
        [Endpoint::Health, Endpoint::Config],
        "and nothing is sent"
    );

    platform.set_config_json(serde_json::json!({"suspended": true}));
    assert_eq!(
        verdict(&platform, &ask().stdout),
        "  platform    accepts this node and sets no packet limit; the subscription is suspended, so it will take \
         nothing"
    );

    platform.set_fault(Endpoint::Config, Fault::status(401));
    let done = ask();
    assert!(
        done.stdout.starts_with("configuration is fine\n"),
        "which it is"
    );
    let told = verdict(&platform, &done.stderr);
    assert!(
        told.starts_with(
            "ftagent: platform: the platform does not accept this node's credentials (HTTP 401"
        ),
        "{told}"
    );
    assert_eq!(done.code, Some(78));
    assert!(!format!("{done:?}").contains(PART_OF_KEY), "{done:?}");

    platform.set_fault(Endpoint::Config, Fault::status(404));
    let done = ask();
    assert!(
        done.stderr.contains("check api.base and api.contract"),
        "{}",
        done.stderr
    );
    assert_eq!(done.code, Some(78));

    platform.set_fault(Endpoint::Config, Fault::status(503));
    let done = ask();
    assert!(
        done.stderr
            .contains("Flowtriq returned a server error (HTTP 503"),
        "{}",
        done.stderr
    );
    assert_eq!(done.code, Some(1), "that is no matter of configuration");

    platform.set_fault(Endpoint::Health, Fault::status(500));
    assert_eq!(ask().code, Some(1));
    platform.stop();
    let done = ask();
    assert!(
        done.stderr.starts_with("ftagent: platform: "),
        "{}",
        done.stderr
    );
    assert_eq!((done.stderr.lines().count(), done.code), (1, Some(1)));
}

#[test]
fn check_online_hears_a_refusal_whatever_its_body_is() {
    let (platform, host, file) = with_platform(NodeConfig::threshold(50_000));
    for (status, code, words) in [
        (401, 78, "does not accept this node's credentials"),
        (403, 78, "does not accept this node's credentials"),
        (404, 78, "check api.base and api.contract"),
        (402, 1, "check billing"),
        (503, 1, "server error"),
    ] {
        let refusal = |body| Fault::status(status).with(body);
        for fault in [
            refusal(FaultBody::Huge),
            refusal(FaultBody::Nested),
            refusal(FaultBody::Html),
            refusal(FaultBody::Html).with_reset(),
            refusal(FaultBody::Html).with_slow_body(1),
        ] {
            platform.set_fault(Endpoint::Config, fault.clone());
            let done = run(&host, &["check", "--online", "--config", text(&file)]);
            assert_eq!(done.code, Some(code), "{fault:?}: {}", done.stderr);
            for words in [words, &format!("HTTP {status}")] {
                assert!(done.stderr.contains(words), "{fault:?}: {}", done.stderr);
            }
        }
    }
}

#[test]
fn check_online_without_credentials_asks_whether_the_platform_is_there() {
    let (platform, mut host, _) = with_platform(NodeConfig::default());
    host.set("FTAGENT_API_BASE", platform.base());
    let done = run(&host, &["check", "--online"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        verdict(&platform, &done.stdout),
        "  platform    is there; without credentials, that is all it was asked"
    );
    let asked: Vec<Endpoint> = platform
        .recorded()
        .iter()
        .map(|received| received.endpoint)
        .collect();
    assert_eq!(asked, [Endpoint::Health]);
}

#[test]
fn what_the_platform_last_set_is_shown_unless_the_operator_set_it() {
    let host = Host::new();
    let state = host.path("state");
    let (ledger, _) = ledger::Ledger::open(ledger::Settings {
        dir: Some(state.clone()),
        ..ledger::Settings::default()
    })
    .expect("a ledger can be made");
    let values = PlatformValues {
        pps_threshold: Some(70_000),
        ..PlatformValues::default()
    };
    let values = serde_json::to_string(&values).expect("it can be written");
    ledger.remember(ledger::PLATFORM, values);
    ledger.close(PATIENCE);

    let pps = |file: &Path| {
        let done = run(&host, &["config", "show", "--config", text(file)]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        let line = done
            .stdout
            .lines()
            .find(|line| line.starts_with("detection.pps_threshold"));
        let words: Vec<&str> = line
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .collect();
        words.join(" ")
    };
    let kept = format!("[state]\ndir = \"{}\"\n", state.display());
    let file = host.write("agent.toml", credentials() + &kept);
    assert_eq!(pps(&file), "70,000 from the platform");
    let file = host.write("local.toml", &kept);
    assert_eq!(pps(&file), "learned", "without credentials it has no say");
    let file = host.write(
        "own.toml",
        credentials() + &kept + "[detection]\npps_threshold = 5",
    );
    assert_eq!(pps(&file), format!("5 in {}, line 7", file.display()));
}

#[test]
fn options_of_run_win_over_the_file_and_its_messages_name_them() {
    let host = Host::new();
    let file = host.write("agent.toml", "[capture]\ninterface = \"nope0\"");
    let done = run(&host, &["run", "--local", "--config", text(&file)]);
    assert!(
        done.stderr.contains("interface nope0: no such interface"),
        "{}",
        done.stderr
    );
    assert_eq!(done.code, Some(1));
    let done = run(
        &host,
        &[
            "run",
            "--local",
            "--config",
            text(&file),
            "--interface",
            "nope1",
        ],
    );
    assert!(
        done.stderr.contains("interface nope1: no such interface"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_file_that_this_user_may_not_read_is_a_matter_of_rights() {
    if !rustix::process::geteuid().is_root() {
        skip("being another user takes root");
        return;
    }
    let host = Host::new();
    let file = host.write("agent.toml", "");
    let program = host.path("ftagent");
    fs::copy(PROGRAM, &program).expect("the program can be copied");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .args(["check", "--config"])
        .arg(&file)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let done = finish(&mut command, PATIENCE);
    assert_eq!(
        done.stderr,
        format!(
            "ftagent: {}: cannot be read: Permission denied (os error 13); run it as root or as a member of the group \
             that may\n",
            file.display()
        )
    );
    assert_eq!(done.code, Some(77));
}
