//! The work behind a [`CheckpointManager`](crate::CheckpointManager), without any runtime.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use evoseal_types::{CheckpointId, Clock, Digest, EntryPath, Timestamp};

use crate::backend::{LockGuard, LockMode, ObjectBackend};
use crate::capture::{self, CapturePlan, Captured};
use crate::catalog::{self, Catalog, CatalogEntry, Commit, Loaded, StoreHeader};
use crate::objects::{Index, Reader};
use crate::pack::ObjectKey;
use crate::reserve::Reserve;
use crate::settings::{CaptureOptions, CheckpointSettings};
use crate::sink::{BlockBuilder, PackSink, Written};
use crate::stat_cache::{StatCache, StatCacheFolder};
use crate::store::{CaptureStats, Checkpoint, NewCheckpoint, Source};
use crate::tree;
use crate::walk::{NoRules, PresentRules, PresentRulesExcept, RuleSource, WalkPlan};
use crate::workspace::Root;
use crate::{Error, Result, record};

/// A record longer than this is an object in a pack; a shorter one stands in the catalogue.
const SHORT_RECORD_LEN_MAX: usize = 1024;
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
    pub(crate) reserve: Option<Reserve>,
    pub(crate) gate: Gate,
    pub(crate) state: Mutex<State>,
}

/// What is remembered between calls. All of it can be computed again.
#[derive(Debug, Default)]
pub(crate) struct State {
    loaded: Option<Loaded>,
    index: Option<Arc<Index>>,
    records: HashMap<CheckpointId, Checkpoint>,
    stat_caches: BTreeMap<PathBuf, Arc<StatCache>>,
    pub(crate) distrusted: Arc<HashSet<ObjectKey>>,
    pub(crate) protected: BTreeSet<CheckpointId>,
}

impl State {
    /// What is known when a store has just been opened.
    pub(crate) fn of(loaded: Loaded) -> Self {
        Self { loaded: Some(loaded), ..Self::default() }
    }
}

/// A consistent view of the store.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) index: Arc<Index>,
}

/// A captured checkpoint whose last objects are still in memory.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) stats: CaptureStats,
    /// The record, if it is short.
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

    /// The newest catalogue.
    pub(crate) fn load(&self) -> Result<Loaded> {
        let known = self.state().loaded.take();
        let loaded = catalog::load(&*self.backend, known)?;
        self.state().loaded = Some(loaded.clone());
        Ok(loaded)
    }

    /// Changes the catalogue; see [`catalog::commit`].
    pub(crate) fn change<T>(
        &self,
        attachment: Option<&catalog::PackRef>,
        change: impl FnMut(&Catalog) -> Result<(T, Option<Commit>)>,
    ) -> Result<T> {
        let known = self.state().loaded.take();
        let (result, loaded) = catalog::commit(&*self.backend, known, attachment, change)?;
        self.state().loaded = Some(loaded);
        Ok(result)
    }

    /// The newest catalogue with the index of its packs.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let catalog = self.load()?.catalog;
        let index = self.index_of(&catalog)?;
        Ok(Snapshot { catalog, index })
    }

    fn index_of(&self, catalog: &Catalog) -> Result<Arc<Index>> {
        let known = self.state().index.clone();
        if let Some(known) = known.as_ref().filter(|index| index.is_of(&catalog.packs)) {
            return Ok(Arc::clone(known));
        }
        let index = Arc::new(Index::load(&*self.backend, &catalog.packs, known.as_deref())?);
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
            let unchanged = self.load()?.catalog.generation == snapshot.catalog.generation;
            if unchanged || attempt == READ_ATTEMPTS {
                return Err(error);
            }
        }
        unreachable!("the loop ends by returning")
    }

    pub(crate) fn reader(&self, snapshot: &Snapshot) -> Reader {
        Reader::new(Arc::clone(&self.backend), Arc::clone(&snapshot.index))
    }

    /// A sink for objects that `catalog` does not name yet.
    pub(crate) fn sink(&self, catalog: Arc<Catalog>) -> PackSink<'_> {
        let distrusted = Arc::clone(&self.state().distrusted);
        PackSink::new(
            Arc::clone(&self.backend),
            self.header.chunking,
            self.settings.compression_enabled,
            distrusted,
            move || self.index_of(&catalog),
        )
    }

    /// The checkpoint of a catalogue entry.
    pub(crate) fn checkpoint(&self, entry: &CatalogEntry, snapshot: &Snapshot) -> Result<Checkpoint> {
        if let Some(known) = self.state().records.get(&entry.id) {
            return Ok(Checkpoint { pinned: entry.pinned.clone(), ..known.clone() });
        }
        let checkpoint = read_record(&mut self.reader(snapshot), entry)?;
        self.state().records.insert(entry.id, checkpoint.clone());
        Ok(checkpoint)
    }

    /// The checkpoints of many entries, whose records mostly lie side by side.
    pub(crate) fn checkpoints(
        &self,
        entries: &[CatalogEntry],
        snapshot: &Snapshot,
    ) -> Vec<Result<Checkpoint>> {
        let mut reader = self.reader(snapshot);
        let mut read = |entry: &CatalogEntry| {
            let known = self.state().records.get(&entry.id).cloned();
            let checkpoint = known.map_or_else(|| read_record(&mut reader, entry), Ok)?;
            self.state().records.insert(entry.id, checkpoint.clone());
            Ok(Checkpoint { pinned: entry.pinned.clone(), ..checkpoint })
        };
        entries.iter().map(&mut read).collect()
    }

    /// Everything up to, but not including, what makes the checkpoint durable.
    pub(crate) fn capture(&self, source: &Source, details: NewCheckpoint) -> Result<Pending> {
        let lock = self.backend.lock(LockMode::Shared)?;
        let created_at = self.clock.now();
        match source {
            Source::Directory(path) => {
                self.capture_directory(path, &BTreeSet::new(), created_at, details, lock)
            }
            Source::DirectoryWith { directory, also } => {
                self.capture_directory(directory, also, created_at, details, lock)
            }
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
        let sink = self.sink(self.load()?.catalog);
        let mut builder = BlockBuilder::default();
        let mut files = BTreeMap::new();
        for (path, bytes) in contents {
            let digest = sink.add_bytes(&mut builder, bytes)?;
            files.insert(path, (bytes.len() as u64, digest));
        }
        let tree =
            tree::build_entries(&files, &mut |digest, bytes| sink.add_metadata(&mut builder, digest, bytes))?;
        let totals = Totals {
            file_count: contents.len() as u64,
            size_bytes: contents.values().map(|bytes| bytes.len() as u64).sum(),
        };
        let stats = CaptureStats { entries_seen: contents.len() as u64, ..CaptureStats::default() };
        Self::seal(tree, sink, builder, &totals, stats, created_at, details, None, lock)
    }

    fn capture_directory(
        &self,
        path: &Path,
        also: &BTreeSet<EntryPath>,
        created_at: Timestamp,
        details: NewCheckpoint,
        lock: LockGuard,
    ) -> Result<Pending> {
        let root = self.open_workspace(path)?;
        let known = self.stat_cache(root.path());
        let catalog = self.load()?.catalog;
        // What was captured before is all there as long as a checkpoint of that tree is.
        let cache_is_stored =
            known.tree().is_some_and(|tree| catalog.has_tree(tree)) && self.state().distrusted.is_empty();
        let sink = self.sink(catalog);
        let excluded = self.excluded();
        let options = self.settings.capture_options();
        let with = PresentRulesExcept(also);
        let walk = WalkPlan {
            root: &root,
            rules: if also.is_empty() || options.include_ignored { Self::rules(options) } else { &with },
            options,
            excluded: &excluded,
            cache: &known,
            chunking: self.header.chunking,
            sink: Some(&sink),
            cache_is_stored,
        };
        let Captured { built, findings, cache } =
            capture::capture(&CapturePlan { walk, is_wanted: &|path| with.is_wanted(path) })?;
        // What is excluded as a rule must not be taken for known by the next capture.
        let cache = cache.filter(|_| also.is_empty());
        let stats = CaptureStats {
            entries_seen: findings.entries_seen,
            files_read: findings.files_read,
            bytes_read: findings.bytes_read,
            skipped: findings.skipped,
            lending: findings.lending,
            reserved_bytes: self.reserve.as_ref().map_or(0, Reserve::fill),
            ..CaptureStats::default()
        };
        let totals = Totals { file_count: findings.file_count, size_bytes: findings.size_bytes };
        let cache = cache.map(|cache| (root.path().to_owned(), cache));
        Self::seal(
            built.tree,
            sink,
            BlockBuilder::default(),
            &totals,
            stats,
            created_at,
            details,
            cache,
            lock,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "one step of two callers, cut out for length only")]
    fn seal(
        tree: Digest,
        sink: PackSink<'_>,
        mut builder: BlockBuilder,
        totals: &Totals,
        mut stats: CaptureStats,
        created_at: Timestamp,
        details: NewCheckpoint,
        cache: Option<(PathBuf, StatCache)>,
        lock: LockGuard,
    ) -> Result<Pending> {
        let (checkpoint, bytes) =
            record::seal(created_at, tree, totals.file_count, totals.size_bytes, details)?;
        let is_short = bytes.len() <= SHORT_RECORD_LEN_MAX;
        if !is_short {
            sink.force_record(&mut builder, checkpoint.id.digest(), &bytes)?;
        }
        sink.flush(&mut builder)?;
        let (written, healed) = sink.finish(true)?;
        // The record itself is no news about the tree.
        stats.objects_new = written.objects_new.saturating_sub(u64::from(!is_short));
        stats.bytes_stored = written.bytes_stored;
        let record = is_short.then_some(bytes);
        Ok(Pending { checkpoint, stats, record, written, healed, cache, _lock: lock })
    }

    /// Stores what is left and makes the checkpoint visible.
    pub(crate) fn commit(&self, pending: Pending) -> Result<(Checkpoint, CaptureStats)> {
        let Pending { checkpoint, stats, record, written, healed, cache, _lock: lock } = pending;
        let attachment = written.packs.iter().find(|pack| pack.inline.is_some());
        self.change(attachment, |catalog| {
            if catalog.has(checkpoint.id) {
                return Ok(((), None));
            }
            let stored = written.packs.iter().filter(|pack| pack.inline.is_none());
            let entry = CatalogEntry {
                id: checkpoint.id,
                sequence: catalog.next_sequence,
                tree: checkpoint.tree,
                created_at_unix_ns: checkpoint.created_at.unix_ns(),
                size_bytes: checkpoint.size_bytes,
                bytes_stored: stats.bytes_stored,
                record: record.clone(),
                pinned: None,
            };
            let packs = stored.map(|pack| pack.entry).collect();
            Ok(((), Some(Commit { packs, added: vec![entry], ..Commit::default() })))
        })?;
        drop(lock);
        let mut state = self.state();
        state.records.insert(checkpoint.id, checkpoint.clone());
        if !healed.is_empty() {
            let rest = state.distrusted.difference(&healed).copied().collect();
            state.distrusted = Arc::new(rest);
        }
        drop(state);
        if let Some((workspace, cache)) = cache {
            self.keep_stat_cache(&workspace, cache);
        }
        // The checkpoint stands whatever happens here, and the next one tries again.
        let _ = self.fold_if_long();
        Ok((checkpoint, stats))
    }

    /// Which rules say what of a present workspace is captured.
    pub(crate) fn rules(options: CaptureOptions) -> &'static dyn RuleSource {
        if options.include_ignored { &NoRules } else { &PresentRules }
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
        let root = self.open_workspace(path)?;
        let known = self.stat_cache(root.path());
        let excluded = self.excluded();
        let options = self.settings.capture_options();
        let walk = WalkPlan {
            root: &root,
            rules: Self::rules(options),
            options,
            excluded: &excluded,
            cache: &known,
            chunking: self.header.chunking,
            sink: None,
            cache_is_stored: true,
        };
        Ok(capture::capture(&CapturePlan { walk, is_wanted: &|_| false })?.built.tree)
    }
}

pub(crate) fn read_record(reader: &mut Reader, entry: &CatalogEntry) -> Result<Checkpoint> {
    let checkpoint = match &entry.record {
        Some(bytes) => record::open(entry.id, bytes, entry.pinned.clone())?,
        None => record::open(entry.id, &reader.metadata(entry.id.digest())?, entry.pinned.clone())?,
    };
    if checkpoint.tree != entry.tree {
        return Err(crate::frame::damaged(catalog::CATALOG, "an entry contradicts its checkpoint's record"));
    }
    Ok(checkpoint)
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
