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
    let line = Line::through("a trend", values)?;
    let t = t_quantile(level, line.n - 2.0)?;
    let half = t * (line.residuals / (line.n - 2.0) / line.sxx).sqrt();
    let slope_interval =
        Interval { low: line.bounded(line.slope - half), high: line.bounded(line.slope + half), level };
    let direction = match (slope_interval.low > 0.0, slope_interval.high < 0.0) {
        (true, _) => TrendDirection::Increasing,
        (_, true) => TrendDirection::Decreasing,
        _ => TrendDirection::Stable,
    };
    Ok(Trend {
        slope: line.bounded(line.slope),
        slope_interval,
        // The squares of a spread that is tiny beside the values themselves can vanish.
        r_squared: if line.syy > 0.0 { (1.0 - line.residuals / line.syy).clamp(0.0, 1.0) } else { 0.0 },
        direction,
        predicted_next: line.bounded(line.at(line.n)),
    })
}

/// The interval in which a **new value** `ahead` steps after the last lies with probability `level`, if the line goes on.
///
/// With `x = n - 1 + ahead`: `line(x) -+ t(level, n - 2) s sqrt(1 + 1 / n + (x - mean i)^2 / Sxx)` and `s^2 = SSE / (n - 2)`
/// (Draper and Smith 1998, section 3.1). The one below the root is the scatter of the new value itself, without which this would be
/// the interval of the line. Assumes independent normal errors of equal variance. At least three values; `ahead` at least 1.
///
/// ```
/// use evoseal_regression::statistics::linear_prediction;
/// let next = linear_prediction(&[1.0, 2.1, 2.9, 4.0, 5.1], 1, 0.95)?;
/// assert!(next.low < 6.0 && 6.0 < next.high);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn linear_prediction(values: &[f64], ahead: usize, level: f64) -> Result<Interval> {
    if ahead == 0 {
        return Err(super::invalid("a prediction", "it must lie at least one step ahead"));
    }
    let line = Line::through("a prediction", values)?;
    let x = line.n - 1.0 + ahead as f64;
    let variance = line.residuals / (line.n - 2.0);
    let spread = variance * (1.0 + 1.0 / line.n + (x - line.centre).powi(2) / line.sxx);
    let half = t_quantile(level, line.n - 2.0)? * spread.sqrt();
    Ok(Interval { low: line.bounded(line.at(x) - half), high: line.bounded(line.at(x) + half), level })
}

/// The least squares line through values divided by `scale`, and the sums that it came from.
struct Line {
    n: f64,
    centre: f64,
    mean: f64,
    slope: f64,
    sxx: f64,
    syy: f64,
    residuals: f64,
    scale: f64,
}

impl Line {
    fn through(what: &'static str, values: &[f64]) -> Result<Self> {
        check_values(what, values, 3)?;
        // Divided by a power of two, which loses no bit, no square overflows.
        let widest = values.iter().fold(0.0_f64, |widest, value| widest.max(value.abs()));
        let scale = power_of_two_below(widest);
        let n = values.len() as f64;
        let centre = (n - 1.0) / 2.0;
        let offset = |index: usize| index as f64 - centre;
        let sxx: f64 = (0..values.len()).map(|index| offset(index).powi(2)).sum();
        if is_constant(values) {
            let mean = values[0] / scale;
            return Ok(Self { n, centre, mean, slope: 0.0, sxx, syy: 0.0, residuals: 0.0, scale });
        }
        let y: Vec<f64> = values.iter().map(|value| value / scale).collect();
        let mean = mean(&y)?;
        let sxy: f64 = y.iter().enumerate().map(|(index, y)| offset(index) * (y - mean)).sum();
        let syy: f64 = y.iter().map(|y| (y - mean).powi(2)).sum();
        let slope = sxy / sxx;
        let residuals: f64 =
            y.iter().enumerate().map(|(index, y)| (y - mean - slope * offset(index)).powi(2)).sum();
        Ok(Self { n, centre, mean, slope, sxx, syy, residuals, scale })
    }

    /// The line's value at an index, still divided.
    fn at(&self, x: f64) -> f64 {
        self.mean + self.slope * (x - self.centre)
    }

    /// In the unit of the values.
    fn bounded(&self, value: f64) -> f64 {
        (value * self.scale).clamp(f64::MIN, f64::MAX)
    }
}
