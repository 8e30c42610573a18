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

/// A list of globs: `*` and `?` stay within one component, `**` crosses them, a leading `/` and `./` mean nothing.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    set: GlobSet,
}

impl Patterns {
    pub(crate) fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>, case: Case) -> Result<Self> {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let refuse = |reason: String| Error::Pattern { pattern: pattern.to_owned(), reason };
            let relative = pattern.trim_start_matches("./").trim_start_matches('/');
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
        let set = builder.build().map_err(|error| Error::Pattern {
            pattern: "all together".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { set })
    }

    pub(crate) fn matches(&self, path: &EntryPath) -> bool {
        self.set.is_match(path.as_path())
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
    fn wrong_patterns_are_named() {
        for bad in ["", "/", "a[", "../x", "src/{a"] {
            let error = Patterns::new([bad], Case::Sensitive).unwrap_err();
            assert!(matches!(&error, Error::Pattern { pattern, .. } if pattern == bad), "{error:?}");
        }
    }
}
