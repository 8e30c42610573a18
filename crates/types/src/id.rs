//! Version ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The name of a version, chosen by the caller: `v1.2`, `iter-0007`, `feature/x`.
///
/// Between 1 and 200 bytes of UTF-8 without control characters and without white space at either end, and not starting
/// with `-`, so that it can stand on a command line. It is never used as a file name, so `/` and `..` are harmless.
///
/// ```
/// use evoseal_types::VersionId;
/// assert_eq!(VersionId::new("v1.2")?.as_str(), "v1.2");
/// assert!(VersionId::new("-f").is_err());
/// # Ok::<(), evoseal_types::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionId(String);

impl VersionId {
    /// The longest id in bytes.
    pub const LEN_BYTES_MAX: usize = 200;

    /// Checks `id` and wraps it.
    pub fn new(id: impl Into<String>) -> Result<Self, Error> {
        let id = id.into();
        let reason = if id.is_empty() {
            "it is empty"
        } else if id.len() > Self::LEN_BYTES_MAX {
            "it is longer than 200 bytes"
        } else if id.chars().any(char::is_control) {
            "it has a control character"
        } else if id.starts_with('-') {
            "it starts with '-'"
        } else if id.trim() != id {
            "it starts or ends with white space"
        } else {
            return Ok(Self(id));
        };
        Err(Error::Identifier { kind: "version id", value: id, reason })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for VersionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for VersionId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_slashes_and_dots_are_plain_names() {
        for good in ["v1.2", "iter-0007", "feature/x", "..", "checkpoint_checkpoint_1", "ü"] {
            assert_eq!(VersionId::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn ids_that_a_terminal_or_a_command_line_would_misread_are_refused() {
        for bad in ["", "-x", " a", "a ", "a\nb", "a\u{1b}[0m", &"x".repeat(201)] {
            assert!(VersionId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reading_json_checks_too() {
        assert!(serde_json::from_str::<VersionId>("\"\"").is_err());
        assert_eq!(serde_json::from_str::<VersionId>("\"a\"").unwrap().as_str(), "a");
    }
}
