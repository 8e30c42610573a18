//! The version to start from is evaluated like any candidate: what its surroundings kept from being made is made again, and
//! flaky tests are told from failures.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use evoseal_pipeline::{
    Cancellation, Error, Evaluation, EvaluationRequest, Evaluator, EvolutionPipeline, IterationOutcome,
    JournalEntry, LoopRules, MaxEvaluations, PipelineParts, Result, StopReason,
};
use evoseal_safety::{Observations, Rule, Subject};
use evoseal_testkit::{Fault, ScriptedEvaluator, Step};
use evoseal_types::{ErrorClass, TestReport};
use support::{Scene, iterations};

/// A workspace that starts from this program.
fn starting_from(program: &str, script: impl IntoIterator<Item = Step>) -> Scene {
    let scene = Scene::new(script);
    scene.write("program.txt", program);
    scene
}

/// What was observed of the version that was started from.
fn observed(scene: &Scene) -> Observations {
    scene.state().baselines[0].observations.clone()
}

fn quarantined(scene: &Scene) -> Vec<String> {
    scene.state().quarantined.into_keys().map(|test| test.name).collect()
}

/// How many failed evaluations are on record.
fn failed(scene: &Scene) -> usize {
    let is_one = |entry: &&JournalEntry| matches!(entry, JournalEntry::EvaluationFailed { iteration: 0, .. });
    scene.journal().iter().filter(is_one).count()
}

#[tokio::test]
async fn an_evaluation_that_its_surroundings_kept_from_being_made_is_made_again() {
    let scene = starting_from("time=100 starve=2", [Step::Write("time=90")]);
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    assert_eq!(report.results[0].outcome, IterationOutcome::Accepted);
    assert_eq!(scene.evaluator.calls(), ["v0", "v0", "v0", "v1"]);
    assert_eq!(failed(&scene), 2, "both are on record");
    assert_eq!(observed(&scene).faults, [], "what came of the last one counts");
}

#[tokio::test]
async fn an_evaluator_that_fails_once_is_asked_again() {
    let undisturbed = starting_from("time=100", []);
    undisturbed.faults.disarm();
    undisturbed.pipeline().run(iterations(0)).await.unwrap();
    let at = undisturbed.faults.steps().iter().position(|step| step == "evaluate").unwrap();
    let scene = starting_from("time=100", []);
    scene.faults.arm(at, Fault::Once);
    scene.pipeline().run(iterations(0)).await.unwrap();
    assert_eq!((scene.evaluator.calls().len(), failed(&scene)), (2, 1));
}

#[tokio::test]
async fn it_is_made_again_so_often_and_not_more_and_the_error_says_that_it_is_no_verdict() {
    for retries in [0, 1, 3] {
        let scene = starting_from("time=100 starve=9", []);
        let rules = LoopRules { max_evaluation_retries: retries, ..LoopRules::default() };
        let run = async || scene.builder().rules(rules).build().run(iterations(1)).await;
        let error = run().await.unwrap_err();
        let Error::BaselineNotEvaluated { reason } = &error else { panic!("{error:?}") };
        assert!(reason.contains("no space left on device"), "{reason}");
        assert_eq!(error.class(), ErrorClass::Environment);
        assert_eq!(scene.evaluator.calls().len(), 1 + retries as usize);
        // Whoever starts again has put something right, and gets as many tries.
        run().await.unwrap_err();
        assert_eq!(scene.evaluator.calls().len(), 2 * (1 + retries as usize));
        assert!(scene.state().incumbent.is_none());
    }
}

#[tokio::test]
async fn a_verdict_on_the_version_to_start_from_is_not_asked_for_again() {
    for program in ["time=100 fail=1", "time=100 crash", "time=100 test:a=f"] {
        let scene = starting_from(program, []);
        let error = scene.pipeline().run(iterations(1)).await.unwrap_err();
        assert!(matches!(error, Error::BaselineFailed { .. }), "{program}: {error:?}");
        let evaluated = scene.evaluator.calls().iter().filter(|call| *call == "v0").count();
        assert_eq!((evaluated, failed(&scene)), (1, 0), "{program}");
    }
}

#[tokio::test]
async fn what_evaluations_that_failed_left_behind_is_no_part_of_the_version() {
    let scene = starting_from("time=100 starve=1 drop", []);
    scene.pipeline().run(iterations(0)).await.unwrap();
    assert!(!scene.folder.path().join("dropping.txt").exists());
    scene.assert_at_incumbent("after an evaluation that was made again");
}

#[tokio::test]
async fn evaluations_of_the_version_to_start_from_that_failed_count_for_the_limit() {
    let scene = starting_from("time=100 starve=2", [Step::Write("time=90"), Step::Write("time=80")]);
    let pipeline = scene.builder().stop_condition(Arc::new(MaxEvaluations(4))).build();
    let report = pipeline.run(iterations(2)).await.unwrap();
    assert_eq!(report.stop_reason, StopReason::EvaluationsSpent { limit: 4 });
    assert_eq!(report.results.len(), 1);
}

#[tokio::test]
async fn a_test_that_flips_on_the_version_to_start_from_is_flaky_named_and_remembered() {
    let scene = starting_from("time=100 test:a=fpp test:b=p", [Step::Write("time=50 test:a=f test:b=p")]);
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    let calls = scene.evaluator.calls();
    assert_eq!(calls[..4], ["v0", "v0 again", "v0 again", "v0"], "it is measured past the flaky test");
    assert_eq!(observed(&scene).metrics.len(), 1);
    let entry = scene.journal().into_iter().find_map(|entry| match entry {
        JournalEntry::BaselineAccepted { validation, .. } => Some(validation.decision),
        _ => None,
    });
    let reasons = entry.unwrap().reasons;
    let flaky = reasons.iter().find(|reason| reason.rule == Rule::FlakyTests).unwrap();
    assert!(
        flaky.message.starts_with("unit_tests: a failed on the accepted version in 1 of 3 runs"),
        "{flaky:?}"
    );
    assert_eq!(quarantined(&scene), ["a"]);
    // A candidate on which it fails every time is told about it, and it is known there.
    assert!(report.results[0].observations.quarantined.iter().any(|test| test.name == "a"));
    scene.assert_at_incumbent("after a flaky version to start from");
}

#[tokio::test]
async fn a_test_that_fails_every_time_beside_a_flaky_one_is_a_failure() {
    let scene = starting_from("time=100 test:a=fp test:b=f", []);
    let error = scene.pipeline().run(iterations(0)).await.unwrap_err();
    assert!(error.to_string().contains("unit_tests: 2 of 2 tests failed: b"), "{error}");
    assert_eq!(quarantined(&scene), [""; 0], "what was not accepted teaches nothing");
}

/// Interrupts the run as soon as tests are run again, and then never comes back.
#[derive(Debug)]
struct InterruptsRetests {
    inner: ScriptedEvaluator,
    cancellation: Cancellation,
}

#[async_trait]
impl Evaluator for InterruptsRetests {
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        self.inner.evaluate(request).await
    }

    async fn retest(&self, _: &EvaluationRequest, _: Subject, _: u32) -> Result<Option<Vec<TestReport>>> {
        self.cancellation.cancel();
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_interruption_while_tests_are_run_again_accepts_nothing() {
    let scene = starting_from("time=100 test:a=fp", []);
    let (inner, cancellation) = (scene.evaluator.clone(), scene.cancellation.clone());
    let evaluator = Arc::new(InterruptsRetests { inner, cancellation: cancellation.clone() });
    let parts = PipelineParts { evaluator, ..scene.parts() };
    let pipeline = EvolutionPipeline::builder(parts).cancellation(cancellation).build();
    let report = pipeline.run(iterations(1)).await.unwrap();
    assert_eq!(report.stop_reason, StopReason::Interrupted);
    assert_eq!(scene.evaluator.calls(), ["v0"]);
    assert!(scene.state().incumbent.is_none());
}
