//! The layers on top of each other: for each setting the value that holds, and everything that is wrong with any of
//! them. A value that is wrong is told even where a higher layer covers it: the day that layer goes, it would hold.

use std::collections::BTreeMap;

use super::key::Key;
use super::origin::{Origin, Setting};
use super::problem::Problem;
use super::value::{Given, Value};

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
