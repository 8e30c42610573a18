//! What the proof needs of the machine: programs, rights, file systems of its own.
//!
//! Everything that a run mounts lives in a mount namespace of its own, and everything that it writes lives in a tmpfs
//! mounted there. However the run ends, by itself, by Ctrl-C or by SIGKILL, the kernel takes both away: nothing is left
//! mounted, no loop device stays taken, no image lies about.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use crate::Result;
use crate::report::print;

/// Set in the process that has its own mounts.
const PRIVATE: &str = "EVOSEAL_PROOF_PRIVATE";

/// A folder that every Linux has, that is no part of any source tree, and over which the private tmpfs is mounted.
const SCRATCH: &str = "/dev/shm";

/// Something that this machine lacks, with what to do about it.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Runs `work` with mounts of its own if this user may have that, as it is otherwise.
pub(crate) fn in_private(work: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    if std::env::var_os(PRIVATE).is_some() {
        run("mount", ["-t", "tmpfs", "-o", "size=90%,strictatime", "evoseal-proof", SCRATCH])?;
        return work();
    }
    if !is_root() || run("unshare", ["--mount", "true"]).is_err() {
        return work();
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(PRIVATE, "1")
        .status()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// In a smoke run, what this machine lacks is said by name and is no failure; in a full run it is one.
pub(crate) fn skip_missing(is_smoke: bool, name: &str, done: Result<ExitCode>) -> Result<ExitCode> {
    match done {
        Err(error) if is_smoke && error.is::<Missing>() => {
            print(&format!("{name}: skipped: {error}"));
            Ok(ExitCode::SUCCESS)
        }
        other => other,
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A fresh folder in memory where there is one.
pub(crate) fn scratch() -> Result<tempfile::TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("evoseal-proof-");
        builder
    };
    builder().tempdir_in(SCRATCH).or_else(|_| builder().tempdir()).map_err(Into::into)
}

/// That a program is installed.
pub(crate) fn need_program(program: &str, package: &str) -> Result<()> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    if found {
        return Ok(());
    }
    Err(Missing(format!("{program} is not installed: the package {package} has it")).into())
}

/// That file systems can be mounted here, unseen by the rest of the machine.
pub(crate) fn need_mounts() -> Result<()> {
    if !is_root() {
        return Err(Missing("mounting file systems needs root".to_owned()).into());
    }
    if std::env::var_os(PRIVATE).is_none() {
        return Err(Missing("this machine allows no mount namespace".to_owned()).into());
    }
    Ok(())
}

/// A file system in an image, or in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileSystem {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// That such an image can be made and mounted.
    pub(crate) fn need(self) -> Result<()> {
        need_mounts()?;
        match self {
            Self::Tmpfs => return Ok(()),
            Self::Ext4 => need_program("mkfs.ext4", "e2fsprogs")?,
            Self::Xfs => need_program("mkfs.xfs", "xfsprogs")?,
            Self::Btrfs => need_program("mkfs.btrfs", "btrfs-progs")?,
        }
        if !Path::new("/dev/loop-control").exists() {
            return Err(Missing("there are no loop devices".to_owned()).into());
        }
        let known = fs::read_to_string("/proc/filesystems")?;
        if !known.split_whitespace().any(|name| name == self.name()) {
            return Err(Missing(format!("the kernel does not know {}", self.name())).into());
        }
        Ok(())
    }

    /// Mount options under which nothing is written behind our back while a case runs.
    fn options(self) -> &'static str {
        match self {
            // Ordinary commits come every few seconds and would hide a missing sync.
            Self::Ext4 | Self::Btrfs => "loop,commit=600",
            Self::Xfs | Self::Tmpfs => "loop",
        }
    }
}

/// A mounted file system of our own; unmounted when dropped, and with the namespace in any case.
#[derive(Debug)]
pub(crate) struct Mounted {
    kind: FileSystem,
    image: PathBuf,
    folder: PathBuf,
}

impl Mounted {
    /// Makes a file system of `size_bytes` (tmpfs: exactly; images: at least what the kind needs) below `place`.
    pub(crate) fn new(kind: FileSystem, size_bytes: u64, place: &Path) -> Result<Self> {
        let image = place.join(format!("{}.img", kind.name()));
        let folder = place.join(format!("{}.mnt", kind.name()));
        fs::create_dir_all(&folder)?;
        let mounted = Self { kind, image, folder };
        if kind == FileSystem::Tmpfs {
            let size = format!("size={size_bytes},strictatime");
            run(
                "mount",
                [
                    OsStr::new("-t"),
                    "tmpfs".as_ref(),
                    "-o".as_ref(),
                    size.as_ref(),
                    "evoseal-proof".as_ref(),
                    mounted.folder.as_os_str(),
                ],
            )?;
            return Ok(mounted);
        }
        // The smallest that each maker accepts; the image is sparse.
        let least = match kind {
            FileSystem::Xfs => 320 << 20,
            FileSystem::Btrfs => 256 << 20,
            FileSystem::Ext4 | FileSystem::Tmpfs => 64 << 20,
        };
        fs::File::create(&mounted.image)?.set_len(size_bytes.max(least))?;
        let (maker, options): (_, &[&str]) = match kind {
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F"]),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"]),
            FileSystem::Btrfs | FileSystem::Tmpfs => ("mkfs.btrfs", &["-q", "-f"]),
        };
        run(maker, options.iter().map(AsRef::as_ref).chain([mounted.image.as_os_str()]))?;
        mounted.mount()?;
        Ok(mounted)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn mount(&self) -> Result<()> {
        let options = self.kind.options();
        run("mount", [OsStr::new("-o"), options.as_ref(), self.image.as_os_str(), self.folder.as_os_str()])
    }

    /// Cuts the power: what the file system has not written to the device is gone, its open log included. It is mounted
    /// again, as after a restart.
    pub(crate) fn power_cut(&self) -> Result<()> {
        // Without `-f` the log is not flushed; `-x` allows the command on file systems other than xfs too.
        run("xfs_io", [OsStr::new("-x"), "-c".as_ref(), "shutdown".as_ref(), self.folder.as_os_str()])?;
        run("umount", [&self.folder])?;
        self.mount()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Busy or gone: the namespace takes it in the end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).output();
        let _ = fs::remove_file(&self.image);
    }
}

/// Runs a program to its end; what it says is part of the error if it fails.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    output(&mut command).map(drop)
}

/// Runs a command to its end and gives what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("cannot start {shown}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{shown} ended with {}: {said}", output.status).into())
}

/// A copy of a folder with all attributes.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    run("cp", [OsStr::new("-a"), "--".as_ref(), from.join(".").as_os_str(), to.as_os_str()])
}

/// Removes a folder and all that is in it, if it is there.
pub(crate) fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
