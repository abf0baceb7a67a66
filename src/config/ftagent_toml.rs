//! Our own file: TOML, in sections.
//!
//! Text in, lines out: settings, and what is no setting. Every mistake in a file is told, not only the first. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::key::Key;
use super::lines::{Found, Line, Lines, MISTAKES_MAX, name_shown};
use super::near::nearest;
use super::origin::Origin;
use super::problem::Problem;
use super::value::Given;

/// What the file at `path` says.
pub(super) fn read(text: &str, path: &Arc<PathBuf>) -> Found {
    let lines = Lines::of(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    // One mistake often makes several errors: the first on a line is the one to look at. Of the parser's message only
    // what it says: the text that it would quote may hold a key.
    let mut broken: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    for error in errors {
        let start = error.span().map_or(0, |span| span.start);
        broken.entry(lines.number(start)).or_insert_with(|| {
            let plainly = plain_reason(text, start).map(str::to_owned);
            (start, plainly.unwrap_or_else(|| error.message().to_owned()))
        });
    }
    let is_broken = !broken.is_empty();
    let mut items = Vec::new();
    for (name, value) in root.get_ref() {
        let start = name.span().start;
        sort_out(name.get_ref(), start, value.get_ref(), &mut items);
    }
    let meaningless = meaningless(text, &broken);
    items.retain(|(start, _)| !meaningless.contains(&lines.number(*start)));
    items.extend(
        broken
            .into_values()
            .map(|(start, reason)| (start, Item::Mistake(Mistake::NoToml(reason)))),
    );
    items.sort_by_key(|(start, _)| *start);
    told(items, &lines, path, is_broken)
}

/// Lines of which whatever the parser made of them means nothing: those that are no TOML, and the settings under the name
/// of a section that is none.
fn meaningless(text: &str, broken: &BTreeMap<usize, (usize, String)>) -> BTreeSet<usize> {
    let mut lost = false;
    let numbered = text
        .split('\n')
        .enumerate()
        .map(|(at, line)| (at + 1, line));
    numbered
        .filter_map(|(number, line)| {
            let is_broken = broken.contains_key(&number);
            if line.trim_start().starts_with('[') {
                lost = is_broken;
            }
            (is_broken || lost).then_some(number)
        })
        .collect()
}

/// What is wrong with the line around `start` in plain words, where it is one of the commonest mistakes. The parser takes
/// what begins with an `f`, as keys of the platform do, for the beginning of `false`, and would say so.
fn plain_reason(text: &str, start: usize) -> Option<&'static str> {
    let begin = text.get(..start)?.rfind('\n').map_or(0, |end| end + 1);
    let (name, value) = text.get(begin..)?.lines().next()?.split_once('=')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = name.trim();
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let value = value.trim();
    match value.chars().next() {
        None | Some('#') => Some("there is no value behind ="),
        Some(first) if first.is_alphabetic() || first == '/' => {
            let is_word = |word: &str| value.eq_ignore_ascii_case(word);
            Some(if is_word("true") || is_word("false") {
                "true and false are written in small letters"
            } else {
                "a text must stand in quotes"
            })
        }
        Some(_) => None,
    }
}

/// What stands at one place of a file.
enum Item<'a> {
    Setting(Key, &'a DeValue<'a>),
    Mistake(Mistake<'a>),
}

/// What is no setting.
enum Mistake<'a> {
    /// The same setting under its other name.
    Twice(Key),
    /// A token that belongs elsewhere.
    NotHere(Key),
    /// A section's name with something else behind it.
    NoSection(&'a str, &'a DeValue<'a>),
    UnknownSection(&'a str),
    /// In a section, or before all sections.
    UnknownSetting(Option<&'a str>, &'a str),
    NoToml(String),
}

/// Says of everything under one name of the top level what it is, and where it begins.
fn sort_out<'a>(
    section: &'a str,
    start: usize,
    value: &'a DeValue<'a>,
    items: &mut Vec<(usize, Item<'a>)>,
) {
    let mistake = match value {
        DeValue::Table(settings) if Key::is_section(section) => {
            return sort_out_section(section, settings, items);
        }
        DeValue::Table(_) => Mistake::UnknownSection(section),
        other if Key::is_section(section) => Mistake::NoSection(section, other),
        _ => Mistake::UnknownSetting(None, section),
    };
    items.push((start, Item::Mistake(mistake)));
}

fn sort_out_section<'a>(
    section: &'a str,
    settings: &'a DeTable<'a>,
    items: &mut Vec<(usize, Item<'a>)>,
) {
    let mut interfaces_set = false;
    for (name, value) in settings {
        let plain: &str = name.get_ref();
        let item = match Key::named(section, plain) {
            None => Item::Mistake(Mistake::UnknownSetting(Some(section), plain)),
            Some(key) if !key.in_files() => Item::Mistake(Mistake::NotHere(key)),
            Some(Key::Interfaces) if std::mem::replace(&mut interfaces_set, true) => {
                Item::Mistake(Mistake::Twice(Key::Interfaces))
            }
            Some(key) => Item::Setting(key, value.get_ref()),
        };
        items.push((name.span().start, item));
    }
}

/// Items as lines, with the mistakes among them in words.
fn told(
    items: Vec<(usize, Item<'_>)>,
    lines: &Lines,
    path: &Arc<PathBuf>,
    is_broken: bool,
) -> Found {
    let mut found = Found {
        is_broken,
        ..Found::default()
    };
    let mut mistakes = 0;
    for (start, item) in items {
        let origin = Origin::File {
            path: Arc::clone(path),
            line: lines.number(start),
        };
        match item {
            Item::Setting(key, value) => {
                found.lines.push(Line::Setting(key, given(value), origin));
            }
            Item::Mistake(mistake) if mistakes < MISTAKES_MAX => {
                mistakes += 1;
                found.lines.push(Line::Problem(mistake.told(origin)));
            }
            Item::Mistake(_) => found.more += 1,
        }
    }
    found
}

impl Mistake<'_> {
    fn told(self, origin: Origin) -> Problem {
        match self {
            Self::Twice(key) => Problem::Misfit {
                name: key.to_string(),
                expected: "one of interface and interfaces".to_owned(),
                found: "both".to_owned(),
                origin,
            },
            Self::NotHere(key) => Problem::NotInFiles {
                key,
                variable: key.variables().join(" or "),
                origin,
            },
            Self::NoSection(section, value) => Problem::Misfit {
                name: section.to_owned(),
                expected: format!("a section, which begins with a line [{section}]"),
                found: given(value).description(),
                origin,
            },
            Self::UnknownSection(section) => Problem::Unknown {
                name: name_shown(section),
                what: "section",
                nearest: meant_section(section),
                origin,
            },
            Self::UnknownSetting(section, name) => Problem::Unknown {
                name: match section {
                    Some(section) => format!("{section}.{}", name_shown(name)),
                    None => name_shown(name),
                },
                what: "setting",
                nearest: meant_setting(section, name),
                origin,
            },
            Self::NoToml(reason) => Problem::Syntax {
                origin,
                format: "TOML",
                reason,
            },
        }
    }
}

/// The section somebody may have meant: one that is near, or cut short, or drawn out.
fn meant_section(name: &str) -> Option<String> {
    let sections = || Key::ALL.into_iter().map(Key::section);
    let related = |section: &&str| name.starts_with(section) || section.starts_with(name);
    nearest(name, sections())
        .or_else(|| sections().find(related).filter(|_| !name.is_empty()))
        .map(str::to_owned)
}

/// The setting somebody may have meant: one of that section that is near, one of that name elsewhere, or one written as
/// the published agent writes it (`api_key`).
fn meant_setting(section: Option<&str>, name: &str) -> Option<String> {
    let keys = || Key::ALL.into_iter().filter(|key| key.in_files());
    let here = keys().filter(|key| Some(key.section()) == section);
    if let Some(near) = nearest(name, here.map(Key::name)) {
        return section.map(|section| format!("{section}.{near}"));
    }
    let elsewhere = keys().find(|key| {
        Key::named(key.section(), name) == Some(*key)
            || format!("{}_{}", key.section(), key.name()) == name
    });
    let near = || {
        let near = nearest(name, keys().map(Key::name))?;
        keys().find(|key| key.name() == near)
    };
    elsewhere.or_else(near).map(|key| key.to_string())
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.as_ref().to_owned()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Given::Huge, Given::Integer),
        DeValue::Float(number) => {
            let plain = number.as_str().replace('_', "");
            // TOML's numbers are Rust's.
            Given::Fraction(plain.parse().unwrap_or(f64::NAN))
        }
        DeValue::Boolean(on) => Given::Switch(*on),
        DeValue::Datetime(_) => Given::Date,
        DeValue::Array(entries) => {
            Given::List(entries.iter().map(|entry| given(entry.get_ref())).collect())
        }
        DeValue::Table(_) => Given::Table,
    }
}
