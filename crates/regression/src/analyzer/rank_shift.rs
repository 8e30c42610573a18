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
        let change = RankChange::of(comparison)?;
        change.into_estimate(comparison)
    }
}

/// The estimated change without its p-value, which takes longer and is not always asked for.
pub(super) struct RankChange {
    /// The values or their logarithms, on whose scale the change is a shift.
    x: Vec<f64>,
    y: Vec<f64>,
    is_ratio: bool,
    shift: f64,
    /// The interval of the relative change.
    pub(super) interval: Interval,
}

impl RankChange {
    pub(super) fn of(comparison: &Comparison<'_>) -> Result<Self> {
        let (old, new, level) = (comparison.incumbent, comparison.candidate, comparison.level);
        let is_ratio = old.iter().chain(new).all(|value| *value > 0.0);
        let scaled = |values: &[f64]| -> Vec<f64> {
            if is_ratio { values.iter().map(|value| value.ln()).collect() } else { values.to_vec() }
        };
        let (x, y) = (scaled(old), scaled(new));
        let (shift, Interval { low, high, .. }) = if comparison.paired {
            hodges_lehmann_paired(&differences(&x, &y), level)?
        } else {
            hodges_lehmann(&x, &y, level)?
        };
        let unit = if is_ratio { 1.0 } else { median(old)?.abs() };
        let unit = if unit > 0.0 { unit } else { 1.0 };
        let relative = |shift: f64| finite(if is_ratio { shift.exp_m1() } else { shift / unit });
        let interval = Interval { low: relative(low), high: relative(high), level };
        Ok(Self { x, y, is_ratio, shift, interval })
    }

    pub(super) fn into_estimate(self, comparison: &Comparison<'_>) -> Result<Estimate> {
        let Self { x, y, is_ratio, shift, interval } = self;
        let centre = median(comparison.incumbent)?;
        let p_value = if comparison.paired {
            wilcoxon_signed_rank(&differences(&x, &y))?.p_value
        } else {
            mann_whitney(&x, &y)?.p_value
        };
        Ok(Estimate {
            old_value: centre,
            new_value: finite(if is_ratio { centre * shift.exp() } else { centre + shift }),
            interval,
            p_value: Some(p_value),
            method: match (comparison.paired, is_ratio) {
                (false, true) => "rank_ratio",
                (false, false) => "rank_shift",
                (true, true) => "signed_rank_ratio",
                (true, false) => "signed_rank_shift",
            },
        })
    }
}

fn differences(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(old, new)| new - old).collect()
}

fn finite(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}
