//! Nothing is allocated per packet after start-up: an allocator that counts stands behind the whole path.
//!
//! Reading, classifying, counting, closing a window and recycling it may not allocate at all, whatever the packets are.
//! Judging a window may, in a bounded amount that does not hang on how many packets were in it.

#![expect(
    clippy::expect_used,
    reason = "a test that fails loudly and says what it measured"
)]

#[path = "common/tell.rs"]
mod tell;
#[allow(dead_code, reason = "shared with the benches, which use more of it")]
#[path = "../benches/common/traffic.rs"]
mod traffic;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;
use std::path::Path;

use ftagent::capture::replay::CaptureReader;
use ftagent::capture::{Capture, Frame, PacketSource};
use ftagent::classify::Classifier;
use ftagent::count::{Meter, Settings, Window, WindowIndex};
use ftagent::engine::{self, Engine};
use tell::tell;
use traffic::{BEGINNING, Senders, Traffic};

/// Hands everything on to the system's allocator and counts, for each thread, how often it was asked.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "only an allocator can count allocations")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often `work` asks for memory on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

/// Windows of each kind of traffic: enough to fill every table, and see 20 s go by.
const WINDOWS: u64 = 400;
/// Packets in each: more than a tally of sources holds, in the windows that are full.
const FULL: usize = 80_000;
const USUAL: usize = 1_000;

/// One worker.
struct Worker {
    classifier: Classifier,
    meter: Meter,
    spare: Option<Box<Window>>,
}

impl Worker {
    fn new() -> Self {
        let first = WindowIndex::of(BEGINNING);
        let settings = Settings::default();
        Self {
            classifier: Classifier::new(traffic::host()),
            spare: Some(Box::new(Window::new(first, settings.seed))),
            meter: Meter::new(settings, first),
        }
    }

    fn count(&mut self, frame: &Frame<'_>) {
        match self.classifier.classify(frame) {
            Ok(sample) => self.meter.count(&sample),
            Err(reason) => self.meter.refuse(frame.at, reason),
        }
    }

    fn close(&mut self) -> &Window {
        let next = self.meter.open().next();
        let spare = self.spare.take().expect("there is one spare window");
        self.spare.insert(self.meter.close(next, spare))
    }
}

fn kinds() -> [(&'static str, Traffic); 9] {
    let random = Senders::Random;
    [
        ("SYN", Traffic::syn_flood(USUAL, random)),
        ("SYN over IPv6", Traffic::syn_flood_v6(USUAL)),
        ("UDP", Traffic::udp_flood(USUAL, random)),
        ("SYN, full windows", Traffic::syn_flood(FULL, random)),
        ("SYN over IPv6, full windows", Traffic::syn_flood_v6(FULL)),
        ("fragments", Traffic::fragments(USUAL, random)),
        ("sessions on every port", Traffic::sessions(USUAL)),
        ("a busy server", Traffic::mixed(USUAL)),
        ("tunnels", Traffic::tunnelled(&Traffic::mixed(USUAL))),
    ]
}

#[test]
fn no_packet_of_any_kind_allocates() {
    let mut worker = Worker::new();
    for (name, mut traffic) in kinds() {
        let windows = if traffic.len() > USUAL * 2 {
            8
        } else {
            WINDOWS
        };
        for _ in 0..windows {
            traffic.renew_sources();
            let asked = allocations(|| {
                for frame in traffic.frames(worker.meter.open()) {
                    worker.count(&frame);
                }
                let window = worker.close();
                assert!(window.inbound.frames.packets > 0, "{name} comes in");
            });
            assert_eq!(asked, 0, "{name}");
        }
    }
}

#[test]
fn a_worker_that_starts_in_a_flood_allocates_nothing() {
    for (name, traffic) in kinds() {
        let mut worker = Worker::new();
        let asked = allocations(|| {
            for frame in traffic.frames(worker.meter.open()) {
                worker.count(&frame);
            }
            worker.close();
        });
        assert_eq!(asked, 0, "{name}");
    }
}

#[test]
fn neither_real_frames_nor_what_is_left_of_them_allocate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let captures = std::fs::read_dir(&folder)
        .expect("the project's captures are there")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pcap")
        });
    let mut worker = Worker::new();
    let (mut files, mut frames) = (0, 0_u64);
    for path in captures {
        let file = std::fs::read(&path).expect("a capture can be read");
        let mut reader = CaptureReader::new(Cursor::new(&file), &path).expect("it is a capture");
        let asked = allocations(|| {
            while let Ok(Capture::Frame(frame)) = reader.next() {
                worker.count(&frame);
                // Cut everywhere a header may end, and with a bit turned there.
                let cut = usize::try_from(frames % 96).unwrap_or_default();
                let data = frame.data.get(..cut).unwrap_or(frame.data);
                worker.count(&Frame { data, ..frame });
                let mut odd = [0; 96];
                let odd = odd.get_mut(..data.len().min(96)).unwrap_or_default();
                odd.copy_from_slice(data.get(..odd.len()).unwrap_or_default());
                if let Some(last) = odd.last_mut() {
                    *last ^= 1 << (frames % 8);
                }
                worker.count(&Frame { data: odd, ..frame });
                frames += 1;
                if frames.is_multiple_of(1_000) {
                    worker.close();
                }
            }
        });
        assert_eq!(asked, 0, "{}", path.display());
        files += 1;
    }
    assert!(
        files > 20 && frames > 10_000,
        "{files} files, {frames} frames"
    );
}

/// What judging one window may ask for, whatever happens: opening and resolving an incident makes two of its stories.
const MOST_IN_A_STEP: u64 = 4_000;
/// What it may ask for while nothing is reported.
const MOST_IN_A_QUIET_STEP: u64 = 200;

#[test]
fn judging_a_window_allocates_a_bounded_amount_that_packets_do_not_change() {
    let mut engine = Engine::new(engine::Settings::default(), None);
    let mut worker = Worker::new();
    let phases = [
        ("quiet", Traffic::mixed(50)),
        ("flood", Traffic::syn_flood(USUAL * 4, Senders::Random)),
        ("larger flood", Traffic::syn_flood(FULL, Senders::Random)),
        ("quiet again", Traffic::mixed(50)),
    ];
    for (name, mut traffic) in phases {
        let (mut silent, mut telling, mut events) = (0, 0, 0);
        for _ in 0..300 {
            traffic.renew_sources();
            for frame in traffic.frames(worker.meter.open()) {
                worker.count(&frame);
            }
            let window = worker.close();
            let mut told = 0;
            let asked = allocations(|| {
                let outcome = engine.step(window, None, window.index.end());
                told = outcome.events.len();
            });
            events += told;
            if told == 0 {
                silent = asked.max(silent);
            } else {
                telling = asked.max(telling);
            }
        }
        tell!(
            "{name}: at most {silent} allocations a window, {telling} in one of the {events} with an event"
        );
        assert!(silent <= MOST_IN_A_QUIET_STEP, "{name}: {silent}");
        assert!(telling <= MOST_IN_A_STEP, "{name}: {telling}");
    }
}
