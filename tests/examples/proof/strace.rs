//! Listing the file-system calls of an operation, and failing or killing it at one of them, with strace.
//!
//! strace counts `when=K` for each system call and each thread alone. So the calls are traced once and listed by name and
//! ordinal, and then one name is injected at a time. What a kill reaches is the moment *before* the call.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::machine::need_program;
use crate::operate::{BEGIN, END};

/// Calls that change what is on a disk, whatever their arguments.
const CHANGES: &[&str] = &[
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "splice",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync",
    "sync_file_range",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "truncate",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utimensat",
    "futimesat",
    "utimes",
    "mknod",
    "mknodat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "creat",
    "ioctl",
];

/// Calls that read, and may fail. `close` is not among them: what it reports is ignored by everyone's library.
const READS: &[&str] = &[
    "read",
    "pread64",
    "readv",
    "preadv",
    "preadv2",
    "openat",
    "open",
    "openat2",
    "statx",
    "newfstatat",
    "fstat",
    "stat",
    "lstat",
    "getdents64",
    "readlink",
    "readlinkat",
    "lseek",
    "flock",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "access",
    "faccessat",
    "faccessat2",
    "statfs",
    "fstatfs",
    "chdir",
    "fchdir",
];

/// Calls that open files and move within them, and the one that the marks are made with.
const OPENS: [&str; 6] = ["openat", "openat2", "open", "lseek", "statx", "close"];

/// Calls that make something durable.
pub(crate) const SYNCS: &[&str] = &["fsync", "fdatasync", "syncfs", "sync", "sync_file_range"];

/// One file-system call of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Which call of that name in its thread, counted from 1 as strace does.
    pub(crate) ordinal: usize,
    /// Whether it may change what is on the disk.
    pub(crate) is_change: bool,
    /// Its arguments, with the paths of file descriptors.
    pub(crate) arguments: String,
}

pub(crate) fn need() -> Result<()> {
    need_program("strace", "strace")?;
    need_program("taskset", "util-linux")
}

/// `strace` in front of a command. One processor: whatever the operation does in parallel it then does with one worker.
/// Not `--seccomp-bpf`, which would be faster: with it strace 6.1 injects nothing and says nothing.
pub(crate) fn strace(cpu: usize, log: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu.to_string(), "strace", "-f", "-qq", "-y", "-o"]).arg(log);
    command
}

/// The calls of an operation on the place, in order, from a log of all its calls; of those between the marks, if it sets
/// any.
pub(crate) fn calls(log: &Path, place: &Path, has_marks: bool) -> Result<Vec<Call>> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let place = place.to_str().ok_or("the place's path is not UTF-8")?;
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut found = Vec::new();
    let mut is_inside = !has_marks;
    for line in text.lines() {
        let Some((thread, name, arguments)) = call_in(line) else { continue };
        let ordinal = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *ordinal += 1;
        if arguments.contains(BEGIN) {
            is_inside = true;
        } else if arguments.contains(END) {
            break;
        } else if is_inside && arguments.contains(place) {
            let is_change = is_change(name, arguments);
            if is_change || READS.contains(&name) {
                let arguments = arguments.replace(place, "");
                found.push(Call { name: name.to_owned(), ordinal: *ordinal, is_change, arguments });
            }
        }
    }
    if found.is_empty() {
        return Err("strace logged nothing of the operation".into());
    }
    Ok(found)
}

/// Thread, name and arguments of a call that begins in a line of a log.
pub(crate) fn call_in(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && !name.is_empty()).then_some((thread, name, arguments))
}

/// Whether a call may change what is on the disk.
pub(crate) fn is_change(name: &str, arguments: &str) -> bool {
    let creates = ["O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| arguments.contains(flag));
    CHANGES.contains(&name) || creates
}

/// The expression that selects all calls that [`calls`] understands.
pub(crate) fn trace_all() -> String {
    // The question mark passes over names that an older strace does not know.
    let names: Vec<String> = CHANGES.iter().chain(READS).map(|name| format!("?{name}")).collect();
    format!("trace={}", names.join(","))
}

/// The expression that selects what changes the disk, and what tells which file a descriptor means.
pub(crate) fn trace_data() -> String {
    let names: Vec<String> = CHANGES.iter().copied().chain(OPENS).map(|name| format!("?{name}")).collect();
    format!("trace={}", names.join(","))
}
