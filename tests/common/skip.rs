//! Tests that cannot be had everywhere.

use super::tell;

/// Says that a test is skipped, and why. Where live tests are required (`CI` or `FTAGENT_REQUIRE_LIVE` is set) it panics
/// instead: there a skipped test is a lost one.
pub(crate) fn skip(reason: &str) {
    let required = ["CI", "FTAGENT_REQUIRE_LIVE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!required, "live tests are required here, but {reason}");
    tell!("skipped: {reason}");
}
