//! The component trait of this crate: one place that says whether a version may stay.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{CheckpointHandle, NewCheckpoint, Source};
use evoseal_regression::{Assessment, FurtherSamples, RegressionSummary};
use evoseal_rollback::RollbackReport;
use evoseal_types::{CheckpointId, EntryPath, MetricName, VersionId};
use serde::{Deserialize, Serialize};

use crate::{Decision, Outcome, PersonsOrder, ProposalRecord, Result, ValidationRequest};

/// A version and the checkpoint that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    /// The version.
    pub version_id: VersionId,
    /// Its durable checkpoint; `None` where checkpoints are switched off.
    pub checkpoint: Option<CheckpointId>,
}

/// The answer to "is this version safe?", with the published fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SafetyValidation {
    /// Whether the version may be accepted.
    pub is_safe: bool,
    /// Whether tests ran and all passed.
    pub test_passed: bool,
    /// Whether a metric is measurably worse.
    pub regression_detected: bool,
    /// Whether the version must not stay in the workspace.
    pub rollback_recommended: bool,
    /// The safety score, 0 to 1.
    pub safety_score: f64,
    /// Everything that stands against the version, in the order of the rules.
    pub issues: Vec<String>,
    /// What to do, for people.
    pub recommendations: Vec<String>,
    /// The detector's findings, if it was asked.
    pub regression_details: Option<Assessment>,
    /// The detector's summary, if a regression was found.
    pub regression_summary: Option<RegressionSummary>,
    /// The decision that all of this follows from.
    pub decision: Decision,
}

/// A decision that is to be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    /// The version that was judged.
    pub new: VersionRef,
    /// The accepted version.
    pub current: Option<VersionRef>,
    /// What was decided.
    pub decision: Decision,
    /// Whether the workspace goes back to the accepted version when the new one is not accepted.
    pub auto_rollback: bool,
}

/// What carrying out a decision did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettlementReport {
    /// Whether the new version is the incumbent now.
    pub version_accepted: bool,
    /// What the rollback did, if there was one.
    pub rollback: Option<RollbackReport>,
    /// What was done, for people, in order.
    pub actions_taken: Vec<String>,
}

impl SettlementReport {
    /// Whether the workspace was returned to an accepted version.
    pub fn rollback_performed(&self) -> bool {
        self.rollback.is_some()
    }
}

/// A whole step: capture, judge, settle.
#[derive(Debug, Clone)]
pub struct EvolutionStep {
    /// What is judged, and the observations.
    pub request: ValidationRequest,
    /// The state of the new version.
    pub new_version_data: Source,
    /// The accepted version's checkpoint, to go back to.
    pub current_checkpoint: Option<CheckpointId>,
}

/// What became of a step, with the published fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Whether the step could be carried out to its end, whatever was decided.
    pub success: bool,
    /// Whether the new version is the incumbent now.
    pub version_accepted: bool,
    /// Whether the new version was captured.
    pub checkpoint_created: bool,
    /// Whether the workspace was returned to an accepted version.
    pub rollback_performed: bool,
    /// The judgement; `None` if it could not be made, which is never an acceptance.
    pub safety_validation: Option<SafetyValidation>,
    /// What was done, for people, in order.
    pub actions_taken: Vec<String>,
    /// The new version's checkpoint.
    pub checkpoint: Option<CheckpointId>,
    /// Why the step could not be carried out.
    pub error: Option<String>,
}

impl StepResult {
    /// The published score; 0 if there is no judgement.
    pub fn safety_score(&self) -> f64 {
        self.safety_validation.as_ref().map_or(0.0, |validation| validation.safety_score)
    }
}

/// The state of the safety layer, with the published fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SafetyStatus {
    /// Whether edits are checked.
    pub safety_enabled: bool,
    /// Whether versions are captured by themselves.
    pub auto_checkpoint: bool,
    /// Whether the workspace goes back by itself.
    pub auto_rollback: bool,
    /// The checkpoint store.
    pub checkpoint_manager: CheckpointStatus,
    /// Rollbacks so far; `None` where there is no workspace to roll back.
    pub rollback_manager: Option<RollbackStatus>,
    /// The detector.
    pub regression_detector: RegressionStatus,
    /// Named baselines and their versions.
    pub baselines: Vec<(String, VersionId)>,
}

/// The part of [`SafetyStatus`] on checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// Checkpoints in the store.
    pub total_checkpoints: u64,
    /// Their size on storage, in MiB.
    pub total_size_mb: f64,
    /// Whether old ones are deleted by themselves.
    pub auto_cleanup_enabled: bool,
}

/// The part of [`SafetyStatus`] on rollbacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackStatus {
    /// Rollbacks that were asked for.
    pub total_rollbacks: u64,
    /// Successful ones over all, 0 to 1; `None` before the first.
    pub success_rate: Option<f64>,
    /// Those by the loop.
    pub auto_rollbacks: u64,
}

/// The part of [`SafetyStatus`] on regression detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionStatus {
    /// The global threshold, as a fraction.
    pub threshold: f64,
    /// Metrics with a threshold of their own.
    pub metrics_tracked: Vec<MetricName>,
}

/// What a clean-up did, with the published field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupReport {
    /// How many checkpoints were deleted.
    pub checkpoints_deleted: u64,
    /// Bytes of storage that came back.
    pub bytes_freed: u64,
    /// How many were kept beyond the wished number because a rollback may need them.
    pub kept_protected: u64,
}

/// Coordinates checkpoints, measurements, detection, decision and rollback.
///
/// # Contract
///
/// - *Fails closed.* An error of any part is an error here, or a decision against the version; never an acceptance.
/// - *Judging changes nothing in the workspace.* `validate_version_safety` records the measurements (once for a version)
///   and the decision; asked again with the same request it gives the same decision.
/// - *A run is judged as one.* After `begin_run`, verdicts on measurements are those of a run; a run whose process was killed is
///   judged the same by the next one, once that has been told of the iterations before.
/// - *A proposal is remembered once.* `record_proposal` may be repeated for the same attempt.
/// - *Settling is idempotent.* `settle` may be repeated after a crash or an error, and then completes what is missing.
/// - *A person's word is idempotent too.* `override_version` may be repeated like `settle`. It writes down who decided what,
///   when and why, and accepts a version only if the workspace really went there.
/// - *Clean-up is safe.* It never deletes the checkpoint of a known-good version, the incumbent, its parent, a baseline, or
///   a pinned one. A clean-up after a settlement that fails is told in the report; it does not undo the settlement.
#[async_trait]
pub trait SafetyGate: fmt::Debug + Send + Sync {
    /// Captures a version. Returns after capture; await the handle for durability.
    async fn create_safety_checkpoint(
        &self,
        source: Source,
        details: NewCheckpoint,
    ) -> Result<CheckpointHandle>;

    /// Remembers that a change was proposed, before anything is done about it.
    async fn record_proposal(&self, proposal: &ProposalRecord) -> Result<()>;

    /// Says that what is judged from now on are iterations of one run, beginning with those that [`remember`](Self::remember)
    /// is told: error rates are those of the run, and what one iteration taught serves the next.
    /// A gate that judges each iteration by itself has nothing to do.
    async fn begin_run(&self) -> Result<()> {
        Ok(())
    }

    /// What has to be measured before the version can be judged, of both versions in turns; `None` if the observations
    /// suffice, or no others can be had. Asked again with each further batch.
    async fn further_samples(&self, request: &ValidationRequest) -> Result<Option<FurtherSamples>> {
        let _ = request;
        Ok(None)
    }

    /// Learns from an iteration that is over, and whether its version was accepted. Called once for each, in order; a process
    /// that goes on with a run calls it for the iterations before its own first.
    async fn remember(&self, request: &ValidationRequest, accepted: bool) -> Result<()> {
        let _ = (request, accepted);
        Ok(())
    }

    /// Judges a version.
    async fn validate_version_safety(&self, request: &ValidationRequest) -> Result<SafetyValidation>;

    /// Carries out a decision.
    async fn settle(&self, settlement: &Settlement) -> Result<SettlementReport>;

    /// Carries out what a person decided.
    async fn override_version(&self, order: &PersonsOrder) -> Result<SettlementReport>;

    /// Removes what a candidate may have left in caches, once the workspace was put back to `restored` without a rollback. Gives
    /// the caches from which something was removed; idempotent. A gate that rolls nothing back knows no caches.
    async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
        let _ = restored;
        Ok(Vec::new())
    }

    /// The state of all parts.
    async fn get_safety_status(&self) -> Result<SafetyStatus>;

    /// Deletes the oldest checkpoints until at most `keep_checkpoints` are left, except those that are protected.
    async fn cleanup_old_safety_data(&self, keep_checkpoints: usize) -> Result<CleanupReport>;
}

/// The published step over any [`SafetyGate`].
#[async_trait]
pub trait SafetyGateExt: SafetyGate {
    /// Captures the new version, judges it, and accepts it or goes back.
    ///
    /// Never fails: what went wrong stands in the result, whose `version_accepted` is then false.
    async fn execute_safe_evolution_step(&self, step: EvolutionStep) -> StepResult {
        let mut result = StepResult {
            success: false,
            version_accepted: false,
            checkpoint_created: false,
            rollback_performed: false,
            safety_validation: None,
            actions_taken: Vec::new(),
            checkpoint: None,
            error: None,
        };
        match run_step(self, step, &mut result).await {
            Ok(()) => result.success = true,
            Err(error) => result.error = Some(describe(&error)),
        }
        result
    }
}

impl<G: SafetyGate + ?Sized> SafetyGateExt for G {}

/// An error and all its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// The step, leaving in `result` what was reached before an error.
async fn run_step<G: SafetyGate + ?Sized>(
    gate: &G,
    step: EvolutionStep,
    result: &mut StepResult,
) -> Result<()> {
    let EvolutionStep { request, new_version_data, current_checkpoint } = step;
    let auto = gate.get_safety_status().await?;
    if auto.auto_checkpoint {
        let details = NewCheckpoint {
            parent: current_checkpoint,
            test_results: request.observations.test_results.clone(),
            metrics: request.observations.metrics.clone(),
            ..NewCheckpoint::of(request.new_version_id.clone())
        };
        let handle = gate.create_safety_checkpoint(new_version_data, details).await?;
        let checkpoint = handle.durable().await?;
        result.checkpoint = Some(checkpoint.id);
        result.checkpoint_created = true;
        result.actions_taken.push(format!(
            "captured {} as {}",
            request.new_version_id,
            checkpoint.id.short()
        ));
    }
    let validation = gate.validate_version_safety(&request).await?;
    let settlement = Settlement {
        new: VersionRef { version_id: request.new_version_id.clone(), checkpoint: result.checkpoint },
        current: request
            .current_version_id
            .clone()
            .map(|version_id| VersionRef { version_id, checkpoint: current_checkpoint }),
        decision: validation.decision.clone(),
        auto_rollback: auto.auto_rollback,
    };
    result.safety_validation = Some(validation);
    let settled = gate.settle(&settlement).await?;
    result.version_accepted = settled.version_accepted;
    result.rollback_performed = settled.rollback_performed();
    result.actions_taken.extend(settled.actions_taken);
    Ok(())
}

impl SafetyValidation {
    /// The published fields that follow from a decision.
    pub fn new(decision: Decision, regression_details: Option<Assessment>, test_passed: bool) -> Self {
        let objections = decision.reasons.iter().filter(|reason| reason.outcome != Outcome::Accept);
        let regression_detected = regression_details.as_ref().is_some_and(Assessment::regression_detected);
        let recommendation = match decision.outcome {
            Outcome::Accept => "the version can be accepted",
            Outcome::Inconclusive => "measure more, or let a person decide",
            Outcome::Error => "look at what kept it from being evaluated, and evaluate it again",
            Outcome::Reject => "keep the accepted version",
            Outcome::RollBack => "roll back to the accepted version",
            Outcome::Tampered => "roll back to the accepted version; nothing that was observed counts",
        };
        Self {
            is_safe: decision.outcome == Outcome::Accept,
            test_passed,
            regression_detected,
            rollback_recommended: matches!(decision.outcome, Outcome::RollBack | Outcome::Tampered),
            safety_score: decision.safety_score.score,
            issues: objections.map(|reason| reason.message.clone()).collect(),
            recommendations: vec![recommendation.to_owned()],
            regression_summary: regression_details
                .as_ref()
                .filter(|_| regression_detected)
                .map(|assessment| assessment.summary.clone()),
            regression_details,
            decision,
        }
    }
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_safety_gate {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<G: SafetyGate + ?Sized> SafetyGate for $pointer<G> {
            async fn create_safety_checkpoint(
                &self,
                source: Source,
                details: NewCheckpoint,
            ) -> Result<CheckpointHandle> {
                (**self).create_safety_checkpoint(source, details).await
            }

            async fn record_proposal(&self, proposal: &ProposalRecord) -> Result<()> {
                (**self).record_proposal(proposal).await
            }

            async fn begin_run(&self) -> Result<()> {
                (**self).begin_run().await
            }

            async fn further_samples(&self, request: &ValidationRequest) -> Result<Option<FurtherSamples>> {
                (**self).further_samples(request).await
            }

            async fn remember(&self, request: &ValidationRequest, accepted: bool) -> Result<()> {
                (**self).remember(request, accepted).await
            }

            async fn validate_version_safety(&self, request: &ValidationRequest) -> Result<SafetyValidation> {
                (**self).validate_version_safety(request).await
            }

            async fn settle(&self, settlement: &Settlement) -> Result<SettlementReport> {
                (**self).settle(settlement).await
            }

            async fn override_version(&self, order: &PersonsOrder) -> Result<SettlementReport> {
                (**self).override_version(order).await
            }

            async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
                (**self).clear_caches(restored).await
            }

            async fn get_safety_status(&self) -> Result<SafetyStatus> {
                (**self).get_safety_status().await
            }

            async fn cleanup_old_safety_data(&self, keep_checkpoints: usize) -> Result<CleanupReport> {
                (**self).cleanup_old_safety_data(keep_checkpoints).await
            }
        }
    };
}

forward_safety_gate!(Arc);
forward_safety_gate!(Box);
