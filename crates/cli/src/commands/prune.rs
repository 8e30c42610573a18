//! `evoseal checkpoint prune`.

use evoseal_checkpoint::{CheckpointStore, RetentionPolicy, Verdict};
use evoseal_pipeline::RunLock;

use crate::args::PruneArguments;
use crate::commands::history;
use crate::failure::{Exit, Result};
use crate::output::Output;
use crate::project::{Project, Stores};

pub(crate) async fn run(
    arguments: &PruneArguments,
    project: &Project,
    stores: &Stores,
    output: Output,
) -> Result<Exit> {
    let _lock = RunLock::acquire(&project.state_directory())?;
    let mut protected = stores.gate.protected_checkpoints().await?;
    protected.extend(project.run_state()?.incumbent.and_then(|(version, _)| version.checkpoint));
    stores.checkpoints.protect(protected);
    let listed = stores.checkpoints.list().await?;
    let settings = &project.loaded.settings.safety.checkpoints;
    let policy = policy(arguments, settings.retention(), listed.len() as u64);
    let budget = arguments.max_size.unwrap_or(settings.max_store_bytes);
    let report = if arguments.dry_run {
        stores.checkpoints.plan_prune(&policy, budget).await?
    } else {
        stores.checkpoints.prune(&policy, budget).await?
    };
    output.data(&report, || {
        let mut lines = Vec::new();
        for decision in &report.decisions {
            let (word, reason) = match &decision.verdict {
                Verdict::Keep(reasons) => {
                    ("keep  ", reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", "))
                }
                Verdict::Surplus => ("remove", "no rule keeps it".to_owned()),
                Verdict::OverBudget => ("remove", "the store is too large".to_owned()),
            };
            let known = listed.iter().find(|checkpoint| checkpoint.id == decision.id);
            let name = known.map_or(String::new(), |checkpoint| {
                format!("  {}  {}", history::time(checkpoint.created_at), checkpoint.details.version_id)
            });
            lines.push(format!("{word}  {}{name}  ({reason})", decision.id.short()));
        }
        let word = if arguments.dry_run { "would delete" } else { "deleted" };
        lines.push(format!(
            "{word} {} of {} checkpoints; {} bytes before, {} after",
            report.removed().len(),
            report.decisions.len(),
            report.bytes_before,
            report.bytes_after
        ));
        lines.join("\n")
    });
    if report.bytes_over_budget > 0 {
        output.say(format!(
            "warning: what must be kept is {} bytes larger than the budget of {budget}",
            report.bytes_over_budget
        ));
    }
    Ok(if report.bytes_over_budget > 0 { Exit::Found } else { Exit::Done })
}

/// The rules that are given; those of the settings if none is. A size alone asks for nothing else to go.
fn policy(arguments: &PruneArguments, settings: RetentionPolicy, count: u64) -> RetentionPolicy {
    let given = RetentionPolicy {
        last: arguments.keep_last.unwrap_or(0),
        within: arguments.keep_within.unwrap_or_default(),
        hourly: arguments.hourly.unwrap_or(0),
        daily: arguments.daily.unwrap_or(0),
        weekly: arguments.weekly.unwrap_or(0),
        monthly: arguments.monthly.unwrap_or(0),
        yearly: arguments.yearly.unwrap_or(0),
    };
    let is_given = arguments.keep_within.is_some()
        || [
            arguments.keep_last,
            arguments.hourly,
            arguments.daily,
            arguments.weekly,
            arguments.monthly,
            arguments.yearly,
        ]
        .iter()
        .any(Option::is_some);
    match (is_given, arguments.max_size) {
        (true, _) => given,
        (false, Some(_)) => RetentionPolicy { last: count.max(1), ..RetentionPolicy::default() },
        (false, None) => settings,
    }
}
