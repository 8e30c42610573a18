//! Files in directories that untrusted programs write to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use evoseal_types::EntryPath;

/// The place of `path` below `root`, after looking that no existing part of it is a symlink: a version could otherwise
/// point its bench folder at another version's, or its report at any file of ours.
pub(crate) fn inside(root: &Path, path: &EntryPath) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;
    let mut place = root.to_owned();
    for component in path.components() {
        place.push(std::ffi::OsStr::from_bytes(component));
        match fs::symlink_metadata(&place) {
            Ok(found) if found.file_type().is_symlink() => {
                return Err(format!("{path} leads through a symlink"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot look at {path}: {error}")),
        }
    }
    Ok(place)
}

/// Reads a regular file of at most `bytes_max` bytes; anything else is an error, symlinks included.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(content)
}

/// Replaces the content of a file through a temporary file beside it and a rename; the mode stays as it was. A symlink
/// at `path` is replaced, not followed.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
    let mut temporary_name = std::ffi::OsString::from(".evoseal-new-");
    temporary_name.push(name);
    let temporary = path.with_file_name(temporary_name);
    // A leftover of an interrupted write, or a trap; creating exclusively follows no link.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    let written = (|| {
        file.write_all(content)?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => {
                file.set_permissions(fs::Permissions::from_mode(found.permissions().mode() & 0o7777))?;
            }
            _ => {}
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The write's own error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes an empty folder at `path`, whatever stands there. What an untrusted program left behind may resist by its modes;
/// a folder that it made unreadable must not stop every later evaluation.
pub(crate) fn make_empty(path: &Path) -> io::Result<()> {
    let remove = || match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    if remove().is_err() {
        open_folders(path);
        remove()?;
    }
    fs::create_dir_all(path)
}

/// Gives their owner all rights to a folder and all folders below it, as far as possible; links are not followed.
fn open_folders(path: &Path) {
    let mut left = vec![path.to_owned()];
    while let Some(folder) = left.pop() {
        let is_folder = fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir());
        // What cannot be changed shows again, with its reason, when it cannot be removed.
        if is_folder && fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).is_ok() {
            left.extend(fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn replacing_keeps_the_mode_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool.sh");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(folder.path().join(".evoseal-new-tool.sh"), "leftover").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o751);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symlink_is_replaced_and_its_target_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        symlink(&target, folder.path().join(".evoseal-new-link")).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert_eq!(fs::read(&link).unwrap(), b"new");
        assert!(read_bounded(&folder.path().join("link"), 3).is_ok());
    }

    #[test]
    fn reading_is_bounded_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "1234").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(read_bounded(&file, 4).unwrap(), b"1234");
        assert!(read_bounded(&file, 3).is_err());
        assert!(read_bounded(&link, 10).is_err());
        assert!(read_bounded(folder.path(), 10).is_err());
    }

    #[test]
    fn paths_through_symlinks_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        let place = |path: &str| inside(folder.path(), &EntryPath::new(path).unwrap());
        assert_eq!(place("real/new/file").unwrap(), folder.path().join("real/new/file"));
        assert!(place("link/file").is_err());
        assert!(place("link").is_err());
    }

    #[test]
    fn a_folder_is_emptied_against_the_modes_of_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        fs::create_dir_all(path.join("locked/deep")).unwrap();
        fs::write(path.join("locked/deep/file"), "x").unwrap();
        fs::set_permissions(path.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
        make_empty(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
