//! `ftagent replay FILE`: a capture file through the very engine that runs live.

use std::fs::File;
use std::io::{self, BufWriter};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::output::{JsonLines, Listing, Reporter};
use super::{Exit, Failure, parse_threshold};
use crate::agent::{self, ReplaySettings};
use crate::capture::CaptureError;
use crate::capture::replay::CaptureReader;
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
    #[arg(long, value_name = "N", value_parser = parse_threshold)]
    threshold_pps: Option<u64>,

    /// Open an incident from so many inbound bits a second on
    #[arg(long, value_name = "N", value_parser = parse_threshold)]
    threshold_bps: Option<u64>,

    /// Protected address or network, more than once for several; without it, the destination of most packets
    #[arg(long = "host", value_name = "CIDR", value_parser = parse_host)]
    hosts: Vec<IpNet>,

    /// Let the first so many seconds only teach what is normal
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
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
        let stdin = self.file == Path::new("-");
        let (hosts, guessed) = self.protected(stdin)?;
        let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let mut reporter: Box<dyn Reporter> = if self.json {
            Box::new(JsonLines::new(out, self.seconds, self.explain))
        } else {
            Box::new(Listing::new(out, self.seconds, self.explain))
        };
        let written = reporter.begin(&self.file, &hosts, guessed);
        let settings = ReplaySettings {
            classify: classify::Settings {
                vantage: Vantage::Hosts(hosts),
                tunnel_peers: Vec::new(),
            },
            count: count::Settings::default(),
            warmup_seconds: self.warmup,
        };
        let mut engine = Engine::new(self.engine_settings(), None);
        let mut written = written;
        let mut sink = |outcome| {
            if written.is_ok() {
                written = reporter.outcome(outcome);
            }
        };
        let (summary, ended) = if stdin {
            let mut source = CaptureReader::new(io::stdin().lock(), &self.file)?;
            agent::replay(&mut source, &settings, &mut engine, &mut sink)
        } else {
            let mut source = CaptureReader::open(&self.file)?;
            agent::replay(&mut source, &settings, &mut engine, &mut sink)
        };
        let written = written.and_then(|()| reporter.end(&summary, ended.as_ref().err()));
        conclude(written, ended)
    }

    /// The protected networks, and whether we had to guess them.
    fn protected(&self, stdin: bool) -> Result<(Vec<IpNet>, bool), Failure> {
        if !self.hosts.is_empty() {
            return Ok((self.hosts.clone(), false));
        }
        let regular = !stdin && std::fs::metadata(&self.file).is_ok_and(|found| found.is_file());
        if !regular && (stdin || self.file.exists() && !self.file.is_dir()) {
            return Err(Failure::usage(format!(
                "{}: can be read only once; name the protected host with --host",
                self.file.display()
            )));
        }
        let mut source: CaptureReader<File> = CaptureReader::open(&self.file)?;
        let host = agent::busiest_destination(&mut source);
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
