//! Requests over the wire, and answers within bounds.
//!
//! TLS by the system's roots with no way to turn it off, no redirects, a time limit for the connection and one for the
//! whole, and a size limit for what is read. The key goes out in one header and into no error. Only on the uplink's
//! runtime.

use std::error::Error;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, redirect};
use rustls::{AlertDescription, CertificateError};

use super::answer::{Circumstances, Failure, Judged, Reply, judge};
use super::key::ApiKey;
use super::platform::{ANSWER_BYTES_MAX, plain};
use super::resolve::{NoAddress, Resolver};
use super::wire::{Call, Request, VERSION};
use super::{ApiBase, Cadence, UplinkError};
use crate::clock;

/// Longest reason taken over from a library, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Connections kept open while they are idle: one for seconds and one for incidents would do.
const IDLE_CONNECTIONS: usize = 4;

/// A way to the platform; clones share its connections.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Arc<ApiBase>,
    /// For messages: the base as text.
    name: Arc<str>,
    key: Option<ApiKey>,
    bearer: Option<HeaderValue>,
    node: Option<HeaderValue>,
    resolver: Resolver,
    longest_wait: std::time::Duration,
}

impl Client {
    /// A client of the API at `base` with what proves who we are, as far as we are somebody.
    pub(super) fn new(
        base: ApiBase,
        key: Option<&ApiKey>,
        node_uuid: Option<&str>,
        cadence: &Cadence,
    ) -> Result<Self, UplinkError> {
        Self::with(base, key, node_uuid, cadence, |builder| builder)
    }

    /// The same, built a little differently: tests bring roots of their own.
    pub(super) fn with(
        base: ApiBase,
        key: Option<&ApiKey>,
        node_uuid: Option<&str>,
        cadence: &Cadence,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, UplinkError> {
        let node = node_uuid.map(node_header).transpose()?;
        let no_tls = |reason: String| UplinkError::Tls { reason };
        // Whoever was first has installed one; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let resolver = Resolver::new(cadence.resolve, cadence.addresses_kept);
        let mut builder = reqwest::Client::builder()
            .user_agent(format!("ftagent/{VERSION}"))
            // Not even on the same host: a POST that is redirected may arrive as a GET, and be taken for delivered.
            .redirect(redirect::Policy::none())
            .connect_timeout(cadence.connect)
            .timeout(cadence.request)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .dns_resolver(Arc::new(resolver.clone()));
        if base.is_loopback() {
            // What is on this host is not reached through a proxy.
            builder = builder.no_proxy();
        }
        if !base.is_encrypted() {
            // Without redirects nothing can lead to TLS, so its roots need not be there.
            builder = builder.tls_certs_only([]);
        }
        let http = change(builder)
            .build()
            .map_err(|error| no_tls(innermost(&error)))?;
        Ok(Self {
            http,
            name: base.to_string().into(),
            base: Arc::new(base),
            key: key.cloned(),
            bearer: key.and_then(ApiKey::bearer),
            node,
            resolver,
            longest_wait: cadence.longest_wait,
        })
    }

    /// Where it leads.
    pub(super) fn base(&self) -> &ApiBase {
        &self.base
    }

    /// How it finds addresses.
    pub(super) const fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Sends a request and says what came of it. `may_switch`: whether the other contract is still to be tried.
    pub(super) async fn ask(&self, request: &Request, may_switch: bool) -> Judged {
        let outcome = self.send(request).await;
        self.judged(request, &outcome, may_switch)
    }

    /// What an outcome means, without the key.
    pub(super) fn judged(
        &self,
        request: &Request,
        outcome: &Result<Reply, Failure>,
        may_switch: bool,
    ) -> Judged {
        let around = Circumstances {
            base: &self.name,
            may_switch,
            now: clock::now(),
            longest_wait: self.longest_wait,
        };
        let mut judged = judge(request, outcome, &around);
        if let (Some(trouble), Some(key)) = (&mut judged.trouble, &self.key) {
            // The platform may quote the key it refuses.
            trouble.sentence = key.redact(&trouble.sentence);
        }
        judged
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: &Request) -> Result<Reply, Failure> {
        let url = match request.call {
            Call::Health | Call::Deploy => self.base.beside(&request.path),
            _ => self.base.agent(&request.path),
        };
        let method = if request.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut call = self
            .http
            .request(method, url)
            .headers(self.headers(request.call));
        if let Some(body) = &request.body {
            call = call
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let mut response = call.send().await.map_err(|error| failure(&error))?;
        if response
            .content_length()
            .is_some_and(|bytes| bytes > ANSWER_BYTES_MAX as u64)
        {
            return Err(Failure::TooLarge);
        }
        let mut reply = Reply {
            status: response.status().as_u16(),
            wait: header(response.headers(), RETRY_AFTER.as_str())
                .or_else(|| header(response.headers(), "x-ratelimit-reset")),
            location: header(response.headers(), LOCATION.as_str()),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if reply.body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            reply.body.extend_from_slice(&chunk);
        }
        Ok(reply)
    }

    /// Who we are, as far as the call should know.
    fn headers(&self, call: Call) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let (Some(bearer), true) = (&self.bearer, call != Call::Health) {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        if let (Some(node), false) = (&self.node, matches!(call, Call::Health | Call::Deploy)) {
            headers.insert("x-node-uuid", node.clone());
        }
        headers
    }
}

/// A node's UUID as a header. Opaque, as far as it can be sent: whether it is right only the platform can say.
fn node_header(node_uuid: &str) -> Result<HeaderValue, UplinkError> {
    /// A UUID has 36; the rest is room for other forms of name.
    const CHARS_MAX: usize = 128;

    let node = node_uuid.trim();
    let is_sendable =
        (1..=CHARS_MAX).contains(&node.len()) && node.bytes().all(|b| b.is_ascii_graphic());
    let header = HeaderValue::try_from(node).ok();
    header
        .filter(|_| is_sendable)
        .ok_or_else(|| UplinkError::NodeUuid {
            found: plain(node, CHARS_MAX),
        })
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Why a request has no answer.
fn failure(error: &reqwest::Error) -> Failure {
    if let Some(NoAddress(reason)) = cause(error) {
        return Failure::Name(plain(reason, REASON_CHARS_MAX));
    }
    if let Some(tls) = cause::<rustls::Error>(error) {
        return Failure::Tls(untrusted(tls));
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => Failure::Connect("not within the time for it".to_owned()),
        (true, false) => Failure::Connect(innermost(error)),
        (false, true) => Failure::TimedOut,
        (false, false) => Failure::Broken(innermost(error)),
    }
}

/// The first error of type `E` behind `error`. An I/O error hides what it carries from its chain of sources.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref())
        {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

/// What the last error of the chain says: the one that knows why, and that names no URL.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    plain(&last.to_string(), REASON_CHARS_MAX)
}

/// Why a connection is not to be trusted, for people.
fn untrusted(error: &rustls::Error) -> String {
    let words = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::UnknownIssuer => "nobody this host trusts has signed its certificate",
            CertificateError::Revoked => "its certificate was revoked",
            other => {
                return plain(
                    &format!("its certificate is invalid: {other}"),
                    REASON_CHARS_MAX,
                );
            }
        },
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        ) => "it offers no encryption that is safe; expected TLS 1.2 or 1.3",
        rustls::Error::InvalidMessage(_) => "it does not speak TLS",
        other => return plain(&other.to_string(), REASON_CHARS_MAX),
    };
    words.to_owned()
}
