//! Rot in the files of a store: each cut, each flip and each exchange is found by `verify`, and nothing restores wrongly.
//!
//! The files are taken as they lie in the directory, whatever the format puts into them. What is no part of the format
//! (locks, hints, what is being written) may be damaged in any way without a word, and must not mislead anyone.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{CheckpointManager, NewCheckpoint, RestoreMode, Source};
use evoseal_types::EntryPath;
use proptest::prelude::*;

/// Of so many checkpoints, one is restored as a whole.
const RESTORED_EACH: usize = 7;

/// Files of a tree, by path below it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(root: &Path) -> Files {
    let mut found = Files::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Whether a file of a store's directory holds what must survive.
fn is_part_of_the_format(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    !name.ends_with("lock")
        && path.extension().is_none_or(|extension| extension != "mark")
        && !path.starts_with("tmp")
        && !path.starts_with("cache")
}

/// A store on disk whose files can be damaged and put back.
struct Saved {
    place: tempfile::TempDir,
    /// Everything in the store's directory.
    store: Files,
    /// The files of each version.
    versions: BTreeMap<String, Files>,
    /// How many checkpoints were looked at.
    asked: Cell<usize>,
}

impl Saved {
    /// A store of two versions; `size_bytes` is that of the one large file.
    fn new(size_bytes: usize) -> Self {
        // In memory where there is such a folder: thousands of restores sync what they write.
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let workspace = place.path().join("workspace");
        fs::create_dir_all(workspace.join("d")).unwrap();
        let manager = CheckpointManager::builder().directory(place.path().join("store")).create().unwrap();
        let mut versions = BTreeMap::new();
        for version in ["v1", "v2"] {
            let noise = |seed: u32| seed.wrapping_mul(2_654_435_761).rotate_left(seed % 31).to_le_bytes();
            let noise: Vec<u8> = (0..u32::try_from(size_bytes / 4).unwrap()).flat_map(noise).collect();
            fs::write(workspace.join("large"), noise).unwrap();
            fs::write(workspace.join("d/text"), version.repeat(100)).unwrap();
            fs::write(workspace.join("same"), "the same in both").unwrap();
            let source = Source::Directory(workspace.clone());
            manager.create_blocking(&source, NewCheckpoint::of(version.parse().unwrap())).unwrap();
            versions.insert(version.to_owned(), files(&workspace));
        }
        // Files of the same tick are not trusted, and so are not written down, until the clock has moved on.
        for _ in 0..1000 {
            if place.path().join("store/cache").exists() {
                break;
            }
            let source = Source::Directory(workspace.clone());
            manager.create_blocking(&source, NewCheckpoint::of("v2".parse().unwrap())).unwrap();
            let newest = manager.list_blocking().unwrap().pop().unwrap();
            manager.delete_blocking(&[newest.id]).unwrap();
        }
        let store = files(&place.path().join("store"));
        Self { place, store, versions, asked: Cell::new(0) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The files that must survive.
    fn parts(&self) -> Vec<&PathBuf> {
        self.store.keys().filter(|path| is_part_of_the_format(path)).collect()
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        fs::write(self.path("store").join(path), bytes).unwrap();
    }

    /// Verify finds something, or the store refuses to open; and whatever restores is right.
    fn assert_found(&self, what: &str) {
        // Refused as a whole: nothing can be restored wrongly.
        let Ok(manager) = CheckpointManager::builder().directory(self.path("store")).open() else { return };
        // An error of its own is an answer too: what cannot be read is not called whole.
        let is_found = manager.verify_blocking(&[]).map_or(true, |report| !report.damage.is_empty());
        assert!(is_found, "{what} was not found");
        self.assert_never_wrong(&manager, what);
    }

    /// Everything that is handed out is right: each file by itself, and once in a while the whole tree on disk.
    fn assert_never_wrong(&self, manager: &CheckpointManager, what: &str) {
        let target = self.path("target");
        for checkpoint in manager.list_blocking().unwrap_or_default() {
            let version = checkpoint.details.version_id.to_string();
            for (path, bytes) in &self.versions[&version] {
                let path = EntryPath::new(path.to_str().unwrap()).unwrap();
                if let Ok(read) = manager.read_file_blocking(checkpoint.id, &path) {
                    assert_eq!(read, *bytes, "{what}: {path} of {version} was read wrongly");
                }
            }
            self.asked.set(self.asked.get() + 1);
            if !self.asked.get().is_multiple_of(RESTORED_EACH) {
                continue;
            }
            if manager.restore_blocking(checkpoint.id, &target, RestoreMode::Empty).is_ok() {
                assert_eq!(files(&target), self.versions[&version], "{what}: {version} restored wrongly");
            }
            if target.exists() {
                fs::remove_dir_all(&target).unwrap();
            }
        }
    }

    fn put_back(&self) {
        for (path, bytes) in &self.store {
            self.put(path, bytes);
        }
    }
}

#[test]
fn a_file_cut_off_at_any_length_is_found() {
    let saved = Saved::new(400);
    for path in saved.parts() {
        let whole = &saved.store[path];
        for length in 0..whole.len() {
            saved.put(path, &whole[..length]);
            saved.assert_found(&format!("{} cut to {length} of {} bytes", path.display(), whole.len()));
            saved.put(path, whole);
        }
    }
}

#[test]
fn an_object_with_bytes_after_its_end_is_found() {
    let saved = Saved::new(400);
    // Bytes behind the end of a cell are an append that was cut off: they count as never written.
    for path in saved.parts().into_iter().filter(|path| !path.starts_with("cells")) {
        for extra in [&b"\0"[..], b"EVOSPACK", &saved.store[path]] {
            saved.put(path, &[&saved.store[path], extra].concat());
            saved.assert_found(&format!("{} and {} bytes more", path.display(), extra.len()));
            saved.put(path, &saved.store[path]);
        }
    }
}

#[test]
fn a_file_in_the_place_of_another_is_found() {
    let saved = Saved::new(3_000);
    for path in saved.parts() {
        for other in saved.parts().into_iter().filter(|other| *other != path) {
            saved.put(path, &saved.store[other]);
            saved.assert_found(&format!("{} in the place of {}", other.display(), path.display()));
            saved.put(path, &saved.store[path]);
        }
    }
}

#[test]
fn a_missing_file_is_found() {
    let saved = Saved::new(3_000);
    for path in saved.parts() {
        fs::remove_file(saved.path("store").join(path)).unwrap();
        saved.assert_found(&format!("{} missing", path.display()));
        saved.put_back();
    }
}

#[test]
fn damaged_hints_and_leftovers_mislead_nobody() {
    let saved = Saved::new(3_000);
    let hints: Vec<&PathBuf> = saved.store.keys().filter(|path| !is_part_of_the_format(path)).collect();
    assert!(hints.iter().any(|path| path.starts_with("cache")), "a capture leaves hints");
    for path in hints {
        let whole = &saved.store[path];
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            saved.put(path, &bytes);
            let manager = CheckpointManager::builder().directory(saved.path("store")).open().unwrap();
            let tree = manager.tree_digest_blocking(&saved.path("workspace")).unwrap();
            let newest = manager.list_blocking().unwrap().pop().unwrap();
            assert_eq!(tree, newest.tree, "{} flipped at {place}", path.display());
            let mut damage = manager.verify_blocking(&[]).unwrap().damage;
            damage.retain(|damage| !damage.problem.contains("mark"));
            assert_eq!(damage, [], "{}", path.display());
            saved.put_back();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Few bits in much: where every flip in turn would take too long.
    #[test]
    fn any_flipped_bit_of_a_large_store_is_found(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8_u32), 60),
    ) {
        let saved = Saved::new(2_500_000);
        let parts = saved.parts();
        for (part, place, bit) in flips {
            let path = part.get(&parts);
            let whole = &saved.store[*path];
            let mut bytes = whole.clone();
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            saved.put(path, &bytes);
            saved.assert_found(&format!("bit {bit} of byte {place} of {} flipped", path.display()));
            saved.put(path, whole);
        }
    }
}
