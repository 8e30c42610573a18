//! Whether a series rises or falls at all.

use super::check_values;
use super::mid_ranks::doubled_ranks;
use super::normal::normal_outside;
use super::theil_sen::{theil_sen, variance_of_s};
use crate::Result;

/// How many products the autocorrelations may take: all lags up to 4 096 values, fewer for longer series.
const PRODUCTS_MAX: usize = 1 << 24;
/// The 0.975 quantile of the standard normal distribution.
const NORMAL_95: f64 = 1.959_963_984_540_054;

/// The outcome of a Mann-Kendall test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannKendall {
    /// How many more pairs rise than fall.
    pub s: f64,
    /// `S` over the number of pairs: Kendall's tau without correction for ties, -1 to 1.
    pub tau: f64,
    /// By which factor autocorrelation changes the variance of `S`; 1 where it is not corrected.
    pub correction: f64,
    /// The standard normal statistic with continuity correction.
    pub z: f64,
    /// Two-sided, of the hypothesis that there is no trend.
    pub p_value: f64,
}

/// The Mann-Kendall test for a monotonic trend (Mann 1945, Kendall 1975), corrected for autocorrelation after Hamed and Rao
/// (1998, *Journal of Hydrology* 204), as `pymannkendall.hamed_rao_modification_test`.
///
/// `S = sum over pairs sign(y[j] - y[i])`, normal for ten values or more, with variance
/// `(n (n - 1) (2n + 5) - sum over ties t (t - 1) (2t + 5)) / 18` times
/// `1 + 2 / (n (n - 1) (n - 2)) sum over lags (n - k) (n - k - 1) (n - k - 2) r(k)`, where `r` are those autocorrelations of the ranks, after
/// the Theil-Sen line is taken away, that lie outside `±1.96 / sqrt n`. Where that factor is not positive (which happens
/// for short alternating series) it is not used. At least four values; a constant series has no trend, p = 1.
///
/// ```
/// use evoseal_regression::statistics::mann_kendall;
/// let rising = mann_kendall(&[1.0, 2.0, 2.5, 4.0, 4.5, 6.0, 7.5, 8.0, 9.0, 10.0])?;
/// assert_eq!(rising.s, 45.0);
/// assert!(rising.p_value < 0.001);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn mann_kendall(values: &[f64]) -> Result<MannKendall> {
    check_values("a Mann-Kendall test", values, 4)?;
    let n = values.len() as f64;
    let pairs = n * (n - 1.0) / 2.0;
    let plain = variance_of_s(values);
    if plain <= 0.0 {
        return Ok(MannKendall { s: 0.0, tau: 0.0, correction: 1.0, z: 0.0, p_value: 1.0 });
    }
    let s = kendall_s(values);
    let slope = theil_sen(values, 0.95)?.slope;
    let detrended: Vec<f64> =
        values.iter().enumerate().map(|(index, value)| value - slope * (index + 1) as f64).collect();
    let factor = hamed_rao(&doubled_ranks(&detrended));
    let correction = if factor > 0.0 { factor } else { 1.0 };
    let deviation = (plain * correction).sqrt();
    let z = if s.abs() < 1.0 { 0.0 } else { (s - s.signum()) / deviation };
    Ok(MannKendall { s, tau: s / pairs, correction, z, p_value: normal_outside(z) })
}

/// Rising pairs less falling ones, by a Fenwick tree over the ranks: `O(n log n)`.
fn kendall_s(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.dedup_by(|a, b| *a <= *b);
    let mut tree = vec![0_usize; sorted.len() + 1];
    let before = |tree: &[usize], mut node: usize| {
        let mut count = 0;
        while node > 0 {
            count += tree[node];
            node &= node - 1;
        }
        count
    };
    let (mut rising, mut falling) = (0_usize, 0_usize);
    for (seen, value) in values.iter().enumerate() {
        let rank = sorted.partition_point(|other| other < value) + 1;
        rising += before(&tree, rank - 1);
        falling += seen - before(&tree, rank);
        let mut node = rank;
        while node < tree.len() {
            tree[node] += 1;
            node += node & node.wrapping_neg();
        }
    }
    rising as f64 - falling as f64
}

/// The factor of Hamed and Rao for the doubled ranks of a series without its trend.
fn hamed_rao(doubled: &[usize]) -> f64 {
    let n = doubled.len();
    let mean = (n + 1) as f64 / 2.0;
    let centred: Vec<f64> = doubled.iter().map(|rank| *rank as f64 / 2.0 - mean).collect();
    let square: f64 = centred.iter().map(|value| value * value).sum();
    if square <= 0.0 {
        return 1.0;
    }
    let bound = NORMAL_95 / (n as f64).sqrt();
    let lags = (n - 1).min(PRODUCTS_MAX / n);
    let mut sum = 0.0;
    for lag in 1..=lags {
        let products: f64 = centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum();
        let correlation = products / square;
        if correlation.abs() > bound {
            let left = (n - lag) as f64;
            sum += left * (left - 1.0) * (left - 2.0) * correlation;
        }
    }
    let n = n as f64;
    1.0 + 2.0 / (n * (n - 1.0) * (n - 2.0)) * sum
}
