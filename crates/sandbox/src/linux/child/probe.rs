//! Finding out what the machine allows by trying it in a child. The rules of the module above hold here too.

use libc::c_int;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, OpenTreeFlags};

use super::mounts::Mounts;
use super::{Namespaces, exit, fork, raise_loopback, set_read_only, wait_for};

/// Which features a child could use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The name spaces and a private mount tree could be had.
    pub(crate) mounts: bool,
    /// A fresh `/proc` could be mounted.
    pub(crate) processes: bool,
    /// All mounts could be made read-only.
    pub(crate) read_only: bool,
}

/// Tries the name spaces out in a child; `None` if they cannot be entered.
pub(crate) fn probe(namespaces: &Namespaces) -> Option<Probe> {
    let Ok(Some(outer)) = fork().inspect(|forked| {
        if forked.is_none() {
            exit(probe_in_child(namespaces));
        }
    }) else {
        return None;
    };
    let status = wait_for(outer);
    if !libc::WIFEXITED(status) {
        return None;
    }
    let found = libc::WEXITSTATUS(status);
    let has = |bit| found & bit != 0;
    has(ENTERED).then(|| Probe { mounts: has(MOUNTS), processes: has(PROCESSES), read_only: has(READ_ONLY) })
}

const ENTERED: c_int = 1;
const MOUNTS: c_int = 2;
const PROCESSES: c_int = 4;
const READ_ONLY: c_int = 8;

/// The bits of what worked, or 0.
fn probe_in_child(namespaces: &Namespaces) -> c_int {
    if namespaces.enter().is_err() {
        return 0;
    }
    match fork() {
        Ok(Some(init)) => {
            let status = wait_for(init);
            if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 0 }
        }
        Ok(None) => {
            if namespaces.flags & libc::CLONE_NEWNET != 0 && raise_loopback().is_err() {
                exit(0);
            }
            let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let kept = Mounts::default().apply().is_ok()
                && rustix::mount::open_tree(CWD, c"/", OpenTreeFlags::OPEN_TREE_CLONE).is_ok()
                && rustix::mount::mount(c"none", c"/dev", c"tmpfs", closed, None).is_ok();
            let processes = kept && Mounts { processes: true, ..Mounts::default() }.apply().is_ok();
            let read_only = kept && set_read_only(c"/").is_ok();
            let bit = |bit, holds| if holds { bit } else { 0 };
            exit(ENTERED | bit(MOUNTS, kept) | bit(PROCESSES, processes) | bit(READ_ONLY, read_only))
        }
        Err(_) => 0,
    }
}
