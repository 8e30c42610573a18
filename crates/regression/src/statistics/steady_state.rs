//! From which iteration on a process has warmed up.

use super::{check_values, mean, std_dev};
use crate::Result;

/// Fewer iterations show no warm-up.
const COUNT_MIN: usize = 10;
/// By how many standard errors both parts must differ. Many, for the place was searched for.
const ERRORS_MIN: f64 = 5.0;

/// How one process start warms up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteadyState {
    /// The first iteration that is steady, zero-based; what lies before it is warm-up.
    pub first: usize,
    /// Whether the steady part was reached within the first half. Otherwise `first` is the middle, and the start may never
    /// have become steady.
    pub reached: bool,
}

/// Finds the warm-up of one process start by the rule MSER (White 1997): drop the first `d` iterations for the `d` that
/// makes the squared standard error of the rest, `sum (x - mean)^2 / (n - d)^2`, smallest.
///
/// A minimum beyond the middle means that no steady state was reached (Hoad, Robinson and Davies 2010). What MSER drops from
/// quiet iterations by chance is kept: the means of both parts must differ by more than five standard errors, with the scatter
/// of the steady part. Fewer than ten iterations show no warm-up. Assumes iterations that are independent once steady; a start that wanders can look like one that warms up.
///
/// ```
/// use evoseal_regression::statistics::steady_state;
/// let mut iterations = vec![90.0, 60.0, 30.0, 22.0];
/// iterations.extend((0..20).map(|i| 20.0 + f64::from(i % 3) * 0.1));
/// assert_eq!(steady_state(&iterations)?.first, 4);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn steady_state(iterations: &[f64]) -> Result<SteadyState> {
    const ALL: SteadyState = SteadyState { first: 0, reached: true };
    check_values("a warm-up", iterations, 1)?;
    if iterations.len() < COUNT_MIN {
        return Ok(ALL);
    }
    let last = iterations[iterations.len() - 1];
    // From the end: mean and sum of squared deviations of every tail (Welford 1962).
    let (mut centre, mut squares, mut count) = (last, 0.0, 0.0);
    let (mut first, mut least) = (0, f64::INFINITY);
    for (index, value) in iterations.iter().enumerate().rev() {
        count += 1.0;
        let off = value - centre;
        centre += off / count;
        squares += off * (value - centre);
        let score = squares / (count * count);
        // At least five are left, or a pair of equal values at the end would always win.
        if count >= 5.0 && score <= least {
            (first, least) = (index, score);
        }
    }
    let middle = iterations.len() / 2;
    let candidate = first.min(middle);
    if candidate == 0 {
        return Ok(ALL);
    }
    let (warming, steady) = iterations.split_at(candidate);
    let error = std_dev(steady)? * (1.0 / warming.len() as f64 + 1.0 / steady.len() as f64).sqrt();
    if (mean(warming)? - mean(steady)?).abs() <= ERRORS_MIN * error {
        return Ok(ALL);
    }
    Ok(SteadyState { first: candidate, reached: first <= middle })
}
