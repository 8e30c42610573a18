//! Lists of globs over paths in a workspace.

use evoseal_types::EntryPath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{Error, Result};

/// Whether `Tests/` is the same as `tests/` for a list of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    Insensitive,
}

/// A list of globs: `*` and `?` stay within one component, `**` crosses them, a leading `/` and `./` mean nothing. A leading
/// `!` takes out what the glob after it matches, whatever the order.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    set: GlobSet,
    excluded: GlobSet,
}

impl Patterns {
    pub(crate) fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>, case: Case) -> Result<Self> {
        let (mut included, mut excluded) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let refuse = |reason: String| Error::Pattern { pattern: pattern.to_owned(), reason };
            let (builder, glob) = match pattern.strip_prefix('!') {
                Some(glob) => (&mut excluded, glob),
                None => (&mut included, pattern),
            };
            let relative = glob.trim_start_matches("./").trim_start_matches('/');
            if relative.is_empty() {
                return Err(refuse("it is empty".to_owned()));
            }
            if relative.split('/').any(|part| part == "..") {
                return Err(refuse("it leads out of the workspace".to_owned()));
            }
            // What people write for a folder means all that is in it.
            let whole = if relative.ends_with('/') { format!("{relative}**") } else { relative.to_owned() };
            let glob = GlobBuilder::new(&whole)
                .literal_separator(true)
                .case_insensitive(case == Case::Insensitive)
                .build()
                .map_err(|error| refuse(error.kind().to_string()))?;
            builder.add(glob);
        }
        let finish = |builder: GlobSetBuilder| {
            builder.build().map_err(|error| Error::Pattern {
                pattern: "all together".to_owned(),
                reason: error.to_string(),
            })
        };
        Ok(Self { set: finish(included)?, excluded: finish(excluded)? })
    }

    pub(crate) fn matches(&self, path: &EntryPath) -> bool {
        self.set.is_match(path.as_path()) && !self.excluded.is_match(path.as_path())
    }

    /// Whether nothing below this folder can match, because a pattern such as `!target/**` takes out all that is in it.
    pub(crate) fn exclude_all_in(&self, folder: &EntryPath) -> bool {
        // Only a pattern that ends in `**` or in `*` matches a name that nobody writes.
        folder.join("\u{1}/\u{1}").is_ok_and(|inner| self.excluded.is_match(inner.as_path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let patterns = Patterns::new([pattern], Case::Sensitive).unwrap();
        patterns.matches(&EntryPath::new(path).unwrap())
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_do_not() {
        assert!(matches("src/*.rs", "src/lib.rs"));
        assert!(!matches("src/*.rs", "src/deep/lib.rs"));
        assert!(matches("src/**", "src/deep/lib.rs"));
        assert!(!matches("src/**", "src-other/lib.rs"));
        assert!(matches("**/conftest.py", "conftest.py"));
        assert!(matches("tests/", "tests/a/b"));
        assert!(matches("./src/*", "src/lib.rs"));
    }

    #[test]
    fn an_exclamation_mark_takes_out_whatever_the_order() {
        let patterns = Patterns::new(["!target/**", "**/tests/**", "!**/keep.rs"], Case::Sensitive).unwrap();
        let path = |text: &str| EntryPath::new(text).unwrap();
        assert!(patterns.matches(&path("tests/a.rs")));
        assert!(!patterns.matches(&path("target/tests/a.rs")));
        assert!(!patterns.matches(&path("tests/keep.rs")));
        assert!(patterns.exclude_all_in(&path("target")));
        assert!(patterns.exclude_all_in(&path("target/debug")));
        assert!(!patterns.exclude_all_in(&path("tests")));
    }

    #[test]
    fn wrong_patterns_are_named() {
        for bad in ["", "/", "a[", "../x", "src/{a"] {
            let error = Patterns::new([bad], Case::Sensitive).unwrap_err();
            assert!(matches!(&error, Error::Pattern { pattern, .. } if pattern == bad), "{error:?}");
        }
    }
}
