//! Whether an explanation holds what an operator needs, and whether its numbers are those of the data.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test panics when it cannot go on, and says what it could not check; an absent field of JSON is null"
)]

mod common;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::agent::PROGRAM;
use common::manifest::recorded;
use common::packets::{Packet, Packets};
use common::process::{Scratch, succeed};
use ftagent::clock::Timestamp;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn replay(file: &Path, options: &[&str]) -> String {
    let mut command = Command::new(PROGRAM);
    command
        .arg("replay")
        .arg(file)
        .arg("--explain")
        .args(options);
    succeed(&mut command, PATIENCE)
}

/// Incidents with their explanations, as data and as people read them, at opening and at the end.
struct Explained {
    events: Vec<Value>,
    listing: String,
}

impl Explained {
    fn new(file: &Path, options: &[&str]) -> Self {
        let told = replay(file, &[options, &["--json"]].concat());
        let events: Vec<Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).expect("every line is JSON"))
            .filter(|event: &Value| event["incident"].is_object())
            .collect();
        assert!(!events.is_empty(), "{} has an incident", file.display());
        Self {
            events,
            listing: replay(file, options),
        }
    }

    fn recorded(name: &str, limit: &[&str]) -> Self {
        let capture = recorded()
            .into_iter()
            .find(|capture| capture.file == name)
            .unwrap_or_else(|| panic!("{name} is in the manifest"));
        let host = capture.host.expect("it has a victim");
        Self::new(&capture.path, &[&["--host", &host], limit].concat())
    }

    fn last(&self) -> &Value {
        self.events.last().expect("there are events")
    }
}

fn sentences(event: &Value, name: &str) -> Vec<String> {
    let list = event["explanation"][name]
        .as_array()
        .expect("sentences are a list");
    list.iter()
        .map(|sentence| sentence.as_str().expect("a sentence is text").to_owned())
        .collect()
}

/// Everything an explanation says.
fn words(event: &Value) -> String {
    [sentences(event, "sentences"), sentences(event, "otherwise")]
        .concat()
        .join("\n")
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// `412,300`, as the program writes numbers for people.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut written = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// `25 %` or `2.5 %`, as the program writes shares for people.
fn percent(value: &Value) -> String {
    let share = value.as_f64().expect("a share is a number");
    format!("{share} %")
}

/// `1.7 Gbit`, as the program writes bits for people.
fn bits(value: u64) -> String {
    let units = ["kbit", "Mbit", "Gbit", "Tbit"];
    if value < 1_000 {
        return format!("{value} bit");
    }
    let mut tenths = value / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < units.len() {
        tenths /= 1_000;
        unit += 1;
    }
    format!("{}.{} {}", thousands(tenths / 10), tenths % 10, units[unit])
}

fn amount(value: u64, unit: &str) -> String {
    if unit == "pps" {
        format!("{} packets", thousands(value))
    } else {
        bits(value)
    }
}

fn assert_says(words: &str, what: &str) {
    assert!(words.contains(what), "{what:?} is missing in:\n{words}");
}

/// Every number of the data is in the words.
fn check(event: &Value) {
    let words = words(event);
    let (incident, data) = (&event["incident"], &event["explanation"]);
    let says = |what: &str| assert_says(&words, what);

    says(&amount(number(&incident["peak_pps"]), "pps"));
    says(&format!("{}/s", bits(number(&incident["peak_bps"]))));
    for trigger in incident["triggers"].as_array().expect("a list") {
        let unit = trigger["unit"].as_str().expect("a unit");
        let value = amount(number(&trigger["value"]), unit);
        let limit = amount(number(&trigger["limit"]), unit);
        let origin = trigger["origin"].as_str().expect("an origin");
        says(&format!(
            "{value} in one second reached the limit of {limit}/s, {origin} (trigger {}:",
            trigger["id"].as_str().expect("an id")
        ));
        says(&format!("Below {limit}/s in every second"));
    }

    if incident["baseline_pps"].is_null() {
        says("What is normal here was not known yet");
    } else {
        says(&format!(
            "Normal before it: {}/s and {}/s on average; 99 % of seconds at or below {}/s and {}/s.",
            amount(number(&incident["baseline_pps"]), "pps"),
            bits(number(&incident["baseline_bps"])),
            amount(number(&data["baseline_p99_pps"]), "pps"),
            bits(number(&data["baseline_p99_bps"])),
        ));
    }

    let unit = data["severity_unit"].as_str().expect("a unit");
    let severity = incident["severity"].as_str().expect("a severity");
    says(&format!("Severity {severity}: the peak is "));
    says(&format!(
        "times {}/s (",
        amount(number(&data["severity_base"]), unit)
    ));
    for bound in ["severity_worse_from", "severity_milder_below"] {
        if let Some(peak) = data[bound].as_u64() {
            says(&format!("{}/s", amount(peak, unit)));
        }
    }
    assert!(
        data["severity_worse_from"].is_u64() || severity == "critical",
        "{event}"
    );
    assert!(
        data["severity_milder_below"].is_u64() || severity == "low",
        "{event}"
    );

    says(&format!(
        "Above normal were {} ({}):",
        amount(number(&data["excess_packets"]), "pps"),
        bits(number(&data["excess_bits"]))
    ));
    for vector in incident["vectors"].as_array().expect("a list") {
        says(&format!(
            "{} has {} of packets and {} of bits",
            vector["subtype"].as_str().expect("a subtype"),
            percent(&vector["packets_pct"]),
            percent(&vector["bits_pct"])
        ));
    }
    says(&format!(
        "That makes it {}/{};",
        incident["attack_family"].as_str().expect("a family"),
        incident["attack_subtype"].as_str().expect("a subtype")
    ));
    let runner_up = &data["runner_up"];
    if runner_up.is_null() {
        says("there is no runner-up");
    } else {
        let family = runner_up["family"].as_str().expect("a family");
        says(&format!(
            "the runner-up is {family} with {} of packets and {} of bits",
            percent(&runner_up["packets_pct"]),
            percent(&runner_up["bits_pct"])
        ));
        says(&format!("{family} would be named beside it"));
    }

    says(&format!(
        "Confidence {} %: the name explains {} of the excess, x {} because",
        number(&incident["confidence"]),
        percent(&data["purity_pct"]),
        percent(&data["evidence_pct"])
    ));
    says(&format!("x {} for the size", percent(&data["sample_pct"])));
    if let Some(cap) = data["confidence_cap"].as_u64() {
        says(&format!("at most {cap} %"));
    }
    says(&format!(
        "{} source",
        thousands(number(&incident["source_ip_count"]))
    ));
}

/// People read the same sentences, after the line that tells of the incident.
fn check_listing(explained: &Explained) {
    let mut rest = explained.listing.as_str();
    for event in &explained.events {
        if event["event"] == "incident_updated" {
            continue;
        }
        let mut lines: Vec<String> = sentences(event, "sentences");
        lines.push("What would have led to another verdict:".to_owned());
        lines.extend(
            sentences(event, "otherwise")
                .iter()
                .map(|sentence| format!("  - {sentence}")),
        );
        let block: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let at = rest
            .find(&block)
            .unwrap_or_else(|| panic!("the listing lacks\n{block}\nin\n{rest}"));
        rest = &rest[at + block.len()..];
    }
}

#[test]
fn every_number_of_the_data_is_in_the_words() {
    for (name, limit) in [
        ("syn_flood.pcap", ["--threshold-pps", "60"]),
        ("dns_amplification.pcap", ["--threshold-bps", "60000"]),
        ("udp_fragment_flood.pcap", ["--threshold-pps", "70"]),
        ("icmp_flood_v6.pcap", ["--threshold-pps", "70"]),
        ("http_get_flood.pcap", ["--threshold-bps", "40000"]),
    ] {
        let explained = Explained::recorded(name, &limit);
        explained.events.iter().for_each(check);
        check_listing(&explained);
    }
}

#[test]
fn whoever_came_second_is_named_with_what_it_lacked() {
    let explained = Explained::recorded("multi_vector.pcap", &["--threshold-pps", "60"]);
    let opened = explained.events.first().expect("it opened");
    check(opened);
    assert_eq!(opened["explanation"]["runner_up"]["family"], "syn_flood");
    assert_says(&words(opened), "more than it has, syn_flood would lead.");
    let resolved = explained.last();
    assert_eq!(resolved["incident"]["attack_family"], "multi_vector");
    assert!(resolved["explanation"]["runner_up"].is_null());
    assert_says(
        &words(resolved),
        "With syn_flood below 25 % of packets and of bits it would be udp_flood alone.",
    );
}

#[test]
fn what_was_learned_is_the_baseline_and_gives_the_limit() {
    let host = Ipv4Addr::new(192, 0, 2, 10);
    let start = Timestamp::from_seconds(1_773_567_858);
    let mut packets = Vec::new();
    // A minute and a half of ten datagrams a second, then SYNs far over the learned limit of at least 10,000.
    for number in 0..900_u32 {
        let at = start.plus_nanos(u64::from(number) * 100_000_000);
        packets.push(Packet::udp(at, Ipv4Addr::new(198, 51, 100, 7), host));
    }
    for number in 0..60_000_u32 {
        let at = start.plus_nanos(90_000_000_000 + u64::from(number) * 40_000);
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number % 5_000);
        packets.push(Packet::syn(at, source, host));
    }
    let scratch = Scratch::new();
    let file = scratch.path().join("learned.pcap");
    Packets::ethernet(packets).write_pcap(&file, 0);
    let host = host.to_string();

    let explained = Explained::new(&file, &["--host", &host, "--warmup", "80"]);
    let resolved = explained.last();
    assert_eq!(resolved["incident"]["attack_family"], "syn_flood");
    assert_eq!(resolved["incident"]["triggers"][0]["id"], "V3");
    assert_eq!(number(&resolved["incident"]["baseline_pps"]), 10);
    explained.events.iter().for_each(check);
    check_listing(&explained);

    let below = Explained::new(
        &file,
        &["--host", &host, "--warmup", "80", "--threshold-pps", "5"],
    );
    let opened = below.events.first().expect("it opened");
    assert_eq!(opened["incident"]["severity"], "low");
    let fitting = number(&opened["explanation"]["fitting_limit"]);
    assert_says(
        &words(opened),
        &format!(
            "Severity low: the limit of 5 packets/s lies below what is normal here, and nothing above normal was \
             found. A limit of {}/s would fit.",
            amount(fitting, "pps")
        ),
    );
}
