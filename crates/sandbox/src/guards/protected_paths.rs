//! The guard that knows what an edit must not touch.

use std::collections::BTreeMap;
use std::path::Path;

use evoseal_types::{ChangeKind, EntryPath};

use super::tree::{self, Entry};
use crate::patterns::{Case, Patterns};
use crate::{Edit, Guard, Result, Violation, ViolationKind};

/// Compares what must not change with what stood there when it was pinned: contents, kinds, modes, symlink targets.
///
/// It reads the tree itself and does not rely on the list of changes, so it also sees files that are ignored, and what
/// the evaluation did after the edit. Things that appear count like things that change: a new `conftest.py` decides
/// about the tests as much as an edited one. Patterns are not sensitive to case, because on some file systems, and for
/// some tools, `Conftest.py` is `conftest.py`.
///
/// Symlinks are never followed, and a link in the place of a protected file or of a folder above it is a violation even if
/// what it leads to has the same content. A file whose mode or size differs is not read.
///
/// ```
/// use evoseal_sandbox::{Edit, Guard, ProtectedPaths};
///
/// let workspace = tempfile::tempdir()?;
/// std::fs::create_dir(workspace.path().join("tests"))?;
/// std::fs::write(workspace.path().join("tests/a.rs"), "assert!(works());")?;
/// let protected = ProtectedPaths::pin(workspace.path(), ["tests/**"])?;
///
/// std::fs::write(workspace.path().join("tests/a.rs"), "assert!(true);")?;
/// let edit = Edit { workspace: workspace.path(), changes: &[] };
/// assert_eq!(protected.check(&edit)?[0].reason, "tests/a.rs is protected and was modified");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ProtectedPaths {
    patterns: Patterns,
    pinned: BTreeMap<EntryPath, Entry>,
}

impl ProtectedPaths {
    /// Takes down all entries of `workspace` that match one of the patterns, as they are now. A pattern with `!` before it
    /// takes entries out, such as `!target/**` for what a build leaves behind.
    pub fn pin<P: AsRef<str>>(workspace: &Path, patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        let patterns = Patterns::new(patterns, Case::Insensitive)?;
        let pinned = tree::read(workspace, &patterns, |_, _| true)?;
        Ok(Self { patterns, pinned })
    }

    /// The entries that were pinned, in path order.
    pub fn pinned(&self) -> impl Iterator<Item = &EntryPath> {
        self.pinned.keys()
    }
}

impl Guard for ProtectedPaths {
    fn name(&self) -> &'static str {
        "protected-paths"
    }

    fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>> {
        let same_shape = |path: &EntryPath, now: &Entry| {
            self.pinned.get(path).is_some_and(|then| shape_difference(then, now).is_none())
        };
        let mut now = tree::read(edit.workspace, &self.patterns, same_shape)?;
        let mut differences = BTreeMap::new();
        for (path, then) in &self.pinned {
            let difference = match now.remove(path) {
                None => Some(ChangeKind::Removed),
                Some(now) => difference(then, &now),
            };
            differences.extend(difference.map(|kind| (path, kind)));
        }
        differences.extend(now.keys().map(|path| (path, ChangeKind::Added)));
        let violation = |(path, kind): (&EntryPath, ChangeKind)| Violation {
            guard: self.name().to_owned(),
            kind: ViolationKind::Tampered,
            path: Some(path.clone()),
            reason: format!("{path} is protected and was {}", participle(kind)),
        };
        Ok(differences.into_iter().map(violation).collect())
    }
}

/// What differs without reading content. The size of a folder is the file system's business.
fn shape_difference(then: &Entry, now: &Entry) -> Option<ChangeKind> {
    use rustix::fs::FileType;
    if then.kind != now.kind {
        Some(ChangeKind::KindChanged)
    } else if then.size_bytes != now.size_bytes && then.kind != FileType::Directory {
        Some(ChangeKind::Modified)
    } else if then.mode != now.mode {
        Some(ChangeKind::ModeChanged)
    } else {
        None
    }
}

fn difference(then: &Entry, now: &Entry) -> Option<ChangeKind> {
    shape_difference(then, now).or_else(|| (then.digest != now.digest).then_some(ChangeKind::Modified))
}

const fn participle(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "added",
        ChangeKind::Modified => "modified",
        ChangeKind::Removed => "removed",
        ChangeKind::ModeChanged => "given another mode",
        ChangeKind::KindChanged => "replaced by another kind of entry",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn reasons(protected: &ProtectedPaths, workspace: &Path) -> Vec<String> {
        let violations = protected.check(&Edit { workspace, changes: &[] }).unwrap();
        violations.into_iter().map(|violation| violation.reason).collect()
    }

    #[test]
    fn a_folder_behind_a_symlink_counts_as_removed_even_with_equal_content() {
        let workspace = tempfile::tempdir().unwrap();
        let (tests, aside) = (workspace.path().join("tests"), workspace.path().join("aside"));
        fs::create_dir(&tests).unwrap();
        fs::write(tests.join("a"), "1").unwrap();
        let protected = ProtectedPaths::pin(workspace.path(), ["tests/**"]).unwrap();
        fs::rename(&tests, &aside).unwrap();
        symlink("aside", &tests).unwrap();
        assert_eq!(reasons(&protected, workspace.path()), ["tests/a is protected and was removed"]);
    }

    #[test]
    fn a_link_to_a_pipe_or_an_unreadable_file_neither_blocks_nor_fails() {
        let workspace = tempfile::tempdir().unwrap();
        let path = |name: &str| workspace.path().join(name);
        for name in ["a", "b", "c"] {
            fs::write(path(name), "x").unwrap();
        }
        let protected = ProtectedPaths::pin(workspace.path(), ["*"]).unwrap();
        fs::remove_file(path("a")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("a"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        fs::set_permissions(path("b"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::remove_file(path("c")).unwrap();
        symlink("/proc/self/mem", path("c")).unwrap();
        assert_eq!(
            reasons(&protected, workspace.path()),
            [
                "a is protected and was replaced by another kind of entry",
                "b is protected and was given another mode",
                "c is protected and was replaced by another kind of entry",
            ]
        );
    }

    #[test]
    fn a_huge_sparse_file_is_refused_without_being_read() {
        let workspace = tempfile::tempdir().unwrap();
        fs::write(workspace.path().join("a"), "x").unwrap();
        let protected = ProtectedPaths::pin(workspace.path(), ["*"]).unwrap();
        for name in ["a", "b"] {
            fs::File::create(workspace.path().join(name)).unwrap().set_len(1 << 40).unwrap();
        }
        assert_eq!(
            reasons(&protected, workspace.path()),
            ["a is protected and was modified", "b is protected and was added"]
        );
    }

    #[test]
    fn a_tree_that_is_nested_too_deep_is_an_error() {
        let workspace = tempfile::tempdir().unwrap();
        let protected = ProtectedPaths::pin(workspace.path(), ["*"]).unwrap();
        fs::create_dir_all(workspace.path().join("d/".repeat(140))).unwrap();
        assert!(protected.check(&Edit { workspace: workspace.path(), changes: &[] }).is_err());
    }
}
