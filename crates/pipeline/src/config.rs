//! The settings of a loop, with the published keys.

use std::sync::Arc;

use evoseal_metrics::MetricsSettings;
use evoseal_regression::RegressionSettings;
use evoseal_safety::{SafetySettings, SafetySwitches, StandardPolicy, ValidationSettings};
use serde::{Deserialize, Serialize};

use crate::{ConsecutiveFailures, LoopRules, Result, RunOptions, StopCondition};

/// Settings of a loop and of its parts (the published name). Components do not stand in here: they go through
/// [`EvolutionPipeline::builder`](crate::EvolutionPipeline::builder), made from what the methods give.
///
/// Sections may also bear the names with `_config` under which they were published. Unknown keys are refused.
///
/// ```
/// use evoseal_pipeline::EvolutionConfig;
///
/// let config: EvolutionConfig = serde_json::from_str(r#"{
///     "metrics_config": { "thresholds": { "accuracy": { "threshold": 0.05, "direction": "decrease" } } },
///     "safety_config": { "auto_rollback": true, "checkpoints": { "max_checkpoints": 20 } },
///     "max_iterations": 40
/// }"#)?;
/// assert_eq!(config.run_options().iterations, 40);
/// assert_eq!(config.safety_switches().max_checkpoints, 20);
/// assert_eq!(config.detector().metric_thresholds.len(), 1);
/// assert!(serde_json::from_str::<EvolutionConfig>(r#"{ "max_iteration": 40 }"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvolutionConfig {
    /// Where measurements are kept and how metrics are judged.
    #[serde(alias = "metrics_config")]
    pub metrics: MetricsSettings,
    /// When a version counts as improved.
    #[serde(alias = "validation_config")]
    pub validation: ValidationSettings,
    /// The safety layer and its parts.
    #[serde(alias = "safety_config")]
    pub safety: SafetySettings,
    /// How many iterations a run makes at most. Default 1000.
    pub max_iterations: u64,
    /// After how many iterations in a row without an accepted version a run ends: rejections, rollbacks, inconclusive
    /// ones and errors alike. Default 5.
    pub max_consecutive_rejections: u64,
}

impl Default for EvolutionConfig {
    fn default() -> Self {
        Self {
            metrics: MetricsSettings::default(),
            validation: ValidationSettings::default(),
            safety: SafetySettings::default(),
            max_iterations: 1000,
            max_consecutive_rejections: 5,
        }
    }
}

impl EvolutionConfig {
    /// Options of a run of `max_iterations`, with checkpoints and rollbacks as the safety section says.
    pub fn run_options(&self) -> RunOptions {
        RunOptions {
            iterations: self.max_iterations,
            enable_checkpoints: self.safety.auto_checkpoint,
            enable_auto_rollback: self.safety.auto_rollback,
            ..RunOptions::default()
        }
    }

    /// The conditions that end a run early.
    pub fn stop_conditions(&self) -> Vec<Arc<dyn StopCondition>> {
        vec![Arc::new(ConsecutiveFailures(self.max_consecutive_rejections))]
    }

    /// The decision policy.
    ///
    /// # Errors
    ///
    /// [`Error::Safety`](crate::Error::Safety) for thresholds outside their range.
    pub fn policy(&self) -> Result<StandardPolicy> {
        self.safety.check()?;
        Ok(self.safety.decision_policy(&self.validation)?)
    }

    /// The settings of the detector: those of the safety section with the thresholds of the metrics section added.
    pub fn detector(&self) -> RegressionSettings {
        self.metrics.join(self.safety.detector(&self.validation))
    }

    /// What follows from decisions and failures that are no verdict on a candidate.
    pub fn rules(&self) -> LoopRules {
        LoopRules::from(&self.safety)
    }

    /// The switches of the safety layer.
    pub fn safety_switches(&self) -> SafetySwitches {
        SafetySwitches::from(&self.safety)
    }
}
