//! Choosing a part of a tree by patterns.

use std::collections::BTreeSet;

use evoseal_types::EntryPath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::difference::Difference;
use crate::store::EntryKind;
use crate::{Error, Result};

/// Patterns of paths, as in `.gitignore`: `*` and `?` stay within a name, `**` goes across folders, `[…]` and `{a,b}` are
/// choices. A pattern that matches a folder takes in everything below it.
///
/// ```
/// use evoseal_checkpoint::Patterns;
/// let patterns = Patterns::new(["src/**/*.rs", "docs"])?;
/// assert!(patterns.matches(&"src/a/b.rs".parse_path()?));
/// assert!(patterns.matches(&"docs/deep/page.md".parse_path()?));
/// assert!(!patterns.matches(&"src/notes.md".parse_path()?));
/// # trait ParsePath { fn parse_path(&self) -> Result<evoseal_types::EntryPath, evoseal_types::Error>; }
/// # impl ParsePath for str { fn parse_path(&self) -> Result<evoseal_types::EntryPath, evoseal_types::Error> { evoseal_types::EntryPath::new(self) } }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Patterns {
    set: GlobSet,
}

impl Patterns {
    /// Reads the patterns.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the pattern that is none.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        let refuse =
            |error: globset::Error| Error::Invalid { argument: "pattern", reason: error.to_string() };
        for pattern in patterns {
            let pattern = pattern.trim_end_matches('/');
            set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(refuse)?);
        }
        Ok(Self { set: set.build().map_err(refuse)? })
    }

    /// Whether the path, or a folder above it, is meant.
    pub fn matches(&self, path: &EntryPath) -> bool {
        let above = std::iter::successors(Some(path.clone()), EntryPath::parent);
        above.into_iter().any(|path| self.set.is_match(path.as_path()))
    }

    /// The differences that are meant, with the folders that they need to stand in.
    pub(crate) fn choose(&self, differences: &[Difference]) -> Result<Vec<Difference>> {
        let chosen: BTreeSet<&EntryPath> =
            differences.iter().map(|difference| &difference.path).filter(|path| self.matches(path)).collect();
        let mut needed: BTreeSet<EntryPath> = BTreeSet::new();
        for path in &chosen {
            needed.extend(std::iter::successors(path.parent(), EntryPath::parent));
        }
        let mut kept = Vec::new();
        for difference in differences {
            let is_chosen = chosen.contains(&difference.path);
            let is_needed = needed.contains(&difference.path)
                && difference.after.as_ref().is_some_and(EntryKind::is_directory);
            // Making room for what is meant would take away what is not.
            let takes_away = difference.before.as_ref().is_some_and(|before| !before.is_directory());
            if !is_chosen && is_needed && takes_away {
                return Err(Error::Invalid {
                    argument: "pattern",
                    reason: format!(
                        "{} is in the way of what it means; restore that as well",
                        difference.path
                    ),
                });
            }
            if is_chosen || (is_needed && difference.before.is_none()) {
                kept.push(difference.clone());
            }
        }
        Ok(kept)
    }
}
