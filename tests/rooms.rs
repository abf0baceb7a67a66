//! The house keeps its rooms apart: imports point left, the pure rooms stay pure, and nobody reaches past a room's door.
//!
//! Reads the sources as text, without comments and literals, and names every offending line. What the compiler already
//! refuses (private items) is left to it.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that fails loudly is what is wanted here"
)]
#![expect(
    clippy::panic,
    reason = "a test that fails loudly is what is wanted here"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// The rooms in the order in which packets, then incidents, pass through them. A room may import those before it.
const ORDER: [&str; 19] = [
    "clock",
    "words",
    "capture",
    "classify",
    "count",
    "detect",
    "incident",
    "engine",
    "evidence",
    "indicators",
    "ledger",
    "uplink",
    "respond",
    "live",
    "local",
    "demo",
    "config",
    "agent",
    "cli",
];

/// The rooms whose output depends on nothing but their input.
const PURE: [&str; 6] = [
    "classify",
    "count",
    "detect",
    "incident",
    "indicators",
    "engine",
];

/// The roots of the crate: the library's map and the thin binary.
const ROOTS: [&str; 2] = ["lib", "main"];

/// Who may import rooms that are not for everybody on their right.
const GUESTS: [(&str, &[&str]); 2] = [
    ("config", &["agent", "cli", "main"]),
    ("agent", &["cli", "main"]),
];

/// What the tests of a room may name on its right: the uplink's live through days with the platform of the demonstration,
/// which is the strictest there is, and in a time that only the room itself can move.
const TESTED_WITH: [(&str, &str); 1] = [("uplink", "demo")];

/// Public modules of a room that are not for everybody, and who may name them.
const BACK_DOORS: [(&[&str], &[&str]); 3] = [
    (&["capture", "live"], &["config", "agent", "cli", "main"]),
    (&["capture", "nic"], &["config", "agent", "cli", "main"]),
    (&["capture", "replay"], &["config", "agent", "cli", "main"]),
];

/// What the engine may know of frames: nothing. It sees the interface counters that are judged with the windows.
const ENGINE_MAY_SEE_OF_CAPTURE: [&str; 2] = ["capture", "counter"];

/// Crates that have no business in a pure room.
const FORBIDDEN_CRATES: [&str; 6] = ["tokio", "pcap", "reqwest", "log", "rand", "getrandom"];

/// Names that have none, wherever they come from.
const FORBIDDEN_NAMES: [&str; 10] = [
    "RandomState",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
];

/// Parts of the standard library that have none.
const FORBIDDEN_STD: [&str; 5] = ["fs", "thread", "env", "process", "os"];

/// Functions of our own that ask what time it is.
const FORBIDDEN_PATHS: [&[&str]; 2] = [&["clock", "now"], &["clock", "monotonic"]];

#[test]
fn the_house_keeps_its_rooms_apart() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &source, &mut files);
    let house = House::survey(&files);
    let violations: Vec<String> = house.inspect().iter().map(ToString::to_string).collect();
    assert!(files.len() > 5, "found only {} source files", files.len());
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Every Rust file under `folder`, by its path from `source`, sorted.
fn collect(source: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(source, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = path
                .strip_prefix(source)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.push((name, text));
        }
    }
}

/// A line that breaks a rule.
#[derive(Debug, PartialEq)]
struct Violation {
    file: String,
    line: usize,
    text: String,
    problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "src/{}:{}: {}: `{}`",
            self.file, self.line, self.problem, self.text
        )
    }
}

/// A source file taken apart.
struct File {
    name: String,
    text: String,
    /// Where it stands in the crate: `capture/replay/pcap.rs` is `capture`, `replay`, `pcap`.
    module: Vec<String>,
    tokens: Vec<Token>,
    /// Tokens that are compiled for tests only.
    test_only: Vec<Range<usize>>,
}

impl File {
    fn new(name: &str, text: &str) -> Self {
        let mut module: Vec<String> = name
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let tokens = tokenise(text);
        let test_only = test_items(&tokens);
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            module,
            tokens,
            test_only,
        }
    }

    fn room(&self) -> &str {
        &self.module[0]
    }

    fn violation(&self, line: usize, problem: String) -> Violation {
        let text = self
            .text
            .lines()
            .nth(line - 1)
            .unwrap_or_default()
            .trim()
            .to_owned();
        Violation {
            file: self.name.clone(),
            line,
            text,
            problem,
        }
    }

    /// Modules declared here: name, whether everybody may see them, whether they are for tests only.
    fn modules(&self) -> Vec<(String, bool, bool)> {
        let mut modules = Vec::new();
        for (at, window) in self.tokens.windows(3).enumerate() {
            if window[0].text == "mod" && window[2].text == ";" {
                let public = at > 0 && self.tokens[at - 1].text == "pub";
                let test_only = self.test_only.iter().any(|range| range.contains(&at));
                modules.push((window[1].text.clone(), public, test_only));
            }
        }
        modules
    }
}

/// All source files, and what their modules are.
struct House {
    files: Vec<File>,
    /// Files below a room's own, by room and name, and whether the room exports them.
    submodules: BTreeMap<(String, String), bool>,
    /// Modules that exist for tests only.
    test_modules: BTreeSet<Vec<String>>,
}

impl House {
    fn survey(files: &[(String, String)]) -> Self {
        let files: Vec<File> = files
            .iter()
            .map(|(name, text)| File::new(name, text))
            .collect();
        let mut submodules = BTreeMap::new();
        let mut test_modules = BTreeSet::new();
        for file in &files {
            for (name, public, test_only) in file.modules() {
                let room_itself = file.module.len() == 1 && !ROOTS.contains(&file.room());
                if room_itself {
                    submodules.insert((file.room().to_owned(), name.clone()), public);
                }
                if test_only {
                    test_modules.insert(file.module.iter().cloned().chain([name]).collect());
                }
            }
        }
        Self {
            files,
            submodules,
            test_modules,
        }
    }

    fn inspect(&self) -> Vec<Violation> {
        self.files
            .iter()
            .flat_map(|file| self.inspect_file(file))
            .collect()
    }

    fn inspect_file(&self, file: &File) -> Vec<Violation> {
        let room = file.room();
        if !ORDER.contains(&room) && !ROOTS.contains(&room) {
            return vec![file.violation(
                1,
                format!("{room} is no room of the house; give it its place in the order"),
            )];
        }
        let all_test = self
            .test_modules
            .iter()
            .any(|module| file.module.starts_with(module));
        let mut violations = Vec::new();
        for path in paths(file) {
            let tested = all_test
                || file
                    .test_only
                    .iter()
                    .any(|range| range.contains(&path.token));
            let target = path.segments.first().map_or("", String::as_str);
            if tested && path.root == PathRoot::Ours && TESTED_WITH.contains(&(room, target)) {
                continue;
            }
            let problem = self.misplaced_import(room, &path).or_else(|| {
                if tested || !PURE.contains(&room) {
                    None
                } else {
                    impurity(room, &path)
                }
            });
            if let Some(problem) = problem {
                violations.push(file.violation(path.line, problem));
                violations.dedup();
            }
        }
        violations
    }

    /// What is wrong with `room` naming `path`, if it is a path of ours.
    fn misplaced_import(&self, room: &str, path: &Named) -> Option<String> {
        let PathRoot::Ours = path.root else {
            return None;
        };
        let target = path.segments.first()?.as_str();
        if target == room || room == "lib" {
            return None;
        }
        // Macros and re-exports of the crate's root are nobody's room.
        let target_rank = ORDER.iter().position(|name| *name == target)?;
        let room_rank = ORDER
            .iter()
            .position(|name| *name == room)
            .unwrap_or(ORDER.len());
        let guests = GUESTS
            .iter()
            .find(|(name, _)| *name == target)
            .map(|(_, guests)| *guests);
        if let Some(guests) = guests.filter(|guests| !guests.contains(&room)) {
            return Some(format!(
                "{room} may not import {target}, only {} may",
                guests.join(", ")
            ));
        }
        if target_rank > room_rank {
            return Some(format!(
                "{room} may not import {target}, which is to its right"
            ));
        }
        if room == "engine"
            && target == "capture"
            && !starts_with(&path.segments, &ENGINE_MAY_SEE_OF_CAPTURE)
        {
            return Some("engine may import nothing of capture but its counter".to_owned());
        }
        let submodule = path.segments.get(1)?;
        if self.submodules.get(&(target.to_owned(), submodule.clone())) == Some(&false) {
            return Some(format!("{target}::{submodule} is not exported by its room"));
        }
        let (_, guests) = BACK_DOORS
            .iter()
            .find(|(door, _)| starts_with(&path.segments, door))?;
        if guests.contains(&room) {
            return None;
        }
        Some(format!(
            "{room} may not import {target}::{submodule}, only {} may",
            guests.join(", ")
        ))
    }
}

/// What is wrong with a pure room naming `path`.
fn impurity(room: &str, path: &Named) -> Option<String> {
    let segments = &path.segments;
    let first = segments.first()?.as_str();
    let foreign = matches!(path.root, PathRoot::Foreign);
    let forbidden = if foreign && (first == "std" || first == "core") {
        segments
            .get(1)
            .filter(|second| FORBIDDEN_STD.contains(&second.as_str()))
            .map(|second| format!("{first}::{second}"))
    } else if foreign && segments.len() > 1 && FORBIDDEN_CRATES.contains(&first) {
        Some(first.to_owned())
    } else {
        None
    };
    let forbidden = forbidden
        .or_else(|| {
            segments
                .iter()
                .find(|name| FORBIDDEN_NAMES.contains(&name.as_str()))
                .cloned()
        })
        .or_else(|| {
            FORBIDDEN_PATHS
                .iter()
                .find(|forbidden| starts_with(segments, forbidden))
                .map(|path| path.join("::"))
        });
    forbidden.map(|what| format!("{room} is a pure room and may not mention {what}"))
}

fn starts_with(segments: &[String], prefix: &[&str]) -> bool {
    segments.len() >= prefix.len()
        && segments
            .iter()
            .zip(prefix)
            .all(|(segment, wanted)| segment == wanted)
}

/// A path as it stands in the source, its groups multiplied out and its `super`s resolved.
#[derive(Debug)]
struct Named {
    root: PathRoot,
    segments: Vec<String>,
    line: usize,
    token: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathRoot {
    /// From the root of this crate.
    Ours,
    /// From a name in scope: another crate, or something imported above.
    Foreign,
}

/// Every path in `file`; a lone name is a path too.
fn paths(file: &File) -> Vec<Named> {
    let tokens = &file.tokens;
    let mut found = Vec::new();
    let mut inline_modules = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline_modules.push((depth, tokens[at - 1].text.clone()));
                }
            }
            "}" => {
                inline_modules.retain(|(opened, _)| *opened < depth);
                depth = depth.saturating_sub(1);
            }
            _ if tokens[at].is_word()
                && (at == 0 || !matches!(tokens[at - 1].text.as_str(), "." | "mod" | "fn")) =>
            {
                let mut module = file.module.clone();
                if ROOTS.contains(&file.room()) {
                    module.clear();
                }
                module.extend(inline_modules.iter().map(|(_, name)| name.clone()));
                at = path_tree(tokens, at, &mut Vec::new(), &mut |segments, line, token| {
                    found.extend(resolve(&module, segments, line, token));
                });
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads a path with its groups from token `at` on, tells each path in it, and returns the token behind it.
fn path_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    tell: &mut impl FnMut(&[String], usize, usize),
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let own = prefix.len();
    let begun = at;
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = if text(at) == "," {
                    at + 1
                } else {
                    path_tree(tokens, at, prefix, tell)
                };
            }
            prefix.truncate(own);
            return at + 1;
        }
        if text(at) != "*" {
            prefix.push(text(at).to_owned());
        }
        at += 1;
        let goes_on = text(at) == "::"
            && (tokens.get(at + 1).is_some_and(Token::is_word)
                || matches!(text(at + 1), "{" | "*"));
        if !goes_on {
            break;
        }
        at += 1;
    }
    tell(prefix, tokens[begun].line, begun);
    prefix.truncate(own);
    // The new name of an import is no path.
    if text(at) == "as" { at + 2 } else { at }
}

/// The path from the crate's root if it is one of ours, otherwise as it stands. `module` is where it stands.
fn resolve(module: &[String], segments: &[String], line: usize, token: usize) -> Option<Named> {
    let rest = |from: usize| segments.get(from..).unwrap_or_default().to_vec();
    let (root, segments) = match segments.first()?.as_str() {
        "crate" | "ftagent" => (PathRoot::Ours, rest(1)),
        "self" => (PathRoot::Ours, [module.to_vec(), rest(1)].concat()),
        "super" => {
            let up = segments
                .iter()
                .take_while(|segment| *segment == "super")
                .count();
            let base = module
                .get(..module.len().saturating_sub(up))
                .unwrap_or_default()
                .to_vec();
            (PathRoot::Ours, [base, rest(up)].concat())
        }
        _ => (PathRoot::Foreign, rest(0)),
    };
    Some(Named {
        root,
        segments,
        line,
        token,
    })
}

/// The items under `#[cfg(test)]`, as ranges of tokens.
fn test_items(tokens: &[Token]) -> Vec<Range<usize>> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut items = Vec::new();
    for (start, window) in tokens.windows(ATTRIBUTE.len()).enumerate() {
        if window
            .iter()
            .zip(ATTRIBUTE)
            .all(|(token, wanted)| token.text == wanted)
        {
            items.push(start..end_of_item(tokens, start + ATTRIBUTE.len()));
        }
    }
    items
}

/// Behind the first `;` outside all brackets, or behind the `}` that closes the first `{`.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" if depth <= 1 => return at + 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// A word, `::`, or one other character.
#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c == '_' || c.is_alphabetic())
    }
}

/// Takes Rust apart as far as needed here: comments, numbers, lifetimes, and what stands in literals fall away.
fn tokenise(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut tokens = Vec::new();
    let (mut index, mut line) = (0, 1);
    while index < chars.len() {
        let begun = index;
        match (at(index), at(index + 1)) {
            ('/', '/') => {
                while index < chars.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            ('/', '*') => index = end_of_comment(&chars, index),
            ('"', _) => index = end_of_string(&chars, index),
            ('\'', '\\') => {
                // The escaped character may be a quote itself.
                index += 3;
                while index < chars.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            ('\'', _) if at(index + 2) == '\'' => index += 3,
            ('\'', _) => {
                index += 1;
                while is_word(at(index)) {
                    index += 1;
                }
            }
            (':', ':') => {
                tokens.push(Token {
                    text: "::".to_owned(),
                    line,
                });
                index += 2;
            }
            (c, _) if c.is_ascii_digit() => {
                while is_word(at(index)) {
                    index += 1;
                }
            }
            (c, _) if is_word(c) => {
                while is_word(at(index)) {
                    index += 1;
                }
                let word: String = chars[begun..index].iter().collect();
                match (word.as_str(), at(index)) {
                    ("r" | "br" | "cr", '"' | '#') if raw_string_begins(&chars, index) => {
                        index = end_of_raw_string(&chars, index);
                    }
                    ("b" | "c", '"' | '\'') => {}
                    // A raw identifier is the identifier.
                    ("r", '#') => index += 1,
                    _ => tokens.push(Token { text: word, line }),
                }
            }
            (c, _) => {
                if !c.is_whitespace() {
                    tokens.push(Token {
                        text: c.to_string(),
                        line,
                    });
                }
                index += 1;
            }
        }
        line += chars[begun..index.min(chars.len())]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    tokens
}

fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut index, mut depth) = (start, 0_usize);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (index, depth) = (index + 2, depth + 1),
            ('*', Some('/')) if depth == 1 => return index + 2,
            ('*', Some('/')) => (index, depth) = (index + 2, depth - 1),
            _ => index += 1,
        }
    }
    index
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    index
}

fn raw_string_begins(chars: &[char], hashes_at: usize) -> bool {
    chars[hashes_at..].iter().find(|c| **c != '#') == Some(&'"')
}

fn end_of_raw_string(chars: &[char], hashes_at: usize) -> usize {
    let hashes = chars[hashes_at..].iter().take_while(|c| **c == '#').count();
    let mut index = hashes_at + hashes + 1;
    while index < chars.len() {
        let closing = chars[index + 1..]
            .iter()
            .take(hashes)
            .filter(|c| **c == '#')
            .count();
        if chars[index] == '"' && closing == hashes {
            return index + 1 + hashes;
        }
        index += 1;
    }
    index
}

mod the_rules {
    use super::*;

    /// What is wrong in a house of which only `file` has this content.
    fn inspect(file: &str, text: &str) -> Vec<String> {
        let files: Vec<(String, String)> = [
            ("capture/mod.rs", "pub mod counter; pub mod live; pub mod nic; pub mod replay;"),
            ("classify/mod.rs", "mod decode; pub(crate) mod payload; pub use decode::Classifier; pub mod tcp_flag {}"),
            (file, text),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
        House::survey(&files)
            .inspect()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn clean(file: &str, text: &str) {
        assert_eq!(inspect(file, text), Vec::<String>::new(), "{text}");
    }

    fn caught(file: &str, text: &str, expected: &str) {
        assert_eq!(inspect(file, text), [expected], "{text}");
    }

    #[test]
    fn imports_to_the_left_are_clean() {
        clean(
            "count/meter.rs",
            "use crate::classify::{Sample, TrafficClass};\nuse crate::clock::Timestamp;",
        );
        clean(
            "engine.rs",
            "use crate::capture::counter::NicReading;\nuse crate::{count::Window, detect::Detector};",
        );
        clean(
            "agent.rs",
            "use crate::capture::replay::CaptureReader;\nuse crate::config::Config;",
        );
        clean("main.rs", "fn main() { ftagent::cli::run() }");
        clean(
            "lib.rs",
            "pub mod agent; pub mod capture; pub use crate::agent::Agent;",
        );
    }

    #[test]
    fn an_import_to_the_right_is_caught_with_its_line() {
        caught(
            "count/meter.rs",
            "//! Header.\n\nuse crate::detect::Verdict;\n",
            "src/count/meter.rs:3: count may not import detect, which is to its right: `use crate::detect::Verdict;`",
        );
    }

    #[test]
    fn an_import_in_a_group_is_caught_on_its_own_line() {
        caught(
            "capture/live.rs",
            "use crate::{\n    clock,\n    engine::{self, Engine as E},\n};",
            "src/capture/live.rs:3: capture may not import engine, which is to its right: `engine::{self, Engine as E},`",
        );
    }

    #[test]
    fn a_path_without_an_import_is_caught() {
        caught(
            "clock.rs",
            "fn f() -> u64 { crate::count::WINDOW_NANOS }",
            "src/clock.rs:1: clock may not import count, which is to its right: \
             `fn f() -> u64 { crate::count::WINDOW_NANOS }`",
        );
    }

    #[test]
    fn a_path_through_super_is_caught_where_it_leaves_the_room() {
        clean(
            "count/meter.rs",
            "use super::detect; mod tests { use super::super::detect::X; }",
        );
        caught(
            "count/meter.rs",
            "use super::super::detect::X;",
            "src/count/meter.rs:1: count may not import detect, which is to its right: `use super::super::detect::X;`",
        );
        caught(
            "count/mod.rs",
            "fn f() {}\nmod tests {\n    use super::super::detect::X;\n}",
            "src/count/mod.rs:3: count may not import detect, which is to its right: `use super::super::detect::X;`",
        );
    }

    #[test]
    fn comments_and_literals_are_not_imports() {
        clean(
            "count/mod.rs",
            "//! See [`Engine`](crate::engine::Engine).\n/* std::fs /* nested */ crate::agent */\n\
             const A: &str = \"crate::engine \\\" std::fs\"; const B: &str = r#\"\" crate::agent \"#;\n\
             const C: char = '\"'; const D: char = '\\''; fn f<'a>(x: &'a str) -> &'a str { x }",
        );
    }

    #[test]
    fn code_behind_literals_is_looked_at() {
        caught(
            "count/mod.rs",
            "const C: char = '\"';\nconst B: &[u8] = br##\"\"# \"##;\nconst D: [char; 2] = ['\\'', '{'];\nuse std::fs;",
            "src/count/mod.rs:4: count is a pure room and may not mention std::fs: `use std::fs;`",
        );
    }

    #[test]
    fn the_engine_sees_only_the_counters_of_capture() {
        caught(
            "engine.rs",
            "use crate::capture::Frame;",
            "src/engine.rs:1: engine may import nothing of capture but its counter: `use crate::capture::Frame;`",
        );
    }

    #[test]
    fn only_the_agent_and_the_command_line_import_config() {
        clean("cli/run.rs", "use crate::config::Config;");
        for (file, room) in [
            ("capture/live.rs", "capture"),
            ("demo/mod.rs", "demo"),
            ("local/mod.rs", "local"),
        ] {
            caught(
                file,
                "use crate::config::Config;",
                &format!(
                    "src/{file}:1: {room} may not import config, only agent, cli, main may: `use crate::config::Config;`"
                ),
            );
        }
    }

    #[test]
    fn only_the_command_line_sees_the_agent() {
        clean("cli/run.rs", "use crate::agent::Agent;");
        caught(
            "config.rs",
            "use crate::agent::Agent;",
            "src/config.rs:1: config may not import agent, only cli, main may: `use crate::agent::Agent;`",
        );
    }

    #[test]
    fn a_module_that_its_room_does_not_export_is_caught() {
        clean("count/meter.rs", "use crate::classify::tcp_flag;");
        clean(
            "classify/payload.rs",
            "use super::decode::Layer;\nuse crate::classify::decode::Link;",
        );
        caught(
            "count/meter.rs",
            "use crate::classify::payload::Content;",
            "src/count/meter.rs:1: classify::payload is not exported by its room: \
             `use crate::classify::payload::Content;`",
        );
    }

    #[test]
    fn only_the_edges_name_the_packet_sources() {
        clean(
            "cli/replay.rs",
            "use crate::capture::replay::CaptureReader;",
        );
        clean("detect/mod.rs", "use crate::capture::counter::NicReading;");
        caught(
            "count/meter.rs",
            "use crate::capture::live::Live;",
            "src/count/meter.rs:1: count may not import capture::live, only config, agent, cli, main may: \
             `use crate::capture::live::Live;`",
        );
    }

    #[test]
    fn everything_a_pure_room_must_not_mention_is_caught() {
        for (text, what) in [
            ("use std::time::Instant;", "Instant"),
            ("fn f(now: std::time::SystemTime) {}", "SystemTime"),
            ("use std::time::{Duration, UNIX_EPOCH};", "UNIX_EPOCH"),
            ("use std::fs::File;", "std::fs"),
            ("use std::{fmt, fs};", "std::fs"),
            ("fn f() { std::thread::yield_now() }", "std::thread"),
            ("fn f() { std::env::args(); }", "std::env"),
            ("use std::net::{IpAddr, UdpSocket};", "UdpSocket"),
            ("use std::net::TcpStream;", "TcpStream"),
            ("async fn f() { tokio::task::yield_now().await }", "tokio"),
            ("use pcap::Device;", "pcap"),
            ("use reqwest::Client;", "reqwest"),
            ("fn f() { log::warn!(\"x\") }", "log"),
            ("use rand::Rng;", "rand"),
            ("use std::hash::RandomState;", "RandomState"),
            ("fn f() { crate::clock::now(); }", "clock::now"),
            (
                "use crate::clock; fn f() { clock::monotonic(); }",
                "clock::monotonic",
            ),
        ] {
            for room in PURE {
                let file = format!("{room}/mod.rs");
                // A second file of that name would hide the first.
                let file = if room == "classify" {
                    "classify/decode.rs".to_owned()
                } else {
                    file
                };
                let expected = format!(
                    "src/{file}:1: {room} is a pure room and may not mention {what}: `{text}`"
                );
                caught(&file, text, &expected);
            }
            clean("agent.rs", text);
        }
    }

    #[test]
    fn values_and_words_that_only_look_alike_are_clean() {
        clean(
            "count/mod.rs",
            "use std::net::{IpAddr, Ipv4Addr};\nuse std::time::Duration;\n\
             fn f(x: f64, log: f64) -> f64 { x.log(2.0) + self.env.fs + log }\nuse crate::clock::Timestamp;",
        );
    }

    #[test]
    fn tests_of_a_pure_room_may_use_what_the_room_may_not() {
        clean(
            "count/mod.rs",
            "#[cfg(test)]\nmod tests { use std::fs; fn f() { std::env::temp_dir(); } }",
        );
        clean("count/mod.rs", "#[cfg(test)]\nuse std::fs;");
        clean(
            "count/mod.rs",
            "#[cfg(test)]\nfn f(x: [u8; 4]) -> [u8; 2] { std::env::temp_dir() }",
        );
        caught(
            "count/mod.rs",
            "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::thread;",
            "src/count/mod.rs:3: count is a pure room and may not mention std::thread: `use std::thread;`",
        );
        let files = [
            (
                "count/mod.rs".to_owned(),
                "#[cfg(test)]\nmod tests;".to_owned(),
            ),
            ("count/tests.rs".to_owned(), "use std::fs;".to_owned()),
        ];
        assert!(House::survey(&files).inspect().is_empty());
    }

    #[test]
    fn a_file_without_a_room_is_caught() {
        let expected = "src/helpers.rs:1: helpers is no room of the house; give it its place in the order: `fn f() {}`";
        caught("helpers.rs", "fn f() {}", expected);
    }
}
