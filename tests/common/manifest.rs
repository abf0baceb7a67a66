//! Lists of captures with what the agent has to say about each.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::tell;

/// No limit is set below this: a handful of packets a second is no flood on any host.
pub(crate) const LEAST_LIMIT_PPS: u64 = 20;

/// One line of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its name in the manifest.
    pub(crate) file: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The first of the protected addresses, where the capture has one.
    pub(crate) host: Option<String>,
    /// Most packets in one second.
    pub(crate) peak_pps: u64,
    /// Families that are right; none when there must be no incident.
    pub(crate) families: Vec<String>,
    /// Subtypes that are right; `*` is any.
    pub(crate) subtypes: Vec<String>,
    /// What whoever listed it wants known.
    pub(crate) notes: String,
    /// Whether it is there for robustness alone.
    pub(crate) malformed: bool,
}

impl Listed {
    /// Whether there must be an incident.
    pub(crate) fn is_attack(&self) -> bool {
        !self.malformed && !self.families.is_empty()
    }

    /// A limit that the attack in it clearly crosses.
    pub(crate) fn crossed_limit_pps(&self) -> u64 {
        (self.peak_pps / 3).max(LEAST_LIMIT_PPS)
    }

    /// A limit that nothing in it reaches.
    pub(crate) fn distant_limit_pps(&self) -> u64 {
        (self.peak_pps * 2).max(LEAST_LIMIT_PPS)
    }

    /// The right answer as one word.
    pub(crate) fn expected(&self) -> String {
        format!("{}/{}", self.families.join("|"), self.subtypes.join("|"))
    }
}

/// The captures that a script of this project recorded; they are always there.
pub(crate) fn recorded() -> Vec<Listed> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"))
        .expect("the recorded captures have a manifest")
}

/// The captures that others published, where they are at hand. Says so where they are not.
pub(crate) fn published() -> Vec<Listed> {
    let shared = std::env::var_os("FTAGENT_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let corpus = shared.join("corpus");
    read(&corpus).unwrap_or_else(|| {
        tell!(
            "skipped: there are no published captures in {} (FTAGENT_SHARED names another place)",
            corpus.display()
        );
        Vec::new()
    })
}

/// The manifest in `folder`, if there is one. Columns are found by the names in its first line.
fn read(folder: &Path) -> Option<Vec<Listed>> {
    let text = fs::read_to_string(folder.join("manifest.tsv")).ok()?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split('\t').collect();
    let listed = |line: &str| {
        let columns: HashMap<&str, &str> = names.iter().copied().zip(line.split('\t')).collect();
        let column = |name: &str| columns.get(name).copied().filter(|value| *value != "-");
        let answers = |name| {
            column(name)
                .map(|value| value.split('|').map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let file = column("file").expect("every line names its file");
        Listed {
            file: file.to_owned(),
            path: folder.join(file),
            host: column("victim")
                .and_then(|value| value.split([',', ';', ' ']).next())
                .map(str::to_owned),
            peak_pps: column("peak_pps")
                .and_then(|value| value.parse().ok())
                .unwrap_or_default(),
            families: answers("expect_family"),
            subtypes: answers("expect_subtype"),
            notes: column("notes").unwrap_or_default().to_owned(),
            malformed: column("label") == Some("malformed"),
        }
    };
    Some(lines.map(listed).collect())
}
