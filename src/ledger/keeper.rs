//! Where things are kept: on the disk, or in memory while the disk fails.
//!
//! When the disk fails, what waits is carried over to a database in memory, the work goes on there, and the disk is
//! tried again until it takes everything back: whole, and nothing twice. Said once when it begins, with the cure, and
//! once when it is over. Called at start, then on the ledger's thread.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::away::{Away, CarriedOver, Content, carry};
use super::desk::{self, Desk, Owed, Tally};
use super::files::{self, Place, Trouble};
use super::outbox;
use super::store::{Store, signed, trouble};
use super::{Found, LedgerError, PLATFORM, Settings, Storage, Waiting};
use crate::clock;
use crate::words::Duration;

/// Bytes of a database in memory: what the agent may still grow by in the worst of its times. Beside incidents it holds
/// a day of seconds.
const MEMORY_BYTES: u64 = 8 << 20;

/// Keeps everything, somewhere.
#[derive(Debug)]
pub(super) struct Keeper {
    settings: Settings,
    /// Ours while it is locked; none while it cannot be had.
    place: Option<Place>,
    store: Store,
    /// Why, and what to do about it, when `store` only stands in for the disk.
    away: Option<Away>,
    tally: Tally,
    next_step: i64,
}

impl Keeper {
    /// Opens what there is, and says what an earlier run left in it.
    ///
    /// # Errors
    ///
    /// When the state directory is no directory or another agent's. Whatever else is wrong with it, the agent works.
    pub(super) fn open(settings: Settings) -> Result<(Self, Found), LedgerError> {
        let mut found = Found::default();
        let Some(dir) = settings.dir.clone() else {
            let store = in_memory(settings.quota_bytes.min(MEMORY_BYTES))?;
            return Ok((Self::new(settings, None, store), found));
        };
        let place = match Place::open(&dir) {
            Ok(place) => place,
            Err(LedgerError::Io { action, source, .. }) => {
                let reason = format!("cannot {action}: {source}; give this user the directory");
                let keeper = Self::open_away(settings, None, reason, &mut found)?;
                return Ok((keeper, found));
            }
            Err(error) => return Err(error),
        };
        let mut notices = Vec::new();
        let opened = open_disk(&place, settings.quota_bytes, &mut notices);
        found
            .notices
            .extend(notices.iter().map(ToString::to_string));
        let mut keeper = match opened {
            Ok(store) => Self::new(settings, Some(place), store),
            Err(trouble) => {
                let keeper = Self::open_away(settings, Some(place), trouble.reason(), &mut found)?;
                return Ok((keeper, found));
            }
        };
        if let Err(error) = keeper.begin(&mut found) {
            keeper.fall_back(&error);
            found.notices.extend(keeper.complaint());
        }
        Ok((keeper, found))
    }

    fn new(settings: Settings, place: Option<Place>, store: Store) -> Self {
        Self {
            settings,
            place,
            store,
            away: None,
            tally: Tally::default(),
            next_step: first_step(0),
        }
    }

    /// Begins without the disk, with what can still be read of it.
    fn open_away(
        settings: Settings,
        place: Option<Place>,
        reason: String,
        found: &mut Found,
    ) -> Result<Self, LedgerError> {
        let mut keeper = Self::new(settings, place, in_memory(MEMORY_BYTES)?);
        let disk = keeper.place.as_ref().map(Store::open_to_read);
        let mut carried = CarriedOver::These(Vec::new());
        let mut counted = false;
        if let Some(Ok(disk)) = disk {
            counted = keeper.read(disk.db(), found).is_ok();
            carried = carry(disk.db(), &mut keeper.store);
            disk.abandon();
        }
        keeper.tally.incidents = outbox::waiting(keeper.store.db()).unwrap_or_default();
        keeper.tally.samples = 0;
        keeper.away = Some(Away {
            since: clock::now(),
            reason,
            carried,
            counted,
            owed: Owed::default(),
        });
        found.notices.extend(keeper.complaint());
        Ok(keeper)
    }

    /// Takes over what the disk holds.
    fn begin(&mut self, found: &mut Found) -> rusqlite::Result<()> {
        self.store
            .transact(true, |db| outbox::close_all_but_newest(db))?;
        self.tally = Tally::of(self.store.db())?;
        self.next_step = first_step(outbox::last_step(self.store.db())?);
        let path = self.named_path();
        stored(self.store.db(), &path, found)?;
        self.take_over_old_baseline(found)
    }

    /// What a disk holds that cannot be written.
    fn read(&mut self, db: &Connection, found: &mut Found) -> rusqlite::Result<()> {
        self.tally = Tally::of(db)?;
        self.next_step = first_step(outbox::last_step(db)?);
        stored(db, &self.named_path(), found)
    }

    /// Version 0.1.0 kept what it had learned in a file.
    fn take_over_old_baseline(&mut self, found: &mut Found) -> rusqlite::Result<()> {
        let Some(place) = &self.place else {
            return Ok(());
        };
        if found.baseline.is_none() {
            match place.old_baseline() {
                Ok(Some(state)) => {
                    let json = serde_json::to_string(&state).unwrap_or_default();
                    self.store
                        .transact(true, |db| desk::put_baseline(db, &json))?;
                    found.baseline = Some(state);
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    found.notices.push(error.to_string());
                    return Ok(());
                }
            }
        }
        place.forget_old_baseline();
        Ok(())
    }

    /// Does `work` whole: on the disk, or if that fails in memory. A durable one is on disk when this returns, if there
    /// is one to write to. `None` when not even memory can be written.
    pub(super) fn run<T>(
        &mut self,
        durable: bool,
        work: impl Fn(&mut Desk<'_>) -> rusqlite::Result<T>,
    ) -> Option<T> {
        match self.attempt(durable, &work) {
            Ok(done) => return Some(done),
            Err(error) => self.fall_back(&error),
        }
        match self.attempt(durable, &work) {
            Ok(done) => Some(done),
            Err(error) => {
                log::error!("the ledger cannot even write to memory: {error}");
                None
            }
        }
    }

    fn attempt<T>(
        &mut self,
        durable: bool,
        work: impl Fn(&mut Desk<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let pages_max = self.store.pages_max();
        let before = self.tally;
        let owed = self.away.as_ref().map(|away| away.owed.clone());
        let (tell, next_step) = (self.settings.has_uplink, self.next_step);
        let (done, tally, next_step, owed) = self.store.transact(durable, |db| {
            let mut desk = Desk {
                db,
                pages_max,
                tell,
                now: clock::now(),
                tally: before,
                next_step,
                owed,
            };
            let done = work(&mut desk)?;
            desk.end(&before)?;
            Ok((done, desk.tally, desk.next_step, desk.owed))
        })?;
        self.tally = tally;
        self.next_step = next_step;
        if let (Some(away), Some(owed)) = (&mut self.away, owed) {
            away.owed = owed;
        }
        Ok(done)
    }

    /// Looks after the database: every half minute, when there is nothing else to do.
    pub(super) fn look_after(&mut self) {
        if self.away.is_some() {
            self.try_again();
        } else if let Some(place) = &self.place
            && place.identity() != self.store.identity()
        {
            // Whatever is written now is gone with the file that nobody can find.
            self.place = None;
            self.leave("it was removed or replaced while the agent worked with it".to_owned());
            self.try_again();
        }
        let keep_seconds = self.settings.keep_seconds;
        self.run(false, |desk| desk.tidy(keep_seconds));
        if self.away.is_none()
            && self.place.is_some()
            && let Err(error) = self.store.checkpoint()
        {
            self.fall_back(&error);
        }
    }

    /// Nothing more will come.
    pub(super) fn close(mut self) {
        if self.away.is_some() {
            self.try_again();
        }
        if self.away.is_some() {
            log::error!(
                "{}: could not be written to the end; what waited is lost: {} incidents and {} seconds",
                self.named_path().display(),
                self.tally.incidents,
                self.tally.samples,
            );
        }
    }

    /// Whether somebody tells what waits.
    pub(super) const fn has_uplink(&self) -> bool {
        self.settings.has_uplink
    }

    /// What waits, and where.
    pub(super) fn waiting(&self) -> Waiting {
        let storage = match &self.away {
            Some(away) => Storage::Fallback {
                since: away.since,
                reason: away.reason.clone(),
            },
            None if self.settings.dir.is_some() => Storage::Disk,
            None => Storage::Memory,
        };
        Waiting {
            incidents: self.tally.incidents,
            samples: self.tally.samples,
            dropped_events: self.tally.dropped_events,
            dropped_samples: self.tally.dropped_samples,
            storage,
        }
    }

    /// The database failed: goes on in memory. One that is damaged is set aside at once, and a new one takes its place.
    fn fall_back(&mut self, error: &rusqlite::Error) {
        let Some(place) = self.place.as_ref().filter(|_| self.away.is_none()) else {
            // It was in memory already, and nothing is left of it. The disk may have more.
            self.restart_memory();
            return;
        };
        let trouble = trouble(place, error);
        let is_unusable = matches!(trouble, Trouble::Unusable(_));
        self.leave(trouble.reason());
        if is_unusable {
            self.try_again();
        }
    }

    /// Turns from the disk to memory, with all that waits as far as it can be read.
    fn leave(&mut self, reason: String) {
        let Ok(mut memory) = Store::in_memory(MEMORY_BYTES) else {
            return;
        };
        let carried = carry(self.store.db(), &mut memory);
        std::mem::replace(&mut self.store, memory).abandon();
        self.tally.incidents = outbox::waiting(self.store.db()).unwrap_or_default();
        self.tally.samples = 0;
        self.away = Some(Away {
            since: clock::now(),
            reason,
            carried,
            counted: true,
            owed: Owed::default(),
        });
        if let Some(complaint) = self.complaint() {
            log::error!("{complaint}");
        }
    }

    fn restart_memory(&mut self) {
        if let Ok(memory) = Store::in_memory(MEMORY_BYTES) {
            self.store = memory;
            self.tally.incidents = 0;
            self.tally.samples = 0;
        }
    }

    /// Tries the disk again, and gives it back what came meanwhile.
    fn try_again(&mut self) {
        let mut notices = Vec::new();
        let tried = self.come_back(&mut notices);
        for notice in notices {
            log::error!("{notice}");
        }
        let Some(away) = &mut self.away else { return };
        match tried {
            Ok(()) => {
                let length = Duration(clock::now().millis_since(away.since));
                self.away = None;
                log::info!(
                    "{}: written again after {length}; nothing that waits was lost",
                    self.named_path().display()
                );
            }
            Err(reason) if reason != away.reason => {
                away.reason = reason;
                if let Some(complaint) = self.complaint() {
                    log::error!("{complaint}");
                }
            }
            Err(_) => {}
        }
    }

    fn come_back(&mut self, notices: &mut Vec<LedgerError>) -> Result<(), String> {
        let Some(dir) = self.settings.dir.clone() else {
            return Ok(());
        };
        let place = match self.place.take() {
            Some(place) if place.is_there() => place,
            _ => Place::open(&dir).map_err(|error| error.to_string())?,
        };
        let opened = open_disk(&place, self.settings.quota_bytes, notices);
        let place = self.place.insert(place);
        let mut disk = opened.map_err(Trouble::reason)?;
        let Some(away) = &self.away else {
            return Ok(());
        };
        let content = Content::of(self.store.db()).map_err(|error| error.to_string())?;
        let mut desk_tally = self.tally;
        let pages_max = disk.pages_max();
        let (tell, first_step) = (self.settings.has_uplink, self.next_step);
        let brought = disk.transact(true, |db| {
            let on_disk = Tally::of(db)?;
            if !away.counted {
                desk_tally.dropped_events += on_disk.dropped_events;
                desk_tally.dropped_samples += on_disk.dropped_samples;
            }
            let mut desk = Desk {
                db,
                pages_max,
                tell,
                now: clock::now(),
                tally: desk_tally,
                next_step: first_step.max(outbox::last_step(db)? + 1),
                owed: None,
            };
            away.bring_back(&mut desk, &content)?;
            let known = Tally::of(db)?;
            desk.tally.incidents = known.incidents;
            desk.tally.samples = known.samples;
            desk.end(&on_disk)?;
            Ok((desk.tally, desk.next_step))
        });
        let (tally, next_step) = brought.map_err(|error| trouble(place, &error).reason())?;
        self.tally = tally;
        self.next_step = next_step;
        self.store = disk;
        Ok(())
    }

    /// What to say about a disk that cannot be written.
    fn complaint(&self) -> Option<String> {
        let away = self.away.as_ref()?;
        let error = LedgerError::Unwritable {
            path: self.named_path(),
            reason: away.reason.clone(),
            retry_seconds: self.settings.retry.as_secs().max(1),
        };
        Some(error.to_string())
    }

    fn named_path(&self) -> PathBuf {
        let dir = self.settings.dir.clone().unwrap_or_default();
        self.place.as_ref().map_or(dir, Place::named_database)
    }
}

/// The database on the disk. One that cannot be used is set aside, and a new one takes its place.
fn open_disk(
    place: &Place,
    quota_bytes: u64,
    notices: &mut Vec<LedgerError>,
) -> Result<Store, Trouble> {
    let reason = match Store::open(place, quota_bytes) {
        Err(Trouble::Unusable(reason)) => reason,
        opened => return opened,
    };
    match place.set_aside(&reason) {
        Ok(said) => notices.push(said),
        Err(error) => {
            let both = format!("{reason}; setting it aside failed: {error}");
            return Err(Trouble::Failing(place.cure(both)));
        }
    }
    Store::open(place, quota_bytes)
}

fn in_memory(bytes: u64) -> Result<Store, LedgerError> {
    Store::in_memory(bytes).map_err(|error| LedgerError::Memory {
        reason: error.to_string(),
    })
}

/// What an earlier run left in a database. What cannot be read of it is said and gone on without.
fn stored(db: &Connection, path: &Path, found: &mut Found) -> rusqlite::Result<()> {
    let mut unusable = |what: &'static str, reason: String| {
        let error = LedgerError::Stored {
            path: path.to_owned(),
            what,
            reason,
        };
        found.notices.push(error.to_string());
    };
    if let Some(state) = desk::baseline(db)? {
        match files::parsed_baseline(state.as_bytes()) {
            Ok(state) => found.baseline = Some(state),
            Err(reason) => unusable("baseline", reason),
        }
    }
    if let Some(report) = outbox::open(db)? {
        match serde_json::from_str(&report) {
            Ok(report) => found.open = Some(report),
            Err(error) => unusable("open incident", error.to_string()),
        }
    }
    found.platform = desk::note(db, PLATFORM)?;
    Ok(())
}

/// The name of the first new step. Taken from the clock where that is later than all there were: so it differs from the
/// names on a disk that cannot be read now, and from those of steps that were settled in an earlier run.
fn first_step(last: i64) -> i64 {
    let micros = clock::now().as_nanos() / 1_000;
    last.saturating_add(1).max(signed(micros))
}
