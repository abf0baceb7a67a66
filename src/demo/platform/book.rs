//! What the platform knows: nodes, incidents, and which seconds it has. Answers right requests and notices what does not
//! fit what came before.
//!
//! Pure but for the instants it is given; behind the platform's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::records::{Call, Deploy, Incident, KnownIncident, Metrics, Oddity};
use crate::clock::Timestamp;

/// Nodes that can be registered: more than any test does.
const MOST_NODES: usize = 1_000;

/// Incidents remembered; beyond that the oldest is forgotten. Ten thousand attacks are more than any test makes.
const MOST_INCIDENTS: usize = 10_000;

/// Seconds remembered for each node: four days, one more than an agent keeps.
const MOST_SECONDS: usize = 4 * 86_400;

/// A node: how it proves itself, and what it said.
struct Node {
    key: String,
    name: String,
    seconds: BTreeSet<Timestamp>,
    newest: Option<Timestamp>,
}

impl Node {
    const fn new(key: String, name: String) -> Self {
        Self {
            key,
            name,
            seconds: BTreeSet::new(),
            newest: None,
        }
    }
}

/// The platform's own state.
pub(super) struct Book {
    nodes: BTreeMap<String, Node>,
    incidents: BTreeMap<i64, KnownIncident>,
    last_id: i64,
    /// After so long without a word an incident of the seed contract is over: it has no other end.
    idle: Duration,
}

/// An answer, and what was odd about the request.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) oddities: Vec<Oddity>,
}

impl Reply {
    const fn fine(body: Value) -> Self {
        Self {
            status: 200,
            body,
            oddities: Vec::new(),
        }
    }

    fn refusal(status: u16, problem: &str) -> Self {
        Self {
            status,
            body: json!({"ok": false, "error": problem}),
            oddities: Vec::new(),
        }
    }

    fn with(mut self, oddity: Option<Oddity>) -> Self {
        self.oddities.extend(oddity);
        self
    }
}

impl Book {
    pub(super) const fn new(idle: Duration) -> Self {
        Self {
            nodes: BTreeMap::new(),
            incidents: BTreeMap::new(),
            last_id: 0,
            idle,
        }
    }

    /// Lets a node in by this key, from now on by no other.
    pub(super) fn admit(&mut self, node: &str, key: &str) {
        match self.nodes.get_mut(node) {
            Some(known) => key.clone_into(&mut known.key),
            None => {
                let new = Node::new(key.to_owned(), node.to_owned());
                self.nodes.insert(node.to_owned(), new);
            }
        }
    }

    /// Whether there is such a node.
    pub(super) fn knows(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// Whether this is the node's key.
    pub(super) fn is_key(&self, node: &str, key: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| node.key == key)
    }

    pub(super) fn incidents(&self) -> Vec<KnownIncident> {
        self.incidents.values().cloned().collect()
    }

    /// All incidents are over: what comes next opens another one.
    pub(super) fn end_incidents(&mut self) {
        for incident in self.incidents.values_mut() {
            incident.resolved = true;
        }
    }

    /// Takes in what `node` says. `config` is what it is told when it asks.
    pub(super) fn take(&mut self, node: &str, call: &Call, config: &Value, at: Instant) -> Reply {
        match call {
            Call::Health => Reply::fine(json!({"status": "ok"})),
            Call::Deploy(deploy) => self.deploy(deploy),
            Call::Heartbeat(_) => Reply::fine(json!({"ok": true, "status": "online"})),
            Call::Metrics(metrics) => self.metrics(node, metrics),
            Call::Config => Reply::fine(config.clone()),
            Call::Incident(incident) => self.open_or_update(node, incident, at),
            Call::Open(incident) => {
                let mut reply = self.open(node, incident, at);
                if let (Some(body), Some(commands)) =
                    (reply.body.as_object_mut(), config.get("pending_commands"))
                {
                    body.insert("pending_commands".to_owned(), commands.clone());
                }
                reply
            }
            Call::Update { uuid, incident } => self.tell(node, uuid, incident, false, at),
            Call::Resolve { uuid, incident } => self.tell(node, uuid, incident, true, at),
            Call::Ack(_) => Reply::fine(json!({"ok": true})),
            Call::Refused => Reply::refusal(400, "refused"),
        }
    }

    fn deploy(&mut self, deploy: &Deploy) -> Reply {
        if self.nodes.values().any(|node| node.name == deploy.name) {
            return Reply::refusal(409, "name: a node of this name exists already");
        }
        if self.nodes.len() >= MOST_NODES {
            return Reply::refusal(402, "the subscription allows no more nodes");
        }
        let number = self.nodes.len() + 1;
        let uuid = format!("6f1c1f6e-0000-4000-8000-{number:012x}");
        let key = format!("{number:064x}");
        let node = Node::new(key.clone(), deploy.name.clone());
        self.nodes.insert(uuid.clone(), node);
        Reply::fine(json!({
            "ok": true,
            "node_uuid": uuid,
            "api_key": key,
            "name": deploy.name,
            "ip": deploy.ip,
        }))
    }

    fn metrics(&mut self, node: &str, metrics: &Metrics) -> Reply {
        let reply = Reply::fine(json!({"ok": true}));
        let (Some(node), Some(recorded_at)) = (self.nodes.get_mut(node), metrics.recorded_at)
        else {
            return reply;
        };
        let again = !node.seconds.insert(recorded_at);
        if node.seconds.len() > MOST_SECONDS {
            node.seconds.pop_first();
        }
        let late = node.newest.filter(|newest| recorded_at < *newest);
        node.newest = node.newest.max(Some(recorded_at));
        reply
            .with(again.then_some(Oddity::SecondAgain { recorded_at }))
            .with(late.map(|after| Oddity::OutOfOrder { recorded_at, after }))
    }

    /// The seed contract: one open incident for each node, and no word for its end.
    fn open_or_update(&mut self, node: &str, incident: &Incident, at: Instant) -> Reply {
        let idle = self.idle;
        let is_alive = |known: &&mut KnownIncident| {
            !known.resolved && at.saturating_duration_since(known.told_at) <= idle
        };
        let mut mine = self
            .incidents
            .values_mut()
            .filter(|known| known.node == node);
        let Some(known) = mine.next_back().filter(is_alive) else {
            return self.open(node, incident, at);
        };
        let fell = peak_fell(known, incident);
        note(known, incident, at);
        let body = json!({"ok": true, "incident_id": known.id, "uuid": known.uuid});
        Reply::fine(body).with(fell)
    }

    fn open(&mut self, node: &str, incident: &Incident, at: Instant) -> Reply {
        let mine = || self.incidents.values().filter(|known| known.node == node);
        let second = mine()
            .find(|known| !known.resolved && incident.started_at.is_some())
            .map(|known| Oddity::SecondOpen {
                open: known.uuid.clone(),
            });
        let again = mine()
            .find(|known| {
                incident.started_at.is_some() && known.newest.started_at == incident.started_at
            })
            .map(|known| Oddity::OpenedAgain {
                first: known.uuid.clone(),
            });
        self.last_id += 1;
        let known = KnownIncident {
            id: self.last_id,
            uuid: format!("7b1f0c44-0000-4000-8000-{:012x}", self.last_id),
            node: node.to_owned(),
            opened_at: at,
            told_at: at,
            updates: 0,
            resolved: false,
            newest: incident.clone(),
        };
        let body = json!({"ok": true, "incident_id": known.id, "uuid": known.uuid});
        self.incidents.insert(known.id, known);
        if self.incidents.len() > MOST_INCIDENTS {
            self.incidents.pop_first();
        }
        Reply::fine(body).with(second).with(again)
    }

    /// The resource contract's update and resolution.
    fn tell(
        &mut self,
        node: &str,
        uuid: &str,
        incident: &Incident,
        resolves: bool,
        at: Instant,
    ) -> Reply {
        let mut known = self.incidents.values_mut();
        let Some(known) = known.find(|known| known.uuid == uuid && known.node == node) else {
            let oddity = Oddity::NeverOpened {
                uuid: uuid.to_owned(),
            };
            return Reply::refusal(404, "there is no such incident").with(Some(oddity));
        };
        if known.resolved {
            let oddity = Oddity::AfterResolve {
                uuid: uuid.to_owned(),
            };
            return Reply::refusal(409, "the incident is resolved").with(Some(oddity));
        }
        let fell = peak_fell(known, incident);
        note(known, incident, at);
        known.resolved = resolves;
        Reply::fine(json!({"ok": true})).with(fell)
    }
}

fn peak_fell(known: &KnownIncident, incident: &Incident) -> Option<Oddity> {
    (incident.peak_pps < known.newest.peak_pps).then_some(Oddity::PeakFell)
}

/// Takes over what is said now. Only the opening says when it began.
fn note(known: &mut KnownIncident, incident: &Incident, at: Instant) {
    let started_at = known.newest.started_at.take();
    known.newest = incident.clone();
    known.newest.started_at = incident.started_at.clone().or(started_at);
    known.told_at = at;
    known.updates = known.updates.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const NODE: &str = "node";

    fn book() -> Book {
        let mut book = Book::new(Duration::from_secs(60));
        book.admit(NODE, "key");
        book
    }

    fn incident(peak_pps: f64, started_at: Option<&str>) -> Incident {
        Incident {
            peak_pps,
            started_at: started_at.map(str::to_owned),
            ..Incident::default()
        }
    }

    fn second(at: u64) -> Call {
        Call::Metrics(Metrics {
            recorded_at: Some(Timestamp::from_seconds(at)),
            ..Metrics::default()
        })
    }

    #[test]
    fn the_seed_contract_has_one_incident_until_it_falls_silent() {
        let mut book = book();
        let start = clock::monotonic();
        let mut tell = |seconds, peak| {
            let call = Call::Incident(incident(peak, None));
            let at = start + Duration::from_secs(seconds);
            let reply = book.take(NODE, &call, &Value::Null, at);
            (reply.body["incident_id"].as_i64().unwrap(), reply.oddities)
        };
        assert_eq!(tell(0, 10.0), (1, vec![]));
        assert_eq!(tell(59, 20.0), (1, vec![]));
        assert_eq!(tell(119, 15.0), (1, vec![Oddity::PeakFell]));
        assert_eq!(tell(180, 5.0), (2, vec![]));
        book.end_incidents();
        let call = Call::Incident(incident(9.0, None));
        let reply = book.take(NODE, &call, &Value::Null, start + Duration::from_secs(181));
        assert_eq!(reply.body["incident_id"], 3);
        assert_eq!(book.incidents()[0].updates, 2);
    }

    #[test]
    fn opening_twice_is_noticed() {
        let mut book = book();
        let at = clock::monotonic();
        let mut open = |started_at| {
            let call = Call::Open(incident(1.0, Some(started_at)));
            let reply = book.take(NODE, &call, &json!({"pending_commands": [7]}), at);
            assert_eq!(reply.body["pending_commands"], json!([7]));
            (
                reply.body["uuid"].as_str().unwrap().to_owned(),
                reply.oddities,
            )
        };
        let (first, oddities) = open("2026-10-04T07:20:01Z");
        assert_eq!(oddities, []);
        let (second, oddities) = open("2026-10-04T07:20:01Z");
        assert_ne!(first, second);
        let open_now = Oddity::SecondOpen {
            open: first.clone(),
        };
        assert_eq!(oddities, [open_now, Oddity::OpenedAgain { first }]);
    }

    #[test]
    fn what_is_resolved_stays_so() {
        let mut book = book();
        let at = clock::monotonic();
        let call = Call::Open(incident(1.0, Some("2026-10-04T07:20:01Z")));
        let reply = book.take(NODE, &call, &Value::Null, at);
        let uuid = reply.body["uuid"].as_str().unwrap().to_owned();
        let mut tell = |uuid: &str, resolves| {
            let (uuid, incident) = (uuid.to_owned(), incident(2.0, None));
            let call = if resolves {
                Call::Resolve { uuid, incident }
            } else {
                Call::Update { uuid, incident }
            };
            let reply = book.take(NODE, &call, &Value::Null, at);
            (reply.status, reply.oddities)
        };
        assert_eq!(tell(&uuid, false), (200, vec![]));
        assert_eq!(tell(&uuid, true), (200, vec![]));
        let over = Oddity::AfterResolve { uuid: uuid.clone() };
        assert_eq!(tell(&uuid, true), (409, vec![over.clone()]));
        assert_eq!(tell(&uuid, false), (409, vec![over]));
        let uuid = "7b1f0c44-0000-4000-8000-00000000dead".to_owned();
        let never = Oddity::NeverOpened { uuid: uuid.clone() };
        assert_eq!(tell(&uuid, false), (404, vec![never]));
        assert!(book.incidents()[0].resolved);
        assert_eq!(
            book.incidents()[0].newest.started_at.as_deref(),
            Some("2026-10-04T07:20:01Z")
        );
    }

    #[test]
    fn seconds_come_once_and_in_order() {
        let mut book = book();
        let at = clock::monotonic();
        let mut tell = |seconds| book.take(NODE, &second(seconds), &Value::Null, at).oddities;
        assert_eq!(tell(10), []);
        assert_eq!(tell(12), []);
        let (recorded_at, after) = (Timestamp::from_seconds(11), Timestamp::from_seconds(12));
        assert_eq!(tell(11), [Oddity::OutOfOrder { recorded_at, after }]);
        let recorded_at = after;
        assert_eq!(tell(12), [Oddity::SecondAgain { recorded_at }]);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut book = book();
        let call = Call::Deploy(Deploy {
            name: "edge-1".to_owned(),
            ip: "192.0.2.17".to_owned(),
            ..Deploy::default()
        });
        let at = clock::monotonic();
        let reply = book.take("", &call, &Value::Null, at);
        let (uuid, key) = (&reply.body["node_uuid"], &reply.body["api_key"]);
        assert!(book.is_key(uuid.as_str().unwrap(), key.as_str().unwrap()));
        assert_eq!(book.take("", &call, &Value::Null, at).status, 409);
    }
}
