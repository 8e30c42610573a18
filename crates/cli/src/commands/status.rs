//! `evoseal status`.

use evoseal_checkpoint::CheckpointStore;
use evoseal_pipeline::{FinishedIteration, RunLock, RunState, VersionState};
use evoseal_rollback::Rollback;
use evoseal_safety::SafetyGate;
use evoseal_sandbox::Tether;
use evoseal_types::VersionId;

use crate::commands::history;
use crate::completion::Completion;
use crate::failure::{Exit, Result};
use crate::output::Output;
use crate::project::Project;

/// How many undecided candidates are named.
const HELD_SHOWN_MAX: usize = 5;

pub(crate) async fn run(project: &Project, completion: Option<&Completion>, output: Output) -> Result<Exit> {
    if !project.has_state() {
        let value = serde_json::json!({ "workspace": project.root, "runs": 0 });
        output.data(&value, || format!("{}: no run yet; `evoseal run` starts one", project.root.display()));
        return Ok(Exit::Done);
    }
    let state = project.run_state()?;
    let stores = project.stores().await?;
    let safety = stores.gate.get_safety_status().await?;
    let incumbent = state.incumbent.as_ref().map(|(version, _)| version.clone());
    let tree = stores.checkpoints.tree_digest(&project.root).await?;
    let holds_incumbent = match incumbent.as_ref().and_then(|version| version.checkpoint) {
        Some(checkpoint) => Some(stores.checkpoints.load(checkpoint).await?.tree == tree),
        None => None,
    };
    let rollback = stores.rollback.statistics().await?;
    let held = held(&state);
    let running = RunLock::holder(&project.state_directory());
    // While a program works here, its commands are no business of ours.
    let left_running = match running {
        Some(_) => Vec::new(),
        None => Tether::leftovers(&project.state_directory()),
    };
    let value = serde_json::json!({
        "workspace": project.root,
        "incumbent": incumbent,
        "workspace_holds_incumbent": holds_incumbent,
        "iterations": state.finished.len(),
        "unfinished_iteration": state.in_flight.as_ref().map(|flight| flight.iteration),
        "last_run_ended": state.run_ended,
        "awaits_person": state.asked,
        "held": held,
        "flaky_tests": state.quarantined,
        "unfinished_override": state.pending_override.as_ref().map(|pending| pending.iteration),
        "running": running,
        "left_running": left_running,
        "safety": safety,
        "rollback": rollback,
        "interrupted_rollback": completion,
    });
    output.data(&value, || {
        let mut lines = vec![format!("workspace    {}", project.root.display())];
        let version =
            incumbent.as_ref().map_or("none yet".to_owned(), |version| version.version_id.to_string());
        let holds = match holds_incumbent {
            Some(true) => " (the workspace holds it)",
            Some(false) => " (the workspace differs from it; `evoseal diff` shows how)",
            None => "",
        };
        lines.push(format!("accepted     {version}{holds}"));
        if let Some(holder) = &running {
            lines.push(format!("running      {holder}"));
        }
        for left in &left_running {
            lines.push(format!(
                "left over    process {} ({}) of a killed run; `evoseal run` ends it",
                left.process, left.command
            ));
        }
        if let Some(flight) = &state.in_flight {
            let next = if running.is_some() { "" } else { "; `evoseal run` goes on with it" };
            lines.push(format!("unfinished   iteration {}{next}", flight.iteration));
        }
        if let Some(pending) = &state.pending_override {
            let decision = &pending.order.decision;
            lines.push(format!("unfinished   {decision}; the next `evoseal run` or override completes it"));
        }
        if let Some(iteration) = state.asked {
            lines.push(format!(
                "waiting      iteration {iteration}: `evoseal approve`, `reject` or `hold` decides"
            ));
        }
        if !held.is_empty() {
            let newest: Vec<&str> = held.iter().rev().take(HELD_SHOWN_MAX).map(VersionId::as_str).collect();
            let more = held.len() - newest.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("undecided    {}{more}", newest.join(", ")));
        }
        if !state.quarantined.is_empty() {
            let names: Vec<&str> = state.quarantined.iter().map(|test| test.name.as_str()).collect();
            lines.push(format!("flaky tests  {}", names.join(", ")));
        }
        if let Some((at, reason)) = &state.run_ended {
            lines.push(format!("last run     ended {}: {reason}", history::time(*at)));
        }
        if let Ok(rows) = history::of(project, &state, None) {
            lines.push(evoseal_report::status_lines(&rows, history::table_options(output)));
        }
        lines.push(format!(
            "checkpoints  {}, {:.1} MiB",
            safety.checkpoint_manager.total_checkpoints, safety.checkpoint_manager.total_size_mb
        ));
        let rate =
            rollback.success_rate.map_or(String::new(), |rate| format!(", {:.0} % successful", rate * 100.0));
        lines.push(format!(
            "rollbacks    {} ({} automatic, {} manual, {} recovery){rate}",
            rollback.total_rollbacks,
            rollback.auto_rollbacks,
            rollback.manual_rollbacks,
            rollback.recovery_rollbacks
        ));
        lines.join("\n")
    });
    Ok(Exit::Done)
}

/// The candidates that nobody has decided about, oldest first.
fn held(state: &RunState) -> Vec<VersionId> {
    let is_held = |state| matches!(state, VersionState::Held | VersionState::Awaiting);
    let held = state.finished.iter().filter(|finished| is_held(VersionState::of(finished)));
    held.filter_map(FinishedIteration::version).map(|version| version.version_id).collect()
}
