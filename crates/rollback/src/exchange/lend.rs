//! What no version holds: how it goes over to the new tree, and comes home.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use evoseal_checkpoint::{Root, is_laid_aside};
use rustix::fs::{
    Dir, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, chmod, fstat, futimens, openat,
    readlinkat, renameat_with, symlinkat,
};
use rustix::io::Errno;

use super::{Exchange, STATE, explained, join, refused, split};
use crate::Result;
use crate::seen::{Seen, look};

/// How far the entries of a folder may stay out of the new tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// What no version holds is kept.
    Kept,
    /// Something else takes the folder's place: all that is in it must be in a version.
    Gone,
}

impl Exchange {
    /// What must go over to the new tree: the topmost entries that are in no version. Refuses what would have to be
    /// destroyed, and what cannot be moved or removed.
    pub(super) fn kept(&self, old: &Root, new: &Root, goes: &BTreeSet<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let mut kept = Vec::new();
        let mut pending = vec![(Vec::new(), Fate::Kept)];
        while let Some((folder, fate)) = pending.pop() {
            let from = old.directory(&folder).map_err(|error| self.fail("open", &folder, error))?;
            let to = new.directory(&folder).ok();
            for (name, seen) in self.listed(&from, &folder)? {
                let path = join(&folder, &name);
                if is_laid_aside(&name) {
                    continue;
                }
                if let Some(reason) = seen.keeps_from_going() {
                    return Err(refused(&self.shown(&path), reason));
                }
                let stands = to.as_ref().map(|to| look(to, &name)).transpose();
                let stands = stands.map_err(|error| self.fail("look at", &path, error))?.flatten();
                // The tree beside may have been the workspace before, with what stood in for its entries.
                let stands = stands.filter(|_| !to.as_ref().is_some_and(|to| self.is_stand_in(to, &path)));
                match stands {
                    Some(stands) if stands.is_folder() && seen.is_folder() => pending.push((path, fate)),
                    Some(_) if seen.is_folder() => pending.push((path, Fate::Gone)),
                    Some(_) => {}
                    None if goes.contains(&path) => {
                        if seen.is_folder() {
                            pending.push((path, fate));
                        }
                    }
                    None if fate == Fate::Gone => {
                        let path = self.shown(&folder);
                        return Err(evoseal_checkpoint::Error::NotEmpty { path }.into());
                    }
                    None => kept.push(path),
                }
            }
        }
        kept.sort_unstable_by_key(|path| (path.as_slice() == STATE, path.clone()));
        Ok(kept)
    }

    pub(super) fn listed(&self, folder: &OwnedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Seen)>> {
        let fail = |error| self.fail("list", path, error);
        let mut found = Vec::new();
        for entry in Dir::read_from(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if let Some(seen) = look(folder, name).map_err(fail)? {
                found.push((name.to_vec(), seen));
            }
        }
        Ok(found)
    }

    /// Moves one entry to the new tree, and a symlink to it into its place.
    pub(super) fn lend(&self, old: &Root, new: &Root, path: &[u8]) -> Result<()> {
        let (above, name) = split(path);
        self.make_folders_like(old, new, above)?;
        let open = |root: &Root| root.directory(above).map_err(|error| self.fail("open", above, error));
        let (from, to) = (open(old)?, open(new)?);
        let name = OsStr::from_bytes(name);
        let stand_in = self.stand_in(path);
        let times = modified(&to).map_err(|error| self.fail("look at", above, error))?;
        if !self.is_stand_in(&to, path) {
            let create = || symlinkat(OsStr::from_bytes(&stand_in), &to, name);
            let create = || Ok(in_folders(&[&to], create)?);
            self.files.step("create", &self.shown(path), create).map_err(explained)?;
        }
        self.change_places(&from, &to, path)?;
        futimens(&to, &times).map_err(|error| self.fail("set the time of", above, error))
    }

    fn change_places(&self, from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
        let name = OsStr::from_bytes(split(path).1);
        // A folder that moves is written to as well: its `..` changes. It need not be one that may be read.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let moved = [from, to].map(|folder| openat(folder, name, flags, Mode::empty()).ok());
        let folders: Vec<&OwnedFd> = [from, to].into_iter().chain(moved.iter().flatten()).collect();
        let exchange = || renameat_with(from, name, to, name, RenameFlags::EXCHANGE);
        self.files
            .step("exchange", &self.shown(path), || Ok(in_folders(&folders, exchange)?))
            .map_err(explained)
    }

    pub(super) fn make_folders_like(&self, model: &Root, root: &Root, path: &[u8]) -> Result<()> {
        if path.is_empty() || root.directory(path).is_ok() {
            return Ok(());
        }
        self.make_folders_like(model, root, split(path).0)?;
        let made = root.make_folder_like(model, path).and_then(|()| root.finish_folder_like(model, path));
        made.map_err(|error| self.fail("create", path, error))
    }

    /// What a symlink says that stands in for an entry.
    fn stand_in(&self, path: &[u8]) -> Vec<u8> {
        let up = b"../".repeat(path.split(|byte| *byte == b'/').count());
        [up.as_slice(), &self.beside(), b"/", path].concat()
    }

    /// Whether a symlink stands in for the entry in this folder.
    pub(super) fn is_stand_in(&self, folder: &OwnedFd, path: &[u8]) -> bool {
        readlinkat(folder, OsStr::from_bytes(split(path).1), Vec::new())
            .is_ok_and(|target| target.as_bytes() == self.stand_in(path))
    }

    /// Brings home every entry that is still lent. Can run any number of times.
    pub(crate) fn tidy(&self) -> Result<()> {
        let Ok(beside) = self.root(&self.beside()) else { return Ok(()) };
        let workspace = self.root(&self.name)?;
        self.take_back(&workspace, &beside, STATE)?;
        let mut pending = vec![Vec::new()];
        while let Some(folder) = pending.pop() {
            let (Ok(lent), Ok(home)) = (beside.directory(&folder), workspace.directory(&folder)) else {
                continue;
            };
            for (name, seen) in self.listed(&lent, &folder)? {
                let path = join(&folder, &name);
                if !self.take_back(&workspace, &beside, &path)?
                    && seen.is_folder()
                    && look(&home, &name).is_ok_and(|home| home.is_some_and(|home| home.is_folder()))
                {
                    pending.push(path);
                }
            }
        }
        Ok(())
    }

    /// Whether the entry was lent.
    pub(super) fn take_back(&self, workspace: &Root, beside: &Root, path: &[u8]) -> Result<bool> {
        let above = split(path).0;
        let (Ok(home), Ok(lent)) = (workspace.directory(above), beside.directory(above)) else {
            return Ok(false);
        };
        let is_there = look(&lent, split(path).1).is_ok_and(|seen| seen.is_some());
        if !is_there || !self.is_stand_in(&home, path) || self.is_stand_in(&lent, path) {
            return Ok(false);
        }
        self.change_places(&home, &lent, path)?;
        Ok(true)
    }
}

/// Does something in folders; where one may not be written to and is ours, it may for the moment.
pub(super) fn in_folders(folders: &[&OwnedFd], work: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    match work() {
        Err(Errno::ACCESS) => {}
        done => return done,
    }
    let mut modes = Vec::new();
    for folder in folders {
        let mode = fstat(folder)?.st_mode & 0o7777;
        // Rights are not changed through a handle that was not opened for reading.
        let through = format!("/proc/self/fd/{}", folder.as_raw_fd());
        if mode & 0o300 != 0o300 && chmod(&through, Mode::from(mode | 0o300)).is_ok() {
            modes.push((through, mode));
        }
    }
    let done = work();
    for (through, mode) in modes {
        chmod(&through, Mode::from(mode))?;
    }
    done
}

/// A folder's time of modification, to be set again.
fn modified(folder: &OwnedFd) -> Result<Timestamps, Errno> {
    let stat = fstat(folder)?;
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Ok(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds },
    })
}
