//! The bootstrap: how a statistic scatters, from the sample itself.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::normal::{normal_quantile, normal_tail};
use super::permutation::Resampling;
use super::{check_level, check_values, percentile_of_sorted};
use crate::{Error, Interval, Result};

/// The bias-corrected and accelerated interval (Efron 1987; DiCiccio and Efron 1996, section 6) of a statistic of one or
/// more independent samples.
///
/// Each sample is drawn again with replacement `resampling.count` times. With `z0` the normal quantile of the share of
/// replicates below the estimate (equal ones count half) and `a` the acceleration
/// `sum U^3 / n^3 / 6 / (sum U^2 / n^2)^1.5`, summed over samples, where the `U` are the jackknife influences
/// `(n - 1) (mean - leave-one-out)`, the ends are the replicates' percentiles at
/// `Phi(z0 + (z0 + z) / (1 - a (z0 + z)))` for the normal quantiles `z` of both tails.
///
/// Assumes independent values and a statistic that is smooth in them: few values (below about ten) and quantiles make the
/// interval too narrow. Two values a sample at least; a statistic that does not scatter gives an interval of no width. A
/// statistic that is no number for the sample itself or for a replicate is refused.
///
/// ```
/// use evoseal_regression::statistics::{Resampling, bca_interval, median};
/// let values = [3.1, 2.9, 3.4, 3.0, 3.3, 2.8, 3.6, 3.2, 3.1, 9.9];
/// let centre = |samples: &[&[f64]]| median(samples[0]).unwrap_or(f64::NAN);
/// let (estimate, interval) = bca_interval(&[&values], centre, 0.95, Resampling::default())?;
/// assert!(interval.low >= 2.9 && (estimate - 3.15).abs() < 1e-9 && interval.high <= 3.6);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn bca_interval(
    samples: &[&[f64]],
    statistic: impl Fn(&[&[f64]]) -> f64,
    level: f64,
    resampling: Resampling,
) -> Result<(f64, Interval)> {
    for sample in samples {
        check_values(WHAT, sample, 2)?;
    }
    check_level(level)?;
    let resampling = resampling.check()?;
    let estimate = finite(statistic(samples))?;
    let mut random = ChaCha8Rng::seed_from_u64(resampling.seed);
    let mut drawn: Vec<Vec<f64>> = samples.iter().map(|sample| sample.to_vec()).collect();
    let mut replicates = Vec::with_capacity(resampling.count as usize);
    for _ in 0..resampling.count {
        for (drawn, sample) in drawn.iter_mut().zip(samples) {
            for value in drawn.iter_mut() {
                *value = sample[random.random_range(0..sample.len())];
            }
        }
        let views: Vec<&[f64]> = drawn.iter().map(Vec::as_slice).collect();
        replicates.push(finite(statistic(&views))?);
    }
    let influences = jackknife(samples, &statistic)?;
    Ok((estimate, bca_ends(estimate, replicates, &influences, level)))
}

const WHAT: &str = "a bootstrap interval";

/// The BCa interval from replicates and each sample's leave-one-out statistics.
pub(crate) fn bca_ends(
    estimate: f64,
    mut replicates: Vec<f64>,
    leave_one_out: &[Vec<f64>],
    level: f64,
) -> Interval {
    replicates.sort_by(f64::total_cmp);
    let below = replicates.iter().filter(|replicate| **replicate < estimate).count() as f64;
    let not_above = replicates.iter().filter(|replicate| **replicate <= estimate).count() as f64;
    let share = f64::midpoint(below, not_above) / replicates.len() as f64;
    // All replicates on one side: the nearest share that one more replicate on the other could have given.
    let least = 0.5 / (replicates.len() as f64 + 1.0);
    let bias = normal_quantile(share.clamp(least, 1.0 - least));
    let (mut cubes, mut squares) = (0.0, 0.0);
    for left_out in leave_one_out {
        let n = left_out.len() as f64;
        let mean = left_out.iter().sum::<f64>() / n;
        let influence = |value: &f64| (n - 1.0) * (mean - value);
        cubes += left_out.iter().map(|value| influence(value).powi(3)).sum::<f64>() / n.powi(3);
        squares += left_out.iter().map(|value| influence(value).powi(2)).sum::<f64>() / n.powi(2);
    }
    let acceleration = if squares > 0.0 { cubes / 6.0 / squares.powf(1.5) } else { 0.0 };
    let end = |probability: f64| {
        let z = bias + normal_quantile(probability);
        let place = normal_tail(-(bias + z / (1.0 - acceleration * z)));
        percentile_of_sorted(&replicates, 100.0 * place)
    };
    let tail = (1.0 - level) / 2.0;
    Interval { low: end(tail), high: end(1.0 - tail), level }
}

/// For each sample the statistic without each of its values.
fn jackknife(samples: &[&[f64]], statistic: &impl Fn(&[&[f64]]) -> f64) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::with_capacity(samples.len());
    for (which, sample) in samples.iter().enumerate() {
        let mut left_out = Vec::with_capacity(sample.len());
        for leave in 0..sample.len() {
            let rest: Vec<f64> = [&sample[..leave], &sample[leave + 1..]].concat();
            let mut views = samples.to_vec();
            views[which] = &rest;
            left_out.push(finite(statistic(&views))?);
        }
        all.push(left_out);
    }
    Ok(all)
}

fn finite(value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::Data {
        what: WHAT,
        needed: "a statistic that is a number for every resample",
        found: value.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::bca_ends;

    fn floats(value: &Value) -> Vec<f64> {
        value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
    }

    /// SciPy's own replicates and its interval of them, one and two samples.
    #[test]
    fn the_ends_agree_with_scipy_for_the_same_replicates() {
        let text = include_str!("../../tests/fixtures/comparisons.json");
        let fixtures: Value = serde_json::from_str(text).expect("JSON");
        for case in fixtures["bootstraps"].as_array().expect("a list") {
            let estimate = case["estimate"].as_f64().expect("a number");
            let jackknife: Vec<_> =
                case["jackknife"].as_array().expect("a list").iter().map(floats).collect();
            let interval = bca_ends(estimate, floats(&case["replicates"]), &jackknife, 0.9);
            let expected = floats(&case["interval"]);
            assert!((interval.low - expected[0]).abs() < 1e-9, "{interval:?} is not {expected:?}");
            assert!((interval.high - expected[1]).abs() < 1e-9, "{interval:?} is not {expected:?}");
        }
    }
}
