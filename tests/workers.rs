//! One worker or four: the windows of several meters, merged, lead to the same events as those of one.
//!
//! The kernel keeps a flow on one worker (`PACKET_FANOUT_HASH`): its hash takes addresses, protocol and ports in either
//! order, and the addresses alone where there are no ports to be found, as in every fragment.

#![expect(
    clippy::expect_used,
    reason = "a test that fails loudly is what is wanted here"
)]

#[allow(dead_code, reason = "shared with the benches, which use more of it")]
#[path = "../benches/common/traffic.rs"]
mod traffic;

#[path = "common/tell.rs"]
mod tell;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ftagent::capture::replay::CaptureReader;
use ftagent::capture::{Capture, Frame, LinkType, PacketSource};
use ftagent::classify::{
    Classifier, Fragment, Sample, Settings, TrafficClass, Undecodable, Vantage,
};
use ftagent::count::{
    self, Count, Meter, SecondEnds, Seeded, Tally, WINDOWS_PER_SECOND, Window, WindowIndex,
};
use ftagent::detect::limits::{SetBy, SetLimit};
use ftagent::detect::{Confidence, permille};
use ftagent::engine::{self, Engine};
use ftagent::incident::{Event, Incident};
use tell::tell;
use traffic::{BEGINNING, HOST_V4, Senders, Traffic};

const WORKERS: usize = 4;

/// A stretch without packets is no longer stepped through after a minute of it.
const LONGEST_SILENCE: u64 = 60 * WINDOWS_PER_SECOND;

/// Which worker a packet goes to.
type Split = fn(u64, &Sample) -> usize;

/// As the kernel does it: packets of a flow, both ways, meet the same worker.
fn by_flow(_: u64, sample: &Sample) -> usize {
    let hash = Seeded::new(77);
    let end = |address| match address {
        IpAddr::V4(v4) => hash.wide(v4.to_ipv6_mapped().to_bits()),
        IpAddr::V6(v6) => hash.wide(v6.to_bits()),
    };
    let ends = end(sample.source) ^ end(sample.destination);
    let ports =
        if sample.fragment == Fragment::Whole && (sample.class.is_tcp() || sample.class.is_udp()) {
            hash.word(sample.source_port.into()) ^ hash.word(sample.destination_port.into())
        } else {
            0
        };
    worker(hash.pair(ends, ports ^ u64::from(sample.protocol)))
}

/// As no kernel does it, but a network card may: whoever comes next.
fn round_robin(nth: u64, _: &Sample) -> usize {
    worker(nth)
}

fn alone(_: u64, _: &Sample) -> usize {
    0
}

fn worker(number: u64) -> usize {
    usize::try_from(number % WORKERS as u64).expect("four fit")
}

/// A frame of its own.
struct Owned {
    at: ftagent::clock::Timestamp,
    link: LinkType,
    wire_bytes: u32,
    data: Vec<u8>,
}

impl Owned {
    fn of(frame: &Frame<'_>) -> Self {
        Self {
            at: frame.at,
            link: frame.link,
            wire_bytes: frame.wire_bytes,
            data: frame.data.to_vec(),
        }
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            at: self.at,
            link: self.link,
            wire_bytes: self.wire_bytes,
            data: &self.data,
        }
    }
}

/// Some traffic, whom it is about, and a limit it may cross.
struct Scene {
    name: String,
    frames: Vec<Owned>,
    host: IpAddr,
    limit_pps: u64,
}

/// What came of a scene: every event, and everything that was counted.
#[derive(Debug)]
struct Told {
    events: Vec<Event>,
    /// New flows and sources of each second.
    seconds: Vec<(SecondEnds, SecondEnds)>,
    /// Whether handshakes were seen to complete.
    sessions: bool,
    inbound: Tally,
    outbound: Tally,
    undecodable: [u64; Undecodable::COUNT],
    foreign: u64,
    late: u64,
}

fn run(scene: &Scene, split: Split) -> Told {
    let classifier = Classifier::new(Settings {
        vantage: Vantage::Hosts(vec![scene.host.into()]),
        tunnel_peers: Vec::new(),
    });
    let first = WindowIndex::of(scene.frames.first().expect("there are frames").at);
    let settings = count::Settings::default();
    let mut meters: Vec<_> = (0..WORKERS)
        .map(|_| Meter::new(settings.clone(), first))
        .collect();
    let mut engine_settings = engine::Settings::default();
    engine_settings.detect.limits.set_pps = Some(SetLimit {
        value: scene.limit_pps,
        by: SetBy::Local,
    });
    let mut engine = Engine::new(engine_settings, None);
    let mut told = Told {
        events: Vec::new(),
        seconds: Vec::new(),
        sessions: false,
        inbound: Tally::default(),
        outbound: Tally::default(),
        undecodable: [0; Undecodable::COUNT],
        foreign: 0,
        late: 0,
    };
    let mut spares: Vec<_> = (0..WORKERS)
        .map(|_| Box::new(Window::new(first, settings.seed)))
        .collect();
    let mut close = |meters: &mut [Meter], next: WindowIndex| {
        let mut windows: Vec<_> = meters
            .iter_mut()
            .filter_map(|meter| Some(meter.close(next, spares.pop()?)))
            .collect();
        let mut all = windows.pop().expect("there is a worker");
        windows.iter().for_each(|window| all.merge(window));
        spares.append(&mut windows);
        told.inbound.merge(&all.inbound);
        told.sessions |= !all.sessions.ports().is_empty();
        told.outbound.merge(&all.outbound);
        told.foreign += all.foreign;
        told.late += all.late;
        for (sum, count) in told.undecodable.iter_mut().zip(&all.undecodable) {
            *sum += count;
        }
        let outcome = engine.step(&all, None, all.index.end());
        told.events.extend(outcome.events);
        if let Some(second) = outcome.second {
            told.seconds
                .push((second.inbound_ends, second.outbound_ends));
        }
        spares.push(all);
    };
    let mut open = first;
    for (nth, owned) in (0..).zip(&scene.frames) {
        let frame = owned.frame();
        let target = WindowIndex::of(frame.at);
        let steps = target.since(open).min(LONGEST_SILENCE);
        for left in (0..steps).rev() {
            open = if left == 0 { target } else { open.next() };
            close(&mut meters, open);
        }
        let classified = classifier.classify(&frame);
        let at = classified.as_ref().map_or(0, |sample| split(nth, sample));
        let meter = meters.get_mut(at).expect("there are four");
        match classified {
            Ok(sample) => meter.count(&sample),
            Err(reason) => meter.refuse(frame.at, reason),
        }
    }
    for _ in 0..15 * WINDOWS_PER_SECOND {
        open = open.next();
        close(&mut meters, open);
    }
    told.events.extend(engine.finish().events);
    told
}

/// How far shares and confidence of two tellings may lie apart where they rest on a sample of handshakes: two points ...
const APART_PERMILLE: u64 = 20;

/// ... or so many packets of a small excess: each worker misses the SYN of the first handshake that it sees complete, and
/// the rest is a frame that is longer than others.
const APART_PACKETS: u64 = WORKERS as u64 + 1;

/// ... or, where sessions lead to more ports than the 64 that a worker follows, fifteen points: four workers follow four
/// times as many.
const APART_BEYOND_PORTS_PERMILLE: u64 = 150;

/// The scene whose sessions do.
const BEYOND_PORTS: &str = "sessions to all ports";

/// The event without what rests on the sample of handshakes. Each worker learns by itself to which ports sessions lead,
/// and what comes before is no part of them: once sessions have been seen, shares and confidence may differ by a few
/// packets. Nothing else may.
fn unsampled(event: &Event) -> Event {
    let mut event = event.clone();
    let (Event::Opened(incident) | Event::Updated(incident, _) | Event::Resolved(incident)) =
        &mut event;
    incident.vectors.clear();
    incident.families.clear();
    incident.confidence = Confidence::default();
    incident.excess = Count::default();
    event
}

/// What rests on the sample, as figures in permille, each with its name.
fn sampled(incident: &Incident) -> BTreeMap<String, u64> {
    let vectors = incident.vectors.iter().flat_map(|part| {
        let name = format!("vector {:?} {}", part.family, part.subtype);
        [
            (format!("{name}, packets"), part.packets_permille),
            (format!("{name}, bits"), part.bits_permille),
        ]
    });
    let families = incident.families.iter().flat_map(|part| {
        let name = format!("family {:?}", part.family);
        [
            (format!("{name}, packets"), part.packets_permille),
            (format!("{name}, bits"), part.bits_permille),
        ]
    });
    let Confidence {
        percent,
        purity_permille,
        evidence_permille,
        sample_permille,
        cap,
    } = incident.confidence;
    let rest = [
        ("confidence", percent * 10),
        ("purity", purity_permille),
        ("evidence", evidence_permille),
        ("sample", sample_permille),
        ("cap", cap.map_or(1_000, |(most, _)| most * 10)),
        (
            "excess packets of all",
            permille(incident.excess.packets, incident.total.packets),
        ),
        (
            "excess bits of all",
            permille(incident.excess.bits, incident.total.bits),
        ),
    ];
    let rest = rest.map(|(name, value)| (name.to_owned(), value));
    vectors.chain(families).chain(rest).collect()
}

/// The same events; gives how far apart the figures lie that rest on a sample, in permille.
fn assert_same_story(name: &str, one: &Told, four: &Told) -> u64 {
    assert_eq!(one.sessions, four.sessions, "{name}");
    if !one.sessions {
        assert_eq!(one.events, four.events, "{name}");
        return 0;
    }
    let story = |told: &Told| -> Vec<_> { told.events.iter().map(unsampled).collect() };
    assert_eq!(story(one), story(four), "{name}");
    let mut most_apart = 0;
    for (one, four) in one.events.iter().zip(&four.events) {
        let packets = one.incident().excess.packets.max(1);
        let few = (APART_PACKETS * 1_000).div_ceil(packets);
        let allowed = match name {
            BEYOND_PORTS => APART_BEYOND_PORTS_PERMILLE,
            _ => APART_PERMILLE.max(few),
        };
        let (one, four) = (sampled(one.incident()), sampled(four.incident()));
        for what in one.keys().chain(four.keys()) {
            // A vector that only one of them names is one with nothing for the other.
            let value = |told: &BTreeMap<String, u64>| told.get(what).copied().unwrap_or(0);
            let apart = value(&one).abs_diff(value(&four));
            assert!(
                apart <= allowed,
                "{name}: {what} is {} with one worker and {} with four",
                value(&one),
                value(&four)
            );
            most_apart = most_apart.max(apart);
        }
    }
    most_apart
}

fn recorded() -> Vec<Scene> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let manifest =
        std::fs::read_to_string(folder.join("manifest.tsv")).expect("there is a manifest");
    let scenes: Vec<_> = manifest
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            let [file, victim, _, _, peak_pps, ..] = columns.as_slice() else {
                return None;
            };
            let peak_pps: u64 = peak_pps.parse().ok()?;
            Some(Scene {
                name: (*file).to_owned(),
                frames: read(folder.join(file)),
                host: victim.parse().ok()?,
                limit_pps: (peak_pps / 3).max(20),
            })
        })
        .collect();
    assert!(scenes.len() > 20, "only {} captures", scenes.len());
    scenes
}

fn read(path: PathBuf) -> Vec<Owned> {
    let mut reader = CaptureReader::open(&path).expect("the project's captures can be read");
    let mut frames = Vec::new();
    while let Ok(Capture::Frame(frame)) = reader.next() {
        frames.push(Owned::of(&frame));
    }
    frames
}

/// Floods of 100,000 packets a second on servers that are not idle: one of web pages and names, and one without TCP,
/// where nothing rests on a sample.
fn generated() -> Vec<Scene> {
    const FLOOD: usize = 5_000;
    const FLOOD_WINDOWS: u64 = 15;
    let web = Traffic::mixed(100);
    let datagrams = Traffic::udp_flood(100, Senders::Few(40));
    let kinds = [
        ("SYN", Traffic::syn_flood(FLOOD, Senders::Random)),
        ("SYN of a few", Traffic::syn_flood(FLOOD, Senders::Few(300))),
        ("UDP", Traffic::udp_flood(FLOOD, Senders::Random)),
        ("fragments", Traffic::fragments(FLOOD, Senders::Few(300))),
        (BEYOND_PORTS, Traffic::sessions(FLOOD)),
        ("sessions to one port", Traffic::web_flood(FLOOD)),
        ("tunnels", Traffic::tunnelled(&Traffic::mixed(FLOOD))),
    ];
    let kinds = kinds.map(|(name, flood)| (name, flood, &web));
    let without_tcp = [
        (
            "SYN without TCP",
            Traffic::syn_flood(FLOOD, Senders::Random),
        ),
        (
            "fragments without TCP",
            Traffic::fragments(FLOOD, Senders::Few(300)),
        ),
    ];
    let without_tcp = without_tcp.map(|(name, flood)| (name, flood, &datagrams));
    let scene = |(name, mut flood, usual): (&str, Traffic, &Traffic)| {
        let mut frames = Vec::new();
        let mut window = WindowIndex::of(BEGINNING);
        for nth in 0..60 + FLOOD_WINDOWS {
            frames.extend(usual.frames(window).map(|frame| Owned::of(&frame)));
            if nth >= 60 {
                flood.renew_sources();
                frames.extend(flood.frames(window).map(|frame| Owned::of(&frame)));
            }
            window = window.next();
        }
        Scene {
            name: name.to_owned(),
            frames,
            host: IpAddr::V4(HOST_V4),
            limit_pps: 50_000,
        }
    };
    kinds.into_iter().chain(without_tcp).map(scene).collect()
}

#[test]
fn four_workers_tell_the_same_events_as_one() {
    let (mut opened, mut in_full) = (0, 0);
    for scene in recorded().into_iter().chain(generated()) {
        let (one, four) = (run(&scene, alone), run(&scene, by_flow));
        assert_eq!(one.inbound, four.inbound, "{}", scene.name);
        assert_eq!(one.outbound, four.outbound, "{}", scene.name);
        assert_eq!(one.undecodable, four.undecodable, "{}", scene.name);
        assert_eq!(
            (one.foreign, one.late),
            (four.foreign, four.late),
            "{}",
            scene.name
        );
        assert_eq!(one.seconds, four.seconds, "{}", scene.name);
        let apart = assert_same_story(&scene.name, &one, &four);
        if one.sessions {
            tell!("{:28} sampled, {apart} permille apart", scene.name);
        } else {
            in_full += 1;
        }
        opened += one.events.len().min(1);
    }
    assert!(opened > 25, "only {opened} scenes led to an incident");
    assert!(in_full > 20, "only {in_full} scenes compared in full");
}

#[test]
fn whatever_can_be_added_up_is_the_same_when_packets_come_to_anyone() {
    for scene in recorded().into_iter().chain(generated()) {
        let (one, four) = (run(&scene, alone), run(&scene, round_robin));
        assert_eq!(one.inbound.frames, four.inbound.frames, "{}", scene.name);
        assert_eq!(one.inbound.lengths, four.inbound.lengths, "{}", scene.name);
        assert_eq!(one.outbound.frames, four.outbound.frames, "{}", scene.name);
        assert_eq!(one.undecodable, four.undecodable, "{}", scene.name);
        assert_eq!(
            (one.foreign, one.late),
            (four.foreign, four.late),
            "{}",
            scene.name
        );
        for class in TrafficClass::ALL {
            assert_eq!(
                one.inbound.class(class),
                four.inbound.class(class),
                "{} {class:?}",
                scene.name
            );
        }
    }
}
