//! The standard gate over fakes: once is once, and errors are denials.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use evoseal_metrics::{MetricStore, RecordFilter};
use evoseal_rollback::Rollback;
use evoseal_safety::{
    AuditEvent, AuditLog, EvidenceStore, FileEvidenceStore, MemoryEvidenceStore, Outcome, Rejudgement, Rule,
    SafetyGate, SafetyGateExt, SafetyIntegration, SafetySwitches, Settlement, StandardPolicy, VersionRef,
};
use evoseal_testkit::{FakeCheckpointStore, Fault, Faults, FaultyAuditLog, MemoryMetrics, ScriptedDetector};
use evoseal_types::ManualClock;
use support::scene::{Scene, refusal, request};
use support::{samples, version};

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
