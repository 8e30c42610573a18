//! Whole runs, judged as runs: one error budget, samples as they are needed, and a restart that changes nothing.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use evoseal_pipeline::{
    Evaluation, EvaluationRequest, Evaluator, IterationOutcome, IterationResult, Journal, JournalEntry,
    OverrideRequest, Overrider, RunOptions, RunState,
};
use evoseal_regression::{RegressionSettings, RunAssessment, SamplePurpose, Stage, Verdict};
use evoseal_safety::{PersonsVerdict, Rule};
use evoseal_tests::scripted::FunctionProposer;
use evoseal_tests::{Assembly, Project};
use evoseal_types::{Direction, MetricSamples, MetricSpec, Objective, Sample, TestReport};

/// Measures a latency that scatters by five percent around the number in `program.txt`, five values at first.
#[derive(Debug)]
struct NoisyEvaluator {
    seed: u64,
    again: bool,
    /// What becomes of further samples.
    further: fn(Evaluation) -> Evaluation,
    measured: AtomicU64,
    calls: AtomicU64,
    /// The call that never returns.
    dies_in: Option<u64>,
    /// Says that it has begun.
    dying: tokio::sync::Notify,
}

impl NoisyEvaluator {
    fn new(seed: u64, again: bool) -> Self {
        Self {
            seed,
            again,
            further: std::convert::identity,
            measured: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            dies_in: None,
            dying: tokio::sync::Notify::new(),
        }
    }

    /// Counts a call, and stays in it where it is the last one of this process.
    async fn called(&self) {
        if self.dies_in == Some(self.calls.fetch_add(1, Ordering::Relaxed)) {
            self.dying.notify_one();
            std::future::pending::<()>().await;
        }
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
        self.called().await;
        let test_results = vec![TestReport::from_counts("unit_tests", 5, 0, 0, 0)];
        Ok(Evaluation { test_results, ..self.measure(request, 0, 5) })
    }

    async fn measure_again(
        &self,
        request: &EvaluationRequest,
        pairs: u32,
    ) -> evoseal_pipeline::Result<Option<Evaluation>> {
        self.called().await;
        // Each batch begins elsewhere, as far as what was asked for before says.
        Ok(Some((self.further)(self.measure(request, 100 * pairs, pairs))))
    }
}

/// The level of each iteration's candidate, and a comment that makes every candidate another.
fn writing(level: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Arc<FunctionProposer> {
    Arc::new(FunctionProposer::writing("program.txt", move |iteration| {
        format!("{} # {iteration}", level(iteration))
    }))
}

async fn assembly() -> (tempfile::TempDir, Assembly) {
    assembly_with(&RegressionSettings::default()).await
}

/// One in which every certain harm counts.
async fn strict_assembly() -> (tempfile::TempDir, Assembly) {
    assembly_with(&strict()).await
}

async fn assembly_with(settings: &RegressionSettings) -> (tempfile::TempDir, Assembly) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("program.txt"), "100 # 0").unwrap();
    let assembly = Assembly::open_with(folder.path(), settings).await.unwrap();
    (folder, assembly)
}

fn strict() -> RegressionSettings {
    RegressionSettings { regression_threshold: 0.0, ..RegressionSettings::default() }
}

/// What the judge of the run said about an iteration.
fn judged(result: &IterationResult) -> &RunAssessment {
    let assessment = result.safety_result.as_ref().unwrap().regression_details.as_ref().unwrap();
    assessment.run.as_ref().unwrap()
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
        .map(IterationResult::reasons)
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

#[tokio::test]
async fn hundreds_of_unchanged_candidates_cause_no_rollback_where_every_harm_counts() {
    let (_folder, assembly) = strict_assembly().await;
    let evaluator = Arc::new(NoisyEvaluator::new(21, true));
    let pipeline = assembly.pipeline(writing(|_| 100.0), Arc::<NoisyEvaluator>::clone(&evaluator)).build();
    let report = pipeline.run(run_of(150)).await.unwrap();
    let regressed: Vec<_> = report
        .results
        .iter()
        .filter(|result| {
            result.safety_result.as_ref().is_some_and(|safety| safety.decision.decided_by == Rule::Regression)
        })
        .map(IterationResult::reasons)
        .collect();
    assert_eq!(regressed, Vec::<Vec<String>>::new());
    let accepted = report.results.iter().filter(|result| result.version_accepted).count();
    assert!(accepted >= 143, "{accepted} of 150 were accepted");
    let last = judged(report.results.last().unwrap());
    assert!(last.report.totals.false_rollbacks_max <= 0.05, "{:?}", last.report.totals);
    let of_one_version = evaluator.measured.load(Ordering::Relaxed) as f64 / 300.0;
    assert!(of_one_version < 20.0, "{of_one_version} measurements of a version in an iteration");
}

#[tokio::test]
async fn a_candidate_ten_percent_slower_is_caught_in_its_iteration() {
    for seed in 0..6 {
        let (_folder, assembly) = strict_assembly().await;
        let level = |iteration: u64| if iteration == 15 { 110.0 } else { 100.0 };
        let pipeline = assembly.pipeline(writing(level), Arc::new(NoisyEvaluator::new(seed, true))).build();
        let report = pipeline.run(run_of(15)).await.unwrap();
        let last = report.results.last().unwrap();
        let decided = &last.safety_result.as_ref().unwrap().decision;
        assert_eq!(decided.decided_by, Rule::Regression, "seed {seed}: {:?}", last.reasons());
        assert!(!last.version_accepted);
    }
}

#[tokio::test]
async fn a_fifth_of_a_percent_a_step_is_caught_by_the_guard_against_drift() {
    let (_folder, assembly) = strict_assembly().await;
    let level = |iteration: u64| 100.0 * 1.002_f64.powi(i32::try_from(iteration).unwrap());
    let pipeline = assembly.pipeline(writing(level), Arc::new(NoisyEvaluator::new(4, true))).build();
    let report = pipeline.run(run_of(50)).await.unwrap();
    let caught = report.results.iter().find(|result| !judged(result).report.drift.is_empty()).unwrap();
    assert!(!caught.version_accepted && caught.iteration > 1, "{caught:?}");
    assert!(caught.reasons().iter().any(|reason| reason.contains("bit by bit")), "{:?}", caught.reasons());
    let text = std::fs::read_to_string(assembly.workspace.join("program.txt")).unwrap();
    assert!(text.ends_with(&format!(
        "# {}",
        report.results.iter().rev().find(|r| r.version_accepted).unwrap().iteration
    )));
}

/// A candidate that looks slower, and further samples that are no evidence.
async fn refused_on(further: fn(Evaluation) -> Evaluation) -> IterationResult {
    let (_folder, assembly) = strict_assembly().await;
    let level = |iteration: u64| if iteration == 8 { 110.0 } else { 100.0 };
    let evaluator = NoisyEvaluator::new(2, true);
    assembly.pipeline(writing(level), Arc::new(evaluator)).build().run(run_of(7)).await.unwrap();
    let assembly = Assembly::open_with(&assembly.workspace, &strict()).await.unwrap();
    let evaluator = NoisyEvaluator { further, ..NoisyEvaluator::new(2, true) };
    let report = assembly.pipeline(writing(level), Arc::new(evaluator)).build().run(run_of(1)).await.unwrap();
    report.results.into_iter().next_back().unwrap()
}

#[tokio::test]
async fn further_samples_that_are_no_numbers_or_are_missing_accept_nothing() {
    let no_number = refused_on(|mut evaluation| {
        evaluation.metrics[0].samples[0].value = f64::NAN;
        evaluation
    });
    let no_candidate = refused_on(|evaluation| Evaluation { metrics: Vec::new(), ..evaluation });
    let no_incumbent = refused_on(|evaluation| Evaluation { incumbent_metrics: Vec::new(), ..evaluation });
    let nothing = refused_on(|evaluation| Evaluation {
        metrics: Vec::new(),
        incumbent_metrics: Vec::new(),
        ..evaluation
    });
    for (name, result) in [
        ("no number", no_number.await),
        ("no candidate", no_candidate.await),
        ("no incumbent", no_incumbent.await),
        ("nothing", nothing.await),
    ] {
        assert!(!result.version_accepted, "{name}: {:?}", result.reasons());
    }
}

#[tokio::test]
async fn what_a_person_approves_is_what_later_candidates_are_held_to() {
    let (_folder, assembly) = strict_assembly().await;
    let level = |iteration: u64| if iteration >= 15 { 120.0 } else { 100.0 };
    let evaluator = || Arc::new(NoisyEvaluator::new(13, true));
    let report = assembly.pipeline(writing(level), evaluator()).build().run(run_of(15)).await.unwrap();
    assert!(!report.results.last().unwrap().version_accepted);
    let overrider = Overrider {
        workspace: assembly.workspace.clone(),
        state_directory: assembly.state_directory.clone(),
        gate: Arc::clone(&assembly.gate) as _,
        checkpoints: Arc::new(assembly.checkpoints.clone()),
        clock: Arc::clone(&assembly.clock),
    };
    let request = OverrideRequest {
        iteration: 15,
        verdict: PersonsVerdict::Approve,
        person: "ada".to_owned(),
        reason: "it is worth it".to_owned(),
        force: true,
    };
    assert!(overrider.carry_out(&request).await.unwrap().succeeded());
    let report = assembly.pipeline(writing(level), evaluator()).build().run(run_of(20)).await.unwrap();
    let blamed: Vec<_> = report
        .results
        .iter()
        .filter(|result| {
            result.safety_result.as_ref().is_some_and(|safety| safety.decision.decided_by == Rule::Regression)
        })
        .map(IterationResult::reasons)
        .collect();
    assert_eq!(blamed, Vec::<Vec<String>>::new(), "the approved version is the one to compare with");
    // Behind a step to another level little is known about it: one or two may stay undecided.
    assert!(report.results.iter().filter(|result| result.version_accepted).count() >= 18);
    let accepted = state(&assembly).finished.iter().filter(|finished| finished.stands_accepted()).count();
    let totals = judged(report.results.last().unwrap()).report.totals;
    assert_eq!((totals.iterations, totals.accepted), (35, accepted as u64), "that one is counted, too");
}

#[tokio::test]
async fn a_run_that_dies_while_it_measures_decides_the_same() {
    let level = |iteration: u64| if iteration == 3 { 115.0 } else { 100.0 };
    let (_folder, whole) = strict_assembly().await;
    let evaluator = Arc::new(NoisyEvaluator::new(17, true));
    let pipeline = whole.pipeline(writing(level), Arc::<NoisyEvaluator>::clone(&evaluator)).build();
    pipeline.run(run_of(4)).await.unwrap();
    let expected = decisions(&state(&whole));
    let calls = evaluator.calls.load(Ordering::Relaxed);
    assert!(calls > 5, "something was measured again: {calls} calls");

    for dies_in in 0..calls {
        let (_folder, cut) = strict_assembly().await;
        let dying = NoisyEvaluator { dies_in: Some(dies_in), ..NoisyEvaluator::new(17, true) };
        let dying = Arc::new(dying);
        {
            let pipeline = cut.pipeline(writing(level), Arc::<NoisyEvaluator>::clone(&dying)).build();
            tokio::select! {
                ended = pipeline.run(run_of(4)) => panic!("it lived: {ended:?}"),
                () = dying.dying.notified() => {}
            }
        }
        let reopened = Assembly::open_with(&cut.workspace, &strict()).await.unwrap();
        let left = 4 - state(&reopened).finished.len() as u64;
        let pipeline = reopened.pipeline(writing(level), Arc::new(NoisyEvaluator::new(17, true))).build();
        pipeline.run(run_of(left)).await.unwrap();
        assert_eq!(decisions(&state(&reopened)), expected, "died in call {dies_in}");
    }
}

/// Prints the cost with five percent of scatter, which follows from the iteration, the version's role and how often it was
/// started before.
const NOISY: &str = r#"count=$(cat "$EVOSEAL_RUN_DIR/count" 2>/dev/null || echo 0)
echo $((count + 1)) > "$EVOSEAL_RUN_DIR/count"
awk -v cost="$(cat cost.txt)" -v seed="$EVOSEAL_ITERATION$count" -v role="$EVOSEAL_ROLE" 'BEGIN {
    srand(seed * 2 + (role == "candidate")); for (i = 0; i < 20; i++) rand()
    sum = -6; for (i = 0; i < 12; i++) sum += rand()
    printf "METRIC cost=%.6f ms\n", cost * (1 + 0.05 * sum)
}'
"#;

#[test]
fn the_program_measures_again_before_it_refuses_a_slower_candidate() {
    let project = Project::new(
        r#"if [ "$EVOSEAL_ITERATION" = 4 ]; then echo 130 > cost.txt; fi; echo "echo 42 # $EVOSEAL_ITERATION" > program.sh"#,
    );
    project.write("tests/measure.sh", NOISY);
    project.add_settings("[safety.regression]\nregression_threshold = 0.0\n");
    project.evoseal(&["init"]).run();
    let ended = project.evoseal(&["run", "--iterations", "4"]).run().expect(1);
    ended.shows(&["false rollbacks"]);
    assert_eq!(project.read("cost.txt"), "100\n", "the slower one is gone");
    let journal = Journal::read(&project.path(".evoseal/journal.jsonl")).unwrap();
    let again = |entry: &&JournalEntry| matches!(entry, JournalEntry::MeasuredAgain { iteration: 4, further } if further.purpose == SamplePurpose::Fresh);
    assert!(journal.iter().any(|entry| again(&entry)), "fresh pairs decide");
    let run = RunState::replay(&journal);
    let decision = &run.finished[3].flight.validation.as_ref().unwrap().decision;
    assert_eq!(decision.decided_by, Rule::Regression);
}
