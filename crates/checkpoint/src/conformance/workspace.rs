//! A workspace to save and break.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const WORKS: &str = "the call must succeed";

/// A workspace in a directory of its own, with one of everything that is captured.
pub(super) struct Workspace {
    _directory: TempDir,
    pub(super) path: PathBuf,
}

impl Workspace {
    pub(super) fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("workspace");
        fs::create_dir(&path).expect("a fresh directory");
        Self { _directory: directory, path }
    }

    pub(super) fn sample() -> Self {
        let workspace = Self::empty();
        workspace.write("README", b"read me\n");
        workspace.write("src/main.rs", b"fn main() {}\n");
        workspace.write("src/deep/er/x.bin", &[0, 255, 10, 13]);
        workspace.write("src.old", b"sorts between src and src/main.rs\n");
        workspace.write("odd\nname", b"");
        workspace.write("run.sh", b"#!/bin/sh\n");
        workspace.set_executable("run.sh", true);
        fs::create_dir(workspace.path.join("empty")).expect(WORKS);
        workspace.set_executable("empty", true);
        symlink("src/main.rs", workspace.path.join("link")).expect(WORKS);
        symlink("/nowhere/at/all", workspace.path.join("dangling")).expect(WORKS);
        workspace
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8]) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().expect("below the workspace")).expect(WORKS);
        let is_new = !file.exists();
        fs::write(file, bytes).expect(WORKS);
        if is_new {
            // Whatever the process takes away from the rights of new files.
            self.set_executable(path, false);
        }
    }

    pub(super) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.at(path)).expect("the file must be there")
    }

    pub(super) fn set_executable(&self, path: &str, executable: bool) {
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).expect(WORKS);
    }
}

/// Everything below a directory by path: kind, content and executable bit as text.
pub(super) fn look(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect(WORKS) {
            let path = entry.expect(WORKS).path();
            let metadata = fs::symlink_metadata(&path).expect(WORKS);
            let seen = if metadata.is_symlink() {
                format!("symlink to {}", fs::read_link(&path).expect(WORKS).display())
            } else if metadata.is_dir() {
                pending.push(path.clone());
                "directory".to_owned()
            } else {
                let is_executable = metadata.permissions().mode() & 0o100 != 0;
                format!("file {is_executable} {:?}", fs::read(&path).expect(WORKS))
            };
            found.insert(path.strip_prefix(directory).expect("below it").to_owned(), seen);
        }
    }
    found
}
