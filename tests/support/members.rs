//! The members of one cluster as processes, on free ports of the loopback.

use super::http1;
use super::network::Network;
use super::peers::under_test;
use super::process::{Lines, run, signal, wait};
use super::say;
use super::server::{PATIENCE, free_ports};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use tempfile::TempDir;

/// The flag with which each member has a second shard, which gets a port of its own.
pub(crate) const TWO_SHARDS: &str = "--shards=2";
/// What every harness around etcd waits for.
const READY: &str = "ready to serve client requests";
/// Starts with fresh ports that are tried before giving up.
const STARTS_MAX: usize = 3;

/// Where a member is found.
#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    /// Where the second shard's clients find it, if there is one.
    second: u16,
    /// Where it listens to peers.
    peer: u16,
    /// Where its peers find it: there, or at a relay in front.
    known: u16,
}

impl Ports {
    fn free() -> Self {
        let ((client, peer), (second, _)) = (free_ports(), free_ports());
        Self { client, second, peer, known: peer }
    }
}

/// The members of a cluster, killed and their directories removed when dropped.
pub(crate) struct Members {
    program: PathBuf,
    folder: TempDir,
    ports: Vec<Ports>,
    /// What lies between them, if it is the test's.
    network: Option<Network>,
    /// Data directories that are elsewhere, by member.
    homes: BTreeMap<usize, PathBuf>,
    /// How many founded the cluster; the others join it.
    founders: usize,
    /// Those that are no members any more.
    gone: Vec<usize>,
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
        Self::start_with(&under_test(), count, extra, None, &BTreeMap::new())
    }

    /// As [`Self::start`], of another program with the same flags.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub(crate) fn start_of(program: &Path, count: usize, extra: &[&str]) -> Self {
        Self::start_with(program, count, extra, None, &BTreeMap::new())
    }

    /// As [`Self::start_of`]; with a seed, behind relays that do what it says, and with some data
    /// directories elsewhere.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub(crate) fn start_with(
        program: &Path,
        count: usize,
        extra: &[&str],
        seed: Option<u64>,
        homes: &BTreeMap<usize, PathBuf>,
    ) -> Self {
        let mut failure = String::new();
        for _ in 0..STARTS_MAX {
            let mut ports: Vec<_> = (0..count).map(|_| Ports::free()).collect();
            let listening: Vec<_> = ports.iter().map(|ports| ports.peer).collect();
            let network = seed.map(|seed| Network::start(&listening, seed));
            for (ports, relay) in ports.iter_mut().zip(network.iter().flat_map(Network::ports)) {
                ports.known = *relay;
            }
            let mut members = Self {
                program: program.to_owned(),
                folder: TempDir::with_prefix_in("cluster-", env!("CARGO_TARGET_TMPDIR"))
                    .expect("the target folder can be written"),
                founders: count,
                gone: Vec::new(),
                ports,
                network,
                homes: homes.clone(),
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
        let ports = Ports::free();
        self.ports.push(ports);
        self.running.push(None);
        (self.ports.len() - 1, format!("http://127.0.0.1:{}", ports.known))
    }

    /// Starts one of them, or starts it again.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub(crate) fn restart(&mut self, nth: usize) {
        self.restart_these(&[nth]);
    }

    /// Starts one of them with further flags, once.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub(crate) fn restart_with(&mut self, nth: usize, extra: &[&str]) {
        let ready = self.launch_with(nth, extra);
        if let Err(log) = self.wait(nth, &ready) {
            panic!("member {nth} did not start with {extra:?}; its log ends:\n{log}");
        }
    }

    /// Starts one of them, and waits until it says something.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub(crate) fn restart_until(&mut self, nth: usize, said: &str) {
        self.restart_until_with(nth, &[], said);
    }

    /// As [`Self::restart_until`], with further flags, once.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub(crate) fn restart_until_with(&mut self, nth: usize, extra: &[&str], said: &str) {
        let _ready = self.launch_with(nth, extra);
        let (_, lines) = self.running[nth].as_ref().expect("it was launched");
        let is_said = |lines: &VecDeque<String>| lines.iter().any(|line| line.contains(said));
        assert!(lines.wait_until(PATIENCE, is_said), "{said:?} is never said:\n{}", lines.text());
    }

    /// Waits until one that was started is ready.
    ///
    /// # Panics
    ///
    /// If it does not become so.
    pub(crate) fn wait_until_ready(&self, nth: usize) {
        let (_, lines) = self.running[nth].as_ref().expect("it was launched");
        let is_ready = |lines: &VecDeque<String>| lines.iter().any(|line| line.contains(READY));
        assert!(lines.wait_until(PATIENCE, is_ready), "it is not ready:\n{}", lines.text());
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

    /// One is no member any more.
    pub(crate) fn leave(&mut self, nth: usize) {
        self.gone.push(nth);
    }

    /// Starts one that will not become ready.
    pub(crate) fn try_start(&mut self, nth: usize) {
        drop(self.launch(nth));
    }

    /// Ends one as a power button would.
    pub(crate) fn kill(&mut self, nth: usize) {
        let (mut child, _) = self.running[nth].take().expect("it runs");
        signal(&child, Signal::KILL);
        child.wait().expect("a child can be waited for");
    }

    /// Stops one where it is, as a machine that is overcommitted does, or lets it go on.
    pub(crate) fn signal(&self, nth: usize, which: Signal) {
        signal(&self.running[nth].as_ref().expect("it runs").0, which);
    }

    /// The number of a member's process.
    pub(crate) fn pid(&self, nth: usize) -> u32 {
        self.running[nth].as_ref().expect("it runs").0.id()
    }

    /// True if the process of a member has not ended by itself.
    pub(crate) fn is_running(&mut self, nth: usize) -> bool {
        let (child, _) = self.running[nth].as_mut().expect("it was started");
        child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for the end of one that ends by itself; whether it did well, and its log's end.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub(crate) fn ended(&mut self, nth: usize) -> (bool, String) {
        let (child, lines) = self.running[nth].take().expect("it runs");
        let status = wait(child, PATIENCE)
            .unwrap_or_else(|limit| panic!("it runs {limit:?} later:\n{}", lines.text()));
        (status.success(), lines.text_at_end())
    }

    /// What lies between the members.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the network is the test's")
    }

    /// Where clients find those that run.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let running = self.ports.iter().zip(&self.running).filter(|(_, it)| it.is_some());
        running.map(|(ports, _)| ports.client).collect()
    }

    /// Where the second shard's clients find those that run.
    pub(crate) fn second_ports(&self) -> Vec<u16> {
        let running = self.ports.iter().zip(&self.running).filter(|(_, it)| it.is_some());
        running.map(|(ports, _)| ports.second).collect()
    }

    /// Where clients find each of them, whether it runs or not.
    pub(crate) fn all_ports(&self) -> Vec<u16> {
        self.ports.iter().map(|ports| ports.client).collect()
    }

    /// The data directory of a member.
    pub(crate) fn data(&self, nth: usize) -> PathBuf {
        let own = || self.folder.path().join(format!("m{nth}"));
        self.homes.get(&nth).cloned().unwrap_or_else(own)
    }

    /// What a member's peer port answers for a path.
    pub(crate) fn page(&self, nth: usize, path: &str) -> String {
        http1::get(self.ports[nth].peer, path).expect("its peer port answers").body
    }

    /// A text with the members' ports taken out, to compare it with another cluster's.
    pub(crate) fn without_ports(&self, text: &str) -> String {
        let all = self.ports.iter().enumerate();
        all.fold(text.to_owned(), |text, (nth, ports)| {
            text.replace(&format!(":{}", ports.client), &format!(":CLIENT{nth}"))
                .replace(&format!(":{}", ports.known), &format!(":PEER{nth}"))
        })
    }

    /// `--initial-cluster` of all of them.
    pub(crate) fn initial(&self) -> String {
        let all = self.ports.iter().enumerate().filter(|(nth, _)| !self.gone.contains(nth));
        let all: Vec<_> =
            all.map(|(nth, ports)| format!("m{nth}=http://127.0.0.1:{}", ports.known)).collect();
        all.join(",")
    }

    /// The command that starts a member.
    pub(crate) fn command(&self, nth: usize, extra: &[&str]) -> Command {
        let ports = self.ports[nth];
        let [client, peer, known] =
            [ports.client, ports.peer, ports.known].map(|it| format!("http://127.0.0.1:{it}"));
        let mut command = Command::new(&self.program);
        command
            .current_dir(self.folder.path())
            .args(["--name", &format!("m{nth}"), "--data-dir"])
            .arg(self.data(nth))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &known])
            .args(["--initial-cluster", &self.initial()])
            .args(&self.extra);
        if self.extra.iter().any(|flag| flag == TWO_SHARDS) {
            command.arg(format!("--shard-client-urls=1=http://127.0.0.1:{}", ports.second));
        }
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
        self.launch_with(nth, &[])
    }

    fn launch_with(&mut self, nth: usize, extra: &[&str]) -> Receiver<()> {
        let mut child = self
            .command(nth, extra)
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
