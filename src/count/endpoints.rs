//! Who talks to whom, in one direction: addresses, ports, flows.
//!
//! The tables beside a [`Tally`](super::Tally)'s counters, with the same life: one pair in each window, one in each
//! second that is recalled. Pure; filled on the capture threads, merged on the detector's.

use super::sources::SourceQueue;
use super::{FlowBitmap, PortHistogram, SourceTally};
use crate::classify::{Sample, TrafficClass};

/// Sources, ports and flows of one direction.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Who sent it, by class; complete once [settled](Endpoints::settle).
    pub sources: SourceTally,
    queue: SourceQueue,
    /// TCP by destination port.
    pub tcp_ports: PortHistogram,
    /// UDP by destination port.
    pub udp_ports: PortHistogram,
    /// UDP of no known service by source port: reflectors have theirs in common.
    pub udp_source_ports: PortHistogram,
    /// Which flows were seen.
    pub flows: FlowBitmap,
    /// Whether anything was counted: emptying and adding up what is empty costs nothing.
    used: bool,
}

impl Endpoints {
    /// Empty tables, all allocated. `seed` keys their hashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            sources: SourceTally::new(seed),
            queue: SourceQueue::new(),
            tcp_ports: PortHistogram::new(),
            udp_ports: PortHistogram::new(),
            udp_source_ports: PortHistogram::new(),
            flows: FlowBitmap::new(),
            used: false,
        }
    }

    /// Counts a packet, or those that a merged frame was made of. `flow` is its flow's hash.
    #[inline]
    pub fn count(&mut self, sample: &Sample, flow: u64, packets: u32) {
        if sample.class == TrafficClass::NotIp {
            return;
        }
        self.used = true;
        self.queue
            .add(sample.class, sample.source, packets, &mut self.sources);
        self.flows.insert(flow);
        if sample.class.is_tcp() {
            self.tcp_ports.add(sample.destination_port, packets);
        } else if sample.class.is_udp() {
            self.udp_ports.add(sample.destination_port, packets);
            if sample.class == TrafficClass::UdpOther {
                self.udp_source_ports.add(sample.source_port, packets);
            }
        }
    }

    /// Counts the last few sources, which wait for others to come: what was counted is complete from here on.
    pub fn settle(&mut self) {
        self.queue.settle(&mut self.sources);
    }

    /// Empties the tables without giving memory back.
    pub fn clear(&mut self) {
        if !std::mem::take(&mut self.used) {
            return;
        }
        self.queue = SourceQueue::new();
        self.sources.clear();
        self.tcp_ports.clear();
        self.udp_ports.clear();
        self.udp_source_ports.clear();
        self.flows.clear();
    }

    /// Adds what another worker saw, or another window.
    pub fn merge(&mut self, other: &Self) {
        if !other.used {
            return;
        }
        self.used = true;
        self.sources.merge(&other.sources);
        self.tcp_ports.merge(&other.tcp_ports);
        self.udp_ports.merge(&other.udp_ports);
        self.udp_source_ports.merge(&other.udp_source_ports);
        self.flows.merge(&other.flows);
    }
}
