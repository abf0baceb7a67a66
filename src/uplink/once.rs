//! Calls made once, by commands: is the platform there, does it accept us, make this node known to it.
//!
//! Each runs on a small runtime of its own and returns when it is answered or its time is up. Never from within a
//! runtime.

use std::net::IpAddr;

use serde_json::Value;

use super::answer::{Action, Judged, TroubleKind};
use super::client::Client;
use super::platform::{self, PlatformValues};
use super::wire::{self, Call, Request};
use super::{ApiBase, ApiKey, Cadence, Settings, UplinkError, seed};

/// A node that the platform is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its name for people, unique in the workspace, at most 100 characters.
    pub name: String,
    /// Its public address.
    pub ip: IpAddr,
    /// Where it stands: a region or a data centre.
    pub location: Option<String>,
    /// Its operating system.
    pub os: Option<String>,
    /// The interface it watches; the platform takes `eth0` without one.
    pub interface: Option<String>,
}

/// A node that the platform knows now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// What the platform calls it.
    pub node_uuid: String,
    /// The key it is to use.
    pub api_key: ApiKey,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// It could not be made.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The platform did not do what was asked; the sentence says why and what to do.
    #[error("{sentence}")]
    Platform {
        /// What kind of trouble it is.
        kind: TroubleKind,
        /// For people.
        sentence: String,
    },
}

/// Asks whether the platform is there at all. Needs no credentials.
///
/// # Errors
///
/// When it is not, or something answers in its place.
pub fn health(base: &ApiBase) -> Result<(), OnceError> {
    let client = Client::new(base.clone(), None, None, &Cadence::default())?;
    block_on(async { is_up(&client).await })?
}

/// Asks whether the platform accepts this node, and what it wants of it. Sends nothing about the node.
///
/// # Errors
///
/// When the platform is not there, which is asked first, or does not accept the node.
pub fn look(settings: &Settings) -> Result<PlatformValues, OnceError> {
    let base =
        ApiBase::parse(&settings.api_base, settings.allow_http).map_err(UplinkError::Base)?;
    let node = Some(settings.node_uuid.as_str());
    let client = Client::new(base, Some(&settings.key), node, &settings.cadence)?;
    block_on(async {
        is_up(&client).await?;
        let answer = done(client.ask(&wire::config(), false).await)?;
        Ok(PlatformValues::default().updated(&answer).0)
    })?
}

/// Makes a node known to the platform, by the workspace's deploy token. Not tried again: it might exist already.
///
/// # Errors
///
/// When the platform refuses: the sentence says which field is missing, that the token is wrong, that the subscription
/// has lapsed, or that the name is taken.
pub fn deploy(base: &ApiBase, token: &ApiKey, node: &NewNode) -> Result<Deployed, OnceError> {
    let client = Client::new(base.clone(), Some(token), None, &Cadence::default())?;
    let request = seed::deploy(node);
    block_on(async {
        let outcome = client.send(&request).await;
        if let Ok(reply) = &outcome {
            let said = platform::complaint(&reply.body).unwrap_or_else(|| "no reason".to_owned());
            if let Some(refusal) = refusal(reply.status, &token.redact(&said), node) {
                return Err(refusal);
            }
        }
        let answer = done(client.judged(&request, &outcome, false))?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str);
        let api_key = text("api_key").and_then(|key| ApiKey::new(key).ok());
        match (text("node_uuid"), api_key) {
            (Some(node_uuid), Some(api_key)) => Ok(Deployed {
                node_uuid: platform::plain(node_uuid, 128),
                api_key,
            }),
            _ => Err(OnceError::Platform {
                kind: TroubleKind::ServerError,
                sentence: format!(
                    "the platform made {} known but answered without its UUID and key; look them up on the node's page \
                     in the Flowtriq dashboard",
                    node.name
                ),
            }),
        }
    })?
}

/// The refusals that mean something of their own when a node is made known.
fn refusal(status: u16, said: &str, node: &NewNode) -> Option<OnceError> {
    let (kind, sentence) = match status {
        400 | 422 => (
            TroubleKind::Refused,
            format!(
                "the platform lacks something about the node (HTTP {status}, \"{said}\"); give it and try again"
            ),
        ),
        401 | 403 => (
            TroubleKind::KeyRejected,
            format!(
                "the platform does not accept the deploy token (HTTP {status}, \"{said}\"); it is another secret than a \
                 node's API key: take it from the workspace's settings in the Flowtriq dashboard"
            ),
        ),
        402 => (
            TroubleKind::Lapsed,
            format!(
                "the platform adds no node (HTTP 402, \"{said}\"): the subscription may have lapsed; check billing"
            ),
        ),
        409 => (
            TroubleKind::Refused,
            format!(
                "a node named {} exists already in the workspace (HTTP 409, \"{said}\"); choose another name, or take \
                 that node's UUID and key from its page in the Flowtriq dashboard",
                node.name
            ),
        ),
        _ => return None,
    };
    Some(OnceError::Platform { kind, sentence })
}

/// The health check as a request.
pub(super) fn health_check() -> Request {
    Request {
        call: Call::Health,
        path: "/health".to_owned(),
        body: None,
    }
}

async fn is_up(client: &Client) -> Result<(), OnceError> {
    done(client.ask(&health_check(), false).await).map(|_| ())
}

/// The answer to a call that succeeded.
fn done(judged: Judged) -> Result<wire::Answer, OnceError> {
    match (judged.action, judged.trouble) {
        (Action::Accept(answer) | Action::Adopt(answer), _) => Ok(answer),
        (_, Some(trouble)) => Err(OnceError::Platform {
            kind: trouble.kind,
            sentence: trouble.sentence,
        }),
        (_, None) => Err(OnceError::Platform {
            kind: TroubleKind::ServerError,
            sentence: "the platform gave no usable answer".to_owned(),
        }),
    }
}

fn block_on<T>(call: impl Future<Output = T>) -> Result<T, OnceError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(|source| UplinkError::Thread { source })?;
    let result = runtime.block_on(call);
    // A resolver that hangs is left behind.
    runtime.shutdown_background();
    Ok(result)
}
