//! The named workloads, and what ringd must reach on them.

use crate::workload::Workload;

/// Which program makes the load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tool {
    /// This program's own generator.
    Lean,
    /// etcd's `benchmark`.
    Benchmark,
    /// nghttp2's `h2load`.
    H2load,
}

impl Tool {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::Benchmark => "benchmark",
            Self::H2load => "h2load",
        }
    }
}

/// A named workload: what is asked, over how many connections, how much at once on each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    /// The name on the command line and in reports.
    pub(crate) name: &'static str,
    /// What is asked.
    pub(crate) workload: Workload,
    /// Connections.
    pub(crate) connections: usize,
    /// Requests in flight on each.
    pub(crate) in_flight: u32,
}

const fn case(name: &'static str, workload: Workload, connections: usize, in_flight: u32) -> Case {
    Case { name, workload, connections, in_flight }
}

/// All of them. `10x100` is 10 connections with 100 requests in flight on each; `100x1000` is
/// 100 connections with 1000 in flight together, as `benchmark --conns 100 --clients 1000`.
pub(crate) const CASES: [Case; 8] = [
    case("put-1", Workload::Put, 1, 1),
    case("put-10x100", Workload::Put, 10, 100),
    case("put-100x1000", Workload::Put, 100, 10),
    case("get-1", Workload::Get, 1, 1),
    case("get-10x100", Workload::Get, 10, 100),
    case("get-100x1000", Workload::Get, 100, 10),
    case("pairs", Workload::Pairs, 10, 100),
    case("empty-10x100", Workload::Empty, 10, 100),
];

impl Case {
    /// Whether `tool` can make this load.
    pub(crate) fn suits(&self, tool: Tool) -> bool {
        match (tool, self.workload) {
            (Tool::Lean, _) => true,
            (Tool::Benchmark, workload) => matches!(workload, Workload::Put | Workload::Get),
            (Tool::H2load, workload) => {
                matches!(workload, Workload::Put | Workload::Get | Workload::Empty)
            }
        }
    }

    /// Whether etcd can serve it.
    pub(crate) fn has_rival(&self) -> bool {
        self.workload != Workload::Empty
    }

    /// How many clients there are together.
    pub(crate) fn clients(&self) -> usize {
        self.connections * usize::try_from(self.in_flight).expect("32 bits fit")
    }
}

/// What a target looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    /// Server CPU per operation, ringd ÷ etcd.
    CpuRatio,
    /// Operations per second, ringd ÷ etcd.
    RateRatio,
    /// Median latency, ringd ÷ etcd.
    P50Ratio,
    /// ringd's server CPU per operation in microseconds.
    CpuUs,
    /// ringd's operations per second.
    Rate,
}

impl Metric {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuRatio => "server CPU, ringd/etcd",
            Self::RateRatio => "rate, ringd/etcd",
            Self::P50Ratio => "p50, ringd/etcd",
            Self::CpuUs => "server CPU, us",
            Self::Rate => "rate, /s",
        }
    }

    /// Whether more is better.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::RateRatio | Self::Rate)
    }
}

/// A figure to reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Target {
    /// The load's maker.
    pub(crate) tool: Tool,
    /// The workload's name.
    pub(crate) case: &'static str,
    /// What is compared.
    pub(crate) metric: Metric,
    /// What it must reach.
    pub(crate) must: f64,
    /// What it should reach.
    pub(crate) goal: Option<f64>,
}

const fn target(
    tool: Tool,
    case: &'static str,
    metric: Metric,
    must: f64,
    goal: Option<f64>,
) -> Target {
    Target { tool, case, metric, must, goal }
}

/// The figures of the first milestone: 2 CPUs, 256-byte values, a space of a million keys.
pub(crate) const TARGETS: [Target; 14] = [
    target(Tool::H2load, "empty-10x100", Metric::CpuUs, 2.0, None),
    target(Tool::Lean, "empty-10x100", Metric::CpuUs, 2.0, None),
    target(Tool::Lean, "put-10x100", Metric::CpuRatio, 0.15, Some(0.08)),
    target(Tool::Lean, "put-10x100", Metric::RateRatio, 4.0, Some(6.0)),
    target(Tool::Lean, "put-100x1000", Metric::CpuRatio, 0.15, Some(0.08)),
    target(Tool::Lean, "put-100x1000", Metric::RateRatio, 4.0, Some(6.0)),
    target(Tool::Benchmark, "put-100x1000", Metric::CpuRatio, 0.2, Some(0.13)),
    target(Tool::Benchmark, "put-100x1000", Metric::RateRatio, 2.2, Some(2.8)),
    target(Tool::Lean, "put-1", Metric::P50Ratio, 0.6, None),
    target(Tool::Benchmark, "put-1", Metric::P50Ratio, 0.7, None),
    target(Tool::Lean, "get-10x100", Metric::CpuRatio, 0.15, None),
    target(Tool::Benchmark, "get-100x1000", Metric::CpuRatio, 0.2, None),
    target(Tool::Lean, "put-10x100", Metric::Rate, 16_000.0, None),
    target(Tool::Lean, "pairs", Metric::Rate, 12_000.0, None),
];

/// How a figure stands to its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// The goal is reached, or there is none besides what must be.
    Goal,
    /// What must be is reached.
    Pass,
    /// It is not reached.
    Miss,
}

impl Verdict {
    /// The word in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Goal => "goal",
            Self::Pass => "pass",
            Self::Miss => "MISS",
        }
    }
}

impl Target {
    /// How `value` stands to this target.
    pub(crate) fn judge(&self, value: f64) -> Verdict {
        let reached = |bound: f64| {
            if self.metric.is_floor() { value >= bound } else { value <= bound }
        };
        match self.goal {
            Some(goal) if reached(goal) => Verdict::Goal,
            _ if reached(self.must) => Verdict::Pass,
            _ => Verdict::Miss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_names_a_case_that_suits_its_tool() {
        for target in TARGETS {
            let case = CASES.iter().find(|case| case.name == target.case).expect(target.case);
            assert!(case.suits(target.tool), "{target:?}");
            if let Some(goal) = target.goal {
                assert_eq!(target.judge(goal), Verdict::Goal, "a goal is harder: {target:?}");
                assert_eq!(target.judge(target.must), Verdict::Pass, "{target:?}");
            }
        }
    }

    #[test]
    fn floors_and_ceilings_are_told_apart() {
        let ceiling = target(Tool::Lean, "put-1", Metric::P50Ratio, 0.6, None);
        assert_eq!(ceiling.judge(0.5), Verdict::Pass);
        assert_eq!(ceiling.judge(0.7), Verdict::Miss);
        let floor = target(Tool::Lean, "put-1", Metric::Rate, 10.0, Some(20.0));
        assert_eq!(floor.judge(25.0), Verdict::Goal);
        assert_eq!(floor.judge(9.0), Verdict::Miss);
        assert_eq!(ceiling.judge(f64::NAN), Verdict::Miss);
    }
}
