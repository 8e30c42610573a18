//! What the asynchronous face promises: captured is not yet durable, and dropping a future breaks nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evoseal_checkpoint::{
    Cell, CellState, CheckpointManager, CheckpointStore, CheckpointStoreExt, Error, LockGuard, LockMode,
    MemoryBackend, NewCheckpoint, ObjectBackend, ObjectInfo, ObjectWriter, Result, Source, apply_retention,
};
use evoseal_types::EntryPath;

/// Holds every commit until it is allowed, or refuses it.
#[derive(Debug)]
struct SlowBackend {
    inner: MemoryBackend,
    allowed: Mutex<Receiver<bool>>,
}

impl SlowBackend {
    fn new() -> (Self, Sender<bool>) {
        let (allow, allowed) = channel();
        (Self { inner: MemoryBackend::new(), allowed: Mutex::new(allowed) }, allow)
    }

    fn commit(&self, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let is_allowed = self.allowed.lock().unwrap().recv_timeout(Duration::from_secs(30));
        if is_allowed.unwrap() {
            return work();
        }
        let source = std::io::Error::other("no space left").into();
        Err(Error::Backend { backend: "slow", action: "write".to_owned(), source })
    }
}

impl ObjectBackend for SlowBackend {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn writer(&self) -> Result<Box<dyn ObjectWriter>> {
        self.inner.writer()
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
        self.inner.delete(name)
    }

    fn load(&self, name: &str, from: u64) -> Result<Option<Cell>> {
        self.inner.load(name, from)
    }

    fn append(&self, name: &str, expected: &CellState, bytes: &[u8]) -> Result<bool> {
        self.commit(|| self.inner.append(name, expected, bytes))
    }

    fn swap(&self, name: &str, expected: Option<&CellState>, new: &[u8]) -> Result<bool> {
        if name != "catalog" {
            return self.inner.swap(name, expected, new);
        }
        self.commit(|| self.inner.swap(name, expected, new))
    }

    fn lock(&self, mode: LockMode) -> Result<LockGuard> {
        self.inner.lock(mode)
    }
}

fn source(text: &str) -> Source {
    Source::Entries(BTreeMap::from([(EntryPath::new("a").unwrap(), text.into())]))
}

fn details(version: &str) -> NewCheckpoint {
    NewCheckpoint::of(version.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capture_returns_before_the_checkpoint_is_durable_and_visible() {
    let (backend, allow) = SlowBackend::new();
    let store = CheckpointManager::builder().backend(Arc::new(backend)).create().unwrap();
    let handle = store.create(source("1"), details("v1")).await.unwrap();
    assert_eq!(store.list().await.unwrap(), []);
    allow.send(true).unwrap();
    let made = handle.durable().await.unwrap();
    assert_eq!(store.list().await.unwrap(), [made]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_could_not_be_made_durable_says_why_and_does_not_exist() {
    let (backend, allow) = SlowBackend::new();
    let store = CheckpointManager::builder().backend(Arc::new(backend)).create().unwrap();
    let handle = store.create(source("1"), details("v1")).await.unwrap();
    allow.send(false).unwrap();
    let error = handle.durable().await.unwrap_err();
    assert!(matches!(error, Error::Backend { backend: "slow", .. }), "{error}");
    assert_eq!(store.list().await.unwrap(), []);
    // The next one works, and nothing of the failed one is in its way.
    allow.send(true).unwrap();
    store.create(source("1"), details("v1")).await.unwrap().durable().await.unwrap();
    assert_eq!(store.verify(&[]).await.unwrap().damage, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_handle_does_not_stop_the_work() {
    let (backend, allow) = SlowBackend::new();
    let store = CheckpointManager::builder().backend(Arc::new(backend)).create().unwrap();
    drop(store.create(source("1"), details("v1")).await.unwrap());
    allow.send(true).unwrap();
    // The next capture waits for the first, so that after it both are there.
    allow.send(true).unwrap();
    store.create(source("2"), details("v2")).await.unwrap().durable().await.unwrap();
    assert_eq!(store.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn retention_keeps_the_newest_the_pinned_and_the_protected() {
    let store = CheckpointManager::builder().in_memory().create().unwrap();
    let mut ids = Vec::new();
    for number in 0..6 {
        let text = number.to_string();
        ids.push(store.create(source(&text), details(&text)).await.unwrap().durable().await.unwrap().id);
    }
    store.pin(ids[0], Some("baseline")).await.unwrap();
    let report = apply_retention(&store, 3, &BTreeSet::from([ids[2]])).await.unwrap();
    assert_eq!(
        report.checkpoints.into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([ids[1], ids[3], ids[4]])
    );
    assert_eq!(apply_retention(&store, 3, &BTreeSet::new()).await.unwrap().checkpoints, []);
    assert!(matches!(apply_retention(&store, 0, &BTreeSet::new()).await, Err(Error::Invalid { .. })));
    let found = store.resolve("5").await.unwrap();
    assert_eq!(found.id, ids[5]);
}
