//! The members of one cluster as processes, on free ports of the loopback.

use crate::support::http1;
use crate::support::peers::under_test;
use crate::support::process::{Lines, run, signal, wait};
use crate::support::say;
use crate::support::server::{PATIENCE, free_ports};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use tempfile::TempDir;

/// What every harness around etcd waits for.
const READY: &str = "ready to serve client requests";
/// Starts with fresh ports that are tried before giving up.
const STARTS_MAX: usize = 3;

/// The members of a cluster, killed and their directories removed when dropped.
pub(crate) struct Members {
    folder: TempDir,
    ports: Vec<(u16, u16)>,
    /// How many founded the cluster; the others join it.
    founders: usize,
    extra: Vec<String>,
    running: Vec<Option<(Child, Lines)>>,
}

impl Members {
    /// Starts so many members that found a cluster.
    ///
    /// # Panics
    ///
    /// If they do not become ready.
    pub(crate) fn start(count: usize, extra: &[&str]) -> Self {
        let mut failure = String::new();
        for _ in 0..STARTS_MAX {
            let mut members = Self {
                folder: TempDir::with_prefix_in("cluster-", env!("CARGO_TARGET_TMPDIR"))
                    .expect("the target folder can be written"),
                founders: count,
                ports: (0..count).map(|_| free_ports()).collect(),
                extra: extra.iter().map(|&flag| flag.to_owned()).collect(),
                running: (0..count).map(|_| None).collect(),
            };
            match members.launch_all() {
                Ok(()) => return members,
                Err(log) => failure = log,
            }
        }
        panic!("the members did not become ready; a log ends:\n{failure}");
    }

    /// Starts all of them again, with further flags.
    ///
    /// # Panics
    ///
    /// If they do not become ready.
    pub(crate) fn restart_all_with(&mut self, extra: &[&str]) {
        self.extra.extend(extra.iter().map(|&flag| flag.to_owned()));
        if let Err(log) = self.launch_all() {
            panic!("the members did not start again; a log ends:\n{log}");
        }
    }

    /// One more that does not run yet; its number and the URL where its peers will find it.
    pub(crate) fn grow(&mut self) -> (usize, String) {
        let (client, peer) = free_ports();
        self.ports.push((client, peer));
        self.running.push(None);
        (self.ports.len() - 1, format!("http://127.0.0.1:{peer}"))
    }

    /// Starts one of them, or starts it again.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub(crate) fn restart(&mut self, nth: usize) {
        let ready = self.launch(nth);
        if let Err(log) = self.wait(nth, &ready) {
            panic!("member {nth} did not start again; its log ends:\n{log}");
        }
    }

    /// Starts these again; each may need the others.
    ///
    /// # Panics
    ///
    /// If one does not become ready.
    pub(crate) fn restart_these(&mut self, these: &[usize]) {
        let ready: Vec<_> = these.iter().map(|nth| self.launch(*nth)).collect();
        for (nth, ready) in these.iter().zip(&ready) {
            if let Err(log) = self.wait(*nth, ready) {
                panic!("member {nth} did not start again; its log ends:\n{log}");
            }
        }
    }

    /// Starts one that will not become ready.
    pub(crate) fn try_start(&mut self, nth: usize) {
        drop(self.launch(nth));
    }

    /// Waits until one has ended by itself; what it wrote last.
    ///
    /// # Panics
    ///
    /// If it goes on.
    pub(crate) fn end(&mut self, nth: usize) -> String {
        let (child, lines) = self.running[nth].take().expect("it runs");
        match wait(child, PATIENCE) {
            Ok(_) => lines.text(),
            Err(_) => panic!("member {nth} goes on; its log ends:\n{}", lines.text()),
        }
    }

    /// Ends one as a power button would.
    pub(crate) fn kill(&mut self, nth: usize) {
        let (mut child, _) = self.running[nth].take().expect("it runs");
        signal(&child, Signal::KILL);
        child.wait().expect("a child can be waited for");
    }

    /// Where clients find those that run.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let running = self.ports.iter().zip(&self.running).filter(|(_, it)| it.is_some());
        running.map(|((client, _), _)| *client).collect()
    }

    /// The data directory of a member.
    pub(crate) fn data(&self, nth: usize) -> PathBuf {
        self.folder.path().join(format!("m{nth}"))
    }

    /// What a member's peer port answers for a path.
    pub(crate) fn page(&self, nth: usize, path: &str) -> String {
        http1::get(self.ports[nth].1, path).expect("its peer port answers").body
    }

    /// `--initial-cluster` of all of them.
    pub(crate) fn initial(&self) -> String {
        let all = self.ports.iter().enumerate();
        let all: Vec<_> =
            all.map(|(nth, (_, peer))| format!("m{nth}=http://127.0.0.1:{peer}")).collect();
        all.join(",")
    }

    /// The command that starts a member.
    pub(crate) fn command(&self, nth: usize, extra: &[&str]) -> Command {
        let (client, peer) = self.ports[nth];
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(under_test());
        command
            .current_dir(self.folder.path())
            .args(["--name", &format!("m{nth}"), "--data-dir"])
            .arg(self.data(nth))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.initial()])
            .args(&self.extra);
        if nth >= self.founders {
            command.arg("--initial-cluster-state=existing");
        }
        command.args(extra);
        command
    }

    /// All that a member wrote which refused to start with these flags.
    ///
    /// # Panics
    ///
    /// If it did start, or ended otherwise than in order.
    pub(crate) fn refusal(&self, nth: usize, extra: &[&str]) -> String {
        let output = run(&mut self.command(nth, extra), PATIENCE)
            .unwrap_or_else(|why| panic!("it should refuse to start: {why}"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let code = output.status.code();
        assert!(code.is_some_and(|code| code != 0), "not in order, {}:\n{text}", output.status);
        assert!(!text.contains("panicked"), "it refuses in order:\n{text}");
        text
    }

    fn launch_all(&mut self) -> Result<(), String> {
        // None is ready before a majority is there.
        let ready: Vec<_> = (0..self.ports.len()).map(|nth| self.launch(nth)).collect();
        ready.iter().enumerate().try_for_each(|(nth, ready)| self.wait(nth, ready))
    }

    fn launch(&mut self, nth: usize) -> Receiver<()> {
        let mut child = self
            .command(nth, &[])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (lines, ready) = Lines::follow(child.stderr.take().expect("piped"), READY);
        self.running[nth] = Some((child, lines));
        ready
    }

    fn wait(&self, nth: usize, ready: &Receiver<()>) -> Result<(), String> {
        let (_, lines) = self.running[nth].as_ref().expect("it was launched");
        ready.recv_timeout(PATIENCE).map_err(|_| lines.text())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for (nth, member) in self.running.iter_mut().enumerate() {
            let Some((mut child, lines)) = member.take() else { continue };
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                say(format_args!("the log of member {nth} ends:\n{}", lines.text()));
            }
        }
    }
}
