//! Which datagram a fragment belongs to.
//!
//! Only the first fragment of a datagram carries ports and payload. A small table remembers what recent first
//! fragments were, so that the later ones of an amplified answer are told from a flood of loose fragments. Pure; one
//! table per meter, on its capture thread.

use std::net::IpAddr;

use super::Count;
use super::hash::Seeded;
use crate::classify::{Fragment, Sample, Service, TrafficClass};

/// IP protocol numbers that later fragments are told apart by.
mod protocol {
    pub(super) const UDP: u8 = 17;
}

/// Fragments of one direction. Later fragments also stand in the class [`TrafficClass::Fragment`]; here they are told
/// apart by what they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FragmentTally {
    /// First fragments that hold their transport header, packets.
    pub first: u64,
    /// Later fragments of datagrams whose first fragment was seen, by its class.
    pub of_class: [Count; TrafficClass::COUNT],
    /// Of those of class `UdpReflected`, by its service.
    pub of_service: [Count; Service::COUNT],
    /// Later UDP fragments whose first was not seen.
    pub loose_udp: Count,
    /// Later fragments of any other protocol whose first was not seen, and first ones too short for their header.
    pub loose_other: Count,
    /// Fragments that would make their datagram longer than 65,535 bytes.
    pub oversize: u64,
}

impl FragmentTally {
    /// Adds another tally to this one.
    pub fn merge(&mut self, other: &Self) {
        self.first += other.first;
        for (mine, theirs) in self.of_class.iter_mut().zip(&other.of_class) {
            mine.merge(*theirs);
        }
        for (mine, theirs) in self.of_service.iter_mut().zip(&other.of_service) {
            mine.merge(*theirs);
        }
        self.loose_udp.merge(other.loose_udp);
        self.loose_other.merge(other.loose_other);
        self.oversize += other.oversize;
    }

    /// Takes away a tally that was merged into this one before.
    pub fn retire(&mut self, other: &Self) {
        self.first = self.first.saturating_sub(other.first);
        for (mine, theirs) in self.of_class.iter_mut().zip(&other.of_class) {
            mine.retire(*theirs);
        }
        for (mine, theirs) in self.of_service.iter_mut().zip(&other.of_service) {
            mine.retire(*theirs);
        }
        self.loose_udp.retire(other.loose_udp);
        self.loose_other.retire(other.loose_other);
        self.oversize = self.oversize.saturating_sub(other.oversize);
    }
}

/// First fragments remembered. A flood of fragments of 1,500-byte frames at 10 Gbit/s brings 800,000 a second; with
/// the rest of a datagram at most a millisecond behind its first fragment, 4,096 outlive it five times over.
const REMEMBERED: usize = 4_096;

/// What the first fragment of a datagram was.
#[derive(Clone, Copy, Debug)]
struct First {
    datagram: u64,
    class: TrafficClass,
    service: Option<Service>,
}

/// The first fragments seen last.
#[derive(Clone, Debug)]
pub(super) struct FragmentTable {
    hash: Seeded,
    firsts: Box<[Option<First>]>,
}

impl FragmentTable {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hash: Seeded::new(seed),
            firsts: vec![None; REMEMBERED].into_boxed_slice(),
        }
    }

    /// Counts a fragment into the tally of its direction.
    pub(super) fn count(&mut self, sample: &Sample, wire: Count, tally: &mut FragmentTally) {
        match sample.fragment {
            Fragment::Whole => {}
            Fragment::First { id } => {
                if sample.class == TrafficClass::Fragment {
                    tally.loose_other.merge(wire);
                } else {
                    tally.first += wire.packets;
                    let datagram = self.datagram(sample, id);
                    if let Some(slot) = self.slot(datagram) {
                        *slot = Some(First {
                            datagram,
                            class: sample.class,
                            service: sample.service,
                        });
                    }
                }
            }
            Fragment::Later { id, oversize } => {
                tally.oversize += u64::from(oversize) * wire.packets;
                let datagram = self.datagram(sample, id);
                match self
                    .slot(datagram)
                    .and_then(|slot| *slot)
                    .filter(|first| first.datagram == datagram)
                {
                    Some(first) => {
                        if let Some(count) = tally.of_class.get_mut(first.class as usize) {
                            count.merge(wire);
                        }
                        if let Some(count) = first
                            .service
                            .and_then(|s| tally.of_service.get_mut(s as usize))
                        {
                            count.merge(wire);
                        }
                    }
                    None if sample.protocol == protocol::UDP => tally.loose_udp.merge(wire),
                    None => tally.loose_other.merge(wire),
                }
            }
        }
    }

    /// What all fragments of one datagram, and only they, have in common.
    fn datagram(&self, sample: &Sample, id: u32) -> u64 {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let pair = self.hash.wide(bits(sample.source))
            ^ self.hash.wide(bits(sample.destination)).rotate_left(32);
        self.hash
            .word(pair ^ (u64::from(id) << 8) ^ u64::from(sample.protocol))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "reduced to the table's size first"
    )]
    fn slot(&mut self, datagram: u64) -> Option<&mut Option<First>> {
        self.firsts.get_mut((datagram % REMEMBERED as u64) as usize)
    }
}
