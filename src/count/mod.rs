//! How much of it there was.
//!
//! Samples go in, [`Window`]s of 50 ms come out, and twenty of them make a [`TrafficSecond`]: the only things later
//! rooms know about traffic. Pure; a [`Meter`] runs on its capture thread, windows are merged on the detector's. Every
//! table here is bounded and allocated before the first packet.

mod endpoints;
mod flows;
mod fragments;
mod hash;
mod meter;
mod ports;
mod second;
mod sessions;
mod sources;

use crate::classify::{Service, TrafficClass, Undecodable};
use crate::clock::Timestamp;

pub use endpoints::Endpoints;
pub(crate) use flows::log2;
pub use flows::{FlowBitmap, FlowHistory};
pub use fragments::FragmentTally;
pub use hash::Seeded;
pub use meter::{Meter, Settings};
pub use ports::PortHistogram;
pub use second::{Recall, SecondMeter};
pub use sessions::{PortSessions, SessionTally};
pub use sources::{Distinct, SourceCount, SourceSummary, SourceTally};

/// Windows in a second.
pub const WINDOWS_PER_SECOND: u64 = 20;

/// Length of a window in nanoseconds. 50 ms: at five times the limit the sum over a second crosses it after 200 ms,
/// and a window of 100 ms would spend the rest of the 300 ms budget on waiting for its own end.
pub const WINDOW_NANOS: u64 = Timestamp::NANOS_PER_SECOND / WINDOWS_PER_SECOND;

/// Which 50 ms since the epoch: the grid every window lies on, in any file and on any host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowIndex(u64);

impl WindowIndex {
    /// The window that `at` falls into.
    #[must_use]
    pub const fn of(at: Timestamp) -> Self {
        Self(at.as_nanos() / WINDOW_NANOS)
    }

    /// Its first instant.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp::from_nanos(self.0.saturating_mul(WINDOW_NANOS))
    }

    /// The first instant after it.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        self.next().start()
    }

    /// The window after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many windows lie from `earlier` to this one; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The first instant of the UTC second it lies in.
    #[must_use]
    pub const fn second_start(self) -> Timestamp {
        Timestamp::from_seconds(self.0 / WINDOWS_PER_SECOND)
    }

    /// Whether it is the last of its UTC second.
    #[must_use]
    pub const fn ends_second(self) -> bool {
        self.0 % WINDOWS_PER_SECOND == WINDOWS_PER_SECOND - 1
    }
}

/// Packets and the bits they had at layer 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bits at layer 2, without preamble and FCS.
    pub bits: u64,
}

impl Count {
    /// Counts `packets` packets of `bits` bits together.
    #[inline]
    pub const fn add(&mut self, packets: u64, bits: u64) {
        self.packets = self.packets.saturating_add(packets);
        self.bits = self.bits.saturating_add(bits);
    }

    /// Adds another count to this one.
    #[inline]
    pub const fn merge(&mut self, other: Self) {
        self.add(other.packets, other.bits);
    }

    /// Takes away a count that was merged into this one before.
    pub const fn retire(&mut self, other: Self) {
        self.packets = self.packets.saturating_sub(other.packets);
        self.bits = self.bits.saturating_sub(other.bits);
    }
}

/// Counts for each value of a byte: TCP flag combinations, protocols, TTLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteHistogram([u64; 256]);

impl Default for ByteHistogram {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl ByteHistogram {
    /// Counts `n` more of `value`.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a byte is always below 256")]
    pub const fn add(&mut self, value: u8, n: u64) {
        self.0[value as usize] += n;
    }

    /// How many of `value` were counted.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "a byte is always below 256")]
    pub const fn of(&self, value: u8) -> u64 {
        self.0[value as usize]
    }

    /// How many were counted whose value satisfies `wanted`.
    #[must_use]
    pub fn matching(&self, wanted: impl Fn(u8) -> bool) -> u64 {
        (0..=u8::MAX)
            .filter(|value| wanted(*value))
            .map(|value| self.of(value))
            .sum()
    }

    /// Adds another histogram to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// Takes away a histogram that was merged into this one before.
    pub fn retire(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.saturating_sub(*theirs);
        }
    }
}

/// Upper bounds, in bytes on the wire, of the length buckets; the last bucket takes everything longer. Chosen to keep
/// apart minimum frames, small datagrams, typical amplification sizes, full frames, jumbo and merged frames.
pub const LENGTH_BOUNDS: [u32; 11] = [64, 100, 128, 256, 512, 768, 1024, 1280, 1518, 9018, 65_535];

/// What was counted in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames as the interface hands them over: a frame merged by receive offload counts once.
    pub frames: Count,
    /// Packets as they were on the wire, by class; merged frames count as the packets they were made of.
    pub classes: [Count; TrafficClass::COUNT],
    /// Reflected packets by service: these add up to the class `UdpReflected`.
    pub services: [Count; Service::COUNT],
    /// Of `services`, packets whose payload carries the service's signature.
    pub services_signed: [u64; Service::COUNT],
    /// Packets by IP protocol number.
    pub protocols: ByteHistogram,
    /// TCP packets by flag combination.
    pub flags: ByteHistogram,
    /// IP packets by TTL or hop limit.
    pub ttls: ByteHistogram,
    /// Frames by length on the wire, see [`LENGTH_BOUNDS`].
    pub lengths: [u64; LENGTH_BOUNDS.len() + 1],
    /// Fragments, and which datagrams the later ones belong to.
    pub fragments: FragmentTally,
    /// First lines of HTTP requests that read or ask for the head of something.
    pub http_gets: u64,
    /// First lines of HTTP requests that send something.
    pub http_posts: u64,
    /// First lines of any other HTTP request.
    pub http_others: u64,
    /// TLS client hellos.
    pub tls_hellos: u64,
    /// ICMP destination or port unreachable (type 3 code 3, ICMPv6 type 1 code 4).
    pub port_unreachables: u64,
    /// Packets that carry another one, whatever the tunnel.
    pub tunnelled: u64,
}

impl Tally {
    /// Packets and bits of one class.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the array has one entry per class")]
    pub const fn class(&self, class: TrafficClass) -> Count {
        self.classes[class as usize]
    }

    /// Packets and bits on the wire, all classes together.
    #[must_use]
    pub fn wire(&self) -> Count {
        let mut sum = Count::default();
        for class in &self.classes {
            sum.merge(*class);
        }
        sum
    }

    /// Empties it. What is empty already, as an idle host's are, costs nothing.
    pub fn clear(&mut self) {
        if self.frames.packets > 0 {
            *self = Self::default();
        }
    }

    /// Adds another tally to this one.
    pub fn merge(&mut self, other: &Self) {
        if other.frames.packets == 0 {
            return;
        }
        self.frames.merge(other.frames);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.merge(*theirs);
        }
        for (mine, theirs) in self.services.iter_mut().zip(&other.services) {
            mine.merge(*theirs);
        }
        for (mine, theirs) in self.services_signed.iter_mut().zip(&other.services_signed) {
            *mine += theirs;
        }
        self.protocols.merge(&other.protocols);
        self.flags.merge(&other.flags);
        self.ttls.merge(&other.ttls);
        for (mine, theirs) in self.lengths.iter_mut().zip(&other.lengths) {
            *mine += theirs;
        }
        self.fragments.merge(&other.fragments);
        self.http_gets += other.http_gets;
        self.http_posts += other.http_posts;
        self.http_others += other.http_others;
        self.tls_hellos += other.tls_hellos;
        self.port_unreachables += other.port_unreachables;
        self.tunnelled += other.tunnelled;
    }

    /// Takes away a tally that was merged into this one before: what leaves a sliding sum.
    pub fn retire(&mut self, other: &Self) {
        self.frames.retire(other.frames);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.retire(*theirs);
        }
        for (mine, theirs) in self.services.iter_mut().zip(&other.services) {
            mine.retire(*theirs);
        }
        for (mine, theirs) in self.services_signed.iter_mut().zip(&other.services_signed) {
            *mine = mine.saturating_sub(*theirs);
        }
        self.protocols.retire(&other.protocols);
        self.flags.retire(&other.flags);
        self.ttls.retire(&other.ttls);
        for (mine, theirs) in self.lengths.iter_mut().zip(&other.lengths) {
            *mine = mine.saturating_sub(*theirs);
        }
        self.fragments.retire(&other.fragments);
        self.http_gets = self.http_gets.saturating_sub(other.http_gets);
        self.http_posts = self.http_posts.saturating_sub(other.http_posts);
        self.http_others = self.http_others.saturating_sub(other.http_others);
        self.tls_hellos = self.tls_hellos.saturating_sub(other.tls_hellos);
        self.port_unreachables = self
            .port_unreachables
            .saturating_sub(other.port_unreachables);
        self.tunnelled = self.tunnelled.saturating_sub(other.tunnelled);
    }
}

/// Packets that were there and that we did not see, by who lost them. Three separate counters: they have separate cures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Dropped by the kernel because the capture ring was full.
    pub ring: u64,
    /// Dropped by the interface or its driver.
    pub interface: u64,
    /// Counted into a later window because the detector was behind.
    pub delayed: u64,
}

impl Loss {
    /// Adds another loss to this one.
    pub const fn merge(&mut self, other: Self) {
        self.ring += other.ring;
        self.interface += other.interface;
        self.delayed += other.delayed;
    }

    /// Takes away a loss that was merged into this one before.
    pub const fn retire(&mut self, other: Self) {
        self.ring = self.ring.saturating_sub(other.ring);
        self.interface = self.interface.saturating_sub(other.interface);
        self.delayed = self.delayed.saturating_sub(other.delayed);
    }
}

/// 50 ms of traffic: bounded, recycled, and mergeable. Windows of several workers and interfaces merge into what one
/// worker would have seen, whatever the order. Only `sessions` may differ a little: each worker follows handshakes by
/// sample, and begins to follow a port with the first one that it sees complete.
#[derive(Clone, Debug)]
pub struct Window {
    /// Which 50 ms.
    pub index: WindowIndex,
    /// When the first inbound packet came, if one came.
    pub first_inbound_at: Option<Timestamp>,
    /// What came in.
    pub inbound: Tally,
    /// What went out.
    pub outbound: Tally,
    /// Whom it came from, and where to.
    pub inbound_ends: Endpoints,
    /// Whom it went to, and where from.
    pub outbound_ends: Endpoints,
    /// Inbound TCP sessions by the port they came to.
    pub sessions: SessionTally,
    /// Packets neither from nor to this host.
    pub foreign: u64,
    /// Packets older than the window that was open when they came; they are counted in it.
    pub late: u64,
    /// Frames, or parts of them, that could not be taken apart, by reason.
    pub undecodable: [u64; Undecodable::COUNT],
    /// What we know we did not see.
    pub loss: Loss,
}

impl Window {
    /// An empty window with all its tables allocated.
    ///
    /// `seed` keys the tables' hashes: random in the live agent, fixed in replay.
    #[must_use]
    pub fn new(index: WindowIndex, seed: u64) -> Self {
        Self {
            index,
            first_inbound_at: None,
            inbound: Tally::default(),
            outbound: Tally::default(),
            inbound_ends: Endpoints::new(seed),
            outbound_ends: Endpoints::new(seed),
            sessions: SessionTally::new(),
            foreign: 0,
            late: 0,
            undecodable: [0; Undecodable::COUNT],
            loss: Loss::default(),
        }
    }

    /// Empties the window for another 50 ms without giving memory back.
    pub fn reset(&mut self, index: WindowIndex) {
        self.index = index;
        self.first_inbound_at = None;
        self.inbound.clear();
        self.outbound.clear();
        self.inbound_ends.clear();
        self.outbound_ends.clear();
        self.sessions.clear();
        self.foreign = 0;
        self.late = 0;
        self.undecodable = [0; Undecodable::COUNT];
        self.loss = Loss::default();
    }

    /// Adds what another worker saw in the same 50 ms.
    pub fn merge(&mut self, other: &Self) {
        self.first_inbound_at = match (self.first_inbound_at, other.first_inbound_at) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.inbound.merge(&other.inbound);
        self.outbound.merge(&other.outbound);
        self.inbound_ends.merge(&other.inbound_ends);
        self.outbound_ends.merge(&other.outbound_ends);
        self.sessions.merge(&other.sessions);
        self.foreign += other.foreign;
        self.late += other.late;
        for (mine, theirs) in self.undecodable.iter_mut().zip(&other.undecodable) {
            *mine += theirs;
        }
        self.loss.merge(other.loss);
    }
}

/// What a second's [`Endpoints`] come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondEnds {
    /// Different sources.
    pub sources: Distinct,
    /// Flows not seen in the half minute before.
    pub new_flows: u64,
    /// The TCP destination ports with most packets, at most twenty, largest first.
    pub tcp_ports: Vec<(u16, u64)>,
    /// The UDP destination ports with most packets, at most twenty, largest first.
    pub udp_ports: Vec<(u16, u64)>,
}

/// A UTC second of traffic: twenty windows summed, with the totals that were judged.
#[derive(Clone, Debug)]
pub struct TrafficSecond {
    /// When it began.
    pub start: Timestamp,
    /// Inbound packets: from the interface counters where there are any, else as captured.
    pub pps: u64,
    /// Inbound bits at layer 2, from the same origin.
    pub bps: u64,
    /// Whether `pps` and `bps` are the interface's.
    pub from_interface: bool,
    /// What came in, as captured.
    pub inbound: Tally,
    /// What went out, as captured.
    pub outbound: Tally,
    /// Whom it came from, and where to.
    pub inbound_ends: SecondEnds,
    /// Whom it went to, and where from.
    pub outbound_ends: SecondEnds,
    /// Packets neither from nor to this host.
    pub foreign: u64,
    /// Packets that came out of order.
    pub late: u64,
    /// Frames, or parts of them, that could not be taken apart, by reason.
    pub undecodable: [u64; Undecodable::COUNT],
    /// What we know we did not see.
    pub loss: Loss,
}
