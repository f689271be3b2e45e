//! Scenarios in words: a table for each, the verdicts, and charts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::scenario::figures::{Judged, Row, Summary};
use crate::scenario::lines::{self, Line};
use crate::versus::chart::{self, number};
use crate::versus::report::{aligned, flush_line, head, piped};

/// The columns of the table of targets.
const TARGETS: [&str; 7] = ["scenario", "case", "figure", "ringd", "etcd", "at most", ""];

/// One scenario as a table: its heads and lines.
type Table = (&'static str, Vec<&'static str>, Vec<Vec<String>>);

/// The tables for people at the terminal.
pub(crate) fn terminal(summary: &Summary) -> String {
    let mut text = String::new();
    for (scenario, heads, lines) in tables(summary) {
        write!(text, "{scenario}\n{}\n", aligned(&heads, &lines)).expect("writing to a string");
    }
    if !summary.targets.is_empty() {
        text += &aligned(&TARGETS, &targets(summary));
        text.push('\n');
    }
    for line in complaints(summary) {
        writeln!(text, "{line}").expect("writing to a string");
    }
    text += &flush_line(&summary.book.flushes);
    text.push('\n');
    text
}

/// Writes `scenarios.md`, `scenarios.json` and charts to `dir`.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(summary: &Summary, dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(Failure::io(format!("create {}", dir.display())))?;
    let charts = charts(summary);
    let json = serde_json::to_string_pretty(summary).expect("plain data") + "\n";
    let page = markdown(summary, &charts);
    let texts = [("scenarios.md".to_owned(), page), ("scenarios.json".to_owned(), json)];
    let drawn = charts.into_iter().map(|chart| (chart.file, chart.svg));
    for (name, text) in texts.into_iter().chain(drawn) {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Failure::io(format!("write {}", path.display())))?;
    }
    Ok(())
}

/// A chart, its file and what it shows.
struct Chart {
    scenario: &'static str,
    file: String,
    title: String,
    svg: String,
}

/// One chart per curve of a scenario, of its first round, and one of CPU time over all.
fn charts(summary: &Summary) -> Vec<Chart> {
    let mut charts: Vec<Chart> = Vec::new();
    for curve in &summary.book.curves {
        let file = format!("{}-{}.svg", curve.scenario, plain(curve.name));
        if charts.iter().any(|chart| chart.file == file) {
            continue;
        }
        let same = summary.book.curves.iter().filter(|other| {
            other.scenario == curve.scenario && other.name == curve.name && other.round == 1
        });
        let lines: Vec<Line<'_>> =
            same.map(|curve| (curve.server, curve.points.as_slice())).collect();
        let title = format!("{}: {}", curve.scenario, curve.name);
        let svg = lines::draw(&title, &lines);
        charts.push(Chart { scenario: curve.scenario, file, title, svg });
    }
    let percent = |row: &Row| {
        let ratio = row.ratio().filter(|_| row.name.starts_with("CPU "))?;
        let name = format!("{}, {}", row.scenario, row.case);
        Some((name, Some(ratio * 100.0), Some(100.0)))
    };
    let bars: Vec<_> = summary.rows.iter().filter_map(percent).collect();
    if !bars.is_empty() {
        let title = "Server CPU time for the same work, etcd's = 100".to_owned();
        let svg = chart::draw(&title, &bars);
        charts.push(Chart { scenario: "", file: "scenarios-cpu.svg".to_owned(), title, svg });
    }
    charts
}

/// A name as part of a file's.
fn plain(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

fn markdown(summary: &Summary, charts: &[Chart]) -> String {
    let mut text = head("Scenarios", &summary.machine);
    writeln!(text, "- disk: {}", flush_line(&summary.book.flushes)).expect("writing to a string");
    let show = |text: &mut String, scenario: &str| {
        for chart in charts.iter().filter(|chart| chart.scenario == scenario) {
            writeln!(text, "\n![{}]({})", chart.title, chart.file).expect("writing to a string");
        }
    };
    text += "\n## Targets\n\n";
    text += &piped(&TARGETS, &targets(summary));
    show(&mut text, "");
    for (scenario, heads, lines) in tables(summary) {
        write!(text, "\n## {scenario}\n\n{}", piped(&heads, &lines)).expect("writing to a string");
        show(&mut text, scenario);
    }
    let complaints = complaints(summary);
    if !complaints.is_empty() {
        text += "\n## What did not go well\n\n";
        for line in complaints {
            writeln!(text, "- {line}").expect("writing to a string");
        }
    }
    text
}

/// Each scenario's table: a line per case and server, a column per figure, in order of appearance.
fn tables(summary: &Summary) -> Vec<Table> {
    let mut scenarios: Vec<&'static str> = Vec::new();
    for row in &summary.rows {
        if !scenarios.contains(&row.scenario) {
            scenarios.push(row.scenario);
        }
    }
    scenarios.into_iter().flat_map(|scenario| split(summary, scenario)).collect()
}

/// A scenario's cases that have the same figures share a table.
fn split(summary: &Summary, scenario: &'static str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut cases: Vec<&str> = Vec::new();
    let rows = || summary.rows.iter().filter(|row| row.scenario == scenario);
    for row in rows() {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    for case in cases {
        let of: Vec<_> = rows().filter(|row| row.case == case).collect();
        let names: Vec<_> = of.iter().map(|row| row.name).collect();
        let heads: Vec<_> = ["case", "server"].into_iter().chain(names).collect();
        match tables.iter_mut().find(|table| table.1 == heads) {
            Some(table) => table.2.extend(lines_of(case, &of)),
            None => tables.push((scenario, heads, lines_of(case, &of))),
        }
    }
    tables
}

fn lines_of(case: &str, rows: &[&Row]) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for server in ["ringd", "etcd"] {
        let cells: Vec<_> = rows
            .iter()
            .map(|row| if server == "ringd" { row.ringd } else { row.etcd })
            .map(|middle| {
                let Some(middle) = middle else { return "-".to_owned() };
                let (low, high) = middle.range;
                let [low, value, high] = [low, middle.value, high].map(number);
                if low == high { value } else { format!("{value} ({low}..{high})") }
            })
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            lines.push([case, server].map(str::to_owned).into_iter().chain(cells).collect());
        }
    }
    if lines.len() == 2 {
        // A ratio of ratios, whose names have a comma, or of drifts says nothing.
        let ratio = |row: &&Row| match row.ratio() {
            Some(ratio) if !row.name.contains([',', '%']) => format!("x{}", number(ratio)),
            _ => String::new(),
        };
        let head = [case, "ringd/etcd"].map(str::to_owned);
        lines.push(head.into_iter().chain(rows.iter().map(ratio)).collect());
    }
    lines
}

fn targets(summary: &Summary) -> Vec<Vec<String>> {
    let line = |target: &Judged| {
        vec![
            target.scenario.to_owned(),
            target.case.to_owned(),
            target.what.clone(),
            number(target.value),
            target.etcd.map_or("-".to_owned(), number),
            number(target.must),
            target.verdict.name().to_owned(),
        ]
    };
    summary.targets.iter().map(line).collect()
}

fn complaints(summary: &Summary) -> Vec<String> {
    let line = |complaint: &crate::scenario::figures::Complaint| {
        format!("{} {}: {}", complaint.scenario, complaint.server, complaint.what)
    };
    summary.book.complaints.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::figures::{Complaint, example};

    #[test]
    fn the_tables_have_both_servers_their_ratio_and_the_verdicts() {
        let mut summary = example();
        let what = "one key is gone".to_owned();
        summary.book.complaints.push(Complaint { scenario: "restart", server: "ringd", what });
        let text = terminal(&summary);
        assert!(text.contains("warm  ringd       0.600 (0.500..0.700)"), "{text}");
        assert!(text.contains("x0.133"), "{text}");
        assert!(text.contains("restart ringd: one key is gone"), "{text}");
        assert!(text.contains("pass"), "{text}");
        let ratios = text.lines().find(|line| line.starts_with("puts  ringd/etcd"));
        assert_eq!(ratios.expect("a line").trim(), "puts  ringd/etcd", "no ratio of ratios");
    }

    #[test]
    fn the_page_shows_every_chart_and_whole_tables() {
        let summary = example();
        let charts = charts(&summary);
        assert_eq!(charts.len(), 1);
        assert_eq!(charts[0].file, "compaction-put-p99-us.svg");
        assert_eq!(charts[0].svg.matches("<polyline").count(), 2, "of the first round");
        let page = markdown(&summary, &charts);
        assert!(page.contains("](compaction-put-p99-us.svg)"), "{page}");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| restart")).collect();
        assert_eq!(rows.len(), 2, "{page}");
        assert!(rows.iter().all(|row| row.matches('|').count() == TARGETS.len() + 1));
    }
}
