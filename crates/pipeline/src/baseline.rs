//! The version to start from: what the workspace holds is evaluated and accepted, unless it is known.

use evoseal_checkpoint::{NewCheckpoint, Source};
use evoseal_safety::{
    NamedTest, Observations, Outcome, RetestedTest, Subject, ValidationRequest, VersionRef,
};
use evoseal_types::{CheckpointId, Digest, TestReport, VersionId};

use crate::attempts::{as_evidence, may_pass};
use crate::event::{EventKind, Stage};
use crate::journal::JournalEntry;
use crate::observe::observe;
use crate::pipeline::{EvolutionPipeline, Run};
use crate::retest::{ATTEMPTS_MAX, needs_measuring, rerunnable, status_of};
use crate::{Error, Evaluation, EvaluationRequest, Result, VersionInPlace};

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
                if run.state.is_refused(&known) {
                    // A person rejected it, and no version could be restored in its place.
                    self.refuse_refused(run, found).await?;
                }
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
        let captured = captured.map(|captured| captured.id);
        let Some(observations) = self.observe_baseline(run, request, captured).await? else {
            return Ok(false);
        };
        let request = ValidationRequest {
            current_version_id: None,
            new_version_id: version_id.clone(),
            observations: observations.clone(),
            objective: self.objective.clone(),
        };
        let validation = self.parts.gate.validate_version_safety(&request).await?;
        match validation.decision.outcome {
            Outcome::Accept => {}
            Outcome::Error => {
                return Err(Error::BaselineNotEvaluated { reason: validation.decision.summary() });
            }
            _ => return Err(Error::BaselineFailed { reason: validation.decision.summary() }),
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

    /// Evaluates the version to start from, and runs tests again that failed: one that passes then is flaky on what is to be the
    /// accepted version, and the rest is measured past it. `None` if the run was cancelled.
    async fn observe_baseline(
        &self,
        run: &mut Run,
        mut request: EvaluationRequest,
        captured: Option<CheckpointId>,
    ) -> Result<Option<Observations>> {
        let quarantined: Vec<NamedTest> = run.state.quarantined.keys().cloned().collect();
        request.tolerated.clone_from(&quarantined);
        let mut tries = self.rules.max_evaluation_retries;
        let Some(evaluation) = self.evaluate_baseline(run, &request, captured, &mut tries).await? else {
            return Ok(None);
        };
        let observed = observe(evaluation, Vec::new(), &Observations::default());
        let observations = Observations { quarantined, ..observed };
        // Without a checkpoint there is no telling what the first run left behind.
        let failed = rerunnable(&observations).filter(|_| captured.is_some());
        let Some(failed) = failed else { return Ok(Some(observations)) };
        let Some(retests) = self.retest_baseline(&request, captured, &observations, &failed).await? else {
            return Ok(None);
        };
        let observations = Observations { retests, ..observations };
        if observations.retests.is_empty() || !needs_measuring(&observations, &failed) {
            return Ok(Some(observations));
        }
        request.tolerated.extend(failed);
        let Some(evaluation) = self.evaluate_baseline(run, &request, captured, &mut tries).await? else {
            return Ok(None);
        };
        let Observations { retests, quarantined, .. } = observations;
        let measured = observe(evaluation, Vec::new(), &Observations::default());
        Ok(Some(Observations { retests, quarantined, ..measured }))
    }

    /// One evaluation, made again where the surroundings are to blame as long as there are `tries`. Whatever comes of it, what it
    /// left behind goes. `None` if the run was cancelled.
    async fn evaluate_baseline(
        &self,
        run: &mut Run,
        request: &EvaluationRequest,
        captured: Option<CheckpointId>,
        tries: &mut u32,
    ) -> Result<Option<Evaluation>> {
        loop {
            let evaluated = self.cancellation.unless_cancelled(self.parts.evaluator.evaluate(request)).await;
            if let Some(captured) = captured {
                self.restore_workspace(captured).await?;
            }
            let Some(evaluated) = evaluated else { return Ok(None) };
            self.made_room(captured).await?;
            if !may_pass(&evaluated) || *tries == 0 {
                return evaluated.map(Some);
            }
            *tries -= 1;
            self.record_failed_evaluation(run, 0, as_evidence(evaluated)?.faults).await?;
        }
    }

    /// Runs the failed tests again, as often as the evaluator does. Empty if it does not; `None` if the run was cancelled.
    async fn retest_baseline(
        &self,
        request: &EvaluationRequest,
        captured: Option<CheckpointId>,
        observations: &Observations,
        failed: &[NamedTest],
    ) -> Result<Option<Vec<RetestedTest>>> {
        let mut runs: Vec<Vec<TestReport>> = Vec::new();
        for attempt in 1..=ATTEMPTS_MAX {
            let retested = self.parts.evaluator.retest(request, Subject::Candidate, attempt);
            let retested = self.cancellation.unless_cancelled(retested).await;
            if let Some(captured) = captured {
                self.restore_workspace(captured).await?;
            }
            match retested {
                None => return Ok(None),
                Some(Ok(Some(reports))) => runs.push(reports),
                // Who cannot say more leaves the failure standing.
                Some(Ok(None) | Err(_)) => break,
            }
        }
        let retested = |test: &NamedTest| {
            let known = observations.quarantined.contains(test);
            let first = status_of(test, &observations.test_results);
            let again = runs.iter().map(|reports| status_of(test, reports)).collect();
            RetestedTest::on_first_version(test.clone(), known, first, again)
        };
        let retested = failed.iter().map(retested);
        Ok(Some(if runs.is_empty() { Vec::new() } else { retested.collect() }))
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
