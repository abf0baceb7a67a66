//! What must survive a crash.
//!
//! One SQLite database in the state directory: incidents and what of them waits to be told, the seconds of three days,
//! what the baseline has learned, notes. Written by the thread `ft-ledger` alone; everybody else has a [`Ledger`] handle
//! and never waits for a disk. A step of an incident is on disk before anybody is shown it, and goes when it is settled.
//! When the disk fails the work goes on in memory until it is back. No secret is ever stored.

mod away;
mod desk;
mod door;
mod files;
mod handle;
mod keeper;
mod outbox;
mod room;
mod samples;
mod store;
#[cfg(test)]
mod testing;
mod thread;
mod view;

use std::io;
use std::path::PathBuf;

pub use door::{
    DeadLetter, Found, Outgoing, PlatformIds, Sample, Settled, Step, Storage, Ticket, Waiting,
};
pub use handle::{Ledger, Settings};
pub use view::{View, view};

/// The note that holds the platform's last answer about this node's configuration.
pub const PLATFORM: &str = "platform";

/// The note in which the uplink says how it stands.
pub const UPLINK: &str = "uplink";

/// Why something could not be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The path is there and is no directory.
    #[error("state directory {}: expected a directory, found something else; name another with --state-dir", .path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Two agents would tell everything twice.
    #[error("state directory {}: another agent works in it; stop that one, or name another directory with --state-dir", .path.display())]
    InUse {
        /// The directory.
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
    #[error("{}: {reason}; kept as {}, and a new one begins", .path.display(), .kept_as.display())]
    SetAside {
        /// Where it was.
        path: PathBuf,
        /// Where it is now.
        kept_as: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of what is stored cannot be used.
    #[error("{}: the stored {what} cannot be used: {reason}; the agent goes on without it", .path.display())]
    Stored {
        /// The database.
        path: PathBuf,
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The database cannot be written; it is tried again.
    #[error("{}: {reason}; until then incidents and seconds are kept in memory, and the disk is tried again every {retry_seconds} s", .path.display())]
    Unwritable {
        /// The database.
        path: PathBuf,
        /// What is wrong and what to do about it.
        reason: String,
        /// How long it is left alone, in seconds.
        retry_seconds: u64,
    },
    /// Somebody wants to look at a database that cannot be read.
    #[error("{}: the ledger cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not even memory can be had.
    #[error("the ledger cannot be kept in memory: {reason}")]
    Memory {
        /// What is wrong.
        reason: String,
    },
    /// The system gives us no thread.
    #[error("cannot start the thread ft-ledger: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}
