//! Weeks of traffic in seconds: what the baseline makes of days, nights, backups, summer time and attacks.
//!
//! The traffic is a model with a fixed seed: a daily and a weekly shape, noise with bursts, a slow drift, a backup every
//! night and another one every Sunday, and clocks that are put forward in the third week. Every second goes through the
//! same calls as in the agent; a crossing is a value at or above the learned limit that is in force.

#![expect(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of a test fail as loudly as the test"
)]

#[path = "common/tell.rs"]
mod tell;

use ftagent::classify::TrafficClass;
use ftagent::clock;
use ftagent::detect::baseline::{
    self, Baseline, BaselineState, Judgement, LearningCaps, SecondValues, Series, Unit,
};
use ftagent::detect::limits::{self, Limits, learning_caps};
use tell::tell;

/// 2026-03-09T00:00:00Z, a Monday; the clocks of the European Union go forward on the Sunday of the third week.
const MONDAY: u64 = 1_773_014_400;
const SUMMER_TIME: u64 = 1_774_746_000;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// The usual load in packets/s at each hour of the local day.
const SHAPE: [u64; 24] = [
    5_000, 4_200, 3_800, 3_600, 3_600, 4_000, 5_500, 8_000, 11_000, 13_500, 15_000, 15_500, 15_000,
    14_500, 15_000, 15_500, 16_000, 17_000, 18_500, 20_000, 19_500, 16_500, 11_500, 7_500,
];

/// Numbers that look random and are the same in every run (the finaliser of splitmix64).
fn mixed(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Packets and bits inbound in the UTC second `at`, before anything unusual.
struct Traffic {
    packets: u64,
    bits: u64,
    backup: u64,
}

fn traffic(at: u64) -> Traffic {
    let local = at + if at >= SUMMER_TIME { 2 * HOUR } else { HOUR };
    let (hour, minute) = (local / HOUR % 24, local / MINUTE % 60);
    let weekday = (local - MONDAY) / DAY % 7;
    let (from, to) = (SHAPE[hour as usize], SHAPE[(hour as usize + 1) % 24]);
    let mut usual = (from * (60 - minute) + to * minute) / 60;
    if weekday >= 5 {
        usual = usual * 7 / 10;
    }
    // A slow drift: one percent a day.
    usual += usual * (at - MONDAY) / DAY / 100;
    let random = mixed(at);
    usual = usual * (85 + random % 31) / 100;
    if random >> 32 & 0x3ff == 0 {
        usual *= 2;
    }
    let nightly = hour == 3 && minute < 25;
    let weekly = weekday == 6 && (hour == 5 && minute >= 20 || hour == 6 && minute < 10);
    let backup = if nightly { 60_000 } else { 0 } + if weekly { 170_000 } else { 0 };
    let backup = backup * (95 + (random >> 16) % 11) / 100;
    Traffic {
        packets: usual + backup,
        bits: usual * 4_000 + backup * 11_000,
        backup,
    }
}

fn values(traffic: &Traffic) -> SecondValues {
    let mut values = SecondValues::new();
    let usual = traffic.packets - traffic.backup;
    values.set(Series::Pps, traffic.packets);
    values.set(Series::Bps, traffic.bits);
    values.set(Series::OutboundPps, traffic.packets / 2);
    for (class, part) in [
        (TrafficClass::TcpData, 50),
        (TrafficClass::Ack, 40),
        (TrafficClass::Syn, 3),
        (TrafficClass::Quic, 7),
    ] {
        values.set(Series::ClassPackets(class), usual * part / 100);
        values.set(Series::ClassBits(class), usual * part * 40);
    }
    values
}

/// A host: its baseline, its limits, and what went wrong.
struct Host {
    baseline: Baseline,
    settings: limits::Settings,
    now: u64,
    caps: LearningCaps,
    limits: Limits,
    crossings: Vec<(u64, u64, Unit)>,
}

impl Host {
    fn new() -> Self {
        let (baseline, settings) = (
            Baseline::new(baseline::Settings::default()),
            limits::Settings::default(),
        );
        Self {
            caps: learning_caps(&settings, &baseline),
            limits: Limits::in_force(&settings, &baseline),
            baseline,
            settings,
            now: MONDAY,
            crossings: Vec::new(),
        }
    }

    /// A host that has seen the first `seconds` of the model.
    fn used_to(seconds: u64) -> Self {
        let mut host = Self::new();
        host.live(seconds, |traffic| traffic);
        host
    }

    /// `seconds` of the model, each changed by `change`, judged as the detector would judge paid traffic: crossing a
    /// learned limit is noted and does not stop learning, being close to one is suspected.
    fn live(&mut self, seconds: u64, change: impl Fn(Traffic) -> Traffic) {
        for _ in 0..seconds {
            let traffic = change(traffic(self.now));
            let judgement = self.judge(&traffic);
            self.end_second(&values(&traffic), judgement);
        }
    }

    /// `seconds` in which an attack is on top.
    fn suffer(&mut self, seconds: u64, attack: u64) {
        for _ in 0..seconds {
            let mut traffic = traffic(self.now);
            traffic.packets += attack;
            traffic.bits += attack * 512;
            self.end_second(&values(&traffic), Judgement::Hostile);
        }
    }

    fn judge(&mut self, traffic: &Traffic) -> Judgement {
        let mut judgement = Judgement::Quiet;
        for (value, in_force, unit) in [
            (traffic.packets, self.limits.pps, Unit::Packets),
            (traffic.bits, self.limits.bps, Unit::Bits),
        ] {
            let Some(limit) = in_force.limit else {
                continue;
            };
            if value >= limit.value {
                self.crossings.push((self.now, value, unit));
            } else if value >= limit.value / 10 * 8 {
                judgement = Judgement::Suspected;
            }
        }
        judgement
    }

    fn end_second(&mut self, values: &SecondValues, judgement: Judgement) {
        self.baseline
            .second(self.now, values, judgement, &self.caps);
        self.now += 1;
        // References move once a minute, except in the first five.
        if self.now - MONDAY < 600 || self.now.is_multiple_of(10) {
            self.caps = learning_caps(&self.settings, &self.baseline);
            self.limits = Limits::in_force(&self.settings, &self.baseline);
        }
    }

    /// Stops and starts again `seconds` later with nothing but the stored state.
    fn restart(&mut self, seconds: u64) -> usize {
        let stored = serde_json::to_vec(&self.baseline.state()).expect("a state can be written");
        let state: BaselineState = serde_json::from_slice(&stored).expect("a state can be read");
        self.now += seconds;
        self.baseline = Baseline::restore(baseline::Settings::default(), &state, self.now)
            .expect("a state is accepted");
        stored.len()
    }

    fn reference(&self) -> u64 {
        self.baseline.reference(Series::Pps).value
    }

    #[track_caller]
    fn assert_calm_since(&self, second: u64) {
        let crossings = self.crossings.iter().filter(|(at, _, _)| *at >= second);
        let first: Vec<_> = crossings.clone().take(3).collect();
        assert!(
            first.is_empty(),
            "{} crossings since {second}, beginning with {first:?}",
            crossings.count()
        );
    }
}

#[test]
fn five_weeks_of_a_busy_server_never_cross_a_learned_limit() {
    let started = clock::monotonic();
    let mut host = Host::new();
    let mut stored_bytes = 0;
    for week in 0..5 {
        host.live(WEEK / 2 + week * 5 * HOUR, |traffic| traffic);
        // An upgrade in the middle of the week, each at another hour.
        stored_bytes = host.restart(3 * MINUTE);
        host.live(WEEK * (week + 1) + MONDAY - host.now, |traffic| traffic);
    }
    tell!(
        "5 weeks in {:?}: R {}, limit {:?}, {} bytes in memory, {stored_bytes} stored, {} crossings in the first 3 days",
        started.elapsed(),
        host.reference(),
        host.limits.pps.limit,
        host.baseline.memory_bytes(),
        host.crossings.len(),
    );
    host.assert_calm_since(MONDAY + 3 * DAY);
    // The limits are worth something: not above 4 x the largest thing that ever happens.
    let limit = host.limits.pps.limit.expect("there is a limit");
    assert!(limit.value < 4 * 300_000, "found {limit:?}");
}

#[test]
fn traffic_that_doubles_for_good_becomes_normal_within_days() {
    let mut host = Host::used_to(4 * DAY);
    let before = host
        .baseline
        .reference(Series::Pps)
        .parts
        .day
        .expect("four days were seen");
    let doubled = |traffic: Traffic| Traffic {
        packets: traffic.packets * 2,
        bits: traffic.bits * 2,
        backup: traffic.backup * 2,
    };
    host.live(2 * DAY, doubled);
    host.assert_calm_since(MONDAY + 4 * DAY);
    let after = host.baseline.reference(Series::Pps);
    assert!(
        after.value >= before * 18 / 10,
        "R {} after {before}",
        after.value
    );
    assert!(!after.held);
}

#[test]
fn an_attack_of_thirty_hours_does_not_move_the_reference() {
    let mut host = Host::used_to(2 * DAY + 3 * HOUR);
    let before = host.reference();
    let mean = host.baseline.mean(Series::Pps);
    host.suffer(30 * HOUR, 800_000);
    assert_eq!(host.reference(), before);
    assert_eq!(host.baseline.mean(Series::Pps), mean);
    let attack_ended = host.now;
    host.live(DAY, |traffic| traffic);
    host.assert_calm_since(attack_ended);
    assert!(
        host.reference() < before * 12 / 10,
        "R {} after {before}",
        host.reference()
    );
}

#[test]
fn a_restart_in_the_middle_loses_nothing() {
    let mut kept = Host::used_to(DAY + 5 * HOUR + 17);
    let mut restarted = Host::new();
    restarted.now = kept.now;
    restarted.baseline = kept.baseline.clone();
    restarted.restart(0);
    for _ in 0..30 {
        kept.live(7 * MINUTE, |traffic| traffic);
        restarted.live(7 * MINUTE, |traffic| traffic);
        assert_eq!(restarted.baseline.state(), kept.baseline.state());
        assert_eq!(restarted.limits, kept.limits);
    }
}

/// How long one second takes: `cargo test --release --test baseline -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, which says nothing in a build without optimisation"]
fn what_a_second_costs() {
    let mut host = Host::used_to(2 * DAY);
    let every_class = |at: u64| {
        let mut values = values(&traffic(at));
        for (place, class) in TrafficClass::ALL.into_iter().enumerate() {
            values.set(
                Series::ClassPackets(class),
                mixed(at + place as u64) % 5_000,
            );
            values.set(
                Series::ClassBits(class),
                mixed(at + place as u64) % 5_000_000,
            );
        }
        values
    };
    for (name, seconds) in [
        (
            "4 classes",
            (0..DAY)
                .map(|at| values(&traffic(host.now + at)))
                .collect::<Vec<_>>(),
        ),
        (
            "20 classes",
            (DAY..2 * DAY)
                .map(|at| every_class(host.now + at))
                .collect(),
        ),
    ] {
        let started = clock::monotonic();
        for values in &seconds {
            host.baseline
                .second(host.now, values, Judgement::Quiet, &host.caps);
            host.now += 1;
        }
        tell!(
            "{name}: {} ns a second",
            started.elapsed().as_nanos() / seconds.len() as u128
        );
    }
}
