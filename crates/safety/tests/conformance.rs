//! The suites accept what keeps the contracts and reject what breaks them.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::any::Any;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use evoseal_checkpoint::{CheckpointHandle, NewCheckpoint, Source};
use evoseal_safety::conformance::safety_gate::GateInPlace;
use evoseal_safety::conformance::{audit_log, decision_policy, evidence_store, safety_gate};
use evoseal_safety::{
    AuditEvent, AuditLog, AuditRecord, CleanupReport, Decision, DecisionPolicy, Error, Evidence,
    EvidenceStore, FileAuditLog, FileEvidenceStore, Judgement, MemoryAuditLog, MemoryEvidenceStore, Outcome,
    PersonsOrder, PersonsVerdict, ProposalRecord, Result, SafetyGate, SafetyIntegration, SafetyStatus,
    SafetySwitches, SafetyValidation, Settlement, SettlementReport, StandardPolicy, ValidationRequest,
};
use evoseal_testkit::{CopyRollback, FakeCheckpointStore, Faults, MemoryMetrics, ScriptedDetector};
use evoseal_types::{Digest, ManualClock, TestStatus};

mod standard_policy {
    evoseal_safety::decision_policy_conformance!(super::standard_policy);
}

mod memory_log {
    evoseal_safety::audit_log_conformance!(super::memory_log);
}

mod file_log {
    evoseal_safety::audit_log_conformance!(super::file_log);
}

mod memory_evidence {
    evoseal_safety::evidence_store_conformance!(super::memory_evidence);
}

mod file_evidence {
    evoseal_safety::evidence_store_conformance!(super::file_evidence);
}

mod integration {
    evoseal_safety::safety_gate_conformance!(super::integration);
}

mod integration_without_a_workspace {
    evoseal_safety::safety_gate_conformance!(super::integration_without_a_workspace);
}

fn standard_policy() -> Box<dyn DecisionPolicy> {
    Box::new(StandardPolicy::default())
}

fn clock() -> Arc<ManualClock> {
    Arc::default()
}

fn memory_log() -> (Box<dyn AuditLog>, Box<dyn Any>) {
    (Box::new(MemoryAuditLog::new(clock())), Box::new(()))
}

fn file_log() -> (Box<dyn AuditLog>, Box<dyn Any>) {
    let folder = tempfile::tempdir().unwrap();
    (Box::new(FileAuditLog::new(folder.path().join("audit.jsonl"), clock())), Box::new(folder))
}

fn memory_evidence() -> (Box<dyn EvidenceStore>, Box<dyn Any>) {
    (Box::new(MemoryEvidenceStore::default()), Box::new(()))
}

fn file_evidence() -> (Box<dyn EvidenceStore>, Box<dyn Any>) {
    let folder = tempfile::tempdir().unwrap();
    (Box::new(FileEvidenceStore::new(folder.path().join("evidence"))), Box::new(folder))
}

fn gate(rolls_back: bool) -> GateInPlace {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Arc::new(FakeCheckpointStore::default());
    let builder = SafetyIntegration::builder(
        Arc::<FakeCheckpointStore>::clone(&checkpoints),
        Arc::new(MemoryMetrics::default()),
        Arc::new(ScriptedDetector::comparing_means(0.1)),
        Arc::new(MemoryAuditLog::new(clock())),
        clock(),
    )
    .switches(SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() });
    let rollback = CopyRollback::new(folder.path(), checkpoints, Faults::default());
    let builder = if rolls_back { builder.rollback(Arc::new(rollback)) } else { builder };
    let workspace = folder.path().to_owned();
    GateInPlace { gate: Box::new(builder.build()), workspace, rolls_back, guard: Box::new(folder) }
}

fn integration() -> GateInPlace {
    gate(true)
}

fn integration_without_a_workspace() -> GateInPlace {
    gate(false)
}

/// A policy that overlooks one thing.
#[derive(Debug, Clone, Copy)]
enum Careless {
    MissingTests,
    FailedTests,
    Contradictions,
    Violations,
    Faults,
    Judgements,
    Unusable,
    Regressions,
    Equality,
    OtherObjections,
}

impl DecisionPolicy for Careless {
    fn decide(&self, evidence: &Evidence) -> Decision {
        static COUNT: Mutex<f64> = Mutex::new(0.0);
        let mut seen = evidence.clone();
        let observations = &mut seen.request.observations;
        let good = || evoseal_types::TestReport::from_counts("unit_tests", 3, 0, 0, 0);
        match self {
            Self::MissingTests => {
                let ran = |report: &evoseal_types::TestReport| report.tests_run > 0;
                if !observations.test_results.iter().any(ran) {
                    observations.test_results = vec![good()];
                }
            }
            Self::FailedTests => {
                observations.test_results.retain(|report| report.status == TestStatus::Pass);
            }
            Self::Contradictions => {
                for report in &mut observations.test_results {
                    let contradictory = report.check().is_err() || !report.cases.is_empty();
                    if contradictory {
                        *report = good();
                    }
                }
            }
            Self::Violations => observations.violations.clear(),
            Self::Faults => observations.faults.clear(),
            Self::Judgements => {
                if seen.judgement.assessment().is_none_or(|assessment| assessment.findings.is_empty()) {
                    observations.metrics.clear();
                    observations.incumbent_metrics.clear();
                    seen.judgement = Judgement::NotAsked;
                }
            }
            Self::Unusable | Self::Regressions => {
                observations.metrics.clear();
                observations.incumbent_metrics.clear();
                seen.judgement = Judgement::NotAsked;
            }
            Self::Equality | Self::OtherObjections => {}
        }
        let mut decision = StandardPolicy::default().decide(&seen);
        match self {
            Self::Equality => {
                let mut count = COUNT.lock().unwrap();
                *count += 1.0;
                decision.improvement_score = Some(*count);
            }
            Self::OtherObjections => decision.reasons.truncate(1),
            _ => {}
        }
        decision
    }
}

#[test]
fn each_careless_policy_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (Careless::MissingTests, "accepts_nothing_without_a_test_that_ran"),
        (Careless::FailedTests, "accepts_no_test_that_did_not_pass"),
        (Careless::Contradictions, "accepts_no_report_that_contradicts_itself"),
        (Careless::Violations, "accepts_no_tampering_and_no_forbidden_edit"),
        (Careless::Faults, "accepts_no_evaluation_with_a_fault"),
        (Careless::Judgements, "accepts_no_failed_and_no_missing_judgement"),
        (Careless::Unusable, "accepts_no_metric_that_cannot_be_used"),
        (Careless::Regressions, "accepts_no_critical_regression"),
        (Careless::Equality, "decides_the_same_again"),
        (Careless::OtherObjections, "lists_every_objection_and_names_the_one_that_decided"),
    ];
    assert_eq!(pairs.len(), decision_policy::CASES.len(), "every case rejects something");
    for (careless, case) in pairs {
        let verdict = decision_policy::run_case(case, &|| Box::new(careless));
        assert!(verdict.is_err() && decision_policy::CASES.contains(&case), "{case} accepts {careless:?}");
    }
}

/// A log that gets one thing wrong.
#[derive(Debug)]
struct BadLog {
    fault: LogFault,
    inner: MemoryAuditLog,
    lost: Mutex<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum LogFault {
    NotEmpty,
    Reversed,
    CountsFromZero,
    Unchained,
    OffByOne,
    LosesWrites,
}

impl BadLog {
    fn change(&self, mut records: Vec<AuditRecord>) -> Vec<AuditRecord> {
        match self.fault {
            LogFault::Reversed => records.reverse(),
            LogFault::CountsFromZero => records.iter_mut().for_each(|record| record.sequence -= 1),
            LogFault::Unchained => {
                let first = records.first().map(|record| record.previous);
                for record in &mut records {
                    record.previous = first.unwrap();
                }
            }
            _ => {}
        }
        records
    }
}

#[async_trait]
impl AuditLog for BadLog {
    async fn append(&self, what: AuditEvent) -> Result<AuditRecord> {
        let record = self.inner.append(what).await?;
        *self.lost.lock().unwrap() += 1;
        Ok(record)
    }

    async fn records(&self) -> Result<Vec<AuditRecord>> {
        if self.fault == LogFault::NotEmpty && self.inner.records().await?.is_empty() {
            let version_id = evoseal_types::VersionId::new("v0").unwrap();
            self.inner.append(AuditEvent::Accepted { version_id, checkpoint: None }).await?;
        }
        let mut records = self.change(self.inner.records().await?);
        if self.fault == LogFault::LosesWrites && records.len() > 10 {
            records.truncate(10);
        }
        Ok(records)
    }

    async fn records_after(&self, sequence: u64) -> Result<Vec<AuditRecord>> {
        let from = if self.fault == LogFault::OffByOne { sequence.saturating_sub(1) } else { sequence };
        Ok(self.change(self.inner.records_after(from).await?))
    }
}

#[test]
fn each_broken_log_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (LogFault::NotEmpty, "begins_empty"),
        (LogFault::Reversed, "keeps_what_was_appended_in_order"),
        (LogFault::CountsFromZero, "numbers_records_from_one_without_gaps"),
        (LogFault::Unchained, "chains_each_record_to_the_one_before"),
        (LogFault::OffByOne, "hands_out_what_comes_after_a_record"),
        (LogFault::LosesWrites, "keeps_the_chain_with_many_writers"),
    ];
    assert_eq!(pairs.len(), audit_log::CASES.len(), "every case rejects something");
    for (fault, case) in pairs {
        let broken = || -> (Box<dyn AuditLog>, Box<dyn Any>) {
            let inner = MemoryAuditLog::new(clock());
            (Box::new(BadLog { fault, inner, lost: Mutex::default() }), Box::new(()))
        };
        assert!(audit_log::run_case(case, &broken).is_err(), "{case} accepts a log that {fault:?}");
    }
}

/// A store that gets one thing wrong.
#[derive(Debug)]
struct BadEvidence {
    fault: EvidenceFault,
    inner: MemoryEvidenceStore,
    kept: Mutex<Vec<(Digest, Evidence)>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum EvidenceFault {
    NotEmpty,
    ForgetsJudgements,
    RandomNames,
    KeepsTwice,
    InventsTheMissing,
    LosesASecondWriter,
}

#[async_trait]
impl EvidenceStore for BadEvidence {
    async fn keep(&self, evidence: &Evidence) -> Result<Digest> {
        let digest = self.inner.keep(evidence).await?;
        let mut kept = self.kept.lock().unwrap();
        if self.fault == EvidenceFault::LosesASecondWriter && kept.len() == 4 {
            return Ok(digest);
        }
        kept.push((digest, evidence.clone()));
        Ok(if self.fault == EvidenceFault::RandomNames { Digest::of(b"a name") } else { digest })
    }

    async fn load(&self, digest: Digest) -> Result<Evidence> {
        let kept = self.kept.lock().unwrap();
        let found = kept.iter().find(|(known, _)| *known == digest).map(|(_, evidence)| evidence.clone());
        match (self.fault, found) {
            (EvidenceFault::ForgetsJudgements, Some(found)) => {
                Ok(Evidence { judgement: Judgement::NotAsked, ..found })
            }
            (EvidenceFault::InventsTheMissing, None) => Ok(kept[0].1.clone()),
            (_, found) => found.ok_or(Error::EvidenceMissing { digest }),
        }
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        let kept = self.kept.lock().unwrap();
        let mut listed: Vec<Digest> = kept.iter().map(|(digest, _)| *digest).collect();
        listed.sort_unstable();
        match self.fault {
            EvidenceFault::NotEmpty if listed.is_empty() => listed.push(Digest::of(b"")),
            EvidenceFault::KeepsTwice => {}
            _ => listed.dedup(),
        }
        Ok(listed)
    }
}

#[test]
fn each_broken_evidence_store_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (EvidenceFault::NotEmpty, "begins_empty"),
        (EvidenceFault::ForgetsJudgements, "gives_back_what_was_kept"),
        (EvidenceFault::RandomNames, "names_evidence_by_the_digest_of_its_json"),
        (EvidenceFault::KeepsTwice, "keeps_the_same_evidence_once"),
        (EvidenceFault::InventsTheMissing, "says_that_evidence_is_missing"),
        (EvidenceFault::LosesASecondWriter, "keeps_evidence_of_many_writers"),
    ];
    assert_eq!(pairs.len(), evidence_store::CASES.len(), "every case rejects something");
    for (fault, case) in pairs {
        let broken = || {
            let bad = BadEvidence { fault, inner: MemoryEvidenceStore::default(), kept: Mutex::default() };
            (Box::new(bad) as Box<dyn EvidenceStore>, Box::new(()) as Box<dyn Any>)
        };
        assert!(evidence_store::run_case(case, &broken).is_err(), "{case} accepts a store that {fault:?}");
    }
}

/// A gate that gets one thing wrong.
#[derive(Debug)]
struct BadGate {
    fault: GateFault,
    inner: Box<dyn SafetyGate>,
    workspace: std::path::PathBuf,
    settled: Mutex<usize>,
    recorded: Mutex<Vec<ProposalRecord>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum GateFault {
    FailsOpen,
    RecordsAProposalOnce,
    TouchesTheWorkspace,
    AcceptsOnlyOnce,
    CountsRollbacksTwice,
    AcceptsWhatItRefused,
    DisobeysPersons,
    DeletesTheIncumbent,
}

#[async_trait]
impl SafetyGate for BadGate {
    async fn create_safety_checkpoint(
        &self,
        source: Source,
        details: NewCheckpoint,
    ) -> Result<CheckpointHandle> {
        self.inner.create_safety_checkpoint(source, details).await
    }

    async fn record_proposal(&self, proposal: &ProposalRecord) -> Result<()> {
        let mut recorded = self.recorded.lock().unwrap();
        if self.fault == GateFault::RecordsAProposalOnce && recorded.contains(proposal) {
            return Err(Error::Interrupted { action: "the second time" });
        }
        recorded.push(proposal.clone());
        Ok(())
    }

    async fn validate_version_safety(&self, request: &ValidationRequest) -> Result<SafetyValidation> {
        let mut validation = self.inner.validate_version_safety(request).await?;
        match self.fault {
            GateFault::FailsOpen => validation.is_safe = true,
            GateFault::TouchesTheWorkspace => {
                std::fs::write(self.workspace.join("program"), "judged").unwrap();
            }
            _ => {}
        }
        Ok(validation)
    }

    async fn settle(&self, settlement: &Settlement) -> Result<SettlementReport> {
        let mut report = self.inner.settle(settlement).await?;
        let mut settled = self.settled.lock().unwrap();
        *settled += 1;
        match self.fault {
            GateFault::AcceptsOnlyOnce if *settled > 1 => report.version_accepted = false,
            GateFault::AcceptsWhatItRefused => report.version_accepted = true,
            _ => {}
        }
        Ok(report)
    }

    async fn override_version(&self, order: &PersonsOrder) -> Result<SettlementReport> {
        let mut obeyed = order.clone();
        if self.fault == GateFault::DisobeysPersons {
            obeyed.decision.verdict = PersonsVerdict::Hold;
        }
        self.inner.override_version(&obeyed).await
    }

    async fn get_safety_status(&self) -> Result<SafetyStatus> {
        let mut status = self.inner.get_safety_status().await?;
        if let Some(rollbacks) =
            status.rollback_manager.as_mut().filter(|_| self.fault == GateFault::CountsRollbacksTwice)
        {
            rollbacks.total_rollbacks *= 2;
        }
        if self.fault == GateFault::DeletesTheIncumbent {
            status.checkpoint_manager.total_checkpoints = status.checkpoint_manager.total_checkpoints.min(1);
        }
        Ok(status)
    }

    async fn cleanup_old_safety_data(&self, keep_checkpoints: usize) -> Result<CleanupReport> {
        self.inner.cleanup_old_safety_data(keep_checkpoints).await
    }
}

#[test]
fn each_broken_gate_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (GateFault::FailsOpen, "accepts_tests_that_pass_and_nothing_else"),
        (GateFault::RecordsAProposalOnce, "records_a_proposal_any_number_of_times"),
        (GateFault::TouchesTheWorkspace, "judges_the_same_again_and_leaves_the_workspace_alone"),
        (GateFault::AcceptsOnlyOnce, "settles_an_acceptance_any_number_of_times"),
        (GateFault::CountsRollbacksTwice, "settles_a_refusal_any_number_of_times"),
        (GateFault::AcceptsWhatItRefused, "reports_every_refusal_as_a_step_that_accepted_nothing"),
        (GateFault::DisobeysPersons, "carries_out_what_a_person_decides_any_number_of_times"),
        (GateFault::DeletesTheIncumbent, "keeps_the_incumbent_and_its_parent_when_it_cleans_up"),
    ];
    assert_eq!(pairs.len(), safety_gate::CASES.len(), "every case rejects something");
    for (fault, case) in pairs {
        let broken = || {
            let GateInPlace { gate: inner, workspace, rolls_back, guard } = gate(true);
            let (settled, recorded) = (Mutex::default(), Mutex::default());
            let bad = BadGate { fault, inner, workspace: workspace.clone(), settled, recorded };
            GateInPlace { gate: Box::new(bad), workspace, rolls_back, guard }
        };
        assert!(safety_gate::run_case(case, &broken).is_err(), "{case} accepts a gate that {fault:?}");
    }
}

#[test]
fn an_outcome_is_ordered_from_mild_to_harsh() {
    use Outcome::{Accept, Error, Inconclusive, Reject, RollBack, Tampered};
    assert!([Accept, Inconclusive, Error, Reject, RollBack, Tampered].is_sorted());
}
