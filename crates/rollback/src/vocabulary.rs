//! The published names, each a short way to say what [`Rollback`] does.

use evoseal_checkpoint::Checkpoint;
use evoseal_types::{TestReport, TestStatus, VersionId};

use crate::{
    Error, Initiator, Result, Rollback, RollbackManager, RollbackRecord, RollbackReport, RollbackRequest,
    RollbackStatistics, Target,
};

impl RollbackManager {
    /// Rolls back to the newest checkpoint of a version, for a person.
    ///
    /// An `Ok` says in [`RollbackReport::fell_back`] whether an older version had to take its place.
    pub async fn rollback_to_version(
        &self,
        version_id: &VersionId,
        person: &str,
        reason: &str,
    ) -> Result<RollbackReport> {
        let initiator = Initiator::Person(person.to_owned());
        let target = Target::Version(version_id.clone());
        self.roll_back(RollbackRequest { target, reason: reason.to_owned(), initiator }).await
    }

    /// Rolls back from `failed` if its tests or metrics say so; `None` if they do not.
    ///
    /// Tests that failed, erred, contradict themselves or did not run are a reason, and so is the absence of any
    /// report: no evidence is no success. `regressed` are the metrics that a detector found to be worse. The target is
    /// that of [`cascading_rollback`](Self::cascading_rollback).
    pub async fn auto_rollback_on_failure(
        &self,
        failed: &VersionId,
        tests: &[TestReport],
        regressed: &[String],
    ) -> Result<Option<RollbackReport>> {
        let mut reasons = Vec::new();
        if tests.is_empty() || !tests.iter().all(has_passed) {
            reasons.push("test_failure");
        }
        if !regressed.is_empty() {
            reasons.push("metrics_regression");
        }
        if reasons.is_empty() {
            return Ok(None);
        }
        let reason = format!("auto_rollback: {}", reasons.join(", "));
        self.leave(failed, reason).await.map(Some)
    }

    /// Rolls back to the parent of `failed` or, where it has none, to the newest known-good version of another name;
    /// older known-good versions take its place as the settings allow.
    pub async fn cascading_rollback(&self, failed: &VersionId) -> Result<RollbackReport> {
        self.leave(failed, format!("cascading_rollback: {failed}")).await
    }

    /// The newest records first, at most `limit` of them.
    pub async fn get_rollback_history(&self, limit: Option<usize>) -> Result<Vec<RollbackRecord>> {
        let records = self.history().await?.into_iter().rev();
        Ok(records.take(limit.unwrap_or(usize::MAX)).collect())
    }

    /// Counts over the history.
    pub async fn get_rollback_statistics(&self) -> Result<RollbackStatistics> {
        self.statistics().await
    }

    /// Whether a rollback to the version could start: a complete checkpoint of it exists and can be planned. Damage in
    /// file contents shows only when they are read.
    pub async fn can_rollback_to_version(&self, version_id: &VersionId) -> Result<bool> {
        match self.preview(&Target::Version(version_id.clone())).await {
            Ok(_) => Ok(true),
            Err(Error::NoTarget { .. } | Error::Checkpoint(evoseal_checkpoint::Error::Damaged { .. })) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Every checkpoint that can be rolled back to, newest first.
    pub async fn get_available_rollback_targets(&self) -> Result<Vec<Checkpoint>> {
        let mut checkpoints = self.protocol.store.list().await?;
        checkpoints.reverse();
        Ok(checkpoints)
    }

    /// Rolls back from a version to the one before it.
    async fn leave(&self, failed: &VersionId, reason: String) -> Result<RollbackReport> {
        let target = self.before(failed).await?;
        self.roll_back(RollbackRequest { target, reason, initiator: Initiator::Automatic }).await
    }

    /// Where to go from a version that failed.
    async fn before(&self, failed: &VersionId) -> Result<Target> {
        let checkpoints = self.protocol.store.list().await?;
        let is_failed = |checkpoint: &&Checkpoint| checkpoint.details.version_id == *failed;
        let parent = checkpoints.iter().rev().find(is_failed).and_then(|found| found.details.parent);
        if let Some(parent) = parent
            && checkpoints.iter().any(|checkpoint| checkpoint.id == parent)
        {
            return Ok(Target::Checkpoint(parent));
        }
        let known_good = self.known_good().await?;
        let other = known_good
            .into_iter()
            .rev()
            .find(|id| checkpoints.iter().any(|checkpoint| checkpoint.id == *id && !is_failed(&checkpoint)));
        // Without another good version the request goes through all the same, so that its failure is on record.
        Ok(other.map_or(Target::Parent, Target::Checkpoint))
    }
}

fn has_passed(report: &TestReport) -> bool {
    report.status == TestStatus::Pass && report.tests_passed > 0 && report.check().is_ok()
}
