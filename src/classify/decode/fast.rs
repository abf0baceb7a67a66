//! The commonest frames, in one short walk.
//!
//! Ethernet with at most one VLAN tag, IPv4 without options or fragments or IPv6 without extension headers, and a
//! complete TCP, UDP or ICMP header that is no tunnel's. Anything else, and anything odd, is left to the whole way. The
//! two must agree wherever this one answers; a property test holds them to it.
//!
//! Its parts are inlined without asking: passed through memory, headers written in pieces and read back whole stall the
//! processor for longer than the rest of the walk takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Fragment, Sample, Undecodable, payload};
use super::direction::LinkSays;
use super::ip::{Packet, protocol};
use super::transport::{Transport, icmp_transport, tcp_class, udp_transport};
use super::{Classifier, at_most, tunnel};
use crate::capture::{Frame, LinkType};

/// What comes of a frame, which may be that nothing does.
type Classified = Result<Sample, Undecodable>;

/// The sample of a frame that is one of the commonest kinds; for any other what the `whole_way` makes of it.
///
/// The result is made where the caller wants it. Handing on an `Option<Sample>` costs more than all the walking: a
/// sample is written in small pieces, and the wide loads of a copy have to wait for each of them.
#[inline]
pub(super) fn classify(
    classifier: &Classifier,
    frame: &Frame<'_>,
    whole_way: impl Fn() -> Classified,
) -> Classified {
    let Some((link_says, ether_type, rest)) = ethernet(frame) else {
        return whole_way();
    };
    // Each version goes its own way to the end: where they meet, addresses of two sizes would have to go through memory.
    match ether_type {
        0x0800 => finish(classifier, frame, link_says, v4(rest), whole_way),
        0x86dd => finish(classifier, frame, link_says, v6(rest), whole_way),
        _ => whole_way(),
    }
}

#[inline(always)]
fn finish(
    classifier: &Classifier,
    frame: &Frame<'_>,
    link_says: LinkSays<'_>,
    packet: Option<Packet<'_>>,
    whole_way: impl Fn() -> Classified,
) -> Classified {
    match packet.and_then(with_transport) {
        Some((packet, transport)) => Ok(classifier.sample(frame, link_says, packet, transport)),
        None => whole_way(),
    }
}

/// The Ethernet header, the EtherType behind at most one tag, and what follows it.
#[inline(always)]
fn ethernet<'a>(frame: &Frame<'a>) -> Option<(LinkSays<'a>, u16, &'a [u8])> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let (destination, rest) = frame.data.split_first_chunk::<6>()?;
    let (source, rest) = rest.split_first_chunk::<6>()?;
    let (ether_type, rest) = rest.split_first_chunk::<2>()?;
    let link_says = LinkSays::Addresses {
        destination,
        source,
    };
    match u16::from_be_bytes(*ether_type) {
        0x8100 => {
            let (tag, rest) = rest.split_first_chunk::<4>()?;
            Some((link_says, u16::from_be_bytes([tag[2], tag[3]]), rest))
        }
        untagged => Some((link_says, untagged, rest)),
    }
}

#[inline(always)]
fn with_transport(packet: Packet<'_>) -> Option<(Packet<'_>, Transport)> {
    let transport = match packet.protocol {
        protocol::TCP => tcp(packet.body, packet.body_bytes)?,
        protocol::UDP => udp(packet.body, packet.body_bytes)?,
        protocol::ICMP | protocol::ICMPV6 => icmp(packet.protocol, packet.body, packet.body_bytes)?,
        _ => return None,
    };
    Some((packet, transport))
}

#[inline(always)]
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

#[inline(always)]
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

#[inline(always)]
fn tcp(body: &[u8], body_bytes: u32) -> Option<Transport> {
    let header = body.first_chunk::<20>()?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < 20 {
        return None;
    }
    let payload = body.get(header_bytes..)?;
    let payload_bytes = body_bytes.checked_sub(u32::from(header[12] >> 4) * 4)?;
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

#[inline(always)]
fn udp(body: &[u8], body_bytes: u32) -> Option<Transport> {
    let (header, behind) = body.split_first_chunk::<8>()?;
    let source_port = u16::from_be_bytes([header[0], header[1]]);
    let destination_port = u16::from_be_bytes([header[2], header[3]]);
    let length_bytes = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let possible = length_bytes <= body_bytes;
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

#[inline(always)]
fn icmp(number: u8, body: &[u8], body_bytes: u32) -> Option<Transport> {
    let header = body.first_chunk::<8>()?;
    Some(icmp_transport(
        number,
        header[0],
        header[1],
        body_bytes.checked_sub(8)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, Vantage};
    use super::*;
    use crate::clock::Timestamp;
    use proptest::prelude::*;

    fn classifiers() -> [Classifier; 2] {
        let ours = [2, 0, 0, 0, 0, 1];
        [
            Vantage::Interface {
                mac: Some(ours),
                addresses: Vec::new(),
            },
            Vantage::Hosts(vec![
                "192.0.2.0/24".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ]),
        ]
        .map(|vantage| {
            Classifier::new(Settings {
                vantage,
                tunnel_peers: vec![[192, 0, 2, 9].into()],
            })
        })
    }

    fn ethernet(data: &[u8], wire_bytes: u32) -> Frame<'_> {
        Frame {
            at: Timestamp::from_seconds(1),
            link: LinkType::Ethernet,
            wire_bytes,
            data,
        }
    }

    fn short(frame: &Frame<'_>) -> Option<Sample> {
        classifiers()
            .iter()
            .find_map(|classifier| walked(classifier, frame))
    }

    /// The sample of the short walk, if it took the frame.
    fn walked(classifier: &Classifier, frame: &Frame<'_>) -> Option<Sample> {
        classify(classifier, frame, || Err(Undecodable::LinkType)).ok()
    }

    /// Both ways to a sample, written out: samples have many fields and no equality.
    fn both(data: &[u8], wire_bytes: u32) -> Vec<(String, String)> {
        let frame = ethernet(data, wire_bytes);
        classifiers()
            .iter()
            .filter_map(|classifier| {
                let short = walked(classifier, &frame)?;
                Some((
                    format!("{:?}", Ok::<_, Undecodable>(short)),
                    format!("{:?}", classifier.classify_any(&frame)),
                ))
            })
            .collect()
    }

    /// Ethernet frames near the commonest ones: headers put together from fields that are mostly right.
    fn near_common() -> impl Strategy<Value = Vec<u8>> {
        let mostly = |usual: u8| prop_oneof![9 => Just(usual), 1 => any::<u8>()];
        let port = || {
            prop_oneof![
                Just(53_u16),
                Just(123),
                Just(443),
                Just(4789),
                Just(6081),
                Just(500),
                any::<u16>()
            ]
        };
        let network = (
            any::<bool>(),
            any::<bool>(),
            mostly(0x45),
            prop::sample::select(vec![1_u8, 6, 17, 58, 47, 4]),
            prop_oneof![9 => Just(0_u16), 1 => any::<u16>()],
            prop_oneof![8 => Just(0_i32), 2 => -80..80_i32],
        );
        let transport = (
            port(),
            port(),
            mostly(0x50),
            any::<u8>(),
            prop_oneof![8 => Just(0_i32), 2 => -40..40_i32],
        );
        let payload = prop::collection::vec(any::<u8>(), 0..80);
        (network, transport, payload, any::<[u8; 8]>()).prop_map(
            |(network, transport, payload, noise)| {
                let (six, tagged, first, protocol, fragmentation, ip_off) = network;
                let (source, destination, offset, flags, udp_off) = transport;
                let off = |length: usize, by: i32| {
                    let told = i32::try_from(length).unwrap() + by;
                    u16::try_from(told.clamp(0, 65_535)).unwrap().to_be_bytes()
                };
                let mut body = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                match protocol {
                    6 => {
                        body.extend_from_slice(&noise);
                        body.extend_from_slice(&[offset, flags, 0, 0, 0, 0, 0, 0]);
                    }
                    17 => {
                        body.extend_from_slice(&off(8 + payload.len(), udp_off));
                        body.extend_from_slice(&[0, 0]);
                    }
                    _ => body.extend_from_slice(&noise[..4]),
                }
                body.extend_from_slice(&payload);
                let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
                if tagged {
                    frame.extend_from_slice(&[0x81, 0, 0, 7]);
                }
                if six {
                    frame.extend_from_slice(&[0x86, 0xdd, first & 0x0f | 0x60, 0, 0, 0]);
                    frame.extend_from_slice(&off(body.len(), ip_off));
                    frame.extend_from_slice(&[protocol, 64]);
                    frame.extend_from_slice(&[
                        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, noise[0],
                    ]);
                    frame.extend_from_slice(&[
                        0x20, 0x01, 0x0d, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, noise[1],
                    ]);
                } else {
                    frame.extend_from_slice(&[0x08, 0, first, 0]);
                    frame.extend_from_slice(&off(20 + body.len(), ip_off));
                    frame.extend_from_slice(&[noise[2], noise[3]]);
                    frame.extend_from_slice(&fragmentation.to_be_bytes());
                    frame.extend_from_slice(&[
                        64, protocol, 0, 0, 192, 0, 2, noise[4], 198, 51, 100, noise[5],
                    ]);
                }
                frame.extend_from_slice(&body);
                frame
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8_192, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wherever_the_short_walk_answers_the_whole_way_gives_the_same_sample(
            frame in near_common(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in prop::option::of(any::<prop::sample::Index>()),
            padding in 0_usize..8,
        ) {
            let mut frame = frame;
            for (at, value) in damage {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            frame.resize(frame.len() + padding, 0);
            let wire_bytes = u32::try_from(frame.len()).unwrap();
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len()));
            }
            for (short, whole) in both(&frame, wire_bytes) {
                prop_assert_eq!(short, whole);
            }
        }
    }

    #[test]
    fn the_commonest_frames_take_the_short_walk() {
        let mut syn = vec![
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0,
        ];
        syn.extend_from_slice(&[198, 51, 100, 7, 192, 0, 2, 1]);
        syn.extend_from_slice(&[
            0xd4, 0x31, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
        ]);
        assert!(short(&ethernet(&syn, 60)).is_some());
        let mut tagged = syn.clone();
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        assert!(short(&ethernet(&tagged, 64)).is_some());
        for (at, value) in [(14, 0x46), (20, 0x20), (23, 47), (46, 0x40)] {
            let mut odd = syn.clone();
            odd[at] = value;
            assert!(
                short(&ethernet(&odd, 60)).is_none(),
                "byte {at} is {value:#04x}"
            );
        }
        assert!(short(&ethernet(&syn[..53], 60)).is_none());
    }
}
