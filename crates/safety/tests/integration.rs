//! The standard gate over fakes: once is once, errors are denials, nothing that is needed is deleted.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evoseal_checkpoint::{CheckpointStore, NewCheckpoint, RetentionPolicy, Source};
use evoseal_metrics::{MetricStore, RecordFilter};
use evoseal_rollback::{Initiator, Rollback, RollbackRequest, Target};
use evoseal_safety::{
    AuditEvent, AuditLog, EvidenceStore, EvolutionStep, FileEvidenceStore, MemoryEvidenceStore, Observations,
    Outcome, Rejudgement, Rule, SafetyGate, SafetyGateExt, SafetyIntegration, SafetySwitches, Settlement,
    StandardPolicy, ValidationRequest, VersionRef,
};
use evoseal_testkit::{
    CopyRollback, FakeCheckpointStore, Fault, Faults, FaultyAuditLog, MemoryMetrics, ScriptedDetector,
};
use evoseal_types::{CheckpointId, ManualClock, TestReport};
use support::{samples, version};

/// A gate over fakes that share their faults.
struct Scene {
    folder: tempfile::TempDir,
    faults: Faults,
    checkpoints: FakeCheckpointStore,
    metrics: MemoryMetrics,
    detector: ScriptedDetector,
    rollback: CopyRollback,
    audit: FaultyAuditLog,
    gate: SafetyIntegration,
}

impl Scene {
    fn new() -> Self {
        Self::with(SafetySwitches::default(), ScriptedDetector::comparing_means(0.1))
    }

    fn with(switches: SafetySwitches, detector: ScriptedDetector) -> Self {
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

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("program"), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join("program")).unwrap()
    }

    async fn capture(&self, name: &str, parent: Option<CheckpointId>) -> CheckpointId {
        self.write(name);
        let details = NewCheckpoint { parent, ..NewCheckpoint::of(version(name)) };
        let handle = self.gate.create_safety_checkpoint(source(self.folder.path()), details).await.unwrap();
        handle.durable().await.unwrap().id
    }

    /// Captures a version and makes it the incumbent.
    async fn accepted(&self, name: &str, parent: Option<CheckpointId>) -> VersionRef {
        let checkpoint = self.capture(name, parent).await;
        let request = request(None, name, 10.0);
        let decision = self.gate.validate_version_safety(&request).await.unwrap().decision;
        assert_eq!(decision.outcome, Outcome::Accept, "{}", decision.summary());
        let new = VersionRef { version_id: version(name), checkpoint: Some(checkpoint) };
        let settlement = Settlement { new: new.clone(), current: None, decision, auto_rollback: true };
        self.gate.settle(&settlement).await.unwrap();
        new
    }

    fn step(&self, current: &VersionRef, name: &str, latency: f64) -> EvolutionStep {
        self.write(name);
        EvolutionStep {
            request: request(Some(&current.version_id.to_string()), name, latency),
            new_version_data: source(self.folder.path()),
            current_checkpoint: current.checkpoint,
        }
    }

    async fn events(&self) -> Vec<AuditEvent> {
        self.audit.records().await.unwrap().into_iter().map(|record| record.what).collect()
    }

    async fn count(&self, wanted: fn(&AuditEvent) -> bool) -> usize {
        self.events().await.iter().filter(|event| wanted(event)).count()
    }
}

fn source(folder: &Path) -> Source {
    Source::Directory(folder.to_owned())
}

fn request(current: Option<&str>, new: &str, latency: f64) -> ValidationRequest {
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

#[tokio::test]
async fn a_good_version_is_accepted_and_a_worse_one_is_rolled_back() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    let better = scene.gate.execute_safe_evolution_step(scene.step(&v1, "v2", 9.0)).await;
    assert!(better.success && better.version_accepted && !better.rollback_performed, "{better:?}");
    let v2 = VersionRef { version_id: version("v2"), checkpoint: better.checkpoint };
    let worse = scene.gate.execute_safe_evolution_step(scene.step(&v2, "v3", 20.0)).await;
    assert!(worse.success && !worse.version_accepted && worse.rollback_performed, "{worse:?}");
    assert_eq!(worse.safety_validation.unwrap().decision.decided_by, Rule::Regression);
    assert_eq!(scene.text(), "v2");
}

#[tokio::test]
async fn judging_twice_records_once_and_decides_the_same() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    let request = request(Some(v1.version_id.as_str()), "v2", 9.5);
    let first = scene.gate.validate_version_safety(&request).await.unwrap();
    let (events, records) =
        (scene.events().await, scene.metrics.records(&RecordFilter::default()).await.unwrap());
    let second = scene.gate.validate_version_safety(&request).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(scene.events().await, events);
    assert_eq!(scene.metrics.records(&RecordFilter::default()).await.unwrap(), records);
}

#[tokio::test]
async fn measurements_that_are_no_numbers_are_recorded_once_too() {
    let scene = Scene::new();
    let request = request(None, "v1", f64::NAN);
    for _ in 0..2 {
        let validation = scene.gate.validate_version_safety(&request).await.unwrap();
        assert_eq!(validation.decision.decided_by, Rule::MetricUnusable);
    }
    assert_eq!(scene.metrics.records(&RecordFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_version_id_that_is_used_again_does_not_inherit_the_measurements_of_the_first() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    let current = v1.version_id.as_str();
    scene.gate.validate_version_safety(&request(Some(current), "v2", 50.0)).await.unwrap();
    let again = scene.gate.execute_safe_evolution_step(scene.step(&v1, "v2", 9.0)).await;
    assert!(again.version_accepted, "{again:?}");
    scene.gate.validate_version_safety(&request(Some("v2"), "v3", 9.0)).await.unwrap();
    let history = scene.detector.asked().last().unwrap().history.clone();
    assert_eq!(history.into_values().collect::<Vec<_>>(), [vec![10.0, 9.0]]);
}

#[tokio::test]
async fn settling_an_acceptance_twice_accepts_once() {
    let scene = Scene::new();
    let new = VersionRef { version_id: version("v1"), checkpoint: Some(scene.capture("v1", None).await) };
    let decision = scene.gate.validate_version_safety(&request(None, "v1", 10.0)).await.unwrap().decision;
    let settlement = Settlement { new, current: None, decision, auto_rollback: true };
    let first = scene.gate.settle(&settlement).await.unwrap();
    assert_eq!(scene.gate.settle(&settlement).await.unwrap(), first);
    assert_eq!(scene.count(|event| matches!(event, AuditEvent::Accepted { .. })).await, 1);
    assert_eq!(scene.rollback.known_good().await.unwrap().len(), 1);
}

/// A refusal of v2, ready to be settled, with v2 in the workspace.
async fn refusal(scene: &Scene) -> Settlement {
    let v1 = scene.accepted("v1", None).await;
    let checkpoint = Some(scene.capture("v2", v1.checkpoint).await);
    let request = request(Some("v1"), "v2", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v2"), checkpoint };
    Settlement { new, current: Some(v1), decision, auto_rollback: true }
}

#[tokio::test]
async fn settling_a_refusal_twice_rolls_back_once() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    let first = scene.gate.settle(&settlement).await.unwrap();
    let second = scene.gate.settle(&settlement).await.unwrap();
    assert_eq!(first.rollback.unwrap().restored, second.rollback.unwrap().restored);
    assert_eq!(scene.rollback.history().await.unwrap().len(), 1);
    assert_eq!(scene.count(|event| matches!(event, AuditEvent::RolledBack { .. })).await, 1);
}

#[tokio::test]
async fn a_repeated_refusal_rolls_back_again_if_the_workspace_has_left_the_accepted_version() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    scene.gate.settle(&settlement).await.unwrap();
    scene.write("something else");
    scene.gate.settle(&settlement).await.unwrap();
    assert_eq!(scene.text(), "v1");
}

#[tokio::test]
async fn a_refusal_that_may_not_roll_back_says_why() {
    let scene = Scene::new();
    let settlement = Settlement { auto_rollback: false, ..refusal(&scene).await };
    let report = scene.gate.settle(&settlement).await.unwrap();
    assert_eq!((report.version_accepted, report.rollback), (false, None));
    assert_eq!(report.actions_taken, ["refused v2; not rolled back: automatic rollback is off"]);
    assert_eq!(scene.text(), "v2");
}

#[tokio::test]
async fn every_error_of_a_part_is_a_denial_and_a_repetition_completes_the_step() {
    for latency in [9.0, 20.0] {
        let undisturbed = Scene::new();
        let v1 = undisturbed.accepted("v1", None).await;
        undisturbed.faults.disarm();
        undisturbed.gate.execute_safe_evolution_step(undisturbed.step(&v1, "v2", latency)).await;
        let steps = undisturbed.faults.steps();
        assert!(steps.len() > 10, "{steps:?}");
        for (at, name) in steps.iter().enumerate() {
            let scene = Scene::new();
            let v1 = scene.accepted("v1", None).await;
            let step = scene.step(&v1, "v2", latency);
            scene.faults.arm(at, Fault::Once);
            let result = scene.gate.execute_safe_evolution_step(step.clone()).await;
            scene.faults.disarm();
            if result.error.is_some() {
                assert!(!result.success && !result.version_accepted, "step {at} ({name}): {result:?}");
            } else {
                // Only what comes after the decision was carried out may fail without being an error of the step.
                assert_eq!(result.version_accepted, latency < 10.0, "step {at} ({name}): {result:?}");
                let told = result.actions_taken.iter().any(|action| action.contains("not deleted"));
                assert!(told, "step {at} ({name}) failed and nobody was told: {result:?}");
            }
            scene.write("v2");
            let again = scene.gate.execute_safe_evolution_step(step).await;
            assert!(again.success, "step {at} ({name}): {again:?}");
            assert_eq!(again.version_accepted, latency < 10.0, "step {at} ({name}): {again:?}");
            assert_eq!(scene.text(), if latency < 10.0 { "v2" } else { "v1" }, "step {at} ({name})");
        }
    }
}

#[tokio::test]
async fn a_detector_that_fails_or_panics_rejects() {
    let panicking = ScriptedDetector::answering(|_| std::panic::resume_unwind(Box::new("told to")));
    for detector in [ScriptedDetector::failing(), panicking] {
        let scene = Scene::with(SafetySwitches::default(), detector);
        let v1 = scene.accepted("v1", None).await;
        let result = scene.gate.execute_safe_evolution_step(scene.step(&v1, "v2", 9.0)).await;
        assert!(result.success && !result.version_accepted, "{result:?}");
        let decision = result.safety_validation.unwrap().decision;
        assert_eq!((decision.outcome, decision.decided_by), (Outcome::Reject, Rule::DetectorFailed));
    }
}

#[tokio::test]
async fn a_finding_that_could_not_be_read_back_rejects() {
    let infinite = ScriptedDetector::answering(|measurements| {
        use evoseal_regression::{Detector, Interval};
        let mut assessment = ScriptedDetector::comparing_means(0.1).assess(measurements)?;
        let interval = Interval { low: f64::NEG_INFINITY, high: 0.0, level: 0.95 };
        assessment.findings[0].interval = Some(interval);
        Ok(assessment)
    });
    let scene = Scene::with(SafetySwitches::default(), infinite);
    let v1 = scene.accepted("v1", None).await;
    let result = scene.gate.execute_safe_evolution_step(scene.step(&v1, "v2", 9.0)).await;
    let validation = result.safety_validation.clone().unwrap();
    assert_eq!(validation.decision.decided_by, Rule::DetectorFailed);
    let json = serde_json::to_string(&result).unwrap();
    assert_eq!(serde_json::from_str::<evoseal_safety::StepResult>(&json).unwrap(), result);
}

#[tokio::test]
async fn measurements_that_the_store_refuses_speak_against_the_version() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    let mut other_unit = scene.step(&v1, "v2", 9.0);
    other_unit.request.observations.metrics[0].spec.unit = "parsecs".to_owned();
    let result = scene.gate.execute_safe_evolution_step(other_unit).await;
    assert!(result.success && !result.version_accepted, "{result:?}");
    assert_eq!(result.safety_validation.unwrap().decision.decided_by, Rule::DetectorFailed);

    let mut contradictory = scene.step(&v1, "v3", 9.0);
    contradictory.request.observations.test_results[0].tests_run = 9;
    let result = scene.gate.execute_safe_evolution_step(contradictory).await;
    let decision = result.safety_validation.unwrap().decision;
    assert_eq!((decision.outcome, decision.decided_by), (Outcome::Reject, Rule::TestReportInvalid));
}

#[tokio::test]
async fn clean_up_deletes_the_oldest_and_never_what_a_rollback_may_need() {
    let switches = SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() };
    let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
    let old = scene.capture("old", None).await;
    let pinned = scene.capture("pinned", None).await;
    scene.checkpoints.pin(pinned, Some("wanted")).await.unwrap();
    let baseline = scene.capture("named", None).await;
    scene.gate.set_baseline("release", &version("named")).await.unwrap();
    let parent = scene.capture("parent", None).await;
    let incumbent = scene.accepted("v1", Some(parent)).await.checkpoint.unwrap();
    let middle = scene.capture("middle", None).await;
    let newest = scene.capture("candidate", None).await;

    let report = scene.gate.cleanup_old_safety_data(1).await.unwrap();
    assert_eq!((report.checkpoints_deleted, report.kept_protected), (2, 4));
    let kept: Vec<CheckpointId> =
        scene.checkpoints.list().await.unwrap().iter().map(|checkpoint| checkpoint.id).collect();
    assert_eq!(kept, [pinned, baseline, parent, incumbent, newest]);
    let deleted = AuditEvent::CleanedUp { checkpoints: vec![old, middle] };
    assert_eq!(scene.events().await.last(), Some(&deleted));
}

#[tokio::test]
async fn clean_up_keeps_as_many_as_it_was_told_to() {
    let scene = Scene::with(
        SafetySwitches { auto_cleanup: false, ..SafetySwitches::default() },
        ScriptedDetector::comparing_means(0.1),
    );
    for name in ["a", "b", "c", "d"] {
        scene.capture(name, None).await;
    }
    assert_eq!(scene.gate.cleanup_old_safety_data(4).await.unwrap().checkpoints_deleted, 0);
    assert_eq!(scene.gate.cleanup_old_safety_data(3).await.unwrap().checkpoints_deleted, 1);
    let left = scene.checkpoints.list().await.unwrap();
    assert_eq!(left[0].details.version_id, version("b"));
}

#[tokio::test]
async fn a_settlement_keeps_its_own_versions_even_if_the_log_knows_nothing_about_them() {
    let switches = SafetySwitches { max_checkpoints: 1, ..SafetySwitches::default() };
    let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
    // As after a restart of a program with a log in memory: nobody has told this gate about v1.
    let v1 = VersionRef { version_id: version("v1"), checkpoint: Some(scene.capture("v1", None).await) };
    let request = request(Some("v1"), "v2", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v2"), checkpoint: Some(scene.capture("v2", None).await) };
    scene.capture("saved", None).await;
    let settlement = Settlement { new, current: Some(v1.clone()), decision, auto_rollback: true };
    scene.gate.settle(&settlement).await.unwrap();
    let left = scene.checkpoints.list().await.unwrap();
    assert!(left.iter().any(|checkpoint| Some(checkpoint.id) == v1.checkpoint), "{left:?}");
}

#[tokio::test]
async fn a_baseline_is_compared_with_as_it_was_measured() {
    let scene = Scene::new();
    scene.accepted("v1", None).await;
    scene.gate.set_baseline("start", &version("v1")).await.unwrap();
    // Each step is within the threshold of its incumbent; together they are not within that of the baseline.
    let mut second = request(Some("v1"), "v2", 10.9);
    second.observations.incumbent_metrics = vec![samples("latency", &[10.0])];
    let first_step = scene.gate.validate_version_safety(&second).await.unwrap();
    assert_eq!(first_step.decision.outcome, Outcome::Accept);
    let mut third = request(Some("v2"), "v3", 11.8);
    third.observations.incumbent_metrics = vec![samples("latency", &[10.9])];
    let drifted = scene.gate.validate_version_safety(&third).await.unwrap();
    assert_eq!(drifted.decision.decided_by, Rule::Regression, "{}", drifted.decision.summary());
    assert!(scene.gate.set_baseline("no name", &version("v1")).await.is_err());
    assert!(scene.gate.set_baseline("other", &version("unknown")).await.is_err());
}

#[tokio::test]
async fn the_status_has_the_published_fields() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    scene.gate.settle(&settlement).await.unwrap();
    scene.gate.set_baseline("start", &version("v1")).await.unwrap();
    let status = serde_json::to_value(scene.gate.get_safety_status().await.unwrap()).unwrap();
    for field in ["safety_enabled", "auto_checkpoint", "auto_rollback"] {
        assert_eq!(status[field], true, "{field}");
    }
    assert_eq!(status["checkpoint_manager"]["total_checkpoints"], 2);
    assert_eq!(status["checkpoint_manager"]["auto_cleanup_enabled"], true);
    assert!(status["checkpoint_manager"]["total_size_mb"].is_number());
    let expected = serde_json::json!({ "total_rollbacks": 1, "success_rate": 1.0, "auto_rollbacks": 1 });
    assert_eq!(status["rollback_manager"], expected);
    assert_eq!(status["regression_detector"]["threshold"], 0.1);
    assert_eq!(status["baselines"], serde_json::json!([["start", "v1"]]));
}

#[tokio::test]
async fn the_results_of_a_step_have_the_published_fields() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    let result = scene.gate.execute_safe_evolution_step(scene.step(&v1, "v2", 20.0)).await;
    let json = serde_json::to_value(result).unwrap();
    let step = ["success", "version_accepted", "checkpoint_created", "rollback_performed", "actions_taken"];
    let validation = [
        "is_safe",
        "test_passed",
        "regression_detected",
        "rollback_recommended",
        "safety_score",
        "issues",
        "recommendations",
        "regression_details",
        "regression_summary",
    ];
    for (object, fields) in [(&json, &step[..]), (&json["safety_validation"], &validation[..])] {
        for field in fields {
            assert!(!object[field].is_null(), "{field} is missing in {object}");
        }
    }
}

#[tokio::test]
async fn a_judgement_after_thousands_of_iterations_reads_a_bounded_number_of_records() {
    let scene = Scene::new();
    scene.accepted("v0", None).await;
    for iteration in 0..3000 {
        let record = evoseal_metrics::NewRecord {
            version_id: version("v0"),
            recorded_at: evoseal_types::Timestamp::default(),
            metrics: vec![samples("latency", &[10.0])],
            test_results: Vec::new(),
            tags: BTreeMap::from([
                ("role".to_owned(), "incumbent".to_owned()),
                ("beside".to_owned(), iteration.to_string()),
            ]),
        };
        scene.metrics.append(record).await.unwrap();
    }
    let before = scene.metrics.handed_out();
    scene.gate.validate_version_safety(&request(Some("v0"), "v1", 20.0)).await.unwrap();
    let read = scene.metrics.handed_out() - before;
    assert!((1000..=1100).contains(&read), "{read} records for one judgement");
}

#[tokio::test]
async fn an_audit_log_without_new_records_is_not_read_again() {
    #[derive(Debug)]
    struct Counting(FaultyAuditLog, std::sync::atomic::AtomicUsize);
    #[async_trait::async_trait]
    impl AuditLog for Counting {
        async fn append(&self, what: AuditEvent) -> evoseal_safety::Result<evoseal_safety::AuditRecord> {
            self.0.append(what).await
        }
        async fn records(&self) -> evoseal_safety::Result<Vec<evoseal_safety::AuditRecord>> {
            self.records_after(0).await
        }
        async fn records_after(
            &self,
            sequence: u64,
        ) -> evoseal_safety::Result<Vec<evoseal_safety::AuditRecord>> {
            let records = self.0.records_after(sequence).await?;
            self.1.fetch_add(records.len(), std::sync::atomic::Ordering::Relaxed);
            Ok(records)
        }
    }
    let audit = Arc::new(Counting(FaultyAuditLog::new(Faults::default()), 0.into()));
    let gate = SafetyIntegration::builder(
        Arc::new(FakeCheckpointStore::default()),
        Arc::new(MemoryMetrics::default()),
        Arc::new(ScriptedDetector::comparing_means(0.1)),
        Arc::<Counting>::clone(&audit),
        Arc::new(ManualClock::default()),
    )
    .build();
    for iteration in 1..=50 {
        gate.validate_version_safety(&request(None, &format!("v{iteration}"), 10.0)).await.unwrap();
        gate.get_safety_status().await.unwrap();
    }
    let read = audit.1.load(std::sync::atomic::Ordering::Relaxed);
    let written = audit.0.records().await.unwrap().len();
    assert_eq!((read, written), (100, 100), "each record is read once");
    assert_eq!(gate.baselines().await.unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn clean_up_obeys_the_budget_and_spares_what_a_rollback_may_need() {
    let switches = SafetySwitches { auto_cleanup: false, max_store_bytes: 2, ..SafetySwitches::default() };
    let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
    // One byte each.
    let accepted = scene.accepted("a", None).await;
    for name in ["b", "c", "d"] {
        scene.capture(name, None).await;
    }
    let report = scene.gate.cleanup_old_safety_data(50).await.unwrap();
    assert_eq!(report.checkpoints_deleted, 2);
    let left: Vec<CheckpointId> =
        scene.checkpoints.list().await.unwrap().iter().map(|checkpoint| checkpoint.id).collect();
    assert_eq!(left.len(), 2);
    assert_eq!(Some(left[0]), accepted.checkpoint, "the accepted version is the oldest and stays");
}

#[tokio::test]
async fn further_rules_keep_more_than_the_number() {
    let keep_more = RetentionPolicy { within: Duration::from_hours(1), ..RetentionPolicy::default() };
    for (keep_more, left) in [(keep_more, 4), (RetentionPolicy::default(), 1)] {
        let switches = SafetySwitches { auto_cleanup: false, keep_more, ..SafetySwitches::default() };
        let scene = Scene::with(switches, ScriptedDetector::comparing_means(0.1));
        for name in ["a", "b", "c", "d"] {
            scene.capture(name, None).await;
        }
        scene.gate.cleanup_old_safety_data(1).await.unwrap();
        assert_eq!(scene.checkpoints.list().await.unwrap().len(), left);
    }
}

/// The numbers of the rollbacks that the log has, with the versions that were left.
async fn recorded_rollbacks(scene: &Scene) -> Vec<(Option<u64>, Option<String>)> {
    let of = |event| match event {
        AuditEvent::RolledBack { from, rollback, .. } => Some((rollback, from.map(|from| from.to_string()))),
        AuditEvent::RollbackFailed { rollback, .. } => Some((Some(rollback), None)),
        _ => None,
    };
    scene.events().await.into_iter().filter_map(of).collect()
}

/// Settles, and fails from the first step of this name on, as a killed process does.
async fn fail_at(scene: &Scene, settlement: &Settlement, name: &str) {
    let undisturbed = Scene::new();
    let same = refusal(&undisturbed).await;
    undisturbed.faults.disarm();
    undisturbed.gate.settle(&same).await.unwrap();
    let steps = undisturbed.faults.steps();
    let at = steps.iter().position(|step| step == name).unwrap_or_else(|| panic!("no {name} in {steps:?}"));
    scene.faults.arm(at, Fault::Forever);
    scene.gate.settle(settlement).await.unwrap_err();
}

fn by_person(target: CheckpointId) -> RollbackRequest {
    let initiator = Initiator::Person("ada".to_owned());
    RollbackRequest { target: Target::Checkpoint(target), reason: "I liked it better".to_owned(), initiator }
}

#[tokio::test]
async fn rollbacks_by_anybody_stand_in_the_log_once_each_and_in_order() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    let v1 = settlement.current.as_ref().unwrap().checkpoint.unwrap();
    scene.rollback.roll_back(by_person(v1)).await.unwrap();
    assert_eq!(scene.gate.record_rollbacks().await.unwrap(), 1);
    assert_eq!(scene.gate.record_rollbacks().await.unwrap(), 0);
    // Nobody recorded this one.
    scene.rollback.roll_back(by_person(v1)).await.unwrap();
    scene.write("v2");
    scene.gate.settle(&settlement).await.unwrap();
    let left = |number, from: Option<&str>| (Some(number), from.map(str::to_owned));
    assert_eq!(recorded_rollbacks(&scene).await, [left(1, None), left(2, None), left(3, Some("v2"))]);
    assert_eq!(scene.rollback.history().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_rollback_that_was_recorded_nowhere_but_in_its_history_is_not_repeated() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    // The process is killed between the rollback and its record: the append fails, and all is begun anew.
    fail_at(&scene, &settlement, "audit append").await;
    scene.faults.disarm();
    assert_eq!((scene.text(), recorded_rollbacks(&scene).await), ("v1".to_owned(), Vec::new()));
    let report = scene.gate.settle(&settlement).await.unwrap();
    assert!(report.rollback_performed());
    assert_eq!(recorded_rollbacks(&scene).await, [(Some(1), Some("v2".to_owned()))]);
    assert_eq!(scene.rollback.history().await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_consequence_stands_in_the_log_once_wherever_the_process_was_killed() {
    for latency in [9.0, 20.0] {
        let undisturbed = Scene::new();
        let v1 = undisturbed.accepted("v1", None).await;
        let step = undisturbed.step(&v1, "v2", latency);
        undisturbed.faults.disarm();
        undisturbed.gate.execute_safe_evolution_step(step).await;
        let (steps, expected) = (undisturbed.faults.steps(), undisturbed.events().await);
        for (at, name) in steps.iter().enumerate() {
            let scene = Scene::new();
            let v1 = scene.accepted("v1", None).await;
            let step = scene.step(&v1, "v2", latency);
            scene.faults.arm(at, Fault::Forever);
            let killed = scene.gate.execute_safe_evolution_step(step.clone()).await;
            scene.faults.disarm();
            if killed.error.is_none() {
                continue;
            }
            // What was judged already is judged and settled again, as the journal of a loop has it done.
            let judged = scene.gate.validate_version_safety(&step.request).await.unwrap();
            let checkpoint = match killed.checkpoint {
                Some(checkpoint) => checkpoint,
                None => scene.capture("v2", v1.checkpoint).await,
            };
            let new = VersionRef { version_id: version("v2"), checkpoint: Some(checkpoint) };
            let current = Some(v1.clone());
            let settlement = Settlement { new, current, decision: judged.decision, auto_rollback: true };
            scene.gate.settle(&settlement).await.unwrap();
            // A rollback that could not be made is a record of its own; a capture that nobody heard of is another one.
            let unheard = killed.checkpoint.is_none();
            let mut found = scene.events().await;
            found.retain(|event| !matches!(event, AuditEvent::RollbackFailed { .. }));
            let kinds = |events: &[AuditEvent]| {
                let mut kinds: Vec<String> = events.iter().map(kind_of).collect();
                kinds.sort_unstable();
                kinds.retain(|kind| !unheard || kind != "checkpoint_created");
                kinds
            };
            assert_eq!(kinds(&found), kinds(&expected), "killed at step {at} ({name})");
            let history = scene.rollback.history().await.unwrap();
            let numbers: Vec<_> =
                recorded_rollbacks(&scene).await.into_iter().map(|(number, _)| number).collect();
            let all: Vec<_> = history.iter().map(|record| Some(record.sequence)).collect();
            assert_eq!(numbers, all, "killed at step {at} ({name})");
        }
    }
}

/// The name of an event's kind, as in the log.
fn kind_of(event: &AuditEvent) -> String {
    serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_acceptance_too_brings_the_log_up_to_date_with_the_rollbacks() {
    let scene = Scene::new();
    let v1 = scene.accepted("v1", None).await;
    scene.rollback.roll_back(by_person(v1.checkpoint.unwrap())).await.unwrap();
    scene.accepted("v2", v1.checkpoint).await;
    assert_eq!(recorded_rollbacks(&scene).await, [(Some(1), None)]);
}

#[tokio::test]
async fn a_rollback_before_a_decision_does_not_count_as_what_the_decision_asks_for() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    scene.gate.settle(&settlement).await.unwrap();
    // The next proposal changes nothing, and the workspace is where the last rollback led.
    let request = request(Some("v1"), "v3", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v3"), checkpoint: None };
    scene.gate.settle(&Settlement { new, decision, ..settlement.clone() }).await.unwrap();
    // Neither does one by a person, who left no version that has a name.
    let target = settlement.current.as_ref().unwrap().checkpoint.unwrap();
    scene.rollback.roll_back(by_person(target)).await.unwrap();
    scene.gate.record_rollbacks().await.unwrap();
    let request = self::request(Some("v1"), "v4", 20.0);
    let decision = scene.gate.validate_version_safety(&request).await.unwrap().decision;
    let new = VersionRef { version_id: version("v4"), checkpoint: None };
    scene.gate.settle(&Settlement { new, decision, ..settlement }).await.unwrap();
    let left = |number, from: Option<&str>| (Some(number), from.map(str::to_owned));
    let expected = [left(1, Some("v2")), left(2, Some("v3")), left(3, None), left(4, Some("v4"))];
    assert_eq!(recorded_rollbacks(&scene).await, expected);
}

#[tokio::test]
async fn a_rollback_that_failed_is_recorded_with_its_error() {
    let scene = Scene::new();
    let settlement = refusal(&scene).await;
    fail_at(&scene, &settlement, "write program").await;
    scene.faults.disarm();
    let failed = |event: &AuditEvent| matches!(event, AuditEvent::RollbackFailed { rollback: 1, error, .. } if !error.is_empty());
    assert!(scene.gate.settle(&settlement).await.unwrap().rollback_performed());
    assert_eq!(scene.count(failed).await, 1);
    assert_eq!(recorded_rollbacks(&scene).await.len(), 2);
}

#[tokio::test]
async fn evidence_is_kept_before_it_is_named_and_named_before_it_is_decided_on() {
    let (audit, evidence) =
        (FaultyAuditLog::new(Faults::default()), Arc::new(MemoryEvidenceStore::default()));
    let gate = SafetyIntegration::builder(
        Arc::new(FakeCheckpointStore::default()),
        Arc::new(MemoryMetrics::default()),
        Arc::new(ScriptedDetector::comparing_means(0.1)),
        Arc::new(audit.clone()),
        Arc::new(ManualClock::default()),
    )
    .evidence(Arc::<MemoryEvidenceStore>::clone(&evidence))
    .build();
    let request = request(Some("v0"), "v1", 20.0);
    let decision = gate.validate_version_safety(&request).await.unwrap().decision;
    let [kept] = evidence.list().await.unwrap()[..] else { panic!("one evidence") };
    let events: Vec<_> = audit.records().await.unwrap().into_iter().map(|record| record.what).collect();
    let decided = AuditEvent::Decided {
        version_id: version("v1"),
        current_version_id: Some(version("v0")),
        evidence: kept,
        decision: decision.clone(),
    };
    assert_eq!(events, [AuditEvent::Observed { version_id: version("v1"), evidence: kept }, decided]);
    let evidence = evidence.load(kept).await.unwrap();
    assert_eq!(evidence.request, request);
    let again = Rejudgement::of(
        &evidence,
        &decision,
        Some(&ScriptedDetector::comparing_means(0.1)),
        &StandardPolicy::default(),
    );
    assert!(again.is_same());
    // Evidence that cannot be kept is decided on by nobody.
    let refusing = SafetyIntegration::builder(
        Arc::new(FakeCheckpointStore::default()),
        Arc::new(MemoryMetrics::default()),
        Arc::new(ScriptedDetector::comparing_means(0.1)),
        Arc::new(audit.clone()),
        Arc::new(ManualClock::default()),
    )
    .evidence(Arc::new(FileEvidenceStore::new("/proc/no/such/folder")))
    .build();
    refusing.validate_version_safety(&request).await.unwrap_err();
    assert_eq!(audit.records().await.unwrap().len(), 2);
}
