//! The state directory and the files in it.
//!
//! One agent at a time works in a directory: it holds a lock on it as long as it lives. Files are for this user alone
//! and no link is followed; what cannot be used is moved out of the way, for a person to look at, and never deleted.
//! Called at start and on the ledger's thread.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statvfs};
use rustix::io::Errno;
use serde::Deserialize;

use super::LedgerError;
use crate::detect::baseline::{BaselineState, StateError};

/// Everything that must survive a crash.
const DATABASE: &str = "ftagent.db";

/// What SQLite keeps beside a database. The log belongs to it wherever it goes.
const LOG: &str = "-wal";
const LOG_INDEX: &str = "-shm";

/// Where an earlier build kept what the baseline had learned.
const OLD_BASELINE: &str = "baseline.json";

/// Appended to what cannot be used. The latest is kept: the first was reported, and the disk never fills.
const SET_ASIDE: &str = ".unusable";

/// For the agent's user only: a baseline tells an attacker how much goes unnoticed.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// With less room than this a disk is full: SQLite needs 32 KiB for the index of its log before it writes anything.
const FULL_BYTES: u64 = 64 << 10;

/// What to say then.
pub(super) const FULL: &str = "the disk is full; make room on it";

/// How often, and how long in between, the lock is asked for: whoever only looks whether an agent runs holds it for
/// an instant, and an agent that was just killed for a little longer.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A state directory that is ours as long as this value lives.
#[derive(Debug)]
pub(super) struct Place {
    /// As it was named, for messages.
    named: PathBuf,
    /// Without links: the database may not be one, the way to it may.
    path: PathBuf,
    _lock: Option<File>,
}

/// Why a database cannot be worked with. Both say what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not one of ours, or damaged: a new one would do.
    Unusable(String),
    /// It cannot be reached, read or written now: later it may.
    Failing(String),
}

impl Trouble {
    /// What is wrong and what to do about it.
    pub(super) fn reason(self) -> String {
        let (Self::Unusable(reason) | Self::Failing(reason)) = self;
        reason
    }
}

/// Which file it is, whatever it is called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Place {
    /// The directory at `named`, made for this user alone if it is not there, and locked.
    ///
    /// # Errors
    ///
    /// [`LedgerError::NotADirectory`], [`LedgerError::InUse`], or [`LedgerError::Io`] when it cannot be made or opened.
    pub(super) fn open(named: &Path) -> Result<Self, LedgerError> {
        make_directory(named)?;
        let path = fs::canonicalize(named).map_err(failed(named, "resolve the path"))?;
        let directory = File::open(&path).map_err(failed(named, "open the directory"))?;
        Ok(Self {
            named: named.to_owned(),
            path,
            _lock: lock(named, directory)?,
        })
    }

    /// The database as it is opened.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Makes sure that the database is a plain file for this user alone; an empty one is made if there is none.
    ///
    /// # Errors
    ///
    /// [`Trouble::Unusable`] when something else is in its place, [`Trouble::Failing`] when the system refuses.
    pub(super) fn prepare(&self) -> Result<(), Trouble> {
        let path = self.database();
        let refused = |action: &str, error: &io::Error| {
            Trouble::Failing(self.cure(format!("cannot {action}: {error}")))
        };
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => {
                if found.mode() & 0o7777 == FILE_MODE {
                    return Ok(());
                }
                fs::set_permissions(&path, Permissions::from_mode(FILE_MODE))
                    .map_err(|error| refused("close it to other users", &error))
            }
            Ok(found) if found.is_symlink() => Err(Trouble::Unusable(
                "it is a symbolic link, which is not followed".to_owned(),
            )),
            Ok(_) => Err(Trouble::Unusable("it is not a file".to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut options = OpenOptions::new();
                let made = options.write(true).create_new(true).mode(FILE_MODE);
                let made = made.open(path).map(|_| ());
                made.map_err(|error| refused("make it", &error))
            }
            Err(error) => Err(refused("look at it", &error)),
        }
    }

    /// What to say of a failure: what the file system says of itself explains more than the call that hit upon it.
    pub(super) fn cure(&self, failure: String) -> String {
        match unwritable(&self.path) {
            Ok(Some(reason)) => reason.to_owned(),
            Ok(None) => failure,
            Err(_) => format!("{failure}; is the directory still there?"),
        }
    }

    /// Which file the database is now; `None` when it is gone.
    pub(super) fn identity(&self) -> Option<Identity> {
        identity(&self.database())
    }

    /// Moves the database out of the way because of `reason`, and returns what reports it.
    ///
    /// # Errors
    ///
    /// What the system says when it cannot be moved.
    pub(super) fn set_aside(&self, reason: &str) -> io::Result<LedgerError> {
        let path = self.database();
        let kept_as = with_suffix(&path, SET_ASIDE);
        // The log first: a crash in between leaves a database that is set aside next time, and finds its log there.
        for companion in [LOG, LOG_INDEX] {
            let from = with_suffix(&path, companion);
            let to = with_suffix(&kept_as, companion);
            match fs::rename(&from, &to) {
                Err(error) if error.kind() == ErrorKind::NotFound => remove_if_there(&to)?,
                moved => moved?,
            }
        }
        fs::rename(&path, &kept_as)?;
        Ok(LedgerError::SetAside {
            kept_as: with_suffix(&named_database(&self.named), SET_ASIDE),
            path: named_database(&self.named),
            reason: reason.to_owned(),
        })
    }

    /// What an earlier build had learned, if one ran here last.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be used: then learning starts again.
    pub(super) fn old_baseline(&self) -> Result<Option<BaselineState>, LedgerError> {
        let path = self.path.join(OLD_BASELINE);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "look at it")(error)),
        }
        let file = File::open(&path).map_err(failed(&path, "open it"))?;
        let mut stored = Vec::new();
        // One byte more than the limit tells a file that fits from one that goes on, whatever its length claims.
        let most = BaselineState::JSON_BYTES_MAX.saturating_add(1);
        let read = file.take(most).read_to_end(&mut stored);
        read.map_err(failed(&path, "read it"))?;
        parsed_baseline(&stored).map(Some).map_err(|reason| {
            let kept_as = with_suffix(&path, SET_ASIDE);
            match fs::rename(&path, &kept_as) {
                Ok(()) => LedgerError::SetAside {
                    path,
                    kept_as,
                    reason,
                },
                Err(error) => failed(&path, "set it aside")(error),
            }
        })
    }

    /// What an earlier build had learned is in the database now.
    pub(super) fn forget_old_baseline(&self) {
        // Where it stays it is read and stored once more at the next start, over the same.
        let _ = fs::remove_file(self.path.join(OLD_BASELINE));
    }
}

/// Why nobody can write in the directory at `path` and what to do about it, as far as its file system says.
pub(super) fn unwritable(path: &Path) -> Result<Option<&'static str>, Errno> {
    let disk = statvfs(path)?;
    // Some file systems do not say how large they are.
    let is_known = disk.f_blocks > 0;
    let is_full = is_known && disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BYTES;
    Ok(if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        Some(
            "the file system is read-only; make it writable again (one that failed is made read-only by the kernel, \
             see its log)",
        )
    } else {
        is_full.then_some(FULL)
    })
}

/// Whether an agent works in the directory at `path` now. One whose disk fails works in memory, and lets go of it.
pub(super) fn is_in_use(path: &Path) -> bool {
    let Ok(directory) = File::open(path) else {
        return false;
    };
    flock(&directory, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// The database in a state directory, as it is named to people.
pub(super) fn named_database(directory: &Path) -> PathBuf {
    directory.join(DATABASE)
}

/// The database in a state directory that somebody only looks at.
///
/// # Errors
///
/// [`LedgerError::Io`] when the directory cannot be found.
pub(super) fn database_in(directory: &Path) -> Result<PathBuf, LedgerError> {
    let path = fs::canonicalize(directory).map_err(failed(directory, "find the directory"))?;
    Ok(path.join(DATABASE))
}

/// The state in `stored`, or what is wrong with it. The version is asked for first: of a state from another version it
/// can be said what it is, instead of which of its fields is unknown.
pub(super) fn parsed_baseline(stored: &[u8]) -> Result<BaselineState, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let limit = BaselineState::JSON_BYTES_MAX;
    if stored.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
    let Version { version } = serde_json::from_slice(stored).map_err(damaged)?;
    if version != BaselineState::VERSION {
        return Err(StateError::Version { found: version }.to_string());
    }
    serde_json::from_slice(stored).map_err(damaged)
}

fn make_directory(named: &Path) -> Result<(), LedgerError> {
    match fs::metadata(named) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(LedgerError::NotADirectory {
            path: named.to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(DIRECTORY_MODE).create(named);
            made.map_err(failed(named, "make the directory"))
        }
        Err(error) => Err(failed(named, "look at the directory")(error)),
    }
}

/// The lock on a directory; `None` where the file system has no locks to give.
fn lock(named: &Path, directory: File) -> Result<Option<File>, LedgerError> {
    for attempt in 0..LOCK_ATTEMPTS {
        if attempt > 0 {
            thread::sleep(LOCK_PAUSE);
        }
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) => {}
            Err(_) => return Ok(None),
        }
    }
    Err(LedgerError::InUse {
        path: named.to_owned(),
    })
}

fn identity(path: &Path) -> Option<Identity> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(Identity {
        device: found.dev(),
        inode: found.ino(),
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io {
        path,
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::Scratch;
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directory_and_database_are_for_this_user_alone() {
        let scratch = Scratch::new();
        let place = Place::open(&scratch.state().join("deep")).unwrap();
        place.prepare().unwrap();
        assert_eq!(mode(&scratch.state()), 0o700);
        assert_eq!(mode(&scratch.state().join("deep")), 0o700);
        assert_eq!(mode(&place.database()), 0o600);
        fs::set_permissions(place.database(), Permissions::from_mode(0o664)).unwrap();
        place.prepare().unwrap();
        assert_eq!(mode(&place.database()), 0o600);
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let scratch = Scratch::new();
        fs::write(scratch.state(), "").unwrap();
        let error = Place::open(&scratch.state()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "state directory {}: expected a directory, found something else; name another with --state-dir",
                scratch.state().display()
            )
        );
    }

    #[test]
    fn only_one_agent_works_in_a_directory_and_looking_disturbs_none() {
        let scratch = Scratch::new();
        assert!(!is_in_use(&scratch.state()));
        let place = Place::open(&scratch.state()).unwrap();
        assert!(is_in_use(&scratch.state()));
        let error = Place::open(&scratch.state()).unwrap_err().to_string();
        assert!(
            error.contains("another agent works in it; stop that one"),
            "{error}"
        );
        drop(place);
        assert!(!is_in_use(&scratch.state()));
        Place::open(&scratch.state()).unwrap();
    }

    #[test]
    fn a_directory_may_be_reached_by_a_link_and_a_database_may_not() {
        let scratch = Scratch::new();
        let real = scratch.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, scratch.state()).unwrap();
        let place = Place::open(&scratch.state()).unwrap();
        let elsewhere = scratch.path().join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, place.database()).unwrap();
        let Err(Trouble::Unusable(reason)) = place.prepare() else {
            panic!("a link is not followed")
        };
        assert_eq!(reason, "it is a symbolic link, which is not followed");
        let said = place.set_aside(&reason).unwrap().to_string();
        assert!(
            said.contains("state/ftagent.db: it is a symbolic link"),
            "{said}"
        );
        place.prepare().unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert!(
            fs::symlink_metadata(real.join("ftagent.db.unusable"))
                .unwrap()
                .is_symlink()
        );
    }

    #[test]
    fn what_is_set_aside_keeps_its_log_and_replaces_what_was_set_aside_before() {
        let scratch = Scratch::new();
        let place = Place::open(&scratch.state()).unwrap();
        for round in ["first", "second"] {
            for name in ["ftagent.db", "ftagent.db-wal"] {
                fs::write(scratch.state().join(name), round).unwrap();
            }
            place.set_aside("it is foreign").unwrap();
            for name in ["ftagent.db.unusable", "ftagent.db.unusable-wal"] {
                assert_eq!(
                    fs::read_to_string(scratch.state().join(name)).unwrap(),
                    round
                );
            }
        }
        fs::write(place.database(), "third").unwrap();
        place.set_aside("it is foreign").unwrap();
        assert_eq!(
            scratch.names(),
            ["ftagent.db.unusable"],
            "a log of another one would mislead"
        );
    }

    #[test]
    fn a_database_that_was_replaced_is_noticed() {
        let scratch = Scratch::new();
        let place = Place::open(&scratch.state()).unwrap();
        place.prepare().unwrap();
        let before = place.identity();
        assert!(before.is_some() && before == place.identity());
        fs::rename(place.database(), scratch.path().join("kept")).unwrap();
        assert_eq!(place.identity(), None);
        place.prepare().unwrap();
        assert!(place.identity().is_some() && before != place.identity());
        fs::remove_dir_all(scratch.state()).unwrap();
        let said = place.cure("it fails".to_owned());
        assert_eq!(said, "it fails; is the directory still there?");
    }

    #[test]
    fn a_stored_baseline_is_believed_only_when_it_is_one() {
        for (stored, reason) in [
            ("", "it is damaged: EOF"),
            ("[1, 2]", "it is damaged"),
            ("{\"version\": -1}", "it is damaged"),
            (
                "{\"version\": 7}",
                "baseline state has version 7, expected 1",
            ),
            (
                "{\"version\": 1, \"what\": 2}",
                "it is damaged: unknown field `what`",
            ),
            ("\0\0\0\0", "it is damaged: expected value"),
        ] {
            let said = parsed_baseline(stored.as_bytes()).unwrap_err();
            assert!(said.starts_with(reason), "{said}");
        }
        let large = vec![b' '; (16 << 20) + 1];
        let said = parsed_baseline(&large).unwrap_err();
        assert_eq!(said, "it is larger than 16777216 bytes");
    }
}
