//! Handles on directories: everything below a workspace is reached from one open directory, never by a path that a
//! symlink could redirect.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statat};
use rustix::io::Errno;

use crate::local::io_error;
use crate::page::FILE_MODE_MASK;
use crate::{Error, Result};

/// How often one opening is tried while renames elsewhere disturb it.
const OPEN_ATTEMPTS: u32 = 100;

/// A directory below which all work happens, held open.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

/// What a file looked like, as far as a change shows in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size_bytes: u64,
    pub(crate) modified: Stamp,
    pub(crate) changed: Stamp,
    pub(crate) mode: u32,
    pub(crate) is_linked: bool,
}

/// A time of the file system: seconds and nanoseconds, which no 64-bit count of nanoseconds could hold for every year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Stamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Stamp {
    /// The file system's present time. Stamps are compared with the clock that makes them, not with the time that
    /// records show; the coarse one is the one that a file system reads, and never runs ahead of it.
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0) }
    }
}

impl FileStat {
    pub(crate) fn of(stat: &Stat) -> Self {
        let stamp = |seconds: i64, nanoseconds: u64| Stamp {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: stamp(stat.st_mtime, stat.st_mtime_nsec),
            changed: stamp(stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
            is_linked: stat.st_nlink > 1,
        }
    }

    /// The rights that are part of a tree.
    pub(crate) fn rights(&self) -> u32 {
        self.mode & FILE_MODE_MASK
    }

    pub(crate) fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }
}

impl Root {
    /// Opens `path`, which may itself be reached through symlinks: it is the caller's word, not the workspace's.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| io_error("open", path, error.into()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages only.
    pub(crate) fn shown(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    pub(crate) fn error(&self, action: &'static str, path: &[u8], error: Errno) -> Error {
        io_error(action, &self.shown(path), error.into())
    }

    /// Device and inode, which tell whether two paths mean the same directory.
    pub(crate) fn identity(&self) -> Result<(u64, u64)> {
        let stat = fstat(&self.fd).map_err(|error| self.error("read", b"", error))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Opens a directory below the root without following any symlink; the empty path is the root itself.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_empty() {
            return openat(&self.fd, c".", flags, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..OPEN_ATTEMPTS {
            match openat2(&self.fd, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
                // The kernel asks for another try when a rename elsewhere kept it from being sure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Old kernels and some sandboxes do not have the call, and one path can be too long for it.
                Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG) => {
                    return self.step_by_step(path, flags);
                }
                other => return other,
            }
        }
        self.step_by_step(path, flags)
    }

    fn step_by_step(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut fd = openat(&self.fd, c".", flags, Mode::empty())?;
        for part in path.split(|byte| *byte == b'/') {
            if matches!(part, b"" | b"." | b"..") {
                return Err(Errno::INVAL);
            }
            fd = openat(&fd, OsStr::from_bytes(part), flags, Mode::empty())?;
        }
        Ok(fd)
    }

    /// Writes everything of the root's file system that is not durable yet.
    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|error| self.error("sync", b"", error))
    }
}

/// What stands under `name`, not following a symlink; `None` if nothing does.
pub(crate) fn stat_in(folder: impl AsFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path's folder (empty for the root) and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(place) => (&path[..place], &path[place + 1..]),
        None => (b"", path),
    }
}

/// `folder` (empty for the root) and `name` as one path.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
