//! An object on its way to its name.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

use super::files::{
    io_error, lock_file, make_folders, remove_file, rename, rename_without_replacing, sync_directory,
    wait_for,
};
use crate::backend::{ObjectWriter, check_object_name};
use crate::memory::exists_differently;
use crate::{Error, Result};

/// Owner's execute permission: set on an object from its creation until it is known to be on the disk. After a crash
/// of the machine it tells an object that may be torn from one that rotted.
const UNSETTLED: u32 = 0o100;
const BUFFER_LEN: usize = 64 << 10;
/// How often a name is tried that is taken whenever it is wanted, and free whenever it is looked at.
const NAME_ATTEMPTS: u32 = 1000;

static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Writes a temporary file, gives it its name without replacing anything, and only then syncs it: one sync makes bytes
/// and name durable, where a sync before the rename would need another one, of the folder. Between the two the object
/// is locked, so that nobody takes it for durable that finds it under the name.
#[derive(Debug)]
pub(super) struct LocalWriter {
    objects: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    is_named: bool,
    /// Held shared by everyone who writes: getting it alone proves that every temporary file's owner is dead.
    _tmp_lock: File,
}

impl LocalWriter {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let tmp = root.join("tmp");
        let tmp_lock = lock_file(&tmp.join("lock"))?;
        wait_for(&tmp_lock, FlockOperation::LockShared)
            .map_err(|error| io_error("lock", &tmp, error.into()))?;
        let (temporary, file) = create_temporary(&tmp)?;
        Ok(Self {
            objects: root.join("objects"),
            temporary,
            file: BufWriter::with_capacity(BUFFER_LEN, file),
            is_named: false,
            _tmp_lock: tmp_lock,
        })
    }

    /// Makes the object under its name durable, or takes the name away again.
    fn settle(&mut self, path: &Path) -> Result<()> {
        self.is_named = true;
        if let Err(source) = self.file.get_ref().sync_all() {
            // The kernel has forgotten what it could not write: a second sync would succeed and mean nothing.
            let _ = fs::remove_file(path);
            return Err(io_error("sync", path, source));
        }
        mark_settled(self.file.get_ref());
        Ok(())
    }

    /// The name is taken: `None` if it no longer is.
    fn meet(&mut self, name: &str, path: &Path) -> Result<Option<()>> {
        let fail = |action| move |source| io_error(action, path, source);
        let existing = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(fail("read"))?,
        };
        // Whoever gave it the name may be about to sync it, and would take the name away if that failed.
        wait_for(&existing, FlockOperation::LockExclusive)
            .map_err(|error| io_error("lock", path, error.into()))?;
        let metadata = existing.metadata().map_err(fail("read"))?;
        if metadata.nlink() == 0 {
            return Ok(None);
        }
        let is_settled = metadata.mode() & UNSETTLED == 0;
        let is_equal = metadata.len() == self.len()? && self.equals(&existing).map_err(fail("read"))?;
        match (is_equal, is_settled) {
            // Also if it is settled: its name may not be durable yet.
            (true, _) if existing.sync_all().is_ok() => mark_settled(&existing),
            (false, true) => return Err(exists_differently(name)),
            // Equal bytes that could not be synced, or the rest of an object that a crash of the machine tore.
            _ => self.replace(path)?,
        }
        Ok(Some(()))
    }

    fn replace(&mut self, path: &Path) -> Result<()> {
        self.file.get_ref().sync_all().map_err(|source| io_error("sync", &self.temporary, source))?;
        mark_settled(self.file.get_ref());
        rename(&self.temporary, path)?;
        self.is_named = true;
        sync_directory(path.parent().unwrap_or(&self.objects))
    }

    fn len(&self) -> Result<u64> {
        let metadata = self.file.get_ref().metadata();
        metadata.map(|metadata| metadata.len()).map_err(|source| io_error("read", &self.temporary, source))
    }

    fn equals(&self, existing: &File) -> io::Result<bool> {
        let mut ours = self.file.get_ref();
        ours.seek(SeekFrom::Start(0))?;
        have_equal_bytes(BufReader::with_capacity(BUFFER_LEN, ours), BufReader::new(existing))
    }
}

impl ObjectWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| io_error("write", &self.temporary, source))
    }

    fn finish(mut self: Box<Self>, name: &str) -> Result<()> {
        check_object_name(name)?;
        let path = self.objects.join(name);
        self.file.flush().map_err(|source| io_error("write", &self.temporary, source))?;
        make_folders(path.parent().unwrap_or(&self.objects))?;
        wait_for(self.file.get_ref(), FlockOperation::LockExclusive)
            .map_err(|error| io_error("lock", &self.temporary, error.into()))?;
        for _ in 0..NAME_ATTEMPTS {
            if rename_without_replacing(&self.temporary, &path)? {
                return self.settle(&path);
            }
            if let Some(done) = self.meet(name, &path)? {
                return Ok(done);
            }
        }
        let holder = "writers that write and remove it without pause".to_owned();
        Err(Error::Locked { store: path.display().to_string(), holder })
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if !self.is_named {
            // What cannot be removed now is removed at the next opening.
            let _ = remove_file(&self.temporary);
        }
    }
}

/// The process id tells two processes apart, except in containers that share the directory: then the next number is tried.
fn create_temporary(tmp: &Path) -> Result<(PathBuf, File)> {
    for _ in 0..NAME_ATTEMPTS {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let path = tmp.join(format!("{}-{number}", process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o666 | UNSETTLED).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", &path, error)),
        }
    }
    Err(io_error("create", tmp, ErrorKind::AlreadyExists.into()))
}

/// A hint: where it cannot be set, an object that differs is replaced instead of refused.
fn mark_settled(file: &File) {
    if let Ok(metadata) = file.metadata()
        && metadata.mode() & UNSETTLED != 0
    {
        let _ = file.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777 & !UNSETTLED));
    }
}

fn have_equal_bytes(mut one: impl BufRead, mut other: impl BufRead) -> io::Result<bool> {
    loop {
        let (first, second) = (one.fill_buf()?, other.fill_buf()?);
        let length = first.len().min(second.len());
        if length == 0 {
            return Ok(first.is_empty() && second.is_empty());
        }
        if first[..length] != second[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}
