//! Packets of a capture as values: read, shifted in time, written again as pcap or pcapng.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use ftagent::capture::replay::CaptureReader;
use ftagent::capture::{Capture, LinkType, PacketSource};
use ftagent::clock::Timestamp;

/// More than any frame here has.
const SNAPLEN: u32 = 262_144;

/// One packet with what a capture file says about it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// When it was captured.
    pub(crate) at: Timestamp,
    /// Its length on the wire.
    pub(crate) wire_bytes: u32,
    /// What was captured of it.
    pub(crate) data: Vec<u8>,
}

impl Packet {
    /// A SYN to port 80.
    pub(crate) fn syn(at: Timestamp, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let mut tcp = [0; 20];
        tcp[..4].copy_from_slice(&[0xc0, 0x00, 0, 80]);
        // Five words of header, SYN, a window.
        tcp[12..16].copy_from_slice(&[0x50, 0x02, 0xfa, 0xf0]);
        Self::v4(at, 6, source, destination, &tcp)
    }

    /// A datagram of ten bytes to port 9000.
    pub(crate) fn udp(at: Timestamp, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        let mut udp = [0; 18];
        udp[..6].copy_from_slice(&[0xc0, 0x00, 0x23, 0x28, 0, 18]);
        Self::v4(at, 17, source, destination, &udp)
    }

    /// A frame of a type that nobody takes apart, cut inside its header.
    pub(crate) fn cut(at: Timestamp) -> Self {
        Self {
            at,
            wire_bytes: 60,
            data: vec![2, 0, 0, 0, 0, 1, 2, 0],
        }
    }

    fn v4(
        at: Timestamp,
        protocol: u8,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        transport: &[u8],
    ) -> Self {
        let length = u16::try_from(20 + transport.len()).expect("a packet is short");
        let mut data = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        data.extend([0x45, 0]);
        data.extend(length.to_be_bytes());
        data.extend([0, 0, 0x40, 0, 57, protocol, 0, 0]);
        data.extend(source.octets());
        data.extend(destination.octets());
        data.extend(transport);
        data.resize(data.len().max(60), 0);
        Self {
            at,
            wire_bytes: 60,
            data,
        }
    }
}

/// Packets of one link type, in the order of their capture.
#[derive(Clone, Debug)]
pub(crate) struct Packets {
    link: u32,
    packets: Vec<Packet>,
}

impl Packets {
    /// Ethernet frames.
    pub(crate) fn ethernet(packets: Vec<Packet>) -> Self {
        Self { link: 1, packets }
    }

    /// All packets of a capture file. Panics when it is damaged or has several link types.
    pub(crate) fn read(file: &Path) -> Self {
        let mut source = CaptureReader::open(file).expect("the capture can be opened");
        let mut link = None;
        let mut packets = Vec::new();
        loop {
            match source.next().expect("the capture is not damaged") {
                Capture::Frame(frame) => {
                    let number = registered(frame.link);
                    assert_eq!(*link.get_or_insert(number), number, "one link type");
                    packets.push(Packet {
                        at: frame.at,
                        wire_bytes: frame.wire_bytes,
                        data: frame.data.to_vec(),
                    });
                }
                Capture::Idle => {}
                Capture::End => break,
            }
        }
        Self {
            link: link.expect("the capture holds packets"),
            packets,
        }
    }

    /// The same packets `times` times, each time a second after the last one.
    pub(crate) fn repeated(&self, times: u64) -> Self {
        let (Some(first), Some(last)) = (self.packets.first(), self.packets.last()) else {
            return self.clone();
        };
        let round = last.at.nanos_since(first.at) + Timestamp::NANOS_PER_SECOND;
        let again = |number: u64| {
            self.packets.iter().map(move |packet| Packet {
                at: packet.at.plus_nanos(number * round),
                ..packet.clone()
            })
        };
        Self {
            link: self.link,
            packets: (0..times).flat_map(again).collect(),
        }
    }

    /// From the first packet to the last.
    pub(crate) fn seconds(&self) -> u64 {
        match (self.packets.first(), self.packets.last()) {
            (Some(first), Some(last)) => {
                last.at.nanos_since(first.at) / Timestamp::NANOS_PER_SECOND
            }
            _ => 0,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Writes them as classic pcap with nanoseconds, `later_seconds` after they were captured.
    pub(crate) fn write_pcap(&self, file: &Path, later_seconds: u64) {
        let mut bytes = Vec::new();
        // The magic number of nanosecond files, version 2.4, no time zone, no accuracy.
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, SNAPLEN, self.link] {
            bytes.extend(u32::to_le_bytes(word));
        }
        for packet in &self.packets {
            let seconds = packet.at.as_seconds() + later_seconds;
            let nanos = packet.at.as_nanos() % Timestamp::NANOS_PER_SECOND;
            bytes.extend(word(seconds).to_le_bytes());
            bytes.extend(word(nanos).to_le_bytes());
            bytes.extend(captured(packet).to_le_bytes());
            bytes.extend(packet.wire_bytes.to_le_bytes());
            bytes.extend(&packet.data);
        }
        fs::write(file, bytes).expect("a capture can be written");
    }

    /// Writes them as pcapng with nanoseconds: one section, one interface, enhanced packet blocks.
    pub(crate) fn write_pcapng(&self, file: &Path) {
        let mut bytes = Vec::new();
        let section = [
            &0x1a2b_3c4d_u32.to_le_bytes()[..],
            &1_u32.to_le_bytes(),
            &u64::MAX.to_le_bytes(),
        ];
        block(&mut bytes, 0x0a0d_0d0a, &section.concat());
        // The option if_tsresol says that time stamps count 10^-9 s.
        let resolution = [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let interface = [
            &self.link.to_le_bytes()[..],
            &SNAPLEN.to_le_bytes(),
            &resolution,
        ];
        block(&mut bytes, 1, &interface.concat());
        for packet in &self.packets {
            let nanos = packet.at.as_nanos();
            let head = [
                0,
                word(nanos >> 32),
                word(nanos & u64::from(u32::MAX)),
                captured(packet),
                packet.wire_bytes,
            ];
            let mut body = head.map(u32::to_le_bytes).concat();
            body.extend(&packet.data);
            block(&mut bytes, 6, &body);
        }
        fs::write(file, bytes).expect("a capture can be written");
    }
}

/// A pcapng block: type, length, body in whole words, length again.
fn block(bytes: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let padded = body.len().next_multiple_of(4);
    let length = u32::try_from(padded + 12).expect("a block is short");
    bytes.extend(kind.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len() + padded - body.len(), 0);
    bytes.extend(length.to_le_bytes());
}

fn captured(packet: &Packet) -> u32 {
    u32::try_from(packet.data.len()).expect("a packet is short")
}

fn word(value: u64) -> u32 {
    u32::try_from(value).expect("it fits into 32 bits")
}

fn registered(link: LinkType) -> u32 {
    match link {
        LinkType::BsdNull => 0,
        LinkType::Ethernet => 1,
        LinkType::RawIp => 101,
        LinkType::BsdLoop => 108,
        LinkType::LinuxCooked => 113,
        LinkType::LinuxCooked2 => 276,
        LinkType::Unsupported(number) => number,
    }
}
