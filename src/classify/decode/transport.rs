//! Transport headers, and what kind of traffic they make a packet.
//!
//! [`read`] takes any packet; complete headers are read by etherparse's slices. The rules that turn header fields into
//! a class are the functions at the end, which the fast walk shares.
//!
//! Where a header was cut by the snap length, the class follows from what was captured, and for the rest the ordinary
//! case is assumed: TCP without its flags is [`TcpData`](TrafficClass::TcpData) when it is too long to be a header alone
//! and [`Ack`](TrafficClass::Ack) otherwise, UDP is judged by its ports, ICMP by its type. The flaw says so.

use etherparse::err::tcp::HeaderSliceError as TcpError;
use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::super::payload;
use super::super::{Content, Service, TrafficClass, Undecodable, tcp_flag};
use super::ip::{Packet, protocol};
use super::{bytes_u32, u16_at, u32_at};

/// The shortest TCP header, in bytes.
const TCP_HEADER_BYTES: u32 = 20;

/// The longest TCP header, in bytes: whatever exceeds it carries data.
const TCP_LONGEST_HEADER_BYTES: u32 = 60;

/// The UDP header, in bytes.
const UDP_HEADER_BYTES: u32 = 8;

/// What every ICMP and ICMPv6 message begins with, in bytes.
const ICMP_HEADER_BYTES: u32 = 8;

/// The SCTP common header, in bytes. DCCP's and UDP-Lite's are told apart by nobody here; ports are where SCTP's are.
const SCTP_HEADER_BYTES: u32 = 12;

/// What a packet's transport header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transport {
    pub(super) class: TrafficClass,
    pub(super) service: Option<Service>,
    pub(super) content: Content,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) payload_bytes: u32,
    pub(super) flaw: Option<Undecodable>,
}

impl Transport {
    /// A packet of this class of which nothing else is known.
    #[inline]
    pub(super) const fn of(class: TrafficClass, payload_bytes: u32) -> Self {
        Self {
            class,
            service: None,
            content: Content::Unrecognised,
            source_port: 0,
            destination_port: 0,
            flags: 0,
            sequence: 0,
            acknowledgement: 0,
            payload_bytes,
            flaw: None,
        }
    }

    const fn flawed(mut self, flaw: Undecodable) -> Self {
        self.flaw = Some(flaw);
        self
    }
}

/// Reads whatever stands behind the IP headers.
pub(super) fn read(packet: &Packet<'_>) -> Transport {
    if packet.is_later_fragment() || is_tiny(packet) {
        return Transport::of(TrafficClass::Fragment, packet.body_bytes);
    }
    match packet.protocol {
        protocol::TCP => tcp(packet),
        protocol::UDP => udp(packet),
        protocol::ICMP | protocol::ICMPV6 => icmp(packet),
        protocol::SCTP | protocol::DCCP | protocol::UDP_LITE => with_ports(packet),
        protocol::GRE => Transport::of(TrafficClass::Gre, packet.body_bytes),
        protocol::ESP => Transport::of(TrafficClass::Esp, packet.body_bytes),
        _ => Transport::of(TrafficClass::OtherIp, packet.body_bytes),
    }
}

/// Whether a first fragment is too short for its transport header, which nothing but an attack makes it.
fn is_tiny(packet: &Packet<'_>) -> bool {
    if !packet.is_first_fragment() {
        return false;
    }
    let header_bytes = match packet.protocol {
        protocol::TCP => {
            let told = packet
                .body
                .get(12)
                .map_or(0, |offset| u32::from(offset >> 4) * 4);
            told.max(TCP_HEADER_BYTES)
        }
        protocol::UDP => UDP_HEADER_BYTES,
        protocol::ICMP | protocol::ICMPV6 => ICMP_HEADER_BYTES,
        protocol::SCTP => SCTP_HEADER_BYTES,
        // Fields that every GRE header has; security index and sequence number.
        protocol::GRE => 4,
        protocol::ESP => 8,
        _ => 0,
    };
    // Extension headers that reach beyond the first fragment hide the transport header as well.
    packet.body_bytes < header_bytes || packet.flaw == Some(Undecodable::IpMalformed)
}

fn tcp(packet: &Packet<'_>) -> Transport {
    match TcpHeaderSlice::from_slice(packet.body) {
        Ok(header) => {
            let header_bytes = header.slice().len();
            let payload = packet.body.get(header_bytes..).unwrap_or_default();
            let payload_bytes = packet.body_bytes.saturating_sub(bytes_u32(header.slice()));
            let flags = header.slice().get(13).copied().unwrap_or_default();
            Transport {
                source_port: header.source_port(),
                destination_port: header.destination_port(),
                flags,
                sequence: header.sequence_number(),
                acknowledgement: header.acknowledgment_number(),
                content: payload::of_tcp(payload),
                ..Transport::of(tcp_class(flags, payload_bytes), payload_bytes)
            }
        }
        Err(TcpError::Content(_)) => tcp_in_part(
            packet,
            TrafficClass::TcpOdd,
            Undecodable::TransportMalformed,
        ),
        Err(TcpError::Len(error)) => {
            // The header is longer than the packet itself, or only than what was captured of it.
            let needed_bytes = u32::try_from(error.required_len).unwrap_or(u32::MAX);
            if needed_bytes > packet.body_bytes {
                return tcp_in_part(
                    packet,
                    TrafficClass::TcpOdd,
                    Undecodable::TransportMalformed,
                );
            }
            let class = match (packet.body.get(12), packet.body.get(13)) {
                (Some(offset), _) if *offset < 0x50 => TrafficClass::TcpOdd,
                (Some(offset), Some(flags)) => tcp_class(
                    *flags,
                    packet.body_bytes.saturating_sub(u32::from(offset >> 4) * 4),
                ),
                _ if packet.body_bytes > TCP_LONGEST_HEADER_BYTES => TrafficClass::TcpData,
                _ => TrafficClass::Ack,
            };
            tcp_in_part(packet, class, Undecodable::TransportCut)
        }
    }
}

/// As much of a TCP header as there is.
fn tcp_in_part(packet: &Packet<'_>, class: TrafficClass, flaw: Undecodable) -> Transport {
    let header_bytes = packet
        .body
        .get(12)
        .map_or(0, |offset| u32::from(offset >> 4) * 4)
        .max(TCP_HEADER_BYTES);
    Transport {
        source_port: u16_at(packet.body, 0).unwrap_or_default(),
        destination_port: u16_at(packet.body, 2).unwrap_or_default(),
        sequence: u32_at(packet.body, 4).unwrap_or_default(),
        acknowledgement: u32_at(packet.body, 8).unwrap_or_default(),
        flags: packet.body.get(13).copied().unwrap_or_default(),
        ..Transport::of(class, packet.body_bytes.saturating_sub(header_bytes)).flawed(flaw)
    }
}

fn udp(packet: &Packet<'_>) -> Transport {
    let room_bytes = packet.body_bytes.saturating_sub(UDP_HEADER_BYTES);
    let Ok(header) = UdpHeaderSlice::from_slice(packet.body) else {
        let (source, destination) = (u16_at(packet.body, 0), u16_at(packet.body, 2));
        let flaw = if packet.body_bytes < UDP_HEADER_BYTES {
            Undecodable::TransportMalformed
        } else {
            Undecodable::TransportCut
        };
        return udp_transport(
            source.unwrap_or_default(),
            destination.unwrap_or_default(),
            &[],
            room_bytes,
            room_bytes,
        )
        .flawed(flaw);
    };
    let told_bytes = u32::from(header.length());
    // (Payload of the whole datagram, payload in this packet, whether the length is possible.) A first fragment's length
    // is the whole datagram's. Zero is what merged frames and jumbograms have.
    let (whole_bytes, payload_bytes, possible) = match told_bytes.checked_sub(UDP_HEADER_BYTES) {
        Some(payload_bytes) if payload_bytes <= room_bytes => (payload_bytes, payload_bytes, true),
        Some(whole_bytes) if packet.is_first_fragment() => (whole_bytes, room_bytes, true),
        _ => (
            room_bytes,
            room_bytes,
            told_bytes == 0 && packet.length_unknown,
        ),
    };
    let payload = super::at_most(
        packet.body.get(header.slice().len()..).unwrap_or_default(),
        payload_bytes,
    );
    let transport = udp_transport(
        header.source_port(),
        header.destination_port(),
        payload,
        whole_bytes,
        payload_bytes,
    );
    if possible {
        transport
    } else {
        transport.flawed(Undecodable::TransportMalformed)
    }
}

fn icmp(packet: &Packet<'_>) -> Transport {
    let payload_bytes = packet.body_bytes.saturating_sub(ICMP_HEADER_BYTES);
    let Some(kind) = packet.body.first().copied() else {
        let flaw = if packet.body_bytes == 0 {
            Undecodable::TransportMalformed
        } else {
            Undecodable::TransportCut
        };
        return Transport::of(TrafficClass::IcmpOther, payload_bytes).flawed(flaw);
    };
    let code = packet.body.get(1).copied().unwrap_or_default();
    let transport = icmp_transport(packet.protocol, kind, code, payload_bytes);
    if packet.body_bytes < ICMP_HEADER_BYTES {
        transport.flawed(Undecodable::TransportMalformed)
    } else if bytes_u32(packet.body) < ICMP_HEADER_BYTES {
        transport.flawed(Undecodable::TransportCut)
    } else {
        transport
    }
}

/// Protocols of which we know the ports and no more.
fn with_ports(packet: &Packet<'_>) -> Transport {
    let header_bytes = if packet.protocol == protocol::UDP_LITE {
        UDP_HEADER_BYTES
    } else {
        SCTP_HEADER_BYTES
    };
    let transport = Transport {
        source_port: u16_at(packet.body, 0).unwrap_or_default(),
        destination_port: u16_at(packet.body, 2).unwrap_or_default(),
        ..Transport::of(
            TrafficClass::OtherIp,
            packet.body_bytes.saturating_sub(header_bytes),
        )
    };
    if packet.body_bytes < header_bytes {
        transport.flawed(Undecodable::TransportMalformed)
    } else if bytes_u32(packet.body) < header_bytes {
        transport.flawed(Undecodable::TransportCut)
    } else {
        transport
    }
}

/// The class of a TCP segment, first match in the order of the classes.
#[inline]
pub(super) const fn tcp_class(flags: u8, payload_bytes: u32) -> TrafficClass {
    use tcp_flag::{ACK, FIN, PSH, RST, SYN, URG};
    // The two congestion bits go with any combination.
    let flags = flags & (FIN | SYN | RST | PSH | ACK | URG);
    let xmas = flags & (FIN | PSH | URG | ACK) == FIN | PSH | URG;
    if flags == 0 || xmas || flags & (SYN | FIN) == SYN | FIN {
        TrafficClass::TcpOdd
    } else if flags & (SYN | ACK) == SYN {
        TrafficClass::Syn
    } else if flags & SYN != 0 {
        TrafficClass::SynAck
    } else if flags & RST != 0 {
        TrafficClass::Rst
    } else if payload_bytes > 0 {
        TrafficClass::TcpData
    } else if flags & FIN != 0 {
        TrafficClass::Fin
    } else {
        TrafficClass::Ack
    }
}

/// A UDP datagram by its ports and what was captured of its payload. `whole_bytes` is the payload of the datagram,
/// `payload_bytes` that of this packet; they differ in a first fragment. Not inlined: the short walk would hold it twice.
#[inline(never)]
pub(super) fn udp_transport(
    source_port: u16,
    destination_port: u16,
    payload: &[u8],
    whole_bytes: u32,
    payload_bytes: u32,
) -> Transport {
    let (from, to) = (
        Service::on_port(source_port),
        Service::on_port(destination_port),
    );
    let content = payload::of_udp(from, to, payload, whole_bytes);
    let service = from.filter(|service| is_reflected(*service, to, content));
    let class = if service.is_some() {
        TrafficClass::UdpReflected
    } else if content == Content::Request(Service::Dns)
        || (to == Some(Service::Dns) && from != to && payload.is_empty() && whole_bytes > 0)
    {
        // The second: a query as far as anyone can tell, its payload not captured.
        TrafficClass::DnsQuery
    } else if content == Content::Quic
        || (content == Content::Unrecognised
            && (source_port == QUIC_PORT || destination_port == QUIC_PORT)
            && payload::is_quic_short_header(payload))
    {
        TrafficClass::Quic
    } else {
        TrafficClass::UdpOther
    };
    Transport {
        service,
        content,
        source_port,
        destination_port,
        ..Transport::of(class, payload_bytes)
    }
}

/// Where QUIC's short headers are looked for; they have no signature of their own.
const QUIC_PORT: u16 = 443;

/// Whether a datagram from a service's port is its answer: by its payload, or by the port alone where that is enough
/// and nothing contradicts it.
#[inline]
fn is_reflected(service: Service, to: Option<Service>, content: Content) -> bool {
    match content {
        Content::Answer(answering) => answering == service,
        Content::Unrecognised => {
            service.port_alone() && !(service.symmetric() && to == Some(service))
        }
        _ => false,
    }
}

/// An ICMP or ICMPv6 message by its type.
#[inline]
pub(super) const fn icmp_transport(
    number: u8,
    kind: u8,
    code: u8,
    payload_bytes: u32,
) -> Transport {
    let class = match (number, kind) {
        (protocol::ICMP, 8) | (protocol::ICMPV6, 128) => TrafficClass::Echo,
        (protocol::ICMP, 0) | (protocol::ICMPV6, 129) => TrafficClass::EchoReply,
        // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2); ICMPv6
        // keeps the lower half of its types for errors (RFC 4443, section 2.1).
        (protocol::ICMP, 3 | 4 | 5 | 11 | 12) | (protocol::ICMPV6, 0..=127) => {
            TrafficClass::IcmpError
        }
        _ => TrafficClass::IcmpOther,
    };
    let mut transport = Transport::of(class, payload_bytes);
    transport.destination_port = u16::from_be_bytes([kind, code]);
    transport
}
