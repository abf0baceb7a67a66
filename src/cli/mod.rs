//! The command line: one file per command, text and JSON output.
//!
//! The only room that prints. Arguments are checked here and become the rooms' settings; errors become one line on
//! standard error and an exit code.

mod logging;
mod output;
mod replay;
mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::capture::CaptureError;

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
    /// Read a pcap or pcapng file and report the attacks in it, by the same rules
    Replay(replay::ReplayArguments),
}

/// How a command ends. The numbers are part of the interface: scripts and the service manager read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Fine = 0,
    Failed = 1,
    Usage = 2,
    NotPermitted = 77,
}

/// Why a command failed: one line, and how to exit.
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

/// Runs the command line given and says how to exit.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; clap knows which of them is no error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                Exit::Usage as u8
            } else {
                Exit::Fine as u8
            });
        }
    };
    let done = match arguments.command {
        Command::Run(run) => run.execute(),
        Command::Replay(replay) => replay.execute(),
    };
    match done {
        Ok(()) => ExitCode::from(Exit::Fine as u8),
        Err(failure) => {
            output::complain(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// A threshold: a whole number of at least one. Separators make long ones readable and are not worth an error.
fn parse_threshold(text: &str) -> Result<u64, String> {
    let digits: String = text
        .chars()
        .filter(|each| *each != '_' && *each != ',')
        .collect();
    match digits.parse::<u64>() {
        Ok(0) => Err("expected 1 or more, found 0; leave it out for learned limits".to_owned()),
        Ok(value) => Ok(value),
        Err(_) => Err("expected a whole number, such as 50000".to_owned()),
    }
}
