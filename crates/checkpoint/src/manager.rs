//! The standard implementation of a checkpoint store.

mod builder;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use evoseal_types::{CheckpointId, Digest, EntryPath, Timestamp};

pub use self::builder::CheckpointManagerBuilder;
use crate::catalog::{self, Commit};
use crate::engine::{Engine, Pending, Snapshot};
use crate::objects::{Piece, Reader};
use crate::pattern::Patterns;
use crate::retention::{PruneReport, RetentionCandidate, RetentionPolicy, fit};
use crate::store::{
    CaptureStats, Checkpoint, CheckpointStatistics, DeleteReport, Entry, EntryKind, GarbageReport,
    HealReport, NewCheckpoint, RestoreMode, RestoreReport, Source, VerifyDepth, VerifyReport,
};
use crate::tree::{StoredTree, kind_of, read_page};
use crate::{Error, Result};

/// Keeps checkpoints in any [`ObjectBackend`](crate::ObjectBackend).
///
/// The methods here do the work on the calling thread and need no runtime; as a
/// [`CheckpointStore`](crate::CheckpointStore) the same work is done off the asynchronous threads. Clones share one
/// store. Captures through one manager are done one after the other; several managers and several processes may use
/// one store at the same time.
///
/// ```
/// use evoseal_checkpoint::{CheckpointManager, NewCheckpoint, RestoreMode, Source};
///
/// let place = tempfile::tempdir()?;
/// let workspace = place.path().join("workspace");
/// std::fs::create_dir(&workspace)?;
/// std::fs::write(workspace.join("main.rs"), "fn main() {}")?;
///
/// let manager = CheckpointManager::builder().directory(place.path().join("store")).create()?;
/// let (v1, _) = manager.create_blocking(&Source::Directory(workspace.clone()), NewCheckpoint::of("v1".parse()?))?;
/// std::fs::write(workspace.join("main.rs"), "broken")?;
/// manager.restore_blocking(v1.id, &workspace, RestoreMode::InPlace)?;
/// assert_eq!(std::fs::read_to_string(workspace.join("main.rs"))?, "fn main() {}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CheckpointManager {
    pub(crate) engine: Arc<Engine>,
}

impl CheckpointManager {
    /// Starts to put a manager together. Without further word the store is in the directory that the settings name,
    /// and the time is the system's.
    pub fn builder() -> CheckpointManagerBuilder {
        CheckpointManagerBuilder::new()
    }

    /// Captures `source` and waits until the checkpoint is durable.
    pub fn create_blocking(
        &self,
        source: &Source,
        details: NewCheckpoint,
    ) -> Result<(Checkpoint, CaptureStats)> {
        let _pass = self.engine.gate.enter();
        let pending = self.engine.capture(source, details)?;
        self.finish(pending)
    }

    /// Makes a capture durable, then cleans up if that is wanted.
    pub(crate) fn finish(&self, pending: Pending) -> Result<(Checkpoint, CaptureStats)> {
        let (checkpoint, stats) = self.engine.commit(pending)?;
        if self.engine.settings.auto_cleanup {
            // The checkpoint stands whatever happens here, and the next one cleans up again: an error now would only
            // say wrongly that the checkpoint does not exist.
            let _ = self.clean_up(&checkpoint);
        }
        Ok((checkpoint, stats))
    }

    /// Deletes the surplus after `newest` became durable.
    fn clean_up(&self, newest: &Checkpoint) -> Result<()> {
        let settings = &self.engine.settings;
        let mut protected = self.engine.state().protected.clone();
        protected.insert(newest.id);
        protected.extend(newest.details.parent);
        let catalog = self.engine.load()?.catalog;
        if catalog.checkpoints.len() as u64 > settings.max_checkpoints {
            let decisions = settings.retention().decide(&candidates(&catalog), &protected)?;
            let surplus: Vec<CheckpointId> = decisions
                .iter()
                .filter(|decision| !decision.verdict.is_keep())
                .map(|decision| decision.id)
                .collect();
            if !surplus.is_empty() {
                self.engine.delete_in_passing(&surplus)?;
            }
        }
        let budget = settings.max_store_bytes;
        if budget > 0 && self.engine.stored_bytes()? > budget {
            self.prune_within(&settings.retention(), budget - budget / 10, &protected)?;
        }
        Ok(())
    }

    /// Which checkpoints [`prune_blocking`](Self::prune_blocking) would keep, and why; nothing is changed.
    pub fn plan_prune_blocking(&self, policy: &RetentionPolicy, max_store_bytes: u64) -> Result<PruneReport> {
        let protected = self.engine.state().protected.clone();
        self.engine.reading(|snapshot| {
            let parents = self.parent_of_newest(snapshot);
            self.plan_within(policy, max_store_bytes, &protected, parents, snapshot)
        })
    }

    /// Deletes the checkpoints that `policy` does not ask for, then, if `max_store_bytes` is not 0 and the store is larger,
    /// the oldest of the others until it fits, and gives their storage back. Pinned and
    /// [protected](Self::protect) ones, the newest and its parent stay: where these alone are larger than the budget,
    /// [`PruneReport::bytes_over_budget`] says by how much.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the policy keeps nothing; [`Error::Locked`] if the storage cannot be given back now because
    /// someone is capturing: the next collection does it.
    pub fn prune_blocking(&self, policy: &RetentionPolicy, max_store_bytes: u64) -> Result<PruneReport> {
        let protected = self.engine.state().protected.clone();
        self.prune_within(policy, max_store_bytes, &protected)
    }

    fn prune_within(
        &self,
        policy: &RetentionPolicy,
        budget: u64,
        protected: &BTreeSet<CheckpointId>,
    ) -> Result<PruneReport> {
        let mut report = self.engine.reading(|snapshot| {
            let parent = self.parent_of_newest(snapshot);
            self.plan_within(policy, budget, protected, parent, snapshot)
        })?;
        let removed = report.removed();
        if !removed.is_empty() {
            self.engine.delete(&removed)?;
        }
        report.bytes_after = self.engine.stored_bytes()?;
        if budget > 0 && report.bytes_after > budget {
            self.engine.collect_all_garbage()?;
            report.bytes_after = self.engine.stored_bytes()?;
        }
        report.bytes_over_budget = if budget > 0 { report.bytes_after.saturating_sub(budget) } else { 0 };
        Ok(report)
    }

    /// The newest checkpoint's record names what it came from; one that is damaged names nothing.
    fn parent_of_newest(&self, snapshot: &Snapshot) -> Option<CheckpointId> {
        let newest = snapshot.catalog.checkpoints.last()?;
        self.engine.checkpoint(newest, snapshot).ok()?.details.parent
    }

    fn plan_within(
        &self,
        policy: &RetentionPolicy,
        budget: u64,
        protected: &BTreeSet<CheckpointId>,
        parent_of_newest: Option<CheckpointId>,
        snapshot: &Snapshot,
    ) -> Result<PruneReport> {
        let mut listed = candidates(&snapshot.catalog);
        if let Some(newest) = listed.last_mut() {
            newest.parent = parent_of_newest;
        }
        let mut decisions = policy.decide(&listed, protected)?;
        let bytes_before = self.engine.stored_bytes()?;
        let mut order: Vec<CheckpointId> = Vec::new();
        let kept = decisions.iter().rev().filter(|decision| decision.verdict.is_keep());
        let (bound, free): (Vec<_>, Vec<_>) = kept.partition(|decision| decision.verdict.is_bound());
        order.extend(bound.into_iter().chain(free).map(|decision| decision.id));
        let (base, growth) = self.engine.growth(snapshot, &order)?;
        let limit = if budget == 0 { u64::MAX } else { budget };
        let bytes_after = fit(&mut decisions, &order, &growth, base, limit);
        let bytes_over_budget = bytes_after.saturating_sub(limit);
        Ok(PruneReport { decisions, bytes_before, bytes_after, bytes_over_budget })
    }

    /// Replaces the set of checkpoints that automatic cleanup must keep besides pinned ones: known-good versions,
    /// baselines, whatever a rollback may need. It is remembered by this manager and its clones, not by the store.
    pub fn protect(&self, ids: BTreeSet<CheckpointId>) {
        self.engine.state().protected = ids;
    }

    /// All visible checkpoints in order of creation. One whose record is damaged is left out:
    /// [`verify_blocking`](Self::verify_blocking) names it, and it costs no other.
    pub fn list_blocking(&self) -> Result<Vec<Checkpoint>> {
        let list = |skips_damaged: bool| {
            self.engine.reading(|snapshot| {
                let listed = self.engine.checkpoints(&snapshot.catalog.checkpoints, snapshot).into_iter();
                let is_kept = |found: &Result<Checkpoint>| {
                    !(skips_damaged && matches!(found, Err(Error::Damaged { .. })))
                };
                listed.filter(is_kept).collect::<Result<Vec<_>>>()
            })
        };
        // The first attempt tells damage from objects that a collection has just moved.
        match list(false) {
            Err(Error::Damaged { .. }) => list(true),
            other => other,
        }
    }

    /// One checkpoint.
    pub fn load_blocking(&self, id: CheckpointId) -> Result<Checkpoint> {
        self.engine.reading(|snapshot| self.engine.checkpoint(snapshot.catalog.entry(id)?, snapshot))
    }

    /// The entries of a checkpoint's tree, sorted by path.
    pub fn entries_blocking(&self, id: CheckpointId) -> Result<Vec<Entry>> {
        self.engine.reading(|snapshot| {
            let tree = snapshot.catalog.entry(id)?.tree;
            let mut reader = self.engine.reader(snapshot);
            StoredTree::read(&mut reader, tree)?.entries(&mut reader)
        })
    }

    /// The content of one regular file of a checkpoint.
    pub fn read_file_blocking(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>> {
        self.engine.reading(|snapshot| {
            let mut reader = self.engine.reader(snapshot);
            let (size_bytes, digest) = find_file(&mut reader, snapshot.catalog.entry(id)?.tree, id, path)?;
            reader.content(digest, size_bytes)
        })
    }

    /// Writes the content of one regular file of a checkpoint to `out`, piece by piece, each checked before it is
    /// written. After an error, what was written must be thrown away.
    pub fn write_file_blocking(
        &self,
        id: CheckpointId,
        path: &EntryPath,
        out: &mut dyn Write,
    ) -> Result<u64> {
        let snapshot = self.engine.snapshot()?;
        let mut reader = self.engine.reader(&snapshot);
        let (size_bytes, digest) = find_file(&mut reader, snapshot.catalog.entry(id)?.tree, id, path)?;
        let zeros = vec![0; 64 << 10];
        let fail = |source| Error::Io { action: "write", path: path.as_path().to_owned(), source };
        reader.stream(digest, size_bytes, &mut |piece| match piece {
            Piece::Bytes(bytes) => out.write_all(bytes).map_err(fail),
            Piece::Zeros(mut left) => {
                while left > 0 {
                    let part = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
                    out.write_all(&zeros[..part]).map_err(fail)?;
                    left -= part as u64;
                }
                Ok(())
            }
        })?;
        Ok(size_bytes)
    }

    /// What a restore would change; nothing is changed.
    pub fn plan_restore_blocking(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        self.engine.plan_restore(id, target, mode, None)
    }

    /// Makes `target` equal to the checkpoint and reads it back.
    pub fn restore_blocking(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        self.engine.restore(id, target, mode, None)
    }

    /// What restoring a part of a checkpoint would change; nothing is changed.
    pub fn plan_restore_part_blocking(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
        patterns: &Patterns,
    ) -> Result<RestoreReport> {
        self.engine.plan_restore(id, target, mode, Some(patterns))
    }

    /// Makes what `patterns` mean in `target` equal to the checkpoint; everything else stays as it is. The folders that it
    /// needs are made.
    pub fn restore_part_blocking(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
        patterns: &Patterns,
    ) -> Result<RestoreReport> {
        self.engine.restore(id, target, mode, Some(patterns))
    }

    /// The digest that the tree below `directory` has now.
    pub fn tree_digest_blocking(&self, directory: &Path) -> Result<Digest> {
        self.engine.tree_digest(directory)
    }

    /// Deletes checkpoints, all or none. What only they needed is given back at once unless someone is writing; then
    /// the next deletion, or [`collect_garbage_blocking`](Self::collect_garbage_blocking), does it.
    pub fn delete_blocking(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        self.engine.delete(ids)
    }

    /// Pins a checkpoint for a reason, or takes the pin back.
    pub fn pin_blocking(&self, id: CheckpointId, reason: Option<&str>) -> Result<()> {
        if reason.is_some_and(|reason| reason.len() > PIN_REASON_LEN_MAX) {
            return Err(Error::TooLarge {
                what: "the reason of a pin".to_owned(),
                actual: reason.map_or(0, str::len) as u64,
                limit: PIN_REASON_LEN_MAX as u64,
            });
        }
        self.engine.change(None, |catalog| {
            let is_so = catalog.entry(id)?.pinned.as_deref() == reason;
            let pins = vec![(id, reason.map(str::to_owned))];
            Ok(((), (!is_so).then(|| Commit { pins, ..Commit::default() })))
        })
    }

    /// Reads everything that the given checkpoints need; the whole store if none is given.
    pub fn verify_blocking(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
        self.verify_to_depth_blocking(ids, VerifyDepth::Full)
    }

    /// The same, as deep as is asked for.
    pub fn verify_to_depth_blocking(&self, ids: &[CheckpointId], depth: VerifyDepth) -> Result<VerifyReport> {
        self.engine.verify(ids, depth)
    }

    /// Stores again what is damaged or missing in the store and what `workspace` still holds; no checkpoint is made.
    pub fn heal_blocking(&self, workspace: &Path) -> Result<HealReport> {
        self.engine.heal(workspace)
    }

    /// Removes what no checkpoint needs and rewrites packs that are mostly waste.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`](crate::Error::Locked) while anyone is capturing: nothing is changed then.
    pub fn collect_garbage_blocking(&self) -> Result<GarbageReport> {
        self.engine.collect_garbage()
    }

    /// What a collection would remove and rewrite if the checkpoints `gone` were deleted before; nothing is changed.
    pub fn plan_garbage_blocking(&self, gone: &[CheckpointId]) -> Result<GarbageReport> {
        self.engine.plan_garbage(gone)
    }

    /// Counts and sizes, under the published name.
    pub fn get_checkpoint_statistics(&self) -> Result<CheckpointStatistics> {
        let snapshot = self.engine.snapshot()?;
        let checkpoints = &snapshot.catalog.checkpoints;
        let total_size_bytes = self.engine.stored_bytes()?;
        let held = self.engine.held()?;
        let logical_size_bytes = checkpoints.iter().map(|checkpoint| checkpoint.size_bytes).sum();
        let reduction_ratio = (!checkpoints.is_empty() && total_size_bytes > 0)
            .then(|| logical_size_bytes as f64 / total_size_bytes as f64);
        let times =
            || checkpoints.iter().map(|checkpoint| Timestamp::from_unix_ns(checkpoint.created_at_unix_ns));
        Ok(CheckpointStatistics {
            total_checkpoints: checkpoints.len() as u64,
            total_size_bytes,
            total_size_mb: total_size_bytes as f64 / (1024.0 * 1024.0),
            logical_size_bytes,
            reduction_ratio,
            dedup_ratio: (held.raw_bytes > 0).then(|| logical_size_bytes as f64 / held.raw_bytes as f64),
            compression_ratio: (held.packed_bytes > 0)
                .then(|| held.raw_bytes as f64 / held.packed_bytes as f64),
            packs: held.packs,
            packs_in_log: held.packs_in_log,
            checkpoint_directory: self.engine.backend.location(),
            oldest_checkpoint: times().min(),
            newest_checkpoint: times().max(),
            last_verification: self.engine.last_verification()?,
            auto_cleanup_enabled: self.engine.settings.auto_cleanup,
            max_checkpoints: self.engine.settings.max_checkpoints,
            pinned_checkpoints: checkpoints.iter().filter(|checkpoint| checkpoint.pinned.is_some()).count()
                as u64,
        })
    }

    /// Forgets which files of a workspace are known, so that the next capture reads every one.
    ///
    /// Capture trusts size, inode, mode and the two times that the file system keeps. A process that writes through a
    /// memory mapping can change a file without moving these; after code that is not trusted has run, forget.
    pub fn forget_workspace(&self, directory: &Path) -> Result<()> {
        self.engine.forget_workspace(directory)
    }
}

/// What the catalogue alone says of its checkpoints; parents stand in their records.
fn candidates(catalog: &catalog::Catalog) -> Vec<RetentionCandidate> {
    let candidate = |entry: &catalog::CatalogEntry| RetentionCandidate {
        id: entry.id,
        created_at: Timestamp::from_unix_ns(entry.created_at_unix_ns),
        parent: None,
        is_pinned: entry.pinned.is_some(),
    };
    catalog.checkpoints.iter().map(candidate).collect()
}

/// Size and digest of a file of a checkpoint, found folder by folder.
fn find_file(reader: &mut Reader, tree: Digest, id: CheckpointId, path: &EntryPath) -> Result<(u64, Digest)> {
    let missing = || Error::NotFound { what: format!("file {path} in checkpoint {}", id.short()) };
    let mut page = StoredTree::read(reader, tree)?.object.page;
    let mut folder: Option<EntryPath> = None;
    let mut parts = path.components().peekable();
    while let Some(name) = parts.next() {
        let above = folder.as_ref().map_or(&b""[..], |folder| folder.as_bytes());
        let entries = read_page(reader, above, page)?;
        let place =
            entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)).map_err(|_| missing())?;
        let node = entries[place].node.clone();
        match (parts.peek(), node) {
            (Some(_), crate::page::PageNode::Directory { page: inside, .. }) => page = inside,
            (Some(_), _) => return Err(missing()),
            (None, node) => match kind_of(node) {
                EntryKind::File { size_bytes, digest, .. } => return Ok((size_bytes, digest)),
                _ => {
                    return Err(Error::Invalid {
                        argument: "path",
                        reason: format!("{path} is no regular file"),
                    });
                }
            },
        }
        folder = Some(
            folder
                .map_or_else(|| EntryPath::new(name), |above| above.join(name))
                .map_err(|error| Error::Invalid { argument: "path", reason: error.to_string() })?,
        );
    }
    Err(missing())
}

/// The longest reason for a pin, in bytes: it stands in the catalogue, which every commit writes.
const PIN_REASON_LEN_MAX: usize = 1024;
