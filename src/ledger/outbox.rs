//! Incidents, and what of them waits to be told.
//!
//! Of an incident at most three steps wait, in the order in which they happened: its opening, which stays; a resolution,
//! which stays while the incident has not been resolved anew; and what came last. Updates that wait are one, the newest;
//! a resolution takes the place of the update before it. What comes back after its end was told is opened again: the
//! resource contract cannot reopen, and in the seed contract opening and updating are one call. Called on the ledger's
//! thread, inside a transaction.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

use super::store::{signed, unsigned};
use super::{DeadLetter, Outgoing, PlatformIds, Settled, Step, Ticket};
use crate::clock::Timestamp;
use crate::incident::Report;

/// Steps handed out at a time: what one look costs, 100 kB, and more than one connection has under way.
const OUTGOING_MAX: usize = 16;

/// Incidents of which something may wait: 500 in twelve hours, which is more than the longest attacks known to us make,
/// for the three days that seconds are kept, and a third more.
const WAITING_MAX: u64 = 4_096;

/// Incidents that are over and told, kept to be looked at: two days at that rate, a year of an ordinary one. 4 MB.
const HISTORY_MAX: u64 = 1_000;

/// Incidents that are over and handed to the next start: what ended half an hour ago still names a campaign, and at the
/// rate of [`WAITING_MAX`] that is twenty-one.
const OVER_MAX: usize = 24;

/// The part of a small database that these may take, at two pages each.
const HISTORY_PART: u64 = 4;
const HISTORY_PAGES: u64 = 2;

/// Dead letters that are kept, the newest: enough to see what the platform refuses, 500 kB.
const DEAD_LETTERS_MAX: u64 = 100;

/// Characters of the reason of a dead letter: the first page of whatever the platform says.
const REASON_MAX: usize = 1_000;

/// What is recorded: a step, with its report as JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// The incident's name.
    pub(super) incident: &'a str,
    /// What happened to it.
    pub(super) step: Step,
    /// Its report.
    pub(super) report: &'a str,
    /// When this is recorded.
    pub(super) at: Timestamp,
}

/// Records a step. It waits to be told if `tell` says that somebody tells, or somebody has been told of the incident
/// before. `next` gives names to new steps, each above all before. Says whether it is kept as it should.
pub(super) fn record(
    db: &Connection,
    entry: &Entry<'_>,
    tell: bool,
    next: &mut i64,
) -> rusqlite::Result<bool> {
    let known = db
        .prepare_cached("SELECT id, is_announced, is_open FROM incident WHERE name = ?1")?
        .query_row([entry.incident], |row| {
            Ok(Known {
                id: row.get(0)?,
                is_announced: row.get(1)?,
                is_open: row.get(2)?,
            })
        })
        .optional()?;
    let known = match known {
        Some(known) => known,
        None => begin(db, entry)?,
    };
    let last = waiting_steps(db, known.id)?;
    let wanted = tell || known.is_announced;
    let room = !last.is_empty() || waiting(db)? < WAITING_MAX;
    if wanted && room {
        queue(db, known, entry, &last, next)?;
    }
    db.prepare_cached("UPDATE incident SET report = ?2, is_open = ?3 WHERE id = ?1")?
        .execute((known.id, entry.report, entry.step != Step::Resolve))?;
    Ok(room || !wanted)
}

/// An incident as it was before an entry.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: i64,
    is_announced: bool,
    is_open: bool,
}

fn begin(db: &Connection, entry: &Entry<'_>) -> rusqlite::Result<Known> {
    let sql = "INSERT INTO incident (name, is_open, is_announced, report) VALUES (?1, 1, 0, ?2)";
    let id = db
        .prepare_cached(sql)?
        .insert((entry.incident, entry.report))?;
    Ok(Known {
        id,
        is_announced: false,
        is_open: true,
    })
}

/// Puts a step behind those that wait, or into the place of the last. The incident still has its report of before.
fn queue(
    db: &Connection,
    known: Known,
    entry: &Entry<'_>,
    waiting: &[(i64, Step)],
    next: &mut i64,
) -> rusqlite::Result<()> {
    let incident = known.id;
    if !known.is_announced {
        // Whatever came first: nobody can be told more about what he has not heard of.
        append(db, incident, Step::Open, entry.at, next)?;
        db.prepare_cached("UPDATE incident SET is_announced = 1 WHERE id = ?1")?
            .execute([incident])?;
        if entry.step == Step::Resolve {
            db.prepare_cached("UPDATE step SET report = ?2 WHERE incident = ?1")?
                .execute((incident, entry.report))?;
            append(db, incident, Step::Resolve, entry.at, next)?;
        }
        return Ok(());
    }
    let step = match entry.step {
        Step::Resolve => Step::Resolve,
        // It comes back, and its end is told.
        Step::Open | Step::Update if waiting.is_empty() && !known.is_open => Step::Open,
        // It was announced already.
        Step::Open | Step::Update => Step::Update,
    };
    match (waiting, step) {
        ([.., (resolve, Step::Resolve), (update, Step::Update)], Step::Resolve) => {
            db.prepare_cached("DELETE FROM step WHERE id = ?1")?
                .execute([update])?;
            replace(db, *resolve, Step::Resolve)
        }
        ([.., (last, Step::Update)], _) | ([.., (last, Step::Resolve)], Step::Resolve) => {
            replace(db, *last, step)
        }
        (_, Step::Open) => {
            forget_name(db, incident)?;
            append(db, incident, step, entry.at, next)
        }
        _ => append(db, incident, step, entry.at, next),
    }
}

/// A new last step; the one before keeps what the incident's report was until now.
fn append(
    db: &Connection,
    incident: i64,
    step: Step,
    at: Timestamp,
    next: &mut i64,
) -> rusqlite::Result<()> {
    let keep = "UPDATE step SET report = (SELECT report FROM incident WHERE id = ?1)
        WHERE incident = ?1 AND report IS NULL";
    db.prepare_cached(keep)?.execute([incident])?;
    let sql = "INSERT INTO step VALUES (?1, ?2, ?3, 0, NULL, 0, ?4)";
    db.prepare_cached(sql)?
        .execute((*next, incident, step, signed(at.as_nanos())))?;
    *next += 1;
    Ok(())
}

/// A waiting step becomes the last one, and another one than was handed out.
fn replace(db: &Connection, id: i64, step: Step) -> rusqlite::Result<()> {
    let sql = "UPDATE step SET kind = ?2, revision = revision + 1, report = NULL WHERE id = ?1";
    db.prepare_cached(sql)?.execute((id, step)).map(drop)
}

/// Names and kinds of the steps of an incident that wait, in order.
fn waiting_steps(db: &Connection, incident: i64) -> rusqlite::Result<Vec<(i64, Step)>> {
    let sql = "SELECT id, kind FROM step WHERE incident = ?1 ORDER BY id";
    db.prepare_cached(sql)?
        .query_map([incident], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// How many incidents wait.
pub(super) fn waiting(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(DISTINCT incident) FROM step";
    db.prepare_cached(sql)?
        .query_row([], |row| row.get(0).map(unsigned))
}

/// The oldest waiting step of each incident, the incident first that was recorded first. When there are too many, the
/// last place is the newest one's that goes on: an attack of now is not hidden behind a backlog. What cannot be read is no
/// obstacle: it goes to the dead letters.
pub(super) fn outgoing(db: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Outgoing>> {
    loop {
        let mut firsts = firsts(db)?;
        if firsts.len() > OUTGOING_MAX {
            firsts.truncate(OUTGOING_MAX);
            let sql = "SELECT min(id) FROM step WHERE incident =
                (SELECT max(incident.id) FROM incident JOIN step ON incident.id = incident WHERE is_open)";
            let now: Option<i64> = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            if let Some(now) = now.filter(|now| !firsts.contains(now)) {
                firsts.pop();
                firsts.push(now);
            }
        }
        let mut outgoing = Vec::with_capacity(firsts.len());
        let mut unreadable = 0;
        for id in firsts {
            let stored = load(db, id)?;
            match serde_json::from_str(&stored.report) {
                Ok(report) => outgoing.push(stored.outgoing(report)),
                Err(error) => {
                    let reason = format!("its stored report cannot be read: {error}");
                    refuse(db, stored.ticket.step, &reason, now)?;
                    unreadable += 1;
                }
            }
        }
        if unreadable == 0 {
            return Ok(outgoing);
        }
    }
}

/// The first waiting step of the incidents that were recorded first, one more than are handed out.
fn firsts(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT min(id) FROM step GROUP BY incident ORDER BY incident LIMIT ?1";
    db.prepare_cached(sql)?
        .query_map([OUTGOING_MAX + 1], |row| row.get(0))?
        .collect()
}

/// A step as it is stored.
struct Stored {
    ticket: Ticket,
    step: Step,
    report: String,
    goes_on: bool,
    ids: PlatformIds,
    attempts: u32,
    waiting_since: Timestamp,
}

impl Stored {
    fn outgoing(self, report: Report) -> Outgoing {
        Outgoing {
            ticket: self.ticket,
            step: self.step,
            report,
            goes_on: self.goes_on,
            ids: self.ids,
            attempts: self.attempts,
            waiting_since: self.waiting_since,
        }
    }
}

fn load(db: &Connection, id: i64) -> rusqlite::Result<Stored> {
    let sql = "SELECT step.id, revision, kind, coalesce(step.report, incident.report),
            platform_id, platform_uuid, attempts, waiting_since, is_open
        FROM step JOIN incident ON incident.id = step.incident WHERE step.id = ?1";
    db.prepare_cached(sql)?.query_row([id], |row| {
        Ok(Stored {
            ticket: Ticket {
                step: row.get(0)?,
                revision: row.get(1)?,
            },
            step: row.get(2)?,
            report: row.get(3)?,
            goes_on: row.get(8)?,
            ids: PlatformIds {
                id: row.get(4)?,
                uuid: row.get(5)?,
            },
            attempts: u32::try_from(row.get::<_, i64>(6)?).unwrap_or(u32::MAX),
            waiting_since: Timestamp::from_nanos(unsigned(row.get(7)?)),
        })
    })
}

/// Does what became of a step. Says whether there is such a step: one that is there no more was settled before.
pub(super) fn settle(
    db: &Connection,
    ticket: Ticket,
    settled: &Settled,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let found: Option<(i64, i64, Step)> = db
        .prepare_cached("SELECT incident, revision, kind FROM step WHERE id = ?1")?
        .query_row([ticket.step], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((incident, revision, step)) = found else {
        return Ok(false);
    };
    // What was handed out is what waits now.
    let is_current = revision == ticket.revision;
    match settled {
        Settled::Delivered(ids) => {
            name(db, incident, ids)?;
            if is_current {
                db.prepare_cached("DELETE FROM step WHERE id = ?1")?
                    .execute([ticket.step])?;
            }
            if is_current && step == Step::Resolve {
                open_again(db, incident)?;
            }
        }
        Settled::Refused(reason) if is_current => refuse(db, ticket.step, reason, now)?,
        Settled::Refused(_) | Settled::Failed => {
            db.prepare_cached("UPDATE step SET attempts = attempts + 1 WHERE id = ?1")?
                .execute([ticket.step])?;
        }
    }
    Ok(true)
}

/// The end of an incident was told: what came after it is its next opening.
fn open_again(db: &Connection, incident: i64) -> rusqlite::Result<()> {
    // Steps are settled in order, so that no opening waits before the end; out of order, there is one already.
    let sql = "UPDATE step SET kind = 'open' WHERE incident = ?1 AND kind = 'update'
        AND NOT EXISTS (SELECT 1 FROM step WHERE incident = ?1 AND kind = 'open')";
    if db.prepare_cached(sql)?.execute([incident])? > 0 {
        forget_name(db, incident)?;
    }
    Ok(())
}

/// What the platform has called an incident until its end is no name for what is opened now.
fn forget_name(db: &Connection, incident: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE incident SET platform_id = NULL, platform_uuid = NULL WHERE id = ?1";
    db.prepare_cached(sql)?.execute([incident]).map(drop)
}

/// Keeps what the platform calls an incident; what it does not say now it may have said before.
fn name(db: &Connection, incident: i64, ids: &PlatformIds) -> rusqlite::Result<()> {
    let sql = "UPDATE incident SET platform_id = coalesce(?2, platform_id),
        platform_uuid = coalesce(?3, platform_uuid) WHERE id = ?1";
    db.prepare_cached(sql)?
        .execute((incident, ids.id, &ids.uuid))
        .map(drop)
}

/// Moves a step to the dead letters.
fn refuse(db: &Connection, id: i64, reason: &str, now: Timestamp) -> rusqlite::Result<()> {
    let reason: String = reason.chars().take(REASON_MAX).collect();
    let sql = "INSERT INTO dead_letter (incident, kind, report, reason, at)
        SELECT name, kind, coalesce(step.report, incident.report), ?2, ?3
        FROM step JOIN incident ON incident.id = step.incident WHERE step.id = ?1";
    db.prepare_cached(sql)?
        .execute((id, reason, signed(now.as_nanos())))?;
    db.prepare_cached("DELETE FROM step WHERE id = ?1")?
        .execute([id])?;
    let sql = "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1";
    db.prepare_cached(sql)?
        .execute([DEAD_LETTERS_MAX])
        .map(drop)
}

/// How many dead letters there are, and the newest.
pub(super) fn dead_letters(db: &Connection) -> rusqlite::Result<(u64, Option<DeadLetter>)> {
    let count = db.query_row("SELECT count(*) FROM dead_letter", [], |row| row.get(0))?;
    let sql = "SELECT incident, kind, reason, at FROM dead_letter ORDER BY id DESC LIMIT 1";
    let newest = db
        .query_row(sql, [], |row| {
            Ok(DeadLetter {
                incident: row.get(0)?,
                step: row.get(1)?,
                reason: row.get(2)?,
                at: Timestamp::from_nanos(unsigned(row.get(3)?)),
            })
        })
        .optional()?;
    Ok((unsigned(count), newest))
}

/// The report of the incident that is open, as it is stored; of several, the newest.
pub(super) fn open(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT report FROM incident WHERE is_open ORDER BY id DESC LIMIT 1";
    db.prepare_cached(sql)?
        .query_row([], |row| row.get(0))
        .optional()
}

/// The reports of the incidents that are over, as they are stored: the newest, of these the oldest first.
pub(super) fn over(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT report FROM (
            SELECT id, report FROM incident WHERE NOT is_open ORDER BY id DESC LIMIT ?1
        ) ORDER BY id";
    db.prepare_cached(sql)?
        .query_map([OVER_MAX], |row| row.get(0))?
        .collect()
}

/// The highest name of a step.
pub(super) fn last_step(db: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(id), 0) FROM step";
    db.query_row(sql, [], |row| row.get(0))
}

/// Forgets incidents that are over and told, except the newest.
pub(super) fn forget(db: &Connection, pages_max: u64) -> rusqlite::Result<()> {
    let most = HISTORY_MAX.min(pages_max / HISTORY_PART / HISTORY_PAGES);
    let sql = "DELETE FROM incident WHERE id <= (SELECT max(id) FROM incident) - ?1
        AND NOT is_open AND NOT EXISTS (SELECT 1 FROM step WHERE step.incident = incident.id)";
    db.prepare_cached(sql)?.execute([most]).map(drop)
}

/// An incident and what of it waits, on the way from one database to another.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) name: String,
    is_open: bool,
    is_announced: bool,
    report: String,
    ids: PlatformIds,
    steps: Vec<CarriedStep>,
}

#[derive(Debug)]
struct CarriedStep {
    id: i64,
    step: Step,
    revision: i64,
    report: Option<String>,
    attempts: i64,
    waiting_since: i64,
}

/// Which incidents are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All.
    All,
    /// Those that are open, or of which something waits.
    Alive,
    /// Those that are open.
    Open,
}

/// Takes incidents out of a database, in order.
pub(super) fn take(db: &Connection, which: Which) -> rusqlite::Result<Vec<Carried>> {
    let condition = match which {
        Which::All => "1",
        Which::Alive => "is_open OR id IN (SELECT incident FROM step)",
        Which::Open => "is_open",
    };
    let sql = format!(
        "SELECT id, name, is_open, is_announced, report, platform_id, platform_uuid
        FROM incident WHERE {condition} ORDER BY id"
    );
    let mut statement = db.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        let id: i64 = row.get(0)?;
        Ok(Carried {
            name: row.get(1)?,
            is_open: row.get(2)?,
            is_announced: row.get(3)?,
            report: row.get(4)?,
            ids: PlatformIds {
                id: row.get(5)?,
                uuid: row.get(6)?,
            },
            steps: take_steps(db, id)?,
        })
    })?;
    rows.collect()
}

fn take_steps(db: &Connection, incident: i64) -> rusqlite::Result<Vec<CarriedStep>> {
    let sql = "SELECT id, kind, revision, report, attempts, waiting_since FROM step
        WHERE incident = ?1 ORDER BY id";
    let of = |row: &Row<'_>| {
        Ok(CarriedStep {
            id: row.get(0)?,
            step: row.get(1)?,
            revision: row.get(2)?,
            report: row.get(3)?,
            attempts: row.get(4)?,
            waiting_since: row.get(5)?,
        })
    };
    db.prepare_cached(sql)?.query_map([incident], of)?.collect()
}

impl Carried {
    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let steps = self.steps.iter().filter_map(|step| step.report.as_ref());
        steps.map(String::len).sum::<usize>() + self.report.len()
    }

    /// Steps of it that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.steps.len() as u64
    }
}

/// Whether no incident was ever recorded.
pub(super) fn is_empty(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM incident)";
    db.query_row(sql, [], |row| row.get(0))
}

/// Forgets all steps: they are known better elsewhere.
pub(super) fn remove_steps(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM step", []).map(drop)
}

/// One incident is open at a time: what an earlier run never ended nobody will.
pub(super) fn close_all_but_newest(db: &Connection) -> rusqlite::Result<()> {
    let sql = "UPDATE incident SET is_open = 0
        WHERE is_open AND id < (SELECT max(id) FROM incident WHERE is_open)";
    db.execute(sql, []).map(drop)
}

/// Puts an incident in as it is: nothing else is known of it, or nothing newer.
pub(super) fn put(db: &Connection, carried: &Carried) -> rusqlite::Result<()> {
    let incident = put_incident(db, carried)?;
    db.prepare_cached("DELETE FROM step WHERE incident = ?1")?
        .execute([incident])?;
    for step in &carried.steps {
        db.prepare_cached("INSERT INTO step VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute((
                step.id,
                incident,
                step.step,
                step.revision,
                &step.report,
                step.attempts,
                step.waiting_since,
            ))?;
    }
    Ok(())
}

/// Adds what happened to an incident elsewhere to what is known of it here.
pub(super) fn merge(
    db: &Connection,
    carried: &Carried,
    at: Timestamp,
    next: &mut i64,
) -> rusqlite::Result<()> {
    for step in &carried.steps {
        let entry = Entry {
            incident: &carried.name,
            step: step.step,
            report: step.report.as_deref().unwrap_or(&carried.report),
            at,
        };
        record(db, &entry, true, next)?;
    }
    put_incident(db, carried).map(drop)
}

fn put_incident(db: &Connection, carried: &Carried) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO incident
            (name, is_open, is_announced, report, platform_id, platform_uuid)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (name) DO UPDATE SET is_open = excluded.is_open, report = excluded.report,
            is_announced = max(is_announced, excluded.is_announced),
            platform_id = coalesce(excluded.platform_id, platform_id),
            platform_uuid = coalesce(excluded.platform_uuid, platform_uuid)
        RETURNING id";
    db.prepare_cached(sql)?.query_row(
        (
            &carried.name,
            carried.is_open,
            carried.is_announced,
            &carried.report,
            carried.ids.id,
            &carried.ids.uuid,
        ),
        |row| row.get(0),
    )
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Resolve => "resolve",
        }
    }
}

impl ToSql for Step {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.name()))
    }
}

impl FromSql for Step {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "open" => Ok(Self::Open),
            "update" => Ok(Self::Update),
            "resolve" => Ok(Self::Resolve),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::super::testing::report;
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// An outbox in memory.
    struct Outbox {
        store: Store,
        next: i64,
        tell: bool,
    }

    impl Outbox {
        fn new() -> Self {
            Self {
                store: Store::in_memory(8 << 20).unwrap(),
                next: 1,
                tell: true,
            }
        }

        fn record(&mut self, id: &str, step: Step, telling: u64) -> bool {
            let json = serde_json::to_string(&report(id, telling)).unwrap();
            let entry = Entry {
                incident: id,
                step,
                report: &json,
                at: NOW,
            };
            record(self.store.db(), &entry, self.tell, &mut self.next).unwrap()
        }

        fn outgoing(&self) -> Vec<Outgoing> {
            outgoing(self.store.db(), NOW).unwrap()
        }

        fn settle(&self, outgoing: &Outgoing, settled: &Settled) {
            assert!(settle(self.store.db(), outgoing.ticket, settled, NOW).unwrap());
        }

        /// Delivers everything there is; says what that was, in order.
        fn deliver_all(&self) -> Vec<(String, Step, u64)> {
            let mut told = Vec::new();
            while let Some(first) = self.outgoing().into_iter().next() {
                self.settle(&first, &Settled::Delivered(PlatformIds::default()));
                told.push((first.report.id, first.step, first.report.packets));
            }
            told
        }

        fn number(&self, sql: &str) -> i64 {
            self.store
                .db()
                .query_row(sql, [], |row| row.get(0))
                .unwrap()
        }
    }

    fn tellings(told: &[(String, Step, u64)]) -> Vec<(Step, u64)> {
        told.iter()
            .map(|(_, step, telling)| (*step, *telling))
            .collect()
    }

    #[test]
    fn of_everything_that_happens_to_an_incident_at_most_three_steps_wait() {
        use Step::{Open, Resolve, Update};
        // What happened, each told as the number of its place; what is told of it in the end.
        type Case<'a> = (&'a [Step], &'a [(Step, u64)]);
        let cases: [Case<'_>; 10] = [
            (&[Open], &[(Open, 0)]),
            (&[Open, Update], &[(Open, 0), (Update, 1)]),
            (&[Open, Update, Update, Update], &[(Open, 0), (Update, 3)]),
            (&[Open, Resolve], &[(Open, 0), (Resolve, 1)]),
            (&[Open, Update, Resolve], &[(Open, 0), (Resolve, 2)]),
            // It came back: its end is told, and another opening.
            (
                &[Open, Update, Resolve, Update, Update],
                &[(Open, 0), (Resolve, 2), (Open, 4)],
            ),
            // It came back and ended: one end, the last one.
            (
                &[Open, Resolve, Update, Resolve],
                &[(Open, 0), (Resolve, 3)],
            ),
            (
                &[Open, Resolve, Update, Resolve, Update],
                &[(Open, 0), (Resolve, 3), (Open, 4)],
            ),
            // Nobody has heard of it: whatever comes first is its opening.
            (&[Update, Update], &[(Open, 0), (Update, 1)]),
            (&[Resolve], &[(Open, 0), (Resolve, 0)]),
        ];
        for (happened, told) in cases {
            let mut outbox = Outbox::new();
            for (telling, step) in happened.iter().enumerate() {
                assert!(outbox.record("a", *step, telling as u64));
            }
            assert_eq!(
                outbox.number("SELECT count(*) FROM step"),
                told.len() as i64
            );
            assert_eq!(tellings(&outbox.deliver_all()), told, "{happened:?}");
        }
    }

    #[test]
    fn an_opening_that_comes_twice_is_an_update() {
        let mut outbox = Outbox::new();
        outbox.record("a", Step::Open, 0);
        outbox.record("a", Step::Open, 1);
        let told = tellings(&outbox.deliver_all());
        assert_eq!(told, [(Step::Open, 0), (Step::Update, 1)]);
    }

    #[test]
    fn what_comes_back_after_its_end_was_told_is_opened_again() {
        let mut outbox = Outbox::new();
        let called = |name: &str| {
            Settled::Delivered(PlatformIds {
                id: None,
                uuid: Some(name.to_owned()),
            })
        };
        outbox.record("a", Step::Open, 0);
        outbox.settle(&outbox.outgoing()[0], &called("first"));
        outbox.record("a", Step::Resolve, 1);
        assert_eq!(outbox.outgoing()[0].ids.uuid.as_deref(), Some("first"));
        outbox.deliver_all();
        outbox.record("a", Step::Update, 2);
        outbox.record("a", Step::Update, 3);
        assert_eq!(outbox.outgoing()[0].ids, PlatformIds::default());
        let told = tellings(&outbox.deliver_all());
        assert_eq!(told, [(Step::Open, 2), (Step::Update, 3)]);
        outbox.record("a", Step::Resolve, 4);
        outbox.deliver_all();
        // It comes and goes before anybody is told.
        outbox.record("a", Step::Update, 5);
        outbox.record("a", Step::Resolve, 6);
        outbox.record("a", Step::Update, 7);
        let step = |step, telling: u64| {
            let first = outbox.outgoing().remove(0);
            assert_eq!((first.step, first.report.packets), (step, telling));
            first
        };
        outbox.settle(&step(Step::Open, 5), &called("third"));
        let end = step(Step::Resolve, 6);
        assert_eq!(end.ids.uuid.as_deref(), Some("third"));
        outbox.settle(&end, &called("third"));
        assert_eq!(step(Step::Open, 7).ids, PlatformIds::default());
    }

    #[test]
    fn one_step_of_each_incident_is_shown_the_oldest_incident_first() {
        let mut outbox = Outbox::new();
        for id in ["b", "a", "c"] {
            outbox.record(id, Step::Open, 0);
        }
        outbox.record("b", Step::Update, 1);
        let shown = outbox.outgoing();
        let ids: Vec<&str> = shown.iter().map(|step| step.report.id.as_str()).collect();
        assert_eq!(ids, ["b", "a", "c"]);
        assert!(
            shown
                .iter()
                .all(|step| step.step == Step::Open && step.waiting_since == NOW)
        );
    }

    #[test]
    fn the_newest_incident_is_shown_however_many_wait_before_it() {
        let mut outbox = Outbox::new();
        for number in 0..40 {
            outbox.record(&number.to_string(), Step::Open, 0);
        }
        let shown = outbox.outgoing();
        let ids: Vec<&str> = shown.iter().map(|step| step.report.id.as_str()).collect();
        assert_eq!(ids.len(), OUTGOING_MAX);
        assert_eq!((ids[0], ids[14], ids[15]), ("0", "14", "39"));

        // Once it is over, it waits for its turn like all others.
        outbox.record("39", Step::Resolve, 1);
        outbox.record("38", Step::Resolve, 1);
        let shown = outbox.outgoing();
        let last = shown
            .last()
            .map(|step| (step.report.id.as_str(), step.goes_on));
        assert_eq!(last, Some(("37", true)));
    }

    #[test]
    fn what_merged_while_it_was_under_way_is_told_again_and_its_name_is_kept() {
        let mut outbox = Outbox::new();
        outbox.record("a", Step::Open, 0);
        outbox.deliver_all();
        outbox.record("a", Step::Update, 1);
        let [under_way] = &outbox.outgoing()[..] else {
            panic!("one step")
        };
        outbox.record("a", Step::Update, 2);
        let ids = PlatformIds {
            id: Some(17),
            uuid: None,
        };
        outbox.settle(under_way, &Settled::Delivered(ids));
        let [again] = &outbox.outgoing()[..] else {
            panic!("the newer one waits")
        };
        assert_eq!((again.step, again.report.packets), (Step::Update, 2));
        assert_eq!(again.ids.id, Some(17));
        // A resolution takes its place while it is under way.
        outbox.record("a", Step::Resolve, 3);
        outbox.settle(again, &Settled::Refused("no".to_owned()));
        let told = tellings(&outbox.deliver_all());
        assert_eq!(told, [(Step::Resolve, 3)]);
        assert_eq!(outbox.number("SELECT count(*) FROM dead_letter"), 0);
        // What is settled stays settled.
        let late = settle(outbox.store.db(), again.ticket, &Settled::Failed, NOW);
        assert!(!late.unwrap());
    }

    #[test]
    fn both_names_are_kept_and_neither_is_forgotten() {
        let mut outbox = Outbox::new();
        let named = |id, uuid: Option<&str>| PlatformIds {
            id,
            uuid: uuid.map(str::to_owned),
        };
        outbox.record("a", Step::Open, 0);
        for (says, known) in [
            (named(Some(5), None), named(Some(5), None)),
            (named(None, Some("u")), named(Some(5), Some("u"))),
            (named(None, None), named(Some(5), Some("u"))),
            (named(Some(6), None), named(Some(6), Some("u"))),
        ] {
            let step = outbox.outgoing().remove(0);
            outbox.settle(&step, &Settled::Delivered(says));
            outbox.record("a", Step::Update, 1);
            assert_eq!(outbox.outgoing()[0].ids, known);
        }
    }

    #[test]
    fn a_failure_counts_and_a_refusal_goes_to_the_dead_letters_and_blocks_nothing() {
        let mut outbox = Outbox::new();
        outbox.record("a", Step::Open, 0);
        outbox.record("a", Step::Update, 1);
        for attempts in 0..3 {
            let step = outbox.outgoing().remove(0);
            assert_eq!(step.attempts, attempts);
            outbox.settle(&step, &Settled::Failed);
        }
        let step = outbox.outgoing().remove(0);
        outbox.settle(&step, &Settled::Refused("x".repeat(5_000)));
        let (count, newest) = dead_letters(outbox.store.db()).unwrap();
        let newest = newest.unwrap();
        assert_eq!(
            (count, newest.step, newest.incident.as_str()),
            (1, Step::Open, "a")
        );
        assert_eq!(newest.reason.len(), REASON_MAX);
        assert_eq!(tellings(&outbox.deliver_all()), [(Step::Update, 1)]);
    }

    #[test]
    fn only_the_newest_dead_letters_are_kept() {
        let mut outbox = Outbox::new();
        for number in 0..130 {
            outbox.record(&number.to_string(), Step::Open, 0);
            let step = outbox.outgoing().remove(0);
            outbox.settle(&step, &Settled::Refused(format!("reason {number}")));
        }
        let (count, newest) = dead_letters(outbox.store.db()).unwrap();
        assert_eq!(
            (count, newest.unwrap().reason.as_str()),
            (100, "reason 129")
        );
    }

    #[test]
    fn a_report_that_cannot_be_read_is_no_obstacle() {
        let mut outbox = Outbox::new();
        for number in 0..20 {
            outbox.record(&number.to_string(), Step::Open, 0);
        }
        let damage = "UPDATE incident SET report = '{\"id\":' WHERE id <= 17";
        outbox.store.db().execute(damage, []).unwrap();
        let shown = outbox.outgoing();
        let ids: Vec<&str> = shown.iter().map(|step| step.report.id.as_str()).collect();
        assert_eq!(ids, ["17", "18", "19"]);
        let (count, newest) = dead_letters(outbox.store.db()).unwrap();
        let reason = newest.unwrap().reason;
        assert_eq!(count, 17);
        assert!(
            reason.starts_with("its stored report cannot be read: EOF"),
            "{reason}"
        );
    }

    #[test]
    fn more_incidents_than_may_wait_are_refused_and_still_kept_to_be_looked_at() {
        let mut outbox = Outbox::new();
        outbox.record("first", Step::Open, 0);
        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4095)
            INSERT INTO incident SELECT 1000 + i, 'n' || i, 0, 1, '{}', NULL, NULL FROM n";
        outbox.store.db().execute(fill, []).unwrap();
        let steps =
            "INSERT INTO step SELECT id, id, 'open', 0, NULL, 0, 0 FROM incident WHERE id > 1000";
        outbox.store.db().execute(steps, []).unwrap();
        outbox.next = 10_000;
        assert!(!outbox.record("one too many", Step::Open, 0));
        assert!(
            outbox.record("first", Step::Update, 1),
            "that one waits already"
        );
        assert_eq!(waiting(outbox.store.db()).unwrap(), WAITING_MAX);
        assert_eq!(
            outbox.number("SELECT is_open FROM incident WHERE name = 'one too many'"),
            1
        );
        // With room again it is told from its beginning.
        outbox
            .store
            .db()
            .execute("DELETE FROM step WHERE id = 1001", [])
            .unwrap();
        assert!(outbox.record("one too many", Step::Update, 2));
        let kind = "SELECT kind = 'open' FROM step ORDER BY id DESC LIMIT 1";
        assert_eq!(outbox.number(kind), 1);
    }

    #[test]
    fn without_an_uplink_nothing_new_waits_and_what_was_announced_is_told_to_its_end() {
        let mut outbox = Outbox::new();
        outbox.record("told before", Step::Open, 0);
        outbox.tell = false;
        outbox.record("told before", Step::Resolve, 1);
        outbox.record("local", Step::Open, 0);
        outbox.record("local", Step::Update, 1);
        assert_eq!(waiting(outbox.store.db()).unwrap(), 1);
        assert_eq!(
            tellings(&outbox.deliver_all()),
            [(Step::Open, 0), (Step::Resolve, 1)]
        );
        let open: Report =
            serde_json::from_str(&open(outbox.store.db()).unwrap().unwrap()).unwrap();
        assert_eq!((open.id.as_str(), open.packets), ("local", 1));
    }

    #[test]
    fn the_open_incident_is_the_one_that_was_not_resolved_or_has_come_back() {
        let mut outbox = Outbox::new();
        let name = |outbox: &Outbox| {
            let json = open(outbox.store.db()).unwrap()?;
            Some(serde_json::from_str::<Report>(&json).unwrap().id)
        };
        assert_eq!(name(&outbox), None);
        outbox.record("a", Step::Open, 0);
        assert_eq!(name(&outbox).as_deref(), Some("a"));
        outbox.record("a", Step::Resolve, 1);
        assert_eq!(name(&outbox), None);
        outbox.record("a", Step::Update, 2);
        assert_eq!(name(&outbox).as_deref(), Some("a"));
        outbox.record("b", Step::Open, 0);
        close_all_but_newest(outbox.store.db()).unwrap();
        outbox.record("b", Step::Resolve, 1);
        assert_eq!(name(&outbox), None);
    }

    #[test]
    fn of_incidents_that_are_over_and_told_the_newest_are_kept() {
        let mut outbox = Outbox::new();
        outbox.record("open", Step::Open, 0);
        outbox.record("waits", Step::Open, 0);
        outbox.record("waits", Step::Resolve, 1);
        outbox.tell = false;
        for number in 0..1_100 {
            outbox.record(&number.to_string(), Step::Resolve, 0);
        }
        forget(outbox.store.db(), u64::MAX).unwrap();
        assert_eq!(outbox.number("SELECT count(*) FROM incident"), 1_002);
        assert_eq!(
            outbox.number("SELECT count(*) FROM incident WHERE name = '99'"),
            0
        );
        assert_eq!(
            outbox.number("SELECT count(*) FROM incident WHERE name = '100'"),
            1
        );
    }
}
