//! The JSON lines that `run --events -` and `replay --json` print.

use std::collections::BTreeMap;

use ftagent::clock::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// An incident as the agent tells it. Every field must be there: these names are a contract.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Incident {
    pub(crate) id: Value,
    pub(crate) attack_family: String,
    pub(crate) attack_subtype: String,
    pub(crate) severity: String,
    pub(crate) peak_pps: u64,
    pub(crate) peak_bps: u64,
    pub(crate) source_ip_count: u64,
    pub(crate) top_src_ips: Vec<Value>,
    pub(crate) vectors: Vec<Value>,
    pub(crate) confidence: u64,
    pub(crate) started_at: String,
    pub(crate) ended_at: Option<String>,
    pub(crate) ended_unseen: bool,
    pub(crate) interruptions: u64,
    pub(crate) threshold_pps: Option<u64>,
    pub(crate) detected_after_ms: u64,
    pub(crate) pulses: u64,
    pub(crate) lost_ring: u64,
    pub(crate) delayed: u64,
}

/// What a line tells.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// One second of traffic.
    Second(Second),
    /// An incident began.
    Opened(Incident),
    /// It changed or goes on.
    Updated(Incident),
    /// It ended.
    Resolved(Incident),
    /// The last line.
    Summary(Value),
}

/// The totals of one second.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Second {
    pub(crate) recorded_at: Timestamp,
    pub(crate) pps: u64,
    pub(crate) bps: u64,
    /// Inbound packets that capture saw, by class.
    pub(crate) classes: BTreeMap<String, u64>,
    pub(crate) lost_ring: u64,
    pub(crate) lost_interface: u64,
    pub(crate) delayed: u64,
}

/// A line and when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Wall clock.
    pub(crate) at: Timestamp,
    /// What it said.
    pub(crate) event: Event,
}

impl Event {
    /// The event of one line; panics when it is none, because then the contract is broken.
    pub(crate) fn parse(line: &str) -> Self {
        let mut value: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        assert_eq!(
            value.get("schema").and_then(Value::as_u64),
            Some(1),
            "every line names its schema: {line}"
        );
        let kind = value
            .get("event")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let incident = |value: &mut Value| {
            serde_json::from_value(
                value
                    .get_mut("incident")
                    .map(Value::take)
                    .unwrap_or_default(),
            )
            .unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        match kind.as_str() {
            "second" => Self::Second(
                serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}: {line}")),
            ),
            "incident_opened" => Self::Opened(incident(&mut value)),
            "incident_updated" => Self::Updated(incident(&mut value)),
            "incident_resolved" => Self::Resolved(incident(&mut value)),
            "summary" => Self::Summary(value),
            other => panic!("unknown event {other:?}: {line}"),
        }
    }

    /// The incident it tells of.
    pub(crate) fn incident(&self) -> Option<&Incident> {
        match self {
            Self::Opened(incident) | Self::Updated(incident) | Self::Resolved(incident) => {
                Some(incident)
            }
            Self::Second(_) | Self::Summary(_) => None,
        }
    }

    /// Whether it opens an incident.
    pub(crate) fn opens(&self) -> bool {
        matches!(self, Self::Opened(_))
    }

    /// Whether it resolves one.
    pub(crate) fn resolves(&self) -> bool {
        matches!(self, Self::Resolved(_))
    }
}

/// How a line is told when a test fails.
pub(crate) fn told(events: &[Seen]) -> String {
    let line = |seen: &Seen| match &seen.event {
        Event::Second(second) => format!("{} second {} pps", seen.at, second.pps),
        Event::Summary(summary) => format!("{} summary {summary}", seen.at),
        event => format!("{} {event:?}", seen.at),
    };
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}
