//! The other component trait of this crate: a rule about what an edit may touch.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use evoseal_types::{Change, EntryPath};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What a proposal did to the workspace.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// The workspace with the edit in it.
    pub workspace: &'a Path,
    /// What changed against the incumbent, in path order, ignored files excluded.
    pub changes: &'a [Change],
}

/// One thing that an edit must not have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The guard that objects.
    pub guard: String,
    /// How much it matters.
    pub kind: ViolationKind,
    /// The entry that it objects to; `None` where the edit as a whole is at fault.
    pub path: Option<EntryPath>,
    /// One sentence for people.
    pub reason: String,
}

/// What kind of violation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// The edit touches something outside its scope.
    OutOfScope,
    /// The edit touches what judges it: tests, the evaluator, the settings.
    Tampered,
    /// The edit is larger than allowed.
    TooLarge,
}

/// A rule about what an edit may touch, checked on its result.
///
/// # Contract
///
/// - *On the result.* A guard looks at what stands in the workspace after the edit, never at what the proposer says it
///   did. Additions and removals count like modifications.
/// - *Complete.* Every violation is returned, in path order; an empty list means that the guard allows the edit.
/// - *Repeatable.* `check` changes nothing and may run again, for instance after the evaluation.
/// - *Errors* mean that the guard could not look. A caller must treat an error as a denial.
///
/// A guard of one's own takes a few lines; the feature `conformance` has a suite for those that protect a part of the tree.
///
/// ```
/// use evoseal_sandbox::{Edit, Guard, Result, Violation, ViolationKind};
/// use evoseal_types::{Change, ChangeKind, EntryPath};
///
/// /// Nothing is ever deleted.
/// #[derive(Debug)]
/// struct AppendOnly;
///
/// impl Guard for AppendOnly {
///     fn name(&self) -> &'static str {
///         "append-only"
///     }
///
///     fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>> {
///         let removed = edit.changes.iter().filter(|change| change.kind == ChangeKind::Removed);
///         let violation = |change: &Change| Violation {
///             guard: self.name().to_owned(),
///             kind: ViolationKind::OutOfScope,
///             path: Some(change.path.clone()),
///             reason: format!("{} was removed", change.path),
///         };
///         Ok(removed.map(violation).collect())
///     }
/// }
///
/// let removed = Change {
///     path: EntryPath::new("notes.md").unwrap(),
///     kind: ChangeKind::Removed,
///     size_bytes_before: Some(10),
///     size_bytes_after: None,
///     digest_after: None,
/// };
/// let edit = Edit { workspace: "/workspace".as_ref(), changes: &[removed] };
/// assert_eq!(AppendOnly.check(&edit)?[0].reason, "notes.md was removed");
/// # Ok::<(), evoseal_sandbox::Error>(())
/// ```
pub trait Guard: fmt::Debug + Send + Sync {
    /// The guard's name in violations.
    fn name(&self) -> &'static str;

    /// Objections to an edit.
    fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_guard {
    ($pointer:ident) => {
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<G: Guard + ?Sized> Guard for $pointer<G> {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn check(&self, edit: &Edit<'_>) -> Result<Vec<Violation>> {
                (**self).check(edit)
            }
        }
    };
}

forward_guard!(Arc);
forward_guard!(Box);
