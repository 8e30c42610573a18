//! What can go wrong with a run.

use std::path::PathBuf;

use evoseal_types::ErrorClass;

/// A run, or a part of one, that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A proposer could not propose.
    #[error("the proposer failed: {reason}")]
    Proposer {
        /// Why.
        reason: String,
        /// What the caller should do.
        class: ErrorClass,
        /// Its own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// An evaluator could not evaluate.
    #[error("the evaluator failed: {reason}")]
    Evaluator {
        /// Why.
        reason: String,
        /// What the caller should do.
        class: ErrorClass,
        /// Its own error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The version to start from does not pass; nothing was changed.
    #[error("the version to start from does not pass: {reason}")]
    BaselineFailed {
        /// Every reason.
        reason: String,
    },
    /// The version to start from could not be evaluated because of its surroundings, which says nothing about it; nothing was
    /// changed.
    #[error("the version to start from could not be evaluated: {reason}")]
    BaselineNotEvaluated {
        /// What kept it from being evaluated.
        reason: String,
    },
    /// A setting or argument with a wrong value.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which one.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
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
    /// Another run works on this workspace.
    #[error("another run works on this workspace: {holder}")]
    Locked {
        /// Who.
        holder: String,
    },
    /// The work was cut off: the runtime is shutting down.
    #[error("{action} was interrupted")]
    Interrupted {
        /// What was cut off.
        action: &'static str,
    },
    /// A value of the vocabulary was refused.
    #[error(transparent)]
    Type(#[from] evoseal_types::Error),
    /// The safety layer failed.
    #[error(transparent)]
    Safety(#[from] evoseal_safety::Error),
    /// A checkpoint operation failed.
    #[error("the checkpoint store failed")]
    Checkpoint(#[from] evoseal_checkpoint::Error),
    /// A guard could not look at the edit.
    #[error("the edit could not be checked")]
    Guard(#[from] evoseal_sandbox::Error),
}

impl Error {
    /// Whether a disk without room is at the bottom of it.
    pub fn is_storage_full(&self) -> bool {
        evoseal_types::is_storage_full(self)
    }

    /// What the caller should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Proposer { class, .. } | Self::Evaluator { class, .. } => *class,
            Self::BaselineNotEvaluated { .. } => ErrorClass::Environment,
            Self::BaselineFailed { .. } | Self::Invalid { .. } => ErrorClass::Invalid,
            Self::Io { source, .. } => ErrorClass::of_io(source),
            Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::Locked { .. } | Self::Interrupted { .. } => ErrorClass::Transient,
            Self::Safety(error) => error.class(),
            Self::Checkpoint(error) => error.class(),
            Self::Guard(error) => error.class(),
            Self::Type(error) => error.class(),
        }
    }
}

/// The result of a run or a part of one.
pub type Result<T, E = Error> = std::result::Result<T, E>;
