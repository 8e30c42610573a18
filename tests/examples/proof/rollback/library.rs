//! A rollback by the library, in the process that is struck.

use std::path::Path;
use std::sync::Arc;

use evoseal_checkpoint::CheckpointStore;
use evoseal_rollback::{
    Initiator, Rollback, RollbackManager, RollbackMode, RollbackRequest, RollbackSettings, Target,
    bring_state_home,
};
use evoseal_types::SystemClock;

use crate::Result;
use crate::operate::open;

/// The library's rollback to a version, or without one its recovery, on a place.
pub(crate) fn by_library(place: &Path, mode: RollbackMode, version: Option<&str>) -> Result<()> {
    let workspace = place.join("workspace");
    let state = workspace.join(".evoseal/rollback");
    // The store lies in there as well.
    bring_state_home(&workspace, &state)?;
    let store: Arc<dyn CheckpointStore> = Arc::new(open(place, None)?);
    let manager = RollbackManager::builder(store, &workspace, state, Arc::new(SystemClock::new()))
        .store_directory(workspace.join(".evoseal/checkpoints"))
        .settings(RollbackSettings { mode, ..RollbackSettings::default() })
        .build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let Some(version) = version else {
        return match runtime.block_on(manager.recover()) {
            // It has ended: all targets had failed before the crash, and the workspace is put back. The tree tells.
            Ok(_) | Err(evoseal_rollback::Error::Exhausted { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        };
    };
    let request = RollbackRequest {
        target: Target::Version(version.parse()?),
        reason: "the proof".to_owned(),
        initiator: Initiator::Automatic,
    };
    runtime.block_on(manager.roll_back(request))?;
    Ok(())
}
