//! What follows from the audit log, kept up to date by reading only what is new.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{CheckpointId, Digest, VersionId};

use crate::audit::{AuditEvent, AuditLog};
use crate::{Error, Outcome, Result};

/// The answers that a gate needs from the log several times in each iteration.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// How many records have been taken in.
    sequence: u64,
    /// Named baselines.
    pub(crate) baselines: BTreeMap<String, (VersionId, CheckpointId)>,
    /// Checkpoints of accepted versions.
    pub(crate) accepted: BTreeMap<CheckpointId, VersionId>,
    /// The record of the latest decision on each version.
    pub(crate) decided: BTreeMap<VersionId, u64>,
    /// The rollback with the highest number.
    pub(crate) last_rollback: Option<RecordedRollback>,
    /// Checkpoints of candidates that are kept for a person to look at, oldest first.
    pub(crate) held: Vec<(VersionId, CheckpointId)>,
    /// The digest of every event, to see whether one is in the log already.
    events: BTreeSet<Digest>,
}

/// A rollback that the log has.
#[derive(Debug, Clone)]
pub(crate) struct RecordedRollback {
    /// Its number in the history of rollbacks.
    pub(crate) number: u64,
    /// The record.
    pub(crate) record: u64,
    /// The version that was left.
    pub(crate) from: Option<VersionId>,
}

impl Remembered {
    /// Takes in what the log has got since.
    pub(crate) async fn catch_up(&mut self, log: &dyn AuditLog) -> Result<()> {
        for record in log.records_after(self.sequence).await? {
            self.events.insert(digest_of(&record.what)?);
            self.sequence = record.sequence;
            match record.what {
                AuditEvent::BaselineSet { name, version_id, checkpoint } => {
                    self.baselines.insert(name, (version_id, checkpoint));
                }
                AuditEvent::Accepted { version_id, checkpoint: Some(checkpoint) } => {
                    self.accepted.insert(checkpoint, version_id);
                }
                AuditEvent::Held { version_id, checkpoint } => {
                    self.held.retain(|(_, held)| *held != checkpoint);
                    self.held.push((version_id, checkpoint));
                }
                AuditEvent::Overridden { version_id, outcome, .. } => {
                    self.override_version(&version_id, outcome);
                }
                AuditEvent::Decided { version_id, .. } => {
                    self.decided.insert(version_id, record.sequence);
                }
                AuditEvent::RolledBack { from, rollback: Some(number), .. } => {
                    self.last_rollback = Some(RecordedRollback { number, record: record.sequence, from });
                }
                AuditEvent::RollbackFailed { rollback: number, .. } => {
                    self.last_rollback =
                        Some(RecordedRollback { number, record: record.sequence, from: None });
                }
                AuditEvent::Accepted { checkpoint: None, .. }
                | AuditEvent::Proposed(_)
                | AuditEvent::CheckpointCreated { .. }
                | AuditEvent::Observed { .. }
                | AuditEvent::RolledBack { rollback: None, .. }
                | AuditEvent::CleanedUp { .. } => {}
            }
        }
        Ok(())
    }

    /// A person's word ends that a version is kept as an accepted or as a held one; what it is from then on, other events
    /// say.
    fn override_version(&mut self, version_id: &VersionId, outcome: Outcome) {
        if outcome == Outcome::Reject {
            self.accepted.retain(|_, accepted| accepted != version_id);
        }
        if outcome != Outcome::Inconclusive {
            self.held.retain(|(held, _)| held != version_id);
        }
    }

    /// Whether exactly this event has been taken in.
    pub(crate) fn knows(&self, event: &AuditEvent) -> Result<bool> {
        Ok(self.events.contains(&digest_of(event)?))
    }
}

/// The digest of an event as JSON.
fn digest_of(event: &AuditEvent) -> Result<Digest> {
    let json = serde_json::to_vec(event)
        .map_err(|error| Error::Invalid { what: "audit event".to_owned(), reason: error.to_string() })?;
    Ok(Digest::of(&json))
}
