//! Reading what the platform answers: tolerant of shapes, strict about sizes.
//!
//! Everything here is hostile until proven otherwise: it may come from a captive portal, a proxy, or somebody who owns the
//! platform. Numbers may be strings, keys may be missing or new, lists may be objects; nothing of that is an error. Depth,
//! lengths, counts and ranges are bounded, and texts lose what could forge a log line. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ledger::PlatformIds;

/// Longest answer read, in bytes. The largest documented one, a configuration with all its lists, has a few kilobytes.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Deepest answer read. The documented ones go four deep.
const DEPTH_MAX: usize = 32;

/// Indicators kept; the platform's own lists have some dozens.
const PATTERNS_MAX: usize = 4_096;

/// Commands kept, so that ten thousand of them are neither memory nor log lines.
const COMMANDS_MAX: usize = 256;

/// Longest name, title or protocol, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Longest indicator and longest command, in characters. The longest documented command has 200.
const TEXT_CHARS_MAX: usize = 4_096;

/// Highest limit taken: above what any link carries (1.6 Tbit/s are 2.4 billion packets a second).
const PPS_MAX: u64 = 1_000_000_000_000;

/// Longest incident name of the platform's; a UUID has 36.
const UUID_CHARS_MAX: usize = 64;

/// What the platform wants of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlatformValues {
    /// The platform's number for this node.
    pub node_id: Option<i64>,
    /// The limit in packets a second; `None` when it sets none.
    pub pps_threshold: Option<u64>,
    /// What it takes for this node's mean, in packets a second.
    pub mean_pps: Option<u64>,
    /// What it takes for this node's 99th percentile, in packets a second.
    pub p99_pps: Option<u64>,
    /// Indicators to look for.
    pub patterns: Vec<Pattern>,
    /// What it would like to be run here. Shown; never run by this room.
    pub commands: Vec<PendingCommand>,
    /// Whether the subscription is suspended: the platform then takes nothing.
    pub suspended: bool,
}

/// An indicator of compromise. The seed contract gives a name and a protocol, the resource contract bytes and a family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pattern {
    /// The platform's number.
    pub id: Option<i64>,
    /// What it stands for.
    pub name: String,
    /// The attack family it speaks for.
    pub family: Option<String>,
    /// The protocol it is looked for in.
    pub protocol: Option<String>,
    /// What to look for in payloads; without it there is nothing to search.
    pub pattern: Option<String>,
}

/// Something the platform would like to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PendingCommand {
    /// The platform's number; without one it cannot be told from a repetition, nor answered.
    pub id: Option<i64>,
    /// `command` in the seed contract, the type given in the resource contract (`iptables` when none is), and
    /// [`UNKNOWN`](Self::UNKNOWN).
    pub kind: String,
    /// The command; of an unknown kind, the whole entry as JSON, cut where it is too long.
    pub text: String,
    /// What it is for, if that is said.
    pub title: String,
}

impl PendingCommand {
    /// The kind of an entry in no form we know, or too long: it can only be shown.
    pub const UNKNOWN: &'static str = "unknown";
}

impl PlatformValues {
    /// What the uplink put into the ledger, for a start without the platform. `None` when that cannot be read.
    #[must_use]
    pub fn remembered(stored: &str) -> Option<Self> {
        serde_json::from_str(stored).ok()
    }

    /// These values after the configuration `answer`, and what in it could not be used.
    ///
    /// A missing limit is no limit; other missing keys, and all of them in an empty answer, leave what was there.
    pub(super) fn updated(&self, answer: &Map<String, Value>) -> (Self, Vec<String>) {
        let mut notices = Vec::new();
        let mut new = self.clone();
        if answer.is_empty() {
            return (new, notices);
        }
        new.suspended = is_suspended(answer);
        if new.suspended {
            // Documented: the rest of such an answer is not for use.
            return (new, notices);
        }
        let mut rate = |key: &str, value: Option<&Value>| match value.map(amount) {
            None | Some(Some(0)) => None,
            Some(Some(pps)) if pps <= PPS_MAX => Some(pps),
            Some(_) if value.is_some_and(Value::is_null) => None,
            Some(_) => {
                let found = shown(value);
                notices.push(format!(
                    "{key}: expected a number from 0 to {PPS_MAX}, found {found}; it is not used"
                ));
                None
            }
        };
        new.pps_threshold = rate("pps_threshold", answer.get("pps_threshold"));
        if let Some(Value::Object(baseline)) = answer.get("baseline") {
            new.mean_pps = rate("baseline.mean_pps", baseline.get("mean_pps"));
            new.p99_pps = rate("baseline.p99_pps", baseline.get("p99_pps"));
        }
        if let Some(id) = answer.get("node_id").and_then(integer) {
            new.node_id = Some(id);
        }
        if let Some(Value::Array(entries)) = answer.get("ioc_patterns") {
            new.patterns = entries
                .iter()
                .filter_map(pattern)
                .take(PATTERNS_MAX)
                .collect();
            let left_out = entries.len() - new.patterns.len();
            if left_out > 0 {
                notices.push(format!(
                    "ioc_patterns: {left_out} of {} entries have no name and no pattern, are too long or too many; \
                     they are not used",
                    entries.len()
                ));
            }
        }
        new.commands = commands(answer);
        (new, notices)
    }
}

/// Whether an answer says that the subscription is suspended.
pub(super) fn is_suspended(answer: &Map<String, Value>) -> bool {
    answer.get("suspended").is_some_and(truth)
}

/// The commands in an answer: a configuration, or what opening an incident was answered with.
pub(super) fn commands(answer: &Map<String, Value>) -> Vec<PendingCommand> {
    let Some(Value::Array(entries)) = answer.get("pending_commands") else {
        return Vec::new();
    };
    entries
        .iter()
        .filter_map(command)
        .take(COMMANDS_MAX)
        .collect()
}

/// One command in either contract's form; `None` for one that says nothing.
fn command(entry: &Value) -> Option<PendingCommand> {
    let field = |key: &str| entry.get(key).and_then(Value::as_str);
    let id = entry.get("id").and_then(integer).filter(|id| *id != 0);
    let title = field("title").map(|title| plain(title, NAME_CHARS_MAX));
    let title = title.unwrap_or_default();
    let (kind, text) = match (field("command"), field("command_text")) {
        (Some(text), _) => ("command".to_owned(), text),
        (None, Some(text)) => {
            let kind = field("command_type").unwrap_or("iptables");
            (plain(kind, NAME_CHARS_MAX), text)
        }
        (None, None) => {
            return Some(PendingCommand {
                id,
                kind: PendingCommand::UNKNOWN.to_owned(),
                text: shown(Some(entry)),
                title,
            });
        }
    };
    if text.trim().is_empty() {
        return None;
    }
    // Cut, a command means something else.
    let fits = text.chars().count() <= TEXT_CHARS_MAX;
    Some(PendingCommand {
        id,
        kind: if fits {
            kind
        } else {
            PendingCommand::UNKNOWN.to_owned()
        },
        text: printable(text.chars().take(TEXT_CHARS_MAX), |c| c == '\n'),
        title,
    })
}

/// One indicator in either contract's form.
fn pattern(entry: &Value) -> Option<Pattern> {
    let field = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let name = |key: &str| field(key).map(|text| plain(text, NAME_CHARS_MAX));
    let pattern = field("pattern");
    if pattern.is_some_and(|pattern| pattern.chars().count() > TEXT_CHARS_MAX) {
        return None;
    }
    let found = Pattern {
        id: entry.get("id").and_then(integer),
        name: name("name")
            .or_else(|| name("attack_name"))
            .unwrap_or_default(),
        family: name("attack_family"),
        protocol: name("protocol"),
        // As it is: these are bytes to look for, not words to print.
        pattern: pattern.map(str::to_owned),
    };
    (!found.name.is_empty() || found.pattern.is_some()).then_some(found)
}

/// What the platform calls an incident, wherever in the answer it says so.
pub(super) fn ids(answer: &Map<String, Value>) -> PlatformIds {
    let nested = |key: &str| {
        answer
            .get("incident")
            .and_then(|incident| incident.get(key))
    };
    let id = [answer.get("incident_id"), answer.get("id"), nested("id")];
    let uuid = [
        answer.get("uuid"),
        answer.get("incident_uuid"),
        nested("uuid"),
    ];
    PlatformIds {
        id: id.into_iter().flatten().find_map(integer),
        uuid: uuid
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find(|uuid| is_path_segment(uuid))
            .map(str::to_owned),
    }
}

/// Whether a name of the platform's can stand in a path: what has a slash or a dot in it would lead elsewhere.
fn is_path_segment(name: &str) -> bool {
    (1..=UUID_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Why a body is not an answer of the platform's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadBody {
    NotJson,
    NotAnObject,
    TooDeep,
    NotOk,
}

impl BadBody {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::NotJson => "no JSON (a portal or proxy may be in between)",
            Self::NotAnObject => "JSON, but no object",
            Self::TooDeep => "JSON nested deeper than 32 levels",
            Self::NotOk => "a success that says ok: false",
        }
    }
}

/// The object in the body of a success; an empty body is an empty object.
pub(super) fn read(body: &[u8]) -> Result<Map<String, Value>, BadBody> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    if is_deeper_than(body, DEPTH_MAX) {
        return Err(BadBody::TooDeep);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(answer)) if answer.get("ok") == Some(&Value::Bool(false)) => {
            Err(BadBody::NotOk)
        }
        Ok(Value::Object(answer)) => Ok(answer),
        Ok(_) => Err(BadBody::NotAnObject),
        Err(_) => Err(BadBody::NotJson),
    }
}

/// What an error's body says for people, if it says something: `error`, `error.message`, `error.code` or `message`.
pub(super) fn complaint(body: &[u8]) -> Option<String> {
    if is_deeper_than(body, DEPTH_MAX) {
        return None;
    }
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let error = answer.get("error");
    let within = |key: &str| error.and_then(|error| error.get(key));
    [
        error,
        within("message"),
        within("code"),
        answer.get("message"),
    ]
    .into_iter()
    .flatten()
    .find_map(Value::as_str)
    .map(|text| plain(text, NAME_CHARS_MAX))
    .filter(|text| !text.is_empty())
}

/// Whether JSON goes deeper than `limit`; of what is no JSON, whether it would.
fn is_deeper_than(body: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// `text` on one line, without what a terminal or a log would act on, at most `chars` long.
pub(super) fn plain(text: &str, chars: usize) -> String {
    printable(text.trim().chars().take(chars), |_| false)
}

/// Replaces characters that print nothing or change how others print, except those to keep.
fn printable(text: impl Iterator<Item = char>, keep: impl Fn(char) -> bool) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.map(|c| if acts(c) && !keep(c) { ' ' } else { c })
        .collect()
}

/// A value as JSON, for people; cut where it is long.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(String::new, |value| {
        plain(&value.to_string(), NAME_CHARS_MAX)
    })
}

/// A whole number, as a number or as text.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0)?;
            // Beyond 2^53 a float does not say which whole number it means.
            (whole.abs() <= 9_007_199_254_740_992.0).then(|| format!("{whole:.0}").parse().ok())?
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A rate: a number that is not negative, as a number or as text, rounded.
fn amount(value: &Value) -> Option<u64> {
    let float = match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_u64() {
                return Some(whole);
            }
            number.as_f64()?
        }
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (0.0..=1e18)
        .contains(&float)
        .then(|| format!("{float:.0}").parse().ok())?
}

/// Whether a value means yes.
fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => matches!(text.trim(), "true" | "1"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    fn updated(answer: Value) -> (PlatformValues, Vec<String>) {
        PlatformValues::default().updated(&object(answer))
    }

    #[test]
    fn the_seeds_configuration_is_taken_over() {
        let (values, notices) = updated(json!({
            "node_id": 12,
            "pps_threshold": 45_000,
            "baseline": {"p99_pps": 8_100.6, "mean_pps": 2_000},
            "ioc_patterns": [{"id": 3, "name": "mozi-scan", "protocol": "tcp"}],
            "pending_commands": [{"id": 9, "command": "nft add rule"}],
        }));
        assert_eq!(notices, [""; 0]);
        assert_eq!(
            (values.node_id, values.pps_threshold),
            (Some(12), Some(45_000))
        );
        assert_eq!(
            (values.mean_pps, values.p99_pps),
            (Some(2_000), Some(8_101))
        );
        assert_eq!(values.patterns.len(), 1);
        assert_eq!(values.patterns[0].name, "mozi-scan");
        assert_eq!(values.patterns[0].protocol.as_deref(), Some("tcp"));
        assert_eq!(values.patterns[0].pattern, None);
        let [command] = values.commands.as_slice() else {
            panic!("one command, not {:?}", values.commands)
        };
        assert_eq!((command.id, command.kind.as_str()), (Some(9), "command"));
        assert_eq!(command.text, "nft add rule");
    }

    #[test]
    fn the_resource_contracts_configuration_is_taken_over() {
        let (values, notices) = updated(json!({
            "suspended": false,
            "pps_threshold": null,
            "ioc_patterns": [{"pattern": "\u{1}x", "attack_name": "Gafgyt", "attack_family": "udp_flood"}],
            "pending_commands": [
                {"id": 4, "command_type": "xdp", "command_text": "{}", "title": "Drop\u{1b}[2J"},
                {"id": 5, "command_text": "a\nb\r"},
            ],
            "mirror_ip_labels": ["odd"],
        }));
        assert_eq!(notices, [""; 0]);
        assert_eq!(values.pps_threshold, None);
        assert_eq!(values.patterns[0].pattern.as_deref(), Some("\u{1}x"));
        assert_eq!(values.patterns[0].family.as_deref(), Some("udp_flood"));
        let kinds: Vec<&str> = values.commands.iter().map(|c| c.kind.as_str()).collect();
        assert_eq!(kinds, ["xdp", "iptables"]);
        assert_eq!(values.commands[0].title, "Drop [2J");
        assert_eq!(values.commands[1].text, "a\nb ");
    }

    #[test]
    fn no_limit_is_said_in_many_ways() {
        for none in [json!(null), json!(0), json!("0"), json!(0.2)] {
            let (values, notices) = updated(json!({"pps_threshold": none}));
            assert_eq!((values.pps_threshold, notices.len()), (None, 0), "{none}");
        }
        let (values, _) = updated(json!({"node_id": "7"}));
        assert_eq!((values.pps_threshold, values.node_id), (None, Some(7)));
    }

    #[test]
    fn a_limit_may_be_text_but_must_be_a_limit() {
        for (given, taken) in [
            (json!("25000"), Some(25_000)),
            (json!(36_000.4), Some(36_000)),
            (json!(" 1e3 "), Some(1_000)),
        ] {
            assert_eq!(
                updated(json!({"pps_threshold": given})).0.pps_threshold,
                taken
            );
        }
        for odd in [
            json!(-5),
            json!(1e300),
            json!("NaN"),
            json!("inf"),
            json!("many"),
            json!([1]),
            json!(true),
            json!(2_000_000_000_000_u64),
        ] {
            let (values, notices) = updated(json!({"pps_threshold": odd}));
            assert_eq!(values.pps_threshold, None, "{odd}");
            assert_eq!(notices.len(), 1, "{odd}");
            assert!(notices[0].contains("pps_threshold"), "{notices:?}");
        }
    }

    #[test]
    fn an_empty_answer_and_missing_keys_leave_what_was_there_but_the_limit() {
        let (before, _) = updated(json!({
            "node_id": 1, "pps_threshold": 9, "baseline": {"mean_pps": 5},
            "ioc_patterns": [{"id": 1, "name": "x"}],
            "pending_commands": [{"id": 1, "command": "y"}],
        }));
        assert_eq!(before.updated(&Map::new()).0, before);
        let (after, _) = before.updated(&object(json!({"dynamic_threshold": true})));
        let expected = PlatformValues {
            pps_threshold: None,
            commands: Vec::new(),
            ..before.clone()
        };
        assert_eq!(after, expected);
        let (suspended, _) =
            before.updated(&object(json!({"suspended": true, "pps_threshold": 1})));
        assert_eq!(
            suspended,
            PlatformValues {
                suspended: true,
                ..before
            }
        );
    }

    #[test]
    fn what_is_remembered_can_be_read_again_and_rubbish_cannot() {
        let (values, _) = updated(json!({"node_id": 1, "pps_threshold": 9}));
        let stored = serde_json::to_string(&values).unwrap();
        assert_eq!(PlatformValues::remembered(&stored), Some(values));
        assert_eq!(PlatformValues::remembered("{\"node_id\":"), None);
        // Of an older version.
        assert!(PlatformValues::remembered("{}").is_some());
    }

    #[test]
    fn a_third_form_of_command_is_shown_and_an_empty_one_is_not() {
        let (values, _) = updated(json!({"pending_commands": [
            {"id": 7, "action": "iptables_block", "source_ip": "203.0.113.4"},
            {"id": 8, "command_type": "shell", "command_text": " "},
            "reboot",
            {"id": "10", "command": "x".repeat(5_000)},
            {"id": 0, "command": "z"},
        ]}));
        let found: Vec<(Option<i64>, &str)> = values
            .commands
            .iter()
            .map(|command| (command.id, command.kind.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (Some(7), "unknown"),
                (None, "unknown"),
                (Some(10), "unknown"),
                (None, "command")
            ]
        );
        assert!(values.commands[0].text.contains("iptables_block"));
        assert_eq!(values.commands[2].text.len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn ten_thousand_commands_and_indicators_are_bounded() {
        let many = |entry: fn(usize) -> Value| (0..10_000).map(entry).collect::<Vec<_>>();
        let (values, notices) = updated(json!({
            "pending_commands": many(|id| json!({"id": id, "command": "x"})),
            "ioc_patterns": many(|id| json!({"id": id, "name": "x"})),
        }));
        assert_eq!(values.commands.len(), COMMANDS_MAX);
        assert_eq!(values.patterns.len(), PATTERNS_MAX);
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn an_incidents_ids_are_found_wherever_they_stand() {
        for (answer, id, uuid) in [
            (json!({"incident_id": 5}), Some(5), None),
            (json!({"id": "6"}), Some(6), None),
            (
                json!({"ok": true, "incident": {"id": "7", "uuid": "a-b"}}),
                Some(7),
                Some("a-b"),
            ),
            (json!({"incident_uuid": "c_d"}), None, Some("c_d")),
            (
                json!({"uuid": "first", "incident_uuid": "second", "incident_id": 1, "id": 2}),
                Some(1),
                Some("first"),
            ),
            (
                json!({"incident_id": null, "id": 2.0, "uuid": 17}),
                Some(2),
                None,
            ),
            (json!({"incident": "7"}), None, None),
            (json!({}), None, None),
            // These would lead a path elsewhere.
            (json!({"uuid": "../../deploy"}), None, None),
            (json!({"uuid": "a?b"}), None, None),
            (json!({"uuid": ""}), None, None),
            (json!({"uuid": "x".repeat(65)}), None, None),
            (json!({"id": 1e300}), None, None),
        ] {
            let found = ids(&object(answer.clone()));
            assert_eq!((found.id, found.uuid.as_deref()), (id, uuid), "{answer}");
        }
    }

    #[test]
    fn a_success_is_an_object_or_nothing() {
        assert_eq!(read(b""), Ok(Map::new()));
        assert_eq!(read(b" \r\n"), Ok(Map::new()));
        assert_eq!(read(b"{\"a\": 1}").unwrap().len(), 1);
        for (body, bad) in [
            (&b"<!DOCTYPE html><p>Log in"[..], BadBody::NotJson),
            (b"{\"a\": 1", BadBody::NotJson),
            (b"{\"a\": \"\xff\"}", BadBody::NotJson),
            (b"[]", BadBody::NotAnObject),
            (b"null", BadBody::NotAnObject),
            (b"{\"ok\": false}", BadBody::NotOk),
        ] {
            assert_eq!(read(body), Err(bad));
        }
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_text_are_none() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            format!("{{\"a\": {open}{close}}}").into_bytes()
        };
        assert!(read(&nested(32)).is_ok());
        assert_eq!(read(&nested(33)), Err(BadBody::TooDeep));
        assert_eq!(read(&nested(300_000)), Err(BadBody::TooDeep));
        let quoted = format!("{{\"a\": \"\\\"{}\"}}", "[".repeat(100));
        assert!(read(quoted.as_bytes()).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_body_breaks_anything_or_grows_beyond_its_bounds(
            body in proptest::collection::vec(
                proptest::sample::select(&br#"{}[]":,\0-1e9.truefalsn ok_id"#[..]), 0..200,
            ),
            key in proptest::sample::select(&[
                "pps_threshold", "baseline", "ioc_patterns", "pending_commands", "suspended",
                "node_id", "id", "uuid", "incident", "error",
            ][..]),
        ) {
            let text = String::from_utf8_lossy(&body);
            for body in [text.to_string(), format!("{{\"{key}\": {text}}}")] {
                let _ = complaint(body.as_bytes());
                let Ok(answer) = read(body.as_bytes()) else { continue };
                let (values, _) = PlatformValues::default().updated(&answer);
                proptest::prop_assert!(values.pps_threshold.is_none_or(|pps| pps <= PPS_MAX));
                proptest::prop_assert!(ids(&answer).uuid.is_none_or(|uuid| is_path_segment(&uuid)));
            }
        }
    }

    #[test]
    fn what_an_error_says_is_found_and_cannot_forge_a_log_line() {
        for (body, said) in [
            (
                &b"{\"error\": \"Name is missing\"}"[..],
                Some("Name is missing"),
            ),
            (
                b"{\"ok\": false, \"error\": {\"code\": \"e1\", \"message\": \"Bad key\"}}",
                Some("Bad key"),
            ),
            (b"{\"error\": {\"code\": \"e1\"}}", Some("e1")),
            (
                b"{\"message\": \"a\\nftagent: b\\u001b[31m\"}",
                Some("a ftagent: b [31m"),
            ),
            (b"<html>", None),
            (b"", None),
            (b"{\"error\": 5}", None),
            (b"[]", None),
        ] {
            assert_eq!(complaint(body).as_deref(), said);
        }
        let long = format!("{{\"error\": \"{}\"}}", "x".repeat(9_999));
        assert_eq!(complaint(long.as_bytes()).unwrap().len(), 200);
        assert_eq!(complaint("[".repeat(100_000).as_bytes()), None);
    }
}
