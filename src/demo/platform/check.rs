//! The check of a JSON body against the fields it must hold.
//!
//! A fault is told as one sentence that names the field, what was expected and what was found. The seed contract knows
//! no field but its own; the resource contract has grown, so there the required fields must be there, the known ones
//! must have their type, and others are let through. Pure; called by the platform's thread.

use std::net::IpAddr;

use serde_json::Value;

use super::shapes::{Kind, Shape};

/// Whether fields that are in no table may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Refused,
    Allowed,
}

/// Percentages with one decimal may add up to a little more than a hundred.
const WHOLE_PERCENT: f64 = 100.5;

/// Everything that is wrong with `body`, in the order of the table; nothing when it is right.
pub(super) fn faults(body: &Value, shape: Shape, others: Others) -> Vec<String> {
    let mut checker = Checker {
        others,
        faults: Vec::new(),
    };
    checker.object(body, shape, "");
    checker.faults
}

/// Everything that is wrong with a body of the two contracts at once: all fields of one of them must be there and right,
/// and nothing may be there that neither knows.
pub(super) fn union_faults(body: &Value, one: Shape, other: Shape) -> Vec<String> {
    let first = faults(body, one, Others::Allowed);
    let second = faults(body, other, Others::Allowed);
    let mut fewer = if second.len() < first.len() {
        second
    } else {
        first
    };
    let is_known = |name: &str| one.iter().chain(other).any(|field| field.name == name);
    let names = body.as_object().into_iter().flat_map(|body| body.keys());
    fewer.extend(
        names
            .filter(|name| !is_known(name))
            .map(|name| undocumented(name)),
    );
    fewer
}

/// A walk through a body.
struct Checker {
    others: Others,
    faults: Vec<String>,
}

impl Checker {
    fn object(&mut self, value: &Value, shape: Shape, path: &str) {
        let Some(members) = value.as_object() else {
            let name = if path.is_empty() { "body" } else { path };
            return self.mismatch(name, "an object", value);
        };
        let dot = if path.is_empty() { "" } else { "." };
        for field in shape {
            let path = format!("{path}{dot}{}", field.name);
            match members.get(field.name) {
                Some(value) => self.check(value, field.kind, &path),
                None if field.needed => {
                    self.faults.push(format!("{path}: required, and not there"))
                }
                None => {}
            }
        }
        if self.others == Others::Refused {
            let is_known = |name: &str| shape.iter().any(|field| field.name == name);
            let unknown = members.keys().filter(|name| !is_known(name));
            self.faults
                .extend(unknown.map(|name| undocumented(&format!("{path}{dot}{name}"))));
        }
    }

    fn check(&mut self, value: &Value, kind: Kind, path: &str) {
        let expected = match kind {
            Kind::Object(shape) => return self.object(value, shape, path),
            Kind::Shares(shape) => return self.shares(value, shape, path),
            Kind::List(shape, most) => return self.list(value, shape, most, path),
            Kind::Counts | Kind::Countries => return self.counts(value, kind, path),
            Kind::OrNull(_) if value.is_null() => return,
            Kind::OrNull(kind) => return self.check(value, *kind, path),
            Kind::ListOr(one, _) if value.is_array() => return self.check(value, *one, path),
            Kind::ListOr(_, other) => return self.check(value, *other, path),
            simple if fits(value, simple) => return,
            Kind::Bool => "true or false".to_owned(),
            Kind::Text(most) => format!("a text of 1 to {most} characters"),
            Kind::OneOf(names) => format!("one of {}", names.join(", ")),
            Kind::Address => "an IP address".to_owned(),
            Kind::Utc => "a time in UTC that ends in Z".to_owned(),
            Kind::Time => "a time in UTC as in RFC 3339".to_owned(),
            Kind::Whole(least) => format!("a whole number of {least} or more"),
            Kind::Port => "a port from 0 to 65535".to_owned(),
            Kind::Number => "a number of 0 or more".to_owned(),
            Kind::Percent => "a number from 0 to 100".to_owned(),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::Pairs => "a list of pairs of a name and a count".to_owned(),
        };
        self.mismatch(path, &expected, value);
    }

    fn shares(&mut self, value: &Value, shape: Shape, path: &str) {
        let before = self.faults.len();
        self.object(value, shape, path);
        let parts = shape
            .iter()
            .filter_map(|field| value.get(field.name)?.as_f64());
        let sum: f64 = parts.sum();
        if self.faults.len() == before && sum > WHOLE_PERCENT {
            self.faults.push(format!(
                "{path}: expected parts of 100 percent, found {sum} in all"
            ));
        }
    }

    fn list(&mut self, value: &Value, shape: Shape, most: usize, path: &str) {
        let Some(items) = value.as_array() else {
            return self.mismatch(path, "a list", value);
        };
        if items.len() > most {
            self.faults.push(format!(
                "{path}: expected at most {most} entries, found {}",
                items.len()
            ));
        }
        for (at, item) in items.iter().take(most).enumerate() {
            self.object(item, shape, &format!("{path}[{at}]"));
        }
    }

    fn counts(&mut self, value: &Value, kind: Kind, path: &str) {
        let Some(members) = value.as_object() else {
            return self.mismatch(path, "an object", value);
        };
        for (name, count) in members {
            let is_country = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_uppercase());
            if matches!(kind, Kind::Countries) && !is_country {
                self.faults.push(format!(
                    "{path}: expected country codes of two capital letters, found {}",
                    shown(name)
                ));
            }
            if !count.is_u64() {
                let path = format!("{path}.{}", shown(name));
                self.mismatch(&path, "a whole number of 0 or more", count);
            }
        }
    }

    fn mismatch(&mut self, path: &str, expected: &str, found: &Value) {
        self.faults.push(format!(
            "{path}: expected {expected}, found {}",
            shown(&found.to_string())
        ));
    }
}

/// Whether a value that has no parts of its own is what it shall be.
fn fits(value: &Value, kind: Kind) -> bool {
    let text = value.as_str();
    match kind {
        Kind::Bool => value.is_boolean(),
        Kind::Text(most) => text.is_some_and(|text| (1..=most).contains(&text.chars().count())),
        Kind::OneOf(names) => text.is_some_and(|text| names.contains(&text)),
        Kind::Address => text.is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        Kind::Utc => text.is_some_and(|text| text.ends_with('Z') && is_time(text)),
        Kind::Time => text.is_some_and(is_time),
        Kind::Whole(least) => value.as_u64().is_some_and(|number| number >= least),
        Kind::Port => value
            .as_u64()
            .is_some_and(|port| port <= u64::from(u16::MAX)),
        Kind::Number => value.as_f64().is_some_and(|number| number >= 0.0),
        Kind::Percent => value
            .as_f64()
            .is_some_and(|share| (0.0..=100.0).contains(&share)),
        Kind::Texts => value
            .as_array()
            .is_some_and(|items| items.iter().all(Value::is_string)),
        Kind::Pairs => value
            .as_array()
            .is_some_and(|items| items.iter().all(is_pair)),
        _ => false,
    }
}

/// Whether a text is a time with `Z` or an offset of zero: the two ways in which the contracts write UTC.
fn is_time(text: &str) -> bool {
    humantime::parse_rfc3339(text).is_ok()
}

fn is_pair(value: &Value) -> bool {
    match value.as_array().map(Vec::as_slice) {
        Some([name, count]) => name.is_string() && count.is_u64(),
        _ => false,
    }
}

fn undocumented(path: &str) -> String {
    format!("{}: no field of this contract", shown(path))
}

/// What somebody sent, cut where it stops being readable.
fn shown(text: &str) -> String {
    /// About a line.
    const MOST: usize = 80;
    let mut shown: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::shapes::{HEARTBEAT, SEED_HEARTBEAT, SEED_INCIDENT, SEED_METRICS};
    use super::*;
    use serde_json::json;

    fn metrics() -> Value {
        json!({"pps": 8123, "bps": 61_234_000, "tcp_pct": 71.4, "udp_pct": 27.9, "icmp_pct": 0.7,
            "conn_count": 412, "recorded_at": "2026-10-04T07:15:33Z"})
    }

    fn seed(body: &Value) -> Vec<String> {
        faults(body, SEED_METRICS, Others::Refused)
    }

    #[test]
    fn a_right_body_has_no_faults() {
        assert_eq!(seed(&metrics()), Vec::<String>::new());
    }

    #[test]
    fn each_field_that_is_missing_is_named() {
        for field in SEED_METRICS {
            let mut body = metrics();
            body.as_object_mut().unwrap().remove(field.name);
            assert_eq!(
                seed(&body),
                [format!("{}: required, and not there", field.name)]
            );
        }
    }

    #[test]
    fn a_field_that_is_not_documented_is_a_fault_in_the_seed_contract_only() {
        let mut body = metrics();
        body["samples"] = json!(5);
        assert_eq!(seed(&body), ["samples: no field of this contract"]);
        assert!(faults(&body, SEED_METRICS, Others::Allowed).is_empty());
    }

    #[test]
    fn what_is_of_the_wrong_kind_is_told_with_what_was_expected() {
        for (field, value, fault) in [
            (
                "pps",
                json!(8123.5),
                "expected a whole number of 0 or more, found 8123.5",
            ),
            (
                "pps",
                json!(-1),
                "expected a whole number of 0 or more, found -1",
            ),
            (
                "bps",
                json!("1"),
                "expected a whole number of 0 or more, found \"1\"",
            ),
            (
                "tcp_pct",
                json!(100.1),
                "expected a number from 0 to 100, found 100.1",
            ),
            (
                "conn_count",
                Value::Null,
                "expected a whole number of 0 or more, found null",
            ),
            (
                "recorded_at",
                json!("2026-10-04T07:15:33+00:00"),
                "expected a time in UTC that ends in Z, found \"2026-10-04T07:15:33+00:00\"",
            ),
            (
                "recorded_at",
                json!("2026-10-04 at noon Z"),
                "expected a time in UTC that ends in Z, found \"2026-10-04 at noon Z\"",
            ),
        ] {
            let mut body = metrics();
            body[field] = value;
            assert_eq!(seed(&body), [format!("{field}: {fault}")]);
        }
    }

    #[test]
    fn what_is_no_object_is_one_fault() {
        assert_eq!(seed(&json!([])), ["body: expected an object, found []"]);
        let long = Value::String("x".repeat(1_000));
        assert_eq!(
            seed(&long),
            [format!(
                "body: expected an object, found \"{}...",
                "x".repeat(79)
            )]
        );
    }

    fn incident() -> Value {
        json!({"attack_family": "syn_flood", "severity": "high", "peak_pps": 5, "peak_bps": 6,
            "protocol_breakdown": {"tcp": 97.8, "udp": 2.0, "icmp": 0.2},
            "tcp_flag_breakdown": {"SYN": 5}, "source_ip_count": 2,
            "top_src_ips": [{"ip": "203.0.113.77", "count": 4}],
            "top_dst_ports": [{"port": 443, "count": 5}],
            "spoofing_detected": false, "botnet_detected": false})
    }

    #[test]
    fn parts_are_named_by_their_path() {
        for (path, value, fault) in [
            (
                "/attack_family",
                json!("tcp_flood"),
                "attack_family: expected one of udp_flood",
            ),
            (
                "/peak_pps",
                json!(0),
                "peak_pps: expected a whole number of 1 or more",
            ),
            (
                "/protocol_breakdown/udp",
                json!(50),
                "protocol_breakdown: expected parts of 100",
            ),
            (
                "/protocol_breakdown/udp",
                Value::Null,
                "protocol_breakdown.udp: expected",
            ),
            (
                "/tcp_flag_breakdown/SYN",
                json!(0.5),
                "tcp_flag_breakdown.SYN: expected",
            ),
            (
                "/top_src_ips/0/ip",
                json!("me"),
                "top_src_ips[0].ip: expected an IP address",
            ),
            (
                "/top_dst_ports/0/port",
                json!(65_536),
                "top_dst_ports[0].port: expected a port",
            ),
            (
                "/top_dst_ports/0/count",
                json!(0),
                "top_dst_ports[0].count: expected",
            ),
            (
                "/spoofing_detected",
                Value::Null,
                "spoofing_detected: expected true or false",
            ),
        ] {
            let mut body = incident();
            *body.pointer_mut(path).unwrap() = value;
            let found = faults(&body, SEED_INCIDENT, Others::Refused);
            assert!(
                found.len() == 1 && found[0].starts_with(fault),
                "{path}: {found:?}"
            );
        }
        assert!(faults(&incident(), SEED_INCIDENT, Others::Refused).is_empty());
    }

    #[test]
    fn lists_and_countries_have_their_bounds() {
        let mut body = incident();
        body["top_src_ips"] = json!(vec![json!({"ip": "192.0.2.1", "count": 1}); 21]);
        body["geo_breakdown"] = json!({"US": 3, "bra": 1, "DE": -1});
        assert_eq!(
            faults(&body, SEED_INCIDENT, Others::Refused),
            [
                "geo_breakdown.DE: expected a whole number of 0 or more, found -1",
                "geo_breakdown: expected country codes of two capital letters, found bra",
                "top_src_ips: expected at most 20 entries, found 21",
            ]
        );
    }

    #[test]
    fn a_body_for_both_contracts_needs_all_of_one_and_nothing_of_neither() {
        let both = |body: &Value| union_faults(body, SEED_HEARTBEAT, HEARTBEAT);
        let mut body = json!({"agent_version": "0.1.0", "uptime": 5, "os": "Debian 12"});
        assert!(both(&body).is_empty());
        body["version"] = json!("0.1.0");
        body["baseline_ready"] = json!(true);
        assert!(both(&body).is_empty());
        body["mood"] = json!("good");
        assert_eq!(both(&body), ["mood: no field of this contract"]);
        assert_eq!(
            both(&json!({"agent_version": "0.1.0", "uptime": 5})),
            ["os: required, and not there"]
        );
    }

    #[test]
    fn the_resource_contract_writes_utc_in_two_ways() {
        assert!(is_time("2026-10-04T07:20:01.004512+00:00"));
        assert!(is_time("2026-10-04T07:20:01Z"));
        assert!(!is_time("2026-10-04T07:20:01+02:00"));
        assert!(!is_time("yesterday"));
    }
}
