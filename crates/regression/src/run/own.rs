//! The decision where no fresh samples can be had.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::RunMetric;
use super::metric::MetricState;
use crate::drift::Moments;
use crate::statistics::{invalid, welch_test};
use crate::{Interval, Result, SampleKind, SequentialRule, SequentialTest};

/// The level at which the iteration's own samples must show the harm by themselves.
const BY_ITSELF: f64 = 0.02;

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
/// The level of the incumbent is estimated from its samples of this iteration and from those of earlier ones, weighted by their
/// precision: with the variance `v` within iterations and `b` between them (analysis of variance, one way), the N reference
/// samples have the variance `b + v / N`, the n fresh ones `v / n`. The distance of the candidate's mean from it, less the
/// threshold, over its standard error is compared with Student's t with the degrees of freedom of `v`. A single wild value
/// moves a mean with a known spread far; so Welch's test of this iteration's samples alone must agree at 0.02, or
/// the p-value is one. Pass rates are judged by bets on the pairs.
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
    let (reference, within, between) = state.components();
    let (fresh, candidate) = (Moments::of(&metric.incumbent), Moments::of(&metric.candidate));
    if within.variance <= 0.0 || within.degrees < 2.0 {
        return Ok(None);
    }
    let (v, earlier_variance) =
        (within.variance, between.map(|between| between + within.variance / reference.count));
    let fresh_weight = fresh.count / v;
    let earlier_weight = earlier_variance.map_or(0.0, |variance| 1.0 / variance);
    let level =
        (fresh.mean * fresh_weight + reference.mean * earlier_weight) / (fresh_weight + earlier_weight);
    let scale = if level.abs() > 0.0 { level.abs() } else { 1.0 };
    let error = (v / candidate.count + 1.0 / (fresh_weight + earlier_weight)).sqrt() / scale;
    let change = (candidate.mean - level) / scale;
    let sign = metric.spec.direction.harm_sign();
    let tolerated = if level.abs() > 0.0 { metric.threshold.threshold() } else { 0.0 };
    let student = StudentsT::new(0.0, 1.0, within.degrees)
        .map_err(|error| invalid("degrees of freedom", error.to_string()))?;
    let half = student.inverse_cdf(1.0 - alpha) * error;
    let by_itself = shows_by_itself(metric, tolerated)?;
    Ok(Some(OwnEvidence {
        p_value: if by_itself { student.sf((sign * change - tolerated) / error) } else { 1.0 },
        change,
        interval: Some(Interval { low: change - half, high: change + half, level: 1.0 - 2.0 * alpha }),
        samples: metric.candidate.len(),
    }))
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
