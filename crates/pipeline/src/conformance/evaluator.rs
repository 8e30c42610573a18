//! The contract of [`Evaluator`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use evoseal_safety::Subject;
use evoseal_types::{MetricSamples, TestStatus, VersionId};

use super::{Verdict, ensure, suite, wrong};
use crate::{Evaluation, EvaluationRequest, Evaluator, VersionInPlace};

/// What a fixture lays out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A version whose tests pass.
    Good,
    /// A version that does not build, crashes, or fails a test.
    Broken,
}

/// Lays a version out in an empty directory and makes an evaluator for it.
pub type Fixture<'a> = &'a dyn Fn(&Path, Version) -> Box<dyn Evaluator>;

suite! { $ evaluator_conformance evaluator Fixture<'_>,
    finds_tests_that_pass_in_a_good_version
    never_leaves_out_what_is_wrong_with_a_broken_version
    measures_no_incumbent_where_there_is_none
    measures_both_versions_alike
    contradicts_itself_nowhere
    runs_tests_again_and_says_when_it_has_enough
    measures_again_what_it_says_it_can
    can_be_dropped_and_asked_again
}

/// A candidate, an incumbent and a run directory.
struct Scene {
    folder: tempfile::TempDir,
    evaluator: Box<dyn Evaluator>,
}

impl Scene {
    fn new(fixture: Fixture<'_>, candidate: Version) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(wrong)?;
        for name in ["candidate", "incumbent", "run"] {
            fs::create_dir(folder.path().join(name)).map_err(wrong)?;
        }
        fixture(&folder.path().join("incumbent"), Version::Good);
        let evaluator = fixture(&folder.path().join("candidate"), candidate);
        Ok(Self { folder, evaluator })
    }

    fn request(&self, with_incumbent: bool) -> Result<EvaluationRequest, String> {
        let version = |name: &str| -> Result<VersionInPlace, String> {
            let version_id = VersionId::new(name).map_err(wrong)?;
            Ok(VersionInPlace { version_id, directory: self.folder.path().join(name) })
        };
        Ok(EvaluationRequest {
            candidate: version("candidate")?,
            incumbent: if with_incumbent { Some(version("incumbent")?) } else { None },
            iteration: u64::from(with_incumbent),
            tolerated: Vec::new(),
            run_directory: self.folder.path().join("run"),
        })
    }

    async fn evaluate(&self, with_incumbent: bool) -> Result<Evaluation, String> {
        self.evaluator.evaluate(&self.request(with_incumbent)?).await.map_err(wrong)
    }
}

/// Whether everything that ran passed, and something did.
fn passes(evaluation: &Evaluation) -> bool {
    let reports = &evaluation.test_results;
    let all = reports.iter().all(|report| report.status == TestStatus::Pass && report.check().is_ok());
    all && reports.iter().any(|report| report.tests_run > 0) && evaluation.faults.is_empty()
}

/// A good version has tests, and they pass.
pub async fn finds_tests_that_pass_in_a_good_version(fixture: Fixture<'_>) -> Verdict {
    let evaluation = Scene::new(fixture, Version::Good)?.evaluate(true).await?;
    ensure(passes(&evaluation), || format!("of a good version it says {evaluation:?}"))
}

/// A fault, or a report that says so; an error is allowed, since it is a failed iteration.
pub async fn never_leaves_out_what_is_wrong_with_a_broken_version(fixture: Fixture<'_>) -> Verdict {
    let Ok(evaluation) = Scene::new(fixture, Version::Broken)?.evaluate(true).await else { return Ok(()) };
    ensure(!passes(&evaluation), || format!("of a broken version it says {evaluation:?}"))
}

/// Without an incumbent nothing is said about one.
pub async fn measures_no_incumbent_where_there_is_none(fixture: Fixture<'_>) -> Verdict {
    let evaluation = Scene::new(fixture, Version::Good)?.evaluate(false).await?;
    let said = &evaluation.incumbent_metrics;
    ensure(said.is_empty() && !evaluation.paired, || format!("without an incumbent it says {said:?}"))
}

/// With an incumbent both have the same metrics, and as many samples each where they are paired.
pub async fn measures_both_versions_alike(fixture: Fixture<'_>) -> Verdict {
    let evaluation = Scene::new(fixture, Version::Good)?.evaluate(true).await?;
    if evaluation.incumbent_metrics.is_empty() {
        // It measures candidates only; the comparison is then with the incumbent's earlier measurements.
        return ensure(!evaluation.paired, || "it claims pairs and measured one side".to_owned());
    }
    let shape = |metrics: &[MetricSamples]| -> Vec<_> {
        let of = |metric: &MetricSamples| {
            (
                metric.spec.name.clone(),
                metric.spec.direction,
                evaluation.paired.then_some(metric.samples.len()),
            )
        };
        let mut shape: Vec<_> = metrics.iter().map(of).collect();
        shape.sort();
        shape
    };
    let (candidate, incumbent) = (shape(&evaluation.metrics), shape(&evaluation.incumbent_metrics));
    ensure(candidate == incumbent, || format!("it measured {candidate:?} beside {incumbent:?}"))
}

/// Counts add up, and no metric stands twice.
pub async fn contradicts_itself_nowhere(fixture: Fixture<'_>) -> Verdict {
    for version in [Version::Good, Version::Broken] {
        let Ok(evaluation) = Scene::new(fixture, version)?.evaluate(true).await else { continue };
        for report in &evaluation.test_results {
            report.check().map_err(wrong)?;
        }
        for metrics in [&evaluation.metrics, &evaluation.incumbent_metrics] {
            let names: BTreeSet<_> = metrics.iter().map(|metric| &metric.spec.name).collect();
            ensure(names.len() == metrics.len(), || format!("a metric stands twice in {metrics:?}"))?;
        }
    }
    Ok(())
}

/// What comes of running tests again adds up, on either version, and there is an end to it.
pub async fn runs_tests_again_and_says_when_it_has_enough(fixture: Fixture<'_>) -> Verdict {
    let scene = Scene::new(fixture, Version::Broken)?;
    let request = scene.request(true)?;
    for subject in [Subject::Incumbent, Subject::Candidate] {
        // An error is allowed: the failure stands then.
        if let Ok(Some(reports)) = scene.evaluator.retest(&request, subject, 1).await {
            for report in reports {
                report.check().map_err(wrong)?;
            }
        }
        let again = scene.evaluator.retest(&request, subject, u32::MAX).await;
        ensure(!matches!(again, Ok(Some(_))), || format!("it never has enough of testing the {subject}"))?;
    }
    Ok(())
}

/// Who says that both versions can be measured again gives samples of both, of the same metrics, and tests nothing; whoever does not
/// is not asked.
pub async fn measures_again_what_it_says_it_can(fixture: Fixture<'_>) -> Verdict {
    let scene = Scene::new(fixture, Version::Good)?;
    let first = scene.evaluate(true).await?;
    if !first.can_measure_again {
        return Ok(());
    }
    let again = scene.evaluator.measure_again(&scene.request(true)?, 2).await.map_err(wrong)?;
    let again = again.ok_or("it said that it could, and could not")?;
    let names = |metrics: &[MetricSamples]| -> BTreeSet<_> {
        let measured = metrics.iter().filter(|metric| !metric.samples.is_empty());
        measured.map(|metric| metric.spec.name.clone()).collect()
    };
    let (wanted, candidate) = (names(&first.metrics), names(&again.metrics));
    let incumbent = names(&again.incumbent_metrics);
    ensure(candidate == wanted && incumbent == wanted, || {
        format!("measured again it gives {candidate:?} beside {incumbent:?}, not {wanted:?}")
    })?;
    ensure(again.test_results.is_empty(), || "it tested as well".to_owned())
}

/// A dropped evaluation does not get into the way of the next.
pub async fn can_be_dropped_and_asked_again(fixture: Fixture<'_>) -> Verdict {
    let scene = Scene::new(fixture, Version::Good)?;
    let request = scene.request(true)?;
    {
        let mut evaluating = std::pin::pin!(scene.evaluator.evaluate(&request));
        let _ =
            std::future::poll_fn(|task| std::task::Poll::Ready(evaluating.as_mut().poll(task).is_ready()))
                .await;
    }
    let evaluation = scene.evaluate(true).await?;
    ensure(passes(&evaluation), || format!("after a dropped evaluation it says {evaluation:?}"))
}
