//! The whole agent: interfaces, ledger and platform, put together from one configuration.
//!
//! Owned by the main thread, which waits here for signals, carries what the platform wants to the detector and what the
//! engine knows about itself to the uplink, and at the end stops everything from left to right. It does no work of its
//! own: whatever takes time has a thread.

use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::live::{Earlier, Live, LiveError, LiveSettings, Order, Signals, Sink};
use super::notify::NotifySettings;
use super::telling::{platform_limits, vitals_of};
use crate::capture::nic::Interface;
use crate::clock;
use crate::config::{Change, Config, ConfigErrors, Key};
use crate::count;
use crate::detect::limits::Limits;
use crate::ledger::{Ledger, LedgerError};
use crate::uplink::{self, PlatformValues, Uplink, UplinkError};

/// How often the main thread looks whether something is to be done.
const ATTENTION: Duration = Duration::from_millis(50);

/// How often the uplink hears how the agent is.
const VITALS_EVERY: Duration = Duration::from_secs(1);

/// How long what waits is still told at the end, and how long the ledger may take to write. With the second that the
/// threads have to end, SIGTERM to exit stays below 3 s.
const FAREWELL: Duration = Duration::from_millis(1_000);
const LAST_WRITE: Duration = Duration::from_millis(600);

/// What of the configuration the uplink is made from.
const OF_THE_UPLINK: [Key; 7] = [
    Key::ApiKey,
    Key::NodeUuid,
    Key::ApiBase,
    Key::Contract,
    Key::AllowHttp,
    Key::HeartbeatSeconds,
    Key::MetricsSeconds,
];

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Capture or its threads.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The state directory.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The platform's address or credentials.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
}

/// A running agent.
#[derive(Debug)]
pub struct Service {
    config: Config,
    notices: Vec<String>,
    live: Live,
    ledger: Ledger,
    platform: Option<Platform>,
    started: Duration,
}

/// The uplink and what passes between it and the detector.
#[derive(Debug)]
struct Platform {
    uplink: Uplink,
    vitals: watch::Sender<uplink::Vitals>,
    values: watch::Receiver<Option<PlatformValues>>,
    /// Limits that the detector has not taken yet.
    owed: Option<Order>,
}

impl Service {
    /// Opens the ledger and the interfaces, starts every thread, and begins to tell the platform where there is one.
    /// `seed` keys the hash tables; `sink` hears what the engine finds, on the detector's thread.
    ///
    /// # Errors
    ///
    /// When the state directory, an interface or the platform's address cannot be used, or the system refuses a thread.
    pub fn start(config: Config, seed: u64, sink: Box<dyn Sink>) -> Result<Self, ServiceError> {
        let (ledger, found) = Ledger::open(config.ledger())?;
        let mut notices = found.notices;
        let known = found.platform.as_deref().and_then(remembered);
        let settings = LiveSettings {
            interfaces: config.interfaces().to_vec(),
            count: count::Settings {
                seed,
                ..count::Settings::default()
            },
            engine: config.engine(seed),
            earlier: Earlier {
                baseline: found.baseline,
                over: found.over,
                open: found.open,
                // What a platform said once is not in force for somebody who works without one.
                platform: known
                    .filter(|_| !config.is_local())
                    .as_ref()
                    .map(platform_limits)
                    .unwrap_or_default(),
            },
            is_resumed: config.state_dir().is_some(),
            notify: NotifySettings::from_environment(),
        };
        let live = Live::start(settings, ledger.clone(), sink)?;
        notices.extend(live.notices().iter().cloned());
        let platform = Platform::of(&config, &ledger, &live)?;
        Ok(Self {
            config,
            notices,
            live,
            ledger,
            platform,
            started: clock::since_boot(),
        })
    }

    /// What the operator should know about the start.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The interfaces that are watched, as they were at the start.
    #[must_use]
    pub fn watched(&self) -> &[Interface] {
        self.live.watched()
    }

    /// The limits in force at the start.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        self.live.limits()
    }

    /// Works until it is told to stop, then ends everything from left to right: capture, detector, uplink, ledger.
    pub fn run(mut self, signals: &Signals) {
        let mut told_at = None;
        while !signals.stop.load(Ordering::Relaxed) {
            if signals.reload.swap(false, Ordering::Relaxed) {
                self.reload();
            }
            let now = clock::since_boot();
            if told_at.is_none_or(|at| now.saturating_sub(at) >= VITALS_EVERY) {
                told_at = Some(now);
                self.tell_vitals(now);
            }
            if let Some(platform) = &mut self.platform {
                platform.pass_on(&self.live);
            }
            thread::sleep(ATTENTION);
        }
        self.live.stop();
        if let Some(platform) = self.platform {
            platform.uplink.stop(FAREWELL);
        }
        self.ledger.close(LAST_WRITE);
    }

    /// Reads the configuration again: takes it over as a whole, or keeps the old one.
    fn reload(&mut self) {
        // A service manager that cannot be told finds out by its own time-out.
        let _ = self.live.notifier().reloading();
        match self.config.reload() {
            Ok(reload) if reload.changes.is_empty() => {
                log::info!("configuration read again: nothing has changed");
            }
            Ok(reload) => {
                for change in &reload.changes {
                    log::info!("configuration: {change}");
                }
                self.config = reload.config;
                self.take_over(&reload.changes);
            }
            Err(errors) => refuse(&errors),
        }
        let _ = self.live.notifier().ready();
    }

    fn take_over(&mut self, changes: &[Change]) {
        log::set_max_level(self.config.log_level());
        let changed = |keys: &[Key]| changes.iter().any(|change| keys.contains(&change.key));
        if changed(&[Key::PpsThreshold, Key::BpsThreshold])
            && !self.live.order(Order::Limits(self.config.local_limits()))
        {
            log::error!("the detector takes no new limits; the old ones stay in force");
        }
        if !changed(&OF_THE_UPLINK) {
            return;
        }
        // Two would tell everything twice.
        if let Some(old) = self.platform.take() {
            old.uplink.stop(Duration::ZERO);
        }
        match Platform::of(&self.config, &self.ledger, &self.live) {
            Ok(platform) => self.platform = platform,
            Err(error) => {
                log::error!("{error}; nothing is told to the platform until this is mended")
            }
        }
    }

    fn tell_vitals(&self, now: Duration) {
        let Some(platform) = &self.platform else {
            return;
        };
        let uptime_seconds = now.saturating_sub(self.started).as_secs();
        platform
            .vitals
            .send_replace(vitals_of(self.live.gauges(), uptime_seconds));
    }
}

impl Platform {
    /// The uplink that the configuration asks for, started; none in local mode.
    fn of(config: &Config, ledger: &Ledger, live: &Live) -> Result<Option<Self>, UplinkError> {
        let Some(mut settings) = config.uplink() else {
            return Ok(None);
        };
        settings.os = operating_system();
        let (vitals, read) = watch::channel(vitals_of(live.gauges(), 0));
        let (uplink, values) = Uplink::start(settings, ledger.clone(), read)?;
        Ok(Some(Self {
            uplink,
            vitals,
            values,
            owed: None,
        }))
    }

    /// Carries what the platform wants to the detector.
    fn pass_on(&mut self, live: &Live) {
        // A sender that has gone changes nothing any more.
        if self.values.has_changed().unwrap_or(false)
            && let Some(values) = self.values.borrow_and_update().as_ref()
        {
            self.owed = Some(Order::Platform(platform_limits(values)));
        }
        if let Some(order) = self.owed
            && live.order(order)
        {
            self.owed = None;
        }
    }
}

/// What the platform said last, as the uplink stored it.
fn remembered(stored: &str) -> Option<PlatformValues> {
    // One of another version is asked for again within seconds.
    serde_json::from_str(stored).ok()
}

fn refuse(errors: &ConfigErrors) {
    log::error!("the configuration has mistakes; the old one stays in force:");
    for line in errors.to_string().lines() {
        log::error!("{line}");
    }
}

/// Longest name of an operating system that is told; the platform's own examples have a dozen characters.
const OS_CHARS: usize = 64;

/// The operating system's name for people, such as `Debian GNU/Linux 12 (bookworm)`.
fn operating_system() -> String {
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok());
    release
        .as_deref()
        .and_then(pretty_name)
        .unwrap_or_else(|| "Linux".to_owned())
}

/// `PRETTY_NAME` of an os-release file (freedesktop.org's format), without its quotes.
fn pretty_name(release: &str) -> Option<String> {
    let value = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name: String = value
        .trim_matches(['"', '\''])
        .chars()
        .filter(|character| !character.is_control())
        .take(OS_CHARS)
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_system_is_told_by_its_pretty_name() {
        let release = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let name = pretty_name(release);
        assert_eq!(name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(
            pretty_name("PRETTY_NAME=Alpine\n").as_deref(),
            Some("Alpine")
        );
        assert_eq!(pretty_name("PRETTY_NAME=\"\"\nID=x\n"), None);
        assert_eq!(pretty_name("ID=x\n"), None);
        let long = format!("PRETTY_NAME={}\n", "x".repeat(1_000));
        assert_eq!(pretty_name(&long).map(|name| name.len()), Some(OS_CHARS));
    }
}
