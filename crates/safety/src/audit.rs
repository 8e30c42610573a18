//! The audit log: what was decided and done, in a chain that shows every later change.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_rollback::Initiator;
use evoseal_types::{CheckpointId, Clock, Digest, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::audit_chain::AuditHead;
use crate::{Decision, Error, Result};

/// Something worth remembering for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum AuditEvent {
    /// Somebody proposed a change of the accepted version.
    Proposed(ProposalRecord),
    /// A version was captured.
    CheckpointCreated {
        /// The version.
        version_id: VersionId,
        /// Its checkpoint.
        checkpoint: CheckpointId,
    },
    /// The evidence on a version is complete, and about to be decided on.
    Observed {
        /// The version.
        version_id: VersionId,
        /// The digest of the evidence as JSON: its name in an [`EvidenceStore`](crate::EvidenceStore).
        evidence: Digest,
    },
    /// A version was judged.
    Decided {
        /// The version.
        version_id: VersionId,
        /// The version that it was compared with.
        current_version_id: Option<VersionId>,
        /// The digest of the evidence as JSON, so that the decision can be made again.
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
    /// A candidate that the evidence did not decide is kept for a person to look at.
    Held {
        /// The version.
        version_id: VersionId,
        /// Its checkpoint.
        checkpoint: CheckpointId,
    },
    /// The workspace went back to an earlier version.
    RolledBack {
        /// The version that was left; `None` where a person or a recovery moved the workspace, whatever it held.
        from: Option<VersionId>,
        /// The checkpoint that the workspace now equals.
        to: CheckpointId,
        /// Why.
        reason: String,
        /// Who wanted it.
        #[serde(default = "by_the_loop")]
        initiator: Initiator,
        /// The number of its record in the history of rollbacks, which has the details.
        #[serde(default)]
        rollback: Option<u64>,
    },
    /// No target of a rollback could be restored; the workspace was left as it was.
    RollbackFailed {
        /// Why it was wanted.
        reason: String,
        /// What went wrong.
        error: String,
        /// Who wanted it.
        initiator: Initiator,
        /// The number of its record in the history of rollbacks.
        rollback: u64,
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
        /// When they decided; the record is written when it is carried out.
        at: Timestamp,
    },
    /// Old checkpoints were deleted.
    CleanedUp {
        /// Which.
        checkpoints: Vec<CheckpointId>,
    },
}

/// A proposal, as the audit log remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRecord {
    /// The version that it will be, if it is captured.
    pub version_id: VersionId,
    /// The accepted version that it changes.
    pub current_version_id: VersionId,
    /// When the attempt began. It tells proposals apart that bear the same version because the first was given up.
    pub began_at: Timestamp,
    /// What the proposer said that it changed, or why it failed.
    pub change: String,
    /// Whether it failed.
    pub failed: bool,
}

/// Whose rollbacks the log held before it said so.
fn by_the_loop() -> Initiator {
    Initiator::Automatic
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
/// ```
/// use std::sync::Arc;
/// use evoseal_safety::{AuditEvent, AuditLog, MemoryAuditLog};
/// use evoseal_types::{Digest, ManualClock, VersionId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let log = MemoryAuditLog::new(Arc::new(ManualClock::default()));
/// let what = AuditEvent::Accepted { version_id: VersionId::new("v1")?, checkpoint: None };
/// let first = log.append(what.clone()).await?;
/// let second = log.append(what).await?;
/// assert_eq!((first.sequence, first.previous), (1, Digest::of(b"")));
/// assert_ne!(second.previous, first.previous);
/// assert_eq!(log.records_after(1).await?, [second]);
/// # Ok(())
/// # }
/// ```
///
/// # Contract
///
/// - *Append only.* A record is durable when `append` returns, and is never changed or removed.
/// - *Chained.* Each record names the digest of the one before; `records` checks the whole chain and answers
///   [`Error::AuditDamaged`] at the first record that does not fit.
/// - *Ordered.* Sequence numbers count from 1 without gaps, also with several writers at once.
/// - *Errors.* After a failed `append` the record is in the log wholly or not at all.
#[async_trait]
pub trait AuditLog: fmt::Debug + Send + Sync {
    /// Adds a record.
    async fn append(&self, what: AuditEvent) -> Result<AuditRecord>;

    /// All records, oldest first, the chain checked.
    async fn records(&self) -> Result<Vec<AuditRecord>>;

    /// The records with a number above `sequence`, oldest first. The chain is checked from its beginning all the same; what
    /// is saved is handing out what the caller has seen.
    async fn records_after(&self, sequence: u64) -> Result<Vec<AuditRecord>>;
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

            async fn records_after(&self, sequence: u64) -> Result<Vec<AuditRecord>> {
                (**self).records_after(sequence).await
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
    records: Mutex<(Vec<AuditRecord>, AuditHead)>,
}

impl MemoryAuditLog {
    /// An empty log.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, records: Mutex::default() }
    }
}

#[async_trait]
impl AuditLog for MemoryAuditLog {
    async fn append(&self, what: AuditEvent) -> Result<AuditRecord> {
        let mut state = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, head) = &mut *state;
        let record = next_record(*head, self.clock.now(), what);
        *head = AuditHead { count: record.sequence, digest: record.encode()?.1 };
        records.push(record.clone());
        Ok(record)
    }

    async fn records(&self) -> Result<Vec<AuditRecord>> {
        self.records_after(0).await
    }

    async fn records_after(&self, sequence: u64) -> Result<Vec<AuditRecord>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(after(&records.0, sequence).to_vec())
    }
}

/// The records with a number above `sequence`, of all of them.
pub(crate) fn after(records: &[AuditRecord], sequence: u64) -> &[AuditRecord] {
    &records[usize::try_from(sequence).map_or(records.len(), |skipped| skipped.min(records.len()))..]
}

/// The record that follows a log that ends at `head`.
pub(crate) fn next_record(head: AuditHead, timestamp: Timestamp, what: AuditEvent) -> AuditRecord {
    AuditRecord { sequence: head.count + 1, timestamp, previous: head.digest, what }
}
