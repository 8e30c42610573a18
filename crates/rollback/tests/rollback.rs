//! What a rollback does, and what users of the first implementation found that it did not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Scene, to, to_id, version};
use evoseal_checkpoint::{CheckpointStore, NewCheckpoint, Source};
use evoseal_rollback::{
    Error, FunctionVerifier, Initiator, Rollback, RollbackRequest, RollbackSettings, Target,
};
use evoseal_types::{ChangeKind, CheckpointId, Digest, EntryPath, TestReport};

#[tokio::test]
async fn the_workspace_itself_becomes_the_whole_checkpoint_and_nothing_else() {
    let (scene, ids) = Scene::with_versions(&["v1"]).await;
    let wanted = scene.tree();
    scene.write("code", "broken");
    scene.write("new/deep/file", "appeared");
    fs::remove_dir_all(scene.workspace().join("src")).unwrap();

    let report = scene.manager().roll_back(to_id(ids[0])).await.unwrap();
    assert_eq!(scene.tree(), wanted);
    assert_eq!((report.restored, report.fell_back(), report.tree), (ids[0], false, wanted.digest()));
    assert_eq!(report.version_id, version("v1"));
    let changes: Vec<String> = report.changes.iter().map(|c| format!("{} {}", c.kind, c.path)).collect();
    let expected = [
        "modified code",
        "removed new",
        "removed new/deep",
        "removed new/deep/file",
        "added src",
        "added src/v1.rs",
    ];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn a_directory_link_in_the_workspace_does_not_stop_a_rollback() {
    let (scene, ids) = Scene::with_versions(&["v1"]).await;
    let outside = scene.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    std::os::unix::fs::symlink(&outside, scene.workspace().join("a-link")).unwrap();
    scene.manager().roll_back(to_id(ids[0])).await.unwrap();
    assert!(!scene.workspace().join("a-link").exists());
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
}

#[tokio::test]
async fn work_that_no_checkpoint_holds_is_saved_before_it_is_overwritten() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    scene.write("code", "by hand");
    let by_hand = scene.tree();
    let report = scene.manager().roll_back(to_id(ids[0])).await.unwrap();
    let saved = report.saved.expect("the edit was in no checkpoint");
    assert_eq!(scene.store.tree(saved).unwrap(), by_hand);
    let checkpoint = scene.store.load(saved).await.unwrap();
    assert_eq!(checkpoint.details.version_id, version("before-rollback-1"));
    assert!(checkpoint.details.note.contains("broken"), "{}", checkpoint.details.note);

    // The way back is a rollback like any other, and needs no saving: v1 is held.
    let back = scene.manager().roll_back(to_id(saved)).await.unwrap();
    assert_eq!((scene.tree(), back.saved), (by_hand, None));
}

#[tokio::test]
async fn a_workspace_that_was_deleted_comes_back() {
    let (scene, ids) = Scene::with_versions(&["v1"]).await;
    let wanted = scene.tree();
    let manager = scene.manager();
    fs::remove_dir_all(scene.workspace()).unwrap();
    manager.roll_back(to_id(ids[0])).await.unwrap();
    assert_eq!(scene.tree(), wanted);
}

#[tokio::test]
async fn the_intent_is_on_record_before_the_first_change() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    scene.store.damage(ids[0]);
    let during = Arc::new(Mutex::new(Vec::new()));
    let (state, seen) = (scene.state(), Arc::clone(&during));
    scene.faults.observe(move |step| {
        if step == "restore" {
            seen.lock().unwrap().push(state.join("intent").exists());
        }
    });
    scene.manager().roll_back(to_id(ids[0])).await.unwrap_err();
    // The damaged target, and the way back from it.
    assert_eq!(*during.lock().unwrap(), [true, true]);
    assert!(!scene.state().join("intent").exists());
}

#[tokio::test]
async fn a_damaged_target_falls_back_and_says_so_everywhere() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3"]).await;
    let manager = scene.manager();
    for id in &ids {
        manager.mark_known_good(*id).await.unwrap();
    }
    scene.store.damage(ids[1]);
    let report = manager.roll_back(to(Target::Version(version("v2")))).await.unwrap();
    assert_eq!((report.requested, report.restored, report.fell_back()), (ids[1], ids[0], true));
    assert_eq!(scene.code(), "v1");
    let tried: Vec<(CheckpointId, bool)> =
        report.attempts.iter().map(|attempt| (attempt.checkpoint, attempt.error.is_none())).collect();
    assert_eq!(tried, [(ids[1], false), (ids[0], true)]);
    // All that changed since v3 is listed, also what the failed attempt changed.
    assert!(
        report.changes.iter().any(|c| c.kind == ChangeKind::Removed && c.path.to_string() == "src/v3.rs")
    );
    let history = manager.history().await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].report.as_ref(), Some(&report));
}

#[tokio::test]
async fn when_every_target_fails_the_workspace_is_as_it_was_and_the_error_lists_them() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3", "v4", "v5"]).await;
    let manager = scene.manager();
    for id in &ids {
        manager.mark_known_good(*id).await.unwrap();
        scene.store.damage(*id);
    }
    scene.write("code", "by hand");
    let before = scene.tree();
    let error = manager.roll_back(to(Target::LastKnownGood)).await.unwrap_err();
    let Error::Exhausted { attempts } = &error else { panic!("{error}") };
    let tried: Vec<CheckpointId> = attempts.iter().map(|attempt| attempt.checkpoint).collect();
    assert_eq!(tried, [ids[4], ids[3], ids[2]], "at most three, newest first, none twice");
    assert!(attempts.iter().all(|attempt| attempt.error.as_ref().unwrap().contains("damaged")));
    assert_eq!(scene.tree(), before);
    let history = manager.history().await.unwrap();
    assert_eq!((history.len(), history[0].report.is_none(), &history[0].attempts), (1, true, attempts));
    assert_eq!(history[0].error.as_deref(), Some(error.to_string().as_str()));
}

#[tokio::test]
async fn twelve_damaged_versions_and_parents_in_a_circle_cost_no_more_than_the_bound() {
    let names: Vec<String> = (0..12).map(|number| format!("v{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (scene, ids) = Scene::with_versions(&names).await;
    let manager = scene.manager();
    for id in ids.iter().rev().chain(&ids) {
        manager.mark_known_good(*id).await.unwrap();
        scene.store.damage(*id);
    }
    manager.cascading_rollback(&version("v6")).await.unwrap_err();
    let restored = scene.store.restored();
    // Three targets, and after each of them the way back.
    assert_eq!(restored.len(), 6, "{restored:?}");
    assert_eq!(restored[0], ids[5]);
}

#[tokio::test]
async fn without_recovery_only_the_requested_version_is_tried() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3"]).await;
    let settings =
        RollbackSettings { enable_rollback_failure_recovery: false, ..RollbackSettings::default() };
    let manager = scene.manager_with(settings);
    manager.mark_known_good(ids[0]).await.unwrap();
    scene.store.damage(ids[1]);
    let error = manager.roll_back(to_id(ids[1])).await.unwrap_err();
    assert!(matches!(&error, Error::Exhausted { attempts } if attempts.len() == 1), "{error}");
    assert_eq!(scene.code(), "v3");
}

#[tokio::test]
async fn known_good_is_what_was_accepted_not_what_was_rolled_back_to_most() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3"]).await;
    let manager = scene.manager();
    for _ in 0..3 {
        manager.roll_back(to_id(ids[0])).await.unwrap();
    }
    let error = manager.roll_back(to(Target::LastKnownGood)).await.unwrap_err();
    assert!(matches!(error, Error::NoTarget { .. }), "{error}");
    manager.mark_known_good(ids[1]).await.unwrap();
    let report = manager.roll_back(to(Target::LastKnownGood)).await.unwrap();
    assert_eq!(report.restored, ids[1]);
}

#[tokio::test]
async fn an_unhealthy_version_is_left_for_an_older_one() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3"]).await;
    let healthy = FunctionVerifier::new("not v2", async |workspace: PathBuf, _| {
        let code = fs::read_to_string(workspace.join("code")).unwrap();
        Ok(if code == "v2" { Err("v2 does not start".to_owned()) } else { Ok(()) })
    });
    let manager = scene.builder().verifier(Arc::new(healthy)).build().unwrap();
    manager.mark_known_good(ids[0]).await.unwrap();
    let report = manager.roll_back(to_id(ids[1])).await.unwrap();
    assert_eq!((report.restored, scene.code().as_str()), (ids[0], "v1"));
    assert_eq!(report.attempts[0].error.as_deref(), Some("v2 does not start"));
}

#[tokio::test]
async fn a_health_check_that_changes_the_workspace_is_not_believed() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let meddler = FunctionVerifier::new("meddler", async |workspace: PathBuf, _| {
        fs::write(workspace.join("code"), "meddled").unwrap();
        Ok(Ok(()))
    });
    let manager = scene.builder().verifier(Arc::new(meddler)).build().unwrap();
    let error = manager.roll_back(to_id(ids[0])).await.unwrap_err();
    assert!(error.to_string().contains("the health check changed the workspace"), "{error}");
    assert_eq!(scene.code(), "v2");
}

#[tokio::test]
async fn when_time_is_up_no_further_target_is_tried() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2", "v3"]).await;
    let clock = Arc::clone(&scene.clock);
    let slow = FunctionVerifier::new("slow", move |_, _| {
        clock.advance(Duration::from_secs(31));
        async { Ok(Err("too late".to_owned())) }
    });
    let manager = scene.builder().verifier(Arc::new(slow)).build().unwrap();
    manager.mark_known_good(ids[0]).await.unwrap();
    let error = manager.roll_back(to_id(ids[1])).await.unwrap_err();
    let Error::TimedOut { limit_sec: 30, attempts } = &error else { panic!("{error}") };
    assert_eq!(attempts.len(), 1);
    assert_eq!(scene.code(), "v3");
    assert_eq!(manager.history().await.unwrap()[0].duration, Duration::from_secs(31));
}

#[tokio::test]
async fn a_health_check_that_never_answers_is_cut_off() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let stuck = FunctionVerifier::new("stuck", |_, _| std::future::pending());
    let settings =
        RollbackSettings { rollback_timeout: Duration::from_millis(200), ..RollbackSettings::default() };
    let builder = scene.builder().verifier(Arc::new(stuck)).settings(settings);
    let manager = builder.build().unwrap();
    let error = manager.roll_back(to_id(ids[0])).await.unwrap_err();
    assert!(error.to_string().contains("the health check did not finish in time"), "{error}");
    assert_eq!(scene.code(), "v2");
}

#[tokio::test]
async fn a_workspace_that_became_a_symlink_is_refused_and_that_is_on_record() {
    let (scene, ids) = Scene::with_versions(&["v1"]).await;
    let manager = scene.manager();
    let moved = scene.folder.path().join("moved");
    fs::rename(scene.workspace(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, scene.workspace()).unwrap();
    fs::write(moved.join("code"), "edited").unwrap();
    let error = manager.roll_back(to_id(ids[0])).await.unwrap_err();
    assert!(matches!(error, Error::UnsafeWorkspace { .. }), "{error}");
    assert_eq!(fs::read_to_string(moved.join("code")).unwrap(), "edited");
    let history = manager.history().await.unwrap();
    assert!(history[0].error.as_ref().unwrap().contains("symbolic link"));
    assert!(matches!(scene.builder().build(), Err(Error::UnsafeWorkspace { .. })));
}

#[tokio::test]
async fn a_preview_changes_nothing() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let before = scene.tree();
    let (checkpoint, plan) = scene.manager().preview(&Target::Checkpoint(ids[0])).await.unwrap();
    assert_eq!((checkpoint.id, plan.tree), (ids[0], checkpoint.tree));
    let changes: Vec<String> = plan.changes.iter().map(|c| format!("{} {}", c.kind, c.path)).collect();
    assert_eq!(changes, ["modified code", "removed src/v2.rs"]);
    assert_eq!(scene.tree(), before);
    assert!(scene.manager().history().await.unwrap().is_empty());
}

#[tokio::test]
async fn each_call_is_counted_once_and_by_who_made_it() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let manager = scene.manager();
    manager.mark_known_good(ids[0]).await.unwrap();
    let failed = [TestReport::from_counts("unit_tests", 1, 1, 0, 0)];
    manager.auto_rollback_on_failure(&version("v2"), &failed, &[]).await.unwrap().unwrap();
    manager.rollback_to_version(&version("v2"), "ada", "it was fine").await.unwrap();
    manager.rollback_to_version(&version("v9"), "ada", "it was fine").await.unwrap_err();
    let statistics = manager.get_rollback_statistics().await.unwrap();
    let counts = [
        statistics.total_rollbacks,
        statistics.successful_rollbacks,
        statistics.failed_rollbacks,
        statistics.auto_rollbacks,
        statistics.manual_rollbacks,
        statistics.recovery_rollbacks,
    ];
    assert_eq!(counts, [3, 2, 1, 1, 2, 0]);
    assert!((statistics.success_rate.unwrap() - 2.0 / 3.0).abs() < 1e-12);
    let reasons = [("it was fine".to_owned(), 2), ("auto_rollback: test_failure".to_owned(), 1)];
    assert_eq!(statistics.reason_counts, reasons);

    let newest = manager.get_rollback_history(Some(1)).await.unwrap();
    assert_eq!((newest.len(), newest[0].sequence), (1, 3));
    assert_eq!(newest[0].request.initiator, Initiator::Person("ada".to_owned()));
    assert_eq!(manager.get_rollback_history(None).await.unwrap().len(), 3);
}

#[tokio::test]
async fn tests_that_erred_or_did_not_run_are_a_reason_to_go_back_and_passed_ones_are_not() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let manager = scene.manager();
    manager.mark_known_good(ids[0]).await.unwrap();
    let passed = TestReport::from_counts("unit_tests", 3, 0, 0, 0);
    let none =
        manager.auto_rollback_on_failure(&version("v2"), std::slice::from_ref(&passed), &[]).await.unwrap();
    assert_eq!((none, scene.code().as_str()), (None, "v2"));

    let errored = TestReport::errored("unit_tests", "did not build");
    let empty = TestReport::from_counts("unit_tests", 0, 0, 0, 0);
    let slower = ["latency".to_owned()];
    for (tests, regressed, reason) in [
        (vec![], [].as_slice(), "auto_rollback: test_failure"),
        (vec![passed.clone(), errored], &[], "auto_rollback: test_failure"),
        (vec![empty], &[], "auto_rollback: test_failure"),
        (vec![passed], &slower, "auto_rollback: metrics_regression"),
    ] {
        let report = manager.auto_rollback_on_failure(&version("v2"), &tests, regressed).await.unwrap();
        assert_eq!(report.unwrap().restored, ids[0]);
        assert_eq!(manager.get_rollback_history(Some(1)).await.unwrap()[0].request.reason, reason);
    }
}

#[tokio::test]
async fn only_whole_checkpoints_are_offered_as_targets() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let manager = scene.manager();
    // An interrupted capture leaves nothing that could be taken for a target.
    scene.write("code", "v3");
    scene.faults.arm(1, evoseal_testkit::Fault::Once);
    let details = NewCheckpoint::of(version("v3"));
    scene.store.create(Source::Directory(scene.workspace()), details).await.unwrap_err();
    scene.store.damage_entries(ids[0]);
    for (name, can) in [("v1", false), ("v2", true), ("v3", false)] {
        assert_eq!(manager.can_rollback_to_version(&version(name)).await.unwrap(), can, "{name}");
    }
    let targets = manager.get_available_rollback_targets().await.unwrap();
    let targets: Vec<CheckpointId> = targets.into_iter().map(|checkpoint| checkpoint.id).collect();
    assert_eq!(targets, [ids[1], ids[0]]);
}

#[tokio::test]
async fn marking_what_the_store_does_not_show_is_refused_and_marking_twice_is_once() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let manager = scene.manager();
    let unknown = CheckpointId::new(Digest::of(b"?"));
    assert!(matches!(manager.mark_known_good(unknown).await, Err(Error::Checkpoint(_))));
    for id in [ids[1], ids[0], ids[1]] {
        manager.mark_known_good(id).await.unwrap();
    }
    assert_eq!(scene.manager().known_good().await.unwrap(), [ids[1], ids[0]]);
}

#[tokio::test]
async fn managers_that_roll_back_at_once_keep_every_record() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let managers = [scene.manager(), scene.manager(), scene.manager()];
    let [a, b, c] = managers.map(|manager| {
        let ids = ids.clone();
        tokio::spawn(async move {
            for round in 0..4 {
                manager.roll_back(to_id(ids[round % 2])).await.unwrap();
            }
        })
    });
    for task in [a, b, c] {
        task.await.unwrap();
    }
    let sequences: Vec<u64> =
        scene.manager().history().await.unwrap().iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, (1..=12).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_damaged_history_is_reported_by_line_and_stops_no_rollback() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let manager = scene.manager();
    for id in &ids {
        manager.roll_back(to_id(*id)).await.unwrap();
    }
    let path = scene.state().join("history.log");
    let text = fs::read_to_string(&path).unwrap().replacen("broken", "brokem", 1);
    fs::write(&path, text).unwrap();
    for error in [manager.history().await.unwrap_err(), manager.statistics().await.unwrap_err()] {
        assert!(matches!(&error, Error::Damaged { problem, .. } if problem.contains("line 2")), "{error}");
    }
    manager.roll_back(to_id(ids[0])).await.unwrap();
    assert_eq!(scene.code(), "v1");
}

#[tokio::test]
async fn a_dropped_call_goes_on_to_its_end() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let manager = scene.manager();
    let request = RollbackRequest { target: Target::Checkpoint(ids[0]), ..to_id(ids[0]) };
    {
        let call = manager.roll_back(request);
        let mut call = std::pin::pin!(call);
        // One poll starts it.
        std::future::poll_fn(|ctx| {
            let _ = call.as_mut().poll(ctx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    // The next call waits for the lock, and so for the end of the first.
    while manager.history().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.code(), "v1");
}

#[tokio::test]
async fn caches_are_cleared_on_their_own_of_what_the_version_does_not_hold() {
    let (scene, ids) = Scene::with_versions(&["v1", "v2"]).await;
    let caches = vec!["cache".to_owned(), "missing".to_owned(), "code".to_owned()];
    let settings = RollbackSettings { caches, ..RollbackSettings::default() };
    let manager = scene.builder().settings(settings).build().unwrap();
    fs::create_dir_all(scene.workspace().join("cache/deep")).unwrap();
    fs::write(scene.workspace().join("cache/deep/object"), "built").unwrap();
    let cleared = manager.clear_caches(ids[0]).await.unwrap();
    assert_eq!(cleared, [EntryPath::new("cache").unwrap()]);
    assert!(!scene.workspace().join("cache").exists());
    assert_eq!(scene.code(), "v2", "what a version holds is not its business");
    assert_eq!(manager.clear_caches(ids[0]).await.unwrap(), []);
    assert_eq!(manager.history().await.unwrap(), []);
}

#[test]
fn what_belongs_to_no_candidate_is_refused_as_a_cache() {
    let bad = RollbackSettings { caches: vec![".git".to_owned()], ..RollbackSettings::default() };
    let error = Scene::new().builder().settings(bad).build().unwrap_err();
    assert!(error.to_string().contains("never removed"), "{error}");
}
