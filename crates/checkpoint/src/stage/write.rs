//! Writing new files and folders aside, on a few threads.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use evoseal_types::{Digest, EntryPath};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fstat, linkat, mkdirat, openat, symlinkat};

use super::{Batch, Children, NewEntry, PARALLEL_MIN, Places, Stage, batches_of, keep_owner};
use crate::attributes;
use crate::difference::Difference;
use crate::objects::{Piece, Reader};
use crate::page::STAGING_PREFIX;
use crate::queue::{Queue, thread_count};
use crate::store::EntryKind;
use crate::workspace::{FileStat, join, split};
use crate::{Error, Result};

impl<'a> Stage<'a> {
    pub(super) fn write_batches<'d>(
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
    pub(super) fn write_batch<'d>(
        &self,
        reader: &mut Reader,
        batch: &Batch<'d>,
        children: &Children<'d>,
    ) -> Result<Vec<Batch<'d>>> {
        let folder = self.open_folder(&batch.place)?;
        self.unlock(&folder, &batch.place)?;
        let mut written = Vec::with_capacity(batch.entries.len());
        let mut inside: Places<'d> = BTreeMap::new();
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
    pub(super) fn make_folder(&self, folder: &OwnedFd, entry: &NewEntry<'_>, mode: u32) -> Result<()> {
        mkdirat(folder, OsStr::from_bytes(&entry.name), Mode::from(mode & 0o777 | 0o700))
            .map_err(|error| self.root.error("create", entry.path.as_bytes(), error))?;
        if mode & 0o700 != 0o700 || mode & !0o777 != 0 || mode & self.umask != 0 {
            let mut unlocked = self.unlocked.lock().unwrap_or_else(PoisonError::into_inner);
            unlocked.insert(entry.path.as_bytes().to_vec(), mode);
        }
        Ok(())
    }

    pub(super) fn write_file(
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

    pub(super) fn set_attributes(&self, folder: &OwnedFd, name: &[u8], path: &EntryPath) -> Result<()> {
        let Some(kept) = self.extras.attributes(path.as_bytes()) else { return Ok(()) };
        let name = CString::new(name).expect("paths hold no NUL");
        attributes::write(folder, &name, kept, self.options)
            .map_err(|error| self.root.error("set the attributes of", path.as_bytes(), error))
    }

    /// The first name of the file that `path` is a further name of.
    pub(super) fn first_name(&self, path: &EntryPath) -> Option<&'a [u8]> {
        let group =
            self.extras.links().iter().find(|group| group.iter().skip(1).any(|name| name == path.as_bytes()));
        group.map(|group| group[0].as_slice())
    }

    /// Gives files their further names.
    pub(super) fn write_links(&self, differences: &[Difference]) -> Result<()> {
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
}
