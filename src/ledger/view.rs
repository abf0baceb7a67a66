//! A look at the ledger from outside, for `ftagent status`: while the agent runs, or after it has ended.
//!
//! Reads, and never writes a byte: not into the database, and not beside it. Called by commands, on their own thread.

use std::path::Path;

use rusqlite::Connection;

use super::desk::{Tally, note};
use super::{DeadLetter, LedgerError, PLATFORM, Sample, UPLINK, files, outbox, samples, store};
use crate::incident::Report;

/// What the ledger holds at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Whether an agent works in the directory. When its newest second is old although it does, it cannot write there:
    /// its log says why.
    pub agent_runs: bool,
    /// The incident that is open, as last reported; without an agent, the one that was open when it ended.
    pub open: Option<Report>,
    /// The newest second.
    pub last_sample: Option<Sample>,
    /// What the uplink says about itself: the note [`UPLINK`].
    pub uplink: Option<String>,
    /// The platform's last answer about this node's configuration: the note [`PLATFORM`].
    pub platform: Option<String>,
    /// Incidents of which something waits to be told.
    pub waiting_incidents: u64,
    /// Seconds that wait to be told.
    pub waiting_samples: u64,
    /// Steps of incidents that were lost, ever.
    pub dropped_events: u64,
    /// Seconds that were lost untold, ever.
    pub dropped_samples: u64,
    /// Steps that the platform refused for good; at most 100 are kept.
    pub dead_letters: u64,
    /// The newest of them.
    pub last_dead_letter: Option<DeadLetter>,
}

/// Looks at the ledger in the state directory `dir`; `None` when there is none.
///
/// # Errors
///
/// [`LedgerError::Io`] when the directory cannot be found, [`LedgerError::Unreadable`] when the database cannot be read.
pub fn view(dir: &Path) -> Result<Option<View>, LedgerError> {
    let path = files::database_in(dir)?;
    if !path.exists() {
        return Ok(None);
    }
    let agent_runs = files::is_in_use(dir);
    let seen = store::open_to_look(&path, agent_runs).and_then(|db| look(&db, agent_runs));
    seen.map(Some).map_err(|error| LedgerError::Unreadable {
        path,
        reason: error.to_string(),
    })
}

/// Everything as of one moment.
fn look(db: &Connection, agent_runs: bool) -> rusqlite::Result<View> {
    let db = db.unchecked_transaction()?;
    let tally = Tally::of(&db)?;
    let (dead_letters, last_dead_letter) = outbox::dead_letters(&db)?;
    Ok(View {
        agent_runs,
        open: outbox::open(&db)?.and_then(|report| serde_json::from_str(&report).ok()),
        last_sample: samples::newest(&db)?,
        uplink: note(&db, UPLINK)?,
        platform: note(&db, PLATFORM)?,
        waiting_incidents: tally.incidents,
        waiting_samples: tally.samples,
        dropped_events: tally.dropped_events,
        dropped_samples: tally.dropped_samples,
        dead_letters,
        last_dead_letter,
    })
}
