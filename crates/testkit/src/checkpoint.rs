//! A checkpoint store that keeps full copies in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use evoseal_checkpoint::{
    CaptureStats, Checkpoint, CheckpointHandle, CheckpointStatistics, CheckpointStore, Damage, DeleteReport,
    Entry, Error, NewCheckpoint, RestoreMode, RestoreReport, Result, Source, VerifyReport, diff_entries,
};
use evoseal_types::{Change, ChangeKind, CheckpointId, Digest, EntryPath, Timestamp, VersionId};

use crate::tree::Rules;
use crate::{Faults, Node, Tree};

/// One call of a [`FakeCheckpointStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// The checkpoint that it was about, where it was about one.
    pub checkpoint: Option<CheckpointId>,
}

/// A [`CheckpointStore`] over real directories that keeps full copies of their trees in memory.
///
/// Clones share everything, so that a test can open "the same store" a second time. Each call, and each path that a
/// restore changes, is one step of the [`Faults`] it was made with. Time is a count of nanoseconds that goes up by one
/// with each checkpoint.
///
/// Of ignore rules it knows names: each line of a `.gitignore` at the top is one, without patterns, and what bears it is
/// ignored wherever it stands.
///
/// ```
/// use evoseal_checkpoint::{CheckpointStore, NewCheckpoint, RestoreMode, Source};
/// use evoseal_testkit::FakeCheckpointStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("a"), "one")?;
/// let store = FakeCheckpointStore::default();
/// let source = Source::Directory(folder.path().to_owned());
/// let checkpoint = store.create(source, NewCheckpoint::of("v1".parse()?)).await?.durable().await?;
/// std::fs::write(folder.path().join("a"), "two")?;
/// store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await?;
/// assert_eq!(std::fs::read(folder.path().join("a"))?, b"one");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct FakeCheckpointStore {
    faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    stored: Vec<Stored>,
    created: i64,
    damaged: BTreeSet<CheckpointId>,
    unreadable: BTreeSet<CheckpointId>,
    calls: Vec<Call>,
}

#[derive(Debug, Clone)]
struct Stored {
    checkpoint: Checkpoint,
    tree: Tree,
}

impl FakeCheckpointStore {
    /// An empty store whose steps go through `faults`.
    pub fn with_faults(faults: Faults) -> Self {
        Self { faults, state: Arc::default() }
    }

    /// The content of `id` is damaged from now on: a restore does the first half of its work and then finds that.
    pub fn damage(&self, id: CheckpointId) {
        self.state().damaged.insert(id);
    }

    /// The list of entries of `id` is damaged from now on: whatever needs it finds that at once.
    pub fn damage_entries(&self, id: CheckpointId) {
        let mut state = self.state();
        state.damaged.insert(id);
        state.unreadable.insert(id);
    }

    /// Takes the damage of all checkpoints back.
    pub fn repair(&self) {
        let mut state = self.state();
        state.damaged.clear();
        state.unreadable.clear();
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The checkpoints whose restore was begun, in order.
    pub fn restored(&self) -> Vec<CheckpointId> {
        let restores = |call: Call| call.checkpoint.filter(|_| call.method == "restore");
        self.calls().into_iter().filter_map(restores).collect()
    }

    /// The tree of a checkpoint, even if it is damaged.
    pub fn tree(&self, id: CheckpointId) -> Option<Tree> {
        self.state().stored.iter().find(|stored| stored.checkpoint.id == id).map(|stored| stored.tree.clone())
    }

    /// The version that a checkpoint holds.
    pub fn version_of(&self, id: CheckpointId) -> Option<VersionId> {
        let state = self.state();
        let found = state.stored.iter().find(|stored| stored.checkpoint.id == id)?;
        Some(found.checkpoint.details.version_id.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, method: &'static str, checkpoint: Option<CheckpointId>) -> Result<()> {
        self.state().calls.push(Call { method, checkpoint });
        self.step(method)
    }

    fn step(&self, name: &str) -> Result<()> {
        self.faults.step(name).map_err(|source| failed("take step", Path::new(name), source))
    }

    fn stored(&self, id: CheckpointId) -> Result<Stored> {
        let found = self.state().stored.iter().find(|stored| stored.checkpoint.id == id).cloned();
        found.ok_or_else(|| Error::NotFound { what: format!("checkpoint {id}") })
    }

    /// The stored copy, unless the list of its entries is damaged.
    fn readable(&self, id: CheckpointId) -> Result<Stored> {
        if self.state().unreadable.contains(&id) { Err(damage(id)) } else { self.stored(id) }
    }
}

fn damage(id: CheckpointId) -> Error {
    Error::Damaged { object: format!("copy-{}", id.short()), problem: "it was told to be".to_owned() }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

/// What a capture of `directory` holds.
fn capture(directory: &Path, also: &BTreeSet<EntryPath>) -> Result<Tree> {
    let rules = Rules::of(directory).map_err(|source| failed("read", directory, source))?;
    look(directory, &rules, |path| also.contains(path))
}

/// What of `target` is compared with `wanted`: by the rules of that tree, and what it holds counts in any case.
fn present(target: &Path, wanted: &Tree) -> Result<Tree> {
    look(target, &wanted.rules(), |path| wanted.0.contains_key(path))
}

fn look(directory: &Path, rules: &Rules, also: impl Fn(&EntryPath) -> bool) -> Result<Tree> {
    Tree::capture(directory, rules, also).map_err(|source| failed("read", directory, source))
}

/// What would be done to `target`, and what it would look like.
fn plan(target: &Path, mode: RestoreMode, wanted: &Tree) -> Result<RestoreReport> {
    let (all, present) = if target.exists() {
        (look(target, &Rules::default(), |_| false)?, present(target, wanted)?)
    } else {
        Default::default()
    };
    if mode == RestoreMode::Empty && !all.0.is_empty() {
        return Err(Error::NotEmpty { path: target.to_owned() });
    }
    let changes = diff_entries(&present.entries(), &wanted.entries());
    let touched = changes.iter().filter(|change| change.kind != ChangeKind::Removed).count();
    Ok(RestoreReport { unchanged: (wanted.0.len() - touched) as u64, tree: wanted.digest(), changes })
}

/// Refuses a restore that would need the place of a folder in which something ignored lies.
fn refuse_blocked(target: &Path, wanted: &Tree, changes: &[Change]) -> Result<()> {
    let present = present(target, wanted)?;
    let all = look(target, &Rules::default(), |_| false)?;
    for change in changes.iter().filter(|change| change.kind == ChangeKind::KindChanged) {
        let is_below = |path: &EntryPath| {
            std::iter::successors(path.parent(), EntryPath::parent).any(|above| above == change.path)
        };
        if all.0.keys().any(|path| is_below(path) && !present.0.contains_key(path)) {
            return Err(Error::NotEmpty { path: target.join(change.path.as_path()) });
        }
    }
    Ok(())
}

/// Removes what stands at `place`; a folder in which something ignored lies stays.
fn clear(place: &Path) -> std::io::Result<()> {
    match Node::clear(place) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        done => done,
    }
}

#[async_trait]
impl CheckpointStore for FakeCheckpointStore {
    async fn create(&self, source: Source, details: NewCheckpoint) -> Result<CheckpointHandle> {
        self.call("create", None)?;
        let tree = match source {
            Source::Directory(directory) => capture(&directory, &BTreeSet::new())?,
            Source::DirectoryWith { directory, also } => capture(&directory, &also)?,
            Source::Entries(entries) => {
                let file = |(path, bytes)| (path, Node::File { bytes, executable: false });
                Tree(entries.into_iter().map(file).collect())
            }
        };
        // The capture is done; a crash here leaves no visible trace.
        self.step("publish")?;
        let mut state = self.state();
        state.created += 1;
        let digest = tree.digest();
        let id = CheckpointId::new(Digest::of(format!("{} {digest} {details:?}", state.created).as_bytes()));
        let checkpoint = Checkpoint {
            id,
            created_at: Timestamp::from_unix_ns(state.created),
            tree: digest,
            file_count: tree.0.values().filter(|node| matches!(node, Node::File { .. })).count() as u64,
            size_bytes: tree.0.values().map(Node::size_bytes).sum(),
            details,
            pinned: None,
        };
        let stats = CaptureStats { entries_seen: tree.0.len() as u64, ..CaptureStats::default() };
        state.stored.push(Stored { checkpoint: checkpoint.clone(), tree });
        Ok(CheckpointHandle::ready(checkpoint, stats))
    }

    async fn list(&self) -> Result<Vec<Checkpoint>> {
        self.call("list", None)?;
        Ok(self.state().stored.iter().map(|stored| stored.checkpoint.clone()).collect())
    }

    async fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
        self.call("load", Some(id))?;
        Ok(self.stored(id)?.checkpoint)
    }

    async fn entries(&self, id: CheckpointId) -> Result<Vec<Entry>> {
        self.call("entries", Some(id))?;
        Ok(self.readable(id)?.tree.entries())
    }

    async fn read_file(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>> {
        self.call("read_file", Some(id))?;
        if self.state().damaged.contains(&id) {
            return Err(damage(id));
        }
        match self.stored(id)?.tree.0.remove(path) {
            Some(Node::File { bytes, .. }) => Ok(bytes),
            _ => Err(Error::NotFound { what: format!("file {path}") }),
        }
    }

    async fn plan_restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        self.call("plan_restore", Some(id))?;
        plan(target, mode, &self.readable(id)?.tree)
    }

    async fn restore(&self, id: CheckpointId, target: &Path, mode: RestoreMode) -> Result<RestoreReport> {
        self.call("restore", Some(id))?;
        let wanted = self.readable(id)?.tree;
        let report = plan(target, mode, &wanted)?;
        refuse_blocked(target, &wanted, &report.changes)?;
        let is_damaged = self.state().damaged.contains(&id);
        let bound = if is_damaged { report.changes.len().div_ceil(2) } else { usize::MAX };
        // What must go, goes from the leaves up; what must come, comes from the root down.
        let goes = |kind| matches!(kind, ChangeKind::Removed | ChangeKind::KindChanged);
        let removals = report.changes.iter().rev().filter(|change| goes(change.kind)).map(|c| (c, false));
        let additions = report.changes.iter().filter(|c| c.kind != ChangeKind::Removed).map(|c| (c, true));
        for (change, adds) in removals.chain(additions).take(bound) {
            self.step(&format!("{} {}", if adds { "write" } else { "remove" }, change.path))?;
            let place: PathBuf = target.join(change.path.as_path());
            let done = match wanted.0.get(&change.path).filter(|_| adds) {
                Some(node) => node.write(&place),
                None => clear(&place),
            };
            done.map_err(|source| failed("restore", &place, source))?;
        }
        if is_damaged {
            return Err(damage(id));
        }
        let tree = present(target, &wanted)?.digest();
        if tree != report.tree {
            return Err(Error::NotRestored { target: target.to_owned(), path: "?".to_owned() });
        }
        Ok(report)
    }

    async fn tree_digest(&self, directory: &Path) -> Result<Digest> {
        self.call("tree_digest", None)?;
        Ok(capture(directory, &BTreeSet::new())?.digest())
    }

    async fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        self.call("delete", ids.first().copied())?;
        for id in ids {
            if let Some(reason) = self.stored(*id)?.checkpoint.pinned {
                return Err(Error::Pinned { id: *id, reason });
            }
        }
        let mut bytes_freed = 0;
        self.state().stored.retain(|stored| {
            let goes = ids.contains(&stored.checkpoint.id);
            bytes_freed += if goes { stored.checkpoint.size_bytes } else { 0 };
            !goes
        });
        Ok(DeleteReport { checkpoints: ids.to_vec(), bytes_freed })
    }

    async fn pin(&self, id: CheckpointId, reason: Option<&str>) -> Result<()> {
        self.call("pin", Some(id))?;
        let mut state = self.state();
        let found = state.stored.iter_mut().find(|stored| stored.checkpoint.id == id);
        let stored = found.ok_or_else(|| Error::NotFound { what: format!("checkpoint {id}") })?;
        stored.checkpoint.pinned = reason.map(str::to_owned);
        Ok(())
    }

    async fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
        self.call("verify", ids.first().copied())?;
        let state = self.state();
        let mut report = VerifyReport::default();
        let is_meant = |stored: &&Stored| ids.is_empty() || ids.contains(&stored.checkpoint.id);
        for stored in state.stored.iter().filter(is_meant) {
            report.checkpoints_checked += 1;
            report.objects_checked += 1;
            report.bytes_checked += stored.checkpoint.size_bytes;
            let id = stored.checkpoint.id;
            if state.damaged.contains(&id) {
                report.damage.push(Damage {
                    object: format!("copy-{}", id.short()),
                    problem: "it was told to be".to_owned(),
                    checkpoints: vec![id],
                    paths: Vec::new(),
                });
            }
        }
        Ok(report)
    }

    async fn statistics(&self) -> Result<CheckpointStatistics> {
        self.call("statistics", None)?;
        let state = self.state();
        let size: u64 = state.stored.iter().map(|stored| stored.checkpoint.size_bytes).sum();
        Ok(CheckpointStatistics {
            total_checkpoints: state.stored.len() as u64,
            total_size_bytes: size,
            total_size_mb: size as f64 / (1024.0 * 1024.0),
            logical_size_bytes: size,
            reduction_ratio: (size > 0).then_some(1.0),
            dedup_ratio: (size > 0).then_some(1.0),
            compression_ratio: (size > 0).then_some(1.0),
            packs: 0,
            packs_in_log: 0,
            checkpoint_directory: "memory".to_owned(),
            oldest_checkpoint: state.stored.first().map(|stored| stored.checkpoint.created_at),
            newest_checkpoint: state.stored.last().map(|stored| stored.checkpoint.created_at),
            last_verification: None,
            auto_cleanup_enabled: false,
            max_checkpoints: 0,
            pinned_checkpoints: state.stored.iter().filter(|s| s.checkpoint.pinned.is_some()).count() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Fault;

    async fn capture(store: &FakeCheckpointStore, folder: &Path) -> Checkpoint {
        let source = Source::Directory(folder.to_owned());
        let handle = store.create(source, NewCheckpoint::of("v".parse().unwrap())).await.unwrap();
        handle.durable().await.unwrap()
    }

    #[tokio::test]
    async fn a_restore_brings_back_kinds_modes_and_absence() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let script = Node::File { bytes: b"#!".to_vec(), executable: true };
        fs::create_dir_all(at("d/e")).unwrap();
        script.write(&at("d/run")).unwrap();
        std::os::unix::fs::symlink("d", at("link")).unwrap();
        let store = FakeCheckpointStore::default();
        let before = Tree::read(folder.path()).unwrap();
        let checkpoint = capture(&store, folder.path()).await;
        assert_eq!(checkpoint.tree, store.tree_digest(folder.path()).await.unwrap());

        fs::remove_dir_all(at("d")).unwrap();
        fs::write(at("d"), "a file now").unwrap();
        fs::remove_file(at("link")).unwrap();
        fs::create_dir(at("link")).unwrap();
        fs::write(at("link/new"), "x").unwrap();
        store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap();
        assert_eq!(Tree::read(folder.path()).unwrap(), before);
    }

    #[tokio::test]
    async fn damage_and_faults_leave_a_restore_half_done() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), "1").unwrap();
        }
        let faults = Faults::default();
        let store = FakeCheckpointStore::with_faults(faults.clone());
        let checkpoint = capture(&store, folder.path()).await;
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), "2").unwrap();
        }
        store.damage_entries(checkpoint.id);
        store.plan_restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap_err();
        store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap_err();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"2");
        store.repair();
        store.damage(checkpoint.id);
        let error = store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"1");
        assert_eq!(fs::read(folder.path().join("b")).unwrap(), b"2");

        store.repair();
        faults.arm(1, Fault::Once);
        store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap_err();
        assert_eq!(faults.steps(), ["restore", "write b"]);
        store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap();
        assert_eq!(store.restored(), [checkpoint.id; 4]);
    }
    /// A workspace of these files; each holds its own name.
    fn workspace(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let place = folder.path().join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, name).unwrap();
        }
        fs::write(folder.path().join(".gitignore"), "cache/\nlog\n").unwrap();
        folder
    }

    #[tokio::test]
    async fn ignored_names_are_neither_captured_nor_removed_unless_they_are_asked_for() {
        let folder = workspace(&["code", "d/log", "cache/x", "e/cache/y", "e/kept"]);
        let store = FakeCheckpointStore::default();
        let plain = capture(&store, folder.path()).await;
        let paths =
            |id| store.tree(id).unwrap().0.into_keys().map(|path| path.to_string()).collect::<Vec<_>>();
        assert_eq!(paths(plain.id), [".gitignore", "code", "e", "e/kept"]);
        assert_eq!(store.tree_digest(folder.path()).await.unwrap(), plain.tree);
        let also = ["d", "d/log"].map(|path| EntryPath::new(path).unwrap()).into();
        let source = Source::DirectoryWith { directory: folder.path().to_owned(), also };
        let more = store.create(source, plain.details.clone()).await.unwrap().durable().await.unwrap();
        assert_eq!(paths(more.id), [".gitignore", "code", "d", "d/log", "e", "e/kept"]);

        // Rules of the workspace's own hide nothing, a folder stays for what is ignored in it, and the rest goes.
        fs::write(folder.path().join(".gitignore"), "planted\n").unwrap();
        fs::write(folder.path().join("planted"), "x").unwrap();
        fs::write(folder.path().join("d/log"), "changed").unwrap();
        fs::write(folder.path().join("d/appeared"), "x").unwrap();
        store.restore(plain.id, folder.path(), RestoreMode::InPlace).await.unwrap();
        let wanted = workspace(&["code", "d/log", "cache/x", "e/cache/y", "e/kept"]);
        fs::write(wanted.path().join("d/log"), "changed").unwrap();
        assert_eq!(Tree::read(folder.path()).unwrap(), Tree::read(wanted.path()).unwrap());
        store.restore(more.id, folder.path(), RestoreMode::InPlace).await.unwrap();
        assert_eq!(fs::read(folder.path().join("d/log")).unwrap(), b"d/log");
    }

    #[tokio::test]
    async fn a_folder_that_holds_something_ignored_does_not_give_way() {
        let folder = workspace(&["d"]);
        let store = FakeCheckpointStore::default();
        let checkpoint = capture(&store, folder.path()).await;
        fs::remove_file(folder.path().join("d")).unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        for name in ["d/log", "d/more"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let before = Tree::read(folder.path()).unwrap();
        let error = store.restore(checkpoint.id, folder.path(), RestoreMode::InPlace).await.unwrap_err();
        assert!(matches!(&error, Error::NotEmpty { path } if path.ends_with("d")), "{error}");
        assert_eq!(Tree::read(folder.path()).unwrap(), before);
    }
}
