//! A part of the library that fails: an error is a denial, never an acceptance.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_pipeline::{Evaluation, EvolutionPipeline, IterationOutcome, PipelineParts, RunOptions};
use evoseal_regression::{
    Assessment, Detector, DetectorStatus, Measurements, RegressionDetector, RegressionSettings,
};
use evoseal_safety::{AuditEvent, AuditLog, AuditRecord, MemoryAuditLog, SafetyIntegration};
use evoseal_tests::Assembly;
use evoseal_tests::scripted::{FunctionEvaluator, FunctionProposer};
use evoseal_types::{Direction, ManualClock, MetricSamples, MetricSpec, TestReport};

/// A detector that fails as soon as there is something to compare.
#[derive(Debug)]
struct Failing;

impl Detector for Failing {
    fn assess(&self, _: &Measurements) -> evoseal_regression::Result<Assessment> {
        Err(evoseal_regression::Error::Invalid { what: "arithmetic".to_owned(), reason: "a bug".to_owned() })
    }

    fn status(&self) -> DetectorStatus {
        RegressionDetector::new(&RegressionSettings::default()).unwrap().status()
    }
}

/// An audit log that cannot write acceptances.
#[derive(Debug)]
struct FullDisk(MemoryAuditLog);

#[async_trait]
impl AuditLog for FullDisk {
    async fn append(&self, event: AuditEvent) -> evoseal_safety::Result<AuditRecord> {
        if let AuditEvent::Accepted { version_id, .. } = &event
            && version_id.as_str() != "v0"
        {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(evoseal_safety::Error::AuditIo { action: "write", path: "audit".into(), source });
        }
        self.0.append(event).await
    }

    async fn records(&self) -> evoseal_safety::Result<Vec<AuditRecord>> {
        self.0.records().await
    }

    async fn records_after(&self, sequence: u64) -> evoseal_safety::Result<Vec<AuditRecord>> {
        self.0.records_after(sequence).await
    }
}

/// A loop whose candidates are as good as the version before, over these parts.
fn pipeline(parts: &Assembly, detector: Arc<dyn Detector>, audit: Arc<dyn AuditLog>) -> EvolutionPipeline {
    let gate = SafetyIntegration::builder(
        Arc::new(parts.checkpoints.clone()),
        Arc::clone(&parts.metrics),
        detector,
        audit,
        Arc::clone(&parts.clock),
    )
    .rollback(Arc::clone(&parts.rollback) as _)
    .build();
    let spec = MetricSpec::new("latency", "ms", Direction::Increase).unwrap();
    let evaluator = FunctionEvaluator::new(move |request| {
        let samples = || vec![MetricSamples::independent(spec.clone(), &[10.0, 10.1, 9.9, 10.05, 9.95])];
        Ok(Evaluation {
            test_results: vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)],
            metrics: samples(),
            incumbent_metrics: request.incumbent.iter().flat_map(|_| samples()).collect(),
            ..Evaluation::default()
        })
    });
    EvolutionPipeline::builder(PipelineParts {
        workspace: parts.workspace.clone(),
        state_directory: parts.state_directory.clone(),
        proposer: Arc::new(FunctionProposer::writing("program", |iteration| format!("version {iteration}"))),
        evaluator: Arc::new(evaluator),
        gate: Arc::new(gate),
        checkpoints: Arc::new(parts.checkpoints.clone()),
        clock: Arc::clone(&parts.clock),
    })
    .build()
}

fn memory_log() -> MemoryAuditLog {
    MemoryAuditLog::new(Arc::new(ManualClock::default()))
}

async fn ground() -> (tempfile::TempDir, Assembly) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("program"), "version 0").unwrap();
    let parts = Assembly::open(&folder.path().canonicalize().unwrap()).await.unwrap();
    (folder, parts)
}

#[tokio::test]
async fn a_detector_that_fails_denies_and_says_so() {
    let (folder, parts) = ground().await;
    let pipeline = pipeline(&parts, Arc::new(Failing), Arc::new(memory_log()));
    let report = pipeline.run(RunOptions::default()).await.unwrap();
    let result = &report.results[0];
    assert!(!result.version_accepted, "{result:?}");
    assert_ne!(result.outcome, IterationOutcome::Accepted);
    assert!(result.reasons().iter().any(|reason| reason.contains("a bug")), "{:?}", result.reasons());
    assert_eq!(fs::read_to_string(folder.path().join("program")).unwrap(), "version 0");
}

#[tokio::test]
async fn an_acceptance_that_cannot_be_recorded_ends_the_run_and_is_completed_by_the_next() {
    let (folder, parts) = ground().await;
    let detector = || Arc::clone(&parts.detector) as Arc<dyn Detector>;
    let failing = pipeline(&parts, detector(), Arc::new(FullDisk(memory_log())));
    failing.run(RunOptions::default()).await.unwrap_err();

    let working = pipeline(&parts, detector(), Arc::new(memory_log()));
    let report = working.run(RunOptions::default()).await.unwrap();
    assert_eq!(report.results[0].iteration, 1, "the decision that was made is carried out");
    assert!(report.results[0].version_accepted);
    assert_eq!(fs::read_to_string(folder.path().join("program")).unwrap(), "version 1");
}
