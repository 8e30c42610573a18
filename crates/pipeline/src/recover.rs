//! Before the first iteration: completing what a killed run left, and the version to start from.

use evoseal_checkpoint::{NewCheckpoint, RestoreMode, Source};
use evoseal_safety::{Observations, Outcome, ValidationRequest, VersionRef};
use evoseal_types::{CheckpointId, Digest, VersionId};

use crate::event::{EventKind, Stage};
use crate::iterate::observe;
use crate::journal::JournalEntry;
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{Error, EvaluationRequest, Result, VersionInPlace};

impl EvolutionPipeline {
    /// Brings the workspace to where the journal says that it should be. Can be repeated any number of times.
    ///
    /// An iteration that was killed before its decision leaves the incumbent; one that was killed after it is carried out
    /// as decided by the next call of `iterate`, which goes on with what the journal knows.
    pub(crate) async fn recover_workspace(&self, run: &mut Run) -> Result<Option<VersionRef>> {
        let Some(flight) = run.state.in_flight.clone() else { return Ok(None) };
        let incumbent = flight.incumbent.clone();
        let action = if flight.validation.is_some() {
            "the decision that was made will be carried out".to_owned()
        } else if let Some(checkpoint) = incumbent.checkpoint {
            let saved = self.save_unknown(flight.iteration).await?;
            self.restore_workspace(checkpoint).await?;
            let saved =
                saved.map_or(String::new(), |saved| format!("; what was there is kept as {}", saved.short()));
            format!("the workspace was returned to {}{saved}", incumbent.version_id)
        } else {
            "there is no checkpoint to return to; the workspace was left as it is".to_owned()
        };
        if flight.validation.is_none() && flight.candidate.is_none() {
            let reason = "the process ended while the change was proposed".to_owned();
            run.record(JournalEntry::IterationAbandoned { iteration: flight.iteration, reason }).await?;
        }
        self.emit(EventKind::RunRecovered { iteration: flight.iteration, action });
        Ok(Some(incumbent))
    }

    /// Captures the workspace if no checkpoint has its tree: after a crash it may hold a person's work besides an
    /// unfinished edit.
    async fn save_unknown(&self, iteration: u64) -> Result<Option<CheckpointId>> {
        let tree = self.parts.checkpoints.tree_digest(&self.parts.workspace).await?;
        if self.parts.checkpoints.list().await?.iter().any(|known| known.tree == tree) {
            return Ok(None);
        }
        let version_id = VersionId::new(format!("before-recovery-{iteration}"))?;
        let details = NewCheckpoint { note: "saved before recovery".to_owned(), ..self.details(&version_id) };
        let source = Source::Directory(self.parts.workspace.clone());
        let handle = self.parts.gate.create_safety_checkpoint(source, details).await?;
        Ok(Some(handle.durable().await?.id))
    }

    /// After an error: the incumbent back into the workspace, if that can be done. Errors are not reported on top of the
    /// one that led here, since the next start puts the workspace in order again.
    pub(crate) async fn abandon(&self, run: &mut Run, reason: &str) {
        let Some(flight) = run.state.in_flight.clone() else { return };
        let may_restore = run.options.enable_auto_rollback && flight.validation.is_none();
        if let Some(checkpoint) = flight.incumbent.checkpoint.filter(|_| may_restore)
            && self.restore_workspace(checkpoint).await.is_ok()
        {
            let iteration = flight.iteration;
            let entry = JournalEntry::IterationAbandoned { iteration, reason: reason.to_owned() };
            let _ = run.record(entry).await;
        }
    }

    /// Makes the workspace equal to a checkpoint.
    pub(crate) async fn restore_workspace(&self, checkpoint: CheckpointId) -> Result<()> {
        self.parts.checkpoints.restore(checkpoint, &self.parts.workspace, RestoreMode::InPlace).await?;
        Ok(())
    }

    /// Makes sure that there is an accepted version and that the workspace holds it. `false` if the run was cancelled.
    pub(crate) async fn ensure_baseline(&self, run: &mut Run) -> Result<bool> {
        if run.state.in_flight.is_some() {
            return Ok(true);
        }
        let known = run.state.incumbent.as_ref().map(|(version, _)| version.clone());
        if let Some(known) = known {
            let Some(checkpoint) = known.checkpoint else {
                // Nothing to compare with: without checkpoints the person who switched them off vouches for the workspace.
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
            let refused = finished.flight.settled.as_ref().is_none_or(|report| !report.version_accepted);
            let has_tree =
                listed.iter().any(|known| Some(known.id) == version.checkpoint && known.tree == tree);
            (refused && has_tree).then(|| version.version_id.clone())
        });
        match refused {
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
        let accepted = run.state.finished.iter().filter_map(|finished| {
            let flight = &finished.flight;
            let (version, _) = flight.candidate.as_ref()?;
            let was_accepted = flight.settled.as_ref().is_some_and(|report| report.version_accepted);
            let checkpoint = was_accepted.then(|| flight.accepted.or(version.checkpoint))?;
            Some(VersionRef { version_id: version.version_id.clone(), checkpoint })
        });
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
        let Some(evaluation) =
            self.cancellation.unless_cancelled(self.parts.evaluator.evaluate(&request)).await
        else {
            return Ok(false);
        };
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
            Some(captured) => {
                self.restore_workspace(captured.id).await?;
                Some(self.capture_accepted(&version_id, None, &observations).await?)
            }
            None => None,
        };
        let version = VersionRef { version_id: version_id.clone(), checkpoint };
        let settlement = evoseal_safety::Settlement {
            new: version.clone(),
            current: None,
            decision: validation.decision.clone(),
            auto_rollback: false,
        };
        self.parts.gate.settle(&settlement).await?;
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

/// `v0` for the first version to start from; later ones are told apart by how many there were before.
fn next_baseline_id(run: &Run) -> VersionId {
    let earlier = run.state.baselines.len();
    let name = if earlier == 0 { "v0".to_owned() } else { format!("v0.{earlier}") };
    VersionId::new(name).expect("a letter, digits and a dot make a valid id")
}
