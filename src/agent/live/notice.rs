//! What happens to the agent itself and is worth a line in the log.
//!
//! Said by any thread into one bounded queue, handed to the sink by the detector's thread, written by whoever logs: no
//! thread that packets wait for writes a line.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use log::Level;

use crate::capture::CaptureError;
use crate::detect::baseline::Phase;
use crate::detect::limits::{Ground, Limits};
use crate::words::{Duration, Thousands};

/// Something that happened to the agent. Its `Display` is the line for the log.
#[derive(Debug)]
pub enum Notice {
    /// An interface is not watched any more, and why.
    LinkLost(CaptureError),
    /// An interface is watched again.
    LinkBack {
        /// The name it is watched by.
        name: String,
        /// How long it was not.
        after_millis: u64,
    },
    /// An interface is watched under a name that it no longer bears.
    LinkRenamed {
        /// The name it is watched by.
        name: String,
        /// Its name now.
        now: String,
    },
    /// The wall clock was set.
    ClockSet {
        /// By so many nanoseconds.
        by_nanos: i64,
    },
    /// The agent stood still for so long that the time is not judged.
    HeldUp {
        /// For so long.
        millis: u64,
        /// Packets that the interfaces counted meanwhile; `None` without counters.
        packets: Option<u64>,
    },
    /// The limits rest on something else than before; those of the start are told at the start.
    Limits(Box<Limits>),
    /// Something works less well than it should, in words.
    Degraded(String),
}

impl Notice {
    /// How loud it is to be said.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::LinkLost(_) | Self::LinkRenamed { .. } => Level::Warn,
            Self::ClockSet { .. } | Self::HeldUp { .. } | Self::Degraded(_) => Level::Warn,
            Self::LinkBack { .. } | Self::Limits(_) => Level::Info,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkLost(error) => write!(f, "{error}; it is watched again when it is back"),
            Self::LinkBack { name, after_millis } => {
                let after = Duration(*after_millis);
                write!(f, "interface {name}: is watched again after {after}")
            }
            Self::LinkRenamed { name, now } => write!(
                f,
                "interface {name}: is called {now} now and stays watched; name it so before the next start"
            ),
            Self::ClockSet { by_nanos } => {
                let way = if *by_nanos < 0 { "back" } else { "forward" };
                let by = Duration(by_nanos.unsigned_abs() / 1_000_000);
                write!(
                    f,
                    "the clock was set {way} by {by}: times are told by it from now on, rates and durations stay right"
                )
            }
            Self::HeldUp { millis, packets } => {
                write!(f, "held up for {}: ", Duration(*millis))?;
                match packets {
                    Some(packets) => write!(f, "{} packets came", Thousands(*packets))?,
                    None => f.write_str("nobody counted what came")?,
                }
                f.write_str(" in a time that is not judged")
            }
            Self::Limits(limits) => write!(f, "{}: {limits}", stage(limits)),
            Self::Degraded(what) => f.write_str(what),
        }
    }
}

/// How far learning has come, as far as a limit rests on it: of two, the one that has further to go.
fn stage(limits: &Limits) -> &'static str {
    let phases = limits.grounds().map(|ground| match ground {
        Ground::Learned(phase) => Some(phase),
        Ground::Nothing | Ground::Set(_) => None,
    });
    match phases.into_iter().flatten().min() {
        None => "limits in force",
        Some(Phase::FirstSeconds | Phase::Starting) => "limits while learning starts",
        Some(Phase::WarmingUp) => "limits while warming up",
        Some(Phase::Learned) => "limits as learned",
    }
}

/// Notices that may wait to be handed on. An interface that comes and goes makes a few a second; what does not fit was
/// said before, or will be again.
const WAITING: usize = 64;

/// Where notices are said.
#[derive(Clone, Debug)]
pub(super) struct News(SyncSender<Notice>);

impl News {
    pub(super) fn new() -> (Self, Receiver<Notice>) {
        let (say, said) = sync_channel(WAITING);
        (Self(say), said)
    }

    /// Says it, without waiting for anybody to listen.
    pub(super) fn say(&self, notice: Notice) {
        let _ = self.0.try_send(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notice_is_one_line_that_names_the_thing() {
        let lost = CaptureError::InterfaceLost {
            name: "eth0".to_owned(),
            reason: "was removed while it was watched".to_owned(),
        };
        for (notice, line) in [
            (
                Notice::LinkLost(lost),
                "interface eth0: was removed while it was watched; it is watched again when it is back",
            ),
            (
                Notice::LinkBack {
                    name: "eth0".to_owned(),
                    after_millis: 3_250,
                },
                "interface eth0: is watched again after 3.2 s",
            ),
            (
                Notice::ClockSet {
                    by_nanos: -3_600_000_000_000,
                },
                "the clock was set back by 1 h 0 min: times are told by it from now on, rates and durations stay right",
            ),
            (
                Notice::HeldUp {
                    millis: 600_000,
                    packets: Some(12_345),
                },
                "held up for 10 min 0 s: 12,345 packets came in a time that is not judged",
            ),
            (
                Notice::HeldUp {
                    millis: 12_000,
                    packets: None,
                },
                "held up for 12.0 s: nobody counted what came in a time that is not judged",
            ),
        ] {
            assert_eq!(notice.to_string(), line);
        }
    }

    #[test]
    fn limits_are_told_with_how_far_learning_has_come() {
        use crate::detect::baseline::{Baseline, Judgement, LearningCaps, SecondValues, Settings};
        use crate::detect::limits;

        let mut baseline = Baseline::new(Settings::default());
        let mut said = Vec::new();
        for second in 0..=3_600 {
            if [0, 10, 300, 3_600].contains(&second) {
                let limits = Limits::in_force(&limits::Settings::default(), &baseline);
                let line = Notice::Limits(Box::new(limits)).to_string();
                said.push(line.split(" (").next().unwrap_or_default().to_owned());
            }
            let values = SecondValues::new();
            let caps = LearningCaps::default();
            baseline.second(1_772_409_600 + second, &values, Judgement::Quiet, &caps);
        }
        assert_eq!(
            said,
            [
                "limits in force: packets: no limit for 10 s, then 6 x the busiest second so far, at least 20,000 packets/s",
                "limits while learning starts: packets: limit 20,000 packets/s",
                "limits while warming up: packets: limit 10,000 packets/s",
                "limits as learned: packets: limit 10,000 packets/s",
            ]
        );
    }

    #[test]
    fn what_nobody_listens_to_is_dropped_and_holds_nobody_up() {
        let (news, said) = News::new();
        for _ in 0..1_000 {
            news.say(Notice::ClockSet { by_nanos: 1 });
        }
        assert_eq!(said.try_iter().count(), WAITING);
        drop(said);
        news.say(Notice::ClockSet { by_nanos: 1 });
    }
}
