//! The standard gate: all parts behind their traits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_checkpoint::{
    Checkpoint, CheckpointHandle, CheckpointStore, CheckpointStoreExt, NewCheckpoint, Source, surplus,
};
use evoseal_metrics::{MetricStore, NewRecord, RecordFilter};
use evoseal_regression::{Baseline, Detector, Measurements};
use evoseal_rollback::{Initiator, Rollback, RollbackRequest, Target};
use evoseal_types::{CheckpointId, Clock, Digest, MetricName, TestStatus, VersionId};

use crate::audit::{AuditEvent, AuditLog};
use crate::audit_file::off_thread;
use crate::decision::{DecisionPolicy, Outcome};
use crate::evidence::{Evidence, Judgement, ValidationRequest};
use crate::gate::{
    CheckpointStatus, CleanupReport, RegressionStatus, RollbackStatus, SafetyGate, SafetyStatus,
    SafetyValidation, Settlement, SettlementReport, VersionRef,
};
use crate::{Error, Result, SafetySwitches, StandardPolicy};

/// The tag that tells the candidate's record from the incumbent's in one comparison.
const ROLE_TAG: &str = "role";
/// The version that a record was measured beside.
const BESIDE_TAG: &str = "beside";

/// Coordinates the checkpoint store, the metric store, the detector, the policy, the audit log and, where there is a
/// workspace, the rollback (the published name for this part).
#[derive(Debug)]
pub struct SafetyIntegration {
    switches: SafetySwitches,
    checkpoints: Arc<dyn CheckpointStore>,
    metrics: Arc<dyn MetricStore>,
    detector: Arc<dyn Detector>,
    rollback: Option<Arc<dyn Rollback>>,
    policy: Arc<dyn DecisionPolicy>,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
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
                metrics,
                detector,
                rollback: None,
                policy: Arc::new(StandardPolicy::default()),
                audit,
                clock,
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
        let mut baselines = BTreeMap::new();
        for record in self.audit.records().await? {
            if let AuditEvent::BaselineSet { name, version_id, checkpoint } = record.what {
                baselines.insert(name, (version_id, checkpoint));
            }
        }
        Ok(baselines)
    }

    /// What [`cleanup_old_safety_data`](SafetyGate::cleanup_old_safety_data) would delete, oldest first.
    ///
    /// # Errors
    ///
    /// Of the checkpoint store; it refuses to keep none at all.
    pub async fn cleanup_plan(&self, keep_checkpoints: usize) -> Result<Vec<Checkpoint>> {
        let mut protected = self.protected().await?;
        let listed = self.checkpoints.list().await?;
        // The newest checkpoint may be a candidate that is being judged right now.
        protected.extend(listed.last().map(|checkpoint| checkpoint.id));
        let doomed: BTreeSet<CheckpointId> =
            surplus(&listed, keep_checkpoints as u64, &protected)?.into_iter().collect();
        Ok(listed.into_iter().filter(|checkpoint| doomed.contains(&checkpoint.id)).collect())
    }

    /// Stores what was measured, once for each comparison.
    async fn record_measurements(&self, request: &ValidationRequest) -> Result<()> {
        let observations = &request.observations;
        let beside = request.current_version_id.as_ref().map_or("", VersionId::as_str);
        let candidate = NewRecord {
            version_id: request.new_version_id.clone(),
            recorded_at: self.clock.now(),
            metrics: observations.metrics.clone(),
            test_results: observations.test_results.clone(),
            tags: tags("candidate", beside),
        };
        self.append_once(candidate).await?;
        let Some(current) =
            request.current_version_id.as_ref().filter(|_| !observations.incumbent_metrics.is_empty())
        else {
            return Ok(());
        };
        let incumbent = NewRecord {
            version_id: current.clone(),
            recorded_at: self.clock.now(),
            metrics: observations.incumbent_metrics.clone(),
            test_results: Vec::new(),
            tags: tags("incumbent", request.new_version_id.as_str()),
        };
        self.append_once(incumbent).await
    }

    /// Appends a record unless the store has one of the same version with the same tags: a judgement that is repeated
    /// after a crash must not count its samples twice.
    async fn append_once(&self, record: NewRecord) -> Result<()> {
        let filter = RecordFilter { version_id: Some(record.version_id.clone()), ..RecordFilter::default() };
        let known = self.metrics.records(&filter).await?;
        if !known.iter().any(|known| known.record.tags == record.tags) {
            self.metrics.append(record).await?;
        }
        Ok(())
    }

    /// What the detector needs to judge a candidate.
    async fn measurements(&self, request: &ValidationRequest) -> Result<Measurements> {
        let filter = RecordFilter { accepted_only: true, ..RecordFilter::default() };
        let mut history: BTreeMap<MetricName, Vec<f64>> = BTreeMap::new();
        for known in self.metrics.records(&filter).await? {
            let own = known.record.tags.get(ROLE_TAG).is_none_or(|role| role == "candidate");
            if !own || known.record.version_id == request.new_version_id {
                continue;
            }
            for metric in &known.record.metrics {
                let values = metric.values();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                if mean.is_finite() {
                    history.entry(metric.spec.name.clone()).or_default().push(mean);
                }
            }
        }
        let mut baselines = Vec::new();
        for (name, (version_id, _)) in self.baselines().await? {
            let filter = RecordFilter { version_id: Some(version_id.clone()), ..RecordFilter::default() };
            if let Some(known) = self.metrics.records(&filter).await?.into_iter().next() {
                baselines.push(Baseline { name, version_id, metrics: known.record.metrics });
            }
        }
        Ok(Measurements {
            incumbent: request.observations.incumbent_metrics.clone(),
            candidate: request.observations.metrics.clone(),
            paired: request.observations.paired,
            history,
            baselines,
        })
    }

    /// Asks the detector, unless harder evidence makes the question pointless.
    async fn judge(&self, request: &ValidationRequest) -> Result<Judgement> {
        let observations = &request.observations;
        let hard = !observations.violations.is_empty()
            || !observations.faults.is_empty()
            || observations.test_results.iter().any(|report| report.status != TestStatus::Pass);
        let nothing_measured = observations.metrics.is_empty() && observations.incumbent_metrics.is_empty();
        if hard || nothing_measured || request.current_version_id.is_none() {
            return Ok(Judgement::NotAsked);
        }
        let measurements = self.measurements(request).await?;
        let detector = Arc::clone(&self.detector);
        off_thread("regression detection", move || {
            Ok(match detector.assess(&measurements) {
                Ok(assessment) => Judgement::Assessed(assessment),
                Err(error) => Judgement::Failed(error.to_string()),
            })
        })
        .await
    }

    /// Makes the new version the incumbent.
    async fn accept(&self, settlement: &Settlement) -> Result<SettlementReport> {
        let VersionRef { version_id, checkpoint } = &settlement.new;
        self.metrics.set_accepted(version_id, true).await?;
        if let (Some(rollback), Some(checkpoint)) = (&self.rollback, checkpoint) {
            rollback.mark_known_good(*checkpoint).await?;
        }
        let event = AuditEvent::Accepted { version_id: version_id.clone(), checkpoint: *checkpoint };
        if !self.already_logged(&event).await? {
            self.audit.append(event).await?;
        }
        let actions_taken = vec![format!("accepted {version_id}")];
        Ok(SettlementReport { version_accepted: true, rollback: None, actions_taken })
    }

    /// Whether an event is in the log already: a settlement that is repeated after a crash adds it once.
    async fn already_logged(&self, event: &AuditEvent) -> Result<bool> {
        Ok(self.audit.records().await?.iter().any(|record| record.what == *event))
    }

    /// Keeps the accepted version, and returns the workspace to it.
    async fn refuse(&self, settlement: &Settlement) -> Result<SettlementReport> {
        let VersionRef { version_id, .. } = &settlement.new;
        let mut report =
            SettlementReport { version_accepted: false, rollback: None, actions_taken: Vec::new() };
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
        let reason = format!("{}: {}", settlement.decision.decided_by, settlement.decision.summary());
        let request = RollbackRequest {
            target: Target::Checkpoint(target),
            reason: settlement.decision.decided_by.to_string(),
            initiator: Initiator::Automatic,
        };
        let rolled_back = rollback.roll_back(request).await?;
        let event = AuditEvent::RolledBack { from: version_id.clone(), to: rolled_back.restored, reason };
        self.audit.append(event).await?;
        report
            .actions_taken
            .push(format!("refused {version_id} and rolled back to {}", rolled_back.version_id));
        report.rollback = Some(rolled_back);
        Ok(report)
    }

    /// Checkpoints that no clean-up may delete: known-good ones, their parents, and baselines.
    async fn protected(&self) -> Result<BTreeSet<CheckpointId>> {
        let mut protected: BTreeSet<CheckpointId> =
            self.baselines().await?.into_values().map(|(_, checkpoint)| checkpoint).collect();
        if let Some(rollback) = &self.rollback {
            protected.extend(rollback.known_good().await?);
        }
        for record in self.audit.records().await? {
            if let AuditEvent::Accepted { checkpoint: Some(checkpoint), .. } = record.what {
                protected.insert(checkpoint);
            }
        }
        let parents: Vec<CheckpointId> = self
            .checkpoints
            .list()
            .await?
            .iter()
            .filter(|checkpoint| protected.contains(&checkpoint.id))
            .filter_map(|checkpoint| checkpoint.details.parent)
            .collect();
        protected.extend(parents);
        Ok(protected)
    }
}

/// Tags of a record that say which side of which comparison it was.
fn tags(role: &str, beside: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(ROLE_TAG.to_owned(), role.to_owned()), (BESIDE_TAG.to_owned(), beside.to_owned())])
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

    async fn validate_version_safety(&self, request: &ValidationRequest) -> Result<SafetyValidation> {
        self.record_measurements(request).await?;
        let judgement = self.judge(request).await?;
        let evidence = Evidence { request: request.clone(), judgement };
        let decision = self.policy.decide(&evidence);
        let json = serde_json::to_vec(&evidence)
            .map_err(|error| Error::Invalid { what: "evidence".to_owned(), reason: error.to_string() })?;
        let event = AuditEvent::Decided {
            version_id: request.new_version_id.clone(),
            current_version_id: request.current_version_id.clone(),
            evidence: Digest::of(&json),
            decision: decision.clone(),
        };
        if !self.already_logged(&event).await? {
            self.audit.append(event).await?;
        }
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
            let cleanup = self.cleanup_old_safety_data(self.switches.max_checkpoints).await?;
            if cleanup.checkpoints_deleted > 0 {
                report.actions_taken.push(format!("deleted {} old checkpoints", cleanup.checkpoints_deleted));
            }
        }
        Ok(report)
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
        let plan = self.cleanup_plan(keep_checkpoints).await?;
        let listed = self.checkpoints.list().await?.len();
        let kept_protected = (listed - plan.len()).saturating_sub(keep_checkpoints) as u64;
        let doomed: Vec<CheckpointId> = plan.iter().map(|checkpoint| checkpoint.id).collect();
        if doomed.is_empty() {
            return Ok(CleanupReport { checkpoints_deleted: 0, bytes_freed: 0, kept_protected });
        }
        let deleted = self.checkpoints.delete(&doomed).await?;
        self.audit.append(AuditEvent::CleanedUp { checkpoints: doomed }).await?;
        Ok(CleanupReport {
            checkpoints_deleted: deleted.checkpoints.len() as u64,
            bytes_freed: deleted.bytes_freed,
            kept_protected,
        })
    }
}
