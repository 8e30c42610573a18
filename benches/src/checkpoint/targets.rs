//! What is aimed at, as ours over another's wall time.

use super::Operation::{self, Changed, First, Inserted, Remove, Restore, RollBack, Same};

/// Tree, operation, other system, ratio at most.
const TARGETS: [(&str, Operation, &str, f64); 46] = [
    ("M", First, "git", 0.13),
    ("L", First, "git", 0.12),
    ("M", First, "restic", 0.16),
    ("L", First, "restic", 0.22),
    ("M", First, "bupstash", 0.34),
    ("L", First, "bupstash", 0.38),
    ("M", First, "floor", 1.75),
    ("L", First, "floor", 1.5),
    ("S", Same, "git", 0.5),
    ("M", Same, "git", 0.43),
    ("L", Same, "git", 0.42),
    ("L", Same, "git-tuned", 0.6),
    ("S", Same, "restic", 0.01),
    ("M", Same, "restic", 0.026),
    ("L", Same, "restic", 0.06),
    ("S", Same, "floor", 1.5),
    ("M", Same, "floor", 1.5),
    ("L", Same, "floor", 1.5),
    ("S", Changed, "git", 0.55),
    ("M", Changed, "git", 0.4),
    ("L", Changed, "git", 0.4),
    ("S", Changed, "restic", 0.014),
    ("M", Changed, "restic", 0.035),
    ("L", Changed, "restic", 0.07),
    ("M", Restore, "git", 0.24),
    ("L", Restore, "git", 0.32),
    ("M", Restore, "restic", 0.13),
    ("L", Restore, "restic", 0.4),
    ("M", Restore, "floor", 1.6),
    ("L", Restore, "floor", 1.4),
    ("S", RollBack, "git", 0.75),
    ("M", RollBack, "git", 0.45),
    ("L", RollBack, "git", 0.38),
    ("S", RollBack, "restic", 0.015),
    ("M", RollBack, "restic", 0.03),
    ("L", RollBack, "restic", 0.045),
    ("big", First, "git", 0.05),
    ("big", Changed, "git", 0.02),
    ("big", Inserted, "git", 0.02),
    ("big", Restore, "git", 0.33),
    ("big", First, "restic", 0.15),
    ("big", Changed, "restic", 0.17),
    ("big", Inserted, "restic", 0.17),
    ("big", Restore, "restic", 0.25),
    ("series", Remove, "git", 0.1),
    ("series", Remove, "restic", 0.04),
];

/// The largest ratio that is aimed at, if there is one.
pub(crate) fn target(tree: &str, operation: Operation, other: &str) -> Option<f64> {
    let other = other.strip_suffix("-library").unwrap_or(other);
    TARGETS
        .iter()
        .find(|(t, o, s, _)| (*t, *o, *s) == (tree, operation, other))
        .map(|(_, _, _, ratio)| *ratio)
}
