//! What an incident has seen: totals, protocols, sources, ports.

use super::forensics::{Curve, Forensics, Seen, entropy_millibits};
use super::{Incident, ProtocolShares};
use crate::clock::Timestamp;
use crate::count::{
    Count, Distinct, Endpoints, Loss, PortHistogram, SourceCount, SourceSummary, Window,
};
use crate::detect::{Detector, Judged, Name, Span};

/// Sources and ports listed at most: what the seed contract shows.
pub(super) const LISTED: usize = 20;

/// Sums over an incident. Sources and ports are those of the traffic it is named after; totals are of everything.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) total: Count,
    pub(super) loss: Loss,
    pub(super) from_interface: bool,
    seen: Seen,
    pub(super) curve: Curve,
    sources: SourceSummary,
    tcp_ports: PortHistogram,
    udp_ports: PortHistogram,
    entropy_millibits: Option<u64>,
}

impl Account {
    /// The account of an incident that opens now: it begins with the last second, and with the sources and ports of
    /// up to two.
    pub(super) fn new(
        opening: &Span,
        started_at: Timestamp,
        name: &Name,
        detector: &Detector,
        seed: u64,
    ) -> Self {
        let mut account = Self {
            total: opening.judged,
            loss: opening.loss,
            from_interface: opening.from_interface == opening.windows,
            seen: Seen::default(),
            curve: Curve::new(started_at),
            sources: SourceSummary::new(seed),
            tcp_ports: PortHistogram::new(),
            udp_ports: PortHistogram::new(),
            entropy_millibits: None,
        };
        account.seen.add(&opening.inbound);
        account.take_in_last_seconds(name, detector);
        account
    }

    /// The account of an incident that was told before a restart. Its sums go on; whom it came from, and where to, is not
    /// known any more, and begins anew.
    pub(super) fn recall(incident: &Incident, seed: u64) -> Self {
        Self {
            total: incident.total,
            loss: incident.loss,
            from_interface: incident.from_interface,
            seen: Seen::recall(&incident.forensics, incident.tcp_flags),
            curve: Curve::recall(incident.started_at, &incident.forensics),
            sources: SourceSummary::new(seed),
            tcp_ports: PortHistogram::new(),
            udp_ports: PortHistogram::new(),
            entropy_millibits: None,
        }
    }

    /// Goes on after a pause with the last second.
    pub(super) fn resume(&mut self, opening: &Span, name: &Name, detector: &Detector) {
        self.total.merge(opening.judged);
        self.loss.merge(opening.loss);
        self.seen.add(&opening.inbound);
        self.entropy_millibits = None;
        self.take_in_last_seconds(name, detector);
    }

    /// What came so far was normal; sources and ports are those of what comes from the last second on.
    pub(super) fn restart(&mut self, name: &Name, detector: &Detector) {
        self.sources.clear();
        self.tcp_ports.clear();
        self.udp_ports.clear();
        self.take_in_last_seconds(name, detector);
    }

    /// Takes in a window.
    pub(super) fn add(&mut self, window: &Window, judged: Judged, name: &Name) {
        self.total.merge(judged.count);
        self.loss.merge(window.loss);
        self.from_interface &= judged.from_interface;
        self.seen.add(&window.inbound);
        self.take_in(&window.inbound_ends, name);
    }

    /// Takes in whom the second before, and the one that is running, came from.
    fn take_in_last_seconds(&mut self, name: &Name, detector: &Detector) {
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

    /// It is over: how evenly its sources sent can be said, which is too much work to say each time.
    pub(super) fn settle(&mut self, ended_at: Timestamp) {
        self.curve.cut(ended_at);
        self.entropy_millibits = entropy_millibits(&self.sources);
    }

    /// What its packets were like; it began at `started_at`.
    pub(super) fn forensics(&self, started_at: Timestamp) -> Forensics {
        Forensics {
            curve: self.curve.points(started_at),
            curve_step_seconds: self.curve.step_seconds(),
            entropy_millibits: self.entropy_millibits,
            ..self.seen.forensics()
        }
    }

    pub(super) fn tcp_flags(&self) -> [u64; 8] {
        self.seen.tcp_flags()
    }
}

impl ProtocolShares {
    /// The shares that counts come to.
    pub(super) fn of(forensics: &Forensics) -> Self {
        Self {
            tcp: forensics.permille(forensics.tcp),
            udp: forensics.permille(forensics.udp),
            icmp: forensics.permille(forensics.icmp),
        }
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
