//! Services that answer more than they are asked, and are abused for it.
//!
//! An open table: a new reflector is one row here and, where its answers have a signature, one arm in
//! [`payload`](super::payload).

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
    ports: &'static [u16],
    /// Whether the port alone, without a payload we recognise, makes a datagram an answer. Not where ordinary clients
    /// hold long two-way conversations with that port (VPNs, media relays, QUIC's 443): there only the payload does.
    port_alone: bool,
}

impl Service {
    /// How many services there are.
    pub const COUNT: usize = 30;
}
