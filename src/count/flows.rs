//! How many flows are new.
//!
//! A window marks the hash of each inbound packet's flow in a bitmap; the history remembers the bitmaps of the last half
//! minute or so and estimates, by linear counting, how many flows of a window fell where it had seen none. Bitmaps of
//! several workers, made with hashes of one seed, merge into exactly the bitmap of one. Never allocates after `new`,
//! never uses floating point. Marked on the capture threads, once per packet; admitted on the detector's.

use std::fmt;

/// Bits of a flow's hash that choose its place.
const PLACE_BITS: u32 = 17;

/// Places in a bitmap: 16 KiB. A window at 10 GbE line rate with a new flow in each packet, 744,000, leaves 450 of them
/// empty, which is enough to count it within 3 %.
const PLACES: u64 = 1 << PLACE_BITS;

/// Words in a bitmap.
const WORDS: usize = 1 << (PLACE_BITS - 6);

/// How long a generation of the history is filled: with the one before, it remembers for 30 to 60 seconds.
const GENERATION_SECONDS: u64 = 30;

/// The natural logarithm of 2 in units of 2^-32.
const LN_2: u128 = 2_977_044_472;

/// The inbound flows of one window, as a bitmap of their hashes.
#[derive(Clone)]
pub struct FlowBitmap {
    places: Bits,
    /// Whether there is no flow in it: known without looking, because an idle host's windows hold none.
    is_empty: bool,
}

/// The flows of the last half minute.
///
/// Remembers for 30 to 60 seconds, and for less when there is more to remember than its bitmaps hold: a generation ends
/// as soon as half of its places are taken (91,000 flows), and what is older is forgotten when both together take seven
/// eighths. A flood of random flows therefore counts as new in each window, which it is.
#[derive(Clone)]
pub struct FlowHistory {
    current: Bits,
    previous: Bits,
    /// The second in which the current generation began.
    began: Option<u64>,
}

#[derive(Clone)]
struct Bits(Vec<u64>);

impl FlowBitmap {
    /// An empty bitmap.
    #[must_use]
    pub fn new() -> Self {
        Self {
            places: Bits::new(),
            is_empty: true,
        }
    }

    /// Marks the flow with this hash.
    #[inline]
    pub fn insert(&mut self, flow_hash: u64) {
        self.is_empty = false;
        self.places.set(flow_hash >> (u64::BITS - PLACE_BITS));
    }

    /// Forgets every flow.
    pub fn clear(&mut self) {
        if !std::mem::replace(&mut self.is_empty, true) {
            self.places.clear();
        }
    }

    /// Adds the flows another worker saw.
    pub fn merge(&mut self, other: &Self) {
        self.is_empty &= other.is_empty;
        self.places.merge(&other.places);
    }
}

impl FlowHistory {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: Bits::new(),
            previous: Bits::new(),
            began: None,
        }
    }

    /// Learns a window's flows and says how many were new. `second` is the second the window lies in.
    ///
    /// With `n` new flows, 131,072 places of which `z` are free in the history (an eighth at least), and `t` as
    /// n / 131,072, the standard deviation is at most 131,072 x sqrt((e^t - 1) / z): for 1,000 new flows 32 in an empty
    /// history and 90 in the fullest. When every free place was hit, the number is the least that explains it.
    pub fn admit(&mut self, second: u64, flows: &FlowBitmap) -> u64 {
        self.age(second);
        if flows.is_empty {
            return 0;
        }
        let new = self.count_new(&flows.places);
        self.current.merge(&flows.places);
        self.make_room();
        new
    }

    fn count_new(&self, flows: &Bits) -> u64 {
        let (mut free, mut hit) = (0, 0);
        for ((current, previous), flows) in
            self.current.0.iter().zip(&self.previous.0).zip(&flows.0)
        {
            let unseen = !(current | previous);
            free += u64::from(unseen.count_ones());
            hit += u64::from((flows & unseen).count_ones());
        }
        count_by_places(free, hit)
    }

    /// Ends generations that lasted long enough.
    fn age(&mut self, second: u64) {
        let age = second.saturating_sub(*self.began.get_or_insert(second));
        if age >= GENERATION_SECONDS {
            self.begin_generation();
            self.began = Some(second);
        }
        if age >= 2 * GENERATION_SECONDS {
            self.previous.clear();
        }
    }

    /// Forgets what is old when there is too little room left to count what is new.
    fn make_room(&mut self) {
        if self.current.taken() > PLACES / 2 {
            self.begin_generation();
        }
        let both: u64 = self
            .current
            .0
            .iter()
            .zip(&self.previous.0)
            .map(|(a, b)| u64::from((a | b).count_ones()))
            .sum();
        if both > PLACES / 8 * 7 {
            self.previous.clear();
        }
    }

    fn begin_generation(&mut self) {
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
    }
}

impl Bits {
    fn new() -> Self {
        Self(vec![0; WORDS])
    }

    /// Takes a place below [`PLACES`].
    #[inline]
    fn set(&mut self, place: u64) {
        if let Some(word) = self.0.get_mut((place / 64) as usize) {
            *word |= 1 << (place % 64);
        }
    }

    fn taken(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

impl Default for FlowBitmap {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for FlowHistory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FlowBitmap {
    /// How full it is; the bits would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowBitmap")
            .field("places_taken", &self.places.taken())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FlowHistory {
    /// How full it is; the bits would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowHistory")
            .field("current_taken", &self.current.taken())
            .field("previous_taken", &self.previous.taken())
            .field("began", &self.began)
            .finish_non_exhaustive()
    }
}

/// Linear counting: how many flows, thrown at all places, hit `hit` of `free` ones. That is places x ln(free / left),
/// rounded; at least one place counts as left.
fn count_by_places(free: u64, hit: u64) -> u64 {
    let left = free.saturating_sub(hit).max(1);
    if left >= free {
        return hit;
    }
    let octaves = u128::from(log2(free) - log2(left));
    let flows = u128::from(PLACES) * octaves * LN_2;
    u64::try_from((flows + (1 << 63)) >> 64).unwrap_or(u64::MAX)
}

/// The binary logarithm of a positive number in units of 2^-32, rounded down: each squaring of the mantissa yields one
/// more bit. That of 0 is given as 0.
pub(crate) fn log2(value: u64) -> u64 {
    let value = value.max(1);
    let whole = value.ilog2();
    let mut mantissa = u128::from(value) << (63 - whole);
    let mut fraction = 0;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        let bit = (mantissa >> 64) & 1;
        mantissa >>= bit;
        fraction = (fraction << 1) | u64::from(bit == 1);
    }
    u64::from(whole) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::count::hash::Seeded;

    fn bitmap(seed: u64, flows: impl Iterator<Item = u64>) -> FlowBitmap {
        let hash = Seeded::new(seed);
        let mut bitmap = FlowBitmap::new();
        flows.for_each(|flow| bitmap.insert(hash.word(flow)));
        bitmap
    }

    fn taken(history: &FlowHistory) -> (u64, u64) {
        (history.current.taken(), history.previous.taken())
    }

    #[test]
    fn the_logarithm_is_that_of_the_textbook() {
        for value in [1, 2, 3, 5, 1_000, 65_535, 131_071, 131_072, u64::MAX] {
            let exact = (value as f64).log2();
            let ours = log2(value) as f64 / 4_294_967_296.0;
            assert!((exact - ours).abs() < 1e-8, "{value}: {ours}, not {exact}");
        }
    }

    #[test]
    fn linear_counting_agrees_with_the_textbook() {
        for (free, hit) in [
            (131_072, 1),
            (131_072, 1_000),
            (131_072, 131_000),
            (65_536, 400),
            (16_384, 16_383),
        ] {
            let exact = 131_072.0 * (free as f64 / (free - hit) as f64).ln();
            assert_eq!(count_by_places(free, hit) as f64, exact.round());
        }
        assert_eq!(count_by_places(0, 0), 0);
        assert_eq!(count_by_places(1, 1), 1);
        assert_eq!(
            count_by_places(131_072, 131_072),
            count_by_places(131_072, 131_071)
        );
    }

    #[test]
    fn a_few_flows_are_counted_exactly_and_only_once() {
        let mut history = FlowHistory::new();
        let flows = bitmap(1, 0..10);
        assert_eq!(history.admit(100, &flows), 10);
        assert_eq!(history.admit(100, &flows), 0);
        assert_eq!(history.admit(101, &bitmap(1, 5..15)), 5);
        assert_eq!(history.admit(101, &FlowBitmap::new()), 0);
    }

    #[test]
    fn windows_without_flows_change_nothing_but_age() {
        let mut history = FlowHistory::new();
        history.admit(0, &bitmap(1, 0..60_000));
        let before = taken(&history);
        for second in 0..29 {
            assert_eq!(history.admit(second, &FlowBitmap::new()), 0);
        }
        assert_eq!(taken(&history), before);
        history.admit(30, &FlowBitmap::new());
        assert_eq!(taken(&history), (0, before.0));
        history.admit(60, &FlowBitmap::new());
        assert_eq!(taken(&history), (0, 0));
    }

    #[test]
    fn a_flow_is_remembered_for_thirty_seconds_and_forgotten_after_sixty() {
        for start in [0, 1_773_567_858] {
            let flow = bitmap(1, 0..1);
            let mut history = FlowHistory::new();
            assert_eq!(history.admit(start, &FlowBitmap::new()), 0);
            assert_eq!(history.admit(start + 29, &flow), 1);
            assert_eq!(history.admit(start + 59, &FlowBitmap::new()), 0);
            assert_eq!(history.clone().admit(start + 59, &flow), 0);
            assert_eq!(history.admit(start + 89, &flow), 1);
        }
    }

    #[test]
    fn a_gap_of_a_minute_forgets_everything_and_time_running_back_nothing() {
        let flow = bitmap(1, 0..1);
        let mut history = FlowHistory::new();
        assert_eq!(history.admit(500, &flow), 1);
        assert_eq!(history.admit(400, &flow), 0);
        assert_eq!(history.admit(560, &flow), 1);
    }

    #[test]
    fn new_flows_are_counted_within_three_deviations_whatever_the_history_holds() {
        for known in [0, 10_000, 60_000, 90_000_u64] {
            for new in [100, 1_000, 20_000, 200_000_u64] {
                let mut history = FlowHistory::new();
                history.admit(0, &bitmap(5, 0..known));
                let free = PLACES - taken(&history).0.max(taken(&history).1);
                let counted = history.admit(1, &bitmap(5, 0..known + new));
                let load = new as f64 / PLACES as f64;
                let deviation = PLACES as f64 * (load.exp_m1() / free as f64).sqrt();
                let error = counted.abs_diff(new) as f64;
                assert!(
                    error <= 3.0 * deviation + 1.0,
                    "{counted} of {new}, {known} known"
                );
            }
        }
    }

    #[test]
    fn a_flood_at_line_rate_is_all_new_in_each_window() {
        let mut history = FlowHistory::new();
        for window in 0..5 {
            let flows = bitmap(3, window * 744_000..(window + 1) * 744_000);
            let counted = history.admit(0, &flows);
            assert!(counted.abs_diff(744_000) < 744_000 / 20, "{counted}");
        }
    }

    #[test]
    fn a_slow_flood_is_counted_while_the_flows_of_customers_stay_known() {
        let mut history = FlowHistory::new();
        let (mut counted, mut flooded) = (0, 1_000_000);
        for window in 0..400 {
            let customers = 0..5_000;
            let flows = bitmap(3, customers.chain(flooded..flooded + 2_000));
            flooded += 2_000;
            let new = history.admit(window / 20, &flows);
            counted += if window == 0 { 0 } else { new };
        }
        // Customers show themselves in every window, so forgetting a generation costs nothing.
        assert!(
            counted.abs_diff(399 * 2_000) < 399 * 2_000 / 50,
            "{counted}"
        );
    }

    #[test]
    fn there_is_always_an_eighth_of_the_places_free() {
        let mut history = FlowHistory::new();
        for (second, load) in [50_000, 90_000, 150_000, 400_000, 30_000, 2_000_000, 10]
            .into_iter()
            .enumerate()
        {
            let start = second as u64 * 10_000_000;
            history.admit(second as u64, &bitmap(2, start..start + load));
            let free: u32 = (history.current.0.iter().zip(&history.previous.0))
                .map(|(a, b)| (a | b).count_zeros())
                .sum();
            assert!(u64::from(free) >= PLACES / 8);
        }
    }

    #[test]
    fn debug_is_short() {
        assert_eq!(
            format!("{:?}", bitmap(1, 0..3)),
            "FlowBitmap { places_taken: 3, .. }"
        );
        assert!(format!("{:?}", FlowHistory::new()).len() < 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn several_workers_see_exactly_what_one_sees(
            flows in prop::collection::vec((any::<u64>(), 0_usize..4), 0..300),
        ) {
            let mut whole = FlowBitmap::new();
            let mut parts = vec![FlowBitmap::new(); 4];
            for (flow, worker) in &flows {
                whole.insert(*flow);
                parts[*worker].insert(*flow);
            }
            let mut merged = FlowBitmap::new();
            parts.iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(&merged.places.0, &whole.places.0);
            merged.clear();
            prop_assert_eq!(merged.places.taken(), 0);
        }

        #[test]
        fn counting_never_shrinks_when_more_places_are_hit(free in 1_u64..=131_072, hit in 0_u64..131_072) {
            let hit = hit.min(free - 1);
            prop_assert!(count_by_places(free, hit) <= count_by_places(free, hit + 1));
            prop_assert!(count_by_places(free, hit) >= hit);
        }
    }
}
