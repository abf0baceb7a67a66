//! Who has to give way when the quota is used up.
//!
//! Seconds go first, the oldest before the others; then incidents that are over and told; then dead letters. What waits
//! to be told is never pushed out: when all of the quota waits, the next step is refused, and counted by whoever asked.

use rusqlite::Connection;

use super::samples;
use super::store::{PAGE_BYTES, pragma, unsigned};

/// The smallest database that works: tables and indices take fourteen pages, and something has to wait in it.
pub(super) const PAGES_MIN: u64 = 64;

/// The part of the quota that seconds, notes and the baseline leave free: 8 MiB of the default, which is room for a
/// thousand incidents that open between two looks.
const KEPT_FREE: u64 = 8;

/// Pages beside its content that a write may need: a new leaf in each table and index it touches, and their parents.
const PAGES_BESIDE: u64 = 12;

/// Seconds that are removed at a time: an hour, fifty pages.
const SECONDS_AT_ONCE: u64 = 3_600;

/// Incidents, or dead letters, that are removed at a time: a few dozen pages.
const ROWS_AT_ONCE: u64 = 10;

/// How what asks for room stands to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A step: may use all there is.
    Incident,
    /// Anything else: leaves a part free for steps.
    Rest,
}

/// Whether there is room, and what it has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// Whether there is room now.
    pub(super) enough: bool,
    /// Seconds that were removed before they were told.
    pub(super) untold_removed: u64,
}

/// Makes room for `bytes`, if it can be made.
pub(super) fn make(
    db: &Connection,
    pages_max: u64,
    claim: Claim,
    bytes: usize,
) -> rusqlite::Result<Made> {
    let kept_free = match claim {
        Claim::Incident => 0,
        Claim::Rest => pages_max / KEPT_FREE,
    };
    let needed = kept_free + PAGES_BESIDE + (bytes as u64).div_ceil(PAGE_BYTES);
    let mut made = Made {
        enough: true,
        untold_removed: 0,
    };
    while free_pages(db, pages_max)? < needed {
        let seconds = samples::remove_oldest(db, SECONDS_AT_ONCE)?;
        made.untold_removed += seconds.untold;
        if seconds.all == 0 && remove_history(db)? == 0 {
            made.enough = false;
            break;
        }
    }
    Ok(made)
}

/// Pages that can still be filled.
fn free_pages(db: &Connection, pages_max: u64) -> rusqlite::Result<u64> {
    let pages = unsigned(pragma(db, "page_count")?);
    let unused = unsigned(pragma(db, "freelist_count")?);
    Ok(pages_max.saturating_sub(pages.saturating_sub(unused)))
}

/// Removes what is only there to be looked at, the oldest of it, and says how much that was.
fn remove_history(db: &Connection) -> rusqlite::Result<usize> {
    let told = "DELETE FROM incident WHERE id IN (
        SELECT id FROM incident
        WHERE NOT is_open AND NOT EXISTS (SELECT 1 FROM step WHERE step.incident = incident.id)
        ORDER BY id LIMIT ?1)";
    let removed = db.prepare_cached(told)?.execute([ROWS_AT_ONCE])?;
    if removed > 0 {
        return Ok(removed);
    }
    let dead =
        "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter ORDER BY id LIMIT ?1)";
    db.prepare_cached(dead)?.execute([ROWS_AT_ONCE])
}
