//! A netlink socket to the kernel and room for its answers: what [`nic`](super::nic) and [`sockets`](super::sockets) ask
//! their questions through.
//!
//! Any thread; answers are about the network namespace of the thread that opened the socket. Waiting is bounded twice:
//! each datagram by the socket's time-out, a whole dump by a deadline. No privilege is needed. This file must never send
//! anything that changes the kernel, and never understand more of an answer than where its messages begin and end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::clock;

/// Where an answer is put: the kernel fills a dump's datagrams up to 32 KiB when it is given as much room.
const ANSWER_BYTES: usize = 32 * 1024;

/// How long the kernel may take for one datagram. It answers within the call unless the tables are locked by a slow
/// driver; a detector that waits longer is blind, one that gives up reads again in the next window.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a whole dump may take: a million sockets take half a second, so twice that is a kernel in trouble.
const DUMP_DEADLINE: Duration = Duration::from_secs(1);

/// How often a dump is repeated that changes of the tables cut across, before its last answer is taken as it is.
const DUMP_ATTEMPTS: u32 = 5;

/// Why the kernel's tables of interfaces or sockets could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct NetlinkError {
    /// What was being done.
    pub action: &'static str,
    /// What the system says.
    pub source: io::Error,
}

/// A netlink socket that is connected to the kernel.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    answer: Vec<u8>,
}

impl Netlink {
    /// A socket for questions to `protocol`; none stands for `NETLINK_ROUTE`, whose number is 0.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket(protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        // Port 0 is the kernel.
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            answer: vec![0; ANSWER_BYTES],
        })
    }

    /// Everything of one kind that the kernel has; what `parse` does not understand is left out.
    pub(super) fn dump<M: NetlinkSerializable, T>(
        &mut self,
        request: M,
        answer_type: u16,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut datagram = encode(request, NLM_F_REQUEST | NLM_F_DUMP);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut found = Vec::new();
            let consistent = self.dump_once(&mut datagram, answer_type, |payload| {
                found.extend(parse(payload));
            })?;
            if consistent || attempts >= DUMP_ATTEMPTS {
                return Ok(found);
            }
        }
    }

    /// Sends a dump's request and hands over every answer of `answer_type`. Says whether the table stood still
    /// meanwhile. After an error the rest of the dump is still to come: open another socket.
    pub(super) fn dump_once(
        &mut self,
        datagram: &mut [u8],
        answer_type: u16,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let begun = clock::monotonic();
        let sequence = self.reserve_sequence(1);
        NetlinkBuffer::new(&mut *datagram).set_sequence_number(sequence);
        self.send(datagram)?;
        let (mut consistent, mut done) = (true, false);
        while !done {
            if begun.elapsed() > DUMP_DEADLINE {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            self.receive(|message| {
                if message.sequence_number() != sequence {
                    return Ok(());
                }
                consistent &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => return Err(answer_error(message.payload())),
                    kind if kind == answer_type => each(message.payload()),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(consistent)
    }

    /// The first of `count` numbers by which answers are told from each other and from late ones.
    pub(super) fn reserve_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        retry_on_intr(|| rustix::net::send(&self.socket, datagram, SendFlags::empty()))?;
        Ok(())
    }

    /// Waits for one datagram and hands over the messages in it.
    pub(super) fn receive(
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

    #[cfg(test)]
    pub(super) fn shrink_answer(&mut self, bytes: usize) {
        self.answer.truncate(bytes);
    }

    #[cfg(test)]
    pub(super) fn has_nothing_to_read(&self) -> bool {
        let pending = rustix::net::recv(&self.socket, &mut [0u8; 64][..], RecvFlags::DONTWAIT);
        pending.err() == Some(Errno::AGAIN)
    }
}

/// A socket that the kernel writes to when something it keeps changes. It never blocks.
#[derive(Debug)]
pub(super) struct Subscription(OwnedFd);

impl Subscription {
    /// A subscription to some of `NETLINK_ROUTE`'s groups.
    pub(super) fn open(groups: u32) -> io::Result<Self> {
        let socket = socket(None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Throws away what has come and says whether something had. What did not fit into the socket has come too.
    pub(super) fn drain(&self) -> bool {
        let mut changed = false;
        let mut scrap = [0u8; 64];
        // Bounded, should changes come faster than they are thrown away: the rest is found the next time.
        for _ in 0..1_024 {
            match rustix::net::recv(&self.0, &mut scrap[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS) => changed = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        changed
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn socket(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let family = AddressFamily::NETLINK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?)
}

/// A message as it is sent, its sequence number still 0.
pub(super) fn encode<M: NetlinkSerializable>(message: M, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The error number in an error message; `None` for one that says "no error".
pub(super) fn answer_code(payload: &[u8]) -> Option<Errno> {
    let code = ErrorBuffer::new_checked(payload).ok()?.code()?;
    Some(Errno::from_raw_os_error(code.get().saturating_neg()))
}

pub(super) fn answer_error(payload: &[u8]) -> io::Error {
    answer_code(payload).map_or_else(
        || io::Error::from(io::ErrorKind::InvalidData),
        io::Error::from,
    )
}
