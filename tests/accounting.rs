//! What is counted is what was there: random packets of every kind, both ways, go through the meter and into seconds,
//! and everything that windows and seconds hold is added up a second time here, from the packets alone.
//!
//! Figures here are sums over lists and sets, one line each; nothing of how the tables work is known. Sessions have their
//! own tests beside their code: they are told of a sample.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test that fails loudly is what is wanted here"
)]

use std::array;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ftagent::capture::{Frame, LinkType};
use ftagent::classify::{
    Classifier, Content, Direction, Fragment, HttpMethod, Inner, Sample, Service, TrafficClass,
    TunnelKind, Undecodable,
};
use ftagent::clock::Timestamp;
use ftagent::count::{
    self, ByteHistogram, Count, Distinct, Endpoints, FlowHistory, FragmentTally, LENGTH_BOUNDS,
    Loss, Meter, PortHistogram, Recall, SecondEnds, SecondMeter, SourceCount, SourceSummary, Tally,
    TrafficSecond, WINDOWS_PER_SECOND, Window, WindowIndex,
};
use proptest::prelude::*;
use proptest::sample::select;

/// A round UTC second.
const BEGINNING: Timestamp = Timestamp::from_seconds(1_773_567_600);

const MILLI: u64 = 1_000_000;
const TCP: u8 = 6;
const UDP: u8 = 17;

// ---- packets ----

/// A packet as it was drawn; [`Drawn::sample`] makes it one that a classifier could have made.
#[derive(Clone, Debug)]
struct Drawn {
    direction: Direction,
    class: TrafficClass,
    /// Who talks to the host, and whether in IPv6.
    peer: u8,
    six: bool,
    peer_port: u16,
    host_port: u16,
    ttl: u8,
    flags: u8,
    wire_bytes: u32,
    /// Picks among what goes with the class.
    pick: u8,
    service: Service,
    fragment: Option<Fragment>,
    flaw: Option<Undecodable>,
}

/// A packet or a frame that cannot be taken apart, so many nanoseconds after the one before, with a time stamp that much
/// too old.
#[derive(Clone, Debug)]
struct Arrival {
    after: u64,
    back: u64,
    what: Result<Drawn, Undecodable>,
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => select(vec![0, 53, 80, 123, 443, 0x0303, 0x0104, 0x0800, 50_000]),
        1 => any::<u16>(),
    ]
}

fn fragment() -> impl Strategy<Value = Fragment> {
    // A handful of datagrams, so that many later fragments meet their first one.
    (0_u32..2, any::<bool>(), any::<bool>()).prop_map(|(id, later, oversize)| {
        if later {
            Fragment::Later { id, oversize }
        } else {
            Fragment::First { id }
        }
    })
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let direction = prop_oneof![
        6 => Just(Direction::Inbound),
        3 => Just(Direction::Outbound),
        1 => Just(Direction::Foreign),
    ];
    // A frame of 64 KiB is one that the interface merged.
    let wire_bytes = prop_oneof![
        4 => 42_u32..1_600,
        1 => select(LENGTH_BOUNDS.to_vec()),
        1 => 1_519_u32..66_000,
    ];
    let flaw = prop::option::weighted(0.1, select(Undecodable::ALL.to_vec()));
    let who = (direction, any::<u8>(), any::<bool>(), port(), port());
    let what = (
        select(TrafficClass::ALL.to_vec()),
        select(Service::ALL.to_vec()),
        prop::option::weighted(0.2, fragment()),
        flaw,
    );
    (who, what, any::<(u8, u8, u8)>(), wire_bytes).prop_map(
        |(
            (direction, peer, six, peer_port, host_port),
            (class, service, fragment, flaw),
            (ttl, flags, pick),
            wire_bytes,
        )| Drawn {
            direction,
            class,
            peer,
            six,
            peer_port,
            host_port,
            ttl,
            flags,
            wire_bytes,
            pick,
            service,
            fragment,
            flaw,
        },
    )
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let after = prop_oneof![
        8 => 0..15 * MILLI,
        1 => 0..1_200 * MILLI,
    ];
    let back = prop_oneof![
        6 => Just(0),
        1 => 0..80 * MILLI,
    ];
    let what = prop_oneof![
        12 => drawn().prop_map(Ok),
        1 => select(Undecodable::ALL.to_vec()).prop_map(Err),
    ];
    (after, back, what).prop_map(|(after, back, what)| Arrival { after, back, what })
}

/// What a classifier makes of a frame that holds nothing: every field of a sample, to be overwritten.
fn blank() -> Sample {
    let arp = [&[0xff; 6], &[2; 6], &[0x08, 0x06][..], &[0; 28]].concat();
    let frame = Frame {
        at: BEGINNING,
        link: LinkType::Ethernet,
        wire_bytes: 42,
        data: &arp,
    };
    let classifier = Classifier::new(ftagent::classify::Settings {
        vantage: ftagent::classify::Vantage::Hosts(Vec::new()),
        tunnel_peers: Vec::new(),
    });
    let sample = classifier
        .classify(&frame)
        .expect("ARP is not IP, and decoded");
    assert_eq!(sample.class, TrafficClass::NotIp);
    sample
}

impl Drawn {
    fn sample(&self, blank: &Sample, at: Timestamp) -> Sample {
        let (class, service) = (self.class, self.service);
        if class == TrafficClass::NotIp {
            return Sample {
                at,
                direction: self.direction,
                wire_bytes: self.wire_bytes,
                flaw: self.flaw,
                ..*blank
            };
        }
        let pick = |from: &[u8]| from[usize::from(self.pick) % from.len()];
        let is_icmp = matches!(
            class,
            TrafficClass::Echo
                | TrafficClass::EchoReply
                | TrafficClass::IcmpError
                | TrafficClass::IcmpOther
        );
        let protocol = match class {
            _ if class.is_tcp() => TCP,
            _ if class.is_udp() => UDP,
            _ if is_icmp => pick(&[1, 58]),
            TrafficClass::Fragment => pick(&[1, TCP, UDP]),
            TrafficClass::Gre => 47,
            TrafficClass::Esp => 50,
            _ => pick(&[2, 4, 41, 89, 132]),
        };
        let fragment = match (class, self.fragment) {
            (TrafficClass::Fragment, fragment) => fragment.unwrap_or(Fragment::Later {
                id: 1,
                oversize: false,
            }),
            (_, Some(first @ Fragment::First { .. })) if class.is_tcp() || class.is_udp() => first,
            _ => Fragment::Whole,
        };
        let is_fragment = fragment != Fragment::Whole;
        // Flows that carry payload are few and have their ports to themselves: the meter remembers the segment size of
        // 1,024 flows, and these must be among them.
        let carries = !is_fragment
            && self.pick.is_multiple_of(4)
            && match class {
                TrafficClass::TcpData => !self.six,
                TrafficClass::Quic => self.six,
                _ => false,
            };
        let number = match self.peer {
            peer if carries => peer % 2,
            peer if is_fragment => peer % 3,
            peer => peer,
        };
        let six = self.six && !is_fragment;
        let peer = address(number, six);
        let host = address(255, six);
        let (peer_port, host_port) = match class {
            _ if carries => (7_000, 7_001),
            _ if class.is_tcp() || class.is_udp() || is_icmp => (self.peer_port, self.host_port),
            _ => (0, 0),
        };
        // What is foreign goes between others; which way hardly matters, for it is not looked at.
        let outbound = self.direction == Direction::Outbound;
        // The same flow must not come and go: its two directions would be two flows of one size each.
        let peer_port = peer_port ^ u16::from(carries && outbound);
        let headers = 54;
        Sample {
            at,
            direction: self.direction,
            class,
            service: (class == TrafficClass::UdpReflected).then_some(service),
            content: self.content(),
            source: if outbound { host } else { peer },
            destination: if outbound { peer } else { host },
            source_port: if outbound { host_port } else { peer_port },
            destination_port: if outbound { peer_port } else { host_port },
            protocol,
            ttl: self.ttl,
            flags: if class.is_tcp() { self.flags } else { 0 },
            fragment,
            wire_bytes: self.wire_bytes,
            payload_bytes: if carries || !(class.is_tcp() || class.is_udp()) {
                self.wire_bytes.saturating_sub(headers)
            } else {
                0
            },
            inner: (self.pick % 8 == 1).then_some(Inner {
                kind: TunnelKind::IpInIp,
                source: host,
                destination: peer,
                protocol: TCP,
                source_port: 1,
                destination_port: 2,
            }),
            flaw: self.flaw,
            ..*blank
        }
    }

    fn content(&self) -> Content {
        let tcp = [
            Content::Unrecognised,
            Content::HttpRequest(HttpMethod::Get),
            Content::HttpRequest(HttpMethod::Post),
            Content::HttpRequest(HttpMethod::Other),
            Content::TlsClientHello,
        ];
        let reflected = [
            Content::Unrecognised,
            Content::Answer(self.service),
            Content::Answer(Service::Dns),
        ];
        let udp = [
            Content::Unrecognised,
            Content::Request(self.service),
            Content::Quic,
        ];
        let among = match self.class {
            TrafficClass::UdpReflected => &reflected[..],
            class if class.is_tcp() => &tcp[..],
            class if class.is_udp() => &udp[..],
            _ => &tcp[..1],
        };
        among[usize::from(self.pick / 8) % among.len()]
    }
}

/// A few hundred addresses for documentation (RFC 5737, RFC 3849).
fn address(number: u8, six: bool) -> IpAddr {
    if six {
        Ipv6Addr::new(
            0x2001,
            0xdb8,
            0,
            u16::from(number % 5),
            0,
            0,
            0,
            u16::from(number),
        )
        .into()
    } else {
        Ipv4Addr::new(198, 51, 100, number).into()
    }
}

// ---- the truth ----

/// What a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    First,
    Of(TrafficClass, Option<Service>),
    LooseUdp,
    LooseOther,
}

/// A packet that was counted.
#[derive(Clone, Debug)]
struct Seen {
    sample: Sample,
    /// The packets that it was on the wire.
    wire: Count,
    part: Option<Part>,
}

/// Everything that came in one window.
#[derive(Clone, Debug, Default)]
struct Truth {
    seen: Vec<Seen>,
    refused: Vec<Undecodable>,
    late: u64,
    loss: Loss,
    judged: Count,
    from_interface: bool,
}

/// What has to be remembered to say what a packet is.
#[derive(Default)]
struct Memory {
    mtu_bytes: u32,
    /// Largest unmerged payload by flow.
    segments: HashMap<Flow, u32>,
    /// What first fragments were, by direction and datagram.
    firsts: HashMap<Datagram, (TrafficClass, Option<Service>)>,
}

type Flow = (IpAddr, IpAddr, u16, u16, u8);
type Datagram = (Direction, IpAddr, IpAddr, u8, u32);

fn flow(sample: &Sample) -> Flow {
    (
        sample.source,
        sample.destination,
        sample.source_port,
        sample.destination_port,
        sample.protocol,
    )
}

impl Memory {
    fn see(&mut self, sample: &Sample) -> Seen {
        Seen {
            wire: self.wire(sample),
            part: self.part(sample),
            sample: *sample,
        }
    }

    /// detection.md, section 2, merged frames: a payload above the MTU is so many of the flow's segments, or of what fits
    /// beside the headers where none was seen; each but one brings headers that the merged frame has only once.
    fn wire(&mut self, sample: &Sample) -> Count {
        let bits = u64::from(sample.wire_bytes) * 8;
        let one = Count { packets: 1, bits };
        let payload = sample.payload_bytes;
        let is_whole = payload == 0 || !(sample.class.is_tcp() || sample.class.is_udp());
        if is_whole || sample.direction == Direction::Foreign {
            return one;
        }
        let headers = sample.wire_bytes - payload;
        let largest = self.segments.entry(flow(sample)).or_default();
        if payload <= self.mtu_bytes {
            *largest = payload.max(*largest);
            return one;
        }
        let segment = match *largest {
            0 => self.mtu_bytes - headers,
            known => known,
        };
        let packets = u64::from(payload.div_ceil(segment));
        Count {
            packets,
            bits: bits + (packets - 1) * u64::from(headers) * 8,
        }
    }

    fn part(&mut self, sample: &Sample) -> Option<Part> {
        let datagram = |id| {
            (
                sample.direction,
                sample.source,
                sample.destination,
                sample.protocol,
                id,
            )
        };
        match sample.fragment {
            Fragment::Whole => None,
            Fragment::First { .. } if sample.class == TrafficClass::Fragment => {
                Some(Part::LooseOther)
            }
            Fragment::First { id } => {
                self.firsts
                    .insert(datagram(id), (sample.class, sample.service));
                Some(Part::First)
            }
            Fragment::Later { id, .. } => Some(match self.firsts.get(&datagram(id)) {
                Some((class, service)) => Part::Of(*class, *service),
                None if sample.protocol == UDP => Part::LooseUdp,
                None => Part::LooseOther,
            }),
        }
    }
}

fn sum<'a>(seen: impl Iterator<Item = &'a Seen>) -> Count {
    seen.fold(Count::default(), |sum, seen| Count {
        packets: sum.packets + seen.wire.packets,
        bits: sum.bits + seen.wire.bits,
    })
}

fn histogram<'a>(seen: impl Iterator<Item = (&'a Seen, u8)>) -> ByteHistogram {
    let mut histogram = ByteHistogram::default();
    seen.for_each(|(seen, value)| histogram.add(value, seen.wire.packets));
    histogram
}

/// What a tally must hold after these packets, all of one direction.
fn tally_of(seen: &[&Seen]) -> Tally {
    let that =
        |wanted: &dyn Fn(&Seen) -> bool| sum(seen.iter().copied().filter(|seen| wanted(seen)));
    let frames = |wanted: &dyn Fn(&Sample) -> bool| {
        seen.iter().filter(|seen| wanted(&seen.sample)).count() as u64
    };
    let is = |content: Content| frames(&|sample| sample.content == content);
    let ip = || {
        let ip = |seen: &&Seen| seen.sample.class != TrafficClass::NotIp;
        seen.iter().copied().filter(ip)
    };
    let part = |wanted: Part| that(&|seen| seen.part == Some(wanted));
    Tally {
        frames: Count {
            packets: seen.len() as u64,
            bits: seen
                .iter()
                .map(|seen| u64::from(seen.sample.wire_bytes) * 8)
                .sum(),
        },
        classes: TrafficClass::ALL.map(|class| that(&|seen| seen.sample.class == class)),
        services: Service::ALL.map(|service| that(&|seen| seen.sample.service == Some(service))),
        services_signed: Service::ALL.map(|service| {
            let signed = that(&|seen| {
                seen.sample.service == Some(service)
                    && seen.sample.content == Content::Answer(service)
            });
            signed.packets
        }),
        protocols: histogram(ip().map(|seen| (seen, seen.sample.protocol))),
        flags: histogram(
            ip().filter(|seen| {
                seen.sample.class.is_tcp() && seen.sample.flaw != Some(Undecodable::TransportCut)
            })
            .map(|seen| (seen, seen.sample.flags)),
        ),
        ttls: histogram(ip().map(|seen| (seen, seen.sample.ttl))),
        lengths: array::from_fn(|bucket| {
            let above = bucket
                .checked_sub(1)
                .map_or(0, |below| LENGTH_BOUNDS[below]);
            let to = LENGTH_BOUNDS.get(bucket).copied().unwrap_or(u32::MAX);
            frames(&|sample| above < sample.wire_bytes && sample.wire_bytes <= to)
        }),
        fragments: FragmentTally {
            first: part(Part::First).packets,
            of_class: TrafficClass::ALL.map(|class| {
                that(&|seen| matches!(seen.part, Some(Part::Of(first, _)) if first == class))
            }),
            of_service: Service::ALL.map(|service| {
                that(&|seen| matches!(seen.part, Some(Part::Of(_, Some(of))) if of == service))
            }),
            loose_udp: part(Part::LooseUdp),
            loose_other: part(Part::LooseOther),
            oversize: that(&|seen| {
                matches!(seen.sample.fragment, Fragment::Later { oversize: true, .. })
            })
            .packets,
        },
        http_gets: is(Content::HttpRequest(HttpMethod::Get)),
        http_posts: is(Content::HttpRequest(HttpMethod::Post)),
        http_others: is(Content::HttpRequest(HttpMethod::Other)),
        tls_hellos: is(Content::TlsClientHello),
        port_unreachables: frames(&|sample| {
            let unreachable = [(1, 0x0303), (58, 0x0104)];
            sample.class == TrafficClass::IcmpError
                && unreachable.contains(&(sample.protocol, sample.destination_port))
        }),
        tunnelled: frames(&|sample| sample.inner.is_some()),
    }
}

fn going(seen: &[Seen], direction: Direction) -> Vec<&Seen> {
    seen.iter()
        .filter(|seen| seen.sample.direction == direction)
        .collect()
}

fn undecodable_of(truth: &Truth) -> [u64; Undecodable::COUNT] {
    Undecodable::ALL.map(|reason| {
        let flaws = truth
            .seen
            .iter()
            .filter(|seen| seen.sample.flaw == Some(reason));
        let refused = truth.refused.iter().filter(|refused| **refused == reason);
        (flaws.count() + refused.count()) as u64
    })
}

fn flows_of(seen: &[&Seen]) -> BTreeSet<Flow> {
    let ip = seen
        .iter()
        .filter(|seen| seen.sample.class != TrafficClass::NotIp);
    ip.map(|seen| flow(&seen.sample)).collect()
}

/// Packets by port, most first.
fn ports_of(
    seen: &[&Seen],
    wanted: impl Fn(TrafficClass) -> bool,
    port: impl Fn(&Sample) -> u16,
) -> Vec<(u16, u64)> {
    let mut ports = BTreeMap::new();
    for seen in seen.iter().filter(|seen| wanted(seen.sample.class)) {
        *ports.entry(port(&seen.sample)).or_default() += seen.wire.packets;
    }
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_by_key(|(port, packets)| (std::cmp::Reverse(*packets), *port));
    ports
}

// ---- comparisons ----

fn check_ports(ports: &PortHistogram, expected: &[(u16, u64)]) {
    assert_eq!(ports.largest(65_536), expected);
    let total: u64 = expected.iter().map(|(_, packets)| packets).sum();
    assert_eq!(
        (u64::from(ports.distinct()), ports.total()),
        (expected.len() as u64, total)
    );
    for (port, packets) in expected {
        assert_eq!(ports.of(*port), *packets);
    }
}

/// Sources of the classes `wanted`: how many, how much each, and the list that people get (detection.md, section 10).
fn check_sources(summary: &SourceSummary, seen: &[&Seen], wanted: impl Fn(TrafficClass) -> bool) {
    let mut sources = BTreeMap::<IpAddr, u64>::new();
    let wanted = |class| class != TrafficClass::NotIp && wanted(class);
    for seen in seen.iter().filter(|seen| wanted(seen.sample.class)) {
        *sources.entry(seen.sample.source).or_default() += seen.wire.packets;
    }
    let all: u64 = sources.values().sum();
    let count = sources.len() as u64;
    assert_eq!(summary.packets(), all);
    assert_eq!(summary.distinct(), Distinct { count, exact: true });
    let mut counts: Vec<_> = summary.exact_counts().expect("they are few").collect();
    counts.sort_unstable();
    let mut expected: Vec<_> = sources.values().copied().collect();
    expected.sort_unstable();
    assert_eq!(counts, expected);

    let is_listed = |packets: u64| {
        packets >= 10 && packets * 1_000 >= all || packets >= 2 && packets * 100 >= all
    };
    let mut listed: Vec<_> = sources
        .into_iter()
        .filter(|(_, packets)| is_listed(*packets))
        .map(|(address, packets)| SourceCount {
            address,
            packets,
            error: 0,
        })
        .collect();
    listed.sort_by_key(|source| (std::cmp::Reverse(source.packets), source.address));
    listed.truncate(20);
    assert_eq!(summary.largest(20), listed);
}

fn check_ends(ends: &Endpoints, seen: &[&Seen], summary: &mut SourceSummary, second: u64) {
    check_ports(
        &ends.tcp_ports,
        &ports_of(seen, TrafficClass::is_tcp, |sample| sample.destination_port),
    );
    check_ports(
        &ends.udp_ports,
        &ports_of(seen, TrafficClass::is_udp, |sample| sample.destination_port),
    );
    check_ports(
        &ends.udp_source_ports,
        &ports_of(
            seen,
            |class| class == TrafficClass::UdpOther,
            |sample| sample.source_port,
        ),
    );
    // All sources, and those of each class that came.
    let classes: BTreeSet<_> = seen.iter().map(|seen| seen.sample.class).collect();
    for only in [None].into_iter().chain(classes.into_iter().map(Some)) {
        let wanted = |class| only.is_none_or(|only| only == class);
        summary.clear();
        summary.absorb(&ends.sources, wanted);
        check_sources(summary, seen, wanted);
    }
    assert_eq!(
        ends.sources.distinct().count,
        flows_of(seen)
            .iter()
            .map(|flow| flow.0)
            .collect::<BTreeSet<_>>()
            .len() as u64
    );
    let flows = flows_of(seen).len() as u64;
    check_flows(FlowHistory::new().admit(second, &ends.flows), flows);
}

/// New flows are estimated, with a standard deviation that for so few is documented as the root of their number.
fn check_flows(estimate: u64, truth: u64) {
    let apart = estimate.abs_diff(truth);
    assert!(apart * apart <= truth, "{estimate} flows, truly {truth}");
}

fn check_window(window: &Window, truth: &Truth, summary: &mut SourceSummary) {
    let inbound = going(&truth.seen, Direction::Inbound);
    let outbound = going(&truth.seen, Direction::Outbound);
    assert_eq!(window.inbound, tally_of(&inbound));
    assert_eq!(window.outbound, tally_of(&outbound));
    let second = window.index.second_start().as_seconds();
    check_ends(&window.inbound_ends, &inbound, summary, second);
    check_ends(&window.outbound_ends, &outbound, summary, second);
    assert_eq!(
        window.first_inbound_at,
        inbound.first().map(|seen| seen.sample.at)
    );
    let foreign = going(&truth.seen, Direction::Foreign).len() as u64;
    assert_eq!((window.foreign, window.late), (foreign, truth.late));
    assert_eq!(window.undecodable, undecodable_of(truth));
    assert_eq!(window.loss, truth.loss);
}

fn check_second(second: &TrafficSecond, windows: &[(WindowIndex, Truth)], before: &[Seen]) {
    let seen: Vec<Seen> = windows
        .iter()
        .flat_map(|(_, truth)| truth.seen.clone())
        .collect();
    let all = Truth {
        refused: windows
            .iter()
            .flat_map(|(_, truth)| truth.refused.clone())
            .collect(),
        late: windows.iter().map(|(_, truth)| truth.late).sum(),
        seen,
        ..Truth::default()
    };
    let total = |part: fn(&Truth) -> u64| windows.iter().map(|(_, truth)| part(truth)).sum::<u64>();
    assert_eq!(second.pps, total(|truth| truth.judged.packets));
    assert_eq!(second.bps, total(|truth| truth.judged.bits));
    assert_eq!(
        second.from_interface,
        windows.iter().all(|(_, truth)| truth.from_interface)
    );
    let loss = Loss {
        ring: total(|truth| truth.loss.ring),
        interface: total(|truth| truth.loss.interface),
        delayed: total(|truth| truth.loss.delayed),
    };
    assert_eq!(second.loss, loss);
    let foreign = going(&all.seen, Direction::Foreign).len() as u64;
    assert_eq!((second.foreign, second.late), (foreign, all.late));
    assert_eq!(second.undecodable, undecodable_of(&all));
    for (tally, ends, direction) in [
        (&second.inbound, &second.inbound_ends, Direction::Inbound),
        (&second.outbound, &second.outbound_ends, Direction::Outbound),
    ] {
        let seen = going(&all.seen, direction);
        assert_eq!(*tally, tally_of(&seen));
        let known = flows_of(&going(before, direction));
        let new = flows_of(&seen).difference(&known).count() as u64;
        check_flows(ends.new_flows, new);
        let sources: BTreeSet<_> = flows_of(&seen).iter().map(|flow| flow.0).collect();
        let listed = |mut ports: Vec<(u16, u64)>| {
            ports.truncate(20);
            ports
        };
        let expected = SecondEnds {
            sources: Distinct {
                count: sources.len() as u64,
                exact: true,
            },
            new_flows: ends.new_flows,
            tcp_ports: listed(ports_of(&seen, TrafficClass::is_tcp, |sample| {
                sample.destination_port
            })),
            udp_ports: listed(ports_of(&seen, TrafficClass::is_udp, |sample| {
                sample.destination_port
            })),
        };
        assert_eq!(*ends, expected);
    }
}

// ---- the way through the meter ----

/// A meter, the seconds behind it, and the truth beside both.
struct Rig {
    meter: Meter,
    seconds: SecondMeter,
    recall: Recall,
    memory: Memory,
    spare: Option<Box<Window>>,
    summary: SourceSummary,
    open: Truth,
    /// Windows of the running second.
    running: Vec<(WindowIndex, Truth)>,
    /// Everything before it.
    before: Vec<Seen>,
    windows: u64,
    seconds_checked: u64,
}

impl Rig {
    fn new(mtu_bytes: u32) -> Self {
        let settings = count::Settings {
            mtu_bytes,
            ..count::Settings::default()
        };
        let first = WindowIndex::of(BEGINNING);
        Self {
            meter: Meter::new(settings.clone(), first),
            seconds: SecondMeter::new(),
            recall: Recall::new(settings.seed),
            memory: Memory {
                mtu_bytes,
                ..Memory::default()
            },
            spare: Some(Box::new(Window::new(first, settings.seed))),
            summary: SourceSummary::new(settings.seed),
            open: Truth::default(),
            running: Vec::new(),
            before: Vec::new(),
            windows: 0,
            seconds_checked: 0,
        }
    }

    fn arrive(&mut self, what: &Result<Drawn, Undecodable>, blank: &Sample, at: Timestamp) {
        self.open.late += u64::from(at < self.meter.open().start());
        match what {
            Ok(drawn) => {
                let sample = drawn.sample(blank, at);
                self.meter.count(&sample);
                let seen = self.memory.see(&sample);
                self.open.seen.push(seen);
            }
            Err(reason) => {
                self.meter.refuse(at, *reason);
                self.open.refused.push(*reason);
            }
        }
    }

    /// Closes the open window, with what capture and counters add to it.
    fn close(&mut self) {
        let number = self.windows;
        self.windows += 1;
        // The facts that come from elsewhere: whatever they are, they are handed on.
        let loss = Loss {
            ring: number % 3,
            interface: number % 5,
            delayed: number % 7,
        };
        let judged = Count {
            packets: number * 11,
            bits: number * 1_000,
        };
        let from_interface = number % 33 != 17;
        self.meter.window_mut().loss.merge(loss);
        let truth = Truth {
            loss,
            judged,
            from_interface,
            ..std::mem::take(&mut self.open)
        };
        let next = self.meter.open().next();
        let spare = self.spare.take().expect("the last window came back");
        let window = self.meter.close(next, spare);
        check_window(&window, &truth, &mut self.summary);
        self.recall.add(&window);
        let second = self
            .seconds
            .add(&window, judged, from_interface, &self.recall);
        self.running.push((window.index, truth));
        if let Some(second) = second {
            let whole = self.running.len() as u64;
            assert_eq!(whole, WINDOWS_PER_SECOND, "a second is twenty windows");
            self.check_second(&second);
        }
        self.spare = Some(window);
    }

    fn check_second(&mut self, second: &TrafficSecond) {
        let running = std::mem::take(&mut self.running);
        let (first, _) = running.first().expect("a second has windows");
        assert_eq!(second.start, first.second_start());
        check_second(second, &running, &self.before);
        let seen = running.into_iter().flat_map(|(_, truth)| truth.seen);
        self.before.extend(seen);
        self.seconds_checked += 1;
    }

    /// The last second is not whole, and told all the same.
    fn finish(mut self) -> u64 {
        self.close();
        if let Some(second) = self.seconds.finish(&self.recall) {
            self.check_second(&second);
        }
        assert!(self.running.is_empty());
        self.seconds_checked
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_and_seconds_hold_what_came(
        arrivals in prop::collection::vec(arrival(), 100..700),
        mtu_bytes in select(vec![576_u32, 1_500, 9_000]),
    ) {
        let blank = blank();
        let mut rig = Rig::new(mtu_bytes);
        let mut now = BEGINNING;
        for Arrival { after, back, what } in arrivals {
            now = now.plus_nanos(after);
            while now >= rig.meter.closes_at() {
                rig.close();
            }
            let at = Timestamp::from_nanos(now.as_nanos() - back);
            rig.arrive(&what, &blank, at);
        }
        prop_assert!(rig.finish() >= 1);
    }
}
