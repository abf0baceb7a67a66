//! A lab: two network namespaces and one veth pair, with no way out and nothing left behind.
//!
//! The attacker's namespace floods, the host's is protected. What the host answers to forged sources leaves by its
//! default route and ends silently at the attacker's. Every setting is made inside the namespaces.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{Scratch, finish, succeed, until};
use super::skip;

/// The host's end of the first veth pair.
pub(crate) const HOST_LINK: &str = FIRST.host;

/// A veth pair between attacker and host. Hardware addresses are locally administered, so nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The attacker's end.
    pub(crate) attacker: &'static str,
    /// The attacker's hardware address.
    pub(crate) attacker_mac: &'static str,
    /// The host's end.
    pub(crate) host: &'static str,
    /// The host's hardware address.
    pub(crate) host_mac: &'static str,
    /// The second number of its IPv4 addresses.
    pub(crate) network: u8,
}

/// The link every lab has.
pub(crate) const FIRST: Link = Link {
    attacker: "atk0",
    attacker_mac: "02:00:00:00:00:01",
    host: "host0",
    host_mac: "02:00:00:00:00:02",
    network: 99,
};
/// The link that [`Lab::add_second`] makes, for IPv4 alone.
pub(crate) const SECOND: Link = Link {
    attacker: "atk1",
    attacker_mac: "02:00:00:00:00:03",
    host: "host1",
    host_mac: "02:00:00:00:00:04",
    network: 98,
};

/// The first link, made anew with another card at the host's end.
pub(crate) const REPLACED: Link = Link {
    host_mac: "02:00:00:00:00:12",
    ..FIRST
};

/// How long setting a namespace up may take: each step is one system call behind a small program.
const SETUP: Duration = Duration::from_secs(10);
/// Labs at work at the same time: each keeps a generator and a receiver busy, on a machine with two cores.
const AT_ONCE: u32 = 2;

/// What every lab needs beside the generators that a test names.
const NEEDED: [&str; 6] = ["ip", "ethtool", "sysctl", "setpriv", "tcpdump", "trafgen"];

/// Whether the link merges and splits frames, as a default veth does, or carries what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// GRO, GSO and TSO as the kernel sets them.
    Default,
    /// None of them on either end.
    Off,
}

/// What an interface's own counters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkCounters {
    /// Packets received.
    pub(crate) rx_packets: u64,
    /// Bytes received.
    pub(crate) rx_bytes: u64,
}

/// Two namespaces joined by a veth pair; both go, with every process in them, when this value goes.
#[derive(Debug)]
pub(crate) struct Lab {
    attacker: String,
    host: String,
    number: u8,
    /// Configurations, sockets and recordings of this lab.
    pub(crate) scratch: Scratch,
    _place: Place,
}

impl Lab {
    /// A new lab; none, with a line that says why, where it cannot be had. In continuous integration (`CI` or
    /// `FTAGENT_REQUIRE_LIVE` is set) it panics instead: there a skipped test is a lost one.
    pub(crate) fn new(offload: Offload, tools: &[&str]) -> Option<Self> {
        if let Err(reason) = possible(tools) {
            skip(&reason);
            return None;
        }
        Some(Self::build(offload))
    }

    fn build(offload: Offload) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let place = Place::wait();
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % 250 + 1;
        let name = |role| format!("ftagent-{}-{number}-{role}", std::process::id());
        // From here on Drop cleans up, however far the steps below come.
        let lab = Self {
            attacker: name("attacker"),
            host: name("host"),
            number,
            scratch: Scratch::new(),
            _place: place,
        };
        ip(&["netns", "add", &lab.attacker]);
        ip(&["netns", "add", &lab.host]);
        lab.join(&FIRST);
        lab.set_up(&FIRST, offload);
        lab
    }

    /// Gives both ends of a link in the first one's place their addresses and brings them up.
    fn set_up(&self, link: &Link, offload: Offload) {
        self.configure(
            &self.attacker,
            link.attacker,
            [&self.attacker_v4(), &self.attacker_v6()],
            offload,
        );
        self.configure(
            &self.host,
            link.host,
            [&self.host_v4(), &self.host_v6()],
            offload,
        );
        self.know_each_other(link);
    }

    /// A second link beside the first.
    pub(crate) fn add_second(&self) {
        self.join(&SECOND);
        for (namespace, link, number) in [
            (&self.attacker, SECOND.attacker, 1),
            (&self.host, SECOND.host, 2),
        ] {
            let settings = [
                format!("net.ipv4.conf.{link}.rp_filter=0"),
                format!("net.ipv6.conf.{link}.disable_ipv6=1"),
            ];
            succeed(
                in_namespace(namespace, "sysctl").arg("-qw").args(settings),
                SETUP,
            );
            let address = format!("{}/24", self.address_on(&SECOND, number));
            ip(&["-n", namespace, "address", "add", &address, "dev", link]);
            ip(&["-n", namespace, "link", "set", link, "up"]);
        }
    }

    fn join(&self, link: &Link) {
        ip(&[
            "link",
            "add",
            link.attacker,
            "netns",
            &self.attacker,
            "address",
            link.attacker_mac,
            "type",
            "veth",
            "peer",
            "name",
            link.host,
            "netns",
            &self.host,
            "address",
            link.host_mac,
        ]);
    }

    fn configure(&self, namespace: &str, link: &str, addresses: [&str; 2], offload: Offload) {
        // No link-local address and no discovery, so that an idle link is idle; forged sources are let in.
        let settings = [
            "net.ipv4.conf.all.rp_filter=0".to_owned(),
            "net.ipv4.conf.default.rp_filter=0".to_owned(),
            format!("net.ipv4.conf.{link}.rp_filter=0"),
            "net.ipv6.conf.all.disable_ipv6=0".to_owned(),
            format!("net.ipv6.conf.{link}.disable_ipv6=0"),
            format!("net.ipv6.conf.{link}.accept_dad=0"),
            format!("net.ipv6.conf.{link}.router_solicitations=0"),
            format!("net.ipv6.conf.{link}.addr_gen_mode=1"),
        ];
        succeed(
            in_namespace(namespace, "sysctl").arg("-qw").args(settings),
            SETUP,
        );
        let [v4, v6] = addresses;
        ip(&["-n", namespace, "link", "set", "lo", "up"]);
        ip(&[
            "-n",
            namespace,
            "address",
            "add",
            &format!("{v4}/24"),
            "dev",
            link,
        ]);
        ip(&[
            "-n",
            namespace,
            "address",
            "add",
            &format!("{v6}/64"),
            "dev",
            link,
            "nodad",
        ]);
        if offload == Offload::Off {
            succeed(
                in_namespace(namespace, "ethtool")
                    .args(["-K", link, "gro", "off", "gso", "off", "tso", "off"]),
                SETUP,
            );
        }
        ip(&["-n", namespace, "link", "set", link, "up"]);
    }

    fn know_each_other(&self, link: &Link) {
        let (attacker, host) = (&self.attacker, &self.host);
        for (namespace, end, mac, peers) in [
            (
                attacker,
                link.attacker,
                link.host_mac,
                [self.host_v4(), self.host_v6()],
            ),
            (
                host,
                link.host,
                link.attacker_mac,
                [self.attacker_v4(), self.attacker_v6()],
            ),
        ] {
            for peer in peers {
                ip(&[
                    "-n",
                    namespace,
                    "neighbour",
                    "replace",
                    &peer,
                    "lladdr",
                    mac,
                    "dev",
                    end,
                    "nud",
                    "permanent",
                ]);
            }
        }
        ip(&[
            "-n",
            host,
            "route",
            "replace",
            "default",
            "via",
            &self.attacker_v4(),
        ]);
        ip(&[
            "-n",
            host,
            "-6",
            "route",
            "replace",
            "default",
            "via",
            &self.attacker_v6(),
        ]);
        // Without it the attacker's kernel would tell the host that each forged IPv6 source is unreachable.
        ip(&[
            "-n",
            attacker,
            "-6",
            "route",
            "replace",
            "blackhole",
            "default",
        ]);
    }

    /// The attacker's IPv4 address.
    pub(crate) fn attacker_v4(&self) -> String {
        self.address_on(&FIRST, 1)
    }

    /// The host's IPv4 address.
    pub(crate) fn host_v4(&self) -> String {
        self.host_v4_on(&FIRST)
    }

    /// The host's IPv4 address on `link`.
    pub(crate) fn host_v4_on(&self, link: &Link) -> String {
        self.address_on(link, 2)
    }

    fn address_on(&self, link: &Link, end: u8) -> String {
        format!("10.{}.{}.{end}", link.network, self.number)
    }

    /// The attacker's IPv6 address.
    pub(crate) fn attacker_v6(&self) -> String {
        format!("fd99:{}::1", self.number)
    }

    /// The host's IPv6 address.
    pub(crate) fn host_v6(&self) -> String {
        format!("fd99:{}::2", self.number)
    }

    /// A command inside the attacker's namespace.
    pub(crate) fn attacker(&self, program: impl AsRef<Path>) -> Command {
        in_namespace(&self.attacker, program)
    }

    /// A command inside the host's namespace.
    pub(crate) fn host(&self, program: impl AsRef<Path>) -> Command {
        in_namespace(&self.host, program)
    }

    /// Runs something of this process inside the host's namespace. Threads and sockets that it makes stay there.
    pub(crate) fn in_host<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.host);
        let namespace = std::fs::File::open(&path).expect("the namespace is there");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)
                    .expect("root may enter a namespace");
                run()
            });
            inside.join().expect("what runs inside does not panic")
        })
    }

    /// A command inside the host's namespace, as a user without any right.
    pub(crate) fn host_unprivileged(&self, program: impl AsRef<Path>) -> Command {
        let mut command = in_namespace(&self.host, "setpriv");
        // 65534 is `nobody` wherever Linux runs.
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--",
        ]);
        command.arg(program.as_ref());
        command
    }

    /// The counters of the host's end of the first link.
    pub(crate) fn host_counters(&self) -> LinkCounters {
        self.host_counters_on(&FIRST)
    }

    /// The counters of the host's end of `link`.
    pub(crate) fn host_counters_on(&self, link: &Link) -> LinkCounters {
        let said = succeed(
            Command::new("ip").args(["-n", &self.host, "-j", "-s", "link", "show", link.host]),
            SETUP,
        );
        let links: serde_json::Value = serde_json::from_str(&said).expect("ip writes JSON");
        let received = |unit: &str| {
            let counter = links.pointer(&format!("/0/stats64/rx/{unit}"));
            counter
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_else(|| panic!("no {unit}: {said}"))
        };
        LinkCounters {
            rx_packets: received("packets"),
            rx_bytes: received("bytes"),
        }
    }

    /// Waits until nothing has come over `links` for longer than a kernel takes to repeat which multicast groups it
    /// joined (one second at most), so that a test may count every packet.
    pub(crate) fn settle(&self, links: &[Link]) {
        let counters = || -> Vec<_> {
            links
                .iter()
                .map(|link| self.host_counters_on(link))
                .collect()
        };
        let mut before = counters();
        let still = until(SETUP, || {
            std::thread::sleep(Duration::from_millis(1_200));
            let now = counters();
            std::mem::replace(&mut before, now.clone()) == now
        });
        assert!(still, "an idle link is not idle: {before:?}");
    }

    /// Takes the host's end of the first link down.
    pub(crate) fn take_down(&self) {
        ip(&["-n", &self.host, "link", "set", HOST_LINK, "down"]);
    }

    /// Brings it up again.
    pub(crate) fn bring_up(&self) {
        ip(&["-n", &self.host, "link", "set", HOST_LINK, "up"]);
    }

    /// Takes the link away, as if the card were pulled.
    pub(crate) fn remove_link(&self) {
        ip(&["-n", &self.host, "link", "delete", HOST_LINK]);
    }

    /// Makes a link in the place of the first one that was removed: new interfaces, counting from zero.
    pub(crate) fn make_link(&self, link: &Link) {
        self.join(link);
        self.set_up(link, Offload::Default);
    }

    /// `ip` inside the host's namespace.
    pub(crate) fn host_ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.host.as_str()], arguments].concat());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.attacker, &self.host] {
            // Only processes started inside these namespaces are listed: the lab's own.
            let inside = Command::new("ip")
                .args(["netns", "pids", namespace])
                .stderr(Stdio::null())
                .output();
            let inside = inside
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .unwrap_or_default();
            for pid in inside
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .filter_map(Pid::from_raw)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// One of the places at work; given back when it goes.
#[derive(Debug)]
struct Place;

static TAKEN: Mutex<u32> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Place {
    fn wait() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = FREED
            .wait_while(taken, |taken| *taken >= AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// Why no lab can be had here, if so.
fn possible(tools: &[&str]) -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("network namespaces need root".to_owned());
    }
    let missing: Vec<&str> = NEEDED
        .iter()
        .chain(tools)
        .copied()
        .filter(|tool| !installed(tool))
        .collect();
    if !missing.is_empty() {
        return Err(format!("not installed: {}", missing.join(", ")));
    }
    // A container may withhold namespaces from its root.
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("ftagent-{}-{number}-probe", std::process::id());
    let probe = finish(Command::new("ip").args(["netns", "add", &name]), SETUP);
    let _ = Command::new("ip")
        .args(["netns", "delete", &name])
        .stderr(Stdio::null())
        .status();
    if probe.code == Some(0) {
        Ok(())
    } else {
        Err(format!(
            "no network namespaces here: {}",
            probe.stderr.trim()
        ))
    }
}

fn installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Generators live where only root's PATH leads.
    let administrators = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(administrators)
        .any(|directory| directory.join(tool).is_file())
}

fn ip(arguments: &[&str]) {
    succeed(Command::new("ip").args(arguments), SETUP);
}

/// `program` inside `namespace`; the kernel kills it when the thread that started it goes.
fn in_namespace(namespace: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("ip");
    command
        .args([
            "netns",
            "exec",
            namespace,
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ])
        .arg(program.as_ref());
    command
}
