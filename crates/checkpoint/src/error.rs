//! What can go wrong with checkpoints.

use std::path::PathBuf;

use evoseal_types::{CheckpointId, ErrorClass};

/// A failed operation on a checkpoint store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Nothing is known under that name.
    #[error("no {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A shortened id that several checkpoints have.
    #[error("id {prefix:?} is ambiguous: it could be {}", candidates.iter().map(CheckpointId::short).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// The shortened id.
        prefix: String,
        /// The checkpoints that it could mean.
        candidates: Vec<CheckpointId>,
    },
    /// Stored bytes are not what they should be.
    #[error("{object} is damaged: {problem}")]
    Damaged {
        /// The object's name in the store.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store was written by a newer version, or by another program.
    #[error("{store} has format {found}; this program reads {supported}")]
    Format {
        /// Which store.
        store: String,
        /// What it says about itself.
        found: String,
        /// What can be read.
        supported: String,
    },
    /// A restore into a directory that must be empty.
    #[error("{path:?} is not empty")]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// Deleting a pinned checkpoint.
    #[error("checkpoint {} is pinned: {reason}", id.short())]
    Pinned {
        /// The checkpoint.
        id: CheckpointId,
        /// Why it is pinned.
        reason: String,
    },
    /// A file that would not hold still while it was captured.
    #[error("{path:?} changed while it was read, {attempts} times in a row")]
    Unstable {
        /// The file.
        path: PathBuf,
        /// How often it was read.
        attempts: u32,
    },
    /// After a restore the target is not what was asked for: something else writes to it.
    #[error("{target:?} differs from the checkpoint after the restore: {path} was changed by someone else")]
    NotRestored {
        /// The target of the restore.
        target: PathBuf,
        /// The first path that differs.
        path: String,
    },
    /// A value or a tree beyond a stated limit.
    #[error("{what} is {actual}; at most {limit} can be stored")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// A wrong argument.
    #[error("{argument} is not valid: {reason}")]
    Invalid {
        /// Which argument.
        argument: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Someone else holds the store.
    #[error("{store} is in use by {holder}")]
    Locked {
        /// Which store.
        store: String,
        /// Who holds it.
        holder: String,
    },
    /// The work was cut off: the runtime is shutting down.
    #[error("{action} was interrupted")]
    Interrupted {
        /// What was cut off.
        action: &'static str,
    },
    /// A failure of a custom backend.
    #[error("backend {backend} failed to {action}")]
    Backend {
        /// The backend's name.
        backend: &'static str,
        /// What was tried.
        action: String,
        /// Its own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What the caller should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { source, .. } => ErrorClass::of_io(source),
            Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::NotEmpty { .. }
            | Self::Pinned { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. } => ErrorClass::Invalid,
            Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::Format { .. } => ErrorClass::Unsupported,
            Self::Unstable { .. }
            | Self::NotRestored { .. }
            | Self::Locked { .. }
            | Self::Interrupted { .. } => ErrorClass::Transient,
            Self::Backend { .. } => ErrorClass::Environment,
        }
    }
}

/// The result of an operation on a checkpoint store.
pub type Result<T, E = Error> = std::result::Result<T, E>;
