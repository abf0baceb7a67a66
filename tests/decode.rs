//! Decoding, from the outside: golden frames and every prefix of them, each encapsulation by name, and a differential
//! test against etherparse's lax slices on generated frames and, where they are at hand, on real captures.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of a test fail by panicking, and say what they could not check"
)]

#[path = "common/needs.rs"]
mod needs;
#[path = "common/tell.rs"]
mod tell;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use etherparse::{LaxNetSlice, LaxSlicedPacket, PacketBuilder, PacketBuilderStep, TransportSlice};
use ftagent::capture::{Frame, LinkType};
use ftagent::classify::{
    Classifier, Content, Direction, Fragment, HttpMethod, Sample, Service, Settings, TrafficClass,
    TunnelKind, Undecodable, Vantage, tcp_flag,
};
use ftagent::clock::Timestamp;
use ftagent::count::{self, Count, Meter, Window, WindowIndex};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tell::tell;

// ---- frames ----

const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const THEIR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const SOURCE: [u8; 4] = [198, 51, 100, 7];
const TARGET: [u8; 4] = [203, 0, 113, 80];
const SOURCE_V6: [u8; 16] = [
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x07,
];
const TARGET_V6: [u8; 16] = [
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
];
const INNER_SOURCE: [u8; 4] = [10, 0, 0, 7];
const INNER_TARGET: [u8; 4] = [10, 0, 0, 80];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap().to_be_bytes()
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&OUR_MAC, &THEIR_MAC, &ether_type.to_be_bytes(), payload])
}

fn tag(next: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[0x00, 0x64], &next.to_be_bytes(), payload])
}

fn label(bottom: bool, payload: &[u8]) -> Vec<u8> {
    join(&[&[0x00, 0x01, u8::from(bottom), 0x40], payload])
}

fn pppoe(protocol: u16, payload: &[u8]) -> Vec<u8> {
    let ppp = join(&[&protocol.to_be_bytes(), payload]);
    join(&[&[0x11, 0x00, 0x00, 0x2a], &length(&ppp), &ppp])
}

fn v4_between(
    source: [u8; 4],
    target: [u8; 4],
    fragmentation: u16,
    protocol: u8,
    options: &[u8],
    body: &[u8],
) -> Vec<u8> {
    let header_words = 5 + u8::try_from(options.len() / 4).unwrap();
    let total = u16::try_from(20 + options.len() + body.len())
        .unwrap()
        .to_be_bytes();
    join(&[
        &[0x40 | header_words, 0],
        &total,
        &[0x12, 0x34],
        &fragmentation.to_be_bytes(),
        &[57, protocol, 0, 0],
        &source,
        &target,
        options,
        body,
    ])
}

fn v4(protocol: u8, body: &[u8]) -> Vec<u8> {
    v4_between(SOURCE, TARGET, 0, protocol, &[], body)
}

fn inner_v4(protocol: u8, body: &[u8]) -> Vec<u8> {
    v4_between(INNER_SOURCE, INNER_TARGET, 0, protocol, &[], body)
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    join(&[
        &[0x60, 0, 0, 0],
        &length(body),
        &[next, 58],
        &SOURCE_V6,
        &TARGET_V6,
        body,
    ])
}

/// An IPv6 options header of eight bytes, full of padding.
fn options_v6(next: u8, body: &[u8]) -> Vec<u8> {
    join(&[&[next, 0, 1, 4, 0, 0, 0, 0], body])
}

fn fragment_v6(next: u8, offset_and_more: u16, body: &[u8]) -> Vec<u8> {
    join(&[
        &[next, 0],
        &offset_and_more.to_be_bytes(),
        &[0, 0, 0xab, 0xcd],
        body,
    ])
}

fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    join(&[
        &[0xd4, 0x31, 0x01, 0xbb],
        &[0, 0, 0, 9, 0, 0, 0, 8],
        &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0],
        payload,
    ])
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(8 + payload.len()).unwrap();
    join(&[
        &source.to_be_bytes(),
        &destination.to_be_bytes(),
        &total.to_be_bytes(),
        &[0, 0],
        payload,
    ])
}

fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    join(&[&[kind, code, 0, 0, 0, 1, 0, 1], rest])
}

fn gre(flags: u16, ether_type: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    join(&[
        &flags.to_be_bytes(),
        &ether_type.to_be_bytes(),
        options,
        payload,
    ])
}

fn vxlan(payload: &[u8]) -> Vec<u8> {
    udp(
        51_000,
        4789,
        &join(&[&[0x08, 0, 0, 0, 0, 0, 42, 0], payload]),
    )
}

fn geneve(options: &[u8], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let words = u8::try_from(options.len() / 4).unwrap();
    udp(
        51_000,
        6081,
        &join(&[
            &[words, 0],
            &ether_type.to_be_bytes(),
            &[0, 0, 42, 0],
            options,
            payload,
        ]),
    )
}

fn cooked(packet_type: u16, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let address = [0x02, 0, 0, 0, 0, 0x02, 0, 0];
    join(&[
        &packet_type.to_be_bytes(),
        &[0, 1, 0, 6],
        &address,
        &protocol.to_be_bytes(),
        payload,
    ])
}

fn cooked2(packet_type: u8, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let address = [0x02, 0, 0, 0, 0, 0x02, 0, 0];
    join(&[
        &protocol.to_be_bytes(),
        &[0, 0, 0, 0, 0, 3, 0, 1, packet_type, 6],
        &address,
        payload,
    ])
}

/// An answer with one question and one address record, as a resolver sends it.
fn dns_answer() -> Vec<u8> {
    join(&[
        &[0x1f, 0x2e, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
        b"\x07example\x03org\x00\x00\x01\x00\x01",
        &[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1],
    ])
}

fn dns_query() -> Vec<u8> {
    join(&[
        &[0x1f, 0x2e, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0],
        b"\x07example\x03org\x00\x00\x01\x00\x01",
    ])
}

fn ntp(first: u8) -> Vec<u8> {
    let mut packet = vec![0; 48];
    packet[0] = first;
    packet[1] = 2;
    packet[2] = 6;
    packet
}

fn quic_initial() -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
    packet.resize(1_200, 0x5a);
    packet
}

fn tls_client_hello() -> Vec<u8> {
    let mut hello = vec![
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    hello.resize(200, 0x11);
    hello
}

// ---- asking ----

fn interface() -> Classifier {
    let vantage = Vantage::Interface {
        mac: Some(OUR_MAC),
        addresses: vec![IpAddr::from(TARGET)],
    };
    Classifier::new(Settings {
        vantage,
        tunnel_peers: Vec::new(),
    })
}

fn hosts(networks: &[&str]) -> Classifier {
    let networks = networks
        .iter()
        .map(|network| network.parse().unwrap())
        .collect();
    Classifier::new(Settings {
        vantage: Vantage::Hosts(networks),
        tunnel_peers: Vec::new(),
    })
}

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame {
        at: Timestamp::from_seconds(1),
        link,
        wire_bytes: u32::try_from(data.len()).unwrap(),
        data,
    }
}

fn of_link(link: LinkType, data: &[u8]) -> Result<Sample, Undecodable> {
    interface().classify(&frame(link, data))
}

fn of_ethernet(data: &[u8]) -> Sample {
    of_link(LinkType::Ethernet, data).unwrap()
}

fn of_v4(protocol: u8, body: &[u8]) -> Sample {
    of_ethernet(&ethernet(0x0800, &v4(protocol, body)))
}

fn of_v6(next: u8, body: &[u8]) -> Sample {
    of_ethernet(&ethernet(0x86dd, &v6(next, body)))
}

/// The first `captured` bytes of a frame, with its whole length on the wire.
fn cut(data: &[u8], captured: usize) -> Result<Sample, Undecodable> {
    let whole = frame(LinkType::Ethernet, data);
    interface().classify(&Frame {
        data: &data[..captured],
        ..whole
    })
}

// ---- golden frames ----

/// A frame and what it is: its class, and the reason of what is wrong with it.
struct Golden {
    name: &'static str,
    link: LinkType,
    data: Vec<u8>,
    class: TrafficClass,
}

fn golden_frames() -> Vec<Golden> {
    use TrafficClass as C;
    let syn = tcp(tcp_flag::SYN, &[]);
    let data_flags = tcp_flag::PSH | tcp_flag::ACK;
    let inner = inner_v4(TCP, &syn);
    let inner_v6 = v6(UDP, &udp(40_000, 40_001, b"inner"));
    let bridged = ethernet(0x0800, &inner);
    let quoted = v4(UDP, &udp(53, 4444, b"quoted"));
    let on_ethernet = |name, class, data| Golden {
        name,
        link: LinkType::Ethernet,
        data,
        class,
    };
    let on = |name, link, class, data| Golden {
        name,
        link,
        data,
        class,
    };
    let v4_frame = |protocol, body: &[u8]| ethernet(0x0800, &v4(protocol, body));
    let v6_frame = |next, body: &[u8]| ethernet(0x86dd, &v6(next, body));
    let first = |protocol, body: &[u8]| {
        ethernet(
            0x0800,
            &v4_between(SOURCE, TARGET, 0x2000, protocol, &[], body),
        )
    };
    let later = |protocol, body: &[u8]| {
        ethernet(
            0x0800,
            &v4_between(SOURCE, TARGET, 0x20b9, protocol, &[], body),
        )
    };
    vec![
        on_ethernet("tcp syn", C::Syn, v4_frame(TCP, &syn)),
        on_ethernet(
            "tcp syn, padded to 60 bytes",
            C::Syn,
            join(&[&v4_frame(TCP, &syn), &[0; 6]]),
        ),
        on_ethernet("tcp syn, v6", C::Syn, v6_frame(TCP, &syn)),
        on_ethernet(
            "tcp syn-ack",
            C::SynAck,
            v4_frame(TCP, &tcp(tcp_flag::SYN | tcp_flag::ACK, &[])),
        ),
        on_ethernet("tcp rst", C::Rst, v4_frame(TCP, &tcp(tcp_flag::RST, &[]))),
        on_ethernet(
            "tcp fin-ack",
            C::Fin,
            v4_frame(TCP, &tcp(tcp_flag::FIN | tcp_flag::ACK, &[])),
        ),
        on_ethernet("tcp ack", C::Ack, v4_frame(TCP, &tcp(tcp_flag::ACK, &[]))),
        on_ethernet("tcp null", C::TcpOdd, v4_frame(TCP, &tcp(0, &[]))),
        on_ethernet(
            "http get",
            C::TcpData,
            v4_frame(TCP, &tcp(data_flags, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
        ),
        on_ethernet(
            "tls client hello",
            C::TcpData,
            v6_frame(TCP, &tcp(data_flags, &tls_client_hello())),
        ),
        on_ethernet(
            "ipv4 options",
            C::Syn,
            ethernet(0x0800, &v4_between(SOURCE, TARGET, 0, TCP, &[1; 40], &syn)),
        ),
        on_ethernet(
            "ah, v4",
            C::Syn,
            v4_frame(AH, &join(&[&[TCP, 4, 0, 0], &[0; 20], &syn])),
        ),
        on_ethernet(
            "dns answer",
            C::UdpReflected,
            v4_frame(UDP, &udp(53, 4444, &dns_answer())),
        ),
        on_ethernet(
            "dns query",
            C::DnsQuery,
            v4_frame(UDP, &udp(4444, 53, &dns_query())),
        ),
        on_ethernet(
            "ntp monlist",
            C::UdpReflected,
            v6_frame(UDP, &udp(123, 80, &[0xd7, 0, 3, 42, 0, 6, 0, 72])),
        ),
        on_ethernet(
            "quic initial",
            C::Quic,
            v4_frame(UDP, &udp(50_000, 443, &quic_initial())),
        ),
        on_ethernet(
            "udp",
            C::UdpOther,
            v4_frame(UDP, &udp(50_000, 50_001, b"anything")),
        ),
        on_ethernet("echo", C::Echo, v4_frame(ICMP, &icmp(8, 0, b"abcdefgh"))),
        on_ethernet(
            "echo reply, v6",
            C::EchoReply,
            v6_frame(ICMPV6, &icmp(129, 0, b"abcdefgh")),
        ),
        on_ethernet(
            "icmp error",
            C::IcmpError,
            v4_frame(ICMP, &icmp(3, 3, &quoted)),
        ),
        on_ethernet(
            "neighbour solicitation",
            C::IcmpOther,
            v6_frame(ICMPV6, &icmp(135, 0, &TARGET_V6)),
        ),
        on_ethernet(
            "sctp",
            C::OtherIp,
            v4_frame(
                SCTP,
                &[0x0b, 0x59, 0x0b, 0x59, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4],
            ),
        ),
        on_ethernet("esp", C::Esp, v4_frame(ESP, &[7; 40])),
        on_ethernet(
            "first fragment",
            C::UdpReflected,
            first(UDP, &{
                let mut body = udp(53, 4444, &join(&[&dns_answer(), &[0; 100]]));
                body[4..6].copy_from_slice(&3_008_u16.to_be_bytes());
                body
            }),
        ),
        on_ethernet("later fragment", C::Fragment, later(UDP, &[0; 64])),
        on_ethernet("tiny fragment", C::Fragment, first(TCP, &syn[..16])),
        on_ethernet(
            "first fragment, v6",
            C::Syn,
            v6_frame(44, &fragment_v6(TCP, 1, &join(&[&syn, &[0; 44]]))),
        ),
        on_ethernet(
            "later fragment, v6",
            C::Fragment,
            v6_frame(44, &fragment_v6(UDP, 0x05b0, &[0; 64])),
        ),
        on_ethernet(
            "extension headers",
            C::Syn,
            v6_frame(0, &options_v6(43, &options_v6(60, &options_v6(TCP, &syn)))),
        ),
        on_ethernet(
            "vlan",
            C::Syn,
            ethernet(0x8100, &tag(0x0800, &v4(TCP, &syn))),
        ),
        on_ethernet(
            "qinq",
            C::Syn,
            ethernet(0x88a8, &tag(0x8100, &tag(0x86dd, &v6(TCP, &syn)))),
        ),
        on_ethernet(
            "four tags",
            C::Syn,
            ethernet(
                0x9100,
                &tag(
                    0x9100,
                    &tag(0x88a8, &tag(0x8100, &tag(0x0800, &v4(TCP, &syn)))),
                ),
            ),
        ),
        on_ethernet(
            "mpls",
            C::Syn,
            ethernet(0x8847, &label(false, &label(true, &v4(TCP, &syn)))),
        ),
        on_ethernet(
            "mpls, v6",
            C::Syn,
            ethernet(0x8847, &label(true, &v6(TCP, &syn))),
        ),
        on_ethernet(
            "pppoe",
            C::Syn,
            ethernet(0x8864, &pppoe(0x0021, &v4(TCP, &syn))),
        ),
        on_ethernet(
            "pppoe, v6",
            C::Syn,
            ethernet(0x8864, &pppoe(0x0057, &v6(TCP, &syn))),
        ),
        on_ethernet(
            "pppoe control",
            C::NotIp,
            ethernet(0x8864, &pppoe(0xc021, &[9, 1, 0, 8, 0, 0, 0, 0])),
        ),
        on_ethernet("arp", C::NotIp, ethernet(0x0806, &[0; 28])),
        on_ethernet("spanning tree", C::NotIp, ethernet(0x0026, &[0x42; 38])),
        on_ethernet("gre", C::Gre, v4_frame(GRE, &gre(0, 0x0800, &[], &inner))),
        on_ethernet(
            "gre, all fields",
            C::Gre,
            v4_frame(GRE, &gre(0xb000, 0x86dd, &[0; 12], &inner_v6)),
        ),
        on_ethernet(
            "gre, bridged",
            C::Gre,
            v6_frame(GRE, &gre(0, 0x6558, &[], &bridged)),
        ),
        on_ethernet("ipip", C::OtherIp, v4_frame(4, &inner)),
        on_ethernet("6in4", C::OtherIp, v4_frame(41, &inner_v6)),
        on_ethernet("4in6", C::OtherIp, v6_frame(4, &inner)),
        on_ethernet("6in6", C::OtherIp, v6_frame(41, &inner_v6)),
        on_ethernet("vxlan", C::UdpOther, v4_frame(UDP, &vxlan(&bridged))),
        on_ethernet(
            "geneve",
            C::UdpOther,
            v4_frame(UDP, &geneve(&[0; 8], 0x6558, &bridged)),
        ),
        on_ethernet(
            "geneve, straight",
            C::UdpOther,
            v4_frame(UDP, &geneve(&[], 0x0800, &inner)),
        ),
        on(
            "cooked",
            LinkType::LinuxCooked,
            C::Syn,
            cooked(0, 0x0800, &v4(TCP, &syn)),
        ),
        on(
            "cooked 2",
            LinkType::LinuxCooked2,
            C::Syn,
            cooked2(0, 0x86dd, &v6(TCP, &syn)),
        ),
        on("raw v4", LinkType::RawIp, C::Syn, v4(TCP, &syn)),
        on("raw v6", LinkType::RawIp, C::Syn, v6(TCP, &syn)),
        on(
            "null, little-endian",
            LinkType::BsdNull,
            C::Syn,
            join(&[&[2, 0, 0, 0], &v4(TCP, &syn)]),
        ),
        on(
            "null, big-endian",
            LinkType::BsdNull,
            C::Syn,
            join(&[&[0, 0, 0, 30], &v6(TCP, &syn)]),
        ),
        on(
            "loop",
            LinkType::BsdLoop,
            C::Syn,
            join(&[&[0, 0, 0, 2], &v4(TCP, &syn)]),
        ),
    ]
}

#[test]
fn every_golden_frame_is_of_its_class_and_without_a_flaw() {
    for golden in golden_frames() {
        let sample = of_link(golden.link, &golden.data)
            .unwrap_or_else(|reason| panic!("{}: {reason:?}", golden.name));
        assert_eq!(sample.class, golden.class, "{}", golden.name);
        assert_eq!(sample.flaw, None, "{}", golden.name);
        assert_eq!(
            sample.service.is_some(),
            sample.class == TrafficClass::UdpReflected,
            "{}",
            golden.name
        );
        assert_eq!(
            sample.inner.is_some(),
            is_tunnel(golden.name),
            "{}",
            golden.name
        );
        assert_eq!(
            sample.wire_bytes,
            u32::try_from(golden.data.len()).unwrap(),
            "{}",
            golden.name
        );
    }
}

fn is_tunnel(name: &str) -> bool {
    ["gre", "ipip", "6in4", "4in6", "6in6", "vxlan", "geneve"]
        .iter()
        .any(|tunnel| name.starts_with(tunnel))
}

/// A frame cut by the snap length: it keeps its length on the wire, and its addresses once they were captured.
#[test]
fn every_prefix_of_every_golden_frame_is_classified_or_refused() {
    let vantages = [interface(), hosts(&["203.0.113.80/32", "2001:db8::/64"])];
    for golden in golden_frames() {
        let whole = frame(golden.link, &golden.data);
        let complete = of_link(golden.link, &golden.data).unwrap();
        for captured in 0..golden.data.len() {
            for classifier in &vantages {
                let cut = classifier.classify(&Frame {
                    data: &golden.data[..captured],
                    ..whole
                });
                let Ok(sample) = cut else { continue };
                assert_eq!(
                    sample.wire_bytes, whole.wire_bytes,
                    "{} cut to {captured}",
                    golden.name
                );
                assert_eq!(
                    sample.source, complete.source,
                    "{} cut to {captured}",
                    golden.name
                );
                assert_eq!(
                    sample.destination, complete.destination,
                    "{} cut to {captured}",
                    golden.name
                );
                assert_eq!(
                    sample.ttl, complete.ttl,
                    "{} cut to {captured}",
                    golden.name
                );
            }
        }
    }
}

/// A frame that is short on the wire: nothing was cut by anybody, so its lengths lie.
#[test]
fn every_golden_frame_truncated_on_the_wire_is_classified_or_refused() {
    for golden in golden_frames() {
        for kept in 0..golden.data.len() {
            let _ = of_link(golden.link, &golden.data[..kept]);
        }
    }
}

#[test]
fn every_golden_frame_behind_every_link_type_is_classified_or_refused() {
    let links = [
        LinkType::Ethernet,
        LinkType::RawIp,
        LinkType::BsdNull,
        LinkType::BsdLoop,
        LinkType::LinuxCooked,
        LinkType::LinuxCooked2,
    ];
    for golden in golden_frames() {
        for link in links {
            let _ = of_link(link, &golden.data);
        }
        assert_eq!(
            of_link(LinkType::Unsupported(147), &golden.data).unwrap_err(),
            Undecodable::LinkType
        );
    }
}

/// Run by hand, to give the fuzz targets something to begin with.
#[test]
#[ignore = "writes files: fuzz/corpus/decode and fuzz/corpus/payload"]
fn write_the_golden_frames_as_seeds_for_fuzzing() {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (folder, skip) in [("decode", 0), ("payload", 42)] {
        std::fs::create_dir_all(fuzz.join(folder)).unwrap();
        for golden in golden_frames() {
            let link = match golden.link {
                LinkType::Ethernet => 0,
                LinkType::RawIp => 1,
                LinkType::BsdNull => 2,
                LinkType::BsdLoop => 3,
                LinkType::LinuxCooked => 4,
                _ => 5,
            };
            let head = if folder == "decode" {
                vec![link, 0]
            } else {
                vec![0, 53, 0x11, 0x22]
            };
            let seed = join(&[&head, golden.data.get(skip..).unwrap_or_default()]);
            std::fs::write(
                fuzz.join(folder).join(golden.name.replace([' ', ','], "_")),
                seed,
            )
            .unwrap();
        }
    }
}

// ---- fields ----

#[test]
fn a_tcp_packet_gives_all_its_fields() {
    let sample = of_v4(
        TCP,
        &tcp(tcp_flag::PSH | tcp_flag::ACK, b"GET / HTTP/1.1\r\n"),
    );
    assert_eq!(sample.at, Timestamp::from_seconds(1));
    assert_eq!(
        (sample.source, sample.destination),
        (IpAddr::from(SOURCE), IpAddr::from(TARGET))
    );
    assert_eq!((sample.source_port, sample.destination_port), (54_321, 443));
    assert_eq!((sample.protocol, sample.ttl), (TCP, 57));
    assert_eq!(sample.flags, tcp_flag::PSH | tcp_flag::ACK);
    assert_eq!((sample.sequence, sample.acknowledgement), (9, 8));
    assert_eq!(sample.payload_bytes, 16);
    assert_eq!(sample.content, Content::HttpRequest(HttpMethod::Get));
    assert_eq!(sample.fragment, Fragment::Whole);
}

#[test]
fn padding_behind_a_short_packet_is_not_payload() {
    let padded = join(&[
        &ethernet(0x0800, &v4(TCP, &tcp(tcp_flag::ACK, &[]))),
        &[0; 6],
    ]);
    let sample = of_ethernet(&padded);
    assert_eq!(
        (sample.class, sample.payload_bytes, sample.wire_bytes),
        (TrafficClass::Ack, 0, 60)
    );
}

#[test]
fn payload_that_was_not_captured_counts_by_the_headers_own_lengths() {
    let whole = ethernet(0x0800, &v4(TCP, &tcp(tcp_flag::ACK, &[0; 1_400])));
    let sample = cut(&whole, 54).unwrap();
    assert_eq!(
        (sample.class, sample.payload_bytes, sample.flaw),
        (TrafficClass::TcpData, 1_400, None)
    );
    let whole = ethernet(0x86dd, &v6(UDP, &udp(9, 10, &[0; 1_200])));
    let sample = cut(&whole, 80).unwrap();
    assert_eq!(
        (sample.class, sample.payload_bytes, sample.flaw),
        (TrafficClass::UdpOther, 1_200, None)
    );
}

#[test]
fn a_merged_frame_whose_length_is_zero_is_as_long_as_the_wire_says() {
    let mut packet = v4(TCP, &tcp(tcp_flag::ACK, &[0; 100]));
    packet[2..4].copy_from_slice(&[0, 0]);
    let data = ethernet(0x0800, &packet);
    let whole = Frame {
        wire_bytes: 90_054,
        ..frame(LinkType::Ethernet, &data)
    };
    let sample = interface().classify(&whole).unwrap();
    assert_eq!(
        (sample.class, sample.payload_bytes, sample.flaw),
        (TrafficClass::TcpData, 90_000, None)
    );
}

#[test]
fn icmp_type_and_code_stand_in_the_destination_port() {
    assert_eq!(of_v4(ICMP, &icmp(3, 3, &[0; 28])).destination_port, 0x0303);
    assert_eq!(
        of_v6(ICMPV6, &icmp(1, 4, &[0; 48])).destination_port,
        0x0104
    );
}

#[test]
fn an_error_that_quotes_a_packet_is_an_error_and_never_the_quoted_protocol() {
    let quoted = v4(TCP, &tcp(tcp_flag::SYN, &[]));
    for kind in [3, 4, 5, 11, 12] {
        let sample = of_v4(ICMP, &icmp(kind, 0, &quoted));
        assert_eq!(
            (sample.class, sample.flags, sample.inner),
            (TrafficClass::IcmpError, 0, None)
        );
        assert_eq!(sample.source, IpAddr::from(SOURCE));
    }
    for kind in 1..=4 {
        assert_eq!(
            of_v6(ICMPV6, &icmp(kind, 0, &quoted)).class,
            TrafficClass::IcmpError
        );
    }
}

#[test]
fn sctp_ports_are_read() {
    let sample = of_v4(
        SCTP,
        &[0x0b, 0x59, 0x0b, 0x5a, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4],
    );
    assert_eq!(
        (sample.class, sample.source_port, sample.destination_port),
        (TrafficClass::OtherIp, 2_905, 2_906)
    );
    assert_eq!(sample.payload_bytes, 4);
}

// ---- TCP flags ----

#[test]
fn tcp_classes_are_tried_in_their_order() {
    use TrafficClass as C;
    use tcp_flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
    let cases: [(u8, usize, TrafficClass); 19] = [
        (0, 0, C::TcpOdd),
        (ECE | CWR, 0, C::TcpOdd),
        (0, 10, C::TcpOdd),
        (FIN | PSH | URG, 0, C::TcpOdd),
        (FIN | PSH | URG | ACK, 0, C::Fin),
        (SYN | FIN, 0, C::TcpOdd),
        (0xff, 0, C::TcpOdd),
        (SYN, 0, C::Syn),
        (SYN | ECE | CWR, 0, C::Syn),
        (SYN, 10, C::Syn),
        (SYN | ACK, 0, C::SynAck),
        (SYN | ACK, 10, C::SynAck),
        (RST | ACK, 0, C::Rst),
        (RST, 10, C::Rst),
        (PSH | ACK, 10, C::TcpData),
        (FIN | ACK, 10, C::TcpData),
        (FIN | ACK, 0, C::Fin),
        (PSH | ACK, 0, C::Ack),
        (ACK, 0, C::Ack),
    ];
    for (flags, payload, class) in cases {
        let sample = of_v4(TCP, &tcp(flags, &vec![0; payload]));
        assert_eq!(
            (sample.class, sample.flags),
            (class, flags),
            "flags {flags:#04x} with {payload} bytes"
        );
    }
}

// ---- what is cut or odd ----

#[test]
fn a_tcp_header_with_an_impossible_length_is_odd_and_malformed() {
    for (offset, payload) in [(0x40, 40), (0x00, 40), (0xf0, 0)] {
        let mut segment = tcp(tcp_flag::SYN, &vec![0; payload]);
        segment[12] = offset;
        let sample = of_v4(TCP, &segment);
        assert_eq!(
            (sample.class, sample.flaw),
            (TrafficClass::TcpOdd, Some(Undecodable::TransportMalformed))
        );
        assert_eq!(
            (sample.destination_port, sample.flags),
            (443, tcp_flag::SYN)
        );
    }
    let sample = of_v4(TCP, &tcp(tcp_flag::SYN, &[])[..12]);
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::TcpOdd, Some(Undecodable::TransportMalformed))
    );
}

#[test]
fn a_cut_tcp_header_is_classified_by_the_flags_once_they_were_captured() {
    let syn = ethernet(0x0800, &v4(TCP, &tcp(tcp_flag::SYN, &[])));
    let sample = cut(&syn, 48).unwrap();
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::Syn, Some(Undecodable::TransportCut))
    );
    assert_eq!((sample.source_port, sample.sequence), (54_321, 9));
    let sample = cut(&syn, 47).unwrap();
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::Ack, Some(Undecodable::TransportCut))
    );
    assert_eq!((sample.flags, sample.destination_port), (0, 443));
    let long = ethernet(0x0800, &v4(TCP, &tcp(tcp_flag::ACK, &[0; 500])));
    let sample = cut(&long, 40).unwrap();
    assert_eq!(
        (sample.class, sample.payload_bytes),
        (TrafficClass::TcpData, 500)
    );
}

#[test]
fn cut_tcp_options_do_not_cost_the_flags() {
    let mut segment = tcp(tcp_flag::SYN, &[1; 20]);
    segment[12] = 0xa0;
    let whole = ethernet(0x0800, &v4(TCP, &segment));
    assert_eq!(of_ethernet(&whole).flaw, None);
    let sample = cut(&whole, 60).unwrap();
    assert_eq!((sample.class, sample.payload_bytes), (TrafficClass::Syn, 0));
    assert_eq!(sample.flaw, Some(Undecodable::TransportCut));
}

#[test]
fn a_cut_udp_header_is_classified_by_its_ports() {
    let answer = ethernet(0x0800, &v4(UDP, &udp(53, 4444, &dns_answer())));
    let sample = cut(&answer, 38).unwrap();
    assert_eq!(
        (sample.class, sample.service),
        (TrafficClass::UdpReflected, Some(Service::Dns))
    );
    assert_eq!(sample.flaw, Some(Undecodable::TransportCut));
    let sample = cut(&answer, 35).unwrap();
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::UdpOther, Some(Undecodable::TransportCut))
    );
}

#[test]
fn a_udp_length_that_cannot_be_is_malformed() {
    for told in [0_u16, 7, 13, 65_535] {
        let mut datagram = udp(50_000, 50_001, b"data");
        datagram[4..6].copy_from_slice(&told.to_be_bytes());
        let sample = of_v4(UDP, &datagram);
        assert_eq!(
            (sample.class, sample.payload_bytes),
            (TrafficClass::UdpOther, 4),
            "length {told}"
        );
        assert_eq!(
            sample.flaw,
            Some(Undecodable::TransportMalformed),
            "length {told}"
        );
    }
    assert_eq!(
        of_v4(UDP, &[1, 2, 3]).flaw,
        Some(Undecodable::TransportMalformed)
    );
}

#[test]
fn a_cut_icmp_header_is_classified_by_its_type() {
    let echo = ethernet(0x0800, &v4(ICMP, &icmp(8, 0, &[0; 56])));
    let sample = cut(&echo, 35).unwrap();
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::Echo, Some(Undecodable::TransportCut))
    );
    assert_eq!(cut(&echo, 34).unwrap().class, TrafficClass::IcmpOther);
    assert_eq!(
        of_v4(ICMP, &[8, 0, 0]).flaw,
        Some(Undecodable::TransportMalformed)
    );
}

#[test]
fn an_ip_header_that_cannot_be_read_is_refused_with_the_reason() {
    let packet = ethernet(0x0800, &v4(TCP, &tcp(tcp_flag::SYN, &[])));
    for captured in 14..34 {
        assert_eq!(
            cut(&packet, captured).unwrap_err(),
            Undecodable::IpCut,
            "cut to {captured}"
        );
    }
    for captured in 0..14 {
        assert_eq!(
            cut(&packet, captured).unwrap_err(),
            Undecodable::LinkCut,
            "cut to {captured}"
        );
    }
    let mut short_header = packet.clone();
    short_header[14] = 0x44;
    let mut wrong_version = packet.clone();
    wrong_version[14] = 0x65;
    for malformed in [short_header, wrong_version] {
        assert_eq!(
            of_link(LinkType::Ethernet, &malformed).unwrap_err(),
            Undecodable::IpMalformed
        );
    }
    assert_eq!(
        of_link(LinkType::RawIp, &[]).unwrap_err(),
        Undecodable::IpCut
    );
    assert_eq!(
        of_link(LinkType::RawIp, &[0x51; 40]).unwrap_err(),
        Undecodable::IpMalformed
    );
}

#[test]
fn cut_ipv4_options_do_not_cost_the_addresses() {
    let syn = tcp(tcp_flag::SYN, &[]);
    let packet = ethernet(0x0800, &v4_between(SOURCE, TARGET, 0, TCP, &[1; 40], &syn));
    let sample = cut(&packet, 50).unwrap();
    assert_eq!(
        (sample.source, sample.destination),
        (IpAddr::from(SOURCE), IpAddr::from(TARGET))
    );
    assert_eq!(
        (sample.protocol, sample.flaw),
        (TCP, Some(Undecodable::IpCut))
    );
    assert!(sample.class.is_tcp());
}

#[test]
fn an_ipv4_length_shorter_than_its_header_is_a_flaw() {
    let mut packet = ethernet(0x0800, &v4(TCP, &tcp(tcp_flag::SYN, &[])));
    packet[16..18].copy_from_slice(&[0, 19]);
    let sample = of_ethernet(&packet);
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::Syn, Some(Undecodable::IpMalformed))
    );
}

// ---- fragments ----

#[test]
fn fragments_carry_the_identification_of_their_datagram() {
    let first = v4_between(SOURCE, TARGET, 0x2000, ICMP, &[], &icmp(8, 0, &[0; 1_400]));
    let sample = of_ethernet(&ethernet(0x0800, &first));
    assert_eq!(
        (sample.class, sample.fragment),
        (TrafficClass::Echo, Fragment::First { id: 0x1234 })
    );
    let last = v4_between(SOURCE, TARGET, 0x00b0, ICMP, &[], &[0; 100]);
    let sample = of_ethernet(&ethernet(0x0800, &last));
    assert_eq!(
        sample.fragment,
        Fragment::Later {
            id: 0x1234,
            oversize: false
        }
    );
    assert_eq!(
        (sample.class, sample.protocol, sample.payload_bytes),
        (TrafficClass::Fragment, ICMP, 100)
    );
    assert_eq!((sample.source_port, sample.destination_port), (0, 0));
    let sample = of_v6(44, &fragment_v6(UDP, 0x0100, &[0; 64]));
    assert_eq!(
        sample.fragment,
        Fragment::Later {
            id: 0xabcd,
            oversize: false
        }
    );
    assert_eq!(
        (sample.class, sample.protocol),
        (TrafficClass::Fragment, UDP)
    );
}

#[test]
fn a_datagram_longer_than_65535_bytes_put_together_is_oversize() {
    let oversize = |offset: u16, body: usize| {
        let packet = v4_between(SOURCE, TARGET, offset, ICMP, &[], &vec![0; body]);
        of_ethernet(&ethernet(0x0800, &packet)).fragment
    };
    assert_eq!(
        oversize(0x1fff, 7),
        Fragment::Later {
            id: 0x1234,
            oversize: false
        }
    );
    assert_eq!(
        oversize(0x1fff, 8),
        Fragment::Later {
            id: 0x1234,
            oversize: true
        }
    );
    let sample = of_v6(44, &fragment_v6(ICMPV6, 0xfff8, &[0; 100]));
    assert_eq!(
        sample.fragment,
        Fragment::Later {
            id: 0xabcd,
            oversize: true
        }
    );
}

#[test]
fn a_fragment_header_on_a_whole_packet_changes_nothing() {
    let sample = of_v6(44, &fragment_v6(TCP, 0, &tcp(tcp_flag::SYN, &[])));
    assert_eq!(
        (sample.class, sample.fragment),
        (TrafficClass::Syn, Fragment::Whole)
    );
}

#[test]
fn a_first_fragment_too_short_for_its_transport_header_is_a_fragment() {
    let mut long_options = tcp(tcp_flag::SYN, &[0; 4]);
    long_options[12] = 0xf0;
    let cases: [(u8, &[u8]); 4] = [
        (TCP, &[0; 16]),
        (TCP, &long_options),
        (UDP, &[0, 53, 0, 80]),
        (ICMP, &[8, 0, 0, 0]),
    ];
    for (protocol, body) in cases {
        let packet = v4_between(SOURCE, TARGET, 0x2000, protocol, &[], body);
        let sample = of_ethernet(&ethernet(0x0800, &packet));
        assert_eq!(sample.class, TrafficClass::Fragment, "protocol {protocol}");
        assert_eq!(sample.fragment, Fragment::First { id: 0x1234 });
    }
    // Cut by the capture, not by the sender.
    let whole = ethernet(
        0x0800,
        &v4_between(SOURCE, TARGET, 0x2000, UDP, &[], &udp(53, 4444, &[0; 500])),
    );
    let sample = cut(&whole, 38).unwrap();
    assert_eq!(
        (sample.class, sample.service),
        (TrafficClass::UdpReflected, Some(Service::Dns))
    );
}

#[test]
fn extension_headers_that_reach_beyond_a_first_fragment_make_it_a_fragment() {
    let hidden = fragment_v6(60, 1, &[TCP, 20, 0, 0, 0, 0, 0, 0]);
    assert_eq!(of_v6(44, &hidden).class, TrafficClass::Fragment);
}

#[test]
fn what_stands_behind_a_later_fragment_header_is_no_extension_header() {
    let sample = of_v6(44, &fragment_v6(60, 0x0100, &[44, 0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(
        (sample.class, sample.protocol),
        (TrafficClass::Fragment, 60)
    );
    let authenticated = v4_between(SOURCE, TARGET, 0x0010, AH, &[], &[TCP, 0, 0, 0]);
    let sample = of_ethernet(&ethernet(0x0800, &authenticated));
    assert_eq!(
        (sample.class, sample.protocol, sample.flaw),
        (TrafficClass::Fragment, AH, None)
    );
}

// ---- extension headers ----

#[test]
fn extension_headers_are_followed_eight_deep_and_no_further() {
    let chain = |depth: usize| {
        (1..depth).fold(options_v6(TCP, &tcp(tcp_flag::SYN, &[])), |behind, _| {
            options_v6(60, &behind)
        })
    };
    let sample = of_v6(60, &chain(8));
    assert_eq!((sample.class, sample.flaw), (TrafficClass::Syn, None));
    let sample = of_v6(60, &chain(9));
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::OtherIp, Some(Undecodable::ExtensionDepth))
    );
    assert_eq!(
        (sample.protocol, sample.source),
        (60, IpAddr::from(SOURCE_V6))
    );
}

#[test]
fn a_cut_extension_header_is_told_from_an_impossible_one() {
    let packet = ethernet(0x86dd, &v6(0, &options_v6(TCP, &tcp(tcp_flag::SYN, &[]))));
    assert_eq!(
        cut(&packet, 58).unwrap().flaw,
        Some(Undecodable::ExtensionCut)
    );
    assert_eq!(
        of_v6(0, &[TCP, 200, 0, 0, 0, 0, 0, 0]).flaw,
        Some(Undecodable::IpMalformed)
    );
    assert_eq!(
        of_v6(AH, &[TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).flaw,
        Some(Undecodable::IpMalformed)
    );
    // Hop-by-hop options anywhere but first.
    let misplaced = of_v6(
        60,
        &options_v6(0, &options_v6(TCP, &tcp(tcp_flag::SYN, &[]))),
    );
    assert_eq!(
        (misplaced.class, misplaced.flaw),
        (TrafficClass::OtherIp, Some(Undecodable::IpMalformed))
    );
}

// ---- link layers ----

#[test]
fn a_fifth_tag_and_a_ninth_label_are_too_deep() {
    let packet = v4(TCP, &tcp(tcp_flag::SYN, &[]));
    let tags = (0..4).fold(tag(0x0800, &packet), |behind, _| tag(0x8100, &behind));
    assert_eq!(
        of_link(LinkType::Ethernet, &ethernet(0x8100, &tags)).unwrap_err(),
        Undecodable::LinkDepth
    );
    let labels = (1..8).fold(label(true, &packet), |behind, _| label(false, &behind));
    assert_eq!(
        of_ethernet(&ethernet(0x8847, &labels)).class,
        TrafficClass::Syn
    );
    let labels = label(false, &labels);
    assert_eq!(
        of_link(LinkType::Ethernet, &ethernet(0x8847, &labels)).unwrap_err(),
        Undecodable::LinkDepth
    );
}

#[test]
fn a_frame_cut_inside_its_tags_is_refused() {
    let tagged = ethernet(
        0x88a8,
        &tag(0x8100, &tag(0x0800, &v4(TCP, &tcp(tcp_flag::SYN, &[])))),
    );
    for captured in 14..22 {
        assert_eq!(
            cut(&tagged, captured).unwrap_err(),
            Undecodable::LinkCut,
            "cut to {captured}"
        );
    }
    let labelled = ethernet(0x8847, &label(true, &v4(TCP, &[])));
    assert_eq!(cut(&labelled, 18).unwrap_err(), Undecodable::LinkCut);
    let session = ethernet(0x8864, &pppoe(0x0021, &v4(TCP, &[])));
    assert_eq!(cut(&session, 21).unwrap_err(), Undecodable::LinkCut);
}

#[test]
fn a_pseudowire_is_not_ip() {
    let pseudowire = ethernet(0x8847, &label(true, &[0; 64]));
    assert_eq!(of_ethernet(&pseudowire).class, TrafficClass::NotIp);
}

#[test]
fn what_is_not_ip_has_no_addresses() {
    let sample = of_ethernet(&ethernet(0x0806, &[0; 46]));
    assert_eq!(sample.class, TrafficClass::NotIp);
    assert_eq!(
        (sample.source, sample.destination),
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into())
    );
    assert_eq!(
        (sample.protocol, sample.ttl, sample.payload_bytes),
        (0, 0, 0)
    );
}

#[test]
fn a_family_of_a_null_header_is_read_in_either_byte_order() {
    let four = v4(TCP, &tcp(tcp_flag::SYN, &[]));
    let six = v6(TCP, &tcp(tcp_flag::SYN, &[]));
    for family in [10_u32, 24, 28, 30] {
        for order in [family.to_be_bytes(), family.to_le_bytes()] {
            let sample = of_link(LinkType::BsdNull, &join(&[&order, &six])).unwrap();
            assert_eq!(sample.source, IpAddr::from(SOURCE_V6));
        }
    }
    for order in [2_u32.to_be_bytes(), 2_u32.to_le_bytes()] {
        assert_eq!(
            of_link(LinkType::BsdNull, &join(&[&order, &four]))
                .unwrap()
                .source,
            IpAddr::from(SOURCE)
        );
    }
    let appletalk = join(&[&[16, 0, 0, 0], &four]);
    assert_eq!(
        of_link(LinkType::BsdNull, &appletalk).unwrap().class,
        TrafficClass::NotIp
    );
}

#[test]
fn a_cooked_capture_of_netlink_messages_is_not_ip() {
    let mut message = cooked(4, 0x0800, &v4(TCP, &[]));
    message[2..4].copy_from_slice(&824_u16.to_be_bytes());
    assert_eq!(
        of_link(LinkType::LinuxCooked, &message).unwrap().class,
        TrafficClass::NotIp
    );
}

#[test]
fn tags_are_followed_behind_a_cooked_header_too() {
    let packet = v4(TCP, &tcp(tcp_flag::SYN, &[]));
    let sample = of_link(
        LinkType::LinuxCooked,
        &cooked(0, 0x8100, &tag(0x0800, &packet)),
    )
    .unwrap();
    assert_eq!(sample.class, TrafficClass::Syn);
}

// ---- tunnels ----

fn assert_inner(sample: &Sample, kind: TunnelKind, source: impl Into<IpAddr>, ports: (u16, u16)) {
    let inner = sample.inner.expect("an inner packet");
    assert_eq!((inner.kind, inner.source), (kind, source.into()));
    assert_eq!((inner.source_port, inner.destination_port), ports);
    assert_eq!(sample.source, IpAddr::from(SOURCE), "the outer one decides");
    assert_eq!(sample.flaw, None);
}

#[test]
fn gre_tells_what_it_carries_behind_any_optional_fields() {
    let inner = inner_v4(TCP, &tcp(tcp_flag::SYN, &[]));
    for (flags, options) in [
        (0x0000, 0),
        (0x8000, 4),
        (0x2000, 4),
        (0x1000, 4),
        (0xa000, 8),
        (0xb000, 12),
    ] {
        let sample = of_v4(GRE, &gre(flags, 0x0800, &vec![0xff; options], &inner));
        assert_eq!((sample.class, sample.source_port), (TrafficClass::Gre, 0));
        assert_inner(&sample, TunnelKind::Gre, INNER_SOURCE, (54_321, 443));
    }
    let sample = of_v4(
        GRE,
        &gre(0, 0x6558, &[], &ethernet(0x8100, &tag(0x0800, &inner))),
    );
    assert_inner(&sample, TunnelKind::Gre, INNER_SOURCE, (54_321, 443));
}

#[test]
fn gre_that_carries_no_ip_has_nothing_inside_and_no_flaw() {
    let keepalive = of_v4(GRE, &gre(0, 0, &[], &[]));
    let point_to_point = of_v4(GRE, &gre(0x3001, 0x880b, &[0; 8], &[0xff; 32]));
    let bridged_arp = of_v4(GRE, &gre(0, 0x6558, &[], &ethernet(0x0806, &[0; 28])));
    for sample in [keepalive, point_to_point, bridged_arp] {
        assert_eq!(
            (sample.class, sample.inner, sample.flaw),
            (TrafficClass::Gre, None, None)
        );
    }
}

#[test]
fn gre_whose_content_cannot_be_taken_apart_says_so() {
    let routed = gre(0x4000, 0x0800, &[0; 8], &inner_v4(TCP, &[]));
    let version = gre(0x0003, 0x0800, &[], &inner_v4(TCP, &[]));
    let garbage = gre(0, 0x0800, &[], &[0xff; 20]);
    let short = vec![0; 3];
    for body in [routed, version, garbage, short] {
        let sample = of_v4(GRE, &body);
        assert_eq!((sample.class, sample.inner), (TrafficClass::Gre, None));
        assert_eq!(sample.flaw, Some(Undecodable::TunnelInner));
    }
}

#[test]
fn ip_straight_in_ip_is_other_ip_with_an_inner_packet() {
    let four = inner_v4(UDP, &udp(9, 10, &[]));
    let six = v6(UDP, &udp(9, 10, &[]));
    assert_inner(&of_v4(4, &four), TunnelKind::IpInIp, INNER_SOURCE, (9, 10));
    assert_inner(&of_v4(41, &six), TunnelKind::IpInIp, SOURCE_V6, (9, 10));
    for (next, body) in [(4, &four), (41, &six)] {
        let sample = of_v6(next, body);
        assert_eq!(
            (sample.class, sample.inner.is_some()),
            (TrafficClass::OtherIp, true)
        );
    }
}

#[test]
fn vxlan_and_geneve_tell_what_they_carry() {
    let bridged = ethernet(0x0800, &inner_v4(TCP, &tcp(tcp_flag::SYN, &[])));
    let sample = of_v4(UDP, &vxlan(&bridged));
    assert_eq!(
        (sample.class, sample.destination_port),
        (TrafficClass::UdpOther, 4789)
    );
    assert_inner(&sample, TunnelKind::Vxlan, INNER_SOURCE, (54_321, 443));
    let sample = of_v4(UDP, &geneve(&[0; 12], 0x6558, &bridged));
    assert_eq!(
        (sample.class, sample.destination_port),
        (TrafficClass::UdpOther, 6081)
    );
    assert_inner(&sample, TunnelKind::Geneve, INNER_SOURCE, (54_321, 443));
}

#[test]
fn nonsense_at_the_port_of_a_tunnel_is_a_datagram_and_not_a_broken_tunnel() {
    for port in [4789, 6081] {
        for payload in [&b"\xffnonsense"[..], b"short", &[]] {
            let sample = of_v4(UDP, &udp(50_000, port, payload));
            assert_eq!(
                (sample.class, sample.inner, sample.flaw),
                (TrafficClass::UdpOther, None, None)
            );
        }
    }
}

#[test]
fn tunnels_are_followed_four_deep_and_no_further() {
    let nested =
        |layers: usize| (1..layers).fold(inner_v4(UDP, &udp(9, 10, &[])), |inner, _| v4(4, &inner));
    let sample = of_v4(4, &nested(4));
    assert_inner(&sample, TunnelKind::IpInIp, INNER_SOURCE, (9, 10));
    let sample = of_v4(4, &nested(5));
    assert_eq!(sample.flaw, Some(Undecodable::TunnelDepth));
    assert_eq!(sample.inner.unwrap().protocol, 4);
}

#[test]
fn the_kind_is_the_outermost_and_the_packet_the_innermost() {
    let bridged = ethernet(0x0800, &inner_v4(TCP, &tcp(tcp_flag::SYN, &[])));
    let sample = of_v4(GRE, &gre(0, 0x0800, &[], &v4(UDP, &vxlan(&bridged))));
    assert_eq!(sample.class, TrafficClass::Gre);
    assert_inner(&sample, TunnelKind::Gre, INNER_SOURCE, (54_321, 443));
}

#[test]
fn a_flaw_inside_a_tunnel_is_the_tunnels() {
    let packet = ethernet(
        0x0800,
        &v4(
            GRE,
            &gre(0, 0x0800, &[], &inner_v4(TCP, &tcp(tcp_flag::SYN, &[]))),
        ),
    );
    let sample = cut(&packet, 70).unwrap();
    assert_eq!(
        (sample.class, sample.flaw),
        (TrafficClass::Gre, Some(Undecodable::TunnelInner))
    );
    assert_eq!(sample.inner.unwrap().destination_port, 443);
    let sample = cut(&packet, 50).unwrap();
    assert_eq!(
        (sample.inner, sample.flaw),
        (None, Some(Undecodable::TunnelInner))
    );
}

/// The outer packet is counted, the inner one never: not in frames, classes, protocols, flags, ports or sources.
#[test]
fn what_a_tunnel_carries_is_counted_once() {
    let straight = inner_v4(TCP, &tcp(tcp_flag::SYN, &[]));
    let straight_v6 = v6(TCP, &tcp(tcp_flag::SYN, &[]));
    let bridged = ethernet(0x0800, &straight);
    let (gre_class, in_ip, in_udp) = (
        TrafficClass::Gre,
        TrafficClass::OtherIp,
        TrafficClass::UdpOther,
    );
    for (name, class, protocol, sample) in [
        (
            "GRE",
            gre_class,
            GRE,
            of_v4(GRE, &gre(0, 0x0800, &[], &straight)),
        ),
        (
            "GRE, bridged",
            gre_class,
            GRE,
            of_v4(GRE, &gre(0, 0x6558, &[], &bridged)),
        ),
        ("IPv4 in IPv4", in_ip, 4, of_v4(4, &straight)),
        ("IPv6 in IPv4", in_ip, 41, of_v4(41, &straight_v6)),
        ("IPv4 in IPv6", in_ip, 4, of_v6(4, &straight)),
        ("IPv6 in IPv6", in_ip, 41, of_v6(41, &straight_v6)),
        ("VXLAN", in_udp, UDP, of_v4(UDP, &vxlan(&bridged))),
        (
            "GENEVE",
            in_udp,
            UDP,
            of_v4(UDP, &geneve(&[0; 12], 0x6558, &bridged)),
        ),
        (
            "VXLAN in GRE",
            gre_class,
            GRE,
            of_v4(GRE, &gre(0, 0x0800, &[], &v4(UDP, &vxlan(&bridged)))),
        ),
    ] {
        assert!(sample.inner.is_some(), "{name}");
        let index = WindowIndex::of(sample.at);
        let settings = count::Settings::default();
        let spare = Box::new(Window::new(index, settings.seed));
        let mut meter = Meter::new(settings, index);
        meter.count(&sample);
        let window = meter.close(index.next(), spare);
        let (tally, ends) = (&window.inbound, &window.inbound_ends);
        let one = Count {
            packets: 1,
            bits: u64::from(sample.wire_bytes) * 8,
        };
        assert_eq!((tally.frames, tally.class(class)), (one, one), "{name}");
        assert_eq!(tally.wire(), one, "{name}: in no other class");
        assert_eq!(tally.tunnelled, 1, "{name}");
        assert_eq!(tally.protocols.of(protocol), 1, "{name}");
        assert_eq!(tally.protocols.matching(|_| true), 1, "{name}");
        assert_eq!(
            tally.flags.matching(|_| true),
            0,
            "{name}: flags are the inner packet's"
        );
        let datagrams = u64::from(class == in_udp);
        assert_eq!(ends.udp_ports.total(), datagrams, "{name}");
        assert_eq!(
            ends.udp_ports.of(sample.destination_port),
            datagrams,
            "{name}"
        );
        assert_eq!(ends.tcp_ports.total(), 0, "{name}");
        assert_eq!(ends.sources.distinct().count, 1, "{name}");
        assert_eq!(window.outbound.frames, Count::default(), "{name}");
    }
}

#[test]
fn what_a_tunnel_peer_sends_is_told_as_what_it_carries() {
    let vantage = Vantage::Interface {
        mac: Some(OUR_MAC),
        addresses: Vec::new(),
    };
    let peers = Classifier::new(Settings {
        vantage,
        tunnel_peers: vec![IpAddr::from(SOURCE)],
    });
    let bridged = ethernet(0x0800, &inner_v4(TCP, &tcp(tcp_flag::SYN, &[])));
    let straight = inner_v4(TCP, &tcp(tcp_flag::SYN, &[]));
    for body in [
        v4(GRE, &gre(0, 0x0800, &[], &straight)),
        v4(4, &straight),
        v4(UDP, &vxlan(&bridged)),
    ] {
        let data = ethernet(0x0800, &body);
        let sample = peers.classify(&frame(LinkType::Ethernet, &data)).unwrap();
        assert_eq!(
            (sample.class, sample.source),
            (TrafficClass::Syn, IpAddr::from(INNER_SOURCE))
        );
        assert_eq!(
            (sample.destination_port, sample.flags, sample.protocol),
            (443, tcp_flag::SYN, TCP)
        );
        assert_eq!(sample.direction, Direction::Inbound);
        assert_eq!(sample.wire_bytes, u32::try_from(data.len()).unwrap());
        assert_eq!(sample.inner.unwrap().source, IpAddr::from(INNER_SOURCE));
    }
    // The inner packet of a peer is somebody else's tunnel again: that one is told as a tunnel.
    let nested = ethernet(
        0x0800,
        &v4(4, &inner_v4(GRE, &gre(0, 0x0800, &[], &straight))),
    );
    let sample = peers.classify(&frame(LinkType::Ethernet, &nested)).unwrap();
    assert_eq!(
        (sample.class, sample.inner.unwrap().protocol),
        (TrafficClass::Gre, TCP)
    );
}

// ---- direction ----

fn direction(classifier: &Classifier, link: LinkType, data: &[u8]) -> Direction {
    classifier.classify(&frame(link, data)).unwrap().direction
}

fn between_macs(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    join(&[
        &destination,
        &source,
        &[0x08, 0x00],
        &v4(TCP, &tcp(tcp_flag::SYN, &[])),
    ])
}

#[test]
fn on_an_interface_the_mac_addresses_decide() {
    let here = interface();
    let other = [0x02, 0, 0, 0, 0, 0x03];
    let cases = [
        (OUR_MAC, THEIR_MAC, Direction::Inbound),
        (THEIR_MAC, OUR_MAC, Direction::Outbound),
        (OUR_MAC, OUR_MAC, Direction::Outbound),
        ([0xff; 6], THEIR_MAC, Direction::Inbound),
        ([0x01, 0, 0x5e, 0, 0, 1], THEIR_MAC, Direction::Inbound),
        ([0x33, 0x33, 0, 0, 0, 1], OUR_MAC, Direction::Outbound),
        (other, THEIR_MAC, Direction::Foreign),
    ];
    for (destination, source, expected) in cases {
        assert_eq!(
            direction(
                &here,
                LinkType::Ethernet,
                &between_macs(destination, source)
            ),
            expected
        );
    }
}

#[test]
fn a_frame_without_ip_has_a_direction_on_an_interface_and_none_in_a_file() {
    let arp = ethernet(0x0806, &[0; 28]);
    assert_eq!(
        direction(&interface(), LinkType::Ethernet, &arp),
        Direction::Inbound
    );
    assert_eq!(
        direction(&hosts(&["0.0.0.0/0"]), LinkType::Ethernet, &arp),
        Direction::Foreign
    );
}

#[test]
fn in_a_file_the_destination_is_looked_at_first() {
    let group = [224, 0, 0, 251];
    let stranger = [192, 0, 2, 99];
    let cases: [([u8; 4], [u8; 4], Direction); 9] = [
        (SOURCE, TARGET, Direction::Inbound),
        (TARGET, SOURCE, Direction::Outbound),
        (TARGET, TARGET, Direction::Inbound),
        (SOURCE, stranger, Direction::Foreign),
        (SOURCE, group, Direction::Inbound),
        (SOURCE, [255; 4], Direction::Inbound),
        (TARGET, group, Direction::Outbound),
        (TARGET, [255; 4], Direction::Outbound),
        (group, group, Direction::Inbound),
    ];
    let file = hosts(&["203.0.113.80/32"]);
    for (source, destination, expected) in cases {
        let packet = v4_between(source, destination, 0, TCP, &[], &tcp(tcp_flag::SYN, &[]));
        assert_eq!(
            direction(&file, LinkType::RawIp, &packet),
            expected,
            "{source:?} to {destination:?}"
        );
    }
    // Group to group, with the group listed: the destination counts first.
    let listed = hosts(&["224.0.0.0/4"]);
    let packet = v4_between(group, group, 0, TCP, &[], &tcp(tcp_flag::SYN, &[]));
    assert_eq!(
        direction(&listed, LinkType::RawIp, &packet),
        Direction::Inbound
    );
}

#[test]
fn in_a_file_networks_of_both_versions_count() {
    let file = hosts(&["10.0.0.0/8", "2001:db8::/64"]);
    let inside = inner_v4(TCP, &tcp(tcp_flag::SYN, &[]));
    assert_eq!(
        direction(&file, LinkType::RawIp, &inside),
        Direction::Inbound
    );
    let six = v6(TCP, &tcp(tcp_flag::SYN, &[]));
    assert_eq!(direction(&file, LinkType::RawIp, &six), Direction::Inbound);
    assert_eq!(
        direction(&hosts(&["2001:db8:1::/64"]), LinkType::RawIp, &six),
        Direction::Foreign
    );
}

#[test]
fn where_the_link_has_no_addresses_those_of_the_host_decide() {
    let packet = v4(TCP, &tcp(tcp_flag::SYN, &[]));
    let back = v4_between(TARGET, SOURCE, 0, TCP, &[], &tcp(tcp_flag::SYN, &[]));
    let through = v4_between(
        SOURCE,
        [192, 0, 2, 99],
        0,
        TCP,
        &[],
        &tcp(tcp_flag::SYN, &[]),
    );
    let vantage = Vantage::Interface {
        mac: None,
        addresses: vec![IpAddr::from(TARGET)],
    };
    let without_mac = Classifier::new(Settings {
        vantage,
        tunnel_peers: Vec::new(),
    });
    for classifier in [interface(), without_mac.clone()] {
        assert_eq!(
            direction(&classifier, LinkType::RawIp, &packet),
            Direction::Inbound
        );
        assert_eq!(
            direction(&classifier, LinkType::RawIp, &back),
            Direction::Outbound
        );
        assert_eq!(
            direction(&classifier, LinkType::RawIp, &through),
            Direction::Foreign
        );
    }
    assert_eq!(
        direction(&without_mac, LinkType::Ethernet, &ethernet(0x0800, &back)),
        Direction::Outbound
    );
}

#[test]
fn a_cooked_header_says_the_way_itself() {
    let back = v4_between(TARGET, SOURCE, 0, TCP, &[], &tcp(tcp_flag::SYN, &[]));
    let expected = [
        Direction::Inbound,
        Direction::Inbound,
        Direction::Inbound,
        Direction::Foreign,
        Direction::Outbound,
    ];
    for (packet_type, expected) in (0_u8..).zip(expected) {
        let first = cooked(u16::from(packet_type), 0x0800, &back);
        let second = cooked2(packet_type, 0x0800, &back);
        assert_eq!(
            direction(&interface(), LinkType::LinuxCooked, &first),
            expected
        );
        assert_eq!(
            direction(&interface(), LinkType::LinuxCooked2, &second),
            expected
        );
    }
    // A file is seen by its hosts alone.
    assert_eq!(
        direction(
            &hosts(&["198.51.100.7/32"]),
            LinkType::LinuxCooked,
            &cooked(4, 0x0800, &back)
        ),
        Direction::Inbound
    );
}

// ---- UDP ----

fn of_udp(source: u16, destination: u16, payload: &[u8]) -> (TrafficClass, Option<Service>) {
    let sample = of_v4(UDP, &udp(source, destination, payload));
    (sample.class, sample.service)
}

#[test]
fn an_answer_is_reflected_only_from_its_services_port() {
    assert_eq!(
        of_udp(53, 4444, &dns_answer()),
        (TrafficClass::UdpReflected, Some(Service::Dns))
    );
    assert_eq!(
        of_udp(4444, 53, &dns_answer()),
        (TrafficClass::UdpOther, None)
    );
    assert_eq!(
        of_udp(4444, 5555, b"HTTP/1.1 200 OK\r\nST: x\r\n"),
        (TrafficClass::UdpOther, None)
    );
    let sample = of_v4(UDP, &udp(4444, 5555, b"HTTP/1.1 200 OK\r\nST: x\r\n"));
    assert_eq!(
        sample.content,
        Content::Answer(Service::Ssdp),
        "the payload is still told"
    );
}

#[test]
fn dns_queries_are_requests_whatever_the_source_port() {
    for port in [53, 123, 1900, 4444] {
        assert_eq!(
            of_udp(port, 53, &dns_query()),
            (TrafficClass::DnsQuery, None),
            "from {port}"
        );
    }
}

#[test]
fn a_query_is_recognised_by_its_payload_or_by_the_port_where_that_was_not_captured() {
    let whole = ethernet(0x0800, &v4(UDP, &udp(4444, 53, &dns_query())));
    assert_eq!(cut(&whole, 42).unwrap().class, TrafficClass::DnsQuery);
    let whole = ethernet(0x0800, &v4(UDP, &udp(53, 53, &dns_query())));
    assert_eq!(cut(&whole, 42).unwrap().class, TrafficClass::UdpReflected);
    assert_eq!(
        of_udp(4444, 53, &[0xff; 64]),
        (TrafficClass::UdpOther, None)
    );
    assert_eq!(of_udp(4444, 53, &[]), (TrafficClass::UdpOther, None));
}

#[test]
fn ntp_modes_one_and_three_are_requests_whatever_the_source_port() {
    for (first, class) in [
        (0x21, TrafficClass::UdpOther),
        (0x23, TrafficClass::UdpOther),
        (0x22, TrafficClass::UdpReflected),
        (0x24, TrafficClass::UdpReflected),
        (0x25, TrafficClass::UdpReflected),
    ] {
        assert_eq!(
            of_udp(123, 123, &ntp(first)).0,
            class,
            "first byte {first:#04x}"
        );
        assert_eq!(
            of_udp(123, 4444, &ntp(first)).0,
            class,
            "first byte {first:#04x}"
        );
    }
}

#[test]
fn between_two_symmetric_ports_only_the_payload_tells() {
    for port in [123, 500, 4500, 5060, 1194, 1701, 520, 5353, 137, 47_808] {
        assert_eq!(
            of_udp(port, port, &[0xee; 33]),
            (TrafficClass::UdpOther, None),
            "port {port}"
        );
    }
    assert_eq!(
        of_udp(123, 4444, &[0xee; 33]),
        (TrafficClass::UdpReflected, Some(Service::Ntp))
    );
}

#[test]
fn the_port_alone_reflects_only_where_nobody_holds_conversations() {
    for service in Service::ALL {
        for port in service.ports() {
            let expected = if service.port_alone() {
                (TrafficClass::UdpReflected, Some(service))
            } else {
                (TrafficClass::UdpOther, None)
            };
            assert_eq!(
                of_udp(*port, 45_678, &[0xee; 33]),
                expected,
                "{} at {port}",
                service.name()
            );
            assert_eq!(
                of_udp(*port, 45_678, &[]),
                expected,
                "{} at {port}, empty",
                service.name()
            );
        }
    }
}

#[test]
fn a_payload_of_another_kind_contradicts_the_port() {
    for payload in [
        quic_initial(),
        b"SIP/2.0 200 OK\r\n".to_vec(),
        b"M-SEARCH * HTTP/1.1\r\n".to_vec(),
    ] {
        let (class, service) = of_udp(19, 45_678, &payload);
        assert!(
            class != TrafficClass::UdpReflected && service.is_none(),
            "{class:?}"
        );
    }
    assert_eq!(of_udp(53, 123, &ntp(0x23)), (TrafficClass::UdpOther, None));
}

#[test]
fn an_answer_is_reflected_whatever_service_the_victims_port_belongs_to() {
    for port in [80, 123, 443, 1900, 11_211] {
        assert_eq!(
            of_udp(53, port, &dns_answer()),
            (TrafficClass::UdpReflected, Some(Service::Dns)),
            "to {port}"
        );
    }
}

#[test]
fn quic_is_known_by_its_long_header_anywhere_and_by_its_short_one_at_443() {
    assert_eq!(of_udp(50_000, 8_443, &quic_initial()).0, TrafficClass::Quic);
    assert_eq!(of_udp(443, 50_000, &quic_initial()).0, TrafficClass::Quic);
    for (source, destination, class) in [
        (443, 50_000, TrafficClass::Quic),
        (50_000, 443, TrafficClass::Quic),
        (50_000, 50_001, TrafficClass::UdpOther),
    ] {
        assert_eq!(of_udp(source, destination, &[0x4b; 80]).0, class);
        assert_eq!(
            of_udp(source, destination, &[0x17; 80]).0,
            TrafficClass::UdpOther
        );
    }
}

#[test]
fn the_first_fragment_of_a_long_answer_is_recognised() {
    let mut body = udp(
        53,
        4444,
        &join(&[
            &[0x1f, 0x2e, 0x85, 0x80, 0, 1, 0, 200, 0, 0, 0, 0],
            &[0xaa; 1_400],
        ]),
    );
    body[4..6].copy_from_slice(&4_008_u16.to_be_bytes());
    let packet = v4_between(SOURCE, TARGET, 0x2000, UDP, &[], &body);
    let sample = of_ethernet(&ethernet(0x0800, &packet));
    assert_eq!(
        (sample.content, sample.class),
        (Content::Answer(Service::Dns), TrafficClass::UdpReflected)
    );
    assert_eq!((sample.payload_bytes, sample.flaw), (1_412, None));
}

// ---- differential ----

/// What etherparse makes of an Ethernet frame, as far as it and we speak of the same things.
#[derive(Debug, PartialEq, Eq)]
struct Oracle {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ttl: u8,
    fragmented: bool,
    ports: Option<(u16, u16)>,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
}

/// What the lax slices say; nothing where they found no IP header or stopped at an error.
fn oracle(data: &[u8]) -> Option<Oracle> {
    let sliced = LaxSlicedPacket::from_ethernet(data).ok()?;
    if sliced.stop_err.is_some() {
        return None;
    }
    let (ttl, source, destination): (u8, IpAddr, IpAddr) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (
                header.ttl(),
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.hop_limit(),
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let payload = sliced.net.as_ref()?.ip_payload_ref()?;
    let mut seen = Oracle {
        source,
        destination,
        protocol: payload.ip_number.0,
        ttl,
        fragmented: payload.fragmented,
        ports: None,
        flags: 0,
        sequence: 0,
        acknowledgement: 0,
    };
    match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            seen.ports = Some((tcp.source_port(), tcp.destination_port()));
            seen.flags = tcp.slice()[13];
            seen.sequence = tcp.sequence_number();
            seen.acknowledgement = tcp.acknowledgment_number();
        }
        Some(TransportSlice::Udp(udp)) => {
            seen.ports = Some((udp.source_port(), udp.destination_port()))
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            seen.ports = Some((0, u16::from_be_bytes([icmp.type_u8(), icmp.code_u8()])));
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            seen.ports = Some((0, u16::from_be_bytes([icmp.type_u8(), icmp.code_u8()])));
        }
        _ => {}
    }
    Some(seen)
}

/// Whether etherparse reads another version of IP than the EtherType before it announces: it goes by the version alone,
/// we call such a packet malformed.
fn is_announced_as_another(data: &[u8]) -> bool {
    let sliced = LaxSlicedPacket::from_ethernet(data).unwrap();
    let (header, announced) = match sliced.net.as_ref().unwrap() {
        LaxNetSlice::Ipv4(ip) => (ip.header().slice(), [0x08, 0x00]),
        LaxNetSlice::Ipv6(ip) => (ip.header().slice(), [0x86, 0xdd]),
        LaxNetSlice::Arp(_) => return false,
    };
    let begin = header.as_ptr() as usize - data.as_ptr() as usize;
    data[begin - 2..begin] != announced
}

/// Holds our sample against the oracle; says whether there was anything to compare.
fn agree(data: &[u8], wire_bytes: u32) -> Result<bool, String> {
    let ours = interface().classify(&Frame {
        wire_bytes,
        ..frame(LinkType::Ethernet, data)
    });
    let (ours, theirs) = match (ours, oracle(data)) {
        (Ok(ours), Some(theirs)) => (ours, theirs),
        // They stop at what we follow: labels, PPPoE, more tags, IP behind a length that cannot be.
        (_, None) => return Ok(false),
        // The one thing that we alone refuse.
        (Err(Undecodable::IpMalformed), Some(_)) if is_announced_as_another(data) => {
            return Ok(false);
        }
        (Err(reason), Some(theirs)) => {
            return Err(format!("refused as {reason:?}\netherparse's {theirs:?}"));
        }
    };
    // Where we follow a chain further, or refuse to, or found a later fragment's "extension headers" to be payload.
    let comparable = ours.flaw != Some(Undecodable::ExtensionDepth)
        && !(matches!(ours.fragment, Fragment::Later { .. }) && ours.protocol != theirs.protocol)
        && ours.class != TrafficClass::NotIp;
    if !comparable {
        return Ok(false);
    }
    let whole = !theirs.fragmented;
    let seen = Oracle {
        source: ours.source,
        destination: ours.destination,
        protocol: ours.protocol,
        ttl: ours.ttl,
        fragmented: ours.fragment != Fragment::Whole,
        ports: if theirs.ports.is_some() {
            Some((ours.source_port, ours.destination_port))
        } else {
            None
        },
        flags: if whole { ours.flags } else { 0 },
        sequence: if whole { ours.sequence } else { 0 },
        acknowledgement: if whole { ours.acknowledgement } else { 0 },
    };
    // A cut header's fields are ours alone.
    if theirs.ports.is_none() && ours.protocol == TCP {
        return Ok(false);
    }
    if seen == theirs {
        Ok(true)
    } else {
        Err(format!("ours {seen:?}\netherparse's {theirs:?}"))
    }
}

/// A frame by etherparse's builder: with or without a tag, either version of IP, any of the common protocols.
fn built_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        Just(dns_answer()),
        Just(dns_query()),
        Just(quic_initial()),
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(tls_client_hello()),
    ];
    let port = || {
        prop_oneof![
            any::<u16>(),
            prop::sample::select(vec![53, 123, 443, 4500, 4789, 6081, 1900])
        ]
    };
    (
        0_u8..3,
        any::<bool>(),
        0_u8..3,
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        port(),
        port(),
        any::<u8>(),
        payload,
    )
        .prop_map(
            |(tags, six, kind, source, destination, from, to, flags, payload)| {
                let link = PacketBuilder::ethernet2(THEIR_MAC, OUR_MAC);
                let four = |bytes: [u8; 16]| [bytes[0], bytes[1], bytes[2], bytes[3]];
                macro_rules! ip {
                    ($step:expr) => {
                        if six {
                            $step.ipv6(source, destination, 61)
                        } else {
                            $step.ipv4(four(source), four(destination), 61)
                        }
                    };
                }
                let ip = match tags {
                    0 => ip!(link),
                    1 => ip!(link.single_vlan(7.try_into().unwrap())),
                    _ => ip!(link.double_vlan(7.try_into().unwrap(), 8.try_into().unwrap())),
                };
                finish(ip, kind, six, (from, to), flags, &payload)
            },
        )
}

fn finish(
    ip: PacketBuilderStep<etherparse::IpHeaders>,
    kind: u8,
    six: bool,
    (from, to): (u16, u16),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    match kind {
        0 => {
            let mut tcp = etherparse::TcpHeader::new(from, to, 77, 1_024);
            tcp.fin = flags & 1 != 0;
            tcp.syn = flags & 2 != 0;
            tcp.rst = flags & 4 != 0;
            tcp.psh = flags & 8 != 0;
            tcp.ack = flags & 16 != 0;
            tcp.urg = flags & 32 != 0;
            tcp.acknowledgment_number = 78;
            if flags & 64 != 0 {
                tcp.set_options_raw(&[1; 12]).unwrap();
            }
            ip.tcp_header(tcp).write(&mut bytes, payload).unwrap();
        }
        1 => ip.udp(from, to).write(&mut bytes, payload).unwrap(),
        // Types from 13 on have longer headers than the payloads here are sure to fill.
        _ if six => ip
            .icmpv6_raw(flags, 0, [0; 4])
            .write(&mut bytes, payload)
            .unwrap(),
        _ => ip
            .icmpv4_raw(flags % 13, 0, [0; 4])
            .write(&mut bytes, payload)
            .unwrap(),
    }
    bytes
}

/// A built frame, damaged: some bytes overwritten, and cut.
fn damaged_frame() -> impl Strategy<Value = (Vec<u8>, u32)> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let early = prop::collection::vec((0_usize..64, any::<u8>()), 0..3);
    (
        built_frame(),
        damage,
        early,
        prop::option::of(any::<prop::sample::Index>()),
    )
        .prop_map(|(mut frame, damage, early, cut)| {
            for (at, value) in damage {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            for (at, value) in early {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            let wire = u32::try_from(frame.len()).unwrap();
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
            (frame, wire)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_built_frame_is_read_as_etherparse_reads_it(data in built_frame()) {
        let wire = u32::try_from(data.len()).unwrap();
        prop_assert_eq!(agree(&data, wire), Ok(true));
    }

    #[test]
    fn any_bytes_behind_any_link_type_are_classified_or_refused(
        data in prop::collection::vec(any::<u8>(), 0..200),
        number in prop::sample::select(vec![0_u32, 1, 101, 108, 113, 276]),
        wire in any::<u32>(),
    ) {
        let link = LinkType::from_registered(number);
        let _ = interface().classify(&Frame { wire_bytes: wire, ..frame(link, &data) });
    }
}

#[test]
fn a_damaged_frame_is_read_as_etherparse_reads_it_wherever_it_accepts() {
    const CASES: u32 = 4_096;
    let compared = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&damaged_frame(), |(data, wire)| {
        let yes = agree(&data, wire).map_err(TestCaseError::fail)?;
        compared.set(compared.get() + u32::from(yes));
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    let compared = compared.get();
    tell!("{compared} of {CASES} damaged frames compared with etherparse");
    assert!(compared > CASES / 2, "only {compared} frames compared");
}

// ---- real captures ----

/// The development captures, where they are at hand.
fn shared_captures(folder: &str) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![needs::shared("corpus")?.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()? {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    Some(found)
}

#[test]
fn real_captures_are_read_as_etherparse_reads_them() {
    let mut compared = 0_u64;
    for folder in ["attacks", "benign", "not_ddos", "malformed"] {
        let Some(files) = shared_captures(folder) else {
            tell!("skipped: no development captures beside the project");
            return;
        };
        for path in files {
            let Ok(mut capture) = pcap::Capture::from_file(&path) else {
                continue;
            };
            let link = LinkType::from_registered(
                u32::try_from(capture.get_datalink().0).unwrap_or(u32::MAX),
            );
            let mut classes = [0_u64; TrafficClass::COUNT];
            let mut services = [0_u64; Service::COUNT];
            let mut reasons = [0_u64; Undecodable::COUNT];
            while let Ok(packet) = capture.next_packet() {
                let whole = Frame {
                    wire_bytes: packet.header.len,
                    ..frame(link, packet.data)
                };
                match interface().classify(&whole) {
                    Ok(sample) => {
                        classes[sample.class as usize] += 1;
                        if let Some(service) = sample.service {
                            services[service as usize] += 1;
                        }
                        if let Some(reason) = sample.flaw {
                            reasons[reason as usize] += 1;
                        }
                    }
                    Err(reason) => reasons[reason as usize] += 1,
                }
                if link == LinkType::Ethernet {
                    match agree(packet.data, packet.header.len) {
                        Ok(yes) => compared += u64::from(yes),
                        Err(difference) => {
                            panic!("{}: {difference}\n{:02x?}", path.display(), packet.data)
                        }
                    }
                }
            }
            if folder != "malformed" {
                print!("{}:", path.file_name().unwrap().to_string_lossy());
                let named = TrafficClass::ALL
                    .iter()
                    .map(|class| class.name())
                    .zip(classes);
                let named = named.chain(
                    Service::ALL
                        .iter()
                        .map(|service| service.name())
                        .zip(services),
                );
                let named = named.chain(
                    Undecodable::ALL
                        .iter()
                        .map(|reason| reason.name())
                        .zip(reasons),
                );
                for (name, count) in named.filter(|(_, count)| *count > 0) {
                    print!(" {name}={count}");
                }
                println!();
            }
        }
    }
    tell!("{compared} frames of real captures compared with etherparse");
    assert!(compared > 250_000, "only {compared} frames compared");
}
