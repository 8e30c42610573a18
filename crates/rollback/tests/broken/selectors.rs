//! Selectors that are wrong in one way each.

use evoseal_checkpoint::Checkpoint;
use evoseal_rollback::{KnownGoodLadder, Result, Target, TargetSelector, conformance};
use evoseal_types::CheckpointId;

use super::fails;

/// What is wrong with a selector.
#[derive(Debug, Clone, Copy)]
enum WrongLadder {
    NamesOneTwice,
    GivesAnythingOlder,
    IgnoresTheRequest,
    GivesWhatIsGone,
    InventsATarget,
    ChangesItsMind,
    TakesBaselinesForTheNewest,
    InventsAnUndo,
    PrefersTheOlderOfEquals,
    CountsWhatIsNoNumber,
    GivesTheBestOfAll,
    InventsABest,
}

impl TargetSelector for WrongLadder {
    fn select(
        &self,
        target: &Target,
        checkpoints: &[Checkpoint],
        known_good: &[CheckpointId],
    ) -> Result<Vec<CheckpointId>> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let right = KnownGoodLadder.select(target, checkpoints, known_good);
        let all = || checkpoints.iter().map(|checkpoint| checkpoint.id);
        let newest = || KnownGoodLadder.select(&Target::LastKnownGood, checkpoints, known_good);
        let best_of = |good: &[CheckpointId]| KnownGoodLadder.select(target, checkpoints, good);
        match self {
            Self::TakesBaselinesForTheNewest if matches!(target, Target::Baseline { .. }) => newest(),
            Self::InventsAnUndo if *target == Target::Undo => newest(),
            Self::InventsABest if matches!(target, Target::Best(_)) => right.or_else(|_| newest()),
            Self::PrefersTheOlderOfEquals if matches!(target, Target::Best(_)) => {
                best_of(&known_good.iter().rev().copied().collect::<Vec<_>>())
            }
            Self::GivesTheBestOfAll if matches!(target, Target::Best(_)) => {
                best_of(&all().collect::<Vec<_>>())
            }
            Self::CountsWhatIsNoNumber => {
                KnownGoodLadder.select(target, &with_numbers_only(checkpoints), known_good)
            }
            Self::NamesOneTwice => right.map(|ladder| ladder.iter().chain(&ladder).copied().collect()),
            Self::GivesAnythingOlder => right.map(|ladder| {
                ladder[..1].iter().copied().chain(all().filter(|id| *id != ladder[0])).collect()
            }),
            Self::IgnoresTheRequest => right.map(|mut ladder| {
                ladder.reverse();
                ladder
            }),
            Self::GivesWhatIsGone => right.map(|ladder| {
                let gone = known_good.iter().filter(|id| !all().any(|existing| existing == **id));
                ladder.iter().chain(gone.take(1)).copied().collect()
            }),
            Self::InventsATarget => right.or_else(|_| Ok(all().take(1).collect())),
            Self::ChangesItsMind => right.map(|mut ladder| {
                let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                ladder.truncate(1 + count % 2);
                ladder
            }),
            _ => right,
        }
    }
}

/// Every sample that is no finite number becomes a zero.
fn with_numbers_only(checkpoints: &[Checkpoint]) -> Vec<Checkpoint> {
    let mut checkpoints = checkpoints.to_vec();
    let metrics = checkpoints.iter_mut().flat_map(|checkpoint| &mut checkpoint.details.metrics);
    for sample in metrics.flat_map(|metric| &mut metric.samples) {
        if !sample.value.is_finite() {
            sample.value = 0.0;
        }
    }
    checkpoints
}

#[tokio::test]
async fn every_wrong_selector_is_rejected_by_the_case_that_is_meant_for_it() {
    for (wrong, case) in [
        (WrongLadder::NamesOneTwice, "every_target_exists_and_stands_once"),
        (WrongLadder::GivesAnythingOlder, "every_fallback_is_known_to_be_good"),
        (WrongLadder::IgnoresTheRequest, "the_first_target_is_the_requested_one"),
        (WrongLadder::GivesWhatIsGone, "every_target_exists_and_stands_once"),
        (WrongLadder::InventsATarget, "what_does_not_exist_is_no_target"),
        (WrongLadder::ChangesItsMind, "the_same_question_gets_the_same_answer"),
        (WrongLadder::TakesBaselinesForTheNewest, "the_first_target_is_the_requested_one"),
        (WrongLadder::InventsAnUndo, "what_does_not_exist_is_no_target"),
        (
            WrongLadder::PrefersTheOlderOfEquals,
            "the_best_target_has_the_best_mean_and_is_the_newest_of_equals",
        ),
        (WrongLadder::CountsWhatIsNoNumber, "the_best_target_has_the_best_mean_and_is_the_newest_of_equals"),
        (WrongLadder::CountsWhatIsNoNumber, "what_was_never_measured_has_no_best_target"),
        (WrongLadder::GivesTheBestOfAll, "the_best_target_has_the_best_mean_and_is_the_newest_of_equals"),
        (WrongLadder::InventsABest, "what_was_never_measured_has_no_best_target"),
    ] {
        let cases = conformance::target_selector::cases();
        assert!(fails(wrong, cases, case).await, "{wrong:?} passes {case}");
    }
}
