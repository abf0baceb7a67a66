//! What time it is, and how it is written.
//!
//! [`Timestamp`] is a plain value that every room may carry. The three functions at the end are the only places in the
//! program that ask the operating system for the time; pure rooms receive time with the packets.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970-01-01T00:00:00 UTC, leap seconds not counted. Reaches the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Nanoseconds in a second.
    pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

    /// A timestamp from nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A timestamp from whole seconds since the epoch; what does not fit becomes the latest time there is.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(Self::NANOS_PER_SECOND))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_seconds(self) -> u64 {
        self.0 / Self::NANOS_PER_SECOND
    }

    /// Nanoseconds from `earlier` to this time; 0 when `earlier` is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole milliseconds from `earlier` to this time; 0 when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.nanos_since(earlier) / 1_000_000
    }

    /// Milliseconds from `now` to this time, rounded up: how long to wait for it. At least 1.
    #[must_use]
    pub fn millis_until(self, now: Self) -> u32 {
        u32::try_from(self.nanos_since(now).div_ceil(1_000_000))
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// This time and `nanos` more.
    #[must_use]
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// This time, moved by `nanos`.
    #[must_use]
    pub const fn moved_by(self, nanos: i64) -> Self {
        Self(self.0.saturating_add_signed(nanos))
    }

    /// Nanoseconds by which this time lies ahead of `other`; negative when it lies behind.
    #[must_use]
    pub fn nanos_ahead_of(self, other: Self) -> i64 {
        let ahead = i64::try_from(self.nanos_since(other)).unwrap_or(i64::MAX);
        let behind = i64::try_from(other.nanos_since(self)).unwrap_or(i64::MAX);
        ahead - behind
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-03-15T09:44:18.050Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(self.0)).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self(
            u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        ))
    }
}

/// The wall clock. It may step; use it for labels, never for durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is where time enters")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}

/// The monotonic clock. It never steps; use it for durations and deadlines.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is where time enters")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// How long ago the host booted. It never steps, and unlike [`monotonic`] it goes on while the host is suspended.
#[must_use]
pub fn since_boot() -> Duration {
    let passed = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(passed.tv_sec).unwrap_or(0),
        u32::try_from(passed.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_rfc_3339_with_milliseconds() {
        let at = Timestamp::from_seconds(1_773_567_858).plus_nanos(50_999_999);
        assert_eq!(at.to_string(), "2026-03-15T09:44:18.050Z");
    }

    #[test]
    fn the_latest_time_there_is_can_be_written() {
        assert_eq!(
            Timestamp::from_nanos(u64::MAX).to_string(),
            "2554-07-21T23:34:33.709Z"
        );
        assert_eq!(
            Timestamp::from_seconds(u64::MAX),
            Timestamp::from_nanos(u64::MAX)
        );
    }

    #[test]
    fn differences_do_not_wrap() {
        let (early, late) = (Timestamp::from_seconds(1), Timestamp::from_seconds(3));
        assert_eq!(late.millis_since(early), 2_000);
        assert_eq!(early.millis_since(late), 0);
        assert_eq!(early.nanos_ahead_of(late), -2_000_000_000);
        let (first, last) = (Timestamp::default(), Timestamp::from_nanos(u64::MAX));
        assert_eq!(last.nanos_ahead_of(first), i64::MAX);
        assert_eq!(first.nanos_ahead_of(last), -i64::MAX);
        assert_eq!(first.moved_by(-1), first);
        assert_eq!(last.moved_by(1), last);
    }

    #[test]
    fn moving_a_time_by_its_distance_gives_the_other() {
        let (early, late) = (Timestamp::from_seconds(7), Timestamp::from_seconds(4_000));
        assert_eq!(late.moved_by(early.nanos_ahead_of(late)), early);
        assert_eq!(early.moved_by(late.nanos_ahead_of(early)), late);
    }

    #[test]
    fn the_time_since_boot_goes_on() {
        let before = since_boot();
        assert!(before > Duration::ZERO);
        assert!(since_boot() >= before);
    }
}
