//! Random histories against a naive model: plain copies in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use evoseal_checkpoint::{CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode, Source};
use evoseal_types::{CheckpointId, EntryPath};
use proptest::prelude::*;

/// Few names, so that kinds clash often.
const PATHS: [&str; 8] = ["a", "b", "d/a", "d/e/b", "d/e", "d.x", "link", "z\n\u{fc}"];

#[derive(Debug, Clone)]
enum Step {
    Write { path: usize, content: u8, length: usize },
    MakeFolder { path: usize },
    Link { path: usize, target: u8 },
    SetExecutable { path: usize, executable: bool },
    Remove { path: usize },
    Checkpoint,
    Delete { which: usize },
    RestoreInPlace { which: usize },
    RestoreElsewhere { which: usize },
    Reopen,
    Collect,
}

/// Entries of a tree by path, as text.
type Tree = BTreeMap<String, String>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = 0..PATHS.len();
    let length = prop_oneof![Just(0_usize), 1..50_usize, Just(70_000), Just(1_200_000)];
    let step = prop_oneof![
        4 => (path.clone(), any::<u8>(), length)
            .prop_map(|(path, content, length)| Step::Write { path, content, length }),
        1 => path.clone().prop_map(|path| Step::MakeFolder { path }),
        1 => (path.clone(), any::<u8>()).prop_map(|(path, target)| Step::Link { path, target }),
        1 => (path.clone(), any::<bool>()).prop_map(|(path, executable)| Step::SetExecutable { path, executable }),
        2 => path.prop_map(|path| Step::Remove { path }),
        4 => Just(Step::Checkpoint),
        1 => any::<usize>().prop_map(|which| Step::Delete { which }),
        2 => any::<usize>().prop_map(|which| Step::RestoreInPlace { which }),
        1 => any::<usize>().prop_map(|which| Step::RestoreElsewhere { which }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Collect),
    ];
    proptest::collection::vec(step, 1..40)
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes room for an entry: whatever stands in the way goes, folders above are made.
fn clear(root: &Path, path: &str) {
    let mut above = root.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for part in &parts[..parts.len() - 1] {
        above.push(part);
        if !fs::symlink_metadata(&above).is_ok_and(|metadata| metadata.is_dir()) {
            remove(&above);
            fs::create_dir(&above).unwrap();
        }
    }
    remove(&root.join(path));
}

fn look(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let seen = if metadata.is_dir() {
                pending.push(path);
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else {
                let bytes = fs::read(&path).unwrap();
                let digest = evoseal_types::Digest::of(&bytes);
                format!("file {} {digest}", metadata.permissions().mode() & 0o100 != 0)
            };
            tree.insert(name, seen);
        }
    }
    tree
}

struct World {
    place: tempfile::TempDir,
    manager: CheckpointManager,
    /// Every checkpoint that should be there, in order, with the tree it should have.
    model: Vec<(CheckpointId, Tree)>,
    made: usize,
}

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("workspace")).unwrap();
        let manager = Self::open(place.path());
        Self { place, manager, model: Vec::new(), made: 0 }
    }

    fn open(place: &Path) -> CheckpointManager {
        let settings = CheckpointSettings { auto_cleanup: false, ..CheckpointSettings::default() };
        CheckpointManager::builder()
            .directory(place.join("store"))
            .settings(settings)
            .open_or_create()
            .unwrap()
    }

    fn chosen(&self, which: usize) -> Option<(CheckpointId, Tree)> {
        (!self.model.is_empty()).then(|| self.model[which % self.model.len()].clone())
    }

    fn take(&mut self, step: &Step) {
        let root = self.place.path().join("workspace");
        match *step {
            Step::Write { path, content, length } => {
                clear(&root, PATHS[path]);
                let bytes: Vec<u8> = (0..length)
                    .map(|place| content.wrapping_add((place / 7 % 251).try_into().unwrap()))
                    .collect();
                fs::write(root.join(PATHS[path]), bytes).unwrap();
            }
            Step::MakeFolder { path } => {
                clear(&root, PATHS[path]);
                fs::create_dir(root.join(PATHS[path])).unwrap();
            }
            Step::Link { path, target } => {
                clear(&root, PATHS[path]);
                symlink(format!("../target {target}"), root.join(PATHS[path])).unwrap();
            }
            Step::SetExecutable { path, executable } => {
                let path = root.join(PATHS[path]);
                if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
                    let mode = if executable { 0o755 } else { 0o644 };
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            Step::Remove { path } => remove(&root.join(PATHS[path])),
            Step::Checkpoint => {
                self.made += 1;
                let details = NewCheckpoint::of(format!("v{}", self.made).parse().unwrap());
                let (saved, _) =
                    self.manager.create_blocking(&Source::Directory(root.clone()), details).unwrap();
                self.model.push((saved.id, look(&root)));
            }
            Step::Delete { which } => {
                if let Some((id, _)) = self.chosen(which) {
                    self.manager.delete_blocking(&[id]).unwrap();
                    self.model.retain(|(other, _)| *other != id);
                }
            }
            Step::RestoreInPlace { which } => {
                if let Some((id, tree)) = self.chosen(which) {
                    self.manager.restore_blocking(id, &root, RestoreMode::InPlace).unwrap();
                    assert_eq!(look(&root), tree);
                }
            }
            Step::RestoreElsewhere { which } => {
                if let Some((id, tree)) = self.chosen(which) {
                    let target = self.place.path().join("elsewhere");
                    self.manager.restore_blocking(id, &target, RestoreMode::Empty).unwrap();
                    assert_eq!(look(&target), tree);
                    fs::remove_dir_all(target).unwrap();
                }
            }
            Step::Reopen => self.manager = Self::open(self.place.path()),
            Step::Collect => {
                self.manager.collect_garbage_blocking().unwrap();
            }
        }
    }

    fn check(&self) {
        let listed: Vec<CheckpointId> =
            self.manager.list_blocking().unwrap().iter().map(|checkpoint| checkpoint.id).collect();
        assert_eq!(listed, self.model.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    }

    fn check_everything(&self) {
        self.check();
        assert_eq!(self.manager.verify_blocking(&[]).unwrap().damage, []);
        for (id, tree) in &self.model {
            let entries = self.manager.entries_blocking(*id).unwrap();
            let paths: Vec<EntryPath> = tree.keys().map(|path| EntryPath::new(path).unwrap()).collect();
            assert_eq!(entries.into_iter().map(|entry| entry.path).collect::<Vec<_>>(), paths);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_back_what_was_saved(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(&step);
            world.check();
        }
        world.check_everything();
    }
}
