//! `evoseal gc`.

use evoseal_checkpoint::GarbageReport;
use evoseal_safety::{SafetyGate, SafetySwitches};

use crate::args::GcArguments;
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
        let garbage = stores.checkpoints.plan_garbage(&gone).await?;
        let value = serde_json::json!({ "checkpoints": plan, "garbage": garbage });
        output.data(&value, || {
            let line = |checkpoint: &evoseal_checkpoint::Checkpoint| {
                format!("{}  {}", checkpoint.id.short(), checkpoint.details.version_id)
            };
            let list = plan.iter().map(line).collect::<Vec<_>>().join("\n");
            let list = if list.is_empty() { list } else { format!("\n{list}") };
            format!("would delete {} checkpoints{list}\nstorage: {}", plan.len(), describe(&garbage, true))
        });
        return Ok(Exit::Done);
    }
    let report = stores.gate.cleanup_old_safety_data(keep).await?;
    // Also what earlier deletions and interrupted captures have left behind.
    let garbage = stores.checkpoints.collect_garbage().await?;
    let value = serde_json::json!({ "cleanup": report, "garbage": garbage });
    output.data(&value, || {
        let kept = if report.kept_protected > 0 {
            format!("; {} more were kept because a rollback may need them", report.kept_protected)
        } else {
            String::new()
        };
        format!(
            "deleted {} checkpoints, {} bytes came back{kept}\nbesides: {}",
            report.checkpoints_deleted,
            report.bytes_freed,
            describe(&garbage, false)
        )
    });
    Ok(Exit::Done)
}

/// What a collection does to the storage.
fn describe(garbage: &GarbageReport, is_plan: bool) -> String {
    let about = if is_plan { "about " } else { "" };
    format!(
        "{} packs that nothing needs, {} rewritten ({} bytes copied), {about}{} bytes {}",
        garbage.packs_removed,
        garbage.packs_rewritten,
        garbage.bytes_rewritten,
        garbage.bytes_freed,
        if is_plan { "to come back" } else { "came back" }
    )
}
