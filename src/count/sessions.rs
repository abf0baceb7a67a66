//! TCP sessions by the port they come to.
//!
//! A SYN flood and a flood of complete connections look alike by rate. What tells them apart is whether the tuples that
//! began went on: this table follows a sample of inbound handshakes and says, per port, how many did. Pure; one
//! tracker per meter, on its capture thread. It uses inbound packets only, so a peer that sends its third packet blindly
//! passes for complete here.

use super::Count;
use crate::classify::{Content, HttpMethod, Sample, TrafficClass, tcp_flag};
use crate::clock::Timestamp;

/// Ports tracked at once. A host serves a handful; a connection flood over all ports fills the table once and the
/// rest of it stays in the plain TCP classes.
pub(super) const PORTS: usize = 64;

/// Tuples followed at once, on one worker.
const TUPLES: usize = 16_384;

/// Slots looked at for one tuple before the oldest of them gives way.
const WAYS: usize = 4;

/// A tuple that did nothing for so long is forgotten: an overloaded server keeps its clients waiting for minutes, and the
/// table evicts the oldest by itself when it needs room.
const FORGET_NANOS: u64 = 120 * Timestamp::NANOS_PER_SECOND;

/// A port without a completed handshake or a request for so long gives its place to another.
const PORT_IDLE_NANOS: u64 = 60 * Timestamp::NANOS_PER_SECOND;

/// New tuples to follow in a window before the sample is halved, and below which it is doubled again. A ratio from a
/// thousand tuples stands within 5 points at three sigma, and following them costs the flood's thread next to nothing.
const NEW_TUPLES_HIGH: u32 = 1_024;
const NEW_TUPLES_LOW: u32 = 128;

/// What the sessions to one port did in a window. Tuples are those of the sample; packets are all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSessions {
    /// The port.
    pub port: u16,
    /// Tuples that began with a SYN.
    pub opened: u64,
    /// Tuples that went on as a completed handshake does.
    pub completed: u64,
    /// Tuples that sent their SYN again, as a real stack does that gets no answer and a flood does not.
    pub waiting: u64,
    /// Packets other than SYN whose tuple falls into the sample.
    pub followed: u64,
    /// Of these, packets of tuples that had completed.
    pub in_session: u64,
    /// All inbound TCP packets to the port, by class; zero outside TCP.
    pub classes: [Count; TrafficClass::COUNT],
    /// HTTP requests that read.
    pub http_gets: u64,
    /// HTTP requests that send.
    pub http_posts: u64,
    /// Other HTTP requests.
    pub http_others: u64,
    /// TLS client hellos.
    pub tls_hellos: u64,
}

impl PortSessions {
    /// HTTP requests that could be read.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.http_gets + self.http_posts + self.http_others
    }

    fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.completed += other.completed;
        self.waiting += other.waiting;
        self.followed += other.followed;
        self.in_session += other.in_session;
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.merge(*theirs);
        }
        self.http_gets += other.http_gets;
        self.http_posts += other.http_posts;
        self.http_others += other.http_others;
        self.tls_hellos += other.tls_hellos;
    }

    fn count(&mut self, sample: &Sample, wire: Count) {
        if let Some(class) = self.classes.get_mut(sample.class as usize) {
            class.merge(wire);
        }
        match sample.content {
            Content::HttpRequest(HttpMethod::Get) => self.http_gets += 1,
            Content::HttpRequest(HttpMethod::Post) => self.http_posts += 1,
            Content::HttpRequest(HttpMethod::Other) => self.http_others += 1,
            Content::TlsClientHello => self.tls_hellos += 1,
            _ => {}
        }
    }
}

/// Ports that one worker may see sessions on in one window: those it knew when the window began, and those that took
/// their places.
const TALLIED_PORTS: usize = 2 * PORTS;

/// The sessions of some stretch of time, by port, lowest port first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTally {
    ports: Vec<PortSessions>,
}

impl SessionTally {
    /// An empty tally with room for what one worker sees.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ports: Vec::with_capacity(TALLIED_PORTS),
        }
    }

    /// The ports that have sessions, lowest first; at most 64 for each worker.
    #[must_use]
    pub fn ports(&self) -> &[PortSessions] {
        &self.ports
    }

    /// Adds another tally to this one.
    pub fn merge(&mut self, other: &Self) {
        for theirs in &other.ports {
            if let Some(mine) = self.port(theirs.port) {
                mine.merge(theirs);
            }
        }
    }

    /// Empties it without giving memory back.
    pub fn clear(&mut self) {
        self.ports.clear();
    }

    /// The entry of a port, made if there is none.
    fn port(&mut self, port: u16) -> Option<&mut PortSessions> {
        let at = match self.ports.binary_search_by_key(&port, |entry| entry.port) {
            Ok(at) => at,
            Err(at) => {
                self.ports.insert(
                    at,
                    PortSessions {
                        port,
                        ..PortSessions::default()
                    },
                );
                at
            }
        };
        self.ports.get_mut(at)
    }
}

impl Default for SessionTally {
    fn default() -> Self {
        Self::new()
    }
}

/// One four-tuple that began with a SYN.
#[derive(Clone, Copy, Debug, Default)]
struct Tuple {
    /// Keyed hash of the tuple; 0 when the slot is free.
    hash: u64,
    last_seen_nanos: u64,
    initial_sequence: u32,
    completed: bool,
    waiting: bool,
}

impl Tuple {
    const fn begun(hash: u64, sample: &Sample) -> Self {
        Self {
            hash,
            last_seen_nanos: sample.at.as_nanos(),
            initial_sequence: sample.sequence,
            completed: false,
            waiting: false,
        }
    }
}

/// One port that showed sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Port {
    number: u16,
    last_active_nanos: u64,
}

/// Follows a sample of inbound handshakes.
#[derive(Clone, Debug)]
pub(super) struct SessionTracker {
    tuples: Box<[Tuple]>,
    /// Tuples whose hash is below it are followed: the sample.
    bound: u64,
    new_tuples: u32,
    ports: Vec<Port>,
    /// For each port, whether it is in `ports`.
    known: Box<[bool]>,
}

impl SessionTracker {
    pub(super) fn new() -> Self {
        Self {
            tuples: vec![Tuple::default(); TUPLES].into_boxed_slice(),
            bound: u64::MAX,
            new_tuples: 0,
            ports: Vec::with_capacity(PORTS),
            known: vec![false; 65_536].into_boxed_slice(),
        }
    }

    /// Takes an inbound TCP packet into account. `hash` is the keyed hash of its five-tuple.
    #[inline]
    pub(super) fn follow(
        &mut self,
        sample: &Sample,
        hash: u64,
        wire: Count,
        tally: &mut SessionTally,
    ) {
        let port = sample.destination_port;
        let progress = if hash < self.bound {
            self.progress(sample, hash | 1)
        } else {
            Progress::Unsampled
        };
        let mut known = self.known.get(usize::from(port)).copied().unwrap_or(false);
        let speaks = matches!(
            sample.content,
            Content::HttpRequest(_) | Content::TlsClientHello
        );
        if progress == Progress::Completed || speaks {
            known = self.admit(port, sample.at);
        }
        if !known {
            return;
        }
        if let Some(entry) = tally.port(port) {
            entry.count(sample, wire);
            match progress {
                Progress::Unsampled => {}
                Progress::Opened => entry.opened += 1,
                Progress::Repeats => entry.waiting += 1,
                Progress::Repeated => {}
                Progress::Completed => {
                    entry.completed += 1;
                    // The port may have become known only now: what completed has also begun.
                    entry.opened = entry.opened.max(entry.completed);
                    entry.followed += 1;
                    entry.in_session += 1;
                }
                Progress::InSession => {
                    entry.followed += 1;
                    entry.in_session += 1;
                }
                Progress::Stray => entry.followed += 1,
            }
        }
    }

    /// Adapts the sample; called when a window closes.
    pub(super) fn close_window(&mut self) {
        if self.new_tuples > NEW_TUPLES_HIGH {
            self.bound >>= (self.new_tuples / NEW_TUPLES_HIGH).ilog2() + 1;
            self.bound = self.bound.max(u64::MAX >> 32);
        } else if self.new_tuples < NEW_TUPLES_LOW {
            self.bound = self.bound.saturating_mul(2) | 1;
        }
        self.new_tuples = 0;
    }

    /// What this packet means for its tuple.
    fn progress(&mut self, sample: &Sample, hash: u64) -> Progress {
        let now = sample.at.as_nanos();
        let begins = sample.class == TrafficClass::Syn;
        let at = slot_of(hash);
        let Some(ways) = self.tuples.get_mut(at..at + WAYS) else {
            return Progress::Unsampled;
        };
        if let Some(tuple) = ways.iter_mut().find(|tuple| {
            tuple.hash == hash && now.saturating_sub(tuple.last_seen_nanos) < FORGET_NANOS
        }) {
            tuple.last_seen_nanos = now;
            if begins {
                if tuple.initial_sequence != sample.sequence {
                    *tuple = Tuple::begun(hash, sample);
                    self.new_tuples += 1;
                    return Progress::Opened;
                }
                let again = std::mem::replace(&mut tuple.waiting, true) || tuple.completed;
                return if again {
                    Progress::Repeated
                } else {
                    Progress::Repeats
                };
            }
            if tuple.completed {
                return Progress::InSession;
            }
            // The third packet carries on where the SYN began; what a flood draws at random does not.
            let advance = sample.sequence.wrapping_sub(tuple.initial_sequence);
            let proceeds = sample.flags & tcp_flag::ACK != 0 && sample.flags & tcp_flag::RST == 0;
            if proceeds && (1..=u32::from(u16::MAX)).contains(&advance) {
                tuple.completed = true;
                return Progress::Completed;
            }
            return Progress::Stray;
        }
        if !begins {
            return Progress::Stray;
        }
        if let Some(oldest) = ways.iter_mut().min_by_key(|tuple| tuple.last_seen_nanos) {
            *oldest = Tuple::begun(hash, sample);
        }
        self.new_tuples += 1;
        Progress::Opened
    }

    /// Makes a port known, if there is room. Says whether it is.
    fn admit(&mut self, port: u16, at: Timestamp) -> bool {
        let now = at.as_nanos();
        if let Some(entry) = self.ports.iter_mut().find(|entry| entry.number == port) {
            entry.last_active_nanos = now;
            return true;
        }
        let fresh = Port {
            number: port,
            last_active_nanos: now,
        };
        if self.ports.len() < PORTS {
            self.ports.push(fresh);
        } else {
            let Some(idlest) = self
                .ports
                .iter_mut()
                .min_by_key(|entry| entry.last_active_nanos)
            else {
                return false;
            };
            if now.saturating_sub(idlest.last_active_nanos) < PORT_IDLE_NANOS {
                return false;
            }
            if let Some(known) = self.known.get_mut(usize::from(idlest.number)) {
                *known = false;
            }
            *idlest = fresh;
        }
        if let Some(known) = self.known.get_mut(usize::from(port)) {
            *known = true;
        }
        true
    }
}

/// What a packet means for its tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unsampled,
    Opened,
    Repeats,
    Repeated,
    Completed,
    InSession,
    Stray,
}

/// Where the ways of a hash begin. Its high bits choose the sample, so its low bits choose the place.
const fn slot_of(hash: u64) -> usize {
    ((hash >> 1) % (TUPLES - WAYS) as u64) as usize
}
