//! Connections that can be slow, break off, or be refused: the platform's side of TCP.
//!
//! [`Door`] accepts connections while the platform is to be reachable; [`Wire`] is one of them, and does with what is
//! written to it what its [`Line`] says. On the platform's thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Sleep;

/// How a connection ends that breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Reset,
    Fin,
}

/// How what is written goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pace {
    #[default]
    Straight,
    /// So many bytes a second, once this head is over.
    Slow { head: Head, bytes_per_second: u32 },
    /// Not at all after so many bytes of a body.
    Broken {
        head: Head,
        body_bytes: u64,
        ending: Ending,
    },
}

/// The empty line that ends a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A head on its way: how much of the empty line that ends it has gone out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head(usize);

impl Head {
    /// One that is over.
    pub(super) const OVER: Self = Self(HEAD_END.len());

    /// Whether this byte is one of its own.
    fn takes(&mut self, byte: u8) -> bool {
        let Some(expected) = HEAD_END.get(self.0) else {
            return false;
        };
        self.0 = if byte == *expected {
            self.0 + 1
        } else {
            usize::from(HEAD_END.first() == Some(&byte))
        };
        true
    }
}

impl Pace {
    pub(super) fn broken_after(body_bytes: u64, ending: Ending) -> Self {
        Self::Broken {
            head: Head::default(),
            body_bytes,
            ending,
        }
    }

    /// The connection is reset before another byte.
    pub(super) const fn broken_at_once() -> Self {
        Self::Broken {
            head: Head::OVER,
            body_bytes: 0,
            ending: Ending::Reset,
        }
    }

    /// How many of these bytes may go out at once, and how long to wait then.
    fn allowance(&self, bytes: &[u8]) -> (usize, Duration) {
        match *self {
            Self::Straight => (bytes.len(), Duration::ZERO),
            Self::Slow {
                mut head,
                bytes_per_second,
            } => {
                let of_head = bytes.iter().take_while(|byte| head.takes(**byte)).count();
                if of_head > 0 {
                    return (of_head, Duration::ZERO);
                }
                // Ten times a second, or a byte at a time.
                let piece = (bytes_per_second / 10).max(1);
                let pause = Duration::from_secs(1) * piece / bytes_per_second.max(1);
                let piece = usize::try_from(piece).unwrap_or(usize::MAX);
                (bytes.len().min(piece), pause)
            }
            Self::Broken { .. } => {
                let mut rest = *self;
                let out = bytes.iter().take_while(|byte| rest.pass(**byte)).count();
                (out, Duration::ZERO)
            }
        }
    }

    /// Takes note of bytes that went out.
    fn passed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pass(*byte);
        }
    }

    /// Whether this byte goes out before the connection breaks off.
    fn pass(&mut self, byte: u8) -> bool {
        match self {
            Self::Straight => true,
            Self::Slow { head, .. } => {
                head.takes(byte);
                true
            }
            Self::Broken {
                head, body_bytes, ..
            } => {
                if head.takes(byte) {
                    return true;
                }
                let passes = *body_bytes > 0;
                *body_bytes = body_bytes.saturating_sub(1);
                passes
            }
        }
    }
}

/// What the platform's answers know of the connection they go out on.
pub(super) struct Line {
    /// Connections are counted from 1.
    pub(super) number: u64,
    pace: Mutex<Pace>,
}

impl Line {
    fn new(number: u64) -> Self {
        Self {
            number,
            pace: Mutex::new(Pace::Straight),
        }
    }

    /// From the next byte on.
    pub(super) fn set(&self, pace: Pace) {
        *self.pace() = pace;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same, as the server hands it to a request.
#[derive(Clone)]
pub(super) struct Caller(pub(super) Arc<Line>);

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.0.number)
    }
}

impl Connected<IncomingStream<'_, Door>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let (out, pause) = self.line.pace().allowance(bytes);
        if out == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let piece = bytes.get(..out).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, piece))?;
        self.line
            .pace()
            .passed(piece.get(..written).unwrap_or(piece));
        if !pause.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.resets() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Wire {
    fn resets(&self) -> bool {
        let pace = *self.line.pace();
        matches!(
            pace,
            Pace::Broken {
                ending: Ending::Reset,
                ..
            }
        )
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.resets() {
            // What cannot be reset is closed.
            let _ = self.stream.set_zero_linger();
        }
    }
}

/// How long to wait before another try when the system gives no socket.
const AGAIN: Duration = Duration::from_millis(50);

/// Accepts connections while it is open. While it is closed, connecting is refused, as by a host without a server.
pub(super) struct Door {
    address: SocketAddr,
    listener: Option<TcpListener>,
    open: watch::Receiver<bool>,
    accepted: u64,
}

impl Door {
    /// A door at an address that is bound already.
    pub(super) fn new(
        listener: std::net::TcpListener,
        open: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(TcpListener::from_std(listener)?),
            open,
            accepted: 0,
        })
    }
}

impl Listener for Door {
    type Io = Wire;
    type Addr = Caller;

    async fn accept(&mut self) -> (Wire, Caller) {
        loop {
            if !*self.open.borrow_and_update() {
                self.listener = None;
                if self.open.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => match TcpListener::bind(self.address).await {
                    Ok(listener) => listener,
                    Err(_) => {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => Some(accepted),
                _ = self.open.changed() => None,
            };
            self.listener = Some(listener);
            match accepted {
                Some(Ok((stream, _))) => {
                    // Each byte of a slow answer shall go out by itself.
                    let _ = stream.set_nodelay(true);
                    self.accepted += 1;
                    let line = Arc::new(Line::new(self.accepted));
                    let wire = Wire {
                        stream,
                        line: Arc::clone(&line),
                        pause: None,
                    };
                    return (wire, Caller(line));
                }
                Some(Err(_)) => tokio::time::sleep(AGAIN).await,
                None => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        // No connection stands for the door itself.
        Ok(Caller(Arc::new(Line::new(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_takes_its_second_whatever_its_rate() {
        for (bytes_per_second, piece, millis) in
            [(1, 1, 1_000), (7, 1, 142), (10, 1, 100), (500, 50, 100)]
        {
            let pace = Pace::Slow {
                head: Head::OVER,
                bytes_per_second,
            };
            let (out, pause) = pace.allowance(&[0; 1_000]);
            assert_eq!(
                (out, pause.as_millis()),
                (piece, millis),
                "{bytes_per_second}"
            );
        }
    }

    #[test]
    fn a_slow_body_comes_behind_a_head_that_is_not() {
        let mut pace = Pace::Slow {
            head: Head::default(),
            bytes_per_second: 1,
        };
        let answer = b"HTTP/1.1 401 No\r\n\r\n12345678";
        let (head, pause) = pace.allowance(answer);
        assert_eq!((head, pause), (answer.len() - 8, Duration::ZERO));
        pace.passed(&answer[..head]);
        let second = Duration::from_secs(1);
        assert_eq!(pace.allowance(&answer[head..]), (1, second));
    }

    #[test]
    fn a_line_breaks_after_so_much_of_the_body_however_it_is_written() {
        let answer = b"HTTP/1.1 200 OK\r\nx: \r\r\n\r\n12345678";
        let whole = answer.len() - 8 + 3;
        for piece in [1, 2, 3, 5, answer.len()] {
            let mut pace = Pace::broken_after(3, Ending::Fin);
            let mut out = 0;
            for bytes in answer.chunks(piece) {
                let (some, pause) = pace.allowance(bytes);
                assert!(pause.is_zero());
                pace.passed(&bytes[..some]);
                out += some;
                if some < bytes.len() {
                    break;
                }
            }
            assert_eq!(out, whole, "in pieces of {piece}");
        }
    }
}
