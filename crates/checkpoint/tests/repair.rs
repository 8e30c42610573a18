//! Damage is found as deep as one looks, put down to what it costs, and healed from a workspace that still has the bytes.
//!
//! Packs are taken apart here as `FORMAT.md` describes them, so that one object at a time can be damaged.
#![allow(clippy::unwrap_used, reason = "tests")]

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use evoseal_checkpoint::{
    Checkpoint, CheckpointManager, CheckpointSettings, EntryKind, HealReport, RestoreMode, VerifyDepth,
    VerifyReport,
};
use evoseal_types::{CheckpointId, Digest};
use place::{Picture, Place, assert_same, picture};

/// Blocks are not compressed, so that an object's bytes stand in its block as they are.
fn settings() -> CheckpointSettings {
    CheckpointSettings { compression_enabled: false, ..CheckpointSettings::default() }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// One object of a pack.
#[derive(Debug, Clone)]
struct Object {
    pack: PathBuf,
    /// 0 for contents and chunks, 1 for pages and records, 2 for lists of chunks.
    kind: u8,
    digest: [u8; 32],
    /// The number of its block, which is lost as a whole.
    block: usize,
    /// Where its bytes are in the pack.
    range: Range<usize>,
}

const TRAILER_LEN: usize = 76;
const BLOCK_LEN: usize = 49;
const OBJECT_LEN: usize = 45;

fn array<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    bytes.try_into().unwrap()
}

fn u32_at(bytes: &[u8], offset: usize) -> usize {
    u32::from_le_bytes(array(&bytes[offset..offset + 4])) as usize
}

fn u64_at(bytes: &[u8], offset: usize) -> usize {
    usize::try_from(u64::from_le_bytes(array(&bytes[offset..offset + 8]))).unwrap()
}

/// Where the index of a pack begins; the trailer follows it.
fn index_start(pack: &[u8]) -> usize {
    u64_at(pack, pack.len() - TRAILER_LEN + 16)
}

/// The objects of a pack.
fn objects(path: &Path) -> Vec<Object> {
    let pack = fs::read(path).unwrap();
    let index = &pack[index_start(&pack)..];
    let (blocks, objects) = (u32_at(index, 0), u32_at(index, 4));
    let first = 8 + blocks * BLOCK_LEN;
    let read = |number: usize| {
        let entry = &index[first + number * OBJECT_LEN..][..OBJECT_LEN];
        let block = 8 + u32_at(entry, 33) * BLOCK_LEN;
        let start = u64_at(index, block) + u32_at(entry, 37);
        let range = start..start + u32_at(entry, 41);
        Object {
            pack: path.to_owned(),
            kind: entry[32],
            digest: array(&entry[..32]),
            block: u32_at(entry, 33),
            range,
        }
    };
    (0..objects).map(read).collect()
}

/// Three checkpoints: two versions of one workspace, which is left as the second one, and one that shares nothing with them.
/// Each has what it brought in a pack of its own.
struct Saved {
    place: Place,
    checkpoints: BTreeMap<&'static str, (Checkpoint, Picture)>,
    packs: BTreeMap<PathBuf, Vec<u8>>,
}

impl Saved {
    fn new(large_size_bytes: usize) -> Self {
        let place = Place::new();
        let mut saved = Self { place, checkpoints: BTreeMap::new(), packs: BTreeMap::new() };
        saved.write(&[("elsewhere/x", b"of no other"), ("elsewhere/deep/y", b"of no other at all")]);
        saved.keep("other");
        fs::remove_dir_all(saved.place.at("elsewhere")).unwrap();
        let (large, changed) = (noise(large_size_bytes, 1), noise(500, 2));
        saved.write(&[
            ("large", &large),
            ("shared", b"the same in both"),
            ("folder/deep/shared", b"deep and the same in both"),
            ("gone", b"in the first version only"),
            ("folder/changed", b"first"),
        ]);
        saved.keep("v1");
        fs::remove_file(saved.place.at("gone")).unwrap();
        saved.write(&[("folder/changed", b"second"), ("new", &changed)]);
        saved.keep("v2");
        saved
    }

    fn write(&self, files: &[(&str, &[u8])]) {
        for (path, bytes) in files {
            self.place.write(path, bytes);
        }
    }

    fn keep(&mut self, name: &'static str) {
        let manager = self.manager();
        let (checkpoint, _) = self.place.save(&manager);
        // What is small travels with the log until a collection makes packs of it.
        manager.collect_garbage_blocking().unwrap();
        self.checkpoints.insert(name, (checkpoint, picture(&self.place.workspace())));
        self.packs = fs::read_dir(self.place.store().join("objects/packs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect();
    }

    /// As in a new process, which trusts only what is on disk.
    fn manager(&self) -> CheckpointManager {
        self.place.manager_with(settings())
    }

    fn id(&self, name: &str) -> CheckpointId {
        self.checkpoints[name].0.id
    }

    fn name(&self, id: CheckpointId) -> &'static str {
        self.checkpoints.iter().find(|(_, (checkpoint, _))| checkpoint.id == id).unwrap().0
    }

    fn objects(&self) -> Vec<Object> {
        self.packs.keys().flat_map(|path| objects(path)).collect()
    }

    /// The chunks of the large file.
    fn chunks(&self) -> Vec<Object> {
        let is_chunk = |object: &Object| object.kind == 0 && object.range.len() >= 64 << 10;
        self.objects().into_iter().filter(is_chunk).collect()
    }

    fn object(&self, digest: Digest) -> Object {
        self.objects().into_iter().find(|object| object.digest == *digest.as_bytes()).unwrap()
    }

    /// The object that holds a file: its content, or the list of its chunks.
    fn file(&self, version: &str, path: &str) -> Object {
        let entries = self.manager().entries_blocking(self.id(version)).unwrap();
        let entry = entries.into_iter().find(|entry| entry.path.to_string() == path).unwrap();
        let EntryKind::File { digest, .. } = entry.kind else { panic!("{path} is no file") };
        self.object(digest)
    }

    /// The pack that holds a file.
    fn pack_of(&self, version: &str, path: &str) -> PathBuf {
        self.file(version, path).pack
    }

    fn flip(&self, pack: &Path, place: usize) {
        let mut bytes = self.packs[pack].clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(pack, bytes).unwrap();
    }

    fn flip_in(&self, object: &Object) {
        self.flip(&object.pack, object.range.start + object.range.len() / 2);
    }

    fn put_back(&self) {
        for (path, bytes) in &self.packs {
            fs::write(path, bytes).unwrap();
        }
    }

    fn verify(&self, depth: VerifyDepth) -> VerifyReport {
        self.manager().verify_to_depth_blocking(&[], depth).unwrap()
    }

    /// What damage costs: the checkpoints with the paths in them that are lost.
    fn cost(&self, report: &VerifyReport) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut cost: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        for damage in &report.damage {
            for id in &damage.checkpoints {
                let paths = damage.paths.iter().map(ToString::to_string);
                cost.entry(self.name(*id)).or_default().extend(paths);
            }
        }
        cost
    }

    /// What is not blamed restores, as it was; what is blamed is refused and leaves nothing half done.
    fn assert_restorable_but(&self, blamed: &BTreeMap<&'static str, BTreeSet<String>>, what: &str) {
        let target = self.place.path("target");
        for (name, (checkpoint, whole)) in &self.checkpoints {
            let restored = self.manager().restore_blocking(checkpoint.id, &target, RestoreMode::Empty);
            if blamed.contains_key(name) {
                assert!(restored.is_err(), "{what}: {name} is blamed and yet restored");
                assert!(!target.exists(), "{what}: {name} was restored in part");
                continue;
            }
            assert!(restored.is_ok(), "{what}: {name}: {restored:?}");
            assert_same(&picture(&target), whole, &format!("{what}: {name}"));
            fs::remove_dir_all(&target).unwrap();
        }
    }
}

/// Checkpoints with the paths in them that are lost.
fn cost(expected: &[(&'static str, &[&str])]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let text = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    expected.iter().map(|(name, paths)| (*name, text(paths))).collect()
}

const SMALL: usize = 300;
/// Several chunks.
const LARGE: usize = 3 << 20;

#[test]
fn a_quick_look_finds_a_missing_pack_and_what_it_costs() {
    let saved = Saved::new(SMALL);
    assert_eq!(saved.verify(VerifyDepth::Quick).damage, []);
    assert_eq!(saved.packs.len(), 3);
    let expected: [(&str, &str, &[&str]); 3] =
        [("other", "elsewhere/x", &["other"]), ("v1", "shared", &["v1", "v2"]), ("v2", "new", &["v2"])];
    for (version, path, blamed) in expected {
        let pack = saved.pack_of(version, path);
        fs::remove_file(&pack).unwrap();
        for depth in [VerifyDepth::Quick, VerifyDepth::Full] {
            let report = saved.verify(depth);
            let cost = saved.cost(&report);
            assert_eq!(cost.keys().copied().collect::<Vec<_>>(), blamed, "{depth:?}: {report:?}");
            let name = pack.file_name().unwrap().to_str().unwrap();
            assert!(report.damage.iter().any(|damage| damage.object.contains(name)), "{report:?}");
            saved.assert_restorable_but(&cost, &format!("without the pack of {version}"));
        }
        saved.put_back();
    }
}

#[test]
fn a_quick_look_finds_every_flipped_byte_of_an_index() {
    let saved = Saved::new(SMALL);
    let pack = saved.pack_of("v2", "new");
    let length = saved.packs[&pack].len();
    let header = 0..12;
    for place in header.chain(index_start(&saved.packs[&pack])..length) {
        saved.flip(&pack, place);
        let report = saved.verify(VerifyDepth::Quick);
        assert!(!report.damage.is_empty(), "byte {place} of {length}");
        assert!(!saved.cost(&report).contains_key("other"), "byte {place} of {length}: {report:?}");
    }
    saved.put_back();
    assert_eq!(saved.verify(VerifyDepth::Quick).damage, []);
}

#[test]
fn a_full_look_finds_every_flipped_byte_and_names_the_files_it_costs() {
    let saved = Saved::new(SMALL);
    // A checkpoint that has the file, the file, and all checkpoints that have it.
    let files: [(&str, &str, &[&str]); 5] = [
        ("other", "elsewhere/deep/y", &["other"]),
        ("v1", "shared", &["v1", "v2"]),
        ("v1", "large", &["v1", "v2"]),
        ("v1", "gone", &["v1"]),
        ("v2", "new", &["v2"]),
    ];
    for (version, path, expected) in files {
        let object = saved.file(version, path);
        for place in object.range.clone() {
            saved.flip(&object.pack, place);
            let report = saved.verify(VerifyDepth::Full);
            let found = saved.cost(&report);
            // Whatever shares the block is lost with it, since a block is checked as a whole.
            for name in expected {
                let is_named = found.get(name).is_some_and(|lost| lost.contains(path));
                assert!(is_named, "byte {place} of {path} in {version}: {report:?}");
            }
            if version != "other" {
                assert!(!found.contains_key("other"), "byte {place} of {path} in {version}: {report:?}");
            }
        }
        saved.assert_restorable_but(&saved.cost(&saved.verify(VerifyDepth::Full)), path);
        saved.put_back();
    }
}

#[test]
fn a_full_look_finds_a_flipped_byte_in_each_chunk_of_a_large_file() {
    let saved = Saved::new(LARGE);
    let chunks = saved.chunks();
    assert!(chunks.len() >= 3, "{} chunks", chunks.len());
    for chunk in &chunks {
        for place in [chunk.range.start, chunk.range.end - 1] {
            saved.flip(&chunk.pack, place);
            let report = saved.verify(VerifyDepth::Full);
            let found = saved.cost(&report);
            for version in ["v1", "v2"] {
                assert!(found.get(version).is_some_and(|lost| lost.contains("large")), "{report:?}");
            }
            saved.put_back();
        }
    }
}

impl Saved {
    /// Heals from the workspace, which is as the second version, and looks at what the report says.
    fn heal(&self, what: &str) -> HealReport {
        let before = picture(&self.place.workspace());
        let listed = self.manager().list_blocking().unwrap();
        let found = self.verify(VerifyDepth::Full);
        assert!(!self.cost(&found).is_empty(), "{what}: there is something to heal");
        let report = self.manager().heal_blocking(&self.place.workspace()).unwrap();
        assert_eq!(report.before.damage, found.damage, "{what}");
        assert_eq!(self.verify(VerifyDepth::Full).damage, report.after.damage, "{what}");
        assert_eq!(
            self.manager().list_blocking().unwrap().len(),
            listed.len(),
            "{what}: no checkpoint is made"
        );
        assert_same(&picture(&self.place.workspace()), &before, what);
        report
    }

    /// A fresh store for each damage, since healing adds to it.
    fn damaged(large_size_bytes: usize, damage: impl FnOnce(&Self)) -> Self {
        let saved = Self::new(large_size_bytes);
        damage(&saved);
        saved
    }
}

/// Does damage to a store.
type Deed = fn(&Saved);

#[test]
fn damage_that_the_workspace_still_has_the_bytes_of_is_healed() {
    let damages: [(&str, Deed); 4] = [
        ("the content of a small file", |saved| saved.flip_in(&saved.file("v2", "new"))),
        ("the page of the root", |saved| saved.flip_in(&saved.object(saved.checkpoints["v2"].0.tree))),
        ("a chunk of a large file", |saved| saved.flip_in(&saved.chunks()[1])),
        ("the list of the chunks of a large file", |saved| saved.flip_in(&saved.file("v2", "large"))),
    ];
    for (what, damage) in damages {
        let saved = Saved::damaged(LARGE, damage);
        let report = saved.heal(what);
        assert!(report.objects_healed > 0, "{what}");
        // The damaged copy is gone as well.
        assert_eq!(report.after.damage, [], "{what}");
        saved.assert_restorable_but(&saved.cost(&report.after), what);
        // There is nothing left to heal.
        let again = saved.manager().heal_blocking(&saved.place.workspace()).unwrap();
        assert_eq!((again.objects_healed, again.after.damage), (0, report.after.damage), "{what}");
    }
}

#[test]
fn what_only_an_older_version_had_is_still_named_after_healing() {
    let mut paths = vec!["gone"];
    let saved = Saved::damaged(LARGE, |saved| {
        let gone = saved.file("v1", "gone");
        saved.flip_in(&gone);
        // The other file of which the workspace has another version shares its fate if it shares its block.
        let changed = saved.file("v1", "folder/changed");
        if (&changed.pack, changed.block) == (&gone.pack, gone.block) {
            paths.push("folder/changed");
        }
    });
    let report = saved.heal("older contents");
    let lost = saved.cost(&report.after);
    assert_eq!(lost, cost(&[("v1", &paths)]), "{report:?}");
    saved.assert_restorable_but(&lost, "older contents");
}

#[test]
fn a_missing_pack_is_healed_level_by_level_and_what_no_workspace_has_is_still_named() {
    let saved = Saved::damaged(LARGE, |saved| fs::remove_file(saved.pack_of("v1", "shared")).unwrap());
    let report = saved.heal("the first version's pack");
    // Its page of the root named two files as they are no more.
    let lost = saved.cost(&report.after);
    assert_eq!(lost, cost(&[("v1", &[])]), "the whole of v1 is lost: {report:?}");
    saved.assert_restorable_but(&lost, "the first version's pack");
    // What a checkpoint says of itself stands in the log.
    assert_eq!(listed(&saved), ["other", "v1", "v2"].map(|name| saved.id(name)).into());

    let saved = Saved::damaged(LARGE, |saved| fs::remove_file(saved.pack_of("v2", "new")).unwrap());
    let report = saved.heal("the second version's pack");
    assert_eq!(saved.cost(&report.after), cost(&[]), "{report:?}");
    assert_eq!(listed(&saved), ["other", "v1", "v2"].map(|name| saved.id(name)).into());
    saved.assert_restorable_but(&cost(&[]), "the second version's pack");
}

fn listed(saved: &Saved) -> BTreeSet<CheckpointId> {
    saved.manager().list_blocking().unwrap().into_iter().map(|checkpoint| checkpoint.id).collect()
}

#[test]
fn a_workspace_that_has_none_of_it_heals_nothing_and_harms_nothing() {
    let saved = Saved::damaged(SMALL, |saved| saved.flip_in(&saved.file("v2", "new")));
    for path in ["large", "shared", "new", "folder/deep/shared"] {
        saved.write(&[(path, b"changed since")]);
    }
    let report = saved.heal("a changed workspace");
    // Only what was beside it in its block, if anything was.
    assert!(report.objects_healed <= 1, "{report:?}");
    assert_eq!(saved.cost(&report.after), cost(&[("v2", &["new"])]));
    saved.assert_restorable_but(&saved.cost(&report.after), "a changed workspace");
}

#[test]
fn an_undamaged_store_is_not_added_to_by_healing() {
    let saved = Saved::new(SMALL);
    saved.write(&[("not stored", b"and not to be stored")]);
    let report = saved.manager().heal_blocking(&saved.place.workspace()).unwrap();
    assert_eq!((report.objects_healed, report.before.damage, report.after.damage), (0, vec![], vec![]));
    assert_eq!(fs::read_dir(saved.place.store().join("objects/packs")).unwrap().count(), saved.packs.len());
}

#[test]
fn bytes_behind_the_end_of_a_pack_are_found_by_a_quick_look() {
    let saved = Saved::damaged(LARGE, |saved| {
        let path = saved.pack_of("v1", "shared");
        let longer = [&fs::read(&path).unwrap()[..], b"more"].concat();
        fs::write(&path, longer).unwrap();
    });
    let report = saved.manager().verify_to_depth_blocking(&[], VerifyDepth::Quick).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!(report.damage[0].problem.contains("bytes, not"), "{report:?}");
}
