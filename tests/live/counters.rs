//! What the agent counts is what the interfaces count: one link, two links, and with the reader held up.

use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::event::{Event, Second, told};
use crate::common::generate::{self, Frames};
use crate::common::netns::{FIRST, Lab, Offload, SECOND};
use crate::common::process::Scratch;
use crate::common::recording::{Recording, peak_pps};
use crate::common::tell;
use crate::story::{
    ENDS, LIMIT_PPS, Named, OPENS, PACKETS, PAUSE_MICROS, PEAK_PERCENT, RESOLVES, assert_named,
    assert_one_story, incident_of, seconds, table_row,
};

/// How long the reader is held up: longer than the capture ring lasts.
const HELD_UP: Duration = Duration::from_millis(1_500);

/// Longer than the detector catches up with window by window.
const HELD_UP_FOR_LONG: Duration = Duration::from_secs(12);

#[test]
fn every_packet_sent_is_counted_once() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    lab.settle(&[FIRST]);
    let before = lab.host_counters();
    let mut agent = Agent::start(
        &lab,
        &["--threshold-pps", &LIMIT_PPS.to_string(), "--seconds"],
    );
    let mut generator = generate::trafgen(&lab, &Frames::udp(&lab), PACKETS, PAUSE_MICROS);
    generator.wait(ENDS);
    // Two whole seconds of silence, so that the last packet lies in a second that was told.
    agent.wait_for(Duration::from_secs(3), |_| false);
    let after = lab.host_counters();
    let seen = agent.stop();
    let gained = after.rx_packets - before.rx_packets;
    let packets: u64 = seconds(&seen).map(|second| second.pps).sum();
    let bits: u64 = seconds(&seen).map(|second| second.bps).sum();
    tell!("every packet: sent {PACKETS}, the interface gained {gained}, the agent told {packets}");
    assert_eq!(packets, gained, "{}", told(&seen));
    assert_eq!(
        bits,
        (after.rx_bytes - before.rx_bytes) * 8,
        "{}",
        told(&seen)
    );
    // What else an otherwise idle link may carry in a few seconds.
    assert!(
        (PACKETS..=PACKETS + 20).contains(&gained),
        "the generator sent {PACKETS}, {gained} arrived"
    );
}

#[test]
fn a_flood_over_two_links_is_one_incident_with_the_rate_of_both() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    lab.add_second();
    let links = [FIRST, SECOND];
    let name = "UDP over two links";
    let recordings = links.each_ref().map(|link| Recording::start_on(&lab, link));
    lab.settle(&links);
    let before = links.each_ref().map(|link| lab.host_counters_on(link));
    let state = Scratch::new();
    let limit = LIMIT_PPS.to_string();
    let options = ["--threshold-pps", &limit, "--seconds"];
    let mut agent = Agent::start_in(&lab, &links.map(|link| link.host), state.path(), &options);
    let mut generators = links.each_ref().map(|link| {
        let frames = Frames::udp_on(&lab, link);
        generate::trafgen_on(&lab, link, &frames, PACKETS / 2, PAUSE_MICROS * 2)
    });
    let opened = agent
        .wait_for(OPENS, Event::opens)
        .unwrap_or_else(|| panic!("{name}: no incident\n{}", agent.told()));
    for generator in &mut generators {
        generator.wait(ENDS);
    }
    let resolved = agent
        .wait_for(RESOLVES, Event::resolves)
        .unwrap_or_else(|| panic!("{name}: not resolved\n{}", agent.told()));
    let after = links.each_ref().map(|link| lab.host_counters_on(link));
    let seen = agent.stop();
    let recorded = recordings.map(Recording::stop);

    let flooded = "udp dst port 9000";
    let began = recorded.each_ref().map(|link| link.first(flooded));
    let began = began.into_iter().min().expect("there are two");
    let incident = incident_of(&resolved);
    let delay_millis = opened.at.millis_since(began);
    table_row(name, incident_of(&opened), incident, delay_millis);
    assert_one_story(name, &seen);
    let named = Named {
        family: "udp_flood",
        subtypes: &["small_packet_flood"],
    };
    assert_named(name, incident, &named);

    let gained = [0, 1].map(|link: usize| after[link].rx_packets - before[link].rx_packets);
    for link in gained {
        // What else an otherwise idle link may carry in half a minute.
        assert!(
            (PACKETS / 2..=PACKETS / 2 + 20).contains(&link),
            "{name}: {gained:?} arrived"
        );
    }
    let told_packets: u64 = seconds(&seen).map(|second| second.pps).sum();
    assert_eq!(
        told_packets,
        gained.iter().sum::<u64>(),
        "{name}: {}",
        told(&seen)
    );
    let arrived = recorded.iter().flat_map(|link| link.all(flooded));
    let peak = peak_pps(arrived.collect());
    tell!("{name}: {gained:?} packets arrived, the agent told {told_packets}; the peak was {peak}");
    assert!(
        incident.peak_pps.abs_diff(peak) * 100 <= peak * PEAK_PERCENT,
        "{name}: peak {} against {peak} recorded",
        incident.peak_pps
    );
}

#[test]
fn a_reader_that_was_held_up_hides_nothing() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let name = "UDP, reader held up";
    let packets = PACKETS * 2;
    let recording = Recording::start(&lab);
    lab.settle(&[FIRST]);
    let before = lab.host_counters();
    let limit = LIMIT_PPS.to_string();
    let mut agent = Agent::start(&lab, &["--threshold-pps", &limit, "--seconds"]);
    let mut generator = generate::trafgen(&lab, &Frames::udp(&lab), packets, PAUSE_MICROS);
    let opened = agent
        .wait_for(OPENS, Event::opens)
        .unwrap_or_else(|| panic!("{name}: no incident\n{}", agent.told()));
    agent.freeze(HELD_UP);
    assert!(
        generator.ended().is_none(),
        "{name}: the flood ended before the agent went on"
    );
    generator.wait(ENDS);
    let resolved = agent
        .wait_for(RESOLVES, Event::resolves)
        .unwrap_or_else(|| panic!("{name}: not resolved\n{}", agent.told()));
    let after = lab.host_counters();
    let seen = agent.stop();
    let recorded = recording.stop();

    let incident = incident_of(&resolved);
    let flooded = "udp dst port 9000";
    let delay_millis = opened.at.millis_since(recorded.first(flooded));
    table_row(name, incident_of(&opened), incident, delay_millis);
    assert_one_story(name, &seen);
    let named = Named {
        family: "udp_flood",
        subtypes: &["small_packet_flood"],
    };
    assert_named(name, incident, &named);
    assert_eq!(
        incident.pulses, 0,
        "{name}: being held up is no pause of the flood"
    );

    let gained = after.rx_packets - before.rx_packets;
    let sum = |of: fn(&Second) -> u64| -> u64 { seconds(&seen).map(of).sum() };
    let told_packets = sum(|second| second.pps);
    let captured = sum(|second| second.classes.values().sum());
    let (lost, delayed) = (sum(|second| second.lost_ring), sum(|second| second.delayed));
    let peak = peak_pps(recorded.all(flooded));
    tell!(
        "{name}: {gained} packets arrived, the agent told {told_packets}, captured {captured}, lost {lost}, \
         had {delayed} late; the peak was {peak}"
    );
    assert_eq!(told_packets, gained, "{name}: {}", told(&seen));
    assert!(lost + delayed > 0, "{name}: {}", told(&seen));
    assert!(
        incident.lost_ring + incident.delayed > 0,
        "{name}: {incident:?}"
    );
    // The ring holds both directions, so more may be lost than is missing.
    assert!(
        captured <= gained && captured + lost >= gained,
        "{name}: {}",
        told(&seen)
    );
    assert!(
        incident.peak_pps * 100 <= peak * (100 + PEAK_PERCENT),
        "{name}: peak {} against {peak} recorded",
        incident.peak_pps
    );
}

#[test]
fn a_reader_that_was_held_up_for_long_takes_the_time_for_a_gap() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let options = ["--threshold-pps", "4000", "--seconds"];
    let mut agent = Agent::start(&lab, &options);
    // About 800 a second: what came in twelve seconds is twice the limit, what came in one a fifth of it.
    let mut generator = generate::trafgen(&lab, &Frames::udp(&lab), PACKETS, 1_000);
    std::thread::sleep(Duration::from_secs(1));
    agent.freeze(HELD_UP_FOR_LONG);
    assert!(
        generator.ended().is_none(),
        "the flood ended before the agent went on"
    );
    let opened = agent.wait_for(Duration::from_secs(3), Event::opens);
    assert!(opened.is_none(), "{}", agent.told());
    let log = agent.log();
    let seen = agent.stop();
    let seconds: Vec<&Second> = seconds(&seen).collect();
    let missing = seconds
        .windows(2)
        .filter_map(|pair| match pair {
            [one, next] => Some(next.recorded_at.as_seconds() - one.recorded_at.as_seconds()),
            _ => None,
        })
        .max();
    let after = seconds.iter().rev().take(3).map(|second| second.pps).max();
    tell!("held up for long: {after:?} pps after a gap of {missing:?} s");
    assert!(log.contains("warning: held up for"), "{log}");
    assert!(
        missing.is_some_and(|missing| missing >= HELD_UP_FOR_LONG.as_secs()),
        "{}",
        told(&seen)
    );
    assert!(after.is_some_and(|pps| pps > 100), "{}", told(&seen));
}
