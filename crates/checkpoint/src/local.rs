//! A backend in a directory of the local file system.

mod cell;
mod files;
mod mark;
mod open_files;
mod writer;

use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use self::cell::CellFile;
pub(crate) use self::files::io_error;
use self::files::{holders_of, lock_file, make_folders, remove_file, sync_directory, wait_for};
use self::open_files::OpenFiles;
use self::writer::LocalWriter;
use crate::backend::{
    Cell, CellState, LockGuard, LockMode, ObjectBackend, ObjectInfo, ObjectWriter, check_object_name,
};
use crate::memory::{beyond_end, not_found};
use crate::{Error, Result};

/// Keeps objects as files below one directory.
///
/// An object is written as a temporary file, renamed to its name without replacing anything, and synced: on ext4, xfs and
/// btrfs the sync of a file makes its new name durable too. Until then the owner may execute the file, which nobody
/// does: a crash of the machine leaves the sign, and an object that it tore is replaced by the next writer of that name.
///
/// A cell is a file as well. While a kernel lock (`flock`) on a file beside it is held alone, it is appended to with one
/// sync, or replaced as a whole: a new file is written, synced, renamed over it, and the folder synced. Readers hold
/// that lock shared, so that they never see an append that a crash could still take back. If the sync of an append
/// fails, the cell is written anew without it, because a second sync would mean nothing.
///
/// All locks end with their holder, so nothing has to be cleaned up by hand after a crash: temporary files that an
/// earlier process left behind are removed when the directory is opened next and nobody is writing.
///
/// | below the directory | holds |
/// | --- | --- |
/// | `objects/` | the objects, by name |
/// | `cells/` | the cells; `NAME.lock` is what is locked, `NAME.new` what is being written, `NAME.mark` says how much was acknowledged |
/// | `tmp/` | objects being written; `lock` is held (shared) by whoever writes one |
/// | `lock` | the lock between writers and the collection of garbage |
///
/// ```
/// use evoseal_checkpoint::{LocalBackend, ObjectBackend, ObjectBackendExt};
/// let directory = tempfile::tempdir()?;
/// let backend = LocalBackend::open(directory.path())?;
/// backend.put("packs/a", b"bytes")?;
/// assert!(backend.put("packs/a", b"other").is_err(), "objects are immutable");
/// assert_eq!(backend.get("packs/a")?, b"bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LocalBackend {
    root: PathBuf,
    open_files: OpenFiles,
}

impl LocalBackend {
    /// Opens the directory, making what is missing, and removes what a dead process left half-written.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        let parts = ["objects", "cells", "tmp"].map(|part| directory.join(part));
        if !parts.iter().all(|part| part.is_dir()) {
            make_folders(&directory)?;
            for path in &parts {
                fs::create_dir_all(path).map_err(|source| io_error("create", path, source))?;
            }
            sync_directory(&directory)?;
        }
        let root = directory.canonicalize().map_err(|source| io_error("open", &directory, source))?;
        let backend = Self { root, open_files: OpenFiles::default() };
        backend.remove_dead_temporaries()?;
        Ok(backend)
    }

    /// The directory, without symlinks.
    pub fn directory(&self) -> &Path {
        &self.root
    }

    fn object_path(&self, name: &str) -> Result<PathBuf> {
        check_object_name(name)?;
        Ok(self.root.join("objects").join(name))
    }

    fn cell(&self, name: &str) -> Result<CellFile> {
        check_object_name(name)?;
        Ok(CellFile::new(self.root.join("cells"), name))
    }

    /// Whoever writes holds this lock shared: getting it alone proves that every temporary file's owner is dead.
    fn remove_dead_temporaries(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        let lock = lock_file(&tmp.join("lock"))?;
        match wait_for(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(()),
            Err(error) => return Err(io_error("lock", &tmp, error.into())),
        }
        for entry in fs::read_dir(&tmp).map_err(|source| io_error("list", &tmp, source))? {
            let path = entry.map_err(|source| io_error("list", &tmp, source))?.path();
            if path != tmp.join("lock") {
                remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl ObjectBackend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(LocalWriter::new(&self.root)?))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.object_path(name)?;
        fs::read(&path).map_err(|source| read_error(name, &path, source))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let path = self.object_path(name)?;
        let fail = |source| read_error(name, &path, source);
        let (file, size) = self.open_files.open(name, &path).map_err(fail)?;
        let length = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok());
        let (Some(length), true) = (length, range.end <= size) else {
            return Err(beyond_end(name, &range, size));
        };
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start).map_err(fail)?;
        Ok(bytes)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        list_folder(&self.root.join("objects"), "", prefix, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.object_path(name)?;
        self.open_files.forget(name);
        remove_file(&path)
    }

    fn load(&self, name: &str, from: u64) -> Result<Option<Cell>> {
        self.cell(name)?.load(from)
    }

    fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool> {
        self.cell(name)?.append(expected, bytes)
    }

    fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
        self.cell(name)?.swap(expected, new)
    }

    fn lock(&self, mode: LockMode) -> Result<LockGuard> {
        let path = self.root.join("lock");
        let file = lock_file(&path)?;
        let operation = match mode {
            LockMode::Shared => FlockOperation::LockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match wait_for(&file, operation) {
            Ok(()) => Ok(LockGuard::new(file)),
            Err(Errno::WOULDBLOCK) => {
                Err(Error::Locked { store: self.location(), holder: holders_of(&file) })
            }
            Err(error) => Err(io_error("lock", &path, error.into())),
        }
    }
}

fn read_error(name: &str, path: &Path, source: io::Error) -> Error {
    if source.kind() == ErrorKind::NotFound { not_found(name) } else { io_error("read", path, source) }
}

/// Depth is bounded by the three separators that a name may have.
fn list_folder(folder: &Path, name: &str, prefix: &str, found: &mut Vec<ObjectInfo>) -> Result<()> {
    let fail = |source| io_error("list", folder, source);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(part) = entry.file_name().into_string() else { continue };
        let full = if name.is_empty() { part } else { format!("{name}/{part}") };
        let file_type = entry.file_type().map_err(fail)?;
        if file_type.is_dir() {
            list_folder(&entry.path(), &full, prefix, found)?;
        } else if file_type.is_file() && full.starts_with(prefix) {
            match entry.metadata() {
                Ok(metadata) => found.push(ObjectInfo { name: full, size_bytes: metadata.len() }),
                // Deleted since the folder was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
            }
        }
    }
    Ok(())
}
