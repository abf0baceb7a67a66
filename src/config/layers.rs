//! The layers on top of each other: for each setting the value that holds, and everything that is wrong with any of
//! them. A value that is wrong is told even where a higher layer covers it: the day that layer goes, it would hold.

use std::collections::BTreeMap;

use super::Options;
use super::key::Key;
use super::origin::{Origin, Setting};
use super::problem::Problem;
use super::value::{Given, Value};
use crate::{engine, ledger, uplink};

/// The platform, as the published agent has it.
pub(super) const API_BASE: &str = "https://flowtriq.com/api/v1";

/// What the layers so far come to.
#[derive(Debug, Default)]
pub(super) struct Layers {
    values: BTreeMap<Key, Setting>,
    /// Values that do not fit, where they were last met. They are wrong, but not missing.
    misfits: BTreeMap<Key, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<String>,
}

impl Layers {
    /// The lowest layer: what the rooms do by themselves.
    pub(super) fn put_defaults(&mut self) {
        let engine = engine::Settings::default();
        let (limits, baseline) = (&engine.detect.limits, &engine.detect.baseline);
        let incident = &engine.incident;
        let cadence = uplink::Cadence::default();
        for (key, value) in [
            (Key::ApiBase, Value::Text(API_BASE.to_owned())),
            (Key::Contract, Value::Choice("auto")),
            (Key::AllowHttp, Value::Switch(false)),
            (
                Key::HeartbeatSeconds,
                Value::Number(cadence.heartbeat.as_secs()),
            ),
            (
                Key::MetricsSeconds,
                Value::Number(cadence.aggregate.as_secs()),
            ),
            (Key::FloorPps, Value::Number(limits.floor_pps)),
            (Key::FloorBps, Value::Number(limits.floor_bps)),
            (Key::Multiplier, Value::Factor(baseline.multiplier_permille)),
            (
                Key::WarmUpMultiplier,
                Value::Factor(baseline.warm_up_multiplier_permille),
            ),
            (
                Key::HoldSeconds,
                Value::Number(incident.hold_millis / 1_000),
            ),
            (
                Key::LongestHoldSeconds,
                Value::Number(incident.longest_hold_millis / 1_000),
            ),
            (
                Key::ReopenSeconds,
                Value::Number(incident.reopen_millis / 1_000),
            ),
            (
                Key::UpdateSeconds,
                Value::Number(incident.update_millis / 1_000),
            ),
            (
                Key::QuotaMib,
                Value::Number(ledger::Settings::default().quota_bytes >> 20),
            ),
            (Key::LogLevel, Value::Choice("info")),
        ] {
            self.set(key, value, Origin::Default);
        }
    }

    /// The highest layer. Its values were checked where options are.
    pub(super) fn put_options(&mut self, options: &Options) {
        let mut put = |key, value, name| self.set(key, value, Origin::Option { name });
        if !options.interfaces.is_empty() {
            let names = Value::Names(options.interfaces.clone());
            put(Key::Interfaces, names, "--interface");
        }
        if let Some(pps) = options.pps_threshold {
            put(Key::PpsThreshold, Value::Number(pps), "--threshold-pps");
        }
        if let Some(bps) = options.bps_threshold {
            put(Key::BpsThreshold, Value::Number(bps), "--threshold-bps");
        }
        if let Some(dir) = &options.state_dir {
            put(Key::StateDir, Value::Path(dir.clone()), "--state-dir");
        }
    }

    /// Puts what somebody wrote on top, if it fits.
    pub(super) fn put(&mut self, key: Key, given: &Given, origin: Origin) {
        match key.kind().read(given) {
            Ok(Some(value)) => self.set(key, value, origin),
            Ok(None) => {}
            Err(misfit) => {
                self.misfits.insert(key, origin.clone());
                self.problems.push(Problem::Misfit {
                    name: key.to_string(),
                    expected: misfit.expected,
                    found: misfit.found,
                    origin,
                });
            }
        }
    }

    /// Puts a value on top that is known to fit.
    pub(super) fn set(&mut self, key: Key, value: Value, origin: Origin) {
        self.values.insert(key, Setting { value, origin });
    }

    /// What holds for a setting.
    pub(super) fn get(&self, key: Key) -> Option<&Setting> {
        self.values.get(&key)
    }

    /// Where a setting comes from that some layer has, whether or not it fits.
    pub(super) fn given(&self, key: Key) -> Option<&Origin> {
        let holds = self.get(key).map(|setting| &setting.origin);
        holds.or_else(|| self.misfits.get(&key))
    }

    /// The values that hold, once all layers are in.
    pub(super) fn into_values(self) -> BTreeMap<Key, Setting> {
        self.values
    }
}
