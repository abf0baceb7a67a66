//! Requests over the wire, and answers within bounds.
//!
//! TLS by the system's roots with no way to turn it off, no redirects, a time limit for the connection and one for the
//! whole, and a size limit for what is read. What a refusal means is in its head: whatever its body is, its status is
//! heard. The key goes out in one header, and is taken out of answers before anything else sees them. Only on the
//! uplink's runtime.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, redirect};
use rustls::{AlertDescription, CertificateError};
use tokio::time::timeout;

use super::answer::{Circumstances, Failure, Judged, Reply, judge};
use super::key::ApiKey;
use super::platform::{ANSWER_BYTES_MAX, plain};
use super::resolve::{NoAddress, Resolver};
use super::wire::{Call, Request, VERSION};
use super::{ApiBase, Cadence, UplinkError};
use crate::clock;

/// Longest reason taken over from a library, in characters.
const REASON_CHARS_MAX: usize = 200;

/// How long to wait for what a refusal says: it is for people, and comes with the head or right behind it. A platform that
/// refuses by the byte must not hold up the next incident.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

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
    longest_wait: Duration,
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
            // A connection that has died silently must not take all requests with it until TCP gives up.
            .tcp_user_timeout(cadence.request)
            .http2_keep_alive_interval(cadence.request / 2)
            .http2_keep_alive_timeout(cadence.connect)
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
            // What libraries say of a failure has passed nobody yet.
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
        let response = call.send().await.map_err(|error| failure(&error))?;
        let headers = response.headers();
        let mut reply = Reply {
            status: response.status().as_u16(),
            wait: header(headers, RETRY_AFTER.as_str())
                .or_else(|| header(headers, "x-ratelimit-reset")),
            location: header(headers, LOCATION.as_str()),
            body: Vec::new(),
        };
        if response.status().is_success() {
            reply.body = body(response).await?;
        } else if let Ok(Ok(body)) = timeout(REFUSAL_PATIENCE, body(response)).await {
            reply.body = body;
        }
        if let Some(key) = &self.key {
            reply.body = key.redact_json(reply.body);
            reply.location = reply.location.map(|location| key.redact(&location));
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

/// What stands in an answer, if that is all there within bounds.
async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    if response
        .content_length()
        .is_some_and(|bytes| bytes > ANSWER_BYTES_MAX as u64)
    {
        return Err(Failure::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
            // As where this host trusts another of the same name.
            CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                "its certificate was not signed by the issuer it names, as this host knows that one"
            }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;
    use crate::uplink::answer::Action;
    use crate::uplink::server::{Platform, Play};
    use crate::uplink::{once, wire};

    const MARKER: &str = "ft_live_MARKER0123456789";
    const NODE: &str = "5e0d1c2b-0000-4000-8000-0000000000a1";

    /// Short times: what waits for one shows it soon.
    fn cadence() -> Cadence {
        Cadence {
            connect: Duration::from_millis(500),
            request: Duration::from_secs(2),
            ..Cadence::default()
        }
    }

    fn key() -> ApiKey {
        ApiKey::new(MARKER).unwrap()
    }

    fn client(base: &str) -> Client {
        let base = ApiBase::parse(base, false).unwrap();
        Client::new(base, Some(&key()), Some(NODE), &cadence()).unwrap()
    }

    fn metrics() -> Request {
        Request {
            call: Call::Metrics,
            path: "/agent/metrics".to_owned(),
            body: Some(b"{}".to_vec()),
        }
    }

    fn sentence(judged: &Judged) -> &str {
        judged
            .trouble
            .as_ref()
            .map_or("", |trouble| &trouble.sentence)
    }

    #[tokio::test]
    async fn calls_say_who_we_are_as_far_as_they_should() {
        let platform = Platform::start(|_| Play::ok());
        let client = client(&platform.base());
        let bearer = format!("authorization: Bearer {MARKER}");
        let node = format!("x-node-uuid: {NODE}");
        let agent = format!("user-agent: ftagent/{}", env!("CARGO_PKG_VERSION"));
        for (request, line, has_key, has_node) in [
            (metrics(), "POST /api/v1/agent/metrics", true, true),
            (wire::config(), "GET /api/v1/agent/config", true, true),
            (once::health_check(), "GET /api/health", false, false),
            (
                Request {
                    call: Call::Deploy,
                    path: "/deploy".to_owned(),
                    body: Some(b"{}".to_vec()),
                },
                "POST /api/deploy",
                true,
                false,
            ),
        ] {
            let judged = client.ask(&request, false).await;
            assert!(matches!(judged.action, Action::Accept(_)), "{judged:?}");
            let seen = platform.seen().pop().unwrap();
            assert_eq!(seen.line, line);
            assert_eq!(seen.has_header(&bearer), has_key, "{line}");
            assert_eq!(seen.has_header(&node), has_node, "{line}");
            assert!(seen.has_header(&agent), "{line}");
            let is_json = seen.has_header("content-type: application/json");
            assert_eq!(is_json, request.body.is_some(), "{line}");
        }
    }

    #[tokio::test]
    async fn bad_platforms_are_given_up_in_time_and_within_bounds() {
        let platform = Platform::start(|_| Play::ok());
        let client = client(&platform.base());
        let deep = format!("{{\"a\":{}", "[".repeat(200_000)).into_bytes();
        for (play, action, words) in [
            (Play::Silent, Action::Later(None), "did not answer in time"),
            (
                Play::Drip(b"{\"ok\": true}".to_vec()),
                Action::Later(None),
                "did not answer in time",
            ),
            (Play::Break, Action::Later(None), "broke"),
            (Play::Close, Action::Later(None), "broke"),
            (Play::Flood, Action::Later(None), "more than 1048576 bytes"),
            (
                Play::Say(200, "", vec![b' '; 2 << 20]),
                Action::Later(None),
                "more than 1048576 bytes",
            ),
            (
                Play::Say(200, "", deep),
                Action::Later(None),
                "deeper than 32",
            ),
            (Play::html(200), Action::Later(None), "no JSON"),
            (
                Play::html(503),
                Action::Later(None),
                "server error (HTTP 503)",
            ),
            (
                Play::Say(503, "retry-after: 7\r\n", Vec::new()),
                Action::Later(Some(Duration::from_secs(7))),
                "HTTP 503",
            ),
            (
                Play::Say(429, "x-ratelimit-reset: 9\r\n", Vec::new()),
                Action::Later(Some(Duration::from_secs(9))),
                "HTTP 429",
            ),
        ] {
            let mut plays = Some(play.clone());
            platform.play(move |_| plays.take().unwrap_or_else(Play::ok));
            let start = crate::clock::monotonic();
            let judged = client.ask(&metrics(), false).await;
            // Two seconds are allowed; a machine that stands still meanwhile is not the client's fault.
            assert!(start.elapsed() < Duration::from_secs(10), "{play:?}");
            assert_eq!(judged.action, action, "{}", sentence(&judged));
            assert!(sentence(&judged).contains(words), "{}", sentence(&judged));
        }
        // And a good one is heard afterwards.
        let judged = client.ask(&metrics(), false).await;
        assert!(matches!(judged.action, Action::Accept(_)), "{judged:?}");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_no_credentials_go_elsewhere() {
        let elsewhere = Platform::start(|_| Play::ok());
        let to = format!("location: {}/agent/metrics\r\n", elsewhere.base());
        let to: &'static str = Box::leak(to.into_boxed_str());
        for status in [301, 302, 303, 307, 308] {
            let platform = Platform::start(move |_| Play::Say(status, to, Vec::new()));
            let judged = client(&platform.base()).ask(&metrics(), false).await;
            assert_eq!(judged.action, Action::Later(None), "{status}");
            assert!(sentence(&judged).contains("redirects to"), "{status}");
            assert_eq!(platform.seen().len(), 1, "{status}");
        }
        assert_eq!(elsewhere.seen().len(), 0);
    }

    #[tokio::test]
    async fn the_key_is_in_no_answer_even_when_the_platform_repeats_it() {
        // Sentences are cut at 200 characters: a key that begins before and ends behind must not be left in part.
        for before in [0, 185, 195] {
            let before = "x".repeat(before);
            let quote = format!("{{\"error\": \"{before} unknown key {MARKER}\"}}").into_bytes();
            let to = format!("location: http://192.0.2.1/{before}{MARKER}\r\n");
            let to: &'static str = Box::leak(to.into_boxed_str());
            for status in [200, 302, 400, 401, 409] {
                let quote = quote.clone();
                let platform = Platform::start(move |_| Play::Say(status, to, quote.clone()));
                let judged = client(&platform.base()).ask(&metrics(), false).await;
                let told = format!("{judged:?}");
                for part in ["ft_live_", "MARKER"] {
                    assert!(!told.contains(part), "{told}");
                }
            }
        }
        let command = format!("{{\"pending_commands\": [{{\"command\": \"x {MARKER}\"}}]}}");
        let platform = Platform::start(move |_| Play::Say(200, "", command.clone().into_bytes()));
        let judged = client(&platform.base()).ask(&wire::config(), false).await;
        let Action::Accept(answer) = judged.action else {
            panic!("{judged:?}")
        };
        assert_eq!(answer["pending_commands"][0]["command"], "x (secret)");
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_somebody_who_is_silent() {
        let refused = client("http://127.0.0.1:1/api/v1")
            .ask(&metrics(), false)
            .await;
        assert!(sentence(&refused).contains("no connection"), "{refused:?}");
        assert!(sentence(&refused).contains("refused"), "{refused:?}");
        let base = ApiBase::parse("https://platform.invalid/api/v1", false).unwrap();
        let nameless = Client::new(base, Some(&key()), Some(NODE), &cadence());
        // Without CA certificates on this host there is no client to ask.
        if let Ok(nameless) = nameless {
            let judged = nameless.ask(&metrics(), false).await;
            assert!(sentence(&judged).contains("no address for"), "{judged:?}");
        }
    }

    #[tokio::test]
    async fn a_node_uuid_that_cannot_be_sent_is_named() {
        for odd in ["", "  ", "a b", "a\nb", "\u{e9}"] {
            let base = ApiBase::parse("http://127.0.0.1:1/", false).unwrap();
            let made = Client::new(base, Some(&key()), Some(odd), &cadence());
            let Err(UplinkError::NodeUuid { found }) = made else {
                panic!("{odd:?} was taken")
            };
            assert!(!found.contains('\n'));
        }
    }

    /// Speaks TLS on this host with a certificate of its own, to one who calls.
    fn tls_platform(certificate: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(TLS_KEY.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(1) {
                let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
                // A client that trusts nobody hangs up in here.
                if stream.read(&mut [0; 4_096]).is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
                    let _ = stream.flush();
                }
            }
        });
        format!("https://localhost:{port}/api/v1")
    }

    async fn over_tls(certificate: &str, trusted: &[&str]) -> Judged {
        let base = ApiBase::parse(&tls_platform(certificate), false).unwrap();
        let roots: Vec<_> = trusted
            .iter()
            .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap())
            .collect();
        let client = Client::with(base, Some(&key()), Some(NODE), &cadence(), |builder| {
            builder.tls_certs_only(roots)
        });
        client.unwrap().ask(&metrics(), false).await
    }

    #[tokio::test]
    async fn certificates_are_checked_and_what_is_wrong_with_them_is_said() {
        let good = over_tls(TLS_GOOD, &[TLS_GOOD]).await;
        assert!(matches!(good.action, Action::Accept(_)), "{good:?}");
        for (certificate, trusted, words) in [
            (TLS_GOOD, &[TLS_OTHER][..], "nobody this host trusts"),
            (TLS_OTHER, &[TLS_OTHER], "for another name"),
            (TLS_EXPIRED, &[TLS_EXPIRED], "has expired"),
        ] {
            let judged = over_tls(certificate, trusted).await;
            assert_eq!(judged.action, Action::Later(None));
            assert!(sentence(&judged).contains(words), "{}", sentence(&judged));
            assert!(sentence(&judged).contains("no trusted connection"));
        }
    }

    #[tokio::test]
    async fn plain_text_where_tls_is_expected_is_not_talked_to() {
        let platform = Platform::start(|_| Play::ok());
        let base = format!("https://localhost:{}/", platform.address().port());
        let base = ApiBase::parse(&base, false).unwrap();
        let roots = [reqwest::Certificate::from_pem(TLS_GOOD.as_bytes()).unwrap()];
        let client = Client::with(base, Some(&key()), Some(NODE), &cadence(), |builder| {
            builder.tls_certs_only(roots)
        });
        let judged = client.unwrap().ask(&metrics(), false).await;
        assert!(matches!(judged.action, Action::Later(None)), "{judged:?}");
        assert!(
            platform
                .seen()
                .iter()
                .all(|seen| !seen.line.contains("agent"))
        );
    }

    #[test]
    fn what_tls_may_find_wrong_has_words() {
        for (error, words) in [
            (CertificateError::Expired.into(), "expired"),
            (CertificateError::NotValidYet.into(), "not valid yet"),
            (CertificateError::Revoked.into(), "revoked"),
            (CertificateError::BadEncoding.into(), "invalid"),
            (CertificateError::BadSignature.into(), "not signed by"),
            (
                rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
                "TLS 1.2 or 1.3",
            ),
            (
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                "does not speak TLS",
            ),
        ] {
            let found = untrusted(&error);
            assert!(found.contains(words), "{found}");
        }
    }

    /// Made for tests and used nowhere else.
    const TLS_KEY: &str = include_str!("../../tests/tls/key.pem");

    /// Self-signed with that key for `localhost`, until 2049.
    const TLS_GOOD: &str = include_str!("../../tests/tls/localhost.pem");

    /// The same for `elsewhere.invalid`.
    const TLS_OTHER: &str = include_str!("../../tests/tls/elsewhere.pem");

    /// The same for `localhost`, until 2021.
    const TLS_EXPIRED: &str = include_str!("../../tests/tls/expired.pem");
}
