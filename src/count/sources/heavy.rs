//! Who sent most, when there are too many to count each.
//!
//! A summary of the Misra-Gries kind with `k` counters kept. Everybody who is seen gets a counter; when there are `2k`
//! of them, the level rises to the (k+1)-th largest, and whoever is not above it loses the counter. A counter that stays
//! has missed nothing since it was given out, so that its packets are a lower bound, in true order however early or late
//! its source came; what its source may have sent before is at most the level at that time.
//!
//! The level rises by one only where `k + 1` sources have that much each, so after `n` packets it is at most
//! `n / (k + 1)`: nobody above that is ever missing, and nobody's error is larger. Both hold after any merges, in any
//! order. Nothing here depends on the seed. Runs on the capture threads (adding) and the detector's (the rest).

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

/// The summary.
#[derive(Clone)]
pub(super) struct HeavyHitters<A: Address> {
    table: Table<Counter<A>>,
    seeded: Seeded,
    kept: usize,
    /// What somebody without a counter may have sent.
    level: u64,
    /// Counters more than 1 above the level.
    tall: usize,
    /// Scratch for finding the (k+1)-th largest.
    heights: Vec<u64>,
}

impl<A: Address> HeavyHitters<A> {
    /// A summary that keeps `kept` counters, a power of two from 4 to 32,768, when it has to let go.
    pub(super) fn new(kept: usize, seeded: Seeded) -> Self {
        // The reach is the whole table: half of its slots are always free.
        Self {
            table: Table::new(2 * kept, 4 * kept / 8),
            seeded,
            kept,
            level: 0,
            tall: 0,
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
    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// Counts packets; `hash` is the hash of `address` under the seed of [`HeavyHitters::new`].
    #[inline]
    pub(super) fn add(&mut self, hash: u64, address: A, packets: u64) {
        self.put(hash, address, packets, 0, 0);
    }

    /// Adds another stream's summary.
    pub(super) fn merge(&mut self, other: &Self) {
        // As if nobody here were known there; who is known is put right below.
        for counter in self.table.entries_mut() {
            counter.missed += other.level;
        }
        self.level += other.level;
        for theirs in other.counters() {
            let hash = theirs.address.hash(self.seeded);
            self.put(
                hash,
                theirs.address,
                theirs.packets,
                theirs.missed,
                other.level,
            );
        }
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.level = 0;
        self.tall = 0;
    }

    /// Adds packets of which up to `missed` more may exist, where that was reckoned as `assumed` so far.
    #[inline]
    fn put(&mut self, hash: u64, address: A, packets: u64, missed: u64, assumed: u64) {
        if !self.try_put(hash, address, packets, missed, assumed) {
            self.raise_level();
            self.try_put(hash, address, packets, missed, assumed);
        }
    }

    #[inline]
    fn try_put(&mut self, hash: u64, address: A, packets: u64, missed: u64, assumed: u64) -> bool {
        let new = Counter {
            address,
            packets: 0,
            missed: self.level,
        };
        let same = move |counter: &Counter<A>| counter.address == address;
        let Some(counter) = self.table.find_or_insert(hash, same, new) else {
            return false;
        };
        let was_tall = counter.height(self.level) > 1;
        counter.packets += packets;
        counter.missed = counter.missed + missed - assumed;
        self.tall += usize::from(!was_tall && counter.height(self.level) > 1);
        true
    }

    /// Lets go of at least half of the counters.
    #[cold]
    fn raise_level(&mut self) {
        self.level += self.rise();
        // The commonest case by far: forged sources seen once each.
        if self.tall == 0 {
            self.table.clear();
            return;
        }
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

    /// How far above the level the (k+1)-th largest counter stands.
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
}

impl<A> Counter<A> {
    /// How far it stands above the level: 1 at least while it is kept.
    #[inline]
    const fn height(&self, level: u64) -> u64 {
        (self.packets + self.missed).saturating_sub(level)
    }
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
    ) -> Result<(), TestCaseError> {
        let packets: u64 = truth.values().sum();
        prop_assert!(heavy.level() * (heavy.kept as u64 + 1) <= packets);
        prop_assert!(heavy.counters().len() <= 2 * heavy.kept);
        for (address, count) in truth {
            match heavy.get(*address) {
                Some(counter) => {
                    prop_assert!(
                        counter.packets <= *count && *count <= counter.packets + counter.missed
                    );
                    prop_assert!(counter.missed <= heavy.level());
                }
                None => prop_assert!(*count <= heavy.level()),
            }
        }
        Ok(())
    }

    #[test]
    fn is_exact_until_its_counters_run_out() {
        let stream: Vec<_> = (0..2_048)
            .map(|address| (address, 1 + u64::from(address) % 7))
            .collect();
        let heavy = summary(1_024, &stream);
        assert_eq!(heavy.level(), 0);
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
        assert_eq!(heavy.get(Ipv4Addr::from_bits(2)).unwrap().packets, 2_001);
        assert!(
            heavy.get(Ipv4Addr::from_bits(2)).unwrap().missed > 0,
            "it may have been there before"
        );
    }

    #[test]
    fn clear_forgets_counters_and_level() {
        let mut heavy = summary(4, &(0..100).map(|address| (address, 1)).collect::<Vec<_>>());
        assert!(heavy.level() > 0);
        heavy.clear();
        assert_eq!((heavy.level(), heavy.counters().len()), (0, 0));
    }

    proptest! {
        #[test]
        fn keeps_its_promises_for_any_stream(stream in prop::collection::vec((0_u32..60, 1_u64..30), 0..600)) {
            check(&summary(8, &stream), &truth(&stream))?;
        }

        #[test]
        fn keeps_its_promises_after_merging_any_parts(
            parts in prop::collection::vec(prop::collection::vec((0_u32..60, 1_u64..30), 0..200), 1..6),
        ) {
            let mut merged = summary(8, &[]);
            for part in &parts {
                merged.merge(&summary(8, part));
            }
            check(&merged, &truth(&parts.concat()))?;
        }
    }
}
