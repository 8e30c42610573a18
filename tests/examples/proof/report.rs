//! What was found, and how it is printed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::{Result, known};

/// What must never happen, with a sentence for each time that it did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Something acknowledged, or an earlier checkpoint, is gone or does not restore exactly.
    pub(crate) lost: Vec<String>,
    /// Neither the old nor the new state.
    pub(crate) mixed: Vec<String>,
    /// The next command needs help.
    pub(crate) blocked: Vec<String>,
}

impl Findings {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.mixed.is_empty() && self.blocked.is_empty()
    }

    pub(crate) fn lost(&mut self, what: impl Into<String>) {
        self.lost.push(what.into());
    }

    pub(crate) fn mixed(&mut self, what: impl Into<String>) {
        self.mixed.push(what.into());
    }

    pub(crate) fn blocked(&mut self, what: impl Into<String>) {
        self.blocked.push(what.into());
    }

    /// The findings in one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kind = |word: &'static str, list: &[String]| {
            list.iter().map(move |what| format!("{word}: {what}")).collect::<Vec<_>>()
        };
        [kind("lost", &self.lost), kind("mixed", &self.mixed), kind("blocked", &self.blocked)].concat()
    }
}

/// How often something was tried, and how often it went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Points that exist.
    pub(crate) points: usize,
    /// Points that were tried and reached.
    pub(crate) tried: usize,
    /// Of these, those with something lost.
    pub(crate) lost: usize,
    /// With a mixed state.
    pub(crate) mixed: usize,
    /// With a next command that did not work.
    pub(crate) blocked: usize,
    /// Where a restore was left half-way and the next command completed it.
    pub(crate) completed: usize,
    /// Findings that are known defects, and count nowhere else.
    pub(crate) known: usize,
}

impl Tally {
    /// Counts one point of an operation that was tried, and takes what is known out of its findings.
    pub(crate) fn count(&mut self, operation: &str, findings: &mut Findings) {
        self.known += known::take(operation, findings);
        self.tried += 1;
        self.lost += usize::from(!findings.lost.is_empty());
        self.mixed += usize::from(!findings.mixed.is_empty());
        self.blocked += usize::from(!findings.blocked.is_empty());
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.tried += other.tried;
        self.lost += other.lost;
        self.mixed += other.mixed;
        self.blocked += other.blocked;
        self.completed += other.completed;
        self.known += other.known;
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.mixed + self.blocked == 0
    }
}

/// Success exactly when nothing went wrong.
pub(crate) fn exit(is_clean: bool) -> ExitCode {
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes a line of the result to standard output. A reader that has gone away is no error.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Says how it goes, on standard error.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints what went wrong, at most twenty of it.
pub(crate) fn print_failures(failures: &[String]) {
    for failure in failures.iter().take(20) {
        print(&format!("  {failure}"));
    }
    if failures.len() > 20 {
        print(&format!("  and {} more", failures.len() - 20));
    }
}

/// Writes the figures to a file as well.
pub(crate) fn write_json(file: Option<&Path>, figures: &impl Serialize) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(figures)?;
    let _ = writeln!(text);
    Ok(std::fs::write(file, text)?)
}
