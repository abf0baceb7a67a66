//! For tests: a platform on this host that remembers what it was sent and answers as it is told, however badly.
//!
//! Plain sockets and threads, so that every way of answering wrongly can be had, and one that hangs hangs alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::{self, Timestamp};
use crate::incident::Report;
use crate::ledger::Sample;

/// What the platform was sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// When the last byte of it was there.
    pub(super) at: Instant,
    /// `POST /api/v1/agent/metrics`.
    pub(super) line: String,
    /// In small letters, `name: value`.
    pub(super) headers: Vec<String>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn has_header(&self, header: &str) -> bool {
        self.headers.iter().any(|found| found == header)
    }
}

/// How to answer.
#[derive(Clone, Debug)]
pub(super) enum Play {
    /// With a status, more headers (each with its line end) and a body.
    Say(u16, &'static str, Vec<u8>),
    /// After a while.
    Late(Duration, Box<Play>),
    /// Not at all.
    Silent,
    /// One byte a second.
    Drip(Vec<u8>),
    /// With half of what was promised.
    Break,
    /// By closing the connection.
    Close,
    /// With more than was ever asked for, for as long as it is taken.
    Flood,
}

impl Play {
    pub(super) fn ok() -> Self {
        Self::json(200, &json!({"ok": true}))
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::Say(status, "", body.to_string().into_bytes())
    }

    pub(super) fn status(status: u16) -> Self {
        Self::Say(status, "", Vec::new())
    }

    pub(super) fn html(status: u16) -> Self {
        Self::Say(status, "", b"<!DOCTYPE html><h1>Oops</h1>".to_vec())
    }
}

type Script = Box<dyn FnMut(&Seen) -> Play + Send>;

/// A platform; gone when it is dropped.
pub(super) struct Platform {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
    is_over: Arc<AtomicBool>,
}

impl Platform {
    /// One that answers each request as `script` says.
    pub(super) fn start(script: impl FnMut(&Seen) -> Play + Send + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// The same at an address that is known before.
    pub(super) fn at(
        address: SocketAddr,
        script: impl FnMut(&Seen) -> Play + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let platform = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            script: Arc::new(Mutex::new(Box::new(script))),
            is_over: Arc::default(),
        };
        let (seen, script) = (Arc::clone(&platform.seen), Arc::clone(&platform.script));
        let is_over = Arc::clone(&platform.is_over);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, script, is_over) =
                    (Arc::clone(&seen), Arc::clone(&script), Arc::clone(&is_over));
                thread::spawn(move || serve(stream.unwrap(), &seen, &script, &is_over));
            }
        });
        platform
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers differently from now on.
    pub(super) fn play(&self, script: impl FnMut(&Seen) -> Play + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// Everything it was sent.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What it was sent at `end`, the end of the request line.
    pub(super) fn seen_at(&self, end: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.line.ends_with(end));
        seen
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one connection until either side has had enough.
fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>, script: &Mutex<Script>, is_over: &AtomicBool) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let play = (script.lock().unwrap())(&request);
        seen.lock().unwrap().push(request);
        if !perform(&mut stream, play, is_over) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let headers: Vec<String> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| format!("{}: {}", name.to_lowercase(), value.trim()))
        .collect();
    let length = headers
        .iter()
        .find_map(|header| header.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let line = lines.first()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Seen {
        at: clock::monotonic(),
        line,
        headers,
        body,
    })
}

/// Answers; whether the connection is still of use.
fn perform(stream: &mut TcpStream, play: Play, is_over: &AtomicBool) -> bool {
    let head = |status: u16, more: &str, length: usize| {
        format!("HTTP/1.1 {status} Whatever\r\n{more}content-length: {length}\r\n\r\n")
    };
    match play {
        Play::Say(status, more, body) => {
            let mut answer = head(status, more, body.len()).into_bytes();
            answer.extend(body);
            stream.write_all(&answer).is_ok()
        }
        Play::Late(wait, play) => {
            thread::sleep(wait);
            perform(stream, *play, is_over)
        }
        Play::Silent => {
            let _ = stream.read(&mut [0]);
            false
        }
        Play::Drip(body) => {
            let mut answer = head(200, "", body.len()).into_bytes();
            answer.extend(body);
            for byte in answer {
                if is_over.load(Ordering::Relaxed) || stream.write_all(&[byte]).is_err() {
                    return false;
                }
                thread::sleep(Duration::from_secs(1));
            }
            true
        }
        Play::Break => {
            let _ = stream.write_all(head(200, "", 1_000).as_bytes());
            let _ = stream.write_all(b"{\"ok\": ");
            false
        }
        Play::Close => false,
        Play::Flood => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
            let mut goes_on = stream.write_all(head.as_bytes()).is_ok();
            while goes_on && !is_over.load(Ordering::Relaxed) {
                goes_on = stream.write_all(chunk.as_bytes()).is_ok();
            }
            false
        }
    }
}

/// An incident as it might be told.
pub(super) fn report(id: &str) -> Report {
    let report = json!({
        "id": id,
        "attack_family": "udp_flood",
        "attack_subtype": "ntp_amplification",
        "severity": "high",
        "confidence": 91,
        "started_at": "2026-03-15T09:44:18.050Z",
        "opened_at": "2026-03-15T09:44:18.350Z",
        "ended_at": "2026-03-15T09:45:00.150Z",
        "detected_after_ms": 300,
        "peak_pps": 61_200,
        "peak_bps": 230_000_000,
        "peak_is_provisional": false,
        "threshold_pps": 40_000,
        "threshold_bps": null,
        "baseline_pps": 2_700,
        "baseline_bps": 900_000,
        "protocol_breakdown": {"tcp": 1.1, "udp": 98.7, "icmp": 0.1},
        "tcp_flag_breakdown": {"SYN": 3, "ACK": 600},
        "source_ip_count": 212,
        "source_ip_count_exact": true,
        "top_src_ips": [
            {"ip": "192.0.2.9", "count": 300, "error": 0},
            {"ip": "2001:db8::9", "count": 0, "error": 12},
        ],
        "top_dst_ports": [{"port": 40_112, "count": 60_000}],
        "spoofing_detected": null,
        "botnet_detected": true,
        "triggers": [],
        "vectors": [],
        "packets": 2_400_000,
        "bits": 9_000_000_000_u64,
        "pulses": 0,
        "campaign": 1,
        "from_interface": true,
        "capture_blind": false,
        "lost_ring": 0,
        "lost_interface": 0,
        "delayed": 0,
    });
    serde_json::from_value(report).unwrap()
}

/// A second of traffic.
pub(super) fn sample(start: Timestamp) -> Sample {
    Sample {
        start: Timestamp::from_seconds(start.as_seconds()),
        span_seconds: 1,
        pps: 8_100,
        pps_max: 8_100,
        bps: 61_000_000,
        bps_max: 61_000_000,
        tcp_permille: 714,
        udp_permille: 279,
        icmp_permille: 7,
        connections: 412,
        threshold_pps: Some(36_000),
    }
}
