//! A keyed hash for keys that attackers choose.
//!
//! Two rounds of multiply-and-fold: fast enough for every packet, and well enough mixed that all 64 bits may be used
//! for different purposes at once (the tables take bits from the top, the distinct sketch from the bottom). Whoever
//! does not know the seed cannot pick addresses that collide. It is no cryptographic hash: never use it where an
//! attacker sees its output. Pure; runs on the capture threads, once or twice per packet.

use std::fmt;
use std::net::IpAddr;

use crate::classify::Sample;

/// The fraction of the golden ratio in 64 bits, made odd: a multiplier without structure.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The fraction of the square root of two in 64 bits, made odd: a second one, unrelated to the first.
const SQRT_2: u64 = 0x6a09_e667_f3bc_c909;

/// A hash function chosen by its seed.
///
/// Tables and sketches can be merged only when they were made with the same seed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seeded {
    first: u64,
    second: u64,
}

impl Seeded {
    /// The function that belongs to `seed`. Neighbouring seeds give unrelated functions.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let first = fold(fold(seed ^ GOLDEN, SQRT_2) ^ seed, GOLDEN);
        let second = fold(fold(seed ^ SQRT_2, GOLDEN) ^ first, SQRT_2);
        Self { first, second }
    }

    /// Hashes two words; their order matters.
    #[inline]
    #[must_use]
    pub const fn pair(self, a: u64, b: u64) -> u64 {
        fold(fold(a ^ self.first, b ^ self.second) ^ self.first, GOLDEN)
    }

    /// Hashes a word.
    #[inline]
    #[must_use]
    pub const fn word(self, value: u64) -> u64 {
        self.pair(value, 0)
    }

    /// Hashes a double word.
    #[inline]
    #[must_use]
    pub const fn wide(self, value: u128) -> u64 {
        let (high, low) = halves(value);
        self.pair(high, low)
    }

    /// Hashes what makes a packet's flow: addresses, ports and protocol. The two directions of a conversation are two
    /// flows.
    #[inline]
    #[must_use]
    pub fn flow_hash(&self, sample: &Sample) -> u64 {
        let ports = u64::from(sample.source_port) << 32
            | u64::from(sample.destination_port) << 16
            | u64::from(sample.protocol);
        match (&sample.source, &sample.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses =
                    u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits());
                self.pair(addresses, ports)
            }
            (source, destination) => {
                let source = self.wide(widened(*source));
                let destination = self.wide(widened(*destination));
                self.pair(source ^ ports, destination)
            }
        }
    }
}

impl fmt::Debug for Seeded {
    /// Keeps the key out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seeded").finish_non_exhaustive()
    }
}

/// The 128-bit product of two words, its halves laid over each other: every output bit depends on every input bit.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let (high, low) = halves((a as u128) * (b as u128));
    high ^ low
}

/// The upper and the lower half.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "both halves are taken, nothing is lost"
)]
const fn halves(value: u128) -> (u64, u64) {
    ((value >> 64) as u64, value as u64)
}

/// An address of either family as a double word.
fn widened(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Content, Direction, Fragment, TrafficClass};
    use crate::clock::Timestamp;

    fn sample(source: &str, destination: &str, ports: (u16, u16), protocol: u8) -> Sample {
        Sample {
            at: Timestamp::default(),
            direction: Direction::Inbound,
            class: TrafficClass::UdpOther,
            service: None,
            content: Content::Unrecognised,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: ports.0,
            destination_port: ports.1,
            protocol,
            ttl: 64,
            flags: 0,
            sequence: 0,
            acknowledgement: 0,
            fragment: Fragment::Whole,
            wire_bytes: 64,
            payload_bytes: 0,
            inner: None,
            flaw: None,
        }
    }

    #[test]
    fn each_input_bit_turns_about_half_of_the_output_bits() {
        for seed in [0, 1, 42, u64::MAX] {
            let hash = Seeded::new(seed);
            for bit in 0..64 {
                let turned: u32 = (0..512_u64)
                    .map(|value| value * 0x0101_0001)
                    .map(|value| (hash.word(value) ^ hash.word(value ^ 1 << bit)).count_ones())
                    .sum();
                let mean = turned / 512;
                assert!(
                    (29..=34).contains(&mean),
                    "seed {seed}, bit {bit}: {mean} of 64 bits turn"
                );
            }
        }
    }

    #[test]
    fn consecutive_addresses_spread_evenly_over_any_eight_bits() {
        for seed in 0..4 {
            let hash = Seeded::new(seed);
            for shift in (0..=56).step_by(8) {
                let mut cells = [0_i64; 256];
                for address in 0x0a00_0000..0x0a00_0000 + 65_536_u64 {
                    let [.., low] = (hash.word(address) >> shift).to_be_bytes();
                    cells[usize::from(low)] += 1;
                }
                // 255 degrees of freedom: mean 255, standard deviation 22.6.
                let chi_squared: i64 = cells
                    .iter()
                    .map(|count| (count - 256) * (count - 256))
                    .sum::<i64>()
                    / 256;
                assert!(
                    (140..=380).contains(&chi_squared),
                    "seed {seed}, shift {shift}: {chi_squared}"
                );
            }
        }
    }

    #[test]
    fn neighbouring_seeds_give_unrelated_hashes() {
        let differing: u32 = (0..64)
            .map(|seed| (Seeded::new(seed).word(7) ^ Seeded::new(seed + 1).word(7)).count_ones())
            .sum();
        assert!((27..=37).contains(&(differing / 64)));
    }

    #[test]
    fn a_flow_is_told_from_others_by_each_of_its_five_parts() {
        let hash = Seeded::new(9);
        for (own, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let flow = hash.flow_hash(&sample(own, other, (1024, 53), 17));
            assert_eq!(flow, hash.flow_hash(&sample(own, other, (1024, 53), 17)));
            assert_ne!(flow, hash.flow_hash(&sample(other, other, (1024, 53), 17)));
            assert_ne!(flow, hash.flow_hash(&sample(own, own, (1024, 53), 17)));
            assert_ne!(flow, hash.flow_hash(&sample(own, other, (1025, 53), 17)));
            assert_ne!(flow, hash.flow_hash(&sample(own, other, (1024, 54), 17)));
            assert_ne!(flow, hash.flow_hash(&sample(own, other, (1024, 53), 6)));
            assert_ne!(flow, hash.flow_hash(&sample(other, own, (53, 1024), 17)));
        }
    }

    #[test]
    fn debug_keeps_the_key_to_itself() {
        assert_eq!(format!("{:?}", Seeded::new(5)), "Seeded { .. }");
    }
}
