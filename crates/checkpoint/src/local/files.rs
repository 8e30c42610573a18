//! Small steps with files: locking, naming, syncing, removing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::{Error, Result};

pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

/// A lock file is made once and never removed: its inode is what is locked.
pub(super) fn lock_file(path: &Path) -> Result<File> {
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
pub(super) fn wait_for(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Who holds a lock on the file, as far as the kernel's table says.
pub(super) fn holders_of(file: &File) -> String {
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

/// Writes and syncs a new file. After a failed sync the file counts as lost: it is never synced again.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |action| move |source| io_error(action, path, source);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fail("create"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.sync_all().map_err(fail("sync"))
}

/// `false` if the new name is taken.
pub(super) fn rename_without_replacing(from: &Path, to: &Path) -> Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems without that flag. Names are digests, so that a race between writers has equal bytes.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if to.exists() {
                return Ok(false);
            }
            rename(from, to)?;
            Ok(true)
        }
        Err(error) => Err(io_error("rename", from, error.into())),
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| io_error("rename", from, source))
}

/// Makes `folder` and what is missing above it, syncing the parent of each folder that is new.
pub(super) fn make_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent != folder && parent != Path::new(".") {
        make_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => {
            Err(io_error("create", folder, error))
        }
        _ => sync_directory(parent),
    }
}

pub(super) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| io_error("sync", path, source))
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}
