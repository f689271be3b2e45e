//! A server under test: started on a fresh directory, accounted for, and always ended.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::Advice;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Caller;
use crate::clock::{self, Clock};
use crate::failure::Failure;

/// How long a server on a fresh directory may take to answer its first request.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// The same for one that has data; beyond this nobody waits.
const RESTART_TIME_MAX: Duration = Duration::from_secs(600);

/// How long one of those requests waits before it is asked anew.
const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Time between two requests to a server that does not answer yet: how exact its start is timed.
const READY_INTERVAL: Duration = Duration::from_millis(2);

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

    /// Starts `command` in the place of the process, which has ended.
    ///
    /// # Errors
    /// When the program cannot be started.
    fn replace(&mut self, mut command: Command) -> Result<(), Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut live = live();
        self.child = command.spawn().map_err(Failure::io(format!("start {name}")))?;
        live.push((self.child.id(), self.dir.clone()));
        Ok(())
    }

    /// Kills the process, as a crash would.
    fn kill(&mut self) {
        let id = self.id();
        // Neither fails unless it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        live().retain(|(pid, _)| *pid != id);
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
        if self.ended().is_none() {
            send(self.id(), Signal::TERM);
        }
        while self.ended().is_none() {
            if clock.now().0 > clock::nanos(STOP_TIME_MAX) {
                self.kill();
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
            &data_dir(dir).display().to_string(),
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
    /// What of that is no file's, in KiB.
    pub(crate) anonymous_kib: u64,
    /// The most that was resident since [`Subject::forget_peak`], in KiB.
    pub(crate) peak_kib: u64,
}

impl Usage {
    /// Resident memory in MiB.
    pub(crate) fn rss_mib(&self) -> f64 {
        self.rss_kib as f64 / 1024.0
    }
}

/// A process and its directory, to be looked at from anywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Subject {
    id: u32,
    dir: PathBuf,
}

impl Subject {
    /// This process, without a directory.
    #[cfg(test)]
    pub(crate) fn this() -> Self {
        Self { id: std::process::id(), dir: PathBuf::from("/nonexistent") }
    }

    /// What the process has used so far; nothing when it has ended.
    pub(crate) fn usage(&self) -> Usage {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        let ticks = cpu_ticks(&read("stat")).unwrap_or(0);
        let per_second = rustix::param::clock_ticks_per_second();
        let whole_ticks = Duration::from_nanos(ticks * 1_000_000_000 / per_second);
        let status = read("status");
        let kib = |name| field_kib(&status, name).unwrap_or(0);
        Usage {
            // The one is exact to a tick, the other to a nanosecond but without the threads that
            // have ended; neither says too much.
            cpu: whole_ticks.max(self.threads_cpu()),
            rss_kib: kib("VmRSS:"),
            anonymous_kib: kib("RssAnon:"),
            peak_kib: kib("VmHWM:"),
        }
    }

    /// CPU time of the threads that there are.
    fn threads_cpu(&self) -> Duration {
        let Ok(threads) = fs::read_dir(self.path("task")) else { return Duration::ZERO };
        let nanos = threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Makes the peak of resident memory start anew.
    pub(crate) fn forget_peak(&self) {
        // Where the kernel does not let us, the peak is that since the start: no less than due.
        let _ = fs::write(self.path("clear_refs"), "5");
    }

    /// Files, sockets and the like that the process has open.
    pub(crate) fn descriptors(&self) -> u64 {
        fs::read_dir(self.path("fd")).map_or(0, |entries| entries.count() as u64)
    }

    /// What the directory takes of the disk, in bytes.
    pub(crate) fn disk_use(&self) -> u64 {
        disk_use(&self.dir)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.id)
    }
}

/// What a directory takes of the disk, in bytes; what goes away meanwhile does not count.
fn disk_use(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => disk_use(&entry.path()),
        Ok(about) => about.blocks() * 512,
        Err(_) => 0,
    });
    each.sum()
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    process: Guarded,
    recipe: Recipe,
    /// Its own directory: the data and the log are in it.
    dir: PathBuf,
    log: PathBuf,
    /// Where it serves clients.
    pub(crate) address: SocketAddr,
    /// Where it would serve other members.
    peer: SocketAddr,
}

/// Makes names of directories differ within this process.
static STARTED: AtomicU64 = AtomicU64::new(0);

impl Server {
    /// Starts a server on a fresh directory and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, ends by itself, or does not answer in time; with its last words.
    pub(crate) fn start(recipe: &Recipe, interrupt: &AtomicBool) -> Result<Self, Failure> {
        let mut server = Self::launch(recipe, free_address()?, free_address()?)?;
        server.wait_ready(START_TIME_MAX, interrupt)?;
        Ok(server)
    }

    /// Starts a server on a fresh directory; it need not answer yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn launch(
        recipe: &Recipe,
        address: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Self, Failure> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = recipe.base.join(format!("{}-{}-{number}", recipe.name, std::process::id()));
        fs::create_dir_all(&dir).map_err(Failure::io(format!("create {}", dir.display())))?;
        let log = dir.join("log");
        let command = command(recipe, &dir, &log, address, peer)?;
        let process = Guarded::start(command, Some(dir.clone()))?;
        Ok(Self { process, recipe: recipe.clone(), dir, log, address, peer })
    }

    /// Waits until a server on a fresh directory answers.
    ///
    /// # Errors
    /// When it ends by itself or does not answer in time; with its last words.
    pub(crate) fn await_start(&mut self, interrupt: &AtomicBool) -> Result<(), Failure> {
        self.wait_ready(START_TIME_MAX, interrupt)
    }

    /// Kills the server, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts one that was killed on its directory again; it need not answer yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn resume(&mut self) -> Result<(), Failure> {
        self.process.replace(command(&self.recipe, &self.dir, &self.log, self.address, self.peer)?)
    }

    /// Kills the server, as a crash would, starts it on the same directory, and says how long it
    /// took from there to the first linearizable answer. If `cold`, its files are dropped from the
    /// page cache in between.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub(crate) fn restart(
        &mut self,
        cold: bool,
        interrupt: &AtomicBool,
    ) -> Result<Duration, Failure> {
        self.kill();
        if cold {
            drop_cached(&self.dir).map_err(Failure::io("drop the server's files from memory"))?;
        }
        let clock = Clock::start();
        self.resume()?;
        self.wait_ready(RESTART_TIME_MAX, interrupt)?;
        Ok(Duration::from_nanos(clock.now().0))
    }

    fn wait_ready(&mut self, patience: Duration, interrupt: &AtomicBool) -> Result<(), Failure> {
        let clock = Clock::start();
        loop {
            let answer = Caller::connect(self.address, FIRST_ANSWER_TIME_MAX)
                .and_then(|mut caller| caller.get(b"0"));
            let Err(failure) = answer else { return Ok(()) };
            if interrupt.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            let ended = self.process.ended().is_some();
            if ended || clock.now().0 > clock::nanos(patience) {
                let what = if ended { "ended at once" } else { "did not answer in time" };
                return Err(Failure::Server(format!(
                    "{} {what} ({failure}); its last words:\n{}",
                    self.recipe.program.display(),
                    tail(&self.log)
                )));
            }
            clock::pause(READY_INTERVAL);
        }
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process as it is now; another one after a restart.
    pub(crate) fn subject(&self) -> Subject {
        Subject { id: self.id(), dir: self.dir.clone() }
    }

    /// Where the server's data lies.
    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(&self.dir)
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
        self.subject().usage()
    }
}

/// How `recipe` is started in `dir`; what it says is appended to `log`.
fn command(
    recipe: &Recipe,
    dir: &Path,
    log: &Path,
    client: SocketAddr,
    peer: SocketAddr,
) -> Result<Command, Failure> {
    let file = || {
        let file = File::options().append(true).create(true).open(log);
        file.map_err(Failure::io("create the server's log"))
    };
    let mut command = Command::new(&recipe.program);
    command
        .args(recipe.arguments(dir, client, peer))
        .stdin(Stdio::null())
        .stdout(file()?)
        .stderr(file()?);
    Ok(command)
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// Writes the files under `dir` out and drops them from the page cache.
fn drop_cached(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_cached(&path)?;
        } else if path.is_file() {
            let file = File::open(&path)?;
            file.sync_data()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
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
    fn a_process_and_its_directory_are_looked_at() {
        let dir = std::env::temp_dir().join(format!("ringd-perf-subject-{}", std::process::id()));
        fs::create_dir_all(dir.join("deeper")).expect("a writable folder");
        fs::write(dir.join("deeper/file"), vec![7; 100_000]).expect("a writable folder");
        drop_cached(&dir).expect("they are ours");
        let subject = Subject { id: std::process::id(), dir: dir.clone() };
        let usage = subject.usage();
        assert!(usage.rss_kib > 100 && usage.peak_kib >= usage.rss_kib);
        assert!(usage.cpu > Duration::ZERO);
        assert!(usage.anonymous_kib > 0 && usage.anonymous_kib < usage.rss_kib);
        assert!(subject.descriptors() >= 3);
        assert!((100_000..200_000).contains(&subject.disk_use()), "{}", subject.disk_use());
        fs::remove_dir_all(&dir).expect("it is ours");
        assert_eq!(subject.disk_use(), 0);
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
