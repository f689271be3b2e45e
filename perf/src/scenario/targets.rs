//! What ringd must reach in scenarios.

/// What of a figure is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aspect {
    /// ringd's ÷ etcd's.
    Ratio,
    /// etcd's ÷ ringd's, of what should be high.
    Inverse,
    /// ringd's own.
    Own,
}

/// A figure and what it may be at most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Target {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// What of it.
    pub(crate) case: &'static str,
    /// What the number is.
    pub(crate) figure: &'static str,
    /// What of it is judged.
    pub(crate) aspect: Aspect,
    /// What it may be at most.
    pub(crate) must: f64,
}

const fn target(
    scenario: &'static str,
    case: &'static str,
    figure: &'static str,
    aspect: Aspect,
    must: f64,
) -> Target {
    Target { scenario, case, figure, aspect, must }
}

/// The figures of the milestones after the first, at full size on two CPUs.
///
/// "Near the disk's" is taken as once and a half what a value in memory takes and the disk takes,
/// one after the other; "level" as a rise of at most a tenth (a half for p99.9, which has few
/// samples) from the first quarter of a run to its end, "flat" and "bounded" as 16 MiB. Five times
/// as much per second of CPU time is a fifth of the CPU time for each.
pub(crate) const TARGETS: [Target; 39] = [
    target("compaction", "puts", "p99, during/quiet", Aspect::Own, 1.3),
    target("restart", "warm", "ready s", Aspect::Own, 1.0),
    target("restart", "warm", "RSS MiB", Aspect::Ratio, 0.6),
    target("list", "unary", "CPU ms/list", Aspect::Ratio, 0.25),
    target("list", "unary", "RSS growth MiB", Aspect::Own, 16.0),
    target("list", "stream", "RSS growth MiB", Aspect::Own, 16.0),
    target("paging", "pages", "CPU us/page", Aspect::Ratio, 0.25),
    target("fanout", "one key", "CPU us/event", Aspect::Ratio, 0.2),
    target("fanout", "one key, fast", "CPU us/event", Aspect::Ratio, 0.2),
    target("fanout", "own keys, fast", "CPU us/event", Aspect::Ratio, 0.2),
    target("stalled", "no window", "p99, stalled/quiet", Aspect::Own, 1.2),
    target("stalled", "unread socket", "p99, stalled/quiet", Aspect::Own, 1.2),
    target("stalled", "no window", "RSS growth, stalled-quiet MiB", Aspect::Own, 16.0),
    target("stalled", "unread socket", "RSS growth, stalled-quiet MiB", Aspect::Own, 16.0),
    target("keepalive", "100 streams x 10", "CPU us/keep-alive", Aspect::Ratio, 0.2),
    target("keepalive", "100 streams x 1", "CPU us/keep-alive", Aspect::Ratio, 0.2),
    target("keepalive", "benchmark, 100 clients", "CPU us/keep-alive", Aspect::Ratio, 0.2),
    target("leases-expire", "puts", "p99, during/quiet", Aspect::Own, 2.0),
    target("large", "gets 1", "p99, of memory's and disk's", Aspect::Own, 1.5),
    target("large", "whole", "RSS drift %", Aspect::Own, 10.0),
    target("churn", "puts", "disk/alive, late", Aspect::Own, 3.0),
    target("churn", "puts", "disk drift %", Aspect::Own, 10.0),
    target("churn", "puts", "p99 drift %", Aspect::Own, 50.0),
    target("churn", "puts", "RSS drift %", Aspect::Own, 10.0),
    target("soak", "all", "RSS drift %", Aspect::Own, 10.0),
    target("soak", "all", "descriptors drift %", Aspect::Own, 10.0),
    target("soak", "all", "disk drift %", Aspect::Own, 10.0),
    target("soak", "all", "p99.9 drift %", Aspect::Own, 50.0),
    target("cluster", "puts 1", "p50 us", Aspect::Ratio, 0.65),
    target("cluster", "puts 10 x 10", "rate /s", Aspect::Inverse, 1.0 / 3.0),
    target("cluster", "puts 10 x 10", "CPU us/op, all members", Aspect::Ratio, 0.25),
    target("cluster", "puts 100 x 10", "rate /s", Aspect::Inverse, 1.0 / 3.0),
    target("cluster", "puts 100 x 10", "CPU us/op, all members", Aspect::Ratio, 0.25),
    target("cluster", "gets, spread", "CPU us/op, all members", Aspect::Ratio, 0.25),
    target("failover", "probe", "longest gap ms", Aspect::Ratio, 1.0),
    target("catch-up", "puts", "p99, during/quiet", Aspect::Own, 1.5),
    target("cluster-soak", "all", "RSS drift %", Aspect::Own, 10.0),
    target("cluster-soak", "all", "descriptors drift %", Aspect::Own, 10.0),
    target("cluster-soak", "all", "disk drift %", Aspect::Own, 10.0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_target_names_a_scenario() {
        use clap::ValueEnum as _;
        for target in TARGETS {
            assert!(Scenario::value_variants().iter().any(|s| s.name() == target.scenario));
        }
    }
}
