//! From a walked workspace to a tree: reading what is not known yet.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use evoseal_types::{Digest, EntryPath};
use rustix::fs::fstat;
use rustix::io::Errno;

use crate::objects::{StreamError, WHOLE_LEN_MAX, Writer};
use crate::pack::ObjectKind;
use crate::scan::{ATTEMPTS, FoundKind, Scan};
use crate::stat_cache::StatCache;
use crate::store::EntryKind;
use crate::tree::TreeBuilder;
use crate::workspace::{FileStat, Root, join};
use crate::{Error, Result};

/// How much of a file is read at once where only its digest is wanted.
const READ_LEN: usize = 1 << 18;

/// The tree of a workspace, and what it took to know it.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) tree: TreeBuilder,
    pub(crate) cache: StatCache,
    pub(crate) file_count: u64,
    pub(crate) size_bytes: u64,
    pub(crate) files_read: u64,
    pub(crate) bytes_read: u64,
}

/// Finds the digest of every file of `scan`. With a writer, contents that the store lacks are stored on the way; files
/// that `known` vouches for are read only if the store lacks their content.
pub(crate) fn capture(
    root: &Root,
    scan: &Scan,
    known: &StatCache,
    is_wanted: &dyn Fn(&[u8]) -> bool,
    mut writer: Option<&mut Writer>,
) -> Result<Captured> {
    let mut captured = Captured {
        tree: TreeBuilder::default(),
        cache: StatCache::default(),
        file_count: 0,
        size_bytes: 0,
        files_read: 0,
        bytes_read: 0,
    };
    for (path, folder) in &scan.folders {
        captured.tree.folder(path.clone(), !folder.kept.is_empty());
        if is_wanted(path) {
            captured.tree.want(path.clone());
        }
        for found in &folder.entries {
            let kind = match &found.kind {
                FoundKind::Directory => continue,
                FoundKind::Symlink(target) => EntryKind::Symlink { target: target.clone() },
                FoundKind::File(stat) => {
                    let full = join(path, &found.name);
                    captured.file(root, full, *stat, scan, known, writer.as_deref_mut())?
                }
            };
            captured.tree.entry(path, &found.name, kind);
        }
    }
    Ok(captured)
}

/// Whether every file is vouched for, so that nothing would be read.
pub(crate) fn knows_all(scan: &Scan, known: &StatCache) -> bool {
    scan.folders.iter().all(|(path, folder)| {
        folder.entries.iter().all(|found| match &found.kind {
            FoundKind::File(stat) => known.find(&join(path, &found.name), stat).is_some(),
            _ => true,
        })
    })
}

impl Captured {
    fn file(
        &mut self,
        root: &Root,
        full: Vec<u8>,
        stat: FileStat,
        scan: &Scan,
        known: &StatCache,
        writer: Option<&mut Writer>,
    ) -> Result<EntryKind> {
        let (stat, digest) = match known.find(&full, &stat) {
            Some(digest) if is_stored(writer.as_deref(), digest)? => (stat, digest),
            _ => {
                let (stat, digest) = read_settled(root, &full, writer)?;
                self.files_read += 1;
                self.bytes_read += stat.size_bytes;
                (stat, digest)
            }
        };
        self.file_count += 1;
        self.size_bytes += stat.size_bytes;
        self.cache.record(full, stat, digest, scan.started);
        Ok(EntryKind::File { size_bytes: stat.size_bytes, digest, executable: stat.is_executable() })
    }
}

fn is_stored(writer: Option<&Writer>, digest: Digest) -> Result<bool> {
    writer.map_or(Ok(true), |writer| writer.has_all(ObjectKind::Content, digest))
}

/// Reads a file until its stat data before and after agree.
fn read_settled(root: &Root, full: &[u8], mut writer: Option<&mut Writer>) -> Result<(FileStat, Digest)> {
    let shown = root.shown(full);
    let path = EntryPath::new(full)
        .map_err(|error| Error::Invalid { argument: "workspace", reason: error.to_string() })?;
    for _ in 0..ATTEMPTS {
        let file = match root.file(&path) {
            Ok(file) => File::from(file),
            // Gone, or a symlink, a folder or a socket now: it changed since it was listed.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => continue,
            Err(error) => return Err(root.error("open", full, error)),
        };
        let before = stat_of(&file, &shown)?;
        if !before.is_regular() {
            continue;
        }
        let (digest, length) = read_content(&file, before.size_bytes, &shown, writer.as_deref_mut())?;
        if stat_of(&file, &shown)? == before && length == before.size_bytes {
            return Ok((before, digest));
        }
    }
    Err(Error::Unstable { path: shown, attempts: ATTEMPTS })
}

fn stat_of(file: &File, shown: &std::path::Path) -> Result<FileStat> {
    fstat(file)
        .map(|stat| FileStat::of(&stat))
        .map_err(|error| crate::local::io_error("read", shown, error.into()))
}

/// Digest and length of what can be read, at most one byte more than `size_bytes`: a file that grows for ever must end.
fn read_content(
    file: &File,
    size_bytes: u64,
    shown: &std::path::Path,
    writer: Option<&mut Writer>,
) -> Result<(Digest, u64)> {
    let fail = |source: io::Error| Error::Io { action: "read", path: PathBuf::from(shown), source };
    let mut source = file.take(size_bytes.saturating_add(1));
    let Some(writer) = writer else {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; READ_LEN];
        let mut length = 0_u64;
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok((Digest::from_bytes(*hasher.finalize().as_bytes()), length)),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
    };
    if size_bytes > WHOLE_LEN_MAX {
        return writer.add_stream(source).map_err(|error| match error {
            StreamError::Read(source) => fail(source),
            StreamError::Store(error) => error,
        });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0) + 1);
    source.read_to_end(&mut bytes).map_err(fail)?;
    let digest = Digest::of(&bytes);
    if bytes.len() as u64 == size_bytes && !writer.has_all(ObjectKind::Content, digest)? {
        writer.add(ObjectKind::Content, digest, &bytes)?;
    }
    Ok((digest, bytes.len() as u64))
}
