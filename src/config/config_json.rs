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

use super::key::Key;
use super::lines::{Found, Line, Lines, name_shown};
use super::origin::Origin;
use super::problem::Problem;
use super::value::Given;

/// What the published agent knows and this one has no use for yet: captures of attacks, indicators, what it would tell on
/// this host, what it would set a filter with.
const NOT_YET: [&str; 13] = [
    "pcap_enabled",
    "pcap_mode",
    "pcap_dir",
    "pcap_snaplen",
    "pcap_retention_days",
    "pcap_max_disk_mb",
    "pcap_max_packets",
    "pcap_max_seconds",
    "pcap_lazy",
    "ioc_patterns",
    "ip_blocklist",
    "health_port",
    "preferred_firewall",
];

/// What else it knows. Its example file's and its other programs' names are here too, though it ignores them itself.
const WITHOUT_MEANING: [&str; 24] = [
    "log_file",
    "baseline_window",
    "baseline_window_minutes",
    "dynamic_threshold",
    "auto_update",
    "velocity_detection",
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
        not_yet: BTreeSet::new(),
        without_meaning: BTreeSet::new(),
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
    not_yet: BTreeSet<String>,
    without_meaning: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Reader<'_> {
    fn member(&mut self, name: &str, value: &Json, start: usize) {
        if value.is_null() {
            // As if it were not there.
            return;
        }
        let key = match name {
            "api_key" => Key::ApiKey,
            "node_uuid" => Key::NodeUuid,
            "api_base" => Key::ApiBase,
            "interface" => Key::Interfaces,
            "log_level" => return self.wish(name, Key::LogLevel, value, start),
            "threshold_multiplier" => return self.wish(name, Key::Multiplier, value, start),
            "heartbeat_interval" => return self.wish(name, Key::HeartbeatSeconds, value, start),
            "metrics_interval" => return self.wish(name, Key::MetricsSeconds, value, start),
            "api_url" => {
                let line = self.lines.number(start);
                return self.notice(format!(
                    "api_url: is not used, neither here nor by the published agent; what counts is api_base, else \
                     https://flowtriq.com/api/v1 (in {}, line {line})",
                    self.path.display()
                ));
            }
            _ => {
                let names = if NOT_YET.contains(&name) {
                    &mut self.not_yet
                } else if WITHOUT_MEANING.contains(&name) {
                    &mut self.without_meaning
                } else {
                    &mut self.unknown
                };
                names.insert(name_shown(name));
                return;
            }
        };
        self.set(key, given(value), start);
    }

    /// What the published agent takes from elsewhere, or ignores: a value that cannot be honoured is no reason not to
    /// start.
    fn wish(&mut self, name: &str, key: Key, value: &Json, start: usize) {
        let given = match value.as_f64() {
            // Its documentation writes 3.0.
            Some(number) if number.fract() == 0.0 => format!("{number:.0}")
                .parse()
                .map_or(Given::Huge, Given::Integer),
            _ => given(value),
        };
        match key.kind().read(&given) {
            Ok(_) => self.set(key, given, start),
            Err(misfit) => {
                let line = self.lines.number(start);
                self.notice(format!(
                    "{name}: expected {}, found {}; {key} stays as it is (in {}, line {line})",
                    misfit.expected,
                    misfit.found,
                    self.path.display()
                ));
            }
        }
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
        for (what, names) in [
            ("read, but not used yet", self.not_yet),
            ("without meaning for this agent", self.without_meaning),
            ("unknown and ignored", self.unknown),
        ] {
            let names = listed(names);
            let notice = names.map(|names| format!("{path}: {what}: {names}"));
            self.found.notices.extend(notice);
        }
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
            _ => Given::Fraction(number.as_f64().unwrap_or(f64::NAN)),
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
