//! Before the first iteration: completing what a killed run left, and the version to start from.

use evoseal_checkpoint::{NewCheckpoint, Source};
use evoseal_safety::{Observations, Outcome, ValidationRequest, VersionRef};
use evoseal_types::{CheckpointId, Digest, ErrorClass, VersionId};

use crate::event::{EventKind, Stage};
use crate::journal::{InFlight, JournalEntry};
use crate::observe::{describe, observe};
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{Error, EvaluationRequest, Result, VersionInPlace};

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

    /// Makes sure that there is an accepted version and that the workspace holds it. `false` if the run was cancelled.
    pub(crate) async fn ensure_baseline(&self, run: &mut Run) -> Result<bool> {
        if run.state.in_flight.is_some() {
            return Ok(true);
        }
        let known = run.state.incumbent.as_ref().map(|(version, _)| version.clone());
        if let Some(known) = known {
            let Some(checkpoint) = known.checkpoint else {
                // Nothing to compare with: without checkpoints the person who switched them off vouches for the workspace,
                // unless it still is what was refused last.
                let found = self.parts.checkpoints.tree_digest(&self.parts.workspace).await?;
                self.refuse_refused(run, found).await?;
                if !run.options.enable_checkpoints {
                    return Ok(true);
                }
                return self.accept_baseline(run).await;
            };
            let expected = self.parts.checkpoints.load(checkpoint).await?.tree;
            let found = self.parts.checkpoints.tree_digest(&self.parts.workspace).await?;
            if expected == found {
                return Ok(true);
            }
            if let Some(version) = self.accepted_version_with(run, found).await? {
                run.record(JournalEntry::IncumbentMoved { at: self.parts.clock.now(), version }).await?;
                return Ok(true);
            }
            self.refuse_refused(run, found).await?;
        }
        self.accept_baseline(run).await
    }

    /// Refuses to start from a candidate that was refused: it would become the incumbent without ever being compared.
    async fn refuse_refused(&self, run: &Run, tree: Digest) -> Result<()> {
        let listed = self.parts.checkpoints.list().await?;
        let refused = run.state.finished.iter().rev().find_map(|finished| {
            let (version, _) = finished.flight.candidate.as_ref()?;
            let has_tree =
                listed.iter().any(|known| Some(known.id) == version.checkpoint && known.tree == tree);
            (!finished.stands_accepted() && has_tree).then(|| version.version_id.to_string())
        });
        let left = run.state.left_in_workspace.contains(&tree).then(|| "a candidate".to_owned());
        match refused.or(left) {
            None => Ok(()),
            Some(version) => Err(Error::Invalid {
                what: "workspace".to_owned(),
                reason: format!(
                    "it holds {version}, which was refused; roll back to an accepted version first"
                ),
            }),
        }
    }

    /// The accepted version whose tree the workspace has: a person went back to it between runs.
    async fn accepted_version_with(&self, run: &Run, tree: Digest) -> Result<Option<VersionRef>> {
        let accepted = run
            .state
            .finished
            .iter()
            .filter_map(|finished| finished.stands_accepted().then(|| finished.version())?);
        let baselines = run.state.baselines.iter().map(|baseline| baseline.version.clone());
        let known: Vec<VersionRef> = baselines.chain(accepted).collect();
        let listed = self.parts.checkpoints.list().await?;
        let has_tree = |id: CheckpointId| listed.iter().any(|found| found.id == id && found.tree == tree);
        Ok(known.into_iter().rev().find(|version| version.checkpoint.is_some_and(has_tree)))
    }

    /// Evaluates the workspace as it stands and makes it the incumbent.
    async fn accept_baseline(&self, run: &mut Run) -> Result<bool> {
        let version_id = next_baseline_id(run);
        self.stage_started(0, Stage::Evaluate);
        let request = EvaluationRequest {
            candidate: VersionInPlace {
                version_id: version_id.clone(),
                directory: self.parts.workspace.clone(),
            },
            incumbent: None,
            iteration: 0,
            run_directory: self.run_directory().await?,
            tolerated: Vec::new(),
        };
        // Captured before the evaluation, so that what the evaluation leaves behind does not become part of the version.
        let captured = if run.options.enable_checkpoints {
            let source = Source::Directory(self.parts.workspace.clone());
            let details =
                NewCheckpoint { note: "before the first evaluation".to_owned(), ..self.details(&version_id) };
            Some(self.parts.gate.create_safety_checkpoint(source, details).await?.durable().await?)
        } else {
            None
        };
        let evaluation = self.cancellation.unless_cancelled(self.parts.evaluator.evaluate(&request)).await;
        if let Some(captured) = &captured {
            // Whatever comes of it, what the evaluation left behind goes.
            self.restore_workspace(captured.id).await?;
        }
        let Some(evaluation) = evaluation else { return Ok(false) };
        self.made_room(captured.as_ref().map(|captured| captured.id)).await?;
        let observations = observe(evaluation?, Vec::new(), &Observations::default());
        let request = ValidationRequest {
            current_version_id: None,
            new_version_id: version_id.clone(),
            observations: observations.clone(),
            objective: self.objective.clone(),
        };
        let validation = self.parts.gate.validate_version_safety(&request).await?;
        if validation.decision.outcome != Outcome::Accept {
            return Err(Error::BaselineFailed { reason: validation.decision.summary() });
        }
        let checkpoint = match captured {
            Some(_) => Some(self.capture_accepted(&version_id, None, &observations).await?),
            None => None,
        };
        let version = VersionRef { version_id: version_id.clone(), checkpoint };
        let settlement = evoseal_safety::Settlement {
            new: version.clone(),
            current: None,
            decision: validation.decision.clone(),
            auto_rollback: false,
        };
        let report = self.parts.gate.settle(&settlement).await?;
        if !report.version_accepted {
            return Err(Error::BaselineFailed { reason: report.actions_taken.join("; ") });
        }
        let at = self.parts.clock.now();
        let validation = Box::new(validation);
        run.record(JournalEntry::BaselineAccepted { at, version, observations, validation }).await?;
        self.stage_completed(0, Stage::Evaluate, format!("{version_id} passes"));
        self.emit(EventKind::BaselineAccepted { version_id });
        Ok(true)
    }

    /// Captures an accepted version with its results.
    pub(crate) async fn capture_accepted(
        &self,
        version_id: &VersionId,
        parent: Option<CheckpointId>,
        observations: &Observations,
    ) -> Result<CheckpointId> {
        let details = NewCheckpoint {
            parent,
            test_results: observations.test_results.clone(),
            metrics: observations.metrics.clone(),
            note: "accepted".to_owned(),
            ..self.details(version_id)
        };
        let source = Source::Directory(self.parts.workspace.clone());
        let handle = self.parts.gate.create_safety_checkpoint(source, details).await?;
        Ok(handle.durable().await?.id)
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

/// `v0` for the first version to start from; later ones are told apart by how many there were before.
fn next_baseline_id(run: &Run) -> VersionId {
    let earlier = run.state.baselines.len();
    let name = if earlier == 0 { "v0".to_owned() } else { format!("v0.{earlier}") };
    VersionId::new(name).expect("a letter, digits and a dot make a valid id")
}
