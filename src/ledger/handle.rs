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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::testing::{Scratch, report, sample};
    use super::super::{PlatformIds, Storage};
    use super::*;

    fn block_on<T>(answer: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(answer)
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_step_is_shown_until_it_is_settled() {
        let scratch = Scratch::new();
        let (ledger, _) = Ledger::open(scratch.settings()).unwrap();
        block_on(async {
            let mut waiting = ledger.waiting();
            assert_eq!(waiting.borrow_and_update().storage, Storage::Disk);
            ledger.event(Step::Open, report("a", 0));
            waiting.changed().await.unwrap();
            assert_eq!(waiting.borrow_and_update().incidents, 1);
            let shown = ledger.outgoing().await;
            assert_eq!(shown, ledger.outgoing().await);
            assert_eq!(
                (shown[0].step, &shown[0].report),
                (Step::Open, &report("a", 0))
            );
            ledger.settle(shown[0].ticket, Settled::Failed).await;
            let again = ledger.outgoing().await;
            assert_eq!(again[0].attempts, 1);
            let delivered = Settled::Delivered(PlatformIds::default());
            ledger.settle(again[0].ticket, delivered).await;
            assert_eq!(ledger.outgoing().await, []);
            waiting.changed().await.unwrap();
            assert_eq!(waiting.borrow_and_update().incidents, 0);
            // A merge changes no figure, and wakes whoever waits.
            ledger.event(Step::Update, report("a", 1));
            ledger.outgoing().await;
            waiting.mark_unchanged();
            ledger.event(Step::Update, report("a", 2));
            waiting.changed().await.unwrap();
        });
        ledger.close(PATIENCE);
        let (ledger, found) = Ledger::open(scratch.settings()).unwrap();
        assert_eq!(found.open, Some(report("a", 2)));
        assert_eq!(block_on(ledger.outgoing())[0].report, report("a", 2));
    }

    #[test]
    fn seconds_wake_the_uplink_before_they_are_written_and_notes_are_read_back() {
        let (ledger, found) = Ledger::open(Settings::default()).unwrap();
        assert!(found.notices.is_empty());
        block_on(async {
            let mut waiting = ledger.waiting();
            assert_eq!(waiting.borrow_and_update().storage, Storage::Memory);
            ledger.second(sample(10, 1));
            waiting.changed().await.unwrap();
            assert_eq!(waiting.borrow_and_update().samples, 1);
            let shown = ledger.samples(true, 1).await;
            assert_eq!(shown, [sample(10, 1)]);
            ledger.told_samples(shown).await;
            ledger.second(sample(11, 1));
            assert_eq!(ledger.samples(false, 9).await, [sample(11, 1)]);
            ledger.skip_samples().await;
            assert_eq!(ledger.samples(false, 9).await, []);
            ledger.remember("a", "1".to_owned());
            ledger.remember("a", "2".to_owned());
            assert_eq!(ledger.recall("a").await.as_deref(), Some("2"));
            assert_eq!(ledger.recall("b").await, None);
        });
    }

    #[test]
    fn an_answer_nobody_waits_for_holds_nobody_up() {
        let (ledger, _) = Ledger::open(Settings::default()).unwrap();
        block_on(async {
            for _ in 0..QUESTIONS_QUEUED * 3 {
                let asked = ledger.outgoing();
                tokio::select! {
                    biased;
                    _ = asked => {}
                    () = std::future::ready(()) => {}
                }
            }
            assert_eq!(ledger.outgoing().await, []);
        });
    }

    #[test]
    fn when_the_disk_holds_the_ledger_up_the_detector_goes_on_and_what_is_lost_is_counted() {
        let scratch = Scratch::new();
        let (ledger, _) = Ledger::open(scratch.settings()).unwrap();
        let lock = Connection::open(scratch.state().join("ftagent.db")).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        for telling in 0..3_000 {
            ledger.event(Step::Update, report("a", telling));
            ledger.second(sample(1_000 + telling, 1));
        }
        drop(lock);
        block_on(async {
            let mut waiting = ledger.waiting();
            let busy = |waiting: &Waiting| waiting.dropped_events == 0 || waiting.incidents == 0;
            while busy(&waiting.borrow_and_update()) {
                waiting.changed().await.unwrap();
            }
            let lost = waiting.borrow().clone();
            assert!(
                lost.dropped_events < 3_000 && lost.dropped_samples > 1_000,
                "{lost:?}"
            );
            // It works on, with what was taken.
            ledger.event(Step::Resolve, report("a", 9_999));
            let first = ledger.outgoing().await.remove(0);
            assert_eq!((first.step, first.report.packets), (Step::Open, 0));
        });
    }

    #[test]
    fn after_the_end_nobody_waits_for_an_answer() {
        let (ledger, _) = Ledger::open(Settings::default()).unwrap();
        let other = ledger.clone();
        ledger.close(PATIENCE);
        other.event(Step::Open, report("a", 0));
        assert_eq!(block_on(other.outgoing()), []);
        assert_eq!(block_on(other.samples(true, 1)), []);
        block_on(other.settle(
            Ticket {
                step: 1,
                revision: 0,
            },
            Settled::Failed,
        ));
        other.close(PATIENCE);
    }

    #[test]
    fn a_handle_that_goes_without_a_word_leaves_everything_written() {
        let scratch = Scratch::new();
        let (ledger, _) = Ledger::open(scratch.settings()).unwrap();
        ledger.second(sample(5, 5));
        ledger.remember("a", "1".to_owned());
        drop(ledger);
        // Its thread ends by itself, and lets go of the directory.
        let begun = crate::clock::monotonic();
        let (ledger, _) = loop {
            match Ledger::open(scratch.settings()) {
                Ok(opened) => break opened,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
        };
        assert_eq!(block_on(ledger.samples(true, 9)), [sample(5, 5)]);
        assert_eq!(block_on(ledger.recall("a")).as_deref(), Some("1"));
    }
}
