//! The agent as a process: what it needs to start, what it tells the service manager, what ends it, what it keeps from one
//! start to the next.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ftagent::clock;
use rustix::process::Signal;

use ftagent::ledger::{Ledger, Settings};

use crate::common::agent::{Agent, PROGRAM};
use crate::common::generate::{self, Frames};
use crate::common::netns::{HOST_LINK, Lab, Offload};
use crate::common::process::{Running, Scratch, finish};
use crate::common::tell;
use crate::story::{PACKETS, PAUSE_MICROS};

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
fn an_interface_that_is_not_there_at_the_start_is_an_error_with_those_that_are() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut command = lab.host(PROGRAM);
    command.args(["run", "--local", "--interface", "eth7"]);
    let done = finish(&mut command, Duration::from_secs(10));
    assert_eq!(done.code, Some(1), "{done:?}");
    let expected = format!("no such interface; this host has: {HOST_LINK}, lo");
    assert!(done.stderr.contains(&expected), "{done:?}");
}

/// What the service manager hears.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(lab: &Lab) -> Self {
        let path = lab.scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        Self { socket, path }
    }

    /// The messages of the next `span`.
    fn hears_for(&self, span: Duration) -> Vec<String> {
        let end = clock::monotonic() + span;
        let mut heard = Vec::new();
        loop {
            let left = end.saturating_duration_since(clock::monotonic());
            if left.is_zero() {
                return heard;
            }
            heard.extend(self.hears_within(left));
        }
    }

    fn hears_within(&self, limit: Duration) -> Option<String> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        self.socket
            .set_read_timeout(limit)
            .expect("a time-out can be set");
        let mut message = [0; 1024];
        let length = self.socket.recv(&mut message).ok()?;
        let message = message.get(..length).unwrap_or_default();
        Some(String::from_utf8_lossy(message).into_owned())
    }

    /// Waits for a message that begins so; what comes before it is given too.
    fn waits_for(&self, beginning: &str, limit: Duration) -> Vec<String> {
        let end = clock::monotonic() + limit;
        let mut heard = Vec::new();
        while let left = end.saturating_duration_since(clock::monotonic())
            && !left.is_zero()
        {
            if let Some(message) = self.hears_within(left) {
                let found = message.starts_with(beginning);
                heard.push(message);
                if found {
                    return heard;
                }
            }
        }
        panic!("never heard {beginning:?}, but {heard:?}");
    }
}

fn count(heard: &[String], beginning: &str) -> usize {
    let begins = |message: &&String| message.starts_with(beginning);
    heard.iter().filter(begins).count()
}

#[test]
fn the_service_manager_hears_when_it_is_ready_how_it_is_and_that_it_lives() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let manager = Manager::listen(&lab);
    let second = Duration::from_secs(1);
    let begun = clock::monotonic();
    let agent = Agent::start_service(
        &lab,
        &manager.path,
        Duration::from_millis(800),
        &["--threshold-pps", "50000"],
    );
    manager.waits_for("READY=1\n", second * 5);
    tell!("ready after {:?}", begun.elapsed());
    let heard = manager.hears_for(second * 6);
    let watchdogs = count(&heard, "WATCHDOG=1\n");
    // Each 400 ms: 15 in six seconds, and a busy machine may be late for some.
    assert!((8..=16).contains(&watchdogs), "{watchdogs}: {heard:?}");
    let status = "STATUS=watching host0; no attack; ";
    let told = count(&heard, status);
    assert!((1..=6).contains(&told), "{heard:?}");
    assert!(
        heard
            .iter()
            .any(|message| message.ends_with("packets/s, limit 50,000\n")),
        "{heard:?}"
    );

    // It tells at once when something changes.
    lab.take_down();
    manager.waits_for("STATUS=degraded: NOT watching host0; no attack", second * 2);
    lab.bring_up();
    manager.waits_for("STATUS=watching host0; no attack", second * 3);

    // Nobody speaks for a process that stands still.
    agent.signal(Signal::STOP);
    manager.hears_for(Duration::from_millis(200));
    assert_eq!(manager.hears_for(second), [""; 0]);
    agent.signal(Signal::CONT);
    manager.waits_for("WATCHDOG=1\n", second * 2);

    agent.signal(Signal::HUP);
    manager.waits_for("RELOADING=1\nMONOTONIC_USEC=", second * 2);
    manager.waits_for("READY=1\n", second * 2);
    assert!(
        agent.says("configuration read again: nothing has changed", second),
        "{}",
        agent.log()
    );

    let begun = clock::monotonic();
    agent.stop();
    tell!("SIGTERM to exit: {:?}", begun.elapsed());
    manager.waits_for("STOPPING=1\n", second);
}

#[test]
fn a_second_signal_to_end_is_obeyed_at_once() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = Agent::start(&lab, &["--threshold-pps", "1000"]);
    let begun = clock::monotonic();
    agent.signal(Signal::TERM);
    // One after the other, and long before the first has ended it: that takes a window at least.
    std::thread::sleep(Duration::from_millis(5));
    agent.signal(Signal::INT);
    let status = agent.ends_within(Duration::from_secs(2));
    tell!("two signals to exit: {:?}", begun.elapsed());
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(1),
        "{}",
        agent.log()
    );
    assert!(!agent.log().contains("stopped"), "it was not drained");
}

#[test]
fn it_ends_in_time_under_a_flood_and_tells_the_last_word() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = Agent::start(&lab, &["--threshold-pps", "1000"]);
    let generator = generate::trafgen(&lab, &Frames::udp(&lab), PACKETS, PAUSE_MICROS);
    let opened = agent.wait_for(Duration::from_secs(5), crate::common::event::Event::opens);
    assert!(opened.is_some(), "{}", agent.told());
    agent.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    let begun = clock::monotonic();
    let seen = agent.stop();
    tell!("SIGTERM to exit in a flood: {:?}", begun.elapsed());
    // It is not over: the next start goes on with it.
    let last = seen.last().map(|seen| &seen.event);
    assert!(
        matches!(last, Some(crate::common::event::Event::Updated(_))),
        "{}",
        crate::common::event::told(&seen)
    );
    drop(generator);
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
    let stored = state.path().join("ftagent.db");
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
    let learned = observed(state.path());
    assert!(
        (3..=7).contains(&learned),
        "{learned} seconds learned in five"
    );

    let log = run(Duration::from_secs(3));
    assert!(!complains(&log), "{log}");
    let more = observed(state.path());
    assert!(more > learned, "{learned} seconds, then {more}");

    std::fs::write(&stored, "half of a ").expect("it can be damaged");
    let log = run(Duration::from_secs(3));
    let kept = state.path().join("ftagent.db.unusable");
    assert!(
        log.contains(&format!("warning: {}: ", stored.display())),
        "{log}"
    );
    assert!(
        log.contains(&format!("kept as {}", kept.display())),
        "{log}"
    );
    let kept = std::fs::read_to_string(kept).expect("the damaged file is kept");
    assert_eq!(kept, "half of a ");
    assert!(observed(state.path()) < more, "learning began again");
}

/// Whether something in the log asks for attention.
fn complains(log: &str) -> bool {
    ["warning:", "error:", "panicked"]
        .iter()
        .any(|word| log.contains(word))
}

/// How many seconds the baseline that is stored in this directory has seen.
fn observed(state: &Path) -> u64 {
    let settings = Settings {
        dir: Some(state.to_path_buf()),
        ..Settings::default()
    };
    let (ledger, found) = Ledger::open(settings).expect("the agent has let go of it");
    ledger.close(Duration::from_secs(5));
    let baseline = serde_json::to_value(found.baseline).expect("it is JSON");
    let seconds = baseline
        .pointer("/clock/observed")
        .and_then(serde_json::Value::as_u64);
    seconds.unwrap_or_else(|| panic!("no seconds: {baseline}"))
}
