//! The slope that half of all pairs exceed.

use super::{check_level, check_values, is_constant, median, normal_limit, power_of_two_below};
use crate::{Interval, Result};

/// Up to how many values all pairs are listed; above, slopes are counted without listing them.
const LISTED_MAX: usize = 1024;
/// Up to how many values the slope is that of all pairs; longer series are averaged in blocks first.
const EXACT_MAX: usize = 16_384;

/// A robust line through a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TheilSen {
    /// The median slope of all pairs, per step.
    pub slope: f64,
    /// Where the line crosses index 0: `median y - slope median i`.
    pub intercept: f64,
    /// The interval of the slope.
    pub interval: Interval,
    /// How many neighbouring values were averaged first: 1 up to 16 384 values.
    pub block: usize,
}

/// The median of the slopes `(y[j] - y[i]) / (j - i)` of all pairs (Theil 1950, Sen 1968), with Sen's interval, as
/// `scipy.stats.theilslopes`.
///
/// With `N` slopes the interval's ends are those of ranks `(N - z s) / 2` and `(N + z s) / 2 + 1`, rounded, where
/// `s² = (n (n - 1) (2n + 5) - sum over ties t (t - 1) (2t + 5)) / 18`. Robust: 29 % of the values may be anything. Assumes independent errors of
/// one distribution around a line; where values depend on their predecessors the interval is too narrow. At least three
/// values. Slopes are not listed above 1 024 values: how many lie below a number is how many pairs of
/// `y[i] - number i` stand in the wrong order, in `O(n log n)`, and the wanted rank is found by bisection over the floats.
/// Beyond 16 384 values, blocks of equal length are averaged first, which bounds the work.
///
/// ```
/// use evoseal_regression::statistics::theil_sen;
/// let line = theil_sen(&[0.0, 2.0, 4.0, 600.0, 8.0, 10.0, 12.0], 0.95)?;
/// assert_eq!(line.slope, 2.0);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn theil_sen(values: &[f64], level: f64) -> Result<TheilSen> {
    check_values("a Theil-Sen slope", values, 3)?;
    check_level(level)?;
    if is_constant(values) {
        let interval = Interval { low: 0.0, high: 0.0, level };
        return Ok(TheilSen { slope: 0.0, intercept: values[0], interval, block: 1 });
    }
    let widest = values.iter().fold(0.0_f64, |widest, value| widest.max(value.abs()));
    let scale = power_of_two_below(widest);
    let block = values.len().div_ceil(EXACT_MAX);
    let y: Vec<f64> = values
        .chunks_exact(block)
        .map(|part| part.iter().map(|value| value / scale).sum::<f64>() / block as f64)
        .collect();
    let mut slopes = Slopes::of(&y);
    let count = slopes.count();
    let z = normal_limit(1.0 - level);
    let spread = z * variance_of_s(&y).sqrt();
    let (low, high) = ((count as f64 - spread) / 2.0, f64::midpoint(count as f64, spread));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the ranks there are"
    )]
    let rank = |place: f64| place.clamp(0.0, (count - 1) as f64) as usize;
    let (low, high) = (rank(low.round_ties_even() - 1.0), rank(high.round_ties_even()));
    let middle = f64::midpoint(slopes.ranked((count - 1) / 2), slopes.ranked(count / 2));
    let per_step = |slope: f64| (slope / block as f64 * scale).clamp(f64::MIN, f64::MAX);
    let slope = per_step(middle);
    let interval = Interval { low: per_step(slopes.ranked(low)), high: per_step(slopes.ranked(high)), level };
    let intercept = median(values)? - slope * (values.len() - 1) as f64 / 2.0;
    Ok(TheilSen { slope, intercept: intercept.clamp(f64::MIN, f64::MAX), interval, block })
}

/// The variance of Kendall's `S` without a trend: `(n (n - 1) (2n + 5) - sum over ties t (t - 1) (2t + 5)) / 18`.
pub(super) fn variance_of_s(values: &[f64]) -> f64 {
    let term = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Zeros of both signs are one number.
    let ties: f64 = sorted.chunk_by(|a, b| a >= b).map(|group| term(group.len() as f64)).sum();
    (term(values.len() as f64) - ties) / 18.0
}

/// All slopes of a series, listed or not.
enum Slopes<'a> {
    Listed(Vec<f64>),
    Counted(&'a [f64]),
}

impl<'a> Slopes<'a> {
    fn of(y: &'a [f64]) -> Self {
        if y.len() > LISTED_MAX {
            return Self::Counted(y);
        }
        let mut slopes = Vec::with_capacity(y.len() * (y.len() - 1) / 2);
        for later in 1..y.len() {
            let value = y[later];
            slopes.extend(
                y[..later].iter().enumerate().map(|(earlier, y)| (value - y) / (later - earlier) as f64),
            );
        }
        Self::Listed(slopes)
    }

    fn count(&self) -> usize {
        match self {
            Self::Listed(slopes) => slopes.len(),
            Self::Counted(y) => y.len() * (y.len() - 1) / 2,
        }
    }

    /// The slope with so many smaller ones, within a few units in the last place.
    fn ranked(&mut self, rank: usize) -> f64 {
        let y = match self {
            Self::Listed(slopes) => return *slopes.select_nth_unstable_by(rank, f64::total_cmp).1,
            Self::Counted(y) => *y,
        };
        let mut room = (Vec::with_capacity(y.len()), vec![0.0; y.len()]);
        // No slope is larger than the largest step between neighbours.
        let steepest = y.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f64::max);
        // The smallest float at or below which more than `rank` slopes lie, by bisection over the ordered bits.
        let (mut below, mut at) = (ordered(-steepest) - 1, ordered(steepest));
        while below + 1 < at {
            let middle = below.midpoint(at);
            if count_up_to(y, from_ordered(middle), &mut room) > rank { at = middle } else { below = middle }
        }
        from_ordered(at)
    }
}

/// How many slopes are at most `slope`: pairs whose later value lies at or below the line through the earlier one.
fn count_up_to(y: &[f64], slope: f64, room: &mut (Vec<f64>, Vec<f64>)) -> usize {
    let (values, spare) = room;
    values.clear();
    values.extend(y.iter().enumerate().map(|(index, value)| value - slope * index as f64));
    inversions(values, spare)
}

/// How many pairs are out of order or equal, by merge sort; sorts the values.
fn inversions(values: &mut [f64], spare: &mut [f64]) -> usize {
    let n = values.len();
    if n <= 1 {
        return 0;
    }
    if n <= 16 {
        let mut count = 0;
        for later in 1..n {
            let value = values[later];
            let mut place = later;
            while place > 0 && values[place - 1] >= value {
                values[place] = values[place - 1];
                place -= 1;
            }
            values[place] = value;
            count += later - place;
        }
        return count;
    }
    let (left, right) = values.split_at_mut(n / 2);
    let (spare_left, spare_right) = spare.split_at_mut(n / 2);
    let mut count = inversions(left, spare_left) + inversions(right, spare_right);
    let (mut i, mut j) = (0, 0);
    for place in spare.iter_mut() {
        if j == right.len() || (i < left.len() && left[i] < right[j]) {
            *place = left[i];
            i += 1;
        } else {
            // All that is left on the left is at least as large.
            *place = right[j];
            j += 1;
            count += left.len() - i;
        }
    }
    values.copy_from_slice(spare);
    count
}

/// The floats in their order as integers.
fn ordered(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits }
}

fn from_ordered(order: i64) -> f64 {
    let bits = if order < 0 { i64::MIN.wrapping_sub(order) } else { order };
    f64::from_bits(bits.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_finds_the_same_ranks_as_listing() {
        let mut state = 11_u64;
        let y: Vec<f64> = (0..120)
            .map(|index| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                f64::from((state >> 58) as u32) + 0.3 * f64::from(index)
            })
            .collect();
        let (mut listed, mut counted) = (Slopes::of(&y), Slopes::Counted(&y));
        for rank in [0, 1, 100, 3570, 7000, listed.count() - 1] {
            let (a, b) = (listed.ranked(rank), counted.ranked(rank));
            assert!((a - b).abs() < 1e-12 * a.abs().max(1.0), "rank {rank}: {a} {b}");
        }
    }

    #[test]
    fn the_order_of_floats_is_that_of_their_integers() {
        let values = [f64::MIN, -1.0, -f64::MIN_POSITIVE, -0.0, 0.0, 5e-324, 1.0, f64::MAX];
        for pair in values.windows(2) {
            assert!(ordered(pair[0]) <= ordered(pair[1]), "{pair:?}");
            assert!((from_ordered(ordered(pair[1])) - pair[1]).abs() <= 0.0, "{pair:?}");
        }
    }

    #[test]
    fn a_long_series_is_averaged_in_blocks() {
        let values: Vec<f64> = (0..40_000).map(|index| 3.0 + 0.25 * f64::from(index)).collect();
        let line = theil_sen(&values, 0.95).unwrap();
        assert_eq!(line.block, 3);
        assert!((line.slope - 0.25).abs() < 1e-9 && (line.intercept - 3.0).abs() < 1e-5, "{line:?}");
    }
}
