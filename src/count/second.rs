//! Twenty windows make a second.
//!
//! [`SecondMeter`] sums windows into the [`TrafficSecond`] that is reported and learned from; [`Recall`] keeps the
//! sources and ports of the second that is running and the one before it, so that an incident that opens now can name
//! those who began it. Pure; on the detector's thread.

use super::{Count, Endpoints, FlowHistory, Loss, SecondEnds, Tally, TrafficSecond, Window};
use crate::classify::Undecodable;
use crate::clock::Timestamp;

/// Destination ports listed for a second: as many as the seed contract shows.
const LISTED: usize = 20;

/// Sums windows into seconds.
#[derive(Debug, Default)]
pub struct SecondMeter {
    inbound_flows: FlowHistory,
    outbound_flows: FlowHistory,
    running: Option<TrafficSecond>,
}

impl SecondMeter {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a window, which `recall` has taken in already, and what it was judged by. Gives the second when this was
    /// its last window, or the one before when this window begins another.
    pub fn add(
        &mut self,
        window: &Window,
        judged: Count,
        from_interface: bool,
        recall: &Recall,
    ) -> Option<TrafficSecond> {
        let start = window.index.second_start();
        let before = self.running.take_if(|running| running.start != start);
        let second = self
            .running
            .get_or_insert_with(|| TrafficSecond::empty(start));
        second.pps += judged.packets;
        second.bps += judged.bits;
        second.from_interface &= from_interface;
        // An idle host costs nothing.
        if window.inbound.frames.packets > 0 {
            second.inbound.merge(&window.inbound);
        }
        if window.outbound.frames.packets > 0 {
            second.outbound.merge(&window.outbound);
        }
        let now = start.as_seconds();
        second.inbound_ends.new_flows += self.inbound_flows.admit(now, &window.inbound_ends.flows);
        second.outbound_ends.new_flows +=
            self.outbound_flows.admit(now, &window.outbound_ends.flows);
        second.foreign += window.foreign;
        second.late += window.late;
        for (mine, theirs) in second.undecodable.iter_mut().zip(&window.undecodable) {
            *mine += theirs;
        }
        second.loss.merge(window.loss);
        match before {
            // After a gap two seconds can be due at once; the later one is given with the next window.
            Some(before) => Some(recall.complete(before)),
            None if window.index.ends_second() => self.finish(recall),
            None => None,
        }
    }

    /// The second that is running, even if it is incomplete: at the end of a file.
    pub fn finish(&mut self, recall: &Recall) -> Option<TrafficSecond> {
        self.running.take().map(|second| recall.complete(second))
    }
}

impl TrafficSecond {
    fn empty(start: Timestamp) -> Self {
        Self {
            start,
            pps: 0,
            bps: 0,
            from_interface: true,
            inbound: Tally::default(),
            outbound: Tally::default(),
            inbound_ends: SecondEnds::default(),
            outbound_ends: SecondEnds::default(),
            foreign: 0,
            late: 0,
            undecodable: [0; Undecodable::COUNT],
            loss: Loss::default(),
        }
    }
}

/// Sources and ports of one second.
#[derive(Clone, Debug)]
struct Generation {
    start: Timestamp,
    inbound: Endpoints,
    outbound: Endpoints,
}

impl Generation {
    fn new(seed: u64) -> Self {
        Self {
            start: Timestamp::default(),
            inbound: Endpoints::new(seed),
            outbound: Endpoints::new(seed),
        }
    }

    fn restart(&mut self, start: Timestamp) {
        self.start = start;
        self.inbound.clear();
        self.outbound.clear();
    }
}

/// Sources and ports of the running second and the one before.
#[derive(Clone, Debug)]
pub struct Recall {
    now: Generation,
    before: Generation,
}

impl Recall {
    /// A recall that has seen nothing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: Generation::new(seed),
            before: Generation::new(seed),
        }
    }

    /// Adds a window.
    pub fn add(&mut self, window: &Window) {
        let start = window.index.second_start();
        if start != self.now.start {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.restart(start);
        }
        self.now.inbound.merge(&window.inbound_ends);
        self.now.outbound.merge(&window.outbound_ends);
    }

    /// What came in, older second first.
    pub fn inbound(&self) -> impl Iterator<Item = &Endpoints> {
        let recent = self.now.start.nanos_since(self.before.start) <= Timestamp::NANOS_PER_SECOND;
        recent
            .then_some(&self.before.inbound)
            .into_iter()
            .chain([&self.now.inbound])
    }

    /// The second with what its endpoints come to, if they are still known.
    fn complete(&self, mut second: TrafficSecond) -> TrafficSecond {
        for generation in [&self.before, &self.now] {
            if generation.start == second.start {
                second.inbound_ends.take_from(&generation.inbound);
                second.outbound_ends.take_from(&generation.outbound);
            }
        }
        second
    }
}

impl SecondEnds {
    fn take_from(&mut self, ends: &Endpoints) {
        self.sources = ends.sources.distinct();
        self.tcp_ports = ends.tcp_ports.largest(LISTED);
        self.udp_ports = ends.udp_ports.largest(LISTED);
    }
}
