//! The contract of [`StopCondition`].

use std::time::Duration;

use super::{Verdict, ensure, suite};
use crate::{LoopProgress, StopCondition};

/// Makes a condition.
pub type Fixture<'a> = &'a dyn Fn() -> Box<dyn StopCondition>;

suite! { $ stop_condition_conformance stop_condition Fixture<'_>,
    answers_the_same_again
    answers_at_every_extreme
}

/// Progress from none to more than any run makes.
fn progress() -> Vec<LoopProgress> {
    let counts = [0, 1, 4, 5, 6, 1000, u64::MAX];
    let times = [Duration::ZERO, Duration::from_secs(59), Duration::from_hours(1), Duration::MAX];
    let mut progress = Vec::new();
    for iterations_done in counts {
        for consecutive_failures in counts {
            for elapsed in times {
                progress.push(LoopProgress {
                    iterations_done,
                    consecutive_failures,
                    without_improvement: consecutive_failures,
                    evaluations: iterations_done,
                    elapsed,
                    free_bytes: (iterations_done != 5).then_some(iterations_done),
                    store_bytes: (consecutive_failures != 5).then_some(consecutive_failures),
                });
            }
        }
    }
    progress
}

/// What it was asked before changes nothing.
pub async fn answers_the_same_again(fixture: Fixture<'_>) -> Verdict {
    let condition = fixture();
    let first: Vec<_> = progress().iter().map(|progress| condition.should_stop(progress)).collect();
    for (asked, expected) in progress().iter().zip(&first).rev() {
        for again in [condition.should_stop(asked), fixture().should_stop(asked)] {
            ensure(again == *expected, || {
                format!("of {asked:?} it says {expected:?} first and {again:?} later")
            })?;
        }
    }
    Ok(())
}

/// No progress makes it panic.
pub async fn answers_at_every_extreme(fixture: Fixture<'_>) -> Verdict {
    for progress in progress() {
        let condition = fixture();
        let asked = std::panic::AssertUnwindSafe(|| condition.should_stop(&progress));
        ensure(std::panic::catch_unwind(asked).is_ok(), || format!("it panics at {progress:?}"))?;
    }
    Ok(())
}
