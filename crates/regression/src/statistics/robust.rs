//! Location and scale that single outliers hardly move, and a test of them.

use super::student::{TTest, finish, satterthwaite};
use super::{MEDIAN_ABSOLUTE, check_values, median};
use crate::{Error, Result};

/// The reciprocal of `sqrt(2)` times the normal quantile at 5/8.
const QN_NORMAL: f64 = 2.219_144_465_985_076;

/// A mean without the extremes, and how far it scatters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrimmedMean {
    /// The mean of what is left.
    pub mean: f64,
    /// Its standard error, from the winsorised variance (Tukey and McLaughlin 1963).
    pub standard_error: f64,
    /// How many values are left.
    pub kept: usize,
}

/// The mean without the `floor(share n)` smallest and largest values each; `share` from 0 to below 0.5.
///
/// The standard error is `sqrt((n - 1) sw^2 / (h (h - 1)))`, with `h` the number of values left and `sw^2` the variance after
/// the extremes were replaced by the nearest values left. At least two values must be left.
///
/// ```
/// use evoseal_regression::statistics::trimmed_mean;
/// let trimmed = trimmed_mean(&[1.0, 2.0, 3.0, 4.0, 900.0], 0.2)?;
/// assert_eq!((trimmed.mean, trimmed.kept), (3.0, 3));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn trimmed_mean(values: &[f64], share: f64) -> Result<TrimmedMean> {
    const WHAT: &str = "a trimmed mean";
    check_values(WHAT, values, 2)?;
    if !(0.0..0.5).contains(&share) {
        return Err(super::invalid("a share to trim", format!("{share} does not lie in 0 to below 0.5")));
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= share n < n / 2")]
    let cut = (share * sorted.len() as f64) as usize;
    let kept = sorted.len() - 2 * cut;
    if kept < 2 {
        let found = format!("{kept} values left of {}", sorted.len());
        return Err(Error::Data { what: WHAT, needed: "two values that are not trimmed", found });
    }
    let mean = super::mean(&sorted[cut..sorted.len() - cut])?;
    let (low, high) = (sorted[cut], sorted[sorted.len() - 1 - cut]);
    for value in &mut sorted {
        *value = value.clamp(low, high);
    }
    let (n, h) = (sorted.len() as f64, kept as f64);
    let standard_error = super::std_dev(&sorted)? * ((n - 1.0) / (h * (h - 1.0))).sqrt();
    Ok(TrimmedMean { mean, standard_error, kept })
}

/// Yuen's test of equal trimmed means (Yuen 1974): Welch's test with [`trimmed_mean`]s, their standard errors, and the numbers
/// of values left in place of the sizes. Two sides without spread after trimming have no test and are refused.
///
/// ```
/// use evoseal_regression::statistics::yuen_test;
/// let (old, new) = ([1.0, 2.0, 3.0, 4.0, 90.0], [11.0, 12.0, 13.0, 14.0, 15.0]);
/// assert!(yuen_test(&old, &new, 0.2)?.p_value < 0.01);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn yuen_test(x: &[f64], y: &[f64], share: f64) -> Result<TTest> {
    let (x, y) = (trimmed_mean(x, share)?, trimmed_mean(y, share)?);
    let error = x.standard_error.hypot(y.standard_error);
    if error <= 0.0 {
        return Err(Error::Data {
            what: "Yuen's test",
            needed: "values that scatter",
            found: "no spread after trimming".to_owned(),
        });
    }
    let degrees_of_freedom = satterthwaite(x.standard_error, x.kept as f64, y.standard_error, y.kept as f64);
    finish((y.mean - x.mean) / error, degrees_of_freedom)
}

/// The median absolute deviation from the median, times 1.4826 (Hampel 1974), so that it estimates the standard deviation of
/// normal values. Half the values may be arbitrary before it is; 37 % as efficient as the standard deviation. At least one
/// value; zero where more than half are equal.
///
/// ```
/// use evoseal_regression::statistics::mad;
/// assert!((mad(&[1.0, 2.0, 3.0, 4.0, 1000.0])? - 1.482_602_218_505_602).abs() < 1e-12);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn mad(values: &[f64]) -> Result<f64> {
    let centre = median(values)?;
    let deviations: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    Ok((median(&deviations)? / MEDIAN_ABSOLUTE).min(f64::MAX))
}

/// The scale estimate Qn of Rousseeuw and Croux (1993): the `C(h, 2)`-th smallest of all distances between two values,
/// `h = n / 2 + 1`, times 2.2191. It is as robust as [`mad`] and 82 % as efficient as the standard deviation for normal values, and
/// needs no centre.
///
/// No small-sample factor is applied, as in `statsmodels.robust.scale.qn_scale`. At least two values; all distances are
/// formed, so that time and memory grow with the square of their number.
///
/// ```
/// use evoseal_regression::statistics::qn_scale;
/// assert!((qn_scale(&[1.0, 2.0, 3.0, 4.0, 1000.0])? - 2.219_144_465_985_076).abs() < 1e-12);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn qn_scale(values: &[f64]) -> Result<f64> {
    check_values("a Qn scale", values, 2)?;
    let half = values.len() / 2 + 1;
    let mut distances: Vec<f64> = values
        .iter()
        .enumerate()
        .flat_map(|(index, one)| values[index + 1..].iter().map(move |other| (one - other).abs()))
        .collect();
    let place = (half * (half - 1) / 2).min(distances.len()) - 1;
    Ok(distances.select_nth_unstable_by(place, f64::total_cmp).1.min(f64::MAX) * QN_NORMAL)
}
