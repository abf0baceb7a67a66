//! Traffic of several windows in a row, summed: the last second, or an incident so far.

use std::collections::VecDeque;

use crate::capture::counter::{NicQuality, NicReading};
use crate::classify::TrafficClass;
use crate::clock::Timestamp;
use crate::count::{Count, Loss, SessionTally, Tally, WINDOWS_PER_SECOND, Window, WindowIndex};

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
    /// What was lost on the way.
    pub loss: Loss,
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
        self.loss.merge(other.loss);
    }

    /// Packets the interface counted and capture did not hand over; 0 while within noise.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        let gap = self
            .judged
            .packets
            .saturating_sub(self.inbound.frames.packets);
        if gap * 1_000 <= self.judged.packets * GAP_IGNORED_PERMILLE {
            0
        } else {
            gap
        }
    }

    /// Whether capture shows too little of the traffic to say what it is.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.judged.packets >= BLIND_LEAST_PACKETS
            && self.inbound.frames.packets * 1_000 < self.judged.packets * BLIND_PERMILLE
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
                from_interface: true,
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
            sum: Span {
                sessions: SessionTally::default(),
                ..Span::default()
            },
        }
    }

    /// Takes in the window that just closed; the one a second older leaves.
    pub(super) fn push(&mut self, window: &Window, judged: Judged) {
        if self.kept.len() as u64 >= WINDOWS_PER_SECOND
            && let Some(oldest) = self.kept.pop_front()
        {
            self.retire(oldest);
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

    /// Forgets everything: time jumped.
    pub(super) fn clear(&mut self) {
        while let Some(oldest) = self.kept.pop_front() {
            self.retire(oldest);
        }
    }

    /// The sum without its sessions; see [`LastSecond::span`].
    #[must_use]
    pub(super) const fn sum(&self) -> &Span {
        &self.sum
    }

    /// The sum, sessions included.
    #[must_use]
    pub(super) fn span(&self) -> Span {
        let mut span = self.sum.clone();
        for traffic in self.kept.iter().filter_map(|kept| kept.traffic.as_ref()) {
            span.sessions.merge(&traffic.sessions);
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
