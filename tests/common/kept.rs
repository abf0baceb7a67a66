//! What tests of the ledger put into it.

use std::path::Path;
use std::time::Duration;

use ftagent::clock::{self, Timestamp};
use ftagent::detect::baseline::{
    Baseline, BaselineState, Judgement, LearningCaps, SecondValues, Series,
};
use ftagent::incident::Report;
use ftagent::ledger::{Ledger, Sample, Settings};

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

/// Packets a second that [`learned`] has seen.
pub(crate) const LEARNED_PPS: u64 = 100;

/// What a baseline has learned by now that has watched this hour of the day, and the hours beside it, on four days, and
/// the last two hours: everything there is, with [`LEARNED_PPS`].
pub(crate) fn learned() -> BaselineState {
    const HOUR: u64 = 3_600;
    let now = clock::now().as_seconds();
    let this_hour = now / HOUR * HOUR;
    let mut baseline = Baseline::new(ftagent::detect::baseline::Settings::default());
    let mut values = SecondValues::new();
    values.set(Series::Pps, LEARNED_PPS);
    let earlier = (1..=4).rev().map(|days| {
        let hour = this_hour - days * 24 * HOUR;
        hour - HOUR..hour + 2 * HOUR
    });
    for seconds in earlier.chain(std::iter::once(now - 2 * HOUR..now)) {
        for second in seconds {
            baseline.second(second, &values, Judgement::Quiet, &LearningCaps::default());
        }
    }
    baseline.state()
}

/// Leaves what was learned in a state directory, as an earlier run would have.
pub(crate) fn leave(dir: &Path, learned: BaselineState) {
    let settings = Settings {
        dir: Some(dir.to_owned()),
        ..Settings::default()
    };
    let (ledger, _) = Ledger::open(settings).expect("it opens");
    ledger.baseline(learned);
    ledger.close(Duration::from_secs(10));
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
