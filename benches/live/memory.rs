//! What the agent takes of memory: idle, and after an hour without a platform.
//!
//! The hour passes in 36 seconds, in a process of its own: capture and detector watch a link, and beside what they bring
//! 3,600 seconds and their incidents go through the ledger, while an uplink whose waits are a hundredth of the usual ones
//! tries to tell them to a port where nobody listens.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use ftagent::agent::{Earlier, Live, LiveSettings, Notice, NotifySettings, Sink};
use ftagent::clock::{self, Timestamp};
use ftagent::count;
use ftagent::engine::{self, Outcome};
use ftagent::ledger::{self, Ledger, Step};
use ftagent::uplink::{ApiKey, Budgets, Cadence, Rate, Settings, Uplink, Vitals};
use tokio::sync::watch;

use crate::common::kept::{report, sample};
use crate::common::netns::HOST_LINK;
use crate::common::process::succeed;
use crate::figures::{self, Budget};
use crate::process::{Memory, Process, quiet_node};

/// product.md, section 6.
const IDLE: Budget = Budget {
    most: 32.0,
    unit: "MiB",
};
const BUSY: Budget = Budget {
    most: 64.0,
    unit: "MiB",
};

/// The name of the process that lives through the hour.
pub(crate) const AN_HOUR: &str = "an-hour-of-outage";

/// The hour, how much faster it passes, and an attack in it that is told every five seconds for a minute.
const HOUR: u64 = 3_600;
const FASTER: u32 = 100;
const ATTACK_EVERY: u64 = 120;
const ATTACK_LASTS: u64 = 60;
const TOLD_EVERY: u64 = 5;

pub(crate) fn measure() {
    let node = quiet_node();
    let agent = Process::start(&node);
    std::thread::sleep(Duration::from_secs(20));
    let idle = agent.memory();
    agent.stop();
    IDLE.print(
        "memory, online, idle for 20 s (VmRSS)",
        idle.now,
        format_args!("; at most (VmHWM) {:.1} MiB", idle.most),
    );
    let program = std::env::current_exe().expect("this program has a path");
    let mut hour = node.lab.host(program);
    hour.arg(AN_HOUR).env(
        "FTAGENT_MEASURED_STATE",
        node.lab.scratch.path().join("hour"),
    );
    let said = succeed(&mut hour, Duration::from_secs(180));
    print!("{said}");
}

/// Lives through an hour without a platform, and prints what that has taken.
pub(crate) fn an_hour_of_outage() {
    let state = std::env::var_os("FTAGENT_MEASURED_STATE").expect("the parent names a directory");
    let (ledger, _) = Ledger::open(ledger::Settings {
        dir: Some(Path::new(&state).to_owned()),
        ..ledger::Settings::default()
    })
    .expect("a ledger");
    let settings = LiveSettings {
        interfaces: vec![HOST_LINK.to_owned()],
        count: count::Settings::default(),
        engine: engine::Settings::default(),
        earlier: Earlier::default(),
        is_resumed: true,
        notify: NotifySettings::default(),
    };
    let live = Live::start(settings, ledger.clone(), Box::new(Nobody)).expect("the link is there");
    let (vitals, read) = watch::channel(Vitals::default());
    let (uplink, _values) = Uplink::start(faster(), ledger.clone(), read).expect("an uplink");
    let began = clock::now().as_seconds() - HOUR;
    for second in 0..HOUR {
        ledger.second(sample(began + second, 1_000 + second));
        let (attack, since) = (second / ATTACK_EVERY, second % ATTACK_EVERY);
        let step = match since {
            0 => Some(Step::Open),
            ATTACK_LASTS => Some(Step::Resolve),
            _ if since < ATTACK_LASTS && since.is_multiple_of(TOLD_EVERY) => Some(Step::Update),
            _ => None,
        };
        if let Some(step) = step {
            ledger.event(
                step,
                report(
                    &format!("{}-{attack}", began + attack * ATTACK_EVERY),
                    since,
                ),
            );
        }
        vitals.send_replace(Vitals {
            uptime_seconds: second,
            incident_open: since < ATTACK_LASTS,
            ..Vitals::default()
        });
        std::thread::sleep(Duration::from_secs(1) / FASTER);
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("this process runs");
    let memory = Memory::of(&status);
    let waiting = ledger.waiting().borrow().clone();
    assert_eq!(waiting.incidents, HOUR / ATTACK_EVERY, "{waiting:?}");
    assert!(waiting.samples >= HOUR, "{waiting:?}");
    assert_eq!(
        (waiting.dropped_events, waiting.dropped_samples),
        (0, 0),
        "{waiting:?}"
    );
    BUSY.print(
        "memory after an hour without a platform (VmRSS)",
        memory.now,
        format_args!("; at most (VmHWM) {:.1} MiB", memory.most),
    );
    figures::print(
        "  what waits then",
        format_args!(
            "{} incidents, {} seconds",
            waiting.incidents, waiting.samples
        ),
    );
    live.stop();
    uplink.stop(Duration::ZERO);
    ledger.close(Duration::from_secs(1));
}

/// Telling a port where nobody listens, a hundred times as often as usual.
fn faster() -> Settings {
    let usual = Cadence::default();
    let cadence = Cadence {
        heartbeat: usual.heartbeat / FASTER,
        config: usual.config / FASTER,
        config_in_incident: usual.config_in_incident / FASTER,
        backoff_first: usual.backoff_first / FASTER,
        backoff_longest: usual.backoff_longest / FASTER,
        incident_urgent: usual.incident_urgent / FASTER,
        incident_retry: usual.incident_retry / FASTER,
        recovery: usual.recovery / FASTER,
        health: usual.health / FASTER,
        ..usual
    };
    let more = |rate: Rate| Rate {
        per_minute: rate.per_minute * FASTER,
        ..rate
    };
    let usual = Budgets::default();
    let budgets = Budgets {
        heartbeat: more(usual.heartbeat),
        config: more(usual.config),
        metrics: more(usual.metrics),
        backlog: more(usual.backlog),
        incident: more(usual.incident),
        ack: more(usual.ack),
    };
    let port = TcpListener::bind("127.0.0.1:0").and_then(|nobody| nobody.local_addr());
    let base = format!("http://{}/api/v1", port.expect("a free port"));
    let key = ApiKey::new("0123456789abcdef").expect("a key");
    Settings {
        cadence,
        budgets,
        ..Settings::new(base, key, "5e0d1c2b-0000-4000-8000-0000000000a1")
    }
}

/// Hears of everything and keeps nothing.
struct Nobody;

impl Sink for Nobody {
    fn outcome(&mut self, _outcome: Outcome, _at: Timestamp) {}

    fn notice(&mut self, _notice: Notice) {}
}
