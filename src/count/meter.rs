//! Cuts time into windows and fills them.
//!
//! One meter per capture worker. Its caller compares each frame's time with [`Meter::closes_at`], closes the window
//! when that is reached, and hands over every sample. Nothing here allocates after [`Meter::new`], and an older packet
//! than the open window is counted in it and tallied as late: time never runs backwards. Pure.

use super::fragments::FragmentTable;
use super::hash::Seeded;
use super::sessions::SessionTracker;
use super::{Count, LENGTH_BOUNDS, Tally, Window, WindowIndex};
use crate::classify::{
    Content, Direction, Fragment, HttpMethod, Sample, TrafficClass, Undecodable,
};
use crate::clock::Timestamp;

/// How a meter measures.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest IP packet the link carries, in bytes. A frame with more payload was merged from several by receive
    /// offload and counts as those. 1,500 is Ethernet's; a file does not say.
    pub mtu_bytes: u32,
    /// Keys the hashes of every table here: random in the live agent, so that nobody can choose addresses that collide,
    /// fixed in replay, so that the same file always gives the same bytes.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mtu_bytes: 1_500,
            seed: 0x5eed_f1d0_0d5e_ed00,
        }
    }
}

/// Flows whose segment size is remembered, to take merged frames apart by.
const SEGMENT_SIZES: usize = 1_024;

/// Fills windows with samples.
#[derive(Debug)]
pub struct Meter {
    settings: Settings,
    hash: Seeded,
    window: Box<Window>,
    closes_at: Timestamp,
    inbound_fragments: FragmentTable,
    outbound_fragments: FragmentTable,
    sessions: SessionTracker,
    segments: Box<[Segment]>,
}

/// The largest unmerged payload seen in a flow.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    flow: u64,
    bytes: u32,
}

impl Meter {
    /// A meter whose first window is `window`.
    #[must_use]
    pub fn new(settings: Settings, window: WindowIndex) -> Self {
        Self {
            hash: Seeded::new(settings.seed),
            window: Box::new(Window::new(window, settings.seed)),
            closes_at: window.end(),
            inbound_fragments: FragmentTable::new(settings.seed),
            outbound_fragments: FragmentTable::new(settings.seed),
            sessions: SessionTracker::new(),
            segments: vec![Segment::default(); SEGMENT_SIZES].into_boxed_slice(),
            settings,
        }
    }

    /// The link carries packets of another size from now on.
    pub const fn set_mtu_bytes(&mut self, mtu_bytes: u32) {
        self.settings.mtu_bytes = mtu_bytes;
    }

    /// The first instant after the open window. A frame from then on belongs to a later one: close first.
    #[inline]
    #[must_use]
    pub const fn closes_at(&self) -> Timestamp {
        self.closes_at
    }

    /// The window that is open.
    #[must_use]
    pub const fn open(&self) -> WindowIndex {
        self.window.index
    }

    /// Closes the open window and opens `next`, filling `spare` from now on.
    #[must_use]
    pub fn close(&mut self, next: WindowIndex, mut spare: Box<Window>) -> Box<Window> {
        spare.reset(next);
        self.window.inbound_ends.settle();
        self.window.outbound_ends.settle();
        self.sessions.close_window();
        self.closes_at = next.end();
        std::mem::replace(&mut self.window, spare)
    }

    /// Goes on to `next` with the window that is open, because there is no spare one. What comes now is counted with
    /// what came before, late but not lost.
    pub fn stretch(&mut self, next: WindowIndex) {
        let counted = self.window.inbound.frames.packets;
        self.window.loss.delayed = self.window.loss.delayed.max(counted);
        self.sessions.close_window();
        self.window.index = next;
        self.closes_at = next.end();
    }

    /// What the open window holds so far, for facts that come from elsewhere than the packets.
    pub fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Tallies a frame that could not be taken apart at all.
    pub fn refuse(&mut self, at: Timestamp, reason: Undecodable) {
        self.note_late(at);
        self.flaw(reason);
    }

    /// Counts one packet.
    #[inline]
    pub fn count(&mut self, sample: &Sample) {
        self.note_late(sample.at);
        if let Some(reason) = sample.flaw {
            self.flaw(reason);
        }
        match sample.direction {
            Direction::Inbound => self.count_inbound(sample),
            Direction::Outbound => {
                let flow = self.hash.flow_hash(sample);
                let wire = self.wire(sample, flow);
                tally(&mut self.window.outbound, sample, wire);
                self.window.outbound_ends.count(sample, flow, packets(wire));
                if sample.fragment != Fragment::Whole {
                    self.outbound_fragments.count(
                        sample,
                        wire,
                        &mut self.window.outbound.fragments,
                    );
                }
            }
            Direction::Foreign => self.window.foreign += 1,
        }
    }

    #[inline]
    fn count_inbound(&mut self, sample: &Sample) {
        let flow = self.hash.flow_hash(sample);
        let wire = self.wire(sample, flow);
        if self.window.first_inbound_at.is_none() {
            self.window.first_inbound_at = Some(sample.at);
        }
        tally(&mut self.window.inbound, sample, wire);
        self.window.inbound_ends.count(sample, flow, packets(wire));
        if sample.class.is_tcp() {
            self.sessions
                .follow(sample, flow, wire, &mut self.window.sessions);
        }
        if sample.fragment != Fragment::Whole {
            self.inbound_fragments
                .count(sample, wire, &mut self.window.inbound.fragments);
        }
    }

    /// The packets a frame was on the wire, and their bits: more than one when receive offload merged them.
    #[inline]
    fn wire(&mut self, sample: &Sample, flow: u64) -> Count {
        let bits = u64::from(sample.wire_bytes) * 8;
        if sample.payload_bytes == 0 || !(sample.class.is_tcp() || sample.class.is_udp()) {
            return Count { packets: 1, bits };
        }
        self.unmerged(sample, flow, bits)
    }

    fn unmerged(&mut self, sample: &Sample, flow: u64, bits: u64) -> Count {
        // The remainder is below the table's length, so the conversion and the look-up cannot fail.
        let slot = usize::try_from(flow % SEGMENT_SIZES as u64)
            .ok()
            .and_then(|at| self.segments.get_mut(at));
        let known = slot
            .as_ref()
            .filter(|segment| segment.flow == flow)
            .map_or(0, |segment| segment.bytes);
        let headers = sample.wire_bytes.saturating_sub(sample.payload_bytes);
        if sample.payload_bytes <= self.settings.mtu_bytes {
            if sample.payload_bytes > known
                && let Some(segment) = slot
            {
                *segment = Segment {
                    flow,
                    bytes: sample.payload_bytes,
                };
            }
            return Count { packets: 1, bits };
        }
        let segment = if known > 0 {
            known
        } else {
            self.settings.mtu_bytes.saturating_sub(headers).max(1)
        };
        let packets = u64::from(sample.payload_bytes.div_ceil(segment));
        Count {
            packets,
            bits: bits + (packets - 1) * u64::from(headers) * 8,
        }
    }

    #[inline]
    fn note_late(&mut self, at: Timestamp) {
        self.window.late += u64::from(at < self.window.index.start());
    }

    fn flaw(&mut self, reason: Undecodable) {
        if let Some(count) = self.window.undecodable.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// The packets of a frame, in as many bits as a table's counter has: 64 KiB hold at most some 1,400 of them.
#[inline]
fn packets(wire: Count) -> u32 {
    u32::try_from(wire.packets).unwrap_or(u32::MAX)
}

/// Counts a packet into the tally of its direction.
#[inline]
fn tally(tally: &mut Tally, sample: &Sample, wire: Count) {
    tally.frames.add(1, u64::from(sample.wire_bytes) * 8);
    if let Some(class) = tally.classes.get_mut(sample.class as usize) {
        class.merge(wire);
    }
    if let Some(length) = tally.lengths.get_mut(length_bucket(sample.wire_bytes)) {
        *length += 1;
    }
    if sample.class == TrafficClass::NotIp {
        return;
    }
    tally.protocols.add(sample.protocol, wire.packets);
    tally.ttls.add(sample.ttl, wire.packets);
    // Flags that were cut off are not flags that were not set.
    if sample.class.is_tcp() && sample.flaw != Some(Undecodable::TransportCut) {
        tally.flags.add(sample.flags, wire.packets);
    }
    if let Some(service) = sample.service {
        if let Some(count) = tally.services.get_mut(service as usize) {
            count.merge(wire);
        }
        if sample.content == Content::Answer(service)
            && let Some(signed) = tally.services_signed.get_mut(service as usize)
        {
            *signed += wire.packets;
        }
    }
    match sample.content {
        Content::HttpRequest(HttpMethod::Get) => tally.http_gets += 1,
        Content::HttpRequest(HttpMethod::Post) => tally.http_posts += 1,
        Content::HttpRequest(HttpMethod::Other) => tally.http_others += 1,
        Content::TlsClientHello => tally.tls_hellos += 1,
        _ => {}
    }
    if sample.class == TrafficClass::IcmpError && is_port_unreachable(sample) {
        tally.port_unreachables += 1;
    }
    tally.tunnelled += u64::from(sample.inner.is_some());
}

/// Which of the length buckets a frame belongs to. Counting the bounds below takes no branch and a few wide
/// comparisons; a binary search takes four steps that wait for each other.
#[inline]
fn length_bucket(wire_bytes: u32) -> usize {
    LENGTH_BOUNDS
        .iter()
        .map(|bound| u8::from(*bound < wire_bytes))
        .sum::<u8>()
        .into()
}

/// ICMP type 3 code 3 (RFC 792) or ICMPv6 type 1 code 4 (RFC 4443).
const fn is_port_unreachable(sample: &Sample) -> bool {
    matches!(
        (sample.protocol, sample.destination_port),
        (1, 0x0303) | (58, 0x0104)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn start() -> WindowIndex {
        WindowIndex::of(Timestamp::from_seconds(1_000))
    }

    fn data(at: Timestamp, payload_bytes: u32) -> Sample {
        Sample {
            at,
            direction: Direction::Inbound,
            class: TrafficClass::TcpData,
            service: None,
            content: Content::Unrecognised,
            source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            source_port: 40_000,
            destination_port: 80,
            protocol: 6,
            ttl: 64,
            flags: 0x18,
            sequence: 1,
            acknowledgement: 1,
            fragment: Fragment::Whole,
            wire_bytes: payload_bytes + 54,
            payload_bytes,
            inner: None,
            flaw: None,
        }
    }

    #[test]
    fn a_stretched_window_loses_nothing_and_says_what_is_late() {
        let mut meter = Meter::new(Settings::default(), start());
        meter.count(&data(start().start(), 10));
        meter.stretch(start().next());
        assert_eq!(meter.closes_at(), start().next().end());
        meter.count(&data(start().next().start(), 10));
        meter.count(&data(start().start(), 10));
        meter.stretch(start().next().next());
        meter.count(&data(start().next().next().start(), 10));
        let spare = Box::new(Window::new(start(), Settings::default().seed));
        let window = meter.close(start().next().next().next(), spare);
        assert_eq!(window.index, start().next().next());
        assert_eq!(window.inbound.frames.packets, 4);
        assert_eq!(
            window.loss.delayed, 3,
            "all but the last belong to earlier windows"
        );
        assert_eq!(window.late, 1);
        assert_eq!(window.first_inbound_at, Some(start().start()));
    }

    #[test]
    fn merged_frames_count_as_the_packets_they_were() {
        let mut meter = Meter::new(Settings::default(), start());
        meter.count(&data(start().start(), 14_460));
        let wire = meter.window_mut().inbound.wire();
        assert_eq!(wire.packets, 10, "1,446 bytes fit beside the headers");
        assert_eq!(wire.bits, (14_460 + 10 * 54) * 8);
        meter.count(&data(start().start(), 1_000));
        meter.count(&data(start().start(), 5_000));
        assert_eq!(meter.window_mut().inbound.wire().packets, 16);
        assert_eq!(meter.window_mut().inbound.frames.packets, 3);
    }
}
