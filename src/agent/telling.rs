//! What the engine found, as the ledger keeps it and the platform is told it.
//!
//! Translates between rooms that do not know each other: the engine's events, seconds and vitals into the ledger's steps
//! and samples and the uplink's vitals. Runs on the detector's thread and never waits: the ledger's handle hands on what
//! fits and counts what does not.

use super::live::Gauges;
use crate::count::TrafficSecond;
use crate::detect::limits::PlatformLimits;
use crate::detect::permille;
use crate::engine;
use crate::incident::{Event, Report};
use crate::ledger::{Ledger, Sample, Step};
use crate::uplink::{self, InterfaceVitals, PlatformValues};

/// IP protocol numbers of what both contracts tell apart.
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Hands an event to the ledger.
pub(super) fn tell_event(ledger: &Ledger, event: &Event) {
    let step = match event {
        Event::Opened(_) => Step::Open,
        Event::Updated(..) => Step::Update,
        Event::Resolved(_) => Step::Resolve,
    };
    ledger.event(step, Report::of(event.incident()));
}

/// A second as it is kept: `connections` are the established ones, `vitals` those at its end.
pub(super) fn sample(second: &TrafficSecond, connections: u32, vitals: &engine::Vitals) -> Sample {
    let protocols = &second.inbound.protocols;
    let all = second.inbound.wire().packets;
    let share = |packets: u64| {
        u32::try_from(permille(packets, all))
            .unwrap_or(1_000)
            .min(1_000)
    };
    Sample {
        start: second.start,
        span_seconds: 1,
        pps: second.pps,
        pps_max: second.pps,
        bps: second.bps,
        bps_max: second.bps,
        tcp_permille: share(protocols.of(TCP)),
        udp_permille: share(protocols.of(UDP)),
        icmp_permille: share(protocols.of(ICMP) + protocols.of(ICMPV6)),
        connections,
        threshold_pps: vitals.limits.pps.limit.map(|limit| limit.value),
    }
}

/// What the agent says about itself to the platform; `engine` is what the engine knows.
pub(super) fn vitals(
    engine: Option<&engine::Vitals>,
    interfaces: Vec<InterfaceVitals>,
    uptime_seconds: u64,
) -> uplink::Vitals {
    let known = uplink::Vitals {
        uptime_seconds,
        interfaces,
        ..uplink::Vitals::default()
    };
    let Some(engine) = engine else {
        return known;
    };
    uplink::Vitals {
        incident_open: engine.incident_open,
        baseline_ready: engine.baseline_ready,
        baseline_seconds: engine.baseline_seconds,
        baseline_mean_pps: engine.normal.mean_pps.unwrap_or(0),
        baseline_p99_pps: engine.normal.p99_pps.unwrap_or(0),
        baseline_hour_p99_pps: engine.usual_hour_p99_pps,
        warming_up: engine.warming_up,
        sources: engine.sources.count,
        source_overflow: !engine.sources.exact,
        silent_seconds: engine.silent_seconds,
        ..known
    }
}

/// The same of an agent on interfaces.
pub(super) fn vitals_of(gauges: &Gauges, uptime_seconds: u64) -> uplink::Vitals {
    let interfaces = gauges.links().into_iter().map(|link| InterfaceVitals {
        name: link.name,
        rx_bytes: link.rx_bytes,
        tx_bytes: link.tx_bytes,
        watched: link.watched,
    });
    vitals(
        gauges.vitals().as_ref(),
        interfaces.collect(),
        uptime_seconds,
    )
}

/// What the engine takes over of the platform's wishes.
pub(super) const fn platform_limits(values: &PlatformValues) -> PlatformLimits {
    PlatformLimits {
        pps_threshold: values.pps_threshold,
        mean_pps: values.mean_pps,
        p99_pps: values.p99_pps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::baseline::{
        Baseline, Judgement, LearningCaps, SecondValues, Series, Settings,
    };
    use crate::engine::Engine;

    const DAY: u64 = 86_400;
    /// 12:00 UTC of some day.
    const NOON: u64 = 20_000 * DAY + DAY / 2;

    /// An engine that has watched the same hour on so many days, with 100 packets a second, and two minutes of it today,
    /// with 90.
    fn engine(days: u64) -> Engine {
        let mut baseline = Baseline::new(Settings::default());
        let mut watch = |seconds: std::ops::Range<u64>, pps| {
            let mut values = SecondValues::new();
            values.set(Series::Pps, pps);
            for second in seconds {
                baseline.second(second, &values, Judgement::Quiet, &LearningCaps::default());
            }
        };
        for day in 0..days {
            let from = NOON + day * DAY;
            watch(from..from + 3_600, 100);
        }
        let today = NOON + days * DAY;
        watch(today..today + 120, 90);
        Engine::new(engine::Settings::default(), Some(baseline))
    }

    #[test]
    fn the_hour_of_the_day_is_told_once_it_was_seen_on_three_days() {
        for (days, expected) in [(2, None), (3, Some(100))] {
            let told = vitals(Some(&engine(days).vitals()), Vec::new(), 9);
            assert_eq!(told.baseline_hour_p99_pps, expected);
            assert_eq!(told.baseline_seconds, days * 3_600 + 120);
            assert_eq!((told.baseline_ready, told.warming_up), (true, false));
            assert_eq!(told.uptime_seconds, 9);
        }
    }

    #[test]
    fn before_the_engine_was_asked_nothing_is_claimed() {
        let told = vitals(None, Vec::new(), 9);
        let nothing = uplink::Vitals {
            uptime_seconds: 9,
            ..uplink::Vitals::default()
        };
        assert_eq!(told, nothing);
    }
}
