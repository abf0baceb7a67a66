//! Incidents across restarts, limits that change under traffic, and reports that are stored and found again.
//!
//! Made-up traffic through classifier, meter and engine on a logical clock. A restart is a new engine that gets what a
//! state directory would hold: the baseline, and the last report as JSON.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on says so by panicking, and made-up addresses are cut to size on purpose"
)]

#[path = "common/traffic.rs"]
#[allow(dead_code, reason = "a toolbox")]
mod traffic;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ftagent::clock::Timestamp;
use ftagent::count::{Window, WindowIndex};
use ftagent::detect::Family;
use ftagent::detect::limits::{LocalLimits, PlatformLimits, SetBy, SetLimit};
use ftagent::engine::{Engine, Settings, Vitals};
use ftagent::incident::{Explanation, Incident, Report, Severity};
use proptest::prelude::*;
use traffic::{Flood, Packets, Play, Scene, Told, at, flag};

fn syn() -> Packets {
    Packets::tcp(flag::SYN, 0)
}

fn udp() -> Packets {
    Packets::udp(None, 9_999, &[7; 400])
}

/// A flood of five times the limit between these milliseconds.
fn flooded(packets: Packets, millis: std::ops::Range<u64>) -> Scene {
    Scene::new().limit_pps(1_000).flood(packets, 5_000, millis)
}

fn kinds(play: &Play) -> Vec<&'static str> {
    let quiet = ["periodic", "peak", "renamed", "vectors", "severity"];
    let kinds = play.told.iter().map(Told::kind);
    kinds.filter(|kind| !quiet.contains(kind)).collect()
}

fn sentences(incident: &Incident) -> String {
    Explanation::of(incident).sentences.join(" ")
}

#[test]
fn an_attack_that_outlives_the_agent_is_one_incident() {
    for (down_millis, orderly) in [(0, false), (2_000, false), (0, true), (2_000, true)] {
        let scene = flooded(syn(), 2_000..30_000);
        let scene = if orderly {
            scene.stop(15_000, down_millis)
        } else {
            scene.crash(15_000, down_millis)
        };
        let play = scene.play(60_000);
        let expected: &[&str] = if orderly {
            &["opened", "suspended", "resumed", "resolved"]
        } else {
            &["opened", "resumed", "resolved"]
        };
        assert_eq!(kinds(&play), expected, "{}", play.log());
        let (opened, ended) = (play.of("opened")[0], play.only());
        let resumed = play.told.iter().find(|told| told.kind() == "resumed");
        let resumed = resumed.expect("it goes on");
        let delay = resumed.at.millis_since(at(15_000 + down_millis));
        assert!(
            delay <= 250,
            "{delay} ms: told as soon as it is over the limit again"
        );
        for of in [resumed.incident(), ended] {
            assert_eq!(of.id.to_string(), opened.id.to_string());
            assert_eq!(of.started_at.as_nanos() / 1_000_000, 1_773_567_602_000);
            assert_eq!(of.interruptions, 1);
            assert_eq!(
                (of.family, of.severity),
                (Family::SynFlood, opened.severity)
            );
            assert_eq!(of.fired.len(), 1, "it fired once: {:?}", of.fired);
            assert!(of.peak_pps >= 5_000, "{}", play.log());
        }
        assert_eq!(
            (ended.ended_at, ended.ended_unseen),
            (Some(at(30_000)), false)
        );
        let said = sentences(ended);
        assert!(
            said.contains("The agent was restarted once while it went on"),
            "{said}"
        );
        // Killed, it has lost what came since the last report; stopped, only what came meanwhile.
        let lost = down_millis * 5 + if orderly { 0 } else { 25_000 };
        let all = 28_000 * 5;
        assert!(
            ended.total.packets <= all && ended.total.packets + lost + 100 >= all,
            "{} of {all}, {lost} lost",
            ended.total.packets
        );
    }
}

#[test]
fn a_planned_restart_loses_no_packet_of_the_totals() {
    let scene = || flooded(syn(), 2_000..20_000);
    let (whole, parts) = (scene().play(60_000), scene().stop(9_250, 0).play(60_000));
    let (whole, parts) = (whole.only(), parts.only());
    assert_eq!(parts.total, whole.total);
    assert_eq!(parts.tcp_flags, whole.tcp_flags);
    let sums = |of: &Incident| {
        let facts = of.forensics.clone();
        (facts.captured, facts.tcp, facts.lengths, facts.ttls)
    };
    assert_eq!(sums(parts), sums(whole));
    assert_eq!(parts.peak_pps, whole.peak_pps);
    assert!(
        parts.sources.count < whole.sources.count,
        "these begin anew"
    );
}

#[test]
fn severity_and_peak_never_fall_with_a_restart() {
    let play = Scene::new()
        .limit_pps(1_000)
        .flood(syn(), 60_000, 2_000..6_000)
        .flood(syn(), 1_500, 6_000..30_000)
        .crash(12_000, 500)
        .play(60_000);
    let before = play.of("opened")[0].severity;
    assert_eq!(before, Severity::Critical);
    let resumed = play.told.iter().skip_while(|told| told.kind() != "resumed");
    let after: Vec<&Incident> = resumed.map(Told::incident).collect();
    assert!(after.len() >= 4, "{}", play.log());
    for of in after {
        assert_eq!(of.severity, Severity::Critical, "{}", play.log());
        assert!(of.peak_pps >= 57_000, "{}", play.log());
    }
}

#[test]
fn a_severity_that_was_told_stays_whatever_it_was_measured_with() {
    let scene = || {
        Scene::new()
            .limit_pps(1_000)
            .flood(syn(), 1_500, 1_000..8_000)
    };
    let play = scene().play(30_000);
    let mut stored = Report::of(play.of("opened")[0]);
    assert_eq!(stored.severity, Severity::High);
    stored.severity = Severity::Critical;
    let resumed = scene().hook(0, move |engine| assert!(engine.resume(&stored)));
    let play = resumed.play(30_000);
    assert_eq!(kinds(&play), ["resumed", "resolved"], "{}", play.log());
    let severities = play.told.iter().map(|told| told.incident().severity);
    assert!(
        severities.clone().all(|of| of == Severity::Critical),
        "{}",
        play.log()
    );
}

#[test]
fn what_ended_while_nobody_looked_is_resolved_once_and_says_so() {
    let play = flooded(syn(), 2_000..16_000)
        .crash(15_000, 5_000)
        .play(200_000);
    assert_eq!(kinds(&play), ["opened", "resolved"], "{}", play.log());
    let stored = play.told[play.told.len() - 2].incident();
    let told = play.told.last().expect("it is resolved");
    let ended = told.incident();
    let hold = told.at.millis_since(at(20_000));
    assert!(
        (10_000..10_100).contains(&hold),
        "{hold} ms after the start"
    );
    assert!(ended.ended_unseen);
    assert_eq!(ended.ended_at, Some(stored.last_above_at));
    assert_eq!(ended.total, stored.total);
    assert_eq!(ended.top_sources, stored.top_sources);
    assert_eq!(ended.sources, stored.sources);
    assert_eq!(ended.vectors, stored.vectors);
    assert_eq!(ended.protocols, stored.protocols);
    assert_eq!(ended.severity, stored.severity);
    let said = sentences(ended);
    assert!(said.contains("its end was not seen"), "{said}");
    // All but the end is as it was told.
    let report = |incident: &Incident| Report {
        ended_at: None,
        ended_unseen: false,
        interruptions: 0,
        kept: None,
        ..Report::of(incident)
    };
    assert_eq!(report(ended), report(stored));
}

#[test]
fn an_end_that_was_seen_before_the_stop_is_not_called_unseen() {
    let play = flooded(syn(), 2_000..12_000)
        .stop(16_000, 1_000)
        .play(60_000);
    assert_eq!(kinds(&play), ["opened", "suspended", "resolved"]);
    let ended = play.only();
    assert_eq!(
        (ended.ended_at, ended.ended_unseen),
        (Some(at(12_000)), false)
    );
}

#[test]
fn what_is_older_than_it_could_have_stayed_open_is_resolved_with_the_first_window() {
    // The hold is 10 s, and what comes back within 120 s after that is the same attack.
    for (down_millis, opened) in [(125_000, 1), (140_000, 2)] {
        let start = 15_000 + down_millis;
        let play = flooded(syn(), 2_000..16_000)
            .flood(syn(), 5_000, start..start + 20_000)
            .crash(15_000, down_millis)
            .play(start + 60_000);
        assert_eq!(play.of("opened").len(), opened, "{}", play.log());
        if opened == 1 {
            assert_eq!(kinds(&play), ["opened", "resumed", "resolved"]);
            continue;
        }
        let first = &play.told.iter().find(|told| told.kind() == "resolved");
        let first = first.expect("it is resolved");
        assert_eq!(first.at, at(start + 50), "{}", play.log());
        assert!(first.incident().ended_unseen);
        let ids: Vec<u32> = play.of("opened").iter().map(|of| of.id.sequence).collect();
        assert_eq!(ids, [0, 1]);
        let campaigns: Vec<u32> = play.of("opened").iter().map(|of| of.campaign).collect();
        assert_eq!(campaigns, [0, 0], "the same family within half an hour");
        assert!(play.is_complete());
    }
}

#[test]
fn what_comes_back_after_an_unseen_end_is_the_same_incident_if_it_may_be() {
    let scene = |packets: Packets| {
        flooded(syn(), 2_000..16_000)
            .flood(packets, 5_000, 60_000..70_000)
            .crash(15_000, 2_000)
    };
    let play = scene(syn()).play(120_000);
    let expected = ["opened", "resolved", "reopened", "resolved"];
    assert_eq!(kinds(&play), expected, "{}", play.log());
    let unseen: Vec<bool> = play
        .of("resolved")
        .iter()
        .map(|of| of.ended_unseen)
        .collect();
    assert_eq!(unseen, [true, false], "the second end was seen");
    assert_eq!(play.of("resolved")[1].pulses, 1);

    let play = scene(udp()).play(120_000);
    let expected = ["opened", "resolved", "opened", "resolved"];
    assert_eq!(kinds(&play), expected, "{}", play.log());
    let families: Vec<Family> = play.of("resolved").iter().map(|of| of.family).collect();
    assert_eq!(families, [Family::SynFlood, Family::UdpFlood]);
}

#[test]
fn another_family_at_the_start_is_another_attack_only_when_the_pause_was_long() {
    for (down_millis, opened) in [(3_000, 1), (30_000, 2)] {
        let start = 15_000 + down_millis;
        let play = flooded(syn(), 2_000..15_000)
            .flood(udp(), 5_000, start..start + 20_000)
            .crash(15_000, down_millis)
            .play(start + 60_000);
        assert_eq!(play.of("opened").len(), opened, "{}", play.log());
        assert!(play.is_complete(), "{}", play.log());
        if opened == 2 {
            let (first, second) = (play.of("resolved")[0], play.of("resolved")[1]);
            assert!(first.ended_unseen && !second.ended_unseen);
            assert_eq!(first.family, Family::SynFlood);
            assert_eq!(second.family, Family::UdpFlood);
            assert_eq!((second.id.sequence, second.interruptions), (1, 0));
        }
    }
}

#[test]
fn a_resolved_incident_comes_back_across_a_restart_as_it_would_without() {
    let scene = || flooded(syn(), 2_000..5_000).flood(syn(), 5_000, 60_000..65_000);
    for scene in [
        scene(),
        scene().stop(30_000, 1_000),
        scene().crash(30_000, 1_000),
    ] {
        let play = scene.play(120_000);
        let expected = ["opened", "resolved", "reopened", "resolved"];
        assert_eq!(kinds(&play), expected, "{}", play.log());
        let last = play.of("resolved")[1];
        assert_eq!((last.pulses, last.ended_at), (1, Some(at(65_000))));
        assert!(!last.ended_unseen);
    }
}

#[test]
fn incidents_that_are_over_name_campaigns_across_a_restart() {
    let scene = || {
        flooded(syn(), 2_000..5_000)
            .flood(udp(), 5_000, 200_000..203_000)
            .flood(syn(), 5_000, 500_000..503_000)
    };
    for scene in [scene(), scene().crash(400_000, 1_000)] {
        let play = scene.play(600_000);
        let opened = play.of("opened");
        let numbers: Vec<_> = opened
            .iter()
            .map(|of| (of.id.sequence, of.campaign))
            .collect();
        assert_eq!(numbers, [(0, 0), (1, 1), (2, 0)], "{}", play.log());
        assert!(play.is_complete(), "{}", play.log());
    }
}

#[test]
fn the_hold_of_a_pulsed_attack_outlives_the_agent() {
    let mut scene = Scene::new().limit_pps(1_000);
    for pulse in 0..5 {
        let from = 2_000 + pulse * 60_000;
        scene = scene.flood(syn(), 5_000, from..from + 5_000);
    }
    // In the third pause: the hold is 110 s by then.
    let play = scene.stop(140_000, 1_000).play(600_000);
    let expected = [
        "opened",
        "resolved",
        "reopened",
        "suspended",
        "resumed",
        "resolved",
    ];
    assert_eq!(kinds(&play), expected, "{}", play.log());
    let last = play.of("resolved")[1];
    assert_eq!(last.pulses, 4, "{}", play.log());
    assert_eq!(last.ended_at, Some(at(247_000)));
}

#[test]
fn restarts_in_a_row_are_counted_and_lose_nothing_that_was_told() {
    let play = flooded(syn(), 2_000..60_000)
        .crash(10_000, 500)
        // Killed again before it was over the limit.
        .crash(10_550, 500)
        .crash(20_000, 500)
        .stop(30_000, 500)
        .play(100_000);
    let expected = [
        "opened",
        "resumed",
        "resumed",
        "suspended",
        "resumed",
        "resolved",
    ];
    assert_eq!(kinds(&play), expected, "{}", play.log());
    let ended = play.only();
    assert_eq!(
        ended.interruptions, 3,
        "the one nobody was told of is not counted"
    );
    assert_eq!(ended.ended_at, Some(at(60_000)));
    let said = sentences(ended);
    assert!(said.contains("restarted 3 times"), "{said}");
}

#[test]
fn a_stop_while_it_is_looked_out_for_tells_nothing_and_the_end_of_everything_resolves_it() {
    let scene = || flooded(syn(), 2_000..15_000).crash(15_000, 1_000);
    let play = scene().stop(20_000, 1_000).play(60_000);
    assert_eq!(kinds(&play), ["opened", "resolved"], "{}", play.log());
    let play = scene().play(20_000);
    assert_eq!(kinds(&play), ["opened", "resolved"], "{}", play.log());
    assert!(play.only().ended_unseen);
}

/// 2,000 packets a second are normal, 8,000 would be the learned limit, 1,500 is the one that was set.
fn limit_below_normal() -> Scene {
    let usual = Flood::new(udp(), 2_000).from(50, [10, 0, 0, 0]);
    let mut scene = Scene::new().limit_pps(1_500).learned_after(10, 4_000);
    scene.warm_seconds = 20;
    scene.add(usual)
}

#[test]
fn a_limit_below_normal_stays_one_low_incident() {
    let play = limit_below_normal().stop(60_000, 1_000).play(100_000);
    let expected = ["opened", "suspended", "resumed", "resolved"];
    assert_eq!(kinds(&play), expected, "{}", play.log());
    let ended = play.only();
    assert_eq!(ended.severity, Severity::Low);
    assert_eq!(ended.fitting_limit, Some(8_000));
    // A flood while nobody looked is that flood's story from then on.
    let play = limit_below_normal()
        .flood(syn(), 60_000, 60_500..70_000)
        .stop(60_000, 1_000)
        .play(75_000);
    let raised = play
        .told
        .iter()
        .find(|told| told.incident().severity > Severity::Low);
    let raised = raised.expect("it is raised");
    assert_eq!(raised.incident().id.sequence, 0, "{}", play.log());
    assert!(raised.at.millis_since(at(61_000)) <= 300, "{}", play.log());
}

#[test]
fn a_clock_that_was_set_back_meanwhile_does_not_keep_it_open() {
    let play = flooded(syn(), 2_000..20_000).play_until(10_000, &mut |play| play.told.len() == 2);
    let mut stored = Report::of(play.told[1].incident());
    let years = 10 * 365 * 86_400 * Timestamp::NANOS_PER_SECOND;
    for time in [&mut stored.started_at, &mut stored.opened_at] {
        *time = time.plus_nanos(years);
    }
    let kept = stored.kept.as_mut().expect("it is stored");
    for time in [&mut kept.seen_until, &mut kept.last_above_at] {
        *time = time.map(|time| time.plus_nanos(years));
    }
    let mut engine = Engine::new(Settings::default(), None);
    assert!(engine.resume(&stored));
    let told = silence(&mut engine, at(10_000), 10);
    assert_eq!(told.len(), 1, "resolved after the hold");
    // And it is forgotten after two minutes, not after ten years.
    local(Some(1))(&mut engine);
    assert!(silence(&mut engine, at(20_100), 121).is_empty());
    let mut window = Window::new(WindowIndex::of(at(141_200)), 1);
    window.inbound.frames.add(5, 2_400);
    let outcome = engine.step(&window, None, window.index.end());
    assert_eq!(outcome.opened(), 1, "{:?}", outcome.events);
}

/// So many seconds in which nothing happens.
fn silence(engine: &mut Engine, from: Timestamp, seconds: u64) -> Vec<ftagent::incident::Event> {
    let seed = ftagent::count::Settings::default().seed;
    let mut window = Window::new(WindowIndex::of(from), seed);
    let mut told = Vec::new();
    for _ in 0..=seconds * 20 {
        let outcome = engine.step(&window, None, window.index.end());
        told.extend(outcome.events);
        let next = window.index.next();
        window.reset(next);
    }
    told
}

/// Reports of all kinds.
fn reports() -> Vec<Report> {
    let fragments = Packets::fragmented_udp(Some(53), &[7; 900]);
    let few = Flood::new(udp(), 8_000).from(60, [10, 0, 0, 0]);
    let scenes = [
        flooded(syn(), 2_000..8_000)
            .flood(fragments, 2_000, 1_000..5_000)
            .play(30_000),
        Scene::new()
            .limit_bps(1_000_000)
            .add(few.during(1_333..9_777))
            .stop(5_000, 0)
            .play(30_000),
        limit_below_normal().crash(50_000, 100).play(60_000),
        Scene::new()
            .flood(syn(), 5_000, 1_000..3_000)
            .hook(0, platform(2_000, 300, 0))
            .play(20_000),
    ];
    let told = scenes.iter().flat_map(|play| &play.told);
    told.map(|told| Report::of(told.incident())).collect()
}

fn platform(pps_threshold: u64, mean_pps: u64, p99_pps: u64) -> impl FnMut(&mut Engine) {
    move |engine| {
        engine.set_platform(PlatformLimits {
            pps_threshold: Some(pps_threshold),
            mean_pps: Some(mean_pps),
            p99_pps: Some(p99_pps),
        });
    }
}

fn local(pps: Option<u64>) -> impl FnMut(&mut Engine) {
    let by = SetBy::Local;
    let pps = pps.map(|value| SetLimit { value, by });
    move |engine| engine.set_limits(LocalLimits { pps, bps: None })
}

#[test]
fn a_report_survives_being_written_and_read() {
    let reports = reports();
    assert!(reports.len() > 15, "{}", reports.len());
    for report in reports {
        let written = serde_json::to_string(&report).expect("it can be written");
        let read: Report = serde_json::from_str(&written).expect("it can be read");
        assert_eq!(read, report);
        let incident = read.incident().expect("its id is ours");
        assert_eq!(
            Report::of(&incident),
            report,
            "nothing is lost on the way to the incident"
        );
    }
}

#[test]
fn the_explanation_of_a_stored_incident_is_the_one_that_was_given() {
    for play in [
        flooded(syn(), 2_000..8_000).play(30_000),
        limit_below_normal().play(60_000),
    ] {
        for told in &play.told {
            let recalled = Report::of(told.incident()).incident().expect("ours");
            // Times are stored to the millisecond, which is how they are written.
            let explained = Explanation::of(&recalled);
            assert_eq!(explained, Explanation::of(told.incident()));
        }
    }
}

#[test]
fn what_a_newer_version_adds_is_passed_over_and_what_an_older_one_lacks_is_not_missed() {
    for report in reports() {
        let mut value = serde_json::to_value(&report).expect("it can be written");
        let object = value.as_object_mut().expect("an object");
        object.insert("geo_breakdown".into(), serde_json::json!({"NL": 3}));
        for part in ["forensics", "kept", "protocol_breakdown"] {
            let part = object.get_mut(part).and_then(|part| part.as_object_mut());
            part.expect("there").insert("newer".into(), 7.into());
        }
        let read: Report = serde_json::from_value(value.clone()).expect("it can be read");
        assert_eq!(read, report);

        let object = value.as_object_mut().expect("an object");
        for newer in ["forensics", "kept", "ended_unseen", "interruptions"] {
            object.remove(newer).expect("it was written");
        }
        let old: Report = serde_json::from_value(value).expect("an old one can be read");
        let expected = Report {
            forensics: None,
            kept: None,
            ended_unseen: false,
            interruptions: 0,
            ..report.clone()
        };
        assert_eq!(old, expected);
        let mut engine = Engine::new(Settings::default(), None);
        assert!(engine.resume(&old));
        let told = silence(&mut engine, old.opened_at, 11);
        assert_eq!(told.len(), usize::from(old.ended_at.is_none()));
        for event in told {
            assert_eq!(event.incident().id.to_string(), report.id);
            assert_eq!(event.incident().total.packets, report.packets);
            assert!(event.incident().ended_unseen);
        }
    }
}

#[test]
fn an_id_that_is_not_ours_is_not_gone_on_with() {
    let report = reports().remove(0);
    for id in [
        "",
        "1-",
        "-1",
        "1-2-3",
        "01-2",
        "+1-2",
        "1-4294967296",
        "99999999999999999999-0",
        "a-b",
    ] {
        let mut engine = Engine::new(Settings::default(), None);
        let stored = Report {
            id: id.to_owned(),
            ..report.clone()
        };
        assert!(!engine.resume(&stored), "{id}");
        assert!(engine.open_incident().is_none());
    }
}

/// A number in a damaged report.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()]
}

/// Puts `number` in the place of the number number `at`.
fn damage(value: &mut serde_json::Value, at: &mut usize, number: u64) {
    match value {
        serde_json::Value::Number(found) if found.is_u64() => {
            if *at == 0 {
                *value = number.into();
            }
            *at = at.wrapping_sub(1);
        }
        serde_json::Value::Array(entries) => {
            entries
                .iter_mut()
                .for_each(|entry| damage(entry, at, number));
        }
        serde_json::Value::Object(members) => {
            members
                .values_mut()
                .for_each(|member| damage(member, at, number));
        }
        _ => {}
    }
}

/// On and off, in tenths of a second, and when the agent is restarted, in windows.
#[derive(Clone, Debug)]
struct OnOff {
    bursts: Vec<(u64, u64)>,
    restarts: Vec<(u64, bool)>,
}

impl OnOff {
    /// Milliseconds from the first burst to two seconds after the last hold.
    fn millis(&self) -> u64 {
        let sum: u64 = self.bursts.iter().map(|(on, off)| on + off).sum();
        sum * 100 + 12_000
    }

    fn play(&self, restarts: bool) -> Play {
        let mut scene = Scene::new().limit_pps(100);
        let incident = &mut scene.settings.incident;
        incident.hold_millis = 1_000;
        incident.longest_hold_millis = 3_000;
        incident.reopen_millis = 4_000;
        incident.campaign_millis = 60_000;
        incident.update_millis = 500;
        let mut from = 1_000;
        let mut onsets = Vec::new();
        for (on, off) in &self.bursts {
            scene = scene.flood(syn(), 600, from..from + on * 100);
            onsets.push(from..from + 300);
            from += (on + off) * 100;
        }
        if restarts {
            for (window, orderly) in &self.restarts {
                let millis = window * 50;
                // What has begun and is not recognised yet nobody has stored: it is recognised later, or was too short.
                if onsets.iter().any(|onset| onset.contains(&millis)) {
                    continue;
                }
                scene = if *orderly {
                    scene.stop(millis, 0)
                } else {
                    scene.crash(millis, 0)
                };
            }
        }
        scene.play(self.millis())
    }
}

/// Pauses are clearly shorter than the hold, clearly within the time to come back, or clearly beyond both: where exactly
/// the line is depends on when something was seen last, and a killed agent has told that up to half a second ago.
fn on_off() -> impl Strategy<Value = OnOff> {
    let pause = prop_oneof![1_u64..7, 14_u64..38, 110_u64..130];
    let bursts = prop::collection::vec((4_u64..30, pause), 1..6);
    let restarts = prop::collection::btree_map(30_u64..1_200, any::<bool>(), 0..6);
    (bursts, restarts).prop_map(|(bursts, restarts)| OnOff {
        bursts,
        restarts: restarts.into_iter().collect(),
    })
}

/// The incidents by id: when they last ended, and how often they had come back.
fn lives(play: &Play) -> BTreeMap<String, (Timestamp, u32)> {
    let life = |told: &Told| {
        let of = told.incident();
        (of.id.to_string(), (of.last_above_at, of.pulses))
    };
    play.told.iter().map(life).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn restarts_at_any_time_change_no_id(story in on_off()) {
        let (without, with) = (story.play(false), story.play(true));
        let log = || format!("without\n{}\nwith\n{}", without.log(), with.log());
        let ids = |play: &Play| lives(play).into_keys().collect::<Vec<_>>();
        prop_assert_eq!(ids(&with), ids(&without), "{}", log());
        for play in [&without, &with] {
            let mut open: BTreeMap<String, bool> = BTreeMap::new();
            for told in &play.told {
                let id = told.incident().id.to_string();
                let before = open.get(&id).copied();
                let fits = match told.kind() {
                    "opened" => before.is_none(),
                    "reopened" => before == Some(false),
                    _ => before == Some(true),
                };
                prop_assert!(fits, "{} of {id} at {:?}\n{}", told.kind(), told.at, log());
                open.insert(id, told.kind() != "resolved");
            }
            prop_assert!(open.values().all(|open| !open), "all have ended\n{}", log());
        }
        // Restarts that were told to stop lose nothing at all.
        if story.restarts.iter().all(|(_, orderly)| *orderly) {
            prop_assert_eq!(lives(&with), lives(&without), "{}", log());
        }
    }

    #[test]
    fn a_damaged_report_is_gone_on_with_or_not_and_never_stops_the_engine(
        kind in 0_usize..6,
        damages in prop::collection::vec((0_usize..400, any_number()), 1..6),
    ) {
        let report = reports_once().swap_remove(kind);
        let mut value = serde_json::to_value(&report).expect("it can be written");
        for (at, number) in damages {
            damage(&mut value, &mut at.clone(), number);
        }
        let Ok(stored) = serde_json::from_value::<Report>(value) else {
            return Ok(());
        };
        let mut scene = Scene::new().limit_pps(100).flood(syn(), 600, 2_000..4_000);
        scene = scene.hook(1_000, move |engine: &mut Engine| {
            let _ = engine.resume(&stored);
        });
        let play = scene.play(20_000);
        prop_assert!(play.of("resolved").len() <= 2);
        for told in &play.told {
            let _ = (Explanation::of(told.incident()), Report::of(told.incident()));
        }
    }
}

/// A report of each kind of event, made once.
fn reports_once() -> Vec<Report> {
    thread_local! {
        static MADE: Vec<Report> = {
            let play = flooded(syn(), 2_000..8_000).stop(5_000, 0).play(30_000);
            let mut made: Vec<Report> =
                play.told.iter().map(|told| Report::of(told.incident())).collect();
            made.sort_by_key(|report| report.ended_at.is_some());
            assert!(made.len() >= 6, "{}", play.log());
            made
        };
    }
    MADE.with(Clone::clone)
}

#[test]
fn the_packets_of_a_flood_are_told_by_length_ttl_and_fragment() {
    let fragments = Packets::fragmented_udp(Some(53), &[7; 900]);
    let play = Scene::new()
        .limit_pps(1_000)
        .add(
            Flood::new(fragments, 6_000)
                .from(64, [10, 0, 0, 0])
                .during(2_000..6_000),
        )
        .play(20_000);
    let report = Report::of(play.only());
    let facts = report.forensics.clone().expect("it is told");
    assert_eq!(facts.captured_packets, report.packets);
    assert_eq!(facts.captured_bits, report.bits);
    assert_eq!(facts.protocol_counts.udp, report.packets);
    assert_eq!((facts.other_pct, facts.fragment_pct), (0.0, 100.0));
    assert_eq!(facts.fragment_count, report.packets);
    let frames: u64 = facts.frame_lengths.iter().map(|bucket| bucket.count).sum();
    assert_eq!(frames, report.packets);
    assert_eq!(facts.frame_lengths.len(), 12);
    let long = facts
        .frame_lengths
        .iter()
        .find(|bucket| bucket.up_to_bytes == Some(1_518));
    assert!(long.expect("a bucket").count >= report.packets / 3 * 2 - 60);
    assert_eq!(facts.ttl_distribution.len(), 1);
    assert_eq!(facts.ttl_distribution[0].ttl, 57);
    assert_eq!(facts.ttl_distribution[0].count, report.packets);
    let entropy = facts
        .src_ip_entropy
        .expect("64 sources are counted exactly");
    assert!((5.95..=6.0).contains(&entropy), "{entropy}");
    let mean = facts.avg_packet_bytes.expect("there were packets");
    // Two full pieces and one of 1,136 bytes.
    assert!((1_390.0..1_410.0).contains(&mean), "{mean}");
    let open = Report::of(play.of("opened")[0])
        .forensics
        .expect("it is stored");
    assert_eq!(open.src_ip_entropy, None, "too much work while it is open");
}

#[test]
fn protocols_that_are_not_told_apart_are_other_and_estimated_sources_have_no_entropy() {
    let play = Scene::new()
        .limit_pps(1_000)
        .flood(Packets::protocol(47), 3_000, 1_000..4_000)
        .flood(udp(), 1_000, 1_000..4_000)
        .play(20_000);
    let facts = Report::of(play.only()).forensics.expect("it is told");
    assert!(
        (74.0..=76.0).contains(&facts.other_pct),
        "{}",
        facts.other_pct
    );
    assert_eq!(
        facts.protocol_counts.other + facts.protocol_counts.udp,
        facts.captured_packets
    );
    let many = Flood::new(syn(), 200_000)
        .from(1 << 30, [64, 0, 0, 0])
        .during(500..2_500);
    let play = Scene::new().limit_pps(10_000).add(many).play(15_000);
    assert!(!play.only().sources.exact);
    assert_eq!(play.only().forensics.entropy_millibits, None);
}

#[test]
fn the_curve_has_a_point_a_second_and_ends_with_the_attack() {
    let play = Scene::new()
        .limit_pps(1_000)
        .flood(syn(), 4_000, 2_300..7_000)
        .flood(syn(), 20_000, 7_000..9_000)
        .flood(syn(), 4_000, 9_000..12_500)
        .play(30_000);
    let ended = play.only();
    let curve = &ended.forensics.curve;
    let times: Vec<u64> = curve.iter().map(|point| point.after_millis).collect();
    let expected: Vec<u64> = [0]
        .into_iter()
        .chain((0..10).map(|n| 700 + n * 1_000))
        .collect();
    assert_eq!(
        times, expected,
        "from the second it began in to the one it ended in"
    );
    for point in curve {
        let at_millis = 2_300 + point.after_millis;
        let second = play
            .seconds
            .iter()
            .find(|of| of.start.as_seconds() == at(at_millis).as_seconds());
        assert_eq!(Some(point.pps), second.map(|of| of.pps));
    }
    let peak = curve.iter().max_by_key(|point| point.pps).expect("points");
    assert!(peak.pps.abs_diff(ended.peak_pps) <= 300, "{peak:?}");
    assert_eq!(ended.forensics.curve_step_seconds, 1);
}

#[test]
fn a_long_attack_has_a_coarser_curve_with_its_peak() {
    let play = Scene::new()
        .limit_pps(20)
        .flood(syn(), 60, 1_000..2_200_000)
        .flood(syn(), 3_000, 1_500_000..1_502_000)
        .stop(1_000_000, 0)
        .stop(2_100_000, 0)
        .play(2_220_000);
    let facts = Report::of(play.only()).forensics.expect("it is told");
    assert_eq!(facts.velocity_step_seconds, 2);
    assert!(
        (1_098..=1_101).contains(&facts.velocity_curve.len()),
        "{}",
        facts.velocity_curve.len()
    );
    let highest = facts.velocity_curve.iter().map(|point| point.pps).max();
    assert!(highest >= Some(3_000), "{highest:?}");
    let json = serde_json::to_string(&Report::of(play.only())).expect("JSON");
    assert!(json.len() < 64 << 10, "{} bytes", json.len());
}

#[test]
fn a_limit_of_the_platform_is_in_force_from_the_next_window_on() {
    let play = Scene::new()
        .flood(syn(), 6_000, 1_000..60_000)
        .hook(30_000, platform(2_000, 100, 0))
        .play(40_000);
    let opened = play.told.first().expect("it opens");
    assert_eq!(opened.at, at(30_050), "{}", play.log());
    let fired = &opened.incident().fired[0];
    assert_eq!((fired.id.name(), fired.limit), ("V1", 2_000));
    assert_eq!(fired.origin, "set on the platform");
    // The platform's mean, and at least a tenth of the limit.
    assert_eq!(opened.incident().scale.base, 200);
    assert_eq!(opened.incident().scale.mean, Some(100));
    assert_eq!(opened.incident().severity, Severity::Critical);
    let seconds: Vec<u64> = play
        .seconds
        .iter()
        .map(|of| of.start.as_seconds())
        .collect();
    assert!(
        seconds.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "no window is lost"
    );
    assert_eq!(seconds.len(), 40);
}

#[test]
fn severity_is_measured_with_the_platforms_mean_only_where_the_limit_is_the_platforms() {
    let flood = |mean_pps: u64, local_pps: Option<u64>| {
        let play = Scene::new()
            .flood(syn(), 10_000, 10_000..14_000)
            .hook(0, local(local_pps))
            .hook(5_000, platform(2_000, mean_pps, 0))
            .play(30_000);
        play.only().severity
    };
    assert_eq!(
        flood(0, None),
        Severity::Critical,
        "it has none: ours, at least 200"
    );
    assert_eq!(flood(3_000, None), Severity::Medium);
    assert_eq!(flood(1_500, None), Severity::High);
    assert_eq!(flood(3_000, Some(2_000)), Severity::Critical);
}

#[test]
fn the_operators_limit_wins_and_the_platforms_stands_behind_it() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let look = |scene: Scene, millis: u64| {
        let seen = Rc::clone(&seen);
        scene.hook(millis, move |engine: &mut Engine| {
            let limit = engine.vitals().limits.pps.limit;
            seen.borrow_mut().push(limit.map(|limit| limit.value));
        })
    };
    let mut scene = Scene::new()
        .limit_pps(20_000)
        .flood(syn(), 6_000, 1_000..60_000)
        .hook(5_000, platform(2_000, 0, 0));
    scene = look(scene, 5_050);
    scene = look(scene.hook(10_000, local(Some(30_000))), 10_000);
    scene = look(scene.hook(20_000, local(None)), 20_000);
    scene = look(scene.hook(25_000, platform(0, 0, 0)), 25_000);
    let play = scene.play(30_000);
    let learned = seen.borrow()[3];
    assert_eq!(
        *seen.borrow(),
        [Some(20_000), Some(30_000), Some(2_000), learned]
    );
    assert!(
        learned.is_some_and(|learned| learned >= 10_000),
        "{learned:?}"
    );
    assert_eq!(play.told.first().map(|told| told.at), Some(at(20_050)));
    let fired = &play.only().fired[0];
    assert_eq!((fired.limit, fired.by_platform), (2_000, true));
}

#[test]
fn a_changed_limit_ends_an_open_incident_only_by_what_it_means() {
    let with = |pps: Option<u64>| {
        let scene = flooded(syn(), 2_000..60_000).hook(20_000, local(pps));
        let play = scene.play(60_000);
        let last = play.told.last().expect("it ends").clone();
        assert_eq!(play.of("opened").len(), 1, "{}", play.log());
        assert!(!kinds(&play).contains(&"reopened"), "{}", play.log());
        assert_eq!(last.incident().subtype, "syn_flood");
        (last.at, last.incident().ended_at)
    };
    // Lower, a little higher, gone so that the learned one of 10,000 or more is in force, and 20,000.
    for pps in [Some(500), Some(6_000)] {
        assert_eq!(with(pps), (at(60_000), Some(at(60_000))), "{pps:?}");
    }
    for pps in [None, Some(20_000)] {
        let (told_at, ended_at) = with(pps);
        assert!(
            told_at.millis_since(at(30_000)) <= 100,
            "{pps:?}: {told_at}"
        );
        assert_eq!(
            ended_at,
            Some(at(20_000)),
            "{pps:?}: the last window over a limit in force"
        );
    }
}

#[test]
fn a_learned_limit_that_gives_way_to_a_set_one_does_not_end_what_it_opened() {
    let play = Scene::new()
        .learned_after(10, 1_000)
        .flood(syn(), 5_000, 60_000..100_000)
        // Five sixths of it: it would not open, and it does not end.
        .hook(70_000, local(Some(6_000)))
        .play(130_000);
    assert_eq!(kinds(&play), ["opened", "resolved"], "{}", play.log());
    let ended = play.only();
    assert_eq!(ended.ended_at, Some(at(100_000)));
    assert_eq!(ended.fired.len(), 1);
    assert_eq!(ended.fired[0].id.name(), "V3");
}

#[test]
fn what_the_platform_calls_normal_gives_a_learned_limit_at_once_and_is_given_up_again() {
    let limits = Rc::new(RefCell::new(Vec::new()));
    let mut scene = Scene::new().hook(1_000, platform(0, 900, 5_000));
    scene = scene.hook(3_000, platform(0, 0, 0));
    for millis in [950, 1_000, 3_000] {
        let limits = Rc::clone(&limits);
        scene = scene.hook(millis, move |engine: &mut Engine| {
            let limit = engine.vitals().limits.pps.limit;
            limits.borrow_mut().push(limit.map(|limit| limit.value));
        });
    }
    scene.play(5_000);
    assert_eq!(*limits.borrow(), [None, Some(20_000), None]);
}

#[test]
fn the_engine_tells_how_it_is() {
    let told: Rc<RefCell<Vec<Vitals>>> = Rc::default();
    let usual = Flood::new(udp(), 100)
        .from(50, [10, 0, 0, 0])
        .during(0..400_000);
    let mut scene = Scene::new().add(usual).hook(310_000, platform(90, 40, 0));
    scene.restarts.push(traffic::Restart {
        window: 399 * 20,
        down_windows: 0,
        orderly: true,
    });
    for millis in [5_000, 305_000, 312_000, 410_000] {
        let told = Rc::clone(&told);
        scene = scene.hook(millis, move |engine: &mut Engine| {
            told.borrow_mut().push(engine.vitals());
        });
    }
    scene.play(420_000);
    let told = told.borrow();
    let (first, ready, open, later) = (&told[0], &told[1], &told[2], &told[3]);
    assert_eq!((first.baseline_ready, first.warming_up), (false, false));
    assert_eq!(first.baseline_seconds, 5);
    assert_eq!(first.limits.pps.limit, None);
    assert_eq!((ready.baseline_ready, ready.warming_up), (true, true));
    assert_eq!(ready.baseline_seconds, 305);
    assert!(
        ready
            .normal
            .mean_pps
            .is_some_and(|mean| mean.abs_diff(100) <= 5),
        "{ready:?}"
    );
    assert!(
        ready
            .normal
            .p99_pps
            .is_some_and(|p99| p99.abs_diff(100) <= 15),
        "{ready:?}"
    );
    assert!(
        (35..=50).contains(&ready.sources.count) && ready.sources.exact,
        "{ready:?}"
    );
    assert!(!ready.incident_open);
    assert!(open.incident_open);
    assert_eq!(open.normal.platform_mean_pps, Some(40));
    let by = open.limits.pps.limit.map(|limit| limit.is_platform());
    assert_eq!(by, Some(true), "{:?}", SetBy::Platform);
    assert_eq!(later.baseline_seconds, 410, "a restart goes on counting");
    assert_eq!(later.silent_seconds, 10);
}
