//! What tests of the ledger put into it.

use ftagent::clock::Timestamp;
use ftagent::incident::Report;
use ftagent::ledger::Sample;

/// The report of a recorded attack, as if it were of the incident `id`, at its `telling`-th.
pub(crate) fn report(id: &str, telling: u64) -> Report {
    let line = include_str!("../golden/syn_flood.jsonl").lines().next();
    let event: serde_json::Value =
        serde_json::from_str(line.expect("there is an event")).expect("an event is JSON");
    let incident = event.get("incident").cloned();
    let mut report: Report = serde_json::from_value(incident.expect("an event tells of one"))
        .expect("what is printed of an incident is its report");
    id.clone_into(&mut report.id);
    report.packets = telling;
    report
}

/// A second with `pps` packets, all TCP.
pub(crate) fn sample(second: u64, pps: u64) -> Sample {
    Sample {
        start: Timestamp::from_seconds(second),
        span_seconds: 1,
        pps,
        pps_max: pps,
        bps: pps * 800,
        bps_max: pps * 800,
        tcp_permille: 1_000,
        udp_permille: 0,
        icmp_permille: 0,
        connections: 7,
        threshold_pps: Some(10_000),
    }
}

/// Numbers that look random and are the same for the same seed (the finaliser of splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }
}

/// Waits for an answer of the ledger.
pub(crate) fn block_on<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers can be had")
        .block_on(answer)
}
