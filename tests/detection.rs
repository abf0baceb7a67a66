//! The detector held against its rules: made-up traffic through classifier, meter and engine on a logical clock.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on says so by panicking, and made-up addresses are cut to size on purpose"
)]
#![expect(
    clippy::print_stdout,
    reason = "the tables of delays and names are for people to read"
)]

#[path = "common/traffic.rs"]
#[allow(dead_code, reason = "a toolbox")]
mod traffic;

use traffic::{Flood, Packets, Random, Scene, at, flag};

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
    println!("family  x limit   p50 ms   p99 ms   max ms");
    for (name, packets) in families {
        for (tenths, budget_millis) in [(11, 1_200), (20, 1_200), (50, 300), (200, 300)] {
            let mut delays: Vec<u64> = (0..STARTS)
                .map(|start| delay(packets.clone(), LIMIT, tenths, start))
                .collect();
            delays.sort_unstable();
            let (p50, p99, max) = (delays[100], delays[197], delays[199]);
            println!(
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
