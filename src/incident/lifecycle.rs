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
use crate::count::{Count, Window, WindowIndex};
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
    /// In which unit it is named: that of what fired first.
    unit: Unit,
    /// The campaigns it may belong to.
    campaigns: Vec<Campaign>,
    /// The window taken in last.
    newest: WindowIndex,
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
    peak_is_provisional: bool,
}

/// Attacks of one family that follow each other.
#[derive(Clone, Copy, Debug)]
struct Campaign {
    family: Family,
    number: u32,
    resolved_at: Timestamp,
}

/// The lives of incidents, one at a time.
#[derive(Debug)]
pub struct Lifecycle {
    settings: Settings,
    sequence: u32,
    open: Option<Box<Story>>,
    /// The last incident that was resolved, and when, while it may come back.
    past: Option<(Box<Story>, Timestamp)>,
    /// One at most for each family.
    campaigns: Vec<Campaign>,
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
            campaigns: Vec::with_capacity(Family::ALL.len()),
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
        let ended = self.end_over_gap(verdict, detector);
        self.forget(verdict.at);
        let then = match self.open.take() {
            Some(story) => self.go_on(story, verdict, window, detector),
            None => self.begin(verdict, detector),
        };
        ended.into_iter().chain(then).collect()
    }

    /// There will be no more windows: what is open is resolved with what is known.
    pub fn finish(&mut self, at: Timestamp, detector: &Detector) -> Vec<Event> {
        let open = self.open.take();
        open.map(|story| self.resolve(story, at, detector))
            .into_iter()
            .collect()
    }

    /// What has been long enough ago no longer matters.
    fn forget(&mut self, now: Timestamp) {
        let settings = &self.settings;
        self.past
            .take_if(|(_, resolved_at)| now.millis_since(*resolved_at) > settings.reopen_millis);
        self.campaigns
            .retain(|campaign| now.millis_since(campaign.resolved_at) <= settings.campaign_millis);
        let forgotten = |at: &mut Timestamp| now.millis_since(*at) > settings.hold_forgotten_millis;
        if self.hold_grown_at.take_if(forgotten).is_some() {
            self.hold_millis = settings.hold_millis;
        }
    }

    /// Windows are missing. Nobody knows what came meanwhile: for an incident that is as good as quiet.
    fn end_over_gap(&mut self, verdict: &Verdict, detector: &Detector) -> Option<Event> {
        let hold_millis = self.hold_millis;
        let story = self.open.take_if(|story| {
            let seen_until = story.newest.end();
            if verdict.window.start() <= seen_until {
                return false;
            }
            let since = *story.clear_since.get_or_insert(seen_until);
            verdict.window.start().millis_since(since) >= hold_millis
        })?;
        let since = story.clear_since.unwrap_or(verdict.at);
        let due = since.plus_nanos(hold_millis.saturating_mul(1_000_000));
        Some(self.resolve(story, due, detector))
    }

    /// Nothing is open: when a trigger fires, a new incident begins, or the last one again.
    fn begin(&mut self, verdict: &Verdict, detector: &Detector) -> Option<Event> {
        let onset = verdict.onset.filter(|_| verdict.is_abnormal())?;
        // An attack does not go on as a limit set too low, nor the other way round.
        let is_low = verdict.fitting_limit().is_some();
        if let Some((story, _)) = self.past.take_if(|(story, _)| story.is_low() == is_low) {
            return Some(self.reopen(story, onset, verdict, detector));
        }
        let sequence = self.sequence;
        self.sequence = self.sequence.saturating_add(1);
        let campaigns = self.campaigns.clone();
        let settings = &self.settings;
        let story = Story::new(onset, sequence, campaigns, verdict, detector, settings);
        let event = Event::Opened(Box::new(story.incident.clone()));
        self.open = Some(Box::new(story));
        Some(event)
    }

    fn reopen(
        &mut self,
        mut story: Box<Story>,
        onset: Onset,
        verdict: &Verdict,
        detector: &Detector,
    ) -> Event {
        self.note_return(
            onset.at.millis_since(story.incident.last_above_at),
            verdict.at,
        );
        story.resume(onset, verdict, detector, &self.settings);
        let event = Event::Updated(Box::new(story.incident.clone()), Change::Reopened);
        self.open = Some(story);
        event
    }

    /// It came back after a pause: it may do so again, so the next pause is held longer.
    fn note_return(&mut self, pause_millis: u64, now: Timestamp) {
        let settings = &self.settings;
        self.hold_millis = pause_millis
            .saturating_mul(2)
            .clamp(settings.hold_millis, settings.longest_hold_millis);
        self.hold_grown_at = Some(now);
    }

    fn go_on(
        &mut self,
        mut story: Box<Story>,
        verdict: &Verdict,
        window: &Window,
        detector: &Detector,
    ) -> Option<Event> {
        if let Some(pause_millis) = story.returns_after(verdict, &self.settings) {
            self.note_return(pause_millis, verdict.at);
        }
        story.add(verdict, window, detector);
        if story.clear_millis(verdict.at) >= Some(self.hold_millis) {
            return Some(self.resolve(story, verdict.at, detector));
        }
        let change = match verdict
            .onset
            .filter(|_| story.is_low() && verdict.is_hostile())
        {
            Some(onset) => {
                story.raise(onset, verdict, detector);
                Some(Change::Severity)
            }
            None => story.due(verdict.at, detector, &self.settings),
        };
        let event = change.map(|change| {
            story.report(verdict.at, change, detector, &self.settings);
            Event::Updated(Box::new(story.incident.clone()), change)
        });
        self.open = Some(story);
        event
    }

    fn resolve(
        &mut self,
        mut story: Box<Story>,
        resolved_at: Timestamp,
        detector: &Detector,
    ) -> Event {
        story.settle(detector, &self.settings);
        let incident = story.incident.clone();
        let family = incident.family;
        self.campaigns.retain(|campaign| campaign.family != family);
        self.campaigns.push(Campaign {
            family,
            number: incident.campaign,
            resolved_at,
        });
        self.past = Some((story, resolved_at));
        Event::Resolved(Box::new(incident))
    }
}

impl Story {
    fn new(
        onset: Onset,
        sequence: u32,
        campaigns: Vec<Campaign>,
        verdict: &Verdict,
        detector: &Detector,
        settings: &Settings,
    ) -> Self {
        let opening = detector.last_second();
        let unit = first_unit(verdict);
        let context = detector.context(unit);
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
                fitting_limit: verdict.fitting_limit(),
                loss: crate::count::Loss::default(),
                from_interface: true,
                capture_blind: false,
            },
            naming,
            account,
            peak: peak_since(onset, verdict, detector),
            past_peak: Count::default(),
            unit,
            campaigns,
            newest: verdict.window,
            clear_since: None,
            reported_at: verdict.at,
            changed_at: None,
            reported: Reported::default(),
        };
        story.note_fired(verdict);
        story.refresh(detector, settings);
        story.reported = story.to_report();
        story
    }

    /// Whether it is only about a limit set below what is normal here.
    const fn is_low(&self) -> bool {
        self.incident.fitting_limit.is_some()
    }

    /// Hostile traffic came on top of what was only a limit set too low: from here on it is that attack's story.
    fn raise(&mut self, onset: Onset, verdict: &Verdict, detector: &Detector) {
        self.incident.fitting_limit = None;
        self.incident.normal = detector.normal();
        self.peak = peak_since(onset, verdict, detector);
        self.naming = Naming::new(&detector.last_second(), detector, &self.context(detector));
        self.account.restart(self.naming.current(), detector);
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
        let context = self.context(detector);
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
        self.newest = verdict.window;
        self.clear_since = None;
        self.note_fired(verdict);
        self.report(verdict.at, Change::Reopened, detector, settings);
    }

    /// The triggers that fired in it as they are now, each with what it has to stay below.
    fn watched<'a>(&'a self, verdict: &'a Verdict) -> impl Iterator<Item = (&'a Trigger, u64)> {
        let has_fired = |trigger: &&Trigger| {
            let fired = &self.incident.fired;
            fired.iter().any(|fired| fired.trigger.id == trigger.id)
        };
        let limit = |trigger: &Trigger| match self.is_low() {
            true => trigger.limit.value,
            false => trigger.hostile_limit(),
        };
        let watched = verdict.triggers.iter().filter(has_fired);
        watched.map(move |trigger| (trigger, limit(trigger)))
    }

    /// Whether anything that fired in it is near its limit.
    fn is_near(&self, verdict: &Verdict) -> bool {
        self.watched(verdict)
            .any(|(trigger, limit)| trigger.is_near(limit))
    }

    /// For how long everything that fired has been below, if it is.
    fn clear_millis(&self, now: Timestamp) -> Option<u64> {
        self.clear_since.map(|since| now.millis_since(since))
    }

    /// When it comes back with this window after a pause worth the name: how long that was. Counts the pulse.
    fn returns_after(&mut self, verdict: &Verdict, settings: &Settings) -> Option<u64> {
        let paused = self.clear_millis(verdict.at) >= Some(settings.hold_millis);
        if !paused || !self.is_near(verdict) {
            return None;
        }
        self.incident.pulses += 1;
        let back_at = verdict.window.start();
        Some(back_at.millis_since(self.incident.last_above_at))
    }

    /// Takes in a window.
    fn add(&mut self, verdict: &Verdict, window: &Window, detector: &Detector) {
        self.newest = verdict.window;
        self.peak
            .add(verdict.window, verdict.newest.count, verdict.last_second);
        self.note_fired(verdict);
        let near = self.is_near(verdict);
        let above = self
            .watched(verdict)
            .any(|(trigger, limit)| trigger.newest_is_near(limit));
        if near && above {
            self.incident.last_above_at = verdict.window.end();
        }
        self.clear_since = match self.clear_since {
            _ if near => None,
            None => Some(verdict.window.end()),
            since => since,
        };
        let context = self.context(detector);
        self.naming
            .add(window, verdict.newest, near, detector, &context);
        if near {
            self.account
                .add(window, verdict.newest, self.naming.current());
        }
    }

    /// Whether there is something to report now, and why.
    fn due(&mut self, now: Timestamp, detector: &Detector, settings: &Settings) -> Option<Change> {
        let age = now.millis_since(self.incident.opened_at);
        let slow = age >= settings.slow_after_millis || self.is_low();
        let period = if slow {
            settings.slow_update_millis
        } else {
            settings.update_millis
        };
        let may_change = self
            .changed_at
            .is_none_or(|at| now.millis_since(at) >= settings.change_millis);
        if may_change && let Some(change) = self.change(detector, settings) {
            return Some(change);
        }
        (now.millis_since(self.reported_at) >= period).then_some(Change::Periodic)
    }

    /// What changed since the last report, if anything worth one did.
    fn change(&self, detector: &Detector, settings: &Settings) -> Option<Change> {
        let name = self.naming.current();
        if Some(name.family) != self.reported.family || name.subtype != self.reported.subtype {
            return Some(Change::Renamed);
        }
        if self.severity(settings).0 != self.reported.severity {
            return Some(Change::Severity);
        }
        if self.peak_is_news() {
            return Some(Change::Peak);
        }
        // The vectors of the whole incident move slowly: looking once a second finds all there is.
        let look = self.naming.ends_second() && self.clear_since.is_none();
        (look && self.vector_set(detector) != self.reported.vectors).then_some(Change::Vectors)
    }

    /// Whether the peak grew by a quarter, or the first estimate was replaced by another figure.
    fn peak_is_news(&self) -> bool {
        let (now, before) = (self.highest(), self.reported.peak);
        let grew = |now: u64, before: u64| {
            now > before && now.saturating_mul(4) >= before.saturating_mul(5)
        };
        let corrected = self.estimate_is_replaced() && now != before;
        corrected || grew(now.packets, before.packets) || grew(now.bits, before.bits)
    }

    /// Whether the last report gave an estimate and the first whole second has come since.
    const fn estimate_is_replaced(&self) -> bool {
        self.reported.peak_is_provisional && !self.peak.is_provisional()
    }

    /// Brings the incident up to date and remembers that it was reported.
    fn report(&mut self, now: Timestamp, change: Change, detector: &Detector, settings: &Settings) {
        self.refresh(detector, settings);
        self.reported = self.to_report();
        self.reported_at = now;
        if change != Change::Periodic {
            self.changed_at = Some(now);
        }
    }

    /// Ends it with what the whole of it bears out.
    fn settle(&mut self, detector: &Detector, settings: &Settings) {
        self.peak.settle();
        let context = self.context(detector);
        self.naming.settle(detector, &context);
        self.refresh(detector, settings);
        self.incident.ended_at = Some(self.incident.last_above_at);
    }

    fn context(&self, detector: &Detector) -> Context {
        detector.context(self.unit)
    }

    /// Remembers triggers that fire for the first time.
    fn note_fired(&mut self, verdict: &Verdict) {
        for trigger in verdict.triggers.iter().filter(|trigger| trigger.fires) {
            let fired = &mut self.incident.fired;
            if fired.iter().all(|fired| fired.trigger.id != trigger.id) {
                fired.push(Fired {
                    trigger: trigger.clone(),
                    at: verdict.at,
                });
            }
        }
    }

    /// Copies what the parts know into the incident.
    fn refresh(&mut self, detector: &Detector, settings: &Settings) {
        let overall = self.naming.overall(detector).name(&self.context(detector));
        let (severity, scale) = self.severity(settings);
        let highest = self.highest();
        let name = self.naming.current();
        let incident = &mut self.incident;
        incident.family = name.family;
        incident.subtype.clone_from(&name.subtype);
        incident.confidence = name.confidence;
        incident.capture_blind = name.blind;
        let campaign = self
            .campaigns
            .iter()
            .find(|each| each.family == name.family);
        incident.campaign = campaign.map_or(incident.id.sequence, |each| each.number);
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

    /// The severity: the worst in the units of what fired. It never falls, but for once, when an estimate of the peak is
    /// replaced.
    fn severity(&self, settings: &Settings) -> (Severity, Scale) {
        let highest = self.highest();
        let judged = |fired: &Fired| {
            let trigger = &fired.trigger;
            let mean_pps = settings.platform_mean_pps;
            let unit = trigger.id.unit();
            let scale = Scale::new(unit, &trigger.limit, &self.incident.normal, mean_pps);
            (scale.severity(unit.of(highest)), scale)
        };
        // Of equals the last wins: go backwards, so that it is the one that fired first.
        let worst = self.incident.fired.iter().rev().map(judged);
        let (reached, scale) = worst.max_by_key(|(level, _)| *level).unwrap_or_default();
        let severity = if self.is_low() {
            Severity::Low
        } else if self.estimate_is_replaced() {
            reached
        } else {
            reached.max(self.incident.severity)
        };
        (severity, scale)
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
            peak_is_provisional: self.incident.peak_is_provisional,
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
