//! The default: the method that fits the values.

use super::pass_rate::successes;
use super::rank_shift::RankChange;
use super::t_interval::{Freedom, t_estimate};
use super::{Analyzer, Comparison, Estimate, PassRate, point};
use crate::statistics::{dependence, is_constant, percentile_of_sorted};
use crate::{Interval, Result};

/// Below so many values a side the rank interval is hardly ever the shorter one, and is not computed.
const RANK_COUNT_MIN: usize = 7;
/// The rank interval is taken unless it is longer than the t interval by more than this factor: so the power stays within
/// two points of the better one both on normal noise and on two modes, where they differ most.
const LONGER_BY_MAX: f64 = 1.06;
/// Up to so many pairs of an old and a new value are formed; with more, means are normal enough.
const RANK_PAIRS_MAX: usize = 1_000_000;
/// The share of the allowed error at which both intervals are computed where one of them is chosen.
const CHOICE_SHARE: f64 = 0.92;
/// How many widths of the rank interval the change of the means may lie beside it. The means of two modes wander by about one.
const AGREEMENT_WIDTHS: f64 = 2.0;
/// From which ratio on both sides scatter differently: ranks assume that they scatter alike.
const SCATTER_RATIO_MAX: f64 = 2.0;
/// Values of which more than this share are not unique count as discrete: their ranks are lumps.
const TIED_SHARE_MAX: f64 = 0.2;

/// Chooses the method from the values alone, by rules that keep the level for every noise of the
/// [simulation](crate::simulation).
///
/// 1. Neither side scatters: the two numbers are compared, method `exact`.
/// 2. Every value is 0 or 1 and nothing is paired: [`PassRate`].
/// 3. Values depend on their predecessors beyond chance (Moran's test of the pooled lag-1 autocorrelation, at 0.5 %, from
///    eight values a side on; of the differences for pairs): the t interval with standard errors and degrees of freedom of
///    a first-order autoregression, methods `welch_t_autocorrelated` and `paired_t_autocorrelated`.
/// 4. Otherwise the shorter of two intervals, ranks being given six percent: that of
///    [`TInterval`](super::TInterval) with Welch's own degrees of freedom, best for noise that is about normal, and that of
///    [`RankShift`](super::RankShift), better for heavy tails and several modes. The rank interval is not asked for
///    - below seven values a side, and for values that are not all positive or have many ties;
///    - where one side scatters more than twice as much as the other, for ranks assume that they scatter alike;
///    - where the change of the means lies more than two of its widths beside it: there the new values are not the old
///      ones times a factor (one in ten is slow), and only the mean sees that.
///
/// **Why choosing is allowed.** Under normal noise the ratio of both widths depends on neither means nor scale, and is therefore
/// independent of the t statistic (Basu 1955); choosing by it cannot favour lucky values. For other noise the two intervals
/// mostly miss together. Both are computed at 0.92 of the allowed error, which pays for the rest; `evoseal detect simulate
/// aa` measures the result.
///
/// **Limits.** That values do not depend on their predecessors is an assumption below eight values a side, where nothing could
/// show it, and can be tested only poorly below thirty. Measured all of one side before all of the other on a machine that wanders (autoregressive, 0.7),
/// false regressions are 14 to 15 % with five values a side, 12 to 13.5 % with ten and 2.7 to 3.1 % with thirty, where 2.5 % are
/// allowed (`evoseal detect simulate blocks`). An interval wide enough for that would be
/// useless on steady machines, so it is left to the plan of measuring: in turn and paired, the same machine stays within the level from
/// five pairs on (`evoseal detect simulate aa`). At least two values on each side.
///
/// ```
/// use evoseal_regression::{Analyzer, Auto, Comparison};
/// let old = [10.0, 10.2, 9.9, 10.1, 9.8, 10.0, 10.1, 9.9];
/// let method = |new: &[f64]| {
///     let comparison = Comparison { incumbent: &old, candidate: new, paired: false, level: 0.95 };
///     Auto.analyze(&comparison).map(|estimate| estimate.method)
/// };
/// assert_eq!(method(&old.map(|value| value * 1.1))?, "welch_t");
/// assert_eq!(method(&[11.0, 11.2, 10.9, 11.1, 10.8, 11.0, 11.1, 99.0])?, "welch_t", "the mean counts the outlier");
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Auto;

impl Analyzer for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn analyze(&self, comparison: &Comparison<'_>) -> Result<Estimate> {
        comparison.check("an interval for the change of a mean", 2)?;
        if comparison.is_exact() {
            return point(comparison, "exact", comparison.level);
        }
        let (old, new, paired) = (comparison.incumbent, comparison.candidate, comparison.paired);
        if !paired && successes(old).is_some() && successes(new).is_some() {
            return PassRate.analyze(comparison);
        }
        if let Some(dependence) = dependence_of(comparison) {
            let method = if paired { "paired_t_autocorrelated" } else { "welch_t_autocorrelated" };
            return t_estimate(comparison, Freedom::Dependent(dependence), method);
        }
        let method = if paired { "paired_t" } else { "welch_t" };
        if !ranks_may_compete(comparison) {
            return t_estimate(comparison, Freedom::Welch, method);
        }
        let chosen_at = 1.0 - (1.0 - comparison.level) * CHOICE_SHARE;
        let stricter = Comparison { level: chosen_at, ..*comparison };
        let by_means = t_estimate(&stricter, Freedom::Welch, method)?;
        let chosen = match RankChange::of(&stricter) {
            Ok(by_ranks) if is_preferred(by_ranks.interval, &by_means) => {
                by_ranks.into_estimate(&stricter)?
            }
            // Too few values for ranks at this level.
            Ok(_) | Err(crate::Error::Data { .. }) => by_means,
            Err(error) => return Err(error),
        };
        let interval = Interval { level: comparison.level, ..chosen.interval };
        // The p-value at which the interval that is shown would just hold zero.
        let p_value = chosen.p_value.map(|p| (p / CHOICE_SHARE).min(1.0));
        Ok(Estimate { interval, p_value, ..chosen })
    }
}

/// How the values depend on their predecessors; pairs by their differences.
fn dependence_of(comparison: &Comparison<'_>) -> Option<crate::statistics::Dependence> {
    let (old, new) = (comparison.incumbent, comparison.candidate);
    if !comparison.paired {
        return dependence(&[old, new]);
    }
    let differences: Vec<f64> = old.iter().zip(new).map(|(old, new)| new - old).collect();
    dependence(&[&differences])
}

/// Whether the rank interval is defined, and means what the t interval means.
fn ranks_may_compete(comparison: &Comparison<'_>) -> bool {
    let (old, new) = (comparison.incumbent, comparison.candidate);
    let enough = old.len().min(new.len()) >= RANK_COUNT_MIN;
    let few_enough = old.len().saturating_mul(new.len()) <= RANK_PAIRS_MAX;
    if !enough || !few_enough || is_constant(old) || is_constant(new) {
        return false;
    }
    if !old.iter().chain(new).all(|value| *value > 0.0) {
        return false;
    }
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    };
    let (old, new) = (sorted(old), sorted(new));
    let ties = |sorted: &[f64]| sorted.windows(2).filter(|pair| pair[0] >= pair[1]).count();
    let tied = ties(&old) + ties(&new);
    let may = tied as f64 <= TIED_SHARE_MAX * (old.len() + new.len()) as f64;
    may && (comparison.paired || !scatters_otherwise(&old, &new))
}

/// Whether one side scatters several times as much as the other, relative to its size: by its middle half and by its standard
/// deviation. One of them alone says little, for the first wanders with two modes and the second with heavy tails.
fn scatters_otherwise(old: &[f64], new: &[f64]) -> bool {
    let measures = |sorted: &[f64]| {
        let middle = percentile_of_sorted(sorted, 50.0);
        let half = percentile_of_sorted(sorted, 75.0) - percentile_of_sorted(sorted, 25.0);
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        (half / middle, (squares / (sorted.len() - 1) as f64).sqrt() / mean)
    };
    let ((half_old, deviation_old), (half_new, deviation_new)) = (measures(old), measures(new));
    let exceeds = |one: f64, other: f64| one > SCATTER_RATIO_MAX * other;
    exceeds(half_old, half_new) && exceeds(deviation_old, deviation_new)
        || exceeds(half_new, half_old) && exceeds(deviation_new, deviation_old)
}

/// Whether the rank interval is short enough and agrees with the means.
fn is_preferred(by_ranks: Interval, by_means: &Estimate) -> bool {
    // On the scale of logarithms, where both are symmetric for small noise.
    let width = |interval: Interval| interval.high.ln_1p() - interval.low.max(-1.0).ln_1p();
    let Interval { low, high, .. } = by_ranks;
    let reach = AGREEMENT_WIDTHS * (high - low);
    let agrees = by_means.change().is_some_and(|change| low - reach <= change && change <= high + reach);
    agrees && width(by_ranks) <= LONGER_BY_MAX * width(by_means.interval)
}
