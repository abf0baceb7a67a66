//! When an attack begins, goes on and ends.
//!
//! Quiet until a trigger fires; open while one is near its limit; resolved after all that fired stayed below for the
//! hold. What comes back within two minutes is the same incident, held longer each time, so that a pulsed attack is one
//! story with at most one false end.

use super::account::Account;
use super::naming::Naming;
use super::peak::Peak;
use super::{Change, Event, Fired, Incident, IncidentId, Scale, Severity};
use crate::clock::Timestamp;
use crate::count::{Count, Window};
use crate::detect::{Context, Detector, Family, Onset, Share, Trigger, Unit, Verdict};

/// How incidents live. Durations in milliseconds; the defaults are the detection rules', section 11.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long everything that fired must stay below four fifths of its limit before the incident is resolved.
    pub hold_millis: u64,
    /// The longest that hold grows to when an attack keeps coming back.
    pub longest_hold_millis: u64,
    /// Without a return for so long the hold is back to the first.
    pub hold_forgotten_millis: u64,
    /// What comes back so soon after its end is the same incident.
    pub reopen_millis: u64,
    /// The same family again so soon is another incident of the same campaign.
    pub campaign_millis: u64,
    /// Time between reports.
    pub update_millis: u64,
    /// Time between reports of an incident that has been open for [`Settings::slow_after_millis`], or that is low.
    pub slow_update_millis: u64,
    /// From which age on reports slow down.
    pub slow_after_millis: u64,
    /// Least time between two reports for a change.
    pub change_millis: u64,
    /// The platform's own mean in packets a second, for the severity of limits it set.
    pub platform_mean_pps: Option<u64>,
    /// Keys the source tables' hashes, see [`crate::count::Settings::seed`].
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hold_millis: 10_000,
            longest_hold_millis: 300_000,
            hold_forgotten_millis: 1_800_000,
            reopen_millis: 120_000,
            campaign_millis: 1_800_000,
            update_millis: 5_000,
            slow_update_millis: 60_000,
            slow_after_millis: 3_600_000,
            change_millis: 1_000,
            platform_mean_pps: None,
            seed: crate::count::Settings::default().seed,
        }
    }
}

/// An incident that is open, or that may yet come back.
#[derive(Debug)]
struct Story {
    incident: Incident,
    naming: Naming,
    account: Account,
    peak: Peak,
    /// The highest of earlier pulses.
    past_peak: Count,
    /// Since when everything that fired is below.
    clear_since: Option<Timestamp>,
    reported_at: Timestamp,
    changed_at: Option<Timestamp>,
    reported: Reported,
}

/// What the last report said, as far as a difference is worth another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reported {
    family: Option<Family>,
    subtype: String,
    severity: Severity,
    vectors: Vec<&'static str>,
    peak: Count,
}

/// The last incident that was resolved.
#[derive(Debug)]
struct Past {
    resolved_at: Timestamp,
    family: Family,
    campaign: u32,
    /// Kept while it may come back.
    story: Option<Box<Story>>,
}

/// The lives of incidents, one at a time.
#[derive(Debug)]
pub struct Lifecycle {
    settings: Settings,
    sequence: u32,
    open: Option<Box<Story>>,
    past: Option<Past>,
    hold_millis: u64,
    hold_grown_at: Option<Timestamp>,
}

impl Lifecycle {
    /// No incident yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            hold_millis: settings.hold_millis,
            settings,
            sequence: 0,
            open: None,
            past: None,
            hold_grown_at: None,
        }
    }

    /// The incident that is open, as last reported.
    #[must_use]
    pub fn open(&self) -> Option<&Incident> {
        self.open.as_deref().map(|story| &story.incident)
    }

    /// Takes one verdict and the window it is about; says what happened.
    pub fn step(&mut self, verdict: &Verdict, window: &Window, detector: &Detector) -> Vec<Event> {
        self.forget(verdict.at);
        match self.open.take() {
            Some(story) => self.go_on(story, verdict, window, detector),
            None => match verdict.onset.filter(|_| verdict.is_abnormal()) {
                Some(onset) => vec![self.begin(onset, verdict, detector)],
                None => Vec::new(),
            },
        }
    }

    /// There will be no more windows: what is open is resolved with what is known.
    pub fn finish(&mut self, at: Timestamp, detector: &Detector) -> Vec<Event> {
        self.open
            .take()
            .map(|story| self.resolve(story, at, detector))
            .into_iter()
            .collect()
    }

    /// What has been long enough ago no longer matters.
    fn forget(&mut self, now: Timestamp) {
        if let Some(past) = &mut self.past {
            let age = now.millis_since(past.resolved_at);
            if age > self.settings.reopen_millis {
                past.story = None;
            }
            if age > self.settings.campaign_millis {
                self.past = None;
            }
        }
        if self
            .hold_grown_at
            .is_some_and(|at| now.millis_since(at) > self.settings.hold_forgotten_millis)
        {
            self.hold_grown_at = None;
            self.hold_millis = self.settings.hold_millis;
        }
    }

    /// A trigger fires and nothing is open: a new incident, or the last one again.
    fn begin(&mut self, onset: Onset, verdict: &Verdict, detector: &Detector) -> Event {
        if let Some(past) = &mut self.past
            && let Some(story) = past.story.take()
        {
            let gap = onset.at.millis_since(story.incident.last_above_at);
            self.hold_millis =
                (2 * gap).clamp(self.settings.hold_millis, self.settings.longest_hold_millis);
            self.hold_grown_at = Some(verdict.at);
            return self.reopen(story, onset, verdict, detector);
        }
        let sequence = self.sequence;
        self.sequence = self.sequence.saturating_add(1);
        let mut story = Box::new(Story::new(
            onset,
            sequence,
            verdict,
            detector,
            &self.settings,
        ));
        if let Some(past) = self
            .past
            .as_ref()
            .filter(|past| past.family == story.incident.family)
        {
            story.incident.campaign = past.campaign;
        }
        let event = Event::Opened(Box::new(story.incident.clone()));
        self.open = Some(story);
        event
    }

    fn reopen(
        &mut self,
        mut story: Box<Story>,
        onset: Onset,
        verdict: &Verdict,
        detector: &Detector,
    ) -> Event {
        story.resume(onset, verdict, detector, &self.settings);
        let event = Event::Updated(Box::new(story.incident.clone()), Change::Reopened);
        self.open = Some(story);
        event
    }

    fn go_on(
        &mut self,
        mut story: Box<Story>,
        verdict: &Verdict,
        window: &Window,
        detector: &Detector,
    ) -> Vec<Event> {
        let settled = story.add(verdict, window, detector, &self.settings);
        let clear_for = story
            .clear_since
            .map(|since| verdict.at.millis_since(since));
        if clear_for.is_some_and(|millis| millis >= self.hold_millis) {
            return vec![self.resolve(story, verdict.at, detector)];
        }
        let change = story.due(verdict.at, settled, detector, &self.settings);
        let event = change.map(|change| {
            story.report(verdict.at, change, detector);
            Event::Updated(Box::new(story.incident.clone()), change)
        });
        self.open = Some(story);
        event.into_iter().collect()
    }

    fn resolve(&mut self, mut story: Box<Story>, at: Timestamp, detector: &Detector) -> Event {
        story.settle(detector);
        let incident = story.incident.clone();
        self.past = Some(Past {
            resolved_at: at,
            family: incident.family,
            campaign: incident.campaign,
            story: Some(story),
        });
        Event::Resolved(Box::new(incident))
    }
}

impl Story {
    fn new(
        onset: Onset,
        sequence: u32,
        verdict: &Verdict,
        detector: &Detector,
        settings: &Settings,
    ) -> Self {
        let opening = detector.last_second();
        let unit = first_unit(verdict);
        let context = detector.context(unit, opening.is_blind());
        let naming = Naming::new(&opening, detector, &context);
        let account = Account::new(&opening, naming.current(), detector, settings.seed);
        let normal = detector.normal();
        let mut story = Self {
            incident: Incident {
                id: IncidentId {
                    opened_at: verdict.at,
                    sequence,
                },
                family: Family::Unknown,
                subtype: String::new(),
                severity: Severity::Low,
                scale: Scale::default(),
                confidence: naming.current().confidence,
                vectors: Vec::new(),
                families: Vec::new(),
                excess: Count::default(),
                started_at: onset.at,
                opened_at: verdict.at,
                detected_after_millis: verdict.at.millis_since(onset.at),
                last_above_at: verdict.window.end(),
                ended_at: None,
                peak_pps: 0,
                peak_bps: 0,
                peak_is_provisional: false,
                total: Count::default(),
                protocols: super::ProtocolShares::default(),
                tcp_flags: [0; 8],
                sources: crate::count::Distinct::default(),
                top_sources: Vec::new(),
                top_ports: Vec::new(),
                fired: Vec::new(),
                normal,
                pulses: 0,
                campaign: sequence,
                fitting_limit: detector.fitting_limit(&verdict.triggers),
                loss: crate::count::Loss::default(),
                from_interface: true,
                capture_blind: opening.is_blind(),
            },
            naming,
            account,
            peak: peak_since(onset, verdict, detector),
            past_peak: Count::default(),
            clear_since: None,
            reported_at: verdict.at,
            changed_at: None,
            reported: Reported::default(),
        };
        story.note_fired(verdict, settings);
        story.refresh(detector);
        story.reported = story.to_report();
        story
    }

    /// Comes back after it was resolved.
    fn resume(
        &mut self,
        onset: Onset,
        verdict: &Verdict,
        detector: &Detector,
        settings: &Settings,
    ) {
        let opening = detector.last_second();
        let context = detector.context(self.incident.scale.unit, opening.is_blind());
        self.past_peak = Count {
            packets: self.incident.peak_pps,
            bits: self.incident.peak_bps,
        };
        self.peak = peak_since(onset, verdict, detector);
        self.naming.resume(&opening, detector, &context);
        self.account
            .resume(&opening, self.naming.current(), detector);
        self.incident.pulses += 1;
        self.incident.ended_at = None;
        self.incident.last_above_at = verdict.window.end();
        self.clear_since = None;
        self.note_fired(verdict, settings);
        self.report(verdict.at, Change::Reopened, detector);
    }

    /// Takes in a window. Says whether the estimate of the peak was just made or replaced.
    fn add(
        &mut self,
        verdict: &Verdict,
        window: &Window,
        detector: &Detector,
        settings: &Settings,
    ) -> bool {
        let settled = self
            .peak
            .add(verdict.window, verdict.newest.count, verdict.last_second);
        self.note_fired(verdict, settings);
        let fired = |trigger: &&Trigger| {
            self.incident
                .fired
                .iter()
                .any(|each| each.trigger.id == trigger.id)
        };
        let near = verdict
            .triggers
            .iter()
            .filter(fired)
            .any(Trigger::is_suspected);
        let above = verdict
            .triggers
            .iter()
            .filter(fired)
            .any(Trigger::newest_is_above);
        self.clear_since = if near {
            None
        } else {
            self.clear_since.or(Some(verdict.window.end()))
        };
        if near && above {
            self.incident.last_above_at = verdict.window.end();
        }
        let context = self.context(detector);
        self.naming
            .add(window, verdict.newest, near, detector, &context);
        if near {
            self.account
                .add(window, verdict.newest, self.naming.current());
        }
        settled
    }

    /// Whether there is something to report now, and why.
    fn due(
        &mut self,
        now: Timestamp,
        settled: bool,
        detector: &Detector,
        settings: &Settings,
    ) -> Option<Change> {
        let age = now.millis_since(self.incident.opened_at);
        let slow = age >= settings.slow_after_millis || self.incident.fitting_limit.is_some();
        let period = if slow {
            settings.slow_update_millis
        } else {
            settings.update_millis
        };
        let may_change = self
            .changed_at
            .is_none_or(|at| now.millis_since(at) >= settings.change_millis);
        if may_change && let Some(change) = self.change(settled, detector) {
            return Some(change);
        }
        (now.millis_since(self.reported_at) >= period).then_some(Change::Periodic)
    }

    /// What changed since the last report, if anything worth one did.
    fn change(&mut self, settled: bool, detector: &Detector) -> Option<Change> {
        let name = self.naming.current();
        if Some(name.family) != self.reported.family || name.subtype != self.reported.subtype {
            return Some(Change::Renamed);
        }
        let (severity, _) = self.severity_and_scale();
        if severity != self.reported.severity {
            return Some(Change::Severity);
        }
        let (now, before) = (self.highest(), self.reported.peak);
        let grew = |now: u64, before: u64| {
            now.saturating_mul(4) >= before.saturating_mul(5) && now > before
        };
        let fell = settled && (now.packets < before.packets || now.bits < before.bits);
        if fell || grew(now.packets, before.packets) || grew(now.bits, before.bits) {
            return Some(Change::Peak);
        }
        // The vectors of the whole incident move slowly; looking twice a second would find nothing more.
        if settled || self.clear_since.is_some() {
            return None;
        }
        (self.vector_set(detector) != self.reported.vectors).then_some(Change::Vectors)
    }

    /// Brings the incident up to date and remembers that it was reported.
    fn report(&mut self, now: Timestamp, change: Change, detector: &Detector) {
        self.refresh(detector);
        self.reported = self.to_report();
        self.reported_at = now;
        if change != Change::Periodic {
            self.changed_at = Some(now);
        }
    }

    /// Ends it with what the whole of it bears out.
    fn settle(&mut self, detector: &Detector) {
        self.peak.settle();
        let context = self.context(detector);
        self.naming.settle(detector, &context);
        self.refresh(detector);
        self.incident.ended_at = Some(self.incident.last_above_at);
    }

    fn context(&self, detector: &Detector) -> Context {
        detector.context(self.incident.scale.unit, self.incident.capture_blind)
    }

    /// Remembers triggers that fire for the first time.
    fn note_fired(&mut self, verdict: &Verdict, settings: &Settings) {
        for trigger in verdict.triggers.iter().filter(|trigger| trigger.fires) {
            if self
                .incident
                .fired
                .iter()
                .any(|fired| fired.trigger.id == trigger.id)
            {
                continue;
            }
            if self.incident.fired.is_empty() {
                self.incident.scale = self.scale(trigger, settings);
            }
            self.incident.fired.push(Fired {
                trigger: trigger.clone(),
                at: verdict.at,
            });
        }
    }

    fn scale(&self, trigger: &Trigger, settings: &Settings) -> Scale {
        Scale::new(
            trigger.id.unit(),
            &trigger.limit,
            &self.incident.normal,
            settings.platform_mean_pps,
        )
    }

    /// Copies what the parts know into the incident.
    fn refresh(&mut self, detector: &Detector) {
        let overall = self.naming.overall(detector).name(&self.context(detector));
        let (severity, scale) = self.severity_and_scale();
        let highest = self.highest();
        let name = self.naming.current();
        let incident = &mut self.incident;
        incident.family = name.family;
        incident.subtype.clone_from(&name.subtype);
        incident.confidence = name.confidence;
        incident.excess = overall.excess;
        incident.vectors = overall.shares;
        incident.families = overall.families;
        incident.severity = severity;
        incident.scale = scale;
        incident.peak_pps = highest.packets;
        incident.peak_bps = highest.bits;
        incident.peak_is_provisional = self.peak.is_provisional();
        incident.total = self.account.total;
        incident.loss = self.account.loss;
        incident.from_interface = self.account.from_interface;
        incident.protocols = self.account.protocols();
        incident.tcp_flags = self.account.tcp_flags();
        incident.sources = self.account.distinct_sources();
        incident.top_sources = self.account.top_sources();
        incident.top_ports = self.account.top_ports();
    }

    fn highest(&self) -> Count {
        let peak = self.peak.get();
        Count {
            packets: peak.packets.max(self.past_peak.packets),
            bits: peak.bits.max(self.past_peak.bits),
        }
    }

    /// The severity: it never falls, but for once, when an estimate of the peak is replaced.
    fn severity_and_scale(&self) -> (Severity, Scale) {
        let scale = self.incident.scale;
        if self.incident.fitting_limit.is_some() {
            return (Severity::Low, scale);
        }
        let reached = scale.severity(scale.unit.of(self.highest()));
        let estimated = self.incident.peak_is_provisional || self.reported.family.is_none();
        (
            if estimated {
                reached
            } else {
                reached.max(self.incident.severity)
            },
            scale,
        )
    }

    fn vector_set(&self, detector: &Detector) -> Vec<&'static str> {
        set_of(
            &self
                .naming
                .overall(detector)
                .name(&self.context(detector))
                .shares,
        )
    }

    fn to_report(&self) -> Reported {
        Reported {
            family: Some(self.incident.family),
            subtype: self.incident.subtype.clone(),
            severity: self.incident.severity,
            vectors: set_of(&self.incident.vectors),
            peak: Count {
                packets: self.incident.peak_pps,
                bits: self.incident.peak_bps,
            },
        }
    }
}

/// A vector joins or leaves when its part of the whole incident passes this, in permille: what is smaller comes and
/// goes without meaning anything.
const JOINED_PERMILLE: u64 = 100;

/// The vectors with a part worth a report, in a fixed order.
fn set_of(shares: &[Share]) -> Vec<&'static str> {
    let large = |share: &&Share| share.packets_permille.max(share.bits_permille) >= JOINED_PERMILLE;
    let mut names: Vec<_> = shares
        .iter()
        .filter(large)
        .map(|share| share.subtype)
        .collect();
    names.sort_unstable();
    names
}

/// The unit of the first trigger that fires: packets before bits.
fn first_unit(verdict: &Verdict) -> Unit {
    verdict
        .triggers
        .iter()
        .find(|trigger| trigger.fires)
        .map_or(Unit::Packets, |trigger| trigger.id.unit())
}

/// A peak that has seen the windows since the onset.
fn peak_since(onset: Onset, verdict: &Verdict, detector: &Detector) -> Peak {
    let mut peak = Peak::new(onset.window);
    for (window, judged) in detector.windows_since(onset.window) {
        let sum = if window == verdict.window {
            verdict.last_second
        } else {
            Count::default()
        };
        peak.add(window, judged.count, sum);
    }
    peak
}
