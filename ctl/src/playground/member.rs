//! One member of a playground: a process, what it says, and its end.

use crate::failure::Exit;
use crate::failure::Failure;
use crate::playground::folder::Folder;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a server says once it serves.
const READY: &str = "ready to serve client requests";
/// Lines of its log that are shown if it does not: so many of its beginning, and of its end.
const LINES_FIRST_MAX: usize = 3;
const LINES_LAST_MAX: usize = 7;

/// How far a member has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    Ended(String),
}

/// A member that was started.
#[derive(Debug)]
pub(super) struct Member {
    place: usize,
    client_port: u16,
    pid: u32,
    words: Vec<String>,
    stage: watch::Receiver<Stage>,
    lines: Arc<Mutex<VecDeque<String>>>,
}

/// The end of a member.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which one.
    pub(super) place: usize,
    /// In words.
    pub(super) how: String,
}

impl Member {
    /// Starts the member of this place, with further flags.
    ///
    /// # Errors
    ///
    /// That the program does not run, or the log cannot be written.
    pub(super) fn start(
        program: &Path,
        folder: &Folder,
        place: usize,
        flags: &[String],
    ) -> Result<Self, Failure> {
        let failed = |what: &Path, error: io::Error| {
            Failure::new(Exit::Error, format!("{}: {error}", what.display()))
        };
        let log = folder.path().join(format!("{}.log", name(place)));
        let file = File::options().append(true).create(true).open(&log);
        let file = file.map_err(|error| failed(&log, error))?;
        let arguments = arguments(folder, place, flags);
        let mut command = Command::new(program);
        command
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us, who then end it in order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(program, error))?;
        let pid = child.id().expect("it was not waited for");
        let stderr = child.stderr.take().expect("it is piped");
        let (tell, stage) = watch::channel(Stage::Starting);
        let lines = Arc::default();
        tokio::spawn(follow(child, stderr, file, tell, Arc::clone(&lines)));
        let words = [program.display().to_string()].into_iter().chain(arguments).collect();
        let (client_port, _) = folder.ports()[place];
        Ok(Self { place, client_port, pid, words, stage, lines })
    }

    pub(super) fn name(&self) -> String {
        name(self.place)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Where clients find it.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// What starts it again, for a shell.
    pub(super) fn command_line(&self) -> String {
        self.words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// Waits until it serves.
    ///
    /// # Errors
    ///
    /// That it does not.
    pub(super) async fn ready(&mut self, until: Instant) -> Result<(), String> {
        let has_begun = self.stage.wait_for(|stage| *stage != Stage::Starting);
        match tokio::time::timeout_at(until, has_begun).await {
            Err(_) => Err("it takes too long".to_owned()),
            Ok(stage) => match &*stage.expect("its end is told") {
                Stage::Ended(how) => Err(format!("it has ended {how}")),
                Stage::Starting | Stage::Serving => Ok(()),
            },
        }
    }

    /// Waits for its end.
    pub(super) fn ended(&self) -> impl Future<Output = Ended> + Send + use<> {
        let (place, mut stage) = (self.place, self.stage.clone());
        async move {
            let end = stage.wait_for(|stage| matches!(stage, Stage::Ended(_))).await;
            let how = match &*end.expect("its end is told") {
                Stage::Ended(how) => how.clone(),
                Stage::Starting | Stage::Serving => unreachable!("it was waited for"),
            };
            Ended { place, how }
        }
    }

    /// The first lines of its log, and the last.
    pub(super) fn log(&self) -> String {
        kept(&self.lines).iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// Asks it to end, as an init system does.
    pub(super) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // Once it was waited for, its number may be another's.
        if !matches!(&*self.stage.borrow(), Stage::Ended(_)) {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            // It may have ended just now.
            let _ = kill_process(pid.expect("a process has a number"), signal);
        }
    }
}

fn kept(lines: &Mutex<VecDeque<String>>) -> MutexGuard<'_, VecDeque<String>> {
    lines.lock().expect("nobody panics with the lock")
}

/// Writes what a member says to its log, and tells how far it has come.
async fn follow(
    mut child: Child,
    stderr: ChildStderr,
    mut log: File,
    tell: watch::Sender<Stage>,
    lines: Arc<Mutex<VecDeque<String>>>,
) {
    let mut said = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = said.next_segment().await {
        // A full disk is the member's to notice; nobody reads its log for its own sake.
        let _ = log.write_all(&[&line[..], b"\n"].concat());
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(READY) {
            tell.send_if_modified(|stage| {
                let is_new = *stage == Stage::Starting;
                if is_new {
                    *stage = Stage::Serving;
                }
                is_new
            });
        }
        let mut kept = kept(&lines);
        if kept.len() == LINES_FIRST_MAX + LINES_LAST_MAX {
            kept.remove(LINES_FIRST_MAX);
        }
        kept.push_back(line);
    }
    let how = match child.wait().await {
        Ok(status) => told(status),
        Err(error) => error.to_string(),
    };
    tell.send_replace(Stage::Ended(how));
}

/// How a process ended.
fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "in order".to_owned(),
        (Some(code), _) => format!("with code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn name(place: usize) -> String {
    format!("m{}", place + 1)
}

/// The flags with which the member of this place is started.
fn arguments(folder: &Folder, place: usize, flags: &[String]) -> Vec<String> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (client, peer) = folder.ports()[place];
    let (client, peer) = (url(client), url(peer));
    let all = folder.ports().iter().enumerate();
    let all = all.map(|(place, (_, peer))| format!("{}={}", name(place), url(*peer)));
    let all = all.collect::<Vec<_>>().join(",");
    let data: PathBuf = folder.path().join(name(place));
    let mut arguments = Vec::new();
    for (flag, value) in [
        ("--name", name(place)),
        ("--data-dir", data.display().to_string()),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", all),
        ("--initial-cluster-token", "playground".to_owned()),
    ] {
        arguments.extend([flag.to_owned(), value]);
    }
    // They share the machine.
    arguments.push("--pin=false".to_owned());
    arguments.extend(flags.iter().cloned());
    arguments
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=:/.,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_back() {
        assert_eq!(quoted("--name=m1"), "--name=m1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
