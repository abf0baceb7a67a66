//! The ledger killed with SIGKILL at random moments, again and again in the same directory.
//!
//! The test starts itself as a child that records incidents and seconds and says, line by line, what it is about to do
//! and what it knows to be on disk. After the kill the database must be whole, hold everything that was acknowledged,
//! and bring nothing back that was settled. Seeded: a failure names its round. 25 rounds, 200 with FTAGENT_LONG=1.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of a test fail as loudly as the test, and the child talks to it"
)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::kept::{Dice, block_on, report, sample};
use common::process::{Running, Scratch};
use common::tell;
use ftagent::ledger::{Found, Ledger, Outgoing, PlatformIds, Settings, Settled, Step};
use rusqlite::Connection;

/// Tells the child that it is one, and where to work; and what its dice begin with.
const CHILD_DIR: &str = "FTAGENT_CRASH_CHILD";
const CHILD_SEED: &str = "FTAGENT_CRASH_SEED";

/// How long the longest-lived child works, in microseconds: a few dozen transactions.
const LONGEST_MICROS: u64 = 250_000;

fn settings(dir: &Path) -> Settings {
    Settings {
        dir: Some(dir.to_owned()),
        retry: Duration::from_millis(20),
        ..Settings::default()
    }
}

/// The child: works until it is killed. Does nothing when the tests are run by a person.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let seed = std::env::var(CHILD_SEED).expect("the parent names a seed");
    let seed: u64 = seed.parse().expect("it is a number");
    let (ledger, found) = Ledger::open(settings(&PathBuf::from(dir))).expect("it opens");
    block_on(work(&ledger, &found, seed));
}

async fn work(ledger: &Ledger, found: &Found, seed: u64) {
    let mut dice = Dice(seed);
    let mut telling = seed * 1_000_000;
    // The incident that was open goes on, as it does in the agent.
    let mut open = found.open.as_ref().map(|report| report.id.clone());
    let mut over: Option<String> = None;
    println!("ready {}", open.as_deref().unwrap_or("-"));
    loop {
        telling += 1;
        match dice.roll(8) {
            0..4 => {
                let (id, step) = match (&open, &over) {
                    (Some(id), _) if dice.roll(4) == 0 => (id.clone(), Step::Resolve),
                    (Some(id), _) => (id.clone(), Step::Update),
                    // It comes back.
                    (None, Some(id)) if dice.roll(3) == 0 => (id.clone(), Step::Update),
                    (None, _) => (format!("{telling}"), Step::Open),
                };
                println!("doing {id} {} {telling}", name(step));
                ledger.event(step, report(&id, telling));
                (open, over) = if step == Step::Resolve {
                    (None, Some(id))
                } else {
                    (Some(id), None)
                };
            }
            4 => {
                ledger.outgoing().await;
                println!("durable {telling}");
            }
            5 => {
                let waiting = ledger.outgoing().await;
                println!("durable {telling}");
                if let Some(step) = waiting.first() {
                    let what = said(step);
                    println!("settling {what}");
                    let settled = Settled::Delivered(PlatformIds {
                        id: Some(7),
                        uuid: None,
                    });
                    ledger.settle(step.ticket, settled).await;
                    println!("settled {what}");
                }
            }
            6 => {
                ledger.second(sample(telling, 1));
                ledger.remember("telling", telling.to_string());
                ledger.recall("telling").await;
                println!("kept {telling}");
            }
            _ => {
                let some = ledger.samples(false, 2).await;
                for told in &some {
                    println!("telling {}", told.start.as_seconds());
                }
                ledger.told_samples(some).await;
            }
        }
    }
}

const fn name(step: Step) -> &'static str {
    match step {
        Step::Open => "open",
        Step::Update => "update",
        Step::Resolve => "resolve",
    }
}

/// A step that waits, in the words of the child.
fn said(step: &Outgoing) -> String {
    let (id, telling) = (&step.report.id, step.report.packets);
    format!("{id} {} {telling}", name(step.step))
}

/// What is known of one incident.
#[derive(Debug, Default)]
struct Known {
    /// Everything that was done, in order: step and telling.
    done: Vec<(String, u64)>,
    /// What the platform has for certain, and what it may have.
    settled: Vec<(String, u64)>,
    in_doubt: Option<(String, u64)>,
}

/// What the children have said.
#[derive(Debug, Default)]
struct Heard {
    incidents: BTreeMap<String, Known>,
    /// Everything that was done up to this telling is on disk.
    durable: u64,
    /// The incident of the last event, whether it ended with it, and its telling.
    last: Vec<(String, bool, u64)>,
    note: u64,
    seconds: BTreeMap<u64, bool>,
}

impl Heard {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| -> u64 { word.parse().expect("a number") };
        match words.as_slice() {
            ["doing", id, step, telling] => {
                let known = self.incidents.entry((*id).to_owned()).or_default();
                known.done.push(((*step).to_owned(), number(telling)));
                let ended = *step == "resolve";
                self.last.push(((*id).to_owned(), ended, number(telling)));
            }
            ["durable", telling] => self.durable = number(telling),
            ["settling", id, step, telling] => {
                let known = self.incidents.entry((*id).to_owned()).or_default();
                known.in_doubt = Some(((*step).to_owned(), number(telling)));
            }
            ["settled", id, ..] => {
                let known = self.incidents.entry((*id).to_owned()).or_default();
                known.settled.extend(known.in_doubt.take());
            }
            ["kept", telling] => {
                self.note = number(telling);
                self.seconds.insert(self.note, false);
            }
            ["telling", second] => {
                self.seconds.insert(number(second), true);
            }
            _ => {}
        }
    }

    /// What is open now, if it is one of these: a kill may have come before or after the last event was written.
    fn may_be_open(&self, open: Option<(&str, u64)>) -> bool {
        let durable = self
            .last
            .iter()
            .rposition(|(_, _, telling)| *telling <= self.durable);
        let first = durable.unwrap_or(0);
        let states = self.last.iter().skip(first);
        let mut states: Vec<_> = states
            .map(|(id, ended, telling)| (!ended).then_some((id.as_str(), *telling)))
            .collect();
        if durable.is_none() {
            states.push(None);
        }
        states.contains(&open)
    }
}

impl Known {
    /// What has to be true of the steps that wait after the kill.
    fn check(&self, id: &str, waiting: &[(String, u64)], durable: u64) {
        let context = format!("{id}: waiting {waiting:?}, known {self:?}, durable {durable}");
        assert!(waiting.len() <= 3, "{context}");
        // It opens first of all, and again only after an end.
        let first = waiting.first().map(|(step, _)| step.as_str());
        let is_again = |pair: &[(String, u64)]| match pair {
            [(before, _), (step, _)] => step != "open" || before == "resolve",
            _ => false,
        };
        assert!(waiting.windows(2).all(is_again), "{context}");
        assert!(
            waiting.windows(2).all(|pair| match pair {
                [(_, earlier), (_, later)] => earlier < later,
                _ => false,
            }),
            "{context}"
        );
        // Nothing that was settled comes back; an incident may, once its end is told.
        let newest_first = self.settled.iter().rev().map(|(step, _)| step.as_str());
        let since_end: Vec<&str> = newest_first.take_while(|step| *step != "resolve").collect();
        let is_ending = self
            .in_doubt
            .as_ref()
            .is_some_and(|(step, _)| step == "resolve");
        let was_opened_lately = since_end.contains(&"open") && !is_ending;
        assert!(first != Some("open") || !was_opened_lately, "{context}");
        let settled = self.settled.iter().map(|(_, telling)| *telling).max();
        let was_opened = self.settled.iter().any(|(step, _)| step == "open");
        assert!(
            waiting.iter().all(|(_, telling)| Some(*telling) > settled),
            "{context}"
        );
        // Everything that was acknowledged is there, or something newer is.
        let surely = self.done.iter().rfind(|(_, telling)| *telling <= durable);
        let Some((step, telling)) = surely else {
            return;
        };
        let told = settled.max(self.in_doubt.as_ref().map(|(_, telling)| *telling));
        if Some(*telling) > told {
            let last = waiting.last().unwrap_or_else(|| panic!("lost: {context}"));
            assert!(last.1 >= *telling, "{context}");
            let is_last = self.done.last().is_some_and(|(_, last)| last == telling);
            let is_it = step == &last.0 || step == "update" && last.0 == "open";
            assert!(!is_last || is_it, "{context}");
        }
        let open = self
            .done
            .first()
            .filter(|(step, telling)| step == "open" && *telling <= durable);
        if let Some(open) = open
            && !was_opened
            && self.in_doubt.as_ref() != Some(open)
        {
            assert_eq!(waiting.first(), Some(open), "{context}");
        }
    }
}

#[test]
fn killed_at_any_moment_it_keeps_what_it_acknowledged_and_brings_nothing_back() {
    let rounds = match std::env::var_os("FTAGENT_LONG") {
        Some(_) => 200,
        None => 25,
    };
    let scratch = Scratch::new();
    let dir = scratch.path().join("state");
    let mut dice = Dice(20_261_122);
    let mut heard = Heard::default();
    let mut events = 0;
    for round in 1..=rounds {
        let micros = dice.roll(LONGEST_MICROS);
        for line in killed_after(&dir, round, Duration::from_micros(micros)) {
            heard.hear(&line);
        }
        events += heard.last.len() as u64;
        check_database(&dir, round);
        check_ledger(&dir, &mut heard);
    }
    tell!("killed {rounds} times, after {events} events in all");
    assert!(events > rounds, "only {events} events in {rounds} rounds");
}

/// Lets a child work for a while, kills it, and gives back what it said.
fn killed_after(dir: &Path, seed: u64, life: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this is a program"));
    child
        .args(["--exact", "child_that_is_killed", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut child);
    let mut said = BufReader::new(running.child.stdout.take().expect("it has a pipe"));
    let mut line = String::new();
    while !line.contains("ready ") {
        line.clear();
        let read = said.read_line(&mut line).expect("its words can be read");
        assert!(read > 0, "round {seed}: it ended before it began");
    }
    std::thread::sleep(life);
    // SIGKILL.
    drop(running);
    let mut rest = String::new();
    said.read_to_string(&mut rest)
        .expect("the rest can be read");
    // The last line may be cut.
    let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(str::to_owned).collect()
}

/// The database as SQLite sees it, before anybody of ours has touched it.
fn check_database(dir: &Path, round: u64) {
    let db = Connection::open(dir.join("ftagent.db")).expect("there is a database");
    let check: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it can be checked");
    assert_eq!(check, "ok", "round {round}");
    let sql = "SELECT count(*) FROM (SELECT incident FROM step WHERE kind = 'open'
        GROUP BY incident HAVING count(*) > 1)";
    let twice: i64 = db
        .query_row(sql, [], |row| row.get(0))
        .expect("steps can be counted");
    assert_eq!(twice, 0, "round {round}: two openings of one incident");
}

/// What the ledger says after the kill. Delivers everything, so that the next round begins with an empty outbox; the
/// incident that is open goes on in it.
fn check_ledger(dir: &Path, heard: &mut Heard) {
    let (ledger, found) = Ledger::open(settings(dir)).expect("it opens");
    assert_eq!(found.notices, [""; 0]);
    let open = found
        .open
        .as_ref()
        .map(|report| (report.id.as_str(), report.packets));
    assert!(heard.may_be_open(open), "{open:?} of {:?}", heard.last);
    let mut waiting: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    block_on(async {
        loop {
            let some = ledger.outgoing().await;
            if some.is_empty() {
                break;
            }
            for step in some {
                let told = (name(step.step).to_owned(), step.report.packets);
                waiting.entry(step.report.id).or_default().push(told);
                let settled = Settled::Delivered(PlatformIds::default());
                ledger.settle(step.ticket, settled).await;
            }
        }
        let note = ledger.recall("telling").await;
        let note: u64 = note.map_or(0, |note| note.parse().expect("a number"));
        assert!(note >= heard.note, "{note} after {}", heard.note);
        let seconds = ledger.samples(false, 100_000).await;
        for (second, told) in &heard.seconds {
            let is_there = seconds
                .iter()
                .any(|kept| kept.start.as_seconds() == *second);
            assert!(is_there || *told, "second {second} is lost");
        }
        ledger.skip_samples().await;
    });
    for (id, known) in &heard.incidents {
        let waiting = waiting.remove(id).unwrap_or_default();
        known.check(id, &waiting, heard.durable);
    }
    assert!(waiting.is_empty(), "nobody did this: {waiting:?}");
    ledger.close(Duration::from_secs(10));
    // The next round begins here: what waited is told.
    let open = found.open.map(|report| (report.id, report.packets));
    *heard = Heard {
        durable: heard.durable,
        note: heard.note,
        ..Heard::default()
    };
    if let Some((id, telling)) = open {
        let known = Known {
            done: vec![("update".to_owned(), telling)],
            settled: vec![("open".to_owned(), telling)],
            in_doubt: None,
        };
        heard.incidents.insert(id.clone(), known);
        heard.durable = heard.durable.max(telling);
        heard.last.push((id, false, telling));
    }
}
