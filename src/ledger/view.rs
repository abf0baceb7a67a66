//! A look at the ledger from outside, for `ftagent status`: while the agent runs, or after it has ended.
//!
//! Reads, and never writes a byte: not into the database, and not beside it. Called by commands, on their own thread.

use std::path::Path;

use rusqlite::Connection;

use super::desk::{self, Tally, note};
use super::{DeadLetter, LedgerError, PLATFORM, Sample, UPLINK, files, outbox, samples, store};
use crate::detect::baseline::BaselineState;
use crate::incident::Report;

/// What the ledger holds at this moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Whether an agent works in the directory. When its newest second is old although it does, it cannot write there:
    /// its log says why.
    pub agent_runs: bool,
    /// Why nobody can write there, as far as the file system says: an agent that runs all the same works in memory, and
    /// cannot be seen from here.
    pub unwritable: Option<&'static str>,
    /// The incident that is open, as last reported; without an agent, the one that was open when it ended.
    pub open: Option<Report>,
    /// The newest second.
    pub last_sample: Option<Sample>,
    /// What the baseline had learned when it was stored last.
    pub baseline: Option<BaselineState>,
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

/// Looks at the ledger in the state directory `dir`; `None` when there is none and no agent works there.
///
/// # Errors
///
/// [`LedgerError::Io`] when the directory cannot be found or looked into, [`LedgerError::Unreadable`] when the database
/// cannot be read.
pub fn view(dir: &Path) -> Result<Option<View>, LedgerError> {
    let path = files::database_in(dir)?;
    let agent_runs = files::is_in_use(dir);
    let unwritable = files::unwritable(dir).ok().flatten();
    let unknown = View {
        agent_runs,
        unwritable,
        ..View::default()
    };
    let is_there = path.try_exists();
    if !is_there.map_err(files::failed(&path, "look for the database"))? {
        // An agent that could not make one keeps everything in memory.
        return Ok((agent_runs || unwritable.is_some()).then_some(unknown));
    }
    let seen = store::open_to_look(&path, agent_runs).and_then(|db| look(&db, unknown));
    seen.map(Some).map_err(|error| LedgerError::Unreadable {
        path,
        reason: error.to_string(),
    })
}

/// Everything as of one moment, beside what is known without the database.
fn look(db: &Connection, known: View) -> rusqlite::Result<View> {
    let db = db.unchecked_transaction()?;
    let tally = Tally::of(&db)?;
    let (dead_letters, last_dead_letter) = outbox::dead_letters(&db)?;
    Ok(View {
        open: outbox::open(&db)?.and_then(|report| serde_json::from_str(&report).ok()),
        last_sample: samples::newest(&db)?,
        baseline: desk::baseline(&db)?
            .and_then(|stored| files::parsed_baseline(stored.as_bytes()).ok()),
        uplink: note(&db, UPLINK)?,
        platform: note(&db, PLATFORM)?,
        waiting_incidents: tally.incidents,
        waiting_samples: tally.samples,
        dropped_events: tally.dropped_events,
        dropped_samples: tally.dropped_samples,
        dead_letters,
        last_dead_letter,
        ..known
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::testing::{Scratch, report, sample};
    use super::super::{Ledger, Step};
    use super::*;

    fn block_on<T>(answer: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(answer)
    }

    #[test]
    fn the_ledger_can_be_looked_at_while_it_works_after_a_crash_and_after_the_end() {
        let scratch = Scratch::new();
        assert!(view(&scratch.state()).is_err(), "there is no directory");
        fs::create_dir(scratch.state()).unwrap();
        assert_eq!(view(&scratch.state()).unwrap(), None);

        let (ledger, _) = Ledger::open(scratch.settings()).unwrap();
        ledger.event(Step::Open, report("a", 0));
        ledger.second(sample(77, 5));
        ledger.remember(UPLINK, "{\"since\":1}".to_owned());
        // Asking for something writes everything that came before.
        assert_eq!(block_on(ledger.samples(false, 5)).len(), 1);
        let running = view(&scratch.state()).unwrap().unwrap();
        assert!(running.agent_runs);
        assert_eq!(running.open, Some(report("a", 0)));
        assert_eq!(running.last_sample, Some(sample(77, 5)));
        assert_eq!(running.uplink.as_deref(), Some("{\"since\":1}"));
        assert_eq!((running.waiting_incidents, running.waiting_samples), (1, 1));
        assert_eq!((running.dropped_events, running.dead_letters), (0, 0));

        let crashed = scratch.path().join("crashed");
        fs::create_dir(&crashed).unwrap();
        for name in ["ftagent.db", "ftagent.db-wal"] {
            fs::copy(scratch.state().join(name), crashed.join(name)).unwrap();
        }
        ledger.close(Duration::from_secs(10));
        for dir in [&crashed, &scratch.state()] {
            let before = fs::read_dir(dir).unwrap().count();
            let seen = view(dir).unwrap().unwrap();
            assert_eq!(
                fs::read_dir(dir).unwrap().count(),
                before,
                "nothing is written"
            );
            let stopped = View {
                agent_runs: false,
                ..running.clone()
            };
            assert_eq!(seen, stopped);
        }
    }

    #[test]
    fn a_database_that_cannot_be_read_is_named() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.state()).unwrap();
        fs::write(scratch.state().join("ftagent.db"), "something else").unwrap();
        let said = view(&scratch.state()).unwrap_err().to_string();
        assert!(
            said.contains("ftagent.db: the ledger cannot be read: file is not a database"),
            "{said}"
        );
    }
}
