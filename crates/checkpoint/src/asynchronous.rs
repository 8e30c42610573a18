//! The manager as a [`CheckpointStore`]: the same work, off the asynchronous threads.

use std::path::Path;

use async_trait::async_trait;
use evoseal_types::{CheckpointId, Digest, EntryPath};
use tokio::sync::oneshot;

use crate::store::{
    Checkpoint, CheckpointHandle, CheckpointStatistics, CheckpointStore, DeleteReport, Entry, GarbageReport,
    HealReport, NewCheckpoint, RestoreMode, RestoreReport, Source, VerifyDepth, VerifyReport,
};
use crate::{CheckpointManager, Error, Patterns, PruneReport, Result, RetentionPolicy};

impl CheckpointManager {
    async fn off_thread<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let manager = self.clone();
        match tokio::task::spawn_blocking(move || work(&manager)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Interrupted { action }),
        }
    }
}

/// What only this kind of store does, off the asynchronous threads.
impl CheckpointManager {
    /// See [`plan_restore_part_blocking`](Self::plan_restore_part_blocking).
    pub async fn plan_restore_part(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
        patterns: &Patterns,
    ) -> Result<RestoreReport> {
        let (target, patterns) = (target.to_owned(), patterns.clone());
        self.off_thread("planning a restore", move |manager| {
            manager.plan_restore_part_blocking(id, &target, mode, &patterns)
        })
        .await
    }

    /// See [`restore_part_blocking`](Self::restore_part_blocking).
    pub async fn restore_part(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
        patterns: &Patterns,
    ) -> Result<RestoreReport> {
        let (target, patterns) = (target.to_owned(), patterns.clone());
        self.off_thread("restoring", move |manager| {
            manager.restore_part_blocking(id, &target, mode, &patterns)
        })
        .await
    }

    /// See [`verify_to_depth_blocking`](Self::verify_to_depth_blocking).
    pub async fn verify_to_depth(&self, ids: &[CheckpointId], depth: VerifyDepth) -> Result<VerifyReport> {
        let ids = ids.to_vec();
        self.off_thread("verifying", move |manager| manager.verify_to_depth_blocking(&ids, depth)).await
    }

    /// See [`heal_blocking`](Self::heal_blocking).
    pub async fn heal(&self, workspace: &Path) -> Result<HealReport> {
        let workspace = workspace.to_owned();
        self.off_thread("healing", move |manager| manager.heal_blocking(&workspace)).await
    }

    /// See [`plan_prune_blocking`](Self::plan_prune_blocking).
    pub async fn plan_prune(&self, policy: &RetentionPolicy, max_store_bytes: u64) -> Result<PruneReport> {
        let policy = *policy;
        self.off_thread("planning a clean-up", move |manager| {
            manager.plan_prune_blocking(&policy, max_store_bytes)
        })
        .await
    }

    /// See [`prune_blocking`](Self::prune_blocking).
    pub async fn prune(&self, policy: &RetentionPolicy, max_store_bytes: u64) -> Result<PruneReport> {
        let policy = *policy;
        self.off_thread("cleaning up", move |manager| manager.prune_blocking(&policy, max_store_bytes)).await
    }

    /// See [`plan_garbage_blocking`](Self::plan_garbage_blocking).
    pub async fn plan_garbage(&self, gone: &[CheckpointId]) -> Result<GarbageReport> {
        let gone = gone.to_vec();
        self.off_thread("planning a collection", move |manager| manager.plan_garbage_blocking(&gone)).await
    }

    /// See [`collect_garbage_blocking`](Self::collect_garbage_blocking).
    pub async fn collect_garbage(&self) -> Result<GarbageReport> {
        self.off_thread("collecting garbage", Self::collect_garbage_blocking).await
    }
}

#[async_trait]
impl CheckpointStore for CheckpointManager {
    /// One blocking task captures, hands the handle over, and goes on to make the checkpoint durable: dropping the
    /// future or the handle does not stop it.
    async fn create(&self, source: Source, details: NewCheckpoint) -> Result<CheckpointHandle> {
        let (captured, when_captured) = oneshot::channel();
        let (durable, when_durable) = oneshot::channel();
        let manager = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _pass = manager.engine.gate.enter();
            match manager.engine.capture(&source, details) {
                Err(error) => {
                    let _ = captured.send(Err(error));
                }
                Ok(pending) => {
                    let _ = captured.send(Ok((pending.checkpoint.clone(), pending.stats.clone())));
                    let _ = durable.send(manager.finish(pending).map(|_| ()));
                }
            }
        });
        match when_captured.await {
            Ok(Ok((checkpoint, stats))) => Ok(CheckpointHandle::new(checkpoint, stats, when_durable)),
            Ok(Err(error)) => Err(error),
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => Err(Error::Interrupted { action: "capturing a checkpoint" }),
            },
        }
    }

    async fn list(&self) -> Result<Vec<Checkpoint>> {
        self.off_thread("listing checkpoints", Self::list_blocking).await
    }

    async fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
        self.off_thread("loading a checkpoint", move |manager| manager.load_blocking(id)).await
    }

    async fn entries(&self, id: CheckpointId) -> Result<Vec<Entry>> {
        self.off_thread("reading a tree", move |manager| manager.entries_blocking(id)).await
    }

    async fn read_file(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>> {
        let path = path.clone();
        self.off_thread("reading a file", move |manager| manager.read_file_blocking(id, &path)).await
    }

    async fn plan_restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        let target = target.to_owned();
        self.off_thread("planning a restore", move |manager| manager.plan_restore_blocking(id, &target, mode))
            .await
    }

    async fn restore(&self, id: CheckpointId, target: &Path, mode: RestoreMode) -> Result<RestoreReport> {
        let target = target.to_owned();
        self.off_thread("restoring", move |manager| manager.restore_blocking(id, &target, mode)).await
    }

    async fn tree_digest(&self, directory: &Path) -> Result<Digest> {
        let directory = directory.to_owned();
        self.off_thread("reading a workspace", move |manager| manager.tree_digest_blocking(&directory)).await
    }

    async fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        let ids = ids.to_vec();
        self.off_thread("deleting checkpoints", move |manager| manager.delete_blocking(&ids)).await
    }

    async fn pin(&self, id: CheckpointId, reason: Option<&str>) -> Result<()> {
        let reason = reason.map(str::to_owned);
        self.off_thread("pinning a checkpoint", move |manager| manager.pin_blocking(id, reason.as_deref()))
            .await
    }

    async fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
        let ids = ids.to_vec();
        self.off_thread("verifying", move |manager| manager.verify_blocking(&ids)).await
    }

    async fn statistics(&self) -> Result<CheckpointStatistics> {
        self.off_thread("counting", Self::get_checkpoint_statistics).await
    }
}
