//! The agent as a process of its own, as it is installed: no debug log, nobody who reads events.

use std::fs;
use std::time::Duration;

use ftagent::demo::platform::{Endpoint, NodeConfig, Serves};
use rustix::process::Signal;

use crate::common::agent::PROGRAM;
use crate::common::netns::HOST_LINK;
use crate::common::process::Running;
use crate::node::Node;

/// A limit that ordinary traffic stays below.
const LIMIT_PPS: u64 = 50_000;

/// A node whose agent logs as usual.
pub(crate) fn quiet_node() -> Node {
    let node =
        Node::new(Serves::Seed, "seed").expect("measuring needs root and the tools of the tests");
    node.platform.set_config(NodeConfig::threshold(LIMIT_PPS));
    let config = fs::read_to_string(&node.config).expect("it was written");
    fs::write(
        &node.config,
        config.replace("level = \"debug\"", "level = \"info\""),
    )
    .expect("it can be written again");
    node
}

/// A running agent.
pub(crate) struct Process(Running);

impl Process {
    /// Starts it on the node, and waits until the platform has heard of some seconds.
    pub(crate) fn start(node: &Node) -> Self {
        let mut command = node.lab.host(PROGRAM);
        command.arg("run").arg("--config").arg(&node.config);
        command.args(["--interface", HOST_LINK, "--state-dir"]);
        command.arg(node.state.path());
        let process = Self(Running::quietly(&mut command));
        node.wait("seconds", |received| {
            let seconds = received
                .iter()
                .filter(|each| each.endpoint == Endpoint::Metrics);
            seconds.count() >= 5
        });
        process
    }

    /// Ends it as systemd would.
    pub(crate) fn stop(mut self) {
        let status = self.0.stop(Signal::TERM, Duration::from_secs(3));
        assert!(status.success(), "the agent ends well: {status}");
    }

    /// How long it has run on a processor, in ticks of 10 ms, from `/proc/PID/stat`.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = self.read("stat");
        // The name in parentheses may hold anything; utime and stime are the fields 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = fields.split_whitespace().skip(11);
        let mut field = || -> u64 {
            let field = fields.next().expect("stat has more fields");
            field.parse().expect("ticks are a number")
        };
        field() + field()
    }

    /// The same for each of its threads, to the nanosecond, with the thread's name.
    pub(crate) fn threads(&self) -> Vec<(String, u64)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.child.id()));
        let tasks = tasks
            .expect("it runs")
            .map(|task| task.expect("a thread").path());
        let mut threads: Vec<(String, u64)> = tasks
            .map(|task| {
                let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
                let ran = read("schedstat");
                let ran = ran.split_whitespace().next().unwrap_or_default();
                (
                    read("comm").trim().to_owned(),
                    ran.parse().unwrap_or_default(),
                )
            })
            .collect();
        threads.sort();
        threads
    }

    /// Its memory, from `/proc/PID/status`.
    pub(crate) fn memory(&self) -> Memory {
        Memory::of(&self.read("status"))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.child.id())).expect("it runs")
    }
}

/// What is resident of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: f64,
    /// At most so far.
    pub(crate) most: f64,
}

impl Memory {
    /// What `/proc/PID/status` says.
    pub(crate) fn of(status: &str) -> Self {
        let mebibytes = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes =
                line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
            kibibytes.expect("the kernel tells it") / 1_024.0
        };
        Self {
            now: mebibytes("VmRSS:"),
            most: mebibytes("VmHWM:"),
        }
    }
}
