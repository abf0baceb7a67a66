//! What a file is that is no capture file, as far as its first bytes tell: so that the operator knows what to do with it.

use std::fmt::Write;

/// How many bytes are enough to tell.
pub(super) const LOOKED_AT_BYTES: usize = 512;

/// First bytes that programs agreed on, what has them, and the command that turns it into a capture file.
const KNOWN: [(&[u8], &str); 9] = [
    (
        b"\x1f\x8b",
        "compressed with gzip; unpack it first, for example with `gunzip`",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "compressed with zstd; unpack it first, for example with `unzstd`",
    ),
    (
        b"\xfd7zXZ\0",
        "compressed with xz; unpack it first, for example with `unxz`",
    ),
    (
        b"BZh",
        "compressed with bzip2; unpack it first, for example with `bunzip2`",
    ),
    (
        b"\x04\x22\x4d\x18",
        "compressed with lz4; unpack it first, for example with `unlz4`",
    ),
    (
        b"PK\x03\x04",
        "a zip archive; unpack it first, for example with `unzip`",
    ),
    (
        b"snoop\0\0\0",
        "a snoop capture; convert it first, for example with `editcap -F pcap`",
    ),
    (
        b"GMBU",
        "a Network Monitor capture; convert it first, for example with `editcap -F pcap`",
    ),
    (
        b"RTSS",
        "a Network Monitor capture; convert it first, for example with `editcap -F pcap`",
    ),
];

/// What begins with `start`, in words that complete "not a capture file: ".
pub(super) fn name(start: &[u8]) -> String {
    if start.is_empty() {
        return "the file is empty".to_owned();
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return (*name).to_owned();
    }
    if is_erf(start) {
        return "probably an ERF capture; convert it first, for example with `editcap -F pcap`"
            .to_owned();
    }
    if is_text(start) {
        return "text".to_owned();
    }
    let mut found = "it begins with".to_owned();
    for byte in start.iter().take(8) {
        // Writing to a string cannot fail.
        let _ = write!(found, " {byte:02x}");
    }
    found
}

/// ERF has no magic number: a timestamp, a type, flags, and the record's length, which includes this header of 16 bytes.
fn is_erf(start: &[u8]) -> bool {
    /// Types that Endace has assigned; the top bit says that more headers follow.
    const TYPES: std::ops::RangeInclusive<u8> = 1..=48;
    /// 2000-01-01T00:00:00 UTC: no ERF file is older.
    const EARLIEST_SECONDS: u32 = 946_684_800;

    let Some(
        &[
            _,
            _,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            kind,
            _flags,
            l0,
            l1,
            _,
            _,
            w0,
            w1,
        ],
    ) = start.first_chunk::<16>()
    else {
        return false;
    };
    let (length, wire) = (u16::from_be_bytes([l0, l1]), u16::from_be_bytes([w0, w1]));
    let recent = u32::from_le_bytes([s0, s1, s2, s3]) >= EARLIEST_SECONDS;
    recent && TYPES.contains(&(kind & 0x7f)) && length >= 16 && wire > 0
}

fn is_text(start: &[u8]) -> bool {
    // The last character may be cut in two.
    let readable = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => start
            .get(..error.valid_up_to())
            .and_then(|whole| std::str::from_utf8(whole).ok())
            .unwrap_or_default(),
        Err(_) => return false,
    };
    !readable.is_empty()
        && readable
            .chars()
            .all(|c| !c.is_control() || c.is_whitespace())
}
