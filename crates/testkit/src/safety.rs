//! Fakes for the safety layer: a rollback that restores in one step, and an audit log that fails when told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore, CheckpointStoreExt, RestoreMode, RestoreReport};
use evoseal_rollback::{
    Attempt, Error, Initiator, Result, Rollback, RollbackMode, RollbackRecord, RollbackReport,
    RollbackRequest, RollbackStatistics, Target,
};
use evoseal_safety::{AuditEvent, AuditLog, AuditRecord, MemoryAuditLog};
use evoseal_types::{CheckpointId, EntryPath, ManualClock, Timestamp};

use crate::Faults;

/// A [`Rollback`] that restores through a checkpoint store and keeps its history in memory. If a target cannot be
/// restored, the other known-good versions are tried, newest first.
///
/// Clones share everything. Each call is a step of the [`Faults`]: `roll back`, `mark known good` and so on. It has no
/// intent on storage: a restore that is cut off is completed by asking again.
#[derive(Debug, Clone)]
pub struct CopyRollback {
    workspace: PathBuf,
    checkpoints: Arc<dyn CheckpointStore>,
    faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    known_good: Vec<CheckpointId>,
    history: Vec<RollbackRecord>,
}

impl CopyRollback {
    /// Rolls `workspace` back to checkpoints of this store.
    pub fn new(workspace: &Path, checkpoints: Arc<dyn CheckpointStore>, faults: Faults) -> Self {
        Self { workspace: workspace.to_owned(), checkpoints, faults, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, action: &'static str) -> Result<()> {
        self.faults.step(action).map_err(|source| Error::Io { action, path: self.workspace.clone(), source })
    }

    async fn resolve(&self, target: &Target) -> Result<CheckpointId> {
        let none = |reason: &str| Error::NoTarget { reason: reason.to_owned() };
        Ok(match target {
            Target::Checkpoint(id) => *id,
            Target::Version(version_id) => self.checkpoints.find_version(version_id).await?.id,
            Target::LastKnownGood => {
                *self.state().known_good.last().ok_or_else(|| none("no known-good version"))?
            }
            Target::Baseline { checkpoint, .. } => *checkpoint,
            Target::Parent => return Err(none("this fake knows no parents")),
            Target::Best(_) => return Err(none("this fake knows no measurements")),
            Target::Undo => return Err(none("this fake knows no way back")),
        })
    }

    async fn try_restore(&self, request: &RollbackRequest) -> (Vec<Attempt>, Result<RollbackReport>) {
        let requested = match self.resolve(&request.target).await {
            Ok(requested) => requested,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let others = self.state().known_good.clone().into_iter().rev().filter(|id| *id != requested);
        let mut attempts = Vec::new();
        for target in [requested].into_iter().chain(others) {
            match self.checkpoints.restore(target, &self.workspace, RestoreMode::InPlace).await {
                Ok(RestoreReport { changes, tree, .. }) => {
                    attempts.push(Attempt { checkpoint: target, error: None });
                    let report = self.checkpoints.load(target).await.map(|checkpoint| RollbackReport {
                        requested,
                        restored: target,
                        version_id: checkpoint.details.version_id,
                        saved: None,
                        changes,
                        tree,
                        attempts: attempts.clone(),
                        caches: Vec::new(),
                        mode: RollbackMode::default(),
                    });
                    return (attempts, report.map_err(Error::from));
                }
                Err(error) => {
                    attempts.push(Attempt { checkpoint: target, error: Some(error.to_string()) });
                }
            }
        }
        (attempts.clone(), Err(Error::Exhausted { attempts }))
    }
}

#[async_trait]
impl Rollback for CopyRollback {
    async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
        self.step("roll back")?;
        let (attempts, outcome) = self.try_restore(&request).await;
        let mut state = self.state();
        let sequence = state.history.len() as u64 + 1;
        state.history.push(RollbackRecord {
            sequence,
            timestamp: Timestamp::default(),
            request,
            from_tree: None,
            report: outcome.as_ref().ok().cloned(),
            attempts,
            error: outcome.as_ref().err().map(ToString::to_string),
            duration: Duration::ZERO,
        });
        outcome
    }

    async fn preview(&self, target: &Target) -> Result<(Checkpoint, RestoreReport)> {
        self.step("preview")?;
        let id = self.resolve(target).await?;
        let plan = self.checkpoints.plan_restore(id, &self.workspace, RestoreMode::InPlace).await?;
        Ok((self.checkpoints.load(id).await?, plan))
    }

    async fn recover(&self) -> Result<Option<RollbackReport>> {
        self.step("recover").map(|()| None)
    }

    async fn clear_caches(&self, _: CheckpointId) -> Result<Vec<EntryPath>> {
        self.step("clear caches").map(|()| Vec::new())
    }

    async fn mark_known_good(&self, id: CheckpointId) -> Result<()> {
        self.step("mark known good")?;
        let mut state = self.state();
        if !state.known_good.contains(&id) {
            state.known_good.push(id);
        }
        Ok(())
    }

    async fn withdraw_known_good(&self, id: CheckpointId) -> Result<()> {
        self.step("withdraw known good")?;
        self.state().known_good.retain(|known| *known != id);
        Ok(())
    }

    async fn known_good(&self) -> Result<Vec<CheckpointId>> {
        self.step("known good")?;
        Ok(self.state().known_good.clone())
    }

    async fn history(&self) -> Result<Vec<RollbackRecord>> {
        self.step("history")?;
        Ok(self.state().history.clone())
    }

    async fn statistics(&self) -> Result<RollbackStatistics> {
        self.step("statistics")?;
        let state = self.state();
        let total = state.history.len() as u64;
        let count = |wanted: &dyn Fn(&RollbackRecord) -> bool| {
            state.history.iter().filter(|record| wanted(record)).count() as u64
        };
        let successful = count(&|record| record.report.is_some());
        Ok(RollbackStatistics {
            total_rollbacks: total,
            successful_rollbacks: successful,
            failed_rollbacks: total - successful,
            success_rate: (total > 0).then(|| successful as f64 / total as f64),
            auto_rollbacks: count(&|record| record.request.initiator == Initiator::Automatic),
            manual_rollbacks: count(&|record| matches!(record.request.initiator, Initiator::Person(_))),
            recovery_rollbacks: count(&|record| record.request.initiator == Initiator::Recovery),
            reason_counts: Vec::new(),
        })
    }
}

/// An audit log in memory whose calls are steps of [`Faults`]: `audit append` and `audit records`. Clones share it.
#[derive(Debug, Clone)]
pub struct FaultyAuditLog {
    inner: Arc<MemoryAuditLog>,
    faults: Faults,
}

impl FaultyAuditLog {
    /// An empty log.
    pub fn new(faults: Faults) -> Self {
        Self { inner: Arc::new(MemoryAuditLog::new(Arc::new(ManualClock::default()))), faults }
    }

    fn step(&self, action: &'static str) -> evoseal_safety::Result<()> {
        let failed = |source| evoseal_safety::Error::AuditIo { action, path: "memory".into(), source };
        self.faults.step(action).map_err(failed)
    }
}

#[async_trait]
impl AuditLog for FaultyAuditLog {
    async fn append(&self, what: AuditEvent) -> evoseal_safety::Result<AuditRecord> {
        self.step("audit append")?;
        self.inner.append(what).await
    }

    async fn records(&self) -> evoseal_safety::Result<Vec<AuditRecord>> {
        self.step("audit records")?;
        self.inner.records().await
    }

    async fn records_after(&self, sequence: u64) -> evoseal_safety::Result<Vec<AuditRecord>> {
        self.step("audit records")?;
        self.inner.records_after(sequence).await
    }
}
