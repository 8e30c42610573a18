//! A backend in a directory of the local file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::backend::{LockGuard, LockMode, ObjectBackend, ObjectInfo, check_object_name};
use crate::memory::{beyond_end, exists_differently, not_found};
use crate::{Error, Result};

/// Keeps objects as files below one directory.
///
/// An object is written as a temporary file, synced, renamed to its name without replacing anything, and its folder
/// synced. The conditional cell is a small file that is replaced the same way while a kernel lock (`flock`) on a file
/// beside it is held. All locks end with their holder, so nothing has to be cleaned up by hand after a crash: temporary
/// files that an earlier process left behind are removed when the directory is opened next and nobody is writing.
///
/// | below the directory | holds |
/// | --- | --- |
/// | `objects/` | the objects, by name |
/// | `cells/` | the cells; `NAME.lock` is what is locked, `NAME.new` what is being written |
/// | `tmp/` | objects being written; `lock` is held (shared) by whoever writes one |
/// | `lock` | the lock between writers and the collection of garbage |
///
/// ```
/// use evoseal_checkpoint::{LocalBackend, ObjectBackend};
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
    next_temporary: AtomicU64,
}

impl LocalBackend {
    /// Opens the directory, making what is missing, and removes what a dead process left half-written.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        let parts = ["objects", "cells", "tmp"].map(|part| directory.join(part));
        if !parts.iter().all(|part| part.is_dir()) {
            for path in &parts {
                fs::create_dir_all(path).map_err(|source| io_error("create", path, source))?;
            }
            sync_directory(&directory)?;
        }
        let root = directory.canonicalize().map_err(|source| io_error("open", &directory, source))?;
        let backend = Self { root, next_temporary: AtomicU64::new(0) };
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

    fn cell_path(&self, name: &str, suffix: &str) -> Result<PathBuf> {
        check_object_name(name)?;
        Ok(self.root.join("cells").join(format!("{}{suffix}", name.replace('/', "_"))))
    }

    /// Whoever writes holds this lock shared: getting it alone proves that every temporary file's owner is dead.
    fn remove_dead_temporaries(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        let lock = lock_file(&tmp.join("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
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

    /// Writes a synced temporary file and gives it `path` as its name; `false` if that name is taken.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<bool> {
        let tmp = self.root.join("tmp");
        let lock = lock_file(&tmp.join("lock"))?;
        wait_for(&lock, FlockOperation::LockShared).map_err(|error| io_error("lock", &tmp, error.into()))?;
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // The address tells two backends of one process apart, the process id two processes.
        let temporary = tmp.join(format!("{}-{:p}-{number}", process::id(), std::ptr::from_ref(self)));
        let written =
            write_synced(&temporary, bytes).and_then(|()| rename_without_replacing(&temporary, path));
        if !matches!(written, Ok(true)) {
            // The first error is the one to report; a file that cannot be removed now is removed at the next opening.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

impl ObjectBackend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.object_path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        make_folders(&self.root, folder)?;
        if !self.write_new(&path, bytes)? {
            let old = self.get(name)?;
            if old != bytes {
                return Err(exists_differently(name));
            }
            // Whoever wrote it may have died between the rename and the sync of the folder.
        }
        sync_directory(folder)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.object_path(name)?;
        fs::read(&path).map_err(|source| read_error(name, &path, source))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let path = self.object_path(name)?;
        let fail = |source| read_error(name, &path, source);
        let mut file = File::open(&path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        let length = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok());
        let (Some(length), true) = (length, range.end <= size) else {
            return Err(beyond_end(name, &range, size));
        };
        file.seek(SeekFrom::Start(range.start)).map_err(fail)?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).map_err(fail)?;
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
        remove_file(&path)?;
        match path.parent() {
            Some(folder) if folder.exists() => sync_directory(folder),
            _ => Ok(()),
        }
    }

    fn load(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.cell_path(name, "")?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    fn swap(&self, name: &str, expected: Option<&[u8]>, new: &[u8]) -> Result<bool> {
        let (path, next) = (self.cell_path(name, "")?, self.cell_path(name, ".new")?);
        let lock = lock_file(&self.cell_path(name, ".lock")?)?;
        wait_for(&lock, FlockOperation::LockExclusive)
            .map_err(|error| io_error("lock", &path, error.into()))?;
        if self.load(name)?.as_deref() != expected {
            return Ok(false);
        }
        // A file of this name was left by a process that died with the lock: it is ours to replace.
        remove_file(&next)?;
        write_synced(&next, new)?;
        fs::rename(&next, &path).map_err(|source| io_error("replace", &path, source))?;
        sync_directory(&self.root.join("cells"))?;
        Ok(true)
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

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

fn read_error(name: &str, path: &Path, source: io::Error) -> Error {
    if source.kind() == ErrorKind::NotFound { not_found(name) } else { io_error("read", path, source) }
}

/// A lock file is made once and never removed: its inode is what is locked.
fn lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o666)
        .open(path)
        .map_err(|source| io_error("open", path, source))
}

/// Takes a lock; a signal that comes in between is no answer.
fn wait_for(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Who holds a lock on the file, as far as the kernel's table says.
fn holders_of(file: &File) -> String {
    let unknown = || "another process".to_owned();
    let (Ok(metadata), Ok(table)) = (file.metadata(), fs::read_to_string("/proc/locks")) else {
        return unknown();
    };
    let suffix = format!(":{}", metadata.ino());
    let holders: Vec<&str> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| {
            fields.get(1) == Some(&"FLOCK") && fields.get(5).is_some_and(|inode| inode.ends_with(&suffix))
        })
        .filter_map(|fields| fields.get(4).copied())
        .collect();
    if holders.is_empty() { unknown() } else { format!("process {}", holders.join(", ")) }
}

/// Writes and syncs a new file. After a failed sync the file counts as lost: it is removed, never synced again.
fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |action| move |source| io_error(action, path, source);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fail("create"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.sync_all().map_err(fail("sync"))
}

fn rename_without_replacing(from: &Path, to: &Path) -> Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems without that flag. Names are digests, so that a race between writers has equal bytes.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if to.exists() {
                return Ok(false);
            }
            fs::rename(from, to).map_err(|source| io_error("rename", from, source))?;
            Ok(true)
        }
        Err(error) => Err(io_error("rename", from, error.into())),
    }
}

/// Makes `folder` below `root`, syncing the parent of each folder that is new.
fn make_folders(root: &Path, folder: &Path) -> Result<()> {
    if folder.is_dir() || folder == root {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(root, parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io_error("create", folder, error));
            }
            _ => sync_directory(parent)?,
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| io_error("sync", path, source))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
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
