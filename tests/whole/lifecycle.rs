//! One attack from its first packet to the platform's last word of it, in both contracts.

use std::time::Duration;

use ftagent::demo::platform::{Call, Endpoint, Oddity, Serves};
use rustix::process::Signal;
use serde_json::Value;

use crate::common::event::Event;
use crate::common::process::until;
use crate::common::tell;
use crate::node::{LIMIT_PPS, Node, QUICK, assert_right};

/// A flood ends after seconds, is held for ten, and told then.
const RESOLVES: Duration = Duration::from_secs(25);

#[test]
fn an_attack_is_told_by_the_seed_contract_from_its_opening_to_a_last_update() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    let mut flood = node.flood(20_000);
    let opened = agent.wait_for(Duration::from_secs(5), Event::opens);
    let opened = opened.unwrap_or_else(|| panic!("no incident\n{}", agent.told()));
    flood.wait(RESOLVES);
    let resolved = agent.wait_for(RESOLVES, Event::resolves);
    let resolved = resolved.unwrap_or_else(|| panic!("not resolved\n{}", agent.told()));
    let last = resolved.event.incident().expect("it tells of one").clone();
    node.wait("last update", |received| {
        received
            .iter()
            .rev()
            .find(|each| each.endpoint == Endpoint::Incident)
            .is_some_and(|each| each.body["peak_pps"] == last.peak_pps && each.wall >= resolved.at)
    });
    let told = opened.event.incident().expect("it tells of one");
    assert_eq!(
        told.threshold_pps,
        Some(LIMIT_PPS),
        "the platform's limit was in force"
    );
    agent.stop();
    node.assert_all_right();

    let steps = node.steps();
    let first = steps.first().expect("there were steps");
    assert_eq!(first.body["attack_family"], "syn_flood");
    let delay_millis = first.wall.millis_since(opened.at);
    tell!(
        "event line to request: {delay_millis} ms; {} steps",
        steps.len()
    );
    let samples: Vec<_> = node
        .platform
        .recorded()
        .into_iter()
        .filter_map(|each| match each.call {
            Call::Metrics(_) => Some(each.body),
            _ => None,
        })
        .collect();
    assert!(samples.len() >= 12, "{}", node.heard());
    let mut seconds: Vec<_> = samples.iter().map(|each| &each["recorded_at"]).collect();
    let all = seconds.len();
    seconds.dedup();
    assert_eq!(seconds.len(), all, "each second is told once");
    let busiest = samples.iter().filter_map(|each| each["pps"].as_u64()).max();
    assert!(
        busiest > Some(LIMIT_PPS),
        "the flood is in the samples: {busiest:?}"
    );
    let heartbeats = node.platform.recorded();
    let heartbeat = heartbeats
        .iter()
        .find(|each| each.endpoint == Endpoint::Heartbeat)
        .expect("there was a heartbeat");
    assert_eq!(heartbeat.body["agent_version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn an_attack_is_told_by_the_resource_contract_and_resolved_with_what_it_was_like() {
    let Some(node) = Node::new(Serves::Resource, "auto") else {
        return;
    };
    let mut agent = node.start(&[]);
    node.wait_for_limit();
    let mut flood = node.flood(20_000);
    let opened = agent.wait_for(Duration::from_secs(5), Event::opens);
    assert!(opened.is_some(), "no incident\n{}", agent.told());
    flood.wait(RESOLVES);
    node.wait("resolve", |received| {
        received
            .iter()
            .any(|each| matches!(each.call, Call::Resolve { .. }) && each.taken)
    });
    agent.stop();
    // `auto` begins with the seed contract, which this platform does not know.
    let received = node.platform.recorded();
    let switched = received
        .iter()
        .position(|each| each.endpoint == Endpoint::Open)
        .expect("it was opened");
    assert_right(received.get(switched..).unwrap_or_default());
    let steps = node.steps();
    let kinds: Vec<_> = steps.iter().map(|each| each.endpoint).collect();
    assert_eq!(kinds.first(), Some(&Endpoint::Open), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&Endpoint::Resolve), "{kinds:?}");
    let opens = kinds.iter().filter(|kind| **kind == Endpoint::Open);
    assert_eq!(opens.count(), 1, "{kinds:?}");
    let last = &steps.last().expect("there were steps").body;
    assert!(last["pkt_length_histogram"].is_object(), "{last}");
    assert!(last["ttl_distribution"].is_object(), "{last}");
    assert!(last["velocity_curve"].is_array(), "{last}");
}

/// Attacks a node three times, with a restart before each return: a planned one, and one after a kill. Returns when the
/// last end was told.
fn comes_back_after_restarts(node: &Node) {
    let mut agent = node.start(&[]);
    node.wait_for_limit();
    node.flood(10_000).wait(RESOLVES);
    let resolved = agent.wait_for(RESOLVES, Event::resolves);
    let resolved = resolved.unwrap_or_else(|| panic!("not resolved\n{}", agent.told()));
    let first = resolved.event.incident().expect("it tells of one").clone();
    for (pulses, ends_well) in [(1, true), (2, false)] {
        let is_told = || node.status().get("waiting_incidents") == Some(&Value::from(0));
        assert!(until(RESOLVES, is_told), "{}", node.status());
        if ends_well {
            agent.stop();
        } else {
            agent.signal(Signal::KILL);
            assert!(agent.ends_within(RESOLVES).is_some());
        }
        let since = node.platform.recorded().len() as u64;
        agent = node.start(&[]);
        node.wait_for_limit_since(since);
        node.flood(10_000).wait(RESOLVES);
        let resolved = agent.wait_for(RESOLVES, Event::resolves);
        let resolved = resolved.unwrap_or_else(|| panic!("not resolved\n{}", agent.told()));
        assert!(
            agent.log().contains("attack updated (reopened)"),
            "{}",
            agent.log()
        );
        let again = resolved.event.incident().expect("it tells of one");
        assert_eq!(
            (
                &again.id,
                &again.started_at,
                again.pulses,
                again.ended_unseen
            ),
            (&first.id, &first.started_at, pulses, false),
            "{}",
            agent.told()
        );
    }
    agent.stop();
}

#[test]
fn an_attack_that_comes_back_after_a_restart_is_the_same_incident() {
    let Some(node) = Node::with(Serves::Seed, "seed", QUICK) else {
        return;
    };
    comes_back_after_restarts(&node);
    assert_eq!(node.platform.incidents().len(), 1, "{}", node.heard());
    for each in node.platform.recorded() {
        assert!(each.violations.is_empty(), "{each:?}");
        // The second of a restart has two parts, and an answer may get lost with the process.
        let is_expected =
            |oddity: &Oddity| matches!(oddity, Oddity::SecondAgain { .. } | Oddity::PeakFell);
        assert!(each.oddities.iter().all(is_expected), "{each:?}");
    }
}

#[test]
fn where_nothing_can_be_reopened_it_is_opened_again_with_the_same_beginning() {
    let Some(node) = Node::with(Serves::Resource, "resource", QUICK) else {
        return;
    };
    comes_back_after_restarts(&node);
    let known = node.platform.incidents();
    assert_eq!(known.len(), 3, "{}", node.heard());
    let [first, ..] = &known[..] else {
        panic!("there are three")
    };
    for each in &known {
        assert!(each.resolved, "{each:?}\n{}", node.heard());
        assert_eq!(each.newest.started_at, first.newest.started_at, "{each:?}");
    }
    for each in node.platform.recorded() {
        assert!(each.violations.is_empty(), "{each:?}");
        let is_expected =
            |oddity: &Oddity| matches!(oddity, Oddity::OpenedAgain { .. } | Oddity::PeakFell);
        assert!(each.oddities.iter().all(is_expected), "{each:?}");
    }
}
