//! The memory of running processes, read from `/proc`.

use std::fs;

/// The number of processes that one look visits at most, so that a fork bomb cannot keep the supervisor busy.
const PROCESSES_MAX: usize = 256;

/// The largest high-water mark of resident memory below the process `outer`, in bytes. *Outer* and its child *init* do
/// not count: they are copies of the harness.
pub(super) fn peak_below(outer: u32) -> u64 {
    let mut pending: Vec<u32> = children(outer).into_iter().flat_map(children).collect();
    let mut peak = 0;
    let mut visited = 0;
    while let Some(pid) = pending.pop() {
        peak = peak.max(high_water_mark(pid).unwrap_or(0));
        visited += 1;
        if visited == PROCESSES_MAX {
            break;
        }
        pending.extend(children(pid));
    }
    peak
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn high_water_mark(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
