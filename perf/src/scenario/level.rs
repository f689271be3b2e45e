//! Whether a number stays where it is, and latencies of parts of a run.

use std::time::Duration;

use crate::clock::Nanos;
use crate::load::measure::{Latency, Sample, histogram};

/// Points that a drift is computed from: each is paired with each.
const POINTS_MAX: usize = 400;

/// The share of a run that is not looked at: caches fill, files are made.
const WARM_UP_SHARE: f64 = 0.25;

/// How much a number rose over a run, its first quarter left out, in percent of its median.
///
/// It is the median of the slopes between all pairs of points, so that saw teeth, as compaction
/// makes them, and single outliers do not count. `None` with fewer than four points.
pub(crate) fn drift_percent(points: &[(f64, f64)]) -> Option<f64> {
    let (start, end) = (points.first()?.0, points.last()?.0);
    let from = start + (end - start) * WARM_UP_SHARE;
    let late: Vec<_> = points.iter().copied().filter(|point| point.0 >= from).collect();
    let step = late.len().div_ceil(POINTS_MAX).max(1);
    let few: Vec<_> = late.iter().copied().step_by(step).collect();
    if few.len() < 4 {
        return None;
    }
    let mut slopes = Vec::new();
    for (index, one) in few.iter().enumerate() {
        slopes.extend(few[index + 1..].iter().map(|other| (other.1 - one.1) / (other.0 - one.0)));
    }
    let slope = crate::versus::result::median(slopes)?;
    let middle = crate::versus::result::median(few.iter().map(|point| point.1).collect())?;
    (middle > 0.0 && slope.is_finite()).then(|| slope * (end - from) / middle * 100.0)
}

/// The distribution of what was due in `from..to`.
pub(crate) fn between(samples: &[Sample], from: Nanos, to: Nanos) -> Latency {
    let mut latency = histogram();
    let (from, to) = (from.0 / 1_000_000, to.0 / 1_000_000);
    for sample in samples.iter().filter(|s| (from..to).contains(&u64::from(s.due_ms))) {
        latency.saturating_record(u64::from(sample.latency_us) * 1000);
    }
    Latency::of(&latency)
}

/// A point of each stretch of `width` from `start` on: its middle in seconds, and what `pick`
/// takes from its distribution. Stretches in which nothing was due are left out.
pub(crate) fn curve(
    samples: &[Sample],
    start: Nanos,
    width: Duration,
    pick: impl Fn(&Latency) -> f64,
) -> Vec<(f64, f64)> {
    let width_ms = u64::try_from(width.as_millis()).unwrap_or(u64::MAX).max(1);
    let start_ms = start.0 / 1_000_000;
    let place = |sample: &Sample| {
        u64::from(sample.due_ms).checked_sub(start_ms).map(|after| after / width_ms)
    };
    let mut sorted: Vec<_> =
        samples.iter().filter_map(|s| Some((place(s)?, s.latency_us))).collect();
    sorted.sort_unstable();
    sorted
        .chunk_by(|one, other| one.0 == other.0)
        .map(|stretch| {
            let mut latency = histogram();
            for (_, micros) in stretch {
                latency.saturating_record(u64::from(*micros) * 1000);
            }
            let middle = (stretch[0].0 as f64 + 0.5) * width_ms as f64 / 1000.0;
            (middle, pick(&Latency::of(&latency)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Kind;

    fn points(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..1000).map(|second| (f64::from(second), of(f64::from(second)))).collect()
    }

    #[test]
    fn a_rise_is_told_from_saw_teeth_and_outliers() {
        let rise = drift_percent(&points(|t| 1000.0 + t)).expect("points");
        assert!((rise - 750.0 / 1625.0 * 100.0).abs() < 1.0, "{rise}");
        let teeth = drift_percent(&points(|t| 100.0 + t % 50.0)).expect("points");
        assert!(teeth.abs() < 5.0, "{teeth}");
        let spikes = |t: f64| if t % 97.0 == 0.0 { 9999.0 } else { 10.0 };
        assert!(drift_percent(&points(spikes)).expect("points").abs() < 1e-9);
        let fall = drift_percent(&points(|t| 2000.0 - t)).expect("points");
        assert!(fall < -50.0, "{fall}");
    }

    #[test]
    fn the_start_of_a_run_is_not_looked_at() {
        let warm = drift_percent(&points(|t| t.min(200.0))).expect("points");
        assert!(warm.abs() < 1e-9, "{warm}");
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(drift_percent(&[]), None);
        assert_eq!(drift_percent(&[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]), None);
        assert_eq!(drift_percent(&points(|_| 0.0)), None);
    }

    /// One operation each millisecond from the first second on, as long as its number.
    fn samples() -> Vec<Sample> {
        let sample = |n: u32| Sample { due_ms: 1000 + n, latency_us: n + 1, kind: Kind::Put };
        (0..3000).map(sample).collect()
    }

    fn at(millis: u64) -> Nanos {
        Nanos(millis * 1_000_000)
    }

    #[test]
    fn a_part_of_a_run_has_its_own_distribution() {
        let all = samples();
        let part = between(&all, at(2000), at(3000));
        assert_eq!(part.count, 1000);
        assert!((part.p50_us - 1500.0).abs() < 5.0 && part.max_us < 2010.0, "{part:?}");
        assert_eq!(between(&all, at(5000), at(9000)), Latency::default());
    }

    #[test]
    fn a_curve_has_a_point_for_each_stretch_with_something_in_it() {
        let mut all = samples();
        all.retain(|sample| !(2000..3000).contains(&sample.due_ms));
        all.reverse();
        let curve = curve(&all, at(1000), Duration::from_millis(500), |latency| latency.max_us);
        let times: Vec<_> = curve.iter().map(|point| point.0).collect();
        assert_eq!(times, [0.25, 0.75, 2.25, 2.75]);
        assert!((curve[0].1 - 500.0).abs() < 2.0, "{curve:?}");
    }
}
