//! What is learned: the series, and one value of anything for each of them.
//!
//! Adding a series means adding a variant, its place in [`Series::ALL`], its unit and its name; every table, the state
//! format and the tests follow from those. Values only: nothing here decides or remembers. Any thread.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::classify::TrafficClass;
use crate::count::{Count, TrafficSecond};

/// What a series counts per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Packets.
    #[default]
    Packets,
    /// Bits at layer 2.
    Bits,
}

impl Unit {
    /// The name used in output: `pps` or `bps`.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Packets => "pps",
            Self::Bits => "bps",
        }
    }

    /// The figure of a count in this unit.
    #[must_use]
    pub const fn of(self, count: Count) -> u64 {
        match self {
            Self::Packets => count.packets,
            Self::Bits => count.bits,
        }
    }

    /// The largest value that is kept apart from larger ones; everything above is learned as this.
    ///
    /// 2^30 packets/s is the line rate of 700 Gbit/s in minimum frames, 2^40 bits/s is 1.1 Tbit/s: twice what the
    /// fastest network cards carry, and small enough that a day of such seconds adds up without overflow.
    #[must_use]
    pub const fn max(self) -> u64 {
        match self {
            Self::Packets => (1 << 30) - 1,
            Self::Bits => (1 << 40) - 1,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Packets => "packets/s",
            Self::Bits => "bits/s",
        })
    }
}

/// One number a second that the baseline learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// Inbound packets.
    Pps,
    /// Inbound bits at layer 2.
    Bps,
    /// Outbound packets.
    OutboundPps,
    /// Inbound packets of one class.
    ClassPackets(TrafficClass),
    /// Inbound bits of one class.
    ClassBits(TrafficClass),
}

impl Series {
    /// How many series there are.
    pub const COUNT: usize = Self::TOTALS.len() + 2 * TrafficClass::COUNT;

    /// Every series, in order.
    pub const ALL: [Self; Self::COUNT] = Self::every();

    /// The series that are judged as totals, in order: they are kept with two digits and have a profile of the week.
    pub const TOTALS: [Self; 3] = [Self::Pps, Self::Bps, Self::OutboundPps];

    #[expect(
        clippy::indexing_slicing,
        reason = "evaluated by the compiler, which refuses an index out of range"
    )]
    const fn every() -> [Self; Self::COUNT] {
        let mut all = [Self::Pps; Self::COUNT];
        let mut next = 0;
        while next < Self::TOTALS.len() {
            all[next] = Self::TOTALS[next];
            next += 1;
        }
        let mut class = 0;
        while class < TrafficClass::COUNT {
            all[next + class] = Self::ClassPackets(TrafficClass::ALL[class]);
            all[next + TrafficClass::COUNT + class] = Self::ClassBits(TrafficClass::ALL[class]);
            class += 1;
        }
        all
    }

    /// The place of this series in [`Series::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Pps => 0,
            Self::Bps => 1,
            Self::OutboundPps => 2,
            Self::ClassPackets(class) => Self::TOTALS.len() + class as usize,
            Self::ClassBits(class) => Self::TOTALS.len() + TrafficClass::COUNT + class as usize,
        }
    }

    /// What it counts.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Pps | Self::OutboundPps | Self::ClassPackets(_) => Unit::Packets,
            Self::Bps | Self::ClassBits(_) => Unit::Bits,
        }
    }

    /// Whether it is one of [`Series::TOTALS`].
    #[must_use]
    pub const fn is_total(self) -> bool {
        matches!(self, Self::Pps | Self::Bps | Self::OutboundPps)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|series| series.to_string() == name)
    }
}

impl fmt::Display for Series {
    /// The name used in the state file: `pps`, `outbound_pps`, `syn_packets`, `syn_bits`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pps => f.write_str("pps"),
            Self::Bps => f.write_str("bps"),
            Self::OutboundPps => f.write_str("outbound_pps"),
            Self::ClassPackets(class) => write!(f, "{}_packets", class.name()),
            Self::ClassBits(class) => write!(f, "{}_bits", class.name()),
        }
    }
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl de::Visitor<'_> for Name {
            type Value = Series;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a series")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Series, E> {
                Series::named(name)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(name), &self))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// One `T` for each series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PerSeries<T>([T; Series::COUNT]);

impl<T: Default> Default for PerSeries<T> {
    fn default() -> Self {
        Self::from_fn(|_| T::default())
    }
}

impl<T> PerSeries<T> {
    /// Makes the `T` of each series.
    pub(super) fn from_fn(mut make: impl FnMut(Series) -> T) -> Self {
        Self(Series::ALL.map(&mut make))
    }

    /// The one of `series`.
    #[expect(
        clippy::indexing_slicing,
        reason = "a series' index is always below the number of series"
    )]
    pub(super) const fn of(&self, series: Series) -> &T {
        &self.0[series.index()]
    }

    /// The one of `series`, to change.
    #[expect(
        clippy::indexing_slicing,
        reason = "a series' index is always below the number of series"
    )]
    pub(super) const fn of_mut(&mut self, series: Series) -> &mut T {
        &mut self.0[series.index()]
    }

    /// All of them with their series, in the order of [`Series::ALL`].
    pub(super) fn iter(&self) -> impl Iterator<Item = (Series, &T)> {
        Series::ALL.into_iter().zip(&self.0)
    }

    /// All of them with their series, in the order of [`Series::ALL`], to change.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Series, &mut T)> {
        Series::ALL.into_iter().zip(&mut self.0)
    }

    /// All of them, in the order of [`Series::ALL`].
    pub(super) const fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// All of them, in the order of [`Series::ALL`], to change.
    pub(super) const fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// The values of every series in one second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondValues(PerSeries<u64>);

impl SecondValues {
    /// A second in which nothing happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what `series` was.
    pub const fn set(&mut self, series: Series, value: u64) {
        *self.0.of_mut(series) = value;
    }

    /// What `series` was.
    #[must_use]
    pub const fn of(&self, series: Series) -> u64 {
        *self.0.of(series)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Series, u64)> {
        self.0.iter().map(|(series, value)| (series, *value))
    }

    pub(super) const fn as_slice(&self) -> &[u64] {
        self.0.as_slice()
    }

    /// Lowers what is more than is kept apart at all.
    pub(super) fn clamp(&mut self) {
        for (value, series) in self.0.as_mut_slice().iter_mut().zip(&Series::ALL) {
            *value = (*value).min(series.unit().max());
        }
    }

    pub(super) fn lower(&mut self, series: Series, at_most: u64) {
        let value = self.0.of_mut(series);
        *value = (*value).min(at_most);
    }
}

impl From<&TrafficSecond> for SecondValues {
    fn from(second: &TrafficSecond) -> Self {
        Self(PerSeries::from_fn(|series| match series {
            Series::Pps => second.pps,
            Series::Bps => second.bps,
            Series::OutboundPps => second.outbound.wire().packets,
            Series::ClassPackets(class) => second.inbound.class(class).packets,
            Series::ClassBits(class) => second.inbound.class(class).bits,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_stands_where_its_index_says() {
        for (place, series) in Series::ALL.into_iter().enumerate() {
            assert_eq!(series.index(), place, "{series}");
        }
    }

    #[test]
    fn every_series_is_found_by_its_own_name() {
        for series in Series::ALL {
            assert_eq!(Series::named(&series.to_string()), Some(series));
        }
        assert_eq!(Series::named("syn"), None);
    }

    #[test]
    fn the_totals_come_first_and_only_they_are_totals() {
        assert_eq!(&Series::ALL[..Series::TOTALS.len()], &Series::TOTALS);
        assert!(
            Series::ALL
                .into_iter()
                .all(|series| series.is_total() == Series::TOTALS.contains(&series))
        );
    }
}
