//! What was known about the files of a workspace when it was last captured, so that unchanged ones are not read again.
//!
//! The cache is a hint beside the store, never part of it: a missing, damaged or foreign one only costs time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evoseal_types::Digest;

use crate::Result;
use crate::frame::{Format, array};
use crate::local::io_error;
use crate::workspace::{FileStat, Stamp};

const FORMAT: Format = Format { magic: b"EVOSTATC", version: 1 };
const ENTRY_LEN: usize = 4 + 3 * 8 + 2 * 12 + 4 + 32;

/// Digests of files by path and stat data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StatCache {
    entries: BTreeMap<Vec<u8>, (FileStat, Digest)>,
}

impl StatCache {
    /// The digest of a file that has not changed since it was recorded.
    pub(crate) fn find(&self, path: &[u8], stat: &FileStat) -> Option<Digest> {
        self.entries.get(path).filter(|(known, _)| known == stat).map(|(_, digest)| *digest)
    }

    /// Records what was read during a walk that started at `started`. A file that was touched since, or in the same
    /// tick of the file system's clock, could change again without showing it: it is left out and read again next time.
    pub(crate) fn record(&mut self, path: Vec<u8>, stat: FileStat, digest: Digest, started: Stamp) {
        if stat.modified < started && stat.changed < started {
            self.entries.insert(path, (stat, digest));
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.entries.len() * (ENTRY_LEN + 32));
        for (path, (stat, digest)) in &self.entries {
            payload.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
            for number in [stat.device, stat.inode, stat.size_bytes] {
                payload.extend_from_slice(&number.to_le_bytes());
            }
            for stamp in [stat.modified, stat.changed] {
                payload.extend_from_slice(&stamp.seconds.to_le_bytes());
                payload.extend_from_slice(&stamp.nanoseconds.to_le_bytes());
            }
            payload.extend_from_slice(&stat.mode.to_le_bytes());
            payload.extend_from_slice(digest.as_bytes());
            payload.extend_from_slice(path);
        }
        FORMAT.seal(&payload)
    }

    /// `None` for anything that is not exactly what [`encode`](Self::encode) writes.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = FORMAT.open("stat cache", bytes).ok()?;
        let mut entries = BTreeMap::new();
        while !rest.is_empty() {
            let (fixed, after) = rest.split_at_checked(ENTRY_LEN)?;
            let (path, after) = after.split_at_checked(u32::from_le_bytes(array(&fixed[..4])) as usize)?;
            let number = |start: usize| u64::from_le_bytes(array(&fixed[start..start + 8]));
            let stamp = |start: usize| Stamp {
                seconds: i64::from_le_bytes(array(&fixed[start..start + 8])),
                nanoseconds: u32::from_le_bytes(array(&fixed[start + 8..start + 12])),
            };
            let stat = FileStat {
                device: number(4),
                inode: number(12),
                size_bytes: number(20),
                modified: stamp(28),
                changed: stamp(40),
                mode: u32::from_le_bytes(array(&fixed[52..56])),
            };
            entries.insert(path.to_vec(), (stat, Digest::from_bytes(array(&fixed[56..88]))));
            rest = after;
        }
        Some(Self { entries })
    }
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
        std::fs::read(self.file(workspace))
            .ok()
            .and_then(|bytes| StatCache::decode(&bytes))
            .unwrap_or_default()
    }

    /// Replaces the cache of a workspace. It is not synced: a torn file fails its checksum and is ignored.
    pub(crate) fn save(&self, workspace: &Path, cache: &StatCache) -> Result<()> {
        let file = self.file(workspace);
        let new = file.with_extension("new");
        let write = || {
            std::fs::create_dir_all(&self.0)?;
            std::fs::write(&new, cache.encode())?;
            std::fs::rename(&new, &file)
        };
        write().map_err(|source| io_error("write", &file, source))
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

    fn stat(second: i64) -> FileStat {
        let stamp = Stamp { seconds: second, nanoseconds: 7 };
        FileStat { device: 1, inode: 2, size_bytes: 3, modified: stamp, changed: stamp, mode: 0o100_644 }
    }

    #[test]
    fn a_file_as_new_as_the_walk_is_read_again() {
        let mut cache = StatCache::default();
        let started = stat(100).modified;
        for (path, second) in [("older", 99), ("same tick", 100), ("newer", 101)] {
            cache.record(path.into(), stat(second), Digest::of(b""), started);
        }
        assert_eq!(cache.find(b"older", &stat(99)), Some(Digest::of(b"")));
        assert_eq!((cache.find(b"same tick", &stat(100)), cache.find(b"newer", &stat(101))), (None, None));
    }

    #[test]
    fn a_file_whose_stat_data_differ_in_anything_is_unknown() {
        let mut cache = StatCache::default();
        cache.record(b"a".to_vec(), stat(1), Digest::of(b""), stat(9).modified);
        let other = Stamp { seconds: 1, nanoseconds: 8 };
        for changed in [
            FileStat { device: 9, ..stat(1) },
            FileStat { inode: 9, ..stat(1) },
            FileStat { size_bytes: 9, ..stat(1) },
            FileStat { modified: other, ..stat(1) },
            FileStat { changed: other, ..stat(1) },
            FileStat { mode: 0o100_755, ..stat(1) },
        ] {
            assert_eq!(cache.find(b"a", &changed), None, "{changed:?}");
        }
    }

    #[test]
    fn a_cache_reads_back_and_a_damaged_one_is_no_cache() {
        let mut cache = StatCache::default();
        cache.record(b"a\n\xff".to_vec(), stat(-5), Digest::of(b"x"), stat(9).modified);
        let bytes = cache.encode();
        assert_eq!(StatCache::decode(&bytes), Some(cache));
        for place in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[place] ^= 4;
            assert_eq!(StatCache::decode(&bytes), None, "byte {place}");
        }
    }
}
