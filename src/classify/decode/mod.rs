//! From bytes to a sample.
//!
//! A frame is peeled from the outside in: [`link`] finds the IP header, [`ip`] reads it and its extensions,
//! [`transport`] says what kind of traffic it is, [`tunnel`] looks into what it carries, [`direction`] says which way
//! it goes. The commonest frames take a [`fast`] walk of their own that must come to the same result; everything else
//! goes through etherparse's slices. Nothing here panics, allocates, or remembers. Runs on the capture threads.

mod direction;
mod fast;
mod ip;
mod link;
mod transport;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Content, Fragment, Inner, Sample, TrafficClass, Undecodable};
use crate::capture::Frame;
use direction::{Compass, LinkSays};
use ip::Packet;
use link::Carried;
use transport::Transport;

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
    compass: Compass,
    tunnel_peers: Vec<IpAddr>,
}

impl Classifier {
    /// A classifier for one place.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            compass: Compass::new(settings.vantage),
            tunnel_peers: settings.tunnel_peers,
        }
    }

    /// Takes one frame apart.
    ///
    /// # Errors
    ///
    /// The reason, when not even an IP header can be read.
    #[inline]
    pub fn classify(&self, frame: &Frame<'_>) -> Result<Sample, Undecodable> {
        fast::classify(self, frame, || self.classify_any(frame))
    }

    /// The whole way, for frames that the fast walk leaves alone.
    #[inline(never)]
    fn classify_any(&self, frame: &Frame<'_>) -> Result<Sample, Undecodable> {
        let (link_says, carried) = link::open(frame.link, frame.data)?;
        let (version, bytes) = match carried {
            Carried::Ip(version, bytes) => (version, bytes),
            Carried::NotIp => return Ok(self.not_ip(frame, link_says)),
        };
        let outer = ip::read(version, bytes, wire_bytes_left(frame, bytes))?;
        let transport = transport::read(&outer);
        let mut sample = self.sample(frame, link_says, outer, transport);
        self.look_inside(&mut sample, outer, &transport);
        Ok(sample)
    }

    /// The sample of a packet, for the time being without anything it carries.
    #[inline(always)]
    fn sample(
        &self,
        frame: &Frame<'_>,
        link_says: LinkSays<'_>,
        packet: Packet<'_>,
        transport: Transport,
    ) -> Sample {
        Sample {
            at: frame.at,
            direction: self
                .compass
                .direction(link_says, Some((packet.source, packet.destination))),
            class: transport.class,
            service: transport.service,
            content: transport.content,
            source: packet.source,
            destination: packet.destination,
            source_port: transport.source_port,
            destination_port: transport.destination_port,
            protocol: packet.protocol,
            ttl: packet.ttl,
            flags: transport.flags,
            sequence: transport.sequence,
            acknowledgement: transport.acknowledgement,
            fragment: packet.fragment,
            wire_bytes: frame.wire_bytes,
            payload_bytes: transport.payload_bytes,
            inner: None,
            flaw: packet.flaw.or(transport.flaw),
        }
    }

    /// A frame without an IP header: counted, with no addresses to count it by.
    fn not_ip(&self, frame: &Frame<'_>, link_says: LinkSays<'_>) -> Sample {
        Sample {
            at: frame.at,
            direction: self.compass.direction(link_says, None),
            class: TrafficClass::NotIp,
            service: None,
            content: Content::Unrecognised,
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            source_port: 0,
            destination_port: 0,
            protocol: 0,
            ttl: 0,
            flags: 0,
            sequence: 0,
            acknowledgement: 0,
            fragment: Fragment::Whole,
            wire_bytes: frame.wire_bytes,
            payload_bytes: 0,
            inner: None,
            flaw: None,
        }
    }

    /// Adds the innermost packet of a tunnel. What a tunnel peer sent is then told as what it carries, peer by peer
    /// inwards, since this host takes it apart itself; direction and length remain the frame's.
    fn look_inside(&self, sample: &mut Sample, outer: Packet<'_>, outer_transport: &Transport) {
        let mut innermost = outer;
        let mut ports = (
            outer_transport.source_port,
            outer_transport.destination_port,
        );
        let mut kind = None;
        let mut peer_decides = true;
        for depth in 0.. {
            let (wrapping, packet) = match tunnel::open(&innermost) {
                tunnel::Opened::Nothing => break,
                tunnel::Opened::Unreadable => {
                    sample.flaw = sample.flaw.or(Some(Undecodable::TunnelInner));
                    break;
                }
                tunnel::Opened::Packet(..) if depth == tunnel::MAX_DEPTH => {
                    sample.flaw = sample.flaw.or(Some(Undecodable::TunnelDepth));
                    break;
                }
                tunnel::Opened::Packet(wrapping, packet) => (wrapping, packet),
            };
            let transport = transport::read(&packet);
            peer_decides = peer_decides && self.tunnel_peers.contains(&innermost.source);
            if peer_decides {
                sample.tell_instead(&packet, &transport);
            } else if packet.flaw.or(transport.flaw).is_some() {
                sample.flaw = sample.flaw.or(Some(Undecodable::TunnelInner));
            }
            kind = kind.or(Some(wrapping));
            ports = (transport.source_port, transport.destination_port);
            innermost = packet;
        }
        sample.inner = kind.map(|kind| Inner {
            kind,
            source: innermost.source,
            destination: innermost.destination,
            protocol: innermost.protocol,
            source_port: ports.0,
            destination_port: ports.1,
        });
    }
}

impl Sample {
    /// Tells of this packet instead of the one that carried it.
    fn tell_instead(&mut self, packet: &Packet<'_>, transport: &Transport) {
        self.class = transport.class;
        self.service = transport.service;
        self.content = transport.content;
        self.source = packet.source;
        self.destination = packet.destination;
        self.source_port = transport.source_port;
        self.destination_port = transport.destination_port;
        self.protocol = packet.protocol;
        self.ttl = packet.ttl;
        self.flags = transport.flags;
        self.sequence = transport.sequence;
        self.acknowledgement = transport.acknowledgement;
        self.fragment = packet.fragment;
        self.payload_bytes = transport.payload_bytes;
        self.flaw = packet.flaw.or(transport.flaw);
    }
}

/// How many bytes the frame had on the wire from the IP header on.
fn wire_bytes_left(frame: &Frame<'_>, ip_bytes: &[u8]) -> u32 {
    let before = bytes_u32(frame.data).saturating_sub(bytes_u32(ip_bytes));
    frame
        .wire_bytes
        .saturating_sub(before)
        .max(bytes_u32(ip_bytes))
}

/// The length of a slice as the 32 bits that lengths have here; no capture holds longer packets.
#[inline]
fn bytes_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The first `length` bytes, or all of them.
#[inline]
fn at_most(bytes: &[u8], length: u32) -> &[u8] {
    usize::try_from(length)
        .ok()
        .and_then(|length| bytes.get(..length))
        .unwrap_or(bytes)
}

/// The 16-bit number in network byte order at `at`.
#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

/// The 32-bit number in network byte order at `at`.
#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}
