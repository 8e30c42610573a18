//! A straight line through a series.

use super::{check_values, is_constant, mean, power_of_two_below, t_quantile};
use crate::{Interval, Result, Trend, TrendDirection};

/// Ordinary least squares of the values on their indices 0, 1, 2, … (Draper and Smith 1998, chapter 1).
///
/// With `Sxx = sum (i - mean i)^2` and `Sxy` likewise: slope `b = Sxy / Sxx`, its interval
/// `b -+ t(level, n - 2) sqrt(SSE / (n - 2) / Sxx)`, and `predicted_next`, the line's value at index n, which is
/// `mean y + b (n - mean i)`. Assumes independent errors of equal variance around a line; values that depend on their
/// predecessors make the interval too narrow. At least three values. A constant series is stable with slope 0 and, by
/// convention, `r_squared` 0: there is no variance to explain.
///
/// ```
/// use evoseal_regression::{TrendDirection, statistics::linear_trend};
/// let trend = linear_trend(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 0.95)?;
/// assert_eq!((trend.slope, trend.predicted_next), (1.0, 10.0));
/// assert_eq!(trend.direction, TrendDirection::Increasing);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn linear_trend(values: &[f64], level: f64) -> Result<Trend> {
    check_values("a trend", values, 3)?;
    let t = t_quantile(level, values.len() as f64 - 2.0)?;
    if is_constant(values) {
        let slope_interval = Interval { low: 0.0, high: 0.0, level };
        return Ok(Trend {
            slope: 0.0,
            slope_interval,
            r_squared: 0.0,
            direction: TrendDirection::Stable,
            predicted_next: values[0],
        });
    }
    // Divided by a power of two, which loses no bit, no square overflows.
    let widest = values.iter().fold(0.0_f64, |widest, value| widest.max(value.abs()));
    let scale = power_of_two_below(widest);
    let y: Vec<f64> = values.iter().map(|value| value / scale).collect();
    let n = y.len() as f64;
    let (centre, mean) = ((n - 1.0) / 2.0, mean(&y)?);
    let offset = |index: usize| index as f64 - centre;
    let sxx: f64 = (0..y.len()).map(|index| offset(index).powi(2)).sum();
    let sxy: f64 = y.iter().enumerate().map(|(index, y)| offset(index) * (y - mean)).sum();
    let syy: f64 = y.iter().map(|y| (y - mean).powi(2)).sum();
    let slope = sxy / sxx;
    let residuals: f64 =
        y.iter().enumerate().map(|(index, y)| (y - mean - slope * offset(index)).powi(2)).sum();
    let half = t * (residuals / (n - 2.0) / sxx).sqrt();
    let bounded = |value: f64| (value * scale).clamp(f64::MIN, f64::MAX);
    let slope_interval = Interval { low: bounded(slope - half), high: bounded(slope + half), level };
    let direction = match (slope_interval.low > 0.0, slope_interval.high < 0.0) {
        (true, _) => TrendDirection::Increasing,
        (_, true) => TrendDirection::Decreasing,
        _ => TrendDirection::Stable,
    };
    Ok(Trend {
        slope: bounded(slope),
        slope_interval,
        // The squares of a spread that is tiny beside the values themselves can vanish.
        r_squared: if syy > 0.0 { (1.0 - residuals / syy).clamp(0.0, 1.0) } else { 0.0 },
        direction,
        predicted_next: bounded(mean + slope * (n - centre)),
    })
}
