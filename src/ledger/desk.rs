//! One transaction's work, whichever database it is done in.
//!
//! Everything that can be asked of the ledger is a call here. When the database fails in the middle, the same calls are
//! made on another one: figures and names are taken over only when a transaction has been committed. Called on the
//! ledger's thread.

use rusqlite::{Connection, OptionalExtension};

use super::outbox::{self, Entry};
use super::room::{self, Claim};
use super::store::{counter, set_counter};
use super::{Outgoing, Sample, Settled, Step, Ticket, samples};
use crate::clock::Timestamp;
use crate::detect::baseline::BaselineState;
use crate::incident::Report;

/// Bytes of a report as JSON, at most: twenty times the largest that was ever seen.
const REPORT_BYTES_MAX: usize = 128 << 10;

/// Bytes of a note, at most: a configuration with its patterns fits.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// Bytes that a second takes: a row of eighty, and its place in the index.
pub(super) const SECOND_BYTES: usize = 128;

/// What can no longer be done in the database that it concerns is written down, up to this much of each. More than
/// ever is under way.
const OWED_MAX: usize = 1_024;

/// Names of counters.
pub(super) const DROPPED_EVENTS: &str = "dropped_events";
pub(super) const DROPPED_SAMPLES: &str = "dropped_samples";

/// Figures about the database that are known without looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Incidents of which something waits.
    pub(super) incidents: u64,
    /// Seconds that wait.
    pub(super) samples: u64,
    /// Steps that were lost.
    pub(super) dropped_events: u64,
    /// Seconds that were lost untold.
    pub(super) dropped_samples: u64,
    /// The second that was recorded last: how old others are is measured from it.
    pub(super) latest: Timestamp,
}

/// What became of things that are on a disk out of reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Owed {
    pub(super) settled: Vec<(Ticket, Settled)>,
    pub(super) told: Vec<Sample>,
    pub(super) skip_until: Option<Timestamp>,
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    /// In the transaction.
    pub(super) db: &'a Connection,
    /// Pages the database may have.
    pub(super) pages_max: u64,
    /// Whether somebody tells what waits.
    pub(super) tell: bool,
    /// When this happens.
    pub(super) now: Timestamp,
    /// How things stand after what was done so far.
    pub(super) tally: Tally,
    /// The name of the next step.
    pub(super) next_step: i64,
    /// Written down when the disk is out of reach.
    pub(super) owed: Option<Owed>,
}

impl Desk<'_> {
    /// Something happened to an incident.
    pub(super) fn event(&mut self, step: Step, report: &Report) -> rusqlite::Result<()> {
        let report_json = serde_json::to_string(report).unwrap_or_default();
        if report_json.is_empty() || report_json.len() > REPORT_BYTES_MAX {
            self.tally.dropped_events += 1;
            return Ok(());
        }
        // It is written twice when the step before keeps the report of before.
        if !self.room(Claim::Incident, report_json.len() * 2)? {
            self.tally.dropped_events += 1;
            return Ok(());
        }
        let entry = Entry {
            incident: &report.id,
            step,
            report: &report_json,
            at: self.now,
        };
        if !outbox::record(self.db, &entry, self.tell, &mut self.next_step)? {
            self.tally.dropped_events += 1;
        }
        self.count_incidents()
    }

    /// A second is over.
    pub(super) fn second(&mut self, sample: &Sample) -> rusqlite::Result<()> {
        self.tally.latest = sample.start;
        if !self.room(Claim::Rest, SECOND_BYTES)? {
            self.tally.dropped_samples += u64::from(self.tell);
            return Ok(());
        }
        let waited = samples::keep(self.db, sample, !self.tell)?;
        let samples = self.tally.samples + u64::from(self.tell);
        self.tally.samples = samples.saturating_sub(u64::from(waited));
        Ok(())
    }

    /// What the baseline has learned so far.
    pub(super) fn baseline(&mut self, state: &BaselineState) -> rusqlite::Result<()> {
        let stored = serde_json::to_string(state).unwrap_or_default();
        let fits = stored.len() as u64 <= BaselineState::JSON_BYTES_MAX;
        if stored.is_empty() || !fits || !self.room(Claim::Rest, stored.len())? {
            log::error!(
                "the baseline takes {} bytes, which do not fit into the ledger's quota: a restart will learn anew",
                stored.len()
            );
            return Ok(());
        }
        put_baseline(self.db, &stored)
    }

    /// Keeps a value under a name.
    pub(super) fn note(&mut self, name: &str, value: &str) -> rusqlite::Result<()> {
        if value.len() > NOTE_BYTES_MAX || !self.room(Claim::Rest, value.len())? {
            log::error!(
                "the note {name} of {} bytes is not kept: no room",
                value.len()
            );
            return Ok(());
        }
        put_note(self.db, name, value)
    }

    /// What waits to be told.
    pub(super) fn outgoing(&mut self) -> rusqlite::Result<Vec<Outgoing>> {
        let outgoing = outbox::outgoing(self.db, self.now)?;
        self.count_incidents()?;
        Ok(outgoing)
    }

    /// What became of a step.
    pub(super) fn settle(&mut self, ticket: Ticket, settled: &Settled) -> rusqlite::Result<()> {
        let found = outbox::settle(self.db, ticket, settled, self.now)?;
        if let Some(owed) = &mut self.owed
            && !found
            && owed.settled.len() < OWED_MAX
        {
            owed.settled.push((ticket, settled.clone()));
        }
        self.count_incidents()
    }

    /// Seconds to tell.
    pub(super) fn samples(&self, newest: bool, limit: usize) -> rusqlite::Result<Vec<Sample>> {
        samples::untold(self.db, newest, limit, self.tally.latest)
    }

    /// Seconds were told.
    pub(super) fn told(&mut self, told: &[Sample]) -> rusqlite::Result<()> {
        for sample in told {
            let seconds = samples::told(self.db, sample)?;
            self.tally.samples = self.tally.samples.saturating_sub(seconds);
        }
        if let Some(owed) = &mut self.owed {
            let room = OWED_MAX.saturating_sub(owed.told.len());
            owed.told.extend(told.iter().take(room));
        }
        Ok(())
    }

    /// No second up to now will be told.
    pub(super) fn skip(&mut self) -> rusqlite::Result<()> {
        samples::skip(self.db, self.tally.latest)?;
        self.tally.samples = samples::waiting(self.db)?;
        if let Some(owed) = &mut self.owed {
            owed.told.clear();
            owed.skip_until = Some(self.tally.latest);
        }
        Ok(())
    }

    /// So much was lost on the way here.
    pub(super) fn lost(&mut self, events: u64, seconds: u64) {
        self.tally.dropped_events += events;
        self.tally.dropped_samples += seconds;
    }

    /// Removes what nobody needs any more.
    pub(super) fn tidy(&mut self, keep_seconds: u64) -> rusqlite::Result<()> {
        if self.tally.latest > Timestamp::default() {
            let removed = samples::remove_far(self.db, self.tally.latest, keep_seconds)?;
            self.take_off(removed.untold);
        }
        outbox::forget(self.db, self.pages_max)?;
        // Others may have to give way to what came meanwhile.
        self.room(Claim::Rest, 0).map(drop)
    }

    /// Writes down what changed of the figures that are kept.
    pub(super) fn end(&self, before: &Tally) -> rusqlite::Result<()> {
        for (name, now, then) in [
            (
                DROPPED_EVENTS,
                self.tally.dropped_events,
                before.dropped_events,
            ),
            (
                DROPPED_SAMPLES,
                self.tally.dropped_samples,
                before.dropped_samples,
            ),
        ] {
            if now != then {
                set_counter(self.db, name, now)?;
            }
        }
        Ok(())
    }

    /// Whether there is room for `bytes`; seconds give way.
    pub(super) fn room(&mut self, claim: Claim, bytes: usize) -> rusqlite::Result<bool> {
        let made = room::make(self.db, self.pages_max, claim, bytes)?;
        self.take_off(made.untold_removed);
        Ok(made.enough)
    }

    /// So many seconds are gone that nobody was told.
    fn take_off(&mut self, untold: u64) {
        self.tally.samples = self.tally.samples.saturating_sub(untold);
        self.tally.dropped_samples += untold;
    }

    fn count_incidents(&mut self) -> rusqlite::Result<()> {
        self.tally.incidents = outbox::waiting(self.db)?;
        Ok(())
    }
}

impl Tally {
    /// What a database holds.
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            incidents: outbox::waiting(db)?,
            samples: samples::waiting(db)?,
            dropped_events: counter(db, DROPPED_EVENTS)?,
            dropped_samples: counter(db, DROPPED_SAMPLES)?,
            latest: samples::newest(db)?.map_or_else(Timestamp::default, |sample| sample.start),
        })
    }
}

/// Stores a baseline in place of the one before.
pub(super) fn put_baseline(db: &Connection, stored: &str) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO baseline VALUES (1, ?1) ON CONFLICT DO UPDATE SET state = excluded.state";
    db.prepare_cached(sql)?.execute([stored]).map(drop)
}

/// The stored baseline.
pub(super) fn baseline(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT state FROM baseline";
    db.query_row(sql, [], |row| row.get(0)).optional()
}

/// Stores a note in place of the one before.
pub(super) fn put_note(db: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO note VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    db.prepare_cached(sql)?.execute((name, value)).map(drop)
}

/// A stored note.
pub(super) fn note(db: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM note WHERE name = ?1";
    db.prepare_cached(sql)?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// All notes.
pub(super) fn notes(db: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = db.prepare("SELECT name, value FROM note ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
