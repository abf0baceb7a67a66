//! How it stands with the platform: for `status`, and for the journal.
//!
//! Trouble is kept per lane; the most pressing is what is said, once and then hourly, and what the ledger keeps for
//! `status`. Pure: gives lines to log, logs nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Cadence;
use super::answer::{Trouble, TroubleKind};
use super::schedule::Lane;
use super::wire::Spoken;
use crate::clock::Timestamp;
use crate::ledger::Waiting;
use crate::words::{self, Thousands};

/// How it stands with the platform, as the ledger keeps it under [`UPLINK`](crate::ledger::UPLINK).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When this was written; at least with every heartbeat.
    pub at: Timestamp,
    /// Since when it stands like this.
    pub since: Timestamp,
    /// What is wrong; `None` when nothing is.
    pub trouble: Option<TroubleKind>,
    /// How it stands and what to do, for people.
    pub sentence: String,
    /// The API's address.
    pub api_base: String,
    /// The contract spoken: `seed` or `resource`.
    pub contract: String,
    /// Whether the key crosses a network unencrypted, because the operator allowed it.
    pub exposed: bool,
    /// Whether the platform answered the last health check; `None` before the first.
    pub health: Option<bool>,
    /// When it last accepted a heartbeat.
    pub heartbeat_at: Option<Timestamp>,
    /// When it last accepted anything.
    pub accepted_at: Option<Timestamp>,
    /// Messages it refused for good, since the agent started.
    pub refused: u64,
    /// Why it refused the last of them, and when that was written down.
    #[serde(default)]
    pub last_refusal: Option<Refusal>,
    /// What it said about the last message that it found in conflict with what it has, and when that was written down.
    #[serde(default)]
    pub last_conflict: Option<Refusal>,
    /// Answers that were none of its, since the agent started.
    pub bad_bodies: u64,
}

/// A message that the platform will not take, or not again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When; a label, from the wall clock.
    pub at: Timestamp,
    /// Why, and what to do about it, for people.
    pub sentence: String,
}

/// How urgent a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Info,
    /// Degraded, nothing lost.
    Warning,
    /// A person is needed.
    Error,
}

/// A line for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) urgency: Urgency,
    pub(super) text: String,
}

/// Keeps how it stands.
#[derive(Debug)]
pub(super) struct Standing {
    grace: Duration,
    repeat: Duration,
    lanes: BTreeMap<Lane, Trouble>,
    /// The most pressing kind of trouble, and since when there is any at all.
    kind: Option<TroubleKind>,
    began: Option<Instant>,
    /// When each kind was said last.
    said: BTreeMap<TroubleKind, Instant>,
    /// Whether what is going on was said, so that its end has to be.
    is_said: bool,
    refusals: Seldom,
    conflicts: Seldom,
    /// Whether the state differs from the one given last.
    has_changed: bool,
    /// The last refusal and the last conflict, until the state is given with the time of them.
    refusal: Option<String>,
    conflict: Option<String>,
    state: State,
}

/// When something in a lane was said last, and how often it came since.
type Seldom = BTreeMap<Lane, (Instant, u64)>;

/// How soon a kind of trouble may be said again when it comes and goes: a platform that flaps must not fill the journal.
const FLAPPING: Duration = Duration::from_secs(60);

impl Standing {
    /// Nothing is known yet.
    pub(super) fn new(
        cadence: &Cadence,
        api_base: String,
        exposed: bool,
        spoken: Spoken,
        wall: Timestamp,
    ) -> Self {
        Self {
            grace: cadence.grace,
            repeat: cadence.repeat,
            lanes: BTreeMap::new(),
            kind: None,
            began: None,
            said: BTreeMap::new(),
            is_said: false,
            refusals: Seldom::new(),
            conflicts: Seldom::new(),
            has_changed: true,
            refusal: None,
            conflict: None,
            state: State {
                at: wall,
                since: wall,
                trouble: None,
                sentence: "the platform has not answered yet".to_owned(),
                api_base,
                contract: spoken.name().to_owned(),
                exposed,
                health: None,
                heartbeat_at: None,
                accepted_at: None,
                refused: 0,
                last_refusal: None,
                last_conflict: None,
                bad_bodies: 0,
            },
        }
    }

    /// The platform took a call of `lane`. Gives a line when it is the first it ever took.
    pub(super) fn accepted(&mut self, lane: Lane, now: Instant, wall: Timestamp) -> Option<Line> {
        let is_first = self.state.accepted_at.is_none();
        self.state.accepted_at = Some(wall);
        if lane == Lane::Heartbeat {
            self.state.heartbeat_at = Some(wall);
            self.has_changed = true;
        }
        self.lanes.remove(&lane);
        self.settle(now, wall);
        is_first.then(|| Line {
            urgency: Urgency::Info,
            text: format!("connected to the platform at {}", self.state.api_base),
        })
    }

    /// A call of `lane` was answered, if not as wished: the lane works.
    pub(super) fn cleared(&mut self, lane: Lane, now: Instant, wall: Timestamp) {
        if self.lanes.remove(&lane).is_some() {
            self.settle(now, wall);
        }
    }

    /// A call of `lane` met trouble that goes on.
    pub(super) fn failed(&mut self, lane: Lane, trouble: Trouble, now: Instant, wall: Timestamp) {
        self.lanes.insert(lane, trouble);
        self.settle(now, wall);
    }

    /// A message of `lane` was refused for good. Gives a line for each step of an incident; of the rest one an hour.
    pub(super) fn refused(&mut self, lane: Lane, sentence: &str, now: Instant) -> Option<Line> {
        self.state.refused += 1;
        self.refusal = Some(sentence.to_owned());
        self.has_changed = true;
        if lane == Lane::Incident {
            return Some(warning(sentence.to_owned()));
        }
        seldom(&mut self.refusals, lane, sentence, now, self.repeat)
    }

    /// A message of `lane` is there already, as the platform says. Gives a line an hour: nothing is lost.
    pub(super) fn conflicted(&mut self, lane: Lane, sentence: &str, now: Instant) -> Option<Line> {
        self.conflict = Some(sentence.to_owned());
        self.has_changed = true;
        seldom(&mut self.conflicts, lane, sentence, now, self.repeat)
    }

    /// An answer was none of the platform's.
    pub(super) fn bad_body(&mut self) {
        self.state.bad_bodies += 1;
        self.has_changed = true;
    }

    /// What the health check said.
    pub(super) fn health(&mut self, is_up: bool, now: Instant, wall: Timestamp) {
        self.has_changed |= self.state.health.replace(is_up) != Some(is_up);
        self.settle(now, wall);
    }

    /// The platform turned out to speak the other contract.
    pub(super) fn speaks(&mut self, spoken: Spoken) {
        spoken.name().clone_into(&mut self.state.contract);
        self.has_changed = true;
    }

    /// Works out what is most pressing.
    fn settle(&mut self, now: Instant, wall: Timestamp) {
        let worst = self.lanes.values().max_by_key(|trouble| trouble.kind);
        let kind = worst.map(|trouble| trouble.kind);
        let sentence = match worst {
            Some(trouble) => format!(
                "{}{}. Detection goes on; what it finds is kept and sent later",
                trouble.sentence,
                self.beside(trouble.kind)
            ),
            None if self.state.accepted_at.is_some() => {
                "the platform takes what this node sends".to_owned()
            }
            None => self.state.sentence.clone(),
        };
        if kind != self.kind {
            self.kind = kind;
            self.state.since = wall;
        }
        if kind.is_some() {
            self.began.get_or_insert(now);
        }
        if self.state.trouble != kind || self.state.sentence != sentence {
            self.state.trouble = kind;
            self.state.sentence = sentence;
            self.has_changed = true;
        }
    }

    /// What the health check adds: whether it is the platform or something about us.
    fn beside(&self, kind: TroubleKind) -> &'static str {
        match (kind, self.state.health) {
            (TroubleKind::KeyRejected | TroubleKind::Lapsed, Some(true)) => {
                ". The platform itself is up"
            }
            (TroubleKind::Unreachable | TroubleKind::ServerError, Some(true)) => {
                ". Its health check answers: the platform is up, only this node's calls fail"
            }
            (TroubleKind::Unreachable | TroubleKind::ServerError, Some(false)) => {
                ". Its health check fails too: it is down, or cannot be reached from here"
            }
            _ => "",
        }
    }

    /// When there may be something to say; `None` when nothing is wrong.
    pub(super) fn says_at(&self) -> Option<Instant> {
        let kind = self.kind?;
        let began = self.began?;
        let soonest = if is_hard(kind) {
            began
        } else {
            began + self.grace
        };
        Some(match self.said.get(&kind) {
            Some(said) if self.is_said => (*said + self.repeat).max(soonest),
            Some(said) => (*said + FLAPPING).max(soonest),
            None => soonest,
        })
    }

    /// What is to be said at `now`, if anything.
    pub(super) fn say(&mut self, now: Instant, waiting: &Waiting) -> Option<Line> {
        let Some(kind) = self.kind else {
            let began = self.began.take()?;
            let was_said = std::mem::take(&mut self.is_said);
            let lasted = now.saturating_duration_since(began);
            return was_said.then(|| Line {
                urgency: Urgency::Info,
                text: format!(
                    "the platform takes what this node sends again, after {}{}",
                    duration(lasted),
                    waits(waiting)
                ),
            });
        };
        if self.says_at().is_none_or(|at| at > now) {
            return None;
        }
        let began = self.began.unwrap_or(now);
        let is_repetition = self.is_said && self.said.contains_key(&kind);
        self.said.insert(kind, now);
        self.is_said = true;
        let sentence = &self.state.sentence;
        let text = if is_repetition {
            let lasted = duration(now.saturating_duration_since(began));
            format!("still so after {lasted}: {sentence}{}", waits(waiting))
        } else {
            format!("{sentence}{}", waits(waiting))
        };
        let urgency = if is_hard(kind) {
            Urgency::Error
        } else {
            Urgency::Warning
        };
        Some(Line { urgency, text })
    }

    /// The state, if it is another than the one given last.
    pub(super) fn changed(&mut self, wall: Timestamp) -> Option<&State> {
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        self.state.at = wall;
        if let Some(sentence) = self.refusal.take() {
            self.state.last_refusal = Some(Refusal { at: wall, sentence });
        }
        if let Some(sentence) = self.conflict.take() {
            self.state.last_conflict = Some(Refusal { at: wall, sentence });
        }
        Some(&self.state)
    }
}

const fn warning(text: String) -> Line {
    Line {
        urgency: Urgency::Warning,
        text,
    }
}

/// A line for what may come with every message of `lane`: the first time, and `repeat` later with how often it came.
fn seldom(
    said: &mut Seldom,
    lane: Lane,
    sentence: &str,
    now: Instant,
    repeat: Duration,
) -> Option<Line> {
    match said.get_mut(&lane) {
        Some((at, more)) if now.saturating_duration_since(*at) < repeat => {
            *more += 1;
            None
        }
        before => {
            let text = match before {
                Some((_, more)) if *more > 0 => format!(
                    "{sentence} ({} more since it was last said)",
                    Thousands(*more)
                ),
                _ => sentence.to_owned(),
            };
            said.insert(lane, (now, 0));
            Some(warning(text))
        }
    }
}

/// Trouble that does not pass by itself: a person is needed, and it is said at once.
const fn is_hard(kind: TroubleKind) -> bool {
    matches!(
        kind,
        TroubleKind::KeyRejected
            | TroubleKind::Lapsed
            | TroubleKind::Suspended
            | TroubleKind::NoSuchPath
    )
}

fn duration(lasted: Duration) -> words::Duration {
    words::Duration(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))
}

/// What waits, in brackets.
fn waits(waiting: &Waiting) -> String {
    match (waiting.incidents, waiting.samples) {
        // One second is always on its way.
        (0, 0..=1) => String::new(),
        (incidents, samples) => format!(
            " (waiting to be told: incidents {}, seconds {})",
            Thousands(incidents),
            Thousands(samples)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::ledger::Storage;

    const WALL: Timestamp = Timestamp::from_seconds(1_773_567_858);

    fn standing() -> (Standing, Instant) {
        let standing = Standing::new(
            &Cadence::default(),
            "https://p.example/v1".to_owned(),
            false,
            Spoken::Seed,
            WALL,
        );
        (standing, clock::monotonic())
    }

    fn waiting(incidents: u64, samples: u64) -> Waiting {
        Waiting {
            incidents,
            samples,
            dropped_events: 0,
            dropped_samples: 0,
            storage: Storage::Memory,
        }
    }

    fn trouble(kind: TroubleKind) -> Trouble {
        Trouble {
            kind,
            sentence: format!("{kind:?}"),
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_outage_is_said_once_and_then_hourly_and_its_end_once() {
        let (mut standing, start) = standing();
        let first = standing.accepted(Lane::Heartbeat, start, WALL).unwrap();
        assert_eq!(
            first.text,
            "connected to the platform at https://p.example/v1"
        );
        let (mut lines, mut failed_for) = (Vec::new(), 0);
        for second in 0..=3 * 3_600 + 10 {
            let now = after(start, second);
            for lane in [Lane::Live, Lane::Heartbeat] {
                // Time-outs and server errors take turns, as they do while something is restarted.
                let kind = match second % 2 {
                    0 => TroubleKind::Unreachable,
                    _ => TroubleKind::ServerError,
                };
                standing.failed(lane, trouble(kind), now, WALL);
            }
            lines.extend(standing.say(now, &waiting(1, second)));
            failed_for = second;
        }
        let now = after(start, failed_for + 1);
        standing.accepted(Lane::Live, now, WALL);
        assert_eq!(
            standing.say(now, &waiting(1, 9)),
            None,
            "one lane fails still"
        );
        standing.accepted(Lane::Heartbeat, now, WALL);
        lines.extend(standing.say(now, &waiting(1, 9)));
        assert_eq!(standing.say(now, &waiting(1, 9)), None);
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts.len(), 2 * 4 + 1, "{texts:#?}");
        assert!(
            texts[0].starts_with("ServerError. Detection goes on;"),
            "{}",
            texts[0]
        );
        assert!(texts[0].ends_with("(waiting to be told: incidents 1, seconds 3)"));
        assert!(texts[1].starts_with("Unreachable."), "{}", texts[1]);
        assert!(
            texts[2].starts_with("still so after 1 h 0 min: "),
            "{}",
            texts[2]
        );
        assert_eq!(
            *texts.last().unwrap(),
            "the platform takes what this node sends again, after 3 h 0 min (waiting to be told: incidents 1, \
             seconds 9)"
        );
        assert!(lines.iter().all(|line| line.urgency != Urgency::Error));
    }

    #[test]
    fn what_passes_within_seconds_is_not_said() {
        let (mut standing, start) = standing();
        standing.accepted(Lane::Live, start, WALL);
        for second in 0..100 {
            let now = after(start, second * 4);
            standing.failed(Lane::Live, trouble(TroubleKind::Unreachable), now, WALL);
            assert_eq!(standing.say(now, &waiting(0, 1)), None);
            standing.accepted(Lane::Live, after(now, 2), WALL);
            assert_eq!(standing.say(after(now, 2), &waiting(0, 1)), None);
        }
    }

    #[test]
    fn a_platform_that_flaps_does_not_fill_the_journal() {
        let (mut standing, start) = standing();
        let mut lines = 0;
        // Ten minutes of five seconds away, five seconds back.
        for second in 0..600 {
            let now = after(start, second);
            if second % 10 < 5 {
                standing.failed(Lane::Live, trouble(TroubleKind::Unreachable), now, WALL);
            } else {
                standing.accepted(Lane::Live, now, WALL);
            }
            lines += usize::from(standing.say(now, &waiting(0, 0)).is_some());
        }
        assert!((2..=20).contains(&lines), "{lines}");
    }

    #[test]
    fn a_refused_key_is_said_at_once_as_an_error_and_outranks_the_rest() {
        let (mut standing, now) = standing();
        standing.failed(Lane::Live, trouble(TroubleKind::Unreachable), now, WALL);
        standing.failed(Lane::Config, trouble(TroubleKind::KeyRejected), now, WALL);
        standing.failed(Lane::Heartbeat, trouble(TroubleKind::Throttled), now, WALL);
        let line = standing.say(now, &waiting(0, 0)).unwrap();
        assert_eq!(line.urgency, Urgency::Error);
        assert!(line.text.starts_with("KeyRejected."), "{}", line.text);
        let state = standing.changed(WALL).unwrap();
        assert_eq!(state.trouble, Some(TroubleKind::KeyRejected));
        assert_eq!(standing.changed(WALL), None, "given once");
    }

    #[test]
    fn the_health_check_tells_an_outage_from_our_own_trouble() {
        let (mut standing, now) = standing();
        standing.failed(Lane::Live, trouble(TroubleKind::ServerError), now, WALL);
        for (is_up, words) in [(true, "platform is up"), (false, "it is down")] {
            standing.health(is_up, now, WALL);
            let state = standing.changed(WALL).unwrap();
            assert!(state.sentence.contains(words), "{}", state.sentence);
            assert_eq!(state.health, Some(is_up));
        }
    }

    #[test]
    fn each_refused_step_is_said_and_refused_seconds_once_an_hour() {
        let (mut standing, start) = standing();
        let mut said = Vec::new();
        for second in 0..=3_600 {
            let now = after(start, second);
            said.extend(
                standing
                    .refused(Lane::Live, "no", now)
                    .map(|line| line.text),
            );
        }
        assert_eq!(said, ["no", "no (3,599 more since it was last said)"]);
        for _ in 0..3 {
            assert!(standing.refused(Lane::Incident, "no", start).is_some());
        }
        let state = standing.changed(WALL).unwrap();
        assert_eq!(state.refused, 3_604);
        let last = state.last_refusal.clone();
        let sentence = "no".to_owned();
        assert_eq!(last, Some(Refusal { at: WALL, sentence }));
        assert_eq!(standing.says_at(), None, "a refusal is no lasting trouble");
    }

    #[test]
    fn a_conflict_is_said_once_an_hour_and_kept_and_is_no_trouble() {
        let (mut standing, start) = standing();
        let mut said = Vec::new();
        for second in 0..=3_600 {
            let now = after(start, second);
            for lane in [Lane::Incident, Lane::Live] {
                let line = standing.conflicted(lane, &format!("{lane:?}"), now);
                said.extend(line.map(|line| line.text));
                standing.accepted(lane, now, WALL);
            }
        }
        let again = "(3,599 more since it was last said)";
        let hourly = ["Incident", "Live"].map(|lane| format!("{lane} {again}"));
        assert_eq!(
            said,
            [&["Incident".to_owned(), "Live".to_owned()], &hourly[..]].concat()
        );
        let state = standing.changed(WALL).unwrap();
        assert_eq!((state.trouble, state.refused), (None, 0));
        let sentence = "Live".to_owned();
        assert_eq!(state.last_conflict, Some(Refusal { at: WALL, sentence }));
    }

    #[test]
    fn the_state_can_be_read_by_another_program() {
        let (mut standing, now) = standing();
        standing.failed(Lane::Live, trouble(TroubleKind::NoSuchPath), now, WALL);
        standing.bad_body();
        let state = standing.changed(WALL).unwrap();
        let stored = serde_json::to_string(state).unwrap();
        assert!(stored.contains("\"trouble\":\"no_such_path\""), "{stored}");
        assert_eq!(serde_json::from_str::<State>(&stored).unwrap(), *state);
    }
}
