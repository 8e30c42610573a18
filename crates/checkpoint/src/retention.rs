//! Which checkpoints are kept.

use std::collections::BTreeSet;

use evoseal_types::CheckpointId;

use crate::store::{Checkpoint, CheckpointStore, DeleteReport};
use crate::{Error, Result};

/// Deletes the oldest checkpoints until at most `keep` are left. Pinned ones and `protected` ones are never deleted and
/// count, so that more than `keep` may be left.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) if `keep` is zero: that would ask for the loss of everything.
///
/// ```
/// use evoseal_checkpoint::{CheckpointManager, CheckpointStore, NewCheckpoint, Source, apply_retention};
/// use std::collections::{BTreeMap, BTreeSet};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let store = CheckpointManager::builder().in_memory().create()?;
/// for version in ["v1", "v2", "v3"] {
///     let source = Source::Entries(BTreeMap::from([("a".parse()?, version.into())]));
///     store.create(source, NewCheckpoint::of(version.parse()?)).await?.durable().await?;
/// }
/// apply_retention(&store, 2, &BTreeSet::new()).await?;
/// let left: Vec<String> =
///     store.list().await?.iter().map(|kept| kept.details.version_id.to_string()).collect();
/// assert_eq!(left, ["v2", "v3"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn apply_retention(
    store: &dyn CheckpointStore,
    keep: u64,
    protected: &BTreeSet<CheckpointId>,
) -> Result<DeleteReport> {
    let surplus = surplus(&store.list().await?, keep, protected)?;
    if surplus.is_empty() {
        return Ok(DeleteReport::default());
    }
    store.delete(&surplus).await
}

/// The checkpoints, out of a listing from oldest to newest, that are more than `keep` and may go.
pub fn surplus(
    listed: &[Checkpoint],
    keep: u64,
    protected: &BTreeSet<CheckpointId>,
) -> Result<Vec<CheckpointId>> {
    if keep == 0 {
        let reason = "at least one checkpoint must be kept".to_owned();
        return Err(Error::Invalid { argument: "keep", reason });
    }
    let candidates = listed.iter().map(|checkpoint| (checkpoint.id, checkpoint.pinned.is_some()));
    Ok(surplus_of(candidates, keep, protected))
}

/// The same over ids and whether they are pinned.
pub(crate) fn surplus_of(
    listed: impl ExactSizeIterator<Item = (CheckpointId, bool)>,
    keep: u64,
    protected: &BTreeSet<CheckpointId>,
) -> Vec<CheckpointId> {
    let excess = listed.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    let removable = listed.filter(|(id, is_pinned)| !is_pinned && !protected.contains(id));
    removable.take(excess).map(|(id, _)| id).collect()
}
