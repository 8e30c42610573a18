//! Metrics: what a number means, and the numbers measured.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The direction of change that is **harmful**: accuracy `decrease`, latency `increase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A higher value is worse: time, memory, error rate.
    Increase,
    /// A lower value is worse: accuracy, pass rate, throughput.
    Decrease,
}

impl Direction {
    /// `+1.0` where a rise is harmful and `-1.0` where a fall is, so that `sign * change` is positive for harm.
    pub const fn harm_sign(self) -> f64 {
        match self {
            Self::Increase => 1.0,
            Self::Decrease => -1.0,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Increase => "increase",
            Self::Decrease => "decrease",
        })
    }
}

/// The name of a metric: 1 to 100 characters out of ASCII letters, digits and `_ . - / : %`, with a letter first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(String);

impl MetricName {
    /// Checks `name` and wraps it.
    ///
    /// ```
    /// use evoseal_types::MetricName;
    /// assert_eq!(MetricName::new("latency_ms/p99")?.as_str(), "latency_ms/p99");
    /// assert!(MetricName::new("two words").is_err());
    /// # Ok::<(), evoseal_types::Error>(())
    /// ```
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let reason = if name.is_empty() || name.len() > 100 {
            "it must have 1 to 100 characters"
        } else if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            "it must start with a letter"
        } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/:%".contains(&byte)) {
            "it may hold ASCII letters, digits and _ . - / : % only"
        } else {
            return Ok(Self(name));
        };
        Err(Error::Identifier { kind: "metric name", value: name, reason })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for MetricName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for MetricName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<MetricName> for String {
    fn from(name: MetricName) -> Self {
        name.0
    }
}

/// What a metric's numbers mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// The metric's name.
    pub name: MetricName,
    /// The unit of its values, as people write it: `ms`, `bytes`, `%`; empty for a pure number.
    #[serde(default)]
    pub unit: String,
    /// The harmful direction.
    pub direction: Direction,
}

impl MetricSpec {
    /// A metric with a name, the unit of its values, and its harmful direction.
    pub fn new(
        name: impl Into<String>,
        unit: impl Into<String>,
        direction: Direction,
    ) -> Result<Self, Error> {
        Ok(Self { name: MetricName::new(name)?, unit: unit.into(), direction })
    }
}

/// One measured value and where in the measurement it stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The process start that it came from, counted from zero: values of one start share its luck with memory layout
    /// and are not independent of each other.
    pub start: u32,
    /// Its place within that start, counted from zero.
    pub iteration: u32,
    /// The value, in the metric's unit. It may be non-finite: what a program printed is recorded as it is, and the
    /// judgement names it. JSON, which has no such numbers, holds it as the text `NaN`, `inf` or `-inf`.
    #[serde(with = "crate::any_float")]
    pub value: f64,
}

impl Sample {
    /// A value measured in the given process start at the given place.
    pub const fn new(start: u32, iteration: u32, value: f64) -> Self {
        Self { start, iteration, value }
    }
}

/// All samples of one metric of one version, in the order in which they were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSamples {
    /// What the numbers mean.
    pub spec: MetricSpec,
    /// The numbers.
    pub samples: Vec<Sample>,
}

impl MetricSamples {
    /// Samples of the metric that `spec` describes.
    pub const fn new(spec: MetricSpec, samples: Vec<Sample>) -> Self {
        Self { spec, samples }
    }

    /// Samples of one process start each, for callers that have plain numbers.
    pub fn independent(spec: MetricSpec, values: &[f64]) -> Self {
        let samples = (0_u32..).zip(values).map(|(start, value)| Sample::new(start, 0, *value)).collect();
        Self { spec, samples }
    }

    /// The values alone.
    pub fn values(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.value).collect()
    }

    /// The values grouped by process start, starts in ascending order.
    pub fn by_start(&self) -> Vec<Vec<f64>> {
        let mut groups: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for sample in &self.samples {
            groups.entry(sample.start).or_default().push(sample.value);
        }
        groups.into_values().collect()
    }
}

/// How much harmful change of a metric is tolerated.
///
/// A change is `(candidate - incumbent) / |incumbent|`. It is a regression when it exceeds `threshold` in the harmful
/// `direction`, and critical when it exceeds `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "`threshold` is the published key beside `critical` and `direction`"
)]
pub struct Threshold {
    threshold: f64,
    critical: f64,
    direction: Direction,
}

impl Threshold {
    /// A threshold as a fraction (`0.1` is ten percent), critical at two and a half times it.
    ///
    /// ```
    /// use evoseal_types::{Direction, Threshold};
    /// let latency = Threshold::new("latency", 0.1, Direction::Increase)?;
    /// assert_eq!((latency.threshold(), latency.critical()), (0.1, 0.25));
    /// assert!(Threshold::new("latency", f64::NAN, Direction::Increase).is_err());
    /// # Ok::<(), evoseal_types::Error>(())
    /// ```
    pub fn new(metric: &str, threshold: f64, direction: Direction) -> Result<Self, Error> {
        Self::with_critical(metric, threshold, threshold * 2.5, direction)
    }

    /// A threshold and the change from which on a regression is critical, both as fractions.
    ///
    /// Both must be finite, `threshold` not negative and `critical` not below it. `metric` names the metric in errors.
    pub fn with_critical(
        metric: &str,
        threshold: f64,
        critical: f64,
        direction: Direction,
    ) -> Result<Self, Error> {
        let refuse = |value, reason| Err(Error::Threshold { name: metric.to_owned(), value, reason });
        if !threshold.is_finite() {
            return refuse(threshold, "it is not a finite number");
        }
        if threshold < 0.0 {
            return refuse(threshold, "it is negative; the direction says which way is harmful");
        }
        if !critical.is_finite() || critical < threshold {
            return refuse(critical, "a critical threshold must be finite and not below the threshold");
        }
        Ok(Self { threshold, critical, direction })
    }

    /// The tolerated change, as a fraction.
    pub const fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The change from which on a regression is critical, as a fraction.
    pub const fn critical(&self) -> f64 {
        self.critical
    }

    /// The harmful direction.
    pub const fn direction(&self) -> Direction {
        self.direction
    }
}

/// What a run tries to improve: a metric, and the direction in which it would be worse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// The metric.
    pub metric: MetricName,
    /// The harmful direction: `increase` for a metric to be minimised.
    pub direction: Direction,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_thresholds_are_refused_with_the_metric_named() {
        for (threshold, critical) in
            [(-0.05, 0.1), (f64::NAN, 0.1), (f64::INFINITY, 0.1), (0.2, 0.1), (0.1, f64::NAN)]
        {
            let error =
                Threshold::with_critical("accuracy", threshold, critical, Direction::Decrease).unwrap_err();
            assert!(error.to_string().contains("accuracy"), "{error}");
        }
    }

    #[test]
    fn samples_group_by_process_start() {
        let spec = MetricSpec::new("t", "s", Direction::Increase).unwrap();
        let samples = vec![Sample::new(1, 0, 3.0), Sample::new(0, 0, 1.0), Sample::new(1, 1, 4.0)];
        let samples = MetricSamples::new(spec, samples);
        assert_eq!(samples.by_start(), vec![vec![1.0], vec![3.0, 4.0]]);
        assert_eq!(samples.values(), vec![3.0, 1.0, 4.0]);
    }

    #[test]
    fn values_that_are_no_numbers_survive_json() {
        for value in [1.5, -0.0, 3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let json = serde_json::to_string(&Sample::new(0, 0, value)).unwrap();
            let back: Sample = serde_json::from_str(&json).unwrap();
            assert_eq!(back.value.to_bits(), value.to_bits(), "{json}");
        }
        assert!(serde_json::from_str::<Sample>(r#"{"start":0,"iteration":0,"value":"many"}"#).is_err());
    }
}
