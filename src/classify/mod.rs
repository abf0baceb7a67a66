//! What one packet is.
//!
//! A frame goes in, a [`Sample`] comes out: a small value without payload that says who sent what kind of packet to
//! whom. Pure and stateless: the same bytes give the same sample, whatever came before. Runs on the capture threads,
//! once per packet, and allocates nothing.

mod decode;
mod payload;
mod service;

use std::net::IpAddr;

use crate::clock::Timestamp;

pub use decode::{Classifier, Settings, Vantage};
pub use service::Service;

/// Which way a packet goes, seen from the protected host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To this host, to a group it belongs to, or through it. Inbound is judged.
    Inbound,
    /// Sent by this host.
    Outbound,
    /// Neither: somebody else's packet in a capture file, or a frame for another machine's address.
    Foreign,
}

/// The kind of traffic a packet belongs to; each packet belongs to exactly one. The order is the order in which the
/// kinds are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TrafficClass {
    /// A fragment after the first, or a first one too short to hold its transport header.
    Fragment,
    /// TCP with flags no stack sends (none, SYN+FIN, FIN+PSH+URG) or with an impossible header.
    TcpOdd,
    /// TCP SYN without ACK.
    Syn,
    /// TCP SYN with ACK.
    SynAck,
    /// TCP RST.
    Rst,
    /// TCP with payload.
    TcpData,
    /// TCP FIN without payload.
    Fin,
    /// TCP ACK without payload.
    Ack,
    /// UDP that answers from a service known to be abused as a reflector; [`Sample::service`] says which.
    UdpReflected,
    /// A DNS query.
    DnsQuery,
    /// QUIC.
    Quic,
    /// Any other UDP.
    UdpOther,
    /// ICMP or ICMPv6 echo request.
    Echo,
    /// ICMP or ICMPv6 echo reply.
    EchoReply,
    /// ICMP or ICMPv6 error; quotes a packet but is never counted as the quoted protocol.
    IcmpError,
    /// Any other ICMP or ICMPv6.
    IcmpOther,
    /// GRE.
    Gre,
    /// ESP.
    Esp,
    /// Any other protocol on top of IP.
    OtherIp,
    /// Anything that is not IP: ARP, LLDP, spanning tree.
    NotIp,
}

impl TrafficClass {
    /// How many classes there are.
    pub const COUNT: usize = 20;

    /// Every class, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Fragment,
        Self::TcpOdd,
        Self::Syn,
        Self::SynAck,
        Self::Rst,
        Self::TcpData,
        Self::Fin,
        Self::Ack,
        Self::UdpReflected,
        Self::DnsQuery,
        Self::Quic,
        Self::UdpOther,
        Self::Echo,
        Self::EchoReply,
        Self::IcmpError,
        Self::IcmpOther,
        Self::Gre,
        Self::Esp,
        Self::OtherIp,
        Self::NotIp,
    ];

    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fragment => "fragment",
            Self::TcpOdd => "tcp_odd",
            Self::Syn => "syn",
            Self::SynAck => "syn_ack",
            Self::Rst => "rst",
            Self::TcpData => "tcp_data",
            Self::Fin => "fin",
            Self::Ack => "ack",
            Self::UdpReflected => "udp_reflected",
            Self::DnsQuery => "dns_query",
            Self::Quic => "quic",
            Self::UdpOther => "udp_other",
            Self::Echo => "echo",
            Self::EchoReply => "echo_reply",
            Self::IcmpError => "icmp_error",
            Self::IcmpOther => "icmp_other",
            Self::Gre => "gre",
            Self::Esp => "esp",
            Self::OtherIp => "other_ip",
            Self::NotIp => "not_ip",
        }
    }

    /// Whether the class is one of TCP's.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::TcpOdd
                | Self::Syn
                | Self::SynAck
                | Self::Rst
                | Self::TcpData
                | Self::Fin
                | Self::Ack
        )
    }

    /// Whether the class is one of UDP's.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        matches!(
            self,
            Self::UdpReflected | Self::DnsQuery | Self::Quic | Self::UdpOther
        )
    }
}

/// TCP flag bits as they stand in the header's fourteenth byte.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// A packet's place among the fragments of its datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// Not a fragment.
    #[default]
    Whole,
    /// The first of several, by its IP identification.
    First {
        /// The datagram's identification.
        id: u32,
    },
    /// One after the first.
    Later {
        /// The datagram's identification.
        id: u32,
        /// Whether the datagram would be longer than 65,535 bytes put together (the "ping of death").
        oversize: bool,
    },
}

/// What the first payload bytes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Nothing we know, no payload, or not captured.
    #[default]
    Unrecognised,
    /// A request to this service (for NTP a client's or a symmetric peer's packet, for DNS a query).
    Request(Service),
    /// An answer of this service.
    Answer(Service),
    /// The first line of an HTTP/1 request.
    HttpRequest(HttpMethod),
    /// A TLS client hello.
    TlsClientHello,
    /// A QUIC packet with a long header.
    Quic,
}

/// HTTP methods as far as they name a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// GET or HEAD.
    Get,
    /// POST, PUT or PATCH.
    Post,
    /// Any other.
    Other,
}

/// How a packet carried inside another was wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// Generic routing encapsulation.
    Gre,
    /// IPv4 or IPv6 straight inside IPv4 or IPv6.
    IpInIp,
    /// VXLAN, UDP port 4789.
    Vxlan,
    /// GENEVE, UDP port 6081.
    Geneve,
}

/// The innermost packet of a tunnel. It is told beside the outer one and counted never: the outer one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// How the outermost layer wrapped it.
    pub kind: TunnelKind,
    /// Inner source address.
    pub source: IpAddr,
    /// Inner destination address.
    pub destination: IpAddr,
    /// Inner IP protocol number.
    pub protocol: u8,
    /// Inner source port, 0 where there is none.
    pub source_port: u16,
    /// Inner destination port, 0 where there is none.
    pub destination_port: u16,
}

/// One packet, classified. Everything later rooms may know about it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was captured.
    pub at: Timestamp,
    /// Which way it goes.
    pub direction: Direction,
    /// The one kind of traffic it belongs to.
    pub class: TrafficClass,
    /// The reflecting service, exactly when `class` is [`TrafficClass::UdpReflected`].
    pub service: Option<Service>,
    /// What its payload says.
    pub content: Content,
    /// Source address; unspecified when `class` is [`TrafficClass::NotIp`].
    pub source: IpAddr,
    /// Destination address; unspecified when `class` is [`TrafficClass::NotIp`].
    pub destination: IpAddr,
    /// Source port, 0 where there is none or it was not captured.
    pub source_port: u16,
    /// Destination port, 0 where there is none or it was not captured. For ICMP the type and code, as `type << 8 | code`.
    pub destination_port: u16,
    /// IP protocol number after extension headers; 0 when `class` is [`TrafficClass::NotIp`].
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// TCP flags, see [`tcp_flag`]; 0 for everything else.
    pub flags: u8,
    /// TCP sequence number; 0 for everything else.
    pub sequence: u32,
    /// TCP acknowledgement number; 0 for everything else.
    pub acknowledgement: u32,
    /// Its place among fragments.
    pub fragment: Fragment,
    /// Length on the wire in bytes, as in [`Frame`](crate::capture::Frame).
    pub wire_bytes: u32,
    /// Bytes behind the transport header by the headers' own lengths, whether captured or not; behind the IP header
    /// where there is no transport header.
    pub payload_bytes: u32,
    /// The innermost packet when this one is a tunnel's.
    pub inner: Option<Inner>,
    /// What is wrong with it above a readable IP header; it is counted as what it still is, and by this reason.
    pub flaw: Option<Undecodable>,
}

/// Why a frame, or part of one, could not be taken apart: a fact to be tallied, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Undecodable {
    /// A link type we do not decode.
    LinkType,
    /// The frame ends inside its link-layer header or tags.
    LinkCut,
    /// More VLAN tags, labels or PPPoE layers than we follow.
    LinkDepth,
    /// The bytes captured end inside the IP header.
    IpCut,
    /// An IP header with an impossible version or length.
    IpMalformed,
    /// More IPv6 extension headers than we follow.
    ExtensionDepth,
    /// The bytes captured end inside an IPv6 extension header.
    ExtensionCut,
    /// The bytes captured end inside the transport header.
    TransportCut,
    /// A transport header with an impossible length.
    TransportMalformed,
    /// More tunnels inside each other than we follow.
    TunnelDepth,
    /// Something inside a tunnel could not be taken apart.
    TunnelInner,
}

impl Undecodable {
    /// How many reasons there are.
    pub const COUNT: usize = 11;

    /// Every reason, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::LinkType,
        Self::LinkCut,
        Self::LinkDepth,
        Self::IpCut,
        Self::IpMalformed,
        Self::ExtensionDepth,
        Self::ExtensionCut,
        Self::TransportCut,
        Self::TransportMalformed,
        Self::TunnelDepth,
        Self::TunnelInner,
    ];

    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkType => "link_type",
            Self::LinkCut => "link_cut",
            Self::LinkDepth => "link_depth",
            Self::IpCut => "ip_cut",
            Self::IpMalformed => "ip_malformed",
            Self::ExtensionDepth => "extension_depth",
            Self::ExtensionCut => "extension_cut",
            Self::TransportCut => "transport_cut",
            Self::TransportMalformed => "transport_malformed",
            Self::TunnelDepth => "tunnel_depth",
            Self::TunnelInner => "tunnel_inner",
        }
    }
}
