//! How a loop deals with candidates that the evidence does not decide, and with evaluations that could not be made.

use evoseal_safety::{OnInconclusive, SafetySettings};
use serde::{Deserialize, Serialize};

/// What follows from decisions and failures that are no verdict on a candidate.
///
/// ```
/// use evoseal_pipeline::LoopRules;
/// use evoseal_safety::{OnInconclusive, SafetySettings};
///
/// let settings = SafetySettings { on_inconclusive: OnInconclusive::Ask, ..SafetySettings::default() };
/// let rules = LoopRules::from(&settings);
/// assert_eq!((rules.on_inconclusive, rules.max_evaluation_retries), (OnInconclusive::Ask, 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoopRules {
    /// Whether an undecided candidate ends the run until a person has decided. It is held in any case.
    pub on_inconclusive: OnInconclusive,
    /// How often an evaluation is made again that could not be made because of its surroundings. Default 2.
    pub max_evaluation_retries: u32,
    /// Whether an acceptance needs a second evaluation with fresh samples. Default: no.
    pub confirm_acceptance: bool,
}

impl Default for LoopRules {
    fn default() -> Self {
        Self::from(&SafetySettings::default())
    }
}

impl From<&SafetySettings> for LoopRules {
    fn from(settings: &SafetySettings) -> Self {
        Self {
            on_inconclusive: settings.on_inconclusive,
            max_evaluation_retries: settings.max_evaluation_retries,
            confirm_acceptance: settings.confirm_acceptance,
        }
    }
}
