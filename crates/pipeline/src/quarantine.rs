//! Tests that were found to be flaky on an accepted version, and how they are trusted again.

use std::collections::BTreeMap;

use evoseal_safety::{Flakiness, NamedTest, Observations};
use evoseal_types::TestStatus;

/// After how many evaluations in a row that a test passed it is no longer held to be flaky. One that fails once in ten runs
/// passes so many with a probability of one half of a per cent.
pub const CLEAN_RUNS_TO_TRUST: u32 = 50;

/// Learns from one evaluation: `quarantined` has in how many of them each test passed since it last failed. A test that flips on
/// the accepted version comes in, one that passed often enough goes out, one that was not run stays as it is.
pub(crate) fn learn(quarantined: &mut BTreeMap<NamedTest, u32>, observations: &Observations) {
    quarantined.retain(|test, clean_runs| {
        match ended(test, observations) {
            Some(true) => *clean_runs += 1,
            Some(false) => *clean_runs = 0,
            None => {}
        }
        *clean_runs < CLEAN_RUNS_TO_TRUST
    });
    let flaky = observations.retests.iter().filter(|known| known.flakiness() == Flakiness::OnIncumbent);
    quarantined.extend(flaky.map(|retested| (retested.test.clone(), 0)));
}

/// Whether a test passed at once, wherever it stands; `None` where it was not run.
fn ended(test: &NamedTest, observations: &Observations) -> Option<bool> {
    let reports = observations.test_results.iter().filter(|report| report.test_type == test.test_type);
    let cases = reports.flat_map(|report| &report.cases).filter(|case| case.name == test.name);
    let run: Vec<TestStatus> =
        cases.map(|case| case.status).filter(|status| *status != TestStatus::Skip).collect();
    let again = observations.retests.iter().any(|retested| retested.test == *test);
    (!run.is_empty()).then(|| !again && run.iter().all(|status| *status == TestStatus::Pass))
}

#[cfg(test)]
mod tests {
    use evoseal_safety::RetestedTest;
    use evoseal_types::{TestCase, TestReport};

    use super::*;

    fn test(name: &str) -> NamedTest {
        NamedTest { test_type: "unit".to_owned(), name: name.to_owned() }
    }

    fn observed(cases: &[(&str, TestStatus)]) -> Observations {
        let case = |(name, status): &(&str, TestStatus)| TestCase {
            name: (*name).to_owned(),
            status: *status,
            message: None,
        };
        let report = TestReport::from_cases("unit", cases.iter().map(case).collect());
        Observations { test_results: vec![report], ..Observations::default() }
    }

    #[test]
    fn a_test_is_trusted_again_after_enough_clean_runs_in_a_row_and_not_before() {
        use TestStatus::{Fail, Pass, Skip};
        let flips = RetestedTest {
            test: test("a"),
            known: false,
            candidate: vec![Pass],
            incumbent: vec![Pass, Fail],
        };
        let found = Observations { retests: vec![flips], ..observed(&[("a", Fail), ("b", Pass)]) };
        let mut quarantined = BTreeMap::new();
        learn(&mut quarantined, &found);
        assert_eq!(quarantined, [(test("a"), 0)].into());
        for _ in 1..CLEAN_RUNS_TO_TRUST {
            learn(&mut quarantined, &observed(&[("a", Pass)]));
        }
        // What was not run says nothing.
        learn(&mut quarantined, &observed(&[("a", Skip)]));
        learn(&mut quarantined, &observed(&[("b", Pass)]));
        assert_eq!(quarantined, [(test("a"), CLEAN_RUNS_TO_TRUST - 1)].into());
        learn(&mut quarantined, &observed(&[("a", Fail)]));
        assert_eq!(quarantined, [(test("a"), 0)].into(), "it begins anew");
        for _ in 0..CLEAN_RUNS_TO_TRUST {
            assert!(!quarantined.is_empty());
            learn(&mut quarantined, &observed(&[("a", Pass)]));
        }
        assert!(quarantined.is_empty());
        learn(&mut quarantined, &found);
        assert_eq!(quarantined, [(test("a"), 0)].into(), "it can come in again");
    }

    #[test]
    fn a_pass_that_took_more_than_one_run_is_not_clean() {
        let retested = RetestedTest {
            test: test("a"),
            known: true,
            candidate: vec![TestStatus::Pass],
            incumbent: vec![TestStatus::Pass],
        };
        let observations = Observations { retests: vec![retested], ..observed(&[("a", TestStatus::Pass)]) };
        let mut quarantined = BTreeMap::from([(test("a"), 7)]);
        learn(&mut quarantined, &observations);
        assert_eq!(quarantined, [(test("a"), 0)].into());
    }
}
