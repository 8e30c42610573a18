//! The settings under `safety.regression`, with the published keys.

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricName};
use serde::{Deserialize, Serialize};

use crate::RunSettings;

/// How the detector judges. Plain data: it is checked when a detector is made of it.
///
/// Absent keys, also in the sub-tables, have their defaults; unknown keys are refused.
///
/// ```
/// use evoseal_regression::{RegressionDetector, RegressionSettings};
/// let settings: RegressionSettings = toml::from_str(r#"
///     regression_threshold = 0.05
///     metric_thresholds.latency = { threshold = 0.1, direction = "increase" }
///     metric_thresholds.accuracy = { regression = -0.02, critical = -0.1 }
///     statistical_analysis.confidence_level = 0.99
/// "#)?;
/// assert_eq!(settings.statistical_analysis.min_samples, 3);
/// RegressionDetector::new(&settings)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegressionSettings {
    /// The tolerated harmful change of a metric without a threshold of its own, as a fraction, 0 or more; 0.1. Ten
    /// percent is what the published settings tolerate.
    pub regression_threshold: f64,
    /// Thresholds by metric; none. They stand before the published ones: `duration_sec` and `execution_time`
    /// 0.10, critical 0.25; `memory_mb` and `cpu_percent` 0.10, critical 0.30; `error_rate` and `failure_rate` 0.05,
    /// critical 0.10; `success_rate`, `pass_rate`, `accuracy`, `precision`, `recall` and `f1_score` -0.05, critical -0.10;
    /// `correctness` -0.01, critical -0.05.
    pub metric_thresholds: BTreeMap<MetricName, MetricThreshold>,
    /// Whether a regression needs statistical evidence; true. Without it two means are compared with the threshold, one
    /// sample is enough, and noise raises false alarms.
    pub enable_statistical_analysis: bool,
    /// Whether values are compared with the history of accepted versions; true. What stands out raises the severity of
    /// a regression by one step, and never makes one.
    pub enable_anomaly_detection: bool,
    /// How evidence is weighed.
    pub statistical_analysis: StatisticalSettings,
    /// What stands out from the history.
    pub anomaly_detection: AnomalySettings,
    /// How the errors of a whole run are limited.
    pub run: RunSettings,
}

impl Default for RegressionSettings {
    fn default() -> Self {
        Self {
            regression_threshold: 0.1,
            metric_thresholds: BTreeMap::new(),
            enable_statistical_analysis: true,
            enable_anomaly_detection: true,
            statistical_analysis: StatisticalSettings::default(),
            anomaly_detection: AnomalySettings::default(),
            run: RunSettings::default(),
        }
    }
}

/// The tolerated change of one metric, in either of the published ways of writing: `{ threshold, direction }`, or
/// `{ regression, critical }` whose sign says the harmful direction. What is left out comes from the published threshold
/// of that name, else from `regression_threshold` and the metric itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricThreshold {
    /// The tolerated change as a fraction, 0 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The harmful direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The tolerated change as a signed fraction: -0.05 for a metric that must not fall by more than five percent, 0.05
    /// for one that must not rise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regression: Option<f64>,
    /// The change from which on a regression is critical, with the sign of `regression` (no sign beside `threshold` is
    /// needed); two and a half times the tolerated change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

/// How evidence is weighed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatisticalSettings {
    /// The probability that all intervals of one assessment hold the true changes, between 0 and 1; 0.95, the published
    /// value. Each single interval has a higher level, so that many metrics do not mean many false alarms.
    pub confidence_level: f64,
    /// The least number of independent samples on each side, 2 or more; 3, the published value. With five and more an
    /// interval becomes useful.
    pub min_samples: usize,
    /// How many of the newest accepted versions the trend line runs through, 3 or more; 10. Outliers are judged against
    /// twice as many.
    pub trend_window: usize,
    /// From how many standard deviations on a value is an outlier, above 0; 2.0, the published value.
    pub outlier_threshold: f64,
    /// Whether findings carry a trend; true.
    pub enable_trend_analysis: bool,
}

impl Default for StatisticalSettings {
    fn default() -> Self {
        Self {
            confidence_level: 0.95,
            min_samples: 3,
            trend_window: 10,
            outlier_threshold: 2.0,
            enable_trend_analysis: true,
        }
    }
}

/// What stands out from the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalySettings {
    /// The methods; z-score and IQR.
    pub algorithms: Vec<AnomalyAlgorithm>,
    /// How large a sudden step must be: low 50 %, medium 30 %, high 15 % of the newest value; medium.
    pub sensitivity: Sensitivity,
    /// Whether sudden steps are looked for; true.
    pub pattern_recognition: bool,
}

impl Default for AnomalySettings {
    fn default() -> Self {
        Self {
            algorithms: vec![AnomalyAlgorithm::Zscore, AnomalyAlgorithm::Iqr],
            sensitivity: Sensitivity::Medium,
            pattern_recognition: true,
        }
    }
}

/// A method that finds outliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnomalyAlgorithm {
    /// Distance from the mean in standard deviations.
    Zscore,
    /// Distance from the quartiles in interquartile ranges.
    Iqr,
    /// Distance from the median in median absolute deviations, beyond 3.5: half of the history may be outliers.
    Mad,
}

/// How easily a step counts as a spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// From half of the last value on.
    Low,
    /// From three tenths on.
    Medium,
    /// From fifteen hundredths on.
    High,
}

impl Sensitivity {
    /// The smallest step that is not a spike, as a fraction of the last value.
    pub const fn step(self) -> f64 {
        match self {
            Self::Low => 0.5,
            Self::Medium => 0.3,
            Self::High => 0.15,
        }
    }
}
