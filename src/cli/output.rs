//! What commands print: events as JSON lines or as lines for people. `run --events` and `replay` share it.

use std::io::{self, Write};
use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;

use super::Failure;
use crate::agent::Summary;
use crate::capture::CaptureError;
use crate::classify::{TrafficClass, Undecodable};
use crate::count::{Tally, TrafficSecond};
use crate::detect::{FamilyShare, percent, permille};
use crate::engine::Outcome;
use crate::incident::{Event, Explanation, Incident, Report};
use crate::words::{Bits, Duration, Thousands};

/// The version of every JSON object we print. It changes when a field goes or changes its meaning.
pub(super) const SCHEMA: u32 = 1;

/// Says on standard error, in one line, what went wrong.
#[expect(clippy::print_stderr, reason = "this is where errors are printed")]
pub(super) fn complain(message: &str) {
    eprintln!("ftagent: {message}");
}

/// Prints a text that is complete. Whoever read our output and has seen enough is no reason to complain.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where outcomes go.
pub(super) trait Reporter {
    /// Before the first outcome.
    fn begin(&mut self, file: &Path, hosts: &[IpNet], guessed: bool) -> io::Result<()>;
    /// One outcome.
    fn outcome(&mut self, outcome: Outcome) -> io::Result<()>;
    /// After the last.
    fn end(&mut self, summary: &Summary, error: Option<&CaptureError>) -> io::Result<()>;
}

/// One JSON object a line.
pub(super) struct JsonLines<W> {
    out: W,
    seconds: bool,
    explain: bool,
    hosts: Vec<String>,
    guessed: bool,
}

impl<W: Write> JsonLines<W> {
    pub(super) const fn new(out: W, seconds: bool, explain: bool) -> Self {
        Self {
            out,
            seconds,
            explain,
            hosts: Vec::new(),
            guessed: false,
        }
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Writes an outcome and hands it on to whoever reads.
    pub(super) fn write(&mut self, outcome: Outcome) -> io::Result<()> {
        self.outcome(outcome)?;
        self.out.flush()
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        let (name, change) = match event {
            Event::Opened(_) => ("incident_opened", None),
            Event::Updated(_, change) => ("incident_updated", Some(change.name())),
            Event::Resolved(_) => ("incident_resolved", None),
        };
        let incident = event.incident();
        let explanation = self.explain.then(|| ExplanationLine::of(incident));
        let report = Report::of(incident);
        let ends = matches!(event, Event::Resolved(_));
        self.line(&EventLine {
            schema: SCHEMA,
            event: name,
            change,
            incident: Report {
                forensics: report.forensics.filter(|_| ends),
                kept: None,
                ..report
            },
            explanation,
        })
    }
}

impl<W: Write> Reporter for JsonLines<W> {
    fn begin(&mut self, _file: &Path, hosts: &[IpNet], guessed: bool) -> io::Result<()> {
        self.hosts = hosts.iter().map(network).collect();
        self.guessed = guessed;
        Ok(())
    }

    fn outcome(&mut self, outcome: Outcome) -> io::Result<()> {
        for event in &outcome.events {
            self.event(event)?;
        }
        if !outcome.events.is_empty() {
            // Whoever reads along from a pipe wants to know now.
            self.out.flush()?;
        }
        match outcome.second {
            Some(second) if self.seconds => self.line(&SecondLine::of(&second)),
            _ => Ok(()),
        }
    }

    fn end(&mut self, summary: &Summary, error: Option<&CaptureError>) -> io::Result<()> {
        let line = SummaryLine {
            schema: SCHEMA,
            event: "summary",
            hosts: std::mem::take(&mut self.hosts),
            hosts_guessed: self.guessed,
            packets: summary.packets,
            bytes: summary.bytes,
            seconds: seconds(summary),
            inbound: summary.inbound,
            outbound: summary.outbound,
            foreign: summary.foreign,
            late: summary.late,
            gaps: summary.gaps,
            undecodable: by_reason(&summary.undecodable),
            incidents: summary.incidents,
            error: error.map(ToString::to_string),
        };
        self.line(&line)?;
        self.out.flush()
    }
}

/// Lines for people.
pub(super) struct Listing<W> {
    out: W,
    seconds: bool,
    explain: bool,
}

impl<W: Write> Listing<W> {
    pub(super) const fn new(out: W, seconds: bool, explain: bool) -> Self {
        Self {
            out,
            seconds,
            explain,
        }
    }
}

impl<W: Write> Reporter for Listing<W> {
    fn begin(&mut self, file: &Path, hosts: &[IpNet], guessed: bool) -> io::Result<()> {
        let names: Vec<String> = hosts.iter().map(network).collect();
        let how = match (guessed, names.is_empty()) {
            (_, true) => " no host: there is no IP packet in it".to_owned(),
            (true, _) => format!(
                " host {}, the destination of most packets (name another with --host)",
                names.join(", ")
            ),
            (false, _) => format!(" host {}", names.join(", ")),
        };
        writeln!(self.out, "{}:{how}", file.display())
    }

    fn outcome(&mut self, outcome: Outcome) -> io::Result<()> {
        for event in &outcome.events {
            writeln!(self.out, "{}", sentence(event))?;
            if self.explain && !matches!(event, Event::Updated(..)) {
                write_explanation(&mut self.out, &Explanation::of(event.incident()))?;
            }
        }
        if !outcome.events.is_empty() {
            self.out.flush()?;
        }
        match outcome.second {
            Some(second) if self.seconds => writeln!(
                self.out,
                "{}  {:>12} packets/s  {:>14}/s  {:>8} sources  {:>8} new flows",
                second.start,
                Thousands(second.pps),
                Bits(second.bps).to_string(),
                Thousands(second.inbound_ends.sources.count),
                Thousands(second.inbound_ends.new_flows),
            ),
            _ => Ok(()),
        }
    }

    fn end(&mut self, summary: &Summary, error: Option<&CaptureError>) -> io::Result<()> {
        let millis = match (summary.first_at, summary.last_at) {
            (Some(first), Some(last)) => last.millis_since(first),
            _ => 0,
        };
        writeln!(
            self.out,
            "{} packets, {} bytes in {}: {} inbound, {} outbound, {} of others; incidents: {}",
            Thousands(summary.packets),
            Thousands(summary.bytes),
            Duration(millis),
            Thousands(summary.inbound),
            Thousands(summary.outbound),
            Thousands(summary.foreign),
            summary.incidents,
        )?;
        let reasons: Vec<String> = Undecodable::ALL
            .into_iter()
            .zip(&summary.undecodable)
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("{} {}", reason.name(), Thousands(*count)))
            .collect();
        if !reasons.is_empty() {
            writeln!(self.out, "not taken apart: {}", reasons.join(", "))?;
        }
        if summary.late > 0 {
            writeln!(
                self.out,
                "out of order: {} packets",
                Thousands(summary.late)
            )?;
        }
        if error.is_some() {
            writeln!(
                self.out,
                "the file is damaged; this is what was in it up to there"
            )?;
        }
        self.out.flush()
    }
}

/// One event as one line that can be read alone.
pub(super) fn sentence(event: &Event) -> String {
    let incident = event.incident();
    let head = match event {
        Event::Opened(_) => "attack opened".to_owned(),
        Event::Updated(_, change) => format!("attack updated ({})", change.name()),
        Event::Resolved(_) => "attack resolved".to_owned(),
    };
    let limits: Vec<String> = incident
        .fired
        .iter()
        .map(|fired| match fired.id.unit() {
            crate::detect::Unit::Packets => format!("limit {} pps", Thousands(fired.limit)),
            crate::detect::Unit::Bits => format!("limit {}/s", Bits(fired.limit)),
        })
        .collect();
    let lasted = match incident.ended_at {
        Some(ended_at) => format!(
            "lasted {}{}, ",
            if incident.ended_unseen {
                "at least "
            } else {
                ""
            },
            Duration(ended_at.millis_since(incident.started_at)),
        ),
        None => String::new(),
    };
    let port = incident
        .top_ports
        .first()
        .map(|(port, _)| format!(", mostly to port {port}"))
        .unwrap_or_default();
    format!(
        "{head}: {}/{} {}, {} pps ({}), {}/s, {lasted}{} sources{port}, confidence {} %, detected after {}, incident {}",
        incident.family,
        incident.subtype,
        incident.severity,
        Thousands(incident.peak_pps),
        limits.join(", "),
        Bits(incident.peak_bps),
        Thousands(incident.sources.count),
        incident.confidence.percent,
        Duration(incident.detected_after_millis),
        incident.id,
    )
}

fn write_explanation(out: &mut impl Write, explanation: &Explanation) -> io::Result<()> {
    for sentence in &explanation.sentences {
        writeln!(out, "    {sentence}")?;
    }
    writeln!(out, "    What would have led to another verdict:")?;
    for sentence in &explanation.otherwise {
        writeln!(out, "      - {sentence}")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct EventLine {
    schema: u32,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
    incident: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationLine>,
}

/// The explanation as data: the sentences, and the numbers they are made of that the incident does not show already.
#[derive(Serialize)]
struct ExplanationLine {
    sentences: Vec<String>,
    otherwise: Vec<String>,
    severity_unit: &'static str,
    severity_base: u64,
    severity_mean: Option<u64>,
    severity_worse_from: Option<u64>,
    severity_milder_below: Option<u64>,
    baseline_p99_pps: Option<u64>,
    baseline_p99_bps: Option<u64>,
    excess_packets: u64,
    excess_bits: u64,
    families: Vec<FamilyLine>,
    runner_up: Option<FamilyLine>,
    purity_pct: f64,
    evidence_pct: f64,
    sample_pct: f64,
    confidence_cap: Option<u64>,
    fitting_limit: Option<u64>,
}

#[derive(Serialize)]
struct FamilyLine {
    family: &'static str,
    packets_pct: f64,
    bits_pct: f64,
}

impl FamilyLine {
    fn of(share: &FamilyShare) -> Self {
        Self {
            family: share.family.name(),
            packets_pct: percent(share.packets_permille),
            bits_pct: percent(share.bits_permille),
        }
    }
}

impl ExplanationLine {
    fn of(incident: &Incident) -> Self {
        let Explanation {
            sentences,
            otherwise,
            runner_up,
            worse_from,
            milder_below,
        } = Explanation::of(incident);
        Self {
            sentences,
            otherwise,
            severity_unit: incident.scale.unit.short(),
            severity_base: incident.scale.base,
            severity_mean: incident.scale.mean,
            severity_worse_from: worse_from,
            severity_milder_below: milder_below,
            baseline_p99_pps: incident.normal.p99_pps,
            baseline_p99_bps: incident.normal.p99_bps,
            excess_packets: incident.excess.packets,
            excess_bits: incident.excess.bits,
            families: incident.families.iter().map(FamilyLine::of).collect(),
            runner_up: runner_up.as_ref().map(FamilyLine::of),
            purity_pct: percent(incident.confidence.purity_permille),
            evidence_pct: percent(incident.confidence.evidence_permille),
            sample_pct: percent(incident.confidence.sample_permille),
            confidence_cap: incident.confidence.cap.map(|(most, _)| most),
            fitting_limit: incident.fitting_limit,
        }
    }
}

#[derive(Serialize)]
struct SecondLine {
    schema: u32,
    event: &'static str,
    recorded_at: String,
    pps: u64,
    bps: u64,
    from_interface: bool,
    tcp_pct: f64,
    udp_pct: f64,
    icmp_pct: f64,
    outbound_pps: u64,
    outbound_bps: u64,
    new_flows: u64,
    sources: u64,
    classes: serde_json::Map<String, serde_json::Value>,
    foreign: u64,
    late: u64,
    undecodable: serde_json::Map<String, serde_json::Value>,
    lost_ring: u64,
    lost_interface: u64,
    delayed: u64,
}

impl SecondLine {
    fn of(second: &TrafficSecond) -> Self {
        let protocols = &second.inbound.protocols;
        let all = second.inbound.wire().packets;
        let share = |packets: u64| percent(permille(packets, all));
        Self {
            schema: SCHEMA,
            event: "second",
            recorded_at: second.start.to_string(),
            pps: second.pps,
            bps: second.bps,
            from_interface: second.from_interface,
            tcp_pct: share(protocols.of(6)),
            udp_pct: share(protocols.of(17)),
            icmp_pct: share(protocols.of(1) + protocols.of(58)),
            outbound_pps: second.outbound.frames.packets,
            outbound_bps: second.outbound.frames.bits,
            new_flows: second.inbound_ends.new_flows,
            sources: second.inbound_ends.sources.count,
            classes: by_class(&second.inbound),
            foreign: second.foreign,
            late: second.late,
            undecodable: by_reason(&second.undecodable),
            lost_ring: second.loss.ring,
            lost_interface: second.loss.interface,
            delayed: second.loss.delayed,
        }
    }
}

#[derive(Serialize)]
struct SummaryLine {
    schema: u32,
    event: &'static str,
    hosts: Vec<String>,
    hosts_guessed: bool,
    packets: u64,
    bytes: u64,
    seconds: f64,
    inbound: u64,
    outbound: u64,
    foreign: u64,
    late: u64,
    gaps: u64,
    undecodable: serde_json::Map<String, serde_json::Value>,
    incidents: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Inbound packets by class, those there are.
fn by_class(tally: &Tally) -> serde_json::Map<String, serde_json::Value> {
    TrafficClass::ALL
        .into_iter()
        .map(|class| (class, tally.class(class).packets))
        .filter(|(_, packets)| *packets > 0)
        .map(|(class, packets)| (class.name().to_owned(), packets.into()))
        .collect()
}

/// What could not be taken apart, by reason.
fn by_reason(counts: &[u64; Undecodable::COUNT]) -> serde_json::Map<String, serde_json::Value> {
    Undecodable::ALL
        .into_iter()
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| (reason.name().to_owned(), (*count).into()))
        .collect()
}

/// From the first packet to the last, in seconds with milliseconds.
fn seconds(summary: &Summary) -> f64 {
    match (summary.first_at, summary.last_at) {
        (Some(first), Some(last)) => {
            f64::from(u32::try_from(last.millis_since(first)).unwrap_or(u32::MAX)) / 1_000.0
        }
        _ => 0.0,
    }
}

/// A network for people: a single address without its prefix length.
fn network(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}
