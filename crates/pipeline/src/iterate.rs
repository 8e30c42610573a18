//! One iteration, phase by phase. Each phase first looks whether the journal already knows its outcome, so that an
//! iteration that was killed goes on where it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evoseal_checkpoint::{CheckpointStoreExt, NewCheckpoint, RestoreMode, Source};
use evoseal_safety::{
    EvaluationFault, FaultKind, Observations, Outcome, Settlement, Subject, ValidationRequest, VersionRef,
};
use evoseal_sandbox::{Edit, Violation};
use evoseal_types::{Change, MetricName, MetricSamples, VersionId};

use crate::event::{EventKind, Stage};
use crate::journal::{InFlight, JournalEntry};
use crate::pipeline::{EvolutionPipeline, Run, off_thread};
use crate::result::{IterationResult, version_of};
use crate::{
    Brief, Error, Evaluation, EvaluationRequest, PastOutcome, Proposal, ProposalContext, Result, StopReason,
    VersionInPlace,
};

/// How many earlier iterations a proposer is told about.
const OUTCOMES_MAX: usize = 20;
/// How much of an error message becomes evidence, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

impl EvolutionPipeline {
    /// Does one iteration; `Some` if the run has to end because of it.
    pub(crate) async fn iterate(&self, run: &mut Run) -> Result<Option<StopReason>> {
        if run.state.in_flight.is_none() {
            let incumbent = run.state.incumbent.as_ref().map(|(version, _)| version.clone());
            let incumbent = incumbent.ok_or_else(|| Error::Invalid {
                what: "journal".to_owned(),
                reason: "it names no accepted version".to_owned(),
            })?;
            let (at, iteration) = (self.parts.clock.now(), run.state.next_iteration());
            run.record(JournalEntry::IterationStarted { at, iteration, incumbent }).await?;
        }
        let iteration = flight_of(run)?.iteration;
        self.emit(EventKind::IterationStarted { iteration });
        if flight_of(run)?.validation.is_none()
            && let Some(reason) = self.reach_decision(run).await?
        {
            return Ok(Some(reason));
        }
        let stop = self.carry_out(run).await?;
        run.record(JournalEntry::IterationEnded { at: self.parts.clock.now(), iteration }).await?;
        if let Some(finished) = run.state.finished.last() {
            let result = Box::new(IterationResult::from(finished));
            self.emit(EventKind::IterationCompleted { result });
        }
        Ok(stop)
    }

    /// Phases 2 to 5. `Some` if the run ends before a decision.
    async fn reach_decision(&self, run: &mut Run) -> Result<Option<StopReason>> {
        if flight_of(run)?.observations.is_none() {
            if flight_of(run)?.candidate.is_none()
                && let Some(reason) = self.propose(run).await?
            {
                return Ok(Some(reason));
            }
            if flight_of(run)?.observations.is_none() && !self.evaluate(run).await? {
                self.interrupt(run).await?;
                return Ok(Some(StopReason::Interrupted));
            }
        }
        self.judge(run).await?;
        Ok(None)
    }

    /// Gives the iteration in flight up on a person's wish.
    async fn interrupt(&self, run: &mut Run) -> Result<()> {
        let flight = flight_of(run)?.clone();
        if let Some(checkpoint) = flight.incumbent.checkpoint.filter(|_| run.options.enable_auto_rollback) {
            self.restore_workspace(checkpoint).await?;
        }
        let reason = "a person interrupted the run".to_owned();
        run.record(JournalEntry::IterationAbandoned { iteration: flight.iteration, reason }).await
    }

    /// Phases 2 and 3: the edit, its capture, and what differs from the incumbent.
    async fn propose(&self, run: &mut Run) -> Result<Option<StopReason>> {
        let flight = flight_of(run)?.clone();
        let iteration = flight.iteration;
        self.stage_started(iteration, Stage::Propose);
        let context = ProposalContext {
            workspace: self.parts.workspace.clone(),
            run_directory: self.run_directory().await?,
            iteration,
            seed: run.options.seed,
            brief: self.brief(run, &flight),
        };
        let Some(proposal) = self.cancellation.unless_cancelled(self.parts.proposer.propose(&context)).await
        else {
            self.interrupt(run).await?;
            return Ok(Some(StopReason::Interrupted));
        };
        let (change, failed) = match proposal {
            Ok(Proposal::Edited { summary }) => (summary, false),
            Ok(Proposal::Exhausted { reason }) => {
                self.interrupt(run).await?;
                return Ok(Some(StopReason::ProposerExhausted { reason }));
            }
            Err(error) => (describe(&error), true),
        };
        self.stage_completed(iteration, Stage::Propose, change.clone());
        run.record(JournalEntry::Proposed { iteration, change: change.clone(), failed }).await?;
        if failed {
            return self.observe_fault(run, "propose", change).await.map(|()| None);
        }
        let version = self.capture_candidate(run, &flight).await?;
        let changes = self.changes_of(&flight, &version).await?;
        let unchanged =
            flight.incumbent.checkpoint.is_some() && version.checkpoint.is_some() && changes.is_empty();
        run.record(JournalEntry::CandidateCaptured { iteration, version, changes }).await?;
        if unchanged {
            self.observe_fault(run, "propose", "the proposal changed nothing".to_owned()).await?;
        }
        Ok(None)
    }

    /// Records that there is nothing to evaluate.
    async fn observe_fault(&self, run: &mut Run, stage: &str, message: String) -> Result<()> {
        let iteration = flight_of(run)?.iteration;
        let observations = Observations { faults: vec![not_run(stage, message)], ..Observations::default() };
        run.record(JournalEntry::Observed { iteration, observations }).await
    }

    /// Captures what stands in the workspace after the edit.
    async fn capture_candidate(&self, run: &Run, flight: &InFlight) -> Result<VersionRef> {
        let version_id = version_of(flight.iteration);
        if !run.options.enable_checkpoints {
            return Ok(VersionRef { version_id, checkpoint: None });
        }
        let details = NewCheckpoint {
            parent: flight.incumbent.checkpoint,
            note: "candidate".to_owned(),
            ..self.details(&version_id)
        };
        let source = Source::Directory(self.parts.workspace.clone());
        let checkpoint = self.parts.gate.create_safety_checkpoint(source, details).await?.durable().await?.id;
        Ok(VersionRef { version_id, checkpoint: Some(checkpoint) })
    }

    /// What the candidate changed; empty where one side has no checkpoint.
    async fn changes_of(&self, flight: &InFlight, version: &VersionRef) -> Result<Vec<Change>> {
        match (flight.incumbent.checkpoint, version.checkpoint) {
            (Some(from), Some(to)) => Ok(self.parts.checkpoints.diff(from, to).await?),
            _ => Ok(Vec::new()),
        }
    }

    /// Phases 3 and 4: guards, then tests and measurements, then guards again, since an evaluation runs the candidate's
    /// code. `false` if the run was cancelled.
    async fn evaluate(&self, run: &mut Run) -> Result<bool> {
        let flight = flight_of(run)?.clone();
        let Some((version, changes)) = flight.candidate.clone() else {
            return Err(Error::Invalid {
                what: "journal".to_owned(),
                reason: "it has an evaluation without a candidate".to_owned(),
            });
        };
        if let Some(checkpoint) = version.checkpoint {
            // A no-op unless this iteration was interrupted before and the workspace went back to the incumbent.
            self.restore_workspace(checkpoint).await?;
        }
        let iteration = flight.iteration;
        let violations = self.check_edit(iteration, &changes).await?;
        let earlier =
            run.state.incumbent.as_ref().map(|(_, observations)| observations.clone()).unwrap_or_default();
        let observations = if violations.is_empty() {
            self.stage_started(iteration, Stage::Evaluate);
            let request = self.evaluation_request(&flight, &version).await?;
            let evaluated = self.cancellation.unless_cancelled(self.parts.evaluator.evaluate(&request)).await;
            let Some(evaluated) = evaluated else { return Ok(false) };
            let evaluation = evaluated.unwrap_or_else(|error| Evaluation {
                faults: vec![not_run("evaluate", describe(&error))],
                ..Evaluation::default()
            });
            let violations = self.check_edit(iteration, &changes).await?;
            let observations = observe(evaluation, violations, &earlier);
            self.stage_completed(iteration, Stage::Evaluate, summary_of(&observations));
            observations
        } else {
            Observations { violations, ..Observations::default() }
        };
        run.record(JournalEntry::Observed { iteration, observations }).await?;
        Ok(true)
    }

    /// What all guards say.
    async fn check_edit(&self, iteration: u64, changes: &[Change]) -> Result<Vec<Violation>> {
        self.stage_started(iteration, Stage::Guard);
        let (guards, workspace, changes) =
            (self.guards.clone(), self.parts.workspace.clone(), changes.to_vec());
        let violations = off_thread("checking the edit", move || {
            let edit = Edit { workspace: &workspace, changes: &changes };
            let mut violations = Vec::new();
            for guard in &guards {
                violations.extend(guard.check(&edit)?);
            }
            Ok(violations)
        })
        .await?;
        let count = violations.len();
        self.stage_completed(iteration, Stage::Guard, format!("{count} objections"));
        Ok(violations)
    }

    /// Lays the incumbent out beside the candidate.
    async fn evaluation_request(&self, flight: &InFlight, version: &VersionRef) -> Result<EvaluationRequest> {
        let incumbent = match flight.incumbent.checkpoint {
            Some(checkpoint) if version.checkpoint.is_some() => {
                let directory = self.parts.state_directory.join("incumbent");
                create_folder(directory.clone()).await?;
                self.parts.checkpoints.restore(checkpoint, &directory, RestoreMode::InPlace).await?;
                Some(VersionInPlace { version_id: flight.incumbent.version_id.clone(), directory })
            }
            _ => None,
        };
        Ok(EvaluationRequest {
            candidate: VersionInPlace {
                version_id: version.version_id.clone(),
                directory: self.parts.workspace.clone(),
            },
            incumbent,
            iteration: flight.iteration,
            run_directory: self.run_directory().await?,
        })
    }

    /// Phase 5.
    async fn judge(&self, run: &mut Run) -> Result<()> {
        let flight = flight_of(run)?.clone();
        let iteration = flight.iteration;
        self.stage_started(iteration, Stage::Judge);
        let version_id =
            flight.candidate.map_or_else(|| version_of(iteration), |(version, _)| version.version_id);
        let request = ValidationRequest {
            current_version_id: Some(flight.incumbent.version_id.clone()),
            new_version_id: version_id,
            observations: flight.observations.unwrap_or_default(),
            objective: self.objective.clone(),
        };
        let validation = self.parts.gate.validate_version_safety(&request).await?;
        self.stage_completed(iteration, Stage::Judge, validation.decision.outcome.to_string());
        if let Some(assessment) =
            validation.regression_details.as_ref().filter(|found| found.regression_detected())
        {
            let findings = assessment.regressions().map(|finding| finding.reason.clone()).collect();
            self.emit(EventKind::RegressionDetected { iteration, findings });
        }
        run.record(JournalEntry::Decided { iteration, validation: Box::new(validation) }).await
    }

    /// Phases 6 and 7. `Some` if a refused candidate has to stay in the workspace.
    async fn carry_out(&self, run: &mut Run) -> Result<Option<StopReason>> {
        let flight = flight_of(run)?.clone();
        if flight.settled.is_some() {
            return Ok(None);
        }
        let iteration = flight.iteration;
        self.stage_started(iteration, Stage::Settle);
        let validation = flight.validation.clone().ok_or_else(|| Error::Invalid {
            what: "journal".to_owned(),
            reason: "it has a settlement without a decision".to_owned(),
        })?;
        let accept = validation.decision.outcome == Outcome::Accept;
        let mut new = flight.candidate.as_ref().map_or_else(
            || VersionRef { version_id: version_of(iteration), checkpoint: None },
            |(version, _)| version.clone(),
        );
        if let (true, Some(candidate)) = (accept, new.checkpoint) {
            let accepted = match flight.accepted {
                Some(accepted) => accepted,
                None => self.capture_result(run, &flight, &new.version_id, candidate).await?,
            };
            new.checkpoint = Some(accepted);
        }
        let settlement = Settlement {
            new,
            current: Some(flight.incumbent.clone()),
            decision: validation.decision.clone(),
            auto_rollback: run.options.enable_auto_rollback,
        };
        let report = self.parts.gate.settle(&settlement).await?;
        if let Some(rollback) = &report.rollback {
            let version_id = rollback.version_id.clone();
            self.emit(EventKind::RollbackCompleted { iteration, version_id });
        }
        self.stage_completed(iteration, Stage::Settle, report.actions_taken.join("; "));
        let stays = !accept && report.rollback.is_none();
        let reason = report.actions_taken.join("; ");
        run.record(JournalEntry::Settled { iteration, report }).await?;
        Ok(stays.then_some(StopReason::NotRolledBack { reason }))
    }

    /// Makes the workspace equal to the accepted candidate, whatever the evaluation left in it, and captures it with its
    /// results.
    async fn capture_result(
        &self,
        run: &mut Run,
        flight: &InFlight,
        version_id: &VersionId,
        candidate: evoseal_types::CheckpointId,
    ) -> Result<evoseal_types::CheckpointId> {
        self.restore_workspace(candidate).await?;
        let observations = flight.observations.clone().unwrap_or_default();
        let checkpoint =
            self.capture_accepted(version_id, flight.incumbent.checkpoint, &observations).await?;
        run.record(JournalEntry::AcceptedCaptured { iteration: flight.iteration, checkpoint }).await?;
        Ok(checkpoint)
    }

    /// What a proposer is told.
    fn brief(&self, run: &Run, flight: &InFlight) -> Brief {
        let incumbent = run.state.incumbent.as_ref();
        let skipped = run.state.finished.len().saturating_sub(OUTCOMES_MAX);
        Brief {
            objective: self.objective.clone(),
            incumbent: flight.incumbent.version_id.clone(),
            incumbent_metrics: incumbent.map(|(_, observed)| means(&observed.metrics)).unwrap_or_default(),
            outcomes: run.state.finished[skipped..]
                .iter()
                .map(|finished| past_outcome(&finished.into()))
                .collect(),
        }
    }

    /// What every checkpoint of this pipeline says about itself.
    pub(crate) fn details(&self, version_id: &VersionId) -> NewCheckpoint {
        let system_state = [
            ("architecture", std::env::consts::ARCH),
            ("operating_system", std::env::consts::OS),
            ("evoseal_version", env!("CARGO_PKG_VERSION")),
        ];
        NewCheckpoint {
            configuration: self.configuration.clone(),
            system_state: system_state.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..NewCheckpoint::of(version_id.clone())
        }
    }

    /// A folder for proposers and evaluators.
    pub(crate) async fn run_directory(&self) -> Result<PathBuf> {
        let folder = self.parts.state_directory.join("run");
        create_folder(folder.clone()).await?;
        Ok(folder)
    }

    pub(crate) fn stage_started(&self, iteration: u64, stage: Stage) {
        self.emit(EventKind::PipelineStageStarted { iteration, stage });
    }

    pub(crate) fn stage_completed(&self, iteration: u64, stage: Stage, summary: String) {
        self.emit(EventKind::PipelineStageCompleted { iteration, stage, summary });
    }
}

/// The iteration in flight.
fn flight_of(run: &Run) -> Result<&InFlight> {
    run.state.in_flight.as_ref().ok_or_else(|| Error::Invalid {
        what: "journal".to_owned(),
        reason: "it has no iteration in flight".to_owned(),
    })
}

/// Puts an evaluation and what guards said together. Where the incumbent was not measured beside the candidate, its
/// `earlier` measurements are compared.
pub(crate) fn observe(
    evaluation: Evaluation,
    violations: Vec<Violation>,
    earlier: &Observations,
) -> Observations {
    let side_by_side = !evaluation.incumbent_metrics.is_empty();
    Observations {
        violations,
        faults: evaluation.faults,
        test_results: evaluation.test_results,
        incumbent_test_results: earlier.test_results.clone(),
        metrics: evaluation.metrics,
        incumbent_metrics: if side_by_side { evaluation.incumbent_metrics } else { earlier.metrics.clone() },
        paired: side_by_side && evaluation.paired,
    }
}

/// Creates a folder and those above it.
async fn create_folder(path: PathBuf) -> Result<()> {
    off_thread("creating a folder", move || {
        std::fs::create_dir_all(&path).map_err(|source| Error::Io {
            action: "create",
            path: path.clone(),
            source,
        })
    })
    .await
}

/// A step that could not be run at all.
fn not_run(stage: &str, message: String) -> EvaluationFault {
    EvaluationFault { kind: FaultKind::NotRun, stage: stage.to_owned(), subject: Subject::Candidate, message }
}

/// An error and all its causes, cut to a bounded length.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let text = std::iter::once(error.to_string())
        .chain(causes.map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(": ");
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The mean of each metric's samples.
fn means(metrics: &[MetricSamples]) -> BTreeMap<MetricName, f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let named = metrics.iter().map(|metric| (metric.spec.name.clone(), mean(&metric.values())));
    named.filter(|(_, mean)| mean.is_finite()).collect()
}

/// An iteration as a proposer sees it.
fn past_outcome(result: &IterationResult) -> PastOutcome {
    let outcome = serde_json::to_value(result.outcome).ok();
    PastOutcome {
        iteration: result.iteration,
        change: result.change.clone(),
        outcome: outcome.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default(),
        reasons: result.reasons(),
        metrics: means(&result.observations.metrics),
    }
}

/// An evaluation in a line.
fn summary_of(observations: &Observations) -> String {
    let run: u64 = observations.test_results.iter().map(|report| report.tests_run).sum();
    let passed: u64 = observations.test_results.iter().map(|report| report.tests_passed).sum();
    let samples: usize = observations.metrics.iter().map(|metric| metric.samples.len()).sum();
    let faults = observations.faults.len();
    format!("{passed} of {run} tests passed, {samples} samples, {faults} faults")
}
