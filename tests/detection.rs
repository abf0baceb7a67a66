//! The detector held against its rules: made-up traffic through classifier, meter and engine on a logical clock.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on says so by panicking, and made-up addresses are cut to size on purpose"
)]

#[path = "common/tell.rs"]
mod tell;
#[path = "common/traffic.rs"]
#[allow(dead_code, reason = "a toolbox")]
mod traffic;

use ftagent::capture::counter::{NicQuality, NicReading};
use ftagent::classify::Service;
use ftagent::count::Window;
use ftagent::detect::{Family, Unit};
use ftagent::incident::{Explanation, Severity};
use tell::tell;
use traffic::{Flood, Packets, Play, Random, Scene, at, flag};

fn syn() -> Packets {
    Packets::tcp(flag::SYN, 0)
}

#[test]
fn a_flood_over_a_set_limit_is_one_incident() {
    let play = Scene::new()
        .limit_pps(5_000)
        .flood(syn(), 50_000, 2_000..6_000)
        .play(20_000);
    let incident = play.only();
    assert_eq!(incident.subtype, "syn_flood");
    assert_eq!(incident.ended_at, Some(at(6_000)));
    assert!(
        incident.peak_pps.abs_diff(50_000) <= 2_500,
        "{}",
        play.log()
    );
    assert!(play.is_complete());
}

/// Every family at several rates, 200 starts each: how long until the event.
#[test]
fn detection_is_quick_at_every_rate() {
    const LIMIT: u64 = 2_000;
    const STARTS: u64 = 200;
    let families = [
        ("syn", syn()),
        ("udp", Packets::udp(None, 9_999, &[0; 400])),
        ("icmp", Packets::icmp(8, 0)),
        ("dns", Packets::udp(Some(53), 9_999, &[0; 1_200])),
    ];
    tell!("family  x limit   p50 ms   p99 ms   max ms");
    for (name, packets) in families {
        for (tenths, budget_millis) in [(11, 1_200), (20, 1_200), (50, 300), (200, 300)] {
            let mut delays: Vec<u64> = (0..STARTS)
                .map(|start| delay(packets.clone(), LIMIT, tenths, start))
                .collect();
            delays.sort_unstable();
            let (p50, p99, max) = (delays[100], delays[197], delays[199]);
            tell!(
                "{name:6} {:7} {p50:8} {p99:8} {max:8}",
                tenths as f64 / 10.0
            );
            assert!(p99 <= budget_millis, "{name} at {tenths}/10: {p99} ms");
        }
    }
}

fn delay(packets: Packets, limit: u64, tenths: u64, start: u64) -> u64 {
    let offset = Random(start).below(1_000_000_000);
    let flood = Flood::new(packets, limit * tenths / 10).delayed(offset);
    let scene = Scene::new().limit_pps(limit).seed(start).add(flood);
    let play = scene.play_until(4_000, &mut |play| !play.told.is_empty());
    let told = play.told.first().expect("it opens");
    told.at.millis_since(at(0).plus_nanos(offset))
}

/// Words as the incident ends with them.
fn verdict(scene: Scene, millis: u64) -> (String, String) {
    let play = scene.play(millis);
    let incident = play.only();
    (incident.family.to_string(), incident.subtype.clone())
}

fn dns_query() -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(b"\x07example\x03com\x00\x00\x01\x00\x01");
    query
}

fn tls_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 0, 204, 1, 0, 0, 200, 3, 3];
    hello.extend((0..198).map(|n| if n == 32 { 0 } else { n as u8 }));
    hello
}

fn quic_initial() -> Vec<u8> {
    let mut initial = vec![
        0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x90,
    ];
    initial.resize(1_200, 0xa5);
    initial
}

fn ntp_answer() -> Vec<u8> {
    let mut answer = vec![0xd7, 0, 3, 42, 0, 6, 0, 72];
    answer.resize(440, 0x21);
    answer
}

fn request(line: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: example.com\r\n\r\n").into_bytes()
}

#[test]
fn every_flood_has_its_name() {
    let kinds = [
        ("syn_flood", "syn_flood", syn()),
        (
            "tcp_flood",
            "syn_ack_flood",
            Packets::tcp(flag::SYN | flag::ACK, 0),
        ),
        ("tcp_flood", "ack_flood", Packets::tcp(flag::ACK, 0)),
        (
            "tcp_flood",
            "psh_ack_flood",
            Packets::tcp(flag::PSH | flag::ACK, 300),
        ),
        (
            "tcp_flood",
            "psh_ack_flood",
            Packets::tcp(flag::PSH | flag::ACK, 0),
        ),
        ("tcp_flood", "rst_flood", Packets::tcp(flag::RST, 0)),
        (
            "tcp_flood",
            "fin_flood",
            Packets::tcp(flag::FIN | flag::ACK, 0),
        ),
        (
            "tcp_flood",
            "xmas_flood",
            Packets::tcp(flag::FIN | flag::PSH | flag::URG, 0),
        ),
        ("tcp_flood", "null_flood", Packets::tcp(0, 0)),
        (
            "tcp_flood",
            "tcp_generic",
            Packets::tcp(flag::SYN | flag::FIN, 0),
        ),
        ("tcp_flood", "connect_flood", Packets::session(80, &[])),
        (
            "http_flood",
            "http_get_flood",
            Packets::session(80, &request("GET /")),
        ),
        (
            "http_flood",
            "http_post_flood",
            Packets::session(80, &request("POST /")),
        ),
        (
            "http_flood",
            "tls_handshake_flood",
            Packets::session(443, &tls_hello()),
        ),
        ("icmp_flood", "ping_flood", Packets::icmp(8, 0)),
        ("icmp_flood", "echo_reply_flood", Packets::icmp(0, 0)),
        ("icmp_flood", "blacknurse", Packets::icmp(3, 3)),
        ("icmp_flood", "icmp_error_flood", Packets::icmp(3, 1)),
        ("icmp_flood", "ping_of_death", Packets::ping_of_death()),
        (
            "udp_flood",
            "quic_flood",
            Packets::udp(None, 443, &quic_initial()),
        ),
        (
            "udp_flood",
            "small_packet_flood",
            Packets::udp(None, 9_999, &[7; 20]),
        ),
        (
            "udp_flood",
            "volumetric",
            Packets::udp(None, 9_999, &[7; 900]),
        ),
        (
            "udp_flood",
            "udp_fragment_flood",
            Packets::fragmented_udp(None, &[7; 900]),
        ),
        (
            "udp_flood",
            "udp_fragment_flood",
            Packets::loose_fragments(17),
        ),
        (
            "udp_flood",
            "amplification_generic",
            Packets::udp(Some(7_777), 9_999, &[7; 600]),
        ),
        (
            "dns_flood",
            "dns_query_flood",
            Packets::udp(None, 53, &dns_query()),
        ),
        (
            "dns_flood",
            "dns_amplification",
            Packets::fragmented_udp(Some(53), &[7; 900]),
        ),
        (
            "udp_flood",
            "ntp_amplification",
            Packets::udp(Some(123), 80, &ntp_answer()),
        ),
        (
            "fragment_flood",
            "ip_fragment_flood",
            Packets::loose_fragments(6),
        ),
        ("protocol_flood", "gre_flood", Packets::protocol(47)),
        ("protocol_flood", "esp_flood", Packets::protocol(50)),
        (
            "protocol_flood",
            "ip_protocol_flood",
            Packets::protocol(132),
        ),
    ];
    for (family, subtype, packets) in kinds {
        let scene = Scene::new()
            .limit_pps(1_000)
            .flood(packets, 8_000, 1_010..4_200);
        let (got_family, got_subtype) = verdict(scene, 6_000);
        tell!("{got_family:14} {got_subtype}");
        assert_eq!(
            (got_family.as_str(), got_subtype.as_str()),
            (family, subtype)
        );
    }
}

#[test]
fn every_service_known_by_its_port_names_its_amplification() {
    for service in Service::ALL
        .into_iter()
        .filter(|service| service.port_alone())
    {
        let packets = Packets::udp(Some(service.ports()[0]), 9_999, &[0xa5; 700]);
        let scene = Scene::new()
            .limit_pps(1_000)
            .flood(packets, 8_000, 1_010..2_500);
        let (family, subtype) = verdict(scene, 4_000);
        let expected = if service == Service::Dns {
            "dns_flood"
        } else {
            "udp_flood"
        };
        assert_eq!(
            (family.as_str(), subtype.as_str()),
            (expected, service.amplification_name())
        );
    }
}

#[test]
fn two_families_with_a_quarter_of_packets_or_bits_are_multi_vector() {
    let scene = Scene::new()
        .limit_pps(5_000)
        .flood(syn(), 20_000, 1_000..4_000)
        .flood(
            Packets::fragmented_udp(Some(53), &[7; 900]),
            2_000,
            1_000..4_000,
        );
    let play = scene.play(6_000);
    let incident = play.only();
    assert_eq!(incident.family, Family::MultiVector, "{}", play.log());
    assert_eq!(incident.subtype, "syn_flood+dns_amplification");
    let share = |name: &str| incident.vectors.iter().find(|share| share.subtype == name);
    let (syns, answers) = (share("syn_flood"), share("dns_amplification"));
    let (syns, answers) = (syns.expect("listed"), answers.expect("listed"));
    assert!(syns.packets_permille.abs_diff(909) <= 30, "{syns:?}");
    assert!(answers.bits_permille > 600, "{answers:?}");
}

#[test]
fn two_services_of_one_family_are_joined_and_of_two_families_are_multi_vector() {
    let ntp = || Packets::udp(Some(123), 80, &ntp_answer());
    let cldap = Packets::udp(Some(389), 80, &[0xa5; 700]);
    let dns = Packets::udp(Some(53), 80, &[0xa5; 700]);
    let both = |second: Packets| {
        let scene = Scene::new()
            .limit_pps(1_000)
            .flood(ntp(), 6_000, 1_000..4_000);
        verdict(scene.flood(second, 5_000, 1_000..4_000), 6_000)
    };
    let named = |family: &str, subtype: &str| (family.to_owned(), subtype.to_owned());
    assert_eq!(
        both(cldap),
        named("udp_flood", "ntp_amplification+cldap_amplification")
    );
    assert_eq!(
        both(dns),
        named("multi_vector", "ntp_amplification+dns_amplification")
    );
}

#[test]
fn names_come_from_what_is_above_normal_and_not_from_the_mix() {
    let usual = Flood::new(Packets::udp(None, 9_999, &[7; 500]), 3_000).from(50, [10, 0, 0, 0]);
    let scene = Scene::new()
        .limit_pps(4_000)
        .add(usual)
        .flood(syn(), 1_600, 70_000..75_000);
    let play = scene.play(90_000);
    let incident = play.only();
    assert_eq!(incident.subtype, "syn_flood", "{}", play.log());
    assert!(
        incident.vectors[0].packets_permille >= 950,
        "{:?}",
        incident.vectors
    );
    assert!(
        incident.sources.count > 5_000,
        "the usual fifty are not part of it"
    );
    assert!(incident.top_sources.is_empty());
}

#[test]
fn a_flood_of_data_beside_usual_requests_is_named_by_its_own_flags() {
    let usual = Flood::new(Packets::tcp(flag::PSH | flag::ACK, 300), 3_000).from(50, [10, 0, 0, 0]);
    let scene = Scene::new().limit_pps(4_000).add(usual);
    let scene = scene.flood(Packets::tcp(flag::ACK, 0), 2_000, 30_000..34_000);
    assert_eq!(verdict(scene, 50_000).1, "ack_flood");
}

fn nic(packets: u64, bytes: u64, quality: NicQuality) -> Option<NicReading> {
    Some(NicReading {
        packets,
        bytes,
        missed: 0,
        quality,
    })
}

/// What the interface would say of a window that capture saw whole.
fn honest(window: &Window) -> Option<NicReading> {
    let frames = window.inbound.frames;
    nic(frames.packets, frames.bits / 8, NicQuality::Measured)
}

#[test]
fn without_capture_it_opens_unknown_and_is_named_when_capture_returns() {
    let scene = Scene::new()
        .limit_pps(5_000)
        .flood(syn(), 20_000, 1_000..12_000);
    let play = scene
        .tap(Box::new(|number, window| {
            let reading = honest(window);
            if number < 80 {
                window.reset(window.index);
            }
            reading
        }))
        .play(30_000);
    let opened = play.of("opened")[0];
    assert_eq!(opened.family, Family::Unknown);
    assert!(opened.capture_blind && opened.detected_after_millis <= 300);
    let renamed = play.of("renamed");
    assert_eq!(renamed.len(), 1, "{}", play.log());
    assert_eq!(renamed[0].subtype, "syn_flood");
    assert!(!renamed[0].capture_blind);
    assert_eq!(play.only().subtype, "syn_flood");
    assert!(play.only().peak_pps.abs_diff(20_000) <= 1_000);
}

#[test]
fn what_the_ring_lost_is_scaled_and_what_was_never_handed_over_is_unseen() {
    let story = |ring: bool| {
        let tap: traffic::Tap = Box::new(move |_, window| {
            let frames = window.inbound.frames;
            window.loss.ring = if ring { frames.packets } else { 0 };
            nic(frames.packets * 2, frames.bits / 4, NicQuality::Measured)
        });
        let scene = Scene::new()
            .limit_pps(5_000)
            .flood(syn(), 10_000, 1_000..5_000);
        scene.tap(tap).play(20_000)
    };
    let lost = story(true);
    assert_eq!(lost.only().vectors.len(), 1);
    assert!(
        lost.only().excess.packets.abs_diff(80_000) <= 2_000,
        "{:?}",
        lost.only().excess
    );
    let unseen = story(false);
    let shares: Vec<_> = unseen
        .only()
        .vectors
        .iter()
        .map(|of| (of.subtype.as_str(), of.packets_permille))
        .collect();
    assert_eq!(
        unseen.only().subtype,
        "syn_flood",
        "half of it was seen: {shares:?}"
    );
    assert!(
        shares
            .iter()
            .all(|(_, permille)| permille.abs_diff(500) <= 10),
        "{shares:?}"
    );
    assert!(unseen.only().confidence.percent <= 50);
}

#[test]
fn counters_that_step_do_not_delay_it() {
    let tap: traffic::Tap = Box::new(|number, _| {
        let packets = if number % 40 == 39 { 40_000 } else { 0 };
        nic(packets, packets * 60, NicQuality::Stepping)
    });
    let scene = Scene::new()
        .limit_pps(5_000)
        .flood(syn(), 20_000, 1_000..5_000);
    let play = scene.tap(tap).play(20_000);
    assert!(play.only().detected_after_millis <= 350);
    assert!(play.only().peak_pps.abs_diff(20_000) <= 1_000);
    assert!(!play.only().from_interface);
}

#[test]
fn frames_that_offload_merged_are_not_taken_for_blindness() {
    let merged = Flood::new(Packets::tcp(flag::ACK, 30_000), 300).from(1, [10, 0, 0, 1]);
    let tap: traffic::Tap = Box::new(|_, window| {
        let wire = window.inbound.wire();
        nic(wire.packets, wire.bits / 8, NicQuality::Measured)
    });
    let play = Scene::new()
        .limit_pps(2_000)
        .add(merged.during(1_000..3_000))
        .tap(tap)
        .play(5_000);
    assert!(!play.only().capture_blind);
    assert_eq!(play.only().vectors.len(), 1, "{:?}", play.only().vectors);
}

#[test]
fn a_changed_vector_takes_the_name_when_it_leads_in_two_judgements() {
    let udp = Packets::udp(None, 9_999, &[7; 300]);
    let scene = Scene::new()
        .limit_pps(2_000)
        .flood(syn(), 10_000, 1_000..11_000)
        .flood(udp, 10_000, 11_000..41_000);
    let play = scene.play(60_000);
    let renamed: Vec<_> = play
        .told
        .iter()
        .filter(|told| told.kind() == "renamed")
        .collect();
    assert_eq!(renamed.len(), 1, "{}", play.log());
    assert_eq!(renamed[0].incident().subtype, "volumetric");
    let after = renamed[0].at.millis_since(at(11_000));
    assert!((2_000..=6_000).contains(&after), "{after} ms");
}

#[test]
fn multi_vector_is_left_ten_seconds_after_its_second_family() {
    let udp = Packets::udp(None, 9_999, &[]);
    let scene = Scene::new()
        .limit_pps(2_000)
        .flood(syn(), 6_000, 1_000..40_000)
        .flood(udp, 6_000, 1_000..11_000);
    let play = scene.play(60_000);
    assert_eq!(play.of("opened")[0].family, Family::MultiVector);
    let renamed: Vec<_> = play
        .told
        .iter()
        .filter(|told| told.kind() == "renamed")
        .collect();
    assert_eq!(renamed.len(), 1, "{}", play.log());
    let after = renamed[0].at.millis_since(at(11_000));
    assert!((10_000..=12_000).contains(&after), "{after} ms");
    assert_eq!(
        play.only().family,
        Family::MultiVector,
        "it was so for five seconds"
    );
}

#[test]
fn a_burst_opens_a_set_limit_and_never_a_learned_one() {
    for millis in [8, 45] {
        let burst = |offset: u64| {
            let rate = 400_000 / millis;
            Flood::new(syn(), rate * 100)
                .during(15_000..15_000 + millis)
                .delayed(offset)
        };
        for offset in [0, 13_000_000, 49_000_000] {
            let mut burst = burst(offset);
            burst = burst.during(15_000..15_000 + millis);
            let set = Scene::new()
                .limit_pps(1_000)
                .add(burst.clone())
                .play(30_000);
            assert_eq!(set.of("opened").len(), 1, "{millis} ms");
            let mut learned = Scene::new().learned_after(10, 1_000);
            learned.settings.detect.limits.floor_bps = 1_000_000;
            let learned = learned.add(burst).play(30_000);
            assert!(learned.told.is_empty(), "{millis} ms: {}", learned.log());
        }
    }
}

#[test]
fn a_learned_limit_needs_three_of_four_windows_and_no_more() {
    let scene = Scene::new()
        .learned_after(10, 1_000)
        .flood(syn(), 20_000, 15_000..17_000);
    let play = scene.play(30_000);
    assert_eq!(play.only().fired[0].id.name(), "V3");
    assert!(
        play.only().detected_after_millis <= 200,
        "{}",
        play.only().detected_after_millis
    );
}

#[test]
fn the_first_ten_seconds_know_only_set_limits() {
    let flood = |scene: Scene| scene.flood(syn(), 60_000, 2_000..6_000).play(20_000);
    assert!(flood(Scene::new()).told.is_empty());
    assert_eq!(flood(Scene::new().limit_pps(10_000)).of("opened").len(), 1);
}

#[test]
fn a_set_limit_silences_the_learned_one_of_its_unit_alone() {
    let mut scene = Scene::new().learned_after(10, 1_000).limit_pps(50_000);
    scene.settings.detect.limits.floor_bps = 2_000_000;
    let play = scene.flood(syn(), 10_000, 15_000..18_000).play(40_000);
    let fired: Vec<_> = play
        .only()
        .fired
        .iter()
        .map(|fired| fired.id.name())
        .collect();
    assert_eq!(fired, ["V4"], "10,000 packets/s are 4.8 Mbit/s");
}

#[test]
fn both_units_may_fire_at_once_and_the_worse_gives_the_severity() {
    let play = Scene::new()
        .limit_pps(2_000)
        .limit_bps(20_000_000)
        .flood(Packets::udp(None, 9_999, &[7; 1_400]), 10_000, 2_000..5_000)
        .play(20_000);
    let incident = play.only();
    let fired: Vec<_> = incident.fired.iter().map(|fired| fired.id.name()).collect();
    assert_eq!(fired, ["V1", "V2"]);
    // 10,000 packets/s are 50 times their least base of 200, 115 Mbit/s are 57 times theirs of 2 Mbit/s.
    assert_eq!(incident.severity, Severity::Critical);
    let play = Scene::new()
        .limit_pps(5_000)
        .limit_bps(2_000_000)
        .flood(Packets::udp(None, 9_999, &[7; 1_400]), 6_000, 2_000..5_000)
        .play(20_000);
    assert_eq!(
        play.only().severity,
        Severity::Critical,
        "67 Mbit/s are 335 times 200 kbit/s"
    );
    assert_eq!(play.only().scale.unit, Unit::Bits);
}

#[test]
fn the_first_whole_report_is_within_five_percent() {
    for (tenths, seed) in [
        (20, 1),
        (50, 2),
        (50, 3),
        (100, 4),
        (200, 5),
        (200, 6),
        (1_000, 7),
    ] {
        let rate = 1_000 * tenths / 10;
        let offset = Random(seed).below(1_000_000_000);
        let flood = Flood::new(syn(), rate).during(1_000..6_000).delayed(offset);
        let play = Scene::new()
            .limit_pps(1_000)
            .seed(seed)
            .add(flood)
            .play(30_000);
        let enough =
            |told: &&traffic::Told| told.at.millis_since(at(1_000).plus_nanos(offset)) >= 200;
        let report = play
            .told
            .iter()
            .find(enough)
            .expect("it is reported")
            .incident();
        let error = report.peak_pps.abs_diff(rate) * 1_000 / rate;
        assert!(error <= 50, "{rate}: {error} permille off\n{}", play.log());
        let corrected = play.of("peak").len() + play.of("severity").len();
        assert!(corrected <= 2, "{}", play.log());
        assert!(
            play.only().peak_pps.abs_diff(rate) * 20 <= rate,
            "{}",
            play.log()
        );
    }
}

#[test]
fn severity_falls_at_most_once_and_only_with_the_estimate() {
    // Three windows at 30 times the least base, then 15 times.
    let scene = Scene::new()
        .limit_pps(1_000)
        .flood(syn(), 1_500, 1_000..20_000)
        .flood(syn(), 1_500, 1_000..1_300);
    let play = scene.play(40_000);
    let levels: Vec<_> = play
        .told
        .iter()
        .map(|told| told.incident().severity)
        .collect();
    let falls = levels.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(falls <= 1, "{}", play.log());
    assert_eq!(play.only().severity, Severity::High, "{}", play.log());
}

#[test]
fn updates_come_every_five_seconds_and_after_an_hour_every_minute() {
    let play = Scene::new()
        .limit_pps(50)
        .flood(syn(), 200, 1_000..3_720_000)
        .play(3_740_000);
    let periodic: Vec<u64> = play
        .told
        .iter()
        .filter(|told| told.kind() == "periodic")
        .map(|told| told.at.millis_since(at(0)))
        .collect();
    let gaps: Vec<u64> = periodic.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().take(500).all(|gap| *gap == 5_000), "{gaps:?}");
    assert!(
        gaps.iter().rev().take(1).all(|gap| *gap == 60_000),
        "{gaps:?}"
    );
}

#[test]
fn changes_are_told_at_most_once_a_second() {
    let mut scene = Scene::new().limit_pps(1_000);
    for step in 0..40 {
        scene = scene.flood(syn(), 1_000, 1_000 + step * 150..10_000);
    }
    let play = scene.play(30_000);
    let changes: Vec<_> = play
        .told
        .iter()
        .skip(1)
        .filter(|told| told.kind() != "periodic")
        .collect();
    assert!(changes.len() >= 4, "{}", play.log());
    for pair in changes.windows(2) {
        let gap = pair[1].at.millis_since(pair[0].at);
        assert!(
            gap >= 1_000 || pair[1].kind() == "resolved",
            "{}",
            play.log()
        );
    }
}

fn pulses(on_millis: u64, off_millis: u64, count: u64) -> Play {
    let mut scene = Scene::new().limit_pps(1_000);
    for n in 0..count {
        let from = 2_000 + n * (on_millis + off_millis);
        scene = scene.flood(syn(), 20_000, from..from + on_millis);
    }
    scene.play(2_000 + count * (on_millis + off_millis) + 620_000)
}

#[test]
fn a_pulsed_attack_is_one_incident_with_one_false_end() {
    for (on, off) in [(10_000, 90_000), (5_000, 60_000), (100, 900)] {
        let play = pulses(on, off, 6);
        assert_eq!(play.of("opened").len(), 1, "{on}/{off}: {}", play.log());
        assert!(play.of("reopened").len() <= 1, "{on}/{off}: {}", play.log());
        assert!(play.is_complete());
        let expected = if off >= 10_000 { 5 } else { 0 };
        let last = play.of("resolved").pop().expect("it ends").clone();
        assert_eq!(last.pulses, expected, "{on}/{off}: {}", play.log());
        assert_eq!(last.ended_at, Some(at(2_000 + 5 * (on + off) + on)));
    }
}

#[test]
fn long_pauses_make_a_campaign() {
    let play = pulses(5_000, 300_000, 3);
    let opened = play.of("opened");
    assert_eq!(opened.len(), 3, "{}", play.log());
    assert!(
        opened.iter().all(|incident| incident.campaign == 0),
        "{}",
        play.log()
    );
}

#[test]
fn a_campaign_survives_another_attack_in_between() {
    let scene = Scene::new()
        .limit_pps(1_000)
        .flood(syn(), 5_000, 1_000..3_000)
        .flood(Packets::icmp(8, 0), 5_000, 201_000..203_000)
        .flood(syn(), 5_000, 401_000..403_000)
        .flood(syn(), 5_000, 2_601_000..2_603_000);
    let play = scene.play(2_700_000);
    let campaigns: Vec<_> = play
        .of("opened")
        .iter()
        .map(|incident| incident.campaign)
        .collect();
    assert_eq!(
        campaigns,
        [0, 1, 0, 3],
        "the last one comes after half an hour"
    );
}

#[test]
fn the_hold_is_ten_seconds_and_the_end_is_the_last_window_above() {
    let play = Scene::new()
        .limit_pps(1_000)
        .flood(syn(), 5_000, 1_000..4_020)
        .play(60_000);
    let resolved = play
        .told
        .iter()
        .find(|told| told.kind() == "resolved")
        .expect("it ends");
    assert_eq!(resolved.incident().ended_at, Some(at(4_050)));
    let hold = resolved.at.millis_since(at(4_050));
    assert!((10_000..=11_000).contains(&hold), "{hold} ms");
}

/// 2,000 packets a second are normal, 8,000 would be the learned limit, 1,500 is the one that was set.
fn limit_below_normal() -> Scene {
    let usual = Flood::new(Packets::udp(None, 9_999, &[7; 200]), 2_000).from(50, [10, 0, 0, 0]);
    let mut scene = Scene::new().limit_pps(1_500).learned_after(10, 4_000);
    scene.warm_seconds = 20;
    scene.add(usual)
}

#[test]
fn a_limit_below_normal_is_one_low_incident_with_advice() {
    let play = limit_below_normal().play(200_000);
    let opened = play.of("opened");
    assert_eq!(opened.len(), 1, "{}", play.log());
    assert_eq!(opened[0].severity, Severity::Low);
    assert_eq!(opened[0].fitting_limit, Some(8_000));
    let explanation = Explanation::of(opened[0]).sentences.join(" ");
    assert!(
        explanation.contains("8,000 packets/s would fit"),
        "{explanation}"
    );
    let periodic: Vec<_> = play
        .told
        .iter()
        .filter(|told| told.kind() == "periodic")
        .collect();
    assert_eq!(periodic.len(), 2, "once a minute\n{}", play.log());
}

#[test]
fn a_flood_on_top_of_a_limit_below_normal_is_raised_at_once_and_has_an_end() {
    let play = limit_below_normal()
        .flood(syn(), 60_000, 100_000..110_000)
        .play(200_000);
    let opened = play.of("opened");
    assert_eq!(
        opened.len(),
        2,
        "the limit is too low again afterwards\n{}",
        play.log()
    );
    assert!(
        opened
            .iter()
            .all(|incident| incident.severity == Severity::Low)
    );
    let raised = play
        .told
        .iter()
        .find(|told| told.incident().severity > Severity::Low);
    let raised = raised.expect("it is raised");
    assert!(raised.at.millis_since(at(100_000)) <= 300, "{}", play.log());
    assert_eq!(raised.incident().id, opened[0].id);
    assert_eq!(raised.incident().subtype, "syn_flood");
    let ended = play.of("resolved")[0];
    assert_eq!(ended.ended_at, Some(at(110_000)), "{}", play.log());
    assert_eq!(ended.severity, Severity::Critical);
    assert!(ended.peak_pps.abs_diff(62_000) <= 3_100, "{}", play.log());
    assert!(play.is_complete());
}

#[test]
fn a_gap_in_time_ends_what_was_open() {
    let story = |windows: u64| {
        let mut scene = Scene::new().limit_pps(1_000);
        scene.skip = Some((60, windows));
        let from = 3_000 + windows * 50;
        let scene = scene.flood(syn(), 5_000, 1_000..3_000);
        scene
            .flood(syn(), 5_000, from..from + 3_000)
            .play(from + 30_000)
    };
    let short = story(100);
    assert_eq!(short.of("resolved").len(), 1, "{}", short.log());
    for (windows, begun) in [(1_000, "reopened"), (4_000, "opened")] {
        let play = story(windows);
        assert_eq!(
            play.of(begun).last().map(|of| of.started_at.as_seconds()),
            Some(
                if begun == "opened" {
                    at(3_000 + windows * 50)
                } else {
                    at(1_000)
                }
                .as_seconds()
            ),
            "{}",
            play.log()
        );
        assert_eq!(play.of("resolved").len(), 2, "{}", play.log());
        assert_eq!(
            play.of("resolved")[0].ended_at,
            Some(at(3_000)),
            "{}",
            play.log()
        );
        assert!(play.is_complete());
    }
}

#[test]
fn a_hostile_incident_is_not_learned() {
    let scene = Scene::new()
        .learned_after(10, 1_000)
        .flood(syn(), 5_000, 100_000..400_000);
    let play = scene.play(600_000);
    assert_eq!(play.only().ended_at, Some(at(400_000)), "{}", play.log());
    assert_eq!(play.only().fired[0].limit, 1_000);
}

#[test]
fn few_sources_are_counted_exactly_and_listed() {
    let usual = Flood::new(Packets::icmp(8, 0), 100).from(40, [10, 9, 0, 0]);
    let attack = Flood::new(syn(), 5_000)
        .from(60, [10, 0, 0, 0])
        .during(70_000..75_000);
    let play = Scene::new()
        .limit_pps(1_000)
        .add(usual)
        .add(attack)
        .play(100_000);
    let incident = play.only();
    assert_eq!((incident.sources.count, incident.sources.exact), (60, true));
    assert_eq!(incident.top_sources.len(), 20);
    assert!(incident.top_sources.iter().all(|source| source.error == 0));
    assert_eq!(incident.top_ports.first().map(|(port, _)| *port), Some(80));
}

#[test]
fn a_million_forged_sources_are_estimated_within_two_percent_and_none_is_listed() {
    let attack = Flood::new(syn(), 250_000)
        .from(1 << 30, [64, 0, 0, 0])
        .during(500..4_500);
    let play = Scene::new().limit_pps(10_000).add(attack).play(6_000);
    let incident = play.only();
    assert!(!incident.sources.exact);
    assert!(
        incident.sources.count.abs_diff(1_000_000) <= 20_000,
        "{:?}",
        incident.sources
    );
    assert!(incident.top_sources.is_empty());
}

#[test]
fn a_day_of_silence_costs_little() {
    let play = Scene::new().limit_pps(1_000).play(24 * 3_600_000);
    assert_eq!(play.seconds.len(), 24 * 3_600);
    assert!(play.told.is_empty());
}

#[test]
fn the_same_traffic_always_tells_the_same() {
    let scene = || {
        Scene::new()
            .limit_pps(1_000)
            .flood(syn(), 5_000, 1_000..4_000)
            .flood(Packets::udp(None, 9_999, &[7; 300]), 3_000, 2_000..6_000)
    };
    let events = |play: Play| {
        play.told
            .into_iter()
            .map(|told| told.event)
            .collect::<Vec<_>>()
    };
    assert_eq!(events(scene().play(20_000)), events(scene().play(20_000)));
}
