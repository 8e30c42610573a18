//! A detector that does what it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use evoseal_regression::{
    Assessment, DataProblem, Detector, DetectorStatus, Error, Finding, Interval, Measurements,
    RegressionSummary, Result, Verdict,
};
use evoseal_types::{MetricName, MetricSamples, Recommendation, Severity, Threshold};

type Answer = dyn Fn(&Measurements) -> Result<Assessment> + Send + Sync;

/// A [`Detector`] with a given answer, which remembers what it was asked. Clones share the memory.
///
/// ```
/// use evoseal_regression::{Detector, Measurements, Verdict};
/// use evoseal_testkit::ScriptedDetector;
/// use evoseal_types::{Direction, MetricSamples, MetricSpec};
///
/// let spec = MetricSpec::new("latency", "ms", Direction::Increase)?;
/// let at = |value| vec![MetricSamples::independent(spec.clone(), &[value])];
/// let measurements = Measurements {
///     incumbent: at(10.0),
///     candidate: at(12.0),
///     paired: false,
///     history: Default::default(),
///     baselines: Vec::new(),
///     run: None,
/// };
/// let detector = ScriptedDetector::comparing_means(0.1);
/// assert_eq!(detector.assess(&measurements)?.findings[0].verdict, Verdict::Regressed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ScriptedDetector {
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<Measurements>>>,
}

impl fmt::Debug for ScriptedDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedDetector").finish_non_exhaustive()
    }
}

impl ScriptedDetector {
    /// Answers with what `answer` gives.
    pub fn answering(answer: impl Fn(&Measurements) -> Result<Assessment> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), asked: Arc::default() }
    }

    /// Compares means and knows no noise: a change in the harmful direction beyond `threshold` (a fraction) is a
    /// regression, any in the good direction an improvement.
    pub fn comparing_means(threshold: f64) -> Self {
        Self::answering(move |measurements| Ok(compare(measurements, threshold)))
    }

    /// Fails.
    pub fn failing() -> Self {
        Self::answering(|_| Err(Error::Invalid { what: "detector".to_owned(), reason: "told to".to_owned() }))
    }

    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Measurements> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Detector for ScriptedDetector {
    fn assess(&self, measurements: &Measurements) -> Result<Assessment> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(measurements.clone());
        (self.answer)(measurements)
    }

    fn status(&self) -> DetectorStatus {
        DetectorStatus {
            threshold: 0.1,
            confidence_level: 0.95,
            metrics_tracked: Vec::new(),
            baselines: Vec::new(),
        }
    }
}

/// An assessment of these findings, its summary and recommendation computed from them.
pub fn assessment_of(findings: Vec<Finding>) -> Assessment {
    let regressions: Vec<(&MetricName, Severity)> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Regressed)
        .filter_map(|finding| finding.severity.map(|severity| (&finding.metric.name, severity)))
        .collect();
    let mut severity_counts = BTreeMap::new();
    for (_, severity) in &regressions {
        *severity_counts.entry(*severity).or_insert(0) += 1;
    }
    let names = |wanted: &dyn Fn(Severity) -> bool| {
        let mut names: Vec<MetricName> =
            regressions.iter().filter(|(_, found)| wanted(*found)).map(|(name, _)| (*name).clone()).collect();
        names.sort();
        names.dedup();
        names
    };
    let summary = RegressionSummary {
        total_regressions: regressions.len(),
        severity_counts,
        critical_regressions: names(&|found| found == Severity::Critical),
        affected_metrics: names(&|_| true),
    };
    let recommendation = Recommendation::of(regressions.iter().map(|(_, severity)| *severity));
    Assessment { findings, recommendation, summary, run: None }
}

/// All findings: against the incumbent, then against each baseline.
fn compare(measurements: &Measurements, threshold: f64) -> Assessment {
    let mut findings = compare_with(None, &measurements.incumbent, &measurements.candidate, threshold);
    for baseline in &measurements.baselines {
        let name = Some(baseline.name.as_str());
        findings.extend(compare_with(name, &baseline.metrics, &measurements.candidate, threshold));
    }
    assessment_of(findings)
}

/// One finding for each metric that either side has.
fn compare_with(
    baseline: Option<&str>,
    old: &[MetricSamples],
    new: &[MetricSamples],
    threshold: f64,
) -> Vec<Finding> {
    let by_name = |samples: &[MetricSamples]| -> BTreeMap<MetricName, MetricSamples> {
        samples.iter().map(|metric| (metric.spec.name.clone(), metric.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    let mut names: Vec<&MetricName> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| finding(baseline, old.get(name), new.get(name), threshold)).collect()
}

/// The mean; `None` of no values or of one that is no number.
fn mean(samples: Option<&MetricSamples>) -> Option<f64> {
    let values = samples?.values();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// What one metric's means say.
fn finding(
    baseline: Option<&str>,
    old: Option<&MetricSamples>,
    new: Option<&MetricSamples>,
    threshold: f64,
) -> Finding {
    let spec = &new.or(old).expect("a metric stands on one side at least").spec;
    let limit = Threshold::new(spec.name.as_str(), threshold, spec.direction)
        .expect("a test's threshold is a fraction");
    let (old_value, new_value) = (mean(old), mean(new));
    let (verdict, problem, change) = match (old_value, new_value) {
        (Some(old), Some(new)) => {
            let change = (new - old) / old.abs();
            let harm = spec.direction.harm_sign() * change;
            let verdict = if harm > threshold {
                Verdict::Regressed
            } else if harm < 0.0 {
                Verdict::Improved
            } else {
                Verdict::Equivalent
            };
            (verdict, None, Some(change))
        }
        (Some(_), None) if new.is_none() => missing(DataProblem::MissingInCandidate),
        (None, Some(_)) if old.is_none() => missing(DataProblem::MissingInIncumbent),
        (Some(_), None) => missing(DataProblem::NonFiniteInCandidate),
        _ => missing(DataProblem::NonFiniteInIncumbent),
    };
    let harm = change.map_or(0.0, |change| spec.direction.harm_sign() * change);
    let severity = (verdict == Verdict::Regressed).then(|| match harm / threshold {
        ratio if ratio >= 2.5 => Severity::Critical,
        ratio if ratio >= 2.0 => Severity::High,
        ratio if ratio >= 1.5 => Severity::Medium,
        _ => Severity::Low,
    });
    Finding {
        metric: spec.clone(),
        baseline: baseline.map(str::to_owned),
        verdict,
        severity,
        problem,
        old_value,
        new_value,
        absolute_change: old_value.zip(new_value).map(|(old, new)| new - old),
        change,
        interval: change.map(|change| Interval { low: change, high: change, level: 0.95 }),
        p_value: None,
        power: None,
        threshold: limit,
        sample_counts: (old.map_or(0, |old| old.samples.len()), new.map_or(0, |new| new.samples.len())),
        method: "means".to_owned(),
        anomalies: Vec::new(),
        trend: None,
        reason: format!("{} is {verdict}", spec.name),
    }
}

fn missing(problem: DataProblem) -> (Verdict, Option<DataProblem>, Option<f64>) {
    (Verdict::InsufficientData, Some(problem), None)
}
