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
mod ftagent_toml;
mod key;
mod layers;
mod lines;
mod near;
mod origin;
mod problem;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::LevelFilter;

use crate::detect::limits::{self, LocalLimits, SetBy, SetLimit};
use crate::engine;
use crate::ledger;
use crate::uplink::{self, ApiKey, Contract};
use layers::Layers;
use lines::Found;

pub use change::{Change, Reload};
pub use environment::Environment;
pub use key::{Key, Takes};
pub use origin::{Origin, Setting};
pub use problem::{ConfigErrors, Problem};
pub use value::Value;

/// Where the configuration is looked for when nobody names a file.
const FOLDER: &str = "/etc/ftagent";

/// Our file in it, the published agent's, and the folder beside either with more of ours.
const OUR_FILE: &str = "ftagent.toml";
const THEIR_FILE: &str = "config.json";
const MORE_FILES: &str = "conf.d";

/// The platform, as the published agent has it.
const API_BASE: &str = "https://flowtriq.com/api/v1";

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
        put_defaults(&mut layers);
        if let Some(pps) = sources.platform_pps_threshold.filter(|pps| *pps > 0) {
            layers.set(Key::PpsThreshold, Value::Number(pps), Origin::Platform);
        }
        sources.environment.apply_state_directory(&mut layers);
        let files = Files::read(&sources, &mut layers);
        sources.environment.apply_credential(&mut layers);
        sources.environment.apply(&mut layers);
        put_options(&sources.options, &mut layers);
        check_together(&mut layers, files.are_broken, sources.options.local);
        Self::of(layers, files.read, sources)
    }

    /// What a file of that name with that text comes to by itself, without environment, command line and disk.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn of_text(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        put_defaults(&mut layers);
        let mut files = Files::default();
        files.add_text(&Arc::new(path.to_owned()), text, &mut layers);
        check_together(&mut layers, files.are_broken, false);
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
        Some(settings)
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
        self.fill(Key::Multiplier, &mut baseline.multiplier, 1);
        self.fill(Key::WarmUpMultiplier, &mut baseline.warm_up_multiplier, 1);
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

    fn number(&self, key: Key) -> Option<u64> {
        match self.value(key) {
            Some(Value::Number(number)) => Some(*number),
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

/// The lowest layer: what the rooms do by themselves.
fn put_defaults(layers: &mut Layers) {
    let engine = engine::Settings::default();
    let (limits, baseline) = (&engine.detect.limits, &engine.detect.baseline);
    let incident = &engine.incident;
    for (key, value) in [
        (Key::ApiBase, Value::Text(API_BASE.to_owned())),
        (Key::Contract, Value::Choice("auto")),
        (Key::AllowHttp, Value::Switch(false)),
        (Key::FloorPps, Value::Number(limits.floor_pps)),
        (Key::FloorBps, Value::Number(limits.floor_bps)),
        (Key::Multiplier, Value::Number(baseline.multiplier)),
        (
            Key::WarmUpMultiplier,
            Value::Number(baseline.warm_up_multiplier),
        ),
        (
            Key::HoldSeconds,
            Value::Number(incident.hold_millis / 1_000),
        ),
        (
            Key::LongestHoldSeconds,
            Value::Number(incident.longest_hold_millis / 1_000),
        ),
        (
            Key::ReopenSeconds,
            Value::Number(incident.reopen_millis / 1_000),
        ),
        (
            Key::UpdateSeconds,
            Value::Number(incident.update_millis / 1_000),
        ),
        (
            Key::QuotaMib,
            Value::Number(ledger::Settings::default().quota_bytes >> 20),
        ),
        (Key::LogLevel, Value::Choice("info")),
    ] {
        layers.set(key, value, Origin::Default);
    }
}

/// The highest layer. Its values were checked where options are.
fn put_options(options: &Options, layers: &mut Layers) {
    let mut put = |key, value, name| layers.set(key, value, Origin::Option { name });
    if !options.interfaces.is_empty() {
        let names = Value::Names(options.interfaces.clone());
        put(Key::Interfaces, names, "--interface");
    }
    if let Some(pps) = options.pps_threshold {
        put(Key::PpsThreshold, Value::Number(pps), "--threshold-pps");
    }
    if let Some(bps) = options.bps_threshold {
        put(Key::BpsThreshold, Value::Number(bps), "--threshold-bps");
    }
    if let Some(dir) = &options.state_dir {
        put(Key::StateDir, Value::Path(dir.clone()), "--state-dir");
    }
}

/// The files' layers.
#[derive(Default)]
struct Files {
    read: Vec<PathBuf>,
    /// Whether something in them could not be read: what seems to be missing may stand there.
    are_broken: bool,
}

impl Files {
    fn read(sources: &Sources, layers: &mut Layers) -> Self {
        let mut files = Self::default();
        let named = sources.file.clone();
        match named.or_else(|| sources.environment.config()) {
            Some(named) => {
                if !files.add(&named, layers) {
                    files.are_broken = true;
                    layers.problems.push(Problem::File {
                        path: Arc::new(named.clone()),
                        reason: "no such file; name one that is there with --config".to_owned(),
                    });
                }
                let folder = named.parent().map(|folder| folder.join(MORE_FILES));
                files.add_all(folder.unwrap_or_default(), layers);
            }
            None => {
                let (ours, theirs) = (
                    sources.folder.join(OUR_FILE),
                    sources.folder.join(THEIR_FILE),
                );
                if !files.add(&ours, layers) {
                    files.add(&theirs, layers);
                } else if theirs.exists() {
                    layers.notices.push(format!(
                        "{}: is not read, because {} is there",
                        theirs.display(),
                        ours.display()
                    ));
                }
                files.add_all(sources.folder.join(MORE_FILES), layers);
            }
        }
        files
    }

    /// Everything in `conf.d`, by name.
    fn add_all(&mut self, folder: PathBuf, layers: &mut Layers) {
        match file::list(&Arc::new(folder)) {
            Ok(paths) => {
                for path in paths {
                    self.add(&path, layers);
                }
            }
            Err(problem) => {
                self.are_broken = true;
                layers.problems.push(problem);
            }
        }
    }

    /// One file, if it is there. Says whether it is, readable or not.
    fn add(&mut self, path: &Path, layers: &mut Layers) -> bool {
        let path = Arc::new(path.to_owned());
        let content = match file::read(&path) {
            Ok(Some(content)) => content,
            Ok(None) => return false,
            Err(problem) => {
                self.are_broken = true;
                layers.problems.push(problem);
                return true;
            }
        };
        let sets_key = self.add_text(&path, &content.text, layers);
        if sets_key {
            layers.problems.extend(content.exposure(&path));
        }
        true
    }

    /// What stands in a file. Says whether it is a key.
    fn add_text(&mut self, path: &Arc<PathBuf>, text: &str, layers: &mut Layers) -> bool {
        let found = parse(text, path);
        let sets_key = found.sets(Key::ApiKey);
        self.are_broken |= found.is_broken;
        found.apply(path, layers);
        self.read.push(path.to_path_buf());
        sets_key
    }
}

/// What a file says: the published agent's by its name's ending or its first character, which begins no TOML; else
/// ours.
fn parse(text: &str, path: &Arc<PathBuf>) -> Found {
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    if is_json || text.trim_start().starts_with('{') {
        config_json::read(text, path)
    } else {
        ftagent_toml::read(text, path)
    }
}

/// What no setting alone can say.
fn check_together(layers: &mut Layers, files_are_broken: bool, local: bool) {
    // What seems to be missing may stand where a file could not be read.
    if !local && !files_are_broken {
        check_credentials(layers);
        check_encryption(layers);
    }
    check_holds(layers);
}

/// Both credentials or none.
fn check_credentials(layers: &mut Layers) {
    let (key, uuid) = (layers.given(Key::ApiKey), layers.given(Key::NodeUuid));
    let problem = match (key, uuid) {
        (Some(origin), None) => Problem::HalfCredentials {
            missing: Key::NodeUuid,
            present: Key::ApiKey,
            origin: origin.clone(),
            cure: "the dashboard shows it on the node's settings page; put it into the file or into \
                   FLOWTRIQ_NODE_UUID, or work without a platform with --local",
        },
        (None, Some(origin)) => Problem::HalfCredentials {
            missing: Key::ApiKey,
            present: Key::NodeUuid,
            origin: origin.clone(),
            cure: "the dashboard shows it in its settings, under API keys; put it into the file or into \
                   FLOWTRIQ_API_KEY, or work without a platform with --local",
        },
        (Some(_), Some(_)) | (None, None) => return,
    };
    layers.problems.push(problem);
}

/// The key travels encrypted, or not far, or because somebody insists.
fn check_encryption(layers: &mut Layers) {
    let Some(Setting {
        value: Value::Text(base),
        origin,
    }) = layers.get(Key::ApiBase)
    else {
        return;
    };
    if !value::is_exposed(base) {
        return;
    }
    let (base, origin) = (base.clone(), origin.clone());
    match layers.get(Key::AllowHttp) {
        Some(Setting {
            value: Value::Switch(true),
            origin,
        }) => {
            let notice = format!(
                "api.allow_http: the API key travels unencrypted to {base} (allowed {origin})"
            );
            layers.notices.push(notice);
        }
        _ => layers.problems.push(Problem::Unencrypted { base, origin }),
    }
}

/// The hold grows from the first to the longest.
fn check_holds(layers: &mut Layers) {
    let number = |key| match layers.get(key) {
        Some(Setting {
            value: Value::Number(number),
            origin,
        }) => Some((*number, origin.clone())),
        _ => None,
    };
    let (Some((least, first)), Some((found, longest))) =
        (number(Key::HoldSeconds), number(Key::LongestHoldSeconds))
    else {
        return;
    };
    if found < least {
        // Whichever of the two somebody set is the one to look at.
        let origin = if longest == Origin::Default {
            first
        } else {
            longest
        };
        layers.problems.push(Problem::Below {
            key: Key::LongestHoldSeconds,
            other: Key::HoldSeconds,
            least,
            found,
            origin,
        });
    }
}
