//! Whatever fails, is torn or rots: the store is as before or as after, and never hands out wrong bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evoseal_checkpoint::{
    Cell, CellState, Checkpoint, CheckpointManager, CheckpointSettings, Entry, EntryKind, Error, LockGuard,
    LockMode, MemoryBackend, NewCheckpoint, ObjectBackend, ObjectBackendExt, ObjectInfo, ObjectWriter,
    RestoreMode, Result, Source,
};
use evoseal_types::EntryPath;

/// Fails the n-th call that writes, and all later ones if the fault is permanent.
#[derive(Debug, Clone)]
struct FailingBackend {
    inner: MemoryBackend,
    writes: Arc<AtomicU64>,
    fails_at: u64,
    is_permanent: bool,
    /// Whether the failing call takes effect although it reports an error: the answer was lost, not the write.
    takes_effect: bool,
}

impl FailingBackend {
    fn write<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let fails = number == self.fails_at || (self.is_permanent && number > self.fails_at);
        if fails {
            if self.takes_effect {
                work()?;
            }
            let source = std::io::Error::other("no space left").into();
            return Err(Error::Backend { backend: "failing", action: "write".to_owned(), source });
        }
        work()
    }
}

/// Its pieces and its end count as writes.
#[derive(Debug)]
struct FailingWriter {
    backend: FailingBackend,
    inner: Box<dyn ObjectWriter>,
}

impl ObjectWriter for FailingWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.backend.write(|| self.inner.write(bytes))
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        let Self { backend, inner } = *self;
        backend.write(|| inner.finish(name))
    }
}

impl ObjectBackend for FailingBackend {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(FailingWriter { backend: self.clone(), inner: self.inner.writer()? }))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get_range(name, range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.write(|| self.inner.delete(name))
    }

    fn load(&self, name: &str, from: u64) -> Result<Option<Cell>> {
        self.inner.load(name, from)
    }

    fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool> {
        self.write(|| self.inner.append(name, expected, bytes))
    }

    fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
        self.write(|| self.inner.swap(name, expected, new))
    }

    fn lock(&self, mode: LockMode) -> Result<LockGuard> {
        self.inner.lock(mode)
    }
}

fn entries(files: &[(&str, &str)]) -> Source {
    let files = files.iter().map(|(path, text)| (EntryPath::new(path).unwrap(), text.as_bytes().to_vec()));
    Source::Entries(files.collect())
}

fn details(version: &str) -> NewCheckpoint {
    NewCheckpoint::of(version.parse().unwrap())
}

fn open(backend: Arc<dyn ObjectBackend>) -> Result<CheckpointManager> {
    CheckpointManager::builder().backend(backend).open_or_create()
}

/// Each checkpoint's version with all contents.
fn contents(manager: &CheckpointManager) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let read = |checkpoint: &Checkpoint, entry: &Entry| {
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        is_file.then(|| {
            (entry.path.to_string(), manager.read_file_blocking(checkpoint.id, &entry.path).unwrap())
        })
    };
    let listed = manager.list_blocking().unwrap();
    let contents = listed.iter().map(|checkpoint| {
        let entries = manager.entries_blocking(checkpoint.id).unwrap();
        let files = entries.iter().filter_map(|entry| read(checkpoint, entry)).collect();
        (checkpoint.details.version_id.to_string(), files)
    });
    contents.collect()
}

/// A history with every kind of write: `None` where a step failed.
const STEPS: usize = 6;

fn step(manager: &CheckpointManager, number: usize) -> Result<()> {
    let numbers = (0..3000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_string());
    let incompressible = numbers.collect::<Vec<_>>().join(" ");
    let find = |version: &str| -> Result<Checkpoint> {
        let listed = manager.list_blocking()?;
        let found = listed.into_iter().find(|checkpoint| checkpoint.details.version_id.as_str() == version);
        found.ok_or_else(|| Error::NotFound { what: version.to_owned() })
    };
    match number {
        0 => manager
            .create_blocking(&entries(&[("a", "1"), ("d/b", &incompressible)]), details("v1"))
            .map(|_| ()),
        1 => manager.create_blocking(&entries(&[("a", "2"), ("d/c", "x")]), details("v2")).map(|_| ()),
        2 => manager.pin_blocking(find("v2")?.id, Some("good")),
        3 => manager.create_blocking(&entries(&[("a", "3"), ("d/c", "x")]), details("v3")).map(|_| ()),
        4 => manager.delete_blocking(&[find("v1")?.id]).map(|_| ()),
        _ => manager.create_blocking(&entries(&[("a", "2")]), details("v4")).map(|_| ()),
    }
}

#[test]
fn whichever_write_fails_the_store_opens_as_before_or_after() {
    let mut points = 0;
    for (is_permanent, takes_effect) in [(false, false), (true, false), (false, true)] {
        for fails_at in 0.. {
            let inner = MemoryBackend::new();
            let writes = Arc::default();
            let failing =
                FailingBackend { inner: inner.clone(), writes, fails_at, is_permanent, takes_effect };
            let failing = Arc::new(failing);
            let Ok(manager) = open(Arc::clone(&failing) as Arc<dyn ObjectBackend>) else {
                open(Arc::new(inner)).expect("a store whose creation failed can be created again");
                continue;
            };
            let mut all_fine = true;
            for number in 0..STEPS {
                let before = contents(&open(Arc::new(inner.clone())).unwrap());
                let failed = step(&manager, number).is_err();
                all_fine &= !failed;
                let fresh = open(Arc::new(inner.clone())).expect("the store opens");
                let after = contents(&fresh);
                assert_eq!(fresh.verify_blocking(&[]).unwrap().damage, [], "point {fails_at}, step {number}");
                if failed && after != before {
                    // The step took effect before it failed: then it took effect wholly.
                    let changed = before.len().abs_diff(after.len());
                    assert!(changed <= 1, "point {fails_at}, step {number}: {changed} checkpoints changed");
                }
                if failed && !is_permanent {
                    break;
                }
            }
            // Without the fault the same store works on, and collection leaves nothing behind.
            let healed = open(Arc::new(inner.clone())).unwrap();
            healed.create_blocking(&entries(&[("a", "healed")]), details("healed")).unwrap();
            healed.collect_garbage_blocking().unwrap();
            assert_eq!(contents(&healed)["healed"]["a"], b"healed");
            assert_eq!(healed.verify_blocking(&[]).unwrap().damage, []);
            points += 1;
            if all_fine && failing.writes.load(Ordering::Relaxed) <= fails_at {
                break;
            }
        }
    }
    assert!(points > 20, "only {points} points were tried");
}

/// A store in memory as a list of objects and its catalogue, so that single bytes can be changed.
fn copy_with(backend: &MemoryBackend, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> MemoryBackend {
    let copy = MemoryBackend::new();
    for object in backend.list("").unwrap() {
        if let Some(bytes) = change(&object.name, backend.get(&object.name).unwrap()) {
            copy.put(&object.name, &bytes).unwrap();
        }
    }
    let catalog = backend.load("catalog", 0).unwrap().unwrap().bytes;
    if let Some(bytes) = change("catalog", catalog) {
        copy.swap("catalog", None, &bytes).unwrap();
    }
    copy
}

fn small_store() -> (MemoryBackend, BTreeMap<String, BTreeMap<String, Vec<u8>>>) {
    let backend = MemoryBackend::new();
    let manager = open(Arc::new(backend.clone())).unwrap();
    manager.create_blocking(&entries(&[("a", "one one one"), ("d/b", "two")]), details("v1")).unwrap();
    manager.create_blocking(&entries(&[("a", "three"), ("d/b", "two")]), details("v2")).unwrap();
    let expected = contents(&manager);
    (backend, expected)
}

/// The same with the packs as objects of their own, one for each checkpoint.
fn folded_store() -> (MemoryBackend, BTreeMap<String, BTreeMap<String, Vec<u8>>>) {
    let backend = MemoryBackend::new();
    let manager = open(Arc::new(backend.clone())).unwrap();
    manager.create_blocking(&entries(&[("a", "one one one"), ("d/b", "two")]), details("v1")).unwrap();
    manager.collect_garbage_blocking().unwrap();
    manager.create_blocking(&entries(&[("a", "three"), ("d/b", "two")]), details("v2")).unwrap();
    manager.collect_garbage_blocking().unwrap();
    assert_eq!(backend.list("packs/").unwrap().len(), 2);
    let expected = contents(&manager);
    (backend, expected)
}

/// Every file of every checkpoint is either exactly right or refused.
fn assert_never_wrong(
    manager: &CheckpointManager,
    expected: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    what: &str,
) {
    let Ok(listed) = manager.list_blocking() else { return };
    for checkpoint in listed {
        let files = &expected[checkpoint.details.version_id.as_str()];
        let Ok(entries) = manager.entries_blocking(checkpoint.id) else { continue };
        let paths: Vec<String> = entries
            .iter()
            .filter(|entry| matches!(entry.kind, EntryKind::File { .. }))
            .map(|entry| entry.path.to_string())
            .collect();
        assert_eq!(paths, files.keys().cloned().collect::<Vec<_>>(), "{what}");
        for (path, bytes) in files {
            if let Ok(read) = manager.read_file_blocking(checkpoint.id, &EntryPath::new(path).unwrap()) {
                assert_eq!(read, *bytes, "{what}: {path}");
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_a_store_is_found_and_restores_nothing_wrong() {
    // Packs inside the log, and packs of their own.
    for (backend, expected) in [small_store(), folded_store()] {
        let mut names: Vec<(String, u64)> =
            backend.list("").unwrap().into_iter().map(|object| (object.name, object.size_bytes)).collect();
        names.push(("catalog".to_owned(), backend.load("catalog", 0).unwrap().unwrap().state.len));
        for (target, size) in names {
            for place in 0..usize::try_from(size).unwrap() {
                let damaged = copy_with(&backend, |name, mut bytes| {
                    if name == target {
                        bytes[place] ^= 0x10;
                    }
                    Some(bytes)
                });
                let what = format!("byte {place} of {target}");
                let manager = CheckpointManager::builder().backend(Arc::new(damaged)).open().expect(&what);
                let report = manager.verify_blocking(&[]).expect(&what);
                let is_named =
                    |object: &str| object == target || (target == "catalog" && object.starts_with("packs/"));
                assert!(
                    report.damage.iter().any(|damage| is_named(&damage.object)),
                    "{what}: {:?}",
                    report.damage
                );
                assert_never_wrong(&manager, &expected, &what);
            }
        }
    }
}

#[test]
fn a_log_that_was_cut_at_any_length_is_found_and_restores_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let manager = CheckpointManager::builder().directory(&path).create().unwrap();
    manager.create_blocking(&entries(&[("a", "one one one"), ("d/b", "two")]), details("v1")).unwrap();
    manager.create_blocking(&entries(&[("a", "three"), ("d/b", "two")]), details("v2")).unwrap();
    let expected = contents(&manager);
    let log = path.join("cells/catalog");
    let whole = fs::read(&log).unwrap();
    for length in 0..whole.len() {
        let what = format!("cut to {length} bytes");
        fs::write(&log, &whole[..length]).unwrap();
        let manager = CheckpointManager::builder().directory(&path).open().expect(&what);
        let report = manager.verify_blocking(&[]).expect(&what);
        assert!(report.damage.iter().any(|damage| damage.object == "catalog"), "{what}: {:?}", report.damage);
        assert_never_wrong(&manager, &expected, &what);
    }
}

#[test]
fn every_truncated_or_missing_object_is_found_and_named() {
    let (backend, expected) = folded_store();
    for object in backend.list("packs/").unwrap() {
        for length in (0..=object.size_bytes).rev().skip(1).step_by(7) {
            let damaged = copy_with(&backend, |name, mut bytes| {
                if name == object.name {
                    bytes.truncate(usize::try_from(length).unwrap());
                }
                (name != object.name || length > 0).then_some(bytes)
            });
            let manager = CheckpointManager::builder().backend(Arc::new(damaged)).open().unwrap();
            let report = manager.verify_blocking(&[]).unwrap();
            let found = report.damage.iter().find(|damage| damage.object == object.name);
            let found =
                found.unwrap_or_else(|| panic!("{} cut to {length}: {:?}", object.name, report.damage));
            assert!(!found.checkpoints.is_empty(), "{found:?}");
            assert_never_wrong(&manager, &expected, &object.name);
        }
    }
}

#[test]
fn damage_in_one_checkpoint_leaves_the_others_restorable_and_is_named_with_its_paths() {
    let (backend, _) = folded_store();
    let manager = open(Arc::new(backend.clone())).unwrap();
    let listed = manager.list_blocking().unwrap();
    // The second pack holds what only the second checkpoint needs.
    let packs = backend.list("packs/").unwrap();
    let mut touched = Vec::new();
    for pack in &packs {
        let damaged = copy_with(&backend, |name, mut bytes| {
            if name == pack.name {
                bytes[14] ^= 1;
            }
            Some(bytes)
        });
        let manager = open(Arc::new(damaged)).unwrap();
        let report = manager.verify_blocking(&[]).unwrap();
        assert_eq!(report.damage.len(), 1);
        let suffering = &report.damage[0].checkpoints;
        for checkpoint in &listed {
            let target = tempfile::tempdir().unwrap();
            let restored = manager.restore_blocking(checkpoint.id, target.path(), RestoreMode::Empty);
            assert_eq!(restored.is_err(), suffering.contains(&checkpoint.id), "{restored:?}");
        }
        touched.push((
            suffering.len(),
            report.damage[0].paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ));
    }
    touched.sort();
    assert_eq!(touched, [(1, vec!["a".to_owned()]), (2, vec!["a".to_owned(), "d/b".to_owned()])]);
}

#[test]
fn an_in_place_restore_of_a_damaged_checkpoint_changes_nothing() {
    let (backend, _) = folded_store();
    let second = open(Arc::new(backend.clone())).unwrap().list_blocking().unwrap().remove(1);
    for pack in backend.list("packs/").unwrap() {
        let damaged = copy_with(&backend, |name, mut bytes| {
            if name == pack.name {
                bytes[14] ^= 1;
            }
            Some(bytes)
        });
        let manager = open(Arc::new(damaged)).unwrap();
        let workspace = tempfile::tempdir().unwrap();
        fs::write(workspace.path().join("a"), "mine").unwrap();
        fs::write(workspace.path().join("extra"), "mine too").unwrap();
        let failed = manager.restore_blocking(second.id, workspace.path(), RestoreMode::InPlace);
        assert!(matches!(failed, Err(Error::Damaged { .. })), "{failed:?}");
        assert_eq!(
            listing(workspace.path()),
            [("a".to_owned(), "mine".to_owned()), ("extra".to_owned(), "mine too".to_owned())]
        );
    }
}

fn listing(directory: &Path) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_was_found_damaged_is_stored_again_by_the_next_checkpoint_and_heals_the_old_one() {
    let (backend, expected) = folded_store();
    let first_pack = backend.list("packs/").unwrap().remove(0).name;
    let damaged = copy_with(&backend, |name, mut bytes| {
        if name == first_pack {
            bytes[14] ^= 1;
        }
        Some(bytes)
    });
    let manager = open(Arc::new(damaged)).unwrap();
    assert!(!manager.verify_blocking(&[]).unwrap().damage.is_empty());
    for (version, files) in
        [("v1", [("a", "one one one"), ("d/b", "two")]), ("v2", [("a", "three"), ("d/b", "two")])]
    {
        manager.create_blocking(&entries(&files), details(&format!("{version} again"))).unwrap();
    }
    let healed = contents(&manager);
    assert_eq!((&healed["v1"], &healed["v2"]), (&expected["v1"], &expected["v2"]));
}

#[test]
fn a_newer_store_and_a_store_of_another_backend_are_refused_and_left_alone() {
    let (backend, _) = small_store();
    let newer = copy_with(&backend, |name, mut bytes| {
        if name == "header" {
            // Both copies get another version and a checksum that fits it.
            let half = bytes.len() / 2;
            for copy in bytes.chunks_exact_mut(half) {
                copy[8] = 99;
                let mut hasher = blake3::Hasher::new();
                hasher.update(&copy[..20]).update(&copy[52..]);
                let checksum = *hasher.finalize().as_bytes();
                copy[20..52].copy_from_slice(&checksum);
            }
        }
        Some(bytes)
    });
    let before = newer.list("").unwrap();
    let error = open(Arc::new(newer.clone())).unwrap_err();
    assert!(matches!(&error, Error::Format { found, .. } if found == "99"), "{error}");
    assert_eq!(newer.list("").unwrap(), before);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    CheckpointManager::builder().directory(&path).create().unwrap();
    fs::write(path.join("objects/header"), backend.get("header").unwrap()).unwrap();
    let error = CheckpointManager::builder().directory(&path).open().unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error}");
}

#[test]
fn opening_what_is_not_there_makes_nothing_and_creating_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let missing = CheckpointManager::builder().directory(&path).open();
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    assert!(!path.exists());
    CheckpointManager::builder().directory(&path).create().unwrap();
    let twice = CheckpointManager::builder().directory(&path).create();
    assert!(matches!(twice, Err(Error::NotEmpty { .. })), "{twice:?}");
    let none = CheckpointSettings { max_checkpoints: 0, ..CheckpointSettings::default() };
    let refused = CheckpointManager::builder().directory(&path).settings(none).open();
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}
