//! `evoseal rollback`.

use evoseal_checkpoint::CheckpointStoreExt;
use evoseal_rollback::{Initiator, Rollback, RollbackRequest, Target};
use evoseal_types::{Change, ChangeKind};

use crate::args::RollbackArguments;
use crate::failure::{Exit, Result};
use crate::output::Output;
use crate::ownership::Ownership;
use crate::project::Project;

pub(crate) async fn run(arguments: &RollbackArguments, project: &Project, output: Output) -> Result<Exit> {
    let stores = project.stores().await?;
    let target = match arguments.target.as_deref() {
        None => Target::LastKnownGood,
        Some("parent") => Target::Parent,
        Some(text) => Target::Checkpoint(stores.checkpoints.resolve(text).await?.id),
    };
    if arguments.dry_run {
        let (checkpoint, plan) = stores.rollback.preview(&target).await?;
        output.data(&plan, || {
            let head =
                format!("would return {} to {}", project.root.display(), checkpoint.details.version_id);
            format!("{head}\n{}", changes(&plan.changes))
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
        if let Some(saved) = report.saved {
            lines.push(format!("what it held before is kept as {}", saved.short()));
        }
        lines.push(changes(&report.changes));
        lines.join("\n")
    });
    recorded?;
    Ok(if report.fell_back() { Exit::Found } else { Exit::Done })
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
