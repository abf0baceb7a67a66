//! From the detector's event to the request on the wire: through the ledger's commit on the disk and the uplink.
//!
//! The whole agent runs in this process, so that its events are seen at the moment at which the detector's thread hands
//! them out; the platform says when a request's head had arrived. Both read the same clock. A flood that goes on for
//! minutes is reported each second.

use std::time::{Duration, Instant};

use ftagent::demo::platform::{Endpoint, NodeConfig};

use crate::common::generate::{Frames, trafgen_for};
use crate::common::process::until;
use crate::common::resident::Resident;
use crate::figures::{Budget, percentile};
use crate::node::LIMIT_PPS;
use crate::process::quiet_node;

/// product.md, section 6: at the 99th percentile.
const BUDGET: Budget = Budget {
    most: 50.0,
    unit: "ms",
};

/// Events looked at: the 99th percentile is then not the largest.
const EVENTS: usize = 200;

/// Reported each second, and a little longer than that many seconds.
const LOOK: Duration = Duration::from_secs(230);

/// Between two packets of the flood: three times the limit.
const PAUSE_MICROS: u64 = 200;

pub(crate) fn measure() {
    let node = quiet_node();
    node.platform.set_config(NodeConfig::threshold(LIMIT_PPS));
    let config = std::fs::read_to_string(&node.config).expect("it was written");
    std::fs::write(
        &node.config,
        format!("{config}[detection]\nupdate_seconds = 1\n"),
    )
    .expect("it can be written again");
    let agent = Resident::start(&node.lab, &node.config, node.state.path());
    node.wait_for_limit();
    let flood = trafgen_for(&node.lab, &Frames::syn(&node.lab), PAUSE_MICROS, LOOK);
    let is_enough = until(LOOK, || agent.heard().events.len() > EVENTS);
    drop(flood);
    // For the last one's request.
    std::thread::sleep(Duration::from_secs(1));
    let mut events = agent.heard().events;
    drop(agent);
    assert!(is_enough, "only {} events in {LOOK:?}", events.len());
    events.truncate(EVENTS);

    let requests: Vec<Instant> = node
        .platform
        .recorded()
        .into_iter()
        .filter(|each| each.endpoint == Endpoint::Incident)
        .map(|each| each.at)
        .collect();
    // An event's request is the first one after it. One that was merged into the next event's shows as late as that.
    let mut delays: Vec<f64> = events
        .iter()
        .map(|event| {
            let request = requests.iter().find(|request| *request >= event);
            let request = request.expect("every event is told");
            (*request - *event).as_secs_f64() * 1_000.0
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    BUDGET.print(
        "event to request on the wire, 99th percentile",
        percentile(&delays, 99),
        format_args!(
            "; median {:.2} ms, largest {:.2} ms of {}",
            percentile(&delays, 50),
            percentile(&delays, 100),
            delays.len()
        ),
    );
}
