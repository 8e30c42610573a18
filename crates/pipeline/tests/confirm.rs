//! An acceptance that is confirmed with fresh samples, or not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use evoseal_pipeline::{IterationOutcome, JournalEntry, LoopRules, RunReport, StopReason, VersionState};
use evoseal_rollback::Rollback;
use evoseal_testkit::{Crash, Fault, Step};
use support::{Scene, iterations};

fn rules() -> LoopRules {
    LoopRules { confirm_acceptance: true, ..LoopRules::default() }
}

async fn run(scene: &Scene, count: u64) -> RunReport {
    scene.builder().rules(rules()).build().run(iterations(count)).await.unwrap()
}

#[tokio::test]
async fn what_a_second_evaluation_confirms_is_accepted_with_its_fresh_samples() {
    let scene = Scene::new([Step::Write("time=50 then=60")]);
    let report = run(&scene, 1).await;
    let result = &report.results[0];
    assert_eq!((result.outcome, result.confirmed), (IterationOutcome::Accepted, Some(true)));
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v1"]);
    let (_, observed) = scene.state().incumbent.unwrap();
    assert_eq!(observed.metrics[0].values(), [60.0; 3], "what chose it does not stand for it");
    assert_eq!(scene.rollback.known_good().await.unwrap().len(), 2);
    scene.assert_at_incumbent("after a confirmed acceptance");
}

#[tokio::test]
async fn what_was_luck_is_not_accepted_and_never_was_known_to_be_good() {
    let scene = Scene::new([Step::Write("time=50 then=200")]);
    let report = run(&scene, 1).await;
    let result = &report.results[0];
    assert_eq!((result.outcome, result.confirmed), (IterationOutcome::RolledBack, Some(false)));
    assert_eq!(scene.program(), "time=100");
    assert_eq!(scene.rollback.known_good().await.unwrap().len(), 1);
    scene.assert_at_incumbent("after an acceptance that was not confirmed");
    assert_eq!(VersionState::of(&scene.state().finished[0]), VersionState::RolledBack);
}

#[tokio::test]
async fn what_is_refused_is_not_evaluated_again_and_without_the_rule_nothing_is() {
    let scene = Scene::new([Step::Write("time=200"), Step::Write("time=90 fail=1")]);
    run(&scene, 2).await;
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v2"]);
    let scene = Scene::new([Step::Write("time=50 then=200")]);
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    assert_eq!((report.results[0].outcome, report.results[0].confirmed), (IterationOutcome::Accepted, None));
}

#[tokio::test]
async fn between_acceptance_and_confirmation_the_version_before_is_the_one_to_go_back_to() {
    let scene = Arc::new(Scene::new([Step::Write("time=50 wait")]));
    // Interrupted as soon as the second evaluation begins.
    let cancellation = scene.cancellation.clone();
    let seen = std::sync::atomic::AtomicUsize::new(0);
    scene.faults.observe(move |step| {
        if step == "evaluate" && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2 {
            cancellation.cancel();
        }
    });
    let report = run(&scene, 1).await;
    assert_eq!(report.stop_reason, StopReason::Interrupted);
    assert_eq!(scene.program(), "time=100", "the workspace is at the version before");
    assert_eq!(scene.rollback.known_good().await.unwrap().len(), 1);
    assert!(!scene.journal().iter().any(|entry| matches!(entry, JournalEntry::Settled { .. })));
}

#[tokio::test]
async fn killed_at_any_step_of_a_confirmation_it_ends_the_same() {
    let script = || [Step::Write("time=50"), Step::Write("time=200"), Step::Write("time=40")];
    let undisturbed = Scene::new(script());
    undisturbed.faults.disarm();
    run(&undisturbed, 3).await;
    let steps = undisturbed.faults.steps();
    for (at, name) in steps.iter().enumerate() {
        let context = format!("killed at step {at} ({name})");
        let scene = Arc::new(Scene::new(script()));
        scene.faults.arm(at, Fault::Crash);
        let killed = tokio::spawn({
            let scene = Arc::clone(&scene);
            async move { scene.builder().rules(rules()).build().run(iterations(3)).await.map(drop) }
        });
        assert!(killed.await.unwrap_err().into_panic().is::<Crash>(), "{context}");
        scene.faults.disarm();
        // Putting the workspace in order is no evaluation: it is at the incumbent, whatever is to be confirmed.
        scene.builder().rules(rules()).build().recover().await.unwrap();
        if scene.state().incumbent.is_some() {
            scene.assert_at_incumbent(&context);
        }
        let left = 3 - scene.state().finished.len() as u64;
        run(&scene, left).await;
        assert_eq!(scene.decisions(), undisturbed.decisions(), "{context}");
        // The first version may have been captured twice; the refused one must not be among them.
        let known_good = scene.rollback.known_good().await.unwrap();
        let versions: BTreeSet<String> =
            known_good.iter().map(|id| scene.checkpoints.version_of(*id).unwrap().to_string()).collect();
        assert_eq!(versions, ["v0", "v1", "v3"].map(str::to_owned).into(), "{context}");
        scene.assert_at_incumbent(&context);
        let (calls, expected) = (scene.evaluator.calls().len(), undisturbed.evaluator.calls().len());
        assert!(calls <= expected + 1, "{context}: {calls} evaluations instead of {expected}");
    }
}
