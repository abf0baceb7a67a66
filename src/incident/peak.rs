//! The highest rate, honest from the first report on.
//!
//! While the first second is still filling, the sum over a second says too little: a flood that began 200 ms ago would
//! be reported at a fifth of its rate. After three full windows the rate over full windows stands in, once, until the
//! first whole second is there.

use crate::count::{Count, WINDOWS_PER_SECOND, WindowIndex};

/// Full windows after which the rate over them is reported.
const PROVISIONAL_AFTER_WINDOWS: u64 = 3;

/// Follows the peak of one incident, or of one of its pulses.
#[derive(Clone, Debug)]
pub(super) struct Peak {
    onset: WindowIndex,
    /// Sum of the windows after the onset's, which may be cut by it.
    full: Count,
    full_windows: u64,
    provisional: Option<Count>,
    highest: Count,
}

impl Peak {
    pub(super) const fn new(onset: WindowIndex) -> Self {
        Self {
            onset,
            full: Count {
                packets: 0,
                bits: 0,
            },
            full_windows: 0,
            provisional: None,
            highest: Count {
                packets: 0,
                bits: 0,
            },
        }
    }

    /// Takes in a window and the sum over the second that ends with it. Says whether the estimate was just made or
    /// just replaced.
    pub(super) fn add(&mut self, window: WindowIndex, judged: Count, last_second: Count) -> bool {
        self.highest.packets = self.highest.packets.max(last_second.packets);
        self.highest.bits = self.highest.bits.max(last_second.bits);
        if window <= self.onset || self.full_windows >= WINDOWS_PER_SECOND {
            return false;
        }
        self.full.merge(judged);
        self.full_windows += 1;
        if self.full_windows == PROVISIONAL_AFTER_WINDOWS {
            let per_second = |sum: u64| sum * WINDOWS_PER_SECOND / PROVISIONAL_AFTER_WINDOWS;
            self.provisional = Some(Count {
                packets: per_second(self.full.packets),
                bits: per_second(self.full.bits),
            });
            return true;
        }
        if self.full_windows == WINDOWS_PER_SECOND {
            self.provisional = None;
            return true;
        }
        false
    }

    /// Whether the figure is an estimate.
    pub(super) const fn is_provisional(&self) -> bool {
        self.provisional.is_some()
    }

    /// The peak as far as it is known.
    pub(super) fn get(&self) -> Count {
        self.provisional.map_or(self.highest, |estimate| Count {
            packets: estimate.packets.max(self.highest.packets),
            bits: estimate.bits.max(self.highest.bits),
        })
    }

    /// Ends the estimate: there will be no whole second, so the highest sum is what there was.
    pub(super) const fn settle(&mut self) {
        self.provisional = None;
        self.full_windows = WINDOWS_PER_SECOND;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn packets(packets: u64) -> Count {
        Count {
            packets,
            bits: packets * 512,
        }
    }

    /// A steady flood of `rate` packets a window that begins in the middle of window 0.
    fn flood(windows: u64, rate: u64) -> (Peak, Vec<bool>) {
        let start = WindowIndex::of(Timestamp::from_seconds(100));
        let mut peak = Peak::new(start);
        let mut window = start;
        let mut sum = 0;
        let mut changes = Vec::new();
        for n in 0..windows {
            let now = if n == 0 { rate / 2 } else { rate };
            sum = (sum + now).min(rate * WINDOWS_PER_SECOND);
            changes.push(peak.add(window, packets(now), packets(sum)));
            window = window.next();
        }
        (peak, changes)
    }

    #[test]
    fn three_full_windows_give_the_true_rate() {
        let (peak, changes) = flood(4, 1_000);
        assert_eq!(changes, [false, false, false, true]);
        assert!(peak.is_provisional());
        assert_eq!(peak.get().packets, 20_000);
    }

    #[test]
    fn the_estimate_is_replaced_once_by_the_first_whole_second() {
        let (peak, changes) = flood(30, 1_000);
        assert_eq!(changes.iter().filter(|changed| **changed).count(), 2);
        assert!(!peak.is_provisional());
        assert_eq!(peak.get().packets, 20_000);
    }

    #[test]
    fn a_burst_that_ends_early_falls_back_to_what_there_was() {
        let (mut peak, _) = flood(4, 1_000);
        peak.settle();
        assert_eq!(peak.get().packets, 3_500);
    }
}
