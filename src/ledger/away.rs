//! While the disk cannot be written: what was carried over to memory, and how it gets back.
//!
//! Carried over is what is alive: incidents that are open or wait, notes. What came back is in the disk's database once,
//! however often it was tried: it goes there in one transaction. Called on the ledger's thread.

use rusqlite::Connection;

use super::desk::{self, Desk, Owed};
use super::outbox::{self, Carried, Which};
use super::room::{self, Claim};
use super::store::Store;
use super::{Sample, samples};
use crate::clock::Timestamp;

/// The disk cannot be written.
#[derive(Debug)]
pub(super) struct Away {
    /// Since when.
    pub(super) since: Timestamp,
    /// Why, and what to do about it.
    pub(super) reason: String,
    /// The database that was left.
    pub(super) left: Left,
    /// What was settled meanwhile and is only on the disk.
    pub(super) owed: Owed,
}

/// A database that was left, and what of it is with us.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Which it was: another one may be found in its place.
    pub(super) born: Option<u64>,
    /// Whose steps were carried over: of these incidents, no step in it counts any more.
    pub(super) carried: CarriedOver,
    /// Whether its counters are part of ours.
    pub(super) is_counted: bool,
}

/// What of its incidents could be read.
#[derive(Debug)]
pub(super) enum CarriedOver {
    /// All that are alive.
    All,
    /// These alone.
    These(Vec<String>),
}

/// What a database in memory gives to the disk.
#[derive(Debug)]
pub(super) struct Content {
    incidents: Vec<Carried>,
    notes: Vec<(String, String)>,
    baseline: Option<String>,
    /// Each with whether it was told.
    seconds: Vec<(Sample, bool)>,
}

impl Content {
    /// All of it.
    pub(super) fn of(memory: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            incidents: outbox::take(memory, Which::All)?,
            notes: desk::notes(memory)?,
            baseline: desk::baseline(memory)?,
            seconds: samples::all(memory)?,
        })
    }
}

impl Away {
    /// Gives the disk what came while it was away, and settles what was settled: to the database that was left, to a
    /// new one, or to whatever was `born` there. A step that has no room is counted as lost; seconds are left out as
    /// they would be at any other time.
    pub(super) fn bring_back(
        &self,
        desk: &mut Desk<'_>,
        content: &Content,
        born: u64,
    ) -> rusqlite::Result<()> {
        let (nothing, all) = (CarriedOver::default(), CarriedOver::All);
        let carried = if self.left.born == Some(born) {
            &self.left.carried
        } else if outbox::is_empty(desk.db)? {
            &all
        } else {
            &nothing
        };
        for (ticket, settled) in &self.owed.settled {
            desk.settle(*ticket, settled)?;
        }
        if matches!(carried, CarriedOver::All) {
            outbox::remove_steps(desk.db)?;
        }
        for incident in &content.incidents {
            if !desk.room(Claim::Incident, incident.bytes())? {
                desk.tally.dropped_events += incident.waiting();
            } else if carried.has(&incident.name) {
                outbox::put(desk.db, incident)?;
            } else {
                outbox::merge(desk.db, incident, desk.now, &mut desk.next_step)?;
            }
        }
        for (name, value) in &content.notes {
            desk.note(name, value)?;
        }
        if let Some(state) = &content.baseline
            && desk.room(Claim::Rest, state.len())?
        {
            desk::put_baseline(desk.db, state)?;
        }
        if let Some(until) = self.owed.skip_until {
            samples::skip(desk.db, until)?;
        }
        for sample in &self.owed.told {
            samples::told(desk.db, sample)?;
        }
        for (sample, told) in &content.seconds {
            if desk.room(Claim::Rest, desk::SECOND_BYTES)? {
                samples::keep(desk.db, sample, *told)?;
            }
        }
        Ok(())
    }
}

impl Default for CarriedOver {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl CarriedOver {
    fn has(&self, incident: &String) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(incident),
        }
    }
}

/// Carries what is alive from a disk that fails into memory, and says how much of it could be read and found room: all
/// of it, or at least the attack that goes on.
pub(super) fn carry(disk: &Connection, memory: &mut Store) -> CarriedOver {
    for which in [Which::Alive, Which::Open] {
        let Ok(incidents) = outbox::take(disk, which) else {
            continue;
        };
        if !matches!(put_all(memory, &incidents), Ok(true)) {
            continue;
        }
        carry_notes(disk, memory);
        if which == Which::Alive {
            return CarriedOver::All;
        }
        let names = incidents.into_iter().map(|incident| incident.name);
        return CarriedOver::These(names.collect());
    }
    CarriedOver::default()
}

/// Puts all of them, or none, into memory; says whether there was room.
fn put_all(memory: &mut Store, incidents: &[Carried]) -> rusqlite::Result<bool> {
    let bytes: usize = incidents.iter().map(Carried::bytes).sum();
    let pages_max = memory.pages_max();
    memory.transact(false, |db| {
        if !room::make(db, pages_max, Claim::Rest, bytes * 2)?.enough {
            return Ok(false);
        }
        for incident in incidents {
            outbox::put(db, incident)?;
        }
        Ok(true)
    })
}

/// Notes that cannot be read are still on the disk when it comes back.
fn carry_notes(disk: &Connection, memory: &mut Store) {
    let Ok(notes) = desk::notes(disk) else { return };
    let pages_max = memory.pages_max();
    let _ = memory.transact(false, |db| {
        for (name, value) in &notes {
            if room::make(db, pages_max, Claim::Rest, value.len())?.enough {
                desk::put_note(db, name, value)?;
            }
        }
        Ok(())
    });
}
