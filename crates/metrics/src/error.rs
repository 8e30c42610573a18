//! What can go wrong with measurements.

use std::path::PathBuf;

use evoseal_types::ErrorClass;

/// A failed operation on a metric store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A record or argument that is refused.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which argument.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing is known under that name.
    #[error("no {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The database could not be opened, read or written.
    #[error("cannot {action} the metrics database {path:?}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database file; empty for one in memory.
        path: PathBuf,
        /// The database's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What the caller should do.
        class: ErrorClass,
    },
    /// The database was written by a newer version, or by another program.
    #[error("metrics database {path:?} has format {found}; this program reads up to {supported}")]
    Format {
        /// The database file.
        path: PathBuf,
        /// What it says about itself.
        found: String,
        /// What can be read.
        supported: String,
    },
    /// Stored data are damaged.
    #[error("metrics database {path:?} is damaged: {problem}")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A statistic could not be computed.
    #[error(transparent)]
    Statistic(#[from] evoseal_regression::Error),
    /// The work was cut off: the runtime is shutting down.
    #[error("{action} was interrupted")]
    Interrupted {
        /// What was cut off.
        action: &'static str,
    },
}

impl Error {
    /// What the caller should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid { .. } | Self::NotFound { .. } => ErrorClass::Invalid,
            Self::Database { class, .. } => *class,
            Self::Format { .. } => ErrorClass::Unsupported,
            Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::Statistic(error) => error.class(),
            Self::Interrupted { .. } => ErrorClass::Transient,
        }
    }
}

/// The result of an operation on a metric store.
pub type Result<T, E = Error> = std::result::Result<T, E>;
