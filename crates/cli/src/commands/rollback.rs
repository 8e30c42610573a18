//! `evoseal rollback`.

use std::collections::BTreeSet;

use evoseal_checkpoint::{Checkpoint, CheckpointStore, CheckpointStoreExt};
use evoseal_rollback::{Initiator, Rollback, RollbackMode, RollbackRequest, Target};
use evoseal_types::{Change, ChangeKind, CheckpointId, EntryPath};

use crate::args::RollbackArguments;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::ownership::Ownership;
use crate::project::{Project, Stores};

pub(crate) async fn run(arguments: &RollbackArguments, project: &Project, output: Output) -> Result<Exit> {
    let exchanging = arguments.exchange.then(|| project.clone().rolling_back_by(RollbackMode::Exchange));
    let project = exchanging.as_ref().unwrap_or(project);
    let stores = project.stores().await?;
    if let Some(count) = arguments.drill {
        return super::drill::run(count, project, &stores, output).await;
    }
    let is_inside = std::env::current_dir().is_ok_and(|folder| folder.starts_with(&project.root));
    let target = target(arguments, project, &stores).await?;
    if arguments.dry_run {
        let (checkpoint, plan) = stores.rollback.preview(&target).await?;
        let caches = stores.rollback.present_caches()?;
        let mut value = serde_json::to_value(&plan).unwrap_or_default();
        value["caches"] = serde_json::to_value(&caches).unwrap_or_default();
        let mode = project.loaded.settings.safety.rollback.mode;
        value["mode"] = serde_json::to_value(mode).unwrap_or_default();
        output.data(&value, || {
            let how = match mode {
                RollbackMode::InPlace => "in place",
                RollbackMode::Exchange => "by exchange of the whole tree",
            };
            let version = &checkpoint.details.version_id;
            let head = format!("would return {} to {version}, {how}", project.root.display());
            format!("{head}\n{}{}", changes(&plan.changes), cache_lines(&caches))
        });
        return Ok(Exit::Done);
    }
    // A run must not find the workspace moved under it.
    let _ownership = Ownership::take(project, output)?;
    let request =
        RollbackRequest { target, reason: arguments.reason.clone(), initiator: Initiator::Person(person()) };
    let report = stores.rollback.roll_back(request).await;
    // Also one that failed has its record. A log that cannot be written must not hide what was done.
    let recorded = stores.gate.record_rollbacks().await;
    let report = report?;
    output.data(&report, || {
        let mut lines =
            vec![format!("the workspace is at {} ({})", report.version_id, report.restored.short())];
        if report.fell_back() {
            lines.push(format!("not at {}, which was asked for:", report.requested.short()));
            let failed =
                report.attempts.iter().filter_map(|attempt| Some((attempt, attempt.error.as_ref()?)));
            lines.extend(failed.map(|(attempt, error)| format!("  {}: {error}", attempt.checkpoint.short())));
        }
        if is_inside && report.mode == RollbackMode::Exchange && !report.changes.is_empty() {
            lines.push(
                "this shell still stands in the folder that was there before: `cd \"$PWD\"`".to_owned(),
            );
        }
        if let Some(saved) = report.saved {
            lines.push(format!("what it held before is kept as {}", saved.short()));
        }
        if !report.changes.is_empty() {
            lines.push("`evoseal rollback --undo` takes this back".to_owned());
        }
        lines.push(format!("{}{}", changes(&report.changes), cache_lines(&report.caches)));
        lines.join("\n")
    });
    recorded?;
    Ok(if report.fell_back() { Exit::Found } else { Exit::Done })
}

/// Caches, one line each.
fn cache_lines(caches: &[EntryPath]) -> String {
    let lines = caches.iter().map(|cache| format!("- {cache}  (cache: what no version holds)"));
    std::iter::once(String::new()).chain(lines).collect::<Vec<_>>().join("\n")
}

/// What the command line means by its target.
async fn target(arguments: &RollbackArguments, project: &Project, stores: &Stores) -> Result<Target> {
    if arguments.undo {
        return Ok(Target::Undo);
    }
    let Some(text) = arguments.target.as_deref() else { return Ok(Target::LastKnownGood) };
    match text {
        "known-good" => return Ok(Target::LastKnownGood),
        "parent" => return Ok(Target::Parent),
        "best" => {
            let objective = project.loaded.settings.objective.clone();
            let missing = || {
                Failure::usage("there is no objective that a version could be best by").hint(
                    "name the metric and its harmful direction: [objective] in evoseal.toml; or name a version",
                )
            };
            return objective.map(Target::Best).ok_or_else(missing);
        }
        _ => {}
    }
    let baselines = match stores.gate.baselines().await {
        Err(error) if text.starts_with("baseline:") => return Err(error.into()),
        // A damaged log names no baseline, and must not keep anybody from going back; recording the rollback tells of the damage.
        known => known.unwrap_or_default(),
    };
    let baseline = |name: &str| {
        let checkpoint = baselines.get(name).map(|(_, checkpoint)| *checkpoint);
        checkpoint.map(|checkpoint| Target::Baseline { name: name.to_owned(), checkpoint })
    };
    let listed = stores.checkpoints.list().await?;
    let newest = |version: &str| {
        let is_meant = |found: &&Checkpoint| found.details.version_id.as_str() == version;
        listed.iter().rev().find(is_meant).map(|found| found.id)
    };
    let unknown = |what: &str| {
        let names: Vec<&str> = baselines.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::usage(format!("there is no {what}")).hint(format!(
            "baselines: {names}; `evoseal log` lists the versions, `evoseal checkpoint list` all checkpoints"
        ))
    };
    if let Some(name) = text.strip_prefix("baseline:") {
        return baseline(name).ok_or_else(|| unknown(&format!("baseline {name:?}")));
    }
    if let Some(version) = text.strip_prefix("version:") {
        return newest(version)
            .map(Target::Checkpoint)
            .ok_or_else(|| unknown(&format!("version {version:?}")));
    }
    if let Some(id) = text.strip_prefix("checkpoint:") {
        let is_id = !listed.iter().any(|found| found.details.version_id.as_str() == id);
        let found = if is_id { stores.checkpoints.resolve(id).await.ok() } else { None };
        return found
            .map(|found| Target::Checkpoint(found.id))
            .ok_or_else(|| unknown(&format!("checkpoint {id:?}")));
    }
    // An iteration's version bears its number; a text of digits only may be the beginning of an id as well.
    let version = newest(text).or_else(|| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { newest(&format!("v{text}")) } else { None }
    });
    let named = baseline(text);
    let by_id = if newest(text).is_some() { None } else { stores.checkpoints.resolve(text).await.ok() };
    let by_id = by_id.map(|found| found.id);
    let meanings: BTreeSet<CheckpointId> =
        [named.as_ref().and_then(checkpoint_of), version, by_id].into_iter().flatten().collect();
    if meanings.len() > 1 {
        let kinds =
            [("baseline", named.is_some()), ("version", version.is_some()), ("checkpoint", by_id.is_some())];
        let kinds: Vec<&str> = kinds.iter().filter(|(_, has)| *has).map(|(kind, _)| *kind).collect();
        return Err(Failure::usage(format!("{text:?} is ambiguous: it is a {}", kinds.join(" and a ")))
            .hint(format!(
                "say which: {}",
                kinds.iter().map(|kind| format!("{kind}:{text}")).collect::<Vec<_>>().join(" or ")
            )));
    }
    if let Some(target) = named.or(version.or(by_id).map(Target::Checkpoint)) {
        return Ok(target);
    }
    // What is wrong with it as the beginning of an id is said by the store.
    match stores.checkpoints.resolve(text).await {
        Err(error @ evoseal_checkpoint::Error::Ambiguous { .. }) => Err(error.into()),
        _ => Err(unknown(&format!("version, baseline or checkpoint {text:?}"))),
    }
}

fn checkpoint_of(target: &Target) -> Option<CheckpointId> {
    match target {
        Target::Baseline { checkpoint, .. } | Target::Checkpoint(checkpoint) => Some(*checkpoint),
        _ => None,
    }
}

/// Whoever runs this program, for the record.
pub(crate) fn person() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned())
}

/// Changes, one line each.
pub(crate) fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no path differs".to_owned();
    }
    let line = |change: &Change| {
        let sign = match change.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Modified => 'M',
            ChangeKind::ModeChanged => 'm',
            ChangeKind::KindChanged => 'T',
        };
        let size = match (change.size_bytes_before, change.size_bytes_after) {
            (Some(before), Some(after)) => format!("  {before} → {after} bytes"),
            (None, Some(size)) | (Some(size), None) => format!("  {size} bytes"),
            (None, None) => String::new(),
        };
        format!("{sign} {}{size}", change.path)
    };
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}
