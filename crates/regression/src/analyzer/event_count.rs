//! Counts of rare events, from one count per sample.

use super::{Analyzer, Comparison, Estimate};
use crate::statistics::poisson_rate_ratio;
use crate::{Error, Interval, Result};

/// The largest total that is counted exactly as a float.
const TOTAL_MAX: f64 = 9_007_199_254_740_992.0;

/// The interval for the relative change of a rate of events, from whole counts over samples of equal exposure: the exact
/// conditional one of [`poisson_rate_ratio`]. Method `poisson_rate`.
///
/// Where the old side has no event the change has no size: the interval is then one of the difference, in units of one event
/// over all old samples, and reaches beyond zero exactly where that of the ratio reaches beyond one; it has no upper end. Assumes Poisson counts; pairs are not used. At least one value
/// on each side.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, EventCounts};
/// let (old, new) = ([2.0, 0.0, 1.0, 1.0, 2.0, 0.0], [9.0, 6.0, 8.0, 7.0, 11.0, 9.0]);
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
/// assert!(EventCounts.analyze(&comparison)?.interval.low > 2.0);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts;

impl Analyzer for EventCounts {
    fn name(&self) -> &'static str {
        "poisson_rate"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        const WHAT: &str = "an interval for the change of a rate of events";
        comparison.check(WHAT, 1)?;
        let (Some(old), Some(new)) = (total(comparison.incumbent), total(comparison.candidate)) else {
            let found = "other values".to_owned();
            return Err(Error::Data { what: WHAT, needed: "values that are whole and not negative", found });
        };
        let (nx, ny) = (comparison.incumbent.len() as f64, comparison.candidate.len() as f64);
        let compared = poisson_rate_ratio(old, nx, new, ny, comparison.level)?;
        let (old_value, new_value) = (old as f64 / nx, new as f64 / ny);
        let (low, high) = if old == 0 {
            ((compared.interval.low - 1.0) / nx, f64::MAX)
        } else {
            (compared.interval.low - 1.0, (compared.interval.high - 1.0).min(f64::MAX))
        };
        Ok(Estimate {
            old_value,
            new_value,
            interval: Interval { low, high, level: comparison.level },
            p_value: Some(compared.p_value),
            method: self.name(),
        })
    }
}

/// The sum of whole, non-negative values; `None` for others.
fn total(values: &[f64]) -> Option<u64> {
    let total: f64 = values.iter().sum();
    let all_whole = values.iter().all(|value| *value >= 0.0 && value.fract().abs() <= 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    (all_whole && total <= TOTAL_MAX).then_some(total as u64)
}
