//! Reading the matching part of a tree that may be hostile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use evoseal_types::{Digest, EntryPath};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, RawMode, Stat};

use crate::patterns::Patterns;
use crate::{Error, Result};

/// Folders inside each other. Deeper trees are refused: each level keeps a folder open.
const DEPTH_MAX: usize = 128;
/// Entries of the whole tree. Larger ones are refused, so that a check ends.
const ENTRIES_MAX: usize = 4_000_000;

/// One entry as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: FileType,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub(super) mode: RawMode,
    /// Size of a file's content or of a symlink's target.
    pub(super) size_bytes: u64,
    /// Of a file's content or a symlink's target, where it was asked for.
    pub(super) digest: Option<Digest>,
}

impl Entry {
    fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            digest: None,
        }
    }
}

/// All entries below `root` that match. Content is read where `wants_content` says so, given the entry without it.
///
/// Folders are opened one component at a time without following symlinks, so whatever is done to the tree meanwhile,
/// nothing outside it is read.
pub(super) fn read(
    root: &Path,
    patterns: &Patterns,
    wants_content: impl Fn(&EntryPath, &Entry) -> bool,
) -> Result<BTreeMap<EntryPath, Entry>> {
    let folder =
        rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let folder = folder.map_err(|source| cannot("open", root, source))?;
    let mut walk = Walk { root, patterns, wants_content, visited: 0, found: BTreeMap::new() };
    walk.folder(&folder, None, 0)?;
    Ok(walk.found)
}

struct Walk<'a, W> {
    root: &'a Path,
    patterns: &'a Patterns,
    wants_content: W,
    visited: usize,
    found: BTreeMap<EntryPath, Entry>,
}

impl<W: Fn(&EntryPath, &Entry) -> bool> Walk<'_, W> {
    fn folder(&mut self, folder: &OwnedFd, path: Option<&EntryPath>, depth: usize) -> Result<()> {
        let shown = path.map_or_else(|| self.root.to_owned(), |path| self.root.join(path.as_path()));
        if depth > DEPTH_MAX {
            return Err(Error::Invalid {
                what: "workspace",
                reason: format!("{} is nested too deep", shown.display()),
            });
        }
        for entry in Dir::read_from(folder).map_err(|source| cannot("list", &shown, source))? {
            let entry = entry.map_err(|source| cannot("list", &shown, source))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.visited += 1;
            if self.visited > ENTRIES_MAX {
                let reason = format!("it has more than {ENTRIES_MAX} entries");
                return Err(Error::Invalid { what: "workspace", reason });
            }
            let inner = path.map_or_else(|| EntryPath::new(name), |path| path.join(name));
            let inner =
                inner.map_err(|error| Error::Invalid { what: "workspace", reason: error.to_string() })?;
            self.entry(folder, entry.file_name(), &inner, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &std::ffi::CStr,
        path: &EntryPath,
        depth: usize,
    ) -> Result<()> {
        let shown = self.root.join(path.as_path());
        let stat = rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let mut entry = match stat {
            Ok(stat) => Entry::of(&stat),
            // It went away since it was listed.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(source) => return Err(cannot("look at", &shown, source)),
        };
        if self.patterns.matches(path) {
            if (self.wants_content)(path, &entry) {
                entry.digest = digest(folder, name, &entry).map_err(|source| Error::Io {
                    action: "read",
                    path: shown.clone(),
                    source,
                })?;
            }
            self.found.insert(path.clone(), entry);
        }
        if entry.kind != FileType::Directory || self.patterns.exclude_all_in(path) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(folder, name, flags, Mode::empty())
            .map_err(|source| cannot("open", &shown, source))?;
        self.folder(&inner, Some(path), depth + 1)
    }
}

fn digest(folder: &OwnedFd, name: &std::ffi::CStr, entry: &Entry) -> io::Result<Option<Digest>> {
    match entry.kind {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
            Ok(Some(Digest::of(target.as_bytes())))
        }
        FileType::RegularFile => {
            // A pipe that has taken the file's place must not block the open.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
            if !file.metadata()?.is_file() {
                return Ok(None);
            }
            let mut hasher = blake3::Hasher::new();
            // One byte more than it had: a file that grows meanwhile differs, and an endless one ends.
            hasher.update_reader(file.take(entry.size_bytes.saturating_add(1)))?;
            Ok(Some(Digest::from_bytes(*hasher.finalize().as_bytes())))
        }
        _ => Ok(None),
    }
}

fn cannot(action: &'static str, path: &Path, source: rustix::io::Errno) -> Error {
    Error::Io { action, path: path.to_owned(), source: source.into() }
}
