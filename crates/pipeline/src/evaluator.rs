//! Whoever tests and measures a version.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_safety::{CheckResult, EvaluationFault, NamedTest, Subject};
use evoseal_types::{MetricSamples, TestReport, TestStatus, VersionId};
use serde::{Deserialize, Serialize};

use crate::Result;

/// A version that is laid out in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInPlace {
    /// The version.
    pub version_id: VersionId,
    /// The directory that holds it. Ignored files, such as build caches, may lie there from earlier evaluations.
    pub directory: PathBuf,
}

/// What is to be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationRequest {
    /// The version to test and measure.
    pub candidate: VersionInPlace,
    /// The version to measure beside it; `None` when the first version is evaluated by itself.
    pub incumbent: Option<VersionInPlace>,
    /// The iteration; 0 for the first version.
    pub iteration: u64,
    /// A folder of the run, outside both versions, where the evaluator may leave files.
    pub run_directory: PathBuf,
    /// Tests whose failure does not keep the evaluation from going on: they are known to be flaky on the accepted version. They
    /// are run and reported like any other.
    pub tolerated: Vec<NamedTest>,
}

impl EvaluationRequest {
    /// Whether all that is wrong with a report are failures of tests that are tolerated.
    ///
    /// ```
    /// # use evoseal_pipeline::{EvaluationRequest, VersionInPlace};
    /// use evoseal_safety::NamedTest;
    /// use evoseal_types::{TestCase, TestReport, TestStatus};
    ///
    /// # let version = VersionInPlace { version_id: "v1".parse()?, directory: "/workspace".into() };
    /// let request = EvaluationRequest {
    ///     tolerated: vec![NamedTest { test_type: "unit".to_owned(), name: "sends".to_owned() }],
    /// #     candidate: version, incumbent: None, iteration: 1, run_directory: "/run".into(),
    /// };
    /// let case = |name: &str| TestCase { name: name.to_owned(), status: TestStatus::Fail, message: None };
    /// assert!(request.tolerates(&TestReport::from_cases("unit", vec![case("sends")])));
    /// assert!(!request.tolerates(&TestReport::from_cases("unit", vec![case("sends"), case("adds")])));
    /// # Ok::<(), evoseal_types::Error>(())
    /// ```
    pub fn tolerates(&self, report: &TestReport) -> bool {
        let failed = |status| matches!(status, TestStatus::Fail | TestStatus::Error);
        let failures: Vec<_> = report.cases.iter().filter(|case| failed(case.status)).collect();
        let is_tolerated = |name: &str| {
            self.tolerated.iter().any(|test| test.test_type == report.test_type && test.name == name)
        };
        !failures.is_empty()
            && failures.len() as u64 == report.tests_failed.saturating_add(report.tests_errors)
            && failures.iter().all(|case| is_tolerated(&case.name))
    }
}

/// What was observed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Test results of the candidate.
    pub test_results: Vec<TestReport>,
    /// Checks of the candidate besides its tests.
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    /// Measurements of the candidate.
    pub metrics: Vec<MetricSamples>,
    /// Measurements of the incumbent; empty if there was none.
    pub incumbent_metrics: Vec<MetricSamples>,
    /// Whether sample `i` of one side was measured right beside sample `i` of the other.
    pub paired: bool,
    /// What kept results from counting. An evaluation that could not be finished is not an error but a fault here.
    pub faults: Vec<EvaluationFault>,
}

/// Tests and measures versions.
///
/// # Contract
///
/// - *Complete.* A step that failed, crashed or ran out of time is a fault or a test report that says so, never left out.
///   After a failed step the later ones may be skipped.
/// - *Side by side.* With an incumbent, both are measured in turns under the same conditions, so that the machine's drift
///   cancels.
/// - *Read only.* The evaluator may leave build output in the two directories, but no entry that a checkpoint captures
///   counts: the pipeline restores what it finds changed.
/// - *Tests can be run again.* `retest` runs no more than the tests, of the version that is meant, and at some attempt has had
///   enough.
/// - *Cancel safety.* The returned future may be dropped at any time; no process it started survives.
/// - *Errors* mean that the evaluation could not be made at all; they are failed iterations.
#[async_trait]
pub trait Evaluator: fmt::Debug + Send + Sync {
    /// Evaluates.
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation>;

    /// Runs the tests of one of the two versions once more, because some failed on the candidate: to tell failures from tests
    /// that are flaky. `attempt` counts from 1 for each version. `None` if it cannot, or has been tried often enough: the
    /// failure stands then, which is what an evaluator says that does not know better.
    async fn retest(
        &self,
        request: &EvaluationRequest,
        subject: Subject,
        attempt: u32,
    ) -> Result<Option<Vec<TestReport>>> {
        let _ = (request, subject, attempt);
        Ok(None)
    }
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_evaluator {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<E: Evaluator + ?Sized> Evaluator for $pointer<E> {
            async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
                (**self).evaluate(request).await
            }

            async fn retest(
                &self,
                request: &EvaluationRequest,
                subject: Subject,
                attempt: u32,
            ) -> Result<Option<Vec<TestReport>>> {
                (**self).retest(request, subject, attempt).await
            }
        }
    };
}

forward_evaluator!(Arc);
forward_evaluator!(Box);
