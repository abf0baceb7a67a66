//! What the agent takes of a core: at a thousand packets a second, and with none.
//!
//! Every packet of it comes from another source, which is more work than ordinary traffic makes.

use std::time::Duration;

use ftagent::clock;

use crate::common::generate::{Frames, trafgen_for};
use crate::figures::{self, Budget};
use crate::process::{Process, quiet_node};

/// product.md, section 6: at 1,000 packets a second.
const BUDGET: Budget = Budget {
    most: 0.5,
    unit: "% of a core",
};

/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Between two packets. With the cost of a send that is a thousand a second.
const PAUSE_MICROS: u64 = 900;

pub(crate) fn measure() {
    let node = quiet_node();
    let agent = Process::start(&node);
    let idle = look(&agent, LOOK / 3);
    figures::print(
        "own CPU, online, without traffic",
        format!("{:.2} % of a core", idle.percent),
    );
    let longest = LOOK + Duration::from_secs(30);
    let frames = Frames::udp(&node.lab);
    let flood = trafgen_for(&node.lab, &frames, PAUSE_MICROS, longest);
    // Until the first seconds with it are over.
    std::thread::sleep(Duration::from_secs(3));
    let before = node.lab.host_counters().rx_packets;
    let busy = look(&agent, LOOK);
    let packets = node.lab.host_counters().rx_packets - before;
    drop(flood);
    let seconds = LOOK.as_secs();
    BUDGET.print(
        "own CPU at 1 kpps, online",
        busy.percent,
        format_args!(", at {} packets/s for {seconds} s", packets / seconds),
    );
    figures::print("  of it", busy.threads);
    agent.stop();
}

struct Look {
    percent: f64,
    threads: String,
}

/// Looks at the agent for a while.
fn look(agent: &Process, length: Duration) -> Look {
    let (threads, ticks, begun) = (agent.threads(), agent.ticks(), clock::monotonic());
    std::thread::sleep(length);
    let (ticks, passed) = (agent.ticks() - ticks, begun.elapsed());
    let percent =
        |nanos: u64| 100.0 * Duration::from_nanos(nanos).as_secs_f64() / passed.as_secs_f64();
    let ran: Vec<String> = agent
        .threads()
        .into_iter()
        .zip(threads)
        .filter(|((name, _), (same, _))| name == same)
        .map(|((name, now), (_, before))| format!("{name} {:.3}", percent(now - before)))
        .collect();
    Look {
        // A tick is 10 ms (USER_HZ).
        percent: percent(ticks * 10_000_000),
        threads: ran.join(", "),
    }
}
