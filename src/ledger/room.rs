//! Who has to give way when the quota is used up.
//!
//! Seconds go first, the oldest before the others; for a step of an incident then also incidents that are over and told,
//! and dead letters. What waits to be told is never pushed out: when all of the quota waits, the next step is refused,
//! and counted by whoever asked.

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
        if seconds.all > 0 {
            continue;
        }
        if claim == Claim::Rest || remove_history(db)? == 0 {
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

#[cfg(test)]
mod tests {
    use super::super::desk::Desk;
    use super::super::keeper::Keeper;
    use super::super::testing::{report, sample};
    use super::super::{Settings, Step};
    use super::*;
    use crate::ledger::{PlatformIds, Settled};

    /// A ledger in memory that is full at 512 KiB.
    fn keeper() -> Keeper {
        let settings = Settings {
            quota_bytes: 512 << 10,
            ..Settings::default()
        };
        Keeper::open(settings).unwrap().0
    }

    fn run<T>(keeper: &mut Keeper, work: impl Fn(&mut Desk<'_>) -> rusqlite::Result<T>) -> T {
        keeper.run(false, work).unwrap()
    }

    fn pages(keeper: &mut Keeper) -> u64 {
        run(keeper, |desk| {
            let pages = unsigned(pragma(desk.db, "page_count")?);
            assert!(pages <= desk.pages_max, "{pages}");
            Ok(pages - unsigned(pragma(desk.db, "freelist_count")?))
        })
    }

    fn seconds(keeper: &mut Keeper, range: std::ops::Range<u64>) {
        run(keeper, |desk| {
            range
                .clone()
                .try_for_each(|second| desk.second(&sample(second, 9)))
        });
    }

    fn incidents(keeper: &mut Keeper, range: std::ops::Range<u64>) {
        for number in range {
            let report = report(&format!("{number}"), 0);
            run(keeper, |desk| desk.event(Step::Open, &report));
        }
    }

    #[test]
    fn seconds_push_out_older_seconds_and_leave_room_for_incidents() {
        let mut keeper = keeper();
        seconds(&mut keeper, 1_000..20_000);
        let waiting = keeper.waiting();
        assert!(waiting.samples > 3_600, "{waiting:?}");
        assert_eq!(waiting.samples + waiting.dropped_samples, 19_000);
        let counted = run(&mut keeper, |desk| samples::waiting(desk.db));
        assert_eq!(counted, waiting.samples);
        assert!(pages(&mut keeper) <= 128 - 128 / KEPT_FREE);
        let newest = run(&mut keeper, |desk| desk.samples(true, 1));
        assert_eq!(newest, [sample(19_999, 9)]);
    }

    #[test]
    fn incidents_push_out_every_second_and_none_pushes_out_an_incident() {
        let mut keeper = keeper();
        seconds(&mut keeper, 1_000..8_000);
        incidents(&mut keeper, 0..1_000);
        let full = keeper.waiting();
        assert_eq!(full.samples, 0);
        assert!(full.dropped_events > 0 && full.incidents > 50, "{full:?}");
        assert_eq!(full.incidents + full.dropped_events, 1_000);
        // Seconds find no room now, and take none.
        seconds(&mut keeper, 8_000..9_000);
        let still = keeper.waiting();
        assert_eq!((still.incidents, still.samples), (full.incidents, 0));
        assert_eq!(still.dropped_samples, 8_000);
        // What is told makes room: first for incidents, then for seconds.
        while let Some(step) = run(&mut keeper, |desk| desk.outgoing()).first() {
            let delivered = Settled::Delivered(PlatformIds::default());
            run(&mut keeper, |desk| desk.settle(step.ticket, &delivered));
            if step.step == Step::Open {
                let resolved = report(&step.report.id, 1);
                run(&mut keeper, |desk| desk.event(Step::Resolve, &resolved));
            }
        }
        run(&mut keeper, |desk| desk.tidy(3_600));
        seconds(&mut keeper, 9_000..10_000);
        let after = keeper.waiting();
        assert_eq!((after.incidents, after.samples), (0, 1_000));
        assert_eq!(after.dropped_samples, 8_000);
    }

    #[test]
    fn what_is_too_large_for_the_quota_is_left_out() {
        let mut keeper = keeper();
        run(&mut keeper, |desk| desk.note("small", "value"));
        let large = "x".repeat(600 << 10);
        run(&mut keeper, |desk| desk.note("small", &large));
        run(&mut keeper, |desk| desk.note("large", &large));
        let kept = run(&mut keeper, |desk| super::super::desk::notes(desk.db));
        assert_eq!(kept, [("small".to_owned(), "value".to_owned())]);
        let mut huge = report("huge", 0);
        huge.attack_subtype = "x".repeat(200 << 10);
        run(&mut keeper, |desk| desk.event(Step::Open, &huge));
        let waiting = keeper.waiting();
        assert_eq!((waiting.incidents, waiting.dropped_events), (0, 1));
    }
}
