//! Stores that nobody could make through the public interface: what a hostile hand could write.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use evoseal_types::{CheckpointId, Digest, EntryPath, Timestamp};

use crate::catalog::{CatalogEntry, Commit};
use crate::engine::Engine;
use crate::pack::{ObjectKey, ObjectKind};
use crate::page::{self, PageEntry, PageNode};
use crate::sink::BlockBuilder;
use crate::store::{NewCheckpoint, RestoreMode};
use crate::{CheckpointManager, Error, MemoryBackend, record};

/// A store with one checkpoint whose root page is `page`, and the content `x`.
fn store_of(page: &[u8], extra: &[&[u8]]) -> (CheckpointManager, CheckpointId) {
    let manager = CheckpointManager::builder().backend(Arc::new(MemoryBackend::new())).create().unwrap();
    let engine: &Engine = &manager.engine;
    let sink = engine.sink(engine.load().unwrap().catalog);
    let mut builder = BlockBuilder::default();
    let metadata = |bytes: &[u8]| ObjectKey { kind: ObjectKind::Metadata, digest: Digest::of(bytes) };
    sink.force(&mut builder, metadata(page), page).unwrap();
    for bytes in extra {
        sink.force(&mut builder, metadata(bytes), bytes).unwrap();
    }
    sink.add_content(&mut builder, Digest::of(b"x"), b"x").unwrap();
    let details = NewCheckpoint::of("hostile".parse().unwrap());
    let tree = Digest::of(page);
    let (checkpoint, bytes) = record::seal(Timestamp::from_unix_ns(0), tree, 1, 1, details).unwrap();
    sink.force_record(&mut builder, checkpoint.id.digest(), &bytes).unwrap();
    sink.flush(&mut builder).unwrap();
    let (written, _) = sink.finish(true).unwrap();
    let entry = CatalogEntry {
        id: checkpoint.id,
        sequence: 0,
        tree,
        created_at_unix_ns: 0,
        size_bytes: 1,
        bytes_stored: 1,
        pinned: None,
    };
    engine
        .change(written.packs.first(), |_| {
            Ok(((), Some(Commit { added: vec![entry.clone()], ..Commit::default() })))
        })
        .unwrap();
    (manager, checkpoint.id)
}

fn file(name: &str) -> PageEntry {
    let node = PageNode::File { mode: 0o755, size_bytes: 1, digest: Digest::of(b"x") };
    PageEntry { name: name.as_bytes().to_vec(), node }
}

#[test]
fn a_tree_whose_names_lead_out_of_the_target_is_refused_before_anything_is_written() {
    for name in ["..", ".", "", "../escaped", "/tmp/escaped", "a/b", "a\0b", ".git", ".evoseal"] {
        let (manager, id) = store_of(&page::encode(&[file(name)]), &[]);
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        for mode in [RestoreMode::Empty, RestoreMode::InPlace] {
            let refused = manager.restore_blocking(id, &target, mode);
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{name:?}: {refused:?}");
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{name:?}");
        assert!(!manager.verify_blocking(&[]).unwrap().damage.is_empty());
    }
}

#[test]
fn a_folder_below_a_symlink_or_a_file_cannot_be_expressed_and_a_symlink_is_never_written_through() {
    let inner = page::encode(&[file("x")]);
    let folder = PageNode::Directory { mode: 0o755, page: Digest::of(&inner) };
    let link = PageNode::Symlink { target: b"/tmp".to_vec() };
    let twice =
        [PageEntry { name: b"a".to_vec(), node: link }, PageEntry { name: b"b".to_vec(), node: folder }];
    let mut page = page::encode(&twice);
    // The second entry takes the first one's name: a symlink, and a folder to be filled under the same path.
    let place = page.iter().rposition(|byte| *byte == b'b').unwrap();
    page[place] = b'a';
    let (manager, id) = store_of(&page, &[&inner]);
    let target = tempfile::tempdir().unwrap();
    let refused = manager.restore_blocking(id, target.path(), RestoreMode::Empty);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
}

#[test]
fn a_tree_that_is_deeper_than_any_path_may_be_is_refused() {
    let mut page = page::encode(&[file("x")]);
    let mut pages = vec![page.clone()];
    for _ in 0..=EntryPath::LEN_BYTES_MAX / 255 {
        let node = PageNode::Directory { mode: 0o755, page: Digest::of(&page) };
        page = page::encode(&[PageEntry { name: vec![b'd'; 255], node }]);
        pages.push(page.clone());
    }
    let slices: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
    let (manager, id) = store_of(&page, &slices);
    assert!(matches!(manager.entries_blocking(id), Err(Error::Damaged { .. })));
}

#[test]
fn a_content_that_is_not_there_is_damage_and_not_an_empty_file() {
    let node = PageNode::File { mode: 0o644, size_bytes: 1, digest: Digest::of(b"missing") };
    let page = page::encode(&[PageEntry { name: b"a".to_vec(), node }]);
    let (manager, id) = store_of(&page, &[]);
    let target = tempfile::tempdir().unwrap();
    symlink("/nowhere", target.path().join("a")).unwrap();
    let refused = manager.restore_blocking(id, target.path(), RestoreMode::InPlace);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert_eq!(fs::read_link(target.path().join("a")).unwrap().as_os_str(), "/nowhere");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1, "nothing is left aside");
    assert!(matches!(manager.collect_garbage_blocking(), Err(Error::Damaged { .. })), "nothing is ruled out");
}

#[test]
fn a_size_that_lies_is_damage() {
    let node = PageNode::File { mode: 0o644, size_bytes: u64::MAX, digest: Digest::of(b"x") };
    let (manager, id) = store_of(&page::encode(&[PageEntry { name: b"a".to_vec(), node }]), &[]);
    let read = manager.read_file_blocking(id, &"a".parse().unwrap());
    assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
    assert!(!manager.verify_blocking(&[]).unwrap().damage.is_empty());
}
