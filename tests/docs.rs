//! Keeps the project's pages true: what they list is what there is, and what there is they list.
//!
//! Reads the pages as text and compares them with the sources, with the help of the binary, with its table of settings,
//! and with what the demonstration and replays of `tests/data` print. A page that is wrong fails with the words that are
//! missing or that nothing bears out.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ftagent::classify::{Service, TrafficClass, Undecodable};
use ftagent::config::{Key, Takes};
use ftagent::detect::{Family, Vector};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ftagent");

const PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "tests/data/README.md",
    "tests/golden/README.md",
    "fuzz/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(name: &str) -> String {
    read(&root().join(name))
}

fn pages() -> [(&'static str, String); PAGES.len()] {
    PAGES.map(|name| (name, page(name)))
}

/// Every Rust file of the crate, by its path from `src`.
fn sources() -> BTreeMap<String, String> {
    fn collect(base: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).expect("the sources can be listed") {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                collect(base, &path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(base).unwrap_or(&path);
                files.insert(name.to_string_lossy().into_owned(), read(&path));
            }
        }
    }
    let base = root().join("src");
    let mut files = BTreeMap::new();
    collect(&base, &base, &mut files);
    files
}

/// The same without what is compiled for tests only.
fn shipped_sources() -> BTreeMap<String, String> {
    /// How the tests under the code begin: nothing else stands behind them.
    const TESTS: &str = "#[cfg(test)]\nmod tests {";

    let mut sources = sources();
    let of_tests: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| {
            let folder = file.trim_end_matches("mod.rs").trim_end_matches(".rs");
            let folder = if file.ends_with("mod.rs") {
                folder.to_owned()
            } else {
                format!("{folder}/")
            };
            let modules = text.split("#[cfg(test)]\nmod ").skip(1);
            let modules = modules.filter_map(|module| module.split_once(';').map(|(name, _)| name));
            modules
                .filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
                .map(|name| format!("{folder}{name}.rs"))
                .collect::<Vec<_>>()
        })
        .collect();
    for file in of_tests {
        let removed = sources.remove(&file);
        assert!(removed.is_some(), "{file}: no such file");
    }
    for text in sources.values_mut() {
        let end = text.find(TESTS).unwrap_or(text.len());
        text.truncate(end);
    }
    sources
}

/// Says which words only one of the two sides has.
#[track_caller]
fn assert_same(page: &BTreeSet<String>, truth: &BTreeSet<String>, what: &str) {
    let missing: Vec<_> = truth.difference(page).collect();
    let invented: Vec<_> = page.difference(truth).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{what}: not on the page: {missing:?}; on the page and not true: {invented:?}"
    );
}

/// A page's lines, each with whether it stands in a code block.
fn lines(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut code = false;
    text.lines().map(move |line| {
        let fence = line.starts_with("```");
        code ^= fence;
        (line, code || fence)
    })
}

/// How deep a heading is; 0 for any other line.
fn depth(line: &str) -> usize {
    let hashes = line.chars().take_while(|c| *c == '#').count();
    if line.chars().nth(hashes) == Some(' ') {
        hashes
    } else {
        0
    }
}

/// What stands under the heading that begins with `heading`, down to the next one of its depth. Deeper sections belong
/// to it.
fn section(text: &str, heading: &str) -> String {
    let mut found = lines(text)
        .skip_while(|(line, code)| *code || !line.starts_with(heading))
        .peekable();
    assert!(found.peek().is_some(), "no heading {heading:?}");
    let own = depth(heading);
    found
        .skip(1)
        .take_while(|(line, code)| *code || depth(line) == 0 || depth(line) > own)
        .map(|(line, _)| format!("{line}\n"))
        .collect()
}

/// The cells of every table row, headers left out.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        if line.starts_with("|---") {
            // The row before was the header.
            rows.pop();
            continue;
        }
        let cells = line.trim_matches('|').split('|');
        rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
    }
    rows
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The first cell of every row, without its backticks.
fn first_cells(text: &str) -> BTreeSet<String> {
    rows(text)
        .iter()
        .filter_map(|cells| cells.first())
        .flat_map(|cell| quoted(cell))
        .collect()
}

/// Every command, as it is called.
const COMMANDS: [&str; 6] = ["run", "replay", "status", "demo", "check", "config show"];

/// The commands that the help lists.
fn listed_commands() -> BTreeSet<String> {
    let help = told(&["--help"]);
    let (_, list) = help
        .split_once("Commands:\n")
        .expect("the help lists commands");
    list.lines()
        .take_while(|line| !line.is_empty())
        // What goes on from the line before stands further in.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(str::to_owned)
        .collect()
}

fn told(arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(arguments)
        .output()
        .expect("the program starts");
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// Words that begin with two dashes.
fn options(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.len() > 2 && word.starts_with("--") && !word.starts_with("---"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_list_of_rooms_is_the_list_of_files() {
    let rooms = section(&page("ARCHITECTURE.md"), "## 2. The rooms");
    let tree = lines(&rooms)
        .skip_while(|(line, _)| *line != "src/")
        .skip(1)
        .take_while(|(line, _)| !line.starts_with("```"));
    let mut folders: Vec<String> = Vec::new();
    let mut listed = BTreeSet::new();
    for (line, _) in tree {
        let name = line.split_whitespace().next().unwrap_or_default();
        let level = (line.len() - line.trim_start().len()) / 2 - 1;
        folders.truncate(level);
        let path = folders.concat() + name;
        if name.ends_with('/') {
            folders.push(name.to_owned());
            listed.insert(path + "mod.rs");
        } else {
            listed.insert(path);
        }
    }
    let files: BTreeSet<String> = sources().into_keys().collect();
    assert_same(&listed, &files, "the rooms in ARCHITECTURE.md");
}

#[test]
fn every_command_has_its_section() {
    let commands = COMMANDS.map(|command| command.split(' ').next().unwrap_or_default().to_owned());
    assert_same(&commands.into(), &listed_commands(), "the commands here");
    let readme = page("README.md");
    let headings = lines(&readme).filter(|(_, code)| !code);
    let sections: BTreeSet<String> = headings
        .filter_map(|(line, _)| line.strip_prefix("### ftagent "))
        .map(str::to_owned)
        .collect();
    let commands = COMMANDS.map(str::to_owned);
    assert_same(&sections, &commands.into(), "commands in README.md");
}

#[test]
fn every_option_is_in_its_table_and_the_reverse() {
    let readme = page("README.md");
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = options(&told(&words));
        assert!(help.contains("--help"), "{help:?}");
        let table = section(&readme, &format!("### ftagent {command}"));
        let listed = options(
            &first_cells(&table)
                .into_iter()
                .collect::<Vec<_>>()
                .join(" "),
        );
        assert_same(
            &listed,
            &help,
            &format!("options of {command} in README.md"),
        );
        let call = format!("ftagent {command} ");
        for (name, text) in pages() {
            for line in text.lines().filter(|line| line.contains(&call)) {
                let used = line.split(&call).skip(1).flat_map(options);
                let unknown: Vec<_> = used.filter(|option| !help.contains(option)).collect();
                assert!(unknown.is_empty(), "{name}: {unknown:?} in: {line}");
            }
        }
    }
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = page("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(": ## "))
        .map(|(target, _)| target)
        .collect();
    for (name, text) in pages() {
        let code = lines(&text).filter(|(_, code)| *code).map(|(line, _)| line);
        let code: Vec<String> = code.map(str::to_owned).chain(quoted(&text)).collect();
        for target in code.iter().filter_map(|line| line.strip_prefix("make ")) {
            let target = target.split_whitespace().next().unwrap_or_default();
            assert!(targets.contains(target), "{name}: make {target}");
        }
    }
}

/// The path of every value in an event; maps whose keys are names of things count as one value.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        // What calls carry is the contracts' matter.
        Value::Object(members) if !["classes", "undecodable", "body"].contains(&path) => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                fields(member, &format!("{path}{dot}{name}"), into);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                fields(entry, &format!("{path}[]"), into);
            }
            // Always empty, as long as nothing is wrong.
            if path == "violations" {
                into.insert(format!("{path}[]"));
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

/// The fields of each event, as the demonstration prints them, replays of all recorded captures, and one of a capture that
/// is cut.
fn printed_fields() -> BTreeMap<String, BTreeSet<String>> {
    let data = root().join("tests/data");
    let mut replays: Vec<(PathBuf, String, u64)> = read(&data.join("manifest.tsv"))
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [file, victim, _, _, peak_pps, ..] = columns.as_slice() else {
                panic!("a column is missing: {line}");
            };
            let peak_pps: u64 = peak_pps.parse().expect("peak_pps is a number");
            (data.join(file), (*victim).to_owned(), peak_pps)
        })
        .collect();
    let (whole, victim, peak_pps) = replays.first().expect("there are captures").clone();
    let mut bytes = fs::read(whole).expect("a capture can be read");
    bytes.pop();
    let cut = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs-cut.pcap");
    fs::write(&cut, bytes).expect("a file can be written where tests may");
    replays.push((cut, victim, peak_pps));

    let replays = replays.into_iter().map(|(file, victim, peak_pps)| {
        let file = file.to_string_lossy();
        let limit = (peak_pps / 3).max(20).to_string();
        let lines = told(&[
            "replay",
            &file,
            "--json",
            "--seconds",
            "--explain",
            "--host",
            &victim,
            "--threshold-pps",
            &limit,
        ]);
        assert!(!lines.is_empty(), "{file}: nothing printed");
        lines
    });
    let demonstration = told(&["demo", "--json", "--speed", "20"]);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for lines in replays.chain([demonstration]) {
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line).expect("each line is JSON");
            let name = event.get("event").and_then(Value::as_str);
            let name = name.expect("each line is an event").to_owned();
            fields(&event, "", found.entry(name).or_default());
        }
    }
    found
}

#[test]
fn every_field_that_is_printed_is_in_its_table_and_the_reverse() {
    let readme = page("README.md");
    let section = section(&readme, "## JSON lines");
    let mut printed = printed_fields();
    let headings = lines(&section).filter(|(line, code)| !code && line.starts_with("### Event"));
    for (heading, _) in headings {
        let mut truth = BTreeSet::new();
        for event in quoted(heading) {
            let fields = printed.remove(&event);
            truth.extend(fields.unwrap_or_else(|| panic!("nothing printed {event}")));
        }
        let listed = first_cells(&self::section(&section, heading));
        assert_same(&listed, &truth, heading);
    }
    assert!(
        printed.is_empty(),
        "events without a table: {:?}",
        printed.keys()
    );
}

#[test]
fn every_class_and_every_reason_is_named() {
    let readme = page("README.md");
    let second = section(&readme, "### Event `second`");
    let after = |word: &str| -> BTreeSet<String> {
        let paragraph = second
            .split("\n\n")
            .find(|paragraph| paragraph.starts_with(word));
        let names = paragraph.unwrap_or_else(|| panic!("no paragraph begins with {word:?}"));
        let names = names.split(". ").next().unwrap_or_default();
        quoted(names).into_iter().collect()
    };
    let classes = TrafficClass::ALL.map(|class| class.name().to_owned());
    assert_same(&after("Classes: "), &classes.into(), "classes in README.md");
    let reasons = Undecodable::ALL.map(|reason| reason.name().to_owned());
    assert_same(&after("Reasons: "), &reasons.into(), "reasons in README.md");
}

/// The subtypes that the sources give each family, services left out.
fn subtypes() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let vector = sources
        .get("detect/vector.rs")
        .expect("vectors have a file");
    let (_, body) = vector
        .split_once("fn subtype(")
        .expect("vectors have subtypes");
    let (body, _) = body.split_once("\n    }\n").expect("a function ends");
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for arm in body.split(",\n") {
        let Some((pattern, name)) = arm.split_once("=>") else {
            continue;
        };
        let Some(name) = name.split('"').nth(1) else {
            continue;
        };
        let is_in_pattern = |vector: &Vector| {
            let own = format!("Self::{vector:?}");
            pattern
                .split(|c: char| !(c.is_alphanumeric() || c == ':' || c == '_'))
                .any(|word| word == own)
        };
        for vector in Vector::all().filter(is_in_pattern) {
            let family = vector.family().name().to_owned();
            families.entry(family).or_default().insert(name.to_owned());
        }
    }
    families
}

#[test]
fn every_family_and_every_subtype_is_in_the_table() {
    let readme = page("README.md");
    let table = rows(&section(&readme, "## Families and subtypes"));
    let mut truth = subtypes();
    let known: usize = truth.values().map(BTreeSet::len).sum();
    assert!(known > 20, "only {known} subtypes found in the sources");
    let dns = Family::DnsFlood.name().to_owned();
    let dns_amplification = Service::Dns.amplification_name().to_owned();
    truth.entry(dns).or_default().insert(dns_amplification);
    let udp = truth.entry(Family::UdpFlood.name().to_owned()).or_default();
    udp.insert("SERVICE_amplification".to_owned());
    for service in Service::ALL {
        assert_eq!(
            service.amplification_name(),
            format!("{}_amplification", service.name())
        );
        if service != Service::Dns {
            udp.insert(service.name().to_owned());
        }
    }
    // Its subtypes are other families', joined.
    let several = Family::MultiVector.name().to_owned();
    truth.entry(several).or_default().insert("+".to_owned());

    let mut listed = BTreeSet::new();
    for cells in &table {
        let [family, subtypes] = cells.as_slice() else {
            panic!("two columns, not {cells:?}");
        };
        let family = family.trim_matches('`').to_owned();
        let page: BTreeSet<String> = quoted(subtypes).into_iter().collect();
        let truth = truth.remove(&family).unwrap_or_default();
        assert_same(&page, &truth, &format!("subtypes of {family}"));
        listed.insert(family);
    }
    let families = Family::ALL.map(|family| family.name().to_owned());
    assert_same(&listed, &families.into(), "families in README.md");
}

#[test]
fn every_thread_is_in_the_table() {
    let table = section(&page("ARCHITECTURE.md"), "## 6. Threads");
    let listed: BTreeSet<String> = first_cells(&table)
        .into_iter()
        .filter(|cell| cell.starts_with("ft-"))
        .map(|cell| cell.trim_end_matches('N').to_owned())
        .collect();
    let sources = shipped_sources();
    let mut truth = BTreeSet::new();
    for text in sources.values() {
        for name in text.split("\"ft-").skip(1) {
            let end = name.find(['"', '{']).unwrap_or(name.len());
            truth.insert(format!("ft-{}", name.get(..end).unwrap_or_default()));
        }
    }
    assert_same(&listed, &truth, "threads in ARCHITECTURE.md");
}

/// The texts of all `#[error("...")]` in a file.
fn error_texts(source: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for attribute in source.split("#[error(").skip(1) {
        let Some(literal) = attribute.trim_start().strip_prefix('"') else {
            continue;
        };
        let mut text = String::new();
        let mut rest = literal.chars().peekable();
        while let Some(c) = rest.next() {
            match (c, rest.peek()) {
                ('"', _) => break,
                ('\\', Some('\n')) => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                ('\\', _) => text.extend(rest.next()),
                _ => text.push(c),
            }
        }
        texts.push(text);
    }
    texts
}

/// Errors that operators never see, by their beginnings: the check of the configuration, which has words of its own for
/// the same mistakes, comes before.
const FORESTALLED: [&str; 4] = [
    "api.node_uuid: {found:?} cannot be a node UUID",
    "the API key is empty",
    "the API key has {0} characters",
    "the API key has a character",
];

#[test]
fn every_error_is_explained() {
    /// Enough of a text to know it by.
    const ENOUGH: usize = 24;

    let readme = page("README.md");
    let explained = section(&readme, "## What it says and what to do");
    let mut texts = 0;
    let mut forestalled = BTreeSet::from(FORESTALLED);
    for (file, source) in shipped_sources() {
        for text in error_texts(&source) {
            texts += 1;
            let mut beginnings = FORESTALLED.into_iter();
            let known = beginnings.find(|beginning| text.starts_with(beginning));
            if let Some(known) = known {
                forestalled.remove(known);
                continue;
            }
            // What stands between the values; the longest part says most.
            let fixed = text
                .split('{')
                .map(|part| part.split_once('}').map_or(part, |(_, behind)| behind));
            let longest = fixed.max_by_key(|part| part.len()).unwrap_or_default();
            let known_by: String = longest.chars().take(ENOUGH).collect();
            assert!(
                explained.contains(&known_by),
                "{file}: README.md does not say what to do about {text:?}"
            );
        }
    }
    assert!(texts > 10, "only {texts} errors found in the sources");
    assert!(forestalled.is_empty(), "no longer errors: {forestalled:?}");
}

#[test]
fn every_setting_is_in_its_table_with_its_default_and_its_variables() {
    let settings = section(&page("README.md"), "### Settings");
    let listed: BTreeSet<String> = rows(&settings)
        .iter()
        .map(|cells| cells.get(..4).unwrap_or_default().join(" | "))
        .collect();
    // A file in which every line is a comment, and nothing else: what is shown are the defaults.
    let file = root().join("packaging/ftagent.toml");
    let shown = Command::new(PROGRAM)
        .args(["config", "show", "--json", "--config"])
        .arg(file)
        .env_clear()
        .output()
        .expect("the program starts");
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("it prints one object");
    let shown = shown.get("settings").and_then(Value::as_array);
    let shown = shown.expect("it lists settings");
    let truth: BTreeSet<String> = Key::ALL
        .iter()
        .map(|key| {
            let setting = shown.iter().find(|setting| {
                setting.get("key").and_then(Value::as_str) == Some(&key.to_string())
            });
            let default = match setting.and_then(|setting| setting.get("value")) {
                Some(Value::Null) => key.unset().to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => panic!("{key} is not shown"),
            };
            let takes = match key.takes() {
                Takes::AtReload => "Reload",
                Takes::AtStart => "Start",
            };
            let variables: Vec<String> = key
                .variables()
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            format!("`{key}` | {default} | {takes} | {}", variables.join(", "))
        })
        .collect();
    assert_same(&listed, &truth, "settings in README.md");
}

#[test]
fn every_exit_code_is_in_its_table() {
    let sources = sources();
    let cli = sources
        .get("cli/mod.rs")
        .expect("the command line has a file");
    let (_, codes) = cli.split_once("enum Exit {").expect("there are exit codes");
    let (codes, _) = codes.split_once('}').expect("an enum ends");
    let truth: BTreeSet<String> = codes
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(_, code)| code.trim_end_matches(',').to_owned())
        .collect();
    assert!(truth.len() > 3, "found only {truth:?}");
    let table = section(&page("README.md"), "### Exit codes");
    let listed: BTreeSet<String> = rows(&table)
        .iter()
        .filter_map(|cells| cells.first().cloned())
        .collect();
    assert_same(&listed, &truth, "exit codes in README.md");
}

#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = page("CHANGELOG.md");
    let newest = changelog
        .lines()
        .find_map(|line| line.strip_prefix("## [")?.split_once("] - "));
    let readme = page("README.md");
    match newest {
        Some((newest, _)) => assert_eq!(newest, version),
        // Until there is a release, both pages say that there is none.
        None => {
            assert!(changelog.contains(&format!(
                "Nothing has been released yet. Version {version} will be the first."
            )));
            assert!(readme.contains("It is not released yet"));
        }
    }
    assert!(readme.contains(&format!("This is version {version}.")));
    assert_eq!(told(&["--version"]), format!("ftagent {version}\n"));
}

/// What a page's headings are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    lines(text)
        .filter(|(line, code)| !code && depth(line) > 0)
        .map(|(line, _)| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in pages() {
        let folder = root().join(name);
        let folder = folder.parent().unwrap_or(root());
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() {
                text.clone()
            } else {
                read(&folder.join(file))
            };
            assert!(
                anchor.is_empty() || anchors(&there).contains(anchor),
                "{name}: no heading for {target}"
            );
        }
    }
}

#[test]
fn paths_lead_into_the_repository_or_to_what_every_host_has() {
    /// Folders of the repository that pages name files in.
    const FOLDERS: [&str; 7] = [
        "src/",
        "tests/",
        "scripts/",
        "packaging/",
        "benches/",
        "fuzz/",
        ".ci/",
    ];
    /// What the pages may name outside of it.
    const OUTSIDE: [&str; 5] = [
        "/dev/",
        "/proc/",
        "/etc/ftagent/",
        "/var/lib/ftagent",
        "../shared",
    ];

    for (name, text) in pages() {
        let words = text.split(|c: char| c.is_whitespace() || "`\"'()<>|,;".contains(c));
        for word in words {
            let word = word.trim_end_matches(['.', ':']);
            let leads_out = word.contains("../")
                || word
                    .strip_prefix(['/', '~'])
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '/'));
            if leads_out {
                assert!(
                    OUTSIDE.iter().any(|allowed| word.starts_with(allowed)),
                    "{name} names {word}"
                );
            } else if FOLDERS.iter().any(|folder| word.starts_with(folder)) {
                assert!(root().join(word).exists(), "{name}: no {word}");
            }
        }
    }
}
