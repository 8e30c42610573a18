//! A place with a history, and what the cases do with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use evoseal_checkpoint::{Checkpoint, CheckpointStore, NewCheckpoint, Source};
use evoseal_types::{CheckpointId, Digest, EntryPath, MetricSamples, VersionId};

use super::{Place, RollbackFixture};
use crate::conformance::watched::Watched;
use crate::{Initiator, Result, Rollback, RollbackReport, RollbackRequest, Target, Verifier};

/// A place, its store under watch, and the versions that were made of it so far.
pub(super) struct Bench<'a> {
    fixture: &'a dyn RollbackFixture,
    pub(super) place: Place,
    pub(super) watched: Arc<Watched>,
    pub(super) ids: Vec<CheckpointId>,
    _folder: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    /// An empty workspace without any version.
    pub(super) fn empty(fixture: &'a dyn RollbackFixture) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let watched = Arc::new(Watched::new(fixture.store(&folder.path().join("store"))));
        let place = Place {
            store: Arc::clone(&watched) as _,
            workspace: folder.path().join("workspace"),
            state: folder.path().join("state"),
            verifier: None,
            attempts_max: 3,
            time_max: Duration::from_secs(30),
        };
        fs::create_dir(&place.workspace).expect("the workspace can be made");
        Self { fixture, place, watched, ids: Vec::new(), _folder: folder }
    }

    /// Three known-good versions, `v1` to `v3`; the workspace is at `v3`, with one edit more.
    pub(super) async fn new(fixture: &'a dyn RollbackFixture) -> Self {
        let mut bench = Self::empty(fixture);
        for name in ["v1", "v2", "v3"] {
            bench.write(name);
            bench.accept(name).await;
        }
        bench.write("edited");
        bench
    }

    pub(super) fn open(&self) -> Box<dyn Rollback> {
        self.fixture.open(&self.place)
    }

    /// Changes the file that every version has.
    pub(super) fn write(&self, text: &str) {
        self.write_file("code", text);
    }

    pub(super) fn write_file(&self, name: &str, text: &str) {
        let path = self.place.workspace.join(name);
        fs::create_dir_all(path.parent().expect("it lies in the workspace")).expect("a folder can be made");
        fs::write(path, text).expect("the workspace can be written");
    }

    /// A file of the workspace, unless it is missing.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let path = self.place.workspace.join(name);
        path.exists().then(|| fs::read_to_string(path).expect("the workspace can be read"))
    }

    pub(super) async fn checkpoint_with(&self, name: &str, metrics: &[MetricSamples]) -> Checkpoint {
        let (parent, metrics) = (self.ids.last().copied(), metrics.to_vec());
        let details = NewCheckpoint { parent, metrics, ..NewCheckpoint::of(version(name)) };
        let source = Source::Directory(self.place.workspace.clone());
        let handle = self.place.store.create(source, details).await.expect("a checkpoint can be made");
        handle.durable().await.expect("a checkpoint becomes durable")
    }

    /// Makes a known-good version of the workspace.
    pub(super) async fn accept(&mut self, name: &str) -> CheckpointId {
        self.accept_with(name, &[]).await
    }

    pub(super) async fn accept_with(&mut self, name: &str, metrics: &[MetricSamples]) -> CheckpointId {
        let id = self.checkpoint_with(name, metrics).await.id;
        self.open().mark_known_good(id).await.expect("a version can be marked as known-good");
        self.ids.push(id);
        id
    }

    pub(super) async fn roll_back(&self, target: Target) -> Result<RollbackReport> {
        self.open().roll_back(request(target)).await
    }

    /// Begins a rollback, with a process that dies in the restore of `victim`.
    pub(super) async fn die_in_restore(&self, victim: CheckpointId, request: RollbackRequest) {
        let rollback = self.open();
        self.watched.die_in_restore_of(victim);
        let killed = tokio::spawn(async move { rollback.roll_back(request).await }).await;
        assert!(killed.is_err(), "it survived the death of its store: {killed:?}");
        self.watched.revive();
    }

    pub(super) async fn tree(&self) -> Digest {
        self.place.store.tree_digest(&self.place.workspace).await.expect("the workspace can be read")
    }

    pub(super) async fn tree_of(&self, id: CheckpointId) -> Digest {
        self.place.store.load(id).await.expect("the checkpoint is there").tree
    }

    /// The restores that were begun of the versions.
    pub(super) fn restored(&self) -> Vec<CheckpointId> {
        self.watched.restored().into_iter().filter(|id| self.ids.contains(id)).collect()
    }

    /// Whether the workspace or any checkpoint has `text` in the file `name`.
    pub(super) async fn is_held(&self, name: &str, text: &str) -> bool {
        if self.read(name).as_deref() == Some(text) {
            return true;
        }
        let path = EntryPath::new(name).expect("the suite's paths are valid");
        for checkpoint in self.place.store.list().await.expect("the checkpoints can be listed") {
            let file = self.place.store.read_file(checkpoint.id, &path).await;
            if file.is_ok_and(|bytes| bytes == text.as_bytes()) {
                return true;
            }
        }
        false
    }
}

pub(super) fn version(name: &str) -> VersionId {
    VersionId::new(name).expect("the suite's version ids are valid")
}

pub(super) fn request(target: Target) -> RollbackRequest {
    RollbackRequest { target, reason: "conformance".to_owned(), initiator: Initiator::Automatic }
}

/// A health check that finds what it was told to find, and remembers what it looked at.
#[derive(Debug, Default)]
pub(super) struct Doctor {
    state: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    sick: BTreeSet<CheckpointId>,
    looked_at: Vec<CheckpointId>,
}

impl Doctor {
    /// From now on the version is unhealthy.
    pub(super) fn condemn(&self, id: CheckpointId) {
        self.state().sick.insert(id);
    }

    /// The versions that it was asked about, in order.
    pub(super) fn looked_at(&self) -> Vec<CheckpointId> {
        self.state().looked_at.clone()
    }

    fn state(&self) -> MutexGuard<'_, Findings> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Verifier for Doctor {
    async fn verify(&self, _: &Path, checkpoint: &Checkpoint) -> Result<Result<(), String>> {
        let mut state = self.state();
        state.looked_at.push(checkpoint.id);
        let is_sick = state.sick.contains(&checkpoint.id);
        Ok(if is_sick { Err("the doctor condemned it".to_owned()) } else { Ok(()) })
    }
}
