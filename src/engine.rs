//! The pure part as one value: windows in, outcomes out.
//!
//! The order per closed window is fixed: judge, step the lifecycle, and at the end of a second learn, but only what the
//! lifecycle lets pass. "Do not learn from an attack" is decided here and nowhere else.

use crate::capture::counter::NicReading;
use crate::clock::Timestamp;
use crate::count::{SecondMeter, TrafficSecond, Window};
use crate::detect::baseline::{Baseline, Judgement, SecondValues};
use crate::detect::{self, Detector, Judged, Verdict};
use crate::incident::{self, Event, Incident, Lifecycle};

/// How the engine works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to detect.
    pub detect: detect::Settings,
    /// How incidents live.
    pub incident: incident::Settings,
}

/// What a window led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What happened to incidents, in order.
    pub events: Vec<Event>,
    /// The second that ended with the window, or before it.
    pub second: Option<TrafficSecond>,
}

impl Outcome {
    /// How many incidents opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.events
            .iter()
            .map(|event| u64::from(matches!(event, Event::Opened(_))))
            .sum()
    }
}

/// Windows in, outcomes out; the same windows always give the same outcomes.
#[derive(Debug)]
pub struct Engine {
    detector: Detector,
    lifecycle: Lifecycle,
    seconds: SecondMeter,
    /// The worst judgement of a window of the running second.
    worst: Judgement,
    /// Whether all windows of the running second were watched, and whether the next one is.
    watched: bool,
    next_is_watched: bool,
    /// How far UTC seconds lie ahead of the windows' seconds.
    utc_ahead_seconds: i64,
    now: Timestamp,
}

impl Engine {
    /// An engine that knows nothing yet, or what `baseline` remembers.
    #[must_use]
    pub fn new(settings: Settings, baseline: Option<Baseline>) -> Self {
        Self {
            detector: Detector::new(settings.detect, baseline),
            lifecycle: Lifecycle::new(settings.incident),
            seconds: SecondMeter::new(),
            worst: Judgement::Quiet,
            watched: true,
            next_is_watched: true,
            utc_ahead_seconds: 0,
            now: Timestamp::default(),
        }
    }

    /// Takes in a window, in order. `nic` is what the interfaces counted in it, where there are any; `at` is when it is
    /// judged: the window's end in replay, a little later in the live agent.
    pub fn step(&mut self, window: &Window, nic: Option<NicReading>, at: Timestamp) -> Outcome {
        let verdict = self.judge(window, nic, at);
        let events = self.lifecycle.step(&verdict, window, &self.detector);
        let judgement = self.judgement(&verdict);
        let second = self.learn(window, verdict.newest, judgement);
        Outcome { events, second }
    }

    /// Takes in a window of a time that only teaches what is normal: no incident opens, and every second is learned.
    pub fn learn_only(&mut self, window: &Window, at: Timestamp) -> Outcome {
        let judged = self.judge(window, None, at).newest;
        Outcome {
            events: Vec::new(),
            second: self.learn(window, judged, Judgement::Quiet),
        }
    }

    /// The window that comes next is not watched on every interface: it is judged as it is, and its second teaches
    /// nothing, as if it were missing.
    pub const fn not_watched(&mut self) {
        self.next_is_watched = false;
    }

    /// Windows are missing before the next one: neither the second that was running nor the one that begins now is whole,
    /// and neither teaches anything.
    pub const fn gap(&mut self) {
        self.watched = false;
        self.next_is_watched = false;
    }

    /// The host has booted or an interface came up: what is seen in the next seconds is not usual.
    pub const fn link_came_up(&mut self) {
        self.detector.link_came_up();
    }

    /// UTC was set by so many seconds against the time of the windows, which goes on as if nothing had happened. Only
    /// what is learned by the hour of the day follows.
    pub fn clock_set(&mut self, by_seconds: i64) {
        self.utc_ahead_seconds = self.utc_ahead_seconds.saturating_add(by_seconds);
        self.detector.clock_set(by_seconds);
    }

    /// There will be no more windows: gives the running second, and resolves what is open.
    pub fn finish(&mut self) -> Outcome {
        Outcome {
            events: self.lifecycle.finish(self.now, &self.detector),
            second: self.seconds.finish(self.detector.recall()),
        }
    }

    /// What the detector knows: limits, baseline.
    #[must_use]
    pub const fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The incident that is open, as last reported.
    #[must_use]
    pub fn open_incident(&self) -> Option<&Incident> {
        self.lifecycle.open()
    }

    /// Judges a window. Time never runs backwards: durations would go wrong, and incidents stay open.
    fn judge(&mut self, window: &Window, nic: Option<NicReading>, at: Timestamp) -> Verdict {
        self.now = self.now.max(at);
        self.detector.judge(window, nic, self.now)
    }

    /// Adds a window to its second, and learns the second that is complete by the worst judgement of its windows.
    fn learn(
        &mut self,
        window: &Window,
        judged: Judged,
        judgement: Judgement,
    ) -> Option<TrafficSecond> {
        let recall = self.detector.recall();
        let second = self
            .seconds
            .add(window, judged.count, judged.from_interface, recall);
        let is_watched = std::mem::replace(&mut self.next_is_watched, true);
        let Some(ended) = &second else {
            self.worst = self.worst.max(judgement);
            self.watched &= is_watched;
            return None;
        };
        // After a gap it is the second before that ended; this window then is the first of another.
        let is_its_last = ended.start == window.index.second_start();
        let (worst, watched) = if is_its_last {
            (self.worst.max(judgement), self.watched && is_watched)
        } else {
            (self.worst, self.watched)
        };
        (self.worst, self.watched) = if is_its_last {
            (Judgement::Quiet, true)
        } else {
            (judgement, is_watched)
        };
        // Hostile seconds are never learned, and must be known to be hostile.
        if watched || worst == Judgement::Hostile {
            let start = ended.start.as_seconds();
            let utc = start.saturating_add_signed(self.utc_ahead_seconds);
            self.detector.learn(utc, &SecondValues::from(ended), worst);
        }
        second
    }

    /// What the lifecycle thinks of the traffic now.
    fn judgement(&self, verdict: &Verdict) -> Judgement {
        match self.lifecycle.open() {
            // A limit set below normal traffic makes an incident of it; learning has to go on or it would never end.
            Some(incident) if incident.fitting_limit.is_none() => Judgement::Hostile,
            _ if verdict.is_suspected() => Judgement::Suspected,
            _ => Judgement::Quiet,
        }
    }
}
