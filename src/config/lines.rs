//! What a file says, line by line, before it becomes a layer. Pure.

use std::path::PathBuf;
use std::sync::Arc;

use super::key::Key;
use super::layers::Layers;
use super::origin::Origin;
use super::problem::Problem;
use super::value::Given;

/// Longer names are not repeated: a key may have been written where a name belongs.
const NAME_SHOWN_MAX: usize = 32;

/// More mistakes in one file are no mistakes but another kind of file. The rest is counted.
pub(super) const MISTAKES_MAX: usize = 40;

/// Something that stands in a file.
pub(super) enum Line {
    /// A setting.
    Setting(Key, Given, Origin),
    /// Something that is none.
    Problem(Problem),
}

/// What stands in a file, from top to bottom.
#[derive(Default)]
pub(super) struct Found {
    pub(super) lines: Vec<Line>,
    /// Whether parts of the file could not be read.
    pub(super) is_broken: bool,
    /// Mistakes beyond those that are told.
    pub(super) more: usize,
    /// What the operator should know of it.
    pub(super) notices: Vec<String>,
}

impl Found {
    /// Puts what stands in the file at `path` on top of the layers.
    pub(super) fn apply(self, path: &Arc<PathBuf>, layers: &mut Layers) {
        for line in self.lines {
            match line {
                Line::Setting(key, given, origin) => layers.put(key, &given, origin),
                Line::Problem(problem) => layers.problems.push(problem),
            }
        }
        if self.more > 0 {
            layers.problems.push(Problem::More {
                path: Arc::clone(path),
                more: self.more,
            });
        }
        layers.notices.extend(self.notices);
    }

    /// Whether the file sets `key`.
    pub(super) fn sets(&self, wanted: Key) -> bool {
        self.lines
            .iter()
            .any(|line| matches!(line, Line::Setting(key, ..) if *key == wanted))
    }
}

/// Where lines begin.
pub(super) struct Lines {
    ends: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { ends }
    }

    /// The line that the byte at `start` stands in, from 1.
    pub(super) fn number(&self, start: usize) -> usize {
        self.ends.partition_point(|end| *end < start) + 1
    }
}

/// A name that somebody wrote, as it may be shown.
pub(super) fn name_shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let length = name.chars().count();
    if length > NAME_SHOWN_MAX {
        format!("(a name of {length} characters)")
    } else if length > 0 && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}
