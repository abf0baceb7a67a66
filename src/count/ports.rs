//! Packets by port, exactly.
//!
//! A counter for each of the 65,536 ports, and a list of the ones in use so that emptying and merging cost what was
//! used. Never allocates after [`PortHistogram::new`] except for the list it returns. Filled on the capture threads,
//! once per packet; read on the detector's.

use std::cmp::Reverse;
use std::fmt;

/// Ports there are.
const PORTS: usize = 1 << 16;

/// Ports listed as used. Beyond an eighth of all of them, going through every counter in order is quicker than jumping
/// from one to the next.
const LISTED_PORTS: usize = PORTS / 8;

/// Packets by port, exact for all 65,536 of them: 256 KiB of counters that each stop at 2^32 - 1, and a list of 16 KiB.
#[derive(Clone)]
pub struct PortHistogram {
    counters: Vec<u32>,
    /// The first ports used, up to [`LISTED_PORTS`].
    used: Used,
    distinct: u32,
    total: u64,
}

/// A list of ports that never grows beyond what it was made for.
struct Used(Vec<u16>);

impl PortHistogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counters: vec![0; PORTS],
            used: Used(Vec::with_capacity(LISTED_PORTS)),
            distinct: 0,
            total: 0,
        }
    }

    /// Counts packets of a port.
    #[inline]
    pub fn add(&mut self, port: u16, packets: u32) {
        self.total += u64::from(packets);
        self.raise(port, packets);
    }

    /// Packets of a port.
    #[must_use]
    pub fn of(&self, port: u16) -> u64 {
        self.counters
            .get(usize::from(port))
            .copied()
            .map_or(0, u64::from)
    }

    /// All packets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many ports have packets.
    #[must_use]
    pub fn distinct(&self) -> u32 {
        self.distinct
    }

    /// The `n` ports with most packets: most first, then lower port.
    #[must_use]
    pub fn largest(&self, n: usize) -> Vec<(u16, u64)> {
        let rank = |&(port, packets): &(u16, u64)| (Reverse(packets), port);
        let mut ports = Vec::new();
        self.for_each_used(|port, packets| ports.push((port, u64::from(packets))));
        if n < ports.len() {
            ports.select_nth_unstable_by_key(n, rank);
            ports.truncate(n);
        }
        ports.sort_unstable_by_key(rank);
        ports
    }

    /// Empties it.
    pub fn clear(&mut self) {
        if self.all_listed() {
            for port in &self.used.0 {
                if let Some(counter) = self.counters.get_mut(usize::from(*port)) {
                    *counter = 0;
                }
            }
        } else {
            self.counters.fill(0);
        }
        self.used.0.clear();
        self.distinct = 0;
        self.total = 0;
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.total += other.total;
        other.for_each_used(|port, packets| self.raise(port, packets));
    }

    #[inline]
    fn raise(&mut self, port: u16, packets: u32) {
        let Some(counter) = self.counters.get_mut(usize::from(port)) else {
            return;
        };
        if *counter == 0 && packets > 0 {
            self.distinct += 1;
            if self.used.0.len() < LISTED_PORTS {
                self.used.0.push(port);
            }
        }
        *counter = counter.saturating_add(packets);
    }

    fn all_listed(&self) -> bool {
        self.used.0.len() < LISTED_PORTS
    }

    fn for_each_used(&self, mut visit: impl FnMut(u16, u32)) {
        if self.all_listed() {
            for port in &self.used.0 {
                visit(
                    *port,
                    self.counters.get(usize::from(*port)).copied().unwrap_or(0),
                );
            }
        } else {
            for (port, packets) in (0..=u16::MAX)
                .zip(&self.counters)
                .filter(|(_, packets)| **packets > 0)
            {
                visit(port, *packets);
            }
        }
    }
}

impl Default for PortHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PortHistogram {
    /// Its sums; the counters would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortHistogram")
            .field("total", &self.total)
            .field("distinct", &self.distinct)
            .finish_non_exhaustive()
    }
}

impl Clone for Used {
    /// The copy has the same room: a plain copy would have to allocate later.
    fn clone(&self) -> Self {
        let mut used = Vec::with_capacity(LISTED_PORTS);
        used.extend_from_slice(&self.0);
        Self(used)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn histogram(packets: &[(u16, u32)]) -> PortHistogram {
        let mut histogram = PortHistogram::new();
        for (port, packets) in packets {
            histogram.add(*port, *packets);
        }
        histogram
    }

    fn all(histogram: &PortHistogram) -> Vec<(u16, u64)> {
        histogram.largest(PORTS)
    }

    #[test]
    fn the_largest_come_by_packets_and_then_by_port() {
        let ports = histogram(&[(443, 5), (80, 5), (53, 9), (22, 1)]);
        assert_eq!(ports.largest(3), [(53, 9), (80, 5), (443, 5)]);
        assert_eq!(ports.largest(0), []);
        assert_eq!(ports.largest(9).len(), 4);
    }

    #[test]
    fn no_packets_are_no_use_of_a_port() {
        let ports = histogram(&[(80, 0)]);
        assert_eq!(
            (ports.distinct(), ports.total(), ports.largest(1)),
            (0, 0, vec![])
        );
    }

    #[test]
    fn a_counter_stops_at_its_end_and_the_total_goes_on() {
        let ports = histogram(&[(0, u32::MAX), (0, u32::MAX), (u16::MAX, 1)]);
        assert_eq!(ports.of(0), u64::from(u32::MAX));
        assert_eq!(ports.total(), 2 * u64::from(u32::MAX) + 1);
        assert_eq!(ports.distinct(), 2);
    }

    #[test]
    fn every_port_at_once_is_counted_emptied_and_merged() {
        let every: Vec<_> = (0..=u16::MAX)
            .map(|port| (port, 1 + u32::from(port) % 3))
            .collect();
        let mut ports = histogram(&every);
        assert_eq!(ports.distinct(), 65_536);
        ports.merge(&histogram(&every));
        assert_eq!(ports.of(2), 6);
        assert_eq!(ports.largest(2), [(2, 6), (5, 6)]);
        ports.clear();
        assert_eq!(
            (all(&ports), ports.distinct(), ports.total()),
            (vec![], 0, 0)
        );
        ports.add(7, 1);
        assert_eq!(all(&ports), [(7, 1)]);
    }

    #[test]
    fn debug_is_short() {
        let text = format!("{:?}", histogram(&[(80, 5)]));
        assert_eq!(text, "PortHistogram { total: 5, distinct: 1, .. }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn merged_parts_equal_the_whole(
            packets in prop::collection::vec((any::<u16>(), 0_u32..5), 0..400),
            many in prop_oneof![Just(0_u16), Just(8_191), Just(8_192), Just(9_000)],
            split in 0_usize..400,
        ) {
            let packets: Vec<_> = packets.into_iter().chain((0..many).map(|port| (port, 1))).collect();
            let (left, right) = packets.split_at(split.min(packets.len()));
            let mut merged = histogram(left);
            merged.merge(&histogram(right));
            let mut model = BTreeMap::new();
            for (port, packets) in packets.iter().filter(|(_, packets)| *packets > 0) {
                *model.entry(*port).or_insert(0) += u64::from(*packets);
            }
            prop_assert_eq!(merged.total(), model.values().sum::<u64>());
            prop_assert_eq!(merged.distinct() as usize, model.len());
            prop_assert!(model.iter().all(|(port, packets)| merged.of(*port) == *packets));
            let mut expected: Vec<_> = model.into_iter().collect();
            expected.sort_by_key(|(port, packets)| (Reverse(*packets), *port));
            prop_assert_eq!(all(&merged), expected);
            merged.clear();
            prop_assert!(merged.counters.iter().all(|counter| *counter == 0));
        }
    }
}
