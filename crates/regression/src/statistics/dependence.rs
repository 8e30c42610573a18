//! How far values depend on each other: within process starts, and on their predecessors.

use serde::{Deserialize, Serialize};

use super::{check_values, mean};
use crate::{Error, Result};

/// Where the scatter of samples that come in process starts arises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VarianceComponents {
    /// Variance of the starts' true means around their common mean; zero where the means scatter no more than iterations
    /// alone make them.
    pub between: f64,
    /// Variance of iterations around their start's mean.
    pub within: f64,
    /// `between / (between + within)`, the correlation of two iterations of one start; zero without any scatter.
    pub intraclass_correlation: f64,
}

/// The variance components of the one-way random effects model by analysis of variance (Searle, Casella and McCulloch 1992,
/// section 3.6; unequal numbers of iterations allowed).
///
/// With `a` starts of `n_i` iterations, N in all: `within = MSE`, and `between = (MSA - MSE) / n0`, at least zero, with
/// `n0 = (N - sum n_i^2 / N) / (a - 1)`. At least two starts, and one of them with two iterations.
///
/// ```
/// use evoseal_regression::statistics::variance_components;
/// let starts = [vec![10.0, 10.2, 9.8], vec![12.0, 12.1, 11.9], vec![8.0, 8.1, 7.9]];
/// let components = variance_components(&starts)?;
/// assert!(components.between > 3.5 && components.within < 0.1);
/// assert!(components.intraclass_correlation > 0.98);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn variance_components<S: AsRef<[f64]>>(starts: &[S]) -> Result<VarianceComponents> {
    const WHAT: &str = "the variance between process starts";
    let count = starts.len() as f64;
    let total: usize = starts.iter().map(|start| start.as_ref().len()).sum();
    if starts.len() < 2 || total <= starts.len() {
        let found = format!("{} starts with {total} iterations", starts.len());
        return Err(Error::Data {
            what: WHAT,
            needed: "two starts, and two iterations in one of them",
            found,
        });
    }
    let (mut errors, mut sum, mut squares) = (0.0, 0.0, 0.0);
    let mut means = Vec::with_capacity(starts.len());
    for start in starts {
        let values = start.as_ref();
        check_values(WHAT, values, 1)?;
        let centre = mean(values)?;
        errors += values.iter().map(|value| (value - centre).powi(2)).sum::<f64>();
        sum += centre * values.len() as f64;
        squares += (values.len() as f64).powi(2);
        means.push((centre, values.len() as f64));
    }
    let total = total as f64;
    let grand = sum / total;
    let among = means.iter().map(|(centre, n)| n * (centre - grand).powi(2)).sum::<f64>() / (count - 1.0);
    let within = errors / (total - count);
    let size = (total - squares / total) / (count - 1.0);
    let between = ((among - within) / size).max(0.0);
    let all = between + within;
    let intraclass_correlation = if all > 0.0 { between / all } else { 0.0 };
    Ok(VarianceComponents { between, within, intraclass_correlation })
}

/// The autocorrelation of `values` at lag 1: `sum (x[i] - m) (x[i + 1] - m) / sum (x[i] - m)^2` (Box and Jenkins 1976,
/// equation 2.1.11). At least three values; zero where they are all equal.
///
/// ```
/// use evoseal_regression::statistics::lag_one_autocorrelation;
/// assert!((lag_one_autocorrelation(&[1.0, 2.0, 3.0, 4.0])? - 0.25).abs() < 1e-12);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn lag_one_autocorrelation(values: &[f64]) -> Result<f64> {
    check_values("an autocorrelation", values, 3)?;
    let (products, squares) = lag_one_sums(values, mean(values)?);
    Ok(if squares > 0.0 { products / squares } else { 0.0 })
}

/// The sums of products of neighbours and of squares around `centre`.
fn lag_one_sums(values: &[f64], centre: f64) -> (f64, f64) {
    let products = values.windows(2).map(|pair| (pair[0] - centre) * (pair[1] - centre)).sum();
    (products, values.iter().map(|value| (value - centre).powi(2)).sum())
}

/// How many independent values would have a mean as certain as that of these, which depend on their predecessors.
///
/// Takes a first-order autoregression: with `phi` the lag-1 autocorrelation, freed of its bias by
/// `(r + 1 / n) / (1 - 4 / n)` (after Marriott and Pope 1954), kept within 0 to 0.99, it is `n / V` with
/// `V = (1 + phi) / (1 - phi) - 2 phi (1 - phi^n) / (n (1 - phi)^2)` (Bayley and Hammersley 1946). Negative
/// autocorrelation counts as none. At least five values.
///
/// ```
/// use evoseal_regression::statistics::effective_sample_size;
/// let wandering = [1.0, 1.1, 1.3, 1.2, 1.4, 1.6, 1.7, 1.6, 1.8, 1.9];
/// assert!(effective_sample_size(&wandering)? < 3.0);
/// assert_eq!(effective_sample_size(&[1.0, 3.0, 1.2, 2.9, 1.1, 3.1])?, 6.0);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn effective_sample_size(values: &[f64]) -> Result<f64> {
    if values.len() < 5 {
        let found = format!("{} values", values.len());
        return Err(Error::Data { what: "an effective sample size", needed: "five values", found });
    }
    let n = values.len() as f64;
    Ok(n / mean_inflation(unbiased(lag_one_autocorrelation(values)?, n), n))
}

/// The lag-1 autocorrelation freed of its bias, from 0 to 0.99.
fn unbiased(r: f64, n: f64) -> f64 {
    ((r + 1.0 / n) / (1.0 - 4.0 / n)).clamp(0.0, 0.99)
}

/// By what the variance of a mean of `n` values of a first-order autoregression exceeds that of independent values.
fn mean_inflation(phi: f64, n: f64) -> f64 {
    (1.0 + phi) / (1.0 - phi) - 2.0 * phi * (1.0 - phi.powf(n)) / (n * (1.0 - phi).powi(2))
}

/// What dependence on predecessors does to two means that were computed as if there were none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dependence {
    /// By what the squared standard errors have to be multiplied.
    pub(crate) error_factor: f64,
    /// By what the degrees of freedom have to be multiplied.
    pub(crate) freedom_factor: f64,
}

/// Fewer values than this show no dependence that one could tell from chance.
const DEPENDENCE_COUNT_MIN: usize = 8;
/// One in two hundred lists without dependence is taken for one with it, which costs power and never a false alarm.
const DEPENDENCE_Z: f64 = 2.576;

/// Whether values depend on their predecessors beyond chance, judged over all `series` together, and what follows.
///
/// The pooled autocorrelation `r` is compared with its distribution without dependence: mean `-1 / n` and variance
/// `(n - 2)^2 / (n^2 (n - 1))` for each series (Moran 1948).
pub(crate) fn dependence(series: &[&[f64]]) -> Option<Dependence> {
    if series.iter().any(|values| values.len() < DEPENDENCE_COUNT_MIN) {
        return None;
    }
    let (mut products, mut squares, mut count) = (0.0, 0.0, 0.0);
    for values in series {
        let centre = values.iter().sum::<f64>() / values.len() as f64;
        let (product, square) = lag_one_sums(values, centre);
        // Each side by its own scale: the louder must not hide the other.
        if square > 0.0 && square.is_finite() {
            products += product / square * values.len() as f64;
            squares += values.len() as f64;
        }
        count += values.len() as f64;
    }
    if squares <= 0.0 {
        return None;
    }
    let (r, n) = (products / squares, count / series.len() as f64);
    let spread = (n - 2.0) / (n * (n - 1.0).sqrt()) / (series.len() as f64).sqrt();
    if (r + 1.0 / n) / spread <= DEPENDENCE_Z {
        return None;
    }
    let inflation = mean_inflation(unbiased(r, n), n);
    // The variance within a list underestimates by the share that the wandering mean takes with it.
    let shrunk = (1.0 - (inflation - 1.0) / (n - 1.0)).max(0.1);
    let freedom_factor = ((n / inflation - 1.0) / (n - 1.0)).clamp(0.0, 1.0);
    Some(Dependence { error_factor: inflation / shrunk, freedom_factor })
}
