//! A backend in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::backend::{
    Cell, CellState, LockGuard, LockMode, ObjectBackend, ObjectInfo, ObjectWriter, check_object_name,
};
use crate::{Error, Result};

/// Keeps objects in memory: for tests, simulations, and stores that need not outlive the process.
///
/// Clones share the same bytes. Nothing survives the last of them, so *durable* means here: until then.
///
/// ```
/// use evoseal_checkpoint::{MemoryBackend, ObjectBackend, ObjectBackendExt};
/// let backend = MemoryBackend::new();
/// backend.put("a", b"bytes")?;
/// assert_eq!(backend.get_range("a", 1..3)?, b"yt");
/// # Ok::<(), evoseal_checkpoint::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    unlocked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    cells: BTreeMap<String, Vec<u8>>,
    holders_shared: u64,
    held_exclusively: bool,
}

impl MemoryBackend {
    /// An empty backend.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectBackend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(MemoryWriter { backend: self.clone(), bytes: Vec::new() }))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        check_object_name(name)?;
        self.state().objects.get(name).cloned().ok_or_else(|| not_found(name))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        check_object_name(name)?;
        let state = self.state();
        let object = state.objects.get(name).ok_or_else(|| not_found(name))?;
        let part = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| object.get(start..end));
        part.map(<[u8]>::to_vec).ok_or_else(|| beyond_end(name, &range, object.len() as u64))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let state = self.state();
        let found = state.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found
            .map(|(name, bytes)| ObjectInfo { name: name.clone(), size_bytes: bytes.len() as u64 })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        check_object_name(name)?;
        self.state().objects.remove(name);
        Ok(())
    }

    fn load(&self, name: &str, from: u64) -> Result<Option<Cell>> {
        check_object_name(name)?;
        Ok(self.state().cells.get(name).map(|cell| Cell {
            bytes: usize::try_from(from).ok().and_then(|from| cell.get(from..)).unwrap_or_default().to_vec(),
            state: CellState::of(cell),
            acknowledged_len: Some(cell.len() as u64),
            problem: None,
        }))
    }

    fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool> {
        check_object_name(name)?;
        let mut state = self.state();
        match state.cells.get_mut(name) {
            Some(cell) if expected.matches(cell) => {
                cell.truncate(usize::try_from(expected.valid_len).expect("it lies within a cell in memory"));
                cell.extend_from_slice(bytes);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
        check_object_name(name)?;
        let mut state = self.state();
        let is_as_expected = match (state.cells.get(name), expected) {
            (None, None) => true,
            (Some(cell), Some(expected)) => expected.matches(cell),
            _ => false,
        };
        if is_as_expected {
            state.cells.insert(name.to_owned(), new.to_vec());
        }
        Ok(is_as_expected)
    }

    fn lock(&self, mode: LockMode) -> Result<LockGuard> {
        let mut state = self.state();
        match mode {
            LockMode::Exclusive if state.held_exclusively || state.holders_shared > 0 => {
                return Err(Error::Locked {
                    store: self.location(),
                    holder: "another user of this process".into(),
                });
            }
            LockMode::Exclusive => state.held_exclusively = true,
            LockMode::Shared => {
                while state.held_exclusively {
                    state = self.shared.unlocked.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.holders_shared += 1;
            }
        }
        drop(state);
        Ok(LockGuard::new(Held { shared: Arc::clone(&self.shared), mode }))
    }
}

/// An object that nobody sees yet.
#[derive(Debug)]
struct MemoryWriter {
    backend: MemoryBackend,
    bytes: Vec<u8>,
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        check_object_name(name)?;
        let mut state = self.backend.state();
        match state.objects.get(name) {
            Some(old) if *old != self.bytes => Err(exists_differently(name)),
            Some(_) => Ok(()),
            None => {
                state.objects.insert(name.to_owned(), self.bytes);
                Ok(())
            }
        }
    }
}

/// Gives the lock back when dropped.
struct Held {
    shared: Arc<Shared>,
    mode: LockMode,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.mode {
            LockMode::Exclusive => state.held_exclusively = false,
            LockMode::Shared => state.holders_shared -= 1,
        }
        self.shared.unlocked.notify_all();
    }
}

pub(crate) fn not_found(name: &str) -> Error {
    Error::NotFound { what: format!("object {name}") }
}

pub(crate) fn exists_differently(name: &str) -> Error {
    Error::Invalid { argument: "object", reason: format!("{name} exists already with other bytes") }
}

pub(crate) fn beyond_end(name: &str, range: &Range<u64>, size: u64) -> Error {
    Error::Damaged {
        object: name.to_owned(),
        problem: format!(
            "bytes {}..{} were asked for, and it has {size} bytes: it was cut off",
            range.start, range.end
        ),
    }
}
