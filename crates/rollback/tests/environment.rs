//! A disk without room, and a workspace that cannot be written: no verdict on any version, and nothing is lost by it.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{self, ErrorKind};

use common::case::{Case, steps};
use common::{in_each_mode, to_id};
use evoseal_rollback::{Error, Initiator, Rollback, RollbackMode};
use evoseal_testkit::Fault;
use evoseal_types::{ErrorClass, is_storage_full};

/// A rollback to `v2` that was killed while the workspace was half-way there, or the version beside it.
async fn killed_half_way(mode: RollbackMode, restore: usize) -> Case {
    let case = Case::new(mode, &[]).await;
    assert!(case.attempt(restore + 2, Fault::Crash).await.is_none());
    case.scene.faults.disarm();
    assert!(case.has_intent());
    case
}

/// The step at which the restore begins.
async fn restore_step(mode: RollbackMode) -> usize {
    steps(mode, &[]).await.iter().rposition(|step| step == "restore").unwrap()
}

/// The error says what the environment refused, in its kind and in its class.
fn assert_names(error: &Error, kind: ErrorKind, context: &str) {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let kinds: Vec<ErrorKind> =
        causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).collect();
    assert_eq!(
        (kinds.as_slice(), error.class()),
        (&[kind][..], ErrorClass::Environment),
        "{context}: {error}"
    );
    assert_eq!(is_storage_full(error), kind == ErrorKind::StorageFull, "{context}: {error}");
}

/// With the environment in order the rollback is completed, exactly once, and the edit by hand is held.
async fn assert_completes(case: &Case, context: &str) {
    case.scene.faults.disarm();
    case.manager().recover().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(case.scene.tree(), case.tree_of(1), "{context}");
    let history = case.history().await;
    let ended: Vec<(bool, &Initiator)> =
        history.iter().map(|record| (record.report.is_some(), &record.request.initiator)).collect();
    assert_eq!(ended, [(true, &Initiator::Recovery)], "{context}");
    assert!(!case.has_intent(), "{context}");
    case.assert_nothing_is_lost(0).await;
    assert_eq!(case.manager().recover().await.unwrap(), None, "{context}");
}

async fn a_recovery_that_nothing_can_be_written_in_errs_and_is_completed_later(mode: RollbackMode) {
    let restore = restore_step(mode).await;
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
        for at in 0.. {
            let case = killed_half_way(mode, restore).await;
            case.scene.faults.fail_with(kind);
            let answer = case.recover(at, Fault::Forever).await.unwrap();
            let names = case.scene.faults.steps();
            let Some(name) = names.get(at) else {
                assert!(at > 15, "{at} steps are too few to be a recovery");
                break;
            };
            let context = format!("{kind:?} from step {at}, {name}");
            match answer {
                Err(error) => {
                    assert_names(&error, kind, &context);
                    assert!(case.has_intent(), "{context}");
                }
                // It was complete but for the removal of the intent.
                Ok(report) => assert_eq!(report.unwrap().restored, case.ids[1], "{context}"),
            }
            assert_completes(&case, &context).await;
        }
    }
}

async fn a_recovery_that_cannot_save_what_it_finds_touches_nothing(mode: RollbackMode) {
    let case = killed_half_way(mode, restore_step(mode).await).await;
    case.scene.write("code", "written after the crash");
    let found = case.scene.tree();
    case.scene.faults.fail_with(ErrorKind::StorageFull);
    case.scene.faults.refuse(|name| name == "create");
    for _ in 0..2 {
        let error = case.scene.manager().recover().await.unwrap_err();
        assert_names(&error, ErrorKind::StorageFull, "a store without room");
        assert_eq!((case.scene.tree(), case.has_intent()), (found.clone(), true));
    }
    assert_completes(&case, "a store that has room again").await;
    let targets = case.scene.manager().get_available_rollback_targets().await.unwrap();
    let is_held = targets.iter().any(|target| case.scene.store.tree(target.id).unwrap() == found);
    assert!(is_held, "what was written after the crash is lost");
}

async fn a_rollback_that_cannot_save_what_it_would_overwrite_is_refused_and_on_record(mode: RollbackMode) {
    let case = Case::new(mode, &[]).await;
    case.scene.faults.fail_with(ErrorKind::StorageFull);
    case.scene.faults.refuse(|name| name == "create");
    let error = case.scene.manager().roll_back(to_id(case.ids[1])).await.unwrap_err();
    assert_names(&error, ErrorKind::StorageFull, "a store without room");
    assert_eq!((case.scene.tree(), case.has_intent()), (case.before.clone(), false));
    let history = case.history().await;
    let text = history[0].error.as_deref().unwrap();
    assert_eq!((history.len(), text.starts_with("the checkpoint store failed: ")), (1, true), "{text}");
    case.scene.manager().roll_back(to_id(case.ids[1])).await.unwrap();
    assert_eq!(case.scene.tree(), case.tree_of(1));
    case.assert_nothing_is_lost(0).await;
}

/// Nothing in the workspace, or in what is to take its place, can be written; the state can.
fn refuse_the_workspace(case: &Case, kind: ErrorKind) {
    case.scene.faults.fail_with(kind);
    case.scene.faults.refuse(|name| name.starts_with("write ") || name.starts_with("remove "));
}

async fn a_place_that_refuses_every_version_uses_up_none(mode: RollbackMode) {
    for kind in [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
        let case = Case::new(mode, &[]).await;
        refuse_the_workspace(&case, kind);
        let error = case.scene.manager().roll_back(to_id(case.ids[1])).await.unwrap_err();
        assert_names(&error, kind, "the rollback");
        for _ in 0..2 {
            assert_eq!((case.scene.tree(), case.has_intent()), (case.before.clone(), true));
            let error = case.scene.manager().recover().await.unwrap_err();
            assert_names(&error, kind, "a recovery");
        }
        let beside = std::fs::read_dir(case.scene.folder.path()).unwrap().count();
        assert_eq!(beside, 2, "what was built takes up room");
        assert_completes(&case, &format!("{kind:?}")).await;
    }
}

async fn what_may_not_be_written_keeps_its_intent_until_the_workspace_is_as_it_was(mode: RollbackMode) {
    let case = killed_half_way(mode, restore_step(mode).await).await;
    refuse_the_workspace(&case, ErrorKind::PermissionDenied);
    let found = case.scene.tree();
    if mode == RollbackMode::InPlace {
        // Neither a version nor the way back: it is half-way still.
        let error = case.scene.manager().recover().await.unwrap_err();
        assert_names(&error, ErrorKind::PermissionDenied, "the recovery");
        assert_eq!((case.scene.tree(), case.has_intent()), (found, true));
        case.scene.faults.disarm();
    }
    // That may be the fault of what the versions hold: all of them count as tried.
    let error = case.scene.manager().recover().await.unwrap_err();
    let Error::Exhausted { attempts } = &error else { panic!("{error}") };
    assert!(attempts.iter().all(|tried| tried.error.as_ref().unwrap().contains("injected")), "{error}");
    assert_eq!((case.scene.tree(), case.has_intent()), (case.before.clone(), false));
}

in_each_mode! {
    a_place_that_refuses_every_version_uses_up_none
    what_may_not_be_written_keeps_its_intent_until_the_workspace_is_as_it_was
    a_recovery_that_nothing_can_be_written_in_errs_and_is_completed_later
    a_recovery_that_cannot_save_what_it_finds_touches_nothing
    a_rollback_that_cannot_save_what_it_would_overwrite_is_refused_and_on_record
}
