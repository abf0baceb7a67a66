//! Traffic from generators that nobody here wrote, each bounded in packets and in time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::netns::{FIRST, Lab, Link};
use super::process::{Running, finish, succeed, until};

/// Nothing a test starts runs longer than this, whatever it was told to send.
const LONGEST: Duration = Duration::from_secs(20);
/// Senders in a flood that is not forged at random: resolvers, time servers, hosts on IPv6.
const SENDERS: u16 = 64;
/// Names that the name server knows: as many as one zone's last octet holds with room to spare.
const NAMES: u8 = 200;
/// A hop count that no stack starts with and many paths end with.
const TTL: u8 = 57;

/// A flood in the language of trafgen: one or more frames, sent in turn.
#[derive(Clone, Debug)]
pub(crate) struct Frames(String);

impl Frames {
    /// One frame from a source that is different each time.
    fn forged_v4(lab: &Lab, transport: &str) -> Self {
        let network = format!("ipv4(ttl={TTL}, saddr=drnd(), daddr={})", lab.host_v4());
        Self(frame(&FIRST, &network, transport))
    }

    fn forged_v6(lab: &Lab, transport: &str) -> Self {
        let network = format!(
            "ipv6(hoplimit={TTL}, saddr=drnd(), daddr={})",
            lab.host_v6()
        );
        Self(frame(&FIRST, &network, transport))
    }

    /// One frame from each of many fixed senders.
    fn from_senders(transport: impl Fn(u16) -> (String, String)) -> Self {
        let frames = (1..=SENDERS)
            .map(transport)
            .map(|(network, transport)| frame(&FIRST, &network, &transport));
        Self(frames.collect())
    }

    /// SYNs to a web port.
    pub(crate) fn syn(lab: &Lab) -> Self {
        Self::forged_v4(
            lab,
            "tcp(sp=drnd(1024, 65535), dp=80, seq=drnd(), win=64240, syn)",
        )
    }

    /// SYNs to a web port over IPv6.
    pub(crate) fn syn_v6(lab: &Lab) -> Self {
        Self::forged_v6(
            lab,
            "tcp(sp=drnd(1024, 65535), dp=80, seq=drnd(), win=64240, syn)",
        )
    }

    /// ACKs of no connection.
    pub(crate) fn ack(lab: &Lab) -> Self {
        Self::forged_v4(
            lab,
            "tcp(sp=drnd(1024, 65535), dp=443, seq=drnd(), aseq=drnd(), win=512, ack)",
        )
    }

    /// Small datagrams to one port.
    pub(crate) fn udp(lab: &Lab) -> Self {
        Self::udp_on(lab, &FIRST)
    }

    /// Small datagrams to one port of the host's address on `link`.
    pub(crate) fn udp_on(lab: &Lab, link: &Link) -> Self {
        let host = lab.host_v4_on(link);
        let network = format!("ipv4(ttl={TTL}, saddr=drnd(), daddr={host})");
        let transport = "udp(sp=drnd(1024, 65535), dp=9000), fill('B', 18)";
        Self(frame(link, &network, transport))
    }

    /// Small datagrams to one port over IPv6.
    pub(crate) fn udp_v6(lab: &Lab) -> Self {
        Self::forged_v6(lab, "udp(sp=drnd(1024, 65535), dp=9000), fill('B', 18)")
    }

    /// Echo requests over IPv6. trafgen adds up ICMPv6 once for all packets of a frame, so each sender has its own.
    pub(crate) fn echo_v6(lab: &Lab) -> Self {
        let host = lab.host_v6();
        Self::from_senders(|n| {
            let network =
                format!("ipv6(hoplimit={TTL}, saddr=2001:db8:{n:x}::{n:x}, daddr={host})");
            (network, "icmp6(echorequest), fill('B', 52)".to_owned())
        })
    }

    /// Answers of open resolvers that nobody asked: a name's twenty text records.
    pub(crate) fn dns_answers(lab: &Lab) -> Self {
        let payload = bytes(&dns_answer());
        let host = lab.host_v4();
        Self::from_senders(|n| {
            let network = format!("ipv4(ttl={TTL}, saddr=198.51.100.{n}, daddr={host})");
            (
                network,
                format!("udp(sp=53, dp=drnd(1024, 65535)), {payload}"),
            )
        })
    }

    /// Answers of time servers to a list request (private mode) that nobody sent.
    pub(crate) fn ntp_answers(lab: &Lab) -> Self {
        let payload = bytes(&ntp_list_answer());
        let host = lab.host_v4();
        Self::from_senders(|n| {
            let network = format!("ipv4(ttl={TTL}, saddr=203.0.113.{n}, daddr={host})");
            (
                network,
                format!("udp(sp=123, dp=drnd(1024, 65535)), {payload}"),
            )
        })
    }
}

/// Sends exactly `packets` of `frames` with a pause of `pause_micros` and the cost of a send between two. (Its own
/// `--rate` would send each second's packets in one burst.)
pub(crate) fn trafgen(lab: &Lab, frames: &Frames, packets: u64, pause_micros: u64) -> Running {
    trafgen_on(lab, &FIRST, frames, packets, pause_micros)
}

/// [`trafgen`] over `link`, which the frames must have been made for.
pub(crate) fn trafgen_on(
    lab: &Lab,
    link: &Link,
    frames: &Frames,
    packets: u64,
    pause_micros: u64,
) -> Running {
    start_trafgen(lab, link, frames, packets, pause_micros, LONGEST)
}

/// [`trafgen`] for as long as the value lives, and `longest` at most.
pub(crate) fn trafgen_for(
    lab: &Lab,
    frames: &Frames,
    pause_micros: u64,
    longest: Duration,
) -> Running {
    // As many as trafgen can count.
    start_trafgen(lab, &FIRST, frames, u64::MAX >> 1, pause_micros, longest)
}

fn start_trafgen(
    lab: &Lab,
    link: &Link,
    frames: &Frames,
    packets: u64,
    pause_micros: u64,
    longest: Duration,
) -> Running {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let config = lab
        .scratch
        .write(&format!("frames-{number}.cfg"), &frames.0);
    // One process, so that the count is exact; no tuning of what belongs to the machine.
    let mut command = bounded_by(lab, "trafgen", longest);
    command
        .args(["--cpus", "1", "--no-sock-mem", "--notouch-irq"])
        .arg("--in")
        .arg(config);
    command.args([
        "--out",
        link.attacker,
        "--num",
        &packets.to_string(),
        "--gap",
        &format!("{pause_micros}us"),
    ]);
    Running::quietly(&mut command)
}

/// `packets` of what `flags` ask for, as fast as hping3 goes with a pause of `pause_micros` between two.
pub(crate) fn hping3(lab: &Lab, flags: &[&str], packets: u64, pause_micros: u64) -> Running {
    let mut command = bounded(lab, "hping3");
    command
        .args([
            "-q",
            "-n",
            "-I",
            FIRST.attacker,
            "-c",
            &packets.to_string(),
            "-i",
            &format!("u{pause_micros}"),
        ])
        .args(flags)
        .arg(lab.host_v4());
    Running::quietly(&mut command)
}

/// What `victim` received in `capture`, as a file that plays into the lab: to the host's addresses, with its checksums
/// made right again.
pub(crate) fn redirected(lab: &Lab, capture: &Path, victim: &str) -> PathBuf {
    let received = lab.scratch.path().join("received.pcap");
    let redirected = lab.scratch.path().join("redirected.pcap");
    let mut command = Command::new("tcpdump");
    command.arg("-r").arg(capture).arg("-w").arg(&received);
    command.args(["-Z", "root"]);
    succeed(
        command.arg(format!("ip and dst host {victim}")),
        Duration::from_secs(20),
    );
    let mut command = Command::new("tcprewrite");
    command.args([
        &format!("--dstipmap={victim}/32:{}/32", lab.host_v4()),
        &format!("--enet-dmac={}", FIRST.host_mac),
        &format!("--enet-smac={}", FIRST.attacker_mac),
    ]);
    command
        .arg(format!("--infile={}", received.display()))
        .arg(format!("--outfile={}", redirected.display()));
    succeed(&mut command, Duration::from_secs(20));
    redirected
}

/// Plays `capture` at the speed it was recorded at, `times` times with `pause_millis` in between.
pub(crate) fn tcpreplay(lab: &Lab, capture: &Path, times: u32, pause_millis: u32) -> Running {
    let mut command = bounded(lab, "tcpreplay");
    command
        .args(["--quiet", "--intf1", FIRST.attacker])
        .args(["--loop", &times.to_string()])
        .args(["--loopdelay-ms", &pause_millis.to_string()])
        .arg(capture);
    Running::quietly(&mut command)
}

/// A name server on the host's port 53 with two hundred names in example.com, listening once this returns.
pub(crate) fn knot(lab: &Lab) -> Running {
    let directory = lab.scratch.path().join("knot");
    std::fs::create_dir_all(&directory).expect("a directory for knot can be made");
    let mut zone = String::from(
        "$ORIGIN example.com.\n@ 3600 SOA ns admin 1 3600 900 604800 300\n@ 3600 NS ns\nns 3600 A 192.0.2.1\n",
    );
    for n in 1..=NAMES {
        let _ = writeln!(zone, "host{n} 3600 A 192.0.2.{n}");
    }
    let zone = lab.scratch.write("example.com.zone", &zone);
    let config = format!(
        "server:\n    rundir: \"{at}\"\n    user: root\n    listen: 0.0.0.0@53\n    udp-workers: 1\n    \
         tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: \"{at}\"\n\
         zone:\n  - domain: example.com\n    file: \"{zone}\"\n    zonefile-sync: -1\n",
        at = directory.display(),
        zone = zone.display(),
    );
    let config = lab.scratch.write("knot.conf", &config);
    let mut running = Running::quietly(lab.host("knotd").arg("-c").arg(config));
    let answers = || -> bool {
        let said = finish(&mut queries(lab, 10, 1), LONGEST).stdout;
        completed(&said) > 0
    };
    assert!(
        until(Duration::from_secs(10), answers) && running.ended().is_none(),
        "knot answers on the host"
    );
    running
}

/// dnsperf asking the host's name server `per_second` names a second for so many `seconds`.
pub(crate) fn queries(lab: &Lab, per_second: u32, seconds: u32) -> Command {
    let names: String = (1..=NAMES)
        .map(|n| format!("host{n}.example.com A\n"))
        .collect();
    let names = lab.scratch.write("names", &names);
    let mut command = bounded(lab, "dnsperf");
    command
        .args(["-s", &lab.host_v4(), "-c", "20"])
        .args(["-Q", &per_second.to_string(), "-l", &seconds.to_string()])
        .arg("-d")
        .arg(names);
    command
}

/// How many queries were answered, by what dnsperf says at its end.
pub(crate) fn completed(said: &str) -> u64 {
    said.lines()
        .find_map(|line| line.trim().strip_prefix("Queries completed:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// A web server on the host's port 80, answering once this returns.
pub(crate) fn nginx(lab: &Lab) -> Running {
    let directory = lab.scratch.path().join("nginx");
    std::fs::create_dir_all(&directory).expect("a directory for nginx can be made");
    let at = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {at}/{of};"));
    let config = format!(
        "daemon off; master_process off; user root; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000; {}\n\
         server {{ listen 80 backlog=4096; listen [::]:80; location / {{ return 200 \"{}\\n\"; }} }} }}\n",
        temporary.join(" "),
        "it works ".repeat(60),
    );
    let config = lab.scratch.write("nginx.conf", &config);
    let mut command = lab.host("nginx");
    command
        .arg("-p")
        .arg(&directory)
        .arg("-e")
        .arg(directory.join("error.log"))
        .arg("-c")
        .arg(config);
    let mut running = Running::quietly(&mut command);
    let up = until(Duration::from_secs(10), || {
        let mut ask = lab.attacker("curl");
        ask.args([
            "-sf",
            "-o",
            "/dev/null",
            "-m",
            "1",
            &format!("http://{}/", lab.host_v4()),
        ]);
        ask.status().is_ok_and(|status| status.success())
    });
    assert!(up && running.ended().is_none(), "nginx answers on the host");
    running
}

/// `connections` kept alive, asking as fast as they are answered.
pub(crate) fn wrk(lab: &Lab, connections: u32, seconds: u32) -> Running {
    let mut command = bounded(lab, "wrk");
    command.args([
        "-t",
        "1",
        "-c",
        &connections.to_string(),
        "-d",
        &format!("{seconds}s"),
    ]);
    command.arg(format!("http://{}/", lab.host_v4()));
    Running::quietly(&mut command)
}

/// `requests` over a new connection each, `at_once` of them side by side.
pub(crate) fn ab(lab: &Lab, requests: u32, at_once: u32) -> Running {
    let mut command = bounded(lab, "ab");
    command.args([
        "-q",
        "-r",
        "-n",
        &requests.to_string(),
        "-c",
        &at_once.to_string(),
        &format!("http://{}/", lab.host_v4()),
    ]);
    Running::quietly(&mut command)
}

/// A transfer server in the attacker's namespace, for one client.
pub(crate) fn iperf3_server(lab: &Lab) -> Running {
    let mut command = lab.attacker("iperf3");
    command.args(["--server", "--one-off", "--bind", &lab.attacker_v4()]);
    let running = Running::quietly(&mut command);
    let listening = || -> bool {
        let said = lab
            .attacker("ss")
            .args(["-Hltn", "sport", "=", ":5201"])
            .output();
        said.is_ok_and(|said| !said.stdout.is_empty())
    };
    assert!(until(Duration::from_secs(10), listening), "iperf3 listens");
    running
}

/// A download into the host, at most `megabits` a second.
pub(crate) fn iperf3_download(lab: &Lab, megabits: u32, seconds: u32) -> Command {
    let mut command = lab.host("iperf3");
    command.args([
        "--client",
        &lab.attacker_v4(),
        "--reverse",
        "--time",
        &seconds.to_string(),
    ]);
    command.args(["--bitrate", &format!("{megabits}M")]);
    command
}

/// `program` in the attacker's namespace, killed after a while whatever it makes of gentler signals.
fn bounded(lab: &Lab, program: &str) -> Command {
    bounded_by(lab, program, LONGEST)
}

fn bounded_by(lab: &Lab, program: &str, longest: Duration) -> Command {
    let mut command = lab.attacker("timeout");
    let longest = longest.as_secs().to_string();
    command.args([
        "--signal=KILL",
        &longest,
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        program,
    ]);
    command
}

fn frame(link: &Link, network: &str, transport: &str) -> String {
    let (host, attacker) = (link.host_mac, link.attacker_mac);
    format!("{{ eth(da={host}, sa={attacker}), {network}, {transport} }}\n")
}

fn bytes(payload: &[u8]) -> String {
    let mut text = String::new();
    for (n, byte) in payload.iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}0x{byte:02x}");
    }
    text
}

/// RFC 1035: an answer to a TXT query with twenty records of 48 characters, 1,235 bytes in all.
fn dns_answer() -> Vec<u8> {
    const ANSWERS: u16 = 20;
    let mut message = vec![0x4a, 0x17, 0x81, 0x80, 0, 1];
    message.extend_from_slice(&ANSWERS.to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(b"\x07example\x03com\x00\x00\x10\x00\x01");
    for n in 0..ANSWERS {
        // The name as a pointer to the question, TXT, IN, one hour, 49 bytes: a length and its text.
        message.extend_from_slice(&[0xc0, 0x0c, 0, 16, 0, 1, 0, 0, 0x0e, 0x10, 0, 49, 48]);
        let text = format!("v=spf1 ip4:192.0.2.{n:03} include:many.example.com");
        message.extend_from_slice(format!("{text:48.48}").as_bytes());
    }
    message
}

/// What ntpd answers to `monlist`: response and more bits, mode 7, request 42, six items of 72 bytes.
fn ntp_list_answer() -> Vec<u8> {
    let mut message = vec![0xd7, 0, 3, 42, 0, 6, 0, 72];
    for item in 0..6_u8 {
        message.extend((0..72_u8).map(|byte| byte.wrapping_mul(7).wrapping_add(item)));
    }
    message
}
