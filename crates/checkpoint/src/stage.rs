//! Writing aside, and swinging names: the half of a restore that touches the target.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use evoseal_types::{ChangeKind, Digest, EntryPath};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fchown, fstat, linkat, mkdirat, openat,
    renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::attributes;
use crate::difference::Difference;
use crate::extras::Extras;
use crate::objects::{Piece, Reader};
use crate::page::{DIRECTORY_MODE_MASK, STAGING_PREFIX};
use crate::queue::{Queue, thread_count};
use crate::settings::CaptureOptions;
use crate::store::EntryKind;
use crate::workspace::{FileStat, Root, join, split, stat_in};
use crate::{Error, Result};

/// Up to this many changes are synced one by one: syncing the whole file system would wait for everything that others have
/// written too. Beyond, one sync of the file system costs less, and the number of syncs stays bounded.
const SYNCED_EACH_MAX: usize = 16;
/// From this many entries on several threads write.
const PARALLEL_MIN: usize = 64;
/// How many new files and folders one task holds, at the most.
const BATCH_LEN: usize = 256;

/// What is written aside in a target and not yet in its place.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    root: &'a Root,
    options: CaptureOptions,
    extras: &'a Extras,
    staged: Vec<Staged>,
    /// Whether each file is synced by itself, because they are few.
    syncs_each: bool,
    /// What was written, by path: which file it is and what it holds.
    written: Mutex<BTreeMap<EntryPath, (FileStat, Digest)>>,
    /// Folders whose rights are to be set at the end, by path.
    unlocked: Mutex<BTreeMap<Vec<u8>, u32>>,
    /// What the process takes away from the rights of what it makes; everything where that is not known.
    umask: u32,
    /// New files that are to be synced.
    unsynced: Mutex<Vec<(Vec<u8>, File)>>,
}

#[derive(Debug, Clone)]
struct Staged {
    /// The name aside, in the same folder as `path`.
    aside: Vec<u8>,
    path: EntryPath,
    /// Whether a folder that stands at `path` was compared and may go with everything in it.
    replaces_folder: bool,
}

/// New entries of one folder. The folder is there already, under `place`.
struct Batch<'d> {
    place: Vec<u8>,
    entries: Vec<NewEntry<'d>>,
}

#[derive(Clone)]
struct NewEntry<'d> {
    path: &'d EntryPath,
    kind: &'d EntryKind,
    /// The name under which it is written.
    name: Vec<u8>,
}

/// The new entries directly in each folder, by the folder's path.
type Children<'d> = HashMap<&'d [u8], Vec<(&'d EntryPath, &'d EntryKind)>>;

impl<'a> Stage<'a> {
    pub(crate) fn new(
        root: &'a Root,
        options: CaptureOptions,
        extras: &'a Extras,
        change_count: usize,
    ) -> Self {
        Self {
            root,
            options,
            extras,
            staged: Vec::new(),
            syncs_each: change_count <= SYNCED_EACH_MAX,
            written: Mutex::default(),
            unlocked: Mutex::default(),
            umask: umask().unwrap_or(0o777),
            unsynced: Mutex::default(),
        }
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

    /// Writes aside everything that `differences` add or alter. A folder that is new as a whole is written as one.
    pub(crate) fn prepare(&mut self, reader: &Reader, differences: &[Difference]) -> Result<()> {
        let (tops, children) = self.plan(differences)?;
        let count = differences.iter().filter(|difference| difference.after.is_some()).count();
        let batches = batches_of(tops);
        self.write_batches(reader, batches, &children, count)?;
        self.write_links(differences)?;
        // A name must not swing to bytes that a crash could still lose.
        if self.syncs_each || count == 0 { self.sync_files() } else { self.root.sync() }
    }

    /// Syncs what was written. The file system puts syncs that come together into one, so they come together.
    fn sync_files(&self) -> Result<()> {
        let files = std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        let sync =
            |(path, file): &(Vec<u8>, File)| file.sync_all().map_err(|source| self.io("sync", path, source));
        all_at_once(&files, sync)
    }

    /// What is written directly aside, by folder, and what goes into new folders.
    fn plan<'d>(
        &mut self,
        differences: &'d [Difference],
    ) -> Result<(BTreeMap<Vec<u8>, Vec<NewEntry<'d>>>, Children<'d>)> {
        let mut tops: BTreeMap<Vec<u8>, Vec<NewEntry<'d>>> = BTreeMap::new();
        let mut children: Children<'d> = HashMap::new();
        // Sorted by path, so that whatever is in a new folder follows after it.
        let mut new_folder: Option<&EntryPath> = None;
        for difference in differences {
            let Difference { path, before, after: Some(kind) } = difference else { continue };
            let (above, _) = split(path.as_bytes());
            if new_folder.is_some_and(|folder| is_inside(path, folder)) {
                children.entry(above).or_default().push((path, kind));
                continue;
            }
            let was_directory = before.as_ref().is_some_and(EntryKind::is_directory);
            if kind.is_directory() && was_directory {
                continue;
            }
            if kind.is_directory() {
                new_folder = Some(path);
            }
            self.check_place(difference)?;
            let aside = staging_name(self.staged.len() as u64);
            self.staged.push(Staged {
                aside: join(above, &aside),
                path: path.clone(),
                replaces_folder: was_directory,
            });
            tops.entry(above.to_vec()).or_default().push(NewEntry { path, kind, name: aside });
        }
        Ok((tops, children))
    }

    /// A folder that was not there, or not counted, when the target was compared must not be taken away unseen.
    fn check_place(&self, difference: &Difference) -> Result<()> {
        if difference.before.as_ref().is_some_and(EntryKind::is_directory) {
            return Ok(());
        }
        let path = difference.path.as_bytes();
        let (above, name) = split(path);
        let folder = self.open_folder(above)?;
        let old = stat_in(&folder, name).map_err(|error| self.root.error("read", path, error))?;
        if old.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            return Err(Error::NotEmpty { path: self.root.shown(path) });
        }
        Ok(())
    }

    fn write_batches<'d>(
        &self,
        reader: &Reader,
        mut batches: Vec<Batch<'d>>,
        children: &Children<'d>,
        count: usize,
    ) -> Result<()> {
        let Some(last) = batches.pop() else { return Ok(()) };
        let queue = Queue::new(last);
        batches.reverse();
        queue.push(batches);
        let failure: Mutex<Option<Error>> = Mutex::default();
        let work = || {
            let mut reader = reader.another();
            while let Some(batch) = queue.take() {
                match self.write_batch(&mut reader, &batch, children) {
                    Ok(more) => queue.push(more.into_iter().rev()),
                    Err(error) => {
                        queue.close();
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
                queue.done();
            }
        };
        if count < PARALLEL_MIN {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 1..thread_count() {
                    scope.spawn(work);
                }
                work();
            });
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Writes the entries of one folder; gives what goes into the folders among them.
    fn write_batch<'d>(
        &self,
        reader: &mut Reader,
        batch: &Batch<'d>,
        children: &Children<'d>,
    ) -> Result<Vec<Batch<'d>>> {
        let folder = self.open_folder(&batch.place)?;
        self.unlock(&folder, &batch.place)?;
        let mut written = Vec::with_capacity(batch.entries.len());
        let mut inside: BTreeMap<Vec<u8>, Vec<NewEntry<'d>>> = BTreeMap::new();
        for entry in &batch.entries {
            match entry.kind {
                EntryKind::Directory { mode } => {
                    let place = join(&batch.place, &entry.name);
                    self.make_folder(&folder, entry, *mode)?;
                    let new = children.get(entry.path.as_bytes()).into_iter().flatten();
                    let new = new.map(|(path, kind)| NewEntry {
                        path,
                        kind,
                        name: split(path.as_bytes()).1.to_vec(),
                    });
                    inside.insert(place, new.collect());
                }
                // Its other names are given to it when it is there.
                _ if self.first_name(entry.path).is_some() => {}
                EntryKind::Symlink { target } => {
                    symlinkat(OsStr::from_bytes(target), &folder, OsStr::from_bytes(&entry.name))
                        .map_err(|error| self.root.error("create", entry.path.as_bytes(), error))?;
                    self.set_attributes(&folder, &entry.name, entry.path)?;
                }
                EntryKind::File { size_bytes, digest, mode } => {
                    let stat = self.write_file(reader, &folder, entry, *size_bytes, *digest, *mode)?;
                    written.push((entry.path.clone(), (stat, *digest)));
                }
            }
        }
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend(written);
        Ok(batches_of(inside))
    }

    /// A new folder can be filled whatever its rights will be; if those are others, they are set at the end.
    fn make_folder(&self, folder: &OwnedFd, entry: &NewEntry<'_>, mode: u32) -> Result<()> {
        mkdirat(folder, OsStr::from_bytes(&entry.name), Mode::from(mode & 0o777 | 0o700))
            .map_err(|error| self.root.error("create", entry.path.as_bytes(), error))?;
        if mode & 0o700 != 0o700 || mode & !0o777 != 0 || mode & self.umask != 0 {
            let mut unlocked = self.unlocked.lock().unwrap_or_else(PoisonError::into_inner);
            unlocked.insert(entry.path.as_bytes().to_vec(), mode);
        }
        Ok(())
    }

    fn write_file(
        &self,
        reader: &mut Reader,
        folder: &OwnedFd,
        entry: &NewEntry<'_>,
        size_bytes: u64,
        digest: Digest,
        mode: u32,
    ) -> Result<FileStat> {
        let path = entry.path.as_bytes();
        let fail = |error| self.root.error("create", path, error);
        let name = OsStr::from_bytes(&entry.name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            File::from(openat(folder, name, flags, Mode::from(mode & 0o777 | 0o200)).map_err(fail)?);
        let mut offset = 0_u64;
        let mut has_holes = false;
        reader.stream(digest, size_bytes, &mut |piece| {
            let io = |source| self.io("write", path, source);
            match piece {
                Piece::Bytes(bytes) if has_holes => {
                    file.write_all_at(bytes, offset).map_err(io)?;
                    offset += bytes.len() as u64;
                }
                Piece::Bytes(bytes) => {
                    file.write_all(bytes).map_err(io)?;
                    offset += bytes.len() as u64;
                }
                Piece::Zeros(length) => {
                    has_holes = true;
                    offset += length;
                }
            }
            Ok(())
        })?;
        if has_holes {
            file.set_len(size_bytes).map_err(|source| self.io("write", path, source))?;
        }
        let is_aside = entry.name.starts_with(STAGING_PREFIX);
        if is_aside {
            keep_owner(&file, folder, split(path).1).map_err(fail)?;
        }
        let mut stat = fstat(&file).map_err(fail)?;
        if stat.st_mode & 0o7777 != mode {
            fchmod(&file, Mode::from(mode)).map_err(fail)?;
            stat = fstat(&file).map_err(fail)?;
        }
        if self.options.keep_mtimes || self.options.keep_xattrs {
            self.set_attributes(folder, &entry.name, entry.path)?;
            stat = fstat(&file).map_err(fail)?;
        }
        if self.syncs_each {
            self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_vec(), file));
        }
        Ok(FileStat::of(&stat))
    }

    fn set_attributes(&self, folder: &OwnedFd, name: &[u8], path: &EntryPath) -> Result<()> {
        let Some(kept) = self.extras.attributes(path.as_bytes()) else { return Ok(()) };
        let name = CString::new(name).expect("paths hold no NUL");
        attributes::write(folder, &name, kept, self.options)
            .map_err(|error| self.root.error("set the attributes of", path.as_bytes(), error))
    }

    /// The first name of the file that `path` is a further name of.
    fn first_name(&self, path: &EntryPath) -> Option<&'a [u8]> {
        let group =
            self.extras.links().iter().find(|group| group.iter().skip(1).any(|name| name == path.as_bytes()));
        group.map(|group| group[0].as_slice())
    }

    /// Gives files their further names.
    fn write_links(&self, differences: &[Difference]) -> Result<()> {
        if self.extras.links().is_empty() {
            return Ok(());
        }
        let places: BTreeMap<&EntryPath, &[u8]> =
            self.staged.iter().map(|staged| (&staged.path, staged.aside.as_slice())).collect();
        let place_of = |path: &EntryPath| -> Vec<u8> {
            let above = std::iter::successors(Some(path.clone()), EntryPath::parent)
                .find_map(|above| places.get(&above).map(|aside| (above, *aside)));
            match above {
                Some((above, aside)) => [aside, &path.as_bytes()[above.as_bytes().len()..]].concat(),
                None => path.as_bytes().to_vec(),
            }
        };
        for difference in differences.iter().filter(|difference| difference.after.is_some()) {
            let Some(first) = self.first_name(&difference.path) else { continue };
            let path = &difference.path;
            let first = EntryPath::new(first)
                .map_err(|error| Error::Invalid { argument: "path", reason: error.to_string() })?;
            let (from, to) = (place_of(&first), place_of(path));
            let (from_folder, to_folder) =
                (self.open_folder(split(&from).0)?, self.open_folder(split(&to).0)?);
            linkat(
                &from_folder,
                OsStr::from_bytes(split(&from).1),
                &to_folder,
                OsStr::from_bytes(split(&to).1),
                AtFlags::empty(),
            )
            .map_err(|error| self.root.error("link", path.as_bytes(), error))?;
        }
        Ok(())
    }

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
    fn finish_folders(&self, differences: &[Difference]) -> Result<()> {
        let mut modes = std::mem::take(&mut *self.unlocked.lock().unwrap_or_else(PoisonError::into_inner));
        // What was made aside has its name by now.
        modes.retain(|place, _| {
            !place.split(|byte| *byte == b'/').any(|part| part.starts_with(STAGING_PREFIX))
        });
        for difference in differences {
            if let Some(EntryKind::Directory { mode }) = difference.after {
                modes.insert(difference.path.as_bytes().to_vec(), mode);
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
    fn unlock(&self, folder: &OwnedFd, path: &[u8]) -> Result<()> {
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

    fn swing(&self, staged: &Staged) -> Result<()> {
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
        self.remove_tree(&staged.aside)
    }

    /// A rename to another name of the same file does nothing at all: the name aside is still there.
    fn drop_aside(&self, staged: &Staged) -> Result<()> {
        if self.extras.links().is_empty() { Ok(()) } else { self.remove_tree(&staged.aside) }
    }

    fn remove(&self, path: &EntryPath) -> Result<()> {
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
            let _ = self.remove_tree(&staged.aside);
        }
        for (path, mode) in std::mem::take(&mut *self.unlocked.lock().unwrap_or_else(PoisonError::into_inner))
        {
            if let Ok(folder) = self.root.directory(&path) {
                let _ = fchmod(&folder, Mode::from(mode));
            }
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
        self.unlock(&folder, path)?;
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

/// Splits the entries of each folder into tasks of bounded size.
fn batches_of(folders: BTreeMap<Vec<u8>, Vec<NewEntry<'_>>>) -> Vec<Batch<'_>> {
    let mut batches = Vec::new();
    for (place, entries) in folders {
        batches.extend(
            entries.chunks(BATCH_LEN).map(|part| Batch { place: place.clone(), entries: part.to_vec() }),
        );
    }
    batches
}

/// Does the same with each of a few things, each on a thread of its own.
fn all_at_once<T: Sync>(things: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let [first, others @ ..] = things else { return Ok(()) };
    let work = &work;
    std::thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|thing| scope.spawn(move || work(thing))).collect();
        let mut result = work(first);
        for thread in others {
            result = result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

/// What the kernel says about this process: asking for the umask in another way would change it for a moment.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

fn is_inside(path: &EntryPath, folder: &EntryPath) -> bool {
    path.as_bytes().strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

/// The name of the n-th thing that is written aside.
pub(crate) fn staging_name(number: u64) -> Vec<u8> {
    [STAGING_PREFIX, number.to_string().as_bytes()].concat()
}

/// A file that replaces another keeps the owner of the old one, where the system allows it.
fn keep_owner(file: impl AsFd, folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let Some(old) = stat_in(folder, name)?.filter(is_regular) else { return Ok(()) };
    let new = fstat(&file)?;
    if (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid) {
        return Ok(());
    }
    let (owner, group) = (rustix::fs::Uid::from_raw(old.st_uid), rustix::fs::Gid::from_raw(old.st_gid));
    match fchown(&file, Some(owner), Some(group)) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Whether a change takes a folder away to put something else there.
pub(crate) fn replaces_folder(difference: &Difference) -> bool {
    difference.change().kind == ChangeKind::KindChanged
        && difference.before.as_ref().is_some_and(EntryKind::is_directory)
}
