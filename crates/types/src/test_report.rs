//! Results of a test command.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How a test, or a whole test command, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestStatus {
    /// It ran and passed.
    Pass,
    /// It ran and failed.
    Fail,
    /// It could not be run to its end: it crashed, timed out, or did not build.
    Error,
    /// It was not run.
    Skip,
}

impl fmt::Display for TestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Skip => "skip",
        })
    }
}

/// One test by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCase {
    /// The name under which the test runner knows it.
    pub name: String,
    /// How it ended.
    pub status: TestStatus,
    /// What it said when it did not pass, cut to a bounded length by whoever read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What the tests used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// CPU time over wall time, in percent of one core.
    pub cpu_percent: Option<f64>,
    /// Peak resident memory, in MiB.
    pub memory_mb: Option<f64>,
    /// Bytes read from storage, in MiB.
    pub io_read_mb: Option<f64>,
    /// Bytes written to storage, in MiB.
    pub io_write_mb: Option<f64>,
}

/// The outcome of one test command on one version, with the published field names.
///
/// A report is consistent when `tests_passed + tests_failed + tests_errors = tests_run` (skipped tests did not run) and
/// `status` is not [`TestStatus::Pass`] while something failed; [`TestReport::check`] says so. A report of zero tests is
/// a proper value, but never a reason to accept anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestReport {
    /// What kind of tests: `unit_tests`, `round_trip`.
    pub test_type: String,
    /// How the command as a whole ended.
    pub status: TestStatus,
    /// Tests that ran, skipped ones excluded.
    pub tests_run: u64,
    /// Tests that passed.
    pub tests_passed: u64,
    /// Tests that failed.
    pub tests_failed: u64,
    /// Tests that ended in an error.
    #[serde(default)]
    pub tests_errors: u64,
    /// Tests that were not run.
    #[serde(default)]
    pub tests_skipped: u64,
    /// Wall time of the command, in seconds.
    #[serde(default)]
    pub duration_sec: f64,
    /// What the command used.
    #[serde(default)]
    pub resources: Resources,
    /// Single tests by name, where the runner names them; sorted by name.
    #[serde(default)]
    pub cases: Vec<TestCase>,
    /// Why the status is what it is, where the counts do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl TestReport {
    /// A report from counts alone: `fail` if something failed, else `error` if something erred, else `pass`.
    ///
    /// ```
    /// use evoseal_types::{TestReport, TestStatus};
    /// let report = TestReport::from_counts("unit_tests", 9, 1, 0, 2);
    /// assert_eq!((report.status, report.tests_run, report.success_rate()), (TestStatus::Fail, 10, Some(90.0)));
    /// ```
    pub fn from_counts(
        test_type: impl Into<String>,
        passed: u64,
        failed: u64,
        errors: u64,
        skipped: u64,
    ) -> Self {
        let status = match (failed, errors) {
            (0, 0) => TestStatus::Pass,
            (0, _) => TestStatus::Error,
            _ => TestStatus::Fail,
        };
        Self {
            test_type: test_type.into(),
            status,
            tests_run: passed.saturating_add(failed).saturating_add(errors),
            tests_passed: passed,
            tests_failed: failed,
            tests_errors: errors,
            tests_skipped: skipped,
            duration_sec: 0.0,
            resources: Resources::default(),
            cases: Vec::new(),
            message: None,
        }
    }

    /// A report of tests by name, its counts computed from them.
    pub fn from_cases(test_type: impl Into<String>, mut cases: Vec<TestCase>) -> Self {
        cases.sort_by(|left, right| left.name.cmp(&right.name));
        let count = |status| cases.iter().filter(|case| case.status == status).count() as u64;
        let [passed, failed, errors, skipped] =
            [TestStatus::Pass, TestStatus::Fail, TestStatus::Error, TestStatus::Skip].map(count);
        Self { cases, ..Self::from_counts(test_type, passed, failed, errors, skipped) }
    }

    /// A command that could not be run to its end, and why.
    pub fn errored(test_type: impl Into<String>, message: impl Into<String>) -> Self {
        let report = Self::from_counts(test_type, 0, 0, 0, 0);
        Self { status: TestStatus::Error, message: Some(message.into()), ..report }
    }

    /// Passed tests in percent of those that ran, 0 to 100; `None` if none ran.
    pub fn success_rate(&self) -> Option<f64> {
        (self.tests_run > 0).then(|| self.tests_passed as f64 * 100.0 / self.tests_run as f64)
    }

    /// Says whether the counts agree with each other and with the status.
    pub fn check(&self) -> Result<(), Error> {
        let contradiction =
            |reason: String| Err(Error::TestReport { test_type: self.test_type.clone(), reason });
        let sum = self
            .tests_passed
            .checked_add(self.tests_failed)
            .and_then(|sum| sum.checked_add(self.tests_errors));
        if sum != Some(self.tests_run) {
            return contradiction(format!(
                "{} passed, {} failed and {} errors do not add up to {} run",
                self.tests_passed, self.tests_failed, self.tests_errors, self.tests_run
            ));
        }
        if self.status == TestStatus::Pass && self.tests_failed + self.tests_errors > 0 {
            return contradiction("it claims to have passed with failed tests".to_owned());
        }
        if !self.duration_sec.is_finite() || self.duration_sec < 0.0 {
            return contradiction(format!("duration {} s is not a time", self.duration_sec));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_from_named_cases() {
        let case = |name: &str, status| TestCase { name: name.to_owned(), status, message: None };
        let report = TestReport::from_cases(
            "unit_tests",
            vec![case("b", TestStatus::Pass), case("a", TestStatus::Error), case("c", TestStatus::Skip)],
        );
        assert_eq!((report.status, report.tests_run, report.tests_skipped), (TestStatus::Error, 2, 1));
        assert_eq!(report.cases[0].name, "a");
        report.check().unwrap();
    }

    #[test]
    fn a_report_that_contradicts_itself_is_found() {
        let good = TestReport::from_counts("t", 3, 0, 0, 0);
        for bad in [
            TestReport { tests_run: 4, ..good.clone() },
            TestReport { tests_passed: u64::MAX, tests_failed: 2, ..good.clone() },
            TestReport { status: TestStatus::Pass, ..TestReport::from_counts("t", 3, 1, 0, 0) },
            TestReport { duration_sec: f64::NAN, ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        good.check().unwrap();
    }

    #[test]
    fn no_tests_have_no_success_rate() {
        assert_eq!(TestReport::errored("t", "did not build").success_rate(), None);
    }
}
