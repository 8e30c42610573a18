//! What a tree looks like, entry by entry, without the code under test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use evoseal_types::Digest;

use crate::Result;

/// Every entry of a tree by its path, with all of it that a checkpoint must bring back, as text.
pub(crate) type Look = BTreeMap<String, String>;

/// Reads the tree below `root` without following symlinks, and without our own folder in it. A missing directory has no entries.
pub(crate) fn look(root: &Path) -> Result<Look> {
    look_without(root, |_| false)
}

/// The same without entries, by their paths, at which somebody may be at work.
pub(crate) fn look_without(root: &Path, is_left_out: impl Fn(&Path) -> bool) -> Result<Look> {
    let mut seen = Look::new();
    if !root.exists() {
        return Ok(seen);
    }
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let below = path.strip_prefix(root)?;
            if below == Path::new(".evoseal") || is_left_out(below) {
                continue;
            }
            let name = below.as_os_str().as_bytes().escape_ascii().to_string();
            let metadata = fs::symlink_metadata(&path)?;
            let kind = metadata.file_type();
            let text = if kind.is_dir() {
                pending.push(path);
                format!("directory {:o}", metadata.permissions().mode() & 0o3777)
            } else if kind.is_symlink() {
                format!("symlink {}", fs::read_link(&path)?.as_os_str().as_bytes().escape_ascii())
            } else if kind.is_file() {
                let mode = metadata.permissions().mode() & 0o1777;
                format!("file {mode:o} {}", Digest::of(&fs::read(&path)?))
            } else {
                format!("special {:o}", metadata.mode())
            };
            seen.insert(name, text);
        }
    }
    Ok(seen)
}

/// The first few entries in which two trees differ, for a message; nothing if they are equal.
pub(crate) fn difference(found: &Look, wanted: &Look) -> Option<String> {
    let paths: std::collections::BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let describe = |path: &String| {
        let text =
            |look: &Look| look.get(path).map_or("nothing".to_owned(), |text| text.chars().take(24).collect());
        format!("{path}: {} instead of {}", text(found), text(wanted))
    };
    let differing: Vec<String> =
        paths.into_iter().filter(|path| found.get(*path) != wanted.get(*path)).map(describe).collect();
    let more = differing.len().saturating_sub(3);
    (!differing.is_empty()).then(|| {
        let shown = differing[..differing.len().min(3)].join("; ");
        if more > 0 { format!("{shown}; and {more} more") } else { shown }
    })
}
