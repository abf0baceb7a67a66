//! What the kernel says about interfaces: which there are, how they stand on each other, their addresses, their counters.
//!
//! One rtnetlink socket each for the questions asked when something changed ([`interfaces`], [`addresses`],
//! [`default_route_interface`]; any thread), for [`Changes`], which says when, and for [`CounterSource`], which the
//! detector's thread reads twenty times a second and which therefore keeps its socket and buffers. Answers are about the
//! network namespace of the thread that asks. No privilege is needed. This file must never change anything in the
//! kernel, and never judge traffic.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use netlink_packet_core::{
    NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlaBuffer, NlasIterator, Parseable,
    ParseableParametrized,
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
use rustix::io::Errno;

use super::CaptureError;
use super::counter::CounterReading;
use super::netlink::{Netlink, NetlinkError, Subscription, answer_code, answer_error, encode};

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

/// The table that `ip route` shows (`RT_TABLE_MAIN`).
const MAIN_ROUTING_TABLE: u32 = 254;

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
    /// Whether it is up and its link works (carrier, or the driver does not know), as the kernel has noted by now: it
    /// takes its time, up to a second, while frames already come.
    pub running: bool,
    /// Whether it is up and has a carrier at this moment, or the driver does not know.
    pub carrier: bool,
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

impl Interface {
    /// Whether `name` is its name or one of its alternative names.
    #[must_use]
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }
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
    netlink: Netlink,
    requests: Vec<StatsRequest>,
    /// All requests one behind the other, as they are sent.
    datagram: Vec<u8>,
    counters: Vec<Option<LinkCounters>>,
}

/// One interface's request, and where it stands in the datagram: nowhere when there is no interface to ask for.
#[derive(Debug)]
struct StatsRequest {
    interface: Option<u32>,
    from: usize,
    to: usize,
}

impl CounterSource {
    /// A source for the interfaces with these numbers, in this order.
    ///
    /// # Errors
    ///
    /// When the kernel grants no rtnetlink socket.
    pub fn open(interfaces: &[u32]) -> Result<Self, NetlinkError> {
        let requests = interfaces.iter().map(|&index| StatsRequest {
            interface: Some(index),
            from: 0,
            to: 0,
        });
        let mut source = Self {
            netlink: open()?,
            requests: requests.collect(),
            datagram: Vec::new(),
            counters: vec![None; interfaces.len()],
        };
        source.write_datagram();
        Ok(source)
    }

    /// From now on the `position`-th interface is the one with this number; `None` says that there is none, so that
    /// nobody else's counters are read should its number be given to another.
    pub fn replace(&mut self, position: usize, interface: Option<u32>) {
        if let Some(request) = self.requests.get_mut(position) {
            request.interface = interface;
            self.write_datagram();
        }
    }

    fn write_datagram(&mut self) {
        self.datagram.clear();
        for request in &mut self.requests {
            request.from = self.datagram.len();
            if let Some(index) = request.interface {
                let mut message = StatsMessage::default();
                message.header.ifindex = index;
                message.header.filter_mask = StatsFilterMask::Link64;
                let message = RouteNetlinkMessage::GetStats(message);
                self.datagram.extend(encode(message, NLM_F_REQUEST));
            }
            request.to = self.datagram.len();
        }
    }

    /// The counters of all interfaces now, in the order they were opened in; `None` for one that is gone.
    ///
    /// Costs one system call for the question and one for each interface's answer, and allocates nothing.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer; the next call may well succeed.
    pub fn read(&mut self) -> Result<&[Option<LinkCounters>], NetlinkError> {
        self.ask_and_collect().map_err(|source| NetlinkError {
            action: "read the interface counters",
            source,
        })?;
        Ok(&self.counters)
    }

    fn ask_and_collect(&mut self) -> io::Result<()> {
        self.counters.fill(None);
        let count = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        let first = self.netlink.reserve_sequence(count);
        let mut missing = 0u32;
        for (request, number) in self.requests.iter().zip(0u32..) {
            if request.interface.is_none() {
                continue;
            }
            missing += 1;
            if let Some(header) = self.datagram.get_mut(request.from..request.to) {
                NetlinkBuffer::new(header).set_sequence_number(first.wrapping_add(number));
            }
        }
        if missing == 0 {
            return Ok(());
        }
        self.netlink.send(&self.datagram)?;
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

/// Tells when interfaces or addresses of this network namespace have changed.
#[derive(Debug)]
pub struct Changes(Subscription);

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const CHANGE_GROUPS: u32 = 0x1 | 0x10 | 0x100;

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// When the kernel grants no rtnetlink socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let action = "listen for changes of the interfaces";
        Subscription::open(CHANGE_GROUPS)
            .map(Self)
            .map_err(|source| NetlinkError { action, source })
    }

    /// Whether something has changed since the last time it was asked. Does not wait; poll(2) says when to ask.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.drain()
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All interfaces of this network namespace, by number.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn interfaces() -> Result<Vec<Interface>, NetlinkError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut found = dump(
        &mut open()?,
        "list the interfaces",
        request,
        RTM_NEWLINK,
        interface,
    )?;
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// All addresses of this host in this network namespace, sorted, those of loopback interfaces too.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn addresses() -> Result<Vec<LocalAddress>, NetlinkError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut found = dump(
        &mut open()?,
        "list the addresses",
        request,
        RTM_NEWADDR,
        local_address,
    )?;
    found.sort_unstable();
    Ok(found)
}

/// The interface of the default route with the lowest metric in the main table, IPv4 before IPv6.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn default_route_interface() -> Result<Option<Interface>, NetlinkError> {
    let mut netlink = open()?;
    let mut chosen = None;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let request = RouteNetlinkMessage::GetRoute(message);
        let routes = dump(
            &mut netlink,
            "list the routes",
            request,
            RTM_NEWROUTE,
            default_route,
        )?;
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

/// Kinds of interface whose speed is that of the hardware below them. Other virtual ones report a number that means
/// nothing: a veth says 10 Gbit/s.
const KINDS_WITH_SPEED: [&str; 3] = ["bond", "team", "vlan"];

/// Speed of an interface in bits/s, where its driver knows one.
///
/// Read from sysfs, which belongs to the network namespace of whoever mounted it, so it is believed only if it knows
/// the interface by the same number.
#[must_use]
pub fn link_bps(interface: &Interface) -> Option<u64> {
    let kind = interface.kind.as_deref();
    if kind.is_some_and(|kind| !KINDS_WITH_SPEED.contains(&kind)) {
        return None;
    }
    let folder = Path::new("/sys/class/net").join(&interface.name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let index: u32 = read("ifindex")?.trim().parse().ok()?;
    // Megabits; -1 where there is no link.
    let megabits: u64 = read("speed")?.trim().parse().ok()?;
    (index == interface.index && megabits > 0).then(|| megabits.saturating_mul(1_000_000))
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

fn open() -> Result<Netlink, NetlinkError> {
    Netlink::open(None).map_err(|source| NetlinkError {
        action: "open an rtnetlink socket",
        source,
    })
}

fn dump<T>(
    netlink: &mut Netlink,
    action: &'static str,
    request: RouteNetlinkMessage,
    answer_type: u16,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let found = netlink.dump(request, answer_type, parse);
    found.map_err(|source| NetlinkError { action, source })
}

/// A default route, ordered by metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DefaultRoute {
    metric: u32,
    interface: u32,
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
        carrier: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
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
    fn a_place_in_a_source_can_be_emptied_and_given_to_another() {
        let lo = interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.is_loopback)
            .unwrap();
        let mut source = CounterSource::open(&[lo.index, lo.index]).unwrap();
        assert!(matches!(source.read().unwrap(), [Some(_), Some(_)]));
        source.replace(0, None);
        assert!(matches!(source.read().unwrap(), [None, Some(_)]));
        source.replace(1, None);
        assert_eq!(source.read().unwrap(), [None, None]);
        source.replace(0, Some(lo.index));
        assert!(matches!(source.read().unwrap(), [Some(_), None]));
        source.replace(7, Some(lo.index));
        assert!(matches!(source.read().unwrap(), [Some(_), None]));
    }

    #[test]
    fn only_hardware_and_what_stands_on_it_has_a_speed() {
        let lo = interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.is_loopback)
            .unwrap();
        assert_eq!(link_bps(&lo), None);
        let veth = Interface {
            kind: Some("veth".to_owned()),
            ..lo
        };
        assert_eq!(link_bps(&veth), None);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_an_error_once_and_fits_the_next_time() {
        let lo = interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.is_loopback)
            .unwrap();
        let mut source = CounterSource::open(&[lo.index]).unwrap();
        source.netlink.shrink_answer(64);
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
        assert!(source.netlink.has_nothing_to_read());
    }

    /// A link message as the kernel writes it, with some attributes.
    fn link_message() -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.header.flags = LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp;
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
        assert!(tunnel.up && tunnel.running && tunnel.carrier);
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
