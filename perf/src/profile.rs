//! `ringd-perf profile`: where the server's time goes under a load, by sampling it with `perf`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::clock;
use crate::failure::Failure;
use crate::load::command::{print, table};
use crate::load::{self, Moment};
use crate::server::{Guarded, Server};
use crate::versus::BenchArgs;
use crate::versus::cases::{CASES, Case};

/// Symbols shown.
const SYMBOLS_MAX: usize = 30;

/// The flags of a profile.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProfileArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// The workload
    #[arg(long, default_value = "put-10x100")]
    workload: String,
    /// The `perf` program
    #[arg(long, default_value = "perf")]
    perf: PathBuf,
    /// How stacks are walked: `fp`, or `dwarf` where there are no frame pointers
    #[arg(long, default_value = "fp")]
    call_graph: String,
    /// Samples per second of CPU time
    #[arg(long, default_value_t = 997)]
    frequency: u32,
    /// Where the samples and the folded stacks (for a flame graph) are put
    #[arg(long, default_value = "target/perf-profile")]
    out: PathBuf,
}

/// Profiles ringd under one workload of the lean generator.
///
/// # Errors
/// When `perf` is missing or may not sample, or the server or the load fails.
pub(crate) fn main(args: &ProfileArgs, interrupt: &AtomicBool) -> Result<(), Failure> {
    let case = find(&args.workload)?;
    require_perf(&args.perf)?;
    fs::create_dir_all(&args.out).map_err(Failure::io("create the folder for profiles"))?;
    let samples = args.out.join("perf.data");
    let server = Server::start(&args.bench.ringd(), interrupt)?;
    args.bench.fill(&server, interrupt)?;
    let plan = args.bench.plan(&server, case);
    let (mut recorder, mut failure) = (None, None);
    let mut used = Vec::new();
    let measured = load::run(&plan, interrupt, &mut |moment, completed| match moment {
        Moment::Begin => {
            used.push((server.usage(), completed));
            match record(args, server.id(), &samples) {
                Ok(process) => recorder = Some(process),
                Err(cause) => failure = Some(cause),
            }
        }
        Moment::Progress => {}
        Moment::End => used.push((server.usage(), completed)),
    })
    .map_err(|failure| server.explain(failure))?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    // `perf record` ends with its own `sleep`, a moment after the load.
    if let Some(mut recorder) = recorder {
        recorder.wait(interrupt)?;
    }
    print(&table(&plan, &measured))?;
    if let [begin, end] = used[..] {
        let cpu = clock::nanos(end.0.cpu.saturating_sub(begin.0.cpu)) as f64 / 1000.0;
        let each = cpu / (end.1 - begin.1).max(1) as f64;
        print(&format!(
            "\nserver CPU       {each:.2} us per operation, perf's own part included\n"
        ))?;
    }
    let stacks = stacks(&args.perf, &samples)?;
    let folded = args.out.join("folded.txt");
    fs::write(&folded, fold(&stacks)).map_err(Failure::io("write the folded stacks"))?;
    print(&top(&stacks))?;
    print(&format!("\nsamples in {}, stacks in {}\n", samples.display(), folded.display()))
}

fn find(name: &str) -> Result<Case, Failure> {
    let names = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
    let found = CASES.into_iter().find(|case| case.name == name);
    found.ok_or_else(|| Failure::Usage(format!("{name} is none of {}", names())))
}

fn require_perf(perf: &Path) -> Result<(), Failure> {
    let version = Command::new(perf).arg("--version").stdout(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "a profile needs the `perf` program and {} does not run; Debian has it in the package \
         linux-perf, others in linux-tools or perf",
        perf.display()
    )))
}

/// Starts sampling the process for as long as the load is measured.
fn record(args: &ProfileArgs, id: u32, samples: &Path) -> Result<Guarded, Failure> {
    let mut command = Command::new(&args.perf);
    command
        .arg("record")
        .args(["--quiet", "--event", "cpu-clock", "--call-graph", &args.call_graph])
        .args(["--freq", &args.frequency.to_string(), "--pid", &id.to_string(), "--output"])
        .arg(samples)
        .args(["--", "sleep", &args.bench.duration.as_secs_f64().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Guarded::start(command, None)
}

/// Sampled stacks, outermost function first, and how often each was seen.
type Stacks = BTreeMap<Vec<String>, u64>;

fn stacks(perf: &Path, samples: &Path) -> Result<Stacks, Failure> {
    let output = Command::new(perf)
        .args(["script", "--fields", "comm,ip,sym,dso", "--input"])
        .arg(samples)
        .stderr(Stdio::null())
        .output()
        .map_err(Failure::io("run perf script"))?;
    let stacks = read_script(&String::from_utf8_lossy(&output.stdout));
    if stacks.is_empty() {
        return Err(Failure::Usage(
            "perf took no samples; /proc/sys/kernel/perf_event_paranoid may forbid it".into(),
        ));
    }
    Ok(stacks)
}

/// Reads the output of `perf script`: a line per sample, then its stack, then an empty line.
fn read_script(text: &str) -> Stacks {
    let mut stacks = Stacks::new();
    let mut stack: Vec<String> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            if stack.len() > 1 {
                stack[1..].reverse();
                *stacks.entry(std::mem::take(&mut stack)).or_default() += 1;
            }
            stack.clear();
        } else if line.starts_with(char::is_whitespace) && !stack.is_empty() {
            stack.push(symbol(line).replace(';', ":"));
        } else {
            stack = vec![line.trim().to_owned()];
        }
    }
    stacks
}

/// The function in a line of a stack, `address function (file)`; the file where it has no name.
fn symbol(line: &str) -> &str {
    let rest = line.trim_start().split_once(' ').map_or("[unknown]", |(_, rest)| rest);
    match rest.rsplit_once(" (") {
        Some((name, _)) if name != "[unknown]" => name,
        Some(_) | None => rest,
    }
}

/// One stack per line, as flame graph programs take them.
fn fold(stacks: &Stacks) -> String {
    let mut text = String::new();
    for (stack, count) in stacks {
        writeln!(text, "{} {count}", stack.join(";")).expect("writing to a string");
    }
    text
}

/// The functions that most samples were in, with their share alone and with all they call.
fn top(stacks: &Stacks) -> String {
    let mut symbols: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut total = 0;
    for (stack, count) in stacks {
        total += count;
        let mut frames: Vec<&str> = stack[1..].iter().map(String::as_str).collect();
        symbols.entry(frames[frames.len() - 1]).or_default().0 += count;
        frames.sort_unstable();
        frames.dedup();
        for frame in frames {
            symbols.entry(frame).or_default().1 += count;
        }
    }
    let mut lines: Vec<_> = symbols.into_iter().filter(|(_, (alone, _))| *alone > 0).collect();
    lines.sort_by_key(|(name, (alone, _))| (std::cmp::Reverse(*alone), *name));
    let mut text = format!("\n{total} samples\n  self  total  function\n");
    for (name, (alone, with)) in lines.into_iter().take(SYMBOLS_MAX) {
        let percent = |count: u64| 100.0 * count as f64 / total as f64;
        writeln!(text, "{:5.1}% {:5.1}%  {name}", percent(alone), percent(with))
            .expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
ringd
\tffff0001 inner (/x/ringd)
\tffff0002 [unknown] (/x/ringd)

ringd
\tffff0001 inner (/x/ringd)
\tffff0002 [unknown] (/x/ringd)

ringd
\tffff0003 other<A; B> ([kernel.kallsyms])
\tffff0002 [unknown] (/x/ringd)

empty

";

    #[test]
    fn stacks_are_folded_outermost_first() {
        let folded = fold(&read_script(SCRIPT));
        assert_eq!(
            folded,
            "ringd;U;inner 2\nringd;U;other<A: B> 1\n".replace('U', "[unknown] (/x/ringd)")
        );
    }

    #[test]
    fn shares_are_counted_alone_and_with_callees() {
        let text = top(&read_script(SCRIPT));
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(lines, vec![" 66.7%  66.7%  inner", " 33.3%  33.3%  other<A: B>"]);
    }
}
