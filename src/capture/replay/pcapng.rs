//! The pcapng format: blocks that describe sections, interfaces and packets, and any number of others.
//!
//! Written from the pcapng draft of the IETF's OPSAWG. Packet and interface blocks are taken apart where they lie in the
//! buffer; all others are passed over without being kept, whatever length they claim. Called by the reader only.

use std::io::Read;

use super::input::BUFFER_BYTES;
use super::{ByteOrder, Fault, Input, Lengths, MAX_CAPTURED_BYTES, Record, Step, cut, too_long};
use crate::capture::LinkType;
use crate::clock::Timestamp;

/// Block types. The section header's reads the same in both byte orders.
mod kind {
    pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const OBSOLETE_PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const ENHANCED_PACKET: u32 = 6;
}

/// Options of an interface block.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const TIMESTAMP_RESOLUTION: u16 = 9;
    pub(super) const FCS_LENGTH: u16 = 13;
    pub(super) const TIMESTAMP_OFFSET: u16 = 14;
}

/// What a section header's first word is in the byte order of its section.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// The only major version ever used.
const MAJOR_VERSION: u16 = 1;

/// Every block is a multiple of this long.
const WORD_BYTES: usize = 4;
/// Type and total length, before the body of every block.
const HEADER_BYTES: usize = 2 * WORD_BYTES;
/// The total length again, after it.
const TRAILER_BYTES: usize = WORD_BYTES;
/// A block with an empty body.
const MIN_BLOCK_BYTES: usize = HEADER_BYTES + TRAILER_BYTES;
/// A section header with magic, version, section length, and no options.
const MIN_SECTION_BYTES: usize = MIN_BLOCK_BYTES + 4 * WORD_BYTES;
/// The longest block that is passed over: libpcap's bound too (16 MiB), and longer than any that programs write.
const MAX_BLOCK_BYTES: usize = 16 << 20;
/// The longest block that is taken apart: the longest frame, and as much again for its options.
const MAX_PARSED_BLOCK_BYTES: usize = 2 * MAX_CAPTURED_BYTES as usize;
const _: () = assert!(
    MAX_PARSED_BLOCK_BYTES <= BUFFER_BYTES,
    "a block that is taken apart must fit into the buffer"
);

/// Interfaces kept for a section: as many as the obsolete packet block can name, 2.5 MiB of memory.
const MAX_INTERFACES: usize = 1 << 16;

/// What stands before the frame in the body of an enhanced or obsolete packet block.
const PACKET_HEADER_BYTES: usize = 5 * WORD_BYTES;
/// What stands before the frame in the body of a simple packet block.
const SIMPLE_PACKET_HEADER_BYTES: usize = WORD_BYTES;

/// Powers of ten beyond this are no resolution: 2^64 ticks of 10^-19 s are less than two seconds. libpcap's bound too.
const MAX_DECIMAL_EXPONENT: u8 = 19;
/// The same for powers of two: 2^64 ticks of 2^-63 s are two seconds.
const MAX_BINARY_EXPONENT: u8 = 63;
/// Set in a resolution that is a power of two.
const BINARY_RESOLUTION: u8 = 0x80;

/// The section being read: its byte order and the interfaces it has described so far.
#[derive(Debug)]
pub(super) struct Section {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// The last timestamp seen, for records that have none.
    last_at: Timestamp,
}

/// A block's type and total length, which is one that a block can have.
#[derive(Clone, Copy, Debug)]
struct Block {
    kind: u32,
    total_bytes: usize,
}

/// A packet block taken apart.
#[derive(Debug)]
struct Packet {
    at: Timestamp,
    link: LinkType,
    lengths: Lengths,
    /// Where the frame begins in the block.
    data_at: usize,
}

/// What an interface block says about the packets that name it.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// 0 stands for no limit.
    snap_bytes: u32,
    resolution: Resolution,
    offset_seconds: i64,
    fcs_bytes: u8,
}

/// How long an interface's ticks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// A nanosecond or longer.
    NanosPerTick(u64),
    /// Shorter than a nanosecond.
    TicksPerNano(u64),
    /// Two to the power of this many to the second.
    Binary(u32),
}

impl Section {
    /// Whether the input begins with a section header; nothing is taken.
    pub(super) fn detect<R: Read>(input: &mut Input<R>) -> Result<Option<Self>, Fault> {
        let start = input.fill(MIN_BLOCK_BYTES)?;
        if !start.starts_with(&kind::SECTION_HEADER.to_be_bytes()) {
            return Ok(None);
        }
        let ([_kind, _length, magic, ..], _) = start.as_chunks() else {
            return Err(cut("a block", start.len(), MIN_BLOCK_BYTES));
        };
        let section = |order| Self {
            order,
            interfaces: Vec::new(),
            last_at: Timestamp::default(),
        };
        Ok(byte_order(*magic).map(section))
    }

    /// The block at the front of the input.
    #[inline]
    pub(super) fn step<R: Read>(&mut self, input: &mut Input<R>) -> Result<Step, Fault> {
        let Some(block) = self.block(input)? else {
            return Ok(Step::End);
        };
        let packet = match block.kind {
            kind::ENHANCED_PACKET => self.enhanced_packet(self.body(input, block)?)?,
            kind::SIMPLE_PACKET => self.simple_packet(self.body(input, block)?)?,
            kind::OBSOLETE_PACKET => self.obsolete_packet(self.body(input, block)?)?,
            _ => return self.pass(input, block),
        };
        self.last_at = packet.at;
        Ok(Step::Frame(Record {
            at: packet.at,
            link: packet.link,
            wire_bytes: packet.lengths.wire_bytes,
            data: packet.data_at..packet.data_at + packet.lengths.data_bytes,
            record_bytes: block.total_bytes,
        }))
    }

    /// The header of the block at the front of the input, which stays there; `None` at the end.
    #[inline]
    fn block<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Block>, Fault> {
        let start = input.fill(MIN_BLOCK_BYTES)?;
        if start.is_empty() {
            return Ok(None);
        }
        let ([kind, length, magic, ..], _) = start.as_chunks() else {
            return Err(cut("a block", start.len(), MIN_BLOCK_BYTES));
        };
        if u32::from_be_bytes(*kind) == kind::SECTION_HEADER {
            self.order = byte_order(*magic).ok_or_else(|| {
                Fault::Damaged(format!(
                    "a section header with the byte-order magic {magic:02x?}"
                ))
            })?;
        }
        let block = Block {
            kind: self.order.u32(*kind),
            total_bytes: self.order.u32(*length) as usize,
        };
        let possible = (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block.total_bytes);
        if possible && block.total_bytes.is_multiple_of(WORD_BYTES) {
            Ok(Some(block))
        } else {
            Err(block.impossible())
        }
    }

    /// The body of a block that is to be taken apart. The whole block is there, and stays in the input.
    #[inline]
    fn body<'a, R: Read>(&self, input: &'a mut Input<R>, block: Block) -> Result<&'a [u8], Fault> {
        if block.total_bytes > MAX_PARSED_BLOCK_BYTES {
            return Err(block.impossible());
        }
        let start = input.fill(block.total_bytes)?;
        let available = start.len();
        let Some((rest, trailer)) = start
            .get(..block.total_bytes)
            .and_then(<[u8]>::split_last_chunk)
        else {
            return Err(cut("a block", available, block.total_bytes));
        };
        block.check_trailer(self.order.u32(*trailer))?;
        Ok(rest.get(HEADER_BYTES..).unwrap_or_default())
    }

    /// Takes a block that holds no packet.
    fn pass<R: Read>(&mut self, input: &mut Input<R>, block: Block) -> Result<Step, Fault> {
        match block.kind {
            kind::SECTION_HEADER => self.begin(input.fill(MIN_SECTION_BYTES)?, block)?,
            kind::INTERFACE => self.add_interface(self.body(input, block)?)?,
            _ => {}
        }
        let skipped = input.skip(block.total_bytes - TRAILER_BYTES)?;
        let rest = input.fill(TRAILER_BYTES)?;
        let Some(trailer) = rest.first_chunk() else {
            return Err(cut("a block", skipped + rest.len(), block.total_bytes));
        };
        block.check_trailer(self.order.u32(*trailer))?;
        input.skip(TRAILER_BYTES)?;
        Ok(Step::Passed)
    }

    /// Begins a section: interfaces are numbered anew. Its byte order is known from the block's header.
    fn begin(&mut self, start: &[u8], block: Block) -> Result<(), Fault> {
        let ([_kind, _length, _magic, version, _section_length @ ..], _) = start.as_chunks() else {
            return Err(cut("a section header", start.len(), block.total_bytes));
        };
        if block.total_bytes < MIN_SECTION_BYTES {
            return Err(block.impossible());
        }
        let [major, minor] = self.order.u16_pair(*version);
        if major != MAJOR_VERSION {
            return Err(Fault::Damaged(format!(
                "pcapng version {major}.{minor} (expected 1.0)"
            )));
        }
        self.interfaces.clear();
        Ok(())
    }

    fn add_interface(&mut self, body: &[u8]) -> Result<(), Fault> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Fault::Damaged(format!(
                "a section with more than {MAX_INTERFACES} interfaces"
            )));
        }
        self.interfaces
            .push(Interface::described(self.order, body)?);
        Ok(())
    }

    #[inline]
    fn enhanced_packet(&self, body: &[u8]) -> Result<Packet, Fault> {
        let ([interface, high, low, captured, original, ..], _) = body.as_chunks() else {
            return Err(too_short("an enhanced packet block"));
        };
        let interface = self.interface(self.order.u32(*interface))?;
        self.packet(interface, [*high, *low], [*captured, *original], body.len())
    }

    #[inline]
    fn obsolete_packet(&self, body: &[u8]) -> Result<Packet, Fault> {
        let ([interface_and_drops, high, low, captured, original, ..], _) = body.as_chunks() else {
            return Err(too_short("an obsolete packet block"));
        };
        let [interface, _drops] = self.order.u16_pair(*interface_and_drops);
        let interface = self.interface(interface.into())?;
        self.packet(interface, [*high, *low], [*captured, *original], body.len())
    }

    /// The part that enhanced and obsolete packet blocks have in common.
    #[inline]
    fn packet(
        &self,
        interface: &Interface,
        ticks: [[u8; 4]; 2],
        lengths: [[u8; 4]; 2],
        body_bytes: usize,
    ) -> Result<Packet, Fault> {
        let [high, low] = ticks.map(|word| u64::from(self.order.u32(word)));
        let [captured, original] = lengths.map(|word| self.order.u32(word));
        check_captured(captured, body_bytes - PACKET_HEADER_BYTES)?;
        Ok(Packet {
            at: interface.time(high << 32 | low),
            link: interface.link,
            lengths: Lengths::of(captured, original, interface.fcs_bytes.into()),
            data_at: HEADER_BYTES + PACKET_HEADER_BYTES,
        })
    }

    /// A packet of the section's first interface, without a timestamp and cut at the interface's snap length.
    #[inline]
    fn simple_packet(&self, body: &[u8]) -> Result<Packet, Fault> {
        let ([original, ..], _) = body.as_chunks() else {
            return Err(too_short("a simple packet block"));
        };
        let interface = self.interface(0)?;
        let original = self.order.u32(*original);
        let captured = if interface.snap_bytes == 0 {
            original
        } else {
            original.min(interface.snap_bytes)
        };
        check_captured(captured, body.len() - SIMPLE_PACKET_HEADER_BYTES)?;
        Ok(Packet {
            at: self.last_at,
            link: interface.link,
            lengths: Lengths::of(captured, original, interface.fcs_bytes.into()),
            data_at: HEADER_BYTES + SIMPLE_PACKET_HEADER_BYTES,
        })
    }

    #[inline]
    fn interface(&self, number: u32) -> Result<&Interface, Fault> {
        self.interfaces.get(number as usize).ok_or_else(|| {
            let described = self.interfaces.len();
            Fault::Damaged(format!(
                "a packet of interface {number}, of which the section described {described} so far"
            ))
        })
    }
}

impl Block {
    fn check_trailer(self, total_bytes: u32) -> Result<(), Fault> {
        if total_bytes as usize == self.total_bytes {
            return Ok(());
        }
        let Self {
            kind,
            total_bytes: before,
        } = self;
        Err(Fault::Damaged(format!(
            "a block of type {kind:#x} is {before} bytes long at its start, {total_bytes} at its end"
        )))
    }

    #[cold]
    fn impossible(self) -> Fault {
        let Self { kind, total_bytes } = self;
        Fault::Damaged(format!(
            "a block of type {kind:#x} cannot be {total_bytes} bytes long"
        ))
    }
}

impl Interface {
    /// The interface that the body of a block describes.
    fn described(order: ByteOrder, body: &[u8]) -> Result<Self, Fault> {
        let ([link, snap_bytes, options @ ..], _) = body.as_chunks() else {
            return Err(too_short("an interface description"));
        };
        let [link, _reserved] = order.u16_pair(*link);
        let mut interface = Self {
            link: LinkType::from_registered(link.into()),
            snap_bytes: order.u32(*snap_bytes),
            resolution: Resolution::NanosPerTick(1_000),
            offset_seconds: 0,
            fcs_bytes: 0,
        };
        let mut options = options;
        while let [header, rest @ ..] = options {
            let [code, value_bytes] = order.u16_pair(*header);
            if code == option::END {
                break;
            }
            let value_words = usize::from(value_bytes).div_ceil(WORD_BYTES);
            let Some((value, rest)) = rest.split_at_checked(value_words) else {
                return Err(Fault::Damaged(format!(
                    "option {code} runs past the end of its interface description"
                )));
            };
            interface.apply(order, code, value_bytes, value)?;
            options = rest;
        }
        Ok(interface)
    }

    /// Takes over an option; `value` is padded to whole words.
    fn apply(
        &mut self,
        order: ByteOrder,
        code: u16,
        value_bytes: u16,
        value: &[[u8; 4]],
    ) -> Result<(), Fault> {
        match (code, value_bytes, value) {
            (option::TIMESTAMP_RESOLUTION, 1, [[exponent, ..]]) => {
                self.resolution = Resolution::of(*exponent)?
            }
            (option::TIMESTAMP_OFFSET, 8, [first, second]) => {
                self.offset_seconds = order.i64([*first, *second])
            }
            (option::FCS_LENGTH, 1, [[bytes, ..]]) => self.fcs_bytes = *bytes,
            (option::TIMESTAMP_RESOLUTION | option::TIMESTAMP_OFFSET | option::FCS_LENGTH, ..) => {
                return Err(Fault::Damaged(format!(
                    "option {code} of an interface description cannot be {value_bytes} bytes long"
                )));
            }
            _ => {}
        }
        Ok(())
    }

    /// When `ticks` was, the nearest time there is.
    #[inline]
    fn time(&self, ticks: u64) -> Timestamp {
        let nanos = self.resolution.nanos(ticks);
        if self.offset_seconds == 0 {
            return Timestamp::from_nanos(nanos);
        }
        let shifted = i128::from(nanos)
            + i128::from(self.offset_seconds) * i128::from(Timestamp::NANOS_PER_SECOND);
        Timestamp::from_nanos(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
    }
}

impl Resolution {
    /// The resolution that an option's value stands for.
    fn of(value: u8) -> Result<Self, Fault> {
        let exponent = value & !BINARY_RESOLUTION;
        let (base, max) = if value == exponent {
            (10, MAX_DECIMAL_EXPONENT)
        } else {
            (2, MAX_BINARY_EXPONENT)
        };
        if exponent > max {
            return Err(Fault::Damaged(format!(
                "timestamps in units of {base}^-{exponent} s, of which 64 bits do not hold a second"
            )));
        }
        let exponent = u32::from(exponent);
        Ok(match base {
            2 => Self::Binary(exponent),
            _ if exponent <= 9 => Self::NanosPerTick(10_u64.pow(9 - exponent)),
            _ => Self::TicksPerNano(10_u64.pow(exponent - 9)),
        })
    }

    /// `ticks` in nanoseconds, at most as many as there can be.
    #[inline]
    fn nanos(self, ticks: u64) -> u64 {
        match self {
            Self::NanosPerTick(nanos) => ticks.saturating_mul(nanos),
            Self::TicksPerNano(divisor) => ticks / divisor,
            Self::Binary(exponent) => {
                let nanos =
                    (u128::from(ticks) * u128::from(Timestamp::NANOS_PER_SECOND)) >> exponent;
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
        }
    }
}

/// The byte order that a section header's magic stands for.
fn byte_order(magic: [u8; 4]) -> Option<ByteOrder> {
    [ByteOrder::Big, ByteOrder::Little]
        .into_iter()
        .find(|order| order.u32(magic) == BYTE_ORDER_MAGIC)
}

/// A frame must fit into its block.
#[inline]
fn check_captured(captured_bytes: u32, room_bytes: usize) -> Result<(), Fault> {
    if captured_bytes > MAX_CAPTURED_BYTES {
        return Err(too_long("a packet block", captured_bytes));
    }
    if captured_bytes as usize > room_bytes {
        return Err(Fault::Damaged(format!(
            "a packet block claims {captured_bytes} captured bytes and has room for {room_bytes}"
        )));
    }
    Ok(())
}

#[cold]
fn too_short(block: &str) -> Fault {
    Fault::Damaged(format!("{block} too short for its own fields"))
}

#[cfg(test)]
impl Section {
    pub(super) fn memory_bytes(&self) -> usize {
        self.interfaces.capacity() * size_of::<Interface>()
    }
}
