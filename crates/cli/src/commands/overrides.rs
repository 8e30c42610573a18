//! `evoseal approve`, `reject` and `hold`: a person decides.

use std::sync::Arc;

use evoseal_pipeline::{OverridePlan, OverrideReport, OverrideRequest, Overrider};
use evoseal_safety::PersonsVerdict;

use crate::args::{ApproveArguments, OverrideArguments};
use crate::commands::rollback;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::{Project, Stores};

pub(crate) async fn approve(arguments: &ApproveArguments, project: &Project, output: Output) -> Result<Exit> {
    run(PersonsVerdict::Approve, &arguments.common, arguments.force, project, output).await
}

pub(crate) async fn reject(arguments: &OverrideArguments, project: &Project, output: Output) -> Result<Exit> {
    run(PersonsVerdict::Reject, arguments, false, project, output).await
}

pub(crate) async fn hold(arguments: &OverrideArguments, project: &Project, output: Output) -> Result<Exit> {
    run(PersonsVerdict::Hold, arguments, false, project, output).await
}

/// What carries out the decisions of persons.
pub(crate) fn overrider(project: &Project, stores: &Stores) -> Overrider {
    Overrider {
        workspace: project.root.clone(),
        state_directory: project.state_directory(),
        gate: Arc::clone(&stores.gate) as _,
        checkpoints: Arc::clone(&stores.checkpoints) as _,
        clock: Arc::clone(&project.clock),
    }
}

async fn run(
    verdict: PersonsVerdict,
    arguments: &OverrideArguments,
    force: bool,
    project: &Project,
    output: Output,
) -> Result<Exit> {
    let wanted = &arguments.iteration;
    let iteration = wanted.strip_prefix('v').unwrap_or(wanted).parse().map_err(|_| {
        Failure::usage(format!("{wanted:?} is not an iteration")).hint("give its number, such as 7 or v7")
    })?;
    let request = OverrideRequest {
        iteration,
        verdict,
        person: arguments.by.clone().unwrap_or_else(rollback::person),
        reason: arguments.reason.clone(),
        force,
    };
    let stores = project.stores().await?;
    let overrider = overrider(project, &stores);
    if arguments.dry_run {
        let plan = overrider.plan(&request).await?;
        output.data(&plan, || planned(&plan));
        return Ok(Exit::Done);
    }
    let report = overrider.carry_out(&request).await?;
    output.data(&report, || done(&report));
    let moved = report.settled.as_ref().is_none_or(|settled| settled.rollback.is_some());
    Ok(match report.succeeded() {
        true => Exit::Done,
        false if moved => Exit::Found,
        // No version could be restored: a person must look.
        false => Exit::Damaged,
    })
}

/// What would happen.
fn planned(plan: &OverridePlan) -> String {
    let version = &plan.version.version_id;
    if plan.already {
        return format!("{version} is {} by a person's word already; nothing would be done", plan.state);
    }
    let mut lines = vec![format!("{version} is {} and would be {}", plan.state, plan.state_after)];
    match &plan.workspace_to {
        Some(target) => {
            lines.push(format!("the workspace would go to {}", target.version_id));
            lines.push(rollback::changes(&plan.changes));
        }
        None => lines.push("the workspace would stay as it is".to_owned()),
    }
    lines.join("\n")
}

/// What happened.
fn done(report: &OverrideReport) -> String {
    let version = &report.plan.version.version_id;
    let Some(settled) = &report.settled else {
        return format!("{version} is {} by a person's word already; nothing was done", report.plan.state);
    };
    let mut lines = Vec::new();
    if report.succeeded() {
        lines.push(format!("{version} was {} and is {}", report.plan.state, report.plan.state_after));
    } else {
        lines.push(format!("{version} could not be brought to what was wanted"));
    }
    lines.extend(settled.actions_taken.iter().cloned());
    if let Some(moved) = &settled.rollback {
        if let Some(saved) = moved.saved {
            lines.push(format!("what the workspace held before is kept as {}", saved.short()));
        }
        lines.push(rollback::changes(&moved.changes));
    }
    if let Some(incumbent) = &report.incumbent {
        lines.push(format!("the accepted version is {}", incumbent.version_id));
    }
    lines.join("\n")
}
