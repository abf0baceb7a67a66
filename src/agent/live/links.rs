//! What all threads know about the interfaces that are watched: whether each is captured, under which number, and whether
//! it can receive anything.
//!
//! An interface's capture thread writes, once when something changes; the detector's and the housekeeping thread read. No
//! lock: each interface is one word.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::capture::nic::LinkCounters;

/// The interfaces that are watched, in the order they were named in.
#[derive(Debug)]
pub(super) struct Links(Box<[Link]>);

#[derive(Debug)]
struct Link {
    name: String,
    state: AtomicU64,
    /// The number it was captured under last.
    last_index: AtomicU32,
    rx_bytes: AtomicU64,
    tx_bytes: AtomicU64,
}

/// What one interface is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkState {
    /// Under which number it is captured; `None` while it is not.
    pub(super) index: Option<u32>,
    /// Whether it is up, so that what capture sees is what comes in.
    pub(super) is_watched: bool,
    /// How often capture of it began.
    pub(super) captures: u32,
}

/// An interface, for those who tell how the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkVitals {
    /// The name it is watched by.
    pub name: String,
    /// Whether it is watched now: captured, up, and with a carrier.
    pub watched: bool,
    /// Bytes received since it exists, by its own counters; 0 without.
    pub rx_bytes: u64,
    /// Bytes sent since it exists.
    pub tx_bytes: u64,
}

const WATCHED: u64 = 1 << 32;
const CAPTURES_SHIFT: u32 = 33;
const INDEX_MASK: u64 = 0xffff_ffff;

impl LinkState {
    /// The number of an interface is never 0, and captures fit into 31 bits: one a second for 68 years.
    fn pack(self) -> u64 {
        let index = u64::from(self.index.unwrap_or(0));
        let watched = if self.is_watched { WATCHED } else { 0 };
        index | watched | u64::from(self.captures) << CAPTURES_SHIFT
    }

    fn unpack(word: u64) -> Self {
        let low = u32::try_from(word & INDEX_MASK).unwrap_or(0);
        Self {
            index: Some(low).filter(|&index| index != 0),
            is_watched: word & WATCHED != 0,
            captures: u32::try_from(word >> CAPTURES_SHIFT).unwrap_or(0),
        }
    }
}

impl Links {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let links = names.into_iter().map(|name| Link {
            name,
            state: AtomicU64::new(0),
            last_index: AtomicU32::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
        });
        Self(links.collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|link| link.name.as_str())
    }

    /// What the `position`-th interface is doing.
    pub(super) fn state(&self, position: usize) -> LinkState {
        self.0
            .get(position)
            .map_or_else(LinkState::default, |link| {
                LinkState::unpack(link.state.load(Ordering::Acquire))
            })
    }

    /// Only its capture thread says so.
    pub(super) fn set(&self, position: usize, state: LinkState) {
        if let Some(link) = self.0.get(position) {
            if let Some(index) = state.index {
                link.last_index.store(index, Ordering::Relaxed);
            }
            link.state.store(state.pack(), Ordering::Release);
        }
    }

    /// Under which number the `position`-th interface was captured last, even if it is not any more. The kernel gives
    /// numbers out one after the other, so it is nobody else's for a long time.
    pub(super) fn last_index(&self, position: usize) -> Option<u32> {
        let link = self.0.get(position)?;
        Some(link.last_index.load(Ordering::Relaxed)).filter(|&index| index != 0)
    }

    /// The newest counters, from the detector's thread; nothing is said of those that are gone.
    pub(super) fn note_counters(&self, counters: &[Option<LinkCounters>]) {
        for (link, counters) in self.0.iter().zip(counters) {
            if let Some(counters) = counters {
                link.rx_bytes.store(counters.rx_bytes, Ordering::Relaxed);
                link.tx_bytes.store(counters.tx_bytes, Ordering::Relaxed);
            }
        }
    }

    /// How all of them are.
    pub(super) fn vitals(&self) -> Vec<LinkVitals> {
        self.0
            .iter()
            .enumerate()
            .map(|(position, link)| LinkVitals {
                name: link.name.clone(),
                watched: self.state(position).is_watched,
                rx_bytes: link.rx_bytes.load(Ordering::Relaxed),
                tx_bytes: link.tx_bytes.load(Ordering::Relaxed),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_being_a_word() {
        for index in [None, Some(1), Some(u32::MAX)] {
            for is_watched in [false, true] {
                for captures in [0, 1, 7, 0x7fff_ffff] {
                    let state = LinkState {
                        index,
                        is_watched,
                        captures,
                    };
                    assert_eq!(LinkState::unpack(state.pack()), state);
                }
            }
        }
    }

    #[test]
    fn an_interface_that_is_gone_keeps_its_last_counters() {
        let links = Links::new(["eth0".to_owned(), "eth1".to_owned()]);
        let counters = |bytes| LinkCounters {
            rx_bytes: bytes,
            tx_bytes: bytes + 1,
            ..LinkCounters::default()
        };
        links.note_counters(&[Some(counters(10)), Some(counters(20))]);
        links.note_counters(&[None, Some(counters(30))]);
        links.set(
            1,
            LinkState {
                index: Some(9),
                is_watched: true,
                captures: 1,
            },
        );
        let vitals = links.vitals();
        let told: Vec<_> = vitals
            .iter()
            .map(|link| {
                (
                    link.name.as_str(),
                    link.watched,
                    link.rx_bytes,
                    link.tx_bytes,
                )
            })
            .collect();
        assert_eq!(told, [("eth0", false, 10, 11), ("eth1", true, 30, 31)]);
        assert_eq!(links.state(7), LinkState::default());
    }
}
