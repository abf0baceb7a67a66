//! Whom the agent trusts: the roots of the system it runs on, and nobody else.
//!
//! The program itself, unchanged, asks a server on this host that speaks TLS with a certificate it signed itself. What
//! the system trusts is said to it in the way of the system: by `SSL_CERT_FILE`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::agent::PROGRAM;
use common::process::{Finished, Scratch, finish};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Longer than any command here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the certificates of this system are, on the distributions that the tests run on.
const SYSTEMS_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

fn pem(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    folder.join(name)
}

/// A platform that speaks TLS as `localhost`, for as long as the test runs.
struct Server {
    port: u16,
    /// Requests that somebody who trusted it sent.
    heard: Arc<AtomicUsize>,
}

impl Server {
    fn start(certificate: &str) -> Self {
        // Whoever was first has installed one; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = CertificateDer::from_pem_file(pem(certificate)).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(pem("key.pem")).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = rustls::ServerConnection::new(Arc::clone(&config));
                let session = session.expect("the configuration is one");
                serve(rustls::StreamOwned::new(session, stream), &count);
            }
        });
        Self { port, heard }
    }

    /// Asks it, as the program does on a host with these variables.
    fn asked(&self, environment: &[(&str, &Path)]) -> Finished {
        let scratch = Scratch::new();
        let file = scratch.write(
            "agent.toml",
            &format!(
                "[api]\nkey = \"ft_live_0123456789abcdef\"\nnode_uuid = \"5e0d-a1\"\nbase = \"https://localhost:{}/api/v1\"\n",
                self.port
            ),
        );
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&file, mode).expect("the file is ours");
        let mut command = Command::new(PROGRAM);
        command.args(["check", "--online", "--config"]).arg(&file);
        command.env_clear();
        for (name, value) in environment {
            command.env(name, value);
        }
        finish(&mut command, PATIENCE)
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }
}

/// Answers requests until the client has had enough. One that does not trust the certificate sends none.
fn serve(
    mut stream: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    heard: &AtomicUsize,
) {
    const BODY: &str = "{\"pps_threshold\": 50000}";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        request.extend_from_slice(piece.get(..count).unwrap_or_default());
        if request.ends_with(b"\r\n\r\n") {
            heard.fetch_add(1, Ordering::Relaxed);
            request.clear();
            if stream
                .write_all(answer.as_bytes())
                .and_then(|()| stream.flush())
                .is_err()
            {
                return;
            }
        }
    }
}

#[track_caller]
fn assert_untrusted(done: &Finished, why: &str) {
    for words in ["no trusted connection to https://localhost:", why] {
        assert!(done.stderr.contains(words), "{done:?}");
    }
    assert_eq!(done.code, Some(1), "{done:?}");
}

#[test]
fn a_server_is_trusted_when_and_only_when_the_system_trusts_its_certificate() {
    let server = Server::start("localhost.pem");
    let nobody = "nobody this host trusts has signed its certificate";
    if Path::new(SYSTEMS_ROOTS).is_file() {
        assert_untrusted(&server.asked(&[]), nobody);
    } else {
        common::needs::skip(&format!(
            "this system has no certificates at {SYSTEMS_ROOTS}"
        ));
    }
    let others = pem("elsewhere.pem");
    assert_untrusted(&server.asked(&[("SSL_CERT_FILE", &others)]), nobody);
    assert_eq!(server.heard(), 0, "nothing is sent to who is not trusted");

    let its_own = pem("localhost.pem");
    let done = server.asked(&[("SSL_CERT_FILE", &its_own)]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let accepted = "accepts this node and sets a limit of 50,000 packets/s";
    assert!(done.stdout.contains(accepted), "{done:?}");
    assert_eq!(server.heard(), 2, "health and configuration");
}

#[test]
fn a_certificate_that_the_system_trusts_must_still_be_good() {
    for (certificate, why) in [
        ("elsewhere.pem", "its certificate is for another name"),
        ("expired.pem", "its certificate has expired"),
    ] {
        let server = Server::start(certificate);
        let trusted = pem(certificate);
        assert_untrusted(&server.asked(&[("SSL_CERT_FILE", &trusted)]), why);
        assert_eq!(server.heard(), 0, "{certificate}");
    }
}

#[test]
fn a_system_that_trusts_nobody_is_said_with_the_cure() {
    let server = Server::start("localhost.pem");
    let scratch = Scratch::new();
    let empty = scratch.write("empty.pem", "");
    let folder = scratch.path().join("none");
    let done = server.asked(&[("SSL_CERT_FILE", &empty), ("SSL_CERT_DIR", &folder)]);
    for words in ["TLS cannot be set up: ", "(package ca-certificates)"] {
        assert!(done.stderr.contains(words), "{done:?}");
    }
    assert_eq!((done.code, server.heard()), (Some(1), 0), "{done:?}");
}
