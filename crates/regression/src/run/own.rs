//! The decision where no fresh samples can be had.

use statrs::distribution::{ContinuousCDF, Gamma, Normal, StudentsT};

use super::RunMetric;
use super::metric::{Components, MetricState};
use crate::drift::Moments;
use crate::statistics::{invalid, welch_test};
use crate::{Interval, Result, SampleKind, SequentialRule, SequentialTest};

/// The level at which the iteration's own samples must show the harm by themselves.
const BY_ITSELF: f64 = 0.02;

/// From how many standard deviations on a value counts as this far and no farther.
const CLAMP: f64 = 2.5;

/// What the samples of one iteration say about one metric, with what earlier iterations say about its noise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnEvidence {
    /// The one-sided p-value of "the harm is at most the threshold".
    pub(crate) p_value: f64,
    /// The relative change against the estimated level of the incumbent.
    pub(crate) change: f64,
    /// Its interval, where a normal one makes sense.
    pub(crate) interval: Option<Interval>,
    /// How many of the candidate's samples.
    pub(crate) samples: usize,
}

/// Judges a metric on the samples of this iteration.
///
/// So far out in the tail as the levels of a run are, no mean of ten values is normal by itself. So values beyond 2.5 standard
/// deviations are moved there (Winsor's mean, Tukey 1962), and the skew that remains is counted.
///
/// The level of the incumbent is estimated from its samples of this iteration and from those of earlier ones, weighted by their
/// precision: with the variance `v` within iterations and `b` between them (analysis of variance, one way), the N reference
/// samples have the variance `b + v / N`, the n fresh ones `v / n`. The distance of the candidate's mean from it, what is tolerated
/// taken off, over its standard error is compared with the gamma distribution of the same skew (Pearson's type III) and
/// brought to Student's t with the degrees of freedom of `v`. Because a history can stop to fit, Welch's test of this
/// iteration's samples alone must agree at 0.02, or the p-value is one. Pass rates are judged by bets on the pairs.
pub(crate) fn own_evidence(
    state: &MetricState,
    metric: &RunMetric,
    alpha: f64,
) -> Result<Option<OwnEvidence>> {
    let n = metric.incumbent.len().min(metric.candidate.len());
    if n < 2 {
        return Ok(None);
    }
    if metric.kind == SampleKind::PassRate {
        return by_bets(metric, n, alpha).map(Some);
    }
    let all = state.components(f64::INFINITY);
    if all.variance <= 0.0 || all.degrees < 2.0 {
        return Ok(None);
    }
    let centre = all.reference.mean;
    let reach = CLAMP * all.variance.sqrt();
    let clamped = state.components(reach);
    let (sign, scale) =
        (metric.spec.direction.harm_sign(), if centre.abs() > 0.0 { centre.abs() } else { 1.0 });
    let tolerated = if centre.abs() > 0.0 { metric.threshold.threshold() } else { 0.0 };
    let within_reach = |value: f64| centre + (value - centre).clamp(-reach, reach);
    let moved = metric.candidate.iter().map(|value| within_reach(value - sign * tolerated * scale));
    let candidate = Moments::of(&moved.collect::<Vec<_>>());
    let fresh = Moments::of(&metric.incumbent.iter().copied().map(within_reach).collect::<Vec<_>>());
    let Components { reference, variance: v, degrees, between, skew } = clamped;
    let fresh_weight = fresh.count / v;
    let earlier_weight = between.map_or(0.0, |between| 1.0 / (between + v / reference.count));
    let level =
        (fresh.mean * fresh_weight + reference.mean * earlier_weight) / (fresh_weight + earlier_weight);
    let error = (v / candidate.count + 1.0 / (fresh_weight + earlier_weight)).sqrt();
    let harm = sign * (candidate.mean - level) / error;
    // A skew within its standard error is none. That of a mean of n values makes up the share v / n of the variance.
    let skew = if skew.abs() > (6.0 / degrees).sqrt() { skew } else { 0.0 };
    let skew = sign * skew / candidate.count.sqrt() * (v / candidate.count / (error * error)).powf(1.5);
    let p_value = if shows_by_itself(metric, tolerated)? { tail(harm, skew, degrees)? } else { 1.0 };
    let change = (Moments::of(&metric.candidate).mean - level) / scale;
    let half = student(degrees)?.inverse_cdf(1.0 - alpha) * error / scale;
    Ok(Some(OwnEvidence {
        p_value,
        change,
        interval: Some(Interval { low: change - half, high: change + half, level: 1.0 - 2.0 * alpha }),
        samples: metric.candidate.len(),
    }))
}

/// The upper tail at `z` of a standardised variable with this skew whose standard error has these degrees of freedom.
fn tail(z: f64, skew: f64, degrees: f64) -> Result<f64> {
    let student = student(degrees)?;
    if z <= 0.0 || skew <= 1e-3 {
        return Ok(student.sf(z));
    }
    let shape = 4.0 / (skew * skew);
    let gamma = Gamma::new(shape, 1.0).map_err(|error| invalid("a skew", error.to_string()))?;
    let normal =
        Normal::new(0.0, 1.0).map_err(|error| invalid("a normal distribution", error.to_string()))?;
    let skewed = gamma.sf(shape + z * shape.sqrt()).max(f64::MIN_POSITIVE);
    Ok(student.sf(-normal.inverse_cdf(skewed)))
}

fn student(degrees: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, degrees).map_err(|error| invalid("degrees of freedom", error.to_string()))
}

/// Whether Welch's test of the two lists, the incumbent's moved by what is tolerated, sees harm.
fn shows_by_itself(metric: &RunMetric, tolerated: f64) -> Result<bool> {
    let sign = metric.spec.direction.harm_sign();
    let moved: Vec<f64> =
        metric.incumbent.iter().map(|value| value + sign * tolerated * value.abs()).collect();
    let harm = Moments::of(&metric.candidate).mean - Moments::of(&moved).mean;
    if sign * harm <= 0.0 {
        return Ok(false);
    }
    match welch_test(&moved, &metric.candidate) {
        Ok(test) => Ok(test.p_value / 2.0 <= BY_ITSELF),
        // Two constant sides that differ.
        Err(crate::Error::Data { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn by_bets(metric: &RunMetric, n: usize, alpha: f64) -> Result<OwnEvidence> {
    let rule = SequentialRule { threshold: metric.threshold, alpha, kind: metric.kind, pairs_max: n };
    let mut test = SequentialTest::new(rule)?;
    for (old, new) in metric.incumbent.iter().zip(&metric.candidate) {
        if !test.is_finished() {
            test.push(*old, *new)?;
        }
    }
    let report = test.report()?;
    Ok(OwnEvidence {
        p_value: (1.0 / report.e_value.max(1.0)).min(1.0),
        change: report.change.unwrap_or(0.0),
        interval: report.interval,
        samples: report.pairs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_students_without_skew_and_heavier_with_it() {
        let plain = tail(4.0, 0.0, 1e6).unwrap();
        assert!((plain / 3.167e-5 - 1.0).abs() < 1e-3, "{plain}");
        let skewed = tail(4.0, 0.3, 1e6).unwrap();
        assert!(skewed > 4.0 * plain && skewed < 10.0 * plain, "{skewed} {plain}");
        assert!(tail(4.0, -0.3, 1e6).unwrap() >= plain * 0.999);
        assert!(tail(4.0, 0.0, 10.0).unwrap() > 10.0 * plain);
    }
}
