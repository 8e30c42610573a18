//! `evoseal checkpoint`.

use std::path::Path;

use comfy_table::{CellAlignment, Table};
use evoseal_checkpoint::{
    Checkpoint, CheckpointStore, CheckpointStoreExt, EntryKind, NewCheckpoint, RestoreMode, Source,
};
use evoseal_pipeline::RunLock;
use evoseal_types::{EntryPath, VersionId};

use crate::args::CheckpointCommand;
use crate::commands::history;
use crate::commands::rollback::changes;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::{Project, Stores};

pub(crate) async fn run(command: &CheckpointCommand, project: &Project, output: Output) -> Result<Exit> {
    let stores = project.stores().await?;
    match command {
        CheckpointCommand::Create { version, note } => {
            create(version.as_deref(), note, project, &stores, output).await
        }
        CheckpointCommand::List => list(&stores, output).await,
        CheckpointCommand::Show { checkpoint, file } => {
            show(checkpoint, file.as_deref(), &stores, output).await
        }
        CheckpointCommand::Diff { from, to } => diff(from, to, &stores, output).await,
        CheckpointCommand::Restore { checkpoint, target, in_place, dry_run } => {
            restore(checkpoint, target, *in_place, *dry_run, &stores, output).await
        }
        CheckpointCommand::Verify { checkpoints } => verify(checkpoints, &stores, output).await,
        CheckpointCommand::Pin { checkpoint, reason, remove } => {
            let found = stores.checkpoints.resolve(checkpoint).await?;
            stores.checkpoints.pin(found.id, (!remove).then_some(reason.as_str())).await?;
            let word = if *remove { "no longer pinned" } else { "pinned" };
            output
                .data(&found.id, || format!("{} ({}) is {word}", found.details.version_id, found.id.short()));
            Ok(Exit::Done)
        }
        CheckpointCommand::Delete { checkpoints, dry_run } => {
            delete(checkpoints, *dry_run, project, &stores, output).await
        }
        CheckpointCommand::Stats => {
            let statistics = stores.checkpoints.statistics().await?;
            output.data(&statistics, || {
                let ratio = statistics.reduction_ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}"));
                format!(
                    "checkpoints  {} ({} pinned)\nstored       {} bytes\nas copies    {} bytes ({ratio} times as much)\nin           {}",
                    statistics.total_checkpoints,
                    statistics.pinned_checkpoints,
                    statistics.total_size_bytes,
                    statistics.logical_size_bytes,
                    statistics.checkpoint_directory,
                )
            });
            Ok(Exit::Done)
        }
    }
}

async fn create(
    version: Option<&str>,
    note: &str,
    project: &Project,
    stores: &Stores,
    output: Output,
) -> Result<Exit> {
    let version = match version {
        Some(version) => version.to_owned(),
        None => format!("manual-{}", project.clock.now().unix_ns() / 1_000_000_000),
    };
    let details = NewCheckpoint { note: note.to_owned(), ..NewCheckpoint::of(VersionId::new(version)?) };
    let handle = stores.checkpoints.create(Source::Directory(project.root.clone()), details).await?;
    for path in &handle.stats.skipped {
        output.say(format!("left out: {path} is neither a file, a folder nor a symlink"));
    }
    let stats = handle.stats.clone();
    let checkpoint = handle.durable().await?;
    output.data(&checkpoint, || {
        format!(
            "{} is {}: {} files, {} bytes; read {} files, stored {} bytes",
            checkpoint.details.version_id,
            checkpoint.id.short(),
            checkpoint.file_count,
            checkpoint.size_bytes,
            stats.files_read,
            stats.bytes_stored
        )
    });
    Ok(Exit::Done)
}

async fn list(stores: &Stores, output: Output) -> Result<Exit> {
    let listed = stores.checkpoints.list().await?;
    output.data(&listed, || {
        if listed.is_empty() {
            return "no checkpoints yet".to_owned();
        }
        let mut table = Table::new();
        table.load_style(comfy_table::TableStyle::new());
        table.set_header(["id", "version", "made", "files", "bytes", "pinned", "note"]);
        for column in [3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for checkpoint in &listed {
            table.add_row([
                checkpoint.id.short(),
                checkpoint.details.version_id.to_string(),
                history::time(checkpoint.created_at),
                checkpoint.file_count.to_string(),
                checkpoint.size_bytes.to_string(),
                checkpoint.pinned.clone().unwrap_or_default(),
                checkpoint.details.note.clone(),
            ]);
        }
        table.trim_fmt()
    });
    Ok(Exit::Done)
}

async fn show(text: &str, file: Option<&str>, stores: &Stores, output: Output) -> Result<Exit> {
    let checkpoint = stores.checkpoints.resolve(text).await?;
    if let Some(file) = file {
        let content = stores.checkpoints.read_file(checkpoint.id, &EntryPath::new(file)?).await?;
        crate::output::print_bytes(&content);
        return Ok(Exit::Done);
    }
    let entries = stores.checkpoints.entries(checkpoint.id).await?;
    let value = serde_json::json!({ "checkpoint": checkpoint, "entries": entries });
    output.data(&value, || {
        let details = &checkpoint.details;
        let parent = details.parent.map_or("none".to_owned(), |parent| parent.short());
        let mut lines = vec![
            format!("id       {}", checkpoint.id),
            format!("version  {}", details.version_id),
            format!("made     {}", history::time(checkpoint.created_at)),
            format!("parent   {parent}"),
            format!("tree     {}", checkpoint.tree),
            format!("note     {}", details.note),
        ];
        for report in &details.test_results {
            lines.push(format!(
                "tests    {}: {} of {} passed",
                report.test_type, report.tests_passed, report.tests_run
            ));
        }
        for metric in &details.metrics {
            lines.push(format!("metric   {}: {} samples", metric.spec.name, metric.samples.len()));
        }
        lines.extend(entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { size_bytes, mode, .. } => {
                Some(format!("{mode:04o} {size_bytes:>10}  {}", entry.path))
            }
            EntryKind::Symlink { target } => Some(format!(
                "l            {} -> {}",
                entry.path,
                String::from_utf8_lossy(target).escape_debug()
            )),
            EntryKind::Directory { .. } => None,
        }));
        lines.join("\n")
    });
    Ok(Exit::Done)
}

async fn diff(from: &str, to: &str, stores: &Stores, output: Output) -> Result<Exit> {
    let from = stores.checkpoints.resolve(from).await?;
    let to = stores.checkpoints.resolve(to).await?;
    let changed = stores.checkpoints.diff(from.id, to.id).await?;
    output.data(&changed, || changes(&changed));
    Ok(Exit::Done)
}

async fn restore(
    text: &str,
    target: &Path,
    in_place: bool,
    dry_run: bool,
    stores: &Stores,
    output: Output,
) -> Result<Exit> {
    let checkpoint = stores.checkpoints.resolve(text).await?;
    let mode = if in_place { RestoreMode::InPlace } else { RestoreMode::Empty };
    let report = if dry_run {
        stores.checkpoints.plan_restore(checkpoint.id, target, mode).await?
    } else {
        stores.checkpoints.restore(checkpoint.id, target, mode).await?
    };
    output.data(&report, || {
        let word = if dry_run { "would restore" } else { "restored" };
        let version = &checkpoint.details.version_id;
        let head = format!("{word} {version} in {}: {} paths differ", target.display(), report.changes.len());
        if dry_run { format!("{head}\n{}", changes(&report.changes)) } else { head }
    });
    Ok(Exit::Done)
}

async fn verify(texts: &[String], stores: &Stores, output: Output) -> Result<Exit> {
    let mut ids = Vec::new();
    for text in texts {
        ids.push(stores.checkpoints.resolve(text).await?.id);
    }
    let report = stores.checkpoints.verify(&ids).await?;
    output.data(&report, || {
        let mut lines = vec![format!(
            "{} checkpoints, {} objects, {} bytes: {} damaged",
            report.checkpoints_checked,
            report.objects_checked,
            report.bytes_checked,
            report.damage.len()
        )];
        for damage in &report.damage {
            lines.push(format!("{}: {}", damage.object, damage.problem));
            lines.extend(damage.checkpoints.iter().map(|id| format!("  touches {}", id.short())));
            lines.extend(damage.paths.iter().map(|path| format!("  touches {path}")));
        }
        lines.join("\n")
    });
    Ok(if report.damage.is_empty() { Exit::Done } else { Exit::Damaged })
}

async fn delete(
    texts: &[String],
    dry_run: bool,
    project: &Project,
    stores: &Stores,
    output: Output,
) -> Result<Exit> {
    let mut doomed: Vec<Checkpoint> = Vec::new();
    for text in texts {
        let found = stores.checkpoints.resolve(text).await?;
        if !doomed.iter().any(|known| known.id == found.id) {
            doomed.push(found);
        }
    }
    let _lock = RunLock::acquire(&project.state_directory())?;
    let incumbent = project.run_state()?.incumbent.and_then(|(version, _)| version.checkpoint);
    if let Some(kept) = doomed.iter().find(|checkpoint| Some(checkpoint.id) == incumbent) {
        return Err(Failure::usage(format!("{} is the accepted version", kept.details.version_id))
            .hint("a run or a rollback may need it at any time"));
    }
    let names: Vec<String> =
        doomed.iter().map(|found| format!("{}  {}", found.id.short(), found.details.version_id)).collect();
    if dry_run {
        output.data(&doomed, || format!("would delete\n{}", names.join("\n")));
        return Ok(Exit::Done);
    }
    let ids: Vec<_> = doomed.iter().map(|checkpoint| checkpoint.id).collect();
    let report = stores.checkpoints.delete(&ids).await?;
    output.data(&report, || format!("deleted\n{}\n{} bytes came back", names.join("\n"), report.bytes_freed));
    Ok(Exit::Done)
}
