//! The pure part as one value: windows in, outcomes out.
//!
//! The order per closed window is fixed: judge, step the lifecycle, and at the end of a second learn, but only what the
//! lifecycle lets pass. "Do not learn from an attack" is decided here and nowhere else.

use crate::capture::counter::NicReading;
use crate::clock::Timestamp;
use crate::count::{SecondMeter, TrafficSecond, Window};
use crate::detect::baseline::{Baseline, Mood, SecondValues};
use crate::detect::{self, Detector};
use crate::incident::{self, Event, Incident, Lifecycle};

/// How the engine works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to detect.
    pub detect: detect::Settings,
    /// How incidents live.
    pub incident: incident::Settings,
}

/// After a hostile incident so long nothing is learned: its tail and what it stirred up.
const NOT_LEARNED_AFTER_MILLIS: u64 = 120_000;

/// Suspicion keeps from learning for at most so long; what stays near a limit without crossing it is normal here.
const SUSPICION_MILLIS: u64 = 60_000;

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
        self.events.iter().map(|event| u64::from(matches!(event, Event::Opened(_)))).sum()
    }
}

/// Windows in, outcomes out; the same windows always give the same outcomes.
#[derive(Debug)]
pub struct Engine {
    detector: Detector,
    lifecycle: Lifecycle,
    seconds: SecondMeter,
    suspected_since: Option<Timestamp>,
    /// Whether the running second has been suspected or worse so far.
    worst: Mood,
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
            suspected_since: None,
            worst: Mood::Quiet,
            now: Timestamp::default(),
        }
    }

    /// Takes in a window, in order. `nic` is what the interfaces counted in it, where there are any; `at` is when it is
    /// judged: the window's end in replay, a little later in the live agent.
    pub fn step(&mut self, window: &Window, nic: Option<NicReading>, at: Timestamp) -> Outcome {
        self.now = at;
        let verdict = self.detector.judge(window, nic, at);
        let events = self.lifecycle.step(&verdict, window, &self.detector);
        let mood = self.mood(verdict.is_suspected(), at);
        self.worst = self.worst.max(mood);
        let judged = verdict.newest;
        let second = self.seconds.add(window, judged.count, judged.from_interface, self.detector.recall());
        if let Some(second) = &second {
            let mood = std::mem::replace(&mut self.worst, Mood::Quiet);
            self.detector.learn(second.start.as_seconds(), &SecondValues::of(second), mood);
        }
        Outcome { events, second }
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

    /// Whether what is seen now may be learned.
    fn mood(&mut self, suspected: bool, now: Timestamp) -> Mood {
        // A limit set below normal traffic makes incidents of it; learning has to go on or it never ends.
        let open_hostile = self.lifecycle.open().is_some_and(|incident| incident.fitting_limit.is_none());
        let just_hostile = self
            .lifecycle
            .last_resolved()
            .is_some_and(|(at, hostile)| hostile && now.millis_since(at) < NOT_LEARNED_AFTER_MILLIS);
        if open_hostile || just_hostile {
            self.suspected_since = None;
            return Mood::Hostile;
        }
        if !suspected || self.lifecycle.open().is_some() {
            self.suspected_since = None;
            return Mood::Quiet;
        }
        let since = *self.suspected_since.get_or_insert(now);
        if now.millis_since(since) < SUSPICION_MILLIS { Mood::Suspected } else { Mood::Quiet }
    }
}
