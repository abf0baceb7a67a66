//! Who sent it: exact while the sources can be counted one by one, honest bounds when they cannot.
//!
//! A [`SourceTally`] belongs to one window on one capture thread and is filled once per inbound packet; tallies of
//! several workers merge on the detector's thread and are absorbed there into a [`SourceSummary`] for a second or an
//! incident. Both count up to 65,536 sources of each address family exactly. Whoever comes after that is still found
//! again in a distinct sketch and among the heavy hitters, so that the number of sources and the largest of them stay
//! known while memory does not grow. Never allocates after `new` except for the lists it returns, never lets the order
//! of a hash reach its output, and forgets no packet: what the tables do not hold, the sketches do.
//!
//! All tallies and summaries that meet must be made with the same seed: sketches of different seeds do not merge.

mod distinct;
mod heavy;
mod queue;
mod table;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::distinct::DistinctSketch;
use self::heavy::HeavyHitters;
use self::table::{Glance, Table};
use super::hash::Seeded;
use crate::classify::TrafficClass;

pub(super) use queue::SourceQueue;

/// Sources counted exactly, for each address family: the bound an incident's list and count are promised exact for. In
/// a window a source counts once for each class it sends.
const EXACT_SOURCES: usize = 65_536;

/// How many groups of eight slots a search in an exact table may visit. A full table is half empty, where a chance of
/// one in 10^16 is left that a source finds no slot within 256; whoever knows the seed and forges collisions gains some
/// fifty nanoseconds a packet and no more.
const EXACT_REACH: usize = 32;

/// Heavy hitters kept among the addresses of each family, so that an error is at most a permille of the packets that
/// found no place in the exact table: nobody above the listing rule's permille can hide.
const HEAVY_SOURCES: usize = 1_024;

/// Heavy hitters kept among IPv6 networks of 64 bits: who owns one can send from every address in it.
const HEAVY_NETWORKS: usize = 512;

/// Packets that must certainly be a source's before it is listed (detection.md, section 10) ...
const LISTED_PACKETS: u64 = 10;

/// ... or, of a few hundred packets in all, so many and a hundredth of them: ten packets would be a large part of so
/// little. One packet never lists anybody: that is what a forged source sends.
const LISTED_OF_FEW: u64 = 2;

/// How many different sources there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distinct {
    /// The number. An estimate has a standard deviation of 0.57 %.
    pub count: u64,
    /// Whether it is exact; otherwise it is estimated.
    pub exact: bool,
}

/// One source and its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// Who.
    pub address: IpAddr,
    /// Packets guaranteed to be theirs.
    pub packets: u64,
    /// By how much the true count may be higher.
    pub error: u64,
}

/// The sources of one window, by class.
///
/// Exact for 65,536 pairs of class and IPv4 address and as many of class and IPv6 address. What comes after them is
/// counted without its class, in sketches. Everything is reserved by `new`, but a page becomes resident only when it is
/// first used: 0.2 MiB when new, 0.5 MiB with a few hundred sources, 1.3 MiB under a flood from random IPv4 addresses,
/// 3.3 MiB once IPv6 did the same (resident memory measured on Linux).
#[derive(Clone)]
pub struct SourceTally {
    seeded: Seeded,
    v4: Table<ClassCount<Ipv4Addr>>,
    v6: Table<ClassCount<Ipv6Addr>>,
    sketches: Sketches,
}

/// The sources of many windows: an incident's, or a second's.
///
/// Exact for 65,536 IPv4 and 65,536 IPv6 addresses. When a family's table is full, those in it go on being counted
/// exactly, and everybody else is counted in sketches. Resident: 0.2 MiB when new, 1.6 MiB when full of IPv4, 3.5 MiB
/// when full of both.
#[derive(Clone)]
pub struct SourceSummary {
    seeded: Seeded,
    v4: Table<Packets<Ipv4Addr>>,
    v6: Table<Packets<Ipv6Addr>>,
    sketches: Sketches,
    packets: u64,
    /// Packets that came out of windows' own sketches: of these alone a source in a table here may have missed some.
    blurred: u64,
}

/// An address that can be counted.
trait Address: Copy + Ord + Into<IpAddr> {
    fn hash(self, seeded: Seeded) -> u64;

    /// The hash of the address together with a class.
    fn hash_in(self, class: TrafficClass, seeded: Seeded) -> u64;
}

/// Packets of one class from one address.
#[derive(Clone, Copy)]
struct ClassCount<A> {
    address: A,
    packets: u32,
    class: TrafficClass,
    /// Whether this was the first class seen from the address. There is one such entry an address, and it alone is
    /// found by the address's hash: addresses are counted by counting these.
    first: bool,
}

/// Packets from one address.
#[derive(Clone, Copy)]
struct Packets<A> {
    address: A,
    packets: u64,
}

/// Where packets go whose source has no place in an exact table.
#[derive(Clone)]
struct Sketches {
    seeded: Seeded,
    distinct: DistinctSketch,
    v4: HeavyHitters<Ipv4Addr>,
    v6: HeavyHitters<Ipv6Addr>,
    networks: HeavyHitters<Ipv6Addr>,
    packets: u64,
}

impl SourceTally {
    /// An empty tally. `seed` keys its hashes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let seeded = Seeded::new(seed);
        Self {
            seeded,
            v4: Table::new(EXACT_SOURCES, EXACT_REACH),
            v6: Table::new(EXACT_SOURCES, EXACT_REACH),
            sketches: Sketches::new(seeded),
        }
    }

    /// Counts packets. Frames that are not IP have no source and are not counted.
    #[inline]
    pub fn add(&mut self, class: TrafficClass, source: IpAddr, packets: u32) {
        let hash = self.hash(source);
        self.add_hashed(hash, class, source, packets);
    }

    /// The hash of a source under this tally's seed.
    #[inline]
    fn hash(&self, source: IpAddr) -> u64 {
        match source {
            IpAddr::V4(address) => address.hash(self.seeded),
            IpAddr::V6(address) => address.hash(self.seeded),
        }
    }

    /// Announces packets that are going to be counted soon; gives the source's hash.
    #[inline(always)]
    fn expect(&self, source: IpAddr) -> u64 {
        let hash = self.hash(source);
        match source {
            IpAddr::V4(_) => self.v4.expect(hash),
            IpAddr::V6(_) => self.v6.expect(hash),
        }
        hash
    }

    /// Counts packets of a source whose hash is known.
    #[inline(always)]
    fn add_hashed(&mut self, hash: u64, class: TrafficClass, source: IpAddr, packets: u32) {
        if packets == 0 || class == TrafficClass::NotIp {
            return;
        }
        // One call a family: an address of either would have to be handed over in memory.
        match source {
            IpAddr::V4(address) => {
                match self.v4.glance(hash, |entry| entry.is_first(address, class)) {
                    Glance::Found(entry) => entry.packets = entry.packets.saturating_add(packets),
                    Glance::Refused => self.sketches.add_v4(hash, address, u64::from(packets)),
                    Glance::Unclear => self.add_v4(hash, address, class, packets),
                }
            }
            IpAddr::V6(address) => {
                match self.v6.glance(hash, |entry| entry.is_first(address, class)) {
                    Glance::Found(entry) => entry.packets = entry.packets.saturating_add(packets),
                    Glance::Refused => self.sketches.add_v6(hash, address, u64::from(packets)),
                    Glance::Unclear => self.add_v6(hash, address, class, packets),
                }
            }
        }
    }

    #[inline(never)]
    fn add_v4(&mut self, hash: u64, address: Ipv4Addr, class: TrafficClass, packets: u32) {
        if !count(&mut self.v4, self.seeded, hash, address, class, packets) {
            self.sketches.add_v4(hash, address, u64::from(packets));
        }
    }

    #[inline(never)]
    fn add_v6(&mut self, hash: u64, address: Ipv6Addr, class: TrafficClass, packets: u32) {
        if !count(&mut self.v6, self.seeded, hash, address, class, packets) {
            self.sketches.add_v6(hash, address, u64::from(packets));
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.sketches.clear();
    }

    /// Adds another worker's tally of the same window.
    ///
    /// As long as all keys fit the exact tables, the result is what one worker would have counted, however packets were
    /// split. Beyond, the number of distinct sources is still the same; which sources are counted exactly depends on
    /// who came first.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(
            self.seeded, other.seeded,
            "tallies merge only under one seed"
        );
        for entry in other.v4.entries() {
            self.add(entry.class, IpAddr::V4(entry.address), entry.packets);
        }
        for entry in other.v6.entries() {
            self.add(entry.class, IpAddr::V6(entry.address), entry.packets);
        }
        self.sketches.merge(&other.sketches);
    }

    /// Different sources over all classes.
    #[must_use]
    pub fn distinct(&self) -> Distinct {
        self.sketches
            .distinct(first_entries(&self.v4), first_entries(&self.v6))
    }
}

impl SourceSummary {
    /// An empty summary. `seed` must be that of the windows it is going to absorb.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let seeded = Seeded::new(seed);
        Self {
            seeded,
            v4: Table::new(EXACT_SOURCES, EXACT_REACH),
            v6: Table::new(EXACT_SOURCES, EXACT_REACH),
            sketches: Sketches::new(seeded),
            packets: 0,
            blurred: 0,
        }
    }

    /// Adds a window's sources, of those classes that are `wanted`.
    ///
    /// What a window counted in its sketches has no class any more and is always added: a window with more than 65,536
    /// sources is a flood's, and nearly all of what its tables had no place for is the flood itself.
    pub fn absorb(&mut self, window: &SourceTally, wanted: impl Fn(TrafficClass) -> bool) {
        debug_assert_eq!(
            self.seeded, window.seeded,
            "a summary and its windows share one seed"
        );
        for entry in window
            .v4
            .entries()
            .iter()
            .filter(|entry| wanted(entry.class))
        {
            self.add_v4(entry.address, u64::from(entry.packets));
        }
        for entry in window
            .v6
            .entries()
            .iter()
            .filter(|entry| wanted(entry.class))
        {
            self.add_v6(entry.address, u64::from(entry.packets));
        }
        self.sketches.merge(&window.sketches);
        self.packets += window.sketches.packets;
        self.blurred += window.sketches.packets;
    }

    /// Different sources.
    #[must_use]
    pub fn distinct(&self) -> Distinct {
        let v4 = self.v4.entries().iter().map(|entry| entry.address);
        let v6 = self.v6.entries().iter().map(|entry| entry.address);
        self.sketches.distinct(v4, v6)
    }

    /// Packets absorbed.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets of each source, in no order that means anything; `None` once not every source is counted exactly.
    pub fn exact_counts(&self) -> Option<impl Iterator<Item = u64>> {
        let v4 = self.v4.entries().iter().map(|entry| entry.packets);
        let v6 = self.v6.entries().iter().map(|entry| entry.packets);
        (self.sketches.packets == 0).then(|| v4.chain(v6))
    }

    /// The largest sources: at most `n`, most packets first, then lower address.
    ///
    /// Listed is who certainly sent a permille of all packets and ten of them, or two packets and a hundredth of all:
    /// of a few hundred packets, sixty sources of five each are worth seeing. Under a flood from forged addresses nobody
    /// qualifies, and the list is empty.
    #[must_use]
    pub fn largest(&self, n: usize) -> Vec<SourceCount> {
        let floor = self.listing_floor();
        let mut listed = Vec::new();
        self.list_family(&self.v4, &self.sketches.v4, floor, &mut listed);
        self.list_family(&self.v6, &self.sketches.v6, floor, &mut listed);
        most_first(listed, n)
    }

    /// The largest IPv6 networks of 64 bits by their first address: at most `n`, by the rule of
    /// [`SourceSummary::largest`]. Exact for up to 1,024 networks.
    #[must_use]
    pub fn largest_networks(&self, n: usize) -> Vec<SourceCount> {
        let floor = self.listing_floor();
        let counters = self.sketches.networks.counters().iter();
        let listed = counters
            .filter(|counter| counter.packets >= floor)
            .map(|counter| SourceCount {
                address: IpAddr::V6(counter.address),
                packets: counter.packets,
                error: counter.missed,
            });
        most_first(listed.collect(), n)
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
        self.sketches.clear();
        self.packets = 0;
        self.blurred = 0;
    }

    #[inline]
    fn add_v4(&mut self, address: Ipv4Addr, packets: u64) {
        self.packets += packets;
        let hash = address.hash(self.seeded);
        match entry(&mut self.v4, hash, address) {
            Some(entry) => entry.packets += packets,
            None => self.sketches.add_v4(hash, address, packets),
        }
    }

    #[inline]
    fn add_v6(&mut self, address: Ipv6Addr, packets: u64) {
        self.packets += packets;
        let hash = address.hash(self.seeded);
        match entry(&mut self.v6, hash, address) {
            Some(entry) => {
                entry.packets += packets;
                self.sketches.add_network(address, packets);
            }
            None => self.sketches.add_v6(hash, address, packets),
        }
    }

    /// The fewest packets that make a source worth listing.
    fn listing_floor(&self) -> u64 {
        let of_few = self.packets.div_ceil(100).max(LISTED_OF_FEW);
        self.packets.div_ceil(1_000).max(LISTED_PACKETS.min(of_few))
    }

    /// Lists those of one family who have `floor` packets in the exact table and among the heavy hitters together.
    fn list_family<A: Address>(
        &self,
        table: &Table<Packets<A>>,
        heavy: &HeavyHitters<A>,
        floor: u64,
        listed: &mut Vec<SourceCount>,
    ) {
        let mut list = |address: A, packets: u64, error: u64| {
            if packets >= floor {
                listed.push(SourceCount {
                    address: address.into(),
                    packets,
                    error,
                });
            }
        };
        for counter in heavy.counters() {
            let same = move |entry: &Packets<A>| entry.address == counter.address;
            let exact = table
                .find(counter.address.hash(self.seeded), same)
                .map_or(0, |entry| entry.packets);
            list(counter.address, exact + counter.packets, counter.missed);
        }
        for entry in table.entries() {
            if entry.packets >= floor && heavy.get(entry.address).is_none() {
                list(
                    entry.address,
                    entry.packets,
                    heavy.unseen().min(self.blurred),
                );
            }
        }
    }
}

impl Sketches {
    fn new(seeded: Seeded) -> Self {
        Self {
            seeded,
            distinct: DistinctSketch::new(),
            v4: HeavyHitters::new(HEAVY_SOURCES, seeded),
            v6: HeavyHitters::new(HEAVY_SOURCES, seeded),
            networks: HeavyHitters::new(HEAVY_NETWORKS, seeded),
            packets: 0,
        }
    }

    #[inline(never)]
    fn add_v4(&mut self, hash: u64, address: Ipv4Addr, packets: u64) {
        self.packets += packets;
        self.distinct.insert(hash);
        self.v4.add(hash, address, packets);
    }

    #[inline(never)]
    fn add_v6(&mut self, hash: u64, address: Ipv6Addr, packets: u64) {
        self.packets += packets;
        self.distinct.insert(hash);
        self.v6.add(hash, address, packets);
        self.add_network(address, packets);
    }

    fn add_network(&mut self, address: Ipv6Addr, packets: u64) {
        let network = network_of(address);
        self.networks
            .add(network.hash(self.seeded), network, packets);
    }

    fn merge(&mut self, other: &Self) {
        if other.packets == 0 {
            return;
        }
        self.packets += other.packets;
        self.distinct.merge(&other.distinct);
        self.v4.merge(&other.v4);
        self.v6.merge(&other.v6);
        self.networks.merge(&other.networks);
    }

    fn clear(&mut self) {
        // An exact summary keeps its networks here, and nothing else.
        self.networks.clear();
        if self.packets > 0 {
            self.distinct.clear();
            self.v4.clear();
            self.v6.clear();
            self.packets = 0;
        }
    }

    /// Different addresses among those in exact tables, each given once, and those sketched here.
    fn distinct(
        &self,
        v4: impl Iterator<Item = Ipv4Addr>,
        v6: impl Iterator<Item = Ipv6Addr>,
    ) -> Distinct {
        if self.packets == 0 {
            return Distinct {
                count: (v4.count() + v6.count()) as u64,
                exact: true,
            };
        }
        let v4 = v4.map(|address| address.hash(self.seeded));
        let v6 = v6.map(|address| address.hash(self.seeded));
        Distinct {
            count: self.distinct.estimate_with(v4.chain(v6)),
            exact: false,
        }
    }
}

impl Address for Ipv4Addr {
    #[inline]
    fn hash(self, seeded: Seeded) -> u64 {
        seeded.word(u64::from(self.to_bits()))
    }

    #[inline]
    fn hash_in(self, class: TrafficClass, seeded: Seeded) -> u64 {
        seeded.pair(u64::from(self.to_bits()), class as u64 + 1)
    }
}

impl Address for Ipv6Addr {
    #[inline]
    fn hash(self, seeded: Seeded) -> u64 {
        seeded.wide(self.to_bits())
    }

    #[inline]
    fn hash_in(self, class: TrafficClass, seeded: Seeded) -> u64 {
        seeded.pair(seeded.wide(self.to_bits()), class as u64 + 1)
    }
}

impl<A: Address> ClassCount<A> {
    /// Whether it counts this class as the first one of this address.
    #[inline]
    fn is_first(&self, address: A, class: TrafficClass) -> bool {
        self.first && self.class == class && self.address == address
    }
}

impl fmt::Debug for SourceTally {
    /// How full it is; the sources themselves would fill megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceTally")
            .field("v4_entries", &self.v4.entries().len())
            .field("v6_entries", &self.v6.entries().len())
            .field("sketched_packets", &self.sketches.packets)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SourceSummary {
    /// How full it is; the sources themselves would fill megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSummary")
            .field("v4_entries", &self.v4.entries().len())
            .field("v6_entries", &self.v6.entries().len())
            .field("packets", &self.packets)
            .field("sketched_packets", &self.sketches.packets)
            .finish_non_exhaustive()
    }
}

/// Counts packets in an exact table; false when it has no place for them.
#[inline]
fn count<A: Address>(
    table: &mut Table<ClassCount<A>>,
    seeded: Seeded,
    hash: u64,
    address: A,
    class: TrafficClass,
    packets: u32,
) -> bool {
    let new = ClassCount {
        address,
        packets: 0,
        class,
        first: true,
    };
    match table.find_or_insert(
        hash,
        move |entry| entry.first && entry.address == address,
        new,
    ) {
        Some(entry) if entry.class == class => {
            entry.packets = entry.packets.saturating_add(packets)
        }
        Some(_) => return count_further(table, seeded, address, class, packets),
        None => return false,
    }
    true
}

/// Counts packets of a class that is not the first one of its address.
#[inline(never)]
fn count_further<A: Address>(
    table: &mut Table<ClassCount<A>>,
    seeded: Seeded,
    address: A,
    class: TrafficClass,
    packets: u32,
) -> bool {
    let new = ClassCount {
        address,
        packets: 0,
        class,
        first: false,
    };
    let same =
        |entry: &ClassCount<A>| !entry.first && entry.class == class && entry.address == address;
    let Some(entry) = table.find_or_insert(address.hash_in(class, seeded), same, new) else {
        return false;
    };
    entry.packets = entry.packets.saturating_add(packets);
    true
}

/// The entry of an address in a summary's table, if it has a place for it.
#[inline]
fn entry<A: Address>(
    table: &mut Table<Packets<A>>,
    hash: u64,
    address: A,
) -> Option<&mut Packets<A>> {
    table.find_or_insert(
        hash,
        |entry| entry.address == address,
        Packets {
            address,
            packets: 0,
        },
    )
}

/// Each address in a window's table once.
fn first_entries<A: Address>(table: &Table<ClassCount<A>>) -> impl Iterator<Item = A> {
    table
        .entries()
        .iter()
        .filter(|entry| entry.first)
        .map(|entry| entry.address)
}

/// The first address of the network of 64 bits that an address lies in.
#[inline]
const fn network_of(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)
}

/// The `n` sources with most packets: most first, then lower address.
fn most_first(mut sources: Vec<SourceCount>, n: usize) -> Vec<SourceCount> {
    sources.sort_unstable_by_key(|source| (std::cmp::Reverse(source.packets), source.address));
    sources.truncate(n);
    sources
}
