//! Which checkpoints a clean-up deletes, and which it never does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use evoseal_checkpoint::{CheckpointStore, RetentionPolicy};
use evoseal_safety::{AuditEvent, SafetyGate, SafetySwitches, Settlement, VersionRef};
use evoseal_testkit::ScriptedDetector;
use evoseal_types::CheckpointId;
use support::scene::{Scene, request};
use support::version;

#[tokio::test]
async fn clean_up_deletes_the_oldest_and_never_what_a_rollback_may_need() {
    let switches = SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() };
    let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
    let old = scene.capture("old", None).await;
    let pinned = scene.capture("pinned", None).await;
    scene.checkpoints.pin(pinned, Some("wanted")).await.unwrap();
    let baseline = scene.capture("named", None).await;
    scene.gate.set_baseline("release", &version("named")).await.unwrap();
    let parent = scene.capture("parent", None).await;
    let incumbent = scene.accepted("v1", Some(parent)).await.checkpoint.unwrap();
    let middle = scene.capture("middle", None).await;
    let newest = scene.capture("candidate", None).await;

    let report = scene.gate.cleanup_old_safety_data(1).await.unwrap();
    assert_eq!((report.checkpoints_deleted, report.kept_protected), (2, 4));
    let kept: Vec<CheckpointId> =
        scene.checkpoints.list().await.unwrap().iter().map(|checkpoint| checkpoint.id).collect();
    assert_eq!(kept, [pinned, baseline, parent, incumbent, newest]);
    let deleted = AuditEvent::CleanedUp { checkpoints: vec![old, middle] };
    assert_eq!(scene.events().await.last(), Some(&deleted));
}

#[tokio::test]
async fn clean_up_keeps_as_many_as_it_was_told_to() {
    let scene = Scene::with(
        SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() },
        ScriptedDetector::comparing_means(0.1),
    );
    for name in ["a", "b", "c", "d"] {
        scene.capture(name, None).await;
    }
    assert_eq!(scene.gate.cleanup_old_safety_data(4).await.unwrap().checkpoints_deleted, 0);
    assert_eq!(scene.gate.cleanup_old_safety_data(3).await.unwrap().checkpoints_deleted, 1);
    let left = scene.checkpoints.list().await.unwrap();
    assert_eq!(left[0].details.version_id, version("b"));
}

#[tokio::test]
async fn a_settlement_keeps_its_own_versions_even_if_the_log_knows_nothing_about_them() {
    let switches = SafetySwitches { max_checkpoints: 1, ..SafetySwitches::default() };
    let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
    // As after a restart of a program with a log in memory: nobody has told this gate about v1.
    let v1 = VersionRef { version_id: version("v1"), checkpoint: Some(scene.capture("v1", None).await) };
    let request = request(Some("v1"), "v2", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v2"), checkpoint: Some(scene.capture("v2", None).await) };
    scene.capture("saved", None).await;
    let settlement = Settlement { new, current: Some(v1.clone()), decision, auto_rollback: true };
    scene.gate.settle(&settlement).await.unwrap();
    let left = scene.checkpoints.list().await.unwrap();
    assert!(left.iter().any(|checkpoint| Some(checkpoint.id) == v1.checkpoint), "{left:?}");
}

#[tokio::test]
async fn clean_up_obeys_the_budget_and_spares_what_a_rollback_may_need() {
    let switches = SafetySwitches { auto_cleanup: false, max_store_bytes: 2, ..SafetySwitches::default() };
    let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
    // One byte each.
    let accepted = scene.accepted("a", None).await;
    for name in ["b", "c", "d"] {
        scene.capture(name, None).await;
    }
    let report = scene.gate.cleanup_old_safety_data(50).await.unwrap();
    assert_eq!(report.checkpoints_deleted, 2);
    let left: Vec<CheckpointId> =
        scene.checkpoints.list().await.unwrap().iter().map(|checkpoint| checkpoint.id).collect();
    assert_eq!(left.len(), 2);
    assert_eq!(Some(left[0]), accepted.checkpoint, "the accepted version is the oldest and stays");
}

#[tokio::test]
async fn further_rules_keep_more_than_the_number() {
    let keep_more = RetentionPolicy { within: Duration::from_hours(1), ..RetentionPolicy::default() };
    for (keep_more, left) in [(keep_more, 4), (RetentionPolicy::default(), 1)] {
        let switches = SafetySwitches { auto_cleanup: false, keep_more, ..SafetySwitches::default() };
        let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
        for name in ["a", "b", "c", "d"] {
            scene.capture(name, None).await;
        }
        scene.gate.cleanup_old_safety_data(1).await.unwrap();
        assert_eq!(scene.checkpoints.list().await.unwrap().len(), left);
    }
}
