//! Processes that cannot outlive the test: every wait has a deadline, every guard kills what it started.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ftagent::clock;
use rustix::process::{Pid, Signal, kill_process};

/// How often a wait looks again: short beside every deadline here, long enough to cost nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A process that ended by itself.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

/// Runs `command` to its end. Panics when it cannot be started or is not done within `limit`.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Finished {
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let stdout = read_all(running.child.stdout.take());
    let stderr = read_all(running.child.stderr.take());
    let status = running.wait(limit);
    Finished {
        code: status.code(),
        stdout: joined(stdout),
        stderr: joined(stderr),
    }
}

/// Runs `command` to its end and panics unless it succeeds.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> String {
    let done = finish(command, limit);
    assert_eq!(
        done.code,
        Some(0),
        "{command:?} failed: {}{}",
        done.stdout,
        done.stderr
    );
    done.stdout
}

/// Whether `condition` came true within `limit`.
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = clock::monotonic();
    while !condition() {
        if start.elapsed() >= limit {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
    true
}

/// A process that runs beside the test and is killed when this value goes.
#[derive(Debug)]
pub(crate) struct Running {
    /// The process, with whatever pipes nobody took yet.
    pub(crate) child: Child,
    what: String,
}

impl Running {
    /// Starts `command` without a terminal.
    pub(crate) fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Self { child, what }
    }

    /// Starts `command` and throws its output away.
    pub(crate) fn quietly(command: &mut Command) -> Self {
        Self::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("the state of a child can be asked for")
    }

    /// Waits for its end; panics after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        assert!(
            until(limit, || self.ended().is_some()),
            "{}: still running after {limit:?}",
            self.what
        );
        self.child.wait().expect("an ended child can be waited for")
    }

    /// Sends `signal` and waits for the end; panics after `limit`.
    pub(crate) fn stop(&mut self, signal: Signal, limit: Duration) -> ExitStatus {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a child has a positive id");
        if self.ended().is_none() {
            kill_process(pid, signal).expect("a signal can be sent to a child");
        }
        self.wait(limit)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines a process has written so far, read on a thread that ends with the pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Reads `pipe` from now on; `seen` is called with each line as it arrives.
    pub(crate) fn follow(
        pipe: impl Read + Send + 'static,
        mut seen: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                seen(&line);
                kept.locked().push(line);
            }
        });
        lines
    }

    /// Whether a line contains `text`.
    pub(crate) fn contain(&self, text: &str) -> bool {
        self.locked().iter().any(|line| line.contains(text))
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> String {
        self.locked().join("\n")
    }

    fn locked(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory that is removed with everything in it when this value goes.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new empty directory that other users may enter.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ftagent-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        Self(path)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, written.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a scratch file can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut pipe = pipe.expect("the pipe was asked for");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn joined(reader: JoinHandle<String>) -> String {
    reader.join().expect("reading a pipe does not panic")
}
