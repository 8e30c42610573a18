//! What stands under a name, as far as it matters for moving or removing it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, StatxAttributes, StatxFlags, makedev, statx};
use rustix::io::Errno;

/// An entry of a folder, not followed if it is a symlink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) kind: FileType,
    pub(crate) owner: u32,
    pub(crate) device: Option<u64>,
    /// Whether a file system is mounted there.
    pub(crate) is_mount: bool,
    /// Whether it is marked as immutable or append-only, so that it can be neither moved nor removed.
    pub(crate) is_fixed: bool,
}

impl Seen {
    pub(crate) fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Why this entry could be neither moved nor removed, if that is so.
    pub(crate) fn keeps_from_going(&self) -> Option<&'static str> {
        let user = rustix::process::geteuid();
        if self.is_mount {
            Some("a file system is mounted there, and stays where it is mounted")
        } else if self.is_fixed {
            Some("it is marked as immutable or append-only (`lsattr` shows it, `chattr -ia` takes it away)")
        } else if self.is_folder() && !user.is_root() && self.owner != user.as_raw() {
            Some("it is a folder of another user")
        } else {
            None
        }
    }
}

/// What stands under `name`; `None` if nothing does.
pub(crate) fn look(folder: &OwnedFd, name: &[u8]) -> Result<Option<Seen>, Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::UID;
    let found = match statx(folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW, wanted) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error),
    };
    let has = |attribute| found.stx_attributes.contains(attribute);
    Ok(Some(Seen {
        kind: FileType::from_raw_mode(found.stx_mode.into()),
        owner: found.stx_uid,
        device: Some(makedev(found.stx_dev_major, found.stx_dev_minor)),
        is_mount: has(StatxAttributes::MOUNT_ROOT),
        is_fixed: has(StatxAttributes::IMMUTABLE) || has(StatxAttributes::APPEND),
    }))
}
