//! Figures beside their budgets, a line each, which `measure.sh` makes a table of.

use std::fmt::Display;

/// What a figure has to stay below or at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// The most.
    pub(crate) most: f64,
    /// Its unit, as it is written behind a number.
    pub(crate) unit: &'static str,
}

impl Budget {
    /// Prints a figure: what it is, the value that counts, and what else there is to say of it.
    pub(crate) fn print(self, quantity: &str, value: f64, more: impl Display) {
        let Self { most, unit } = self;
        let verdict = if value <= most { "kept" } else { "BROKEN" };
        println!("measured\t{quantity}\t{value:.2} {unit}{more}\t{most} {unit}\t{verdict}");
    }
}

/// Prints a figure that has no budget.
pub(crate) fn print(quantity: &str, figure: impl Display) {
    println!("measured\t{quantity}\t{figure}\t\t");
}

/// The value below which so many hundredths of `sorted` lie; there must be some.
pub(crate) fn percentile(sorted: &[f64], hundredths: usize) -> f64 {
    let place = (sorted.len() * hundredths).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().expect("something was measured")
}
