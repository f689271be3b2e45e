//! A server under test: started on a fresh directory, accounted for, and always ended.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{self, Clock};
use crate::failure::Failure;
use crate::load::{self, End, Plan};
use crate::workload::{Shape, Workload};

/// How long a server may take to answer its first request.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a server may take to end after it was asked to.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Time between two looks at another process.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 8;

/// Processes and directories to be gone when this process is, even if it panics.
static LIVE: Mutex<Vec<(u32, Option<PathBuf>)>> = Mutex::new(Vec::new());

fn live() -> std::sync::MutexGuard<'static, Vec<(u32, Option<PathBuf>)>> {
    LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes a panic end the child processes and remove their directories.
pub(crate) fn clean_up_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        if let Ok(mut live) = LIVE.try_lock() {
            for (pid, dir) in live.drain(..) {
                send(pid, Signal::KILL);
                if let Some(dir) = dir {
                    let _ = fs::remove_dir_all(dir);
                }
            }
        }
    }));
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// A child process that is killed when this goes out of scope.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
    dir: Option<PathBuf>,
}

impl Guarded {
    /// Starts `command`; `dir` is removed after its end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(mut command: Command, dir: Option<PathBuf>) -> Result<Self, Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut live = live();
        let child = command.spawn().map_err(Failure::io(format!("start {name}")))?;
        live.push((child.id(), dir.clone()));
        Ok(Self { child, dir })
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it ended, and well or not.
    pub(crate) fn ended(&mut self) -> Option<bool> {
        self.child.try_wait().ok().flatten().map(|status| status.success())
    }

    /// Waits for its end, looking at `interrupt`; whether it ended well.
    ///
    /// # Errors
    /// When interrupted.
    pub(crate) fn wait(&mut self, interrupt: &AtomicBool) -> Result<bool, Failure> {
        loop {
            if let Some(success) = self.ended() {
                return Ok(success);
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            clock::pause(LOOK_INTERVAL);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let clock = Clock::start();
        send(self.id(), Signal::TERM);
        while self.ended().is_none() {
            if clock.now().0 > clock::nanos(STOP_TIME_MAX) {
                send(self.id(), Signal::KILL);
                let _ = self.child.wait();
                break;
            }
            clock::pause(LOOK_INTERVAL);
        }
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
        let id = self.id();
        live().retain(|(pid, _)| *pid != id);
    }
}

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The name in tables: `ringd` or `etcd`.
    pub(crate) name: &'static str,
    /// The program; its flags are etcd's.
    pub(crate) program: PathBuf,
    /// Further flags.
    pub(crate) flags: Vec<String>,
    /// Where data directories are made.
    pub(crate) base: PathBuf,
}

impl Recipe {
    /// The first line of the program's `--version`, or that there is none.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(&self.program).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        text.ok().and_then(|t| t.lines().next().map(str::to_owned)).unwrap_or("unknown".into())
    }

    /// The command line, without the program's folder.
    fn arguments(&self, dir: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "--data-dir",
            &dir.join("data").display().to_string(),
            "--listen-client-urls",
            &format!("http://{client}"),
            "--advertise-client-urls",
            &format!("http://{client}"),
            "--listen-peer-urls",
            &format!("http://{peer}"),
            "--log-level",
            "error",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(self.flags.iter().cloned());
        arguments
    }
}

/// What a process has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// User and system CPU time of all its threads.
    pub(crate) cpu: Duration,
    /// Memory resident now, in KiB.
    pub(crate) rss_kib: u64,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    process: Guarded,
    log: PathBuf,
    /// Where it serves clients.
    pub(crate) address: SocketAddr,
}

/// Makes names of directories differ within this process.
static STARTED: AtomicU64 = AtomicU64::new(0);

impl Server {
    /// Starts a server on a fresh directory and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, ends by itself, or does not answer in time; with its last words.
    pub(crate) fn start(recipe: &Recipe, interrupt: &AtomicBool) -> Result<Self, Failure> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = recipe.base.join(format!("{}-{}-{number}", recipe.name, std::process::id()));
        fs::create_dir_all(&dir).map_err(Failure::io(format!("create {}", dir.display())))?;
        let (client, peer) = (free_address()?, free_address()?);
        let log = dir.join("log");
        let file = || File::options().append(true).create(true).open(&log);
        let mut command = Command::new(&recipe.program);
        command
            .args(recipe.arguments(&dir, client, peer))
            .stdin(Stdio::null())
            .stdout(file().map_err(Failure::io("create the server's log"))?)
            .stderr(file().map_err(Failure::io("create the server's log"))?);
        let process = Guarded::start(command, Some(dir))?;
        let mut server = Self { process, log, address: client };
        server.wait_ready(recipe, interrupt)?;
        Ok(server)
    }

    fn wait_ready(&mut self, recipe: &Recipe, interrupt: &AtomicBool) -> Result<(), Failure> {
        let clock = Clock::start();
        let plan = probe(self.address);
        loop {
            let failure = match load::run(&plan, interrupt, &mut |_, _| {}) {
                Ok(measured) if measured.error_count() == 0 => return Ok(()),
                Ok(measured) => Failure::Server(measured.last_message.unwrap_or_default()),
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(failure) => failure,
            };
            let ended = self.process.ended().is_some();
            if ended || clock.now().0 > clock::nanos(START_TIME_MAX) {
                let what = if ended { "ended at once" } else { "did not answer in time" };
                return Err(Failure::Server(format!(
                    "{} {what} ({failure}); its last words:\n{}",
                    recipe.program.display(),
                    tail(&self.log)
                )));
            }
            clock::pause(LOOK_INTERVAL);
        }
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Adds what the server logged to a failure of its load; it logs errors only.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        let words = tail(&self.log);
        if matches!(failure, Failure::Interrupted) || words.is_empty() {
            return failure;
        }
        Failure::Server(format!("{failure}; the server's last words:\n{words}"))
    }

    /// What the server has used so far; nothing when it has ended.
    pub(crate) fn usage(&self) -> Usage {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{}/{name}", self.id())).unwrap_or_default()
        };
        let ticks = cpu_ticks(&read("stat")).unwrap_or(0);
        let rss_kib = field_kib(&read("status"), "VmRSS:").unwrap_or(0);
        let per_second = rustix::param::clock_ticks_per_second();
        Usage { cpu: Duration::from_nanos(ticks * 1_000_000_000 / per_second), rss_kib }
    }
}

/// One get of a key that is not there.
fn probe(address: SocketAddr) -> Plan {
    Plan {
        address,
        connections: 1,
        in_flight: 1,
        threads: 1,
        rate: None,
        end: End::Count(1),
        warm_up: Duration::ZERO,
        shape: Shape { workload: Workload::Get, keys: 1, key_size: 1, ..Shape::default() },
        samples: false,
    }
}

/// A port that nobody listens on at the moment.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::io("find a free port"))?;
    listener.local_addr().map_err(Failure::io("find a free port"))
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// User and system time from `/proc/PID/stat`, in clock ticks: the 14th and 15th field.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may itself contain spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A size in KiB from `/proc/PID/status` or `/proc/meminfo`.
pub(crate) fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 17 25 0 0 20 0 9 0 100";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn memory_is_found_by_name() {
        let status = "Name:\tetcd\nVmHWM:\t  90 kB\nVmRSS:\t   80 kB\n";
        assert_eq!(field_kib(status, "VmRSS:"), Some(80));
        assert_eq!(field_kib(status, "VmSwap:"), None);
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error_and_leaves_nothing() {
        let base = std::env::temp_dir().join(format!("ringd-perf-test-{}", std::process::id()));
        let (program, flags) = (PathBuf::from("false"), Vec::new());
        let recipe = Recipe { name: "ringd", program, flags, base: base.clone() };
        let failure = Server::start(&recipe, &AtomicBool::new(false)).expect_err("it ended");
        assert!(failure.to_string().contains("ended at once"), "{failure}");
        let left = fs::read_dir(&base).expect("the base remains").count();
        assert_eq!(left, 0);
        fs::remove_dir_all(&base).expect("it is ours");
    }
}
