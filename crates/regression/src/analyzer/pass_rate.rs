//! Shares of trials that pass, from one value 0 or 1 per trial.

use super::{Analyzer, Comparison, Estimate};
use crate::statistics::{Successes, fisher_exact, newcombe_interval, share_ratio_interval};
use crate::{Error, Interval, Result};

/// The interval for the relative change of a pass rate, from values that are each 0 (failed) or 1 (passed).
///
/// The ratio of both rates has the interval of Donner and Zou (2012) from Wilson's limits; where the old rate is zero the
/// difference has [Newcombe's](newcombe_interval). The p-value is [Fisher's exact](fisher_exact). Wilson's limits cover on average and
/// not for every rate, so where Fisher's test does not reject at the level the interval is widened to hold zero: a verdict then
/// never rests on what the exact test would not say. Method `pass_rate`.
///
/// Assumes independent trials; pairs are not used. At least one value on each side.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, PassRate};
/// let passes = |passed: usize| (0..50).map(|i| f64::from(i < passed)).collect::<Vec<_>>();
/// let comparison = Comparison { incumbent: &passes(49), candidate: &passes(30), paired: false, level: 0.95 };
/// let estimate = PassRate.analyze(&comparison)?;
/// assert!(estimate.interval.high < -0.2 && estimate.p_value.is_some_and(|p| p < 1e-5));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassRate;

impl Analyzer for PassRate {
    fn name(&self) -> &'static str {
        "pass_rate"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        const WHAT: &str = "an interval for the change of a pass rate";
        comparison.check(WHAT, 1)?;
        let (Some(old), Some(new)) = (successes(comparison.incumbent), successes(comparison.candidate))
        else {
            let found = "other values".to_owned();
            return Err(Error::Data { what: WHAT, needed: "values that are each 0 or 1", found });
        };
        let (old, new) = (old?, new?);
        let level = comparison.level;
        let p_value = fisher_exact(old, new)?;
        let mut interval = if old.passed == 0 {
            newcombe_interval(old, new, level)?
        } else {
            let ratio = share_ratio_interval(old, new, level)?;
            Interval { low: ratio.low - 1.0, high: (ratio.high - 1.0).min(f64::MAX), level }
        };
        if p_value > 1.0 - level {
            (interval.low, interval.high) = (interval.low.min(0.0), interval.high.max(0.0));
        }
        Ok(Estimate {
            old_value: old.rate(),
            new_value: new.rate(),
            interval,
            p_value: Some(p_value),
            method: self.name(),
        })
    }
}

/// How many of the values are 1; `None` if one is neither 0 nor 1.
pub(super) fn successes(values: &[f64]) -> Option<Result<Successes>> {
    let is_one = |value: f64| value.to_bits() == 1.0_f64.to_bits();
    if values.iter().any(|value| !(is_one(*value) || value.abs() <= 0.0)) {
        return None;
    }
    let passed = values.iter().filter(|value| is_one(**value)).count();
    Some(Successes::new(passed as u64, values.len() as u64))
}
