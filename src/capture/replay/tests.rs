//! Capture files built byte by byte, whole, odd and damaged.

use std::io::{self, Cursor, ErrorKind, Read};

use proptest::prelude::*;

use super::*;

/// A frame as the reader told it, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    nanos: u64,
    link: LinkType,
    wire_bytes: u32,
    data: Vec<u8>,
}

fn seen(nanos: u64, link: LinkType, wire_bytes: u32, data: &[u8]) -> Seen {
    Seen {
        nanos,
        link,
        wire_bytes,
        data: data.to_vec(),
    }
}

/// Everything `reader` tells, and the error it ends with. After either end it must stay ended.
fn drain<R: Read>(mut reader: CaptureReader<R>) -> (Vec<Seen>, Option<CaptureError>) {
    let mut frames = Vec::new();
    let error = loop {
        match reader.next() {
            Ok(Capture::Frame(frame)) => frames.push(Seen {
                nanos: frame.at.as_nanos(),
                link: frame.link,
                wire_bytes: frame.wire_bytes,
                data: frame.data.to_vec(),
            }),
            Ok(Capture::Idle) => panic!("a file is never idle"),
            Ok(Capture::End) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(
        matches!(reader.next(), Ok(Capture::End)),
        "a reader that ended must stay ended"
    );
    assert!(
        matches!(reader.next(), Ok(Capture::End)),
        "a reader that ended must stay ended"
    );
    assert!(
        reader.memory_bytes() <= MAX_MEMORY_BYTES,
        "memory is bounded whatever the file claims"
    );
    (frames, error)
}

fn read(bytes: &[u8]) -> (Vec<Seen>, Option<CaptureError>) {
    match CaptureReader::new(bytes, "test.pcap") {
        Ok(reader) => drain(reader),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// The frames of a file that must be whole.
fn frames(bytes: &[u8]) -> Vec<Seen> {
    let (frames, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    frames
}

/// How many frames come before the damage, where it is, and what it is.
fn damage(bytes: &[u8]) -> (usize, u64, String) {
    match read(bytes) {
        (
            frames,
            Some(CaptureError::Damaged {
                offset, problem, ..
            }),
        ) => (frames.len(), offset, problem),
        other => panic!("expected damage, found {other:?}"),
    }
}

/// What a file that is no capture file is said to be.
fn found(bytes: &[u8]) -> String {
    match read(bytes) {
        (frames, Some(CaptureError::NotACapture { found, .. })) if frames.is_empty() => found,
        other => panic!("expected no capture, found {other:?}"),
    }
}

/// The buffer, and interfaces in a vector that doubles.
const MAX_MEMORY_BYTES: usize = (1 << 20) + (1 << 17) * 40;

impl<R: Read> CaptureReader<R> {
    fn memory_bytes(&self) -> usize {
        self.input.memory_bytes()
            + match &self.format {
                Format::Pcap(_) => 0,
                Format::Pcapng(section) => section.memory_bytes(),
            }
    }
}

use ByteOrder::{Big, Little};

fn word(order: ByteOrder, value: u32) -> [u8; 4] {
    match order {
        Big => value.to_be_bytes(),
        Little => value.to_le_bytes(),
    }
}

fn half(order: ByteOrder, value: u16) -> [u8; 2] {
    match order {
        Big => value.to_be_bytes(),
        Little => value.to_le_bytes(),
    }
}

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;

/// Builds a pcap file.
#[derive(Clone)]
struct Pcap {
    order: ByteOrder,
    magic: u32,
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Pcap {
    fn new(order: ByteOrder, magic: u32, link: u32) -> Self {
        Self::of_version(order, magic, link, [2, 4])
    }

    fn of_version(order: ByteOrder, magic: u32, link: u32, version: [u16; 2]) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(word(order, magic));
        bytes.extend(half(order, version[0]));
        bytes.extend(half(order, version[1]));
        for value in [0, 0, 65_535, link] {
            bytes.extend(word(order, value));
        }
        Self {
            order,
            magic,
            bytes,
            ends: Vec::new(),
        }
    }

    fn record(self, seconds: u32, fraction: u32, original: u32, data: &[u8]) -> Self {
        let captured = u32::try_from(data.len()).unwrap();
        self.claiming(seconds, fraction, captured, original, data)
    }

    fn claiming(
        mut self,
        seconds: u32,
        fraction: u32,
        captured: u32,
        original: u32,
        data: &[u8],
    ) -> Self {
        for value in [seconds, fraction, captured, original] {
            self.bytes.extend(word(self.order, value));
        }
        if self.magic == MODIFIED {
            self.bytes.extend([0xee; 8]);
        }
        self.bytes.extend(data);
        self.ends.push(self.bytes.len());
        self
    }
}

/// Builds a pcapng file.
#[derive(Clone)]
struct Pcapng {
    order: ByteOrder,
    bytes: Vec<u8>,
    /// Where each packet block ends.
    ends: Vec<usize>,
    /// Where each block begins.
    starts: Vec<usize>,
}

impl Pcapng {
    fn new(order: ByteOrder) -> Self {
        Self {
            order,
            bytes: Vec::new(),
            ends: Vec::new(),
            starts: Vec::new(),
        }
        .section(order)
    }

    fn block(mut self, kind: u32, body: &[&[u8]]) -> Self {
        let mut body = body.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let total = u32::try_from(body.len() + 12).unwrap();
        self.starts.push(self.bytes.len());
        self.bytes.extend(word(self.order, kind));
        self.bytes.extend(word(self.order, total));
        self.bytes.extend(body);
        self.bytes.extend(word(self.order, total));
        self
    }

    fn section(mut self, order: ByteOrder) -> Self {
        self.order = order;
        let magic = word(order, 0x1a2b_3c4d);
        let version = [half(order, 1), half(order, 0)].concat();
        self.block(0x0a0d_0d0a, &[&magic, &version, &[0xff; 8]])
    }

    fn interface(self, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Self {
        let order = self.order;
        let mut body = [half(order, link), half(order, 0)].concat();
        body.extend(word(order, snap));
        for (code, value) in options {
            body.extend(half(order, *code));
            body.extend(half(order, u16::try_from(value.len()).unwrap()));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &[&body])
    }

    fn enhanced(self, interface: u32, ticks: u64, original: u32, data: &[u8]) -> Self {
        let captured = u32::try_from(data.len()).unwrap();
        self.enhanced_claiming(interface, ticks, captured, original, data)
    }

    fn enhanced_claiming(
        self,
        interface: u32,
        ticks: u64,
        captured: u32,
        original: u32,
        data: &[u8],
    ) -> Self {
        let [high, low] = halves(ticks);
        let header = [interface, high, low, captured, original]
            .map(|value| word(self.order, value))
            .concat();
        self.block(6, &[&header, data]).ended()
    }

    fn obsolete(self, interface: u16, drops: u16, ticks: u64, original: u32, data: &[u8]) -> Self {
        let captured = u32::try_from(data.len()).unwrap();
        let [high, low] = halves(ticks);
        let numbers = [half(self.order, interface), half(self.order, drops)].concat();
        let header = [high, low, captured, original]
            .map(|value| word(self.order, value))
            .concat();
        self.block(2, &[&numbers, &header, data]).ended()
    }

    fn simple(self, original: u32, data: &[u8]) -> Self {
        let header = word(self.order, original);
        self.block(3, &[&header, data]).ended()
    }

    fn ended(mut self) -> Self {
        self.ends.push(self.bytes.len());
        self
    }
}

fn halves(ticks: u64) -> [u32; 2] {
    [
        u32::try_from(ticks >> 32).unwrap(),
        u32::try_from(ticks & 0xffff_ffff).unwrap(),
    ]
}

const RESOLUTION: u16 = 9;
const FCS_LENGTH: u16 = 13;
const OFFSET: u16 = 14;

#[test]
fn pcap_reads_the_same_in_both_byte_orders_and_all_resolutions() {
    for order in [Big, Little] {
        for (magic, fraction) in [(MICROS, 789_000), (NANOS, 789_000_000), (MODIFIED, 789_000)] {
            let file = Pcap::new(order, magic, 1)
                .record(1_700_000_000, fraction, 1_500, b"first")
                .record(1_700_000_001, 1, 6, b"second");
            let nanos_per_fraction = if magic == NANOS { 1 } else { 1_000 };
            assert_eq!(
                frames(&file.bytes),
                [
                    seen(
                        1_700_000_000_789_000_000,
                        LinkType::Ethernet,
                        1_500,
                        b"first"
                    ),
                    seen(
                        1_700_000_001_000_000_000 + nanos_per_fraction,
                        LinkType::Ethernet,
                        6,
                        b"second"
                    ),
                ],
                "{order:?} {magic:#x}"
            );
        }
    }
}

#[test]
fn a_capture_without_packets_is_a_capture() {
    assert_eq!(frames(&Pcap::new(Little, MICROS, 1).bytes), []);
    assert_eq!(frames(&Pcapng::new(Big).bytes), []);
    assert_eq!(frames(&Pcapng::new(Little).interface(1, 0, &[]).bytes), []);
}

#[test]
fn a_frame_of_no_bytes_is_a_frame() {
    let file = Pcap::new(Little, NANOS, 101)
        .record(1, 0, 0, b"")
        .record(2, 0, 40, b"");
    let expected = [
        seen(1_000_000_000, LinkType::RawIp, 0, b""),
        seen(2_000_000_000, LinkType::RawIp, 40, b""),
    ];
    assert_eq!(frames(&file.bytes), expected);
}

#[test]
fn the_link_type_of_a_pcap_file_is_in_the_lower_16_bits() {
    let file = Pcap::new(Big, MICROS, 0x03ff_0071).record(1, 0, 1, b"x");
    assert_eq!(frames(&file.bytes)[0].link, LinkType::LinuxCooked);
    let file = Pcap::new(Little, MICROS, 9_999).record(1, 0, 1, b"x");
    assert_eq!(frames(&file.bytes)[0].link, LinkType::Unsupported(9_999));
}

#[test]
fn a_check_sequence_counts_as_no_part_of_the_frame() {
    // Two units of 16 bits. The second frame was cut inside the sequence, the third before it.
    let pcap = Pcap::new(Little, MICROS, 0x2400_0001)
        .record(0, 0, 10, b"abcdef1234")
        .record(0, 0, 10, b"abcdef12")
        .record(0, 0, 10, b"abcd")
        .record(0, 0, 3, b"123");
    let expected = [
        seen(0, LinkType::Ethernet, 6, b"abcdef"),
        seen(0, LinkType::Ethernet, 6, b"abcdef"),
        seen(0, LinkType::Ethernet, 6, b"abcd"),
        seen(0, LinkType::Ethernet, 0, b""),
    ];
    assert_eq!(frames(&pcap.bytes), expected);
    let pcapng = Pcapng::new(Big)
        .interface(1, 0, &[(FCS_LENGTH, &[4])])
        .enhanced(0, 0, 10, b"abcdef1234")
        .enhanced(0, 0, 10, b"abcdef12")
        .simple(8, b"abcd1234");
    let expected = [
        seen(0, LinkType::Ethernet, 6, b"abcdef"),
        seen(0, LinkType::Ethernet, 6, b"abcdef"),
        seen(0, LinkType::Ethernet, 4, b"abcd"),
    ];
    assert_eq!(frames(&pcapng.bytes), expected);
}

#[test]
fn lengths_on_the_wire_stay_sane() {
    let pcap = Pcap::new(Big, MICROS, 1)
        .record(0, 0, 2, b"four")
        .record(0, 0, u32::MAX, b"four");
    let pcapng = Pcapng::new(Big)
        .interface(1, 0, &[])
        .enhanced(0, 0, 2, b"four")
        .enhanced(0, 0, u32::MAX, b"four");
    for bytes in [pcap.bytes, pcapng.bytes] {
        let lengths: Vec<u32> = frames(&bytes)
            .iter()
            .map(|frame| frame.wire_bytes)
            .collect();
        assert_eq!(lengths, [4, MAX_WIRE_BYTES]);
    }
}

#[test]
fn before_version_2_4_the_lengths_of_a_record_may_be_swapped() {
    let old = Pcap::of_version(Little, MICROS, 1, [2, 3])
        .claiming(0, 0, 60, 4, b"four")
        .record(0, 0, 60, b"four");
    assert_eq!(
        frames(&old.bytes),
        vec![seen(0, LinkType::Ethernet, 60, b"four"); 2]
    );
}

#[test]
fn the_latest_pcap_time_does_not_overflow() {
    let file = Pcap::new(Little, MICROS, 1).record(u32::MAX, u32::MAX, 1, b"x");
    assert_eq!(
        frames(&file.bytes)[0].nanos,
        4_294_967_295_000_000_000 + 4_294_967_295_000
    );
}

#[test]
fn other_major_versions_are_refused() {
    let file = Pcap::of_version(Little, MICROS, 1, [3, 0]).record(0, 0, 1, b"x");
    assert_eq!(
        damage(&file.bytes),
        (0, 0, "pcap version 3.0 (expected 2.4)".to_owned())
    );
    let mut file = Pcapng::new(Big).bytes;
    file[13] = 7;
    assert_eq!(
        damage(&file),
        (0, 0, "pcapng version 7.0 (expected 1.0)".to_owned())
    );
}

#[test]
fn a_record_that_claims_more_than_any_frame_is_damage() {
    let file = Pcap::new(Big, NANOS, 1)
        .record(1, 0, 4, b"good")
        .claiming(1, 0, 262_145, 9, b"bad");
    let (before, offset, problem) = damage(&file.bytes);
    assert_eq!((before, offset), (1, 44));
    assert_eq!(
        problem,
        "a record claims 262145 captured bytes (at most 262144 can be)"
    );
}

#[test]
fn the_longest_frame_there_may_be_is_read_from_either_format() {
    let data: Vec<u8> = (0..MAX_CAPTURED_BYTES)
        .map(|i| i.to_le_bytes()[i as usize % 3])
        .collect();
    let pcap = Pcap::new(Little, MICROS, 1)
        .record(0, 0, 0, &data)
        .record(0, 0, 0, &data);
    let pcapng = Pcapng::new(Little)
        .interface(1, 0, &[])
        .enhanced(0, 0, 0, &data)
        .simple(MAX_CAPTURED_BYTES, &data);
    for bytes in [pcap.bytes, pcapng.bytes] {
        assert_eq!(
            frames(&bytes),
            vec![seen(0, LinkType::Ethernet, MAX_CAPTURED_BYTES, &data); 2]
        );
    }
}

/// A file with everything that pcapng has to offer, and its frames.
fn pcapng_with_everything(first: ByteOrder, second: ByteOrder) -> (Pcapng, Vec<Seen>) {
    let file = Pcapng::new(first)
        .block(0x0bad_cafe, &[b"custom"])
        .interface(1, 96, &[(2, b"eth0"), (RESOLUTION, &[9]), (0, &[])])
        .interface(101, 0, &[(RESOLUTION, &[6]), (12, b"an operating system")])
        .enhanced(0, 1_700_000_000_123_456_789, 1_500, b"ethernet")
        .block(4, &[b"name resolution....."])
        .enhanced(1, 1_700_000_001_000_001, 5, b"rawip")
        .simple(8, b"ethernet")
        .obsolete(1, 0xffff, 1_700_000_002_000_000, 7, b"rawip")
        .section(second)
        .interface(276, 3, &[])
        .simple(100, b"cut")
        .block(5, &[b"statistics.."])
        .enhanced(0, 1_600_000_000_000_000, 20, b"cooked");
    let expected = vec![
        seen(
            1_700_000_000_123_456_789,
            LinkType::Ethernet,
            1_500,
            b"ethernet",
        ),
        seen(1_700_000_001_000_001_000, LinkType::RawIp, 5, b"rawip"),
        seen(
            1_700_000_001_000_001_000,
            LinkType::Ethernet,
            8,
            b"ethernet",
        ),
        seen(1_700_000_002_000_000_000, LinkType::RawIp, 7, b"rawip"),
        seen(
            1_700_000_002_000_000_000,
            LinkType::LinuxCooked2,
            100,
            b"cut",
        ),
        seen(
            1_600_000_000_000_000_000,
            LinkType::LinuxCooked2,
            20,
            b"cooked",
        ),
    ];
    (file, expected)
}

#[test]
fn pcapng_sections_may_differ_in_byte_order_and_interfaces() {
    for first in [Big, Little] {
        for second in [Big, Little] {
            let (file, expected) = pcapng_with_everything(first, second);
            assert_eq!(frames(&file.bytes), expected);
        }
    }
}

#[test]
fn a_new_section_forgets_the_interfaces_of_the_last() {
    let file = Pcapng::new(Little)
        .interface(1, 0, &[])
        .enhanced(0, 0, 1, b"x")
        .section(Little)
        .enhanced(0, 0, 1, b"x");
    let offset = *file.starts.last().unwrap() as u64;
    let problem = "a packet of interface 0, of which the section described 0 so far";
    assert_eq!(damage(&file.bytes), (1, offset, problem.to_owned()));
}

#[test]
fn every_resolution_gives_the_same_time() {
    let second = 1_700_000_000_u64;
    let table: [(u8, u64, u64); 10] = [
        (0, second, 0),
        (3, second * 1_000 + 5, 5_000_000),
        (6, second * 1_000_000 + 5, 5_000),
        (7, second * 10_000_000 + 5, 500),
        (9, second * 1_000_000_000 + 5, 5),
        (10, second * 10_000_000_000 + 59, 5),
        (0x80, second, 0),
        (0x80 | 1, second * 2 + 1, 500_000_000),
        (0x80 | 20, (second << 20) + 1, 953),
        (0x80 | 32, (second << 32) + (1 << 31), 500_000_000),
    ];
    for (resolution, ticks, nanos) in table {
        let file = Pcapng::new(Big)
            .interface(1, 0, &[(RESOLUTION, &[resolution])])
            .enhanced(0, ticks, 1, b"x");
        assert_eq!(
            frames(&file.bytes)[0].nanos,
            second * 1_000_000_000 + nanos,
            "{resolution:#x}"
        );
    }
}

#[test]
fn times_outside_what_can_be_told_become_the_nearest_that_can() {
    let bytes = |seconds: i64| seconds.to_be_bytes();
    let table: [(u8, i64, u64, u64); 12] = [
        (6, 3_600, 1_000_000, 3_601_000_000_000),
        (6, -3_600, 7_200_000_000, 3_600_000_000_000),
        (6, -3_600, 1_000_000, 0),
        (6, i64::MIN, u64::MAX, 0),
        (6, i64::MAX, 0, u64::MAX),
        (6, 0, u64::MAX, u64::MAX),
        (0, 0, u64::MAX, u64::MAX),
        (9, 0, u64::MAX, u64::MAX),
        (9, 1, u64::MAX, u64::MAX),
        (19, 0, u64::MAX, 1_844_674_407),
        (0x80, 0, u64::MAX, u64::MAX),
        (0x80 | 63, 0, u64::MAX, 1_999_999_999),
    ];
    for (resolution, offset, ticks, nanos) in table {
        let options: [(u16, &[u8]); 2] = [(OFFSET, &bytes(offset)), (RESOLUTION, &[resolution])];
        let file = Pcapng::new(Big)
            .interface(1, 0, &options)
            .enhanced(0, ticks, 1, b"x");
        assert_eq!(
            frames(&file.bytes)[0].nanos,
            nanos,
            "{resolution:#x} {offset} {ticks}"
        );
    }
}

#[test]
fn options_that_make_no_sense_are_damage() {
    let interface = |options: &[(u16, &[u8])]| {
        let file = Pcapng::new(Little)
            .interface(1, 0, options)
            .enhanced(0, 0, 1, b"x");
        damage(&file.bytes)
    };
    let refused = |problem: &str| (0, 28, problem.to_owned());
    let too_fine = |unit: &str| {
        refused(&format!(
            "timestamps in units of {unit} s, of which 64 bits do not hold a second"
        ))
    };
    assert_eq!(interface(&[(RESOLUTION, &[20])]), too_fine("10^-20"));
    assert_eq!(interface(&[(RESOLUTION, &[0x7f])]), too_fine("10^-127"));
    assert_eq!(interface(&[(RESOLUTION, &[0xff])]), too_fine("2^-127"));
    let of_length = |code, bytes| {
        refused(&format!(
            "option {code} of an interface description cannot be {bytes} bytes long"
        ))
    };
    assert_eq!(interface(&[(RESOLUTION, &[6, 6])]), of_length(9, 2));
    assert_eq!(interface(&[(OFFSET, &[0; 4])]), of_length(14, 4));
    assert_eq!(interface(&[(FCS_LENGTH, &[])]), of_length(13, 0));

    let mut file = Pcapng::new(Little).interface(1, 0, &[(2, b"eth0")]).bytes;
    file[28 + 18] = 5;
    assert_eq!(
        damage(&file),
        refused("option 2 runs past the end of its interface description")
    );
}

#[test]
fn options_behind_the_end_of_options_are_not_looked_at() {
    let file = Pcapng::new(Big)
        .interface(1, 0, &[(0, &[]), (RESOLUTION, &[0xff])])
        .enhanced(0, 7, 1, b"x");
    assert_eq!(frames(&file.bytes)[0].nanos, 7_000);
}

#[test]
fn a_simple_packet_before_any_time_was_seen_is_at_the_epoch() {
    let file = Pcapng::new(Little).interface(1, 0, &[]).simple(1, b"x");
    assert_eq!(frames(&file.bytes)[0].nanos, 0);
}

#[test]
fn a_packet_block_must_hold_what_it_claims() {
    let begun = || {
        Pcapng::new(Little)
            .interface(0, 0, &[])
            .enhanced(0, 0, 1, b"x")
    };
    let at = begun().bytes.len() as u64;
    let file = begun().enhanced_claiming(0, 0, 9, 9, b"eightlng");
    let problem = "a packet block claims 9 captured bytes and has room for 8";
    assert_eq!(damage(&file.bytes), (1, at, problem.to_owned()));
    let file = begun().simple(9, b"eightlng");
    assert_eq!(damage(&file.bytes), (1, at, problem.to_owned()));
    let file = begun().enhanced_claiming(0, 0, u32::MAX, 9, b"eightlng");
    let problem = "a packet block claims 4294967295 captured bytes (at most 262144 can be)";
    assert_eq!(damage(&file.bytes), (1, at, problem.to_owned()));
    for (kind, name) in [
        (6, "an enhanced packet block"),
        (2, "an obsolete packet block"),
    ] {
        let file = begun().block(kind, &[&[0; 16]]);
        assert_eq!(
            damage(&file.bytes),
            (1, at, format!("{name} too short for its own fields"))
        );
    }
    assert_eq!(damage(&begun().block(3, &[]).bytes).1, at);
    assert_eq!(damage(&begun().block(1, &[&[0; 4]]).bytes).1, at);
}

#[test]
fn a_block_must_have_a_possible_length_and_have_it_twice() {
    let begun = Pcapng::new(Big).interface(1, 0, &[]);
    let at = begun.bytes.len();
    for (kind, total) in [
        (6_u32, 0_u32),
        (6, 8),
        (6, 33),
        (5, 11),
        (5, 13),
        (5, (16 << 20) + 4),
        (5, u32::MAX),
        (6, 524_292),
    ] {
        let mut file = begun.clone().block(kind, &[&[0; 24]]).bytes;
        file[at + 4..at + 8].copy_from_slice(&total.to_be_bytes());
        let problem = format!("a block of type {kind:#x} cannot be {total} bytes long");
        assert_eq!(damage(&file), (0, at as u64, problem));
    }
    for kind in [1, 5, 6, 0x0bad] {
        let mut file = begun
            .clone()
            .block(kind, &[&[0; 24]])
            .enhanced(0, 0, 1, b"x")
            .bytes;
        file[at + 35] = 40;
        let problem =
            format!("a block of type {kind:#x} is 36 bytes long at its start, 40 at its end");
        assert_eq!(damage(&file), (0, at as u64, problem));
    }
    let mut file = Pcapng::new(Big).bytes;
    file[7] = 24;
    assert_eq!(
        damage(&file),
        (
            0,
            0,
            "a block of type 0xa0d0d0a cannot be 24 bytes long".to_owned()
        )
    );
}

#[test]
fn a_section_in_the_middle_must_say_its_byte_order() {
    let mut file = Pcapng::new(Big)
        .interface(1, 0, &[])
        .enhanced(0, 0, 1, b"x")
        .section(Little);
    let at = *file.starts.last().unwrap();
    file.bytes[at + 8] = 0;
    let problem = "a section header with the byte-order magic [00, 3c, 2b, 1a]";
    assert_eq!(damage(&file.bytes), (1, at as u64, problem.to_owned()));
}

#[test]
fn interfaces_are_bounded() {
    let mut file = Pcapng::new(Little);
    for _ in 0..=1 << 16 {
        file = file.interface(1, 0, &[]);
    }
    let (before, offset, problem) = damage(&file.bytes);
    assert_eq!((before, offset), (0, 28 + (1 << 16) * 20));
    assert_eq!(problem, "a section with more than 65536 interfaces");
}

#[test]
fn long_blocks_are_passed_over_without_being_kept() {
    let total = 16_u32 << 20;
    let begun = Pcapng::new(Little)
        .interface(1, 0, &[])
        .enhanced(0, 1, 1, b"a")
        .bytes;
    let head = [5_u32.to_le_bytes(), total.to_le_bytes()].concat();
    let end = Pcapng::new(Little)
        .interface(1, 0, &[])
        .enhanced(0, 2, 1, b"b")
        .bytes;
    let whole = Cursor::new(begun.clone())
        .chain(Cursor::new(head.clone()))
        .chain(io::repeat(0xaa).take(u64::from(total) - 12))
        .chain(Cursor::new(total.to_le_bytes()))
        .chain(Cursor::new(end));
    let (frames, error) = drain(CaptureReader::new(whole, "long.pcapng").unwrap());
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        frames.iter().map(|frame| frame.nanos).collect::<Vec<_>>(),
        [1_000, 2_000]
    );

    let cut = Cursor::new(begun.clone())
        .chain(Cursor::new(head))
        .chain(io::repeat(0xaa).take(1_000));
    let (frames, error) = drain(CaptureReader::new(cut, "long.pcapng").unwrap());
    assert_eq!(frames.len(), 1);
    assert_eq!(
        error.unwrap().to_string(),
        format!(
            "long.pcapng: damaged at byte {}: the file ends inside a block, after 1008 of 16777216 bytes; everything \
             before it was read",
            begun.len()
        )
    );
}

#[test]
fn a_section_header_may_be_longer_than_the_buffer() {
    let mut file = Pcapng {
        order: Little,
        bytes: Vec::new(),
        ends: Vec::new(),
        starts: Vec::new(),
    };
    let comment = vec![b'c'; 3 << 20];
    let fields = [
        &0x1a2b_3c4d_u32.to_le_bytes()[..],
        &[1, 0, 0, 0],
        &[0xff; 8],
        &comment,
    ]
    .concat();
    file = file
        .block(0x0a0d_0d0a, &[&fields])
        .interface(1, 0, &[])
        .enhanced(0, 1, 1, b"x");
    assert_eq!(frames(&file.bytes).len(), 1);
}

/// Every prefix of `file` gives the frames whose records it holds whole, then says where the cut record began.
fn cut_everywhere(file: &[u8], header_bytes: usize, record_starts: &[usize], ends: &[usize]) {
    let all = frames(file);
    assert_eq!(all.len(), ends.len());
    for length in 1..file.len() {
        let (before, error) = read(&file[..length]);
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(before, all[..whole], "cut after {length} bytes");
        let at_a_boundary = length >= header_bytes && record_starts.contains(&length);
        match error {
            None => assert!(at_a_boundary, "cut after {length} bytes and nothing said"),
            Some(CaptureError::Damaged {
                offset, problem, ..
            }) => {
                assert!(!at_a_boundary);
                let began = record_starts
                    .iter()
                    .rfind(|start| **start <= length)
                    .copied()
                    .unwrap_or(0);
                assert_eq!(offset, began as u64, "cut after {length} bytes");
                assert!(problem.starts_with("the file ends inside"), "{problem}");
            }
            Some(CaptureError::NotACapture { .. }) => {
                assert!(length < 4, "cut after {length} bytes")
            }
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pcap_file_cut_anywhere_gives_the_frames_before_the_cut() {
    for magic in [MICROS, NANOS, MODIFIED] {
        let file = Pcap::new(Little, magic, 1)
            .record(1, 2, 3, b"abc")
            .record(4, 5, 6, b"")
            .record(7, 8, 90, b"abcdefg");
        let mut starts = vec![24];
        starts.extend(&file.ends);
        // Cut inside the file header, the record began at byte 0.
        starts.insert(0, 0);
        cut_everywhere(&file.bytes, 24, &starts, &file.ends);
    }
}

#[test]
fn a_pcapng_file_cut_anywhere_gives_the_frames_before_the_cut() {
    let (file, _) = pcapng_with_everything(Little, Big);
    cut_everywhere(&file.bytes, 28, &file.starts, &file.ends);
}

#[test]
fn what_is_no_capture_is_named() {
    for (bytes, expected) in [
        (&b""[..], "the file is empty"),
        (
            b"\x1f\x8b\x08\x08rest",
            "compressed with gzip; unpack it first, for example with `gunzip`",
        ),
        (
            b"\x28\xb5\x2f\xfd\x04",
            "compressed with zstd; unpack it first, for example with `unzstd`",
        ),
        (
            b"\xfd7zXZ\0\0\x04",
            "compressed with xz; unpack it first, for example with `unxz`",
        ),
        (
            b"BZh91AY&SY",
            "compressed with bzip2; unpack it first, for example with `bunzip2`",
        ),
        (
            b"snoop\0\0\0\0\0\0\x02",
            "a snoop capture; convert it first, for example with `editcap -F pcap`",
        ),
        (b"this is not a capture\n", "text"),
        ("Grüße".as_bytes(), "text"),
        (&"Grüße".as_bytes()[..4], "text"),
        (
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "it begins with 00 00 00 00 00 00 00 00",
        ),
        (b"\x7fELF\x02", "it begins with 7f 45 4c 46 02"),
        (b"\n\r\r\n", "text"),
        (b"\n\r\r\n a page and no capture", "text"),
        (b"\xd4\xc3\xb2", "it begins with d4 c3 b2"),
    ] {
        if bytes == b"\n\r\r\n" {
            // Four bytes that begin every pcapng file, and nothing to tell it from one.
            assert_eq!(
                damage(bytes).2,
                "the file ends inside a block, after 4 of 12 bytes"
            );
        } else {
            assert_eq!(found(bytes), expected, "{bytes:?}");
        }
    }
    // Type 2 (Ethernet), no flags, 76 bytes, nothing lost, 60 on the wire.
    let mut erf = [0_u8; 32];
    erf[4..8].copy_from_slice(&1_700_000_000_u32.to_le_bytes());
    erf[8..16].copy_from_slice(&[2, 4, 0, 76, 0, 0, 0, 60]);
    assert_eq!(
        found(&erf),
        "probably an ERF capture; convert it first, for example with `editcap -F pcap`"
    );
}

#[test]
fn the_message_names_the_file() {
    let error = CaptureReader::new(&b"\x1f\x8b\x08\x08"[..], "/var/lib/a.pcap.gz").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/var/lib/a.pcap.gz: not a capture file: compressed with gzip; unpack it first, for example with `gunzip` \
         (expected pcap or pcapng)"
    );
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let error = CaptureReader::open(Path::new("/nonexistent/x.pcap")).unwrap_err();
    assert!(
        matches!(&error, CaptureError::File { source, .. } if source.kind() == ErrorKind::NotFound),
        "{error:?}"
    );
    let error = CaptureReader::open(Path::new("/")).unwrap_err();
    assert!(
        matches!(&error, CaptureError::File { source, .. } if source.kind() == ErrorKind::IsADirectory),
        "{error:?}"
    );
}

#[test]
fn a_capture_on_disk_is_read() {
    let (file, expected) = pcapng_with_everything(Big, Little);
    let path = std::env::temp_dir().join(format!("ftagent-replay-{}.pcapng", std::process::id()));
    std::fs::write(&path, file.bytes).unwrap();
    let (frames, error) = drain(CaptureReader::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames, expected);
}

/// Gives bytes in pieces of odd sizes, is interrupted between them, and may fail at the end.
struct Trickle<'a> {
    rest: &'a [u8],
    turn: usize,
    fails: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.turn.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.rest.is_empty() && self.fails {
            return Err(io::Error::other("the disk is gone"));
        }
        let count = (self.turn * 7_919 % 65_537)
            .min(self.rest.len())
            .min(buffer.len());
        let (piece, rest) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.rest = rest;
        Ok(count)
    }
}

/// Some megabytes of frames of all lengths, so that many lie across the end of the buffer.
fn megabytes_of_frames() -> Vec<(u32, Vec<u8>)> {
    let lengths = [60, 0, 1_514, 65_535, 1, 262_144, 9_018, 333, 131_072];
    (0..120_u32)
        .map(|i| {
            (
                i,
                vec![i.to_le_bytes()[0]; lengths[i as usize % lengths.len()]],
            )
        })
        .collect()
}

#[test]
fn frames_across_the_end_of_the_buffer_come_out_whole() {
    let mut pcap = Pcap::new(Little, NANOS, 1);
    let mut pcapng = Pcapng::new(Big).interface(1, 0, &[]);
    let mut expected = Vec::new();
    for (i, data) in megabytes_of_frames() {
        pcap = pcap.record(i, 0, 70_000, &data);
        pcapng = pcapng.enhanced(0, u64::from(i) * 1_000_000, 70_000, &data);
        let wire_bytes = u32::try_from(data.len()).unwrap().max(70_000);
        expected.push(seen(
            u64::from(i) * 1_000_000_000,
            LinkType::Ethernet,
            wire_bytes,
            &data,
        ));
    }
    for bytes in [pcap.bytes, pcapng.bytes] {
        assert!(
            bytes.len() > 4 << 20,
            "the file must be longer than the buffer"
        );
        assert!(frames(&bytes) == expected);
        let trickle = Trickle {
            rest: &bytes,
            turn: 0,
            fails: false,
        };
        let (frames, error) = drain(CaptureReader::new(trickle, "-").unwrap());
        assert!(error.is_none(), "{error:?}");
        assert!(frames == expected);
    }
}

#[test]
fn an_input_that_fails_gives_what_came_before_and_the_systems_words() {
    let file = Pcap::new(Little, NANOS, 1)
        .record(1, 0, 3, b"abc")
        .record(2, 0, 3, b"abc")
        .bytes;
    let trickle = Trickle {
        rest: &file,
        turn: 0,
        fails: true,
    };
    let (frames, error) = drain(CaptureReader::new(trickle, "-").unwrap());
    assert_eq!(frames.len(), 2);
    assert_eq!(error.unwrap().to_string(), "-: the disk is gone");
}

#[test]
fn a_slow_input_gives_each_frame_as_soon_as_it_is_there() {
    let file = Pcap::new(Little, NANOS, 1).record(1, 0, 3, b"abc").bytes;
    // Asking for more than the first record would fail.
    let trickle = Trickle {
        rest: &file,
        turn: 0,
        fails: true,
    };
    let mut reader = CaptureReader::new(trickle, "-").unwrap();
    assert!(matches!(reader.next(), Ok(Capture::Frame(_))));
    assert!(matches!(reader.next(), Err(CaptureError::File { .. })));
}

/// Frames as a strategy: what is written and what must be read.
fn any_frames() -> impl Strategy<Value = Vec<(u32, u32, Vec<u8>)>> {
    prop::collection::vec(
        (
            any::<u32>(),
            0_u32..10_000,
            prop::collection::vec(any::<u8>(), 0..80),
        ),
        0..20,
    )
}

fn any_order() -> impl Strategy<Value = ByteOrder> {
    prop_oneof![Just(Big), Just(Little)]
}

/// A valid file of either format, with where each frame's record ends.
fn any_file() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (any_frames(), any_order(), 0..6_usize).prop_map(|(frames, order, shape)| {
        if let Some(magic) = [MICROS, NANOS, MODIFIED].get(shape) {
            let begun = Pcap::new(order, *magic, 1);
            let file = frames.iter().fold(begun, |file, (at, original, data)| {
                file.record(*at, 0, *original, data)
            });
            return (file.bytes, file.ends);
        }
        let begun =
            Pcapng::new(order)
                .interface(1, 0, &[])
                .interface(101, 40, &[(RESOLUTION, &[9])]);
        let file = frames
            .iter()
            .enumerate()
            .fold(begun, |file, (i, (at, original, data))| {
                let ticks = u64::from(*at) << 16;
                match (shape + i) % 4 {
                    0 => file.obsolete(1, 0, ticks, *original, data),
                    1 => file.simple(u32::try_from(data.len()).unwrap(), data),
                    2 => file
                        .block(0x0bad, &[data])
                        .enhanced(1, ticks, *original, data),
                    _ => file.enhanced(0, ticks, *original, data),
                }
            });
        (file.bytes, file.ends)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
        let (frames, _) = read(&bytes);
        prop_assert!(frames.len() <= bytes.len() / 16);
    }

    #[test]
    fn any_bytes_behind_a_file_header_are_read_to_an_end(
        header in prop_oneof![
            (any_order(), prop_oneof![Just(MICROS), Just(NANOS), Just(MODIFIED)])
                .prop_map(|(order, magic)| Pcap::new(order, magic, 1).bytes),
            any_order().prop_map(|order| Pcapng::new(order).interface(1, 0, &[]).bytes),
        ],
        tail in prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => 0..8_u8, 1 => any::<u8>()], 0..2_000),
    ) {
        let bytes = [header, tail].concat();
        let (frames, _) = read(&bytes);
        prop_assert!(frames.len() <= bytes.len() / 16);
        prop_assert!(frames.iter().map(|frame| frame.data.len()).sum::<usize>() <= bytes.len());
        prop_assert!(frames.iter().all(|frame| frame.data.len() <= frame.wire_bytes as usize));
    }

    #[test]
    fn a_cut_changes_nothing_before_it((bytes, ends) in any_file(), cut in any::<prop::sample::Index>()) {
        let all = frames(&bytes);
        let length = cut.index(bytes.len() + 1);
        let (before, _) = read(&bytes[..length]);
        let whole = ends.iter().filter(|end| **end <= length).count();
        prop_assert_eq!(&before[..], &all[..whole]);
    }

    #[test]
    fn damage_changes_nothing_before_it(
        (mut bytes, ends) in any_file(),
        place in any::<prop::sample::Index>(),
        damage in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let all = frames(&bytes);
        let place = place.index(bytes.len());
        for (byte, new) in bytes[place..].iter_mut().zip(damage) {
            *byte = new;
        }
        let (found, error) = read(&bytes);
        let untouched = ends.iter().filter(|end| **end <= place).count();
        prop_assert!(found.len() >= untouched, "{} of {} frames, {:?}", found.len(), untouched, error);
        prop_assert_eq!(&found[..untouched], &all[..untouched]);
        if let Some(CaptureError::Damaged { offset, .. }) = error {
            prop_assert!(offset <= bytes.len() as u64);
        }
    }

    #[test]
    fn small_reads_give_the_same_frames((bytes, _) in any_file(), turn in 0_usize..1_000) {
        let trickle = Trickle { rest: &bytes, turn, fails: false };
        let (found, error) = drain(CaptureReader::new(trickle, "-").unwrap());
        prop_assert!(error.is_none());
        prop_assert_eq!(found, frames(&bytes));
    }
}
