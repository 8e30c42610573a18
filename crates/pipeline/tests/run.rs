//! What a run does, without anything going wrong around it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use evoseal_checkpoint::CheckpointStore;
use evoseal_pipeline::{
    ConsecutiveFailures, Error, EventKind, IterationOutcome, Proposal, ProposalContext, Proposer, RunOptions,
    StopReason, TimeLimit,
};
use evoseal_regression::Detector;
use evoseal_safety::Rule;
use evoseal_testkit::Step;
use support::{Scene, every_kind, iterations};

use IterationOutcome::{Accepted, Error as Failed, Rejected, RolledBack, Tampered};

#[tokio::test]
async fn every_kind_of_iteration_ends_as_it_should_and_at_the_accepted_version() {
    let scene = Scene::new(every_kind());
    let report = scene.pipeline().run(iterations(12)).await.unwrap();
    let outcomes: Vec<IterationOutcome> = report.results.iter().map(|result| result.outcome).collect();
    let expected = [
        Accepted, RolledBack, RolledBack, Failed, Failed, Accepted, RolledBack, Failed, RolledBack, Tampered,
        Rejected, Accepted,
    ];
    assert_eq!(outcomes, expected, "{:#?}", scene.decisions());
    assert_eq!(report.stop_reason, StopReason::Completed);
    assert_eq!(report.unprotected, Vec::<String>::new());
    assert_eq!(report.final_version.unwrap().version_id.as_str(), "v12");
    assert_eq!(scene.program(), "time=50");
    scene.assert_at_incumbent("after the run");
    let rule =
        |iteration: usize| report.results[iteration - 1].safety_result.as_ref().unwrap().decision.decided_by;
    assert_eq!((rule(7), rule(10)), (Rule::EditNotAllowed, Rule::Tampered));
    // Neither the failed and the empty proposal nor the forbidden edit were worth an evaluation; the one that could not be
    // made was tried twice again.
    assert_eq!(
        scene.evaluator.calls(),
        ["v0", "v1", "v2", "v3", "v6", "v8", "v8", "v8", "v9", "v10", "v11", "v12"]
    );
}

#[tokio::test]
async fn what_an_evaluation_leaves_behind_does_not_become_part_of_the_version() {
    let scene = Scene::new([Step::Write("time=50 drop")]);
    scene.write("program.txt", "time=100 drop");
    scene.pipeline().run(iterations(1)).await.unwrap();
    assert!(!scene.folder.path().join("dropping.txt").exists());
    scene.assert_at_incumbent("after an accepted candidate that left something behind");
}

#[tokio::test]
async fn the_version_to_start_from_must_pass_and_the_workspace_stays_as_it_was() {
    let scene = Scene::new([]);
    scene.write("program.txt", "time=100 fail=1 drop");
    let before = scene.tree();
    let error = scene.pipeline().run(iterations(1)).await.unwrap_err();
    assert!(matches!(error, Error::BaselineFailed { .. }), "{error}");
    assert_eq!((scene.tree(), scene.state().incumbent), (before, None));

    scene.write("program.txt", "time=100");
    scene.pipeline().run(iterations(0)).await.unwrap();
    let (incumbent, observed) = scene.state().incumbent.unwrap();
    assert_eq!((incumbent.version_id.as_str(), observed.test_results[0].tests_failed), ("v0", 0));
}

#[tokio::test]
async fn rollbacks_and_errors_count_as_failures() {
    for step in [Step::Write("time=900"), Step::Fail, Step::Nothing, Step::Write("time=100 refuse")] {
        let scene = Scene::new(vec![step.clone(); 15]);
        let pipeline = scene.builder().stop_condition(Arc::new(ConsecutiveFailures(5))).build();
        let report = pipeline.run(iterations(15)).await.unwrap();
        assert_eq!(report.stop_reason, StopReason::ConsecutiveFailures { count: 5 }, "{step:?}");
        assert_eq!(report.results.len(), 5, "{step:?}");
        scene.assert_at_incumbent("after five failures");
        // A new run is a new chance.
        assert_eq!(pipeline.run(iterations(15)).await.unwrap().results.len(), 5, "{step:?}");
    }
}

#[tokio::test]
async fn an_accepted_version_starts_the_count_of_failures_again() {
    let bad = Step::Write("time=900");
    let scene = Scene::new([bad.clone(), bad.clone(), Step::Write("time=50"), bad.clone(), bad]);
    let pipeline = scene.builder().stop_condition(Arc::new(ConsecutiveFailures(3))).build();
    let report = pipeline.run(iterations(5)).await.unwrap();
    assert_eq!((report.stop_reason, report.results.len()), (StopReason::Completed, 5));
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_spent_or_the_proposer_is_exhausted() {
    #[derive(Debug)]
    struct Slow(Arc<evoseal_types::ManualClock>);
    #[async_trait]
    impl Proposer for Slow {
        async fn propose(&self, context: &ProposalContext) -> evoseal_pipeline::Result<Proposal> {
            self.0.advance(Duration::from_secs(40));
            fs::write(context.workspace.join("program.txt"), "time=90").unwrap();
            Ok(Proposal::Edited { summary: "slowly".to_owned() })
        }
    }
    let scene = Scene::new([]);
    let slow = scene.pipeline_with(Arc::new(Slow(Arc::clone(&scene.clock))));
    slow.run(iterations(1)).await.unwrap();
    let parts = evoseal_pipeline::PipelineParts {
        proposer: Arc::new(Slow(Arc::clone(&scene.clock))),
        ..scene.parts()
    };
    let limited = evoseal_pipeline::EvolutionPipeline::builder(parts)
        .stop_condition(Arc::new(TimeLimit(Duration::from_mins(1))))
        .build();
    let report = limited.run(iterations(10)).await.unwrap();
    assert_eq!((report.stop_reason, report.results.len()), (StopReason::TimeSpent { limit_sec: 60 }, 2));

    let exhausted = scene.pipeline().run(iterations(10)).await.unwrap();
    let reason = "the script has ended".to_owned();
    assert_eq!(exhausted.stop_reason, StopReason::ProposerExhausted { reason });
    scene.assert_at_incumbent("after the proposer gave up");
}

#[tokio::test]
async fn without_automatic_rollback_the_run_ends_at_the_first_refused_candidate_and_says_so() {
    let scene = Scene::new([Step::Write("time=900 drop"), Step::Write("time=50")]);
    let options = RunOptions { enable_auto_rollback: false, ..iterations(2) };
    let report = scene.pipeline().run(options).await.unwrap();
    assert!(matches!(report.stop_reason, StopReason::NotRolledBack { .. }), "{:?}", report.stop_reason);
    assert_eq!(report.unprotected, ["automatic rollback is off: a refused candidate stays in the workspace"]);
    assert_eq!((scene.program().as_str(), report.results.len()), ("time=900 drop", 1));

    // With what its evaluation left behind the workspace is the tree of no checkpoint, and still not a new baseline.
    for options in [options, iterations(2)] {
        let error = scene.pipeline().run(options).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        assert_eq!(scene.state().incumbent.unwrap().0.version_id.as_str(), "v0");
    }
}

#[tokio::test]
async fn a_refused_candidate_is_not_a_version_to_start_from_without_what_it_left_behind_either() {
    let scene = Scene::new([Step::Write("time=900")]);
    let options = RunOptions { enable_auto_rollback: false, ..iterations(1) };
    scene.pipeline().run(options).await.unwrap();
    assert!(scene.pipeline().run(iterations(1)).await.is_err());
    scene.write("program.txt", "time=100");
    scene.pipeline().run(iterations(0)).await.unwrap();
}

#[tokio::test]
async fn a_failed_proposal_that_was_left_in_the_workspace_is_not_a_version_to_start_from() {
    let scene = Scene::new([Step::Fail]);
    let options = RunOptions { enable_auto_rollback: false, ..iterations(1) };
    scene.pipeline().run(options).await.unwrap();
    assert!(scene.folder.path().join("half.txt").exists());
    assert!(scene.pipeline().run(iterations(1)).await.is_err());
    assert_eq!(scene.state().baselines.len(), 1);
}

#[tokio::test]
async fn without_checkpoints_the_run_goes_on_while_versions_are_accepted_and_says_what_is_not_protected() {
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=900"), Step::Write("time=50")]);
    let options = RunOptions { enable_checkpoints: false, ..iterations(3) };
    let report = scene.pipeline().run(options).await.unwrap();
    let outcomes: Vec<IterationOutcome> = report.results.iter().map(|result| result.outcome).collect();
    assert_eq!(outcomes, [Accepted, RolledBack]);
    assert!(matches!(report.stop_reason, StopReason::NotRolledBack { .. }));
    assert_eq!(report.unprotected.len(), 3, "{:?}", report.unprotected);
    assert!(report.unprotected.iter().all(|line| line.starts_with("checkpoints are off")));
    assert_eq!(scene.program(), "time=900");
    // The refused candidate is still there.
    for options in [options, iterations(1)] {
        assert!(scene.pipeline().run(options).await.is_err());
    }
}

#[tokio::test]
async fn a_persons_edit_between_runs_becomes_a_new_baseline_that_is_evaluated() {
    let scene = Scene::new([Step::Write("time=90")]);
    scene.pipeline().run(iterations(1)).await.unwrap();
    scene.write("program.txt", "time=85");
    scene.pipeline().run(iterations(0)).await.unwrap();
    assert_eq!(scene.state().incumbent.unwrap().0.version_id.as_str(), "v0.1");
    assert_eq!(scene.evaluator.calls().last().unwrap(), "v0.1");

    scene.write("program.txt", "time=1 fail=1");
    assert!(matches!(scene.pipeline().run(iterations(0)).await, Err(Error::BaselineFailed { .. })));
    assert_eq!(scene.program(), "time=1 fail=1", "a person's work stays");
}

#[tokio::test]
async fn going_back_to_an_accepted_version_by_hand_is_understood() {
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=80")]);
    scene.pipeline().run(iterations(2)).await.unwrap();
    scene.write("program.txt", "time=90");
    scene.pipeline().run(iterations(0)).await.unwrap();
    let (incumbent, observed) = scene.state().incumbent.unwrap();
    assert_eq!(incumbent.version_id.as_str(), "v1");
    assert_eq!(observed.metrics[0].values(), [90.0; 3]);
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v2"], "nothing is evaluated twice");
}

/// Damages a checkpoint before it evaluates.
#[derive(Debug)]
struct Damaging(
    evoseal_testkit::ScriptedEvaluator,
    evoseal_testkit::FakeCheckpointStore,
    evoseal_types::CheckpointId,
);
#[async_trait]
impl evoseal_pipeline::Evaluator for Damaging {
    async fn evaluate(
        &self,
        request: &evoseal_pipeline::EvaluationRequest,
    ) -> evoseal_pipeline::Result<evoseal_pipeline::Evaluation> {
        self.1.damage(self.2);
        self.0.evaluate(request).await
    }
}

#[tokio::test]
async fn a_rollback_that_has_to_go_further_back_makes_that_version_the_incumbent() {
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=900"), Step::Write("time=95")]);
    scene.pipeline().run(iterations(1)).await.unwrap();
    let damaged = scene.state().incumbent.unwrap().0.checkpoint.unwrap();
    let evaluator = Arc::new(Damaging(scene.evaluator.clone(), scene.checkpoints.clone(), damaged));
    let parts = evoseal_pipeline::PipelineParts { evaluator, ..scene.parts() };
    let pipeline = evoseal_pipeline::EvolutionPipeline::builder(parts).build();
    let report = pipeline.run(iterations(1)).await.unwrap();
    assert_eq!(report.results[0].outcome, RolledBack);
    assert_eq!(report.final_version.unwrap().version_id.as_str(), "v0");
    scene.assert_at_incumbent("after a rollback that fell back");
    assert_eq!(scene.program(), "time=100");
    // The loop goes on from there.
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    assert_eq!(report.results[0].incumbent.as_str(), "v0");
    assert!(report.results[0].version_accepted);
}

#[tokio::test]
async fn what_writes_to_the_workspace_between_iterations_is_kept_aside_and_undone() {
    #[derive(Debug)]
    struct Meddling(std::path::PathBuf, AtomicU64);
    impl evoseal_pipeline::Observer for Meddling {
        fn on_event(&self, event: &evoseal_pipeline::Event) {
            if matches!(event.kind, EventKind::IterationStarted { .. }) {
                let count = self.1.fetch_add(1, Ordering::Relaxed);
                fs::write(self.0.join("meddled.txt"), count.to_string()).unwrap();
            }
        }
    }
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=80")]);
    let meddling = Meddling(scene.folder.path().to_owned(), AtomicU64::new(0));
    let pipeline = scene.builder().observer(Arc::new(meddling)).build();
    let report = pipeline.run(iterations(2)).await.unwrap();
    assert!(report.results.iter().all(|result| result.version_accepted && result.changes.len() == 1));
    scene.assert_at_incumbent("after meddling");
    let saved = scene.checkpoints.list().await.unwrap();
    let saved = saved.iter().filter(|checkpoint| checkpoint.details.note == "saved before recovery").count();
    assert_eq!(saved, 2);
}

#[tokio::test]
async fn a_guard_that_cannot_look_denies_and_the_run_goes_on() {
    #[derive(Debug)]
    struct Blind(bool);
    impl evoseal_sandbox::Guard for Blind {
        fn name(&self) -> &'static str {
            "blind"
        }
        fn check(
            &self,
            _: &evoseal_sandbox::Edit<'_>,
        ) -> evoseal_sandbox::Result<Vec<evoseal_sandbox::Violation>> {
            assert!(self.0, "told to panic");
            Err(evoseal_sandbox::Error::Invalid { what: "guard", reason: "it is blind".to_owned() })
        }
    }
    for blind in [true, false] {
        let scene = Scene::new([Step::Write("time=90"), Step::Write("time=80")]);
        let pipeline = scene.builder().guard(Arc::new(Blind(blind))).build();
        let report = pipeline.run(iterations(2)).await.unwrap();
        for result in &report.results {
            let decision = &result.safety_result.as_ref().unwrap().decision;
            assert_eq!((result.outcome, decision.decided_by), (RolledBack, Rule::EditNotAllowed));
            assert!(decision.summary().contains("the guard blind could not look"), "{decision:?}");
        }
        assert_eq!(scene.evaluator.calls(), ["v0"]);
        scene.assert_at_incumbent("after a guard that cannot look");
    }
}

#[tokio::test]
async fn hostile_counts_times_and_texts_are_recorded_and_refused() {
    #[derive(Debug)]
    struct Hostile(evoseal_testkit::ScriptedEvaluator);
    #[async_trait]
    impl evoseal_pipeline::Evaluator for Hostile {
        async fn evaluate(
            &self,
            request: &evoseal_pipeline::EvaluationRequest,
        ) -> evoseal_pipeline::Result<evoseal_pipeline::Evaluation> {
            let mut evaluation = self.0.evaluate(request).await?;
            if request.iteration == 0 {
                return Ok(evaluation);
            }
            let report = &mut evaluation.test_results[0];
            (report.duration_sec, report.tests_run, report.tests_passed) = (f64::NAN, u64::MAX, u64::MAX);
            evaluation.test_results.push(evaluation.test_results[0].clone());
            evaluation.metrics[0].samples[0].value = f64::INFINITY;
            Ok(evaluation)
        }
    }
    #[derive(Debug)]
    struct Talkative;
    #[async_trait]
    impl Proposer for Talkative {
        async fn propose(&self, context: &ProposalContext) -> evoseal_pipeline::Result<Proposal> {
            fs::write(context.workspace.join("program.txt"), "time=1").unwrap();
            Ok(Proposal::Edited { summary: "x".repeat(1 << 20) })
        }
    }
    let scene = Scene::new([]);
    let parts = evoseal_pipeline::PipelineParts {
        evaluator: Arc::new(Hostile(scene.evaluator.clone())),
        proposer: Arc::new(Talkative),
        ..scene.parts()
    };
    let pipeline = evoseal_pipeline::EvolutionPipeline::builder(parts).build();
    let report = pipeline.run(iterations(1)).await.unwrap();
    assert_eq!((report.results[0].outcome, report.results[0].change.len()), (RolledBack, 2000));
    // What was written can be read, and the loop goes on.
    assert_eq!(scene.state().finished.len(), 1);
    scene.assert_at_incumbent("after hostile evidence");
}

#[tokio::test]
async fn a_second_run_is_refused_while_one_is_going_on() {
    let scene = Scene::new([Step::Hang]);
    let (first, second) = (Arc::new(scene.pipeline()), scene.pipeline());
    let running = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.run(iterations(1)).await }
    });
    while scene.proposer.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(second.run(iterations(1)).await, Err(Error::Locked { .. })));
    assert!(matches!(second.recover().await, Err(Error::Locked { .. })));
    scene.cancellation.cancel();
    assert_eq!(running.await.unwrap().unwrap().stop_reason, StopReason::Interrupted);
}

#[tokio::test]
async fn cancelling_while_a_change_is_proposed_or_evaluated_leaves_the_accepted_version() {
    for step in [Step::Hang, Step::Write("time=50 drop hang")] {
        for enable_auto_rollback in [true, false] {
            let scene = Scene::new([step.clone()]);
            let pipeline = scene.pipeline();
            let (script_began, evaluates) = (step.clone(), scene.evaluator.clone());
            let cancel = async {
                while scene.proposer.calls().is_empty()
                    || (script_began != Step::Hang && evaluates.calls().len() < 2)
                {
                    tokio::task::yield_now().await;
                }
                scene.cancellation.cancel();
            };
            let options = RunOptions { enable_auto_rollback, ..iterations(1) };
            let (report, ()) = tokio::join!(pipeline.run(options), cancel);
            let report = report.unwrap();
            assert_eq!((report.stop_reason, report.results.len()), (StopReason::Interrupted, 0), "{step:?}");
            scene.assert_at_incumbent("after cancelling");
            assert_eq!(scene.state().in_flight, None);
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_runtime_is_not_blocked_by_slow_blocking_parts() {
    #[derive(Debug)]
    struct SlowGuard(Arc<AtomicU64>, std::sync::Mutex<Vec<u64>>);
    impl evoseal_sandbox::Guard for SlowGuard {
        fn name(&self) -> &'static str {
            "slow"
        }
        fn check(
            &self,
            _: &evoseal_sandbox::Edit<'_>,
        ) -> evoseal_sandbox::Result<Vec<evoseal_sandbox::Violation>> {
            // Goes on only once the ticking task has ticked: if the runtime stood still, this would never end.
            let before = self.0.load(Ordering::SeqCst);
            while self.0.load(Ordering::SeqCst) < before + 3 {
                std::thread::yield_now();
            }
            self.1.lock().unwrap().push(before);
            Ok(Vec::new())
        }
    }
    let ticks = Arc::new(AtomicU64::new(0));
    let ticking = tokio::spawn({
        let ticks = Arc::clone(&ticks);
        async move {
            loop {
                ticks.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let detecting = Arc::clone(&ticks);
    let detector = evoseal_testkit::ScriptedDetector::answering(move |measurements| {
        let before = detecting.load(Ordering::SeqCst);
        while detecting.load(Ordering::SeqCst) < before + 3 {
            std::thread::yield_now();
        }
        evoseal_testkit::ScriptedDetector::comparing_means(0.1).assess(measurements)
    });
    let scene = Scene::new([Step::Write("time=90")]);
    let gate = evoseal_safety::SafetyIntegration::builder(
        Arc::new(scene.checkpoints.clone()),
        Arc::new(scene.metrics.clone()),
        Arc::new(detector),
        Arc::new(scene.audit.clone()),
        Arc::<evoseal_types::ManualClock>::clone(&scene.clock),
    )
    .build();
    let guard = Arc::new(SlowGuard(ticks, std::sync::Mutex::default()));
    let parts = evoseal_pipeline::PipelineParts { gate: Arc::new(gate), ..scene.parts() };
    let pipeline =
        evoseal_pipeline::EvolutionPipeline::builder(parts).guard(Arc::<SlowGuard>::clone(&guard)).build();
    let report = pipeline.run(iterations(1)).await.unwrap();
    ticking.abort();
    assert!(report.results[0].version_accepted);
    assert_eq!(guard.1.lock().unwrap().len(), 2, "before and after the evaluation");
}

#[tokio::test]
async fn results_and_events_bear_the_published_names() {
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=900")]);
    let results = scene.pipeline().run_evolution_cycle_with_safety(2, true, true).await.unwrap();
    let json = serde_json::to_value(&results).unwrap();
    for field in [
        "iteration",
        "version_id",
        "success",
        "version_accepted",
        "rollback_performed",
        "safety_score",
        "safety_result",
    ] {
        assert!(!json[0][field].is_null() && !json[1][field].is_null(), "{field} is missing");
    }
    assert_eq!((&json[0]["version_accepted"], &json[1]["rollback_performed"]), (&true.into(), &true.into()));

    let events = serde_json::to_value(scene.observer.events()).unwrap();
    let names: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    for name in [
        "EVOLUTION_STARTED",
        "BASELINE_ACCEPTED",
        "ITERATION_STARTED",
        "PIPELINE_STAGE_STARTED",
        "PIPELINE_STAGE_COMPLETED",
        "REGRESSION_DETECTED",
        "ROLLBACK_COMPLETED",
        "ITERATION_COMPLETED",
        "EVOLUTION_COMPLETED",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert_eq!((names[0], names[names.len() - 1]), ("EVOLUTION_STARTED", "EVOLUTION_COMPLETED"));
    let last = &events.as_array().unwrap()[names.len() - 1]["data"];
    for (field, value) in [("iterations_completed", 2), ("accepted_versions", 1), ("rollbacks_performed", 1)]
    {
        assert_eq!(last[field], value, "{field}");
    }
    assert_eq!(last["final_version"], "v1");
}
