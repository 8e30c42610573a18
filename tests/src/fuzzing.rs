//! One fuzzed store: made, mutated by a seed, and used in every way that the public interface has.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{
    Checkpoint, CheckpointManager, CheckpointSettings, EntryKind, NewCheckpoint, RestoreMode, Source,
};

use crate::random::Random;
use crate::seals::SealedFiles;

/// What every function here may fail with.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Small stores whose seals are known, ready to be mutated.
#[derive(Debug)]
pub struct FuzzedStores {
    stores: Vec<SealedFiles>,
}

impl FuzzedStores {
    /// Makes the stores below `place`: one of small files, and one with a file long enough to be cut into chunks.
    pub fn new(place: &Path) -> Result<Self> {
        let mut stores = Vec::new();
        for large in [None, Some(1_300_000)] {
            let store = place.join(format!("made{}", stores.len()));
            let workspace = place.join("made");
            fs::create_dir_all(workspace.join("folder/deeper"))?;
            let settings = CheckpointSettings { compression_enabled: false, ..CheckpointSettings::default() };
            let manager = CheckpointManager::builder().directory(&store).settings(settings).create()?;
            for version in ["v1", "v2"] {
                fs::write(workspace.join("folder/file"), version)?;
                fs::write(workspace.join("folder/deeper/other"), "the same")?;
                if let Some(size) = large {
                    let mut random = Random::new(1);
                    let noise: Vec<u8> = std::iter::repeat_with(|| random.number().to_le_bytes())
                        .take(size / 8)
                        .flatten()
                        .collect();
                    fs::write(workspace.join("large"), noise)?;
                }
                let note = "a record longer than others ".repeat(if large.is_some() { 60 } else { 1 });
                let details = NewCheckpoint { note, ..NewCheckpoint::of(version.parse()?) };
                manager.create_blocking(&Source::Directory(workspace.clone()), details)?;
            }
            fs::remove_dir_all(workspace)?;
            stores.push(SealedFiles::learn(read(&store)?));
        }
        Ok(Self { stores })
    }

    /// How many digests were found in each store.
    pub fn seal_counts(&self) -> Vec<usize> {
        self.stores.iter().map(SealedFiles::seal_count).collect()
    }

    /// Mutates a store as the seed says and uses it, below `place`, which is emptied first.
    ///
    /// # Errors
    ///
    /// What went wrong and never may: something outside of the target was written. A panic or a hang is left to the caller.
    pub fn try_seed(&self, seed: u64, place: &Path) -> Result<()> {
        let mut random = Random::new(seed);
        let store = &self.stores[random.below(self.stores.len())];
        if place.exists() {
            fs::remove_dir_all(place)?;
        }
        fs::create_dir_all(place.join("outside"))?;
        fs::write(place.join("outside/canary"), "alive")?;
        fs::create_dir_all(place.join("workspace"))?;
        fs::write(place.join("workspace/mine"), "mine")?;
        for (path, bytes) in store.mutated(&mut random) {
            let path = place.join("store").join(path);
            fs::create_dir_all(path.parent().unwrap_or(place))?;
            fs::write(path, bytes)?;
        }
        // Every answer is right, and an error is one too: what it must not do is panic, hang, take all memory, or leave.
        let _ = use_store(place);
        let mut left: Vec<_> =
            fs::read_dir(place)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        left.retain(|name| {
            !["outside", "workspace", "store", "target", "empty"].iter().any(|known| name == known)
        });
        let canary = fs::read_to_string(place.join("outside/canary"))?;
        if left.is_empty() && canary == "alive" && fs::read_dir(place.join("outside"))?.count() == 1 {
            return Ok(());
        }
        Err(format!("seed {seed}: something was written outside of the target: {left:?}").into())
    }
}

/// Everything that can be done with a store, each whether or not the one before worked.
fn use_store(place: &Path) -> Result<()> {
    let manager = CheckpointManager::builder().directory(place.join("store")).open()?;
    let listed: Vec<Checkpoint> = manager.list_blocking().unwrap_or_default();
    let _ = manager.verify_blocking(&[]);
    let _ = manager.get_checkpoint_statistics();
    for checkpoint in &listed {
        for entry in manager.entries_blocking(checkpoint.id).unwrap_or_default() {
            if matches!(entry.kind, EntryKind::File { .. }) {
                let _ = manager.read_file_blocking(checkpoint.id, &entry.path);
            }
        }
        let _ = manager.restore_blocking(checkpoint.id, &place.join("target"), RestoreMode::InPlace);
        let empty = place.join("empty");
        let _ = manager.restore_blocking(checkpoint.id, &empty, RestoreMode::Empty);
        if empty.exists() {
            fs::remove_dir_all(empty)?;
        }
    }
    let details = NewCheckpoint::of("next".parse()?);
    let _ = manager.create_blocking(&Source::Directory(place.join("workspace")), details);
    if let Some(first) = listed.first() {
        let _ = manager.pin_blocking(first.id, Some("kept"));
        let _ = manager.pin_blocking(first.id, None);
        let _ = manager.delete_blocking(&[first.id]);
    }
    let _ = manager.collect_garbage_blocking();
    Ok(())
}

/// All files below a folder.
fn read(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(root)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    // Empty files are locks, and there is nothing in them to change.
    found.retain(|_, bytes| !bytes.is_empty());
    Ok(found)
}
