//! Swinging names, removing what must go, and looking at the result.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::PoisonError;

use evoseal_types::{Digest, EntryPath};
use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, fchmod, fstat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{Stage, Staged, all_at_once};
use crate::Result;
use crate::difference::Difference;
use crate::page::DIRECTORY_MODE_MASK;
use crate::store::EntryKind;
use crate::workspace::{FileStat, split, stat_in};

impl Stage<'_> {
    /// Swings every name to what was written aside, then removes what must go, then sets the rights of folders.
    pub(crate) fn apply(&mut self, differences: &[Difference]) -> Result<()> {
        while let Some(staged) = self.staged.last() {
            self.swing(staged)?;
            self.staged.pop();
        }
        // In reverse order, so that a folder comes after everything in it.
        for difference in differences.iter().rev().filter(|difference| difference.after.is_none()) {
            self.remove(&difference.path)?;
        }
        self.finish_folders(differences)
    }

    /// Sets the rights and times of folders, the deepest first: one that may not be written to is filled by now.
    pub(super) fn finish_folders(&self, differences: &[Difference]) -> Result<()> {
        let mut modes = std::mem::take(&mut *self.unlocked.lock().unwrap_or_else(PoisonError::into_inner));
        for difference in differences {
            if let (Some(EntryKind::Directory { .. }), Some(EntryKind::Directory { mode })) =
                (&difference.before, &difference.after)
            {
                modes.insert(difference.path.as_bytes().to_vec(), *mode);
            }
        }
        for (path, mode) in modes.iter().rev() {
            let folder = match self.root.directory(path) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(self.root.error("open", path, error)),
            };
            let fail = |error| self.root.error("set the rights of", path, error);
            if fstat(&folder).map_err(fail)?.st_mode & DIRECTORY_MODE_MASK != *mode {
                fchmod(&folder, Mode::from(*mode)).map_err(fail)?;
            }
        }
        if !self.options.keep_mtimes && !self.options.keep_xattrs {
            return Ok(());
        }
        // Every folder in which a name was swung or removed has a new time.
        let mut touched: BTreeSet<&[u8]> = BTreeSet::new();
        for difference in differences {
            touched.insert(split(difference.path.as_bytes()).0);
            if difference.after.as_ref().is_some_and(EntryKind::is_directory) {
                touched.insert(difference.path.as_bytes());
            }
        }
        for path in touched.iter().rev().filter(|path| !path.is_empty()) {
            let (Ok(entry), Ok(folder)) = (EntryPath::new(path), self.root.directory(path)) else { continue };
            self.set_attributes(&folder, b".", &entry)?;
        }
        Ok(())
    }

    /// Lets the owner of a folder write into it until its rights are set at the end.
    pub(super) fn unlock(&self, folder: &OwnedFd, path: &[u8]) -> Result<()> {
        let fail = |error| self.root.error("open", path, error);
        let mode = fstat(folder).map_err(fail)?.st_mode & DIRECTORY_MODE_MASK;
        if mode & 0o300 == 0o300 || rustix::process::geteuid().is_root() {
            return Ok(());
        }
        match fchmod(folder, Mode::from(mode | 0o700)) {
            Ok(()) => {
                let mut unlocked = self.unlocked.lock().unwrap_or_else(PoisonError::into_inner);
                unlocked.entry(path.to_vec()).or_insert(mode);
                Ok(())
            }
            // Not ours: whatever is tried in it says why it cannot be done.
            Err(Errno::PERM) => Ok(()),
            Err(error) => Err(fail(error)),
        }
    }

    pub(super) fn swing(&self, staged: &Staged) -> Result<()> {
        let (above, name) = split(staged.path.as_bytes());
        let folder = self.open_folder(above)?;
        let (from, to) = (OsStr::from_bytes(split(&staged.aside).1), OsStr::from_bytes(name));
        match renameat(&folder, from, &folder, to) {
            Ok(()) => return self.drop_aside(staged),
            // A folder against something else cannot be replaced by one rename: they change places, and the old one goes.
            Err(Errno::NOTDIR) => {}
            Err(Errno::ISDIR) if staged.replaces_folder => {}
            Err(error) => return Err(self.root.error("replace", staged.path.as_bytes(), error)),
        }
        renameat_with(&folder, from, &folder, to, RenameFlags::EXCHANGE)
            .map_err(|error| self.root.error("replace", staged.path.as_bytes(), error))?;
        self.root.remove_tree(&staged.aside)
    }

    /// A rename to another name of the same file does nothing at all: the name aside is still there.
    pub(super) fn drop_aside(&self, staged: &Staged) -> Result<()> {
        if self.extras.links().is_empty() { Ok(()) } else { self.root.remove_tree(&staged.aside) }
    }

    pub(super) fn remove(&self, path: &EntryPath) -> Result<()> {
        let path = path.as_bytes();
        let (above, name) = split(path);
        let folder = match self.root.directory(above) {
            Ok(folder) => folder,
            // The folder is no folder any more: what was in it went with it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(self.root.error("open", above, error)),
        };
        let fail = |error| self.root.error("remove", path, error);
        self.unlock(&folder, above)?;
        let Some(stat) = stat_in(&folder, name).map_err(fail)? else { return Ok(()) };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&folder, OsStr::from_bytes(name), flags) {
            // A folder that still holds something that is left alone stays.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(fail(error)),
        }
    }

    /// Makes what was swung and removed durable.
    pub(crate) fn sync(&self, differences: &[Difference]) -> Result<()> {
        if !self.syncs_each {
            return self.root.sync();
        }
        let folders: BTreeSet<&[u8]> =
            differences.iter().map(|difference| split(difference.path.as_bytes()).0).collect();
        let folders: Vec<&[u8]> = folders.into_iter().collect();
        all_at_once(&folders, |path| match self.root.directory(path) {
            Ok(folder) => File::from(folder).sync_all().map_err(|source| self.io("sync", path, source)),
            // It was removed with what was in it; the folder that held it is synced.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(self.root.error("open", path, error)),
        })
    }

    /// The first path where something else stands than what was put there, because someone else writes to the target.
    pub(crate) fn first_disturbed(&self, differences: &[Difference]) -> Result<Option<EntryPath>> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: Option<(&[u8], Option<OwnedFd>)> = None;
        for difference in differences {
            let path = &difference.path;
            let (above, name) = split(path.as_bytes());
            if open.as_ref().is_none_or(|(open, _)| *open != above) {
                let folder = match self.root.directory(above) {
                    Ok(folder) => Some(folder),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                    Err(error) => return Err(self.root.error("open", above, error)),
                };
                open = Some((above, folder));
            }
            let stat = match open.as_ref().and_then(|(_, folder)| folder.as_ref()) {
                Some(folder) => {
                    stat_in(folder, name).map_err(|error| self.root.error("read", path.as_bytes(), error))?
                }
                None => None,
            };
            let kind = stat.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode));
            let is_right = match &difference.after {
                // A folder may stay for what is left alone in it.
                None => kind.is_none() || kind == Some(FileType::Directory),
                Some(EntryKind::Directory { mode }) => {
                    kind == Some(FileType::Directory)
                        && stat.as_ref().is_some_and(|stat| stat.st_mode & DIRECTORY_MODE_MASK == *mode)
                }
                Some(EntryKind::Symlink { .. }) => kind == Some(FileType::Symlink),
                Some(EntryKind::File { size_bytes, .. }) => {
                    stat.as_ref().map(FileStat::of).is_some_and(|found| {
                        let is_ours = written.get(path).is_none_or(|(ours, _)| {
                            (ours.inode, ours.modified) == (found.inode, found.modified)
                        });
                        found.is_regular() && is_ours && found.size_bytes == *size_bytes
                    })
                }
            };
            if !is_right {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }

    /// What was written, and what each file looked like then.
    pub(crate) fn take_written(&self) -> BTreeMap<EntryPath, (FileStat, Digest)> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes what is still aside after an error. The first error is the one to report, so this one is not.
    pub(crate) fn abandon(&mut self) {
        for staged in std::mem::take(&mut self.staged) {
            let _ = self.root.remove_tree(&staged.aside);
        }
        for (path, mode) in std::mem::take(&mut *self.unlocked.lock().unwrap_or_else(PoisonError::into_inner))
        {
            if let Ok(folder) = self.root.directory(&path) {
                let _ = fchmod(&folder, Mode::from(mode));
            }
        }
    }
}
