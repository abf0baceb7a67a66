//! What the bounded tables promise, checked from outside and at full size: accuracy, order, merging, hostile addresses,
//! and that filling them allocates nothing.
#![expect(
    unsafe_code,
    reason = "an allocator that counts can only be written with it"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ftagent::classify::TrafficClass;
use ftagent::count::{
    Distinct, FlowBitmap, FlowHistory, PortHistogram, Seeded, SourceCount, SourceSummary,
    SourceTally,
};
use proptest::prelude::*;

/// Packets in a window of 50 ms at 14.88 Mpps.
const WINDOW_PACKETS: u64 = 744_000;

/// Counts this thread's allocations: tests run beside each other.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_in(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn v4(bits: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(
        u32::try_from(bits & 0xffff_ffff).unwrap_or_default(),
    ))
}

/// The `host`-th address of the `network`-th network of 64 bits.
fn v6(network: u64, host: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(
        0x2001_0db8 << 96 | u128::from(network) << 64 | u128::from(host),
    ))
}

/// A different IPv4 address for each number: an odd factor permutes what it multiplies.
fn scattered(number: u64) -> IpAddr {
    v4(number.wrapping_mul(2_654_435_761))
}

fn tally(seed: u64, packets: impl IntoIterator<Item = (TrafficClass, IpAddr, u32)>) -> SourceTally {
    let mut tally = SourceTally::new(seed);
    for (class, source, count) in packets {
        tally.add(class, source, count);
    }
    tally
}

fn summary(seed: u64, windows: &[&SourceTally]) -> SourceSummary {
    let mut summary = SourceSummary::new(seed);
    windows
        .iter()
        .for_each(|window| summary.absorb(window, |_| true));
    summary
}

/// Puts a stream through windows of at most `window_packets` into one summary, as the agent does.
fn through_windows(
    seed: u64,
    window_packets: u64,
    stream: impl Iterator<Item = IpAddr>,
) -> SourceSummary {
    let mut summary = SourceSummary::new(seed);
    let mut window = SourceTally::new(seed);
    let mut filled = 0;
    for source in stream {
        window.add(TrafficClass::Syn, source, 1);
        filled += 1;
        if filled == window_packets {
            summary.absorb(&window, |_| true);
            window.clear();
            filled = 0;
        }
    }
    summary.absorb(&window, |_| true);
    summary
}

fn is_within_two_percent(estimate: u64, count: u64) -> bool {
    estimate.abs_diff(count) * 50 <= count
}

fn exactly(count: u64) -> Distinct {
    Distinct { count, exact: true }
}

/// Each listed source contains its true count, and the list is what the rule of listing says.
fn check_bounds(listed: &[SourceCount], truth: &BTreeMap<IpAddr, u64>) {
    for source in listed {
        let count = truth.get(&source.address).copied().unwrap_or(0);
        assert!(
            source.packets <= count && count <= source.packets + source.error,
            "{source:?}, truly {count}"
        );
    }
}

/// Heavy sources of 3.0, 2.9 ... 1.1 % of a background of ten million sources that send one packet each. `begin` and
/// `end` say in which hundredths of the background the heavy ones send; each sends evenly.
fn heavy_in_background(begin: u64, end: u64) -> (Vec<(IpAddr, u64)>, impl Iterator<Item = IpAddr>) {
    const BLOCKS: u64 = 20_000;
    const BLOCK: u64 = 500;
    let heavies: Vec<_> = (0..20)
        .map(|rank| (v4(0xc633_6400 + rank), 300_000 - 10_000 * rank))
        .collect();
    let (first, last) = (BLOCKS / 100 * begin, BLOCKS / 100 * end);
    let senders = heavies.clone();
    let stream = (0..BLOCKS).flat_map(move |block| {
        let sent = move |until: u64, packets: u64| {
            (until.clamp(first, last) - first) * packets / (last - first)
        };
        let due = senders
            .clone()
            .into_iter()
            .flat_map(move |(address, packets)| {
                let due = sent(block + 1, packets) - sent(block, packets);
                (0..due).map(move |_| address)
            });
        due.chain(
            (block * BLOCK..(block + 1) * BLOCK).map(|number| scattered(0x1000_0000 + number)),
        )
    });
    (heavies, stream)
}

fn check_twenty_largest(summary: &SourceSummary, heavies: &[(IpAddr, u64)]) {
    let listed = summary.largest(20);
    let order: Vec<_> = listed.iter().map(|source| source.address).collect();
    let expected: Vec<_> = heavies.iter().map(|(address, _)| *address).collect();
    assert_eq!(order, expected);
    check_bounds(&listed, &heavies.iter().copied().collect());
    for (source, (_, count)) in listed.iter().zip(heavies) {
        assert!(
            source.packets * 1_000 >= count * 999,
            "{source:?} misses more than a permille of {count}"
        );
    }
}

#[test]
fn ten_million_sources_are_counted_within_two_percent() {
    for seed in [1, 0x5eed] {
        let sources = (0..10_000_000).map(scattered);
        let summary = through_windows(seed, WINDOW_PACKETS, sources);
        let distinct = summary.distinct();
        assert!(!distinct.exact);
        assert!(
            is_within_two_percent(distinct.count, 10_000_000),
            "{distinct:?}"
        );
        assert_eq!(summary.packets(), 10_000_000);
        assert_eq!(summary.largest(20), [], "nobody sent a permille");
    }
}

#[test]
fn ten_million_consecutive_addresses_in_small_windows_are_counted_within_two_percent() {
    let summary = through_windows(
        3,
        5_000,
        (0..10_000_000).map(|number| v4(0x0a00_0000 + number)),
    );
    let distinct = summary.distinct();
    assert!(
        is_within_two_percent(distinct.count, 10_000_000),
        "{distinct:?}"
    );
}

#[test]
fn ipv6_sources_are_counted_within_two_percent_and_their_network_is_named() {
    let sources = (0..2_000_000_u64).map(|host| v6(7, host.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let summary = through_windows(3, WINDOW_PACKETS, sources);
    assert!(is_within_two_percent(summary.distinct().count, 2_000_000));
    assert_eq!(summary.largest(20), []);
    let networks = summary.largest_networks(20);
    assert_eq!(
        networks,
        [SourceCount {
            address: v6(7, 0),
            packets: 2_000_000,
            error: 0
        }]
    );
}

#[test]
fn the_twenty_largest_are_in_true_order_when_they_send_all_the_time() {
    let (heavies, stream) = heavy_in_background(0, 100);
    check_twenty_largest(&through_windows(1, WINDOW_PACKETS, stream), &heavies);
}

#[test]
fn the_twenty_largest_are_in_true_order_when_they_come_early() {
    let (heavies, stream) = heavy_in_background(0, 10);
    check_twenty_largest(&through_windows(1, WINDOW_PACKETS, stream), &heavies);
}

#[test]
fn the_twenty_largest_are_in_true_order_when_they_come_late() {
    let (heavies, stream) = heavy_in_background(90, 100);
    check_twenty_largest(&through_windows(1, WINDOW_PACKETS, stream), &heavies);
}

#[test]
fn the_twenty_largest_are_in_true_order_when_half_of_a_window_is_over_before_they_come() {
    // One window holds it all, so that only its own heavy hitters can know them.
    let (heavies, stream) = heavy_in_background(50, 100);
    check_twenty_largest(&through_windows(1, u64::MAX, stream), &heavies);
}

#[test]
fn early_and_late_sources_are_listed_in_true_order_together() {
    let early = std::iter::repeat_n(v4(1), 20_000);
    let late = std::iter::repeat_n(v4(2), 20_050);
    let background = (0..900_000).map(|number| scattered(1_000 + number));
    let stream = early.chain(background).chain(late);
    let listed = through_windows(1, 50_000, stream).largest(5);
    let order: Vec<_> = listed
        .iter()
        .map(|source| (source.address, source.packets))
        .collect();
    assert_eq!(order, [(v4(2), 20_050), (v4(1), 20_000)]);
}

#[test]
fn zipf_like_sources_over_a_background_keep_their_order() {
    // The r-th source sends 300,000 / r packets in its own rhythm; those above 1 % of 2.5 million are the first twelve.
    let mut truth = BTreeMap::new();
    let stream: Vec<_> = (0..300_000_u64)
        .flat_map(|step| {
            let zipf = (1..=200_u64)
                .filter(move |rank| step % rank == 0)
                .map(|rank| v4(0xcb00_7100 + rank));
            zipf.chain([
                scattered(0x2000_0000 + 2 * step),
                scattered(0x2000_0001 + 2 * step),
            ])
        })
        .inspect(|source| *truth.entry(*source).or_insert(0_u64) += 1)
        .collect();
    let packets = stream.len() as u64;
    let summary = through_windows(4, 100_000, stream.into_iter());
    let mut above: Vec<_> = truth
        .iter()
        .filter(|(_, count)| **count * 100 > packets)
        .collect();
    above.sort_by_key(|(address, count)| (std::cmp::Reverse(**count), **address));
    assert!(above.len() >= 10, "{}", above.len());
    let expected: Vec<_> = above
        .iter()
        .take(20)
        .map(|(address, _)| **address)
        .collect();
    let listed = summary.largest(expected.len());
    assert_eq!(
        listed
            .iter()
            .map(|source| source.address)
            .collect::<Vec<_>>(),
        expected
    );
    check_bounds(&summary.largest(usize::MAX), &truth);
}

#[test]
fn a_window_is_exact_to_its_last_place_and_estimated_beyond() {
    let mut window = tally(
        1,
        (0..65_536).map(|number| (TrafficClass::Syn, scattered(number), 1)),
    );
    assert_eq!(window.distinct(), exactly(65_536));
    window.add(TrafficClass::Syn, scattered(7), 1);
    assert_eq!(window.distinct(), exactly(65_536));
    window.add(TrafficClass::Syn, scattered(65_536), 1);
    let distinct = window.distinct();
    assert!(
        !distinct.exact && is_within_two_percent(distinct.count, 65_537),
        "{distinct:?}"
    );
}

#[test]
fn a_summary_is_exact_to_its_last_place_in_each_family() {
    let v4s = (0..65_536).map(|number| (TrafficClass::Syn, scattered(number), 1));
    let v6s = (0..65_536).map(|number| (TrafficClass::Ack, v6(number, 1), 1));
    let window = tally(9, v4s.chain(v6s));
    assert_eq!(window.distinct(), exactly(131_072));
    assert_eq!(summary(9, &[&window, &window]).distinct(), exactly(131_072));
}

#[test]
fn one_address_in_many_classes_is_one_source() {
    let sent = TrafficClass::ALL
        .into_iter()
        .flat_map(|class| [(class, v4(1), 2), (class, v6(1, 1), 3), (class, v4(1), 1)]);
    let window = tally(1, sent);
    assert_eq!(window.distinct(), exactly(2));
    let of_one_class = |wanted| {
        let mut summary = SourceSummary::new(1);
        summary.absorb(&window, |class| class == wanted);
        (summary.packets(), summary.distinct().count)
    };
    assert_eq!(of_one_class(TrafficClass::Fragment), (6, 2));
    assert_eq!(of_one_class(TrafficClass::OtherIp), (6, 2));
    assert_eq!(
        of_one_class(TrafficClass::NotIp),
        (0, 0),
        "no address, no source"
    );
    assert_eq!(summary(1, &[&window]).packets(), 6 * 19);
}

#[test]
fn sixty_sources_of_five_packets_are_listed_and_a_source_below_a_permille_is_not() {
    let sixty = tally(
        1,
        (0..60).map(|number| (TrafficClass::UdpOther, v4(number), 5)),
    );
    let listed = summary(1, &[&sixty]).largest(100);
    assert_eq!(listed.len(), 60);
    assert!(
        listed
            .iter()
            .all(|source| source.packets == 5 && source.error == 0)
    );
    assert!(
        listed.is_sorted_by_key(|source| source.address),
        "ties come by address"
    );

    let one = tally(
        1,
        [
            (TrafficClass::Syn, v4(1), 999),
            (TrafficClass::Syn, v4(2), 999_001),
        ],
    );
    assert_eq!(summary(1, &[&one]).largest(9).len(), 1);
    assert_eq!(SourceSummary::new(1).largest(9), []);
}

#[test]
fn listed_is_who_sent_ten_packets_and_a_permille_or_two_and_a_hundredth() {
    // So many packets from one source beside so many from others, one each.
    for (packets, others, is_listed) in [
        (1, 0, false),
        (1, 30, false),
        (2, 0, true),
        (2, 198, true),
        (2, 199, false),
        (9, 891, true),
        (9, 892, false),
        (10, 9_990, true),
        (10, 9_991, false),
        // With sketches, too.
        (100, 99_900, true),
        (100, 99_901, false),
    ] {
        let others = (0..others).map(|number| (TrafficClass::Syn, scattered(number), 1));
        let window = tally(
            1,
            [(TrafficClass::Syn, v4(1), packets)]
                .into_iter()
                .chain(others),
        );
        let summary = summary(1, &[&window]);
        let listed: Vec<_> = summary
            .largest(20)
            .iter()
            .map(|source| (source.address, source.packets))
            .collect();
        let expected = is_listed.then_some((v4(1), u64::from(packets)));
        assert_eq!(
            listed,
            Vec::from_iter(expected),
            "{packets} of {}",
            summary.packets()
        );
    }
}

#[test]
fn forged_sources_are_not_listed_however_few_packets_there_are() {
    for packets in [1, 20, 190, 5_000, 70_000] {
        let forged = (0..packets).map(|number| (TrafficClass::Syn, scattered(number), 1));
        let summary = summary(1, &[&tally(1, forged)]);
        assert_eq!(summary.largest(20), [], "{packets} packets");
    }
}

#[test]
fn adding_nothing_changes_nothing() {
    let window = tally(1, [(TrafficClass::Syn, v4(1), 0)]);
    assert_eq!(window.distinct(), exactly(0));
    assert_eq!(summary(1, &[&window]).packets(), 0);
}

#[test]
fn clearing_really_clears() {
    let noise = || {
        (0..200_000).flat_map(|number| {
            [
                (TrafficClass::Syn, scattered(number), 1),
                (TrafficClass::Ack, v6(number, 1), 2),
            ]
        })
    };
    let few = [
        (TrafficClass::Syn, v4(9), 70),
        (TrafficClass::Ack, v6(1, 1), 30),
    ];
    let mut window = tally(5, noise());
    let mut sum = summary(5, &[&window]);
    assert!(sum.distinct().count > 300_000);
    window.clear();
    sum.clear();
    assert_eq!(
        (window.distinct(), sum.distinct(), sum.packets()),
        (exactly(0), exactly(0), 0)
    );
    assert_eq!((sum.largest(9), sum.largest_networks(9)), (vec![], vec![]));
    few.iter()
        .for_each(|(class, source, packets)| window.add(*class, *source, *packets));
    sum.absorb(&window, |_| true);
    let fresh = summary(5, &[&tally(5, few)]);
    assert_eq!((sum.distinct(), sum.packets()), (exactly(2), 100));
    assert_eq!(
        (sum.largest(9), sum.largest_networks(9)),
        (fresh.largest(9), fresh.largest_networks(9))
    );
}

#[test]
fn the_same_seed_gives_the_same_answers_and_another_seed_the_same_order() {
    let answers = |seed| {
        let (_, stream) = heavy_in_background(1, 3);
        let summary = through_windows(seed, 300_000, stream.take(1_000_000));
        (summary.distinct(), summary.largest(20))
    };
    assert_eq!(answers(1), answers(1));
    let (one, other) = (answers(1), answers(2));
    assert_eq!(one.1.len(), 20);
    for (one, other) in one.1.iter().zip(&other.1) {
        assert_eq!(one.address, other.address);
        assert!(
            one.packets.abs_diff(other.packets) <= 1,
            "{one:?} and {other:?}"
        );
    }
    assert!(one.0.count.abs_diff(other.0.count) * 25 < one.0.count);
}

/// Addresses whose searches all begin in the same group of slots under `seed`.
fn colliding(seed: u64, count: usize) -> Vec<IpAddr> {
    let hash = Seeded::new(seed);
    let alike = (0..1_u64 << 32).filter(|bits| hash.word(*bits) >> 50 == 0);
    alike.take(count).map(v4).collect()
}

#[test]
fn addresses_that_collide_under_another_seed_are_counted_exactly() {
    let addresses = colliding(1, 500);
    let window = tally(
        2,
        addresses
            .iter()
            .map(|address| (TrafficClass::Syn, *address, 1)),
    );
    assert_eq!(window.distinct(), exactly(500));
}

#[test]
fn addresses_that_collide_under_the_right_seed_are_still_all_accounted_for() {
    let addresses = colliding(1, 500);
    let window = tally(
        1,
        addresses
            .iter()
            .map(|address| (TrafficClass::Syn, *address, 20)),
    );
    let distinct = window.distinct();
    assert!(!distinct.exact, "only 256 of them find a slot");
    assert!(distinct.count.abs_diff(500) <= 10, "{distinct:?}");
    let summary = summary(1, &[&window]);
    assert_eq!(summary.packets(), 10_000);
    let listed = summary.largest(1_000);
    assert_eq!(listed.len(), 500, "the heavy hitters know the others");
    assert!(
        listed
            .iter()
            .all(|source| source.packets == 20 && source.error == 0)
    );
}

#[test]
fn overflow_is_absorbed_whatever_class_is_wanted() {
    let window = tally(
        1,
        (0..100_000).map(|number| (TrafficClass::Syn, scattered(number), 1)),
    );
    let mut summary = SourceSummary::new(1);
    summary.absorb(&window, |class| class == TrafficClass::UdpOther);
    assert_eq!(summary.packets(), 100_000 - 65_536);
    assert!(is_within_two_percent(
        summary.distinct().count,
        100_000 - 65_536
    ));
}

#[test]
fn nothing_is_allocated_after_new() {
    let mut window = SourceTally::new(1);
    let mut other = SourceTally::new(1).clone();
    let mut summary = SourceSummary::new(1).clone();
    let (mut ports, mut other_ports) = (PortHistogram::new().clone(), PortHistogram::new());
    let (mut flows, mut history) = (FlowBitmap::new(), FlowHistory::new());
    let hash = Seeded::new(1);
    let allocations = allocations_in(|| {
        for round in 0..3 {
            for number in 0..200_000_u64 {
                let random = hash.pair(number, round);
                window.add(TrafficClass::Syn, v4(random), 1);
                window.add(TrafficClass::Ack, v6(number % 3_000, random), 1);
                other.add(TrafficClass::Syn, v4(random >> 32), 1);
                ports.add(u16::try_from(random >> 48).unwrap_or_default(), 1);
                other_ports.add(u16::try_from(random & 0xff).unwrap_or_default(), 1);
                flows.insert(random);
            }
            window.merge(&other);
            summary.absorb(&window, |class| class != TrafficClass::Ack);
            ports.merge(&other_ports);
            assert!(window.distinct().count > 0 && summary.distinct().count > 0);
            assert!(history.admit(round, &flows) > 0);
            window.clear();
            other.clear();
            ports.clear();
            flows.clear();
        }
        summary.clear();
    });
    assert_eq!(allocations, 0);
    assert!(
        allocations_in(|| drop(SourceTally::new(1))) > 0,
        "the allocator does count"
    );
}

#[test]
fn debug_output_is_short() {
    let window = tally(
        1,
        (0..70_000).map(|number| (TrafficClass::Syn, scattered(number), 1)),
    );
    assert!(format!("{window:?}").len() < 200);
    assert!(format!("{:?}", summary(1, &[&window])).len() < 200);
}

/// A few packets of a source, and which worker sees them.
fn packet() -> impl Strategy<Value = (TrafficClass, IpAddr, u32, usize)> {
    let class = prop::sample::select(&TrafficClass::ALL[..19]);
    let source = prop_oneof![
        (0_u64..40).prop_map(v4),
        (0_u64..6, 0_u64..6).prop_map(|(network, host)| v6(network, host))
    ];
    (class, source, 1_u32..9, 0_usize..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn workers_merge_into_what_one_would_have_counted(
        packets in prop::collection::vec(packet(), 0..400),
        order in Just([0_usize, 1, 2, 3]).prop_shuffle(),
        by_flow in any::<bool>(),
    ) {
        let worker = |packet: &(TrafficClass, IpAddr, u32, usize)| match (by_flow, packet.1) {
            (false, _) => packet.3,
            (true, IpAddr::V4(address)) => usize::from(address.octets()[3] % 4),
            (true, IpAddr::V6(address)) => usize::from(address.octets()[15] % 4),
        };
        let part = |number: usize| {
            let seen = packets.iter().filter(|packet| worker(packet) == number);
            tally(8, seen.map(|(class, source, count, _)| (*class, *source, *count)))
        };
        let mut merged = SourceTally::new(8);
        order.iter().for_each(|number| merged.merge(&part(*number)));
        let whole = tally(8, packets.iter().map(|(class, source, count, _)| (*class, *source, *count)));
        prop_assert_eq!(merged.distinct(), whole.distinct());
        let sources: BTreeSet<_> = packets.iter().map(|packet| packet.1).collect();
        prop_assert_eq!(whole.distinct(), exactly(sources.len() as u64));

        for wanted in [|_| true, TrafficClass::is_tcp, |class| class == TrafficClass::Echo] {
            let (mut from_merged, mut from_whole) = (SourceSummary::new(8), SourceSummary::new(8));
            from_merged.absorb(&merged, wanted);
            from_whole.absorb(&whole, wanted);
            let mut truth = BTreeMap::new();
            for (_, source, count, _) in packets.iter().filter(|packet| wanted(packet.0)) {
                *truth.entry(*source).or_insert(0) += u64::from(*count);
            }
            prop_assert_eq!(from_merged.packets(), truth.values().sum::<u64>());
            prop_assert_eq!(from_merged.distinct(), exactly(truth.len() as u64));
            prop_assert_eq!(from_merged.distinct(), from_whole.distinct());
            prop_assert_eq!(from_merged.largest_networks(99), from_whole.largest_networks(99));
            let listed = from_merged.largest(99);
            prop_assert_eq!(&listed, &from_whole.largest(99));
            let (permille, hundredth) = (from_merged.packets().div_ceil(1_000), from_merged.packets().div_ceil(100));
            let is_listed = |count: u64| count >= permille && (count >= 10 || count >= hundredth.max(2));
            let mut expected: Vec<_> = truth.into_iter().filter(|(_, count)| is_listed(*count)).collect();
            expected.sort_by_key(|(address, count)| (std::cmp::Reverse(*count), *address));
            let listed: Vec<_> = listed.iter().map(|source| (source.address, source.packets)).collect();
            prop_assert_eq!(listed, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn beyond_the_exact_tables_workers_agree_on_the_number_and_bound_the_rest(
        sources in 66_000_u64..120_000,
        workers in 2_u64..5,
        heavy in 2_000_u32..5_000,
    ) {
        let mut parts: Vec<_> = (0..workers).map(|_| SourceTally::new(3)).collect();
        let mut whole = SourceTally::new(3);
        let mut truth = BTreeMap::new();
        for number in 0..sources {
            let packets = if number % 20_000 == 11 { heavy + u32::try_from(number / 100).unwrap_or_default() } else { 1 };
            for worker in [number % workers, number / 7 % workers] {
                parts[usize::try_from(worker).unwrap_or_default()].add(TrafficClass::Syn, scattered(number), packets);
                whole.add(TrafficClass::Syn, scattered(number), packets);
                *truth.entry(scattered(number)).or_insert(0) += u64::from(packets);
            }
        }
        let mut merged = SourceTally::new(3);
        parts.iter().for_each(|part| merged.merge(part));
        prop_assert_eq!(merged.distinct(), whole.distinct());
        prop_assert!(is_within_two_percent(merged.distinct().count, sources));
        for window in [&merged, &whole] {
            let summary = summary(3, &[window]);
            prop_assert_eq!(summary.packets(), truth.values().sum::<u64>());
            prop_assert_eq!(summary.distinct(), whole.distinct());
            let listed = summary.largest(20);
            check_bounds(&listed, &truth);
            let mut expected: Vec<_> = truth.iter().filter(|(_, count)| **count >= 1_000).map(|(address, count)| (*count, *address)).collect();
            expected.sort_by_key(|(count, address)| (std::cmp::Reverse(*count), *address));
            let order: Vec<_> = listed.iter().map(|source| source.address).collect();
            prop_assert_eq!(order, expected.into_iter().map(|(_, address)| address).collect::<Vec<_>>());
        }
    }
}
