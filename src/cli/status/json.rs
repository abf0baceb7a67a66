//! Status for scripts: everything that is known, as one object.
//!
//! Names and units are part of the interface; `schema` changes when one goes or changes its meaning. Pure.

use serde::Serialize;

use super::super::output::SCHEMA;
use super::facts::Facts;
use super::{Status, lines};
use crate::clock::Timestamp;
use crate::incident::Report;
use crate::ledger::Step;
use crate::uplink::{PendingCommand, State};

/// The object, with the end of its line.
pub(super) fn object(status: &Status, facts: &Facts) -> String {
    let view = facts.view.as_ref();
    let platform = facts.platform.as_ref();
    let shown = Shown {
        schema: SCHEMA,
        situation: status.situation.name(),
        exit_code: status.situation.exit() as u8,
        summary: lines::headline(status, facts),
        reasons: &status.reasons,
        at: facts.now,
        host: &facts.host,
        node_uuid: facts.node_uuid(),
        local: facts.is_local(),
        allow_http: facts.is_exposed(),
        state_dir: facts.dir.display().to_string(),
        agent_running: facts.agent_runs(),
        last_second: view.and_then(|view| view.last_sample).map(|last| Second {
            recorded_at: last.start,
            pps: last.pps,
            bps: last.bps,
            tcp_pct: percent(last.tcp_permille),
            udp_pct: percent(last.udp_permille),
            icmp_pct: percent(last.icmp_permille),
            conn_count: last.connections,
        }),
        pps_threshold: facts.threshold().map(|it| Threshold {
            pps: it.pps,
            origin: it.origin,
        }),
        baseline: Normal {
            p99_pps: facts.learned.p99_pps,
            mean_pps: facts.learned.mean_pps,
        },
        platform_baseline: Normal {
            p99_pps: platform.and_then(|it| it.p99_pps),
            mean_pps: platform.and_then(|it| it.mean_pps),
        },
        ioc_patterns: platform.map(|it| it.patterns.len()),
        pending_commands: platform.map_or(&[], |it| &it.commands),
        incident: facts.open().map(|report| Report {
            forensics: None,
            kept: None,
            ..report.clone()
        }),
        platform: facts.uplink.as_ref(),
        waiting_incidents: view.map_or(0, |view| view.waiting_incidents),
        waiting_seconds: view.map_or(0, |view| view.waiting_samples),
        dropped_reports: view.map_or(0, |view| view.dropped_events),
        dropped_seconds: view.map_or(0, |view| view.dropped_samples),
        refused_reports: view.map_or(0, |view| view.dead_letters),
        last_refused_report: view
            .and_then(|view| view.last_dead_letter.as_ref())
            .map(|letter| Refused {
                incident: &letter.incident,
                step: letter.step,
                reason: &letter.reason,
                at: letter.at,
            }),
    };
    // Nothing in it can fail: names are texts.
    serde_json::to_string(&shown).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    /// `all_clear`, `under_attack`, `degraded` or `not_running`.
    situation: &'static str,
    /// What `--exit-code` exits with.
    exit_code: u8,
    /// The first of the lines for people.
    summary: String,
    /// What is wrong, most pressing first.
    reasons: &'a [String],
    at: Timestamp,
    host: &'a str,
    node_uuid: Option<String>,
    local: bool,
    allow_http: bool,
    state_dir: String,
    agent_running: bool,
    last_second: Option<Second>,
    pps_threshold: Option<Threshold>,
    /// As learned here.
    baseline: Normal,
    platform_baseline: Normal,
    /// Absent until the platform has said.
    ioc_patterns: Option<usize>,
    pending_commands: &'a [PendingCommand],
    /// The open one, as `incident_opened` has it; without an agent, the one that was open at its end.
    incident: Option<Report>,
    platform: Option<&'a State>,
    waiting_incidents: u64,
    waiting_seconds: u64,
    dropped_reports: u64,
    dropped_seconds: u64,
    refused_reports: u64,
    last_refused_report: Option<Refused<'a>>,
}

/// Under the names of the seed contract.
#[derive(Serialize)]
struct Second {
    recorded_at: Timestamp,
    pps: u64,
    bps: u64,
    tcp_pct: f64,
    udp_pct: f64,
    icmp_pct: f64,
    conn_count: u32,
}

#[derive(Serialize)]
struct Threshold {
    pps: u64,
    /// Where it comes from, for people.
    origin: String,
}

#[derive(Serialize)]
struct Normal {
    p99_pps: Option<u64>,
    mean_pps: Option<u64>,
}

#[derive(Serialize)]
struct Refused<'a> {
    incident: &'a str,
    step: Step,
    reason: &'a str,
    at: Timestamp,
}

fn percent(permille: u32) -> f64 {
    f64::from(permille) / 10.0
}
