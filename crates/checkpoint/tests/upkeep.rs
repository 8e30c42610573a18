//! What a store keeps and gives back: clean-up by itself, deletion and collection, compression, and what it takes in at all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evoseal_checkpoint::{
    CheckpointManager, CheckpointSettings, Error, MemoryBackend, NewCheckpoint, ObjectBackend,
    ObjectBackendExt, Source,
};
use evoseal_types::EntryPath;
use place::{Place, names};

#[test]
fn automatic_cleanup_keeps_pinned_protected_and_parent_checkpoints() {
    let settings = CheckpointSettings { max_checkpoints: 3, ..CheckpointSettings::default() };
    let manager = CheckpointManager::builder().in_memory().settings(settings).create().unwrap();
    let save = |version: &str, parent| {
        let source = Source::Entries(BTreeMap::from([(EntryPath::new("a").unwrap(), version.into())]));
        let details = NewCheckpoint { parent, ..NewCheckpoint::of(version.parse().unwrap()) };
        manager.create_blocking(&source, details).unwrap().0.id
    };
    let versions = || -> Vec<String> {
        let listed = manager.list_blocking().unwrap();
        listed.iter().map(|checkpoint| checkpoint.details.version_id.to_string()).collect()
    };
    let pinned = save("pinned", None);
    manager.pin_blocking(pinned, Some("release")).unwrap();
    let known_good = save("known-good", None);
    manager.protect(BTreeSet::from([known_good]));
    let parent = save("parent", None);
    for number in 0..4 {
        save(&format!("v{number}"), Some(parent));
    }
    assert_eq!(versions(), ["pinned", "known-good", "parent", "v3"]);
}

#[test]
fn without_automatic_cleanup_nothing_is_deleted() {
    let settings =
        CheckpointSettings { max_checkpoints: 1, auto_cleanup: false, ..CheckpointSettings::default() };
    let manager = CheckpointManager::builder().in_memory().settings(settings).create().unwrap();
    for version in ["a", "b", "c"] {
        manager
            .create_blocking(&Source::Entries(BTreeMap::new()), NewCheckpoint::of(version.parse().unwrap()))
            .unwrap();
    }
    assert_eq!(manager.list_blocking().unwrap().len(), 3);
}

#[test]
fn compression_can_be_switched_off_and_stores_of_both_kinds_read_alike() {
    let text = "the same line again and again\n".repeat(5000);
    let size = |compression_enabled| {
        let settings = CheckpointSettings { compression_enabled, ..CheckpointSettings::default() };
        let backend = MemoryBackend::new();
        let manager = CheckpointManager::builder()
            .backend(Arc::new(backend.clone()))
            .settings(settings)
            .create()
            .unwrap();
        let source =
            Source::Entries(BTreeMap::from([(EntryPath::new("a").unwrap(), text.clone().into_bytes())]));
        let (saved, _) = manager.create_blocking(&source, NewCheckpoint::of("v".parse().unwrap())).unwrap();
        let other = CheckpointManager::builder().backend(Arc::new(backend.clone())).open().unwrap();
        assert_eq!(
            other.read_file_blocking(saved.id, &EntryPath::new("a").unwrap()).unwrap(),
            text.as_bytes()
        );
        backend.load("catalog", 0).unwrap().unwrap().state.len
    };
    assert!(size(true) * 10 < size(false));
}

#[test]
fn entries_that_clash_or_touch_what_is_left_alone_are_refused() {
    let manager = CheckpointManager::builder().in_memory().create().unwrap();
    for paths in
        [&["a", "a/b"][..], &[".git/hooks/post-checkout"], &["x/.evoseal/y"], &[".evoseal-restore-1"]]
    {
        let entries = paths.iter().map(|path| (EntryPath::new(path).unwrap(), Vec::new())).collect();
        let refused =
            manager.create_blocking(&Source::Entries(entries), NewCheckpoint::of("v".parse().unwrap()));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{paths:?}: {refused:?}");
    }
    assert_eq!(manager.list_blocking().unwrap(), []);
}

#[test]
fn deleting_gives_storage_back_and_many_small_packs_become_few() {
    let place = Place::new();
    let settings = CheckpointSettings { max_checkpoints: 1000, ..CheckpointSettings::default() };
    let manager = place.manager_with(settings);
    let mut ids = Vec::new();
    for number in 0..40_u32 {
        place.write("a", number.to_le_bytes().repeat(1000));
        place.write(&format!("keep{number}"), b"small");
        ids.push(place.save(&manager).0.id);
        manager.collect_garbage_blocking().unwrap();
    }
    let packs = || names(&place.store().join("objects/packs")).len();
    assert!((2..=33).contains(&packs()), "one for each checkpoint until there are too many: {}", packs());
    let report = manager.delete_blocking(&ids[..1]).unwrap();
    assert!(packs() < 34, "{} packs", packs());
    assert!(report.bytes_freed > 0);
    assert_eq!(manager.verify_blocking(&[]).unwrap().damage, []);
    let report = manager.delete_blocking(&ids[1..]).unwrap();
    assert_eq!((report.checkpoints.len(), packs()), (39, 0));
}

#[test]
fn collection_waits_for_no_writer_and_says_so() {
    let backend = Arc::new(MemoryBackend::new());
    let manager = CheckpointManager::builder()
        .backend(Arc::clone(&backend) as Arc<dyn ObjectBackend>)
        .create()
        .unwrap();
    let source = Source::Entries(BTreeMap::from([(EntryPath::new("a").unwrap(), b"1".to_vec())]));
    let (saved, _) = manager.create_blocking(&source, NewCheckpoint::of("v".parse().unwrap())).unwrap();
    backend.put("packs/orphan", b"of a writer that died").unwrap();
    let writing = backend.lock(evoseal_checkpoint::LockMode::Shared).unwrap();
    assert!(matches!(manager.collect_garbage_blocking(), Err(Error::Locked { .. })));
    manager.delete_blocking(&[saved.id]).unwrap();
    assert_eq!(
        backend.list("packs/").unwrap().len(),
        1,
        "the checkpoint is gone, its storage comes back later"
    );
    drop(writing);
    assert!(manager.collect_garbage_blocking().unwrap().bytes_freed > 0);
    assert_eq!(backend.list("packs/").unwrap(), []);
}
