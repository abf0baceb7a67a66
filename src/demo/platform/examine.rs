//! What a request must be: where it leads, who may ask, what the headers and the body must hold.
//!
//! Decides nothing but that. On the platform's thread, under its lock.

use std::time::Instant;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::Value;

use super::Serves;
use super::book::Book;
use super::check::{self, Others};
use super::records::{Call, Endpoint};
use super::server::Rules;
use super::shapes::{self, Shape};
use crate::clock::Timestamp;

/// The name that our agent goes by.
const AGENT: &str = "ftagent/";

/// A request as it came.
pub(super) struct Arrived {
    pub(super) connection: u64,
    pub(super) at: Instant,
    pub(super) wall: Timestamp,
    pub(super) parts: Parts,
    pub(super) body: Result<Bytes, String>,
}

impl Arrived {
    /// What it says in `X-Node-UUID`.
    pub(super) fn node(&self) -> Option<String> {
        self.header(NODE_UUID)
    }

    /// A header as text, whatever is in it.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let value = self.parts.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

/// The header that names the node.
const NODE_UUID: &str = "x-node-uuid";

/// Where a request leads.
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    /// The incident in the path.
    uuid: Option<String>,
    /// There is such a path, and it wants another method.
    wrong_method: bool,
}

impl Route {
    pub(super) fn of(parts: &Parts, serves: Serves) -> Self {
        let path: Vec<&str> = parts
            .uri
            .path()
            .trim_start_matches('/')
            .split('/')
            .collect();
        let (endpoint, uuid) = match path.as_slice() {
            ["api", "health"] => (Endpoint::Health, None),
            ["api", "deploy"] => (Endpoint::Deploy, None),
            ["api", "v1", "agent", rest @ ..] => agent_route(rest, serves),
            _ => (Endpoint::Unknown, None),
        };
        let method = match endpoint {
            Endpoint::Health | Endpoint::Config => Method::GET,
            _ => Method::POST,
        };
        Self {
            endpoint,
            uuid,
            wrong_method: endpoint != Endpoint::Unknown && parts.method != method,
        }
    }
}

fn agent_route(path: &[&str], serves: Serves) -> (Endpoint, Option<String>) {
    let (seed, resource) = (serves != Serves::Resource, serves != Serves::Seed);
    let incident = |endpoint, uuid: &str| (endpoint, Some(uuid.to_owned()));
    match path {
        ["heartbeat"] => (Endpoint::Heartbeat, None),
        ["metrics"] => (Endpoint::Metrics, None),
        ["config"] => (Endpoint::Config, None),
        ["incident"] if seed => (Endpoint::Incident, None),
        ["pcap"] if seed => (Endpoint::Pcap, None),
        ["incidents"] if resource => (Endpoint::Open, None),
        ["incidents", uuid] if resource => incident(Endpoint::Update, uuid),
        ["incidents", uuid, "resolve"] if resource => incident(Endpoint::Resolve, uuid),
        ["incidents", uuid, "pcap"] if resource => incident(Endpoint::Pcap, uuid),
        ["commands", "ack"] if resource => (Endpoint::Ack, None),
        _ => (Endpoint::Unknown, None),
    }
}

/// What came of looking at a request.
pub(super) struct Examined {
    pub(super) body: Value,
    pub(super) call: Call,
    pub(super) violations: Vec<String>,
    /// The status it is refused with.
    pub(super) refusal: Option<u16>,
}

/// Looks at all of it; tells everything that is wrong at once.
pub(super) fn examine(arrived: &Arrived, route: &Route, rules: &Rules, book: &Book) -> Examined {
    let parts = &arrived.parts;
    let mut body = Value::Null;
    let mut call = Call::Refused;
    let (violations, refusal) = if route.endpoint == Endpoint::Unknown {
        (
            vec![format!("path: nothing is served at {}", parts.uri.path())],
            Some(404),
        )
    } else if route.wrong_method {
        let found = &parts.method;
        (
            vec![format!("method: {found} is not served at this path")],
            Some(405),
        )
    } else {
        let unknown_caller = credentials(&parts.headers, route.endpoint, rules, book);
        let mut violations = headers(arrived, route.endpoint);
        if route.endpoint != Endpoint::Pcap {
            match content(arrived, route, rules.serves) {
                Ok((content, right)) => (body, call) = (content, right),
                Err((content, faults)) => {
                    body = content;
                    violations.extend(faults);
                }
            }
        }
        match (unknown_caller.is_empty(), violations.is_empty()) {
            (true, true) => (violations, None),
            (true, false) => (violations, Some(400)),
            (false, _) => ([unknown_caller, violations].concat(), Some(401)),
        }
    };
    if refusal.is_some() {
        call = Call::Refused;
    }
    Examined {
        body,
        call,
        violations,
        refusal,
    }
}

/// What is wrong with who asks.
fn credentials(headers: &HeaderMap, endpoint: Endpoint, rules: &Rules, book: &Book) -> Vec<String> {
    if endpoint == Endpoint::Health {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let authorization = single(headers, header::AUTHORIZATION.as_str(), &mut problems);
    let key = match authorization
        .as_deref()
        .map(|found| found.strip_prefix("Bearer "))
    {
        Some(Some(key)) => Some(key),
        // What is there instead may be half a secret.
        Some(None) => {
            problems.push("authorization: expected `Bearer` and a key".to_owned());
            None
        }
        None => None,
    };
    if endpoint == Endpoint::Deploy {
        if key.is_some_and(|key| key != rules.deploy_token) {
            problems.push("authorization: this is not the deploy token".to_owned());
        }
        return problems;
    }
    let Some(node) = single(headers, NODE_UUID, &mut problems) else {
        return problems;
    };
    if !is_uuid(&node) {
        problems.push(format!("{NODE_UUID}: expected a UUID, found {node:?}"));
    } else if !book.knows(&node) {
        problems.push(format!("{NODE_UUID}: there is no node {node}"));
    } else if key.is_some_and(|key| !book.is_key(&node, key)) {
        problems.push("authorization: this is not the node's key".to_owned());
    }
    problems
}

/// What is wrong with the other headers.
fn headers(arrived: &Arrived, endpoint: Endpoint) -> Vec<String> {
    let parts = &arrived.parts;
    let mut problems = Vec::new();
    let agent = single(&parts.headers, header::USER_AGENT.as_str(), &mut problems);
    let version = |agent: &str| agent.strip_prefix(AGENT).map(is_version);
    if let Some(agent) = agent.filter(|agent| version(agent) != Some(true)) {
        problems.push(format!(
            "user-agent: expected {AGENT} and a version, found {agent:?}"
        ));
    }
    if parts.uri.query().is_some() {
        problems.push("query: no endpoint takes one".to_owned());
    }
    if parts.method == Method::POST && endpoint != Endpoint::Pcap {
        let found = single(&parts.headers, header::CONTENT_TYPE.as_str(), &mut problems);
        let is_json = |found: &str| {
            let media = found.split(';').next().unwrap_or_default();
            media.trim().eq_ignore_ascii_case("application/json")
        };
        if let Some(found) = found.filter(|found| !is_json(found)) {
            problems.push(format!(
                "content-type: expected application/json, found {found:?}"
            ));
        }
    }
    problems
}

/// What a request holds: the body and what it means, or the body and what is wrong with it.
fn content(
    arrived: &Arrived,
    route: &Route,
    serves: Serves,
) -> Result<(Value, Call), (Value, Vec<String>)> {
    let bytes = match &arrived.body {
        Ok(bytes) => bytes,
        Err(problem) => return Err((Value::Null, vec![problem.clone()])),
    };
    if matches!(route.endpoint, Endpoint::Health | Endpoint::Config) {
        let call = match route.endpoint {
            Endpoint::Health => Call::Health,
            _ => Call::Config,
        };
        return match bytes.len() {
            0 => Ok((Value::Null, call)),
            found => {
                let problem = format!("body: expected none, found {found} bytes");
                Err((Value::Null, vec![problem]))
            }
        };
    }
    let body: Value = serde_json::from_slice(bytes)
        .map_err(|error| (Value::Null, vec![format!("body: not JSON: {error}")]))?;
    let faults = body_faults(&body, route.endpoint, serves);
    if !faults.is_empty() {
        return Err((body, faults));
    }
    match meaning(&body, route) {
        Ok(call) => Ok((body, call)),
        Err(error) => Err((body, vec![format!("body: {error}")])),
    }
}

fn body_faults(body: &Value, endpoint: Endpoint, serves: Serves) -> Vec<String> {
    let shared = |seed: Shape, resource: Shape| match serves {
        Serves::Seed => check::faults(body, seed, Others::Refused),
        Serves::Resource => check::faults(body, resource, Others::Allowed),
        Serves::Both => check::union_faults(body, seed, resource),
    };
    let resource = |shape| check::faults(body, shape, Others::Allowed);
    match endpoint {
        Endpoint::Deploy => check::faults(body, shapes::DEPLOY, Others::Refused),
        Endpoint::Heartbeat => shared(shapes::SEED_HEARTBEAT, shapes::HEARTBEAT),
        Endpoint::Metrics => shared(shapes::SEED_METRICS, shapes::METRICS),
        Endpoint::Incident => check::faults(body, shapes::SEED_INCIDENT, Others::Refused),
        Endpoint::Open => resource(shapes::OPEN),
        Endpoint::Update => resource(shapes::UPDATE),
        Endpoint::Resolve => resource(shapes::RESOLVE),
        Endpoint::Ack => resource(shapes::ACK),
        Endpoint::Health | Endpoint::Config | Endpoint::Pcap | Endpoint::Unknown => Vec::new(),
    }
}

/// A right body as the value it stands for.
fn meaning(body: &Value, route: &Route) -> Result<Call, serde_json::Error> {
    let uuid = || route.uuid.clone().unwrap_or_default();
    Ok(match route.endpoint {
        Endpoint::Deploy => Call::Deploy(Deserialize::deserialize(body)?),
        Endpoint::Heartbeat => Call::Heartbeat(Deserialize::deserialize(body)?),
        Endpoint::Metrics => Call::Metrics(Deserialize::deserialize(body)?),
        Endpoint::Incident => Call::Incident(Deserialize::deserialize(body)?),
        Endpoint::Open => Call::Open(Deserialize::deserialize(body)?),
        Endpoint::Update => Call::Update {
            uuid: uuid(),
            incident: Deserialize::deserialize(body)?,
        },
        Endpoint::Resolve => Call::Resolve {
            uuid: uuid(),
            incident: Deserialize::deserialize(body)?,
        },
        Endpoint::Ack => Call::Ack(Deserialize::deserialize(body)?),
        Endpoint::Health => Call::Health,
        Endpoint::Config => Call::Config,
        Endpoint::Pcap | Endpoint::Unknown => Call::Refused,
    })
}

/// A header that must be there once.
fn single(headers: &HeaderMap, name: &str, problems: &mut Vec<String>) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (first, more) = (values.next(), values.next());
    match first.map(HeaderValue::to_str) {
        None => problems.push(format!("{name}: required, and not there")),
        Some(_) if more.is_some() => problems.push(format!("{name}: there more than once")),
        Some(Err(_)) => problems.push(format!("{name}: expected visible ASCII")),
        Some(Ok(value)) => return Some(value.to_owned()),
    }
    None
}

/// `8-4-4-4-12` hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.split('-').all(is_hex)
}

/// Numbers with dots between them, and whatever a pre-release adds.
fn is_version(text: &str) -> bool {
    let plain = text.split(['-', '+', ' ']).next().unwrap_or_default();
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    plain.split('.').count() >= 2 && plain.split('.').all(is_number)
}
