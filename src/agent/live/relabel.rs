//! Puts labels on what the engine found: the timeline's times become UTC, at the edge and nowhere else.
//!
//! All times of an outcome are moved by the same distance, so that what lies between them stays true. An incident's id is
//! a name and keeps the time it was given. On the detector's thread, once a window; nothing is done while the wall clock
//! has not been set since the start.

use super::timeline::Labels;
use crate::engine::Outcome;
use crate::incident::{Event, Incident};

/// Labels everything in `outcome`.
pub(super) fn relabel(outcome: &mut Outcome, labels: &Labels) {
    if let Some(second) = &mut outcome.second {
        second.start = labels.second(second.start);
    }
    for event in &mut outcome.events {
        match event {
            Event::Opened(incident) | Event::Updated(incident, _) | Event::Resolved(incident) => {
                relabel_incident(incident, labels);
            }
        }
    }
}

fn relabel_incident(incident: &mut Incident, labels: &Labels) {
    let standing = &mut incident.standing;
    let times = [
        Some(&mut incident.started_at),
        Some(&mut incident.opened_at),
        Some(&mut incident.last_above_at),
        incident.ended_at.as_mut(),
        Some(&mut standing.seen_until),
        standing.clear_since.as_mut(),
        standing.hold_grown_at.as_mut(),
        standing.resolved_at.as_mut(),
    ];
    for at in times.into_iter().flatten() {
        *at = labels.at(*at);
    }
    for fired in &mut incident.fired {
        fired.at = labels.at(fired.at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::clock::Timestamp;
    use crate::count::{Window, WindowIndex};
    use crate::detect::limits::{SetBy, SetLimit};
    use crate::engine::{Engine, Settings};
    use crate::incident::Report;

    /// Every value of a report that is a time, by its path.
    fn times(value: &Value, path: &str, found: &mut Vec<(String, Timestamp)>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    times(member, &format!("{path}.{name}"), found);
                }
            }
            Value::Array(entries) => entries
                .iter()
                .for_each(|entry| times(entry, &format!("{path}[]"), found)),
            Value::String(_) => {
                if let Ok(at) = serde_json::from_value(value.clone()) {
                    found.push((path.to_owned(), at));
                }
            }
            _ => {}
        }
    }

    fn times_of(event: &Event) -> Vec<(String, Timestamp)> {
        let report = serde_json::to_value(Report::of(event.incident())).unwrap();
        let mut found = Vec::new();
        times(&report, "", &mut found);
        found
    }

    /// An incident from its opening to its end, and the seconds beside it.
    fn outcomes() -> Vec<Outcome> {
        let mut settings = Settings::default();
        let seed = settings.detect.seed;
        settings.detect.limits.set_pps = Some(SetLimit {
            value: 1_000,
            by: SetBy::Local,
        });
        let mut engine = Engine::new(settings, None);
        let mut index = WindowIndex::of(Timestamp::from_seconds(1_773_567_858));
        let mut outcomes = Vec::new();
        for packets in [0; 40].into_iter().chain([500; 60]).chain([0; 260]) {
            let mut window = Window::new(index, seed);
            window.inbound.frames.add(packets, packets * 480);
            outcomes.push(engine.step(&window, None, index.end()));
            index = index.next();
        }
        outcomes
    }

    #[test]
    fn every_time_that_is_told_moves_by_the_same_and_the_name_stays() {
        let by_nanos = -3_600_250_000_000;
        let labels = Labels::ahead(by_nanos);
        let plain = outcomes();
        let mut moved = outcomes();
        let (mut seconds, mut resolved) = (0, 0);
        for (plain, moved) in plain.iter().zip(&mut moved) {
            relabel(moved, &labels);
            assert_eq!(plain.events.len(), moved.events.len());
            for (plain, moved) in plain.events.iter().zip(&moved.events) {
                let (before, after) = (times_of(plain), times_of(moved));
                assert!(before.len() >= 3, "{before:?}");
                let expected: Vec<_> = before
                    .into_iter()
                    .map(|(path, at)| (path, at.moved_by(by_nanos)))
                    .map(|(path, at)| (path, Timestamp::from_nanos(at.as_nanos() / 1_000_000)))
                    .collect();
                let after: Vec<_> = after
                    .into_iter()
                    .map(|(path, at)| (path, Timestamp::from_nanos(at.as_nanos() / 1_000_000)))
                    .collect();
                assert_eq!(after, expected);
                let (plain, moved) = (plain.incident(), moved.incident());
                assert_eq!(plain.id, moved.id);
                assert_eq!(plain.detected_after_millis, moved.detected_after_millis);
                resolved += u32::from(moved.ended_at.is_some());
            }
            if let (Some(plain), Some(moved)) = (&plain.second, &moved.second) {
                assert_eq!(plain.start.nanos_since(moved.start), 3_600_000_000_000);
                seconds += 1;
            }
        }
        assert!(seconds > 10 && resolved == 1, "{seconds} {resolved}");
    }

    #[test]
    fn nothing_moves_while_the_clock_is_as_it_was() {
        let labels = Labels::ahead(0);
        for (plain, mut moved) in outcomes().into_iter().zip(outcomes()) {
            relabel(&mut moved, &labels);
            assert_eq!(plain.events, moved.events);
            assert_eq!(
                plain.second.map(|second| second.start),
                moved.second.map(|second| second.start)
            );
        }
    }
}
