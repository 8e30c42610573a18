//! The version to start from: what the workspace holds is evaluated and accepted, unless it is known.

use evoseal_checkpoint::{NewCheckpoint, Source};
use evoseal_safety::{Observations, Outcome, ValidationRequest, VersionRef};
use evoseal_types::{CheckpointId, Digest, VersionId};

use crate::event::{EventKind, Stage};
use crate::journal::JournalEntry;
use crate::observe::observe;
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{Error, EvaluationRequest, Result, VersionInPlace};

impl EvolutionPipeline {
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

/// `v0` for the first version to start from; later ones are told apart by how many there were before.
fn next_baseline_id(run: &Run) -> VersionId {
    let earlier = run.state.baselines.len();
    let name = if earlier == 0 { "v0".to_owned() } else { format!("v0.{earlier}") };
    VersionId::new(name).expect("a letter, digits and a dot make a valid id")
}
