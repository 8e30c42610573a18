//! One of the two versions of an evaluation: where its commands run and how their failures are named.

use std::path::PathBuf;

use evoseal_pipeline::{Error, EvaluationRequest, Result, VersionInPlace};
use evoseal_safety::{EvaluationFault, FaultKind, Subject};
use evoseal_sandbox::{CommandOutcome, Ending};
use evoseal_types::{EntryPath, ErrorClass, is_storage_full};

use crate::launcher::Place;
use crate::{Launcher, StepSettings, files, text};

/// How much of a command's output a fault quotes, in characters.
const OUTPUT_CHARS_MAX: usize = 2000;

/// A version, its role, and a folder of its own outside both versions.
#[derive(Debug)]
pub(super) struct Side<'a> {
    pub(super) subject: Subject,
    pub(super) version: &'a VersionInPlace,
    iteration: u64,
    run_directory: PathBuf,
}

impl<'a> Side<'a> {
    /// The candidate's or incumbent's side, its own folder made anew: nothing that an earlier evaluation or the other
    /// version left can be read from it.
    pub(super) fn new(
        request: &EvaluationRequest,
        subject: Subject,
        version: &'a VersionInPlace,
    ) -> Result<Self> {
        let own =
            EntryPath::new(format!("evaluation/{subject}")).expect("the names of both subjects are plain");
        // Emptying it through a link would empty somebody else's folder.
        let run_directory = files::inside(&request.run_directory, &own).map_err(|reason| Error::Invalid {
            what: format!("run directory {}", request.run_directory.display()),
            reason,
        })?;
        files::make_empty(&run_directory).map_err(|source| Error::Io {
            action: "empty",
            path: run_directory.clone(),
            source,
        })?;
        Ok(Self { subject, version, iteration: request.iteration, run_directory })
    }

    /// A fault of this version.
    pub(super) fn fault(&self, stage: &str, kind: FaultKind, message: impl Into<String>) -> EvaluationFault {
        EvaluationFault { kind, stage: stage.to_owned(), subject: self.subject, message: message.into() }
    }

    /// Runs one command for this version. A command that could not be started is a fault; one that ran is an outcome,
    /// however it ended.
    pub(super) async fn run(
        &self,
        launcher: &Launcher,
        stage: &str,
        step: &StepSettings,
    ) -> Result<Result<CommandOutcome, EvaluationFault>> {
        let directory = match step.directory(&self.version.directory) {
            Ok(directory) => directory,
            Err(reason) => {
                return Ok(Err(self.fault(stage, FaultKind::NotRun, format!("working_directory: {reason}"))));
            }
        };
        let place = Place {
            directory,
            writable: vec![self.version.directory.clone(), self.run_directory.clone()],
            variables: vec![
                ("EVOSEAL_ROLE", self.subject.to_string().into()),
                ("EVOSEAL_VERSION", self.version.version_id.to_string().into()),
                ("EVOSEAL_SUBJECT_DIR", self.version.directory.clone().into()),
                ("EVOSEAL_RUN_DIR", self.run_directory.clone().into()),
                ("EVOSEAL_ITERATION", self.iteration.to_string().into()),
            ],
        };
        match launcher.run(&launcher.spec(step, place)).await {
            Ok(outcome) if outcome.ending == Ending::Cancelled => Err(Error::Evaluator {
                reason: format!("{stage} was cancelled"),
                class: ErrorClass::Transient,
                source: None,
            }),
            Ok(outcome) => Ok(Ok(outcome)),
            Err(error) => self.not_started(launcher, stage, error).map(Err),
        }
    }

    /// What keeps a command from starting is the version's fault where its own files can be the cause, such as a program that
    /// its build did not make, and ours where no version could do better.
    fn not_started(
        &self,
        launcher: &Launcher,
        stage: &str,
        error: evoseal_sandbox::Error,
    ) -> Result<EvaluationFault> {
        use evoseal_sandbox::Error as Cause;
        let message = match &error {
            // No version could do better on a full disk.
            _ if is_storage_full(&error) => {
                let reason = format!("{stage} cannot be run");
                return Err(Error::Evaluator { reason, class: error.class(), source: Some(Box::new(error)) });
            }
            Cause::ProgramMissing { program } => launcher.missing(program, &format!("{stage}.command")),
            Cause::Start { source, .. } | Cause::Io { source, .. } => format!("{error}: {source}"),
            _ => {
                let reason = format!("{stage} cannot be run");
                return Err(Error::Evaluator { reason, class: error.class(), source: Some(Box::new(error)) });
            }
        };
        Ok(self.fault(stage, FaultKind::NotRun, message))
    }

    /// The fault in how a command ended, where only code 0 counts.
    pub(super) fn failure(
        &self,
        stage: &str,
        step: &StepSettings,
        outcome: &CommandOutcome,
    ) -> Option<EvaluationFault> {
        let kind = match outcome.ending {
            Ending::Exited(0) => return None,
            Ending::Exited(_) | Ending::Cancelled => FaultKind::Failed,
            Ending::Signalled(_) => FaultKind::Crashed,
            Ending::TimedOut => FaultKind::TimedOut,
        };
        Some(self.fault(stage, kind, describe(step, outcome)))
    }
}

/// How a command ended and the end of what it said.
pub(super) fn describe(step: &StepSettings, outcome: &CommandOutcome) -> String {
    let command = text::line(&step.command.to_string(), 100);
    let mut said = text::tail(&outcome.stderr.text(), OUTPUT_CHARS_MAX);
    if said.is_empty() {
        said = text::tail(&outcome.stdout.text(), OUTPUT_CHARS_MAX);
    }
    let limit = match outcome.ending {
        Ending::TimedOut => format!(" (limit {} s)", step.limits.wall_time_sec),
        _ => String::new(),
    };
    let separator = if said.is_empty() { "" } else { ": " };
    format!("`{command}` {}{limit}{separator}{said}", outcome.ending)
}

/// Standard output, if all of it was kept: results with a hole in them are no results.
pub(super) fn complete_stdout(outcome: &CommandOutcome) -> Result<String, String> {
    if outcome.stdout.truncated() {
        let (total, kept) =
            (outcome.stdout.total_bytes, outcome.stdout.head.len() + outcome.stdout.tail.len());
        return Err(format!(
            "it printed {total} bytes, of which {kept} were kept; raise `limits.output_bytes`"
        ));
    }
    Ok(outcome.stdout.text())
}
