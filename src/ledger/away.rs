//! While the disk cannot be written: what was carried over to memory, and how it gets back.
//!
//! Carried over is what is alive: incidents that are open or wait, notes. What comes back is in the disk's database once,
//! however often it was tried: it goes there in one transaction. The database that is found then need not be the one
//! that was left: a disk may be mounted later, or repaired and mounted again. Called on the ledger's thread.

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
    /// What was settled meanwhile and is only on the disk.
    pub(super) owed: Owed,
}

/// The databases that were left since the start, the latest last.
#[derive(Debug, Default)]
pub(super) struct Departures(Vec<Left>);

/// A database that was left, and what of it is with us, wherever the work went on since then.
#[derive(Debug)]
struct Left {
    edition: Edition,
    /// Whose steps were carried over: of these incidents, no step in it counts any more.
    carried: CarriedOver,
}

/// Which database it is, and in which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edition {
    /// When it was made, to the nanosecond: no two have the same.
    pub(super) born: u64,
    /// How often it was opened.
    pub(super) starts: u64,
}

/// Departures that are remembered: a disk that comes and goes more often has another cure.
const DEPARTURES_MAX: usize = 8;

/// What of its incidents could be read.
#[derive(Clone, Debug)]
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

impl Departures {
    /// Carries what is alive from a disk that fails into memory.
    pub(super) fn leave(&mut self, disk: &Store, memory: &mut Store) {
        let carried = carry(disk.db(), memory);
        if !matches!(carried, CarriedOver::All) {
            // What was with us of earlier ones was in this one.
            for left in &mut self.0 {
                left.carried = carried.clone();
            }
        }
        let Ok(edition) = disk.edition() else { return };
        self.0.retain(|left| left.edition.born != edition.born);
        if self.0.len() == DEPARTURES_MAX {
            self.0.remove(0);
        }
        self.0.push(Left { edition, carried });
    }

    /// What is with us of the database that was just opened; `None` when it is not one that we left, or somebody else
    /// has worked with it since.
    pub(super) fn carried_from(&mut self, found: Edition) -> Option<CarriedOver> {
        let ours = |left: &Left| left.edition.born == found.born;
        let place = self.0.iter().position(ours)?;
        let left = self.0.get_mut(place)?;
        if left.edition.starts + 1 != found.starts {
            self.0.remove(place);
            return None;
        }
        left.edition = found;
        Some(left.carried.clone())
    }
}

impl Away {
    /// Gives the disk what came while it was away, and settles what was settled. Of the incidents `carried` from it, its
    /// steps do not count any more; to others, the new is added. A step that has no room is counted as lost; seconds are
    /// left out as they would be at any other time.
    pub(super) fn bring_back(
        &self,
        desk: &mut Desk<'_>,
        content: &Content,
        carried: &CarriedOver,
    ) -> rusqlite::Result<()> {
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
fn carry(disk: &Connection, memory: &mut Store) -> CarriedOver {
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
