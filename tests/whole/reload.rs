//! SIGHUP in the middle of a flood: no packet goes uncounted, whatever the new configuration is.

use std::time::Duration;

use ftagent::clock;
use ftagent::demo::platform::{Endpoint, Serves};
use rustix::process::Signal;

use crate::common::agent::Agent;
use crate::common::event::{Event, Second, told};
use crate::common::generate::{Frames, trafgen};
use crate::common::netns::FIRST;
use crate::common::process::until;
use crate::common::tell;
use crate::node::{KEY, Node};

/// What the flood has, and how long it takes at most.
const PACKETS: u64 = 40_000;
const ENDS: Duration = Duration::from_secs(20);

/// Signals during the flood, each sent when the one before has been answered: three rounds of what a file can be.
const SIGNALS: usize = 12;

/// The key that takes turns with the other one.
const OTHER_KEY: &str = "ft_live_marker0badc0de0badc0de0badc0ffee5c0ff";

/// What the agent says when it has read its configuration again.
const TAKEN_OVER: &str = "configuration: ";
const REFUSED: &str = "the old one stays in force";

#[test]
fn reading_the_configuration_again_in_a_flood_loses_no_packet() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let good = std::fs::read_to_string(&node.config).expect("the configuration");
    let node_uuid = good.split('"').nth(3).expect("it stands behind the key");
    node.lab.settle(&[FIRST]);
    let before = node.lab.host_counters();
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    let mut flood = trafgen(&node.lab, &Frames::syn(&node.lab), PACKETS, 100);
    std::thread::sleep(Duration::from_millis(300));
    let (mut delays, mut key, mut limit) = (Vec::new(), KEY, 500_000);
    for number in 0..SIGNALS {
        // Another limit, a mistake beside a third limit, another key, the mistake again.
        let is_fine = number.is_multiple_of(2);
        if number % 4 == 0 {
            limit += 1;
        }
        if number % 4 == 2 {
            key = if key == KEY { OTHER_KEY } else { KEY };
            node.platform.admit(node_uuid, key);
        }
        let detection = if is_fine {
            format!("pps_threshold = {limit}\n")
        } else {
            "pps_threshold = 777777\nhold_secnds = 3\n".to_owned()
        };
        let text = good.replace(KEY, key) + "[detection]\n" + &detection;
        std::fs::write(&node.config, text).expect("the file is ours");
        let said_before = answers(&agent);
        let begun = clock::monotonic();
        agent.signal(Signal::HUP);
        let answered = until(Duration::from_secs(3), || answers(&agent) != said_before);
        delays.push(begun.elapsed());
        assert!(answered, "signal {number}: {}", agent.log());
        let (taken_over, refused) = answers(&agent);
        assert_eq!(
            taken_over > said_before.0,
            is_fine,
            "signal {number}: {}",
            agent.log()
        );
        assert_eq!(
            refused > said_before.1,
            !is_fine,
            "signal {number}: {}",
            agent.log()
        );
    }
    assert!(
        flood.ended().is_none(),
        "the flood ended before the last signal"
    );
    delays.sort_unstable();
    tell!("SIGHUP to the log's answer: {delays:?}");
    flood.wait(ENDS);
    let restarted_at = node.platform.recorded().len();
    // Whole seconds of silence, so that the last packet lies in a second that was told.
    agent.wait_for(Duration::from_secs(3), |_| false);
    node.wait("seconds with the new key", |received| {
        let mut new = received.iter().skip(restarted_at);
        new.any(|each| each.endpoint == Endpoint::Metrics && each.taken)
    });
    let after = node.lab.host_counters();
    let log = agent.log();
    let seen = agent.stop();
    assert!(
        !log.contains("777,777"),
        "nothing of a file with a mistake is taken over: {log}"
    );

    let seconds: Vec<&Second> = seen
        .iter()
        .filter_map(|seen| match &seen.event {
            Event::Second(second) => Some(second),
            _ => None,
        })
        .collect();
    let gained = after.rx_packets - before.rx_packets;
    let packets: u64 = seconds.iter().map(|second| second.pps).sum();
    let bits: u64 = seconds.iter().map(|second| second.bps).sum();
    tell!(
        "{SIGNALS} signals: sent {PACKETS}, the interface gained {gained}, the agent told {packets}"
    );
    assert_eq!(packets, gained, "{}", told(&seen));
    assert_eq!(
        bits,
        (after.rx_bytes - before.rx_bytes) * 8,
        "{}",
        told(&seen)
    );
    assert!(
        gained >= PACKETS,
        "the generator sent {PACKETS}, {gained} arrived"
    );
    for pair in seconds.windows(2) {
        let [one, next] = *pair else { continue };
        let apart = next.recorded_at.as_seconds() - one.recorded_at.as_seconds();
        assert_eq!(apart, 1, "each second is told: {}", told(&seen));
    }
}

/// How often it has said that it took something over, and that it did not.
fn answers(agent: &Agent) -> (usize, usize) {
    let log = agent.log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    (lines(TAKEN_OVER), lines(REFUSED))
}
