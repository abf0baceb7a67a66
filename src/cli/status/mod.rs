//! `ftagent status`: how it stands, as the platform's own pages would put it, in a few lines or as one JSON object.
//!
//! Looks at what the agent keeps in its state directory and at the configuration; it neither disturbs the agent nor asks
//! the platform, so it answers at once, whatever is down. Whether the agent runs is told by its lock on the directory,
//! which goes with the process however that ends; whether it works, by how old its newest second is. It never shows a
//! key, and what the platform would like to be run is shown as text and nothing else.

mod facts;
mod json;
mod lines;

use std::path::PathBuf;

use super::output::print;
use super::{Exit, Failure};
use crate::clock;
use crate::words::Duration;
use facts::Facts;

/// Arguments of `ftagent status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    /// Read this configuration file instead of /etc/ftagent/ftagent.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Look into this state directory instead of the configured one
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,

    /// Exit with 3 when the agent is not running, 4 when something is wrong, 5 under attack
    #[arg(long)]
    exit_code: bool,
}

impl StatusArguments {
    pub(super) fn execute(self) -> Result<Exit, Failure> {
        let facts = Facts::gather(self.config, self.state_dir, clock::now())?;
        let status = Status::of(&facts);
        print(&if self.json {
            json::object(&status, &facts)
        } else {
            lines::text(&status, &facts)
        })?;
        Ok(if self.exit_code {
            status.situation.exit()
        } else {
            Exit::Fine
        })
    }
}

/// What it comes to. The agent must run before anything else can be said of it, and an attack matters more than what else
/// is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    AllClear,
    UnderAttack,
    Degraded,
    NotRunning,
}

impl Situation {
    /// The name used in JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::AllClear => "all_clear",
            Self::UnderAttack => "under_attack",
            Self::Degraded => "degraded",
            Self::NotRunning => "not_running",
        }
    }

    const fn exit(self) -> Exit {
        match self {
            Self::AllClear => Exit::Fine,
            Self::UnderAttack => Exit::UnderAttack,
            Self::Degraded => Exit::Degraded,
            Self::NotRunning => Exit::NotRunning,
        }
    }
}

/// The situation, and what is wrong: a sentence each, most pressing first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    situation: Situation,
    reasons: Vec<String>,
}

/// A second is on disk within two seconds of its end; one that is older than this is late on any disk.
const LATE_SECONDS: u64 = 10;

/// So many heartbeats make a silence: of one that is missing nobody needs to hear.
const SILENT_HEARTBEATS: u64 = 3;

/// How long what became of one message is news: as long as nobody who looks every few minutes can miss it.
const NEWS_SECONDS: u64 = 600;

impl Status {
    fn of(facts: &Facts) -> Self {
        if !facts.agent_runs() {
            if let Some(reason) = unwritable(facts) {
                return Self {
                    situation: Situation::Degraded,
                    reasons: vec![reason],
                };
            }
            return Self {
                situation: Situation::NotRunning,
                reasons: vec![not_running(facts)],
            };
        }
        let reasons: Vec<String> = [
            late(facts),
            unheard(facts),
            suspended(facts),
            refused(facts),
            facts.mistakes.clone(),
        ]
        .into_iter()
        .flatten()
        .collect();
        let situation = match (facts.open(), reasons.is_empty()) {
            (Some(_), _) => Situation::UnderAttack,
            (None, false) => Situation::Degraded,
            (None, true) => Situation::AllClear,
        };
        Self { situation, reasons }
    }
}

/// Whether nothing can be written where the agent keeps its state. One that goes on without is not seen from here.
fn unwritable(facts: &Facts) -> Option<String> {
    let reason = facts.view.as_ref()?.unwritable?;
    Some(format!(
        "{} cannot be written: {reason}. An agent that runs keeps everything in memory until then, and only its log says \
         how it is: `journalctl -u ftagent`",
        facts.dir.display()
    ))
}

fn not_running(facts: &Facts) -> String {
    let dir = facts.dir.display();
    let Some(view) = &facts.view else {
        return format!(
            "no agent has worked in {dir} yet; see `sudo systemctl status ftagent`, or name its directory with \
             --state-dir"
        );
    };
    let last = view.last_sample.map_or_else(
        || "kept no second".to_owned(),
        |last| format!("kept its last second {} ago", facts.ago(last.start)),
    );
    let open = if view.open.is_some() {
        ", while an incident was open"
    } else {
        ""
    };
    format!(
        "the agent that works in {dir} is down: it {last}{open}; see `sudo systemctl status ftagent`"
    )
}

/// Whether it runs but keeps nothing.
fn late(facts: &Facts) -> Option<String> {
    const CURE: &str = "if it has not just started, its log says why: `journalctl -u ftagent`";
    let Some(last) = facts.view.as_ref()?.last_sample else {
        return Some(format!("the agent runs and has kept no second yet; {CURE}"));
    };
    facts.is_older(last.start, LATE_SECONDS).then(|| {
        format!(
            "the agent runs, but the last second it kept is {} old; {CURE}",
            facts.ago(last.start)
        )
    })
}

/// Whether the platform does not hear of this node.
fn unheard(facts: &Facts) -> Option<String> {
    if facts.is_local() {
        return None;
    }
    let Some(uplink) = &facts.uplink else {
        return Some(
            "the agent has not begun to talk to the platform; if it has not just started, does it run with --local?"
                .to_owned(),
        );
    };
    if uplink.trouble.is_some() {
        let lasts = Duration(facts.now.millis_since(uplink.since));
        return Some(format!("{}; so for {lasts}", uplink.sentence));
    }
    let heard = uplink.heartbeat_at.unwrap_or(uplink.since);
    let silence = SILENT_HEARTBEATS * facts.heartbeat_seconds();
    facts.is_older(heard, silence).then(|| {
        format!(
            "the platform has heard no heartbeat of this node for {} and takes it for down; the agent's log says why: \
             `journalctl -u ftagent`",
            facts.ago(heard)
        )
    })
}

/// Whether the platform says so in the configuration and nothing else has been refused yet.
fn suspended(facts: &Facts) -> Option<String> {
    let is_told = facts
        .uplink
        .as_ref()
        .is_some_and(|uplink| uplink.trouble.is_some());
    let suspended = facts.platform.as_ref().is_some_and(|it| it.suspended);
    (suspended && !is_told).then(|| {
        "the platform says this workspace is suspended and takes nothing; check billing in the Flowtriq dashboard"
            .to_owned()
    })
}

/// Whether the platform has refused a message for good, not long ago.
fn refused(facts: &Facts) -> Option<String> {
    let last = facts.uplink.as_ref()?.last_refusal.as_ref()?;
    if facts.is_older(last.at, NEWS_SECONDS) {
        return None;
    }
    Some(format!("{}; {} ago", last.sentence, facts.ago(last.at)))
}
