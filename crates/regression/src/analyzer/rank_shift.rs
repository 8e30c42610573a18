//! The Hodges-Lehmann interval of the ratio, which outliers hardly move.

use super::{Analyzer, Comparison, Estimate, point};
use crate::statistics::{hodges_lehmann, mann_whitney, median};
use crate::{Interval, Result};

/// A rank method: Hodges-Lehmann estimate and interval, p-value by Mann-Whitney.
///
/// `old_value` is the median of the old values, and `new_value` is that median moved by the estimated change, so that the
/// change is the Hodges-Lehmann estimate and not the difference of medians.
///
/// - *All values positive:* the change is a factor, estimated from the differences of logarithms. Assumes that the new
///   values are distributed as the old ones times the factor. Method `rank_ratio`.
/// - *Otherwise:* the change is a shift, divided by the absolute old median as if that were known exactly (not divided
///   where it is zero). Method `rank_shift`.
///
/// Assumes independent samples; pairs are not used (a positive dependence within pairs makes the interval conservative).
/// An outlier moves the interval by at most one rank, and nothing about normality is assumed. It needs more values than
/// [`TInterval`](super::TInterval): four on each side for a level of 0.95, seven for 0.999. Two constant sides are compared
/// exactly, method `exact`.
///
/// ```
/// use evoseal_regression::{Analyzer, Comparison, RankShift};
/// let old = [10.0, 10.1, 10.2, 10.3, 10.4, 900.0];
/// let new = old.map(|value| value * 1.5);
/// let comparison = Comparison { incumbent: &old, candidate: &new, paired: false, level: 0.95 };
/// let estimate = RankShift.analyze(&comparison)?;
/// assert!(estimate.change().is_some_and(|change| (change - 0.5).abs() < 0.02), "{estimate:?}");
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankShift;

impl Analyzer for RankShift {
    fn name(&self) -> &'static str {
        "rank_shift"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("a rank interval", 2)?;
        if comparison.is_exact() {
            return point(comparison, "exact", comparison.level);
        }
        let (old, new, level) = (comparison.incumbent, comparison.candidate, comparison.level);
        let centre = median(old)?;
        let p_value = Some(mann_whitney(old, new)?.p_value);
        let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
        if old.iter().chain(new).all(|value| *value > 0.0) {
            let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
            let (shift, Interval { low, high, .. }) = hodges_lehmann(&logs(old), &logs(new), level)?;
            return Ok(Estimate {
                old_value: centre,
                new_value: finite(centre * shift.exp()),
                interval: Interval { low: finite(low.exp_m1()), high: finite(high.exp_m1()), level },
                p_value,
                method: "rank_ratio",
            });
        }
        let (shift, Interval { low, high, .. }) = hodges_lehmann(old, new, level)?;
        let unit = if centre.abs() > 0.0 { centre.abs() } else { 1.0 };
        Ok(Estimate {
            old_value: centre,
            new_value: finite(centre + shift),
            interval: Interval { low: finite(low / unit), high: finite(high / unit), level },
            p_value,
            method: "rank_shift",
        })
    }
}
