//! What the kernel says about interfaces: which there are, how they stand on each other, their addresses, their counters.
//!
//! One rtnetlink socket each for the questions asked at start-up ([`interfaces`], [`addresses`],
//! [`default_route_interface`]; any thread) and for [`CounterSource`], which the detector's thread reads twenty times a
//! second and which therefore keeps its socket and buffers. Answers are about the network namespace of the thread that
//! asks. No privilege is needed. This file must never change anything in the kernel, and never judge traffic.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{
    ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
    Parseable, ParseableParametrized,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute,
    LinkFlags, LinkHeader, LinkInfo, LinkMessage, Prop, Stats64,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage, RouteNextHopFlags,
    RouteType,
};
use netlink_packet_route::stats::{StatsAttribute, StatsFilterMask, StatsMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use super::CaptureError;
use super::counter::CounterReading;

/// Message types of `linux/rtnetlink.h` that the kernel answers with.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWSTATS: u16 = 92;

/// Bytes in front of the attributes: `struct ifinfomsg`, `ifaddrmsg`, `rtmsg`, `if_stats_msg`.
const LINK_HEADER_BYTES: usize = 16;
const ADDRESS_HEADER_BYTES: usize = 8;
const ROUTE_HEADER_BYTES: usize = 12;
const STATS_HEADER_BYTES: usize = 12;

/// Where an answer is put: the kernel fills a dump's datagrams up to 32 KiB when it is given as much room.
const ANSWER_BYTES: usize = 32 * 1024;

/// How long the kernel may take to answer. It answers within the call unless the interface tables are locked by a slow
/// driver; a detector that waits longer is blind, one that gives up reads again in the next window.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a dump is repeated that changes of the tables cut across, before its last answer is taken as it is.
const DUMP_ATTEMPTS: u32 = 5;

/// The table that `ip route` shows (`RT_TABLE_MAIN`).
const MAIN_ROUTING_TABLE: u32 = 254;

/// Why the kernel's interface tables could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct NicError {
    /// What was being done.
    pub action: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// A network interface, as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its number in this network namespace; never 0.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Other names that it answers to.
    pub alternative_names: Vec<String>,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// The largest packet it sends, in bytes without the link-layer header.
    pub mtu_bytes: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is up and its link works (carrier, or the driver does not know).
    pub running: bool,
    /// Whether it is a loopback interface.
    pub is_loopback: bool,
    /// The interface whose frames it is made of (a VLAN's or macvlan's parent), if that is in this namespace.
    pub lower: Option<u32>,
    /// The bridge, bond, team or VRF that it is a member of.
    pub master: Option<u32>,
    /// What made it: `veth`, `vlan`, `bond`, `gre` and so on; `None` for most hardware.
    pub kind: Option<String>,
    /// The fixed far end of a tunnel.
    pub tunnel_peer: Option<IpAddr>,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix in bits.
    pub prefix_bits: u8,
    /// The interface that has it.
    pub interface: u32,
}

/// An interface's cumulative 64-bit statistics, since it exists.
///
/// Units are those of [`NicReading`](super::counter::NicReading).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes of those.
    pub rx_bytes: u64,
    /// Packets that the NIC dropped for want of buffers (`rx_missed_errors`); not among `rx_packets`.
    pub rx_missed: u64,
    /// Packets that the host dropped after it received them; among `rx_packets`.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
}

impl LinkCounters {
    /// These counters as a reading for the window counter, with the monotonic times around the call that read them.
    #[must_use]
    pub const fn reading(&self, taken_before_nanos: u64, taken_after_nanos: u64) -> CounterReading {
        CounterReading {
            taken_before_nanos,
            taken_after_nanos,
            packets: self.rx_packets,
            bytes: self.rx_bytes,
            missed: self.rx_missed,
        }
    }
}

/// Reads the counters of some interfaces, over and over.
#[derive(Debug)]
pub struct CounterSource {
    netlink: Rtnetlink,
    requests: Vec<StatsRequest>,
    /// All requests one behind the other, as they are sent.
    datagram: Vec<u8>,
    counters: Vec<Option<LinkCounters>>,
}

/// Where one interface's request stands in the datagram.
#[derive(Debug)]
struct StatsRequest {
    from: usize,
    to: usize,
}

impl CounterSource {
    /// A source for the interfaces with these numbers, in this order.
    ///
    /// # Errors
    ///
    /// When the kernel grants no rtnetlink socket.
    pub fn open(interfaces: &[u32]) -> Result<Self, NicError> {
        let netlink = Rtnetlink::open()?;
        let mut requests = Vec::with_capacity(interfaces.len());
        let mut datagram = Vec::new();
        for &index in interfaces {
            let mut message = StatsMessage::default();
            message.header.ifindex = index;
            message.header.filter_mask = StatsFilterMask::Link64;
            let from = datagram.len();
            datagram.extend(encode(
                RouteNetlinkMessage::GetStats(message),
                NLM_F_REQUEST,
            ));
            requests.push(StatsRequest {
                from,
                to: datagram.len(),
            });
        }
        let counters = vec![None; interfaces.len()];
        Ok(Self {
            netlink,
            requests,
            datagram,
            counters,
        })
    }

    /// The counters of all interfaces now, in the order they were opened in; `None` for one that is gone.
    ///
    /// Costs one system call for the question and one for each interface's answer, and allocates nothing.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer; the next call may well succeed.
    pub fn read(&mut self) -> Result<&[Option<LinkCounters>], NicError> {
        self.ask_and_collect().map_err(|source| NicError {
            action: "read the interface counters",
            source,
        })?;
        Ok(&self.counters)
    }

    fn ask_and_collect(&mut self) -> io::Result<()> {
        let count = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Ok(());
        }
        let first = self.netlink.reserve_sequence(count);
        for (request, number) in self.requests.iter().zip(0u32..) {
            if let Some(header) = self.datagram.get_mut(request.from..request.to) {
                NetlinkBuffer::new(header).set_sequence_number(first.wrapping_add(number));
            }
        }
        self.counters.fill(None);
        self.netlink.send(&self.datagram)?;
        let mut missing = count;
        while missing > 0 {
            let counters = &mut self.counters;
            self.netlink.receive(|message| {
                // An answer to an earlier reading that was given up has a number outside of this one's.
                let number = usize::try_from(message.sequence_number().wrapping_sub(first))
                    .unwrap_or(usize::MAX);
                let Some(slot) = counters.get_mut(number) else {
                    return Ok(());
                };
                missing = missing.saturating_sub(1);
                match message.message_type() {
                    RTM_NEWSTATS => *slot = link_counters(message.payload()),
                    NLMSG_ERROR if answer_code(message.payload()) == Some(Errno::NODEV) => {}
                    NLMSG_ERROR => return Err(answer_error(message.payload())),
                    _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// All interfaces of this network namespace, by number.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn interfaces() -> Result<Vec<Interface>, NicError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut found =
        Rtnetlink::open()?.dump("list the interfaces", &request, RTM_NEWLINK, interface)?;
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// All addresses of this host in this network namespace, sorted, those of loopback interfaces too.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn addresses() -> Result<Vec<LocalAddress>, NicError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut found =
        Rtnetlink::open()?.dump("list the addresses", &request, RTM_NEWADDR, local_address)?;
    found.sort_unstable();
    Ok(found)
}

/// The interface of the default route with the lowest metric in the main table, IPv4 before IPv6.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn default_route_interface() -> Result<Option<Interface>, NicError> {
    let mut netlink = Rtnetlink::open()?;
    let mut chosen = None;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let request = RouteNetlinkMessage::GetRoute(message);
        let routes = netlink.dump("list the routes", &request, RTM_NEWROUTE, default_route)?;
        chosen = routes.into_iter().min().map(|route| route.interface);
        if chosen.is_some() {
            break;
        }
    }
    let Some(index) = chosen else { return Ok(None) };
    Ok(interfaces()?
        .into_iter()
        .find(|interface| interface.index == index))
}

/// Refuses interfaces that must not be watched: loopback, and any two of which one carries the other's frames (a VLAN
/// and its parent, a bond and its member), because each of those frames would be counted twice. Nor may one be named
/// twice. A tunnel that is bound to no device is not recognised as standing on one: its frames may come in by any.
///
/// # Errors
///
/// [`CaptureError::UnsuitableInterface`] for the first that must not.
pub fn check_watchable(watched: &[&Interface], all: &[Interface]) -> Result<(), CaptureError> {
    for interface in watched {
        if interface.is_loopback {
            return Err(CaptureError::UnsuitableInterface {
                name: interface.name.clone(),
                reason: "is loopback, which carries only this host's own packets; watch the interface that they reach \
                         other hosts by"
                    .to_owned(),
            });
        }
    }
    for (position, upper) in watched.iter().enumerate() {
        if watched
            .iter()
            .take(position)
            .any(|earlier| earlier.index == upper.index)
        {
            return Err(CaptureError::UnsuitableInterface {
                name: upper.name.clone(),
                reason: "is named twice and would count twice; name it once".to_owned(),
            });
        }
        let below = carriers(upper.index, all);
        if let Some(lower) = watched.iter().find(|other| below.contains(&other.index)) {
            return Err(CaptureError::UnsuitableInterface {
                name: upper.name.clone(),
                reason: format!(
                    "its frames pass through {} too and would count twice; watch one of them",
                    lower.name
                ),
            });
        }
    }
    Ok(())
}

/// The interfaces whose frames `index` receives: what it stands on and its members, and theirs in turn.
fn carriers(index: u32, all: &[Interface]) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut unseen = vec![index];
    while let Some(upper) = unseen.pop() {
        let lower = all
            .iter()
            .filter(|interface| interface.index == upper)
            .filter_map(|interface| interface.lower);
        let members = all
            .iter()
            .filter(|interface| interface.master == Some(upper))
            .map(|interface| interface.index);
        for carrier in lower.chain(members) {
            if carrier != index && !found.contains(&carrier) {
                found.push(carrier);
                unseen.push(carrier);
            }
        }
    }
    found
}

/// A default route, ordered by metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DefaultRoute {
    metric: u32,
    interface: u32,
}

/// An rtnetlink socket and room for its answers.
#[derive(Debug)]
struct Rtnetlink {
    socket: OwnedFd,
    sequence: u32,
    answer: Vec<u8>,
}

impl Rtnetlink {
    fn open() -> Result<Self, NicError> {
        let socket = connect_to_kernel().map_err(|errno| NicError {
            action: "open an rtnetlink socket",
            source: errno.into(),
        })?;
        Ok(Self {
            socket,
            sequence: 0,
            answer: vec![0; ANSWER_BYTES],
        })
    }

    /// Everything of one kind that the kernel has; what `parse` does not understand is left out.
    fn dump<T>(
        &mut self,
        action: &'static str,
        request: &RouteNetlinkMessage,
        answer_type: u16,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NicError> {
        let mut datagram = encode(request.clone(), NLM_F_REQUEST | NLM_F_DUMP);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let sequence = self.reserve_sequence(1);
            NetlinkBuffer::new(&mut datagram[..]).set_sequence_number(sequence);
            let (found, consistent) = self
                .send(&datagram)
                .and_then(|()| self.collect(sequence, answer_type, &parse))
                .map_err(|source| NicError { action, source })?;
            if consistent || attempts >= DUMP_ATTEMPTS {
                return Ok(found);
            }
        }
    }

    fn collect<T>(
        &mut self,
        sequence: u32,
        answer_type: u16,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<(Vec<T>, bool)> {
        let mut found = Vec::new();
        let (mut consistent, mut done) = (true, false);
        while !done {
            self.receive(|message| {
                if message.sequence_number() != sequence {
                    return Ok(());
                }
                consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => return Err(answer_error(message.payload())),
                    kind if kind == answer_type => found.extend(parse(message.payload())),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok((found, consistent))
    }

    /// The first of `count` numbers by which answers are told from each other and from late ones.
    fn reserve_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        retry_on_intr(|| rustix::net::send(&self.socket, datagram, SendFlags::empty()))?;
        Ok(())
    }

    /// Waits for one datagram and hands over the messages in it.
    fn receive(
        &mut self,
        mut each: impl FnMut(&NetlinkBuffer<&[u8]>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self { socket, answer, .. } = self;
        let (taken, whole) =
            retry_on_intr(|| rustix::net::recv(&*socket, &mut answer[..], RecvFlags::TRUNC))?;
        if taken < whole {
            // What was cut off is gone, and with it the end of the answer. There is room for it the next time.
            answer.resize(whole.next_power_of_two(), 0);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer was longer than expected",
            ));
        }
        let mut rest = answer.get(..taken).unwrap_or_default();
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            each(&message)?;
            // Messages begin at multiples of 4 bytes (NLMSG_ALIGNTO).
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn connect_to_kernel() -> rustix::io::Result<OwnedFd> {
    // Protocol 0 of the netlink family is NETLINK_ROUTE.
    let family = rustix::net::AddressFamily::NETLINK;
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
    // Port 0 is the kernel.
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

fn encode(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The error number in an error message; `None` for one that says "no error".
fn answer_code(payload: &[u8]) -> Option<Errno> {
    let code = ErrorBuffer::new_checked(payload).ok()?.code()?;
    Some(Errno::from_raw_os_error(code.get().saturating_neg()))
}

fn answer_error(payload: &[u8]) -> io::Error {
    answer_code(payload).map_or_else(
        || io::Error::from(io::ErrorKind::InvalidData),
        io::Error::from,
    )
}

/// The attributes behind a message's header. One that is damaged ends them.
fn attributes(payload: &[u8], header_bytes: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload.get(header_bytes..).unwrap_or_default()).map_while(Result::ok)
}

fn link_counters(payload: &[u8]) -> Option<LinkCounters> {
    attributes(payload, STATS_HEADER_BYTES).find_map(|attribute| {
        match StatsAttribute::parse(&attribute) {
            Ok(StatsAttribute::Link64(stats)) => Some(LinkCounters::from(&stats)),
            _ => None,
        }
    })
}

impl From<&Stats64> for LinkCounters {
    fn from(stats: &Stats64) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            rx_missed: stats.rx_missed_errors,
            rx_dropped: stats.rx_dropped,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_dropped: stats.tx_dropped,
        }
    }
}

/// Each attribute is parsed on its own and left out if a newer kernel gave it another shape, so that one unknown field
/// never hides a whole interface.
fn interface(payload: &[u8]) -> Option<Interface> {
    let header = LinkHeader::parse(payload).ok()?;
    let mut interface = Interface {
        index: header.index,
        up: header.flags.contains(LinkFlags::Up),
        running: header.flags.contains(LinkFlags::Up | LinkFlags::Running),
        is_loopback: header.flags.contains(LinkFlags::Loopback),
        ..Interface::default()
    };
    let mut lower_is_elsewhere = false;
    for attribute in attributes(payload, LINK_HEADER_BYTES) {
        match LinkAttribute::parse_with_param(&attribute, header.interface_family) {
            Ok(LinkAttribute::IfName(name)) => interface.name = name,
            Ok(LinkAttribute::PropList(properties)) => {
                interface
                    .alternative_names
                    .extend(
                        properties
                            .into_iter()
                            .filter_map(|property| match property {
                                Prop::AltIfName(name) => Some(name),
                                _ => None,
                            }),
                    );
            }
            Ok(LinkAttribute::Address(bytes)) => {
                interface.mac = <[u8; 6]>::try_from(bytes).ok().filter(|mac| *mac != [0; 6]);
            }
            Ok(LinkAttribute::Mtu(bytes)) => interface.mtu_bytes = bytes,
            Ok(LinkAttribute::Link(index)) => {
                interface.lower = Some(index).filter(|&lower| lower != 0)
            }
            Ok(LinkAttribute::LinkNetNsId(_)) => lower_is_elsewhere = true,
            Ok(LinkAttribute::Controller(index)) => {
                interface.master = Some(index).filter(|&master| master != 0)
            }
            Ok(LinkAttribute::LinkInfo(infos)) => {
                describe_kind(&mut interface, &infos, &mut lower_is_elsewhere)
            }
            _ => {}
        }
    }
    if lower_is_elsewhere {
        interface.lower = None;
    }
    (!interface.name.is_empty()).then_some(interface)
}

fn describe_kind(interface: &mut Interface, infos: &[LinkInfo], lower_is_elsewhere: &mut bool) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => {
                interface.kind = Some(kind.to_string());
                // The "link" of these is the other end of the wire, not something underneath.
                *lower_is_elsewhere |=
                    matches!(kind, InfoKind::Veth | InfoKind::Vxcan | InfoKind::Netkit);
            }
            LinkInfo::Data(data) => {
                interface.tunnel_peer = tunnel_peer(data).filter(|peer| !peer.is_unspecified())
            }
            _ => {}
        }
    }
}

/// The remote end in a tunnel's own data. A VXLAN's may be a multicast group, which is not one peer.
fn tunnel_peer(data: &InfoData) -> Option<IpAddr> {
    match data {
        InfoData::GreTun(fields) | InfoData::GreTap(fields) | InfoData::ErSpan(fields) => {
            fields.iter().find_map(|field| match field {
                InfoGre::Remote(address) => Some(IpAddr::from(*address)),
                _ => None,
            })
        }
        InfoData::GreTun6(fields) | InfoData::GreTap6(fields) | InfoData::Ip6ErSpan(fields) => {
            fields.iter().find_map(|field| match field {
                InfoGre6::Remote(address) => Some(IpAddr::from(*address)),
                _ => None,
            })
        }
        InfoData::IpTunnel(fields) => fields.iter().find_map(|field| match field {
            InfoIpTunnel::Remote(address) => Some(*address),
            _ => None,
        }),
        InfoData::Vxlan(fields) => fields
            .iter()
            .find_map(|field| match field {
                InfoVxlan::Group(address) => Some(IpAddr::from(*address)),
                InfoVxlan::Group6(address) => Some(IpAddr::from(*address)),
                _ => None,
            })
            .filter(|peer| !peer.is_multicast()),
        InfoData::Geneve(fields) => fields.iter().find_map(|field| match field {
            InfoGeneve::Remote(address) => Some(IpAddr::from(*address)),
            InfoGeneve::Remote6(address) => Some(IpAddr::from(*address)),
            _ => None,
        }),
        _ => None,
    }
}

fn local_address(payload: &[u8]) -> Option<LocalAddress> {
    let header = AddressHeader::parse(payload).ok()?;
    let (mut own, mut other) = (None, None);
    for attribute in attributes(payload, ADDRESS_HEADER_BYTES) {
        match AddressAttribute::parse(&attribute) {
            Ok(AddressAttribute::Local(address)) => own = Some(address),
            // The same as ours, except on a point-to-point link, where it is the peer's.
            Ok(AddressAttribute::Address(address)) => other = Some(address),
            _ => {}
        }
    }
    Some(LocalAddress {
        address: own.or(other)?,
        prefix_bits: header.prefix_len,
        interface: header.index,
    })
}

fn default_route(payload: &[u8]) -> Option<DefaultRoute> {
    let header = RouteHeader::parse(payload).ok()?;
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || header
            .flags
            .intersects(RouteFlags::Dead | RouteFlags::Linkdown)
    {
        return None;
    }
    let mut table = u32::from(header.table);
    // A route without this attribute has metric 0, which wins.
    let mut metric = 0;
    let mut interface = None;
    for attribute in attributes(payload, ROUTE_HEADER_BYTES) {
        let context = (header.address_family, header.kind, RouteLwEnCapType::None);
        match RouteAttribute::parse_with_param(&attribute, context) {
            Ok(RouteAttribute::Table(number)) => table = number,
            Ok(RouteAttribute::Priority(value)) => metric = value,
            Ok(RouteAttribute::Oif(index)) => interface = Some(index),
            Ok(RouteAttribute::MultiPath(hops)) => {
                let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                interface = hops
                    .iter()
                    .find(|hop| !hop.flags.intersects(dead))
                    .map(|hop| hop.interface_index);
            }
            _ => {}
        }
    }
    if table != MAIN_ROUTING_TABLE {
        return None;
    }
    Some(DefaultRoute {
        metric,
        interface: interface?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(index: u32, name: &str, lower: Option<u32>, master: Option<u32>) -> Interface {
        Interface {
            index,
            name: name.to_owned(),
            lower,
            master,
            up: true,
            ..Interface::default()
        }
    }

    /// eth0 and eth1 in bond0, a VLAN on it, which is a port of br0; eth2 apart.
    fn stack() -> Vec<Interface> {
        vec![
            named(2, "eth0", None, Some(5)),
            named(3, "eth1", None, Some(5)),
            named(4, "eth2", None, None),
            named(5, "bond0", None, None),
            named(6, "bond0.7", Some(5), Some(7)),
            named(7, "br0", None, None),
        ]
    }

    fn refused(indices: &[u32]) -> Option<String> {
        let all = stack();
        let watched: Vec<&Interface> = all
            .iter()
            .filter(|interface| indices.contains(&interface.index))
            .collect();
        check_watchable(&watched, &all)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn interfaces_that_share_frames_are_refused_however_far_apart() {
        for pair in [[2, 5], [5, 6], [6, 7], [2, 7], [3, 6], [5, 7]] {
            let message = refused(&pair).unwrap_or_else(|| panic!("{pair:?} was accepted"));
            assert!(message.contains("would count twice"), "{message}");
        }
    }

    #[test]
    fn interfaces_side_by_side_are_accepted() {
        for group in [&[2, 3, 4][..], &[4, 5], &[4, 7], &[6], &[]] {
            assert_eq!(refused(group), None, "{group:?}");
        }
    }

    #[test]
    fn a_ring_of_interfaces_does_not_hang() {
        let all = [named(2, "a", Some(3), None), named(3, "b", Some(2), None)];
        assert!(check_watchable(&[&all[0]], &all).is_ok());
        assert!(check_watchable(&[&all[0], &all[1]], &all).is_err());
    }

    #[test]
    fn an_interface_named_twice_is_refused() {
        let eth0 = named(2, "eth0", None, None);
        let error = check_watchable(&[&eth0, &eth0], std::slice::from_ref(&eth0)).unwrap_err();
        assert!(error.to_string().contains("named twice"), "{error}");
    }

    #[test]
    fn loopback_is_refused() {
        let lo = Interface {
            is_loopback: true,
            ..named(1, "lo", None, None)
        };
        let error = check_watchable(&[&lo], std::slice::from_ref(&lo))
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some_and(|message| message.starts_with("interface lo: is loopback")));
    }

    #[test]
    fn this_host_has_its_loopback_interface_and_address() {
        let all = interfaces().unwrap();
        let lo = all.iter().find(|interface| interface.is_loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.mac, lo.lower), ("lo", None, None));
        assert!(all.is_sorted_by_key(|interface| interface.index));
        if lo.up {
            let own = addresses().unwrap();
            assert!(
                own.iter()
                    .any(|own| own.interface == lo.index && own.address.is_loopback()),
                "{own:?}"
            );
        }
    }

    #[test]
    fn an_interface_that_does_not_exist_has_no_counters() {
        let lo = interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.is_loopback)
            .unwrap();
        let mut source = CounterSource::open(&[u32::MAX >> 1, lo.index]).unwrap();
        for _ in 0..3 {
            assert!(matches!(source.read().unwrap(), [None, Some(_)]));
        }
        assert!(CounterSource::open(&[]).unwrap().read().unwrap().is_empty());
    }

    #[test]
    fn an_answer_that_does_not_fit_is_an_error_once_and_fits_the_next_time() {
        let lo = interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.is_loopback)
            .unwrap();
        let mut source = CounterSource::open(&[lo.index]).unwrap();
        source.netlink.answer.truncate(64);
        assert!(source.read().is_err());
        assert!(source.read().unwrap()[0].is_some());
    }

    #[test]
    fn an_answer_to_an_earlier_question_is_not_taken_for_this_ones() {
        let lo = interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.is_loopback)
            .unwrap();
        let mut source = CounterSource::open(&[lo.index]).unwrap();
        source.read().unwrap();
        // As after a reading that was given up: the question was asked, its answer never fetched.
        let unread = source.datagram.clone();
        source.netlink.send(&unread).unwrap();
        assert!(source.read().unwrap()[0].is_some());
        // The stale answer is still first in line for the reading after, if it was mistaken for the last one.
        assert!(source.read().unwrap()[0].is_some());
        let pending = rustix::net::recv(
            &source.netlink.socket,
            &mut [0u8; 64][..],
            RecvFlags::DONTWAIT,
        );
        assert_eq!(pending.err(), Some(Errno::AGAIN));
    }

    /// A link message as the kernel writes it, with some attributes.
    fn link_message() -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.header.flags = LinkFlags::Up | LinkFlags::Running;
        message.attributes = vec![
            LinkAttribute::IfName("gre7".to_owned()),
            LinkAttribute::Mtu(1_476),
            LinkAttribute::Address(vec![192, 0, 2, 1]),
            LinkAttribute::Link(4),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::GreTun),
                LinkInfo::Data(InfoData::GreTun(vec![InfoGre::Remote(
                    [198, 51, 100, 9].into(),
                )])),
            ]),
        ];
        encode(RouteNetlinkMessage::NewLink(message), 0).split_off(16)
    }

    #[test]
    fn a_tunnel_is_described_with_its_peer_and_its_lower_device() {
        let tunnel = interface(&link_message()).unwrap();
        assert_eq!(
            (tunnel.index, tunnel.name.as_str(), tunnel.mtu_bytes),
            (9, "gre7", 1_476)
        );
        assert_eq!(
            (tunnel.mac, tunnel.lower, tunnel.kind.as_deref()),
            (None, Some(4), Some("gre"))
        );
        assert_eq!(tunnel.tunnel_peer, Some([198, 51, 100, 9].into()));
        assert!(tunnel.up && tunnel.running);
    }

    #[test]
    fn every_tunnel_kind_gives_its_fixed_peer_and_only_that() {
        let (v4, v6) = ([198, 51, 100, 9], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]);
        let peers = [
            InfoData::GreTap(vec![InfoGre::Ttl(64), InfoGre::Remote(v4.into())]),
            InfoData::IpTunnel(vec![InfoIpTunnel::Remote(v4.into())]),
            InfoData::Vxlan(vec![InfoVxlan::Id(7), InfoVxlan::Group(v4.into())]),
            InfoData::Geneve(vec![InfoGeneve::Remote(v4.into())]),
            InfoData::GreTun6(vec![InfoGre6::Remote(v6.into())]),
            InfoData::Vxlan(vec![InfoVxlan::Group6(v6.into())]),
            InfoData::Geneve(vec![InfoGeneve::Remote6(v6.into())]),
        ];
        for data in &peers {
            assert!(
                [Some(IpAddr::from(v4)), Some(IpAddr::from(v6))].contains(&tunnel_peer(data)),
                "{data:?}"
            );
        }
        assert_eq!(
            tunnel_peer(&InfoData::Vxlan(vec![InfoVxlan::Group(
                [239, 1, 1, 1].into()
            )])),
            None
        );
        assert_eq!(tunnel_peer(&InfoData::GreTun(vec![InfoGre::Ttl(64)])), None);
    }

    #[test]
    fn every_prefix_of_an_answer_is_read_as_far_as_it_goes() {
        let whole = link_message();
        for end in 0..whole.len() {
            let _ = interface(&whole[..end]);
            let _ = local_address(&whole[..end]);
            let _ = default_route(&whole[..end]);
            let _ = link_counters(&whole[..end]);
            let _ = answer_code(&whole[..end]);
        }
    }

    #[test]
    fn a_route_outside_the_main_table_or_to_nowhere_is_no_default_route() {
        let route = |table: u8, kind: RouteType, prefix: u8| {
            let mut message = RouteMessage::default();
            message.header.address_family = AddressFamily::Inet;
            message.header.table = table;
            message.header.kind = kind;
            message.header.destination_prefix_length = prefix;
            message.attributes = vec![RouteAttribute::Oif(3), RouteAttribute::Priority(100)];
            default_route(&encode(RouteNetlinkMessage::NewRoute(message), 0).split_off(16))
        };
        assert_eq!(
            route(254, RouteType::Unicast, 0),
            Some(DefaultRoute {
                metric: 100,
                interface: 3
            })
        );
        assert_eq!(route(77, RouteType::Unicast, 0), None);
        assert_eq!(route(254, RouteType::BlackHole, 0), None);
        assert_eq!(route(254, RouteType::Unicast, 8), None);
    }
}
