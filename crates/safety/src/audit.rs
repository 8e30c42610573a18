//! The audit log: what was decided and done, in a chain that shows every later change.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_types::{CheckpointId, Clock, Digest, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::{Decision, Error, Result};

/// Something worth remembering for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum AuditEvent {
    /// A version was captured.
    CheckpointCreated {
        /// The version.
        version_id: VersionId,
        /// Its checkpoint.
        checkpoint: CheckpointId,
    },
    /// A version was judged.
    Decided {
        /// The version.
        version_id: VersionId,
        /// The version that it was compared with.
        current_version_id: Option<VersionId>,
        /// The digest of the evidence as JSON, so that a stored copy of it can be checked.
        evidence: Digest,
        /// What was decided, and why.
        decision: Decision,
    },
    /// A version became the incumbent.
    Accepted {
        /// The version.
        version_id: VersionId,
        /// Its checkpoint, if it has one.
        checkpoint: Option<CheckpointId>,
    },
    /// The workspace went back to an earlier version.
    RolledBack {
        /// The version that was left.
        from: VersionId,
        /// The checkpoint that the workspace now equals.
        to: CheckpointId,
        /// Why.
        reason: String,
    },
    /// A version was given a name under which later ones are compared with it.
    BaselineSet {
        /// The name.
        name: String,
        /// The version.
        version_id: VersionId,
        /// Its checkpoint, which is kept from then on.
        checkpoint: CheckpointId,
    },
    /// A person decided otherwise, or by themselves.
    Overridden {
        /// The version.
        version_id: VersionId,
        /// What they decided.
        outcome: crate::Outcome,
        /// Who.
        person: String,
        /// Why.
        reason: String,
    },
    /// Old checkpoints were deleted.
    CleanedUp {
        /// Which.
        checkpoints: Vec<CheckpointId>,
    },
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts from 1.
    pub sequence: u64,
    /// When it was written.
    pub timestamp: Timestamp,
    /// The digest of the record before; of no bytes for the first.
    pub previous: Digest,
    /// What happened.
    pub what: AuditEvent,
}

impl AuditRecord {
    /// The record as one line of JSON, and the digest of these bytes that the next record names.
    pub(crate) fn encode(&self) -> Result<(String, Digest)> {
        let json = serde_json::to_string(self)
            .map_err(|error| Error::Invalid { what: "audit record".to_owned(), reason: error.to_string() })?;
        let digest = Digest::of(json.as_bytes());
        Ok((json, digest))
    }
}

/// Remembers what was decided and done.
///
/// # Contract
///
/// - *Append only.* A record is durable when `append` returns, and is never changed or removed.
/// - *Chained.* Each record names the digest of the one before; `records` checks the whole chain and answers
///   [`Error::AuditDamaged`] at the first record that does not fit.
/// - *Ordered.* Sequence numbers count from 1 without gaps, also with several writers at once.
#[async_trait]
pub trait AuditLog: fmt::Debug + Send + Sync {
    /// Adds a record.
    async fn append(&self, what: AuditEvent) -> Result<AuditRecord>;

    /// All records, oldest first, the chain checked.
    async fn records(&self) -> Result<Vec<AuditRecord>>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_audit_log {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<A: AuditLog + ?Sized> AuditLog for $pointer<A> {
            async fn append(&self, what: AuditEvent) -> Result<AuditRecord> {
                (**self).append(what).await
            }

            async fn records(&self) -> Result<Vec<AuditRecord>> {
                (**self).records().await
            }
        }
    };
}

forward_audit_log!(Arc);
forward_audit_log!(Box);

/// An audit log that lives as long as the process, for tests and for loops that keep their history elsewhere.
#[derive(Debug)]
pub struct MemoryAuditLog {
    clock: Arc<dyn Clock>,
    records: Mutex<Vec<AuditRecord>>,
}

impl MemoryAuditLog {
    /// An empty log.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, records: Mutex::new(Vec::new()) }
    }
}

#[async_trait]
impl AuditLog for MemoryAuditLog {
    async fn append(&self, what: AuditEvent) -> Result<AuditRecord> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let record = next_record(records.last(), self.clock.now(), what)?;
        records.push(record.clone());
        Ok(record)
    }

    async fn records(&self) -> Result<Vec<AuditRecord>> {
        Ok(self.records.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The record that follows `last`.
pub(crate) fn next_record(
    last: Option<&AuditRecord>,
    timestamp: Timestamp,
    what: AuditEvent,
) -> Result<AuditRecord> {
    let previous =
        last.map_or_else(|| Ok(Digest::of(b"")), |last| last.encode().map(|(_, digest)| digest))?;
    Ok(AuditRecord { sequence: last.map_or(1, |last| last.sequence + 1), timestamp, previous, what })
}
