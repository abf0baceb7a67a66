//! From bytes to a sample.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Sample, Undecodable};
use crate::capture::Frame;

/// From where traffic is seen: what tells inbound from outbound.
#[derive(Clone, Debug)]
pub enum Vantage {
    /// On an interface of the protected host. A frame from its MAC is outbound; one to its MAC, a group or broadcast is
    /// inbound; where the link has no MAC addresses, the host's own addresses decide.
    Interface {
        /// The interface's MAC address, where it has one.
        mac: Option<[u8; 6]>,
        /// The host's own addresses.
        addresses: Vec<IpAddr>,
    },
    /// From a file, for the hosts in these networks. The destination is looked at first, so that a forged own source
    /// is inbound.
    Hosts(Vec<IpNet>),
}

/// What the classifier needs to know about where it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From where traffic is seen.
    pub vantage: Vantage,
    /// Peers to which this host has a tunnel interface: for their tunnel packets the inner header decides class and
    /// source, since the host itself takes them apart.
    pub tunnel_peers: Vec<IpAddr>,
}

/// Turns frames into samples.
#[derive(Clone, Debug)]
pub struct Classifier {
    #[expect(dead_code, reason = "placeholder")]
    settings: Settings,
}

impl Classifier {
    /// A classifier for one place.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Takes one frame apart.
    ///
    /// # Errors
    ///
    /// The reason, when not even an IP header can be read.
    pub fn classify(&self, _frame: &Frame<'_>) -> Result<Sample, Undecodable> {
        Err(Undecodable::LinkType)
    }
}
