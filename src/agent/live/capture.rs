//! The capture thread: source, classifier, meter; one for each interface that is watched.
//!
//! Per packet it does nothing but these three. It never waits for anything but frames: when the detector holds all
//! spare windows, it goes on counting in the open one. When a window closes it looks whether the host's place has changed.
//!
//! An interface that is lost does not end it: windows go on closing, empty, until the interface is back and is captured
//! anew. It says so once each way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::links::{LinkState, Links};
use super::notice::{News, Notice};
use super::place::{Place, Whereabouts};
use super::timeline::{Stamps, Timeline};
use crate::capture::live::{LiveSource, Loss, Settings};
use crate::capture::nic::Interface;
use crate::capture::{Capture, CaptureError, Frame, PacketSource};
use crate::classify::Classifier;
use crate::clock::Timestamp;
use crate::count::{self, Meter, Window, WindowIndex};

/// A closed window on its way to the detector, from the interface of this number.
pub(super) type Delivery = (usize, Box<Window>);

/// How long to wait before an interface that could not be captured is tried again, unless something changes. Capturing
/// maps 16 MiB of memory, so not in every window; an interface is to be watched within 2 s of its return.
const TRY_AGAIN_NANOS: u64 = 500_000_000;

/// Frames in a window up to which it counts as quiet: 20,000 a second. The next window's frames are then left in the ring
/// until it ends. The ring holds fifty times as many of the longest, so only a flood that reaches 1.3 million frames a second
/// within 50 ms loses frames by it, once; the counters have them.
const QUIET_FRAMES: u64 = 1_000;

/// What a capture thread works with.
pub(super) struct CaptureThread {
    pub(super) link: usize,
    /// The name the interface is watched by.
    pub(super) name: String,
    pub(super) source: LiveSource,
    pub(super) place: Arc<ArcSwap<Place>>,
    pub(super) links: Arc<Links>,
    pub(super) news: News,
    pub(super) count: count::Settings,
    pub(super) timeline: Timeline,
    pub(super) deliveries: SyncSender<Delivery>,
    pub(super) spares: Receiver<Box<Window>>,
    pub(super) stop: Arc<AtomicBool>,
}

impl CaptureThread {
    /// Captures until it is told to stop. The window that is open then is delivered too.
    pub(super) fn run(self) {
        let lag_nanos = u64::from(self.source.lag_millis()) * 1_000_000;
        let place = self.place.load_full();
        let interface = self.source.interface().clone();
        let mut watch = Watch {
            worker: Worker {
                classifier: Classifier::new(place.vantage(&interface)),
                meter: Meter::new(self.count, WindowIndex::of(self.timeline.now())),
                stamps: Stamps::new(self.timeline),
                link: self.link,
                deliveries: self.deliveries,
                spares: self.spares,
                loss: Loss::default(),
                is_quiet: false,
            },
            report: LinkReport::new(self.link, self.name, self.links, self.news),
            place: self.place,
            known: place,
            timeline: self.timeline,
            lag_nanos,
            tried_at: Timestamp::default(),
            stop: self.stop,
        };
        watch.renew(&interface);
        let mut source = Some(self.source);
        while !watch.is_told_to_stop() {
            source = match source {
                Some(source) => watch.capture(source),
                None => watch.wait_for_link(),
            };
        }
        watch.worker.finish();
    }
}

/// An interface that is watched, whether or not it is there.
struct Watch {
    worker: Worker,
    report: LinkReport,
    place: Arc<ArcSwap<Place>>,
    /// The place as this thread knows it.
    known: Arc<Place>,
    timeline: Timeline,
    /// How much later than its time a frame may be seen.
    lag_nanos: u64,
    /// When it was last tried to capture an interface that is not captured.
    tried_at: Timestamp,
    stop: Arc<AtomicBool>,
}

/// What a capture has come to when a window closes.
enum Next {
    GoOn,
    Stop,
    Lost(CaptureError),
    /// Another interface bears the name.
    Other(Box<LiveSource>),
}

impl Watch {
    fn is_told_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Captures from `source` until it is told to stop, the interface is lost, or another one bears its name. Gives the
    /// source to go on with.
    fn capture(&mut self, mut source: LiveSource) -> Option<LiveSource> {
        loop {
            let next = match source.next() {
                Ok(Capture::Frame(frame)) => {
                    if !self.worker.take(&frame) {
                        continue;
                    }
                    self.between_windows(&mut source)
                }
                Ok(Capture::Idle) => self.idle(&mut source),
                Ok(Capture::End) => Next::Stop,
                Err(error) => Next::Lost(error),
            };
            match next {
                Next::GoOn => {}
                Next::Stop => return Some(source),
                Next::Lost(error) => {
                    self.lose(error);
                    return None;
                }
                Next::Other(other) => {
                    drop(source);
                    self.begin(&other.interface().clone());
                    return Some(*other);
                }
            }
        }
    }

    /// Nothing came: closes the windows that are over, and says how long the source may wait.
    fn idle(&mut self, source: &mut LiveSource) -> Next {
        let now = self.timeline.now();
        let next = if self.close_what_is_over(now) {
            self.between_windows(source)
        } else if self.is_told_to_stop() {
            Next::Stop
        } else {
            Next::GoOn
        };
        let millis = self.window_ends_in(now);
        if self.worker.is_quiet {
            source.rest_for(millis);
        } else {
            source.wait_at_most(millis);
        }
        next
    }

    /// Looks around when windows were closed: was something lost, is it time to stop, has the host's place changed.
    fn between_windows(&mut self, source: &mut LiveSource) -> Next {
        match source.loss() {
            Ok(loss) => self.worker.note_loss(loss),
            Err(error) => return Next::Lost(error),
        }
        if self.is_told_to_stop() {
            return Next::Stop;
        }
        if self.place_has_changed() {
            self.follow(source.interface().index)
        } else {
            Next::GoOn
        }
    }

    /// The host's place has changed while the interface with the number `captured` is captured.
    fn follow(&mut self, captured: u32) -> Next {
        let place = Arc::clone(&self.known);
        match place.whereabouts(self.report.link) {
            Whereabouts::Here(interface) if interface.index == captured => self.renew(interface),
            Whereabouts::Renamed(interface) => {
                self.report.renamed(&interface.name);
                self.renew(interface);
            }
            // What the housekeeping thread saw may be older than this capture: the kernel decides.
            Whereabouts::Here(_) => match LiveSource::open(&Settings::new(&self.report.name)) {
                Ok(other) if other.interface().index == captured => {}
                Ok(other) => return Next::Other(Box::new(other)),
                Err(error) => return Next::Lost(error),
            },
            Whereabouts::Missing => {
                return Next::Lost(self.report.lost("was removed while it was watched"));
            }
            Whereabouts::Refused(reason) => return Next::Lost(self.report.lost(reason)),
        }
        Next::GoOn
    }

    /// The interface was lost: waits for a window's length, and captures it anew when it is back.
    fn wait_for_link(&mut self) -> Option<LiveSource> {
        let now = self.timeline.now();
        self.close_what_is_over(now);
        let changed = self.place_has_changed();
        let waited = now.nanos_since(self.tried_at) >= TRY_AGAIN_NANOS;
        let place = Arc::clone(&self.known);
        let whereabouts = place.whereabouts(self.report.link);
        let there = match whereabouts {
            Whereabouts::Here(interface) => Some((interface, self.report.name.clone())),
            Whereabouts::Renamed(interface) => Some((interface, interface.name.clone())),
            Whereabouts::Missing | Whereabouts::Refused(_) => None,
        };
        let due = changed || waited;
        if let Some((_, name)) = there.filter(|(interface, _)| interface.up && due) {
            self.tried_at = now;
            match LiveSource::open(&Settings::new(name)) {
                Ok(source) => {
                    self.begin(&source.interface().clone());
                    if let Whereabouts::Renamed(interface) = whereabouts {
                        self.report.renamed(&interface.name);
                    }
                    return Some(source);
                }
                Err(error) => self.lose(error),
            }
        }
        if let Whereabouts::Refused(reason) = whereabouts {
            let error = self.report.lost(reason);
            self.lose(error);
        }
        let millis = self.window_ends_in(self.timeline.now());
        std::thread::sleep(Duration::from_millis(u64::from(millis)));
        None
    }

    /// Capture of `interface` begins.
    fn begin(&mut self, interface: &Interface) {
        self.worker.loss = Loss::default();
        self.report.captured(interface.index);
        self.renew(interface);
    }

    fn lose(&mut self, error: CaptureError) {
        self.tried_at = self.timeline.now();
        self.report.not_captured(error, self.tried_at);
    }

    /// Takes over what may have changed of the interface and of the host's addresses.
    fn renew(&mut self, interface: &Interface) {
        self.worker.classifier = Classifier::new(self.known.vantage(interface));
        self.worker.meter.set_mtu_bytes(interface.mtu_bytes);
        let now = self.timeline.now();
        match (interface.up, interface.carrier) {
            (true, true) => self.report.watched(now),
            (true, false) => self.report.unwatched("has no carrier", now),
            (false, _) => self.report.unwatched("went down while it was watched", now),
        }
    }

    fn place_has_changed(&mut self) -> bool {
        let place = self.place.load();
        if Arc::ptr_eq(&place, &self.known) {
            return false;
        }
        self.known = Arc::clone(&place);
        true
    }

    /// Closes the windows whose frames have all been handed out. Says whether it closed any.
    fn close_what_is_over(&mut self, now: Timestamp) -> bool {
        let settled = now.as_nanos().saturating_sub(self.lag_nanos);
        self.worker.close_until(Timestamp::from_nanos(settled))
    }

    /// Milliseconds until the open window is over and all its frames are here.
    fn window_ends_in(&self, now: Timestamp) -> u32 {
        let closes_at = self.worker.meter.closes_at();
        closes_at.plus_nanos(self.lag_nanos).millis_until(now)
    }
}

/// What the other threads and the log are told of one interface. Each change is said once.
struct LinkReport {
    link: usize,
    name: String,
    links: Arc<Links>,
    news: News,
    state: LinkState,
    /// Since when it is not watched, and the reason that was said last.
    lost: Option<(Timestamp, String)>,
    renamed: Option<String>,
}

impl LinkReport {
    /// A report that goes on from what is known of the interface.
    fn new(link: usize, name: String, links: Arc<Links>, news: News) -> Self {
        Self {
            link,
            name,
            state: links.state(link),
            links,
            news,
            lost: None,
            renamed: None,
        }
    }

    fn captured(&mut self, index: u32) {
        self.state.index = Some(index);
        self.state.captures = self.state.captures.wrapping_add(1);
        self.renamed = None;
    }

    fn not_captured(&mut self, error: CaptureError, now: Timestamp) {
        self.state.index = None;
        self.say_lost(error, now);
    }

    /// It is captured, up, and has a carrier.
    fn watched(&mut self, now: Timestamp) {
        self.state.is_watched = true;
        self.links.set(self.link, self.state);
        if let Some((since, _)) = self.lost.take() {
            self.news.say(Notice::LinkBack {
                name: self.name.clone(),
                after_millis: now.millis_since(since),
            });
        }
    }

    /// It is captured, and nothing can come.
    fn unwatched(&mut self, reason: &str, now: Timestamp) {
        let error = self.lost(reason);
        self.say_lost(error, now);
    }

    fn say_lost(&mut self, error: CaptureError, now: Timestamp) {
        self.state.is_watched = false;
        self.links.set(self.link, self.state);
        let reason = error.to_string();
        let (since, said) = match self.lost.take() {
            Some((since, said)) => (since, said == reason),
            None => (now, false),
        };
        self.lost = Some((since, reason));
        if !said {
            self.news.say(Notice::LinkLost(error));
        }
    }

    fn renamed(&mut self, now: &str) {
        if self.renamed.as_deref() != Some(now) {
            self.renamed = Some(now.to_owned());
            self.news.say(Notice::LinkRenamed {
                name: self.name.clone(),
                now: now.to_owned(),
            });
        }
    }

    fn lost(&self, reason: &str) -> CaptureError {
        CaptureError::InterfaceLost {
            name: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}

struct Worker {
    classifier: Classifier,
    meter: Meter,
    stamps: Stamps,
    link: usize,
    deliveries: SyncSender<Delivery>,
    spares: Receiver<Box<Window>>,
    loss: Loss,
    /// Whether the window that was closed last had few frames.
    is_quiet: bool,
}

impl Worker {
    /// Counts a frame. Says whether windows were closed before it.
    #[inline]
    fn take(&mut self, frame: &Frame<'_>) -> bool {
        let at = self.stamps.at(frame.at);
        if at >= self.meter.open().start() && at < self.meter.closes_at() {
            self.count(frame, at);
            return false;
        }
        self.take_out_of_window(frame)
    }

    /// Counts a frame that begins a later window or seems older than the open one. One from before a pause belongs to a
    /// time that is not judged.
    fn take_out_of_window(&mut self, frame: &Frame<'_>) -> bool {
        let Some(at) = self.stamps.check(frame.at) else {
            return false;
        };
        let closed = self.close_until(at);
        self.count(frame, at);
        closed
    }

    #[inline]
    fn count(&mut self, frame: &Frame<'_>, at: Timestamp) {
        // By reference: moving a sample out of its result would copy it.
        match &self.classifier.classify(&Frame { at, ..*frame }) {
            Ok(sample) => self.meter.count(sample),
            Err(reason) => self.meter.refuse(at, *reason),
        }
    }

    /// Closes windows until the one that `at` falls into is open. Says whether it closed any.
    fn close_until(&mut self, at: Timestamp) -> bool {
        let target = WindowIndex::of(at);
        if target <= self.meter.open() {
            return false;
        }
        // Windows nobody saw anything in need not be sent: the detector knows silence when it sees no window.
        match self.spares.try_recv() {
            Ok(spare) => {
                let closed = self.meter.close(target, spare);
                self.is_quiet = frames(&closed) <= QUIET_FRAMES;
                self.deliver(closed);
            }
            Err(_) => {
                self.is_quiet = false;
                self.meter.stretch(target);
            }
        }
        true
    }

    fn deliver(&mut self, window: Box<Window>) {
        match self.deliveries.try_send((self.link, window)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // There is room for every window there is, so this cannot be; should it, the counters still have it all.
            Err(TrySendError::Full(_)) => debug_assert!(false, "more windows than were made"),
        }
    }

    /// Books what was lost since the last time into the open window.
    fn note_loss(&mut self, now: Loss) {
        let window = self.meter.window_mut();
        window.loss.ring += now.ring_drops.saturating_sub(self.loss.ring_drops);
        window.loss.interface += now
            .interface_drops
            .saturating_sub(self.loss.interface_drops);
        self.loss = now;
    }

    fn finish(&mut self) {
        let next = self.meter.open().next();
        if let Ok(spare) = self.spares.try_recv() {
            let closed = self.meter.close(next, spare);
            self.deliver(closed);
        }
    }
}

/// Frames in a window, whichever way they went.
const fn frames(window: &Window) -> u64 {
    window.inbound.frames.packets + window.outbound.frames.packets + window.foreign
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> (LinkReport, Arc<Links>, Receiver<Notice>) {
        let links = Arc::new(Links::new(["eth0".to_owned()]));
        let (news, said) = News::new();
        let report = LinkReport::new(0, "eth0".to_owned(), Arc::clone(&links), news);
        (report, links, said)
    }

    fn lines(said: &Receiver<Notice>) -> Vec<String> {
        said.try_iter().map(|notice| notice.to_string()).collect()
    }

    #[test]
    fn an_interface_that_goes_and_comes_is_told_once_each_way() {
        let (mut report, links, said) = report();
        let at = Timestamp::from_seconds;
        report.captured(3);
        report.watched(at(1));
        report.watched(at(2));
        assert_eq!(lines(&said), [""; 0]);
        assert!(links.state(0).is_watched);

        for second in 10..15 {
            report.unwatched("went down while it was watched", at(second));
        }
        assert_eq!(links.state(0).index, Some(3));
        assert!(!links.state(0).is_watched);
        let gone = report.lost("was removed while it was watched");
        report.not_captured(gone, at(15));
        assert_eq!(links.state(0).index, None);
        report.captured(9);
        report.watched(at(20));
        report.watched(at(21));
        assert_eq!(
            lines(&said),
            [
                "interface eth0: went down while it was watched; it is watched again when it is back",
                "interface eth0: was removed while it was watched; it is watched again when it is back",
                "interface eth0: is watched again after 10.0 s",
            ]
        );
        let state = links.state(0);
        assert_eq!((state.index, state.captures), (Some(9), 2));
    }

    #[test]
    fn a_new_name_is_told_once_for_each_capture() {
        let (mut report, _, said) = report();
        report.captured(3);
        for name in ["wan0", "wan0", "wan1"] {
            report.renamed(name);
        }
        report.captured(4);
        report.renamed("wan1");
        assert_eq!(lines(&said).len(), 3);
    }
}
