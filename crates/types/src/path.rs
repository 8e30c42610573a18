//! Names of entries in a workspace, and what changed between two trees.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

/// The place of an entry below the root of a workspace: bytes, components joined by `/`.
///
/// Never empty, never absolute, without empty components, `.` or `..`, without NUL: joining it to a folder cannot leave
/// that folder unless a symlink stands in the way, which whoever writes must exclude. Names need not be UTF-8. Text
/// forms (display, JSON) escape bytes that are not printable as `\xHH` and the backslash as `\\`, and read that back.
///
/// ```
/// use evoseal_types::EntryPath;
/// let path = EntryPath::new("src/lib.rs")?;
/// assert_eq!(path.to_string(), "src/lib.rs");
/// assert!(EntryPath::new("../etc/passwd").is_err());
/// # Ok::<(), evoseal_types::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

/// How much of a refused path an error quotes, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

impl EntryPath {
    /// The longest path in bytes. More than Linux takes in one call (4096): whoever walks by folder handles can go deeper.
    pub const LEN_BYTES_MAX: usize = 8 * 1024;

    /// Checks a path and wraps it.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, Error> {
        let bytes = path.as_ref();
        let reason = if bytes.is_empty() {
            "it is empty"
        } else if bytes.len() > Self::LEN_BYTES_MAX {
            "it is longer than 8 KiB"
        } else if bytes[0] == b'/' {
            "it is absolute"
        } else if bytes.contains(&0) {
            "it has a NUL byte"
        } else if bytes.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            "it has an empty component, '.' or '..'"
        } else {
            return Ok(Self(bytes.to_vec()));
        };
        // A path that is too long is too long for a message as well.
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
        let cut = if shown.len() < bytes.len() { "…" } else { "" };
        Err(Error::Path { path: escape(shown) + cut, reason })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the operating system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The components from the root down; never empty.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The folder that holds the entry; `None` directly below the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.iter().rposition(|byte| *byte == b'/').map(|end| Self(self.0[..end].to_vec()))
    }

    /// The entry `name` in this folder.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self, Error> {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_ref());
        Self::new(bytes)
    }

    /// Reads the escaped text form.
    pub fn from_escaped(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Path { path: text.to_owned(), reason };
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = match (first, tail) {
                (b'\\', [b'\\', tail @ ..]) => {
                    bytes.push(b'\\');
                    tail
                }
                (b'\\', [b'x', high, low, tail @ ..]) => {
                    let digit =
                        |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                    let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                        return Err(refuse("it has a broken escape"));
                    };
                    bytes.push(high << 4 | low);
                    tail
                }
                (b'\\', _) => return Err(refuse("it has a broken escape")),
                _ => {
                    bytes.push(first);
                    tail
                }
            };
        }
        Self::new(bytes)
    }
}

/// Bytes as text that can be printed anywhere and read back.
fn escape(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push_str("\\\\");
            } else if character.is_control() {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

impl std::str::FromStr for EntryPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_escaped(text)
    }
}

impl Serialize for EntryPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&escape(&self.0))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for EntryPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            Self::from_escaped(&String::deserialize(deserializer)?).map_err(D::Error::custom)
        } else {
            Self::new(Vec::<u8>::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

/// What happened to one entry between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which entry.
    pub path: EntryPath,
    /// What happened to it.
    pub kind: ChangeKind,
    /// Size of the content before, in bytes; `None` if it was not there or is no regular file.
    pub size_bytes_before: Option<u64>,
    /// Size of the content after, in bytes; `None` if it is not there or is no regular file.
    pub size_bytes_after: Option<u64>,
    /// Digest of the content after, or of a symlink's target; `None` for folders and removed entries.
    pub digest_after: Option<Digest>,
}

/// The kinds of change of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// The same kind of entry has other content.
    Modified,
    /// It is gone.
    Removed,
    /// Only the mode differs.
    ModeChanged,
    /// Another kind of entry stands there: a file where a folder was, a symlink where a file was.
    KindChanged,
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Removed => "removed",
            Self::ModeChanged => "mode changed",
            Self::KindChanged => "kind changed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_root_are_refused() {
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a/", "a\0b", "."] {
            let error = EntryPath::new(bad).unwrap_err();
            assert!(error.to_string().contains("would escape base directory"), "{bad:?}: {error}");
        }
        assert!(EntryPath::new("x".repeat(8 * 1024 + 1)).is_err());
    }

    #[test]
    fn odd_names_are_kept_and_shown_escaped() {
        let path = EntryPath::new(b"a\nb/\xff\\c".as_slice()).unwrap();
        assert_eq!(path.to_string(), r"a\x0ab/\xff\\c");
        assert_eq!(path.parent().unwrap().as_bytes(), b"a\nb");
        assert_eq!(path.components().count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn the_text_form_reads_back(bytes in proptest::collection::vec(1_u8..=255, 1..60)) {
            if let Ok(path) = EntryPath::new(&bytes) {
                let json = serde_json::to_string(&path).unwrap();
                proptest::prop_assert_eq!(serde_json::from_str::<EntryPath>(&json).unwrap(), path);
            }
        }

        #[test]
        fn reading_any_text_never_panics(text in ".*") {
            let _ = EntryPath::from_escaped(&text);
        }
    }
}
