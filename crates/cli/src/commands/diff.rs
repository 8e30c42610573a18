//! `evoseal diff`.

use std::path::Path;

use evoseal_checkpoint::{Checkpoint, CheckpointStore, CheckpointStoreExt, RestoreMode};
use evoseal_types::{Change, EntryPath};
use similar::TextDiff;

use crate::args::DiffArguments;
use crate::commands::rollback::changes;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::{Project, Stores};

/// Files above this size are not compared line by line.
const TEXT_BYTES_MAX: u64 = 4 << 20;

pub(crate) async fn run(arguments: &DiffArguments, project: &Project, output: Output) -> Result<Exit> {
    let stores = project.stores().await?;
    let from = stores.checkpoints.resolve(&arguments.from).await?;
    let to = match &arguments.to {
        Some(text) => Some(stores.checkpoints.resolve(text).await?),
        None => None,
    };
    let changed = match &to {
        Some(to) => stores.checkpoints.diff(from.id, to.id).await?,
        None => workspace_changes(project, &stores, &from).await?,
    };
    if output.json || arguments.name_only {
        output.data(&changed, || changes(&changed));
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for change in &changed {
        text.push_str(&file_diff(project, &stores, &from, to.as_ref(), change).await?);
    }
    output.data(&changed, || if text.is_empty() { "no path differs".to_owned() } else { text });
    Ok(Exit::Done)
}

/// What the workspace has otherwise than a checkpoint: the plan of a restore, turned around.
async fn workspace_changes(project: &Project, stores: &Stores, from: &Checkpoint) -> Result<Vec<Change>> {
    use evoseal_types::ChangeKind;
    let plan = stores.checkpoints.plan_restore(from.id, &project.root, RestoreMode::InPlace).await?;
    let turned = plan.changes.into_iter().map(|change| Change {
        kind: match change.kind {
            ChangeKind::Added => ChangeKind::Removed,
            ChangeKind::Removed => ChangeKind::Added,
            kind => kind,
        },
        size_bytes_before: change.size_bytes_after,
        size_bytes_after: change.size_bytes_before,
        digest_after: None,
        path: change.path,
    });
    Ok(turned.collect())
}

/// One file as a unified diff.
async fn file_diff(
    project: &Project,
    stores: &Stores,
    from: &Checkpoint,
    to: Option<&Checkpoint>,
    change: &Change,
) -> Result<String> {
    let path = &change.path;
    let head = format!("--- {}/{path}\n+++ {}/{path}\n", from.details.version_id, to_name(to));
    let large = [change.size_bytes_before, change.size_bytes_after]
        .into_iter()
        .flatten()
        .any(|size| size > TEXT_BYTES_MAX);
    if large {
        return Ok(format!("{head}files above {TEXT_BYTES_MAX} bytes are not compared line by line\n"));
    }
    let before = match change.size_bytes_before {
        Some(_) => stores.checkpoints.read_file(from.id, path).await?,
        None => Vec::new(),
    };
    let after = match (change.size_bytes_after, to) {
        (None, _) => Vec::new(),
        (Some(_), Some(to)) => stores.checkpoints.read_file(to.id, path).await?,
        (Some(_), None) => read_workspace(&project.root, path)?,
    };
    let (Ok(before), Ok(after)) = (String::from_utf8(before), String::from_utf8(after)) else {
        return Ok(format!("{head}binary files differ\n"));
    };
    if before == after {
        return Ok(format!("{head}{}\n", change.kind));
    }
    let diff = TextDiff::from_lines(&before, &after);
    Ok(format!("{head}{}", diff.unified_diff().context_radius(3)))
}

fn to_name(to: Option<&Checkpoint>) -> String {
    to.map_or("workspace".to_owned(), |to| to.details.version_id.to_string())
}

fn read_workspace(root: &Path, path: &EntryPath) -> Result<Vec<u8>> {
    let path = root.join(path.as_path());
    std::fs::read(&path).map_err(|error| Failure::io("read", &path, &error))
}
