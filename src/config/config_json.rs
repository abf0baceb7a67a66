//! The published agent's own file, read as it is: one JSON object, unknown names ignored.
//!
//! What means here what it means there is honoured; everything else is accepted, and said once. Text in, lines out.
//! Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::key::{Key, LEVELS};
use super::lines::{Found, Line, Lines, name_shown};
use super::origin::Origin;
use super::problem::Problem;
use super::value::{Given, Kind};

/// What the published agent knows beside the names that are honoured. Its example file and its other programs' names
/// are here too, though it ignores them itself.
const NOT_USED: [&str; 39] = [
    "pcap_enabled",
    "pcap_mode",
    "pcap_dir",
    "pcap_snaplen",
    "pcap_retention_days",
    "pcap_max_disk_mb",
    "pcap_max_packets",
    "pcap_max_seconds",
    "pcap_lazy",
    "log_file",
    "baseline_window",
    "baseline_window_minutes",
    "dynamic_threshold",
    "heartbeat_interval",
    "metrics_interval",
    "health_port",
    "auto_update",
    "velocity_detection",
    "preferred_firewall",
    "ioc_patterns",
    "ip_blocklist",
    "flow_enabled",
    "flow_protocol",
    "flow_port",
    "flow_bind",
    "flow_sample_rate",
    "flow_source_ips",
    "gre_mode",
    "gre_max_depth",
    "hypervisor_mode",
    "vm_labels",
    "mirror_mode",
    "mirror_interface",
    "mirror_subnets",
    "mirror_ip_labels",
    "mirror_capture_mode",
    "agones_sidecar",
    "agones_sidecar_port",
    "_dashboard",
];

/// Names that one notice lists. A file with more is not a file of that agent.
const NAMES_TOLD_MAX: usize = 60;

/// What the file at `path` says.
pub(super) fn read(text: &str, path: &Arc<PathBuf>) -> Found {
    let mut reader = Reader {
        path,
        lines: Lines::of(text),
        found: Found::default(),
        not_used: BTreeSet::new(),
        unknown: BTreeSet::new(),
    };
    match serde_json::from_str::<Members<'_>>(text) {
        Ok(Members(members)) => {
            for (name, raw) in members {
                let start = raw.get().as_ptr().addr();
                let start = start.saturating_sub(text.as_ptr().addr());
                match serde_json::from_str::<Json>(raw.get()) {
                    Ok(value) => reader.member(&name, &value, start),
                    Err(error) => reader.broken(&error, start),
                }
            }
        }
        Err(error) => reader.broken(&error, 0),
    }
    reader.finish()
}

struct Reader<'a> {
    path: &'a Arc<PathBuf>,
    lines: Lines,
    found: Found,
    not_used: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Reader<'_> {
    fn member(&mut self, name: &str, value: &Json, start: usize) {
        let key = match name {
            "api_key" => Key::ApiKey,
            "node_uuid" => Key::NodeUuid,
            "api_base" => Key::ApiBase,
            "interface" => Key::Interfaces,
            "log_level" => return self.log_level(value, start),
            "threshold_multiplier" => return self.multiplier(value, start),
            "api_url" => {
                let line = self.lines.number(start);
                return self.notice(format!(
                    "api_url: is not used, neither here nor by the published agent; what counts is api_base, else \
                     https://flowtriq.com/api/v1 (in {}, line {line})",
                    self.path.display()
                ));
            }
            _ => {
                let names = if NOT_USED.contains(&name) {
                    &mut self.not_used
                } else {
                    &mut self.unknown
                };
                names.insert(name_shown(name));
                return;
            }
        };
        // As if it were not there.
        if !value.is_null() {
            self.set(key, given(value), start);
        }
    }

    /// A level of another logging system is no reason not to start.
    fn log_level(&mut self, value: &Json, start: usize) {
        let level = value.as_str().unwrap_or_default();
        let level = Given::Text(level.to_owned());
        if Kind::Choice(LEVELS).read(&level).is_ok() {
            self.set(Key::LogLevel, level, start);
        } else {
            self.keeps("log_level", &level, "log.level", start);
        }
    }

    /// The published agent ignores it: a value that cannot be honoured is no reason not to start.
    fn multiplier(&mut self, value: &Json, start: usize) {
        let given = match value.as_f64() {
            // Its documentation writes 3.0.
            Some(number) if number.fract() == 0.0 => format!("{number:.0}")
                .parse()
                .map_or(Given::Huge, Given::Integer),
            Some(_) => Given::Fraction,
            None => given(value),
        };
        if Key::Multiplier.kind().read(&given).is_ok() {
            self.set(Key::Multiplier, given, start);
        } else {
            self.keeps(
                "threshold_multiplier",
                &given,
                "detection.multiplier",
                start,
            );
        }
    }

    fn keeps(&mut self, name: &str, value: &Given, ours: &str, start: usize) {
        let line = self.lines.number(start);
        self.notice(format!(
            "{name}: {} cannot be used; {ours} stays as it is (in {}, line {line})",
            value.description(),
            self.path.display()
        ));
    }

    fn set(&mut self, key: Key, given: Given, start: usize) {
        let origin = self.origin(self.lines.number(start));
        self.found.lines.push(Line::Setting(key, given, origin));
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File {
            path: Arc::clone(self.path),
            line,
        }
    }

    fn notice(&mut self, notice: String) {
        self.found.notices.push(notice);
    }

    fn broken(&mut self, error: &serde_json::Error, start: usize) {
        self.found.is_broken = true;
        let reason = match error.classify() {
            // What it found instead may be a key.
            Category::Data => "it is not one object".to_owned(),
            _ => {
                let told = error.to_string();
                let place = told.rfind(" at line ").unwrap_or(told.len());
                told.get(..place).unwrap_or_default().to_owned()
            }
        };
        // Within a value, lines are counted from where it begins.
        let line = self.lines.number(start) + error.line().saturating_sub(1);
        let problem = Problem::Syntax {
            format: "JSON",
            reason,
            origin: self.origin(line),
        };
        self.found.lines.push(Line::Problem(problem));
    }

    fn finish(mut self) -> Found {
        let path = self.path.display();
        let not_used = listed(self.not_used);
        let unknown = listed(self.unknown);
        let notices = [
            not_used.map(|names| format!("{path}: not used by this agent (yet): {names}")),
            unknown.map(|names| format!("{path}: unknown and ignored: {names}")),
        ];
        self.found.notices.extend(notices.into_iter().flatten());
        self.found
    }
}

/// Names as a list; none when there are none.
fn listed(names: BTreeSet<String>) -> Option<String> {
    let more = names.len().saturating_sub(NAMES_TOLD_MAX);
    let told: Vec<String> = names.into_iter().take(NAMES_TOLD_MAX).collect();
    let list = told.join(", ");
    match (list.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(list),
        (false, more) => Some(format!("{list} and {more} more")),
    }
}

fn given(value: &Json) -> Given {
    match value {
        Json::String(text) => Given::Text(text.clone()),
        Json::Bool(on) => Given::Switch(*on),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Given::Integer(number.into()),
            (_, Some(number)) => Given::Integer(number.into()),
            _ => Given::Fraction,
        },
        Json::Array(entries) => Given::List(entries.iter().map(given).collect()),
        Json::Object(_) | Json::Null => Given::Table,
    }
}

/// The members of an object in order, a name that comes twice included, each value where it stands in the text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
