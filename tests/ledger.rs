//! The ledger through its door: against a model of its outbox, and on disks that are full, read-only, failing or late.
//!
//! The disks are real ones, made by the test in a mount namespace of its own, which needs root; where they cannot be
//! had, the test says what was skipped. In continuous integration (`CI` is set) they have to be there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of a test fail as loudly as the test, and say what was skipped"
)]

mod common;

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::kept::{block_on, report, sample};
use common::needs::skip;
use common::process::{Scratch, finish, succeed, until};
use common::tell;
use ftagent::clock;
use ftagent::ledger::{
    Ledger, Outgoing, PlatformIds, Settings, Settled, Step, Storage, Waiting, view,
};
use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

/// Long beside everything the ledger does, short beside a person's patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is said of a disk that takes no write.
const FAILS: &str = "the disk fails: disk I/O error; see the kernel's log";

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: Some(dir.to_owned()),
        retry: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn open(dir: &Path) -> Ledger {
    let (ledger, found) = Ledger::open(settings(dir)).expect("the ledger opens");
    assert_eq!(found.notices, [""; 0]);
    ledger
}

/// What a step is, in short.
type Told = (String, Step, u64);

fn told(step: &Outgoing) -> Told {
    (step.report.id.clone(), step.step, step.report.packets)
}

fn deliver_all(ledger: &Ledger) -> Vec<Told> {
    let mut all = Vec::new();
    block_on(async {
        while let Some(first) = ledger.outgoing().await.first() {
            let delivered = Settled::Delivered(PlatformIds::default());
            ledger.settle(first.ticket, delivered).await;
            all.push(told(first));
        }
    });
    all
}

mod model {
    //! What the outbox promises, as simply as it can be said: lists in memory.

    use super::*;

    /// What is done to the ledger.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Act {
        Event(usize, Step),
        /// Hands a step that is shown to the platform.
        Send(usize),
        /// What the platform said to the step that was sent first.
        Answer(Answer),
        Reopen,
    }

    #[derive(Clone, Copy, Debug)]
    pub(super) enum Answer {
        Delivered(Option<i64>),
        Refused,
        Failed,
    }

    pub(super) fn act() -> impl Strategy<Value = Act> {
        let step = prop_oneof![
            1 => Just(Step::Open),
            3 => Just(Step::Update),
            2 => Just(Step::Resolve)
        ];
        let answer = prop_oneof![
            4 => prop::option::of(1_i64..9).prop_map(Answer::Delivered),
            1 => Just(Answer::Refused),
            1 => Just(Answer::Failed),
        ];
        // More incidents than are shown at once, a few of which have most of the events.
        let incident = prop_oneof![3 => 0_usize..3, 2 => 0_usize..24];
        prop_oneof![
            8 => (incident, step).prop_map(|(incident, step)| Act::Event(incident, step)),
            3 => (0_usize..16).prop_map(Act::Send),
            3 => answer.prop_map(Act::Answer),
            1 => Just(Act::Reopen),
        ]
    }

    #[derive(Clone, Debug)]
    pub(super) struct Waits {
        pub(super) step: Step,
        pub(super) telling: u64,
        pub(super) attempts: u32,
        /// Differs from that of every other step, and of this one before it changed.
        state: u64,
        /// Stays when it changes.
        name: u64,
    }

    #[derive(Clone, Debug, Default)]
    pub(super) struct Incident {
        pub(super) name: usize,
        pub(super) id: Option<i64>,
        pub(super) steps: Vec<Waits>,
        is_open: bool,
    }

    /// A step that was sent: of which incident, which step, in which state.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Sent {
        incident: usize,
        name: u64,
        state: u64,
    }

    /// All incidents in the order in which they were first heard of.
    #[derive(Debug, Default)]
    pub(super) struct Model {
        incidents: Vec<Incident>,
        made: u64,
    }

    impl Model {
        fn incident(&mut self, name: usize) -> Option<&mut Incident> {
            self.incidents.iter_mut().find(|known| known.name == name)
        }

        pub(super) fn event(&mut self, name: usize, step: Step, telling: u64) {
            self.made += 2;
            let made = self.made;
            let new = |step, number| Waits {
                step,
                telling,
                attempts: 0,
                state: number,
                name: number,
            };
            let Some(known) = self.incident(name) else {
                let mut steps = vec![new(Step::Open, made)];
                if step == Step::Resolve {
                    steps.push(new(Step::Resolve, made + 1));
                }
                self.incidents.push(Incident {
                    name,
                    id: None,
                    steps,
                    is_open: step != Step::Resolve,
                });
                return;
            };
            let comes_back = !known.is_open && known.steps.is_empty() && step != Step::Resolve;
            if comes_back {
                // What it was called is over.
                known.id = None;
            }
            known.is_open = step != Step::Resolve;
            let step = match step {
                Step::Resolve => Step::Resolve,
                Step::Open | Step::Update if comes_back => Step::Open,
                Step::Open | Step::Update => Step::Update,
            };
            let kinds: Vec<Step> = known.steps.iter().map(|waits| waits.step).collect();
            match (kinds.as_slice(), step) {
                ([.., Step::Resolve, Step::Update], Step::Resolve) => {
                    known.steps.pop();
                }
                ([.., Step::Update], _) | ([.., Step::Resolve], Step::Resolve) => {}
                _ => {
                    known.steps.push(new(step, made));
                    return;
                }
            }
            let last = known.steps.last_mut().expect("there is one");
            (last.step, last.telling, last.state) = (step, telling, made);
        }

        /// What an earlier run never ended nobody will, but for what it opened last.
        pub(super) fn reopen(&mut self) {
            let open = self.incidents.iter_mut().rev();
            let mut open = open.filter(|incident| incident.is_open);
            open.next();
            open.for_each(|incident| incident.is_open = false);
        }

        /// What has to be shown.
        pub(super) fn shown(&self) -> Vec<(usize, Option<i64>, Waits)> {
            let waiting = self.incidents.iter().filter_map(|incident| {
                let first = incident.steps.first()?.clone();
                Some((incident.name, incident.id, first))
            });
            let mut shown: Vec<_> = waiting.collect();
            let goes_on = |(name, ..): &&(usize, Option<i64>, Waits)| {
                let mut incidents = self.incidents.iter();
                incidents.any(|incident| incident.name == *name && incident.is_open)
            };
            let now = shown.iter().rfind(goes_on).cloned();
            let is_beyond = |now: &(usize, _, _)| shown.iter().take(16).all(|it| it.0 != now.0);
            let now = now.filter(is_beyond);
            shown.truncate(if now.is_some() { 15 } else { 16 });
            shown.extend(now);
            shown
        }

        pub(super) fn send(&self, place: usize) -> Option<Sent> {
            let (incident, _, waits) = self.shown().into_iter().nth(place)?;
            Some(Sent {
                incident,
                name: waits.name,
                state: waits.state,
            })
        }

        pub(super) fn answer(&mut self, sent: Sent, answer: Answer) {
            let Some(known) = self.incident(sent.incident) else {
                return;
            };
            let Some(place) = known.steps.iter().position(|waits| waits.name == sent.name) else {
                return;
            };
            if let Answer::Delivered(id) = answer {
                known.id = id.or(known.id);
            }
            let is_same = known.steps[place].state == sent.state;
            match answer {
                Answer::Delivered(_) if is_same => {
                    let gone = known.steps.remove(place);
                    if let ([next], Step::Resolve) = (&mut known.steps[..], gone.step) {
                        next.step = Step::Open;
                        known.id = None;
                    }
                }
                Answer::Refused if is_same => {
                    known.steps.remove(place);
                }
                Answer::Delivered(_) => {}
                Answer::Refused | Answer::Failed => known.steps[place].attempts += 1,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_outbox_does_what_its_model_does(acts in prop::collection::vec(model::act(), 1..60)) {
        use model::{Act, Answer};
        let scratch = Scratch::new();
        let dir = scratch.path().join("state");
        let mut ledger = open(&dir);
        let mut model = model::Model::default();
        let mut sent = VecDeque::new();
        for (telling, act) in acts.into_iter().enumerate() {
            match act {
                Act::Event(incident, step) => {
                    let telling = telling as u64;
                    ledger.event(step, report(&incident.to_string(), telling));
                    model.event(incident, step, telling);
                }
                Act::Send(place) => {
                    let shown = block_on(ledger.outgoing());
                    let expected = model.send(place);
                    prop_assert_eq!(expected.is_some(), place < shown.len());
                    if let Some(expected) = expected {
                        sent.push_back((expected, shown[place].ticket));
                    }
                }
                Act::Answer(answer) => {
                    let Some((expected, ticket)) = sent.pop_front() else { continue };
                    model.answer(expected, answer);
                    let settled = match answer {
                        Answer::Delivered(id) => Settled::Delivered(PlatformIds { id, uuid: None }),
                        Answer::Refused => Settled::Refused("no".to_owned()),
                        Answer::Failed => Settled::Failed,
                    };
                    block_on(ledger.settle(ticket, settled));
                }
                Act::Reopen => {
                    ledger.close(PATIENCE);
                    ledger = open(&dir);
                    // What was under way is unknown to the next run.
                    sent.clear();
                    model.reopen();
                }
            }
            let shown: Vec<_> = block_on(ledger.outgoing())
                .iter()
                .map(|step| (told(step), step.ids.id, step.attempts))
                .collect();
            let expected: Vec<_> = model
                .shown()
                .into_iter()
                .map(|(name, id, waits)| {
                    ((name.to_string(), waits.step, waits.telling), id, waits.attempts)
                })
                .collect();
            prop_assert_eq!(shown, expected);
        }
        ledger.close(PATIENCE);
    }
}

/// Runs `inside` as a process with mounts of its own, where that is possible.
fn with_mounts(inside: &str, tools: &[&str]) {
    let reason = if !geteuid().is_root() {
        Some("mounting needs root".to_owned())
    } else {
        let missing = |tool: &&&str| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output();
            !found.is_ok_and(|found| found.status.success())
        };
        let missing = ["unshare", "mount", "umount"]
            .iter()
            .chain(tools)
            .find(missing);
        missing.map(|tool| format!("{tool} is not installed"))
    };
    if let Some(reason) = reason {
        skip(&reason);
        return;
    }
    let scratch = Scratch::new();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().expect("this is a program"))
        .args(["--exact", inside, "--nocapture", "--ignored"])
        .env("FTAGENT_DISK", scratch.path());
    let done = finish(&mut command, Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1 passed"), "{}", done.stdout);
    // What it could not do is not to be taken for done.
    let skipped = done
        .stdout
        .lines()
        .filter(|line| line.starts_with("skipped: "));
    skipped.for_each(|line| tell!("{line}"));
}

/// Where the process with mounts of its own works.
fn mount_point() -> PathBuf {
    let scratch = std::env::var_os("FTAGENT_DISK").expect("only ever started by another test");
    let mount = PathBuf::from(scratch).join("mount");
    fs::create_dir_all(&mount).expect("a directory can be made");
    mount
}

fn run(program: &str, arguments: &[&str]) -> String {
    succeed(
        Command::new(program).args(arguments),
        Duration::from_secs(20),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}

/// Waits until the ledger says that it writes to where `wanted` says.
fn wait_for(ledger: &Ledger, wanted: impl Fn(&Storage) -> bool) -> Waiting {
    let waiting = ledger.waiting();
    let came = until(PATIENCE, || wanted(&waiting.borrow().storage));
    let waiting = waiting.borrow().clone();
    assert!(came, "{waiting:?}");
    waiting
}

fn is_disk(storage: &Storage) -> bool {
    *storage == Storage::Disk
}

fn reason(waiting: &Waiting) -> &str {
    match &waiting.storage {
        Storage::Fallback { reason, .. } => reason,
        other => panic!("the disk cannot be written, but the ledger says {other:?}"),
    }
}

/// Records until the disk is missed, and what may happen to an incident meanwhile; `cure` mends the disk. Nothing may be
/// lost or doubled, in this run or the next.
fn goes_on_without_its_disk(
    dir: &Path,
    fail: impl FnOnce(),
    expected: &[&str],
    cure: impl FnOnce(),
) {
    let ledger = open(dir);
    ledger.event(Step::Open, report("told before", 0));
    assert_eq!(deliver_all(&ledger).len(), 1);
    ledger.event(Step::Open, report("waits", 0));
    ledger.event(Step::Open, report("told meanwhile", 0));
    ledger.second(sample(999, 1));
    assert_eq!(block_on(ledger.samples(true, 9)).len(), 1);

    fail();
    let mut second = 1_000;
    let waiting = ledger.waiting();
    let noticed = until(PATIENCE, || {
        ledger.second(sample(second, second));
        ledger.event(Step::Update, report("told before", second));
        second += 1;
        matches!(waiting.borrow().storage, Storage::Fallback { .. })
    });
    assert!(noticed, "the ledger still writes: {:?}", waiting.borrow());
    let meanwhile = wait_for(&ledger, |storage| !is_disk(storage));
    let reason = reason(&meanwhile);
    assert!(expected.contains(&reason), "{reason}");
    ledger.event(Step::Resolve, report("told before", second));
    ledger.event(Step::Open, report("new", 0));
    block_on(async {
        let shown = ledger.outgoing().await;
        let ids: Vec<&str> = shown.iter().map(|step| step.report.id.as_str()).collect();
        assert_eq!(ids, ["told before", "waits", "told meanwhile", "new"]);
        let ids = PlatformIds {
            id: Some(5),
            uuid: None,
        };
        ledger
            .settle(shown[2].ticket, Settled::Delivered(ids))
            .await;
    });

    cure();
    // Between two mounts the ledger may have found the directory beneath.
    let is_back = || {
        let seen = view(dir).ok().flatten();
        seen.is_some_and(|seen| seen.agent_runs && seen.waiting_incidents == 3)
    };
    assert!(until(PATIENCE, is_back), "{:?}", ledger.waiting().borrow());
    let after = wait_for(&ledger, is_disk);
    assert_eq!(
        (after.incidents, after.dropped_events, after.dropped_samples),
        (3, 0, 0)
    );
    ledger.event(Step::Resolve, report("told meanwhile", 1));
    ledger.close(PATIENCE);

    let ledger = open(dir);
    let seconds = block_on(ledger.samples(false, 3_600));
    let starts: Vec<u64> = seconds
        .iter()
        .map(|second| second.start.as_seconds())
        .collect();
    // Seconds are written without waiting for the disk: those of the moment in which it failed may be gone with it. No
    // other is, none comes twice, and incidents are all there.
    assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
    assert_eq!(starts.first(), Some(&999), "{starts:?}");
    assert!(
        starts.iter().all(|start| (999..second).contains(start)),
        "{starts:?}"
    );
    let shown = block_on(ledger.outgoing());
    assert_eq!(shown[2].ids.id, Some(5));
    let all = [
        ("told before", Step::Resolve, second),
        ("waits", Step::Open, 0),
        ("told meanwhile", Step::Resolve, 1),
        ("new", Step::Open, 0),
    ];
    let all = all.map(|(id, step, telling)| (id.to_owned(), step, telling));
    assert_eq!(deliver_all(&ledger), all);
    ledger.close(PATIENCE);
}

/// Fills a file system to the last byte.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file can be made");
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![7; piece]).is_ok() {}
    }
}

#[test]
fn a_full_disk_is_survived_and_used_again_when_there_is_room() {
    with_mounts("inside_a_mebibyte", &[]);
}

#[test]
#[ignore = "started by another test, in a mount namespace"]
fn inside_a_mebibyte() {
    let mount = mount_point();
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=1m", "none", text(&mount)],
    );
    let filler = mount.join("filler");
    let full = "the disk is full; make room on it";
    goes_on_without_its_disk(
        &mount.join("state"),
        || fill(&filler),
        &[full],
        || fs::remove_file(&filler).expect("it can be removed"),
    );

    // Full from the start, with everything of the last run on it.
    let dir = mount.join("state");
    let ledger = open(&dir);
    ledger.event(Step::Open, report("before the start", 3));
    ledger.close(PATIENCE);
    fill(&filler);
    let (ledger, found) = Ledger::open(settings(&dir)).expect("the agent works");
    assert_eq!(found.open.map(|report| report.packets), Some(3));
    let expected = format!(
        "{}: {full}; until then incidents and seconds are kept in memory, and the disk is tried again every 1 s",
        dir.join("ftagent.db").display()
    );
    assert_eq!(found.notices, [expected]);
    ledger.event(Step::Resolve, report("before the start", 4));
    fs::remove_file(&filler).expect("it can be removed");
    wait_for(&ledger, is_disk);
    let all = [(Step::Open, 3), (Step::Resolve, 4)];
    assert_eq!(
        deliver_all(&ledger),
        all.map(|(step, telling)| ("before the start".to_owned(), step, telling))
    );
    ledger.close(PATIENCE);
}

#[test]
fn a_read_only_disk_is_survived_and_used_again_when_it_can_be_written() {
    with_mounts("inside_what_cannot_be_written", &[]);
}

#[test]
#[ignore = "started by another test, in a mount namespace"]
fn inside_what_cannot_be_written() {
    let mount = mount_point();
    let dir = mount.join("state");
    run(
        "mount",
        &["-t", "tmpfs", "-o", "size=8m", "none", text(&mount)],
    );
    // As an agent leaves it that was killed: with a log beside the database, which has to be read too.
    let ledger = open(&dir);
    ledger.event(Step::Open, report("before", 0));
    ledger.event(Step::Update, report("before", 1));
    block_on(ledger.outgoing());
    let copy = mount.join("copy");
    fs::create_dir(&copy).expect("a directory can be made");
    for name in ["ftagent.db", "ftagent.db-wal"] {
        fs::copy(dir.join(name), copy.join(name)).expect("it can be copied");
    }
    ledger.close(PATIENCE);
    fs::remove_dir_all(&dir).expect("it can be removed");
    fs::rename(&copy, &dir).expect("it can be renamed");
    run("mount", &["-o", "remount,ro", text(&mount)]);

    let seen = view(&dir)
        .expect("it can be looked at")
        .expect("there is one");
    assert_eq!((seen.agent_runs, seen.waiting_incidents), (false, 1));
    let (ledger, found) = Ledger::open(settings(&dir)).expect("the agent works");
    let [notice] = &found.notices[..] else {
        panic!("{:?}", found.notices)
    };
    assert!(
        notice.contains("the file system is read-only; make it writable again"),
        "{notice}"
    );
    assert_eq!(found.open.map(|report| report.packets), Some(1));
    ledger.event(Step::Resolve, report("before", 2));
    block_on(async {
        let shown = ledger.outgoing().await;
        assert_eq!(
            shown.iter().map(told).collect::<Vec<_>>(),
            [("before".to_owned(), Step::Open, 0)]
        );
        let delivered = Settled::Delivered(PlatformIds::default());
        ledger.settle(shown[0].ticket, delivered).await;
    });
    run("mount", &["-o", "remount,rw", text(&mount)]);
    wait_for(&ledger, is_disk);
    ledger.close(PATIENCE);
    let ledger = open(&dir);
    assert_eq!(
        deliver_all(&ledger),
        [("before".to_owned(), Step::Resolve, 2)]
    );
}

#[test]
fn a_file_system_that_fails_is_survived_repaired_and_mounted_again_under_the_running_agent() {
    let tools = ["mkfs.ext4", "losetup", "e2fsck", "truncate"];
    with_mounts("inside_a_failing_file_system", &tools);
}

#[test]
#[ignore = "started by another test, in a mount namespace"]
fn inside_a_failing_file_system() {
    let mount = mount_point();
    let image = mount.with_file_name("image");
    run("truncate", &["-s", "16M", text(&image)]);
    run("mkfs.ext4", &["-q", "-F", text(&image)]);
    let device = Command::new("losetup")
        .args(["--find", "--show", text(&image)])
        .output()
        .expect("losetup can be started");
    if !device.status.success() {
        skip("there is no loop device");
        return;
    }
    let device = String::from_utf8_lossy(&device.stdout).trim().to_owned();
    // Outside of the namespace the device would stay.
    let _detached = Detach(device.clone());
    run("mount", &["-o", "errors=remount-ro", &device, text(&mount)]);
    let name = device.trim_start_matches("/dev/");
    let switch = format!("/sys/fs/ext4/{name}/trigger_fs_error");
    goes_on_without_its_disk(
        &mount.join("state"),
        || fs::write(&switch, "1").expect("the kernel lets us break a file system of ours"),
        // Which of them depends on the kernel.
        &[
            FAILS,
            "the file system is read-only; make it writable again (one that failed is made read-only by the kernel, \
             see its log)",
        ],
        || {
            // Nothing of ours may keep the operator from his repair.
            run("umount", &[text(&mount)]);
            let checked = finish(Command::new("e2fsck").args(["-fy", &device]), PATIENCE);
            assert!(checked.code.is_some_and(|code| code < 4), "{checked:?}");
            run("mount", &[&device, text(&mount)]);
        },
    );
    run("umount", &[text(&mount)]);
}

/// A loop device that goes with the test.
struct Detach(String);

impl Drop for Detach {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn writes_that_fail_are_survived() {
    let scratch = Scratch::new();
    let mut command = Command::new(std::env::current_exe().expect("this is a program"));
    command
        .args(["--exact", "inside_a_limit", "--nocapture", "--ignored"])
        .env("FTAGENT_DISK", scratch.path());
    let done = finish(&mut command, Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1 passed"), "{}", done.stdout);
}

#[test]
#[ignore = "started by another test, as a process of its own"]
fn inside_a_limit() {
    let dir = mount_point().join("state");
    // A file that may not grow fails as a disk does that has a bad block. The signal that comes with it would end us.
    let ignored = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored).expect("it can be caught");
    let limit = |current| Rlimit {
        current,
        maximum: None,
    };
    goes_on_without_its_disk(
        &dir,
        || setrlimit(Resource::Fsize, limit(Some(40 << 10))).expect("it can be lowered"),
        &[FAILS],
        || setrlimit(Resource::Fsize, limit(None)).expect("it can be raised again"),
    );
}

/// What recording costs: `cargo test --release --test ledger -- --ignored --nocapture what_recording_costs`.
#[test]
#[ignore = "a measurement, which says nothing in a build without optimisation"]
fn what_recording_costs() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("state");
    let ledger = open(&dir);
    let written = || -> u64 {
        let io = fs::read_to_string("/proc/self/io").expect("the kernel counts");
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.expect("it counts bytes written")
            .parse()
            .expect("a number")
    };
    let cpu = || -> Duration {
        let stat = fs::read_to_string("/proc/self/schedstat").expect("the kernel counts");
        let nanos = stat.split(' ').next().expect("it has a first figure");
        let mut all = nanos.parse().expect("a number");
        for thread in fs::read_dir("/proc/self/task").expect("there are threads") {
            let stat = thread.expect("a thread").path().join("schedstat");
            let stat = fs::read_to_string(stat).unwrap_or_default();
            all += stat
                .split(' ')
                .next()
                .and_then(|nanos| nanos.parse().ok())
                .unwrap_or(0);
        }
        Duration::from_nanos(all)
    };
    const SECONDS: u64 = 2_000;
    block_on(async {
        let mut waiting = ledger.waiting();
        let (bytes, spent) = (written(), cpu());
        for second in 0..SECONDS {
            ledger.second(sample(1_000_000 + second, 1_000 + second));
            let shown = ledger.samples(true, 2).await;
            ledger.told_samples(shown).await;
        }
        tell!(
            "a second recorded and told: {:?} of a processor, {} bytes written",
            (cpu() - spent) / u32::try_from(SECONDS).expect("it is small"),
            (written() - bytes) / SECONDS
        );
        let mut latencies = Vec::new();
        for number in 0..300 {
            waiting.mark_unchanged();
            let begun = clock::monotonic();
            ledger.event(Step::Open, report(&number.to_string(), number));
            waiting.changed().await.expect("the ledger is there");
            let shown = ledger.outgoing().await;
            latencies.push(begun.elapsed());
            let last = shown.last().expect("it is shown");
            let delivered = Settled::Delivered(PlatformIds::default());
            ledger.settle(last.ticket, delivered).await;
        }
        latencies.sort_unstable();
        tell!(
            "event to outgoing, on disk: median {:?}, p99 {:?}, highest {:?}",
            latencies[latencies.len() / 2],
            latencies[latencies.len() * 99 / 100],
            latencies[latencies.len() - 1]
        );
    });
    for second in 0..259_200 {
        ledger.second(sample(2_000_000 + second, 1_000 + second));
        if second % 500 == 0 {
            block_on(ledger.samples(true, 1));
        }
    }
    block_on(ledger.samples(true, 1));
    let begun = clock::monotonic();
    let oldest = block_on(ledger.samples(false, 16));
    tell!(
        "the oldest 16 of {} seconds: {:?}",
        ledger.waiting().borrow().samples,
        begun.elapsed()
    );
    assert_eq!(oldest.len(), 16);
    ledger.close(PATIENCE);
    let size = fs::metadata(dir.join("ftagent.db"))
        .expect("there is a database")
        .len();
    let begun = clock::monotonic();
    let ledger = open(&dir);
    tell!("{size} bytes open in {:?}", begun.elapsed());
    ledger.close(PATIENCE);
}
