//! `ftagent replay FILE`: a capture file through the very engine that runs live.

use std::io::{self, BufWriter};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::output::{JsonLines, Listing, Reporter};
use super::{Exit, Failure, parse_seconds, parse_threshold};
use crate::agent::{self, ReplaySettings};
use crate::capture::replay::CaptureReader;
use crate::capture::{CaptureError, PacketSource};
use crate::classify::{self, Vantage};
use crate::count;
use crate::detect::limits::{SetBy, SetLimit};
use crate::engine::{self, Engine};

/// Arguments of `ftagent replay`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    /// The capture: pcap or pcapng; '-' reads standard input and needs --host
    file: PathBuf,

    /// Open an incident from so many inbound packets a second on; without any threshold the learned rules apply
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_threshold)]
    threshold_pps: Option<u64>,

    /// Open an incident from so many inbound bits a second on
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_threshold)]
    threshold_bps: Option<u64>,

    /// Protected address or network, more than once for several; without it, the destination of most packets
    #[arg(long = "host", value_name = "CIDR", value_parser = parse_host)]
    hosts: Vec<IpNet>,

    /// Let the first so many seconds only teach what is normal
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true, value_parser = parse_seconds)]
    warmup: u64,

    /// Print every second's figures too
    #[arg(long)]
    seconds: bool,

    /// Explain each incident: limits, baseline, shares, and what would have led to another verdict
    #[arg(long)]
    explain: bool,

    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl ReplayArguments {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let (hosts, guessed) = self.protected()?;
        let mut source = self.open()?;
        let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let mut reporter: Box<dyn Reporter> = if self.json {
            Box::new(JsonLines::new(out, self.seconds, self.explain))
        } else {
            Box::new(Listing::new(out, self.seconds, self.explain))
        };
        let mut written = reporter.begin(self.name(), &hosts, guessed);
        let settings = ReplaySettings {
            classify: classify::Settings {
                vantage: Vantage::Hosts(hosts),
                tunnel_peers: Vec::new(),
            },
            count: count::Settings::default(),
            warmup_seconds: self.warmup,
        };
        let mut engine = Engine::new(self.engine_settings(), None);
        let mut sink = |outcome| {
            if written.is_ok() {
                written = reporter.outcome(outcome);
            }
        };
        let (summary, ended) = agent::replay(&mut *source, &settings, &mut engine, &mut sink);
        let written = written.and_then(|()| reporter.end(&summary, ended.as_ref().err()));
        conclude(written, ended)
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    /// What the capture is called in everything we say about it.
    fn name(&self) -> &Path {
        if self.is_stdin() {
            Path::new("standard input")
        } else {
            &self.file
        }
    }

    fn open(&self) -> Result<Box<dyn PacketSource>, CaptureError> {
        Ok(if self.is_stdin() {
            Box::new(CaptureReader::new(io::stdin().lock(), self.name())?)
        } else {
            Box::new(CaptureReader::open(&self.file)?)
        })
    }

    /// The protected networks, and whether we had to guess them.
    fn protected(&self) -> Result<(Vec<IpNet>, bool), Failure> {
        if !self.hosts.is_empty() {
            return Ok((self.hosts.clone(), false));
        }
        if self.is_stdin() || is_pipe(&self.file) {
            return Err(Failure::usage(format!(
                "{}: can be read only once; name the protected host with --host",
                self.name().display()
            )));
        }
        let host = agent::busiest_destination(&mut CaptureReader::open(&self.file)?);
        Ok((host.map(IpNet::from).into_iter().collect(), true))
    }

    fn engine_settings(&self) -> engine::Settings {
        let set = |value: Option<u64>| {
            value.map(|value| SetLimit {
                value,
                by: SetBy::Local,
            })
        };
        let mut settings = engine::Settings::default();
        settings.detect.limits.set_pps = set(self.threshold_pps);
        settings.detect.limits.set_bps = set(self.threshold_bps);
        if self.warmup > 0 {
            settings.detect.baseline.warmed_up_after(self.warmup);
        }
        settings
    }
}

/// Whether a path is something that gives its bytes once: a pipe, a socket, a terminal.
fn is_pipe(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The command's end: a damaged file and a closed pipe are told apart.
fn conclude(written: io::Result<()>, ended: Result<(), CaptureError>) -> Result<(), Failure> {
    match written {
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => return Err(Failure::failed(format!("standard output: {error}"))),
        Ok(()) => {}
    }
    ended.map_err(|error| Failure {
        message: error.to_string(),
        exit: Exit::Failed,
    })
}

/// An address or a network.
fn parse_host(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            "expected an address or a network, such as 192.0.2.10 or 2001:db8::/64".to_owned()
        })
}
