//! Which directories may be rolled back at all.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::files::{Files, failed};
use crate::{Error, Result};

/// The workspace of a manager and the directories that it must keep away from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) path: PathBuf,
    /// Directories of ours: neither may the workspace lie in one, nor one in the workspace, except below `.evoseal`,
    /// which a restore leaves alone.
    pub(crate) kept_apart: Vec<PathBuf>,
    /// Home directories besides those whose place tells what they are.
    pub(crate) homes: Vec<PathBuf>,
}

impl Workspace {
    /// Refuses a workspace in which a rollback could destroy what is not part of it. Looked at anew before each
    /// rollback: what was a directory may have become a symlink since.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |reason| Err(Error::UnsafeWorkspace { path: self.path.clone(), reason });
        if !self.path.is_absolute() {
            return refuse("its path is not absolute");
        }
        // Without this, a slash at the end would make the system follow a symlink.
        let path: PathBuf = self.path.components().collect();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return refuse("it is a symbolic link"),
            Ok(metadata) if !metadata.is_dir() => return refuse("it is not a directory"),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("look at", &path)(error));
            }
            Ok(_) | Err(_) => {}
        }
        let resolved = resolve(&path)?;
        if let Some(reason) = [&path, &resolved].into_iter().find_map(|path| danger(path)) {
            return refuse(reason);
        }
        for home in &self.homes {
            if resolve(home)?.starts_with(&resolved) {
                return refuse("it is a home directory, or holds one");
            }
        }
        for ours in &self.kept_apart {
            let ours = resolve(ours)?;
            if resolved.starts_with(&ours) {
                return refuse("it lies in a directory in which evoseal keeps its own files");
            }
            if let Ok(below) = ours.strip_prefix(&resolved)
                && below.components().next() != Some(Component::Normal(".evoseal".as_ref()))
            {
                return refuse("evoseal's own files lie in it, outside of its .evoseal directory");
            }
        }
        Ok(())
    }

    /// Makes the workspace, empty, if it is gone: what deleted it must not keep it from coming back.
    pub(crate) fn make_if_missing(&self, files: &Files) -> Result<()> {
        files.create_folder(&self.path)
    }
}

/// The path without symlinks, `.` and `..`; of what does not exist, the part that does is resolved.
fn resolve(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(resolve(parent)?.join(name)),
            _ => Err(failed("resolve", path)(error)),
        },
        resolved => resolved.map_err(failed("resolve", path)),
    }
}

/// System directories that are refused with everything below them.
const SYSTEM_TREES: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
    "/Applications",
    "/Library",
    "/System",
];

/// Directories inside those trees in which people do keep workspaces; they themselves are refused.
const EXCEPTIONS: &[&str] = &["/dev/shm", "/usr/src", "/usr/local/src"];

/// System directories that are refused with their direct children; deeper down people keep workspaces.
const SYSTEM_FOLDERS: &[&str] =
    &["/opt", "/run", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool", "/private", "/private/var"];

/// Directories that hold workspaces, so that only they themselves are refused.
const PARENTS: &[&str] =
    &["/home", "/media", "/mnt", "/srv", "/tmp", "/var/tmp", "/private/tmp", "/Users", "/root"];

/// Whose direct children are home directories.
const HOMES: &[&str] = &["/home", "/Users"];

/// Why the directory at `path`, which is absolute, must not be rolled back; from its place alone.
fn danger(path: &Path) -> Option<&'static str> {
    let is_any = |of: &[&str], path: &Path| of.iter().any(|known| path == Path::new(known));
    let Some(parent) = path.parent() else { return Some("it is the root of the file system") };
    let is_below = |of: &[&str]| of.iter().any(|known| path.starts_with(known) && path != Path::new(known));
    let is_home =
        |path: &Path| path == Path::new("/root") || path.parent().is_some_and(|parent| is_any(HOMES, parent));
    if SYSTEM_TREES.iter().any(|tree| path.starts_with(tree)) && !is_below(EXCEPTIONS) {
        Some("it is part of the operating system")
    } else if is_any(SYSTEM_FOLDERS, path) || is_any(SYSTEM_FOLDERS, parent) && path != Path::new("/var/tmp")
    {
        Some("it is a system directory")
    } else if is_home(path) {
        Some("it is a home directory")
    } else if is_any(PARENTS, path) {
        Some("it is a directory that holds those of others")
    } else if is_home(parent) && is_hidden(path) {
        Some("it is a folder of settings in a home directory")
    } else if path.iter().any(|name| name == ".git" || name == ".evoseal") {
        Some("it lies in a .git or .evoseal directory")
    } else {
        None
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(path: impl Into<PathBuf>) -> Workspace {
        Workspace { path: path.into(), kept_apart: Vec::new(), homes: Vec::new() }
    }

    #[test]
    fn directories_of_the_system_and_of_people_are_refused_by_their_place() {
        for bad in [
            "/root",
            "/boot",
            "/boot/x",
            "/usr",
            "/usr/lib",
            "/usr/lib/x",
            "/usr/local",
            "/usr/src",
            "/etc/x",
            "/home",
            "/home/u",
            "/home/u/.ssh",
            "/root/.config",
            "/var",
            "/var/lib",
            "/var/lib/x",
            "/opt",
            "/opt/x",
            "/tmp",
            "/var/tmp",
            "/dev",
            "/dev/shm",
            "/proc/1",
            "/sys/x",
            "/run/x",
            "/mnt",
            "/srv",
            "/bin",
            "/home/u/p/.git",
            "/home/u/p/.evoseal/store",
            "/Users/u",
            "/System/x",
        ] {
            assert!(danger(Path::new(bad)).is_some(), "{bad}");
        }
        for good in [
            "/home/u/project",
            "/root/project",
            "/tmp/x",
            "/var/tmp/x",
            "/usr/src/app",
            "/dev/shm/x",
            "/app",
            "/workspace",
            "/srv/x",
            "/opt/team/x",
            "/var/lib/jenkins/workspace",
            "/var/www/site",
            "/mnt/x",
            "/home/u/.cache/x",
            "/bind/x",
            "/Users/u/project",
        ] {
            assert_eq!(danger(Path::new(good)), None, "{good}");
        }
    }

    #[test]
    fn the_root_is_refused() {
        assert!(workspace("/").check().is_err());
        assert!(workspace("/usr/..").check().is_err());
    }

    #[test]
    fn a_symlink_is_refused_with_and_without_a_slash_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        for path in [link.clone(), link.join("")] {
            let error = workspace(path).check().unwrap_err();
            assert!(
                matches!(error, Error::UnsafeWorkspace { reason: "it is a symbolic link", .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_way_through_a_symlink_to_a_system_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/usr", &link).unwrap();
        assert!(workspace(link.join("lib")).check().is_err());
        assert!(workspace("/tmp/../etc").check().is_err());
    }

    #[test]
    fn files_and_relative_paths_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(workspace(file).check().is_err());
        assert!(workspace("relative").check().is_err());
    }

    #[test]
    fn our_own_files_lie_outside_the_workspace_or_below_its_evoseal_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("project");
        fs::create_dir_all(path.join(".evoseal/store")).unwrap();
        for (ours, is_fine) in [
            (folder.path().join("store"), true),
            (path.join(".evoseal/rollback"), true),
            (path.join("store"), false),
            (path.join("src/.evoseal/store"), false),
            (path.clone(), false),
            (folder.path().to_owned(), false),
        ] {
            let workspace = Workspace { kept_apart: vec![ours.clone()], ..workspace(&path) };
            assert_eq!(workspace.check().is_ok(), is_fine, "{ours:?}");
        }
    }

    #[test]
    fn a_home_directory_at_an_unusual_place_is_refused_when_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("u");
        fs::create_dir_all(home.join("project")).unwrap();
        let at = |path: PathBuf| Workspace { homes: vec![home.clone()], ..workspace(path) };
        assert!(at(home.clone()).check().is_err());
        assert!(at(folder.path().to_owned()).check().is_err());
        at(home.join("project")).check().unwrap();
    }
}
