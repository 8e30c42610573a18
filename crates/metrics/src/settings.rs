//! The settings under `metrics`, with the published keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evoseal_regression::{MetricThreshold, RegressionSettings};
use evoseal_types::MetricName;
use serde::{Deserialize, Serialize};

/// Where measurements are kept and how their metrics are judged. Unknown keys are refused.
///
/// ```
/// use evoseal_metrics::MetricsSettings;
/// let settings: MetricsSettings = toml::from_str(r#"
///     storage_path = "metrics/"
///     thresholds.latency = { threshold = 0.05, direction = "increase" }
/// "#)?;
/// assert!(settings.enabled && settings.thresholds.len() == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// Whether measurements are kept beyond the process; true. Without it they are kept in memory, because the judgement
    /// needs them either way.
    pub enabled: bool,
    /// The database file, or a directory for a `metrics.db` in it; none, and then the caller's default holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_path: Option<PathBuf>,
    /// Thresholds by metric, in either published way of writing; none. They join those of the regression settings.
    pub thresholds: BTreeMap<MetricName, MetricThreshold>,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { enabled: true, storage_path: None, thresholds: BTreeMap::new() }
    }
}

impl MetricsSettings {
    /// The regression settings with the thresholds of these added; where both name a metric the regression settings win.
    ///
    /// ```
    /// use evoseal_metrics::MetricsSettings;
    /// use evoseal_regression::RegressionSettings;
    /// let settings: MetricsSettings = toml::from_str("thresholds.latency = { threshold = 0.05 }")?;
    /// assert_eq!(settings.join(RegressionSettings::default()).metric_thresholds, settings.thresholds);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(&self, mut regression: RegressionSettings) -> RegressionSettings {
        for (metric, threshold) in &self.thresholds {
            regression.metric_thresholds.entry(metric.clone()).or_insert(*threshold);
        }
        regression
    }
}
