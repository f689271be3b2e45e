//! Tables as etcdctl draws them.

/// A table: heads in the middle of their columns, cells to the right.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: Vec<_> = (0..heads.len())
        .map(|column| {
            let cells = rows.iter().map(|row| width(&row[column]));
            cells.max().unwrap_or(0).max(width(heads[column]))
        })
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let lines: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let line = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let heads = heads.iter().zip(&widths).map(|(head, width)| format!("{head:^width$}"));
    let mut drawn = rule("┌", "┬", "┐") + &line(heads.collect()) + &rule("├", "┼", "┤");
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        drawn += &line(cells.collect());
    }
    drawn + &rule("└", "┴", "┘")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_as_etcdctl_draws_it() {
        let rows =
            [vec!["a:1".to_owned(), "false".to_owned()], vec![String::new(), "x".to_owned()]];
        let drawn = "┌──────────┬───────┐\n\
                     │ ENDPOINT │  OK   │\n\
                     ├──────────┼───────┤\n\
                     │      a:1 │ false │\n\
                     │          │     x │\n\
                     └──────────┴───────┘\n";
        assert_eq!(table(&["ENDPOINT", "OK"], &rows), drawn);
    }
}
