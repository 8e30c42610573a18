//! Which checkpoints the standard gate deletes, and which a rollback may need.

use std::collections::BTreeSet;

use evoseal_checkpoint::{Checkpoint, DeleteReport, RetentionPolicy, surplus};
use evoseal_types::CheckpointId;

use crate::audit::AuditEvent;
use crate::gate::CleanupReport;
use crate::{Result, SafetyIntegration};

/// How many held candidates a clean-up leaves alone, the newest ones: a run that decides little must not fill the disk.
const HELD_MAX: usize = 20;

impl SafetyIntegration {
    /// What [`cleanup_old_safety_data`](crate::SafetyGate::cleanup_old_safety_data) would delete, oldest first.
    ///
    /// # Errors
    ///
    /// Of the checkpoint store; it refuses to keep none at all.
    pub async fn cleanup_plan(&self, keep_checkpoints: usize) -> Result<Vec<Checkpoint>> {
        self.plan_clean_up(keep_checkpoints, BTreeSet::new()).await.map(|(doomed, _)| doomed)
    }

    /// Checkpoints that no clean-up may delete: those `in_use`, known-good ones, the newest held ones, baselines, the parents of
    /// all of these, and the newest, which may be a candidate that is being judged right now.
    async fn protected(
        &self,
        in_use: BTreeSet<CheckpointId>,
        listed: &[Checkpoint],
    ) -> Result<BTreeSet<CheckpointId>> {
        let mut protected = in_use;
        {
            let remembered = self.remembered().await?;
            protected.extend(remembered.baselines.values().map(|(_, checkpoint)| *checkpoint));
            protected.extend(remembered.accepted.keys());
            protected.extend(remembered.held.iter().rev().take(HELD_MAX).map(|(_, checkpoint)| *checkpoint));
        }
        if let Some(rollback) = &self.rollback {
            protected.extend(rollback.known_good().await?);
        }
        let children = listed.iter().filter(|checkpoint| protected.contains(&checkpoint.id));
        let parents: Vec<CheckpointId> = children.filter_map(|child| child.details.parent).collect();
        protected.extend(parents);
        protected.extend(listed.last().map(|checkpoint| checkpoint.id));
        Ok(protected)
    }

    /// What a clean-up would delete, oldest first, and how many checkpoints it would leave.
    async fn plan_clean_up(
        &self,
        keep_checkpoints: usize,
        in_use: BTreeSet<CheckpointId>,
    ) -> Result<(Vec<Checkpoint>, usize)> {
        let mut listed = self.checkpoints.list().await?;
        let protected = self.protected(in_use, &listed).await?;
        // Also refuses to keep none at all.
        let mut doomed: BTreeSet<CheckpointId> =
            surplus(&listed, keep_checkpoints as u64, &protected)?.into_iter().collect();
        let policy = RetentionPolicy { last: keep_checkpoints as u64, ..self.switches.keep_more };
        let candidates: Vec<_> = listed.iter().map(Into::into).collect();
        for decision in policy.decide(&candidates, &protected)? {
            if decision.verdict.is_keep() {
                doomed.remove(&decision.id);
            }
        }
        let left = listed.len() - doomed.len();
        listed.retain(|checkpoint| doomed.contains(&checkpoint.id));
        Ok((listed, left))
    }

    /// Deletes the oldest checkpoints that nobody may need until the store is well below its budget, should it be above.
    /// One at a time: how much comes back is known only afterwards.
    async fn obey_budget(&self, in_use: BTreeSet<CheckpointId>, deleted: &mut DeleteReport) -> Result<()> {
        let budget = self.switches.max_store_bytes;
        if budget == 0 || self.checkpoints.statistics().await?.total_size_bytes <= budget {
            return Ok(());
        }
        let listed = self.checkpoints.list().await?;
        let protected = self.protected(in_use, &listed).await?;
        let may_go = |found: &&Checkpoint| found.pinned.is_none() && !protected.contains(&found.id);
        for checkpoint in listed.iter().filter(may_go) {
            let one = self.checkpoints.delete(&[checkpoint.id]).await?;
            deleted.checkpoints.extend(one.checkpoints);
            deleted.bytes_freed += one.bytes_freed;
            // Storage that does not come back now, because someone is capturing or the store is damaged, would not come back
            // for any other checkpoint either: none is deleted for nothing.
            if one.bytes_freed == 0 {
                break;
            }
            if self.checkpoints.statistics().await?.total_size_bytes <= budget - budget / 10 {
                break;
            }
        }
        Ok(())
    }

    /// Checkpoints that no clean-up may delete because a rollback may need them: known-good versions, baselines, the parents
    /// of these, and the newest.
    ///
    /// # Errors
    ///
    /// Of the checkpoint store, the audit log and the rollback manager.
    pub async fn protected_checkpoints(&self) -> Result<BTreeSet<CheckpointId>> {
        let listed = self.checkpoints.list().await?;
        self.protected(BTreeSet::new(), &listed).await
    }

    /// Deletes the oldest checkpoints until `keep_checkpoints` are left, except those that are protected.
    pub(crate) async fn clean_up(
        &self,
        keep_checkpoints: usize,
        in_use: BTreeSet<CheckpointId>,
    ) -> Result<CleanupReport> {
        let (plan, left) = self.plan_clean_up(keep_checkpoints, in_use.clone()).await?;
        let kept_protected = left.saturating_sub(keep_checkpoints) as u64;
        let doomed: Vec<CheckpointId> = plan.iter().map(|checkpoint| checkpoint.id).collect();
        let mut deleted = DeleteReport::default();
        if !doomed.is_empty() {
            deleted = self.checkpoints.delete(&doomed).await?;
        }
        self.obey_budget(in_use, &mut deleted).await?;
        if deleted.checkpoints.is_empty() {
            return Ok(CleanupReport { checkpoints_deleted: 0, bytes_freed: 0, kept_protected });
        }
        self.audit.append(AuditEvent::CleanedUp { checkpoints: deleted.checkpoints.clone() }).await?;
        Ok(CleanupReport {
            checkpoints_deleted: deleted.checkpoints.len() as u64,
            bytes_freed: deleted.bytes_freed,
            kept_protected,
        })
    }
}
