//! Where log lines go: to the journal when systemd started us, else to standard error.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Starts logging. Without a journal, and without anything else that listens, lines go to standard error.
pub(super) fn start() {
    let to_journal =
        connected_to_journal() && JournalLog::new().is_ok_and(|journal| journal.install().is_ok());
    if !to_journal {
        // Somebody else's logger is as good as ours.
        let _ = log::set_logger(&StandardError);
    }
    log::set_max_level(LevelFilter::Info);
}

/// One line a record: `ftagent: warning: what happened`.
struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            _ => "",
        };
        // A closed standard error is nobody's business.
        let _ = writeln!(std::io::stderr(), "ftagent: {level}{}", record.args());
    }

    fn flush(&self) {}
}
