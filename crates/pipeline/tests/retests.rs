//! Failed tests are run again on both versions: flaky ones are told from failures, named, and never dropped.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use evoseal_pipeline::{IterationOutcome, IterationResult};
use evoseal_safety::{Decision, Flakiness, Rule};
use evoseal_testkit::{Crash, Fault, Step};
use support::{Scene, iterations};

/// Runs these candidates, compared with a first version in which `start` stands.
async fn run(start: &str, candidates: &'static [&'static str]) -> (Scene, Vec<IterationResult>) {
    let scene = Scene::new(candidates.iter().map(|text| Step::Write(text)));
    scene.write("program.txt", start);
    let report = scene.pipeline().run(iterations(candidates.len() as u64)).await.unwrap();
    scene.assert_at_incumbent("after failed tests");
    (scene, report.results)
}

fn decision(result: &IterationResult) -> &Decision {
    &result.safety_result.as_ref().unwrap().decision
}

fn flakiness(result: &IterationResult) -> Vec<(String, Flakiness)> {
    let retests = result.observations.retests.iter();
    retests.map(|retested| (retested.test.name.clone(), retested.flakiness())).collect()
}

#[tokio::test]
async fn a_test_that_fails_every_time_and_passes_on_the_accepted_version_is_a_failure() {
    let (scene, results) = run("time=100 test:a=p test:b=p", &["time=50 test:a=f test:b=p"]).await;
    assert_eq!(results[0].outcome, IterationOutcome::RolledBack);
    assert_eq!(decision(&results[0]).reasons[0].message, "unit_tests: 1 of 2 tests failed: a");
    assert_eq!(flakiness(&results[0]), [("a".to_owned(), Flakiness::None)]);
    assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v0 again", "v1 again", "v0 again", "v1 again"]);
}

#[tokio::test]
async fn a_test_that_flips_on_the_accepted_version_is_flaky_and_the_candidate_is_measured_all_the_same() {
    let (scene, results) = run("time=100 test:a=pfp test:b=p", &["time=50 test:a=f test:b=p"]).await;
    let decision = decision(&results[0]);
    assert_eq!((results[0].outcome, results[0].observations.metrics.len()), (IterationOutcome::Accepted, 1));
    let flaky = decision.reasons.iter().find(|reason| reason.rule == Rule::FlakyTests).unwrap();
    assert!(
        flaky.message.starts_with("unit_tests: a failed on the accepted version in 1 of 2 runs"),
        "{flaky:?}"
    );
    assert!((decision.safety_score.test_pass_rate - 1.0).abs() < 1e-12, "its failure does not count");
    let quarantined: Vec<String> = scene.state().quarantined.into_keys().map(|test| test.name).collect();
    assert_eq!(quarantined, ["a"]);
}

#[tokio::test]
async fn a_test_that_flips_since_this_candidate_is_a_failure_that_says_so() {
    let (_, results) = run("time=100 test:a=p", &["time=50 test:a=fp"]).await;
    assert_eq!(results[0].outcome, IterationOutcome::RolledBack);
    let message = &decision(&results[0]).reasons[0].message;
    assert_eq!(message, "unit_tests: 1 of 1 tests failed: a (flaky on the candidate)");
}

#[tokio::test]
async fn a_real_failure_beside_a_flaky_test_is_a_failure_and_names_the_right_one() {
    let (_, results) = run("time=100 test:a=pf test:b=p", &["time=50 test:a=f test:b=f"]).await;
    assert_eq!(results[0].outcome, IterationOutcome::RolledBack);
    let reasons: Vec<(Rule, &str)> =
        decision(&results[0]).reasons.iter().map(|reason| (reason.rule, reason.message.as_str())).collect();
    assert_eq!(reasons[0], (Rule::TestsFailed, "unit_tests: 2 of 2 tests failed: b"));
    assert_eq!(reasons[1].0, Rule::FlakyTests);
}

#[tokio::test]
async fn a_quarantined_test_is_excused_where_it_flips_and_not_where_it_fails_every_time() {
    let candidates =
        &["time=90 test:a=fp test:b=p", "time=80 test:a=fp test:b=p", "time=70 test:a=f test:b=p"];
    let (scene, results) = run("time=100 test:a=pf test:b=p", candidates).await;
    let outcomes: Vec<IterationOutcome> = results.iter().map(|result| result.outcome).collect();
    // The first shows that it is flaky. v1 itself passes it whenever it is run again, so the second is excused as known, and
    // the third, which fails it every time, is not.
    let expected = [IterationOutcome::Accepted, IterationOutcome::Accepted, IterationOutcome::RolledBack];
    assert_eq!(outcomes, expected, "{:#?}", scene.decisions());
    assert_eq!(results[1].observations.quarantined.len(), 1, "later evidence has the name");
    let message = &decision(&results[2]).reasons[0].message;
    assert!(message.ends_with("a (known to be flaky, but failed every time)"), "{message}");
    // The second was measured at once: its only failure was known.
    assert_eq!(scene.evaluator.calls().iter().filter(|call| *call == "v2").count(), 1);
}

#[tokio::test]
async fn what_is_no_failure_of_a_test_by_name_is_not_run_again() {
    let (scene, results) = run("time=100", &["time=50 fail=1", "time=50 test:a=f crash"]).await;
    assert!(results.iter().all(|result| result.observations.retests.is_empty()));
    assert!(!scene.evaluator.calls().iter().any(|call| call.ends_with("again")));
}

#[tokio::test]
async fn a_new_test_that_the_accepted_version_does_not_have_is_not_excused() {
    let (_, results) = run("time=100 test:a=p", &["time=50 test:a=p test:new=f"]).await;
    assert_eq!(results[0].outcome, IterationOutcome::RolledBack);
    assert_eq!(flakiness(&results[0]), [("new".to_owned(), Flakiness::None)]);
}

#[tokio::test]
async fn killed_at_any_step_of_running_tests_again_it_ends_the_same_and_repeats_at_most_one_run() {
    let script = || [Step::Write("time=50 test:a=f test:b=p"), Step::Write("time=40 test:a=p test:b=f")];
    let start = |scene: &Scene| scene.write("program.txt", "time=100 test:a=pfp test:b=p");
    let undisturbed = Scene::new(script());
    start(&undisturbed);
    undisturbed.faults.disarm();
    undisturbed.pipeline().run(iterations(2)).await.unwrap();
    let steps = undisturbed.faults.steps();
    assert!(steps.iter().filter(|step| *step == "retest").count() >= 8, "{steps:?}");
    for (at, name) in steps.iter().enumerate() {
        let context = format!("killed at step {at} ({name})");
        let scene = Arc::new(Scene::new(script()));
        start(&scene);
        scene.faults.arm(at, Fault::Crash);
        let killed = tokio::spawn({
            let scene = Arc::clone(&scene);
            async move { scene.pipeline().run(iterations(2)).await.map(drop) }
        });
        assert!(killed.await.unwrap_err().into_panic().is::<Crash>(), "{context}");
        scene.faults.disarm();
        let left = 2 - scene.state().finished.len() as u64;
        scene.pipeline().run(iterations(left)).await.unwrap();
        assert_eq!(scene.decisions(), undisturbed.decisions(), "{context}");
        assert_eq!(scene.state().quarantined, undisturbed.state().quarantined, "{context}");
        scene.assert_at_incumbent(&context);
        let (calls, expected) = (scene.evaluator.calls().len(), undisturbed.evaluator.calls().len());
        assert!(calls <= expected + 1, "{context}: {calls} instead of {expected}");
    }
}

#[tokio::test]
async fn a_quarantined_test_that_keeps_passing_is_trusted_again() {
    let clean = u64::from(evoseal_pipeline::CLEAN_RUNS_TO_TRUST);
    let candidate =
        |number: u64| -> &'static str { format!("time={} test:a=p test:b=p", 200 + number).leak() };
    let script = ["time=200 test:a=f test:b=p"].into_iter().chain((0..clean).map(candidate));
    let scene = Scene::new(script.map(Step::Write));
    scene.write("program.txt", "time=100 test:a=pfp test:b=p");
    scene.pipeline().run(iterations(clean)).await.unwrap();
    let left: Vec<u32> = scene.state().quarantined.into_values().collect();
    assert_eq!(left, [evoseal_pipeline::CLEAN_RUNS_TO_TRUST - 1]);
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    assert_eq!(report.results[0].observations.quarantined.len(), 1, "it was excused to the last");
    assert!(scene.state().quarantined.is_empty());
}
