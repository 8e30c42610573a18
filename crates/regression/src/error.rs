//! What can go wrong with a judgement.

use evoseal_types::ErrorClass;

/// A judgement that could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting or argument with a wrong value.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which setting or argument.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A metric that stands twice on one side.
    #[error("metric {metric} is listed twice for the {side}")]
    DuplicateMetric {
        /// The metric.
        metric: String,
        /// `incumbent`, `candidate` or a baseline's name.
        side: String,
    },
    /// A computation on too few or unusable numbers.
    #[error("{what} needs {needed}, got {found}")]
    Data {
        /// Which computation.
        what: &'static str,
        /// What it needs.
        needed: &'static str,
        /// What there was.
        found: String,
    },
    /// No baseline of that name.
    #[error("no baseline named {name:?}; known are {known:?}")]
    UnknownBaseline {
        /// The name.
        name: String,
        /// The baselines that exist.
        known: Vec<String>,
    },
    /// A value of the vocabulary was refused.
    #[error(transparent)]
    Type(#[from] evoseal_types::Error),
}

impl Error {
    /// What the caller should do: everything here is a wrong request.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

/// The result of a judgement.
pub type Result<T, E = Error> = std::result::Result<T, E>;
