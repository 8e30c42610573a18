//! Where a rollback is struck, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::model::start_from;
use crate::Result;
use crate::spot::Spot;
use crate::victim::{End, Fault, PROGRAM, inject_at};

/// A rollback, and the next start that completes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Whether the whole workspace changes at one instant: then no next start is needed for an onlooker.
    pub(super) is_exchange: bool,
    pub(super) rollback: &'static [&'static str],
    pub(super) next: &'static [&'static str],
}

pub(super) const OPERATIONS: [Operation; 4] = [
    Operation {
        name: "program",
        is_exchange: false,
        rollback: &[PROGRAM, "rollback", "v1"],
        next: &[PROGRAM, "rollback"],
    },
    Operation { name: "library", is_exchange: false, rollback: &["rollback", "v1"], next: &["recover"] },
    Operation {
        name: "program, exchange",
        is_exchange: true,
        rollback: &[PROGRAM, "rollback", "v1", "--exchange"],
        next: &[PROGRAM, "rollback"],
    },
    Operation {
        name: "library, exchange",
        is_exchange: true,
        rollback: &["rollback", "v1", "--exchange"],
        next: &["recover"],
    },
];

/// How often a point is aimed at.
pub(super) const ATTEMPTS: usize = 20;

/// A fault in one call of one operation.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) operation: Operation,
    pub(super) fault: Fault,
    pub(super) spot: Spot,
}

/// A kill and both errors at each change.
pub(super) fn points_of(operation: Operation, spots: &[Spot]) -> Vec<Point> {
    let mut seen = BTreeSet::new();
    let faults = [Fault::Kill, Fault::Eio, Fault::Enospc];
    let of = |spot: &Spot| faults.map(|fault| Point { operation, fault, spot: spot.clone() });
    spots.iter().filter(|spot| seen.insert(spot.aim())).flat_map(of).collect()
}

impl Point {
    /// What it is counted with.
    pub(super) fn kind(&self) -> String {
        format!("{}, {}", self.operation.name, self.fault.name())
    }

    /// Strikes a command that starts from a state, and gives the place that it leaves. Nothing if the call was reached in no
    /// attempt.
    pub(super) fn strike(
        &self,
        folder: &Path,
        worker: usize,
        state: &Path,
        arguments: &[&str],
    ) -> Result<Option<(PathBuf, End)>> {
        for attempt in 0..ATTEMPTS {
            let place = start_from(folder, worker, state)?;
            let log = folder.join(format!("log{worker}"));
            let (end, is_reached) =
                inject_at(worker, &place, arguments, (self.fault, &self.spot, attempt), &log)?;
            if is_reached || end == End::Hung {
                return Ok(Some((place, end)));
            }
        }
        Ok(None)
    }

    /// A number of its own, to draw by.
    pub(super) fn noise(&self) -> u64 {
        self.to_string().bytes().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind(), self.spot)
    }
}
