//! One server process on free ports of the loopback and a data directory of its own.

use super::http1;
use super::process::{Lines, signal, wait};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tempfile::TempDir;

/// How long a start or a stop may take: a machine busy with other tests is slow, not wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Starts with fresh ports that are tried before giving up: between choosing a free port and
/// using it another process may take it.
const STARTS_MAX: usize = 3;

/// Times that a server is asked for its version until its storage has it.
const VERSIONS_MAX: usize = 5000;

/// What every harness around etcd waits for.
const READY: &str = "ready to serve client requests";

/// A server as a process, killed and its directory removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    extra: Vec<String>,
    folder: TempDir,
    /// Its data directory, where that is not in the folder.
    elsewhere: Option<PathBuf>,
    client_port: u16,
    peer_port: u16,
    running: Option<(Child, Lines)>,
}

impl Server {
    /// Starts a server with the flags that etcd and ringd share, on a fresh directory.
    ///
    /// # Panics
    ///
    /// If it does not become ready, with the last lines of its log.
    pub(crate) fn start(program: &Path) -> Self {
        Self::start_with(program, &[])
    }

    /// As [`Self::start`], with further flags.
    pub(crate) fn start_with(program: &Path, extra: &[&str]) -> Self {
        Self::start_at(program, None, extra)
    }

    /// As [`Self::start_with`], with a data directory that outlives the server.
    pub(crate) fn start_at(program: &Path, data: Option<PathBuf>, extra: &[&str]) -> Self {
        let mut server = Self {
            program: program.to_owned(),
            extra: extra.iter().map(|&flag| flag.to_owned()).collect(),
            folder: TempDir::with_prefix_in("server-", env!("CARGO_TARGET_TMPDIR"))
                .expect("the target folder can be written"),
            elsewhere: data,
            client_port: 0,
            peer_port: 0,
            running: None,
        };
        let mut failure = String::new();
        for _ in 0..STARTS_MAX {
            (server.client_port, server.peer_port) = free_ports();
            match server.launch() {
                Ok(()) => return server,
                Err(log) => failure = log,
            }
        }
        panic!("{} did not become ready; its log ends:\n{failure}", program.display());
    }

    /// Starts it again on the same ports and directory.
    ///
    /// # Panics
    ///
    /// If it runs already, or does not become ready.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "a server is started again after it has ended");
        if let Err(log) = self.launch() {
            panic!("{} did not start again; its log ends:\n{log}", self.program.display());
        }
    }

    /// As [`Self::restart`], with further flags from now on.
    pub(crate) fn restart_with(&mut self, extra: &[&str]) {
        self.extra.extend(extra.iter().map(|&flag| flag.to_owned()));
        self.restart();
    }

    /// Ends it as a power button would: nothing of it runs after this.
    pub(crate) fn kill(&mut self) {
        let (mut child, _) = self.running.take().expect("it runs");
        signal(&child, Signal::KILL);
        child.wait().expect("a child can be waited for");
    }

    /// Asks it to end, as an init system does.
    pub(crate) fn ask_to_end(&self) {
        signal(&self.running.as_ref().expect("it runs").0, Signal::TERM);
    }

    /// Waits for its end, for [`PATIENCE`] at most.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).0
    }

    /// Waits for its end; what it ended with, and the last lines of its log.
    ///
    /// # Panics
    ///
    /// If it does not end within `limit`.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> (ExitStatus, String) {
        let (child, lines) = self.running.take().expect("it runs");
        let status = wait(child, limit).unwrap_or_else(|limit| {
            panic!("still running {limit:?} after it was asked to end:\n{}", lines.text())
        });
        (status, lines.text_at_end())
    }

    /// True if the process has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        let (child, _) = self.running.as_mut().expect("it was started");
        child.try_wait().expect("a child can be waited for").is_none()
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").0.id()
    }

    /// Where clients find it.
    pub(crate) fn port(&self) -> u16 {
        self.client_port
    }

    /// Where clients find it, as `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.elsewhere.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |(_, lines)| lines.text())
    }

    /// As [`Self::log`], once it has ended, or after a while.
    pub(crate) fn log_at_end(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |(_, lines)| lines.text_at_end())
    }

    /// A text with this server's ports taken out, to compare it with another server's.
    pub(crate) fn without_ports(&self, text: &str) -> String {
        text.replace(&format!(":{}", self.client_port), ":CLIENT")
            .replace(&format!(":{}", self.peer_port), ":PEER")
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        command(&self.program, &self.data(), self.client_port, self.peer_port, &self.extra)
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut child = self
            .command()
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (lines, ready) = Lines::follow(child.stderr.take().expect("piped"), READY);
        let outcome = ready.recv_timeout(PATIENCE);
        self.running = Some((child, lines.clone()));
        let problem = match outcome {
            Ok(()) => match settled(self.client_port) {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            },
            Err(RecvTimeoutError::Timeout) => format!("no `{READY}` within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => format!("it ended without `{READY}`"),
        };
        self.kill();
        Err(format!("{}{problem}", lines.text()))
    }
}

/// Sees that a server is healthy, and waits until its storage has the cluster's version: etcd
/// raises it step by step just after it says that it is ready.
fn settled(port: u16) -> Result<(), String> {
    let health = http1::get(port, "/health")?;
    if health.status != 200 {
        return Err(format!("GET /health: {health:?}"));
    }
    let mut last = String::new();
    for _ in 0..VERSIONS_MAX {
        last = http1::get(port, "/version")?.body;
        if last.contains("\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"") {
            return Ok(());
        }
    }
    Err(format!("GET /version, {VERSIONS_MAX} times: {last}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut child, lines)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                super::say(format_args!(
                    "the log of {} ends:\n{}",
                    self.program.display(),
                    lines.text()
                ));
            }
        }
    }
}

/// The command that starts `program`, an etcd or a ringd, on these ports and this directory.
pub(crate) fn command(
    program: &Path,
    data: &Path,
    client_port: u16,
    peer_port: u16,
    extra: &[String],
) -> Command {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(program);
    command
        .args(["--name", "one", "--data-dir"])
        .arg(data)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .args(extra);
    command
}

/// Ports that tests of this process were given. None is given twice: the port of a server that was
/// killed is where its cluster looks for it still, and would find another test's.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A listener on a port of the loopback that no test of this process was given before.
pub(crate) fn listen() -> TcpListener {
    let bound = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    let mut given = GIVEN.lock().expect("none panics with it");
    let mut all = std::iter::repeat_with(bound);
    all.find(|it| given.insert(port_of(it))).expect("there is no end of them")
}

/// Two ports of the loopback that nobody listens on just now, and no test of this process was given
/// before.
pub(crate) fn free_ports() -> (u16, u16) {
    let (a, b) = (listen(), listen());
    (port_of(&a), port_of(&b))
}

/// Where a listener is.
pub(crate) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it is bound").port()
}
