//! `evoseal gc`.

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
        output.data(&plan, || {
            let line = |checkpoint: &evoseal_checkpoint::Checkpoint| {
                format!("{}  {}", checkpoint.id.short(), checkpoint.details.version_id)
            };
            let list = plan.iter().map(line).collect::<Vec<_>>().join("\n");
            format!("would delete {} checkpoints\n{list}", plan.len())
        });
        return Ok(Exit::Done);
    }
    let report = stores.gate.cleanup_old_safety_data(keep).await?;
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
