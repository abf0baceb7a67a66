//! How many TCP connections this host has, by the kernel's socket diagnostics.
//!
//! Established sockets are counted, IPv4 and IPv6 each in one dump that the kernel filters by state, so that nothing is
//! copied but what is counted; a connection between two sockets of this host counts twice, as `ss` shows it. No answer is
//! taken apart: each message is one socket. Answers are about the network namespace of the thread that asks. No
//! privilege is needed. On the agent's housekeeping thread, about once a second; never on a thread that packets wait for.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SOCK_DIAG_BY_FAMILY, SockDiagMessage};
use rustix::net::netlink::SOCK_DIAG;

use super::netlink::{Netlink, NetlinkError, encode};

/// Counts established TCP sockets, over and over.
#[derive(Debug)]
pub struct ConnectionCounter {
    /// None after an error: the rest of its dump would be taken for the next one's.
    netlink: Option<Netlink>,
    requests: [Vec<u8>; 2],
}

impl ConnectionCounter {
    /// A counter; the kernel is asked when it is.
    #[must_use]
    pub fn new() -> Self {
        Self {
            netlink: None,
            requests: [
                request(AF_INET, SocketId::new_v4()),
                request(AF_INET6, SocketId::new_v6()),
            ],
        }
    }

    /// Established TCP sockets of this host now, IPv4 and IPv6 together. A dual-stack socket counts once.
    ///
    /// # Errors
    ///
    /// When the kernel has no socket diagnostics, a sandbox forbids them, or the answer takes too long. The next call
    /// may well succeed.
    pub fn established(&mut self) -> Result<u32, NetlinkError> {
        let mut netlink = match self.netlink.take() {
            Some(netlink) => netlink,
            None => Netlink::open(Some(SOCK_DIAG)).map_err(|source| NetlinkError {
                action: "open a socket for socket diagnostics",
                source,
            })?,
        };
        let mut sockets = 0u32;
        for request in &mut self.requests {
            netlink
                .dump_once(request, SOCK_DIAG_BY_FAMILY, |_| {
                    sockets = sockets.saturating_add(1);
                })
                .map_err(|source| NetlinkError {
                    action: "count the TCP connections",
                    source,
                })?;
        }
        self.netlink = Some(netlink);
        Ok(sockets)
    }
}

impl Default for ConnectionCounter {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks for all established TCP sockets of an address family.
fn request(family: u8, socket_id: SocketId) -> Vec<u8> {
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED,
        socket_id,
    });
    encode(request, NLM_F_REQUEST | NLM_F_DUMP)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::clock;

    /// Both ends of so many connections over loopback.
    fn connect(address: &str, count: u32) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (0..count)
            .map(|_| {
                let ours = TcpStream::connect(address).unwrap();
                (ours, listener.accept().unwrap().0)
            })
            .collect()
    }

    /// Other programs of this host come and go, so a difference is right when it was seen once.
    fn is_seen(what: &str, mut difference: impl FnMut(&mut ConnectionCounter) -> (i64, i64)) {
        let mut counter = ConnectionCounter::new();
        let mut seen = Vec::new();
        for _ in 0..100 {
            let (found, expected) = difference(&mut counter);
            if found == expected {
                return;
            }
            seen.push(found);
        }
        panic!("{what}: never the difference expected, but {seen:?}");
    }

    #[test]
    fn both_ends_of_each_connection_count_while_it_is_established() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if address.starts_with('[') && TcpListener::bind(address).is_err() {
                continue;
            }
            is_seen(address, |counter| {
                let before = counter.established().unwrap();
                let connections = connect(address, 60);
                let with = counter.established().unwrap();
                drop(connections);
                (i64::from(with) - i64::from(before), 120)
            });
        }
    }

    #[test]
    fn what_listens_or_is_closing_does_not_count() {
        is_seen("closing", |counter| {
            let connections = connect("127.0.0.1:0", 40);
            let before = counter.established().unwrap();
            let listeners: Vec<_> = (0..40)
                .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
                .collect();
            // One end has closed: neither is established any more.
            let halves: Vec<_> = connections.into_iter().map(|(_, other)| other).collect();
            let after = counter.established().unwrap();
            drop((listeners, halves));
            (i64::from(after) - i64::from(before), -80)
        });
    }

    #[test]
    fn after_an_answer_that_failed_the_next_one_is_right() {
        let mut counter = ConnectionCounter::new();
        let _connections = connect("127.0.0.1:0", 100);
        assert!(counter.established().unwrap() >= 200);
        if let Some(netlink) = &mut counter.netlink {
            netlink.shrink_answer(64);
        }
        let error = counter.established().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot count the TCP connections: "),
            "{error}"
        );
        assert!(counter.established().unwrap() >= 200);
    }

    #[test]
    #[ignore = "opens nearly 20,000 sockets; prints what counting them costs"]
    fn what_counting_costs() {
        let mut counter = ConnectionCounter::new();
        for count in [0, 500, 5_000, 9_900] {
            let connections = connect("127.0.0.1:0", count);
            let mut times: Vec<_> = (0..21)
                .map(|_| {
                    let begun = clock::monotonic();
                    assert!(counter.established().unwrap() >= 2 * count);
                    begun.elapsed()
                })
                .collect();
            times.sort_unstable();
            println!(
                "{} sockets: median {:?}, slowest {:?}",
                2 * count,
                times[10],
                times[20]
            );
            drop(connections);
        }
    }
}
