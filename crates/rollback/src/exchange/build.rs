//! The new tree, before it is anybody's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use evoseal_checkpoint::{Entry, EntryKind};
use rustix::fs::{AtFlags, FileType, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

use super::{Exchange, refused, split};
use crate::Result;
use crate::seen::look;

impl Exchange {
    /// Begins the new tree: the folders of the workspace that `entries` have too, and in them their files that are not
    /// `changed`, each the same file with one name more. What differs is for a restore to write.
    pub(crate) fn build(&self, entries: &[Entry], changed: &BTreeSet<Vec<u8>>) -> Result<PathBuf> {
        self.remove_building()?;
        drop(self.make_building()?);
        let (old, new) = (self.root(&self.name)?, self.root(&self.building())?);
        let mut folders: Vec<&[u8]> = vec![b""];
        new.make_folder_like(&old, b"").map_err(|error| self.fail("create", b"", error))?;
        let mut open: (Option<&[u8]>, Option<(OwnedFd, OwnedFd)>) = (None, None);
        for entry in entries {
            let path = entry.path.as_bytes();
            let (above, name) = split(path);
            if open.0 != Some(above) {
                open = (Some(above), old.directory(above).ok().zip(new.directory(above).ok()));
            }
            let Some((from, to)) = &open.1 else { continue };
            let seen = look(from, name).map_err(|error| self.fail("look at", path, error))?;
            let Some(seen) = seen else { continue };
            match entry.kind {
                EntryKind::Directory { .. } if seen.kind == FileType::Directory => {
                    new.make_folder_like(&old, path).map_err(|error| self.fail("create", path, error))?;
                    folders.push(path);
                }
                EntryKind::Directory { .. } => {}
                _ if changed.contains(path) => {}
                EntryKind::File { .. } if seen.kind == FileType::RegularFile => {
                    self.link(from, to, path)?;
                }
                EntryKind::Symlink { .. } if seen.kind == FileType::Symlink => self.link(from, to, path)?,
                _ => {}
            }
        }
        for path in folders.iter().rev() {
            let done = new.finish_folder_like(&old, path);
            done.map_err(|error| self.fail("set the rights of", path, error))?;
        }
        Ok(self.path_of(&self.building()))
    }

    fn link(&self, from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
        let name = OsStr::from_bytes(split(path).1);
        match linkat(from, name, to, name, AtFlags::empty()) {
            // It is restored then. A file that has as many names as it can have is one that few others are.
            Ok(()) | Err(Errno::NOENT | Errno::MLINK) => Ok(()),
            Err(Errno::PERM | Errno::ACCESS) => Err(refused(
                &self.shown(path),
                "it is marked as immutable, or belongs to another user, and could not be in the new tree",
            )),
            Err(error) => Err(self.fail("link", path, error)),
        }
    }

    /// Makes the new tree durable, and gives it its place: from now on it is whole. A file that was `changed` keeps its
    /// owner, where the system allows it.
    pub(crate) fn finish_building(&self, changed: &BTreeSet<Vec<u8>>) -> Result<()> {
        let (from, to) = (self.building(), self.beside());
        let path = self.path_of(&to);
        let (old, new) = (self.root(&self.name)?, self.root(&from)?);
        for path in changed {
            let done = new.own_file_like(&old, path);
            done.map_err(|error| self.fail("set the owner of", path, error))?;
        }
        self.files.step("sync", &self.path_of(&from), || Ok(()))?;
        new.sync()?;
        let above = self.above.directory(b"").map_err(|error| self.fail("open", b"", error))?;
        self.files.step("rename", &path, || {
            let (from, to) = (OsStr::from_bytes(&from), OsStr::from_bytes(&to));
            Ok(renameat_with(&above, from, &above, to, RenameFlags::NOREPLACE)?)
        })?;
        self.sync_above()
    }
}
