//! Other programs as clients: how they are called, and how their output is read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use crate::failure::Failure;
use crate::server::Guarded;
use crate::versus::cases::{Case, Tool};
use crate::workload::{Kind, Shape, Source, Workload, write_key};

/// What another program says it measured.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Said {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Median latency in microseconds, where it says.
    pub(crate) p50_us: Option<f64>,
    /// 99th percentile in microseconds, where it says.
    pub(crate) p99_us: Option<f64>,
    /// Mean latency in microseconds.
    pub(crate) mean_us: f64,
    /// Requests that failed.
    pub(crate) errors: u64,
}

/// A call of another program.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// Which of them.
    pub(crate) tool: Tool,
    /// Where it is.
    pub(crate) program: &'a Path,
    /// The workload.
    pub(crate) case: Case,
    /// Keys and values.
    pub(crate) shape: &'a Shape,
    /// The server.
    pub(crate) address: SocketAddr,
    /// How many requests it makes.
    pub(crate) total: u64,
    /// Where its output and the request's body are put.
    pub(crate) dir: &'a Path,
}

impl Call<'_> {
    /// The flags, and the bytes of the request where the program takes them from a file.
    fn arguments(&self) -> (Vec<String>, Option<Vec<u8>>) {
        match self.tool {
            Tool::Lean => unreachable!("the lean client is no other program"),
            Tool::Benchmark => (self.benchmark(), None),
            Tool::H2load => self.h2load(),
        }
    }

    fn benchmark(&self) -> Vec<String> {
        let (shape, case) = (self.shape, self.case);
        let mut line = format!(
            "--precise --endpoints {} --conns {} --clients {}",
            self.address,
            case.connections,
            case.clients()
        );
        line += &if case.workload == Workload::Put {
            format!(
                " put --key-size {} --val-size {} --key-space-size {} --total {}",
                shape.key_size, shape.value_size, shape.keys, self.total
            )
        } else {
            let mut key = Vec::new();
            write_key(0, shape.key_size, &mut key);
            let key = String::from_utf8(key).expect("keys are digits");
            format!(" range {key} --total {}", self.total)
        };
        line.split(' ').map(str::to_owned).collect()
    }

    fn h2load(&self) -> (Vec<String>, Option<Vec<u8>>) {
        let kind = match self.case.workload {
            Workload::Put => Kind::Put,
            Workload::Empty => Kind::Empty,
            Workload::Get
            | Workload::Mixed
            | Workload::Pairs
            | Workload::List
            | Workload::Delete
            | Workload::Txn
            | Workload::TxnGet
            | Workload::Update
            | Workload::Soak => Kind::Get,
        };
        let mut message = Vec::new();
        Source::new(self.shape.clone(), 0, 1).write(kind, 0, &mut message);
        let size = u32::try_from(message.len()).expect("one message");
        let mut body = vec![0];
        body.extend_from_slice(&size.to_be_bytes());
        body.extend_from_slice(&message);
        let line = format!(
            "-n {} -c {} -m {} -t 1 -d {} -H content-type:application/grpc -H te:trailers \
             http://{}{}",
            self.total,
            self.case.connections,
            self.case.in_flight,
            self.body_path().display(),
            self.address,
            kind.method().path()
        );
        (line.split(' ').map(str::to_owned).collect(), Some(body))
    }

    fn body_path(&self) -> PathBuf {
        self.dir.join(format!("body-{}", std::process::id()))
    }

    /// Runs the program to its end and reads what it says.
    ///
    /// # Errors
    /// When it is not there, fails, or says something unexpected.
    pub(crate) fn run(&self, interrupt: &AtomicBool) -> Result<Said, Failure> {
        let (arguments, body) = self.arguments();
        if let Some(body) = body {
            fs::write(self.body_path(), body).map_err(Failure::io("write a request's body"))?;
        }
        let read = match self.tool {
            Tool::Lean => |_: &str| None,
            Tool::Benchmark => read_benchmark,
            Tool::H2load => read_h2load,
        };
        let said = run(self.program, &arguments, self.dir, interrupt, read);
        let _ = fs::remove_file(self.body_path());
        said
    }
}

/// Runs etcd's `benchmark` to its end and reads what it says; `dir` is for its output.
///
/// # Errors
/// When it is not there, fails, or says something unexpected.
pub(crate) fn benchmark(
    program: &Path,
    arguments: &[String],
    dir: &Path,
    interrupt: &AtomicBool,
) -> Result<Said, Failure> {
    run(program, arguments, dir, interrupt, read_benchmark)
}

fn run(
    program: &Path,
    arguments: &[String],
    dir: &Path,
    interrupt: &AtomicBool,
    read: fn(&str) -> Option<Said>,
) -> Result<Said, Failure> {
    let path = dir.join(format!("output-{}", std::process::id()));
    let output = File::create(&path).map_err(Failure::io("create a file for output"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
    let success = Guarded::start(command, None)?.wait(interrupt)?;
    let text = fs::read_to_string(&path).map_err(Failure::io("read the client's output"))?;
    let _ = fs::remove_file(&path);
    read(&text).filter(|_| success).ok_or_else(|| {
        let (program, line) = (program.display(), arguments.join(" "));
        Failure::Server(format!("{program} {line}: unexpected output\n{text}"))
    })
}

/// Reads the report of etcd's `benchmark`.
fn read_benchmark(text: &str) -> Option<Said> {
    let field = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let micros = |name: &str| field(name).map(|seconds| seconds * 1e6);
    let errors = text.lines().skip_while(|line| !line.contains("Error distribution:")).skip(1);
    let counts = errors.filter_map(|line| {
        let (count, _) = line.trim().strip_prefix('[')?.split_once(']')?;
        count.parse::<u64>().ok()
    });
    Some(Said {
        rate: field("Requests/sec:")?,
        mean_us: micros("Average:")?,
        p50_us: micros("50% in"),
        p99_us: micros("99% in"),
        errors: counts.sum(),
    })
}

/// Reads the report of `h2load`, of versions with and without percentiles.
fn read_h2load(text: &str) -> Option<Said> {
    let finished = text.lines().find(|line| line.starts_with("finished in "))?;
    let rate = finished.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()?;
    let requests = text.lines().find(|line| line.starts_with("requests: "))?;
    let count = |name: &str| -> Option<u64> {
        let part = requests.split([',', ':']).find(|part| part.ends_with(name))?;
        part.split_whitespace().next()?.parse().ok()
    };
    let heads = text.lines().find(|line| line.trim_start().starts_with("min "))?;
    let times = text.lines().find_map(|line| {
        line.strip_prefix("time for request:").or(line.strip_prefix("request     :"))
    })?;
    let columns: BTreeMap<_, _> =
        heads.split_whitespace().zip(times.split_whitespace().map(h2load_time)).collect();
    let column = |name: &str| columns.get(name).copied().flatten();
    Some(Said {
        rate,
        mean_us: column("mean")?,
        p50_us: column("median"),
        p99_us: column("p99"),
        errors: count("total")?.saturating_sub(count("succeeded")?),
    })
}

/// A time such as `188us`, `14.23ms` or `1.2s`, in microseconds.
fn h2load_time(text: &str) -> Option<f64> {
    for (unit, scale) in [("us", 1.0), ("ms", 1e3), ("s", 1e6)] {
        if let Some(Ok(number)) = text.strip_suffix(unit).map(str::parse::<f64>) {
            return Some(number * scale);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCHMARK: &str = "
Summary:
  Total:\t0.091980748 secs.
  Slowest:\t0.008368673 secs.
  Fastest:\t5.3906e-05 secs.
  Average:\t0.000182357508 secs.
  Stddev:\t0.0004214027122436565 secs.
  Requests/sec:\t5435.920134069795

Response time histogram:
  5.3906e-05 [1]\t|
  0.0008853827000000001 [493]\t|**

Latency distribution:
  10% in 6.8221e-05 secs.
  50% in 0.000129776 secs.
  99% in 0.001404668 secs.
  99.9% in 0.0083 secs.
";

    #[test]
    fn the_report_of_benchmark_is_read() {
        let said = read_benchmark(BENCHMARK).expect("a whole report");
        assert!((said.rate - 5435.92).abs() < 0.01);
        assert!((said.p50_us.expect("there") - 129.776).abs() < 1e-6);
        assert!((said.p99_us.expect("there") - 1404.668).abs() < 1e-6);
        assert!((said.mean_us - 182.357_508).abs() < 1e-6);
        assert_eq!(said.errors, 0);
    }

    #[test]
    fn errors_of_benchmark_are_counted() {
        let text = format!("{BENCHMARK}\nError distribution:\n  [12]\tfull\n  [3]\tlate\n");
        assert_eq!(read_benchmark(&text).expect("a whole report").errors, 15);
        assert_eq!(read_benchmark("Summary:\n"), None);
    }

    #[test]
    fn the_report_of_h2load_is_read() {
        let text = "
finished in 1.23s, 81300.12 req/s, 5.31MB/s
requests: 100000 total, 100000 started, 100000 done, 99990 succeeded, 10 failed, 0 errored
status codes: 99990 2xx, 0 3xx, 10 4xx, 0 5xx
                     min         max         mean         sd        +/- sd
time for request:      188us     14.23ms      8.01ms      1.26ms    76.32%
time for connect:      100us       300us       200us        10us    50.00%
";
        let said = read_h2load(text).expect("a whole report");
        assert!((said.rate - 81_300.12).abs() < 1e-6);
        assert!((said.mean_us - 8010.0).abs() < 1e-6);
        assert_eq!((said.p50_us, said.errors), (None, 10));
        assert_eq!(read_h2load("nothing"), None);
    }

    #[test]
    fn both_clients_are_told_the_same_numbers() {
        let case =
            Case { name: "put-100x1000", workload: Workload::Put, connections: 100, in_flight: 10 };
        let shape = Shape { keys: 1000, ..Shape::default() };
        let address = "127.0.0.1:1".parse().expect("an address");
        let (program, dir) = (Path::new("benchmark"), Path::new("x"));
        let tool = Tool::Benchmark;
        let call = Call { tool, program, case, shape: &shape, address, total: 7, dir };
        assert_eq!(
            call.arguments().0.join(" "),
            "--precise --endpoints 127.0.0.1:1 --conns 100 --clients 1000 put --key-size 32 \
             --val-size 256 --key-space-size 1000 --total 7"
        );
        let (arguments, body) = Call { tool: Tool::H2load, ..call }.arguments();
        assert!(arguments.join(" ").starts_with("-n 7 -c 100 -m 10 -t 1"));
        assert_eq!(body.expect("a body").len(), 5 + 2 + 32 + 3 + 256);
    }
}
