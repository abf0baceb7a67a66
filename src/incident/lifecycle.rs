//! When an attack begins, goes on and ends.
//!
//! Quiet until a trigger fires; open while one is near its limit; resolved after all that fired stayed below for the
//! hold. What comes back within two minutes is the same incident, held longer each time, so that a pulsed attack is one
//! story with at most one false end.

use super::story::{Campaign, Story};
use super::{Change, Event, Incident};
use crate::clock::Timestamp;
use crate::count::Window;
use crate::detect::{Detector, Family, Onset, Verdict};

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
