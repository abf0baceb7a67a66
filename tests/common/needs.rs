//! What a test may find missing: rights, tools, the larger collection beside the checkout. A test that cannot run says so.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

/// Says why a test does not run. Where `CI` or `FTAGENT_REQUIRE_LIVE` is set it panics instead: there a skipped test is a
/// lost one.
pub(crate) fn skip(reason: &str) {
    let is_required = ["CI", "FTAGENT_REQUIRE_LIVE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!is_required, "nothing may be skipped here, but {reason}");
    println!("skipped: {reason}");
}

/// A folder of the collection beside the checkout (`../shared`, or what `FTAGENT_SHARED` names); none, with a line that
/// says so, where there is no such collection. Whoever names one must have it there.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let named = std::env::var_os("FTAGENT_SHARED").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let found = named.clone().unwrap_or_else(beside).join(folder);
    if found.is_dir() {
        return Some(found);
    }
    assert!(
        named.is_none(),
        "FTAGENT_SHARED is set, but there is no {}",
        found.display()
    );
    println!(
        "skipped: there is no {} (FTAGENT_SHARED names another place)",
        found.display()
    );
    None
}
