//! What the operator wants: layers in, one checked [`Config`] out.
//!
//! Defaults, then what the platform said last, then files, then the environment, then the command line; a later layer
//! wins. Every value knows where it comes from, and everything that is wrong is told at once. Rooms define their own
//! settings with their own defaults; this room fills them, and no room knows it.
//!
//! Called by `main` at start, on SIGHUP, and by the commands that look at the configuration. It reads files and never
//! writes one. It must never print, log or repeat a key.

mod change;
mod config_json;
mod environment;
mod file;
mod files;
mod ftagent_toml;
mod key;
mod layers;
mod lines;
mod near;
mod origin;
mod problem;
mod together;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;

use crate::detect::limits::{self, LocalLimits, SetBy, SetLimit};
use crate::engine;
use crate::ledger;
use crate::uplink::{self, ApiKey, Contract};
use files::Files;
use layers::{API_BASE, Layers};

pub use change::{Change, Reload};
pub use environment::Environment;
pub use key::{Key, Takes};
pub use origin::{Origin, Setting};
pub use problem::{ConfigErrors, Problem};
pub use value::Value;

/// Where the configuration is looked for when nobody names a file.
const FOLDER: &str = "/etc/ftagent";

/// Where the layers come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// Where to look without one.
    pub folder: PathBuf,
    /// The environment variables.
    pub environment: Environment,
    /// The command line.
    pub options: Options,
    /// The packet limit that the platform last gave for this node, where it gave one.
    pub platform_pps_threshold: Option<u64>,
}

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--interface`, as often as given.
    pub interfaces: Vec<String>,
    /// `--threshold-pps`.
    pub pps_threshold: Option<u64>,
    /// `--threshold-bps`.
    pub bps_threshold: Option<u64>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--local`: credentials do not count.
    pub local: bool,
}

impl Sources {
    /// This host's: `/etc/ftagent`, and the environment of this process.
    #[must_use]
    pub fn of_this_host() -> Self {
        Self {
            file: None,
            folder: PathBuf::from(FOLDER),
            environment: Environment::of_this_process(),
            options: Options::default(),
            platform_pps_threshold: None,
        }
    }
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Config {
    values: BTreeMap<Key, Setting>,
    files: Vec<PathBuf>,
    notices: Vec<String>,
    sources: Sources,
}

impl Config {
    /// Reads all layers and checks what they come to.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any layer or with the whole.
    pub fn load(sources: Sources) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        layers.put_defaults();
        if let Some(pps) = sources.platform_pps_threshold.filter(|pps| *pps > 0) {
            layers.set(Key::PpsThreshold, Value::Number(pps), Origin::Platform);
        }
        sources.environment.apply_state_directory(&mut layers);
        let files = Files::read(&sources, &mut layers);
        sources.environment.apply_credential(&mut layers);
        sources.environment.apply(&mut layers);
        layers.put_options(&sources.options);
        together::check(&mut layers, files.are_broken, sources.options.local);
        Self::of(layers, files.read, sources)
    }

    /// What a file of that name with that text comes to by itself, without environment, command line and disk.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn of_text(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        layers.put_defaults();
        let mut files = Files::default();
        files.add_text(&Arc::new(path.to_owned()), text, &mut layers);
        together::check(&mut layers, files.are_broken, false);
        let sources = Sources {
            file: Some(path.to_owned()),
            folder: PathBuf::new(),
            environment: Environment::default(),
            options: Options::default(),
            platform_pps_threshold: None,
        };
        Self::of(layers, files.read, sources)
    }

    /// What the layers come to, if nothing is wrong.
    fn of(mut layers: Layers, files: Vec<PathBuf>, sources: Sources) -> Result<Self, ConfigErrors> {
        if !layers.problems.is_empty() {
            return Err(ConfigErrors::new(layers.problems));
        }
        let notices = std::mem::take(&mut layers.notices);
        Ok(Self {
            values: layers.into_values(),
            files,
            notices,
            sources,
        })
    }

    /// The value of a setting and where it comes from; `None` where nobody set it and [`Key::unset`] says what holds.
    #[must_use]
    pub fn setting(&self, key: Key) -> Option<&Setting> {
        self.values.get(&key)
    }

    /// The files that were read, in the order of their layers.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What the operator should know; to be said once.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Whether the agent works without a platform: it has no credentials, or was told not to use them.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.sources.options.local || self.setting(Key::ApiKey).is_none()
    }

    /// The interfaces to watch; none stands for the one with the default route.
    #[must_use]
    pub fn interfaces(&self) -> &[String] {
        match self.value(Key::Interfaces) {
            Some(Value::Names(names)) => names,
            _ => &[],
        }
    }

    /// The directory that state is kept in; `None` keeps nothing.
    #[must_use]
    pub fn state_dir(&self) -> Option<&Path> {
        match self.value(Key::StateDir) {
            Some(Value::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// What is worth a line in the log.
    #[must_use]
    pub fn log_level(&self) -> LevelFilter {
        match self.value(Key::LogLevel) {
            Some(Value::Choice("error")) => LevelFilter::Error,
            Some(Value::Choice("warning")) => LevelFilter::Warn,
            Some(Value::Choice("debug")) => LevelFilter::Debug,
            _ => LevelFilter::Info,
        }
    }

    /// The token that nodes are registered with.
    #[must_use]
    pub fn deploy_token(&self) -> Option<&ApiKey> {
        match self.value(Key::DeployToken) {
            Some(Value::Secret(token)) => Some(token),
            _ => None,
        }
    }

    /// Where the platform is.
    #[must_use]
    pub fn api_base(&self) -> &str {
        match self.value(Key::ApiBase) {
            Some(Value::Text(base)) => base,
            _ => API_BASE,
        }
    }

    /// Who we are to the platform; `None` in local mode. What it is told of this host is for the agent to fill in.
    #[must_use]
    pub fn uplink(&self) -> Option<uplink::Settings> {
        let (Some(Value::Secret(key)), Some(Value::Text(node))) = (
            self.value(Key::ApiKey).filter(|_| !self.is_local()),
            self.value(Key::NodeUuid),
        ) else {
            return None;
        };
        let mut settings = uplink::Settings::new(self.api_base(), key.clone(), node);
        settings.allow_http = self.value(Key::AllowHttp) == Some(&Value::Switch(true));
        settings.contract = match self.value(Key::Contract) {
            Some(Value::Choice("seed")) => Contract::Seed,
            Some(Value::Choice("resource")) => Contract::Resource,
            _ => Contract::Auto,
        };
        settings.cadence.heartbeat = self.heartbeat();
        if let Some(seconds) = self.number(Key::MetricsSeconds) {
            settings.cadence.aggregate = Duration::from_secs(seconds);
        }
        Some(settings)
    }

    /// Time between two heartbeats.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        let usual = uplink::Cadence::default().heartbeat;
        let set = self.number(Key::HeartbeatSeconds);
        set.map_or(usual, Duration::from_secs)
    }

    /// Where and how much is kept.
    #[must_use]
    pub fn ledger(&self) -> ledger::Settings {
        let mut settings = ledger::Settings {
            dir: self.state_dir().map(Path::to_path_buf),
            has_uplink: !self.is_local(),
            ..ledger::Settings::default()
        };
        self.fill(Key::QuotaMib, &mut settings.quota_bytes, 1 << 20);
        settings
    }

    /// The limits that the operator set. What the platform set is not among them: it comes and goes while the agent
    /// runs.
    #[must_use]
    pub fn local_limits(&self) -> LocalLimits {
        LocalLimits {
            pps: self.set_limit(Key::PpsThreshold),
            bps: self.set_limit(Key::BpsThreshold),
        }
    }

    /// How to detect and how incidents live. `seed` keys the hash tables.
    #[must_use]
    pub fn engine(&self, seed: u64) -> engine::Settings {
        let mut engine = engine::Settings::default();
        let local = self.local_limits();
        engine.detect.limits = limits::Settings {
            set_pps: local.pps,
            set_bps: local.bps,
            link_bps: self.number(Key::LinkBps),
            ..limits::Settings::default()
        };
        let limits = &mut engine.detect.limits;
        self.fill(Key::FloorPps, &mut limits.floor_pps, 1);
        self.fill(Key::FloorBps, &mut limits.floor_bps, 1);
        engine.detect.seed = seed;
        let baseline = &mut engine.detect.baseline;
        self.fill(Key::Multiplier, &mut baseline.multiplier_permille, 1);
        self.fill(
            Key::WarmUpMultiplier,
            &mut baseline.warm_up_multiplier_permille,
            1,
        );
        let incident = &mut engine.incident;
        incident.seed = seed;
        self.fill(Key::HoldSeconds, &mut incident.hold_millis, 1_000);
        self.fill(
            Key::LongestHoldSeconds,
            &mut incident.longest_hold_millis,
            1_000,
        );
        self.fill(Key::ReopenSeconds, &mut incident.reopen_millis, 1_000);
        self.fill(Key::UpdateSeconds, &mut incident.update_millis, 1_000);
        engine
    }

    fn value(&self, key: Key) -> Option<&Value> {
        self.setting(key).map(|setting| &setting.value)
    }

    /// A number; of a factor, its permille.
    fn number(&self, key: Key) -> Option<u64> {
        match self.value(key) {
            Some(Value::Number(number) | Value::Factor(number)) => Some(*number),
            _ => None,
        }
    }

    /// A limit that the operator set.
    fn set_limit(&self, key: Key) -> Option<SetLimit> {
        let setting = self.setting(key)?;
        let by = match setting.origin {
            Origin::Platform => return None,
            Origin::Option { .. } => SetBy::Local,
            _ => SetBy::Configuration,
        };
        self.number(key).map(|value| SetLimit { value, by })
    }

    /// Puts a number into a room's settings, where the unit is `times` smaller.
    fn fill(&self, key: Key, into: &mut u64, times: u64) {
        if let Some(number) = self.number(key) {
            *into = number.saturating_mul(times);
        }
    }
}
