//! Where log lines go: to the journal when systemd started us, else to standard error.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Starts logging. Without a journal, and without anything else that listens, lines go to standard error.
pub(super) fn start() {
    let journal = connected_to_journal().then(JournalLog::new);
    // Somebody else's logger is as good as ours.
    let _ = match journal {
        Some(Ok(journal)) => log::set_boxed_logger(Box::new(Ours(journal))),
        _ => log::set_boxed_logger(Box::new(Ours(StandardError))),
    };
    log::set_max_level(LevelFilter::Info);
}

/// Lets our own lines pass. What libraries have to say at debug level is theirs to promise, not ours: it may quote what
/// they send.
struct Ours<L>(L);

impl<L: Log> Log for Ours<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
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
