//! The differences that a round trip, or a rollback, may leave: all of them, with the reason of each. Every other one is a
//! failure.

/// One difference between two trees, as the comparison names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The field, or `missing`, or `extra`.
    pub(crate) class: String,
    /// The path, as the comparison escapes it.
    pub(crate) path: String,
    /// From what to what.
    pub(crate) what: String,
}

/// Allowed for everyone: class, how the path begins, and why.
const ALWAYS: &[(&str, &str, &str)] = &[
    ("missing", "special", "sockets, pipes and devices are skipped, and named in the report"),
    ("uid", "", "a restored entry belongs to whoever restores it"),
    ("gid", "", "a restored entry belongs to whoever restores it"),
    ("mode", "modes/f", "the set-user and set-group bits lend rights: not captured, and named in the report"),
    (
        "mode",
        "owners/u",
        "the set-user and set-group bits lend rights: not captured, and named in the report",
    ),
    ("xattrs", "xattrs/caps", "file capabilities lend rights: not captured"),
    ("link_group", "hardlink-out/inside-name", "the other name of the file lies outside of the tree"),
    ("sparse", "sizes/zeros-dense", "a long run of zeros comes back as a hole"),
    (
        "sha256",
        "sparse/hole-64G",
        "so long a file is compared by where its data lies; a hole may begin some blocks earlier",
    ),
];

/// What the store does not keep yet. This list is to become empty.
const NOT_YET: &[(&str, &str, &str)] = &[];

/// Allowed in a project that was rolled back.
const IN_ROLLBACK: &[(&str, &str, &str)] = &[
    (
        "mode",
        "modes/f6755",
        "the set-user and set-group bits lend rights: not captured, and named in the report",
    ),
    ("link_group", "hardlink-out/inside-name", "the other name of the file lies outside of the tree"),
    (
        "link_group",
        "workspace.outside",
        "the other name of the file was in the tree, and is a file of its own",
    ),
    ("sparse", "sizes/zeros-dense", "a long run of zeros comes back as a hole"),
    ("mtime_ns", "hardlinks/", "all names of a file are written anew with one of them"),
    ("mtime_ns", "git/nested", SELF_IGNORED),
    ("mtime_ns", "git/sub", SELF_IGNORED),
    ("missing", "git/nested/.gitattributes", SELF_IGNORED),
    ("missing", "git/nested/.gitignore", SELF_IGNORED),
    ("missing", "git/nested/ignored-but-real", SELF_IGNORED),
    ("missing", "git/sub/deeper/.gitattributes", SELF_IGNORED),
    ("missing", "git/sub/deeper/.gitignore", SELF_IGNORED),
    ("missing", "git/sub/deeper/ignored-but-real", SELF_IGNORED),
];
const SELF_IGNORED: &str = "rules that ignore themselves are in no checkpoint, and could be a candidate's: what they hide goes, and is saved first";

pub(crate) fn is_allowed(difference: &Difference) -> bool {
    ALWAYS.iter().chain(NOT_YET).any(|allowed| difference.is(allowed))
}

pub(crate) fn is_allowed_in_rollback(difference: &Difference) -> bool {
    IN_ROLLBACK.iter().any(|allowed| difference.is(allowed))
}

impl Difference {
    fn is(&self, (class, path, _): &(&str, &str, &str)) -> bool {
        self.class == *class && self.path.starts_with(path)
    }
}
