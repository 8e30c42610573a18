//! Tests that failed and were run again, on the candidate and on the incumbent.

use std::fmt;

use evoseal_types::{TestCase, TestReport, TestStatus};
use serde::{Deserialize, Serialize};

use crate::{NamedTest, Observations};

/// A test that failed on the candidate, and what it did when it was run again.
///
/// ```
/// use evoseal_safety::{Flakiness, NamedTest, RetestedTest};
/// use evoseal_types::TestStatus::{Fail, Pass};
///
/// let test = NamedTest { test_type: "unit".to_owned(), name: "sends".to_owned() };
/// let retested = |candidate: &[_], incumbent: &[_]| {
///     let (candidate, incumbent) = (candidate.to_vec(), incumbent.to_vec());
///     RetestedTest { test: test.clone(), known: false, candidate, incumbent }
/// };
/// assert_eq!(retested(&[Fail, Pass], &[Pass, Fail]).flakiness(), Flakiness::OnIncumbent);
/// assert_eq!(retested(&[Fail, Fail], &[Pass, Pass]).flakiness(), Flakiness::None);
/// let new = retested(&[Fail, Pass], &[Pass, Pass]);
/// assert_eq!(new.flakiness(), Flakiness::OnCandidate);
/// assert!(!new.is_excused(), "it flips since this candidate: that is a failure");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetestedTest {
    /// The test.
    pub test: NamedTest,
    /// Whether it was found to be flaky on an accepted version before.
    pub known: bool,
    /// How it ended on the candidate, run by run, without the first failure; `skip` where it was not run.
    pub candidate: Vec<TestStatus>,
    /// How it ended on the incumbent.
    pub incumbent: Vec<TestStatus>,
}

impl RetestedTest {
    /// The same for a version to start from, which has no incumbent beside it: `first` is how the test ended before it was run
    /// again. One that passed in any of the `runs` flips on what is to be the accepted version, with the first failure among its
    /// runs there; one that did not is a failure.
    pub fn on_first_version(test: NamedTest, known: bool, first: TestStatus, runs: Vec<TestStatus>) -> Self {
        let flips = runs.contains(&TestStatus::Pass);
        let incumbent =
            if flips { std::iter::once(first).chain(runs.iter().copied()).collect() } else { Vec::new() };
        Self { test, known, candidate: runs, incumbent }
    }
}

/// Where a test gives different answers for the same version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flakiness {
    /// Nowhere: it fails on the candidate and passes on the incumbent, every time. It is a failure.
    None,
    /// On the candidate only, which is a failure too: the accepted version always passes it.
    OnCandidate,
    /// On the incumbent, where it fails now and then, or always: that says nothing about the candidate.
    OnIncumbent,
}

impl fmt::Display for Flakiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "not flaky",
            Self::OnCandidate => "flaky on the candidate",
            Self::OnIncumbent => "flaky",
        })
    }
}

impl RetestedTest {
    /// Where the test flips.
    pub fn flakiness(&self) -> Flakiness {
        if self.incumbent.iter().any(|status| is_failure(*status)) {
            Flakiness::OnIncumbent
        } else if self.candidate.contains(&TestStatus::Pass) {
            Flakiness::OnCandidate
        } else {
            Flakiness::None
        }
    }

    /// Whether its failure says nothing about the candidate: it is flaky on the incumbent, or known to be and not failing
    /// every time.
    pub fn is_excused(&self) -> bool {
        match self.flakiness() {
            Flakiness::OnIncumbent => true,
            Flakiness::OnCandidate => self.known,
            Flakiness::None => false,
        }
    }
}

/// Whether a test ran and did not pass.
pub(crate) fn is_failure(status: TestStatus) -> bool {
    matches!(status, TestStatus::Fail | TestStatus::Error)
}

/// The tests of a report that ran and did not pass, by name.
fn failures(report: &TestReport) -> impl Iterator<Item = &TestCase> {
    report.cases.iter().filter(|case| is_failure(case.status))
}

impl Observations {
    /// The failed tests of the candidate by name, where names explain every failure; `None` where something else went
    /// wrong, such as a crash, or a failure without a name.
    pub fn named_failures(&self) -> Option<Vec<NamedTest>> {
        let mut tests = Vec::new();
        for report in self.test_results.iter().filter(|report| report.status != TestStatus::Pass) {
            let named = failures(report).count() as u64;
            if named == 0 || named != report.tests_failed.saturating_add(report.tests_errors) {
                return None;
            }
            tests.extend(
                failures(report)
                    .map(|case| NamedTest { test_type: report.test_type.clone(), name: case.name.clone() }),
            );
        }
        tests.sort();
        tests.dedup();
        Some(tests)
    }

    /// How many failures of a report are excused.
    pub(crate) fn excused_failures(&self, report: &TestReport) -> u64 {
        failures(report).filter(|case| self.is_excused(&report.test_type, &case.name)).count() as u64
    }

    /// Whether the failure of this test says nothing about the candidate.
    pub(crate) fn is_excused(&self, test_type: &str, name: &str) -> bool {
        self.retests.iter().any(|retested| {
            retested.test.test_type == test_type && retested.test.name == name && retested.is_excused()
        })
    }

    /// Whether a report passes, apart from failures that are excused. They must be all that is wrong with it.
    pub fn passes(&self, report: &TestReport) -> bool {
        let excused = self.excused_failures(report);
        report.status == TestStatus::Pass
            || (excused > 0 && excused == report.tests_failed.saturating_add(report.tests_errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_names_do_not_explain_are_not_run_again() {
        let case = |name: &str, status| TestCase { name: name.to_owned(), status, message: None };
        let of =
            |report| Observations { test_results: vec![report], ..Observations::default() }.named_failures();
        let named =
            TestReport::from_cases("unit", vec![case("a", TestStatus::Fail), case("b", TestStatus::Pass)]);
        assert_eq!(of(named.clone()).unwrap()[0].name, "a");
        assert_eq!(
            of(TestReport { tests_failed: 2, tests_run: 3, ..named.clone() }),
            None,
            "one has no name"
        );
        assert_eq!(of(TestReport::errored("unit", "signal 11")), None, "a crash is no failed test");
        assert_eq!(of(TestReport { status: TestStatus::Pass, ..named }), Some(Vec::new()));
    }
}
