//! A chart of numbers over time as SVG, drawn by hand.

use std::fmt::Write as _;

use crate::versus::chart::{ETCD, RINGD, number, text};

/// One line: which server's, and its points from left to right.
pub(crate) type Line<'a> = (&'a str, &'a [(f64, f64)]);

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
/// The frame that lines are drawn in.
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = HEIGHT - 40.0;

/// Points of one line; of longer ones the highest of each stretch is drawn.
const POINTS_MAX: usize = 300;

/// Values that differ by more than this factor are drawn on a logarithmic scale.
const LINEAR_RATIO_MAX: f64 = 50.0;

/// How values become heights.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(values: &[f64]) -> Self {
        let high = values.iter().copied().fold(0.0, f64::max);
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        if low > 0.0 && high / low > LINEAR_RATIO_MAX {
            let (low, high) = (low.log10().floor(), high.log10().ceil());
            return Self { low, high, logarithmic: true };
        }
        let step = step(high);
        Self { low: 0.0, high: (high / step).ceil().max(1.0) * step, logarithmic: false }
    }

    fn y(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        BOTTOM - (value - self.low) / (self.high - self.low) * (BOTTOM - TOP)
    }

    /// Where lines across are drawn.
    fn ticks(&self) -> Vec<f64> {
        let step = if self.logarithmic { 1.0 } else { step(self.high) };
        let mut ticks = Vec::new();
        let mut tick = self.low;
        while tick <= self.high + step / 2.0 {
            ticks.push(if self.logarithmic { 10f64.powf(tick) } else { tick });
            tick += step;
        }
        ticks
    }
}

/// A round number, of which four to ten make `high`.
fn step(high: f64) -> f64 {
    if high <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((high / 4.0).log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|factor| factor * power);
    steps.into_iter().find(|step| high / step >= 4.0).unwrap_or(power)
}

/// Draws `lines` over one axis of seconds.
pub(crate) fn draw(title: &str, lines: &[Line<'_>]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let end = points().map(|point| point.0).fold(1e-9, f64::max);
    let scale = Scale::of(&points().map(|point| point.1).collect::<Vec<_>>());
    let x = |seconds: f64| LEFT + seconds / end * (RIGHT - LEFT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, 10.0, 22.0, "font-size=\"15\" font-weight=\"bold\"", title);
    for tick in scale.ticks() {
        let y = scale.y(tick);
        rule(&mut svg, (LEFT, y), (RIGHT, y));
        text(&mut svg, LEFT - 8.0, y + 4.0, "text-anchor=\"end\"", &number(tick));
    }
    let step = step(end);
    let mut seconds = 0.0;
    while seconds <= end {
        rule(&mut svg, (x(seconds), BOTTOM), (x(seconds), BOTTOM + 5.0));
        let place = "text-anchor=\"middle\"";
        let label = if seconds == 0.0 { "0 s".to_owned() } else { number(seconds) + " s" };
        text(&mut svg, x(seconds), BOTTOM + 18.0, place, &label);
        seconds += step;
    }
    for (index, name) in ["ringd", "etcd"].into_iter().enumerate() {
        text(&mut svg, LEFT + 80.0 * index as f64, 44.0, &fill(name), name);
    }
    for (server, points) in lines {
        write!(
            svg,
            "<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"{}\" points=\"",
            color(server)
        )
        .expect("writing to a string");
        for (seconds, value) in thin(points) {
            write!(svg, "{:.1},{:.1} ", x(seconds), scale.y(value)).expect("writing to a string");
        }
        svg.push_str("\"/>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn color(server: &str) -> &'static str {
    if server == "ringd" { RINGD } else { ETCD }
}

fn fill(server: &str) -> String {
    format!("fill=\"{}\" font-weight=\"bold\"", color(server))
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    writeln!(
        svg,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#e2e8f0\"/>",
        from.0, from.1, to.0, to.1
    )
    .expect("writing to a string");
}

/// At most as many points as are drawn: the highest of each stretch.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |points: &[(f64, f64)]| {
        points.iter().copied().reduce(|one, other| if other.1 > one.1 { other } else { one })
    };
    points.chunks(stretch).filter_map(highest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_a_handful() {
        for high in [0.003, 0.9, 1.0, 7.0, 10.0, 49.0, 1234.0, 9.9e7] {
            let count = high / step(high);
            assert!((4.0..=10.1).contains(&count), "{high}: {count}");
        }
        assert!((step(100.0) - 20.0).abs() < 1e-9);
        assert!((step(0.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_wide_range_is_drawn_by_powers_of_ten() {
        let wide = Scale::of(&[3.0, 4000.0]);
        assert!(wide.logarithmic);
        assert_eq!(wide.ticks().len(), 5);
        assert!((wide.y(1.0) - BOTTOM).abs() < 1e-9 && (wide.y(10_000.0) - TOP).abs() < 1e-9);
        let narrow = Scale::of(&[0.0, 4000.0]);
        assert!(!narrow.logarithmic);
        assert!((narrow.y(4000.0) - TOP).abs() < 1e-9);
    }

    #[test]
    fn a_chart_has_a_line_for_each_server_within_its_frame() {
        let points: Vec<_> = (0..5000).map(|n| (f64::from(n), f64::from(n % 100))).collect();
        let svg = draw("a < b", &[("ringd", &points), ("etcd", &points[..10]), ("etcd", &[])]);
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("a &lt; b") && svg.contains(RINGD) && svg.contains(ETCD));
        let line = svg.lines().find(|line| line.starts_with("<polyline")).expect("drawn");
        let drawn = line.split("points=\"").nth(1).expect("points").trim_end_matches("\"/>");
        assert!(drawn.split_whitespace().count() <= POINTS_MAX);
        for point in drawn.split_whitespace() {
            let (x, y) = point.split_once(',').expect("a pair");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{point}");
        }
        assert!(!draw("empty", &[]).contains("NaN"));
    }
}
