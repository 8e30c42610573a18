//! Handles on directories: everything below a workspace is reached from one open directory, never by a path that a
//! symlink could redirect.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chmod, fchmod, fchown, fstat,
    mkdirat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;

use crate::attributes;
use crate::local::io_error;
use crate::page::{DIRECTORY_MODE_MASK, FILE_MODE_MASK};
use crate::{Error, Result};

/// How often one opening is tried while renames elsewhere disturb it.
const OPEN_ATTEMPTS: u32 = 100;

/// A directory below which all work happens, held open: whatever is done in it, no symlink in it leads out.
///
/// Paths are bytes relative to the root; the empty path is the root itself.
///
/// ```
/// use evoseal_checkpoint::Root;
///
/// let (workspace, outside) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// std::fs::create_dir(workspace.path().join("src"))?;
/// std::os::unix::fs::symlink(outside.path(), workspace.path().join("elsewhere"))?;
/// let root = Root::open(workspace.path())?;
/// assert!(root.directory(b"src").is_ok());
/// assert!(root.directory(b"elsewhere").is_err());
/// root.remove_tree(b"elsewhere")?;
/// assert!(outside.path().exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Root {
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
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where it is no directory, or may not be read.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| io_error("open", path, error.into()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
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
    ///
    /// # Errors
    ///
    /// The system's: `LOOP` or `NOTDIR` where a symlink stands on the way.
    pub fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
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
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with what the system says.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|error| self.error("sync", b"", error))
    }

    /// Opens a directory below the root as a root of its own, without following any symlink.
    ///
    /// # Errors
    ///
    /// As [`directory`](Self::directory).
    pub fn below(&self, path: &[u8]) -> Result<Self, Errno> {
        Ok(Self { fd: self.directory(path)?, path: self.shown(path) })
    }

    /// Makes the folder at `path` as it stands in `model`: with its owner and extended attributes, as far as the system
    /// allows, and open to its owner; [`finish_folder_like`](Self::finish_folder_like) gives it the model's rights and time.
    /// The empty path is for a root that is there already.
    ///
    /// # Errors
    ///
    /// The system's: `EXIST` where something stands there.
    pub fn make_folder_like(&self, model: &Self, path: &[u8]) -> Result<(), Errno> {
        if !path.is_empty() {
            let (above, name) = split(path);
            mkdirat(self.directory(above)?, OsStr::from_bytes(name), Mode::RWXU)?;
        }
        let (new, old) = (self.directory(path)?, model.directory(path)?);
        keep_owner(&new, &fstat(&old)?)?;
        match attributes::write_extended(&new, c".", &attributes::read_extended(&old, c".")?) {
            // Those of the system are not for every user to set.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a file the owner of the one at the same path in `model`, as far as the system allows; nothing where either is none.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn own_file_like(&self, model: &Self, path: &[u8]) -> Result<(), Errno> {
        let (above, name) = split(path);
        let (Ok(new), Ok(old)) = (self.directory(above), model.directory(above)) else { return Ok(()) };
        let Some(old) = stat_in(&old, name)?.filter(is_regular) else { return Ok(()) };
        if !stat_in(&new, name)?.is_some_and(|stat| is_regular(&stat)) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(&new, OsStr::from_bytes(name), flags, Mode::empty()) {
            Ok(file) => keep_owner(file, &old),
            // It is ours, and may not be read: then the other one is ours as well, or nobody can give it away.
            Err(Errno::ACCESS) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a folder the rights and the time of modification that the one at the same path has in `model`.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn finish_folder_like(&self, model: &Self, path: &[u8]) -> Result<(), Errno> {
        let (new, old) = (self.directory(path)?, fstat(model.directory(path)?)?);
        fchmod(&new, Mode::from(old.st_mode & DIRECTORY_MODE_MASK))?;
        attributes::set_modified(&new, c".", FileStat::of(&old).modified)
    }

    /// Removes a file, or a folder with everything in it. Symlinks are removed, never followed; what is not there is no
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with the first path that cannot be removed.
    pub fn remove_tree(&self, path: &[u8]) -> Result<()> {
        // Folders are emptied when they are met for the first time and removed when they are met for the second.
        let mut pending = vec![(path.to_vec(), false)];
        while let Some((path, is_emptied)) = pending.pop() {
            let (above, name) = split(&path);
            let fail = |error| self.error("remove", &path, error);
            let folder = match self.directory(above) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(fail(error)),
            };
            let flags = if is_emptied { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(&folder, OsStr::from_bytes(name), flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) if !is_emptied => {
                    pending.push((path.clone(), true));
                    pending.extend(self.children_to_remove(&path)?.into_iter().map(|child| (child, false)));
                }
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    /// What a folder holds that is about to be removed. Its owner is let into it, whatever its rights are.
    fn children_to_remove(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let fail = |error| self.error("list", path, error);
        let folder = match self.directory(path) {
            Err(Errno::ACCESS) => {
                self.let_owner_in(path).map_err(fail)?;
                self.directory(path).map_err(fail)?
            }
            opened => opened.map_err(fail)?,
        };
        let mode = fstat(&folder).map_err(fail)?.st_mode;
        if mode & 0o700 != 0o700 && !rustix::process::geteuid().is_root() {
            // Not ours: the removal says why it cannot be done.
            match fchmod(&folder, Mode::RWXU) {
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        let mut found = Vec::new();
        for entry in Dir::read_from(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                found.push(join(path, name));
            }
        }
        Ok(found)
    }

    /// Gives the owner of a folder all rights to it, though it may not be opened.
    fn let_owner_in(&self, path: &[u8]) -> Result<(), Errno> {
        let (above, name) = split(path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.directory(above)?, OsStr::from_bytes(name), flags, Mode::empty())?;
        // Rights are not changed through such a handle, and not by a name that could become a symlink meanwhile.
        chmod(format!("/proc/self/fd/{}", folder.as_raw_fd()), Mode::RWXU)
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

/// Gives what was just made the owner of what it replaces, where the system allows it.
pub(crate) fn keep_owner(new: impl AsFd, old: &Stat) -> Result<(), Errno> {
    let stat = fstat(&new)?;
    if (old.st_uid, old.st_gid) == (stat.st_uid, stat.st_gid) {
        return Ok(());
    }
    match fchown(&new, Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid))) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
