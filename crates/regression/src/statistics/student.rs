//! What Student's t distribution gives: tests of means, intervals for means and for the next value.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::memo::{Memo, remembered};
use super::{check_level, check_values, is_constant, mean, std_dev};
use crate::{Error, Interval, Result};

/// The outcome of a t-test of "both means are equal".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TTest {
    /// The difference of means over its standard error; positive when the second sample is higher.
    pub statistic: f64,
    /// Degrees of freedom.
    pub degrees_of_freedom: f64,
    /// Probability of a statistic at least as far from zero if the means are equal (two-sided).
    pub p_value: f64,
}

/// Welch's test of equal means of two independent samples whose variances may differ (Welch 1947).
///
/// `t = (mean(y) - mean(x)) / sqrt(vx + vy)` with `vx = sx^2 / nx`, and by Satterthwaite (1946)
/// `(vx + vy)^2 / (vx^2 / (nx - 1) + vy^2 / (ny - 1))` degrees of freedom. Assumes independent samples whose means are
/// about normal. At least two values on each side; two constant samples have no test and are refused.
///
/// ```
/// use evoseal_regression::statistics::welch_test;
/// let test = welch_test(&[10.0, 11.0, 12.0], &[14.0, 15.0, 19.0])?;
/// assert!(test.statistic > 0.0 && test.p_value < 0.1);
/// assert!(welch_test(&[1.0, 1.0], &[2.0, 2.0]).is_err());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn welch_test(x: &[f64], y: &[f64]) -> Result<TTest> {
    const WHAT: &str = "Welch's test";
    check_values(WHAT, x, 2)?;
    check_values(WHAT, y, 2)?;
    if is_constant(x) && is_constant(y) {
        return Err(no_spread(WHAT));
    }
    let (nx, ny) = (x.len() as f64, y.len() as f64);
    let (ex, ey) = (std_dev(x)? / nx.sqrt(), std_dev(y)? / ny.sqrt());
    let error = ex.hypot(ey);
    let degrees_of_freedom = satterthwaite(ex, nx, ey, ny);
    finish((mean(y)? - mean(x)?) / error, degrees_of_freedom)
}

/// The paired test of equal means: Student's t over the differences `y[i] - x[i]` (Student 1908), n - 1 degrees of
/// freedom.
///
/// Assumes independent pairs whose mean difference is about normal; within a pair the values may depend on each other,
/// which is the point of pairing. At least two pairs; differences that are all equal have no test and are refused.
///
/// ```
/// use evoseal_regression::statistics::paired_t_test;
/// // The machine drifts by 100, the difference does not.
/// let test = paired_t_test(&[10.0, 50.0, 110.0], &[11.0, 52.0, 111.5])?;
/// assert!(test.p_value < 0.05);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn paired_t_test(x: &[f64], y: &[f64]) -> Result<TTest> {
    const WHAT: &str = "a paired test";
    if x.len() != y.len() {
        let found = format!("{} and {} values", x.len(), y.len());
        return Err(Error::Data { what: WHAT, needed: "as many values on one side as on the other", found });
    }
    check_values(WHAT, x, 2)?;
    check_values(WHAT, y, 2)?;
    let differences: Vec<f64> = x.iter().zip(y).map(|(old, new)| new - old).collect();
    check_values(WHAT, &differences, 2)?;
    let n = differences.len() as f64;
    let error = std_dev(&differences)? / n.sqrt();
    if error <= 0.0 {
        return Err(no_spread(WHAT));
    }
    finish(mean(&differences)? / error, n - 1.0)
}

/// The interval of the mean by Student's t: `mean -+ t(level, n - 1) s / sqrt(n)`.
///
/// It says where the *mean* lies. For where the next value will lie take [`prediction_interval`]. At least two values;
/// equal values give an interval of no width.
///
/// ```
/// use evoseal_regression::statistics::mean_interval;
/// // Three values have 2 degrees of freedom, for which t is 4.303, not 1.96.
/// let interval = mean_interval(&[-1.0, 0.0, 1.0], 0.95)?;
/// assert!((interval.high - 4.302_652_729_7 / 3.0_f64.sqrt()).abs() < 1e-9);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn mean_interval(values: &[f64], level: f64) -> Result<Interval> {
    check_values("an interval of the mean", values, 2)?;
    around_mean(values, level, (1.0 / values.len() as f64).sqrt())
}

/// The interval in which the *next* value of the same normal distribution lies with probability `level`:
/// `mean -+ t(level, n - 1) s sqrt(1 + 1 / n)` (Hahn and Meeker 1991, section 4.7).
///
/// The next value must not be among `values`. At least two values; equal values give an interval of no width.
///
/// ```
/// use evoseal_regression::statistics::{mean_interval, prediction_interval};
/// let values = [9.0, 10.0, 11.0, 10.0];
/// let (mean, next) = (mean_interval(&values, 0.95)?, prediction_interval(&values, 0.95)?);
/// assert!(next.low < mean.low && mean.high < next.high);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn prediction_interval(values: &[f64], level: f64) -> Result<Interval> {
    check_values("a prediction interval", values, 2)?;
    around_mean(values, level, (1.0 + 1.0 / values.len() as f64).sqrt())
}

fn around_mean(values: &[f64], level: f64, factor: f64) -> Result<Interval> {
    let half = t_quantile(level, values.len() as f64 - 1.0)? * std_dev(values)? * factor;
    let mean = mean(values)?;
    let bounded = |value: f64| value.clamp(f64::MIN, f64::MAX);
    Ok(Interval { low: bounded(mean - half), high: bounded(mean + half), level })
}

/// The t for which the middle `level` of the distribution lies within `-t..t`.
pub(crate) fn t_quantile(level: f64, degrees_of_freedom: f64) -> Result<f64> {
    check_level(level)?;
    let distribution = student(degrees_of_freedom)?;
    let question = (level.to_bits(), degrees_of_freedom.to_bits());
    Ok(remembered(&QUANTILES, question, || distribution.inverse_cdf(f64::midpoint(1.0, level))))
}

thread_local! {
    static QUANTILES: RefCell<Memo<f64>> = const { RefCell::new(Memo::new()) };
}

/// The share of the distribution that lies within `-t..t`: the inverse of [`t_quantile`].
pub(crate) fn t_level(t: f64, degrees_of_freedom: f64) -> Result<f64> {
    Ok(1.0 - 2.0 * student(degrees_of_freedom)?.sf(t))
}

/// Degrees of freedom of a sum of two independent means with standard errors `ex` and `ey`, not both zero.
pub(crate) fn satterthwaite(ex: f64, nx: f64, ey: f64, ny: f64) -> f64 {
    // Shares of the variance, so that no fourth power overflows.
    let error = ex.hypot(ey);
    let (x, y) = ((ex / error).powi(2), (ey / error).powi(2));
    1.0 / (x * x / (nx - 1.0) + y * y / (ny - 1.0))
}

/// Welch's own degrees of freedom for two means with squared standard errors `ex^2` and `ey^2`:
/// `(vx + vy)^2 / (vx^2 / (nx + 1) + vy^2 / (ny + 1)) - 2` (Welch 1947, section 4), at most `nx + ny - 2`.
///
/// Satterthwaite's estimate is biased downwards where both variances are about equal, by one of eight at five values a side;
/// this one is not, and tends to the same limit where one variance is all there is. Where one side has more than half again as
/// many values as the other, this one is too high, and it is Satterthwaite's.
pub(crate) fn welch_freedom(ex: f64, nx: f64, ey: f64, ny: f64) -> f64 {
    if nx.max(ny) > 1.5 * nx.min(ny) {
        return satterthwaite(ex, nx, ey, ny);
    }
    let error = ex.hypot(ey);
    let (x, y) = ((ex / error).powi(2), (ey / error).powi(2));
    (1.0 / (x * x / (nx + 1.0) + y * y / (ny + 1.0)) - 2.0).min(nx + ny - 2.0)
}

/// The probability that Student's t exceeds `t`, at least zero.
pub(crate) fn t_tail(t: f64, degrees_of_freedom: f64) -> Result<f64> {
    Ok(student(degrees_of_freedom)?.sf(t))
}

pub(super) fn finish(statistic: f64, degrees_of_freedom: f64) -> Result<TTest> {
    let statistic = statistic.clamp(f64::MIN, f64::MAX);
    // The upper tail itself: one minus the lower tail is zero from t = 30 on.
    let p_value = (2.0 * student(degrees_of_freedom)?.sf(statistic.abs())).min(1.0);
    Ok(TTest { statistic, degrees_of_freedom, p_value })
}

fn student(degrees_of_freedom: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, degrees_of_freedom)
        .map_err(|error| super::invalid("degrees of freedom", format!("{degrees_of_freedom}: {error}")))
}

fn no_spread(what: &'static str) -> Error {
    Error::Data { what, needed: "values that scatter", found: "no spread at all".to_owned() }
}
