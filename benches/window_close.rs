//! What the detector's thread has to do for a window, by what is in it: merge it from several workers, judge it and step
//! the incident. An element is a window; there are twenty a second.

mod common;

use std::hint::black_box;

use common::cpu::{self, CpuTime};
use common::pipeline::{self, Pipeline};
use common::traffic::{BEGINNING, LINE_RATE_WINDOW, Senders, Traffic};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ftagent::count::{self, Window, WindowIndex};
use ftagent::engine::Engine;

/// Packets in a window of a busy server: 60,000 a second.
const TYPICAL_WINDOW: usize = 3_000;

fn windows() -> [(&'static str, Box<Window>); 4] {
    let counted = |traffic: Traffic| {
        let mut pipeline = Pipeline::new();
        pipeline.count(&traffic);
        pipeline.take()
    };
    [
        ("empty", Pipeline::new().take()),
        ("typical", counted(Traffic::mixed(TYPICAL_WINDOW))),
        (
            "full",
            counted(Traffic::syn_flood(LINE_RATE_WINDOW, Senders::Random)),
        ),
        ("full_v6", counted(Traffic::syn_flood_v6(LINE_RATE_WINDOW))),
    ]
}

fn window_close(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("window_close");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, mut window) in windows() {
        let mut engine = Engine::new(pipeline::settings_with_limit(), None);
        group.bench_function(format!("{name}/step"), |b| {
            b.iter(|| {
                window.index = window.index.next();
                black_box(engine.step(black_box(&window), None, window.index.end()))
            });
        });
        let first = WindowIndex::of(BEGINNING);
        let mut merged = Window::new(first, count::Settings::default().seed);
        group.bench_function(format!("{name}/merge"), |b| {
            b.iter(|| {
                merged.reset(first);
                merged.merge(black_box(&window));
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = cpu::criterion();
    targets = window_close
}
criterion_main!(benches);
