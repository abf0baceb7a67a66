//! The handle that everybody else has on the ledger.
//!
//! The detector hands over and goes on: it never waits, and what does not fit into the queue is counted. The uplink
//! waits for answers without holding a thread up. No file is touched here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::keeper::Keeper;
use super::thread::Worker;
use super::{Found, LedgerError, Outgoing, Sample, Settled, Step, Ticket, Waiting};
use crate::detect::baseline::BaselineState;
use crate::incident::Report;

/// Steps that may wait for the ledger's thread: a disk that answers nothing for seventeen minutes, in an attack that is
/// reported every second. 5 MB at most.
const EVENTS_QUEUED: usize = 1_024;

/// Seconds that may: ten minutes.
const SECONDS_QUEUED: usize = 600;

/// Questions that may: more than the uplink has under way.
const QUESTIONS_QUEUED: usize = 64;

/// Room for the call to end.
const CLOSINGS_QUEUED: usize = 8;

/// Where and how much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The state directory; without one everything is kept in memory.
    pub dir: Option<PathBuf>,
    /// Bytes of the database and its log.
    pub quota_bytes: u64,
    /// How long seconds are kept.
    pub keep_seconds: u64,
    /// Whether somebody tells what waits. Without an uplink nothing new waits: incidents and seconds are kept to be
    /// looked at.
    pub has_uplink: bool,
    /// How long a disk that failed is left alone; as often, what is old is removed.
    pub retry: Duration,
}

impl Default for Settings {
    /// 64 MiB: 72 hours of seconds take 20, and thousands of incidents may wait beside them.
    fn default() -> Self {
        Self {
            dir: None,
            quota_bytes: 64 << 20,
            keep_seconds: 72 * 3_600,
            has_uplink: true,
            retry: Duration::from_secs(30),
        }
    }
}

/// A handle on the ledger; a clone is another one on the same. The last one to go ends the ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    queue: SyncSender<Message>,
    questions: Arc<Semaphore>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<Running>>>,
}

/// What the handles and the thread have in common.
#[derive(Debug)]
pub(super) struct Shared {
    events: AtomicUsize,
    seconds: AtomicUsize,
    lost_events: AtomicU64,
    lost_seconds: AtomicU64,
    latest: Mutex<Latest>,
    /// What waits, for whoever wants to know.
    pub(super) waiting: watch::Sender<Waiting>,
}

/// Of these only the newest counts.
#[derive(Debug, Default)]
pub(super) struct Latest {
    pub(super) baseline: Option<Box<BaselineState>>,
    pub(super) notes: BTreeMap<&'static str, String>,
}

/// The thread, and what says that it has ended.
#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

/// What is asked of the ledger's thread.
#[derive(Debug)]
pub(super) enum Message {
    Event(Step, Box<Report>),
    Second(Sample),
    Question {
        question: Question,
        /// Room in the queue, given back with the message.
        _permit: OwnedSemaphorePermit,
    },
    Close,
}

/// What somebody waits for.
#[derive(Debug)]
pub(super) enum Question {
    Outgoing(oneshot::Sender<Vec<Outgoing>>),
    Settle(Ticket, Settled, oneshot::Sender<()>),
    Samples {
        newest: bool,
        limit: usize,
        answer: oneshot::Sender<Vec<Sample>>,
    },
    Told(Vec<Sample>),
    Skip,
    Recall(&'static str, oneshot::Sender<Option<String>>),
}

impl Ledger {
    /// Opens the ledger and starts its thread, `ft-ledger`. A state directory that fails is no error: it is said in
    /// [`Found::notices`], everything is kept in memory, and the disk is tried again.
    ///
    /// # Errors
    ///
    /// When the state directory is no directory, another agent works in it, or the system gives us no thread.
    pub fn open(settings: Settings) -> Result<(Self, Found), LedgerError> {
        let retry = settings.retry;
        let (keeper, found) = Keeper::open(settings)?;
        let (queue, inbox) =
            sync_channel(EVENTS_QUEUED + SECONDS_QUEUED + QUESTIONS_QUEUED + CLOSINGS_QUEUED);
        let (waiting, _) = watch::channel(keeper.waiting());
        let shared = Arc::new(Shared {
            events: AtomicUsize::new(0),
            seconds: AtomicUsize::new(0),
            lost_events: AtomicU64::new(0),
            lost_seconds: AtomicU64::new(0),
            latest: Mutex::new(Latest::default()),
            waiting,
        });
        let worker = Worker::new(keeper, inbox, Arc::clone(&shared), retry);
        let (end, ended) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("ft-ledger".to_owned())
            .spawn(move || {
                worker.run();
                let _ = end.try_send(());
            })
            .map_err(|source| LedgerError::Thread { source })?;
        let ledger = Self {
            queue,
            questions: Arc::new(Semaphore::new(QUESTIONS_QUEUED)),
            shared,
            thread: Arc::new(Mutex::new(Some(Running { thread, ended }))),
        };
        Ok((ledger, found))
    }

    /// Something happened to an incident. Never waits.
    pub fn event(&self, step: Step, report: Report) {
        let shared = &self.shared;
        let message = Message::Event(step, Box::new(report));
        if !self.hand_over(message, &shared.events, EVENTS_QUEUED) {
            shared.lost_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A second is over. Never waits.
    pub fn second(&self, sample: Sample) {
        let shared = &self.shared;
        if !self.hand_over(Message::Second(sample), &shared.seconds, SECONDS_QUEUED) {
            shared.lost_seconds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the baseline has learned so far. Never waits; only the newest is stored.
    pub fn baseline(&self, state: BaselineState) {
        self.shared.latest().baseline = Some(Box::new(state));
    }

    /// The oldest waiting step of each incident, oldest incident first, at most 16. When more incidents wait, the last
    /// of the 16 is the newest incident's. What is in here is on disk.
    pub async fn outgoing(&self) -> Vec<Outgoing> {
        self.ask(Question::Outgoing).await.unwrap_or_default()
    }

    /// Says what became of a step; returns when that is on disk.
    pub async fn settle(&self, ticket: Ticket, settled: Settled) {
        self.ask(|answer| Question::Settle(ticket, settled, answer))
            .await;
    }

    /// Seconds to tell, from the newest or the oldest on: whole ones of the last hour, then in tens, and in minutes
    /// beyond twelve hours.
    pub async fn samples(&self, newest: bool, limit: usize) -> Vec<Sample> {
        let samples = self.ask(|answer| Question::Samples {
            newest,
            limit,
            answer,
        });
        samples.await.unwrap_or_default()
    }

    /// These were told, every second they stand for.
    pub async fn told_samples(&self, told: Vec<Sample>) {
        self.say(Question::Told(told)).await;
    }

    /// No second up to the newest will be told.
    pub async fn skip_samples(&self) {
        self.say(Question::Skip).await;
    }

    /// Keeps a value under a name. Never waits; no secret may be in it.
    pub fn remember(&self, key: &'static str, value: String) {
        self.shared.latest().notes.insert(key, value);
    }

    /// The value kept under a name.
    pub async fn recall(&self, key: &'static str) -> Option<String> {
        self.ask(|answer| Question::Recall(key, answer))
            .await
            .flatten()
    }

    /// What waits, and when that changes.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<Waiting> {
        self.shared.waiting.subscribe()
    }

    /// Writes what is to be written and ends the ledger, or gives up after `patience`: a disk that does not answer
    /// cannot keep us.
    pub fn close(self, patience: Duration) {
        // There is room for it, or nobody there any more.
        let _ = self.queue.try_send(Message::Close);
        let running = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(running) = running else { return };
        if running.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            log::error!(
                "the ledger's disk did not answer for {patience:?}: what it had not written is lost"
            );
            return;
        }
        // A thread that panicked has already ended the program: panics abort.
        let _ = running.thread.join();
    }

    /// Puts something into the queue, unless too many of its kind are in it.
    fn hand_over(&self, message: Message, queued: &AtomicUsize, most: usize) -> bool {
        let fits = queued.fetch_add(1, Ordering::Relaxed) < most;
        let taken = fits && self.queue.try_send(message).is_ok();
        if !taken {
            queued.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Asks, and waits for the answer; `None` when the ledger has ended.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.say(question(answer)).await;
        answered.await.ok()
    }

    async fn say(&self, question: Question) {
        // Whoever holds a permit finds room in the queue.
        if let Ok(_permit) = Arc::clone(&self.questions).acquire_owned().await {
            let _ = self.queue.try_send(Message::Question { question, _permit });
        }
    }
}

impl Shared {
    /// Messages have left the queue.
    pub(super) fn left(&self, messages: &[Message]) {
        for message in messages {
            match message {
                Message::Event(..) => self.events.fetch_sub(1, Ordering::Relaxed),
                Message::Second(_) => self.seconds.fetch_sub(1, Ordering::Relaxed),
                Message::Question { .. } | Message::Close => 0,
            };
        }
    }

    /// Events and seconds that found no room since this was asked last.
    pub(super) fn take_lost(&self) -> (u64, u64) {
        (
            self.lost_events.swap(0, Ordering::Relaxed),
            self.lost_seconds.swap(0, Ordering::Relaxed),
        )
    }

    /// What only the newest of counts; held for an instant, never while anything is written.
    pub(super) fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
