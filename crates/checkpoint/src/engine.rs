//! The work behind a [`CheckpointManager`](crate::CheckpointManager), without any runtime.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use evoseal_types::{CheckpointId, Clock, Digest, EntryPath, Timestamp};

use crate::backend::{LockGuard, LockMode, ObjectBackend};
use crate::capture::{self, Captured};
use crate::catalog::{self, Catalog, CatalogEntry, PackEntry, StoreHeader};
use crate::objects::{Index, Reader, Writer, Written};
use crate::pack::{ObjectKey, ObjectKind, PackIndex};
use crate::scan::{PresentRules, Scan, scan};
use crate::settings::CheckpointSettings;
use crate::stat_cache::{StatCache, StatCacheFolder};
use crate::store::{CaptureStats, Checkpoint, NewCheckpoint, Source};
use crate::tree::TreeBuilder;
use crate::workspace::Root;
use crate::{Error, Result, record};

/// A record longer than this is an object in a pack; a shorter one stands in the catalogue.
const INLINE_RECORD_LEN_MAX: usize = 1024;
/// How often a read is repeated when objects moved under it.
const READ_ATTEMPTS: u32 = 3;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) backend: Arc<dyn ObjectBackend>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: CheckpointSettings,
    pub(crate) header: StoreHeader,
    /// The store's own directory, which is left alone if it lies inside a workspace.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) stat_caches: Option<StatCacheFolder>,
    pub(crate) gate: Gate,
    pub(crate) state: Mutex<State>,
}

/// What is remembered between calls. All of it can be computed again.
#[derive(Debug, Default)]
pub(crate) struct State {
    index: Option<Arc<Index>>,
    records: HashMap<CheckpointId, Checkpoint>,
    stat_caches: BTreeMap<PathBuf, Arc<StatCache>>,
    pub(crate) distrusted: Arc<HashSet<ObjectKey>>,
    pub(crate) protected: BTreeSet<CheckpointId>,
}

/// A consistent view of the store.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) catalog: Catalog,
    pub(crate) index: Arc<Index>,
}

/// A captured checkpoint whose last objects are still in memory.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) stats: CaptureStats,
    record: Option<Vec<u8>>,
    written: Written,
    healed: HashSet<ObjectKey>,
    cache: Option<(PathBuf, StatCache)>,
    /// Held until the commit, so that no collection takes objects that nothing names yet.
    _lock: LockGuard,
}

impl Engine {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest catalogue with the index of its packs.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let catalog = catalog::load(&*self.backend)?.catalog;
        let index = self.index_of(&catalog)?;
        Ok(Snapshot { catalog, index })
    }

    fn index_of(&self, catalog: &Catalog) -> Result<Arc<Index>> {
        let known = self.state().index.clone();
        let index = match known.as_ref().and_then(|index| index.is_prefix_of(&catalog.packs)) {
            Some([]) => return Ok(known.expect("it was just compared")),
            Some(new) => {
                let mut index = known.as_deref().cloned().unwrap_or_default();
                index.extend(&*self.backend, new)?;
                Arc::new(index)
            }
            None => Arc::new(Index::load(&*self.backend, &catalog.packs)?),
        };
        self.state().index = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Runs a read; again if a collection moved what it was reading.
    pub(crate) fn reading<T>(&self, mut read: impl FnMut(&Snapshot) -> Result<T>) -> Result<T> {
        for attempt in 1.. {
            let snapshot = self.snapshot()?;
            let error = match read(&snapshot) {
                Err(error @ Error::Damaged { .. }) => error,
                other => return other,
            };
            let unchanged = catalog::load(&*self.backend)?.catalog.packs == snapshot.catalog.packs;
            if unchanged || attempt == READ_ATTEMPTS {
                return Err(error);
            }
        }
        unreachable!("the loop ends by returning")
    }

    pub(crate) fn reader(&self, snapshot: &Snapshot) -> Reader {
        Reader::new(Arc::clone(&self.backend), Arc::clone(&snapshot.index))
    }

    fn writer(&self, index: Arc<Index>) -> Writer {
        let distrusted = Arc::clone(&self.state().distrusted);
        Writer::new(
            Arc::clone(&self.backend),
            index,
            distrusted,
            self.header.chunking,
            self.settings.compression_enabled,
        )
    }

    /// The checkpoint of a catalogue entry.
    pub(crate) fn checkpoint(&self, entry: &CatalogEntry, snapshot: &Snapshot) -> Result<Checkpoint> {
        if let Some(known) = self.state().records.get(&entry.id) {
            return Ok(Checkpoint { pinned: entry.pinned.clone(), ..known.clone() });
        }
        let checkpoint = if let Some(bytes) = &entry.record {
            record::open(entry.id, bytes, entry.pinned.clone())?
        } else {
            let bytes = self.reader(snapshot).metadata(entry.id.digest())?;
            record::open(entry.id, &bytes, entry.pinned.clone())?
        };
        if checkpoint.tree != entry.tree {
            return Err(crate::frame::damaged(
                catalog::CATALOG,
                "an entry contradicts its checkpoint's record",
            ));
        }
        self.state().records.insert(entry.id, checkpoint.clone());
        Ok(checkpoint)
    }

    /// Everything up to, but not including, what makes the checkpoint durable.
    pub(crate) fn capture(&self, source: &Source, details: NewCheckpoint) -> Result<Pending> {
        let lock = self.backend.lock(LockMode::Shared)?;
        let created_at = self.clock.now();
        match source {
            Source::Directory(path) => self.capture_directory(path, created_at, details, lock),
            Source::Entries(entries) => self.capture_entries(entries, created_at, details, lock),
        }
    }

    fn capture_entries(
        &self,
        contents: &BTreeMap<EntryPath, Vec<u8>>,
        created_at: Timestamp,
        details: NewCheckpoint,
        lock: LockGuard,
    ) -> Result<Pending> {
        let digests: Vec<Digest> = contents.values().map(|bytes| Digest::of(bytes)).collect();
        let files =
            contents.iter().zip(&digests).map(|((path, bytes), digest)| (path, bytes.len() as u64, *digest));
        let tree = TreeBuilder::of_files(files)?;
        let mut writer = self.writer(self.snapshot()?.index);
        for (bytes, digest) in contents.values().zip(&digests) {
            if !writer.has_all(ObjectKind::Content, *digest)? {
                writer.add(ObjectKind::Content, *digest, bytes)?;
            }
        }
        let totals = Totals {
            file_count: contents.len() as u64,
            size_bytes: contents.values().map(|bytes| bytes.len() as u64).sum(),
        };
        let stats = CaptureStats { entries_seen: contents.len() as u64, ..CaptureStats::default() };
        self.seal(&tree, Some(writer), &totals, stats, created_at, details, None, lock)
    }

    fn capture_directory(
        &self,
        path: &Path,
        created_at: Timestamp,
        details: NewCheckpoint,
        lock: LockGuard,
    ) -> Result<Pending> {
        let (root, scan) = self.scan_workspace(path)?;
        let known = self.stat_cache(root.path());
        let is_wanted = |_: &[u8]| false;
        // Nothing is read if every file is known, and nothing need be looked up if a visible checkpoint has that tree.
        let catalog = catalog::load(&*self.backend)?.catalog;
        let mut writer = None;
        let mut captured = None;
        if capture::knows_all(&scan, &known) && self.state().distrusted.is_empty() {
            let attempt = capture::capture(&root, &scan, &known, &is_wanted, None)?;
            let tree = attempt.tree.clone().build(&mut |_, _| Ok(()))?;
            if catalog.has_tree(tree) {
                captured = Some(attempt);
            }
        }
        let captured = if let Some(captured) = captured {
            captured
        } else {
            let writer = writer.insert(self.writer(self.index_of(&catalog)?));
            capture::capture(&root, &scan, &known, &is_wanted, Some(writer))?
        };
        let Captured { tree, cache, file_count, size_bytes, files_read, bytes_read } = captured;
        let stats = CaptureStats {
            entries_seen: scan.entries_seen,
            files_read,
            bytes_read,
            skipped: scan.skipped,
            ..CaptureStats::default()
        };
        let totals = Totals { file_count, size_bytes };
        let cache = (*known != cache).then(|| (root.path().to_owned(), cache));
        self.seal(&tree, writer, &totals, stats, created_at, details, cache, lock)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of two callers, cut out for length only")]
    fn seal(
        &self,
        tree: &TreeBuilder,
        mut writer: Option<Writer>,
        totals: &Totals,
        mut stats: CaptureStats,
        created_at: Timestamp,
        details: NewCheckpoint,
        cache: Option<(PathBuf, StatCache)>,
        lock: LockGuard,
    ) -> Result<Pending> {
        let tree = tree.clone().build(&mut |digest, bytes| match writer.as_mut() {
            Some(writer) if !writer.has_all(ObjectKind::Metadata, digest)? => {
                writer.add(ObjectKind::Metadata, digest, bytes)
            }
            _ => Ok(()),
        })?;
        let (checkpoint, bytes) =
            record::seal(created_at, tree, totals.file_count, totals.size_bytes, details)?;
        let mut record = None;
        if bytes.len() <= INLINE_RECORD_LEN_MAX {
            record = Some(bytes);
        } else {
            if writer.is_none() {
                writer = Some(self.writer(self.snapshot()?.index));
            }
            let writer = writer.as_mut().expect("it was just made");
            writer.add(ObjectKind::Metadata, checkpoint.id.digest(), &bytes)?;
        }
        let mut healed = HashSet::new();
        let written = match writer {
            Some(writer) => {
                healed = writer.healed();
                writer.finish()
            }
            None => Written::nothing(),
        };
        stats.objects_new = written.objects_new;
        stats.bytes_stored = written.bytes_stored;
        Ok(Pending { checkpoint, stats, record, written, healed, cache, _lock: lock })
    }

    /// Stores what is left and makes the checkpoint visible.
    pub(crate) fn commit(&self, pending: Pending) -> Result<(Checkpoint, CaptureStats)> {
        let Pending { checkpoint, stats, record, written, healed, cache, _lock: lock } = pending;
        let packs = written.store(&*self.backend)?;
        catalog::commit(&*self.backend, |catalog| {
            catalog.packs.extend(packs.iter().map(|(entry, _)| *entry));
            if catalog.entry(checkpoint.id).is_err() {
                let sequence = catalog.next_sequence;
                catalog.next_sequence += 1;
                catalog.checkpoints.push(CatalogEntry {
                    id: checkpoint.id,
                    sequence,
                    tree: checkpoint.tree,
                    record: record.clone(),
                    pinned: None,
                });
            }
            Ok(())
        })?;
        drop(lock);
        self.remember(&checkpoint, &packs, &healed);
        if let Some((workspace, cache)) = cache {
            self.keep_stat_cache(&workspace, cache);
        }
        Ok((checkpoint, stats))
    }

    fn remember(
        &self,
        checkpoint: &Checkpoint,
        packs: &[(PackEntry, Arc<PackIndex>)],
        healed: &HashSet<ObjectKey>,
    ) {
        let mut state = self.state();
        state.records.insert(checkpoint.id, checkpoint.clone());
        if let Some(index) = &mut state.index {
            let index = Arc::make_mut(index);
            for (entry, pack) in packs {
                index.add(*entry, Arc::clone(pack));
            }
        }
        if !healed.is_empty() {
            let rest = state.distrusted.difference(healed).copied().collect();
            state.distrusted = Arc::new(rest);
        }
    }

    /// Walks a workspace under its own ignore rules.
    pub(crate) fn scan_workspace(&self, path: &Path) -> Result<(Root, Scan)> {
        let root = self.open_workspace(path)?;
        let scan = scan(&root, &PresentRules, &self.excluded())?;
        Ok((root, scan))
    }

    /// Opens a workspace by its real path, and refuses the store itself.
    pub(crate) fn open_workspace(&self, path: &Path) -> Result<Root> {
        let real = path.canonicalize().map_err(|source| crate::local::io_error("open", path, source))?;
        if self.directory.as_ref().is_some_and(|store| real.starts_with(store)) {
            return Err(Error::Invalid {
                argument: "workspace",
                reason: format!("{} lies inside the checkpoint store", real.display()),
            });
        }
        Root::open(&real)
    }

    pub(crate) fn excluded(&self) -> Vec<(u64, u64)> {
        let store = self.directory.as_ref().and_then(|path| Root::open(path).ok());
        store.and_then(|root| root.identity().ok()).into_iter().collect()
    }

    pub(crate) fn stat_cache(&self, workspace: &Path) -> Arc<StatCache> {
        if let Some(known) = self.state().stat_caches.get(workspace) {
            return Arc::clone(known);
        }
        let stored = self.stat_caches.as_ref().map(|folder| folder.load(workspace));
        let cache = Arc::new(stored.unwrap_or_default());
        self.state().stat_caches.insert(workspace.to_owned(), Arc::clone(&cache));
        cache
    }

    /// A cache that cannot be written costs time, never correctness: the checkpoint is durable already.
    pub(crate) fn keep_stat_cache(&self, workspace: &Path, cache: StatCache) {
        if let Some(folder) = &self.stat_caches {
            let _ = folder.save(workspace, &cache);
        }
        self.state().stat_caches.insert(workspace.to_owned(), Arc::new(cache));
    }

    pub(crate) fn forget_workspace(&self, workspace: &Path) -> Result<()> {
        let real =
            workspace.canonicalize().map_err(|source| crate::local::io_error("open", workspace, source))?;
        self.state().stat_caches.remove(&real);
        self.stat_caches.as_ref().map_or(Ok(()), |folder| folder.remove(&real))
    }

    /// The digest that a workspace has now.
    pub(crate) fn tree_digest(&self, path: &Path) -> Result<Digest> {
        let (root, scan) = self.scan_workspace(path)?;
        let known = self.stat_cache(root.path());
        capture::capture(&root, &scan, &known, &|_| false, None)?.tree.build(&mut |_, _| Ok(()))
    }
}

struct Totals {
    file_count: u64,
    size_bytes: u64,
}

/// Lets one capture at a time through, so that the next one sees what the one before has stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

/// Opens the gate again when dropped.
#[derive(Debug)]
pub(crate) struct Pass(Gate);

impl Gate {
    pub(crate) fn enter(&self) -> Pass {
        let (busy, freed) = &*self.0;
        let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        while *busy {
            busy = freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        *busy = true;
        Pass(self.clone())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let (busy, freed) = &*self.0.0;
        *busy.lock().unwrap_or_else(PoisonError::into_inner) = false;
        freed.notify_one();
    }
}
