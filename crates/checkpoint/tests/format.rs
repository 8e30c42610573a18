//! Stores of every released format are read: each has a fixture that is never changed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evoseal_checkpoint::{CheckpointManager, EntryKind, NewCheckpoint, RestoreMode, Source};
use evoseal_types::{Direction, EntryPath, ManualClock, MetricSamples, MetricSpec, TestReport, Timestamp};

fn fixture(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

/// More than a megabyte, so that it is cut into chunks; compressible, so that the fixture stays small.
fn large() -> Vec<u8> {
    (0..150_000_u32).flat_map(|number| (number / 1000).to_le_bytes().into_iter().chain(*b"line\n")).collect()
}

#[test]
fn a_store_of_format_2_opens_verifies_and_restores() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    copy(&fixture("format-2"), &store);
    let manager = CheckpointManager::builder().directory(&store).open().unwrap();
    let listed = manager.list_blocking().unwrap();
    let versions: Vec<&str> =
        listed.iter().map(|checkpoint| checkpoint.details.version_id.as_str()).collect();
    assert_eq!(versions, ["v1", "v2"]);
    assert_eq!(listed[0].pinned.as_deref(), Some("release"));
    assert_eq!(listed[1].details.parent, Some(listed[0].id));
    assert_eq!(listed[1].details.test_results[0].tests_passed, 9);
    assert_eq!(listed[1].details.metrics[0].values(), [1.5, 2.5]);
    assert_eq!(listed[1].details.note.len(), 5000, "a long record");
    assert_eq!(manager.verify_blocking(&[]).unwrap().damage, []);
    let ids = [listed[0].id.to_string(), listed[1].id.to_string()];
    assert_eq!(ids.join("\n") + "\n", fs::read_to_string(fixture("format-2.ids")).unwrap());
    let target = place.path().join("target");
    manager.restore_blocking(listed[1].id, &target, RestoreMode::Empty).unwrap();
    assert_eq!(fs::read(target.join("d/changed")).unwrap(), b"two");
    assert!(fs::read(target.join("large")).unwrap() == large());
    assert_eq!(manager.read_file_blocking(listed[0].id, &path("d/changed")).unwrap(), b"one");
    let entries = manager.entries_blocking(listed[0].id).unwrap();
    assert!(matches!(entries[0].kind, EntryKind::Directory { .. }));
    // The present version goes on where the old one stopped.
    let (third, _) = manager
        .create_blocking(&Source::Directory(target), NewCheckpoint::of("v3".parse().unwrap()))
        .unwrap();
    assert_eq!(third.tree, listed[1].tree);
}

#[test]
#[ignore = "writes the fixture of the present format; to be run once when a new format is released"]
fn write_the_fixture() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_unix_ns(1_764_000_000_000_000_000)));
    let manager = CheckpointManager::builder().directory(&store).clock(clock).create().unwrap();
    let entries = |text: &str| {
        Source::Entries(BTreeMap::from([
            (path("d/changed"), text.into()),
            (path("large"), large()),
            (path("same"), b"same in both".to_vec()),
        ]))
    };
    let (first, _) =
        manager.create_blocking(&entries("one"), NewCheckpoint::of("v1".parse().unwrap())).unwrap();
    let spec = MetricSpec::new("latency", "ms", Direction::Increase).unwrap();
    let details = NewCheckpoint {
        parent: Some(first.id),
        test_results: vec![TestReport::from_counts("unit_tests", 9, 1, 0, 0)],
        metrics: vec![MetricSamples::independent(spec, &[1.5, 2.5])],
        note: "n".repeat(5000),
        ..NewCheckpoint::of("v2".parse().unwrap())
    };
    let (second, _) = manager.create_blocking(&entries("two"), details).unwrap();
    manager.pin_blocking(first.id, Some("release")).unwrap();
    manager.collect_garbage_blocking().unwrap();
    manager.pin_blocking(second.id, Some("kept as a commit")).unwrap();
    for part in ["objects", "cells"] {
        copy(&store.join(part), &fixture("format-2").join(part));
    }
    for beside in ["lock", "mark"] {
        fs::remove_file(fixture("format-2/cells").join(format!("catalog.{beside}"))).unwrap();
    }
    fs::write(fixture("format-2.ids"), format!("{}\n{}\n", first.id, second.id)).unwrap();
}
