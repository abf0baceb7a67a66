//! One incident while it lives: what its parts know, and what is worth a report.
//!
//! The lifecycle says when a story begins, goes on, comes back and ends; the story keeps its name, peak, account and
//! severity, and the incident that events show. Pure; on the detector's thread.

use super::account::Account;
use super::lifecycle::Settings;
use super::naming::Naming;
use super::peak::Peak;
use super::{Change, Fired, Incident, IncidentId, Scale, Severity};
use crate::clock::Timestamp;
use crate::count::{Count, Window, WindowIndex};
use crate::detect::{Context, Detector, Family, Onset, Share, Trigger, Unit, Verdict};

/// An incident that is open, or that may yet come back.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) incident: Incident,
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
    pub(super) newest: WindowIndex,
    /// Since when everything that fired is below.
    pub(super) clear_since: Option<Timestamp>,
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
pub(super) struct Campaign {
    pub(super) family: Family,
    pub(super) number: u32,
    pub(super) resolved_at: Timestamp,
}

impl Story {
    pub(super) fn new(
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
    pub(super) const fn is_low(&self) -> bool {
        self.incident.fitting_limit.is_some()
    }

    /// Hostile traffic came on top of what was only a limit set too low: from here on it is that attack's story.
    pub(super) fn raise(&mut self, onset: Onset, verdict: &Verdict, detector: &Detector) {
        self.incident.fitting_limit = None;
        self.incident.normal = detector.normal();
        self.peak = peak_since(onset, verdict, detector);
        self.naming = Naming::new(&detector.last_second(), detector, &self.context(detector));
        self.account.restart(self.naming.current(), detector);
    }

    /// Comes back after it was resolved.
    pub(super) fn resume(
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
    pub(super) fn clear_millis(&self, now: Timestamp) -> Option<u64> {
        self.clear_since.map(|since| now.millis_since(since))
    }

    /// When it comes back with this window after a pause worth the name: how long that was. Counts the pulse.
    pub(super) fn returns_after(&mut self, verdict: &Verdict, settings: &Settings) -> Option<u64> {
        let paused = self.clear_millis(verdict.at) >= Some(settings.hold_millis);
        if !paused || !self.is_near(verdict) {
            return None;
        }
        self.incident.pulses += 1;
        let back_at = verdict.window.start();
        Some(back_at.millis_since(self.incident.last_above_at))
    }

    /// Takes in a window.
    pub(super) fn add(&mut self, verdict: &Verdict, window: &Window, detector: &Detector) {
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
    pub(super) fn due(
        &mut self,
        now: Timestamp,
        detector: &Detector,
        settings: &Settings,
    ) -> Option<Change> {
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
    pub(super) fn report(
        &mut self,
        now: Timestamp,
        change: Change,
        detector: &Detector,
        settings: &Settings,
    ) {
        self.refresh(detector, settings);
        self.reported = self.to_report();
        self.reported_at = now;
        if change != Change::Periodic {
            self.changed_at = Some(now);
        }
    }

    /// Ends it with what the whole of it bears out.
    pub(super) fn settle(&mut self, detector: &Detector, settings: &Settings) {
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
