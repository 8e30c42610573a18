//! Content-addressed, incremental, compressed and verified checkpoints of a directory tree or of named entries.

mod asynchronous;
mod backend;
mod capture;
mod catalog;
mod codec;
mod collect;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(test)]
mod crafted;
mod engine;
mod error;
mod frame;
mod ignore_rules;
mod local;
mod manager;
mod memory;
mod objects;
mod pack;
mod page;
mod record;
mod restore;
mod retention;
mod scan;
mod selection;
mod settings;
mod stage;
mod stat_cache;
mod store;
mod tree;
mod verify;
mod workspace;

pub use backend::{LockGuard, LockMode, ObjectBackend, ObjectInfo, check_object_name};
pub use error::{Error, Result};
pub use local::LocalBackend;
pub use manager::{CheckpointManager, CheckpointManagerBuilder};
pub use memory::MemoryBackend;
pub use retention::{apply_retention, surplus};
pub use selection::{diff_entries, resolve_checkpoint};
pub use settings::CheckpointSettings;
pub use store::{
    CaptureStats, Checkpoint, CheckpointHandle, CheckpointStatistics, CheckpointStore, CheckpointStoreExt,
    Damage, DeleteReport, Entry, EntryKind, NewCheckpoint, RestoreMode, RestoreReport, Source, VerifyReport,
};
