//! The tests by name: what the incumbent passed and the candidate no longer runs.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{TestReport, TestStatus};
use serde::{Deserialize, Serialize};

/// A test by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedTest {
    /// The type of its report.
    pub test_type: String,
    /// The name under which the test runner knows it.
    pub name: String,
}

/// How a test that passed is no longer run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// No report names it.
    Missing,
    /// It is named and was not run: skipped, or newly ignored.
    Skipped,
}

/// A test that passed in the incumbent and was not run in the candidate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LostTest {
    /// The type of its report.
    pub test_type: String,
    /// The name under which the test runner knows it.
    pub name: String,
    /// How it was lost.
    pub lost: Lost,
}

/// A type of tests of which fewer ran, where no name says which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FewerTests {
    /// The type.
    pub test_type: String,
    /// How many ran in the incumbent.
    pub before: u64,
    /// How many ran in the candidate.
    pub after: u64,
}

/// What the candidate's tests lack against the incumbent's; every name, in order.
///
/// ```
/// use evoseal_safety::TestChanges;
/// use evoseal_types::{TestCase, TestReport, TestStatus};
///
/// let report = |names: &[&str]| {
///     let case = |name: &&str| TestCase { name: (*name).to_owned(), status: TestStatus::Pass, message: None };
///     vec![TestReport::from_cases("unit", names.iter().map(case).collect())]
/// };
/// let changes = TestChanges::between(&report(&["adds", "divides"]), &report(&["adds", "divides_safely"]));
/// assert_eq!(changes.lost[0].name, "divides");
/// assert_eq!(changes.new[0].name, "divides_safely", "a renamed test is a lost one and a new one");
/// assert!(TestChanges::between(&report(&["adds"]), &report(&["adds", "divides"])).is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestChanges {
    /// Tests that passed in the incumbent and no longer run.
    pub lost: Vec<LostTest>,
    /// Types of tests of which fewer ran although no named test is lost.
    pub fewer: Vec<FewerTests>,
    /// Tests that the incumbent does not have, where some were lost: what a lost one may have been renamed to.
    pub new: Vec<NamedTest>,
}

impl TestChanges {
    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.fewer.is_empty()
    }

    /// Compares type by type. A type of which a report of the candidate ended in an error is passed over: which tests it has
    /// is not known then, and the error speaks for itself.
    pub fn between(incumbent: &[TestReport], candidate: &[TestReport]) -> Self {
        let (before, after) = (by_type(incumbent), by_type(candidate));
        let mut changes = Self::default();
        for (test_type, before) in &before {
            let after = after.get(test_type).map(Vec::as_slice).unwrap_or_default();
            if !after.iter().any(|report| report.status == TestStatus::Error) {
                changes.compare(test_type, before, after);
            }
        }
        changes
    }

    fn compare(&mut self, test_type: &str, before: &[&TestReport], after: &[&TestReport]) {
        let now = statuses(after);
        let then = statuses(before);
        let passed = then.iter().filter(|(_, ran)| ran.contains(&TestStatus::Pass));
        let lost: Vec<LostTest> = passed
            .filter_map(|(name, _)| {
                let lost = match now.get(name) {
                    None => Lost::Missing,
                    Some(found) if found.iter().all(|status| *status == TestStatus::Skip) => Lost::Skipped,
                    Some(_) => return None,
                };
                Some(LostTest { test_type: test_type.to_owned(), name: (*name).to_owned(), lost })
            })
            .collect();
        let (ran_before, ran_after) = (tests_run(before), tests_run(after));
        if lost.is_empty() && ran_after < ran_before {
            let (before, after) = (ran_before, ran_after);
            self.fewer.push(FewerTests { test_type: test_type.to_owned(), before, after });
        }
        if !lost.is_empty() {
            let new = now.keys().filter(|name| !then.contains_key(*name));
            self.new.extend(
                new.map(|name| NamedTest { test_type: test_type.to_owned(), name: (*name).to_owned() }),
            );
        }
        self.lost.extend(lost);
    }

    /// What was lost, in a line that names at most `names_max` tests.
    pub fn summary(&self, names_max: usize) -> String {
        let count = self.lost.len() + self.fewer.len();
        let lost = self.lost.iter().map(|test| match test.lost {
            Lost::Missing => format!("{}: {}", test.test_type, test.name),
            Lost::Skipped => format!("{}: {} (skipped)", test.test_type, test.name),
        });
        let fewer = self
            .fewer
            .iter()
            .map(|fewer| format!("{}: {} ran, {} before", fewer.test_type, fewer.after, fewer.before));
        let named: Vec<String> = lost.chain(fewer).take(names_max).collect();
        let more = count.saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let new: Vec<&str> = self.new.iter().take(names_max).map(|test| test.name.as_str()).collect();
        let more_new = self.new.len().saturating_sub(new.len());
        let new = match (new.is_empty(), more_new) {
            (true, _) => String::new(),
            (false, 0) => format!("; new: {}", new.join(", ")),
            (false, more) => format!("; new: {} and {more} more", new.join(", ")),
        };
        format!("{}{more}{new}", named.join(", "))
    }
}

/// The reports of each type.
fn by_type(reports: &[TestReport]) -> BTreeMap<&str, Vec<&TestReport>> {
    let mut types: BTreeMap<&str, Vec<&TestReport>> = BTreeMap::new();
    for report in reports {
        types.entry(&report.test_type).or_default().push(report);
    }
    types
}

/// How each named test ended; a name may stand in several reports.
fn statuses<'a>(reports: &[&'a TestReport]) -> BTreeMap<&'a str, BTreeSet<TestStatus>> {
    let mut statuses: BTreeMap<&str, BTreeSet<TestStatus>> = BTreeMap::new();
    for case in reports.iter().flat_map(|report| &report.cases) {
        statuses.entry(&case.name).or_default().insert(case.status);
    }
    statuses
}

/// How many tests ran in all.
pub(crate) fn tests_run<'a>(reports: impl IntoIterator<Item = &'a &'a TestReport>) -> u64 {
    reports.into_iter().map(|report| report.tests_run).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use evoseal_types::TestCase;

    use super::*;

    fn report(cases: &[(&str, TestStatus)]) -> Vec<TestReport> {
        let case = |(name, status): &(&str, TestStatus)| TestCase {
            name: (*name).to_owned(),
            status: *status,
            message: None,
        };
        vec![TestReport::from_cases("unit", cases.iter().map(case).collect())]
    }

    #[test]
    fn every_lost_test_is_named_and_the_line_is_bounded() {
        let names: Vec<String> = (0..40).map(|index| format!("t{index:02}")).collect();
        let before: Vec<(&str, TestStatus)> =
            names.iter().map(|name| (name.as_str(), TestStatus::Pass)).collect();
        let changes = TestChanges::between(
            &report(&before),
            &report(&[("t00", TestStatus::Skip), ("u", TestStatus::Pass)]),
        );
        assert_eq!(changes.lost.len(), 40);
        assert_eq!((changes.lost[0].lost, changes.lost[1].lost), (Lost::Skipped, Lost::Missing));
        assert_eq!(changes.summary(2), "unit: t00 (skipped), unit: t01 and 38 more; new: u");
        let read: TestChanges = serde_json::from_str(&serde_json::to_string(&changes).unwrap()).unwrap();
        assert_eq!(read, changes);
    }

    #[test]
    fn a_test_that_fails_or_did_not_pass_before_is_not_lost() {
        use TestStatus::{Fail, Pass, Skip};
        let before = report(&[("a", Pass), ("b", Fail), ("c", Skip)]);
        assert!(TestChanges::between(&before, &report(&[("a", Fail), ("d", Pass)])).is_empty());
    }

    #[test]
    fn where_no_test_is_named_the_number_may_not_shrink() {
        let before = [TestReport::from_counts("unit", 5, 0, 0, 0)];
        let changes = TestChanges::between(&before, &[TestReport::from_counts("unit", 4, 0, 0, 1)]);
        assert_eq!(changes.fewer, [FewerTests { test_type: "unit".to_owned(), before: 5, after: 4 }]);
        assert!(TestChanges::between(&before, &[TestReport::from_counts("unit", 6, 0, 0, 0)]).is_empty());
    }

    #[test]
    fn a_command_that_ended_in_an_error_says_nothing_about_which_tests_there_are() {
        let before = report(&[("a", TestStatus::Pass)]);
        assert!(TestChanges::between(&before, &[TestReport::errored("unit", "did not build")]).is_empty());
        assert_eq!(TestChanges::between(&before, &[]).lost.len(), 1, "no report at all is another matter");
    }
}
