//! The component trait of this crate: a place that keeps checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_types::{
    Change, CheckpointId, Digest, EntryPath, MetricSamples, TestReport, Timestamp, VersionId,
};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What a checkpoint captures.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory tree: regular files with their executable bit, symlinks, directories. `.git` and `.evoseal` at any
    /// depth are left alone; what `.gitignore` and `.evosealignore` exclude is not captured.
    Directory(PathBuf),
    /// The same, with entries that the rules exclude: those that are named here, if they are there. The folders above them
    /// are named too. For what is about to be overwritten although it is ignored.
    DirectoryWith {
        /// The directory.
        directory: PathBuf,
        /// Paths in it.
        also: BTreeSet<EntryPath>,
    },
    /// Named entries in memory: each becomes a regular file without executable bit.
    Entries(BTreeMap<EntryPath, Vec<u8>>),
}

/// What the caller says about a checkpoint when it is made. All of it is covered by the checkpoint's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewCheckpoint {
    /// The version that is captured. Several checkpoints may bear the same version id; the newest is meant by it.
    pub version_id: VersionId,
    /// The checkpoint that this one came from.
    pub parent: Option<CheckpointId>,
    /// Test results of the version, if known already.
    pub test_results: Vec<TestReport>,
    /// Measurements of the version, if known already.
    pub metrics: Vec<MetricSamples>,
    /// The configuration under which the version was made, as key and value.
    pub configuration: BTreeMap<String, String>,
    /// The state of the system around it (platform, tool versions, seed), as key and value.
    pub system_state: BTreeMap<String, String>,
    /// A sentence for people.
    pub note: String,
}

impl NewCheckpoint {
    /// A checkpoint of `version_id` about which nothing else is known.
    pub fn of(version_id: VersionId) -> Self {
        Self {
            version_id,
            parent: None,
            test_results: Vec::new(),
            metrics: Vec::new(),
            configuration: BTreeMap::new(),
            system_state: BTreeMap::new(),
            note: String::new(),
        }
    }
}

/// A checkpoint without the list of its entries: what a listing shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The digest over everything below and the tree.
    pub id: CheckpointId,
    /// When it was made.
    pub created_at: Timestamp,
    /// The digest of its tree: equal exactly when two trees are equal.
    pub tree: Digest,
    /// Regular files in the tree.
    pub file_count: u64,
    /// Sum of the sizes of the regular files, in bytes, before deduplication and compression.
    pub size_bytes: u64,
    /// What the caller said.
    pub details: NewCheckpoint,
    /// Why it is pinned, if it is. Pinning is not covered by the id.
    pub pinned: Option<String>,
}

/// One entry of a captured tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a captured tree is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Size in bytes.
        size_bytes: u64,
        /// Digest of its bytes; of a file above 1 MiB, that of the list of its chunks.
        digest: Digest,
        /// Its rights, as in `chmod`: read, write and execute for owner, group and others, and the sticky bit.
        mode: u32,
    },
    /// A symbolic link and the bytes of its target, which need not exist.
    Symlink {
        /// The target as the link holds it.
        target: Vec<u8>,
    },
    /// A directory. Listed even where it has entries, so that empty ones are kept.
    Directory {
        /// Its rights, as in `chmod`, with the sticky and the set-group bit.
        mode: u32,
    },
}

impl EntryKind {
    /// Whether it is a file that its owner may execute.
    pub fn is_executable(&self) -> bool {
        matches!(self, Self::File { mode, .. } if mode & 0o100 != 0)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

/// A checkpoint that has been captured and may not be durable yet.
///
/// The workspace may change as soon as this exists. Whatever relies on the checkpoint after a crash (a deletion, a
/// rollback onto it, a record that names it) must wait for [`CheckpointHandle::durable`].
#[derive(Debug)]
pub struct CheckpointHandle {
    /// The checkpoint; its id is final.
    pub checkpoint: Checkpoint,
    /// What capture did.
    pub stats: CaptureStats,
    durability: tokio::sync::oneshot::Receiver<Result<()>>,
}

impl CheckpointHandle {
    /// A handle whose durability is reported through the other end of `durability`.
    pub fn new(
        checkpoint: Checkpoint,
        stats: CaptureStats,
        durability: tokio::sync::oneshot::Receiver<Result<()>>,
    ) -> Self {
        Self { checkpoint, stats, durability }
    }

    /// A handle on a checkpoint that is durable already.
    pub fn ready(checkpoint: Checkpoint, stats: CaptureStats) -> Self {
        let (sender, durability) = tokio::sync::oneshot::channel();
        let _ = sender.send(Ok(()));
        Self { checkpoint, stats, durability }
    }

    /// Waits until the checkpoint would survive a crash of the machine.
    ///
    /// # Errors
    ///
    /// What kept it from becoming durable; the checkpoint then does not exist. Cancelling the wait does not cancel the
    /// work.
    pub async fn durable(self) -> Result<Checkpoint> {
        match self.durability.await {
            Ok(result) => result.map(|()| self.checkpoint),
            Err(_) => Err(crate::Error::Interrupted { action: "making a checkpoint durable" }),
        }
    }
}

/// What a capture had to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureStats {
    /// Entries that were looked at.
    pub entries_seen: u64,
    /// Files whose content was read.
    pub files_read: u64,
    /// Bytes read from the files of the workspace; holes are not.
    pub bytes_read: u64,
    /// Objects that the store lacked and now holds.
    pub objects_new: u64,
    /// Bytes that the store grew by.
    pub bytes_stored: u64,
    /// Entries that cannot be captured (sockets, pipes, devices) and were passed over.
    pub skipped: Vec<EntryPath>,
    /// Files whose set-user or set-group bit was not captured: whoever restored it would lend their own rights.
    pub lending: Vec<EntryPath>,
    /// Bytes that are set aside for a restore. Fewer than the settings ask for mean that the disk has no room for it.
    pub reserved_bytes: u64,
}

/// How a restore treats what it finds in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMode {
    /// The target must be missing or an empty directory.
    Empty,
    /// The target is made equal to the checkpoint: only what differs is rewritten, each file by write-aside and rename;
    /// entries that the checkpoint lacks are removed, unless they are ignored or `.git` or `.evoseal`.
    InPlace,
}

/// What a restore did, or what it would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Every path that differs, in path order: from what stands in the target to what the checkpoint holds.
    pub changes: Vec<Change>,
    /// Entries that were equal already and were left untouched.
    pub unchanged: u64,
    /// The digest of the target tree after the restore, read back; for a plan, the digest it would have.
    pub tree: Digest,
}

/// What a verification found. Damage is listed, never just the first of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Checkpoints that were looked at.
    pub checkpoints_checked: u64,
    /// Objects whose bytes were read and hashed.
    pub objects_checked: u64,
    /// Bytes read.
    pub bytes_checked: u64,
    /// Everything that is wrong, with what it touches.
    pub damage: Vec<Damage>,
    /// What is not as it should be and costs nothing: a hint that a crash has torn, and that the next commit writes anew.
    pub notes: Vec<String>,
}

/// How deep a verification looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyDepth {
    /// The structure: header, log, indexes, records and directory pages, and that everything they name is there. No file
    /// content is read.
    Quick,
    /// Every byte.
    Full,
}

/// What healing did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealReport {
    /// Damaged or missing objects that were stored again.
    pub objects_healed: u64,
    /// What was wrong before.
    pub before: VerifyReport,
    /// What is wrong still.
    pub after: VerifyReport,
}

/// What a collection of garbage did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageReport {
    /// Bytes of storage that came back; of a plan, an estimate.
    pub bytes_freed: u64,
    /// Packs that nobody needed.
    pub packs_removed: u64,
    /// Packs whose needed part was copied, because too much of them was waste.
    pub packs_rewritten: u64,
    /// Bytes that were copied for that, before compression.
    pub bytes_rewritten: u64,
}

/// One damaged or missing object and what suffers from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The object's name in the store.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// Checkpoints that cannot be restored in full because of it.
    pub checkpoints: Vec<CheckpointId>,
    /// The paths in those checkpoints that are lost; empty where a whole checkpoint is.
    pub paths: Vec<EntryPath>,
}

/// What a deletion gave back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReport {
    /// Checkpoints that are gone.
    pub checkpoints: Vec<CheckpointId>,
    /// Bytes of storage that came back.
    pub bytes_freed: u64,
}

/// The state of a store, with the published names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStatistics {
    /// Checkpoints in the store.
    pub total_checkpoints: u64,
    /// Bytes that the store takes up.
    pub total_size_bytes: u64,
    /// The same in units of 1024 × 1024 bytes.
    pub total_size_mb: f64,
    /// Bytes that all checkpoints would take up as plain copies.
    pub logical_size_bytes: u64,
    /// Logical bytes over stored bytes; `None` in an empty store.
    pub reduction_ratio: Option<f64>,
    /// Logical bytes over the bytes of the different objects that are held, before compression; what is held and no longer
    /// needed counts until it is collected. `None` in an empty store.
    pub dedup_ratio: Option<f64>,
    /// Bytes of the objects that are held before compression over those after it; `None` in an empty store.
    pub compression_ratio: Option<f64>,
    /// Packs that are objects of their own.
    pub packs: u64,
    /// Small packs that still lie inside the log of commits.
    pub packs_in_log: u64,
    /// Where the store is, for people.
    pub checkpoint_directory: String,
    /// The oldest checkpoint's time.
    pub oldest_checkpoint: Option<Timestamp>,
    /// The newest checkpoint's time.
    pub newest_checkpoint: Option<Timestamp>,
    /// When the whole store was last read and found undamaged.
    pub last_verification: Option<Timestamp>,
    /// Whether retention runs by itself.
    pub auto_cleanup_enabled: bool,
    /// How many checkpoints retention keeps.
    pub max_checkpoints: u64,
    /// Pinned checkpoints.
    pub pinned_checkpoints: u64,
}

/// Keeps checkpoints: immutable, verified captures of a tree.
///
/// # Contract
///
/// - *Visibility.* A checkpoint is listed exactly when it is complete and durable. A failed or interrupted `create`
///   leaves no visible trace; a handle whose durability has not been awaited may still come to nothing.
/// - *Identity.* Equal trees have equal [`Checkpoint::tree`]; two checkpoints with equal trees, details, parents and
///   times are the same checkpoint.
/// - *Verified reads.* `restore`, `entries` and `read_file` check every byte against its digest. They answer
///   [`Error::Damaged`](crate::Error::Damaged) and never hand out wrong bytes.
/// - *Containment.* `restore` never writes outside `target`, whatever the stored paths and the symlinks in the target
///   say.
/// - *Isolation.* Any number of readers and writers may work at once. `delete` waits for none and breaks none: objects
///   that a surviving checkpoint needs stay.
/// - *Cancel safety.* Dropping a returned future leaves the store as before or as after the call.
/// - *Not promised.* Order between concurrent calls; that `read_file` is cheap for huge files.
#[async_trait]
pub trait CheckpointStore: fmt::Debug + Send + Sync {
    /// Captures `source`. Returns after capture, possibly before durability.
    async fn create(&self, source: Source, details: NewCheckpoint) -> Result<CheckpointHandle>;

    /// All visible checkpoints, oldest first; ties in order of creation.
    async fn list(&self) -> Result<Vec<Checkpoint>>;

    /// One checkpoint, or [`Error::NotFound`](crate::Error::NotFound).
    async fn load(&self, id: CheckpointId) -> Result<Checkpoint>;

    /// The entries of a checkpoint's tree, sorted by path.
    async fn entries(&self, id: CheckpointId) -> Result<Vec<Entry>>;

    /// The content of one regular file of a checkpoint.
    async fn read_file(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>>;

    /// What [`restore`](Self::restore) would do; nothing is changed.
    async fn plan_restore(&self, id: CheckpointId, target: &Path, mode: RestoreMode)
    -> Result<RestoreReport>;

    /// Makes `target` equal to the checkpoint and reads it back: an `Ok` means that the digests agree. Running it again
    /// after a crash or an error completes it.
    async fn restore(&self, id: CheckpointId, target: &Path, mode: RestoreMode) -> Result<RestoreReport>;

    /// The digest that the tree below `directory` has now, under the rules by which `create` captures it.
    async fn tree_digest(&self, directory: &Path) -> Result<Digest>;

    /// Deletes checkpoints. All are checked first: an unknown id or a pinned checkpoint refuses the whole call.
    async fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport>;

    /// Pins a checkpoint for a reason, or takes the pin back. Pins are durable.
    async fn pin(&self, id: CheckpointId, reason: Option<&str>) -> Result<()>;

    /// Reads everything that the given checkpoints (all, if empty) need.
    async fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport>;

    /// Counts and sizes, without reading the contents of checkpoints.
    async fn statistics(&self) -> Result<CheckpointStatistics>;
}

/// Conveniences over any [`CheckpointStore`].
#[async_trait]
pub trait CheckpointStoreExt: CheckpointStore {
    /// What changed from one checkpoint to another, in path order.
    async fn diff(&self, from: CheckpointId, to: CheckpointId) -> Result<Vec<Change>> {
        Ok(crate::diff_entries(&self.entries(from).await?, &self.entries(to).await?))
    }

    /// The newest checkpoint of a version, or [`Error::NotFound`](crate::Error::NotFound).
    async fn find_version(&self, version_id: &VersionId) -> Result<Checkpoint> {
        let newest =
            self.list().await?.into_iter().rev().find(|found| found.details.version_id == *version_id);
        newest.ok_or_else(|| crate::Error::NotFound { what: format!("checkpoint of version {version_id}") })
    }

    /// The one checkpoint meant by `text`: a version id (its newest checkpoint), a full id, or a prefix of at least four
    /// digits that only one id has.
    async fn resolve(&self, text: &str) -> Result<Checkpoint> {
        crate::resolve_checkpoint(self.list().await?, text)
    }
}

impl<S: CheckpointStore + ?Sized> CheckpointStoreExt for S {}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_checkpoint_store {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<S: CheckpointStore + ?Sized> CheckpointStore for $pointer<S> {
            async fn create(&self, source: Source, details: NewCheckpoint) -> Result<CheckpointHandle> {
                (**self).create(source, details).await
            }

            async fn list(&self) -> Result<Vec<Checkpoint>> {
                (**self).list().await
            }

            async fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
                (**self).load(id).await
            }

            async fn entries(&self, id: CheckpointId) -> Result<Vec<Entry>> {
                (**self).entries(id).await
            }

            async fn read_file(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>> {
                (**self).read_file(id, path).await
            }

            async fn plan_restore(
                &self,
                id: CheckpointId,
                target: &Path,
                mode: RestoreMode,
            ) -> Result<RestoreReport> {
                (**self).plan_restore(id, target, mode).await
            }

            async fn restore(
                &self,
                id: CheckpointId,
                target: &Path,
                mode: RestoreMode,
            ) -> Result<RestoreReport> {
                (**self).restore(id, target, mode).await
            }

            async fn tree_digest(&self, directory: &Path) -> Result<Digest> {
                (**self).tree_digest(directory).await
            }

            async fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
                (**self).delete(ids).await
            }

            async fn pin(&self, id: CheckpointId, reason: Option<&str>) -> Result<()> {
                (**self).pin(id, reason).await
            }

            async fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
                (**self).verify(ids).await
            }

            async fn statistics(&self) -> Result<CheckpointStatistics> {
                (**self).statistics().await
            }
        }
    };
}

forward_checkpoint_store!(Arc);
forward_checkpoint_store!(Box);
