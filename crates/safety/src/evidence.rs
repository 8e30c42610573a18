//! Everything that a decision is based on.

use std::fmt;

use evoseal_regression::{Assessment, Measurements};
use evoseal_sandbox::{Violation, ViolationKind};
use evoseal_types::{MetricSamples, Objective, TestReport, TestStatus, VersionId};
use serde::{Deserialize, Serialize};

use crate::{CheckResult, NamedTest, PersonsDecision, RetestedTest, TestChanges};

/// What happened while a version was evaluated that keeps its results from counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationFault {
    /// What kind of fault.
    pub kind: FaultKind,
    /// In which step: `build`, `test`, `measure`, or a name of the evaluator's.
    pub stage: String,
    /// Whose evaluation it was: the incumbent's faults say nothing about the candidate, but leave nothing to compare.
    pub subject: Subject,
    /// What was said, cut to a bounded length.
    pub message: String,
}

impl EvaluationFault {
    /// Whether the surroundings are to blame rather than the candidate: a step could not be started, or it was the incumbent
    /// that did not get through. Trying again may help then. A crash, a time-out or a failed build of the candidate is a
    /// verdict, and trying again until it passes would be a way around it.
    pub fn is_environmental(&self) -> bool {
        self.kind == FaultKind::NotRun || self.subject == Subject::Incumbent
    }
}

/// The kinds of [`EvaluationFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A step exited with a failure where only success counts, such as a build.
    Failed,
    /// A step ran out of time.
    TimedOut,
    /// A step was ended by a signal.
    Crashed,
    /// What a step printed or wrote cannot be read, or contradicts itself.
    Unreadable,
    /// A step could not be started: a missing program, no space, no permission.
    NotRun,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Crashed => "crashed",
            Self::Unreadable => "gave unreadable results",
            Self::NotRun => "could not be run",
        })
    }
}

/// Which of the two versions of a comparison is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The version that is judged.
    Candidate,
    /// The accepted version that it is compared with.
    Incumbent,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Candidate => "candidate",
            Self::Incumbent => "incumbent",
        })
    }
}

/// A wish to judge a version: who it is, what it is compared with, and what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationRequest {
    /// The accepted version; `None` where the very first version is judged by itself.
    pub current_version_id: Option<VersionId>,
    /// The version that is judged.
    pub new_version_id: VersionId,
    /// What was observed.
    pub observations: Observations,
    /// What the run tries to improve, if it says so.
    pub objective: Option<Objective>,
}

/// What guards, tests and measurements said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// Objections of guards to the edit.
    pub violations: Vec<Violation>,
    /// What went wrong while evaluating.
    pub faults: Vec<EvaluationFault>,
    /// Test results of the candidate.
    pub test_results: Vec<TestReport>,
    /// Test results of the incumbent, where known: a test that passed there must not be missing now.
    pub incumbent_test_results: Vec<TestReport>,
    /// Measurements of the candidate.
    pub metrics: Vec<MetricSamples>,
    /// Measurements of the incumbent, made beside those of the candidate.
    pub incumbent_metrics: Vec<MetricSamples>,
    /// Whether sample `i` of one side was measured right beside sample `i` of the other.
    pub paired: bool,
    /// Checks of the candidate besides its tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// Tests that failed on the candidate and were run again on both versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retests: Vec<RetestedTest>,
    /// Tests that were found to be flaky on an accepted version before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<NamedTest>,
    /// What a person has decided about a version with the very same tree. One that was rejected or held is not evaluated
    /// again; an approval answers where the evidence does not decide, and overrules none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonsDecision>,
}

impl Observations {
    /// Whether there was an evaluation, whatever came of it: without one there is at most what kept it from being made.
    pub fn is_evaluated(&self) -> bool {
        let before_it = |fault: &EvaluationFault| fault.stage == "propose" || fault.stage == "checkpoint";
        !self.test_results.is_empty()
            || !self.metrics.is_empty()
            || self.faults.iter().any(|fault| !before_it(fault))
    }

    /// Whether the candidate touched what judges it: a guard says so, or tests that passed before are gone although
    /// everything that ran passes. What else was observed does not count then.
    pub fn is_tampered(&self) -> bool {
        let all_pass = !self.test_results.is_empty()
            && self.test_results.iter().all(|report| report.status == TestStatus::Pass);
        self.violations.iter().any(|violation| violation.kind == ViolationKind::Tampered)
            || (all_pass
                && !TestChanges::between(&self.incumbent_test_results, &self.test_results).is_empty())
    }
}

/// The input of a [`DecisionPolicy`](crate::DecisionPolicy): the observations and what the detector made of them.
///
/// It suffices by itself: the measurements give the judgement again, and request and judgement the decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was asked.
    pub request: ValidationRequest,
    /// What the detector was given: observations, history and baselines; `None` where it was not asked.
    pub measurements: Option<Measurements>,
    /// What the detector said.
    pub judgement: Judgement,
}

/// What the detector said about the measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// It compared them.
    Assessed(Assessment),
    /// It was not asked: harder evidence stands against the version already, or there is no incumbent.
    NotAsked,
    /// It failed. This is never "no regression".
    Failed(String),
}

impl Judgement {
    /// The assessment, if there is one.
    pub fn assessment(&self) -> Option<&Assessment> {
        match self {
            Self::Assessed(assessment) => Some(assessment),
            Self::NotAsked | Self::Failed(_) => None,
        }
    }
}
