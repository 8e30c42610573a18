//! What commands print, read strictly.
//!
//! Everything here is a pure function of text that an untrusted program wrote. None panics, none takes more memory than a
//! small multiple of the text, and none guesses: text that contradicts itself or was cut short is an [`Error`], never a
//! report with what was left.
//!
//! | module | reads |
//! | --- | --- |
//! | [`metric_lines`] | `METRIC name=value unit` lines |
//! | [`json`] | metrics and test results as one JSON object |
//! | [`libtest`] | the output of `cargo test` |
//! | [`junit`] | JUnit XML, which nearly every test runner can write |
//!
//! No format can prove that the tests ran: code under test that prints a perfect report and leaves is read as that
//! report. What makes this hard to use is that tests are compared by name with those of the accepted version.

pub mod json;
pub mod junit;
pub mod libtest;
pub mod metric_lines;

use std::collections::BTreeMap;

use evoseal_types::{MetricName, TestCase};

use crate::text;

/// How much of a test's name is kept, in characters.
const NAME_CHARS_MAX: usize = 500;
/// How much of what a failed test said is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// Text that is not what its format promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", line.map(|line| format!(" (line {line})")).unwrap_or_default())]
pub struct Error {
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

impl Error {
    fn new(reason: impl Into<String>) -> Self {
        Self { line: None, reason: reason.into() }
    }

    fn at(line: usize, reason: impl Into<String>) -> Self {
        Self { line: Some(line), reason: reason.into() }
    }
}

/// One value that a program printed, in the order of printing.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The metric.
    pub name: MetricName,
    /// The value; it may be non-finite.
    pub value: f64,
    /// The unit, if the program named one.
    pub unit: Option<String>,
}

/// A unit as programs may print it: 1 to 32 characters without white space or control characters.
fn check_unit(unit: &str) -> Result<(), String> {
    if unit.is_empty() || unit.chars().count() > 32 {
        return Err(format!("a unit has 1 to 32 characters, not {:?}", text::line(unit, 40)));
    }
    if unit.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err(format!("a unit has no white space, unlike {:?}", text::line(unit, 40)));
    }
    Ok(())
}

/// Tells tests of the same name apart: the second becomes `name #2`, the third `name #3`.
fn make_unique(cases: &mut [TestCase]) {
    let mut counts: BTreeMap<String, usize> = cases.iter().map(|case| (case.name.clone(), 0)).collect();
    for case in cases {
        let original = case.name.clone();
        loop {
            let count = counts.entry(original.clone()).or_default();
            *count += 1;
            if *count == 1 {
                break;
            }
            let name = format!("{original} #{count}");
            // A test may really bear that name.
            if !counts.contains_key(&name) {
                counts.insert(name.clone(), 1);
                case.name = name;
                break;
            }
        }
    }
}

/// What a test said, or nothing if it said nothing.
fn message(said: &str) -> Option<String> {
    let message = text::tail(said, MESSAGE_CHARS_MAX);
    (!message.is_empty()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evoseal_types::TestStatus;

    #[test]
    fn equal_names_are_numbered_without_hitting_real_ones() {
        let case = |name: &str| TestCase { name: name.to_owned(), status: TestStatus::Pass, message: None };
        let mut cases = vec![case("a"), case("a"), case("a #2"), case("a"), case("b")];
        make_unique(&mut cases);
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["a", "a #3", "a #2", "a #4", "b"]);
    }
}
