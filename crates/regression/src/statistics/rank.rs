//! Rank statistics of two independent samples: Mann-Whitney and Hodges-Lehmann.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::memo::{Memo, remembered};
use super::mid_ranks::{doubled_ranks, tie_term};
use super::normal::{normal_quantile, normal_tail};
use super::{check_level, check_values};
use crate::{Error, Interval, Result};

/// Above so many values in both samples together the normal approximation stands in for counting.
const EXACT_COUNT_MAX: usize = 50;

/// The outcome of a Mann-Whitney test of "both samples come from one distribution".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// How many pairs have `y > x`, ties counted half: 0 to `nx * ny`.
    pub u: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Whether the p-value was counted rather than approximated.
    pub exact: bool,
}

/// The Mann-Whitney U test (Mann and Whitney 1947), equivalent to Wilcoxon's rank sum test.
///
/// With at most 50 values together the p-value is exact, also with ties: the permutation distribution of the mid-rank
/// sum, counted by the shift algorithm of Streitberg and Röhmel (1986); the two-sided value is twice the smaller tail, at
/// most 1. Beyond that it is the normal approximation with tie correction and continuity correction (Hollander and
/// Wolfe 1999, section 4.1). Assumes independent samples; at least one value each. Samples that are all one number give
/// p = 1. With few values no small p exists: 3 against 3 cannot fall below 0.1.
///
/// ```
/// use evoseal_regression::statistics::mann_whitney;
/// let test = mann_whitney(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0])?;
/// assert_eq!((test.u, test.exact), (16.0, true));
/// assert!((test.p_value - 2.0 / 70.0).abs() < 1e-15);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn mann_whitney(x: &[f64], y: &[f64]) -> Result<MannWhitney> {
    check_values("a Mann-Whitney test", x, 1)?;
    check_values("a Mann-Whitney test", y, 1)?;
    let u =
        x.iter().map(|old| y.iter().map(|new| f64::from(pair_score(*old, *new)) / 2.0).sum::<f64>()).sum();
    let all: Vec<f64> = x.iter().chain(y).copied().collect();
    let doubled = doubled_ranks(&all);
    let ties = tie_term(&doubled);
    if all.len() <= EXACT_COUNT_MAX {
        let p_value = if ties <= 0.0 {
            // Symmetric: the tail that is farther out is the lower one of U or of its mirror.
            let u = whole(u);
            let tail: f64 = u_counts(x.len(), y.len()).iter().take(u.min(x.len() * y.len() - u) + 1).sum();
            (2.0 * tail / choices(x.len(), y.len())).min(1.0)
        } else {
            let observed = doubled[x.len()..].iter().sum();
            tails(&subset_sums(&doubled, y.len()), observed)
        };
        return Ok(MannWhitney { u, p_value, exact: true });
    }
    Ok(MannWhitney { u, p_value: normal_p(x.len() as f64, y.len() as f64, u, ties), exact: false })
}

/// The Hodges-Lehmann estimate of the shift from `x` to `y` and its interval (Hodges and Lehmann 1963; Hollander and
/// Wolfe 1999, section 4.3).
///
/// The estimate is the median of all differences `y[j] - x[i]`; the interval runs from the k-th smallest to the k-th
/// largest of them, with k the largest for which the Mann-Whitney test without ties keeps the level. Assumes that `y` is
/// distributed as `x` shifted; ties make the interval conservative. Refused with
/// [`Error::Data`](crate::Error::Data) where so few values cannot reach the level: 3 against 3 cannot reach 0.95.
///
/// ```
/// use evoseal_regression::statistics::hodges_lehmann;
/// let x = [1.0, 2.0, 3.0, 4.0, 5.0];
/// let (shift, interval) = hodges_lehmann(&x, &x.map(|value| value + 10.0), 0.95)?;
/// assert_eq!(shift, 10.0);
/// assert!(interval.low > 6.0 && interval.high < 14.0);
/// assert!(hodges_lehmann(&x[..3], &x[..3], 0.95).is_err());
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn hodges_lehmann(x: &[f64], y: &[f64], level: f64) -> Result<(f64, Interval)> {
    const WHAT: &str = "a Hodges-Lehmann interval";
    check_values(WHAT, x, 1)?;
    check_values(WHAT, y, 1)?;
    check_level(level)?;
    let Some(cut) = interval_cut(x.len(), y.len(), 1.0 - level) else {
        let found = format!("{} and {} values", x.len(), y.len());
        return Err(Error::Data { what: WHAT, needed: "enough values for its level", found });
    };
    let mut differences: Vec<f64> = x.iter().flat_map(|old| y.iter().map(move |new| new - old)).collect();
    check_values(WHAT, &differences, 1)?;
    let (shift, low, high) = middle_and_ends(&mut differences, cut);
    Ok((shift, Interval { low, high, level }))
}

/// The median of `values`, and those at the places `cut` from either end, without sorting the rest.
pub(crate) fn middle_and_ends(values: &mut [f64], cut: usize) -> (f64, f64, f64) {
    let last = values.len() - 1;
    let (below, middle, above) = values.select_nth_unstable_by(last / 2, f64::total_cmp);
    let middle = *middle;
    let centre = if last.is_multiple_of(2) {
        middle
    } else {
        f64::midpoint(middle, above.iter().copied().fold(f64::INFINITY, f64::min))
    };
    // `cut` lies in the lower half, and its mirror in the upper.
    let low = if cut < below.len() { *below.select_nth_unstable_by(cut, f64::total_cmp).1 } else { middle };
    let from_above = last - cut - last / 2;
    let high = if from_above == 0 {
        middle
    } else {
        *above.select_nth_unstable_by(from_above - 1, f64::total_cmp).1
    };
    (centre, low, high)
}

/// 2 for a pair that rises, 1 for a tie, 0 for a pair that falls.
fn pair_score(old: f64, new: f64) -> u8 {
    u8::from(new > old) + u8::from(new >= old)
}

/// Without ties U is a whole number.
fn whole(u: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= u <= nx ny")]
    let whole = u as usize;
    whole
}

/// Twice the smaller tail from `observed` on, of a number that takes each value so often; at most 1.
fn tails(counts: &[f64], observed: usize) -> f64 {
    let total: f64 = counts.iter().sum();
    let lower: f64 = counts[..=observed].iter().sum();
    let upper: f64 = counts[observed..].iter().sum();
    (2.0 * lower.min(upper) / total).min(1.0)
}

/// How many choices of `chosen` numbers have each sum. Counts stay below C(50, 25) = 1.3e14, so floats hold them exactly.
fn subset_sums(numbers: &[usize], chosen: usize) -> Vec<f64> {
    let sum_max: usize = numbers.iter().sum();
    let mut counts = vec![vec![0.0; sum_max + 1]; chosen + 1];
    counts[0][0] = 1.0;
    for (used, number) in numbers.iter().enumerate() {
        for size in (1..=chosen.min(used + 1)).rev() {
            let (smaller, larger) = counts.split_at_mut(size);
            for sum in *number..=sum_max {
                larger[0][sum] += smaller[size - 1][sum - number];
            }
        }
    }
    counts.swap_remove(chosen)
}

/// The zero-based place among the sorted differences at which the interval begins; `None` if no place keeps `alpha`.
fn interval_cut(nx: usize, ny: usize, alpha: f64) -> Option<usize> {
    if nx + ny > EXACT_COUNT_MAX {
        let (nx, ny) = (nx as f64, ny as f64);
        let spread = (nx * ny * (nx + ny + 1.0) / 12.0).sqrt();
        let cut = (nx * ny / 2.0 - normal_quantile(1.0 - alpha / 2.0) * spread).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 <= cut <= nx ny / 2"
        )]
        return (cut >= 1.0).then(|| cut as usize - 1);
    }
    // The interval from the k-th smallest to the k-th largest difference misses with probability 2 P(U <= k - 1).
    let question = ((nx as u64) << 32 | ny as u64, alpha.to_bits());
    remembered(&CUTS, question, || largest_within(&u_counts(nx, ny), choices(nx, ny), alpha))
}

thread_local! {
    static CUTS: RefCell<Memo<Option<usize>>> = const { RefCell::new(Memo::new()) };
}

/// In how many ways `ny` of `nx + ny` can be chosen.
fn choices(nx: usize, ny: usize) -> f64 {
    // Each quotient is a whole number.
    (1..=ny).fold(1.0, |ways, i| ways * (nx + i) as f64 / i as f64)
}

/// The largest u for which `2 P(U <= u) <= alpha`, for a U whose values from zero on are taken so often out of `total`;
/// `None` if there is none.
pub(crate) fn largest_within(counts: &[f64], total: f64, alpha: f64) -> Option<usize> {
    // A hair of slack, for the level is computed as one minus alpha.
    let allowed = alpha / 2.0 * (1.0 + 1e-12) * total;
    let mut tail = 0.0;
    let within = counts.iter().take_while(|count| {
        tail += **count;
        tail <= allowed
    });
    within.count().checked_sub(1)
}

/// How often U takes each value of its lower half, 0 to `nx ny / 2`, among all choices of `ny` ranks out of `nx + ny` without ties: the coefficients of the
/// Gaussian binomial, the product of `(1 - q^(nx + i)) / (1 - q^i)` over i = 1 to ny (Mann and Whitney 1947, David et al.
/// 1966). Multiplying and dividing in place costs two passes a factor; every number on the way is whole and below
/// C(50, 25) = 1.3e14 in size, so that floats hold it exactly.
fn u_counts(nx: usize, ny: usize) -> Vec<f64> {
    let (small, large) = (nx.min(ny), nx.max(ny));
    let mut counts = vec![0.0; nx * ny / 2 + 1];
    counts[0] = 1.0;
    for i in 1..=small {
        for u in (large + i..counts.len()).rev() {
            counts[u] -= counts[u - large - i];
        }
        for u in i..counts.len() {
            counts[u] += counts[u - i];
        }
    }
    counts
}

/// The normal approximation with tie and continuity correction.
fn normal_p(nx: f64, ny: f64, u: f64, ties: f64) -> f64 {
    let n = nx + ny;
    let spread = (nx * ny / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)))).sqrt();
    let distance = ((u - nx * ny / 2.0).abs() - 0.5).max(0.0);
    if spread <= 0.0 {
        return 1.0;
    }
    (2.0 * normal_tail(distance / spread)).min(1.0)
}
