//! What a file says, line by line, before it becomes a layer. Pure.

use super::key::Key;
use super::layers::Layers;
use super::origin::Origin;
use super::problem::Problem;
use super::value::Given;

/// Longer names are not repeated: a key may have been written where a name belongs.
const NAME_SHOWN_MAX: usize = 32;

/// Something that stands in a file.
pub(super) enum Line {
    /// A setting.
    Setting(Key, Given, Origin),
    /// Something that is none.
    Problem(Problem),
}

/// Everything that stands in a file.
#[derive(Default)]
pub(super) struct Found {
    /// With where each begins, in bytes.
    lines: Vec<(usize, Line)>,
    /// Whether parts of the file could not be read.
    pub(super) is_broken: bool,
    /// What the operator should know of it.
    pub(super) notices: Vec<String>,
}

impl Found {
    pub(super) fn push(&mut self, start: usize, line: Line) {
        self.lines.push((start, line));
    }

    /// Puts the file's lines on top of the layers, from top to bottom.
    pub(super) fn apply(self, layers: &mut Layers) {
        for (_, line) in self.lines {
            match line {
                Line::Setting(key, given, origin) => layers.put(key, &given, origin),
                Line::Problem(problem) => layers.problems.push(problem),
            }
        }
        layers.notices.extend(self.notices);
    }

    /// From top to bottom.
    pub(super) fn sort(&mut self) {
        self.lines.sort_by_key(|(start, _)| *start);
    }

    /// Whether the file sets `key`.
    pub(super) fn sets(&self, wanted: Key) -> bool {
        self.lines
            .iter()
            .any(|(_, line)| matches!(line, Line::Setting(key, ..) if *key == wanted))
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
