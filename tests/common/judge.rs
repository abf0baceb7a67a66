//! A judge of requests that nobody here wrote: Prism, a validating proxy that reads the contract's OpenAPI document. It
//! refuses what the document does not allow, in requests and in answers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ftagent::demo::platform::Platform;

use super::process::{Lines, Running, finish, until};
use super::{skip, tell};

/// Longer than the proxy takes to start on a busy machine.
const STARTING: Duration = Duration::from_secs(120);

/// The proxy, until this value goes.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Where the API begins behind it: what the agent's `api_base` is to be.
    pub(crate) base: String,
    /// What it said so far.
    pub(crate) log: Lines,
    _process: Running,
}

impl Judge {
    /// A proxy in front of `platform`, or none, with a line that says why.
    pub(crate) fn before(platform: &Platform) -> Option<Self> {
        let document = shared().join("contract/openapi.yaml");
        if !document.exists() {
            tell!(
                "skipped: no {} (FTAGENT_SHARED names the directory that holds contract)",
                document.display()
            );
            return None;
        }
        let program = match program() {
            Ok(program) => program,
            Err(reason) => {
                skip(&reason);
                return None;
            }
        };
        let upstream = platform.base().strip_suffix("/api/v1");
        let upstream = upstream.expect("the base ends so");
        let mut command = Command::new("node");
        command
            .arg(program)
            .args(["proxy", "--errors", "--host", "127.0.0.1", "--port", "0"])
            .arg(&document)
            .arg(upstream);
        let mut process = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let log = Lines::follow(process.child.stdout.take().expect("it is piped"), |_| {});
        let errors = Lines::follow(process.child.stderr.take().expect("it is piped"), |_| {});
        let started = until(STARTING, || log.contain(LISTENING));
        assert!(started, "{}{}", log.text(), errors.text());
        let text = log.text();
        let address = text.split(LISTENING).nth(1);
        let address = address.expect("it was waited for");
        let address: String = address.chars().take_while(|c| !c.is_whitespace()).collect();
        Some(Self {
            base: format!("http://{address}/api/v1"),
            log,
            _process: process,
        })
    }
}

/// What the proxy says before its address.
const LISTENING: &str = "Prism is listening on http://";

fn shared() -> PathBuf {
    std::env::var_os("FTAGENT_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    )
}

/// The proxy's program, where the set-up puts it.
fn program() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.expect("the folder for tests is in the target folder");
    let program = target.join("tools/prism/node_modules/@stoplight/prism-cli/dist/index.js");
    if !program.exists() {
        return Err(format!(
            "there is no {} (scripts/setup.sh test installs it)",
            program.display()
        ));
    }
    let mut node = Command::new("node");
    node.args(["--version"]);
    if node.output().is_err() {
        return Err("there is no node (scripts/setup.sh test installs it)".to_owned());
    }
    let version = finish(&mut node, STARTING).stdout;
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(18..) => Ok(program),
        _ => Err(format!(
            "node is too old: expected 18 or later, found {version}"
        )),
    }
}
