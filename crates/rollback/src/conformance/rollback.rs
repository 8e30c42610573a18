//! The suite for [`Rollback`].

mod bench;
mod health;
mod ignored;
mod targets;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use evoseal_checkpoint::CheckpointStore;
use evoseal_types::CheckpointId;

use self::bench::{Bench, request, version};
pub use self::health::*;
pub use self::ignored::*;
pub use self::targets::*;
use super::watched::WAYS;
use super::{Case, list_cases};
use crate::{Error, Initiator, Rollback, RollbackRequest, Target, Verifier};

/// Makes what the suite looks at.
pub trait RollbackFixture: fmt::Debug + Send + Sync {
    /// A new, empty store that keeps its files, if it has any, in `directory`.
    fn store(&self, directory: &Path) -> Arc<dyn CheckpointStore>;

    /// An implementation for the place. Called again for the same place it stands for the next start of the program.
    fn open(&self, place: &Place) -> Box<dyn Rollback>;
}

/// Where an implementation is to work, and by which limits. It is removed when the case ends.
#[derive(Debug, Clone)]
pub struct Place {
    /// The checkpoints.
    pub store: Arc<dyn CheckpointStore>,
    /// The workspace, a directory.
    pub workspace: PathBuf,
    /// Where the implementation may keep what it must remember; outside of the workspace, not there yet.
    pub state: PathBuf,
    /// The health check after each restore, where there is one.
    pub verifier: Option<Arc<dyn Verifier>>,
    /// How many targets are tried in all; at least 1.
    pub attempts_max: u32,
    /// How long all attempts may take together.
    pub time_max: Duration,
}

/// Success means that the workspace equals the checkpoint that the report names, for every kind of target.
pub async fn success_means_that_the_workspace_equals_the_checkpoint<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let ids = &bench.ids;
    for (target, expected) in [
        (Target::Checkpoint(ids[0]), ids[0]),
        (Target::Version(version("v2")), ids[1]),
        (Target::LastKnownGood, ids[2]),
        (Target::Parent, ids[1]),
    ] {
        let report = bench.open().roll_back(request(target.clone())).await.expect("the target is whole");
        assert_eq!((report.requested, report.restored), (expected, expected), "{target:?}");
        assert_eq!(bench.tree().await, bench.tree_of(expected).await, "the workspace after {target:?}");
        assert_eq!(report.tree, bench.tree().await, "the digest in the report on {target:?}");
        assert_eq!(report.attempts.len(), 1, "the attempts in the report on {target:?}");
    }
}

/// What a rollback overwrites and no checkpoint holds is checkpointed first; what one holds is not saved again.
pub async fn work_that_no_checkpoint_holds_is_saved_first<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let edited = bench.tree().await;
    let report = bench.open().roll_back(request(Target::LastKnownGood)).await.expect("the target is whole");
    let saved = report.saved.expect("the report names the checkpoint of the edit");
    assert_eq!(bench.tree_of(saved).await, edited, "the saved tree");
    let back =
        bench.open().roll_back(request(Target::Checkpoint(saved))).await.expect("the way back is whole");
    assert_eq!((bench.tree().await, back.saved), (edited, None), "the way back");
}

/// A damaged target is left for an older known-good one, and report and history say so.
pub async fn a_damaged_target_falls_back_and_says_so<F: RollbackFixture>(fixture: &F) {
    for damage in WAYS {
        let bench = Bench::new(fixture).await;
        damage(&bench.watched, bench.ids[2]);
        let rollback = bench.open();
        let report =
            rollback.roll_back(request(Target::LastKnownGood)).await.expect("an older version is whole");
        assert_eq!((report.requested, report.restored), (bench.ids[2], bench.ids[1]));
        assert!(report.fell_back(), "the report hides that another version was restored");
        assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace");
        let tried: Vec<_> =
            report.attempts.iter().map(|tried| (tried.checkpoint, tried.error.is_some())).collect();
        assert_eq!(tried, [(bench.ids[2], true), (bench.ids[1], false)], "the attempts");
        let history = rollback.history().await.expect("the history can be read");
        assert_eq!(history.last().and_then(|record| record.report.as_ref()), Some(&report), "the history");
    }
}

/// At most three targets are tried, each once, and the error lists them.
pub async fn no_target_is_tried_twice_and_at_most_three_are<F: RollbackFixture>(fixture: &F) {
    let mut bench = Bench::new(fixture).await;
    bench.write("v4");
    bench.accept("v4").await;
    bench.write("edited");
    for id in &bench.ids {
        bench.watched.damage(*id);
    }
    let error = bench.roll_back(Target::LastKnownGood).await.expect_err("every target is damaged");
    let Error::Exhausted { attempts } = &error else { panic!("the error is {error}") };
    let expected = [bench.ids[3], bench.ids[2], bench.ids[1]];
    let listed: Vec<CheckpointId> = attempts.iter().map(|attempt| attempt.checkpoint).collect();
    assert_eq!(listed, expected, "the targets in the error");
    // Where damage is found by reading alone no restore is begun.
    let mut begun = expected.to_vec();
    begun.retain(|id| bench.restored().contains(id));
    assert_eq!(bench.restored(), begun, "the restores that were begun");
}

/// After an error the workspace is as it was.
pub async fn after_a_failure_the_workspace_is_as_it_was<F: RollbackFixture>(fixture: &F) {
    for damage in WAYS {
        let bench = Bench::new(fixture).await;
        let before = bench.tree().await;
        for id in &bench.ids {
            damage(&bench.watched, *id);
        }
        bench.open().roll_back(request(Target::LastKnownGood)).await.expect_err("every target is damaged");
        assert_eq!(bench.tree().await, before);
    }
}

/// A rollback that was killed is completed by the next start; once more there is nothing to do.
pub async fn an_interrupted_rollback_is_completed_by_recovery<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let edited = bench.tree().await;
    let target = bench.ids[0];
    bench.die_in_restore(target, request(Target::Checkpoint(target))).await;

    let rollback = bench.open();
    let report = rollback.recover().await.expect("it can be completed");
    let report = report.expect("recovery finds the interrupted rollback");
    assert_eq!((report.restored, bench.tree().await), (target, bench.tree_of(target).await));
    let saved = report.saved.expect("the report names the checkpoint of the edit");
    assert_eq!(bench.tree_of(saved).await, edited, "the saved tree");
    assert_eq!(rollback.recover().await.expect("it can run again"), None, "the second recovery");
    let history = rollback.history().await.expect("the history can be read");
    assert_eq!(history.len(), 1, "records of one rollback");
    assert_eq!(history[0].request.initiator, Initiator::Recovery);
}

/// Every call adds exactly one record, however it ended, and the next start still has it.
pub async fn every_call_is_recorded_once_and_remembered<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let rollback = bench.open();
    rollback.roll_back(request(Target::LastKnownGood)).await.expect("the target is whole");
    let error =
        rollback.roll_back(request(Target::Version(version("v9")))).await.expect_err("there is no v9");
    assert!(matches!(error, Error::NoTarget { .. }), "the error is {error}");
    drop(rollback);
    let history = bench.open().history().await.expect("the history can be read");
    let ended: Vec<(u64, bool)> =
        history.iter().map(|record| (record.sequence, record.report.is_some())).collect();
    assert_eq!(ended, [(1, true), (2, false)]);
    assert!(history[1].error.is_some(), "the failed one has no error");
}

/// Known-good versions are kept in the order in which they were marked, each once, until they are withdrawn.
pub async fn known_good_versions_are_remembered_in_order<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    bench.open().mark_known_good(bench.ids[0]).await.expect("marking is idempotent");
    assert_eq!(bench.open().known_good().await.expect("they can be read"), bench.ids);
    for _ in 0..2 {
        bench.open().withdraw_known_good(bench.ids[0]).await.expect("withdrawing is idempotent");
    }
    assert_eq!(bench.open().known_good().await.expect("they can be read"), bench.ids[1..]);
    bench.open().mark_known_good(bench.ids[0]).await.expect("it can be marked again");
    let newest = bench.open().known_good().await.expect("they can be read").last().copied();
    assert_eq!(newest, Some(bench.ids[0]), "what is marked again is the newest");
}

/// A preview names the target and the changes, and makes none.
pub async fn a_preview_changes_nothing<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let before = bench.tree().await;
    let rollback = bench.open();
    let (checkpoint, plan) = rollback.preview(&Target::LastKnownGood).await.expect("the target is whole");
    assert_eq!(checkpoint.id, bench.ids[2]);
    let paths: Vec<String> = plan.changes.iter().map(|change| change.path.to_string()).collect();
    assert_eq!(paths, ["code"], "the changes");
    assert_eq!(bench.tree().await, before, "the workspace after a preview");
    assert!(
        rollback.history().await.expect("the history can be read").is_empty(),
        "a preview is no rollback"
    );
}

/// Clearing the caches touches nothing that a version holds, and is no rollback.
pub async fn clearing_caches_is_no_rollback<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let before = bench.tree().await;
    let rollback = bench.open();
    for _ in 0..2 {
        rollback.clear_caches(bench.ids[0]).await.expect("caches can be cleared any number of times");
        assert_eq!(bench.tree().await, before, "the workspace after its caches were cleared");
    }
    let history = rollback.history().await.expect("the history can be read");
    assert!(history.is_empty(), "it is no rollback: {history:?}");
}

/// The statistics agree with the history and tell apart who asked.
pub async fn statistics_tell_who_asked<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let rollback = bench.open();
    let before = rollback.statistics().await.expect("the history can be read");
    assert_eq!((before.total_rollbacks, before.success_rate), (0, None));
    for initiator in [Initiator::Automatic, Initiator::Person("ada".to_owned())] {
        let request = RollbackRequest { initiator, ..request(Target::LastKnownGood) };
        rollback.roll_back(request).await.expect("the target is whole");
    }
    rollback.roll_back(request(Target::Version(version("v9")))).await.expect_err("there is no v9");
    let after = rollback.statistics().await.expect("the history can be read");
    let counts = [after.total_rollbacks, after.successful_rollbacks, after.failed_rollbacks];
    assert_eq!(counts, [3, 2, 1], "all, successful, failed");
    assert_eq!([after.auto_rollbacks, after.manual_rollbacks, after.recovery_rollbacks], [2, 1, 0]);
    assert_eq!(after.reason_counts, [("conformance".to_owned(), 3)]);
}

/// Hands the names of all cases to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __rollback_cases {
    ($then:path, $arguments:tt) => {
        $then! { $arguments
            success_means_that_the_workspace_equals_the_checkpoint
            work_that_no_checkpoint_holds_is_saved_first
            a_damaged_target_falls_back_and_says_so
            no_target_is_tried_twice_and_at_most_three_are
            after_a_failure_the_workspace_is_as_it_was
            an_interrupted_rollback_is_completed_by_recovery
            every_call_is_recorded_once_and_remembered
            known_good_versions_are_remembered_in_order
            a_preview_changes_nothing
            clearing_caches_is_no_rollback
            statistics_tell_who_asked
            statistics_count_each_rollback_once
            the_best_version_has_the_best_mean_and_is_the_newest_of_equals
            what_was_never_measured_has_no_best_version
            a_baseline_is_the_checkpoint_that_it_stands_for
            an_undo_goes_back_and_an_undo_of_it_forward_again
            nothing_is_undone_before_something_was_changed
            what_was_deleted_is_not_undone
            nothing_takes_the_place_of_what_an_undo_means
            an_ignored_file_that_is_overwritten_is_saved_and_brought_back_by_undo
            an_ignored_file_that_is_removed_is_saved_and_brought_back_by_undo
            ignored_files_that_no_version_holds_stay
            after_a_failure_ignored_files_are_as_they_were
            what_was_saved_for_another_version_and_stays_is_not_reported
            a_fallback_costs_no_ignored_file
            after_a_failure_nothing_is_left_in_ignored_places
            an_interrupted_rollback_costs_no_ignored_file
            an_unhealthy_target_falls_back_and_says_so
            where_no_version_is_healthy_the_workspace_is_as_it_was
            as_many_targets_are_tried_as_the_limit_allows
            a_health_check_that_changes_the_workspace_is_not_believed
            what_a_failed_check_leaves_behind_does_not_stop_the_ladder
            a_health_check_that_never_answers_is_no_approval
            recovery_leaves_an_unhealthy_target_too
            recovery_does_not_try_again_what_had_failed
        }
    };
}

/// One test for each case of the suite for [`Rollback`](crate::Rollback). The argument is an expression that makes a
/// [`RollbackFixture`](crate::conformance::RollbackFixture).
#[macro_export]
macro_rules! rollback_conformance {
    ($fixture:expr) => {
        $crate::__rollback_cases! { $crate::__conformance_tests, [rollback, $fixture] }
    };
}

/// The cases as values.
pub fn cases<F: RollbackFixture + 'static>() -> Vec<Case<F>> {
    crate::__rollback_cases! { list_cases, [] }
}
