//! Any text as a configuration file, ours and the published agent's: it is read or refused, what is said of it is
//! bounded, and no key that stands in it is repeated.

#![no_main]

use std::path::Path;

use ftagent::config::{Config, ConfigErrors, Key};
use libfuzzer_sys::fuzz_target;

/// A key that is put where a key belongs, and enough of it to know it by.
const KEY: &str = "ft_live_ZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7XZQ7X";
const PART: &str = "ZQ7XZQ7X";

/// Forty mistakes, one line for those beyond, and what the settings together may have wrong.
const PROBLEMS_MAX: usize = 41 + Key::ALL.len() + 3;

fuzz_target!(|input: &str| {
    for (name, key) in [
        ("ftagent.toml", format!("[api]\nkey = \"{KEY}\"\n")),
        ("config.json", format!("{{\"api_key\": \"{KEY}\",\n")),
    ] {
        let path = Path::new(name);
        check(input, &Config::of_text(path, input));
        let with_key = key + input;
        check(input, &Config::of_text(path, &with_key));
    }
});

fn check(input: &str, config: &Result<Config, ConfigErrors>) {
    let said = match config {
        Ok(config) => {
            // Whatever was taken can be used.
            let engine = config.engine(1);
            assert!(engine.incident.hold_millis <= engine.incident.longest_hold_millis);
            assert!(engine.detect.baseline.multiplier_permille >= 2_000);
            assert!(engine.detect.limits.set_pps.is_none_or(|limit| limit.value > 0));
            assert_eq!(config.uplink().is_none(), config.is_local());
            assert!(config.interfaces().len() <= 64);
            let again = config.changed_to(config.clone());
            assert!(again.changes.is_empty());
            format!("{config:?}")
        }
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            assert!(errors.problems().len() <= PROBLEMS_MAX);
            let lines = errors.to_string();
            assert_eq!(lines.lines().count(), errors.problems().len(), "a line each");
            format!("{lines} {errors:?}")
        }
    };
    // A fuzzer may write the key itself, where it is no secret.
    assert!(input.contains("ZQ7X") || !said.contains(PART), "{said}");
}
