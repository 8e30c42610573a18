//! The guard that knows where an edit may go.

use evoseal_types::{Change, ChangeKind};

use crate::patterns::{Case, Patterns};
use crate::{Edit, Guard, Result, Violation, ViolationKind};

/// Allows changes only to paths that match one of a list of globs; the setting `allowed_patterns`.
///
/// `*` stays within one folder, `**` does not; `src/` means the same as `src/**`. Patterns are sensitive to case, so
/// that `Src/` is not allowed because `src/` is. A folder that appears or disappears together with something in it is
/// judged by what is in it. An empty list allows nothing.
///
/// ```
/// use evoseal_sandbox::{Edit, EditScope, Guard};
/// use evoseal_types::{Change, ChangeKind, EntryPath};
///
/// let scope = EditScope::new(["src/**", "*.md"])?;
/// let changed = |path: &str| Change {
///     path: EntryPath::new(path).unwrap(),
///     kind: ChangeKind::Modified,
///     size_bytes_before: Some(1),
///     size_bytes_after: Some(1),
///     digest_after: None,
/// };
/// let changes = [changed("README.md"), changed("src/a/b.rs"), changed("tests/c.rs")];
/// let edit = Edit { workspace: "/workspace".as_ref(), changes: &changes };
/// let violations = scope.check(&edit)?;
/// assert_eq!(violations.len(), 1);
/// assert_eq!(violations[0].reason, "tests/c.rs was modified, which is outside the scope of edits");
/// # Ok::<(), evoseal_sandbox::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EditScope {
    allowed: Patterns,
}

impl EditScope {
    /// Compiles the patterns of the paths that may change.
    pub fn new<P: AsRef<str>>(allowed_patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        Ok(Self { allowed: Patterns::new(allowed_patterns, Case::Sensitive)? })
    }
}

impl Guard for EditScope {
    fn name(&self) -> &'static str {
        "edit-scope"
    }

    fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>> {
        let outside = edit.changes.iter().filter(|change| {
            !self.allowed.matches(&change.path) && !is_folder_around_changes(change, edit.changes)
        });
        let violation = |change: &Change| Violation {
            guard: self.name().to_owned(),
            kind: ViolationKind::OutOfScope,
            path: Some(change.path.clone()),
            reason: format!("{} was {}, which is outside the scope of edits", change.path, change.kind),
        };
        let mut violations: Vec<_> = outside.map(violation).collect();
        violations.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(violations)
    }
}

/// Whether `change` is a folder that came or went with something in it.
fn is_folder_around_changes(change: &Change, changes: &[Change]) -> bool {
    let folder = change.digest_after.is_none()
        && change.size_bytes_before.is_none()
        && change.size_bytes_after.is_none()
        && matches!(change.kind, ChangeKind::Added | ChangeKind::Removed);
    let below = |other: &Change| {
        other.kind == change.kind
            && other
                .path
                .as_bytes()
                .strip_prefix(change.path.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"/"))
    };
    folder && changes.iter().any(below)
}

#[cfg(test)]
mod tests {
    use evoseal_types::{Digest, EntryPath};

    use super::*;

    fn folder(path: &str, kind: ChangeKind) -> Change {
        let path = EntryPath::new(path).unwrap();
        Change { path, kind, size_bytes_before: None, size_bytes_after: None, digest_after: None }
    }

    fn file(path: &str) -> Change {
        Change {
            size_bytes_after: Some(1),
            digest_after: Some(Digest::of(b"x")),
            ..folder(path, ChangeKind::Added)
        }
    }

    fn outside(patterns: &[&str], changes: &[Change]) -> Vec<String> {
        let edit = Edit { workspace: "/".as_ref(), changes };
        let violations = EditScope::new(patterns).unwrap().check(&edit).unwrap();
        violations.into_iter().filter_map(|violation| violation.path).map(|path| path.to_string()).collect()
    }

    #[test]
    fn a_new_folder_is_judged_by_what_is_in_it() {
        let changes = [folder("src/new", ChangeKind::Added), file("src/new/a.py")];
        assert_eq!(outside(&["src/**/*.py"], &changes), [""; 0]);
        let changes = [folder("src/new", ChangeKind::Added), file("src/new/a.so")];
        assert_eq!(outside(&["src/**/*.py"], &changes), ["src/new/a.so"]);
    }

    #[test]
    fn an_empty_folder_is_a_change_of_its_own() {
        assert_eq!(outside(&["src/**"], &[folder("docs", ChangeKind::Added)]), ["docs"]);
        let changes = [folder("docs", ChangeKind::Removed), file("docs-2/x")];
        assert_eq!(outside(&["src/**"], &changes), ["docs", "docs-2/x"]);
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert_eq!(outside(&[], &[file("a")]), ["a"]);
    }
}
