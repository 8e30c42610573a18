//! What a restore would overwrite or remove and no checkpoint holds.

use std::path::Path;

use evoseal_checkpoint::{CheckpointStore, RestoreMode, Source};
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
    let holders: Vec<CheckpointId> = held.iter().map(|known| known.id).collect();
    let unheld = unheld(store, workspace, target, &holders).await?;
    Ok((held.is_none() || !unheld.is_empty()).then(|| source_with(workspace, &unheld)))
}

/// The workspace with these paths, whether they are ignored or not.
pub(crate) fn source_with(workspace: &Path, paths: &[EntryPath]) -> Source {
    let above = |path: &EntryPath| std::iter::successors(Some(path.clone()), EntryPath::parent);
    let also = paths.iter().flat_map(above).collect();
    Source::DirectoryWith { directory: workspace.to_owned(), also }
}

/// What a restore of `target` would overwrite or remove and none of `holders` has: where one of them equals the workspace, files
/// that are ignored now, and were not when the target was captured. Nothing where the target cannot be read: it will not be
/// restored then.
pub(crate) async fn unheld(
    store: &dyn CheckpointStore,
    workspace: &Path,
    target: CheckpointId,
    holders: &[CheckpointId],
) -> Result<Vec<EntryPath>> {
    let plan = store.plan_restore(target, workspace, RestoreMode::InPlace).await;
    let changes = match plan {
        Ok(plan) => plan.changes,
        Err(error) if error.class() == ErrorClass::Corrupt => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut unheld: Vec<EntryPath> = changes
        .into_iter()
        .filter(|change| change.kind != ChangeKind::Added)
        .map(|change| change.path)
        .collect();
    for holder in holders {
        if unheld.is_empty() {
            break;
        }
        let entries = match store.entries(*holder).await {
            Ok(entries) => entries,
            // What it has put into the workspace cannot be told from what was there before.
            Err(error) if error.class() == ErrorClass::Corrupt => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        unheld.retain(|path| entries.binary_search_by(|entry| entry.path.cmp(path)).is_err());
    }
    Ok(unheld)
}
