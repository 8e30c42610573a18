//! Both backends keep the contract.

use std::sync::Arc;

use evoseal_checkpoint::conformance::BackendFixture;
use evoseal_checkpoint::{CellState, LocalBackend, MemoryBackend, ObjectBackend};

fn memory_fixture() -> BackendFixture {
    let backend = MemoryBackend::new();
    let other = backend.clone();
    BackendFixture::new(Arc::new(backend), move || Arc::new(other.clone()), ())
}

fn local_fixture() -> BackendFixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_owned();
    let open = move || -> Arc<dyn ObjectBackend> {
        Arc::new(LocalBackend::open(&path).expect("the directory opens"))
    };
    BackendFixture::new(open(), open, directory)
}

mod memory {
    evoseal_checkpoint::object_backend_conformance!(super::memory_fixture);
}

mod local {
    evoseal_checkpoint::object_backend_conformance!(super::local_fixture);
}

#[test]
fn what_a_dead_writer_left_half_written_is_removed_at_the_next_opening() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    LocalBackend::open(directory.path()).expect("opens");
    let left = directory.path().join("tmp/123-0x1-0");
    std::fs::write(&left, "half").expect("writes");
    LocalBackend::open(directory.path()).expect("opens");
    assert!(!left.exists());
}

#[test]
fn a_refusal_of_the_lock_names_the_process_that_holds_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = LocalBackend::open(directory.path()).expect("opens");
    let _shared = backend.lock(evoseal_checkpoint::LockMode::Shared).expect("locks");
    let error = backend.lock(evoseal_checkpoint::LockMode::Exclusive).expect_err("it is held");
    assert!(error.to_string().contains("in use by"), "{error}");
}

#[test]
fn a_half_written_cell_of_a_dead_writer_is_not_seen_and_not_in_the_way() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = LocalBackend::open(directory.path()).expect("opens");
    assert!(backend.swap("cell", None, b"whole").expect("writes"));
    std::fs::write(directory.path().join("cells/cell.new"), "half").expect("writes");
    let other = LocalBackend::open(directory.path()).expect("opens");
    assert_eq!(other.load("cell", 0).expect("reads").expect("written").bytes, b"whole");
    assert!(other.swap("cell", Some(&CellState::of(b"whole")), b"next").expect("writes"));
    assert!(!directory.path().join("cells/cell.new").exists());
}
