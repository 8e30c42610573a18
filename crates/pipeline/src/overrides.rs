//! What a person decides about a candidate: planned from the journal, carried out by the gate, remembered for ever.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointStore, RestoreMode};
use evoseal_safety::{
    PersonsDecision, PersonsOrder, PersonsVerdict, SafetyGate, SettlementReport, VersionRef,
};
use evoseal_types::{Change, CheckpointId, Clock, Digest};
use serde::{Deserialize, Serialize};

use crate::event::EventKind;
use crate::iterate::flight_of;
use crate::journal::{FinishedIteration, JournalEntry};
use crate::pipeline::{EvolutionPipeline, Run};
use crate::run_state::{PendingOverride, RunState};
use crate::states::{Cause, VersionState};
use crate::{Error, Journal, Result, RunLock, RunOptions, StopReason};

/// A person's wish about the candidate of an iteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideRequest {
    /// The iteration.
    pub iteration: u64,
    /// What is wanted.
    pub verdict: PersonsVerdict,
    /// Who wants it.
    pub person: String,
    /// Why; not blank.
    pub reason: String,
    /// Whether to approve also what hard evidence stands against: a failed test, a crash, tampering, or no evaluation at
    /// all.
    pub force: bool,
}

/// What an [`OverrideRequest`] would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverridePlan {
    /// The iteration.
    pub iteration: u64,
    /// Its candidate.
    pub version: VersionRef,
    /// What is wanted.
    pub verdict: PersonsVerdict,
    /// What the candidate is now.
    pub state: VersionState,
    /// What it is afterwards.
    pub state_after: VersionState,
    /// Whether a person has decided exactly so already; nothing is done then.
    pub already: bool,
    /// Where the workspace goes, if it moves.
    pub workspace_to: Option<VersionRef>,
    /// What changes in the workspace, in path order.
    pub changes: Vec<Change>,
}

/// What became of an [`OverrideRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverrideReport {
    /// What was planned.
    pub plan: OverridePlan,
    /// What was done; `None` where it had been decided so already.
    pub settled: Option<SettlementReport>,
    /// The accepted version now.
    pub incumbent: Option<VersionRef>,
}

impl OverrideReport {
    /// Whether what was wanted has come about. An approved version whose checkpoint is damaged is not accepted, and the
    /// workspace is at another one; one that is rejected may have to stay where no other can be restored.
    pub fn succeeded(&self) -> bool {
        let approve = self.plan.verdict == PersonsVerdict::Approve;
        self.settled.as_ref().is_none_or(|report| {
            let moved = report.rollback.as_ref().is_some_and(|rollback| !rollback.fell_back());
            (!approve || report.version_accepted) && (moved || self.plan.workspace_to.is_none())
        })
    }
}

/// A person's decision that an earlier process left unfinished, and what was done about it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletedOverride {
    /// The iteration.
    pub iteration: u64,
    /// What was decided.
    pub decision: PersonsDecision,
    /// What was done.
    pub report: SettlementReport,
}

/// Carries out what persons decide about candidates, between runs.
///
/// - *Approve*: the candidate becomes the incumbent. The workspace goes to its checkpoint through the rollback's protocol, so
///   that what nobody holds is captured first. What hard evidence stands against needs `force`.
/// - *Reject*: the candidate is not to be the incumbent. Where it is, the workspace goes to the version before it.
/// - *Hold*: the candidate is kept, and not accepted.
///
/// The decision holds for the tree, not for the number: where the same tree is proposed again, one that was rejected or held is
/// not evaluated, and nobody is asked again. The last word counts; all stand in the journal and in the audit log.
///
/// The intent is in the journal before anything is done. Killed anywhere, the next override or run completes it, and so does
/// whoever calls [`complete`](Self::complete).
#[derive(Debug, Clone)]
pub struct Overrider {
    /// The directory tree that evolves.
    pub workspace: PathBuf,
    /// Where the journal and the run lock lie.
    pub state_directory: PathBuf,
    /// Carries decisions out.
    pub gate: Arc<dyn SafetyGate>,
    /// The store that the gate captures into.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
}

impl Overrider {
    /// Whether a person's decision is on record that was not carried out to its end: one look at the end of one file. A journal
    /// that cannot be read has none; whoever opens it says why.
    pub fn is_unfinished(state_directory: &Path) -> bool {
        // It stands between iterations, and the next start of anything that writes a journal completes it.
        let last = Journal::last(&EvolutionPipeline::journal_path(state_directory));
        matches!(last, Ok(Some(JournalEntry::Overriding { .. })))
    }

    /// Carries out what an earlier process left unfinished; `None` if there is nothing. `lock` is the workspace's run lock where
    /// the caller has taken it.
    ///
    /// # Errors
    ///
    /// Those of [`carry_out`](Self::carry_out) but for the plan's. The decision stays on record then.
    pub async fn complete(&self, lock: Option<Arc<RunLock>>) -> Result<Option<CompletedOverride>> {
        let mut run = Run::open(self.state_directory.clone(), lock, RunOptions::default()).await?;
        complete(self.gate.as_ref(), &mut run).await
    }

    /// What a request would do. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an iteration that does not exist or is unfinished, a version whose checkpoint is gone, and what
    /// is not allowed in the version's state.
    pub async fn plan(&self, request: &OverrideRequest) -> Result<OverridePlan> {
        let entries = Journal::read(&EvolutionPipeline::journal_path(&self.state_directory))?;
        self.plan_in(&RunState::replay(&entries), request).await
    }

    /// Carries a request out, after what an earlier process left unfinished.
    ///
    /// # Errors
    ///
    /// Those of [`plan`](Self::plan); [`Error::Locked`] while a run goes on; whatever keeps the gate from working. After such
    /// an error the decision stays on record, and the next override or run completes it.
    pub async fn carry_out(&self, request: &OverrideRequest) -> Result<OverrideReport> {
        let mut run = Run::open(self.state_directory.clone(), None, RunOptions::default()).await?;
        complete(self.gate.as_ref(), &mut run).await?;
        let plan = self.plan_in(&run.state, request).await?;
        let incumbent = |run: &Run| run.state.incumbent.as_ref().map(|(version, _)| version.clone());
        if plan.already {
            return Ok(OverrideReport { plan, settled: None, incumbent: incumbent(&run) });
        }
        let tree = match plan.version.checkpoint {
            Some(checkpoint) => Some(self.checkpoints.load(checkpoint).await?.tree),
            None => None,
        };
        let fall_back_to = match request.verdict {
            PersonsVerdict::Reject => plan.workspace_to.as_ref().and_then(|version| version.checkpoint),
            PersonsVerdict::Approve | PersonsVerdict::Hold => None,
        };
        let decision = PersonsDecision {
            version_id: plan.version.version_id.clone(),
            verdict: request.verdict,
            person: request.person.trim().to_owned(),
            at: self.clock.now(),
            reason: request.reason.trim().to_owned(),
        };
        let order = PersonsOrder { decision, version: plan.version.clone(), fall_back_to };
        run.record(JournalEntry::Overriding { iteration: plan.iteration, tree, order }).await?;
        let settled = complete(self.gate.as_ref(), &mut run).await?.map(|completed| completed.report);
        Ok(OverrideReport { plan, settled, incumbent: incumbent(&run) })
    }

    async fn plan_in(&self, state: &RunState, request: &OverrideRequest) -> Result<OverridePlan> {
        let planned = Planned::new(state, request)?;
        let Planned { version, workspace_to, .. } = &planned;
        let mut changes = Vec::new();
        for needed in [Some(version), workspace_to.as_ref()].into_iter().flatten() {
            let Some(checkpoint) = needed.checkpoint else { continue };
            self.checkpoints.load(checkpoint).await.map_err(|error| match error {
                evoseal_checkpoint::Error::NotFound { .. } => invalid(
                    format!("version {}", needed.version_id),
                    format!("its checkpoint {} has been deleted", checkpoint.short()),
                ),
                error => error.into(),
            })?;
        }
        if let (false, Some(checkpoint)) = (planned.already, checkpoint_of(workspace_to.as_ref())) {
            let plan =
                self.checkpoints.plan_restore(checkpoint, &self.workspace, RestoreMode::InPlace).await?;
            changes = plan.changes;
        }
        let Planned { version, state, state_after, already, workspace_to } = planned;
        Ok(OverridePlan {
            iteration: request.iteration,
            version,
            verdict: request.verdict,
            state,
            state_after,
            already,
            workspace_to,
            changes,
        })
    }
}

/// The part of a plan that follows from the journal alone.
#[derive(Debug, PartialEq)]
struct Planned {
    version: VersionRef,
    state: VersionState,
    state_after: VersionState,
    already: bool,
    workspace_to: Option<VersionRef>,
}

impl Planned {
    fn new(state: &RunState, request: &OverrideRequest) -> Result<Self> {
        let OverrideRequest { iteration, verdict, force, .. } = *request;
        for (what, text) in [("reason", &request.reason), ("person", &request.person)] {
            if text.trim().is_empty() {
                return Err(invalid(what.to_owned(), "it is empty".to_owned()));
            }
        }
        let finished = finished(state, iteration)?;
        let version = finished.version().ok_or_else(|| {
            invalid(format!("iteration {iteration}"), "it has no candidate to decide about".to_owned())
        })?;
        let found = VersionState::of(finished);
        let already = finished.overrides.last().is_some_and(|last| last.verdict == verdict);
        let state_after = match found.after(Cause::Person { verdict, force }) {
            Some(after) => after,
            None if already => found,
            None => return Err(not_allowed(&version, found, verdict)),
        };
        let is_incumbent =
            state.incumbent.as_ref().is_some_and(|(found, _)| found.version_id == version.version_id);
        let workspace_to = match verdict {
            _ if already => None,
            PersonsVerdict::Approve if version.checkpoint.is_none() => {
                let reason = "it has no checkpoint that it could be brought back from".to_owned();
                return Err(invalid(format!("version {}", version.version_id), reason));
            }
            PersonsVerdict::Approve => Some(version.clone()),
            PersonsVerdict::Reject if is_incumbent => Some(version_before(state, finished)?),
            PersonsVerdict::Reject | PersonsVerdict::Hold => None,
        };
        Ok(Self { version, state: found, state_after, already, workspace_to })
    }
}

/// The finished iteration of that number.
fn finished(state: &RunState, iteration: u64) -> Result<&FinishedIteration> {
    let what = || format!("iteration {iteration}");
    if let Some(flight) = &state.in_flight {
        let reason = format!("iteration {} is unfinished; `evoseal run` goes on with it", flight.iteration);
        return Err(invalid(what(), reason));
    }
    let found = state.finished.iter().find(|finished| finished.flight.iteration == iteration);
    found.ok_or_else(|| {
        let reason = match state.finished.last() {
            Some(last) => format!("there is no such one; 1 to {} are on record", last.flight.iteration),
            None => "no iteration is on record yet".to_owned(),
        };
        invalid(what(), reason)
    })
}

/// Why a person's wish is not granted in this state.
fn not_allowed(version: &VersionRef, state: VersionState, verdict: PersonsVerdict) -> Error {
    let name = &version.version_id;
    let reason = match (state, verdict) {
        (VersionState::Accepted, PersonsVerdict::Approve) => {
            format!("it is accepted; `evoseal rollback {name}` goes back to it")
        }
        (VersionState::Accepted, _) => {
            format!("it is accepted; `evoseal reject` takes that back ({verdict} does not)")
        }
        (_, PersonsVerdict::Approve) => {
            format!("it is {state}, on hard evidence; `--force` approves it all the same")
        }
        _ => format!("it is {state}, on hard evidence; `evoseal checkpoint pin {name}` keeps it readable"),
    };
    invalid(format!("{verdict} of version {name}"), reason)
}

/// The accepted version that the incumbent of this iteration replaced, or the newest other accepted one.
fn version_before(state: &RunState, finished: &FinishedIteration) -> Result<VersionRef> {
    let baselines = state.baselines.iter().map(|baseline| baseline.version.clone());
    let accepted = state
        .finished
        .iter()
        .filter(|other| other.flight.iteration != finished.flight.iteration && other.stands_accepted())
        .filter_map(FinishedIteration::version);
    let known: Vec<VersionRef> =
        baselines.chain(accepted).filter(|version| version.checkpoint.is_some()).collect();
    let replaced = &finished.flight.incumbent.version_id;
    let found = known.iter().rev().find(|version| version.version_id == *replaced).or(known.last());
    found.cloned().ok_or_else(|| {
        let reason = "there is no accepted version before it that the workspace could go back to".to_owned();
        invalid(format!("iteration {}", finished.flight.iteration), reason)
    })
}

fn checkpoint_of(version: Option<&VersionRef>) -> Option<CheckpointId> {
    version.and_then(|version| version.checkpoint)
}

fn invalid(what: String, reason: String) -> Error {
    Error::Invalid { what, reason }
}

/// Carries out a person's decision that is on record, if there is one. Can be repeated.
async fn complete(gate: &dyn SafetyGate, run: &mut Run) -> Result<Option<CompletedOverride>> {
    let Some(PendingOverride { iteration, order, .. }) = run.state.pending_override.clone() else {
        return Ok(None);
    };
    let report = gate.override_version(&order).await?;
    run.record(JournalEntry::Overridden { iteration, report: report.clone() }).await?;
    Ok(Some(CompletedOverride { iteration, decision: order.decision, report }))
}

impl EvolutionPipeline {
    /// Carries out what a person decided and an earlier process left unfinished; whether there was anything.
    pub(crate) async fn complete_override(&self, run: &mut Run) -> Result<bool> {
        let Some(completed) = complete(self.parts.gate.as_ref(), run).await? else { return Ok(false) };
        let iteration = completed.iteration;
        let done = completed.report.actions_taken.join("; ");
        let action = format!("what a person had decided was carried out: {done}");
        self.emit(EventKind::RunRecovered { iteration, action });
        Ok(true)
    }

    /// What a person decided about a version with the tree of this candidate.
    pub(crate) async fn persons_decision(
        &self,
        run: &Run,
        version: &VersionRef,
    ) -> Result<Option<PersonsDecision>> {
        let Some(checkpoint) = version.checkpoint.filter(|_| !run.state.standing.is_empty()) else {
            return Ok(None);
        };
        let tree: Digest = self.parts.checkpoints.load(checkpoint).await?.tree;
        Ok(run.state.standing.get(&tree).cloned())
    }

    /// Asks a person about the undecided candidate in flight, where the rules say so and nobody has answered yet.
    pub(crate) async fn ask_a_person(&self, run: &mut Run) -> Result<Option<StopReason>> {
        let flight = flight_of(run)?;
        let iteration = flight.iteration;
        let undecided = flight
            .judgement()
            .is_some_and(|validation| validation.decision.outcome == evoseal_safety::Outcome::Inconclusive);
        let answered = flight.observations.as_ref().is_some_and(|observations| observations.person.is_some());
        if !undecided || answered || self.rules.on_inconclusive != evoseal_safety::OnInconclusive::Ask {
            return Ok(None);
        }
        if !flight.asked {
            run.record(JournalEntry::PersonAsked { iteration }).await?;
        }
        Ok(Some(StopReason::AwaitsPerson { iteration }))
    }

    /// Why no iteration may begin, if a person is asked and has not answered.
    pub(crate) fn awaits_person(&self, run: &Run) -> Option<StopReason> {
        let asks = self.rules.on_inconclusive == evoseal_safety::OnInconclusive::Ask;
        run.state.asked.filter(|_| asks).map(|iteration| StopReason::AwaitsPerson { iteration })
    }
}
