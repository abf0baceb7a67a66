//! What the first payload bytes say.
//!
//! Each recogniser looks at a bounded prefix of a payload that may be cut anywhere, and says whether it is a request,
//! an answer, or nothing it knows. Signatures come from the protocols' own documents. None of them remembers anything,
//! allocates, or reads on past what was captured. Runs on the capture threads, once per packet with a payload.

mod ber;
mod binary;
mod text;

use super::{Content, Service};

/// How far a recogniser looks into a payload, in bytes. The capture hands over about 118 bytes of a UDP payload at the
/// usual snap length of 160; files and longer snap lengths must not make a packet more expensive.
const PREFIX_BYTES: usize = 160;

/// Which side of an exchange a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Request,
    Answer,
}

/// Which end of a datagram has the service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The sender.
    Source,
    /// The receiver.
    Destination,
    /// Both: the ports do not help.
    Both,
}

/// A datagram's payload as far as it was captured and as far as we look.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    /// Its first bytes.
    bytes: &'a [u8],
    /// How long it is in the datagram it belongs to, captured or not.
    whole_bytes: u32,
    /// Who has the service's port.
    side: Side,
}

/// Says what a message is, if it is one of its protocol's.
type Recogniser = fn(&Message<'_>) -> Option<Role>;

impl Message<'_> {
    /// The byte at `at`.
    #[inline]
    fn u8(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The 16-bit number in network byte order at `at`.
    #[inline]
    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes
            .get(at..)?
            .first_chunk()
            .map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// The 32-bit number in network byte order at `at`.
    #[inline]
    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes
            .get(at..)?
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// What the ports alone say about a message that is certainly of this service.
    fn role_by_side(&self) -> Option<Role> {
        match self.side {
            Side::Source => Some(Role::Answer),
            Side::Destination => Some(Role::Request),
            Side::Both => None,
        }
    }
}

/// What the payload of a UDP datagram says.
///
/// `payload` is what was captured of it, `whole_bytes` its length in the whole datagram. The services at both ports are
/// asked first; where they recognise nothing, the few signatures that are unmistakable at any port.
#[inline]
pub(super) fn of_udp(
    from: Option<Service>,
    to: Option<Service>,
    payload: &[u8],
    whole_bytes: u32,
) -> Content {
    let Some(first) = payload.first().copied() else {
        return Content::Unrecognised;
    };
    if from.is_none() && to.is_none() && !begins_like_a_signature(first) {
        return Content::Unrecognised;
    }
    of_known_ports(from, to, payload, whole_bytes)
}

/// The part of [`of_udp`] that a flood of nonsense between random ports seldom reaches.
fn of_known_ports(
    from: Option<Service>,
    to: Option<Service>,
    payload: &[u8],
    whole_bytes: u32,
) -> Content {
    let bytes = payload.get(..PREFIX_BYTES).unwrap_or(payload);
    let message = |side| Message {
        bytes,
        whole_bytes,
        side,
    };
    let by_source = from.and_then(|service| {
        let side = if from == to { Side::Both } else { Side::Source };
        Some((service, role_in(service, &message(side))?))
    });
    if let Some((service, Role::Answer)) = by_source {
        return Content::Answer(service);
    }
    let by_destination = match to {
        Some(service) if from != to => {
            role_in(service, &message(Side::Destination)).map(|role| (service, role))
        }
        _ => None,
    };
    // A request to the destination's service outweighs one to the source's: clients may send from any port.
    match by_destination.or(by_source) {
        Some((service, Role::Request)) => Content::Request(service),
        Some((service, Role::Answer)) => Content::Answer(service),
        None => at_any_port(&message(Side::Both)),
    }
}

/// Whether a payload with this first byte may be one of those that [`at_any_port`] knows.
#[inline]
const fn begins_like_a_signature(first: u8) -> bool {
    // QUIC's long headers; DTLS; STUN; the capital letters of SSDP and SIP.
    first >= 0x80 || first == 0x16 || first <= 0x01 || first.is_ascii_uppercase()
}

/// Messages whose signature is long enough to be trusted whatever the ports.
fn at_any_port(message: &Message<'_>) -> Content {
    if binary::is_quic_long_header(message) {
        return Content::Quic;
    }
    let known: [(Service, Recogniser); 4] = [
        (Service::Stun, binary::stun_with_cookie),
        (Service::Dtls, binary::dtls),
        (Service::Ssdp, text::ssdp),
        (Service::Sip, text::sip),
    ];
    for (service, recognise) in known {
        match recognise(message) {
            Some(Role::Request) => return Content::Request(service),
            Some(Role::Answer) => return Content::Answer(service),
            None => {}
        }
    }
    Content::Unrecognised
}

/// What a message at this service's port is, if it is one of the service's at all.
fn role_in(service: Service, message: &Message<'_>) -> Option<Role> {
    match service {
        Service::Dns => binary::dns(message),
        Service::Ntp => binary::ntp(message),
        Service::Ssdp => text::ssdp(message),
        Service::Memcached => text::memcached(message),
        Service::Cldap => ber::cldap(message),
        Service::Chargen => text::chargen(message),
        Service::Snmp => ber::snmp(message),
        Service::Wsd => text::wsd(message),
        Service::Mdns => binary::mdns(message),
        Service::Isakmp => binary::isakmp(message),
        Service::Bacnet => binary::bacnet(message),
        Service::Dvr => text::dvr(message),
        Service::Qotd => text::qotd(message),
        Service::Rip => binary::rip(message),
        Service::Portmap => binary::portmap(message),
        Service::Netbios => binary::netbios(message),
        Service::Tftp => binary::tftp(message),
        Service::Coap => binary::coap(message),
        Service::Steam => binary::steam(message),
        Service::Quake => binary::quake(message),
        Service::Openvpn => binary::openvpn(message),
        Service::Arms => binary::arms(message),
        Service::Plex => text::plex(message),
        Service::L2tp => binary::l2tp(message),
        Service::Stun => binary::stun(message),
        Service::Sip => text::sip(message),
        Service::Dtls => binary::dtls(message),
        Service::Ubnt => binary::ubnt(message),
        Service::Jenkins => text::jenkins(message),
        Service::Tp240 => text::tp240(message),
    }
}

/// Whether a datagram to or from port 443 may be a QUIC packet with a short header: the fixed bit, and no long header.
#[inline]
pub(super) fn is_quic_short_header(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first & 0xc0 == 0x40)
}

/// What the payload of a TCP segment says.
#[inline]
pub(super) fn of_tcp(payload: &[u8]) -> Content {
    match payload.first() {
        Some(0x16) if binary::is_tls_client_hello(payload) => Content::TlsClientHello,
        Some(first) if first.is_ascii_uppercase() => {
            text::http_method(payload).map_or(Content::Unrecognised, Content::HttpRequest)
        }
        _ => Content::Unrecognised,
    }
}
