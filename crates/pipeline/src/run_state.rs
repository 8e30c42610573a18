//! What follows from a journal.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_safety::{
    NamedTest, Observations, PersonsDecision, PersonsOrder, PersonsVerdict, SettlementReport, VersionRef,
};
use evoseal_types::{Digest, Timestamp};

use crate::journal::{AcceptedBaseline, FinishedIteration, InFlight, JournalEntry};
use crate::{StopReason, quarantine};

/// A person's decision that is not carried out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingOverride {
    /// The iteration.
    pub iteration: u64,
    /// The digest of the version's tree.
    pub tree: Option<Digest>,
    /// What is to be done.
    pub order: PersonsOrder,
}

/// What follows from a journal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunState {
    /// The accepted version and what was last observed of it.
    pub incumbent: Option<(VersionRef, Observations)>,
    /// The versions that runs started from, oldest first.
    pub baselines: Vec<AcceptedBaseline>,
    /// Finished iterations, oldest first.
    pub finished: Vec<FinishedIteration>,
    /// The iteration that has begun and not ended.
    pub in_flight: Option<InFlight>,
    /// When the latest run began.
    pub run_started_at: Option<Timestamp>,
    /// The seed of the latest run.
    pub seed: Option<u64>,
    /// How many iterations the latest run wanted, and how many were finished before it.
    pub run_target: Option<(u64, u64)>,
    /// How and when the latest run ended; `None` while it runs, or if it was killed.
    pub run_ended: Option<(Timestamp, StopReason)>,
    /// Iterations without an accepted version since the last accepted one, or since the last run that ended: a run that
    /// was killed is carried on with.
    pub failures_in_a_row: u64,
    /// How many evaluations were made since the last run that ended, those that failed included.
    pub evaluations: u64,
    /// Iterations since the objective last improved, or since the last run that ended.
    pub without_improvement: u64,
    /// Tests that were found to be flaky on an accepted version, and in how many evaluations in a row each has passed since:
    /// after [`CLEAN_RUNS_TO_TRUST`](crate::CLEAN_RUNS_TO_TRUST) it is trusted again.
    pub quarantined: BTreeMap<NamedTest, u32>,
    /// The iteration that a person is asked about.
    pub asked: Option<u64>,
    /// What a person has decided and nobody has carried out yet.
    pub pending_override: Option<PendingOverride>,
    /// What persons have decided, by the digest of the tree that it is about: the last word on each.
    pub standing: BTreeMap<Digest, PersonsDecision>,
    /// Digests of workspaces in which a refused candidate was left.
    pub left_in_workspace: BTreeSet<Digest>,
    /// What at least one run did not protect, because it was switched off.
    pub unprotected: BTreeSet<String>,
}

impl RunState {
    /// The state after `entries`: a pure function, the basis of recovery.
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a JournalEntry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    /// The number of the iteration after the last one that has begun.
    pub fn next_iteration(&self) -> u64 {
        let last = self.finished.last().map_or(0, |finished| finished.flight.iteration);
        self.in_flight.as_ref().map_or(last, |flight| flight.iteration.max(last)) + 1
    }

    /// Whether the iteration in flight only has to be carried out and closed.
    pub(crate) fn is_decided(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|flight| flight.validation.is_some())
    }

    /// Whether a version is the candidate of an iteration and does not count as accepted.
    pub(crate) fn is_refused(&self, version: &VersionRef) -> bool {
        let is_it = |finished: &&FinishedIteration| {
            finished.version().is_some_and(|found| found.version_id == version.version_id)
        };
        self.finished.iter().rev().find(is_it).is_some_and(|finished| !finished.stands_accepted())
    }

    /// Adds one entry.
    pub fn apply(&mut self, entry: &JournalEntry) {
        match entry {
            JournalEntry::RunStarted { at, iterations, seed, unprotected } => {
                self.run_started_at = Some(*at);
                self.seed = Some(*seed);
                self.run_target = Some((*iterations, self.finished.len() as u64));
                self.run_ended = None;
                self.unprotected.extend(unprotected.iter().cloned());
            }
            JournalEntry::BaselineAccepted { at, version, observations, .. } => {
                let baseline = AcceptedBaseline {
                    at: *at,
                    version: version.clone(),
                    observations: observations.clone(),
                };
                self.incumbent = Some((version.clone(), observations.clone()));
                quarantine::learn(&mut self.quarantined, observations);
                self.baselines.push(baseline);
                self.failures_in_a_row = 0;
                self.without_improvement = 0;
                self.evaluations += 1;
            }
            JournalEntry::IterationStarted { at, iteration, incumbent } => {
                self.in_flight = Some(InFlight::new(*iteration, *at, incumbent.clone()));
            }
            JournalEntry::IncumbentMoved { version, .. } => {
                let observations = self.observations_of(version);
                self.incumbent = Some((version.clone(), observations));
                self.failures_in_a_row = 0;
            }
            JournalEntry::LeftInWorkspace { tree, .. } => {
                self.left_in_workspace.insert(*tree);
            }
            JournalEntry::IterationEnded { at, iteration } => self.finish(*iteration, *at),
            JournalEntry::IterationAbandoned { iteration, .. } => {
                self.in_flight.take_if(|flight| flight.iteration == *iteration);
            }
            JournalEntry::RunEnded { at, reason } => {
                self.run_ended = Some((*at, reason.clone()));
                self.failures_in_a_row = 0;
                self.without_improvement = 0;
                self.evaluations = 0;
            }
            // Of the version to start from, which no iteration in flight is about.
            JournalEntry::EvaluationFailed { iteration: 0, .. } => self.evaluations += 1,
            JournalEntry::Overriding { iteration, tree, order } => {
                let (iteration, tree, order) = (*iteration, *tree, order.clone());
                self.pending_override = Some(PendingOverride { iteration, tree, order });
            }
            JournalEntry::Overridden { report, .. } => self.override_version(report),
            JournalEntry::Proposed { iteration, .. }
            | JournalEntry::EvaluationFailed { iteration, .. }
            | JournalEntry::Retested { iteration, .. }
            | JournalEntry::MeasuredAgain { iteration, .. }
            | JournalEntry::PersonAsked { iteration }
            | JournalEntry::CandidateCaptured { iteration, .. }
            | JournalEntry::Observed { iteration, .. }
            | JournalEntry::Decided { iteration, .. }
            | JournalEntry::ConfirmationObserved { iteration, .. }
            | JournalEntry::ConfirmationDecided { iteration, .. }
            | JournalEntry::AcceptedCaptured { iteration, .. }
            | JournalEntry::Settled { iteration, .. } => {
                if let Some(flight) = self.in_flight.as_mut().filter(|flight| flight.iteration == *iteration)
                {
                    self.evaluations += u64::from(is_of_an_evaluation(flight, entry));
                    advance(flight, entry);
                }
                match entry {
                    JournalEntry::PersonAsked { iteration } => self.asked = Some(*iteration),
                    JournalEntry::Observed { observations, .. }
                    | JournalEntry::ConfirmationObserved { observations, .. } => {
                        quarantine::learn(&mut self.quarantined, observations);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Moves the iteration in flight to the finished ones. An accepted candidate becomes the incumbent; so does the version
    /// that a rollback had to go to because the incumbent could not be restored.
    fn finish(&mut self, iteration: u64, ended_at: Timestamp) {
        let Some(flight) = self.in_flight.take_if(|flight| flight.iteration == iteration) else { return };
        self.failures_in_a_row = if flight.is_accepted() { 0 } else { self.failures_in_a_row + 1 };
        self.without_improvement = if flight.has_improved() { 0 } else { self.without_improvement + 1 };
        if let (true, Some((version, _)), Some(observations)) =
            (flight.is_accepted(), &flight.candidate, flight.observed())
        {
            let checkpoint = flight.accepted.or(version.checkpoint);
            let version = VersionRef { version_id: version.version_id.clone(), checkpoint };
            self.incumbent = Some((version, observations.clone()));
        }
        let rollback = flight.settled.as_ref().and_then(|report| report.rollback.as_ref());
        if let Some(rollback) = rollback.filter(|rollback| rollback.fell_back()) {
            let version =
                VersionRef { version_id: rollback.version_id.clone(), checkpoint: Some(rollback.restored) };
            let observations = self.observations_of(&version);
            self.incumbent = Some((version, observations));
        }
        self.finished.push(FinishedIteration { flight, ended_at, overrides: Vec::new() });
    }

    /// What a person decided has been carried out as `report` says. What could not be restored was not approved.
    fn override_version(&mut self, report: &SettlementReport) {
        let Some(PendingOverride { iteration, tree, order }) = self.pending_override.take() else { return };
        let approved = order.decision.verdict == PersonsVerdict::Approve;
        if !approved || report.version_accepted {
            if let Some(tree) = tree {
                self.standing.insert(tree, order.decision.clone());
            }
            let finished = self.finished.iter_mut().find(|finished| finished.flight.iteration == iteration);
            if let Some(finished) = finished {
                finished.overrides.push(order.decision.clone());
            }
            self.asked.take_if(|asked| *asked == iteration);
        }
        let at = report.rollback.as_ref().map(|rollback| VersionRef {
            version_id: rollback.version_id.clone(),
            checkpoint: Some(rollback.restored),
        });
        let at = if report.version_accepted { Some(order.version) } else { at };
        if let Some(version) = at {
            let observations = self.observations_of(&version);
            self.incumbent = Some((version, observations));
            self.failures_in_a_row = 0;
        }
    }

    /// What was observed of a version when it was accepted.
    fn observations_of(&self, version: &VersionRef) -> Observations {
        let accepted = self.finished.iter().rev().filter_map(|finished| {
            let (candidate, _) = finished.flight.candidate.as_ref()?;
            let meant = candidate.version_id == version.version_id && finished.stands_accepted();
            meant.then(|| finished.flight.observed().cloned())?
        });
        let baselines =
            self.baselines.iter().rev().filter(|baseline| baseline.version.version_id == version.version_id);
        accepted.chain(baselines.map(|baseline| baseline.observations.clone())).next().unwrap_or_default()
    }
}

/// Whether an entry says what came of an evaluation. Where failed tests were run again, what was observed before is written down
/// once more with that added.
fn is_of_an_evaluation(flight: &InFlight, entry: &JournalEntry) -> bool {
    let known = |new: &Observations| {
        flight.observations.as_ref().is_some_and(|known| {
            known.test_results == new.test_results
                && known.metrics == new.metrics
                && known.faults == new.faults
        })
    };
    match entry {
        JournalEntry::EvaluationFailed { .. } | JournalEntry::ConfirmationObserved { .. } => true,
        JournalEntry::Observed { observations, .. } => observations.is_evaluated() && !known(observations),
        _ => false,
    }
}

/// Adds what an entry says to an iteration in flight.
fn advance(flight: &mut InFlight, entry: &JournalEntry) {
    match entry {
        JournalEntry::Proposed { change, failed, .. } => flight.proposed = Some((change.clone(), *failed)),
        JournalEntry::CandidateCaptured { version, changes, .. } => {
            flight.candidate = Some((version.clone(), changes.clone()));
        }
        JournalEntry::EvaluationFailed { faults, .. } => flight.failed_evaluations.push(faults.clone()),
        JournalEntry::Retested { retest, .. } => flight.retests.push(retest.clone()),
        JournalEntry::MeasuredAgain { further, .. } => {
            if let Some(observations) = flight.observations.as_mut() {
                further.add_to(observations);
            }
        }
        JournalEntry::PersonAsked { .. } => flight.asked = true,
        JournalEntry::Observed { observations, .. } => flight.observations = Some(observations.clone()),
        JournalEntry::Decided { validation, .. } => flight.validation = Some(validation.clone()),
        JournalEntry::ConfirmationObserved { observations, .. } => {
            flight.fresh_observations = Some(observations.clone());
        }
        JournalEntry::ConfirmationDecided { validation, .. } => {
            flight.confirmation = Some(validation.clone());
        }
        JournalEntry::AcceptedCaptured { checkpoint, .. } => flight.accepted = Some(*checkpoint),
        JournalEntry::Settled { report, .. } => flight.settled = Some(report.clone()),
        _ => {}
    }
}
