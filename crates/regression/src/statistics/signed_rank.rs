//! Rank statistics of paired samples: Wilcoxon's signed ranks and their Hodges-Lehmann estimate.

use serde::{Deserialize, Serialize};

use super::mid_ranks::{doubled_ranks, tie_term};
use super::normal::{normal_quantile, normal_tail};
use super::{check_level, check_values};
use crate::{Error, Interval, Result};

/// Above so many differences the normal approximation stands in for counting. Counts stay below 2^50, exact as floats.
const EXACT_COUNT_MAX: usize = 50;

/// The outcome of Wilcoxon's test of "the differences scatter symmetrically around zero".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// The sum of the ranks of the positive differences.
    pub w_plus: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Whether the p-value was counted rather than approximated.
    pub exact: bool,
    /// How many differences are not zero.
    pub used: usize,
}

/// Wilcoxon's signed-rank test (Wilcoxon 1945) of differences between pairs.
///
/// Zero differences are left out, as Wilcoxon did. With at most 50 others the p-value is exact, also with ties: all signs
/// of the mid-ranks are equally likely, and their sums are counted (Streitberg and Röhmel 1986); the two-sided value is
/// twice the smaller tail, at most 1. Beyond that it is the normal approximation with tie and continuity correction
/// (Hollander and Wolfe 1999, section 3.1). Assumes independent pairs and, under the null hypothesis, differences that are
/// symmetric around zero. At least one value; without any difference p = 1. Six pairs are needed for p below 0.05.
///
/// ```
/// use evoseal_regression::statistics::wilcoxon_signed_rank;
/// let test = wilcoxon_signed_rank(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!((test.w_plus, test.p_value, test.exact), (21.0, 2.0 / 64.0, true));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn wilcoxon_signed_rank(differences: &[f64]) -> Result<SignedRank> {
    check_values("a signed-rank test", differences, 1)?;
    let nonzero: Vec<f64> = differences.iter().copied().filter(|value| value.abs() > 0.0).collect();
    let used = nonzero.len();
    let doubled = doubled_ranks(&nonzero.iter().map(|value| value.abs()).collect::<Vec<_>>());
    let observed: usize =
        nonzero.iter().zip(&doubled).filter(|(value, _)| **value > 0.0).map(|(_, rank)| rank).sum();
    let w_plus = observed as f64 / 2.0;
    if used <= EXACT_COUNT_MAX {
        let counts = sign_sums(&doubled);
        let total = counts.iter().sum::<f64>();
        let (lower, upper): (f64, f64) = (counts[..=observed].iter().sum(), counts[observed..].iter().sum());
        return Ok(SignedRank {
            w_plus,
            p_value: (2.0 * lower.min(upper) / total).min(1.0),
            exact: true,
            used,
        });
    }
    let n = used as f64;
    let spread = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - tie_term(&doubled) / 48.0).sqrt();
    let distance = ((w_plus - n * (n + 1.0) / 4.0).abs() - 0.5).max(0.0);
    Ok(SignedRank { w_plus, p_value: (2.0 * normal_tail(distance / spread)).min(1.0), exact: false, used })
}

/// The Hodges-Lehmann estimate of the centre of the differences and its interval (Hollander and Wolfe 1999, sections 3.2
/// and 3.3).
///
/// The estimate is the median of the Walsh averages `(d[i] + d[j]) / 2`, `i <= j`; the interval runs from the k-th smallest
/// to the k-th largest of them, with k the largest for which the signed-rank test without ties keeps the level. Assumes
/// independent differences that are symmetric around their centre; ties make the interval conservative. Refused with
/// [`Error::Data`] where so few values cannot reach the level: five cannot reach 0.95.
///
/// ```
/// use evoseal_regression::statistics::hodges_lehmann_paired;
/// let (centre, interval) = hodges_lehmann_paired(&[4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 0.95)?;
/// assert_eq!((centre, interval.low, interval.high), (6.5, 4.0, 9.0));
/// assert!(hodges_lehmann_paired(&[4.0, 5.0, 6.0, 7.0, 8.0], 0.95).is_err());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn hodges_lehmann_paired(differences: &[f64], level: f64) -> Result<(f64, Interval)> {
    const WHAT: &str = "a Hodges-Lehmann interval of pairs";
    check_values(WHAT, differences, 1)?;
    check_level(level)?;
    let Some(cut) = interval_cut(differences.len(), 1.0 - level) else {
        let found = format!("{} pairs", differences.len());
        return Err(Error::Data { what: WHAT, needed: "enough pairs for its level", found });
    };
    let mut walsh = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (index, one) in differences.iter().enumerate() {
        walsh.extend(differences[index..].iter().map(|other| f64::midpoint(*one, *other)));
    }
    let (centre, low, high) = super::rank::middle_and_ends(&mut walsh, cut);
    Ok((centre, Interval { low, high, level }))
}

/// How many choices of signs give each sum of the positive ranks.
fn sign_sums(ranks: &[usize]) -> Vec<f64> {
    let mut counts = vec![0.0; ranks.iter().sum::<usize>() + 1];
    counts[0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        for sum in (0..=reached).rev() {
            counts[sum + rank] += counts[sum];
        }
        reached += rank;
    }
    counts
}

/// The zero-based place among the sorted Walsh averages at which the interval begins; `None` if no place keeps `alpha`.
fn interval_cut(n: usize, alpha: f64) -> Option<usize> {
    if n > EXACT_COUNT_MAX {
        let n = n as f64;
        let spread = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        let cut = (n * (n + 1.0) / 4.0 - normal_quantile(1.0 - alpha / 2.0) * spread).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 <= cut <= n (n + 1) / 4"
        )]
        return (cut >= 1.0).then(|| cut as usize - 1);
    }
    let ranks: Vec<usize> = (1..=n).collect();
    let counts = sign_sums(&ranks);
    let total = counts.iter().sum();
    // Only the lower half, for the sums are symmetric.
    super::rank::largest_within(&counts[..counts.len().div_ceil(2)], total, alpha)
}
