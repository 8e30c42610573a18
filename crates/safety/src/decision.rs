//! The decision on a version, and why.

use std::fmt;

use evoseal_types::{MetricName, Severity};
use serde::{Deserialize, Serialize};

use crate::{Evidence, TestChanges};

/// What to do with a candidate, the mildest first: where several reasons speak, the harshest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It becomes the incumbent.
    Accept,
    /// The evidence does not decide; the candidate does not become the incumbent. It is kept, for a person to look at.
    Inconclusive,
    /// The evaluation could not be made, which says nothing about the candidate; it does not become the incumbent.
    Error,
    /// It does not become the incumbent.
    Reject,
    /// It must not stay in the workspace.
    RollBack,
    /// It touched what judges it, so that nothing that was observed of it counts; it must not stay in the workspace.
    Tampered,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accept => "accept",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
            Self::Reject => "reject",
            Self::RollBack => "roll back",
            Self::Tampered => "tampered",
        })
    }
}

/// The rule by which a reason speaks. Rules are ordered as they are asked: hard evidence first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A person has decided about a version with the same tree.
    Overridden,
    /// The edit touched what judges it.
    Tampered,
    /// The edit left its scope or is too large.
    EditNotAllowed,
    /// The evaluation crashed, timed out, did not build, or gave unreadable results.
    EvaluationFault,
    /// There are no test results at all.
    NoTestResults,
    /// A test report contradicts itself.
    TestReportInvalid,
    /// The test command ended in an error.
    TestsErrored,
    /// A test failed.
    TestsFailed,
    /// The test command ran no test.
    NoTestsRun,
    /// A test that passed in the incumbent is gone or no longer runs.
    TestsMissing,
    /// A test failed that is flaky on the accepted version too.
    FlakyTests,
    /// A check besides the tests failed.
    CheckFailed,
    /// The detector failed.
    DetectorFailed,
    /// A metric is missing, non-finite or has too few samples.
    MetricUnusable,
    /// A metric is measurably worse.
    Regression,
    /// A metric is beyond a limit of its own, whatever the incumbent's is.
    MetricLimit,
    /// The safety score is below its minimum.
    SafetyScore,
    /// The measurements do not say whether a metric is worse.
    Inconclusive,
    /// The objective did not measurably improve.
    NoImprovement,
    /// Nothing stands against the version.
    NoObjection,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Overridden => "overridden",
            Self::Tampered => "tampered",
            Self::EditNotAllowed => "edit not allowed",
            Self::EvaluationFault => "evaluation fault",
            Self::NoTestResults => "no test results",
            Self::TestReportInvalid => "test report invalid",
            Self::TestsErrored => "tests errored",
            Self::TestsFailed => "tests failed",
            Self::NoTestsRun => "no tests run",
            Self::TestsMissing => "tests missing",
            Self::FlakyTests => "flaky tests",
            Self::CheckFailed => "check failed",
            Self::DetectorFailed => "detector failed",
            Self::MetricUnusable => "metric unusable",
            Self::Regression => "regression",
            Self::MetricLimit => "metric limit",
            Self::SafetyScore => "safety score",
            Self::Inconclusive => "inconclusive",
            Self::NoImprovement => "no improvement",
            Self::NoObjection => "no objection",
        })
    }
}

/// One reason for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// By which rule.
    pub rule: Rule,
    /// What the rule alone would do.
    pub outcome: Outcome,
    /// One sentence for people.
    pub message: String,
}

/// The published safety score, term by term.
///
/// `score = clamp(test_pass_rate * max(0, 1 - sum of penalties), 0, 1)`, where a regression costs 0.4 if critical, 0.2 if
/// high, 0.1 if medium and 0.05 if low. A version without a single test that ran has a pass rate of 0.
///
/// Where nothing that was observed counts there is no score: it is 0 then, and `no_data` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SafetyScore {
    /// The result, 0 to 1.
    pub score: f64,
    /// Why there is no score, in a few words; `None` where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<String>,
    /// Passed tests over tests that ran, 0 to 1.
    pub test_pass_rate: f64,
    /// One term per regression, in the order of the assessment.
    pub penalties: Vec<Penalty>,
}

impl SafetyScore {
    /// No score, and why there is none.
    pub fn none(why: impl Into<String>) -> Self {
        Self { score: 0.0, no_data: Some(why.into()), test_pass_rate: 0.0, penalties: Vec::new() }
    }
}

/// What one regression takes from the safety score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Penalty {
    /// The metric that got worse.
    pub metric: MetricName,
    /// How bad.
    pub severity: Severity,
    /// What it costs.
    pub penalty: f64,
}

/// What to do with a version, and every reason for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub outcome: Outcome,
    /// The rule that decided: the first reason with the decided outcome.
    pub decided_by: Rule,
    /// Every reason, in the order of the rules; never empty.
    pub reasons: Vec<Reason>,
    /// The safety score.
    pub safety_score: SafetyScore,
    /// The tests by name that the candidate lost against the incumbent, all of them.
    #[serde(default, skip_serializing_if = "TestChanges::is_empty")]
    pub test_changes: TestChanges,
    /// How sure it is that the objective improved, 0 to 100 (50: no sign either way); `None` without an objective or an
    /// assessment.
    pub improvement_score: Option<f64>,
    /// Whether the objective is measurably better than the incumbent's; `None` without an objective or an assessment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_improved: Option<bool>,
}

impl Decision {
    /// The reasons in one line.
    pub fn summary(&self) -> String {
        self.reasons.iter().map(|reason| reason.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Turns evidence into a decision.
///
/// # Contract
///
/// - *Pure.* Equal evidence gives an equal decision, byte for byte when serialised.
/// - *Fails closed.* Evidence that is missing, contradictory or unusable is a reason against the version, each with its
///   own [`Rule`]; [`Outcome::Accept`] needs at least one test that ran, and all of them passed.
/// - *Explained.* Every objection is listed, not only the one that decided.
pub trait DecisionPolicy: fmt::Debug + Send + Sync {
    /// Decides.
    fn decide(&self, evidence: &Evidence) -> Decision;
}

impl<P: DecisionPolicy + ?Sized> DecisionPolicy for std::sync::Arc<P> {
    fn decide(&self, evidence: &Evidence) -> Decision {
        (**self).decide(evidence)
    }
}

impl<P: DecisionPolicy + ?Sized> DecisionPolicy for Box<P> {
    fn decide(&self, evidence: &Evidence) -> Decision {
        (**self).decide(evidence)
    }
}
