//! Content-addressed, incremental, compressed and verified checkpoints of a directory tree or of named entries.
//!
//! # The problem
//!
//! A program that changes a program needs a way back that is cheap enough to be taken before every step and certain enough
//! to be relied on after a crash. Copies of the whole tree cost too much; a version control system knows only what it
//! was told to track, skips empty directories and untracked files, and leaves locks and half-restored trees behind when
//! it is killed.
//!
//! # The concept
//!
//! A *checkpoint* is an immutable capture of a tree together with what is known about that version: test results,
//! measurements, configuration. Everything in it is named by the BLAKE3 digest of its bytes, so that equal things are
//! stored once, an unchanged tree costs nothing, and every byte that is handed out has been checked. A tree's digest is
//! equal exactly when two trees are equal; a checkpoint's id covers its tree, its details and its parent.
//!
//! # How the parts fit
//!
//! - [`CheckpointStore`] is the trait that other crates hold. Its documentation is the contract.
//! - [`CheckpointManager`] implements it over any [`ObjectBackend`]: [`LocalBackend`] keeps objects as files,
//!   [`MemoryBackend`] in memory. Its own methods do the same work on the calling thread, without a runtime.
//! - Capture walks the workspace by directory handles on a few threads, reads only files whose stat data changed, cuts
//!   large files into chunks by content, and puts what the store lacks into packs. What it saw stood there at one instant:
//!   otherwise it walks again. One record added to a log makes the checkpoint visible; until then there is nothing to see.
//!   `FORMAT.md` in this crate describes every byte, and what each interruption leaves.
//! - Restore compares directory pages from the root down, writes everything that is new aside, checks every byte, and only
//!   then swings names. It follows no symlink and leaves its target in no way. A damaged checkpoint changes nothing.
//! - [`RetentionPolicy`] and [`CheckpointManager::prune_blocking`] keep a store small; [`CheckpointStore::verify`] reads it all and names what is damaged and what
//!   that costs.
//!
//! # Example
//!
//! ```
//! use evoseal_checkpoint::{CheckpointManager, CheckpointStore, NewCheckpoint, RestoreMode, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let place = tempfile::tempdir()?;
//! let workspace = place.path().join("workspace");
//! std::fs::create_dir(&workspace)?;
//! std::fs::write(workspace.join("main.py"), "print('works')")?;
//!
//! let store = CheckpointManager::builder().directory(place.path().join("store")).open_or_create()?;
//! let handle = store.create(Source::Directory(workspace.clone()), NewCheckpoint::of("v1".parse()?)).await?;
//! // The workspace may change from here on. What must survive a crash waits for durability.
//! let v1 = handle.durable().await?;
//!
//! std::fs::write(workspace.join("main.py"), "print('broken'")?;
//! let report = store.restore(v1.id, &workspace, RestoreMode::InPlace).await?;
//! assert_eq!(report.changes.len(), 1);
//! assert_eq!(std::fs::read_to_string(workspace.join("main.py"))?, "print('works')");
//! assert_eq!(store.tree_digest(&workspace).await?, v1.tree);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What it does not do
//!
//! - It captures kinds, contents, rights, symlinks, hard links and holes; times of modification and extended attributes
//!   when asked. Owners are not part of a tree, and neither are the set-user and set-group bits of files, which a restore would
//!   lend: files that have them are named. A run of zeros of 64 KiB and more in a file above 1 MiB comes back as a hole.
//! - The workspace's `.git`, `.evoseal` at any depth, and what `.gitignore` and `.evosealignore` exclude, are neither captured
//!   nor removed; with [`CheckpointSettings::include_ignored`] ignored files and repositories inside the workspace are captured
//!   like everything else. A directory that holds such things and nothing else is not part of the tree. Lines of ignore files
//!   that are not UTF-8 match nothing. Sockets, pipes and devices are passed over and named; a mount point inside the workspace
//!   is refused.
//! - A restore is not one atomic step: cut off while names swing, some files are new and some old, and running it again
//!   completes it. Whoever needs that to happen by itself keeps a journal, as the rollback crate does.
//! - It trusts the times that the file system keeps. Code that wrote through a memory mapping may have changed a file
//!   without moving them: [`CheckpointManager::forget_workspace`] makes the next capture read everything.
//! - It does not encrypt, and a digest is no signature: whoever can write the store can replace it as a whole.

mod asynchronous;
mod attributes;
mod backend;
mod capture;
mod catalog;
mod codec;
mod collect;
#[cfg(feature = "conformance")]
pub mod conformance;
mod content;
#[cfg(test)]
mod crafted;
mod difference;
mod engine;
mod error;
mod extras;
mod frame;
mod ignore_rules;
mod journal;
mod local;
mod manager;
mod memory;
mod objects;
mod pack;
mod page;
mod pattern;
mod queue;
mod record;
mod reserve;
mod restore;
mod retention;
mod selection;
mod settings;
mod sink;
mod stage;
mod stat_cache;
mod store;
mod tree;
mod verify;
mod walk;
mod workspace;

pub use backend::{
    Cell, CellState, LockGuard, LockMode, ObjectBackend, ObjectBackendExt, ObjectInfo, ObjectWriter,
    check_object_name,
};
pub use error::{Error, Result};
pub use local::LocalBackend;
pub use manager::{CheckpointManager, CheckpointManagerBuilder};
pub use memory::MemoryBackend;
pub use page::is_laid_aside;
pub use pattern::Patterns;
pub use retention::{
    KeepReason, PruneReport, RetentionCandidate, RetentionDecision, RetentionPolicy, Verdict,
    apply_retention, surplus,
};
pub use selection::{diff_entries, resolve_checkpoint};
pub use settings::CheckpointSettings;
pub use store::{
    CaptureStats, Checkpoint, CheckpointHandle, CheckpointStatistics, CheckpointStore, CheckpointStoreExt,
    Damage, DeleteReport, Entry, EntryKind, GarbageReport, HealReport, NewCheckpoint, RestoreMode,
    RestoreReport, Source, VerifyDepth, VerifyReport,
};
pub use workspace::Root;
