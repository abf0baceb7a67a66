//! Signs of life: what the detector and the housekeeping thread leave for each other and for whoever tells how the agent
//! is.
//!
//! Atomics and one swapped value; nobody waits for anybody.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::links::{LinkVitals, Links};
use crate::engine::{Outcome, Vitals};
use crate::incident::Incident;
use crate::words::{Bits, Thousands};

/// No figure: the kernel did not tell.
const UNKNOWN: u64 = u64::MAX;

/// What one thread leaves for the others.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Windows the detector has judged.
    beats: AtomicU64,
    connections: AtomicU64,
    facts: ArcSwap<Facts>,
}

/// What the detector knows, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Inbound packets of the last second, once there was one.
    pps: Option<u64>,
    limit_pps: Option<u64>,
    limit_bps: Option<u64>,
    /// The open incident: its name, severity and peak.
    incident: Option<String>,
    /// What the engine knows about itself, from the start on.
    vitals: Option<Vitals>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            beats: AtomicU64::new(0),
            connections: AtomicU64::new(UNKNOWN),
            facts: ArcSwap::from_pointee(Facts::default()),
        }
    }

    /// The detector has judged a window.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Established TCP sockets when they were counted last; `None` when the kernel does not tell.
    pub(super) fn connections(&self) -> Option<u32> {
        u32::try_from(self.connections.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn set_connections(&self, connections: Option<u32>) {
        let word = connections.map_or(UNKNOWN, u64::from);
        self.connections.store(word, Ordering::Relaxed);
    }

    /// Notes what an outcome says. `open` is the incident that is open after it.
    pub(super) fn note(&self, outcome: &Outcome, open: Option<&Incident>, vitals: Vitals) {
        let limits = &vitals.limits;
        let before = self.facts.load();
        let pps = outcome.second.as_ref().map(|second| second.pps);
        let limit = |limit: Option<crate::detect::limits::Limit>| limit.map(|limit| limit.value);
        self.facts.store(Arc::new(Facts {
            pps: pps.or(before.pps),
            limit_pps: limit(limits.pps.limit),
            limit_bps: limit(limits.bps.limit),
            incident: open.map(in_short),
            vitals: Some(vitals),
        }));
    }

    pub(super) fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }
}

fn in_short(incident: &Incident) -> String {
    format!(
        "{} {}, peak {} packets/s",
        incident.severity.name(),
        incident.subtype,
        Thousands(incident.peak_pps)
    )
}

/// The status line for the service manager.
pub(super) struct Status<'a> {
    pub(super) facts: &'a Facts,
    pub(super) links: &'a [LinkVitals],
}

impl Status<'_> {
    /// Whether it says something else than `other`, apart from the packets, which change each second.
    pub(super) fn is_news(facts: &Facts, other: &Facts) -> bool {
        facts.incident.is_some() != other.incident.is_some()
            || facts.limit_pps != other.limit_pps
            || facts.limit_bps != other.limit_bps
            || facts.pps.is_some() != other.pps.is_some()
    }
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost: Vec<&str> = names(self.links, false);
        let watched: Vec<&str> = names(self.links, true);
        if watched.is_empty() {
            write!(f, "degraded: NOT watching {}", lost.join(", "))?;
        } else {
            if !lost.is_empty() {
                write!(f, "degraded: NOT watching {}; ", lost.join(", "))?;
            }
            write!(f, "watching {}", watched.join(", "))?;
        }
        match &self.facts.incident {
            Some(incident) => write!(f, "; attack: {incident}")?,
            None => f.write_str("; no attack")?,
        }
        if let Some(pps) = self.facts.pps {
            write!(f, "; {} packets/s", Thousands(pps))?;
        }
        match (self.facts.limit_pps, self.facts.limit_bps) {
            (Some(pps), Some(bps)) => {
                write!(f, ", limits {} and {}/s", Thousands(pps), Bits(bps))
            }
            (Some(pps), None) => write!(f, ", limit {}", Thousands(pps)),
            (None, Some(bps)) => write!(f, ", limit {}/s", Bits(bps)),
            (None, None) => f.write_str(", no limit yet"),
        }
    }
}

fn names(links: &[LinkVitals], watched: bool) -> Vec<&str> {
    links
        .iter()
        .filter(|link| link.watched == watched)
        .map(|link| link.name.as_str())
        .collect()
}

/// How the agent is, for those outside of its threads; a cheap handle.
#[derive(Clone, Debug)]
pub struct Gauges {
    pub(super) pulse: Arc<Pulse>,
    pub(super) links: Arc<Links>,
}

impl Gauges {
    /// Established TCP sockets of this host, IPv4 and IPv6; `None` when the kernel does not tell.
    #[must_use]
    pub fn connections(&self) -> Option<u32> {
        self.pulse.connections()
    }

    /// How the interfaces are, in the order they were named in.
    #[must_use]
    pub fn links(&self) -> Vec<LinkVitals> {
        self.links.vitals()
    }

    /// What the engine knows about itself, as of the last second; before the first, as of the start.
    #[must_use]
    pub fn vitals(&self) -> Option<Vitals> {
        self.pulse.facts().vitals.clone()
    }

    /// Windows that were judged since the start; stands still when the detector does.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.pulse.beats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, watched: bool) -> LinkVitals {
        LinkVitals {
            name: name.to_owned(),
            watched,
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }

    fn line(facts: &Facts, links: &[LinkVitals]) -> String {
        Status { facts, links }.to_string()
    }

    #[test]
    fn the_status_is_one_honest_line() {
        let quiet = Facts {
            pps: Some(1_234),
            limit_pps: Some(50_000),
            ..Facts::default()
        };
        let attack = Facts {
            pps: Some(812_000),
            limit_pps: Some(50_000),
            limit_bps: Some(100_000_000),
            incident: Some("critical dns_amplification, peak 900,000 packets/s".to_owned()),
            ..Facts::default()
        };
        let both = [link("eth0", true), link("eth1", true)];
        let one = [link("eth0", false), link("eth1", true)];
        let none = [link("eth0", false), link("eth1", false)];
        assert_eq!(
            line(&Facts::default(), &both),
            "watching eth0, eth1; no attack, no limit yet"
        );
        assert_eq!(
            line(&quiet, &both),
            "watching eth0, eth1; no attack; 1,234 packets/s, limit 50,000"
        );
        assert_eq!(
            line(&attack, &one),
            "degraded: NOT watching eth0; watching eth1; attack: critical dns_amplification, \
             peak 900,000 packets/s; 812,000 packets/s, limits 50,000 and 100.0 Mbit/s"
        );
        assert_eq!(
            line(&quiet, &none),
            "degraded: NOT watching eth0, eth1; no attack; 1,234 packets/s, limit 50,000"
        );
    }

    #[test]
    fn packets_alone_are_no_news() {
        let one = Facts {
            pps: Some(1),
            ..Facts::default()
        };
        let two = Facts {
            pps: Some(2),
            ..Facts::default()
        };
        let attack = Facts {
            incident: Some(String::new()),
            ..two.clone()
        };
        assert!(!Status::is_news(&one, &two));
        assert!(Status::is_news(&two, &attack));
        assert!(Status::is_news(&attack, &two));
    }

    #[test]
    fn connections_are_unknown_until_they_are_counted() {
        let pulse = Pulse::new();
        assert_eq!(pulse.connections(), None);
        pulse.set_connections(Some(7));
        assert_eq!(pulse.connections(), Some(7));
        pulse.set_connections(None);
        assert_eq!(pulse.connections(), None);
    }
}
