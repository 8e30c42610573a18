//! `evoseal status`.

use evoseal_checkpoint::CheckpointStore;
use evoseal_pipeline::{CLEAN_RUNS_TO_TRUST, FinishedIteration, RunLock, RunState, VersionState};
use evoseal_rollback::{Rollback, RollbackStatistics};
use evoseal_safety::{NamedTest, SafetyGate, SafetyStatus};
use evoseal_sandbox::Tether;
use evoseal_types::{CheckpointId, VersionId};

use crate::commands::history;
use crate::completion::{Completion, Completions};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

/// How many undecided candidates are named.
const HELD_SHOWN_MAX: usize = 5;

/// What only the opened stores can tell.
#[derive(Debug)]
struct StoreView {
    safety: SafetyStatus,
    rollback: RollbackStatistics,
    /// Whether the workspace is the accepted version, where that has a checkpoint.
    holds_incumbent: Option<bool>,
}

impl StoreView {
    async fn new(project: &Project, incumbent: Option<CheckpointId>) -> Result<Self> {
        let stores = project.stores().await?;
        let safety = stores.gate.get_safety_status().await?;
        let tree = stores.checkpoints.tree_digest(&project.root).await?;
        let holds_incumbent = match incumbent {
            Some(checkpoint) => Some(stores.checkpoints.load(checkpoint).await?.tree == tree),
            None => None,
        };
        Ok(Self { safety, rollback: stores.rollback.statistics().await?, holds_incumbent })
    }
}

/// Shows what can be shown. What the surroundings keep from being completed, or from being looked at, is said beside it.
pub(crate) async fn run(project: &Project, completions: &Completions, output: Output) -> Result<Exit> {
    if !project.has_state() {
        let value = serde_json::json!({ "workspace": project.root, "runs": 0 });
        output.data(&value, || format!("{}: no run yet; `evoseal run` starts one", project.root.display()));
        return Ok(Exit::Done);
    }
    let state = project.run_state()?;
    let incumbent = state.incumbent.as_ref().map(|(version, _)| version.clone());
    let view = StoreView::new(project, incumbent.as_ref().and_then(|version| version.checkpoint)).await;
    let view = match view {
        Err(failure) if failure.exit != Exit::Environment => return Err(failure),
        view => view,
    };
    show(project, &state, view.as_ref(), completions, output);
    let mut exit = Exit::Done;
    for failure in completions.prevented().into_iter().chain(view.as_ref().err()) {
        output.failure(failure);
        exit = failure.exit;
    }
    Ok(exit)
}

fn show(
    project: &Project,
    state: &RunState,
    view: Result<&StoreView, &Failure>,
    completions: &Completions,
    output: Output,
) {
    let incumbent = state.incumbent.as_ref().map(|(version, _)| version.clone());
    let seen = view.ok();
    let holds_incumbent = seen.and_then(|view| view.holds_incumbent);
    let held = held(state);
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
        "flaky_tests": flaky_tests(state),
        "unfinished_override": state.pending_override.as_ref().map(|pending| pending.iteration),
        "running": running,
        "left_running": left_running,
        "safety": seen.map(|view| &view.safety),
        "rollback": seen.map(|view| &view.rollback),
        "unavailable": view.err().map(|failure| &failure.message),
        "interrupted_rollback": completions.rollback,
        "interrupted_override": completions.decision,
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
            lines.push(format!("unfinished   {}", pending.order.decision));
        }
        if completions.rollback.as_ref().is_some_and(Completion::is_unfinished) {
            lines.push("unfinished   a rollback; the workspace may be between two versions".to_owned());
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
            let name = |(test, clean_runs): (&NamedTest, &u32)| match clean_runs {
                0 => test.name.clone(),
                clean => format!("{} ({clean} of {CLEAN_RUNS_TO_TRUST} clean runs)", test.name),
            };
            let names: Vec<String> = state.quarantined.iter().map(name).collect();
            lines.push(format!("flaky tests  {}", names.join(", ")));
        }
        if let Some((at, reason)) = &state.run_ended {
            lines.push(format!("last run     ended {}: {reason}", history::time(*at)));
        }
        if let Ok(rows) = history::of(project, state, None) {
            lines.push(evoseal_report::status_lines(&rows, history::table_options(output)));
        }
        match view {
            Ok(view) => lines.extend(store_lines(view)),
            Err(failure) => lines.push(format!("stores       cannot be looked at: {}", failure.message)),
        }
        lines.join("\n")
    });
}

/// The tests that are held to be flaky, and how near they are to being trusted again.
fn flaky_tests(state: &RunState) -> Vec<serde_json::Value> {
    let row = |(test, clean_runs): (&NamedTest, &u32)| {
        serde_json::json!({
            "test_type": test.test_type,
            "name": test.name,
            "clean_runs": clean_runs,
            "clean_runs_to_trust": CLEAN_RUNS_TO_TRUST,
        })
    };
    state.quarantined.iter().map(row).collect()
}

/// What the stores hold.
fn store_lines(StoreView { safety, rollback, .. }: &StoreView) -> [String; 2] {
    let checkpoints = &safety.checkpoint_manager;
    let rate =
        rollback.success_rate.map_or(String::new(), |rate| format!(", {:.0} % successful", rate * 100.0));
    [
        format!("checkpoints  {}, {:.1} MiB", checkpoints.total_checkpoints, checkpoints.total_size_mb),
        format!(
            "rollbacks    {} ({} automatic, {} manual, {} recovery){rate}",
            rollback.total_rollbacks,
            rollback.auto_rollbacks,
            rollback.manual_rollbacks,
            rollback.recovery_rollbacks
        ),
    ]
}

/// The candidates that nobody has decided about, oldest first.
fn held(state: &RunState) -> Vec<VersionId> {
    let is_held = |state| matches!(state, VersionState::Held | VersionState::Awaiting);
    let held = state.finished.iter().filter(|finished| is_held(VersionState::of(finished)));
    held.filter_map(FinishedIteration::version).map(|version| version.version_id).collect()
}
