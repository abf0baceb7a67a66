//! Seconds of traffic: kept one by one, told in spans that grow with their age.
//!
//! How thin a span is told is decided when it is read: what is kept stays whole for whoever looks at this host. Called
//! on the ledger's thread, inside a transaction.

use rusqlite::{Connection, OptionalExtension, Row};

use super::Sample;
use super::store::{signed, unsigned};
use crate::clock::Timestamp;

/// Up to this age, in seconds, an untold second is told as it is: an hour without the platform costs no detail.
const TOLD_WHOLE_SECONDS: u64 = 3_600;

/// Up to this age in tens, beyond it in minutes. So 72 hours wait as 3,600 + 3,960 + 3,600 samples. The published limit
/// is two a second; beside those of the running second that leaves one, and all are told after three hours.
const TOLD_IN_TENS_SECONDS: u64 = 12 * 3_600;

/// Spans: each a multiple of the one before, so that none lies across a bound.
const TENS: u64 = 10;
const MINUTES: u64 = 60;

/// Samples that are read at a time, at most: an hour, in one piece of 300 kB.
const READ_MAX: usize = 3_600;

/// How many seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seconds {
    /// All of them.
    pub(super) all: u64,
    /// Those that were not told.
    pub(super) untold: u64,
}

/// Keeps a second, over an earlier one of the same label: the clock was set back, and it is told again. Says whether
/// that one waited to be told.
pub(super) fn keep(db: &Connection, sample: &Sample, told: bool) -> rusqlite::Result<bool> {
    let start = signed(sample.start.as_seconds());
    let waited = db
        .prepare_cached("SELECT told FROM sample WHERE start = ?1")?
        .query_row([start], |row| row.get::<_, bool>(0))
        .optional()?
        == Some(false);
    let sql = "INSERT OR REPLACE INTO sample VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    db.prepare_cached(sql)?.execute((
        start,
        told,
        signed(sample.pps),
        signed(sample.pps_max),
        signed(sample.bps),
        signed(sample.bps_max),
        sample.tcp_permille,
        sample.udp_permille,
        sample.icmp_permille,
        sample.connections,
        sample.threshold_pps.map(signed),
    ))?;
    Ok(waited)
}

/// Samples to tell, from the newest or the oldest on, thinned by how old they are at `now`.
pub(super) fn untold(
    db: &Connection,
    newest: bool,
    limit: usize,
    now: Timestamp,
) -> rusqlite::Result<Vec<Sample>> {
    let limit = limit.min(READ_MAX);
    let order = if newest { "DESC" } else { "ASC" };
    let sql = format!("SELECT * FROM sample WHERE told = 0 ORDER BY start {order}");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut samples = Vec::new();
    let mut open: Option<Span> = None;
    while samples.len() < limit {
        let Some(row) = rows.next()? else {
            samples.extend(open.take().map(|span| span.sample()));
            break;
        };
        let second = second(row)?;
        let bounds = bounds(second.start.as_seconds(), now);
        match &mut open {
            Some(span) if span.bounds == bounds => span.add(&second),
            _ => {
                let ended = open.replace(Span::new(bounds, &second));
                samples.extend(ended.map(|span| span.sample()));
            }
        }
    }
    Ok(samples)
}

/// The seconds a sample stands for were told; says how many that were.
pub(super) fn told(db: &Connection, sample: &Sample) -> rusqlite::Result<u64> {
    let start = sample.start.as_seconds();
    let end = start.saturating_add(u64::from(sample.span_seconds));
    let sql = "UPDATE sample SET told = 1 WHERE told = 0 AND start >= ?1 AND start < ?2";
    let told = db
        .prepare_cached(sql)?
        .execute((signed(start), signed(end)))?;
    Ok(told as u64)
}

/// Nothing up to `end` will be told.
pub(super) fn skip(db: &Connection, end: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE sample SET told = 1 WHERE told = 0 AND start <= ?1";
    let end = signed(end.as_seconds());
    db.prepare_cached(sql)?.execute([end]).map(drop)
}

/// How many wait to be told.
pub(super) fn waiting(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM sample WHERE told = 0";
    db.prepare_cached(sql)?
        .query_row([], |row| row.get(0).map(unsigned))
}

/// The newest second.
pub(super) fn newest(db: &Connection) -> rusqlite::Result<Option<Sample>> {
    let sql = "SELECT * FROM sample ORDER BY start DESC LIMIT 1";
    db.prepare_cached(sql)?.query_row([], second).optional()
}

/// All seconds, each with whether it was told.
pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<(Sample, bool)>> {
    let mut statement = db.prepare("SELECT * FROM sample ORDER BY start")?;
    let rows = statement.query_map([], |row| Ok((second(row)?, row.get("told")?)))?;
    rows.collect()
}

/// Removes what is further from `now` than `keep_seconds`: the past, and a future that a clock has made up.
pub(super) fn remove_far(
    db: &Connection,
    now: Timestamp,
    keep_seconds: u64,
) -> rusqlite::Result<Seconds> {
    let now = now.as_seconds();
    let first = signed(now.saturating_sub(keep_seconds));
    let last = signed(now.saturating_add(keep_seconds));
    let before = db
        .prepare_cached("DELETE FROM sample WHERE start < ?1 RETURNING told")?
        .query_map([first], |row| row.get(0))?
        .try_fold(Seconds::default(), count)?;
    db.prepare_cached("DELETE FROM sample WHERE start > ?1 RETURNING told")?
        .query_map([last], |row| row.get(0))?
        .try_fold(before, count)
}

/// Removes the oldest.
pub(super) fn remove_oldest(db: &Connection, at_most: u64) -> rusqlite::Result<Seconds> {
    let sql = "DELETE FROM sample WHERE start IN (SELECT start FROM sample ORDER BY start LIMIT ?1)
        RETURNING told";
    db.prepare_cached(sql)?
        .query_map([at_most], |row| row.get(0))?
        .try_fold(Seconds::default(), count)
}

fn count(seconds: Seconds, told: rusqlite::Result<bool>) -> rusqlite::Result<Seconds> {
    let told = told?;
    Ok(Seconds {
        all: seconds.all + 1,
        untold: seconds.untold + u64::from(!told),
    })
}

/// A second as it was kept.
fn second(row: &Row<'_>) -> rusqlite::Result<Sample> {
    let large = |column| row.get(column).map(unsigned);
    Ok(Sample {
        start: Timestamp::from_seconds(large("start")?),
        span_seconds: 1,
        pps: large("pps")?,
        pps_max: large("pps_max")?,
        bps: large("bps")?,
        bps_max: large("bps_max")?,
        tcp_permille: row.get("tcp_permille")?,
        udp_permille: row.get("udp_permille")?,
        icmp_permille: row.get("icmp_permille")?,
        connections: row.get("connections")?,
        threshold_pps: row.get::<_, Option<i64>>("threshold_pps")?.map(unsigned),
    })
}

/// First second and length of the span in which a second is told.
fn bounds(start: u64, now: Timestamp) -> (u64, u64) {
    // Bounds lie on whole minutes: a span is one as a whole or not at all.
    let before = |age: u64| {
        let bound = now.as_seconds().saturating_sub(age);
        start < bound - bound % MINUTES
    };
    let span = if before(TOLD_IN_TENS_SECONDS) {
        MINUTES
    } else if before(TOLD_WHOLE_SECONDS) {
        TENS
    } else {
        1
    };
    (start - start % span, span)
}

/// Seconds that are told as one. It is told under the first of them: those before it in its bounds were told already, each
/// under its own name.
struct Span {
    bounds: (u64, u64),
    first: Timestamp,
    seconds: u128,
    pps: u128,
    bps: u128,
    /// Packets by protocol, in permille.
    tcp: u128,
    udp: u128,
    icmp: u128,
    connections: u128,
    pps_max: u64,
    bps_max: u64,
    last: Timestamp,
    threshold_pps: Option<u64>,
}

impl Span {
    fn new(bounds: (u64, u64), second: &Sample) -> Self {
        let mut span = Self {
            bounds,
            first: second.start,
            seconds: 0,
            pps: 0,
            bps: 0,
            tcp: 0,
            udp: 0,
            icmp: 0,
            connections: 0,
            pps_max: 0,
            bps_max: 0,
            last: Timestamp::default(),
            threshold_pps: None,
        };
        span.add(second);
        span
    }

    fn add(&mut self, second: &Sample) {
        let packets = u128::from(second.pps);
        self.seconds += 1;
        self.pps += packets;
        self.bps += u128::from(second.bps);
        self.tcp += packets * u128::from(second.tcp_permille);
        self.udp += packets * u128::from(second.udp_permille);
        self.icmp += packets * u128::from(second.icmp_permille);
        self.connections += u128::from(second.connections);
        self.first = self.first.min(second.start);
        self.pps_max = self.pps_max.max(second.pps_max);
        self.bps_max = self.bps_max.max(second.bps_max);
        if second.start >= self.last {
            self.last = second.start;
            self.threshold_pps = second.threshold_pps;
        }
    }

    fn sample(&self) -> Sample {
        let (start, length) = self.bounds;
        let mean = |sum: u128| rounded(sum, self.seconds);
        let share = |sum: u128| small(rounded(sum, self.pps));
        Sample {
            start: self.first,
            span_seconds: u32::try_from(start + length - self.first.as_seconds())
                .unwrap_or(u32::MAX),
            pps: mean(self.pps),
            pps_max: self.pps_max,
            bps: mean(self.bps),
            bps_max: self.bps_max,
            tcp_permille: share(self.tcp),
            udp_permille: share(self.udp),
            icmp_permille: share(self.icmp),
            connections: small(mean(self.connections)),
            threshold_pps: self.threshold_pps,
        }
    }
}

/// `sum / parts`, to the nearest.
fn rounded(sum: u128, parts: u128) -> u64 {
    let parts = parts.max(1);
    u64::try_from((sum + parts / 2) / parts).unwrap_or(u64::MAX)
}

fn small(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::store::{PAGE_BYTES, Store, pragma};
    use super::super::testing::sample;
    use super::*;
    use crate::ledger::Settings;

    /// Noon of a day; not on a whole minute.
    const NOW: u64 = 1_800_014_417;

    fn store() -> Store {
        Store::in_memory(1 << 30).unwrap()
    }

    /// Keeps `seconds` until [`NOW`], each with the packets that `pps` of its label gives, without asking for room.
    fn fill(store: &Store, seconds: u64, columns: &str) {
        let sql = format!(
            "WITH RECURSIVE n (s) AS (SELECT ?1 UNION ALL SELECT s + 1 FROM n WHERE s < ?2)
            INSERT INTO sample SELECT s, 0, {columns} FROM n"
        );
        let first = signed(NOW - seconds + 1);
        store.db().execute(&sql, (first, signed(NOW))).unwrap();
    }

    fn read(store: &Store, newest: bool, limit: usize) -> Vec<Sample> {
        untold(store.db(), newest, limit, Timestamp::from_seconds(NOW)).unwrap()
    }

    #[test]
    fn a_second_is_told_as_it_was_recorded() {
        let store = store();
        let mut kept = sample(NOW, 1_234);
        kept.udp_permille = 17;
        kept.threshold_pps = None;
        assert!(!keep(store.db(), &kept, false).unwrap());
        assert_eq!(read(&store, false, 10), [kept]);
        assert_eq!(newest(store.db()).unwrap(), Some(kept));
    }

    #[test]
    fn three_days_without_the_platform_are_told_in_whole_seconds_tens_and_minutes() {
        let store = store();
        fill(
            &store,
            259_200,
            "s % 100, s % 100, 8, 9, 500, 250, 250, 3, NULL",
        );
        let mut all = Vec::new();
        loop {
            let some = read(&store, false, 1_000);
            if some.is_empty() {
                break;
            }
            for sample in &some {
                told(store.db(), sample).unwrap();
            }
            all.extend(some);
        }
        assert_eq!(waiting(store.db()).unwrap(), 0);
        let count = |span| {
            all.iter()
                .filter(|sample| sample.span_seconds == span)
                .count()
        };
        assert!((3_600..3_660).contains(&count(1)), "{}", count(1));
        assert!((3_960..3_972).contains(&count(10)), "{}", count(10));
        assert!((3_599..=3_602).contains(&count(60)), "{}", count(60));
        // One after the other, without a gap.
        for pair in all.windows(2) {
            let end = pair[0].start.as_seconds() + u64::from(pair[0].span_seconds);
            assert_eq!(end, pair[1].start.as_seconds());
        }
        let minute = all.iter().find(|sample| sample.span_seconds == 60).unwrap();
        assert_eq!(
            (minute.bps, minute.bps_max, minute.tcp_permille),
            (8, 9, 500)
        );
        assert_eq!((minute.connections, minute.start.as_seconds() % 60), (3, 0));
    }

    #[test]
    fn the_newest_come_first_when_they_are_asked_for() {
        let store = store();
        fill(&store, 50_000, "5, 5, 8, 9, 500, 250, 250, 3, NULL");
        let mut backwards = read(&store, true, 3_600);
        assert_eq!(backwards[0].start.as_seconds(), NOW);
        for sample in &backwards {
            told(store.db(), sample).unwrap();
        }
        while let rest @ [_, ..] = &read(&store, true, 3_600)[..] {
            for sample in rest {
                told(store.db(), sample).unwrap();
            }
            backwards.extend(rest);
        }
        backwards.reverse();
        store
            .db()
            .execute("UPDATE sample SET told = 0", [])
            .unwrap();
        let mut forwards = read(&store, false, 3_600);
        let more = forwards.len();
        assert_eq!(forwards, backwards[..more]);
        assert_eq!(read(&store, false, 2), forwards[..2]);
        assert_eq!(read(&store, false, 0), []);
        forwards.clear();
    }

    #[test]
    fn a_span_holds_the_mean_the_highest_and_the_last_limit() {
        let store = store();
        let start = NOW - 7_200 - (NOW - 7_200) % 10;
        let mut quiet = sample(start + 3, 0);
        quiet.tcp_permille = 0;
        quiet.threshold_pps = Some(100);
        let mut loud = sample(start + 7, 900);
        (loud.tcp_permille, loud.udp_permille) = (250, 750);
        loud.threshold_pps = Some(200);
        loud.connections = 12;
        for second in [quiet, loud, sample(start + 5, 300)] {
            keep(store.db(), &second, false).unwrap();
        }
        let expected = Sample {
            start: Timestamp::from_seconds(start + 3),
            span_seconds: 7,
            pps: 400,
            pps_max: 900,
            bps: 400 * 800,
            bps_max: 900 * 800,
            // 225 and 300 of 1,200 packets.
            tcp_permille: 438,
            udp_permille: 563,
            icmp_permille: 0,
            connections: 9,
            threshold_pps: Some(200),
        };
        assert_eq!(read(&store, false, 5), [expected]);
        assert_eq!(read(&store, true, 5), [expected]);
        assert_eq!(told(store.db(), &expected).unwrap(), 3);
        assert_eq!(told(store.db(), &expected).unwrap(), 0);
        assert_eq!(read(&store, true, 5), []);
    }

    #[test]
    fn what_was_told_before_an_outage_is_not_told_again_with_its_minute() {
        let store = store();
        let minute = NOW - 80_000 - (NOW - 80_000) % 60;
        for second in minute..minute + 60 {
            keep(
                store.db(),
                &sample(second, second - minute),
                second < minute + 58,
            )
            .unwrap();
        }
        let [rest] = read(&store, false, 5)[..] else {
            panic!("one span")
        };
        assert_eq!(rest.start.as_seconds(), minute + 58);
        assert_eq!((rest.span_seconds, rest.pps_max), (2, 59));
        assert_eq!(told(store.db(), &rest).unwrap(), 2);
    }

    #[test]
    fn the_largest_values_there_can_be_do_not_overflow() {
        let store = store();
        let start = NOW - 80_000 - (NOW - 80_000) % 60;
        for second in 0..60 {
            let mut largest = sample(start + second, 0);
            (largest.pps, largest.bps, largest.connections) = (u64::MAX, u64::MAX, u32::MAX);
            keep(store.db(), &largest, false).unwrap();
        }
        let [told] = read(&store, false, 5)[..] else {
            panic!("one span")
        };
        assert_eq!((told.pps, told.connections), (i64::MAX as u64, u32::MAX));
        assert_eq!(told.tcp_permille, 1_000);
    }

    #[test]
    fn a_second_that_comes_again_is_told_again() {
        let store = store();
        let db = store.db();
        assert!(!keep(db, &sample(NOW, 1), false).unwrap());
        assert!(keep(db, &sample(NOW, 2), false).unwrap());
        told(db, &sample(NOW, 2)).unwrap();
        assert!(!keep(db, &sample(NOW, 3), false).unwrap());
        assert_eq!(read(&store, false, 5), [sample(NOW, 3)]);
        skip(db, Timestamp::from_seconds(NOW)).unwrap();
        assert_eq!(waiting(db).unwrap(), 0);
        assert!(!keep(db, &sample(NOW, 4), true).unwrap());
        assert_eq!(
            (waiting(db).unwrap(), newest(db).unwrap().unwrap().pps),
            (0, 4)
        );
    }

    #[test]
    fn the_past_and_a_future_that_never_was_are_removed() {
        let store = store();
        let now = Timestamp::from_seconds(NOW);
        for second in [
            NOW - 101,
            NOW - 100,
            NOW,
            NOW + 100,
            NOW + 101,
            2_000_000_000,
        ] {
            keep(store.db(), &sample(second, 1), second == NOW - 101).unwrap();
        }
        let removed = remove_far(store.db(), now, 100).unwrap();
        assert_eq!(removed, Seconds { all: 3, untold: 2 });
        let oldest = remove_oldest(store.db(), 2).unwrap();
        assert_eq!(oldest, Seconds { all: 2, untold: 2 });
        assert_eq!(newest(store.db()).unwrap(), Some(sample(NOW + 100, 1)));
    }

    #[test]
    fn three_days_fit_into_the_quota_and_leave_half_of_it() {
        let store = store();
        // Rates of 400 Gbit/s, more than a host has; all untold, so that the index is full too.
        let columns =
            "500000000, 600000000, 400000000000, 410000000000, 400, 350, 250, 1000000, 90000000";
        fill(&store, 259_200, columns);
        let bytes = unsigned(pragma(store.db(), "page_count").unwrap()) * PAGE_BYTES;
        println!("259,200 seconds take {bytes} bytes");
        assert_eq!(waiting(store.db()).unwrap(), 259_200);
        assert!(bytes < Settings::default().quota_bytes / 2, "{bytes}");
    }
}
