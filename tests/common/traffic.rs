//! Traffic made up packet by packet, on a clock that only the test moves.
//!
//! A [`Scene`] is some floods with their rates and times. Playing it builds every frame, classifies and counts it as
//! the agent does, and steps the engine window by window. The same scene always plays the same.

use ftagent::capture::counter::NicReading;
use ftagent::capture::{Frame, LinkType};
use ftagent::classify::{self, Classifier, Vantage};
use ftagent::clock::Timestamp;
use ftagent::count::{self, Meter, TrafficSecond, WINDOW_NANOS, Window, WindowIndex};
use ftagent::detect::limits::{SetBy, SetLimit};
use ftagent::engine::{self, Engine};
use ftagent::incident::{Change, Event, Incident, Report};

/// The protected host, an address for documentation (RFC 5737).
const HOST: [u8; 4] = [192, 0, 2, 1];

/// When every scene begins: a round UTC second.
pub(crate) const BEGIN: Timestamp = Timestamp::from_seconds(1_773_567_600);

/// `millis` after the beginning.
pub(crate) fn at(millis: u64) -> Timestamp {
    BEGIN.plus_nanos(millis * 1_000_000)
}

/// Small, seeded, and good enough to scatter packets: SplitMix64 by Steele, Lea and Flood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

fn scatter(value: u64) -> u64 {
    let mixed = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Header bits by their common names.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
    pub(crate) const URG: u8 = 32;
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// One frame, and what differs from packet to packet.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    random_source_port: bool,
    /// How far the TCP sequence number lies behind the sender's first one.
    sequence: Option<u32>,
    outbound: bool,
}

/// What is sent: one packet, or several that belong together and share source, ports, and identification.
#[derive(Clone, Debug)]
pub(crate) struct Packets(Vec<Template>);

impl Packets {
    /// TCP segments to port 80 with these flags.
    pub(crate) fn tcp(flags: u8, payload_bytes: usize) -> Self {
        Self(vec![segment(80, flags, 0, &vec![0xa5; payload_bytes])])
    }

    /// A handshake without the host's part of it, and then `first`, from a new port each time.
    pub(crate) fn session(port: u16, first: &[u8]) -> Self {
        let mut packets = vec![
            segment(port, flag::SYN, 0, &[]),
            segment(port, flag::ACK, 1, &[]),
        ];
        if !first.is_empty() {
            packets.push(segment(port, flag::PSH | flag::ACK, 1, first));
        }
        Self(packets)
    }

    /// Datagrams from `source_port`, or from any.
    pub(crate) fn udp(source_port: Option<u16>, port: u16, payload: &[u8]) -> Self {
        Self(vec![datagram(source_port, port, payload, Place::WHOLE)])
    }

    /// Datagrams of 4 KiB in three pieces.
    pub(crate) fn fragmented_udp(source_port: Option<u16>, payload: &[u8]) -> Self {
        let mut first = payload.to_vec();
        first.resize(1_472, 0xa5);
        Self(vec![
            datagram(source_port, 40_000, &first, Place::first()),
            later(UDP, Place::at(1_480, true), 1_480),
            later(UDP, Place::at(2_960, false), 1_136),
        ])
    }

    /// Middle fragments without their first.
    pub(crate) fn loose_fragments(protocol: u8) -> Self {
        Self(vec![later(protocol, Place::at(1_480, true), 1_480)])
    }

    /// Echo requests that would be longer than any datagram may be.
    pub(crate) fn ping_of_death() -> Self {
        let mut first = vec![8, 0, 0, 0, 0, 1, 0, 1];
        first.resize(1_480, 0xa5);
        Self(vec![
            template(ip(ICMP, Place::first(), &first)),
            later(ICMP, Place::at(1_480, true), 1_480),
            later(ICMP, Place::at(65_120, false), 1_480),
        ])
    }

    /// ICMP messages.
    pub(crate) fn icmp(kind: u8, code: u8) -> Self {
        let mut message = vec![kind, code, 0, 0, 0, 1, 0, 1];
        if kind == 3 {
            // An error quotes the packet that caused it.
            message.extend_from_slice(&ip(UDP, Place::WHOLE, &[0; 8])[14..]);
        } else {
            message.resize(64, 0xa5);
        }
        Self(vec![template(ip(ICMP, Place::WHOLE, &message))])
    }

    /// Packets of another IP protocol.
    pub(crate) fn protocol(number: u8) -> Self {
        Self(vec![template(ip(number, Place::WHOLE, &[0; 400]))])
    }

    /// What the host itself sends.
    pub(crate) fn outbound_syn_ack() -> Self {
        let mut packet = segment(40_000, flag::SYN | flag::ACK, 0, &[]);
        let (from, to) = packet.bytes[26..34].split_at_mut(4);
        from.swap_with_slice(to);
        packet.outbound = true;
        Self(vec![packet])
    }
}

/// A packet's place in its datagram, as the header's flags and offset say it.
#[derive(Clone, Copy)]
struct Place(u16);

impl Place {
    const WHOLE: Self = Self(0);

    fn first() -> Self {
        Self::at(0, true)
    }

    fn at(offset: u16, more: bool) -> Self {
        Self((offset / 8) | (u16::from(more) << 13))
    }
}

fn ip(protocol: u8, place: Place, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    let total = u16::try_from(20 + body.len()).expect("packets fit their length field");
    frame.extend_from_slice(&total.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&place.0.to_be_bytes());
    frame.extend_from_slice(&[57, protocol, 0, 0, 198, 51, 100, 1]);
    frame.extend_from_slice(&HOST);
    frame.extend_from_slice(body);
    frame
}

fn template(bytes: Vec<u8>) -> Template {
    Template {
        bytes,
        random_source_port: false,
        sequence: None,
        outbound: false,
    }
}

fn later(protocol: u8, place: Place, bytes: usize) -> Template {
    template(ip(protocol, place, &vec![0xa5; bytes]))
}

fn segment(port: u16, flags: u8, sequence: u32, payload: &[u8]) -> Template {
    let mut body = vec![0; 20];
    body[2..4].copy_from_slice(&port.to_be_bytes());
    body[12] = 0x50;
    body[13] = flags;
    body[14..16].copy_from_slice(&64_000_u16.to_be_bytes());
    body.extend_from_slice(payload);
    Template {
        random_source_port: true,
        sequence: Some(sequence),
        ..template(ip(TCP, Place::WHOLE, &body))
    }
}

fn datagram(source_port: Option<u16>, port: u16, payload: &[u8], place: Place) -> Template {
    let mut body = source_port.unwrap_or(0).to_be_bytes().to_vec();
    body.extend_from_slice(&port.to_be_bytes());
    let bytes = u16::try_from(8 + payload.len()).expect("datagrams fit their length field");
    body.extend_from_slice(&bytes.to_be_bytes());
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(payload);
    Template {
        random_source_port: source_port.is_none(),
        ..template(ip(UDP, place, &body))
    }
}

/// Packets at a rate, from a set of sources, for a while.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    packets: Packets,
    pps: u64,
    from_nanos: u64,
    until_nanos: u64,
    sources: u64,
    network: u32,
}

impl Flood {
    /// From a million addresses, from the beginning, for ever.
    pub(crate) fn new(packets: Packets, pps: u64) -> Self {
        Self {
            packets,
            pps,
            from_nanos: 0,
            until_nanos: u64::MAX,
            sources: 1 << 20,
            network: u32::from_be_bytes([16, 0, 0, 0]),
        }
    }

    /// Only between these milliseconds.
    pub(crate) fn during(mut self, millis: std::ops::Range<u64>) -> Self {
        self.from_nanos = millis.start * 1_000_000;
        self.until_nanos = millis.end.saturating_mul(1_000_000);
        self
    }

    /// Delayed by some nanoseconds, to begin anywhere inside a window.
    pub(crate) fn delayed(mut self, nanos: u64) -> Self {
        self.from_nanos += nanos;
        self
    }

    /// From so many addresses of this network instead.
    pub(crate) fn from(mut self, sources: u64, network: [u8; 4]) -> Self {
        self.sources = sources;
        self.network = u32::from_be_bytes(network);
        self
    }

    /// When its packet number `n` is due: evenly, each anywhere within its own slot.
    fn due(&self, n: u64, seed: u64) -> Option<u64> {
        let slot = 1_000_000_000 / self.pps;
        let jitter = scatter(seed ^ n) % slot.max(1);
        let due = u128::from(n) * 1_000_000_000 / u128::from(self.pps);
        // The first packet is the beginning.
        let jitter = if n == 0 { 0 } else { jitter };
        let due = self.from_nanos + u64::try_from(due).expect("scenes are short") + jitter;
        (due < self.until_nanos).then_some(due)
    }
}

/// A flood that is being sent.
struct Sender {
    flood: Flood,
    seed: u64,
    next: u64,
}

impl Sender {
    fn due(&self) -> Option<u64> {
        self.flood.due(self.next, self.seed)
    }

    fn send(&mut self) -> &Template {
        let templates = &mut self.flood.packets.0;
        let together = templates.len() as u64;
        let group = scatter(self.seed.wrapping_add(self.next / together));
        let position = usize::try_from(self.next % together).expect("a handful");
        self.next += 1;
        let packet = &mut templates[position];
        let address = self.flood.network + (group % self.flood.sources) as u32;
        let at = if packet.outbound { 30 } else { 26 };
        packet.bytes[at..at + 4].copy_from_slice(&address.to_be_bytes());
        packet.bytes[18..20].copy_from_slice(&((group >> 20) as u16).to_be_bytes());
        if packet.random_source_port {
            let port = 1_024 + (group >> 32) as u16 % 60_000;
            packet.bytes[34..36].copy_from_slice(&port.to_be_bytes());
        }
        if let Some(offset) = packet.sequence {
            let sequence = ((group >> 24) as u32).wrapping_add(offset);
            packet.bytes[38..42].copy_from_slice(&sequence.to_be_bytes());
        }
        packet
    }
}

/// One event, and when it was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) at: Timestamp,
    pub(crate) event: Event,
}

impl Told {
    /// `opened`, `resolved`, or why it was updated.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.event {
            Event::Opened(_) => "opened",
            Event::Updated(_, change) => change.name(),
            Event::Resolved(_) => "resolved",
        }
    }

    pub(crate) fn incident(&self) -> &Incident {
        self.event.incident()
    }
}

/// Everything that was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Play {
    pub(crate) told: Vec<Told>,
    pub(crate) seconds: Vec<TrafficSecond>,
}

impl Play {
    /// What was told of one kind.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Incident> {
        let matching = self.told.iter().filter(|told| told.kind() == kind);
        matching.map(Told::incident).collect()
    }

    /// The only incident there was, as it ended.
    pub(crate) fn only(&self) -> &Incident {
        let (opened, resolved) = (self.of("opened"), self.of("resolved"));
        assert_eq!(opened.len(), 1, "one incident\n{}", self.log());
        resolved.last().expect("it was resolved")
    }

    /// Every opening and reopening is followed by one resolving.
    pub(crate) fn is_complete(&self) -> bool {
        let begun = self.of("opened").len() + self.of(Change::Reopened.name()).len();
        begun == self.of("resolved").len()
    }

    /// One line per event, for people.
    pub(crate) fn log(&self) -> String {
        let line = |told: &Told| {
            let of = told.incident();
            format!(
                "{:9} ms {:9} #{} {}/{} {} {} pps",
                told.at.millis_since(BEGIN),
                told.kind(),
                of.id.sequence,
                of.family,
                of.subtype,
                of.severity,
                of.peak_pps
            )
        };
        self.told.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// What the interface counts and capture shows of a window; may take away what was captured.
pub(crate) type Tap = Box<dyn FnMut(u64, &mut Window) -> Option<NicReading>>;

/// The agent ends and another one begins, with what was told last and what was learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restart {
    /// Before which window the first one ends.
    pub(crate) window: u64,
    /// So many windows are judged by nobody.
    pub(crate) down_windows: u64,
    /// Whether it was told to stop, or killed.
    pub(crate) orderly: bool,
}

/// What is done to the engine before one window.
pub(crate) type Hook = Box<dyn FnMut(&mut Engine)>;

/// Floods, limits, and what is known before.
pub(crate) struct Scene {
    pub(crate) settings: engine::Settings,
    floods: Vec<Flood>,
    seed: u64,
    tap: Option<Tap>,
    /// After so many windows, so many are left out.
    pub(crate) skip: Option<(u64, u64)>,
    /// So many seconds only teach what is normal.
    pub(crate) warm_seconds: u64,
    /// In the order of their windows.
    pub(crate) restarts: Vec<Restart>,
    hooks: Vec<(u64, Hook)>,
}

impl Scene {
    /// Nothing happens, no limit is set.
    pub(crate) fn new() -> Self {
        Self {
            settings: engine::Settings::default(),
            floods: Vec::new(),
            seed: 1,
            tap: None,
            skip: None,
            warm_seconds: 0,
            restarts: Vec::new(),
            hooks: Vec::new(),
        }
    }

    /// The agent is killed at `millis`, and another one starts so many milliseconds later.
    pub(crate) fn crash(self, millis: u64, down_millis: u64) -> Self {
        self.restart(millis, down_millis, false)
    }

    /// The agent is stopped at `millis`, and started again so many milliseconds later.
    pub(crate) fn stop(self, millis: u64, down_millis: u64) -> Self {
        self.restart(millis, down_millis, true)
    }

    fn restart(mut self, millis: u64, down_millis: u64, orderly: bool) -> Self {
        self.restarts.push(Restart {
            window: millis / 50,
            down_windows: down_millis / 50,
            orderly,
        });
        self
    }

    /// Does something to the engine between two windows.
    pub(crate) fn hook(mut self, millis: u64, hook: impl FnMut(&mut Engine) + 'static) -> Self {
        self.hooks.push((millis / 50, Box::new(hook)));
        self
    }

    pub(crate) fn limit_pps(mut self, value: u64) -> Self {
        let by = SetBy::Local;
        self.settings.detect.limits.set_pps = Some(SetLimit { value, by });
        self
    }

    pub(crate) fn limit_bps(mut self, value: u64) -> Self {
        let by = SetBy::Local;
        self.settings.detect.limits.set_bps = Some(SetLimit { value, by });
        self
    }

    /// Learned limits have their final multiplier after so many seconds, and this floor.
    pub(crate) fn learned_after(mut self, seconds: u64, floor_pps: u64) -> Self {
        self.settings.detect.baseline.warmed_up_after(seconds);
        self.settings.detect.limits.floor_pps = floor_pps;
        self
    }

    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(crate) fn add(mut self, flood: Flood) -> Self {
        self.floods.push(flood);
        self
    }

    /// `packets` at `pps` between these milliseconds.
    pub(crate) fn flood(self, packets: Packets, pps: u64, millis: std::ops::Range<u64>) -> Self {
        self.add(Flood::new(packets, pps).during(millis))
    }

    /// Looks at every window, by its number, before it is judged.
    pub(crate) fn tap(mut self, tap: Tap) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Plays it until `millis` and resolves what is open then.
    pub(crate) fn play(self, millis: u64) -> Play {
        let mut stage = Stage::new(&self);
        let mut play = Play::default();
        stage.play(
            self,
            millis,
            &mut |play: &Play| {
                let _ = play;
                false
            },
            &mut play,
        );
        stage.finish(&mut play);
        play
    }

    /// Plays it until `enough`, at most until `millis`.
    pub(crate) fn play_until(self, millis: u64, enough: &mut dyn FnMut(&Play) -> bool) -> Play {
        let mut stage = Stage::new(&self);
        let mut play = Play::default();
        stage.play(self, millis, enough, &mut play);
        play
    }
}

/// The agent's pure part, window by window.
struct Stage {
    classifier: Classifier,
    meter: Meter,
    spare: Option<Box<Window>>,
    engine: Engine,
    settings: engine::Settings,
    seed: u64,
    warm_windows: u64,
    /// Nobody judges before this one.
    up_from_window: u64,
}

impl Stage {
    fn new(scene: &Scene) -> Self {
        let count = count::Settings::default();
        Self {
            classifier: Classifier::new(classify::Settings {
                vantage: Vantage::Hosts(vec![ipnet::IpNet::from(std::net::IpAddr::from(HOST))]),
                tunnel_peers: Vec::new(),
            }),
            seed: count.seed,
            meter: Meter::new(count, WindowIndex::of(BEGIN)),
            spare: None,
            warm_windows: scene.warm_seconds * 20,
            engine: Engine::new(scene.settings.clone(), None),
            settings: scene.settings.clone(),
            up_from_window: 0,
        }
    }

    /// Ends the engine and begins another one with what a state directory would hold: the last report of each incident as
    /// JSON.
    fn restart(&mut self, restart: Restart, play: &mut Play) {
        if restart.orderly {
            let outcome = self.engine.suspend();
            play.take(outcome, self.meter.open().start());
        }
        let baseline = self.engine.detector().baseline().clone();
        self.engine = Engine::new(self.settings.clone(), Some(baseline));
        let mut last: Vec<&Incident> = Vec::new();
        for incident in play.told.iter().map(Told::incident) {
            last.retain(|earlier| earlier.id != incident.id);
            last.push(incident);
        }
        for incident in last {
            let stored = serde_json::to_string(&Report::of(incident));
            let stored = stored.expect("a report can be written");
            let found: Report = serde_json::from_str(&stored).expect("and read");
            assert!(self.engine.resume(&found), "{stored}");
        }
        self.up_from_window = restart.window + restart.down_windows;
    }

    fn play(
        &mut self,
        mut scene: Scene,
        millis: u64,
        enough: &mut dyn FnMut(&Play) -> bool,
        play: &mut Play,
    ) {
        let mut senders: Vec<Sender> = scene
            .floods
            .drain(..)
            .zip(1..)
            .map(|(flood, number)| Sender {
                flood,
                seed: scatter((scene.seed << 8) | number),
                next: 0,
            })
            .collect();
        for number in 0..millis / 50 {
            let end = (number + 1) * 50_000_000;
            let skipped = scene
                .skip
                .filter(|(after, windows)| (*after..after + windows).contains(&number));
            if skipped.is_some() {
                forget(&mut senders, end);
            }
            if skipped.is_some_and(|(after, _)| number > after) {
                continue;
            }
            if let Some(restart) = scene.restarts.iter().find(|of| of.window == number) {
                self.restart(*restart, play);
            }
            let due = |(window, _): &&mut (u64, Hook)| *window == number;
            for (_, hook) in scene.hooks.iter_mut().filter(due) {
                hook(&mut self.engine);
            }
            let steps = skipped.map_or(1, |(_, windows)| windows);
            self.fill(&mut senders, end);
            self.close(number, steps, scene.tap.as_mut(), play);
            if enough(play) {
                return;
            }
        }
    }

    /// Sends what is due before `end`, in the order it is due.
    fn fill(&mut self, senders: &mut [Sender], end: u64) {
        let earliest = |senders: &[Sender]| {
            let due = senders.iter().enumerate();
            due.filter_map(|(n, sender)| Some((sender.due()?, n))).min()
        };
        while let Some((due, n)) = earliest(senders).filter(|(due, _)| *due < end) {
            let bytes = &senders[n].send().bytes;
            let frame = Frame {
                at: BEGIN.plus_nanos(due),
                link: LinkType::Ethernet,
                wire_bytes: u32::try_from(bytes.len().max(60)).expect("frames are short"),
                data: bytes,
            };
            let sample = self
                .classifier
                .classify(&frame)
                .expect("frames are well made");
            self.meter.count(&sample);
        }
    }

    fn close(&mut self, number: u64, steps: u64, tap: Option<&mut Tap>, play: &mut Play) {
        let next = WindowIndex::of(self.meter.open().start().plus_nanos(steps * WINDOW_NANOS));
        let seed = self.seed;
        let spare = self.spare.take();
        let spare = spare.unwrap_or_else(|| Box::new(Window::new(next, seed)));
        let mut window = self.meter.close(next, spare);
        let nic = tap.and_then(|tap| tap(number, &mut window));
        let end = window.index.end();
        let outcome = if number < self.up_from_window {
            engine::Outcome::default()
        } else if number < self.warm_windows {
            self.engine.learn_only(&window, end)
        } else {
            self.engine.step(&window, nic, end)
        };
        self.spare = Some(window);
        play.take(outcome, end);
    }

    fn finish(&mut self, play: &mut Play) {
        let outcome = self.engine.finish();
        play.take(outcome, self.meter.open().start());
    }
}

/// What is due before `end` is never seen.
fn forget(senders: &mut [Sender], end: u64) {
    for sender in senders {
        while sender.due().is_some_and(|due| due < end) {
            sender.next += 1;
        }
    }
}

impl Play {
    fn take(&mut self, outcome: engine::Outcome, at: Timestamp) {
        let told = outcome.events.into_iter().map(|event| Told { at, event });
        self.told.extend(told);
        self.seconds.extend(outcome.second);
    }
}
