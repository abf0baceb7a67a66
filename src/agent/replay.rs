//! A capture file through the engine, on one thread and as fast as it goes.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::capture::{Capture, CaptureError, PacketSource};
use crate::classify::{self, Classifier, TrafficClass, Undecodable, Vantage};
use crate::clock::Timestamp;
use crate::count::{self, Meter, WINDOWS_PER_SECOND, Window, WindowIndex};
use crate::engine::{Engine, Outcome};

/// How to replay.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// Who is protected.
    pub classify: classify::Settings,
    /// How to count.
    pub count: count::Settings,
    /// The first so many seconds only teach what is normal.
    pub warmup_seconds: u64,
}

/// What a replay amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames read.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// First frame.
    pub first_at: Option<Timestamp>,
    /// Last frame.
    pub last_at: Option<Timestamp>,
    /// Packets to the protected hosts, from them, and neither.
    pub inbound: u64,
    /// Packets the protected hosts sent.
    pub outbound: u64,
    /// Packets of others.
    pub foreign: u64,
    /// Packets older than the window they came in.
    pub late: u64,
    /// Stretches without any packet that were too long to be counted as silence.
    pub gaps: u64,
    /// What could not be taken apart, by reason.
    pub undecodable: [u64; Undecodable::COUNT],
    /// Incidents opened.
    pub incidents: u64,
}

/// Silence longer than this is a gap in the recording, not a quiet host: ten minutes. A gap is not counted as zeros.
const GAP_WINDOWS: u64 = 600 * WINDOWS_PER_SECOND;

/// Runs `source` through `engine` to its end. Each outcome that holds something goes to `sink`, in order.
///
/// # Errors
///
/// What the source reports when it cannot go on, beside the summary of everything before. What was open is resolved in
/// any case.
pub fn replay(
    source: &mut dyn PacketSource,
    settings: &ReplaySettings,
    engine: &mut Engine,
    sink: &mut dyn FnMut(Outcome),
) -> (Summary, Result<(), CaptureError>) {
    let mut replay = Replay {
        classifier: Classifier::new(settings.classify.clone()),
        settings,
        engine,
        sink,
        meter: None,
        spare: None,
        warm_from: None,
        summary: Summary::default(),
    };
    let ended = loop {
        match source.next() {
            Ok(Capture::Frame(frame)) => replay.frame(&frame),
            Ok(Capture::Idle) => {}
            Ok(Capture::End) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (replay.finish(), ended)
}

struct Replay<'a> {
    classifier: Classifier,
    settings: &'a ReplaySettings,
    engine: &'a mut Engine,
    sink: &'a mut dyn FnMut(Outcome),
    meter: Option<Meter>,
    spare: Option<Box<Window>>,
    warm_from: Option<Timestamp>,
    summary: Summary,
}

impl Replay<'_> {
    #[inline]
    fn frame(&mut self, frame: &crate::capture::Frame<'_>) {
        self.summary.packets += 1;
        self.summary.bytes += u64::from(frame.wire_bytes);
        self.summary.last_at = Some(frame.at);
        if self
            .meter
            .as_ref()
            .is_none_or(|meter| frame.at >= meter.closes_at())
        {
            self.advance(frame.at);
        }
        let Some(meter) = &mut self.meter else { return };
        // By reference: moving a sample out of its result would copy it.
        match &self.classifier.classify(frame) {
            Ok(sample) => meter.count(sample),
            Err(reason) => meter.refuse(frame.at, *reason),
        }
    }

    /// Closes windows until the one that `at` falls into is open.
    fn advance(&mut self, at: Timestamp) {
        let target = WindowIndex::of(at);
        let Some(mut meter) = self.meter.take() else {
            self.summary.first_at = Some(at);
            self.warm_from = Some(
                at.plus_nanos(
                    self.settings
                        .warmup_seconds
                        .saturating_mul(Timestamp::NANOS_PER_SECOND),
                ),
            );
            self.meter = Some(Meter::new(self.settings.count.clone(), target));
            return;
        };
        if target.since(meter.open()) > GAP_WINDOWS {
            self.summary.gaps += 1;
            self.close(&mut meter, target);
        }
        while meter.open() < target {
            let next = meter.open().next();
            self.close(&mut meter, next);
        }
        self.meter = Some(meter);
    }

    fn close(&mut self, meter: &mut Meter, next: WindowIndex) {
        let spare = self
            .spare
            .take()
            .unwrap_or_else(|| Box::new(Window::new(next, self.settings.count.seed)));
        let window = meter.close(next, spare);
        self.step(&window);
        self.spare = Some(window);
    }

    fn step(&mut self, window: &Window) {
        let summary = &mut self.summary;
        summary.inbound += window.inbound.frames.packets;
        summary.outbound += window.outbound.frames.packets;
        summary.foreign += window.foreign;
        summary.late += window.late;
        for (mine, theirs) in summary.undecodable.iter_mut().zip(&window.undecodable) {
            *mine += theirs;
        }
        let end = window.index.end();
        let outcome = if self.warm_from.is_some_and(|from| end <= from) {
            self.engine.learn_only(window, end)
        } else {
            self.engine.step(window, None, end)
        };
        self.emit(outcome);
    }

    fn emit(&mut self, outcome: Outcome) {
        self.summary.incidents += outcome.opened();
        if outcome.second.is_some() || !outcome.events.is_empty() {
            (self.sink)(outcome);
        }
    }

    fn finish(mut self) -> Summary {
        if let Some(mut meter) = self.meter.take() {
            let next = meter.open().next();
            self.close(&mut meter, next);
        }
        let last = self.engine.finish();
        self.emit(last);
        self.summary
    }
}

/// Destinations told apart while looking for the busiest one. A host under attack is among the first of them: what
/// comes after so many others is a scan's.
const DESTINATIONS: usize = 65_536;

/// The destination that most packets of `source` go to: the host that a capture without one named is about. Frames
/// that cannot be read are left out; at a damaged record the search ends with what was there.
///
/// # Errors
///
/// Never for a damaged file: replaying it will say so. `None` when there is no IP packet at all.
pub fn busiest_destination(source: &mut dyn PacketSource) -> Option<IpAddr> {
    let classifier = Classifier::new(classify::Settings {
        vantage: Vantage::Hosts(Vec::new()),
        tunnel_peers: Vec::new(),
    });
    let mut counts: HashMap<IpAddr, u64> = HashMap::new();
    // Floods come in long runs to one destination: count a run before touching the map.
    let mut run: Option<(IpAddr, u64)> = None;
    while let Ok(next) = source.next() {
        let frame = match next {
            Capture::Frame(frame) => frame,
            Capture::Idle => continue,
            Capture::End => break,
        };
        let Ok(sample) = classifier.classify(&frame) else {
            continue;
        };
        if sample.class == TrafficClass::NotIp {
            continue;
        }
        match &mut run {
            Some((address, packets)) if *address == sample.destination => *packets += 1,
            _ => add_run(&mut counts, run.replace((sample.destination, 1))),
        }
    }
    add_run(&mut counts, run);
    // Hash order never reaches the result: the lowest of equally busy addresses wins.
    counts
        .into_iter()
        .max_by_key(|(address, packets)| (*packets, std::cmp::Reverse(*address)))
        .map(|(address, _)| address)
}

fn add_run(counts: &mut HashMap<IpAddr, u64>, run: Option<(IpAddr, u64)>) {
    let Some((address, packets)) = run else {
        return;
    };
    if let Some(count) = counts.get_mut(&address) {
        *count += packets;
    } else if counts.len() < DESTINATIONS {
        counts.insert(address, packets);
    }
}
