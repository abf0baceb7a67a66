//! The ledger's thread: takes what is asked, writes it in as few transactions as it can, answers.
//!
//! Events and what was settled are written at once and are on disk before anybody is told; so is all that was asked
//! before. Seconds and notes wait for the next transaction, a second at most. Nobody but the disk holds this thread up.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::desk::{self, Desk};
use super::handle::{Latest, Message, Question, Shared};
use super::keeper::Keeper;
use super::{Outgoing, Sample};
use crate::clock;
use crate::words::Thousands;

/// How long a second may wait to be written, and how much of the agent's own memory of itself a crash may cost.
const BATCH: Duration = Duration::from_secs(1);

/// Messages that are written together, at most: one transaction stays below a megabyte or two.
const TOGETHER: usize = 256;

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Worker {
    keeper: Keeper,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    /// Taken, and not written yet.
    batch: Vec<Message>,
    latest: Latest,
    /// When the batch has to be written.
    due: Option<Instant>,
    look_after: Instant,
    retry: Duration,
    said_lost: u64,
}

/// What there is to say to whoever asked.
enum Answer {
    Nothing,
    Outgoing(Vec<Outgoing>),
    Samples(Vec<Sample>),
    Note(Option<String>),
}

impl Worker {
    /// A thread's work; `retry` is how often the database is looked after.
    pub(super) fn new(
        keeper: Keeper,
        inbox: Receiver<Message>,
        shared: Arc<Shared>,
        retry: Duration,
    ) -> Self {
        Self {
            keeper,
            inbox,
            shared,
            batch: Vec::new(),
            latest: Latest::default(),
            due: None,
            look_after: clock::monotonic() + retry,
            retry,
            said_lost: 0,
        }
    }

    /// Works until it is told to end, or nobody is left to tell.
    pub(super) fn run(mut self) {
        while self.take() {
            if self.is_due() {
                self.write();
            }
            self.publish(false);
            if clock::monotonic() >= self.look_after {
                self.keeper.look_after();
                self.publish(false);
                self.look_after = clock::monotonic() + self.retry;
            }
        }
        self.take_latest();
        self.write();
        self.keeper.close();
    }

    /// Takes what is in the queue, after waiting for something; false when this is the end.
    fn take(&mut self) -> bool {
        let now = clock::monotonic();
        // Notes and baselines ring no bell.
        let until = [self.due, Some(self.look_after), Some(now + BATCH)];
        let until = until.into_iter().flatten().min().unwrap_or(now);
        let first = match self
            .inbox
            .recv_timeout(until.saturating_duration_since(now))
        {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let before = self.batch.len();
        self.batch.extend(first);
        let more = TOGETHER.saturating_sub(1);
        self.batch.extend(self.inbox.try_iter().take(more));
        self.shared
            .left(self.batch.get(before..).unwrap_or_default());
        self.take_latest();
        let is_empty = self.batch.is_empty() && self.latest.is_empty();
        if !is_empty && self.due.is_none() {
            self.due = Some(clock::monotonic() + BATCH);
        }
        !self
            .batch
            .iter()
            .any(|message| matches!(message, Message::Close))
    }

    fn take_latest(&mut self) {
        let newer = mem::take(&mut *self.shared.latest());
        if newer.baseline.is_some() {
            self.latest.baseline = newer.baseline;
        }
        self.latest.notes.extend(newer.notes);
    }

    /// Whether something has to be written now.
    fn is_due(&self) -> bool {
        self.batch.iter().any(Message::is_urgent)
            || self.due.is_some_and(|due| clock::monotonic() >= due)
    }

    /// Writes what was taken, then answers.
    fn write(&mut self) {
        let batch = mem::take(&mut self.batch);
        let latest = mem::take(&mut self.latest);
        self.due = None;
        let (events, seconds) = self.shared.take_lost();
        let durable = latest.baseline.is_some() || batch.iter().any(Message::is_durable);
        let answers = self.keeper.run(durable, |desk| {
            desk.lost(events, seconds);
            for (name, value) in &latest.notes {
                desk.note(name, value)?;
            }
            let answers: rusqlite::Result<Vec<Answer>> =
                batch.iter().map(|message| message.apply(desk)).collect();
            if let Some(state) = &latest.baseline {
                desk.baseline(state)?;
            }
            answers
        });
        let has_events = batch
            .iter()
            .any(|message| matches!(message, Message::Event(..)));
        self.publish(has_events);
        for (message, answer) in batch.into_iter().zip(answers.unwrap_or_default()) {
            message.answer(answer);
        }
        self.say_lost();
    }

    /// Tells those who wait for it what waits; `wake` even when the figures are the same.
    fn publish(&self, wake: bool) {
        let mut now = self.keeper.waiting();
        if self.keeper.has_uplink() {
            let taken = self.batch.iter();
            let seconds = taken.filter(|message| matches!(message, Message::Second(_)));
            now.samples += seconds.count() as u64;
        }
        self.shared.waiting.send_if_modified(|waiting| {
            let changed = wake || *waiting != now;
            *waiting = now;
            changed
        });
    }

    /// Says that something was lost, each time the number has doubled.
    fn say_lost(&mut self) {
        let waiting = self.keeper.waiting();
        let lost = waiting.dropped_events + waiting.dropped_samples;
        if lost > self.said_lost.saturating_mul(2) {
            self.said_lost = lost;
            log::error!(
                "the ledger has lost {} steps of incidents and {} seconds so far: too much waits to be told, or the \
                 disk is too slow",
                Thousands(waiting.dropped_events),
                Thousands(waiting.dropped_samples),
            );
        }
    }
}

impl Latest {
    fn is_empty(&self) -> bool {
        self.baseline.is_none() && self.notes.is_empty()
    }
}

impl Message {
    /// Whether somebody waits for it, or must not wait for it.
    const fn is_urgent(&self) -> bool {
        match self {
            Self::Event(..) => true,
            Self::Question { question, .. } => !matches!(question, Question::Told(_)),
            Self::Second(_) | Self::Close => false,
        }
    }

    /// Whether it has to be on disk before anybody hears of it.
    const fn is_durable(&self) -> bool {
        matches!(
            self,
            Self::Event(..)
                | Self::Question {
                    question: Question::Settle(..),
                    ..
                }
        )
    }

    fn apply(&self, desk: &mut Desk<'_>) -> rusqlite::Result<Answer> {
        match self {
            Self::Event(step, report) => desk.event(*step, report)?,
            Self::Second(sample) => desk.second(sample)?,
            Self::Close => {}
            Self::Question { question, .. } => return question.apply(desk),
        }
        Ok(Answer::Nothing)
    }

    /// Hands the answer to whoever waits for it; he may have gone.
    fn answer(self, answer: Answer) {
        let Self::Question { question, .. } = self else {
            return;
        };
        match (question, answer) {
            (Question::Outgoing(asked), Answer::Outgoing(outgoing)) => {
                let _ = asked.send(outgoing);
            }
            (Question::Samples { answer: asked, .. }, Answer::Samples(samples)) => {
                let _ = asked.send(samples);
            }
            (Question::Recall(_, asked), Answer::Note(note)) => {
                let _ = asked.send(note);
            }
            (Question::Settle(_, _, asked), _) => {
                let _ = asked.send(());
            }
            _ => {}
        }
    }
}

impl Question {
    fn apply(&self, desk: &mut Desk<'_>) -> rusqlite::Result<Answer> {
        match self {
            Self::Outgoing(_) => return desk.outgoing().map(Answer::Outgoing),
            Self::Samples { newest, limit, .. } => {
                return desk.samples(*newest, *limit).map(Answer::Samples);
            }
            Self::Recall(name, _) => return desk::note(desk.db, name).map(Answer::Note),
            Self::Settle(ticket, settled, _) => desk.settle(*ticket, settled)?,
            Self::Told(told) => desk.told(told)?,
            Self::Skip => desk.skip()?,
        }
        Ok(Answer::Nothing)
    }
}
