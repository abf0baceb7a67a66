//! A recording played in real time, as though it happened now.
//!
//! Sleeps until each frame is due, at most a few milliseconds at a time: whoever asks for frames is never held up for
//! longer, and is told in between how far time has come. On the thread that plays.

use std::thread;
use std::time::{Duration, Instant};

use crate::capture::{Capture, CaptureError, Frame, LinkType, PacketSource};
use crate::clock::{self, Timestamp};

/// The longest sleep: a fifth of a window, so that windows close in time where no frame comes.
const NAP: Duration = Duration::from_millis(10);

/// A packet source that hands out another one's frames when their time has come, with times of today.
#[derive(Debug)]
pub struct Player<S> {
    source: S,
    speed: u32,
    starts_at: Timestamp,
    /// When the first frame was handed out, and when it was recorded.
    began: Option<(Instant, Timestamp)>,
    /// The frame that is due next. Its buffer is used again and again.
    next: Next,
    is_held: bool,
}

/// A frame that waits for its time.
#[derive(Debug)]
struct Next {
    at: Timestamp,
    link: LinkType,
    wire_bytes: u32,
    data: Vec<u8>,
}

impl<S: PacketSource> Player<S> {
    /// A player whose first frame comes at once and is said to have come at `starts_at`. At twice the `speed`, time
    /// between frames passes twice as fast; what they say about time stays as it was recorded.
    pub const fn new(source: S, speed: u32, starts_at: Timestamp) -> Self {
        Self {
            source,
            speed: if speed == 0 { 1 } else { speed },
            starts_at,
            began: None,
            next: Next {
                at: Timestamp::from_nanos(0),
                link: LinkType::Ethernet,
                wire_bytes: 0,
                data: Vec::new(),
            },
            is_held: false,
        }
    }

    /// How far time has come: no frame that is still to come is older.
    pub fn reached(&self) -> Timestamp {
        let played = self.began.map_or(0, |(began, _)| {
            let nanos = began.elapsed().as_nanos() * u128::from(self.speed);
            u64::try_from(nanos).unwrap_or(u64::MAX)
        });
        let now = self.starts_at.plus_nanos(played);
        if self.is_held {
            now.min(self.label(self.next.at))
        } else {
            now
        }
    }

    /// The time of today for a time in the recording.
    fn label(&self, at: Timestamp) -> Timestamp {
        let first = self.began.map_or(at, |(_, first)| first);
        self.starts_at.plus_nanos(at.nanos_since(first))
    }

    /// How long it is until the next frame is due.
    fn wait(&self) -> Duration {
        let Some((began, first)) = self.began else {
            return Duration::ZERO;
        };
        let due = Duration::from_nanos(self.next.at.nanos_since(first) / u64::from(self.speed));
        due.saturating_sub(clock::monotonic().saturating_duration_since(began))
    }

    /// Takes the next frame from the recording; false at its end.
    fn hold(&mut self) -> Result<bool, CaptureError> {
        loop {
            match self.source.next()? {
                Capture::Frame(frame) => {
                    self.next.at = frame.at;
                    self.next.link = frame.link;
                    self.next.wire_bytes = frame.wire_bytes;
                    self.next.data.clear();
                    self.next.data.extend_from_slice(frame.data);
                    self.is_held = true;
                    return Ok(true);
                }
                Capture::Idle => {}
                Capture::End => return Ok(false),
            }
        }
    }
}

impl<S: PacketSource> PacketSource for Player<S> {
    fn next(&mut self) -> Result<Capture<'_>, CaptureError> {
        if !self.is_held && !self.hold()? {
            return Ok(Capture::End);
        }
        if self.began.is_none() {
            self.began = Some((clock::monotonic(), self.next.at));
        }
        let wait = self.wait();
        if !wait.is_zero() {
            thread::sleep(wait.min(NAP));
            return Ok(Capture::Idle);
        }
        self.is_held = false;
        Ok(Capture::Frame(Frame {
            at: self.label(self.next.at),
            link: self.next.link,
            wire_bytes: self.next.wire_bytes,
            data: &self.next.data,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames at these milliseconds, each with its number as content.
    struct Recorded(std::vec::IntoIter<u64>, [u8; 1]);

    impl PacketSource for Recorded {
        fn next(&mut self) -> Result<Capture<'_>, CaptureError> {
            let Some(millis) = self.0.next() else {
                return Ok(Capture::End);
            };
            self.1 = [self.1[0] + 1];
            Ok(Capture::Frame(Frame {
                at: Timestamp::from_nanos(millis * 1_000_000),
                link: LinkType::RawIp,
                wire_bytes: 60,
                data: &self.1,
            }))
        }
    }

    fn player(millis: &[u64], speed: u32) -> Player<Recorded> {
        let recorded = Recorded(Vec::from(millis).into_iter(), [0]);
        Player::new(recorded, speed, Timestamp::from_seconds(1_000))
    }

    /// Milliseconds after the start that each frame is said to have come at, what is in it, and how long it all took.
    fn played(mut player: Player<Recorded>) -> (Vec<(u64, u8)>, Duration) {
        let start = clock::monotonic();
        let mut frames = Vec::new();
        let mut reached = Timestamp::default();
        loop {
            match player.next().unwrap() {
                Capture::Frame(frame) => {
                    assert!(frame.at >= reached, "older than promised");
                    let millis = frame.at.millis_since(Timestamp::from_seconds(1_000));
                    frames.push((millis, frame.data[0]));
                }
                Capture::Idle => {
                    assert!(player.reached() >= reached, "time runs backwards");
                    reached = player.reached();
                }
                Capture::End => return (frames, start.elapsed()),
            }
        }
    }

    #[test]
    fn frames_come_when_they_are_due_with_times_of_today() {
        let (frames, took) = played(player(&[5_000, 5_030, 5_030, 5_120], 1));
        assert_eq!(frames, [(0, 1), (30, 2), (30, 3), (120, 4)]);
        assert!(took >= Duration::from_millis(120), "{took:?}");
    }

    #[test]
    fn faster_takes_less_time_and_says_the_same() {
        let (frames, took) = played(player(&[0, 4_000], 40));
        assert_eq!(frames, [(0, 1), (4_000, 2)]);
        assert!(took >= Duration::from_millis(100), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }

    #[test]
    fn a_frame_that_is_older_than_the_first_comes_at_once() {
        let (frames, _) = played(player(&[50, 20, 60], 1));
        assert_eq!(frames, [(0, 1), (0, 2), (10, 3)]);
    }

    #[test]
    fn nothing_to_play_ends_at_once() {
        assert_eq!(played(player(&[], 1)).0, []);
    }
}
