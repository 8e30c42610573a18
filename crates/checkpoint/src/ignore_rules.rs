//! Which entries of a workspace are left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The files whose lines are patterns; where both are in a folder, the second one has the last word.
pub(crate) const IGNORE_FILES: [&[u8]; 2] = [b".gitignore", b".evosealignore"];

/// The longest ignore file that is read, in bytes. A longer one is an error: it could not be half obeyed.
pub(crate) const IGNORE_FILE_LEN_MAX: u64 = 4 << 20;

/// The patterns of a folder and of all folders above it, up to the root of the workspace and no further.
#[derive(Debug, Clone, Default)]
pub(crate) struct IgnoreRules {
    innermost: Option<Arc<Level>>,
}

#[derive(Debug)]
struct Level {
    /// In ascending order of precedence.
    matchers: Vec<Gitignore>,
    above: Option<Arc<Level>>,
}

impl IgnoreRules {
    /// The rules inside `folder`, given the contents of the ignore files that stand in it.
    pub(crate) fn inside(&self, folder: &[u8], files: &[Vec<u8>]) -> Self {
        let matchers: Vec<Gitignore> =
            files.iter().map(|file| parse(folder, file)).filter(|matcher| !matcher.is_empty()).collect();
        if matchers.is_empty() {
            return self.clone();
        }
        Self { innermost: Some(Arc::new(Level { matchers, above: self.innermost.clone() })) }
    }

    /// Whether nothing is ignored.
    pub(crate) fn is_empty(&self) -> bool {
        self.innermost.is_none()
    }

    /// Whether the entry is ignored, given that no folder above it is.
    pub(crate) fn ignores(&self, path: &[u8], is_directory: bool) -> bool {
        let path = rooted(path);
        let mut level = self.innermost.as_ref();
        while let Some(current) = level {
            for matcher in current.matchers.iter().rev() {
                match matcher.matched(&path, is_directory) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            level = current.above.as_ref();
        }
        false
    }
}

/// The matcher wants paths below a root; the workspace's root is `/` to it.
fn rooted(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

/// A line that is no valid pattern matches nothing, as in git.
fn parse(folder: &[u8], file: &[u8]) -> Gitignore {
    let mut builder = GitignoreBuilder::new(rooted(folder));
    for (number, line) in file.split(|byte| *byte == b'\n').enumerate() {
        let line = if number == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let _ = builder.add_line(None, &String::from_utf8_lossy(line));
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(files: &[(&str, &str)]) -> IgnoreRules {
        files.iter().fold(IgnoreRules::default(), |rules, (folder, text)| {
            rules.inside(folder.as_bytes(), &[text.as_bytes().to_vec()])
        })
    }

    #[test]
    fn patterns_mean_what_they_mean_in_git() {
        let rules = rules(&[("", "*.log\n/target/\n!keep.log\ndoc/*.txt\n")]);
        for (path, is_directory, ignored) in [
            ("a.log", false, true),
            ("deep/a.log", false, true),
            ("keep.log", false, false),
            ("target", true, true),
            ("target", false, false),
            ("sub/target", true, false),
            ("doc/a.txt", false, true),
            ("doc/sub/a.txt", false, false),
        ] {
            assert_eq!(rules.ignores(path.as_bytes(), is_directory), ignored, "{path}");
        }
    }

    #[test]
    fn a_deeper_file_overrules_the_ones_above_it() {
        let rules = rules(&[("", "*.log\n"), ("sub", "!*.log\n/only-here\n")]);
        assert!(!rules.ignores(b"sub/a.log", false));
        assert!(rules.ignores(b"sub/only-here", false));
        assert!(!rules.ignores(b"sub/deep/only-here", false));
    }

    #[test]
    fn the_second_kind_of_file_overrules_the_first_in_the_same_folder() {
        let rules = IgnoreRules::default().inside(b"", &[b"*.log".to_vec(), b"!a.log".to_vec()]);
        assert!(!rules.ignores(b"a.log", false));
        assert!(rules.ignores(b"b.log", false));
    }

    #[test]
    fn broken_patterns_and_odd_bytes_match_nothing_and_break_nothing() {
        let rules = IgnoreRules::default().inside(b"", &[b"[\n\xff\n*.log\r\n".to_vec()]);
        assert!(rules.ignores(b"a.log", false));
        assert!(!rules.ignores(b"\xfe", false));
    }
}
