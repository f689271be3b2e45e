//! A comparison in words: a table for the terminal, and files for the tree.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::disk::Flush;
use crate::failure::Failure;
use crate::versus::cases::Metric;
use crate::versus::chart::{self, number};
use crate::versus::machine::Machine;
use crate::versus::result::{Judged, Median, Row, Summary, median};

/// The columns of the table of figures.
const FIGURES: [&str; 9] =
    ["workload", "client", "server", "rate /s", "p50 us", "p99 us", "CPU us/op", "RSS MiB", "note"];

/// The columns of the table of targets.
const TARGETS: [&str; 7] = ["workload", "client", "figure", "measured", "must", "goal", ""];

/// The table for people.
pub(crate) fn terminal(summary: &Summary) -> String {
    let mut text = aligned(&FIGURES, &figures(summary));
    if !summary.targets.is_empty() {
        text.push('\n');
        text += &aligned(&TARGETS, &targets(summary));
    }
    text.push('\n');
    text += &flush_line(&summary.flushes);
    text.push('\n');
    text
}

/// Writes `report.md`, `report.json` and two charts to `dir`.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(summary: &Summary, dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(Failure::io(format!("create {}", dir.display())))?;
    let json = serde_json::to_string_pretty(summary).expect("plain data") + "\n";
    let cpu = bars(summary, |median| median.server_cpu_us);
    let rate = bars(summary, |median| median.rate);
    for (name, text) in [
        ("report.md", markdown(summary)),
        ("report.json", json),
        ("cpu.svg", chart::draw("Server CPU per operation, us (less is better)", &cpu)),
        ("rate.svg", chart::draw("Operations per second (more is better)", &rate)),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Failure::io(format!("write {}", path.display())))?;
    }
    Ok(())
}

fn bars(summary: &Summary, pick: impl Fn(&Median) -> f64) -> Vec<chart::Bars> {
    let row = |row: &Row| {
        let name = format!("{} ({})", row.case, row.tool.name());
        (name, row.ringd.as_ref().map(&pick), row.etcd.as_ref().map(&pick))
    };
    summary.rows.iter().map(row).collect()
}

/// The report as a page.
pub(crate) fn markdown(summary: &Summary) -> String {
    let mut text = head("ringd beside etcd", &summary.machine);
    let mut line = |name: &str, value: &str| {
        writeln!(text, "- {name}: {value}").expect("writing to a string");
    };
    line("rounds", &format!("{}, medians shown", summary.rounds));
    line("disk", &flush_line(&summary.flushes));
    text += "\n![Server CPU per operation](cpu.svg)\n![Operations per second](rate.svg)\n";
    text += "\n## Figures\n\n";
    text += &piped(&FIGURES, &figures(summary));
    text += "\n## Targets\n\n";
    text += &piped(&TARGETS, &targets(summary));
    text
}

/// The head of a page: its title, the command, and what it ran on.
pub(crate) fn head(title: &str, machine: &Machine) -> String {
    let (day, command) = (&machine.day, &machine.command);
    let mut text = format!("# {title}, {day}\n\n```\n{command}\n```\n\n");
    let mut line = |name: &str, value: &str| {
        writeln!(text, "- {name}: {value}").expect("writing to a string");
    };
    let hardware =
        format!("{} CPUs, {}, {} MiB", machine.cpus, machine.processor, machine.memory_mib);
    line("machine", &hardware);
    line("kernel, file system", &format!("{}, {}", machine.kernel, machine.file_system));
    line("load average at the end", &machine.load_average);
    line("tree", &machine.commit);
    for (name, version) in &machine.servers {
        line(name, version);
    }
    text
}

fn figures(summary: &Summary) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for row in &summary.rows {
        for (server, median) in [("ringd", &row.ringd), ("etcd", &row.etcd)] {
            let Some(median) = median else { continue };
            lines.push(vec![
                row.case.to_owned(),
                row.tool.name().to_owned(),
                server.to_owned(),
                number(median.rate),
                cell(median.p50_us),
                cell(median.p99_us),
                number(median.server_cpu_us),
                number(median.rss_mib),
                note(median),
            ]);
        }
        let p99 = row.ringd.and_then(|r| r.p99_us).zip(row.etcd.and_then(|e| e.p99_us));
        let memory = row.ringd.zip(row.etcd).map(|(r, e)| r.rss_mib / e.rss_mib);
        let times = |value: Option<f64>| value.map_or("-".into(), |r| format!("x{}", number(r)));
        if row.etcd.is_some() && row.ringd.is_some() {
            lines.push(vec![
                row.case.to_owned(),
                row.tool.name().to_owned(),
                "ringd/etcd".to_owned(),
                times(row.value(Metric::RateRatio)),
                times(row.value(Metric::P50Ratio)),
                times(p99.map(|(ringd, etcd)| ringd / etcd)),
                times(row.value(Metric::CpuRatio)),
                times(memory),
                String::new(),
            ]);
        }
    }
    lines
}

/// A value, or a dash where there is none.
fn cell(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), number)
}

/// The spread over rounds, the client's own cost, and errors.
fn note(median: &Median) -> String {
    let (low, high) = median.rate_range;
    let mut note = format!("{}..{} /s", number(low), number(high));
    if let Some(client) = median.client_cpu_us {
        write!(note, ", client {} us", number(client)).expect("writing to a string");
    }
    if median.errors > 0 {
        write!(note, ", {} ERRORS", median.errors).expect("writing to a string");
    }
    note
}

fn targets(summary: &Summary) -> Vec<Vec<String>> {
    let line = |target: &Judged| {
        vec![
            target.case.to_owned(),
            target.tool.name().to_owned(),
            target.metric.to_owned(),
            number(target.value),
            number(target.must),
            target.goal.map_or("-".to_owned(), number),
            target.verdict.name().to_owned(),
        ]
    };
    summary.targets.iter().map(line).collect()
}

/// The disk's durable write during the run, in a sentence.
pub(crate) fn flush_line(flushes: &[Flush]) -> String {
    let p50s: Vec<_> = flushes.iter().map(|flush| flush.p50_us).collect();
    let low = p50s.iter().copied().fold(f64::INFINITY, f64::min);
    let high = p50s.iter().copied().fold(0.0, f64::max);
    let Some(middle) = median(p50s) else { return "the disk was not probed".to_owned() };
    let how = if flushes.iter().all(|f| f.direct) { "O_DIRECT + O_DSYNC" } else { "O_DSYNC" };
    format!(
        "4 KiB {how} overwrite p50 {} us ({}..{} before each start)",
        number(middle),
        number(low),
        number(high)
    )
}

/// A table in columns of equal width.
pub(crate) fn aligned(heads: &[&str], lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0).max(heads[column].len())
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    let heads: Vec<_> = heads.iter().map(|head| (*head).to_owned()).collect();
    for line in std::iter::once(&heads).chain(lines) {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A table in Markdown.
pub(crate) fn piped(heads: &[&str], lines: &[Vec<String>]) -> String {
    let rule = "---|".repeat(heads.len());
    let mut text = format!("| {} |\n|{rule}\n", heads.join(" | "));
    for line in lines {
        writeln!(text, "| {} |", line.join(" | ")).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versus::result::example;

    #[test]
    fn the_table_has_both_servers_their_ratio_and_the_verdicts() {
        let text = terminal(&example());
        assert!(text.contains("put-10x100  lean    ringd "), "{text}");
        assert!(text.contains("x5.00"), "{text}");
        assert!(text.contains("x0.100"), "{text}");
        assert!(text.contains("pass"), "{text}");
        assert!(text.contains("p50 120 us"), "{text}");
    }

    #[test]
    fn the_page_has_as_many_cells_as_heads() {
        let page = markdown(&example());
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| put")).collect();
        assert_eq!(rows.len(), 3 + 3);
        assert!(rows[..3].iter().all(|row| row.matches('|').count() == FIGURES.len() + 1));
        assert!(rows[3..].iter().all(|row| row.matches('|').count() == TARGETS.len() + 1));
    }
}
