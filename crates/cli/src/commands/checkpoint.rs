//! `evoseal checkpoint`.

use std::ffi::OsStr;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table};
use evoseal_checkpoint::{
    Checkpoint, CheckpointManager, CheckpointStore, CheckpointStoreExt, EntryKind, NewCheckpoint, Patterns,
    RestoreMode, Source, VerifyDepth, VerifyReport,
};
use evoseal_pipeline::RunLock;
use evoseal_types::{EntryPath, Timestamp, VersionId};

use crate::args::CheckpointCommand;
use crate::commands::history;
use crate::commands::rollback::changes;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(command: &CheckpointCommand, project: &Project, output: Output) -> Result<Exit> {
    let with_options;
    let project = match command {
        CheckpointCommand::Create { include_ignored, mtimes, xattrs, .. } => {
            with_options = project.clone().capturing(*include_ignored, *mtimes, *xattrs);
            &with_options
        }
        _ => project,
    };
    if let CheckpointCommand::Prune(arguments) = command {
        return super::prune::run(arguments, project, &project.stores().await?, output).await;
    }
    let store = project.open_checkpoints()?;
    match command {
        CheckpointCommand::Create { version, note, .. } => {
            create(version.as_deref(), note, project, &store, output).await
        }
        CheckpointCommand::List => list(&store, output).await,
        CheckpointCommand::Show { checkpoint, file } => {
            show(checkpoint, file.as_deref(), &store, output).await
        }
        CheckpointCommand::Diff { from, to } => diff(from, to, &store, output).await,
        CheckpointCommand::Cat { checkpoint, path } => cat(checkpoint, path, &store).await,
        CheckpointCommand::Restore { checkpoint, target, in_place, paths, dry_run } => {
            let mode = if *in_place { RestoreMode::InPlace } else { RestoreMode::Empty };
            restore(checkpoint, target, mode, paths, *dry_run, &store, output).await
        }
        CheckpointCommand::Verify { heal: Some(workspace), .. } => heal(workspace, &store, output).await,
        CheckpointCommand::Verify { checkpoints, quick, heal: None } => {
            let depth = if *quick { VerifyDepth::Quick } else { VerifyDepth::Full };
            verify(checkpoints, depth, &store, output).await
        }
        CheckpointCommand::Prune(_) => unreachable!("it was dealt with above"),
        CheckpointCommand::Pin { checkpoint, reason, remove } => {
            let found = store.resolve(checkpoint).await?;
            store.pin(found.id, (!remove).then_some(reason.as_str())).await?;
            let word = if *remove { "no longer pinned" } else { "pinned" };
            output
                .data(&found.id, || format!("{} ({}) is {word}", found.details.version_id, found.id.short()));
            Ok(Exit::Done)
        }
        CheckpointCommand::Delete { checkpoints, dry_run } => {
            delete(checkpoints, *dry_run, project, &store, output).await
        }
        CheckpointCommand::Stats => {
            let statistics = store.statistics().await?;
            output.data(&statistics, || {
                let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}"));
                let time = |time: Option<Timestamp>| time.map_or("-".to_owned(), history::time);
                format!(
                    "checkpoints  {} ({} pinned)\noldest       {}\nnewest       {}\nverified     {}\nstored       {} bytes in {} packs, {} more in the log\n\
                     as copies    {} bytes ({} times as much: {} by deduplication, {} by compression)\nin           {}",
                    statistics.total_checkpoints,
                    statistics.pinned_checkpoints,
                    time(statistics.oldest_checkpoint),
                    time(statistics.newest_checkpoint),
                    time(statistics.last_verification),
                    statistics.total_size_bytes,
                    statistics.packs,
                    statistics.packs_in_log,
                    statistics.logical_size_bytes,
                    ratio(statistics.reduction_ratio),
                    ratio(statistics.dedup_ratio),
                    ratio(statistics.compression_ratio),
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
    store: &CheckpointManager,
    output: Output,
) -> Result<Exit> {
    let version = match version {
        Some(version) => version.to_owned(),
        None => format!("manual-{}", project.clock.now().unix_ns() / 1_000_000_000),
    };
    let details = NewCheckpoint { note: note.to_owned(), ..NewCheckpoint::of(VersionId::new(version)?) };
    let handle = store.create(Source::Directory(project.root.clone()), details).await?;
    for path in &handle.stats.skipped {
        output.say(format!("left out: {path} is neither a file, a folder nor a symlink"));
    }
    for path in &handle.stats.lending {
        output.say(format!("without its set-user and set-group bits: {path}"));
    }
    let wanted = project.loaded.settings.safety.checkpoints.reserve_bytes;
    if handle.stats.reserved_bytes < wanted {
        output.say(format!("the disk has no room for the {wanted} bytes that `reserve_bytes` asks for"));
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

async fn list(store: &CheckpointManager, output: Output) -> Result<Exit> {
    let listed = store.list().await?;
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

async fn show(text: &str, file: Option<&str>, store: &CheckpointManager, output: Output) -> Result<Exit> {
    let checkpoint = store.resolve(text).await?;
    if let Some(file) = file {
        let content = store.read_file(checkpoint.id, &EntryPath::new(file)?).await?;
        crate::output::print_bytes(&content);
        return Ok(Exit::Done);
    }
    let entries = store.entries(checkpoint.id).await?;
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

async fn diff(from: &str, to: &str, store: &CheckpointManager, output: Output) -> Result<Exit> {
    let from = store.resolve(from).await?;
    let to = store.resolve(to).await?;
    let changed = store.diff(from.id, to.id).await?;
    output.data(&changed, || changes(&changed));
    Ok(Exit::Done)
}

/// Standard output, which need not have a reader to the end: one that has gone away, such as `head`, has seen enough.
struct Standard {
    out: std::io::StdoutLock<'static>,
    is_closed: bool,
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.out.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Err(error)
            }
            other => other,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

async fn cat(text: &str, path: &OsStr, store: &CheckpointManager) -> Result<Exit> {
    let id = store.resolve(text).await?.id;
    let path = EntryPath::new(path.as_encoded_bytes())?;
    let mut out =
        BufWriter::with_capacity(64 << 10, Standard { out: std::io::stdout().lock(), is_closed: false });
    let written = store.write_file_blocking(id, &path, &mut out);
    let flushed = match written {
        Ok(_) => out.flush().map_err(|error| Failure::io("write", Path::new("standard output"), &error)),
        Err(error) => Err(error.into()),
    };
    let (standard, rest) = out.into_parts();
    drop(rest);
    if standard.is_closed { Ok(Exit::Done) } else { flushed.map(|()| Exit::Done) }
}

async fn restore(
    text: &str,
    target: &Path,
    mode: RestoreMode,
    paths: &[String],
    dry_run: bool,
    store: &CheckpointManager,
    output: Output,
) -> Result<Exit> {
    let checkpoint = store.resolve(text).await?;
    let report = if paths.is_empty() {
        if dry_run {
            store.plan_restore(checkpoint.id, target, mode).await?
        } else {
            store.restore(checkpoint.id, target, mode).await?
        }
    } else {
        let patterns = Patterns::new(paths.iter().map(String::as_str))?;
        if dry_run {
            store.plan_restore_part(checkpoint.id, target, mode, &patterns).await?
        } else {
            store.restore_part(checkpoint.id, target, mode, &patterns).await?
        }
    };
    output.data(&report, || {
        let word = if dry_run { "would restore" } else { "restored" };
        let version = &checkpoint.details.version_id;
        let part = if paths.is_empty() { "" } else { "a part of " };
        let head =
            format!("{word} {part}{version} in {}: {} paths differ", target.display(), report.changes.len());
        if dry_run { format!("{head}\n{}", changes(&report.changes)) } else { head }
    });
    Ok(Exit::Done)
}

async fn verify(
    texts: &[String],
    depth: VerifyDepth,
    store: &CheckpointManager,
    output: Output,
) -> Result<Exit> {
    let mut ids = Vec::new();
    for text in texts {
        ids.push(store.resolve(text).await?.id);
    }
    let report = store.verify_to_depth(&ids, depth).await?;
    output.data(&report, || findings(&report));
    Ok(if report.damage.is_empty() { Exit::Done } else { Exit::Damaged })
}

async fn heal(workspace: &Path, store: &CheckpointManager, output: Output) -> Result<Exit> {
    let report = store.heal(workspace).await?;
    output.data(&report, || {
        let healed = format!(
            "{} damaged before; {} objects stored again\n",
            report.before.damage.len(),
            report.objects_healed
        );
        healed + &findings(&report.after)
    });
    Ok(if report.after.damage.is_empty() { Exit::Done } else { Exit::Damaged })
}

fn findings(report: &VerifyReport) -> String {
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
    lines.extend(report.notes.iter().map(|note| format!("no damage: {note}")));
    lines.join("\n")
}

async fn delete(
    texts: &[String],
    dry_run: bool,
    project: &Project,
    store: &CheckpointManager,
    output: Output,
) -> Result<Exit> {
    let mut doomed: Vec<Checkpoint> = Vec::new();
    for text in texts {
        let found = store.resolve(text).await?;
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
    let report = store.delete(&ids).await?;
    output.data(&report, || format!("deleted\n{}\n{} bytes came back", names.join("\n"), report.bytes_freed));
    Ok(Exit::Done)
}
