//! The manager keeps the contract over every backend.

use std::path::PathBuf;
use std::sync::Arc;

use evoseal_checkpoint::conformance::StoreFixture;
use evoseal_checkpoint::{CheckpointManager, CheckpointStore, MemoryBackend};

fn open(directory: &PathBuf) -> Arc<dyn CheckpointStore> {
    Arc::new(CheckpointManager::builder().directory(directory).open_or_create().expect("the store opens"))
}

fn local_fixture() -> StoreFixture {
    let place = tempfile::tempdir().expect("a temporary directory");
    let directory = place.path().join("store");
    StoreFixture::new(open(&directory), move || open(&directory), place)
}

fn memory_fixture() -> StoreFixture {
    let backend = Arc::new(MemoryBackend::new());
    let open = move || -> Arc<dyn CheckpointStore> {
        let backend = Arc::clone(&backend);
        Arc::new(CheckpointManager::builder().backend(backend).open_or_create().expect("the store opens"))
    };
    StoreFixture::new(open(), open, ())
}

mod over_a_local_directory {
    evoseal_checkpoint::checkpoint_store_conformance!(super::local_fixture);
}

mod over_memory {
    evoseal_checkpoint::checkpoint_store_conformance!(super::memory_fixture);
}
