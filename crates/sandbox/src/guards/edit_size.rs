//! The guard that knows how much an edit may change.

use crate::{Edit, Guard, Result, Violation, ViolationKind};

/// Refuses edits that touch too many entries or write too much.
///
/// Every entry that changed counts as one, folders included. The bytes of an edit are the sizes that its added and
/// changed files have afterwards; removing costs none. An empty edit is not this guard's business.
///
/// ```
/// use evoseal_sandbox::{Edit, EditSize, Guard};
/// use evoseal_types::{Change, ChangeKind, EntryPath};
///
/// let change = Change {
///     path: EntryPath::new("data.bin").unwrap(),
///     kind: ChangeKind::Added,
///     size_bytes_before: None,
///     size_bytes_after: Some(5_000),
///     digest_after: None,
/// };
/// let edit = Edit { workspace: "/workspace".as_ref(), changes: &[change] };
/// assert!(EditSize::new(10, 5_000).check(&edit)?.is_empty());
/// let violations = EditSize::new(10, 4_999).check(&edit)?;
/// assert_eq!(violations[0].reason, "the edit writes 5000 bytes, and at most 4999 are allowed");
/// # Ok::<(), evoseal_sandbox::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditSize {
    entries_max: usize,
    bytes_max: u64,
}

impl EditSize {
    /// Allows edits of at most `entries_max` entries and `bytes_max` bytes.
    pub const fn new(entries_max: usize, bytes_max: u64) -> Self {
        Self { entries_max, bytes_max }
    }

    fn violation(self, reason: String) -> Violation {
        Violation { guard: self.name().to_owned(), kind: ViolationKind::TooLarge, path: None, reason }
    }
}

impl Guard for EditSize {
    fn name(&self) -> &'static str {
        "edit-size"
    }

    fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let entries = edit.changes.len();
        if entries > self.entries_max {
            let max = self.entries_max;
            violations.push(
                self.violation(format!("the edit touches {entries} entries, and at most {max} are allowed")),
            );
        }
        let sizes = edit.changes.iter().filter_map(|change| change.size_bytes_after);
        let bytes = sizes.fold(0, u64::saturating_add);
        if bytes > self.bytes_max {
            let max = self.bytes_max;
            violations.push(
                self.violation(format!("the edit writes {bytes} bytes, and at most {max} are allowed")),
            );
        }
        Ok(violations)
    }
}

#[cfg(test)]
mod tests {
    use evoseal_types::{Change, ChangeKind, EntryPath};

    use super::*;

    #[test]
    fn both_bounds_are_reported_and_huge_sizes_do_not_wrap() {
        let change = |path: &str| Change {
            path: EntryPath::new(path).unwrap(),
            kind: ChangeKind::Modified,
            size_bytes_before: Some(0),
            size_bytes_after: Some(u64::MAX),
            digest_after: None,
        };
        let edit = Edit { workspace: "/".as_ref(), changes: &[change("a"), change("b")] };
        assert_eq!(EditSize::new(1, 10).check(&edit).unwrap().len(), 2);
        assert_eq!(EditSize::new(2, u64::MAX).check(&edit).unwrap(), []);
        let nothing = Edit { changes: &[], ..edit };
        assert_eq!(EditSize::new(0, 0).check(&nothing).unwrap(), []);
    }
}
