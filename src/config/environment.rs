//! What the environment says: a variable for each setting, and a credential that the service manager handed over.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use super::file;
use super::key::Key;
use super::layers::Layers;
use super::near::nearest;
use super::origin::Origin;
use super::value::{Given, Value};

/// What our variables begin with.
const PREFIXES: [&str; 2] = ["FTAGENT_", "FLOWTRIQ_"];

/// Names the configuration file. The published agent's container image has it.
const CONFIG: &str = "FTAGENT_CONFIG";

/// That image's other variable, which its agent ignores.
const API_URL: &str = "FTAGENT_API_URL";

/// Where systemd puts what `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What `StateDirectory=` made; several are separated by colons.
const STATE: &str = "STATE_DIRECTORY";

/// The environment variables of a process, or made-up ones.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets, and not only ours.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        Self(
            variables
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Environment {
    /// This process's.
    #[must_use]
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
            .filter(|value| !value.is_empty())
            .map(OsString::as_os_str)
    }

    /// The configuration file it names.
    pub(super) fn config(&self) -> Option<PathBuf> {
        self.get(CONFIG).map(PathBuf::from)
    }

    /// Below the files: where the service manager wants state kept.
    pub(super) fn apply_state_directory(&self, layers: &mut Layers) {
        let Some(first) = self
            .get(STATE)
            .and_then(|value| value.to_str()?.split(':').next())
        else {
            return;
        };
        let given = Given::Words(first.to_owned());
        layers.put(Key::StateDir, &given, variable(STATE));
    }

    /// Above the files: the key that the service manager handed over.
    pub(super) fn apply_credential(&self, layers: &mut Layers) {
        let Some(folder) = self.get(CREDENTIALS) else {
            return;
        };
        let path = Arc::new(PathBuf::from(folder).join("api_key"));
        match file::read(&path) {
            Ok(None) => {}
            Ok(Some(content)) => {
                layers.problems.extend(content.exposure(&path));
                let given = Given::Words(content.text);
                layers.put(Key::ApiKey, &given, Origin::Credential { path });
            }
            Err(problem) => layers.problems.push(problem),
        }
    }

    /// Above both: a variable for each setting.
    pub(super) fn apply(&self, layers: &mut Layers) {
        for key in Key::ALL {
            let mut before: Option<(String, Value)> = None;
            for name in key.variables() {
                let Some(value) = self.get(&name) else {
                    continue;
                };
                let given = match value.to_str() {
                    Some(value) => Given::Words(value.to_owned()),
                    None => Given::NotText,
                };
                layers.put(key, &given, variable(&name));
                let Some(setting) = layers.get(key) else {
                    continue;
                };
                let now = setting.value.clone();
                if let Some((other, _)) = before.filter(|(_, value)| *value != now) {
                    let notice = format!("{name} and {other} differ: {name} counts");
                    layers.notices.push(notice);
                }
                before = Some((name, now));
            }
        }
        self.note_others(layers);
    }

    /// Variables that look like ours and are not. Only those near to one that is: tests and container schedulers have
    /// variables of that beginning too.
    fn note_others(&self, layers: &mut Layers) {
        let ours: Vec<String> = Key::ALL.into_iter().flat_map(Key::variables).collect();
        let is_ours = |name: &str| name == CONFIG || ours.iter().any(|known| known == name);
        let names = self.0.iter().filter_map(|(name, _)| name.to_str());
        let mut others: Vec<&str> = names.filter(|name| !is_ours(name)).collect();
        others.sort_unstable();
        for other in others {
            if other == API_URL {
                layers.notices.push(format!(
                    "{API_URL}: is not used; the platform's address is FTAGENT_API_BASE"
                ));
                continue;
            }
            let meant = PREFIXES.iter().find_map(|prefix| {
                let behind = other.strip_prefix(prefix)?;
                let known = ours.iter().filter_map(|name| name.strip_prefix(prefix));
                Some(format!("{prefix}{}", nearest(behind, known)?))
            });
            if let Some(meant) = meant {
                layers
                    .notices
                    .push(format!("{other}: no such setting; did you mean {meant}?"));
            }
        }
    }
}

fn variable(name: &str) -> Origin {
    Origin::Variable {
        name: name.to_owned(),
    }
}
