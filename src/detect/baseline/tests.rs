//! The rules of detection.md, section 4, row by row, and what must hold for any input.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::classify::TrafficClass;

/// 2026-03-02T00:00:00Z, a Monday.
const MONDAY: u64 = 1_772_409_600;

const SYN: Series = Series::ClassPackets(TrafficClass::Syn);

fn values(pps: u64) -> SecondValues {
    let mut values = SecondValues::new();
    values.set(Series::Pps, pps);
    values.set(Series::Bps, pps * 4_000);
    values.set(Series::OutboundPps, pps / 2);
    values.set(SYN, pps / 50);
    values
}

/// A baseline and the second that comes next.
struct Host {
    baseline: Baseline,
    next: u64,
}

impl Host {
    fn at(second: u64) -> Self {
        Self {
            baseline: Baseline::new(Settings::default()),
            next: second,
        }
    }

    /// A host that has seen `seconds` of `pps`.
    fn used_to(pps: u64, seconds: u64) -> Self {
        let mut host = Self::at(MONDAY);
        host.see(seconds, pps, Judgement::Quiet);
        host
    }

    fn see(&mut self, seconds: u64, pps: u64, judgement: Judgement) {
        for _ in 0..seconds {
            self.baseline
                .second(self.next, &values(pps), judgement, &LearningCaps::default());
            self.next += 1;
        }
    }

    fn quiet(&mut self, seconds: u64, pps: u64) {
        self.see(seconds, pps, Judgement::Quiet);
    }

    fn r(&self) -> u64 {
        self.baseline.reference(Series::Pps).value
    }

    fn parts(&self) -> Parts {
        self.baseline.reference(Series::Pps).parts
    }

    fn learned(&self) -> u64 {
        self.baseline.day.total().seconds()
    }
}

/// The value is what was learned, to the histogram's two digits.
#[track_caller]
fn assert_near(found: Option<u64>, expected: u64) {
    let found = found.expect("something is known");
    assert!(
        (expected..=expected + expected / 100).contains(&found),
        "found {found}, expected {expected}"
    );
}

#[test]
fn phases_follow_the_seconds_seen() {
    let mut host = Host::at(MONDAY + 17);
    let expected = [
        (0, Phase::FirstSeconds, 6_000, 2),
        (9, Phase::FirstSeconds, 6_000, 2),
        (10, Phase::Starting, 6_000, 2),
        (299, Phase::Starting, 6_000, 2),
        (300, Phase::WarmingUp, 6_000, 1),
        (3_599, Phase::WarmingUp, 6_000, 1),
        (3_600, Phase::Learned, 4_000, 1),
    ];
    let mut seen = 0;
    for (seconds, phase, multiplier, floor_factor) in expected {
        host.quiet(seconds - seen, 100);
        seen = seconds;
        let reference = host.baseline.reference(Series::Pps);
        assert_eq!(
            (
                reference.phase,
                reference.multiplier_permille,
                reference.floor_factor
            ),
            (phase, multiplier, floor_factor)
        );
    }
}

#[test]
fn while_starting_the_reference_is_the_largest_second_so_far() {
    let mut host = Host::used_to(40_000, 20);
    host.quiet(1, 47_123);
    host.quiet(200, 30_000);
    assert_eq!(host.r(), 47_123);
    assert_eq!(host.baseline.reference(SYN).value, 47_123 / 50);
}

#[test]
fn after_starting_the_reference_is_the_p99_of_the_hour() {
    let mut host = Host::used_to(40_000, 20);
    host.quiet(1, 90_000);
    host.quiet(279, 30_000);
    assert_near(Some(host.r()), 40_000);
    assert_near(host.parts().hour, 40_000);
    assert_eq!(host.parts().day, None);
}

#[test]
fn the_day_counts_from_3600_quiet_seconds_on() {
    let mut host = Host::used_to(5_000, 3_600 + 59);
    assert_eq!(host.parts().day, None);
    host.quiet(60, 5_000);
    assert_near(host.parts().day, 5_000);
}

#[test]
fn the_day_keeps_the_night_calm() {
    let mut host = Host::used_to(50_000, 2 * HOUR);
    host.quiet(8 * HOUR, 500);
    assert_near(host.parts().hour, 500);
    assert_near(Some(host.r()), 50_000);
}

#[test]
fn a_busy_hour_counts_up_to_twice_the_day() {
    let mut host = Host::used_to(1_000, 20 * HOUR);
    host.quiet(12 * 60, 9_000);
    assert_near(host.parts().hour, 9_000);
    assert_near(host.parts().day, 1_000);
    assert!(host.r() <= 2_020, "found {}", host.r());
    assert!(
        host.r() > 1_200,
        "it has begun to follow, found {}",
        host.r()
    );
}

#[test]
fn the_same_hour_of_three_days_is_ready_before_it_comes() {
    let mut host = Host::at(MONDAY);
    for _ in 0..3 {
        host.quiet(12 * HOUR, 200);
        host.quiet(700, 20_000);
        // The rest of the day is not seen: it is missing, not zero.
        host.next += 12 * HOUR - 700;
    }
    host.quiet(10 * HOUR + 60, 200);
    assert_eq!(host.parts().same_hour.map(|p99| p99 < 210), Some(true));
    host.quiet(HOUR, 200);
    assert_near(host.parts().same_hour, 20_000);
}

#[test]
fn the_same_hour_of_two_weeks_is_known_in_the_third() {
    let mut host = Host::at(MONDAY);
    for _ in 0..2 {
        host.quiet(HOUR, 30_000);
        host.quiet(60, 100);
        host.next += 7 * DAY - HOUR - 60;
    }
    host.quiet(60, 100);
    assert_near(host.parts().same_hour_of_week, 30_000);
    assert_eq!(host.parts().same_hour, None);
}

#[test]
fn a_reference_far_above_the_usual_day_waits_for_a_person() {
    let mut host = Host::at(MONDAY);
    for _ in 0..3 {
        host.quiet(2 * HOUR, 1_000);
        host.next += 22 * HOUR;
    }
    host.quiet(5 * HOUR, 9_000);
    let reference = host.baseline.reference(Series::Pps);
    assert!(reference.held);
    assert_near(Some(reference.value), 4_000);
    host.baseline.accept();
    let reference = host.baseline.reference(Series::Pps);
    assert!(!reference.held);
    assert_near(Some(reference.value), 9_000);
    host.quiet(2 * HOUR, 9_000);
    assert_near(Some(host.r()), 9_000);
}

#[test]
fn a_second_waits_a_minute_before_it_is_learned() {
    let mut host = Host::used_to(100, 60);
    assert_eq!(host.learned(), 0);
    host.quiet(1, 100);
    assert_eq!(host.learned(), 1);
    host.quiet(100, 100);
    assert_eq!(host.learned(), 101);
}

#[test]
fn a_second_is_dropped_if_an_incident_opens_while_it_waits() {
    let mut host = Host::used_to(100, 1_000);
    let learned = host.learned();
    host.quiet(50, 7_000);
    host.see(1, 90_000, Judgement::Hostile);
    host.quiet(600, 100);
    assert_eq!(
        host.baseline.day.total().quantile(Series::Pps, 1_000),
        Some(100)
    );
    // Learned after the incident: 600 seconds less 120 of waiting behind it and the 60 that still wait.
    assert_eq!(host.learned(), learned + 50 + (600 - 120 - 60));
}

#[test]
fn an_attack_is_never_learned_however_long() {
    let mut host = Host::used_to(20_000, 3 * HOUR);
    let (reference, mean) = (
        host.baseline.reference(Series::Pps),
        host.baseline.mean(Series::Pps),
    );
    host.see(30 * HOUR, 900_000, Judgement::Hostile);
    assert_eq!(host.baseline.reference(Series::Pps), reference);
    assert_eq!(host.baseline.mean(Series::Pps), mean);
    host.quiet(HOUR / 2, 20_000);
    assert_near(Some(host.r()), 20_000);
}

#[test]
fn two_minutes_after_an_incident_are_not_learned() {
    let mut host = Host::used_to(100, 1_000);
    let learned = host.learned();
    host.see(30, 90_000, Judgement::Hostile);
    host.quiet(120 + 60, 5_000);
    assert_eq!(host.learned(), learned);
    host.quiet(1, 5_000);
    assert_eq!(host.learned(), learned + 1);
}

#[test]
fn suspicion_stops_learning_for_a_minute_only() {
    let mut host = Host::used_to(100, 1_000);
    let learned = host.learned();
    host.see(60 + 60, 9_000, Judgement::Suspected);
    // The minute before the suspicion was learned meanwhile; the first minute of it never will be.
    assert_eq!(host.learned(), learned + 60);
    host.see(60, 9_000, Judgement::Suspected);
    assert_eq!(host.learned(), learned + 60 + 60);
}

#[test]
fn the_minute_after_the_link_came_up_is_not_learned() {
    let mut host = Host::at(MONDAY);
    host.baseline.link_came_up();
    host.quiet(60 + 60, 100);
    assert_eq!(host.learned(), 0);
    assert_eq!(host.r(), 100, "but it is the largest second so far");
    host.quiet(1, 100);
    assert_eq!(host.learned(), 1);
}

#[test]
fn a_second_is_learned_as_half_the_limit_at_most() {
    let mut host = Host::used_to(100, 400);
    let caps = LearningCaps {
        pps: Some(5_000),
        bps: Some(1_000_000),
    };
    for _ in 0..400 {
        host.baseline
            .second(host.next, &values(8_000), Judgement::Quiet, &caps);
        host.next += 1;
    }
    assert_near(host.baseline.p99(Series::Pps), 5_000);
    assert_near(host.baseline.p99(Series::Bps), 1_000_000);
    assert!(
        host.baseline.p99(SYN).unwrap() >= 160,
        "classes have no limit of their own"
    );
}

#[test]
fn the_platform_baseline_counts_at_once() {
    let mut host = Host::at(MONDAY);
    host.baseline.set_platform(Some(PlatformBaseline {
        p99_pps: 12_000,
        mean_pps: 4_000,
    }));
    let reference = host.baseline.reference(Series::Pps);
    assert_eq!(
        (
            reference.value,
            reference.phase,
            reference.multiplier_permille
        ),
        (12_000, Phase::Learned, 4_000)
    );
    assert_eq!(
        (reference.floor_factor, reference.parts.platform),
        (1, Some(12_000))
    );
    assert_eq!(
        host.baseline.reference(Series::Bps).phase,
        Phase::FirstSeconds
    );
    host.quiet(20, 15_000);
    assert_eq!(host.r(), 15_000);
    host.baseline.set_platform(Some(PlatformBaseline {
        p99_pps: 0,
        mean_pps: 4_000,
    }));
    assert_eq!(host.baseline.reference(Series::Pps).phase, Phase::Starting);
    assert_eq!(host.parts().platform, None);
}

#[test]
fn a_gap_is_missing_and_not_zero() {
    let mut host = Host::used_to(10_000, 5 * HOUR);
    let before = host.baseline.mean(Series::Pps);
    host.next += 3 * HOUR;
    host.quiet(120, 10_000);
    assert_eq!(host.baseline.mean(Series::Pps), before);
    assert_near(Some(host.r()), 10_000);
    assert_eq!(
        host.learned(),
        5 * HOUR - 60 + 60,
        "the minute before the gap was not learned"
    );
    assert_eq!(host.baseline.phase(), Phase::Learned);
}

#[test]
fn a_gap_of_more_than_a_week_starts_learning_again() {
    let mut host = Host::used_to(10_000, 2 * HOUR);
    host.next += 7 * DAY;
    host.quiet(1, 10);
    assert_eq!(host.baseline.phase(), Phase::Learned);
    host.next += 7 * DAY + 1;
    host.quiet(20, 10);
    assert_eq!((host.baseline.phase(), host.r()), (Phase::Starting, 10));
}

#[test]
fn a_second_that_is_not_later_is_ignored() {
    let mut host = Host::used_to(100, 500);
    let before = host.baseline.state();
    host.baseline.second(
        host.next - 1,
        &values(9_999),
        Judgement::Hostile,
        &LearningCaps::default(),
    );
    host.baseline.second(
        0,
        &values(9_999),
        Judgement::Quiet,
        &LearningCaps::default(),
    );
    assert_eq!(host.baseline.state(), before);
}

#[test]
fn the_mean_is_that_of_the_quiet_seconds_of_the_last_day() {
    let mut host = Host::at(MONDAY);
    assert_eq!(host.baseline.mean(Series::Pps), None);
    host.quiet(30, 100);
    assert_eq!(
        host.baseline.mean(Series::Pps),
        Some(100),
        "before anything was learned: what waits"
    );
    host.quiet(30 + 60, 200);
    assert_eq!(host.baseline.mean(Series::Pps), Some(150));
    host.see(HOUR, 9_000_000, Judgement::Hostile);
    assert_eq!(host.baseline.mean(Series::Pps), Some(150));
    host.quiet(25 * HOUR, 40);
    assert_eq!(host.baseline.mean(Series::Pps), Some(40));
}

#[test]
fn normal_at_onset_is_the_mean_of_the_minute_before_suspicion() {
    let mut host = Host::at(MONDAY);
    host.quiet(9, 100);
    assert_eq!(host.baseline.normal_at_onset(Series::Pps), None);
    host.quiet(1, 100);
    assert_eq!(host.baseline.normal_at_onset(Series::Pps), Some(100));
    host.quiet(590, 100);
    host.quiet(30, 90);
    host.see(20, 9_000, Judgement::Suspected);
    host.see(600, 90_000, Judgement::Hostile);
    assert_eq!(host.baseline.normal_at_onset(Series::Pps), Some(95));
    assert_eq!(host.baseline.normal_at_onset(SYN), Some((30 * 2 + 30) / 60));
}

#[test]
fn normal_at_onset_does_not_exceed_the_p95_of_the_hour() {
    let mut host = Host::used_to(100, 1_000);
    host.quiet(59, 3_000);
    host.see(1, 90_000, Judgement::Hostile);
    assert_eq!(host.baseline.hour_p95(Series::Pps), Some(100));
    assert_eq!(host.baseline.normal_at_onset(Series::Pps), Some(100));
}

#[test]
fn every_series_in_every_slot_fits_in_seven_mebibytes() {
    let mut all = SecondValues::new();
    for series in Series::ALL {
        all.set(series, u64::MAX);
    }
    let mut baseline = Baseline::new(Settings::default());
    let idle = baseline.memory_bytes();
    // Two seconds a minute apart in every ten minutes: the first of them is learned.
    for slot in 0..2 * 24 * 6 {
        for second in [0, 60] {
            let second = MONDAY + slot * TEN_MINUTES + second;
            baseline.second(second, &all, Judgement::Quiet, &LearningCaps::default());
        }
    }
    assert_eq!(baseline.hour.total().seconds(), 6);
    assert_eq!(baseline.day.total().seconds(), 24 * 6);
    let full = baseline.memory_bytes();
    println!("idle {idle} bytes, full {full} bytes");
    assert!(idle < 256 << 10, "idle: {idle}");
    assert!(full < 7 << 20, "full: {full}");
}

/// One baseline in each phase, and some in the middle of something.
fn hosts() -> Vec<(&'static str, Host)> {
    let after = |mut host: Host, seconds, pps, judgement| {
        host.see(seconds, pps, judgement);
        host
    };
    let mut link_up = Host::used_to(10, 400);
    link_up.baseline.link_came_up();
    let mut days = Host::at(MONDAY);
    for day in 0..4 {
        days.quiet(2 * HOUR, 1_000 + day);
        days.next += 22 * HOUR;
    }
    days.quiet(3 * HOUR, 50_000);
    days.baseline.accept();
    days.quiet(90, 70_000);
    vec![
        ("nothing seen", Host::at(MONDAY)),
        ("first seconds", Host::used_to(300, 5)),
        ("starting", Host::used_to(300, 123)),
        ("warming up", Host::used_to(300, 1_234)),
        ("learned", Host::used_to(300, 2 * HOUR + 7)),
        (
            "suspected",
            after(Host::used_to(300, 700), 30, 5_000, Judgement::Suspected),
        ),
        (
            "under attack",
            after(Host::used_to(300, 700), 30, 50_000, Judgement::Hostile),
        ),
        (
            "after an attack",
            after(
                after(Host::used_to(300, 700), 9, 50_000, Judgement::Hostile),
                60,
                300,
                Judgement::Quiet,
            ),
        ),
        ("link came up", link_up),
        ("days", days),
    ]
}

#[test]
fn a_baseline_comes_back_from_its_state_in_every_phase_and_goes_on_alike() {
    for (name, mut host) in hosts() {
        let text = serde_json::to_string(&host.baseline.state()).unwrap();
        let state: BaselineState = serde_json::from_str(&text).unwrap();
        assert_eq!(state, host.baseline.state(), "{name}");
        let mut again = Host {
            baseline: Baseline::restore(Settings::default(), &state, host.next).unwrap(),
            next: host.next,
        };
        for (seconds, pps, judgement) in [
            (0, 0, Judgement::Quiet),
            (700, 900, Judgement::Quiet),
            (99, 5_000, Judgement::Suspected),
        ] {
            host.see(seconds, pps, judgement);
            again.see(seconds, pps, judgement);
            assert_eq!(again.baseline.state(), host.baseline.state(), "{name}");
            assert_eq!(again.baseline.phase(), host.baseline.phase(), "{name}");
            for series in Series::ALL {
                let (again, host) = (&again.baseline, &host.baseline);
                assert_eq!(
                    again.reference(series),
                    host.reference(series),
                    "{name}: {series}"
                );
                assert_eq!(again.mean(series), host.mean(series), "{name}: {series}");
                assert_eq!(again.p99(series), host.p99(series), "{name}: {series}");
                assert_eq!(
                    again.hour_p95(series),
                    host.hour_p95(series),
                    "{name}: {series}"
                );
                assert_eq!(
                    again.normal_at_onset(series),
                    host.normal_at_onset(series),
                    "{name}: {series}"
                );
            }
        }
    }
}

#[test]
fn a_state_from_before_the_clock_was_set_back_goes_on_now() {
    let mut host = Host::used_to(1_000, 2 * HOUR);
    host.see(1, 50_000, Judgement::Hostile);
    let now = host.next - 1_800;
    let mut again = Host {
        baseline: Baseline::restore(Settings::default(), &host.baseline.state(), now).unwrap(),
        next: now + 1,
    };
    assert_eq!(again.r(), host.r());
    again.quiet(HOUR, 1_000);
    assert_eq!(again.learned(), host.learned() + HOUR - 1_799 - 120 - 60);
    Baseline::restore(Settings::default(), &again.baseline.state(), again.next).unwrap();
}

#[test]
fn a_quiet_state_from_before_the_clock_was_set_back_can_be_stored_and_read_again() {
    for back in [30, 700, 1_800, 3_590] {
        let host = Host::used_to(1_000, 2 * HOUR + 1_500);
        let now = host.next - back;
        let mut again = Host {
            baseline: Baseline::restore(Settings::default(), &host.baseline.state(), now).unwrap(),
            next: now + 1,
        };
        for _ in 0..12 {
            again.quiet(600, 1_000);
            let state = again.baseline.state();
            let restored = Baseline::restore(Settings::default(), &state, again.next);
            assert!(restored.is_ok(), "{back}: {restored:?}");
        }
        let gained = again.learned() - host.learned();
        assert!(gained + 2 * HOUR >= 12 * 600, "{back}: {gained}");
    }
}

#[test]
fn learning_goes_on_whatever_the_clock_is_set_to() {
    const MONTH: i64 = 30 * 86_400;
    for by in [
        -MONTH,
        -86_400,
        -3_600,
        -90,
        -1,
        1,
        90,
        3_600,
        86_400,
        MONTH,
        12 * MONTH,
    ] {
        let mut host = Host::used_to(1_000, 2 * HOUR);
        let (learned, reference) = (host.learned(), host.r());
        host.baseline.clock_set(by);
        host.next = host.next.checked_add_signed(by).unwrap();
        host.quiet(HOUR, 1_000);
        assert_eq!(host.baseline.phase(), Phase::Learned, "{by}");
        assert_eq!(host.r(), reference, "{by}");
        // A day ahead, the last day is no longer the last one.
        let kept = if by >= 86_400 { 0 } else { learned };
        let gained = host.learned() - kept;
        // An hour that is lived twice counts once.
        let lived_twice = by.min(0).unsigned_abs().min(HOUR);
        let expected = HOUR - lived_twice.max(61)..=HOUR + 60;
        assert!(expected.contains(&gained), "{by}: {gained}");
        let state = host.baseline.state();
        let again = Baseline::restore(Settings::default(), &state, host.next);
        assert!(again.is_ok(), "{by}: {again:?}");
    }
}

#[test]
fn a_clock_that_is_set_shortens_no_wait_after_an_attack() {
    for by in [-3_600, 3_600] {
        let mut host = Host::used_to(1_000, 700);
        host.see(10, 50_000, Judgement::Hostile);
        let learned = host.learned();
        host.baseline.clock_set(by);
        host.next = host.next.checked_add_signed(by).unwrap();
        host.quiet(120 + 60, 9_000);
        assert_eq!(host.learned(), learned, "{by}");
        host.quiet(10, 1_000);
        assert_eq!(host.learned(), learned + 10, "{by}");
    }
}

#[test]
fn hours_of_long_ago_do_not_spoil_the_state_of_a_host_that_is_back() {
    let mut host = Host::used_to(1_000, 2 * HOUR);
    host.next += 40 * DAY;
    host.quiet(3 * HOUR, 1_000);
    let state = host.baseline.state();
    let again = Baseline::restore(Settings::default(), &state, host.next);
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn a_damaged_state_is_refused_with_the_reason() {
    let (_, mut host) = hosts().pop().unwrap();
    host.quiet(10, 70_000);
    let sound = serde_json::to_value(host.baseline.state()).unwrap();
    let now = host.next;
    let cases = [
        ("/version", json!(2), "has version 2, expected 1"),
        (
            "/last_second",
            json!(now + 2 * HOUR),
            "check the system clock",
        ),
        ("/last_second", json!(null), "ahead of its last second"),
        ("/last_second", json!(now - DAY), "ahead of its last second"),
        (
            "/clock/quiet_from",
            json!(u64::MAX),
            "ahead of its last second",
        ),
        (
            "/clock/moved_at",
            json!(now + DAY),
            "ahead of its last second",
        ),
        ("/clock/learned_to", json!(0), "out of order or outside"),
        ("/waiting", json!(61), "61 seconds wait of 60"),
        (
            "/recent/3/second",
            json!(7),
            "recent second 7 is out of order",
        ),
        (
            "/recent/3/values/pps",
            json!(u64::MAX),
            "pps was 18446744073709551615",
        ),
        (
            "/references/pps/value",
            json!(u64::MAX),
            "the reference of pps is",
        ),
        (
            "/references/bps/parts/day",
            json!(u64::MAX),
            "the reference of bps is",
        ),
        (
            "/hours/0/seconds",
            json!(0),
            "has 0 seconds, expected 1 to 3600",
        ),
        (
            "/hours/0/seconds",
            json!(3_601),
            "has 3601 seconds, expected 1 to 3600",
        ),
        (
            "/hours/0/label",
            json!(3),
            "slot 3 of 3600 s is out of order or outside",
        ),
        (
            "/hours/0/series/pps/sum",
            json!(1),
            "has the sum 1, expected",
        ),
        (
            "/hours/0/series/pps/counts/0/0",
            json!(0),
            "holds the value 0 out of order or range",
        ),
        ("/hours/0/series/pps/counts/0/1", json!(0), "zero times"),
        (
            "/hours/0/series/pps/counts/0/1",
            json!(4_000_000_000u64),
            "values in",
        ),
        (
            "/ten_minutes/0/series/bps/counts/0/0",
            json!(u64::MAX),
            "out of order or range",
        ),
        (
            "/profiles/pps/hours/0/0",
            json!(3),
            "the profile of pps has p99",
        ),
        (
            "/profiles/pps/days/0/1",
            json!(u64::MAX),
            "the profile of pps has p99",
        ),
    ];
    for (place, value, reason) in cases {
        let mut damaged = sound.clone();
        *damaged
            .pointer_mut(place)
            .unwrap_or_else(|| panic!("{place} is in the state")) = value;
        let state: BaselineState = serde_json::from_value(damaged).unwrap();
        let error = Baseline::restore(Settings::default(), &state, now)
            .map(|_| ())
            .expect_err(place);
        assert!(error.to_string().contains(reason), "{place}: {error}");
    }
    let state = serde_json::from_value(sound).unwrap();
    Baseline::restore(Settings::default(), &state, now).unwrap();
}

#[test]
fn an_unknown_series_or_field_is_refused() {
    let mut state = serde_json::to_value(Host::used_to(5, 99).baseline.state()).unwrap();
    state["references"]["gopher_packets"] = json!({});
    let error = serde_json::from_value::<BaselineState>(state)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("gopher_packets") && error.contains("the name of a series"),
        "{error}"
    );
    let mut state = serde_json::to_value(Host::used_to(5, 99).baseline.state()).unwrap();
    state["colour"] = json!("green");
    assert!(serde_json::from_value::<BaselineState>(state).is_err());
}

fn judgement() -> impl Strategy<Value = Judgement> {
    prop_oneof![8 => Just(Judgement::Quiet), 1 => Just(Judgement::Suspected), 1 => Just(Judgement::Hostile)]
}

/// Stretches of seconds: a gap before them, how many, around which level, how judged.
fn stretches() -> impl Strategy<Value = Vec<(u64, u64, u64, Judgement)>> {
    let gap = prop_oneof![6 => Just(0u64), 2 => 0..200u64, 1 => 0..200_000u64];
    let level = prop_oneof![4 => 0..100_000u64, 1 => Just(0u64), 1 => 0..2_000_000_000u64];
    prop::collection::vec((gap, 1..900u64, level, judgement()), 1..14)
}

/// Every number in a JSON value, by pointer.
fn numbers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                numbers(item, &format!("{at}/{place}"), found);
            }
        }
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, field)| numbers(field, &format!("{at}/{name}"), found)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reference_never_rises_faster_than_two_percent_a_minute(stretches in stretches()) {
        let mut host = Host::used_to(1_000, 300);
        let (mut previous, mut moved_at) = (host.r(), host.next - 1);
        for (gap, seconds, level, judgement) in stretches {
            host.next += gap;
            for step in 0..seconds {
                host.see(1, level + step * 7_919 % (level / 4 + 1), judgement);
                let now = host.next - 1;
                if host.r() == previous {
                    continue;
                }
                let minutes = (now - moved_at).div_ceil(60).max(1);
                let most = (0..minutes.min(20_000)).fold(previous, |r, _| r.saturating_add((r / 50).max(1)));
                prop_assert!(host.r() <= most, "from {previous} to {} in {minutes} minutes", host.r());
                previous = host.r();
                moved_at = now;
            }
        }
    }

    #[test]
    fn a_short_history_gives_the_same_whatever_second_it_began_at(
        start in 0..2 * DAY, other in 0..2 * DAY, levels in prop::collection::vec((1..300u64, 0..50_000u64, judgement()), 1..20)
    ) {
        let mut hosts = [Host::at(MONDAY + start), Host::at(MONDAY + other)];
        let mut left = 50 * 60;
        for (seconds, level, judgement) in levels {
            let seconds = seconds.min(left);
            left -= seconds;
            for host in &mut hosts {
                host.see(seconds / 2, level, judgement);
                host.see(seconds - seconds / 2, level * 3 / 4, judgement);
            }
            let [one, two] = &hosts;
            for series in [Series::Pps, Series::Bps, Series::OutboundPps, SYN] {
                prop_assert_eq!(one.baseline.reference(series), two.baseline.reference(series));
                prop_assert_eq!(one.baseline.mean(series), two.baseline.mean(series));
                prop_assert_eq!(one.baseline.p99(series), two.baseline.p99(series));
                prop_assert_eq!(one.baseline.hour_p95(series), two.baseline.hour_p95(series));
                prop_assert_eq!(one.baseline.normal_at_onset(series), two.baseline.normal_at_onset(series));
            }
        }
    }

    #[test]
    fn no_input_panics_and_every_state_comes_back(
        seconds in prop::collection::vec((any::<usize>(), prop_oneof![9 => 1..70u64, 1 => any::<u64>()], any::<u64>(), judgement(), any::<Option<u64>>()), 1..400),
        growth_permille in any::<u64>(), hold_factor in any::<u64>(), settle_seconds in any::<u64>(),
    ) {
        let settings = Settings {
            growth_permille, hold_factor, settle_seconds, after_hostile_seconds: settle_seconds / 3,
            platform: Some(PlatformBaseline { p99_pps: hold_factor, mean_pps: 1 }),
            ..Settings::default()
        };
        let mut baseline = Baseline::new(settings.clone());
        let mut now = MONDAY;
        for (place, step, value, judgement, cap) in seconds {
            now = now.saturating_add(step);
            let mut values = values(value / 5_000);
            values.set(Series::ALL[place % Series::COUNT], value);
            if place % 50 == 0 {
                baseline.link_came_up();
                baseline.accept();
            }
            baseline.second(now, &values, judgement, &LearningCaps { pps: cap, bps: cap });
            // One series a second: all of them have their turn, and the test stays short.
            let series = Series::ALL[place / 7 % Series::COUNT];
            let reference = baseline.reference(series);
            prop_assert!(reference.value <= series.unit().max().max(hold_factor));
            let _ = (baseline.mean(series), baseline.p99(series), baseline.normal_at_onset(series));
        }
        let again = Baseline::restore(settings, &baseline.state(), now);
        prop_assert_eq!(again.map(|again| again.state()), Ok(baseline.state()));
    }

    #[test]
    fn a_state_with_a_changed_number_is_refused_or_harmless(place in any::<prop::sample::Index>(), number in prop_oneof![any::<u64>(), 0..100u64]) {
        let mut host = Host::used_to(800, 900);
        let mut state = serde_json::to_value(host.baseline.state()).unwrap();
        let mut found = Vec::new();
        numbers(&state, "", &mut found);
        *state.pointer_mut(&found[place.index(found.len())]).unwrap() = json!(number);
        let Ok(state) = serde_json::from_value::<BaselineState>(state) else { return Ok(()) };
        if let Ok(baseline) = Baseline::restore(Settings::default(), &state, host.next) {
            host.baseline = baseline;
            host.quiet(700, 900);
            prop_assert!(host.baseline.memory_bytes() < 7 << 20);
            let again = Baseline::restore(Settings::default(), &host.baseline.state(), host.next);
            prop_assert!(again.is_ok(), "{:?}", again.map(|_| ()));
        }
    }
}
