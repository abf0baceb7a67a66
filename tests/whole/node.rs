//! A node: the agent with a configuration file on the host of a lab, and the platform it talks to.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ftagent::demo::platform::{
    Call, Endpoint, NodeConfig, Oddity, Platform, Received, Serves, Settings,
};

use rusqlite::Connection;
use serde_json::Value;

use crate::common::agent::{Agent, PROGRAM};
use crate::common::generate::{Frames, trafgen};
use crate::common::netns::{HOST_LINK, Lab, Offload};
use crate::common::process::{Running, Scratch, succeed};

/// The key of every node here. No output of the agent may ever show a part of it.
pub(crate) const KEY: &str = "ft_live_marker5c0ffee5c0ffee5c0ffee0badc0de77";

/// The platform's limit: floods here have four to eight times as many packets a second.
pub(crate) const LIMIT_PPS: u64 = 1_000;

/// Status takes a tenth of a second; a machine whose disk others keep busy may take long to load the program.
const STATUS: Duration = Duration::from_secs(30);

/// Settings with which an attack is over after two seconds instead of ten, however often it has come back. A round of
/// the tests that kill the agent takes six seconds then.
pub(crate) const QUICK: &str =
    "[detection]\nhold_seconds = 2\nlongest_hold_seconds = 2\nupdate_seconds = 1\n";

/// Everything a test needs: a link, a platform on the host's side of it, a state directory, a configuration.
pub(crate) struct Node {
    pub(crate) lab: Lab,
    pub(crate) platform: Platform,
    pub(crate) state: Scratch,
    pub(crate) config: PathBuf,
}

impl Node {
    /// A node whose platform speaks `serves` and sets a limit; none where there can be no lab.
    pub(crate) fn new(serves: Serves, contract: &str) -> Option<Self> {
        Self::with(serves, contract, "")
    }

    /// The same with `more` in its configuration.
    pub(crate) fn with(serves: Serves, contract: &str, more: &str) -> Option<Self> {
        let lab = Lab::new(Offload::Off, &["trafgen"])?;
        Some(Self::in_lab(lab, serves, contract, more))
    }

    /// The same in a lab that is there already.
    pub(crate) fn in_lab(lab: Lab, serves: Serves, contract: &str, more: &str) -> Self {
        let (platform, config) = platform_of(&lab, "ftagent.toml", serves, contract, more);
        Self {
            lab,
            platform,
            state: Scratch::new(),
            config,
        }
    }

    /// Starts the agent.
    pub(crate) fn start(&self, options: &[&str]) -> Agent {
        self.start_as(self.lab.host(PROGRAM), self.state.path(), options)
    }

    /// Starts the agent as `command` does, with another state directory.
    pub(crate) fn start_as(&self, command: Command, state: &Path, options: &[&str]) -> Agent {
        let config = self.config.to_string_lossy();
        let mut all = vec!["--config", &config];
        all.extend_from_slice(options);
        Agent::start_as(command, &[HOST_LINK], state, &all)
    }

    /// Waits until the agent has taken over the platform's limit: the platform was asked, and a window has passed.
    pub(crate) fn wait_for_limit(&self) {
        self.wait_for_limit_since(0);
    }

    /// The same of an agent that was started when the platform had received so many requests.
    pub(crate) fn wait_for_limit_since(&self, number: u64) {
        self.wait("a look at the configuration", |received| {
            received.iter().any(|each| {
                each.number >= number && each.endpoint == Endpoint::Config && each.taken
            })
        });
        std::thread::sleep(Duration::from_millis(300));
    }

    /// What `ftagent status --json` says of it.
    pub(crate) fn status(&self) -> Value {
        self.status_as(Command::new(PROGRAM), self.state.path())
    }

    /// The same as `command` asks for it, of another state directory.
    pub(crate) fn status_as(&self, mut command: Command, state: &Path) -> Value {
        command.arg("status").arg("--config").arg(&self.config);
        command.arg("--state-dir").arg(state).arg("--json");
        let said = succeed(&mut command, STATUS);
        serde_json::from_str(&said).expect("status tells JSON")
    }

    /// A SYN flood of so many packets, which takes three to five seconds for 20,000.
    pub(crate) fn flood(&self, packets: u64) -> Running {
        trafgen(&self.lab, &Frames::syn(&self.lab), packets, 50)
    }

    /// Waits until `wanted` is true of what the platform received.
    pub(crate) fn wait(&self, what: &str, wanted: impl FnMut(&[Received]) -> bool) {
        let came = self.platform.wait_for(Duration::from_secs(40), wanted);
        assert!(came, "no {what}; the platform received:\n{}", self.heard());
    }

    /// What the platform received, a line each, for a failing test.
    pub(crate) fn heard(&self) -> String {
        let line = |each: &Received| {
            format!(
                "{} {:?} {} {:?} {:?} {}",
                each.wall, each.endpoint, each.status, each.violations, each.oddities, each.body
            )
        };
        let all = self.platform.recorded();
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Nothing the platform received broke the contract or was odd after what came before.
    pub(crate) fn assert_all_right(&self) {
        assert_right(&self.platform.recorded());
    }

    /// The steps of incidents that the platform took, in order: what they are for, and their bodies.
    pub(crate) fn steps(&self) -> Vec<Received> {
        let mut all = self.platform.recorded();
        all.retain(|each| {
            each.taken
                && matches!(
                    each.call,
                    Call::Incident(_) | Call::Open(_) | Call::Update { .. } | Call::Resolve { .. }
                )
        });
        all
    }
}

/// The database in a state directory as it stands, log included: a copy, so that nothing changes it.
pub(crate) fn stored(state: &Path) -> Connection {
    let copy = Scratch::new();
    for name in ["ftagent.db", "ftagent.db-wal"] {
        let from = state.join(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name)).expect("it can be copied");
        }
    }
    // The files stay open when their directory goes.
    let db = Connection::open(copy.path().join("ftagent.db")).expect("there is a database");
    let check: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it can be checked");
    assert_eq!(check, "ok");
    db
}

/// What `sql` finds in it.
pub(crate) fn rows<T>(
    db: &Connection,
    sql: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = db.prepare(sql).expect("a table of ours");
    let rows = statement.query_map([], read).expect("it can be read");
    rows.collect::<Result<_, _>>().expect("rows of ours")
}

/// A platform on the host of `lab`, and the file `name` that configures an agent for it, with `more` in it.
pub(crate) fn platform_of(
    lab: &Lab,
    name: &str,
    serves: Serves,
    contract: &str,
    more: &str,
) -> (Platform, PathBuf) {
    let settings = Settings {
        serves,
        key: KEY.to_owned(),
        config: NodeConfig::threshold(LIMIT_PPS),
        ..Settings::default()
    };
    let node_uuid = settings.node_uuid.clone();
    let platform = lab.in_host(|| Platform::start(settings).expect("a platform"));
    let config = lab.scratch.write(
        name,
        &format!(
            "[api]\nkey = \"{KEY}\"\nnode_uuid = \"{node_uuid}\"\nbase = \"{}\"\ncontract = \"{contract}\"\n\
             [log]\nlevel = \"debug\"\n{more}",
            platform.base()
        ),
    );
    std::fs::set_permissions(&config, Permissions::from_mode(0o600)).expect("the file is ours");
    (platform, config)
}

/// No request broke the contract or was odd after what came before.
pub(crate) fn assert_right(received: &[Received]) {
    // The first peak is an estimate from less than a second, and the report after it may correct it downwards.
    let is_correction = |oddity: &Oddity| matches!(oddity, Oddity::PeakFell);
    for each in received {
        assert!(each.violations.is_empty(), "{each:?}");
        assert!(
            each.oddities.iter().all(is_correction),
            "{:?} {each:?}",
            each.oddities
        );
    }
}
