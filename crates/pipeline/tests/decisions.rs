//! What follows from decisions and failures that are no verdict, and what ends a run before its last iteration.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use evoseal_pipeline::{
    DiskLimits, EvolutionPipeline, EvolutionPipelineBuilder, IterationOutcome, LoopRules, MaxEvaluations,
    NoImprovement, PipelineParts, RunReport, StopCondition, StopReason,
};
use evoseal_safety::{OnInconclusive, PolicyThresholds, Rule, SafetyIntegration, StandardPolicy};
use evoseal_testkit::{Crash, Fault, ScriptedDetector, Step};
use evoseal_types::{Direction, ManualClock, MetricName, Objective};
use support::{Scene, iterations};

fn retrying(max_evaluation_retries: u32) -> LoopRules {
    LoopRules { max_evaluation_retries, ..LoopRules::default() }
}

#[tokio::test]
async fn an_evaluation_that_its_surroundings_kept_from_being_made_is_made_again_and_decides() {
    let scene = Scene::new([Step::Write("time=90 starve=2")]);
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    assert_eq!(report.results[0].outcome, IterationOutcome::Accepted);
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v1", "v1"]);
    assert_eq!(scene.state().finished[0].flight.failed_evaluations.len(), 2, "both are on record");
}

#[tokio::test]
async fn it_is_made_again_so_often_and_not_more_and_then_it_is_an_error_without_a_score() {
    for retries in [0, 1, 3] {
        let scene = Scene::new([Step::Write("time=90 starve=9")]);
        let report = scene.builder().rules(retrying(retries)).build().run(iterations(1)).await.unwrap();
        let result = &report.results[0];
        assert_eq!(result.outcome, IterationOutcome::Error);
        assert_eq!(result.error.as_deref(), Some("test: no space left on device"));
        let decision = &result.safety_result.as_ref().unwrap().decision;
        assert_eq!(decision.decided_by, Rule::EvaluationFault);
        assert!(decision.safety_score.no_data.is_some(), "{decision:?}");
        assert_eq!(scene.evaluator.calls().len(), 2 + retries as usize);
        scene.assert_at_incumbent("after an evaluation that could not be made");
    }
}

#[tokio::test]
async fn a_verdict_is_never_asked_for_again() {
    let scene =
        Scene::new([Step::Write("time=90 fail=1"), Step::Write("time=90 crash"), Step::Write("time=200")]);
    scene.pipeline().run(iterations(3)).await.unwrap();
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v2", "v3"]);
}

#[tokio::test]
async fn kills_win_no_further_tries() {
    let script = [Step::Write("time=90 starve=9")];
    let undisturbed = Scene::new(script.clone());
    undisturbed.faults.disarm();
    undisturbed.pipeline().run(iterations(1)).await.unwrap();
    for (at, name) in undisturbed.faults.steps().iter().enumerate() {
        let context = format!("killed at step {at} ({name})");
        let scene = Arc::new(Scene::new(script.clone()));
        scene.faults.arm(at, Fault::Crash);
        let killed = tokio::spawn({
            let scene = Arc::clone(&scene);
            async move { scene.pipeline().run(iterations(1)).await.map(drop) }
        });
        assert!(killed.await.unwrap_err().into_panic().is::<Crash>(), "{context}");
        scene.faults.disarm();
        let left = 1 - scene.state().finished.len() as u64;
        scene.pipeline().run(iterations(left)).await.unwrap();
        let state = scene.state();
        assert_eq!(state.finished[0].flight.failed_evaluations.len(), 2, "{context}");
        assert_eq!(scene.decisions(), undisturbed.decisions(), "{context}");
        assert!(scene.evaluator.calls().len() <= undisturbed.evaluator.calls().len() + 1, "{context}");
    }
}

/// The same loop with another policy.
fn deciding_by(scene: &Scene, thresholds: PolicyThresholds) -> EvolutionPipelineBuilder {
    let gate = SafetyIntegration::builder(
        Arc::new(scene.checkpoints.clone()),
        Arc::new(scene.metrics.clone()),
        Arc::new(ScriptedDetector::comparing_means(0.1)),
        Arc::new(scene.audit.clone()),
        Arc::<ManualClock>::clone(&scene.clock),
    )
    .rollback(Arc::new(scene.rollback.clone()))
    .policy(Arc::new(StandardPolicy::new(thresholds).unwrap()))
    .build();
    EvolutionPipeline::builder(PipelineParts { gate: Arc::new(gate), ..scene.parts() })
}

#[tokio::test]
async fn an_undecided_candidate_is_rejected_where_that_is_wanted() {
    let scene = Scene::new([Step::Write("time=90 unsure")]);
    let thresholds =
        PolicyThresholds { on_inconclusive: OnInconclusive::Reject, ..PolicyThresholds::default() };
    let report = deciding_by(&scene, thresholds).build().run(iterations(1)).await.unwrap();
    let decision = &report.results[0].safety_result.as_ref().unwrap().decision;
    assert_eq!(
        (report.results[0].outcome, decision.decided_by),
        (IterationOutcome::Rejected, Rule::MetricUnusable)
    );
}

#[tokio::test]
async fn versions_that_are_accepted_because_they_are_no_worse_are_no_improvement() {
    let scene = Scene::new(["time=100 a", "time=100 b", "time=100 c", "time=100 d"].map(Step::Write));
    let thresholds = PolicyThresholds { require_improvement: false, ..PolicyThresholds::default() };
    let report = deciding_by(&scene, thresholds)
        .objective(objective())
        .stop_condition(Arc::new(NoImprovement(3)))
        .build()
        .run(iterations(4))
        .await
        .unwrap();
    assert!(report.results.iter().all(|result| result.version_accepted), "{:#?}", scene.decisions());
    assert_eq!(report.stop_reason, StopReason::NoImprovement { count: 3 });
}

fn objective() -> Objective {
    Objective { metric: MetricName::new("time").unwrap(), direction: Direction::Increase }
}

async fn run_with(scene: &Scene, condition: impl StopCondition + 'static) -> RunReport {
    let builder = scene.builder().objective(objective()).stop_condition(Arc::new(condition));
    builder.build().run(iterations(9)).await.unwrap()
}

/// Nine candidates of which the third is better.
fn one_better() -> Vec<Step> {
    let texts = ["time=100 a", "time=100 b", "time=50", "time=50 a", "time=50 b", "time=50 c", "time=50 d"];
    texts.map(Step::Write).to_vec()
}

#[tokio::test]
async fn a_run_that_no_longer_improves_the_objective_ends() {
    let scene = Scene::new(one_better());
    let report = run_with(&scene, NoImprovement(3)).await;
    assert_eq!(report.stop_reason, StopReason::NoImprovement { count: 3 });
    assert_eq!(report.results.len(), 6, "the third one began the count anew");
    scene.assert_at_incumbent("after the breaker");
    // The next run begins to count anew.
    let report = run_with(&scene, NoImprovement(1)).await;
    assert_eq!((report.results.len(), report.stop_reason), (1, StopReason::NoImprovement { count: 1 }));
}

#[tokio::test]
async fn a_run_ends_when_its_evaluations_are_used_up_and_those_made_again_count() {
    let scene = Scene::new([
        Step::Write("time=90 starve=2"),
        Step::Fail,
        Step::Write("time=80"),
        Step::Write("time=70"),
    ]);
    let report = run_with(&scene, MaxEvaluations(5)).await;
    assert_eq!(report.stop_reason, StopReason::EvaluationsSpent { limit: 5 });
    // One of the version to start from, three of v1, none of v2, and one of v3.
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v1", "v1", "v3"]);
    scene.assert_at_incumbent("after the breaker");
}

#[tokio::test]
async fn a_run_ends_before_the_disk_is_full() {
    for (limits, expected) in [
        (DiskLimits { free_bytes_min: Some(u64::MAX), store_bytes_max: None }, "bytes are free"),
        (DiskLimits { free_bytes_min: None, store_bytes_max: Some(0) }, "the checkpoint store takes up"),
    ] {
        let scene = Scene::new(one_better());
        let report = scene.builder().disk_limits(limits).build().run(iterations(9)).await.unwrap();
        let StopReason::DiskSpent { reason } = &report.stop_reason else {
            panic!("{:?}", report.stop_reason)
        };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(report.results.len(), 0, "it is asked before the first iteration");
        scene.assert_at_incumbent("after the breaker");
        let generous = DiskLimits { free_bytes_min: Some(1), store_bytes_max: Some(u64::MAX) };
        let report = scene.builder().disk_limits(generous).build().run(iterations(1)).await.unwrap();
        assert_eq!(report.stop_reason, StopReason::Completed);
    }
}
