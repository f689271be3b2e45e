//! Commands that do not end by themselves.

use crate::RUN;
use crate::pair::Side;
use crate::support::process::{Lines, signal, wait};
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

/// A command that runs, and what it has printed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Option<Child>,
    lines: Lines,
}

impl Running {
    /// Starts a command, writes lines to it, and waits until it has printed one with `awaited`.
    ///
    /// # Panics
    ///
    /// If it does not print that.
    pub(crate) fn start(command: Command, input: &str, awaited: &'static str) -> Self {
        Self::start_until(command, input, (awaited, 0))
    }

    /// As [`Self::start`], and until it has printed so many lines more.
    pub(crate) fn start_until(
        mut command: Command,
        input: &str,
        (awaited, more): (&'static str, usize),
    ) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = piped.spawn().expect("it starts");
        let (lines, _) = Lines::follow(child.stdout.take().expect("piped"), awaited);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        child.stdin = Some(stdin);
        let is_told = lines.wait_until(RUN, |lines| {
            let at = lines.iter().position(|line| line.contains(awaited));
            at.is_some_and(|at| lines.len() > at + more)
        });
        let running = Self { child: Some(child), lines };
        assert!(is_told, "{command:?} has not printed {awaited}, but:\n{}", running.printed());
        running
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        self.lines.text()
    }

    /// Interrupts it, as at a terminal; its exit code, or the signal that ended it, below zero, and
    /// all that it printed.
    pub(crate) fn interrupt(mut self) -> (i32, String) {
        let mut child = self.child.take().expect("it runs");
        // A terminal stays open: etcdctl may see the end of its input before the signal.
        let _terminal = child.stdin.take();
        signal(&child, Signal::INT);
        self.ended(child)
    }

    /// Waits for its end; as [`Self::interrupt`].
    pub(crate) fn end(mut self) -> (i32, String) {
        let child = self.child.take().expect("it runs");
        self.ended(child)
    }

    fn ended(&self, child: Child) -> (i32, String) {
        let status = wait(child, RUN).unwrap_or_else(|limit| panic!("not ended within {limit:?}"));
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        (code, self.lines.text_at_end())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command on each side until it has printed a line with what is awaited and so many more,
/// its last, interrupts it, and compares.
pub(crate) fn same(
    sides: [&Side; 2],
    arguments: &[&str],
    input: &str,
    awaited: (&'static str, usize),
) {
    let [theirs, ours] = sides.map(|side| {
        let running = Running::start_until(side.command(arguments), input, awaited);
        let (code, printed) = running.interrupt();
        (code, side.plain(&printed))
    });
    assert_eq!(ours, theirs, "ringctl, then etcdctl: {arguments:?}");
}
