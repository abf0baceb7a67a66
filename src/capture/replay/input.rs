//! Bytes of a file, in order, through one fixed buffer.
//!
//! Records are looked at where they lie; bytes are moved only when a record straddles the end of the buffer. Knows
//! nothing of capture formats and never grows.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;

/// Length of the buffer in bytes, the most that [`Input::fill`] can make available. Twice the longest record that either
/// format may have; reads of 64 KiB to 1 MiB were measured and cost the same.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// A reader with a buffer in front of it and a count of what was taken out.
pub(super) struct Input<R> {
    reader: R,
    buffer: Box<[u8]>,
    /// First byte not taken yet.
    start: usize,
    /// First byte not filled yet.
    end: usize,
    /// How far into the input `buffer[0]` lies.
    base: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            base: 0,
        }
    }

    /// How many bytes were taken so far.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// What is there without taking it: at least `wanted` bytes, fewer only when the input ends before.
    #[inline]
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.end - self.start < wanted {
            self.read_until(wanted)?;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    /// Takes `count` bytes that [`fill`](Self::fill) has shown and returns the `part` of them.
    #[inline]
    pub(super) fn take(&mut self, count: usize, part: Range<usize>) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from + count);
        self.buffer
            .get(from + part.start..from + part.end)
            .unwrap_or_default()
    }

    /// Takes `count` bytes whether they were shown or not and returns how many there were, fewer only when the input
    /// ends before.
    pub(super) fn skip(&mut self, count: usize) -> io::Result<usize> {
        let mut skipped = 0;
        while skipped < count {
            let available = self.fill(1)?.len();
            if available == 0 {
                break;
            }
            let here = available.min(count - skipped);
            self.start += here;
            skipped += here;
        }
        Ok(skipped)
    }

    #[cold]
    fn read_until(&mut self, wanted: usize) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        while self.end < wanted {
            match self
                .reader
                .read(self.buffer.get_mut(self.end..).unwrap_or_default())
            {
                Ok(0) => break,
                Ok(count) => self.end = self.buffer.len().min(self.end + count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R> fmt::Debug for Input<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("start", &self.start)
            .field("end", &self.end)
            .field("base", &self.base)
            .finish()
    }
}

/// How the writer of a file stored its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    #[inline]
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    /// Two numbers in a row.
    #[inline]
    pub(super) const fn u16_pair(self, [a, b, c, d]: [u8; 4]) -> [u16; 2] {
        [self.u16([a, b]), self.u16([c, d])]
    }

    #[inline]
    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    #[inline]
    pub(super) const fn i64(self, [[a, b, c, d], [e, f, g, h]]: [[u8; 4]; 2]) -> i64 {
        let bytes = [a, b, c, d, e, f, g, h];
        match self {
            Self::Big => i64::from_be_bytes(bytes),
            Self::Little => i64::from_le_bytes(bytes),
        }
    }
}

#[cfg(test)]
impl<R> Input<R> {
    pub(super) fn memory_bytes(&self) -> usize {
        self.buffer.len()
    }
}
