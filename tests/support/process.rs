//! Child processes that cannot outstay their welcome.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Lines of a child's standard error that are kept for the message of a failed test.
const LINES_KEPT_MAX: usize = 30;

/// Sends a child a signal.
///
/// # Panics
///
/// If it is not there any more.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a child that was not reaped has its pid");
}

/// Runs a command to its end, for `limit` at most.
///
/// # Errors
///
/// What it had written until then, if it was still running at the limit; it is killed then.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Output, String> {
    run_with_input(command, "", limit)
}

/// As [`run`], with something to read, which is no more than a pipe holds.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_with_input(
    command: &mut Command,
    input: &str,
    limit: Duration,
) -> Result<Output, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?} does not start: {error}"))?;
    // It may have ended before it reads.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let ended = wait(child, limit);
    let (stdout, stderr) = (collect(&stdout), collect(&stderr));
    match ended {
        Ok(status) => Ok(Output { status, stdout, stderr }),
        Err(limit) => Err(format!(
            "{command:?} was still running after {limit:?}\n{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        )),
    }
}

/// Waits for a child's end, for `limit` at most; kills it then.
///
/// # Errors
///
/// The limit, if it passed.
pub(crate) fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus, Duration> {
    let pid = Pid::from_child(&child);
    let (told, ended) = channel();
    spawn(move || told.send(child.wait().expect("a child can be waited for")));
    match ended.recv_timeout(limit) {
        Ok(status) => Ok(status),
        Err(RecvTimeoutError::Timeout) => {
            // Its thread has not reaped it, or would have told: the pid is still its own, but
            // for the instant between the two.
            let _ = kill_process(pid, Signal::KILL);
            let _ = ended.recv();
            Err(limit)
        }
        Err(RecvTimeoutError::Disconnected) => unreachable!("the thread tells before it ends"),
    }
}

/// Reads all of a pipe on a thread of its own, so that the child never waits for its reader.
fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (told, read) = channel();
    spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        told.send(all)
    });
    read
}

/// What [`drain`] read; nothing, if a grandchild keeps the pipe open for longer than is bearable.
fn collect(pipe: &Receiver<Vec<u8>>) -> Vec<u8> {
    pipe.recv_timeout(Duration::from_secs(5)).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a pipe or a child is waited for beside the test")]
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) {
    drop(std::thread::spawn(work));
}

/// The last lines that a running child has written, and when one of them was awaited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<(Mutex<Kept>, Condvar)>);

/// What was read of a pipe.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    is_end: bool,
}

impl Lines {
    /// Follows a pipe; the second is told once, when a line holds `awaited`, and closed at the end.
    pub(crate) fn follow(
        pipe: impl Read + Send + 'static,
        awaited: &'static str,
    ) -> (Self, Receiver<()>) {
        let lines = Self::default();
        let (told, found) = channel();
        let kept = lines.clone();
        spawn(move || {
            let mut told = Some(told);
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let is_awaited = line.contains(awaited);
                let mut now = kept.kept();
                if now.lines.len() == LINES_KEPT_MAX {
                    now.lines.pop_front();
                }
                now.lines.push_back(line);
                drop(now);
                kept.0.1.notify_all();
                if is_awaited && let Some(told) = told.take() {
                    let _ = told.send(());
                }
            }
            kept.kept().is_end = true;
            kept.0.1.notify_all();
        });
        (lines, found)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.0.lock().expect("no thread panics with the lock")
    }

    /// What was kept, as one text.
    pub(crate) fn text(&self) -> String {
        self.kept().lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// Waits until what was kept is enough, for `limit` at most, or until the child has closed its
    /// pipe; whether it is.
    pub(crate) fn wait_until(
        &self,
        limit: Duration,
        is_enough: impl Fn(&VecDeque<String>) -> bool,
    ) -> bool {
        let to_wait = |kept: &mut Kept| !kept.is_end && !is_enough(&kept.lines);
        let kept = self.0.1.wait_timeout_while(self.kept(), limit, to_wait);
        is_enough(&kept.expect("no thread panics with the lock").0.lines)
    }

    /// As [`Self::text`], once the child has closed its pipe, or after a while.
    pub(crate) fn text_at_end(&self) -> String {
        let limit = Duration::from_secs(5);
        let end = self.0.1.wait_timeout_while(self.kept(), limit, |kept| !kept.is_end);
        drop(end.expect("no thread panics with the lock"));
        self.text()
    }
}
