//! A program that runs while the test talks with it, line by line.

use crate::RUN;
use crate::support::process::{Lines, signal, wait};
use rustix::process::Signal;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};

/// A child process, killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Option<Child>,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The last line that was taken.
    last: RefCell<Option<String>>,
    errors: Lines,
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let lines = follow(BufReader::new(child.stdout.take().expect("piped")));
        let (errors, _) = Lines::follow(child.stderr.take().expect("piped"), "");
        let input = child.stdin.take();
        let last = RefCell::default();
        Self { name, child: Some(child), input, lines, last, errors }
    }

    /// The next line that it writes on its standard output; none at its end.
    ///
    /// # Panics
    ///
    /// If there is none for too long.
    pub(crate) fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(RUN) {
            Ok(line) => {
                *self.last.borrow_mut() = Some(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let last = self.last.borrow();
                panic!("{}: silent for {RUN:?} after {last:?}\n{}", self.name, self.errors.text())
            }
        }
    }

    /// The next line, if it has written one.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub(crate) fn line_so_far(&self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                panic!("{} has ended\n{}", self.name, self.errors.text_at_end())
            }
        }
    }

    /// Sees that it writes these lines next.
    pub(crate) fn says(&self, expected: &[&str]) {
        for (nth, expected) in expected.iter().enumerate() {
            let line = self.next_line();
            let errors = self.errors.text();
            assert_eq!(line.as_deref(), Some(*expected), "{}, line {nth}: {errors}", self.name);
        }
    }

    /// Has it read a line.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is not closed");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, which: Signal) {
        signal(self.child.as_ref().expect("it was started"), which);
    }

    /// Waits for its end; how it ended, the lines that were not taken, and its last errors.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        drop(self.input.take());
        let mut rest = Vec::new();
        while let Some(line) = self.next_line() {
            rest.push(line);
        }
        let child = self.child.take().expect("it was started");
        let status = wait(child, RUN).unwrap_or_else(|limit| {
            panic!("{} was still running after {limit:?}\n{}", self.name, self.errors.text())
        });
        (status, rest, self.errors.text_at_end())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a pipe is read beside the test")]
fn follow(pipe: impl BufRead + Send + 'static) -> Receiver<String> {
    let (told, lines) = channel();
    drop(std::thread::spawn(move || {
        for line in pipe.split(b'\n').map_while(Result::ok) {
            if told.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    }));
    lines
}
