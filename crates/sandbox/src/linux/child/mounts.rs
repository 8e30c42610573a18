//! The command's own view of the file system. The rules of the module above hold here too.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};

use super::set_read_only;

/// What to change in a private mount name space.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// Folders and files that become empty.
    pub(crate) hidden: Vec<Hidden>,
    /// Folders, and the places at which the command shall find them as they are, writable and with all that is mounted
    /// below them. At most [`Mounts::KEPT_MAX`].
    pub(crate) kept: Vec<(CString, CString)>,
    /// Whether everything else becomes read-only, modes, owners and times included.
    pub(crate) read_only: bool,
    /// Whether `/proc` shall show the name space's processes only.
    pub(crate) processes: bool,
}

/// One entry that the command must not see.
#[derive(Debug)]
pub(crate) enum Hidden {
    /// Covered by an empty file system.
    Folder(CString),
    /// Covered by `/dev/null`.
    File(CString),
}

impl Mounts {
    /// How many folders can be kept: their copies are held without allocating.
    pub(crate) const KEPT_MAX: usize = 64;

    /// Copies what is kept, closes everything, and puts the copies, which have their own flags, on top.
    fn separate(&self) -> io::Result<()> {
        let mut copies = [const { None::<OwnedFd> }; Self::KEPT_MAX];
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        for (copy, (folder, _)) in copies.iter_mut().zip(&self.kept) {
            *copy = Some(rustix::mount::open_tree(CWD, folder.as_c_str(), flags)?);
        }
        if self.read_only {
            set_read_only(c"/")?;
        }
        for (copy, (_, place)) in copies.iter().flatten().zip(&self.kept) {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(copy, c"", CWD, place.as_c_str(), flags)?;
        }
        Ok(())
    }

    pub(super) fn apply(&self) -> io::Result<()> {
        let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        self.separate()?;
        for hidden in &self.hidden {
            match hidden {
                Hidden::Folder(path) => rustix::mount::mount(
                    c"none",
                    path.as_c_str(),
                    c"tmpfs",
                    closed | MountFlags::RDONLY,
                    Some(c"size=4k,mode=0555"),
                )?,
                Hidden::File(path) => rustix::mount::mount_bind(c"/dev/null", path.as_c_str())?,
            }
        }
        if self.processes {
            rustix::mount::mount(c"proc", c"/proc", c"proc", closed, None)?;
        }
        Ok(())
    }
}
