//! A platform that is away, slow or wrong: nothing is lost, nothing is told twice, and detection does not notice.

use std::time::Duration;

use ftagent::demo::platform::{Call, Fault, Oddity, Serves};

use crate::common::event::{Event, Seen};
use crate::common::tell;
use crate::node::Node;

#[test]
fn what_happens_while_the_platform_is_away_is_told_when_it_is_back() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    node.platform.set_reachable(false);
    let mut flood = node.flood(10_000);
    assert!(
        agent
            .wait_for(Duration::from_secs(5), Event::opens)
            .is_some()
    );
    flood.wait(Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(node.steps().len(), 0, "{}", node.heard());
    node.platform.set_reachable(true);
    node.wait("incident after the outage", |received| {
        received
            .iter()
            .any(|each| each.taken && matches!(each.call, Call::Incident(_)))
    });
    assert!(
        agent
            .wait_for(Duration::from_secs(25), Event::resolves)
            .is_some()
    );
    agent.stop();
    for each in node.platform.recorded() {
        // What is live goes first; what waited is caught up on beside it.
        let is_backlog =
            |oddity: &Oddity| matches!(oddity, Oddity::OutOfOrder { .. } | Oddity::PeakFell);
        assert!(each.violations.is_empty(), "{:?}", each.violations);
        assert!(each.oddities.iter().all(is_backlog), "{:?}", each.oddities);
    }
}

#[test]
fn a_platform_that_sends_a_byte_a_second_does_not_move_the_windows() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    let quiet = lateness(&mut agent, 8);
    node.platform.set_fault_everywhere(Fault::slow(1));
    let slow = lateness(&mut agent, 8);
    tell!("second told after its end, median: {quiet} us, with a slow platform {slow} us");
    // The product's 5 ms, on a machine that tests share.
    assert!(
        slow <= quiet + 5_000,
        "{slow} us after the second's end instead of {quiet} us"
    );
    node.platform.clear_faults();
    agent.stop();
}

/// How long after its end a second is told, in microseconds: the median of so many.
fn lateness(agent: &mut crate::common::agent::Agent, seconds: usize) -> u64 {
    let mut late: Vec<u64> = Vec::new();
    while late.len() < seconds {
        let seen = agent.next_second(Duration::from_secs(5));
        let Some(Seen { at, .. }) = seen else {
            panic!("no seconds\n{}", agent.told());
        };
        late.push(at.as_nanos() % 1_000_000_000 / 1_000);
    }
    late.sort_unstable();
    late.get(seconds / 2).copied().unwrap_or_default()
}
