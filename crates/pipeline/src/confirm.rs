//! Provisional acceptance: what was decided on one set of samples is confirmed on a fresh one.
//!
//! Between the first decision and the confirmation the candidate is not known to be good and not the incumbent: whatever
//! happens meanwhile, a rollback goes to the version before it.

use evoseal_safety::{Observations, Outcome, Rule, ValidationRequest};

use crate::event::Stage;
use crate::iterate::flight_of;
use crate::journal::{InFlight, JournalEntry};
use crate::observe::{observe, summary_of};
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{Result, StopReason};

impl EvolutionPipeline {
    /// Whether an acceptance has still to be confirmed. What a person approved needs no more words.
    pub(crate) fn awaits_confirmation(&self, flight: &InFlight) -> bool {
        let accepted = flight.validation.as_ref().is_some_and(|validation| {
            validation.decision.outcome == Outcome::Accept
                && validation.decision.decided_by != Rule::Overridden
        });
        let captured = flight.incumbent.checkpoint.is_some()
            && flight.candidate.as_ref().is_some_and(|(version, _)| version.checkpoint.is_some());
        self.rules.confirm_acceptance
            && accepted
            && captured
            && flight.confirmation.is_none()
            && flight.accepted.is_none()
            && flight.settled.is_none()
    }

    /// Evaluates an accepted candidate once more and judges it by what is observed then. `Some` if the run was cancelled: the
    /// workspace is at the incumbent then, and the next run goes on here.
    pub(crate) async fn confirm(&self, run: &mut Run) -> Result<Option<StopReason>> {
        let flight = flight_of(run)?.clone();
        if !self.awaits_confirmation(&flight) {
            return Ok(None);
        }
        let iteration = flight.iteration;
        if flight.fresh_observations.is_none() {
            let Some(observations) = self.observe_again(run, &flight).await? else {
                if let Some(checkpoint) = flight.incumbent.checkpoint {
                    self.undo_candidate(iteration, checkpoint).await?;
                }
                return Ok(Some(StopReason::Interrupted));
            };
            run.record(JournalEntry::ConfirmationObserved { iteration, observations }).await?;
        }
        self.stage_started(iteration, Stage::Judge);
        let flight = flight_of(run)?.clone();
        let (Some((version, _)), Some(observations)) = (flight.candidate, flight.fresh_observations) else {
            return Ok(None);
        };
        let request = ValidationRequest {
            current_version_id: Some(flight.incumbent.version_id),
            new_version_id: version.version_id,
            observations,
            objective: self.objective.clone(),
        };
        let validation = Box::new(self.parts.gate.validate_version_safety(&request).await?);
        let summary = format!("confirmation: {}", validation.decision.outcome);
        self.stage_completed(iteration, Stage::Judge, summary);
        run.record(JournalEntry::ConfirmationDecided { iteration, validation }).await?;
        Ok(None)
    }

    /// The second evaluation; `None` if the run was cancelled.
    async fn observe_again(&self, run: &mut Run, flight: &InFlight) -> Result<Option<Observations>> {
        let Some((version, changes)) = flight.candidate.clone() else { return Ok(None) };
        if let Some(checkpoint) = version.checkpoint {
            self.restore_workspace(checkpoint).await?;
        }
        self.stage_started(flight.iteration, Stage::Evaluate);
        let first = flight.observations.clone().unwrap_or_default();
        let excused = first.retests.iter().map(|retested| retested.test.clone());
        let tolerated = run.state.quarantined.keys().cloned().chain(excused).collect();
        let Some(evaluation) = self.evaluate_bounded(run, flight, &version, tolerated).await? else {
            return Ok(None);
        };
        let violations = self.check_edit(flight.iteration, &changes).await?;
        let earlier = run.state.incumbent.as_ref().map(|(_, observed)| observed.clone()).unwrap_or_default();
        // A test that was found to be flaky a moment ago is so still.
        let (retests, quarantined, person) = (first.retests, first.quarantined, first.person);
        let observed = observe(evaluation, violations, &earlier);
        let observations = Observations { retests, quarantined, person, ..observed };
        self.stage_completed(flight.iteration, Stage::Evaluate, summary_of(&observations));
        Ok(Some(observations))
    }
}
