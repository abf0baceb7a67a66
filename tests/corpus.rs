//! Replays the captures that others published, with the names they gave them, and compares what the agent says.
//!
//! Prints the confusion table. Everything is judged as a user would: by the program, with a limit set to a third of the
//! capture's peak for attacks, and with learned limits and with twice the peak for everything else.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test panics when it cannot go on, and the table of verdicts is for people to read"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::event::Incident;
use common::manifest::{Listed, published};
use common::packets::Packets;
use common::process::Scratch;
use common::replay::replay_as;
use common::tell;

/// Subtypes that have to be right among the captures that count.
const LEAST_SUBTYPES_PERCENT: usize = 95;

/// Captures whose verdict is printed and not counted: too slow to be told from ordinary use by rate alone.
fn is_printed_only(capture: &Listed) -> bool {
    capture.notes.contains("LOW RATE") || capture.subtypes == ["slow_http"]
}

/// Attacks that open under another family than they are resolved under, and why nobody could know better then.
const RECOGNISED_LATER: [(&str, &str); 1] = [(
    "attacks/http_hulk_get.pcap",
    "63 of the first 65 inbound packets are SYNs, each from another port of one client, and none of them goes on within \
     the second that opens the incident: the server answers others first. The requests come later",
)];

/// What the agent said about one attack.
struct Verdict {
    capture: Listed,
    stories: Vec<Story>,
}

/// What one incident was called.
struct Story {
    /// When it opened, on the first fraction of a second.
    opened: Name,
    /// When everything had been seen.
    resolved: Name,
}

/// A family and a subtype.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(String, String);

impl Name {
    fn of(incident: &Incident) -> Self {
        let (family, subtype) = (&incident.attack_family, &incident.attack_subtype);
        Self(family.clone(), subtype.clone())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl Verdict {
    fn of(capture: Listed) -> Self {
        let replayed = replay_as(
            &capture.path,
            capture.host.as_deref(),
            Some(capture.crossed_limit_pps()),
        );
        let stories = replayed.opened().into_iter().zip(replayed.incidents());
        let stories = stories.map(|(opened, resolved)| {
            assert_eq!(opened.id, resolved.id, "one incident at a time");
            Story {
                opened: Name::of(opened),
                resolved: Name::of(resolved),
            }
        });
        Self {
            stories: stories.collect(),
            capture,
        }
    }

    /// Everything it was called in the end.
    fn names(&self) -> BTreeSet<&Name> {
        self.stories.iter().map(|story| &story.resolved).collect()
    }

    fn family_is_right(&self) -> bool {
        !self.stories.is_empty()
            && self
                .names()
                .iter()
                .all(|Name(family, _)| is_among(&self.capture.families, family))
    }

    fn subtype_is_right(&self) -> bool {
        self.family_is_right()
            && self
                .names()
                .iter()
                .all(|Name(_, subtype)| is_among(&self.capture.subtypes, subtype))
    }

    fn said(&self) -> String {
        if self.stories.is_empty() {
            return "silent".to_owned();
        }
        let names: Vec<String> = self.names().iter().map(ToString::to_string).collect();
        names.join(" and ")
    }

    fn opens_under_another_family(&self) -> bool {
        let other = |story: &Story| story.opened.0 != story.resolved.0;
        self.stories.iter().any(other)
    }

    /// Names that were given at an opening and not kept.
    fn renamed(&self) -> Vec<String> {
        let changed = self
            .stories
            .iter()
            .filter(|story| story.opened != story.resolved);
        changed
            .map(|story| format!("opened as {}", story.opened))
            .collect()
    }

    fn line(&self) -> String {
        let mark = match (self.family_is_right(), self.subtype_is_right()) {
            (_, true) => "right",
            (true, false) => "SUBTYPE",
            (false, false) => "FAMILY",
        };
        format!(
            "{mark:8} {:44} limit {:>6}  incidents {}  expected {}, found {}{}",
            self.capture.file,
            self.capture.crossed_limit_pps(),
            self.stories.len(),
            self.capture.expected(),
            self.said(),
            self.renamed()
                .iter()
                .map(|name| format!(", {name}"))
                .collect::<String>(),
        )
    }
}

fn is_among(answers: &[String], name: &str) -> bool {
    answers.iter().any(|answer| answer == "*" || answer == name)
}

/// How often which name was given for which expectation.
fn print_confusion(verdicts: &[Verdict]) {
    let mut cells: BTreeMap<(String, String), u64> = BTreeMap::new();
    for verdict in verdicts {
        *cells
            .entry((verdict.capture.expected(), verdict.said()))
            .or_default() += 1;
    }
    let wide = |pick: fn(&(String, String)) -> &String| {
        cells
            .keys()
            .map(|key| pick(key).len())
            .max()
            .unwrap_or_default()
    };
    let (expected_width, found_width) = (wide(|key| &key.0), wide(|key| &key.1));
    tell!(
        "\n{:expected_width$}  {:found_width$}  files",
        "expected",
        "found"
    );
    for ((expected, found), files) in &cells {
        tell!("{expected:expected_width$}  {found:found_width$}  {files:>5}");
    }
}

#[test]
fn every_published_attack_gets_its_name() {
    let attacks = published().into_iter().filter(Listed::is_attack);
    let (printed, counted): (Vec<_>, Vec<_>) = attacks.partition(is_printed_only);
    if counted.is_empty() {
        return;
    }
    for capture in printed {
        tell!("{} (not counted)", Verdict::of(capture).line());
    }
    let verdicts: Vec<Verdict> = counted.into_iter().map(Verdict::of).collect();
    for verdict in &verdicts {
        tell!("{}", verdict.line());
    }
    print_confusion(&verdicts);
    let wrong: Vec<String> = verdicts
        .iter()
        .filter(|verdict| !verdict.family_is_right())
        .map(Verdict::line)
        .collect();
    assert!(
        wrong.is_empty(),
        "families are wrong:\n{}",
        wrong.join("\n")
    );
    for verdict in &verdicts {
        // Each of these files is one attack.
        assert_eq!(verdict.stories.len(), 1, "{}", verdict.line());
        let file = verdict.capture.file.as_str();
        let is_recognised_later = RECOGNISED_LATER.iter().any(|(known, _)| *known == file);
        assert_eq!(
            verdict.opens_under_another_family(),
            is_recognised_later,
            "{}",
            verdict.line()
        );
    }
    let right = verdicts
        .iter()
        .filter(|verdict| verdict.subtype_is_right())
        .count();
    assert!(
        right * 100 >= verdicts.len() * LEAST_SUBTYPES_PERCENT,
        "{right} of {} subtypes are right",
        verdicts.len()
    );
}

/// How long ordinary traffic is repeated for: through all of warm-up, the first ten minutes and the second.
const REPEATED_SECONDS: u64 = 1_200;

/// Replays everything that is no attack with the limit that `limit_pps` gives, and expects nothing above low.
fn expect_peace(how: &str, limit_pps: impl Fn(&Listed) -> Option<u64>) {
    let mut alarms = Vec::new();
    for capture in published().into_iter().filter(is_peaceful) {
        let replayed = replay_as(&capture.path, capture.host.as_deref(), limit_pps(&capture));
        let told = |incident: &&Incident| {
            format!(
                "{}: {}/{} {} at {} packets/s",
                capture.file,
                incident.attack_family,
                incident.attack_subtype,
                incident.severity,
                incident.peak_pps
            )
        };
        let incidents = replayed.incidents();
        tell!("{how}: {:44} {} incidents", capture.file, incidents.len());
        alarms.extend(
            incidents
                .iter()
                .filter(|incident| incident.severity != "low")
                .map(told),
        );
    }
    assert!(alarms.is_empty(), "false alarms:\n{}", alarms.join("\n"));
}

fn is_peaceful(capture: &Listed) -> bool {
    !capture.malformed && !capture.is_attack()
}

#[test]
fn ordinary_traffic_over_and_over_is_no_attack_by_the_learned_rules() {
    let scratch = Scratch::new();
    let file = scratch.path().join("repeated.pcap");
    for capture in published().into_iter().filter(is_peaceful) {
        let once = Packets::read(&capture.path);
        if once.seconds() >= REPEATED_SECONDS {
            continue;
        }
        let times = REPEATED_SECONDS / (once.seconds() + 1) + 1;
        once.repeated(times).write_pcap(&file, 0);
        let replayed = replay_as(&file, capture.host.as_deref(), None);
        tell!("repeated {times} times: {}", capture.file);
        for incident in replayed.incidents() {
            assert_eq!(incident.severity, "low", "{}: {incident:?}", capture.file);
        }
    }
}

#[test]
fn ordinary_traffic_scans_and_guessing_are_no_attack_by_the_learned_rules() {
    expect_peace("learned", |_| None);
}

#[test]
fn ordinary_traffic_scans_and_guessing_are_no_attack_below_a_set_limit() {
    expect_peace("twice the peak", |capture| {
        Some(capture.distant_limit_pps())
    });
}
