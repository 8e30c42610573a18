//! Completing what an earlier process began and did not end: a rollback, or what a person decided. The first thing that any
//! command does.

use std::sync::Arc;

use evoseal_checkpoint::CheckpointStore;
use evoseal_pipeline::{CompletedOverride, LockHolder, Overrider, RunLock};
use evoseal_rollback::{Error, Rollback, RollbackReport};
use evoseal_types::{ErrorClass, VersionId};
use serde::Serialize;

use crate::commands::overrides;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::ownership::Ownership;
use crate::project::{Project, Stores};

/// What became of something that had been cut off.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Completion<T> {
    /// It is done, and its record is written.
    Completed(Box<T>),
    /// It was done but for its last traces, which are gone now.
    Tidied,
    /// It has ended badly: no target worked, and the workspace is as it was before.
    GaveUp(String),
    /// Another process works in the workspace; it is that one's business.
    LeftToOther(LockHolder),
    /// What it needs is damaged or gone. What shows the damage must go on working.
    Impossible(String),
    /// The surroundings keep it from being completed: no space, no right to write.
    Prevented(String),
}

/// A rollback that was completed.
#[derive(Debug, Serialize)]
pub(crate) struct CompletedRollback {
    #[serde(flatten)]
    report: RollbackReport,
    /// Whether the workspace is at another version than the one that was asked for.
    fell_back: bool,
    /// The version that was asked for, if its checkpoint still says so.
    requested_version: Option<VersionId>,
}

/// What was found cut off, and what became of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Completions {
    /// A rollback.
    #[serde(rename = "interrupted_rollback")]
    pub(crate) rollback: Option<Completion<CompletedRollback>>,
    /// What a person decided.
    #[serde(rename = "interrupted_override")]
    pub(crate) decision: Option<Completion<CompletedOverride>>,
    /// What kept the first of them from being completed.
    #[serde(skip)]
    prevented: Option<Failure>,
}

impl Completions {
    /// Refuses to go on where the surroundings kept something from being completed: nothing else should be done in a workspace
    /// that is half-way between two versions.
    pub(crate) fn require(&mut self) -> Result<()> {
        self.prevented.take().map_or(Ok(()), Err)
    }

    /// What kept something from being completed, for those who only show things.
    pub(crate) fn prevented(&self) -> Option<&Failure> {
        self.prevented.as_ref()
    }

    /// Refuses to delete checkpoints while something is unfinished: one of them may be all that is left of the workspace as it
    /// was before, or where it is to go.
    pub(crate) fn allow_deletion(&self) -> Result<()> {
        let rollback = self.rollback.as_ref().and_then(Completion::unfinished);
        let decision = self.decision.as_ref().and_then(Completion::unfinished);
        let (what, why, way_out) = match (rollback, decision) {
            (Some(why), _) => ("a rollback", why, "`evoseal rollback` to a version that can be restored"),
            (None, Some(why)) => ("what a person decided", why, "the next `evoseal run`"),
            (None, None) => return Ok(()),
        };
        Err(Failure {
            exit: Exit::Damaged,
            message: format!("{what} was cut off here, and may need any checkpoint; {why}"),
            hint: Some(format!("{way_out} ends it; then delete")),
        })
    }
}

impl<T> Completion<T> {
    /// Whether it is still to be completed.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished().is_some()
    }

    /// Why it is still unfinished; `None` if it is not.
    fn unfinished(&self) -> Option<String> {
        match self {
            Self::Completed(_) | Self::Tidied | Self::GaveUp(_) => None,
            Self::LeftToOther(holder) => Some(format!("{holder} is at it")),
            Self::Impossible(error) | Self::Prevented(error) => {
                Some(format!("it cannot be completed: {error}"))
            }
        }
    }
}

/// Completes what was cut off, and says so. Where there is nothing, this is one look at each of two files.
pub(crate) async fn complete(project: &Project, output: Output) -> Completions {
    let state = project.state_directory();
    let mut found = Completions::default();
    let rollback = evoseal_rollback::is_interrupted(&project.rollback_directory());
    let decision = Overrider::is_unfinished(&state);
    if !rollback && !decision {
        return found;
    }
    if let Some(holder) = RunLock::holder(&state) {
        found.rollback = rollback.then(|| Completion::LeftToOther(holder.clone()));
        found.decision = decision.then_some(Completion::LeftToOther(holder));
        return found;
    }
    match attempt(project, rollback, decision, output, &mut found).await {
        Ok(()) => {}
        Err(failure) => found.prevent(rollback, failure),
    }
    found.say(output);
    found
}

impl Completions {
    /// Takes down what kept the rollback, or what a person decided, from being completed.
    fn prevent(&mut self, rollback: bool, failure: Failure) {
        let at_rollback = rollback && self.rollback.is_none();
        let what = if at_rollback { "a rollback" } else { "what a person decided" };
        let prevented = Failure {
            message: format!("{what} was cut off here and cannot be completed: {}", failure.message),
            hint: failure.hint.or_else(|| {
                Some(
                    "put right what keeps it from writing here; any evoseal command then completes it"
                        .to_owned(),
                )
            }),
            ..failure
        };
        if at_rollback {
            self.rollback = Some(Completion::Prevented(failure.message));
        } else {
            self.decision = Some(Completion::Prevented(failure.message));
        }
        self.prevented = Some(prevented);
    }

    /// Says what was done. What was prevented is said by whoever ends because of it.
    fn say(&self, output: Output) {
        let said = [
            self.rollback.as_ref().and_then(rollback_sentence),
            self.decision.as_ref().and_then(decision_sentence),
        ];
        for sentence in said.into_iter().flatten() {
            output.report(self, &sentence);
        }
    }
}

/// What became of a rollback.
fn rollback_sentence(completion: &Completion<CompletedRollback>) -> Option<String> {
    Some(match completion {
        Completion::Completed(done) => {
            let CompletedRollback { report, .. } = done.as_ref();
            let at = format!("{} ({})", report.version_id, report.restored.short());
            format!("completed a rollback that was cut off: the workspace is at {at}{}", done.fallback())
        }
        Completion::Tidied => {
            "a rollback that was cut off had done its work; its traces are removed".to_owned()
        }
        Completion::GaveUp(error) => format!("ended a rollback that was cut off: {error}"),
        Completion::Impossible(error) => {
            format!(
                "a rollback was cut off here and cannot be completed: {error}; `evoseal rollback` ends it"
            )
        }
        Completion::LeftToOther(_) | Completion::Prevented(_) => return None,
    })
}

/// What became of what a person decided.
fn decision_sentence(completion: &Completion<CompletedOverride>) -> Option<String> {
    match completion {
        Completion::Completed(done) => {
            let actions = done.report.actions_taken.join("; ");
            Some(format!("completed what a person had decided and was cut off: {}: {actions}", done.decision))
        }
        Completion::Impossible(error) => {
            Some(format!("what a person had decided was cut off here and cannot be completed: {error}"))
        }
        _ => None,
    }
}

impl CompletedRollback {
    async fn new(report: RollbackReport, stores: &Stores) -> Self {
        let requested = stores.checkpoints.load(report.requested).await;
        Self {
            fell_back: report.fell_back(),
            requested_version: requested.ok().map(|checkpoint| checkpoint.details.version_id),
            report,
        }
    }

    /// That the workspace is not where it was to go, and why, to be put behind a sentence.
    fn fallback(&self) -> String {
        let report = &self.report;
        if !self.fell_back {
            return String::new();
        }
        let id = report.requested.short();
        let asked = self.requested_version.as_ref().map_or(id.clone(), |version| format!("{version} ({id})"));
        let why = report.attempts.iter().find_map(|attempt| attempt.error.as_deref());
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        format!(", and not at {asked}, which was asked for{why}")
    }
}

async fn attempt(
    project: &Project,
    rollback: bool,
    decision: bool,
    output: Output,
    found: &mut Completions,
) -> Result<()> {
    let ownership = Ownership::take(project, output)?;
    let stores = project.stores().await?;
    if rollback {
        found.rollback = Some(complete_rollback(project, &stores).await?);
    }
    if decision {
        let overrider = overrides::overrider(project, &stores);
        found.decision = match overrider.complete(Some(Arc::clone(&ownership.lock))).await {
            Ok(completed) => completed.map(|completed| Completion::Completed(Box::new(completed))),
            Err(error) if is_about_the_store(error.class()) => {
                Some(Completion::Impossible(Failure::from(error).message))
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(())
}

/// Whether an error will be there again until somebody mends what is stored.
fn is_about_the_store(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Corrupt | ErrorClass::Invalid)
}

async fn complete_rollback(project: &Project, stores: &Stores) -> Result<Completion<CompletedRollback>> {
    let recovered = stores.rollback.recover().await;
    let completion = match recovered {
        Ok(Some(report)) => Completion::Completed(Box::new(CompletedRollback::new(report, stores).await)),
        Ok(None) => Completion::Tidied,
        Err(error @ (Error::Exhausted { .. } | Error::TimedOut { .. }))
            if !evoseal_rollback::is_interrupted(&project.rollback_directory()) =>
        {
            Completion::GaveUp(Failure::from(error).message)
        }
        Err(error) if is_about_the_store(error.class()) => {
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
