//! What one packet costs at 10 GbE line rate: the smallest frames there are, 744,000 in each window of 50 ms.
//!
//! `etherparse` is the yardstick of the day: its lax slices alone over the same frames on the same machine. `classify` is
//! from bytes to a sample. `engine` is everything: classify, count with source accounting, close the window and judge it,
//! with an incident open where the traffic is a flood. Throughput is in packets, so that an element's time is a
//! packet's.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::cpu::{self, CpuTime};
use common::pipeline::Pipeline;
use common::traffic::{self, BEGINNING, LINE_RATE_WINDOW, Senders, Traffic};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use etherparse::LaxSlicedPacket;
use ftagent::classify::Classifier;
use ftagent::count::WindowIndex;

/// Sources of the floods that come from somebody: a small botnet.
const STEADY: Senders = Senders::Few(256);

/// Whether an incident is open while it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flood,
    Ordinary,
}

fn hot_path(c: &mut Criterion<CpuTime>) {
    let line_rate = |senders| Traffic::syn_flood(LINE_RATE_WINDOW, senders);
    let traffics = [
        ("syn_random_v4", line_rate(Senders::Random), Kind::Flood),
        ("syn_256_v4", line_rate(STEADY), Kind::Flood),
        (
            "udp_random_v4",
            Traffic::udp_flood(LINE_RATE_WINDOW, Senders::Random),
            Kind::Flood,
        ),
        (
            "syn_random_v6",
            Traffic::syn_flood_v6(LINE_RATE_WINDOW),
            Kind::Flood,
        ),
        (
            "mixed",
            Traffic::mixed(LINE_RATE_WINDOW / 4),
            Kind::Ordinary,
        ),
    ];
    for (name, mut traffic, kind) in traffics {
        let mut group = c.benchmark_group("hot_path");
        group
            .throughput(Throughput::Elements(traffic.len() as u64))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10);
        let window = WindowIndex::of(BEGINNING);
        group.bench_function(format!("{name}/etherparse"), |b| {
            b.iter(|| {
                for frame in traffic.frames(window) {
                    let _ = black_box(LaxSlicedPacket::from_ethernet(frame.data));
                }
            });
        });
        let classifier = Classifier::new(traffic::host());
        group.bench_function(format!("{name}/classify"), |b| {
            b.iter(|| {
                for frame in traffic.frames(window) {
                    let _ = black_box(classifier.classify(&frame));
                }
            });
        });
        let mut pipeline = Pipeline::new();
        group.bench_function(format!("{name}/engine"), |b| {
            if kind == Kind::Flood {
                pipeline.be_attacked(&mut traffic);
            }
            b.iter_custom(|windows| {
                let mut spent = Duration::ZERO;
                for _ in 0..windows {
                    traffic.renew_sources();
                    let begun = cpu::now();
                    pipeline.count(&traffic);
                    pipeline.close();
                    spent += cpu::now().saturating_sub(begun);
                }
                spent
            });
            if kind == Kind::Flood {
                pipeline.assert_attacked();
            }
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = hot_path
}
criterion_main!(benches);
