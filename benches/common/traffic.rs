//! Traffic made up in memory, the same in every run: what benches, and tests of bounds, feed the engine with.
//!
//! Headers are written by hand and without checksums, which nobody here looks at.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ftagent::capture::{Frame, LinkType};
use ftagent::classify::{Settings, Vantage, tcp_flag};
use ftagent::clock::Timestamp;
use ftagent::count::{Seeded, WINDOW_NANOS, WindowIndex};

/// Packets in a window of 50 ms at 14.88 Mpps: 64-byte frames (60 without FCS) at 10 GbE line rate.
pub(crate) const LINE_RATE_WINDOW: usize = 744_000;

/// When the traffic begins: the start of some UTC second.
pub(crate) const BEGINNING: Timestamp = Timestamp::from_seconds(1_773_567_858);

/// The protected host.
pub(crate) const HOST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Its other address.
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The shortest Ethernet frame, in bytes without FCS.
const MIN_FRAME_BYTES: usize = 60;

/// Bytes kept of each frame: more than any header here, and the payload that names a service.
const SNAP_BYTES: usize = 256;

/// Where the source address stands in an untagged frame.
const V4_SOURCE_AT: usize = 26;
const V6_SOURCE_AT: usize = 22;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Senders {
    /// A uniformly random address each.
    Random,
    /// One of so many, in random order.
    Few(u64),
}

impl Senders {
    fn v4(self, random: u64) -> IpAddr {
        let bits = match self {
            Self::Random => low(random),
            Self::Few(senders) => 0xc633_6400 + low(random % senders),
        };
        IpAddr::V4(Ipv4Addr::from_bits(bits))
    }
}

/// One window of frames, evenly spread over its 50 ms.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    bytes: Vec<u8>,
    shapes: Vec<Shape>,
    senders: Senders,
    random: Random,
}

/// Where a frame's bytes end, and how long it was on the wire.
#[derive(Clone, Copy, Debug)]
struct Shape {
    end: usize,
    wire_bytes: u32,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    In,
    Out,
}

/// The same random numbers in every run.
#[derive(Clone, Copy, Debug)]
struct Random {
    hash: Seeded,
    drawn: u64,
}

impl Random {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.hash.word(self.drawn)
    }
}

/// A classifier's settings for the protected host.
pub(crate) fn host() -> Settings {
    Settings {
        vantage: Vantage::Hosts(vec![IpAddr::V4(HOST_V4).into(), IpAddr::V6(HOST_V6).into()]),
        tunnel_peers: Vec::new(),
    }
}

impl Traffic {
    /// SYNs to a web port from random ports: 60 bytes each.
    pub(crate) fn syn_flood(frames: usize, senders: Senders) -> Self {
        Self::of(frames, senders, |traffic| {
            let random = traffic.random.draw();
            let source = senders.v4(traffic.random.draw());
            let syn = tcp(port(random), 80, low(random), tcp_flag::SYN);
            traffic.push(Way::In, source, TCP, &syn, &[]);
        })
    }

    /// SYNs over IPv6, each from a random address.
    pub(crate) fn syn_flood_v6(frames: usize) -> Self {
        Self::of(frames, Senders::Random, |traffic| {
            let random = traffic.random.draw();
            let source = v6(random, traffic.random.draw());
            let syn = tcp(port(random), 80, low(random), tcp_flag::SYN);
            traffic.push(Way::In, source, TCP, &syn, &[]);
        })
    }

    /// Datagrams of 18 bytes from random ports to random ports: 60 bytes each.
    pub(crate) fn udp_flood(frames: usize, senders: Senders) -> Self {
        Self::of(frames, senders, |traffic| {
            let random = traffic.random.draw();
            let source = senders.v4(traffic.random.draw());
            let payload = [b'B'; 18];
            let header = udp(port(random), port(random >> 16), payload.len());
            traffic.push(Way::In, source, UDP, &header, &payload);
        })
    }

    /// What a busy server sees: segments of a thousand clients' connections both ways and their acknowledgements,
    /// requests, QUIC, DNS both ways, a few handshakes and pings.
    pub(crate) fn mixed(frames: usize) -> Self {
        const SEGMENT: &[u8] = &[0x17; 1_440];
        const REQUEST: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\n\r\n";
        const QUIC: &[u8] = &[0x40; 1_200];
        const QUERY: &[u8] =
            b"\x4a\x17\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
        const ANSWER: &[u8] = b"\x4a\x17\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01\
              \xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01";
        const PING: [u8; 8] = [8, 0, 0, 0, 0, 7, 0, 1];
        const ACK: u8 = tcp_flag::ACK;
        const CLIENTS: Senders = Senders::Few(1_000);
        Self::of(frames, CLIENTS, |traffic| {
            let random = traffic.random.draw();
            let client = CLIENTS.v4(random);
            // The same client, the same port: connections that go on.
            let own = 20_000 + port(random % 1_000);
            let mut send = |way, protocol, header: &[u8], payload: &[u8]| {
                traffic.push(way, client, protocol, header, payload);
            };
            let mut segment = |way, (from, to), flags, payload| {
                send(way, TCP, &tcp(from, to, low(random), flags), payload);
            };
            match (random >> 40) % 100 {
                0..25 => segment(Way::In, (own, 443), ACK, SEGMENT),
                25..45 => segment(Way::Out, (443, own), ACK, SEGMENT),
                45..70 => segment(Way::In, (own, 443), ACK, &[]),
                70..75 => segment(Way::In, (own, 80), ACK | tcp_flag::PSH, REQUEST),
                75..78 => segment(Way::In, (own, 443), tcp_flag::SYN, &[]),
                78..88 => send(Way::In, UDP, &udp(own, 443, QUIC.len()), QUIC),
                88..94 => send(Way::In, UDP, &udp(own, 53, QUERY.len()), QUERY),
                94..98 => send(Way::In, UDP, &udp(53, own, ANSWER.len()), ANSWER),
                _ => send(Way::In, ICMP, &PING, &[0; 56]),
            }
        })
    }

    /// Completed handshakes, each with a request, to more ports than are followed.
    pub(crate) fn sessions(frames: usize) -> Self {
        Self::handshakes(frames, |random| port(random >> 32))
    }

    fn handshakes(frames: usize, to: impl Fn(u64) -> u16) -> Self {
        const REQUEST: &[u8] = b"POST / HTTP/1.1\r\n\r\n";
        Self::of(frames.div_ceil(3), Senders::Few(1 << 16), |traffic| {
            let random = traffic.random.draw();
            let client = Senders::Few(1 << 16).v4(random);
            let (from, to, sequence) = (port(random >> 16), to(random), low(random));
            let mut segment = |sequence: u32, flags, payload| {
                let header = tcp(from, to, sequence, flags);
                traffic.push(Way::In, client, TCP, &header, payload);
            };
            segment(sequence, tcp_flag::SYN, &[]);
            segment(sequence.wrapping_add(1), tcp_flag::ACK, &[]);
            segment(sequence.wrapping_add(1), tcp_flag::ACK, REQUEST);
        })
    }

    /// Completed handshakes, each with a request, to a web port.
    pub(crate) fn web_flood(frames: usize) -> Self {
        Self::handshakes(frames, |_| 80)
    }

    /// UDP datagrams in fragments, first and later ones.
    pub(crate) fn fragments(frames: usize, senders: Senders) -> Self {
        /// Where identification, flags and offset stand.
        const IDENTIFICATION_AT: usize = 18;
        const MORE_FRAGMENTS: u8 = 0x20;
        Self::of(frames.div_ceil(2), senders, |traffic| {
            let random = traffic.random.draw();
            let source = senders.v4(random);
            let [high, low] = port(random).to_be_bytes();
            for (header, place) in [
                (udp(port(random >> 16), 9_000, 2_000), [MORE_FRAGMENTS, 0]),
                ([b'B'; 8], [0, 125]),
            ] {
                let begin = traffic.bytes.len();
                traffic.push(Way::In, source, UDP, &header, &[b'B'; 992]);
                if let Some(frame) = traffic.bytes.get_mut(begin..) {
                    put(frame, IDENTIFICATION_AT, &[high, low, place[0], place[1]]);
                }
            }
        })
    }

    /// The frames of `carried`, each in one of three tunnels: VXLAN, GRE with bridging, and plain IP in IP.
    pub(crate) fn tunnelled(carried: &Self) -> Self {
        const GRE: u8 = 47;
        const IP_IN_IP: u8 = 4;
        const BRIDGED: [u8; 4] = [0, 0, 0x65, 0x58];
        const NETWORK: [u8; 8] = [8, 0, 0, 0, 0, 0, 7, 0];
        let mut carried = carried.frames(WindowIndex::of(BEGINNING)).enumerate();
        Self::of(carried.len(), Senders::Random, |traffic| {
            let peer = Senders::Random.v4(traffic.random.draw());
            let Some((nth, frame)) = carried.next() else {
                return;
            };
            match nth % 3 {
                0 => {
                    let header = udp(7_777, 4_789, NETWORK.len() + frame.data.len());
                    traffic.push(
                        Way::In,
                        peer,
                        UDP,
                        &header,
                        &[&NETWORK, frame.data].concat(),
                    );
                }
                1 => traffic.push(Way::In, peer, GRE, &BRIDGED, frame.data),
                _ => {
                    let packet = frame.data.get(14..).unwrap_or_default();
                    traffic.push(Way::In, peer, IP_IN_IP, &[], packet);
                }
            }
        })
    }

    /// What `add` adds, so many times.
    fn of(times: usize, senders: Senders, mut add: impl FnMut(&mut Self)) -> Self {
        let mut traffic = Self {
            bytes: Vec::new(),
            shapes: Vec::new(),
            senders,
            random: Random {
                hash: Seeded::new(2_026),
                drawn: 0,
            },
        };
        for _ in 0..times {
            add(&mut traffic);
        }
        traffic
    }

    /// How many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.shapes.len()
    }

    /// The frames as they come in `window`.
    #[inline]
    pub(crate) fn frames(&self, window: WindowIndex) -> impl ExactSizeIterator<Item = Frame<'_>> {
        let spacing_nanos = WINDOW_NANOS / self.len().max(1) as u64;
        let (mut at, mut begin) = (window.start(), 0);
        self.shapes.iter().map(move |shape| {
            let frame = Frame {
                at,
                link: LinkType::Ethernet,
                wire_bytes: shape.wire_bytes,
                data: self.bytes.get(begin..shape.end).unwrap_or_default(),
            };
            at = at.plus_nanos(spacing_nanos);
            begin = shape.end;
            frame
        })
    }

    /// Where senders are random, draws a new one for every frame.
    pub(crate) fn renew_sources(&mut self) {
        if self.senders != Senders::Random {
            return;
        }
        let mut rest = self.bytes.as_mut_slice();
        let mut begin = 0;
        for shape in &self.shapes {
            let Some((frame, behind)) =
                std::mem::take(&mut rest).split_at_mut_checked(shape.end - begin)
            else {
                return;
            };
            (begin, rest) = (shape.end, behind);
            let random = self.random.draw();
            if frame.get(12) == Some(&0x08) {
                put(frame, V4_SOURCE_AT, &low(random).to_be_bytes());
            } else {
                put(frame, V6_SOURCE_AT + 2, &random.to_be_bytes());
            }
        }
    }

    /// Writes a pcap file of so many frames from `first` on, window after window of this traffic, random senders new in
    /// each. Gives the window after the last.
    pub(crate) fn write_pcap(
        &mut self,
        frames: usize,
        out: &mut impl Write,
    ) -> io::Result<WindowIndex> {
        write_pcap_header(out)?;
        let mut window = WindowIndex::of(BEGINNING);
        let mut left = frames;
        while left > 0 {
            let here = left.min(self.len());
            self.renew_sources();
            self.write_records(window, here, out)?;
            left -= here;
            window = window.next();
        }
        Ok(window)
    }

    /// Writes the first so many frames as records of a pcap file.
    pub(crate) fn write_records(
        &self,
        window: WindowIndex,
        frames: usize,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for frame in self.frames(window).take(frames) {
            let nanos = low(frame.at.as_nanos() % Timestamp::NANOS_PER_SECOND);
            let captured = low(frame.data.len() as u64);
            let header = [
                low(frame.at.as_seconds()),
                nanos,
                captured,
                frame.wire_bytes,
            ];
            out.write_all(header.map(u32::to_le_bytes).as_flattened())?;
            out.write_all(frame.data)?;
        }
        Ok(())
    }

    /// Adds a frame between the host and `peer`, padded to Ethernet's minimum and cut at [`SNAP_BYTES`].
    fn push(&mut self, way: Way, peer: IpAddr, protocol: u8, header: &[u8], payload: &[u8]) {
        let begin = self.bytes.len();
        let macs = match way {
            Way::In => [HOST_MAC, ROUTER_MAC],
            Way::Out => [ROUTER_MAC, HOST_MAC],
        };
        self.bytes.extend(macs.as_flattened());
        let body_bytes = header.len() + payload.len();
        match peer {
            IpAddr::V4(peer) => self
                .bytes
                .extend(v4_header(way, peer, protocol, body_bytes)),
            IpAddr::V6(peer) => self
                .bytes
                .extend(v6_header(way, peer, protocol, body_bytes)),
        }
        self.bytes.extend(header);
        self.bytes.extend(payload);
        let wire_bytes = (self.bytes.len() - begin).max(MIN_FRAME_BYTES);
        let end = begin + wire_bytes.min(SNAP_BYTES);
        self.bytes.resize(end, 0);
        self.shapes.push(Shape {
            end,
            wire_bytes: low(wire_bytes as u64),
        });
    }
}

/// The header of a pcap file of Ethernet frames with times in nanoseconds.
fn write_pcap_header(out: &mut impl Write) -> io::Result<()> {
    const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
    const VERSION_2_4: u32 = 4 << 16 | 2;
    const SNAP_LENGTH: u32 = 262_144;
    const ETHERNET: u32 = 1;
    let header = [MAGIC_NANOS, VERSION_2_4, 0, 0, SNAP_LENGTH, ETHERNET];
    out.write_all(header.map(u32::to_le_bytes).as_flattened())
}

/// EtherType and IPv4 header.
fn v4_header(way: Way, peer: Ipv4Addr, protocol: u8, body_bytes: usize) -> Vec<u8> {
    let [high, low] = port(20 + body_bytes as u64).to_be_bytes();
    let mut header = vec![
        0x08, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 57, protocol, 0, 0,
    ];
    let addresses = match way {
        Way::In => [peer, HOST_V4],
        Way::Out => [HOST_V4, peer],
    };
    header.extend(addresses.map(|address| address.octets()).as_flattened());
    header
}

/// EtherType and IPv6 header.
fn v6_header(way: Way, peer: Ipv6Addr, protocol: u8, body_bytes: usize) -> Vec<u8> {
    let [high, low] = port(body_bytes as u64).to_be_bytes();
    let mut header = vec![0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 57];
    let addresses = match way {
        Way::In => [peer, HOST_V6],
        Way::Out => [HOST_V6, peer],
    };
    header.extend(addresses.map(|address| address.octets()).as_flattened());
    header
}

fn tcp(from: u16, to: u16, sequence: u32, flags: u8) -> [u8; 20] {
    let ([a, b], [c, d], [e, f, g, h]) =
        (from.to_be_bytes(), to.to_be_bytes(), sequence.to_be_bytes());
    [
        a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0,
    ]
}

fn udp(from: u16, to: u16, payload_bytes: usize) -> [u8; 8] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    let [e, f] = port(8 + payload_bytes as u64).to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

/// A global unicast address.
fn v6(high: u64, low: u64) -> IpAddr {
    let prefix = 0x2a00 << 48 | high >> 16;
    IpAddr::V6(Ipv6Addr::from_bits(
        u128::from(prefix) << 64 | u128::from(low),
    ))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "random bits, any of them will do, or a length that fits"
)]
const fn port(value: u64) -> u16 {
    value as u16
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "random bits, any of them will do, or a length that fits"
)]
const fn low(value: u64) -> u32 {
    value as u32
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
