//! `ftagent demo`: what the agent does, shown in a minute, without rights, account or network.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time;

use serde::Serialize;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::output::{JsonLines, Reporter, SCHEMA, sentence};
use super::{Exit, Failure};
use crate::agent::{self, DemoSettings, DemoSummary, Moment};
use crate::count::TrafficSecond;
use crate::demo::platform::{Call, Received};
use crate::engine::Outcome;
use crate::incident::{Event, Explanation};
use crate::uplink::PlatformValues;
use crate::words::{Bits, Duration, Thousands};

/// Arguments of `ftagent demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Play so many times faster than it happened, at most 20
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    speed: u32,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl DemoArguments {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The second one ends it at once.
            flag::register_conditional_shutdown(
                signal,
                Exit::Failed as i32,
                Arc::clone(&interrupted),
            )
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")))?;
        }
        let settings = DemoSettings { speed: self.speed };
        let out = io::stdout().lock();
        if self.json {
            show(settings, &interrupted, &mut Lines { out })
        } else {
            show(settings, &interrupted, &mut Story::new(out))
        }
    }
}

/// Tells what happens.
trait Teller {
    fn tell(&mut self, played: time::Duration, moment: Moment<'_>) -> io::Result<()>;
    fn end(&mut self, summary: &DemoSummary) -> io::Result<()>;
}

fn show(
    settings: DemoSettings,
    interrupted: &AtomicBool,
    teller: &mut dyn Teller,
) -> Result<(), Failure> {
    let mut told = Ok(());
    let mut watch = |played, moment: Moment<'_>| {
        if told.is_ok() {
            told = teller.tell(played, moment);
            if told.is_err() {
                // Nobody hears us any more.
                interrupted.store(true, Ordering::Relaxed);
            }
        }
    };
    let summary = agent::demo(settings, interrupted, &mut watch)
        .map_err(|error| Failure::failed(error.to_string()))?;
    match told.and_then(|()| teller.end(&summary)) {
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("standard output: {error}"))),
        Ok(()) if summary.refused > 0 => Err(Failure::failed(format!(
            "the platform found something wrong with {} requests; --json shows what",
            summary.refused
        ))),
        Ok(()) => Ok(()),
    }
}

/// A sample is shown so often, in seconds of the recording.
const SHOWN_EVERY: u64 = 5;

/// Lines for people.
struct Story<W> {
    out: W,
    seconds: u64,
    is_alive: bool,
    /// The end was seen; the next report is the last.
    is_over: bool,
}

impl<W: Write> Story<W> {
    const fn new(out: W) -> Self {
        Self {
            out,
            seconds: 0,
            is_alive: false,
            is_over: false,
        }
    }

    fn line(&mut self, played: time::Duration, text: &str) -> io::Result<()> {
        let tenths = played.as_millis() / 100;
        writeln!(self.out, "{:>3}.{} s  {text}", tenths / 10, tenths % 10)
    }

    fn found(&mut self, played: time::Duration, outcome: &Outcome) -> io::Result<()> {
        for event in &outcome.events {
            self.line(played, &sentence(event))?;
            if let Event::Resolved(incident) = event {
                self.is_over = true;
                for sentence in Explanation::of(incident).sentences {
                    writeln!(self.out, "             {sentence}")?;
                }
            }
        }
        let Some(second) = &outcome.second else {
            return Ok(());
        };
        self.seconds += 1;
        if self.seconds % SHOWN_EVERY == 1 {
            let text = traffic(second);
            self.line(played, &text)?;
        }
        Ok(())
    }

    fn heard(
        &mut self,
        played: time::Duration,
        received: &Received,
        after: Option<time::Duration>,
    ) -> io::Result<()> {
        let text = match &received.call {
            Call::Refused => format!(
                "platform: something is wrong with {} {}: {}",
                received.method,
                received.path,
                received.violations.join("; ")
            ),
            Call::Heartbeat(heartbeat) if !self.is_alive => {
                self.is_alive = true;
                let version = heartbeat.agent_version.as_deref().unwrap_or_default();
                format!("platform: the node is online, with version {version} of the agent")
            }
            Call::Incident(incident) => {
                let severity = incident.severity.as_deref().unwrap_or_default();
                let told = match after {
                    Some(after) => format!("opened, {} ms after it was seen", millis(after)),
                    // The contract has no word for the end.
                    None if std::mem::take(&mut self.is_over) => "updated a last time".to_owned(),
                    None => "updated".to_owned(),
                };
                format!(
                    "platform: the incident is {told}: {} {severity}, peak {:.0} packets/s, {}",
                    incident.attack_family,
                    incident.peak_pps,
                    sources(incident.source_ip_count)
                )
            }
            _ => return Ok(()),
        };
        self.line(played, &text)
    }
}

impl<W: Write> Teller for Story<W> {
    fn tell(&mut self, played: time::Duration, moment: Moment<'_>) -> io::Result<()> {
        match moment {
            Moment::Ready { base, length } => {
                writeln!(
                    self.out,
                    "{} of recorded traffic: people on a web server, and a SYN flood over them. No packet is sent.\n\
                     The platform is a stand-in inside this process, at {base}. Ctrl-C ends it.\n",
                    Duration(millis(length)),
                )?;
            }
            Moment::Configured(values) => self.line(played, &wanted(values))?,
            Moment::Found(outcome) => self.found(played, &outcome)?,
            Moment::Heard(received, after) => self.heard(played, received, after)?,
        }
        self.out.flush()
    }

    fn end(&mut self, summary: &DemoSummary) -> io::Result<()> {
        let told = match summary.told_after {
            Some(after) => format!(
                ", told to the platform {} ms after it was seen",
                millis(after)
            ),
            None => String::new(),
        };
        let verdict = match summary.refused {
            0 => "found nothing wrong with any of it".to_owned(),
            refused => format!("found something wrong with {refused} requests"),
        };
        let how = if summary.is_whole { "" } else { ", then ended" };
        writeln!(
            self.out,
            "\nPlayed {} packets in {} seconds of traffic{how}. Incidents: {}{told}.\n\
             The platform received {} samples, {} calls about incidents and {} heartbeats, was asked {} times for its \
             configuration, and {verdict}.\n\
             `ftagent run --local` watches this host; `ftagent replay FILE --explain` reads a capture.",
            Thousands(summary.packets),
            summary.seconds,
            summary.incidents,
            summary.samples,
            summary.incident_calls,
            summary.heartbeats,
            summary.config_calls,
        )?;
        self.out.flush()
    }
}

/// What the platform wants, in words.
fn wanted(values: &PlatformValues) -> String {
    let limit = match values.pps_threshold {
        Some(limit) => format!("an incident from {} packets/s on", Thousands(limit)),
        None => "no limit of its own".to_owned(),
    };
    let normal = match (values.mean_pps, values.p99_pps) {
        (Some(mean), Some(p99)) => format!(
            "; it calls {} packets/s normal, and {} still usual",
            Thousands(mean),
            Thousands(p99)
        ),
        _ => String::new(),
    };
    format!("platform: wants {limit}{normal}")
}

/// A second of traffic, in words.
fn traffic(second: &TrafficSecond) -> String {
    format!(
        "traffic: {} packets/s, {}/s, from {}",
        Thousands(second.pps),
        Bits(second.bps),
        sources(second.inbound_ends.sources.count),
    )
}

fn sources(count: u64) -> String {
    match count {
        1 => "1 source".to_owned(),
        count => format!("{} sources", Thousands(count)),
    }
}

fn millis(duration: time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One JSON object a line.
struct Lines<W> {
    out: W,
}

impl<W: Write> Lines<W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }
}

impl<W: Write> Teller for Lines<W> {
    fn tell(&mut self, played: time::Duration, moment: Moment<'_>) -> io::Result<()> {
        let played_ms = millis(played);
        match moment {
            Moment::Ready { base, length } => self.line(&ReadyLine {
                schema: SCHEMA,
                event: "demo_ready",
                api_base: base,
                length_ms: millis(length),
            }),
            Moment::Configured(values) => self.line(&ConfiguredLine {
                schema: SCHEMA,
                event: "demo_configured",
                played_ms,
                pps_threshold: values.pps_threshold,
                mean_pps: values.mean_pps,
                p99_pps: values.p99_pps,
            }),
            // The very lines that run and replay print.
            Moment::Found(outcome) => JsonLines::new(&mut self.out, true, false)
                .outcome(*outcome)
                .and_then(|()| self.out.flush()),
            Moment::Heard(received, after) => self.line(&HeardLine {
                schema: SCHEMA,
                event: "demo_received",
                played_ms,
                endpoint: received.endpoint.name(),
                status: received.status,
                told_after_ms: after.map(millis),
                violations: &received.violations,
                body: &received.body,
            }),
        }
    }

    fn end(&mut self, summary: &DemoSummary) -> io::Result<()> {
        self.line(&SummaryLine {
            schema: SCHEMA,
            event: "demo_summary",
            packets: summary.packets,
            seconds: summary.seconds,
            incidents: summary.incidents,
            whole: summary.is_whole,
            told_after_ms: summary.told_after.map(millis),
            received_heartbeats: summary.heartbeats,
            received_samples: summary.samples,
            received_incident_calls: summary.incident_calls,
            received_config_calls: summary.config_calls,
            refused: summary.refused,
        })
    }
}

#[derive(Serialize)]
struct ReadyLine<'a> {
    schema: u32,
    event: &'static str,
    api_base: &'a str,
    length_ms: u64,
}

#[derive(Serialize)]
struct ConfiguredLine {
    schema: u32,
    event: &'static str,
    played_ms: u64,
    pps_threshold: Option<u64>,
    mean_pps: Option<u64>,
    p99_pps: Option<u64>,
}

#[derive(Serialize)]
struct HeardLine<'a> {
    schema: u32,
    event: &'static str,
    played_ms: u64,
    endpoint: &'static str,
    status: u16,
    told_after_ms: Option<u64>,
    violations: &'a [String],
    body: &'a Value,
}

#[derive(Serialize)]
struct SummaryLine {
    schema: u32,
    event: &'static str,
    packets: u64,
    seconds: u64,
    incidents: u64,
    whole: bool,
    told_after_ms: Option<u64>,
    received_heartbeats: u64,
    received_samples: u64,
    received_incident_calls: u64,
    received_config_calls: u64,
    refused: u64,
}
