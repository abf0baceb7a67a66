//! When to try again, and how often at all: back-off, `Retry-After`, request budgets.
//!
//! Pure: every call takes `now` and, where chance decides, a random number. Never sleeps, never asks the time.

use std::time::{Duration, Instant};

use crate::clock::Timestamp;

/// How long to wait after failures: full jitter under a bound that doubles.
///
/// Jitter over the whole span, not around its end: two thousand agents that lost the platform at one moment must not come
/// back at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
    until: Option<Instant>,
}

/// The shortest wait: chance may say 0, and a platform that refuses at once must not be asked in a loop.
const SHORTEST: Duration = Duration::from_millis(100);

/// Doublings that count: 2^20 seconds are twelve days, beyond any cap.
const DOUBLINGS_MAX: u32 = 20;

impl Backoff {
    /// None yet; the bound is `first` after one failure, and never above `cap`.
    pub(super) const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
            until: None,
        }
    }

    /// It failed once more. `cap` replaces the usual one for this wait; `random` is any number.
    pub(super) fn failed(&mut self, now: Instant, cap: Option<Duration>, random: u64) {
        let bound = self
            .first
            .saturating_mul(1_u32 << self.failures.min(DOUBLINGS_MAX))
            .min(cap.unwrap_or(self.cap));
        self.failures = self.failures.saturating_add(1);
        self.until = now.checked_add(part(bound, random).max(SHORTEST));
    }

    /// It worked.
    pub(super) const fn answered(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// Something speaks for trying earlier: within `spread` instead of whenever it was.
    pub(super) fn hurry(&mut self, now: Instant, spread: Duration, random: u64) {
        if let Some(until) = self.until {
            self.until = now
                .checked_add(part(spread, random))
                .map(|at| at.min(until));
        }
    }

    /// Whether the last attempt failed.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Not before then; `None` for at once.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// A random part of `whole`: anything from nothing to all of it.
pub(super) fn part(whole: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(match nanos.checked_add(1) {
        Some(choices) => random % choices,
        None => random,
    })
}

/// `whole`, moved by up to a tenth of it to either side.
pub(super) fn about(whole: Duration, random: u64) -> Duration {
    whole - whole / 10 + part(whole / 5, random)
}

/// How long a `Retry-After` or `X-RateLimit-Reset` asks to wait, at most `cap`. Seconds, or an HTTP date; seconds that
/// can only be a time of day on the wall clock are taken for one. `None` for what is neither.
pub(super) fn wait_asked_for(value: &str, now: Timestamp, cap: Duration) -> Option<Duration> {
    /// The year 2001: no wait is as long, no clock as early.
    const SECONDS_ARE_A_DATE: u64 = 1_000_000_000;

    let value = value.trim();
    let until = |seconds: u64| Duration::from_secs(seconds.saturating_sub(now.as_seconds()));
    let asked = match value.parse::<u64>() {
        Ok(seconds) if seconds >= SECONDS_ARE_A_DATE => until(seconds),
        Ok(seconds) => Duration::from_secs(seconds),
        // More digits than fit are still a number, and a long wait.
        Err(_) if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => cap,
        Err(_) => {
            let at = httpdate::parse_http_date(value).ok()?;
            let since_epoch = at.duration_since(std::time::UNIX_EPOCH).ok()?;
            until(since_epoch.as_secs())
        }
    };
    Some(asked.min(cap))
}

/// How many requests may be made: so many a minute, and a few more at once after a quiet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a minute in the long run.
    pub per_minute: u32,
    /// Requests at once, when none were made for a while.
    pub burst: u32,
}

/// A token bucket: holds up to [`Rate::burst`] requests and fills at [`Rate::per_minute`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// Requests in it, in millionths.
    level: u64,
    at: Instant,
}

/// One request.
const REQUEST: u64 = 1_000_000;

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            level: Self::capacity(rate),
            at: now,
        }
    }

    fn capacity(rate: Rate) -> u64 {
        u64::from(rate.burst.max(1)) * REQUEST
    }

    /// What it holds at `now`.
    fn level(&self, now: Instant) -> u64 {
        let micros =
            u64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(u64::MAX);
        // A microsecond brings a millionth of a request times the rate a second.
        let filled = micros.saturating_mul(u64::from(self.rate.per_minute)) / 60;
        self.level
            .saturating_add(filled)
            .min(Self::capacity(self.rate))
    }

    /// Takes one request out, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let Some(left) = self.level(now).checked_sub(REQUEST) else {
            return false;
        };
        self.level = left;
        self.at = now;
        true
    }

    /// When there will be one to take; `None` when there is one already, or never will be.
    pub(super) fn ready_at(&self, now: Instant) -> Option<Instant> {
        let missing = REQUEST.saturating_sub(self.level(now));
        let rate = u64::from(self.rate.per_minute);
        if missing == 0 || rate == 0 {
            return None;
        }
        now.checked_add(Duration::from_micros((missing * 60).div_ceil(rate)))
    }

    /// Whole requests it holds, to be remembered over a restart.
    pub(super) fn held(&self, now: Instant) -> u64 {
        self.level(now) / REQUEST
    }

    /// As it was with `held` requests, `ago` before `now`.
    pub(super) fn restored(rate: Rate, held: u64, ago: Duration, now: Instant) -> Self {
        let level = held.saturating_mul(REQUEST).min(Self::capacity(rate));
        let at = now.checked_sub(ago);
        Self {
            rate,
            // Longer ago than the clock reaches back: it has long filled up.
            level: if at.is_some() {
                level
            } else {
                Self::capacity(rate)
            },
            at: at.unwrap_or(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_have_full_jitter_under_a_bound_that_doubles_up_to_the_cap() {
        let now = clock::monotonic();
        let mut backoff = Backoff::new(SECOND, 300 * SECOND);
        assert_eq!(backoff.until(), None);
        for bound in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
            // The largest remainder is the whole bound.
            let bound = bound * SECOND;
            let mut longest = backoff;
            longest.failed(now, None, u64::try_from(bound.as_nanos()).unwrap());
            assert_eq!(longest.until(), Some(now + bound));
            backoff.failed(now, None, 0);
            assert_eq!(backoff.until(), Some(now + SHORTEST));
        }
        for _ in 0..100 {
            backoff.failed(now, None, u64::MAX);
        }
        assert!(backoff.until().unwrap() <= now + 300 * SECOND);
        assert!(backoff.is_failing());
        backoff.answered();
        assert_eq!(backoff.until(), None);
        assert!(!backoff.is_failing());
    }

    #[test]
    fn waits_spread_evenly() {
        let now = clock::monotonic();
        let mut early = 0;
        for random in 0..1_000_u64 {
            let mut backoff = Backoff::new(10 * SECOND, 300 * SECOND);
            // Golden ratio steps: even, and unlike any period of the bound.
            backoff.failed(now, None, random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            early += usize::from(backoff.until().unwrap() < now + 5 * SECOND);
        }
        assert!((450..550).contains(&early), "{early} of 1000");
    }

    #[test]
    fn a_lower_cap_holds_for_one_wait_and_hurrying_never_delays() {
        let now = clock::monotonic();
        let mut backoff = Backoff::new(SECOND, 300 * SECOND);
        for _ in 0..8 {
            backoff.failed(now, Some(10 * SECOND), 10_000_000_000);
            assert!(backoff.until().unwrap() <= now + 10 * SECOND);
        }
        backoff.failed(now, None, 200_000_000_000);
        assert_eq!(backoff.until(), Some(now + 200 * SECOND));
        backoff.hurry(now, 10 * SECOND, 3_000_000_000);
        assert_eq!(backoff.until(), Some(now + 3 * SECOND));
        backoff.hurry(now, 10 * SECOND, 9_000_000_000);
        assert_eq!(backoff.until(), Some(now + 3 * SECOND));
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_as_a_date() {
        let now = Timestamp::from_seconds(1_773_567_858);
        let hour = 3_600 * SECOND;
        for (value, wait) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("0", Some(0)),
            ("86400", Some(3_600)),
            ("99999999999999999999999999", Some(3_600)),
            ("Sun, 15 Mar 2026 09:45:18 GMT", Some(60)),
            ("Sun, 15 Mar 2026 09:40:00 GMT", Some(0)),
            ("Fri, 15 Mar 2030 09:44:18 GMT", Some(3_600)),
            ("1773567900", Some(42)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let expected = wait.map(Duration::from_secs);
            assert_eq!(wait_asked_for(value, now, hour), expected, "{value}");
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = clock::monotonic();
        let rate = Rate {
            per_minute: 120,
            burst: 10,
        };
        let mut bucket = Bucket::new(rate, start);
        let (mut given, mut now) = (0, start);
        // Ten minutes, asked fifty times a second.
        while now < start + 600 * SECOND {
            given += u32::from(bucket.take(now));
            now += Duration::from_millis(20);
        }
        assert_eq!(given, 10 + 1_199);
    }

    #[test]
    fn a_bucket_says_when_it_has_one_again() {
        let now = clock::monotonic();
        let rate = Rate {
            per_minute: 7,
            burst: 1,
        };
        let mut bucket = Bucket::new(rate, now);
        assert_eq!(bucket.ready_at(now), None);
        assert!(bucket.take(now));
        let ready = bucket.ready_at(now).unwrap();
        assert!(!bucket.take(ready - Duration::from_millis(1)));
        assert!(bucket.take(ready));
        // A clock that seems to go back fills nothing and breaks nothing.
        assert!(!bucket.take(now));
    }

    #[test]
    fn a_bucket_survives_a_restart() {
        let now = clock::monotonic() + 3_600 * SECOND;
        let rate = Rate {
            per_minute: 6,
            burst: 10,
        };
        let mut bucket = Bucket::new(rate, now);
        for _ in 0..9 {
            assert!(bucket.take(now));
        }
        assert_eq!(bucket.held(now), 1);
        let restored = |ago| Bucket::restored(rate, 1, ago, now).held(now);
        assert_eq!(restored(Duration::ZERO), 1);
        assert_eq!(restored(20 * SECOND), 3);
        assert_eq!(restored(Duration::MAX), 10);
        assert_eq!(Bucket::restored(rate, 99, SECOND, now).held(now), 10);
    }

    #[test]
    fn periods_are_moved_by_a_tenth_at_most() {
        for random in [0, 1, 7_777_777_777, u64::MAX] {
            let moved = about(300 * SECOND, random);
            assert!((270 * SECOND..=330 * SECOND).contains(&moved), "{moved:?}");
        }
        assert_eq!(part(Duration::ZERO, 12_345), Duration::ZERO);
    }
}
