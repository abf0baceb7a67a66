//! The detector's thread: merges the interfaces' windows, reads their counters, steps the engine.
//!
//! A window is judged when its counters are in and capture has passed its end, at latest [`JUDGED_AFTER_NANOS`] after
//! that. An interface that is lost takes nothing from the others; seconds in which one was not watched are judged and not
//! learned. This thread never touches the network or the disk and never logs: outcomes, notices and snapshots go to
//! others through bounded queues, and what does not fit is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

use super::capture::Delivery;
use super::counters::{Attendance, Counters};
use super::notice::Notice;
use super::pulse::Pulse;
use super::relabel::relabel;
use super::timeline::{Labels, Step, Timeline};
use super::{Order, Sink};
use crate::agent::telling::{sample, tell_event};
use crate::capture::counter::Captured;
use crate::clock::Timestamp;
use crate::count::{WINDOW_NANOS, WINDOWS_PER_SECOND, Window, WindowIndex};
use crate::detect::limits::Ground;
use crate::engine::{Engine, Outcome};
use crate::ledger::Ledger;

/// Counters are read so long after a window's end: late enough for the timer to be past it, early enough for the line
/// between two readings to be straight.
const COUNTERS_AFTER_NANOS: u64 = 3_000_000;

/// A window that capture has not closed by then is judged without it; what it brings later is counted later.
const JUDGED_AFTER_NANOS: u64 = 30_000_000;

/// When the detector is this far behind, it stops catching up window by window and takes the time for a gap. Frames wait
/// in the ring for a second or two, so beyond ten there is nothing to catch up with.
const BEHIND_WINDOWS: u64 = 10 * WINDOWS_PER_SECOND;

/// How often the baseline is handed out to be stored, in windows: the open slot every 60 s.
const SNAPSHOT_WINDOWS: u64 = 60 * WINDOWS_PER_SECOND;

/// What the detector's thread works with.
pub(super) struct DetectThread {
    pub(super) judge: Judge,
    pub(super) timeline: Timeline,
    pub(super) deliveries: Receiver<Delivery>,
    pub(super) spares: Vec<SyncSender<Box<Window>>>,
    pub(super) said: Receiver<Notice>,
    pub(super) ordered: Receiver<Order>,
    /// Whether the next start goes on with what is open at the end.
    pub(super) is_resumed: bool,
    pub(super) stop: Arc<AtomicBool>,
}

impl DetectThread {
    /// Judges windows until it is told to stop, then hands on what is open.
    pub(super) fn run(mut self) {
        let mut waiting = Waiting::new(self.spares.len());
        let mut index = WindowIndex::of(self.timeline.now());
        self.judge.begin();
        self.read_counters();
        loop {
            let end = index.end();
            self.collect(&mut waiting, end.plus_nanos(COUNTERS_AFTER_NANOS), None);
            self.judge.follow_links();
            let end_nanos = self.timeline.nanos_of(end);
            if !self.judge.counters.are_read_after(end_nanos) {
                self.read_counters();
            }
            self.collect(
                &mut waiting,
                end.plus_nanos(JUDGED_AFTER_NANOS),
                Some(index),
            );
            let now = self.timeline.now();
            if let Some(next) = after_gap(index, now) {
                // A reading that is later than the time to go on from.
                self.read_counters();
                waiting.begin_at(next);
                let next_nanos = self.timeline.nanos_of(next.start());
                self.judge.pass_over(index, next, next_nanos);
                index = next;
                continue;
            }
            if let Some(step) = self.judge.labels.look(&self.timeline) {
                self.judge.clock_was_set(step);
            }
            let spares = &self.spares;
            self.judge
                .judge(&mut waiting, index, end_nanos, now, |link, window| {
                    if let Some(spares) = spares.get(link) {
                        // The thread that ended needs no window back.
                        let _ = spares.try_send(window);
                    }
                });
            for notice in self.said.try_iter() {
                self.judge.telling.sink.notice(notice);
            }
            for order in self.ordered.try_iter() {
                self.judge.obey(order);
            }
            let minute = index
                .since(WindowIndex::default())
                .is_multiple_of(SNAPSHOT_WINDOWS);
            if minute {
                self.judge.store();
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            index = index.next();
        }
        self.judge.finish(self.timeline.now(), self.is_resumed);
        self.judge.store();
    }

    /// Takes deliveries until `deadline`, or until every interface has passed `complete`.
    fn collect(&self, waiting: &mut Waiting, deadline: Timestamp, complete: Option<WindowIndex>) {
        loop {
            if complete.is_some_and(|index| waiting.have_passed(index)) {
                return;
            }
            let patience = self.timeline.until(deadline);
            if patience.is_zero() {
                while let Ok(delivery) = self.deliveries.try_recv() {
                    waiting.add(delivery);
                }
                return;
            }
            match self.deliveries.recv_timeout(patience) {
                Ok(delivery) => waiting.add(delivery),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(self.timeline.until(deadline));
                    return;
                }
            }
        }
    }

    fn read_counters(&mut self) {
        let timeline = self.timeline;
        self.judge.counters.read(|| timeline.elapsed_nanos());
    }
}

/// The window to go on with when `now` is so far behind the one that is due that the time between is a gap.
fn after_gap(due: WindowIndex, now: Timestamp) -> Option<WindowIndex> {
    let current = WindowIndex::of(now);
    (current.since(due) > BEHIND_WINDOWS).then_some(current)
}

/// Judges windows. Waits for nothing and asks no clock: what it does follows from what it is given.
pub(super) struct Judge {
    engine: Engine,
    counters: Counters,
    labels: Labels,
    telling: Telling,
    merged: Box<Window>,
    /// What capture saw of each interface in the window.
    captured: Vec<Captured>,
    attendance: Attendance,
    /// What the limits rested on when they were said last: at the start by whoever started us.
    said: [Ground; 2],
}

impl Judge {
    pub(super) fn new(
        engine: Engine,
        counters: Counters,
        labels: Labels,
        telling: Telling,
        links: usize,
        seed: u64,
    ) -> Self {
        Self {
            said: engine.detector().limits().grounds(),
            engine,
            counters,
            labels,
            telling,
            merged: Box::new(Window::new(WindowIndex::default(), seed)),
            captured: vec![Captured::default(); links],
            attendance: Attendance {
                complete: true,
                came_up: false,
            },
        }
    }

    /// The first second began before us.
    fn begin(&mut self) {
        self.engine.gap();
    }

    /// Looks after the interfaces. Before their counters are read.
    fn follow_links(&mut self) {
        self.attendance = self.counters.follow_links();
        if self.attendance.came_up {
            self.engine.link_came_up();
        }
    }

    /// Judges the window `index`, which ends at `end_nanos` on the timeline, from what is `waiting` and the counters that
    /// were read, and hands out what that comes to.
    fn judge(
        &mut self,
        waiting: &mut Waiting,
        index: WindowIndex,
        end_nanos: u64,
        now: Timestamp,
        give_back: impl FnMut(usize, Box<Window>),
    ) {
        self.merged.reset(index);
        self.captured.fill(Captured::default());
        waiting.merge(&mut self.merged, &mut self.captured, give_back);
        let nic = self.counters.window(end_nanos, &self.captured);
        if let Some(nic) = nic {
            self.merged.loss.interface += nic.missed;
        }
        if !self.attendance.complete {
            self.engine.not_watched();
        }
        let mut outcome = self.engine.step(&self.merged, nic, now);
        relabel(&mut outcome, &self.labels);
        self.telling
            .tell(outcome, self.labels.at(now), &self.engine);
        self.say_limits();
        self.telling.pulse.beat();
    }

    /// Says the limits when they rest on something new: the first learned one, the next stage of learning, somebody's
    /// word.
    fn say_limits(&mut self) {
        let limits = self.engine.detector().limits();
        let grounds = limits.grounds();
        if std::mem::replace(&mut self.said, grounds) != grounds {
            let notice = Notice::Limits(Box::new(*limits));
            self.telling.sink.notice(notice);
        }
    }

    /// Changes what is to change from the next window on.
    fn obey(&mut self, order: Order) {
        match order {
            Order::Limits(limits) => self.engine.set_limits(limits),
            Order::Platform(limits) => self.engine.set_platform(limits),
        }
    }

    /// Goes on with `next`, which begins at `next_nanos` on the timeline: what came between is not judged.
    fn pass_over(&mut self, due: WindowIndex, next: WindowIndex, next_nanos: u64) {
        let packets = self.counters.pass_over(next_nanos);
        let millis = next.since(due) * WINDOW_NANOS / 1_000_000;
        self.telling.sink.notice(Notice::HeldUp { millis, packets });
        self.engine.gap();
    }

    fn clock_was_set(&mut self, step: Step) {
        self.engine.clock_set(step.learned_by_seconds);
        self.telling.sink.notice(Notice::ClockSet {
            by_nanos: step.by_nanos,
        });
    }

    /// Hands what was learned to the ledger.
    fn store(&self) {
        let learned = self.engine.detector().baseline().state();
        self.telling.ledger.baseline(learned);
    }

    /// Hands on what is left. That the agent ends says nothing about an attack: where the next start goes on with it, it
    /// stays open.
    fn finish(&mut self, now: Timestamp, is_resumed: bool) {
        let mut last = if is_resumed {
            self.engine.suspend()
        } else {
            self.engine.finish()
        };
        relabel(&mut last, &self.labels);
        self.telling.tell(last, self.labels.at(now), &self.engine);
    }
}

/// Who hears of what was judged: the ledger, the gauges, and whoever prints or logs.
pub(super) struct Telling {
    pub(super) ledger: Ledger,
    pub(super) pulse: Arc<Pulse>,
    pub(super) sink: Box<dyn Sink>,
}

impl Telling {
    fn tell(&mut self, outcome: Outcome, at: Timestamp, engine: &Engine) {
        for event in &outcome.events {
            tell_event(&self.ledger, event);
        }
        if outcome.second.is_some() || !outcome.events.is_empty() {
            let vitals = engine.vitals();
            if let Some(second) = &outcome.second {
                let connections = self.pulse.connections().unwrap_or(0);
                self.ledger.second(sample(second, connections, &vitals));
            }
            self.pulse.note(&outcome, engine.open_incident(), vitals);
        }
        self.sink.outcome(outcome, at);
    }
}

/// Windows that came and are not judged yet.
struct Waiting {
    windows: Vec<Delivery>,
    /// For each interface, the latest window it has closed.
    passed: Vec<Option<WindowIndex>>,
    /// Windows before this one belong to a gap.
    from: WindowIndex,
}

impl Waiting {
    fn new(links: usize) -> Self {
        Self {
            windows: Vec::new(),
            passed: vec![None; links],
            from: WindowIndex::default(),
        }
    }

    fn add(&mut self, (link, window): Delivery) {
        if let Some(passed) = self.passed.get_mut(link) {
            *passed = (*passed).max(Some(window.index));
        }
        self.windows.push((link, window));
    }

    /// What comes for windows before `first` from now on belongs to a time that is not judged.
    const fn begin_at(&mut self, first: WindowIndex) {
        self.from = first;
    }

    /// Merges what belongs to the window and before, notes what each interface had in it, and gives the windows back.
    fn merge(
        &mut self,
        merged: &mut Box<Window>,
        captured: &mut [Captured],
        mut give_back: impl FnMut(usize, Box<Window>),
    ) {
        let index = merged.index;
        let is_alone = self.windows.len() == 1;
        let mut later = Vec::with_capacity(self.windows.len());
        for (link, mut window) in self.windows.drain(..) {
            if window.index > index {
                later.push((link, window));
                continue;
            }
            if window.index < self.from {
                give_back(link, window);
                continue;
            }
            let frames = window.inbound.frames;
            // A window that was stretched has booked what it held until then.
            let rest = frames.packets.saturating_sub(window.loss.delayed);
            let is_late = window.index < index;
            if is_alone && !is_late {
                // With one interface there is nothing to merge.
                std::mem::swap(merged, &mut window);
            } else {
                merged.merge(&window);
            }
            if is_late {
                merged.loss.delayed += rest;
            }
            if let Some(captured) = captured.get_mut(link) {
                captured.packets += frames.packets;
                captured.bytes += frames.bits / 8;
                captured.on_time += if is_late { 0 } else { rest };
            }
            give_back(link, window);
        }
        self.windows = later;
    }

    fn have_passed(&self, index: WindowIndex) -> bool {
        self.passed.iter().all(|passed| *passed >= Some(index))
    }
}

#[cfg(test)]
mod tests;
