//! A bar chart as SVG, drawn by hand: two bars per load, ringd and etcd.

use std::fmt::Write as _;

/// One load in a chart: its name, ringd's value, etcd's value.
pub(crate) type Bars = (String, Option<f64>, Option<f64>);

const WIDTH: f64 = 760.0;
/// Where bars start, and how long the longest may be.
const LEFT: f64 = 190.0;
const LENGTH_MAX: f64 = WIDTH - LEFT - 90.0;
const BAR: f64 = 14.0;
const GROUP: f64 = 2.0 * BAR + 14.0;
const TOP: f64 = 60.0;

/// The colour of ringd.
pub(crate) const RINGD: &str = "#c2410c";
/// The colour of etcd.
pub(crate) const ETCD: &str = "#64748b";

/// Draws `rows` as horizontal bars on one linear scale.
pub(crate) fn draw(title: &str, rows: &[Bars]) -> String {
    let values = rows.iter().flat_map(|(_, ringd, etcd)| [*ringd, *etcd]).flatten();
    let most = values.fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + GROUP * rows.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, 10.0, 22.0, "font-size=\"15\" font-weight=\"bold\"", title);
    for (x, color, name) in [(LEFT, RINGD, "ringd"), (LEFT + 80.0, ETCD, "etcd")] {
        bar(&mut svg, x, 36.0, 10.0, color);
        text(&mut svg, x + 16.0, 45.0, "", name);
    }
    for (row, (name, ringd, etcd)) in rows.iter().enumerate() {
        let y = TOP + GROUP * row as f64;
        let place = "text-anchor=\"end\"";
        text(&mut svg, LEFT - 10.0, y + BAR + 4.0, place, name);
        for (y, value, color) in [(y, ringd, RINGD), (y + BAR, etcd, ETCD)] {
            let Some(value) = value else { continue };
            let length = (value / most * LENGTH_MAX).max(1.0);
            bar(&mut svg, LEFT, y, length, color);
            text(&mut svg, LEFT + length + 5.0, y + BAR - 3.0, "", &number(*value));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, x: f64, y: f64, length: f64, color: &str) {
    let height = BAR - 2.0;
    writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{height}\" \
         fill=\"{color}\"/>"
    )
    .expect("writing to a string");
}

/// Writes `text` at a place.
pub(crate) fn text(svg: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>")
        .expect("writing to a string");
}

/// A value with about three digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100_000.0 {
        format!("{:.0}k", value / 1000.0)
    } else if size >= 10_000.0 {
        format!("{:.1}k", value / 1000.0)
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_largest_value() {
        let rows = [("a & b".to_owned(), Some(5.0), Some(50.0)), ("c".to_owned(), Some(1.0), None)];
        let svg = draw("CPU", &rows);
        assert!(svg.contains(&format!("width=\"{LENGTH_MAX:.1}\"")));
        assert!(svg.contains("a &amp; b"));
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 3);
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn numbers_have_three_digits() {
        let values = [123_456.0, 23_456.0, 234.5, 23.45, 2.345, 0.2345];
        let texts: Vec<_> = values.into_iter().map(number).collect();
        assert_eq!(texts, ["123k", "23.5k", "234", "23.4", "2.35", "0.234"]);
    }
}
