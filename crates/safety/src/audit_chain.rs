//! The chain of an audit log's lines: what follows what, and the first line that does not fit.

use std::fmt;

use evoseal_types::{Digest, checked_line};
use serde::{Deserialize, Serialize};

use crate::audit::AuditRecord;

/// Where a log ends: kept elsewhere, it shows every later change, also one that the log itself cannot show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// How many records there are.
    pub count: u64,
    /// The digest of the last record's JSON; of no bytes if there is none.
    pub digest: Digest,
}

impl Default for AuditHead {
    /// The head of an empty log.
    fn default() -> Self {
        Self { count: 0, digest: Digest::of(b"") }
    }
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.digest)
    }
}

/// The first record that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDamage {
    /// Its place, counted from 1.
    pub record: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// What was read of a log, up to the first record that does not fit.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    /// Each record, where the log would end with it, and the bytes of its line with the line's end.
    pub(crate) links: Vec<(AuditRecord, AuditHead, &'a [u8])>,
    /// The first record that does not fit.
    pub(crate) damage: Option<AuditDamage>,
    /// Where the tail begins that was never acknowledged.
    pub(crate) whole_len: usize,
}

/// Reads the lines that follow a log that ends at `head`.
pub(crate) fn read(bytes: &[u8], head: AuditHead) -> Chain<'_> {
    let (lines, whole_len) = checked_line::whole_lines(bytes);
    let (mut links, mut damage, mut head, mut start) = (Vec::new(), None, head, 0);
    for line in lines.clone() {
        match follow(line, head) {
            Ok((record, next)) => {
                let end = start + line.len() + 1;
                links.push((record, next, &bytes[start..end]));
                (head, start) = (next, end);
            }
            Err(problem) => {
                let rest = lines.skip(links.len());
                let problem = explain(problem, head.count + 1, rest);
                damage = Some(AuditDamage { record: head.count + 1, problem });
                break;
            }
        }
    }
    Chain { links, damage, whole_len }
}

/// Why a line cannot follow.
enum Problem {
    /// It cannot be read at all.
    Unreadable(String),
    /// It is a whole record with another number.
    Misplaced(u64),
    /// It has the right number and names another record before it.
    Unlinked,
}

/// The record of a line that follows `head`, and the head with it.
fn follow(line: &[u8], head: AuditHead) -> Result<(AuditRecord, AuditHead), Problem> {
    let (digest, json) =
        checked_line::decode(line).map_err(|problem| Problem::Unreadable(problem.to_string()))?;
    let record: AuditRecord =
        serde_json::from_str(json).map_err(|error| Problem::Unreadable(error.to_string()))?;
    if record.sequence != head.count + 1 {
        return Err(Problem::Misplaced(record.sequence));
    }
    if record.previous != head.digest {
        return Err(Problem::Unlinked);
    }
    Ok((record, AuditHead { count: head.count + 1, digest }))
}

/// A problem in words. `rest` are the lines from the one in question on: they tell a swap from a loss.
fn explain<'a>(problem: Problem, expected: u64, rest: impl Iterator<Item = &'a [u8]>) -> String {
    let found = match problem {
        Problem::Unreadable(problem) => return problem,
        Problem::Unlinked => return "it does not follow the record before it".to_owned(),
        Problem::Misplaced(found) => found,
    };
    if found < expected {
        return format!("record {found} stands here again");
    }
    let number = |line: &[u8]| serde_json::from_str::<AuditRecord>(checked_line::decode(line).ok()?.1).ok();
    let stands_later = rest.filter_map(number).any(|record| record.sequence == expected);
    if stands_later {
        format!("record {found} stands before it")
    } else {
        format!("it is gone; record {found} stands in its place")
    }
}
