//! How the program ends, and what it says when it could not do its work.

use std::process::ExitCode;

use evoseal_types::{ErrorClass, is_storage_full};
use serde::Serialize;

/// Exit codes of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Finished, and something was rejected or found.
    Found = 1,
    /// Usage or settings are wrong.
    Usage = 2,
    /// The surroundings are not as needed: permission, disk, a missing tool.
    Environment = 3,
    /// Stored data are damaged.
    Damaged = 4,
    /// A bug of ours.
    Internal = 5,
    /// A person interrupted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorClass> for Exit {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Invalid => Self::Usage,
            ErrorClass::Transient | ErrorClass::Environment | ErrorClass::Unsupported => Self::Environment,
            ErrorClass::Corrupt => Self::Damaged,
            ErrorClass::Internal => Self::Internal,
        }
    }
}

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What to do about a full disk.
const NO_ROOM: &str = "make room on the disk of that path and start again, which goes on in the same place; `evoseal gc` gives back \
     what evoseal itself needs no more";

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self { exit: Exit::Environment, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint for this very error, if there is one, instead of a general one.
    pub(crate) fn or_hint(self, hint: Option<&str>) -> Self {
        Self { hint: hint.map(str::to_owned).or(self.hint), ..self }
    }

    /// An error with all its causes in one line.
    fn of(error: &(dyn std::error::Error + 'static), class: ErrorClass) -> Self {
        let mut message = error.to_string();
        for cause in std::iter::successors(error.source(), |cause| cause.source()) {
            let cause = cause.to_string();
            if !message.ends_with(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        let hint = is_storage_full(error).then(|| NO_ROOM.to_owned());
        Self { exit: class.into(), message, hint }
    }

    /// A file operation that the operating system refused.
    pub(crate) fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("cannot {action} {}: {error}", path.display());
        let hint = is_storage_full(error).then(|| NO_ROOM.to_owned());
        Self { exit: ErrorClass::of_io(error).into(), message, hint }
    }
}

impl From<evoseal_checkpoint::Error> for Failure {
    fn from(error: evoseal_checkpoint::Error) -> Self {
        use evoseal_checkpoint::Error;
        let hint = match &error {
            Error::NotFound { .. } => Some("`evoseal checkpoint list` shows what there is"),
            Error::Ambiguous { .. } => Some("give more digits of the id"),
            Error::NotEmpty { .. } => Some("name an empty folder, or one that does not exist yet"),
            Error::Pinned { .. } => Some("`evoseal checkpoint pin --remove` takes the pin back"),
            Error::Damaged { .. } => Some("`evoseal checkpoint verify` lists all damage and what it touches"),
            Error::Format { .. } => Some("use the version of evoseal that wrote it, or a newer one"),
            _ => None,
        };
        Self::of(&error, error.class()).or_hint(hint)
    }
}

impl From<evoseal_rollback::Error> for Failure {
    fn from(error: evoseal_rollback::Error) -> Self {
        if let evoseal_rollback::Error::Checkpoint(error) = error {
            return error.into();
        }
        let hint = match &error {
            evoseal_rollback::Error::Exhausted { .. } | evoseal_rollback::Error::TimedOut { .. } => Some(
                "`evoseal checkpoint verify` shows what is damaged; `evoseal checkpoint restore` writes any version to an \
                 empty folder",
            ),
            evoseal_rollback::Error::NoTarget { .. } => Some("`evoseal checkpoint list` shows what there is"),
            _ => None,
        };
        let failure = Self::of(&error, error.class()).or_hint(hint);
        match &error {
            // Targets were tried, and none worked: a person must look.
            evoseal_rollback::Error::TimedOut { attempts, .. } if !attempts.is_empty() => {
                Self { exit: Exit::Damaged, ..failure }
            }
            _ => failure,
        }
    }
}

impl From<evoseal_safety::Error> for Failure {
    fn from(error: evoseal_safety::Error) -> Self {
        match error {
            evoseal_safety::Error::Checkpoint(error) => error.into(),
            evoseal_safety::Error::Rollback(error) => error.into(),
            evoseal_safety::Error::Metrics(error) => error.into(),
            error @ evoseal_safety::Error::AuditDamaged { .. } => {
                Self::of(&error, error.class()).hint("`evoseal audit verify` says what is wrong with it")
            }
            error => Self::of(&error, error.class()),
        }
    }
}

impl From<evoseal_sandbox::Error> for Failure {
    fn from(error: evoseal_sandbox::Error) -> Self {
        let failure = Self::of(&error, error.class());
        match error {
            evoseal_sandbox::Error::NotEnforced { .. } => {
                failure.hint("`evoseal doctor` says what this machine enforces and what would change it")
            }
            _ => failure,
        }
    }
}

impl From<evoseal_pipeline::Error> for Failure {
    fn from(error: evoseal_pipeline::Error) -> Self {
        use evoseal_pipeline::Error;
        let hint = match &error {
            Error::BaselineFailed { .. } => Some(
                "nothing was changed; make the test command of evoseal.toml pass on the present state first",
            ),
            Error::BaselineNotEvaluated { .. } => {
                Some("nothing was changed; put right what kept it from being evaluated, and start again")
            }
            Error::Locked { .. } => Some("wait for it to end, or end it"),
            Error::Invalid { what, .. } if what.starts_with("iteration ") => {
                Some("`evoseal log` lists the iterations")
            }
            Error::Invalid { what, .. } if what == "workspace" => {
                Some("`evoseal rollback` returns the workspace to the last accepted version")
            }
            _ => None,
        };
        match error {
            Error::Safety(error) => error.into(),
            Error::Checkpoint(error) => error.into(),
            Error::Guard(error) => error.into(),
            error => Self::of(&error, error.class()).or_hint(hint),
        }
    }
}

/// Errors whose class says everything.
macro_rules! failure_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::of(&error, error.class())
            }
        })*
    };
}

failure_from!(evoseal_metrics::Error, evoseal_regression::Error, evoseal_types::Error);
