//! The safety layer without a loop: capture a version, ask whether it is safe, and take a whole step.

use std::error::Error;
use std::fs;
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointManager, NewCheckpoint, Source};
use evoseal_metrics::MemoryMetricStore;
use evoseal_regression::{RegressionDetector, RegressionSettings};
use evoseal_rollback::RollbackManager;
use evoseal_safety::{
    EvolutionStep, MemoryAuditLog, Observations, SafetyGate, SafetyGateExt, SafetyIntegration, Settlement,
    ValidationRequest, VersionRef,
};
use evoseal_types::{Direction, MetricSamples, MetricSpec, SystemClock, TestReport, VersionId};

/// What was observed of a version that takes about `latency` milliseconds, beside one that takes about 10.
fn observations(latency: f64, passed: u64, failed: u64) -> Result<Observations, Box<dyn Error>> {
    let spec = MetricSpec::new("latency", "ms", Direction::Increase)?;
    let around = |value: f64| [0.99, 1.01, 1.0, 1.02, 0.98].map(|factor| value * factor);
    Ok(Observations {
        test_results: vec![TestReport::from_counts("unit_tests", passed, failed, 0, 0)],
        metrics: vec![MetricSamples::independent(spec.clone(), &around(latency))],
        incumbent_metrics: vec![MetricSamples::independent(spec, &around(10.0))],
        ..Observations::default()
    })
}

/// v1.1 is accepted, v1.2 breaks a test and is rolled back.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("program");
    let clock = Arc::new(SystemClock::new());
    let checkpoints = Arc::new(CheckpointManager::builder().in_memory().open_or_create()?);
    let rollback = RollbackManager::builder(
        Arc::<CheckpointManager>::clone(&checkpoints),
        folder.path(),
        folder.path().join(".evoseal/rollback"),
        Arc::<SystemClock>::clone(&clock),
    )
    .build()?;
    let safety = SafetyIntegration::builder(
        checkpoints,
        Arc::new(MemoryMetricStore::new()),
        Arc::new(RegressionDetector::new(&RegressionSettings::default())?),
        Arc::new(MemoryAuditLog::new(Arc::<SystemClock>::clone(&clock))),
        clock,
    )
    .rollback(Arc::new(rollback))
    .build();
    let (v1_1, v1_2) = (VersionId::new("v1.1")?, VersionId::new("v1.2")?);

    // Capture a version. The handle returns as soon as the workspace may change again.
    fs::write(&program, "the first version")?;
    let source = Source::Directory(folder.path().to_owned());
    let handle = safety.create_safety_checkpoint(source.clone(), NewCheckpoint::of(v1_1.clone())).await?;
    let checkpoint = handle.durable().await?.id;

    // Ask whether it is safe, and make it the accepted one.
    let mut first = observations(10.0, 12, 0)?;
    first.incumbent_metrics.clear();
    let request = ValidationRequest {
        current_version_id: None,
        new_version_id: v1_1.clone(),
        observations: first,
        objective: None,
    };
    let validation = safety.validate_version_safety(&request).await?;
    assert!(validation.is_safe && validation.test_passed, "{:?}", validation.issues);
    let settlement = Settlement {
        new: VersionRef { version_id: v1_1.clone(), checkpoint: Some(checkpoint) },
        current: None,
        decision: validation.decision,
        auto_rollback: true,
    };
    assert!(safety.settle(&settlement).await?.version_accepted);

    // A whole step: capture, judge, and accept or go back.
    fs::write(&program, "a version that breaks a test")?;
    let step = EvolutionStep {
        request: ValidationRequest {
            current_version_id: Some(v1_1),
            new_version_id: v1_2,
            observations: observations(9.0, 11, 1)?,
            objective: None,
        },
        new_version_data: source,
        current_checkpoint: Some(checkpoint),
    };
    let result = safety.execute_safe_evolution_step(step).await;
    assert!(result.success && result.rollback_performed && !result.version_accepted, "{result:#?}");
    assert_eq!(fs::read_to_string(&program)?, "the first version");
    let validation = result.safety_validation.ok_or("a step that succeeded has a judgement")?;
    assert!(validation.issues.iter().any(|issue| issue.contains("1 of 12 tests failed")), "{validation:?}");
    Ok(())
}
