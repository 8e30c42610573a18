//! Settings, checked once and turned into a form that cannot hold a wrong value.

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricName, MetricSpec, Threshold};

use crate::settings::{AnomalySettings, MetricThreshold, RegressionSettings, StatisticalSettings};
use crate::{Error, Result, RunSettings};

/// The checked settings of a detector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) threshold: f64,
    pub(crate) metrics: BTreeMap<MetricName, Rule>,
    pub(crate) use_statistics: bool,
    /// `None` where anomaly detection is off.
    pub(crate) anomalies: Option<AnomalySettings>,
    pub(crate) statistics: StatisticalSettings,
    pub(crate) run: RunSettings,
}

/// A threshold of one metric; without a direction the metric's own decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    threshold: f64,
    critical: f64,
    direction: Option<Direction>,
}

/// A threshold whose direction the metric contradicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Contradiction(pub(crate) Threshold);

impl TryFrom<&RegressionSettings> for Config {
    type Error = Error;

    fn try_from(settings: &RegressionSettings) -> Result<Self> {
        let threshold = settings.regression_threshold;
        Threshold::new("regression_threshold", threshold, Direction::Increase)?;
        let statistics = settings.statistical_analysis.clone();
        let level = statistics.confidence_level;
        require("confidence_level", level > 0.0 && level < 1.0, "it must lie strictly between 0 and 1")?;
        require("min_samples", statistics.min_samples >= 2, "one sample has no spread; the least is 2")?;
        require(
            "trend_window",
            statistics.trend_window >= 3,
            "two points are always on a line; the least is 3",
        )?;
        let limit = statistics.outlier_threshold;
        require("outlier_threshold", limit.is_finite() && limit > 0.0, "it must be a finite number above 0")?;
        settings.run.check()?;
        let mut metrics = BTreeMap::new();
        for (metric, given) in &settings.metric_thresholds {
            metrics.insert(metric.clone(), Rule::read(metric, *given, threshold)?);
        }
        let anomalies = settings.enable_anomaly_detection.then(|| settings.anomaly_detection.clone());
        Ok(Self {
            threshold,
            metrics,
            use_statistics: settings.enable_statistical_analysis,
            anomalies,
            statistics,
            run: settings.run,
        })
    }
}

impl Config {
    /// The threshold for a metric, or the one that would apply if the metric did not contradict its direction.
    pub(crate) fn threshold_for(&self, spec: &MetricSpec) -> Result<Result<Threshold, Contradiction>> {
        let name = spec.name.as_str();
        if let Some(rule) = self.metrics.get(&spec.name) {
            let direction = rule.direction.unwrap_or(spec.direction);
            let threshold = Threshold::with_critical(name, rule.threshold, rule.critical, direction)?;
            return Ok(if direction == spec.direction {
                Ok(threshold)
            } else {
                Err(Contradiction(threshold))
            });
        }
        // A metric that merely shares a published name but means the opposite keeps its own meaning.
        if let Some(rule) = published(name).filter(|rule| rule.direction == Some(spec.direction)) {
            return Ok(Ok(Threshold::with_critical(name, rule.threshold, rule.critical, spec.direction)?));
        }
        Ok(Ok(Threshold::new(name, self.threshold, spec.direction)?))
    }
}

impl Rule {
    fn read(metric: &MetricName, given: MetricThreshold, global: f64) -> Result<Self> {
        let refuse = |reason: &str| Err(invalid(&format!("metric_thresholds.{metric}"), reason));
        let known = published(metric.as_str());
        if given.threshold.is_some() && given.regression.is_some() {
            return refuse("it has both `threshold` and `regression`, which say the same thing");
        }
        let numbers = [given.threshold, given.regression, given.critical];
        if numbers.iter().flatten().any(|number| !number.is_finite()) {
            return refuse("it holds a number that is not finite");
        }
        if given.threshold.is_some_and(|threshold| threshold < 0.0) {
            return refuse("`threshold` is negative; `direction` says which way is harmful");
        }
        let (regression, critical) = (given.regression.and_then(sign), given.critical.and_then(sign));
        if regression.is_some() && critical.is_some() && regression != critical {
            return refuse("`regression` and `critical` have different signs");
        }
        // Beside `threshold` an unsigned `critical` is a size; a minus sign still says that a fall is harmful.
        let by_sign = match (given.threshold, regression.or(critical)) {
            (Some(_), Some(Direction::Increase)) => None,
            (_, by_sign) => by_sign,
        };
        let stated =
            given.direction.or(known.and_then(|rule| rule.direction).filter(|_| given.threshold.is_none()));
        if let (Some(stated), Some(by_sign)) = (stated, by_sign)
            && stated != by_sign
        {
            return refuse(&format!(
                "its sign says that harm is to {by_sign}, but the harmful direction is to {stated}; write a negative \
                 number for a metric that must not fall"
            ));
        }
        let (threshold, critical) = match (given.threshold.or(given.regression), known) {
            (Some(size), _) => (size.abs(), size.abs() * 2.5),
            (None, Some(rule)) => (rule.threshold, rule.critical),
            (None, None) => (global, global * 2.5),
        };
        let (critical, direction) = (given.critical.map_or(critical, f64::abs), given.direction.or(by_sign));
        Threshold::with_critical(metric.as_str(), threshold, critical, Direction::Increase)?;
        Ok(Self { threshold, critical, direction })
    }
}

/// The direction of harm that a signed fraction states; zero states none.
fn sign(number: f64) -> Option<Direction> {
    match number {
        positive if positive > 0.0 => Some(Direction::Increase),
        negative if negative < 0.0 => Some(Direction::Decrease),
        _ => None,
    }
}

/// The published thresholds by metric name.
fn published(name: &str) -> Option<Rule> {
    let (threshold, critical, direction) = match name {
        "duration_sec" | "execution_time" => (0.10, 0.25, Direction::Increase),
        "memory_mb" | "cpu_percent" => (0.10, 0.30, Direction::Increase),
        "error_rate" | "failure_rate" => (0.05, 0.10, Direction::Increase),
        "success_rate" | "pass_rate" | "accuracy" | "precision" | "recall" | "f1_score" => {
            (0.05, 0.10, Direction::Decrease)
        }
        "correctness" => (0.01, 0.05, Direction::Decrease),
        _ => return None,
    };
    Some(Rule { threshold, critical, direction: Some(direction) })
}

fn require(what: &str, holds: bool, reason: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(invalid(what, reason)) }
}

fn invalid(what: &str, reason: &str) -> Error {
    Error::Invalid { what: what.to_owned(), reason: reason.to_owned() }
}
