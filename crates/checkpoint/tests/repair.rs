//! Damage of every kind: it is named, it costs only what it touches, and what the workspace still holds heals it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{
    CheckpointManager, CheckpointSettings, Error, NewCheckpoint, RestoreMode, Source, VerifyDepth,
    VerifyReport,
};
use evoseal_types::CheckpointId;
use tempfile::TempDir;

struct Scene {
    place: TempDir,
    /// Has only what no later checkpoint changed and its own version of `large`.
    first: CheckpointId,
    second: CheckpointId,
}

/// Bytes that do not compress and have nothing in common.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

impl Scene {
    /// Two checkpoints whose contents lie in packs of their own.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let workspace = place.path().join("workspace");
        fs::create_dir_all(workspace.join("folder")).unwrap();
        fs::write(workspace.join("folder/small"), noise(1, 700_000)).unwrap();
        fs::write(workspace.join("large"), noise(2, 3_000_000)).unwrap();
        let mut scene = Self { place, first: zero(), second: zero() };
        scene.first = scene.save("first");
        fs::write(scene.workspace().join("large"), noise(3, 3_000_000)).unwrap();
        fs::write(scene.workspace().join("later"), noise(4, 700_000)).unwrap();
        scene.second = scene.save("second");
        scene
    }

    fn workspace(&self) -> PathBuf {
        self.place.path().join("workspace")
    }

    /// A manager that remembers nothing.
    fn manager(&self) -> CheckpointManager {
        let settings = CheckpointSettings { compression_enabled: false, ..CheckpointSettings::default() };
        CheckpointManager::builder()
            .directory(self.place.path().join("store"))
            .settings(settings)
            .open_or_create()
            .unwrap()
    }

    fn save(&self, version: &str) -> CheckpointId {
        let details = NewCheckpoint::of(version.parse().unwrap());
        self.manager().create_blocking(&Source::Directory(self.workspace()), details).unwrap().0.id
    }

    fn packs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.place.path().join("store/objects/packs"), &mut found);
        found.sort();
        found
    }

    /// Flips a byte of the stored copy of `content`, wherever it lies.
    fn damage(&self, content: &[u8]) {
        for pack in self.packs() {
            let mut bytes = fs::read(&pack).unwrap();
            if let Some(place) = bytes.windows(content.len()).position(|window| window == content) {
                bytes[place] ^= 1;
                fs::write(&pack, bytes).unwrap();
                return;
            }
        }
        panic!("no pack holds it");
    }

    fn full(&self) -> VerifyReport {
        self.manager().verify_blocking(&[]).unwrap()
    }

    fn restores(&self, id: CheckpointId) -> Result<(), Error> {
        let target = tempfile::tempdir_in(self.place.path()).unwrap();
        self.manager().restore_blocking(id, &target.path().join("t"), RestoreMode::Empty).map(|_| ())
    }
}

fn zero() -> CheckpointId {
    CheckpointId::new(evoseal_types::Digest::of(b""))
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

fn touched(report: &VerifyReport) -> (Vec<CheckpointId>, Vec<String>) {
    let mut checkpoints: Vec<_> = report.damage.iter().flat_map(|found| found.checkpoints.clone()).collect();
    checkpoints.sort();
    checkpoints.dedup();
    let mut paths: Vec<_> =
        report.damage.iter().flat_map(|found| &found.paths).map(ToString::to_string).collect();
    paths.sort();
    paths.dedup();
    (checkpoints, paths)
}

#[test]
fn a_damaged_content_costs_the_checkpoints_that_have_it_and_is_healed_from_the_workspace() {
    let scene = Scene::new();
    scene.damage(&noise(4, 700_000)[300_000..300_064]);
    assert_eq!(touched(&scene.full()), (vec![scene.second], vec!["later".to_owned()]));
    let quick = scene.manager().verify_to_depth_blocking(&[], VerifyDepth::Quick).unwrap();
    assert!(quick.damage.is_empty(), "a quick look reads no content: {quick:?}");
    scene.restores(scene.first).unwrap();
    assert!(matches!(scene.restores(scene.second), Err(Error::Damaged { .. })));

    let report = scene.manager().heal_blocking(&scene.workspace()).unwrap();
    assert_eq!((report.before.damage.len(), report.objects_healed), (1, 1));
    assert!(report.after.damage.is_empty(), "the damaged copy is gone too: {report:?}");
    assert!(scene.full().damage.is_empty());
    scene.restores(scene.first).unwrap();
    scene.restores(scene.second).unwrap();
}

#[test]
fn a_damaged_chunk_of_a_large_file_is_healed_and_one_that_is_gone_is_named() {
    let scene = Scene::new();
    scene.damage(&noise(3, 3_000_000)[1_500_000..1_500_064]);
    scene.damage(&noise(2, 3_000_000)[1_500_000..1_500_064]);
    let mut both = vec![scene.first, scene.second];
    both.sort();
    assert_eq!(touched(&scene.full()), (both, vec!["large".to_owned()]));

    let report = scene.manager().heal_blocking(&scene.workspace()).unwrap();
    assert_eq!(report.objects_healed, 1, "one chunk, not the file");
    assert_eq!(touched(&report.after), (vec![scene.first], vec!["large".to_owned()]));
    scene.restores(scene.second).unwrap();
    assert!(matches!(scene.restores(scene.first), Err(Error::Damaged { .. })));
}

#[test]
fn missing_packs_and_damaged_indexes_are_named_by_a_quick_look_and_healed() {
    for truncates in [false, true] {
        let scene = Scene::new();
        let packs = scene.packs();
        assert!(packs.len() >= 2, "{packs:?}");
        for pack in &packs {
            if truncates {
                let len = fs::metadata(pack).unwrap().len();
                fs::OpenOptions::new().write(true).open(pack).unwrap().set_len(len - 40).unwrap();
            } else {
                fs::remove_file(pack).unwrap();
            }
        }
        let quick = scene.manager().verify_to_depth_blocking(&[], VerifyDepth::Quick).unwrap();
        assert!(!quick.damage.is_empty());
        assert!(touched(&quick).0.contains(&scene.second), "{quick:?}");
        let report = scene.manager().heal_blocking(&scene.workspace()).unwrap();
        // The workspace is the second version: what only the first had is lost, and named.
        assert!(report.objects_healed > 0);
        let (checkpoints, _) = touched(&report.after);
        assert!(checkpoints.contains(&scene.first), "{report:?}");
    }
}

#[test]
fn healing_a_sound_store_stores_nothing() {
    let scene = Scene::new();
    let before = scene.packs();
    let report = scene.manager().heal_blocking(&scene.workspace()).unwrap();
    assert_eq!((report.objects_healed, report.after.damage.len()), (0, 0));
    assert_eq!(scene.packs(), before);
}
