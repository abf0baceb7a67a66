//! Writes a capture file of a SYN flood at 10 GbE line rate, each SYN from a random source, to standard output:
//! `flood_capture PACKETS > FILE`. For measurements on files that are too large to be kept.

#[allow(dead_code, reason = "one kind of traffic is wanted here")]
#[path = "../benches/common/traffic.rs"]
mod traffic;

use std::error::Error;
use std::io::{self, BufWriter, Write};

use traffic::{LINE_RATE_WINDOW, Senders, Traffic};

fn main() -> Result<(), Box<dyn Error>> {
    let packets = std::env::args()
        .nth(1)
        .ok_or("usage: flood_capture PACKETS > FILE")?
        .parse()?;
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    Traffic::syn_flood(LINE_RATE_WINDOW, Senders::Random).write_pcap(packets, &mut out)?;
    Ok(out.flush()?)
}
