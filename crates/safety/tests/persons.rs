//! What the standard gate does about persons' decisions, undecided candidates and those that were tampered with.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointStore, NewCheckpoint, Source};
use evoseal_metrics::{MetricStore, RecordFilter};
use evoseal_rollback::{Initiator, Rollback};
use evoseal_safety::{
    AuditEvent, AuditLog, Decision, Observations, Outcome, PersonsDecision, PersonsOrder, PersonsVerdict,
    SafetyGate, SafetyIntegration, SafetySwitches, Settlement, SettlementReport, ValidationRequest,
    VersionRef,
};
use evoseal_sandbox::ViolationKind;
use evoseal_testkit::{
    CopyRollback, FakeCheckpointStore, Faults, FaultyAuditLog, MemoryMetrics, ScriptedDetector,
};
use evoseal_types::{CheckpointId, ManualClock, TestReport, Timestamp};
use support::{samples, version, violation};

struct Scene {
    folder: tempfile::TempDir,
    checkpoints: FakeCheckpointStore,
    metrics: MemoryMetrics,
    rollback: CopyRollback,
    audit: FaultyAuditLog,
    gate: SafetyIntegration,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let checkpoints = FakeCheckpointStore::with_faults(faults.clone());
        let metrics = MemoryMetrics::with_faults(faults.clone());
        let rollback = CopyRollback::new(folder.path(), Arc::new(checkpoints.clone()), faults.clone());
        let audit = FaultyAuditLog::new(faults);
        let gate = SafetyIntegration::builder(
            Arc::new(checkpoints.clone()),
            Arc::new(metrics.clone()),
            Arc::new(ScriptedDetector::comparing_means(0.1)),
            Arc::new(audit.clone()),
            Arc::new(ManualClock::default()),
        )
        .rollback(Arc::new(rollback.clone()))
        .switches(SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() })
        .build();
        Self { folder, checkpoints, metrics, rollback, audit, gate }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join("program")).unwrap()
    }

    async fn capture(&self, name: &str) -> VersionRef {
        fs::write(self.folder.path().join("program"), name).unwrap();
        let source = Source::Directory(self.folder.path().to_owned());
        let handle =
            self.gate.create_safety_checkpoint(source, NewCheckpoint::of(version(name))).await.unwrap();
        VersionRef { version_id: version(name), checkpoint: Some(handle.durable().await.unwrap().id) }
    }

    /// What the gate decides about a version of which these things were observed.
    async fn judge(&self, name: &str, observations: Observations) -> Decision {
        let request = ValidationRequest {
            current_version_id: None,
            new_version_id: version(name),
            observations: Observations {
                test_results: vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)],
                ..observations
            },
            objective: None,
        };
        self.gate.validate_version_safety(&request).await.unwrap().decision
    }

    async fn settle(&self, new: &VersionRef, current: Option<&VersionRef>, decision: Decision) {
        let (new, current) = (new.clone(), current.cloned());
        self.gate.settle(&Settlement { new, current, decision, auto_rollback: true }).await.unwrap();
    }

    async fn accepted(&self, name: &str) -> VersionRef {
        let new = self.capture(name).await;
        let decision = self.judge(name, Observations::default()).await;
        self.settle(&new, None, decision).await;
        new
    }

    /// A candidate that nobody decided about.
    async fn held(&self, name: &str, current: &VersionRef) -> VersionRef {
        let new = self.capture(name).await;
        let decision = self.judge(name, Observations::default()).await;
        self.settle(&new, Some(current), Decision { outcome: Outcome::Inconclusive, ..decision }).await;
        new
    }

    async fn order(
        &self,
        verdict: PersonsVerdict,
        version: &VersionRef,
        fall_back_to: Option<CheckpointId>,
    ) -> SettlementReport {
        let decision = PersonsDecision {
            version_id: version.version_id.clone(),
            verdict,
            person: "ada".to_owned(),
            at: Timestamp::default(),
            reason: "looked at it".to_owned(),
        };
        let order = PersonsOrder { decision, version: version.clone(), fall_back_to };
        self.gate.override_version(&order).await.unwrap()
    }

    async fn has(&self, version: &VersionRef) -> bool {
        self.checkpoints.load(version.checkpoint.unwrap()).await.is_ok()
    }
}

#[tokio::test]
async fn the_newest_twenty_held_candidates_survive_a_clean_up_until_a_person_rejects_them() {
    let scene = Scene::new();
    let incumbent = scene.accepted("v0").await;
    let mut held = Vec::new();
    for number in 1..=22 {
        held.push(scene.held(&format!("v{number}"), &incumbent).await);
        assert_eq!(scene.text(), "v0", "what is held is not accepted");
    }
    scene.capture("v99").await;
    scene.order(PersonsVerdict::Reject, &held[21], None).await;
    scene.gate.cleanup_old_safety_data(1).await.unwrap();
    let mut left = Vec::new();
    for version in &held {
        left.push(scene.has(version).await);
    }
    // v2 to v21 are the newest twenty that are still held.
    let expected: Vec<bool> = (1..=22).map(|number| (2..=21).contains(&number)).collect();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn what_was_measured_of_a_tampered_version_is_neither_recorded_nor_judged() {
    let scene = Scene::new();
    let measured = |violations| Observations {
        violations,
        metrics: vec![samples("latency", &[10.0, 10.1])],
        ..Observations::default()
    };
    let decision = scene.judge("v1", measured(vec![violation(ViolationKind::Tampered)])).await;
    assert_eq!((decision.outcome, decision.safety_score.score), (Outcome::Tampered, 0.0));
    assert_eq!(scene.metrics.records(&RecordFilter::default()).await.unwrap().len(), 0);
    scene.judge("v1", measured(Vec::new())).await;
    assert_eq!(scene.metrics.records(&RecordFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_approved_version_is_known_to_be_good_and_a_rejected_one_no_longer() {
    let scene = Scene::new();
    let first = scene.accepted("v0").await;
    let held = scene.held("v1", &first).await;
    let known_good = async || scene.rollback.known_good().await.unwrap();
    let report = scene.order(PersonsVerdict::Approve, &held, None).await;
    assert!(report.version_accepted);
    let newest = scene.audit.records().await.unwrap().pop().unwrap().what;
    let by_ada = Initiator::Person("ada".to_owned());
    assert!(
        matches!(newest, AuditEvent::RolledBack { initiator, .. } if initiator == by_ada),
        "the move is logged"
    );
    assert_eq!(
        (scene.text(), known_good().await),
        ("v1".to_owned(), vec![first.checkpoint.unwrap(), held.checkpoint.unwrap()])
    );
    scene.order(PersonsVerdict::Reject, &held, first.checkpoint).await;
    assert_eq!((scene.text(), known_good().await), ("v0".to_owned(), vec![first.checkpoint.unwrap()]));
    // A clean-up has no reason to keep what was rejected.
    scene.capture("v2").await;
    scene.gate.cleanup_old_safety_data(1).await.unwrap();
    assert!(!scene.has(&held).await && scene.has(&first).await);
}

#[tokio::test]
async fn an_approval_that_leads_elsewhere_accepts_nothing_and_says_where_the_workspace_is() {
    let scene = Scene::new();
    let first = scene.accepted("v0").await;
    let held = scene.held("v1", &first).await;
    scene.checkpoints.delete(&[held.checkpoint.unwrap()]).await.unwrap();
    let report = scene.order(PersonsVerdict::Approve, &held, None).await;
    assert!(!report.version_accepted && report.rollback.unwrap().fell_back());
    assert_eq!(report.actions_taken, ["v1 could not be restored; the workspace is at v0"]);
    assert_eq!(scene.rollback.known_good().await.unwrap(), [first.checkpoint.unwrap()]);
}
