//! What the operator does and sees: a configuration read again, a key that is nowhere, an end in time.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use ftagent::clock;
use ftagent::demo::platform::{Endpoint, Fault, FaultBody, Serves};
use rustix::process::Signal;

use crate::common::agent::PROGRAM;
use crate::common::event::Event;
use crate::common::netns::HOST_LINK;
use crate::common::process::{Running, finish, until};
use crate::common::tell;
use crate::node::{KEY, Node};

#[test]
fn a_configuration_is_taken_over_as_a_whole_or_not_at_all() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    let good = std::fs::read_to_string(&node.config).expect("the configuration");

    std::fs::write(
        &node.config,
        format!("{good}[detection]\npps_treshold = 7\n"),
    )
    .expect("a mistake");
    agent.signal(Signal::HUP);
    let said = until(Duration::from_secs(3), || {
        agent.log().contains("pps_treshold: no such setting")
    });
    assert!(said, "{}", agent.log());
    assert!(
        agent.log().contains("the old one stays in force"),
        "{}",
        agent.log()
    );

    let set = format!("{good}[detection]\npps_threshold = 500000\n");
    std::fs::write(&node.config, set).expect("a higher limit");
    agent.signal(Signal::HUP);
    let said = until(Duration::from_secs(3), || {
        agent.log().contains("detection.pps_threshold: now 500")
    });
    assert!(said, "{}", agent.log());
    node.flood(10_000).wait(Duration::from_secs(20));
    let opened = agent.wait_for(Duration::from_millis(500), Event::opens);
    assert!(
        opened.is_none(),
        "a local limit wins over the platform's\n{}",
        agent.told()
    );
    agent.stop();
    node.assert_all_right();
}

#[test]
fn the_key_is_in_no_output_and_in_no_file_in_the_seed_contract() {
    the_key_is_nowhere(Serves::Seed, "seed");
}

#[test]
fn the_key_is_in_no_output_and_in_no_file_in_the_resource_contract() {
    the_key_is_nowhere(Serves::Resource, "resource");
}

/// Runs the agent at debug level against a platform that repeats the key wherever it can, and looks for parts of it in all
/// that the agent and the other commands ever wrote.
fn the_key_is_nowhere(serves: Serves, contract: &str) {
    let Some(node) = Node::new(serves, contract) else {
        return;
    };
    let quoting = |before: usize| {
        let before = "x".repeat(before);
        FaultBody::Text(format!("{{\"error\": \"{before} no such key: {KEY}\"}}"))
    };
    node.platform.set_config_json(serde_json::json!({
        "pps_threshold": 1_000,
        "ioc_patterns": [{"id": 1, "name": format!("pattern {KEY}"), "protocol": "tcp"}],
        "pending_commands": [
            {"id": 7, "command": format!("curl -H 'Authorization: Bearer {KEY}' https://platform.example")},
            {"id": 8, "kind": KEY},
        ],
    }));
    let (out, log) = (
        node.lab.scratch.path().join("out"),
        node.lab.scratch.path().join("log"),
    );
    let file = |path: &Path| File::create(path).expect("a scratch file");
    let mut agent = Running::start(
        node.lab
            .host(PROGRAM)
            .args([
                "run",
                "--events",
                "-",
                "--seconds",
                "--interface",
                HOST_LINK,
            ])
            .arg("--state-dir")
            .arg(node.state.path())
            .arg("--config")
            .arg(&node.config)
            // Nobody listens to this. If somebody did, what libraries log would be in the log.
            .env("RUST_LOG", "trace")
            .stdout(file(&out))
            .stderr(file(&log)),
    );
    let has_said = |path: &Path, words: &str| {
        let said = until(Duration::from_secs(30), || read(path).contains(words));
        assert!(said, "no {words:?} in:\n{}{}", read(&out), read(&log));
    };
    has_said(&log, "watching");
    node.wait_for_limit();

    let to = format!("http://192.0.2.1/{}?key={KEY}", "x".repeat(160));
    for (fault, words) in [
        (Fault::status(400).with(quoting(0)), "HTTP 400"),
        // What is said is cut at 200 characters: in the middle of this key.
        (Fault::status(400).with(quoting(175)), "HTTP 400"),
        (Fault::status(409).with(quoting(0)), "HTTP 409"),
        (Fault::status(429).with(quoting(0)), "HTTP 429"),
        (Fault::status(500).with(quoting(0)), "HTTP 500"),
        (Fault::redirect(to), "redirects to"),
        (Fault::reset(), "broke"),
    ] {
        // The journal may leave out what was said a short while ago; what the state directory keeps is of now.
        node.platform.set_fault(Endpoint::Metrics, fault);
        let said = until(Duration::from_secs(30), || {
            let status = command(&node, &["status", "--json"]);
            status.contains(words)
        });
        assert!(said, "{words}: {}", read(&log));
    }
    for endpoint in [Endpoint::Incident, Endpoint::Open] {
        let refusal = Fault::status(400).with(quoting(0));
        node.platform.set_fault(endpoint, refusal.times(1));
    }
    node.flood(10_000).wait(Duration::from_secs(20));
    has_said(&out, "incident_opened");
    node.wait("refused incident", |received| {
        received.iter().any(|each| {
            matches!(each.endpoint, Endpoint::Incident | Endpoint::Open) && each.status == 400
        })
    });
    let refused = until(Duration::from_secs(10), || {
        !command(&node, &["status", "--json"]).contains("\"refused_reports\":0")
    });
    assert!(refused, "a dead letter is stored");
    if serves == Serves::Seed {
        // Said at debug level alone. The resource contract has no name for an incident whose opening was refused.
        has_said(&log, "the platform has it");
    }
    // Last, because nothing more is sent then.
    let unknown = Fault::status(401).with(quoting(0));
    node.platform.set_fault_everywhere(unknown);
    has_said(&log, "HTTP 401");
    let mut told = Vec::new();
    let mut ask_all = |when: &str| {
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["check"],
            &["check", "--online"],
            &["config", "show"],
            &["config", "show", "--json"],
        ] {
            let said = command(&node, arguments);
            assert!(!said.is_empty(), "{arguments:?}");
            told.push((format!("{arguments:?} {when}"), said.into_bytes()));
        }
    };
    ask_all("while it runs");
    let status = agent.stop(Signal::TERM, Duration::from_secs(3));
    assert_eq!(status.code(), Some(0), "{}", read(&log));
    ask_all("after its end");

    let log = read(&log);
    for line in log.lines() {
        assert!(line.starts_with("ftagent: "), "not one of ours: {line}");
    }
    told.push(("events".to_owned(), read(&out).into_bytes()));
    told.push(("log".to_owned(), log.into_bytes()));
    told.extend(files_in(node.state.path()));
    for (place, content) in &told {
        // The first eight characters are those of every key of the platform's.
        for part in KEY.as_bytes().windows(8).skip(1) {
            assert!(
                !content.windows(part.len()).any(|found| found == part),
                "{place} holds {:?}:\n{}",
                String::from_utf8_lossy(part),
                String::from_utf8_lossy(content)
            );
        }
    }
    // The key was repeated and kept in each of these, so there was something to leave out.
    for place in [
        "log",
        "[\"status\", \"--json\"] after its end",
        "ftagent.db",
    ] {
        let holds = told.iter().any(|(name, content)| {
            name.ends_with(place) && content.windows(8).any(|found| found == b"(secret)")
        });
        assert!(holds, "{place}");
    }
}

/// What a command says on the agent's host, on both outputs.
fn command(node: &Node, arguments: &[&str]) -> String {
    let mut command = node.lab.host(PROGRAM);
    command.args(arguments).arg("--config").arg(&node.config);
    if arguments.first() == Some(&"status") {
        command.arg("--state-dir").arg(node.state.path());
    }
    let done = finish(&mut command, Duration::from_secs(20));
    done.stdout + &done.stderr
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("what a program wrote is text")
}

#[test]
fn an_end_comes_in_time_whatever_the_platform_does() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let agent = node.start(&[]);
    node.wait_for_limit();
    node.platform.set_fault_everywhere(Fault::silent());
    std::thread::sleep(Duration::from_secs(2));
    let begun = clock::monotonic();
    // Panics when it takes longer than the product's 3 s.
    agent.stop();
    tell!("ended after {} ms", begun.elapsed().as_millis());
    for path in std::fs::read_dir(node.state.path()).expect("a state directory") {
        let metadata = path.and_then(|entry| entry.metadata()).expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o077, 0);
    }
}

#[test]
fn a_refused_key_is_said_once_and_detection_goes_on() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--threshold-pps", "1000"]);
    node.wait_for_limit();
    node.platform.set_fault_everywhere(Fault::status(401));
    let said = until(Duration::from_secs(20), || agent.log().contains("API key"));
    assert!(said, "{}", agent.log());
    node.flood(10_000).wait(Duration::from_secs(20));
    let opened = agent.wait_for(Duration::from_secs(2), Event::opens);
    assert!(opened.is_some(), "{}", agent.told());
    let lines = agent.log();
    let lines = lines
        .lines()
        .filter(|line| line.contains("API key"))
        .count();
    assert!(lines <= 2, "said once, not each time: {}", agent.log());
    let before = node.platform.recorded().len();
    std::thread::sleep(Duration::from_secs(5));
    let asked = node.platform.recorded();
    let asked = asked
        .iter()
        .skip(before)
        .filter(|each| each.endpoint != Endpoint::Health);
    assert!(asked.count() <= 2, "a refused key is not tried each second");
    agent.stop();
}

/// Every file in a folder and in those within it.
fn files_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a state directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            let content = std::fs::read(&path).expect("a file of ours");
            files.push((path.display().to_string(), content));
        }
    }
    files
}
