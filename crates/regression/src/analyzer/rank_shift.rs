//! The Hodges-Lehmann interval of the ratio, which outliers hardly move.

use super::{Analyzer, Comparison, Estimate, point};
use crate::statistics::{hodges_lehmann, hodges_lehmann_paired, mann_whitney, median, wilcoxon_signed_rank};
use crate::{Interval, Result};

/// A rank method: Hodges-Lehmann estimate and interval, p-value by Mann-Whitney; for pairs those of the signed ranks.
///
/// `old_value` is the median of the old values, and `new_value` is that median moved by the estimated change, so that the
/// change is the Hodges-Lehmann estimate and not the difference of medians.
///
/// - *All values positive:* the change is a factor, estimated from the differences of logarithms. Assumes that the new
///   values are distributed as the old ones times the factor (the ratios of pairs symmetrically around it, on a logarithmic
///   scale). Methods `rank_ratio`, `signed_rank_ratio`.
/// - *Otherwise:* the change is a shift, divided by the absolute old median as if that were known exactly (not divided
///   where it is zero). Methods `rank_shift`, `signed_rank_shift`.
///
/// Assumes independent samples, or independent pairs. An outlier moves the interval by at most one rank, and nothing about
/// normality is assumed. It needs more values than [`TInterval`](super::TInterval): four on each side for a level of 0.95,
/// seven for 0.999; six and eleven pairs. Two constant sides are compared exactly, method `exact`.
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
        let finite = |value: f64| value.clamp(f64::MIN, f64::MAX);
        if old.iter().chain(new).all(|value| *value > 0.0) {
            let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
            let (shift, Interval { low, high, .. }, p_value) =
                shift(&logs(old), &logs(new), comparison.paired, level)?;
            return Ok(Estimate {
                old_value: centre,
                new_value: finite(centre * shift.exp()),
                interval: Interval { low: finite(low.exp_m1()), high: finite(high.exp_m1()), level },
                p_value,
                method: if comparison.paired { "signed_rank_ratio" } else { "rank_ratio" },
            });
        }
        let (shift, Interval { low, high, .. }, p_value) = shift(old, new, comparison.paired, level)?;
        let unit = if centre.abs() > 0.0 { centre.abs() } else { 1.0 };
        Ok(Estimate {
            old_value: centre,
            new_value: finite(centre + shift),
            interval: Interval { low: finite(low / unit), high: finite(high / unit), level },
            p_value,
            method: if comparison.paired { "signed_rank_shift" } else { "rank_shift" },
        })
    }
}

/// The estimated shift, its interval, and the p-value of no shift.
fn shift(x: &[f64], y: &[f64], paired: bool, level: f64) -> Result<(f64, Interval, Option<f64>)> {
    if paired {
        let differences: Vec<f64> = x.iter().zip(y).map(|(old, new)| new - old).collect();
        let (centre, interval) = hodges_lehmann_paired(&differences, level)?;
        return Ok((centre, interval, Some(wilcoxon_signed_rank(&differences)?.p_value)));
    }
    let (shift, interval) = hodges_lehmann(x, y, level)?;
    Ok((shift, interval, Some(mann_whitney(x, y)?.p_value)))
}
