//! The suites accept what keeps the contracts and reject what breaks them.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use evoseal_pipeline::conformance::evaluator::Version;
use evoseal_pipeline::conformance::proposer::ProposerInPlace;
use evoseal_pipeline::conformance::{evaluator, observer, proposer, stop_condition};
use evoseal_pipeline::{
    ConsecutiveFailures, DiskLimits, Evaluation, EvaluationRequest, Evaluator, Event, LoopProgress,
    MaxEvaluations, MaxIterations, NoImprovement, Observer, Proposal, ProposalContext, Proposer, Result,
    StopCondition, StopReason, TimeLimit,
};
use evoseal_safety::Subject;
use evoseal_testkit::{Faults, RecordingObserver, ScriptedEvaluator, ScriptedProposer, Step};
use evoseal_types::TestReport;

mod max_iterations {
    evoseal_pipeline::stop_condition_conformance!(super::max_iterations);
}

mod consecutive_failures {
    evoseal_pipeline::stop_condition_conformance!(super::consecutive_failures);
}

mod time_limit {
    evoseal_pipeline::stop_condition_conformance!(super::time_limit);
}

mod no_improvement {
    evoseal_pipeline::stop_condition_conformance!(super::no_improvement);
}

mod max_evaluations {
    evoseal_pipeline::stop_condition_conformance!(super::max_evaluations);
}

mod disk_limits {
    evoseal_pipeline::stop_condition_conformance!(super::disk_limits);
}

mod recording_observer {
    evoseal_pipeline::observer_conformance!(super::recording_observer);
}

mod scripted_proposer {
    evoseal_pipeline::proposer_conformance!(super::scripted_proposer);
}

mod scripted_evaluator {
    evoseal_pipeline::evaluator_conformance!(super::scripted_evaluator);
}

fn max_iterations() -> Box<dyn StopCondition> {
    Box::new(MaxIterations(5))
}

fn consecutive_failures() -> Box<dyn StopCondition> {
    Box::new(ConsecutiveFailures(5))
}

fn no_improvement() -> Box<dyn StopCondition> {
    Box::new(NoImprovement(5))
}

fn max_evaluations() -> Box<dyn StopCondition> {
    Box::new(MaxEvaluations(5))
}

fn disk_limits() -> Box<dyn StopCondition> {
    Box::new(DiskLimits { free_bytes_min: Some(5), store_bytes_max: Some(5) })
}

fn time_limit() -> Box<dyn StopCondition> {
    Box::new(TimeLimit(Duration::from_mins(1)))
}

fn recording_observer() -> Box<dyn Observer> {
    Box::new(RecordingObserver::default())
}

fn scripted_proposer(workspace: &Path) -> ProposerInPlace {
    fs::write(workspace.join("program.txt"), "time=100").unwrap();
    let proposer = ScriptedProposer::new([Step::Write("time=90")], Faults::default());
    ProposerInPlace { proposer: Box::new(proposer), repeatable: true }
}

fn scripted_evaluator(directory: &Path, version: Version) -> Box<dyn Evaluator> {
    let text = if version == Version::Good { "time=100 test:a=p" } else { "time=100 test:a=f" };
    fs::write(directory.join("program.txt"), text).unwrap();
    Box::new(ScriptedEvaluator::default())
}

/// A condition that gets one thing wrong.
#[derive(Debug)]
struct Moody {
    panics: bool,
    asked: Mutex<u64>,
}

impl StopCondition for Moody {
    fn should_stop(&self, progress: &LoopProgress) -> Option<StopReason> {
        if self.panics {
            assert!(progress.consecutive_failures < u64::MAX, "told to panic");
            return None;
        }
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        (*asked > 5).then_some(StopReason::Completed)
    }
}

#[test]
fn each_broken_condition_is_rejected_by_the_case_for_its_fault() {
    let pairs = [(false, "answers_the_same_again"), (true, "answers_at_every_extreme")];
    assert_eq!(pairs.len(), stop_condition::CASES.len(), "every case rejects something");
    for (panics, case) in pairs {
        let broken = || Box::new(Moody { panics, asked: Mutex::default() }) as Box<dyn StopCondition>;
        assert!(stop_condition::run_case(case, &broken).is_err(), "{case} accepts a broken condition");
    }
}

#[derive(Debug)]
struct Fragile;

impl Observer for Fragile {
    fn on_event(&self, event: &Event) {
        assert!(!format!("{:?}", event.kind).contains("Error"), "told to panic");
    }
}

#[test]
fn an_observer_that_cannot_bear_an_event_is_rejected() {
    for case in observer::CASES {
        assert!(observer::run_case(case, &|| Box::new(Fragile)).is_err(), "{case}");
    }
}

/// A proposer that gets one thing wrong.
#[derive(Debug, Clone, Copy)]
enum BadProposer {
    SaysNothing,
    ClaimsAnEdit,
    LeavesItsPlace,
    DrawsByChance,
    GoesOn,
}

/// What it takes for chance.
static DRAWN: Mutex<u64> = Mutex::new(0);

#[async_trait]
impl Proposer for BadProposer {
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
        let program = context.workspace.join("program.txt");
        let mut summary = "an edit".to_owned();
        match self {
            Self::SaysNothing => {
                fs::write(program, "edited").unwrap();
                summary.clear();
            }
            Self::ClaimsAnEdit => {}
            Self::LeavesItsPlace => {
                fs::write(context.workspace.join("../other/file"), "mine now").unwrap();
            }
            Self::DrawsByChance => {
                let mut drawn = DRAWN.lock().unwrap();
                *drawn += 1;
                fs::write(program, drawn.to_string()).unwrap();
            }
            Self::GoesOn => {
                std::thread::spawn(move || {
                    for count in 0..200 {
                        // The workspace goes away at the end of the case.
                        let _ = fs::write(&program, count.to_string());
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
                std::future::pending::<()>().await;
            }
        }
        Ok(Proposal::Edited { summary })
    }
}

#[test]
fn each_broken_proposer_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (BadProposer::SaysNothing, "proposes_or_says_why_not"),
        (BadProposer::ClaimsAnEdit, "proposes_or_says_why_not"),
        (BadProposer::LeavesItsPlace, "edits_in_the_workspace_and_the_run_directory_only"),
        (BadProposer::DrawsByChance, "proposes_the_same_for_the_same_seed"),
        (BadProposer::GoesOn, "stops_editing_when_it_is_dropped"),
    ];
    for case in proposer::CASES {
        assert!(pairs.iter().any(|(_, rejects)| rejects == case), "{case} rejects something");
    }
    for (bad, case) in pairs {
        let broken = |workspace: &Path| {
            fs::write(workspace.join("program.txt"), "time=100").unwrap();
            ProposerInPlace { proposer: Box::new(bad), repeatable: true }
        };
        assert!(proposer::run_case(case, &broken).is_err(), "{case} accepts a proposer that {bad:?}");
    }
}

/// An evaluator that gets one thing wrong.
#[derive(Debug)]
struct BadEvaluator {
    fault: EvaluatorFault,
    inner: ScriptedEvaluator,
    asked: Mutex<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum EvaluatorFault {
    RunsNoTests,
    HidesFailures,
    InventsAnIncumbent,
    MeasuresOneSideMore,
    RepeatsAMetric,
    CountsWrongly,
    WorksOnce,
    CountsRetestsWrongly,
    NeverHasEnough,
    MeasuresAgainInWordsOnly,
}

#[async_trait]
impl Evaluator for BadEvaluator {
    async fn evaluate(&self, request: &EvaluationRequest) -> Result<Evaluation> {
        let mut evaluation = self.inner.evaluate(request).await?;
        *self.asked.lock().unwrap() += 1;
        match self.fault {
            EvaluatorFault::RunsNoTests => evaluation.test_results.clear(),
            EvaluatorFault::HidesFailures => {
                evaluation.test_results = vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)];
            }
            EvaluatorFault::InventsAnIncumbent => evaluation.incumbent_metrics = evaluation.metrics.clone(),
            EvaluatorFault::MeasuresOneSideMore => {
                evaluation.metrics[0].samples.pop();
            }
            EvaluatorFault::RepeatsAMetric => evaluation.metrics.extend(evaluation.metrics.clone()),
            EvaluatorFault::CountsWrongly => evaluation.test_results[0].tests_run = 77,
            EvaluatorFault::MeasuresAgainInWordsOnly => evaluation.can_measure_again = true,
            EvaluatorFault::WorksOnce if *self.asked.lock().unwrap() > 1 => evaluation.test_results.clear(),
            _ => {}
        }
        Ok(evaluation)
    }

    async fn retest(
        &self,
        request: &EvaluationRequest,
        subject: Subject,
        attempt: u32,
    ) -> Result<Option<Vec<TestReport>>> {
        match self.fault {
            EvaluatorFault::NeverHasEnough => self.inner.retest(request, subject, 1).await,
            EvaluatorFault::CountsRetestsWrongly => {
                let report =
                    TestReport { tests_run: 77, ..TestReport::from_counts("unit_tests", 1, 0, 0, 0) };
                Ok((attempt == 1).then(|| vec![report]))
            }
            _ => self.inner.retest(request, subject, attempt).await,
        }
    }
}

#[test]
fn each_broken_evaluator_is_rejected_by_the_case_for_its_fault() {
    let pairs = [
        (EvaluatorFault::RunsNoTests, "finds_tests_that_pass_in_a_good_version"),
        (EvaluatorFault::HidesFailures, "never_leaves_out_what_is_wrong_with_a_broken_version"),
        (EvaluatorFault::InventsAnIncumbent, "measures_no_incumbent_where_there_is_none"),
        (EvaluatorFault::MeasuresOneSideMore, "measures_both_versions_alike"),
        (EvaluatorFault::RepeatsAMetric, "contradicts_itself_nowhere"),
        (EvaluatorFault::CountsWrongly, "contradicts_itself_nowhere"),
        (EvaluatorFault::CountsRetestsWrongly, "runs_tests_again_and_says_when_it_has_enough"),
        (EvaluatorFault::NeverHasEnough, "runs_tests_again_and_says_when_it_has_enough"),
        (EvaluatorFault::MeasuresAgainInWordsOnly, "measures_again_what_it_says_it_can"),
        (EvaluatorFault::WorksOnce, "can_be_dropped_and_asked_again"),
    ];
    for case in evaluator::CASES {
        assert!(pairs.iter().any(|(_, rejects)| rejects == case), "{case} rejects something");
    }
    for (fault, case) in pairs {
        let broken = |directory: &Path, version: Version| {
            scripted_evaluator(directory, version);
            let inner = ScriptedEvaluator::default();
            Box::new(BadEvaluator { fault, inner, asked: Mutex::default() }) as Box<dyn Evaluator>
        };
        assert!(evaluator::run_case(case, &broken).is_err(), "{case} accepts an evaluator that {fault:?}");
    }
}
