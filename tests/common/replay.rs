//! `ftagent replay --json` on a file.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::agent::PROGRAM;
use super::event::{Event, Incident};
use super::process::succeed;

/// A capture of this suite takes well under a second even unoptimised. One of a whole day has 1.7 million windows to
/// close, most of them empty: ten seconds, on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a replay told.
#[derive(Debug)]
pub(crate) struct Replayed(Vec<Event>);

/// Replays `file`, judged as `host` sees it with a set limit. Panics unless it ends well.
pub(crate) fn replay(file: &Path, host: &str, threshold_pps: u64) -> Replayed {
    replay_as(file, Some(host), Some(threshold_pps))
}

/// Replays `file`, judged as `host` sees it, or as the host that most packets go to, with a set limit or with learned
/// ones. Panics unless it ends well.
pub(crate) fn replay_as(file: &Path, host: Option<&str>, threshold_pps: Option<u64>) -> Replayed {
    let mut command = Command::new(PROGRAM);
    command.arg("replay").arg(file).arg("--json");
    if let Some(host) = host {
        command.args(["--host", host]);
    }
    if let Some(threshold_pps) = threshold_pps {
        command.args(["--threshold-pps", &threshold_pps.to_string()]);
    }
    let said = succeed(&mut command, PATIENCE);
    let replayed = Replayed(said.lines().map(Event::parse).collect());
    assert!(
        matches!(replayed.0.last(), Some(Event::Summary(_))),
        "the last line is the summary: {said}"
    );
    replayed
}

impl Replayed {
    /// Each incident as it stood when it was resolved. Panics if one was opened and not resolved.
    pub(crate) fn incidents(&self) -> Vec<&Incident> {
        let opened = self.0.iter().filter(|event| event.opens()).count();
        let resolved: Vec<_> = self
            .0
            .iter()
            .filter(|event| event.resolves())
            .filter_map(Event::incident)
            .collect();
        assert_eq!(
            opened,
            resolved.len(),
            "what a replay opens it resolves: {:?}",
            self.0
        );
        resolved
    }

    /// Each incident as it stood when it was opened.
    pub(crate) fn opened(&self) -> Vec<&Incident> {
        let opened = self.0.iter().filter(|event| event.opens());
        opened.filter_map(Event::incident).collect()
    }

    /// Every event that tells of an incident.
    pub(crate) fn incident_events(&self) -> impl Iterator<Item = &Incident> {
        self.0.iter().filter_map(Event::incident)
    }
}
