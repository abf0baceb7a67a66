//! What the detector makes of time that is missing, clocks that are set and interfaces that come and go, without waiting
//! for any of it.

use std::sync::Mutex;

use super::super::links::{LinkState, Links};
use super::*;
use crate::capture::counter::CounterReading;
use crate::detect::limits::{LocalLimits, SetBy, SetLimit};
use crate::engine::{Outcome, Settings};
use crate::incident::Event;

fn seed() -> u64 {
    Settings::default().detect.seed
}

fn window(index: WindowIndex, packets: u64, delayed: u64) -> Box<Window> {
    let mut window = Window::new(index, seed());
    window.inbound.frames.add(packets, packets * 800);
    window.loss.delayed = delayed;
    Box::new(window)
}

#[test]
fn what_comes_after_its_window_is_merged_and_called_delayed_once() {
    let first = WindowIndex::of(Timestamp::from_seconds(1_000));
    let (second, third) = (first.next(), first.next().next());
    let mut waiting = Waiting::new(2);
    // One that was late, one that was late and had been stretched, one in time, one stretched, and one of later.
    for delivery in [
        (0, window(first, 10, 0)),
        (0, window(first, 20, 15)),
        (0, window(second, 100, 0)),
        (1, window(second, 200, 60)),
        (1, window(third, 1_000, 0)),
    ] {
        waiting.add(delivery);
    }
    let mut merged = Box::new(Window::new(second, seed()));
    let mut captured = [Captured::default(); 2];
    let mut given_back = Vec::new();
    waiting.merge(&mut merged, &mut captured, |link, _| given_back.push(link));
    assert_eq!(merged.inbound.frames.packets, 330);
    assert_eq!(merged.loss.delayed, 10 + 20 + 60);
    assert_eq!(captured.map(|captured| captured.on_time), [100, 140]);
    assert_eq!(captured.map(|captured| captured.packets), [130, 200]);
    assert_eq!(captured.map(|captured| captured.bytes), [13_000, 20_000]);
    assert_eq!(given_back, [0, 0, 0, 1]);
    assert_eq!(waiting.windows.len(), 1);
}

#[test]
fn the_only_window_there_is_counts_like_one_that_is_merged_and_an_empty_one_is_given_back() {
    let index = WindowIndex::of(Timestamp::from_seconds(1_000));
    let mut waiting = Waiting::new(1);
    for (due, came, delayed, on_time) in [
        // In time; in time and stretched; late.
        (index, window(index, 100, 0), 0, 100),
        (index, window(index, 100, 60), 60, 40),
        (index.next(), window(index, 100, 0), 100, 0),
    ] {
        waiting.add((0, came));
        let mut merged = Box::new(Window::new(due, seed()));
        let mut captured = [Captured::default()];
        let mut given_back = Vec::new();
        waiting.merge(&mut merged, &mut captured, |_, window| {
            given_back.push(window);
        });
        assert_eq!((merged.index, merged.inbound.frames.packets), (due, 100));
        assert_eq!(merged.loss.delayed, delayed);
        assert_eq!((captured[0].packets, captured[0].on_time), (100, on_time));
        assert_eq!((given_back.len(), waiting.windows.len()), (1, 0));
    }
}

#[test]
fn windows_of_a_gap_are_given_back_unmerged_whenever_they_come() {
    let old = WindowIndex::of(Timestamp::from_seconds(1_000));
    let current = WindowIndex::of(Timestamp::from_seconds(1_600));
    let mut waiting = Waiting::new(1);
    waiting.add((0, window(old, 70_000, 0)));
    waiting.begin_at(current);
    waiting.add((0, window(old.next(), 30_000, 0)));
    waiting.add((0, window(current, 5, 0)));
    let mut merged = Box::new(Window::new(current, seed()));
    let mut given_back = 0;
    let mut captured = [Captured::default()];
    waiting.merge(&mut merged, &mut captured, |_, _| given_back += 1);
    assert_eq!((merged.inbound.frames.packets, given_back), (5, 3));
    assert_eq!(merged.loss.delayed, 0);
}

#[test]
fn a_detector_catches_up_for_ten_seconds_and_takes_more_for_a_gap() {
    let due = WindowIndex::of(Timestamp::from_seconds(1_000));
    let at = |seconds: u64| Timestamp::from_seconds(1_000 + seconds);
    assert_eq!(after_gap(due, due.end()), None);
    assert_eq!(after_gap(due, at(10)), None);
    assert_eq!(after_gap(due, at(11)), Some(WindowIndex::of(at(11))));
    // Time never runs backwards; should it, that is no gap.
    assert_eq!(after_gap(due, Timestamp::from_seconds(1)), None);
}

/// Everything the sink was given.
#[derive(Default)]
struct Given {
    outcomes: Vec<Outcome>,
    notices: Vec<String>,
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Given>>);

impl Sink for Told {
    fn outcome(&mut self, outcome: Outcome, _at: Timestamp) {
        self.0.lock().unwrap().outcomes.push(outcome);
    }

    fn notice(&mut self, notice: Notice) {
        self.0.lock().unwrap().notices.push(notice.to_string());
    }
}

/// A judge on a link with 100 packets a window, on a timeline that the test moves.
struct Rig {
    judge: Judge,
    told: Told,
    links: Arc<Links>,
    waiting: Waiting,
    next: WindowIndex,
    began: Timestamp,
    /// What the interface's counter stands at, where it has one.
    counter: Option<u64>,
}

impl Rig {
    fn new(settings: Settings, has_counter: bool) -> Self {
        let links = Arc::new(Links::new(["eth0".to_owned()]));
        links.set(0, up(1));
        let told = Told::default();
        let judge = Judge::new(
            Engine::new(settings, None),
            Counters::new(None, Arc::clone(&links)),
            Labels::ahead(0),
            Telling {
                ledger: Ledger::open(crate::ledger::Settings::default()).unwrap().0,
                pulse: Arc::new(Pulse::new()),
                sink: Box::new(told.clone()),
            },
            1,
            seed(),
        );
        let began = Timestamp::from_seconds(1_773_567_858);
        let mut rig = Self {
            judge,
            told,
            links,
            waiting: Waiting::new(1),
            next: WindowIndex::of(began),
            began,
            counter: has_counter.then_some(5_000_000),
        };
        rig.judge.begin();
        rig.read(began);
        rig
    }

    fn read(&mut self, at: Timestamp) {
        if let Some(counter) = self.counter {
            let at_nanos = at.nanos_since(self.began);
            let reading = CounterReading {
                taken_before_nanos: at_nanos,
                taken_after_nanos: at_nanos,
                packets: counter,
                bytes: counter * 100,
                missed: 0,
            };
            self.judge.counters.push(0, Some(reading));
        }
    }

    /// Windows with so many packets each, as the interface and capture see them.
    fn windows(&mut self, count: u64, packets: u64) {
        for _ in 0..count {
            let index = self.next;
            self.next = index.next();
            self.counter = self.counter.map(|counter| counter + packets);
            self.waiting.add((0, window(index, packets, 0)));
            self.judge.follow_links();
            self.read(index.end());
            let end_nanos = index.end().nanos_since(self.began);
            let waiting = &mut self.waiting;
            self.judge
                .judge(waiting, index, end_nanos, index.end(), |_, _| {});
        }
    }

    /// The process stands still; what comes meanwhile is counted by the interface, and the ring keeps some of it.
    fn pause(&mut self, seconds: u64, packets: u64) {
        let due = self.next;
        let now = due.start().plus_nanos(seconds * 1_000_000_000);
        self.counter = self.counter.map(|counter| counter + packets);
        self.waiting.add((0, window(due, packets.min(90_000), 0)));
        self.next = after_gap(due, now).expect("a gap");
        // The thread goes on a little after the window began.
        self.read(self.next.start().plus_nanos(3_000_000));
        self.waiting.begin_at(self.next);
        let next_nanos = self.next.start().nanos_since(self.began);
        self.judge.pass_over(due, self.next, next_nanos);
    }

    fn events(&self) -> Vec<Event> {
        let told = self.told.0.lock().unwrap();
        let events = told.outcomes.iter().flat_map(|outcome| &outcome.events);
        events.cloned().collect()
    }

    /// Notices but those of limits.
    fn notices(&self) -> Vec<String> {
        let mut notices = self.told.0.lock().unwrap().notices.clone();
        notices.retain(|notice| !is_of_limits(notice));
        notices
    }

    fn limits_told(&self) -> Vec<String> {
        let mut notices = self.told.0.lock().unwrap().notices.clone();
        notices.retain(|notice| is_of_limits(notice));
        notices
    }

    /// The seconds that were told: when, and how many packets.
    fn seconds(&self) -> Vec<(u64, u64)> {
        let told = self.told.0.lock().unwrap();
        let seconds = told
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.second.as_ref());
        seconds
            .map(|second| (second.start.as_seconds(), second.pps))
            .collect()
    }

    fn mean(&self) -> Option<u64> {
        self.judge.engine.detector().normal().mean_pps
    }

    /// What is stored of the baseline, by its path.
    fn stored(&self, path: &str) -> Option<u64> {
        let state = serde_json::to_value(self.judge.engine.detector().baseline().state()).unwrap();
        state.pointer(path).and_then(serde_json::Value::as_u64)
    }
}

fn is_of_limits(notice: &str) -> bool {
    notice.starts_with("limits ")
}

fn up(captures: u32) -> LinkState {
    LinkState {
        index: Some(2),
        is_watched: true,
        captures,
    }
}

fn limit(pps: u64) -> Settings {
    let mut settings = Settings::default();
    settings.detect.limits.set_pps = Some(SetLimit {
        value: pps,
        by: SetBy::Local,
    });
    settings
}

#[test]
fn a_pause_of_ten_minutes_is_dropped_raises_no_alarm_and_teaches_nothing() {
    for has_counter in [true, false] {
        let mut rig = Rig::new(limit(20_000), has_counter);
        rig.windows(20 * 90, 100);
        let (mean, observed) = (rig.mean(), rig.stored("/clock/observed"));
        assert_eq!(mean, Some(2_000));
        rig.pause(600, 1_200_000);
        rig.windows(20 * 30, 100);
        assert!(rig.events().is_empty(), "{:?}", rig.events());
        assert_eq!(rig.mean(), mean, "counter: {has_counter}");
        let seen = rig.stored("/clock/observed").zip(observed);
        let seen = seen.map(|(now, before)| now - before);
        // The seconds that the pause cut are not whole.
        assert!((28..=30).contains(&seen.unwrap()), "{seen:?}");
        let most = rig.seconds().iter().map(|(_, pps)| *pps).max();
        // The first window after it begins where the line through two readings 600 s apart says.
        assert!(
            most.is_some_and(|pps| (2_000..=2_010).contains(&pps)),
            "{most:?}, counter: {has_counter}"
        );
        let counted = if has_counter {
            "1,199,994 packets came"
        } else {
            "nobody counted what came"
        };
        let said = format!("held up for 10 min 0 s: {counted} in a time that is not judged");
        assert_eq!(rig.notices(), [said]);
    }
}

#[test]
fn a_pause_in_an_attack_ends_the_incident_when_it_was_last_seen() {
    let mut rig = Rig::new(limit(20_000), true);
    rig.windows(20 * 5, 100);
    rig.windows(20 * 5, 5_000);
    rig.pause(600, 1_000);
    rig.windows(20 * 5, 100);
    let events = rig.events();
    assert!(
        matches!(events.first(), Some(Event::Opened(_))),
        "{events:?}"
    );
    let Some(Event::Resolved(incident)) = events.last() else {
        panic!("{events:?}");
    };
    let lasted = incident.ended_at.unwrap().millis_since(incident.started_at);
    assert!((4_900..=5_100).contains(&lasted), "{lasted} ms");
}

#[test]
fn a_clock_that_is_set_moves_labels_and_neither_repeats_nor_loses_a_window() {
    const HOUR: i64 = 3_600;
    for by in [-HOUR, HOUR, -20_000 * HOUR] {
        let mut rig = Rig::new(limit(20_000), true);
        rig.windows(20 * 90, 100);
        rig.windows(20 * 3, 5_000);
        let (mean, observed) = (rig.mean(), rig.stored("/clock/observed"));
        let before = rig.seconds();
        rig.judge.labels = Labels::ahead(by * 1_000_000_000);
        rig.judge.clock_was_set(Step {
            by_nanos: by * 1_000_000_000,
            learned_by_seconds: by,
        });
        rig.windows(20 * 3, 5_000);
        rig.windows(20 * 150, 100);
        let after = rig.seconds().split_off(before.len());
        assert_eq!(after.len(), 153, "{by}");
        let expected = before.last().unwrap().0.checked_add_signed(by).unwrap() + 1;
        assert!(
            after
                .iter()
                .zip(expected..)
                .all(|((start, _), expected)| *start == expected),
            "{by}: {after:?}"
        );
        let events = rig.events();
        let opened = events
            .iter()
            .filter(|event| matches!(event, Event::Opened(_)));
        assert_eq!(opened.count(), 1, "{by}: {events:?}");
        let Some(Event::Resolved(incident)) = events.last() else {
            panic!("{by}: {events:?}");
        };
        let lasted = incident.ended_at.unwrap().millis_since(incident.started_at);
        assert!((5_900..=6_100).contains(&lasted), "{by}: {lasted} ms");
        assert_eq!(rig.mean(), mean, "{by}");
        let seen = rig.stored("/clock/observed").zip(observed);
        assert_eq!(seen.map(|(now, before)| now - before), Some(153), "{by}");
        let last = rig.stored("/last_second");
        assert_eq!(last, after.last().map(|(start, _)| *start), "{by}");
    }
}

#[test]
fn seconds_without_the_interface_are_told_as_zeros_and_not_learned() {
    let mut rig = Rig::new(Settings::default(), false);
    rig.windows(20 * 100, 100);
    let (mean, observed) = (rig.mean(), rig.stored("/clock/observed"));
    rig.links.set(
        0,
        LinkState {
            index: None,
            is_watched: false,
            captures: 1,
        },
    );
    rig.windows(20 * 120, 0);
    assert_eq!(rig.stored("/clock/observed"), observed);
    assert_eq!(rig.mean(), mean);
    let silent = rig.seconds().iter().filter(|(_, pps)| *pps == 0).count();
    assert_eq!(silent, 120);
    // It is back: seen again, and learned once everything has reconnected.
    rig.links.set(0, up(2));
    rig.windows(20 * 61, 900);
    assert_eq!(rig.mean(), mean);
    assert!(rig.stored("/clock/observed") > observed);
    assert!(rig.events().is_empty());
}

#[test]
fn an_attack_that_an_interface_comes_back_into_stays_one_incident() {
    let mut rig = Rig::new(limit(20_000), false);
    rig.windows(20 * 5, 100);
    rig.windows(20 * 5, 5_000);
    rig.links.set(0, LinkState::default());
    rig.windows(20 * 3, 0);
    rig.links.set(0, up(2));
    rig.windows(20 * 5, 5_000);
    rig.windows(20 * 15, 100);
    let events = rig.events();
    let kinds: Vec<_> = events
        .iter()
        .filter(|event| !matches!(event, Event::Updated(..)))
        .collect();
    assert!(
        matches!(kinds[..], [Event::Opened(_), Event::Resolved(_)]),
        "{events:?}"
    );
    assert_eq!(events.last().map(|event| event.incident().pulses), Some(0));
}

#[test]
fn limits_are_said_when_they_rest_on_something_new_and_only_then() {
    let mut rig = Rig::new(Settings::default(), false);
    rig.windows(20 * 9, 300);
    assert!(rig.limits_told().is_empty());
    rig.windows(20 * 2, 300);
    let first = "limits while learning starts: packets: limit 36,000 packets/s (6 x the busiest second so far of 6,000 \
                 packets/s); bits: limit 200.0 Mbit/s (2 x the floor for learned limits, while learning starts)";
    assert_eq!(rig.limits_told(), [first]);
    // The limit rises with the busiest second, which is no news.
    rig.windows(20 * 280, 400);
    assert_eq!(rig.limits_told().len(), 1);
    rig.windows(20 * 10, 400);
    let told = rig.limits_told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("limits while warming up: packets: limit "));
    // Somebody sets one, and takes it back.
    rig.judge.obey(Order::Limits(LocalLimits {
        pps: limit(90_000).detect.limits.set_pps,
        bps: None,
    }));
    rig.windows(1, 400);
    rig.judge.obey(Order::Limits(LocalLimits::default()));
    rig.windows(20, 400);
    let told = rig.limits_told();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[2].contains("packets: limit 90,000 packets/s (set with --threshold-pps); bits: "));
    assert!(told[3].starts_with("limits while warming up: packets: limit "));
}
