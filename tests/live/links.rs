//! Interfaces that go down, come up, are removed, made anew, renamed and changed while the agent watches them, in quiet and
//! under a flood: it stays, says so once each way, is back within two seconds, and counts every packet again.

use std::time::{Duration, Instant};

use ftagent::clock;

use crate::common::agent::Agent;
use crate::common::event::{Event, told};
use crate::common::generate::{self, Frames};
use crate::common::netns::{FIRST, HOST_LINK, Lab, Link, Offload, REPLACED, SECOND};
use crate::common::process::{Scratch, until};
use crate::common::tell;
use crate::story::{ENDS, LIMIT_PPS, OPENS, PAUSE_MICROS, RESOLVES, assert_one_story, incident_of};

/// The product's promise: from an interface's return until it is watched.
const BACK: Duration = Duration::from_secs(2);

/// From its loss until that is said: what a status that is looked at now and then needs.
const SAID: Duration = Duration::from_secs(2);

/// How long links may take until nothing comes over them by itself.
const SETTLES: Duration = Duration::from_secs(30);

/// Packets by which it is shown that each is counted: two seconds of them, below the limit of [`quiet`].
const PACKETS: u64 = 3_000;

/// A limit that nothing here comes near.
const QUIET: [&str; 3] = ["--threshold-pps", "100000", "--seconds"];

fn quiet(lab: &Lab) -> Agent {
    Agent::start(lab, &QUIET)
}

/// Waits until the agent says that `link` is lost, and for which reason.
fn assert_lost(agent: &mut Agent, link: &str, reason: &str) {
    let line = format!("warning: interface {link}: {reason}");
    assert!(agent.says(&line, SAID), "{line}\n{}", agent.log());
    assert!(
        agent.ends_within(Duration::ZERO).is_none(),
        "{}",
        agent.log()
    );
}

/// Waits until the agent says that `link`, which came back at `returned`, is watched again.
fn assert_back(agent: &Agent, link: &str, times: usize, returned: Instant) {
    let line = format!("interface {link}: is watched again after");
    let said = || agent.log().matches(&line).count() >= times;
    let back = until(BACK, said);
    tell!("{link} is watched again after {:?}", returned.elapsed());
    assert!(back, "{line}\n{}", agent.log());
}

/// Packets told so far, and of those the ones that capture saw come in.
fn packets(agent: &mut Agent) -> (u64, u64) {
    let seconds = agent.seconds();
    let captured = seconds.iter().flat_map(|second| second.classes.values());
    (
        seconds.iter().map(|second| second.pps).sum(),
        captured.sum(),
    )
}

/// What came over each of `links` until now, all of it told: nothing came any more for longer than the agent takes to tell
/// a second. A packet in that time would be counted on one side of this moment and told on the other.
fn settled(lab: &Lab, agent: &mut Agent, links: &[Link]) -> Vec<u64> {
    let arrived = || -> Vec<u64> {
        let counters = links.iter().map(|link| lab.host_counters_on(link));
        counters.map(|counters| counters.rx_packets).collect()
    };
    let mut before = arrived();
    let still = until(SETTLES, || {
        agent.wait_for(Duration::from_secs(2), |_| false);
        let now = arrived();
        std::mem::replace(&mut before, now.clone()) == now
    });
    assert!(still, "an idle link is not idle: {before:?}");
    before
}

/// Sends packets over `link` and sees that the agent counts each, by the interface and by capture, and loses none.
fn assert_counts_exactly(lab: &Lab, agent: &mut Agent, link: &Link) {
    assert_counts_beside(lab, agent, link, &[]);
}

/// The same, with other links of the same host beside it, over which nothing is sent.
fn assert_counts_beside(lab: &Lab, agent: &mut Agent, link: &Link, others: &[Link]) {
    let links = [&[*link], others].concat();
    let counted = settled(lab, agent, &links);
    let before = packets(agent);
    generate::trafgen_on(lab, link, &Frames::udp_on(lab, link), PACKETS, PAUSE_MICROS).wait(ENDS);
    let gained: Vec<u64> = settled(lab, agent, &links)
        .iter()
        .zip(&counted)
        .map(|(now, before)| now - before)
        .collect();
    let after = packets(agent);
    assert!(
        gained
            .first()
            .is_some_and(|gained| (PACKETS..=PACKETS + 20).contains(gained)),
        "{PACKETS} were sent, {gained:?} arrived"
    );
    let told = (after.0 - before.0, after.1 - before.1);
    // What the other links say by themselves is counted too.
    let all: u64 = gained.iter().sum();
    assert_eq!(told, (all, all), "{}", agent.told());
    let lost: u64 = agent
        .seconds()
        .iter()
        .map(|second| second.lost_ring + second.lost_interface)
        .sum();
    assert_eq!(lost, 0, "{}", agent.told());
}

/// Ends the agent, which must have told no incident and a second for each that passed.
fn assert_was_quiet(mut agent: Agent) {
    let seconds = agent.seconds();
    let labels: Vec<u64> = seconds
        .iter()
        .map(|second| second.recorded_at.as_seconds())
        .collect();
    assert!(
        labels
            .windows(2)
            .all(|pair| matches!(pair, [one, next] if *next == one + 1)),
        "a second is missing: {labels:?}"
    );
    let log = agent.log();
    let seen = agent.stop();
    assert!(
        seen.iter().all(|seen| seen.event.incident().is_none()),
        "{}",
        told(&seen)
    );
    assert!(
        !log.contains("panicked") && !log.contains("held up"),
        "{log}"
    );
}

#[test]
fn an_interface_that_is_removed_and_made_anew_is_watched_again_and_counts_from_zero() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = quiet(&lab);
    assert_counts_exactly(&lab, &mut agent, &FIRST);
    lab.remove_link();
    assert_lost(&mut agent, HOST_LINK, "was removed while it was watched");
    // Nothing is watched at all, and it stays.
    let ended = agent.ends_within(Duration::from_secs(2));
    assert!(ended.is_none(), "{}", agent.log());

    // Another number, and another card.
    let returned = clock::monotonic();
    lab.make_link(&REPLACED);
    assert_back(&agent, HOST_LINK, 1, returned);
    assert_counts_exactly(&lab, &mut agent, &REPLACED);

    // Gone and back before anybody has looked.
    lab.remove_link();
    let returned = clock::monotonic();
    lab.make_link(&FIRST);
    assert_back(&agent, HOST_LINK, 2, returned);
    assert_counts_exactly(&lab, &mut agent, &FIRST);
    let log = agent.log();
    assert_eq!(log.matches("warning: ").count(), 2, "once each: {log}");
    assert_was_quiet(agent);
}

#[test]
fn an_interface_that_goes_down_is_watched_again_when_it_is_up() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = quiet(&lab);
    for times in 1..=2 {
        lab.take_down();
        assert_lost(&mut agent, HOST_LINK, "went down");
        std::thread::sleep(Duration::from_millis(500));
        let returned = clock::monotonic();
        lab.bring_up();
        assert_back(&agent, HOST_LINK, times, returned);
        assert_counts_exactly(&lab, &mut agent, &FIRST);
    }
    // The far end goes down: no carrier here.
    let attacker = |state: &str| {
        let mut command = lab.attacker("ip");
        command.args(["link", "set", FIRST.attacker, state]);
        crate::common::process::succeed(&mut command, ENDS);
    };
    attacker("down");
    assert_lost(&mut agent, HOST_LINK, "has no carrier");
    let returned = clock::monotonic();
    attacker("up");
    assert_back(&agent, HOST_LINK, 3, returned);
    assert_was_quiet(agent);
}

#[test]
fn an_interface_that_was_down_when_it_was_removed_comes_back_too() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = quiet(&lab);
    lab.take_down();
    assert_lost(&mut agent, HOST_LINK, "went down");
    lab.remove_link();
    assert_lost(&mut agent, HOST_LINK, "was removed");
    let returned = clock::monotonic();
    lab.make_link(&FIRST);
    assert_back(&agent, HOST_LINK, 1, returned);
    assert_counts_exactly(&lab, &mut agent, &FIRST);
    assert_was_quiet(agent);
}

#[test]
fn another_hardware_address_and_another_mtu_are_followed() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = quiet(&lab);
    assert_counts_exactly(&lab, &mut agent, &FIRST);
    lab.host_ip(&["link", "set", HOST_LINK, "mtu", "1280"]);
    lab.host_ip(&["link", "set", HOST_LINK, "address", REPLACED.host_mac]);
    lab.host_ip(&["address", "add", "192.0.2.77/24", "dev", HOST_LINK]);
    // Frames to the new address come in; to who still knew the old one only, they would be somebody else's.
    assert_counts_exactly(&lab, &mut agent, &REPLACED);
    assert!(!agent.log().contains("warning"), "{}", agent.log());
    assert_was_quiet(agent);
}

#[test]
fn a_renamed_interface_stays_watched_until_another_bears_its_name() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let renamed = Link {
        host: "wan0",
        ..FIRST
    };
    let mut agent = quiet(&lab);
    lab.take_down();
    lab.host_ip(&["link", "set", HOST_LINK, "name", renamed.host]);
    lab.host_ip(&["link", "set", renamed.host, "up"]);
    let line = format!("interface {HOST_LINK}: is called wan0 now and stays watched");
    assert!(agent.says(&line, SAID), "{}", agent.log());
    assert_counts_exactly(&lab, &mut agent, &renamed);

    // The name is what counts once somebody bears it.
    lab.host_ip(&["link", "delete", renamed.host]);
    let returned = clock::monotonic();
    lab.make_link(&REPLACED);
    assert_back(&agent, HOST_LINK, 2, returned);
    assert_counts_exactly(&lab, &mut agent, &REPLACED);
    assert_was_quiet(agent);
}

#[test]
fn an_interface_that_is_lost_takes_nothing_from_the_one_beside_it() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    lab.add_second();
    let state = Scratch::new();
    let links = [HOST_LINK, SECOND.host];
    let mut agent = Agent::start_in(&lab, &links, state.path(), &QUIET);
    lab.remove_link();
    assert_lost(&mut agent, HOST_LINK, "was removed");
    assert_counts_exactly(&lab, &mut agent, &SECOND);
    let returned = clock::monotonic();
    lab.make_link(&REPLACED);
    assert_back(&agent, HOST_LINK, 1, returned);
    assert_counts_beside(&lab, &mut agent, &REPLACED, &[SECOND]);
    assert_counts_beside(&lab, &mut agent, &SECOND, &[REPLACED]);
    assert_was_quiet(agent);
}

/// A flood with the link lost in the middle of it: one incident. What restores the link gives the one to send over anew;
/// without one, the flood goes on by itself.
fn flood_through(name: &str, lose: impl FnOnce(&Lab), restore: impl FnOnce(&Lab) -> Option<Link>) {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = Agent::start(
        &lab,
        &["--threshold-pps", &LIMIT_PPS.to_string(), "--seconds"],
    );
    let flood = |link: &Link, packets| {
        let frames = Frames::udp_on(&lab, link);
        generate::trafgen_on(&lab, link, &frames, packets, PAUSE_MICROS)
    };
    let mut first = flood(&FIRST, 70_000);
    let opened = agent.wait_for(OPENS, Event::opens);
    assert!(opened.is_some(), "{name}: {}", agent.told());
    lose(&lab);
    std::thread::sleep(Duration::from_millis(1_500));
    let returned = clock::monotonic();
    let mut second = restore(&lab).map(|link| flood(&link, 15_000));
    if second.is_none() {
        assert!(first.ended().is_none(), "{name}: the flood ended too soon");
    }
    assert_back(&agent, HOST_LINK, 1, returned);
    first.wait(ENDS);
    if let Some(second) = &mut second {
        second.wait(ENDS);
    }
    let resolved = agent
        .wait_for(RESOLVES, Event::resolves)
        .unwrap_or_else(|| panic!("{name}: not resolved\n{}", agent.told()));
    let seconds = agent.seconds();
    let seen = agent.stop();
    assert_one_story(name, &seen);
    let incident = incident_of(&resolved);
    assert_eq!(incident.pulses, 0, "{name}: {incident:?}");
    assert_eq!(incident.attack_family, "udp_flood", "{name}");
    let busy = seconds
        .iter()
        .filter(|second| second.pps > LIMIT_PPS)
        .count();
    let most = seconds.iter().map(|second| second.pps).max();
    tell!("{name}: {busy} seconds above the limit, at most {most:?} packets");
    // A counter that began at zero, or had counted before it was read, would be a second without end.
    assert!(
        most.is_some_and(|most| most < 40_000) && incident.peak_pps < 40_000,
        "{name}: peak {}\n{}",
        incident.peak_pps,
        told(&seen)
    );
    assert!(busy >= 2, "{name}: {}", told(&seen));
}

#[test]
fn a_flood_goes_on_as_one_incident_when_the_interface_is_made_anew_in_it() {
    flood_through("flood, link made anew", Lab::remove_link, |lab| {
        lab.make_link(&REPLACED);
        Some(REPLACED)
    });
}

#[test]
fn a_flood_goes_on_as_one_incident_when_the_interface_goes_down_in_it() {
    flood_through("flood, link down", Lab::take_down, |lab| {
        lab.bring_up();
        None
    });
}
