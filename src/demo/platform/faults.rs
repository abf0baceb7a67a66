//! What the platform can be told to do wrong: slow, silent, cut off, wrong status, wrong body, wrong place.
//!
//! A [`Fault`] is a plain value; [`Fault::play`] makes it happen on the platform's thread.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};

use super::wire::{Ending, Head, Line, Pace};
use crate::clock::Timestamp;

/// A way to fail. Each hits every request of its endpoint until it is taken away, or as often as it is told to.
///
/// Whether the platform acts on a request that a fault hits follows from the fault: where a wrong status says that it
/// did not, it does not; where only the answer suffers, it does. [`Fault::taken`] says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    answer: Answer,
    arrival: Arrival,
    delay: Duration,
    times: Option<u32>,
    taken: bool,
    retry_after: Option<RetryAfter>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Right,
    Wrong { status: u16, body: FaultBody },
    Redirect { to: String },
}

/// How it comes to the client.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrival {
    Whole,
    /// So many bytes a second once this head is over.
    Slow {
        head: Head,
        bytes_per_second: u32,
    },
    Never,
    /// The connection ends in the middle of its body.
    Broken(Ending),
}

/// What stands in an answer that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultBody {
    /// Nothing.
    Empty,
    /// A page for people, as a captive portal or a proxy sends it.
    Html,
    /// A hundred million bytes of JSON, made while they are sent.
    Huge,
    /// JSON of a hundred thousand lists in each other.
    Nested,
    /// This, called JSON.
    Text(String),
}

/// When to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// In so many seconds.
    Seconds(u32),
    /// At this time, to the second.
    Date(Timestamp),
}

impl fmt::Display for RetryAfter {
    /// As the header is written: `7`, or `Sun, 15 Mar 2026 09:44:18 GMT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => seconds.fmt(f),
            Self::Date(at) => f.write_str(&http_date(*at)),
        }
    }
}

impl Fault {
    const fn new(answer: Answer, arrival: Arrival, taken: bool) -> Self {
        Self {
            answer,
            arrival,
            delay: Duration::ZERO,
            times: None,
            taken,
            retry_after: None,
        }
    }

    /// The right answer, so much later.
    #[must_use]
    pub const fn late(delay: Duration) -> Self {
        Self::new(Answer::Right, Arrival::Whole, true).after(delay)
    }

    /// The right answer, so many bytes of it a second, from the first byte of its head on. At least one.
    #[must_use]
    pub fn slow(bytes_per_second: u32) -> Self {
        let arrival = Arrival::Slow {
            head: Head::OVER,
            bytes_per_second: bytes_per_second.max(1),
        };
        Self::new(Answer::Right, arrival, true)
    }

    /// No answer, for as long as the client waits.
    #[must_use]
    pub const fn silent() -> Self {
        Self::new(Answer::Right, Arrival::Never, true)
    }

    /// The connection is reset (TCP RST) in the middle of the right answer's body.
    #[must_use]
    pub const fn reset() -> Self {
        Self::new(Answer::Right, Arrival::Broken(Ending::Reset), true)
    }

    /// The connection is closed (TCP FIN) in the middle of the right answer's body.
    #[must_use]
    pub const fn cut() -> Self {
        Self::new(Answer::Right, Arrival::Broken(Ending::Fin), true)
    }

    /// This status with an empty body. A number that is no status becomes 500.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        let body = FaultBody::Empty;
        Self::new(Answer::Wrong { status, body }, Arrival::Whole, false)
    }

    /// A redirection (307) to this address.
    #[must_use]
    pub fn redirect(to: impl Into<String>) -> Self {
        let to = to.into();
        Self::new(Answer::Redirect { to }, Arrival::Whole, false)
    }

    /// The same with its head at once and then so many bytes of its body a second. At least one.
    #[must_use]
    pub fn with_slow_body(mut self, bytes_per_second: u32) -> Self {
        self.arrival = Arrival::Slow {
            head: Head::default(),
            bytes_per_second: bytes_per_second.max(1),
        };
        self
    }

    /// The same, and the connection is reset (TCP RST) in the middle of its body.
    #[must_use]
    pub const fn with_reset(mut self) -> Self {
        self.arrival = Arrival::Broken(Ending::Reset);
        self
    }

    /// With this body, where the fault is a status.
    #[must_use]
    pub fn with(mut self, with: FaultBody) -> Self {
        if let Answer::Wrong { body, .. } = &mut self.answer {
            *body = with;
        }
        self
    }

    /// With a `Retry-After`, where the fault is a status.
    #[must_use]
    pub const fn retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Only after so long without a byte.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Only for the next so many requests.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Whether the platform acts on the request all the same.
    #[must_use]
    pub const fn taken(mut self, taken: bool) -> Self {
        self.taken = taken;
        self
    }

    /// Whether the platform acts on the request.
    pub(super) const fn is_taken(&self) -> bool {
        self.taken
    }

    /// The status that the client sees, when the right one would be `right`; 0 for none.
    pub(super) const fn status_seen(&self, right: u16) -> u16 {
        match (&self.arrival, &self.answer) {
            (Arrival::Never, _) => 0,
            (_, Answer::Right) => right,
            (_, Answer::Wrong { status, .. }) => *status,
            (_, Answer::Redirect { .. }) => 307,
        }
    }

    /// Counts a hit; false when there are none left.
    pub(super) const fn hit(&mut self) -> bool {
        match &mut self.times {
            Some(0) => false,
            Some(times) => {
                *times -= 1;
                true
            }
            None => true,
        }
    }

    /// Makes of the right answer what arrives in its place.
    pub(super) async fn play(self, right: Response<Body>, line: &Line) -> Response<Body> {
        tokio::time::sleep(self.delay).await;
        let arrival = self.arrival;
        let answer = self.answer(right);
        match arrival {
            Arrival::Whole => {}
            Arrival::Slow {
                head,
                bytes_per_second,
            } => line.set(Pace::Slow {
                head,
                bytes_per_second,
            }),
            Arrival::Never => std::future::pending().await,
            Arrival::Broken(ending) => {
                let whole = answer.body().size_hint().lower();
                line.set(Pace::broken_after(whole / 2, ending));
            }
        }
        answer
    }

    /// What is answered in the place of the right answer.
    fn answer(self, right: Response<Body>) -> Response<Body> {
        match self.answer {
            Answer::Right => right,
            Answer::Wrong { status, body } => {
                let mut answer = Response::new(body.body());
                *answer.status_mut() =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let headers = answer.headers_mut();
                headers.insert(header::CONTENT_TYPE, body.content_type());
                let retry_after = self.retry_after.map(|at| at.to_string());
                if let Some(value) = retry_after.and_then(|at| HeaderValue::try_from(at).ok()) {
                    headers.insert(header::RETRY_AFTER, value);
                }
                answer
            }
            Answer::Redirect { to } => {
                let mut answer = Response::new(Body::empty());
                *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                if let Ok(to) = HeaderValue::try_from(to) {
                    answer.headers_mut().insert(header::LOCATION, to);
                }
                answer
            }
        }
    }
}

/// A page that says nothing about incidents.
const PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
    <body><h1>Welcome to the guest network</h1></body></html>";

/// Lists in each other: far deeper than any reader goes that goes down once for each.
const NESTED: usize = 100_000;

/// Bytes of the huge body.
const HUGE_BYTES: usize = 100_000_000;

impl FaultBody {
    fn body(&self) -> Body {
        match self {
            Self::Empty => Body::empty(),
            Self::Html => Body::from(PAGE),
            Self::Huge => Body::new(Huge { left: HUGE_BYTES }),
            Self::Nested => Body::from(format!("{}{}", "[".repeat(NESTED), "]".repeat(NESTED))),
            Self::Text(text) => Body::from(text.clone()),
        }
    }

    const fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Html => "text/html; charset=utf-8",
            _ => "application/json",
        })
    }
}

/// One JSON text of [`HUGE_BYTES`], a piece at a time.
struct Huge {
    left: usize,
}

impl HttpBody for Huge {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        /// Enough for one write, small enough for any client to stop in between.
        static PIECE: [u8; 16_384] = [b'9'; 16_384];
        let piece = match self.left {
            0 => return Poll::Ready(None),
            // A text needs its quotes.
            1 | HUGE_BYTES => Bytes::from_static(b"\""),
            left => {
                let most = PIECE.len().min(left - 1);
                Bytes::from_static(PIECE.get(..most).unwrap_or(&PIECE))
            }
        };
        self.left -= piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left).unwrap_or(u64::MAX))
    }
}

/// A time as HTTP writes it in headers.
fn http_date(at: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at.as_seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_does() {
        let at = Timestamp::from_seconds(1_773_567_858);
        assert_eq!(
            RetryAfter::Date(at).to_string(),
            "Sun, 15 Mar 2026 09:44:18 GMT"
        );
        assert_eq!(
            http_date(Timestamp::from_seconds(0)),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    #[test]
    fn a_fault_hits_as_often_as_it_was_told_to() {
        let mut fault = Fault::status(503).times(2);
        assert_eq!([(); 3].map(|()| fault.hit()), [true, true, false]);
        let mut fault = Fault::silent();
        assert_eq!([(); 3].map(|()| fault.hit()), [true; 3]);
    }

    #[test]
    fn the_huge_body_is_one_json_text_of_the_length_it_claims() {
        let mut huge = Huge { left: HUGE_BYTES };
        assert_eq!(huge.size_hint().exact(), Some(100_000_000));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (mut bytes, mut first, mut last) = (0, None, None);
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut huge).poll_frame(&mut context) {
            let data = frame.into_data().unwrap();
            first = first.or(data.first().copied());
            last = data.last().copied();
            bytes += data.len();
        }
        assert_eq!((bytes, first, last), (HUGE_BYTES, Some(b'"'), Some(b'"')));
    }
}
