//! Times and extended attributes, where they are to be kept.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr,
    utimensat,
};
use rustix::io::Errno;

use crate::extras::Attributes;
use crate::settings::CaptureOptions;
use crate::workspace::Stamp;

/// Attributes that the system keeps for itself and that say nothing about the entry.
const IGNORED: [&[u8]; 1] = [b"security.selinux"];

/// Attributes that lend rights, like the set-user bit: never captured.
const LENDING: [&[u8]; 1] = [b"security.capability"];

/// The name of an entry of an open folder as a path. The calls for attributes know no folder handles; through `/proc` the
/// handle stands for the folder itself, wherever it has been moved, and the last component is not followed.
fn through_handle(folder: impl AsFd, name: &CStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()));
    path.push(OsStr::from_bytes(name.to_bytes()));
    path
}

/// What is kept about an entry.
pub(crate) fn read(
    folder: impl AsFd,
    name: &CStr,
    options: CaptureOptions,
    modified: Stamp,
) -> Result<Attributes, Errno> {
    let extended = if options.keep_xattrs { read_extended(folder, name)? } else { BTreeMap::new() };
    Ok(Attributes::new(options.keep_mtimes.then_some(modified), extended))
}

pub(crate) fn read_extended(folder: impl AsFd, name: &CStr) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = through_handle(folder, name);
    let mut found = BTreeMap::new();
    let names = match sized(|buffer| llistxattr(&path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(found),
        other => other?,
    };
    for key in names.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        if IGNORED.contains(&key) || LENDING.contains(&key) {
            continue;
        }
        let value = sized(|buffer| lgetxattr(&path, key, buffer));
        match value {
            Ok(value) => {
                found.insert(key.to_vec(), value);
            }
            // Removed since it was listed, or not for this user to see.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Asks for a size, then for that many bytes, again if it grew meanwhile.
fn sized(mut call: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 4096];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LIST_LEN_MAX => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// More than the kernel takes for one value or one list.
const LIST_LEN_MAX: usize = 1 << 20;

/// Makes an entry's attributes what was kept of them.
pub(crate) fn write(
    folder: impl AsFd,
    name: &CStr,
    wanted: &Attributes,
    options: CaptureOptions,
) -> Result<(), Errno> {
    if options.keep_xattrs {
        write_extended(&folder, name, &wanted.extended)?;
    }
    if let Some(modified) = wanted.modified() {
        set_modified(folder, name, modified)?;
    }
    Ok(())
}

pub(crate) fn write_extended(
    folder: impl AsFd,
    name: &CStr,
    wanted: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), Errno> {
    let present = read_extended(&folder, name)?;
    let path = through_handle(folder, name);
    for key in present.keys().filter(|key| !wanted.contains_key(*key)) {
        match lremovexattr(&path, key.as_slice()) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    for (key, value) in wanted.iter().filter(|(key, value)| present.get(*key) != Some(*value)) {
        let key = CString::new(key.as_slice()).map_err(|_| Errno::INVAL)?;
        lsetxattr(&path, key.as_c_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Sets the time of modification of an entry, not following a symlink.
pub(crate) fn set_modified(folder: impl AsFd, name: &CStr, modified: Stamp) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanoseconds) },
    };
    utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
