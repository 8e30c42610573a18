//! Before the first iteration: completing what a killed run left.

use evoseal_safety::Outcome;
use evoseal_types::{CheckpointId, ErrorClass};

use crate::event::EventKind;
use crate::journal::{InFlight, JournalEntry};
use crate::observe::describe;
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{Error, Result};

impl EvolutionPipeline {
    /// Brings the workspace to where the journal says that it should be. Can be repeated any number of times. Whether there
    /// was anything to do.
    ///
    /// An iteration that was killed before its decision leaves the incumbent; one that was killed after it is carried out
    /// as decided by [`complete`](Self::complete), which goes on with what the journal knows.
    pub(crate) async fn recover_workspace(&self, run: &mut Run) -> Result<bool> {
        let overridden = self.complete_override(run).await?;
        let Some(flight) = run.state.in_flight.clone() else { return Ok(overridden) };
        let (iteration, incumbent) = (flight.iteration, &flight.incumbent);
        let action = if flight.validation.is_some() && !self.awaits_confirmation(&flight) {
            let kept = match accepted_candidate(&flight) {
                // A rollback sees to itself.
                None => String::new(),
                Some(accepted) => self.return_workspace(iteration, accepted).await?.kept(),
            };
            format!("the decision that was made will be carried out{kept}")
        } else if let Some(checkpoint) = incumbent.checkpoint {
            let kept = self.undo_candidate(iteration, checkpoint).await?.kept();
            // From here on nobody but the loop works in the workspace, and the candidate comes back into it.
            let candidate = flight.candidate.as_ref().and_then(|(version, _)| version.checkpoint);
            let also = match candidate {
                Some(candidate) => self.save_before(iteration, candidate).await?,
                None => None,
            };
            let also = also.map_or(String::new(), |also| {
                format!("; what the candidate would overwrite is kept as {}", also.short())
            });
            format!("the workspace was returned to {}{kept}{also}", incumbent.version_id)
        } else {
            "there is no checkpoint to return to; the workspace was left as it is".to_owned()
        };
        if flight.validation.is_none() && !can_go_on(&flight) {
            let reason = "the process ended before there was a candidate that can be brought back".to_owned();
            run.record(JournalEntry::IterationAbandoned { iteration, reason }).await?;
        }
        self.emit(EventKind::RunRecovered { iteration, action });
        Ok(true)
    }

    /// After an error: the incumbent back into the workspace, if that can be done. Errors are not reported on top of the
    /// one that led here, since the next start puts the workspace in order again.
    ///
    /// What was observed already is kept and judged by the next run, if the error may go away by itself or by a
    /// person's doing; otherwise the next run would only meet it again.
    pub(crate) async fn abandon(&self, run: &mut Run, error: &Error) {
        let may_go_back = |flight: &InFlight| flight.validation.is_none() || self.awaits_confirmation(flight);
        let Some(flight) = run.state.in_flight.clone().filter(may_go_back) else { return };
        let iteration = flight.iteration;
        if let Some(checkpoint) = flight.incumbent.checkpoint
            && self.undo_candidate(iteration, checkpoint).await.is_err()
        {
            return;
        }
        if flight.validation.is_some() {
            return;
        }
        let passes = matches!(error.class(), ErrorClass::Transient | ErrorClass::Environment);
        if !(passes && flight.observations.is_some() && can_go_on(&flight)) {
            let entry = JournalEntry::IterationAbandoned { iteration, reason: describe(error) };
            let _ = run.record(entry).await;
        }
    }
}

/// The checkpoint of a candidate that was accepted and is about to be captured with its results, or was.
fn accepted_candidate(flight: &InFlight) -> Option<CheckpointId> {
    let accepted = flight.judgement()?.decision.outcome == Outcome::Accept && flight.settled.is_none();
    let (version, _) = flight.candidate.as_ref().filter(|_| accepted)?;
    flight.accepted.or(version.checkpoint)
}

/// Whether an iteration without a decision can be carried on with in another process: its candidate can be brought back,
/// or it is known that there is none.
fn can_go_on(flight: &InFlight) -> bool {
    match &flight.candidate {
        // Without any checkpoint the workspace was left as it is: the candidate still stands there.
        Some((version, _)) => version.checkpoint.is_some() || flight.incumbent.checkpoint.is_none(),
        None => flight.observations.is_some(),
    }
}
