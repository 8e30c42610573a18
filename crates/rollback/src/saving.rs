//! What a restore would overwrite or remove and no checkpoint holds.

use std::collections::BTreeSet;
use std::path::Path;

use evoseal_checkpoint::{CheckpointStore, Entry, RestoreMode, Source};
use evoseal_types::{ChangeKind, CheckpointId, EntryPath, ErrorClass};

use crate::Result;

/// What has to be captured before `target` is restored in `workspace`, so that the restore loses nothing; `None` where a
/// checkpoint holds all of it. Nothing is changed.
///
/// A rollback sees to this itself. It is for whoever restores a version by other means, where somebody may have worked in the
/// workspace: files that are ignored now and were not when the target was captured are captured too.
///
/// # Errors
///
/// Of the store. A target that is damaged is none: it will not be restored.
///
/// ```
/// use evoseal_checkpoint::{CheckpointManager, CheckpointStore, NewCheckpoint, RestoreMode, Source};
/// use evoseal_rollback::source_to_save;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (folder, store) = (tempfile::tempdir()?, CheckpointManager::builder().in_memory().open_or_create()?);
/// let notes = folder.path().join("notes");
/// std::fs::write(&notes, "first")?;
/// let source = Source::Directory(folder.path().to_owned());
/// let first = store.create(source, NewCheckpoint::of("v1".parse()?)).await?.durable().await?;
/// assert!(source_to_save(&store, folder.path(), first.id).await?.is_none());
///
/// std::fs::write(folder.path().join(".gitignore"), "notes\n")?;
/// std::fs::write(&notes, "second, and in no checkpoint")?;
/// let source = source_to_save(&store, folder.path(), first.id).await?.expect("both would be lost");
/// let saved = store.create(source, NewCheckpoint::of("saved".parse()?)).await?.durable().await?;
/// store.restore(first.id, folder.path(), RestoreMode::InPlace).await?;
/// assert_eq!(std::fs::read_to_string(&notes)?, "first");
/// assert_eq!(store.read_file(saved.id, &"notes".parse()?).await?, b"second, and in no checkpoint");
/// # Ok(())
/// # }
/// ```
pub async fn source_to_save(
    store: &dyn CheckpointStore,
    workspace: &Path,
    target: CheckpointId,
) -> Result<Option<Source>> {
    let tree = store.tree_digest(workspace).await?;
    let held = store.list().await?.into_iter().rev().find(|known| known.tree == tree);
    let mut at_stake = match compared(store, workspace, target).await {
        Ok((_, present)) => present,
        Err(error) if error.class() == ErrorClass::Corrupt => Paths::new(),
        Err(error) => return Err(error),
    };
    if let Some(held) = &held {
        match store.entries(held.id).await {
            Ok(entries) => at_stake.retain(|path| !has(&entries, path)),
            // One whose list cannot be read is no way back.
            Err(error) if error.class() == ErrorClass::Corrupt => {
                return Ok(Some(source_with(workspace, at_stake)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((held.is_none() || !at_stake.is_empty()).then(|| source_with(workspace, at_stake)))
}

pub(crate) type Paths = BTreeSet<EntryPath>;

/// The workspace with these paths, whether they are ignored or not.
pub(crate) fn source_with(workspace: &Path, paths: Paths) -> Source {
    let above = |path: EntryPath| std::iter::successors(Some(path), EntryPath::parent);
    let also = paths.into_iter().flat_map(above).collect();
    Source::DirectoryWith { directory: workspace.to_owned(), also }
}

/// The paths in which the workspace differs from a checkpoint, and those of them at which something stands.
pub(crate) async fn compared(
    store: &dyn CheckpointStore,
    workspace: &Path,
    checkpoint: CheckpointId,
) -> Result<(Paths, Paths)> {
    let plan = store.plan_restore(checkpoint, workspace, RestoreMode::InPlace).await?;
    let (mut changed, mut present) = (Paths::new(), Paths::new());
    for change in plan.changes {
        if change.kind != ChangeKind::Added {
            present.insert(change.path.clone());
        }
        changed.insert(change.path);
    }
    Ok((changed, present))
}

/// Whether a list of entries, sorted by path, has this one.
pub(crate) fn has(entries: &[Entry], path: &EntryPath) -> bool {
    entries.binary_search_by(|entry| entry.path.cmp(path)).is_ok()
}
