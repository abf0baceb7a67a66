//! Our own file: TOML, in sections.
//!
//! Text in, lines out: settings, and what is no setting. Every mistake in a file is told, not only the first. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::key::Key;
use super::lines::{Found, Line, Lines, name_shown};
use super::near::nearest;
use super::origin::Origin;
use super::problem::Problem;
use super::value::Given;

/// What the file at `path` says.
pub(super) fn read(text: &str, path: &Arc<PathBuf>) -> Found {
    let lines = Lines::of(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut found = Found::default();
    let mut broken = BTreeSet::new();
    for error in errors {
        // Of the parser's message only what it says: the lines that it would quote may hold a key.
        let start = error.span().map_or(0, |span| span.start);
        let line = lines.number(start);
        // One mistake often makes several errors. The first on a line is the one to look at.
        if broken.insert(line) {
            let problem = Problem::Syntax {
                path: Arc::clone(path),
                line,
                format: "TOML",
                reason: error.message().to_owned(),
            };
            found.push(start, Line::Problem(problem));
        }
    }
    found.is_broken = !broken.is_empty();
    let mut reader = Reader {
        path,
        lines,
        broken,
        found,
    };
    for (name, value) in root.get_ref() {
        reader.section(name, value);
    }
    let mut found = reader.found;
    found.sort();
    found
}

/// Walks through the sections.
struct Reader<'a> {
    path: &'a Arc<PathBuf>,
    lines: Lines,
    /// Lines that are no TOML: what was made of them means nothing.
    broken: BTreeSet<usize>,
    found: Found,
}

impl Reader<'_> {
    fn section(&mut self, name: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        let section = name.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(settings) if Key::is_section(section) => {
                self.settings(section, settings);
            }
            DeValue::Table(_) => {
                let sections = Key::ALL.into_iter().map(Key::section);
                let nearest = nearest(section, sections).map(str::to_owned);
                self.unknown(name, name_shown(section), "section", nearest);
            }
            other if Key::is_section(section) => {
                let origin = self.origin(name);
                let problem = Problem::Misfit {
                    name: section.to_owned(),
                    expected: format!("a section, which begins with a line [{section}]"),
                    found: given(other).description(),
                    origin,
                };
                self.push(name, Line::Problem(problem));
            }
            _ => self.unknown(name, name_shown(section), "setting", meant(None, section)),
        }
    }

    fn settings(&mut self, section: &str, settings: &DeTable<'_>) {
        let mut first_name: Option<&str> = None;
        for (name, value) in settings {
            let plain = name.get_ref().as_ref();
            let Some(key) = Key::named(section, plain) else {
                let full = format!("{section}.{}", name_shown(plain));
                self.unknown(name, full, "setting", meant(Some(section), plain));
                continue;
            };
            let origin = self.origin(name);
            let line = if !key.in_files() {
                Line::Problem(Problem::NotInFiles {
                    key,
                    variable: key.variables().join(" or "),
                    origin,
                })
            } else if let Some(first) = first_name.filter(|_| key == Key::Interfaces) {
                Line::Problem(Problem::Misfit {
                    name: key.to_string(),
                    expected: "one of interface and interfaces".to_owned(),
                    found: format!("{first} and {plain}"),
                    origin,
                })
            } else {
                Line::Setting(key, given(value.get_ref()), origin)
            };
            if key == Key::Interfaces {
                first_name = Some(plain);
            }
            self.push(name, line);
        }
    }

    fn unknown(
        &mut self,
        name: &Spanned<DeString<'_>>,
        full: String,
        what: &'static str,
        nearest: Option<String>,
    ) {
        let origin = self.origin(name);
        let problem = Problem::Unknown {
            name: full,
            what,
            nearest,
            origin,
        };
        self.push(name, Line::Problem(problem));
    }

    fn origin(&self, name: &Spanned<DeString<'_>>) -> Origin {
        Origin::File {
            path: Arc::clone(self.path),
            line: self.lines.number(name.span().start),
        }
    }

    fn push(&mut self, name: &Spanned<DeString<'_>>, line: Line) {
        let start = name.span().start;
        if !self.broken.contains(&self.lines.number(start)) {
            self.found.push(start, line);
        }
    }
}

/// What somebody may have meant by a name that no setting of the section has: one that is near, one of another section,
/// or one written as the published agent writes it (`api_key`).
fn meant(section: Option<&str>, name: &str) -> Option<String> {
    let here = Key::ALL
        .into_iter()
        .filter(|key| section == Some(key.section()));
    if let Some(name) = nearest(name, here.map(Key::name)) {
        return section.map(|section| format!("{section}.{name}"));
    }
    let elsewhere = Key::ALL.into_iter().find(|key| {
        key.name() == name
            || Key::named(key.section(), name) == Some(*key)
            || format!("{}_{}", key.section(), key.name()) == name
    });
    if let Some(key) = elsewhere {
        return Some(key.to_string());
    }
    let names: Vec<String> = Key::ALL.iter().map(ToString::to_string).collect();
    let full = match section {
        Some(section) => format!("{section}.{name}"),
        None => name.to_owned(),
    };
    let by_path = nearest(&full, names.iter().map(String::as_str));
    by_path.map(str::to_owned).or_else(|| {
        let near = nearest(name, Key::ALL.into_iter().map(Key::name))?;
        let key = Key::ALL.into_iter().find(|key| key.name() == near)?;
        Some(key.to_string())
    })
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.as_ref().to_owned()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Given::Huge, Given::Integer),
        DeValue::Float(_) => Given::Fraction,
        DeValue::Boolean(on) => Given::Switch(*on),
        DeValue::Datetime(_) => Given::Date,
        DeValue::Array(entries) => {
            Given::List(entries.iter().map(|entry| given(entry.get_ref())).collect())
        }
        DeValue::Table(_) => Given::Table,
    }
}
