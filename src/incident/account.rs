//! What an incident has seen: totals, protocols, sources, ports.

use super::ProtocolShares;
use crate::classify::tcp_flag;
use crate::count::{
    Count, Distinct, Endpoints, Loss, PortHistogram, SourceCount, SourceSummary, Tally, Window,
};
use crate::detect::{Detector, Judged, Name, Span, permille};

/// Sources and ports listed at most: what the seed contract shows.
pub(super) const LISTED: usize = 20;

/// IP protocol numbers of the protocols that the seed contract tells apart.
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Sums over an incident. Sources and ports are those of the traffic it is named after; totals are of everything.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) total: Count,
    pub(super) loss: Loss,
    pub(super) from_interface: bool,
    inbound: Tally,
    sources: SourceSummary,
    tcp_ports: PortHistogram,
    udp_ports: PortHistogram,
}

impl Account {
    /// The account of an incident that opens now: it begins with the last second, and with the sources and ports of
    /// up to two.
    pub(super) fn new(opening: &Span, name: &Name, detector: &Detector, seed: u64) -> Self {
        let mut account = Self {
            total: opening.judged,
            loss: opening.loss,
            from_interface: opening.from_interface == opening.windows,
            inbound: opening.inbound.clone(),
            sources: SourceSummary::new(seed),
            tcp_ports: PortHistogram::new(),
            udp_ports: PortHistogram::new(),
        };
        account.recall(name, detector);
        account
    }

    /// Goes on after a pause with the last second.
    pub(super) fn resume(&mut self, opening: &Span, name: &Name, detector: &Detector) {
        self.total.merge(opening.judged);
        self.loss.merge(opening.loss);
        self.inbound.merge(&opening.inbound);
        self.recall(name, detector);
    }

    /// What came so far was normal; sources and ports are those of what comes from the last second on.
    pub(super) fn restart(&mut self, name: &Name, detector: &Detector) {
        self.sources.clear();
        self.tcp_ports.clear();
        self.udp_ports.clear();
        self.recall(name, detector);
    }

    /// Takes in a window.
    pub(super) fn add(&mut self, window: &Window, judged: Judged, name: &Name) {
        self.total.merge(judged.count);
        self.loss.merge(window.loss);
        self.from_interface &= judged.from_interface;
        self.inbound.merge(&window.inbound);
        self.take_in(&window.inbound_ends, name);
    }

    /// Takes in whom the second before, and the one that is running, came from.
    fn recall(&mut self, name: &Name, detector: &Detector) {
        for ends in detector.recall().inbound() {
            self.take_in(ends, name);
        }
    }

    fn take_in(&mut self, ends: &Endpoints, name: &Name) {
        self.sources
            .absorb(&ends.sources, |class| name.has_class(class));
        if names_tcp(name) {
            self.tcp_ports.merge(&ends.tcp_ports);
        }
        if names_udp(name) {
            self.udp_ports.merge(&ends.udp_ports);
        }
    }

    pub(super) fn distinct_sources(&self) -> Distinct {
        self.sources.distinct()
    }

    pub(super) fn top_sources(&self) -> Vec<SourceCount> {
        self.sources.largest(LISTED)
    }

    /// The ports sent to, TCP and UDP together.
    pub(super) fn top_ports(&self) -> Vec<(u16, u64)> {
        let mut both = self.tcp_ports.clone();
        both.merge(&self.udp_ports);
        both.largest(LISTED)
    }

    pub(super) fn protocols(&self) -> ProtocolShares {
        let all = self.inbound.wire().packets;
        let share = |packets: u64| permille(packets, all);
        let protocols = &self.inbound.protocols;
        ProtocolShares {
            tcp: share(protocols.of(TCP)),
            udp: share(protocols.of(UDP)),
            icmp: share(protocols.of(ICMP) + protocols.of(ICMPV6)),
        }
    }

    pub(super) fn tcp_flags(&self) -> [u64; 8] {
        [
            tcp_flag::FIN,
            tcp_flag::SYN,
            tcp_flag::RST,
            tcp_flag::PSH,
            tcp_flag::ACK,
            tcp_flag::URG,
            tcp_flag::ECE,
            tcp_flag::CWR,
        ]
        .map(|flag| self.inbound.flags.matching(|flags| flags & flag != 0))
    }
}

fn names_tcp(name: &Name) -> bool {
    crate::classify::TrafficClass::ALL
        .into_iter()
        .any(|class| class.is_tcp() && name.has_class(class))
}

fn names_udp(name: &Name) -> bool {
    crate::classify::TrafficClass::ALL
        .into_iter()
        .any(|class| class.is_udp() && name.has_class(class))
}
