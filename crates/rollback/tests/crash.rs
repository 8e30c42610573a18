//! A rollback that is killed, or whose operations fail, at every single step.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::case::{Case, last_change, steps, survive};
use common::{Scene, in_each_mode, to, to_id};
use evoseal_checkpoint::CheckpointStore;
use evoseal_rollback::{Error, FunctionVerifier, Initiator, Rollback, RollbackMode, Target};
use evoseal_testkit::{Fault, Tree};
use evoseal_types::EntryPath;

/// Kills a rollback at every step and recovers; `wanted` is the tree that a completed one leaves.
async fn killed_anywhere(mode: RollbackMode, damaged: &[usize], restores: Option<usize>) {
    let count = steps(mode, damaged).await.len();
    assert!(count > 20, "{count} steps are too few to be the whole protocol");
    let mut completed = 0;
    for at in 0..count {
        let case = Case::new(mode, damaged).await;
        let answer = case.attempt(at, Fault::Crash).await;
        assert!(answer.is_none(), "step {at} of {count} did not kill it");
        let had_intent = case.has_intent();
        let is_recorded = !case.history().await.is_empty();
        if mode == RollbackMode::Exchange {
            let now = case.scene.tree();
            let is_whole = now == case.before || restores.is_some_and(|index| now == case.tree_of(index));
            assert!(is_whole, "step {at}: the workspace is between two versions");
        }
        let manager = case.manager();
        let recovered = manager.recover().await;
        match (had_intent && !is_recorded, &recovered) {
            (true, Ok(Some(report))) => {
                assert_eq!(Some(report.restored), restores.map(|index| case.ids[index]), "step {at}");
                completed += 1;
            }
            (true, Err(Error::Exhausted { .. })) => {
                assert_eq!(restores, None, "step {at}");
                completed += 1;
            }
            (false, Ok(None)) => {}
            other => panic!("step {at}: {other:?}"),
        }
        let history = case.history().await;
        let wanted = match (history.len(), restores) {
            (1, Some(index)) => case.tree_of(index),
            (0, _) | (1, None) => case.before.clone(),
            (more, _) => panic!("step {at}: {more} records for one rollback"),
        };
        assert_eq!(case.scene.tree(), wanted, "step {at}");
        if had_intent && !is_recorded {
            assert_eq!(history[0].request.initiator, Initiator::Recovery, "step {at}");
        }
        case.assert_nothing_is_lost(at).await;

        // Once more changes nothing.
        assert_eq!(manager.recover().await.unwrap(), None, "step {at}");
        assert_eq!((case.scene.tree(), case.has_intent()), (wanted, false), "step {at}");
        assert_eq!(case.history().await, history, "step {at}");
    }
    assert!(completed > 5, "only {completed} of {count} kills left something to complete");
}

async fn killed_at_any_step_a_rollback_is_completed_exactly_once(mode: RollbackMode) {
    killed_anywhere(mode, &[], Some(1)).await;
}

async fn killed_at_any_step_of_a_fall_back_it_is_completed_exactly_once(mode: RollbackMode) {
    killed_anywhere(mode, &[1], Some(0)).await;
}

async fn killed_at_any_step_of_a_failing_rollback_the_workspace_is_put_back(mode: RollbackMode) {
    killed_anywhere(mode, &[0, 1], None).await;
}

async fn killed_again_at_any_step_of_the_recovery_it_is_completed_all_the_same(mode: RollbackMode) {
    let all = steps(mode, &[1]).await;
    // In the middle of the restore of the second target, and just before the record.
    let second = all.iter().rposition(|step| step == "restore").unwrap();
    let append = all.iter().rposition(|step| step == "append").unwrap();
    for first in [second + 2, append] {
        let mut at = 0;
        loop {
            let case = Case::new(mode, &[1]).await;
            assert!(case.attempt(first, Fault::Crash).await.is_none());
            let was_killed = case.recover(at, Fault::Crash).await.is_none();
            case.scene.faults.disarm();
            case.manager().recover().await.unwrap();
            assert_eq!(case.scene.tree(), case.tree_of(0), "killed at {first}, then at {at}");
            let history = case.history().await;
            assert_eq!(history.len(), 1, "killed at {first}, then at {at}");
            assert_eq!(history[0].report.as_ref().unwrap().attempts.len(), 2);
            case.assert_nothing_is_lost(at).await;
            if !was_killed {
                break;
            }
            at += 1;
        }
        assert!(at > 10, "{at} steps are too few to be a recovery");
    }
}

async fn failing_at_any_step_it_either_succeeds_or_can_be_completed(mode: RollbackMode) {
    for fault in [Fault::Once, Fault::Forever] {
        for at in 0..steps(mode, &[]).await.len() {
            let case = Case::new(mode, &[]).await;
            let answer = case.attempt(at, fault).await.unwrap();
            let had_intent = case.has_intent();
            // Where neither the sync of the record nor cutting it off worked, it may stand there all the same.
            let is_recorded = !case.history().await.is_empty();
            match &answer {
                Ok(report) => {
                    let restored = case.scene.store.tree(report.restored).unwrap();
                    assert_eq!(case.scene.tree(), restored, "{fault:?} at {at}");
                }
                Err(_) if had_intent => {}
                Err(_) => assert_eq!(case.scene.tree(), case.before, "{fault:?} at {at}"),
            }
            let before_recovery = case.scene.tree();
            let recovered = case.manager().recover().await.unwrap();
            assert_eq!(recovered.is_some(), had_intent && !is_recorded, "{fault:?} at {at}");
            match recovered {
                Some(report) => {
                    assert_eq!(case.scene.tree(), case.scene.store.tree(report.restored).unwrap());
                }
                None => assert_eq!(case.scene.tree(), before_recovery, "{fault:?} at {at}"),
            }
            let records = case.history().await.len();
            assert!(records <= 1, "{fault:?} at {at}: {records} records for one call");
            assert!(records == 1 || fault == Fault::Forever, "once at {at}: no record");
            case.assert_nothing_is_lost(at).await;
        }
    }
}

async fn recovery_does_not_try_again_what_failed_before_the_crash(mode: RollbackMode) {
    let all = steps(mode, &[1]).await;
    let second = all.iter().rposition(|step| step == "restore").unwrap();
    let case = Case::new(mode, &[1]).await;
    assert!(case.attempt(second + 1, Fault::Crash).await.is_none());
    case.scene.faults.disarm();
    let before = case.scene.store.restored().len();
    let report = case.manager().recover().await.unwrap().unwrap();
    let restored = case.scene.store.restored();
    assert!(!restored[before..].contains(&case.ids[1]), "{restored:?}");
    assert_eq!((report.restored, report.attempts.len()), (case.ids[0], 2));
}

async fn recovery_goes_on_putting_back_what_was_being_put_back_when_time_was_up(mode: RollbackMode) {
    let case = Case::new(mode, &[]).await;
    let slow = |case: &Case| {
        let clock = Arc::clone(&case.scene.clock);
        let look = move |_, _| {
            clock.advance(Duration::from_secs(31));
            async { Ok(Err("too late".to_owned())) }
        };
        case.builder().verifier(Arc::new(FunctionVerifier::new("slow", look))).build().unwrap()
    };
    case.scene.faults.disarm();
    slow(&case).roll_back(to_id(case.ids[1])).await.unwrap_err();
    let all = case.scene.faults.steps();
    // By exchange the workspace is what it was by then; only that has to be found out.
    let name = if mode == RollbackMode::Exchange { "rename" } else { "restore" };
    let put_back = all.iter().rposition(|step| step == name).unwrap();

    let case = Case::new(mode, &[]).await;
    let (manager, request) = (slow(&case), to_id(case.ids[1]));
    case.scene.faults.arm(put_back + 2, Fault::Crash);
    let killed = survive(tokio::spawn(async move { manager.roll_back(request).await })).await;
    assert!(killed.is_none());
    case.scene.faults.disarm();
    // This manager's health check would be content with any version.
    let error = case.manager().recover().await.unwrap_err();
    assert!(matches!(&error, Error::TimedOut { attempts, .. } if attempts.len() == 1), "{error}");
    assert_eq!((case.scene.tree(), case.history().await.len()), (case.before.clone(), 1));
}

async fn work_done_between_a_crash_and_the_recovery_is_saved(mode: RollbackMode) {
    let all = steps(mode, &[]).await;
    let restore = all.iter().rposition(|step| step == "restore").unwrap();
    let case = Case::new(mode, &[]).await;
    assert!(case.attempt(restore + 2, Fault::Crash).await.is_none());
    case.scene.faults.disarm();
    case.scene.write("code", "repaired by hand");
    case.scene.write("notes/repair", "what was done");
    let by_hand = case.scene.tree();
    case.manager().recover().await.unwrap().unwrap();
    assert_eq!(case.scene.tree(), case.tree_of(1));
    let targets = case.scene.manager().get_available_rollback_targets().await.unwrap();
    assert_eq!(targets[0].details.version_id.as_str(), "before-recovery-1");
    assert_eq!(case.scene.store.tree(targets[0].id).unwrap(), by_hand);
}

async fn what_is_written_into_an_ignored_file_before_a_recovery_is_saved(mode: RollbackMode) {
    for at in 0.. {
        // `v1` holds the notes, `v2` ignores them, and no version is fit.
        let case = Case { scene: Scene { mode, ..Scene::new() }, ids: Vec::new(), before: Tree::default() };
        case.scene.write("notes", "of v1");
        let v1 = case.scene.checkpoint("v1", None).await.id;
        case.scene.write(".gitignore", "notes\n");
        let v2 = case.scene.checkpoint("v2", Some(v1)).await.id;
        case.scene.write("notes", "mine");
        let never =
            || Arc::new(FunctionVerifier::new("never", async |_, _| Ok(Err("it is not fit".to_owned()))));
        let manager = || case.builder().verifier(never()).build().unwrap();
        for id in [v1, v2] {
            manager().mark_known_good(id).await.unwrap();
        }
        let rollback = manager();
        case.scene.faults.arm(at, Fault::Crash);
        let killed = survive(tokio::spawn(async move { rollback.roll_back(to_id(v2)).await })).await;
        case.scene.faults.disarm();
        if killed.is_some() {
            assert!(at > 40, "{at} steps are too few for two targets");
            break;
        }
        case.scene.write("notes", "after the crash");
        let recovered = manager().recover().await;
        assert!(!case.has_intent(), "step {at}: {recovered:?}");
        let path = EntryPath::new("notes").unwrap();
        let mut held = BTreeSet::from([std::fs::read(case.scene.workspace().join("notes")).unwrap()]);
        for target in case.scene.manager().get_available_rollback_targets().await.unwrap() {
            held.extend(case.scene.store.read_file(target.id, &path).await);
        }
        assert!(held.contains(&b"after the crash"[..]), "step {at}");
    }
}

async fn a_new_rollback_first_completes_the_interrupted_one(mode: RollbackMode) {
    let all = steps(mode, &[]).await;
    let restore = all.iter().rposition(|step| step == "restore").unwrap();
    let case = Case::new(mode, &[]).await;
    assert!(case.attempt(restore + 2, Fault::Crash).await.is_none());
    case.scene.faults.disarm();
    let report = case.manager().roll_back(to_id(case.ids[0])).await.unwrap();
    assert_eq!((report.restored, case.scene.tree()), (case.ids[0], case.tree_of(0)));
    let history = case.history().await;
    assert_eq!(history[0].report.as_ref().unwrap().restored, case.ids[1]);
    assert_eq!(history[0].request.initiator, Initiator::Recovery);
    assert_eq!((history.len(), &history[1].request.initiator), (2, &Initiator::Automatic));
}

async fn an_interrupted_rollback_that_cannot_be_completed_does_not_block_the_next(mode: RollbackMode) {
    let all = steps(mode, &[]).await;
    let restore = last_change(mode, &all);
    let case = Case::new(mode, &[]).await;
    assert!(case.attempt(restore + 1, Fault::Crash).await.is_none());
    case.scene.faults.disarm();
    // Neither a target nor the way back is left.
    let targets = case.scene.manager().get_available_rollback_targets().await.unwrap();
    for checkpoint in targets {
        case.scene.store.damage_entries(checkpoint.id);
    }
    let manager = case.manager();
    for _ in 0..2 {
        assert!(matches!(manager.recover().await, Err(Error::Checkpoint(_))));
        assert!(case.has_intent() && case.history().await.is_empty());
    }
    case.scene.write("code", "fresh");
    let fresh = case.scene.checkpoint("fresh", None).await;
    manager.mark_known_good(fresh.id).await.unwrap();
    case.scene.write("code", "stale");
    manager.roll_back(to(Target::LastKnownGood)).await.unwrap();
    assert_eq!(case.scene.code(), "fresh");
    let history = case.history().await;
    assert_eq!(history.len(), 2);
    assert!(history[0].error.as_ref().unwrap().contains("damaged"), "{:?}", history[0].error);
    assert_eq!(history[1].report.as_ref().unwrap().restored, fresh.id);
}

async fn a_damaged_intent_is_reported_and_set_aside_by_the_next_rollback(mode: RollbackMode) {
    let case = Case::new(mode, &[]).await;
    std::fs::write(case.scene.state().join("intent"), "evoseal-rollback-intent 1 5 0\nxxxxx").unwrap();
    let manager = case.manager();
    assert!(matches!(manager.recover().await, Err(Error::Damaged { .. })));
    manager.roll_back(to_id(case.ids[0])).await.unwrap();
    assert_eq!(case.scene.code(), "v1");
    assert!(case.scene.state().join("intent.damaged").exists());
    assert_eq!(manager.recover().await.unwrap(), None);
}

in_each_mode! {
    what_is_written_into_an_ignored_file_before_a_recovery_is_saved
    killed_at_any_step_a_rollback_is_completed_exactly_once
    killed_at_any_step_of_a_fall_back_it_is_completed_exactly_once
    killed_at_any_step_of_a_failing_rollback_the_workspace_is_put_back
    killed_again_at_any_step_of_the_recovery_it_is_completed_all_the_same
    failing_at_any_step_it_either_succeeds_or_can_be_completed
    recovery_does_not_try_again_what_failed_before_the_crash
    recovery_goes_on_putting_back_what_was_being_put_back_when_time_was_up
    work_done_between_a_crash_and_the_recovery_is_saved
    a_new_rollback_first_completes_the_interrupted_one
    an_interrupted_rollback_that_cannot_be_completed_does_not_block_the_next
    a_damaged_intent_is_reported_and_set_aside_by_the_next_rollback
}
