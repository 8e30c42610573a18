//! The lower seam of this crate: where the bytes are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{Error, Result};

/// Where a store keeps its bytes: immutable named objects, and one small cell that is written conditionally.
///
/// All methods block; the store calls them from worker threads only. Names are 1 to 200 bytes of lower-case ASCII
/// letters, digits, `-`, `.` and at most three `/`, so that every backend can use them as they are.
///
/// # Contract
///
/// - *Durable.* When `put`, `delete` or `swap` returns `Ok`, its effect survives a crash of the machine. A call that
///   failed or was cut off has happened wholly or not at all.
/// - *Immutable.* `put` to a name that exists with the same bytes is `Ok`; with other bytes it is an error, and the old
///   bytes stay.
/// - *Consistent.* A `get`, `get_range`, `list` or `load` that starts after a write returned sees that write.
/// - *Conditional.* `swap` writes the cell only if it still holds `expected`; of several concurrent calls with the same
///   expectation exactly one succeeds.
/// - *Locked.* `lock` is honoured by every user of the same bytes, in this process and in others, and ends with its
///   holder, however that ends.
/// - *Honest errors.* A missing object is [`Error::NotFound`](crate::Error::NotFound); `delete` of a missing object is
///   `Ok`, so that it can be repeated.
pub trait ObjectBackend: fmt::Debug + Send + Sync {
    /// The name under which this kind of backend is recorded in what it creates.
    fn name(&self) -> &'static str;

    /// Where it is, for messages.
    fn location(&self) -> String;

    /// Stores an object.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// The whole object.
    fn get(&self, name: &str) -> Result<Vec<u8>>;

    /// A part of an object. A range beyond its end is [`Error::Damaged`](crate::Error::Damaged).
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Names and sizes of all objects whose name starts with `prefix`, sorted by name.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Removes an object.
    fn delete(&self, name: &str) -> Result<()>;

    /// The cell `name`; `None` before it is first written. Cells are not listed as objects.
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Writes the cell `name` if it still holds `expected`. `Ok(false)` if it holds something else.
    fn swap(&self, name: &str, expected: Option<&[u8]>, new: &[u8]) -> Result<bool>;

    /// Takes the lock between writers and the collection of garbage; dropping the guard gives it back.
    ///
    /// [`LockMode::Shared`] waits while it is held exclusively. [`LockMode::Exclusive`] does not wait: it is
    /// [`Error::Locked`](crate::Error::Locked) while anyone else, in this process or another, holds the lock.
    fn lock(&self, mode: LockMode) -> Result<LockGuard>;
}

/// How the lock of a store is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Together with others: by whoever adds objects that no checkpoint names yet.
    Shared,
    /// Alone: by whoever removes objects that no checkpoint names any more.
    Exclusive,
}

/// Holds the lock of a store until it is dropped.
pub struct LockGuard {
    _held: Box<dyn Send + Sync>,
}

impl LockGuard {
    /// A guard around whatever gives the lock back when it is dropped.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockGuard")
    }
}

/// An object's name and size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// The name.
    pub name: String,
    /// The size in bytes.
    pub size_bytes: u64,
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_object_backend {
    ($pointer:ident) => {
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<B: ObjectBackend + ?Sized> ObjectBackend for $pointer<B> {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn location(&self) -> String {
                (**self).location()
            }

            fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
                (**self).put(name, bytes)
            }

            fn get(&self, name: &str) -> Result<Vec<u8>> {
                (**self).get(name)
            }

            fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
                (**self).get_range(name, range)
            }

            fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
                (**self).list(prefix)
            }

            fn delete(&self, name: &str) -> Result<()> {
                (**self).delete(name)
            }

            fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
                (**self).load(name)
            }

            fn swap(&self, name: &str, expected: Option<&[u8]>, new: &[u8]) -> Result<bool> {
                (**self).swap(name, expected, new)
            }

            fn lock(&self, mode: LockMode) -> Result<LockGuard> {
                (**self).lock(mode)
            }
        }
    };
}

forward_object_backend!(Arc);
forward_object_backend!(Box);

/// Checks an object's or a cell's name: every backend calls this first, so that no name can leave its folder.
///
/// ```
/// use evoseal_checkpoint::check_object_name;
/// assert!(check_object_name("packs/0a1b").is_ok());
/// assert!(check_object_name("../packs").is_err());
/// ```
pub fn check_object_name(name: &str) -> Result<()> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'/');
    let reason = if name.is_empty() || name.len() > 200 {
        "it must have 1 to 200 bytes"
    } else if !name.bytes().all(allowed) {
        "it may hold lower-case letters, digits, '-', '.' and '/' only"
    } else if name.bytes().filter(|byte| *byte == b'/').count() > 3 {
        "it has more than three '/'"
    } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        "a component is empty or starts with '.'"
    } else {
        return Ok(());
    };
    Err(Error::Invalid { argument: "object name", reason: format!("{name:?}: {reason}") })
}
