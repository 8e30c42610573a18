//! Where a rollback goes that is asked for by what a version is: the best one, or what was there before.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{Scene, to, to_id, version};
use evoseal_checkpoint::{CheckpointStore, NewCheckpoint, Source};
use evoseal_rollback::{Error, Rollback, Target};
use evoseal_types::{CheckpointId, Direction, MetricSamples, MetricSpec, Objective};

/// A workspace with one known-good version for each list of samples, `v1` and so on; `None` was not measured.
async fn measured(lists: &[Option<&[f64]>]) -> (Scene, Vec<CheckpointId>) {
    let (scene, mut ids) = (Scene::new(), Vec::new());
    for (number, list) in (1..).zip(lists) {
        let name = format!("v{number}");
        scene.write("code", &name);
        let spec = MetricSpec::new("throughput", "items/s", Direction::Decrease).unwrap();
        let metrics = list.map(|list| MetricSamples::independent(spec, list)).into_iter().collect();
        let details = NewCheckpoint { metrics, ..NewCheckpoint::of(version(&name)) };
        let handle = scene.store.create(Source::Directory(scene.workspace()), details).await.unwrap();
        let id = handle.durable().await.unwrap().id;
        scene.manager().mark_known_good(id).await.unwrap();
        ids.push(id);
    }
    (scene, ids)
}

fn best(metric: &str, direction: Direction) -> Target {
    Target::Best(Objective { metric: metric.parse().unwrap(), direction })
}

#[tokio::test]
async fn of_equally_good_versions_the_newest_is_the_best_and_an_unmeasured_one_never_is() {
    let (scene, ids) =
        measured(&[Some(&[2.0, 4.0]), Some(&[3.0]), Some(&[1.0, 1.0]), Some(&[1.0]), None, Some(&[])]).await;
    for (direction, expected) in [(Direction::Decrease, ids[1]), (Direction::Increase, ids[3])] {
        let report = scene.manager().roll_back(to(best("throughput", direction))).await.unwrap();
        assert_eq!((report.restored, report.fell_back()), (expected, false), "harmful is {direction:?}");
    }
}

#[tokio::test]
async fn equally_good_is_what_has_the_same_mean_however_many_samples_that_took() {
    let many = [1.0; 1000];
    let (scene, ids) = measured(&[Some(&[1.0]), Some(&many), Some(&[f64::NAN])]).await;
    let report = scene.manager().roll_back(to(best("throughput", Direction::Decrease))).await.unwrap();
    assert_eq!(report.restored, ids[1]);
}

#[tokio::test]
async fn the_newest_of_equals_is_the_one_that_was_accepted_last() {
    let (scene, ids) = measured(&[Some(&[1.0]), Some(&[1.0])]).await;
    let manager = scene.manager();
    manager.withdraw_known_good(ids[0]).await.unwrap();
    manager.mark_known_good(ids[0]).await.unwrap();
    let report = manager.roll_back(to(best("throughput", Direction::Decrease))).await.unwrap();
    assert_eq!(report.restored, ids[0]);
}

#[tokio::test]
async fn a_version_that_was_withdrawn_or_deleted_is_not_the_best() {
    let (scene, ids) = measured(&[Some(&[1.0]), Some(&[9.0]), Some(&[8.0])]).await;
    let manager = scene.manager();
    manager.withdraw_known_good(ids[1]).await.unwrap();
    scene.store.delete(&[ids[2]]).await.unwrap();
    let report = manager.roll_back(to(best("throughput", Direction::Decrease))).await.unwrap();
    assert_eq!(report.restored, ids[0]);
}

#[tokio::test]
async fn without_any_sample_there_is_no_best_version_and_the_error_names_the_metric() {
    let (scene, _) = measured(&[None, Some(&[]), Some(&[f64::NAN, f64::INFINITY])]).await;
    let before = scene.tree();
    for metric in ["throughput", "latency"] {
        let error = scene.manager().roll_back(to(best(metric, Direction::Decrease))).await.unwrap_err();
        let expected = format!(
            "no version to roll back to: no version that is known to be good has samples of {metric}"
        );
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(scene.tree(), before);
}

#[tokio::test]
async fn a_damaged_best_version_is_left_for_the_known_good_one_before_it() {
    let (scene, ids) = measured(&[Some(&[1.0]), Some(&[5.0]), Some(&[2.0])]).await;
    scene.store.damage(ids[1]);
    let report = scene.manager().roll_back(to(best("throughput", Direction::Decrease))).await.unwrap();
    assert_eq!((report.requested, report.restored), (ids[1], ids[0]));
}

#[tokio::test]
async fn an_undo_is_refused_once_its_checkpoint_was_deleted_and_the_workspace_stays() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    scene.write("code", "by hand");
    let manager = scene.manager();
    let saved = manager.roll_back(to_id(ids[0])).await.unwrap().saved.unwrap();
    scene.store.delete(&[saved]).await.unwrap();
    let before = scene.tree();
    for _ in 0..2 {
        let error = manager.roll_back(to(Target::Undo)).await.unwrap_err();
        let expected = "no version to roll back to: the checkpoint of what the workspace held before the last \
                        rollback has been deleted";
        assert_eq!(error.to_string(), expected);
        assert!(matches!(manager.preview(&Target::Undo).await, Err(Error::NoTarget { .. })));
        assert_eq!(scene.tree(), before);
    }
    // The refusals are on record and are no rollbacks that could be undone; a new one is.
    manager.roll_back(to_id(ids[1])).await.unwrap();
    manager.roll_back(to(Target::Undo)).await.unwrap();
    assert_eq!(scene.tree(), before);
}

#[tokio::test]
async fn another_checkpoint_that_holds_the_same_serves_an_undo_as_well() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    scene.write("code", "by hand");
    let by_hand = scene.tree();
    let manager = scene.manager();
    let saved = manager.roll_back(to_id(ids[0])).await.unwrap().saved.unwrap();
    // The same tree, captured elsewhere under another name.
    let elsewhere = scene.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    scene.store.restore(saved, &elsewhere, evoseal_checkpoint::RestoreMode::Empty).await.unwrap();
    let details = NewCheckpoint::of(version("copy"));
    let handle = scene.store.create(Source::Directory(elsewhere), details).await.unwrap();
    let copy = handle.durable().await.unwrap();
    scene.store.delete(&[saved]).await.unwrap();
    let report = manager.roll_back(to(Target::Undo)).await.unwrap();
    assert_eq!((report.restored, scene.tree()), (copy.id, by_hand));
}

#[tokio::test]
async fn an_undo_goes_back_over_a_rollback_that_fell_back() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    scene.write("code", "by hand");
    let by_hand = scene.tree();
    scene.store.damage(ids[1]);
    let manager = scene.manager();
    manager.mark_known_good(ids[0]).await.unwrap();
    let report = manager.roll_back(to_id(ids[1])).await.unwrap();
    assert_eq!((report.restored, report.fell_back()), (ids[0], true));
    let undone = scene.manager().roll_back(to(Target::Undo)).await.unwrap();
    assert_eq!((undone.restored, scene.tree()), (report.saved.unwrap(), by_hand));
}
