//! Looking at the entries of a folder, one by one.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use evoseal_types::EntryPath;
use rustix::fs::{AtFlags, FileType, Stat, readlinkat, statat};

use super::{Folder, Name, Outcome, Trouble, Worker, disturb, entry_path};
use crate::attributes;
use crate::ignore_rules::IGNORE_FILES;
use crate::page::{STAGING_PREFIX, is_own};
use crate::stat_cache::{Seen, SeenKind};
use crate::workspace::{FileStat, Stamp, join};

impl Worker<'_, '_, '_> {
    /// Looks at one entry.
    pub(super) fn entry(
        &mut self,
        folder: &Folder<'_>,
        name: Name,
        before: Option<Seen<'_>>,
    ) -> Result<Outcome, Trouble> {
        let plan = self.shared.plan;
        let bytes = &self.names[name.start..name.start + name.len];
        if is_own(bytes) {
            if bytes.starts_with(STAGING_PREFIX) {
                let path = entry_path(&join(folder.path, bytes))?;
                self.found.leftovers.push(path);
                return Ok(Outcome::Ours);
            }
            return Ok(Outcome::Kept);
        }
        if bytes == b".git" && (folder.path.is_empty() || !plan.options.include_ignored) {
            return Ok(Outcome::Kept);
        }
        let mut stat = None;
        let mut kind = name.kind;
        if kind == FileType::Unknown {
            let found = self.stat(folder, name)?;
            kind = FileType::from_raw_mode(found.st_mode);
            stat = Some(found);
        }
        let is_directory = kind == FileType::Directory;
        if is_directory
            && plan.excluded.iter().any(|(device, inode)| (*device, *inode) == (folder.device, name.inode))
        {
            return Ok(Outcome::Kept);
        }
        if !folder.rules.is_empty() {
            let full = join(folder.path, bytes);
            if folder.rules.ignores(&full, is_directory) && !plan.rules.is_wanted(&full) {
                self.found.has_hidden_rules |= IGNORE_FILES.contains(&bytes);
                return Ok(Outcome::Kept);
            }
        }
        match kind {
            FileType::Directory => {
                let full = join(folder.path, bytes);
                entry_path(&full)?;
                let Self { seen, names, .. } = self;
                seen.push(&Seen {
                    name: &names[name.start..name.start + name.len],
                    kind: SeenKind::Directory,
                });
                Ok(Outcome::Folder(full))
            }
            FileType::RegularFile => {
                let stat = match stat {
                    Some(stat) => stat,
                    None => self.stat(folder, name)?,
                };
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Trouble::Changed(join(folder.path, self.name(name).to_bytes())));
                }
                self.file(folder, name, &stat, before)?;
                Ok(Outcome::Captured)
            }
            FileType::Symlink => {
                let stat = match stat {
                    Some(stat) => stat,
                    None => self.stat(folder, name)?,
                };
                self.symlink(folder, name, &stat, before)?;
                Ok(Outcome::Captured)
            }
            _ => {
                let path = entry_path(&join(folder.path, bytes))?;
                self.found.skipped.push(path);
                Ok(Outcome::Kept)
            }
        }
    }

    pub(super) fn stat(&self, folder: &Folder<'_>, name: Name) -> Result<Stat, Trouble> {
        statat(folder.fd, self.name(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.interrupt("read", &join(folder.path, self.name(name).to_bytes()), error))
    }

    pub(super) fn file(
        &mut self,
        folder: &Folder<'_>,
        name: Name,
        stat: &Stat,
        before: Option<Seen<'_>>,
    ) -> Result<(), Trouble> {
        if folder.path.len() + name.len >= EntryPath::LEN_BYTES_MAX {
            entry_path(&join(folder.path, self.name(name).to_bytes()))?;
        }
        let mut stat = FileStat::of(stat);
        let known = match before.map(|seen| seen.kind) {
            Some(SeenKind::File { stat: known, digest, is_trusted: true }) if known == stat => Some(digest),
            _ => None,
        };
        let is_stored = |digest| match self.shared.plan.sink {
            Some(sink) if !self.shared.plan.cache_is_stored => sink.has_content(digest, stat.size_bytes),
            _ => Ok(true),
        };
        let digest = match known {
            Some(digest) if is_stored(digest)? => digest,
            _ => {
                let (settled, digest) = self.read_settled(folder, name)?;
                stat = settled;
                self.found.files_read += 1;
                self.found.bytes_read += stat.size_bytes;
                digest
            }
        };
        self.found.file_count += 1;
        self.found.size_bytes += stat.size_bytes;
        if stat.changed >= self.shared.started {
            let full = join(folder.path, self.name(name).to_bytes());
            disturb(&mut self.found.disturbance, self.shared.started, stat.changed, &full);
        }
        if stat.is_linked {
            let full = join(folder.path, self.name(name).to_bytes());
            self.found.linked.entry((stat.device, stat.inode)).or_default().push(full);
        }
        if stat.mode & 0o6000 != 0 {
            let path = entry_path(&join(folder.path, self.name(name).to_bytes()))?;
            self.found.lending.push(path);
        }
        let started = self.shared.started;
        let is_trusted = stat.modified < started && stat.changed < started && stat.device == folder.device;
        let options = self.shared.plan.options;
        if options.keep_mtimes || options.keep_xattrs {
            let full = join(folder.path, self.name(name).to_bytes());
            self.attributes_of(folder.fd, name, &full, stat.modified)?;
        }
        let Self { seen, names, .. } = self;
        let name = &names[name.start..name.start + name.len];
        seen.push(&Seen { name, kind: SeenKind::File { stat, digest, is_trusted } });
        Ok(())
    }

    pub(super) fn symlink(
        &mut self,
        folder: &Folder<'_>,
        name: Name,
        stat: &Stat,
        before: Option<Seen<'_>>,
    ) -> Result<(), Trouble> {
        let full = || join(folder.path, self.name(name).to_bytes());
        let found = FileStat::of(stat);
        let (inode, modified, changed) = (found.inode, found.modified, found.changed);
        // A link cannot be changed, only replaced, and then it has another inode or another time.
        let known = match before.map(|seen| seen.kind) {
            Some(SeenKind::Symlink { inode: known, changed: at, target, .. })
                if (known, at) == (inode, changed) && at < self.shared.started =>
            {
                Some(target)
            }
            _ => None,
        };
        let read;
        let target = if let Some(target) = known {
            target
        } else {
            let link = readlinkat(folder.fd, self.name(name), Vec::new())
                .map_err(|error| self.interrupt("read", &full(), error))?;
            read = link.into_bytes();
            &read
        };
        let path = full();
        entry_path(&path)?;
        disturb(&mut self.found.disturbance, self.shared.started, changed, &path);
        if stat.st_nlink > 1 {
            self.found.linked.entry((stat.st_dev, inode)).or_default().push(path.clone());
        }
        let options = self.shared.plan.options;
        if options.keep_mtimes || options.keep_xattrs {
            self.attributes_of(folder.fd, name, &path, modified)?;
        }
        let Self { seen, names, .. } = self;
        let name = &names[name.start..name.start + name.len];
        seen.push(&Seen { name, kind: SeenKind::Symlink { inode, modified, changed, target } });
        Ok(())
    }

    pub(super) fn attributes_of(
        &mut self,
        fd: &OwnedFd,
        name: Name,
        full: &[u8],
        modified: Stamp,
    ) -> Result<(), Trouble> {
        let found = attributes::read(fd, self.name(name), self.shared.plan.options, modified)
            .map_err(|error| self.interrupt("read the attributes of", full, error))?;
        self.found.attributes.insert(full.to_vec(), found);
        Ok(())
    }

    /// The attributes of a folder itself; the root's are its owner's business.
    pub(super) fn attributes(
        &mut self,
        fd: &OwnedFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), Trouble> {
        if path.is_empty() {
            return Ok(());
        }
        let found = attributes::read(fd, name, self.shared.plan.options, FileStat::of(stat).modified)
            .map_err(|error| self.interrupt("read the attributes of", path, error))?;
        self.found.attributes.insert(path.to_vec(), found);
        Ok(())
    }
}
