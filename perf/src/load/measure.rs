//! What a run measured: histograms while it goes on, plain numbers when it is over.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::Nanos;
use crate::h2::connection::Outcome;
use crate::workload::Kind;

/// The longest latency that is told apart, in nanoseconds; longer ones count as this.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// A histogram of latencies in nanoseconds, three digits exact.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, LATENCY_MAX_NS, 3).expect("the bounds are valid")
}

/// One operation that ended well, or was due and never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    /// When it was due (open loop) or sent, in milliseconds on the run's clock.
    pub(crate) due_ms: u32,
    /// How long it took, in microseconds.
    pub(crate) latency_us: u32,
    /// What it was.
    pub(crate) kind: Kind,
}

impl Sample {
    /// An operation that was due then and took that many nanoseconds.
    pub(crate) fn of(due: Nanos, latency: u64, kind: Kind) -> Self {
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let (due_ms, latency_us) = (narrow(due.0 / 1_000_000), narrow(latency / 1000));
        Self { due_ms, latency_us, kind }
    }
}

/// What one thread has measured so far.
#[derive(Debug)]
pub(crate) struct Record {
    /// Latency of whole operations.
    pub(crate) latency: Histogram<u64>,
    /// Latency by kind, where an operation can be of several.
    pub(crate) kinds: BTreeMap<Kind, Histogram<u64>>,
    /// Operations that ended otherwise than well, by how.
    pub(crate) errors: BTreeMap<String, u64>,
    /// The last error text the server sent.
    pub(crate) last_message: Option<String>,
    /// Reads that found nothing.
    pub(crate) empty_reads: u64,
    /// Operations that had no answer when the run ended.
    pub(crate) unanswered: u64,
    /// Length of the measured part.
    pub(crate) elapsed: Duration,
    /// CPU time of the thread in the measured part.
    pub(crate) cpu: Duration,
    /// Operations completed within the measured part.
    pub(crate) completed: u64,
    /// Each single operation, where the plan asks for them.
    pub(crate) samples: Vec<Sample>,
}

impl Record {
    /// An empty record.
    pub(crate) fn new() -> Self {
        Self {
            latency: histogram(),
            kinds: BTreeMap::new(),
            errors: BTreeMap::new(),
            last_message: None,
            empty_reads: 0,
            unanswered: 0,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            completed: 0,
            samples: Vec::new(),
        }
    }

    /// Counts an operation that did not end well.
    pub(crate) fn on_error(&mut self, outcome: Outcome, message: Option<&str>) {
        let name = match outcome {
            Outcome::Status(code) => format!("gRPC status {code} {}", status_name(code)),
            Outcome::Reset(code) => format!("stream reset, HTTP/2 error {code}"),
        };
        *self.errors.entry(name).or_default() += 1;
        if let Some(message) = message {
            self.last_message = Some(message.to_owned());
        }
    }

    /// Adds what another thread measured at the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("the bounds are the same");
        for (kind, theirs) in &other.kinds {
            let ours = self.kinds.entry(*kind).or_insert_with(histogram);
            ours.add(theirs).expect("the bounds are the same");
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        if self.last_message.is_none() {
            self.last_message.clone_from(&other.last_message);
        }
        self.empty_reads += other.empty_reads;
        self.unanswered += other.unanswered;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.cpu += other.cpu;
        self.completed += other.completed;
        self.samples.extend_from_slice(&other.samples);
    }

    /// The numbers, when all is over.
    pub(crate) fn measured(self) -> Measured {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let each = (self.completed + self.errors.values().sum::<u64>()).max(1) as f64;
        Measured {
            operations: self.completed,
            seconds,
            rate: self.completed as f64 / seconds,
            latency: Latency::of(&self.latency),
            kinds: self.kinds.iter().map(|(k, h)| (k.name().to_owned(), Latency::of(h))).collect(),
            client_cpu_us: self.cpu.as_secs_f64() * 1e6 / each,
            errors: self.errors,
            last_message: self.last_message,
            empty_reads: self.empty_reads,
            unanswered: self.unanswered,
            samples: self.samples,
        }
    }
}

/// The result of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Operations that ended well in the measured part.
    pub(crate) operations: u64,
    /// Length of the measured part.
    pub(crate) seconds: f64,
    /// Operations per second.
    pub(crate) rate: f64,
    /// Latency of operations.
    pub(crate) latency: Latency,
    /// Latency by kind of request, for mixes.
    pub(crate) kinds: BTreeMap<String, Latency>,
    /// This client's own CPU time per answered operation, in microseconds.
    pub(crate) client_cpu_us: f64,
    /// Operations that did not end well, by how.
    pub(crate) errors: BTreeMap<String, u64>,
    /// The last error text the server sent.
    pub(crate) last_message: Option<String>,
    /// Reads that found nothing.
    pub(crate) empty_reads: u64,
    /// Operations without an answer at the end.
    pub(crate) unanswered: u64,
    /// Each single operation in the order they ended, where the plan asks for them.
    #[serde(skip)]
    pub(crate) samples: Vec<Sample>,
}

impl Measured {
    /// How many operations did not end well.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.unanswered
    }
}

/// Points of a latency distribution, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) min_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// The points of `histogram`, which is in nanoseconds; all zero when it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            mean_us: histogram.mean() / 1000.0,
            min_us: histogram.min() as f64 / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: histogram.max() as f64 / 1000.0,
        }
    }
}

/// The name of a gRPC status code.
fn status_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("unknown code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_threads_add_up() {
        let mut one = Record::new();
        let mut two = Record::new();
        for value in 1..=100 {
            one.latency.record(value * 1000).expect("in bounds");
            two.latency.record((value + 100) * 1000).expect("in bounds");
        }
        (one.completed, two.completed) = (100, 100);
        (one.elapsed, two.elapsed) = (Duration::from_secs(2), Duration::from_secs(1));
        two.cpu = Duration::from_micros(2010);
        two.on_error(Outcome::Status(8), Some("too many requests"));
        one.add(&two);
        let measured = one.measured();
        assert_eq!(measured.operations, 200);
        assert!((measured.rate - 100.0).abs() < 1e-6);
        assert!((measured.client_cpu_us - 10.0).abs() < 1e-6);
        assert!((measured.latency.p50_us - 100.0).abs() < 1.0);
        assert_eq!(measured.errors["gRPC status 8 ResourceExhausted"], 1);
        assert_eq!(measured.error_count(), 1);
    }

    #[test]
    fn json_reads_as_written() {
        let mut record = Record::new();
        record.latency.record(5000).expect("in bounds");
        record.completed = 1;
        record.elapsed = Duration::from_secs(1);
        let measured = record.measured();
        let text = serde_json::to_string(&measured).expect("plain data");
        assert_eq!(serde_json::from_str::<Measured>(&text).expect("as written"), measured);
    }

    #[test]
    fn an_empty_run_is_all_zeros() {
        let measured = Record::new().measured();
        assert_eq!(measured.latency, Latency::default());
        assert_eq!(measured.operations, 0);
    }
}
