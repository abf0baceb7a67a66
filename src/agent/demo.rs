//! The whole agent in one process with a platform of its own: a recording, played in real time, through classifier,
//! meter and engine to the ledger and over the wire.
//!
//! What the live agent spreads over threads runs here on the caller's, in the same order; ledger, uplink and platform
//! have theirs. Nothing is opened but a port on the loopback interface: it needs no rights, no account and no network.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::telling;
use crate::capture::replay::CaptureReader;
use crate::capture::{Capture, CaptureError, Frame, PacketSource};
use crate::classify::{self, Classifier, Vantage};
use crate::clock::{self, Timestamp};
use crate::count::{self, Meter, Window, WindowIndex};
use crate::demo::platform::{self, Call, Endpoint, Platform, PlatformError, Received, Serves};
use crate::demo::{self, Player};
use crate::engine::{self, Engine, Outcome};
use crate::incident::Event;
use crate::ledger::{self, Ledger, LedgerError};
use crate::uplink::{
    self, ApiKey, Budgets, Cadence, Contract, KeyError, PlatformValues, Rate, Uplink, UplinkError,
};

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub struct DemoSettings {
    /// How many times faster than it happened; at least 1.
    pub speed: u32,
}

/// Something to tell whoever watches.
#[derive(Debug)]
pub enum Moment<'a> {
    /// The platform is there; its address, and how long the recording is.
    Ready {
        /// Where its API begins.
        base: &'a str,
        /// How long the recording is, at its own speed.
        length: Duration,
    },
    /// The agent took over what the platform wants of it.
    Configured(&'a PlatformValues),
    /// What the engine found.
    Found(Box<Outcome>),
    /// What arrived at the platform, and for the opening of an incident how long after it was recognised.
    Heard(&'a Received, Option<Duration>),
}

/// What it amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DemoSummary {
    /// Frames played.
    pub packets: u64,
    /// Seconds told.
    pub seconds: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// Whether all of the recording was played.
    pub is_whole: bool,
    /// From recognising the incident to its request at the platform.
    pub told_after: Option<Duration>,
    /// Heartbeats that the platform received.
    pub heartbeats: u64,
    /// Samples that it received.
    pub samples: u64,
    /// Openings and updates of incidents that it received.
    pub incident_calls: u64,
    /// How often it was asked for its configuration.
    pub config_calls: u64,
    /// Requests that it found something wrong with.
    pub refused: u64,
}

/// Why it could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// There is no ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The platform's key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The recording is damaged.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

/// How long the first answer of the platform is waited for, so that its limit is in force from the first packet on.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// How long the rest may take to be told at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A pause while waiting for an answer: unnoticeable.
const MOMENT: Duration = Duration::from_millis(10);

/// Shows it all until the recording ends or `interrupted` says so. `watch` hears of each moment, on this thread.
///
/// # Errors
///
/// When the system gives no port or thread, or the recording that ships with the program is damaged.
pub fn demo(
    settings: DemoSettings,
    interrupted: &AtomicBool,
    watch: &mut dyn FnMut(Duration, Moment<'_>),
) -> Result<DemoSummary, DemoError> {
    let length = length()?;
    let speed = settings.speed.max(1);
    // At N times the speed labels run ahead; they start so early that the last one is now.
    let early = length - length / speed;
    let starts_at = Timestamp::from_nanos(clock::now().as_nanos().saturating_sub(nanos(early)));

    let node = platform::Settings {
        serves: Serves::Seed,
        config: demo::node_config(),
        ..platform::Settings::default()
    };
    let key = ApiKey::new(&node.key)?;
    let node_uuid = node.node_uuid.clone();
    let platform = Platform::start(node)?;
    let (ledger, _) = Ledger::open(ledger::Settings::default())?;
    let settings_of_uplink = uplink::Settings {
        contract: Contract::Seed,
        cadence: cadence(speed, early),
        budgets: budgets(speed),
        ..uplink::Settings::new(platform.base(), key, node_uuid)
    };
    let (vitals, vitals_told) = watch::channel(uplink::Vitals::default());
    let (uplink, values) = Uplink::start(settings_of_uplink, ledger.clone(), vitals_told)?;

    watch(
        Duration::ZERO,
        Moment::Ready {
            base: platform.base(),
            length,
        },
    );
    let mut show = Show {
        platform: &platform,
        ledger: &ledger,
        vitals,
        values,
        engine: Engine::new(engine::Settings::default(), None),
        watch,
        began: clock::monotonic(),
        starts_at,
        reached: starts_at,
        heard: 0,
        opened_at: None,
        summary: DemoSummary::default(),
    };
    show.await_configuration(interrupted);
    show.play(settings, interrupted)?;
    uplink.stop(LAST_WORDS);
    show.listen();
    let summary = show.summary;
    ledger.close(LAST_WORDS);
    platform.stop();
    Ok(summary)
}

/// What plays and watches at once.
struct Show<'a> {
    platform: &'a Platform,
    ledger: &'a Ledger,
    vitals: watch::Sender<uplink::Vitals>,
    values: watch::Receiver<Option<PlatformValues>>,
    engine: Engine,
    watch: &'a mut dyn FnMut(Duration, Moment<'_>),
    began: Instant,
    starts_at: Timestamp,
    reached: Timestamp,
    /// How many of the platform's records were seen.
    heard: u64,
    /// When an incident was recognised that the platform has not heard of.
    opened_at: Option<Instant>,
    summary: DemoSummary,
}

impl Show<'_> {
    /// Waits until the platform has answered, so that its limit is in force from the first packet on.
    fn await_configuration(&mut self, interrupted: &AtomicBool) {
        while self.values.borrow().is_none()
            && self.began.elapsed() < FIRST_ANSWER
            && !interrupted.load(Ordering::Relaxed)
        {
            std::thread::sleep(MOMENT);
        }
        self.listen();
    }

    /// Plays the recording: frames into windows, windows through the engine.
    fn play(&mut self, settings: DemoSettings, interrupted: &AtomicBool) -> Result<(), DemoError> {
        let classifier = Classifier::new(classify::Settings {
            vantage: Vantage::Hosts(vec![demo::HOST.into()]),
            tunnel_peers: Vec::new(),
        });
        let mut player = Player::new(recording()?, settings.speed, self.starts_at);
        let mut windows = Windows::new(self.starts_at);
        while !interrupted.load(Ordering::Relaxed) {
            match player.next()? {
                Capture::Frame(frame) => {
                    self.summary.packets += 1;
                    windows.advance(frame.at, |window| self.step(window));
                    windows.count(&classifier, &frame);
                }
                Capture::Idle => {
                    let reached = player.reached();
                    windows.advance(reached, |window| self.step(window));
                    self.listen();
                }
                Capture::End => {
                    self.summary.is_whole = true;
                    break;
                }
            }
        }
        windows.finish(|window| self.step(window));
        let last = self.engine.finish();
        self.found(last);
        Ok(())
    }

    fn step(&mut self, window: &Window) {
        let end = window.index.end();
        self.reached = self.reached.max(end);
        let outcome = self.engine.step(window, None, end);
        self.found(outcome);
        self.listen();
    }

    /// Hands on what the engine found, as the detector's thread does in the live agent.
    fn found(&mut self, outcome: Outcome) {
        for event in &outcome.events {
            if let Event::Opened(_) = event {
                self.summary.incidents += 1;
                self.opened_at = Some(clock::monotonic());
            }
            telling::tell_event(self.ledger, event);
        }
        if let Some(second) = &outcome.second {
            self.summary.seconds += 1;
            let vitals = self.engine.vitals();
            // A recording has no sockets that could be counted.
            self.ledger.second(telling::sample(second, 0, &vitals));
            let uptime_seconds = self.began.elapsed().as_secs();
            self.vitals
                .send_replace(telling::vitals(Some(&vitals), Vec::new(), uptime_seconds));
        }
        if outcome.second.is_some() || !outcome.events.is_empty() {
            self.tell(Moment::Found(Box::new(outcome)));
        }
    }

    /// Takes over what the platform wants, and tells what it has heard.
    fn listen(&mut self) {
        if self.values.has_changed().unwrap_or(false) {
            let values = self.values.borrow_and_update().clone();
            if let Some(values) = values {
                self.engine.set_platform(telling::platform_limits(&values));
                self.tell(Moment::Configured(&values));
            }
        }
        for received in self.platform.recorded_since(self.heard) {
            self.heard = received.number + 1;
            let after = self.note(&received);
            self.tell(Moment::Heard(&received, after));
        }
    }

    /// Adds to the summary; for an incident that is news to the platform, says how old it is.
    fn note(&mut self, received: &Received) -> Option<Duration> {
        let summary = &mut self.summary;
        summary.refused += u64::from(!received.violations.is_empty());
        match received.endpoint {
            Endpoint::Heartbeat => summary.heartbeats += 1,
            Endpoint::Metrics => summary.samples += 1,
            Endpoint::Config => summary.config_calls += 1,
            Endpoint::Incident => summary.incident_calls += 1,
            _ => {}
        }
        let is_incident = matches!(received.call, Call::Incident(_));
        let opened_at = self.opened_at.take_if(|_| is_incident)?;
        let after = received.at.saturating_duration_since(opened_at);
        summary.told_after = Some(summary.told_after.map_or(after, |most| most.max(after)));
        Some(after)
    }

    /// Tells whoever watches, with how much of the recording was played, in its own time.
    fn tell(&mut self, moment: Moment<'_>) {
        let played = Duration::from_nanos(self.reached.nanos_since(self.starts_at));
        (self.watch)(played, moment);
    }
}

/// The window that is open, and one to open next.
struct Windows {
    meter: Meter,
    spare: Option<Box<Window>>,
    seed: u64,
}

impl Windows {
    fn new(starts_at: Timestamp) -> Self {
        // Nobody chooses addresses of a recording that is made: the usual seed will do.
        let settings = count::Settings::default();
        Self {
            seed: settings.seed,
            meter: Meter::new(settings, WindowIndex::of(starts_at)),
            spare: None,
        }
    }

    /// Closes windows until the one that `at` falls into is open.
    fn advance(&mut self, at: Timestamp, mut closed: impl FnMut(&Window)) {
        let target = WindowIndex::of(at);
        while self.meter.open() < target {
            self.close(&mut closed);
        }
    }

    fn finish(mut self, mut closed: impl FnMut(&Window)) {
        self.close(&mut closed);
    }

    fn close(&mut self, closed: &mut impl FnMut(&Window)) {
        let next = self.meter.open().next();
        let seed = self.seed;
        let spare = self.spare.take();
        let spare = spare.unwrap_or_else(|| Box::new(Window::new(next, seed)));
        let window = self.meter.close(next, spare);
        closed(&window);
        self.spare = Some(window);
    }

    fn count(&mut self, classifier: &Classifier, frame: &Frame<'_>) {
        match &classifier.classify(frame) {
            Ok(sample) => self.meter.count(sample),
            Err(reason) => self.meter.refuse(frame.at, *reason),
        }
    }
}

/// The contract's own cadence, except that labels which run ahead are no backlog.
fn cadence(speed: u32, early: Duration) -> Cadence {
    let usual = Cadence::default();
    Cadence {
        config_in_incident: usual.config_in_incident / speed,
        heartbeat: usual.heartbeat / speed,
        live: usual.live + early,
        ..usual
    }
}

/// As many requests more as time passes faster.
fn budgets(speed: u32) -> Budgets {
    let usual = Budgets::default();
    let more = |rate: Rate| Rate {
        per_minute: rate.per_minute.saturating_mul(speed),
        burst: rate.burst.saturating_mul(speed),
    };
    Budgets {
        heartbeat: more(usual.heartbeat),
        config: more(usual.config),
        metrics: more(usual.metrics),
        backlog: more(usual.backlog),
        incident: more(usual.incident),
        ack: more(usual.ack),
    }
}

fn recording() -> Result<CaptureReader<&'static [u8]>, CaptureError> {
    CaptureReader::new(demo::RECORDING, "the demonstration's recording")
}

/// From the recording's first frame to its last.
fn length() -> Result<Duration, CaptureError> {
    let mut source = recording()?;
    let mut first = None;
    let mut last = Timestamp::default();
    while let Capture::Frame(frame) = source.next()? {
        first.get_or_insert(frame.at);
        last = last.max(frame.at);
    }
    Ok(Duration::from_nanos(
        last.nanos_since(first.unwrap_or(last)),
    ))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
