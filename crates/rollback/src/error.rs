//! What can go wrong with a rollback.

use std::path::PathBuf;

use evoseal_types::{ErrorClass, is_storage_full};

use crate::Attempt;

/// A rollback that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing fits the request.
    #[error("no version to roll back to: {reason}")]
    NoTarget {
        /// What was looked for and what there is.
        reason: String,
    },
    /// Every target failed; the workspace is as it was.
    #[error("none of {} versions could be restored; the workspace is as it was: {}", attempts.len(), summary(attempts))]
    Exhausted {
        /// What was tried and why each failed.
        attempts: Vec<Attempt>,
    },
    /// Time ran out before a target worked; the workspace is as it was.
    #[error("the rollback did not finish within {limit_sec} s after {} attempts", attempts.len())]
    TimedOut {
        /// The limit in seconds.
        limit_sec: u64,
        /// What was tried.
        attempts: Vec<Attempt>,
    },
    /// The target is no place for a workspace.
    #[error("{path:?} cannot be rolled back: {reason}")]
    UnsafeWorkspace {
        /// The directory.
        path: PathBuf,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The workspace cannot change places with a new tree; it is as it was.
    #[error("{path:?} cannot be exchanged: {reason}; the mode \"in_place\" does without")]
    CannotExchange {
        /// The workspace, or what in it cannot be moved.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A checkpoint operation failed.
    #[error("the checkpoint store failed")]
    Checkpoint(#[from] evoseal_checkpoint::Error),
    /// The operating system refused something.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A record of ours cannot be read.
    #[error("{path:?} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting with a wrong value.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A custom verifier could not look.
    #[error("the health check could not be made: {reason}")]
    Verifier {
        /// Why not.
        reason: String,
        /// Its own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The work was cut off: the runtime is shutting down.
    #[error("{action} was interrupted")]
    Interrupted {
        /// What was cut off.
        action: &'static str,
    },
}

/// The attempts in one line.
fn summary(attempts: &[Attempt]) -> String {
    let line = |attempt: &Attempt| {
        format!("{} ({})", attempt.checkpoint.short(), attempt.error.as_deref().unwrap_or("restored"))
    };
    attempts.iter().map(line).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// Whether the place refuses to be written to, by whatever version: its disk is full or can only be read.
    pub(crate) fn is_no_verdict(&self) -> bool {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        let kinds =
            causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
        is_storage_full(self) || kinds.into_iter().any(|kind| kind == std::io::ErrorKind::ReadOnlyFilesystem)
    }

    /// What the caller should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoTarget { .. } | Self::UnsafeWorkspace { .. } | Self::Invalid { .. } => {
                ErrorClass::Invalid
            }
            Self::Exhausted { .. } | Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::TimedOut { .. } | Self::Interrupted { .. } => ErrorClass::Transient,
            Self::Checkpoint(error) => error.class(),
            Self::Io { source, .. } => ErrorClass::of_io(source),
            Self::Verifier { .. } | Self::CannotExchange { .. } => ErrorClass::Environment,
        }
    }
}

/// The result of a rollback.
pub type Result<T, E = Error> = std::result::Result<T, E>;
