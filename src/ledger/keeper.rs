//! Where things are kept: on the disk, or in memory while the disk fails.
//!
//! When the disk fails, what waits is carried over to a database in memory, the work goes on there, and the disk is
//! tried again until it takes everything back: whole, and nothing twice. Said once when it begins, with the cure, and
//! once when it is over. Called at start, then on the ledger's thread.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::away::{Away, CarriedOver, Content, Departures};
use super::desk::{self, Desk, Owed, Tally};
use super::files::{self, Place, Trouble};
use super::outbox;
use super::store::{Store, signed, trouble};
use super::{Found, LedgerError, PLATFORM, Settings, Storage, Waiting};
use crate::clock;
use crate::incident::Report;
use crate::words::Duration;

/// Bytes of a database in memory: what the agent may still grow by in the worst of its times. Beside incidents it holds
/// a day of seconds.
const MEMORY_BYTES: u64 = 8 << 20;

/// Keeps everything, somewhere.
#[derive(Debug)]
pub(super) struct Keeper {
    settings: Settings,
    /// Ours as long as `store` is the database in it. While it stands in for the disk, nothing of ours keeps a file
    /// system from being repaired.
    place: Option<Place>,
    store: Store,
    /// Why, and what to do about it, when `store` only stands in for the disk.
    away: Option<Away>,
    departures: Departures,
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
            departures: Departures::default(),
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
        let mut keeper = Self::new(settings, None, in_memory(MEMORY_BYTES)?);
        let disk = place.as_ref().map(Store::open_to_read);
        if let Some(Ok(disk)) = disk {
            if keeper.read(disk.db(), found).is_ok() {
                keeper.departures.leave(&disk, &mut keeper.store);
            }
            disk.abandon();
        }
        keeper.tally.incidents = outbox::waiting(keeper.store.db()).unwrap_or_default();
        keeper.tally.samples = 0;
        keeper.away = Some(Away {
            since: clock::now(),
            reason,
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

    /// An earlier build kept what it had learned in a file.
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
            self.leave("it was removed or replaced while the agent worked with it".to_owned());
            self.try_again();
        }
        let keep_seconds = self.settings.keep_seconds;
        self.run(false, |desk| desk.tidy(keep_seconds));
        if self.place.is_some()
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
        let Some(place) = &self.place else {
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
        self.departures.leave(&self.store, &mut memory);
        std::mem::replace(&mut self.store, memory).abandon();
        self.place = None;
        self.tally.incidents = outbox::waiting(self.store.db()).unwrap_or_default();
        self.tally.samples = 0;
        self.away = Some(Away {
            since: clock::now(),
            reason,
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
        let place = Place::open(&dir).map_err(|error| error.to_string())?;
        let opened = open_disk(&place, self.settings.quota_bytes, notices);
        let mut disk = opened.map_err(Trouble::reason)?;
        let Some(away) = &self.away else {
            return Ok(());
        };
        let content = Content::of(self.store.db()).map_err(|error| error.to_string())?;
        let mut desk_tally = self.tally;
        let said = |error: &rusqlite::Error| trouble(&place, error).reason();
        let edition = disk.edition().map_err(|error| said(&error))?;
        let known = self.departures.carried_from(edition);
        let is_new = outbox::is_empty(disk.db()).map_err(|error| said(&error))?;
        let (is_counted, carried) = match known {
            Some(carried) => (true, carried),
            None if is_new => (false, CarriedOver::All),
            None => (false, CarriedOver::default()),
        };
        let pages_max = disk.pages_max();
        let (tell, first_step) = (self.settings.has_uplink, self.next_step);
        let brought = disk.transact(true, |db| {
            let on_disk = Tally::of(db)?;
            if !is_counted {
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
            away.bring_back(&mut desk, &content, &carried)?;
            let known = Tally::of(db)?;
            desk.tally.incidents = known.incidents;
            desk.tally.samples = known.samples;
            desk.end(&on_disk)?;
            Ok((desk.tally, desk.next_step))
        });
        let (tally, next_step) = brought.map_err(|error| said(&error))?;
        self.tally = tally;
        self.next_step = next_step;
        self.store = disk;
        self.place = Some(place);
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
        files::named_database(self.settings.dir.as_deref().unwrap_or(Path::new("")))
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
    for report in outbox::over(db)? {
        match serde_json::from_str::<Report>(&report) {
            // One whose end nobody recorded is none that could come back.
            Ok(report) if report.ended_at.is_none() => {}
            Ok(report) => found.over.push(report),
            Err(error) => unusable("incident that is over", error.to_string()),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, symlink};

    use super::super::testing::{Scratch, report, sample};
    use super::super::{Outgoing, PlatformIds, Sample, Settled, Step, Ticket};
    use super::*;
    use crate::detect::baseline::{
        Baseline, BaselineState, Judgement, LearningCaps, SecondValues, Series,
    };

    fn opened(scratch: &Scratch) -> (Keeper, Found) {
        Keeper::open(scratch.settings()).unwrap()
    }

    fn state(seconds: u64) -> BaselineState {
        let mut baseline = Baseline::new(crate::detect::baseline::Settings::default());
        let mut values = SecondValues::new();
        values.set(Series::Pps, 1_234);
        for second in 1_772_409_600..1_772_409_600 + seconds {
            baseline.second(second, &values, Judgement::Quiet, &LearningCaps::default());
        }
        baseline.state()
    }

    impl Keeper {
        fn event(&mut self, id: &str, step: Step, telling: u64) {
            let report = report(id, telling);
            self.run(true, |desk| desk.event(step, &report)).unwrap();
        }

        fn second(&mut self, second: u64) {
            self.run(false, |desk| desk.second(&sample(second, second)))
                .unwrap();
        }

        fn outgoing(&mut self) -> Vec<Outgoing> {
            self.run(false, |desk| desk.outgoing()).unwrap()
        }

        fn settle(&mut self, ticket: Ticket, settled: &Settled) {
            self.run(true, |desk| desk.settle(ticket, settled)).unwrap();
        }

        fn samples(&mut self) -> Vec<Sample> {
            self.run(false, |desk| desk.samples(false, 1_000)).unwrap()
        }

        /// Delivers everything there is; says what that was, in order.
        fn deliver_all(&mut self) -> Vec<(String, Step, u64)> {
            let mut told = Vec::new();
            while let Some(first) = self.outgoing().into_iter().next() {
                self.settle(first.ticket, &Settled::Delivered(PlatformIds::default()));
                told.push((first.report.id, first.step, first.report.packets));
            }
            told
        }

        fn is_away(&self) -> bool {
            matches!(self.waiting().storage, Storage::Fallback { .. })
        }
    }

    fn told(told: &[(&str, Step, u64)]) -> Vec<(String, Step, u64)> {
        told.iter()
            .map(|(id, step, telling)| ((*id).to_owned(), *step, *telling))
            .collect()
    }

    fn delivered(id: i64) -> Settled {
        Settled::Delivered(PlatformIds {
            id: Some(id),
            uuid: None,
        })
    }

    #[test]
    fn what_was_kept_is_found_at_the_next_start() {
        let scratch = Scratch::new();
        let (mut keeper, found) = opened(&scratch);
        assert!(found.baseline.is_none() && found.open.is_none() && found.notices.is_empty());
        keeper.event("a", Step::Open, 0);
        keeper.event("a", Step::Update, 5);
        keeper.second(1_000);
        let learned = state(200);
        keeper.run(true, |desk| desk.baseline(&learned)).unwrap();
        keeper.run(false, |desk| desk.note(PLATFORM, "{}")).unwrap();
        keeper.run(false, |desk| {
            desk.lost(3, 4);
            Ok(())
        });
        let waiting = keeper.waiting();
        keeper.close();

        let (mut keeper, found) = opened(&scratch);
        assert_eq!(found.notices, [""; 0]);
        assert_eq!(found.open.unwrap().packets, 5);
        assert_eq!(found.baseline, Some(learned));
        assert_eq!(found.platform.as_deref(), Some("{}"));
        assert_eq!(keeper.waiting(), waiting);
        assert_eq!((waiting.incidents, waiting.samples), (1, 1));
        assert_eq!((waiting.dropped_events, waiting.dropped_samples), (3, 4));
        assert_eq!(keeper.samples(), [sample(1_000, 1_000)]);
        let all = keeper.deliver_all();
        assert_eq!(all, told(&[("a", Step::Open, 0), ("a", Step::Update, 5)]));
    }

    #[test]
    fn incidents_that_are_over_are_found_the_newest_of_them_in_order() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        let end = |keeper: &mut Keeper, id: &str| {
            let mut ended = report(id, 1);
            ended.ended_at = Some(ended.opened_at);
            keeper.event(id, Step::Open, 0);
            keeper
                .run(true, |desk| desk.event(Step::Resolve, &ended))
                .unwrap();
        };
        for number in 0..30 {
            end(&mut keeper, &number.to_string());
        }
        // Never ended, and not open either once another one is; and one that cannot be read.
        keeper.event("forgotten", Step::Open, 0);
        end(&mut keeper, "damaged");
        end(&mut keeper, "last");
        keeper.event("open", Step::Open, 0);
        let damage = "UPDATE incident SET report = '{}' WHERE name = 'damaged'";
        keeper
            .run(false, |desk| desk.db.execute_batch(damage))
            .unwrap();
        keeper.close();
        let (_, found) = opened(&scratch);
        assert_eq!(found.open.unwrap().id, "open");
        let over: Vec<&str> = found.over.iter().map(|report| report.id.as_str()).collect();
        let mut expected: Vec<String> = (9..30).map(|number: u32| number.to_string()).collect();
        expected.push("last".to_owned());
        assert_eq!(over, expected);
        let [said] = &found.notices[..] else {
            panic!("{:?}", found.notices)
        };
        assert!(
            said.contains("the stored incident that is over cannot be used: missing field"),
            "{said}"
        );
    }

    #[test]
    fn a_database_that_cannot_be_used_is_set_aside_with_the_reason() {
        let run_sql = |path: &Path, sql: &str| {
            Connection::open(path).unwrap().execute_batch(sql).unwrap();
        };
        type Damage<'a> = &'a dyn Fn(&Path);
        let cases: [(Damage<'_>, &str); 9] = [
            (
                &|path| fs::write(path, "not a database, for once").unwrap(),
                "it is not a database",
            ),
            (&|path| fs::write(path, vec![0; 8_192]).unwrap(), "it is"),
            (
                &|path| {
                    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
                },
                "it is damaged: ",
            ),
            (
                &|path| {
                    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                    file.write_all_at(&[0xff; 5_000], 9_000).unwrap();
                },
                "it is damaged: ",
            ),
            (
                &|path| run_sql(path, "PRAGMA user_version = 2"),
                "its format is 2, expected 1: another version of ftagent wrote it",
            ),
            (
                &|path| run_sql(path, "PRAGMA application_id = 7"),
                "it is the database of another program",
            ),
            (
                &|path| run_sql(path, "DROP TABLE note"),
                "it is damaged: its tables are not those of this version",
            ),
            (
                &|path| {
                    fs::remove_file(path).unwrap();
                    fs::create_dir(path).unwrap();
                },
                "it is not a file",
            ),
            (
                &|path| {
                    fs::rename(path, path.with_extension("real")).unwrap();
                    symlink(path.with_extension("real"), path).unwrap();
                },
                "it is a symbolic link, which is not followed",
            ),
        ];
        for (damage, reason) in cases {
            let scratch = Scratch::new();
            let (mut keeper, _) = opened(&scratch);
            keeper.event("a", Step::Open, 0);
            keeper.close();
            let path = scratch.state().join("ftagent.db");
            damage(&path);
            let (mut keeper, found) = opened(&scratch);
            let [said] = &found.notices[..] else {
                panic!("{reason}: {:?}", found.notices)
            };
            let begin = format!("{}: {reason}", path.display());
            let end = format!(
                "; kept as {}.unusable, and a new one begins",
                path.display()
            );
            assert!(said.starts_with(&begin) && said.ends_with(&end), "{said}");
            assert!(!keeper.is_away() && keeper.outgoing().is_empty());
            keeper.event("b", Step::Open, 0);
            keeper.close();
            assert!(scratch.names().contains(&"ftagent.db.unusable".to_owned()));
            let (mut keeper, found) = opened(&scratch);
            assert_eq!(found.notices, [""; 0], "the second start is a clean one");
            assert_eq!(keeper.deliver_all(), told(&[("b", Step::Open, 0)]));
        }
    }

    #[test]
    fn statistics_that_an_operator_made_are_no_damage() {
        let scratch = Scratch::new();
        opened(&scratch).0.close();
        let path = scratch.state().join("ftagent.db");
        Connection::open(path)
            .unwrap()
            .execute_batch("ANALYZE; VACUUM")
            .unwrap();
        assert_eq!(opened(&scratch).1.notices, [""; 0]);
    }

    #[test]
    fn stored_parts_that_make_no_sense_are_said_and_gone_on_without() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("a", Step::Open, 0);
        let damage = "UPDATE incident SET report = '{}'; INSERT INTO baseline VALUES (1, '{}')";
        keeper
            .run(false, |desk| desk.db.execute_batch(damage))
            .unwrap();
        keeper.close();
        let (_, found) = opened(&scratch);
        assert!(found.open.is_none() && found.baseline.is_none());
        let [baseline, open] = &found.notices[..] else {
            panic!("{:?}", found.notices)
        };
        assert!(baseline.contains("the stored baseline cannot be used: it is damaged: missing"));
        assert!(
            open.contains("the stored open incident cannot be used: missing field"),
            "{open}"
        );
    }

    #[test]
    fn what_the_first_version_had_learned_is_taken_over_once() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.state()).unwrap();
        let old = scratch.state().join("baseline.json");
        fs::write(&old, serde_json::to_vec(&state(300)).unwrap()).unwrap();
        let (keeper, found) = opened(&scratch);
        assert_eq!(
            (found.baseline, found.notices),
            (Some(state(300)), Vec::new())
        );
        keeper.close();
        assert_eq!(scratch.names(), ["ftagent.db"]);
        let (keeper, found) = opened(&scratch);
        assert_eq!(found.baseline, Some(state(300)));
        keeper.close();
        // What has been learned since counts more.
        fs::write(&old, "half of a ").unwrap();
        assert_eq!(opened(&scratch).1.notices, [""; 0]);
        assert_eq!(scratch.names(), ["ftagent.db"]);

        let scratch = Scratch::new();
        fs::create_dir(scratch.state()).unwrap();
        fs::write(scratch.state().join("baseline.json"), "half of a ").unwrap();
        let (_, found) = opened(&scratch);
        assert!(
            found.notices[0].contains("baseline.json: it is damaged"),
            "{:?}",
            found.notices
        );
        assert_eq!(scratch.names(), ["baseline.json.unusable", "ftagent.db"]);
    }

    /// Keeps the database locked, as a person with a shell might.
    fn locked(scratch: &Scratch) -> Connection {
        let other = Connection::open(scratch.state().join("ftagent.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    }

    #[test]
    fn while_the_disk_is_away_the_work_goes_on_and_nothing_is_lost_or_doubled() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("told", Step::Open, 0);
        keeper.deliver_all();
        for id in ["under way", "waits", "merges", "old"] {
            keeper.event(id, Step::Open, 0);
        }
        keeper.event("old", Step::Update, 1);
        for second in 1_000..1_010 {
            keeper.second(second);
        }
        keeper
            .run(false, |desk| desk.note("kept", "before"))
            .unwrap();
        let under_way = keeper.outgoing().remove(0);
        let samples_under_way = &keeper.samples()[..3];

        let lock = locked(&scratch);
        keeper.event("new", Step::Open, 0);
        let Storage::Fallback { reason, .. } = keeper.waiting().storage else {
            panic!("the disk cannot be written")
        };
        assert_eq!(reason, "another program keeps it locked; end that program");
        // All that waited is shown, and what was under way can be settled.
        assert_eq!(keeper.outgoing().len(), 5);
        keeper.settle(under_way.ticket, &delivered(1));
        keeper
            .run(false, |desk| desk.told(samples_under_way))
            .unwrap();
        keeper.event("told", Step::Update, 1);
        keeper.event("merges", Step::Update, 1);
        keeper.event("merges", Step::Resolve, 2);
        keeper.event("under way", Step::Update, 1);
        let still_under_way = keeper
            .outgoing()
            .into_iter()
            .find(|step| step.report.id == "waits");
        let still_under_way = still_under_way.unwrap();
        for second in 1_010..1_015 {
            keeper.second(second);
        }
        let learned = state(100);
        keeper.run(true, |desk| desk.baseline(&learned)).unwrap();
        keeper
            .run(false, |desk| desk.note("new", "meanwhile"))
            .unwrap();
        keeper.look_after();
        assert!(keeper.is_away(), "it is still locked");

        drop(lock);
        keeper.look_after();
        assert!(!keeper.is_away());
        keeper.settle(still_under_way.ticket, &delivered(2));
        let waiting = keeper.waiting();
        assert_eq!((waiting.incidents, waiting.samples), (5, 12));
        assert_eq!((waiting.dropped_events, waiting.dropped_samples), (0, 0));
        keeper.close();

        let (mut keeper, found) = opened(&scratch);
        assert_eq!(found.notices, [""; 0]);
        assert_eq!(found.baseline, Some(learned));
        let starts: Vec<u64> = keeper
            .samples()
            .iter()
            .map(|sample| sample.start.as_seconds())
            .collect();
        assert_eq!(starts, (1_003..1_015).collect::<Vec<u64>>());
        let notes = keeper.run(false, |desk| desk::notes(desk.db)).unwrap();
        let notes: Vec<&str> = notes.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(notes, ["before", "meanwhile"]);
        let ids: Vec<Option<i64>> = keeper.outgoing().iter().map(|step| step.ids.id).collect();
        assert_eq!(ids, [None, Some(1), None, None, None]);
        let rest = keeper.deliver_all();
        assert_eq!(
            rest,
            told(&[
                ("told", Step::Update, 1),
                ("under way", Step::Update, 1),
                ("merges", Step::Open, 0),
                ("merges", Step::Resolve, 2),
                ("old", Step::Open, 0),
                ("old", Step::Update, 1),
                ("new", Step::Open, 0),
            ])
        );
    }

    #[test]
    fn what_could_not_be_read_stays_on_the_disk_and_is_told_when_it_is_back() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("over", Step::Open, 0);
        keeper.event("over", Step::Resolve, 1);
        keeper.event("goes on", Step::Open, 0);
        let [over, goes_on] = &keeper.outgoing()[..] else {
            panic!("two incidents")
        };
        // Only the attack that goes on can be read.
        let damage = "PRAGMA ignore_check_constraints = ON;
            UPDATE step SET kind = 'torn' WHERE kind = 'resolve'";
        keeper
            .run(true, |desk| desk.db.execute_batch(damage))
            .unwrap();
        keeper.leave("the disk fails".to_owned());
        let mend = "UPDATE step SET kind = 'resolve' WHERE kind = 'torn'";
        let other = Connection::open(scratch.state().join("ftagent.db")).unwrap();
        other.execute(mend, []).unwrap();
        drop(other);

        keeper.settle(over.ticket, &delivered(1));
        keeper.settle(goes_on.ticket, &delivered(2));
        keeper.event("goes on", Step::Update, 1);
        // It came back, and this is all that is known of it.
        keeper.event("over", Step::Update, 2);
        keeper.look_after();
        assert!(!keeper.is_away());
        let ids: Vec<Option<i64>> = keeper.outgoing().iter().map(|step| step.ids.id).collect();
        assert_eq!(ids, [Some(1), Some(2)]);
        assert_eq!(
            keeper.deliver_all(),
            told(&[
                ("over", Step::Resolve, 1),
                ("over", Step::Open, 2),
                ("goes on", Step::Update, 1)
            ])
        );
    }

    #[test]
    fn seconds_that_will_not_be_told_are_not_told_after_the_disk_is_back() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        (100..110).for_each(|second| keeper.second(second));
        keeper.leave("the disk fails".to_owned());
        (110..120).for_each(|second| keeper.second(second));
        keeper.run(false, |desk| desk.skip()).unwrap();
        keeper.second(120);
        keeper.look_after();
        assert_eq!((keeper.is_away(), keeper.waiting().samples), (false, 1));
        assert_eq!(keeper.samples(), [sample(120, 120)]);
    }

    #[test]
    fn a_database_that_is_damaged_at_work_is_replaced_and_what_waits_is_kept() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("a", Step::Open, 0);
        // Three times what SQLite holds in memory.
        let fill =
            "WITH RECURSIVE n (s) AS (SELECT 1 UNION ALL SELECT s + 1 FROM n WHERE s < 60000)
            INSERT INTO sample SELECT s, 1, 1, 1, 1e11, 1e11, 500, 500, 500, 500, 500 FROM n";
        keeper.run(true, |desk| desk.db.execute(fill, [])).unwrap();
        // The log has a sound copy of everything until it begins anew.
        keeper.close();
        let (mut keeper, _) = opened(&scratch);
        let path = scratch.state().join("ftagent.db");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        file.write_all_at(&vec![0xff; 100 << 10], length / 2)
            .unwrap();
        let count = "SELECT sum(pps + bps) FROM sample";
        keeper.run(false, |desk| {
            desk.db
                .query_row(count, [], |row| row.get::<_, Option<i64>>(0))
        });
        assert!(!keeper.is_away(), "{:?}", keeper.waiting());
        assert_eq!(scratch.names(), ["ftagent.db", "ftagent.db.unusable"]);
        keeper.event("a", Step::Resolve, 1);
        keeper.close();
        let (mut keeper, found) = opened(&scratch);
        assert_eq!(found.notices, [""; 0]);
        assert_eq!(
            keeper.deliver_all(),
            told(&[("a", Step::Open, 0), ("a", Step::Resolve, 1)])
        );
    }

    #[test]
    fn a_database_or_a_directory_that_is_removed_at_work_is_made_again() {
        type Remove<'a> = &'a dyn Fn(&Path);
        let removals: [Remove<'_>; 3] = [
            &|state| fs::remove_file(state.join("ftagent.db")).unwrap(),
            &|state| fs::remove_dir_all(state).unwrap(),
            &|state| fs::rename(state, state.with_extension("moved")).unwrap(),
        ];
        for remove in removals {
            let scratch = Scratch::new();
            let (mut keeper, _) = opened(&scratch);
            keeper.event("a", Step::Open, 0);
            remove(&scratch.state());
            keeper.event("b", Step::Open, 0);
            keeper.look_after();
            assert!(!keeper.is_away(), "{:?}", keeper.waiting());
            keeper.event("c", Step::Open, 0);
            keeper.close();
            let (mut keeper, found) = opened(&scratch);
            assert_eq!(found.notices, [""; 0]);
            let all = [
                ("a", Step::Open, 0),
                ("b", Step::Open, 0),
                ("c", Step::Open, 0),
            ];
            assert_eq!(keeper.deliver_all(), told(&all));
        }
    }

    #[test]
    fn what_waits_on_a_disk_that_is_mounted_later_is_told_too() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("earlier", Step::Open, 0);
        keeper.event("both", Step::Open, 0);
        keeper.close();
        // The mount comes after the agent: it begins in the empty directory beneath.
        fs::rename(scratch.state(), scratch.path().join("disk")).unwrap();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("both", Step::Update, 1);
        keeper.event("later", Step::Open, 0);
        fs::rename(scratch.state(), scratch.path().join("beneath")).unwrap();
        fs::rename(scratch.path().join("disk"), scratch.state()).unwrap();
        keeper.look_after();
        assert!(!keeper.is_away());
        let all = [
            ("earlier", Step::Open, 0),
            ("both", Step::Open, 0),
            ("both", Step::Update, 1),
            ("later", Step::Open, 0),
        ];
        assert_eq!(keeper.deliver_all(), told(&all));
    }

    #[test]
    fn a_disk_that_is_repaired_meanwhile_brings_nothing_back_that_was_told() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("told meanwhile", Step::Open, 0);
        keeper.event("waits", Step::Open, 0);
        // Taken away, and the work goes on in the empty directory beneath.
        fs::rename(scratch.state(), scratch.path().join("disk")).unwrap();
        keeper.look_after();
        assert!(!keeper.is_away());
        let under_way = keeper.outgoing().remove(0);
        keeper.settle(under_way.ticket, &delivered(3));
        keeper.event("waits", Step::Update, 1);
        fs::rename(scratch.state(), scratch.path().join("beneath")).unwrap();
        fs::rename(scratch.path().join("disk"), scratch.state()).unwrap();
        keeper.look_after();
        let all = [("waits", Step::Open, 0), ("waits", Step::Update, 1)];
        assert_eq!(keeper.deliver_all(), told(&all));
        // Told again rather than lost, when somebody else has had it in hand.
        keeper.event("goes on", Step::Open, 0);
        fs::rename(scratch.state(), scratch.path().join("disk")).unwrap();
        keeper.look_after();
        keeper.deliver_all();
        let borrowed = Settings {
            dir: Some(scratch.path().join("disk")),
            ..scratch.settings()
        };
        let (mut other, _) = Keeper::open(borrowed).unwrap();
        other.event("another's", Step::Open, 0);
        other.close();
        fs::rename(scratch.state(), scratch.path().join("beneath too")).unwrap();
        fs::rename(scratch.path().join("disk"), scratch.state()).unwrap();
        keeper.look_after();
        let all = [("goes on", Step::Open, 0), ("another's", Step::Open, 0)];
        assert_eq!(keeper.deliver_all(), told(&all));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_said_with_the_cure_and_tried_again() {
        let scratch = Scratch::new();
        let blocked = scratch.path().join("mount");
        fs::write(&blocked, "").unwrap();
        let settings = Settings {
            dir: Some(blocked.join("state")),
            ..scratch.settings()
        };
        let (mut keeper, found) = Keeper::open(settings.clone()).unwrap();
        let [said] = &found.notices[..] else {
            panic!("{:?}", found.notices)
        };
        assert!(
            said.contains("cannot look at the directory: Not a directory"),
            "{said}"
        );
        assert!(
            said.contains("give this user the directory; until then incidents"),
            "{said}"
        );
        keeper.event("a", Step::Open, 0);
        keeper.second(5);
        assert_eq!(keeper.outgoing().len(), 1);
        fs::remove_file(&blocked).unwrap();
        keeper.look_after();
        assert!(!keeper.is_away());
        keeper.close();
        let (mut keeper, _) = Keeper::open(settings).unwrap();
        assert_eq!(keeper.samples(), [sample(5, 5)]);
        assert_eq!(keeper.deliver_all(), told(&[("a", Step::Open, 0)]));
    }

    #[test]
    fn a_disk_that_cannot_be_written_at_the_start_is_still_read() {
        let scratch = Scratch::new();
        let (mut keeper, _) = opened(&scratch);
        keeper.event("a", Step::Open, 0);
        let learned = state(100);
        keeper.run(true, |desk| desk.baseline(&learned)).unwrap();
        keeper.second(1_000);
        keeper.close();
        let lock = locked(&scratch);
        let (mut keeper, found) = opened(&scratch);
        assert!(keeper.is_away());
        assert_eq!(found.notices.len(), 1);
        assert_eq!(found.open.unwrap().id, "a");
        assert_eq!(found.baseline, Some(learned));
        keeper.event("a", Step::Update, 1);
        keeper.second(1_001);
        drop(lock);
        keeper.look_after();
        assert_eq!((keeper.is_away(), keeper.waiting().samples), (false, 2));
        assert_eq!(
            keeper.deliver_all(),
            told(&[("a", Step::Open, 0), ("a", Step::Update, 1)])
        );
    }

    #[test]
    fn old_seconds_go_and_the_log_does_not_grow_without_bound() {
        let scratch = Scratch::new();
        let mut settings = scratch.settings();
        settings.keep_seconds = 100;
        let (mut keeper, _) = Keeper::open(settings).unwrap();
        let log = scratch.state().join("ftagent.db-wal");
        let mut longest = 0;
        for round in 0..20 {
            for second in 0..30 {
                keeper.second(1_000 + round * 30 + second);
            }
            longest = longest.max(fs::metadata(&log).unwrap().len());
            keeper.look_after();
        }
        assert!(longest < 1 << 20, "{longest}");
        assert_eq!(keeper.samples().len(), 101);
        assert_eq!(keeper.waiting().samples, 101);
    }
}
