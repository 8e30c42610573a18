//! Space that is set aside for a restore, so that a disk which a candidate has filled does not keep it in force.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// A file of reserved blocks beside a store. It holds nothing and may be deleted at any time.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    path: PathBuf,
    size_bytes: u64,
}

/// Takes the space again when a restore is over, however it ended.
#[derive(Debug)]
pub(crate) struct Released<'a>(Option<&'a Reserve>);

impl Reserve {
    /// A reserve of that size below the directory of a store; `None` if none is wanted.
    pub(crate) fn new(directory: &Path, size_bytes: u64) -> Option<Self> {
        (size_bytes > 0).then(|| Self { path: directory.join("reserve"), size_bytes })
    }

    /// Sets the space aside unless that is done already; gives how many bytes are set aside now. That the disk has no room for
    /// it is no error: a checkpoint is worth more than the reserve.
    pub(crate) fn fill(&self) -> u64 {
        let has_all = |file: &File| {
            file.metadata().is_ok_and(|metadata| metadata.blocks().saturating_mul(512) >= self.size_bytes)
        };
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path);
        let is_filled = open.is_ok_and(|file| {
            has_all(&file) || fallocate(&file, FallocateFlags::empty(), 0, self.size_bytes).is_ok()
        });
        if is_filled {
            return self.size_bytes;
        }
        // A part of it would take space from others and be enough for nothing.
        let _ = std::fs::remove_file(&self.path);
        0
    }

    /// Gives the space up to whoever writes to `target`, if that is on the same file system.
    pub(crate) fn release(&self, target: &Path) -> Released<'_> {
        let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
        let existing = target.ancestors().find(|path| path.exists());
        let is_shared = existing.and_then(device).is_some_and(|there| device(&self.path) == Some(there));
        if is_shared && std::fs::remove_file(&self.path).is_ok() {
            Released(Some(self))
        } else {
            Released(None)
        }
    }
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        if let Some(reserve) = self.0 {
            reserve.fill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_set_aside_given_up_and_taken_again() {
        let place = tempfile::tempdir().unwrap();
        assert!(Reserve::new(place.path(), 0).is_none());
        let reserve = Reserve::new(place.path(), 1 << 20).unwrap();
        let blocks = || std::fs::metadata(&reserve.path).map(|metadata| metadata.blocks() * 512);
        for _ in 0..2 {
            assert_eq!(reserve.fill(), 1 << 20);
            assert!(blocks().unwrap() >= 1 << 20);
        }
        let released = reserve.release(&place.path().join("not/there/yet"));
        assert!(blocks().is_err(), "the space is free");
        drop(released);
        assert!(blocks().unwrap() >= 1 << 20);
        drop(reserve.release(Path::new("/proc")));
        assert!(blocks().is_ok(), "another file system gets nothing of it");
    }
}
