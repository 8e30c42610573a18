//! The entries of the durable journal of a workspace's runs, and what is known about an iteration.

use evoseal_safety::{
    EvaluationFault, NamedTest, Observations, Outcome, PersonsDecision, PersonsOrder, PersonsVerdict,
    SafetyValidation, SettlementReport, Subject, VersionRef,
};
use evoseal_types::{Change, CheckpointId, Digest, TestStatus, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{FurtherMeasurements, StopReason};

/// One line of the journal: what is about to happen, or what has happened. Each is durable before the next step begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum JournalEntry {
    /// A run begins.
    RunStarted {
        /// When.
        at: Timestamp,
        /// How many iterations are wanted.
        iterations: u64,
        /// The seed that proposers draw from.
        seed: u64,
        /// What this run does not protect, because it was switched off.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unprotected: Vec<String>,
    },
    /// A version to start from was captured, evaluated and found good.
    BaselineAccepted {
        /// When.
        at: Timestamp,
        /// The version.
        version: VersionRef,
        /// What was observed.
        observations: Observations,
        /// How it was judged.
        validation: Box<SafetyValidation>,
    },
    /// An iteration begins; the workspace equals the incumbent and is about to be edited.
    IterationStarted {
        /// When.
        at: Timestamp,
        /// The iteration.
        iteration: u64,
        /// The accepted version.
        incumbent: VersionRef,
    },
    /// The proposer is done.
    Proposed {
        /// The iteration.
        iteration: u64,
        /// What it says that it changed, or why it failed.
        change: String,
        /// Whether it failed.
        failed: bool,
    },
    /// The candidate is captured and about to be evaluated.
    CandidateCaptured {
        /// The iteration.
        iteration: u64,
        /// The candidate.
        version: VersionRef,
        /// What differs from the incumbent.
        changes: Vec<Change>,
    },
    /// An evaluation could not be made because of its surroundings, and is about to be made again.
    EvaluationFailed {
        /// The iteration; 0 for the version to start from.
        iteration: u64,
        /// What kept it from being made.
        faults: Vec<EvaluationFault>,
    },
    /// Everything that the decision will be based on.
    Observed {
        /// The iteration.
        iteration: u64,
        /// What was observed.
        observations: Observations,
    },
    /// Tests that failed on the candidate were run again.
    Retested {
        /// The iteration.
        iteration: u64,
        /// How they ended.
        retest: Retest,
    },
    /// Both versions were measured again, because the judgement asked for it.
    MeasuredAgain {
        /// The iteration.
        iteration: u64,
        /// What came of it.
        further: FurtherMeasurements,
    },
    /// The decision, about to be carried out.
    Decided {
        /// The iteration.
        iteration: u64,
        /// The judgement.
        validation: Box<SafetyValidation>,
    },
    /// An acceptance is to be confirmed: what was observed with fresh samples.
    ConfirmationObserved {
        /// The iteration.
        iteration: u64,
        /// What was observed.
        observations: Observations,
    },
    /// How what was observed with fresh samples was judged; this decides.
    ConfirmationDecided {
        /// The iteration.
        iteration: u64,
        /// The judgement.
        validation: Box<SafetyValidation>,
    },
    /// The accepted candidate is captured once more, with its results.
    AcceptedCaptured {
        /// The iteration.
        iteration: u64,
        /// The checkpoint that stands for the accepted version from now on.
        checkpoint: CheckpointId,
    },
    /// A candidate was refused and may not be rolled back; written before the settlement that leaves it there.
    LeftInWorkspace {
        /// The iteration.
        iteration: u64,
        /// The digest of the workspace, so that no later run takes it for a version to start from.
        tree: Digest,
    },
    /// The decision has been carried out.
    Settled {
        /// The iteration.
        iteration: u64,
        /// What was done.
        report: SettlementReport,
    },
    /// The evidence did not decide, and no run goes on before a person has.
    PersonAsked {
        /// The iteration.
        iteration: u64,
    },
    /// An iteration is complete.
    IterationEnded {
        /// When.
        at: Timestamp,
        /// The iteration.
        iteration: u64,
    },
    /// An iteration was given up before a decision and the workspace returned to the incumbent; the next iteration takes
    /// its number.
    IterationAbandoned {
        /// The iteration.
        iteration: u64,
        /// Why.
        reason: String,
    },
    /// A person moved the workspace to another known version between runs.
    IncumbentMoved {
        /// When.
        at: Timestamp,
        /// The version that is the incumbent from now on.
        version: VersionRef,
    },
    /// A person has decided about a version, which is about to be carried out.
    Overriding {
        /// The iteration.
        iteration: u64,
        /// The digest of the version's tree: the decision holds for every version that has it.
        tree: Option<Digest>,
        /// What is to be done.
        order: PersonsOrder,
    },
    /// What a person decided has been carried out.
    Overridden {
        /// The iteration.
        iteration: u64,
        /// What was done.
        report: SettlementReport,
    },
    /// A run has ended.
    RunEnded {
        /// When.
        at: Timestamp,
        /// Why.
        reason: StopReason,
    },
}

/// One more run of failed tests on one of the two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retest {
    /// Counts from 1 for each version.
    pub attempt: u32,
    /// On which version.
    pub subject: Subject,
    /// How each of the tests ended; `skip` where it was not run.
    pub tests: Vec<(NamedTest, TestStatus)>,
}

/// An iteration that has begun, with what is known about it so far.
#[derive(Debug, Clone, PartialEq)]
pub struct InFlight {
    /// The iteration.
    pub iteration: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// The accepted version.
    pub incumbent: VersionRef,
    /// What the proposer said, and whether it failed.
    pub proposed: Option<(String, bool)>,
    /// The candidate and what differs from the incumbent.
    pub candidate: Option<(VersionRef, Vec<Change>)>,
    /// Evaluations that could not be made, and why, in order.
    pub failed_evaluations: Vec<Vec<EvaluationFault>>,
    /// What was observed.
    pub observations: Option<Observations>,
    /// Runs of failed tests again, in order.
    pub retests: Vec<Retest>,
    /// The judgement.
    pub validation: Option<Box<SafetyValidation>>,
    /// What was observed with fresh samples, where an acceptance is to be confirmed.
    pub fresh_observations: Option<Observations>,
    /// How that was judged.
    pub confirmation: Option<Box<SafetyValidation>>,
    /// The checkpoint of an accepted candidate with its results.
    pub accepted: Option<CheckpointId>,
    /// What carrying out the decision did.
    pub settled: Option<SettlementReport>,
    /// Whether a person was asked about it.
    pub asked: bool,
}

impl InFlight {
    /// Whether the candidate is the incumbent now: it was decided so, and the decision was carried out.
    pub fn is_accepted(&self) -> bool {
        self.judgement().is_some_and(|validation| validation.decision.outcome == Outcome::Accept)
            && self.settled.as_ref().is_some_and(|report| report.version_accepted)
    }

    /// Whether the candidate is the incumbent now because the objective is measurably better. Without an objective every
    /// accepted version counts.
    pub(crate) fn has_improved(&self) -> bool {
        let improved = |validation: &SafetyValidation| validation.decision.objective_improved.unwrap_or(true);
        self.is_accepted() && self.judgement().is_some_and(improved)
    }

    /// The judgement that counts: that of the confirmation where there was one.
    pub fn judgement(&self) -> Option<&SafetyValidation> {
        self.confirmation.as_deref().or(self.validation.as_deref())
    }

    /// What the judgement that counts was made from.
    pub fn observed(&self) -> Option<&Observations> {
        let fresh = self.fresh_observations.as_ref().filter(|_| self.confirmation.is_some());
        fresh.or(self.observations.as_ref())
    }

    /// Whether a refused candidate stays in the workspace.
    pub(crate) fn is_left_in_workspace(&self) -> bool {
        !self.is_accepted() && self.settled.as_ref().is_some_and(|report| report.rollback.is_none())
    }

    /// An iteration about which nothing is known but its beginning.
    pub(crate) fn new(iteration: u64, started_at: Timestamp, incumbent: VersionRef) -> Self {
        Self {
            iteration,
            started_at,
            incumbent,
            proposed: None,
            candidate: None,
            failed_evaluations: Vec::new(),
            observations: None,
            retests: Vec::new(),
            validation: None,
            fresh_observations: None,
            confirmation: None,
            accepted: None,
            settled: None,
            asked: false,
        }
    }
}

/// An accepted version to start from.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedBaseline {
    /// When.
    pub at: Timestamp,
    /// The version.
    pub version: VersionRef,
    /// What was observed.
    pub observations: Observations,
}

/// A finished iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedIteration {
    /// What was recorded about it.
    pub flight: InFlight,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What persons decided about it since, oldest first.
    pub overrides: Vec<PersonsDecision>,
}

impl FinishedIteration {
    /// Whether its candidate counts as accepted now: the last word of a person, or the decision.
    pub fn stands_accepted(&self) -> bool {
        match self.overrides.last().map(|decision| decision.verdict) {
            Some(PersonsVerdict::Approve) => true,
            Some(PersonsVerdict::Reject | PersonsVerdict::Hold) => false,
            None => self.flight.is_accepted(),
        }
    }

    /// Its candidate with the checkpoint that stands for it: the one with its results if it was accepted.
    pub fn version(&self) -> Option<VersionRef> {
        let (version, _) = self.flight.candidate.as_ref()?;
        let checkpoint = if self.flight.is_accepted() { self.flight.accepted } else { None };
        Some(VersionRef {
            version_id: version.version_id.clone(),
            checkpoint: checkpoint.or(version.checkpoint),
        })
    }
}
