//! The database: how it is opened, checked and written.
//!
//! One connection writes; it is the ledger's thread's. A transaction is durable when it has to be, and otherwise costs
//! no wait for the disk. Nothing here decides what to do about a failing disk, see [`super::keeper`].

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};

use super::away::Edition;
use super::files::{FULL, Identity, Place, Trouble};
use super::room;
use crate::clock;

/// Says whose database it is: `ftag`.
const APPLICATION_ID: i32 = 0x6674_6167;

/// Format of the database. A change of [`SCHEMA`] needs a new one, and a step from the one before.
const VERSION: i32 = 1;

/// What is kept. The report of a step is empty while it is its incident's last step: then it tells the incident's
/// newest report, which is stored once.
const SCHEMA: &str = "
    CREATE TABLE incident (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        is_open INTEGER NOT NULL,
        is_announced INTEGER NOT NULL,
        report TEXT NOT NULL,
        platform_id INTEGER,
        platform_uuid TEXT
    ) STRICT;
    CREATE TABLE step (
        id INTEGER PRIMARY KEY,
        incident INTEGER NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
        kind TEXT NOT NULL CHECK (kind IN ('open', 'update', 'resolve')),
        revision INTEGER NOT NULL,
        report TEXT,
        attempts INTEGER NOT NULL,
        waiting_since INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX step_of_incident ON step (incident, id);
    CREATE UNIQUE INDEX step_opens_once ON step (incident) WHERE kind = 'open';
    CREATE TABLE dead_letter (
        id INTEGER PRIMARY KEY,
        incident TEXT NOT NULL,
        kind TEXT NOT NULL,
        report TEXT NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE sample (
        start INTEGER PRIMARY KEY,
        told INTEGER NOT NULL,
        pps INTEGER NOT NULL,
        pps_max INTEGER NOT NULL,
        bps INTEGER NOT NULL,
        bps_max INTEGER NOT NULL,
        tcp_permille INTEGER NOT NULL,
        udp_permille INTEGER NOT NULL,
        icmp_permille INTEGER NOT NULL,
        connections INTEGER NOT NULL,
        threshold_pps INTEGER
    ) STRICT;
    CREATE INDEX sample_untold ON sample (told) WHERE told = 0;
    CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE baseline (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL) STRICT;
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// The counters that say when the database was made, and how often it was opened.
const BORN: &str = "born";
const STARTS: &str = "starts";

/// Bytes of a page: SQLite's default, and the file system's own.
pub(super) const PAGE_BYTES: u64 = 4_096;

/// Bytes of the quota that are the log's. Between two checkpoints, half a minute apart, a second writes three pages
/// and an incident about ten: 1.6 MB at most, and the baseline may be as much again.
const LOG_BYTES: u64 = 4 << 20;

/// Bytes of the database that are held in memory; a second touches three pages.
const CACHE_KIBIBYTES: i64 = 1_024;

/// How long a reader may keep us from what we have to do alone. Writing does not wait for readers.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// Statements that are kept prepared: more than there are.
const STATEMENTS: usize = 64;

/// A database that can be worked with.
#[derive(Debug)]
pub(super) struct Store {
    db: Connection,
    identity: Option<Identity>,
    pages_max: u64,
    is_durable: bool,
}

impl Store {
    /// The database in `place`, made if there is none.
    ///
    /// # Errors
    ///
    /// [`Trouble::Unusable`] when it is not one of ours or damaged, [`Trouble::Failing`] when it cannot be written.
    pub(super) fn open(place: &Place, quota_bytes: u64) -> Result<Self, Trouble> {
        place.prepare()?;
        let identity = place.identity();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let opened = Connection::open_with_flags(place.database(), flags);
        let bytes = quota_bytes.saturating_sub(LOG_BYTES).max(quota_bytes / 2);
        let made = opened.and_then(|db| Self::of(db, bytes));
        let mut store = made.map_err(|error| trouble(place, &error))?;
        store.identity = identity;
        store.begin().map_err(|error| trouble(place, &error))??;
        Ok(store)
    }

    /// A database in memory, of the same shape.
    pub(super) fn in_memory(bytes: u64) -> rusqlite::Result<Self> {
        let mut store = Self::of(Connection::open_in_memory()?, bytes)?;
        store.create()?;
        Ok(store)
    }

    /// The database in `place`, to read what is in it although nothing can be written: not even locks and the index
    /// of the log, which are kept in memory. Only for whoever has the place for himself.
    pub(super) fn open_to_read(place: &Place) -> Result<Self, Trouble> {
        let identity = place.identity();
        let opened = open_alone(&place.database());
        let mut store = opened
            .and_then(|db| Self::of(db, PAGE_BYTES))
            .map_err(|error| trouble(place, &error))?;
        store.identity = identity;
        store.check().map_err(|error| trouble(place, &error))??;
        Ok(store)
    }

    fn of(db: Connection, bytes: u64) -> rusqlite::Result<Self> {
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        harden(&db)?;
        db.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        // Nothing is written outside of the directory that was given.
        db.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(Self {
            db,
            identity: None,
            pages_max: (bytes / PAGE_BYTES).max(room::PAGES_MIN),
            is_durable: false,
        })
    }

    /// Makes the database ready to be written, after a look at whether it is one of ours.
    fn begin(&mut self) -> rusqlite::Result<Result<(), Trouble>> {
        let is_new = pragma(&self.db, "schema_version")? == 0;
        if !is_new && let Err(trouble) = self.check()? {
            return Ok(Err(trouble));
        }
        self.db
            .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        // Checkpoints are made when there is time for them, never inside an event's commit.
        self.db
            .query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
        self.db
            .pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        if is_new {
            self.create()?;
        }
        self.limit_pages()?;
        // A file system that lets us read may still not let us write: know it now.
        self.transact(true, |db| set_counter(db, STARTS, counter(db, STARTS)? + 1))?;
        Ok(Ok(()))
    }

    fn create(&mut self) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        tx.execute_batch(SCHEMA)?;
        set_counter(&tx, BORN, clock::now().as_nanos())?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.commit()?;
        self.limit_pages()
    }

    /// SQLite keeps the limit too, a little above ours: whoever meets it has not asked for room.
    fn limit_pages(&self) -> rusqlite::Result<()> {
        let sql = format!("PRAGMA max_page_count = {}", self.pages_max);
        self.db.query_row(&sql, [], |_| Ok(()))
    }

    /// Whether the database is one of ours, of this version, and whole.
    fn check(&self) -> rusqlite::Result<Result<(), Trouble>> {
        let unusable = |reason: String| Ok(Err(Trouble::Unusable(reason)));
        if pragma(&self.db, "application_id")? != i64::from(APPLICATION_ID) {
            return unusable("it is the database of another program".to_owned());
        }
        let version = pragma(&self.db, "user_version")?;
        if version != i64::from(VERSION) {
            return unusable(format!(
                "its format is {version}, expected {VERSION}: another version of ftagent wrote it"
            ));
        }
        let found: String = self
            .db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return unusable(format!("it is damaged: {}", found.replace('\n', " ")));
        }
        let expected = Connection::open_in_memory()?;
        expected.execute_batch(SCHEMA)?;
        if schema(&self.db)? != schema(&expected)? {
            return unusable("it is damaged: its tables are not those of this version".to_owned());
        }
        Ok(Ok(()))
    }

    /// Does `work` whole or not at all. A durable one is on disk when this returns, with everything before it.
    pub(super) fn transact<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.is_durable != durable {
            let mode = if durable { "FULL" } else { "NORMAL" };
            self.db.pragma_update(None, "synchronous", mode)?;
            self.is_durable = durable;
        }
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&tx)?;
        tx.commit()?;
        Ok(done)
    }

    /// To read from.
    pub(super) const fn db(&self) -> &Connection {
        &self.db
    }

    /// Pages the database may have.
    pub(super) const fn pages_max(&self) -> u64 {
        self.pages_max
    }

    /// Which database it is.
    pub(super) fn edition(&self) -> rusqlite::Result<Edition> {
        Ok(Edition {
            born: counter(&self.db, BORN)?,
            starts: counter(&self.db, STARTS)?,
        })
    }

    /// Which file it is; none in memory.
    pub(super) const fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Moves what the log holds into the database, as far as readers let it.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.db
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Lets go of a database whose disk fails, without another try to write to it.
    pub(super) fn abandon(self) {
        let _ = self
            .db
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }
}

/// A database for somebody who only looks. While an agent runs, its locks and the index of its log are used.
///
/// # Errors
///
/// What SQLite says.
pub(super) fn open_to_look(path: &Path, is_in_use: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = if is_in_use {
        Connection::open_with_flags(path, flags)?
    } else {
        open_alone(path)?
    };
    db.busy_timeout(BUSY_TIMEOUT)?;
    harden(&db)?;
    Ok(db)
}

/// Opens without writing anything at all beside the database, and without locks.
fn open_alone(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags_and_vfs(path, flags, c"unix-none")?;
    // Before the first look at the file: then the index of the log is made in memory.
    db.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    Ok(db)
}

/// A file that somebody else has written must not run anything here.
fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    db.pragma_update(None, "cell_size_check", true)
}

/// What SQLite's error means for the database in `place`.
pub(super) fn trouble(place: &Place, error: &rusqlite::Error) -> Trouble {
    let failing = |reason: String| Trouble::Failing(place.cure(reason));
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => Trouble::Unusable(format!("it is damaged: {error}")),
        Some(ErrorCode::NotADatabase) => Trouble::Unusable("it is not a database".to_owned()),
        Some(ErrorCode::DiskFull) => Trouble::Failing(FULL.to_owned()),
        Some(ErrorCode::ReadOnly) => failing(format!(
            "it cannot be written: {error}; give this user the directory"
        )),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => failing(format!(
            "it cannot be opened: {error}; give this user the directory"
        )),
        Some(ErrorCode::SystemIoFailure) => {
            failing(format!("the disk fails: {error}; see the kernel's log"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            failing("another program keeps it locked; end that program".to_owned())
        }
        _ => failing(error.to_string()),
    }
}

/// A number that SQLite keeps about the database.
pub(super) fn pragma(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// How the tables were made, by name. What SQLite adds for itself, such as statistics, is its own business.
fn schema(db: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The value of a counter; 0 before it was first counted.
pub(super) fn counter(db: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM counter WHERE name = ?1";
    let value = db.query_row(sql, [name], |row| row.get(0)).optional()?;
    Ok(value.map_or(0, unsigned))
}

/// Sets a counter.
pub(super) fn set_counter(db: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO counter VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    db.prepare_cached(sql)?
        .execute((name, signed(value)))
        .map(drop)
}

/// As SQLite stores it. What does not fit is as large as can be.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// As it was before it was stored. Nothing of ours is negative.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
