//! Twenty windows make a second.
//!
//! [`SecondMeter`] sums windows into the [`TrafficSecond`] that is reported and learned from; [`Recall`] keeps the
//! sources and ports of the second that is running and the one before it, so that an incident that opens now can name
//! those who began it. Pure; on the detector's thread.

use super::{
    Count, Distinct, FlowHistory, PortHistogram, SourceTally, Tally, TrafficSecond, Window,
    WindowIndex,
};
use crate::classify::Undecodable;
use crate::count::Loss;

/// Sums windows into seconds.
#[derive(Debug)]
pub struct SecondMeter {
    flows: FlowHistory,
    running: Option<TrafficSecond>,
}

impl SecondMeter {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            flows: FlowHistory::new(),
            running: None,
        }
    }

    /// Adds a window, which `recall` has taken in already, and what it was judged by. Gives the second when this was its
    /// last window, or the one before when this window begins another.
    pub fn add(
        &mut self,
        window: &Window,
        judged: Count,
        from_interface: bool,
        recall: &Recall,
    ) -> Option<TrafficSecond> {
        let start = window.index.second_start();
        let mut before = self.running.take_if(|running| running.start != start);
        if let Some(second) = before.as_mut() {
            second.sources = recall.distinct_before();
        }
        let begins = self.running.is_none();
        let second = self.running.get_or_insert_with(|| TrafficSecond {
            start,
            pps: 0,
            bps: 0,
            from_interface: true,
            inbound: Tally::default(),
            outbound: Tally::default(),
            new_flows: 0,
            sources: Distinct::default(),
            foreign: 0,
            late: 0,
            undecodable: [0; Undecodable::COUNT],
            loss: Loss::default(),
        });
        second.pps += judged.packets;
        second.bps += judged.bits;
        second.from_interface &= from_interface;
        // An idle host costs nothing, but its flows go on ageing.
        if window.inbound.frames.packets > 0 || begins {
            second.inbound.merge(&window.inbound);
            second.new_flows += self.flows.admit(start.as_seconds(), &window.flows);
        }
        if window.outbound.frames.packets > 0 {
            second.outbound.merge(&window.outbound);
        }
        second.foreign += window.foreign;
        second.late += window.late;
        for (mine, theirs) in second.undecodable.iter_mut().zip(&window.undecodable) {
            *mine += theirs;
        }
        second.loss.merge(window.loss);
        // After a gap both may be due; this one then goes out with the next window.
        if before.is_none() && window.index.ends_second() {
            self.finish(recall)
        } else {
            before
        }
    }

    /// The second that is running, even if it is incomplete: at the end of a file.
    pub fn finish(&mut self, recall: &Recall) -> Option<TrafficSecond> {
        let mut second = self.running.take()?;
        second.sources = recall.distinct_now();
        Some(second)
    }
}

impl Default for SecondMeter {
    fn default() -> Self {
        Self::new()
    }
}

/// Sources and ports of one second.
#[derive(Clone, Debug)]
struct Generation {
    sources: SourceTally,
    tcp_ports: PortHistogram,
    udp_ports: PortHistogram,
}

impl Generation {
    fn new(seed: u64) -> Self {
        Self {
            sources: SourceTally::new(seed),
            tcp_ports: PortHistogram::new(),
            udp_ports: PortHistogram::new(),
        }
    }

    fn clear(&mut self) {
        self.sources.clear();
        self.tcp_ports.clear();
        self.udp_ports.clear();
    }

    fn add(&mut self, window: &Window) {
        self.sources.merge(&window.sources);
        self.tcp_ports.merge(&window.tcp_ports);
        self.udp_ports.merge(&window.udp_ports);
    }
}

/// Sources and ports of the running second and the one before.
#[derive(Clone, Debug)]
pub struct Recall {
    now: Generation,
    before: Generation,
    /// Whether `before` is the second just before, and not one before a gap.
    joined: bool,
    index: WindowIndex,
}

impl Recall {
    /// A recall that has seen nothing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: Generation::new(seed),
            before: Generation::new(seed),
            joined: false,
            index: WindowIndex::default(),
        }
    }

    /// Adds a window.
    pub fn add(&mut self, window: &Window) {
        if window.index.second_start() != self.index.second_start() {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.clear();
            self.joined = window.index.since(self.index) <= super::WINDOWS_PER_SECOND;
        }
        self.index = window.index;
        self.now.add(window);
    }

    /// The sources recalled, older second first.
    pub fn sources(&self) -> impl Iterator<Item = &SourceTally> {
        self.generations().map(|each| &each.sources)
    }

    /// Inbound TCP by destination port, older second first.
    pub fn tcp_ports(&self) -> impl Iterator<Item = &PortHistogram> {
        self.generations().map(|each| &each.tcp_ports)
    }

    /// Inbound UDP by destination port, older second first.
    pub fn udp_ports(&self) -> impl Iterator<Item = &PortHistogram> {
        self.generations().map(|each| &each.udp_ports)
    }

    /// Distinct sources of the running second so far.
    #[must_use]
    pub fn distinct_now(&self) -> Distinct {
        self.now.sources.distinct()
    }

    /// Distinct sources of the last second before that had any window, however long ago that was.
    #[must_use]
    pub fn distinct_before(&self) -> Distinct {
        self.before.sources.distinct()
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        let before = self.joined.then_some(&self.before);
        before.into_iter().chain([&self.now])
    }
}
