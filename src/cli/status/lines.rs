//! Status for people: what is most pressing first, twelve lines at most.
//!
//! Rates are written as on the platform's pages. Pure.

use super::facts::{Facts, Normal};
use super::{NEWS_SECONDS, Situation, Status};
use crate::detect::Family;
use crate::incident::Report;
use crate::uplink::PendingCommand;
use crate::words::{Bps, Thousands};

/// Lines at most: what a person takes in without scrolling on any screen.
const LINES_MAX: usize = 12;

/// Reasons beside an attack; the first of them otherwise is the headline.
const REASONS_MAX: usize = 2;

/// Sources and ports named: those to look at first.
const NAMED: usize = 3;

/// Characters of a command that are shown: a whole firewall rule, and no screenful.
const COMMAND_CHARS: usize = 160;

/// The lines, each with its end.
pub(super) fn text(status: &Status, facts: &Facts) -> String {
    let mut lines = vec![headline(status, facts)];
    if status.situation == Situation::UnderAttack
        && let Some(report) = facts.open()
    {
        lines.push(peak(report));
        lines.extend(ends(report));
    }
    lines.extend(beside(status));
    lines.extend(traffic(facts));
    lines.push(normal(facts));
    lines.push(platform(facts));
    lines.extend(indicators(facts));
    lines.extend(waiting(facts));
    if facts.is_exposed() {
        lines.push(
            "api.allow_http is on: the API key may cross the network unencrypted; use https"
                .to_owned(),
        );
    }
    // Where commands wait, a line for the first and one for the rest are theirs.
    if lines.len() + 2 < LINES_MAX {
        lines.extend(conflict(facts));
    }
    let room = LINES_MAX.saturating_sub(lines.len());
    let commands = facts.platform.as_ref().map(|it| it.commands.as_slice());
    lines.extend(pending(commands.unwrap_or_default(), room));
    lines.join("\n  ") + "\n"
}

/// The situation in a sentence.
pub(super) fn headline(status: &Status, facts: &Facts) -> String {
    let node = node(facts);
    match (status.situation, facts.open(), status.reasons.first()) {
        (Situation::AllClear, _, _) => format!("all clear: {node} is online, no active incident"),
        (Situation::UnderAttack, Some(report), _) => format!(
            "under attack: {} ({}) on {node}, severity {}, for {}",
            family(report),
            report.attack_subtype,
            report.severity,
            facts.ago(report.started_at),
        ),
        (Situation::Degraded, _, Some(reason)) if !facts.agent_runs() => {
            format!("degraded: how {node} is cannot be told, because {reason}")
        }
        (Situation::NotRunning, _, Some(reason)) => format!("not running on {node}: {reason}"),
        (_, _, reason) => {
            let reason = reason.map_or("", String::as_str);
            format!("degraded: {node} has no active incident, but {reason}")
        }
    }
}

fn node(facts: &Facts) -> String {
    match facts.node_uuid() {
        Some(uuid) => format!("node {} ({uuid})", facts.host),
        None => format!("node {}", facts.host),
    }
}

/// The family under the platform's name for it, where it has one.
fn family(report: &Report) -> &'static str {
    match report.attack_family {
        Family::UdpFlood => "UDP Flood",
        Family::SynFlood => "SYN Flood",
        Family::TcpFlood => "TCP Flood",
        Family::HttpFlood => "HTTP Flood",
        Family::IcmpFlood => "ICMP/Ping Flood",
        // The platform calls the whole family by this one; queries are none.
        Family::DnsFlood if report.attack_subtype == "dns_query_flood" => "DNS Flood",
        Family::DnsFlood => "DNS Amplification",
        Family::FragmentFlood => "Fragment Flood",
        Family::ProtocolFlood => "Protocol Flood",
        Family::MultiVector => "Multi-Vector",
        Family::Unknown => "Unclassified",
    }
}

fn peak(report: &Report) -> String {
    let about = |is_exact: bool| if is_exact { "" } else { "about " };
    let mut line = format!(
        "peaked at {}{} packets per second and {}, from {}{} sources",
        about(!report.peak_is_provisional),
        Thousands(report.peak_pps),
        Bps(report.peak_bps),
        about(report.source_ip_count_exact),
        Thousands(report.source_ip_count),
    );
    if report.spoofing_detected == Some(true) {
        line.push_str("; warning: they look spoofed");
    }
    if report.botnet_detected == Some(true) {
        line.push_str("; warning: they look like a botnet");
    }
    line
}

/// Where it comes from and where it goes.
fn ends(report: &Report) -> Option<String> {
    let sources = report.top_src_ips.iter().take(NAMED);
    let sources: Vec<&str> = sources.map(|source| source.ip.as_str()).collect();
    let ports = report.top_dst_ports.iter().take(NAMED);
    let ports: Vec<String> = ports.map(|port| port.port.to_string()).collect();
    let named = |what: &str, names: &[&str]| {
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let parts: Vec<String> = [named("most from", &sources), named("most to port", &ports)]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What is wrong beside what the headline says.
fn beside(status: &Status) -> Vec<String> {
    let said = usize::from(status.situation != Situation::UnderAttack);
    let reasons: Vec<&String> = status.reasons.iter().skip(said).collect();
    let more = reasons.len().saturating_sub(REASONS_MAX);
    let mut lines: Vec<String> = reasons
        .into_iter()
        .take(REASONS_MAX)
        .map(|reason| format!("also: {reason}"))
        .collect();
    if let Some(last) = lines.last_mut().filter(|_| more > 0) {
        last.push_str(&format!(" (and {more} more, see --json)"));
    }
    lines
}

fn traffic(facts: &Facts) -> Option<String> {
    let now = facts.current()?;
    Some(format!(
        "now {} packets/s, {}, {} TCP connections",
        Thousands(now.pps),
        Bps(now.bps),
        Thousands(u64::from(now.connections)),
    ))
}

/// The limit and what is normal.
fn normal(facts: &Facts) -> String {
    let threshold = facts.threshold().map_or_else(
        || "threshold: none yet, it is being learned".to_owned(),
        |it| format!("threshold {} packets/s ({})", Thousands(it.pps), it.origin),
    );
    let learned = figures(facts.learned);
    let theirs = facts.platform.as_ref().and_then(|it| {
        figures(Normal {
            p99_pps: it.p99_pps,
            mean_pps: it.mean_pps,
        })
    });
    let baseline = match (learned, theirs) {
        (Some(learned), Some(theirs)) => format!("{learned} (the platform's: {theirs})"),
        (Some(learned), None) => learned,
        (None, Some(theirs)) => format!("{theirs} (the platform's)"),
        (None, None) => "not known yet".to_owned(),
    };
    format!("{threshold}; baseline {baseline}")
}

fn figures(normal: Normal) -> Option<String> {
    let figure = |name: &str, pps: Option<u64>| {
        pps.map(|pps| format!("{name} {} packets/s", Thousands(pps)))
    };
    let figures = [
        figure("p99", normal.p99_pps),
        figure("mean", normal.mean_pps),
    ];
    let figures: Vec<String> = figures.into_iter().flatten().collect();
    (!figures.is_empty()).then(|| figures.join(", "))
}

fn platform(facts: &Facts) -> String {
    if facts.is_local() {
        return "platform: none, this node works by itself (local mode)".to_owned();
    }
    let Some(uplink) = &facts.uplink else {
        return "platform: not heard of yet".to_owned();
    };
    if !facts.agent_runs() {
        return uplink.heartbeat_at.map_or_else(
            || "platform: never heard a heartbeat of this node".to_owned(),
            |at| format!("platform: last heard of this node {} ago", facts.ago(at)),
        );
    }
    let sentence = match uplink.trouble {
        None => uplink.sentence.clone(),
        Some(_) => "does not take what this node sends".to_owned(),
    };
    let mitigation = if facts.open().is_some() {
        "; its dashboard shows how mitigation stands"
    } else {
        ""
    };
    format!(
        "platform: {sentence}, since {} ({} contract, {}){mitigation}",
        uplink.since, uplink.contract, uplink.api_base
    )
}

fn indicators(facts: &Facts) -> Option<String> {
    let patterns = facts.platform.as_ref()?.patterns.len();
    Some(format!(
        "{} IOC patterns loaded",
        Thousands(u64::try_from(patterns).unwrap_or(u64::MAX))
    ))
}

/// What waits to be told, was lost, or was refused; a second is always on its way.
fn waiting(facts: &Facts) -> Option<String> {
    let view = facts.view.as_ref()?;
    let count = |count: u64, least: u64, what: &str| {
        (count >= least).then(|| format!("{} {what}", Thousands(count)))
    };
    let parts: Vec<String> = [
        count(view.waiting_incidents, 1, "incidents wait to be told"),
        count(view.waiting_samples, 3, "seconds wait to be told"),
        count(view.dead_letters, 1, "reports of incidents were refused"),
        count(view.dropped_events, 1, "reports of incidents were lost"),
        count(view.dropped_samples, 1, "seconds were lost untold"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What the platform said not long ago about something that it has already. No reason to worry by itself.
fn conflict(facts: &Facts) -> Option<String> {
    let last = facts.uplink.as_ref()?.last_conflict.as_ref()?;
    (!facts.is_older(last.at, NEWS_SECONDS))
        .then(|| format!("{}; {} ago", last.sentence, facts.ago(last.at)))
}

/// What the platform would like to be run, in at most `room` lines.
fn pending(commands: &[PendingCommand], room: usize) -> Vec<String> {
    let shown = if commands.len() <= room {
        commands.len()
    } else {
        room.saturating_sub(1)
    };
    let mut lines: Vec<String> = commands.iter().take(shown).map(command).collect();
    let more = commands.len() - shown;
    if more > 0 {
        lines.push(format!(
            "pending commands, for you to review, none is run: {more}{} (--json shows them)",
            if shown > 0 { " more" } else { "" }
        ));
    }
    lines
}

fn command(command: &PendingCommand) -> String {
    let number = command
        .id
        .map_or_else(|| "without a number".to_owned(), |id| id.to_string());
    let title = if command.title.is_empty() {
        String::new()
    } else {
        format!(" \"{}\"", command.title)
    };
    // Several lines of a command are one line here, and a mark says so.
    let mut text: String = command
        .text
        .chars()
        .map(|c| if c.is_control() { '⏎' } else { c })
        .take(COMMAND_CHARS)
        .collect();
    if command.text.chars().nth(COMMAND_CHARS).is_some() {
        text.push('…');
    }
    format!(
        "pending command {number} ({}){title}, for you to review, not run: {text}",
        command.kind
    )
}
