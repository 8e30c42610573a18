//! A cell in a file: read under a shared lock, written under an exclusive one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::files::{io_error, lock_file, remove_file, rename, sync_directory, wait_for, write_synced};
use super::mark::{self, Mark};
use crate::Result;
use crate::backend::{Cell, CellState, tail_len};
use crate::frame::damaged;

/// One cell of a directory.
#[derive(Debug)]
pub(super) struct CellFile {
    name: String,
    folder: PathBuf,
    /// How an append is synced; tests let it fail.
    sync: fn(&File) -> io::Result<()>,
}

impl CellFile {
    /// The name must have been checked.
    pub(super) fn new(folder: PathBuf, name: &str) -> Self {
        Self { name: name.replace('/', "_"), folder, sync: File::sync_data }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}{suffix}", self.name))
    }

    pub(super) fn load(&self, from: u64) -> Result<Option<Cell>> {
        let path = self.path("");
        // An append is visible before it is durable, and its writer holds the lock until it is both.
        let _lock = self.lock_for_reading()?;
        let Some(file) = open(&path, OpenOptions::new().read(true))? else {
            // A first write names the cell before it makes the mark, so only other hands can have done this.
            return match mark::of_missing(&self.path(".mark")) {
                Some(len) => Err(damaged(
                    &self.name,
                    format!("it is missing, and {len} bytes of it were acknowledged"),
                )),
                None => Ok(None),
            };
        };
        let len = file.metadata().map_err(|source| io_error("read", &path, source))?.len();
        let bytes = read_part(&path, &file, from.min(len), len)?;
        let tail = match bytes.len().checked_sub(tail_len(len)) {
            Some(start) => bytes[start..].to_vec(),
            None => read_part(&path, &file, len - tail_len(len) as u64, len)?,
        };
        let (acknowledged_len, problem) = match mark::read(&self.path(".mark"), &file, len)? {
            Mark::Silent => (None, None),
            Mark::Acknowledged(len) => (Some(len), None),
            Mark::Damaged(problem) => (None, Some(problem)),
        };
        Ok(Some(Cell { bytes, state: CellState { len, valid_len: len, tail }, acknowledged_len, problem }))
    }

    pub(super) fn append(&self, expected: &CellState, bytes: &[u8]) -> Result<bool> {
        let path = self.path("");
        let fail = |action| {
            let path = &path;
            move |source| io_error(action, path, source)
        };
        let _lock = self.lock_for_writing()?;
        let Some(file) = open(&path, OpenOptions::new().read(true).write(true))? else { return Ok(false) };
        if !is_as_expected(&path, &file, expected)? {
            return Ok(false);
        }
        let valid_len = expected.valid_len;
        if expected.len > valid_len {
            // The torn end goes first: a shorter record over it would leave its rest behind.
            file.set_len(valid_len).map_err(fail("shorten"))?;
        }
        if let Err(source) = file.write_all_at(bytes, valid_len) {
            // What cannot be taken back now is a torn end, which the next append takes away.
            let _ = file.set_len(valid_len);
            return Err(io_error("write", &path, source));
        }
        if let Err(source) = (self.sync)(&file) {
            if self.write_anew(&file, valid_len).is_err() {
                let _ = file.set_len(valid_len);
            }
            return Err(io_error("sync", &path, source));
        }
        mark::write(&self.path(".mark"), &file, valid_len + bytes.len() as u64);
        Ok(true)
    }

    pub(super) fn swap(&self, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
        let path = self.path("");
        let _lock = self.lock_for_writing()?;
        let is_expected = match (open(&path, OpenOptions::new().read(true))?, expected) {
            (None, None) => true,
            (Some(file), Some(expected)) => is_as_expected(&path, &file, expected)?,
            _ => false,
        };
        if is_expected {
            self.replace(new)?;
        }
        Ok(is_expected)
    }

    /// After a failed sync nobody knows what of the file is on the disk, and a second sync would tell nothing: what was
    /// valid before goes into a new file.
    fn write_anew(&self, file: &File, valid_len: u64) -> Result<()> {
        self.replace(&read_part(&self.path(""), file, 0, valid_len)?)
    }

    /// Puts a new file in the cell's place. The lock must be held.
    fn replace(&self, new: &[u8]) -> Result<()> {
        let (path, next, mark) = (self.path(""), self.path(".new"), self.path(".mark"));
        // A file of this name was left by a process that died with the lock: it is ours to replace.
        remove_file(&next)?;
        write_synced(&next, new)?;
        mark::remove(&mark)?;
        rename(&next, &path)?;
        sync_directory(&self.folder)?;
        // The cell is replaced whether or not a mark can be made.
        if let Ok(file) = File::open(&path) {
            mark::write(&mark, &file, new.len() as u64);
        }
        Ok(())
    }

    fn lock_for_writing(&self) -> Result<File> {
        let path = self.path(".lock");
        let lock = lock_file(&path)?;
        wait_for(&lock, FlockOperation::LockExclusive)
            .map_err(|error| io_error("lock", &path, error.into()))?;
        Ok(lock)
    }

    /// `None` where nobody has written yet, and this process may not even make the lock.
    fn lock_for_reading(&self) -> Result<Option<File>> {
        let path = self.path(".lock");
        let lock = match lock_file(&path) {
            Ok(lock) => lock,
            Err(error) => match File::open(&path) {
                Ok(lock) => lock,
                Err(missing) if missing.kind() == ErrorKind::NotFound && is_refusal(&error) => {
                    return Ok(None);
                }
                Err(_) => return Err(error),
            },
        };
        wait_for(&lock, FlockOperation::LockShared).map_err(|error| io_error("lock", &path, error.into()))?;
        Ok(Some(lock))
    }
}

fn is_refusal(error: &crate::Error) -> bool {
    let crate::Error::Io { source, .. } = error else { return false };
    matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

fn open(path: &Path, options: &OpenOptions) -> Result<Option<File>> {
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|source| io_error("open", path, source)),
    }
}

fn is_as_expected(path: &Path, file: &File, expected: &CellState) -> Result<bool> {
    let len = file.metadata().map_err(|source| io_error("read", path, source))?.len();
    if len != expected.len || expected.valid_len > len {
        return Ok(false);
    }
    let start = expected.valid_len - tail_len(expected.valid_len) as u64;
    Ok(read_part(path, file, start, expected.valid_len)? == expected.tail)
}

/// The bytes from `start` to `end`, which must lie within the file.
fn read_part(path: &Path, file: &File, start: u64, end: u64) -> Result<Vec<u8>> {
    let length =
        usize::try_from(end - start).map_err(|_| io_error("read", path, ErrorKind::FileTooLarge.into()))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, start).map_err(|source| io_error("read", path, source))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn failing(folder: &Path) -> CellFile {
        CellFile {
            sync: |_| Err(io::Error::other("the disk is gone")),
            ..CellFile::new(folder.to_owned(), "cell")
        }
    }

    /// A folder with a cell, and the state to append to.
    fn written() -> (tempfile::TempDir, CellFile, CellState) {
        let folder = tempfile::tempdir().unwrap();
        let cell = CellFile::new(folder.path().to_owned(), "cell");
        assert!(cell.swap(None, b"whole").unwrap());
        let state = cell.load(0).unwrap().unwrap().state;
        (folder, cell, state)
    }

    fn assert_unchanged_and_usable(cell: &CellFile, state: &CellState) {
        let found = cell.load(0).unwrap().unwrap();
        assert_eq!((found.bytes.as_slice(), found.acknowledged_len), (b"whole".as_slice(), Some(5)));
        assert!(cell.append(state, b", and more").unwrap());
        assert_eq!(cell.load(0).unwrap().unwrap().bytes, b"whole, and more");
    }

    #[test]
    fn after_a_failed_sync_the_cell_is_a_new_file_without_what_was_not_synced() {
        let (folder, cell, state) = written();
        let path = folder.path().join("cell");
        // Held open, so that the new file cannot get the number of the old one.
        let old = File::open(&path).unwrap();
        let error = failing(folder.path()).append(&state, b"lost").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot sync {path:?}"));
        assert_ne!(fs::metadata(&path).unwrap().ino(), old.metadata().unwrap().ino());
        assert_unchanged_and_usable(&cell, &state);
    }

    #[test]
    fn if_no_new_file_can_be_written_either_the_unsynced_bytes_are_cut_off() {
        let (folder, cell, state) = written();
        let in_the_way = folder.path().join("cell.new");
        fs::create_dir(&in_the_way).unwrap();
        let error = failing(folder.path()).append(&state, b"lost").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot sync {:?}", folder.path().join("cell")));
        fs::remove_dir(&in_the_way).unwrap();
        assert_unchanged_and_usable(&cell, &state);
    }

    #[test]
    fn a_cell_is_not_read_while_an_append_is_not_yet_durable() {
        let (folder, cell, state) = written();
        let slow = CellFile {
            sync: |file| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                file.sync_data()
            },
            ..CellFile::new(folder.path().to_owned(), "cell")
        };
        std::thread::scope(|scope| {
            let append = scope.spawn(|| slow.append(&state, b", and more"));
            // However the two threads are scheduled, more than the first five bytes means that the append has returned
            // or is about to: its sync, and the mark after it, are done.
            loop {
                let found = cell.load(0).unwrap().unwrap();
                assert_eq!(found.acknowledged_len, Some(found.state.len));
                if found.state.len > 5 {
                    break;
                }
                std::thread::yield_now();
            }
            assert!(append.join().unwrap().unwrap());
        });
    }
}
