//! Whether one value stands out from a reference that does not contain it.
//!
//! Putting the tested value into its own reference hides it: with n values no z-score can pass `(n - 1) / sqrt(n)`, so
//! that below six values nothing ever exceeds two.

use evoseal_types::Severity;

use super::{MEAN_ABSOLUTE, MEDIAN_ABSOLUTE, check_values, mean, median, percentile, std_dev};
use crate::{Anomaly, Result};

/// Flags `value` if it is more than `limit` standard deviations of `reference` away from its mean.
///
/// The score is `(value - mean) / s` with its sign; severity is high beyond one and a half limits, else medium. At
/// least three values of reference. A constant reference has no spread, so any other value is flagged, with the
/// largest float as its score. The anomaly's index is `reference.len()`: the value comes next.
///
/// ```
/// use evoseal_regression::statistics::zscore;
/// assert!(zscore(&[10.0, 11.0, 9.0], 10.5, 2.0)?.is_none());
/// assert_eq!(zscore(&[10.0, 11.0, 9.0], 14.0, 2.0)?.map(|anomaly| anomaly.score), Some(4.0));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn zscore(reference: &[f64], value: f64, limit: f64) -> Result<Option<Anomaly>> {
    check_values("a z-score", reference, 3)?;
    check_values("a z-score", &[value], 1)?;
    let score = ratio(value - mean(reference)?, std_dev(reference)?);
    let severity = if score.abs() > 1.5 * limit { Severity::High } else { Severity::Medium };
    Ok(flag("zscore", score, score.abs() > limit, severity, reference))
}

/// Flags `value` if it lies outside the fences `q1 - 1.5 IQR` and `q3 + 1.5 IQR` of `reference` (Tukey 1977).
///
/// The score is the distance beyond the nearer quartile over the IQR, with its sign; severity is high from one IQR
/// beyond the fence on, else medium. Quartiles are of type 7. At least four values of reference. Where at least half of
/// the reference is one number its IQR is zero; the IQR of a normal distribution with the same mean absolute deviation
/// from the median (`1.349 * 1.2533 * MeanAD`, after Iglewicz and Hoaglin 1993) stands in, because the median absolute
/// deviation is zero as well. A constant reference flags every other value with the largest float as its score.
///
/// ```
/// use evoseal_regression::statistics::iqr;
/// assert!(iqr(&[1.0, 2.0, 3.0, 4.0], 5.0)?.is_none());
/// assert!(iqr(&[1.0, 2.0, 3.0, 4.0], 9.0)?.is_some());
/// assert!(iqr(&[7.0, 7.0, 7.0, 7.0], 7.1)?.is_some());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn iqr(reference: &[f64], value: f64) -> Result<Option<Anomaly>> {
    check_values("an IQR fence", reference, 4)?;
    check_values("an IQR fence", &[value], 1)?;
    let (q1, q3) = (percentile(reference, 25.0)?, percentile(reference, 75.0)?);
    let width = if q3 > q1 { q3 - q1 } else { 1.349 * 1.2533 * mean_deviation(reference)? };
    let beyond = if value > q3 { value - q3 } else { (value - q1).min(0.0) };
    let score = ratio(beyond, width);
    let severity = if score.abs() > 2.5 { Severity::High } else { Severity::Medium };
    Ok(flag("iqr", score, score.abs() > 1.5, severity, reference))
}

/// Flags `value` if its modified z-score against `reference` exceeds `limit` (Iglewicz and Hoaglin 1993, section 3.3).
///
/// The score is `0.6745 (value - median) / MAD`, where MAD is the median absolute deviation from the median; where that is
/// zero it is `(value - median) / (1.2533 MeanAD)`. Other outliers in the reference hardly move it. Severity is high
/// beyond one and a half limits, else medium. At least four values of reference; a constant one flags every other value
/// with the largest float as its score. The usual limit is 3.5.
///
/// ```
/// use evoseal_regression::statistics::modified_zscore;
/// let reference = [10.0, 11.0, 9.0, 10.5, 900.0];
/// assert!(modified_zscore(&reference, 50.0, 3.5)?.is_some());
/// assert!(modified_zscore(&reference, 11.0, 3.5)?.is_none());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn modified_zscore(reference: &[f64], value: f64, limit: f64) -> Result<Option<Anomaly>> {
    check_values("a modified z-score", reference, 4)?;
    check_values("a modified z-score", &[value], 1)?;
    let score = modified_score(&mut reference.to_vec(), value);
    let severity = if score.abs() > 1.5 * limit { Severity::High } else { Severity::Medium };
    Ok(flag("modified_zscore", score, score.abs() > limit, severity, reference))
}

/// Flags a step from the last value of `reference` to `value` of more than `limit` of that last value (a fraction).
///
/// The score is the relative step with its sign; severity is critical beyond two limits, else high. At least four
/// values of reference, as published: a shorter series has no pattern that could break. After a zero every other value
/// is a spike, with the largest float as its score.
///
/// ```
/// use evoseal_regression::statistics::pattern_spike;
/// assert_eq!(pattern_spike(&[9.0, 9.0, 9.0, 10.0], 15.0, 0.3)?.map(|spike| spike.score), Some(0.5));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn pattern_spike(reference: &[f64], value: f64, limit: f64) -> Result<Option<Anomaly>> {
    check_values("a spike", reference, 4)?;
    check_values("a spike", &[value], 1)?;
    let last = reference[reference.len() - 1];
    let score = ratio(value - last, last.abs());
    let severity = if score.abs() > 2.0 * limit { Severity::Critical } else { Severity::High };
    Ok(flag("pattern_spike", score, score.abs() > limit, severity, reference))
}

/// The modified z-score of `value` against at least one finite value, which are reordered; no check and no allocation, for loops.
pub(crate) fn modified_score(reference: &mut [f64], value: f64) -> f64 {
    let centre = middle(reference, |value| value);
    let deviation = middle(reference, |value| (value - centre).abs());
    let scale = if deviation > 0.0 {
        deviation / MEDIAN_ABSOLUTE
    } else {
        let n = reference.len() as f64;
        reference.iter().map(|value| ((value - centre) / n).abs()).sum::<f64>() / MEAN_ABSOLUTE
    };
    ratio(value - centre, scale)
}

/// The median of what `of` makes of the values.
fn middle(values: &mut [f64], of: impl Fn(f64) -> f64) -> f64 {
    let (half, is_odd) = (values.len() / 2, values.len() % 2 == 1);
    let (below, upper, _) = values.select_nth_unstable_by(half, |a, b| of(*a).total_cmp(&of(*b)));
    let upper = of(*upper);
    if is_odd {
        return upper;
    }
    f64::midpoint(below.iter().map(|value| of(*value)).fold(f64::MIN, f64::max), upper)
}

/// The mean distance from the median.
fn mean_deviation(values: &[f64]) -> Result<f64> {
    let centre = median(values)?;
    mean(&values.iter().map(|value| (value - centre).abs()).collect::<Vec<_>>())
}

/// `distance / scale`, finite: any distance over no scale is the largest float, no distance is zero.
fn ratio(distance: f64, scale: f64) -> f64 {
    if distance.abs() <= 0.0 { 0.0 } else { (distance / scale.max(0.0)).clamp(f64::MIN, f64::MAX) }
}

fn flag(method: &str, score: f64, flagged: bool, severity: Severity, reference: &[f64]) -> Option<Anomaly> {
    flagged.then(|| Anomaly { method: method.to_owned(), severity, score, index: reference.len() })
}
