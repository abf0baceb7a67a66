//! Everything that status is told from: the ledger, the configuration, and what time it is.
//!
//! Gathered once, on the command's thread; what is made of it is pure. Nothing is written and nothing is asked of anybody.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::{Exit, Failure};
use crate::clock::Timestamp;
use crate::config::{Config, ConfigErrors, Key, Options, Origin, Sources, Value};
use crate::detect::baseline::{self, Baseline, Series};
use crate::incident::Report;
use crate::ledger::{self, LedgerError, Sample, View};
use crate::uplink::{Cadence, PlatformValues, State};
use crate::words::{Duration, Thousands};

/// Where the packaged service keeps its state.
const USUAL_STATE: &str = "/var/lib/ftagent";

/// Longest name of a host that is shown; the kernel's own limit.
const HOST_CHARS: usize = 64;

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) now: Timestamp,
    /// This host's name.
    pub(super) host: String,
    /// The state directory.
    pub(super) dir: PathBuf,
    /// What the ledger holds; without one, no agent has worked there.
    pub(super) view: Option<View>,
    /// How it stands with the platform.
    pub(super) uplink: Option<State>,
    /// What the platform wants of this node.
    pub(super) platform: Option<PlatformValues>,
    /// What was learned here.
    pub(super) learned: Normal,
    /// The configuration, where it can be read.
    pub(super) config: Option<Config>,
    /// Why it cannot: what the agent does once it has to read it again.
    pub(super) mistakes: Option<String>,
}

/// What is normal, in packets a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Normal {
    pub(super) p99_pps: Option<u64>,
    pub(super) mean_pps: Option<u64>,
}

/// A limit in packets a second and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Threshold {
    pub(super) pps: u64,
    pub(super) origin: String,
}

impl Facts {
    /// Looks at the state directory that is named, configured or usual.
    pub(super) fn gather(
        file: Option<PathBuf>,
        state_dir: Option<PathBuf>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let is_named = file.is_some();
        let (config, mistakes) = match load(file, state_dir.clone()) {
            Ok(config) => (Some(config), None),
            Err(errors) if is_named => return Err(errors.into()),
            // Whoever may look at the state need not be allowed to read keys.
            Err(errors) if errors.are_permissions() => (None, None),
            // A typo made this afternoon must not hide tonight's attack.
            Err(errors) => (None, Some(mistakes(&errors))),
        };
        let configured = config.as_ref().and_then(Config::state_dir);
        let usual = Path::new(USUAL_STATE);
        let dir = state_dir
            .or_else(|| configured.map(Path::to_path_buf))
            .or_else(|| usual.is_dir().then(|| usual.to_path_buf()))
            .ok_or_else(nothing_kept)?;
        let view = look(&dir)?;
        let is_local = config.as_ref().is_some_and(Config::is_local);
        // What a platform said once is not in force for somebody who works without one.
        let theirs = view.as_ref().filter(|_| !is_local);
        Ok(Self {
            now,
            host: host(),
            uplink: theirs
                .and_then(|view| view.uplink.as_deref())
                .and_then(|stored| serde_json::from_str(stored).ok()),
            platform: theirs
                .and_then(|view| view.platform.as_deref())
                .and_then(PlatformValues::remembered),
            learned: view
                .as_ref()
                .map_or_else(Normal::default, |view| learned(view, now)),
            dir,
            view,
            config,
            mistakes,
        })
    }

    /// Whether an agent works in the directory.
    pub(super) fn agent_runs(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.agent_runs)
    }

    /// The incident that is open.
    pub(super) fn open(&self) -> Option<&Report> {
        self.view.as_ref()?.open.as_ref()
    }

    /// The newest second, if it is of now.
    pub(super) fn current(&self) -> Option<&Sample> {
        let last = self.view.as_ref()?.last_sample.as_ref()?;
        (self.agent_runs() && !self.is_older(last.start, super::LATE_SECONDS)).then_some(last)
    }

    /// Whether the agent works without a platform. Where the configuration does not say, what it left does.
    pub(super) fn is_local(&self) -> bool {
        match &self.config {
            Some(config) => config.is_local(),
            None => self.uplink.is_none(),
        }
    }

    /// Time between two heartbeats: as configured, as far as that can be read.
    pub(super) fn heartbeat_seconds(&self) -> u64 {
        let configured = self.config.as_ref().map(Config::heartbeat);
        configured
            .unwrap_or_else(|| Cadence::default().heartbeat)
            .as_secs()
    }

    /// Whether the key may cross, or crosses, a network unencrypted.
    pub(super) fn is_exposed(&self) -> bool {
        let allowed = self.config.as_ref().is_some_and(|config| {
            let setting = config.setting(Key::AllowHttp);
            setting.is_some_and(|setting| setting.value == Value::Switch(true))
        });
        allowed || self.uplink.as_ref().is_some_and(|uplink| uplink.exposed)
    }

    /// What the platform calls this node.
    pub(super) fn node_uuid(&self) -> Option<String> {
        let config = self.config.as_ref().filter(|config| !config.is_local())?;
        let setting = config.setting(Key::NodeUuid)?;
        Some(setting.value.to_string())
    }

    /// The limit in packets a second: the one in force while the agent works, else the one that was set.
    pub(super) fn threshold(&self) -> Option<Threshold> {
        let config = self.config.as_ref();
        let set = config
            .and_then(|config| config.setting(Key::PpsThreshold))
            .filter(|setting| setting.origin != Origin::Default)
            .and_then(|setting| match setting.value {
                Value::Number(pps) => Some((pps, setting.origin.to_string())),
                _ => None,
            });
        let given = self.platform.as_ref().and_then(|it| it.pps_threshold);
        let given = given.map(|pps| (pps, Origin::Platform.to_string()));
        let known = set.or(given).map(|(pps, origin)| Threshold { pps, origin });
        let Some(current) = self.current() else {
            return known;
        };
        let pps = current.threshold_pps?;
        Some(match known {
            Some(known) if known.pps == pps => known,
            Some(known) => Threshold {
                pps,
                origin: format!("in force; not {} {}", Thousands(known.pps), known.origin),
            },
            None => Threshold {
                pps,
                origin: "learned, or set when the agent was started".to_owned(),
            },
        })
    }

    /// Whether `at` lies more than `seconds` back. What seems to be from the future is new: the clock stepped.
    pub(super) fn is_older(&self, at: Timestamp, seconds: u64) -> bool {
        self.now.nanos_since(at) > seconds.saturating_mul(Timestamp::NANOS_PER_SECOND)
    }

    /// How long ago `at` was.
    pub(super) fn ago(&self, at: Timestamp) -> Duration {
        Duration(self.now.millis_since(at))
    }
}

fn load(file: Option<PathBuf>, state_dir: Option<PathBuf>) -> Result<Config, ConfigErrors> {
    Config::load(Sources {
        file,
        options: Options {
            state_dir,
            ..Options::default()
        },
        ..Sources::of_this_host()
    })
}

/// What is wrong with the configuration, in a sentence.
fn mistakes(errors: &ConfigErrors) -> String {
    let text = errors.to_string();
    let first = text.lines().next().unwrap_or_default();
    format!("the configuration cannot be used: {first}; `ftagent check` says everything")
}

fn nothing_kept() -> Failure {
    Failure {
        message: format!(
            "nothing is kept here that the agent's status could be told from: there is no state directory in the \
             configuration and none at {USUAL_STATE}; name the agent's with --state-dir, or put one into the \
             configuration ([state] dir = \"{USUAL_STATE}\") and restart the agent"
        ),
        exit: Exit::Configuration,
    }
}

/// What the ledger holds; `None` when there is none.
fn look(dir: &Path) -> Result<Option<View>, Failure> {
    match ledger::view(dir) {
        Ok(view) => Ok(view),
        Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            Err(Failure {
                message: format!(
                    "{}: this user may not look into the state directory; run it as root or as the agent's user",
                    dir.display()
                ),
                exit: Exit::NotPermitted,
            })
        }
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}

/// What the stored baseline says is normal. One that cannot be used says nothing.
fn learned(view: &View, now: Timestamp) -> Normal {
    let stored = view.baseline.as_ref();
    let baseline = stored.and_then(|state| {
        let settings = baseline::Settings::default();
        Baseline::restore(settings, state, now.as_seconds()).ok()
    });
    baseline.map_or_else(Normal::default, |baseline| Normal {
        p99_pps: baseline.p99(Series::Pps),
        mean_pps: baseline.mean(Series::Pps),
    })
}

/// This host's name.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(HOST_CHARS)
        .collect();
    if name.is_empty() {
        "this host".to_owned()
    } else {
        name
    }
}
