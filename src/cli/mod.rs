//! The command line: one file per command, text and JSON output.
//!
//! The only room that prints. Arguments are checked here and become the rooms' settings; errors become one line on
//! standard error and an exit code.

mod check;
mod config;
mod demo;
mod logging;
mod outlet;
mod output;
mod replay;
mod run;
mod status;

use std::ffi::OsString;
use std::num::IntErrorKind;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};

use crate::capture::CaptureError;
use crate::config::ConfigErrors;

/// On-host DDoS detection: watches an interface or reads a capture, and explains what it finds.
#[derive(Debug, Parser)]
#[command(name = "ftagent", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch interfaces of this host and report attacks as they happen
    Run(run::RunArguments),
    /// Say how it stands: all clear, under attack, or what is wrong and what to do about it
    Status(status::StatusArguments),
    /// Read a pcap or pcapng file and report the attacks in it, by the same rules
    Replay(replay::ReplayArguments),
    /// Show in a minute what the agent does: a recorded attack and a platform, both inside this process
    Demo(demo::DemoArguments),
    /// Read the configuration and say everything that is wrong with it
    Check(check::CheckArguments),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// How a command ends. The numbers are part of the interface: scripts and the service manager read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Fine = 0,
    Failed = 1,
    Usage = 2,
    NotRunning = 3,
    Degraded = 4,
    UnderAttack = 5,
    NotPermitted = 77,
    Configuration = 78,
}

/// Why a command failed: a line for each reason, and how to exit.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: Exit,
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: Exit::Usage,
        }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: Exit::Failed,
        }
    }
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        let exit = match error {
            CaptureError::NotPermitted { .. } => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self {
            message: error.to_string(),
            exit,
        }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let exit = if errors.are_permissions() {
            Exit::NotPermitted
        } else {
            Exit::Configuration
        };
        Self {
            message: errors.to_string(),
            exit,
        }
    }
}

/// Runs the command line given and says how to exit.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return refused(error),
    };
    let fine = |()| Exit::Fine;
    let done = match arguments.command {
        Command::Run(run) => run.execute().map(fine),
        Command::Status(status) => status.execute(),
        Command::Replay(replay) => replay.execute().map(fine),
        Command::Demo(demo) => demo.execute().map(fine),
        Command::Check(check) => check.execute().map(fine),
        Command::Config(config) => config.execute().map(fine),
    };
    match done {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            for line in failure.message.lines() {
                output::complain(line);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// What becomes of arguments that are none. Help and version come this way too.
fn refused(mut error: clap::Error) -> ExitCode {
    let is_help = !error.use_stderr();
    if is_help || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A reader that has seen enough is no reason to complain.
        let _ = error.print();
    } else {
        // How to pass an unknown option as a value helps nobody here, and --help shows the usage better.
        error.remove(ContextKind::Suggested);
        error.remove(ContextKind::Usage);
        output::complain(&one_line(&error.render().to_string()));
    }
    ExitCode::from(if is_help {
        Exit::Fine as u8
    } else {
        Exit::Usage as u8
    })
}

/// The parser's message and its tips as one line, as every other error is.
fn one_line(rendered: &str) -> String {
    let mut line = String::new();
    for part in rendered.lines().map(str::trim) {
        let part = part.trim_start_matches("error: ").trim_end_matches('.');
        if part.is_empty() || part.starts_with("For more information") {
            continue;
        }
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        line.push_str(part);
    }
    line.push_str(" (--help lists what there is)");
    line
}

/// A threshold: a whole number of at least one, in groups of three digits where that reads better.
fn parse_threshold(text: &str) -> Result<u64, String> {
    let grouped = |separator| text.split(separator).skip(1).all(|group| group.len() == 3);
    let digits = match (text.contains('_'), text.contains(',')) {
        (false, false) => text.to_owned(),
        (true, false) if grouped('_') => text.replace('_', ""),
        (false, true) if grouped(',') => text.replace(',', ""),
        _ => String::new(),
    };
    match digits.parse::<u64>() {
        Ok(0) => Err("expected 1 or more, found 0; leave it out for learned limits".to_owned()),
        Ok(value) => Ok(value),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err(format!("expected at most {}", u64::MAX))
        }
        Err(_) => Err("expected a whole number of 1 or more, such as 50000".to_owned()),
    }
}

/// A time in whole seconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| "expected a whole number of seconds, such as 60".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_threshold_may_be_grouped_by_threes_and_in_no_other_way() {
        assert_eq!(parse_threshold("50000"), Ok(50_000));
        assert_eq!(parse_threshold("1,250,000"), Ok(1_250_000));
        assert_eq!(parse_threshold("1_250_000"), Ok(1_250_000));
        for text in [
            "1,5",
            "1,00",
            "1_000,000",
            ",",
            "1.5",
            "1e6",
            "",
            "-5",
            "0x10",
        ] {
            assert!(parse_threshold(text).is_err(), "{text:?}");
        }
    }
}
