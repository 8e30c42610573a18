//! The component trait of this crate: something that returns a workspace to an earlier version.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, RestoreReport};
use evoseal_types::{Change, CheckpointId, Digest, EntryPath, Objective, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::{Result, RollbackMode};

/// A wish to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Where to.
    pub target: Target,
    /// Why, for the record.
    pub reason: String,
    /// Who wants it.
    pub initiator: Initiator,
}

/// Where a rollback goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This checkpoint; older known-good ones only if it is damaged or unhealthy.
    Checkpoint(CheckpointId),
    /// The newest checkpoint of this version.
    Version(VersionId),
    /// The newest known-good version.
    LastKnownGood,
    /// The parent of the newest known-good version.
    Parent,
    /// The version that a person has named. Whoever keeps the names says which checkpoint that is; the record has both.
    Baseline {
        /// The name.
        name: String,
        /// What it stands for.
        checkpoint: CheckpointId,
    },
    /// The known-good version that is best by the objective: that with the best mean over all finite samples which its
    /// checkpoint holds, the newest of equals. Versions without such a sample do not count.
    Best(Objective),
    /// What the workspace held before the last rollback that changed it; older versions do not take its place.
    Undo,
}

/// Who asked for a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    /// The loop, after a decision.
    Automatic,
    /// A person, by name.
    Person(String),
    /// The start of a program, finishing what an earlier one began.
    Recovery,
}

/// What became of a rollback. Success means that the workspace's digest was read back and is the one of `restored`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackReport {
    /// The checkpoint that was asked for.
    pub requested: CheckpointId,
    /// The checkpoint that the workspace now equals.
    pub restored: CheckpointId,
    /// The version of that checkpoint.
    pub version_id: VersionId,
    /// A checkpoint of what the rollback overwrote, where no checkpoint held it: the way back.
    pub saved: Option<CheckpointId>,
    /// Every path that was changed.
    pub changes: Vec<Change>,
    /// The workspace's digest, read back.
    pub tree: Digest,
    /// Each target that was tried, in order; the last one worked.
    pub attempts: Vec<Attempt>,
    /// The caches from which something was removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<EntryPath>,
    /// How the workspace became that version.
    #[serde(default)]
    pub mode: RollbackMode,
}

impl RollbackReport {
    /// Whether the workspace is at another version than the one asked for.
    pub fn fell_back(&self) -> bool {
        self.requested != self.restored
    }
}

/// One try to restore one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The target.
    pub checkpoint: CheckpointId,
    /// Why it did not work; `None` if it did.
    pub error: Option<String>,
}

/// One line of the history, written once a rollback has ended, well or badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackRecord {
    /// Counts from 1.
    pub sequence: u64,
    /// When it ended.
    pub timestamp: Timestamp,
    /// What was wanted.
    pub request: RollbackRequest,
    /// The digest that the workspace had before.
    pub from_tree: Option<Digest>,
    /// What became of it; `None` if every target failed and the workspace was left as it was.
    pub report: Option<RollbackReport>,
    /// The targets that were tried, also where none worked.
    pub attempts: Vec<Attempt>,
    /// What went wrong, if it failed.
    pub error: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

/// Counts over the history, with the published names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RollbackStatistics {
    /// Rollbacks that were asked for.
    pub total_rollbacks: u64,
    /// Those after which the workspace was a known version.
    pub successful_rollbacks: u64,
    /// Those that failed on every target.
    pub failed_rollbacks: u64,
    /// Successful ones over all, 0 to 1; `None` before the first.
    pub success_rate: Option<f64>,
    /// Those by the loop.
    pub auto_rollbacks: u64,
    /// Those by a person.
    pub manual_rollbacks: u64,
    /// Those that finished an interrupted one.
    pub recovery_rollbacks: u64,
    /// How often each reason was given, most frequent first.
    pub reason_counts: Vec<(String, u64)>,
}

/// Returns a workspace to an earlier version, and remembers which versions are good.
///
/// # Contract
///
/// - *All or told.* After `Ok` the workspace equals the checkpoint named in the report, checked by digest. After an
///   error it is as it was before, or an intent is on record that [`recover`](Self::recover) completes.
/// - *Durable intent.* What is to be done is on storage before the first change. Killed anywhere, `recover` at the next
///   start completes it; it can run any number of times.
/// - *Nothing is lost.* What a rollback overwrites or removes and no checkpoint holds is checkpointed first.
/// - *Bounded.* At most the configured number of targets is tried, each once, within the configured time in total.
/// - *Recorded.* Every call of `roll_back` adds exactly one record to the history, whoever asked and however it ended.
///
/// ```
/// use evoseal_rollback::{Error, Initiator, Rollback, RollbackRequest, Target};
///
/// /// Goes back to the last good version and says in a sentence what became of it.
/// async fn undo(rollback: &dyn Rollback, reason: &str) -> Result<String, Error> {
///     let (target, initiator) = (Target::LastKnownGood, Initiator::Person("ada".to_owned()));
///     let request = RollbackRequest { target, reason: reason.to_owned(), initiator };
///     match rollback.roll_back(request).await {
///         Ok(report) if report.fell_back() => Ok(format!("back at the older {}", report.version_id)),
///         Ok(report) => Ok(format!("back at {}", report.version_id)),
///         Err(Error::Exhausted { attempts }) => Ok(format!("{} versions failed, nothing changed", attempts.len())),
///         Err(error) => Err(error),
///     }
/// }
/// ```
#[async_trait]
pub trait Rollback: fmt::Debug + Send + Sync {
    /// Goes back.
    async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport>;

    /// What [`roll_back`](Self::roll_back) would change; nothing is changed.
    async fn preview(&self, target: &Target) -> Result<(Checkpoint, RestoreReport)>;

    /// Completes a rollback that was interrupted; `None` if there was none.
    async fn recover(&self) -> Result<Option<RollbackReport>>;

    /// Removes from the caches of the settings what the version does not hold, as a rollback to it does: for whoever puts the
    /// workspace back to it by other means, such as a loop that was cut off. No rollback, so that no record is added;
    /// idempotent. Gives the caches from which something was removed: none where there are no caches.
    async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>>;

    /// Adds a version to the known-good ones. Durable when it returns; idempotent.
    async fn mark_known_good(&self, id: CheckpointId) -> Result<()>;

    /// Takes a version out of the known-good ones, because a person has rejected it since. Durable when it returns;
    /// idempotent. A version that is marked again counts as the newest.
    async fn withdraw_known_good(&self, id: CheckpointId) -> Result<()>;

    /// The known-good versions, oldest first.
    async fn known_good(&self) -> Result<Vec<CheckpointId>>;

    /// All records, oldest first.
    async fn history(&self) -> Result<Vec<RollbackRecord>>;

    /// Counts over the history.
    async fn statistics(&self) -> Result<RollbackStatistics>;
}

/// Chooses where to go, and where else if that does not work.
///
/// Contract: pure; the first element is what the request names, the others are fallbacks in the order in which they are
/// tried; no element stands twice. The example at the top of this crate implements one.
pub trait TargetSelector: fmt::Debug + Send + Sync {
    /// The ladder for `target`, given all checkpoints (oldest first) and the known-good ones (oldest first).
    ///
    /// # Errors
    ///
    /// [`Error::NoTarget`](crate::Error::NoTarget) where nothing fits the request.
    fn select(
        &self,
        target: &Target,
        checkpoints: &[Checkpoint],
        known_good: &[CheckpointId],
    ) -> Result<Vec<CheckpointId>>;
}

/// Says whether a restored workspace is fit for use.
///
/// Contract: changes nothing that a checkpoint would capture; answers `Ok(Err(reason))` for an unhealthy workspace and
/// an error only where it could not look. Dropping the future, which happens when the rollback's time is up, ends the
/// look.
///
/// ```
/// use std::path::Path;
///
/// use evoseal_checkpoint::Checkpoint;
/// use evoseal_rollback::{Result, Verifier};
///
/// /// Healthy is a workspace that has everything it needs.
/// #[derive(Debug)]
/// struct Has(Vec<&'static str>);
///
/// #[async_trait::async_trait]
/// impl Verifier for Has {
///     async fn verify(&self, workspace: &Path, _: &Checkpoint) -> Result<Result<(), String>> {
///         let missing = self.0.iter().find(|name| !workspace.join(name).exists());
///         Ok(missing.map_or(Ok(()), |name| Err(format!("there is no {name}"))))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
/// # use evoseal_types::{CheckpointId, Digest, Timestamp};
/// # let digest = Digest::of(b"");
/// # let details = evoseal_checkpoint::NewCheckpoint::of("v1".parse()?);
/// # let (id, created_at) = (CheckpointId::new(digest), Timestamp::default());
/// # let checkpoint =
/// #     Checkpoint { id, created_at, tree: digest, file_count: 0, size_bytes: 0, details, pinned: None };
/// let workspace = tempfile::tempdir()?;
/// let verifier = Has(vec!["Cargo.toml"]);
/// assert_eq!(verifier.verify(workspace.path(), &checkpoint).await?, Err("there is no Cargo.toml".to_owned()));
/// std::fs::write(workspace.path().join("Cargo.toml"), "")?;
/// assert_eq!(verifier.verify(workspace.path(), &checkpoint).await?, Ok(()));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Verifier: fmt::Debug + Send + Sync {
    /// Looks at the workspace after the restore of `checkpoint`.
    async fn verify(
        &self,
        workspace: &Path,
        checkpoint: &Checkpoint,
    ) -> Result<std::result::Result<(), String>>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_rollback {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<R: Rollback + ?Sized> Rollback for $pointer<R> {
            async fn roll_back(&self, request: RollbackRequest) -> Result<RollbackReport> {
                (**self).roll_back(request).await
            }

            async fn preview(&self, target: &Target) -> Result<(Checkpoint, RestoreReport)> {
                (**self).preview(target).await
            }

            async fn recover(&self) -> Result<Option<RollbackReport>> {
                (**self).recover().await
            }

            async fn clear_caches(&self, restored: CheckpointId) -> Result<Vec<EntryPath>> {
                (**self).clear_caches(restored).await
            }

            async fn mark_known_good(&self, id: CheckpointId) -> Result<()> {
                (**self).mark_known_good(id).await
            }

            async fn withdraw_known_good(&self, id: CheckpointId) -> Result<()> {
                (**self).withdraw_known_good(id).await
            }

            async fn known_good(&self) -> Result<Vec<CheckpointId>> {
                (**self).known_good().await
            }

            async fn history(&self) -> Result<Vec<RollbackRecord>> {
                (**self).history().await
            }

            async fn statistics(&self) -> Result<RollbackStatistics> {
                (**self).statistics().await
            }
        }

        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<S: TargetSelector + ?Sized> TargetSelector for $pointer<S> {
            fn select(
                &self,
                target: &Target,
                checkpoints: &[Checkpoint],
                known_good: &[CheckpointId],
            ) -> Result<Vec<CheckpointId>> {
                (**self).select(target, checkpoints, known_good)
            }
        }

        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<V: Verifier + ?Sized> Verifier for $pointer<V> {
            async fn verify(
                &self,
                workspace: &Path,
                checkpoint: &Checkpoint,
            ) -> Result<std::result::Result<(), String>> {
                (**self).verify(workspace, checkpoint).await
            }
        }
    };
}

forward_rollback!(Arc);
forward_rollback!(Box);
