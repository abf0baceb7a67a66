//! How figures are written for people: the same everywhere, in explanations, logs and tables.

use std::fmt;

/// A number with thousands separators: `412,300`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thousands(pub(crate) u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{},{:03}", Self(self.0 / 1_000), self.0 % 1_000)
        }
    }
}

/// Bits in decimal units with one decimal: `1.7 Gbit`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits(pub(crate) u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = match self.0 {
            0..1_000 => return write!(f, "{} bit", self.0),
            1_000..1_000_000 => ("kbit", 1_000),
            1_000_000..1_000_000_000 => ("Mbit", 1_000_000),
            1_000_000_000..1_000_000_000_000 => ("Gbit", 1_000_000_000),
            _ => ("Tbit", 1_000_000_000_000),
        };
        let tenths = self.0 / (size / 10);
        write!(f, "{}.{} {unit}", Thousands(tenths / 10), tenths % 10)
    }
}

/// Bits a second as the platform's pages write them: `1.7 Gbps`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bps(pub(crate) u64);

impl fmt::Display for Bps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Bits(self.0).to_string().replace("bit", "bps"))
    }
}

/// Permille as percent with one decimal where it has one: `25 %`, `2.5 %`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent(pub(crate) u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{} %", self.0 / 10),
            tenth => write!(f, "{}.{tenth} %", self.0 / 10),
        }
    }
}

/// Permille as how many times: `4`, `2.5`, `2.125`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times(pub(crate) u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / 1_000;
        match self.0 % 1_000 {
            0 => write!(f, "{whole}"),
            part => {
                let part = format!("{part:03}");
                write!(f, "{whole}.{}", part.trim_end_matches('0'))
            }
        }
    }
}

/// Milliseconds as a duration: `350 ms`, `12.4 s`, `3 min 20 s`, `2 h 5 min`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duration(pub(crate) u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        match self.0 {
            0..1_000 => write!(f, "{} ms", self.0),
            1_000..60_000 => write!(f, "{seconds}.{} s", self.0 % 1_000 / 100),
            60_000..3_600_000 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_thousands_separators() {
        assert_eq!(Thousands(999).to_string(), "999");
        assert_eq!(Thousands(1_000).to_string(), "1,000");
        assert_eq!(Thousands(12_003_400).to_string(), "12,003,400");
    }

    #[test]
    fn bits_are_decimal() {
        assert_eq!(Bits(1_700_000_000).to_string(), "1.7 Gbit");
        assert_eq!(Bits(999).to_string(), "999 bit");
        assert_eq!(Bits(43_050_000).to_string(), "43.0 Mbit");
        assert_eq!(Bps(1_700_000_000).to_string(), "1.7 Gbps");
        assert_eq!(Bps(999).to_string(), "999 bps");
    }

    #[test]
    fn shares_and_durations_are_short() {
        assert_eq!(Percent(250).to_string(), "25 %");
        assert_eq!(Percent(25).to_string(), "2.5 %");
        assert_eq!(Times(4_000).to_string(), "4");
        assert_eq!(Times(2_500).to_string(), "2.5");
        assert_eq!(Times(12_050).to_string(), "12.05");
        assert_eq!(Duration(350).to_string(), "350 ms");
        assert_eq!(Duration(200_000).to_string(), "3 min 20 s");
    }
}
