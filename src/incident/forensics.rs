//! What the packets of an incident were like: lengths, TTLs, fragments, how its rate went, how evenly its sources sent.
//!
//! Facts for whoever looks at it afterwards; no verdict hangs on any of them. Sums and a bounded curve, in integers
//! throughout. Pure; on the detector's thread, once a window and once a second. It must never grow with the length of
//! an attack: a curve that is full becomes coarser.

use crate::classify::{TrafficClass, tcp_flag};
use crate::clock::Timestamp;
use crate::count::{ByteHistogram, Count, LENGTH_BOUNDS, SourceSummary, Tally, log2};
use crate::detect::permille;

/// Length buckets: one for each bound, and one for what is longer.
const LENGTHS: usize = LENGTH_BOUNDS.len() + 1;

/// TTLs listed at most: what the resource contract shows.
pub(super) const LISTED_TTLS: usize = 15;

/// Points a curve has at most: what the resource contract takes.
pub(super) const CURVE_POINTS: usize = 2_000;

/// IP protocol numbers of the protocols that the seed contract tells apart.
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What the packets of an incident were like, as captured; normal traffic included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forensics {
    /// Packets and bits as they were on the wire.
    pub captured: Count,
    /// Of these packets, TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP and ICMPv6.
    pub icmp: u64,
    /// Fragments, first ones and later ones.
    pub fragments: u64,
    /// Frames by length, see [`LENGTH_BOUNDS`]; a frame merged by receive offload counts once.
    pub lengths: [u64; LENGTHS],
    /// IP packets by TTL or hop limit: the 15 with most, most first, then lower TTL.
    pub ttls: Vec<(u8, u64)>,
    /// How its rate went, oldest first; at most 2,000 points.
    pub curve: Vec<CurvePoint>,
    /// Each point of the curve is the highest of so many seconds.
    pub curve_step_seconds: u64,
    /// Shannon entropy of the sources of the traffic it is named after, by their packets, in thousandths of a bit: 0 for
    /// a single source, 16,000 for 65,536 that send alike. Known once it is resolved, and only when all sources were
    /// counted exactly.
    pub entropy_millibits: Option<u64>,
}

/// The judged rate of one second of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurvePoint {
    /// From the incident's first packet to the beginning of the second, rounded up; 0 for the one it began in.
    pub after_millis: u64,
    /// Packets in that second.
    pub pps: u64,
}

impl Forensics {
    /// Packets of no protocol that is told apart.
    #[must_use]
    pub const fn other(&self) -> u64 {
        let told_apart = self.tcp.saturating_add(self.udp).saturating_add(self.icmp);
        self.captured.packets.saturating_sub(told_apart)
    }

    /// So many of the captured packets as their part of all, in permille.
    #[must_use]
    pub fn permille(&self, packets: u64) -> u64 {
        permille(packets, self.captured.packets)
    }

    /// Mean length of a packet on the wire in tenths of a byte; `None` when none was captured.
    #[must_use]
    pub fn mean_length_tenths(&self) -> Option<u64> {
        // Tenths of a byte are 10/8 of a bit.
        let tenths = u128::from(self.captured.bits) * 10 / 8;
        let mean = tenths.checked_div(u128::from(self.captured.packets))?;
        u64::try_from(mean).ok()
    }
}

/// Sums over what was captured.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    wire: Count,
    fragments: u64,
    lengths: [u64; LENGTHS],
    protocols: ByteHistogram,
    flags: ByteHistogram,
    ttls: ByteHistogram,
}

impl Seen {
    /// What was captured before, as far as an incident says it.
    pub(super) fn recall(forensics: &Forensics, tcp_flags: [u64; 8]) -> Self {
        let mut seen = Self {
            wire: forensics.captured,
            fragments: forensics.fragments,
            lengths: forensics.lengths,
            ..Self::default()
        };
        seen.protocols.add(TCP, forensics.tcp);
        seen.protocols.add(UDP, forensics.udp);
        seen.protocols.add(ICMP, forensics.icmp);
        for &(ttl, packets) in &forensics.ttls {
            seen.ttls.add(ttl, packets);
        }
        // Flags are only ever asked for one by one: which of them came together is not missed.
        for (flag, packets) in FLAGS.into_iter().zip(tcp_flags) {
            seen.flags.add(flag, packets);
        }
        seen
    }

    pub(super) fn add(&mut self, tally: &Tally) {
        self.wire.merge(tally.wire());
        let later = tally.class(TrafficClass::Fragment).packets;
        self.fragments += tally.fragments.first + later;
        for (mine, theirs) in self.lengths.iter_mut().zip(&tally.lengths) {
            *mine += theirs;
        }
        self.protocols.merge(&tally.protocols);
        self.flags.merge(&tally.flags);
        self.ttls.merge(&tally.ttls);
    }

    /// TCP packets by flag, in the order of [`FLAGS`].
    pub(super) fn tcp_flags(&self) -> [u64; 8] {
        FLAGS.map(|flag| self.flags.matching(|flags| flags & flag != 0))
    }

    /// What it comes to, without what others know: the curve and the sources.
    pub(super) fn forensics(&self) -> Forensics {
        Forensics {
            captured: self.wire,
            tcp: self.protocols.of(TCP),
            udp: self.protocols.of(UDP),
            icmp: self.protocols.of(ICMP) + self.protocols.of(ICMPV6),
            fragments: self.fragments,
            lengths: self.lengths,
            ttls: most_first(&self.ttls),
            ..Forensics::default()
        }
    }
}

/// The flags in the order of [`Incident::tcp_flags`](super::Incident::tcp_flags).
const FLAGS: [u8; 8] = [
    tcp_flag::FIN,
    tcp_flag::SYN,
    tcp_flag::RST,
    tcp_flag::PSH,
    tcp_flag::ACK,
    tcp_flag::URG,
    tcp_flag::ECE,
    tcp_flag::CWR,
];

fn most_first(ttls: &ByteHistogram) -> Vec<(u8, u64)> {
    let mut listed: Vec<(u8, u64)> = (0..=u8::MAX)
        .map(|ttl| (ttl, ttls.of(ttl)))
        .filter(|(_, packets)| *packets > 0)
        .collect();
    // A stable sort: equal counts stay in the order of their TTL.
    listed.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
    listed.truncate(LISTED_TTLS);
    listed
}

/// How an incident's rate went, a point for each second. When it is full, neighbours become one point that stands for
/// twice as many seconds and shows the higher of the two rates, so that the peak stays.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// The second that the incident began in; steps are counted from there.
    first_second: u64,
    step_seconds: u64,
    /// UTC seconds since the epoch, rising, and their packets.
    points: Vec<(u64, u64)>,
}

impl Curve {
    /// The curve of an incident that began at `started_at`.
    pub(super) const fn new(started_at: Timestamp) -> Self {
        Self {
            first_second: started_at.as_seconds(),
            step_seconds: 1,
            points: Vec::new(),
        }
    }

    /// The curve as it was told.
    pub(super) fn recall(started_at: Timestamp, forensics: &Forensics) -> Self {
        let mut curve = Self {
            step_seconds: forensics.curve_step_seconds.max(1),
            ..Self::new(started_at)
        };
        for point in &forensics.curve {
            let at = started_at.plus_nanos(point.after_millis.saturating_mul(1_000_000));
            curve.add(at.as_seconds(), point.pps);
        }
        curve
    }

    /// Adds a second. Seconds come in order; one that does not is taken for the newest.
    pub(super) fn add(&mut self, second: u64, pps: u64) {
        let step = self.step_of();
        match self.points.last_mut() {
            Some(last) if step(second) <= step(last.0) => {
                if pps > last.1 {
                    *last = (second.max(last.0), pps);
                }
            }
            _ => self.points.push((second, pps)),
        }
        while self.points.len() > CURVE_POINTS {
            self.coarsen();
        }
    }

    /// Forgets the seconds from `end` on.
    pub(super) fn cut(&mut self, end: Timestamp) {
        self.points
            .retain(|(second, _)| Timestamp::from_seconds(*second) < end);
    }

    pub(super) const fn step_seconds(&self) -> u64 {
        self.step_seconds
    }

    /// The points, told from `started_at` on.
    pub(super) fn points(&self, started_at: Timestamp) -> Vec<CurvePoint> {
        let point = |&(second, pps): &(u64, u64)| CurvePoint {
            // Rounded up, so that the start as told, which is rounded down, and this never add up to the second before.
            after_millis: Timestamp::from_seconds(second)
                .nanos_since(started_at)
                .div_ceil(1_000_000),
            pps,
        };
        self.points.iter().map(point).collect()
    }

    fn coarsen(&mut self) {
        self.step_seconds = self.step_seconds.saturating_mul(2);
        let step = self.step_of();
        self.points.dedup_by(|later, earlier| {
            let same = step(later.0) == step(earlier.0);
            if same && later.1 > earlier.1 {
                *earlier = *later;
            }
            same
        });
    }

    /// Which step a second falls into.
    fn step_of(&self) -> impl Fn(u64) -> u64 + use<> {
        let (first_second, step_seconds) = (self.first_second, self.step_seconds);
        move |second| second.saturating_sub(first_second) / step_seconds
    }
}

/// The Shannon entropy of the sources in thousandths of a bit; see [`Forensics::entropy_millibits`].
pub(super) fn entropy_millibits(sources: &SourceSummary) -> Option<u64> {
    entropy_of(sources.exact_counts()?)
}

/// The entropy of counts, in whatever order: log2(n) - sum(c x log2(c)) / n, in units of 2^-32 until the end.
fn entropy_of(counts: impl Iterator<Item = u64>) -> Option<u64> {
    let logarithms = Logarithms::new();
    let (mut whole, mut weighted) = (0_u64, 0_u128);
    for count in counts {
        whole = whole.saturating_add(count);
        weighted += u128::from(count) * u128::from(logarithms.of(count));
    }
    // Logarithms are rounded down: the difference may miss zero by a little.
    let mean = weighted.checked_div(u128::from(whole))?;
    let bits = u128::from(log2(whole)).saturating_sub(mean);
    u64::try_from((bits * 1_000 + (1 << 31)) >> 32).ok()
}

/// Binary logarithms of many numbers at once: those of 256 steps from 1 to 2, and straight lines between them. At most
/// three millionths of a bit too low, and a hundred times as quick as each on its own: there may be 131,072 counts, and
/// the detector has a few milliseconds.
struct Logarithms([u64; 257]);

impl Logarithms {
    fn new() -> Self {
        let mut step = 256_u64..;
        Self([(); 257].map(|()| log2(step.next().unwrap_or(256)) - (8 << 32)))
    }

    /// The logarithm of a number in units of 2^-32; 0 for that of 0.
    fn of(&self, value: u64) -> u64 {
        let value = value.max(1);
        let whole = value.ilog2();
        let mantissa = value << (63 - whole);
        // Behind the leading one: eight bits say which step, and the next 32 how far into it.
        let index = usize::try_from(mantissa >> 55 & 0xff).unwrap_or(0);
        let into = mantissa >> 23 & 0xffff_ffff;
        let at = |index: usize| self.0.get(index).copied().unwrap_or(0);
        let (low, high) = (at(index), at(index + 1));
        (u64::from(whole) << 32) + low + (((high - low) * into) >> 32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entropy(counts: &[u64]) -> Option<u64> {
        entropy_of(counts.iter().copied())
    }

    #[test]
    fn one_source_has_no_entropy_and_equal_ones_have_the_logarithm_of_their_number() {
        assert_eq!(entropy(&[]), None);
        assert_eq!(entropy(&[7]), Some(0));
        assert_eq!(entropy(&[5, 5]), Some(1_000));
        assert_eq!(entropy(&[9; 1_000]), Some(9_966));
        assert_eq!(entropy(&[1; 65_536]), Some(16_000));
        assert_eq!(entropy(&[u64::MAX / 2; 2]), Some(1_000));
    }

    #[test]
    fn logarithms_by_the_table_are_those_of_one_at_a_time() {
        let logarithms = Logarithms::new();
        let powers = (0..64).map(|power| 1 << power);
        for power in powers.clone() {
            assert_eq!(logarithms.of(power), log2(power));
        }
        let between = powers.flat_map(|power: u64| [power / 3 * 2 + 1, power / 7 * 5, power - 1]);
        for value in between.chain(0..5_000).chain([u64::MAX]) {
            let (ours, exact) = (logarithms.of(value), log2(value));
            assert!(
                ours <= exact && exact - ours <= (3 << 32) / 1_000_000 + 1,
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn entropy_is_that_of_the_textbook(counts in prop::collection::vec(1_u64..1_000_000, 1..400)) {
            let whole: u64 = counts.iter().sum();
            let exact: f64 = counts
                .iter()
                .map(|count| *count as f64 / whole as f64)
                .map(|part| -part * part.log2())
                .sum();
            let ours = entropy(&counts).unwrap() as f64 / 1_000.0;
            prop_assert!((exact - ours).abs() <= 0.000_6, "{ours}, not {exact}");
        }

        #[test]
        fn a_curve_never_outgrows_its_bound_and_never_loses_its_peak(
            pauses in prop::collection::vec(0_u64..5, 1..9_000),
            seed in any::<u64>(),
        ) {
            let mut curve = Curve::new(Timestamp::from_seconds(999));
            let (mut second, mut peak, mut state) = (1_000, 0, seed);
            for pause in pauses {
                second += pause;
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                peak = peak.max(state >> 40);
                curve.add(second, state >> 40);
                prop_assert!(curve.points.len() <= CURVE_POINTS);
            }
            prop_assert!(curve.points.is_sorted_by(|one, other| one.0 < other.0));
            prop_assert_eq!(curve.points.iter().map(|point| point.1).max(), Some(peak));
        }
    }

    #[test]
    fn a_full_curve_shows_every_second_as_the_higher_of_two() {
        let started_at = Timestamp::from_seconds(10_000);
        let mut curve = Curve::new(started_at);
        for second in 0..2_001 {
            curve.add(10_000 + second, second);
        }
        assert_eq!(curve.step_seconds, 2);
        assert_eq!(curve.points.len(), 1_001);
        let points = curve.points(started_at);
        let third = CurvePoint {
            after_millis: 5_000,
            pps: 5,
        };
        assert_eq!(points.get(2), Some(&third));
    }

    #[test]
    fn points_are_told_from_the_first_packet_on_and_found_again() {
        // 199.5 ms before a second ends.
        let started_at = Timestamp::from_nanos(1_773_567_600_800_500_000);
        let mut curve = Curve::new(started_at);
        for (second, pps) in [(0, 70), (1, 400), (2, 390)] {
            curve.add(1_773_567_600 + second, pps);
        }
        let points = curve.points(started_at);
        let told: Vec<_> = points.iter().map(|point| point.after_millis).collect();
        assert_eq!(told, [0, 200, 1_200]);
        let forensics = Forensics {
            curve: points,
            curve_step_seconds: curve.step_seconds(),
            ..Forensics::default()
        };
        // Stored times have milliseconds.
        let stored = Timestamp::from_nanos(1_773_567_600_800_000_000);
        assert_eq!(Curve::recall(stored, &forensics).points, curve.points);
    }

    #[test]
    fn a_curve_ends_with_the_last_second_that_began_before_the_end() {
        let mut curve = Curve::new(Timestamp::from_seconds(100));
        for second in 100..110 {
            curve.add(second, 1);
        }
        curve.cut(Timestamp::from_nanos(105_050_000_000));
        assert_eq!(curve.points.len(), 6);
        curve.cut(Timestamp::from_seconds(105));
        assert_eq!(curve.points.len(), 5);
    }

    #[test]
    fn most_ttls_come_first_and_equal_ones_in_order() {
        let mut ttls = ByteHistogram::default();
        for ttl in 0..40 {
            ttls.add(ttl, 10);
        }
        ttls.add(64, 500);
        let listed = most_first(&ttls);
        assert_eq!(listed.len(), 15);
        assert_eq!(listed[..3], [(64, 500), (0, 10), (1, 10)]);
    }

    #[test]
    fn what_is_recalled_is_what_was_told() {
        let mut tally = Tally::default();
        tally.classes[TrafficClass::Syn as usize].add(100, 48_000);
        tally.classes[TrafficClass::NotIp as usize].add(3, 1_440);
        tally.protocols.add(TCP, 100);
        tally.flags.add(tcp_flag::SYN | tcp_flag::ECE, 60);
        tally.flags.add(tcp_flag::SYN, 40);
        tally.ttls.add(57, 100);
        tally.lengths = [103, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        tally.fragments.first = 2;
        let mut seen = Seen::default();
        seen.add(&tally);
        let told = seen.forensics();
        assert_eq!((told.other(), told.permille(told.other())), (3, 29));
        assert_eq!(told.mean_length_tenths(), Some(600));
        let recalled = Seen::recall(&told, seen.tcp_flags());
        assert_eq!(recalled.forensics(), told);
        assert_eq!(recalled.tcp_flags(), seen.tcp_flags());
        assert_eq!(seen.tcp_flags(), [0, 100, 0, 0, 0, 0, 60, 0]);
    }
}
