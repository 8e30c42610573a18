//! A rollback that builds the whole target beside the workspace and lets the two change places by one system call.
//!
//! Some of the workspace is in no version: ignored files, `.git`, `.evoseal`. Before the roots change places, each such entry
//! goes over to the new tree, and a symlink stands in for it in the old one. It is the same call that does this,
//! so that at every instant each path leads to what it led to before. Cut off in between, the workspace is the old version
//! or the new one, and [`tidy`](Exchange::tidy) brings home what is still lent.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{Root, is_laid_aside};
use rustix::fs::{AtFlags, Mode, RenameFlags, fstat, mkdirat, renameat_with};
use rustix::io::Errno;

use crate::files::{Files, failed};
use crate::seen::{Seen, look};
use crate::{Error, Result};

mod build;
mod lend;

use lend::in_folders;

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

    /// Lets the workspace and the tree beside it change places. What neither the new tree nor `goes` has, and what `goes` are the
    /// paths that the new version does not have any more, goes over. After an error the workspace is as it was.
    pub(crate) fn swap(&self, goes: &BTreeSet<Vec<u8>>) -> Result<()> {
        let (old, new) = (self.root(&self.name)?, self.root(&self.beside())?);
        let kept = self.kept(&old, &new, goes)?;
        let lent = kept.iter().try_for_each(|path| self.lend(&old, &new, path));
        // A file system that keeps names in no order must not keep the exchange and lose what was lent for it.
        let swapped = lent.and_then(|()| self.sync(&new)).and_then(|()| self.exchange_roots());
        // Nor may it keep the record of the rollback and lose the exchange: one that is not durable is taken back.
        let swapped = swapped.and_then(|()| self.sync(&new).inspect_err(|_| drop(self.exchange_roots())));
        if let Err(error) = swapped {
            // What stays lent after this is brought home by whoever goes on.
            let _ = self.tidy();
            return Err(error);
        }
        Ok(())
    }

    fn exchange_roots(&self) -> Result<()> {
        let above = self.above.directory(b"").map_err(|error| self.fail("open", b"", error))?;
        let (one, other) = (OsString::from_vec(self.name.clone()), OsString::from_vec(self.beside()));
        let exchange = || Ok(renameat_with(&above, &one, &above, &other, RenameFlags::EXCHANGE)?);
        self.files.step("exchange", &self.workspace, exchange).map_err(explained)
    }

    /// Makes everything durable.
    fn sync(&self, root: &Root) -> Result<()> {
        self.files.step("sync", &self.workspace, || Ok(()))?;
        Ok(root.sync()?)
    }

    /// Removes what stands beside the workspace. What is in there and neither in the workspace nor in `held`, which are the paths
    /// of versions, has appeared while the two changed places, and comes into the workspace first.
    pub(crate) fn dispose(&self, held: &BTreeSet<Vec<u8>>) -> Result<()> {
        if let Ok(beside) = self.root(&self.beside()) {
            self.rescue(&beside, held)?;
            // What has come home must be there before the place goes where it was.
            self.sync(&beside)?;
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
