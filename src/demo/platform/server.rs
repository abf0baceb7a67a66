//! Requests in, answers out: who may ask, what a request must hold, what is recorded.
//!
//! On the platform's thread. The lock is held for one request at a time and never across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::book::{Book, Reply};
use super::faults::Fault;
use super::records::{Call, Endpoint, Received};
use super::shapes::{self, Others, Shape};
use super::wire::{Caller, Door, Pace};
use super::{NodeConfig, Serves, Settings};
use crate::clock::{self, Timestamp};

/// The longest JSON body that is taken. A resolution with two thousand points of its curve has 80 kB; this is three
/// times that.
const MOST_BODY_BYTES: usize = 256 * 1024;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// The name that our agent goes by.
const AGENT: &str = "ftagent/";

/// What a node is told.
#[derive(Debug)]
pub(super) enum ConfigAnswer {
    Ours(NodeConfig),
    Theirs(Value),
}

/// What can be changed while the platform runs.
pub(super) struct Rules {
    pub(super) serves: Serves,
    pub(super) config: ConfigAnswer,
    pub(super) faults: BTreeMap<Endpoint, Fault>,
    pub(super) fault_everywhere: Option<Fault>,
    deploy_token: String,
}

struct Shared {
    rules: Rules,
    book: Book,
    records: Vec<Received>,
    most_records: usize,
    unrecorded: u64,
}

/// Where requests are taken in; shared by the server and the handle.
pub(super) struct Desk {
    shared: Mutex<Shared>,
    news: Condvar,
    reachable: watch::Sender<bool>,
}

impl Desk {
    pub(super) fn new(settings: Settings) -> Self {
        let mut book = Book::new(settings.incident_idle);
        book.admit(&settings.node_uuid, &settings.key);
        Self {
            shared: Mutex::new(Shared {
                rules: Rules {
                    serves: settings.serves,
                    config: ConfigAnswer::Ours(settings.config),
                    faults: BTreeMap::new(),
                    fault_everywhere: None,
                    deploy_token: settings.deploy_token,
                },
                book,
                records: Vec::new(),
                most_records: settings.most_records,
                unrecorded: 0,
            }),
            news: Condvar::new(),
            reachable: watch::Sender::new(true),
        }
    }

    pub(super) fn reachable(&self) -> watch::Receiver<bool> {
        self.reachable.subscribe()
    }

    pub(super) fn set_reachable(&self, reachable: bool) {
        self.reachable.send_replace(reachable);
    }

    pub(super) fn with_rules<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> T {
        change(&mut self.locked().rules)
    }

    pub(super) fn with_book<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.locked().book)
    }

    pub(super) fn with_records<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.locked().records)
    }

    pub(super) fn unrecorded(&self) -> u64 {
        self.locked().unrecorded
    }

    pub(super) fn wait_for(
        &self,
        limit: Duration,
        mut condition: impl FnMut(&[Received]) -> bool,
    ) -> bool {
        let waiting = self
            .news
            .wait_timeout_while(self.locked(), limit, |shared| !condition(&shared.records));
        let (shared, timeout) = waiting.unwrap_or_else(PoisonError::into_inner);
        drop(shared);
        !timeout.timed_out()
    }

    fn locked(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in, records it, and gives the right answer and the fault that befalls it.
    fn receive(&self, arrived: &Arrived) -> (Reply, Option<Fault>) {
        let mut shared = self.locked();
        let Shared { rules, book, .. } = &mut *shared;
        let route = Route::of(&arrived.parts, rules.serves);
        let examined = examine(arrived, &route, rules, book);
        let fault = rules.fault(route.endpoint);
        let taken = fault.as_ref().is_none_or(Fault::is_taken);
        let right = match &examined.refusal {
            Some(status) => refusal(*status, &examined.violations),
            None if route.endpoint == Endpoint::Pcap => refusal(501, &[NO_EVIDENCE.to_owned()]),
            None if taken => {
                let config = rules.config.answer(rules.serves);
                book.take(&arrived.node(), &examined.call, &config, arrived.at)
            }
            None => refusal(500, &[]),
        };
        let record = Received {
            number: 0,
            connection: arrived.connection,
            at: arrived.at,
            wall: arrived.wall,
            endpoint: route.endpoint,
            method: arrived.parts.method.to_string(),
            path: arrived.parts.uri.to_string(),
            node: text(&arrived.parts.headers, NODE_UUID),
            user_agent: text(&arrived.parts.headers, header::USER_AGENT.as_str()),
            body: examined.body,
            call: examined.call,
            violations: examined.violations,
            oddities: right.oddities.clone(),
            taken: taken && examined.refusal.is_none(),
            status: fault
                .as_ref()
                .map_or(right.status, |fault| fault.status_seen(right.status)),
        };
        shared.keep(record);
        drop(shared);
        self.news.notify_all();
        (right, fault)
    }
}

impl Shared {
    fn keep(&mut self, mut record: Received) {
        if self.records.len() >= self.most_records {
            self.unrecorded += 1;
            return;
        }
        record.number = u64::try_from(self.records.len()).unwrap_or(u64::MAX);
        self.records.push(record);
    }
}

impl Rules {
    /// The fault that befalls the next request of this endpoint.
    fn fault(&mut self, endpoint: Endpoint) -> Option<Fault> {
        [
            self.faults.get_mut(&endpoint),
            self.fault_everywhere.as_mut(),
        ]
        .into_iter()
        .flatten()
        .find_map(|fault| fault.hit().then(|| fault.clone()))
    }
}

impl ConfigAnswer {
    fn answer(&self, serves: Serves) -> Value {
        match self {
            Self::Ours(config) => config.answer(serves),
            Self::Theirs(answer) => answer.clone(),
        }
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(door: Door, desk: Arc<Desk>) {
    let router = Router::new()
        .fallback(handle)
        .with_state(desk)
        .into_make_service_with_connect_info::<Caller>();
    // Serving ends with the runtime; it has no error of its own.
    let _ = axum::serve(door, router).await;
}

async fn handle(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Caller(line)): ConnectInfo<Caller>,
    request: Request,
) -> Response<Body> {
    let (at, wall) = (clock::monotonic(), clock::now());
    line.set(Pace::Straight);
    if !*desk.reachable.borrow() {
        line.set(Pace::broken_at_once());
        return Response::new(Body::empty());
    }
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_PATIENCE, to_bytes(body, MOST_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(format!(
            "body: cut short, or longer than {MOST_BODY_BYTES} bytes"
        )),
        Err(_) => Err(format!("body: not there after {BODY_PATIENCE:?}")),
    };
    let arrived = Arrived {
        connection: line.number,
        at,
        wall,
        parts,
        body,
    };
    let (right, fault) = desk.receive(&arrived);
    let answer = respond(&right);
    match fault {
        Some(fault) => fault.play(answer, &line).await,
        None => answer,
    }
}

fn respond(reply: &Reply) -> Response<Body> {
    let mut answer = Response::new(Body::from(reply.body.to_string()));
    *answer.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

fn refusal(status: u16, problems: &[String]) -> Reply {
    Reply {
        status,
        body: json!({"ok": false, "error": problems.join("; ")}),
        oddities: Vec::new(),
    }
}

/// A request as it came.
struct Arrived {
    connection: u64,
    at: Instant,
    wall: Timestamp,
    parts: Parts,
    body: Result<Bytes, String>,
}

impl Arrived {
    fn node(&self) -> String {
        text(&self.parts.headers, NODE_UUID).unwrap_or_default()
    }
}

/// The header that names the node.
const NODE_UUID: &str = "x-node-uuid";

/// What the upload of captures is answered with until the agent has any.
const NO_EVIDENCE: &str = "pcap: this platform takes no captures yet";

/// Where a request leads.
struct Route {
    endpoint: Endpoint,
    /// The incident in the path.
    uuid: Option<String>,
    /// There is such a path, and it wants another method.
    wrong_method: bool,
}

impl Route {
    fn of(parts: &Parts, serves: Serves) -> Self {
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
struct Examined {
    body: Value,
    call: Call,
    violations: Vec<String>,
    /// The status it is refused with.
    refusal: Option<u16>,
}

fn examine(arrived: &Arrived, route: &Route, rules: &Rules, book: &Book) -> Examined {
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
        Serves::Seed => shapes::faults(body, seed, Others::Refused),
        Serves::Resource => shapes::faults(body, resource, Others::Allowed),
        Serves::Both => shapes::union_faults(body, seed, resource),
    };
    let resource = |shape| shapes::faults(body, shape, Others::Allowed);
    match endpoint {
        Endpoint::Deploy => shapes::faults(body, shapes::DEPLOY, Others::Refused),
        Endpoint::Heartbeat => shared(shapes::SEED_HEARTBEAT, shapes::HEARTBEAT),
        Endpoint::Metrics => shared(shapes::SEED_METRICS, shapes::METRICS),
        Endpoint::Incident => shapes::faults(body, shapes::SEED_INCIDENT, Others::Refused),
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

/// A header as text, whatever is in it.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
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
