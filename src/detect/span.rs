//! Traffic of several windows in a row, summed: the last second, or an incident so far.

use std::collections::VecDeque;

use super::vector::permille;
use crate::capture::counter::{NicQuality, NicReading};
use crate::classify::TrafficClass;
use crate::clock::Timestamp;
use crate::count::{
    Count, Loss, PortHistogram, SessionTally, Tally, WINDOWS_PER_SECOND, Window, WindowIndex,
};

/// A captured total this much below the interface's, in permille of it, is measurement noise: timer jitter and frames
/// that the interface merged (detection rules, section 2, "gap").
const GAP_IGNORED_PERMILLE: u64 = 50;

/// Capture that shows less than this part of what the interface counted, in permille, names nothing.
const BLIND_PERMILLE: u64 = 100;

/// Fewer packets than this on the interface prove nothing about capture.
const BLIND_LEAST_PACKETS: u64 = 50;

/// Sums over some windows.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// How many windows.
    pub windows: u64,
    /// What is judged: the interface's packets and bits where it has counters, else those captured.
    pub judged: Count,
    /// How many of the windows were judged by the interface's counters.
    pub from_interface: u64,
    /// What came in, as captured.
    pub inbound: Tally,
    /// What went out, as captured, by class.
    pub outbound: [Count; TrafficClass::COUNT],
    /// Inbound TCP sessions by port.
    pub sessions: SessionTally,
    /// The source port of UDP of no known service that outnumbers all others, if one does.
    pub source_port: LeadingPort,
    /// What was lost on the way.
    pub loss: Loss,
}

/// The port that outnumbers all others together, found by counting votes for it and against it (Boyer and Moore).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeadingPort {
    port: u16,
    /// By how many packets it leads, as far as the votes show; never more than it does.
    pub lead: u64,
}

impl LeadingPort {
    /// The leader of one window.
    fn of(ports: &PortHistogram) -> Self {
        match ports.largest(1).first() {
            Some(&(port, packets)) => {
                let others = ports.total().saturating_sub(packets);
                let lead = packets.saturating_sub(others);
                Self { port, lead }
            }
            None => Self::default(),
        }
    }

    fn merge(&mut self, other: Self) {
        if self.port == other.port {
            self.lead += other.lead;
        } else if self.lead >= other.lead {
            self.lead -= other.lead;
        } else {
            *self = Self {
                port: other.port,
                lead: other.lead - self.lead,
            };
        }
    }
}

impl Span {
    /// Adds one window.
    pub fn add(&mut self, window: &Window, judged: Judged) {
        self.windows += 1;
        self.judged.merge(judged.count);
        self.from_interface += u64::from(judged.from_interface);
        self.inbound.merge(&window.inbound);
        for (mine, theirs) in self.outbound.iter_mut().zip(&window.outbound.classes) {
            mine.merge(*theirs);
        }
        self.sessions.merge(&window.sessions);
        self.source_port
            .merge(LeadingPort::of(&window.inbound_ends.udp_source_ports));
        self.loss.merge(window.loss);
    }

    /// Adds another span.
    pub fn merge(&mut self, other: &Self) {
        self.windows += other.windows;
        self.judged.merge(other.judged);
        self.from_interface += other.from_interface;
        self.inbound.merge(&other.inbound);
        for (mine, theirs) in self.outbound.iter_mut().zip(&other.outbound) {
            mine.merge(*theirs);
        }
        self.sessions.merge(&other.sessions);
        self.source_port.merge(other.source_port);
        self.loss.merge(other.loss);
    }

    /// Packets the interface counted and capture did not hand over; 0 while within noise.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        let captured = self.inbound.wire().packets;
        let gap = self.judged.packets.saturating_sub(captured);
        if permille(gap, self.judged.packets) <= GAP_IGNORED_PERMILLE {
            0
        } else {
            gap
        }
    }

    /// Whether capture shows too little of the traffic to say what it is.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        let captured = self.inbound.wire().packets;
        self.judged.packets >= BLIND_LEAST_PACKETS
            && permille(captured, self.judged.packets) < BLIND_PERMILLE
    }

    /// Outbound packets of a class.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the array has one entry per class")]
    pub const fn sent(&self, class: TrafficClass) -> u64 {
        self.outbound[class as usize].packets
    }
}

/// What one window amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Packets and bits.
    pub count: Count,
    /// Whether they are the interface's.
    pub from_interface: bool,
}

impl Judged {
    /// The interface's figures where they can be trusted for this very window, else what was captured.
    #[must_use]
    pub fn of(window: &Window, nic: Option<NicReading>) -> Self {
        match nic {
            Some(reading) if reading.quality != NicQuality::Stepping => Self {
                count: Count {
                    packets: reading.packets,
                    bits: reading.bytes.saturating_mul(8),
                },
                from_interface: reading.quality != NicQuality::Partial,
            },
            _ => Self {
                count: window.inbound.frames,
                from_interface: false,
            },
        }
    }
}

/// What a single window contributes to the sliding second, kept until it leaves it.
#[derive(Clone, Debug)]
struct Kept {
    index: WindowIndex,
    first_inbound_at: Option<Timestamp>,
    judged: Judged,
    /// `None` for a window in which nothing was captured: an idle host costs nothing.
    traffic: Option<Box<Traffic>>,
}

#[derive(Clone, Debug, Default)]
struct Traffic {
    inbound: Tally,
    outbound: [Count; TrafficClass::COUNT],
    sessions: SessionTally,
    source_port: LeadingPort,
    loss: Loss,
}

/// The last second, window by window, and its sum.
#[derive(Clone, Debug)]
pub(super) struct LastSecond {
    kept: VecDeque<Kept>,
    /// Boxes of windows that left, to be used again.
    spare: Vec<Box<Traffic>>,
    sum: Span,
}

impl LastSecond {
    /// A second in which nothing happened.
    #[must_use]
    pub(super) fn new() -> Self {
        let windows = usize::try_from(WINDOWS_PER_SECOND).unwrap_or(0);
        Self {
            kept: VecDeque::with_capacity(windows),
            spare: (0..windows).map(|_| Box::default()).collect(),
            sum: Span::default(),
        }
    }

    /// Takes in the window that just closed; those a second older leave. Should time ever run backwards, all do.
    pub(super) fn push(&mut self, window: &Window, judged: Judged) {
        let backwards = self
            .kept
            .back()
            .is_some_and(|newest| window.index <= newest.index);
        let leaves =
            |kept: &Kept| backwards || window.index.since(kept.index) >= WINDOWS_PER_SECOND;
        while self.kept.front().is_some_and(leaves) {
            if let Some(oldest) = self.kept.pop_front() {
                self.retire(oldest);
            }
        }
        self.sum.windows += 1;
        self.sum.judged.merge(judged.count);
        self.sum.from_interface += u64::from(judged.from_interface);
        let silent = window.inbound.frames.packets == 0
            && window.outbound.frames.packets == 0
            && window.loss == Loss::default();
        let traffic = (!silent).then(|| self.take_in(window));
        self.kept.push_back(Kept {
            index: window.index,
            first_inbound_at: window.first_inbound_at,
            judged,
            traffic,
        });
    }

    /// The sum without its sessions and source port; see [`LastSecond::span`].
    #[must_use]
    pub(super) const fn sum(&self) -> &Span {
        &self.sum
    }

    /// The sum, with what cannot be taken away again when a window leaves.
    #[must_use]
    pub(super) fn span(&self) -> Span {
        let mut span = self.sum.clone();
        for traffic in self.kept.iter().filter_map(|kept| kept.traffic.as_ref()) {
            span.sessions.merge(&traffic.sessions);
            span.source_port.merge(traffic.source_port);
        }
        span
    }

    /// What each window amounted to, newest first.
    pub(super) fn newest_first(
        &self,
    ) -> impl Iterator<Item = (WindowIndex, Option<Timestamp>, Judged)> {
        self.kept
            .iter()
            .rev()
            .map(|kept| (kept.index, kept.first_inbound_at, kept.judged))
    }

    fn take_in(&mut self, window: &Window) -> Box<Traffic> {
        let mut traffic = self.spare.pop().unwrap_or_default();
        traffic.inbound.clone_from(&window.inbound);
        traffic.outbound.clone_from(&window.outbound.classes);
        traffic.sessions.clone_from(&window.sessions);
        traffic.source_port = LeadingPort::of(&window.inbound_ends.udp_source_ports);
        traffic.loss = window.loss;
        self.sum.inbound.merge(&traffic.inbound);
        for (sum, sent) in self.sum.outbound.iter_mut().zip(&traffic.outbound) {
            sum.merge(*sent);
        }
        self.sum.loss.merge(traffic.loss);
        traffic
    }

    fn retire(&mut self, kept: Kept) {
        self.sum.windows -= 1;
        self.sum.judged.retire(kept.judged.count);
        self.sum.from_interface -= u64::from(kept.judged.from_interface);
        if let Some(traffic) = kept.traffic {
            self.sum.inbound.retire(&traffic.inbound);
            for (sum, sent) in self.sum.outbound.iter_mut().zip(&traffic.outbound) {
                sum.retire(*sent);
            }
            self.sum.loss.retire(traffic.loss);
            self.spare.push(traffic);
        }
    }
}

impl Default for LastSecond {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn window(index: WindowIndex, packets: u64, port: u16) -> Window {
        let mut window = Window::new(index, SEED);
        let bits = packets * 480;
        window.inbound.frames.add(packets, bits);
        window.inbound.classes[TrafficClass::UdpOther as usize].add(packets, bits);
        window
            .inbound_ends
            .udp_source_ports
            .add(port, u32::try_from(packets).unwrap());
        window
    }

    fn push(last: &mut LastSecond, index: WindowIndex, packets: u64) {
        let window = window(index, packets, 7);
        last.push(&window, Judged::of(&window, None));
    }

    fn start() -> WindowIndex {
        WindowIndex::of(Timestamp::from_seconds(1_000))
    }

    #[test]
    fn twenty_windows_are_summed_and_what_left_is_gone() {
        let mut last = LastSecond::new();
        let mut index = start();
        for packets in 0..50 {
            push(&mut last, index, packets);
            index = index.next();
        }
        let expected: u64 = (30..50).sum();
        assert_eq!(last.sum().judged.packets, expected);
        assert_eq!(last.span().inbound.wire().packets, expected);
        assert_eq!(last.sum().windows, WINDOWS_PER_SECOND);
        assert_eq!(last.span().source_port.lead, expected);
    }

    #[test]
    fn recycled_boxes_carry_nothing_over() {
        let mut last = LastSecond::new();
        let mut index = start();
        for packets in [5; 40].into_iter().chain([0; 19]) {
            push(&mut last, index, packets);
            index = index.next();
        }
        assert_eq!(last.sum().judged.packets, 5);
        push(&mut last, index, 0);
        assert_eq!(last.sum().inbound, Tally::default());
        assert_eq!(last.spare.len(), 20);
    }

    #[test]
    fn windows_left_out_age_the_others_all_the_same() {
        let mut last = LastSecond::new();
        push(&mut last, start(), 100);
        let later = WindowIndex::of(start().start().plus_nanos(950_000_000));
        push(&mut last, later, 10);
        assert_eq!(last.sum().judged.packets, 110);
        push(&mut last, later.next(), 1);
        assert_eq!(last.sum().judged.packets, 11);
    }

    #[test]
    fn time_that_runs_backwards_begins_a_new_second() {
        let mut last = LastSecond::new();
        push(&mut last, start().next(), 100);
        push(&mut last, start(), 1);
        assert_eq!((last.sum().judged.packets, last.sum().windows), (1, 1));
    }

    #[test]
    fn a_port_leads_when_it_outnumbers_all_others() {
        let mut span = Span::default();
        for n in 0..100 {
            let port = if n % 10 == 0 { n } else { 4_444 };
            let window = window(start(), 1, port);
            span.add(&window, Judged::of(&window, None));
        }
        assert_eq!(
            span.source_port,
            LeadingPort {
                port: 4_444,
                lead: 80
            }
        );
        let mut scattered = Span::default();
        for n in 0..100 {
            let window = window(start(), 1, n);
            scattered.add(&window, Judged::of(&window, None));
        }
        assert!(scattered.source_port.lead <= 1);
    }

    #[test]
    fn counters_beyond_any_link_do_not_wrap() {
        let reading = NicReading {
            packets: u64::MAX,
            bytes: u64::MAX,
            missed: 0,
            quality: NicQuality::Measured,
        };
        let window = window(start(), 1, 1);
        let mut span = Span::default();
        span.add(&window, Judged::of(&window, Some(reading)));
        assert_eq!(span.unseen(), u64::MAX - 1);
        assert!(span.is_blind());
    }
}
