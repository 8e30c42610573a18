//! From the journal to what a report shows.

use evoseal_pipeline::{IterationOutcome, IterationResult, RunState};
use evoseal_regression::statistics;
use evoseal_report::{IterationRow, MetricSummary, RowOutcome, RunHistory, ScoreTerm, VersionRow};
use evoseal_safety::{Mode, Observations, VersionRef};
use evoseal_types::{Digest, MetricSamples, Timestamp};

use crate::failure::{Failure, Result};
use crate::project::Project;

/// How many lost tests a report lists by name; the JSON has them all.
const TESTS_LISTED_MAX: usize = 20;
/// The confidence level of the intervals of single metrics in reports.
const LEVEL: f64 = 0.95;

/// All iterations of the workspace, with the version that they began with.
pub(crate) fn of(project: &Project, state: &RunState, final_tree: Option<Digest>) -> Result<RunHistory> {
    let (Some(baseline), Some((incumbent, _))) = (state.baselines.first(), state.incumbent.as_ref()) else {
        return Err(Failure::usage("there is no run here yet").hint("`evoseal run` starts one"));
    };
    let results: Vec<IterationResult> = state.finished.iter().map(IterationResult::from).collect();
    let title = project.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(RunHistory {
        title,
        generated_at: project.clock.now(),
        objective: project.loaded.settings.objective.clone(),
        started_at: baseline.at,
        ended_at: state.run_ended.as_ref().map(|(at, _)| *at),
        stop_reason: state.run_ended.as_ref().map(|(_, reason)| reason.to_string()),
        baseline: version_row(&baseline.version, &baseline.observations),
        iterations: results.iter().map(row).collect(),
        final_version: incumbent.version_id.clone(),
        final_tree,
        remeasured: Vec::new(),
        unprotected: state.unprotected.iter().cloned().chain(unprotected()).collect(),
    })
}

/// The walls that do not hold on this machine.
pub(crate) fn unprotected() -> Vec<String> {
    use evoseal_sandbox::{LinuxSandbox, Sandbox};
    let walls = LinuxSandbox::detect().capabilities().walls;
    walls
        .into_iter()
        .filter(|wall| !wall.enforced)
        .map(|wall| format!("{}: {}", wall.name, wall.detail))
        .collect()
}

fn version_row(version: &VersionRef, observations: &Observations) -> VersionRow {
    let (tests_passed, tests_run) = test_counts(observations);
    VersionRow {
        version_id: version.version_id.clone(),
        checkpoint: version.checkpoint,
        tests_passed,
        tests_run,
        metrics: summaries(&observations.metrics),
    }
}

fn test_counts(observations: &Observations) -> (u64, u64) {
    let reports = &observations.test_results;
    (
        reports.iter().map(|report| report.tests_passed).sum(),
        reports.iter().map(|report| report.tests_run).sum(),
    )
}

fn summaries(metrics: &[MetricSamples]) -> Vec<MetricSummary> {
    metrics.iter().map(summary).collect()
}

/// Mean and interval; the interval is over process starts, since values of one start are not independent.
fn summary(metric: &MetricSamples) -> MetricSummary {
    let starts: Vec<f64> =
        metric.by_start().iter().map(|values| statistics::mean(values).unwrap_or(f64::NAN)).collect();
    let values = metric.values();
    let mean = if values.is_empty() { f64::NAN } else { values.iter().sum::<f64>() / values.len() as f64 };
    let interval = statistics::mean_interval(&starts, LEVEL).ok();
    MetricSummary { spec: metric.spec.clone(), mean, interval, count: values.len() }
}

/// One iteration as a report shows it.
pub(crate) fn row(result: &IterationResult) -> IterationRow {
    let decision = result.safety_result.as_ref().map(|validation| &validation.decision);
    let mut reasons = result.reasons();
    let mut score_terms = Vec::new();
    if let Some(decision) = decision {
        let deciding = decision.reasons.iter().position(|reason| reason.rule == decision.decided_by);
        if let Some(deciding) = deciding.filter(|deciding| *deciding < reasons.len()) {
            let first = reasons.remove(deciding);
            reasons.insert(0, first);
        }
        let score = &decision.safety_score;
        if score.no_data.is_none() {
            score_terms.push(ScoreTerm { label: "test pass rate".to_owned(), value: score.test_pass_rate });
        }
        score_terms.extend(score.penalties.iter().map(|penalty| ScoreTerm {
            label: format!("{}, {}", penalty.metric, penalty.severity),
            value: -penalty.penalty,
        }));
    }
    let assessment =
        result.safety_result.as_ref().and_then(|validation| validation.regression_details.as_ref());
    let (tests_passed, tests_run) = test_counts(&result.observations);
    IterationRow {
        iteration: result.iteration,
        version_id: result.version_id.clone(),
        incumbent: result.incumbent.clone(),
        change: result.change.clone(),
        outcome: match result.outcome {
            IterationOutcome::Accepted => RowOutcome::Accepted,
            IterationOutcome::Rejected => RowOutcome::Rejected,
            IterationOutcome::RolledBack => RowOutcome::RolledBack,
            IterationOutcome::Inconclusive => RowOutcome::Inconclusive,
            IterationOutcome::Error => RowOutcome::Error,
            IterationOutcome::Tampered => RowOutcome::Tampered,
        },
        decided_by: decision.map_or_else(|| "error".to_owned(), |decision| decision.decided_by.to_string()),
        reasons,
        notes: notes(result),
        safety_score: decision
            .map(|decision| &decision.safety_score)
            .and_then(|score| score.no_data.is_none().then_some(score.score)),
        score_terms,
        improvement_score: decision.and_then(|decision| decision.improvement_score),
        findings: assessment.map(|assessment| assessment.findings.clone()).unwrap_or_default(),
        metrics: summaries(&result.observations.metrics),
        tests_passed,
        tests_run,
        started_at: result.started_at,
        duration: result.duration,
        files_changed: result.changes.len() as u64,
        checkpoint: result.checkpoint,
    }
}

/// What has to be seen beside the outcome.
fn notes(result: &IterationResult) -> Vec<String> {
    let decision = result.safety_result.as_ref().map(|validation| &validation.decision);
    let mut notes: Vec<String> = result.overrides.iter().rev().map(ToString::to_string).collect();
    if let Some(why) = decision.and_then(|decision| decision.safety_score.no_data.as_ref()) {
        notes.push(format!("no safety score: {why}"));
    }
    if let Some(changes) =
        decision.map(|decision| &decision.test_changes).filter(|changes| !changes.is_empty())
    {
        notes.push(format!("tests lost: {}", changes.summary(TESTS_LISTED_MAX)));
    }
    notes.extend(result.confirmed.map(|confirmed| {
        let word = if confirmed { "confirmed" } else { "accepted at first, and not confirmed" };
        format!("{word} by a second evaluation with fresh samples")
    }));
    let warned =
        result.observations.checks.iter().filter(|check| !check.passed && check.mode == Mode::Wanted);
    notes.extend(warned.map(|check| format!("warning: check {} failed", check.name)));
    let excused = result.observations.retests.iter().filter(|retested| retested.is_excused());
    notes.extend(
        excused.map(|retested| format!("flaky test: {}: {}", retested.test.test_type, retested.test.name)),
    );
    notes
}

/// Lays the report's tables out for this output.
pub(crate) fn table_options(output: crate::output::Output) -> evoseal_report::TableOptions {
    evoseal_report::TableOptions { width: output.width, color: output.color }
}

/// A time for people: seconds are enough.
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}
