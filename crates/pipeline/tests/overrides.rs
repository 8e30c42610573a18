//! What persons decide about candidates: carried out whatever is killed, remembered by tree, shown for ever.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use evoseal_pipeline::{
    CompletedOverride, Error, IterationOutcome, IterationResult, Journal, JournalEntry, LoopRules,
    OverrideRequest, Overrider, RunLock, RunState, StopReason, VersionState,
};
use evoseal_safety::{
    AuditEvent, AuditLog, OnInconclusive, PersonsDecision, PersonsOrder, PersonsVerdict, Rule,
};
use evoseal_testkit::{Crash, Fault, Step};
use evoseal_types::{ManualClock, Timestamp};
use support::{Scene, iterations};

use PersonsVerdict::{Approve, Hold, Reject};

fn overrider(scene: &Scene) -> Overrider {
    Overrider {
        workspace: scene.folder.path().to_owned(),
        state_directory: scene.state_directory(),
        gate: Arc::new(scene.gate()),
        checkpoints: Arc::new(scene.checkpoints.clone()),
        clock: Arc::<ManualClock>::clone(&scene.clock),
    }
}

fn request(iteration: u64, verdict: PersonsVerdict) -> OverrideRequest {
    let (person, reason) = ("ada".to_owned(), "I have looked at it".to_owned());
    OverrideRequest { iteration, verdict, person, reason, force: false }
}

async fn decide(scene: &Scene, iteration: u64, verdict: PersonsVerdict) {
    let report = overrider(scene).carry_out(&request(iteration, verdict)).await.unwrap();
    assert!(report.succeeded(), "{report:?}");
}

fn states(scene: &Scene) -> Vec<VersionState> {
    scene.state().finished.iter().map(VersionState::of).collect()
}

/// One candidate that the evidence does not decide, and one that is worse.
fn undecided_and_worse() -> [Step; 2] {
    [Step::Write("time=90 unsure"), Step::Write("time=150")]
}

/// Asks before it goes on.
fn asking() -> LoopRules {
    LoopRules { on_inconclusive: OnInconclusive::Ask, ..LoopRules::default() }
}

fn refused(error: &Error) -> String {
    let Error::Invalid { what, reason } = error else { panic!("{error:?}") };
    format!("{what}: {reason}")
}

#[tokio::test]
async fn an_undecided_candidate_is_held_and_the_loop_goes_on_from_the_accepted_version() {
    let scene = Scene::new(undecided_and_worse());
    let report = scene.pipeline().run(iterations(2)).await.unwrap();
    assert_eq!(report.results[0].outcome, IterationOutcome::Inconclusive);
    assert_eq!(report.results[1].incumbent.as_str(), "v0", "an open question is no acceptance");
    assert_eq!(states(&scene)[0], VersionState::Held);
    scene.assert_at_incumbent("after an undecided candidate");
    let held = scene.audit.records().await.unwrap().into_iter().find_map(|record| match record.what {
        AuditEvent::Held { version_id, .. } => Some(version_id.to_string()),
        _ => None,
    });
    assert_eq!(held.as_deref(), Some("v1"));
}

#[tokio::test]
async fn where_a_person_is_asked_the_run_ends_and_none_goes_on_before_the_answer() {
    let scene = Scene::new([Step::Write("time=90 unsure"), Step::Write("time=80")]);
    let run = async || scene.builder().rules(asking()).build().run(iterations(2)).await.unwrap();
    for _ in 0..2 {
        let report = run().await;
        assert_eq!(report.stop_reason, StopReason::AwaitsPerson { iteration: 1 });
        assert_eq!(states(&scene), [VersionState::Awaiting]);
        scene.assert_at_incumbent("while a person is asked");
    }
    decide(&scene, 1, Hold).await;
    assert_eq!(states(&scene), [VersionState::Held]);
    assert_eq!(run().await.results[0].iteration, 2, "the answer lets the run go on");
}

#[tokio::test]
async fn killed_at_any_step_a_run_that_asks_waits_all_the_same() {
    let scene = || Scene::new([Step::Write("time=90 unsure"), Step::Write("time=80")]);
    let undisturbed = scene();
    undisturbed.faults.disarm();
    undisturbed.builder().rules(asking()).build().run(iterations(2)).await.unwrap();
    for (at, name) in undisturbed.faults.steps().iter().enumerate() {
        let context = format!("killed at step {at} ({name})");
        let scene = Arc::new(scene());
        scene.faults.arm(at, Fault::Crash);
        let killed = tokio::spawn({
            let scene = Arc::clone(&scene);
            async move { scene.builder().rules(asking()).build().run(iterations(2)).await.map(drop) }
        });
        assert!(killed.await.unwrap_err().into_panic().is::<Crash>(), "{context}");
        scene.faults.disarm();
        let report = scene.builder().rules(asking()).build().run(iterations(2)).await.unwrap();
        assert_eq!(report.stop_reason, StopReason::AwaitsPerson { iteration: 1 }, "{context}");
        assert_eq!(states(&scene), [VersionState::Awaiting], "{context}");
        scene.assert_at_incumbent(&context);
    }
}

#[tokio::test]
async fn an_approved_candidate_is_the_incumbent_that_the_next_ones_are_compared_with() {
    let scene = Scene::new([Step::Write("time=90 unsure"), Step::Write("time=80 unsure")]);
    scene.pipeline().run(iterations(1)).await.unwrap();
    decide(&scene, 1, Approve).await;
    assert_eq!((scene.program().as_str(), states(&scene)), ("time=90 unsure", vec![VersionState::Accepted]));
    scene.assert_at_incumbent("after the approval");
    let report = scene.pipeline().run(iterations(1)).await.unwrap();
    assert_eq!(report.results[0].incumbent.as_str(), "v1");
    // A proposer learns of it.
    let briefs = scene.proposer.briefs();
    let told = &briefs.last().unwrap().outcomes[0];
    assert_eq!(told.outcome, "accepted");
    assert!(told.reasons[0].starts_with("ada approved v1"), "{told:?}");
    // Shown for ever, beside what the loop had decided.
    let first = IterationResult::from(&scene.state().finished[0]);
    assert_eq!((first.outcome, first.version_accepted), (IterationOutcome::Inconclusive, false));
    assert_eq!(first.overrides[0].to_string(), "ada approved v1 (1970-01-01T00:00:00Z): I have looked at it");
}

#[tokio::test]
async fn rejecting_the_incumbent_goes_back_to_the_version_before_and_it_is_no_longer_known_to_be_good() {
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=80")]);
    scene.pipeline().run(iterations(2)).await.unwrap();
    let known_good = evoseal_rollback::Rollback::known_good(&scene.rollback).await.unwrap();
    decide(&scene, 2, Reject).await;
    assert_eq!(scene.program(), "time=90");
    scene.assert_at_incumbent("after the rejection");
    let left = evoseal_rollback::Rollback::known_good(&scene.rollback).await.unwrap();
    assert_eq!(left, known_good[..known_good.len() - 1]);
    decide(&scene, 1, Reject).await;
    assert_eq!(scene.program(), "time=100", "the version before that is the first one");
    assert_eq!(states(&scene), [VersionState::Rejected; 2]);
    // Neither is a version to start from any more.
    scene.write("program.txt", "time=80");
    let error = scene.pipeline().run(iterations(1)).await.unwrap_err();
    assert!(refused(&error).contains("v2, which was refused"), "{error}");
}

#[tokio::test]
async fn a_tree_that_a_person_refused_is_neither_evaluated_nor_asked_about_again() {
    for verdict in [Reject, Hold] {
        let again = Step::Write("time=90 unsure");
        let scene = Scene::new([again.clone(), again, Step::Write("time=95 unsure")]);
        let run = async || scene.builder().rules(asking()).build().run(iterations(2)).await.unwrap();
        run().await;
        decide(&scene, 1, verdict).await;
        let report = run().await;
        let second = report.results[0].safety_result.as_ref().unwrap();
        assert_eq!(second.decision.decided_by, Rule::Overridden);
        assert_eq!(scene.evaluator.calls(), ["v0", "v1", "v3"], "{verdict}: v2 has the tree of v1");
        assert_eq!(
            report.stop_reason,
            StopReason::AwaitsPerson { iteration: 3 },
            "another tree is another question"
        );
    }
}

#[tokio::test]
async fn an_approval_answers_for_the_same_tree_where_the_evidence_is_open_again() {
    let unsure = || Step::Write("time=90 unsure");
    let scene = Scene::new([unsure(), Step::Write("time=80"), unsure()]);
    scene.pipeline().run(iterations(1)).await.unwrap();
    decide(&scene, 1, Approve).await;
    decide(&scene, 1, Reject).await;
    assert_eq!(scene.program(), "time=100");
    decide(&scene, 1, Approve).await;
    assert_eq!(scene.state().finished[0].overrides.len(), 3, "every word is kept");
    // Rolled back by hand, the same tree comes up again.
    decide(&scene, 1, Reject).await;
    let rejected = scene.state().standing.into_values().next().unwrap();
    assert_eq!(rejected.verdict, Reject, "the last word counts");
}

#[tokio::test]
async fn hard_evidence_is_approved_only_by_force_and_cannot_be_held() {
    let scene = Scene::new([
        Step::Write("time=60 tamper"),
        Step::Write("time=60 fail=1"),
        Step::Write("time=60 refuse"),
    ]);
    scene.pipeline().run(iterations(3)).await.unwrap();
    assert_eq!(states(&scene), [VersionState::Tampered, VersionState::RolledBack, VersionState::Error]);
    for iteration in 1..=3 {
        let error = overrider(&scene).carry_out(&request(iteration, Approve)).await.unwrap_err();
        assert!(refused(&error).ends_with("`--force` approves it all the same"), "{error}");
        let error = overrider(&scene).plan(&request(iteration, Hold)).await.unwrap_err();
        assert!(refused(&error).contains("on hard evidence"), "{error}");
        decide(&scene, iteration, Reject).await;
    }
    assert_eq!(states(&scene), [VersionState::Tampered, VersionState::RolledBack, VersionState::Error]);
    let forced = OverrideRequest { force: true, ..request(2, Approve) };
    assert!(overrider(&scene).carry_out(&forced).await.unwrap().succeeded());
    assert_eq!((scene.program().as_str(), states(&scene)[1]), ("time=60 fail=1", VersionState::Accepted));
}

#[tokio::test]
async fn a_wish_that_makes_no_sense_is_refused_and_says_why() {
    let scene = Scene::new([Step::Write("time=90"), Step::Fail, Step::Write("time=80 unsure")]);
    let plan = async |request: OverrideRequest| refused(&overrider(&scene).plan(&request).await.unwrap_err());
    assert!(plan(request(1, Approve)).await.contains("no iteration is on record yet"));
    scene.pipeline().run(iterations(3)).await.unwrap();
    assert!(plan(request(9, Approve)).await.contains("1 to 3 are on record"));
    assert!(plan(request(1, Approve)).await.contains("`evoseal rollback v1` goes back to it"));
    assert!(plan(request(1, Hold)).await.contains("it is accepted"));
    assert!(plan(request(2, Reject)).await.contains("no candidate"));
    let blank = OverrideRequest { reason: " ".to_owned(), ..request(3, Approve) };
    assert_eq!(plan(blank).await, "reason: it is empty");
    let held = scene.state().finished[2].version().unwrap().checkpoint.unwrap();
    evoseal_checkpoint::CheckpointStore::delete(&scene.checkpoints, &[held]).await.unwrap();
    assert!(plan(request(3, Approve)).await.contains("has been deleted"));
    let _lock = RunLock::acquire(&scene.state_directory()).unwrap();
    let error = overrider(&scene).carry_out(&request(1, Reject)).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
}

#[tokio::test]
async fn a_plan_shows_what_changes_and_changes_nothing_and_the_same_wish_twice_does_nothing() {
    let scene = Scene::new([Step::Write("time=90 unsure")]);
    scene.pipeline().run(iterations(1)).await.unwrap();
    let (tree, journal) = (scene.tree(), scene.journal());
    let plan = overrider(&scene).plan(&request(1, Approve)).await.unwrap();
    let paths: Vec<String> = plan.changes.iter().map(|change| change.path.to_string()).collect();
    assert_eq!((plan.state, plan.state_after), (VersionState::Held, VersionState::Accepted));
    assert_eq!(paths, ["program.txt"]);
    assert_eq!((scene.tree(), scene.journal()), (tree, journal));
    decide(&scene, 1, Approve).await;
    let journal = scene.journal();
    let again = overrider(&scene).carry_out(&request(1, Approve)).await.unwrap();
    assert!(again.plan.already && again.settled.is_none());
    assert_eq!(scene.journal(), journal, "it was said once");
}

/// Two accepted versions, the second of them undecided at first.
async fn accepted_and_undecided() -> Arc<Scene> {
    let scene = Scene::new([Step::Write("time=90"), Step::Write("time=80 unsure")]);
    scene.pipeline().run(iterations(2)).await.unwrap();
    Arc::new(scene)
}

#[tokio::test]
async fn an_override_that_is_killed_anywhere_is_completed_by_the_next_start_and_counts_once() {
    let cases = [
        (2, Approve, "time=80 unsure"),
        (1, Reject, "time=100"),
        (2, Hold, "time=90"),
        (2, Reject, "time=90"),
    ];
    for (iteration, verdict, program) in cases {
        let undisturbed = accepted_and_undecided().await;
        undisturbed.faults.disarm();
        decide(&undisturbed, iteration, verdict).await;
        let steps = undisturbed.faults.steps();
        for (at, name) in steps.iter().enumerate() {
            let context = format!("{verdict} of {iteration}, killed at step {at} ({name}) of {steps:?}");
            let scene = accepted_and_undecided().await;
            scene.faults.arm(at, Fault::Crash);
            let killed = tokio::spawn({
                let scene = Arc::clone(&scene);
                async move { overrider(&scene).carry_out(&request(iteration, verdict)).await.map(drop) }
            });
            assert!(killed.await.unwrap_err().into_panic().is::<Crash>(), "{context}");
            scene.faults.disarm();
            // The next start: of a run that asks for no iteration, or of an override.
            if at % 2 == 0 {
                scene.pipeline().run(iterations(0)).await.unwrap();
            }
            decide(&scene, iteration, verdict).await;
            assert_eq!(scene.program(), program, "{context}");
            scene.assert_at_incumbent(&context);
            // That another run began is no part of what was decided.
            let found = RunState { run_target: None, ..scene.state() };
            assert!(found == RunState { run_target: None, ..undisturbed.state() }, "{context}");
            let said = scene.audit.records().await.unwrap();
            let said = said.iter().filter(|record| matches!(record.what, AuditEvent::Overridden { .. }));
            assert_eq!(said.count(), 1, "{context}");
        }
    }
}

/// Writes down what a person decides, as a process does that dies right after it; then damages every checkpoint, so that no
/// rollback leads anywhere, and completes it.
async fn complete_in_vain(scene: &Scene, iteration: u64, verdict: PersonsVerdict) -> CompletedOverride {
    let plan = overrider(scene).plan(&request(iteration, verdict)).await.unwrap();
    let decision = PersonsDecision {
        version_id: plan.version.version_id.clone(),
        verdict,
        person: "ada".to_owned(),
        at: Timestamp::default(),
        reason: "I have looked at it".to_owned(),
    };
    let fall_back_to = plan.workspace_to.and_then(|version| version.checkpoint);
    let order = PersonsOrder { decision, version: plan.version, fall_back_to };
    let (mut journal, _) = Journal::open(&scene.journal_path()).unwrap();
    journal.append(&JournalEntry::Overriding { iteration, tree: None, order }).unwrap();
    drop(journal);
    for known in evoseal_checkpoint::CheckpointStore::list(&scene.checkpoints).await.unwrap() {
        scene.checkpoints.damage(known.id);
    }
    assert!(Overrider::is_unfinished(&scene.state_directory()));
    let completed = overrider(scene).complete(None).await.unwrap().unwrap();
    assert!(!Overrider::is_unfinished(&scene.state_directory()));
    scene.checkpoints.repair();
    // The fake leaves the workspace half-way where a rollback puts it back.
    scene.write("program.txt", "time=90");
    completed
}

#[tokio::test]
async fn an_approval_that_leads_nowhere_is_none_and_keeps_no_run_from_going_on() {
    let scene = accepted_and_undecided().await;
    let settled = complete_in_vain(&scene, 2, Approve).await.report;
    assert!(
        settled.actions_taken[0].starts_with(
            "v2 is not accepted, since it could not be restored: the rollback failed: none of 3 "
        ),
        "{settled:?}"
    );
    assert_eq!(states(&scene)[1], VersionState::Held);
    scene.pipeline().run(iterations(1)).await.unwrap();
    scene.assert_audited("after an approval that led nowhere").await;
    decide(&scene, 2, Approve).await;
}

#[tokio::test]
async fn a_rejected_version_that_cannot_be_left_is_no_version_to_start_from() {
    let scene = accepted_and_undecided().await;
    let settled = complete_in_vain(&scene, 1, Reject).await.report;
    assert!(
        settled.actions_taken[1]
            .starts_with("the workspace could not leave it: the rollback failed: none of 1 "),
        "{settled:?}"
    );
    assert_eq!(states(&scene)[0], VersionState::Rejected);
    let error = scene.pipeline().run(iterations(1)).await.unwrap_err();
    assert!(refused(&error).contains("v1, which was refused"), "{error}");
    // Where it is left by hand, the run goes on from there.
    scene.write("program.txt", "time=100");
    scene.pipeline().run(iterations(0)).await.unwrap();
    assert_eq!(scene.state().incumbent.unwrap().0.version_id.as_str(), "v0");
    scene.assert_audited("after a rejection that led nowhere").await;
}
