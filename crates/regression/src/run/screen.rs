//! Stage one: is anything suspicious?

use evoseal_types::Threshold;
use serde::{Deserialize, Serialize};

use super::RunSettings;
use crate::drift::Moments;
use crate::sequential::log_mean_exp;
use crate::statistics::normal_tail;

// The constants trade measurements for power alone; no error rate of a rollback depends on them. They were chosen by
// `evoseal detect simulate loop` as the cheapest that find six in seven harms of just the smallest size.

/// How much the data must speak for harm in one metric, as a logarithm, to end stage one at once. A harmless candidate of ten
/// metrics gets there about five times in a thousand.
const SUSPICION: f64 = 7.0;

/// The same where the samples are used up.
const SUSPICION_AT_END: f64 = 3.0;

/// The same where there are no fresh samples either, so that a false suspicion costs a good candidate.
const SUSPICION_ALONE: f64 = 5.0;

/// The same where another metric is suspicious, so that fresh samples are taken anyway.
const SUSPICION_BESIDE: f64 = 0.5;

/// How much the data must speak against harm in any metric, as a logarithm, to clear the candidate.
const CLEARANCE: f64 = 3.3;

/// By which share of the information so far the clearance gives way: without it the slowest of many metrics decides how
/// long is measured.
const YIELD: f64 = 0.27;

/// The information that the most samples of stage one, and the most pairs of stage two, must have about the harm that is
/// looked for. Pairs need so much to reach a level of 0.001 nine times in ten.
const INFORMATION_LEAST: (f64, f64) = (6.0, 16.0);

/// The share of harms of just the smallest size that pass a clearance, at most, by simulation.
pub(crate) const MISS: f64 = 0.15;

/// What stage one says about a metric, or about all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScreenOutcome {
    /// The data speak against harm.
    Cleared,
    /// Too early to say.
    NeedsMore,
    /// Fresh samples of both versions are needed.
    Suspicious,
}

/// The screening of one metric.
///
/// With the reference mean `m` of N samples, their relative variance `v`, and the mean harmful change `u` of the
/// candidate's first n samples, the logarithm of the likelihood ratio of a harm `h` against none is
/// `L = (h u - h^2 / 2) / e` with `e = v (1 / n + 1 / N)`, and the information about it is `I = h^2 / 2 e`. After each sample
/// a metric is suspicious where `L >= 7`, and the candidate is cleared where the mean of `exp(L)` over all metrics is at
/// most `exp(-3.3 + 0.27 I)`, I being that of the noisiest metric: Wald's sequential probability ratio test (1945) of "one
/// of the metrics is harmful, none is more likely than another", with a bound that gives way as information grows
/// (Anderson 1960).
///
/// The harm `h` is the smallest one of the settings, or what can be seen where that is more: I = 6 for the most samples of stage
/// one, and I = 16 for the most pairs of stage two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScreenReport {
    /// The outcome.
    pub outcome: ScreenOutcome,
    /// After how many of the candidate's samples.
    pub samples: usize,
    /// The change against the reference over all samples given, as a fraction; absolute where the reference is zero.
    pub change: f64,
    /// The standard error of `change`.
    pub standard_error: f64,
    /// The harm that was looked for, a fraction.
    pub harm: f64,
    /// The chance, at most, that a metric with that harm is cleared as this one was.
    pub miss: f64,
}

/// What follows the samples that are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Further samples of the candidate.
    More,
    /// Fresh pairs of both versions, where a metric is suspicious.
    Pairs,
    /// Nothing.
    Nothing,
}

/// One metric of a candidate and its reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screened<'a> {
    pub(crate) reference: Moments,
    pub(crate) values: &'a [f64],
    pub(crate) threshold: Threshold,
    /// The most samples of stage one, and the most pairs of stage two, that there can be.
    pub(crate) most: (usize, usize),
}

/// Screens all metrics of a candidate together; one report each, in their order.
pub(crate) fn screen(metrics: &[Screened<'_>], then: Then, settings: &RunSettings) -> Vec<ScreenReport> {
    let mut courses: Vec<Course<'_>> = metrics.iter().map(|metric| Course::new(metric, settings)).collect();
    let (least, most) = (settings.screen_samples_min, settings.screen_samples_max);
    let given = metrics.iter().map(|metric| metric.values.len()).max().unwrap_or(0);
    let end = given.min(most);
    let (mut outcome, mut used) = (ScreenOutcome::NeedsMore, end);
    for n in 1..=end {
        for course in &mut courses {
            course.step(n);
        }
        if n < least.min(given) {
            continue;
        }
        let logs: Vec<f64> = courses.iter().map(|course| course.log).collect();
        let information = courses.iter().map(|course| course.information).fold(f64::INFINITY, f64::min);
        if logs.iter().any(|log| *log >= SUSPICION) {
            outcome = ScreenOutcome::Suspicious;
        } else if log_mean_exp(&logs) <= YIELD * information - CLEARANCE {
            outcome = ScreenOutcome::Cleared;
        } else {
            continue;
        }
        used = n;
        break;
    }
    let can_go_on = outcome == ScreenOutcome::NeedsMore && then == Then::More && given < most;
    let bound = match (outcome, then) {
        (ScreenOutcome::Suspicious, _) => SUSPICION_BESIDE,
        (_, Then::Nothing) => SUSPICION_ALONE,
        _ => SUSPICION_AT_END,
    };
    let report = |course: &Course<'_>| {
        let (outcome, miss) = match outcome {
            ScreenOutcome::Cleared => (ScreenOutcome::Cleared, MISS),
            ScreenOutcome::NeedsMore if can_go_on => (ScreenOutcome::NeedsMore, 0.0),
            _ if course.log >= bound => (ScreenOutcome::Suspicious, 0.0),
            _ => (ScreenOutcome::Cleared, course.miss(bound)),
        };
        course.report(outcome, used, miss)
    };
    courses.iter().map(report).collect()
}

/// The course of one metric.
struct Course<'a> {
    metric: &'a Screened<'a>,
    candidate: Moments,
    scale: f64,
    variance: f64,
    harm: f64,
    log: f64,
    information: f64,
}

impl<'a> Course<'a> {
    fn new(metric: &'a Screened<'a>, settings: &RunSettings) -> Self {
        let harm = visible_harm(metric.reference, &metric.threshold, metric.most, settings);
        let scale = scale_of(metric.reference);
        let variance = relative_variance(metric.reference);
        Self { metric, candidate: Moments::default(), scale, variance, harm, log: 0.0, information: 0.0 }
    }

    fn error(&self, n: f64) -> f64 {
        self.variance * (1.0 / n.max(1.0) + 1.0 / self.metric.reference.count.max(1.0))
    }

    fn step(&mut self, n: usize) {
        let Some(value) = self.metric.values.get(n - 1) else { return };
        self.candidate.push(*value);
        let error = self.error(self.candidate.count);
        let threshold = &self.metric.threshold;
        let change = threshold.direction().harm_sign() * (self.candidate.mean - self.metric.reference.mean)
            / self.scale;
        self.log = likelihood_ratio(change, error, self.harm, threshold.threshold());
        self.information = if error > 0.0 { self.harm * self.harm / (2.0 * error) } else { f64::INFINITY };
    }

    /// The chance that the ratio stays below `bound` under harm, where it is normal with mean I and variance 2 I.
    fn miss(&self, bound: f64) -> f64 {
        let z = (bound - self.information) / (2.0 * self.information).sqrt();
        if z.is_nan() { 0.0 } else { normal_tail(-z) }
    }

    fn report(&self, outcome: ScreenOutcome, samples: usize, miss: f64) -> ScreenReport {
        let all = Moments::of(self.metric.values);
        ScreenReport {
            outcome,
            samples: samples.min(self.metric.values.len()),
            change: (all.mean - self.metric.reference.mean) / self.scale,
            standard_error: self.error(all.count).sqrt(),
            harm: self.harm,
            miss,
        }
    }
}

/// The harm that is looked for in a metric, given its noise and the most samples and pairs that there can be.
pub(crate) fn visible_harm(
    reference: Moments,
    threshold: &Threshold,
    (samples, pairs): (usize, usize),
    settings: &RunSettings,
) -> f64 {
    let (variance, (on_samples, on_pairs)) = (relative_variance(reference), INFORMATION_LEAST);
    let samples_error = variance * (1.0 / samples.max(1) as f64 + 1.0 / reference.count.max(1.0));
    let pairs_error = 2.0 * variance / pairs.max(1) as f64;
    let visible = (2.0 * on_samples * samples_error).max(2.0 * on_pairs * pairs_error).sqrt();
    settings.harm_beyond(threshold.threshold()).max(visible)
}

/// The variance of one value over the squared mean; over nothing where the mean is zero.
pub(crate) fn relative_variance(reference: Moments) -> f64 {
    let scale = scale_of(reference);
    reference.squares / reference.degrees_of_freedom().max(1.0) / (scale * scale)
}

fn scale_of(reference: Moments) -> f64 {
    if reference.mean.abs() > 0.0 { reference.mean.abs() } else { 1.0 }
}

/// The logarithm of the likelihood ratio of a harm against none. Without any scatter it is infinite: of the sign that the
/// change has once what is tolerated is taken off.
pub(crate) fn likelihood_ratio(change: f64, variance: f64, harm: f64, tolerated: f64) -> f64 {
    if variance > 0.0 {
        return (harm * change - harm * harm / 2.0) / variance;
    }
    if change > tolerated { f64::INFINITY } else { f64::NEG_INFINITY }
}

#[cfg(test)]
mod tests {
    use evoseal_types::Direction;

    use super::*;

    const REFERENCE: Moments = Moments { count: 400.0, mean: 100.0, squares: 25.0 * 399.0 };

    fn screened(values: &[f64], tolerated: f64, reference: Moments) -> Screened<'_> {
        let threshold = Threshold::new("m", tolerated, Direction::Increase).unwrap();
        Screened { reference, values, threshold, most: (40, 100) }
    }

    fn of_one(values: &[f64], then: Then) -> ScreenReport {
        screen(&[screened(values, 0.0, REFERENCE)], then, &RunSettings::default())[0]
    }

    #[test]
    fn harmless_values_are_cleared_early_and_harmful_ones_are_suspicious() {
        let outcome = |values: &[f64]| {
            let report = of_one(values, Then::More);
            (report.outcome, report.samples)
        };
        assert_eq!(outcome(&[98.0; 12]), (ScreenOutcome::Cleared, 4));
        assert_eq!(outcome(&[115.0; 10]), (ScreenOutcome::Suspicious, 3));
        assert_eq!(outcome(&[103.5; 10]), (ScreenOutcome::NeedsMore, 10));
        assert_eq!(outcome(&[104.5; 40]), (ScreenOutcome::Suspicious, 19));
    }

    #[test]
    fn one_suspicious_metric_sends_the_doubtful_ones_along() {
        let (worse, doubtful, fine) = ([120.0; 5], [104.0; 5], [95.0; 5]);
        let metrics = [&worse, &doubtful, &fine].map(|values| screened(values, 0.0, REFERENCE));
        let outcomes: Vec<_> = screen(&metrics, Then::Pairs, &RunSettings::default())
            .iter()
            .map(|report| report.outcome)
            .collect();
        assert_eq!(outcomes, [ScreenOutcome::Suspicious, ScreenOutcome::Suspicious, ScreenOutcome::Cleared]);
    }

    #[test]
    fn without_more_samples_only_clear_harm_is_suspicious_and_the_miss_is_said() {
        let doubtful = of_one(&[104.0; 5], Then::Nothing);
        assert!(doubtful.outcome == ScreenOutcome::Cleared && doubtful.miss > 0.8, "{doubtful:?}");
        let clear = of_one(&[96.0; 10], Then::Nothing);
        assert!(clear.outcome == ScreenOutcome::Cleared && clear.miss <= MISS, "{clear:?}");
    }

    #[test]
    fn a_metric_too_noisy_for_the_smallest_harm_is_screened_for_what_can_be_seen() {
        let noisy = Moments { count: 400.0, mean: 100.0, squares: 900.0 * 399.0 };
        let report = screen(&[screened(&[100.0; 40], 0.0, noisy)], Then::Pairs, &RunSettings::default())[0];
        assert!(
            report.outcome == ScreenOutcome::Cleared && report.harm > 0.2 && report.harm < 0.3,
            "{report:?}"
        );
    }

    #[test]
    fn a_reference_without_scatter_makes_every_harm_suspicious_and_no_gain() {
        let exact = Moments { count: 10.0, mean: 5.0, squares: 0.0 };
        let outcome = |value: f64| {
            screen(&[screened(&[value; 3], 0.1, exact)], Then::More, &RunSettings::default())[0].outcome
        };
        assert_eq!(outcome(5.0), ScreenOutcome::Cleared);
        assert_eq!(outcome(5.4), ScreenOutcome::Cleared);
        assert_eq!(outcome(6.0), ScreenOutcome::Suspicious);
        assert_eq!(outcome(1.0), ScreenOutcome::Cleared);
    }
}
