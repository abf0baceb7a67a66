//! What a changed configuration changes: at once, or at the next start.
//!
//! A reload takes over all that can be taken over, or nothing: a configuration with a mistake leaves the old one in
//! force.

use std::fmt;

use super::key::{Key, Takes};
use super::origin::Setting;
use super::{Config, ConfigErrors};

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub key: Key,
    /// What is in force.
    pub old: Option<Setting>,
    /// What is wanted.
    pub new: Option<Setting>,
}

/// What a reload found.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The configuration from now on: the new one, but for what takes a start. That keeps its old value, so that the
    /// next reload still tells it.
    pub config: Config,
    /// What differs, in the order of the settings.
    pub changes: Vec<Change>,
}

impl Config {
    /// Reads all layers again, from where they came, and compares.
    ///
    /// # Errors
    ///
    /// Everything that is wrong; then this configuration stays in force.
    pub fn reload(&self) -> Result<Reload, ConfigErrors> {
        Ok(self.changed_to(Self::load(self.sources.clone())?))
    }

    /// What it means to go over to `new`. Pure: reads nothing.
    #[must_use]
    pub fn changed_to(&self, new: Self) -> Reload {
        let changes: Vec<Change> = Key::ALL
            .into_iter()
            .map(|key| Change {
                key,
                old: self.setting(key).cloned(),
                new: new.setting(key).cloned(),
            })
            .filter(Change::is_one)
            .collect();
        let mut config = new;
        for change in changes.iter().filter(|change| !change.is_live()) {
            match &change.old {
                Some(old) => config.values.insert(change.key, old.clone()),
                None => config.values.remove(&change.key),
            };
        }
        Reload { config, changes }
    }
}

impl Change {
    /// Whether it takes effect at once.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.key.takes() == Takes::AtReload
    }

    /// The same value from elsewhere is no change.
    fn is_one(&self) -> bool {
        let value =
            |setting: &Option<Setting>| setting.as_ref().map(|setting| setting.value.clone());
        value(&self.old) != value(&self.new)
    }
}

impl fmt::Display for Change {
    /// `detection.pps_threshold: now 50,000 instead of learned (in /etc/ftagent/ftagent.toml, line 4)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unset = self.key.unset();
        let written = |setting: &Option<Setting>| {
            setting
                .as_ref()
                .map_or_else(|| unset.to_owned(), |setting| setting.value.to_string())
        };
        let (old, new) = (written(&self.old), written(&self.new));
        if self.is_live() {
            write!(f, "{}: now {new} instead of {old}", self.key)?;
        } else {
            write!(
                f,
                "{}: stays {old} until the agent is started again, then {new}",
                self.key
            )?;
        }
        match &self.new {
            Some(setting) => write!(f, " ({})", setting.origin),
            None => Ok(()),
        }
    }
}
