//! Shares of trials that succeed: pass rates.

use statrs::distribution::{Beta, ContinuousCDF};
use statrs::function::factorial::ln_factorial;

use super::check_level;
use super::normal::normal_quantile;
use crate::{Interval, Result};

/// So many of so many trials succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successes {
    /// How many succeeded.
    pub passed: u64,
    /// How many there were, at least one.
    pub trials: u64,
}

impl Successes {
    /// Refuses no trials, and more successes than trials.
    pub fn new(passed: u64, trials: u64) -> Result<Self> {
        if trials == 0 || passed > trials {
            return Err(super::invalid("a pass rate", format!("{passed} of {trials} trials")));
        }
        Ok(Self { passed, trials })
    }

    /// The share.
    pub fn rate(self) -> f64 {
        self.passed as f64 / self.trials as f64
    }
}

/// Wilson's score interval of one share (Wilson 1927): the shares `p` with `|rate - p| <= z sqrt(p (1 - p) / n)`.
///
/// Assumes independent trials of one probability. Its coverage is close to the level on average, also for few trials and
/// for shares of 0 and 1 (Agresti and Coull 1998).
///
/// ```
/// use evoseal_regression::statistics::{Successes, wilson_interval};
/// // Newcombe (1998), table I: 81 of 263.
/// let interval = wilson_interval(Successes::new(81, 263)?, 0.95)?;
/// assert!((interval.low - 0.2553).abs() < 1e-4 && (interval.high - 0.3662).abs() < 1e-4);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn wilson_interval(successes: Successes, level: f64) -> Result<Interval> {
    check_level(level)?;
    let z = normal_quantile(f64::midpoint(1.0, level));
    let (n, p) = (successes.trials as f64, successes.rate());
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    // Exactly 0 and 1 at the ends, which rounding would miss.
    let low = if successes.passed == 0 { 0.0 } else { centre - half };
    let high = if successes.passed == successes.trials { 1.0 } else { centre + half };
    Ok(Interval { low, high, level })
}

/// The exact interval of one share after Clopper and Pearson (1934): quantiles of beta distributions. It covers with at
/// least its level for every number of trials.
///
/// ```
/// use evoseal_regression::statistics::{Successes, clopper_pearson_interval};
/// let interval = clopper_pearson_interval(Successes::new(0, 10)?, 0.95)?;
/// assert!(interval.low == 0.0 && (interval.high - 0.308_497_106).abs() < 1e-8);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn clopper_pearson_interval(successes: Successes, level: f64) -> Result<Interval> {
    check_level(level)?;
    let tail = (1.0 - level) / 2.0;
    let (passed, failed) = (successes.passed as f64, (successes.trials - successes.passed) as f64);
    let quantile = |a: f64, b: f64, p: f64| -> Result<f64> {
        let beta =
            Beta::new(a, b).map_err(|error| super::invalid("a beta distribution", error.to_string()))?;
        Ok(beta.inverse_cdf(p))
    };
    let low = if successes.passed == 0 { 0.0 } else { quantile(passed, failed + 1.0, tail)? };
    let high = if failed <= 0.0 { 1.0 } else { quantile(passed + 1.0, failed, 1.0 - tail)? };
    Ok(Interval { low, high, level })
}

/// Newcombe's hybrid score interval of the difference `new - old` of two independent shares (Newcombe 1998, method 10):
/// with Wilson's limits `l` and `u` of each, `d - sqrt((p2 - l2)^2 + (u1 - p1)^2)` to
/// `d + sqrt((u2 - p2)^2 + (p1 - l1)^2)`.
///
/// ```
/// use evoseal_regression::statistics::{Successes, newcombe_interval};
/// // Newcombe (1998), table II, example (a): 56 of 70 against 48 of 80.
/// let interval = newcombe_interval(Successes::new(48, 80)?, Successes::new(56, 70)?, 0.95)?;
/// assert!((interval.low - 0.0524).abs() < 1e-4 && (interval.high - 0.3339).abs() < 1e-4);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn newcombe_interval(old: Successes, new: Successes, level: f64) -> Result<Interval> {
    let (one, two) = (wilson_interval(old, level)?, wilson_interval(new, level)?);
    let (p1, p2) = (old.rate(), new.rate());
    let low = p2 - p1 - (p2 - two.low).hypot(one.high - p1);
    let high = p2 - p1 + (two.high - p2).hypot(p1 - one.low);
    Ok(Interval { low, high, level })
}

/// The interval of the ratio `new / old` of two independent shares from Wilson's limits (MOVER-R: Donner and Zou 2012,
/// equation 9). The upper end is infinite where no success of the old side leaves the ratio unbounded.
pub(crate) fn share_ratio_interval(old: Successes, new: Successes, level: f64) -> Result<Interval> {
    let (one, two) = (wilson_interval(old, level)?, wilson_interval(new, level)?);
    let product = old.rate() * new.rate();
    let (p1, p2) = (old.rate(), new.rate());
    let root = |limit: f64, other: f64| {
        (product * product - limit * other * (2.0 * p2 - limit) * (2.0 * p1 - other)).max(0.0).sqrt()
    };
    let low = (product - root(two.low, one.high)) / (one.high * (2.0 * p1 - one.high));
    let high = (product + root(two.high, one.low)) / (one.low * (2.0 * p1 - one.low));
    // Where twice the rate does not exceed its limit the quotients change sign; there the limits themselves bound.
    let low = if 2.0 * p1 > one.high && low.is_finite() { low.max(0.0) } else { two.low / one.high };
    let high = if one.low > 0.0 && high.is_finite() { high } else { f64::INFINITY };
    Ok(Interval { low: low.min(high), high, level })
}

/// Fisher's exact test of two independent shares (Fisher 1935): given the total of successes, every way in which they can
/// fall to both sides has its hypergeometric probability; the two-sided p-value sums those that are not more likely than
/// what was seen, as R and SciPy do.
///
/// Exact for any number of trials, and conservative for few.
///
/// ```
/// use evoseal_regression::statistics::{Successes, fisher_exact};
/// // Fisher (1935), the lady tasting tea: three of four and one of four.
/// let p = fisher_exact(Successes::new(3, 4)?, Successes::new(1, 4)?)?;
/// assert!((p - 0.485_714_285_7).abs() < 1e-9);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn fisher_exact(old: Successes, new: Successes) -> Result<f64> {
    let passed = old.passed + new.passed;
    let (least, most) = (passed.saturating_sub(new.trials), passed.min(old.trials));
    let ln_choose = |n: u64, k: u64| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let all = ln_choose(old.trials + new.trials, passed);
    let probability = |k: u64| (ln_choose(old.trials, k) + ln_choose(new.trials, passed - k) - all).exp();
    // Equal probabilities may differ in the last digits.
    let limit = probability(old.passed) * (1.0 + 1e-7);
    let p: f64 = (least..=most).map(probability).filter(|p| *p <= limit).sum();
    Ok(p.min(1.0))
}
