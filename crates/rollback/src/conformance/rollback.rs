//! The suite for [`Rollback`].

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_checkpoint::{Checkpoint, CheckpointStore, NewCheckpoint, Source};
use evoseal_types::{CheckpointId, Digest, VersionId};

use super::watched::Watched;
use super::{Case, list_cases};
use crate::{Error, Initiator, Rollback, RollbackRequest, Target};

/// Makes what the suite looks at: implementations with the default limits and without a health check.
pub trait RollbackFixture: fmt::Debug + Send + Sync {
    /// A new, empty store that keeps its files, if it has any, in `directory`.
    fn store(&self, directory: &Path) -> Arc<dyn CheckpointStore>;

    /// An implementation for the place. Called again for the same place it stands for the next start of the program.
    fn open(&self, place: &Place) -> Box<dyn Rollback>;
}

/// Where an implementation is to work. It is removed when the case ends.
#[derive(Debug, Clone)]
pub struct Place {
    /// The checkpoints.
    pub store: Arc<dyn CheckpointStore>,
    /// The workspace, a directory.
    pub workspace: PathBuf,
    /// Where the implementation may keep what it must remember; outside of the workspace, not there yet.
    pub state: PathBuf,
}

/// A place with three known-good versions, `v1` to `v3`; the workspace is at `v3`, with one edit more.
struct Bench<'a> {
    fixture: &'a dyn RollbackFixture,
    place: Place,
    watched: Arc<Watched>,
    ids: Vec<CheckpointId>,
    _folder: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    async fn new(fixture: &'a dyn RollbackFixture) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let watched = Arc::new(Watched::new(fixture.store(&folder.path().join("store"))));
        let place = Place {
            store: Arc::clone(&watched) as _,
            workspace: folder.path().join("workspace"),
            state: folder.path().join("state"),
        };
        fs::create_dir(&place.workspace).expect("the workspace can be made");
        let mut bench = Self { fixture, place, watched, ids: Vec::new(), _folder: folder };
        let rollback = bench.open();
        for name in ["v1", "v2", "v3"] {
            bench.write(name);
            let id = bench.checkpoint(name).await.id;
            rollback.mark_known_good(id).await.expect("a version can be marked as known-good");
            bench.ids.push(id);
        }
        bench.write("edited");
        bench
    }

    fn open(&self) -> Box<dyn Rollback> {
        self.fixture.open(&self.place)
    }

    fn write(&self, text: &str) {
        fs::write(self.place.workspace.join("code"), text).expect("the workspace can be written");
    }

    async fn checkpoint(&self, name: &str) -> Checkpoint {
        let parent = self.ids.last().copied();
        let details = NewCheckpoint { parent, ..NewCheckpoint::of(version(name)) };
        let source = Source::Directory(self.place.workspace.clone());
        let handle = self.place.store.create(source, details).await.expect("a checkpoint can be made");
        handle.durable().await.expect("a checkpoint becomes durable")
    }

    async fn tree(&self) -> Digest {
        self.place.store.tree_digest(&self.place.workspace).await.expect("the workspace can be read")
    }

    async fn tree_of(&self, id: CheckpointId) -> Digest {
        self.place.store.load(id).await.expect("the checkpoint is there").tree
    }
}

fn version(name: &str) -> VersionId {
    VersionId::new(name).expect("the suite's version ids are valid")
}

fn request(target: Target) -> RollbackRequest {
    RollbackRequest { target, reason: "conformance".to_owned(), initiator: Initiator::Automatic }
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
    let bench = Bench::new(fixture).await;
    bench.watched.damage(bench.ids[2]);
    let rollback = bench.open();
    let report = rollback.roll_back(request(Target::LastKnownGood)).await.expect("an older version is whole");
    assert_eq!((report.requested, report.restored), (bench.ids[2], bench.ids[1]));
    assert!(report.fell_back(), "the report hides that another version was restored");
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace");
    let tried: Vec<_> =
        report.attempts.iter().map(|tried| (tried.checkpoint, tried.error.is_some())).collect();
    assert_eq!(tried, [(bench.ids[2], true), (bench.ids[1], false)], "the attempts");
    let history = rollback.history().await.expect("the history can be read");
    assert_eq!(history.last().and_then(|record| record.report.as_ref()), Some(&report), "the history");
}

/// At most three targets are tried, each once, and the error lists them.
pub async fn no_target_is_tried_twice_and_at_most_three_are<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    bench.write("v4");
    let newest = bench.checkpoint("v4").await.id;
    let rollback = bench.open();
    rollback.mark_known_good(newest).await.expect("a version can be marked as known-good");
    bench.write("edited");
    for id in bench.ids.iter().chain([&newest]) {
        bench.watched.damage(*id);
    }
    let error =
        rollback.roll_back(request(Target::LastKnownGood)).await.expect_err("every target is damaged");
    let Error::Exhausted { attempts } = &error else { panic!("the error is {error}") };
    let expected = [newest, bench.ids[2], bench.ids[1]];
    let listed: Vec<CheckpointId> = attempts.iter().map(|attempt| attempt.checkpoint).collect();
    assert_eq!(listed, expected, "the targets in the error");
    let targets = |id: &CheckpointId| bench.ids.contains(id) || *id == newest;
    let tried: Vec<CheckpointId> = bench.watched.restored().into_iter().filter(targets).collect();
    assert_eq!(tried, expected, "the restores that were begun");
}

/// After an error the workspace is as it was.
pub async fn after_a_failure_the_workspace_is_as_it_was<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let before = bench.tree().await;
    for id in &bench.ids {
        bench.watched.damage(*id);
    }
    bench.open().roll_back(request(Target::LastKnownGood)).await.expect_err("every target is damaged");
    assert_eq!(bench.tree().await, before);
}

/// A rollback that was killed is completed by the next start; once more there is nothing to do.
pub async fn an_interrupted_rollback_is_completed_by_recovery<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let edited = bench.tree().await;
    let rollback = bench.open();
    bench.watched.die_in_restore();
    let target = bench.ids[0];
    let killed =
        tokio::spawn(async move { rollback.roll_back(request(Target::Checkpoint(target))).await }).await;
    assert!(killed.is_err(), "it survived the death of its store: {killed:?}");
    bench.watched.revive();

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
