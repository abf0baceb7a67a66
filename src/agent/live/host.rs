//! The housekeeping thread `ft-host`: what changes on the host, how many connections it has, and what the service manager
//! is told.
//!
//! It may wait for the kernel's answers and for nobody else; nobody waits for it. It logs nothing itself: a stuck journal
//! must not keep the service manager from hearing that the agent is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::links::{LinkVitals, Links};
use super::notice::{News, Notice};
use super::place::Place;
use super::pulse::{Facts, Pulse, Status};
use crate::agent::notify::{Notifier, NotifyError, Watchdog};
use crate::capture::NetlinkError;
use crate::capture::nic::Changes;
use crate::capture::sockets::ConnectionCounter;
use crate::clock;

/// How often it looks around when nothing changes. A quarter of a second is soon enough for a status and for the end;
/// four wake-ups a second cost nothing.
const TICK: Duration = Duration::from_millis(250);

/// Changes come in bursts: a link that is made and brought up makes a dozen. One look does for those of so long.
const SETTLE: Duration = Duration::from_millis(50);

/// The kernel is asked again after so long even if it has said nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The same when it does not tell of changes at all.
const LOOK_AGAIN_DEAF: Duration = Duration::from_secs(1);

/// Connections are counted once a second, or as seldom as keeps their counting below a thousandth of a core, a fifth of
/// what the agent may take in all. The kernel walks all its buckets and all sockets of all namespaces for an answer: half a
/// millisecond on a quiet host of 24 GB, five on a busy one, which is then counted every five seconds. But once a minute
/// in any case.
const COUNT_EVERY: Duration = Duration::from_secs(1);
const COUNT_SHARE: u32 = 1_000;
const COUNT_SELDOM: Duration = Duration::from_secs(60);

/// How often the status is told while nothing but the packets changes.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// What the housekeeping thread works with.
pub(super) struct HostThread {
    pub(super) links: Arc<Links>,
    pub(super) place: Arc<ArcSwap<Place>>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) news: News,
    pub(super) changes: Option<Changes>,
    pub(super) notifier: Arc<Notifier>,
    /// After how long without a sign of life the service manager restarts the agent.
    pub(super) patience: Option<Duration>,
    pub(super) stop: Arc<AtomicBool>,
}

impl HostThread {
    /// Keeps house until it is told to stop.
    pub(super) fn run(self) {
        let mut looked_at = clock::since_boot();
        let mut counting = Counting::new();
        let mut manager = Manager::new(self.patience);
        let tick = manager.tick();
        let mut place_is_known = true;
        while !self.stop.load(Ordering::Relaxed) {
            let changed = self.wait_for_change(tick);
            let now = clock::since_boot();
            let deaf = self.changes.is_none();
            let again = if deaf { LOOK_AGAIN_DEAF } else { LOOK_AGAIN };
            if changed || now.saturating_sub(looked_at) >= again {
                looked_at = now;
                place_is_known = self.look_around(changed, place_is_known);
            }
            counting.count_if_due(&self.pulse, &self.news);
            manager.tell(&self.notifier, &self.pulse, &self.links, &self.news);
        }
    }

    /// Waits for a tick, or until something changes; then a little longer, for all that changes with it.
    fn wait_for_change(&self, tick: Duration) -> bool {
        let Some(changes) = &self.changes else {
            std::thread::sleep(tick);
            return false;
        };
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(tick.subsec_nanos()),
        };
        // A signal ends it early, which is as good as a tick.
        let _ = poll(&mut [PollFd::new(changes, PollFlags::IN)], Some(&timeout));
        let changed = changes.take();
        if changed {
            std::thread::sleep(SETTLE);
            let _ = changes.take();
        }
        changed
    }

    /// Asks the kernel where the host stands, and hands it to the capture threads if it has changed: also when it has
    /// changed back, for they may have seen it in between. Says whether the kernel answered.
    fn look_around(&self, changed: bool, answered_before: bool) -> bool {
        match Place::read(&self.links) {
            Ok(place) => {
                if changed || **self.place.load() != place {
                    self.place.store(Arc::new(place));
                }
                true
            }
            Err(error) => {
                if answered_before {
                    self.news.say(Notice::Degraded(format!(
                        "{error}; changes of interfaces and addresses are not noticed until it can be done"
                    )));
                }
                false
            }
        }
    }
}

/// Counts connections as often as is cheap.
struct Counting {
    counter: ConnectionCounter,
    due_at: Duration,
    failed: bool,
}

impl Counting {
    fn new() -> Self {
        Self {
            counter: ConnectionCounter::new(),
            due_at: Duration::ZERO,
            failed: false,
        }
    }

    fn count_if_due(&mut self, pulse: &Pulse, news: &News) {
        let begun = clock::since_boot();
        if begun < self.due_at {
            return;
        }
        let counted = self.counter.established();
        let took = clock::since_boot().saturating_sub(begun);
        self.due_at = begun + interval(took);
        pulse.set_connections(counted.as_ref().ok().copied());
        match counted {
            Ok(_) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    news.say(not_counted(&error));
                }
            }
        }
    }
}

fn not_counted(error: &NetlinkError) -> Notice {
    Notice::Degraded(format!("{error}; the number of connections is not told"))
}

/// How long to wait from one count to the next when one takes `took`.
fn interval(took: Duration) -> Duration {
    (took * COUNT_SHARE).clamp(COUNT_EVERY, COUNT_SELDOM)
}

/// What the service manager has been told.
struct Manager {
    ready: bool,
    watchdog: Option<Watchdog>,
    status: Told,
    failed: bool,
}

/// The last status that was told, and when.
#[derive(Default)]
struct Told {
    at: Option<Duration>,
    facts: Facts,
    watched: Vec<bool>,
}

impl Manager {
    fn new(patience: Option<Duration>) -> Self {
        Self {
            ready: false,
            watchdog: patience.map(Watchdog::new),
            status: Told::default(),
            failed: false,
        }
    }

    /// How often it must be looked after: no sign of life may come much later than it is due.
    fn tick(&self) -> Duration {
        self.watchdog.map_or(TICK, |watchdog| {
            (watchdog.interval() / 4).clamp(Duration::from_millis(10), TICK)
        })
    }

    fn tell(&mut self, notifier: &Notifier, pulse: &Pulse, links: &Links, news: &News) {
        let (now, beats) = (clock::since_boot(), pulse.beats());
        let mut told = Ok(());
        // Packets are watched when the first window was judged. The manager waits for it: told until it is heard.
        if !self.ready && beats > 0 {
            told = notifier.ready();
            self.ready = told.is_ok();
        }
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.is_due(now, beats)
        {
            told = told.and(notifier.alive());
        }
        if self.ready {
            told = told.and(
                self.status
                    .tell(now, notifier, &pulse.facts(), &links.vitals()),
            );
        }
        match told {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    news.say(Notice::Degraded(error.to_string()));
                }
            }
        }
    }
}

impl Told {
    fn tell(
        &mut self,
        now: Duration,
        notifier: &Notifier,
        facts: &Facts,
        links: &[LinkVitals],
    ) -> Result<(), NotifyError> {
        let watched: Vec<bool> = links.iter().map(|link| link.watched).collect();
        let waited = self
            .at
            .is_none_or(|at| now.saturating_sub(at) >= STATUS_EVERY);
        if !waited && watched == self.watched && !Status::is_news(facts, &self.facts) {
            return Ok(());
        }
        self.at = Some(now);
        self.facts = facts.clone();
        self.watched = watched;
        notifier.status(&Status { facts, links }.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;
    use crate::agent::notify::NotifySettings;

    #[test]
    fn counting_takes_a_thousandth_of_the_time_at_most_once_it_is_slow() {
        let (micros, seconds) = (Duration::from_micros, Duration::from_secs);
        assert_eq!(interval(micros(500)), seconds(1));
        assert_eq!(interval(micros(1_000)), seconds(1));
        assert_eq!(interval(micros(5_000)), seconds(5));
        assert_eq!(interval(micros(40_000)), seconds(40));
        assert_eq!(interval(micros(500_000)), seconds(60));
        assert_eq!(interval(seconds(100)), seconds(60));
    }

    #[test]
    fn the_status_is_told_every_five_seconds_and_when_an_interface_is_lost() {
        let notifier = Notifier::nobody();
        let facts = Facts::default();
        let mut link = LinkVitals {
            name: "eth0".to_owned(),
            watched: true,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let mut status = Told::default();
        let mut told_at = Vec::new();
        for quarter in 0..60 {
            let now = Duration::from_millis(quarter * 250);
            link.watched = !(10..14).contains(&quarter);
            link.rx_bytes += 1;
            let before = status.at;
            let links = std::slice::from_ref(&link);
            status.tell(now, &notifier, &facts, links).unwrap();
            if status.at != before {
                told_at.push(quarter);
            }
        }
        assert_eq!(told_at, [0, 10, 14, 34, 54]);
    }

    /// Messages of one kind that the manager at `socket` hears while the detector does or does not move.
    fn alive(
        socket: &UnixDatagram,
        manager: &mut Manager,
        notifier: &Notifier,
        pulse: &Pulse,
        moves: bool,
    ) -> usize {
        let (news, _said) = News::new();
        let links = Links::new([]);
        let end = clock::since_boot() + Duration::from_millis(200);
        while clock::since_boot() < end {
            if moves {
                pulse.beat();
            }
            manager.tell(notifier, pulse, &links, &news);
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut heard = 0;
        let mut message = [0; 256];
        while let Ok(length) = socket.recv(&mut message) {
            heard += usize::from(message[..length].starts_with(b"WATCHDOG=1"));
        }
        heard
    }

    #[test]
    fn a_detector_that_stands_still_is_not_called_alive_though_this_thread_goes_on() {
        let name = format!("ftagent-test-host-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let settings = NotifySettings {
            socket: Some(format!("@{name}").into()),
            // Half of it is 80 ms: a few messages at once fit into the socket.
            watchdog: Some(Duration::from_millis(160)),
        };
        let notifier = Notifier::new(&settings).unwrap();
        let pulse = Pulse::new();
        let mut manager = Manager::new(settings.watchdog);
        let mut hears = |moves| alive(&socket, &mut manager, &notifier, &pulse, moves);
        assert_eq!(hears(false), 0, "it has not begun");
        assert!(hears(true) >= 1);
        // What it did before is told once more, then nothing.
        assert!(hears(false) <= 1);
        assert_eq!(hears(false), 0);
        assert!(hears(true) >= 1);
    }

    #[test]
    fn a_short_patience_makes_short_ticks() {
        let tick = |patience| Manager::new(patience).tick();
        assert_eq!(tick(None), TICK);
        assert_eq!(tick(Some(Duration::from_secs(30))), TICK);
        assert_eq!(
            tick(Some(Duration::from_millis(400))),
            Duration::from_millis(50)
        );
        assert_eq!(tick(Some(Duration::ZERO)), Duration::from_millis(10));
    }
}
