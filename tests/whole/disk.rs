//! The agent on a disk that fills up, and on one that cannot be written: detection goes on, the operator is told, and what
//! happened meanwhile is on the disk once it can be written again.
//!
//! The disk is a tmpfs in a mount namespace that the test makes, and goes with the last process in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ftagent::demo::platform::{Call, Endpoint, Serves};
use rustix::process::Signal;
use serde_json::Value;

use crate::common::agent::PROGRAM;
use crate::common::event::Event;
use crate::common::netns::{Lab, Offload};
use crate::common::process::{Running, Scratch, succeed, until};
use crate::node::{Node, QUICK, rows, stored};

/// Mounting and what else takes a system call.
const SETUP: Duration = Duration::from_secs(10);

/// The disk is tried again every 30 s.
const RETRIED: Duration = Duration::from_secs(45);

/// What an agent needs here to notice something, on a machine that tests share.
const NOTICED: Duration = Duration::from_secs(20);

/// A small disk that only processes see that are started on it.
struct Disk {
    holder: Running,
    scratch: Scratch,
}

impl Disk {
    /// A disk of 4 MiB: a database of an hour fits.
    fn new(lab: &Lab) -> Self {
        let scratch = Scratch::new();
        let mut command = lab.host("unshare");
        let script = "mount -t tmpfs -o size=4m none \"$0\" && exec sleep 300";
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(scratch.path());
        let disk = Self {
            holder: Running::quietly(&mut command),
            scratch,
        };
        let is_mounted = || {
            let mut test = disk.on("mountpoint");
            let test = test.arg("-q").arg(disk.scratch.path());
            test.stderr(Stdio::null())
                .status()
                .is_ok_and(|is| is.success())
        };
        assert!(until(SETUP, is_mounted), "there is no tmpfs");
        disk
    }

    /// A command that sees the disk, and is killed when the test goes.
    fn on(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.child.id().to_string();
        command.args(["--target", &pid, "--mount", "--net", "--"]);
        command.args(["setpriv", "--pdeathsig", "KILL", "--", program]);
        command
    }

    fn shell(&self, script: &str) {
        let mut command = self.on("sh");
        succeed(command.args(["-c", script]).arg(self.scratch.path()), SETUP);
    }

    /// The state directory on it.
    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// Where this process finds it.
    fn state_from_here(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.child.id()));
        let state = self.state();
        root.join(state.strip_prefix("/").expect("a path from the root"))
    }
}

/// A node and a disk; none where there can be no lab.
fn node() -> Option<(Node, Disk)> {
    let tools = ["trafgen", "unshare", "nsenter", "mount", "mountpoint"];
    let lab = Lab::new(Offload::Off, &tools)?;
    let node = Node::in_lab(lab, Serves::Resource, "resource", QUICK);
    let disk = Disk::new(&node.lab);
    Some((node, disk))
}

/// Status as whoever works on the host sees it.
fn status(node: &Node, disk: &Disk) -> Value {
    node.status_as(disk.on(PROGRAM), &disk.state())
}

fn situation(status: &Value) -> Option<&str> {
    status.get("situation").and_then(Value::as_str)
}

/// What of the incidents waits, and what the database knows of them: names, and whether they are open.
fn on_disk(state: &Path) -> (Vec<String>, Vec<(String, bool)>) {
    let db = stored(state);
    let waiting = rows(&db, "SELECT kind FROM step", |row| row.get(0));
    let sql = "SELECT name, is_open FROM incident ORDER BY id";
    let incidents = rows(&db, sql, |row| Ok((row.get(0)?, row.get(1)?)));
    (waiting, incidents)
}

/// What the platform heard of incidents, in order.
fn heard(node: &Node) -> Vec<Endpoint> {
    let steps = node.steps().into_iter().map(|each| each.endpoint);
    steps
        .filter(|endpoint| *endpoint != Endpoint::Update)
        .collect()
}

fn wait_for_end(node: &Node) {
    node.wait("resolve", |received| {
        let resolves = |call: &Call| matches!(call, Call::Resolve { .. });
        received
            .iter()
            .any(|each| each.taken && resolves(&each.call))
    });
}

/// The disk says why, and status does.
fn assert_told(node: &Node, disk: &Disk, why: &str) {
    let told = status(node, disk);
    let reason = told.pointer("/reasons/0").and_then(Value::as_str);
    assert_eq!(situation(&told), Some("degraded"), "{told}");
    assert!(reason.is_some_and(|reason| reason.contains(why)), "{told}");
}

fn assert_all_clear(node: &Node, disk: &Disk) {
    let is_clear = || situation(&status(node, disk)) == Some("all_clear");
    assert!(until(NOTICED, is_clear), "{}", status(node, disk));
}

#[test]
fn an_agent_whose_disk_is_full_goes_on_says_so_and_writes_again_when_there_is_room() {
    let Some((node, disk)) = node() else { return };
    let mut agent = node.start_as(disk.on(PROGRAM), &disk.state(), &[]);
    node.wait_for_limit();
    assert_all_clear(&node, &disk);
    disk.shell("cat /dev/zero > \"$0/filler\" 2>/dev/null; true");
    let full =
        "the disk is full; make room on it; until then incidents and seconds are kept in memory";
    assert!(agent.says(full, NOTICED), "{}", agent.log());
    assert_told(&node, &disk, "the disk is full; make room on it");

    let mut flood = node.flood(10_000);
    let opened = agent.wait_for(NOTICED, Event::opens);
    let opened = opened.unwrap_or_else(|| panic!("no incident\n{}", agent.told()));
    let id = opened.event.incident().expect("it tells of one").id.clone();
    flood.wait(NOTICED);
    let resolved = agent.wait_for(NOTICED, Event::resolves);
    assert!(resolved.is_some(), "{}", agent.told());
    wait_for_end(&node);
    assert_eq!(heard(&node), [Endpoint::Open, Endpoint::Resolve]);
    assert_eq!(on_disk(&disk.state_from_here()).1, [], "nothing is written");

    disk.shell("rm \"$0/filler\"");
    assert!(
        agent.says("written again after", RETRIED),
        "{}",
        agent.log()
    );
    assert_all_clear(&node, &disk);
    agent.stop();
    let (waiting, incidents) = on_disk(&disk.state_from_here());
    assert_eq!(waiting, [""; 0]);
    assert_eq!(
        incidents,
        [(id.as_str().expect("a name").to_owned(), false)]
    );
    assert_eq!(heard(&node), [Endpoint::Open, Endpoint::Resolve]);
    node.assert_all_right();
}

#[test]
fn an_agent_whose_disk_is_read_only_goes_on_with_what_is_on_it_and_writes_again_when_it_can() {
    let Some((node, disk)) = node() else { return };
    let mut agent = node.start_as(disk.on(PROGRAM), &disk.state(), &[]);
    node.wait_for_limit();
    let mut flood = node.flood(80_000);
    let opened = agent.wait_for(NOTICED, Event::opens);
    let opened = opened.unwrap_or_else(|| panic!("no incident\n{}", agent.told()));
    let id = opened.event.incident().expect("it tells of one").id.clone();
    let is_acknowledged = || {
        let (waiting, incidents) = on_disk(&disk.state_from_here());
        incidents.len() == 1 && !waiting.contains(&"open".to_owned())
    };
    assert!(until(NOTICED, is_acknowledged), "{}", node.heard());
    agent.signal(Signal::KILL);
    assert!(agent.ends_within(NOTICED).is_some());
    disk.shell("mount -o remount,ro \"$0\"");

    let mut agent = node.start_as(disk.on(PROGRAM), &disk.state(), &[]);
    let read_only = "the file system is read-only; make it writable again";
    assert!(agent.says(read_only, NOTICED), "{}", agent.log());
    assert_told(&node, &disk, read_only);
    let goes_on = |event: &Event| event.incident().is_some_and(|it| it.interruptions == 1);
    let resumed = agent.wait_for(NOTICED, goes_on);
    assert!(resumed.is_some(), "{}", agent.told());
    flood.stop(Signal::TERM, NOTICED);
    let resolved = agent.wait_for(NOTICED, Event::resolves);
    let resolved = resolved.unwrap_or_else(|| panic!("no end\n{}", agent.told()));
    let resolved = resolved.event.incident().expect("it tells of one").clone();
    assert_eq!((&resolved.id, resolved.ended_unseen), (&id, false));
    wait_for_end(&node);

    disk.shell("mount -o remount,rw \"$0\"");
    assert!(
        agent.says("written again after", RETRIED),
        "{}",
        agent.log()
    );
    assert_all_clear(&node, &disk);
    agent.stop();
    let (waiting, incidents) = on_disk(&disk.state_from_here());
    assert_eq!(waiting, [""; 0]);
    assert_eq!(
        incidents,
        [(id.as_str().expect("a name").to_owned(), false)]
    );
    assert_eq!(heard(&node), [Endpoint::Open, Endpoint::Resolve]);
    node.assert_all_right();
}
