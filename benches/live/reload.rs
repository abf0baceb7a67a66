//! From SIGHUP to its effect: a limit that is lowered below the traffic that is there opens an incident.

use std::fs;
use std::time::Duration;

use ftagent::clock;
use ftagent::demo::platform::Serves;
use rustix::process::Signal;

use crate::common::event::Event;
use crate::common::generate::{Frames, trafgen_for};
use crate::figures::{Budget, percentile};
use crate::node::Node;

/// product.md, section 6. It holds for each.
const BUDGET: Budget = Budget {
    most: 200.0,
    unit: "ms",
};

/// How often.
const SIGNALS: usize = 20;

/// Limits below and above the traffic, which has a packet each millisecond.
const LOW: u64 = 300;
const HIGH: u64 = 1_000_000;
const PAUSE_MICROS: u64 = 900;

/// For the limit that is raised again: the incident ends after a second, and the next one is another.
const ENDS: Duration = Duration::from_secs(10);

pub(crate) fn measure() {
    let node =
        Node::new(Serves::Seed, "seed").expect("measuring needs root and the tools of the tests");
    let config = fs::read_to_string(&node.config).expect("it was written");
    let set = |limit: u64| {
        let detection =
            format!("[detection]\npps_threshold = {limit}\nhold_seconds = 1\nreopen_seconds = 0\n");
        fs::write(&node.config, format!("{config}{detection}")).expect("it can be written again");
    };
    set(HIGH);
    let mut agent = node.start(&[]);
    let longest = (ENDS * 2) * u32::try_from(SIGNALS).unwrap_or(u32::MAX);
    let flood = trafgen_for(&node.lab, &Frames::udp(&node.lab), PAUSE_MICROS, longest);
    std::thread::sleep(Duration::from_secs(2));
    let mut delays = Vec::new();
    for _ in 0..SIGNALS {
        set(LOW);
        let begun = clock::now();
        agent.signal(Signal::HUP);
        let opened = agent
            .next(ENDS, Event::opens)
            .expect("the new limit opens an incident");
        delays.push(Duration::from_nanos(opened.at.nanos_since(begun)).as_secs_f64() * 1_000.0);
        set(HIGH);
        agent.signal(Signal::HUP);
        agent
            .next(ENDS, Event::resolves)
            .expect("the old limit ends it");
    }
    drop(flood);
    agent.stop();
    delays.sort_by(f64::total_cmp);
    BUDGET.print(
        "SIGHUP to an incident by the new limit, longest",
        percentile(&delays, 100),
        format_args!("; median {:.0} ms of {SIGNALS}", percentile(&delays, 50)),
    );
}
