//! A workspace and a store beside it, and a picture of a tree that two trees are compared by.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test program takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use evoseal_checkpoint::{
    CaptureStats, Checkpoint, CheckpointManager, CheckpointSettings, NewCheckpoint, RestoreMode,
    RestoreReport, Result, Source,
};
use evoseal_types::CheckpointId;
use tempfile::TempDir;

/// Set in a test program that another one started, to run one test in other circumstances.
const INNER: &str = "EVOSEAL_TEST_INNER";

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    /// As in `chmod`; that of a symlink says nothing and is 0.
    pub(crate) mode: u32,
    /// The first path, in order, that is the same file; a folder is only itself.
    pub(crate) same_as: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Folder,
    Other,
}

pub(crate) type Picture = BTreeMap<PathBuf, Seen>;

/// Everything below `root`; contents, so not for sparse giants.
pub(crate) fn picture(root: &Path) -> Picture {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let kind = if stat.is_dir() {
                pending.push(path.clone());
                Kind::Folder
            } else if stat.is_symlink() {
                Kind::Symlink(fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else if stat.is_file() {
                Kind::File(fs::read(&path).unwrap())
            } else {
                Kind::Other
            };
            let mode = if stat.is_symlink() { 0 } else { stat.mode() & 0o7777 };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (kind, mode, stat.ino()));
        }
    }
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    found
        .into_iter()
        .map(|(path, (kind, mode, inode))| {
            let same_as = first.entry(inode).or_insert_with(|| path.clone()).clone();
            (path, Seen { kind, mode, same_as })
        })
        .collect()
}

/// The paths at which two pictures differ.
pub(crate) fn differing(left: &Picture, right: &Picture) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        left.keys().chain(right.keys()).filter(|path| left.get(*path) != right.get(*path)).cloned().collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Two pictures are equal; if not, only the paths are shown, since contents may be long.
pub(crate) fn assert_same(found: &Picture, expected: &Picture, what: &str) {
    let paths = differing(found, expected);
    assert!(paths.is_empty(), "{what}: {paths:?} differ");
}

/// Names directly in a directory.
pub(crate) fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder for one test, removed in the end.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("workspace")).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    /// A path below the workspace.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.workspace().join(path)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn manager(&self) -> CheckpointManager {
        self.manager_with(CheckpointSettings::default())
    }

    pub(crate) fn manager_with(&self, settings: CheckpointSettings) -> CheckpointManager {
        CheckpointManager::builder().directory(self.store()).settings(settings).open_or_create().unwrap()
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    pub(crate) fn save(&self, manager: &CheckpointManager) -> (Checkpoint, CaptureStats) {
        self.try_save(manager).unwrap()
    }

    pub(crate) fn try_save(&self, manager: &CheckpointManager) -> Result<(Checkpoint, CaptureStats)> {
        let source = Source::Directory(self.workspace());
        manager.create_blocking(&source, NewCheckpoint::of("v".parse().unwrap()))
    }

    /// Brings the workspace back in place.
    pub(crate) fn roll_back(&self, manager: &CheckpointManager, id: CheckpointId) -> RestoreReport {
        manager.restore_blocking(id, &self.workspace(), RestoreMode::InPlace).unwrap()
    }

    /// Restores into a folder that does not exist yet.
    pub(crate) fn unpack(&self, manager: &CheckpointManager, id: CheckpointId, name: &str) -> PathBuf {
        let target = self.path(name);
        manager.restore_blocking(id, &target, RestoreMode::Empty).unwrap();
        target
    }
}

impl Drop for Place {
    /// Who is not root cannot remove what lies in a read-only folder.
    fn drop(&mut self) {
        let mut pending = vec![self.directory.path().to_owned()];
        while let Some(folder) = pending.pop() {
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                pending.push(entry.path());
            }
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this program was started by [`run_inner`].
pub(crate) fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Runs one test of this program once more, behind `wrapper`, which is a command that runs its arguments.
pub(crate) fn run_inner(wrapper: &[&str], test: &str) {
    // A folder and a program that any user may reach.
    let place = tempfile::tempdir().unwrap();
    chmod(place.path(), 0o777);
    let program = place.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    chmod(&program, 0o755);
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(&program)
        .args(["--exact", test, "--nocapture"])
        .env(INNER, "1")
        .env("TMPDIR", place.path())
        .current_dir(place.path())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{wrapper:?} {test}: {said}");
}
