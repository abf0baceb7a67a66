//! Link-layer headers, tags and labels: from the first byte of a frame to its IP header.
//!
//! Every loop is bounded. What is not IP is a finding, not a failure; a frame that ends inside these headers, or has
//! more of them than we follow, is refused with the reason.

use super::super::{Direction, Undecodable};
use super::direction::LinkSays;
use super::{u16_at, u32_at};
use crate::capture::LinkType;

/// VLAN tags followed, however they are typed. Two are usual (QinQ); every further one is somebody's lab.
const MAX_TAGS: usize = 4;

/// MPLS labels followed. Networks stack up to five or six (transport, VPN, entropy label and its indicator).
const MAX_LABELS: usize = 8;

const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const ETHER_TYPE_MPLS: u16 = 0x8847;
const ETHER_TYPE_MPLS_UPSTREAM: u16 = 0x8848;
const ETHER_TYPE_PPPOE_SESSION: u16 = 0x8864;

/// Which IP header comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IpVersion {
    V4,
    V6,
}

/// What a link-layer frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried<'a> {
    /// Bytes that ought to begin with an IP header of this version.
    Ip(IpVersion, &'a [u8]),
    /// Something else.
    NotIp,
}

/// Opens a frame of this link type.
pub(super) fn open(
    link: LinkType,
    data: &[u8],
) -> Result<(LinkSays<'_>, Carried<'_>), Undecodable> {
    match link {
        LinkType::Ethernet => {
            let carried = ethernet(data)?;
            let (destination, rest) = data.split_first_chunk().ok_or(Undecodable::LinkCut)?;
            let source = rest.first_chunk().ok_or(Undecodable::LinkCut)?;
            Ok((
                LinkSays::Addresses {
                    destination,
                    source,
                },
                carried,
            ))
        }
        LinkType::RawIp => Ok((LinkSays::Nothing, raw_ip(data)?)),
        LinkType::BsdNull | LinkType::BsdLoop => Ok((LinkSays::Nothing, bsd(data)?)),
        LinkType::LinuxCooked => cooked(data),
        LinkType::LinuxCooked2 => cooked2(data),
        LinkType::Unsupported(_) => Err(Undecodable::LinkType),
    }
}

/// An Ethernet II or 802.3 frame.
pub(super) fn ethernet(data: &[u8]) -> Result<Carried<'_>, Undecodable> {
    const HEADER_BYTES: usize = 14;
    let rest = data.get(HEADER_BYTES..).ok_or(Undecodable::LinkCut)?;
    let ether_type = u16_at(data, 12).ok_or(Undecodable::LinkCut)?;
    behind_ether_type(ether_type, rest)
}

/// What stands behind an EtherType, through any tags. Values up to 1500 are lengths of 802.3 frames and carry no IP.
pub(super) fn behind_ether_type(ether_type: u16, bytes: &[u8]) -> Result<Carried<'_>, Undecodable> {
    let (mut ether_type, mut bytes) = (ether_type, bytes);
    let mut tags = 0;
    while matches!(ether_type, 0x8100 | 0x88a8 | 0x9100) {
        if tags == MAX_TAGS {
            return Err(Undecodable::LinkDepth);
        }
        ether_type = u16_at(bytes, 2).ok_or(Undecodable::LinkCut)?;
        bytes = bytes.get(4..).ok_or(Undecodable::LinkCut)?;
        tags += 1;
    }
    match ether_type {
        ETHER_TYPE_IPV4 => Ok(Carried::Ip(IpVersion::V4, bytes)),
        ETHER_TYPE_IPV6 => Ok(Carried::Ip(IpVersion::V6, bytes)),
        ETHER_TYPE_MPLS | ETHER_TYPE_MPLS_UPSTREAM => mpls(bytes),
        ETHER_TYPE_PPPOE_SESSION => pppoe(bytes),
        _ => Ok(Carried::NotIp),
    }
}

/// A label stack (RFC 3032). Nothing says what it carries but the first nibble behind it; pseudowires begin with 0.
fn mpls(bytes: &[u8]) -> Result<Carried<'_>, Undecodable> {
    const BOTTOM_OF_STACK: u32 = 0x0100;
    let mut bytes = bytes;
    for _ in 0..MAX_LABELS {
        let label = u32_at(bytes, 0).ok_or(Undecodable::LinkCut)?;
        bytes = bytes.get(4..).ok_or(Undecodable::LinkCut)?;
        if label & BOTTOM_OF_STACK != 0 {
            if bytes.is_empty() {
                return Err(Undecodable::LinkCut);
            }
            return Ok(by_first_nibble(bytes).unwrap_or(Carried::NotIp));
        }
    }
    Err(Undecodable::LinkDepth)
}

/// A PPPoE session frame (RFC 2516) and the PPP protocol inside, which may be one byte long where both sides agreed.
fn pppoe(bytes: &[u8]) -> Result<Carried<'_>, Undecodable> {
    const HEADER_BYTES: usize = 6;
    let ppp = bytes.get(HEADER_BYTES..).ok_or(Undecodable::LinkCut)?;
    let first = ppp.first().ok_or(Undecodable::LinkCut)?;
    let (protocol, rest) = if first & 0x01 != 0 {
        (Some(u16::from(*first)), ppp.get(1..))
    } else {
        (u16_at(ppp, 0), ppp.get(2..))
    };
    let rest = rest.ok_or(Undecodable::LinkCut)?;
    match protocol.ok_or(Undecodable::LinkCut)? {
        0x0021 => Ok(Carried::Ip(IpVersion::V4, rest)),
        0x0057 => Ok(Carried::Ip(IpVersion::V6, rest)),
        0x0281 | 0x0283 => mpls(rest),
        _ => Ok(Carried::NotIp),
    }
}

/// An IP header at once.
fn raw_ip(data: &[u8]) -> Result<Carried<'_>, Undecodable> {
    let reason = if data.is_empty() {
        Undecodable::IpCut
    } else {
        Undecodable::IpMalformed
    };
    by_first_nibble(data).ok_or(reason)
}

/// IP by the first nibble, where it is a version of IP.
fn by_first_nibble(bytes: &[u8]) -> Option<Carried<'_>> {
    match bytes.first()? >> 4 {
        4 => Some(Carried::Ip(IpVersion::V4, bytes)),
        6 => Some(Carried::Ip(IpVersion::V6, bytes)),
        _ => None,
    }
}

/// An address family in the byte order of whoever captured it. Families are small numbers, so that a large one is a
/// small one the wrong way round.
fn bsd(data: &[u8]) -> Result<Carried<'_>, Undecodable> {
    let family = u32_at(data, 0).ok_or(Undecodable::LinkCut)?;
    let rest = data.get(4..).ok_or(Undecodable::LinkCut)?;
    match if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    } {
        2 => Ok(Carried::Ip(IpVersion::V4, rest)),
        // Linux; NetBSD and OpenBSD; FreeBSD; Darwin.
        10 | 24 | 28 | 30 => Ok(Carried::Ip(IpVersion::V6, rest)),
        _ => Ok(Carried::NotIp),
    }
}

/// The header of Linux's `any` device.
fn cooked(data: &[u8]) -> Result<(LinkSays<'_>, Carried<'_>), Undecodable> {
    const HEADER_BYTES: usize = 16;
    let rest = data.get(HEADER_BYTES..).ok_or(Undecodable::LinkCut)?;
    let packet_type = u16_at(data, 0).ok_or(Undecodable::LinkCut)?;
    let hardware = u16_at(data, 2).ok_or(Undecodable::LinkCut)?;
    let protocol = u16_at(data, 14).ok_or(Undecodable::LinkCut)?;
    Ok((way(packet_type), cooked_payload(hardware, protocol, rest)?))
}

/// Its successor.
fn cooked2(data: &[u8]) -> Result<(LinkSays<'_>, Carried<'_>), Undecodable> {
    const HEADER_BYTES: usize = 20;
    let rest = data.get(HEADER_BYTES..).ok_or(Undecodable::LinkCut)?;
    let protocol = u16_at(data, 0).ok_or(Undecodable::LinkCut)?;
    let hardware = u16_at(data, 8).ok_or(Undecodable::LinkCut)?;
    let packet_type = data.get(10).ok_or(Undecodable::LinkCut)?;
    Ok((
        way(u16::from(*packet_type)),
        cooked_payload(hardware, protocol, rest)?,
    ))
}

/// The protocol field of a cooked header is an EtherType, except where the "hardware" is a netlink socket.
fn cooked_payload(hardware: u16, protocol: u16, rest: &[u8]) -> Result<Carried<'_>, Undecodable> {
    const NETLINK: u16 = 824;
    if hardware == NETLINK {
        Ok(Carried::NotIp)
    } else {
        behind_ether_type(protocol, rest)
    }
}

/// The kernel's packet types: to us, broadcast, multicast, to another host, from us.
fn way(packet_type: u16) -> LinkSays<'static> {
    match packet_type {
        0..=2 => LinkSays::Way(Direction::Inbound),
        3 => LinkSays::Way(Direction::Foreign),
        4 => LinkSays::Way(Direction::Outbound),
        _ => LinkSays::Nothing,
    }
}
