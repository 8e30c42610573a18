//! Writing aside, and swinging names: the half of a restore that touches the target.

mod swing;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use evoseal_types::{ChangeKind, Digest, EntryPath};
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::difference::Difference;
use crate::extras::Extras;
use crate::objects::Reader;
use crate::page::STAGING_PREFIX;
use crate::settings::CaptureOptions;
use crate::store::EntryKind;
use crate::workspace::{FileStat, Root, is_regular, join, split, stat_in};
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

/// What is written into each folder, by the path under which the folder stands at present.
type Places<'d> = BTreeMap<Vec<u8>, Vec<NewEntry<'d>>>;

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

    /// Takes the mark away, for good.
    pub(crate) fn remove_marker(&self, name: &[u8]) -> Result<()> {
        self.root.remove_tree(name)?;
        File::from(self.open_folder(b"")?).sync_all().map_err(|source| self.io("sync", b"", source))
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
    fn plan<'d>(&mut self, differences: &'d [Difference]) -> Result<(Places<'d>, Children<'d>)> {
        let mut tops: Places<'d> = BTreeMap::new();
        let mut children: Children<'d> = HashMap::new();
        // Sorted by path, so that whatever is in a new folder follows after it, if not at once.
        let mut new_folders: HashSet<&[u8]> = HashSet::new();
        for difference in differences {
            let Difference { path, before, after: Some(kind) } = difference else { continue };
            let (above, _) = split(path.as_bytes());
            let was_directory = before.as_ref().is_some_and(EntryKind::is_directory);
            if kind.is_directory() && was_directory {
                continue;
            }
            if kind.is_directory() {
                new_folders.insert(path.as_bytes());
            }
            if new_folders.contains(above) {
                children.entry(above).or_default().push((path, kind));
                continue;
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

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd> {
        self.root.directory(path).map_err(|error| self.root.error("open", path, error))
    }

    fn io(&self, action: &'static str, path: &[u8], source: std::io::Error) -> Error {
        Error::Io { action, path: self.root.shown(path), source }
    }
}

/// Splits the entries of each folder into tasks of bounded size.
fn batches_of(folders: Places<'_>) -> Vec<Batch<'_>> {
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

/// The name of the n-th thing that is written aside.
pub(crate) fn staging_name(number: u64) -> Vec<u8> {
    [STAGING_PREFIX, number.to_string().as_bytes()].concat()
}

/// A file that replaces another keeps the owner of the old one, where the system allows it.
fn keep_owner(file: impl AsFd, folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match stat_in(folder, name)?.filter(is_regular) {
        Some(old) => crate::workspace::keep_owner(file, &old),
        None => Ok(()),
    }
}

/// Whether a change takes a folder away to put something else there.
pub(crate) fn replaces_folder(difference: &Difference) -> bool {
    difference.change().kind == ChangeKind::KindChanged
        && difference.before.as_ref().is_some_and(EntryKind::is_directory)
}
