//! A store that a suite stands in the way of.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use evoseal_checkpoint::{
    Checkpoint, CheckpointHandle, CheckpointStatistics, CheckpointStore, DeleteReport, Entry, Error,
    NewCheckpoint, RestoreMode, RestoreReport, Result, Source, VerifyReport,
};
use evoseal_types::{CheckpointId, Digest, EntryPath};

/// Passes everything on, except that some checkpoints are damaged and that it can die at the end of a restore.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn CheckpointStore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    damaged: BTreeSet<CheckpointId>,
    unreadable: BTreeSet<CheckpointId>,
    restored: Vec<CheckpointId>,
    dies_in_restore: Option<CheckpointId>,
    is_dead: bool,
}

/// The ways in which a checkpoint can be damaged.
pub(crate) const WAYS: [fn(&Watched, CheckpointId); 2] = [Watched::damage, Watched::damage_entries];

impl Watched {
    pub(crate) fn new(inner: Arc<dyn CheckpointStore>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// The content of `id` is damaged from now on: a restore finds that half-way.
    pub(crate) fn damage(&self, id: CheckpointId) {
        self.state().damaged.insert(id);
    }

    /// The list of what `id` holds is damaged from now on: whatever needs it finds that at once.
    pub(crate) fn damage_entries(&self, id: CheckpointId) {
        let mut state = self.state();
        state.damaged.insert(id);
        state.unreadable.insert(id);
    }

    /// The checkpoints whose restore was begun.
    pub(crate) fn restored(&self) -> Vec<CheckpointId> {
        self.state().restored.clone()
    }

    /// The next restore of `id` changes something and then unwinds, and so does every later call: the process is dead.
    pub(crate) fn die_in_restore_of(&self, id: CheckpointId) {
        self.state().dies_in_restore = Some(id);
    }

    /// Works again: the process was started anew.
    pub(crate) fn revive(&self) {
        let mut state = self.state();
        (state.dies_in_restore, state.is_dead) = (None, false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> &dyn CheckpointStore {
        if self.state().is_dead {
            die();
        }
        &*self.inner
    }

    fn readable(&self, id: CheckpointId) -> Result<&dyn CheckpointStore> {
        let store = self.live();
        if self.state().unreadable.contains(&id) { Err(damage(id)) } else { Ok(store) }
    }

    fn whole(&self, id: CheckpointId) -> Result<&dyn CheckpointStore> {
        let store = self.live();
        if self.state().damaged.contains(&id) { Err(damage(id)) } else { Ok(store) }
    }
}

fn damage(id: CheckpointId) -> Error {
    Error::Damaged { object: id.short(), problem: "the conformance suite damaged it".to_owned() }
}

fn die() -> ! {
    // Not `panic!`: nothing went wrong that should be printed.
    std::panic::resume_unwind(Box::new("the process was killed"))
}

#[async_trait]
impl CheckpointStore for Watched {
    async fn create(&self, source: Source, details: NewCheckpoint) -> Result<CheckpointHandle> {
        self.live().create(source, details).await
    }

    async fn list(&self) -> Result<Vec<Checkpoint>> {
        self.live().list().await
    }

    async fn load(&self, id: CheckpointId) -> Result<Checkpoint> {
        self.live().load(id).await
    }

    async fn entries(&self, id: CheckpointId) -> Result<Vec<Entry>> {
        self.readable(id)?.entries(id).await
    }

    async fn read_file(&self, id: CheckpointId, path: &EntryPath) -> Result<Vec<u8>> {
        self.whole(id)?.read_file(id, path).await
    }

    async fn plan_restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        self.readable(id)?.plan_restore(id, target, mode).await
    }

    async fn restore(&self, id: CheckpointId, target: &Path, mode: RestoreMode) -> Result<RestoreReport> {
        let store = self.live();
        let (dies, is_damaged) = {
            let mut state = self.state();
            state.restored.push(id);
            state.is_dead = state.dies_in_restore == Some(id);
            (state.is_dead, state.damaged.contains(&id))
        };
        let store = if dies { store } else { self.readable(id)? };
        if !dies && !is_damaged {
            return store.restore(id, target, mode).await;
        }
        // All that it would change has changed, and one thing more: whoever only counts on the old state of something
        // finds it gone.
        let _ = store.restore(id, target, mode).await;
        let half = target.join("half-restored");
        let written = std::fs::create_dir_all(target).and_then(|()| std::fs::write(&half, ""));
        written.map_err(|source| Error::Io { action: "write", path: half, source })?;
        if dies {
            die();
        }
        Err(damage(id))
    }

    async fn tree_digest(&self, directory: &Path) -> Result<Digest> {
        self.live().tree_digest(directory).await
    }

    async fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        self.live().delete(ids).await
    }

    async fn pin(&self, id: CheckpointId, reason: Option<&str>) -> Result<()> {
        self.live().pin(id, reason).await
    }

    async fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
        self.live().verify(ids).await
    }

    async fn statistics(&self) -> Result<CheckpointStatistics> {
        self.live().statistics().await
    }
}
