//! Telling failed tests from flaky ones: they are run again, on the candidate and on the incumbent.

use evoseal_safety::{NamedTest, Observations, RetestedTest, Subject};
use evoseal_types::{TestReport, TestStatus};

use crate::event::Stage;
use crate::iterate::flight_of;
use crate::journal::{InFlight, JournalEntry, Retest};
use crate::observe::observe;
use crate::pipeline::{EvolutionPipeline, Run};
use crate::{EvaluationRequest, Result};

/// So many failures at once are no accident, and running everything again would only cost time.
const FAILURES_MAX: usize = 20;
/// How often tests are run again at most, whatever the evaluator says.
pub(crate) const ATTEMPTS_MAX: u32 = 20;

impl EvolutionPipeline {
    /// Runs failed tests again and takes down what came of it. Every run is in the journal once it is made. `false` if the run
    /// was cancelled.
    ///
    /// Where all failures turn out to be flaky on the incumbent, the candidate is evaluated once more, so that it is measured as
    /// one whose tests pass would have been.
    pub(crate) async fn retest(&self, run: &mut Run) -> Result<bool> {
        let flight = flight_of(run)?.clone();
        let Some(observations) = flight.observations.clone() else { return Ok(true) };
        let Some(failed) = worth_another_run(&flight, &observations) else { return Ok(true) };
        self.stage_started(flight.iteration, Stage::Evaluate);
        for attempt in 1..=ATTEMPTS_MAX {
            match self.run_again(run, attempt, &failed).await? {
                Some(true) => {}
                Some(false) => break,
                None => return Ok(false),
            }
        }
        let flight = flight_of(run)?.clone();
        let retests = summary(&flight, &observations.quarantined, &failed);
        if retests.is_empty() {
            return Ok(true);
        }
        let words: Vec<String> = retests
            .iter()
            .map(|retested| format!("{} is {}", retested.test.name, retested.flakiness()))
            .collect();
        self.stage_completed(flight.iteration, Stage::Evaluate, words.join(", "));
        let mut observations = Observations { retests, ..observations };
        let changes = flight.candidate.as_ref().map(|(_, changes)| changes.clone()).unwrap_or_default();
        let violations = self.check_edit(flight.iteration, &changes).await?;
        if violations.is_empty() && needs_measuring(&observations, &failed) {
            let Some(measured) = self.evaluate_tolerating(run, &flight, &observations).await? else {
                return Ok(false);
            };
            observations = measured;
        } else {
            observations.violations = violations;
        }
        run.record(JournalEntry::Observed { iteration: flight.iteration, observations }).await?;
        Ok(true)
    }

    /// One more run of the tests on each version, where the journal does not have it. `Some(false)` if there is no further
    /// one, `None` if the run was cancelled.
    async fn run_again(&self, run: &mut Run, attempt: u32, failed: &[NamedTest]) -> Result<Option<bool>> {
        for subject in [Subject::Incumbent, Subject::Candidate] {
            let flight = flight_of(run)?.clone();
            if flight.retests.iter().any(|known| (known.attempt, known.subject) == (attempt, subject)) {
                continue;
            }
            let Some(request) = self.both_in_place(&flight).await? else { return Ok(Some(false)) };
            let retested = self.parts.evaluator.retest(&request, subject, attempt);
            let Some(retested) = self.cancellation.unless_cancelled(retested).await else { return Ok(None) };
            // Who cannot say more leaves the failure standing.
            let Ok(Some(reports)) = retested else { return Ok(Some(false)) };
            let tests = failed.iter().map(|test| (test.clone(), status_of(test, &reports))).collect();
            let iteration = flight.iteration;
            let retest = Retest { attempt, subject, tests };
            run.record(JournalEntry::Retested { iteration, retest }).await?;
        }
        Ok(Some(true))
    }

    /// Both versions as they were captured; `None` where one of them was not.
    pub(crate) async fn both_in_place(&self, flight: &InFlight) -> Result<Option<EvaluationRequest>> {
        let Some((version, _)) = &flight.candidate else { return Ok(None) };
        let Some(checkpoint) = version.checkpoint else { return Ok(None) };
        self.restore_workspace(checkpoint).await?;
        let request = self.evaluation_request(flight, version).await?;
        Ok(request.incumbent.is_some().then_some(request))
    }

    /// Evaluates the candidate again, this time past the failures that are excused.
    async fn evaluate_tolerating(
        &self,
        run: &mut Run,
        flight: &InFlight,
        observations: &Observations,
    ) -> Result<Option<Observations>> {
        let Some((version, changes)) = flight.candidate.clone() else {
            return Ok(Some(observations.clone()));
        };
        if let Some(checkpoint) = version.checkpoint {
            self.restore_workspace(checkpoint).await?;
        }
        let tolerated = observations.retests.iter().map(|retested| retested.test.clone());
        let tolerated = tolerated.chain(observations.quarantined.iter().cloned()).collect();
        let Some(evaluation) = self.evaluate_bounded(run, flight, &version, tolerated).await? else {
            return Ok(None);
        };
        let violations = self.check_edit(flight.iteration, &changes).await?;
        let earlier = run.state.incumbent.as_ref().map(|(_, observed)| observed.clone()).unwrap_or_default();
        Ok(Some(Observations {
            retests: observations.retests.clone(),
            quarantined: observations.quarantined.clone(),
            person: observations.person.clone(),
            ..observe(evaluation, violations, &earlier)
        }))
    }
}

/// The failed tests, if running them again can tell anything: names explain every failure, nothing else went wrong, and both
/// versions can be laid out. Not where it has been done.
fn worth_another_run(flight: &InFlight, observations: &Observations) -> Option<Vec<NamedTest>> {
    let captured = flight.incumbent.checkpoint.is_some()
        && flight.candidate.as_ref().is_some_and(|(version, _)| version.checkpoint.is_some());
    if captured { rerunnable(observations) } else { None }
}

/// The failed tests, if names explain every failure, nothing else went wrong, and they were not run again yet.
pub(crate) fn rerunnable(observations: &Observations) -> Option<Vec<NamedTest>> {
    let clean = observations.violations.is_empty() && observations.faults.is_empty();
    if !clean || !observations.retests.is_empty() {
        return None;
    }
    observations.named_failures().filter(|failed| !failed.is_empty() && failed.len() <= FAILURES_MAX)
}

/// Whether the failures kept the candidate from being measured and are all excused.
pub(crate) fn needs_measuring(observations: &Observations, failed: &[NamedTest]) -> bool {
    observations.retests.iter().all(RetestedTest::is_excused)
        && !failed.iter().all(|test| observations.quarantined.contains(test))
}

/// How a test ended in these reports; the worst where it stands in several.
pub(crate) fn status_of(test: &NamedTest, reports: &[TestReport]) -> TestStatus {
    let of_type = reports.iter().filter(|report| report.test_type == test.test_type);
    let found: Vec<TestStatus> = of_type
        .flat_map(|report| &report.cases)
        .filter(|case| case.name == test.name)
        .map(|case| case.status)
        .collect();
    let worst = [TestStatus::Error, TestStatus::Fail, TestStatus::Pass];
    worst.into_iter().find(|status| found.contains(status)).unwrap_or(TestStatus::Skip)
}

/// What the runs say of each test; nothing before both versions have been run.
fn summary(flight: &InFlight, quarantined: &[NamedTest], failed: &[NamedTest]) -> Vec<RetestedTest> {
    let of = |subject: Subject, test: &NamedTest| -> Vec<TestStatus> {
        let runs = flight.retests.iter().filter(|run| run.subject == subject);
        let found = runs.filter_map(|run| run.tests.iter().find(|(name, _)| name == test));
        found.map(|(_, status)| *status).collect()
    };
    let retested = failed.iter().map(|test| RetestedTest {
        test: test.clone(),
        known: quarantined.contains(test),
        candidate: of(Subject::Candidate, test),
        incumbent: of(Subject::Incumbent, test),
    });
    retested.filter(|retested| !retested.candidate.is_empty() && !retested.incumbent.is_empty()).collect()
}
