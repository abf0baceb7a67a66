//! An agent that is killed in the middle of an attack, and what the platform hears after its restart.

use std::collections::BTreeSet;
use std::time::Duration;

use ftagent::demo::platform::{Call, Serves};
use rustix::process::Signal;

use crate::common::event::Event;
use crate::node::Node;

/// How often the agent is killed; 200 times and more with `FTAGENT_LONG`, a few in every run.
fn rounds() -> u64 {
    if std::env::var_os("FTAGENT_LONG").is_some() {
        200
    } else {
        4
    }
}

#[test]
fn an_agent_killed_at_any_moment_of_an_attack_tells_of_one_attack() {
    let Some(node) = Node::new(Serves::Resource, "resource") else {
        return;
    };
    let mut moment_millis = 0;
    for round in 0..rounds() {
        let since = node
            .platform
            .recorded()
            .last()
            .map_or(0, |last| last.number + 1);
        let mut agent = node.start(&[]);
        node.wait("a look at the configuration", |received| {
            received
                .iter()
                .any(|each| each.number >= since && each.taken)
        });
        std::thread::sleep(Duration::from_millis(300));
        let mut flood = node.flood(20_000);
        let opened = agent.wait_for(Duration::from_secs(5), Event::opens);
        let opened =
            opened.unwrap_or_else(|| panic!("round {round}: no incident\n{}", agent.told()));
        let id = opened.event.incident().expect("it tells of one").id.clone();
        // Steps of the golden ratio fall everywhere, and nowhere twice.
        moment_millis = (moment_millis + 1_545) % 2_500;
        std::thread::sleep(Duration::from_millis(moment_millis));
        agent.signal(Signal::KILL);
        assert!(agent.ends_within(Duration::from_secs(5)).is_some());
        // In half of the rounds the attack goes on after the restart, in the others it is over by then.
        if round % 2 == 1 {
            flood.wait(Duration::from_secs(20));
        }
        let mut agent = node.start(&[]);
        let resolved = agent.wait_for(Duration::from_secs(30), Event::resolves);
        let resolved =
            resolved.unwrap_or_else(|| panic!("round {round}: never resolved\n{}", agent.told()));
        let incident = resolved.event.incident().expect("it tells of one");
        assert_eq!(
            incident.id,
            id,
            "round {round}: the same incident\n{}",
            agent.told()
        );
        flood.wait(Duration::from_secs(20));
        node.wait("resolve", |received| {
            received.iter().any(|each| {
                each.number >= since && each.taken && matches!(each.call, Call::Resolve { .. })
            })
        });
        agent.stop();
        let mut opens = 0;
        let mut uuids = BTreeSet::new();
        let mut resolves = 0;
        for each in node.platform.recorded_since(since) {
            match each.call {
                Call::Open(_) if each.taken => opens += 1,
                Call::Update { uuid, .. } => {
                    uuids.insert(uuid);
                }
                Call::Resolve { uuid, .. } => {
                    uuids.insert(uuid);
                    resolves += 1;
                }
                _ => {}
            }
        }
        // An opening whose answer was lost with the process is told again: this contract cannot say it is the same.
        assert!(
            (1..=2).contains(&opens),
            "round {round}: {opens} openings\n{}",
            node.heard()
        );
        assert_eq!(uuids.len(), 1, "round {round}: {uuids:?}");
        assert_eq!(
            resolves,
            1,
            "round {round}: {resolves} ends\n{}",
            node.heard()
        );
    }
}
