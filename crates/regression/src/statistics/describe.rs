//! Descriptive statistics: location, spread, order.

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{invalid, mean_interval};
use crate::{Error, Interval, Result};

/// What is known about a list of numbers, with the published names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The arithmetic mean.
    pub mean: f64,
    /// The middle value.
    pub median: f64,
    /// The standard deviation with divisor n - 1.
    pub std_dev: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Interval of the **mean** by Student's t. A single new value scatters more widely: see
    /// [`prediction_interval`](super::prediction_interval).
    pub confidence_interval: Interval,
    /// `std_dev / |mean|`; `None` where the mean is zero.
    pub coefficient_of_variation: Option<f64>,
    /// How many values there are.
    pub sample_size: usize,
}

/// The arithmetic mean of at least one value: `x1 + sum(xi - x1) / n`, exact for equal values.
///
/// ```
/// use evoseal_regression::statistics::mean;
/// assert_eq!(mean(&[1.0, 2.0, 6.0])?, 3.0);
/// assert!(mean(&[]).is_err() && mean(&[f64::NAN]).is_err());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn mean(values: &[f64]) -> Result<f64> {
    check_values("a mean", values, 1)?;
    let (first, n) = (values[0], values.len() as f64);
    let mean = first + values.iter().map(|value| value - first).sum::<f64>() / n;
    // Differences of numbers near the largest float overflow; their n-th parts do not.
    Ok(if mean.is_finite() {
        mean
    } else {
        values.iter().map(|value| value / n).sum::<f64>().clamp(f64::MIN, f64::MAX)
    })
}

/// The variance of at least two values with divisor n - 1 (unbiased), by two passes; zero for equal values.
///
/// ```
/// use evoseal_regression::statistics::variance;
/// assert_eq!(variance(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])?, 32.0 / 7.0);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn variance(values: &[f64]) -> Result<f64> {
    std_dev_and(values, "a variance", |scale, mean_square| scale * scale * mean_square)
}

/// The square root of the [`variance`], without overflow where only the square would overflow.
///
/// ```
/// use evoseal_regression::statistics::std_dev;
/// assert_eq!(std_dev(&[3.0, 5.0])?, 2.0_f64.sqrt());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn std_dev(values: &[f64]) -> Result<f64> {
    std_dev_and(values, "a standard deviation", |scale, mean_square| scale * mean_square.sqrt())
}

/// Hands `finish` the mean of the squared deviations, and the power of two by which these were divided.
fn std_dev_and(values: &[f64], what: &'static str, finish: impl Fn(f64, f64) -> f64) -> Result<f64> {
    check_values(what, values, 2)?;
    let mean = mean(values)?;
    let widest = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    if widest <= 0.0 {
        return Ok(0.0);
    }
    let scale = power_of_two_below(widest);
    let squares: f64 = values.iter().map(|value| ((value - mean) / scale).powi(2)).sum();
    Ok(finish(scale, squares / (values.len() as f64 - 1.0)).min(f64::MAX))
}

/// 2^1023.
const LARGEST_POWER: f64 = f64::from_bits(0x7FE0_0000_0000_0000);

/// The largest power of two not above `value`, which is positive: dividing by it loses no bit.
pub(crate) fn power_of_two_below(value: f64) -> f64 {
    // The exponent alone. Of numbers below the normal ones nothing is left, and of infinity, infinity.
    let exponent = f64::from_bits(value.to_bits() & 0x7FF0_0000_0000_0000);
    exponent.clamp(f64::MIN_POSITIVE, LARGEST_POWER)
}

/// The middle of at least one value: the mean of the two middle ones for an even count.
///
/// ```
/// use evoseal_regression::statistics::median;
/// assert_eq!(median(&[9.0, 1.0, 3.0, 2.0])?, 2.5);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn median(values: &[f64]) -> Result<f64> {
    percentile(values, 50.0)
}

/// The `p`-th percentile, 0 to 100, by linear interpolation: type 7 of Hyndman and Fan (1996), as in R, NumPy and
/// spreadsheets. With `h = (n - 1) p / 100` it is `x[floor h] + (h - floor h) (x[floor h + 1] - x[floor h])` over the
/// sorted values, counted from zero.
///
/// ```
/// use evoseal_regression::statistics::percentile;
/// assert_eq!(percentile(&[15.0, 20.0, 35.0, 40.0, 50.0], 40.0)?, 29.0);
/// assert!(percentile(&[1.0], 101.0).is_err());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn percentile(values: &[f64], p: f64) -> Result<f64> {
    check_values("a percentile", values, 1)?;
    if !(0.0..=100.0).contains(&p) {
        return Err(invalid("a percentile", format!("{p} does not lie between 0 and 100")));
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(percentile_of_sorted(&sorted, p))
}

/// [`percentile`] of at least one value in ascending order, `p` being within its domain.
pub(crate) fn percentile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * p / 100.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= place <= n - 1")]
    let below = (place.floor() as usize).min(sorted.len() - 1);
    let above = (below + 1).min(sorted.len() - 1);
    let part = place - place.floor();
    sorted[below].mul_add(1.0 - part, sorted[above] * part)
}

/// Where `value` stands among `reference`, in percent: `100 (below + equal / 2) / n`, so that ties count half.
///
/// ```
/// use evoseal_regression::statistics::percentile_rank;
/// assert_eq!(percentile_rank(&[1.0, 2.0, 2.0, 3.0], 2.0)?, 50.0);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn percentile_rank(reference: &[f64], value: f64) -> Result<f64> {
    check_values("a percentile rank", reference, 1)?;
    check_values("a percentile rank", &[value], 1)?;
    let below = reference.iter().filter(|other| **other < value).count() as f64;
    let not_above = reference.iter().filter(|other| **other <= value).count() as f64;
    Ok(100.0 * f64::midpoint(below, not_above) / reference.len() as f64)
}

/// The published summary of at least two values, with the interval of the mean at the confidence `level`.
///
/// ```
/// use evoseal_regression::statistics::summarize;
/// let summary = summarize(&[4.0, 6.0, 8.0], 0.95)?;
/// assert_eq!((summary.mean, summary.std_dev, summary.sample_size), (6.0, 2.0, 3));
/// // Student's t with 2 degrees of freedom: 6 -+ 4.303 * 2 / sqrt(3).
/// assert!((summary.confidence_interval.low - 1.0317).abs() < 1e-4);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn summarize(values: &[f64], level: f64) -> Result<Summary> {
    check_values("a summary", values, 2)?;
    let (mean, std_dev) = (mean(values)?, std_dev(values)?);
    let relative = std_dev / mean.abs();
    Ok(Summary {
        mean,
        median: median(values)?,
        std_dev,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        confidence_interval: mean_interval(values, level)?,
        coefficient_of_variation: relative.is_finite().then_some(relative),
        sample_size: values.len(),
    })
}

/// Scales each column to the range 0 to 1: `(x - min) / (max - min)`. Rows are versions, columns are metrics.
///
/// A column of equal values has no range and becomes 0.5, the middle, so that it favours no row.
///
/// ```
/// use evoseal_regression::statistics::normalize;
/// use ndarray::array;
/// let scaled = normalize(array![[10.0, 7.0], [20.0, 7.0], [15.0, 7.0]].view())?;
/// assert_eq!(scaled, array![[0.0, 0.5], [1.0, 0.5], [0.5, 0.5]]);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[expect(clippy::needless_pass_by_value, reason = "array views are slices: callers write `matrix.view()`")]
pub fn normalize(values: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    let mut scaled = values.to_owned();
    for mut column in scaled.axis_iter_mut(Axis(1)) {
        check_values("a normalisation", &column.to_vec(), 1)?;
        let low = column.iter().copied().fold(f64::INFINITY, f64::min);
        let high = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Halves, so that the range of the whole float line is finite.
        let half_range = high / 2.0 - low / 2.0;
        let place = |value: f64| (value / 2.0 - low / 2.0) / half_range;
        column.mapv_inplace(|value| if half_range > 0.0 { place(value) } else { 0.5 });
    }
    Ok(scaled)
}

/// Whether all values are the same number.
pub(crate) fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0].total_cmp(&pair[1]).is_eq() || (pair[0] - pair[1]).abs() <= 0.0)
}

/// Refuses fewer than `count_min` values (at most four can be asked for), and values that are no numbers.
pub(crate) fn check_values(what: &'static str, values: &[f64], count_min: usize) -> Result<()> {
    let needed = match count_min {
        0 | 1 => "at least one finite value",
        2 => "at least two finite values",
        3 => "at least three finite values",
        _ => "at least four finite values",
    };
    if values.len() < count_min {
        return Err(Error::Data { what, needed, found: format!("{} values", values.len()) });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(Error::Data { what, needed, found: format!("{} at index {index}", values[index]) })
        }
        None => Ok(()),
    }
}

/// Refuses a confidence level that is no probability strictly between 0 and 1.
pub(crate) fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        Ok(())
    } else {
        Err(invalid("a confidence level", format!("{level} does not lie strictly between 0 and 1")))
    }
}
