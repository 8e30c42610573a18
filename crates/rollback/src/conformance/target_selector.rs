//! The suite for [`TargetSelector`].

use evoseal_checkpoint::{Checkpoint, NewCheckpoint};
use evoseal_types::{
    CheckpointId, Digest, Direction, MetricSamples, MetricSpec, Objective, Timestamp, VersionId,
};

use super::{Case, list_cases};
use crate::{Error, Target, TargetSelector};

fn version(name: &str) -> VersionId {
    VersionId::new(name).expect("the suite's version ids are valid")
}

fn id(name: &str) -> CheckpointId {
    CheckpointId::new(Digest::of(name.as_bytes()))
}

/// The checkpoint `name`, whose version is the first two letters of it.
fn checkpoint(name: &str, parent: Option<&str>) -> Checkpoint {
    Checkpoint {
        id: id(name),
        created_at: Timestamp::default(),
        tree: Digest::of(name.as_bytes()),
        file_count: 0,
        size_bytes: 0,
        details: NewCheckpoint { parent: parent.map(id), ..NewCheckpoint::of(version(&name[..2])) },
        pinned: None,
    }
}

/// `v3` has two checkpoints, `v4` a parent that is gone, and one known-good version is gone.
fn listing() -> (Vec<Checkpoint>, Vec<CheckpointId>) {
    let checkpoints = vec![
        checkpoint("v1", None),
        checkpoint("v2", Some("v1")),
        checkpoint("v3", Some("v2")),
        checkpoint("v3-again", Some("v2")),
        checkpoint("v4", Some("gone")),
    ];
    (checkpoints, ["v1", "gone", "v2", "v3-again"].map(id).to_vec())
}

fn spec(metric: &str, harmful: Direction) -> MetricSpec {
    MetricSpec::new(metric, "points", harmful).expect("the suite's metric is valid")
}

fn best(metric: &str, harmful: Direction) -> Target {
    Target::Best(Objective { metric: spec(metric, harmful).name, direction: harmful })
}

fn baseline(name: &str) -> Target {
    Target::Baseline { name: "release".to_owned(), checkpoint: id(name) }
}

/// Versions with samples of `score`. All are known to be good, except that `v6` and `v7`, the extremes, were not accepted
/// and that `v8` is gone.
fn measured() -> (Vec<Checkpoint>, Vec<CheckpointId>) {
    let with = |name: &str, values: &[f64]| {
        let mut checkpoint = checkpoint(name, None);
        checkpoint.details.metrics =
            vec![MetricSamples::independent(spec("score", Direction::Decrease), values)];
        checkpoint
    };
    let checkpoints = vec![
        with("v1", &[-3.0, -5.0]),
        with("v2", &[4.0, f64::NAN, 6.0]),
        with("v3", &[9.0, 1.0]),
        with("v4", &[-4.0, f64::INFINITY]),
        with("v5", &[f64::NAN, f64::NEG_INFINITY]),
        with("v6", &[99.0]),
        with("v7", &[-99.0]),
        with("v9", &[]),
    ];
    (checkpoints, ["v1", "v2", "v3", "v4", "v5", "v8", "v9"].map(id).to_vec())
}

/// The best version is the known-good one with the best mean of the finite samples, the newest of equals.
pub async fn the_best_target_has_the_best_mean_and_is_the_newest_of_equals<S: TargetSelector>(selector: &S) {
    let (checkpoints, known_good) = measured();
    for (harmful, expected) in [(Direction::Decrease, "v3"), (Direction::Increase, "v4")] {
        let ladder = selector.select(&best("score", harmful), &checkpoints, &known_good);
        let ladder = ladder.unwrap_or_else(|error| panic!("harmful is {harmful:?}: {error}"));
        assert_eq!(ladder.first(), Some(&id(expected)), "harmful is {harmful:?}");
        let fallbacks = ladder[1..].iter().all(|fallback| known_good.contains(fallback));
        assert!(fallbacks, "it falls back to what nobody accepted: {ladder:?}");
    }
}

/// Without a finite sample of the metric in a known-good version there is no best one.
pub async fn what_was_never_measured_has_no_best_target<S: TargetSelector>(selector: &S) {
    let (checkpoints, known_good) = measured();
    let unmeasured = ["v5", "v8", "v9"].map(id);
    for (metric, good) in [("another", known_good.as_slice()), ("score", &unmeasured), ("score", &[])] {
        let answer = selector.select(&best(metric, Direction::Decrease), &checkpoints, good);
        assert!(matches!(answer, Err(Error::NoTarget { .. })), "{metric} of {good:?} gives {answer:?}");
    }
}

/// The first element is what the request names.
pub async fn the_first_target_is_the_requested_one<S: TargetSelector>(selector: &S) {
    let (checkpoints, known_good) = listing();
    for (target, expected) in [
        (Target::Checkpoint(id("v3")), "v3"),
        (Target::Checkpoint(id("v4")), "v4"),
        (Target::Version(version("v3")), "v3-again"),
        (Target::Version(version("v1")), "v1"),
        (Target::LastKnownGood, "v3-again"),
        (Target::Parent, "v2"),
        (baseline("v1"), "v1"),
        (baseline("v4"), "v4"),
    ] {
        let ladder = selector.select(&target, &checkpoints, &known_good);
        let ladder = ladder.unwrap_or_else(|error| panic!("{target:?}: {error}"));
        assert_eq!(ladder.first(), Some(&id(expected)), "{target:?}");
    }
}

/// No element stands twice, and all of them exist.
pub async fn every_target_exists_and_stands_once<S: TargetSelector>(selector: &S) {
    let (checkpoints, mut known_good) = listing();
    known_good.extend(known_good.clone());
    for target in [Target::Checkpoint(id("v2")), Target::LastKnownGood, Target::Parent] {
        let ladder = selector.select(&target, &checkpoints, &known_good).expect("the target exists");
        let mut sorted = ladder.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), ladder.len(), "{target:?} gives one twice: {ladder:?}");
        for chosen in ladder {
            let exists = checkpoints.iter().any(|checkpoint| checkpoint.id == chosen);
            assert!(exists, "{target:?} gives {chosen}, which is gone");
        }
    }
}

/// The fallbacks were accepted; a version that was not is given only where it was asked for.
pub async fn every_fallback_is_known_to_be_good<S: TargetSelector>(selector: &S) {
    let (checkpoints, known_good) = listing();
    for target in [Target::Checkpoint(id("v4")), Target::Version(version("v3")), Target::LastKnownGood] {
        let ladder = selector.select(&target, &checkpoints, &known_good).expect("the target exists");
        for fallback in &ladder[1..] {
            assert!(
                known_good.contains(fallback),
                "{target:?} falls back to {fallback}, which nobody accepted"
            );
        }
    }
}

/// What does not exist is [`Error::NoTarget`], and so is an undo: a selector does not know what the workspace held before.
pub async fn what_does_not_exist_is_no_target<S: TargetSelector>(selector: &S) {
    let (checkpoints, known_good) = listing();
    let unknown =
        [Target::Checkpoint(id("gone")), Target::Version(version("v9")), baseline("gone"), Target::Undo];
    let nothing_good = [Target::LastKnownGood, Target::Parent];
    for (target, good) in unknown
        .iter()
        .map(|target| (target, known_good.as_slice()))
        .chain(nothing_good.iter().flat_map(|target| [(target, &[][..]), (target, &known_good[1..2])]))
    {
        let answer = selector.select(target, &checkpoints, good);
        assert!(matches!(answer, Err(Error::NoTarget { .. })), "{target:?} gives {answer:?}");
    }
    for orphan in ["v1", "v4"] {
        let answer = selector.select(&Target::Parent, &checkpoints, &[id(orphan)]);
        assert!(matches!(answer, Err(Error::NoTarget { .. })), "the parent of {orphan}: {answer:?}");
    }
}

/// The same question gets the same answer.
pub async fn the_same_question_gets_the_same_answer<S: TargetSelector>(selector: &S) {
    let (checkpoints, known_good) = listing();
    let ask = || selector.select(&Target::LastKnownGood, &checkpoints, &known_good).expect("there is one");
    let first = ask();
    for _ in 0..3 {
        assert_eq!(ask(), first);
    }
}

/// Hands the names of all cases to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __target_selector_cases {
    ($then:path, $arguments:tt) => {
        $then! { $arguments
            the_first_target_is_the_requested_one
            the_best_target_has_the_best_mean_and_is_the_newest_of_equals
            what_was_never_measured_has_no_best_target
            every_target_exists_and_stands_once
            every_fallback_is_known_to_be_good
            what_does_not_exist_is_no_target
            the_same_question_gets_the_same_answer
        }
    };
}

/// One test for each case of the suite for [`TargetSelector`](crate::TargetSelector). The argument is an expression
/// that makes one.
#[macro_export]
macro_rules! target_selector_conformance {
    ($selector:expr) => {
        $crate::__target_selector_cases! { $crate::__conformance_tests, [target_selector, $selector] }
    };
}

/// The cases as values.
pub fn cases<S: TargetSelector + 'static>() -> Vec<Case<S>> {
    crate::__target_selector_cases! { list_cases, [] }
}
