//! Defects that the proof has found and that are still open. Each is counted apart and printed with its reason, so that a
//! run fails on anything new. This list is to become empty.

use crate::report::{Findings, print};

/// In which operation (any, if it has no name), what the finding says, and what is wrong.
const KNOWN: &[(&str, &str, &str)] = &[];

/// Takes what is known out of the findings and says how much it was.
pub(crate) fn take(operation: &str, findings: &mut Findings) -> usize {
    let is_known = |what: &String| {
        KNOWN.iter().any(|(name, text, _)| (name.is_empty() || operation == *name) && what.contains(text))
    };
    let lists = [&mut findings.lost, &mut findings.mixed, &mut findings.blocked];
    let mut taken = 0;
    for list in lists {
        let before = list.len();
        list.retain(|what| !is_known(what));
        taken += before - list.len();
    }
    taken
}

/// Prints how many findings were known, and the list.
pub(crate) fn show(count: usize) {
    if count == 0 {
        return;
    }
    print(&format!("{count} findings are known defects, and not counted above; all that are known:"));
    for (operation, _, why) in KNOWN {
        let operation = if operation.is_empty() { "any operation" } else { operation };
        print(&format!("  {operation}: {why}"));
    }
}
