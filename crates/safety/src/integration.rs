//! The standard gate: all parts behind their traits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{CheckpointHandle, CheckpointStore, CheckpointStoreExt, NewCheckpoint, Source};
use evoseal_metrics::MetricStore;
use evoseal_regression::{Detector, FurtherSamples, Measurements};
use evoseal_rollback::{Attempt, Initiator, Rollback, RollbackMode, RollbackReport, RollbackRequest, Target};
use evoseal_types::{CheckpointId, Clock, EntryPath, ErrorClass, MetricName, TestStatus, VersionId};
use tokio::sync::MutexGuard;

use crate::audit::{AuditEvent, AuditLog, ProposalRecord};
use crate::audit_file::off_thread;
use crate::decision::{DecisionPolicy, Outcome};
use crate::evidence::{Evidence, Judgement, ValidationRequest};
use crate::evidence_store::EvidenceStore;
use crate::gate::{
    CheckpointStatus, CleanupReport, RegressionStatus, RollbackStatus, SafetyGate, SafetyStatus,
    SafetyValidation, Settlement, SettlementReport, VersionRef,
};
use crate::person::PersonsOrder;
use crate::recorded::Recorded;
use crate::rejudge::assess;
use crate::remembered::Remembered;
use crate::run_memory::CurrentRun;
use crate::{Error, Result, SafetySwitches, StandardPolicy};

/// Coordinates the checkpoint store, the metric store, the detector, the policy, the audit log and, where there is a
/// workspace, the rollback (the published name for this part).
#[derive(Debug)]
pub struct SafetyIntegration {
    pub(crate) switches: SafetySwitches,
    pub(crate) checkpoints: Arc<dyn CheckpointStore>,
    pub(crate) recorded: Recorded,
    pub(crate) detector: Arc<dyn Detector>,
    pub(crate) rollback: Option<Arc<dyn Rollback>>,
    policy: Arc<dyn DecisionPolicy>,
    pub(crate) audit: Arc<dyn AuditLog>,
    evidence: Option<Arc<dyn EvidenceStore>>,
    clock: Arc<dyn Clock>,
    remembered: tokio::sync::Mutex<Remembered>,
    pub(crate) run: CurrentRun,
}

/// Puts a [`SafetyIntegration`] together.
#[derive(Debug)]
pub struct SafetyIntegrationBuilder {
    integration: SafetyIntegration,
}

impl SafetyIntegrationBuilder {
    /// Sets the switches; all are on by default.
    pub fn switches(mut self, switches: SafetySwitches) -> Self {
        self.integration.switches = switches;
        self
    }

    /// Sets what returns the workspace to an earlier version. Without it nothing is rolled back, and each result says
    /// so.
    pub fn rollback(mut self, rollback: Arc<dyn Rollback>) -> Self {
        self.integration.rollback = Some(rollback);
        self
    }

    /// Sets the decision policy; [`StandardPolicy`] by default.
    pub fn policy(mut self, policy: Arc<dyn DecisionPolicy>) -> Self {
        self.integration.policy = policy;
        self
    }

    /// Sets where the evidence of each decision is kept. Without it the audit log bears the digest of the evidence alone,
    /// and no decision can be made again.
    pub fn evidence(mut self, evidence: Arc<dyn EvidenceStore>) -> Self {
        self.integration.evidence = Some(evidence);
        self
    }

    /// Finishes.
    pub fn build(self) -> SafetyIntegration {
        self.integration
    }
}

impl SafetyIntegration {
    /// Starts from the parts without which there is no judgement.
    pub fn builder(
        checkpoints: Arc<dyn CheckpointStore>,
        metrics: Arc<dyn MetricStore>,
        detector: Arc<dyn Detector>,
        audit: Arc<dyn AuditLog>,
        clock: Arc<dyn Clock>,
    ) -> SafetyIntegrationBuilder {
        SafetyIntegrationBuilder {
            integration: Self {
                switches: SafetySwitches::default(),
                checkpoints,
                recorded: Recorded { store: metrics },
                detector,
                rollback: None,
                policy: Arc::new(StandardPolicy::default()),
                audit,
                evidence: None,
                clock,
                remembered: tokio::sync::Mutex::default(),
                run: CurrentRun::default(),
            },
        }
    }

    /// Gives a version a name under which later versions are compared with it, and keeps its checkpoint from then on.
    pub async fn set_baseline(&self, name: &str, version_id: &VersionId) -> Result<()> {
        MetricName::new(name).map_err(|_| Error::Invalid {
            what: format!("baseline name {name:?}"),
            reason: "it must start with a letter and hold letters, digits and _ . - / : % only".to_owned(),
        })?;
        let checkpoint = self.checkpoints.find_version(version_id).await?.id;
        let event =
            AuditEvent::BaselineSet { name: name.to_owned(), version_id: version_id.clone(), checkpoint };
        self.audit.append(event).await.map(drop)
    }

    /// The named baselines: name, version and checkpoint, sorted by name.
    pub async fn baselines(&self) -> Result<BTreeMap<String, (VersionId, CheckpointId)>> {
        Ok(self.remembered().await?.baselines.clone())
    }

    /// What the audit log says by now.
    pub(crate) async fn remembered(&self) -> Result<MutexGuard<'_, Remembered>> {
        let mut remembered = self.remembered.lock().await;
        remembered.catch_up(self.audit.as_ref()).await?;
        Ok(remembered)
    }

    /// Adds an event unless the log has it: what is repeated after a crash stands there once.
    pub(crate) async fn log_once(&self, event: AuditEvent) -> Result<()> {
        let known = self.remembered().await?.knows(&event)?;
        if !known {
            self.audit.append(event).await?;
        }
        Ok(())
    }

    /// Asks the detector, unless harder evidence makes the question pointless. What it was given, and what it said.
    async fn judge(&self, request: &ValidationRequest) -> Result<(Option<Measurements>, Judgement)> {
        let observations = &request.observations;
        let nothing_measured = observations.metrics.is_empty() && observations.incumbent_metrics.is_empty();
        if observations.is_hard_evidence() || nothing_measured || request.current_version_id.is_none() {
            return Ok((None, Judgement::NotAsked));
        }
        let baselines = self.baselines().await?;
        let run = self.run.context(request);
        let measurements = Measurements { run, ..self.recorded.measurements(request, &baselines).await? };
        let detector = Arc::clone(&self.detector);
        let asked = move || {
            let judgement = assess(&*detector, &measurements);
            Ok((Some(measurements), judgement))
        };
        off_thread("regression detection", asked).await
    }

    /// Records what was measured. `Some` with the reason if the store refuses it as contradictory, which speaks against
    /// the version; a store that cannot be used is an error.
    async fn refused_measurements(&self, request: &ValidationRequest) -> Result<Option<String>> {
        match self.recorded.record(request, self.clock.now()).await {
            Ok(()) => Ok(None),
            Err(Error::Metrics(error)) if error.class() == ErrorClass::Invalid => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Makes the new version the incumbent.
    async fn accept(&self, settlement: &Settlement) -> Result<SettlementReport> {
        let VersionRef { version_id, checkpoint } = &settlement.new;
        self.record_rollbacks().await?;
        self.recorded.store.set_accepted(version_id, true).await?;
        if let (Some(rollback), Some(checkpoint)) = (&self.rollback, checkpoint) {
            rollback.mark_known_good(*checkpoint).await?;
        }
        let event = AuditEvent::Accepted { version_id: version_id.clone(), checkpoint: *checkpoint };
        self.log_once(event).await?;
        let actions_taken = vec![format!("accepted {version_id}")];
        Ok(SettlementReport { version_accepted: true, rollback: None, actions_taken })
    }

    /// Keeps the accepted version, and returns the workspace to it.
    async fn refuse(&self, settlement: &Settlement) -> Result<SettlementReport> {
        let VersionRef { version_id, checkpoint } = &settlement.new;
        let mut report =
            SettlementReport { version_accepted: false, rollback: None, actions_taken: Vec::new() };
        if let (Outcome::Inconclusive, Some(checkpoint)) = (settlement.decision.outcome, *checkpoint) {
            self.log_once(AuditEvent::Held { version_id: version_id.clone(), checkpoint }).await?;
            report.actions_taken.push(format!("holding {version_id} as {}", checkpoint.short()));
        }
        let target = settlement.current.as_ref().and_then(|current| current.checkpoint);
        let (rollback, target) = match (settlement.auto_rollback, &self.rollback, target) {
            (true, Some(rollback), Some(target)) => (rollback, target),
            (auto_rollback, rollback, _) => {
                let why = if !auto_rollback {
                    "automatic rollback is off"
                } else if rollback.is_none() {
                    "there is no workspace to roll back"
                } else {
                    "the accepted version has no checkpoint"
                };
                report.actions_taken.push(format!("refused {version_id}; not rolled back: {why}"));
                return Ok(report);
            }
        };
        // A rollback that was cut off would otherwise be completed later, over whatever stands there by then.
        rollback.recover().await?;
        let reason = format!("{}: {}", settlement.decision.decided_by, settlement.decision.summary());
        if let Some(done) = self.rolled_back_already(rollback.as_ref(), version_id, &reason, target).await? {
            report
                .actions_taken
                .push(format!("refused {version_id}; rolled back to {} before", done.version_id));
            report.rollback = Some(done);
            return Ok(report);
        }
        let request = RollbackRequest {
            target: Target::Checkpoint(target),
            reason: settlement.decision.decided_by.to_string(),
            initiator: Initiator::Automatic,
        };
        let rolled_back = rollback.roll_back(request).await;
        // Also a rollback that failed has its record. Its own error says more than one of the log.
        let recorded = self.record_rollbacks_after(version_id, &reason).await;
        let rolled_back = rolled_back?;
        recorded?;
        report
            .actions_taken
            .push(format!("refused {version_id} and rolled back to {}", rolled_back.version_id));
        report.rollback = Some(rolled_back);
        Ok(report)
    }
}

/// The report of a rollback to `restored` that changes nothing, if the workspace is there already.
pub(crate) async fn already_there(
    rollback: &dyn Rollback,
    requested: CheckpointId,
    restored: CheckpointId,
) -> Option<RollbackReport> {
    let (checkpoint, plan) = rollback.preview(&Target::Checkpoint(restored)).await.ok()?;
    plan.changes.is_empty().then(|| RollbackReport {
        requested,
        restored,
        version_id: checkpoint.details.version_id,
        saved: None,
        changes: Vec::new(),
        tree: plan.tree,
        attempts: vec![Attempt { checkpoint: restored, error: None }],
        caches: Vec::new(),
        mode: RollbackMode::default(),
    })
}

#[async_trait]
impl SafetyGate for SafetyIntegration {
    async fn create_safety_checkpoint(
        &self,
        source: Source,
        details: NewCheckpoint,
    ) -> Result<CheckpointHandle> {
        let handle = self.checkpoints.create(source, details).await?;
        let event = AuditEvent::CheckpointCreated {
            version_id: handle.checkpoint.details.version_id.clone(),
            checkpoint: handle.checkpoint.id,
        };
        self.audit.append(event).await?;
        Ok(handle)
    }

    async fn record_proposal(&self, proposal: &ProposalRecord) -> Result<()> {
        self.log_once(AuditEvent::Proposed(proposal.clone())).await
    }

    async fn begin_run(&self) -> Result<()> {
        self.start_run();
        Ok(())
    }

    async fn further_samples(&self, request: &ValidationRequest) -> Result<Option<FurtherSamples>> {
        self.wanted_samples(request).await
    }

    async fn remember(&self, request: &ValidationRequest, accepted: bool) -> Result<()> {
        self.learn(request, accepted).await
    }

    async fn validate_version_safety(&self, request: &ValidationRequest) -> Result<SafetyValidation> {
        // Measurements of a candidate that touched what judges it are no data: they are neither recorded nor judged.
        let (measurements, judgement) = if request.observations.is_tampered() {
            (None, Judgement::NotAsked)
        } else if let Some(reason) = self.refused_measurements(request).await? {
            (None, Judgement::Failed(format!("the measurements were refused: {reason}")))
        } else {
            self.judge(request).await?
        };
        let evidence = Evidence { request: request.clone(), measurements, judgement };
        // Kept before it is named, and named before it is decided on.
        let digest = match &self.evidence {
            Some(store) => store.keep(&evidence).await?,
            None => evidence.digest()?,
        };
        let version_id = request.new_version_id.clone();
        self.log_once(AuditEvent::Observed { version_id, evidence: digest }).await?;
        let decision = self.policy.decide(&evidence);
        let event = AuditEvent::Decided {
            version_id: request.new_version_id.clone(),
            current_version_id: request.current_version_id.clone(),
            evidence: digest,
            decision: decision.clone(),
        };
        self.log_once(event).await?;
        let reports = &request.observations.test_results;
        let test_passed = !reports.is_empty()
            && reports.iter().all(|report| report.status == TestStatus::Pass && report.tests_run > 0);
        let assessment = evidence.judgement.assessment().cloned();
        Ok(SafetyValidation::new(decision, assessment, test_passed))
    }

    async fn settle(&self, settlement: &Settlement) -> Result<SettlementReport> {
        let mut report = if settlement.decision.outcome == Outcome::Accept {
            self.accept(settlement).await?
        } else {
            self.refuse(settlement).await?
        };
        if self.switches.auto_cleanup {
            let versions = settlement.current.iter().chain([&settlement.new]);
            let in_use = versions.filter_map(|version| version.checkpoint).collect();
            match self.clean_up(self.switches.max_checkpoints, in_use).await {
                Ok(cleanup) if cleanup.checkpoints_deleted == 0 => {}
                Ok(cleanup) => {
                    let count = cleanup.checkpoints_deleted;
                    report.actions_taken.push(format!("deleted {count} old checkpoints"));
                }
                // The decision is carried out by now, and saying otherwise would be wrong.
                Err(error) => {
                    report.actions_taken.push(format!("old checkpoints were not deleted: {error}"));
                }
            }
        }
        Ok(report)
    }

    async fn override_version(&self, order: &PersonsOrder) -> Result<SettlementReport> {
        self.carry_out_order(order).await
    }

    async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
        match &self.rollback {
            Some(rollback) => Ok(rollback.clear_caches(restored).await?),
            None => Ok(Vec::new()),
        }
    }

    async fn get_safety_status(&self) -> Result<SafetyStatus> {
        let checkpoints = self.checkpoints.statistics().await?;
        let detector = self.detector.status();
        let rollback_manager = match &self.rollback {
            Some(rollback) => {
                let statistics = rollback.statistics().await?;
                Some(RollbackStatus {
                    total_rollbacks: statistics.total_rollbacks,
                    success_rate: statistics.success_rate,
                    auto_rollbacks: statistics.auto_rollbacks,
                })
            }
            None => None,
        };
        let baselines = self.baselines().await?.into_iter().map(|(name, (version_id, _))| (name, version_id));
        Ok(SafetyStatus {
            safety_enabled: self.switches.safety_checks_enabled,
            auto_checkpoint: self.switches.auto_checkpoint,
            auto_rollback: self.switches.auto_rollback,
            checkpoint_manager: CheckpointStatus {
                total_checkpoints: checkpoints.total_checkpoints,
                total_size_mb: checkpoints.total_size_mb,
                auto_cleanup_enabled: self.switches.auto_cleanup,
            },
            rollback_manager,
            regression_detector: RegressionStatus {
                threshold: detector.threshold,
                metrics_tracked: detector.metrics_tracked,
            },
            baselines: baselines.collect(),
        })
    }

    async fn cleanup_old_safety_data(&self, keep_checkpoints: usize) -> Result<CleanupReport> {
        self.clean_up(keep_checkpoints, BTreeSet::new()).await
    }
}
