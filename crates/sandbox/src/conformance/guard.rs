//! The contract of [`Guard`], for guards that protect a part of the tree.
//!
//! Each case prepares a workspace with `src/`, in which an edit may do what it likes, and `tests/`, which it must not touch,
//! has the fixture make a guard for it, edits the workspace, and asks the guard.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use evoseal_types::{Change, ChangeKind, Digest, EntryPath};

use super::{Verdict, ensure};
use crate::{Edit, Guard, Violation};

/// Makes a guard for a workspace in its incumbent state.
pub type Fixture<'a> = &'a dyn Fn(&Path) -> Box<dyn Guard>;

macro_rules! suite {
    ($dollar:tt $($case:ident)*) => {
        /// The names of all cases.
        pub const CASES: &[&str] = &[$(stringify!($case)),*];

        /// Runs the case of this name.
        pub fn run_case(name: &str, fixture: Fixture<'_>) -> Verdict {
            match name {
                $(stringify!($case) => $case(fixture),)*
                _ => Err(format!("there is no case {name:?}")),
            }
        }

        /// One test per case of the [guard suite](crate::conformance::guard), for the guards that the function makes.
        #[macro_export]
        macro_rules! guard_conformance {
            ($dollar fixture:expr) => {
                $(
                    #[test]
                    fn $case() {
                        if let Err(why) = $dollar crate::conformance::guard::$case(&$dollar fixture) {
                            panic!("{why}");
                        }
                    }
                )*
            };
        }
    };
}

suite! { $
    allows_an_edit_of_what_is_free
    allows_nothing_happening
    sees_a_modification
    sees_an_addition
    sees_a_removal
    sees_another_mode
    sees_a_symlink_in_the_place_of_a_file
    sees_a_rename
    sees_a_name_that_differs_in_case_only
    names_everything_in_path_order
    says_the_same_again
}

/// A workspace with a guard.
struct Scene {
    folder: tempfile::TempDir,
    guard: Box<dyn Guard>,
    changes: Vec<Change>,
}

impl Scene {
    fn new(fixture: Fixture<'_>) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        for path in ["src/lib.rs", "tests/a.rs", "tests/b.rs", "tests/deep/c.rs"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder.path())).map_err(|error| error.to_string())?;
            fs::write(path, "content").map_err(|error| error.to_string())?;
        }
        let guard = fixture(folder.path());
        Ok(Self { folder, guard, changes: Vec::new() })
    }

    /// Writes, or removes where there is no content, and takes the change down.
    fn edit(&mut self, path: &str, kind: ChangeKind, content: Option<&str>) -> Result<(), String> {
        let target = self.folder.path().join(path);
        match content {
            Some(content) => fs::create_dir_all(target.parent().unwrap_or(&target))
                .and_then(|()| fs::write(&target, content)),
            None => fs::remove_file(&target),
        }
        .map_err(|error| error.to_string())?;
        self.note(path, kind, content)
    }

    fn note(&mut self, path: &str, kind: ChangeKind, content: Option<&str>) -> Result<(), String> {
        let size = content.map(|content| content.len() as u64);
        self.changes.push(Change {
            path: EntryPath::new(path).map_err(|error| error.to_string())?,
            kind,
            size_bytes_before: (kind != ChangeKind::Added).then_some(7),
            size_bytes_after: size,
            digest_after: content.map(|content| Digest::of(content.as_bytes())),
        });
        self.changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    fn check(&self) -> Result<Vec<Violation>, String> {
        let edit = Edit { workspace: self.folder.path(), changes: &self.changes };
        self.guard.check(&edit).map_err(|error| format!("the guard could not look: {error}"))
    }

    /// Whether exactly these entries are objected to, in this order, each with a sentence that names it.
    fn expect(&self, expected: &[&str]) -> Verdict {
        let violations = self.check()?;
        let paths: Vec<_> = violations.iter().filter_map(|violation| violation.path.as_ref()).collect();
        let names: Vec<_> = paths.iter().map(ToString::to_string).collect();
        ensure(names == expected, || format!("the guard objects to {names:?}, expected {expected:?}"))?;
        for violation in &violations {
            ensure(violation.guard == self.guard.name(), || {
                format!("{violation:?} does not bear the guard's name")
            })?;
            ensure(!violation.reason.is_empty(), || format!("{violation:?} has no reason"))?;
        }
        Ok(())
    }
}

/// Every kind of change in `src/` passes.
pub fn allows_an_edit_of_what_is_free(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("src/lib.rs", ChangeKind::Modified, Some("other"))?;
    scene.edit("src/new.rs", ChangeKind::Added, Some("new"))?;
    scene.expect(&[])
}

/// An empty edit is no guard's business.
pub fn allows_nothing_happening(fixture: Fixture<'_>) -> Verdict {
    Scene::new(fixture)?.expect(&[])
}

/// Other content of the same length is a change.
pub fn sees_a_modification(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("tests/deep/c.rs", ChangeKind::Modified, Some("CONTENT"))?;
    scene.expect(&["tests/deep/c.rs"])
}

/// What appears counts like what changes.
pub fn sees_an_addition(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("tests/conftest.py", ChangeKind::Added, Some("skip()"))?;
    scene.expect(&["tests/conftest.py"])
}

/// What disappears counts like what changes.
pub fn sees_a_removal(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("tests/a.rs", ChangeKind::Removed, None)?;
    scene.expect(&["tests/a.rs"])
}

/// A test that is not executable any more does not run.
pub fn sees_another_mode(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    let path = scene.folder.path().join("tests/a.rs");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    scene.note("tests/a.rs", ChangeKind::ModeChanged, Some("content"))?;
    scene.expect(&["tests/a.rs"])
}

/// A link to equal content can lead to other content later.
pub fn sees_a_symlink_in_the_place_of_a_file(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    let path = scene.folder.path().join("tests/a.rs");
    fs::remove_file(&path)
        .and_then(|()| symlink("../src/lib.rs", path))
        .map_err(|error| error.to_string())?;
    scene.note("tests/a.rs", ChangeKind::KindChanged, None)?;
    scene.expect(&["tests/a.rs"])
}

/// Moving a test away, even to where edits are free, removes it.
pub fn sees_a_rename(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("tests/a.rs", ChangeKind::Removed, None)?;
    scene.edit("src/a.rs", ChangeKind::Added, Some("content"))?;
    scene.expect(&["tests/a.rs"])
}

/// `Tests/` is `tests/` for some file systems and tools, and `SRC/` is not `src/` for others.
pub fn sees_a_name_that_differs_in_case_only(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("Tests/a.rs", ChangeKind::Added, Some("content"))?;
    scene.expect(&["Tests/a.rs"])
}

/// All violations, not only the first, and in path order.
pub fn names_everything_in_path_order(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("tests/deep/c.rs", ChangeKind::Modified, Some("x"))?;
    scene.edit("tests/b.rs", ChangeKind::Removed, None)?;
    scene.edit("tests/a2.rs", ChangeKind::Added, Some("x"))?;
    scene.expect(&["tests/a2.rs", "tests/b.rs", "tests/deep/c.rs"])
}

/// A check changes nothing.
pub fn says_the_same_again(fixture: Fixture<'_>) -> Verdict {
    let mut scene = Scene::new(fixture)?;
    scene.edit("tests/a.rs", ChangeKind::Modified, Some("x"))?;
    let (first, second) = (scene.check()?, scene.check()?);
    ensure(!first.is_empty() && first == second, || format!("first {first:?}, then {second:?}"))
}
