//! Whole runs, judged as runs: one error budget, samples as they are needed, and a restart that changes nothing.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use evoseal_pipeline::{
    Evaluation, EvaluationRequest, Evaluator, IterationOutcome, Journal, JournalEntry, RunOptions, RunState,
};
use evoseal_regression::{Stage, Verdict};
use evoseal_safety::Rule;
use evoseal_tests::Assembly;
use evoseal_tests::scripted::FunctionProposer;
use evoseal_types::{Direction, MetricSamples, MetricSpec, Objective, Sample, TestReport};

/// Measures a latency that scatters by five percent around the number in `program.txt`, five values at first.
#[derive(Debug)]
struct NoisyEvaluator {
    seed: u64,
    again: bool,
    measured: AtomicU64,
}

impl NoisyEvaluator {
    fn new(seed: u64, again: bool) -> Self {
        Self { seed, again, measured: AtomicU64::new(0) }
    }

    /// What a version measures in an iteration, from its `first` start on: the same after a restart of the process.
    fn samples(
        &self,
        folder: &Path,
        iteration: u64,
        side: u64,
        first: u32,
        count: u32,
    ) -> Vec<MetricSamples> {
        let text = std::fs::read_to_string(folder.join("program.txt")).unwrap();
        let level: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        let spec = MetricSpec::new("latency", "ms", Direction::Increase).unwrap();
        let sample = |start: u32| {
            let state = self.seed ^ (iteration << 32) ^ (side << 24) ^ u64::from(first + start);
            let uniform = |salt: u64| {
                let digest = evoseal_types::Digest::of(&[state.to_le_bytes(), salt.to_le_bytes()].concat());
                let bytes: [u8; 8] = digest.as_bytes()[..8].try_into().unwrap();
                (u64::from_le_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
            };
            // Twelve uniform values are as good as normal here.
            let normal = (0..12).map(uniform).sum::<f64>() - 6.0;
            Sample::new(start, 0, level * (1.0 + 0.05 * normal))
        };
        self.measured.fetch_add(u64::from(count), Ordering::Relaxed);
        vec![MetricSamples::new(spec, (0..count).map(sample).collect())]
    }

    fn measure(&self, request: &EvaluationRequest, first: u32, count: u32) -> Evaluation {
        let incumbent = request
            .incumbent
            .as_ref()
            .map(|incumbent| self.samples(&incumbent.directory, request.iteration, 1, first, count));
        Evaluation {
            metrics: self.samples(&request.candidate.directory, request.iteration, 0, first, count),
            paired: incumbent.is_some(),
            can_measure_again: self.again && incumbent.is_some(),
            incumbent_metrics: incumbent.unwrap_or_default(),
            ..Evaluation::default()
        }
    }
}

#[async_trait]
impl Evaluator for NoisyEvaluator {
    async fn evaluate(&self, request: &EvaluationRequest) -> evoseal_pipeline::Result<Evaluation> {
        let test_results = vec![TestReport::from_counts("unit_tests", 5, 0, 0, 0)];
        Ok(Evaluation { test_results, ..self.measure(request, 0, 5) })
    }

    async fn measure_again(
        &self,
        request: &EvaluationRequest,
        pairs: u32,
    ) -> evoseal_pipeline::Result<Option<Evaluation>> {
        // Each batch begins elsewhere, as far as what was asked for before says.
        Ok(Some(self.measure(request, 100 * pairs, pairs)))
    }
}

/// The level of each iteration's candidate, and a comment that makes every candidate another.
fn writing(level: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Arc<FunctionProposer> {
    Arc::new(FunctionProposer::writing("program.txt", move |iteration| {
        format!("{} # {iteration}", level(iteration))
    }))
}

async fn assembly() -> (tempfile::TempDir, Assembly) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("program.txt"), "100 # 0").unwrap();
    let assembly = Assembly::open(folder.path()).await.unwrap();
    (folder, assembly)
}

fn state(assembly: &Assembly) -> RunState {
    RunState::replay(&Journal::read(&assembly.state_directory.join("journal.jsonl")).unwrap())
}

fn run_of(iterations: u64) -> RunOptions {
    RunOptions { iterations, ..RunOptions::default() }
}

#[tokio::test]
async fn candidates_that_are_no_worse_are_all_accepted_and_the_run_says_what_may_be_wrong() {
    let (_folder, assembly) = assembly().await;
    let evaluator = Arc::new(NoisyEvaluator::new(7, true));
    let pipeline = assembly.pipeline(writing(|_| 100.0), Arc::<NoisyEvaluator>::clone(&evaluator)).build();
    let report = pipeline.run(run_of(60)).await.unwrap();
    let rejected: Vec<_> = report
        .results
        .iter()
        .filter(|result| !result.version_accepted)
        .map(evoseal_pipeline::IterationResult::reasons)
        .collect();
    assert_eq!(rejected, Vec::<Vec<String>>::new());
    let last = report.results.last().unwrap().safety_result.as_ref().unwrap();
    let run = last.regression_details.as_ref().unwrap().run.as_ref().unwrap();
    assert_eq!((run.report.totals.iterations, run.report.totals.accepted), (60, 60));
    assert!(run.report.totals.false_rollbacks_max <= 0.05, "{:?}", run.report.totals);
    let per_iteration = evaluator.measured.load(Ordering::Relaxed) as f64 / 60.0;
    assert!(per_iteration < 20.0, "{per_iteration} measurements an iteration");
}

#[tokio::test]
async fn a_candidate_that_is_clearly_slower_is_measured_again_and_then_refused() {
    let (_folder, assembly) = assembly().await;
    let level = |iteration: u64| if iteration == 12 { 130.0 } else { 100.0 };
    let evaluator = Arc::new(NoisyEvaluator::new(11, true));
    let pipeline = assembly.pipeline(writing(level), evaluator).build();
    let report = pipeline.run(run_of(12)).await.unwrap();
    let last = report.results.last().unwrap();
    assert_ne!(last.outcome, IterationOutcome::Accepted);
    let decided = last.safety_result.as_ref().unwrap();
    assert_eq!(decided.decision.decided_by, Rule::Regression, "{:?}", last.reasons());
    let assessment = decided.regression_details.as_ref().unwrap();
    let run = assessment.run.as_ref().unwrap();
    assert_eq!(run.report.metrics[0].stage, Stage::Confirmation);
    assert_eq!(assessment.findings[0].verdict, Verdict::Regressed);
    let flight = &state(&assembly).finished.last().unwrap().flight.clone();
    assert!(flight.observations.as_ref().unwrap().fresh.is_some(), "fresh pairs decide");
    assert!(report.results[..11].iter().all(|result| result.version_accepted));
}

#[tokio::test]
async fn a_gain_is_estimated_on_samples_that_did_not_choose_the_candidate() {
    let (_folder, assembly) = assembly().await;
    let evaluator = Arc::new(NoisyEvaluator::new(3, true));
    let objective = Objective { metric: "latency".parse().unwrap(), direction: Direction::Increase };
    let level = |iteration: u64| if iteration >= 3 { 80.0 } else { 100.0 };
    let pipeline = assembly.pipeline(writing(level), evaluator).objective(objective).build();
    let report = pipeline.run(run_of(3)).await.unwrap();
    let last = &report.results[2];
    assert_eq!(last.outcome, IterationOutcome::Accepted, "{:?}", last.reasons());
    let assessment = last.safety_result.as_ref().unwrap().regression_details.as_ref().unwrap();
    let gain = assessment.run.as_ref().unwrap().gain.as_ref().unwrap();
    let interval = gain.interval.unwrap();
    assert!((interval.low..=interval.high).contains(&-0.2), "{gain:?}");
    assert!(assessment.findings[0].reason.contains("on fresh samples"), "{}", assessment.findings[0].reason);
}

#[tokio::test]
async fn what_can_be_measured_once_only_is_judged_with_care() {
    let (_folder, assembly) = assembly().await;
    let level = |iteration: u64| if iteration == 15 { 160.0 } else { 100.0 };
    let pipeline = assembly.pipeline(writing(level), Arc::new(NoisyEvaluator::new(5, false))).build();
    let report = pipeline.run(run_of(15)).await.unwrap();
    assert!(report.results[..14].iter().all(|result| result.outcome != IterationOutcome::RolledBack));
    let last = report.results.last().unwrap();
    assert_eq!(
        last.safety_result.as_ref().unwrap().decision.decided_by,
        Rule::Regression,
        "{:?}",
        last.reasons()
    );
}

/// The decisions of a run and what they rest on, one line each.
fn decisions(state: &RunState) -> Vec<String> {
    let decision = |flight: &evoseal_pipeline::InFlight| {
        let validation = flight.validation.as_ref().unwrap();
        let run = validation.regression_details.as_ref().map(|assessment| &assessment.run);
        serde_json::to_string(&(&validation.decision, run)).unwrap()
    };
    state.finished.iter().map(|finished| decision(&finished.flight)).collect()
}

#[tokio::test]
async fn a_run_that_is_cut_off_after_any_entry_decides_the_same() {
    let level = |iteration: u64| match iteration {
        4 => 125.0,
        6 => 112.0,
        _ => 100.0,
    };
    let (_folder, whole) = assembly().await;
    whole
        .pipeline(writing(level), Arc::new(NoisyEvaluator::new(9, true)))
        .build()
        .run(run_of(7))
        .await
        .unwrap();
    let expected = decisions(&state(&whole));
    assert!(expected.len() == 7);

    // Another process goes on after every iteration, and what it knows comes from the journal alone.
    let (_folder, cut) = assembly().await;
    for _ in 0..7 {
        let reopened = Assembly::open(&cut.workspace).await.unwrap();
        let pipeline = reopened.pipeline(writing(level), Arc::new(NoisyEvaluator::new(9, true))).build();
        pipeline.run(run_of(1)).await.unwrap();
    }
    assert_eq!(decisions(&state(&cut)), expected);

    // And in the middle of an iteration: the journal is cut behind each batch of further samples.
    let path = whole.state_directory.join("journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let entries = Journal::read(&path).unwrap();
    let batches: Vec<usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| matches!(entry, JournalEntry::MeasuredAgain { .. }))
        .map(|(place, _)| place)
        .collect();
    assert!(!batches.is_empty(), "something was measured again");
    for place in batches {
        let lines: Vec<&str> = text.split_inclusive('\n').take(place + 1).collect();
        std::fs::write(&path, lines.concat()).unwrap();
        let reopened = Assembly::open(&whole.workspace).await.unwrap();
        let done = state(&reopened).finished.len();
        let pipeline = reopened.pipeline(writing(level), Arc::new(NoisyEvaluator::new(9, true))).build();
        pipeline.run(run_of(1)).await.unwrap();
        assert_eq!(decisions(&state(&reopened)), expected[..=done], "cut behind entry {place}");
    }
}
