//! The highest rate, honest from the first report on.
//!
//! While the first second is still filling, the sum over a second says too little: a flood that began 200 ms ago would
//! be reported at a fifth of its rate. After three full windows the rate over full windows stands in, once, until the
//! first whole second is there.

use crate::count::{Count, WINDOWS_PER_SECOND, WindowIndex};

/// Full windows from which on the rate over them stands in.
const ESTIMATED_FROM_WINDOWS: u64 = 3;

/// Follows the peak of one incident, or of one of its pulses.
#[derive(Clone, Debug)]
pub(super) struct Peak {
    onset: WindowIndex,
    /// Sum of the windows after the onset's, which may be cut by it.
    full: Count,
    full_windows: u64,
    highest: Count,
}

impl Peak {
    pub(super) fn new(onset: WindowIndex) -> Self {
        Self {
            onset,
            full: Count::default(),
            full_windows: 0,
            highest: Count::default(),
        }
    }

    /// Takes in a window and the sum over the second that ends with it.
    pub(super) fn add(&mut self, window: WindowIndex, judged: Count, last_second: Count) {
        self.highest.packets = self.highest.packets.max(last_second.packets);
        self.highest.bits = self.highest.bits.max(last_second.bits);
        if window > self.onset && self.is_provisional() {
            self.full.merge(judged);
            self.full_windows += 1;
        }
    }

    /// Whether the first second is not over yet.
    pub(super) const fn is_provisional(&self) -> bool {
        self.full_windows < WINDOWS_PER_SECOND
    }

    /// The peak as far as it is known.
    pub(super) fn get(&self) -> Count {
        let estimated = ESTIMATED_FROM_WINDOWS..WINDOWS_PER_SECOND;
        if !estimated.contains(&self.full_windows) {
            return self.highest;
        }
        let rate = |sum: u64| sum.saturating_mul(WINDOWS_PER_SECOND) / self.full_windows;
        Count {
            packets: rate(self.full.packets).max(self.highest.packets),
            bits: rate(self.full.bits).max(self.highest.bits),
        }
    }

    /// Ends the estimate: there will be no whole second, so the highest sum is what there was.
    pub(super) const fn settle(&mut self) {
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
    fn flood(windows: u64, rate: u64) -> Peak {
        let start = WindowIndex::of(Timestamp::from_seconds(100));
        let mut peak = Peak::new(start);
        let mut window = start;
        let mut sum = 0;
        for n in 0..windows {
            let now = if n == 0 { rate / 2 } else { rate };
            sum = (sum + now).min(rate * WINDOWS_PER_SECOND);
            peak.add(window, packets(now), packets(sum));
            window = window.next();
        }
        peak
    }

    #[test]
    fn before_three_full_windows_it_is_what_there_was() {
        let peak = flood(3, 1_000);
        assert!(peak.is_provisional());
        assert_eq!(peak.get().packets, 2_500);
    }

    #[test]
    fn three_full_windows_give_the_true_rate() {
        let peak = flood(4, 1_000);
        assert!(peak.is_provisional());
        assert_eq!(peak.get().packets, 20_000);
    }

    #[test]
    fn the_estimate_is_replaced_by_the_first_whole_second() {
        assert!(flood(20, 1_000).is_provisional());
        let peak = flood(21, 1_000);
        assert!(!peak.is_provisional());
        assert_eq!(peak.get().packets, 20_000);
    }

    #[test]
    fn a_burst_that_ends_early_falls_back_to_what_there_was() {
        let mut peak = flood(4, 1_000);
        peak.settle();
        assert_eq!(peak.get().packets, 3_500);
    }

    #[test]
    fn rates_beyond_any_link_do_not_wrap() {
        let mut peak = Peak::new(WindowIndex::default());
        let mut window = WindowIndex::default();
        for _ in 0..5 {
            peak.add(window, packets(u64::MAX / 1_024), Count::default());
            window = window.next();
        }
        assert_eq!(peak.get().bits, u64::MAX / 4);
    }
}
