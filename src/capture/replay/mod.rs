//! Frames from a pcap or pcapng file.
//!
//! Our own reader: libpcap's refuses pcapng files whose interfaces have different link types and cannot say where a
//! file is damaged. Memory is one buffer, whatever the file claims about itself; damage is never skipped in silence;
//! nothing is read twice, so a pipe will do. Runs on the thread that replays.

mod foreign;
mod input;
mod pcap;
mod pcapng;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use self::input::{ByteOrder, Input};
use super::{Capture, CaptureError, Frame, LinkType, PacketSource};
use crate::clock::Timestamp;

/// The longest frame a record may hold, in bytes: libpcap's `MAXIMUM_SNAPLEN`, so no usual tool writes a longer one. A
/// record that claims more is damaged.
const MAX_CAPTURED_BYTES: u32 = 262_144;

/// The longest frame on the wire that is believed, in bytes: Linux merges received segments up to its `GSO_MAX_SIZE`,
/// 8 × 65,535, before a capture sees them; the rest is room for headers. A record that claims more counts as this many.
const MAX_WIRE_BYTES: u32 = 8 * 65_536 + 64;

/// A capture file, frame by frame: pcap in both byte orders with micro- or nanoseconds, also with the longer records of
/// the "modified" format, and pcapng with any number of sections and interfaces.
///
/// Timestamps outside what [`Timestamp`] can hold become the nearest one it can; records without one take that of the
/// record before. A file that is damaged gives its frames up to there, then [`CaptureError::Damaged`], then
/// [`Capture::End`].
#[derive(Debug)]
pub struct CaptureReader<R> {
    path: PathBuf,
    input: Input<R>,
    format: Format,
    ended: bool,
}

impl CaptureReader<File> {
    /// Opens the capture file at `path`.
    ///
    /// # Errors
    ///
    /// [`CaptureError::File`] when it cannot be opened or read, otherwise as [`CaptureReader::new`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = File::open(path).map_err(|source| CaptureError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::new(file, path)
    }
}

impl<R: Read> CaptureReader<R> {
    /// Reads a capture from `input`; `label` stands for it in errors. The input need not be buffered.
    ///
    /// # Errors
    ///
    /// [`CaptureError::NotACapture`] when the first bytes are something else, [`CaptureError::Damaged`] when the file
    /// header is cut short or of a version nobody defined, [`CaptureError::File`] when reading fails.
    pub fn new(input: R, label: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = label.as_ref().to_owned();
        let mut input = Input::new(input);
        match Format::detect(&mut input) {
            Ok(Some(format)) => Ok(Self {
                path,
                input,
                format,
                ended: false,
            }),
            Ok(None) => Err(match input.fill(foreign::LOOKED_AT_BYTES) {
                Ok(start) => CaptureError::NotACapture {
                    found: foreign::name(start),
                    path,
                },
                Err(source) => CaptureError::File { path, source },
            }),
            Err(fault) => Err(fault.at(&path, 0)),
        }
    }
}

impl<R: Read> PacketSource for CaptureReader<R> {
    #[inline]
    fn next(&mut self) -> Result<Capture<'_>, CaptureError> {
        while !self.ended {
            let offset = self.input.offset();
            match self.format.step(&mut self.input) {
                Ok(Step::Frame(record)) => {
                    let data = self.input.take(record.record_bytes, record.data);
                    return Ok(Capture::Frame(Frame {
                        at: record.at,
                        link: record.link,
                        wire_bytes: record.wire_bytes,
                        data,
                    }));
                }
                Ok(Step::Passed) => {}
                Ok(Step::End) => self.ended = true,
                Err(fault) => {
                    self.ended = true;
                    return Err(fault.at(&self.path, offset));
                }
            }
        }
        Ok(Capture::End)
    }
}

/// Which of the two formats a file has, and what its headers said so far.
#[derive(Debug)]
enum Format {
    Pcap(pcap::Layout),
    Pcapng(pcapng::Section),
}

impl Format {
    /// The format by the file's first bytes; `None` when it is neither.
    fn detect<R: Read>(input: &mut Input<R>) -> Result<Option<Self>, Fault> {
        if let Some(layout) = pcap::Layout::detect(input)? {
            return Ok(Some(Self::Pcap(layout)));
        }
        Ok(pcapng::Section::detect(input)?.map(Self::Pcapng))
    }

    /// Goes one record or block on.
    #[inline]
    fn step<R: Read>(&mut self, input: &mut Input<R>) -> Result<Step, Fault> {
        match self {
            Self::Pcap(layout) => layout.step(input),
            Self::Pcapng(section) => section.step(input),
        }
    }
}

/// What lay at the front of the input.
#[derive(Debug)]
enum Step {
    /// A frame. Its record is whole and still there.
    Frame(Record),
    /// Something else that has been taken.
    Passed,
    /// Nothing.
    End,
}

/// A frame at the front of the input.
#[derive(Debug)]
struct Record {
    at: Timestamp,
    link: LinkType,
    wire_bytes: u32,
    /// The frame's bytes, counted from the start of the record.
    data: Range<usize>,
    /// How long the record is with everything around the frame.
    record_bytes: usize,
}

/// How long a frame is, and how much of it there is, from the two lengths in its record. Frames that carry their check
/// sequence are told without it.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    wire_bytes: u32,
    data_bytes: usize,
}

impl Lengths {
    #[inline]
    fn of(captured_bytes: u32, original_bytes: u32, fcs_bytes: u32) -> Self {
        let wire_bytes = original_bytes
            .max(captured_bytes)
            .saturating_sub(fcs_bytes)
            .min(MAX_WIRE_BYTES);
        Self {
            wire_bytes,
            data_bytes: captured_bytes.min(wire_bytes) as usize,
        }
    }
}

/// Why there is no going on.
#[derive(Debug)]
enum Fault {
    /// The input cannot be read.
    Read(io::Error),
    /// What it holds makes no sense, and why.
    Damaged(String),
}

impl Fault {
    #[cold]
    fn at(self, path: &Path, offset: u64) -> CaptureError {
        let path = path.to_owned();
        match self {
            Self::Read(source) => CaptureError::File { path, source },
            Self::Damaged(problem) => CaptureError::Damaged {
                path,
                offset,
                problem,
            },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// The fault of a file that ends inside `part`.
#[cold]
fn cut(part: &str, available: usize, wanted: usize) -> Fault {
    Fault::Damaged(format!(
        "the file ends inside {part}, after {available} of {wanted} bytes"
    ))
}

/// The fault of a record that claims a frame longer than any.
#[cold]
fn too_long(part: &str, captured_bytes: u32) -> Fault {
    Fault::Damaged(format!(
        "{part} claims {captured_bytes} captured bytes (at most {MAX_CAPTURED_BYTES} can be)"
    ))
}
