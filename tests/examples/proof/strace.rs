//! Listing the file-system calls of an operation, and failing or killing it at one of them, with strace.
//!
//! strace counts `when=K` for each system call and each thread alone. So the calls are traced once and listed by name and
//! ordinal, and then one name is injected at a time. What a kill reaches is the moment *before* the call.
//!
//! Where a program has threads, which thread does what, and how often they wake each other, changes from run to run. A [`Spot`]
//! names a call by the file it is about as well: strace then passes over all calls that are about others.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use evoseal_types::Digest;

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
    /// The same call, told by a file of the place that it is about.
    pub(crate) spot: Option<Spot>,
}

/// A call that is told by its file, in any place and any process that does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) name: String,
    /// Below the place, with [`PROCESS`] and [`WORKSPACE`] for what differs from one process or place to another.
    path: String,
    /// Which call of that name and about that file, counted from 1 in all threads.
    pub(crate) number: usize,
    /// The same in its thread, once: which thread does what, and thus what strace counts, changes from run to run.
    pub(crate) ordinal: usize,
}

/// For the id of the process, which is in the names of temporary files.
const PROCESS: &str = "{process}";
/// For the digest of the workspace's path, after which the cache of what was seen in it is named.
const WORKSPACE: &str = "{workspace}";

impl Spot {
    /// What strace tells calls by.
    pub(crate) fn in_thread(&self) -> (&str, &str, usize) {
        (&self.name, &self.path, self.ordinal)
    }

    /// The path in a place; the process is still to be filled in.
    fn path_in(&self, place: &Path) -> OsString {
        if self.path.is_empty() {
            return place.as_os_str().to_owned();
        }
        place.join(self.path.replace(WORKSPACE, &workspace_digest(place))).into_os_string()
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}, no. {}", self.name, self.path, self.number)
    }
}

fn workspace_digest(place: &Path) -> String {
    Digest::of(place.join("workspace").as_os_str().as_encoded_bytes()).to_string()
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

/// Starts what follows with strace, of the calls that are about one file alone. `-D` lets the command have the process that
/// the shell began in, so that the shell knows its id.
const WITH_PROCESS: &str = r#"before=$1; after=$2; cpu=$3; shift 3
exec taskset --cpu-list "$cpu" strace -D -P "$before$$$after" "$@""#;

/// As [`strace`], with all calls passed over that are not about the file of a spot. A fault is counted among the others.
pub(crate) fn strace_at(cpu: usize, place: &Path, spot: &Spot, log: &Path) -> Result<Command> {
    let path = spot.path_in(place).into_string().map_err(|_| "the place's path is not UTF-8")?;
    let Some((before, after)) = path.split_once(PROCESS) else {
        let mut command = strace(cpu, log);
        command.arg("-P").arg(path);
        return Ok(command);
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", WITH_PROCESS, "sh", before, after, &cpu.to_string(), "-f", "-qq", "-y", "-o"])
        .arg(log);
    Ok(command)
}

/// The calls of an operation on the place, in order, from a log of all its calls; of those between the marks, if it sets
/// any.
pub(crate) fn calls(log: &Path, place: &Path, has_marks: bool) -> Result<Vec<Call>> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let place = place.to_str().ok_or("the place's path is not UTF-8")?;
    let process = text.split(' ').next().unwrap_or_default();
    let digest = workspace_digest(Path::new(place));
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut numbers: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut ordinals: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut found = Vec::new();
    let mut is_inside = !has_marks;
    for line in text.lines() {
        let Some((thread, name, arguments)) = call_in(line) else { continue };
        let ordinal = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *ordinal += 1;
        let paths = paths_of(arguments, place);
        for path in &paths {
            *numbers.entry((name.to_owned(), path.clone())).or_default() += 1;
            *ordinals.entry((thread.to_owned(), name.to_owned(), path.clone())).or_default() += 1;
        }
        if arguments.contains(BEGIN) {
            is_inside = true;
        } else if arguments.contains(END) {
            break;
        } else if is_inside && arguments.contains(place) {
            let is_change = is_change(name, arguments);
            if is_change || READS.contains(&name) {
                let spot = paths.into_iter().next().map(|path| Spot {
                    name: name.to_owned(),
                    number: numbers[&(name.to_owned(), path.clone())],
                    ordinal: ordinals[&(thread.to_owned(), name.to_owned(), path.clone())],
                    path: without_process(&path, process).replace(&digest, WORKSPACE),
                });
                let arguments = arguments.replace(place, "");
                found.push(Call { name: name.to_owned(), ordinal: *ordinal, is_change, arguments, spot });
            }
        }
    }
    if found.is_empty() {
        return Err("strace logged nothing of the operation".into());
    }
    Ok(found)
}

/// Thread, name and arguments of a call that begins in a line.
fn call_in(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && !name.is_empty()).then_some((thread, name, arguments))
}

fn is_change(name: &str, arguments: &str) -> bool {
    let creates = ["O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| arguments.contains(flag));
    CHANGES.contains(&name) || creates
}

/// Which of the logged calls was struck, counted from 1 in all threads: by a kill, which only the last one can be, or by an
/// error.
pub(crate) fn struck(log: &Path, is_kill: bool) -> Result<Option<usize>> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let mut lines: Vec<&str> = text.lines().collect();
    let mut thread = None;
    if !is_kill {
        let Some(line) = lines.iter().position(|line| line.contains("INJECTED")) else { return Ok(None) };
        // A call that another thread interrupts in the log ends in a line without its name.
        thread = lines[line].split(' ').next();
        lines.truncate(line + 1);
    }
    let calls: Vec<_> = lines.into_iter().filter_map(call_in).collect();
    Ok(calls.iter().rposition(|call| thread.is_none_or(|thread| thread == call.0)).map(|call| call + 1))
}

/// The files of the place that a call is about, below the place and each once: what strace would select it by. Paths are
/// written `"path"` and those of file descriptors `<path>`; what the call returned is none of its arguments.
fn paths_of(arguments: &str, place: &str) -> Vec<String> {
    let arguments = arguments.rsplit_once(") = ").map_or(arguments, |(arguments, _)| arguments);
    let mut paths = Vec::new();
    for (start, _) in arguments.match_indices(place) {
        let opening = arguments[..start].chars().next_back();
        let rest = &arguments[start + place.len()..];
        let closing = match opening {
            Some('<') => '>',
            Some('"') => '"',
            _ => continue,
        };
        // What begins like the place and goes on is another one; nothing behind it is the place itself.
        let path = rest.split(closing).next().unwrap_or_default();
        let Some(path) = path.strip_prefix('/').or(path.is_empty().then_some(path)) else { continue };
        if !paths.iter().any(|known| known == path) {
            paths.push(path.to_owned());
        }
    }
    paths
}

/// A path with [`PROCESS`] for the id of the process.
fn without_process(path: &str, process: &str) -> String {
    let is_end = |character: char| !character.is_ascii_alphanumeric();
    let fill = |part: &str| match part.strip_prefix(process) {
        Some(end) if end.chars().all(is_end) => format!("{PROCESS}{end}"),
        _ => part.to_owned(),
    };
    path.split_inclusive(is_end).map(fill).collect()
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
