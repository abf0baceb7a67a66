//! Which way a packet goes.
//!
//! On an interface the link layer knows best: it says who sent a frame whatever addresses are forged inside. In a file,
//! and where the link has no addresses, the IP addresses decide, the destination first.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::super::Direction;
use super::Vantage;

/// What the link layer says about a frame's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkSays<'a> {
    /// Nothing.
    Nothing,
    /// Who sent it to whom: destination and source MAC address, as they stand in an Ethernet header.
    Addresses {
        destination: &'a [u8; 6],
        source: &'a [u8; 6],
    },
    /// What the kernel noted in a cooked header.
    Way(Direction),
}

/// A [`Vantage`], prepared for one look-up a packet.
#[derive(Clone, Debug)]
pub(super) struct Compass {
    /// Whether the link layer may be asked, and which MAC address is ours.
    link: Option<Option<[u8; 6]>>,
    ours: Networks,
}

impl Compass {
    pub(super) fn new(vantage: Vantage) -> Self {
        match vantage {
            Vantage::Interface { mac, addresses } => Self {
                link: Some(mac),
                ours: Networks::new(addresses.into_iter().map(IpNet::from)),
            },
            Vantage::Hosts(networks) => Self {
                link: None,
                ours: Networks::new(networks),
            },
        }
    }

    /// The way of a frame; `addresses` are its source and destination, where it has an IP header.
    #[inline(always)]
    pub(super) fn direction(
        &self,
        link_says: LinkSays<'_>,
        addresses: Option<(IpAddr, IpAddr)>,
    ) -> Direction {
        match (self.link, link_says) {
            (
                Some(Some(ours)),
                LinkSays::Addresses {
                    destination,
                    source,
                },
            ) => {
                // Forwarded frames come to our MAC address too and are inbound once, when they arrive.
                if *source == ours {
                    Direction::Outbound
                } else if *destination == ours || is_group(destination) {
                    Direction::Inbound
                } else {
                    Direction::Foreign
                }
            }
            (Some(_), LinkSays::Way(direction)) => direction,
            _ => match addresses {
                Some((source, destination)) => self.by_addresses(source, destination),
                None => Direction::Foreign,
            },
        }
    }

    #[inline(always)]
    fn by_addresses(&self, source: IpAddr, destination: IpAddr) -> Direction {
        if self.ours.contain(destination) {
            Direction::Inbound
        } else if self.ours.contain(source) {
            Direction::Outbound
        } else if destination.is_multicast() || destination == IpAddr::V4(Ipv4Addr::BROADCAST) {
            Direction::Inbound
        } else {
            Direction::Foreign
        }
    }
}

/// Whether a MAC address is a group's or the broadcast address.
#[inline]
const fn is_group(mac: &[u8; 6]) -> bool {
    mac[0] & 0x01 != 0
}

/// Networks as pairs of base and mask, so that asking is one operation each. Hosts have a handful of addresses.
#[derive(Clone, Debug)]
struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut prepared = Self {
            v4: Vec::new(),
            v6: Vec::new(),
        };
        for network in networks {
            match network {
                IpNet::V4(network) => prepared
                    .v4
                    .push((network.network().to_bits(), network.netmask().to_bits())),
                IpNet::V6(network) => prepared
                    .v6
                    .push((network.network().to_bits(), network.netmask().to_bits())),
            }
        }
        prepared
    }

    #[inline(always)]
    fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self
                .v4
                .iter()
                .any(|(base, mask)| address.to_bits() & mask == *base),
            IpAddr::V6(address) => self
                .v6
                .iter()
                .any(|(base, mask)| address.to_bits() & mask == *base),
        }
    }
}
