//! What scenarios found: figures and curves by server and round, their medians, the verdicts.

use serde::Serialize;

use crate::disk::Flush;
use crate::scenario::targets::{Aspect, TARGETS, Target};
use crate::versus::cases::Verdict;
use crate::versus::machine::Machine;
use crate::versus::result::median;

/// One number of one run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Figure {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// What of it, where it has several parts.
    pub(crate) case: String,
    /// What the number is, with its unit.
    pub(crate) name: &'static str,
    /// `ringd` or `etcd`.
    pub(crate) server: &'static str,
    /// From 1.
    pub(crate) round: u32,
    /// The number.
    pub(crate) value: f64,
}

/// One number over time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Curve {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// What the number is, with its unit.
    pub(crate) name: &'static str,
    /// `ringd` or `etcd`.
    pub(crate) server: &'static str,
    /// From 1.
    pub(crate) round: u32,
    /// Seconds since the load began, and the number.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Something that did not go well; a scenario with one of these has reached nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Complaint {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// `ringd` or `etcd`.
    pub(crate) server: &'static str,
    /// What happened.
    pub(crate) what: String,
}

/// All that is found while scenarios run.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Book {
    /// Numbers.
    pub(crate) figures: Vec<Figure>,
    /// Numbers over time.
    pub(crate) curves: Vec<Curve>,
    /// What did not go well.
    pub(crate) complaints: Vec<Complaint>,
    /// The disk's durable write, before each start of a server.
    pub(crate) flushes: Vec<Flush>,
}

/// One server's figure over all rounds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Middle {
    /// The median.
    pub(crate) value: f64,
    /// The lowest and the highest: how far the median may be trusted.
    pub(crate) range: (f64, f64),
}

/// One figure, both servers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Row {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// What of it.
    pub(crate) case: String,
    /// What the number is.
    pub(crate) name: &'static str,
    /// ringd's.
    pub(crate) ringd: Option<Middle>,
    /// etcd's.
    pub(crate) etcd: Option<Middle>,
}

impl Row {
    /// ringd's ÷ etcd's, where both are there and etcd's is not zero.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ringd, etcd) = (self.ringd?.value, self.etcd?.value);
        (etcd != 0.0).then_some(ringd / etcd)
    }
}

/// A target and how it was met.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Judged {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// What of it.
    pub(crate) case: &'static str,
    /// What the number is, with `ringd/etcd` if it is a ratio.
    pub(crate) what: String,
    /// What was measured.
    pub(crate) value: f64,
    /// What etcd has where ringd alone is judged.
    pub(crate) etcd: Option<f64>,
    /// What it may be at most.
    pub(crate) must: f64,
    /// How it stands.
    pub(crate) verdict: Verdict,
}

/// Everything, ready to be shown.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Summary {
    /// What it ran on.
    pub(crate) machine: Machine,
    /// Medians, in the order they were first found.
    pub(crate) rows: Vec<Row>,
    /// The targets that were measured.
    pub(crate) targets: Vec<Judged>,
    /// Every single number.
    pub(crate) book: Book,
}

impl Summary {
    /// The medians and verdicts of what was found.
    pub(crate) fn of(machine: Machine, book: Book) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for figure in &book.figures {
            let Figure { scenario, ref case, name, .. } = *figure;
            let same =
                |row: &Row| row.scenario == scenario && row.case == *case && row.name == name;
            if !rows.iter().any(same) {
                let of = |server| middle(&book.figures, figure, server);
                let case = case.clone();
                rows.push(Row { scenario, case, name, ringd: of("ringd"), etcd: of("etcd") });
            }
        }
        let targets = TARGETS.iter().filter_map(|target| judge(target, &rows, &book)).collect();
        Self { machine, rows, targets, book }
    }
}

fn middle(figures: &[Figure], like: &Figure, server: &str) -> Option<Middle> {
    let values: Vec<_> = figures
        .iter()
        .filter(|figure| {
            figure.server == server
                && figure.scenario == like.scenario
                && figure.case == like.case
                && figure.name == like.name
        })
        .map(|figure| figure.value)
        .collect();
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    Some(Middle { value: median(values)?, range: (low, high) })
}

fn judge(target: &Target, rows: &[Row], book: &Book) -> Option<Judged> {
    let row = rows.iter().find(|row| {
        row.scenario == target.scenario && row.case == target.case && row.name == target.figure
    })?;
    let (value, etcd, suffix) = match target.aspect {
        Aspect::Ratio => (row.ratio()?, None, ", ringd/etcd"),
        Aspect::Inverse => (row.ratio()?.recip(), None, ", etcd/ringd"),
        Aspect::Own => (row.ringd?.value, row.etcd.map(|etcd| etcd.value), ""),
    };
    let broken = book
        .complaints
        .iter()
        .any(|complaint| complaint.scenario == target.scenario && complaint.server == "ringd");
    let verdict = if !broken && value <= target.must { Verdict::Pass } else { Verdict::Miss };
    let Target { scenario, case, figure, must, .. } = *target;
    Some(Judged { scenario, case, what: format!("{figure}{suffix}"), value, etcd, must, verdict })
}

/// Two rounds for the tests of reports.
#[cfg(test)]
pub(crate) fn example() -> Summary {
    let mut book = Book::default();
    for (round, server, ratio, seconds) in [
        (1, "ringd", 1.1, 0.5),
        (1, "etcd", 1.8, 4.0),
        (2, "etcd", 1.6, 5.0),
        (2, "ringd", 1.2, 0.7),
    ] {
        let figure = |scenario, case: &str, name, value| Figure {
            scenario,
            case: case.to_owned(),
            name,
            server,
            round,
            value,
        };
        book.figures.push(figure("compaction", "puts", "p99, during/quiet", ratio));
        book.figures.push(figure("restart", "warm", "ready s", seconds));
        book.figures.push(figure("restart", "warm", "RSS MiB", seconds * 100.0));
        let points = (0..50).map(|at| (f64::from(at), f64::from(at % 7) * ratio)).collect();
        book.curves.push(Curve {
            scenario: "compaction",
            name: "put p99, us",
            server,
            round,
            points,
        });
    }
    Summary::of(Machine::default(), book)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_medians_ratios_and_verdicts() {
        let summary = example();
        assert_eq!(summary.rows.len(), 3);
        let ready = &summary.rows[1];
        assert_eq!(ready.ringd.expect("measured").range, (0.5, 0.7));
        assert!((ready.ratio().expect("both") - 0.6 / 4.5).abs() < 1e-9);
        let verdicts: Vec<_> = summary.targets.iter().map(|t| (t.scenario, t.verdict)).collect();
        let pass = Verdict::Pass;
        assert_eq!(verdicts, [("compaction", pass), ("restart", pass), ("restart", pass)]);
    }

    #[test]
    fn what_went_wrong_misses_its_targets_whatever_the_figures() {
        let mut book = example().book;
        let complain = |server| Complaint { scenario: "restart", server, what: "lost".to_owned() };
        book.complaints.push(complain("etcd"));
        let verdicts = |book: &Book| {
            let summary = Summary::of(Machine::default(), book.clone());
            summary.targets.iter().map(|t| t.verdict).collect::<Vec<_>>()
        };
        assert!(!verdicts(&book).contains(&Verdict::Miss), "etcd's troubles are etcd's");
        book.complaints.push(complain("ringd"));
        assert_eq!(verdicts(&book), [Verdict::Pass, Verdict::Miss, Verdict::Miss]);
    }

    #[test]
    fn one_server_alone_has_no_ratio() {
        let mut book = example().book;
        book.figures.retain(|figure| figure.server == "ringd");
        let summary = Summary::of(Machine::default(), book);
        assert!(summary.rows.iter().all(|row| row.ratio().is_none()));
        assert_eq!(summary.targets.len(), 2, "those of ringd's own figures");
    }
}
