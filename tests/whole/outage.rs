//! A platform that is away, slow or wrong: nothing is lost, nothing is told twice, and detection does not notice.

use std::fmt;
use std::time::Duration;

use ftagent::clock::{self, Timestamp};
use ftagent::count::WINDOW_NANOS;
use ftagent::demo::platform::{Call, Endpoint, Fault, Oddity, Platform, Received, Serves};

use crate::common::event::Event;
use crate::common::generate::{Frames, trafgen_for};
use crate::common::process::{Scratch, until};
use crate::common::resident::{Heard, Resident};
use crate::common::tell;
use crate::node::{Node, platform_of};

#[test]
fn what_happens_while_the_platform_is_away_is_told_when_it_is_back() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let mut agent = node.start(&["--seconds"]);
    node.wait_for_limit();
    node.platform.set_reachable(false);
    let mut flood = node.flood(10_000);
    assert!(
        agent
            .wait_for(Duration::from_secs(5), Event::opens)
            .is_some()
    );
    flood.wait(Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(node.steps().len(), 0, "{}", node.heard());
    node.platform.set_reachable(true);
    node.wait("incident after the outage", |received| {
        received
            .iter()
            .any(|each| each.taken && matches!(each.call, Call::Incident(_)))
    });
    assert!(
        agent
            .wait_for(Duration::from_secs(25), Event::resolves)
            .is_some()
    );
    agent.stop();
    for each in node.platform.recorded() {
        // What is live goes first; what waited is caught up on beside it.
        let is_backlog =
            |oddity: &Oddity| matches!(oddity, Oddity::OutOfOrder { .. } | Oddity::PeakFell);
        assert!(each.violations.is_empty(), "{:?}", each.violations);
        assert!(each.oddities.iter().all(is_backlog), "{:?}", each.oddities);
    }
}

/// How long both agents are looked at together: 500 windows of each, so the 99th percentile is the sixth largest.
const LOOK: Duration = Duration::from_secs(25);

/// By how much a slow platform may move the windows: the product's figure.
const MOST_MICROS: u64 = 5_000;

/// Looks that are taken until one is within. An uplink that held the detector up would show in each of them.
const LOOKS: u32 = 3;

/// Two agents watch one link through one flood, each with an incident open: one has a quick platform, the other one that
/// sends a byte a second. What is compared is the detector's own lateness: how long after its end each window is judged.
///
/// The two judge the same windows at the same moments on the same machine, so whatever else the machine does meets both;
/// and the 99th percentile leaves out the five windows of each in which one of them alone was off the processor. A detector
/// that waits for its uplink is late in every window for which a request hangs, and here some always do.
#[test]
fn a_platform_that_sends_a_byte_a_second_does_not_move_the_windows() {
    let Some(node) = Node::new(Serves::Seed, "seed") else {
        return;
    };
    let (slow_platform, slow_config) =
        platform_of(&node.lab, "slow.toml", Serves::Seed, "seed", "");
    let slow_state = Scratch::new();
    let quick = Resident::start(&node.lab, &node.config, node.state.path());
    let slow = Resident::start(&node.lab, &slow_config, slow_state.path());
    node.wait_for_limit();
    let asked = |received: &[Received]| {
        let mut received = received.iter();
        received.any(|each| each.endpoint == Endpoint::Config && each.taken)
    };
    assert!(slow_platform.wait_for(Duration::from_secs(10), asked));
    std::thread::sleep(Duration::from_millis(300));
    slow_platform.set_fault_everywhere(Fault::slow(1));
    let longest = LOOK * (LOOKS + 1);
    let flood = trafgen_for(&node.lab, &Frames::syn(&node.lab), 200, longest);
    for agent in [&quick, &slow] {
        let opened = until(Duration::from_secs(10), || !agent.heard().events.is_empty());
        assert!(opened, "an incident is open: {:?}", agent.heard().notices);
    }
    let mut within = false;
    for look in 1..=LOOKS {
        let heard_before = [&node.platform, &slow_platform].map(seconds_heard);
        let from = clock::now();
        std::thread::sleep(LOOK);
        let to = clock::now();
        let [quick_heard, slow_heard] = [&node.platform, &slow_platform].map(seconds_heard);
        let (told, told_slowly) = (quick_heard - heard_before[0], slow_heard - heard_before[1]);
        assert!(
            told_slowly * 2 <= told,
            "the slow platform is slow: {told_slowly} requests instead of {told}"
        );
        let [quick, slow] = [&quick, &slow].map(|agent| Lateness::of(&agent.heard(), from, to));
        tell!(
            "windows judged after their end, with a quick platform: {quick}; with a slow one: {slow} (look {look})"
        );
        within = slow.percentile(99) <= quick.percentile(99) + MOST_MICROS;
        if within {
            break;
        }
    }
    drop(flood);
    for agent in [&quick, &slow] {
        let mut notices = agent.heard().notices;
        notices.retain(|notice| !notice.starts_with("limits "));
        assert_eq!(
            notices, [""; 0],
            "nothing happened to the agents but that they learn"
        );
    }
    assert!(
        within,
        "a slow platform moves the windows by more than {MOST_MICROS} us in each look"
    );
}

/// Seconds that the platform was told.
fn seconds_heard(platform: &Platform) -> usize {
    let received = platform.recorded();
    let seconds = received
        .iter()
        .filter(|each| each.endpoint == Endpoint::Metrics);
    seconds.count()
}

/// How long after their end windows were judged, in microseconds, sorted.
struct Lateness(Vec<u64>);

impl Lateness {
    /// Of the windows that ended between two moments. There is one each 50 ms.
    fn of(heard: &Heard, from: Timestamp, to: Timestamp) -> Self {
        let windows = heard.lateness().into_iter();
        let mut late: Vec<u64> = windows
            .filter(|(end, _)| (from..to).contains(end))
            .map(|(_, late)| late)
            .collect();
        let expected = to.nanos_since(from) / WINDOW_NANOS;
        // The last may not be judged yet.
        assert!(
            late.len() as u64 + 3 >= expected,
            "{} of {expected} windows",
            late.len()
        );
        late.sort_unstable();
        Self(late)
    }

    fn percentile(&self, hundredths: usize) -> u64 {
        let place = (self.0.len() * hundredths).div_ceil(100).saturating_sub(1);
        self.0.get(place).copied().expect("windows were judged")
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, high, most] = [50, 99, 100].map(|hundredths| self.percentile(hundredths));
        let count = self.0.len();
        write!(
            f,
            "median {median} us, 99 % {high} us, longest {most} us of {count}"
        )
    }
}
