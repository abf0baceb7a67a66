//! Where frames come from.
//!
//! A [`PacketSource`] hands out one borrowed [`Frame`] at a time: [`live`] from an interface, [`replay`] from a file.
//! Everything behind this trait is the same for both. This is the only room that knows libpcap and the kernel's
//! interface tables; it runs on the capture threads (frames), on the detector's thread (interface counters) and on the
//! thread that looks after the host (interfaces, addresses, connections).

pub mod counter;
pub mod live;
mod netlink;
pub mod nic;
pub mod replay;
pub mod sockets;

use std::path::PathBuf;

use crate::clock::Timestamp;

pub use netlink::NetlinkError;

/// How the bytes of a frame begin. Anything that [`classify`](crate::classify) cannot take apart is
/// [`Unsupported`](LinkType::Unsupported).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// An Ethernet II or 802.3 header, with or without VLAN tags (`DLT_EN10MB`).
    Ethernet,
    /// An IPv4 or IPv6 header at once; the first nibble says which (`DLT_RAW`, `DLT_IPV4`, `DLT_IPV6`).
    RawIp,
    /// Four bytes of address family in the byte order of the capturing host (`DLT_NULL`).
    BsdNull,
    /// Four bytes of address family in network byte order (`DLT_LOOP`).
    BsdLoop,
    /// The 16-byte header of a capture on Linux's `any` device (`DLT_LINUX_SLL`).
    LinuxCooked,
    /// Its 20-byte successor (`DLT_LINUX_SLL2`).
    LinuxCooked2,
    /// A link type we do not decode, by its registered number.
    Unsupported(u32),
}

impl LinkType {
    /// The link type of a number from the registry that pcap and pcapng files use.
    #[must_use]
    pub const fn from_registered(number: u32) -> Self {
        match number {
            0 => Self::BsdNull,
            1 => Self::Ethernet,
            // 12 and 14 are what some systems write for raw IP; 101 is the registered value.
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            108 => Self::BsdLoop,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCooked2,
            other => Self::Unsupported(other),
        }
    }
}

/// One captured frame, borrowed from its source until the next one is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured.
    pub at: Timestamp,
    /// How `data` begins.
    pub link: LinkType,
    /// Length on the wire in bytes, from the link-layer header on, without preamble and FCS.
    pub wire_bytes: u32,
    /// The captured bytes; may be cut anywhere by the snap length.
    pub data: &'a [u8],
}

/// What a source has to say when it is asked.
#[derive(Debug)]
pub enum Capture<'a> {
    /// The next frame.
    Frame(Frame<'a>),
    /// Nothing now; a live source waited for at most its poll time-out.
    Idle,
    /// There will be no more frames.
    End,
}

/// A stream of frames in the order they were captured.
pub trait PacketSource {
    /// The next frame, or why there is none.
    ///
    /// # Errors
    ///
    /// When the source cannot go on. What it handed out before remains valid: a file cut in the middle gives its
    /// frames up to there first, then the error.
    fn next(&mut self) -> Result<Capture<'_>, CaptureError>;
}

/// Why a source could not be opened or cannot go on. Each message names the thing, what was found and the cure.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The interface named does not exist.
    #[error("interface {name}: no such interface; this host has: {}", available.join(", "))]
    NoSuchInterface {
        /// The name that was asked for.
        name: String,
        /// The interfaces that exist, sorted.
        available: Vec<String>,
    },
    /// No interface was named and there is no default route to choose one by.
    #[error("no default route to choose an interface by; name one with --interface (this host has: {})", available.join(", "))]
    NoDefaultRoute {
        /// The interfaces that exist, sorted.
        available: Vec<String>,
    },
    /// The interface exists but must not be watched.
    #[error("interface {name}: {reason}")]
    UnsuitableInterface {
        /// The interface.
        name: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The process lacks CAP_NET_RAW.
    #[error(
        "interface {name}: capturing packets needs the capability CAP_NET_RAW; start it with `systemctl start ftagent`, \
         as root, or after `setcap cap_net_raw+ep {program}`"
    )]
    NotPermitted {
        /// The interface.
        name: String,
        /// The running program's path, for the `setcap` line.
        program: String,
    },
    /// The interface went down or away while it was watched.
    #[error("interface {name}: {reason}")]
    InterfaceLost {
        /// The interface.
        name: String,
        /// What libpcap says.
        reason: String,
    },
    /// Anything else that libpcap or the kernel refuses.
    #[error("interface {name}: {action}: {reason}")]
    Live {
        /// The interface.
        name: String,
        /// What was being done.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no capture file.
    #[error("{}: not a capture file: {found} (expected pcap or pcapng)", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What its first bytes are instead.
        found: String,
    },
    /// The file is a capture file up to some point.
    #[error("{}: damaged at byte {offset}: {problem}; everything before it was read", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record or block begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
}
