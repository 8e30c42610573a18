//! What went wrong with a value, and the classes by which every crate's errors tell the caller what to do.

use std::fmt;

/// What the caller of a failed operation should do.
///
/// Every crate's error type has a `class()`; the command line maps it to an exit code, the pipeline to a retry or a
/// stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// The same call may succeed later: something else holds a lock, a file changed while it was read.
    Transient,
    /// A person has to change the surroundings: permission, disk space, a missing program.
    Environment,
    /// The request itself is wrong: a setting, an id, an argument.
    Invalid,
    /// The request is right but this implementation, machine or format version cannot do it.
    Unsupported,
    /// Stored data are damaged.
    Corrupt,
    /// A bug of ours.
    Internal,
}

impl ErrorClass {
    /// The class of an operating system error: lack of space, permission or a program is the environment's.
    ///
    /// ```
    /// use evoseal_types::ErrorClass;
    /// let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    /// assert_eq!(ErrorClass::of_io(&denied), ErrorClass::Environment);
    /// ```
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::Interrupted
            | ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::ResourceBusy => Self::Transient,
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename => Self::Invalid,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::Corrupt,
            _ => Self::Environment,
        }
    }
}

/// Whether an error, or one of its causes, is that a disk or a quota has no room left.
///
/// ```
/// use evoseal_types::is_storage_full;
/// let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
/// assert!(is_storage_full(&full));
/// assert!(is_storage_full(&std::io::Error::other(full)));
/// assert!(!is_storage_full(&std::io::Error::from(std::io::ErrorKind::NotFound)));
/// ```
pub fn is_storage_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind;
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.into_iter().any(|cause| {
        let Some(io) = cause.downcast_ref::<std::io::Error>() else { return false };
        // The cause of one that wraps another is the other's cause.
        let inner = io.get_ref().is_some_and(|inner| is_storage_full(inner));
        inner || matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    })
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "transient",
            Self::Environment => "environment",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        })
    }
}

/// A value that does not fit its type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A version id, metric name or other identifier with a forbidden form.
    #[error("{kind} {value:?} is not valid: {reason}")]
    Identifier {
        /// Which kind of identifier.
        kind: &'static str,
        /// The refused text.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A digest that is not 64 hexadecimal digits.
    #[error("digest {value:?} is not 64 hexadecimal digits")]
    Digest {
        /// The refused text.
        value: String,
    },
    /// A path that would leave the workspace or cannot name an entry in it.
    #[error("path {path:?} would escape base directory or is not a plain relative path: {reason}")]
    Path {
        /// The refused path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A threshold that is negative, not finite, or has the wrong sign.
    #[error("threshold {value} for {name} is not valid: {reason}")]
    Threshold {
        /// The metric the threshold was meant for.
        name: String,
        /// The refused number.
        value: f64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A test report whose counts contradict each other.
    #[error("test report {test_type:?} contradicts itself: {reason}")]
    TestReport {
        /// The report's test type.
        test_type: String,
        /// Which counts disagree.
        reason: String,
    },
}

impl Error {
    /// Always [`ErrorClass::Invalid`]: a value of this crate is refused, never lost.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

/// The result of constructing a value of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
