//! The figures of a comparison: one sample per run, medians per server, ratios, verdicts.

use serde::Serialize;

use crate::disk::Flush;
use crate::versus::cases::{Case, Metric, TARGETS, Target, Tool, Verdict};
use crate::versus::machine::Machine;

/// What one run measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Sample {
    /// The workload's name.
    pub(crate) case: &'static str,
    /// What made the load.
    pub(crate) tool: Tool,
    /// `ringd` or `etcd`.
    pub(crate) server: String,
    /// From 1.
    pub(crate) round: u32,
    /// Operations in the measured interval.
    pub(crate) operations: u64,
    /// Operations per second.
    pub(crate) rate: f64,
    /// Median latency in microseconds, where the client says.
    pub(crate) p50_us: Option<f64>,
    /// 99th percentile in microseconds, where the client says.
    pub(crate) p99_us: Option<f64>,
    /// Mean latency in microseconds.
    pub(crate) mean_us: f64,
    /// The server's CPU time per operation in microseconds.
    pub(crate) server_cpu_us: f64,
    /// The client's CPU time per operation in microseconds, of the lean one.
    pub(crate) client_cpu_us: Option<f64>,
    /// The server's resident memory at the end, in MiB.
    pub(crate) rss_mib: f64,
    /// Operations that did not end well.
    pub(crate) errors: u64,
}

impl Sample {
    /// A sample of nothing yet.
    pub(crate) fn of(case: Case, tool: Tool) -> Self {
        Self {
            case: case.name,
            tool,
            server: String::new(),
            round: 0,
            operations: 0,
            rate: 0.0,
            p50_us: None,
            p99_us: None,
            mean_us: 0.0,
            server_cpu_us: 0.0,
            client_cpu_us: None,
            rss_mib: 0.0,
            errors: 0,
        }
    }
}

/// Medians of one server's samples of one load.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Median {
    /// Operations per second.
    pub(crate) rate: f64,
    /// The lowest and highest rate of a round: how far the median may be trusted.
    pub(crate) rate_range: (f64, f64),
    /// Median latency in microseconds.
    pub(crate) p50_us: Option<f64>,
    /// 99th percentile in microseconds.
    pub(crate) p99_us: Option<f64>,
    /// The server's CPU time per operation in microseconds.
    pub(crate) server_cpu_us: f64,
    /// The client's CPU time per operation in microseconds.
    pub(crate) client_cpu_us: Option<f64>,
    /// Resident memory in MiB.
    pub(crate) rss_mib: f64,
    /// Operations that did not end well, in all rounds.
    pub(crate) errors: u64,
}

/// One load, both servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Row {
    /// The workload's name.
    pub(crate) case: &'static str,
    /// What made the load.
    pub(crate) tool: Tool,
    /// ringd's medians.
    pub(crate) ringd: Option<Median>,
    /// etcd's medians.
    pub(crate) etcd: Option<Median>,
}

/// A target and how it was met.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Judged {
    /// The workload's name.
    pub(crate) case: &'static str,
    /// What made the load.
    pub(crate) tool: Tool,
    /// What is compared.
    pub(crate) metric: &'static str,
    /// What it must reach.
    pub(crate) must: f64,
    /// What it should reach.
    pub(crate) goal: Option<f64>,
    /// What was measured.
    pub(crate) value: f64,
    /// How it stands.
    pub(crate) verdict: Verdict,
}

/// Everything a comparison found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Summary {
    /// What it ran on.
    pub(crate) machine: Machine,
    /// How many rounds.
    pub(crate) rounds: u32,
    /// Medians, one row per load.
    pub(crate) rows: Vec<Row>,
    /// The targets that were measured.
    pub(crate) targets: Vec<Judged>,
    /// The disk's durable write, before each start of a server.
    pub(crate) flushes: Vec<Flush>,
    /// Every single run.
    pub(crate) samples: Vec<Sample>,
}

impl Summary {
    /// The medians and verdicts of `samples`.
    pub(crate) fn of(
        machine: Machine,
        rounds: u32,
        samples: Vec<Sample>,
        flushes: Vec<Flush>,
    ) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for sample in &samples {
            let (case, tool) = (sample.case, sample.tool);
            if !rows.iter().any(|row| row.case == case && row.tool == tool) {
                let of = |server| median_of(&samples, case, tool, server);
                rows.push(Row { case, tool, ringd: of("ringd"), etcd: of("etcd") });
            }
        }
        let targets = TARGETS.iter().filter_map(|target| judge(target, &rows)).collect();
        Self { machine, rounds, rows, targets, flushes, samples }
    }
}

fn judge(target: &Target, rows: &[Row]) -> Option<Judged> {
    let row = rows.iter().find(|row| row.case == target.case && row.tool == target.tool)?;
    let value = row.value(target.metric)?;
    let Target { tool, case, metric, must, goal } = *target;
    // What only failed fast has reached nothing.
    let broken = row.ringd.is_some_and(|ringd| ringd.errors > 0);
    let verdict = if broken { Verdict::Miss } else { target.judge(value) };
    Some(Judged { case, tool, metric: metric.name(), must, goal, value, verdict })
}

impl Row {
    /// The figure that `metric` names; `None` when a side is missing.
    pub(crate) fn value(&self, metric: Metric) -> Option<f64> {
        let ringd = self.ringd?;
        match metric {
            Metric::CpuRatio => Some(ringd.server_cpu_us / self.etcd?.server_cpu_us),
            Metric::RateRatio => Some(ringd.rate / self.etcd?.rate),
            Metric::P50Ratio => Some(ringd.p50_us? / self.etcd?.p50_us?),
            Metric::CpuUs => Some(ringd.server_cpu_us),
            Metric::Rate => Some(ringd.rate),
        }
    }
}

fn median_of(samples: &[Sample], case: &str, tool: Tool, server: &str) -> Option<Median> {
    let mine: Vec<_> =
        samples.iter().filter(|s| s.case == case && s.tool == tool && s.server == server).collect();
    let all = |pick: &dyn Fn(&Sample) -> Option<f64>| -> Vec<f64> {
        mine.iter().filter_map(|sample| pick(sample)).collect()
    };
    let rates = all(&|s| Some(s.rate));
    let low = rates.iter().copied().reduce(f64::min)?;
    let high = rates.iter().copied().reduce(f64::max)?;
    Some(Median {
        rate: median(rates)?,
        rate_range: (low, high),
        p50_us: median(all(&|s| s.p50_us)),
        p99_us: median(all(&|s| s.p99_us)),
        server_cpu_us: median(all(&|s| Some(s.server_cpu_us)))?,
        client_cpu_us: median(all(&|s| s.client_cpu_us)),
        rss_mib: median(all(&|s| Some(s.rss_mib)))?,
        errors: mine.iter().map(|s| s.errors).sum(),
    })
}

/// The middle of `values`, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Samples of two rounds for the tests of reports.
#[cfg(test)]
pub(crate) fn example() -> Summary {
    use crate::versus::cases::CASES;
    let mut samples = Vec::new();
    for (round, server, rate, cpu) in [
        (1, "ringd", 100_000.0, 5.0),
        (1, "etcd", 20_000.0, 50.0),
        (2, "ringd", 110_000.0, 7.0),
        (2, "etcd", 22_000.0, 70.0),
    ] {
        samples.push(Sample {
            server: server.to_owned(),
            round,
            rate,
            server_cpu_us: cpu,
            p50_us: Some(1e9 / rate),
            ..Sample::of(CASES[1], Tool::Lean)
        });
    }
    let flush = Flush { p50_us: 120.0, p99_us: 300.0, direct: true };
    Summary::of(Machine::default(), 2, samples, vec![flush; 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn samples_become_ratios_and_verdicts() {
        let summary = example();
        assert_eq!(summary.rows.len(), 1);
        let cpu = summary.rows[0].value(Metric::CpuRatio).expect("both sides");
        assert!((cpu - 0.1).abs() < 1e-9);
        let verdicts: Vec<_> = summary.targets.iter().map(|t| t.verdict).collect();
        assert_eq!(verdicts, vec![Verdict::Pass, Verdict::Pass, Verdict::Pass]);
    }

    #[test]
    fn a_run_with_errors_misses_its_targets() {
        let mut samples = example().samples;
        samples[0].errors = 1;
        let summary = Summary::of(Machine::default(), 2, samples, vec![]);
        assert!(summary.targets.iter().all(|t| t.verdict == Verdict::Miss));
    }

    #[test]
    fn what_has_no_rival_has_no_ratio() {
        let samples = example().samples.into_iter().filter(|s| s.server == "ringd").collect();
        let summary = Summary::of(Machine::default(), 2, samples, vec![]);
        assert_eq!(summary.rows[0].value(Metric::CpuRatio), None);
        assert_eq!(summary.targets.len(), 1);
    }
}
