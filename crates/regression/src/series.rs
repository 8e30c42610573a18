//! One series of numbers without any run around it: where its level changes, what stands out, where it goes.

use evoseal_types::Direction;
use serde::{Deserialize, Serialize};

use crate::statistics::{check_values, linear_trend, mean, median, modified_zscore};
use crate::{Anomaly, Error, Result, Trend};

/// How a series is searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesSettings {
    /// What a change of level costs, in natural logarithms of the series' length; above 0, 3.0. On quiet, independent
    /// noise that reports hardly anything; smaller values find smaller changes and more that are none.
    pub penalty: f64,
    /// The fewest values between two changes, 2 or more; 3. One or two odd values are outliers, not a level.
    pub segment_min: usize,
    /// From which modified z-score on a value is an outlier of its segment, above 0; 3.5 after Iglewicz and Hoaglin.
    pub outlier_threshold: f64,
    /// The confidence level of the trend's slope, between 0 and 1; 0.95.
    pub confidence_level: f64,
}

impl Default for SeriesSettings {
    fn default() -> Self {
        Self { penalty: 3.0, segment_min: 3, outlier_threshold: 3.5, confidence_level: 0.95 }
    }
}

/// What was found in a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesReport {
    /// Where the level changes, in order.
    pub change_points: Vec<ChangePoint>,
    /// Values that stand out from the fifty before and after them in their segment, in order; with a direction, only those on its harmful side.
    /// Segments below nine values have none.
    pub anomalies: Vec<Anomaly>,
    /// The line through the last segment; `None` below three values.
    pub trend: Option<Trend>,
}

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// The zero-based index of the first value of the new segment.
    pub index: usize,
    /// The mean of the segment before.
    pub before: f64,
    /// The mean of the segment from `index` on.
    pub after: f64,
    /// `(after - before) / |before|`; `None` where `before` is zero.
    pub change: Option<f64>,
    /// Whether the change is in the harmful direction; `None` if none was given.
    pub is_harmful: Option<bool>,
}

/// The longest series that is searched: the time grows with the square of the length.
pub const SERIES_LEN_MAX: usize = 50_000;

/// Searches a series, oldest value first.
///
/// The segments are those that minimise the sum of squared deviations from the segment means, in units of the noise's
/// variance, plus `penalty * ln n` for each change: optimal partitioning (Jackson and others 2005), the exact minimum that
/// PELT computes. Before that, values far from the median of their four neighbours are drawn towards it, so that an
/// outlier is no level. The noise is estimated from the differences of neighbours, which a change of level moves only once:
/// their median absolute deviation over `sqrt 2` (their mean absolute deviation where at least half of them are equal).
///
/// Assumes independent noise of equal variance; where values depend on their predecessors it finds changes that are none.
/// At least two values, at most [`SERIES_LEN_MAX`]. A constant series has no changes.
///
/// ```
/// use evoseal_regression::{SeriesSettings, analyze_series};
/// use evoseal_types::Direction;
/// let latency = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 12.1, 11.9, 12.0, 12.2];
/// let report = analyze_series(&latency, Some(Direction::Increase), &SeriesSettings::default())?;
/// let found: Vec<_> = report.change_points.iter().map(|change| (change.index, change.is_harmful)).collect();
/// assert_eq!(found, [(6, Some(true))]);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn analyze_series(
    values: &[f64],
    direction: Option<Direction>,
    settings: &SeriesSettings,
) -> Result<SeriesReport> {
    check(values, settings)?;
    let starts = segment_starts(values, settings)?;
    let ends = starts.iter().copied().skip(1).chain([values.len()]);
    let segments: Vec<(usize, usize)> = starts.iter().copied().zip(ends).collect();
    let mut change_points = Vec::new();
    for pair in segments.windows(2) {
        let (before, after) = (mean(&values[pair[0].0..pair[0].1])?, mean(&values[pair[1].0..pair[1].1])?);
        let change = (after - before) / before.abs();
        change_points.push(ChangePoint {
            index: pair[1].0,
            before,
            after,
            change: change.is_finite().then_some(change),
            is_harmful: direction.map(|direction| (after - before) * direction.harm_sign() > 0.0),
        });
    }
    let mut anomalies = Vec::new();
    for (start, end) in &segments {
        anomalies.extend(outliers(&values[*start..*end], *start, settings)?);
    }
    anomalies.retain(|anomaly| direction.is_none_or(|direction| anomaly.score * direction.harm_sign() > 0.0));
    let last = &values[segments.last().map_or(0, |segment| segment.0)..];
    let trend = (last.len() >= 3).then(|| linear_trend(last, settings.confidence_level)).transpose()?;
    Ok(SeriesReport { change_points, anomalies, trend })
}

fn check(values: &[f64], settings: &SeriesSettings) -> Result<()> {
    check_values("a series", values, 2)?;
    crate::statistics::check_level(settings.confidence_level)?;
    if values.len() > SERIES_LEN_MAX {
        let found = format!("{} values", values.len());
        return Err(Error::Data { what: "a series", needed: "at most 50000 values", found });
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    for (what, holds, reason) in [
        ("penalty", positive(settings.penalty), "it must be a finite number above 0"),
        ("outlier_threshold", positive(settings.outlier_threshold), "it must be a finite number above 0"),
        ("segment_min", settings.segment_min >= 2, "one value has no level; the least is 2"),
    ] {
        if !holds {
            return Err(Error::Invalid { what: what.to_owned(), reason: reason.to_owned() });
        }
    }
    Ok(())
}

/// The first index of each segment; the first is 0.
fn segment_starts(values: &[f64], settings: &SeriesSettings) -> Result<Vec<usize>> {
    let noise = noise(values)?;
    if noise <= 0.0 {
        return Ok(vec![0]);
    }
    let n = values.len();
    let centre = median(values)?;
    // Sums of the first i standardised values and of their squares, for the cost of any segment in constant time.
    let mut sums = vec![(0.0, 0.0)];
    for index in 0..n {
        let z = ((tamed(values, index, noise)? - centre) / noise).clamp(-1e100, 1e100);
        sums.push((sums[index].0 + z, sums[index].1 + z * z));
    }
    let cost = |start: usize, end: usize| {
        let (sum, squares) = (sums[end].0 - sums[start].0, sums[end].1 - sums[start].1);
        (squares - sum * sum / (end - start) as f64).max(0.0)
    };
    let penalty = settings.penalty * (n as f64).ln();
    // best[end] is the least cost of the first `end` values, and where its last segment starts.
    let mut best = vec![(f64::INFINITY, 0); n + 1];
    best[0] = (-penalty, 0);
    for end in 1..=n {
        for start in 0..end {
            // A series shorter than one segment is one segment.
            let long_enough = end - start >= settings.segment_min || (start, end) == (0, n);
            let total = best[start].0 + cost(start, end) + penalty;
            if long_enough && total < best[end].0 {
                best[end] = (total, start);
            }
        }
    }
    let mut starts = Vec::new();
    let mut end = n;
    while end > 0 {
        end = best[end].1;
        starts.push(end);
    }
    starts.reverse();
    Ok(starts)
}

/// A value, drawn to within three standard deviations of the median of itself and two neighbours on each side (Hampel's
/// filter): one or two odd values cannot pay for a segment of their own, and a step stays where it is.
fn tamed(values: &[f64], index: usize, noise: f64) -> Result<f64> {
    let window = &values[index.saturating_sub(2)..(index + 3).min(values.len())];
    let (local, reach) = (median(window)?, 3.0 * noise);
    Ok(values[index].clamp((local - reach).max(f64::MIN), (local + reach).min(f64::MAX)))
}

/// The standard deviation of the noise, from the differences of neighbours.
fn noise(values: &[f64]) -> Result<f64> {
    let differences: Vec<f64> =
        values.windows(2).map(|pair| (pair[1] - pair[0]).abs().min(f64::MAX)).collect();
    let middle = median(&differences)?;
    let scale = if middle > 0.0 { 1.4826 * middle } else { 1.2533 * mean(&differences)? };
    Ok(scale / std::f64::consts::SQRT_2)
}

/// How many neighbours on each side an outlier is judged against, so that long segments take linear time.
const NEIGHBOURS: usize = 50;

/// The values of one segment that stand out from the values around them.
fn outliers(segment: &[f64], offset: usize, settings: &SeriesSettings) -> Result<Vec<Anomaly>> {
    let mut found = Vec::new();
    if segment.len() < 9 {
        return Ok(found);
    }
    for (place, value) in segment.iter().enumerate() {
        let (first, end) = (place.saturating_sub(NEIGHBOURS), (place + 1 + NEIGHBOURS).min(segment.len()));
        let others: Vec<f64> = [&segment[first..place], &segment[place + 1..end]].concat();
        let anomaly = modified_zscore(&others, *value, settings.outlier_threshold)?;
        found.extend(anomaly.map(|anomaly| Anomaly { index: offset + place, ..anomaly }));
    }
    Ok(found)
}
