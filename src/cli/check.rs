//! `ftagent check`: everything that is wrong with the configuration, or what it comes to.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::output::print;
use super::{Exit, Failure, config};
use crate::capture::CaptureError;
use crate::capture::nic::{self, Interface};
use crate::config::{Config, Key, Origin, Setting, Value};
use crate::uplink::{self, ApiBase, OnceError, TroubleKind, UplinkError};
use crate::words::Thousands;

/// Arguments of `ftagent check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    /// Read this configuration file instead of /etc/ftagent/ftagent.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Ask the platform, too: whether it is there, and whether it accepts this node
    #[arg(long)]
    online: bool,
}

impl CheckArguments {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let config = config::load(self.config)?;
        let problems = unsuitable(&config);
        if !problems.is_empty() {
            return Err(Failure {
                message: problems.join("\n"),
                exit: Exit::Configuration,
            });
        }
        print(&summary(&config))?;
        if self.online {
            print(&format!("  {:<11} {}\n", "platform", ask(&config)?))?;
        }
        Ok(())
    }
}

/// What the platform says. Nothing about this node is sent but its credentials, where it has any.
fn ask(config: &Config) -> Result<String, Failure> {
    let Some(settings) = config.uplink() else {
        ApiBase::parse(config.api_base(), true)
            .map_err(|error| UplinkError::Base(error).into())
            .and_then(|base| uplink::health(&base))
            .map_err(refusal)?;
        return Ok("is there; without credentials, that is all it was asked".to_owned());
    };
    let wanted = uplink::look(&settings).map_err(refusal)?;
    let limit = wanted.pps_threshold.map_or_else(
        || "sets no packet limit".to_owned(),
        |pps| format!("sets a limit of {} packets/s", Thousands(pps)),
    );
    let suspended = if wanted.suspended {
        "; the subscription is suspended, so it will take nothing"
    } else {
        ""
    };
    Ok(format!("accepts this node and {limit}{suspended}"))
}

/// A platform that does not know us or the path is a matter of configuration; one that is away is not.
fn refusal(error: OnceError) -> Failure {
    let exit = match &error {
        OnceError::Platform {
            kind: TroubleKind::KeyRejected | TroubleKind::NoSuchPath,
            ..
        }
        | OnceError::Uplink(UplinkError::Base(_) | UplinkError::NodeUuid { .. }) => {
            Exit::Configuration
        }
        OnceError::Platform { .. } | OnceError::Uplink(_) => Exit::Failed,
    };
    Failure {
        message: format!("platform: {error}"),
        exit,
    }
}

/// What does not fit this host. Nothing is opened and nothing is made.
fn unsuitable(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if let Ok(here) = nic::interfaces() {
        let missing = config
            .interfaces()
            .iter()
            .filter(|name| !is_there(name, &here));
        for name in missing {
            let mut available: Vec<String> = here.iter().map(|there| there.name.clone()).collect();
            available.sort_unstable();
            let error = CaptureError::NoSuchInterface {
                name: name.clone(),
                available,
            };
            problems.push(error.to_string());
        }
    }
    if let Some(dir) = config.state_dir()
        && dir.exists()
        && !dir.is_dir()
    {
        problems.push(format!(
            "state.dir: expected a directory, found something else at {}{}",
            dir.display(),
            origin(config, Key::StateDir)
        ));
    }
    problems
}

fn is_there(name: &str, here: &[Interface]) -> bool {
    here.iter().any(|interface| {
        let mut others = interface.alternative_names.iter();
        interface.name == name || others.any(|other| other == name)
    })
}

/// What the configuration comes to, in a few lines.
fn summary(config: &Config) -> String {
    let mut text = String::from("configuration is fine\n");
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    let files: Vec<String> = config
        .files()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    line(
        "files",
        if files.is_empty() {
            "none: defaults and environment".to_owned()
        } else {
            files.join(", ")
        },
    );
    line("mode", mode(config));
    line("interfaces", said(config, Key::Interfaces, ""));
    line("packets", said(config, Key::PpsThreshold, " packets/s"));
    line("bits", said(config, Key::BpsThreshold, " bits/s"));
    line("state", said(config, Key::StateDir, ""));
    for notice in config.notices() {
        line("notice", notice.clone());
    }
    text
}

fn mode(config: &Config) -> String {
    if config.is_local() {
        return "local: no credentials, so no platform".to_owned();
    }
    let shown = |key| {
        config
            .setting(key)
            .map_or_else(String::new, |setting| setting.value.to_string())
    };
    format!(
        "platform at {}, as node {}, contract {}",
        shown(Key::ApiBase),
        shown(Key::NodeUuid),
        shown(Key::Contract)
    )
}

/// A setting's value with its origin, or what holds without it.
fn said(config: &Config, key: Key, unit: &str) -> String {
    match config.setting(key) {
        // "auto" says less than what it means.
        Some(Setting {
            value: Value::Names(names),
            ..
        }) if names.is_empty() => key.unset().to_owned(),
        Some(setting) => format!("{}{unit}{}", setting.value, origin(config, key)),
        None => key.unset().to_owned(),
    }
}

fn origin(config: &Config, key: Key) -> String {
    match config.setting(key) {
        Some(Setting { origin, .. }) if *origin != Origin::Default => format!(" ({origin})"),
        _ => String::new(),
    }
}
