//! Where a value comes from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::value::Value;

/// Where a value comes from. Its `Display` stands at the end of a sentence: `in /etc/ftagent/ftagent.toml, line 14`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The platform said so last.
    Platform,
    /// A line of a file.
    File {
        /// The file.
        path: Arc<PathBuf>,
        /// The line, from 1.
        line: usize,
    },
    /// A file that the service manager handed over.
    Credential {
        /// The file.
        path: Arc<PathBuf>,
    },
    /// An environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// An option of the command line.
    Option {
        /// Its name, with its dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Platform => f.write_str("from the platform"),
            Self::File { path, line } => write!(f, "in {}, line {line}", path.display()),
            Self::Credential { path } => write!(f, "in the credential {}", path.display()),
            Self::Variable { name } => write!(f, "in the environment variable {name}"),
            Self::Option { name } => write!(f, "with {name}"),
        }
    }
}

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}
