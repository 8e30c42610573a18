//! What was known about a workspace when it was last captured, so that what has not changed is not read again.
//!
//! The cache is a hint beside the store, never part of it: a missing, damaged or foreign one only costs time. It is kept as
//! the bytes it is stored as and searched where it lies, folder by folder, so that reading it costs next to nothing.

use std::path::{Path, PathBuf};

use evoseal_types::Digest;

use crate::Result;
use crate::frame::{Format, array};
use crate::local::io_error;
use crate::workspace::{FileStat, Stamp};

const FORMAT: Format = Format { magic: b"EVOSTATC", version: 2 };
const FOLDER_LEN: usize = 2 + 8 + 2 + 1 + 32 + 4 + 4;
const FILE_LEN: usize = 8 + 8 + 12 + 12 + 2 + 32;
const SYMLINK_LEN: usize = 8 + 12 + 12 + 2;

const HAS_KEPT: u8 = 1;
const IS_HOLLOW: u8 = 2;

const TRUSTED: u8 = 1;
const LINKED: u8 = 2;

/// The folders of a workspace with what was seen in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatCache {
    /// The tree that all of it adds up to.
    tree: Option<Digest>,
    bytes: Vec<u8>,
    /// Where each folder begins in `bytes`, in the order of their paths.
    folders: Vec<usize>,
}

/// One folder as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedFolder<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) device: u64,
    pub(crate) mode: u32,
    /// Whether something in it is not captured.
    pub(crate) has_kept: bool,
    /// Whether it holds nothing but what is not captured, so that it is no part of the tree.
    pub(crate) is_hollow: bool,
    pub(crate) page: Digest,
    pub(crate) entry_count: u32,
    /// The entries as [`SeenWriter`] writes them.
    pub(crate) entries: &'a [u8],
}

/// What was seen under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: SeenKind<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenKind<'a> {
    Directory,
    File {
        stat: FileStat,
        digest: Digest,
        /// Whether equal stat data prove that the content is the same. Not so for a file that was touched while it was
        /// captured, or in the same tick of the file system's clock: it could change again without showing it.
        is_trusted: bool,
    },
    Symlink {
        inode: u64,
        modified: Stamp,
        changed: Stamp,
        target: &'a [u8],
    },
}

/// Writes the entries of one folder, in ascending order of their names.
#[derive(Debug, Default)]
pub(crate) struct SeenWriter {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
}

impl SeenWriter {
    pub(crate) fn push(&mut self, seen: &Seen<'_>) {
        self.count += 1;
        let (kind, flags) = match seen.kind {
            SeenKind::Directory => (0, 0),
            SeenKind::File { stat, is_trusted, .. } => {
                (1, u8::from(is_trusted) * TRUSTED + u8::from(stat.is_linked) * LINKED)
            }
            SeenKind::Symlink { .. } => (2, 0),
        };
        let name_len = u8::try_from(seen.name.len()).expect("names have at most 255 bytes");
        self.bytes.extend_from_slice(&[kind, flags, name_len]);
        self.bytes.extend_from_slice(seen.name);
        match seen.kind {
            SeenKind::Directory => {}
            SeenKind::File { stat, digest, .. } => {
                self.bytes.extend_from_slice(&stat.inode.to_le_bytes());
                self.bytes.extend_from_slice(&stat.size_bytes.to_le_bytes());
                self.stamp(stat.modified);
                self.stamp(stat.changed);
                self.bytes.extend_from_slice(&narrow(stat.mode & 0o7777).to_le_bytes());
                self.bytes.extend_from_slice(digest.as_bytes());
            }
            SeenKind::Symlink { inode, modified, changed, target } => {
                self.bytes.extend_from_slice(&inode.to_le_bytes());
                self.stamp(modified);
                self.stamp(changed);
                let length = u16::try_from(target.len()).expect("targets have at most 4096 bytes");
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(target);
            }
        }
    }

    fn stamp(&mut self, stamp: Stamp) {
        self.bytes.extend_from_slice(&stamp.seconds.to_le_bytes());
        self.bytes.extend_from_slice(&stamp.nanoseconds.to_le_bytes());
    }
}

/// Reads the entries of a folder that lies on `device`. Bytes that are none of ours end it early.
#[derive(Debug, Clone)]
pub(crate) struct SeenReader<'a> {
    bytes: &'a [u8],
    device: u64,
}

impl<'a> SeenReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], device: u64) -> Self {
        Self { bytes, device }
    }
}

impl<'a> Iterator for SeenReader<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        let (head, rest) = self.bytes.split_at_checked(3)?;
        let (name, rest) = rest.split_at_checked(usize::from(head[2]))?;
        let stamp = |bytes: &[u8], start: usize| Stamp {
            seconds: i64::from_le_bytes(array(&bytes[start..start + 8])),
            nanoseconds: u32::from_le_bytes(array(&bytes[start + 8..start + 12])),
        };
        let (kind, rest) = match head[0] {
            0 => (SeenKind::Directory, rest),
            1 => {
                let (fixed, rest) = rest.split_at_checked(FILE_LEN)?;
                let stat = FileStat {
                    device: self.device,
                    inode: u64::from_le_bytes(array(&fixed[..8])),
                    size_bytes: u64::from_le_bytes(array(&fixed[8..16])),
                    modified: stamp(fixed, 16),
                    changed: stamp(fixed, 28),
                    mode: REGULAR | u32::from(u16::from_le_bytes(array(&fixed[40..42]))),
                    is_linked: head[1] & LINKED != 0,
                };
                let digest = Digest::from_bytes(array(&fixed[42..74]));
                (SeenKind::File { stat, digest, is_trusted: head[1] & TRUSTED != 0 }, rest)
            }
            2 => {
                let (fixed, rest) = rest.split_at_checked(SYMLINK_LEN)?;
                let length = usize::from(u16::from_le_bytes(array(&fixed[32..34])));
                let (target, rest) = rest.split_at_checked(length)?;
                let inode = u64::from_le_bytes(array(&fixed[..8]));
                (
                    SeenKind::Symlink { inode, modified: stamp(fixed, 8), changed: stamp(fixed, 20), target },
                    rest,
                )
            }
            _ => return None,
        };
        self.bytes = rest;
        Some(Seen { name, kind })
    }
}

/// The bits of a mode without those for the type.
fn narrow(mode: u32) -> u16 {
    u16::try_from(mode).expect("rights have twelve bits, and no folder's mode has more than sixteen")
}

/// The type bits of a regular file in a mode.
const REGULAR: u32 = 0o100_000;

impl StatCache {
    /// Puts a cache together out of folders in the order of their paths, all of which add up to `tree`.
    pub(crate) fn new<'a>(
        tree: Option<Digest>,
        folders: impl IntoIterator<Item = CachedFolder<'a>>,
        capacity: usize,
    ) -> Self {
        let mut cache = Self { tree, bytes: Vec::with_capacity(capacity), folders: Vec::new() };
        for folder in folders {
            cache.folders.push(cache.bytes.len());
            let flags = u8::from(folder.has_kept) * HAS_KEPT + u8::from(folder.is_hollow) * IS_HOLLOW;
            let path_len = u16::try_from(folder.path.len()).expect("paths have at most 8 KiB");
            let entries_len = u32::try_from(folder.entries.len()).expect("a page limits what a folder holds");
            cache.bytes.extend_from_slice(&path_len.to_le_bytes());
            cache.bytes.extend_from_slice(&folder.device.to_le_bytes());
            cache.bytes.extend_from_slice(&narrow(folder.mode).to_le_bytes());
            cache.bytes.push(flags);
            cache.bytes.extend_from_slice(folder.page.as_bytes());
            cache.bytes.extend_from_slice(&folder.entry_count.to_le_bytes());
            cache.bytes.extend_from_slice(&entries_len.to_le_bytes());
            cache.bytes.extend_from_slice(folder.path);
            cache.bytes.extend_from_slice(folder.entries);
        }
        cache
    }

    /// The tree that it is about.
    pub(crate) fn tree(&self) -> Option<Digest> {
        self.tree
    }

    pub(crate) fn folder_count(&self) -> usize {
        self.folders.len()
    }

    /// The folder at `path`; the root is the empty path.
    pub(crate) fn folder(&self, path: &[u8]) -> Option<CachedFolder<'_>> {
        let place = self
            .folders
            .binary_search_by(|start| {
                folder_at(&self.bytes, *start).map_or(&[][..], |(folder, _)| folder.path).cmp(path)
            })
            .ok()?;
        folder_at(&self.bytes, self.folders[place]).map(|(folder, _)| folder)
    }

    fn encode(&self) -> Vec<u8> {
        let tree = self.tree.map_or([0; 32], |digest| *digest.as_bytes());
        FORMAT.seal_parts(&[&tree, &self.bytes])
    }

    /// `None` for anything that is not what [`encode`](Self::encode) writes.
    fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let payload = FORMAT.open("stat cache", &bytes).ok()?.len();
        bytes.drain(..bytes.len() - payload);
        let tree: [u8; 32] = array(bytes.get(..32)?);
        let mut cache = Self { tree: (tree != [0; 32]).then(|| Digest::from_bytes(tree)), ..Self::default() };
        let mut start = 32;
        while start < bytes.len() {
            cache.folders.push(start);
            start = folder_at(&bytes, start)?.1;
        }
        cache.bytes = bytes;
        let is_sorted = (1..cache.folders.len()).all(|place| {
            let path =
                |place: usize| folder_at(&cache.bytes, cache.folders[place]).map(|(folder, _)| folder.path);
            path(place - 1) < path(place)
        });
        is_sorted.then_some(cache)
    }
}

/// The folder that begins at `start`, and where the next one does.
fn folder_at(bytes: &[u8], start: usize) -> Option<(CachedFolder<'_>, usize)> {
    let (fixed, rest) = bytes.get(start..)?.split_at_checked(FOLDER_LEN)?;
    let path_len = usize::from(u16::from_le_bytes(array(&fixed[..2])));
    let entries_len = u32::from_le_bytes(array(&fixed[49..53])) as usize;
    let (path, rest) = rest.split_at_checked(path_len)?;
    let entries = rest.get(..entries_len)?;
    let folder = CachedFolder {
        path,
        device: u64::from_le_bytes(array(&fixed[2..10])),
        mode: u32::from(u16::from_le_bytes(array(&fixed[10..12]))),
        has_kept: fixed[12] & HAS_KEPT != 0,
        is_hollow: fixed[12] & IS_HOLLOW != 0,
        page: Digest::from_bytes(array(&fixed[13..45])),
        entry_count: u32::from_le_bytes(array(&fixed[45..49])),
        entries,
    };
    Some((folder, start + FOLDER_LEN + path_len + entries_len))
}

/// A folder with one cache file for each workspace.
#[derive(Debug, Clone)]
pub(crate) struct StatCacheFolder(pub(crate) PathBuf);

impl StatCacheFolder {
    fn file(&self, workspace: &Path) -> PathBuf {
        self.0.join(Digest::of(workspace.as_os_str().as_encoded_bytes()).to_string())
    }

    /// The cache of a workspace; empty if there is none that can be read.
    pub(crate) fn load(&self, workspace: &Path) -> StatCache {
        std::fs::read(self.file(workspace)).ok().and_then(StatCache::decode).unwrap_or_default()
    }

    /// Replaces the cache of a workspace. It is not synced: a torn file fails its checksum and is ignored.
    pub(crate) fn save(&self, workspace: &Path, cache: &StatCache) -> Result<()> {
        let file = self.file(workspace);
        let new = file.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            std::fs::create_dir_all(&self.0)?;
            std::fs::write(&new, cache.encode())?;
            std::fs::rename(&new, &file)
        };
        write().map_err(|source| {
            // What could not be written whole must not stay; the first error is the one to report.
            let _ = std::fs::remove_file(&new);
            io_error("write", &file, source)
        })
    }

    /// Forgets a workspace.
    pub(crate) fn remove(&self, workspace: &Path) -> Result<()> {
        let file = self.file(workspace);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("remove", &file, error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(inode: u64) -> FileStat {
        FileStat {
            device: 3,
            inode,
            size_bytes: 5,
            modified: Stamp { seconds: -1, nanoseconds: 2 },
            changed: Stamp { seconds: 1 << 40, nanoseconds: 999_999_999 },
            mode: REGULAR | 0o640,
            is_linked: true,
        }
    }

    fn sample() -> StatCache {
        let mut writer = SeenWriter::default();
        let file = SeenKind::File { stat: stat(7), digest: Digest::of(b"x"), is_trusted: true };
        let stamp = Stamp { seconds: 9, nanoseconds: 8 };
        let link = SeenKind::Symlink { inode: 4, modified: stamp, changed: stamp, target: b"\xff/" };
        for (name, kind) in [(&b"a\n"[..], file), (b"d", SeenKind::Directory), (b"l\xff", link)] {
            writer.push(&Seen { name, kind });
        }
        let folder = |path: &'static [u8]| CachedFolder {
            path,
            device: 3,
            mode: 0o755,
            has_kept: path.is_empty(),
            is_hollow: false,
            page: Digest::of(path),
            entry_count: 0,
            entries: &[],
        };
        let root = CachedFolder { entry_count: writer.count, entries: &writer.bytes, ..folder(b"") };
        StatCache::new(Some(Digest::of(b"tree")), [root, folder(b"d"), folder(b"d/e")], 0)
    }

    #[test]
    fn a_cache_reads_back_and_a_damaged_one_is_no_cache() {
        let bytes = sample().encode();
        let cache = StatCache::decode(bytes.clone()).unwrap();
        assert_eq!(cache.tree(), Some(Digest::of(b"tree")));
        let root = cache.folder(b"").unwrap();
        assert_eq!((root.entry_count, root.has_kept, root.page), (3, true, Digest::of(b"")));
        let seen: Vec<Seen<'_>> = SeenReader::new(root.entries, root.device).collect();
        assert_eq!(seen.len(), 3);
        let expected = SeenKind::File { stat: stat(7), digest: Digest::of(b"x"), is_trusted: true };
        assert_eq!((seen[0].name, seen[0].kind), (&b"a\n"[..], expected));
        assert!(matches!(seen[2].kind, SeenKind::Symlink { inode: 4, target: b"\xff/", .. }));
        assert_eq!(cache.folder(b"d/e").unwrap().page, Digest::of(b"d/e"));
        assert!(cache.folder(b"e").is_none());
        for place in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[place] ^= 4;
            assert!(StatCache::decode(bytes).is_none(), "byte {place}");
        }
    }
}
