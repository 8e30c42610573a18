//! What can go wrong around a command.

use std::path::PathBuf;

use evoseal_types::ErrorClass;

/// A command that could not be run, or a guard that could not look.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program does not exist or is not on the `PATH` that the command was given.
    #[error("program {program:?} was not found")]
    ProgramMissing {
        /// The program as it was named.
        program: String,
    },
    /// The program exists and cannot be executed.
    #[error("program {program:?} cannot be started")]
    Start {
        /// The program as it was named.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The operating system refused something else.
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
    /// A pattern that is no glob.
    #[error("pattern {pattern:?} is not valid: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit or argument with a wrong value.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Something was required that this machine cannot enforce.
    #[error("the sandbox cannot enforce: {}", missing.join(", "))]
    NotEnforced {
        /// The walls that do not hold.
        missing: Vec<String>,
    },
}

impl Error {
    /// What the caller should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::ProgramMissing { .. } => ErrorClass::Environment,
            Self::Start { source, .. } | Self::Io { source, .. } => ErrorClass::of_io(source),
            Self::Pattern { .. } | Self::Invalid { .. } => ErrorClass::Invalid,
            Self::NotEnforced { .. } => ErrorClass::Unsupported,
        }
    }
}

/// The result of running a command or checking an edit.
pub type Result<T, E = Error> = std::result::Result<T, E>;
