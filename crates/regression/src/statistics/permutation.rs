//! Permutation tests: the labels are dealt again, all ways or many ways.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{check_values, mean};
use crate::Result;

/// Up to so many ways to deal, each is looked at.
const EXACT_WAYS_MAX: f64 = 50_000.0;
/// Statistics that differ by less than this share of the largest are equal: sums of the same numbers in another order.
const EQUAL_WITHIN: f64 = 1e-12;

/// The outcome of a permutation test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PermutationTest {
    /// The observed statistic: the difference of means, or the mean difference.
    pub statistic: f64,
    /// Two-sided p-value: twice the smaller tail, at most 1.
    pub p_value: f64,
    /// Whether every way to deal was looked at.
    pub exact: bool,
}

/// How many random ways are looked at where there are too many, and from which seed they are drawn (ChaCha with eight
/// rounds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resampling {
    /// How many; 1 to 1 000 000.
    pub count: u32,
    /// The seed.
    pub seed: u64,
}

impl Default for Resampling {
    /// 9 999 ways: the p-value then has a standard error of 0.002 at 0.05. The seed is arbitrary and fixed.
    fn default() -> Self {
        Self { count: 9_999, seed: 0x5EA1 }
    }
}

impl Resampling {
    /// Refuses none and absurdly many.
    pub(crate) fn check(self) -> Result<Self> {
        if (1..=1_000_000).contains(&self.count) {
            return Ok(self);
        }
        Err(super::invalid("a number of resamples", format!("{} is not between 1 and 1000000", self.count)))
    }
}

/// The two-sample permutation test of the difference of means (Fisher 1935; Pitman 1937).
///
/// Under the null hypothesis that both samples come from one distribution, each way to deal the values to both sides is
/// equally likely. With at most 50 000 ways (8 against 9) all are looked at and the p-value is exact; otherwise
/// `resampling.count` random ones, and each tail is `(1 + as far) / (1 + count)` (Phipson and Smyth 2010), so that the test
/// keeps its level whatever the seed. Assumes independent samples; at least one value each.
///
/// ```
/// use evoseal_regression::statistics::{Resampling, permutation_test};
/// let test = permutation_test(&[1.0, 2.0, 3.0], &[4.0, 5.0, 9.0], Resampling::default())?;
/// assert_eq!((test.statistic, test.p_value, test.exact), (4.0, 2.0 / 20.0, true));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn permutation_test(x: &[f64], y: &[f64], resampling: Resampling) -> Result<PermutationTest> {
    check_values("a permutation test", x, 1)?;
    check_values("a permutation test", y, 1)?;
    Ok(Deals::new(x.len(), y.len(), resampling.check()?).test(x, y, mean(y)? - mean(x)?))
}

/// The sign-flip test of paired samples (Fisher 1935, section 21): under the null hypothesis that each difference is as
/// likely to be positive as negative, all signs are equally likely.
///
/// With at most 15 pairs all signs are looked at, otherwise `resampling.count` random ones, with tails as in
/// [`permutation_test`]. Assumes independent pairs; at least one.
///
/// ```
/// use evoseal_regression::statistics::{Resampling, sign_flip_test};
/// let test = sign_flip_test(&[1.0, 2.0, 3.0, 4.0], Resampling::default())?;
/// assert_eq!((test.statistic, test.p_value), (2.5, 2.0 / 16.0));
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn sign_flip_test(differences: &[f64], resampling: Resampling) -> Result<PermutationTest> {
    check_values("a sign-flip test", differences, 1)?;
    Ok(Flips::new(differences.len(), resampling.check()?).test(differences, mean(differences)?))
}

/// The ways to deal `nx + ny` values, drawn once so that every hypothesis is judged by the same ones.
#[derive(Debug)]
pub(crate) struct Deals {
    chosen: Vec<u32>,
    size: usize,
    exact: bool,
}

impl Deals {
    pub(crate) fn new(nx: usize, ny: usize, resampling: Resampling) -> Self {
        let ways = (1..=ny).fold(1.0, |ways, i| ways * (nx + i) as f64 / i as f64);
        let all = u32::try_from(nx + ny).unwrap_or(u32::MAX);
        if ways <= EXACT_WAYS_MAX {
            let mut chosen = Vec::new();
            let mut combination: Vec<u32> = (0..u32::try_from(ny).unwrap_or(u32::MAX)).collect();
            loop {
                chosen.extend_from_slice(&combination);
                if !advance(&mut combination, all) {
                    return Self { chosen, size: ny, exact: true };
                }
            }
        }
        let mut random = ChaCha8Rng::seed_from_u64(resampling.seed);
        let mut places: Vec<u32> = (0..all).collect();
        let mut chosen = Vec::with_capacity(ny * resampling.count as usize);
        for _ in 0..resampling.count {
            // The first steps of a Fisher-Yates shuffle.
            for place in 0..ny {
                let other = random.random_range(place..places.len());
                places.swap(place, other);
            }
            chosen.extend_from_slice(&places[..ny]);
        }
        Self { chosen, size: ny, exact: false }
    }

    /// The test of the pooled values; `statistic` is only reported.
    pub(crate) fn test(&self, x: &[f64], y: &[f64], statistic: f64) -> PermutationTest {
        let centre = (x.iter().sum::<f64>() + y.iter().sum::<f64>()) / (x.len() + y.len()) as f64;
        let pooled: Vec<f64> = x.iter().chain(y).map(|value| value - centre).collect();
        let observed: f64 = pooled[x.len()..].iter().sum();
        let sums = self
            .chosen
            .chunks_exact(self.size)
            .map(|chosen| chosen.iter().map(|place| pooled[*place as usize]).sum::<f64>());
        let slack = EQUAL_WITHIN * pooled.iter().map(|value| value.abs()).sum::<f64>();
        PermutationTest {
            statistic,
            p_value: two_sided(sums, observed, slack, self.exact),
            exact: self.exact,
        }
    }
}

/// The next combination in lexicographic order; `false` after the last.
fn advance(combination: &mut [u32], all: u32) -> bool {
    let size = combination.len();
    for place in (0..size).rev() {
        let last = all - u32::try_from(size - place).unwrap_or(u32::MAX);
        if combination[place] < last {
            combination[place] += 1;
            for later in place + 1..size {
                combination[later] = combination[later - 1] + 1;
            }
            return true;
        }
    }
    false
}

/// The signs of `n` differences, drawn once.
#[derive(Debug)]
pub(crate) struct Flips {
    /// One word of bits per way and 64 differences.
    masks: Vec<u64>,
    words: usize,
    exact: bool,
}

impl Flips {
    pub(crate) fn new(n: usize, resampling: Resampling) -> Self {
        if n < 64 && (1_u64 << n) as f64 <= EXACT_WAYS_MAX {
            return Self { masks: (0..1_u64 << n).collect(), words: 1, exact: true };
        }
        let words = n.div_ceil(64);
        let mut random = ChaCha8Rng::seed_from_u64(resampling.seed);
        let masks = (0..words * resampling.count as usize).map(|_| random.random()).collect();
        Self { masks, words, exact: false }
    }

    pub(crate) fn test(&self, differences: &[f64], statistic: f64) -> PermutationTest {
        let observed: f64 = differences.iter().sum();
        let sums = self.masks.chunks_exact(self.words).map(|mask| {
            let is_flipped = |index: usize| mask[index / 64] >> (index % 64) & 1 == 1;
            differences.iter().enumerate().map(|(i, value)| if is_flipped(i) { -value } else { *value }).sum()
        });
        let slack = EQUAL_WITHIN * differences.iter().map(|value| value.abs()).sum::<f64>();
        PermutationTest {
            statistic,
            p_value: two_sided(sums, observed, slack, self.exact),
            exact: self.exact,
        }
    }
}

/// Twice the smaller tail; the observed way is one of all, and is added to random ones.
fn two_sided(sums: impl Iterator<Item = f64>, observed: f64, slack: f64, exact: bool) -> f64 {
    let (mut lower, mut upper, mut count) = if exact { (0_u64, 0_u64, 0_u64) } else { (1, 1, 1) };
    for sum in sums {
        lower += u64::from(sum <= observed + slack);
        upper += u64::from(sum >= observed - slack);
        count += 1;
    }
    (2.0 * lower.min(upper) as f64 / count as f64).min(1.0)
}
