//! The classical tests that the detector is measured beside.

use evoseal_types::MetricSamples;

use crate::statistics::{
    Resampling, TTest, mann_whitney, paired_t_test, permutation_test, sign_flip_test, welch_test,
    wilcoxon_signed_rank,
};
use crate::{Measurements, Result};

/// Up to so many values a side permutations are all looked at; with more they agree with the t test within simulation error.
const PERMUTED_COUNT_MAX: usize = 7;

/// A test's name, and one minus its p-value of "no harm" (one-sided) in one trial.
pub(super) type Score = (&'static str, f64);

/// The evidence of each classical test, over the means of the process starts.
pub(super) fn scores(measurements: &Measurements) -> Result<Vec<Score>> {
    let sign = measurements.candidate[0].spec.direction.harm_sign();
    let (old, new) = (values(&measurements.incumbent[0], sign), values(&measurements.candidate[0], sign));
    let permuted = old.len() <= PERMUTED_COUNT_MAX;
    let mut scores = Vec::with_capacity(3);
    let t = |test: Result<TTest>| test.map_or(0.0, |test| one_sided(test.statistic, test.p_value));
    if measurements.paired {
        let differences: Vec<f64> = old.iter().zip(&new).map(|(old, new)| new - old).collect();
        scores.push(("paired t", t(paired_t_test(&old, &new))));
        let ranks = wilcoxon_signed_rank(&differences)?;
        let middle = ranks.used as f64 * (ranks.used as f64 + 1.0) / 4.0;
        scores.push(("signed ranks", one_sided(ranks.w_plus - middle, ranks.p_value)));
        if permuted {
            let test = sign_flip_test(&differences, Resampling::default())?;
            scores.push(("sign flips", one_sided(test.statistic, test.p_value)));
        }
    } else {
        // Without any scatter there is no t.
        scores.push(("Welch t", t(welch_test(&old, &new))));
        let ranks = mann_whitney(&old, &new)?;
        let middle = (old.len() * new.len()) as f64 / 2.0;
        scores.push(("U test", one_sided(ranks.u - middle, ranks.p_value)));
        if permuted {
            let test = permutation_test(&old, &new, Resampling::default())?;
            scores.push(("permutation", one_sided(test.statistic, test.p_value)));
        }
    }
    Ok(scores)
}

/// The means of the starts, turned so that harm is a rise.
fn values(samples: &MetricSamples, sign: f64) -> Vec<f64> {
    samples.by_start().iter().map(|start| sign * start.iter().sum::<f64>() / start.len() as f64).collect()
}

/// One minus the p-value for a rise.
fn one_sided(statistic: f64, two_sided: f64) -> f64 {
    if statistic > 0.0 { 1.0 - two_sided / 2.0 } else { two_sided / 2.0 }
}
