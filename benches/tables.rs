//! What one packet costs in each of the tables that are filled on the capture threads, and what closing a window costs.
//!
//! Throughput is in packets (or entries), so that the time of an element is the time of an `add`.

mod common;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::cpu::{self, CpuTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ftagent::classify::TrafficClass;
use ftagent::count::{FlowBitmap, FlowHistory, PortHistogram, Seeded, SourceSummary, SourceTally};

/// Packets in a window of 50 ms at 14.88 Mpps: 64-byte frames at 10 GbE line rate.
const WINDOW_PACKETS: usize = 744_000;

/// The same numbers in every run.
const SEED: u64 = 2026;

fn random(count: usize) -> Vec<u64> {
    let hash = Seeded::new(1);
    (0..count as u64).map(|value| hash.word(value)).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "random bits, any of them will do"
)]
fn v4(value: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(value as u32))
}

/// A random address in one network of 64 bits.
fn v6(value: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(value)))
}

fn window(sources: &[IpAddr]) -> SourceTally {
    let mut tally = SourceTally::new(SEED);
    fill(&mut tally, sources);
    tally
}

fn fill(tally: &mut SourceTally, sources: &[IpAddr]) {
    for source in sources {
        tally.add(TrafficClass::Syn, *source, 1);
    }
}

/// Filling a window at line rate and emptying it, by who sends.
fn sources(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("sources");
    group
        .throughput(Throughput::Elements(WINDOW_PACKETS as u64))
        .sample_size(20);
    let packets = random(WINDOW_PACKETS);
    let from = |sender: &dyn Fn(u64) -> IpAddr| {
        packets
            .iter()
            .map(|value| sender(*value))
            .collect::<Vec<_>>()
    };
    let senders = [
        ("random_v4", from(&v4)),
        ("65536_v4", from(&|value| v4(value % 65_536))),
        ("256_v4", from(&|value| v4(value % 256))),
        ("one_v4", from(&|_| v4(7))),
        ("random_v6_in_one_network", from(&v6)),
    ];
    for (name, senders) in &senders {
        let mut tally = SourceTally::new(SEED);
        group.bench_function(*name, |b| {
            b.iter(|| {
                fill(&mut tally, black_box(senders));
                tally.clear();
            });
        });
    }
    group.finish();
}

/// Closing a window: merging two workers' tallies, absorbing one into a summary, reading it.
fn closing(c: &mut Criterion<CpuTime>) {
    let senders: Vec<_> = random(WINDOW_PACKETS).into_iter().map(v4).collect();
    let exact = window(senders.get(..65_536).unwrap_or_default());
    let flood = window(&senders);
    let mut group = c.benchmark_group("closing");
    group.sample_size(20);
    for (name, tally) in [("exact_65536", &exact), ("flood", &flood)] {
        let mut summary = SourceSummary::new(SEED);
        group.bench_function(format!("absorb_{name}_into_empty"), |b| {
            b.iter(|| {
                summary.clear();
                summary.absorb(black_box(tally), |_| true);
            });
        });
        group.bench_function(format!("absorb_{name}_into_full"), |b| {
            b.iter(|| summary.absorb(black_box(tally), |_| true));
        });
        group.bench_function(format!("distinct_of_{name}"), |b| {
            b.iter(|| black_box(tally).distinct())
        });
        group.bench_function(format!("largest_of_{name}"), |b| {
            b.iter(|| black_box(&summary).largest(20))
        });
        let mut merged = SourceTally::new(SEED);
        group.bench_function(format!("merge_{name}_into_empty"), |b| {
            b.iter(|| {
                merged.clear();
                merged.merge(black_box(tally));
            });
        });
    }
    group.finish();
}

/// Filling a window's port histogram and emptying it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "random bits, any of them will do"
)]
fn ports(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("ports");
    group
        .throughput(Throughput::Elements(WINDOW_PACKETS as u64))
        .sample_size(20);
    let random: Vec<u16> = random(WINDOW_PACKETS)
        .into_iter()
        .map(|value| value as u16)
        .collect();
    for (name, ports) in [("random", random), ("one", vec![443; WINDOW_PACKETS])] {
        let mut histogram = PortHistogram::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                for port in black_box(&ports) {
                    histogram.add(*port, 1);
                }
                histogram.clear();
            });
        });
    }
    group.finish();
}

/// Marking a window's flows and emptying the bitmap; admitting one to the history.
fn flows(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("flows");
    let packets = random(WINDOW_PACKETS);
    let mut bitmap = FlowBitmap::new();
    group.sample_size(20);
    group.bench_function("admit", |b| {
        let mut history = FlowHistory::new();
        packets
            .iter()
            .take(50_000)
            .for_each(|flow| bitmap.insert(*flow));
        b.iter(|| history.admit(1, black_box(&bitmap)));
    });
    group.throughput(Throughput::Elements(WINDOW_PACKETS as u64));
    group.bench_function("random", |b| {
        b.iter(|| {
            for flow in black_box(&packets) {
                bitmap.insert(*flow);
            }
            bitmap.clear();
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = sources, closing, ports, flows
}
criterion_main!(benches);
