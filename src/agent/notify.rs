//! What the service manager is told (sd_notify(3)): that the agent is ready, how it is, and that the detector is alive.
//!
//! One datagram each to the socket in `NOTIFY_SOCKET`, a path or an abstract name; without that variable nothing is told.
//! Sending never waits: a manager that does not read loses a status, not a second of detection. Called by the
//! housekeeping thread and, around a reload and at the end, by the main thread; never by a thread that packets wait for.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// Where the service manager listens, and how often it wants to hear of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifySettings {
    /// The socket's path, or its abstract name behind an `@`; nobody listens without.
    pub socket: Option<OsString>,
    /// The agent is restarted when it is not heard of for so long.
    pub watchdog: Option<Duration>,
}

impl NotifySettings {
    /// What the service manager left in the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut micros = 0;
        let watched = sd_notify::watchdog_enabled(false, &mut micros);
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog: (watched && micros > 0).then(|| Duration::from_micros(micros)),
        }
    }
}

/// Why the service manager cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell the service manager at {}: {source}", socket.display())]
pub struct NotifyError {
    /// Its socket.
    pub socket: OsString,
    /// What the system says.
    pub source: io::Error,
}

/// Tells the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier(Option<Line>);

#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    to: SocketAddr,
    name: OsString,
}

impl Notifier {
    /// A notifier for the socket in `settings`.
    ///
    /// # Errors
    ///
    /// When that is neither a path nor an abstract name, or the system gives us no socket.
    pub fn new(settings: &NotifySettings) -> Result<Self, NotifyError> {
        let Some(name) = &settings.socket else {
            return Ok(Self(None));
        };
        let line = connect(name).map_err(|source| NotifyError {
            socket: name.clone(),
            source,
        })?;
        Ok(Self(Some(line)))
    }

    /// A notifier that tells nobody.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Packets are watched.
    ///
    /// # Errors
    ///
    /// [`NotifyError`], as for all of these: nobody listens there, or the queue is full. What the service manager waits
    /// for is to be told again.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.tell(&[NotifyState::Ready])
    }

    /// How the agent is, in one line.
    ///
    /// # Errors
    ///
    /// See [`Notifier::ready`].
    pub fn status(&self, line: &str) -> Result<(), NotifyError> {
        self.tell(&[NotifyState::Status(line)])
    }

    /// The detector is alive.
    ///
    /// # Errors
    ///
    /// See [`Notifier::ready`].
    pub fn alive(&self) -> Result<(), NotifyError> {
        self.tell(&[NotifyState::Watchdog])
    }

    /// The configuration is read again; [`Notifier::ready`] ends that.
    ///
    /// # Errors
    ///
    /// See [`Notifier::ready`].
    pub fn reloading(&self) -> Result<(), NotifyError> {
        // Without a clock there is no reload for systemd to follow; it has one wherever this program runs.
        let Ok(since) = NotifyState::monotonic_usec_now() else {
            return Ok(());
        };
        self.tell(&[NotifyState::Reloading, since])
    }

    /// The agent is about to end.
    ///
    /// # Errors
    ///
    /// See [`Notifier::ready`].
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.tell(&[NotifyState::Stopping])
    }

    fn tell(&self, states: &[NotifyState<'_>]) -> Result<(), NotifyError> {
        let Some(line) = &self.0 else { return Ok(()) };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        // Looked up each time: a manager that was started again listens at the same name.
        match line.socket.send_to_addr(message.as_bytes(), &line.to) {
            Ok(_) => Ok(()),
            Err(source) => Err(NotifyError {
                socket: line.name.clone(),
                source,
            }),
        }
    }
}

fn connect(name: &OsString) -> io::Result<Line> {
    let to = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "expected a path or an abstract name that begins with '@' in NOTIFY_SOCKET",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(Line {
        socket,
        to,
        name: name.clone(),
    })
}

/// Decides when the service manager hears that the detector is alive: at half the time after which it would restart us,
/// and only if the detector has judged a window since it last heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watchdog {
    interval: Duration,
    told_at: Option<Duration>,
    beats: u64,
}

impl Watchdog {
    /// A watchdog for a manager that waits for `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            interval: patience / 2,
            told_at: None,
            beats: 0,
        }
    }

    /// How long it can be left alone.
    pub(super) const fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether to say so at `now` of a steady clock, when the detector has judged `beats` windows since the start.
    pub(super) fn is_due(&mut self, now: Duration, beats: u64) -> bool {
        let waited = self
            .told_at
            .is_none_or(|told_at| now.saturating_sub(told_at) >= self.interval);
        if !waited || beats == self.beats {
            return false;
        }
        self.told_at = Some(now);
        self.beats = beats;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager {
        socket: UnixDatagram,
        settings: NotifySettings,
        path: Option<std::path::PathBuf>,
    }

    impl Manager {
        fn at_path(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("ftagent-test-{}-{name}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self {
                socket: UnixDatagram::bind(&path).unwrap(),
                settings: NotifySettings {
                    socket: Some(path.clone().into_os_string()),
                    watchdog: None,
                },
                path: Some(path),
            }
        }

        fn abstractly(name: &str) -> Self {
            let name = format!("ftagent-test-{}-{name}", std::process::id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            Self {
                socket: UnixDatagram::bind_addr(&address).unwrap(),
                settings: NotifySettings {
                    socket: Some(format!("@{name}").into()),
                    watchdog: None,
                },
                path: None,
            }
        }

        fn heard(&self) -> String {
            let timeout = Some(Duration::from_secs(5));
            self.socket.set_read_timeout(timeout).unwrap();
            let mut message = [0; 512];
            let length = self.socket.recv(&mut message).unwrap();
            String::from_utf8_lossy(&message[..length]).into_owned()
        }
    }

    impl Drop for Manager {
        fn drop(&mut self) {
            if let Some(path) = &self.path {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    #[test]
    fn a_manager_hears_everything_by_path_and_by_abstract_name() {
        for manager in [Manager::at_path("all"), Manager::abstractly("all")] {
            let notifier = Notifier::new(&manager.settings).unwrap();
            notifier.ready().unwrap();
            assert_eq!(manager.heard(), "READY=1\n");
            notifier.status("12 packets/s").unwrap();
            assert_eq!(manager.heard(), "STATUS=12 packets/s\n");
            notifier.alive().unwrap();
            assert_eq!(manager.heard(), "WATCHDOG=1\n");
            notifier.stopping().unwrap();
            assert_eq!(manager.heard(), "STOPPING=1\n");
            notifier.reloading().unwrap();
            let reloading = manager.heard();
            let since = reloading
                .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
                .and_then(|rest| rest.trim_end().parse::<u64>().ok());
            assert!(since.is_some_and(|micros| micros > 0), "{reloading}");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_told_and_nothing_fails() {
        let notifier = Notifier::new(&NotifySettings::default()).unwrap();
        notifier.ready().unwrap();
        notifier.status("all is well").unwrap();
        Notifier::nobody().stopping().unwrap();
    }

    #[test]
    fn a_manager_that_is_gone_or_does_not_read_is_an_error_at_once() {
        let manager = Manager::at_path("gone");
        let notifier = Notifier::new(&manager.settings).unwrap();
        let mut told = 0;
        // The kernel keeps a handful of datagrams; a sender that may wait would stand still here.
        while notifier.alive().is_ok() && told < 100_000 {
            told += 1;
        }
        assert!((1..100_000).contains(&told), "{told}");
        drop(manager);
        let error = notifier.ready().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot tell the service manager at /"),
            "{error}"
        );
    }

    #[test]
    fn a_socket_that_is_neither_path_nor_name_is_refused_with_what_was_expected() {
        let settings = NotifySettings {
            socket: Some("vsock:2:1234".into()),
            watchdog: None,
        };
        let error = Notifier::new(&settings).unwrap_err().to_string();
        assert!(
            error.contains("vsock:2:1234") && error.contains("expected a path"),
            "{error}"
        );
    }

    #[test]
    fn a_detector_that_stands_still_is_not_called_alive() {
        let mut watchdog = Watchdog::new(Duration::from_secs(30));
        let mut told = Vec::new();
        let mut beats = 0;
        for second in 0..200 {
            // It stands still from 60 to 120.
            beats += if (60..120).contains(&second) { 0 } else { 20 };
            if watchdog.is_due(Duration::from_secs(second), beats) {
                told.push(second);
            }
        }
        assert_eq!(
            told,
            [0, 15, 30, 45, 60, 120, 135, 150, 165, 180, 195],
            "the windows judged before 60 are told then, and nothing until it moves again"
        );
    }

    #[test]
    fn a_detector_that_never_began_is_not_called_alive() {
        let mut watchdog = Watchdog::new(Duration::from_secs(1));
        assert!(!watchdog.is_due(Duration::from_secs(10), 0));
        assert!(watchdog.is_due(Duration::from_secs(11), 1));
    }
}
