//! From a command to what its child needs, before the fork.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use rustix::process::Resource;

use super::child::{Hidden, Mounts};
use super::features::Features;
use crate::{CommandSpec, Error, Limits, Result};

/// Devices that programs write to and that keep nothing. No terminals: those of the user are among them.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Where programs share memory by name; each command gets its own.
const SHARED_MEMORY: &str = "/dev/shm";

/// The private folders of one command.
#[derive(Debug)]
pub(super) struct Temporary {
    root: tempfile::TempDir,
}

impl Temporary {
    /// How the names of all of them begin.
    pub(super) const PREFIX: &str = "evoseal-";

    pub(super) fn create(root: &Path, prefix: &str) -> Result<Self> {
        let io = |source| Error::Io { action: "create a temporary folder in", path: root.to_owned(), source };
        let root = tempfile::Builder::new().prefix(prefix).tempdir_in(root).map_err(io)?;
        let temporary = Self { root };
        for folder in [temporary.folder(), temporary.shared_memory()] {
            fs::create_dir(&folder).map_err(|source| Error::Io { action: "create", path: folder, source })?;
        }
        Ok(temporary)
    }

    /// What the command sees as `TMPDIR`.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// What stands in the place of `/dev/shm`.
    fn shared_memory(&self) -> PathBuf {
        self.root.path().join("shm")
    }

    /// Removes those of a harness that could not do so itself. What cannot be removed stays: it is in nobody's way.
    pub(super) fn remove_all(root: &Path, prefix: &str) {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                open_folders(&entry.path());
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Removes everything, also what the command made unreadable.
    pub(super) fn remove(self) -> Result<()> {
        let path = self.root.path().to_owned();
        open_folders(&path);
        self.root.close().map_err(|source| Error::Io { action: "remove", path, source })
    }
}

/// Gives the owner access to each folder below `root` that lacks it. Symlinks are not followed.
fn open_folders(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(metadata) = fs::symlink_metadata(&folder) else { continue };
        if metadata.permissions().mode() & 0o700 != 0o700 {
            // A failure shows again, with its reason, when the folder is removed.
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

/// Refuses commands that contradict themselves or the machine, with the path at fault.
pub(super) fn check(command: &CommandSpec) -> Result<()> {
    if !fs::metadata(&command.directory).is_ok_and(|metadata| metadata.is_dir()) {
        let source = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(Error::Io { action: "enter", path: command.directory.clone(), source });
    }
    if command.limits.wall_time_sec == 0 {
        return Err(Error::Invalid { what: "wall_time_sec", reason: "it is zero".to_owned() });
    }
    for path in &command.writable {
        fs::metadata(path).map_err(|source| Error::Io {
            action: "make writable",
            path: path.clone(),
            source,
        })?;
    }
    for hidden in command.hidden.iter().filter_map(|path| path.canonicalize().ok()) {
        for needed in command.writable.iter().chain([&command.directory]) {
            if needed.canonicalize().is_ok_and(|needed| needed.starts_with(&hidden)) {
                let reason = format!("{} is inside, and the command needs it", needed.display());
                return Err(Error::Invalid { what: "hidden", reason });
            }
        }
    }
    Ok(())
}

/// The mounts of a command, where the machine lets us change them.
pub(super) fn mounts(
    features: &Features,
    command: &CommandSpec,
    temporary: &Temporary,
) -> Result<Option<Mounts>> {
    if !features.mounts {
        return Ok(None);
    }
    let mut hidden = Vec::new();
    for path in &command.hidden {
        // What does not exist needs no hiding; its parent cannot be written to either, or is the workspace.
        let Ok(path) = path.canonicalize() else { continue };
        let name = c_string(&path)?;
        hidden.push(if path.is_dir() { Hidden::Folder(name) } else { Hidden::File(name) });
    }
    let mut kept = Vec::new();
    for folder in command.writable.iter().chain([&temporary.folder()]) {
        kept.push((c_string(folder)?, c_string(folder)?));
    }
    // A workspace in there must not disappear below the private one; it is then all of it that can be written.
    let is_in_use = command
        .writable
        .iter()
        .chain([&command.directory])
        .any(|folder| folder.canonicalize().is_ok_and(|folder| folder.starts_with(SHARED_MEMORY)));
    if Path::new(SHARED_MEMORY).is_dir() && !is_in_use {
        kept.push((c_string(&temporary.shared_memory())?, c_string(Path::new(SHARED_MEMORY))?));
    }
    if kept.len() > Mounts::KEPT_MAX {
        let reason = format!("there are more than {}", Mounts::KEPT_MAX - 2);
        return Err(Error::Invalid { what: "writable", reason });
    }
    Ok(Some(Mounts { hidden, kept, read_only: features.read_only, processes: features.processes }))
}

/// The Landlock rules of a command, where the kernel has Landlock.
pub(super) fn rules(
    features: &Features,
    command: &CommandSpec,
    temporary: &Temporary,
) -> Result<Option<OwnedFd>> {
    if !features.landlock_confinement() {
        return Ok(None);
    }
    // Version 3 is the first that knows truncation; later ones add nothing about writing but device controls, which
    // terminals need.
    let all = AccessFs::from_all(ABI::V3);
    let refused =
        |error: landlock::RulesetError| Error::Invalid { what: "landlock", reason: error.to_string() };
    let mut ruleset = Ruleset::default().handle_access(all).map_err(refused)?;
    if features.landlock >= 6 {
        ruleset = ruleset.scope(Scope::from_all(ABI::V6)).map_err(refused)?;
    }
    if features.landlock >= 4 && !command.network && !features.network {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp).map_err(refused)?;
    }
    let mut ruleset = ruleset.create().map_err(refused)?;
    let read = AccessFs::from_read(ABI::V3);
    ruleset = ruleset.add_rule(PathBeneath::new(open(Path::new("/"))?, read)).map_err(refused)?;
    let private = [temporary.folder(), temporary.shared_memory()];
    for path in command.writable.iter().chain(&private) {
        ruleset = ruleset.add_rule(PathBeneath::new(open(path)?, all)).map_err(refused)?;
    }
    for device in DEVICES.iter().map(Path::new).filter(|path| path.exists()) {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
        ruleset = ruleset.add_rule(PathBeneath::new(open(device)?, access)).map_err(refused)?;
    }
    Ok(ruleset.into())
}

fn open(path: &Path) -> Result<PathFd> {
    PathFd::new(path).map_err(|error| Error::Io {
        action: "open",
        path: path.to_owned(),
        source: io::Error::other(error),
    })
}

/// Resource limits as the kernel takes them.
pub(super) fn limits(limits: &Limits) -> Vec<(Resource, u64, u64)> {
    let mut list = vec![(Resource::Core, 0, 0)];
    // At the soft limit the kernel sends SIGXCPU, which a program may ignore, at the hard limit SIGKILL.
    list.extend(limits.cpu_time_sec.map(|seconds| (Resource::Cpu, seconds, seconds.saturating_add(1))));
    list.extend(limits.memory_bytes.map(|bytes| (Resource::As, bytes, bytes)));
    list.extend(limits.file_size_bytes.map(|bytes| (Resource::Fsize, bytes, bytes)));
    list.extend(limits.process_count.map(|count| (Resource::Nproc, count, count)));
    list
}

/// A path for the child; a NUL byte in it is refused.
pub(super) fn c_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Invalid { what: "path", reason: format!("{} has a NUL byte", path.display()) })
}
