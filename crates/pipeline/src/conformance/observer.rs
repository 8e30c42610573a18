//! The contract of [`Observer`], as far as it can be seen from outside: it takes whatever happens.

use std::panic::{AssertUnwindSafe, catch_unwind};

use evoseal_types::{Timestamp, VersionId};

use super::{Verdict, ensure, suite, wrong};
use crate::{Event, EventKind, Observer, Stage, StopReason};

/// Makes an observer.
pub type Fixture<'a> = &'a dyn Fn() -> Box<dyn Observer>;

suite! { $ observer_conformance observer Fixture<'_>,
    takes_every_event_in_any_order
}

/// Events of every kind but the end of an iteration, which holds a whole result.
fn events() -> Result<Vec<EventKind>, String> {
    let version_id = VersionId::new("v1").map_err(wrong)?;
    let text = "line\nbreak \u{1b}[0m".to_owned();
    Ok(vec![
        EventKind::EvolutionStarted {
            total_iterations: u64::MAX,
            checkpoints_enabled: true,
            auto_rollback_enabled: false,
            baseline_version: None,
        },
        EventKind::RunRecovered { iteration: 1, action: text.clone() },
        EventKind::BaselineAccepted { version_id: version_id.clone() },
        EventKind::IterationStarted { iteration: u64::MAX },
        EventKind::PipelineStageStarted { iteration: 0, stage: Stage::Evaluate },
        EventKind::PipelineStageCompleted { iteration: 0, stage: Stage::Judge, summary: String::new() },
        EventKind::RegressionDetected { iteration: 1, findings: vec![text.clone()] },
        EventKind::RollbackCompleted { iteration: 1, version_id: version_id.clone() },
        EventKind::EvolutionCompleted {
            iterations_completed: 0,
            accepted_versions: 0,
            rollbacks_performed: 0,
            final_version: Some(version_id),
            reason: StopReason::Other { reason: text.clone() },
        },
        EventKind::ErrorOccurred { error: text },
    ])
}

/// Forwards and backwards, an end before a beginning included.
pub async fn takes_every_event_in_any_order(fixture: Fixture<'_>) -> Verdict {
    let observer = fixture();
    let events = events()?;
    for kind in events.iter().chain(events.iter().rev()) {
        let event = Event { timestamp: Timestamp::default(), kind: kind.clone() };
        let told = catch_unwind(AssertUnwindSafe(|| observer.on_event(&event)));
        ensure(told.is_ok(), || format!("it panics at {kind:?}"))?;
    }
    Ok(())
}
