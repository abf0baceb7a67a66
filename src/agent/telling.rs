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

/// What the agent says about itself to the platform; `engine` is what the engine knows, once a second is over.
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
