//! One incident while it lives: what its parts know, and what is worth a report.
//!
//! The lifecycle says when a story begins, goes on, comes back and ends; the story keeps its name, peak, account and
//! severity, and the incident that events show. Pure; on the detector's thread.

use super::account::Account;
use super::lifecycle::Settings;
use super::naming::Naming;
use super::peak::Peak;
use super::{
    Change, Fired, Incident, IncidentId, ProtocolShares, Scale, Severity, Standing, VectorPart,
};
use crate::clock::Timestamp;
use crate::count::{Count, Window, WindowIndex};
use crate::detect::{Context, Detector, Family, Onset, Trigger, Unit, Verdict};

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
    /// The severity that was told before a restart: it does not fall below that.
    least_severity: Severity,
    /// Whether there was a restart, and it was neither seen since nor has it ended.
    is_recalled: bool,
    /// Set by the first window after a restart.
    awaited: Option<Awaited>,
}

/// How long an incident of before a restart has not been seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    /// The beginning of the first window after the restart.
    pub(super) since: Timestamp,
    /// From the last window before the restart to there.
    pub(super) unseen_millis: u64,
}

/// What the last report said, as far as a difference is worth another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reported {
    family: Option<Family>,
    subtype: String,
    severity: Severity,
    vectors: Vec<String>,
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
        let account = Account::new(
            &opening,
            onset.at,
            naming.current(),
            detector,
            settings.seed,
        );
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
                ended_unseen: false,
                interruptions: 0,
                peak_pps: 0,
                peak_bps: 0,
                peak_is_provisional: false,
                total: Count::default(),
                protocols: ProtocolShares::default(),
                tcp_flags: [0; 8],
                forensics: super::Forensics::default(),
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
                standing: Standing::default(),
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
            least_severity: Severity::Low,
            is_recalled: false,
            awaited: None,
        };
        story.note_fired(verdict);
        story.refresh(detector);
        story.reported = story.to_report();
        story
    }

    /// An incident that was told before a restart. It goes on with what was told; what it is called may come to differ.
    pub(super) fn recall(mut incident: Incident, settings: &Settings) -> Self {
        incident.interruptions = incident.interruptions.saturating_add(1);
        let standing = incident.standing;
        let campaign = Campaign {
            family: incident.family,
            number: incident.campaign,
            resolved_at: incident.opened_at,
        };
        let is_campaign = incident.campaign != incident.id.sequence;
        let last_instant = Timestamp::from_nanos(standing.seen_until.as_nanos().saturating_sub(1));
        let newest = WindowIndex::of(last_instant);
        let mut story = Self {
            naming: Naming::recall(&incident),
            account: Account::recall(&incident, settings.seed),
            peak: Peak::new(newest),
            past_peak: Count {
                packets: incident.peak_pps,
                bits: incident.peak_bps,
            },
            unit: incident
                .fired
                .first()
                .map_or(Unit::Packets, |fired| fired.id.unit()),
            campaigns: is_campaign.then_some(campaign).into_iter().collect(),
            newest,
            clear_since: standing.clear_since,
            reported_at: standing.seen_until,
            changed_at: None,
            reported: Reported::default(),
            least_severity: incident.severity,
            is_recalled: true,
            awaited: None,
            incident,
        };
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

    /// Comes back, after it was resolved or after a restart.
    pub(super) fn resume(&mut self, onset: Onset, verdict: &Verdict, detector: &Detector) {
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
        self.incident.ended_at = None;
        self.incident.ended_unseen = false;
        self.incident.last_above_at = verdict.window.end();
        self.newest = verdict.window;
        self.clear_since = None;
        self.is_recalled = false;
        self.note_fired(verdict);
    }

    /// The triggers that fired in it as they are now, each with what it has to stay below.
    fn watched<'a>(&'a self, verdict: &'a Verdict) -> impl Iterator<Item = (&'a Trigger, u64)> {
        let has_fired = |trigger: &&Trigger| {
            // By unit: when somebody sets a limit, or takes one away, another trigger stands in for the one that fired.
            let fired = &self.incident.fired;
            fired
                .iter()
                .any(|fired| fired.id.unit() == trigger.id.unit())
        };
        let limit = |trigger: &Trigger| match self.is_low() {
            true => trigger.limit.value,
            false => trigger.hostile_limit(),
        };
        let watched = verdict.triggers.iter().filter(has_fired);
        watched.map(move |trigger| (trigger, limit(trigger)))
    }

    /// Whether it goes on, as far as this window tells after a restart: near the limits it crossed, or over another one,
    /// but an attack does not go on as a limit set too low.
    pub(super) fn is_back(&self, verdict: &Verdict) -> bool {
        let fires = verdict.is_abnormal() && (self.is_low() || verdict.fitting_limit().is_none());
        fires || self.is_near(verdict)
    }

    /// Whether what comes now is clearly something else: it can be named, and nothing of it is of a family that this one
    /// was known by.
    pub(super) fn differs_from_now(&self, detector: &Detector) -> bool {
        let now = detector.excess(&detector.last_second());
        let now = now.name(&self.context(detector));
        let is_known = |family: Family| {
            let parts = &self.incident.vectors;
            let large = |part: &&VectorPart| is_large(part.packets_permille, part.bits_permille);
            let mut known = parts.iter().filter(large).map(|part| part.family);
            family == self.incident.family || known.any(|known| known == family)
        };
        let shared = now
            .families
            .iter()
            .filter(|share| is_large(share.packets_permille, share.bits_permille))
            .any(|share| is_known(share.family));
        now.family != Family::Unknown && self.incident.family != Family::Unknown && !shared
    }

    /// Whether anything that fired in it is near its limit.
    pub(super) fn is_near(&self, verdict: &Verdict) -> bool {
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
        self.count_pulse();
        let back_at = verdict.window.start();
        Some(back_at.millis_since(self.incident.last_above_at))
    }

    /// It came back after a pause worth the name.
    pub(super) const fn count_pulse(&mut self) {
        self.incident.pulses = self.incident.pulses.saturating_add(1);
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
        if may_change && let Some(change) = self.change(detector) {
            return Some(change);
        }
        (now.millis_since(self.reported_at) >= period).then_some(Change::Periodic)
    }

    /// What changed since the last report, if anything worth one did.
    fn change(&self, detector: &Detector) -> Option<Change> {
        let name = self.naming.current();
        if Some(name.family) != self.reported.family || name.subtype != self.reported.subtype {
            return Some(Change::Renamed);
        }
        if self.severity().0 != self.reported.severity {
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
    pub(super) fn report(&mut self, now: Timestamp, change: Change, detector: &Detector) {
        self.refresh(detector);
        self.reported = self.to_report();
        self.reported_at = now;
        if change != Change::Periodic {
            self.changed_at = Some(now);
        }
    }

    /// Ends it with what the whole of it bears out.
    pub(super) fn settle(&mut self, detector: &Detector) {
        self.peak.settle();
        let context = self.context(detector);
        self.naming.settle(detector, &context);
        let ended_at = self.incident.last_above_at;
        self.account.settle(ended_at);
        self.refresh(detector);
        self.incident.ended_at = Some(ended_at);
    }

    /// Ends it as it was told before a restart: it was not seen since.
    pub(super) const fn settle_unseen(&mut self) {
        self.incident.ended_at = Some(self.incident.last_above_at);
        self.incident.ended_unseen = self.clear_since.is_none();
        self.is_recalled = false;
    }

    /// Whether it was not seen since a restart, and nothing said that it ended.
    pub(super) const fn is_recalled(&self) -> bool {
        self.is_recalled
    }

    /// Waits for it to be seen again, for one window more.
    pub(super) fn wait(&mut self, window: WindowIndex) -> Awaited {
        let start = window.start();
        let unseen_millis = start.millis_since(self.seen_until());
        self.newest = window;
        *self.awaited.get_or_insert(Awaited {
            since: start,
            unseen_millis,
        })
    }

    /// The end of the newest window that was taken in.
    pub(super) const fn seen_until(&self) -> Timestamp {
        self.newest.end()
    }

    /// A second of it has ended.
    pub(super) fn second(&mut self, start: Timestamp, pps: u64) {
        if !self.is_recalled() {
            self.account.curve.add(start.as_seconds(), pps);
        }
    }

    fn context(&self, detector: &Detector) -> Context {
        detector.context(self.unit)
    }

    /// Remembers triggers that fire for the first time.
    fn note_fired(&mut self, verdict: &Verdict) {
        for trigger in verdict.triggers.iter().filter(|trigger| trigger.fires) {
            let fired = &mut self.incident.fired;
            if fired.iter().all(|fired| fired.id != trigger.id) {
                fired.push(Fired {
                    id: trigger.id,
                    value: trigger.value,
                    limit: trigger.limit.value,
                    origin: trigger.limit.origin.to_string(),
                    by_platform: trigger.limit.is_platform(),
                    at: verdict.at,
                });
            }
        }
    }

    /// Copies what the parts know into the incident.
    fn refresh(&mut self, detector: &Detector) {
        let overall = self.naming.overall(detector).name(&self.context(detector));
        let (severity, scale) = self.severity();
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
        incident.vectors = overall.shares.into_iter().map(VectorPart::from).collect();
        incident.families = overall.families;
        incident.severity = severity;
        incident.scale = scale;
        incident.peak_pps = highest.packets;
        incident.peak_bps = highest.bits;
        incident.peak_is_provisional = self.peak.is_provisional();
        incident.total = self.account.total;
        incident.loss = self.account.loss;
        incident.from_interface = self.account.from_interface;
        incident.forensics = self.account.forensics(incident.started_at);
        incident.protocols = ProtocolShares::of(&incident.forensics);
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
    fn severity(&self) -> (Severity, Scale) {
        let highest = self.highest();
        let judged = |fired: &Fired| {
            let unit = fired.id.unit();
            let normal = &self.incident.normal;
            let scale = Scale::new(unit, fired.limit, fired.by_platform, normal);
            (scale.severity(unit.of(highest)), scale)
        };
        // Of equals the last wins: go backwards, so that it is the one that fired first.
        let worst = self.incident.fired.iter().rev().map(judged);
        let (reached, scale) = worst.max_by_key(|(level, _)| *level).unwrap_or_default();
        let severity = if self.is_low() {
            Severity::Low
        } else if self.estimate_is_replaced() {
            reached.max(self.least_severity)
        } else {
            reached.max(self.incident.severity)
        };
        (severity, scale)
    }

    fn vector_set(&self, detector: &Detector) -> Vec<String> {
        let overall = self.naming.overall(detector).name(&self.context(detector));
        let parts: Vec<VectorPart> = overall.shares.into_iter().map(VectorPart::from).collect();
        set_of(&parts)
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

/// Whether a vector's part is worth a report.
fn is_large(packets_permille: u64, bits_permille: u64) -> bool {
    packets_permille.max(bits_permille) >= JOINED_PERMILLE
}

/// A vector joins or leaves when its part of the whole incident passes this, in permille: what is smaller comes and
/// goes without meaning anything.
const JOINED_PERMILLE: u64 = 100;

/// The vectors with a part worth a report, in a fixed order.
fn set_of(parts: &[VectorPart]) -> Vec<String> {
    let mut names: Vec<_> = parts
        .iter()
        .filter(|part| is_large(part.packets_permille, part.bits_permille))
        .map(|part| part.subtype.clone())
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
