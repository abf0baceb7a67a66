//! Frames from an interface, through libpcap.
//!
//! libpcap maps a ring of blocks into our memory (TPACKET_V3). The kernel hands a block over when it is full or when
//! its time is up, whichever is first; reading frames out of a block costs no system call. Immediate mode is never
//! used: it falls back to TPACKET_V2 with a wake-up for each packet, which costs 8 to 35 times the processor time and
//! halves what the host can receive. The handle is non-blocking and waits in poll(2), because libpcap's own time-out
//! does not end a blocking read on a silent link, where windows must close too.
//!
//! Runs on a capture thread, one source each. It must never allocate, lock or log for a packet, never put the interface
//! into promiscuous mode, and never judge by the text of an error message.

use std::io;

use pcap::{Active, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::nic::{self, Interface};
use super::{Capture, CaptureError, Frame, LinkType, NetlinkError, PacketSource};
use crate::clock::Timestamp;

/// What to capture and with which buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The interface, by its name or one of its alternative names.
    pub interface: String,
    /// How much of each frame the kernel copies. 160 bytes hold everything that classifying reads: Ethernet with two
    /// VLAN tags (22), IPv6 (40) and TCP with all options (60) leave 38 for the payload's first bytes; a VXLAN tunnel
    /// (50) with IPv4 (20), UDP (8) and an inner Ethernet header (14) leaves 68. More would only fill the ring sooner.
    pub snaplen_bytes: u32,
    /// The ring, in blocks of 256 KiB. A short frame takes 157 bytes of it (its descriptor included), one cut at 160
    /// bytes 250. 16 MiB are 64 blocks: they last 64 time-outs of 20 ms, 1.3 s, when little comes, and under flood as
    /// long as they take to fill: 350 ms of short frames at 300,000 a second, 86 ms at 1.24 million. Where the kernel
    /// has less memory in one piece, libpcap takes fewer blocks.
    pub ring_bytes: u32,
    /// After how long the kernel hands over a block that is not full. It is how late a frame can be seen: a window is
    /// judged 30 ms after its end at latest. Not 0, which lets the kernel choose.
    pub block_millis: u32,
    /// How long [`next`](PacketSource::next) waits for a frame before it answers that there is none. Time passes in
    /// steps of this size on a silent link, so it is small against a window of 50 ms; 100 wake-ups a second cost 0.5 %
    /// of one core of a small virtual machine.
    pub poll_millis: u32,
    /// A filter expression in libpcap's language; frames that it does not match are neither seen nor counted.
    pub filter: Option<String>,
}

impl Settings {
    /// The defaults for an interface.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            snaplen_bytes: 160,
            ring_bytes: 16 * 1024 * 1024,
            block_millis: 20,
            poll_millis: 10,
            filter: None,
        }
    }
}

/// Frames that the capture lost, or could have had, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Frames that reached the ring, those dropped there included.
    pub offered: u64,
    /// Of those, dropped because the ring was full: we were too slow.
    pub ring_drops: u64,
    /// Frames that the interface or its driver dropped, as far as libpcap knows. On Linux it asks only for promiscuous
    /// captures, so this stays 0 here; [`LinkCounters::rx_missed`](nic::LinkCounters::rx_missed) is the real figure.
    pub interface_drops: u64,
}

/// A live capture of one interface, inbound and outbound frames alike.
///
/// Frames bear the kernel's wall-clock time of their arrival in nanoseconds. It may step when somebody sets the clock.
/// Because a frame waits in its block, the source may be [`lag_millis`](Self::lag_millis) behind: when it says
/// [`Capture::Idle`], every frame older than that was handed out.
///
/// An interface that goes down is silent until it comes up again; one that is removed ends the capture with
/// [`CaptureError::InterfaceLost`], even if another of its name takes its place. The capture is of an interface, not of a
/// name: one that is renamed stays captured.
pub struct LiveSource {
    handle: pcap::Capture<Active>,
    interface: Interface,
    link: LinkType,
    poll_timeout: Timespec,
    /// Whether frames that come while it waits are left where they are.
    rests: bool,
    block_millis: u32,
    /// Whether the ring was empty when it was read last, so that the next call waits first.
    drained: bool,
    /// Whether the interface went down and no frame came since.
    down: bool,
    losses: [Widened; 3],
}

impl LiveSource {
    /// Starts to capture.
    ///
    /// # Errors
    ///
    /// When the interface does not exist, is loopback, is down or has frames we cannot decode, when the process lacks
    /// CAP_NET_RAW, or for any other reason that libpcap or the kernel gives.
    pub fn open(settings: &Settings) -> Result<Self, CaptureError> {
        let interface = find(&settings.interface)?;
        let all = std::slice::from_ref(&interface);
        nic::check_watchable(&[&interface], all)?;
        if !interface.up {
            return Err(CaptureError::InterfaceLost {
                reason: format!(
                    "is down; bring it up with `ip link set dev {} up`",
                    interface.name
                ),
                name: interface.name,
            });
        }
        check_permission(&interface.name)?;
        let handle = open_handle(&interface.name, settings)
            .map_err(|trouble| trouble.explain(&interface))?;
        let link = link_type(&handle, &interface.name)?;
        Ok(Self {
            handle,
            interface,
            link,
            poll_timeout: timespec(settings.poll_millis),
            rests: false,
            block_millis: settings.block_millis,
            drained: true,
            down: false,
            losses: [Widened::default(); 3],
        })
    }

    /// The interface that is captured, as it was when the capture began.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// How the frames begin.
    #[must_use]
    pub fn link_type(&self) -> LinkType {
        self.link
    }

    /// How long a frame may have been in the ring before it is seen: the block time-out, and one tick of the kernel's
    /// timer (4 ms where it ticks 250 times a second) by which that may be late.
    #[must_use]
    pub fn lag_millis(&self) -> u32 {
        self.block_millis.saturating_add(4)
    }

    /// Waits at most so long for the next frame from now on: until the caller has something else to do.
    pub fn wait_at_most(&mut self, millis: u32) {
        self.poll_timeout = timespec(millis);
        self.rests = false;
    }

    /// Waits so long from now on once the ring is empty, whatever comes meanwhile: being woken for each block, fifty
    /// times a second, costs more than the few frames in it. For quiet times; the ring must last as long.
    pub fn rest_for(&mut self, millis: u32) {
        self.poll_timeout = timespec(millis);
        self.rests = true;
    }

    /// What was lost since the capture was opened. One system call; to be asked in the busy path too.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn loss(&mut self) -> Result<Loss, CaptureError> {
        let stats = match self.handle.stats() {
            Ok(stats) => stats,
            Err(source) => {
                return Err(Trouble {
                    action: "read capture statistics",
                    source,
                }
                .explain(&self.interface));
            }
        };
        let [offered, ring_drops, interface_drops] = &mut self.losses;
        Ok(Loss {
            offered: offered.advance(stats.received),
            ring_drops: ring_drops.advance(stats.dropped),
            interface_drops: interface_drops.advance(stats.if_dropped),
        })
    }

    /// Waits until libpcap should be asked: the ring has a block for us, or the interface is down. False when nothing
    /// came in time, or a signal did.
    fn wait(&mut self) -> Result<bool, CaptureError> {
        if !self.rests {
            return self.poll(self.poll_timeout);
        }
        if self.poll(timespec(0))? {
            return Ok(true);
        }
        std::thread::sleep(self.poll_timeout.try_into().unwrap_or_default());
        self.poll(timespec(0))
    }

    /// Looks whether libpcap should be asked, for so long.
    fn poll(&mut self, timeout: Timespec) -> Result<bool, CaptureError> {
        let mut descriptor = PollFd::new(&self.handle, PollFlags::IN);
        let polled = poll(std::slice::from_mut(&mut descriptor), Some(&timeout));
        // The kernel says so once, and poll(2) no more when the interface is then removed: that only libpcap finds out.
        self.down |= descriptor.revents().contains(PollFlags::ERR);
        match polled {
            Ok(ready) => Ok(ready > 0 || self.down),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(CaptureError::Live {
                name: self.interface.name.clone(),
                action: "wait for frames",
                reason: io::Error::from(errno).to_string(),
            }),
        }
    }
}

impl PacketSource for LiveSource {
    /// The next frame. [`Capture::Idle`] at the end of each block, and whenever `poll_millis` pass without one; the
    /// call after it waits.
    fn next(&mut self) -> Result<Capture<'_>, CaptureError> {
        if self.drained {
            if !self.wait()? {
                return Ok(Capture::Idle);
            }
            self.drained = false;
        }
        match self.handle.next_packet() {
            Ok(packet) => {
                self.down = false;
                Ok(Capture::Frame(Frame {
                    at: timestamp(packet.header),
                    link: self.link,
                    wire_bytes: packet.header.len,
                    data: packet.data,
                }))
            }
            Err(pcap::Error::TimeoutExpired) => {
                self.drained = true;
                Ok(Capture::Idle)
            }
            Err(source) => Err(Trouble {
                action: "read frames",
                source,
            }
            .explain(&self.interface)),
        }
    }
}

fn timespec(millis: u32) -> Timespec {
    Timespec {
        tv_sec: i64::from(millis / 1000),
        tv_nsec: i64::from(millis % 1000 * 1_000_000),
    }
}

/// A 32-bit counter, made 64 bits wide by being watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Widened {
    total: u64,
    last: u32,
}

impl Widened {
    /// The total, now that the narrow counter stands at `now`.
    ///
    /// A lower value is a counter that wrapped or one that was reset. It wrapped if it gained less than half of its
    /// range: at 1.24 million packets a second that takes half an hour, and it is read every second.
    fn advance(&mut self, now: u32) -> u64 {
        let gained = now.wrapping_sub(self.last);
        let was_reset = now < self.last && gained > u32::MAX / 2;
        self.total = self
            .total
            .saturating_add(u64::from(if was_reset { now } else { gained }));
        self.last = now;
        self.total
    }
}

/// What libpcap refused to do.
struct Trouble {
    action: &'static str,
    source: pcap::Error,
}

impl Trouble {
    /// Says what became of the interface meanwhile, if something did: libpcap has no code for it, only a text, and
    /// whether it takes an interface that is down for an error depends on its version.
    fn explain(self, interface: &Interface) -> CaptureError {
        let now = nic::interfaces()
            .map(|all| all.into_iter().find(|other| other.index == interface.index));
        let name = interface.name.clone();
        match now {
            Ok(None) => CaptureError::InterfaceLost {
                name,
                reason: "was removed while it was watched".to_owned(),
            },
            Ok(Some(Interface { up: false, .. })) => CaptureError::InterfaceLost {
                name,
                reason: "went down while it was watched".to_owned(),
            },
            Ok(Some(_)) | Err(_) => CaptureError::Live {
                name,
                action: self.action,
                reason: self.source.to_string(),
            },
        }
    }
}

fn find(name: &str) -> Result<Interface, CaptureError> {
    let all = nic::interfaces().map_err(|error: NetlinkError| CaptureError::Live {
        name: name.to_owned(),
        action: error.action,
        reason: error.source.to_string(),
    })?;
    if let Some(interface) = all.iter().find(|interface| interface.answers_to(name)) {
        return Ok(interface.clone());
    }
    let mut available: Vec<String> = all.into_iter().map(|interface| interface.name).collect();
    available.sort_unstable();
    Err(CaptureError::NoSuchInterface {
        name: name.to_owned(),
        available,
    })
}

/// Asks for a packet socket as libpcap will: only the kernel knows whether a capability held here counts in the name
/// space that owns the interface.
fn check_permission(name: &str) -> Result<(), CaptureError> {
    match socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    ) {
        Ok(_) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS) => Err(CaptureError::NotPermitted {
            name: name.to_owned(),
            program: std::env::current_exe()
                .map_or_else(|_| "ftagent".to_owned(), |path| path.display().to_string()),
        }),
        Err(errno) => Err(CaptureError::Live {
            name: name.to_owned(),
            action: "open a packet socket",
            reason: io::Error::from(errno).to_string(),
        }),
    }
}

fn open_handle(name: &str, settings: &Settings) -> Result<pcap::Capture<Active>, Trouble> {
    let during = |action| move |source| Trouble { action, source };
    let narrow = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let mut handle = pcap::Capture::from_device(name)
        .map_err(during("prepare the capture"))?
        .promisc(false)
        .immediate_mode(false)
        .snaplen(narrow(settings.snaplen_bytes))
        .buffer_size(narrow(settings.ring_bytes))
        .timeout(narrow(settings.block_millis.max(1)))
        .precision(Precision::Nano)
        .open()
        .map_err(during("start the capture"))?
        .setnonblock()
        .map_err(during("make the capture non-blocking"))?;
    // Without a filter the kernel copies whole frames into a TPACKET_V3 ring and libpcap cuts them only when they are
    // read. The empty filter matches everything and cuts in the kernel.
    handle
        .filter(settings.filter.as_deref().unwrap_or(""), true)
        .map_err(during("compile the filter"))?;
    Ok(handle)
}

fn link_type(handle: &pcap::Capture<Active>, name: &str) -> Result<LinkType, CaptureError> {
    let datalink = handle.get_datalink();
    let number = u32::try_from(datalink.0).unwrap_or(u32::MAX);
    match LinkType::from_registered(number) {
        LinkType::Unsupported(_) => Err(CaptureError::UnsuitableInterface {
            name: name.to_owned(),
            reason: format!(
                "its frames are of link type {number} ({}), which is not decoded; watch an Ethernet or IP interface",
                datalink.get_name().unwrap_or_else(|_| "unknown".to_owned()),
            ),
        }),
        known => Ok(known),
    }
}

/// With nanosecond precision the field named after microseconds holds nanoseconds.
fn timestamp(header: &pcap::PacketHeader) -> Timestamp {
    let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
    Timestamp::from_seconds(seconds).plus_nanos(u64::try_from(header.ts.tv_usec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_counter_that_wraps_goes_on_counting() {
        let mut counter = Widened::default();
        assert_eq!(counter.advance(u32::MAX - 5), u64::from(u32::MAX) - 5);
        assert_eq!(counter.advance(4), u64::from(u32::MAX) - 5 + 10);
        assert_eq!(counter.advance(4), u64::from(u32::MAX) + 5);
    }

    #[test]
    fn a_narrow_counter_that_was_reset_loses_nothing_it_had() {
        let mut counter = Widened::default();
        counter.advance(1_000);
        assert_eq!(counter.advance(30), 1_030);
        assert_eq!(counter.advance(31), 1_031);
    }

    #[test]
    fn a_whole_range_in_steps_is_counted_in_64_bits() {
        let mut counter = Widened::default();
        let step = 1u32 << 30;
        let totals: Vec<u64> = (1..=12u32)
            .map(|n| counter.advance(n.wrapping_mul(step)))
            .collect();
        assert_eq!(totals.last(), Some(&(12 * (1 << 30))));
        assert!(totals.is_sorted());
    }

    #[test]
    fn the_default_ring_holds_a_second_of_blocks_at_the_default_time_out() {
        let settings = Settings::new("eth0");
        let blocks = settings.ring_bytes / (256 * 1024);
        assert!(blocks * settings.block_millis >= 1_000);
        assert!(settings.block_millis <= 20);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_named_with_those_that_do() {
        let error = LiveSource::open(&Settings::new("no-such-if0")).err();
        let Some(CaptureError::NoSuchInterface { name, available }) = error else {
            panic!("expected NoSuchInterface");
        };
        assert_eq!(name, "no-such-if0");
        assert!(available.iter().any(|name| name == "lo"), "{available:?}");
    }

    #[test]
    fn loopback_is_refused_with_the_reason() {
        let error = LiveSource::open(&Settings::new("lo")).err();
        assert!(
            matches!(error, Some(CaptureError::UnsuitableInterface { ref name, .. }) if name == "lo"),
            "{error:?}"
        );
    }
}
