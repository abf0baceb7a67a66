//! Services that answer more than they are asked, and are abused for it.
//!
//! An open table: a new reflector is one row here and, where its answers have a signature, one arm in
//! [`payload`](super::payload). Pure data: nothing here looks at a packet. Read on the capture threads.

/// A UDP service known to be abused as a reflector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Service {
    /// Domain name system.
    Dns,
    /// Network time protocol.
    Ntp,
    /// Simple service discovery (UPnP).
    Ssdp,
    /// Memcached.
    Memcached,
    /// Connectionless LDAP.
    Cldap,
    /// Character generator.
    Chargen,
    /// Simple network management.
    Snmp,
    /// Web services dynamic discovery.
    Wsd,
    /// Multicast DNS.
    Mdns,
    /// Internet key exchange, with and without NAT traversal.
    Isakmp,
    /// Building automation.
    Bacnet,
    /// DHDiscover of video recorders.
    Dvr,
    /// Quote of the day.
    Qotd,
    /// Routing information protocol.
    Rip,
    /// ONC RPC port mapper.
    Portmap,
    /// NetBIOS name service.
    Netbios,
    /// Trivial file transfer.
    Tftp,
    /// Constrained application protocol.
    Coap,
    /// Source engine and Steam queries.
    Steam,
    /// Quake engine queries.
    Quake,
    /// OpenVPN.
    Openvpn,
    /// Apple remote management.
    Arms,
    /// Plex media server discovery.
    Plex,
    /// Layer 2 tunnelling.
    L2tp,
    /// Session traversal utilities for NAT.
    Stun,
    /// Session initiation.
    Sip,
    /// DTLS.
    Dtls,
    /// Ubiquiti discovery.
    Ubnt,
    /// Jenkins auto-discovery.
    Jenkins,
    /// Mitel TP-240 test driver.
    Tp240,
}

/// What the table says about one service.
struct Row {
    service: Service,
    name: &'static str,
    amplification_name: &'static str,
    ports: &'static [u16],
    /// Whether the port alone, without a payload we recognise, makes a datagram an answer. Not where ordinary clients
    /// hold long two-way conversations with that port (VPNs, games, telephony, QUIC's 443): there only the payload does.
    port_alone: bool,
    /// Whether both ends commonly use the service's port, so that the port does not say who answers.
    symmetric: bool,
}

/// How far a port on its own may be trusted to say "this is an answer".
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    /// Only servers send from it.
    Server,
    /// Servers send from it, and so do clients and peers.
    Shared,
    /// Long conversations run over it: it says nothing.
    Conversation,
    /// Both: long conversations between two ends that use the same port.
    SharedConversation,
}

/// One row; the two names can then never differ in spelling.
macro_rules! row {
    ($service:ident, $name:literal, $ports:expr, $port:ident) => {
        Row {
            service: Service::$service,
            name: $name,
            amplification_name: concat!($name, "_amplification"),
            ports: &$ports,
            port_alone: matches!(Port::$port, Port::Server | Port::Shared),
            symmetric: matches!(Port::$port, Port::Shared | Port::SharedConversation),
        }
    };
}

/// The services in the order of [`Service`]. Ports are IANA's or, where a product chose its own, the one it answers from.
const TABLE: [Row; Service::COUNT] = [
    row!(Dns, "dns", [53], Server),
    row!(Ntp, "ntp", [123], Shared),
    row!(Ssdp, "ssdp", [1900], Server),
    row!(Memcached, "memcached", [11211], Server),
    row!(Cldap, "cldap", [389], Server),
    row!(Chargen, "chargen", [19], Server),
    row!(Snmp, "snmp", [161], Server),
    row!(Wsd, "wsd", [3702], Server),
    // Every mDNS speaker sends its queries from 5353 too.
    row!(Mdns, "mdns", [5353], Shared),
    // 4500 carries the VPN's own packets as well.
    row!(Isakmp, "isakmp", [500, 4500], SharedConversation),
    // BACnet/IP devices use one socket for everything.
    row!(Bacnet, "bacnet", [47808], Shared),
    row!(Dvr, "dvr", [37810], Server),
    row!(Qotd, "qotd", [17], Server),
    row!(Rip, "rip", [520], Shared),
    row!(Portmap, "portmap", [111], Server),
    // Windows asks from 137.
    row!(Netbios, "netbios", [137], Shared),
    row!(Tftp, "tftp", [69], Server),
    row!(Coap, "coap", [5683], Server),
    // Players talk to 27015 and the ports beside it for hours.
    row!(
        Steam,
        "steam",
        [27015, 27016, 27017, 27018, 27019, 27020],
        Conversation
    ),
    // QuakeWorld, Quake, Quake II and Quake III, in the order of their ports.
    row!(Quake, "quake", [26000, 27500, 27910, 27960], Conversation),
    row!(Openvpn, "openvpn", [1194], SharedConversation),
    row!(Arms, "arms", [3283], Server),
    row!(Plex, "plex", [32410, 32412, 32413, 32414], Server),
    row!(L2tp, "l2tp", [1701], SharedConversation),
    // Relays send media from 3478.
    row!(Stun, "stun", [3478], Conversation),
    row!(Sip, "sip", [5060], SharedConversation),
    // 443 is QUIC's too; 3391 is the remote desktop gateway's.
    row!(Dtls, "dtls", [443, 3391], Conversation),
    row!(Ubnt, "ubnt", [10001], Server),
    row!(Jenkins, "jenkins", [33848], Server),
    row!(Tp240, "tp240", [10074], Server),
];

/// Slots of [`BY_PORT`]: five times as many as there are ports, so that a look-up nearly always ends where it begins.
/// A power of two, 1 KiB in all: a table of 65,536 entries would push the counters out of the cache in a flood of
/// random ports.
const SLOTS: usize = 256;

/// One slot; an empty one has no service.
#[derive(Clone, Copy)]
struct Slot {
    port: u16,
    service: Option<Service>,
}

/// The services by port: open addressing with linear probing, filled when the program is compiled.
static BY_PORT: [Slot; SLOTS] = by_port();

/// Where to begin to look for a port. Spreads neighbouring ports by Fibonacci hashing (65,536 divided by the golden
/// ratio) and keeps the upper eight bits.
const fn slot_of(port: u16) -> usize {
    (port.wrapping_mul(40_503) >> 8) as usize
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
const fn by_port() -> [Slot; SLOTS] {
    let mut slots = [Slot {
        port: 0,
        service: None,
    }; SLOTS];
    let mut row = 0;
    while row < TABLE.len() {
        let mut nth = 0;
        while nth < TABLE[row].ports.len() {
            let port = TABLE[row].ports[nth];
            let mut slot = slot_of(port);
            while slots[slot].service.is_some() {
                assert!(slots[slot].port != port, "a port belongs to one service");
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = Slot {
                port,
                service: Some(TABLE[row].service),
            };
            nth += 1;
        }
        row += 1;
    }
    slots
}

impl Service {
    /// How many services there are.
    pub const COUNT: usize = 30;

    /// Every service, in order.
    #[expect(
        clippy::indexing_slicing,
        reason = "evaluated by the compiler, which refuses an index out of bounds"
    )]
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Dns; Self::COUNT];
        let mut nth = 0;
        while nth < Self::COUNT {
            assert!(
                TABLE[nth].service as usize == nth,
                "the table is in the order of the enum"
            );
            all[nth] = TABLE[nth].service;
            nth += 1;
        }
        all
    };

    /// The name used in output: `dns`, `ntp`, `ssdp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The subtype of a flood of its answers: `dns_amplification`.
    #[must_use]
    pub const fn amplification_name(self) -> &'static str {
        self.row().amplification_name
    }

    /// The UDP ports it answers from.
    #[must_use]
    pub const fn ports(self) -> &'static [u16] {
        self.row().ports
    }

    /// The service that answers from this UDP port.
    #[inline]
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "the slot is eight bits wide, and the table has as many"
    )]
    pub const fn on_port(port: u16) -> Option<Self> {
        let mut slot = slot_of(port);
        loop {
            let found = BY_PORT[slot];
            if found.port == port || found.service.is_none() {
                return found.service;
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Whether its port alone makes a datagram an answer when the payload says nothing. Not where clients hold long
    /// two-way conversations with that port.
    #[inline]
    #[must_use]
    pub const fn port_alone(self) -> bool {
        self.row().port_alone
    }

    /// Whether clients and peers commonly send from the service's own port too, so that a datagram between two such
    /// ports may be either.
    #[inline]
    #[must_use]
    pub const fn symmetric(self) -> bool {
        self.row().symmetric
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the table has one row per service")]
    const fn row(self) -> &'static Row {
        const ROWS: &[Row; Service::COUNT] = &TABLE;
        &ROWS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_the_table_finds_its_service_and_no_other_port_finds_any() {
        let mut listed = 0;
        for port in 0..=u16::MAX {
            let expected = Service::ALL
                .into_iter()
                .find(|service| service.ports().contains(&port));
            assert_eq!(Service::on_port(port), expected, "port {port}");
            listed += usize::from(expected.is_some());
        }
        let in_table: usize = Service::ALL
            .iter()
            .map(|service| service.ports().len())
            .sum();
        assert_eq!(listed, in_table);
    }

    #[test]
    fn a_look_up_takes_at_most_a_few_steps_for_any_port() {
        let longest = (0..SLOTS)
            .map(|start| {
                (0..SLOTS)
                    .take_while(|step| BY_PORT[(start + step) % SLOTS].service.is_some())
                    .count()
            })
            .max();
        assert!(
            longest.unwrap() <= 8,
            "{longest:?} slots in a row are taken"
        );
    }

    #[test]
    fn names_are_unique_and_the_amplification_name_follows_from_them() {
        let mut names: Vec<_> = Service::ALL.iter().map(|service| service.name()).collect();
        for service in Service::ALL {
            assert_eq!(
                service.amplification_name(),
                format!("{}_amplification", service.name())
            );
            assert!(!service.ports().is_empty());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Service::COUNT);
    }

    #[test]
    fn the_ports_whose_direction_only_the_payload_tells_are_symmetric() {
        for port in [123, 500, 4500, 5060, 1194, 1701, 520] {
            assert!(Service::on_port(port).unwrap().symmetric(), "port {port}");
        }
    }
}
