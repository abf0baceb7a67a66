//! Live capture and interface counters against a real kernel: every test makes two network namespaces with one veth
//! pair between them, injects frames at one end and watches the other. Needs root and iproute2; says so and passes
//! without them, except where live tests are required (`CI` or `FTAGENT_REQUIRE_LIVE` is set): there it fails.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in helpers of tests too, what must not fail ends the test"
)]

#[path = "common/tell.rs"]
mod tell;

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ftagent::capture::counter::{NicQuality, Pushed, WatchedCounter, WindowCounter};
use ftagent::capture::live::{LiveSource, Settings};
use ftagent::capture::nic::{self, Changes, CounterSource, Interface, LinkCounters};
use ftagent::capture::sockets::ConnectionCounter;
use ftagent::capture::{Capture, CaptureError, LinkType, PacketSource};
use ftagent::clock;
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities,
};
use tell::tell;

/// How long a loaded machine may take for what should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Two namespaces and a veth pair between them; gone when dropped, on panic too.
struct Rig {
    sender: String,
    receiver: String,
}

/// The ends of the pair, each in its own namespace.
const SENDING: &str = "send0";
const RECEIVING: &str = "recv0";

impl Rig {
    /// `None`, after saying why, where namespaces cannot be made.
    fn new() -> Option<Self> {
        Self::build().map_err(|reason| skip(&reason)).ok()
    }

    fn build() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("needs root to make network namespaces".to_owned());
        }
        if Command::new("ip").arg("-Version").output().is_err() {
            return Err("needs `ip` from iproute2".to_owned());
        }
        let tag = format!(
            "ftlive-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let rig = Self {
            sender: format!("{tag}-a"),
            receiver: format!("{tag}-b"),
        };
        let made = ip(&format!("netns add {}", rig.sender));
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            return Err(format!(
                "may not make network namespaces here: {}",
                why.trim()
            ));
        }
        must(&format!("netns add {}", rig.receiver));
        let Self { sender, receiver } = &rig;
        must(&format!(
            "-n {sender} link add {SENDING} type veth peer name {RECEIVING} netns {receiver}"
        ));
        for (namespace, link) in [(sender, SENDING), (receiver, RECEIVING)] {
            // No address, IPv6 link-local ones included: nothing but the tests' frames on the wire.
            must(&format!(
                "-n {namespace} link set dev {link} addrgenmode none up"
            ));
        }
        Ok(rig)
    }

    /// Runs `work` on a thread inside the receiving namespace.
    fn receive<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.receiver, work)
    }

    /// Sends `count` UDP frames of `frame_bytes` (from the Ethernet header on), numbered from 0.
    fn send(&self, count: u32, frame_bytes: usize) {
        inside(&self.sender, || {
            let mut wire = pcap::Capture::from_device(SENDING).unwrap().open().unwrap();
            for number in 0..count {
                wire.sendpacket(frame(number, frame_bytes)).unwrap();
            }
        });
    }

    fn in_receiver(&self, arguments: &str) -> Output {
        ip(&format!("-n {} {arguments}", self.receiver))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for namespace in [&self.sender, &self.receiver] {
            ip(&format!("netns delete {namespace}"));
        }
    }
}

/// Says why a test is skipped; where live tests are required a skipped one is a lost one.
fn skip(reason: &str) {
    let required = ["CI", "FTAGENT_REQUIRE_LIVE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!required, "live tests are required here, but {reason}");
    tell!("skipped: {reason}");
}

fn ip(arguments: &str) -> Output {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn must(arguments: &str) {
    let output = ip(arguments);
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{namespace}")).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const HEADERS_BYTES: usize = 14 + 20 + 8;

/// A UDP datagram from 192.0.2.1 to 192.0.2.2 whose payload begins with its number.
fn frame(number: u32, frame_bytes: usize) -> Vec<u8> {
    let ip_bytes = u16::try_from(frame_bytes - 14).unwrap().to_be_bytes();
    let udp_bytes = u16::try_from(frame_bytes - 34).unwrap().to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([
        0x45,
        0,
        ip_bytes[0],
        ip_bytes[1],
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
        192,
        0,
        2,
        1,
        192,
        0,
        2,
        2,
    ]);
    frame.extend([0x30, 0x39, 0, 9, udp_bytes[0], udp_bytes[1], 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(frame_bytes, 0);
    frame
}

fn number_in(data: &[u8]) -> u32 {
    u32::from_be_bytes(data[HEADERS_BYTES..HEADERS_BYTES + 4].try_into().unwrap())
}

/// Reads until `count` frames were seen, or none for a while; hands each to `each`.
fn read_frames(
    source: &mut LiveSource,
    count: u32,
    mut each: impl FnMut(ftagent::capture::Frame<'_>),
) -> u32 {
    let mut seen = 0;
    let mut last = clock::monotonic();
    while seen < count && last.elapsed() < Duration::from_secs(1) {
        if let Capture::Frame(frame) = source.next().unwrap() {
            each(frame);
            seen += 1;
            last = clock::monotonic();
        }
    }
    seen
}

fn watched() -> Interface {
    nic::interfaces()
        .unwrap()
        .into_iter()
        .find(|interface| interface.name == RECEIVING)
        .unwrap()
}

fn counters(source: &mut CounterSource) -> LinkCounters {
    source.read().unwrap()[0].unwrap()
}

#[test]
fn a_burst_is_seen_completely_by_capture_and_exactly_by_the_counters() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        let mut nic = CounterSource::open(&[source.interface().index]).unwrap();
        assert_eq!(source.link_type(), LinkType::Ethernet);
        let counters_before = counters(&mut nic);
        let sent_from = clock::now();
        rig.send(5_000, 60);
        let sent_until = clock::now();

        let mut expected = 0;
        let mut last_at = sent_from;
        let seen = read_frames(&mut source, 5_000, |frame| {
            assert_eq!(number_in(frame.data), expected);
            assert_eq!((frame.wire_bytes, frame.data.len()), (60, 60));
            assert_eq!(frame.link, LinkType::Ethernet);
            assert!(
                frame.at >= last_at && frame.at <= sent_until,
                "{} is not within the burst",
                frame.at
            );
            last_at = frame.at;
            expected += 1;
        });
        assert_eq!(seen, 5_000);
        let loss = source.loss().unwrap();
        assert_eq!((loss.offered, loss.ring_drops), (5_000, 0));
        let counters_after = counters(&mut nic);
        assert_eq!(
            counters_after.rx_packets - counters_before.rx_packets,
            5_000
        );
        assert_eq!(
            counters_after.rx_bytes - counters_before.rx_bytes,
            5_000 * 60
        );
        assert!(matches!(source.next(), Ok(Capture::Idle)));
    });
}

#[test]
fn long_frames_are_cut_in_the_kernel_so_that_the_ring_holds_more_of_them() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        // 3,000 whole frames of 1,400 bytes would need four times this ring; cut at 160 bytes they fit.
        // The time-out is long, for a block that is handed over half empty fills the ring too.
        let settings = Settings {
            ring_bytes: 1024 * 1024,
            block_millis: 500,
            ..Settings::new(RECEIVING)
        };
        let mut source = LiveSource::open(&settings).unwrap();
        rig.send(3_000, 1_400);
        let seen = read_frames(&mut source, 3_000, |frame| {
            assert_eq!((frame.wire_bytes, frame.data.len()), (1_400, 160));
        });
        assert_eq!(source.loss().unwrap().ring_drops, 0);
        assert_eq!(seen, 3_000);
    });
}

#[test]
fn what_a_slow_reader_loses_is_counted() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let settings = Settings {
            ring_bytes: 512 * 1024,
            ..Settings::new(RECEIVING)
        };
        let mut source = LiveSource::open(&settings).unwrap();
        rig.send(20_000, 60);
        let seen = read_frames(&mut source, 20_000, |_| {});
        let loss = source.loss().unwrap();
        assert!(loss.ring_drops > 10_000, "{loss:?}");
        assert_eq!(loss.offered, 20_000);
        assert_eq!(u64::from(seen) + loss.ring_drops, 20_000);

        // Cumulative, though the kernel forgets them when it is asked.
        rig.send(100, 60);
        assert_eq!(read_frames(&mut source, 100, |_| {}), 100);
        let later = source.loss().unwrap();
        assert_eq!((later.offered, later.ring_drops), (20_100, loss.ring_drops));
    });
}

#[test]
fn a_silent_link_answers_idle_in_time_and_without_spinning() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let settings = Settings {
            poll_millis: 20,
            ..Settings::new(RECEIVING)
        };
        let mut source = LiveSource::open(&settings).unwrap();
        let begun = clock::monotonic();
        for _ in 0..10 {
            let asked = clock::monotonic();
            assert!(matches!(source.next(), Ok(Capture::Idle)));
            assert!(
                asked.elapsed() < Duration::from_millis(20 + 200),
                "waited {:?}",
                asked.elapsed()
            );
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(10 * 20),
            "did not wait: {:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_frame_on_a_silent_link_is_handed_out_within_the_stated_lag() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        for _ in 0..5 {
            rig.send(1, 60);
            let mut at = None;
            while at.is_none() {
                if let Capture::Frame(frame) = source.next().unwrap() {
                    at = Some(frame.at);
                }
            }
            let lag_millis = clock::now().millis_since(at.unwrap());
            let stated_millis = u64::from(source.lag_millis());
            assert!(
                lag_millis <= stated_millis + 100,
                "{lag_millis} ms, stated {stated_millis} ms"
            );
        }
    });
}

#[test]
fn an_interface_removed_while_it_is_watched_is_reported_as_lost() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        let mut nic = CounterSource::open(&[source.interface().index]).unwrap();
        assert!(matches!(source.next(), Ok(Capture::Idle)));
        must(&format!("-n {} link delete {RECEIVING}", rig.receiver));
        let deadline = clock::monotonic() + PATIENCE;
        let error = loop {
            match source.next() {
                Ok(_) => assert!(clock::monotonic() < deadline, "the removal went unnoticed"),
                Err(error) => break error,
            }
        };
        let CaptureError::InterfaceLost { name, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(name, RECEIVING);
        assert_eq!(nic.read().unwrap(), [None]);
    });
}

#[test]
fn an_interface_that_goes_down_is_silent_until_it_is_up_again() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        must(&format!(
            "-n {} link set dev {RECEIVING} down",
            rig.receiver
        ));
        let begun = clock::monotonic();
        for _ in 0..20 {
            assert!(matches!(source.next(), Ok(Capture::Idle)));
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(100),
            "spins while down: {:?}",
            begun.elapsed()
        );
        assert!(!watched().up);
        must(&format!("-n {} link set dev {RECEIVING} up", rig.receiver));
        rig.send(50, 60);
        assert_eq!(read_frames(&mut source, 50, |_| {}), 50);

        must(&format!(
            "-n {} link set dev {RECEIVING} down",
            rig.receiver
        ));
        let error = LiveSource::open(&Settings::new(RECEIVING)).err();
        assert!(
            matches!(error, Some(CaptureError::InterfaceLost { .. })),
            "{error:?}"
        );
    });
}

#[test]
fn an_unknown_interface_is_answered_with_those_there_are() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let error = LiveSource::open(&Settings::new("eth7")).err().unwrap();
        assert_eq!(
            error.to_string(),
            "interface eth7: no such interface; this host has: lo, recv0"
        );
    });
}

#[test]
fn an_alternative_name_is_as_good_as_the_name() {
    let Some(rig) = Rig::new() else { return };
    if !rig
        .in_receiver(&format!(
            "link property add dev {RECEIVING} altname a-rather-long-interface-name"
        ))
        .status
        .success()
    {
        tell!("skipped: no alternative names here");
        return;
    }
    rig.receive(|| {
        let source = LiveSource::open(&Settings::new("a-rather-long-interface-name")).unwrap();
        assert_eq!(source.interface().name, RECEIVING);
    });
}

#[test]
fn a_filter_keeps_out_what_it_does_not_match_and_nonsense_is_refused() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let filtered = |filter: &str| Settings {
            filter: Some(filter.to_owned()),
            ..Settings::new(RECEIVING)
        };
        let mut source = LiveSource::open(&filtered("udp dst port 10")).unwrap();
        rig.send(20, 60);
        assert_eq!(read_frames(&mut source, 1, |_| {}), 0);
        let error = LiveSource::open(&filtered("udp dst haven 10")).err();
        assert!(
            matches!(
                error,
                Some(CaptureError::Live {
                    action: "compile the filter",
                    ..
                })
            ),
            "{error:?}"
        );
    });
}

#[test]
fn without_the_capability_the_error_names_it() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut mine = capabilities(None).unwrap();
        mine.effective.remove(CapabilitySet::NET_RAW);
        set_capabilities(None, mine).unwrap();
        let error = LiveSource::open(&Settings::new(RECEIVING)).err().unwrap();
        assert!(
            matches!(error, CaptureError::NotPermitted { .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(
            message.contains("CAP_NET_RAW")
                && message.contains("setcap")
                && message.contains("systemctl")
        );
        // Everything but the packets can be read without it.
        assert!(!nic::interfaces().unwrap().is_empty());
    });
}

#[test]
fn interfaces_addresses_and_the_default_route_are_those_that_were_set_up() {
    let Some(rig) = Rig::new() else { return };
    let receiver = &rig.receiver;
    must(&format!(
        "-n {receiver} link set dev {RECEIVING} address 02:00:00:00:00:02 mtu 1400"
    ));
    must(&format!(
        "-n {receiver} address add 198.51.100.7/24 dev {RECEIVING}"
    ));
    must(&format!(
        "-n {receiver} address add 2001:db8::7/64 dev {RECEIVING} nodad"
    ));
    rig.receive(|| {
        let link = watched();
        assert_eq!(
            (link.mac, link.mtu_bytes),
            (Some([2, 0, 0, 0, 0, 2]), 1_400)
        );
        assert!(link.up && link.running && !link.is_loopback);
        assert_eq!(
            (link.kind.as_deref(), link.lower, link.master),
            (Some("veth"), None, None)
        );
        let own: Vec<_> = nic::addresses().unwrap();
        let of_link: Vec<_> = own
            .iter()
            .filter(|own| own.interface == link.index)
            .collect();
        assert_eq!(of_link.len(), 2);
        assert_eq!(
            (
                of_link[0].address.to_string().as_str(),
                of_link[0].prefix_bits
            ),
            ("198.51.100.7", 24)
        );
        assert_eq!(
            (
                of_link[1].address.to_string().as_str(),
                of_link[1].prefix_bits
            ),
            ("2001:db8::7", 64)
        );
        assert_eq!(nic::default_route_interface().unwrap(), None);
    });

    // IPv6 is asked when IPv4 has no default route; among routes of one family the metric decides.
    must(&format!(
        "-n {receiver} -6 route add default via 2001:db8::1 dev {RECEIVING}"
    ));
    rig.receive(|| {
        assert_eq!(
            nic::default_route_interface().unwrap().unwrap().name,
            RECEIVING
        )
    });
    must(&format!(
        "-n {receiver} link add other0 type veth peer name other1"
    ));
    must(&format!("-n {receiver} link set dev other0 up"));
    must(&format!("-n {receiver} link set dev other1 up"));
    must(&format!(
        "-n {receiver} route add default via 198.51.100.1 dev {RECEIVING} metric 200"
    ));
    must(&format!(
        "-n {receiver} route add default dev other0 metric 100"
    ));
    must(&format!(
        "-n {receiver} route add default dev other1 table 77"
    ));
    rig.receive(|| {
        assert_eq!(
            nic::default_route_interface().unwrap().unwrap().name,
            "other0"
        )
    });
    must(&format!(
        "-n {receiver} route delete default dev other0 metric 100"
    ));
    rig.receive(|| {
        assert_eq!(
            nic::default_route_interface().unwrap().unwrap().name,
            RECEIVING
        );
        // Both ends of a pair in one namespace carry different frames: neither is under the other.
        let all = nic::interfaces().unwrap();
        let pair: Vec<_> = all
            .iter()
            .filter(|interface| interface.name.starts_with("other"))
            .collect();
        assert_eq!(pair.len(), 2);
        assert!(nic::check_watchable(&pair, &all).is_ok());
    });
}

#[test]
fn a_device_is_not_watched_together_with_what_it_stands_on() {
    let Some(rig) = Rig::new() else { return };
    let on_top = format!("link add upper0 link {RECEIVING} type macvlan");
    if !rig.in_receiver(&on_top).status.success() {
        tell!("skipped: no macvlan in this kernel");
        return;
    }
    rig.receive(|| {
        let all = nic::interfaces().unwrap();
        let named = |name: &str| all.iter().find(|interface| interface.name == name).unwrap();
        let (upper, lower) = (named("upper0"), named(RECEIVING));
        assert_eq!((upper.lower, upper.kind.as_deref()), (Some(lower.index), Some("macvlan")));
        assert!(nic::check_watchable(&[upper], &all).is_ok());
        let error = nic::check_watchable(&[lower, upper], &all).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface upper0: its frames pass through recv0 too and would count twice; watch one of them"
        );
    });
}

#[test]
fn tunnels_say_who_their_peer_is() {
    let Some(rig) = Rig::new() else { return };
    let receiver = &rig.receiver;
    must(&format!(
        "-n {receiver} address add 198.51.100.7/24 dev {RECEIVING}"
    ));
    let tunnels = [
        (
            "gre",
            "local 198.51.100.7 remote 198.51.100.9",
            "198.51.100.9",
        ),
        (
            "ipip",
            "local 198.51.100.7 remote 198.51.100.9",
            "198.51.100.9",
        ),
        (
            "sit",
            "local 198.51.100.7 remote 198.51.100.9",
            "198.51.100.9",
        ),
        (
            "vxlan",
            "id 7 remote 198.51.100.9 dstport 4789",
            "198.51.100.9",
        ),
        ("geneve", "id 7 remote 198.51.100.9", "198.51.100.9"),
        (
            "ip6tnl",
            "local 2001:db8::7 remote 2001:db8::9",
            "2001:db8::9",
        ),
        (
            "ip6gre",
            "local 2001:db8::7 remote 2001:db8::9",
            "2001:db8::9",
        ),
    ];
    let mut made = 0;
    for (kind, ends, peer) in tunnels {
        let name = format!("tun-{kind}");
        if !rig
            .in_receiver(&format!("link add {name} type {kind} {ends}"))
            .status
            .success()
        {
            tell!("not tried: no {kind} in this kernel");
            continue;
        }
        made += 1;
        rig.receive(|| {
            let all = nic::interfaces().unwrap();
            let tunnel = all.iter().find(|interface| interface.name == name).unwrap();
            assert_eq!(
                tunnel
                    .tunnel_peer
                    .map(|address| address.to_string())
                    .as_deref(),
                Some(peer),
                "{kind}"
            );
            assert_eq!(tunnel.kind.as_deref(), Some(kind));
        });
    }
    tell!("{made} of {} kinds of tunnel tried", tunnels.len());
}

/// Monotonic nanoseconds since `origin`.
fn nanos_since(origin: Instant) -> u64 {
    u64::try_from(clock::monotonic().duration_since(origin).as_nanos()).unwrap()
}

#[test]
fn windows_read_from_live_counters_add_up_to_what_was_sent() {
    let Some(rig) = Rig::new() else { return };
    const WINDOW_NANOS: u64 = 50_000_000;
    rig.receive(|| {
        let link = watched();
        let mut nic = CounterSource::open(&[link.index]).unwrap();
        let mut windows = WatchedCounter::new(1, WINDOW_NANOS);
        let origin = clock::monotonic();
        let before = nanos_since(origin);
        let first = counters(&mut nic).reading(before, nanos_since(origin));
        assert_eq!(windows.push(0, Some(first)), Pushed::Restarted);
        let sending = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                for _ in 0..60 {
                    rig.send(50, 60);
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let (mut packets, mut bytes, mut with_traffic) = (0, 0, 0);
            let mut silent = 0;
            for window in 1.. {
                let end_nanos = window * WINDOW_NANOS;
                let read_at = end_nanos + 3_000_000;
                thread::sleep(Duration::from_nanos(
                    read_at.saturating_sub(nanos_since(origin)),
                ));
                let mut pushed = Pushed::Discarded;
                while pushed == Pushed::Discarded {
                    let before = nanos_since(origin);
                    let counters = nic.read().unwrap()[0].unwrap();
                    pushed = windows.push(0, Some(counters.reading(before, nanos_since(origin))));
                }
                if let Some(reading) = windows.window(end_nanos, &[]) {
                    packets += reading.packets;
                    bytes += reading.bytes;
                    with_traffic += u32::from(reading.packets > 0);
                    silent = if reading.packets == 0 { silent + 1 } else { 0 };
                    assert_ne!(reading.quality, NicQuality::Stepping);
                }
                if silent >= 3 && sender.is_finished() {
                    break;
                }
            }
            (packets, bytes, with_traffic)
        });
        let (packets, bytes, with_traffic) = sending;
        assert_eq!((packets, bytes), (3_000, 3_000 * 60));
        assert!(with_traffic >= 5, "{with_traffic} windows had traffic");
    });
}

#[test]
fn several_interfaces_are_read_in_one_go_and_a_missing_one_says_so() {
    let Some(rig) = Rig::new() else { return };
    must(&format!(
        "-n {} link add pair0 type veth peer name pair1",
        rig.receiver
    ));
    rig.receive(|| {
        let by_name = |name: &str| {
            nic::interfaces()
                .unwrap()
                .into_iter()
                .find(|link| link.name == name)
                .unwrap()
                .index
        };
        let (first, second) = (by_name(RECEIVING), by_name("pair0"));
        let mut nic = CounterSource::open(&[first, second, 4_000_000]).unwrap();
        rig.send(10, 60);
        let read = nic.read().unwrap();
        assert_eq!(read[0].unwrap().rx_packets, 10);
        assert_eq!(read[1].unwrap().rx_packets, 0);
        assert_eq!(read[2], None);
        must(&format!("-n {} link delete pair0", rig.receiver));
        assert!(matches!(nic.read().unwrap(), [Some(_), None, None]));
    });
}

#[test]
fn a_counter_reading_is_cheap_enough_for_twenty_a_second() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut nic = CounterSource::open(&[watched().index]).unwrap();
        let rounds = 2_000;
        let begun = clock::monotonic();
        for _ in 0..rounds {
            counters(&mut nic);
        }
        let each = begun.elapsed() / rounds;
        tell!("one reading of one interface: {each:?}");
        // A thousandth of a window, on a loaded machine in a debug build.
        assert!(each < Duration::from_micros(500), "{each:?}");
    });
}

#[test]
fn a_link_created_anew_begins_a_new_count() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut counter = WindowCounter::new(50);
        let index = watched().index;
        rig.send(100, 60);
        let mut nic = CounterSource::open(&[index]).unwrap();
        assert_eq!(
            counter.push(counters(&mut nic).reading(10, 10)),
            Pushed::Restarted
        );
        must(&format!("-n {} link delete {RECEIVING}", rig.receiver));
        must(&format!(
            "-n {} link add {RECEIVING} index {index} type veth peer name {SENDING} netns {}",
            rig.receiver, rig.sender
        ));
        assert_eq!(watched().index, index);
        assert_eq!(counters(&mut nic).rx_packets, 0);
        assert_eq!(
            counter.push(counters(&mut nic).reading(60, 60)),
            Pushed::Restarted
        );
        assert_eq!(counter.window(55, 0), None);
    });
}

#[test]
fn changes_of_interfaces_and_addresses_are_told_and_nothing_else_is() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let changes = Changes::open().unwrap();
        thread::sleep(Duration::from_millis(200));
        let _ = changes.take();
        rig.send(100, 60);
        assert!(!changes.take(), "packets are no change");
        for change in [
            format!("link set dev {RECEIVING} mtu 1400"),
            format!("address add 198.51.100.7/24 dev {RECEIVING}"),
            format!("address add 2001:db8::7/64 dev {RECEIVING} nodad"),
            format!("link set dev {RECEIVING} down"),
            "link add other0 type veth peer name other1".to_owned(),
            "link delete other0".to_owned(),
        ] {
            must(&format!("-n {} {change}", rig.receiver));
            assert!(changes.take(), "{change}");
        }
        thread::sleep(Duration::from_millis(200));
        let _ = changes.take();
        assert!(!changes.take());
    });
}

#[test]
fn more_changes_than_are_read_are_a_change_and_do_not_hang() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let changes = Changes::open().unwrap();
        for mtu in 0..400 {
            must(&format!(
                "-n {} link set dev {RECEIVING} mtu {}",
                rig.receiver,
                1_400 + mtu % 2
            ));
        }
        assert!(changes.take());
        assert!(!changes.take());
    });
}

#[test]
fn connections_are_counted_exactly_by_a_user_without_rights_and_only_in_its_own_namespace() {
    let Some(rig) = Rig::new() else { return };
    must(&format!("-n {} link set dev lo up", rig.receiver));
    rig.receive(|| {
        let mut mine = capabilities(None).unwrap();
        mine.effective = CapabilitySet::empty();
        set_capabilities(None, mine).unwrap();
        let mut counter = ConnectionCounter::new();
        assert_eq!(counter.established().unwrap(), 0);
        let mut open = Vec::new();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            for _ in 0..25 {
                open.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
                open.push(listener.accept().unwrap().0);
            }
        }
        assert_eq!(counter.established().unwrap(), 100);
        // A connection of an IPv4 client to a dual-stack server is one of each family, and counts once at each end.
        let both = TcpListener::bind("[::]:0").unwrap();
        let port = both.local_addr().unwrap().port();
        open.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
        open.push(both.accept().unwrap().0);
        assert_eq!(counter.established().unwrap(), 102);
        drop(open);
        assert_eq!(counter.established().unwrap(), 0);
    });
}

#[test]
fn a_capture_stays_with_its_interface_when_that_is_renamed() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        for change in [
            format!("link set dev {RECEIVING} down"),
            format!("link set dev {RECEIVING} name wan0"),
            "link set dev wan0 up".to_owned(),
        ] {
            must(&format!("-n {} {change}", rig.receiver));
        }
        rig.send(50, 60);
        assert_eq!(read_frames(&mut source, 50, |_| {}), 50);
    });
}

#[test]
fn an_interface_made_anew_under_the_same_name_and_number_is_not_mistaken_for_the_old_one() {
    let Some(rig) = Rig::new() else { return };
    rig.receive(|| {
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        let index = source.interface().index;
        must(&format!("-n {} link delete {RECEIVING}", rig.receiver));
        must(&format!(
            "-n {} link add {RECEIVING} index {index} type veth peer name {SENDING} netns {}",
            rig.receiver, rig.sender
        ));
        must(&format!("-n {} link set dev {RECEIVING} up", rig.receiver));
        must(&format!("-n {} link set dev {SENDING} up", rig.sender));
        let deadline = clock::monotonic() + PATIENCE;
        let error = loop {
            match source.next() {
                Ok(_) => assert!(
                    clock::monotonic() < deadline,
                    "it was taken for the old one"
                ),
                Err(error) => break error,
            }
        };
        tell!("said: {error}");
        drop(source);
        let mut source = LiveSource::open(&Settings::new(RECEIVING)).unwrap();
        rig.send(50, 60);
        assert_eq!(read_frames(&mut source, 50, |_| {}), 50);
    });
}
