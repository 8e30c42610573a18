//! What no version holds, because it is ignored, is lost by none of them.

use std::sync::Arc;

use evoseal_types::{ChangeKind, CheckpointId, EntryPath};

use super::RollbackFixture;
use super::bench::{Bench, Doctor, request};
use crate::conformance::watched::WAYS;
use crate::{RollbackReport, Target};

/// `v1` holds the files `notes` and `key`. `v2` ignores them, and so they have become a person's own; the notes are in no
/// version as they are now.
async fn notes_of_a_person(fixture: &dyn RollbackFixture) -> Bench<'_> {
    let mut bench = Bench::empty(fixture);
    bench.write("v1");
    for name in ["notes", "key"] {
        bench.write_file(name, "of v1");
    }
    bench.accept("v1").await;
    bench.write("v2");
    bench.write_file(".gitignore", "notes\nkey\ncache\n");
    bench.accept("v2").await;
    bench.write_file("notes", "mine");
    bench.write_file("cache/deep/x", "made by a build");
    bench
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).expect("the suite's paths are valid")
}

async fn saved_notes(bench: &Bench<'_>, saved: Option<CheckpointId>) -> String {
    let saved = saved.expect("the report names the checkpoint of the notes");
    let bytes = bench.place.store.read_file(saved, &path("notes")).await;
    String::from_utf8(bytes.expect("the notes were saved")).expect("the notes are text")
}

/// An ignored file that an older version would overwrite is saved first, and an undo brings it back.
pub async fn an_ignored_file_that_is_overwritten_is_saved_and_brought_back_by_undo<F: RollbackFixture>(
    fixture: &F,
) {
    let bench = notes_of_a_person(fixture).await;
    let report = bench.roll_back(Target::Checkpoint(bench.ids[0])).await.expect("the target is whole");
    assert_eq!(bench.read("notes").as_deref(), Some("of v1"), "the notes at v1");
    assert_eq!(saved_notes(&bench, report.saved).await, "mine", "the saved notes");
    bench.roll_back(Target::Undo).await.expect("something can be undone");
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace after the undo");
    assert_eq!(bench.read("notes").as_deref(), Some("mine"), "the notes after the undo");
    bench.roll_back(Target::Undo).await.expect("something can be undone");
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[0]).await, "the workspace, forward again");
    assert_eq!(bench.read("notes").as_deref(), Some("of v1"), "the notes, forward again");
}

/// An ignored file that an older version would remove, because its rules do not ignore it, is saved first too.
pub async fn an_ignored_file_that_is_removed_is_saved_and_brought_back_by_undo<F: RollbackFixture>(
    fixture: &F,
) {
    let mut bench = Bench::empty(fixture);
    bench.write("v1");
    bench.accept("v1").await;
    bench.write("v2");
    bench.write_file(".gitignore", "notes\n");
    bench.accept("v2").await;
    bench.write_file("notes", "mine");
    bench.roll_back(Target::Checkpoint(bench.ids[0])).await.expect("the target is whole");
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[0]).await, "the workspace at v1");
    assert!(bench.is_held("notes", "mine").await, "the notes are lost");
    bench.roll_back(Target::Undo).await.expect("something can be undone");
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[1]).await, "the workspace after the undo");
    assert_eq!(bench.read("notes").as_deref(), Some("mine"), "the notes after the undo");
}

/// Ignored files that the restored version does not hold are not touched, whether the rollback succeeds or fails.
pub async fn ignored_files_that_no_version_holds_stay<F: RollbackFixture>(fixture: &F) {
    let mut bench = notes_of_a_person(fixture).await;
    bench.write("v3");
    bench.accept("v3").await;
    bench.write("edited");
    let stay = |bench: &Bench<'_>, when: &str| {
        assert_eq!(bench.read("notes").as_deref(), Some("mine"), "the notes {when}");
        let built = bench.read("cache/deep/x");
        assert_eq!(built.as_deref(), Some("made by a build"), "the build cache {when}");
    };
    let is_true = |report: &RollbackReport, when: &str| {
        let removed = report.changes.iter().filter(|change| change.kind == ChangeKind::Removed);
        for change in removed {
            let stands = bench.place.workspace.join(change.path.as_path()).exists();
            assert!(!stands, "{} is reported as removed {when}", change.path);
        }
    };
    let report = bench.roll_back(Target::Checkpoint(bench.ids[1])).await.expect("the target is whole");
    stay(&bench, "after a rollback");
    is_true(&report, "after a rollback");
    let report = bench.roll_back(Target::Undo).await.expect("something can be undone");
    stay(&bench, "after an undo");
    is_true(&report, "after an undo");
    bench.watched.damage(bench.ids[2]);
    let report = bench.roll_back(Target::LastKnownGood).await.expect("an older version is whole");
    stay(&bench, "after a rollback that fell back");
    is_true(&report, "after a rollback that fell back");
    bench.write("edited once more");
    for id in &bench.ids {
        bench.watched.damage(*id);
    }
    bench.roll_back(Target::LastKnownGood).await.expect_err("every target is damaged");
    stay(&bench, "after a rollback that failed");
}

/// A rollback that fails puts back the ignored files that it has overwritten, for whichever version, and leaves those alone
/// that are the same in one.
pub async fn after_a_failure_ignored_files_are_as_they_were<F: RollbackFixture>(fixture: &F) {
    for is_second in [false, true] {
        let mut bench = notes_of_a_person(fixture).await;
        let doctor = Arc::new(Doctor::default());
        for id in &bench.ids {
            doctor.condemn(*id);
        }
        bench.place.verifier = Some(Arc::<Doctor>::clone(&doctor));
        bench.write("edited");
        let before = bench.tree().await;
        let (target, expected) = if is_second {
            (Target::LastKnownGood, vec![bench.ids[1], bench.ids[0]])
        } else {
            (Target::Checkpoint(bench.ids[0]), vec![bench.ids[0]])
        };
        bench.roll_back(target).await.expect_err("no target is healthy");
        assert_eq!(doctor.looked_at(), expected, "what was looked at");
        assert_eq!(bench.tree().await, before, "the workspace");
        for (name, text) in [("notes", "mine"), ("key", "of v1"), ("cache/deep/x", "made by a build")] {
            assert_eq!(bench.read(name).as_deref(), Some(text), "{name}");
        }
    }
}

/// What was saved for the sake of a version that did not work, and stays with the one that did, is not reported as removed.
pub async fn what_was_saved_for_another_version_and_stays_is_not_reported<F: RollbackFixture>(fixture: &F) {
    let mut bench = Bench::empty(fixture);
    bench.write("v1");
    bench.write_file(".gitignore", "notes\n");
    bench.accept("v1").await;
    bench.write("v2");
    std::fs::remove_file(bench.place.workspace.join(".gitignore")).expect("the rules can be removed");
    bench.accept("v2").await;
    bench.write_file(".gitignore", "notes\n");
    bench.write_file("notes", "mine");
    let doctor = Arc::new(Doctor::default());
    doctor.condemn(bench.ids[1]);
    bench.place.verifier = Some(Arc::<Doctor>::clone(&doctor));
    let report = bench.roll_back(Target::LastKnownGood).await.expect("the older version is healthy");
    assert_eq!((report.restored, bench.read("notes").as_deref()), (bench.ids[0], Some("mine")));
    let changed: Vec<String> = report.changes.iter().map(|change| change.path.to_string()).collect();
    assert_eq!(changed, ["code"], "the changes in the report");
}

/// A rollback that was killed loses no ignored file either.
pub async fn an_interrupted_rollback_costs_no_ignored_file<F: RollbackFixture>(fixture: &F) {
    let bench = notes_of_a_person(fixture).await;
    let target = bench.ids[0];
    bench.die_in_restore(target, request(Target::Checkpoint(target))).await;
    let report = bench.open().recover().await.expect("it can be completed");
    let report = report.expect("recovery finds the interrupted rollback");
    assert_eq!(bench.read("notes").as_deref(), Some("of v1"), "the notes at v1");
    assert_eq!(saved_notes(&bench, report.saved).await, "mine", "the saved notes");
    bench.roll_back(Target::Undo).await.expect("something can be undone");
    assert_eq!(bench.read("notes").as_deref(), Some("mine"), "the notes after the undo");
    assert_eq!(bench.read("cache/deep/x").as_deref(), Some("made by a build"), "the build cache");
}

/// A version that takes the place of another overwrites no ignored file that nobody holds.
pub async fn a_fallback_costs_no_ignored_file<F: RollbackFixture>(fixture: &F) {
    for damage in WAYS {
        let bench = notes_of_a_person(fixture).await;
        damage(&bench.watched, bench.ids[1]);
        bench.write("edited");
        let answer = bench.roll_back(Target::LastKnownGood).await;
        for (name, text) in [("notes", "mine"), ("cache/deep/x", "made by a build")] {
            assert!(bench.is_held(name, text).await, "{name} is lost; the answer is {answer:?}");
        }
    }
}

/// A rollback that fails leaves nothing behind in the places that are ignored.
pub async fn after_a_failure_nothing_is_left_in_ignored_places<F: RollbackFixture>(fixture: &F) {
    let mut bench = Bench::empty(fixture);
    bench.write("v1");
    bench.write_file("notes", "of v1");
    bench.accept("v1").await;
    bench.write("v2");
    bench.write_file(".gitignore", "notes\n");
    std::fs::remove_file(bench.place.workspace.join("notes")).expect("the notes can be removed");
    bench.accept("v2").await;
    let doctor = Arc::new(Doctor::default());
    doctor.condemn(bench.ids[0]);
    bench.place.verifier = Some(Arc::<Doctor>::clone(&doctor));
    bench.roll_back(Target::Checkpoint(bench.ids[0])).await.expect_err("the target is unhealthy");
    assert_eq!(bench.read("notes"), None, "the notes of v1");
}
