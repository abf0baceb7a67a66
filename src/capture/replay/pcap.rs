//! The classic pcap format: a file header, then records of a header and a frame each.
//!
//! Written from the pcap draft of the IETF's OPSAWG. Called by the reader only; consumes nothing but the file header.

use std::io::Read;

use super::{ByteOrder, Fault, Input, Lengths, MAX_CAPTURED_BYTES, Record, Step, cut, too_long};
use crate::capture::LinkType;
use crate::clock::Timestamp;

/// Timestamps in microseconds.
const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
/// Timestamps in nanoseconds.
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
/// Microseconds, and records with eight more bytes (interface, protocol, packet type), as a patched libpcap of the
/// nineties wrote them.
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;

/// Length of the file header in bytes.
const FILE_HEADER_BYTES: usize = 24;
/// Length of a record's header in bytes: seconds, fraction, captured length, original length.
const RECORD_HEADER_BYTES: usize = 16;
/// Length of a record's header in the modified format.
const MODIFIED_HEADER_BYTES: usize = 24;

/// The only major version ever used.
const MAJOR_VERSION: u16 = 2;
/// Until this minor version some programs wrote a record's two lengths the other way round.
const LAST_AMBIGUOUS_MINOR: u16 = 3;

/// Bits of the link type field that hold the link type.
const LINK_TYPE_MASK: u32 = 0xffff;
/// Set when the top four bits say how long the frame check sequence is.
const FCS_LENGTH_PRESENT: u32 = 0x0400_0000;
/// Where the length of the check sequence stands.
const FCS_LENGTH_SHIFT: u32 = 28;
/// The length is given in units of 16 bits.
const FCS_UNIT_BYTES: u32 = 2;

/// What the file header says about every record.
#[derive(Debug)]
pub(super) struct Layout {
    order: ByteOrder,
    link: LinkType,
    header_bytes: usize,
    nanos_per_fraction: u64,
    fcs_bytes: u32,
    lengths_ambiguous: bool,
}

impl Layout {
    /// Takes the file header; `None`, and nothing is taken, when the input does not begin with one.
    pub(super) fn detect<R: Read>(input: &mut Input<R>) -> Result<Option<Self>, Fault> {
        let start = input.fill(FILE_HEADER_BYTES)?;
        let Some((magic, rest)) = start.split_first_chunk() else {
            return Ok(None);
        };
        let Some((order, magic)) = recognise(*magic) else {
            return Ok(None);
        };
        let ([version, _zone, _accuracy, _snap_length, link_field, ..], _) = rest.as_chunks()
        else {
            return Err(cut("the file header", start.len(), FILE_HEADER_BYTES));
        };
        let [major, minor] = order.u16_pair(*version);
        if major != MAJOR_VERSION {
            return Err(Fault::Damaged(format!(
                "pcap version {major}.{minor} (expected 2.4)"
            )));
        }
        let link_field = order.u32(*link_field);
        let layout = Self {
            order,
            link: LinkType::from_registered(link_field & LINK_TYPE_MASK),
            header_bytes: if magic == MAGIC_MODIFIED {
                MODIFIED_HEADER_BYTES
            } else {
                RECORD_HEADER_BYTES
            },
            nanos_per_fraction: if magic == MAGIC_NANOS { 1 } else { 1_000 },
            fcs_bytes: fcs_bytes(link_field),
            lengths_ambiguous: minor <= LAST_AMBIGUOUS_MINOR,
        };
        input.skip(FILE_HEADER_BYTES)?;
        Ok(Some(layout))
    }

    /// The record at the front of the input.
    #[inline]
    pub(super) fn step<R: Read>(&self, input: &mut Input<R>) -> Result<Step, Fault> {
        let header = input.fill(self.header_bytes)?;
        let available = header.len();
        if available == 0 {
            return Ok(Step::End);
        }
        let ([seconds, fraction, captured, original, ..], _) = header.as_chunks() else {
            return Err(cut("a record", available, self.header_bytes));
        };
        let at = Timestamp::from_seconds(self.order.u32(*seconds).into())
            .plus_nanos(u64::from(self.order.u32(*fraction)) * self.nanos_per_fraction);
        let (mut captured, mut original) = (self.order.u32(*captured), self.order.u32(*original));
        if self.lengths_ambiguous && captured > original {
            std::mem::swap(&mut captured, &mut original);
        }
        if captured > MAX_CAPTURED_BYTES {
            return Err(too_long("a record", captured));
        }
        let record_bytes = self.header_bytes + captured as usize;
        let available = input.fill(record_bytes)?.len();
        if available < record_bytes {
            return Err(cut("a record", available, record_bytes));
        }
        let lengths = Lengths::of(captured, original, self.fcs_bytes);
        Ok(Step::Frame(Record {
            at,
            link: self.link,
            wire_bytes: lengths.wire_bytes,
            data: self.header_bytes..self.header_bytes + lengths.data_bytes,
            record_bytes,
        }))
    }
}

/// The byte order and the magic number in it, if the bytes are one of ours.
fn recognise(magic: [u8; 4]) -> Option<(ByteOrder, u32)> {
    [ByteOrder::Big, ByteOrder::Little]
        .map(|order| (order, order.u32(magic)))
        .into_iter()
        .find(|(_, magic)| matches!(*magic, MAGIC_MICROS | MAGIC_NANOS | MAGIC_MODIFIED))
}

/// Length of the check sequence that every frame ends with.
const fn fcs_bytes(link_field: u32) -> u32 {
    if link_field & FCS_LENGTH_PRESENT == 0 {
        0
    } else {
        (link_field >> FCS_LENGTH_SHIFT) * FCS_UNIT_BYTES
    }
}
