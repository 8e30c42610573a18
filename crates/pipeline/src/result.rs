//! What an iteration and a run come to.

use std::fmt;
use std::time::Duration;

use evoseal_safety::{Observations, Outcome, PersonsDecision, SafetyValidation, VersionRef};
use evoseal_types::{Change, CheckpointId, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::journal::FinishedIteration;
use crate::{StopReason, VersionState};

/// What became of an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IterationOutcome {
    /// The candidate is the incumbent now.
    Accepted,
    /// The candidate was not good enough.
    Rejected,
    /// The candidate was harmful.
    RolledBack,
    /// The evidence did not decide; the candidate was not accepted.
    Inconclusive,
    /// There was no candidate: the proposer failed or changed nothing, or the evaluation could not be made.
    Error,
    /// The candidate touched what judges it; nothing that was observed of it counts.
    Tampered,
}

impl fmt::Display for IterationOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled back",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
            Self::Tampered => "tampered",
        })
    }
}

/// The result of one iteration, with the published fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationResult {
    /// The iteration, counted from 1 over the life of the workspace.
    pub iteration: u64,
    /// The candidate's version.
    pub version_id: VersionId,
    /// The accepted version that it was compared with.
    pub incumbent: VersionId,
    /// What the proposer says that it changed.
    pub change: String,
    /// Whether the iteration was carried out to its end, whatever was decided.
    pub success: bool,
    /// Whether the candidate is the incumbent now.
    pub version_accepted: bool,
    /// Whether the workspace was returned to an accepted version.
    pub rollback_performed: bool,
    /// The safety score, 0 to 1; 0 where nothing was judged or nothing that was observed counts, as the judgement says.
    pub safety_score: f64,
    /// What became of it.
    pub outcome: IterationOutcome,
    /// The judgement.
    pub safety_result: Option<SafetyValidation>,
    /// Whether a second evaluation with fresh samples confirmed an acceptance; `None` where there was none. The judgement and what
    /// was observed are those of the second one then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// What was observed.
    pub observations: Observations,
    /// What the candidate changed.
    pub changes: Vec<Change>,
    /// The candidate's checkpoint.
    pub checkpoint: Option<CheckpointId>,
    /// What was done, for people, in order.
    pub actions_taken: Vec<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Why there was no candidate to judge.
    pub error: Option<String>,
    /// What persons decided about the candidate since, oldest first; the fields above say what the loop decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<PersonsDecision>,
    /// What the candidate is after all of that.
    pub state: VersionState,
}

impl IterationResult {
    /// Every reason for the decision.
    pub fn reasons(&self) -> Vec<String> {
        match &self.safety_result {
            Some(validation) => {
                validation.decision.reasons.iter().map(|reason| reason.message.clone()).collect()
            }
            None => self.error.iter().cloned().collect(),
        }
    }
}

/// The version that iteration `iteration` proposes: `v7` for iteration 7; `v0` is the version to start from.
pub(crate) fn version_of(iteration: u64) -> VersionId {
    VersionId::new(format!("v{iteration}")).expect("a letter and digits make a valid id")
}

impl From<&FinishedIteration> for IterationResult {
    fn from(finished: &FinishedIteration) -> Self {
        let FinishedIteration { flight, ended_at, overrides } = finished;
        let (change, proposal_failed) = flight.proposed.clone().unwrap_or_default();
        let candidate = flight.candidate.as_ref();
        let decided = flight.judgement().map(|validation| validation.decision.outcome);
        let version_accepted = flight.is_accepted();
        let observations = flight.observed().cloned().unwrap_or_default();
        let outcome = match decided {
            Some(Outcome::Accept) if version_accepted => IterationOutcome::Accepted,
            Some(Outcome::RollBack) => IterationOutcome::RolledBack,
            Some(Outcome::Tampered) => IterationOutcome::Tampered,
            Some(Outcome::Inconclusive) => IterationOutcome::Inconclusive,
            Some(Outcome::Reject | Outcome::Accept) => IterationOutcome::Rejected,
            Some(Outcome::Error) | None => IterationOutcome::Error,
        };
        // Without a proposal that could be evaluated the decision is about what kept it from that, not about the candidate.
        let environmental = observations.faults.iter().find(|fault| fault.is_environmental());
        let error = match environmental.filter(|_| outcome == IterationOutcome::Error) {
            Some(fault) => Some(format!("{}: {}", fault.stage, fault.message)),
            None => proposal_failed.then(|| change.clone()),
        };
        Self {
            iteration: flight.iteration,
            version_id: candidate
                .map_or_else(|| version_of(flight.iteration), |(version, _)| version.version_id.clone()),
            incumbent: flight.incumbent.version_id.clone(),
            change,
            success: outcome != IterationOutcome::Error,
            version_accepted,
            rollback_performed: flight.settled.as_ref().is_some_and(|report| report.rollback.is_some()),
            safety_score: flight.judgement().map_or(0.0, |validation| validation.safety_score),
            outcome,
            safety_result: flight.judgement().cloned(),
            confirmed: flight.confirmation.as_ref().map(|_| version_accepted),
            observations,
            changes: candidate.map(|(_, changes)| changes.clone()).unwrap_or_default(),
            checkpoint: flight.accepted.or_else(|| candidate.and_then(|(version, _)| version.checkpoint)),
            actions_taken: flight
                .settled
                .as_ref()
                .map(|report| report.actions_taken.clone())
                .unwrap_or_default(),
            started_at: flight.started_at,
            duration: ended_at.since(flight.started_at),
            error,
            overrides: overrides.clone(),
            state: VersionState::of(finished),
        }
    }
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The results of its iterations.
    pub results: Vec<IterationResult>,
    /// The accepted version at the end.
    pub final_version: Option<VersionRef>,
    /// What was not protected, and why: switched off, or not possible.
    pub unprotected: Vec<String>,
}
