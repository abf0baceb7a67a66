//! The agent on a live link: real generators in network namespaces made here, real clients, and what it says of them.
//!
//! Every flood goes through the same steps: tcpdump and the agent watch the host's end of a veth pair, a generator that
//! nobody here wrote sends from the other end, and exactly one incident of the right name must open and resolve. The
//! time from the first attack packet to the event is measured twice: by the agent, and by tcpdump's time stamp against
//! the arrival of the line. The recording is then replayed, and must say the same.
//!
//! Run alone, with `--nocapture` to see the delays: `cargo test --test live -- --nocapture`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]
#![expect(
    clippy::print_stdout,
    reason = "delays and figures are for people to read"
)]

mod common;

use std::time::Duration;

use common::agent::{Agent, PROGRAM};
use common::event::{Event, Incident, Seen, told};
use common::generate::{self, Frames};
use common::netns::{HOST_LINK, Lab, Offload};
use common::process::{Running, finish};
use common::recording::Recording;
use common::replay::replay;

/// The limit that floods are judged against. The generators reach 4,000 to 8,000 packets a second here: 4 to 8 times.
const LIMIT_PPS: u64 = 1_000;
/// Pause between two packets that gives those rates.
const PAUSE_MICROS: u64 = 50;
/// Packets of one flood: 3 to 5 seconds.
const PACKETS: u64 = 20_000;
/// A flood opens long before this; a machine busy with other work gets the time.
const OPENS: Duration = Duration::from_secs(5);
/// A flood is over by then.
const ENDS: Duration = Duration::from_secs(25);
/// Ten seconds of hold, one for the last packets to leave the judged second, and some for a busy machine.
const RESOLVES: Duration = Duration::from_secs(16);
/// Beyond this, a flood of several times the limit was found too late. The product's budget of 350 ms is measured over
/// many starts on an idle machine; a test that shares two cores with others catches what is broken, not what is slow.
const LATEST_MILLIS: u64 = 2_000;
/// How far live and replayed peaks may lie apart.
const PEAK_PERCENT: u64 = 5;

/// What a flood must be called.
struct Named<'a> {
    family: &'a str,
    subtypes: &'a [&'a str],
}

/// Drives one flood through the agent and checks the whole story.
///
/// `first_packet` picks the attack's packets out of the recording.
fn flood(
    name: &str,
    lab: &Lab,
    named: &Named<'_>,
    first_packet: &str,
    send: impl FnOnce() -> Vec<Running>,
) {
    let recording = Recording::start(lab);
    let mut agent = Agent::start(lab, &["--threshold-pps", &LIMIT_PPS.to_string()]);
    let mut generators = send();
    let opened = agent
        .wait_for(OPENS, Event::opens)
        .unwrap_or_else(|| panic!("{name}: no incident\n{}", agent.told()));
    for generator in &mut generators {
        generator.wait(ENDS);
    }
    let resolved = agent.wait_for(RESOLVES, Event::resolves);
    let resolved = resolved.unwrap_or_else(|| panic!("{name}: not resolved\n{}", agent.told()));
    let seen = agent.stop();
    let recorded = recording.stop();

    let began = recorded.first(first_packet);
    let delay_millis = opened.at.millis_since(began);
    let incident = incident_of(&resolved);
    println!(
        "{name}: {}/{} ({} %), peak {} pps, detected after {delay_millis} ms (the agent says {} ms)",
        incident.attack_family,
        incident.attack_subtype,
        incident.confidence,
        incident.peak_pps,
        incident.detected_after_ms,
    );
    assert_one_story(name, &seen);
    assert_named(name, incident, named);
    assert!(opened.at >= began, "{name}: opened before its first packet");
    assert!(
        delay_millis <= LATEST_MILLIS,
        "{name}: detected after {delay_millis} ms"
    );
    assert!(
        incident.peak_pps > LIMIT_PPS,
        "{name}: the peak lies above the limit it crossed"
    );

    let host = if first_packet.starts_with("ip6") {
        lab.host_v6()
    } else {
        lab.host_v4()
    };
    let replayed = replay(recorded.file(), &host, LIMIT_PPS);
    let replayed = replayed.incidents();
    let [again] = replayed.as_slice() else {
        panic!("{name}: replayed as {replayed:?}")
    };
    assert_named(name, again, named);
    assert_eq!(
        again.attack_subtype, incident.attack_subtype,
        "{name}: replay says another subtype"
    );
    let apart = again.peak_pps.abs_diff(incident.peak_pps) * 100;
    assert!(
        apart <= incident.peak_pps * PEAK_PERCENT,
        "{name}: peak {} live, {} replayed",
        incident.peak_pps,
        again.peak_pps
    );
}

fn incident_of(seen: &Seen) -> &Incident {
    seen.event
        .incident()
        .expect("an opened or resolved event tells of its incident")
}

/// One incident, opened first, resolved last, under one id.
fn assert_one_story(name: &str, seen: &[Seen]) {
    let story: Vec<&Event> = seen
        .iter()
        .map(|seen| &seen.event)
        .filter(|event| event.incident().is_some())
        .collect();
    let ids: Vec<_> = story
        .iter()
        .filter_map(|event| event.incident())
        .map(|incident| &incident.id)
        .collect();
    assert!(
        ids.windows(2)
            .all(|pair| matches!(pair, [one, other] if one == other)),
        "{name}: {}",
        told(seen)
    );
    assert_eq!(
        story.iter().filter(|event| event.opens()).count(),
        1,
        "{name}: {}",
        told(seen)
    );
    assert_eq!(
        story.iter().filter(|event| event.resolves()).count(),
        1,
        "{name}: {}",
        told(seen)
    );
    assert!(
        story.first().is_some_and(|event| event.opens()),
        "{name}: {}",
        told(seen)
    );
    let last = story.last().expect("it has events");
    assert!(last.resolves(), "{name}: {}", told(seen));
    assert!(
        last.incident()
            .is_some_and(|incident| incident.ended_at.is_some()),
        "{name}: no end\n{}",
        told(seen)
    );
}

fn assert_named(name: &str, incident: &Incident, named: &Named<'_>) {
    assert_eq!(incident.attack_family, named.family, "{name}: {incident:?}");
    assert!(
        named.subtypes.contains(&incident.attack_subtype.as_str()),
        "{name}: {incident:?}"
    );
}

/// Runs the agent beside `traffic` and checks that no incident opens and that it saw `at_least_pps` at some time.
fn silent(name: &str, lab: &Lab, limit: &[&str], at_least_pps: u64, traffic: impl FnOnce()) {
    let mut agent = Agent::start(lab, &[limit, &["--seconds"]].concat());
    traffic();
    // A late verdict would come within a second of the traffic's end.
    let opened = agent.wait_for(Duration::from_secs(2), Event::opens);
    assert!(opened.is_none(), "{name}: {}", agent.told());
    let seen = agent.stop();
    let peak = seconds(&seen).map(|second| second.pps).max().unwrap_or(0);
    println!("{name}: silent at up to {peak} pps");
    assert!(
        peak >= at_least_pps,
        "{name}: only {peak} pps reached the host"
    );
}

fn seconds(seen: &[Seen]) -> impl Iterator<Item = common::event::Second> {
    seen.iter().filter_map(|seen| match seen.event {
        Event::Second(second) => Some(second),
        _ => None,
    })
}

#[test]
fn a_syn_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "syn_flood",
        subtypes: &["syn_flood"],
    };
    flood("SYN", &lab, &named, "tcp[tcpflags] == tcp-syn", || {
        vec![generate::hping3(
            &lab,
            &["-S", "-p", "80", "--rand-source"],
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_udp_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["small_packet_flood"],
    };
    flood("UDP", &lab, &named, "udp dst port 9000", || {
        vec![generate::trafgen(
            &lab,
            &Frames::udp(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn an_icmp_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "icmp_flood",
        subtypes: &["ping_flood"],
    };
    flood("ICMP", &lab, &named, "icmp[icmptype] == icmp-echo", || {
        vec![generate::hping3(
            &lab,
            &["--icmp", "--rand-source"],
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_dns_amplification_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "dns_flood",
        subtypes: &["dns_amplification"],
    };
    flood("DNS amplification", &lab, &named, "udp src port 53", || {
        vec![generate::trafgen(
            &lab,
            &Frames::dns_answers(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn an_ntp_amplification_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["ntp_amplification"],
    };
    flood(
        "NTP amplification",
        &lab,
        &named,
        "udp src port 123",
        || {
            vec![generate::trafgen(
                &lab,
                &Frames::ntp_answers(&lab),
                PACKETS,
                PAUSE_MICROS,
            )]
        },
    );
}

#[test]
fn requests_over_kept_connections_open_and_resolve() {
    let Some(lab) = Lab::new(Offload::Off, &["nginx", "wrk", "curl"]) else {
        return;
    };
    let named = Named {
        family: "http_flood",
        subtypes: &["http_get_flood", "single_source_abuse"],
    };
    let _server = generate::nginx(&lab);
    flood("HTTP, kept alive", &lab, &named, "tcp dst port 80", || {
        vec![generate::wrk(&lab, 50, 3)]
    });
}

#[test]
fn requests_over_new_connections_open_and_resolve() {
    let Some(lab) = Lab::new(Offload::Off, &["nginx", "ab", "curl"]) else {
        return;
    };
    let named = Named {
        family: "http_flood",
        subtypes: &["http_get_flood", "single_source_abuse"],
    };
    let _server = generate::nginx(&lab);
    flood(
        "HTTP, new connections",
        &lab,
        &named,
        "tcp dst port 80",
        || vec![generate::ab(&lab, 8_000, 50)],
    );
}

#[test]
fn an_ack_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "tcp_flood",
        subtypes: &["ack_flood"],
    };
    flood("ACK", &lab, &named, "tcp dst port 443", || {
        vec![generate::trafgen(
            &lab,
            &Frames::ack(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_fragment_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "fragment_flood",
        subtypes: &["ip_fragment_flood"],
    };
    // Six fragments from each packet of 84 bytes.
    flood("fragments", &lab, &named, "ip[6:2] & 0x3fff != 0", || {
        vec![generate::hping3(
            &lab,
            &["-S", "-f", "-d", "64", "-p", "80", "--rand-source"],
            PACKETS / 6,
            PAUSE_MICROS * 6,
        )]
    });
}

#[test]
fn two_vectors_at_once_are_one_incident() {
    let Some(lab) = Lab::new(Offload::Default, &["hping3"]) else {
        return;
    };
    let named = Named {
        family: "multi_vector",
        subtypes: &[
            "syn_flood+small_packet_flood",
            "small_packet_flood+syn_flood",
        ],
    };
    flood(
        "SYN and UDP",
        &lab,
        &named,
        "udp dst port 9000 or tcp[tcpflags] == tcp-syn",
        || {
            vec![
                generate::hping3(
                    &lab,
                    &["-S", "-p", "80", "--rand-source"],
                    PACKETS / 2,
                    PAUSE_MICROS * 4,
                ),
                generate::trafgen(&lab, &Frames::udp(&lab), PACKETS / 2, PAUSE_MICROS * 4),
            ]
        },
    );
}

#[test]
fn a_syn_flood_over_ipv6_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "syn_flood",
        subtypes: &["syn_flood"],
    };
    flood("SYN, IPv6", &lab, &named, "ip6 and tcp dst port 80", || {
        vec![generate::trafgen(
            &lab,
            &Frames::syn_v6(&lab),
            PACKETS,
            PAUSE_MICROS,
        )]
    });
}

#[test]
fn a_udp_flood_over_ipv6_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "udp_flood",
        subtypes: &["small_packet_flood"],
    };
    flood(
        "UDP, IPv6",
        &lab,
        &named,
        "ip6 and udp dst port 9000",
        || {
            vec![generate::trafgen(
                &lab,
                &Frames::udp_v6(&lab),
                PACKETS,
                PAUSE_MICROS,
            )]
        },
    );
}

#[test]
fn an_icmpv6_flood_opens_and_resolves() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let named = Named {
        family: "icmp_flood",
        subtypes: &["ping_flood"],
    };
    flood(
        "ICMPv6",
        &lab,
        &named,
        "ip6 and icmp6 and ip6[40] == 128",
        || {
            vec![generate::trafgen(
                &lab,
                &Frames::echo_v6(&lab),
                PACKETS,
                PAUSE_MICROS,
            )]
        },
    );
}

#[test]
fn an_idle_link_is_silent_and_its_seconds_are_told() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let agent = Agent::start(&lab, &["--threshold-pps", "20", "--seconds"]);
    std::thread::sleep(Duration::from_secs(5));
    let seen = agent.stop();
    assert!(
        seen.iter().all(|seen| seen.event.incident().is_none()),
        "{}",
        told(&seen)
    );
    // Windows close by the clock when no packet comes: four whole seconds lie within five.
    assert!(
        seconds(&seen).count() >= 4,
        "silence is told as seconds of zero:\n{}",
        told(&seen)
    );
    assert!(
        seconds(&seen).all(|second| second.pps <= 5),
        "{}",
        told(&seen)
    );
}

#[test]
fn a_download_below_the_limit_is_silent() {
    download(Offload::Off, 10_000);
}

#[test]
fn a_download_in_merged_frames_is_silent() {
    // One frame of up to 64 KiB stands for forty packets, and the interface counts frames.
    download(Offload::Default, 100);
}

/// Two hundred megabits a second into the host, under limits of five times that.
fn download(offload: Offload, at_least_pps: u64) {
    let Some(lab) = Lab::new(offload, &["iperf3", "ss"]) else {
        return;
    };
    let _server = generate::iperf3_server(&lab);
    let limits = ["--threshold-pps", "100000", "--threshold-bps", "1000000000"];
    silent("download", &lab, &limits, at_least_pps, || {
        let mut client = generate::iperf3_download(&lab, 200, 4);
        let done = finish(&mut client, Duration::from_secs(20));
        assert_eq!(done.code, Some(0), "iperf3: {}{}", done.stdout, done.stderr);
    });
}

#[test]
fn hundreds_of_clients_below_the_limit_are_silent() {
    let Some(lab) = Lab::new(Offload::Default, &["nginx", "wrk", "ab", "curl"]) else {
        return;
    };
    let _server = generate::nginx(&lab);
    silent(
        "web clients",
        &lab,
        &["--threshold-pps", "400000"],
        1_000,
        || {
            generate::wrk(&lab, 300, 2).wait(ENDS);
            generate::ab(&lab, 2_000, 100).wait(ENDS);
        },
    );
}

#[test]
fn every_packet_sent_is_counted_once() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
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
    println!("sent {PACKETS}, the interface gained {gained}, the agent told {packets}");
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
fn without_the_right_to_capture_it_says_which_is_missing() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    // The build directory may be closed to other users; a copy beside the lab is not.
    let program = lab.scratch.path().join("ftagent");
    std::fs::copy(PROGRAM, &program).expect("the binary can be copied");
    let mut command = lab.host_unprivileged(&program);
    command.args([
        "run",
        "--local",
        "--interface",
        HOST_LINK,
        "--threshold-pps",
        "1000",
        "--events",
        "-",
    ]);
    let done = finish(&mut command, Duration::from_secs(10));
    assert_eq!(done.code, Some(77), "{done:?}");
    assert!(done.stderr.contains("CAP_NET_RAW"), "{done:?}");
    assert!(!done.stderr.contains("panicked"), "{done:?}");
    assert_eq!(done.stdout, "", "nothing was seen, so nothing is told");
}

#[test]
fn an_interface_that_goes_away_ends_the_agent_with_a_clear_line() {
    let Some(lab) = Lab::new(Offload::Default, &[]) else {
        return;
    };
    let mut agent = Agent::start(&lab, &["--threshold-pps", "1000"]);
    lab.remove_link();
    let status = agent
        .ends_within(Duration::from_secs(10))
        .unwrap_or_else(|| panic!("still running: {}", agent.log()));
    let log = agent.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("interface {HOST_LINK}")), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(lab) = Lab::new(Offload::Off, &[]) else {
        return;
    };
    let mark = format!("ftagent-{}-", std::process::id());
    let own = format!("{:?}", lab.host("true"));
    let namespace = own
        .split('"')
        .find(|word| word.starts_with(&mark))
        .expect("a command names its namespace")
        .to_owned();
    let scratch = lab.scratch.path().to_owned();
    let sleeper = Running::quietly(lab.host("sleep").arg("60"));
    let process = format!("/proc/{}", sleeper.child.id());
    assert!(std::path::Path::new("/run/netns").join(&namespace).exists());
    drop(lab);
    assert!(!std::path::Path::new("/run/netns").join(&namespace).exists());
    assert!(!scratch.exists());
    drop(sleeper);
    assert!(!std::path::Path::new(&process).exists());
}
