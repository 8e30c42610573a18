//! Putting the workspace back to a version without a rollback: after a crash, after an interruption, before an edit.
//!
//! None of this is in the history of rollbacks. The journal says that an iteration is unfinished until the workspace is in order,
//! so that whatever is cut off here is done again by the next start.

use evoseal_checkpoint::{NewCheckpoint, RestoreMode};
use evoseal_rollback::source_to_save;
use evoseal_types::{CheckpointId, VersionId};

use crate::Result;
use crate::event::EventKind;
use crate::pipeline::EvolutionPipeline;

/// What it took to put the workspace back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PutBack {
    /// Whether the workspace was another version before.
    pub(crate) moved: bool,
    /// Where what was there is kept, if no checkpoint held it.
    pub(crate) saved: Option<CheckpointId>,
}

impl PutBack {
    /// Where what was there is kept, to be put behind a sentence.
    pub(crate) fn kept(&self) -> String {
        self.saved.map_or(String::new(), |saved| format!("; what was there is kept as {}", saved.short()))
    }
}

impl EvolutionPipeline {
    /// Makes the workspace equal to a checkpoint. What stands there and no checkpoint holds may be a person's work: it is
    /// captured first, ignored files that would be overwritten or removed included. Whoever wrote it may have left something in
    /// the caches too: they are cleared as by a rollback, unless the workspace was in order.
    pub(crate) async fn return_workspace(&self, iteration: u64, checkpoint: CheckpointId) -> Result<PutBack> {
        let store = &self.parts.checkpoints;
        let found = store.tree_digest(&self.parts.workspace).await?;
        let moved = store.load(checkpoint).await?.tree != found;
        let mut saved = None;
        if moved {
            saved = self.save_before(iteration, checkpoint).await?;
            // Before the restore: cut off in between, the workspace is still seen to be another version.
            self.parts.gate.clear_caches(checkpoint).await?;
        }
        // Also where the trees are equal: what a restore that was cut off has laid aside is no part of one, and goes.
        self.restore_workspace(checkpoint).await?;
        Ok(PutBack { moved, saved })
    }

    /// The same after a candidate that is not to stay. It may have left something in the caches alone.
    pub(crate) async fn undo_candidate(&self, iteration: u64, incumbent: CheckpointId) -> Result<PutBack> {
        let done = self.return_workspace(iteration, incumbent).await?;
        if !done.moved {
            self.parts.gate.clear_caches(incumbent).await?;
        }
        Ok(done)
    }

    /// Tells everyone who watches where work that was undone is kept.
    pub(crate) fn tell_of_saved(&self, iteration: u64, done: &PutBack) {
        if done.saved.is_some() {
            let action = format!("the workspace was returned to the accepted version{}", done.kept());
            self.emit(EventKind::RunRecovered { iteration, action });
        }
    }

    /// Captures what a restore of a checkpoint would overwrite or remove and no checkpoint holds, if there is anything.
    pub(crate) async fn save_before(
        &self,
        iteration: u64,
        checkpoint: CheckpointId,
    ) -> Result<Option<CheckpointId>> {
        let source = source_to_save(&*self.parts.checkpoints, &self.parts.workspace, checkpoint)
            .await
            .map_err(evoseal_safety::Error::from)?;
        let Some(source) = source else { return Ok(None) };
        let version_id = VersionId::new(format!("before-recovery-{iteration}"))?;
        let details = NewCheckpoint { note: "saved before recovery".to_owned(), ..self.details(&version_id) };
        let handle = self.parts.gate.create_safety_checkpoint(source, details).await?;
        Ok(Some(handle.durable().await?.id))
    }

    /// Makes the workspace equal to a checkpoint, for the loop itself: what differs is what its own evaluation left behind.
    pub(crate) async fn restore_workspace(&self, checkpoint: CheckpointId) -> Result<()> {
        self.parts.checkpoints.restore(checkpoint, &self.parts.workspace, RestoreMode::InPlace).await?;
        Ok(())
    }
}
