//! What must survive a crash.
//!
//! The state directory, for now with one file in it: what the baseline has learned. A file is replaced whole or not at
//! all; one that cannot be used is set aside for a person to look at, and the agent goes on without it. Called by the
//! ledger's thread and at start and end; never by detection, which must not wait for a disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod door;
mod simple;

pub use door::{Found, Outgoing, PlatformIds, Sample, Settled, Step, Storage, Ticket, Waiting};
pub use simple::{Ledger, Settings};

/// The note that holds the platform's last answer about this node's configuration.
pub const PLATFORM: &str = "platform";

/// The note in which the uplink says how it stands.
pub const UPLINK: &str = "uplink";

use crate::detect::baseline::{BaselineState, StateError};

/// What the baseline has learned.
const BASELINE: &str = "baseline.json";

/// Appended while a file is written. There is one writer, so one name is enough, and a crash leaves one file behind.
const UNFINISHED: &str = ".new";

/// Appended to what cannot be used. The latest is kept: the first was reported, and the disk never fills.
const SET_ASIDE: &str = ".unusable";

/// For the agent's user only: a baseline tells an attacker how much goes unnoticed.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why something could not be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The path is there and is no directory.
    #[error("state directory {}: expected a directory, found something else; name another with --state-dir", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}; expected a state directory this user may write (see --state-dir)", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A stored file cannot be used; it was moved out of the way.
    #[error("{}: {reason}; kept as {}, learning starts again", .path.display(), .kept_as.display())]
    SetAside {
        /// Where it was.
        path: PathBuf,
        /// Where it is now.
        kept_as: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A state is too large to be one of ours; it was not written.
    #[error("{}: the state has {found} bytes, expected at most {limit}; the file was left as it was", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The bound in bytes.
        limit: u64,
    },
}

/// The directory that state is kept in.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The directory at `path`; made, for this user alone, if it is not there.
    ///
    /// # Errors
    ///
    /// [`LedgerError::NotADirectory`], or [`LedgerError::Io`] when it cannot be made or looked at.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        let path = path.into();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self { path }),
            Ok(_) => Err(LedgerError::NotADirectory { path }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = DirBuilder::new()
                    .recursive(true)
                    .mode(DIRECTORY_MODE)
                    .create(&path);
                made.map_err(failed(&path, "make the directory"))?;
                Ok(Self { path })
            }
            Err(error) => Err(failed(&path, "look at the directory")(error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was stored last; `None` when nothing was. It still has to pass
    /// [`Baseline::restore`](crate::detect::baseline::Baseline::restore); if it does not, see
    /// [`StateDir::set_baseline_aside`].
    ///
    /// # Errors
    ///
    /// [`LedgerError::SetAside`] when the file is damaged, too large, or of another version: nothing is lost by going
    /// on. [`LedgerError::Io`] when it cannot be read.
    pub fn load_baseline(&self) -> Result<Option<BaselineState>, LedgerError> {
        let path = self.path.join(BASELINE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "open it")(error)),
        };
        let mut stored = Vec::new();
        let limit = BaselineState::JSON_BYTES_MAX;
        // One byte more than the limit tells a file that fits from one that goes on, whatever its length claims.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut stored);
        read.map_err(failed(&path, "read it"))?;
        if stored.len() as u64 > limit {
            return Err(self.set_baseline_aside(&format!("it is larger than {limit} bytes")));
        }
        parsed(&stored)
            .map(Some)
            .map_err(|reason| self.set_baseline_aside(&reason))
    }

    /// Replaces what was stored. After a crash at any moment the old file or the new one is there, and whole.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Io`] when it cannot be written, [`LedgerError::TooLarge`] when it is no baseline's state; the old
    /// file is then as it was.
    pub fn save_baseline(&self, state: &BaselineState) -> Result<(), LedgerError> {
        let path = self.path.join(BASELINE);
        let stored = serde_json::to_vec(state)
            .map_err(|error| failed(&path, "write it as JSON")(error.into()))?;
        let (found, limit) = (stored.len() as u64, BaselineState::JSON_BYTES_MAX);
        if found > limit {
            return Err(LedgerError::TooLarge { path, found, limit });
        }
        self.replace(&path, &stored)
    }

    /// Moves the stored baseline out of the way because of `reason`, and returns the error that reports it.
    #[must_use]
    pub fn set_baseline_aside(&self, reason: &str) -> LedgerError {
        let path = self.path.join(BASELINE);
        let kept_as = with_suffix(&path, SET_ASIDE);
        match fs::rename(&path, &kept_as) {
            Ok(()) => LedgerError::SetAside {
                path,
                kept_as,
                reason: reason.to_owned(),
            },
            Err(error) => failed(&path, "set the unusable file aside")(error),
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), LedgerError> {
        let unfinished = with_suffix(path, UNFINISHED);
        // A crash may have left one behind. Made anew, it is certainly ours, with our mode, and no link to elsewhere.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(&unfinished, "remove what a crash left behind")(
                    error,
                ));
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        let made = options
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&unfinished);
        let mut file = made.map_err(failed(&unfinished, "make it"))?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(failed(&unfinished, "write it"))?;
        fs::rename(&unfinished, path).map_err(failed(path, "replace it"))?;
        // The new name is on disk only when the directory is.
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(failed(&self.path, "flush the directory"))
    }
}

/// The state in `stored`, or what is wrong with it. The version is asked for first: of a file from another version it
/// can be said what it is, instead of which of its fields is unknown.
fn parsed(stored: &[u8]) -> Result<BaselineState, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
    let Version { version } = serde_json::from_slice(stored).map_err(damaged)?;
    if version != BaselineState::VERSION {
        return Err(StateError::Version { found: version }.to_string());
    }
    serde_json::from_slice(stored).map_err(damaged)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io {
        path,
        action,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::detect::baseline::{
        Baseline, Judgement, LearningCaps, SecondValues, Series, Settings,
    };

    /// A directory of its own for each test, removed at its end.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static MADE: AtomicUsize = AtomicUsize::new(0);
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let place = std::env::temp_dir()
                .join(format!("ftagent-ledger-{}-{number}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            fs::create_dir(&place).unwrap();
            Self(place)
        }

        fn dir(&self) -> StateDir {
            StateDir::open(self.0.join("state")).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.join("state")).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn state(seconds: u64) -> BaselineState {
        let mut baseline = Baseline::new(Settings::default());
        let mut values = SecondValues::new();
        values.set(Series::Pps, 1_234);
        for second in 0..seconds {
            baseline.second(
                1_772_409_600 + second,
                &values,
                Judgement::Quiet,
                &LearningCaps::default(),
            );
        }
        baseline.state()
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let place = Place::new();
        let dir = place.dir();
        assert_eq!(dir.load_baseline().unwrap(), None);
        for seconds in [0, 200, 1_000] {
            dir.save_baseline(&state(seconds)).unwrap();
            assert_eq!(dir.load_baseline().unwrap(), Some(state(seconds)));
        }
        assert_eq!(place.names(), ["baseline.json"]);
    }

    #[test]
    fn directory_and_file_are_for_this_user_alone() {
        let place = Place::new();
        let dir = place.dir();
        dir.save_baseline(&state(100)).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(dir.path().to_owned()) & 0o077, 0);
        assert_eq!(mode(dir.path().join("baseline.json")), 0o600);
    }

    #[test]
    fn a_directory_that_is_there_is_used_and_missing_parents_are_made() {
        let place = Place::new();
        let deep = place.0.join("var").join("lib");
        StateDir::open(&deep)
            .unwrap()
            .save_baseline(&state(5))
            .unwrap();
        assert_eq!(
            StateDir::open(&deep).unwrap().load_baseline().unwrap(),
            Some(state(5))
        );
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let place = Place::new();
        let path = place.0.join("state");
        fs::write(&path, "").unwrap();
        let error = StateDir::open(&path).unwrap_err().to_string();
        let path = path.display();
        assert_eq!(
            error,
            format!(
                "state directory {path}: expected a directory, found something else; name another with --state-dir"
            )
        );
    }

    #[test]
    fn a_directory_that_is_gone_is_named_when_saving() {
        let place = Place::new();
        let dir = place.dir();
        fs::remove_dir(dir.path()).unwrap();
        let error = dir.save_baseline(&state(5)).unwrap_err().to_string();
        let begin = format!(
            "{}: cannot make it: No such file or directory",
            dir.path().join("baseline.json.new").display()
        );
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.ends_with("(see --state-dir)"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_set_aside_with_the_reason_and_not_fatal() {
        let sound = serde_json::to_string(&state(300)).unwrap();
        let cut = &sound[..sound.len() / 2];
        let foreign = sound.replacen("\"version\":1", "\"version\":7", 1);
        let unknown = sound.replacen("\"pps\"", "\"ppm\"", 1);
        for (content, reason) in [
            ("", "it is damaged: EOF"),
            (cut, "it is damaged: EOF"),
            ("[1, 2]", "it is damaged"),
            ("{\"version\": -1}", "it is damaged"),
            (&foreign, "baseline state has version 7, expected 1"),
            (&unknown, "unknown"),
            ("\0\0\0\0", "it is damaged: expected value"),
        ] {
            let place = Place::new();
            let dir = place.dir();
            fs::write(dir.path().join("baseline.json"), content).unwrap();
            let error = dir.load_baseline().unwrap_err();
            assert!(matches!(error, LedgerError::SetAside { .. }), "{error}");
            let said = error.to_string();
            assert!(
                said.contains(reason) || reason == "unknown" && said.contains("ppm"),
                "{said}"
            );
            assert!(
                said.ends_with("baseline.json.unusable, learning starts again"),
                "{said}"
            );
            assert_eq!(place.names(), ["baseline.json.unusable"]);
            assert_eq!(
                fs::read_to_string(dir.path().join("baseline.json.unusable")).unwrap(),
                content
            );
            assert_eq!(
                dir.load_baseline().unwrap(),
                None,
                "the second start is a clean one"
            );
            dir.save_baseline(&state(5)).unwrap();
            assert_eq!(dir.load_baseline().unwrap(), Some(state(5)));
        }
    }

    #[test]
    fn a_file_larger_than_any_state_is_not_read_into_memory() {
        let place = Place::new();
        let dir = place.dir();
        let file = File::create(dir.path().join("baseline.json")).unwrap();
        file.set_len(1 << 40).unwrap();
        let said = dir.load_baseline().unwrap_err().to_string();
        assert!(said.contains("it is larger than 16777216 bytes"), "{said}");
    }

    #[test]
    fn what_a_crash_left_behind_is_replaced_and_a_link_is_not_followed() {
        let place = Place::new();
        let dir = place.dir();
        let elsewhere = place.0.join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, dir.path().join("baseline.json.new")).unwrap();
        dir.save_baseline(&state(5)).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(place.names(), ["baseline.json"]);
        fs::write(dir.path().join("baseline.json.new"), "half a st").unwrap();
        assert_eq!(dir.load_baseline().unwrap(), Some(state(5)));
        dir.save_baseline(&state(6)).unwrap();
        assert_eq!(place.names(), ["baseline.json"]);
    }

    #[test]
    fn a_state_that_restore_refuses_can_be_set_aside() {
        let place = Place::new();
        let dir = place.dir();
        dir.save_baseline(&state(100)).unwrap();
        let state = dir.load_baseline().unwrap().unwrap();
        let refused = Baseline::restore(Settings::default(), &state, 0)
            .map(|_| ())
            .unwrap_err();
        let said = dir.set_baseline_aside(&refused.to_string()).to_string();
        assert!(said.contains("check the system clock"), "{said}");
        assert_eq!(place.names(), ["baseline.json.unusable"]);
    }
}
