//! Content-addressed, incremental, compressed and verified checkpoints of a directory tree or of named entries.

mod backend;
mod error;
mod selection;
mod store;

pub use backend::{ObjectBackend, ObjectInfo};
pub use error::{Error, Result};
pub use selection::{diff_entries, resolve_checkpoint};
pub use store::{
    CaptureStats, Checkpoint, CheckpointHandle, CheckpointStatistics, CheckpointStore, CheckpointStoreExt,
    Damage, DeleteReport, Entry, EntryKind, NewCheckpoint, RestoreMode, RestoreReport, Source, VerifyReport,
};
