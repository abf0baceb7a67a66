//! Who sent most, when there are too many to count each.
//!
//! A summary of the Misra-Gries kind with `k` counters kept. Everybody who is seen gets a counter; when there are `2k`
//! of them, the level rises to the (k+1)-th largest, and whoever is not above it loses the counter. A counter that stays
//! has missed nothing since it was given out, so that its packets are a lower bound, in true order however early or late
//! its source came; what its source may have sent before is at most the level at that time.
//!
//! Once counters have run out, nearly everybody new is a forged address that never comes again. So from then on a first
//! packet only leaves a mark in a bitmap, and the second one gets the counter. When `2k` have left their marks, the level
//! rises by one and the marks go.
//!
//! The level rises by one only where more than `k` sources have that much each, so after `n` packets it is at most
//! `n / (k + 1)`, and nobody who sent more than one packet above that is missing. A merge turns the marks of both sides
//! into a level higher by one, which adds at most two. Nothing here depends on the seed but which first packets share a mark, which moves a count by one. Runs
//! on the capture threads (adding) and the detector's (the rest).

use super::Address;
use super::table::Table;
use crate::count::hash::Seeded;

/// One source's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counter<A> {
    /// Who.
    pub(super) address: A,
    /// Packets counted: certainly theirs.
    pub(super) packets: u64,
    /// How many more may have been theirs.
    pub(super) missed: u64,
}

/// Marks for first packets: 4 KiB. At `2k` marks of 1,024 counters kept, one first packet in sixteen meets a mark that
/// is not its own and gets a counter it did not need.
const MARKS: usize = 32_768;

/// The summary.
#[derive(Clone)]
pub(super) struct HeavyHitters<A: Address> {
    table: Table<Counter<A>>,
    seeded: Seeded,
    kept: usize,
    /// What somebody without counter and mark may have sent.
    level: u64,
    /// Counters more than 1 above the level.
    tall: usize,
    /// One bit a mark. Whoever has a counter has a mark as well, once the level is above 0.
    marks: Vec<u64>,
    /// Whether there are marks of first packets that nothing else counts.
    blurred: bool,
    /// First packets that were only marked since the level rose, less one for each counter given out on a mark.
    marked: usize,
    /// Scratch for finding the (k+1)-th largest.
    heights: Vec<u64>,
}

impl<A: Address> HeavyHitters<A> {
    /// A summary that keeps `kept` counters, a power of two from 4 to 32,768, when it has to let go.
    pub(super) fn new(kept: usize, seeded: Seeded) -> Self {
        Self {
            // The reach is the whole table: half of its slots are always free.
            table: Table::new(2 * kept, 4 * kept / 8),
            seeded,
            kept,
            level: 0,
            tall: 0,
            marks: vec![0; MARKS / 64],
            blurred: false,
            marked: 0,
            heights: vec![0; 2 * kept],
        }
    }

    /// The counters; no order is promised.
    pub(super) fn counters(&self) -> &[Counter<A>] {
        self.table.entries()
    }

    /// The counter of `address`.
    pub(super) fn get(&self, address: A) -> Option<&Counter<A>> {
        self.table.find(address.hash(self.seeded), |counter| {
            counter.address == address
        })
    }

    /// How many packets somebody without a counter may have sent.
    pub(super) fn unseen(&self) -> u64 {
        self.level + u64::from(self.blurred)
    }

    /// Counts packets; `hash` is the hash of `address` under the seed of [`HeavyHitters::new`].
    #[inline]
    pub(super) fn add(&mut self, hash: u64, address: A, packets: u64) {
        if packets == 1 && self.level > 0 && !self.mark(hash) {
            self.blurred = true;
            self.marked += 1;
            if self.marked >= 2 * self.kept {
                self.raise_level(1);
            }
        } else {
            self.put(hash, address, packets, 0, 0);
        }
    }

    /// Adds another stream's summary.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.blurred {
            self.raise_level(1);
        }
        // As if nobody here were known there; who is known is put right below.
        let unseen = other.unseen();
        for counter in self.table.entries_mut() {
            counter.missed += unseen;
        }
        self.level += unseen;
        for theirs in other.counters() {
            let hash = theirs.address.hash(self.seeded);
            self.put(hash, theirs.address, theirs.packets, theirs.missed, unseen);
        }
        self.mark_counters();
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        if self.level > 0 {
            self.marks.fill(0);
        }
        self.level = 0;
        self.tall = 0;
        self.blurred = false;
        self.marked = 0;
    }

    /// Adds packets of which up to `missed` more may exist, where that was reckoned as `assumed` so far.
    #[inline(never)]
    fn put(&mut self, hash: u64, address: A, packets: u64, missed: u64, assumed: u64) {
        if !self.try_put(hash, address, packets, missed, assumed) {
            let rise = self.rise();
            self.raise_level(rise);
            self.try_put(hash, address, packets, missed, assumed);
        }
    }

    #[inline]
    fn try_put(&mut self, hash: u64, address: A, packets: u64, missed: u64, assumed: u64) -> bool {
        let was_marked = self.level > 0 && self.mark(hash) && self.blurred;
        let new = Counter {
            address,
            packets: 0,
            missed: self.level + u64::from(was_marked),
        };
        let same = move |counter: &Counter<A>| counter.address == address;
        let Some(counter) = self.table.find_or_insert(hash, same, new) else {
            return false;
        };
        if counter.packets == 0 && was_marked {
            // The packet that left the mark counts here now. When marks are shared it may count for two, and the next
            // rise comes early; each rise lets go of k - 1 packets more than it must, which pays for as many of these.
            self.marked = self.marked.saturating_sub(1);
        }
        let was_tall = counter.height(self.level) > 1;
        counter.packets += packets;
        counter.missed = counter.missed + missed - assumed;
        self.tall += usize::from(!was_tall && counter.height(self.level) > 1);
        true
    }

    /// Lets go of whoever is not above the new level, and of all marks.
    #[cold]
    fn raise_level(&mut self, rise: u64) {
        self.level += rise;
        if self.tall == 0 {
            self.table.clear();
        } else {
            let (level, seeded) = (self.level, self.seeded);
            let mut tall = 0;
            let keep = |counter: &Counter<A>| {
                let height = counter.height(level);
                tall += usize::from(height > 1);
                height > 0
            };
            self.table
                .retain(keep, |counter| counter.address.hash(seeded));
            self.tall = tall;
        }
        self.marks.fill(0);
        self.blurred = false;
        self.marked = 0;
        self.mark_counters();
    }

    /// How far above the level the (k+1)-th largest counter stands when there are `2k`.
    fn rise(&mut self) -> u64 {
        if self.tall <= self.kept {
            return 1;
        }
        for (height, counter) in self.heights.iter_mut().zip(self.table.entries()) {
            *height = counter.height(self.level);
        }
        *self
            .heights
            .select_nth_unstable_by(self.kept, |a, b| b.cmp(a))
            .1
    }

    /// Leaves a mark and says whether there was one.
    #[inline]
    fn mark(&mut self, hash: u64) -> bool {
        mark(&mut self.marks, hash)
    }

    fn mark_counters(&mut self) {
        for counter in self.table.entries() {
            mark(&mut self.marks, counter.address.hash(self.seeded));
        }
    }
}

impl<A> Counter<A> {
    /// How far it stands above the level.
    #[inline]
    const fn height(&self, level: u64) -> u64 {
        (self.packets + self.missed).saturating_sub(level)
    }
}

/// Leaves the mark of a hash and says whether it was there.
#[inline]
fn mark(marks: &mut [u64], hash: u64) -> bool {
    // Bits that neither the sketch's registers nor the tables use.
    let mark = (hash >> 20) as usize & (MARKS - 1);
    let Some(word) = marks.get_mut(mark / 64) else {
        return true;
    };
    let before = *word;
    *word |= 1 << (mark % 64);
    before == *word
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn summary(kept: usize, stream: &[(u32, u64)]) -> HeavyHitters<Ipv4Addr> {
        let mut heavy = HeavyHitters::new(kept, Seeded::new(1));
        for (address, packets) in stream {
            let address = Ipv4Addr::from_bits(*address);
            heavy.add(address.hash(heavy.seeded), address, *packets);
        }
        heavy
    }

    fn truth(stream: &[(u32, u64)]) -> BTreeMap<Ipv4Addr, u64> {
        let mut truth = BTreeMap::new();
        for (address, packets) in stream {
            *truth.entry(Ipv4Addr::from_bits(*address)).or_insert(0) += packets;
        }
        truth
    }

    /// What the file's header promises.
    fn check(
        heavy: &HeavyHitters<Ipv4Addr>,
        truth: &BTreeMap<Ipv4Addr, u64>,
        merges: u64,
    ) -> Result<(), TestCaseError> {
        let packets: u64 = truth.values().sum();
        prop_assert!(heavy.level <= packets / (heavy.kept as u64 + 1) + 2 * merges);
        prop_assert!(heavy.counters().len() <= 2 * heavy.kept);
        for (address, count) in truth {
            match heavy.get(*address) {
                Some(counter) => {
                    prop_assert!(
                        counter.packets <= *count && *count <= counter.packets + counter.missed
                    );
                    prop_assert!(counter.missed <= heavy.unseen());
                }
                None => prop_assert!(*count <= heavy.unseen()),
            }
        }
        Ok(())
    }

    fn packet() -> impl Strategy<Value = (u32, u64)> {
        (0_u32..60, prop_oneof![3 => Just(1_u64), 1 => 1_u64..30])
    }

    #[test]
    fn is_exact_until_its_counters_run_out() {
        let stream: Vec<_> = (0..2_048)
            .map(|address| (address, 1 + u64::from(address) % 7))
            .collect();
        let heavy = summary(1_024, &stream);
        assert_eq!(heavy.unseen(), 0);
        assert_eq!(heavy.counters().len(), 2_048);
        assert!(heavy.counters().iter().all(|counter| counter.missed == 0));
    }

    #[test]
    fn one_who_comes_late_is_counted_as_well_as_one_who_came_early() {
        let early = std::iter::repeat_n((1, 1), 2_000);
        let late = std::iter::repeat_n((2, 1), 2_001);
        let noise = (100..100_100).map(|address| (address, 1));
        let stream: Vec<_> = early.chain(noise).chain(late).collect();
        let heavy = summary(64, &stream);
        assert_eq!(heavy.get(Ipv4Addr::from_bits(1)).unwrap().packets, 2_000);
        assert_eq!(
            heavy.get(Ipv4Addr::from_bits(2)).unwrap().packets,
            2_000,
            "its first packet left a mark"
        );
        assert!(
            heavy.get(Ipv4Addr::from_bits(2)).unwrap().missed > 0,
            "it may have been there before"
        );
    }

    #[test]
    fn clear_forgets_counters_and_level() {
        let mut heavy = summary(4, &(0..100).map(|address| (address, 1)).collect::<Vec<_>>());
        assert!(heavy.unseen() > 0);
        heavy.clear();
        assert_eq!((heavy.unseen(), heavy.counters().len()), (0, 0));
    }

    proptest! {
        #[test]
        fn keeps_its_promises_for_any_stream(stream in prop::collection::vec(packet(), 0..600)) {
            check(&summary(8, &stream), &truth(&stream), 0)?;
        }

        #[test]
        fn keeps_its_promises_after_merging_any_parts(
            parts in prop::collection::vec(prop::collection::vec(packet(), 0..200), 1..6),
        ) {
            let mut merged = summary(8, &[]);
            for part in &parts {
                merged.merge(&summary(8, part));
            }
            check(&merged, &truth(&parts.concat()), parts.len() as u64)?;
        }
    }
}
