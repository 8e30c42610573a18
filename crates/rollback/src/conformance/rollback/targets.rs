//! Where a rollback goes: the best version, a baseline, and the way back.

use evoseal_types::{CheckpointId, Direction, MetricSamples, MetricSpec, Objective};

use super::RollbackFixture;
use super::bench::{Bench, request, version};
use crate::conformance::watched::WAYS;
use crate::{Error, Target};

fn samples(values: &[f64]) -> Vec<MetricSamples> {
    let spec = MetricSpec::new("score", "points", Direction::Decrease).expect("the suite's metric is valid");
    vec![MetricSamples::independent(spec, values)]
}

fn best(metric: &str, harmful: Direction) -> Target {
    let metric = MetricSpec::new(metric, "points", harmful).expect("the suite's metric is valid").name;
    Target::Best(Objective { metric, direction: harmful })
}

/// The best version is the known-good one with the best mean; of equals the newest; what was not measured, or was not
/// accepted, is none.
pub async fn the_best_version_has_the_best_mean_and_is_the_newest_of_equals<F: RollbackFixture>(fixture: &F) {
    let mut bench = Bench::empty(fixture);
    for (name, values) in [
        ("v1", &[5.0][..]),
        // The same means in another way; a sample that is no number does not count.
        ("v2", &[4.0, f64::NAN, 6.0]),
        ("v3", &[9.0, -3.0]),
        ("v4", &[3.0, f64::INFINITY]),
        ("v5", &[f64::NAN]),
        ("v6", &[]),
    ] {
        bench.write(name);
        bench.accept_with(name, &samples(values)).await;
    }
    bench.write("v7");
    bench.accept("v7").await;
    for (name, value) in [("high", 99.0), ("low", -99.0)] {
        bench.write(name);
        bench.checkpoint_with(name, &samples(&[value])).await;
    }
    for (harmful, expected) in [(Direction::Decrease, bench.ids[1]), (Direction::Increase, bench.ids[3])] {
        let target = best("score", harmful);
        let (preview, _) = bench.open().preview(&target).await.expect("there is a best version");
        assert_eq!(preview.id, expected, "the preview where harmful is {harmful:?}");
        let report = bench.roll_back(target).await.expect("there is a best version");
        assert_eq!((report.requested, report.restored), (expected, expected), "harmful is {harmful:?}");
        assert_eq!(bench.tree().await, bench.tree_of(expected).await, "the workspace");
    }
}

/// Where no known-good version was measured there is no best one, and nothing else takes its place.
pub async fn what_was_never_measured_has_no_best_version<F: RollbackFixture>(fixture: &F) {
    let mut bench = Bench::new(fixture).await;
    bench.write("v4");
    bench.accept_with("v4", &samples(&[f64::NAN, f64::NEG_INFINITY])).await;
    bench.write("v5");
    bench.checkpoint_with("v5", &samples(&[1.0])).await;
    bench.write("edited");
    let before = bench.tree().await;
    for metric in ["score", "another"] {
        let target = best(metric, Direction::Decrease);
        let error = bench.open().preview(&target).await.expect_err("nothing has a sample");
        assert!(matches!(error, Error::NoTarget { .. }), "the preview's error is {error}");
        let error = bench.roll_back(target).await.expect_err("nothing has a sample");
        assert!(matches!(error, Error::NoTarget { .. }), "the error is {error}");
    }
    assert_eq!(bench.tree().await, before, "the workspace");
}

/// A baseline is the checkpoint that it stands for, and the record has its name.
pub async fn a_baseline_is_the_checkpoint_that_it_stands_for<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let target = Target::Baseline { name: "release".to_owned(), checkpoint: bench.ids[0] };
    let report = bench.roll_back(target.clone()).await.expect("the baseline is whole");
    assert_eq!(report.restored, bench.ids[0]);
    assert_eq!(bench.tree().await, bench.tree_of(bench.ids[0]).await, "the workspace");
    let history = bench.open().history().await.expect("the history can be read");
    assert_eq!(history.last().map(|record| &record.request.target), Some(&target), "the record");
}

/// An undo brings back what the workspace held before, and an undo of that goes forward again; rollbacks that failed or
/// changed nothing do not count.
pub async fn an_undo_goes_back_and_an_undo_of_it_forward_again<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let edited = bench.tree().await;
    bench.roll_back(Target::Checkpoint(bench.ids[0])).await.expect("the target is whole");
    let first = bench.tree_of(bench.ids[0]).await;
    bench.roll_back(Target::Version(version("v9"))).await.expect_err("there is no v9");
    bench.roll_back(Target::Checkpoint(bench.ids[0])).await.expect("there is nothing to do");
    for (step, wanted) in [edited, first, edited, first].into_iter().enumerate() {
        let (preview, _) = bench.open().preview(&Target::Undo).await.expect("something can be undone");
        let report = bench.roll_back(Target::Undo).await.expect("something can be undone");
        assert_eq!((preview.id, bench.tree().await), (report.restored, wanted), "undo number {step}");
    }
    // What was reached by one undo is left by another, also where a rollback lay between.
    bench.roll_back(Target::LastKnownGood).await.expect("the target is whole");
    bench.roll_back(Target::Undo).await.expect("something can be undone");
    assert_eq!(bench.tree().await, first, "the undo of a later rollback");
}

/// Before any rollback has changed something there is nothing to undo.
pub async fn nothing_is_undone_before_something_was_changed<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    refuses_to_undo(&bench, "without any rollback").await;
    bench.roll_back(Target::Version(version("v9"))).await.expect_err("there is no v9");
    refuses_to_undo(&bench, "after one that failed").await;
    bench.write("v3");
    bench.roll_back(Target::LastKnownGood).await.expect("there is nothing to do");
    refuses_to_undo(&bench, "after one that changed nothing").await;
}

/// Where the checkpoint that an undo needs was deleted, it is refused, and no other version takes its place.
pub async fn what_was_deleted_is_not_undone<F: RollbackFixture>(fixture: &F) {
    let bench = Bench::new(fixture).await;
    let report = bench.roll_back(Target::LastKnownGood).await.expect("the target is whole");
    delete(&bench, report.saved.expect("the edit was saved")).await;
    refuses_to_undo(&bench, "after the checkpoint was deleted").await;
}

/// An undo means one state of the workspace. Where that is damaged, no other version takes its place.
pub async fn nothing_takes_the_place_of_what_an_undo_means<F: RollbackFixture>(fixture: &F) {
    for damage in WAYS {
        let bench = Bench::new(fixture).await;
        let report = bench.roll_back(Target::LastKnownGood).await.expect("the target is whole");
        let saved = report.saved.expect("the edit was saved");
        damage(&bench.watched, saved);
        let error = bench.roll_back(Target::Undo).await.expect_err("what it means is damaged");
        let Error::Exhausted { attempts } = &error else { panic!("the error is {error}") };
        let tried: Vec<CheckpointId> = attempts.iter().map(|attempt| attempt.checkpoint).collect();
        assert_eq!(tried, [saved], "the attempts");
        assert_eq!(bench.tree().await, report.tree, "the workspace");
    }
}

async fn delete(bench: &Bench<'_>, id: CheckpointId) {
    bench.place.store.delete(&[id]).await.expect("a checkpoint can be deleted");
}

async fn refuses_to_undo(bench: &Bench<'_>, when: &str) {
    let before = bench.tree().await;
    let error = bench.open().preview(&Target::Undo).await.expect_err(when);
    assert!(matches!(error, Error::NoTarget { .. }), "the preview's error {when} is {error}");
    let error = bench.open().roll_back(request(Target::Undo)).await.expect_err(when);
    assert!(matches!(error, Error::NoTarget { .. }), "the error {when} is {error}");
    assert_eq!(bench.tree().await, before, "the workspace {when}");
}
