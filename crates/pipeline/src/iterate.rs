//! One iteration, phase by phase. Each phase first looks whether the journal already knows its outcome, so that an
//! iteration that was killed goes on where it was.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use evoseal_checkpoint::{CheckpointStoreExt, NewCheckpoint, RestoreMode, Source};
use evoseal_safety::{
    Observations, Outcome, PersonsVerdict, ProposalRecord, Settlement, SettlementReport, VersionRef,
};
use evoseal_sandbox::{Edit, Violation};
use evoseal_types::{Change, VersionId};

use crate::event::{EventKind, Stage};
use crate::journal::{InFlight, JournalEntry};
use crate::observe::{could_not_look, cut, describe, means, not_run, observe, past_outcome, summary_of};
use crate::pipeline::{EvolutionPipeline, Run, off_thread};
use crate::result::{IterationResult, version_of};
use crate::{Brief, Error, EvaluationRequest, Proposal, ProposalContext, Result, StopReason, VersionInPlace};

/// How many earlier iterations a proposer is told about.
const OUTCOMES_MAX: usize = 20;
/// Why an iteration was given up.
const INTERRUPTED: &str = "a person interrupted the run";

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
        self.complete(run).await
    }

    /// Phases 6 and 7 of an iteration whose decision is made; `Some` if the run has to end because of it.
    pub(crate) async fn complete(&self, run: &mut Run) -> Result<Option<StopReason>> {
        let iteration = flight_of(run)?.iteration;
        if let Some(reason) = self.confirm(run).await? {
            return Ok(Some(reason));
        }
        let stop = self.carry_out(run).await?;
        let asked = self.ask_a_person(run).await?;
        let stop = stop.or(asked);
        run.record(JournalEntry::IterationEnded { at: self.parts.clock.now(), iteration }).await?;
        if let Some(finished) = run.state.finished.last() {
            let request = self.validation_request(&finished.flight);
            self.parts.gate.remember(&request, finished.flight.is_accepted()).await?;
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
                self.give_up(run, INTERRUPTED).await?;
                return Ok(Some(StopReason::Interrupted));
            }
        }
        if !self.retest(run).await? {
            self.give_up(run, INTERRUPTED).await?;
            return Ok(Some(StopReason::Interrupted));
        }
        if !self.measure_again(run).await? {
            self.give_up(run, INTERRUPTED).await?;
            return Ok(Some(StopReason::Interrupted));
        }
        self.judge(run).await?;
        Ok(None)
    }

    /// Gives the iteration in flight up before a decision. What was begun is undone: left in the workspace, the next run
    /// would take it for a person's work.
    async fn give_up(&self, run: &mut Run, reason: &str) -> Result<()> {
        let flight = flight_of(run)?.clone();
        if let Some(checkpoint) = flight.incumbent.checkpoint {
            let done = self.undo_candidate(flight.iteration, checkpoint).await?;
            self.tell_of_saved(flight.iteration, &done);
        }
        let reason = reason.to_owned();
        run.record(JournalEntry::IterationAbandoned { iteration: flight.iteration, reason }).await
    }

    /// Phases 2 and 3: the edit, its capture, and what differs from the incumbent.
    async fn propose(&self, run: &mut Run) -> Result<Option<StopReason>> {
        let flight = flight_of(run)?.clone();
        let iteration = flight.iteration;
        if let Some(checkpoint) = flight.incumbent.checkpoint {
            // A no-op unless something wrote to the workspace after the last iteration.
            let done = self.return_workspace(iteration, checkpoint).await?;
            self.tell_of_saved(iteration, &done);
        }
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
            self.give_up(run, INTERRUPTED).await?;
            return Ok(Some(StopReason::Interrupted));
        };
        let (change, failed) = match proposal {
            Ok(Proposal::Edited { summary }) => (cut(&summary), false),
            Ok(Proposal::Exhausted { reason }) => {
                self.give_up(run, "the proposer has nothing more to propose").await?;
                return Ok(Some(StopReason::ProposerExhausted { reason: cut(&reason) }));
            }
            Err(error) if error.is_storage_full() => return Err(error),
            Err(error) => (describe(&error), true),
        };
        let (change, failed) = if self.made_room(flight.incumbent.checkpoint).await? {
            (format!("{change}; it filled the disk, and was undone"), true)
        } else {
            (change, failed)
        };
        self.stage_completed(iteration, Stage::Propose, change.clone());
        self.parts.gate.record_proposal(&proposal_of(&flight, &change, failed)).await?;
        run.record(JournalEntry::Proposed { iteration, change: change.clone(), failed }).await?;
        if failed {
            return self.observe_fault(run, "propose", change).await.map(|()| None);
        }
        let version = match self.capture_candidate(run, &flight).await {
            Ok(version) => version,
            Err(error) if error.is_storage_full() && !self.gave_back(flight.incumbent.checkpoint).await? => {
                return Err(error);
            }
            // A workspace that cannot be captured is the proposal's fault as a rule, and no candidate. If it is the
            // store's fault, going back will fail too, and that ends the run.
            Err(error) => {
                return self.observe_fault(run, "checkpoint", describe(&error)).await.map(|()| None);
            }
        };
        let changes = self.changes_of(&flight, &version).await?;
        run.record(JournalEntry::CandidateCaptured { iteration, version, changes }).await?;
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
        let is_empty =
            flight.incumbent.checkpoint.is_some() && version.checkpoint.is_some() && changes.is_empty();
        if is_empty {
            self.observe_fault(run, "propose", "the proposal changed nothing".to_owned()).await?;
            return Ok(true);
        }
        let person = self.persons_decision(run, &version).await?;
        if person.as_ref().is_some_and(|person| person.verdict != PersonsVerdict::Approve) {
            // It was asked once, and answered.
            let observations = Observations { person, ..Observations::default() };
            run.record(JournalEntry::Observed { iteration: flight.iteration, observations }).await?;
            return Ok(true);
        }
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
            let quarantined: Vec<_> = run.state.quarantined.keys().cloned().collect();
            let evaluated = self.evaluate_bounded(run, &flight, &version, quarantined.clone()).await?;
            let Some(evaluation) = evaluated else { return Ok(false) };
            // What filled the disk is the candidate's, if it is gone with what its evaluation left behind.
            self.made_room(version.checkpoint).await?;
            let violations = self.check_edit(iteration, &changes).await?;
            let observed = observe(evaluation, violations, &earlier);
            let observations = Observations { person, quarantined, ..observed };
            self.stage_completed(iteration, Stage::Evaluate, summary_of(&observations));
            observations
        } else {
            Observations { violations, ..Observations::default() }
        };
        run.record(JournalEntry::Observed { iteration, observations }).await?;
        Ok(true)
    }

    /// What all guards say.
    pub(crate) async fn check_edit(&self, iteration: u64, changes: &[Change]) -> Result<Vec<Violation>> {
        self.stage_started(iteration, Stage::Guard);
        let (guards, workspace, changes) =
            (self.all_guards(), self.parts.workspace.clone(), changes.to_vec());
        let violations = off_thread("checking the edit", move || {
            let edit = Edit { workspace: &workspace, changes: &changes };
            let looked = guards.iter().map(|guard| {
                let look = AssertUnwindSafe(|| guard.check(&edit));
                let failed = match catch_unwind(look) {
                    Ok(Ok(violations)) => return violations,
                    Ok(Err(error)) => describe(&error),
                    Err(_) => "it panicked".to_owned(),
                };
                vec![could_not_look(guard.name(), &failed)]
            });
            Ok(looked.flatten().collect::<Vec<_>>())
        })
        .await?;
        let count = violations.len();
        self.stage_completed(iteration, Stage::Guard, format!("{count} objections"));
        Ok(violations)
    }

    /// Lays the incumbent out beside the candidate.
    pub(crate) async fn evaluation_request(
        &self,
        flight: &InFlight,
        version: &VersionRef,
    ) -> Result<EvaluationRequest> {
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
            tolerated: Vec::new(),
        })
    }

    /// Phase 5.
    async fn judge(&self, run: &mut Run) -> Result<()> {
        let flight = flight_of(run)?.clone();
        let iteration = flight.iteration;
        self.stage_started(iteration, Stage::Judge);
        let request = self.validation_request(&flight);
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
        if let Some(report) = &flight.settled {
            return Ok(stop_after(&flight, report));
        }
        let iteration = flight.iteration;
        self.stage_started(iteration, Stage::Settle);
        let validation = flight.judgement().cloned().ok_or_else(|| Error::Invalid {
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
                Some(accepted) => {
                    // A no-op unless something wrote to the workspace since it was captured.
                    self.return_workspace(iteration, accepted).await?;
                    accepted
                }
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
        if !(accept && report.version_accepted) && report.rollback.is_none() {
            let tree = self.parts.checkpoints.tree_digest(&self.parts.workspace).await?;
            run.record(JournalEntry::LeftInWorkspace { iteration, tree }).await?;
        }
        if let Some(rollback) = &report.rollback {
            let version_id = rollback.version_id.clone();
            self.emit(EventKind::RollbackCompleted { iteration, version_id });
        }
        self.stage_completed(iteration, Stage::Settle, report.actions_taken.join("; "));
        run.record(JournalEntry::Settled { iteration, report: report.clone() }).await?;
        Ok(stop_after(flight_of(run)?, &report))
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
        let observations = flight.observed().cloned().unwrap_or_default();
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

/// What the audit log remembers of a proposal.
fn proposal_of(flight: &InFlight, change: &str, failed: bool) -> ProposalRecord {
    ProposalRecord {
        version_id: version_of(flight.iteration),
        current_version_id: flight.incumbent.version_id.clone(),
        began_at: flight.started_at,
        change: change.to_owned(),
        failed,
    }
}

/// Ends the run where a refused candidate stays in the workspace.
fn stop_after(flight: &InFlight, report: &SettlementReport) -> Option<StopReason> {
    flight
        .is_left_in_workspace()
        .then(|| StopReason::NotRolledBack { reason: report.actions_taken.join("; ") })
}

/// The iteration in flight.
pub(crate) fn flight_of(run: &Run) -> Result<&InFlight> {
    run.state.in_flight.as_ref().ok_or_else(|| Error::Invalid {
        what: "journal".to_owned(),
        reason: "it has no iteration in flight".to_owned(),
    })
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
