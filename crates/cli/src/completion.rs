//! Completing a rollback that an earlier process began and did not end: the first thing that any command does.

use evoseal_pipeline::{LockHolder, RunLock};
use evoseal_rollback::{Error, Rollback, RollbackReport};
use evoseal_types::ErrorClass;
use serde::Serialize;

use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::ownership::Ownership;
use crate::project::Project;

/// What became of a rollback that had been cut off.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Completion {
    /// It is done, and its record is written.
    Completed(Box<RollbackReport>),
    /// It was done but for its last traces, which are gone now.
    Tidied,
    /// It has ended badly: no target worked, and the workspace is as it was before.
    GaveUp(String),
    /// Another process works in the workspace; the rollback is that one's business.
    LeftToOther(LockHolder),
    /// What it needs is damaged or gone. The next `evoseal rollback` ends it; what shows the damage must go on working.
    Impossible(String),
}

impl Completion {
    /// Refuses to delete checkpoints while a rollback is unfinished: one of them may be all that is left of the workspace as it
    /// was before.
    pub(crate) fn allow_deletion(&self) -> Result<()> {
        let why = match self {
            Self::Completed(_) | Self::Tidied | Self::GaveUp(_) => return Ok(()),
            Self::LeftToOther(holder) => format!("{holder} is at it"),
            Self::Impossible(error) => format!("it cannot be completed: {error}"),
        };
        Err(Failure {
            exit: Exit::Damaged,
            message: format!("a rollback was cut off here, and may need any checkpoint; {why}"),
            hint: Some(
                "`evoseal rollback` to a version that can be restored ends it; then delete".to_owned(),
            ),
        })
    }
}

/// Completes what was cut off, and says so. Without an unfinished rollback this is one look at one file.
///
/// # Errors
///
/// Where it is the surroundings that keep it from being completed (no space, no right to write): nothing else should be
/// done in a workspace that is half-way between two versions.
pub(crate) async fn complete(project: &Project, output: Output) -> Result<Option<Completion>> {
    if !evoseal_rollback::is_interrupted(&project.rollback_directory()) {
        return Ok(None);
    }
    if let Some(holder) = RunLock::holder(&project.state_directory()) {
        return Ok(Some(Completion::LeftToOther(holder)));
    }
    let completion = attempt(project, output).await.map_err(|failure| Failure {
        message: format!("a rollback was cut off here and cannot be completed: {}", failure.message),
        hint: failure.hint.or_else(|| {
            Some(
                "put right what keeps it from writing here; any evoseal command then completes it".to_owned(),
            )
        }),
        ..failure
    })?;
    output.say(match &completion {
        Completion::Completed(report) => format!(
            "completed a rollback that was cut off: the workspace is at {} ({})",
            report.version_id,
            report.restored.short()
        ),
        Completion::Tidied => {
            "a rollback that was cut off had done its work; its traces are removed".to_owned()
        }
        Completion::GaveUp(error) => format!("ended a rollback that was cut off: {error}"),
        Completion::Impossible(error) => {
            format!(
                "a rollback was cut off here and cannot be completed: {error}; `evoseal rollback` ends it"
            )
        }
        Completion::LeftToOther(_) => return Ok(Some(completion)),
    });
    Ok(Some(completion))
}

async fn attempt(project: &Project, output: Output) -> Result<Completion> {
    let _ownership = Ownership::take(project, output)?;
    let stores = project.stores().await?;
    let recovered = stores.rollback.recover().await;
    let completion = match recovered {
        Ok(Some(report)) => Completion::Completed(Box::new(report)),
        Ok(None) => Completion::Tidied,
        Err(error @ (Error::Exhausted { .. } | Error::TimedOut { .. }))
            if !evoseal_rollback::is_interrupted(&project.rollback_directory()) =>
        {
            Completion::GaveUp(Failure::from(error).message)
        }
        Err(error) if matches!(error.class(), ErrorClass::Corrupt | ErrorClass::Invalid) => {
            return Ok(Completion::Impossible(Failure::from(error).message));
        }
        Err(error) => return Err(error.into()),
    };
    // A rollback of a run's is recorded by the settlement that it belongs to, which knows what was left and why, once the run goes
    // on with it.
    if project.run_state()?.in_flight.is_none() {
        stores.gate.record_rollbacks().await?;
    }
    Ok(completion)
}
