//! One workspace with a store and a state directory, and what the tests do with them.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "tests; each uses a part of this"
)]

#[cfg(feature = "conformance")]
pub(crate) mod case;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use evoseal_checkpoint::{Checkpoint, CheckpointStore, NewCheckpoint, Source};
use evoseal_rollback::{
    Initiator, RollbackManager, RollbackManagerBuilder, RollbackMode, RollbackRequest, RollbackSettings,
    Target,
};
use evoseal_testkit::{FakeCheckpointStore, Faults, Tree};
use evoseal_types::{CheckpointId, ManualClock, VersionId};
use tempfile::TempDir;

pub(crate) struct Scene {
    pub(crate) folder: TempDir,
    pub(crate) faults: Faults,
    pub(crate) store: FakeCheckpointStore,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) mode: RollbackMode,
}

/// Both ways in which a workspace becomes another version.
pub(crate) const MODES: [RollbackMode; 2] = [RollbackMode::InPlace, RollbackMode::Exchange];

impl Scene {
    /// An empty workspace.
    pub(crate) fn new() -> Self {
        let folder = in_memory();
        fs::create_dir(folder.path().join("workspace")).unwrap();
        let faults = Faults::default();
        let store = FakeCheckpointStore::with_faults(faults.clone());
        let clock = Arc::new(ManualClock::default());
        Self { folder, store, faults, clock, mode: RollbackMode::InPlace }
    }

    /// A workspace with a history of `names`, each one version that holds its name in `code`, and more entries than
    /// that; the workspace is at the last one.
    pub(crate) async fn with_versions(names: &[&str]) -> (Self, Vec<CheckpointId>) {
        let scene = Self::new();
        let mut ids = Vec::new();
        for name in names {
            scene.write("code", name);
            scene.write(&format!("src/{name}.rs"), name);
            ids.push(scene.checkpoint(name, ids.last().copied()).await.id);
        }
        (scene, ids)
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.workspace().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn code(&self) -> String {
        fs::read_to_string(self.workspace().join("code")).unwrap()
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::read(&self.workspace()).unwrap()
    }

    pub(crate) async fn checkpoint(&self, name: &str, parent: Option<CheckpointId>) -> Checkpoint {
        let details = NewCheckpoint { parent, ..NewCheckpoint::of(version(name)) };
        let handle = self.store.create(Source::Directory(self.workspace()), details).await.unwrap();
        handle.durable().await.unwrap()
    }

    pub(crate) fn builder(&self) -> RollbackManagerBuilder {
        let store = Arc::new(self.store.clone());
        RollbackManager::builder(store, self.workspace(), self.state(), Arc::clone(&self.clock) as _)
            .settings(self.settings())
    }

    /// The defaults, in the scene's mode.
    pub(crate) fn settings(&self) -> RollbackSettings {
        RollbackSettings { mode: self.mode, ..RollbackSettings::default() }
    }

    pub(crate) fn manager(&self) -> RollbackManager {
        self.builder().build().unwrap()
    }

    pub(crate) fn manager_with(&self, settings: RollbackSettings) -> RollbackManager {
        self.builder().settings(settings).build().unwrap()
    }
}

/// One test of each function in each mode.
macro_rules! in_each_mode {
    ($($name:ident)*) => {
        mod in_place {
            $(#[tokio::test] async fn $name() { super::$name(super::RollbackMode::InPlace).await; })*
        }
        mod exchange {
            $(#[tokio::test] async fn $name() { super::$name(super::RollbackMode::Exchange).await; })*
        }
    };
}
pub(crate) use in_each_mode;

/// A folder for a scene, in memory where the system has a place for that: it is synced a thousand times.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn version(name: &str) -> VersionId {
    VersionId::new(name).unwrap()
}

pub(crate) fn to(target: Target) -> RollbackRequest {
    RollbackRequest { target, reason: "broken".to_owned(), initiator: Initiator::Automatic }
}

pub(crate) fn to_id(id: CheckpointId) -> RollbackRequest {
    to(Target::Checkpoint(id))
}
