//! Returning a workspace to a known-good version, and recovering when that fails.
//!
//! # The problem
//!
//! A rollback is asked for when things have gone wrong already, often by a program that nobody watches. It must then
//! not make matters worse: a process killed in the middle of a restore leaves a tree that is neither the old nor the
//! new one; a damaged checkpoint must not take the workspace with it; an hour's edits that a person had not saved
//! must not disappear; and a report of success must be true.
//!
//! # The concept
//!
//! A rollback is a journaled operation. [`RollbackManager`] takes a lock, makes a checkpoint of the workspace unless
//! one holds it, and puts an *intent* on durable record: the request, the checkpoint of the workspace as it is, and
//! the *ladder* of targets that will be tried. Only then is the workspace changed, in place, through the
//! [`CheckpointStore`](evoseal_checkpoint::CheckpointStore). The digest is read back, the health check is asked, and
//! the next target is tried where either is not content: at most
//! [`max_rollback_attempts`](RollbackSettings::max_rollback_attempts) targets, each once, within
//! [`rollback_timeout`](RollbackSettings::rollback_timeout). If none works the workspace is put back as it was. A record in the
//! history ends the rollback, whatever became of it; then the intent is cleared.
//!
//! [`Rollback::recover`] completes what a dead process left, from the intent alone. It can itself be killed, and run
//! again. A rollback that lands on another version than the one asked for says so: [`RollbackReport::fell_back`].
//!
//! A version is *known to be good* because it was accepted ([`Rollback::mark_known_good`]), never because it was
//! rolled back to.
//!
//! # The parts
//!
//! - [`Rollback`] is what the rest of evoseal holds; [`RollbackManager`] is its standard implementation, with
//!   [`RollbackSettings`] under their published keys, and the published names as methods.
//! - [`TargetSelector`] decides where to go and where else; [`KnownGoodLadder`] is the standard one.
//! - [`Verifier`] says whether a restored workspace is fit for use: [`FunctionVerifier`] makes one of an asynchronous
//!   function, [`DigestVerifier`] is the check that is always made.
//! - The feature `conformance` exports a test suite for each of the three traits.
//! - `FORMAT.md` describes the files of the state directory and what a crash leaves in them.
//!
//! # Example
//!
//! Setting up a manager for a project, completing what an earlier process began, and going back:
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use evoseal_checkpoint::CheckpointStore;
//! use evoseal_rollback::{
//!     FunctionVerifier, Initiator, Result, Rollback, RollbackManager, RollbackReport, RollbackRequest, Target,
//! };
//! use evoseal_types::SystemClock;
//!
//! async fn undo(store: Arc<dyn CheckpointStore>, project: &Path) -> Result<RollbackReport> {
//!     let builds = FunctionVerifier::new("has a manifest", async |workspace, _checkpoint| {
//!         let found = workspace.join("Cargo.toml").is_file();
//!         Ok(if found { Ok(()) } else { Err("there is no Cargo.toml".to_owned()) })
//!     });
//!     let state = project.join(".evoseal/rollback");
//!     let manager = RollbackManager::builder(store, project, state, Arc::new(SystemClock::new()))
//!         .store_directory(project.join(".evoseal/store"))
//!         .verifier(Arc::new(builds))
//!         .build()?;
//!     manager.recover().await?;
//!     let reason = "the tests fail".to_owned();
//!     let request = RollbackRequest { target: Target::LastKnownGood, reason, initiator: Initiator::Automatic };
//!     let report = manager.roll_back(request).await?;
//!     if report.fell_back() {
//!         assert!(report.attempts.len() > 1);
//!     }
//!     Ok(report)
//! }
//! ```
//!
//! Choosing targets in another way:
//!
//! ```
//! use evoseal_checkpoint::{Checkpoint, NewCheckpoint};
//! use evoseal_rollback::{Error, KnownGoodLadder, Result, Target, TargetSelector};
//! use evoseal_types::{CheckpointId, Digest, Timestamp};
//!
//! /// Goes nowhere but to versions whose note says `release`.
//! #[derive(Debug)]
//! struct ReleasesOnly;
//!
//! impl TargetSelector for ReleasesOnly {
//!     fn select(
//!         &self,
//!         target: &Target,
//!         checkpoints: &[Checkpoint],
//!         known_good: &[CheckpointId],
//!     ) -> Result<Vec<CheckpointId>> {
//!         let releases: Vec<Checkpoint> =
//!             checkpoints.iter().filter(|checkpoint| checkpoint.details.note == "release").cloned().collect();
//!         KnownGoodLadder.select(target, &releases, known_good)
//!     }
//! }
//!
//! let version = |name: &str, note: &str| -> Checkpoint {
//!     let id: evoseal_types::VersionId = name.parse().expect("a letter and a digit are a version id");
//!     let digest = Digest::of(name.as_bytes());
//!     let details = NewCheckpoint { note: note.to_owned(), ..NewCheckpoint::of(id) };
//!     let (created_at, id) = (Timestamp::default(), CheckpointId::new(digest));
//!     Checkpoint { id, created_at, tree: digest, file_count: 0, size_bytes: 0, details, pinned: None }
//! };
//! let checkpoints = [version("v1", "release"), version("v2", "nightly"), version("v3", "release")];
//! let good = checkpoints.each_ref().map(|checkpoint| checkpoint.id);
//!
//! let ladder = ReleasesOnly.select(&Target::LastKnownGood, &checkpoints, &good)?;
//! assert_eq!(ladder, [good[2], good[0]]);
//! let nightly = ReleasesOnly.select(&Target::Checkpoint(good[1]), &checkpoints, &good);
//! assert!(matches!(nightly, Err(Error::NoTarget { .. })));
//! # Ok::<(), Error>(())
//! ```
//!
//! # What it does not do
//!
//! - It ends no processes. Whatever writes to the workspace must be stopped first; a restore that does not hold still
//!   is found by its digest and counts as failed.
//! - A restore that has begun is not cut off when time is up: the time limit is checked before each attempt, and cuts
//!   off every other wait.
//! - It does not keep checkpoints from being deleted. Whoever deletes must spare the known-good ones
//!   ([`Rollback::known_good`]).
//! - It trusts the store that a checkpoint with the workspace's digest can be restored; it does not read it to make sure.
//! - It restores what checkpoints hold: ignored files and `.git` stay as they are.
//! - In the mode [`Exchange`](RollbackMode::Exchange) whoever stands in the workspace, or holds a folder of it open, is in the
//!   old tree afterwards, which is removed. Extended attributes of changed files come back only where checkpoints keep them.

mod caches;
#[cfg(feature = "conformance")]
pub mod conformance;
mod deadline;
mod error;
mod exchange;
mod files;
mod intent;
mod log;
mod manager;
mod protocol;
mod rollback;
mod saving;
mod seen;
mod selector;
mod settings;
mod stake;
mod state;
mod statistics;
mod swap;
mod verifier;
mod vocabulary;
mod workspace;

pub use error::{Error, Result};
pub use exchange::bring_state_home;
pub use manager::{RollbackManager, RollbackManagerBuilder};
pub use rollback::{
    Attempt, Initiator, Rollback, RollbackRecord, RollbackReport, RollbackRequest, RollbackStatistics,
    Target, TargetSelector, Verifier,
};
pub use saving::source_to_save;
pub use selector::KnownGoodLadder;
pub use settings::{HealthCheckSettings, RollbackMode, RollbackSettings};
pub use state::is_interrupted;
pub use verifier::{DigestVerifier, FunctionVerifier};
