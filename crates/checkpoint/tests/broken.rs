//! The conformance suites reject what breaks the contracts: each deliberately wrong implementation fails some case.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use evoseal_checkpoint::conformance::{BackendFixture, StoreFixture, backend, store};
use evoseal_checkpoint::{
    Cell, CellState, Checkpoint, CheckpointHandle, CheckpointManager, CheckpointStatistics, CheckpointStore,
    DeleteReport, Entry, LockGuard, LockMode, MemoryBackend, NewCheckpoint, ObjectBackend, ObjectBackendExt,
    ObjectInfo, ObjectWriter, RestoreMode, RestoreReport, Result, Source, VerifyReport,
};
use evoseal_types::{CheckpointId, Digest, EntryPath};

/// What is wrong with a backend that is otherwise right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackendFault {
    None,
    LosesTheLastWrite,
    ListsWhatWasThereBefore,
    TearsLargeObjects,
    Overwrites,
    CutsRangesShort,
    SwapsWithoutComparing,
    LetsEverybodyLock,
    AcceptsAnyName,
    FailsToDeleteTwice,
    ListsCells,
    ShowsUnfinishedObjects,
    KeepsDroppedWriters,
    KeepsTheLastPieceOnly,
    ServesDeletedObjects,
    ComparesLengthsOnly,
    ComparesEndsOnly,
    AppendsWithoutComparing,
    LosesAppends,
    KeepsTornEnds,
    CreatesByAppending,
    IgnoresWhereToReadFrom,
    ForgetsWhatItAcknowledged,
}

const BACKEND_FAULTS: [BackendFault; 22] = [
    BackendFault::LosesTheLastWrite,
    BackendFault::ListsWhatWasThereBefore,
    BackendFault::TearsLargeObjects,
    BackendFault::Overwrites,
    BackendFault::CutsRangesShort,
    BackendFault::SwapsWithoutComparing,
    BackendFault::LetsEverybodyLock,
    BackendFault::AcceptsAnyName,
    BackendFault::FailsToDeleteTwice,
    BackendFault::ListsCells,
    BackendFault::ShowsUnfinishedObjects,
    BackendFault::KeepsDroppedWriters,
    BackendFault::KeepsTheLastPieceOnly,
    BackendFault::ServesDeletedObjects,
    BackendFault::ComparesLengthsOnly,
    BackendFault::ComparesEndsOnly,
    BackendFault::AppendsWithoutComparing,
    BackendFault::LosesAppends,
    BackendFault::KeepsTornEnds,
    BackendFault::CreatesByAppending,
    BackendFault::IgnoresWhereToReadFrom,
    BackendFault::ForgetsWhatItAcknowledged,
];

type NamedBytes = (String, Vec<u8>);

#[derive(Debug, Clone)]
struct BrokenBackend {
    inner: MemoryBackend,
    fault: BackendFault,
    /// The write that was not done yet, or the listing before the last write.
    held_back: Arc<Mutex<Option<NamedBytes>>>,
    stale: Arc<Mutex<Vec<ObjectInfo>>>,
    /// What was read once.
    cached: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl BrokenBackend {
    fn new(fault: BackendFault) -> Self {
        Self::over(MemoryBackend::new(), fault)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<()> {
        *self.stale.lock().unwrap() = self.inner.list("")?;
        match self.fault {
            BackendFault::LosesTheLastWrite => {
                let before = self.held_back.lock().unwrap().replace((name.to_owned(), bytes.to_vec()));
                before.map_or(Ok(()), |(name, bytes)| self.inner.put(&name, &bytes))
            }
            BackendFault::TearsLargeObjects => self.inner.put(name, &bytes[..bytes.len().min(1 << 20)]),
            BackendFault::Overwrites => {
                self.inner.delete(name)?;
                self.inner.put(name, bytes)
            }
            BackendFault::AcceptsAnyName if evoseal_checkpoint::check_object_name(name).is_err() => Ok(()),
            _ => self.inner.put(name, bytes),
        }
    }

    /// The state that a wrong comparison takes for the expected one; the expected one itself if it compares rightly.
    fn misjudged(&self, expected: &CellState, now: &Cell) -> Option<CellState> {
        let valid = usize::try_from(expected.valid_len).unwrap();
        let in_place = now.bytes.get(..valid).map(|valid| now.state.cut(expected.valid_len, valid));
        match self.fault {
            BackendFault::ComparesLengthsOnly if expected.len == now.state.len => in_place,
            BackendFault::ComparesEndsOnly if now.bytes.ends_with(&expected.tail) => Some(now.state.clone()),
            BackendFault::AppendsWithoutComparing => Some(in_place.unwrap_or_else(|| now.state.clone())),
            _ => Some(expected.clone()),
        }
    }

    fn over(inner: MemoryBackend, fault: BackendFault) -> Self {
        Self { inner, fault, held_back: Arc::default(), stale: Arc::default(), cached: Arc::default() }
    }
}

/// Collects an object, which the backend then stores in its own wrong way.
#[derive(Debug)]
struct BrokenWriter {
    backend: BrokenBackend,
    bytes: Vec<u8>,
    is_finished: bool,
}

const UNFINISHED: &str = "unfinished";

impl ObjectWriter for BrokenWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.backend.fault == BackendFault::KeepsTheLastPieceOnly && !bytes.is_empty() {
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(bytes);
        if self.backend.fault == BackendFault::ShowsUnfinishedObjects {
            self.backend.inner.delete(UNFINISHED)?;
            self.backend.inner.put(UNFINISHED, &self.bytes)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &str) -> Result<()> {
        self.is_finished = true;
        self.backend.store(name, &self.bytes)
    }
}

impl Drop for BrokenWriter {
    fn drop(&mut self) {
        match self.backend.fault {
            BackendFault::ShowsUnfinishedObjects => self.backend.inner.delete(UNFINISHED).unwrap(),
            BackendFault::KeepsDroppedWriters if !self.is_finished => {
                self.backend.inner.put("dropped", &self.bytes).unwrap();
            }
            _ => {}
        }
    }
}

impl ObjectBackend for BrokenBackend {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        let backend = self.clone();
        Ok(Box::new(BrokenWriter { backend, bytes: Vec::new(), is_finished: false }))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if self.fault == BackendFault::CutsRangesShort {
            let end = range.end.min(self.inner.get(name)?.len() as u64);
            return self.inner.get_range(name, range.start.min(end)..end);
        }
        if self.fault == BackendFault::ServesDeletedObjects {
            let mut cached = self.cached.lock().unwrap();
            if !cached.contains_key(name) {
                cached.insert(name.to_owned(), self.inner.get(name)?);
            }
            let bytes = cached[name].get(usize::try_from(range.start).unwrap()..);
            let part = bytes.and_then(|bytes| bytes.get(..usize::try_from(range.end - range.start).unwrap()));
            return part.map_or_else(|| self.inner.get_range(name, range), |part| Ok(part.to_vec()));
        }
        self.inner.get_range(name, range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = self.inner.list(prefix)?;
        if self.fault == BackendFault::ListsWhatWasThereBefore {
            found.clone_from(&self.stale.lock().unwrap());
            found.retain(|object| object.name.starts_with(prefix));
        }
        if self.fault == BackendFault::ListsCells && self.inner.load("same", 0)?.is_some() {
            found.push(ObjectInfo { name: "same.cell".to_owned(), size_bytes: 4 });
        }
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        *self.stale.lock().unwrap() = self.inner.list("")?;
        if self.fault == BackendFault::FailsToDeleteTwice {
            self.inner.get(name)?;
        }
        self.inner.delete(name)
    }

    fn load(&self, name: &str, from: u64) -> Result<Option<Cell>> {
        let from = if self.fault == BackendFault::IgnoresWhereToReadFrom { 0 } else { from };
        let mut found = self.inner.load(name, from)?;
        if self.fault == BackendFault::ForgetsWhatItAcknowledged
            && let Some(cell) = &mut found
        {
            cell.acknowledged_len = cell.acknowledged_len.map(|length| length.saturating_sub(1));
        }
        Ok(found)
    }

    fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool> {
        let Some(now) = self.inner.load(name, 0)? else {
            return match self.fault {
                BackendFault::CreatesByAppending => self.inner.swap(name, None, bytes),
                _ => Ok(false),
            };
        };
        match self.fault {
            BackendFault::LosesAppends => Ok(expected.matches(&now.bytes)),
            BackendFault::KeepsTornEnds if expected.matches(&now.bytes) => {
                self.inner.append(name, &now.state, bytes)
            }
            _ => match self.misjudged(expected, &now) {
                Some(believed) => self.inner.append(name, &believed, bytes),
                None => Ok(false),
            },
        }
    }

    fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
        let now = self.inner.load(name, 0)?;
        if self.fault == BackendFault::SwapsWithoutComparing {
            return self.inner.swap(name, now.map(|cell| cell.state).as_ref(), new);
        }
        match (expected, now) {
            (Some(expected), Some(now)) => match self.misjudged(expected, &now) {
                Some(believed) => self.inner.swap(name, Some(&believed), new),
                None => Ok(false),
            },
            _ => self.inner.swap(name, expected, new),
        }
    }

    fn lock(&self, mode: LockMode) -> Result<LockGuard> {
        if self.fault == BackendFault::LetsEverybodyLock {
            return Ok(LockGuard::new(()));
        }
        self.inner.lock(mode)
    }
}

fn backend_fixture(fault: BackendFault) -> BackendFixture {
    let inner = MemoryBackend::new();
    let first = Arc::new(BrokenBackend::over(inner.clone(), fault));
    BackendFixture::new(first, move || Arc::new(BrokenBackend::over(inner.clone(), fault)), ())
}

/// Names of the cases that a backend fails.
fn failed_backend_cases(fault: BackendFault) -> Vec<&'static str> {
    let failed = backend::CASES.iter().filter(|(_, case)| {
        let fixture = backend_fixture(fault);
        catch_unwind(AssertUnwindSafe(|| case(&fixture))).is_err()
    });
    failed.map(|(name, _)| *name).collect()
}

#[test]
fn every_broken_backend_is_rejected_and_the_same_one_without_its_fault_is_not() {
    assert_eq!(failed_backend_cases(BackendFault::None), Vec::<&str>::new());
    for fault in BACKEND_FAULTS {
        assert_ne!(failed_backend_cases(fault), Vec::<&str>::new(), "{fault:?} was not noticed");
    }
}

#[test]
fn a_store_over_a_backend_that_loses_or_tears_writes_is_rejected_too() {
    for fault in [BackendFault::LosesTheLastWrite, BackendFault::TearsLargeObjects] {
        let failed = store::CASES.iter().any(|(_, case)| {
            let attempt = || {
                let backend = Arc::new(BrokenBackend::new(fault));
                let open = move || -> Arc<dyn CheckpointStore> {
                    let backend = Arc::clone(&backend);
                    Arc::new(CheckpointManager::builder().backend(backend).open_or_create().unwrap())
                };
                case(&StoreFixture::new(open(), open, ()));
            };
            catch_unwind(AssertUnwindSafe(attempt)).is_err()
        });
        assert!(failed, "{fault:?} was not noticed");
    }
}

/// What is wrong with a store that is otherwise right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreFault {
    None,
    ForgetsTheNewest,
    ListsBackwards,
    HandsOutWrongBytes,
    IgnoresPins,
    DeletesOneByOne,
    NeverRestores,
    PlansByDoing,
    TreatsEmptyAsInPlace,
    DropsTheNote,
}

const STORE_FAULTS: [StoreFault; 9] = [
    StoreFault::ForgetsTheNewest,
    StoreFault::ListsBackwards,
    StoreFault::HandsOutWrongBytes,
    StoreFault::IgnoresPins,
    StoreFault::DeletesOneByOne,
    StoreFault::NeverRestores,
    StoreFault::PlansByDoing,
    StoreFault::TreatsEmptyAsInPlace,
    StoreFault::DropsTheNote,
];

#[derive(Debug)]
struct BrokenStore {
    inner: CheckpointManager,
    fault: StoreFault,
}

#[async_trait]
impl CheckpointStore for BrokenStore {
    async fn create(&self, source: Source, mut details: NewCheckpoint) -> Result<CheckpointHandle> {
        if self.fault == StoreFault::DropsTheNote {
            details.note.clear();
        }
        self.inner.create(source, details).await
    }

    async fn list(&self) -> Result<Vec<Checkpoint>> {
        let mut listed = self.inner.list().await?;
        match self.fault {
            StoreFault::ForgetsTheNewest => drop(listed.pop()),
            StoreFault::ListsBackwards => listed.reverse(),
            _ => {}
        }
        Ok(listed)
    }

    async fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
        self.inner.load(id).await
    }

    async fn entries(&self, id: CheckpointId) -> Result<Vec<Entry>> {
        self.inner.entries(id).await
    }

    async fn read_file(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>> {
        let mut bytes = self.inner.read_file(id, path).await?;
        if self.fault == StoreFault::HandsOutWrongBytes
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        Ok(bytes)
    }

    async fn plan_restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        if self.fault == StoreFault::PlansByDoing {
            return self.inner.restore(id, target, mode).await;
        }
        self.inner.plan_restore(id, target, mode).await
    }

    async fn restore(&self, id: CheckpointId, target: &Path, mode: RestoreMode) -> Result<RestoreReport> {
        match self.fault {
            StoreFault::NeverRestores => self.inner.plan_restore(id, target, mode).await,
            StoreFault::TreatsEmptyAsInPlace => self.inner.restore(id, target, RestoreMode::InPlace).await,
            _ => self.inner.restore(id, target, mode).await,
        }
    }

    async fn tree_digest(&self, directory: &Path) -> Result<Digest> {
        self.inner.tree_digest(directory).await
    }

    async fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        let mut report = DeleteReport::default();
        match self.fault {
            StoreFault::IgnoresPins => {
                for id in ids {
                    self.inner.pin(*id, None).await?;
                }
                self.inner.delete(ids).await
            }
            StoreFault::DeletesOneByOne => {
                for id in ids {
                    report.checkpoints.extend(self.inner.delete(&[*id]).await?.checkpoints);
                }
                Ok(report)
            }
            _ => self.inner.delete(ids).await,
        }
    }

    async fn pin(&self, id: CheckpointId, reason: Option<&str>) -> Result<()> {
        self.inner.pin(id, reason).await
    }

    async fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
        self.inner.verify(ids).await
    }

    async fn statistics(&self) -> Result<CheckpointStatistics> {
        self.inner.statistics().await
    }
}

fn store_fixture(fault: StoreFault) -> StoreFixture {
    let backend = MemoryBackend::new();
    let open = move || -> Arc<dyn CheckpointStore> {
        let backend = Arc::new(backend.clone());
        let inner = CheckpointManager::builder().backend(backend).open_or_create().unwrap();
        Arc::new(BrokenStore { inner, fault })
    };
    StoreFixture::new(open(), open, ())
}

fn failed_store_cases(fault: StoreFault) -> Vec<&'static str> {
    let failed = store::CASES.iter().filter(|(_, case)| {
        let fixture = store_fixture(fault);
        catch_unwind(AssertUnwindSafe(|| case(&fixture))).is_err()
    });
    failed.map(|(name, _)| *name).collect()
}

#[test]
fn every_broken_store_is_rejected_and_the_same_one_without_its_fault_is_not() {
    assert_eq!(failed_store_cases(StoreFault::None), Vec::<&str>::new());
    for fault in STORE_FAULTS {
        assert_ne!(failed_store_cases(fault), Vec::<&str>::new(), "{fault:?} was not noticed");
    }
}
