//! When an attack begins, goes on and ends.
//!
//! Quiet until a trigger fires; open while one is near its limit; resolved after all that fired stayed below for the
//! hold. What comes back within two minutes is the same incident, held longer each time, so that a pulsed attack is one
//! story with at most one false end. What was open when the agent stopped is looked out for when it starts again.

use super::story::{Awaited, Campaign, Story};
use super::{Change, Event, Incident, Standing};
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
    /// The second that ended last: when it began, and its packets.
    last_second: Option<(Timestamp, u64)>,
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
            last_second: None,
        }
    }

    /// Takes over an incident as it was last told before a restart; before the first window.
    ///
    /// One that is open is looked out for: when it is back within the hold, it goes on under its id; when it is not, it
    /// is resolved as it was told. One that is resolved may come back as it may without a restart. Of several, the oldest
    /// comes first.
    pub fn resume(&mut self, told: Incident) {
        let Standing {
            hold_millis,
            hold_grown_at,
            resolved_at,
            ..
        } = told.standing;
        let settings = &self.settings;
        self.sequence = self.sequence.max(told.id.sequence.saturating_add(1));
        self.hold_millis = hold_millis.clamp(settings.hold_millis, settings.longest_hold_millis);
        self.hold_grown_at = hold_grown_at;
        let story = Box::new(Story::recall(told, settings));
        match resolved_at.or(story.incident.ended_at) {
            Some(resolved_at) => self.lay_aside(story, resolved_at),
            None => self.open = Some(story),
        }
    }

    /// The incident that is open, as last reported.
    #[must_use]
    pub fn open(&self) -> Option<&Incident> {
        self.open.as_deref().map(|story| &story.incident)
    }

    /// Takes one verdict and the window it is about; says what happened.
    pub fn step(&mut self, verdict: &Verdict, window: &Window, detector: &Detector) -> Vec<Event> {
        let mut events = Vec::new();
        events.extend(self.end_over_gap(verdict, detector));
        self.forget(verdict.at);
        events.extend(self.look_out(verdict, window, detector));
        match self.open.take() {
            // It is awaited, or came back with this window: there is no more to say now.
            Some(story) if story.newest == verdict.window => self.open = Some(story),
            Some(story) => events.extend(self.go_on(story, verdict, window, detector)),
            None => events.extend(self.begin(verdict, detector)),
        }
        events
    }

    /// A second has ended, `pps` packets were judged in it. What opened in its last window has opened before.
    pub fn second(&mut self, start: Timestamp, pps: u64) {
        self.last_second = Some((start, pps));
        if let Some(story) = &mut self.open {
            story.second(start, pps);
        }
    }

    /// There will be no more windows: what is open is resolved with what is known.
    pub fn finish(&mut self, at: Timestamp, detector: &Detector) -> Option<Event> {
        let open = self.open.take();
        open.map(|story| self.resolve(story, at, detector))
    }

    /// There will be no more windows before the next start: what is open stays so, and is told once more. Of what is only
    /// looked out for nothing new is known.
    pub fn suspend(&mut self, at: Timestamp, detector: &Detector) -> Option<Event> {
        let change = Change::Suspended;
        let mut story = self.open.take_if(|story| !story.is_recalled())?;
        story.report(at, change, detector);
        let event = Event::Updated(self.tell(&story, None), change);
        self.open = Some(story);
        Some(event)
    }

    /// What has been long enough ago no longer matters.
    fn forget(&mut self, now: Timestamp) {
        let settings = &self.settings;
        // A time to come was told before the clock was set back: taken as it is, it would be remembered for years.
        let millis_since = |at: &mut Timestamp| {
            *at = now.min(*at);
            now.millis_since(*at)
        };
        self.past
            .take_if(|(_, resolved_at)| millis_since(resolved_at) > settings.reopen_millis);
        self.campaigns.retain_mut(|campaign| {
            millis_since(&mut campaign.resolved_at) <= settings.campaign_millis
        });
        let forgotten = |at: &mut Timestamp| millis_since(at) > settings.hold_forgotten_millis;
        if self.hold_grown_at.take_if(forgotten).is_some() {
            self.hold_millis = settings.hold_millis;
        }
    }

    /// An incident was open when the agent stopped: is it back, has it ended, or is it too early to say?
    fn look_out(
        &mut self,
        verdict: &Verdict,
        window: &Window,
        detector: &Detector,
    ) -> Option<Event> {
        let mut story = self.open.take_if(|story| story.is_recalled())?;
        let settings = &self.settings;
        let Awaited {
            since,
            unseen_millis,
        } = story.wait(verdict.window);
        let told_at = story.incident.standing.seen_until;
        let due = told_at
            .plus_nanos(self.hold_millis.saturating_mul(1_000_000))
            .min(verdict.at);
        // Had the agent run on, what comes back so late would be another attack.
        let is_stale = unseen_millis > self.hold_millis.saturating_add(settings.reopen_millis);
        let is_back = story.is_back(verdict);
        // Nobody saw whether it ended before this began.
        let is_another =
            is_back && unseen_millis >= self.hold_millis && story.differs_from_now(detector);
        if is_stale || is_another {
            let ended = self.resolve(story, due, detector);
            self.past = None;
            Some(ended)
        } else if is_back {
            // What was quiet before the restart has stayed so when nobody was away for long.
            let quiet_since = story
                .clear_since
                .filter(|_| unseen_millis < self.hold_millis)
                .unwrap_or(since);
            if verdict.at.millis_since(quiet_since) >= settings.hold_millis {
                story.count_pulse();
                let last_above_at = story.incident.last_above_at;
                let pause_millis = verdict.window.start().millis_since(last_above_at);
                self.note_return(pause_millis, verdict.at);
            }
            let onset = verdict.onset.unwrap_or_else(|| Onset {
                window: verdict.window,
                at: window.first_inbound_at.unwrap_or(verdict.window.start()),
            });
            Some(self.take_up(story, onset, Change::Resumed, verdict, detector))
        } else if verdict.at.millis_since(since) >= self.hold_millis {
            Some(self.resolve(story, verdict.at, detector))
        } else {
            self.open = Some(story);
            None
        }
    }

    /// Windows are missing. Nobody knows what came meanwhile: for an incident that is as good as quiet.
    fn end_over_gap(&mut self, verdict: &Verdict, detector: &Detector) -> Option<Event> {
        let hold_millis = self.hold_millis;
        let story = self.open.take_if(|story| {
            let seen_until = story.seen_until();
            if story.is_recalled() || verdict.window.start() <= seen_until {
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
        // An attack does not go on as a limit set too low, nor the other way round; and when nobody saw it end, not as
        // something else either.
        let is_low = verdict.fitting_limit().is_some();
        let may_be_it = |story: &Story| {
            let is_another = story.incident.ended_unseen && story.differs_from_now(detector);
            story.is_low() == is_low && !is_another
        };
        if let Some((mut story, _)) = self.past.take_if(|(story, _)| may_be_it(story)) {
            story.count_pulse();
            let last_above_at = story.incident.last_above_at;
            self.note_return(onset.at.millis_since(last_above_at), verdict.at);
            return Some(self.take_up(story, onset, Change::Reopened, verdict, detector));
        }
        let sequence = self.sequence;
        self.sequence = self.sequence.saturating_add(1);
        let campaigns = self.campaigns.clone();
        let settings = &self.settings;
        let mut story = Story::new(onset, sequence, campaigns, verdict, detector, settings);
        self.add_last_second(&mut story, onset);
        let event = Event::Opened(self.tell(&story, None));
        self.open = Some(Box::new(story));
        Some(event)
    }

    /// What was resolved, or waited for, goes on with this window.
    fn take_up(
        &mut self,
        mut story: Box<Story>,
        onset: Onset,
        change: Change,
        verdict: &Verdict,
        detector: &Detector,
    ) -> Event {
        story.resume(onset, verdict, detector);
        self.add_last_second(&mut story, onset);
        story.report(verdict.at, change, detector);
        let event = Event::Updated(self.tell(&story, None), change);
        self.open = Some(story);
        event
    }

    /// The second before may be the one it began in.
    fn add_last_second(&self, story: &mut Story, onset: Onset) {
        let second_nanos = Timestamp::NANOS_PER_SECOND;
        if let Some((start, pps)) = self.last_second
            && start.plus_nanos(second_nanos) > onset.at
        {
            story.second(start, pps);
        }
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
            story.report(verdict.at, change, detector);
            Event::Updated(self.tell(&story, None), change)
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
        if story.is_recalled() {
            story.settle_unseen();
        } else {
            story.settle(detector);
        }
        let event = Event::Resolved(self.tell(&story, Some(resolved_at)));
        self.lay_aside(story, resolved_at);
        event
    }

    /// Keeps what was resolved for as long as it may come back.
    fn lay_aside(&mut self, story: Box<Story>, resolved_at: Timestamp) {
        let family = story.incident.family;
        self.campaigns.retain(|campaign| campaign.family != family);
        self.campaigns.push(Campaign {
            family,
            number: story.incident.campaign,
            resolved_at,
        });
        self.past = Some((story, resolved_at));
    }

    /// The incident as it is told now.
    fn tell(&self, story: &Story, resolved_at: Option<Timestamp>) -> Box<Incident> {
        Box::new(Incident {
            standing: Standing {
                seen_until: story.seen_until(),
                clear_since: story.clear_since,
                hold_millis: self.hold_millis,
                hold_grown_at: self.hold_grown_at,
                resolved_at,
            },
            ..story.incident.clone()
        })
    }
}
