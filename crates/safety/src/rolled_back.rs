//! Rollbacks in the audit log: each record of their history once, whoever asked and wherever a process was killed.

use evoseal_rollback::{Rollback, RollbackRecord, RollbackReport, Target};
use evoseal_types::{CheckpointId, VersionId};

use crate::audit::AuditEvent;
use crate::{Result, SafetyIntegration};

impl SafetyIntegration {
    /// Adds to the audit log what the history of rollbacks has and the log does not, oldest first, and says how many those
    /// were: rollbacks by a person or a recovery, and one whose process was killed before it could be recorded.
    ///
    /// Each settlement does this; so should whoever rolls back without one. The caller holds the lock of the run: two
    /// processes that do this at once would both add the same.
    pub async fn record_rollbacks(&self) -> Result<u64> {
        match &self.rollback {
            Some(rollback) => self.record(&rollback.history().await?, None).await,
            None => Ok(0),
        }
    }

    /// The same after a rollback that left `from`, for a reason.
    pub(crate) async fn record_rollbacks_after(&self, from: &VersionId, reason: &str) -> Result<()> {
        let Some(rollback) = &self.rollback else { return Ok(()) };
        self.record(&rollback.history().await?, Some((from, reason))).await.map(drop)
    }

    /// The report of the rollback that a settlement is about, if there was one since the decision and the workspace still is
    /// where it led: a settlement that is repeated must not roll back twice. It is in the log afterwards.
    pub(crate) async fn rolled_back_already(
        &self,
        rollback: &dyn Rollback,
        from: &VersionId,
        reason: &str,
        requested: CheckpointId,
    ) -> Result<Option<RollbackReport>> {
        let history = rollback.history().await?;
        let newest = history.last().and_then(|newest| Some((newest.sequence, newest.report.as_ref()?)));
        let report = match newest.filter(|(_, report)| report.requested == requested) {
            Some((number, report)) if self.is_since_decision(number, from).await? => {
                let plan = rollback.preview(&Target::Checkpoint(report.restored)).await;
                plan.is_ok_and(|(_, plan)| plan.changes.is_empty()).then(|| report.clone())
            }
            _ => None,
        };
        self.record(&history, report.as_ref().map(|_| (from, reason))).await?;
        Ok(report)
    }

    /// Whether the rollback with this number came after the latest decision on a version, and left no other one. One that
    /// the log does not have yet did: every settlement brings the log up to date.
    async fn is_since_decision(&self, number: u64, version_id: &VersionId) -> Result<bool> {
        let remembered = self.remembered().await?;
        let Some(last) = remembered.last_rollback.as_ref().filter(|last| last.number >= number) else {
            return Ok(true);
        };
        let decided = remembered.decided.get(version_id).copied().unwrap_or_default();
        Ok(last.record > decided && last.from.as_ref().is_none_or(|from| from == version_id))
    }

    /// Adds what is not in the log. `left` is the version that the newest rollback left, and why.
    async fn record(&self, history: &[RollbackRecord], left: Option<(&VersionId, &str)>) -> Result<u64> {
        let known = self.remembered().await?.last_rollback.as_ref().map_or(0, |last| last.number);
        let mut added = 0;
        for record in history.iter().filter(|record| record.sequence > known) {
            let is_newest = history.last().is_some_and(|newest| newest.sequence == record.sequence);
            self.audit.append(event_of(record, left.filter(|_| is_newest))).await?;
            added += 1;
        }
        Ok(added)
    }
}

/// What the log says about a rollback.
fn event_of(record: &RollbackRecord, left: Option<(&VersionId, &str)>) -> AuditEvent {
    let reason = left.map_or(record.request.reason.as_str(), |(_, reason)| reason).to_owned();
    let (initiator, rollback) = (record.request.initiator.clone(), record.sequence);
    match &record.report {
        Some(report) => AuditEvent::RolledBack {
            from: left.map(|(from, _)| from.clone()),
            to: report.restored,
            reason,
            initiator,
            rollback: Some(rollback),
        },
        None => AuditEvent::RollbackFailed {
            reason,
            error: record.error.clone().unwrap_or_default(),
            initiator,
            rollback,
        },
    }
}
