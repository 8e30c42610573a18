//! A rollback that builds the whole target beside the workspace and lets the two change places by one system call.
//!
//! Some of the workspace is in no version: ignored files, `.git`, `.evoseal`. Before the roots change places, each such entry
//! goes over to the new tree, and a symlink stands in for it in the old one. It is the same call that does this,
//! so that at every instant each path leads to what it led to before. Cut off in between, the workspace is the old version
//! or the new one, and [`tidy`](Exchange::tidy) brings home what is still lent.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{Entry, EntryKind, Root, is_laid_aside};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, chmod, fstat,
    futimens, linkat, mkdirat, openat, readlinkat, renameat_with, symlinkat,
};
use rustix::io::Errno;

use crate::files::{Files, failed};
use crate::seen::{Seen, look};
use crate::{Error, Result};

/// Where evoseal keeps its own files: the last to be lent and the first to come home.
const STATE: &[u8] = b".evoseal";

/// A workspace and the places beside it.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The workspace, without symlinks on the way.
    workspace: PathBuf,
    above: Root,
    name: Vec<u8>,
    files: Files,
}

/// How far the entries of a folder may stay out of the new tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// What no version holds is kept.
    Kept,
    /// Something else takes the folder's place: all that is in it must be in a version.
    Gone,
}

impl Exchange {
    pub(crate) fn of(workspace: &Path, files: &Files) -> Result<Self> {
        let workspace = workspace.canonicalize().map_err(failed("resolve", workspace))?;
        let (Some(above), Some(name)) = (workspace.parent(), workspace.file_name()) else {
            return Err(refused(&workspace, "nothing can stand beside it"));
        };
        let (above, name) = (Root::open(above)?, name.as_bytes().to_vec());
        Ok(Self { workspace, above, name, files: files.clone() })
    }

    /// Where the whole tree stands that changes places with the workspace.
    fn beside(&self) -> Vec<u8> {
        [b".", self.name.as_slice(), b".evoseal-exchange"].concat()
    }

    /// Where that tree is built.
    fn building(&self) -> Vec<u8> {
        [self.beside().as_slice(), b"-new"].concat()
    }

    fn path_of(&self, name: &[u8]) -> PathBuf {
        self.workspace.with_file_name(OsStr::from_bytes(name))
    }

    /// Whether something of ours stands beside the workspace.
    pub(crate) fn is_begun(&self) -> bool {
        [self.beside(), self.building()]
            .iter()
            .any(|name| std::fs::symlink_metadata(self.path_of(name)).is_ok())
    }

    /// Refuses a workspace that cannot change places with another folder. Writes nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason: &str| Err(refused(&self.workspace, reason));
        let above = self.above.directory(b"").map_err(|error| self.fail("open", b"", error))?;
        let own = look(&above, &self.name).map_err(|error| self.fail("look at", b"", error))?;
        let Some(own) = own else { return refuse("it is gone") };
        let beside = fstat(&above).map_err(|error| self.fail("look at", b"", error))?;
        if own.is_mount || own.device != Some(beside.st_dev) {
            return refuse("a file system is mounted there, and stays where it is mounted");
        }
        if own.is_fixed {
            return refuse("it is marked as immutable or append-only");
        }
        if !may_make(&own) {
            return refuse("it belongs to another user, and only they can make a folder of theirs");
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        if rustix::fs::accessat(&above, c".", access, AtFlags::EACCESS).is_err() {
            return refuse("nothing can be made in the folder that holds it");
        }
        Ok(())
    }

    /// The same, and tries the system call out on two empty folders.
    pub(crate) fn try_out(&self) -> Result<()> {
        self.check()?;
        self.remove_building()?;
        let name = self.building();
        let tried = self.make_building().and_then(|new| {
            for part in [c"one", c"two"] {
                mkdirat(&new, part, Mode::RWXU).map_err(|error| self.fail("create", &name, error))?;
            }
            renameat_with(&new, c"one", &new, c"two", RenameFlags::EXCHANGE).map_err(|error| match error {
                Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP => {
                    refused(&self.workspace, "its file system cannot let two folders change places")
                }
                error => self.fail("exchange", &name, error),
            })
        });
        let removed = self.remove_building();
        tried.and(removed)
    }

    fn make_building(&self) -> Result<OwnedFd> {
        let name = self.building();
        let above = self.above.directory(b"").map_err(|error| self.fail("open", b"", error))?;
        self.files.step("create folder", &self.path_of(&name), || {
            Ok(mkdirat(&above, OsStr::from_bytes(&name), Mode::RWXU)?)
        })?;
        self.above.directory(&name).map_err(|error| self.fail("open", &name, error))
    }

    fn remove_building(&self) -> Result<()> {
        self.remove(&self.building())
    }

    fn remove(&self, name: &[u8]) -> Result<()> {
        let path = self.path_of(name);
        if std::fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        self.files.step("remove", &path, || Ok(()))?;
        Ok(self.above.remove_tree(name)?)
    }

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

    /// Lets the workspace and the tree beside it change places. What neither the new tree nor `goes` has, and what `goes` are the
    /// paths that the new version does not have any more, goes over. After an error the workspace is as it was.
    pub(crate) fn swap(&self, goes: &BTreeSet<Vec<u8>>) -> Result<()> {
        let (old, new) = (self.root(&self.name)?, self.root(&self.beside())?);
        let kept = self.kept(&old, &new, goes)?;
        let lent = kept.iter().try_for_each(|path| self.lend(&old, &new, path));
        let swapped = lent.and_then(|()| {
            let above = self.above.directory(b"").map_err(|error| self.fail("open", b"", error))?;
            let (one, other) = (OsString::from_vec(self.name.clone()), OsString::from_vec(self.beside()));
            let exchange = || Ok(renameat_with(&above, &one, &above, &other, RenameFlags::EXCHANGE)?);
            self.files.step("exchange", &self.workspace, exchange).map_err(explained)
        });
        if let Err(error) = swapped {
            // What stays lent after this is brought home by whoever goes on.
            let _ = self.tidy();
            return Err(error);
        }
        // One sync of everything: the file system must not keep the exchange and lose what was lent for it.
        self.files.step("sync", &self.workspace, || Ok(()))?;
        new.sync()?;
        Ok(())
    }

    /// What must go over to the new tree: the topmost entries that are in no version. Refuses what would have to be
    /// destroyed, and what cannot be moved or removed.
    fn kept(&self, old: &Root, new: &Root, goes: &BTreeSet<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
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

    fn listed(&self, folder: &OwnedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Seen)>> {
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
    fn lend(&self, old: &Root, new: &Root, path: &[u8]) -> Result<()> {
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

    fn make_folders_like(&self, model: &Root, root: &Root, path: &[u8]) -> Result<()> {
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
    fn is_stand_in(&self, folder: &OwnedFd, path: &[u8]) -> bool {
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
    fn take_back(&self, workspace: &Root, beside: &Root, path: &[u8]) -> Result<bool> {
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

    /// Removes what stands beside the workspace. What is in there and neither in the workspace nor in `held`, which are the paths
    /// of versions, has appeared while the two changed places, and comes into the workspace first.
    pub(crate) fn dispose(&self, held: &BTreeSet<Vec<u8>>) -> Result<()> {
        if let Ok(beside) = self.root(&self.beside()) {
            self.rescue(&beside, held)?;
        }
        self.remove(&self.beside())?;
        self.remove_building()?;
        self.sync_above()
    }

    fn rescue(&self, beside: &Root, held: &BTreeSet<Vec<u8>>) -> Result<()> {
        let workspace = self.root(&self.name)?;
        let mut pending = vec![Vec::new()];
        while let Some(folder) = pending.pop() {
            let from = beside.directory(&folder).map_err(|error| self.fail("open", &folder, error))?;
            let home = workspace.directory(&folder).ok();
            for (name, seen) in self.listed(&from, &folder)? {
                let path = join(&folder, &name);
                let stands = home.as_ref().and_then(|home| look(home, &name).ok().flatten());
                let is_known = stands.is_some() || held.contains(&path);
                if is_known && seen.is_folder() && stands.is_none_or(|stands| stands.is_folder()) {
                    pending.push(path);
                } else if !is_known && !is_laid_aside(&name) && !self.is_stand_in(&from, &path) {
                    self.make_folders_like(beside, &workspace, &folder)?;
                    let to = workspace.directory(&folder);
                    let to = to.map_err(|error| self.fail("open", &folder, error))?;
                    let name = OsStr::from_bytes(&name);
                    let rename = || renameat_with(&from, name, &to, name, RenameFlags::NOREPLACE);
                    in_folders(&[&from, &to], rename).map_err(|error| self.fail("move", &path, error))?;
                }
            }
        }
        Ok(())
    }

    /// Gives what stands beside the workspace another name, for a person to look at: nobody knows what it is.
    pub(crate) fn set_aside(&self) -> Result<()> {
        self.remove_building()?;
        let beside = self.beside();
        let above = self.above.directory(b"").map_err(|error| self.fail("open", b"", error))?;
        for number in 1_u32.. {
            let name = [beside.as_slice(), format!("-{number}").as_bytes()].concat();
            let (from, to) = (OsStr::from_bytes(&beside), OsStr::from_bytes(&name));
            match renameat_with(&above, from, &above, to, RenameFlags::NOREPLACE) {
                Ok(()) => return self.sync_above(),
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.fail("set aside", &beside, error)),
            }
        }
        Ok(())
    }

    fn sync_above(&self) -> Result<()> {
        self.files
            .step("sync folder", self.above.path(), || File::from(self.above.directory(b"")?).sync_all())
    }

    fn root(&self, name: &[u8]) -> Result<Root> {
        self.above.below(name).map_err(|error| failed("open", &self.path_of(name))(error.into()))
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.workspace.join(OsStr::from_bytes(path))
    }

    fn fail(&self, action: &'static str, path: &[u8], error: Errno) -> Error {
        failed(action, &self.shown(path))(error.into())
    }
}

/// Brings `.evoseal` home if a rollback in the mode [`Exchange`](crate::RollbackMode::Exchange) was cut off while it was
/// lent: everything in it is then opened by the path that it will keep. To be called before anything in it is opened; one
/// look at one name where nothing is lent. Waits for a rollback that is at it.
///
/// ```
/// let workspace = tempfile::tempdir()?;
/// let state = workspace.path().join(".evoseal/rollback");
/// std::fs::create_dir_all(&state)?;
/// evoseal_rollback::bring_state_home(workspace.path(), &state)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Io`] where the lock of the state directory cannot be taken, or the folder cannot be moved.
pub fn bring_state_home(workspace: &Path, state_directory: &Path) -> Result<()> {
    let is_lent =
        || std::fs::symlink_metadata(workspace.join(".evoseal")).is_ok_and(|seen| seen.is_symlink());
    if !is_lent() || std::fs::symlink_metadata(workspace).map_or(true, |seen| seen.is_symlink()) {
        return Ok(());
    }
    let exchange = Exchange::of(workspace, &Files::default())?;
    let lock = state_directory.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&lock);
    let file = file.map_err(failed("open", &lock))?;
    file.lock().map_err(failed("lock", &lock))?;
    let (Ok(home), Ok(beside)) = (exchange.root(&exchange.name), exchange.root(&exchange.beside())) else {
        return Ok(());
    };
    exchange.take_back(&home, &beside, STATE).map(drop)
}

/// What the system means by its refusal to let two entries change places.
fn explained(error: Error) -> Error {
    let Error::Io { path, source, .. } = &error else { return error };
    let reason = match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
            "its file system cannot let two folders change places"
        }
        Some(Errno::XDEV) => {
            "it cannot leave its layer of an overlay file system, or the mount that it is in"
        }
        Some(Errno::BUSY) => "a file system is mounted there, and stays where it is mounted",
        Some(Errno::PERM | Errno::ACCESS) => "it may not be moved by this user",
        Some(Errno::NAMETOOLONG) => "its path is too long for what must stand in for it",
        _ => return error,
    };
    refused(path, reason)
}

fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::CannotExchange { path: path.to_owned(), reason: reason.into() }
}

/// Whether a folder like this one can be made by whoever runs this program.
fn may_make(folder: &Seen) -> bool {
    let user = rustix::process::geteuid();
    user.is_root() || folder.owner == user.as_raw()
}

/// Does something in folders; where one may not be written to and is ours, it may for the moment.
fn in_folders(folders: &[&OwnedFd], work: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
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

/// A path's folder (empty for the root) and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(place) => (&path[..place], &path[place + 1..]),
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
