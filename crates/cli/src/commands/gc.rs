//! `evoseal gc`.

use evoseal_safety::{SafetyGate, SafetySwitches};

use crate::args::GcArguments;
use crate::commands::checkpoint::blocking;
use crate::failure::{Exit, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(arguments: &GcArguments, project: &Project, output: Output) -> Result<Exit> {
    let stores = project.stores().await?;
    let switches = SafetySwitches::from(&project.loaded.settings.safety);
    let keep = arguments.keep.unwrap_or(switches.max_checkpoints);
    if arguments.dry_run {
        let plan = stores.gate.cleanup_plan(keep).await?;
        let gone: Vec<_> = plan.iter().map(|checkpoint| checkpoint.id).collect();
        let checkpoints = std::sync::Arc::clone(&stores.checkpoints);
        let garbage = blocking(move || checkpoints.plan_garbage_blocking(&gone)).await?;
        let value = serde_json::json!({ "checkpoints": plan, "garbage": garbage });
        output.data(&value, || {
            let line = |checkpoint: &evoseal_checkpoint::Checkpoint| {
                format!("{}  {}", checkpoint.id.short(), checkpoint.details.version_id)
            };
            let list = plan.iter().map(line).collect::<Vec<_>>().join("\n");
            format!(
                "would delete {} checkpoints\n{list}\nabout {} bytes would come back: {} packs removed, {} rewritten",
                plan.len(),
                garbage.bytes_freed,
                garbage.packs_removed,
                garbage.packs_rewritten
            )
        });
        return Ok(Exit::Done);
    }
    let mut report = stores.gate.cleanup_old_safety_data(keep).await?;
    // Deleting has collected what it left; this takes what was left by others: writers that died, deletions while someone wrote.
    let checkpoints = std::sync::Arc::clone(&stores.checkpoints);
    report.bytes_freed += blocking(move || checkpoints.collect_garbage_blocking()).await?.bytes_freed;
    output.data(&report, || {
        let kept = if report.kept_protected > 0 {
            format!("; {} more were kept because a rollback may need them", report.kept_protected)
        } else {
            String::new()
        };
        format!(
            "deleted {} checkpoints, {} bytes came back{kept}",
            report.checkpoints_deleted, report.bytes_freed
        )
    });
    Ok(Exit::Done)
}
