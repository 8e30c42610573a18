//! Checks besides the tests, and conditions on single metrics: what decides, what warns, and what is only recorded.

use evoseal_types::MetricSamples;
use serde::{Deserialize, Serialize};

use crate::{Error, Outcome, Result};

/// How much a check or a metric counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It decides.
    #[default]
    Required,
    /// It warns: the decision names it, and is what it would have been without it.
    Wanted,
    /// It is recorded, and no more: for trying out what is to decide later.
    DryRun,
}

impl Mode {
    /// What an objection of this mode comes to; `None` where it is not even named.
    pub(crate) fn weigh(self, outcome: Outcome) -> Option<Outcome> {
        match self {
            Self::Required => Some(outcome),
            Self::Wanted => Some(Outcome::Accept),
            Self::DryRun => None,
        }
    }
}

/// How a check ended on the candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// How much it counts.
    pub mode: Mode,
    /// Whether the candidate passes it.
    pub passed: bool,
    /// Whether the incumbent passes it; `None` where that was not looked at, as when the candidate passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incumbent_passed: Option<bool>,
    /// Why the candidate does not pass it, cut to a bounded length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl CheckResult {
    /// The failure in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let why =
            self.message.as_deref().and_then(|message| message.lines().find(|line| !line.trim().is_empty()));
        let why = why.map_or(String::new(), |why| format!(": {}", why.trim()));
        let word = if self.mode == Mode::Wanted { "wanted check" } else { "check" };
        let before = match self.incumbent_passed {
            Some(false) => " (it fails on the accepted version too)",
            Some(true) => " (the accepted version passes it)",
            None => "",
        };
        format!("{word} {} failed{before}{why}", self.name)
    }
}

/// A condition on one metric, besides the comparison with the incumbent.
///
/// ```
/// use evoseal_safety::{MetricCondition, Mode};
///
/// let condition: MetricCondition = serde_json::from_str(r#"{ "mode": "wanted", "max": 250.0 }"#)?;
/// assert_eq!((condition.mode, condition.max, condition.min), (Mode::Wanted, Some(250.0), None));
/// assert!(MetricCondition { max: Some(1.0), min: Some(2.0), ..condition }.check().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricCondition {
    /// How much the metric counts, in the comparison with the incumbent and here. Default `required`.
    pub mode: Mode,
    /// The highest mean of the candidate's samples, in the metric's unit. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The lowest mean, in the metric's unit. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

impl MetricCondition {
    /// Whether some mean can fulfil it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for limits that are no numbers, or of which the lower is above the upper.
    pub fn check(&self) -> Result<()> {
        let invalid = |reason: String| Error::Invalid { what: "metric condition".to_owned(), reason };
        if [self.max, self.min].into_iter().flatten().any(|limit| !limit.is_finite()) {
            return Err(invalid("a limit must be a finite number".to_owned()));
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => {
                Err(invalid(format!("the lowest value {min} is above the highest {max}")))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with these samples, if anything is. Samples that are no numbers are another rule's matter.
    pub(crate) fn broken_by(&self, metric: &MetricSamples) -> Option<String> {
        let values = metric.values();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (name, unit) = (&metric.spec.name, metric.spec.unit.as_str());
        // Six digits are enough to see by how much.
        let shown = format!("{mean:.5e}").parse().unwrap_or(mean);
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match (self.min, self.max) {
            (_, Some(max)) if mean > max => {
                Some(format!("{name} is {shown}{unit} on average; at most {max}{unit} is allowed"))
            }
            (Some(min), _) if mean < min => {
                Some(format!("{name} is {shown}{unit} on average; at least {min}{unit} is needed"))
            }
            _ => None,
        }
    }

    /// Whether it has a limit.
    pub(crate) fn has_limit(&self) -> bool {
        self.max.is_some() || self.min.is_some()
    }
}
