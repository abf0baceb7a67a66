//! What a packet carries when it is a tunnel's.
//!
//! One layer at a time; the caller bounds the depth. A header that is not plausible at a tunnel's UDP port is just a
//! datagram to that port, not a broken tunnel.

use super::super::TunnelKind;
use super::ip::{self, Packet, protocol};
use super::link::{self, Carried, IpVersion};
use super::{bytes_u32, u16_at};

/// Layers followed. Overlays on top of a provider's tunnels make two or three.
pub(super) const MAX_DEPTH: usize = 4;

/// VXLAN's port (RFC 7348).
pub(super) const VXLAN_PORT: u16 = 4789;

/// GENEVE's port (RFC 8926).
pub(super) const GENEVE_PORT: u16 = 6081;

/// "Transparent Ethernet bridging": a whole Ethernet frame.
const ETHER_TYPE_BRIDGING: u16 = 0x6558;

/// What was found inside.
pub(super) enum Opened<'a> {
    /// No tunnel, or one that carries no IP.
    Nothing,
    /// A tunnel whose content cannot be taken apart.
    Unreadable,
    /// An IP packet, and how it was wrapped.
    Packet(TunnelKind, Packet<'a>),
}

/// Opens one layer.
pub(super) fn open<'a>(packet: &Packet<'a>) -> Opened<'a> {
    if packet.is_later_fragment() {
        return Opened::Nothing;
    }
    let body = packet.body;
    let (kind, carried) = match packet.protocol {
        protocol::IPV4 => (TunnelKind::IpInIp, Some(Carried::Ip(IpVersion::V4, body))),
        protocol::IPV6 => (TunnelKind::IpInIp, Some(Carried::Ip(IpVersion::V6, body))),
        protocol::GRE => match gre(body) {
            Some(Gre::Foreign) => return Opened::Nothing,
            Some(Gre::Header { ether_type, rest }) => (TunnelKind::Gre, behind(ether_type, rest)),
            None => (TunnelKind::Gre, None),
        },
        protocol::UDP => match overlay(body) {
            Some((kind, ether_type, rest)) => (kind, behind(ether_type, rest)),
            None => return Opened::Nothing,
        },
        _ => return Opened::Nothing,
    };
    let (version, bytes) = match carried {
        Some(Carried::Ip(version, bytes)) => (version, bytes),
        Some(Carried::NotIp) => return Opened::Nothing,
        None => return Opened::Unreadable,
    };
    let before = bytes_u32(body).saturating_sub(bytes_u32(bytes));
    match ip::read(version, bytes, packet.body_bytes.saturating_sub(before)) {
        Ok(inner) => Opened::Packet(kind, inner),
        Err(_) => Opened::Unreadable,
    }
}

/// What an EtherType inside a tunnel leads to; nothing where that cannot be read.
fn behind(ether_type: u16, rest: &[u8]) -> Option<Carried<'_>> {
    if ether_type == ETHER_TYPE_BRIDGING {
        link::ethernet(rest)
    } else {
        link::behind_ether_type(ether_type, rest)
    }
    .ok()
}

enum Gre<'a> {
    /// Another protocol under GRE's number: version 1 carries PPP for PPTP, usually encrypted.
    Foreign,
    /// Version 0.
    Header { ether_type: u16, rest: &'a [u8] },
}

/// A GRE header (RFC 2784) with its optional checksum, key and sequence number (RFC 2890).
fn gre(body: &[u8]) -> Option<Gre<'_>> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    let bits = u16_at(body, 0)?;
    if bits & 0x0007 == 1 {
        return Some(Gre::Foreign);
    }
    // Source routes were abolished, and no other version exists.
    if bits & 0x0007 != 0 || bits & ROUTING != 0 {
        return None;
    }
    let options = [CHECKSUM, KEY, SEQUENCE]
        .into_iter()
        .filter(|option| bits & option != 0)
        .count();
    Some(Gre::Header {
        ether_type: u16_at(body, 2)?,
        rest: body.get(4 + 4 * options..)?,
    })
}

/// A VXLAN or GENEVE header behind a UDP header to its port.
fn overlay(body: &[u8]) -> Option<(TunnelKind, u16, &[u8])> {
    const UDP_HEADER_BYTES: usize = 8;
    const HEADER_BYTES: usize = 8;
    let destination_port = u16_at(body, 2)?;
    let header: &[u8; HEADER_BYTES] = body.get(UDP_HEADER_BYTES..)?.first_chunk()?;
    let behind_header = UDP_HEADER_BYTES + HEADER_BYTES;
    match destination_port {
        // The flag that says the network identifier counts, and a reserved byte.
        VXLAN_PORT if header[0] & 0x08 != 0 && header[7] == 0 => Some((
            TunnelKind::Vxlan,
            ETHER_TYPE_BRIDGING,
            body.get(behind_header..)?,
        )),
        // Version 0, six reserved bits and a reserved byte, then options in words of four.
        GENEVE_PORT if header[0] & 0xc0 == 0 && header[1] & 0x3f == 0 && header[7] == 0 => {
            let options_bytes = usize::from(header[0] & 0x3f) * 4;
            let ether_type = u16::from_be_bytes([header[2], header[3]]);
            // Options that were cut leave nothing to look at; the bridge's own header is then missing too.
            Some((
                TunnelKind::Geneve,
                ether_type,
                body.get(behind_header + options_bytes..)
                    .unwrap_or_default(),
            ))
        }
        _ => None,
    }
}
