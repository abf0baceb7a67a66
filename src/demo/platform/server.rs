//! Requests in, answers out, and a record of each.
//!
//! On the platform's thread. The lock is held for one request at a time and never across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::book::{Book, Reply};
use super::examine::{Arrived, Route, examine};
use super::faults::Fault;
use super::records::{Endpoint, Received};
use super::wire::{Caller, Door, Pace};
use super::{NodeConfig, Serves, Settings};
use crate::clock;

/// The longest JSON body that is taken. A resolution with two thousand points of its curve has 80 kB; this is three
/// times that.
const MOST_BODY_BYTES: usize = 256 * 1024;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// What the upload of captures is answered with until the agent has any.
const NO_EVIDENCE: &str = "pcap: this platform takes no captures yet";

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
    pub(super) deploy_token: String,
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
                book.take(
                    &arrived.node().unwrap_or_default(),
                    &examined.call,
                    &config,
                    arrived.at,
                )
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
            node: arrived.node(),
            user_agent: arrived.header(header::USER_AGENT.as_str()),
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
