//! The reference of a series: what it is compared with, what that is made of, and how fast it may move.
//!
//! Pure arithmetic on integers; the detector's thread. Nothing here looks at traffic: it combines what the other files
//! remember.

use serde::{Deserialize, Serialize};

use super::series::Unit;

/// Minutes of growth that are caught up at most after a gap: those of the 7 days after which all is forgotten.
const MINUTES_MAX: u64 = 7 * 24 * 60;

/// How far learning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The first 10 seconds: only set limits are in force.
    FirstSeconds,
    /// Up to 300 s: the reference is the largest second so far, and floors are doubled.
    Starting,
    /// Up to an hour: the reference is learned, and limits are wider than later.
    WarmingUp,
    /// From then on, or as soon as the platform knows what is normal.
    Learned,
}

/// What a reference is made of; each part is `None` while it is not known. Units are those of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// H, the p99 of the last hour.
    pub hour: Option<u64>,
    /// D, the p99 of the last day; the last one there was when the day had fewer than 3,600 quiet seconds.
    pub day: Option<u64>,
    /// P, the p99 usual at this hour of the day.
    pub same_hour: Option<u64>,
    /// W, the p99 usual at this hour of the week.
    pub same_hour_of_week: Option<u64>,
    /// The platform's p99, where it has one.
    #[serde(skip)]
    pub platform: Option<u64>,
}

impl Parts {
    /// R before growth is limited: `max(D, P, W, min(H, 2 x max(D, P, W)))`, or H while the others are unknown.
    pub(super) fn wanted(&self) -> Option<u64> {
        let known = self.day.max(self.same_hour).max(self.same_hour_of_week);
        match (known, self.hour) {
            (Some(known), Some(hour)) => Some(known.max(hour.min(known.saturating_mul(2)))),
            (known, hour) => known.or(hour),
        }
    }
}

/// What a series is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// R, in the unit of the series per second.
    pub value: u64,
    /// What it is made of.
    pub parts: Parts,
    /// How far learning has come for this series.
    pub phase: Phase,
    /// A learned limit is this many times the reference, in permille.
    pub multiplier_permille: u64,
    /// The floor of a learned limit counts this many times.
    pub floor_factor: u64,
    /// Whether it would be higher if a person accepted it.
    pub held: bool,
    /// Seconds until there is a learned limit; 0 from then on.
    pub limit_in_seconds: u64,
}

/// A level that a person has called normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    /// The level.
    pub(super) value: u64,
    /// The UTC day it was accepted on, since the epoch.
    pub(super) day: u64,
}

/// A reference as it moves through time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tracked {
    pub(super) value: u64,
    pub(super) parts: Parts,
    /// What it would be if nothing held it back.
    pub(super) wanted: u64,
    pub(super) held: bool,
    pub(super) accepted: Option<Accepted>,
}

/// How fast a reference may rise.
pub(super) struct Growth {
    /// Of its value, per minute.
    pub(super) permille: u64,
    /// Minutes since it last moved.
    pub(super) minutes: u64,
    /// The level above which only a person lets it go.
    pub(super) ceiling: Option<u64>,
    /// What it counts.
    pub(super) unit: Unit,
}

impl Tracked {
    /// In the first minutes: the largest second so far.
    pub(super) fn raise_to(&mut self, value: u64) {
        self.value = self.value.max(value);
        self.wanted = self.value;
    }

    /// Moves it towards what its parts say: down at once, up as `growth` allows. Unknown parts leave it where it is.
    pub(super) fn follow(&mut self, parts: Parts, growth: &Growth) {
        self.parts = parts;
        let Some(wanted) = parts.wanted() else {
            return;
        };
        let ceiling = growth.ceiling.unwrap_or(u64::MAX);
        self.wanted = wanted;
        self.held = wanted > ceiling;
        self.value = grow(self.value, wanted.min(ceiling), growth);
    }

    /// A person calls the level it wants normal: it goes there at once.
    pub(super) fn accept(&mut self, day: u64) {
        if self.held {
            self.accepted = Some(Accepted {
                value: self.wanted,
                day,
            });
            self.value = self.wanted;
            self.held = false;
        }
    }
}

/// The least step up per minute: without one, whole numbers near zero could not grow by a fiftieth. Both are far below
/// any floor, so no limit moves by them.
const fn least_step(unit: Unit) -> u64 {
    match unit {
        Unit::Packets => 1,
        Unit::Bits => 1_000,
    }
}

fn grow(from: u64, to: u64, growth: &Growth) -> u64 {
    let mut value = from;
    for _ in 0..growth.minutes.clamp(1, MINUTES_MAX) {
        if value >= to {
            break;
        }
        let step = value.saturating_mul(growth.permille) / 1_000;
        value = value.saturating_add(step.max(least_step(growth.unit)));
    }
    value.min(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(
        hour: Option<u64>,
        day: Option<u64>,
        same_hour: Option<u64>,
        week: Option<u64>,
    ) -> Parts {
        Parts {
            hour,
            day,
            same_hour,
            same_hour_of_week: week,
            platform: None,
        }
    }

    fn free(minutes: u64) -> Growth {
        Growth {
            permille: 20,
            minutes,
            ceiling: None,
            unit: Unit::Packets,
        }
    }

    #[test]
    fn the_hour_counts_up_to_twice_what_is_known() {
        assert_eq!(
            parts(Some(900), Some(100), Some(50), None).wanted(),
            Some(200)
        );
        assert_eq!(
            parts(Some(150), Some(100), Some(50), None).wanted(),
            Some(150)
        );
        assert_eq!(
            parts(Some(10), Some(100), Some(500), Some(300)).wanted(),
            Some(500)
        );
        assert_eq!(
            parts(Some(10), Some(100), None, Some(300)).wanted(),
            Some(300)
        );
        assert_eq!(parts(Some(10), None, None, None).wanted(), Some(10));
        assert_eq!(parts(None, None, None, Some(7)).wanted(), Some(7));
        assert_eq!(parts(None, None, None, None).wanted(), None);
    }

    #[test]
    fn it_rises_by_a_fiftieth_a_minute_and_falls_freely() {
        let mut tracked = Tracked::default();
        tracked.raise_to(10_000);
        tracked.follow(parts(Some(50_000), None, None, None), &free(1));
        assert_eq!(tracked.value, 10_200);
        tracked.follow(parts(Some(50_000), None, None, None), &free(60));
        assert!(
            (32_000..34_000).contains(&tracked.value),
            "3.3 times in an hour, found {}",
            tracked.value
        );
        tracked.follow(parts(Some(3), None, None, None), &free(1));
        assert_eq!(tracked.value, 3);
        tracked.follow(parts(Some(5), None, None, None), &free(1));
        assert_eq!(tracked.value, 4, "the least step");
        tracked.follow(parts(None, None, None, None), &free(1));
        assert_eq!(tracked.value, 4, "nothing known, nothing moves");
    }

    #[test]
    fn above_the_ceiling_it_waits_for_a_person() {
        let mut tracked = Tracked {
            value: 100,
            ..Tracked::default()
        };
        let held = Growth {
            ceiling: Some(400),
            ..free(1_000)
        };
        tracked.follow(parts(Some(900), None, None, None), &held);
        assert_eq!((tracked.value, tracked.held), (400, true));
        tracked.accept(9);
        assert_eq!((tracked.value, tracked.held), (900, false));
        assert_eq!(tracked.accepted, Some(Accepted { value: 900, day: 9 }));
    }

    #[test]
    fn accepting_what_is_not_held_changes_nothing() {
        let mut tracked = Tracked {
            value: 100,
            ..Tracked::default()
        };
        tracked.follow(parts(Some(900), None, None, None), &free(1));
        let before = tracked;
        tracked.accept(9);
        assert_eq!(tracked, before);
    }
}
