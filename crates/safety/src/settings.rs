//! Settings of the safety layer.

use std::collections::BTreeMap;

use evoseal_checkpoint::{CheckpointSettings, RetentionPolicy};
use evoseal_regression::{RegressionSettings, StatisticalSettings};
use evoseal_rollback::RollbackSettings;
use evoseal_types::{MetricName, Severity};
use serde::{Deserialize, Serialize};

use crate::{MetricCondition, PolicyThresholds, StandardPolicy};

/// The most that an evaluation may be made again.
const RETRIES_MAX: u32 = 100;

/// What becomes of a candidate that the evidence does not decide. It is never accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInconclusive {
    /// It is kept and not accepted, and the loop goes on from the accepted version. A person can approve it later.
    #[default]
    Hold,
    /// It is rejected like any other that is not good enough.
    Reject,
    /// It is kept, and the run ends and waits until a person has approved, rejected or held it.
    Ask,
}

/// What runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SafetySwitches {
    /// Whether each version is captured. Default: on, since without it nothing can be rolled back.
    pub auto_checkpoint: bool,
    /// Whether the workspace goes back to the accepted version when a candidate is not accepted. Default: on.
    pub auto_rollback: bool,
    /// Whether the scope and the size of edits are checked. Default: on. Tampering with protected paths, tests and
    /// measurements decide in any case.
    pub safety_checks_enabled: bool,
    /// Whether old checkpoints are deleted after each decision. Default: on.
    pub auto_cleanup: bool,
    /// How many checkpoints are kept, besides those that a rollback may need. Default 50.
    pub max_checkpoints: usize,
    /// Rules that keep more than that; their `last` is not looked at. Default: none.
    pub keep_more: RetentionPolicy,
    /// How many bytes the checkpoint store may take up before the oldest checkpoints go that no rollback needs, down to nine
    /// tenths of it; 0, the default, for no limit.
    pub max_store_bytes: u64,
}

impl Default for SafetySwitches {
    fn default() -> Self {
        Self {
            auto_checkpoint: true,
            auto_rollback: true,
            safety_checks_enabled: true,
            auto_cleanup: true,
            max_checkpoints: 50,
            keep_more: RetentionPolicy::default(),
            max_store_bytes: 0,
        }
    }
}

/// Settings of the safety layer and of the parts that it coordinates: the section `safety`, with the published keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SafetySettings {
    /// Whether each version is captured. Default: on.
    pub auto_checkpoint: bool,
    /// Whether the workspace goes back to the accepted version when a candidate is not accepted. Default: on.
    pub auto_rollback: bool,
    /// Whether the scope and the size of edits are checked. Default: on.
    pub safety_checks_enabled: bool,
    /// The lowest safety score that is accepted, 0 to 1. Default 0.8: two regressions of medium severity or one of high
    /// severity are the most that it lets through where `reject_severity` does.
    pub minimum_safety_score: f64,
    /// The lowest severity of a regression that rejects a version. Default `low`: only a version that is measurably no worse
    /// stays.
    pub reject_severity: Severity,
    /// The lowest severity of a regression that rolls a version back. Default `critical`, the published rule.
    pub rollback_severity: Severity,
    /// Conditions on single metrics: how much each counts (`mode`), and limits for its mean (`max`, `min`). Default: none; every
    /// metric decides.
    pub metric_conditions: BTreeMap<MetricName, MetricCondition>,
    /// What becomes of a candidate that the evidence does not decide. Default `hold`.
    pub on_inconclusive: OnInconclusive,
    /// How often an evaluation is made again that could not be made because of its surroundings, 0 to 100. Default 2. A
    /// verdict, such as a failed test, a crash or a time-out of the candidate, is never asked for again.
    pub max_evaluation_retries: u32,
    /// Whether a version is accepted only once a second evaluation with fresh samples comes to the same. Until then it is not
    /// known to be good, and a rollback goes to the version before it. Default: off, since it doubles what an acceptance costs;
    /// it takes out what the first samples had in their favour by chance.
    pub confirm_acceptance: bool,
    /// The checkpoint store.
    pub checkpoints: CheckpointSettings,
    /// Rollbacks.
    pub rollback: RollbackSettings,
    /// Regression detection.
    pub regression: RegressionSettings,
}

impl Default for SafetySettings {
    fn default() -> Self {
        let PolicyThresholds {
            minimum_safety_score,
            reject_severity,
            rollback_severity,
            on_inconclusive,
            ..
        } = PolicyThresholds::default();
        Self {
            auto_checkpoint: true,
            auto_rollback: true,
            safety_checks_enabled: true,
            minimum_safety_score,
            reject_severity,
            rollback_severity,
            metric_conditions: BTreeMap::new(),
            on_inconclusive,
            max_evaluation_retries: 2,
            confirm_acceptance: false,
            checkpoints: CheckpointSettings::default(),
            rollback: RollbackSettings::default(),
            regression: RegressionSettings::default(),
        }
    }
}

/// When a version counts as improved: the section `validation`, with the published keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationSettings {
    /// Whether a version must improve the objective, where there is one. Default: on.
    pub enabled: bool,
    /// How sure the improvement must be, 0 to 100. Default 70, the published value; the verdict must be "improved" besides.
    pub min_improvement_score: f64,
    /// The confidence level of the intervals that verdicts rest on, a probability. Default 0.95. It stands before
    /// `safety.regression.statistical_analysis.confidence_level` where that has its default.
    pub confidence_level: f64,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        Self { enabled: true, min_improvement_score: 70.0, confidence_level: 0.95 }
    }
}

impl SafetySettings {
    /// Whether the numbers that only the loop uses lie in their ranges.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) with the key.
    pub fn check(&self) -> crate::Result<()> {
        if self.max_evaluation_retries > RETRIES_MAX {
            return Err(crate::Error::Invalid {
                what: "safety.max_evaluation_retries".to_owned(),
                reason: format!("{} is more than {RETRIES_MAX}", self.max_evaluation_retries),
            });
        }
        Ok(())
    }

    /// The thresholds of the decision.
    pub fn policy(&self, validation: &ValidationSettings) -> PolicyThresholds {
        PolicyThresholds {
            minimum_safety_score: self.minimum_safety_score,
            reject_severity: self.reject_severity,
            rollback_severity: self.rollback_severity,
            on_inconclusive: self.on_inconclusive,
            require_improvement: validation.enabled,
            min_improvement_score: validation.min_improvement_score,
        }
    }

    /// The standard policy with these thresholds and conditions.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for what lies outside its range.
    pub fn decision_policy(&self, validation: &ValidationSettings) -> crate::Result<StandardPolicy> {
        StandardPolicy::new(self.policy(validation))?.with_conditions(self.metric_conditions.clone())
    }

    /// The settings of the detector, with the confidence level of `validation` where the detector's own has its default.
    pub fn detector(&self, validation: &ValidationSettings) -> RegressionSettings {
        let mut regression = self.regression.clone();
        if regression.statistical_analysis == StatisticalSettings::default() {
            regression.statistical_analysis.confidence_level = validation.confidence_level;
        }
        regression
    }
}

impl From<&SafetySettings> for SafetySwitches {
    fn from(settings: &SafetySettings) -> Self {
        Self {
            auto_checkpoint: settings.auto_checkpoint,
            auto_rollback: settings.auto_rollback,
            safety_checks_enabled: settings.safety_checks_enabled,
            auto_cleanup: settings.checkpoints.auto_cleanup,
            max_checkpoints: usize::try_from(settings.checkpoints.max_checkpoints).unwrap_or(usize::MAX),
            keep_more: settings.checkpoints.retention(),
            max_store_bytes: settings.checkpoints.max_store_bytes,
        }
    }
}
