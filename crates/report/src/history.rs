//! What a report is made of: one run, as plain data.

use std::fmt;
use std::time::Duration;

use evoseal_regression::{Finding, Interval};
use evoseal_types::{CheckpointId, Digest, MetricName, MetricSpec, Objective, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

/// One run from its baseline to its present or final version.
///
/// The JSON form of this type is what `evoseal report --json` prints, so it is a public format: fields are added, not
/// renamed. Text in it may come from a candidate or a proposer; it is kept as it is here and made harmless by
/// whatever shows it.
///
/// ```
/// use evoseal_report::RunHistory;
/// let json = r#"{
///     "title": "sort", "generated_at": "2026-03-01T12:00:00Z", "objective": null,
///     "started_at": "2026-03-01T10:00:00Z", "ended_at": null, "stop_reason": null,
///     "baseline": {"version_id": "v0", "checkpoint": null, "tests_passed": 3, "tests_run": 3, "metrics": []},
///     "iterations": [], "final_version": "v0", "final_tree": null, "unprotected": []
/// }"#;
/// let history: RunHistory = serde_json::from_str(json)?;
/// assert_eq!((history.counts().total(), history.metrics().len()), (0, 0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHistory {
    /// What the run is called, for headings.
    pub title: String,
    /// When the history was read; a run without an end is described as of this time.
    pub generated_at: Timestamp,
    /// What the run tries to improve; `None` if it only guards.
    pub objective: Option<Objective>,
    /// When the run began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it goes on or if it was cut off.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, as a sentence or a few words.
    pub stop_reason: Option<String>,
    /// The version that the run started from.
    pub baseline: VersionRow,
    /// The iterations, oldest first.
    pub iterations: Vec<IterationRow>,
    /// The incumbent at the end, or now.
    pub final_version: VersionId,
    /// The digest of the final version's tree.
    pub final_tree: Option<Digest>,
    /// Findings of a comparison of the final version (candidate) with the baseline (incumbent) that was measured side
    /// by side after the last iteration. Empty where no such measurement was made; then a gain is the difference of
    /// two measurements taken at different times, and every report says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remeasured: Vec<Finding>,
    /// Protections that were off or that the machine could not enforce, each in words a person understands.
    pub unprotected: Vec<String>,
}

/// What is known of one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    /// The version.
    pub version_id: VersionId,
    /// Its checkpoint.
    pub checkpoint: Option<CheckpointId>,
    /// Tests that passed, over all test commands.
    pub tests_passed: u64,
    /// Tests that ran, over all test commands; zero if none did.
    pub tests_run: u64,
    /// What was measured, each metric at most once.
    pub metrics: Vec<MetricSummary>,
}

/// One iteration: what was tried, what was found, what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationRow {
    /// Its number, counted from one.
    pub iteration: u64,
    /// The candidate.
    pub version_id: VersionId,
    /// The accepted version that the candidate was compared with.
    pub incumbent: VersionId,
    /// What the proposer says that it changed.
    pub change: String,
    /// What became of the candidate.
    pub outcome: RowOutcome,
    /// The rule that decided, in words: `regression`, `tests failed`.
    pub decided_by: String,
    /// Every reason for the outcome, the deciding one first.
    pub reasons: Vec<String>,
    /// What has to be seen beside the outcome: what a person decided about the candidate, the tests that it lost, the tests
    /// that are flaky.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The safety score, 0 to 1; `None` where nothing that was observed counts.
    pub safety_score: Option<f64>,
    /// How the safety score came about, in the order in which it is computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub score_terms: Vec<ScoreTerm>,
    /// How sure it is that the objective improved, 0 to 100.
    pub improvement_score: Option<f64>,
    /// The findings of the detector, against the incumbent and against named baselines.
    pub findings: Vec<Finding>,
    /// What was measured of the candidate, each metric at most once.
    pub metrics: Vec<MetricSummary>,
    /// Tests that passed, over all test commands.
    pub tests_passed: u64,
    /// Tests that ran, over all test commands; zero if none did.
    pub tests_run: u64,
    /// When the iteration began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// How many files the candidate added, changed or removed.
    pub files_changed: u64,
    /// The candidate's checkpoint.
    pub checkpoint: Option<CheckpointId>,
}

/// One term of the safety score: the test pass rate, or what one regression takes away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreTerm {
    /// What the term stands for: `test pass rate`, `latency, high`.
    pub label: String,
    /// Its value; what is taken away is negative.
    pub value: f64,
}

/// One metric of one version, condensed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    /// What the numbers mean.
    pub spec: MetricSpec,
    /// The mean, in the metric's unit. It may be non-finite if a sample was; JSON then holds it as the text `NaN`,
    /// `inf` or `-inf`.
    #[serde(with = "evoseal_types::any_float")]
    pub mean: f64,
    /// An interval for the mean, in the metric's unit.
    pub interval: Option<Interval>,
    /// How many samples it condenses.
    pub count: usize,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOutcome {
    /// It became the incumbent.
    Accepted,
    /// It did not become the incumbent.
    Rejected,
    /// It did not become the incumbent, and the workspace was returned to a known-good version.
    RolledBack,
    /// The evidence did not decide; it did not become the incumbent.
    Inconclusive,
    /// The iteration could not be carried out.
    Error,
    /// It touched what judges it: it did not become the incumbent, and nothing that was observed of it counts.
    Tampered,
}

impl RowOutcome {
    /// Every outcome, in the order in which reports list them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Rejected, Self::RolledBack, Self::Inconclusive, Self::Error, Self::Tampered];
}

impl fmt::Display for RowOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled back",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
            Self::Tampered => "tampered",
        })
    }
}

/// How many iterations had which outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutcomeCounts {
    /// Candidates that became the incumbent.
    pub accepted: usize,
    /// Candidates that were rejected.
    pub rejected: usize,
    /// Candidates that were rolled back.
    pub rolled_back: usize,
    /// Candidates that the evidence did not decide.
    pub inconclusive: usize,
    /// Iterations that could not be carried out.
    pub errors: usize,
    /// Candidates that touched what judges them.
    #[serde(default)]
    pub tampered: usize,
}

impl OutcomeCounts {
    /// All iterations.
    pub fn total(&self) -> usize {
        self.accepted + self.rejected + self.rolled_back + self.inconclusive + self.errors + self.tampered
    }

    /// The count of one outcome.
    pub fn of(&self, outcome: RowOutcome) -> usize {
        match outcome {
            RowOutcome::Accepted => self.accepted,
            RowOutcome::Rejected => self.rejected,
            RowOutcome::RolledBack => self.rolled_back,
            RowOutcome::Inconclusive => self.inconclusive,
            RowOutcome::Error => self.errors,
            RowOutcome::Tampered => self.tampered,
        }
    }
}

impl RunHistory {
    /// How many iterations had which outcome.
    pub fn counts(&self) -> OutcomeCounts {
        let mut counts = OutcomeCounts::default();
        for row in &self.iterations {
            *match row.outcome {
                RowOutcome::Accepted => &mut counts.accepted,
                RowOutcome::Rejected => &mut counts.rejected,
                RowOutcome::RolledBack => &mut counts.rolled_back,
                RowOutcome::Inconclusive => &mut counts.inconclusive,
                RowOutcome::Error => &mut counts.errors,
                RowOutcome::Tampered => &mut counts.tampered,
            } += 1;
        }
        counts
    }

    /// Every metric that any version has, the objective first, then by name.
    pub fn metrics(&self) -> Vec<MetricSpec> {
        let measured = self.iterations.iter().flat_map(|row| &row.metrics).map(|metric| &metric.spec);
        let found = self.iterations.iter().flat_map(|row| &row.findings).map(|finding| &finding.metric);
        let mut specs: Vec<MetricSpec> = Vec::new();
        for spec in self.baseline.metrics.iter().map(|metric| &metric.spec).chain(measured).chain(found) {
            if !specs.iter().any(|known| known.name == spec.name) {
                specs.push(spec.clone());
            }
        }
        let objective = self.objective.as_ref().map(|objective| &objective.metric);
        specs.sort_by(|left, right| {
            let key = |spec: &MetricSpec| (Some(&spec.name) != objective, spec.name.clone());
            key(left).cmp(&key(right))
        });
        specs
    }

    /// What was measured of the final version: by the iteration that accepted it, or of the baseline if nothing was
    /// accepted since.
    pub fn final_metrics(&self) -> &[MetricSummary] {
        // Whatever was decided first: a person may have approved it since.
        match self.iterations.iter().rev().find(|row| row.version_id == self.final_version) {
            Some(row) => &row.metrics,
            None if self.baseline.version_id == self.final_version => &self.baseline.metrics,
            None => &[],
        }
    }
}

impl IterationRow {
    /// The finding on `metric` against the incumbent.
    pub fn finding(&self, metric: &MetricName) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.baseline.is_none() && finding.metric.name == *metric)
    }

    /// What was measured of `metric`.
    pub fn metric(&self, metric: &MetricName) -> Option<&MetricSummary> {
        find_metric(&self.metrics, metric)
    }
}

/// The summary of `metric` among `metrics`.
pub(crate) fn find_metric<'a>(
    metrics: &'a [MetricSummary],
    metric: &MetricName,
) -> Option<&'a MetricSummary> {
    metrics.iter().find(|summary| summary.spec.name == *metric)
}
