//! Writing aside, and swinging names: the half of a restore that touches the target.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use evoseal_types::{Change, ChangeKind, EntryPath};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fchown, fstat, mkdirat, openat,
    renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::objects::Reader;
use crate::restore::{below, staging_name};
use crate::store::{Entry, EntryKind};
use crate::workspace::{Root, join, split, stat_in};
use crate::{Error, Result};

/// What is written aside in a target and not yet in its place.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    root: &'a Root,
    next_number: u64,
    staged: Vec<Staged>,
    /// Whether each file is synced by itself, because they are few.
    syncs_each: bool,
}

/// Up to this many changes are synced one by one: syncing the whole file system would wait for everything that others have
/// written too. Beyond, one sync of the file system costs less, and the number of syncs stays bounded.
const SYNCED_EACH_MAX: usize = 16;

#[derive(Debug, Clone)]
struct Staged {
    /// The name aside, in the same folder as `path`.
    aside: Vec<u8>,
    path: EntryPath,
    /// Whether a folder that stands at `path` was compared and may go with everything in it.
    replaces_folder: bool,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, next_number: 0, staged: Vec::new(), syncs_each: false }
    }

    /// Marks the target as being restored into.
    pub(crate) fn write_marker(&self, name: &[u8]) -> Result<()> {
        let folder = self.open_folder(b"")?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, OsStr::from_bytes(name), flags, Mode::from(0o600))
            .map_err(|error| self.root.error("create", name, error))?;
        File::from(file).sync_all().map_err(|source| self.io("sync", name, source))?;
        File::from(folder).sync_all().map_err(|source| self.io("sync", b"", source))
    }

    /// Writes aside everything that `changes` add or alter. A folder that is new as a whole is written as one.
    pub(crate) fn prepare(
        &mut self,
        reader: &mut Reader,
        entries: &[Entry],
        changes: &[Change],
    ) -> Result<()> {
        self.syncs_each = changes.len() <= SYNCED_EACH_MAX;
        let mut new_folders: BTreeSet<&EntryPath> = BTreeSet::new();
        let wanted = |path: &EntryPath| {
            let place = entries.binary_search_by(|entry| entry.path.cmp(path));
            &entries[place.expect("a change that is no removal is about an entry of the checkpoint")].kind
        };
        for change in changes.iter().filter(|change| change.kind != ChangeKind::Removed) {
            let kind = wanted(&change.path);
            let is_inside_new = ancestors(&change.path).any(|above| new_folders.contains(&above));
            if matches!(kind, EntryKind::Directory) {
                new_folders.insert(&change.path);
            }
            if !is_inside_new {
                self.write_aside(reader, entries, change, kind)?;
            }
        }
        // A name must not swing to bytes that a crash could still lose.
        if self.syncs_each { Ok(()) } else { self.root.sync() }
    }

    /// Makes what was swung and removed durable.
    pub(crate) fn sync(&self, changes: &[Change]) -> Result<()> {
        if !self.syncs_each {
            return self.root.sync();
        }
        let folders: BTreeSet<&[u8]> = changes.iter().map(|change| split(change.path.as_bytes()).0).collect();
        for path in folders {
            match self.root.directory(path) {
                Ok(folder) => {
                    File::from(folder).sync_all().map_err(|source| self.io("sync", path, source))?;
                }
                // It was removed with what was in it; the folder that held it is synced.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(self.root.error("open", path, error)),
            }
        }
        Ok(())
    }

    fn write_aside(
        &mut self,
        reader: &mut Reader,
        entries: &[Entry],
        change: &Change,
        kind: &EntryKind,
    ) -> Result<()> {
        let path = &change.path;
        let (above, name) = split(path.as_bytes());
        let folder = self.open_folder(above)?;
        let old = stat_in(&folder, name).map_err(|error| self.root.error("read", path.as_bytes(), error))?;
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let replaces_folder = change.kind == ChangeKind::KindChanged;
        if !replaces_folder && old.as_ref().is_some_and(is_directory) {
            // It was not there, or not counted, when the target was compared: what it holds cannot be judged.
            return Err(Error::NotEmpty { path: self.root.shown(path.as_bytes()) });
        }
        let aside = staging_name(self.next_number);
        self.next_number += 1;
        self.staged.push(Staged { aside: join(above, &aside), path: path.clone(), replaces_folder });
        self.write(reader, &folder, &aside, kind, old.as_ref())?;
        if matches!(kind, EntryKind::Directory) {
            self.fill(reader, below(entries, path), path, &join(above, &aside))?;
        }
        Ok(())
    }

    /// Writes everything below a new folder. Entries are sorted, so that a folder comes before what is in it.
    fn fill(&self, reader: &mut Reader, inside: &[Entry], path: &EntryPath, aside: &[u8]) -> Result<()> {
        let mut open: Option<(Vec<u8>, OwnedFd)> = None;
        for entry in inside {
            let place = [aside, &entry.path.as_bytes()[path.as_bytes().len()..]].concat();
            let (above, name) = split(&place);
            let is_open = open.as_ref().is_some_and(|(open, _)| open == above);
            if !is_open {
                open = Some((above.to_vec(), self.open_folder(above)?));
            }
            let (_, folder) = open.as_ref().expect("it was just opened");
            self.write(reader, folder, name, &entry.kind, None)?;
        }
        Ok(())
    }

    fn write(
        &self,
        reader: &mut Reader,
        folder: &OwnedFd,
        name: &[u8],
        kind: &EntryKind,
        old: Option<&Stat>,
    ) -> Result<()> {
        let fail = |error| self.root.error("create", name, error);
        let name_os = OsStr::from_bytes(name);
        match kind {
            EntryKind::Directory => mkdirat(folder, name_os, Mode::from(0o777)).map_err(fail),
            EntryKind::Symlink { target } => {
                symlinkat(OsStr::from_bytes(target), folder, name_os).map_err(fail)
            }
            EntryKind::File { size_bytes, digest, executable } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = if *executable { 0o777 } else { 0o666 };
                let mut file = File::from(openat(folder, name_os, flags, Mode::from(mode)).map_err(fail)?);
                reader.stream(*digest, Some(*size_bytes), &mut |piece| {
                    file.write_all(piece).map_err(|source| self.io("write", name, source))
                })?;
                set_mode(&file, *executable, old).map_err(fail)?;
                if self.syncs_each {
                    file.sync_all().map_err(|source| self.io("sync", name, source))?;
                }
                Ok(())
            }
        }
    }

    /// Swings every name to what was written aside, then removes what must go.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<()> {
        while let Some(staged) = self.staged.last() {
            self.swing(staged)?;
            self.staged.pop();
        }
        // In reverse order, so that a folder comes after everything in it.
        for change in changes.iter().rev().filter(|change| change.kind == ChangeKind::Removed) {
            self.remove(change)?;
        }
        Ok(())
    }

    fn swing(&self, staged: &Staged) -> Result<()> {
        let (above, name) = split(staged.path.as_bytes());
        let folder = self.open_folder(above)?;
        let (from, to) = (OsStr::from_bytes(split(&staged.aside).1), OsStr::from_bytes(name));
        match renameat(&folder, from, &folder, to) {
            Ok(()) => return Ok(()),
            // A folder against something else cannot be replaced by one rename: they change places, and the old one goes.
            Err(Errno::NOTDIR) => {}
            Err(Errno::ISDIR) if staged.replaces_folder => {}
            Err(error) => return Err(self.root.error("replace", staged.path.as_bytes(), error)),
        }
        renameat_with(&folder, from, &folder, to, RenameFlags::EXCHANGE)
            .map_err(|error| self.root.error("replace", staged.path.as_bytes(), error))?;
        self.remove_tree(&staged.aside)
    }

    fn remove(&self, change: &Change) -> Result<()> {
        let path = change.path.as_bytes();
        let (above, name) = split(path);
        let folder = match self.root.directory(above) {
            Ok(folder) => folder,
            // The folder is no folder any more: what was in it went with it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(self.root.error("open", above, error)),
        };
        let fail = |error| self.root.error("remove", path, error);
        let Some(stat) = stat_in(&folder, name).map_err(fail)? else { return Ok(()) };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&folder, OsStr::from_bytes(name), flags) {
            // A folder that still holds something that is left alone stays.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(fail(error)),
        }
    }

    /// Removes what is still aside after an error. The first error is the one to report, so this one is not.
    pub(crate) fn abandon(&mut self) {
        for staged in std::mem::take(&mut self.staged) {
            let _ = self.remove_tree(&staged.aside);
        }
    }

    /// Removes a file, or a folder with everything in it. Symlinks are removed, never followed.
    pub(crate) fn remove_tree(&self, path: &[u8]) -> Result<()> {
        // Folders are emptied when they are met for the first time and removed when they are met for the second.
        let mut pending = vec![(path.to_vec(), false)];
        while let Some((path, is_emptied)) = pending.pop() {
            let (above, name) = split(&path);
            let fail = |error| self.root.error("remove", &path, error);
            let folder = match self.root.directory(above) {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(fail(error)),
            };
            let flags = if is_emptied { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(&folder, OsStr::from_bytes(name), flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) if !is_emptied => {
                    pending.push((path.clone(), true));
                    pending.extend(self.children(&path)?.into_iter().map(|child| (child, false)));
                }
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    fn children(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let fail = |error| self.root.error("list", path, error);
        let folder = self.open_folder(path)?;
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

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd> {
        self.root.directory(path).map_err(|error| self.root.error("open", path, error))
    }

    fn io(&self, action: &'static str, path: &[u8], source: std::io::Error) -> Error {
        Error::Io { action, path: self.root.shown(path), source }
    }
}

fn ancestors(path: &EntryPath) -> impl Iterator<Item = EntryPath> {
    std::iter::successors(path.parent(), EntryPath::parent)
}

/// Sets the executable bits as captured. A file that replaces another keeps the other rights and, where the system
/// allows it, the owner of the old one; bits that lend rights (setuid and the like) are not carried over.
fn set_mode(file: impl AsFd, executable: bool, old: Option<&Stat>) -> Result<(), Errno> {
    let new = fstat(&file)?;
    let old = old.filter(|old| FileType::from_raw_mode(old.st_mode) == FileType::RegularFile);
    if let Some(old) = old
        && (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid)
    {
        let (owner, group) = (rustix::fs::Uid::from_raw(old.st_uid), rustix::fs::Gid::from_raw(old.st_gid));
        match fchown(&file, Some(owner), Some(group)) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    let base = old.map_or(new.st_mode, |old| old.st_mode) & 0o777;
    let mode = if !executable {
        base & !0o111
    } else if base & 0o100 != 0 {
        base
    } else {
        // Whoever may read may execute, as with a fresh file.
        base | 0o100 | ((base & 0o044) >> 2)
    };
    if mode == new.st_mode & 0o777 { Ok(()) } else { fchmod(&file, Mode::from(mode)) }
}
