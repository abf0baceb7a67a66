//! The agent as a process: what it needs to start, what ends it, what it keeps from one start to the next.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::common::agent::{Agent, PROGRAM};
use crate::common::netns::{HOST_LINK, Lab, Offload};
use crate::common::process::{Running, Scratch, finish};

#[test]
fn without_the_right_to_capture_it_says_which_is_missing() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    // The build directory may be closed to other users; a copy beside the lab is not.
    let program = lab.scratch.path().join("ftagent");
    std::fs::copy(PROGRAM, &program).expect("the binary can be copied");
    let mut command = lab.host_unprivileged(&program);
    command.args([
        "run",
        "--local",
        "--interface",
        HOST_LINK,
        "--threshold-pps",
        "1000",
        "--events",
        "-",
    ]);
    let done = finish(&mut command, Duration::from_secs(10));
    assert_eq!(done.code, Some(77), "{done:?}");
    assert!(done.stderr.contains("CAP_NET_RAW"), "{done:?}");
    assert!(!done.stderr.contains("panicked"), "{done:?}");
    assert_eq!(done.stdout, "", "nothing was seen, so nothing is told");
}

#[test]
fn an_interface_that_goes_away_ends_the_agent_with_a_clear_line() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let agent = Agent::start(&lab, &["--threshold-pps", "1000"]);
    lab.remove_link();
    assert_link_lost(agent);
}

#[test]
fn an_interface_that_goes_down_is_waited_for_until_it_goes_away() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = Agent::start(&lab, &["--threshold-pps", "1000"]);
    lab.take_down();
    let ended = agent.ends_within(Duration::from_secs(1));
    assert!(ended.is_none(), "it may come up again: {}", agent.log());
    lab.remove_link();
    assert_link_lost(agent);
}

fn assert_link_lost(mut agent: Agent) {
    let status = agent
        .ends_within(Duration::from_secs(10))
        .unwrap_or_else(|| panic!("still running: {}", agent.log()));
    let log = agent.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("interface {HOST_LINK}")), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(lab) = Lab::new(Offload::Off, &[]) else {
        return;
    };
    let mark = format!("ftagent-{}-", std::process::id());
    let own = format!("{:?}", lab.host("true"));
    let namespace = own
        .split('"')
        .find(|word| word.starts_with(&mark))
        .expect("a command names its namespace")
        .to_owned();
    let scratch = lab.scratch.path().to_owned();
    let sleeper = Running::quietly(lab.host("sleep").arg("60"));
    let process = format!("/proc/{}", sleeper.child.id());
    assert!(std::path::Path::new("/run/netns").join(&namespace).exists());
    drop(lab);
    assert!(!std::path::Path::new("/run/netns").join(&namespace).exists());
    assert!(!scratch.exists());
    drop(sleeper);
    assert!(!std::path::Path::new(&process).exists());
}

#[test]
fn a_restart_goes_on_with_what_was_learned() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let state = Scratch::new();
    let stored = state.path().join("baseline.json");
    let run = |length: Duration| {
        let agent = Agent::start_in(&lab, &[HOST_LINK], state.path(), &["--seconds"]);
        std::thread::sleep(length);
        let log = agent.log();
        agent.stop();
        log
    };

    let log = run(Duration::from_secs(5));
    assert!(!complains(&log), "{log}");
    let mode = std::fs::metadata(&stored)
        .expect("it was stored")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let learned = observed(&stored);
    assert!(
        (3..=7).contains(&learned),
        "{learned} seconds learned in five"
    );

    let log = run(Duration::from_secs(3));
    assert!(!complains(&log), "{log}");
    let more = observed(&stored);
    assert!(more > learned, "{learned} seconds, then {more}");

    std::fs::write(&stored, "half of a ").expect("it can be damaged");
    let log = run(Duration::from_secs(3));
    let kept = state.path().join("baseline.json.unusable");
    let said = format!("warning: {}: it is damaged", stored.display());
    assert!(log.contains(&said), "{log}");
    assert!(
        log.contains(&format!("kept as {}", kept.display())),
        "{log}"
    );
    let kept = std::fs::read_to_string(kept).expect("the damaged file is kept");
    assert_eq!(kept, "half of a ");
    assert!(observed(&stored) < more, "learning began again");
}

/// Whether something in the log asks for attention.
fn complains(log: &str) -> bool {
    ["warning:", "error:", "panicked"]
        .iter()
        .any(|word| log.contains(word))
}

/// How many seconds a stored baseline has seen.
fn observed(stored: &Path) -> u64 {
    let text = std::fs::read_to_string(stored).expect("a stored baseline can be read");
    let state: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let seconds = state
        .pointer("/clock/observed")
        .and_then(serde_json::Value::as_u64);
    seconds.unwrap_or_else(|| panic!("no seconds: {text}"))
}
