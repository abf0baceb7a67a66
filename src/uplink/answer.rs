//! What an answer means: what to do, and what to tell the operator.
//!
//! One table for every status, every broken connection and every body that is not the platform's. Pure: decides from
//! what came and asks nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::platform::{self, BadBody};
use super::retry::wait_asked_for;
use super::wire::{Answer, Call, Request};
use crate::clock::Timestamp;

/// Where people see whether the platform has an outage.
const STATUS_PAGE: &str = "https://flowtriq.com/status";

/// An answer as it came: any status, any body.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// `Retry-After`, else `X-RateLimit-Reset`.
    pub(super) wait: Option<String>,
    /// `Location`.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer. The texts are for people and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The platform's name has no address, and none is remembered.
    Name(String),
    /// No connection.
    Connect(String),
    /// A connection, but not to who we want, or not as safe as we want.
    Tls(String),
    /// Not within the time.
    TimedOut,
    /// The connection broke.
    Broken(String),
    /// More than the limit.
    TooLarge,
}

/// Why the platform takes nothing from us for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// It does not know us.
    Credentials,
    /// It was not paid.
    Billing,
    /// It says so in the configuration.
    Suspended,
}

/// What to do after a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// It is done; this was answered.
    Accept(Answer),
    /// The platform says that it conflicts with what is there, so it was done already; this was answered.
    Adopt(Answer),
    /// Try again, after the time asked for or after the usual back-off.
    Later(Option<Duration>),
    /// The platform does not know the path: wait long, the configuration is wrong.
    NoSuchPath,
    /// It will never take this one: set it aside and go on.
    Refuse,
    /// Too large: tell it in brief.
    Brief,
    /// It speaks the other contract: tell it there.
    Switch,
    /// Stop sending and look again rarely.
    Hold(Denial),
}

/// What kind of trouble there is with the platform, most pressing last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// It says that one message conflicts with what it has; that counts as delivered.
    Conflict,
    /// It refused one message, which was set aside.
    Refused,
    /// It asked for fewer requests.
    Throttled,
    /// It answered with a server error, or with something that is no answer of its.
    ServerError,
    /// It cannot be reached.
    Unreachable,
    /// Its certificate or its encryption is not to be trusted.
    Untrusted,
    /// It does not know the path.
    NoSuchPath,
    /// The subscription is suspended.
    Suspended,
    /// The subscription has lapsed.
    Lapsed,
    /// It does not accept the key.
    KeyRejected,
}

/// Trouble, and what to tell the operator about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    pub(super) sentence: String,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub(super) action: Action,
    pub(super) trouble: Option<Trouble>,
    /// Whether it was a success with a body that is no answer of the platform's.
    pub(super) bad_body: bool,
}

/// What judging needs beside the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    /// The API's address, for what is said about it.
    pub(super) base: &'a str,
    /// Whether the other contract is still to be tried.
    pub(super) may_switch: bool,
    /// The wall clock, which a `Retry-After` may name.
    pub(super) now: Timestamp,
    /// The longest wait the platform may ask for.
    pub(super) longest_wait: Duration,
}

impl Judged {
    fn new(action: Action, kind: TroubleKind, sentence: String) -> Self {
        Self {
            action,
            trouble: Some(Trouble { kind, sentence }),
            bad_body: false,
        }
    }

    const fn fine(action: Action) -> Self {
        Self {
            action,
            trouble: None,
            bad_body: false,
        }
    }
}

/// What the outcome of `request` means.
pub(super) fn judge(
    request: &Request,
    outcome: &Result<Reply, Failure>,
    around: &Circumstances<'_>,
) -> Judged {
    match outcome {
        Ok(reply) => judge_reply(request, reply, around),
        Err(failure) => judge_failure(failure, around),
    }
}

fn judge_failure(failure: &Failure, around: &Circumstances<'_>) -> Judged {
    let base = around.base;
    let (kind, problem) = match failure {
        Failure::Name(reason) => (
            TroubleKind::Unreachable,
            format!("no address for {base}: {reason}; check the resolver"),
        ),
        Failure::Connect(reason) => (
            TroubleKind::Unreachable,
            format!("no connection to {base}: {reason}; check network and firewall"),
        ),
        Failure::Tls(reason) => (
            TroubleKind::Untrusted,
            format!(
                "no trusted connection to {base}: {reason}; check this host's clock and CA certificates, and whether \
                 something intercepts TLS"
            ),
        ),
        Failure::TimedOut => (
            TroubleKind::Unreachable,
            format!("{base} did not answer in time; check the network, and {STATUS_PAGE}"),
        ),
        Failure::Broken(reason) => (
            TroubleKind::Unreachable,
            format!(
                "the connection to {base} broke: {reason}; check the network, and {STATUS_PAGE}"
            ),
        ),
        Failure::TooLarge => (
            TroubleKind::ServerError,
            format!(
                "{base} answered with more than {} bytes, which is no answer of the platform's; check api.base",
                platform::ANSWER_BYTES_MAX
            ),
        ),
    };
    let mut judged = Judged::new(Action::Later(None), kind, problem);
    judged.bad_body = *failure == Failure::TooLarge;
    judged
}

fn judge_reply(request: &Request, reply: &Reply, around: &Circumstances<'_>) -> Judged {
    let call = request.call;
    let base = around.base;
    let status = reply.status;
    let said = said(reply);
    let later = || {
        let asked = reply.wait.as_deref();
        Action::Later(
            asked.and_then(|value| wait_asked_for(value, around.now, around.longest_wait)),
        )
    };
    match status {
        200..=299 => match platform::read(&reply.body) {
            Ok(answer) => Judged::fine(Action::Accept(answer)),
            Err(bad) => judge_bad_body(bad, around),
        },
        300..=399 => {
            let to = reply.location.as_deref().unwrap_or("somewhere else");
            let to = platform::plain(to, 200);
            let problem = format!(
                "{base} redirects to {to}, which is not followed with credentials; if that is the platform, put its \
                 address into api.base"
            );
            Judged::new(later(), TroubleKind::ServerError, problem)
        }
        401 | 403 => Judged::new(
            Action::Hold(Denial::Credentials),
            TroubleKind::KeyRejected,
            format!(
                "the platform does not accept this node's credentials (HTTP {status}{said}): the API key looks wrong \
                 or expired, or belongs to another node UUID; rotate the key in the Flowtriq dashboard and put the new \
                 one into the configuration"
            ),
        ),
        402 => Judged::new(
            Action::Hold(Denial::Billing),
            TroubleKind::Lapsed,
            format!(
                "the platform takes nothing more (HTTP 402{said}): the subscription may have lapsed; check billing in \
                 the Flowtriq dashboard"
            ),
        ),
        409 => Judged::new(
            Action::Adopt(platform::read(&reply.body).unwrap_or_default()),
            TroubleKind::Conflict,
            format!(
                "the platform finds a conflict in what was sent to {} (HTTP 409{said}): it is there already, or a node of \
                 that name already exists in the workspace. It counts as delivered; if this comes again and again, see in \
                 the Flowtriq dashboard whether two nodes share a name or a UUID",
                request.path
            ),
        ),
        413 if call == Call::Incident => refused(Action::Brief, request, status, &said),
        404 | 405 | 501 if call == Call::Incident && around.may_switch => {
            Judged::fine(Action::Switch)
        }
        // The incident is gone there, not the path.
        404 | 410 if request.path.starts_with("/agent/incidents/") => {
            refused(Action::Refuse, request, status, &said)
        }
        404 | 405 | 501 => Judged::new(
            Action::NoSuchPath,
            TroubleKind::NoSuchPath,
            format!(
                "{base} does not know {} (HTTP {status}{said}); check api.base and api.contract",
                request.path
            ),
        ),
        408 | 425 | 429 => Judged::new(
            later(),
            TroubleKind::Throttled,
            format!(
                "the platform asks for fewer requests (HTTP {status}{said}); does another agent use this node's key?"
            ),
        ),
        400..=499 => refused(Action::Refuse, request, status, &said),
        500..=599 => Judged::new(
            later(),
            TroubleKind::ServerError,
            format!(
                "Flowtriq returned a server error (HTTP {status}{said}); see {STATUS_PAGE} for outages"
            ),
        ),
        _ => Judged::new(
            later(),
            TroubleKind::ServerError,
            format!(
                "{base} answered with HTTP status {status}, which no platform sends; check api.base"
            ),
        ),
    }
}

/// A success that proves nothing: as good as a server error.
fn judge_bad_body(bad: BadBody, around: &Circumstances<'_>) -> Judged {
    let problem = format!(
        "{} answered with {}, which is no answer of the platform's; check api.base, and whether a portal or proxy \
         answers in its place",
        around.base,
        bad.words()
    );
    let mut judged = Judged::new(Action::Later(None), TroubleKind::ServerError, problem);
    judged.bad_body = true;
    judged
}

fn refused(action: Action, request: &Request, status: u16, said: &str) -> Judged {
    Judged::new(
        action,
        TroubleKind::Refused,
        format!(
            "the platform refuses what was sent to {} as wrong (HTTP {status}{said}); it is set aside and will not be \
             sent again, everything else goes on. Report it, with this line, to whoever maintains this agent",
            request.path
        ),
    )
}

/// What the platform says about an error, to be put behind its status.
fn said(reply: &Reply) -> String {
    platform::complaint(&reply.body).map_or_else(String::new, |text| format!(", \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://platform.example/api/v1";

    fn request(call: Call, path: &str) -> Request {
        Request {
            call,
            path: path.to_owned(),
            body: None,
        }
    }

    fn judged(call: Call, path: &str, may_switch: bool, reply: &Reply) -> Judged {
        let around = Circumstances {
            base: BASE,
            may_switch,
            now: Timestamp::from_seconds(1_773_567_858),
            longest_wait: Duration::from_secs(3_600),
        };
        judge(&request(call, path), &Ok(reply.clone()), &around)
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            body: body.as_bytes().to_vec(),
            ..Reply::default()
        }
    }

    /// Each status with what is done about it on the incident path once a contract is chosen, and on another path.
    const TABLE: [(u16, &str, &str); 24] = [
        (200, "accept", "accept"),
        (201, "accept", "accept"),
        (204, "accept", "accept"),
        (301, "later", "later"),
        (302, "later", "later"),
        (307, "later", "later"),
        (400, "refuse", "refuse"),
        (401, "hold", "hold"),
        (402, "hold", "hold"),
        (403, "hold", "hold"),
        (404, "no such path", "no such path"),
        (405, "no such path", "no such path"),
        (408, "later", "later"),
        (409, "adopt", "adopt"),
        (410, "refuse", "refuse"),
        (413, "brief", "refuse"),
        (422, "refuse", "refuse"),
        (425, "later", "later"),
        (429, "later", "later"),
        (500, "later", "later"),
        (501, "no such path", "no such path"),
        (502, "later", "later"),
        (503, "later", "later"),
        (504, "later", "later"),
    ];

    fn name(action: &Action) -> &'static str {
        match action {
            Action::Accept(_) => "accept",
            Action::Adopt(_) => "adopt",
            Action::Later(_) => "later",
            Action::NoSuchPath => "no such path",
            Action::Refuse => "refuse",
            Action::Brief => "brief",
            Action::Switch => "switch",
            Action::Hold(_) => "hold",
        }
    }

    #[test]
    fn every_status_has_its_handling_whatever_the_body_says() {
        for (status, incident, other) in TABLE {
            for body in ["", "<html><body>Oops", "{\"error\": \"x\"}", "[[[", "\0\0"] {
                let reply = reply(status, body);
                let found = judged(Call::Incident, "/agent/incident", false, &reply);
                let success = status < 300 && !body.is_empty() && !body.starts_with("{\"");
                let expected = if success { "later" } else { incident };
                assert_eq!(name(&found.action), expected, "{status} {body}");
                assert_eq!(found.bad_body, success, "{status} {body}");
                let found = judged(Call::Metrics, "/agent/metrics", false, &reply);
                let expected = if success { "later" } else { other };
                assert_eq!(name(&found.action), expected, "{status} {body}");
            }
        }
    }

    #[test]
    fn only_an_unknown_incident_path_switches_and_only_while_it_may() {
        for (status, ..) in TABLE {
            let reply = reply(status, "{}");
            let switches =
                |call, path, may| judged(call, path, may, &reply).action == Action::Switch;
            let unknown = matches!(status, 404 | 405 | 501);
            assert_eq!(switches(Call::Incident, "/agent/incident", true), unknown);
            assert!(!switches(Call::Incident, "/agent/incident", false));
            for (call, path) in [
                (Call::Heartbeat, "/agent/heartbeat"),
                (Call::Metrics, "/agent/metrics"),
                (Call::Config, "/agent/config"),
                (Call::Ack, "/agent/commands/ack"),
            ] {
                assert!(!switches(call, path, true), "{status} {path}");
            }
        }
    }

    #[test]
    fn an_incident_the_platform_has_forgotten_does_not_block_the_others() {
        let found = judged(
            Call::Incident,
            "/agent/incidents/a-b/resolve",
            false,
            &reply(404, ""),
        );
        assert_eq!(found.action, Action::Refuse);
    }

    #[test]
    fn the_operator_is_told_what_to_do() {
        for (status, words) in [
            (400, &["HTTP 400, \"pps is missing\"", "set aside"][..]),
            (401, &["HTTP 401", "wrong or expired", "dashboard"]),
            (403, &["HTTP 403", "wrong or expired", "dashboard"]),
            (402, &["HTTP 402", "lapsed", "check billing"]),
            (404, &["does not know /agent/heartbeat", "api.contract"]),
            (
                409,
                &[
                    "HTTP 409, \"pps is missing\"",
                    "a node of that name already exists",
                ],
            ),
            (429, &["fewer requests", "HTTP 429"]),
            (
                500,
                &["server error (HTTP 500", "https://flowtriq.com/status"],
            ),
            (
                503,
                &["server error (HTTP 503", "https://flowtriq.com/status"],
            ),
            (700, &["HTTP status 700", "api.base"]),
        ] {
            let reply = reply(status, "{\"error\": \"pps is missing\"}");
            let found = judged(Call::Heartbeat, "/agent/heartbeat", true, &reply);
            let sentence = found.trouble.unwrap().sentence;
            for word in words {
                assert!(sentence.contains(word), "{sentence}");
            }
            assert!(!sentence.contains('\n'), "{sentence}");
        }
        assert_eq!(
            judged(Call::Heartbeat, "/", true, &reply(200, "{}")).trouble,
            None
        );
    }

    #[test]
    fn a_redirect_names_where_it_leads_and_is_not_followed() {
        let reply = Reply {
            status: 302,
            location: Some("http://portal.example/login\n".to_owned()),
            ..Reply::default()
        };
        let found = judged(Call::Metrics, "/agent/metrics", false, &reply);
        assert_eq!(found.action, Action::Later(None));
        let sentence = found.trouble.unwrap().sentence;
        assert!(
            sentence.contains("redirects to http://portal.example/login,"),
            "{sentence}"
        );
    }

    #[test]
    fn a_wait_asked_for_is_kept_up_to_an_hour() {
        for (status, header, wait) in [
            (429, "30", Some(30)),
            (503, "7", Some(7)),
            (503, "Sun, 15 Mar 2026 09:45:18 GMT", Some(60)),
            (408, "999999", Some(3_600)),
            (500, "whenever", None),
            (302, "5", Some(5)),
        ] {
            let reply = Reply {
                status,
                wait: Some(header.to_owned()),
                ..Reply::default()
            };
            let found = judged(Call::Config, "/agent/config", false, &reply);
            assert_eq!(
                found.action,
                Action::Later(wait.map(Duration::from_secs)),
                "{header}"
            );
        }
    }

    #[test]
    fn no_answer_at_all_is_tried_again_and_says_what_is_wrong() {
        let why = || "reason".to_owned();
        for (failure, kind, words) in [
            (
                Failure::Name(why()),
                TroubleKind::Unreachable,
                "no address for https://platform.example/api/v1: reason",
            ),
            (
                Failure::Connect(why()),
                TroubleKind::Unreachable,
                "no connection",
            ),
            (
                Failure::Tls(why()),
                TroubleKind::Untrusted,
                "no trusted connection",
            ),
            (Failure::TimedOut, TroubleKind::Unreachable, "in time"),
            (
                Failure::Broken(why()),
                TroubleKind::Unreachable,
                "broke: reason",
            ),
            (
                Failure::TooLarge,
                TroubleKind::ServerError,
                "more than 1048576 bytes",
            ),
        ] {
            let around = Circumstances {
                base: BASE,
                may_switch: true,
                now: Timestamp::default(),
                longest_wait: Duration::from_secs(3_600),
            };
            let large = failure == Failure::TooLarge;
            let call = request(Call::Incident, "/agent/incident");
            let found = judge(&call, &Err(failure), &around);
            assert_eq!(found.action, Action::Later(None));
            assert_eq!(found.bad_body, large);
            let trouble = found.trouble.unwrap();
            assert_eq!(trouble.kind, kind);
            assert!(trouble.sentence.contains(words), "{}", trouble.sentence);
        }
    }

    #[test]
    fn what_exists_already_is_adopted() {
        let found = judged(
            Call::Incident,
            "/agent/incident",
            false,
            &reply(409, "{\"incident_id\": 5}"),
        );
        let Action::Adopt(answer) = found.action else {
            panic!("not {:?}", found.action)
        };
        assert_eq!(platform::ids(&answer).id, Some(5));
    }
}
