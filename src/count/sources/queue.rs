//! Sources a few packets behind.
//!
//! Under a flood from forged addresses every packet reads a part of the table that no cache near the processor holds.
//! So a source is announced when its packet comes, and counted when seven others have come after it: by then what it
//! reads has arrived. The order stays the same, so the result does. Pure; on the capture threads.

use std::net::{IpAddr, Ipv4Addr};

use super::SourceTally;
use crate::classify::TrafficClass;

/// Sources that wait. Eight packets take longer than any cache, and their slots fit into five lines of the nearest one.
const WAITING: usize = 8;

/// Sources that were announced and are not counted yet. What waits must be [settled](SourceQueue::settle) before the
/// tally is read.
#[derive(Clone, Debug)]
pub(crate) struct SourceQueue {
    waiting: [Waiting; WAITING],
    oldest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    hash: u64,
    source: IpAddr,
    /// 0: nobody waits here.
    packets: u32,
    class: TrafficClass,
}

impl Waiting {
    const NOBODY: Self = Self {
        hash: 0,
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        packets: 0,
        class: TrafficClass::NotIp,
    };
}

impl SourceQueue {
    /// Nobody waits.
    pub(crate) const fn new() -> Self {
        Self {
            waiting: [Waiting::NOBODY; WAITING],
            oldest: 0,
        }
    }

    /// Announces packets to `tally`, and counts there those that have waited longest.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        class: TrafficClass,
        source: IpAddr,
        packets: u32,
        tally: &mut SourceTally,
    ) {
        let hash = tally.expect(source);
        let Some(slot) = self.waiting.get_mut(self.oldest % WAITING) else {
            return;
        };
        let due = *slot;
        *slot = Waiting {
            hash,
            source,
            packets,
            class,
        };
        self.oldest = self.oldest.wrapping_add(1);
        tally.add_hashed(due.hash, due.class, due.source, due.packets);
    }

    /// Counts everybody who waits.
    pub(crate) fn settle(&mut self, tally: &mut SourceTally) {
        for step in 0..WAITING {
            if let Some(slot) = self.waiting.get_mut((self.oldest + step) % WAITING) {
                let due = std::mem::replace(slot, Waiting::NOBODY);
                tally.add_hashed(due.hash, due.class, due.source, due.packets);
            }
        }
        self.oldest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        match number % 3 {
            0 => Ipv4Addr::from_bits(number).into(),
            _ => std::net::Ipv6Addr::from_bits(u128::from(number) << 64).into(),
        }
    }

    #[test]
    fn what_has_waited_is_counted_as_if_it_had_not() {
        for length in [0_u32, 1, 7, 8, 9, 100] {
            let (mut tally, mut model) = (SourceTally::new(1), SourceTally::new(1));
            let mut queue = SourceQueue::new();
            for round in 0..2 {
                for number in 0..length {
                    let who = source(number / 2 + round);
                    queue.add(TrafficClass::Syn, who, number % 3, &mut tally);
                    model.add(TrafficClass::Syn, who, number % 3);
                }
                queue.settle(&mut tally);
                assert_eq!(tally.distinct(), model.distinct(), "{length}");
            }
            let listed = |tally: &SourceTally| {
                let mut summary = super::super::SourceSummary::new(1);
                summary.absorb(tally, |_| true);
                (summary.packets(), summary.largest(100))
            };
            assert_eq!(listed(&tally), listed(&model));
        }
    }
}
