//! What is wrong with a configuration: one sentence for each problem, all of them at once.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::key::Key;
use super::origin::Origin;

/// One thing that is wrong. Each message names it, what was found, what was expected and where; none repeats a secret.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file cannot be used at all.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or directory.
        path: Arc<PathBuf>,
        /// What it is or does, and the cure.
        reason: String,
    },
    /// A file cannot be opened or read.
    #[error("{}: cannot be read: {source}{}", path.display(), as_whom(source))]
    Read {
        /// The file or directory.
        path: Arc<PathBuf>,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file with a key in it can be read by others.
    #[error("{}: holds a key and can be read or changed by {who} (mode {mode:04o}); run: chmod {cure} {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: Arc<PathBuf>,
        /// By whom.
        who: &'static str,
        /// Its permission bits.
        mode: u32,
        /// The change that helps.
        cure: &'static str,
    },
    /// A line is no TOML, or a place no JSON.
    #[error("cannot be read as {format}: {reason} ({origin})")]
    Syntax {
        /// What was expected.
        format: &'static str,
        /// What the parser says.
        reason: String,
        /// Where.
        origin: Origin,
    },
    /// There is no such setting.
    #[error("{name}: no such {what}{} ({origin})", suggestion(nearest.as_deref()))]
    Unknown {
        /// What was written.
        name: String,
        /// What it would be: a setting, a section.
        what: &'static str,
        /// What was meant, perhaps.
        nearest: Option<String>,
        /// Where.
        origin: Origin,
    },
    /// A value that does not fit.
    #[error("{name}: expected {expected}, found {found} ({origin})")]
    Misfit {
        /// The setting.
        name: String,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
        /// Where.
        origin: Origin,
    },
    /// A token that belongs into the environment.
    #[error(
        "{key}: is not read from files; remove it and set {variable} where nodes are registered ({origin})"
    )]
    NotInFiles {
        /// The setting.
        key: Key,
        /// Where it belongs.
        variable: String,
        /// Where it is.
        origin: Origin,
    },
    /// One of the two credentials without the other.
    #[error("{missing}: is missing, and {present} is set ({origin}); {cure}")]
    HalfCredentials {
        /// What is missing.
        missing: Key,
        /// What is there.
        present: Key,
        /// Where that is.
        origin: Origin,
        /// Where to find it and where to put it.
        cure: &'static str,
    },
    /// The key would travel in the open.
    #[error(
        "api.base: expected https://, found {base}, which would send the API key unencrypted; use https://, or set api.allow_http = true ({origin})"
    )]
    Unencrypted {
        /// The address.
        base: String,
        /// Where it is set.
        origin: Origin,
    },
    /// Two settings contradict each other.
    #[error("{key}: expected at least {other} of {least}, found {found} ({origin})")]
    Below {
        /// The setting that is too low.
        key: Key,
        /// The one that it may not be below.
        other: Key,
        /// That one's value.
        least: u64,
        /// Its own.
        found: u64,
        /// Where it is set.
        origin: Origin,
    },
    /// There are more.
    #[error("{}: has {more} more mistakes; these are the first", path.display())]
    More {
        /// The file.
        path: Arc<PathBuf>,
        /// How many.
        more: usize,
    },
}

impl Problem {
    /// Whether it is a matter of who runs the agent, not of what is configured.
    fn is_permission(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Who could read what we cannot.
fn as_whom(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root or as a member of the group that may",
        _ => "",
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Everything that is wrong, in the order of the layers, and in a file from top to bottom. Never empty.
#[derive(Debug)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) const fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether all that is wrong is that this user may not read what is there.
    #[must_use]
    pub fn are_permissions(&self) -> bool {
        self.problems.iter().all(Problem::is_permission)
    }
}

impl fmt::Display for ConfigErrors {
    /// One line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
