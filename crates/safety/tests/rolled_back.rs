//! Rollbacks in the audit log: each once, whoever asked and wherever a process was killed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use evoseal_rollback::{Initiator, Rollback, RollbackRequest, Target};
use evoseal_safety::{AuditEvent, SafetyGate, SafetyGateExt, Settlement, VersionRef};
use evoseal_testkit::Fault;
use evoseal_types::CheckpointId;
use support::scene::{Scene, refusal, request};
use support::version;

/// The numbers of the rollbacks that the log has, with the versions that were left.
async fn recorded_rollbacks(scene: &Scene) -> Vec<(Option<u64>, Option<String>)> {
    let of = |event| match event {
        AuditEvent::RolledBack { from, rollback, .. } => Some((rollback, from.map(|from| from.to_string()))),
        AuditEvent::RollbackFailed { rollback, .. } => Some((Some(rollback), None)),
        _ => None,
    };
    scene.events().await.into_iter().filter_map(of).collect()
}

/// Settles, and fails from the first step of this name on, as a killed process does.
async fn fail_at(scene: &Scene, settlement: &Settlement, name: &str) {
    let undisturbed = Scene::new();
    let same = refusal(&undisturbed).await;
    undisturbed.faults.disarm();
    undisturbed.gate.settle(&same).await.unwrap();
    let steps = undisturbed.faults.steps();
    let at = steps.iter().position(|step| step == name).unwrap_or_else(|| panic!("no {name} in {steps:?}"));
    scene.faults.arm(at, Fault::Forever);
    scene.gate.settle(settlement).await.unwrap_err();
}

fn by_person(target: CheckpointId) -> RollbackRequest {
    let initiator = Initiator::Person("ada".to_owned());
    RollbackRequest { target: Target::Checkpoint(target), reason: "I liked it better".to_owned(), initiator }
}

#[tokio::test]
async fn rollbacks_by_anybody_stand_in_the_log_once_each_and_in_order() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    let v1 = settlement.current.as_ref().unwrap().checkpoint.unwrap();
    scene.rollback.roll_back(by_person(v1)).await.unwrap();
    assert_eq!(scene.gate.record_rollbacks().await.unwrap(), 1);
    assert_eq!(scene.gate.record_rollbacks().await.unwrap(), 0);
    // Nobody recorded this one.
    scene.rollback.roll_back(by_person(v1)).await.unwrap();
    scene.write("v2");
    scene.gate.settle(&settlement).await.unwrap();
    let left = |number, from: Option<&str>| (Some(number), from.map(str::to_owned));
    assert_eq!(recorded_rollbacks(&scene).await, [left(1, None), left(2, None), left(3, Some("v2"))]);
    assert_eq!(scene.rollback.history().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_rollback_that_was_recorded_nowhere_but_in_its_history_is_not_repeated() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    // The process is killed between the rollback and its record: the append fails, and all is begun anew.
    fail_at(&scene, &settlement, "audit append").await;
    scene.faults.disarm();
    assert_eq!((scene.text(), recorded_rollbacks(&scene).await), ("v1".to_owned(), Vec::new()));
    let report = scene.gate.settle(&settlement).await.unwrap();
    assert!(report.rollback_performed());
    assert_eq!(recorded_rollbacks(&scene).await, [(Some(1), Some("v2".to_owned()))]);
    assert_eq!(scene.rollback.history().await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_consequence_stands_in_the_log_once_wherever_the_process_was_killed() {
    for latency in [9.0, 20.0] {
        let undisturbed = Scene::new();
        let v1 = undisturbed.accepted("v1", None).await;
        let step = undisturbed.step(&v1, "v2", latency);
        undisturbed.faults.disarm();
        undisturbed.gate.execute_safe_evolution_step(step).await;
        let (steps, expected) = (undisturbed.faults.steps(), undisturbed.events().await);
        for (at, name) in steps.iter().enumerate() {
            let scene = Scene::new();
            let v1 = scene.accepted("v1", None).await;
            let step = scene.step(&v1, "v2", latency);
            scene.faults.arm(at, Fault::Forever);
            let killed = scene.gate.execute_safe_evolution_step(step.clone()).await;
            scene.faults.disarm();
            if killed.error.is_none() {
                continue;
            }
            // What was judged already is judged and settled again, as the journal of a loop has it done.
            let judged = scene.gate.validate_version_safety(&step.request).await.unwrap();
            let checkpoint = match killed.checkpoint {
                Some(checkpoint) => checkpoint,
                None => scene.capture("v2", v1.checkpoint).await,
            };
            let new = VersionRef { version_id: version("v2"), checkpoint: Some(checkpoint) };
            let current = Some(v1.clone());
            let settlement = Settlement { new, current, decision: judged.decision, auto_rollback: true };
            scene.gate.settle(&settlement).await.unwrap();
            // A rollback that could not be made is a record of its own; a capture that nobody heard of is another one.
            let unheard = killed.checkpoint.is_none();
            let mut found = scene.events().await;
            found.retain(|event| !matches!(event, AuditEvent::RollbackFailed { .. }));
            let kinds = |events: &[AuditEvent]| {
                let mut kinds: Vec<String> = events.iter().map(kind_of).collect();
                kinds.sort_unstable();
                kinds.retain(|kind| !unheard || kind != "checkpoint_created");
                kinds
            };
            assert_eq!(kinds(&found), kinds(&expected), "killed at step {at} ({name})");
            let history = scene.rollback.history().await.unwrap();
            let numbers: Vec<_> =
                recorded_rollbacks(&scene).await.into_iter().map(|(number, _)| number).collect();
            let all: Vec<_> = history.iter().map(|record| Some(record.sequence)).collect();
            assert_eq!(numbers, all, "killed at step {at} ({name})");
        }
    }
}

/// The name of an event's kind, as in the log.
fn kind_of(event: &AuditEvent) -> String {
    serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_acceptance_too_brings_the_log_up_to_date_with_the_rollbacks() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    scene.rollback.roll_back(by_person(v1.checkpoint.unwrap())).await.unwrap();
    scene.accepted("v2", v1.checkpoint).await;
    assert_eq!(recorded_rollbacks(&scene).await, [(Some(1), None)]);
}

#[tokio::test]
async fn a_rollback_before_a_decision_does_not_count_as_what_the_decision_asks_for() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    scene.gate.settle(&settlement).await.unwrap();
    // The next proposal changes nothing, and the workspace is where the last rollback led.
    let request = request(Some("v1"), "v3", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v3"), checkpoint: None };
    scene.gate.settle(&Settlement { new, decision, ..settlement.clone() }).await.unwrap();
    // Neither does one by a person, who left no version that has a name.
    let target = settlement.current.as_ref().unwrap().checkpoint.unwrap();
    scene.rollback.roll_back(by_person(target)).await.unwrap();
    scene.gate.record_rollbacks().await.unwrap();
    let request = self::request(Some("v1"), "v4", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v4"), checkpoint: None };
    scene.gate.settle(&Settlement { new, decision, ..settlement }).await.unwrap();
    let left = |number, from: Option<&str>| (Some(number), from.map(str::to_owned));
    let expected = [left(1, Some("v2")), left(2, Some("v3")), left(3, None), left(4, Some("v4"))];
    assert_eq!(recorded_rollbacks(&scene).await, expected);
}

#[tokio::test]
async fn a_rollback_that_failed_is_recorded_with_its_error() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    fail_at(&scene, &settlement, "write program").await;
    scene.faults.disarm();
    let failed = |event: &AuditEvent| matches!(event, AuditEvent::RollbackFailed { rollback: 1, error, .. } if !error.is_empty());
    assert!(scene.gate.settle(&settlement).await.unwrap().rollback_performed());
    assert_eq!(scene.count(failed).await, 1);
    assert_eq!(recorded_rollbacks(&scene).await.len(), 2);
}
