//! `ringd-perf load`: the flags, the progress line, the table.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::clock::Clock;
use crate::failure::Failure;
use crate::load::measure::{Latency, Measured};
use crate::load::{self, End, Moment, Plan};
use crate::workload::{Order, Shape, Workload};

/// The flags of a load.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// What to ask for
    #[arg(value_enum, default_value = "put")]
    pub(crate) workload: Workload,
    /// Where the server listens (plain text, loopback)
    #[arg(long, default_value = "127.0.0.1:2379")]
    pub(crate) endpoint: String,
    /// Connections
    #[arg(long, short, default_value_t = 10)]
    pub(crate) connections: usize,
    /// Requests in flight on each connection
    #[arg(long, short = 'm', default_value_t = 100)]
    pub(crate) in_flight: u32,
    /// Threads that share the connections
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Operations per second, sent on time whatever the server does (default: closed loop)
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Measured time, such as 10s, 500ms or 2m
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Measured operations, instead of a time
    #[arg(long, conflicts_with = "duration")]
    pub(crate) total: Option<u64>,
    /// Time before measuring starts
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Number of different keys
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// Bytes in a key
    #[arg(long, default_value_t = 32)]
    pub(crate) key_size: usize,
    /// Bytes in a value, all random
    #[arg(long, default_value_t = 256)]
    pub(crate) value_size: usize,
    /// Keys in order instead of at random
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Reads that the serving node may answer alone
    #[arg(long)]
    pub(crate) serializable: bool,
    /// Share of gets in `mixed`, in percent
    #[arg(long, default_value_t = 80)]
    pub(crate) reads_percent: u64,
    /// Keys in one `list`
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u64,
    /// Operations in one `txn` or `txn-get`
    #[arg(long, default_value_t = 10)]
    pub(crate) operations: u64,
    /// Where the random numbers start: the same seed, the same requests
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl LoadArgs {
    /// The run these flags describe.
    ///
    /// # Errors
    /// When the endpoint is not an address on this machine.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        Ok(Plan {
            addresses: vec![loopback(&self.endpoint)?],
            connections: self.connections,
            in_flight: self.in_flight,
            threads: self.threads,
            rate: self.rate,
            end: self.total.map_or(End::After(self.duration), End::Count),
            warm_up: self.warm_up,
            shape: Shape {
                workload: self.workload,
                keys: self.keys,
                key_size: self.key_size,
                value_size: self.value_size,
                order: if self.sequential { Order::Sequential } else { Order::Random },
                serializable: self.serializable,
                reads_percent: self.reads_percent,
                limit: self.limit,
                operations: self.operations,
                keyed: false,
                seed: self.seed,
            },
            samples: false,
        })
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    command: String,
    connections: usize,
    in_flight: u32,
    threads: usize,
    rate: Option<f64>,
    shape: &'a Shape,
    result: &'a Measured,
}

/// Runs a load and prints what it measured.
///
/// # Errors
/// When the run failed, or when any operation did not end well.
pub(crate) fn main(args: &LoadArgs, interrupt: &AtomicBool) -> Result<(), Failure> {
    let plan = args.plan()?;
    let measured = run(&plan, args.quiet, interrupt)?;
    let text = if args.json {
        let report = Report {
            command: command_line(),
            connections: plan.connections,
            in_flight: plan.in_flight,
            threads: plan.threads,
            rate: plan.rate,
            shape: &plan.shape,
            result: &measured,
        };
        serde_json::to_string_pretty(&report).expect("plain data") + "\n"
    } else {
        table(&plan, &measured)
    };
    print(&text)?;
    match measured.error_count() {
        0 => Ok(()),
        count => Err(Failure::Server(format!("{count} operations did not end well"))),
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read it, as `head` does, has seen enough.
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Failure::io("write to standard output")),
    }
}

/// This process's command line, as a person would type it.
pub(crate) fn command_line() -> String {
    let mut line = String::from("ringd-perf");
    for argument in std::env::args().skip(1) {
        line.push(' ');
        line.push_str(&argument);
    }
    line
}

/// Runs `plan` with a progress line on standard error.
///
/// # Errors
/// Those of [`load::run`].
pub(crate) fn run(plan: &Plan, quiet: bool, stop: &AtomicBool) -> Result<Measured, Failure> {
    let bar = progress_bar(plan, quiet);
    let clock = Clock::start();
    let mut begun = (0, clock.now());
    let result = load::run(plan, stop, &mut |moment, completed| match moment {
        Moment::Begin => {
            begun = (completed, clock.now());
            bar.set_message("measuring");
        }
        Moment::Progress => show(&bar, plan, clock.now().since(begun.1), completed - begun.0),
        Moment::End => bar.set_message("draining"),
    });
    bar.finish_and_clear();
    result
}

/// A bar as long as the run, in milliseconds or operations.
pub(crate) fn progress_bar(plan: &Plan, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let length = match plan.end {
        End::After(duration) => u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        End::Count(total) => total,
    };
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3}% {msg}")
        .expect("the template is valid");
    ProgressBar::new(length).with_style(style).with_message("warming up")
}

fn show(bar: &ProgressBar, plan: &Plan, nanos: u64, completed: u64) {
    let millis = nanos / 1_000_000;
    if bar.message() != "warming up" {
        bar.set_message(format!("{} operations/s", completed * 1000 / millis.max(1)));
    }
    match plan.end {
        End::After(_) => bar.set_position(millis),
        End::Count(_) => bar.set_position(completed),
    }
}

/// The result as a table for people.
pub(crate) fn table(plan: &Plan, measured: &Measured) -> String {
    let shape = &plan.shape;
    let mut text = String::new();
    let mode = plan.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} due per second"));
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<16} {value}").expect("writing to a string");
    };
    line("workload", format!("{:?}, {mode}", shape.workload).to_lowercase());
    line(
        "clients",
        format!(
            "{} connections x {} in flight, {} thread(s)",
            plan.connections, plan.in_flight, plan.threads
        ),
    );
    line(
        "keys",
        format!(
            "{} {} of {} bytes, values of {} bytes",
            shape.keys,
            format!("{:?}", shape.order).to_lowercase(),
            shape.key_size,
            shape.value_size
        ),
    );
    line("operations", format!("{} in {:.2} s", measured.operations, measured.seconds));
    line("rate", format!("{:.0} /s", measured.rate));
    line("client CPU", format!("{:.2} us per operation", measured.client_cpu_us));
    for (name, count) in &measured.errors {
        line("ERRORS", format!("{count} x {name}"));
    }
    if let Some(message) = &measured.last_message {
        line("last error", message.clone());
    }
    if measured.unanswered > 0 {
        line("UNANSWERED", measured.unanswered.to_string());
    }
    if measured.empty_reads > 0 {
        line("empty reads", measured.empty_reads.to_string());
    }
    text.push_str("\nlatency, us         p50       p90       p99     p99.9       max      mean\n");
    latency_row(&mut text, "all", &measured.latency);
    for (name, latency) in &measured.kinds {
        latency_row(&mut text, name, latency);
    }
    text
}

fn latency_row(text: &mut String, name: &str, latency: &Latency) {
    let Latency { p50_us, p90_us, p99_us, p99_9_us, max_us, mean_us, .. } = latency;
    writeln!(
        text,
        "{name:<12} {p50_us:>10.1}{p90_us:>10.1}{p99_us:>10.1}{p99_9_us:>10.1}{max_us:>10.1}\
         {mean_us:>10.1}"
    )
    .expect("writing to a string");
}

/// An address on this machine.
fn loopback(endpoint: &str) -> Result<SocketAddr, Failure> {
    let name = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let mut found = name.to_socket_addrs().map_err(Failure::io(format!("resolve {name}")))?;
    found.find(|address| address.ip().is_loopback()).ok_or_else(|| {
        Failure::Usage(format!("{name} is not on this machine: loads are for loopback only"))
    })
}

/// Reads `10s`, `500ms`, `2m` or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        _ => return Err(format!("{unit:?} is not one of ms, s, m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|cause| cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("2h").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("s").is_err());
    }

    #[test]
    fn only_this_machine_is_loaded() {
        assert!(loopback("http://127.0.0.1:2379").is_ok());
        assert!(loopback("192.0.2.1:2379").is_err());
    }
}
