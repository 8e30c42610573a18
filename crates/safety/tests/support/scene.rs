//! The standard gate over fakes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use evoseal_checkpoint::{NewCheckpoint, Source};
use evoseal_safety::{
    AuditEvent, AuditLog, EvolutionStep, Observations, Outcome, SafetyGate, SafetyIntegration,
    SafetySwitches, Settlement, ValidationRequest, VersionRef,
};
use evoseal_testkit::{
    CopyRollback, FakeCheckpointStore, Faults, FaultyAuditLog, MemoryMetrics, ScriptedDetector,
};
use evoseal_types::{CheckpointId, ManualClock, TestReport};

use super::{samples, version};

/// A gate over fakes that share their faults.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) faults: Faults,
    pub(crate) checkpoints: FakeCheckpointStore,
    pub(crate) metrics: MemoryMetrics,
    pub(crate) detector: ScriptedDetector,
    pub(crate) rollback: CopyRollback,
    pub(crate) audit: FaultyAuditLog,
    pub(crate) gate: SafetyIntegration,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(SafetySwitches::default(), ScriptedDetector::comparing_means(0.1))
    }

    pub(crate) fn with(switches: SafetySwitches, detector: ScriptedDetector) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let checkpoints = FakeCheckpointStore::with_faults(faults.clone());
        let metrics = MemoryMetrics::with_faults(faults.clone());
        let rollback = CopyRollback::new(folder.path(), Arc::new(checkpoints.clone()), faults.clone());
        let audit = FaultyAuditLog::new(faults.clone());
        let gate = SafetyIntegration::builder(
            Arc::new(checkpoints.clone()),
            Arc::new(metrics.clone()),
            Arc::new(detector.clone()),
            Arc::new(audit.clone()),
            Arc::new(ManualClock::default()),
        )
        .rollback(Arc::new(rollback.clone()))
        .switches(switches)
        .build();
        Self { folder, faults, checkpoints, metrics, detector, rollback, audit, gate }
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.folder.path().join("program"), text).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join("program")).unwrap()
    }

    pub(crate) async fn capture(&self, name: &str, parent: Option<CheckpointId>) -> CheckpointId {
        self.write(name);
        let details = NewCheckpoint { parent, ..NewCheckpoint::of(version(name)) };
        let handle = self.gate.create_safety_checkpoint(source(self.folder.path()), details).await.unwrap();
        handle.durable().await.unwrap().id
    }

    /// Captures a version and makes it the incumbent.
    pub(crate) async fn accepted(&self, name: &str, parent: Option<CheckpointId>) -> VersionRef {
        let checkpoint = self.capture(name, parent).await;
        let request = request(None, name, 10.0);
        let decision = self.gate.validate_version_safety(&request).await.unwrap().decision;
        assert_eq!(decision.outcome, Outcome::Accept, "{}", decision.summary());
        let new = VersionRef { version_id: version(name), checkpoint: Some(checkpoint) };
        let settlement = Settlement { new: new.clone(), current: None, decision, auto_rollback: true };
        self.gate.settle(&settlement).await.unwrap();
        new
    }

    pub(crate) fn step(&self, current: &VersionRef, name: &str, latency: f64) -> EvolutionStep {
        self.write(name);
        EvolutionStep {
            request: request(Some(&current.version_id.to_string()), name, latency),
            new_version_data: source(self.folder.path()),
            current_checkpoint: current.checkpoint,
        }
    }

    pub(crate) async fn events(&self) -> Vec<AuditEvent> {
        self.audit.records().await.unwrap().into_iter().map(|record| record.what).collect()
    }

    pub(crate) async fn count(&self, wanted: fn(&AuditEvent) -> bool) -> usize {
        self.events().await.iter().filter(|event| wanted(event)).count()
    }
}

pub(crate) fn source(folder: &Path) -> Source {
    Source::Directory(folder.to_owned())
}

pub(crate) fn request(current: Option<&str>, new: &str, latency: f64) -> ValidationRequest {
    ValidationRequest {
        current_version_id: current.map(version),
        new_version_id: version(new),
        observations: Observations {
            test_results: vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)],
            metrics: vec![samples("latency", &[latency; 3])],
            incumbent_metrics: current.map(|_| samples("latency", &[10.0; 3])).into_iter().collect(),
            ..Observations::default()
        },
        objective: None,
    }
}

/// A refusal of v2, ready to be settled, with v2 in the workspace.
pub(crate) async fn refusal(scene: &Scene) -> Settlement {
    let v1 = scene.accepted("v1", None).await;
    let checkpoint = Some(scene.capture("v2", v1.checkpoint).await);
    let request = request(Some("v1"), "v2", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v2"), checkpoint };
    Settlement { new, current: Some(v1), decision, auto_rollback: true }
}
