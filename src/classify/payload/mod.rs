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
    if from.is_none() && to.is_none() && !begins_like_a_signature(payload) {
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

/// Whether a payload may be one of those that [`at_any_port`] knows: nearly always no for random bytes, so that a flood
/// of them costs no mispredicted branches.
#[inline]
fn begins_like_a_signature(payload: &[u8]) -> bool {
    let Some([first, second @ ..]) = payload.first_chunk::<5>() else {
        return false;
    };
    let text = first.is_ascii_uppercase() && (second[0].is_ascii_uppercase() || second[0] == b'-');
    binary::is_quic_version(u32::from_be_bytes(*second)) || *first <= 0x01 || *first == 0x16 || text
}

/// Messages whose signature is long enough to be trusted whatever the ports.
fn at_any_port(message: &Message<'_>) -> Content {
    let (service, role) = match message.bytes.first() {
        Some(0x80..) if binary::is_quic_long_header(message) => return Content::Quic,
        Some(0x00..=0x01) => (Service::Stun, binary::stun_with_cookie(message)),
        Some(0x16) => (Service::Dtls, binary::dtls(message)),
        Some(b'A'..=b'Z') => match text::ssdp(message) {
            None => (Service::Sip, text::sip(message)),
            role => (Service::Ssdp, role),
        },
        _ => return Content::Unrecognised,
    };
    match role {
        Some(Role::Request) => Content::Request(service),
        Some(Role::Answer) => Content::Answer(service),
        None => Content::Unrecognised,
    }
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

/// Asking the recognisers as the decoder does, for the tests of this folder.
#[cfg(test)]
mod asking {
    use super::*;

    /// What a datagram says that the service sends to a client's port.
    pub(super) fn sent_by(service: Service, payload: &[u8]) -> Content {
        of_udp(
            Some(service),
            None,
            payload,
            u32::try_from(payload.len()).unwrap(),
        )
    }

    /// What a datagram says that a client sends to the service.
    pub(super) fn sent_to(service: Service, payload: &[u8]) -> Content {
        of_udp(
            None,
            Some(service),
            payload,
            u32::try_from(payload.len()).unwrap(),
        )
    }

    /// Holds an answer, a request and look-alikes against what they are, cut at every length: the shorter ones may say
    /// nothing, but never the opposite.
    pub(super) fn tell_apart(
        service: Service,
        answers: &[&[u8]],
        requests: &[&[u8]],
        look_alikes: &[&[u8]],
    ) {
        for answer in answers {
            assert_eq!(
                sent_by(service, answer),
                Content::Answer(service),
                "{answer:02x?}"
            );
            never_says(service, answer, Content::Request(service));
        }
        for request in requests {
            assert_eq!(
                sent_to(service, request),
                Content::Request(service),
                "{request:02x?}"
            );
            never_says(service, request, Content::Answer(service));
        }
        for other in look_alikes {
            for said in [sent_by(service, other), sent_to(service, other)] {
                assert_ne!(said, Content::Answer(service), "{other:02x?}");
                assert_ne!(said, Content::Request(service), "{other:02x?}");
            }
        }
    }

    fn never_says(service: Service, payload: &[u8], wrong: Content) {
        let whole_bytes = u32::try_from(payload.len()).unwrap();
        for captured in 0..payload.len() {
            let (from, to) = match wrong {
                Content::Request(_) => (Some(service), None),
                _ => (None, Some(service)),
            };
            let said = of_udp(from, to, &payload[..captured], whole_bytes);
            assert_ne!(said, wrong, "{payload:02x?} cut to {captured}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::asking::{sent_by, sent_to};
    use super::*;
    use crate::classify::HttpMethod;
    use proptest::prelude::*;

    #[test]
    fn a_request_to_one_service_from_the_port_of_another_is_a_request() {
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc\x00\x00\x01\x00\x01";
        for from in Service::ALL {
            let said = of_udp(
                Some(from),
                Some(Service::Dns),
                query,
                u32::try_from(query.len()).unwrap(),
            );
            assert_eq!(said, Content::Request(Service::Dns), "from {}", from.name());
        }
    }

    #[test]
    fn an_unmistakable_signature_is_recognised_at_any_port() {
        let at_any =
            |payload: &[u8]| of_udp(None, None, payload, u32::try_from(payload.len()).unwrap());
        assert_eq!(
            at_any(b"HTTP/1.1 200 OK\r\n"),
            Content::Answer(Service::Ssdp)
        );
        assert_eq!(
            at_any(b"M-SEARCH * HTTP/1.1\r\n"),
            Content::Request(Service::Ssdp)
        );
        assert_eq!(at_any(b"SIP/2.0 200 OK\r\n"), Content::Answer(Service::Sip));
        assert_eq!(
            at_any(b"OPTIONS sip:a@b SIP/2.0\r\n"),
            Content::Request(Service::Sip)
        );
        assert_eq!(
            at_any(b"\x01\x01\0\0\x21\x12\xa4\x42abcdefghijkl"),
            Content::Answer(Service::Stun)
        );
        assert_eq!(at_any(b"\xc0\0\0\0\x01\x08abcdefgh\x00"), Content::Quic);
        assert_eq!(
            at_any(b"\x01\x01\0\0\x21\x12\xa4\x43abcdefghijkl"),
            Content::Unrecognised
        );
        assert_eq!(at_any(b"HELLO"), Content::Unrecognised);
        assert_eq!(at_any(b""), Content::Unrecognised);
    }

    #[test]
    fn quic_long_headers_need_a_known_version_and_possible_lengths() {
        let quic = |first: u8, version: u32, lengths: &[u8]| {
            let payload = [&[first][..], &version.to_be_bytes(), lengths].concat();
            of_udp(None, None, &payload, 1_200) == Content::Quic
        };
        for version in [1, 0x6b33_43cf, 0xff00_001d, 0x5130_3436, 0x1a2a_3a4a] {
            assert!(
                quic(0xc3, version, &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                "version {version:#x}"
            );
            assert!(quic(0xc3, version, &[]), "version {version:#x}, cut");
            assert!(
                !quic(0x83, version, &[8]),
                "version {version:#x} without the fixed bit"
            );
            assert!(
                !quic(0x43, version, &[8]),
                "version {version:#x} in a short header"
            );
        }
        assert!(
            quic(0x80, 0, &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            "version negotiation"
        );
        assert!(!quic(0xc3, 1, &[21]));
        assert!(!quic(0xc3, 1, &[1, 0, 21]));
        assert!(!quic(0xc3, 2, &[8]));
        assert!(!quic(0xc3, 0xff00_0023, &[8]));
    }

    #[test]
    fn http_requests_are_known_by_method_and_target() {
        let http = |line: &[u8]| match of_tcp(line) {
            Content::HttpRequest(method) => Some(method),
            _ => None,
        };
        for line in [
            &b"GET / HTTP/1.1"[..],
            b"HEAD /x",
            b"GET http://x/ HTTP/1.1",
            b"GET /",
        ] {
            assert_eq!(http(line), Some(HttpMethod::Get));
        }
        for line in [&b"POST /form HTTP/1.1"[..], b"PUT /x", b"PATCH /x"] {
            assert_eq!(http(line), Some(HttpMethod::Post));
        }
        for line in [
            &b"OPTIONS * HTTP/1.1"[..],
            b"DELETE /x",
            b"CONNECT a.example:443",
            b"PROPFIND /",
        ] {
            assert_eq!(http(line), Some(HttpMethod::Other));
        }
        for line in [
            &b"OPTIONS rtsp://x RTSP/1.0"[..],
            b"OPTIONS sip:x SIP/2.0",
            b"GETTING /",
            b"get / HTTP/1.1",
            b"HTTP/1.1 200 OK",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET",
            b"",
        ] {
            assert_eq!(http(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_tls_client_hello_is_a_handshake_record_that_begins_with_one() {
        let hello = [
            0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
        ];
        assert_eq!(of_tcp(&hello), Content::TlsClientHello);
        assert_eq!(of_tcp(&hello[..6]), Content::TlsClientHello);
        assert_eq!(of_tcp(&hello[..5]), Content::Unrecognised);
        // A server hello, application data, a version that never was, a record too long.
        for (at, value) in [(5, 0x02), (0, 0x17), (2, 0x05), (1, 0x02), (3, 0x80)] {
            let mut other = hello;
            other[at] = value;
            assert_eq!(
                of_tcp(&other),
                Content::Unrecognised,
                "byte {at} is {value:#04x}"
            );
        }
    }

    #[test]
    fn looking_further_than_the_prefix_changes_nothing() {
        let mut long = b"<?xml version='1.0'?>".to_vec();
        long.resize(PREFIX_BYTES, b' ');
        long.extend_from_slice(b"<Probe>");
        assert_eq!(sent_by(Service::Wsd, &long), Content::Answer(Service::Wsd));
    }

    proptest! {
        #[test]
        fn any_payload_at_any_service_says_something_about_it_or_nothing(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            more in 0_u32..2_000,
            nth in 0..Service::COUNT,
        ) {
            let service = Service::ALL[nth];
            let whole_bytes = u32::try_from(payload.len()).unwrap() + more;
            for (from, to) in [(Some(service), None), (None, Some(service)), (Some(service), Some(service))] {
                let _ = of_udp(from, to, &payload, whole_bytes);
            }
            let _ = (of_tcp(&payload), is_quic_short_header(&payload), sent_to(service, &payload));
        }
    }
}
