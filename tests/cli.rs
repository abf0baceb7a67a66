//! The command line as users meet it: one clear line for each error, the right exit code, and help that fits a screen.
//!
//! Runs the binary. Nothing here needs a network; what needs root says so and is skipped without it, unless
//! live tests are required (`CI` or `FTAGENT_REQUIRE_LIVE` is set).

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test panics when it cannot go on, and says what it could not check"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::agent::PROGRAM;
use common::manifest::recorded;
use common::needs::skip;
use common::process::{Finished, Scratch, finish};
use serde_json::Value;

/// Longer than any command here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A recorded SYN flood, its victim, and a limit that it crosses.
const HOST: &str = "10.99.0.2";
const LIMIT: [&str; 2] = ["--threshold-pps", "60"];

fn flood() -> PathBuf {
    let capture = recorded()
        .into_iter()
        .find(|capture| capture.file == "syn_flood.pcap");
    capture.expect("it is in the manifest").path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths here are plain")
}

fn run(arguments: &[&str]) -> Finished {
    finish(Command::new(PROGRAM).args(arguments), PATIENCE)
}

/// Runs a line of shell with `$1` the program and `$2` a file.
fn shell(line: &str, file: &Path) -> Finished {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", PROGRAM]).arg(file);
    finish(&mut command, PATIENCE)
}

/// Expects an exit code, one line on standard error, and nothing on standard output.
#[track_caller]
fn expect_refusal(arguments: &[&str], code: i32, message: &str) {
    let done = run(arguments);
    assert_eq!(
        done.stderr,
        format!("ftagent: {message}\n"),
        "{arguments:?}"
    );
    assert_eq!(done.stdout, "", "{arguments:?}");
    assert_eq!(done.code, Some(code), "{arguments:?}");
}

fn lines(json: &str) -> Vec<Value> {
    json.lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect()
}

fn interfaces() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .expect("the interfaces can be listed")
        .map(|entry| entry.expect("an entry can be read"))
        // Bonding keeps a plain file beside the links.
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("names are plain"))
        .collect();
    names.sort();
    names
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn an_interface_that_is_not_there_is_refused_with_those_that_are() {
    expect_refusal(
        &["run", "--local", "--interface", "nope0"],
        1,
        &format!(
            "interface nope0: no such interface; this host has: {}",
            interfaces().join(", ")
        ),
    );
}

#[test]
fn loopback_is_not_watched() {
    expect_refusal(
        &["run", "--local", "--interface", "lo"],
        1,
        "interface lo: is loopback, which carries only this host's own packets; watch the interface that they reach \
         other hosts by",
    );
}

#[test]
fn without_the_capability_it_says_how_to_get_it() {
    if !is_root() {
        skip("giving up capabilities needs root to have them");
        return;
    }
    let scratch = Scratch::new();
    let program = scratch.path().join("ftagent");
    fs::copy(PROGRAM, &program).expect("the program can be copied");
    // A namespace of our own has an interface to ask for, whatever this machine has.
    let line = "ip link add v0 type veth peer name v1 && ip link set v0 up && \
                exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \
                \"$1\" run --local --interface v0";
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c", line, "sh"])
        .arg(&program);
    let done = finish(&mut command, PATIENCE);
    assert_eq!(
        done.stderr,
        format!(
            "ftagent: interface v0: capturing packets needs the capability CAP_NET_RAW; start it with `systemctl start \
             ftagent`, as root, or after `setcap cap_net_raw+ep {}`\n",
            program.display()
        )
    );
    assert_eq!(done.code, Some(77));
}

#[test]
fn a_file_that_is_no_capture_is_named_for_what_it_is() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let prose = scratch.write("notes.pcap", "not packets but prose\n");
    let empty = scratch.write("empty.pcap", "");
    let packed = path("packed.pcap");
    let packing = Command::new("gzip")
        .arg("-c")
        .arg(flood())
        .stdout(fs::File::create(&packed).expect("a file can be made"))
        .status();
    assert!(packing.expect("gzip is there").success());
    let missing = path("missing.pcap");

    for (file, problem) in [
        (&prose, "not a capture file: text (expected pcap or pcapng)"),
        (
            &empty,
            "not a capture file: the file is empty (expected pcap or pcapng)",
        ),
        (
            &packed,
            "not a capture file: compressed with gzip; unpack it first, for example with `gunzip` (expected pcap or \
             pcapng)",
        ),
        (&missing, "No such file or directory (os error 2)"),
        (&scratch.path().to_owned(), "Is a directory (os error 21)"),
    ] {
        let message = format!("{}: {problem}", file.display());
        // With a host named, too: nothing is said about a file before it turned out to be one.
        expect_refusal(&["replay", text(file)], 1, &message);
        expect_refusal(&["replay", text(file), "--host", HOST], 1, &message);
        expect_refusal(&["replay", text(file), "--json"], 1, &message);
    }
}

#[test]
fn a_truncated_file_gives_what_is_in_it_and_an_error() {
    let scratch = Scratch::new();
    let whole = fs::read(flood()).expect("the capture can be read");
    let cut = scratch.path().join("cut.pcap");
    let kept = whole.len() * 9 / 10;
    fs::write(&cut, whole.get(..kept).expect("it is shorter")).expect("a file can be written");

    let arguments = [
        "replay",
        text(&cut),
        "--host",
        HOST,
        "--json",
        "--threshold-pps",
        "60",
    ];
    let done = run(&arguments);
    assert_eq!(done.code, Some(1));
    let events = lines(&done.stdout);
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    assert_eq!(names.first(), Some(&"incident_opened"));
    assert_eq!(names.iter().rev().nth(1), Some(&"incident_resolved"));
    let summary = events.last().expect("there is a summary");
    assert_eq!(summary["event"], "summary");
    let error = summary["error"]
        .as_str()
        .expect("the summary has the error");
    assert_eq!(done.stderr, format!("ftagent: {error}\n"));
    let damaged = format!("{}: damaged at byte ", cut.display());
    assert!(error.starts_with(&damaged), "{error}");
    assert!(error.contains("the file ends inside a record"), "{error}");
    assert!(
        error.ends_with("; everything before it was read"),
        "{error}"
    );
    assert!(
        summary["packets"]
            .as_u64()
            .is_some_and(|packets| packets > 400)
    );

    let listed = run(&arguments[..4]);
    assert_eq!(listed.code, Some(1));
    assert!(
        listed
            .stdout
            .ends_with("the file is damaged; this is what was in it up to there\n"),
        "{}",
        listed.stdout
    );
}

#[test]
fn options_that_do_not_exist_are_refused_with_the_nearest_that_does() {
    let see = "(--help lists what there is)";
    expect_refusal(
        &["replay", "--threshold-pp", "5", "x"],
        2,
        &format!(
            "unexpected argument '--threshold-pp' found; tip: a similar argument exists: '--threshold-pps' {see}"
        ),
    );
    expect_refusal(
        &["run", "--nope"],
        2,
        &format!("unexpected argument '--nope' found {see}"),
    );
    expect_refusal(
        &["rum"],
        2,
        &format!("unrecognized subcommand 'rum'; tip: a similar subcommand exists: 'run' {see}"),
    );
    expect_refusal(
        &["replay"],
        2,
        &format!("the following required arguments were not provided: <FILE> {see}"),
    );
    expect_refusal(
        &["run", "--seconds"],
        2,
        &format!("the following required arguments were not provided: --events <PATH> {see}"),
    );
}

#[test]
fn thresholds_are_whole_numbers_of_at_least_one() {
    let whole = "expected a whole number of 1 or more, such as 50000";
    for option in ["--threshold-pps", "--threshold-bps"] {
        for (value, problem) in [
            (
                "0",
                "expected 1 or more, found 0; leave it out for learned limits",
            ),
            ("-5", whole),
            ("many", whole),
            ("1e5", whole),
            ("1.5", whole),
            ("1,5", whole),
            ("", whole),
            (
                "99999999999999999999",
                "expected at most 18446744073709551615",
            ),
        ] {
            let message = format!(
                "invalid value '{value}' for '{option} <N>': {problem} (--help lists what there is)"
            );
            expect_refusal(&["replay", option, value, "x"], 2, &message);
            expect_refusal(&["run", "--local", option, value], 2, &message);
        }
    }
}

#[test]
fn hosts_and_warm_up_are_checked_before_anything_is_read() {
    let see = "(--help lists what there is)";
    for value in ["10.0.0.300", "example.org", "10.0.0.0/33", ""] {
        expect_refusal(
            &["replay", "x", "--host", value],
            2,
            &format!(
                "invalid value '{value}' for '--host <CIDR>': expected an address or a network, such as 192.0.2.10 or \
                 2001:db8::/64 {see}"
            ),
        );
    }
    for value in ["-1", "soon"] {
        expect_refusal(
            &["replay", "x", "--warmup", value],
            2,
            &format!(
                "invalid value '{value}' for '--warmup <SECONDS>': expected a whole number of seconds, such as 60 {see}"
            ),
        );
    }
}

#[test]
fn a_pipe_needs_a_host_and_gives_the_same_events() {
    expect_refusal(
        &["replay", "-"],
        2,
        "standard input: can be read only once; name the protected host with --host",
    );
    expect_refusal(
        &["replay", "-", "--host", HOST],
        1,
        "standard input: not a capture file: the file is empty (expected pcap or pcapng)",
    );

    let file = flood();
    let options = format!("--json --host {HOST} {}", LIMIT.join(" "));
    let direct = shell(&format!("\"$1\" replay \"$2\" {options}"), &file);
    let piped = shell(&format!("cat \"$2\" | \"$1\" replay - {options}"), &file);
    assert_eq!((piped.code, piped.stderr.as_str()), (Some(0), ""));
    assert_eq!(piped.stdout, direct.stdout);

    let listed = shell(
        &format!("cat \"$2\" | \"$1\" replay - --host {HOST}"),
        &file,
    );
    assert!(
        listed
            .stdout
            .starts_with("standard input: host 10.99.0.2\n")
    );
}

#[test]
fn a_named_pipe_is_read_once() {
    let scratch = Scratch::new();
    let pipe = scratch.path().join("packets");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is there").success());
    // Nobody writes into it: this must not wait for it.
    expect_refusal(
        &["replay", text(&pipe)],
        2,
        &format!(
            "{}: can be read only once; name the protected host with --host",
            pipe.display()
        ),
    );

    let options = format!("--json --host {HOST} {}", LIMIT.join(" "));
    let direct = shell(&format!("\"$1\" replay \"$2\" {options}"), &flood());
    let line = format!(
        "cat {} >\"$2\" & \"$1\" replay \"$2\" {options}",
        flood().display()
    );
    let piped = shell(&line, &pipe);
    assert_eq!((piped.code, piped.stderr.as_str()), (Some(0), ""));
    assert_eq!(piped.stdout, direct.stdout);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let file = flood();
    for arguments in [
        &[
            "replay",
            text(&file),
            "--json",
            "--seconds",
            "--threshold-pps",
            "60",
        ][..],
        &["replay", text(&file), "--explain", "--threshold-pps", "60"],
        &["--help"],
        &["replay", "--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let done = Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }

    let line = "\"$1\" replay \"$2\" --json --seconds --threshold-pps 60 | head -n 1";
    let done = shell(line, &file);
    assert_eq!(done.stderr, "");
    assert_eq!(lines(&done.stdout).len(), 1);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let line = format!("\"$1\" replay \"$2\" --host {HOST} >/dev/full");
    let done = shell(&line, &flood());
    assert_eq!(
        done.stderr,
        "ftagent: standard output: No space left on device (os error 28)\n"
    );
    assert_eq!(done.code, Some(1));
}

#[test]
fn without_a_host_the_busiest_destination_is_taken_and_named() {
    let file = flood();
    let done = run(&["replay", text(&file), "--json"]);
    let summary = lines(&done.stdout).pop().expect("there is a summary");
    assert_eq!(summary["hosts"], serde_json::json!([HOST]));
    assert_eq!(summary["hosts_guessed"], true);
    let named = run(&["replay", text(&file), "--json", "--host", HOST]);
    let summary = lines(&named.stdout).pop().expect("there is a summary");
    assert_eq!(summary["hosts_guessed"], false);
    let listed = run(&["replay", text(&file)]);
    let first = listed.stdout.lines().next().expect("there is a line");
    assert_eq!(
        first,
        format!(
            "{}: host {HOST}, the destination of most packets (name another with --host)",
            file.display()
        )
    );
}

#[test]
fn the_version_is_the_packages() {
    for option in ["--version", "-V"] {
        let done = run(&[option]);
        assert_eq!(
            done.stdout,
            format!("ftagent {}\n", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn no_command_at_all_shows_the_help_as_an_error() {
    let bare = run(&[]);
    let help = run(&["--help"]);
    assert_eq!((bare.code, bare.stdout.as_str()), (Some(2), ""));
    assert_eq!(bare.stderr, help.stdout);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
}

/// Columns of a terminal that help must fit.
const MOST_COLUMNS: usize = 100;

#[test]
fn help_names_and_explains_every_option_and_fits_a_screen() {
    let commands: [(&[&str], &[&str]); 6] = [
        (&[], &["--help", "--version"]),
        (
            &["run"],
            &[
                "--config",
                "--interface",
                "--local",
                "--threshold-pps",
                "--threshold-bps",
                "--state-dir",
                "--events",
                "--seconds",
                "--help",
            ],
        ),
        (
            &["replay"],
            &[
                "--threshold-pps",
                "--threshold-bps",
                "--host",
                "--warmup",
                "--seconds",
                "--explain",
                "--json",
                "--help",
            ],
        ),
        (&["check"], &["--config", "--online", "--help"]),
        (&["config"], &["--help"]),
        (&["config", "show"], &["--config", "--json", "--help"]),
    ];
    for (command, options) in commands {
        for columns in ["200", "100", "80"] {
            let mut asked = Command::new(PROGRAM);
            asked.args(command).arg("--help").env("COLUMNS", columns);
            let done = finish(&mut asked, PATIENCE);
            assert_eq!(
                (done.code, done.stderr.as_str()),
                (Some(0), ""),
                "{command:?}"
            );
            let most = columns
                .parse::<usize>()
                .expect("a number")
                .min(MOST_COLUMNS);
            let wide = done.stdout.lines().find(|line| line.chars().count() > most);
            assert_eq!(wide, None, "{command:?} in {columns} columns");
        }
        check_options(command, options);
    }
}

/// Expects exactly these options in a command's help, each with words beside it.
fn check_options(command: &[&str], options: &[&str]) {
    let mut asked = Command::new(PROGRAM);
    asked.args(command).arg("--help").env("COLUMNS", "100");
    let help = finish(&mut asked, PATIENCE).stdout;
    let entries = help.lines().filter_map(|line| {
        let entry = line.trim_start();
        let entry = entry
            .strip_prefix("-h, ")
            .or_else(|| entry.strip_prefix("-V, "))
            .unwrap_or(entry);
        entry
            .starts_with("--")
            .then(|| entry.split_once("  ").unwrap_or((entry, "")))
    });
    let mut named = BTreeSet::new();
    for (option, words) in entries {
        let option = option.split(' ').next().unwrap_or_default();
        assert!(words.trim().len() >= 10, "{option} is explained: {help}");
        named.insert(option.to_owned());
    }
    let expected: BTreeSet<String> = options.iter().map(|option| (*option).to_owned()).collect();
    assert_eq!(named, expected, "{command:?}");
}
