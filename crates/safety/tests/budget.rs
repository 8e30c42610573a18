//! The size budget deletes no checkpoint for nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use evoseal_checkpoint::{
    CheckpointManager, CheckpointSettings, LockMode, MemoryBackend, NewCheckpoint, ObjectBackend, Source,
};
use evoseal_safety::{SafetyGate, SafetyIntegration, SafetySwitches};
use evoseal_testkit::{Faults, FaultyAuditLog, MemoryMetrics, ScriptedDetector};
use evoseal_types::{Digest, ManualClock};

const BUDGET: u64 = 1_950_000;

/// Twenty checkpoints of a hundred kilobytes each, a little more than the budget.
fn store_over_budget() -> (MemoryBackend, CheckpointManager) {
    let backend = MemoryBackend::new();
    let settings =
        CheckpointSettings { auto_cleanup: false, max_store_bytes: BUDGET, ..CheckpointSettings::default() };
    let builder = CheckpointManager::builder().backend(Arc::new(backend.clone())).settings(settings);
    let store = builder.create().unwrap();
    for number in 0..20_u32 {
        let block = |block: u32| *Digest::of(format!("{number} {block}").as_bytes()).as_bytes();
        let noise: Vec<u8> = (0..3125).flat_map(block).collect();
        let source = Source::Entries(BTreeMap::from([("a".parse().unwrap(), noise)]));
        store.create_blocking(&source, NewCheckpoint::of(format!("v{number}").parse().unwrap())).unwrap();
    }
    (backend, store)
}

async fn clean_up(store: &CheckpointManager) -> u64 {
    let faults = Faults::default();
    let gate = SafetyIntegration::builder(
        Arc::new(store.clone()),
        Arc::new(MemoryMetrics::with_faults(faults.clone())),
        Arc::new(ScriptedDetector::comparing_means(0.1)),
        Arc::new(FaultyAuditLog::new(faults)),
        Arc::new(ManualClock::default()),
    );
    let switches = SafetySwitches { max_store_bytes: BUDGET, ..SafetySwitches::default() };
    let report = gate.switches(switches).build().cleanup_old_safety_data(50).await.unwrap();
    report.checkpoints_deleted
}

#[tokio::test]
async fn a_budget_that_is_exceeded_costs_the_few_oldest_checkpoints() {
    let (_, store) = store_over_budget();
    let deleted = clean_up(&store).await;
    assert!((1..=4).contains(&deleted), "{deleted} of 20");
}

#[tokio::test]
async fn while_someone_captures_and_no_storage_can_come_back_at_most_one_checkpoint_goes() {
    let (backend, store) = store_over_budget();
    let capturing = backend.lock(LockMode::Shared).unwrap();
    let deleted = clean_up(&store).await;
    drop(capturing);
    assert!(deleted <= 1, "{deleted} of 20 were deleted, and nothing came back");
}
