//! Watching the safety layer: its status, its audit log, and cleaning up what is no longer needed.

use std::error::Error;
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointManager, NewCheckpoint, Source};
use evoseal_metrics::MemoryMetricStore;
use evoseal_regression::{RegressionDetector, RegressionSettings};
use evoseal_safety::{AuditEvent, AuditLog, FileAuditLog, SafetyGate, SafetyIntegration};
use evoseal_types::{EntryPath, SystemClock, VersionId};

/// Forty checkpoints, one of them a baseline; thirty are kept.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let clock = Arc::new(SystemClock::new());
    let audit =
        Arc::new(FileAuditLog::new(folder.path().join("audit.jsonl"), Arc::<SystemClock>::clone(&clock)));
    let safety = SafetyIntegration::builder(
        Arc::new(CheckpointManager::builder().in_memory().open_or_create()?),
        Arc::new(MemoryMetricStore::new()),
        Arc::new(RegressionDetector::new(&RegressionSettings::default())?),
        Arc::<FileAuditLog>::clone(&audit),
        clock,
    )
    .build();
    for number in 0..40 {
        let content = format!("version {number}").into_bytes();
        let entries = [(EntryPath::new("program")?, content)].into();
        let details = NewCheckpoint::of(VersionId::new(format!("v{number}"))?);
        safety.create_safety_checkpoint(Source::Entries(entries), details).await?.durable().await?;
    }
    safety.set_baseline("release", &VersionId::new("v0")?).await?;

    let status = safety.get_safety_status().await?;
    assert!(status.safety_enabled && status.auto_rollback);
    assert_eq!(status.checkpoint_manager.total_checkpoints, 40);
    assert_eq!(status.rollback_manager, None, "there is no workspace to roll back");
    assert!((status.regression_detector.threshold - 0.1).abs() < 1e-12);
    assert_eq!(status.baselines, [("release".to_owned(), VersionId::new("v0")?)]);

    // What would go is shown first; the baseline stays although it is the oldest.
    let plan = safety.cleanup_plan(30).await?;
    assert_eq!(plan[0].details.version_id.as_str(), "v1");
    let cleaned = safety.cleanup_old_safety_data(30).await?;
    assert_eq!(cleaned.checkpoints_deleted, 10);
    assert_eq!(safety.get_safety_status().await?.checkpoint_manager.total_checkpoints, 30);

    // Everything that was done stands in the audit log, whose chain is checked on the way.
    let records = audit.records().await?;
    assert_eq!(records.len(), 42);
    assert!(matches!(records[41].what, AuditEvent::CleanedUp { ref checkpoints } if checkpoints.len() == 10));
    Ok(())
}
