//! `ftagent config show`: every setting, its value, and where that comes from. Secrets are masked.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;

use super::Failure;
use super::output::{SCHEMA, print};
use crate::config::{Config, Key, Origin, Setting, Sources, Value};
use crate::ledger;
use crate::uplink::PlatformValues;
use crate::words::Times;

/// What there is to do with the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting with its value and where that comes from, secrets masked
    Show(ShowArguments),
}

/// Arguments of `ftagent config show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArguments {
    /// Read this configuration file instead of /etc/ftagent/ftagent.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

impl ConfigCommand {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let Self::Show(show) = self;
        let config = load(show.config)?;
        print(&if show.json {
            json(&config)
        } else {
            lines(&config)
        })
    }
}

/// The configuration of this host, or what `file` makes of it, with what the platform last said as far as the ledger
/// remembers it.
pub(super) fn load(file: Option<PathBuf>) -> Result<Config, Failure> {
    let mut sources = Sources {
        file,
        ..Sources::of_this_host()
    };
    let config = Config::load(sources.clone())?;
    sources.platform_pps_threshold = platform_pps_threshold(&config);
    if sources.platform_pps_threshold.is_none() {
        return Ok(config);
    }
    Ok(Config::load(sources)?)
}

/// The packet limit that the platform last gave. A ledger that cannot be read, or is another user's, has no say here.
fn platform_pps_threshold(config: &Config) -> Option<u64> {
    let dir = config.state_dir().filter(|_| !config.is_local())?;
    let stored = ledger::view(dir).ok()??.platform?;
    let values: PlatformValues = serde_json::from_str(&stored).ok()?;
    values.pps_threshold
}

/// One line a setting: name, value, origin.
fn lines(config: &Config) -> String {
    let rows: Vec<[String; 3]> = Key::ALL
        .into_iter()
        .map(|key| match config.setting(key) {
            Some(Setting { value, origin }) => {
                [key.to_string(), value.to_string(), origin.to_string()]
            }
            None => [key.to_string(), key.unset().to_owned(), String::new()],
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (names, values) = (width(0), width(1));
    let mut text = String::new();
    for [name, value, origin] in &rows {
        let line = format!("{name:names$}  {value:values$}  {origin}");
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn json(config: &Config) -> String {
    let shown = Shown {
        schema: SCHEMA,
        local: config.is_local(),
        files: config
            .files()
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        notices: config.notices(),
        settings: Key::ALL
            .into_iter()
            .map(|key| ShownSetting::of(key, config.setting(key)))
            .collect(),
    };
    // Nothing in it can fail: names are texts.
    serde_json::to_string(&shown).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    local: bool,
    files: Vec<String>,
    notices: &'a [String],
    settings: Vec<ShownSetting<'a>>,
}

#[derive(Serialize)]
struct ShownSetting<'a> {
    key: String,
    /// `null` where nobody set it and there is no default.
    value: Json,
    /// `unset`, `default`, `platform`, `file`, `credential`, `variable` or `option`.
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Of the variable or option.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> ShownSetting<'a> {
    fn of(key: Key, setting: Option<&'a Setting>) -> Self {
        let mut shown = Self {
            key: key.to_string(),
            value: setting.map_or(Json::Null, |setting| value(&setting.value)),
            origin: "unset",
            file: None,
            line: None,
            name: None,
        };
        let Some(Setting { origin, .. }) = setting else {
            return shown;
        };
        match origin {
            Origin::Default => shown.origin = "default",
            Origin::Platform => shown.origin = "platform",
            Origin::File { path, line } => {
                shown.origin = "file";
                shown.file = Some(path.display().to_string());
                shown.line = Some(*line);
            }
            Origin::Credential { path } => {
                shown.origin = "credential";
                shown.file = Some(path.display().to_string());
            }
            Origin::Variable { name } => {
                shown.origin = "variable";
                shown.name = Some(name);
            }
            Origin::Option { name } => {
                shown.origin = "option";
                shown.name = Some(name);
            }
        }
        shown
    }
}

/// As it may be written in a file.
fn times(permille: u64) -> Json {
    let written = Times(permille).to_string();
    serde_json::from_str(&written).unwrap_or_default()
}

fn value(value: &Value) -> Json {
    match value {
        Value::Secret(secret) => secret.masked().into(),
        Value::Text(text) => text.as_str().into(),
        Value::Choice(word) => (*word).into(),
        Value::Switch(on) => (*on).into(),
        Value::Names(names) => names.as_slice().into(),
        Value::Number(number) => (*number).into(),
        Value::Factor(permille) => times(*permille),
        Value::Path(path) => path.display().to_string().into(),
    }
}
