//! Caches of a workspace: what no version holds and a bad candidate may have poisoned.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use evoseal_types::EntryPath;

use crate::files::failed;
use crate::{Error, Result};

/// Refuses a cache that must not be removed, or whose path is none.
pub(crate) fn check(caches: &[String]) -> Result<Vec<EntryPath>> {
    let parse = |text: &String| {
        let invalid =
            |reason: String| Error::Invalid { what: "caches", reason: format!("{text:?} {reason}") };
        let path = EntryPath::new(text.trim_end_matches('/'))
            .map_err(|_| invalid("is no path inside the workspace".to_owned()))?;
        let first = path.components().next().unwrap_or_default();
        if first == b".evoseal" || first == b".git" {
            return Err(invalid("belongs to no candidate and is never removed".to_owned()));
        }
        Ok(path)
    };
    caches.iter().map(parse).collect()
}

/// The caches that are there and are not themselves symlinks to elsewhere, or behind one.
pub(crate) fn present(workspace: &Path, caches: &[EntryPath]) -> Vec<EntryPath> {
    caches.iter().filter(|cache| is_inside(workspace, cache)).cloned().collect()
}

/// Removes everything at and below the caches but the `kept` paths, which a version holds. Gives the caches from which
/// something was removed. Repeating it changes nothing.
pub(crate) fn remove(
    workspace: &Path,
    caches: &[EntryPath],
    kept: &BTreeSet<Vec<u8>>,
) -> Result<Vec<EntryPath>> {
    let mut removed = Vec::new();
    for cache in present(workspace, caches) {
        if clear(workspace, &cache, kept)? {
            removed.push(cache);
        }
    }
    Ok(removed)
}

/// Whether the path exists and no folder on the way to it is a symlink.
fn is_inside(workspace: &Path, path: &EntryPath) -> bool {
    let mut place = workspace.to_owned();
    let mut on_the_way = path.components().peekable();
    while let Some(name) = on_the_way.next() {
        place.push(OsStr::from_bytes(name));
        match fs::symlink_metadata(&place) {
            Err(_) => return false,
            Ok(found) if on_the_way.peek().is_some() && !found.is_dir() => return false,
            Ok(_) => {}
        }
    }
    true
}

/// Whether something was removed.
fn clear(workspace: &Path, path: &EntryPath, kept: &BTreeSet<Vec<u8>>) -> Result<bool> {
    let place = workspace.join(path.as_path());
    let is_folder = fs::symlink_metadata(&place).map_err(failed("look at", &place))?.is_dir();
    let below = [path.as_bytes(), b"/"].concat();
    let is_held = kept.contains(path.as_bytes());
    let holds_kept =
        is_held || kept.range(below.clone()..).next().is_some_and(|entry| entry.starts_with(&below));
    if !holds_kept {
        // Follows no symlink.
        let done = if is_folder { fs::remove_dir_all(&place) } else { fs::remove_file(&place) };
        return match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &place)(error)),
            _ => Ok(true),
        };
    }
    if !is_folder {
        return Ok(false);
    }
    let mut removed = false;
    for child in fs::read_dir(&place).map_err(failed("list", &place))? {
        let name = child.map_err(failed("list", &place))?.file_name();
        let invalid =
            |_| Error::Damaged { path: place.join(&name), problem: "its name is no name".to_owned() };
        removed |= clear(workspace, &path.join(name.as_bytes()).map_err(invalid)?, kept)?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str]) -> Vec<EntryPath> {
        texts.iter().map(|text| EntryPath::new(text).unwrap()).collect()
    }

    #[test]
    fn what_is_held_stays_and_everything_else_below_a_cache_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("workspace"), folder.path().join("outside"));
        for path in ["target/debug/deps", "target/keep", "target-2", "src"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::create_dir(&outside).unwrap();
        for path in
            ["target/debug/deps/lib", "target/keep/held", "target/keep/stray", "target-2/x", "src/code"]
        {
            fs::write(root.join(path), "x").unwrap();
        }
        fs::write(outside.join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("target/link")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("elsewhere")).unwrap();
        let held = ["src/code", "target-2/x", "target/keep/held"];
        let kept: BTreeSet<Vec<u8>> = held.map(|path| path.as_bytes().to_vec()).into();
        let caches = paths(&["target", "elsewhere/precious", "missing"]);
        assert_eq!(remove(&root, &caches, &kept).unwrap(), paths(&["target"]));
        assert!(root.join("target/keep/held").exists() && root.join("target-2/x").exists());
        assert!(!root.join("target/debug").exists() && !root.join("target/keep/stray").exists());
        assert!(fs::symlink_metadata(root.join("target/link")).is_err());
        assert!(outside.join("precious").exists(), "nothing behind a symlink is touched");
        assert_eq!(remove(&root, &caches, &kept).unwrap(), Vec::<EntryPath>::new());
    }

    #[test]
    fn what_belongs_to_no_candidate_is_refused() {
        for bad in ["../x", "/x", "", ".git", ".evoseal/store", "."] {
            assert!(check(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert_eq!(check(&["target/".to_owned()]).unwrap(), paths(&["target"]));
    }
}
