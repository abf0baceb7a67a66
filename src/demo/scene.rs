//! What `ftagent demo` shows: the recording, the host it was made on, and what the platform says about that host.
//!
//! The recording is part of the program: 47 seconds of people who load pages and ask for names, with a SYN flood in two
//! steps over it from the sixteenth second on. `scripts/record-demo.sh` made it, from real clients, a real generator and
//! real servers.

use std::net::{IpAddr, Ipv4Addr};

use super::platform::NodeConfig;

/// The recording: classic pcap, Ethernet, headers only.
pub const RECORDING: &[u8] = include_bytes!("demo.pcap");

/// The address that the recording's server had.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));

/// What the platform says about it. A limit of 80 is three times what people cause here; the flood's first step crosses
/// it by half, its second three times.
#[must_use]
pub fn node_config() -> NodeConfig {
    NodeConfig {
        mean_pps: 24,
        p99_pps: 38,
        ..NodeConfig::threshold(80)
    }
}
