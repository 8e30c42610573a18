//! What follows from the audit log, kept up to date by reading only what is new.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{CheckpointId, Digest, VersionId};

use crate::audit::{AuditEvent, AuditLog};
use crate::{Error, Result};

/// The answers that a gate needs from the log several times in each iteration.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// How many records have been taken in.
    sequence: u64,
    /// Named baselines.
    pub(crate) baselines: BTreeMap<String, (VersionId, CheckpointId)>,
    /// Checkpoints of accepted versions.
    pub(crate) accepted: BTreeSet<CheckpointId>,
    /// Checkpoints of candidates that are kept for a person to look at, oldest first.
    pub(crate) held: Vec<CheckpointId>,
    /// For each version that was left: the latest reason, and the checkpoint that the workspace went back to.
    pub(crate) rolled_back: BTreeMap<VersionId, (String, CheckpointId)>,
    /// The digest of every event, to see whether one is in the log already.
    events: BTreeSet<Digest>,
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
                AuditEvent::Accepted { checkpoint: Some(checkpoint), .. } => {
                    self.accepted.insert(checkpoint);
                }
                AuditEvent::Held { checkpoint, .. } => {
                    self.held.retain(|held| *held != checkpoint);
                    self.held.push(checkpoint);
                }
                AuditEvent::RolledBack { from, to, reason } => {
                    self.rolled_back.insert(from, (reason, to));
                }
                AuditEvent::Accepted { checkpoint: None, .. }
                | AuditEvent::CheckpointCreated { .. }
                | AuditEvent::Decided { .. }
                | AuditEvent::Overridden { .. }
                | AuditEvent::CleanedUp { .. } => {}
            }
        }
        Ok(())
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
