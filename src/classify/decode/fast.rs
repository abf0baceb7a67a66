//! The commonest frames, in one short walk.
//!
//! Ethernet with at most one VLAN tag, IPv4 without options or fragments or IPv6 without extension headers, and a
//! complete TCP, UDP or ICMP header that is no tunnel's. Anything else, and anything odd, is left to the whole way. The
//! two must agree wherever this one answers; a property test holds them to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Fragment, payload};
use super::direction::LinkSays;
use super::ip::{Packet, protocol};
use super::transport::{Transport, icmp_transport, tcp_class, udp_transport};
use super::{at_most, tunnel};
use crate::capture::{Frame, LinkType};

/// The packet in the frame, if it is one of the commonest kinds.
#[inline]
pub(super) fn walk<'a>(frame: &Frame<'a>) -> Option<(LinkSays<'a>, Packet<'a>, Transport)> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let (destination, rest) = frame.data.split_first_chunk::<6>()?;
    let (source, rest) = rest.split_first_chunk::<6>()?;
    let (ether_type, rest) = rest.split_first_chunk::<2>()?;
    let packet = match u16::from_be_bytes(*ether_type) {
        0x0800 => v4(rest)?,
        0x86dd => v6(rest)?,
        0x8100 => {
            let (tag, rest) = rest.split_first_chunk::<4>()?;
            match u16::from_be_bytes([tag[2], tag[3]]) {
                0x0800 => v4(rest)?,
                0x86dd => v6(rest)?,
                _ => return None,
            }
        }
        _ => return None,
    };
    let transport = match packet.protocol {
        protocol::TCP => tcp(&packet)?,
        protocol::UDP => udp(&packet)?,
        protocol::ICMP | protocol::ICMPV6 => icmp(&packet)?,
        _ => return None,
    };
    Some((
        LinkSays::Addresses {
            destination,
            source,
        },
        packet,
        transport,
    ))
}

#[inline]
fn v4(bytes: &[u8]) -> Option<Packet<'_>> {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    let (header, behind) = bytes.split_first_chunk::<20>()?;
    let fragmentation = u16::from_be_bytes([header[6], header[7]]);
    if header[0] != 0x45 || fragmentation & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return None;
    }
    let body_bytes = u32::from(u16::from_be_bytes([header[2], header[3]])).checked_sub(20)?;
    Some(Packet {
        source: IpAddr::V4(Ipv4Addr::new(
            header[12], header[13], header[14], header[15],
        )),
        destination: IpAddr::V4(Ipv4Addr::new(
            header[16], header[17], header[18], header[19],
        )),
        protocol: header[9],
        ttl: header[8],
        fragment: Fragment::Whole,
        body: at_most(behind, body_bytes),
        body_bytes,
        length_unknown: false,
        flaw: None,
    })
}

#[inline]
fn v6(bytes: &[u8]) -> Option<Packet<'_>> {
    let (header, rest) = bytes.split_first_chunk::<8>()?;
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, behind) = rest.split_first_chunk::<16>()?;
    let body_bytes = u32::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || body_bytes == 0 {
        return None;
    }
    Some(Packet {
        source: IpAddr::V6(Ipv6Addr::from(*source)),
        destination: IpAddr::V6(Ipv6Addr::from(*destination)),
        protocol: header[6],
        ttl: header[7],
        fragment: Fragment::Whole,
        body: at_most(behind, body_bytes),
        body_bytes,
        length_unknown: false,
        flaw: None,
    })
}

#[inline]
fn tcp(packet: &Packet<'_>) -> Option<Transport> {
    let header = packet.body.first_chunk::<20>()?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < 20 {
        return None;
    }
    let payload = packet.body.get(header_bytes..)?;
    let payload_bytes = packet
        .body_bytes
        .checked_sub(u32::from(header[12] >> 4) * 4)?;
    let flags = header[13];
    Some(Transport {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags,
        content: payload::of_tcp(payload),
        ..Transport::of(tcp_class(flags, payload_bytes), payload_bytes)
    })
}

#[inline]
fn udp(packet: &Packet<'_>) -> Option<Transport> {
    let (header, behind) = packet.body.split_first_chunk::<8>()?;
    let source_port = u16::from_be_bytes([header[0], header[1]]);
    let destination_port = u16::from_be_bytes([header[2], header[3]]);
    let length_bytes = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let possible = length_bytes <= packet.body_bytes;
    if !possible || matches!(destination_port, tunnel::VXLAN_PORT | tunnel::GENEVE_PORT) {
        return None;
    }
    let payload_bytes = length_bytes.checked_sub(8)?;
    Some(udp_transport(
        source_port,
        destination_port,
        at_most(behind, payload_bytes),
        payload_bytes,
        payload_bytes,
    ))
}

#[inline]
fn icmp(packet: &Packet<'_>) -> Option<Transport> {
    let header = packet.body.first_chunk::<8>()?;
    Some(icmp_transport(
        packet.protocol,
        header[0],
        header[1],
        packet.body_bytes.checked_sub(8)?,
    ))
}
