//! What can go wrong around a decision.

use std::path::PathBuf;

use evoseal_types::{Digest, ErrorClass};

/// An operation of the safety layer that failed. To whoever asks whether a version is safe, an error means no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting or argument with a wrong value.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which one.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The audit log cannot be read or written.
    #[error("cannot {action} the audit log {path:?}")]
    AuditIo {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The audit log was changed after it was written.
    #[error("the audit log {path:?} is damaged at record {sequence}: {problem}")]
    AuditDamaged {
        /// The file.
        path: PathBuf,
        /// The first record that is wrong, counted from 1.
        sequence: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Evidence cannot be read or written.
    #[error("cannot {action} the evidence {path:?}")]
    EvidenceIo {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// No evidence of this digest is kept.
    #[error("the evidence {digest} is missing")]
    EvidenceMissing {
        /// Its digest.
        digest: Digest,
    },
    /// Evidence was changed after it was kept.
    #[error("the evidence {digest} is damaged: {problem}")]
    EvidenceDamaged {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint operation failed.
    #[error("the checkpoint store failed")]
    Checkpoint(#[from] evoseal_checkpoint::Error),
    /// A rollback failed.
    #[error("the rollback failed")]
    Rollback(#[from] evoseal_rollback::Error),
    /// Measurements could not be stored or read.
    #[error("the metric store failed")]
    Metrics(#[from] evoseal_metrics::Error),
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
            Self::Invalid { .. } => ErrorClass::Invalid,
            Self::AuditIo { source, .. } | Self::EvidenceIo { source, .. } => ErrorClass::of_io(source),
            Self::AuditDamaged { .. } | Self::EvidenceMissing { .. } | Self::EvidenceDamaged { .. } => {
                ErrorClass::Corrupt
            }
            Self::Checkpoint(error) => error.class(),
            Self::Rollback(error) => error.class(),
            Self::Metrics(error) => error.class(),
            Self::Interrupted { .. } => ErrorClass::Transient,
        }
    }
}

/// The result of an operation of the safety layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
