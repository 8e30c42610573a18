//! The lower seam of this crate: where the bytes are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{Error, Result};

/// Where a store keeps its bytes: immutable named objects, and few named cells that are written conditionally.
///
/// All methods block; the store calls them from worker threads only. Names are 1 to 200 bytes of lower-case ASCII
/// letters, digits, `-`, `.` and at most three `/`, so that every backend can use them as they are.
///
/// # Contract
///
/// - *Whole.* An object is there from the moment at which its writer finishes, with all its bytes, and not before. A
///   call that failed or was cut off has happened wholly or not at all; but of an `append` that was cut off, a part may
///   stand behind the valid part of the cell, where the next one overwrites it.
/// - *Durable.* When `append` or `swap` returns `Ok(true)`, its effect survives a crash of the machine, and so do all
///   objects that were finished on the same backend before it was called. Until then a crash may take an object that
///   was finished, or leave any bytes under its name; a later `finish` of that name puts it right. A deletion may be
///   undone by a crash at any time: whoever relies on it deletes again.
/// - *Immutable.* Finishing an object under a name that exists with the same bytes is `Ok`; with other bytes it is an
///   error, and the old bytes stay.
/// - *Consistent.* A `get`, `get_range`, `list` or `load` that starts after a write returned sees that write, whoever
///   wrote. `load` never shows what a crash could still take back.
/// - *Conditional.* `append` and `swap` write only if the cell is still what was expected; of several concurrent calls
///   with the same expectation exactly one succeeds. A [`CellState`] knows a cell by its length and by the last bytes of
///   its valid part, so that nothing has to be read again: whoever writes a cell sees to it that these identify what is
///   before them, for instance by records that end with a checksum over all earlier ones.
/// - *Acknowledged.* [`Cell::acknowledged_len`] is never below the length that an `append` or `swap` gave this cell which
///   returned `Ok(true)`, unless the machine crashed since; but it may be unknown.
/// - *Locked.* `lock` is honoured by every user of the same bytes, in this process and in others, and ends with its
///   holder, however that ends.
/// - *Honest errors.* A missing object is [`Error::NotFound`](crate::Error::NotFound); `delete` of a missing object is
///   `Ok`, so that it can be repeated.
///
/// ```
/// use evoseal_checkpoint::{MemoryBackend, ObjectBackend, ObjectBackendExt};
/// let backend = MemoryBackend::new();
/// backend.put("packs/a", b"bytes")?;
/// assert!(backend.swap("log", None, b"one\n")?);
///
/// let seen = backend.load("log", 0)?.expect("it was just written").state;
/// assert!(backend.append("log", &seen, b"two\n")?);
/// assert!(!backend.append("log", &seen, b"three\n")?, "it is no longer what was seen");
/// assert_eq!(backend.load("log", 4)?.expect("written").bytes, b"two\n");
/// # Ok::<(), evoseal_checkpoint::Error>(())
/// ```
pub trait ObjectBackend: fmt::Debug + Send + Sync {
    /// The name under which this kind of backend is recorded in what it creates.
    fn name(&self) -> &'static str;

    /// Where it is, for messages.
    fn location(&self) -> String;

    /// Starts an object. It appears under its name when the writer finishes, and not before.
    fn writer(&self) -> Result<Box<dyn ObjectWriter>>;

    /// The whole object.
    fn get(&self, name: &str) -> Result<Vec<u8>>;

    /// A part of an object. A range beyond its end is [`Error::Damaged`](crate::Error::Damaged).
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Names and sizes of all objects whose name starts with `prefix`, sorted by name.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Removes an object.
    fn delete(&self, name: &str) -> Result<()>;

    /// The cell `name` from byte `from` on; `None` before it is first written. Where `from` lies beyond the end there are
    /// no bytes, but a state. Cells are not listed as objects.
    fn load(&self, name: &str, from: u64) -> Result<Option<Cell>>;

    /// Writes `bytes` behind the valid part of the cell `name` if it still is what `expected` says, replacing whatever
    /// stands there. `Ok(false)`, and nothing is changed, if it is not, or was never written.
    fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool>;

    /// Replaces the whole cell `name` if it still is what was expected; `None`: not yet written. `Ok(false)` if not.
    fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool>;

    /// Takes the lock between writers and the collection of garbage; dropping the guard gives it back.
    ///
    /// [`LockMode::Shared`] waits while it is held exclusively. [`LockMode::Exclusive`] does not wait: it is
    /// [`Error::Locked`](crate::Error::Locked) while anyone else, in this process or another, holds the lock.
    fn lock(&self, mode: LockMode) -> Result<LockGuard>;
}

/// An object that is being written, piece by piece.
///
/// Dropping it instead of finishing it leaves nothing behind; what a writer leaves that dies with its process is removed
/// without help, at the latest when the backend is opened next and nobody writes.
pub trait ObjectWriter: fmt::Debug + Send {
    /// Adds bytes at the end. After an error the writer can only be dropped.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives the object its name: see the contract of [`ObjectBackend`] for what holds then. After an error there is no
    /// object of that name, unless there was one before, which stays.
    fn finish(self: Box<Self>, name: &str) -> Result<()>;
}

/// Conveniences for every [`ObjectBackend`].
pub trait ObjectBackendExt: ObjectBackend {
    /// Stores an object that is in memory as a whole.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut writer = self.writer()?;
        writer.write(bytes)?;
        writer.finish(name)
    }
}

impl<B: ObjectBackend + ?Sized> ObjectBackendExt for B {}

/// What `load` found in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The bytes from where they were asked for to the end.
    pub bytes: Vec<u8>,
    /// The whole of the cell, to be expected by a later write.
    pub state: CellState,
    /// How many bytes of the cell some `append` or `swap` has acknowledged, as far as is known; `None`: unknown. More than
    /// there are means that the cell was cut off; fewer, that a writer died before it was told, or that the note is old.
    pub acknowledged_len: Option<u64>,
    /// What is wrong with what the backend keeps beside the cell. The cell itself can be used.
    pub problem: Option<String>,
}

/// What a cell looked like: `len` bytes, of which the first `valid_len` are meant, and how these end.
///
/// A backend says `valid_len == len`: it does not know what the bytes mean. Whoever reads them may find that an append was
/// cut off, and says with [`CellState::cut`] where the whole records end: what follows is then overwritten by the next
/// append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellState {
    /// How many bytes there are.
    pub len: u64,
    /// How many of them, from the first on, are meant; at most `len`.
    pub valid_len: u64,
    /// The last [`CellState::TAIL_LEN`] bytes of the valid part, or all of it if it is shorter.
    pub tail: Vec<u8>,
}

impl CellState {
    /// How many bytes before the end of the valid part are compared.
    pub const TAIL_LEN: usize = 32;

    /// A cell that holds `bytes`, all of them meant.
    ///
    /// ```
    /// use evoseal_checkpoint::CellState;
    /// let state = CellState::of(b"one\ntw");
    /// assert_eq!((state.len, state.valid_len), (6, 6));
    /// let cut = state.cut(4, b"one\n");
    /// assert_eq!((cut.len, cut.valid_len, cut.tail.as_slice()), (6, 4, b"one\n".as_slice()));
    /// assert!(cut.matches(b"one\ntw") && !cut.matches(b"one\n") && !cut.matches(b"owe\ntw"));
    /// ```
    pub fn of(bytes: &[u8]) -> Self {
        let len = bytes.len() as u64;
        Self { len, valid_len: len, tail: tail_of(bytes).to_vec() }
    }

    /// The same cell, of which only the first `valid_len` bytes are meant. `ending` are its bytes up to there: at least
    /// the last [`CellState::TAIL_LEN`] of them, or all if there are fewer.
    ///
    /// # Panics
    ///
    /// If there are fewer than `valid_len` bytes in the cell, or too few in `ending`.
    #[must_use]
    pub fn cut(&self, valid_len: u64, ending: &[u8]) -> Self {
        assert!(valid_len <= self.len, "a cell of {} bytes has no {valid_len} valid ones", self.len);
        let needed = tail_len(valid_len);
        let start = ending.len().checked_sub(needed).expect("the bytes before the cut must be given");
        Self { len: self.len, valid_len, tail: ending[start..].to_vec() }
    }

    /// Whether a cell that holds `bytes` is what this says.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let valid = usize::try_from(self.valid_len).ok().and_then(|valid_len| bytes.get(..valid_len));
        bytes.len() as u64 == self.len && valid.is_some_and(|valid| tail_of(valid) == self.tail)
    }
}

/// How many bytes of a cell's valid part are compared.
pub(crate) fn tail_len(valid_len: u64) -> usize {
    usize::try_from(valid_len).map_or(CellState::TAIL_LEN, |length| length.min(CellState::TAIL_LEN))
}

fn tail_of(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len() - tail_len(bytes.len() as u64)..]
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

            fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
                (**self).writer()
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

            fn load(&self, name: &str, from: u64) -> Result<Option<Cell>> {
                (**self).load(name, from)
            }

            fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool> {
                (**self).append(name, expected, bytes)
            }

            fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
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
