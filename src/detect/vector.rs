//! What kind of attack it is: family and subtype from what is above normal.
//!
//! Traffic of some windows becomes an [`Excess`]: for every [`Vector`], the packets and bits above normal. The last
//! second, the last five and a whole incident are named by the same rule, [`Excess::name`]. Pure integer arithmetic;
//! runs on the detector's thread while something is suspected.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::baseline::{Baseline, Series};
use super::span::Span;
use crate::classify::{Service, TrafficClass, tcp_flag};
use crate::count::{Count, PortSessions, WINDOWS_PER_SECOND};

/// The families of the seed contract, and the three finer ones that only we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "the names are the definition; the table is in the README"
)]
pub enum Family {
    UdpFlood,
    SynFlood,
    TcpFlood,
    HttpFlood,
    IcmpFlood,
    DnsFlood,
    FragmentFlood,
    ProtocolFlood,
    MultiVector,
    Unknown,
}

impl Family {
    /// Every family, in order.
    pub const ALL: [Self; 10] = [
        Self::UdpFlood,
        Self::SynFlood,
        Self::TcpFlood,
        Self::HttpFlood,
        Self::IcmpFlood,
        Self::DnsFlood,
        Self::FragmentFlood,
        Self::ProtocolFlood,
        Self::MultiVector,
        Self::Unknown,
    ];

    /// The name used in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UdpFlood => "udp_flood",
            Self::SynFlood => "syn_flood",
            Self::TcpFlood => "tcp_flood",
            Self::HttpFlood => "http_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::DnsFlood => "dns_flood",
            Self::FragmentFlood => "fragment_flood",
            Self::ProtocolFlood => "protocol_flood",
            Self::MultiVector => "multi_vector",
            Self::Unknown => "unknown",
        }
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let family = Self::ALL.into_iter().find(|family| family.name() == name);
        family.ok_or_else(|| D::Error::custom(format!("{name} is no attack family")))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One way of attacking: the finest distinction we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is explained where it is made, in `Excess::of`"
)]
pub enum Vector {
    Amplification(Service),
    AmplificationGeneric,
    DnsQuery,
    Quic,
    UdpFragment,
    Udp,
    Syn,
    SynAck,
    Ack,
    PshAck,
    Rst,
    Fin,
    Xmas,
    Null,
    TcpOdd,
    Connect,
    HttpGet,
    HttpPost,
    TlsHandshake,
    Ping,
    PingOfDeath,
    EchoReply,
    Blacknurse,
    IcmpError,
    IcmpOther,
    IpFragment,
    Gre,
    Esp,
    IpProtocol,
    NotIp,
    Unseen,
}

impl Vector {
    /// How many vectors there are.
    pub const COUNT: usize = Service::COUNT + Self::REST.len();

    const REST: [Self; 30] = [
        Self::AmplificationGeneric,
        Self::DnsQuery,
        Self::Quic,
        Self::UdpFragment,
        Self::Udp,
        Self::Syn,
        Self::SynAck,
        Self::Ack,
        Self::PshAck,
        Self::Rst,
        Self::Fin,
        Self::Xmas,
        Self::Null,
        Self::TcpOdd,
        Self::Connect,
        Self::HttpGet,
        Self::HttpPost,
        Self::TlsHandshake,
        Self::Ping,
        Self::PingOfDeath,
        Self::EchoReply,
        Self::Blacknurse,
        Self::IcmpError,
        Self::IcmpOther,
        Self::IpFragment,
        Self::Gre,
        Self::Esp,
        Self::IpProtocol,
        Self::NotIp,
        Self::Unseen,
    ];

    /// Every vector, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        Service::ALL
            .into_iter()
            .map(Self::Amplification)
            .chain(Self::REST)
    }

    fn index(self) -> usize {
        match self {
            Self::Amplification(service) => service as usize,
            other => {
                Service::COUNT
                    + Self::REST
                        .iter()
                        .position(|each| *each == other)
                        .unwrap_or(0)
            }
        }
    }

    /// The family it belongs to.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Amplification(Service::Dns) | Self::DnsQuery => Family::DnsFlood,
            Self::Amplification(_)
            | Self::AmplificationGeneric
            | Self::Quic
            | Self::UdpFragment
            | Self::Udp => Family::UdpFlood,
            Self::Syn => Family::SynFlood,
            Self::SynAck
            | Self::Ack
            | Self::PshAck
            | Self::Rst
            | Self::Fin
            | Self::Xmas
            | Self::Null
            | Self::TcpOdd
            | Self::Connect => Family::TcpFlood,
            Self::HttpGet | Self::HttpPost | Self::TlsHandshake => Family::HttpFlood,
            Self::Ping
            | Self::PingOfDeath
            | Self::EchoReply
            | Self::Blacknurse
            | Self::IcmpError
            | Self::IcmpOther => Family::IcmpFlood,
            Self::IpFragment => Family::FragmentFlood,
            Self::Gre | Self::Esp | Self::IpProtocol => Family::ProtocolFlood,
            Self::NotIp | Self::Unseen => Family::Unknown,
        }
    }

    /// The classes its packets belong to: whose sources and ports are the attack's.
    #[must_use]
    pub const fn has_class(self, class: TrafficClass) -> bool {
        match self {
            Self::Amplification(_) => {
                matches!(class, TrafficClass::UdpReflected | TrafficClass::Fragment)
            }
            Self::AmplificationGeneric | Self::Udp => {
                matches!(class, TrafficClass::UdpOther | TrafficClass::Fragment)
            }
            Self::UdpFragment | Self::IpFragment => matches!(class, TrafficClass::Fragment),
            Self::DnsQuery => matches!(class, TrafficClass::DnsQuery),
            Self::Quic => matches!(class, TrafficClass::Quic),
            Self::Syn => matches!(class, TrafficClass::Syn),
            Self::SynAck => matches!(class, TrafficClass::SynAck),
            Self::Ack | Self::PshAck => matches!(class, TrafficClass::Ack | TrafficClass::TcpData),
            Self::Rst => matches!(class, TrafficClass::Rst),
            Self::Fin => matches!(class, TrafficClass::Fin),
            Self::Xmas | Self::Null | Self::TcpOdd => matches!(class, TrafficClass::TcpOdd),
            Self::Connect | Self::HttpGet | Self::HttpPost | Self::TlsHandshake => class.is_tcp(),
            Self::Ping | Self::PingOfDeath => {
                matches!(class, TrafficClass::Echo | TrafficClass::Fragment)
            }
            Self::EchoReply => matches!(class, TrafficClass::EchoReply),
            Self::Blacknurse | Self::IcmpError => matches!(class, TrafficClass::IcmpError),
            Self::IcmpOther => matches!(class, TrafficClass::IcmpOther),
            Self::Gre => matches!(class, TrafficClass::Gre),
            Self::Esp => matches!(class, TrafficClass::Esp),
            Self::IpProtocol => matches!(class, TrafficClass::OtherIp),
            Self::NotIp => matches!(class, TrafficClass::NotIp),
            Self::Unseen => true,
        }
    }

    /// The subtype it gives a family, from its excess alone.
    pub(super) fn subtype(self, excess: Count) -> &'static str {
        match self {
            Self::Amplification(service) => service.amplification_name(),
            Self::AmplificationGeneric => "amplification_generic",
            Self::DnsQuery => "dns_query_flood",
            Self::Quic => "quic_flood",
            Self::UdpFragment => "udp_fragment_flood",
            Self::Udp if mean_bytes(excess) < SMALL_PACKET_BYTES => "small_packet_flood",
            Self::Udp => "volumetric",
            Self::Syn => "syn_flood",
            Self::SynAck => "syn_ack_flood",
            Self::Ack => "ack_flood",
            Self::PshAck => "psh_ack_flood",
            Self::Rst => "rst_flood",
            Self::Fin => "fin_flood",
            Self::Xmas => "xmas_flood",
            Self::Null => "null_flood",
            Self::TcpOdd => "tcp_generic",
            Self::Connect => "connect_flood",
            Self::HttpGet => "http_get_flood",
            Self::HttpPost => "http_post_flood",
            Self::TlsHandshake => "tls_handshake_flood",
            Self::Ping => "ping_flood",
            Self::PingOfDeath => "ping_of_death",
            Self::EchoReply => "echo_reply_flood",
            Self::Blacknurse => "blacknurse",
            Self::IcmpError | Self::IcmpOther => "icmp_error_flood",
            Self::IpFragment => "ip_fragment_flood",
            Self::Gre => "gre_flood",
            Self::Esp => "esp_flood",
            Self::IpProtocol => "ip_protocol_flood",
            Self::NotIp | Self::Unseen => "unclassified",
        }
    }
}

/// UDP packets of a smaller mean on the wire are a flood of small packets (published agent: below 100 bytes).
const SMALL_PACKET_BYTES: u64 = 100;

/// A flood from one unknown service's port is amplification when its packets have at least this mean on the wire: no
/// known reflector is worth its trouble with shorter answers.
const AMPLIFIED_BYTES: u64 = 200;

/// By how much the packets from one source port must outnumber all others for that, in permille of all of them: 900 of
/// a thousand from it and 100 from others.
const ONE_SOURCE_PORT_PERMILLE: u64 = 800;

/// Share, in permille, of a port's tuples that must have completed for all its TCP to be a session vector.
const COMPLETED_PERMILLE: u64 = 500;

/// Share, in permille, of a session's data packets that carry a request for the port to count as answering requests.
const REQUESTS_PERMILLE: u64 = 100;

/// Requests, or TLS hellos, to 20 connections from which on a port's sessions are named after them: a server that is
/// flooded with bare connections still gets the requests of its usual clients.
const SYNS_A_REQUEST: u64 = 20;

/// Fragments in permille of a UDP vector from which on it is named after them (published agent: 30 %).
pub(super) const UDP_FRAGMENT_PERMILLE: u64 = 300;

/// Oversize fragments in permille of an echo vector from which on it is a ping of death: of 45 fragments that make up
/// a datagram of 65,535 bytes one passes the end.
const OVERSIZE_PERMILLE: u64 = 10;

/// Least excess of a class: this share of the whole rise, in permille.
const LEAST_RISE_PERMILLE: u64 = 20;

/// Least excess of a class in packets a second, where the limit is a thousand or more.
const LEAST_EXCESS_PPS: u64 = 50;

/// A family needs this share, in permille, to name an incident.
pub const NAMED_PERMILLE: u64 = 400;

/// Each of two families needs this share, in permille, to make it multi-vector.
pub const MULTI_PERMILLE: u64 = 250;

/// ... over more than this many captured packets.
pub const MULTI_PACKETS: u64 = 200;

/// Each of several subtypes of one family needs this share of the family, in permille, to be named beside the largest.
pub(super) const JOINED_PERMILLE: u64 = 250;

/// Packets and bits above normal, by vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    vectors: [Count; Vector::COUNT],
    /// Of the excess, packets whose payload or behaviour proves what they are.
    proven: u64,
    /// Of the excess, packets that were captured: what the name rests on.
    captured: u64,
    /// Whether normal was known.
    baseline_known: bool,
    /// Whether capture showed too little to say what it is.
    blind: bool,
    /// Over how many windows.
    windows: u64,
}

impl Default for Excess {
    fn default() -> Self {
        Self {
            vectors: [Count::default(); Vector::COUNT],
            proven: 0,
            captured: 0,
            baseline_known: true,
            blind: false,
            windows: 0,
        }
    }
}

/// What one class has above normal, and of how much.
#[derive(Clone, Copy, Debug, Default)]
struct Above {
    excess: Count,
    seen: Count,
}

impl Above {
    /// The part of the excess that falls to `part` of what was seen.
    fn part(self, part: Count) -> Count {
        Count {
            packets: proportion(self.excess.packets, part.packets, self.seen.packets),
            bits: proportion(self.excess.bits, part.bits, self.seen.bits),
        }
    }

    /// The part of the excess that falls to `packets` of the packets seen.
    fn part_by_packets(self, packets: u64) -> Count {
        Count {
            packets: proportion(self.excess.packets, packets, self.seen.packets),
            bits: proportion(self.excess.bits, packets, self.seen.packets),
        }
    }

    fn take(&mut self, part: Count) -> Count {
        let part = Count {
            packets: part.packets.min(self.excess.packets),
            bits: part.bits.min(self.excess.bits),
        };
        self.excess.retire(part);
        part
    }

    /// Takes so many packets, or all there are, with the bits that fall to them.
    fn take_packets(&mut self, packets: u64) -> Count {
        let packets = packets.min(self.excess.packets);
        let bits = proportion(self.excess.bits, packets, self.excess.packets);
        self.take(Count { packets, bits })
    }

    fn take_all(&mut self) -> Count {
        std::mem::take(&mut self.excess)
    }
}

/// `whole` x `part` / `of`, rounded down; 0 when `of` is.
fn proportion(whole: u64, part: u64, of: u64) -> u64 {
    if of == 0 {
        return 0;
    }
    u64::try_from(u128::from(whole) * u128::from(part) / u128::from(of)).unwrap_or(u64::MAX)
}

/// `part` in permille of `whole`; 0 when there is no whole.
#[must_use]
pub fn permille(part: u64, whole: u64) -> u64 {
    proportion(1_000, part, whole)
}

/// Permille as percent with one decimal, as the seed contract writes shares.
#[must_use]
pub fn percent(permille: u64) -> f64 {
    f64::from(u32::try_from(permille).unwrap_or(u32::MAX)) / 10.0
}

fn mean_bytes(count: Count) -> u64 {
    count
        .bits
        .checked_div(count.packets.saturating_mul(8))
        .unwrap_or(0)
}

/// The classes' excesses while they are being given to vectors.
struct Classes([Above; TrafficClass::COUNT]);

impl Classes {
    fn of_span(span: &Span, baseline: &Baseline, limit_pps: Option<u64>) -> Self {
        let noise = Noise::of(span, baseline, limit_pps);
        let mut above = Self([Above::default(); TrafficClass::COUNT]);
        for class in TrafficClass::ALL {
            let seen = span.inbound.class(class);
            let mut excess = noise.above_normal(class, seen, span, baseline);
            if lost_in_ring(span) {
                // What the ring dropped was dropped whatever it was: scale to what the interface counted.
                let captured = span.inbound.wire();
                excess.packets = proportion(excess.packets, span.judged.packets, captured.packets);
                excess.bits = proportion(excess.bits, span.judged.bits, captured.bits);
            }
            *above.of(class) = Above { excess, seen };
        }
        above
    }

    /// How many packets of the excess were captured.
    fn captured(&self) -> u64 {
        let captured = |above: &Above| above.excess.packets.min(above.seen.packets);
        self.0.iter().map(captured).sum()
    }

    #[expect(clippy::indexing_slicing, reason = "the array has one entry per class")]
    const fn of(&mut self, class: TrafficClass) -> &mut Above {
        &mut self.0[class as usize]
    }
}

impl Excess {
    /// What a span has above normal. `limit_pps` is the packet limit in force, which bounds what may be ignored as noise.
    #[must_use]
    pub fn of(span: &Span, baseline: &Baseline, limit_pps: Option<u64>) -> Self {
        let mut above = Classes::of_span(span, baseline, limit_pps);
        let mut found = Self {
            windows: span.windows,
            baseline_known: baseline.normal_at_onset(Series::Pps).is_some(),
            blind: span.is_blind(),
            captured: above.captured(),
            ..Self::default()
        };
        found.place_unseen(span, &mut above);
        found.place_fragments(span, &mut above);
        found.place_sessions(span, &mut above);
        found.place_tcp(span, &mut above);
        found.place_udp(span, &mut above);
        found.place_icmp(span, &mut above);
        found.put(Vector::Gre, above.of(TrafficClass::Gre).take_all());
        found.put(Vector::Esp, above.of(TrafficClass::Esp).take_all());
        found.put(
            Vector::IpProtocol,
            above.of(TrafficClass::OtherIp).take_all(),
        );
        found.put(Vector::NotIp, above.of(TrafficClass::NotIp).take_all());
        found
    }

    /// The excess of one vector.
    #[must_use]
    pub fn vector(&self, vector: Vector) -> Count {
        self.vectors
            .get(vector.index())
            .copied()
            .unwrap_or_default()
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Count {
        let mut sum = Count::default();
        for count in &self.vectors {
            sum.merge(*count);
        }
        sum
    }

    /// What of it could be captured, in packets.
    #[must_use]
    pub const fn captured(&self) -> u64 {
        self.captured
    }

    /// Packets whose payload or behaviour proves what they are.
    pub(super) const fn proven(&self) -> u64 {
        self.proven
    }

    /// Whether capture showed too little to say what it is.
    pub(super) const fn is_blind(&self) -> bool {
        self.blind
    }

    /// Whether normal was known.
    pub(super) const fn baseline_known(&self) -> bool {
        self.baseline_known
    }

    /// Over how many windows.
    pub(super) const fn windows(&self) -> u64 {
        self.windows
    }

    fn put(&mut self, vector: Vector, count: Count) {
        if let Some(mine) = self.vectors.get_mut(vector.index()) {
            mine.merge(count);
        }
    }

    /// Packets the interface counted and capture never saw. Where capture saw merged frames, they are TCP data that
    /// were merged further down than we can take apart.
    fn place_unseen(&mut self, span: &Span, above: &mut Classes) {
        let packets = span.unseen();
        if packets == 0 || lost_in_ring(span) {
            return;
        }
        let wire = span.inbound.wire();
        let bits = span.judged.bits.saturating_sub(wire.bits);
        let unseen = Count { packets, bits };
        if wire.packets > span.inbound.frames.packets {
            above.of(TrafficClass::TcpData).excess.merge(unseen);
        } else {
            self.put(Vector::Unseen, unseen);
        }
    }

    /// Later fragments belong to what their datagram's first one was; loose ones are a flood of their own.
    fn place_fragments(&mut self, span: &Span, above: &mut Classes) {
        let fragments = &span.inbound.fragments;
        let mut pool = *above.of(TrafficClass::Fragment);
        for (class, seen) in TrafficClass::ALL.into_iter().zip(&fragments.of_class) {
            if class == TrafficClass::UdpReflected || seen.packets == 0 {
                continue;
            }
            let part = pool.part(*seen);
            if class == TrafficClass::UdpOther {
                self.put(Vector::UdpFragment, part);
            } else if class == TrafficClass::Echo {
                let oversize = fragments.oversize * 1_000 >= seen.packets * OVERSIZE_PERMILLE;
                self.put(
                    if oversize {
                        Vector::PingOfDeath
                    } else {
                        Vector::Ping
                    },
                    part,
                );
            } else {
                let target = above.of(class);
                target.excess.merge(part);
                target.seen.merge(*seen);
            }
        }
        for (service, seen) in Service::ALL.into_iter().zip(&fragments.of_service) {
            self.put(Vector::Amplification(service), pool.part(*seen));
        }
        self.put(Vector::UdpFragment, pool.part(fragments.loose_udp));
        self.put(Vector::IpFragment, pool.part(fragments.loose_other));
        pool.take_all();
        *above.of(TrafficClass::Fragment) = pool;
    }

    /// All TCP of a port whose handshakes complete is that port's session vector.
    fn place_sessions(&mut self, span: &Span, above: &mut Classes) {
        for port in span.sessions.ports() {
            if !is_session_port(port) {
                continue;
            }
            let vector = session_vector(port);
            for class in TrafficClass::ALL.into_iter().filter(|class| class.is_tcp()) {
                let Some(seen) = port.classes.get(class as usize) else {
                    continue;
                };
                let pool = above.of(class);
                let part = pool.part(*seen);
                let taken = pool.take(part);
                self.proven += taken.packets;
                self.put(vector, taken);
            }
        }
    }

    fn place_tcp(&mut self, span: &Span, above: &mut Classes) {
        let flags = &span.inbound.flags;
        let odd = above.of(TrafficClass::TcpOdd);
        let null = odd.part_by_packets(flags.of(0));
        let null = odd.take(null);
        let all_lit = tcp_flag::FIN | tcp_flag::PSH | tcp_flag::URG;
        let xmas = odd.part_by_packets(flags.matching(|each| each & all_lit == all_lit));
        let xmas = odd.take(xmas);
        let rest = odd.take_all();
        self.put(Vector::Null, null);
        self.put(Vector::Xmas, xmas);
        self.put(Vector::TcpOdd, rest);

        // Resets that answer our own SYN-ACKs come from the forged addresses' owners: they belong to the SYN flood.
        let syn = above.of(TrafficClass::Syn).take_all();
        if syn.packets > 0 {
            let answered = span.sent(TrafficClass::SynAck);
            let provoked = above.of(TrafficClass::Rst).take_packets(answered);
            self.put(Vector::Syn, provoked);
        }
        self.put(Vector::Syn, syn);
        self.put(Vector::SynAck, above.of(TrafficClass::SynAck).take_all());
        self.put(Vector::Rst, above.of(TrafficClass::Rst).take_all());
        self.put(Vector::Fin, above.of(TrafficClass::Fin).take_all());

        let pushed = flags.matching(|each| {
            each & (tcp_flag::ACK | tcp_flag::PSH) == tcp_flag::ACK | tcp_flag::PSH
                && each & (tcp_flag::SYN | tcp_flag::RST | tcp_flag::FIN) == 0
        });
        let data = *above.of(TrafficClass::TcpData);
        // Flags have no baseline: take usual data for pushed, as requests and the ends of transfers are.
        let usual_data = data.seen.packets.saturating_sub(data.excess.packets);
        let mut carried_on = above.of(TrafficClass::Ack).take_all();
        carried_on.merge(above.of(TrafficClass::TcpData).take_all());
        let vector = if pushed.saturating_sub(usual_data) * 2 >= carried_on.packets {
            Vector::PshAck
        } else {
            Vector::Ack
        };
        self.put(vector, carried_on);
    }

    fn place_udp(&mut self, span: &Span, above: &mut Classes) {
        let reflected = *above.of(TrafficClass::UdpReflected);
        for (service, seen) in Service::ALL.into_iter().zip(&span.inbound.services) {
            self.put(Vector::Amplification(service), reflected.part(*seen));
        }
        let signed: u64 = span.inbound.services_signed.iter().sum();
        self.proven += reflected.part_by_packets(signed).packets;
        self.put(
            Vector::DnsQuery,
            above.of(TrafficClass::DnsQuery).take_all(),
        );
        self.put(Vector::Quic, above.of(TrafficClass::Quic).take_all());
        let other = above.of(TrafficClass::UdpOther);
        let from_one_port =
            permille(span.source_port.lead, other.excess.packets) >= ONE_SOURCE_PORT_PERMILLE;
        let amplified = from_one_port && mean_bytes(other.excess) >= AMPLIFIED_BYTES;
        let vector = if amplified {
            Vector::AmplificationGeneric
        } else {
            Vector::Udp
        };
        self.put(vector, other.take_all());
    }

    fn place_icmp(&mut self, span: &Span, above: &mut Classes) {
        let echo = above.of(TrafficClass::Echo);
        if self.vector(Vector::PingOfDeath).packets > 0 {
            let first = echo.take_packets(span.inbound.fragments.first);
            self.put(Vector::PingOfDeath, first);
        }
        self.put(Vector::Ping, echo.take_all());
        self.put(
            Vector::EchoReply,
            above.of(TrafficClass::EchoReply).take_all(),
        );
        let errors = above.of(TrafficClass::IcmpError);
        let unreachable = span.inbound.port_unreachables * 2 >= errors.seen.packets;
        let vector = if unreachable {
            Vector::Blacknurse
        } else {
            Vector::IcmpError
        };
        self.put(vector, errors.take_all());
        self.put(
            Vector::IcmpOther,
            above.of(TrafficClass::IcmpOther).take_all(),
        );
    }
}

/// Whether capture lost packets because its ring was full: they were dropped whatever they were.
fn lost_in_ring(span: &Span) -> bool {
    span.loss.ring > 0 && span.unseen() > 0
}

/// What may be chance in a span.
struct Noise {
    rise: Count,
    least_packets: u64,
}

impl Noise {
    fn of(span: &Span, baseline: &Baseline, limit_pps: Option<u64>) -> Self {
        let usual = |series| normal(baseline, series, span.windows);
        let mut rise = span.inbound.wire();
        rise.retire(Count {
            packets: usual(Series::Pps),
            bits: usual(Series::Bps),
        });
        // 50 packets a second are noise beside a limit of a thousand and more; beside a lower one, a twentieth of it is.
        let least_pps =
            limit_pps.map_or(LEAST_EXCESS_PPS, |limit| LEAST_EXCESS_PPS.min(limit / 20));
        Self {
            rise,
            least_packets: over_windows(least_pps, span.windows),
        }
    }

    /// What a class has above normal; zero while that may be noise in packets and in bits.
    fn above_normal(
        &self,
        class: TrafficClass,
        seen: Count,
        span: &Span,
        baseline: &Baseline,
    ) -> Count {
        let in_unit = |series, seen: u64, rise: u64| {
            let usual = normal(baseline, series, span.windows);
            let p95 = baseline.hour_p95(series).unwrap_or(0);
            let spread = over_windows(p95, span.windows).saturating_sub(usual);
            let excess = seen.saturating_sub(usual);
            let least = proportion(rise, LEAST_RISE_PERMILLE, 1_000).max(spread);
            (excess, excess > 0 && excess >= least)
        };
        let (packets, many) = in_unit(Series::ClassPackets(class), seen.packets, self.rise.packets);
        let (bits, large) = in_unit(Series::ClassBits(class), seen.bits, self.rise.bits);
        // Too few packets are chance, however large they are.
        let chance = (3 * seen.packets.isqrt()).max(self.least_packets);
        if packets >= chance && (many || large) {
            Count { packets, bits }
        } else {
            Count::default()
        }
    }
}

/// What is normal for a series over so many windows; nothing while that is not known.
fn normal(baseline: &Baseline, series: Series, windows: u64) -> u64 {
    over_windows(baseline.normal_at_onset(series).unwrap_or(0), windows)
}

const fn over_windows(per_second: u64, windows: u64) -> u64 {
    per_second.saturating_mul(windows) / WINDOWS_PER_SECOND
}

/// Whether what comes to a port are sessions: most tuples that began completed or, on a server that no longer keeps up,
/// patiently ask again; and most of the other packets belong to such tuples. Where no tuple began, requests say it:
/// those connections are older than the agent.
fn is_session_port(port: &PortSessions) -> bool {
    let data = port
        .classes
        .get(TrafficClass::TcpData as usize)
        .map_or(0, |count| count.packets);
    let asked = port.requests() > 0 && port.requests() * 1_000 >= data * REQUESTS_PERMILLE;
    let at_home = port.in_session * 2 >= port.followed;
    if port.opened > 0 {
        let real = if port.completed > 0 {
            port.completed + port.waiting
        } else {
            0
        };
        real * 1_000 >= port.opened * COMPLETED_PERMILLE && (at_home || asked)
    } else {
        (port.in_session > 0 && at_home) || asked
    }
}

/// What the sessions of a port are used for.
fn session_vector(port: &PortSessions) -> Vector {
    let syns = port
        .classes
        .get(TrafficClass::Syn as usize)
        .map_or(0, |count| count.packets);
    let usual = |spoken: u64| spoken > 0 && spoken * SYNS_A_REQUEST >= syns;
    if usual(port.requests()) {
        if port.http_posts > port.http_gets + port.http_others {
            Vector::HttpPost
        } else {
            Vector::HttpGet
        }
    } else if usual(port.tls_hellos) {
        Vector::TlsHandshake
    } else {
        Vector::Connect
    }
}
