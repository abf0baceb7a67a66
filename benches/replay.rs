//! From a capture file to incidents: what `ftagent replay` does, with the file in memory.

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot make its input has nothing to measure"
)]

mod common;

use std::hint::black_box;
use std::io::Cursor;

use common::cpu::{self, CpuTime};
use common::pipeline;
use common::traffic::{self, LINE_RATE_WINDOW, Senders, Traffic};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ftagent::agent::{self, ReplaySettings, Summary};
use ftagent::capture::replay::CaptureReader;
use ftagent::capture::{Capture, PacketSource};
use ftagent::count;
use ftagent::engine::Engine;

/// Windows in a file. A flood opens its incident after the second, and is half over then.
const WINDOWS: usize = 4;

/// Packets a second from which an incident opens: more than all of the ordinary traffic, and two windows of a flood.
const LIMIT_PPS: u64 = 1_400_000;

fn open(file: &[u8]) -> CaptureReader<Cursor<&[u8]>> {
    CaptureReader::new(Cursor::new(file), "memory").expect("what was written can be read")
}

/// Reads every frame and does nothing with it.
fn read(file: &[u8]) -> u64 {
    let (mut reader, mut packets) = (open(file), 0);
    while let Ok(Capture::Frame(frame)) = reader.next() {
        black_box(frame);
        packets += 1;
    }
    packets
}

/// What it came to, and how many events there were.
fn replay(file: &[u8]) -> (Summary, usize) {
    let settings = ReplaySettings {
        classify: traffic::host(),
        count: count::Settings::default(),
        warmup_seconds: 0,
    };
    let mut engine = Engine::new(pipeline::settings_with(LIMIT_PPS), None);
    let mut events = 0;
    let (summary, ended) = agent::replay(&mut open(file), &settings, &mut engine, &mut |outcome| {
        events += outcome.events.len();
    });
    assert!(ended.is_ok(), "the file is whole");
    (summary, events)
}

fn benches(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("replay");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    let traffics = [
        (
            "syn_random_v4",
            Traffic::syn_flood(LINE_RATE_WINDOW, Senders::Random),
            true,
        ),
        ("mixed", Traffic::mixed(LINE_RATE_WINDOW / 4), false),
    ];
    for (name, mut traffic, is_flood) in traffics {
        let mut file = Vec::new();
        traffic
            .write_pcap(WINDOWS * traffic.len(), &mut file)
            .expect("memory can be written");
        let (summary, events) = replay(&file);
        assert_eq!(events > 0, is_flood, "{name}: {events} events");
        group.throughput(Throughput::Elements(summary.packets));
        group.bench_function(format!("{name}/read"), |b| {
            b.iter(|| read(black_box(&file)))
        });
        group.bench_function(format!("{name}/incidents"), |b| {
            b.iter(|| replay(black_box(&file)))
        });
    }
    group.finish();
}

criterion_group! {
    name = all;
    config = cpu::criterion();
    targets = benches
}
criterion_main!(all);
