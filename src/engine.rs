//! The pure part as one value: windows in, outcomes out.
//!
//! The order per closed window is fixed: judge, step the lifecycle, and at the end of a second learn, but only what the
//! lifecycle lets pass. "Do not learn from an attack" is decided here and nowhere else.

use crate::capture::counter::NicReading;
use crate::clock::Timestamp;
use crate::count::{Distinct, SecondMeter, TrafficSecond, Window};
use crate::detect::baseline::{Baseline, Judgement, Phase, SecondValues, Series};
use crate::detect::limits::{Limits, LocalLimits, PlatformLimits};
use crate::detect::{self, Detector, Judged, Normal, Verdict};
use crate::incident::{self, Event, Incident, Lifecycle, Report};

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

/// What the engine knows about itself, for whoever asks how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Whether normal is known well enough to be told: the first five minutes of seconds were seen.
    pub baseline_ready: bool,
    /// Whether it is known, but for less than an hour: learned limits are still wider than later.
    pub warming_up: bool,
    /// Seconds seen since learning began; a restart that finds what was learned goes on counting.
    pub baseline_seconds: u64,
    /// What is normal here, in packets and bits a second, as far as it is known; and what the platform says.
    pub normal: Normal,
    /// The 99th percentile of packets a second that is usual at this hour of the day, as of the last minute; `None` while
    /// the hour was seen on too few days.
    pub usual_hour_p99_pps: Option<u64>,
    /// The limits in force and where they come from, in packets and bits a second.
    pub limits: Limits,
    /// Whether an incident is open, or one from before a restart is looked out for.
    pub incident_open: bool,
    /// Different sources of inbound traffic in the second that ended last. What is not exact is more than the tables hold.
    pub sources: Distinct,
    /// For how many seconds in a row, until the one that ended last, nothing came in.
    pub silent_seconds: u64,
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
    /// Sources of the last second.
    sources: Distinct,
    silent_seconds: u64,
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
            sources: Distinct::default(),
            silent_seconds: 0,
        }
    }

    /// Goes on with an incident as it was stored last by an engine that is no more. To be called before the first
    /// window; of several reports, the oldest first.
    ///
    /// An open one is reported as open from now on. When its traffic is there, or comes back within the hold, it goes on
    /// under its id with an update that says `resumed`; when not, it is resolved once, as it was stored, with
    /// `ended_unseen` unless it had been clear already. One that is older than it would have stayed open or come back
    /// without a restart is resolved with the first window. A resolved one may come back and name a campaign as it may
    /// without a restart. Numbers of later incidents go on after its own.
    ///
    /// Says whether it could: not when the id is none that this program makes.
    pub fn resume(&mut self, stored: &Report) -> bool {
        let incident = stored.incident();
        let is_ours = incident.is_some();
        if let Some(incident) = incident {
            self.lifecycle.resume(incident);
        }
        is_ours
    }

    /// Puts the operator's limits in the place of those set before, from the next window on. Nothing that was learned,
    /// counted or opened is lost. An open incident goes on for as long as it is near the limits that are in force.
    pub fn set_limits(&mut self, limits: LocalLimits) {
        self.detector.set_limits(limits);
    }

    /// Takes over what the platform says, from the next window on, in the same way. A limit that the operator set stays
    /// in force; severity is measured with the platform's mean where the limit that was crossed is the platform's, from
    /// the next incident on.
    pub fn set_platform(&mut self, limits: PlatformLimits) {
        self.detector.set_platform(limits);
    }

    /// Takes in a window, in order. `nic` is what the interfaces counted in it, where there are any; `at` is when it is
    /// judged: the window's end in replay, a little later in the live agent.
    pub fn step(&mut self, window: &Window, nic: Option<NicReading>, at: Timestamp) -> Outcome {
        let verdict = self.judge(window, nic, at);
        let events = self.lifecycle.step(&verdict, window, &self.detector);
        let judgement = self.judgement(&verdict);
        let second = self.learn(window, verdict.newest, judgement);
        self.note(second.as_ref());
        Outcome { events, second }
    }

    /// Takes in a window of a time that only teaches what is normal: no incident opens, and every second is learned.
    pub fn learn_only(&mut self, window: &Window, at: Timestamp) -> Outcome {
        let judged = self.judge(window, None, at).newest;
        let second = self.learn(window, judged, Judgement::Quiet);
        self.note(second.as_ref());
        Outcome {
            events: Vec::new(),
            second,
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

    /// There will be no more windows, ever: gives the running second, and resolves what is open. This is the end of a
    /// file, or of an agent whose state nobody keeps.
    pub fn finish(&mut self) -> Outcome {
        let second = self.last_second();
        let event = self.lifecycle.finish(self.now, &self.detector);
        Outcome {
            events: event.into_iter().collect(),
            second,
        }
    }

    /// There will be no more windows until the next start: gives the running second, and what is open once more, as
    /// `suspended`. That the agent stops says nothing about the attack, so nothing is resolved: the next start, given what
    /// was stored, goes on with it. Until then the platform shows it as open.
    pub fn suspend(&mut self) -> Outcome {
        let second = self.last_second();
        let event = self.lifecycle.suspend(self.now, &self.detector);
        Outcome {
            events: event.into_iter().collect(),
            second,
        }
    }

    /// What it knows about itself. Cheap enough to be asked once a second.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let baseline = self.detector.baseline();
        let phase = baseline.phase();
        Vitals {
            baseline_ready: phase >= Phase::WarmingUp,
            warming_up: phase == Phase::WarmingUp,
            baseline_seconds: baseline.seconds_seen(),
            normal: self.detector.normal(),
            usual_hour_p99_pps: baseline.reference(Series::Pps).parts.same_hour,
            limits: *self.detector.limits(),
            incident_open: self.lifecycle.open().is_some(),
            sources: self.sources,
            silent_seconds: self.silent_seconds,
        }
    }

    /// What the detector knows: limits, baseline.
    #[must_use]
    pub const fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The incident that is open, or looked out for after a restart, as last reported.
    #[must_use]
    pub fn open_incident(&self) -> Option<&Incident> {
        self.lifecycle.open()
    }

    /// Judges a window. Time never runs backwards: durations would go wrong, and incidents stay open.
    fn judge(&mut self, window: &Window, nic: Option<NicReading>, at: Timestamp) -> Verdict {
        self.now = self.now.max(at);
        self.detector.judge(window, nic, self.now)
    }

    /// The second that is running, incomplete as it is.
    fn last_second(&mut self) -> Option<TrafficSecond> {
        let second = self.seconds.finish(self.detector.recall());
        self.note(second.as_ref());
        second
    }

    /// Tells the lifecycle of a second that ended, and remembers of it what is asked for.
    fn note(&mut self, second: Option<&TrafficSecond>) {
        let Some(second) = second else { return };
        self.lifecycle.second(second.start, second.pps);
        self.sources = second.inbound_ends.sources;
        self.silent_seconds = if second.pps == 0 {
            self.silent_seconds.saturating_add(1)
        } else {
            0
        };
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
